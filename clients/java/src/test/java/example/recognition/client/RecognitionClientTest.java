package example.recognition.client;

import static example.recognition.client.FakeGateway.error;
import static example.recognition.client.FakeGateway.overloaded;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.UnknownFieldSet;
import com.google.rpc.BadRequest;
import com.google.rpc.RetryInfo;
import example.recognition.client.Accepted.PredicateAnswer;
import example.recognition.v1.BatchVerifyCredentialsResponse;
import example.recognition.v1.VerifyCredentialResponse;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.Status.Code;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.time.Duration;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Against a gateway that answers what no real one would. */
@Timeout(60)
class RecognitionClientTest {

  private static final VerifyRequest REQUEST = VerifyRequest.of("HK-QY", "secret-presentation").withNonce("secret-nonce");

  private FakeGateway gateway;

  @BeforeEach
  void open() throws Exception {
    gateway = new FakeGateway();
  }

  @AfterEach
  void close() {
    gateway.close();
  }

  // -- answers ---------------------------------------------------------------------------------------------------------

  @Test
  void unknownReasonRejectsAndKeepsItsNumber() {
    gateway.verdicts = request -> VerifyCredentialResponse.newBuilder()
        .setRejected(example.recognition.v1.Rejection.newBuilder().setReasonValue(999))
        .setNextStepValue(999)
        .build();
    var decision = gateway.client().verify(REQUEST);
    assertEquals(new Rejected(Reason.UNRECOGNISED, 999), decision.verdict());
    assertEquals(NextStep.CALL_SUPPORT, decision.nextStep());
  }

  @Test
  void unknownKindOfVerdictIsDamaged() {
    gateway.verdicts = request -> VerifyCredentialResponse.newBuilder()
        .setVerificationId("x")
        .setUnknownFields(unknown(15))
        .build();
    var error = assertThrows(RecognitionException.DamagedAnswer.class, () -> gateway.client().verify(REQUEST));
    assertEquals(gateway.asked.get(0).getRequestId(), error.requestId());
  }

  @Test
  void newFieldsArePassedOver() {
    gateway.verdicts = request -> {
      var response = FakeGateway.accepted(request).toBuilder();
      response.getAcceptedBuilder().setUnknownFields(unknown(500));
      return response.setUnknownFields(unknown(501)).build();
    };
    assertInstanceOf(Accepted.class, gateway.client().verify(REQUEST).verdict());
  }

  @Test
  void predicateWithoutAnAnswerIsDamaged() {
    var asking = REQUEST.withPredicates(Predicate.ageAtLeast(18));
    for (int number : new int[] {0, 7}) {
      gateway.verdicts = request -> {
        var response = FakeGateway.accepted(request).toBuilder();
        response.getAcceptedBuilder().addPredicateAnswersValue(number);
        return response.build();
      };
      assertThrows(RecognitionException.DamagedAnswer.class, () -> gateway.client().verify(asking));
    }
    gateway.verdicts = FakeGateway::accepted; // answers none of the questions
    assertThrows(RecognitionException.DamagedAnswer.class, () -> gateway.client().verify(asking));
  }

  @Test
  void predicatesAreAnsweredInTheirOrder() {
    gateway.verdicts = request -> {
      var response = FakeGateway.accepted(request).toBuilder();
      response.getAcceptedBuilder().addPredicateAnswersValue(1).addPredicateAnswersValue(2);
      return response.build();
    };
    var asking = REQUEST.withPredicates(Predicate.ageAtLeast(18), Predicate.householdIn("sh", "ah"));
    var verdict = gateway.client().verify(asking).verdict();
    assertEquals(
        List.of(PredicateAnswer.YES, PredicateAnswer.NO),
        verdict.match(Accepted::predicateAnswers, rejected -> List.of(), indeterminate -> List.of()));
    assertEquals(18, gateway.asked.get(0).getPredicates(0).getAgeAtLeast());
    assertEquals(List.of("sh", "ah"), gateway.asked.get(0).getPredicates(1).getHouseholdIn().getProvincesList());
  }

  @Test
  void impossibleTimeIsDamaged() {
    gateway.verdicts = request -> {
      var response = FakeGateway.accepted(request).toBuilder();
      response.getVerifyTimeBuilder().setSeconds(Long.MAX_VALUE);
      return response.build();
    };
    assertThrows(RecognitionException.DamagedAnswer.class, () -> gateway.client().verify(REQUEST));
  }

  // -- request ids -----------------------------------------------------------------------------------------------------

  @Test
  void requestIdIsMadeWhereNoneIsGiven() {
    var decision = gateway.client().verify(REQUEST);
    assertTrue(decision.requestId().matches("[A-Za-z0-9_][A-Za-z0-9_-]{21}"), decision.requestId());
    assertEquals(gateway.asked.get(0).getRequestId(), decision.requestId());
    assertEquals("case-1", gateway.client().verify(REQUEST.withRequestId("case-1")).requestId());
  }

  // -- errors ----------------------------------------------------------------------------------------------------------

  @ParameterizedTest
  @CsvSource({
    "INVALID_ARGUMENT, InvalidRequest",
    "PERMISSION_DENIED, NotPermitted",
    "UNAUTHENTICATED, NotPermitted",
    "NOT_FOUND, Refused",
    "ABORTED, Refused",
    "FAILED_PRECONDITION, Refused",
    "RESOURCE_EXHAUSTED, Overloaded",
    "UNAVAILABLE, Unavailable",
    "DEADLINE_EXCEEDED, DeadlineExceeded",
    "INTERNAL, Internal",
    "UNIMPLEMENTED, Internal",
    "UNKNOWN, Internal",
  })
  void everyStatusIsOfOneKind(Code code, String kind) {
    gateway.verdicts = request -> {
      throw error(code, "SOME_REASON", "said by the gateway");
    };
    var error = assertThrows(RecognitionException.class, () -> gateway.client().verify(REQUEST.withRequestId("case-1")));
    assertEquals(kind, error.getClass().getSimpleName());
    assertEquals(code, error.code());
    assertEquals("SOME_REASON", error.reason());
    assertEquals("case-1", error.requestId());
    assertTrue(error.getMessage().contains("said by the gateway"), error.getMessage());
    assertTrue(error.getMessage().contains("case-1"), error.getMessage());
  }

  @Test
  void fieldAtFaultIsNamed() {
    gateway.verdicts = request -> {
      var violation = BadRequest.FieldViolation.newBuilder().setField("predicates[0].age_at_least");
      throw error(
          Code.INVALID_ARGUMENT,
          "INVALID_REQUEST",
          "must be 1 to 150",
          BadRequest.newBuilder().addFieldViolations(violation).build());
    };
    var error = assertThrows(RecognitionException.InvalidRequest.class, () -> gateway.client().verify(REQUEST));
    assertEquals("predicates[0].age_at_least", error.field());
  }

  @Test
  void damagedDetailsLeaveTheStatus() {
    var trailers = new Metadata();
    trailers.put(Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER), new byte[] {1, 2, 3});
    gateway.verdicts = request -> {
      throw Status.PERMISSION_DENIED.asRuntimeException(trailers);
    };
    var error = assertThrows(RecognitionException.NotPermitted.class, () -> gateway.client().verify(REQUEST));
    assertEquals("", error.reason());
  }

  @Test
  void overloadForAsLongAsCanBeIsNotWaitedFor() {
    var never = com.google.protobuf.Duration.newBuilder().setSeconds(Long.MAX_VALUE).setNanos(999_999_999).build();
    gateway.verdicts = request -> {
      throw error(
          Code.RESOURCE_EXHAUSTED, "OVERLOADED", "no", RetryInfo.newBuilder().setRetryDelay(never).build());
    };
    assertThrows(RecognitionException.Overloaded.class, () -> gateway.client().verify(REQUEST));
    assertEquals(1, gateway.asked.size());
  }

  @Test
  void nothingThatIsPrintedTellsSecrets() {
    gateway.verdicts = request -> FakeGateway.accepted(request).toBuilder().setVerificationId("its-id").build();
    var accepted = gateway.client().verify(REQUEST);
    gateway.verdicts = request -> {
      throw error(Code.INTERNAL, "INTERNAL", "internal error, reference x");
    };
    var error = assertThrows(RecognitionException.class, () -> gateway.client().verify(REQUEST));
    var trace = new StringWriter();
    error.printStackTrace(new PrintWriter(trace));
    var challenge = new Challenge("secret-nonce", "audience", null);
    var question = REQUEST.withPredicates(Predicate.claimMatches("name", "张某"));
    for (var printed : List.of(REQUEST, accepted, new Failure(error), trace, challenge, question)) {
      for (var secret : List.of("secret", "张某", "pairwise")) {
        assertFalse(printed.toString().contains(secret), printed.toString());
      }
    }
  }

  // -- tries -----------------------------------------------------------------------------------------------------------

  @Test
  void unavailableIsTriedAgainUnderTheSameId() {
    var tries = new AtomicInteger();
    gateway.verdicts = request -> {
      if (tries.incrementAndGet() < 3) {
        throw Status.UNAVAILABLE.asRuntimeException();
      }
      return FakeGateway.accepted(request);
    };
    gateway.client().verify(REQUEST);
    assertEquals(3, gateway.asked.size());
    assertEquals(1, gateway.asked.stream().distinct().count());
  }

  @Test
  void unavailableIsTriedFourTimes() {
    gateway.verdicts = request -> {
      throw Status.UNAVAILABLE.asRuntimeException();
    };
    assertThrows(RecognitionException.Unavailable.class, () -> gateway.client().verify(REQUEST));
    assertEquals(4, gateway.asked.size());
  }

  @Test
  void consentIsRecordedOnce() {
    assertThrows(
        RecognitionException.Unavailable.class,
        () -> gateway.client().recordConsent("HK-QY", List.of("name"), Duration.ofDays(1)));
    assertEquals(1, gateway.consents.size());
  }

  @Test
  void overloadIsWaitedFor() {
    gateway.verdicts = request -> {
      if (gateway.asked.size() == 1) {
        throw overloaded(150);
      }
      return FakeGateway.accepted(request);
    };
    long begun = System.nanoTime();
    gateway.client().verify(REQUEST);
    assertTrue(System.nanoTime() - begun >= 150_000_000);
    assertEquals(2, gateway.asked.size());
  }

  @Test
  void overloadIsTriedThreeTimes() {
    gateway.verdicts = request -> {
      throw overloaded(1);
    };
    var error = assertThrows(RecognitionException.Overloaded.class, () -> gateway.client().verify(REQUEST));
    assertEquals(Duration.ofMillis(1), error.retryAfter().orElseThrow());
    assertEquals(3, gateway.asked.size());
  }

  @Test
  void overloadIsNotWaitedForBeyondTheDeadline() {
    gateway.verdicts = request -> {
      throw overloaded(900);
    };
    var client = gateway.client(Options.DEFAULT.withDeadline(Duration.ofMillis(800)));
    assertThrows(RecognitionException.Overloaded.class, () -> client.verify(REQUEST));
    assertEquals(1, gateway.asked.size());
  }

  @Test
  void deadlineEndsACall() {
    gateway.verdicts = request -> null;
    var client = gateway.client(Options.DEFAULT.withDeadline(Duration.ofMillis(100)));
    var error = assertThrows(RecognitionException.DeadlineExceeded.class, () -> client.verify(REQUEST));
    assertEquals(gateway.asked.get(0).getRequestId(), error.requestId());
  }

  @Test
  void interruptedThreadStopsWaiting() {
    gateway.verdicts = request -> null;
    Thread.currentThread().interrupt();
    var error = assertThrows(RecognitionException.Unavailable.class, () -> gateway.client().verify(REQUEST));
    assertEquals(Code.CANCELLED, error.code());
    assertTrue(Thread.interrupted());
  }

  @Test
  void closedClientAnswersNothing() {
    var client = gateway.client();
    client.close();
    assertThrows(RecognitionException.Unavailable.class, () -> client.verify(REQUEST));
  }

  // -- batches ---------------------------------------------------------------------------------------------------------

  @Test
  void manyAreSplitIntoBatchesAndAnsweredInOrder() {
    var requests = IntStream.range(0, 2_500).mapToObj(each -> VerifyRequest.of("KY-LA", "p" + each)).toList();
    var outcomes = gateway.client().verifyAll(requests);
    assertEquals(List.of(1_000, 1_000, 500), gateway.batches.stream().map(each -> each.getItemsCount()).toList());
    assertEquals(2_500, outcomes.size());
    for (int i = 0; i < outcomes.size(); i++) {
      assertEquals("of-p" + i, assertInstanceOf(Decision.class, outcomes.get(i)).verificationId());
    }
  }

  @Test
  void largeOnesAreSplitByTheirBytes() {
    var request = VerifyRequest.of("KY-LA", "x".repeat(60_000));
    gateway.client().verifyAll(Collections.nCopies(100, request));
    assertEquals(2, gateway.batches.size());
    gateway.batches.forEach(each -> assertTrue(each.getSerializedSize() <= 4 * 1024 * 1024));
  }

  @Test
  void largeBatchIsTriedAgain() {
    gateway.batchAnswers = request -> {
      if (gateway.batches.size() == 1) {
        throw Status.UNAVAILABLE.asRuntimeException();
      }
      return FakeGateway.acceptedAll(request);
    };
    var request = VerifyRequest.of("KY-LA", "x".repeat(60_000));
    var outcomes = gateway.client().verifyAll(Collections.nCopies(60, request));
    outcomes.forEach(each -> assertInstanceOf(Decision.class, each));
  }

  @Test
  void itemsFailAlone() {
    gateway.batchAnswers = request -> {
      var response = BatchVerifyCredentialsResponse.newBuilder();
      response.addResultsBuilder().setResponse(FakeGateway.accepted(request.getItems(0)));
      response.addResultsBuilder()
          .getErrorBuilder()
          .setCode(3)
          .setReason("INVALID_REQUEST")
          .setField("nonce")
          .setDescription("is missing");
      response.addResultsBuilder().getErrorBuilder().setCode(0);
      response.addResultsBuilder();
      response.addResultsBuilder().setResponse(VerifyCredentialResponse.getDefaultInstance());
      return response.build();
    };
    var outcomes = gateway.client().verifyAll(Collections.nCopies(5, REQUEST));
    assertInstanceOf(Decision.class, outcomes.get(0));
    assertEquals("nonce", failure(RecognitionException.InvalidRequest.class, outcomes.get(1)).field());
    failure(RecognitionException.Internal.class, outcomes.get(2));
    failure(RecognitionException.DamagedAnswer.class, outcomes.get(3));
    failure(RecognitionException.DamagedAnswer.class, outcomes.get(4));
    for (int i = 0; i < 5; i++) {
      assertEquals(gateway.batches.get(0).getItems(i).getRequestId(), outcomes.get(i).requestId());
    }
  }

  @Test
  void batchThatFailsAsAWholeLeavesTheOthers() {
    gateway.batchAnswers = request -> {
      if (gateway.batches.size() == 2) {
        throw error(Code.PERMISSION_DENIED, "NOT_PERMITTED", "no");
      }
      return FakeGateway.acceptedAll(request);
    };
    var outcomes = gateway.client().verifyAll(Collections.nCopies(2_001, REQUEST));
    assertInstanceOf(Decision.class, outcomes.get(999));
    var error = failure(RecognitionException.NotPermitted.class, outcomes.get(1_000));
    assertEquals(gateway.batches.get(1).getItems(0).getRequestId(), error.requestId());
    assertInstanceOf(Decision.class, outcomes.get(2_000));
  }

  @Test
  void batchWithTooFewAnswersHasNone() {
    gateway.batchAnswers = request -> FakeGateway.acceptedAll(request).toBuilder().removeResults(0).build();
    gateway.client().verifyAll(Collections.nCopies(3, REQUEST))
        .forEach(each -> failure(RecognitionException.DamagedAnswer.class, each));
  }

  // -- the rest --------------------------------------------------------------------------------------------------------

  @Test
  void matchCallsTheOneThatFits() {
    Verdict rejected = new Rejected(Reason.EXPIRED, 21);
    assertSame(rejected, rejected.<Object>match(accepted -> null, each -> each, indeterminate -> null));
    Verdict indeterminate = new Indeterminate(Reason.TRUST_STALE, 60, java.util.Optional.empty());
    assertSame(indeterminate, indeterminate.<Object>match(accepted -> null, each -> null, each -> each));
  }

  static <T extends RecognitionException> T failure(Class<T> kind, Outcome outcome) {
    return assertInstanceOf(kind, assertInstanceOf(Failure.class, outcome).error());
  }

  private static UnknownFieldSet unknown(int number) {
    var field = UnknownFieldSet.Field.newBuilder().addLengthDelimited(com.google.protobuf.ByteString.EMPTY).build();
    return UnknownFieldSet.newBuilder().addField(number, field).build();
  }
}
