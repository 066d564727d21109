package recognition_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/timestamppb"

	recognition "recognition.example/client"
	pb "recognition.example/client/recognitionv1"
)

// authority is a CA of a test's own.
type authority struct {
	t           *testing.T
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "CA of a test"},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{t, key, certificate}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// issue makes a certificate and its key, PEM.
func (a *authority) issue(name string) (certificate, privateKey []byte) {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(a.t, err)
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	must(a.t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	must(a.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// fake is a gateway of a test's own: real gRPC and mutual TLS, and answers as the test likes. Calls that it has no
// answer for are UNIMPLEMENTED.
type fake struct {
	pb.UnimplementedVerificationServiceServer
	pb.UnimplementedAuditServiceServer
	t         *testing.T
	authority *authority
	folder    string
	address   string
	server    *grpc.Server

	verify func(context.Context, *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error)
	batch  func(context.Context, *pb.BatchVerifyCredentialsRequest) (*pb.BatchVerifyCredentialsResponse, error)
	stream func(pb.VerificationService_StreamVerifyCredentialsServer) error
	record func(context.Context, *pb.RecordConsentRequest) (*pb.RecordConsentResponse, error)
	// These are what the calls answer.
	challenge   *pb.CreateChallengeResponse
	evidence    *pb.GetEvidenceResponse
	withdrawal  *pb.WithdrawConsentResponse
	explanation *pb.ExplainVerificationResponse

	mu sync.Mutex
	// callers are the names in the certificates of the calls of Verify, in their order.
	callers []string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	gateway := &fake{t: t, authority: newAuthority(t), folder: t.TempDir()}
	gateway.write("ca.pem", gateway.authority.pem())
	gateway.give("service")
	gateway.serve("127.0.0.1:0")
	t.Cleanup(func() { gateway.server.Stop() })
	return gateway
}

func (f *fake) write(name string, content []byte) {
	f.t.Helper()
	must(f.t, os.WriteFile(filepath.Join(f.folder, name), content, 0o600))
}

// give puts a certificate of this name, and its key, in the client's files.
func (f *fake) give(name string) {
	certificate, key := f.authority.issue(name)
	f.write("service.pem", certificate)
	f.write("service.key", key)
}

// serve listens; after Stop of the server, on the same address once more.
func (f *fake) serve(address string) {
	f.t.Helper()
	pair, err := tls.X509KeyPair(f.authority.issue("gateway"))
	must(f.t, err)
	authorities := x509.NewCertPool()
	authorities.AddCert(f.authority.certificate)
	f.server = grpc.NewServer(
		grpc.MaxRecvMsgSize(5<<20),
		grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities,
		})),
	)
	pb.RegisterVerificationServiceServer(f.server, f)
	pb.RegisterAuditServiceServer(f.server, f)
	listener, err := net.Listen("tcp", address)
	must(f.t, err)
	f.address = listener.Addr().String()
	go func() { _ = f.server.Serve(listener) }()
}

func (f *fake) profile() recognition.Profile {
	f.t.Helper()
	f.write("service.toml", []byte(
		"address = \""+f.address+"\"\nca = \"ca.pem\"\ncertificate = \"service.pem\"\nprivate_key = \"service.key\"\n",
	))
	profile, err := recognition.ReadProfile(filepath.Join(f.folder, "service.toml"))
	must(f.t, err)
	return profile
}

func (f *fake) client(options ...recognition.Option) *recognition.Client {
	f.t.Helper()
	return dial(f.t, f.profile(), options...)
}

func (f *fake) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.callers...)
}

func (f *fake) VerifyCredential(
	ctx context.Context, request *pb.VerifyCredentialRequest,
) (*pb.VerifyCredentialResponse, error) {
	caller, _ := peer.FromContext(ctx)
	name := caller.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].Subject.CommonName
	f.mu.Lock()
	f.callers = append(f.callers, name)
	f.mu.Unlock()
	return f.verify(ctx, request)
}

func (f *fake) CreateChallenge(context.Context, *pb.CreateChallengeRequest) (*pb.CreateChallengeResponse, error) {
	return f.challenge, nil
}

func (f *fake) WithdrawConsent(context.Context, *pb.WithdrawConsentRequest) (*pb.WithdrawConsentResponse, error) {
	return f.withdrawal, nil
}

func (f *fake) ExplainVerification(
	context.Context, *pb.ExplainVerificationRequest,
) (*pb.ExplainVerificationResponse, error) {
	return f.explanation, nil
}

func (f *fake) GetEvidence(context.Context, *pb.GetEvidenceRequest) (*pb.GetEvidenceResponse, error) {
	return f.evidence, nil
}

func (f *fake) BatchVerifyCredentials(
	ctx context.Context, request *pb.BatchVerifyCredentialsRequest,
) (*pb.BatchVerifyCredentialsResponse, error) {
	return f.batch(ctx, request)
}

func (f *fake) StreamVerifyCredentials(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
	return f.stream(stream)
}

func (f *fake) RecordConsent(
	ctx context.Context, request *pb.RecordConsentRequest,
) (*pb.RecordConsentResponse, error) {
	return f.record(ctx, request)
}

func dial(t *testing.T, profile recognition.Profile, options ...recognition.Option) *recognition.Client {
	t.Helper()
	client, err := recognition.Dial(profile, options...)
	must(t, err)
	t.Cleanup(func() { must(t, client.Close()) })
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// statusError is an error as a gateway makes it.
func statusError(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	made, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return made.Err()
}

func accepted(id string) *pb.VerifyCredentialResponse {
	return &pb.VerifyCredentialResponse{
		Verdict: &pb.VerifyCredentialResponse_Accepted{Accepted: &pb.Acceptance{
			Subject:        "v1.pseudonym",
			Issuer:         "https://issuer.example",
			CredentialType: "urn:example:type",
			Assurance:      &pb.Assurance{Identity: 3, Authenticator: 2, Federation: 1},
			EraseTime:      timestamppb.New(time.Now().Add(time.Hour)),
		}},
		VerificationId: id,
		VerifyTime:     timestamppb.Now(),
		NextStep:       pb.NextStep_NEXT_STEP_PROCEED,
	}
}

func rejected(reason pb.Reason) *pb.VerifyCredentialResponse {
	return &pb.VerifyCredentialResponse{
		Verdict:        &pb.VerifyCredentialResponse_Rejected{Rejected: &pb.Rejection{Reason: reason}},
		VerificationId: "id",
		VerifyTime:     timestamppb.Now(),
	}
}

// short writes a verdict in one word.
func short(verdict recognition.Verdict) string {
	return recognition.Match(verdict,
		func(recognition.Accepted) string { return "accepted" },
		func(rejected recognition.Rejected) string { return "rejected " + rejected.Reason.String() },
		func(open recognition.Indeterminate) string { return "indeterminate " + open.Reason.String() },
	)
}
