package recognition

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "recognition.example/client/recognitionv1"
)

// maxRequestBytes is the largest request for one verdict that a gateway takes.
const maxRequestBytes = 256 * 1024

// VerifyRequest asks for a verdict on one presentation. Matter and Presentation are always needed.
type VerifyRequest struct {
	// Matter is the code of the matter that the answer is for.
	Matter string
	// Presentation is what the person handed over: an SD-JWT VC with key binding, or an identity assertion. At most 64 KiB:
	// gateways reject a longer one as MALFORMED, and a request of more than 256 KiB is not sent at all.
	Presentation string `json:"-"`
	// Nonce is that of the challenge which a credential answers; empty for an assertion.
	Nonce string `json:"-"`
	// RequestID names the question, at most 64 characters of A-Z a-z 0-9 . _ - ; it is written to the gateway's log, and
	// must say nothing about the person. Empty: the client makes one at random, which is best. Asking once more with the
	// same one, and all else the same, is the same question, and may be answered with the same acceptance once more. So it
	// is made anew for each question and kept for its tries: never the number of a case, nor anything that whoever
	// presents can guess or bring. Keep such numbers beside the VerificationID.
	RequestID string
	// ConsentID is the consent that this rests on, where the matter rests on consent.
	ConsentID string
	// Predicates are questions to be answered yes or no instead of handing out the attribute; at most 8.
	Predicates []Predicate `json:"-"`
	// Terminal is the caller's name of the counter or operator that asks, of the same form as RequestID; may be empty.
	Terminal string
	// WantReceipt asks for a signed receipt of the decision.
	WantReceipt bool
}

// Format prints the matter and the references, and nothing of the person.
func (r VerifyRequest) Format(out fmt.State, _ rune) { _, _ = io.WriteString(out, r.inShort()) }

// LogValue logs what Format prints.
func (r VerifyRequest) LogValue() slog.Value { return slog.StringValue(r.inShort()) }

func (r VerifyRequest) inShort() string {
	return fmt.Sprintf("VerifyRequest{matter: %s, request: %s}", r.Matter, r.RequestID)
}

// Predicate is a question about an attribute: [AgeAtLeast], [HouseholdIn] or [ClaimMatches].
type Predicate interface {
	predicate() *pb.Predicate
}

// AgeAtLeast asks whether the person is at least so many years old today: 1 to 150.
type AgeAtLeast int

// HouseholdIn asks whether the household is registered in one of these provinces: sh, js, zj, ah.
type HouseholdIn []string

// ClaimMatches asks whether a claim is exactly this, character by character.
type ClaimMatches struct {
	// Claim is the claim's name: name, id_number, or another that the matter lets be compared.
	Claim string
	// Value is what it is compared with.
	Value string `json:"-"`
}

func (p AgeAtLeast) predicate() *pb.Predicate {
	return &pb.Predicate{Question: &pb.Predicate_AgeAtLeast{AgeAtLeast: int32(p)}}
}

func (p HouseholdIn) predicate() *pb.Predicate {
	return &pb.Predicate{Question: &pb.Predicate_HouseholdIn{HouseholdIn: &pb.HouseholdIn{Provinces: p}}}
}

func (p ClaimMatches) predicate() *pb.Predicate {
	question := &pb.ClaimMatch{Claim: p.Claim, Value: p.Value}
	return &pb.Predicate{Question: &pb.Predicate_ClaimMatches{ClaimMatches: question}}
}

// Format prints the claim's name, and not what it is compared with.
func (p ClaimMatches) Format(out fmt.State, _ rune) { _, _ = io.WriteString(out, p.inShort()) }

// LogValue logs what Format prints.
func (p ClaimMatches) LogValue() slog.Value { return slog.StringValue(p.inShort()) }

func (p ClaimMatches) inShort() string { return fmt.Sprintf("ClaimMatches{%s}", p.Claim) }

// message writes the request, and gives it an id if it has none. What could not be sent at all, or would have a caller's
// mistake put on record as a rejection, is told by its field, so that one request spoils no others that travel with it.
func (r VerifyRequest) message() (*pb.VerifyCredentialRequest, error) {
	if r.RequestID == "" {
		r.RequestID = newRequestID()
	}
	message := &pb.VerifyCredentialRequest{
		Matter:       r.Matter,
		Presentation: r.Presentation,
		Nonce:        r.Nonce,
		RequestId:    r.RequestID,
		ConsentId:    r.ConsentID,
		Terminal:     r.Terminal,
		WantReceipt:  r.WantReceipt,
	}
	if err := checkTexts("", text{"request_id", r.RequestID, true}); err != nil {
		return nil, err
	}
	if err := checkTexts(r.RequestID,
		text{"matter", r.Matter, true}, text{"presentation", r.Presentation, true}, text{"nonce", r.Nonce, false},
		text{"consent_id", r.ConsentID, false}, text{"terminal", r.Terminal, false},
	); err != nil {
		return nil, err
	}
	for number, each := range r.Predicates {
		field := fmt.Sprintf("predicates[%d]", number)
		switch each := each.(type) {
		case AgeAtLeast:
			if each < math.MinInt32 || each > math.MaxInt32 {
				return nil, invalid(r.RequestID, field+".age_at_least", "is no age")
			}
		case HouseholdIn, ClaimMatches:
		default: // none, a pointer, or something around one
			return nil, invalid(r.RequestID, field, "is no AgeAtLeast, HouseholdIn or ClaimMatches")
		}
		predicate := each.predicate()
		if _, err := proto.Marshal(predicate); err != nil {
			return nil, invalid(r.RequestID, field, "is not UTF-8")
		}
		message.Predicates = append(message.Predicates, predicate)
	}
	if proto.Size(message) > maxRequestBytes {
		return nil, invalid(r.RequestID, "presentation", "makes a request of more than 256 KiB")
	}
	return message, nil
}

// text is what a field of a request says.
type text struct {
	field, value string
	needed       bool
}

// checkTexts tells the first that cannot be sent.
func checkTexts(requestID string, texts ...text) error {
	for _, each := range texts {
		switch {
		case each.needed && each.value == "":
			return invalid(requestID, each.field, "is missing")
		case !utf8.ValidString(each.value):
			return invalid(requestID, each.field, "is not UTF-8")
		}
	}
	return nil
}

func invalid(requestID, field, what string) error {
	return Details{
		Code:        codes.InvalidArgument,
		Reason:      "INVALID_REQUEST",
		Field:       field,
		RequestID:   requestID,
		description: field + " " + what,
	}.kind()
}

// newRequestID makes 22 characters at random, of which the first is never a hyphen: tools would take it for an option.
func newRequestID() string {
	var random [16]byte
	for {
		_, _ = rand.Read(random[:]) // never fails
		if id := base64.RawURLEncoding.EncodeToString(random[:]); id[0] != '-' {
			return id
		}
	}
}
