package recognition

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
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
const maxDescription = 400

// ErrClosed is found with [errors.Is] in what a call on a closed client gives, and in what calls give that were under way
// when it was closed: an [Unavailable].
var ErrClosed = errors.New("this client was closed")

// Error is what every call gives that has no answer to give. It is evidence of nothing, and never a rejection.
//
// Each is of a kind, a type that [errors.As] finds: [InvalidRequest], [NotPermitted], [Overloaded], [Unavailable],
// [DeadlineExceeded], [Cancelled], [Internal], [DamagedAnswer], [Refused]. Whatever the kind, errors.As finds an Error:
//
//	var failed recognition.Error
//	if errors.As(err, &failed) {
//		note(failed.About().RequestID)
//	}
//
// The text is one line: what to do, what was said of it in brackets, the request id. It holds nothing of what was
// presented.
type Error interface {
	error
	// About gives what is known of it.
	About() Details
}

// Details is what is known of an error of any kind.
type Details struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Reason is the gateway's, for programs, such as CALLER_RATE_EXCEEDED; empty where the gateway gave none.
	// INVALID_REQUEST and DAMAGED_ANSWER may be this client's own.
	Reason string
	// Field names the field of the request that is at fault, where one is: nonce, predicates[0].age_at_least.
	Field string
	// RetryAfter is when asking again may help; 0: not said.
	RetryAfter time.Duration
	// RequestID is the request's, as in the gateway's log; empty for calls that have none.
	RequestID string

	description string
	cause       error
	// address is that of a gateway which could not be talked to; empty: it was not that.
	address string
	// damaged tells that an answer came. A gateway may say DATA_LOSS too, and means itself.
	damaged bool
}

// About gives the details themselves.
func (d Details) About() Details { return d }

// Unwrap gives context.Canceled, context.DeadlineExceeded or ErrClosed, where that is why.
func (d Details) Unwrap() error { return d.cause }

func (d Details) say(advice string) string {
	var said []string
	for _, each := range []string{d.description, d.Reason} {
		if each != "" {
			said = append(said, each)
		}
	}
	text := "recognition: " + advice
	if len(said) > 0 {
		text += " [" + strings.Join(said, ": ") + "]"
	}
	if d.RequestID != "" {
		text += " request " + printable(d.RequestID)
	}
	return text
}

// InvalidRequest means that the request itself is wrong, most likely in Field. Mend the program; asking again is no use.
// What cannot be sent at all is found before anything is sent.
type InvalidRequest struct{ Details }

// NotPermitted means that this service is not registered for this, or that its certificate is not accepted. Ask the
// gateway's administrator.
type NotPermitted struct{ Details }

// Overloaded means that the gateway takes no more for now, or that this service's rate is used up. Ask again after
// RetryAfter; the client has already done so as far as the deadline let it.
type Overloaded struct{ Details }

// Unavailable means that the gateway cannot be reached or cannot record a decision, or that the client was closed. Ask
// again later, with the same request id.
type Unavailable struct{ Details }

// DeadlineExceeded means that no answer came in time. The gateway may have decided: ask again with the same request id.
// errors.Is finds [context.DeadlineExceeded] in it.
type DeadlineExceeded struct{ Details }

// Cancelled means that the caller's own context was cancelled. The gateway may have decided: to hear what, ask again with
// the same request id. errors.Is finds [context.Canceled] in it.
type Cancelled struct{ Details }

// Internal means that something is wrong in the gateway. Report the error, whose text has the gateway's reference.
type Internal struct{ Details }

// DamagedAnswer means that an answer came that is none: it says less than it must, or what this client does not know.
// Ask again; if that does not help, see whether there is a newer client.
type DamagedAnswer struct{ Details }

// Refused means that what was named is not held here, is in use, or is in a state that does not allow this.
type Refused struct{ Details }

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
	switch {
	case e.cause == ErrClosed:
		return e.say("make another client")
	case e.address != "":
		return e.say("see that the gateway runs at " + printable(e.address) +
			", and that each side trusts the other's certificate")
	default:
		return e.say("the gateway cannot answer now; ask again later")
	}
}

func (e *DeadlineExceeded) Error() string {
	return e.say("no answer in time; ask again with the same request id")
}

func (e *Cancelled) Error() string {
	return e.say("the caller cancelled the call; ask again with the same request id to hear what was decided")
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

// kind gives an error the type that its code asks for. The one place where codes become kinds.
func (d Details) kind() Error {
	switch d.Code {
	case codes.InvalidArgument, codes.OutOfRange:
		return &InvalidRequest{d}
	case codes.PermissionDenied, codes.Unauthenticated:
		return &NotPermitted{d}
	case codes.ResourceExhausted:
		return &Overloaded{d}
	case codes.Unavailable:
		return &Unavailable{d}
	case codes.DeadlineExceeded:
		d.cause = context.DeadlineExceeded
		return &DeadlineExceeded{d}
	case codes.NotFound, codes.AlreadyExists, codes.Aborted, codes.FailedPrecondition:
		return &Refused{d}
	case codes.Canceled:
		d.cause = context.Canceled
		return &Cancelled{d}
	case codes.DataLoss:
		if d.damaged {
			return &DamagedAnswer{d}
		}
		return &Internal{d}
	default:
		return &Internal{d}
	}
}

// errorOf reads how a call ended: its status, and the details that gateways attach.
func (c *Client) errorOf(ctx context.Context, err error, requestID string) Error {
	said := status.Convert(err)
	if cut := said.Code() == codes.Canceled || said.Code() == codes.Unavailable; errors.Is(err, ErrClosed) ||
		cut && c.connections.isClosed() && ctx.Err() == nil {
		return Details{
			Code: codes.Unavailable, RequestID: requestID, description: ErrClosed.Error(), cause: ErrClosed,
		}.kind()
	}
	if is, what := isDamaged(said); is {
		return damaged(requestID, what)
	}
	details := Details{Code: said.Code(), RequestID: requestID, description: printable(said.Message())}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				details.Reason = printable(detail.GetReason())
			}
		case *errdetails.BadRequest:
			if violations := detail.GetFieldViolations(); len(violations) > 0 {
				details.Field = printable(violations[0].GetField())
			}
		case *errdetails.RetryInfo:
			details.RetryAfter = max(0, detail.GetRetryDelay().AsDuration())
		}
	}
	switch {
	case details.Code == codes.Unavailable && details.Reason == "":
		// Said by gRPC: a gateway's own words come with a reason.
		details.address = c.connections.profile.Address
		details.description = printable(innermost(said.Message()))
	case details.Code == codes.Canceled && ctx.Err() == nil:
		// Not by whoever asked: the other side gave the call up.
		details.Code = codes.Unavailable
	case details.Code == codes.Canceled && errors.Is(ctx.Err(), context.DeadlineExceeded):
		details.Code = codes.DeadlineExceeded
	}
	return details.kind()
}

// isDamaged tells whether gRPC got an answer that it could not read. It has no code of its own for that.
func isDamaged(said *status.Status) (bool, string) {
	switch message := said.Message(); {
	case said.Code() == codes.Internal && strings.HasPrefix(message, "grpc: failed to unmarshal"):
		return true, "it cannot be decoded"
	case said.Code() == codes.ResourceExhausted && strings.HasPrefix(message, "grpc: received message larger than max"):
		return true, "it is larger than this client takes"
	default:
		return false, ""
	}
}

// itemError reads why there is no decision on one item of many.
func itemError(said *pb.VerificationError, requestID string) Error {
	details := Details{
		Code:        codes.Code(said.GetCode()),
		Reason:      printable(said.GetReason()),
		Field:       printable(said.GetField()),
		RetryAfter:  max(0, said.GetRetryDelay().AsDuration()),
		RequestID:   requestID,
		description: printable(said.GetDescription()),
	}
	switch code := said.GetCode(); {
	case code <= int32(codes.OK) || code > int32(codes.Unauthenticated):
		details.Code = codes.Internal
	case details.Code == codes.Canceled:
		details.Code = codes.Unavailable // as of a whole call: whoever asked did not cancel an item
	}
	return details.kind()
}

func damaged(requestID, what string) Error {
	return Details{
		Code: codes.DataLoss, Reason: "DAMAGED_ANSWER", RequestID: requestID, description: what, damaged: true,
	}.kind()
}

// around is what gRPC and net put before the cause of a connection's failure.
var around = regexp.MustCompile(
	`^(?:transport: |authentication handshake failed: |Error while dialing: |error reading server preface: |` +
		`failed to write client preface: |failed to write initial settings frame: |error reading from server: |` +
		`(?:dial|read|write) tcp \S+: |(?:connect|read|write): |tls: failed to verify certificate: )+`)

// innermost gives the cause at the heart of what gRPC says of a connection.
func innermost(text string) string {
	const before = "connection error: desc = "
	for {
		_, quoted, found := strings.Cut(text, before)
		if !found {
			break
		}
		quoted, err := strconv.QuotedPrefix(quoted)
		if err != nil {
			break
		}
		if text, err = strconv.Unquote(quoted); err != nil {
			break
		}
	}
	return text[len(around.FindString(text)):]
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
