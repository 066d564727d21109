package recognition_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	recognition "recognition.example/client"
)

// wild is a gateway that says, in place of gRPC's server, whatever is in a test's trailers.
func wild(t *testing.T, gateway *fake, trailers map[string]string) recognition.Profile {
	t.Helper()
	pair, err := tls.X509KeyPair(gateway.authority.issue("gateway"))
	must(t, err)
	authorities := x509.NewCertPool()
	authorities.AddCert(gateway.authority.certificate)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "application/grpc")
		for name, value := range trailers {
			out.Header().Set(http.TrailerPrefix+name, value)
		}
		out.WriteHeader(http.StatusOK)
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities,
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	profile := gateway.profile()
	profile.Address = server.Listener.Addr().String()
	return profile
}

func TestDetailsThatCannotBeReadAreLeftOut(t *testing.T) {
	gateway := newFake(t)
	encoded := func(said proto.Message) string {
		raw, err := proto.Marshal(said)
		must(t, err)
		return base64.RawStdEncoding.EncodeToString(raw)
	}
	of := func(details ...*anypb.Any) string {
		return encoded(&spb.Status{Code: int32(codes.PermissionDenied), Message: "not\nyou", Details: details})
	}
	garbage := []byte{0x0a, 0x7f, 0xff}
	const google = "type.googleapis.com/google.rpc."
	var some []*anypb.Any
	for _, name := range []string{"ErrorInfo", "BadRequest", "RetryInfo", "Unheard"} {
		some = append(some, &anypb.Any{TypeUrl: google + name, Value: garbage})
	}
	for name, each := range map[string]struct {
		details string
		target  any
	}{
		"details of garbage":   {of(some...), new(*recognition.NotPermitted)},
		"a detail of no type":  {of(&anypb.Any{Value: garbage}), new(*recognition.NotPermitted)},
		"a type without words": {of(&anypb.Any{TypeUrl: "\x00/", Value: garbage}), new(*recognition.NotPermitted)},
		"a status of garbage":  {base64.RawStdEncoding.EncodeToString(garbage), new(*recognition.NotPermitted)},
		// What gRPC itself makes of these is INTERNAL.
		"an empty status":     {"", new(*recognition.Internal)},
		"no base64":           {"*", new(*recognition.Internal)},
		"another code inside": {encoded(&spb.Status{Code: 3}), new(*recognition.Internal)},
	} {
		t.Run(name, func(t *testing.T) {
			client := dial(t, wild(t, gateway, map[string]string{
				"Grpc-Status": "7", "Grpc-Message": "not%0Ayou", "Grpc-Status-Details-Bin": each.details,
			}), recognition.WithBatchDeadline(5*time.Second))
			check := func(err error) {
				t.Helper()
				var failed recognition.Error
				if !errors.As(err, each.target) || !errors.As(err, &failed) || failed.About().RequestID == "" ||
					strings.ContainsAny(err.Error(), "\r\n\x00") {
					t.Errorf("got %v", err)
				}
			}
			_, err := client.Verify(t.Context(), request)
			check(err)
			for _, outcome := range client.VerifyAll(t.Context(), numbered(2)) {
				check(outcome.Err)
			}
			var taken atomic.Int32
			count := 0
			for _, outcome := range client.Stream(t.Context(), source(3, &taken)) {
				check(outcome.Err)
				count++
			}
			if count != 3 {
				t.Errorf("%d outcomes", count)
			}
			if under := recognition.UnderWay(client); under != 0 {
				t.Errorf("%d calls were not given back", under)
			}
		})
	}
}
