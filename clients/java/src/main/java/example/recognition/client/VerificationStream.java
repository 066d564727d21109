package example.recognition.client;

import example.recognition.v1.StreamItem;
import example.recognition.v1.StreamResult;
import example.recognition.v1.StreamVerifyCredentialsRequest;
import example.recognition.v1.StreamVerifyCredentialsResponse;
import example.recognition.v1.VerificationServiceGrpc;
import example.recognition.v1.VerifyCredentialRequest;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * Answers to any number of presentations, in the order in which they come; see {@link RecognitionClient#stream}.
 *
 * <p>For one thread, which does all the work when it asks for an answer. Two others only put things into its queue: one
 * takes requests from the source, one of gRPC's brings answers. So nothing here needs a lock, and the queue is bounded: it
 * holds requests that were taken and are not yet answered to the caller, and one message of the gateway's at most, because
 * the next is asked for when that one was read.
 *
 * <p>A gateway ends a stream when its connection is old, or when it stops. Then another one is opened, and what has no
 * answer is sent again under the same request id; so is what it has no room for, when it says. Once nothing that waits was
 * answered for the batch deadline (the time that the caller takes between two calls of this is not counted), or the
 * gateway has no room before that, or says that it takes no such stream, what is under way becomes a {@link Failure}, and
 * nothing more is taken from the source. When the thread is interrupted, it does too. Such a failure names the request's
 * id: it may have been decided, and is asked again under that id.
 *
 * <p>When the certificate was replaced, what is sent from then on goes over a new connection; the answers to what was sent
 * before come on the old one.
 */
public final class VerificationStream implements Iterator<StreamAnswer>, AutoCloseable {

  static final int WINDOW = 256;
  private static final int ITEMS_PER_MESSAGE = 16;
  private static final int MAX_MESSAGE_BYTES = 1024 * 1024;

  /** What a message spends on an item beside the request: tags, lengths, and a name of up to 19 digits. */
  private static final int ITEM_BYTES = 40;

  private static final long FIRST_BACKOFF_NANOS = TimeUnit.MILLISECONDS.toNanos(100);
  private static final long MAX_BACKOFF_NANOS = TimeUnit.SECONDS.toNanos(2);
  private static final int MAX_DOUBLINGS = 10;

  /** So many answers that nobody waits for are passed over. */
  static final int MAX_STRAYS = 1_000;

  /** As often it is looked whether the client was closed. */
  private static final long LOOK_NANOS = TimeUnit.SECONDS.toNanos(1);

  private final Channels channels;
  private final long patienceNanos;
  private final Iterator<VerifyRequest> source;
  private final Thread reader;
  private final Semaphore window = new Semaphore(WINDOW);
  private final BlockingQueue<Event> events = new LinkedBlockingQueue<>();

  /** Why nothing more is asked; null while it is. */
  private volatile RecognitionException gaveUp;

  // All below belongs to the caller's thread.
  private final Map<String, Item> unanswered = new LinkedHashMap<>(); // by their ids as they are sent, the oldest first
  private final ArrayDeque<Item> unsent = new ArrayDeque<>();
  private final ArrayDeque<StreamAnswer> ready = new ArrayDeque<>();
  private long taken;
  private int handedOut;
  private final Set<Call> calls = new HashSet<>();
  private Call call; // the one that is sent on; the others end when what they carry is answered
  private int strays;
  private int openings;
  private long pausedUntil = System.nanoTime();
  private long heard = System.nanoTime();
  private long left = System.nanoTime();
  private RecognitionException lastError;
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
    Call sentOn; // null while it is not sent

    Item(long index, VerifyCredentialRequest request) {
      this.index = index;
      this.request = request;
    }
  }

  /** One gRPC stream. What it brings goes into the queue under its name, because there may be another by then. */
  private final class Call
      implements ClientResponseObserver<StreamVerifyCredentialsRequest, StreamVerifyCredentialsResponse> {
    private final ManagedChannel channel;
    private ClientCallStreamObserver<StreamVerifyCredentialsRequest> requests;

    Call(ManagedChannel channel) {
      this.channel = channel;
    }

    void open() {
      VerificationServiceGrpc.newStub(channel).streamVerifyCredentials(this);
    }

    @Override
    public void beforeStart(ClientCallStreamObserver<StreamVerifyCredentialsRequest> observer) {
      requests = observer;
      observer.disableAutoRequestWithInitial(1);
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
   * @throws RecognitionException the gateway did not answer any more and the source has more to ask, or this thread was
   *     interrupted; the stream is closed then
   */
  @Override
  public boolean hasNext() {
    heard += System.nanoTime() - left; // nobody waited meanwhile
    try {
      return awaitNext();
    } finally {
      left = System.nanoTime();
    }
  }

  private boolean awaitNext() {
    while (!closed) {
      for (int waiting = events.size(); waiting > 0; waiting--) { // not until there is none: more may come for ever
        take(events.remove());
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
   * @throws RecognitionException as {@link #hasNext}
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

  /**
   * Ends what is under way, and gives no more answers. What was sent and has none may have been decided: whoever closes
   * before {@link #hasNext} is false, and means to ask again, gives the requests ids of their own.
   */
  @Override
  public void close() {
    closed = true;
    reader.interrupt();
    cancel("the stream was closed");
    events.clear();
  }

  private void cancel(String why) {
    call = null;
    calls.forEach(each -> each.requests.cancel(why, null));
    calls.clear();
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
        if (gaveUp != null) {
          events.add(new SourceEnded(gaveUp)); // it has more, but nobody is there to be asked
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
    calls.clear();
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
    try {
      if (unanswered.isEmpty()) {
        take(events.take());
        return;
      }
      long patience = heard + patienceNanos - now;
      boolean nothingIsSent = unsent.size() == unanswered.size();
      if (channels.isClosed()) {
        giveUp(Errors.closed(""));
      } else if (patience <= 0 || (nothingIsSent && pausedUntil - now > patience)) {
        giveUp(lastError == null ? Errors.silent() : lastError);
      } else {
        long wait = unsent.isEmpty() ? patience : Math.min(patience, pausedUntil - now); // else it had been sent
        var event = events.poll(Math.min(wait, LOOK_NANOS), TimeUnit.NANOSECONDS);
        if (event != null) {
          take(event);
        }
      }
    } catch (InterruptedException interrupt) {
      abort(Errors.interrupted(interrupt, ""));
    }
  }

  private void take(Event event) {
    if (event instanceof Taken each) {
      take(each.request());
    } else if (event instanceof SourceEnded end) {
      sourceEnded = true;
      sourceError = end.error();
    } else if (event instanceof Answered answer && calls.contains(answer.call())) {
      take(answer);
    } else if (event instanceof Ended end && calls.remove(end.call())) {
      call = end.call() == call ? null : call;
      takeEnd(end);
    }
  }

  private void take(VerifyRequest request) {
    long index = taken++;
    VerifyCredentialRequest message;
    try {
      message = Requests.verify(request);
    } catch (RecognitionException.InvalidRequest invalid) {
      ready.add(new StreamAnswer(index, new Failure(invalid)));
      return;
    }
    if (gaveUp != null) { // it was taken while that happened
      ready.add(new StreamAnswer(index, new Failure(Errors.under(message.getRequestId(), gaveUp))));
      return;
    }
    if (unanswered.isEmpty()) {
      heard = System.nanoTime(); // from now on an answer is owed
    }
    var item = new Item(index, message);
    unanswered.put(Long.toString(index), item);
    unsent.add(item);
  }

  private void take(Answered answer) {
    for (var result : answer.results()) {
      take(answer.call(), result);
    }
    if (answer.results().isEmpty()) {
      strays++;
    }
    if (strays > MAX_STRAYS) {
      giveUp(Errors.damaged("more answers came than there were requests", ""));
      return;
    }
    answer.call().requests.request(1);
  }

  private void take(Call call, StreamResult result) {
    var item = unanswered.get(result.getItemId());
    if (item == null || item.sentOn != call) {
      strays++;
      return; // nobody waits for it
    }
    var outcome = Messages.outcome(
        item.request,
        result.hasResponse() ? result.getResponse() : null,
        result.hasError() ? result.getError() : null);
    if (outcome instanceof Failure failure && failure.error() instanceof RecognitionException.Overloaded overloaded) {
      lastError = overloaded;
      long wait = RecognitionClient.waitNanos(overloaded);
      pause(wait);
      if (wait <= heard + patienceNanos - System.nanoTime()) {
        item.sentOn = null;
        unsent.add(item);
        return;
      }
    } else {
      heard = System.nanoTime();
      openings = 0;
      lastError = unsent.isEmpty() ? null : lastError;
    }
    unanswered.remove(result.getItemId());
    ready.add(new StreamAnswer(item.index, outcome));
  }

  private void takeEnd(Ended end) {
    var again = unanswered.values().stream().filter(each -> each.sentOn == end.call()).toList();
    if (again.isEmpty()) {
      return; // the next request opens another
    }
    var status = end.error() instanceof StatusRuntimeException error ? error : end.status().asRuntimeException();
    lastError = Errors.of(status, "", channels);
    var code = end.status().getCode();
    if (channels.isClosed() || (code != Status.Code.UNAVAILABLE && code != Status.Code.RESOURCE_EXHAUSTED)) {
      giveUp(lastError);
      return;
    }
    if (code == Status.Code.RESOURCE_EXHAUSTED) {
      pause(RecognitionClient.waitNanos(lastError));
    } else {
      long most = Math.min(FIRST_BACKOFF_NANOS << Math.min(openings, MAX_DOUBLINGS), MAX_BACKOFF_NANOS);
      pause(ThreadLocalRandom.current().nextLong(most / 2, most)); // not all clients at once
    }
    openings++;
    for (int i = again.size() - 1; i >= 0; i--) {
      again.get(i).sentOn = null;
      unsent.addFirst(again.get(i));
    }
  }

  /** Answers what is under way with an error, and takes nothing more from the source. */
  private void giveUp(RecognitionException error) {
    gaveUp = error;
    cancel("no answer");
    unanswered.values().forEach(item -> ready.add(
        new StreamAnswer(item.index, new Failure(Errors.under(item.request.getRequestId(), error)))));
    unanswered.clear();
    unsent.clear();
  }

  /** Gives up without asking the source whether it has more, because nobody is to wait for that. */
  private void abort(RecognitionException error) {
    giveUp(error);
    reader.interrupt();
    for (int waiting = events.size(); waiting > 0; waiting--) {
      take(events.remove());
    }
    sourceEnded = true;
    sourceError = error;
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
    var channel = channels.forCall();
    if (call != null && call.channel != channel) {
      call.requests.onCompleted(); // it ends when what it carries is answered
      call = null;
    }
    if (call == null) {
      call = new Call(channel);
      calls.add(call);
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
        item.sentOn = call;
        items.add(StreamItem.newBuilder().setItemId(Long.toString(item.index)).setRequest(item.request).build());
      }
      call.requests.onNext(StreamVerifyCredentialsRequest.newBuilder().addAllItems(items).build());
    }
  }
}
