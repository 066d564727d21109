package recognition

import (
	"context"
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "recognition.example/client/recognitionv1"
)

// What a gateway takes in one batch.
const (
	maxBatchItems = 1_000
	maxBatchBytes = 4 * 1024 * 1024
)

// Outcome is what became of one request of many: a Decision, or an [Error]. Where Err is not nil there is no decision, and
// the Decision has no verdict.
type Outcome struct {
	Decision Decision
	Err      error
}

// VerifyAll asks for verdicts on any number of presentations, a thousand in a call, one call after another, and gives
// the outcomes in the order of the requests. What is wrong with one spoils no other. Where a call fails as a whole, each
// request in it has that error, and the next call is made all the same; end the context to end them all. Each call has
// the batch deadline.
//
// Give each request a request id of its own, or none. The same presentation twice in one call is accepted once; in two
// calls under the same request id it is the same question twice, whose answers are one decision, [Decision.Repeated] the
// second time. What has an error may have been decided: ask again under the request id of the error.
//
// VerifyAll serves what nobody waits for at a counter; for more than some
// thousands, or to go on while answers come, use Stream.
func (c *Client) VerifyAll(ctx context.Context, requests []VerifyRequest) []Outcome {
	outcomes := make([]Outcome, len(requests))
	var batch pb.BatchVerifyCredentialsRequest
	var places []int // of the batch's items among the requests
	size := 0
	send := func() {
		if len(places) == 0 {
			return
		}
		for number, outcome := range c.verifyBatch(ctx, &batch, requests, places) {
			outcomes[places[number]] = outcome
		}
		batch.Items, places, size = nil, nil, 0
	}
	for place, request := range requests {
		message, err := request.message()
		if err != nil {
			outcomes[place].Err = err
			continue
		}
		itemSize := sizeInside(message)
		if len(places) == maxBatchItems || size+itemSize > maxBatchBytes {
			send()
		}
		batch.Items, places, size = append(batch.Items, message), append(places, place), size+itemSize
	}
	send()
	return outcomes
}

func (c *Client) verifyBatch(
	ctx context.Context, batch *pb.BatchVerifyCredentialsRequest, requests []VerifyRequest, places []int,
) []Outcome {
	answer, err := call(ctx, c, c.batchDeadline, "", c.verification.BatchVerifyCredentials, batch)
	if err == nil && len(answer.GetResults()) != len(batch.GetItems()) {
		err = damaged("", "not as many results as items")
	}
	outcomes := make([]Outcome, len(places))
	for number, item := range batch.GetItems() {
		if err != nil {
			outcomes[number].Err = withRequestID(err, item.GetRequestId())
			continue
		}
		predicates := len(requests[places[number]].Predicates)
		outcomes[number] = outcomeOf(answer.GetResults()[number], item.GetRequestId(), predicates)
	}
	return outcomes
}

// result is what became of an item, of a batch or of a stream.
type result interface {
	GetResponse() *pb.VerifyCredentialResponse
	GetError() *pb.VerificationError
}

func outcomeOf(result result, requestID string, predicates int) Outcome {
	if response := result.GetResponse(); response != nil {
		decision, err := decisionOf(response, requestID, predicates)
		return Outcome{decision, err}
	}
	if failed := result.GetError(); failed != nil {
		return Outcome{Err: itemError(failed, requestID)}
	}
	return Outcome{Err: damaged(requestID, "a result without decision or error")}
}

// withRequestID makes of the error of a whole call that of one request in it.
func withRequestID(err error, requestID string) error {
	var failed Error
	if !errors.As(err, &failed) {
		return err
	}
	own := failed.About()
	own.RequestID = requestID
	return own.kind()
}

// sizeInside is how much longer a message gets by an item.
func sizeInside(item proto.Message) int {
	return protowire.SizeTag(1) + protowire.SizeBytes(proto.Size(item))
}
