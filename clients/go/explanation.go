package recognition

import (
	"strings"
	"time"

	pb "recognition.example/client/recognitionv1"
)

// Explanation tells how a decision came about. Never an attribute's value.
type Explanation struct {
	// VerificationID names the decision.
	VerificationID string
	// DecidedAt is when; zero: not said.
	DecidedAt time.Time
	// Service is the relying service that asked.
	Service string
	// Matter is what it asked for.
	Matter string
	// Verdict is accepted, rejected or indeterminate, for people to read. To act on a verdict, use that of the Decision.
	Verdict string
	// Reason is why, unless accepted.
	Reason Reason
	// Steps are the steps in the order in which they ran.
	Steps []Step
}

// Step is one step of a verification.
type Step struct {
	// Number is 1 to 11.
	Number int
	// Title says what the step does.
	Title Localized
	// Outcome is PASSED, FAILED, UNDECIDED, NOT_REACHED or NOT_NEEDED.
	Outcome string
	// Inputs are what it looked at, by name.
	Inputs map[string]string
	// Reason is why, where this step decided.
	Reason Reason
	// Meaning is what that means, where this step decided.
	Meaning Localized
	// Fix is what would mend it, for an administrator or developer, where this step decided.
	Fix Localized
}

// Localized is the same in two languages.
type Localized struct {
	Chinese string
	English string
}

func explanationOf(message *pb.ExplainVerificationResponse) (Explanation, error) {
	var times times
	explanation := Explanation{
		VerificationID: message.GetVerificationId(),
		DecidedAt:      times.of(message.GetVerifyTime()),
		Service:        message.GetService(),
		Matter:         message.GetMatter(),
		Verdict:        message.GetVerdict(),
		Reason:         Reason(message.GetReason()),
	}
	for _, step := range message.GetSteps() {
		explanation.Steps = append(explanation.Steps, Step{
			Number:  int(step.GetNumber()),
			Title:   localizedOf(step.GetTitle()),
			Outcome: strings.TrimPrefix(step.GetOutcome().String(), "STEP_OUTCOME_"),
			Inputs:  step.GetInputs(),
			Reason:  Reason(step.GetReason()),
			Meaning: localizedOf(step.GetMeaning()),
			Fix:     localizedOf(step.GetFix()),
		})
	}
	if times.wrong {
		return Explanation{}, damaged("", "a time that is none")
	}
	return explanation, nil
}

func localizedOf(message *pb.LocalizedText) Localized {
	return Localized{message.GetZh(), message.GetEn()}
}
