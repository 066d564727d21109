package example.recognition.client;

import example.recognition.v1.StreamItem;
import example.recognition.v1.StreamResult;
import example.recognition.v1.StreamVerifyCredentialsRequest;
import example.recognition.v1.StreamVerifyCredentialsResponse;
import example.recognition.v1.VerificationServiceGrpc;
import example.recognition.v1.VerifyCredentialRequest;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * Answers to any number of presentations, in the order in which they come; see {@link RecognitionClient#stream}.
 *
 * <p>For one thread, which does all the work when it asks for an answer. Two others only put things into its queue: one
 * takes requests from the source, one of gRPC's brings answers. So nothing here needs a lock, and the queue is bounded by
 * the number of requests that were taken and are not yet answered to the caller.
 *
 * <p>A gateway ends a stream when its connection is old, or when it stops. Then another one is opened, and what has no
 * answer is sent again under the same request id. Only what cannot be sent in a few tries in a row becomes a
 * {@link Failure}, and so does what waits too long for an answer.
 */
public final class VerificationStream implements Iterator<StreamAnswer>, AutoCloseable {

  static final int WINDOW = 256;
  private static final int ITEMS_PER_MESSAGE = 16;
  private static final int MAX_MESSAGE_BYTES = 1024 * 1024;

  /** What a message spends on an item beside the request: tags, lengths, and a name of up to 19 digits. */
  private static final int ITEM_BYTES = 40;

  /** As in the published service config, which does not speak of streams. */
  private static final int MAX_OPENINGS = 4;

  private static final long FIRST_BACKOFF_NANOS = TimeUnit.MILLISECONDS.toNanos(100);
  private static final long MAX_BACKOFF_NANOS = TimeUnit.SECONDS.toNanos(2);
  private static final int MAX_TRIES = 3;

  private final Channels channels;
  private final long patienceNanos;
  private final Iterator<VerifyRequest> source;
  private final Thread reader;
  private final Semaphore window = new Semaphore(WINDOW);
  private final BlockingQueue<Event> events = new LinkedBlockingQueue<>();

  // All below belongs to the caller's thread.
  private final TreeMap<Long, Item> unanswered = new TreeMap<>();
  private final ArrayDeque<Item> unsent = new ArrayDeque<>();
  private final ArrayDeque<StreamAnswer> ready = new ArrayDeque<>();
  private long taken;
  private int handedOut;
  private Call call;
  private int openings;
  private long pausedUntil = System.nanoTime();
  private long heard = System.nanoTime();
  private boolean sourceEnded;
  private Throwable sourceError;
  private boolean closed;

  private sealed interface Event {}

  private record Taken(VerifyRequest request) implements Event {}

  private record SourceEnded(Throwable error) implements Event {}

  private record Answered(Call call, List<StreamResult> results) implements Event {}

  private record Ended(Call call, Status status, Throwable error) implements Event {}

  private static final class Item {
    final long index;
    final VerifyCredentialRequest request;
    boolean sent;
    int tries;

    Item(long index, VerifyCredentialRequest request) {
      this.index = index;
      this.request = request;
    }
  }

  /** One gRPC stream. What it brings goes into the queue under its name, because there may be another by then. */
  private final class Call implements StreamObserver<StreamVerifyCredentialsResponse> {
    private ClientCallStreamObserver<StreamVerifyCredentialsRequest> requests;

    void open() {
      var stub = VerificationServiceGrpc.newStub(channels.forCall());
      requests = (ClientCallStreamObserver<StreamVerifyCredentialsRequest>) stub.streamVerifyCredentials(this);
    }

    @Override
    public void onNext(StreamVerifyCredentialsResponse response) {
      events.add(new Answered(this, response.getResultsList()));
    }

    @Override
    public void onError(Throwable error) {
      events.add(new Ended(this, Status.fromThrowable(error), error));
    }

    @Override
    public void onCompleted() {
      events.add(new Ended(this, Status.UNAVAILABLE.withDescription("the gateway ended the stream"), null));
    }
  }

  VerificationStream(Channels channels, Duration patience, Iterator<VerifyRequest> source) {
    this.channels = channels;
    this.patienceNanos = patience.toNanos();
    this.source = source;
    this.reader = new Thread(this::read, "recognition-stream-source");
    this.reader.setDaemon(true);
    this.reader.start();
  }

  /**
   * Waits for the next answer.
   *
   * @return false: all requests are answered, or the stream is closed
   * @throws RecognitionException this thread was interrupted; the stream is closed then
   */
  @Override
  public boolean hasNext() {
    while (!closed) {
      for (var event = events.poll(); event != null; event = events.poll()) {
        take(event);
      }
      if (!ready.isEmpty()) {
        if (unsent.size() >= ITEMS_PER_MESSAGE) {
          send();
        }
        return true;
      }
      if (sourceEnded && unanswered.isEmpty()) {
        finish();
        return false;
      }
      send();
      giveBack();
      await();
    }
    return false;
  }

  /**
   * Gives the next answer, and waits for it.
   *
   * @return the answer
   * @throws NoSuchElementException there is none any more
   * @throws RecognitionException this thread was interrupted; the stream is closed then
   */
  @Override
  public StreamAnswer next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    // In lots, so that requests go out in lots too.
    if (++handedOut == ITEMS_PER_MESSAGE) {
      giveBack();
    }
    return ready.remove();
  }

  /** Ends what is under way. What was sent and has no answer may have been decided; the gateway's log tells. */
  @Override
  public void close() {
    closed = true;
    reader.interrupt();
    if (call != null) {
      call.requests.cancel("the stream was closed", null);
      call = null;
    }
    events.clear();
  }

  /** Runs on the reader's thread. */
  private void read() {
    try {
      while (true) {
        window.acquire();
        if (!source.hasNext()) {
          events.add(new SourceEnded(null));
          return;
        }
        events.add(new Taken(source.next()));
      }
    } catch (InterruptedException end) {
      return;
    } catch (RuntimeException | Error error) {
      events.add(new SourceEnded(error));
    }
  }

  private void giveBack() {
    window.release(handedOut);
    handedOut = 0;
  }

  private void finish() {
    if (call != null) {
      call.requests.onCompleted();
      call = null;
    }
    closed = true;
    if (sourceError instanceof RuntimeException error) {
      throw error;
    }
    if (sourceError instanceof Error error) {
      throw error;
    }
  }

  private void await() {
    long now = System.nanoTime();
    long wait = Long.MAX_VALUE;
    if (!unsent.isEmpty()) {
      wait = pausedUntil - now; // else it had been sent
    } else if (!unanswered.isEmpty()) {
      wait = heard + patienceNanos - now;
    }
    try {
      var event = wait == Long.MAX_VALUE ? events.take() : events.poll(wait, TimeUnit.NANOSECONDS);
      if (event != null) {
        take(event);
      } else if (unsent.isEmpty()) {
        abandon();
      }
    } catch (InterruptedException interrupt) {
      close();
      throw Errors.interrupted(interrupt, "");
    }
  }

  private void take(Event event) {
    if (event instanceof Taken each) {
      take(each.request().toMessage());
    } else if (event instanceof SourceEnded end) {
      sourceEnded = true;
      sourceError = end.error();
    } else if (event instanceof Answered answer && answer.call() == call) {
      heard = System.nanoTime();
      openings = 0;
      answer.results().forEach(this::take);
    } else if (event instanceof Ended end && end.call() == call) {
      call = null;
      takeEnd(end);
    }
  }

  private void take(VerifyCredentialRequest request) {
    var item = new Item(taken++, request);
    if (request.getSerializedSize() + ITEM_BYTES > MAX_MESSAGE_BYTES) {
      answer(item, new Failure(
          Errors.invalid("presentation", "is larger than a message may be", request.getRequestId())));
      return;
    }
    unanswered.put(item.index, item);
    unsent.add(item);
  }

  private void take(StreamResult result) {
    long index;
    try {
      index = Long.parseLong(result.getItemId());
    } catch (NumberFormatException nobodys) {
      return;
    }
    var item = unanswered.get(index);
    if (item == null || !item.sent) {
      return; // nobody waits for it
    }
    var outcome = Messages.outcome(
        item.request,
        result.hasResponse() ? result.getResponse() : null,
        result.hasError() ? result.getError() : null);
    if (outcome instanceof Failure failure && failure.error() instanceof RecognitionException.Overloaded overloaded) {
      long wait = RecognitionClient.waitNanos(overloaded);
      if (wait >= 0 && wait < patienceNanos && ++item.tries < MAX_TRIES) {
        item.sent = false;
        unsent.add(item);
        pause(wait);
        return;
      }
    }
    unanswered.remove(index);
    answer(item, outcome);
  }

  private void takeEnd(Ended end) {
    var error = end.error() instanceof StatusRuntimeException status ? status : end.status().asRuntimeException();
    var code = end.status().getCode();
    long wait = -1;
    if (code == Status.Code.RESOURCE_EXHAUSTED) {
      wait = RecognitionClient.waitNanos(Errors.of(error, ""));
    } else if (code == Status.Code.UNAVAILABLE) {
      long most = Math.min(FIRST_BACKOFF_NANOS << openings, MAX_BACKOFF_NANOS);
      wait = ThreadLocalRandom.current().nextLong(most);
    }
    if (wait >= 0 && wait < patienceNanos && ++openings < MAX_OPENINGS) {
      pause(wait);
      var again = unanswered.values().stream().filter(each -> each.sent).toList();
      for (int i = again.size() - 1; i >= 0; i--) {
        again.get(i).sent = false;
        unsent.addFirst(again.get(i));
      }
    } else {
      fail(error);
    }
  }

  /** Gives up on a stream that has been silent for too long. */
  private void abandon() {
    call.requests.cancel("no answer", null);
    call = null;
    fail(Status.DEADLINE_EXCEEDED.withDescription("no answer on the stream").asRuntimeException());
  }

  private void fail(StatusRuntimeException error) {
    openings = 0;
    for (var item : List.copyOf(unanswered.values())) {
      if (item.sent) {
        unanswered.remove(item.index);
        answer(item, new Failure(Errors.of(error, item.request.getRequestId())));
      }
    }
  }

  private void answer(Item item, Outcome outcome) {
    ready.add(new StreamAnswer(item.index, outcome));
  }

  private void pause(long nanos) {
    long until = System.nanoTime() + nanos;
    if (until - pausedUntil > 0) {
      pausedUntil = until;
    }
  }

  private void send() {
    if (unsent.isEmpty() || System.nanoTime() - pausedUntil < 0) {
      return;
    }
    if (unsent.size() == unanswered.size()) {
      heard = System.nanoTime(); // nothing is under way: from now on an answer is owed
    }
    if (call == null) {
      call = new Call();
      call.open();
    }
    while (!unsent.isEmpty()) {
      var items = new ArrayList<StreamItem>(ITEMS_PER_MESSAGE);
      int bytes = 0;
      while (!unsent.isEmpty() && items.size() < ITEMS_PER_MESSAGE) {
        var item = unsent.peek();
        bytes += item.request.getSerializedSize() + ITEM_BYTES;
        if (bytes > MAX_MESSAGE_BYTES) {
          break;
        }
        unsent.remove();
        item.sent = true;
        items.add(StreamItem.newBuilder().setItemId(Long.toString(item.index)).setRequest(item.request).build());
      }
      call.requests.onNext(StreamVerifyCredentialsRequest.newBuilder().addAllItems(items).build());
    }
  }
}
