package recognition_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	recognition "recognition.example/client"
	pb "recognition.example/client/recognitionv1"
)

// numbered are requests that a fake can tell apart.
func numbered(count int) []recognition.VerifyRequest {
	requests := make([]recognition.VerifyRequest, count)
	for number := range requests {
		requests[number] = recognition.VerifyRequest{Matter: "KY-LA", Presentation: fmt.Sprint(number)}
	}
	return requests
}

func decide(request *pb.VerifyCredentialRequest) *pb.VerificationResult {
	return &pb.VerificationResult{Result: &pb.VerificationResult_Response{Response: accepted(request.GetPresentation())}}
}

func TestABatchIsSplitAndItsOutcomesAreInOrder(t *testing.T) {
	gateway := newFake(t)
	var sizes []int
	gateway.batch = func(
		_ context.Context, batch *pb.BatchVerifyCredentialsRequest,
	) (*pb.BatchVerifyCredentialsResponse, error) {
		if len(batch.GetItems()) > 1_000 || proto.Size(batch) > 4<<20 {
			t.Errorf("a batch of %d items and %d bytes", len(batch.GetItems()), proto.Size(batch))
		}
		sizes = append(sizes, len(batch.GetItems()))
		answer := &pb.BatchVerifyCredentialsResponse{}
		for _, item := range batch.GetItems() {
			answer.Results = append(answer.Results, decide(item))
		}
		return answer, nil
	}
	client := gateway.client()
	requests := numbered(2_100)
	requests[7].Matter = "\xff"
	outcomes := client.VerifyAll(t.Context(), requests)
	if fmt.Sprint(sizes) != "[1000 1000 99]" || len(outcomes) != len(requests) {
		t.Errorf("batches of %v", sizes)
	}
	for number, outcome := range outcomes {
		if number == 7 {
			var invalid *recognition.InvalidRequest
			if !errors.As(outcome.Err, &invalid) || invalid.Field != "matter" {
				t.Errorf("got %v", outcome)
			}
		} else if outcome.Err != nil || outcome.Decision.VerificationID != fmt.Sprint(number) {
			t.Fatalf("%d has %v", number, outcome)
		}
	}
	if outcomes[0].Decision.RequestID == outcomes[1].Decision.RequestID {
		t.Error("two requests share an id")
	}

	sizes = nil
	large := numbered(100)
	for number := range large {
		large[number].Presentation = strings.Repeat("x", 65_536)
	}
	client.VerifyAll(t.Context(), large)
	if fmt.Sprint(sizes) != "[63 37]" {
		t.Errorf("batches of %v", sizes)
	}
	if got := client.VerifyAll(t.Context(), nil); len(got) != 0 {
		t.Errorf("got %v for nothing", got)
	}
}

func TestWhatIsWrongWithOneItemSpoilsNoOther(t *testing.T) {
	gateway := newFake(t)
	failed := func(said *pb.VerificationError) *pb.VerificationResult {
		return &pb.VerificationResult{Result: &pb.VerificationResult_Error{Error: said}}
	}
	gateway.batch = func(
		_ context.Context, batch *pb.BatchVerifyCredentialsRequest,
	) (*pb.BatchVerifyCredentialsResponse, error) {
		return &pb.BatchVerifyCredentialsResponse{Results: []*pb.VerificationResult{
			failed(&pb.VerificationError{Code: 3, Reason: "INVALID_REQUEST", Field: "nonce"}),
			failed(&pb.VerificationError{Code: 8, Reason: "OVERLOADED", RetryDelay: durationpb.New(time.Second)}),
			failed(&pb.VerificationError{Code: 7}),
			failed(&pb.VerificationError{Code: 14}),
			failed(&pb.VerificationError{Code: 0}),
			failed(&pb.VerificationError{Code: 1}),
			failed(&pb.VerificationError{Code: 4}),
			failed(&pb.VerificationError{Code: 5}),
			failed(&pb.VerificationError{Code: 15, Reason: "DAMAGED_ANSWER"}),
			failed(&pb.VerificationError{Code: 17}),
			failed(&pb.VerificationError{Code: -1}),
			{},
			{Result: &pb.VerificationResult_Response{Response: &pb.VerifyCredentialResponse{}}},
			decide(batch.GetItems()[13]),
		}}, nil
	}
	outcomes := gateway.client().VerifyAll(t.Context(), numbered(14))
	for number, target := range []any{
		new(*recognition.InvalidRequest), new(*recognition.Overloaded), new(*recognition.NotPermitted),
		new(*recognition.Unavailable), new(*recognition.Internal), new(*recognition.Unavailable),
		new(*recognition.DeadlineExceeded), new(*recognition.Refused), new(*recognition.Internal),
		new(*recognition.Internal), new(*recognition.Internal),
		new(*recognition.DamagedAnswer), new(*recognition.DamagedAnswer),
	} {
		var failed recognition.Error
		if !errors.As(outcomes[number].Err, target) || outcomes[number].Decision.Verdict != nil {
			t.Errorf("%d has %v", number, outcomes[number])
		} else if !errors.As(outcomes[number].Err, &failed) || failed.About().RequestID == "" {
			t.Errorf("%d has no request id", number)
		}
	}
	if outcomes[13].Err != nil || short(outcomes[13].Decision.Verdict) != "accepted" {
		t.Errorf("13 has %v", outcomes[13])
	}
}

func TestABatchThatFailsAsAWholeFailsEachOfItsRequests(t *testing.T) {
	gateway := newFake(t)
	calls := 0
	gateway.batch = func(
		_ context.Context, batch *pb.BatchVerifyCredentialsRequest,
	) (*pb.BatchVerifyCredentialsResponse, error) {
		if calls++; calls == 1 {
			return nil, statusError(codes.Internal, "reference x")
		}
		return &pb.BatchVerifyCredentialsResponse{Results: []*pb.VerificationResult{decide(batch.GetItems()[0])}}, nil
	}
	outcomes := gateway.client().VerifyAll(t.Context(), numbered(1_002))
	var internal *recognition.Internal
	var short *recognition.DamagedAnswer
	if !errors.As(outcomes[0].Err, &internal) || !errors.As(outcomes[999].Err, &internal) {
		t.Errorf("got %v", outcomes[0])
	}
	if !errors.As(outcomes[1_000].Err, &short) || !errors.As(outcomes[1_001].Err, &short) {
		t.Errorf("got %v for an answer that is too short", outcomes[1_000])
	}
	if outcomes[0].Err.Error() == outcomes[1].Err.Error() {
		t.Error("two requests share an id")
	}
}

// answering answers every item as it comes, and each message in one, backwards.
func answering(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(answersTo(message)); err != nil {
			return err
		}
	}
}

func answersTo(message *pb.StreamVerifyCredentialsRequest) *pb.StreamVerifyCredentialsResponse {
	answer := &pb.StreamVerifyCredentialsResponse{}
	for _, item := range message.GetItems() {
		response := accepted(item.GetRequest().GetPresentation())
		answer.Results = append(answer.Results, &pb.StreamResult{
			ItemId: item.GetItemId(), Result: &pb.StreamResult_Response{Response: response},
		})
	}
	return answer
}

// source gives requests, and counts how many were taken.
func source(count int, taken *atomic.Int32) iter.Seq[recognition.VerifyRequest] {
	return func(yield func(recognition.VerifyRequest) bool) {
		for _, each := range numbered(count) {
			taken.Add(1)
			if !yield(each) {
				return
			}
		}
	}
}

// collect checks that each request has one outcome, its own, and counts the accepted.
func collect(t *testing.T, count int, outcomes iter.Seq2[int, recognition.Outcome]) (accepted int) {
	t.Helper()
	seen := make([]bool, count)
	for number, outcome := range outcomes {
		if seen[number] {
			t.Fatalf("%d has two outcomes", number)
		}
		seen[number] = true
		if outcome.Err == nil {
			accepted++
			if outcome.Decision.VerificationID != fmt.Sprint(number) {
				t.Fatalf("%d has %v", number, outcome)
			}
		}
	}
	for number, was := range seen {
		if !was {
			t.Fatalf("%d has no outcome", number)
		}
	}
	return accepted
}

func TestAStreamGivesEachRequestItsOutcome(t *testing.T) {
	gateway := newFake(t)
	var messages, items atomic.Int32
	gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
		for {
			message, err := stream.Recv()
			if err != nil {
				return nil
			}
			messages.Add(1)
			items.Add(int32(len(message.GetItems())))
			if len(message.GetItems()) > 16 {
				t.Errorf("%d items in a message", len(message.GetItems()))
			}
			if err := stream.Send(answersTo(message)); err != nil {
				return err
			}
		}
	}
	var taken atomic.Int32
	if got := collect(t, 5_000, gateway.client().Stream(t.Context(), source(5_000, &taken))); got != 5_000 {
		t.Errorf("%d accepted", got)
	}
	if items.Load() != 5_000 || messages.Load() > 1_000 {
		t.Errorf("%d items in %d messages", items.Load(), messages.Load())
	}
	if got := collect(t, 0, gateway.client().Stream(t.Context(), source(0, &taken))); got != 0 {
		t.Errorf("%d of nothing", got)
	}
}

func TestASlowLoopMakesTheSourceWait(t *testing.T) {
	gateway := newFake(t)
	gateway.stream = answering
	var taken atomic.Int32
	handled := 0
	for range gateway.client().Stream(t.Context(), source(2_000, &taken)) {
		if under := int(taken.Load()) - handled; under > 256 {
			t.Fatalf("%d are under way", under)
		}
		if handled++; handled%250 == 0 {
			time.Sleep(5 * time.Millisecond) // gives the source every chance to run away
		}
	}
	if handled != 2_000 {
		t.Errorf("%d outcomes", handled)
	}
}

func TestALoopThatIsLeftEndsTheStream(t *testing.T) {
	gateway := newFake(t)
	ended := make(chan struct{})
	gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
		defer close(ended)
		return answering(stream)
	}
	var taken atomic.Int32
	for range gateway.client().Stream(t.Context(), source(1_000_000, &taken)) {
		break
	}
	<-ended
	if taken.Load() > 257 {
		t.Errorf("%d were taken", taken.Load())
	}
}

func TestWhatHasNoAnswerIsSentOnAnotherStream(t *testing.T) {
	gateway := newFake(t)
	ids := map[string]string{} // presentations by request id
	var mu sync.Mutex
	streams := 0
	gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
		mu.Lock()
		streams++
		mu.Unlock()
		for range 3 {
			message, err := stream.Recv()
			if err != nil {
				return nil
			}
			mu.Lock()
			for _, item := range message.GetItems() {
				id, presentation := item.GetRequest().GetRequestId(), item.GetRequest().GetPresentation()
				if before, again := ids[id]; again && before != presentation {
					t.Errorf("request id %s means two things", id)
				}
				ids[id] = presentation
			}
			mu.Unlock()
			if err := stream.Send(answersTo(message)); err != nil {
				return err
			}
		}
		_, _ = stream.Recv() // is lost
		return statusError(codes.Unavailable, "this connection has come to its age")
	}
	var taken atomic.Int32
	if got := collect(t, 300, gateway.client().Stream(t.Context(), source(300, &taken))); got != 300 {
		t.Errorf("%d accepted", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if streams < 3 || len(ids) != 300 {
		t.Errorf("%d request ids on %d streams", len(ids), streams)
	}
}

func TestAStreamThatOnlyFailsIsNotDrained(t *testing.T) {
	busy := func(delay time.Duration) error {
		return statusError(codes.ResourceExhausted, "no", &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
	}
	for name, each := range map[string]struct {
		sent   error
		target any
	}{
		"unavailable":         {statusError(codes.Unavailable, "no"), new(*recognition.Unavailable)},
		"not permitted":       {statusError(codes.PermissionDenied, "no"), new(*recognition.NotPermitted)},
		"without answers":     {nil, new(*recognition.DamagedAnswer)},
		"overloaded":          {busy(time.Millisecond), new(*recognition.Overloaded)},
		"overloaded for ever": {busy(math.MaxInt64), new(*recognition.Overloaded)},
	} {
		for _, count := range []int{20, 100_000} {
			t.Run(fmt.Sprint(name, count), func(t *testing.T) {
				gateway := newFake(t)
				gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
					_, _ = stream.Recv()
					return each.sent
				}
				var taken atomic.Int32
				seen := map[int]bool{}
				client := gateway.client(recognition.WithBatchDeadline(500 * time.Millisecond))
				for number, outcome := range client.Stream(t.Context(), source(count, &taken)) {
					if !errors.As(outcome.Err, each.target) || outcome.Decision.Verdict != nil || seen[number] {
						t.Errorf("%d has %v", number, outcome)
					}
					seen[number] = true
				}
				for number := range len(seen) {
					if !seen[number] {
						t.Errorf("%d has no outcome", number)
					}
				}
				if int(taken.Load()) != len(seen) || count <= 256 && len(seen) != count || len(seen) > 600 {
					t.Errorf("%d taken, %d outcomes", taken.Load(), len(seen))
				}
			})
		}
	}
}

func TestAStreamOutlivesAGatewayThatIsAway(t *testing.T) {
	gateway := newFake(t)
	gateway.stream = answering
	client := gateway.client()
	var taken atomic.Int32
	count := 0
	for _, outcome := range client.Stream(t.Context(), source(1_000, &taken)) {
		must(t, outcome.Err)
		if count++; count == 100 {
			gateway.server.Stop()
			// Away long enough for several streams to be lost.
			time.AfterFunc(time.Second, func() { gateway.serve(gateway.address) })
		}
	}
	if count != 1_000 {
		t.Errorf("%d accepted", count)
	}
}

func TestALoopThatIsSlowLosesNoPatience(t *testing.T) {
	gateway := newFake(t)
	var streams atomic.Int32
	gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
		message, err := stream.Recv()
		if err != nil {
			return nil
		}
		if streams.Add(1); stream.Send(answersTo(message)) != nil {
			return nil
		}
		_, _ = stream.Recv()
		return statusError(codes.Unavailable, "not now")
	}
	var taken atomic.Int32
	client := gateway.client(recognition.WithBatchDeadline(2 * time.Second))
	slow := true
	if got := collect(t, 60, func(yield func(int, recognition.Outcome) bool) {
		for number, outcome := range client.Stream(t.Context(), source(60, &taken)) {
			if slow {
				time.Sleep(2500 * time.Millisecond) // longer than the client waits for a gateway
				slow = false
			}
			if !yield(number, outcome) {
				return
			}
		}
	}); got != 60 {
		t.Errorf("%d accepted", got)
	}
}

func TestAnItemThatTheGatewayHasNoRoomForIsSentAgain(t *testing.T) {
	gateway := newFake(t)
	var mu sync.Mutex
	refused := map[string]int{}
	gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
		for {
			message, err := stream.Recv()
			if err != nil {
				return nil
			}
			answer := answersTo(message)
			mu.Lock()
			for number, item := range message.GetItems() {
				id := item.GetRequest().GetPresentation()
				if id == "3" || (id == "5" && refused[id] < 7) {
					refused[id]++
					answer.Results[number].Result = &pb.StreamResult_Error{Error: &pb.VerificationError{
						Code: 8, Reason: "CALLER_RATE_EXCEEDED", RetryDelay: durationpb.New(time.Millisecond),
					}}
				}
			}
			mu.Unlock()
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
	}
	var taken atomic.Int32
	got := map[int]error{}
	client := gateway.client(recognition.WithBatchDeadline(time.Second))
	for number, outcome := range client.Stream(t.Context(), source(40, &taken)) {
		got[number] = outcome.Err
	}
	var overloaded *recognition.Overloaded
	if !errors.As(got[3], &overloaded) || overloaded.Reason != "CALLER_RATE_EXCEEDED" || len(got) != 40 ||
		refused["3"] < 4 || got[5] != nil || refused["5"] != 7 {
		t.Errorf("got %v, %v; refused %v", got[3], got[5], refused)
	}
}

func TestPatienceIsRenewedByWhatWasAskedAlone(t *testing.T) {
	for name, each := range map[string]struct {
		answer func(*pb.StreamVerifyCredentialsRequest) *pb.StreamVerifyCredentialsResponse
		target any
		once   bool
	}{
		"empty answers": {
			func(*pb.StreamVerifyCredentialsRequest) *pb.StreamVerifyCredentialsResponse {
				return &pb.StreamVerifyCredentialsResponse{}
			},
			new(*recognition.DamagedAnswer), false,
		},
		"answers to nobody": {
			func(*pb.StreamVerifyCredentialsRequest) *pb.StreamVerifyCredentialsResponse {
				answer := &pb.StreamVerifyCredentialsResponse{}
				// Such as could be read as the number of an item.
				for _, id := range []string{"", "00", "+0", "０", "-1", "9", strings.Repeat("9", 5_000)} {
					answer.Results = append(answer.Results, &pb.StreamResult{
						ItemId: id, Result: &pb.StreamResult_Response{Response: accepted("0")},
					})
				}
				return answer
			},
			new(*recognition.DamagedAnswer), false,
		},
		"refusals": {
			func(asked *pb.StreamVerifyCredentialsRequest) *pb.StreamVerifyCredentialsResponse {
				return refusing(asked, durationpb.New(time.Millisecond))
			},
			new(*recognition.Overloaded), true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := newFake(t)
			gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
				message, err := stream.Recv()
				for err == nil {
					if err = stream.Send(each.answer(message)); err == nil && each.once {
						message, err = stream.Recv()
					}
				}
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			var taken atomic.Int32
			client := gateway.client(recognition.WithBatchDeadline(500 * time.Millisecond))
			begun, count := time.Now(), 0
			for _, outcome := range client.Stream(t.Context(), source(5, &taken)) {
				var failed recognition.Error
				if !errors.As(outcome.Err, each.target) || !errors.As(outcome.Err, &failed) || failed.About().RequestID == "" {
					t.Errorf("got %v", outcome)
				}
				count++
			}
			if took := time.Since(begun); count != 5 || took > 5*time.Second {
				t.Errorf("%d outcomes after %v", count, took)
			}
		})
	}
}

// refusing has no room for anything.
func refusing(asked *pb.StreamVerifyCredentialsRequest, delay *durationpb.Duration) *pb.StreamVerifyCredentialsResponse {
	answer := &pb.StreamVerifyCredentialsResponse{}
	for _, item := range asked.GetItems() {
		answer.Results = append(answer.Results, &pb.StreamResult{
			ItemId: item.GetItemId(), Result: &pb.StreamResult_Error{Error: &pb.VerificationError{
				Code: 8, Reason: "OVERLOADED", RetryDelay: delay,
			}},
		})
	}
	return answer
}

func TestWhatIsToWaitForTooLongFailsAtOnce(t *testing.T) {
	for _, delay := range []*durationpb.Duration{
		{Seconds: 3_600}, {Seconds: math.MaxInt64 / 1_000_000_000}, {Seconds: math.MaxInt64, Nanos: math.MaxInt32},
	} {
		gateway := newFake(t)
		gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
			for {
				message, err := stream.Recv()
				if err != nil {
					return nil
				}
				answer := answersTo(message)
				answer.Results[0] = refusing(message, delay).GetResults()[0]
				if err := stream.Send(answer); err != nil {
					return err
				}
			}
		}
		var taken atomic.Int32
		begun, seen := time.Now(), map[int]bool{}
		for number, outcome := range gateway.client().Stream(t.Context(), source(100_000, &taken)) {
			var overloaded *recognition.Overloaded
			if outcome.Err != nil && (!errors.As(outcome.Err, &overloaded) || overloaded.RetryAfter != delay.AsDuration() ||
				overloaded.RequestID == "") || seen[number] {
				t.Fatalf("got %v", outcome)
			}
			seen[number] = true
		}
		if took := time.Since(begun); took > 10*time.Second || int(taken.Load()) != len(seen) || len(seen) > 1_000 {
			t.Errorf("%d taken, %d outcomes after %v", taken.Load(), len(seen), took)
		}
	}
}

func TestADelayThatIsNoneIsShort(t *testing.T) {
	for _, delay := range []*durationpb.Duration{nil, {}, {Seconds: -3_600}, {Seconds: math.MinInt64}} {
		gateway := newFake(t)
		var refused atomic.Bool
		gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
			for {
				message, err := stream.Recv()
				if err != nil {
					return nil
				}
				answer := answersTo(message)
				if refused.CompareAndSwap(false, true) {
					answer = refusing(message, delay)
				}
				if err := stream.Send(answer); err != nil {
					return err
				}
			}
		}
		var taken atomic.Int32
		begun := time.Now()
		if got := collect(t, 20, gateway.client().Stream(t.Context(), source(20, &taken))); got != 20 {
			t.Errorf("%d accepted", got)
		}
		if took := time.Since(begun); took < 100*time.Millisecond || took > 10*time.Second {
			t.Errorf("%v: took %v", delay, took)
		}
	}
}

func TestASlowLoopMakesTheGatewayWait(t *testing.T) {
	gateway := newFake(t)
	var sent atomic.Int32
	flooding := make(chan struct{})
	gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
		message, err := stream.Recv()
		if err != nil {
			return nil
		}
		if err := stream.Send(answersTo(message)); err != nil {
			return err
		}
		close(flooding)
		answer := &pb.StreamVerifyCredentialsResponse{Results: []*pb.StreamResult{{ItemId: strings.Repeat("x", 1<<20)}}}
		for stream.Send(answer) == nil {
			sent.Add(1)
		}
		return nil
	}
	var taken atomic.Int32
	for range gateway.client().Stream(t.Context(), source(1, &taken)) {
		<-flooding
		// Whatever it may send meanwhile, at most what gRPC's windows hold is sent.
		last := int32(-1)
		for ; last != sent.Load(); time.Sleep(200 * time.Millisecond) {
			last = sent.Load()
		}
		if last > 32 {
			t.Errorf("%d MiB were taken that nobody read", last)
		}
	}
}

func TestALoopThatPanicsGivesTheConnectionBack(t *testing.T) {
	gateway := newFake(t)
	gateway.stream = answering
	client := gateway.client()
	var taken atomic.Int32
	func() {
		defer func() { _ = recover() }()
		for range client.Stream(t.Context(), source(1_000, &taken)) {
			panic("of the loop's own")
		}
	}()
	if under := recognition.UnderWay(client); under != 0 {
		t.Errorf("%d calls were not given back", under)
	}
}

func TestAMessageThatCannotBeReadEndsNoLoop(t *testing.T) {
	gateway := newFake(t)
	var streams atomic.Int32
	gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
		message, err := stream.Recv()
		if err != nil {
			return nil
		}
		answer := answersTo(message)
		if streams.Add(1) <= 2 {
			answer.ProtoReflect().SetUnknown([]byte{0x0a, 0x7f})
		}
		return stream.Send(answer)
	}
	client := gateway.client()
	var taken atomic.Int32
	if got := collect(t, 10, client.Stream(t.Context(), source(10, &taken))); got != 10 || streams.Load() < 3 {
		t.Errorf("%d accepted on %d streams", got, streams.Load())
	}
	if under := recognition.UnderWay(client); under != 0 {
		t.Errorf("%d calls were not given back", under)
	}
}

func TestWhatIsGivenUpIsToldWithItsRequestID(t *testing.T) {
	stream := func(ctx context.Context, client *recognition.Client) iter.Seq2[int, recognition.Outcome] {
		return client.Stream(ctx, source(100_000, new(atomic.Int32)))
	}
	batch := func(ctx context.Context, client *recognition.Client) iter.Seq2[int, recognition.Outcome] {
		return slices.All(client.VerifyAll(ctx, numbered(1_500)))
	}
	cancelled := func(_ *recognition.Client, cancel func()) { cancel() }
	closed := func(client *recognition.Client, _ func()) { _ = client.Close() }
	silent := func(*recognition.Client, func()) {}
	for name, each := range map[string]struct {
		ask func(context.Context, *recognition.Client) iter.Seq2[int, recognition.Outcome]
		end func(client *recognition.Client, cancel func())
	}{
		"cancelled stream": {stream, cancelled}, "closed stream": {stream, closed}, "silent stream": {stream, silent},
		"cancelled batch": {batch, cancelled}, "closed batch": {batch, closed}, "silent batch": {batch, silent},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := newFake(t)
			client := gateway.client(recognition.WithBatchDeadline(time.Second))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var mu sync.Mutex
			sent := map[string]bool{} // request ids
			note := func(asked *pb.VerifyCredentialRequest) {
				mu.Lock()
				defer mu.Unlock()
				if sent[asked.GetRequestId()] = true; len(sent) == 100 {
					each.end(client, cancel)
				}
			}
			gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
				for {
					message, err := stream.Recv()
					if err != nil {
						return nil
					}
					for _, item := range message.GetItems() {
						note(item.GetRequest())
					}
				}
			}
			gateway.batch = func(
				ctx context.Context, batch *pb.BatchVerifyCredentialsRequest,
			) (*pb.BatchVerifyCredentialsResponse, error) {
				for _, item := range batch.GetItems() {
					note(item)
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			told := map[string]bool{}
			for number, outcome := range each.ask(ctx, client) {
				var failed recognition.Error
				if !errors.As(outcome.Err, &failed) || failed.About().RequestID == "" || told[failed.About().RequestID] {
					t.Fatalf("%d has %v", number, outcome)
				}
				told[failed.About().RequestID] = true
			}
			mu.Lock()
			defer mu.Unlock()
			for id := range sent {
				if !told[id] {
					t.Errorf("%s was sent, and has no outcome", id)
				}
			}
			if len(sent) < 100 {
				t.Errorf("%d were sent", len(sent))
			}
		})
	}
}

func TestASilentStreamFailsWhatIsUnderWay(t *testing.T) {
	gateway := newFake(t)
	gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
		<-stream.Context().Done()
		return nil
	}
	var taken atomic.Int32
	client := gateway.client(recognition.WithBatchDeadline(100 * time.Millisecond))
	count := 0
	for _, outcome := range client.Stream(t.Context(), source(10, &taken)) {
		var late *recognition.DeadlineExceeded
		if !errors.As(outcome.Err, &late) {
			t.Errorf("got %v", outcome)
		}
		count++
	}
	if count != 10 {
		t.Errorf("%d outcomes", count)
	}
}

func TestAnEndedContextEndsAStream(t *testing.T) {
	gateway := newFake(t)
	gateway.stream = answering
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var taken atomic.Int32
	decided, failed := 0, 0
	for _, outcome := range gateway.client().Stream(ctx, source(1_000_000, &taken)) {
		switch {
		case outcome.Err == nil:
			decided++
			cancel()
		case errors.Is(outcome.Err, context.Canceled):
			failed++
		default:
			t.Fatalf("got %v", outcome)
		}
	}
	if decided == 0 || decided+failed > 512 {
		t.Errorf("%d decided, %d failed", decided, failed)
	}
}

func TestAStreamMovesToTheNewCertificate(t *testing.T) {
	gateway := newFake(t)
	var streams atomic.Int32
	gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
		streams.Add(1)
		return answering(stream)
	}
	client := gateway.client()
	var taken atomic.Int32
	count := 0
	for _, outcome := range client.Stream(t.Context(), source(1_000, &taken)) {
		must(t, outcome.Err)
		if count++; count == 10 {
			gateway.give("renewed")
			recognition.LookNow(client)
		}
	}
	if count != 1_000 || streams.Load() != 2 {
		t.Errorf("%d outcomes on %d streams", count, streams.Load())
	}
}

func TestWhatCannotBeSentSpoilsNoStream(t *testing.T) {
	gateway := newFake(t)
	gateway.stream = answering
	requests := numbered(600)
	for number := range requests {
		if number%2 == 0 || number > 590 {
			requests[number].Nonce = "\xff"
		}
	}
	var invalid *recognition.InvalidRequest
	count := 0
	for number, outcome := range gateway.client().Stream(t.Context(), func(yield func(recognition.VerifyRequest) bool) {
		for _, each := range requests {
			if !yield(each) {
				return
			}
		}
	}) {
		if wrong := requests[number].Nonce != ""; wrong != errors.As(outcome.Err, &invalid) {
			t.Errorf("%d has %v", number, outcome)
		}
		count++
	}
	if count != 600 {
		t.Errorf("%d outcomes", count)
	}
}

func TestAStreamIgnoresAnswersThatItDidNotAskFor(t *testing.T) {
	gateway := newFake(t)
	gateway.stream = func(stream pb.VerificationService_StreamVerifyCredentialsServer) error {
		for {
			message, err := stream.Recv()
			if err != nil {
				return nil
			}
			answer := answersTo(message)
			answer.Results = append(answer.Results, answer.GetResults()...)
			answer.Results = append(answer.Results, &pb.StreamResult{ItemId: "of-nobody"})
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
	}
	var taken atomic.Int32
	if got := collect(t, 500, gateway.client().Stream(t.Context(), source(500, &taken))); got != 500 {
		t.Errorf("%d accepted", got)
	}
}
