package recognition_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	recognition "recognition.example/client"
	pb "recognition.example/client/recognitionv1"
)

var request = recognition.VerifyRequest{Matter: "KY-LA", Presentation: "SECRET-presentation", Nonce: "SECRET-nonce"}

func TestMatchDemandsAllThreeFunctionsAndAVerdict(t *testing.T) {
	accepted := func(recognition.Accepted) int { return 1 }
	rejected := func(recognition.Rejected) int { return 2 }
	indeterminate := func(recognition.Indeterminate) int { return 3 }
	for number, verdict := range []recognition.Verdict{
		recognition.Accepted{}, recognition.Rejected{}, recognition.Indeterminate{},
	} {
		if got := recognition.Match(verdict, accepted, rejected, indeterminate); got != number+1 {
			t.Errorf("%T went to function %d", verdict, got)
		}
	}
	for name, match := range map[string]func(){
		"no verdict":       func() { recognition.Match(recognition.Decision{}.Verdict, accepted, rejected, indeterminate) },
		"no accepted":      func() { recognition.Match(recognition.Rejected{}, nil, rejected, indeterminate) },
		"no rejected":      func() { recognition.Match(recognition.Accepted{}, accepted, nil, indeterminate) },
		"no indeterminate": func() { recognition.Match(recognition.Accepted{}, accepted, rejected, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("did not panic")
				}
			}()
			match()
		})
	}
}

func TestADamagedOrNewerAnswerIsNeverAVerdict(t *testing.T) {
	gateway := newFake(t)
	client := gateway.client()
	bare := accepted("id")
	bare.Verdict = nil
	withoutTime, without := accepted("id"), accepted("")
	withoutTime.VerifyTime = nil
	unreadable := accepted("id")
	unreadable.ProtoReflect().SetUnknown([]byte{0x0a, 0x7f})
	lacking := func(spoil func(*pb.Acceptance)) *pb.VerifyCredentialResponse {
		spoilt := withAnswers(pb.PredicateAnswer_PREDICATE_ANSWER_YES)
		spoil(spoilt.GetAccepted())
		return spoilt
	}
	never := &timestamppb.Timestamp{Seconds: math.MaxInt64}
	atNoTime, listAtNoTime := withAnswers(pb.PredicateAnswer_PREDICATE_ANSWER_YES), rejected(1)
	atNoTime.VerifyTime = never
	listAtNoTime.StatusBasis = &pb.StatusBasis{IssueTime: never}
	large := accepted("id")
	large.Receipt = strings.Repeat("x", 33<<20)
	answers := map[string]*pb.VerifyCredentialResponse{
		"nothing":               {},
		"no verdict":            bare,
		"no number":             without,
		"no time":               withoutTime,
		"cannot be decoded":     unreadable,
		"too large":             large,
		"a kind not known here": unknown(t, bare, 500),
		"an unasked answer":     withAnswers(pb.PredicateAnswer_PREDICATE_ANSWER_YES, pb.PredicateAnswer_PREDICATE_ANSWER_YES),
		"no answer":             withAnswers(),
		"unspecified answer":    withAnswers(pb.PredicateAnswer_PREDICATE_ANSWER_UNSPECIFIED),
		"unknown answer":        withAnswers(pb.PredicateAnswer(7)),
		"decided at no time":    atNoTime,
		"status of no time":     listAtNoTime,
		"an empty acceptance": lacking(func(a *pb.Acceptance) {
			answers := a.GetPredicateAnswers()
			proto.Reset(a)
			a.PredicateAnswers = answers
		}),
		"no subject":           lacking(func(a *pb.Acceptance) { a.Subject = "" }),
		"no issuer":            lacking(func(a *pb.Acceptance) { a.Issuer = "" }),
		"no type":              lacking(func(a *pb.Acceptance) { a.CredentialType = "" }),
		"no assurance":         lacking(func(a *pb.Acceptance) { a.Assurance = nil }),
		"no identity level":    lacking(func(a *pb.Acceptance) { a.Assurance.Identity = 0 }),
		"no login level":       lacking(func(a *pb.Acceptance) { a.Assurance.Authenticator = 0 }),
		"a negative level":     lacking(func(a *pb.Acceptance) { a.Assurance.Federation = -1 }),
		"a negative overall":   lacking(func(a *pb.Acceptance) { a.Assurance.Level = -1 }),
		"an actor of no name":  lacking(func(a *pb.Acceptance) { a.Actor = &pb.Actor{Relationship: "lawyer"} }),
		"never to be erased":   lacking(func(a *pb.Acceptance) { a.EraseTime = nil }),
		"erased at no time":    lacking(func(a *pb.Acceptance) { a.EraseTime = never }),
		"issued at no time":    lacking(func(a *pb.Acceptance) { a.IssueTime = never }),
		"logged in at no time": lacking(func(a *pb.Acceptance) { a.AuthenticationTime = never }),
		"expires at no time":   lacking(func(a *pb.Acceptance) { a.ExpireTime = never }),
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			gateway.verify = func(context.Context, *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
				return answer, nil
			}
			asked := request
			asked.Predicates = []recognition.Predicate{recognition.AgeAtLeast(18)}
			decision, err := client.Verify(t.Context(), asked)
			var damaged *recognition.DamagedAnswer
			if !errors.As(err, &damaged) || damaged.RequestID == "" || decision.Verdict != nil ||
				damaged.Code != codes.DataLoss || damaged.Reason != "DAMAGED_ANSWER" {
				t.Errorf("got %v, %v", decision, err)
			}
		})
	}
}

func TestOtherAnswersThatSayTooLittleAreDamaged(t *testing.T) {
	gateway := newFake(t)
	client := gateway.client()
	isDamaged := func(err error) {
		t.Helper()
		var damaged *recognition.DamagedAnswer
		if !errors.As(err, &damaged) || damaged.Reason != "DAMAGED_ANSWER" {
			t.Errorf("got %v", err)
		}
	}
	now, never := timestamppb.Now(), &timestamppb.Timestamp{Seconds: math.MaxInt64}
	for _, gateway.challenge = range []*pb.CreateChallengeResponse{
		{},
		{Audience: "a", ExpireTime: now},
		{Nonce: "n", ExpireTime: now},
		{Nonce: "n", Audience: "a"},
		{Nonce: "n", Audience: "a", ExpireTime: never},
	} {
		_, err := client.Challenge(t.Context(), "KY-LA")
		isDamaged(err)
	}
	gateway.challenge = &pb.CreateChallengeResponse{Nonce: "n", Audience: "a", ExpireTime: now}
	challenge, err := client.Challenge(t.Context(), "KY-LA")
	must(t, err)
	if !challenge.ExpiresAt.Equal(now.AsTime()) {
		t.Errorf("lapses at %v", challenge.ExpiresAt)
	}
	for _, answer := range []*pb.RecordConsentResponse{
		{}, {ExpireTime: now}, {ConsentId: "c"}, {ConsentId: "c", ExpireTime: never},
	} {
		gateway.record = func(context.Context, *pb.RecordConsentRequest) (*pb.RecordConsentResponse, error) {
			return answer, nil
		}
		_, err = client.RecordConsent(t.Context(), "XS-RH", nil, time.Hour)
		isDamaged(err)
	}
	for _, gateway.withdrawal = range []*pb.WithdrawConsentResponse{{}, {WithdrawTime: never}} {
		_, err = client.WithdrawConsent(t.Context(), "c")
		isDamaged(err)
	}
	gateway.withdrawal = &pb.WithdrawConsentResponse{WithdrawTime: now}
	since, err := client.WithdrawConsent(t.Context(), "c")
	must(t, err)
	if !since.Equal(now.AsTime()) {
		t.Errorf("withdrawn at %v", since)
	}
	gateway.explanation = &pb.ExplainVerificationResponse{VerificationId: "id", VerifyTime: never}
	_, err = client.Explain(t.Context(), "id")
	isDamaged(err)
	gateway.evidence = &pb.GetEvidenceResponse{}
	_, err = client.Evidence(t.Context(), "id")
	isDamaged(err)
	gateway.evidence = &pb.GetEvidenceResponse{Evidence: "{}", Witnesses: 2}
	bundle, err := client.Evidence(t.Context(), "id")
	must(t, err)
	if string(bundle) != "{}" {
		t.Errorf("got %s", bundle)
	}
}

func withAnswers(answers ...pb.PredicateAnswer) *pb.VerifyCredentialResponse {
	answer := accepted("id")
	answer.GetAccepted().PredicateAnswers = answers
	return answer
}

// unknown adds a field that no version of the contract has so far.
func unknown(t *testing.T, message *pb.VerifyCredentialResponse, number protowire.Number) *pb.VerifyCredentialResponse {
	t.Helper()
	raw, err := proto.Marshal(message)
	must(t, err)
	raw = protowire.AppendTag(raw, number, protowire.BytesType)
	raw = protowire.AppendBytes(raw, []byte{8, 1})
	read := &pb.VerifyCredentialResponse{}
	must(t, proto.Unmarshal(raw, read))
	return read
}

func TestWhatANewerGatewaySaysBesidesIsRead(t *testing.T) {
	gateway := newFake(t)
	client := gateway.client()
	answer := unknown(t, rejected(999), 501)
	answer.NextStep = 999
	gateway.verify = func(context.Context, *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
		return answer, nil
	}
	decision, err := client.Verify(t.Context(), request)
	must(t, err)
	reason := decision.Verdict.(recognition.Rejected).Reason
	if reason != 999 || reason.Recognised() || reason.String() != "UNRECOGNISED(999)" {
		t.Errorf("reason is %v", reason)
	}
	if text := reason.Text(recognition.Chinese); text.What == "" || text.NextStep == "" {
		t.Error("no words for a reason that is not known here")
	} else if text.What != "网关给出的原因是本程序尚不认识的。" {
		t.Errorf("says %s", text.What)
	}
	if decision.NextStep != recognition.NextStepCallSupport {
		t.Errorf("next step is %v", decision.NextStep)
	}
	if recognition.NextStep(999).Text(recognition.English) != recognition.NextStepCallSupport.Text(recognition.English) {
		t.Error("a step that is not known here is not read as calling support")
	}
}

func TestReasonsAndStepsAreThoseOfTheContract(t *testing.T) {
	for number, name := range pb.NextStep_name {
		step := recognition.NextStep(number)
		if number != 0 && "NEXT_STEP_"+step.String() != name {
			t.Errorf("%d is %v, not %s", number, step, name)
		}
	}
	for number, name := range pb.Reason_name {
		reason := recognition.Reason(number)
		if number == 0 {
			continue
		}
		if reason.Recognised() && "REASON_"+reason.String() != name {
			t.Errorf("%d is %v, not %s", number, reason, name)
		}
		for _, language := range []recognition.Language{recognition.Chinese, recognition.English} {
			if text := reason.Text(language); text.What == "" || text.NextStep == "" {
				t.Errorf("no words for %v", reason)
			}
		}
	}
	if !recognition.ReasonTrustStale.Recognised() || recognition.ReasonTrustStale.Text(recognition.Chinese).What == "" {
		t.Error("a known reason is not recognised")
	}
}

func TestErrorsHaveTheKindAndDetailsOfTheStatus(t *testing.T) {
	gateway := newFake(t)
	client := gateway.client()
	info := func(reason string) *errdetails.ErrorInfo {
		return &errdetails.ErrorInfo{Reason: reason, Domain: "recognition.v1"}
	}
	field := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "nonce"}}}
	soon := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Hour)}
	cases := map[string]struct {
		sent   error
		target any
		want   recognition.Details
	}{
		"invalid": {
			statusError(codes.InvalidArgument, "nonce is wrong", info("INVALID_REQUEST"), field),
			new(*recognition.InvalidRequest),
			recognition.Details{Code: codes.InvalidArgument, Reason: "INVALID_REQUEST", Field: "nonce"},
		},
		"not permitted": {
			statusError(codes.PermissionDenied, "no", info("NOT_PERMITTED")),
			new(*recognition.NotPermitted),
			recognition.Details{Code: codes.PermissionDenied, Reason: "NOT_PERMITTED"},
		},
		"overloaded": {
			statusError(codes.ResourceExhausted, "no", info("CALLER_RATE_EXCEEDED"), soon),
			new(*recognition.Overloaded),
			recognition.Details{Code: codes.ResourceExhausted, Reason: "CALLER_RATE_EXCEEDED", RetryAfter: time.Hour},
		},
		"overloaded without a time": {
			statusError(codes.ResourceExhausted, "no"),
			new(*recognition.Overloaded),
			recognition.Details{Code: codes.ResourceExhausted},
		},
		"unavailable": {
			statusError(codes.Unavailable, "no", info("UNAVAILABLE")),
			new(*recognition.Unavailable),
			recognition.Details{Code: codes.Unavailable, Reason: "UNAVAILABLE"},
		},
		"given up by the gateway": {
			statusError(codes.Canceled, "no"), new(*recognition.Unavailable), recognition.Details{Code: codes.Unavailable},
		},
		"too late for the gateway": {
			statusError(codes.DeadlineExceeded, "no"),
			new(*recognition.DeadlineExceeded),
			recognition.Details{Code: codes.DeadlineExceeded},
		},
		"internal": {
			statusError(codes.Internal, "reference x", info("INTERNAL")),
			new(*recognition.Internal),
			recognition.Details{Code: codes.Internal, Reason: "INTERNAL"},
		},
		"data loss of the gateway's own": {
			statusError(codes.DataLoss, "no", info("DATA_LOSS")),
			new(*recognition.Internal),
			recognition.Details{Code: codes.DataLoss, Reason: "DATA_LOSS"},
		},
		"another domain's reason": {
			statusError(codes.Unknown, "no", &errdetails.ErrorInfo{Reason: "X", Domain: "elsewhere"}),
			new(*recognition.Internal),
			recognition.Details{Code: codes.Unknown},
		},
		"not held": {
			statusError(codes.NotFound, "no", info("NOT_HELD")),
			new(*recognition.Refused),
			recognition.Details{Code: codes.NotFound, Reason: "NOT_HELD"},
		},
		"wrong state": {
			statusError(codes.FailedPrecondition, "no", info("WRONG_STATE")),
			new(*recognition.Refused),
			recognition.Details{Code: codes.FailedPrecondition, Reason: "WRONG_STATE"},
		},
	}
	for name, each := range cases {
		t.Run(name, func(t *testing.T) {
			gateway.verify = func(context.Context, *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
				return nil, each.sent
			}
			asked := request
			asked.RequestID = "case-7"
			decision, err := client.Verify(t.Context(), asked)
			if !errors.As(err, each.target) {
				t.Fatalf("%T is not %T", err, each.target)
			}
			var failed recognition.Error
			if !errors.As(err, &failed) {
				t.Fatal("no Error in it")
			}
			each.want.RequestID = "case-7"
			about := failed.About()
			got := recognition.Details{
				Code: about.Code, Reason: about.Reason, Field: about.Field,
				RetryAfter: about.RetryAfter, RequestID: about.RequestID,
			}
			if got != each.want || decision.Verdict != nil {
				t.Errorf("got %+v, %v", got, decision)
			}
			if !strings.Contains(err.Error(), "case-7") || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("says %q", err)
			}
		})
	}
}

func TestACancelledCallSaysSo(t *testing.T) {
	gateway := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	gateway.verify = func(ctx context.Context, _ *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
		cancel()
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	_, err := gateway.client().Verify(ctx, request)
	var cancelled *recognition.Cancelled
	if !errors.Is(err, context.Canceled) || !errors.As(err, &cancelled) || cancelled.RequestID == "" {
		t.Errorf("got %v", err)
	}
}

func TestADeadlineEndsACallAndIsSharedByAllTries(t *testing.T) {
	gateway := newFake(t)
	gateway.verify = func(ctx context.Context, _ *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	_, err := gateway.client(recognition.WithDeadline(2*time.Second)).Verify(t.Context(), request)
	var late *recognition.DeadlineExceeded
	if !errors.As(err, &late) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if len(gateway.seen()) != 1 {
		t.Errorf("was asked %d times", len(gateway.seen()))
	}
}

func TestAVerificationIsTriedAgainWordForWord(t *testing.T) {
	gateway := newFake(t)
	var asked []*pb.VerifyCredentialRequest
	gateway.verify = func(_ context.Context, request *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
		asked = append(asked, request)
		if len(asked) < 3 {
			return nil, statusError(codes.Unavailable, "not now")
		}
		return accepted("id"), nil
	}
	decision, err := gateway.client().Verify(t.Context(), request)
	must(t, err)
	if len(asked) != 3 || !proto.Equal(asked[0], asked[1]) || !proto.Equal(asked[0], asked[2]) {
		t.Errorf("was asked %d times, or differently", len(asked))
	}
	if decision.RequestID != asked[0].GetRequestId() {
		t.Error("the decision has another request id")
	}
	if !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{21}$`).MatchString(decision.RequestID) {
		t.Errorf("the request id is %q", decision.RequestID)
	}
}

func TestAnAcceptanceThatWasGivenBeforeSaysSo(t *testing.T) {
	gateway := newFake(t)
	client := gateway.client()
	for _, repeated := range []bool{false, true} {
		gateway.verify = func(context.Context, *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
			answer := accepted("id")
			answer.Repeated = repeated
			return answer, nil
		}
		decision, err := client.Verify(t.Context(), request)
		must(t, err)
		if decision.Repeated != repeated || strings.Contains(fmt.Sprint(decision), "repeated") != repeated {
			t.Errorf("got %v", decision)
		}
	}
}

func TestTriesEnd(t *testing.T) {
	gateway := newFake(t)
	gateway.verify = func(context.Context, *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
		return nil, statusError(codes.Unavailable, "not now")
	}
	_, err := gateway.client().Verify(t.Context(), request)
	var unavailable *recognition.Unavailable
	if !errors.As(err, &unavailable) || len(gateway.seen()) != 4 {
		t.Errorf("got %v after %d tries", err, len(gateway.seen()))
	}
}

func TestAConsentIsNotRecordedTwice(t *testing.T) {
	gateway := newFake(t)
	soon := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)}
	for _, each := range []struct {
		sent   error
		target any
	}{
		{statusError(codes.Unavailable, "not now"), new(*recognition.Unavailable)},
		{statusError(codes.ResourceExhausted, "not now", soon), new(*recognition.Overloaded)},
	} {
		var tries atomic.Int32
		gateway.record = func(context.Context, *pb.RecordConsentRequest) (*pb.RecordConsentResponse, error) {
			tries.Add(1)
			return nil, each.sent
		}
		_, err := gateway.client().RecordConsent(t.Context(), "XS-RH", []string{"name"}, time.Hour)
		if !errors.As(err, each.target) || tries.Load() != 1 {
			t.Errorf("got %v after %d tries", err, tries.Load())
		}
	}
}

func TestAnOverloadedGatewayIsAskedAgainWhenItSaid(t *testing.T) {
	gateway := newFake(t)
	delay := 30 * time.Millisecond
	var times []time.Time
	busy := 2
	gateway.verify = func(context.Context, *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
		times = append(times, time.Now())
		if len(times) <= busy {
			return nil, statusError(codes.ResourceExhausted, "busy", &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
		}
		return accepted("id"), nil
	}
	client := gateway.client()
	_, err := client.Verify(t.Context(), request)
	must(t, err)
	if len(times) != 3 || times[1].Sub(times[0]) < delay || times[2].Sub(times[1]) < delay {
		t.Errorf("was asked at %v", times)
	}

	times, busy = nil, 99
	_, err = client.Verify(t.Context(), request)
	var overloaded *recognition.Overloaded
	if !errors.As(err, &overloaded) || overloaded.RetryAfter != delay || len(times) != 3 {
		t.Errorf("got %v after %d tries", err, len(times))
	}

	for _, delay = range []time.Duration{time.Hour, math.MaxInt64} {
		times = nil
		_, err = client.Verify(t.Context(), request)
		if !errors.As(err, &overloaded) || overloaded.RetryAfter != delay || len(times) != 1 {
			t.Errorf("got %v after %d tries, though the deadline comes first", err, len(times))
		}
	}
}

func TestNothingOfAPersonIsPrinted(t *testing.T) {
	gateway := newFake(t)
	answer := accepted("id")
	secrets, err := structpb.NewStruct(map[string]any{"name": "SECRET-name"})
	must(t, err)
	answer.GetAccepted().Subject = "SECRET-subject"
	answer.GetAccepted().Attributes = secrets
	answer.GetAccepted().Actor = &pb.Actor{Subject: "SECRET-actor", Attributes: secrets, Relationship: "lawyer"}
	gateway.verify = func(context.Context, *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
		return answer, nil
	}
	asked := request
	answer.GetAccepted().PredicateAnswers = []pb.PredicateAnswer{pb.PredicateAnswer_PREDICATE_ANSWER_NO}
	asked.Predicates = []recognition.Predicate{recognition.ClaimMatches{Claim: "name", Value: "SECRET-value"}}
	decision, err := gateway.client().Verify(t.Context(), asked)
	must(t, err)
	granted := decision.Verdict.(recognition.Accepted)
	if granted.Attributes["name"] != "SECRET-name" || !reflect.DeepEqual(granted.PredicateAnswers, []bool{false}) {
		t.Error("the attributes or answers are not there")
	}
	outcome := recognition.Outcome{Decision: decision}
	challenge := recognition.Challenge{Nonce: "SECRET-nonce", Audience: "here"}
	consent := recognition.Consent{ID: "SECRET-consent"}
	for _, each := range []any{
		decision, &decision, granted, &granted, granted.Actor, *granted.Actor, asked, &asked, outcome, &outcome,
		asked.Predicates, asked.Predicates[0], challenge, []recognition.Outcome{outcome}, map[string]any{"x": granted},
		consent, &consent,
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			printed := fmt.Sprintf(verb, each)
			if strings.Contains(printed, "SECRET") || strings.Contains(printed, fmt.Sprintf("%x", "SECRET")) {
				t.Errorf("%s of %T: %s", verb, each, printed)
			}
		}
	}
	for _, each := range []any{decision, granted, granted.Actor, asked, asked.Predicates[0], challenge, outcome} {
		encoded, err := json.Marshal(each)
		must(t, err)
		if bytes.Contains(encoded, []byte("SECRET")) {
			t.Errorf("JSON: %s", encoded)
		}
		var logged bytes.Buffer
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "it", each)
		slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "it", each)
		if strings.Contains(logged.String(), "SECRET") {
			t.Errorf("log: %s", logged.String())
		}
	}
}

func TestAnotherCertificateIsUsedFromTheNextCallOn(t *testing.T) {
	gateway := newFake(t)
	begun, end := make(chan struct{}), make(chan struct{})
	gateway.verify = func(_ context.Context, request *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
		if request.GetRequestId() == "long" {
			close(begun)
			<-end
		}
		return accepted("id"), nil
	}
	client := gateway.client()
	var under sync.WaitGroup
	under.Add(1)
	go func() {
		defer under.Done()
		asked := request
		asked.RequestID = "long"
		if _, err := client.Verify(context.WithoutCancel(t.Context()), asked); err != nil {
			t.Errorf("a call under way was cut off: %v", err)
		}
	}()
	<-begun

	certificate, key := gateway.authority.issue("renewed")
	gateway.write("service.pem", certificate) // does not fit the key
	recognition.LookNow(client)
	_, err := client.Verify(t.Context(), request)
	must(t, err)
	gateway.write("service.key", key)
	recognition.LookNow(client)
	_, err = client.Verify(t.Context(), request)
	must(t, err)
	gateway.write("ca.pem", []byte("nonsense"))
	recognition.LookNow(client)
	_, err = client.Verify(t.Context(), request)
	must(t, err)
	close(end)
	under.Wait()
	if got, want := gateway.seen(), []string{"service", "service", "renewed", "renewed"}; !slices.Equal(got, want) {
		t.Errorf("the calls came from %v", got)
	}
}

func TestAGatewayOfAnotherCAIsNotTalkedTo(t *testing.T) {
	gateway := newFake(t)
	gateway.write("ca.pem", newAuthority(t).pem())
	_, err := gateway.client().Verify(t.Context(), request)
	var unavailable *recognition.Unavailable
	if !errors.As(err, &unavailable) || len(gateway.seen()) != 0 || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
}

func TestAGatewayOfAnotherNameIsNotTalkedTo(t *testing.T) {
	gateway := newFake(t)
	gateway.address = strings.Replace(gateway.address, "127.0.0.1", "localhost", 1)
	_, err := gateway.client().Verify(t.Context(), request)
	var unavailable *recognition.Unavailable
	if !errors.As(err, &unavailable) || len(gateway.seen()) != 0 {
		t.Errorf("got %v", err)
	}
}

func TestAGatewayThatComesBackIsFound(t *testing.T) {
	gateway := newFake(t)
	gateway.verify = func(context.Context, *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
		return accepted("id"), nil
	}
	client := gateway.client()
	_, err := client.Verify(t.Context(), request)
	must(t, err)
	gateway.server.Stop()
	_, err = client.Verify(t.Context(), request)
	var unavailable *recognition.Unavailable
	if !errors.As(err, &unavailable) {
		t.Fatalf("got %v", err)
	}
	gateway.serve(gateway.address)
	deadline := time.Now().Add(10 * time.Second)
	for err != nil && time.Now().Before(deadline) {
		_, err = client.Verify(t.Context(), request)
	}
	must(t, err)
}

func TestADialedProfileIsWhole(t *testing.T) {
	gateway := newFake(t)
	whole := gateway.profile()
	for name, spoil := range map[string]func(*recognition.Profile){
		"no address":     func(p *recognition.Profile) { p.Address = "" },
		"no key":         func(p *recognition.Profile) { p.PrivateKey = "" },
		"missing file":   func(p *recognition.Profile) { p.CA += ".missing" },
		"not a CA":       func(p *recognition.Profile) { p.CA = p.PrivateKey },
		"key of another": func(p *recognition.Profile) { p.Certificate = p.CA },
	} {
		profile := whole
		spoil(&profile)
		if _, err := recognition.Dial(profile); err == nil {
			t.Errorf("%s: dialed", name)
		}
	}
	for name, content := range map[string]string{"empty": "", "no TOML": "address", "half": "address = \"x:1\"\n"} {
		file := filepath.Join(t.TempDir(), "profile.toml")
		must(t, os.WriteFile(file, []byte(content), 0o600))
		if _, err := recognition.ReadProfile(file); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func TestAClosedClientSaysSo(t *testing.T) {
	gateway := newFake(t)
	client := gateway.client()
	must(t, client.Close())
	_, err := client.Verify(t.Context(), request)
	isClosed(t, err)
	for _, outcome := range client.Stream(t.Context(), slices.Values([]recognition.VerifyRequest{request, request})) {
		isClosed(t, outcome.Err)
	}
	must(t, client.Close())
}

func isClosed(t *testing.T, err error) {
	t.Helper()
	var unavailable *recognition.Unavailable
	if !errors.Is(err, recognition.ErrClosed) || !errors.As(err, &unavailable) ||
		!strings.Contains(err.Error(), "this client was closed") {
		t.Errorf("got %v", err)
	}
}

func TestClosingEndsWhatIsUnderWay(t *testing.T) {
	gateway := newFake(t)
	begun := make(chan struct{}, 3)
	hold := func(ctx context.Context) error {
		begun <- struct{}{}
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	gateway.verify = func(ctx context.Context, asked *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
		if asked.GetRequestId() == "busy" {
			begun <- struct{}{}
			return nil, statusError(codes.ResourceExhausted, "no", &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Minute)})
		}
		return nil, hold(ctx)
	}
	gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
		return hold(stream.Context())
	}
	client := gateway.client(recognition.WithDeadline(5 * time.Minute))
	ended := make(chan error, 3)
	verify := func(id string) {
		asked := request
		asked.RequestID = id
		_, err := client.Verify(context.WithoutCancel(t.Context()), asked)
		ended <- err
	}
	go verify("on the connection before")
	<-begun
	gateway.give("renewed")
	recognition.LookNow(client)
	go verify("busy")
	go func() {
		for _, outcome := range client.Stream(t.Context(), slices.Values([]recognition.VerifyRequest{request})) {
			ended <- outcome.Err
		}
	}()
	<-begun
	<-begun
	must(t, client.Close())
	for range 3 {
		isClosed(t, <-ended)
	}
}

func TestADeadlineIsMoreThanNothing(t *testing.T) {
	profile := newFake(t).profile()
	for _, option := range []recognition.Option{
		recognition.WithDeadline(0), recognition.WithDeadline(-time.Second), recognition.WithBatchDeadline(0),
	} {
		if _, err := recognition.Dial(profile, option); err == nil {
			t.Error("dialed")
		}
	}
}

func TestWhatIsWrongWithAConnectionIsToldInOneLine(t *testing.T) {
	advice := func(address string) string {
		return "recognition: see that the gateway runs at " + address + ", and that each side trusts the other's certificate ["
	}
	check := func(err error, address, cause string) {
		t.Helper()
		var unavailable *recognition.Unavailable
		if !errors.As(err, &unavailable) || !strings.HasPrefix(err.Error(), advice(address)) ||
			!strings.Contains(err.Error(), cause) || strings.Contains(err.Error(), "desc =") {
			t.Errorf("got %v", err)
		}
	}
	gateway, stranger := newFake(t), newFake(t)
	profile := gateway.profile()
	profile.Certificate, profile.PrivateKey = stranger.profile().Certificate, stranger.profile().PrivateKey
	_, err := dial(t, profile).Verify(t.Context(), request)
	check(err, gateway.address, "[remote error: tls: unknown certificate authority]")
	profile = gateway.profile()
	profile.CA = stranger.profile().CA
	_, err = dial(t, profile).Verify(t.Context(), request)
	check(err, gateway.address, "[x509: certificate signed by unknown authority")
	client := gateway.client()
	gateway.server.Stop()
	_, err = client.Verify(t.Context(), request)
	check(err, gateway.address, "[connection refused]")
}

func TestAnOverloadedGatewayThatSaysNoTimeIsAskedAgain(t *testing.T) {
	gateway := newFake(t)
	for name, said := range map[string]error{
		"none":     statusError(codes.ResourceExhausted, "busy"),
		"zero":     statusError(codes.ResourceExhausted, "busy", &errdetails.RetryInfo{RetryDelay: durationpb.New(0)}),
		"negative": statusError(codes.ResourceExhausted, "busy", &errdetails.RetryInfo{RetryDelay: durationpb.New(-time.Hour)}),
	} {
		tries := 0
		gateway.verify = func(context.Context, *pb.VerifyCredentialRequest) (*pb.VerifyCredentialResponse, error) {
			if tries++; tries < 3 {
				return nil, said
			}
			return accepted("id"), nil
		}
		begun := time.Now()
		_, err := gateway.client().Verify(t.Context(), request)
		if took := time.Since(begun); err != nil || took < 200*time.Millisecond {
			t.Errorf("%s: got %v after %v", name, err, took)
		}
	}
}

func TestWhatCannotBeSentIsToldByItsField(t *testing.T) {
	client := newFake(t).client()
	for field, spoil := range map[string]func(*recognition.VerifyRequest){
		"nonce":         func(r *recognition.VerifyRequest) { r.Nonce = "\xff" },
		"presentation":  func(r *recognition.VerifyRequest) { r.Presentation = "\xff" },
		"request_id":    func(r *recognition.VerifyRequest) { r.RequestID = "\xff" },
		"predicates[0]": func(r *recognition.VerifyRequest) { r.Predicates = []recognition.Predicate{nil} },
		"predicates[1]": func(r *recognition.VerifyRequest) {
			r.Predicates = []recognition.Predicate{recognition.AgeAtLeast(18), recognition.HouseholdIn{"\xff"}}
		},
		"predicates[2]": func(r *recognition.VerifyRequest) {
			var none *recognition.ClaimMatches
			r.Predicates = []recognition.Predicate{recognition.AgeAtLeast(18), recognition.AgeAtLeast(18), none}
		},
		"predicates[0].age_at_least": func(r *recognition.VerifyRequest) {
			r.Predicates = []recognition.Predicate{recognition.AgeAtLeast(1 << 32)}
		},
		"matter": func(r *recognition.VerifyRequest) { r.Matter = "" },
	} {
		asked := request
		spoil(&asked)
		_, err := client.Verify(t.Context(), asked)
		isInvalid(t, err, field)
	}
	for name, presentation := range map[string]string{"empty": "", "too large": strings.Repeat("x", 256*1024)} {
		asked := request
		asked.Presentation = presentation
		_, err := client.Verify(t.Context(), asked)
		isInvalid(t, err, "presentation")
		outcome := client.VerifyAll(t.Context(), []recognition.VerifyRequest{asked})[0]
		isInvalid(t, outcome.Err, "presentation")
		for _, outcome := range client.Stream(t.Context(), slices.Values([]recognition.VerifyRequest{asked})) {
			isInvalid(t, outcome.Err, "presentation")
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
	_, err := client.Challenge(t.Context(), "")
	isInvalid(t, err, "matter")
	_, err = client.Challenge(t.Context(), "\xff")
	isInvalid(t, err, "matter")
	_, err = client.RecordConsent(t.Context(), "XS-RH", []string{"name", "\xff"}, time.Hour)
	isInvalid(t, err, "claims[1]")
	_, err = client.WithdrawConsent(t.Context(), "\xff")
	isInvalid(t, err, "consent_id")
	_, err = client.Explain(t.Context(), "")
	isInvalid(t, err, "verification_id")
	_, err = client.Evidence(t.Context(), "\xff")
	isInvalid(t, err, "verification_id")
}

func isInvalid(t *testing.T, err error, field string) {
	t.Helper()
	var invalid *recognition.InvalidRequest
	if !errors.As(err, &invalid) || invalid.Field != field || invalid.Reason != "INVALID_REQUEST" ||
		invalid.Code != codes.InvalidArgument {
		t.Errorf("%s: got %v", field, err)
	}
}

func TestAProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	if address := os.Getenv("TEST_DIRECTLY"); address != "" { // in a process of its own: Go reads these variables once
		gateway := newFake(t)
		profile := gateway.profile()
		profile.Address = address
		_, err := dial(t, profile, recognition.WithDeadline(5*time.Second)).Verify(t.Context(), request)
		if err == nil {
			t.Error("reached what is not there")
		}
		return
	}
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	reached := make(chan bool, 1)
	go func() {
		connection, err := proxy.Accept()
		if reached <- err == nil; err == nil {
			_ = connection.Close()
		}
	}()
	alone := exec.Command(os.Args[0], "-test.run=^TestAProxyOfTheEnvironmentIsNotUsed$")
	alone.Env = append(os.Environ(), "TEST_DIRECTLY=gateway.invalid:443")
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "grpc_proxy"} {
		alone.Env = append(alone.Env, name+"=http://"+proxy.Addr().String())
	}
	alone.Env = append(alone.Env, "NO_PROXY=", "no_proxy=")
	if said, err := alone.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	must(t, proxy.Close())
	if <-reached {
		t.Error("the proxy was asked")
	}
}

func TestTheServiceConfigIsThatOfTheRepository(t *testing.T) {
	ours, err := os.ReadFile("service-config.json")
	must(t, err)
	if !json.Valid(ours) {
		t.Error("is no JSON")
	}
	published, err := os.ReadFile("../service-config.json")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("outside the repository")
	}
	must(t, err)
	if !bytes.Equal(ours, published) {
		t.Error("differs from clients/service-config.json: run generate.sh")
	}
}
