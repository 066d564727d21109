package example.recognition.client;

import static example.recognition.client.RecognitionClientTest.failure;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.RetryInfo;
import example.recognition.v1.StreamItem;
import example.recognition.v1.StreamResult;
import example.recognition.v1.StreamVerifyCredentialsRequest;
import example.recognition.v1.StreamVerifyCredentialsResponse;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BiConsumer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Streams to a gateway that ends them whenever a test wants it to. */
@Timeout(60)
class VerificationStreamTest {

  private static final Duration IMPATIENCE = Duration.ofMillis(400);

  private final List<StreamVerifyCredentialsRequest> messages = new CopyOnWriteArrayList<>();
  private final AtomicInteger opened = new AtomicInteger();
  private FakeGateway gateway;

  @BeforeEach
  void open() throws Exception {
    gateway = new FakeGateway();
    onMessage((message, answers) -> answers.onNext(accepted(message)));
  }

  @AfterEach
  void close() {
    gateway.close();
  }

  @Test
  void everyRequestIsAnsweredOnce() {
    assertEquals(indexes(5_000), decided(5_000, gateway.client()));
    assertEquals(1, opened.get());
    messages.forEach(each -> assertTrue(each.getItemsCount() <= 16));
    assertTrue(messages.size() < 2_500, messages.size() + " messages");
  }

  @Test
  void nothingToAskIsNothingToSend() {
    assertEquals(Set.of(), decided(0, gateway.client()));
    assertEquals(0, opened.get());
  }

  @Test
  void slowConsumerSlowsTheSourceDown() {
    var taken = new AtomicInteger();
    Iterator<VerifyRequest> source = requests(2_000).stream().peek(each -> taken.incrementAndGet()).iterator();
    try (var answers = gateway.client().stream(source)) {
      for (int read = 1; read <= 2_000; read++) {
        answers.next();
        assertTrue(taken.get() - read <= VerificationStream.WINDOW, taken + " taken, " + read + " read");
      }
      assertFalse(answers.hasNext());
    }
  }

  @Test
  void slowSourceDoesNotHoldAnswersBack() throws Exception {
    var queue = new LinkedBlockingQueue<List<VerifyRequest>>();
    var source = new Iterator<VerifyRequest>() {
      private boolean ended;
      private VerifyRequest following;

      @Override
      public boolean hasNext() {
        if (following == null && !ended) {
          try {
            var next = queue.take();
            ended = next.isEmpty();
            following = ended ? null : next.get(0);
          } catch (InterruptedException end) {
            ended = true;
          }
        }
        return following != null;
      }

      @Override
      public VerifyRequest next() {
        var given = following;
        following = null;
        return given;
      }
    };
    try (var answers = gateway.client().stream(source)) {
      for (int i = 0; i < 3; i++) {
        queue.put(requests(1));
        assertEquals(i, answers.next().index()); // although the source does not know yet what comes next
      }
      queue.put(List.of());
      assertFalse(answers.hasNext());
    }
  }

  @Test
  void streamThatEndsIsOpenedAgainAndTheRestSentAgain() {
    onMessage((message, answers) -> {
      if (opened.get() < 4 && messages.size() % 3 == 0) {
        answers.onNext(accepted(message.toBuilder().removeItems(0).build()));
        answers.onError(Status.UNAVAILABLE.asRuntimeException());
      } else {
        answers.onNext(accepted(message));
      }
    });
    assertEquals(indexes(1_000), decided(1_000, gateway.client()));
    assertEquals(4, opened.get());
    var ids = new HashSet<String>();
    messages.forEach(message -> message.getItemsList().forEach(each -> ids.add(each.getRequest().getRequestId())));
    assertEquals(1_000, ids.size());
  }

  @Test
  void gatewayThatIsAwayForAWhileIsWaitedFor() {
    onMessage((message, answers) -> {
      if (opened.get() <= 6) { // more often than any other call is tried
        answers.onError(Status.UNAVAILABLE.asRuntimeException());
      } else {
        answers.onNext(accepted(message));
      }
    });
    assertEquals(indexes(300), decided(300, gateway.client()));
    assertEquals(7, opened.get());
  }

  @Test
  void gatewayThatStaysAwayFailsWhatWasSent() {
    onMessage((message, answers) -> answers.onError(Status.UNAVAILABLE.withDescription("away").asRuntimeException()));
    try (var answers = impatient().stream(requests(3).iterator())) {
      for (int i = 0; i < 3; i++) {
        var error = failure(RecognitionException.Unavailable.class, answers.next().outcome());
        assertTrue(error.getMessage().contains("[UNAVAILABLE: away]"), error.getMessage());
        assertFalse(error.requestId().isEmpty());
      }
      assertFalse(answers.hasNext());
    }
    assertTrue(opened.get() >= 2, opened + " opened");
  }

  @Test
  void longSourceIsNotUsedUpByAGatewayThatIsAway() {
    onMessage((message, answers) -> answers.onError(Status.UNAVAILABLE.withDescription("away").asRuntimeException()));
    var taken = new AtomicInteger();
    var source = requests(5_000).stream().peek(each -> taken.incrementAndGet()).iterator();
    var failed = new HashSet<Long>();
    try (var answers = impatient().stream(source)) {
      var error = assertThrows(RecognitionException.Unavailable.class, () -> answers.forEachRemaining(each -> {
        failure(RecognitionException.Unavailable.class, each.outcome());
        failed.add(each.index());
      }));
      assertTrue(error.getMessage().contains("[UNAVAILABLE: away]"), error.getMessage());
      assertFalse(answers.hasNext());
    }
    assertEquals(indexes(VerificationStream.WINDOW), failed);
    assertTrue(taken.get() <= VerificationStream.WINDOW + 1, taken + " taken");
  }

  @Test
  void timeThatTheReaderTakesIsNotTheGateways() throws Exception {
    onMessage((message, answers) -> {
      if (opened.get() == 1) {
        answers.onNext(accepted(message.toBuilder().clearItems().addItems(message.getItems(0)).build()));
        answers.onError(Status.UNAVAILABLE.asRuntimeException());
      } else {
        answers.onNext(accepted(message));
      }
    });
    try (var answers = impatient().stream(requests(40).iterator())) {
      answers.next();
      TimeUnit.MILLISECONDS.sleep(2 * IMPATIENCE.toMillis()); // it is what this is about
      answers.forEachRemaining(each -> assertInstanceOf(Decision.class, each.outcome(), each.outcome()::toString));
    }
  }

  @Test
  void closedClientEndsItsStreams() {
    onMessage((message, answers) -> {});
    var client = gateway.client();
    try (var answers = client.stream(requests(1_000).iterator())) {
      var closing = new Thread(() -> {
        while (messages.isEmpty()) {
          Thread.onSpinWait();
        }
        client.close();
      });
      closing.start();
      var error = assertThrows(RecognitionException.Unavailable.class, () -> answers.forEachRemaining(
          each -> failure(RecognitionException.Unavailable.class, each.outcome())));
      assertTrue(error.getMessage().contains("this client was closed"), error.getMessage());
    }
  }

  @Test
  void refusedStreamEnds() {
    onMessage((message, answers) ->
        answers.onError(FakeGateway.error(Status.Code.PERMISSION_DENIED, "NOT_PERMITTED", "no")));
    try (var answers = gateway.client().stream(requests(1_000).iterator())) {
      assertEquals("NOT_PERMITTED", failure(RecognitionException.NotPermitted.class, answers.next().outcome()).reason());
      assertThrows(RecognitionException.NotPermitted.class, () -> answers.forEachRemaining(each -> {}));
    }
    assertEquals(1, opened.get());
  }

  @Test
  void itemOverTheRateIsAskedAgainLater() {
    onMessage((message, answers) -> answers.onNext(messages.size() == 1 ? overloaded(message) : accepted(message)));
    assertEquals(indexes(10), decided(10, gateway.client()));
  }

  @Test
  void itemOverTheRateIsAskedAgainAsOftenAsItTakes() {
    onMessage((message, answers) -> answers.onNext(messages.size() <= 20 ? overloaded(message) : accepted(message)));
    assertEquals(indexes(3), decided(3, gateway.client()));
  }

  @Test
  void itemThatStaysOverTheRateFails() {
    onMessage((message, answers) -> answers.onNext(overloaded(message)));
    try (var answers = impatient().stream(requests(1).iterator())) {
      failure(RecognitionException.Overloaded.class, answers.next().outcome());
      assertFalse(answers.hasNext());
    }
    assertTrue(messages.size() > 3, messages.size() + " messages");
  }

  @Test
  void streamThatIsRefusedForWantOfRoomIsOpenedAgain() {
    onMessage((message, answers) -> {
      if (opened.get() <= 5) {
        answers.onError(FakeGateway.overloaded(1));
      } else {
        answers.onNext(accepted(message));
      }
    });
    assertEquals(indexes(50), decided(50, gateway.client()));
  }

  @Test
  void silenceIsNotWaitedForForever() {
    onMessage((message, answers) -> {});
    var client = gateway.client(Options.DEFAULT.withBatchDeadline(Duration.ofMillis(100)));
    try (var answers = client.stream(requests(1).iterator())) {
      var error = failure(RecognitionException.DeadlineExceeded.class, answers.next().outcome());
      assertEquals(messages.get(0).getItems(0).getRequest().getRequestId(), error.requestId());
      assertFalse(answers.hasNext());
    }
  }

  @Test
  void answerThatIsNoneIsDamaged() {
    onMessage((message, answers) -> {
      var response = StreamVerifyCredentialsResponse.newBuilder();
      response.addResultsBuilder().setItemId("nobody's");
      response.addResultsBuilder().setItemId("77");
      message.getItemsList().forEach(each -> response.addResultsBuilder().setItemId(each.getItemId()));
      answers.onNext(response.build());
    });
    try (var answers = gateway.client().stream(requests(1).iterator())) {
      failure(RecognitionException.DamagedAnswer.class, answers.next().outcome());
      assertFalse(answers.hasNext());
    }
  }

  @Test
  void streamThatIsRefusedWithDamagedDetailsEnds() {
    var trailers = new Metadata();
    trailers.put(Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER), new byte[] {1, 2, 3});
    onMessage((message, answers) -> answers.onError(Status.PERMISSION_DENIED.asRuntimeException(trailers)));
    try (var answers = gateway.client().stream(requests(1).iterator())) {
      failure(RecognitionException.NotPermitted.class, answers.next().outcome());
      assertFalse(answers.hasNext());
    }
  }

  @Test
  void answersThatSettleNothingDoNotProlongTheWait() throws Exception {
    for (var id : List.of("", "77", "+0", "00", "\uff10", "1".repeat(5_000))) {
      onMessage((message, answers) -> {
        var response = StreamVerifyCredentialsResponse.newBuilder();
        if (!id.isEmpty()) {
          response.addResultsBuilder().setItemId(id).setResponse(
              FakeGateway.accepted(message.getItems(0).getRequest()));
        }
        var repeating = new Thread(() -> {
          var stream = (ServerCallStreamObserver<StreamVerifyCredentialsResponse>) answers;
          for (int i = 0; i < 500 && !stream.isCancelled(); i++) {
            stream.onNext(response.build());
            LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(2));
          }
        });
        repeating.setDaemon(true);
        repeating.start();
      });
      try (var answers = impatient().stream(requests(1).iterator())) {
        failure(RecognitionException.DeadlineExceeded.class, answers.next().outcome());
        assertFalse(answers.hasNext());
      }
      gateway.close();
      open();
    }
  }

  @Test
  void floodOfAnswersThatNobodyWaitsForEndsTheStream() throws Exception {
    for (int lot : new int[] {0, 1, 5_000}) {
      onMessage((message, answers) -> {
        var response = StreamVerifyCredentialsResponse.newBuilder();
        for (int i = 0; i < lot; i++) {
          response.addResultsBuilder().setItemId("nobody's");
        }
        for (int i = 0; i <= VerificationStream.MAX_STRAYS; i++) {
          answers.onNext(response.build());
        }
      });
      try (var answers = gateway.client().stream(requests(3).iterator())) {
        var error = failure(RecognitionException.DamagedAnswer.class, answers.next().outcome());
        assertFalse(error.requestId().isEmpty());
        answers.forEachRemaining(each -> failure(RecognitionException.DamagedAnswer.class, each.outcome()));
      }
      gateway.close();
      open();
    }
  }

  @Test
  void noRoomForLongerThanTheWaitFailsAtOnce() throws Exception {
    for (var isStream : List.of(false, true)) {
      onMessage((message, answers) -> {
        if (isStream) {
          answers.onError(FakeGateway.error(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED", "no", RetryInfo.newBuilder()
              .setRetryDelay(com.google.protobuf.Duration.newBuilder().setSeconds(Long.MAX_VALUE)).build()));
        } else {
          var response = overloaded(message).toBuilder();
          response.getResultsBuilderList().forEach(
              each -> each.getErrorBuilder().getRetryDelayBuilder().setSeconds(Long.MAX_VALUE));
          answers.onNext(response.build());
        }
      });
      var taken = new AtomicInteger();
      var source = requests(5_000).stream().peek(each -> taken.incrementAndGet()).iterator();
      long begun = System.nanoTime();
      try (var answers = gateway.client().stream(source)) {
        var first = failure(RecognitionException.Overloaded.class, answers.next().outcome());
        assertTrue(first.retryAfter().orElseThrow().compareTo(Duration.ofDays(365)) > 0);
        assertThrows(RecognitionException.Overloaded.class, () -> answers.forEachRemaining(
            each -> failure(RecognitionException.Overloaded.class, each.outcome())));
      }
      assertTrue(System.nanoTime() - begun < TimeUnit.SECONDS.toNanos(20));
      assertTrue(taken.get() <= 2 * VerificationStream.WINDOW + 1, taken + " taken"); // never the whole source
      gateway.close();
      open();
    }
  }

  @Test
  void gatewayIsReadNoFasterThanItsAnswersAreTaken() {
    var gateways = new CompletableFuture<ServerCallStreamObserver<StreamVerifyCredentialsResponse>>();
    onMessage((message, answers) -> {
      answers.onNext(accepted(message));
      for (int i = 0; i < 100; i++) {
        answers.onNext(StreamVerifyCredentialsResponse.getDefaultInstance());
      }
      gateways.complete((ServerCallStreamObserver<StreamVerifyCredentialsResponse>) answers);
    });
    try (var answers = gateway.client().stream(requests(1).iterator())) {
      assertTrue(answers.hasNext());
      var sending = gateways.join();
      for (int i = 0; i < 50; i++) {
        assertFalse(sending.isReady(), "more is asked for than was read");
        LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(2));
      }
    }
  }

  @Test
  void newConnectionIsUsedFromTheNextMessageOn() {
    gateway.streams = answers -> {
      boolean isFirst = opened.incrementAndGet() == 1;
      var held = new ArrayList<StreamVerifyCredentialsRequest>();
      return new StreamObserver<>() {
        @Override
        public void onNext(StreamVerifyCredentialsRequest message) {
          messages.add(message);
          if (!isFirst) {
            answers.onNext(accepted(message));
            return;
          }
          if (held.isEmpty()) {
            gateway.connectAnew();
          }
          answers.onNext(accepted(message.toBuilder().clearItems().addItems(message.getItems(0)).build()));
          held.add(message.toBuilder().removeItems(0).build());
        }

        @Override
        public void onError(Throwable cancelled) {}

        @Override
        public void onCompleted() {
          held.forEach(each -> answers.onNext(accepted(each))); // as a gateway does: what it took, it answers
          answers.onCompleted();
        }
      };
    };
    assertEquals(indexes(1_000), decided(1_000, gateway.client()));
    assertEquals(2, opened.get());
    var ids = new HashSet<String>();
    messages.forEach(message -> message.getItemsList().forEach(each -> assertTrue(ids.add(each.getItemId()))));
  }

  @Test
  void whatCannotBeSentFailsAlone() {
    var requests = new ArrayList<>(requests(6));
    requests.set(3, VerifyRequest.of("KY-LA", "half \ud83d"));
    requests.set(4, null);
    requests.set(1, VerifyRequest.of("KY-LA", "x".repeat(256 * 1024)));
    var failed = new HashSet<Long>();
    try (var answers = gateway.client().stream(requests.iterator())) {
      answers.forEachRemaining(each -> {
        if (each.outcome() instanceof Failure) {
          failure(RecognitionException.InvalidRequest.class, each.outcome());
          failed.add(each.index());
        }
      });
    }
    assertEquals(Set.of(1L, 3L, 4L), failed);
  }

  @Test
  void largeRequestsAreSplitByTheirBytes() {
    var request = VerifyRequest.of("KY-LA", "x".repeat(200_000));
    try (var answers = gateway.client().stream(Collections.nCopies(50, request).iterator())) {
      answers.forEachRemaining(each -> assertInstanceOf(Decision.class, each.outcome()));
    }
    messages.forEach(each -> assertTrue(each.getSerializedSize() <= 1024 * 1024));
  }

  @Test
  void errorOfTheSourceComesAfterTheAnswers() {
    var requests = requests(5).iterator();
    var source = new Iterator<VerifyRequest>() {
      @Override
      public boolean hasNext() {
        return true;
      }

      @Override
      public VerifyRequest next() {
        if (!requests.hasNext()) {
          throw new IllegalStateException("the register cannot be read");
        }
        return requests.next();
      }
    };
    try (var answers = gateway.client().stream(source)) {
      for (int i = 0; i < 5; i++) {
        answers.next();
      }
      assertThrows(IllegalStateException.class, answers::hasNext);
    }
  }

  @Test
  void interruptedThreadIsGivenWhatWasTakenAndStopsWaiting() {
    var caller = Thread.currentThread();
    onMessage((message, answers) -> caller.interrupt());
    try (var answers = gateway.client().stream(requests(1).iterator())) {
      var failed = failure(RecognitionException.Unavailable.class, answers.next().outcome());
      assertEquals(messages.get(0).getItems(0).getRequest().getRequestId(), failed.requestId());
      var error = assertThrows(RecognitionException.Unavailable.class, answers::hasNext);
      assertTrue(Thread.interrupted());
      assertTrue(error.getMessage().contains("this thread was interrupted"), error.getMessage());
      assertFalse(answers.hasNext());
    }
  }

  // -- what the tests are made of --------------------------------------------------------------------------------------

  private void onMessage(
      BiConsumer<StreamVerifyCredentialsRequest, StreamObserver<StreamVerifyCredentialsResponse>> behaviour) {
    gateway.streams = answers -> {
      opened.incrementAndGet();
      return new StreamObserver<>() {
        @Override
        public void onNext(StreamVerifyCredentialsRequest message) {
          messages.add(message);
          behaviour.accept(message, answers);
        }

        @Override
        public void onError(Throwable cancelled) {}

        @Override
        public void onCompleted() {
          answers.onCompleted();
        }
      };
    };
  }

  private RecognitionClient impatient() {
    return gateway.client(Options.DEFAULT.withBatchDeadline(IMPATIENCE));
  }

  private static Set<Long> decided(int count, RecognitionClient client) {
    var seen = new HashSet<Long>();
    try (var answers = client.stream(requests(count).iterator())) {
      while (answers.hasNext()) {
        var answer = answers.next();
        assertTrue(seen.add(answer.index()), "answered twice: " + answer.index());
        assertEquals(
            "of-p" + answer.index(), assertInstanceOf(Decision.class, answer.outcome()).verificationId());
      }
    }
    return seen;
  }

  private static List<VerifyRequest> requests(int count) {
    return IntStream.range(0, count).mapToObj(each -> VerifyRequest.of("KY-LA", "p" + each)).toList();
  }

  private static Set<Long> indexes(int count) {
    var indexes = new HashSet<Long>();
    for (long i = 0; i < count; i++) {
      indexes.add(i);
    }
    return indexes;
  }

  private static StreamVerifyCredentialsResponse accepted(StreamVerifyCredentialsRequest message) {
    var response = StreamVerifyCredentialsResponse.newBuilder();
    for (var item : message.getItemsList()) {
      response.addResults(StreamResult.newBuilder()
          .setItemId(item.getItemId())
          .setResponse(FakeGateway.accepted(item.getRequest())));
    }
    return response.build();
  }

  private static StreamVerifyCredentialsResponse overloaded(StreamVerifyCredentialsRequest message) {
    var response = StreamVerifyCredentialsResponse.newBuilder();
    for (StreamItem item : message.getItemsList()) {
      response.addResultsBuilder()
          .setItemId(item.getItemId())
          .getErrorBuilder()
          .setCode(8)
          .setReason("CALLER_RATE_EXCEEDED")
          .getRetryDelayBuilder()
          .setNanos(1_000_000);
    }
    return response.build();
  }
}
