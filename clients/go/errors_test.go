package recognition

import (
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// FuzzErrorOf feeds what stands in grpc-status-details-bin: whatever it is, an Error comes of it that fits in a line.
func FuzzErrorOf(f *testing.F) {
	for _, detail := range []proto.Message{
		&errdetails.ErrorInfo{Domain: errorDomain, Reason: "OVERLOADED"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "nonce"}}},
		&errdetails.BadRequest{},
		&errdetails.RetryInfo{},
	} {
		packed, err := anypb.New(detail)
		if err != nil {
			f.Fatal(err)
		}
		raw, err := proto.Marshal(&spb.Status{Code: 8, Message: "two\nlines", Details: []*anypb.Any{packed}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		said := &spb.Status{}
		if proto.Unmarshal(raw, said) != nil {
			return
		}
		sent := status.ErrorProto(said)
		if sent == nil {
			return // OK is no error
		}
		client := &Client{connections: &connections{profile: Profile{Address: "gateway:443"}, closed: make(chan struct{})}}
		err := client.errorOf(context.Background(), sent, "id")
		about := err.About()
		if about.RequestID != "id" || about.RetryAfter < 0 || about.Code == codes.OK {
			t.Errorf("got %#v", err)
		}
		if text := err.Error(); strings.ContainsAny(text, "\r\n\x00\x1b") || !utf8.ValidString(text) || len(text) > 5_000 {
			t.Errorf("says %q", text)
		}
		if client.wait(expired(t), about.RetryAfter) {
			t.Error("would ask again after the deadline")
		}
	})
}

func expired(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(0, 0))
	t.Cleanup(cancel)
	return ctx
}

func TestAnErrorIsOneLineOfOneOrder(t *testing.T) {
	details := Details{Reason: "OVERLOADED", description: "busy", RequestID: "case-7", Code: codes.ResourceExhausted}
	const advice = "recognition: the gateway takes no more for now; ask again later, and less often"
	for want, change := range map[string]func(*Details){
		" [busy: OVERLOADED] request case-7": func(*Details) {},
		" [OVERLOADED]":                      func(d *Details) { d.description, d.RequestID = "", "" },
		" [busy] request two lines":          func(d *Details) { d.Reason, d.RequestID = "", "two\nlines" },
		"":                                   func(d *Details) { *d = Details{Code: d.Code} },
	} {
		changed := details
		change(&changed)
		if got := changed.kind().Error(); got != advice+want {
			t.Errorf("says %q", got)
		}
	}
	if got := printable(strings.Repeat("字\n", 300)); utf8.RuneCountInString(got) != maxDescription+1 ||
		strings.Contains(got, "\n") {
		t.Errorf("says %q", got)
	}
}

func TestTheInnermostCauseIsTold(t *testing.T) {
	for said, want := range map[string]string{
		`last connection error: connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: ` +
			`connection refused"`: "connection refused",
		`closing transport due to: connection error: desc = "error reading from server: EOF", received prior goaway`: "EOF",
		`connection error: desc = "one: connection error: desc = \"error reading server preface: remote error: tls: ` +
			`certificate required\""`: "remote error: tls: certificate required",
		`connection error: desc = unquoted`: `connection error: desc = unquoted`,
		`not now`:                           `not now`,
		``:                                  ``,
	} {
		if got := innermost(said); got != want {
			t.Errorf("%s: %s", said, got)
		}
	}
}
