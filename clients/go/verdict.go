package recognition

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "recognition.example/client/recognitionv1"
)

// Decision is what the gateway decided, and on which data.
type Decision struct {
	// Verdict is [Accepted], [Rejected] or [Indeterminate]; nil only in a Decision that came with an error.
	Verdict Verdict
	// VerificationID names the decision in the gateway's log. Keep it with the case.
	VerificationID string
	// DecidedAt is when. It is always there, as is VerificationID.
	DecidedAt time.Time
	// Repeated tells that this acceptance was given before, to the same question: its answer may have been lost, or acted
	// on. Act once on a VerificationID.
	Repeated bool
	// NextStep is what to do now, whatever the verdict.
	NextStep NextStep
	// Receipt is the signed receipt, where one was asked for: compact JWS.
	Receipt string
	// TrustBasis is the trust data behind the decision.
	TrustBasis TrustBasis
	// StatusBasis is the status data behind it; nil where no status was looked at.
	StatusBasis *StatusBasis
	// RequestID is the caller's reference: that of the request, or the one that the client made.
	RequestID string
}

// Verdict is one of [Accepted], [Rejected] and [Indeterminate]. [Match] takes it apart; so does a type switch, whose
// default must be an error. The three are values, never pointers: `case *recognition.Rejected:` compiles and never
// matches, `case recognition.Rejected:` does.
type Verdict interface {
	verdict()
}

// Accepted is what the service may act on.
type Accepted struct {
	// Subject is a pseudonym of the person: stable for this service's sector, useless to any other.
	Subject string `json:"-"`
	// PreviousSubject is the pseudonym by the key version before, while records are moved; else empty.
	PreviousSubject string `json:"-"`
	// SubjectType is a person or an organisation.
	SubjectType SubjectType
	// Actor acts for the subject and presented this; nil: the subject itself. Never to be taken for the subject.
	Actor *Actor `json:"-"`
	// Issuer is the issuer's entity identifier.
	Issuer string
	// IssuingProvince is the issuer's province: sh, js, zj or ah.
	IssuingProvince string
	// HouseholdProvince is where the household is registered at present, if the matter may know: sh, js, zj or ah;
	// elsewhere the province's six digits of GB/T 2260.
	HouseholdProvince string `json:"-"`
	// CredentialType is the credential's type (vct), or the assertion's.
	CredentialType string
	// Assurance is how surely the person was identified and authenticated.
	Assurance Assurance
	// Attributes are those that the matter may have, as JSON values.
	Attributes map[string]any `json:"-"`
	// PredicateAnswers are the answers to the request's predicates, in their order: whether each holds.
	PredicateAnswers []bool `json:"-"`
	// IssuedAt is when the issuer signed it; as with all times and spans here, zero: not said.
	IssuedAt time.Time
	// AuthenticatedAt is when the issuer last authenticated the person.
	AuthenticatedAt time.Time
	// ExpiresAt is when the credential expires.
	ExpiresAt time.Time
	// CredentialAge is the time since IssuedAt, at the decision.
	CredentialAge time.Duration
	// AuthenticationAge is the time since AuthenticatedAt, at the decision.
	AuthenticationAge time.Duration
	// EraseAt is until when the attributes may be kept. It is always there, as are Subject, Issuer, CredentialType and the
	// three levels of Assurance.
	EraseAt time.Time
	// HolderBound tells whether possession of the holder's key was proved; never so for an assertion.
	HolderBound bool
	// LegalBasis is what the law rests this on: a statutory duty or a consent.
	LegalBasis string
}

// Rejected means that the presentation is not accepted for this matter. Asking again with the same one is no use.
type Rejected struct {
	// Reason is the one reason; it has words for clerks and citizens.
	Reason Reason
}

// Indeterminate means that the gateway cannot tell now. The person is not to be turned away; never treat it as accepted.
type Indeterminate struct {
	// Reason is the one reason; it has words for clerks and citizens.
	Reason Reason
	// RetryAfter is when asking again may help; 0: not said.
	RetryAfter time.Duration
}

func (Accepted) verdict()      {}
func (Rejected) verdict()      {}
func (Indeterminate) verdict() {}

// Match calls the function for the verdict and gives what that gives. All three must be there; Match panics where one is
// not, whichever the verdict is, and where there is no verdict: look at the error first.
func Match[T any](
	verdict Verdict, accepted func(Accepted) T, rejected func(Rejected) T, indeterminate func(Indeterminate) T,
) T {
	if accepted == nil || rejected == nil || indeterminate == nil {
		panic("recognition: Match needs a function for each of the three verdicts")
	}
	switch verdict := verdict.(type) {
	case Accepted:
		return accepted(verdict)
	case Rejected:
		return rejected(verdict)
	case Indeterminate:
		return indeterminate(verdict)
	default:
		panic("recognition: there is no verdict; look at the error first")
	}
}

// SubjectType is what a credential is about: the contract's number.
type SubjectType int32

// The kinds of subject.
const (
	SubjectNatural = SubjectType(pb.SubjectType_SUBJECT_TYPE_NATURAL)
	SubjectLegal   = SubjectType(pb.SubjectType_SUBJECT_TYPE_LEGAL)
)

// String gives NATURAL, LEGAL, or UNRECOGNISED with the number.
func (t SubjectType) String() string {
	switch t {
	case SubjectNatural:
		return "NATURAL"
	case SubjectLegal:
		return "LEGAL"
	default:
		return fmt.Sprintf("UNRECOGNISED(%d)", int32(t))
	}
}

// Assurance has three independent levels; see the agreement.
type Assurance struct {
	// Identity is how surely it is this person: 1 to 3.
	Identity int
	// Authenticator is how strong the log-in was: 1 to 3.
	Authenticator int
	// Federation is how well the hand-over is protected: 1 to 3.
	Federation int
	// ACR is the issuer's own name for the level.
	ACR string
	// Level is the overall one by the agreement's scale: 1 and up; 0: below the lowest.
	Level int
}

// Actor acts for the subject: a guardian, an agent, a lawyer, a legal representative.
type Actor struct {
	// Subject is a pseudonym of that person.
	Subject string `json:"-"`
	// PreviousSubject is the pseudonym by the key version before, while records are moved; else empty.
	PreviousSubject string `json:"-"`
	// Relationship is one of the agreement's: guardian, agent, lawyer, legal_representative.
	Relationship string
	// Attributes are that person's which the matter may have, as JSON values.
	Attributes map[string]any `json:"-"`
}

// TrustBasis says which trust data a decision rests on.
type TrustBasis struct {
	// CharterVersion is the version of the charter.
	CharterVersion int64
	// ViewID identifies the trust view.
	ViewID string
	// Age is the time since a quorum of anchors last confirmed it.
	Age time.Duration
	// Stale tells that it is past its freshness and served within the grace that the agreement allows.
	Stale bool
}

// StatusBasis says which status data a decision rests on.
type StatusBasis struct {
	// List is the status list.
	List string
	// IssuedAt is when the issuer signed it.
	IssuedAt time.Time
	// Age is the time since then.
	Age time.Duration
}

// decisionOf reads an answer to a request with so many predicates.
func decisionOf(answer *pb.VerifyCredentialResponse, requestID string, predicates int) (Decision, error) {
	var times times
	decision := Decision{
		VerificationID: answer.GetVerificationId(),
		DecidedAt:      times.of(answer.GetVerifyTime()),
		Repeated:       answer.GetRepeated(),
		NextStep:       NextStep(answer.GetNextStep()),
		Receipt:        answer.GetReceipt(),
		RequestID:      requestID,
		TrustBasis: TrustBasis{
			CharterVersion: answer.GetTrustBasis().GetCharterVersion(),
			ViewID:         answer.GetTrustBasis().GetViewId(),
			Age:            answer.GetTrustBasis().GetAge().AsDuration(),
			Stale:          answer.GetTrustBasis().GetStale(),
		},
	}
	if _, known := nextStepWords[decision.NextStep]; !known {
		decision.NextStep = NextStepCallSupport
	}
	if basis := answer.GetStatusBasis(); basis != nil {
		decision.StatusBasis = &StatusBasis{basis.GetList(), times.of(basis.GetIssueTime()), basis.GetAge().AsDuration()}
	}
	if decision.VerificationID == "" || decision.DecidedAt.IsZero() {
		return Decision{}, damaged(requestID, "a decision without its number or its time")
	}
	if times.wrong {
		return Decision{}, damaged(requestID, "a time that is none")
	}
	switch verdict := answer.GetVerdict().(type) {
	case *pb.VerifyCredentialResponse_Accepted:
		accepted, err := acceptedOf(verdict.Accepted, requestID, predicates)
		if err != nil {
			return Decision{}, err
		}
		decision.Verdict = accepted
	case *pb.VerifyCredentialResponse_Rejected:
		decision.Verdict = Rejected{Reason(verdict.Rejected.GetReason())}
	case *pb.VerifyCredentialResponse_Indeterminate:
		decision.Verdict = Indeterminate{
			Reason(verdict.Indeterminate.GetReason()), max(0, verdict.Indeterminate.GetRetryAfter().AsDuration()),
		}
	default:
		return Decision{}, damaged(requestID, "no verdict, or of a kind that is not known here")
	}
	return decision, nil
}

// acceptedOf takes nothing for an acceptance that does not say of whom, by whom, how surely and until when.
func acceptedOf(message *pb.Acceptance, requestID string, predicates int) (Accepted, error) {
	var times times
	if len(message.GetPredicateAnswers()) != predicates {
		return Accepted{}, damaged(requestID, "not as many answers as predicates")
	}
	var answers []bool
	for _, answer := range message.GetPredicateAnswers() {
		switch answer {
		case pb.PredicateAnswer_PREDICATE_ANSWER_YES:
			answers = append(answers, true)
		case pb.PredicateAnswer_PREDICATE_ANSWER_NO:
			answers = append(answers, false)
		default:
			return Accepted{}, damaged(requestID, "a predicate without an answer")
		}
	}
	accepted := Accepted{
		Subject:           message.GetSubject(),
		PreviousSubject:   message.GetPreviousSubject(),
		SubjectType:       SubjectType(message.GetSubjectType()),
		Issuer:            message.GetIssuer(),
		IssuingProvince:   message.GetIssuingProvince(),
		HouseholdProvince: message.GetHouseholdProvince(),
		CredentialType:    message.GetCredentialType(),
		Assurance: Assurance{
			Identity:      int(message.GetAssurance().GetIdentity()),
			Authenticator: int(message.GetAssurance().GetAuthenticator()),
			Federation:    int(message.GetAssurance().GetFederation()),
			ACR:           message.GetAssurance().GetAcr(),
			Level:         int(message.GetAssurance().GetLevel()),
		},
		Attributes:        message.GetAttributes().AsMap(),
		PredicateAnswers:  answers,
		IssuedAt:          times.of(message.GetIssueTime()),
		AuthenticatedAt:   times.of(message.GetAuthenticationTime()),
		ExpiresAt:         times.of(message.GetExpireTime()),
		CredentialAge:     message.GetCredentialAge().AsDuration(),
		AuthenticationAge: message.GetAuthenticationAge().AsDuration(),
		EraseAt:           times.of(message.GetEraseTime()),
		HolderBound:       message.GetHolderBound(),
		LegalBasis:        message.GetLegalBasis(),
	}
	if actor := message.GetActor(); actor != nil {
		accepted.Actor = &Actor{
			Subject:         actor.GetSubject(),
			PreviousSubject: actor.GetPreviousSubject(),
			Relationship:    actor.GetRelationship(),
			Attributes:      actor.GetAttributes().AsMap(),
		}
	}
	assurance := accepted.Assurance
	for _, each := range []struct {
		missing bool
		what    string
	}{
		{accepted.Subject == "", "an acceptance without a subject"},
		{accepted.Issuer == "", "an acceptance without an issuer"},
		{accepted.CredentialType == "", "an acceptance without a type of credential"},
		{
			min(assurance.Identity, assurance.Authenticator, assurance.Federation) < 1 || assurance.Level < 0,
			"an acceptance without levels of assurance",
		},
		{accepted.Actor != nil && accepted.Actor.Subject == "", "an actor without a subject"},
		{times.wrong, "a time that is none"},
		{accepted.EraseAt.IsZero(), "an acceptance that does not say until when it may be kept"},
	} {
		if each.missing {
			return Accepted{}, damaged(requestID, each.what)
		}
	}
	return accepted, nil
}

// times reads the times of an answer. wrong: one of them is none, because it is not of the years 1 to 9999.
type times struct{ wrong bool }

// of gives the zero time for one that was not said.
func (t *times) of(message *timestamppb.Timestamp) time.Time {
	switch {
	case message == nil:
		return time.Time{}
	case !message.IsValid():
		t.wrong = true
		return time.Time{}
	default:
		return message.AsTime()
	}
}

// What follows is how things print, with every verb of fmt, and in slog: by name, never by what is personal or secret.
// Loggers that write JSON instead are kept from it by the fields' tags.

// Format prints the issuing province and the level, and nothing of the person.
func (a Accepted) Format(out fmt.State, _ rune) { _, _ = io.WriteString(out, a.inShort()) }

// LogValue logs what Format prints.
func (a Accepted) LogValue() slog.Value { return slog.StringValue(a.inShort()) }

func (a Accepted) inShort() string {
	return fmt.Sprintf("Accepted{province: %s, level: %d}", a.IssuingProvince, a.Assurance.Level)
}

// Format prints the relationship, and nothing of the person.
func (a Actor) Format(out fmt.State, _ rune) { _, _ = io.WriteString(out, a.inShort()) }

// LogValue logs what Format prints.
func (a Actor) LogValue() slog.Value { return slog.StringValue(a.inShort()) }

func (a Actor) inShort() string { return fmt.Sprintf("Actor{%s}", a.Relationship) }

// Format prints verdict, next step and the references, and whether it was given before.
func (d Decision) Format(out fmt.State, _ rune) { _, _ = io.WriteString(out, d.inShort()) }

// LogValue logs what Format prints.
func (d Decision) LogValue() slog.Value { return slog.StringValue(d.inShort()) }

func (d Decision) inShort() string {
	repeated := ""
	if d.Repeated {
		repeated = ", repeated"
	}
	return fmt.Sprintf(
		"Decision{%v, next: %v, verification: %s, request: %s%s}",
		d.Verdict, d.NextStep, d.VerificationID, d.RequestID, repeated,
	)
}

// String gives the reason.
func (r Rejected) String() string { return fmt.Sprintf("Rejected{%v}", r.Reason) }

// String gives the reason, and when to ask again.
func (i Indeterminate) String() string {
	return fmt.Sprintf("Indeterminate{%v, retry after %v}", i.Reason, i.RetryAfter)
}
