package recognition_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	recognition "recognition.example/client"
)

// stage is the real federation of tests/clients/stage.py: four provinces, of which Anhui's gateway is asked.
type stage struct {
	t   *testing.T
	url string
}

func onStage(t *testing.T) stage {
	t.Helper()
	control := os.Getenv("MRG_STAGE")
	if control == "" {
		t.Skip("MRG_STAGE is not set: run pytest tests/clients/test_go.py in the repository")
	}
	return stage{t, control}
}

// ask asks the stage's control port; nil: GET.
func ask[Answer any](s stage, path string, body any) Answer {
	s.t.Helper()
	var answer Answer
	var response *http.Response
	var err error
	if body == nil {
		response, err = http.Get(s.url + path)
	} else {
		encoded, encodeErr := json.Marshal(body)
		must(s.t, encodeErr)
		response, err = http.Post(s.url+path, "application/json", bytes.NewReader(encoded))
	}
	must(s.t, err)
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var said bytes.Buffer
		_, _ = said.ReadFrom(response.Body)
		s.t.Fatalf("%s: %s", path, said.String())
	}
	must(s.t, json.NewDecoder(response.Body).Decode(&answer))
	return answer
}

type nothing = map[string]any

func (s stage) profile(name string) recognition.Profile {
	s.t.Helper()
	profile, err := recognition.ReadProfile(ask[map[string]string](s, "/profiles", nil)[name])
	must(s.t, err)
	return profile
}

func (s stage) matter(name string) string {
	s.t.Helper()
	return ask[map[string]string](s, "/matters", nil)[name]
}

// presented is a presentation that answers a new challenge, of a kind; empty: a good one.
func (s stage) presented(client *recognition.Client, kind string) (recognition.VerifyRequest, string) {
	s.t.Helper()
	return s.presentedFor(client, s.matter("hukou"), kind)
}

func (s stage) presentedFor(client *recognition.Client, matter, kind string) (recognition.VerifyRequest, string) {
	s.t.Helper()
	challenge, err := client.Challenge(s.t.Context(), matter)
	must(s.t, err)
	if !challenge.ExpiresAt.After(time.Now().Add(-24 * time.Hour)) {
		s.t.Errorf("the challenge lapses at %v", challenge.ExpiresAt)
	}
	body := map[string]string{"nonce": challenge.Nonce, "audience": challenge.Audience, "kind": kind}
	made := ask[map[string]string](s, "/present", body)
	return recognition.VerifyRequest{
		Matter: matter, Presentation: made["presentation"], Nonce: challenge.Nonce,
	}, made["reason"]
}

// assertions are as many good ones for the court, as requests.
func (s stage) assertions(client *recognition.Client, count int) []recognition.VerifyRequest {
	s.t.Helper()
	matter := s.matter("court")
	challenge, err := client.Challenge(s.t.Context(), matter)
	must(s.t, err)
	body := map[string]any{"audience": challenge.Audience, "count": count}
	made := ask[map[string][]string](s, "/assertions", body)["assertions"]
	requests := make([]recognition.VerifyRequest, len(made))
	for number, each := range made {
		requests[number] = recognition.VerifyRequest{Matter: matter, Presentation: each}
	}
	return requests
}

func (s stage) verify(client *recognition.Client, request recognition.VerifyRequest) recognition.Decision {
	s.t.Helper()
	decision, err := client.Verify(s.t.Context(), request)
	must(s.t, err)
	return decision
}

func TestStageAccepts(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("hukou"))
	request, _ := s.presented(client, "")
	request.WantReceipt = true
	decision := s.verify(client, request)
	granted, ok := decision.Verdict.(recognition.Accepted)
	if !ok {
		t.Fatal(decision)
	}
	if granted.Subject == "" || granted.Attributes["name"] == "" || !granted.HolderBound || granted.IssuingProvince != "sh" ||
		granted.SubjectType != recognition.SubjectNatural || granted.Assurance.Level == 0 || granted.EraseAt.IsZero() {
		t.Error("an acceptance lacks something")
	}
	if decision.NextStep != recognition.NextStepProceed || decision.Receipt == "" || decision.StatusBasis == nil ||
		decision.TrustBasis.CharterVersion == 0 || decision.DecidedAt.IsZero() {
		t.Errorf("lacks something: %v", decision)
	}
	asked := ask[map[string]string](s, "/caller?verification_id="+url.QueryEscape(decision.VerificationID), nil)
	if asked["request_id"] != decision.RequestID || decision.RequestID == "" {
		t.Error("the log has another request id")
	}
	evidence, err := client.Evidence(t.Context(), decision.VerificationID)
	must(t, err)
	if !json.Valid(evidence) {
		t.Error("the evidence is no JSON")
	}
}

func TestStageAnswersQuestions(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("hukou"))
	// A matter that may ask where the household is, and may not have it.
	request, _ := s.presentedFor(client, "WF-ZM", "")
	request.Predicates = []recognition.Predicate{recognition.HouseholdIn{"sh"}, recognition.HouseholdIn{"zj", "js"}}
	decision := s.verify(client, request)
	granted, ok := decision.Verdict.(recognition.Accepted)
	if !ok {
		t.Fatal(decision)
	}
	if answers := granted.PredicateAnswers; len(answers) != 2 || !answers[0] || answers[1] {
		t.Errorf("the answers are %v", answers)
	}
}

func TestStageRejectsEveryKindOfBadPresentation(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("hukou"))
	kinds := ask[[]map[string]string](s, "/kinds", nil)
	if len(kinds) < 10 {
		t.Fatalf("only %d kinds", len(kinds))
	}
	for _, kind := range kinds {
		t.Run(kind["kind"], func(t *testing.T) {
			s := stage{t, s.url}
			request, reason := s.presented(client, kind["kind"])
			decision := s.verify(client, request)
			if got := short(decision.Verdict); got != "rejected "+reason || reason != kind["reason"] {
				t.Errorf("got %s instead of %s", got, reason)
			}
			if rejected, ok := decision.Verdict.(recognition.Rejected); ok && !rejected.Reason.Recognised() {
				t.Error("the reason has no words")
			}
		})
	}
}

func TestStageCannotDecide(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("hukou"))
	ask[nothing](s, "/indeterminate", map[string]bool{"on": true})
	defer ask[nothing](s, "/indeterminate", map[string]bool{"on": false})
	request, _ := s.presented(client, "")
	decision := s.verify(client, request)
	open, ok := decision.Verdict.(recognition.Indeterminate)
	if !ok || !open.Reason.Recognised() || decision.NextStep == recognition.NextStepProceed {
		t.Errorf("got %v", decision)
	}
}

func TestStageDoesNotAnswerInTime(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("hukou"))
	request, _ := s.presented(client, "")
	late := dial(t, s.profile("hukou"), recognition.WithDeadline(2*time.Second))
	_, err := late.Challenge(t.Context(), request.Matter)
	must(t, err)
	ask[nothing](s, "/pause", nothing{})
	resume := func() { ask[nothing](s, "/resume", nothing{}) }
	defer resume()
	_, err = late.Verify(t.Context(), request)
	var exceeded *recognition.DeadlineExceeded
	if !errors.As(err, &exceeded) || exceeded.RequestID == "" {
		t.Errorf("got %v", err)
	}
	for _, secret := range []string{request.Presentation, request.Nonce} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Error("the error tells a secret")
		}
	}
	resume()
	request, _ = s.presented(client, "")
	if got := short(s.verify(client, request).Verdict); got != "accepted" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestStageIsKilledAndStarted(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("court"))
	requests := s.assertions(client, 400)
	begun, failed := make(chan struct{}), make(chan struct{})
	var answers atomic.Int32
	signalFailed := sync.OnceFunc(func() { close(failed) })
	type answered struct {
		decision recognition.Decision
		err      error
	}
	results := make(chan answered, len(requests))
	work := make(chan recognition.VerifyRequest, len(requests))
	for number, each := range requests {
		each.RequestID = fmt.Sprintf("killed-%d", number)
		work <- each
	}
	close(work)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for range 4 {
		go func() {
			for request := range work {
				var unavailable *recognition.Unavailable
				decision, err := client.Verify(ctx, request)
				for errors.As(err, &unavailable) {
					signalFailed()
					decision, err = client.Verify(ctx, request)
				}
				results <- answered{decision, err}
				if answers.Add(1) == 100 {
					close(begun)
				}
			}
		}()
	}
	<-begun
	ask[nothing](s, "/kill", nothing{})
	start := sync.OnceFunc(func() { ask[nothing](s, "/start", nothing{}) })
	defer start()
	<-failed
	start()

	ids := map[string]bool{}
	replayed := 0
	for range requests {
		one := <-results
		must(t, one.err)
		switch verdict := short(one.decision.Verdict); verdict {
		case "accepted":
			if ids[one.decision.VerificationID] {
				t.Error("two verifications have one id")
			}
			ids[one.decision.VerificationID] = true
		case "rejected REPLAYED":
			replayed++ // was decided, and asked for again more than a minute later
		default:
			t.Errorf("got %s", verdict)
		}
	}
	if replayed > 4 || len(ids)+replayed != len(requests) {
		t.Errorf("%d accepted, %d replayed", len(ids), replayed)
	}
}

func TestStageSeesTheNewCertificate(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("hukou"))
	caller := func() string {
		request, _ := s.presented(client, "")
		id := s.verify(client, request).VerificationID
		return ask[map[string]string](s, "/caller?verification_id="+url.QueryEscape(id), nil)["certificate_sha256"]
	}
	before := caller()
	made := ask[map[string]string](s, "/certificate", map[string]string{"profile": "hukou"})["sha256"]
	recognition.LookNow(client)
	if after := caller(); after != made || after == before {
		t.Errorf("called with %s; %s was replaced by %s", after, before, made)
	}
}

func TestStageIsOverloaded(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("small"))
	matter := s.matter("small")
	// Two calls a second are allowed. Ten are made as fast as can be: the client waits as it is told.
	begun := time.Now()
	for range 10 {
		_, err := client.Challenge(t.Context(), matter)
		must(t, err)
	}
	if took := time.Since(begun); took < time.Second {
		t.Errorf("was not held up: %v", took)
	}
	hasty := dial(t, s.profile("small"), recognition.WithDeadline(300*time.Millisecond))
	var overloaded *recognition.Overloaded
	for range 100 {
		_, err := hasty.Challenge(t.Context(), matter)
		if errors.As(err, &overloaded) {
			break
		}
	}
	if overloaded == nil || overloaded.RetryAfter <= 0 || overloaded.Reason != "CALLER_RATE_EXCEEDED" {
		t.Errorf("got %v", overloaded)
	}
}

func TestStageVerifiesABatch(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("court"))
	requests := s.assertions(client, 1_000)
	requests = append(requests, requests[0], recognition.VerifyRequest{Matter: "no matter", Presentation: "x"})
	outcomes := client.VerifyAll(t.Context(), requests)
	for number, outcome := range outcomes[:1_000] {
		if outcome.Err != nil || short(outcome.Decision.Verdict) != "accepted" {
			t.Fatalf("%d: %v", number, outcome)
		}
	}
	if got := short(outcomes[1_000].Decision.Verdict); got != "rejected REPLAYED" {
		t.Errorf("the same once more: %s", got)
	}
	if outcomes[1_001].Err == nil {
		t.Errorf("a matter that there is not: %v", outcomes[1_001])
	}
}

func TestStageVerifiesAStream(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("court"))
	count := 10_000
	if os.Getenv("MRG_QUICK") != "" {
		count = 1_000
	}
	requests := s.assertions(client, count)
	var taken atomic.Int32
	ids := map[string]bool{}
	handled := 0
	for _, outcome := range client.Stream(t.Context(), func(yield func(recognition.VerifyRequest) bool) {
		for _, each := range requests {
			if taken.Add(1); !yield(each) {
				return
			}
		}
	}) {
		if outcome.Err != nil || short(outcome.Decision.Verdict) != "accepted" {
			t.Fatalf("got %v", outcome)
		}
		if under := int(taken.Load()) - handled; under > 256 {
			t.Fatalf("%d under way", under)
		}
		if handled++; handled%100 == 0 {
			time.Sleep(10 * time.Millisecond) // a slow loop
		}
		ids[outcome.Decision.VerificationID] = true
	}
	if handled != count || len(ids) != count {
		t.Errorf("%d outcomes, %d verifications", handled, len(ids))
	}
}

func TestStageAnswersTheSameQuestionOnce(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("hukou"))
	request, _ := s.presented(client, "")
	first := s.verify(client, request)
	request.RequestID = first.RequestID
	second := s.verify(client, request)
	if first.VerificationID != second.VerificationID || short(first.Verdict) != short(second.Verdict) ||
		first.Repeated || !second.Repeated {
		t.Errorf("got %v, then %v", first, second)
	}
	request.RequestID = ""
	if got := short(s.verify(client, request).Verdict); got != "rejected REPLAYED" {
		t.Errorf("another question about the same: %s", got)
	}
}

func TestStageSaysWhatIsWrong(t *testing.T) {
	s := onStage(t)
	client := dial(t, s.profile("hukou"))
	request, _ := s.presented(client, "")
	wrong := request
	wrong.Predicates = []recognition.Predicate{recognition.AgeAtLeast(1_000)}
	_, err := client.Verify(t.Context(), wrong)
	var invalid *recognition.InvalidRequest
	if !errors.As(err, &invalid) || !strings.Contains(invalid.Field, "predicates[0]") {
		t.Errorf("got %v", err)
	}
	wrong = request
	wrong.Matter = s.matter("court")
	_, err = client.Verify(t.Context(), wrong)
	var denied *recognition.NotPermitted
	if !errors.As(err, &denied) {
		t.Errorf("got %v", err)
	}
	var refused *recognition.Refused
	if _, err = client.Evidence(t.Context(), "no-such"); !errors.As(err, &refused) && !errors.As(err, &invalid) {
		t.Errorf("got %v", err)
	}
	for _, each := range []error{invalid, denied} {
		if strings.Contains(each.Error(), request.Presentation) || strings.Contains(each.Error(), request.Nonce) {
			t.Error("the error tells a secret")
		}
	}
}

func TestStageRefusesAStranger(t *testing.T) {
	s := onStage(t)
	stranger := newFake(t)
	profile := s.profile("hukou")
	profile.Certificate, profile.PrivateKey = stranger.profile().Certificate, stranger.profile().PrivateKey
	_, err := dial(t, profile).Challenge(t.Context(), s.matter("hukou"))
	var unavailable *recognition.Unavailable
	if !errors.As(err, &unavailable) {
		t.Errorf("got %v", err)
	}
	profile = s.profile("hukou")
	profile.CA = stranger.profile().CA
	if _, err = dial(t, profile).Challenge(t.Context(), s.matter("hukou")); !errors.As(err, &unavailable) {
		t.Errorf("got %v", err)
	}
}
