package recognition

import (
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	pb "recognition.example/client/recognitionv1"
)

const (
	// maxUnderWay bounds the requests that were taken from the source and whose outcomes are not yet handled.
	maxUnderWay = 256
	// packItems serves gateways best; they take up to a hundred items, and 1 MiB, a message.
	packItems = 16
	packBytes = 1024 * 1024
	// packPause is how long a message waits for more items.
	packPause = time.Millisecond
	// maxLosses bounds on how many streams that end without any answer an item is sent.
	maxLosses = 4
	// firstPause and longestPause are waited before another stream where one failed without any answer.
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
)

// errSilent ends a stream on which no answer came for too long.
var errSilent = errors.New("no answer on the stream")

// Stream asks for verdicts on any number of presentations and gives each outcome as it comes, in any order, with the
// number of its request in the source, from 0:
//
//	for number, outcome := range client.Stream(ctx, requests) { ... }
//
// Every request that was taken from the source has exactly one outcome. At most 256 are under way: a loop that is slow
// makes the source wait. The source runs in a goroutine of its own; it is asked for no more once the loop is left or the
// context has ended. In the latter case what is under way fails, and the loop ends.
//
// Where the gateway ends a stream, as it does from time to time, the client opens another and asks anew, with the same
// request ids, what has no answer; likewise when the certificate was replaced. A stream on which no answer comes for the
// batch deadline fails what is under way on it.
func (c *Client) Stream(ctx context.Context, requests iter.Seq[VerifyRequest]) iter.Seq2[int, Outcome] {
	return func(yield func(int, Outcome) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		streaming := streaming{
			client: c,
			yield:  yield,
			places: make(chan struct{}, maxUnderWay),
			fresh:  make(chan *item, maxUnderWay),
			wrong:  make(chan *item, maxUnderWay),
			open:   map[string]*item{},
		}
		go streaming.take(ctx, requests)
		streaming.run(ctx)
	}
}

// item is one request under way.
type item struct {
	number     int
	id         string
	message    *pb.VerifyCredentialRequest
	predicates int
	// wrong is why it cannot be sent at all.
	wrong error
	// losses counts the streams that it was sent on and that ended without any answer; refusals, how often the gateway
	// had no room for it.
	losses, refusals int
}

// streaming is one call of Stream.
//
// One goroutine takes from the source. For each stream of gRPC, one sends and one receives. The goroutine of the caller's
// loop alone yields, and begins and ends streams.
type streaming struct {
	client *Client
	yield  func(int, Outcome) bool
	// left tells that the caller has left the loop; answered, that the present stream has brought an answer.
	left, answered bool

	// places has one for each request under way.
	places chan struct{}
	// fresh are not sent yet; closed when the source has ended. It has room for all that can be under way, as has wrong.
	fresh chan *item
	wrong chan *item
	// again is to be sent before what is fresh. While a stream is open, its sender's alone.
	again []*item

	mu sync.Mutex
	// open waits for its answer on the present stream, by item id; since is when that was begun, or an answer came.
	open  map[string]*item
	since time.Time
}

// take takes requests from the source, as many as there are places for.
func (s *streaming) take(ctx context.Context, requests iter.Seq[VerifyRequest]) {
	defer close(s.fresh)
	place := func() bool {
		select {
		case s.places <- struct{}{}:
			return ctx.Err() == nil
		case <-ctx.Done():
			return false
		}
	}
	// Before a request is taken: one that was taken has an outcome.
	if !place() {
		return
	}
	number := 0
	for request := range requests {
		taken := &item{number: number, id: strconv.Itoa(number), predicates: len(request.Predicates)}
		if taken.message, taken.wrong = request.message(); taken.wrong != nil {
			s.wrong <- taken
		} else {
			s.fresh <- taken
		}
		number++
		if !place() {
			return
		}
	}
}

// run opens streams, one after another, until the source has ended and all is answered.
func (s *streaming) run(ctx context.Context) {
	pause := firstPause
	for !s.left {
		if ctx.Err() != nil {
			s.failAll(failureOf(ctx, status.FromContextError(ctx.Err()).Err(), ""))
			return
		}
		if len(s.again) == 0 && !s.await(ctx) {
			continue
		}
		if len(s.again) == 0 {
			return
		}
		asked := s.stream(ctx)
		switch {
		case asked > 0:
			wait(ctx, asked)
		case s.answered:
			pause = firstPause
		case len(s.again) > 0:
			wait(ctx, pause/2+rand.N(pause/2))
			pause = min(2*pause, longestPause)
		}
	}
}

// await waits for something to send: until then, no stream is kept open. It tells whether it, or the end of the source,
// has come.
func (s *streaming) await(ctx context.Context) bool {
	select {
	case wrong := <-s.wrong:
		s.finish(wrong, Outcome{Err: wrong.wrong})
		return false
	case first, more := <-s.fresh:
		if more {
			s.again = append(s.again, first)
			return true
		}
		for len(s.wrong) > 0 && !s.left {
			wrong := <-s.wrong
			s.finish(wrong, Outcome{Err: wrong.wrong})
		}
		return true
	case <-ctx.Done():
		return false
	}
}

// stream opens one stream, and gives outcomes until it is over. Then again has what is to be sent on another. It gives how
// long the gateway asked to wait before that; 0: not at all.
func (s *streaming) stream(ctx context.Context) (asked time.Duration) {
	s.answered = false
	streamCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	connections := s.client.connections
	connection, err := connections.take()
	if err != nil {
		return s.over(ctx, err, s.drop())
	}
	defer connections.giveBack(connection)
	stream, err := pb.NewVerificationServiceClient(connection).StreamVerifyCredentials(streamCtx)
	if err != nil {
		return s.over(ctx, err, s.drop())
	}

	halt, sent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sent)
		for pack := s.pack(streamCtx, halt, connection); pack != nil; pack = s.pack(streamCtx, halt, connection) {
			if stream.Send(&pb.StreamVerifyCredentialsRequest{Items: pack}) != nil {
				return // receiving tells why
			}
		}
		_ = stream.CloseSend()
	}()
	received := make(chan *pb.StreamVerifyCredentialsResponse, maxUnderWay)
	var ended error
	go func() {
		defer close(received)
		for {
			var message *pb.StreamVerifyCredentialsResponse
			if message, ended = stream.Recv(); ended != nil {
				return
			}
			received <- message
		}
	}()

	var later []*item
	silence := time.NewTimer(s.client.batchDeadline)
	defer silence.Stop()
	for open := true; open; {
		select {
		case message, more := <-received:
			open = more
			for _, result := range message.GetResults() {
				refused, delay := s.answer(result)
				if refused == nil {
					continue
				}
				// The gateway takes no more for now: send no more, hear the rest, and come again.
				if later = append(later, refused); asked == 0 {
					close(halt)
				}
				asked = max(asked, delay)
			}
		case wrong := <-s.wrong:
			s.finish(wrong, Outcome{Err: wrong.wrong})
		case <-silence.C:
			if left := s.patience(); left > 0 || len(received) > 0 {
				silence.Reset(max(left, time.Millisecond))
			} else {
				cancel(errSilent)
			}
		}
		if s.left {
			cancel(nil)
		}
	}
	cancel(nil) // the sender may still wait for something to send
	<-sent

	s.mu.Lock()
	var unanswered []*item
	for _, each := range s.open {
		unanswered = append(unanswered, each)
	}
	clear(s.open)
	s.mu.Unlock()
	s.again = append(later, s.again...)
	if context.Cause(streamCtx) == errSilent {
		ended = status.FromContextError(context.DeadlineExceeded).Err()
	}
	return max(asked, s.over(ctx, ended, unanswered))
}

// pack takes the items of one message, and notes that they wait for their answers. None: the stream takes no more.
func (s *streaming) pack(ctx context.Context, halt <-chan struct{}, connection *connection) []*pb.StreamItem {
	select {
	case <-halt:
		return nil
	default:
	}
	var items []*item
	size := 0
	add := func(next *item) bool {
		itemSize := sizeInside(next.message) + 2*len(next.id) + 8
		if len(items) > 0 && size+itemSize > packBytes {
			s.again = append(s.again, next)
			return false
		}
		items, size = append(items, next), size+itemSize
		return true
	}
	var pause <-chan time.Time
	for full := false; !full && len(items) < packItems; {
		if len(s.again) > 0 {
			next := s.again[0]
			s.again = s.again[1:]
			full = !add(next)
			continue
		}
		if pause == nil && len(items) > 0 {
			timer := time.NewTimer(packPause)
			defer timer.Stop()
			pause = timer.C
		}
		select {
		case next, more := <-s.fresh:
			full = !more || !add(next)
		case <-pause:
			full = true
		case <-halt:
			full = true
		case <-ctx.Done():
			full = true
		}
	}
	if len(items) == 0 {
		return nil
	}
	if !s.client.connections.isPresent(connection) {
		// The certificate was replaced: the next stream goes out with the new one.
		s.again = append(items, s.again...)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) == 0 {
		s.since = time.Now()
	}
	var pack []*pb.StreamItem
	for _, each := range items {
		s.open[each.id] = each
		pack = append(pack, &pb.StreamItem{ItemId: each.id, Request: each.message})
	}
	return pack
}

// answer handles one result. It gives the item, and how long to wait, where the gateway had no room for it and it is to
// be sent again.
func (s *streaming) answer(result *pb.StreamResult) (refused *item, delay time.Duration) {
	s.mu.Lock()
	answered := s.open[result.GetItemId()]
	delete(s.open, result.GetItemId())
	s.since = time.Now()
	s.mu.Unlock()
	if answered == nil {
		return nil, 0
	}
	s.answered = true
	outcome := outcomeOf(result, answered.message.GetRequestId(), answered.predicates)
	if overloaded, ok := outcome.Err.(*Overloaded); ok && overloaded.RetryAfter > 0 {
		if answered.refusals++; answered.refusals < maxTries {
			return answered, overloaded.RetryAfter
		}
	}
	s.finish(answered, outcome)
	return nil, 0
}

// over decides what becomes of what has no answer when a stream has ended. It gives how long the gateway asked to wait.
func (s *streaming) over(ctx context.Context, ended error, unanswered []*item) time.Duration {
	if ctx.Err() != nil {
		s.again = append(s.again, unanswered...)
		return 0 // run sees to it
	}
	err := damaged("", "a stream that ended without an answer to it")
	if !errors.Is(ended, io.EOF) {
		err = failureOf(ctx, ended, "")
	}
	var asked time.Duration
	for _, each := range unanswered {
		if !s.answered {
			each.losses++
		}
		again := false
		switch err := err.(type) {
		case *Unavailable:
			again = each.losses < maxLosses && !errors.Is(err, ErrClosed)
		case *DamagedAnswer:
			again = each.losses < maxLosses
		case *Overloaded:
			each.refusals++
			again = each.refusals < maxTries && err.RetryAfter > 0
			asked = err.RetryAfter
		}
		if again {
			s.again = append(s.again, each)
		} else {
			s.finish(each, Outcome{Err: withRequestID(err, each.message.GetRequestId())})
		}
	}
	return asked
}

// drop gives all that a stream that could not be opened would have sent.
func (s *streaming) drop() []*item {
	dropped := s.again
	s.again = nil
	return dropped
}

// patience is how much longer an answer may be waited for.
func (s *streaming) patience() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) == 0 {
		return s.client.batchDeadline
	}
	return s.client.batchDeadline - time.Since(s.since)
}

// finish gives the outcome of a request, and its place to another.
func (s *streaming) finish(done *item, outcome Outcome) {
	if s.left {
		return
	}
	if s.left = !s.yield(done.number, outcome); !s.left {
		<-s.places
	}
}

// failAll ends what is under way while no stream is open.
func (s *streaming) failAll(err error) {
	for _, each := range s.again {
		s.finish(each, Outcome{Err: withRequestID(err, each.message.GetRequestId())})
	}
	s.again = nil
	fresh := s.fresh
	for {
		select {
		case each, more := <-fresh:
			if !more {
				fresh = nil
				continue
			}
			s.finish(each, Outcome{Err: withRequestID(err, each.message.GetRequestId())})
		case wrong := <-s.wrong:
			s.finish(wrong, Outcome{Err: wrong.wrong})
		default:
			return
		}
	}
}
