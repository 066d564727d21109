package recognition

import (
	"context"
	"errors"
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

// FuzzFailureOf feeds what stands in grpc-status-details-bin: whatever it is, a Failure comes of it that fits in a line.
func FuzzFailureOf(f *testing.F) {
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
		err := failureOf(context.Background(), sent, "id")
		var failure *Failure
		if !errors.As(err, &failure) || failure.RequestID != "id" || failure.RetryAfter < 0 || failure.Code == codes.OK {
			t.Errorf("got %#v", err)
		}
		if text := err.Error(); strings.ContainsAny(text, "\r\n\x00\x1b") || !utf8.ValidString(text) || len(text) > 5_000 {
			t.Errorf("says %q", text)
		}
		if wait(expired(t), failure.RetryAfter) {
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
