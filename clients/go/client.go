package recognition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "recognition.example/client/recognitionv1"
)

const (
	defaultDeadline      = 10 * time.Second
	defaultBatchDeadline = time.Minute
	// maxTries bounds how often a gateway that takes no more for now is asked; leastPause is waited between where it did
	// not say how long.
	maxTries   = 3
	leastPause = 100 * time.Millisecond
)

// Client asks one gateway. It may be used by any number of goroutines; make one and keep it.
//
// Every call has a deadline, which all its tries share: the earlier of the context's and the client's own. Calls that
// may be repeated are tried again while the gateway cannot be reached, or as soon as it said where it had no room. The
// certificate is read anew when its files change.
//
// A gateway is reached directly. A proxy that the environment names, such as HTTPS_PROXY, is not used.
type Client struct {
	connections   *connections
	verification  pb.VerificationServiceClient
	audit         pb.AuditServiceClient
	deadline      time.Duration
	batchDeadline time.Duration
}

// Option is a setting of a client.
type Option func(*Client)

// WithDeadline sets how long a call may take, tries and waiting included; more than 0, and 10 s unless set.
func WithDeadline(deadline time.Duration) Option {
	return func(c *Client) { c.deadline = deadline }
}

// WithBatchDeadline sets how long one batch may take, and how long a stream may go without an answer; more than 0,
// and a minute unless set.
func WithBatchDeadline(deadline time.Duration) Option {
	return func(c *Client) { c.batchDeadline = deadline }
}

// Dial makes a client. It reads the profile's files, and fails where they do not fit together or a deadline is none;
// nothing is sent before the first call. What it gives then is no [Error]: that is what calls give.
func Dial(profile Profile, options ...Option) (*Client, error) {
	if err := profile.check(); err != nil {
		return nil, fmt.Errorf("recognition: profile: %w", err)
	}
	client := &Client{deadline: defaultDeadline, batchDeadline: defaultBatchDeadline}
	for _, option := range options {
		option(client)
	}
	if client.deadline <= 0 || client.batchDeadline <= 0 {
		return nil, errors.New("recognition: a deadline must be more than 0")
	}
	connections, err := connect(profile)
	if err != nil {
		return nil, fmt.Errorf("recognition: %w", err)
	}
	client.connections = connections
	client.verification = pb.NewVerificationServiceClient(connections)
	client.audit = pb.NewAuditServiceClient(connections)
	return client, nil
}

// Close ends the connection, and with it the calls under way. They, and all calls on a closed client, give an
// [Unavailable] in which errors.Is finds [ErrClosed].
func (c *Client) Close() error { return c.connections.close() }

// Connection carries generated stubs: recognitionv1.NewVerificationServiceClient(client.Connection()). Certificates and
// tries are the client's, deadlines and errors gRPC's: set a deadline.
func (c *Client) Connection() grpc.ClientConnInterface { return c.connections }

// Challenge is good for one presentation.
type Challenge struct {
	// Nonce is carried unchanged in the nonce claim of the key-binding proof.
	Nonce string `json:"-"`
	// Audience is carried unchanged in the aud claim of the key-binding proof.
	Audience string
	// ExpiresAt is when the challenge lapses.
	ExpiresAt time.Time
}

// Format prints all but the nonce.
func (c Challenge) Format(out fmt.State, _ rune) { _, _ = io.WriteString(out, c.inShort()) }

// LogValue logs what Format prints.
func (c Challenge) LogValue() slog.Value { return slog.StringValue(c.inShort()) }

func (c Challenge) inShort() string {
	return fmt.Sprintf("Challenge{audience: %s, expires: %s}", c.Audience, c.ExpiresAt.Format(time.RFC3339))
}

// Challenge makes a nonce for one presentation.
func (c *Client) Challenge(ctx context.Context, matter string) (Challenge, error) {
	if err := checkTexts("", text{"matter", matter, true}); err != nil {
		return Challenge{}, err
	}
	request := &pb.CreateChallengeRequest{Matter: matter}
	answer, err := call(ctx, c, c.deadline, "", c.verification.CreateChallenge, request)
	if err != nil {
		return Challenge{}, err
	}
	var times times
	challenge := Challenge{answer.GetNonce(), answer.GetAudience(), times.of(answer.GetExpireTime())}
	if challenge.Nonce == "" || challenge.Audience == "" || challenge.ExpiresAt.IsZero() {
		return Challenge{}, damaged("", "a challenge without nonce, audience or time")
	}
	return challenge, nil
}

// Verify asks for the verdict on one presentation. A rejection is a Decision; an error is none.
func (c *Client) Verify(ctx context.Context, request VerifyRequest) (Decision, error) {
	message, err := request.message()
	if err != nil {
		return Decision{}, err
	}
	answer, err := call(ctx, c, c.deadline, message.GetRequestId(), c.verification.VerifyCredential, message)
	if err != nil {
		return Decision{}, err
	}
	return decisionOf(answer, message.GetRequestId(), len(request.Predicates))
}

// Consent is on record.
type Consent struct {
	// ID is its reference, for VerifyRequest.ConsentID. Keep it with the signed document.
	ID string
	// ExpiresAt is when it lapses.
	ExpiresAt time.Time
}

// Format prints when it lapses, and not its reference.
func (c Consent) Format(out fmt.State, _ rune) { _, _ = io.WriteString(out, c.inShort()) }

// LogValue logs what Format prints.
func (c Consent) LogValue() slog.Value { return slog.StringValue(c.inShort()) }

func (c Consent) inShort() string {
	return fmt.Sprintf("Consent{expires: %s}", c.ExpiresAt.Format(time.RFC3339))
}

// RecordConsent records that a person consented to a matter that rests on consent: which claims may be released on its
// strength, and how long it lasts, 1 second to 366 days. It is asked once, whatever the error: a second consent might
// come of another try.
func (c *Client) RecordConsent(
	ctx context.Context, matter string, claims []string, lifetime time.Duration,
) (Consent, error) {
	texts := []text{{"matter", matter, true}}
	for number, claim := range claims {
		texts = append(texts, text{fmt.Sprintf("claims[%d]", number), claim, false})
	}
	if err := checkTexts("", texts...); err != nil {
		return Consent{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.deadline)
	defer cancel()
	answer, err := c.verification.RecordConsent(ctx, &pb.RecordConsentRequest{
		Matter: matter, Claims: claims, Lifetime: durationpb.New(lifetime),
	})
	if err != nil {
		return Consent{}, c.errorOf(ctx, err, "")
	}
	var times times
	consent := Consent{answer.GetConsentId(), times.of(answer.GetExpireTime())}
	if consent.ID == "" || consent.ExpiresAt.IsZero() {
		return Consent{}, damaged("", "a consent without reference or time")
	}
	return consent, nil
}

// WithdrawConsent records that the person withdrew a consent, and gives since when. Withdrawing again changes
// nothing.
func (c *Client) WithdrawConsent(ctx context.Context, consentID string) (time.Time, error) {
	if err := checkTexts("", text{"consent_id", consentID, true}); err != nil {
		return time.Time{}, err
	}
	request := &pb.WithdrawConsentRequest{ConsentId: consentID}
	answer, err := call(ctx, c, c.deadline, "", c.verification.WithdrawConsent, request)
	if err != nil {
		return time.Time{}, err
	}
	var times times
	since := times.of(answer.GetWithdrawTime())
	if since.IsZero() {
		return time.Time{}, damaged("", "a withdrawal without its time")
	}
	return since, nil
}

// Explain tells, step by step, how an earlier decision came about. The service's registration must allow it.
func (c *Client) Explain(ctx context.Context, verificationID string) (Explanation, error) {
	if err := checkTexts("", text{"verification_id", verificationID, true}); err != nil {
		return Explanation{}, err
	}
	request := &pb.ExplainVerificationRequest{VerificationId: verificationID}
	answer, err := call(ctx, c, c.deadline, "", c.verification.ExplainVerification, request)
	if err != nil {
		return Explanation{}, err
	}
	return explanationOf(answer)
}

// Evidence fetches what proves a decision of this service, years later and to anybody: one JSON document. Keep the bytes as
// they are. Within seconds of the decision, no other province's gateway may have witnessed it yet; the check of evidence
// tells how many have.
func (c *Client) Evidence(ctx context.Context, verificationID string) ([]byte, error) {
	if err := checkTexts("", text{"verification_id", verificationID, true}); err != nil {
		return nil, err
	}
	request := &pb.GetEvidenceRequest{VerificationId: verificationID}
	answer, err := call(ctx, c, c.deadline, "", c.audit.GetEvidence, request)
	if err != nil {
		return nil, err
	}
	if answer.GetEvidence() == "" {
		return nil, damaged("", "no evidence in it")
	}
	return []byte(answer.GetEvidence()), nil
}

// call makes a call with a deadline, and asks again where the gateway had no room. gRPC itself repeats what the service
// config lets it.
func call[Request, Answer any](
	ctx context.Context, client *Client, deadline time.Duration, requestID string,
	method func(context.Context, Request, ...grpc.CallOption) (Answer, error), request Request,
) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	for try := 1; ; try++ {
		answer, err := method(ctx, request)
		if err == nil {
			return answer, nil
		}
		failed := client.errorOf(ctx, err, requestID)
		if overloaded, ok := failed.(*Overloaded); !ok || try == maxTries || !client.wait(ctx, overloaded.RetryAfter) {
			var none Answer
			return none, failed
		}
	}
}

// wait waits as long as a gateway asked for, and up to a fifth longer so that not all come back at once. It tells whether
// to ask again: not where the deadline comes first.
func (c *Client) wait(ctx context.Context, asked time.Duration) bool {
	asked = pauseOf(asked)
	left := time.Duration(math.MaxInt64)
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	if asked >= left {
		return false
	}
	pause := spread(asked)
	return pause < left && c.sleep(ctx, pause)
}

// pauseOf is how long to wait where a gateway has no room: as long as it said.
func pauseOf(asked time.Duration) time.Duration {
	if asked <= 0 {
		return leastPause
	}
	return asked
}

// spread gives up to a fifth more, and never more than there is.
func spread(asked time.Duration) time.Duration {
	return asked + rand.N(min(asked/5, math.MaxInt64-asked)+1)
}

// sleep tells whether nothing ended it early.
func (c *Client) sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-c.connections.closed:
		return true // the next try says so
	}
}
