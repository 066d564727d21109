package recognition

import "fmt"

// Language is a language that there are words in.
type Language string

// The languages.
const (
	Chinese Language = "zh"
	English Language = "en"
)

// Text says in plain words what a reason means and what to do next.
type Text struct {
	// What happened, for a clerk to read out.
	What string
	// NextStep says what to do now.
	NextStep string
}

// words are a name in the contract, and what is said of it.
type words[T any] struct {
	name   string
	zh, en T
}

func (w words[T]) in(language Language) T {
	if language == Chinese {
		return w.zh
	}
	return w.en
}

// Reason is why a presentation was not accepted, or why the gateway could not tell: the contract's number. A newer
// gateway may send one that this client does not know; Recognised tells.
type Reason int32

// Recognised tells whether this client knows the reason.
func (r Reason) Recognised() bool {
	_, known := reasonWords[r]
	return known
}

// String gives the contract's name of the reason, such as KEY_UNKNOWN; UNRECOGNISED(999) for one not known here, and
// nothing for 0, which is no reason.
func (r Reason) String() string {
	if r == 0 {
		return ""
	}
	if known, ok := reasonWords[r]; ok {
		return known.name
	}
	return fmt.Sprintf("UNRECOGNISED(%d)", int32(r))
}

// Text gives the words for clerks and citizens; English for a language that there are no words in.
func (r Reason) Text(language Language) Text {
	if known, ok := reasonWords[r]; ok {
		return known.in(language)
	}
	what := words[string]{
		zh: "网关给出的原因是本程序尚不认识的。",
		en: "The gateway gave a reason that this program does not know yet.",
	}
	return Text{what.in(language), NextStepCallSupport.Text(language)}
}

// NextStep is what whoever asked should do next, whatever the verdict. One that this client does not know is read as
// NextStepCallSupport.
type NextStep int32

// String gives the contract's name of the step, such as PRESENT_AGAIN.
func (s NextStep) String() string {
	return s.known().name
}

// Text says it in words; in English for a language that there are no words in.
func (s NextStep) Text(language Language) string {
	return s.known().in(language)
}

func (s NextStep) known() words[string] {
	if known, ok := nextStepWords[s]; ok {
		return known
	}
	return nextStepWords[NextStepCallSupport]
}
