package recognition

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "recognition.example/client/recognitionv1"
)

// errorDomain is that of the ErrorInfo that gateways attach.
const errorDomain = "recognition.v1"

// maxDescription bounds, in characters, what is repeated of a gateway's words.
const maxDescription = 200

// ErrClosed is found with [errors.Is] in what a call on a closed client gives.
var ErrClosed = errors.New("the client is closed")

// Failure says why there is no verdict, or no other answer. It is evidence of nothing, and never a rejection.
//
// Each is of a kind, a type that [errors.As] finds: [InvalidRequest], [NotPermitted], [Overloaded], [Unavailable],
// [DeadlineExceeded], [Internal], [DamagedAnswer], [Refused]; whatever the kind, errors.As finds the *Failure. One
// without a kind says that the caller's own context was cancelled; [errors.Is] finds [context.Canceled] in it.
type Failure struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Reason is the gateway's, for programs, such as CALLER_RATE_EXCEEDED; empty where the gateway gave none.
	Reason string
	// Field names the field of the request that is at fault, where one is: nonce, predicates[0].age_at_least.
	Field string
	// RetryAfter is when asking again may help; 0: not said.
	RetryAfter time.Duration
	// RequestID is the request's, as in the gateway's log; empty for calls that have none.
	RequestID string

	description string
	cause       error
}

// Error says what went wrong and what to do. It holds nothing of what was presented.
func (f *Failure) Error() string { return f.say("the call was cancelled") }

// Unwrap gives context.Canceled, context.DeadlineExceeded or ErrClosed, where that is why.
func (f *Failure) Unwrap() error { return f.cause }

func (f *Failure) say(what string) string {
	var out strings.Builder
	out.WriteString("recognition: " + what)
	if f.Reason != "" {
		out.WriteString(" (" + f.Reason + ")")
	}
	if f.description != "" {
		out.WriteString(": " + f.description)
	}
	if f.RequestID != "" {
		out.WriteString(" [request " + f.RequestID + "]")
	}
	return out.String()
}

// InvalidRequest means that the request itself is wrong, most likely in Field. Mend the program; asking again is no use.
type InvalidRequest struct{ Failure }

// NotPermitted means that this service is not registered for this, or that its certificate is not accepted. Ask the
// gateway's administrator.
type NotPermitted struct{ Failure }

// Overloaded means that the gateway takes no more for now, or that this service's rate is used up. Ask again after
// RetryAfter; the client has already done so as far as the deadline let it.
type Overloaded struct{ Failure }

// Unavailable means that the gateway cannot be reached or cannot record a decision. Ask again later; what was presented
// is not used up.
type Unavailable struct{ Failure }

// DeadlineExceeded means that no answer came in time. The gateway may have decided: ask again with the same request id.
type DeadlineExceeded struct{ Failure }

// Internal means that something is wrong in the gateway. Report the error, whose text has the gateway's reference.
type Internal struct{ Failure }

// DamagedAnswer means that an answer came that is none: it says less than it must, or what this client does not know.
// Ask again; if that does not help, see whether there is a newer client.
type DamagedAnswer struct{ Failure }

// Refused means that what was named is not held here, is in use, or is in a state that does not allow this.
type Refused struct{ Failure }

func (e *InvalidRequest) Error() string {
	return e.say("the request is not valid; mend the program")
}

func (e *NotPermitted) Error() string {
	return e.say("not permitted; ask the gateway's administrator to register this service, or renew its certificate")
}

func (e *Overloaded) Error() string {
	if e.RetryAfter > 0 {
		return e.say(fmt.Sprintf("the gateway takes no more for now; ask again after %s", e.RetryAfter))
	}
	return e.say("the gateway takes no more for now; ask again later, and less often")
}

func (e *Unavailable) Error() string {
	return e.say("the gateway cannot be reached or cannot answer; ask again later")
}

func (e *DeadlineExceeded) Error() string {
	return e.say("no answer in time; ask again with the same request id")
}

func (e *Internal) Error() string {
	return e.say("something is wrong in the gateway; report this to its support")
}

func (e *DamagedAnswer) Error() string {
	return e.say("the answer is damaged or newer than this client, and no verdict; ask again")
}

func (e *Refused) Error() string {
	return e.say("refused: what was named is not held, is in use, or does not allow this now")
}

// Unwrap gives the Failure.
func (e *InvalidRequest) Unwrap() error { return &e.Failure }

// Unwrap gives the Failure.
func (e *NotPermitted) Unwrap() error { return &e.Failure }

// Unwrap gives the Failure.
func (e *Overloaded) Unwrap() error { return &e.Failure }

// Unwrap gives the Failure.
func (e *Unavailable) Unwrap() error { return &e.Failure }

// Unwrap gives the Failure.
func (e *DeadlineExceeded) Unwrap() error { return &e.Failure }

// Unwrap gives the Failure.
func (e *Internal) Unwrap() error { return &e.Failure }

// Unwrap gives the Failure.
func (e *DamagedAnswer) Unwrap() error { return &e.Failure }

// Unwrap gives the Failure.
func (e *Refused) Unwrap() error { return &e.Failure }

// kind gives a failure the type that its code asks for. The one place where codes become kinds.
func (f Failure) kind() error {
	switch f.Code {
	case codes.InvalidArgument, codes.OutOfRange:
		return &InvalidRequest{f}
	case codes.PermissionDenied, codes.Unauthenticated:
		return &NotPermitted{f}
	case codes.ResourceExhausted:
		return &Overloaded{f}
	case codes.Unavailable:
		return &Unavailable{f}
	case codes.DeadlineExceeded:
		f.cause = context.DeadlineExceeded
		return &DeadlineExceeded{f}
	case codes.NotFound, codes.AlreadyExists, codes.Aborted, codes.FailedPrecondition:
		return &Refused{f}
	case codes.DataLoss:
		return &DamagedAnswer{f}
	case codes.Canceled:
		f.cause = context.Canceled
		return &f
	default:
		return &Internal{f}
	}
}

// failureOf reads how a call ended: its status, and the details that gateways attach.
func failureOf(ctx context.Context, err error, requestID string) error {
	var failure *Failure
	if errors.As(err, &failure) {
		return err
	}
	if errors.Is(err, ErrClosed) {
		return &Unavailable{Failure{Code: codes.Unavailable, RequestID: requestID, description: ErrClosed.Error(), cause: ErrClosed}}
	}
	said := status.Convert(err)
	failed := Failure{Code: said.Code(), RequestID: requestID, description: printable(said.Message())}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				failed.Reason = printable(detail.GetReason())
			}
		case *errdetails.BadRequest:
			if violations := detail.GetFieldViolations(); len(violations) > 0 {
				failed.Field = printable(violations[0].GetField())
			}
		case *errdetails.RetryInfo:
			failed.RetryAfter = max(0, detail.GetRetryDelay().AsDuration())
		}
	}
	if failed.Code == codes.Canceled && ctx.Err() == nil {
		// Not by whoever asked: the other side gave the call up.
		failed.Code = codes.Unavailable
	}
	return failed.kind()
}

// itemFailure reads why there is no decision on one item of many.
func itemFailure(said *pb.VerificationError, requestID string) error {
	failed := Failure{
		Code:        codes.Internal,
		Reason:      printable(said.GetReason()),
		Field:       printable(said.GetField()),
		RetryAfter:  max(0, said.GetRetryDelay().AsDuration()),
		RequestID:   requestID,
		description: printable(said.GetDescription()),
	}
	switch code := codes.Code(said.GetCode()); code {
	case codes.InvalidArgument, codes.PermissionDenied, codes.ResourceExhausted, codes.Unavailable:
		failed.Code = code
	}
	return failed.kind()
}

func damaged(requestID, what string) error {
	return Failure{Code: codes.DataLoss, RequestID: requestID, description: what}.kind()
}

// printable is what may stand in one line of a log of what somebody else wrote.
func printable(text string) string {
	clean := strings.Map(func(each rune) rune {
		if unicode.IsPrint(each) {
			return each
		}
		return ' '
	}, text)
	if runes := []rune(clean); len(runes) > maxDescription {
		return string(runes[:maxDescription]) + "…"
	}
	return clean
}
