package example.recognition.client;

import static example.recognition.client.FakeGateway.error;
import static example.recognition.client.FakeGateway.overloaded;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Timestamp;
import com.google.protobuf.UnknownFieldSet;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import example.recognition.client.ExplainedStep.StepOutcome;
import example.recognition.v1.Acceptance;
import example.recognition.v1.Actor;
import example.recognition.v1.BatchVerifyCredentialsResponse;
import example.recognition.v1.CreateChallengeResponse;
import example.recognition.v1.ExplainVerificationResponse;
import example.recognition.v1.RecordConsentResponse;
import example.recognition.v1.VerificationServiceGrpc;
import example.recognition.v1.VerifyCredentialResponse;
import example.recognition.v1.WithdrawConsentResponse;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.Status.Code;
import io.grpc.inprocess.InProcessChannelBuilder;
import io.grpc.inprocess.InProcessServerBuilder;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCalls;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.net.ConnectException;
import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.ServerSocket;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Against a gateway that answers what no real one would. */
@Timeout(60)
class RecognitionClientTest {

  private static final VerifyRequest REQUEST = VerifyRequest.of("HK-QY", "secret-presentation").withNonce("secret-nonce");

  private static final Instant LATER = Instant.ofEpochSecond(FakeGateway.LATER.getSeconds());

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
    gateway.verdicts = request -> FakeGateway.decided()
        .setRejected(example.recognition.v1.Rejection.newBuilder().setReasonValue(999))
        .setNextStepValue(999)
        .build();
    var decision = gateway.client().verify(REQUEST);
    assertEquals(new Rejected(Reason.UNRECOGNISED, 999), decision.verdict());
    assertEquals(NextStep.CALL_SUPPORT, decision.nextStep());
    gateway.verdicts = request -> FakeGateway.decided()
        .setIndeterminate(example.recognition.v1.Indeterminate.newBuilder().setReasonValue(999))
        .build();
    assertEquals(
        new Indeterminate(Reason.UNRECOGNISED, 999, Optional.empty()), gateway.client().verify(REQUEST).verdict());
  }

  @Test
  void unknownKindOfVerdictIsDamaged() {
    gateway.verdicts = request -> VerifyCredentialResponse.newBuilder()
        .setVerificationId("x")
        .setUnknownFields(unknown(15))
        .build();
    var error = assertThrows(RecognitionException.DamagedAnswer.class, () -> gateway.client().verify(REQUEST));
    assertEquals(gateway.asked.get(0).getRequestId(), error.requestId());
    assertEquals(Code.DATA_LOSS, error.code());
    assertEquals("DAMAGED_ANSWER", error.reason());
  }

  @Test
  void answerThatIsNoMessageIsDamaged() throws Exception {
    var name = "no-message";
    var method = VerificationServiceGrpc.getCreateChallengeMethod().toBuilder(BYTES, BYTES).build();
    var service = ServerServiceDefinition.builder(VerificationServiceGrpc.SERVICE_NAME)
        .addMethod(method, ServerCalls.asyncUnaryCall((request, answer) -> {
          answer.onNext(new byte[] {(byte) 0xff});
          answer.onCompleted();
        }))
        .build();
    var server = InProcessServerBuilder.forName(name).addService(service).build().start();
    var channel = TlsChannels.configure(InProcessChannelBuilder.forName(name)).build();
    try (var client = new RecognitionClient(new Nowhere(channel), Options.DEFAULT)) {
      assertThrows(RecognitionException.DamagedAnswer.class, () -> client.challenge("HK-QY"));
    } finally {
      server.shutdownNow();
    }
  }

  private static final MethodDescriptor.Marshaller<byte[]> BYTES = new MethodDescriptor.Marshaller<>() {
    @Override
    public InputStream stream(byte[] value) {
      return new ByteArrayInputStream(value);
    }

    @Override
    public byte[] parse(InputStream stream) {
      try {
        return stream.readAllBytes();
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }
  };

  @Test
  void decisionThatCannotBeFoundAgainIsDamaged() {
    gateway.verdicts = request -> FakeGateway.accepted(request).toBuilder().clearVerificationId().build();
    assertThrows(RecognitionException.DamagedAnswer.class, () -> gateway.client().verify(REQUEST));
    gateway.verdicts = request -> FakeGateway.accepted(request).toBuilder().clearVerifyTime().build();
    assertThrows(RecognitionException.DamagedAnswer.class, () -> gateway.client().verify(REQUEST));
  }

  @Test
  void acceptanceThatSaysTooLittleIsDamaged() {
    List<Consumer<Acceptance.Builder>> damages = List.of(
        Acceptance.Builder::clear,
        Acceptance.Builder::clearSubject,
        Acceptance.Builder::clearIssuer,
        Acceptance.Builder::clearCredentialType,
        Acceptance.Builder::clearAssurance,
        each -> each.getAssuranceBuilder().setIdentity(0),
        each -> each.getAssuranceBuilder().setAuthenticator(-1),
        each -> each.getAssuranceBuilder().clearFederation(),
        each -> each.getAssuranceBuilder().setLevel(-1),
        Acceptance.Builder::clearEraseTime,
        each -> each.getEraseTimeBuilder().setSeconds(253_402_300_800L),
        each -> each.getIssueTimeBuilder().setNanos(1_000_000_000),
        each -> each.getExpireTimeBuilder().setSeconds(Long.MIN_VALUE),
        each -> each.setActor(Actor.newBuilder().setRelationship("guardian")));
    for (var damage : damages) {
      gateway.verdicts = request -> {
        var response = FakeGateway.accepted(request).toBuilder();
        damage.accept(response.getAcceptedBuilder());
        return response.build();
      };
      assertThrows(RecognitionException.DamagedAnswer.class, () -> gateway.client().verify(REQUEST));
    }
  }

  @Test
  void challengeThatCannotBeSignedIsDamaged() {
    assertEquals(new Challenge("its-nonce", "its-audience", LATER), gateway.client().challenge("HK-QY"));
    var whole = CreateChallengeResponse.newBuilder().setNonce("n").setAudience("a").setExpireTime(FakeGateway.LATER);
    var damaged = List.of(
        whole.clone().clearNonce(),
        whole.clone().clearAudience(),
        whole.clone().clearExpireTime(),
        whole.clone().setExpireTime(Timestamp.newBuilder().setNanos(-1)));
    for (var each : damaged) {
      gateway.challenges = request -> each.build();
      assertThrows(RecognitionException.DamagedAnswer.class, () -> gateway.client().challenge("HK-QY"));
    }
  }

  @Test
  void consentWithoutAnIdOrATimeIsDamaged() {
    var client = gateway.client();
    var consent = client.recordConsent("XS-RH", List.of("name"), Duration.ofDays(1));
    assertEquals("its-consent", consent.id());
    assertFalse(consent.toString().contains("its-consent"));
    assertEquals(LATER, consent.expiresAt());
    assertEquals(LATER, client.withdrawConsent("its-consent"));
    gateway.withdrawal = WithdrawConsentResponse.getDefaultInstance();
    assertThrows(RecognitionException.DamagedAnswer.class, () -> client.withdrawConsent("its-consent"));
    var damaged = List.of(
        RecordConsentResponse.newBuilder().setConsentId("its-consent"),
        RecordConsentResponse.newBuilder().setExpireTime(FakeGateway.LATER));
    for (var each : damaged) {
      gateway.consentAnswers = request -> each.build();
      assertThrows(
          RecognitionException.DamagedAnswer.class,
          () -> client.recordConsent("XS-RH", List.of("name"), Duration.ofDays(1)));
    }
  }

  @Test
  void whatIsNotSaidIsNotZero() {
    var decision = gateway.client().verify(REQUEST);
    assertEquals(Optional.empty(), decision.trustBasis().age());
    var accepted = assertInstanceOf(Accepted.class, decision.verdict());
    for (var each : List.of(accepted.issuedAt(), accepted.authenticatedAt(), accepted.expiresAt(),
        accepted.credentialAge(), accepted.authenticationAge())) {
      assertEquals(Optional.empty(), each);
    }
  }

  @Test
  void explanationIsReadStepByStep() {
    assertThrows(RecognitionException.DamagedAnswer.class, () -> gateway.client().explain("v-1"));
    var answer = ExplainVerificationResponse.newBuilder()
        .setVerificationId("v-1")
        .setMatter("HK-QY")
        .setVerdict("rejected")
        .setReasonValue(Reason.REPLAYED.number());
    answer.getVerifyTimeBuilder().setSeconds(1_800_000_000);
    answer.addStepsBuilder().setNumber(1).setOutcomeValue(1).putInputs("kid", "k").getTitleBuilder().setEn("read it");
    var failed = answer.addStepsBuilder().setNumber(2).setOutcomeValue(2).setReasonValue(999);
    failed.getMeaningBuilder().setZh("何意").setEn("meaning");
    failed.getFixBuilder().setZh("何为").setEn("fix");
    answer.addStepsBuilder().setNumber(3).setOutcomeValue(77);
    gateway.explanation = answer.build();
    var explanation = gateway.client().explain("v-1");
    assertEquals(Optional.of(Reason.REPLAYED), explanation.reason());
    assertEquals("rejected", explanation.verdict());
    assertEquals(1_800_000_000, explanation.decidedAt().getEpochSecond());
    var steps = explanation.steps();
    assertEquals(
        List.of(StepOutcome.PASSED, StepOutcome.FAILED, StepOutcome.UNRECOGNISED),
        steps.stream().map(ExplainedStep::outcome).toList());
    assertEquals("read it", steps.get(0).title().text(Language.EN));
    assertEquals(Map.of("kid", "k"), steps.get(0).inputs());
    assertEquals(Optional.empty(), steps.get(0).reason());
    assertEquals(Optional.of(Reason.UNRECOGNISED), steps.get(1).reason());
    assertEquals(999, steps.get(1).reasonNumber());
    assertEquals("何意", steps.get(1).meaning().orElseThrow().text(Language.ZH));
    assertEquals(Optional.empty(), steps.get(2).fix());
  }

  // -- what cannot be sent ---------------------------------------------------------------------------------------------

  @Test
  void whatCannotBeSentIsAnInvalidRequestAndNotSent() {
    var client = gateway.client();
    var half = "secret\ud83d";
    assertInvalid("presentation", () -> client.verify(VerifyRequest.of("HK-QY", "")));
    assertInvalid("presentation", () -> client.verify(VerifyRequest.of("HK-QY", null)));
    assertInvalid("presentation", () -> client.verify(VerifyRequest.of("HK-QY", half)));
    assertInvalid("presentation", () -> client.verify(VerifyRequest.of("HK-QY", "x".repeat(5 * 1024 * 1024))));
    assertInvalid("presentation", () -> client.verify(VerifyRequest.of("HK-QY", "x".repeat(256 * 1024))));
    assertInvalid("matter", () -> client.verify(VerifyRequest.of("", "x")));
    assertInvalid("nonce", () -> client.verify(REQUEST.withNonce("\ude00\ud83d")));
    assertInvalid("request_id", () -> client.verify(REQUEST.withRequestId(half)));
    assertInvalid("consent_id", () -> client.verify(REQUEST.withConsentId(half)));
    assertInvalid("terminal", () -> client.verify(REQUEST.withTerminal(half)));
    assertInvalid("predicates[0].claim_matches.value",
        () -> client.verify(REQUEST.withPredicates(Predicate.claimMatches("name", half))));
    assertInvalid("predicates[1].claim_matches.value", () -> client.verify(
        REQUEST.withPredicates(Predicate.ageAtLeast(18), Predicate.claimMatches("name", null))));
    assertInvalid("predicates[1]", () -> client.verify(REQUEST.withPredicates(Predicate.ageAtLeast(18), null)));
    assertInvalid("predicates[0].household_in.provinces",
        () -> client.verify(REQUEST.withPredicates(Predicate.householdIn("sh", null))));
    assertInvalid("request", () -> client.verify(null));
    assertInvalid("matter", () -> client.challenge(null));
    assertInvalid("claims", () -> client.recordConsent("XS-RH", List.of(half), Duration.ofDays(1)));
    assertInvalid("lifetime",
        () -> client.recordConsent("XS-RH", List.of("name"), Duration.ofSeconds(Long.MIN_VALUE + 1)));
    assertInvalid("consent_id", () -> client.withdrawConsent(""));
    assertInvalid("verification_id", () -> client.explain(half));
    assertInvalid("verification_id", () -> client.evidence("x".repeat(300_000)));
    assertEquals(List.of(), gateway.asked);
    assertEquals(List.of(), gateway.consents);
    // The largest that goes, and a whole character beyond the basic plane.
    client.verify(VerifyRequest.of("HK-QY", "x".repeat(255 * 1024)).withTerminal("\ud83d\ude00"));
  }

  @Test
  void whatCannotBeSentFailsAloneInABatch() {
    var requests = new ArrayList<VerifyRequest>();
    Collections.addAll(requests, REQUEST, VerifyRequest.of("HK-QY", "half \ud83d"), null,
        VerifyRequest.of("HK-QY", "x".repeat(300_000)), REQUEST);
    var outcomes = gateway.client().verifyAll(requests);
    assertInstanceOf(Decision.class, outcomes.get(0));
    assertEquals("presentation", failure(RecognitionException.InvalidRequest.class, outcomes.get(1)).field());
    assertEquals("request", failure(RecognitionException.InvalidRequest.class, outcomes.get(2)).field());
    assertEquals("presentation", failure(RecognitionException.InvalidRequest.class, outcomes.get(3)).field());
    assertInstanceOf(Decision.class, outcomes.get(4));
    assertEquals(2, gateway.batches.get(0).getItemsCount());
    assertEquals(outcomes.get(4).requestId(), gateway.batches.get(0).getItems(1).getRequestId());
  }

  private static void assertInvalid(String field, Executable call) {
    var error = assertThrows(RecognitionException.InvalidRequest.class, call);
    assertEquals(field, error.field());
    assertEquals(Code.INVALID_ARGUMENT, error.code());
    assertEquals("INVALID_REQUEST", error.reason());
    assertFalse(error.getMessage().contains("secret"), error.getMessage());
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
        List.of(true, false),
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

  @Test
  void acceptanceThatWasGivenBeforeSaysSo() {
    assertFalse(gateway.client().verify(REQUEST).repeated());
    gateway.verdicts = request -> FakeGateway.accepted(request).toBuilder().setRepeated(true).build();
    assertTrue(gateway.client().verify(REQUEST).repeated());
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
    "DATA_LOSS, Internal",
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
  void damagedDetailLeavesTheStatusAndTheOthers() {
    var status = com.google.rpc.Status.newBuilder()
        .setCode(Code.PERMISSION_DENIED.value())
        .addDetails(Any.newBuilder().setTypeUrl("nothing").setValue(ByteString.copyFromUtf8("x")))
        .addDetails(Any.pack(ErrorInfo.newBuilder().setReason("NOT_PERMITTED").setDomain("recognition.v1").build()));
    for (var kind : List.of("ErrorInfo", "BadRequest", "RetryInfo")) {
      status.addDetails(Any.newBuilder()
          .setTypeUrl("type.googleapis.com/google.rpc." + kind)
          .setValue(ByteString.copyFrom(new byte[] {(byte) 0xff, 1})));
    }
    gateway.verdicts = request -> {
      throw StatusProto.toStatusRuntimeException(status.build());
    };
    var error = assertThrows(RecognitionException.NotPermitted.class, () -> gateway.client().verify(REQUEST));
    assertEquals("NOT_PERMITTED", error.reason());
  }

  @Test
  void connectionThatFailsIsToldInOneLine() {
    var cause = new IOException("io exception", new ConnectException("Connection refused"));
    gateway.verdicts = request -> {
      throw Status.UNAVAILABLE.withDescription("io exception\nChannel Pipeline: [x]").asRuntimeException();
    };
    var client = gateway.client();
    var error = assertThrows(
        RecognitionException.Unavailable.class, () -> client.verify(REQUEST.withRequestId("case-1")));
    assertEquals("The gateway cannot be reached: see that the gateway runs at gateway.example:8443, and that each side"
        + " trusts the other's certificate. [UNAVAILABLE: io exception] [request case-1]", error.getMessage());
    try (var channels = new Nowhere()) {
      var status = Status.UNAVAILABLE.withDescription("io exception").withCause(cause).asRuntimeException();
      error = (RecognitionException.Unavailable) Errors.of(status, "", channels);
      assertTrue(error.getMessage().endsWith("certificate. [UNAVAILABLE: Connection refused]"), error.getMessage());
      assertSame(cause, error.getCause());
    }
  }

  @Test
  void wordsOfAGatewayAreOneShortLine() {
    gateway.verdicts = request -> {
      throw error(Code.UNAVAILABLE, "UNAVAILABLE", "first\r\n\u001b[31msecond\u2028" + "x".repeat(1_000));
    };
    var error = assertThrows(RecognitionException.Unavailable.class, () -> gateway.client().verify(REQUEST));
    assertTrue(
        error.getMessage().startsWith("The gateway cannot answer for now: ask again later. [UNAVAILABLE: first [31msec"),
        error.getMessage());
    assertTrue(error.getMessage().length() < 600, error.getMessage());
  }

  @Test
  void nobodyListensAtTheAddress() throws Exception {
    int port;
    try (var socket = new ServerSocket(0)) {
      port = socket.getLocalPort();
    }
    var channel = TlsChannels.configure(
        NettyChannelBuilder.forAddress("127.0.0.1", port).usePlaintext()).build();
    try (var client = new RecognitionClient(new Nowhere(channel), Options.DEFAULT)) {
      var error = assertThrows(RecognitionException.Unavailable.class, () -> client.challenge("HK-QY"));
      assertTrue(error.getMessage().contains("runs at nowhere.example:1"), error.getMessage());
      assertTrue(error.getMessage().contains("refused"), error.getMessage());
      assertFalse(error.getMessage().contains("\n"), error.getMessage());
    }
  }

  @Test
  void proxyOfTheEnvironmentIsPassedBy() throws Exception {
    var server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", 0)).addService(gateway).build().start();
    var usual = ProxySelector.getDefault();
    ProxySelector.setDefault(ProxySelector.of(new InetSocketAddress("127.0.0.1", 1))); // nobody listens there
    var channel = TlsChannels.configure(
        NettyChannelBuilder.forTarget("dns:///127.0.0.1:" + server.getPort()).usePlaintext()).build();
    try (var client = new RecognitionClient(new Nowhere(channel), Options.DEFAULT)) {
      assertEquals("its-nonce", client.challenge("HK-QY").nonce());
    } finally {
      ProxySelector.setDefault(usual);
      server.shutdownNow();
    }
  }

  /** Leads to no gateway. */
  private static final class Nowhere extends Channels {
    private final ManagedChannel channel;

    Nowhere(ManagedChannel channel) {
      this.channel = channel;
    }

    Nowhere() {
      this(null);
    }

    @Override
    ManagedChannel current() {
      return channel;
    }

    @Override
    String address() {
      return "nowhere.example:1";
    }

    @Override
    void shutDown() {
      if (channel != null) {
        channel.shutdownNow();
      }
    }
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
    var challenge = new Challenge("secret-nonce", "audience", LATER);
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
    for (var refusal : List.of(Status.UNAVAILABLE.asRuntimeException(), overloaded(1))) {
      gateway.consents.clear();
      gateway.consentAnswers = request -> {
        throw refusal;
      };
      var error = assertThrows(
          RecognitionException.class,
          () -> gateway.client().recordConsent("HK-QY", List.of("name"), Duration.ofDays(1)));
      assertEquals(refusal.getStatus().getCode(), error.code());
      assertEquals(1, gateway.consents.size());
    }
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
  void overloadWithoutATimeIsWaitedForAMoment() {
    for (var delay : List.of(overloaded(0), error(Code.RESOURCE_EXHAUSTED, "OVERLOADED", "no"), overloaded(-5))) {
      gateway.asked.clear();
      gateway.verdicts = request -> {
        if (gateway.asked.size() == 1) {
          throw delay;
        }
        return FakeGateway.accepted(request);
      };
      long begun = System.nanoTime();
      gateway.client().verify(REQUEST);
      assertTrue(System.nanoTime() - begun >= 100_000_000);
    }
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
    assertTrue(Thread.interrupted());
    assertEquals(Code.CANCELLED, error.code());
    assertTrue(error.getMessage().contains("[CANCELLED: this thread was interrupted]"), error.getMessage());
    assertFalse(error.getMessage().contains("certificate"), error.getMessage());
  }

  @Test
  void interruptedThreadStopsWaitingForRoom() {
    var caller = Thread.currentThread();
    gateway.verdicts = request -> {
      caller.interrupt();
      throw overloaded(900);
    };
    var error = assertThrows(RecognitionException.Unavailable.class, () -> gateway.client().verify(REQUEST));
    assertTrue(Thread.interrupted());
    assertTrue(error.getMessage().contains("this thread was interrupted"), error.getMessage());
  }

  @Test
  void closedClientAnswersNothing() {
    var client = gateway.client();
    client.close();
    var error = assertThrows(RecognitionException.Unavailable.class, () -> client.verify(REQUEST));
    assertTrue(error.getMessage().contains("this client was closed"), error.getMessage());
    assertTrue(failure(RecognitionException.Unavailable.class, client.verifyAll(List.of(REQUEST)).get(0))
        .getMessage().contains("this client was closed"));
  }

  @Test
  void closingEndsWhatIsUnderWay() throws Exception {
    for (var waitsForRoom : List.of(false, true)) {
      var arrived = new CompletableFuture<Void>();
      gateway.verdicts = request -> {
        arrived.complete(null);
        if (waitsForRoom) {
          throw error(Code.RESOURCE_EXHAUSTED, "OVERLOADED", "no", RetryInfo.newBuilder()
              .setRetryDelay(com.google.protobuf.Duration.newBuilder().setSeconds(50)).build());
        }
        return null;
      };
      var client = gateway.client(Options.DEFAULT.withDeadline(Duration.ofSeconds(100)));
      var call = CompletableFuture.supplyAsync(() ->
          assertThrows(RecognitionException.Unavailable.class, () -> client.verify(REQUEST)));
      arrived.join();
      client.close();
      assertTrue(call.get(30, TimeUnit.SECONDS).getMessage().contains("this client was closed"));
      gateway.close();
      gateway = new FakeGateway();
    }
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
      response.addResultsBuilder().getErrorBuilder().setCode(99);
      response.addResultsBuilder();
      response.addResultsBuilder().setResponse(VerifyCredentialResponse.getDefaultInstance());
      return response.build();
    };
    var outcomes = gateway.client().verifyAll(Collections.nCopies(6, REQUEST));
    assertInstanceOf(Decision.class, outcomes.get(0));
    assertEquals("nonce", failure(RecognitionException.InvalidRequest.class, outcomes.get(1)).field());
    failure(RecognitionException.Internal.class, outcomes.get(2));
    assertEquals(Code.INTERNAL, failure(RecognitionException.Internal.class, outcomes.get(3)).code());
    failure(RecognitionException.DamagedAnswer.class, outcomes.get(4));
    failure(RecognitionException.DamagedAnswer.class, outcomes.get(5));
    for (int i = 0; i < 6; i++) {
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
  void deadlineOfNothingIsRefused() {
    assertThrows(IllegalArgumentException.class, () -> Options.DEFAULT.withDeadline(Duration.ZERO));
    assertThrows(IllegalArgumentException.class, () -> Options.DEFAULT.withBatchDeadline(Duration.ofSeconds(-1)));
    assertThrows(IllegalArgumentException.class, () -> Options.DEFAULT.withDeadline(Duration.ofDays(1_000_000)));
  }

  @Test
  void matchCallsTheOneThatFits() {
    Verdict rejected = new Rejected(Reason.EXPIRED, 21);
    assertSame(rejected, rejected.<Object>match(accepted -> null, each -> each, indeterminate -> null));
    Verdict indeterminate = new Indeterminate(Reason.TRUST_STALE, 60, Optional.empty());
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
