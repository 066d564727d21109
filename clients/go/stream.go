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

	"google.golang.org/grpc/codes"
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
	// firstPause and longestPause are waited before another stream where one failed without any answer.
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
	// maxStrays bounds the answers of one stream to what does not wait for one.
	maxStrays = 1_000
)

var (
	// errSilent ends a stream on which no answer came for too long.
	errSilent = errors.New("no answer on the stream")
	// errStrays ends a stream that brings too many answers to what does not wait for one.
	errStrays = errors.New("too many answers to what was not asked, or is answered")
)

// Stream asks for verdicts on any number of presentations and gives each outcome as it comes, in any order, with the
// number of its request in the source, from 0:
//
//	for number, outcome := range client.Stream(ctx, requests) { ... }
//
// Every request that was taken from the source has exactly one outcome. At most 256 are taken ahead of the loop: one that
// is slow makes the source wait. The source runs in a goroutine of its own; it is asked for no more once the loop is left
// or the context has ended. In the latter case what is under way fails, and the loop ends. What the source gives after
// that is not sent.
//
// An outcome that is an error has the request id, [Details.RequestID]: the gateway may have decided, and answers the same
// question, asked again under that id within a minute, with the same decision. A loop that is left with break hears
// nothing of what is under way; whoever wants to know ends the context instead, and goes on until the loop ends.
//
// Where a stream is lost, be it that the gateway ends it, as it does from time to time, or is away, the client opens
// another and asks anew, with the same request ids, what has no answer; likewise when the certificate was replaced. What
// the gateway has no room for is sent again when it said. Where all that brings no outcome for the batch deadline, where
// the gateway asks to wait for longer than what is left of that, or does not take streams of this service, what is under
// way fails with the error that was last heard, then the next request of the source, if there is one, and the loop ends: a
// long source is not drained.
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
			halted: make(chan struct{}),
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
	// awaited tells that it is counted among those that wait for an outcome.
	awaited bool
}

// streaming is one call of Stream.
//
// One goroutine takes from the source. For each stream of gRPC, one sends and one receives. The goroutine of the caller's
// loop alone yields, and begins and ends streams.
type streaming struct {
	client *Client
	yield  func(int, Outcome) bool
	// left tells that the caller has left the loop; answered, that the present stream has brought an outcome.
	left, answered bool
	// heard is the error that was last heard since there was an outcome; nil: none.
	heard Error

	// places has one for each request under way.
	places chan struct{}
	// fresh are not sent yet; closed when the source has ended. It has room for all that can be under way, as has wrong.
	fresh chan *item
	wrong chan *item
	// halted is closed when the source is to be asked for one more at most.
	halted chan struct{}
	// again is to be sent before what is fresh. While a stream is open, its sender's alone.
	again []*item

	mu sync.Mutex
	// open waits for its answer on the present stream, by item id.
	open map[string]*item
	// awaited is how many wait for an outcome, on a stream or between two; since, when the first of them began to, or the
	// last outcome came. What the caller's loop takes for itself is not counted.
	awaited int
	since   time.Time
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
		select {
		case <-s.halted:
			return
		default:
		}
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
			s.failAll(s.client.errorOf(ctx, status.FromContextError(ctx.Err()).Err(), ""))
			return
		}
		if len(s.again) == 0 && !s.await(ctx) {
			continue
		}
		if len(s.again) == 0 {
			return
		}
		asked, final := s.stream(ctx)
		if s.left || ctx.Err() != nil {
			continue
		}
		if final != nil {
			s.end(ctx, final)
			return
		}
		if s.answered {
			pause = firstPause
		}
		if len(s.again) == 0 || s.answered && asked == 0 {
			continue
		}
		if asked == 0 {
			asked = pause/2 + rand.N(pause/2)
			pause = min(2*pause, longestPause)
		}
		left := s.patience()
		if asked < left {
			asked = spread(asked)
		}
		if asked >= left {
			s.end(ctx, s.lastHeard())
			return
		}
		s.client.sleep(ctx, asked)
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
			s.mu.Lock()
			s.begin(first)
			s.mu.Unlock()
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
// long the gateway asked to wait before that, 0: not at all; or why there is no use in another.
func (s *streaming) stream(ctx context.Context) (asked time.Duration, final Error) {
	s.answered = false
	streamCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	connections := s.client.connections
	connection, err := connections.take()
	if err != nil {
		return s.over(ctx, err, nil)
	}
	defer connections.giveBack(connection)
	stream, err := pb.NewVerificationServiceClient(connection).StreamVerifyCredentials(streamCtx)
	if err != nil {
		return s.over(ctx, err, nil)
	}

	halt, sent := make(chan struct{}), make(chan struct{})
	halted := sync.OnceFunc(func() { close(halt) })
	go func() {
		defer close(sent)
		for pack := s.pack(streamCtx, halt, connection); pack != nil; pack = s.pack(streamCtx, halt, connection) {
			if stream.Send(&pb.StreamVerifyCredentialsRequest{Items: pack}) != nil {
				return // receiving tells why
			}
		}
		_ = stream.CloseSend()
	}()
	// One message is read ahead of the loop: a gateway that sends more has to wait, by gRPC's flow control.
	received := make(chan *pb.StreamVerifyCredentialsResponse)
	var ended error
	go func() {
		defer close(received)
		for {
			var message *pb.StreamVerifyCredentialsResponse
			if message, ended = stream.Recv(); ended != nil {
				return
			}
			select {
			case received <- message:
			case <-streamCtx.Done(): // nobody may be there any more
				ended = status.FromContextError(streamCtx.Err()).Err()
				return
			}
		}
	}()

	var later []*item
	strays := 0
	silence := time.NewTimer(max(s.patience(), time.Millisecond))
	defer silence.Stop()
	for open := true; open; {
		select {
		case message, more := <-received:
			open = more
			if more && len(message.GetResults()) == 0 {
				strays++
			}
			for _, result := range message.GetResults() {
				waited, refusal := s.answer(result)
				if !waited {
					strays++
				}
				if refusal == nil {
					continue
				}
				// The gateway takes no more for now: send no more, hear the rest, and come again.
				halted()
				if refusal.final != nil {
					final = refusal.final
					continue
				}
				later, asked = append(later, refusal.item), max(asked, refusal.delay)
			}
			if strays > maxStrays {
				cancel(errStrays)
			}
		case wrong := <-s.wrong:
			s.finish(wrong, Outcome{Err: wrong.wrong})
		case <-silence.C:
			if left := s.patience(); left > 0 {
				silence.Reset(left)
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
	switch context.Cause(streamCtx) {
	case errSilent:
		s.again = append(s.again, unanswered...)
		if final == nil && s.patience() <= 0 { // else an outcome came at the last moment
			final = s.lastHeard()
		}
		return asked, final
	case errStrays:
		ended = errStrays
	}
	longer, why := s.over(ctx, ended, unanswered)
	if final == nil {
		final = why
	}
	return max(asked, longer), final
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
	var pack []*pb.StreamItem
	for _, each := range items {
		s.begin(each)
		s.open[each.id] = each
		pack = append(pack, &pb.StreamItem{ItemId: each.id, Request: each.message})
	}
	return pack
}

// begin counts an item among those that wait for an outcome. mu must be held.
func (s *streaming) begin(begun *item) {
	if begun.awaited {
		return
	}
	if begun.awaited = true; s.awaited == 0 {
		s.since = time.Now()
	}
	s.awaited++
}

// refusal is what the gateway had no room for.
type refusal struct {
	item *item
	// delay is when to send it again. final, else, is the outcome that it has been given, because the gateway asked for more
	// time than there is: there is no use in asking for others either.
	delay time.Duration
	final Error
}

// answer handles one result. It tells whether its item waited for one, and gives the item if it was refused.
func (s *streaming) answer(result *pb.StreamResult) (waited bool, refused *refusal) {
	s.mu.Lock()
	answered := s.open[result.GetItemId()]
	delete(s.open, result.GetItemId())
	s.mu.Unlock()
	if answered == nil {
		return false, nil
	}
	outcome := outcomeOf(result, answered.message.GetRequestId(), answered.predicates)
	if overloaded, ok := outcome.Err.(*Overloaded); ok {
		s.heard = overloaded
		refused = &refusal{item: answered, delay: pauseOf(overloaded.RetryAfter)}
		if refused.delay >= s.patience() {
			refused.final = overloaded
			s.finish(answered, outcome)
		}
		return true, refused
	}
	s.answered, s.heard = true, nil
	s.mu.Lock()
	s.since = time.Now()
	s.mu.Unlock()
	s.finish(answered, outcome)
	return true, nil
}

// over decides what becomes of what has no answer when a stream has ended. It gives how long the gateway asked to wait, or
// why there is no use in another stream.
func (s *streaming) over(ctx context.Context, ended error, unanswered []*item) (asked time.Duration, final Error) {
	s.again = append(s.again, unanswered...)
	switch {
	case ctx.Err() != nil || s.left:
		return 0, nil // run sees to it
	case ended == errStrays:
		s.heard = damaged("", ended.Error())
	case !errors.Is(ended, io.EOF):
		s.heard = s.client.errorOf(ctx, ended, "")
	case len(unanswered) > 0:
		s.heard = damaged("", "a stream that ended without an answer to it")
	default:
		return 0, nil
	}
	switch err := s.heard.(type) {
	case *Unavailable:
		if errors.Is(err, ErrClosed) {
			return 0, err
		}
	case *DamagedAnswer:
	case *Overloaded:
		return pauseOf(err.RetryAfter), nil
	default:
		return 0, err
	}
	return 0, nil
}

// lastHeard is why there is no outcome.
func (s *streaming) lastHeard() Error {
	if s.heard != nil {
		return s.heard
	}
	return Details{Code: codes.DeadlineExceeded, description: errSilent.Error()}.kind()
}

// patience is how much longer an outcome may be waited for.
func (s *streaming) patience() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaited == 0 {
		return s.client.batchDeadline
	}
	return s.client.batchDeadline - time.Since(s.since)
}

// finish gives the outcome of a request, and its place to another.
func (s *streaming) finish(done *item, outcome Outcome) {
	if s.left {
		return
	}
	begun := time.Now()
	s.left = !s.yield(done.number, outcome)
	s.mu.Lock()
	if s.since = s.since.Add(time.Since(begun)); done.awaited {
		s.awaited--
	}
	s.mu.Unlock()
	if !s.left {
		<-s.places
	}
}

// end fails what is under way, and the next request of the source.
func (s *streaming) end(ctx context.Context, err error) {
	close(s.halted)
	fail := func(failed *item) {
		s.finish(failed, Outcome{Err: withRequestID(err, failed.message.GetRequestId())})
	}
	for _, each := range s.again {
		fail(each)
	}
	s.again = nil
	for more := true; more && !s.left && ctx.Err() == nil; {
		var next *item
		select {
		case wrong := <-s.wrong:
			s.finish(wrong, Outcome{Err: wrong.wrong})
		case next, more = <-s.fresh:
			if more {
				fail(next)
			}
		case <-ctx.Done():
		}
	}
	s.failAll(err)
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
