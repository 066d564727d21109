package example.recognition.client;

import static example.recognition.client.RecognitionClientTest.failure;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import example.recognition.client.ExplainedStep.StepOutcome;
import example.recognition.v1.VerifyCredentialResponse.VerdictCase;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.time.Instant;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIfEnvironmentVariable;
import org.junit.jupiter.api.io.TempDir;

/** Against a real gateway, over mutual TLS, in a federation of four provinces. */
@EnabledIfEnvironmentVariable(named = Stage.VARIABLE, matches = ".+", disabledReason = "needs the stage: MRG_STAGE")
@Timeout(300)
class StageTest {

  private static final boolean QUICK = System.getenv("MRG_QUICK") != null;
  private static final Options PATIENT = Options.DEFAULT
      .withDeadline(Duration.ofSeconds(60))
      .withBatchDeadline(Duration.ofSeconds(120));

  private static Stage stage;
  private static String matter;
  private static String filing;
  private static RecognitionClient counter;
  private static RecognitionClient court;

  @BeforeAll
  static void connect() throws Exception {
    stage = Stage.fromEnvironment();
    matter = stage.matter("hukou");
    filing = stage.matter("court");
    counter = client("hukou", PATIENT);
    court = client("court", PATIENT);
  }

  @AfterAll
  static void disconnect() {
    counter.close();
    court.close();
  }

  // -- verdicts --------------------------------------------------------------------------------------------------------

  @Test
  void goodPresentationIsAccepted() {
    var challenge = counter.challenge(matter);
    var request = VerifyRequest.of(matter, stage.present(challenge, ""))
        .withNonce(challenge.nonce())
        .withRequestId("java-accepted")
        .withTerminal("window-3")
        .withReceipt();
    var decision = counter.verify(request);
    var accepted = assertInstanceOf(Accepted.class, decision.verdict());
    assertEquals(NextStep.PROCEED, decision.nextStep());
    assertEquals("java-accepted", decision.requestId());
    assertEquals("java-accepted", stage.caller(decision.verificationId()).get("request_id").getAsString());
    assertFalse(decision.receipt().isEmpty());
    assertTrue(decision.trustBasis().charterVersion() > 0);
    assertEquals("sh", accepted.issuingProvince());
    assertTrue(accepted.holderBound());
    assertEquals(Accepted.SubjectType.NATURAL, accepted.subjectType());
    assertTrue(accepted.eraseAt().isAfter(decision.decidedAt()));
    assertTrue(accepted.issuedAt().orElseThrow().isBefore(decision.decidedAt()));
    assertInstanceOf(String.class, accepted.attributes().get("name"));
    assertFalse(decision.toString().contains((String) accepted.attributes().get("name")));

    var explanation = counter.explain(decision.verificationId());
    assertEquals("accepted", explanation.verdict());
    assertEquals(Optional.empty(), explanation.reason());
    assertEquals(decision.decidedAt(), explanation.decidedAt());
    assertEquals(StepOutcome.PASSED, explanation.steps().get(0).outcome());
    assertFalse(explanation.steps().get(0).title().text(Language.ZH).isEmpty());
    var bundle = new String(counter.evidence(decision.verificationId()), StandardCharsets.UTF_8);
    assertTrue(bundle.contains("receipt"), bundle);
  }

  @TestFactory
  Stream<DynamicTest> badPresentationIsRejectedForItsReason() {
    return stage.get("kinds").getAsJsonArray().asList().stream().map(each -> {
      var kind = each.getAsJsonObject().get("kind").getAsString();
      var reason = Reason.valueOf(each.getAsJsonObject().get("reason").getAsString());
      return dynamicTest(kind, () -> {
        var decision = decide(counter, kind);
        assertEquals(new Rejected(reason, reason.number()), decision.verdict());
        assertEquals(reason.nextStep(), decision.nextStep());
      });
    });
  }

  @Test
  void gatewayThatCannotTellSaysSo() {
    stage.post("indeterminate", Map.of("on", true));
    try {
      var decision = decide(counter, "");
      var indeterminate = assertInstanceOf(Indeterminate.class, decision.verdict());
      assertNotEquals(Reason.UNRECOGNISED, indeterminate.reason());
      assertEquals(NextStep.RETRY_LATER, decision.nextStep());
    } finally {
      stage.post("indeterminate", Map.of("on", false));
    }
    eventually("accepted again", () -> decide(counter, "").verdict() instanceof Accepted);
  }

  @Test
  void sameRequestIsDecidedOnce() {
    var challenge = counter.challenge(matter);
    var request = VerifyRequest.of(matter, stage.present(challenge, ""))
        .withNonce(challenge.nonce())
        .withRequestId("java-twice");
    var first = counter.verify(request);
    var second = counter.verify(request);
    var accepted = assertInstanceOf(Accepted.class, first.verdict());
    assertEquals(accepted.attributes(), assertInstanceOf(Accepted.class, second.verdict()).attributes());
    assertEquals(first.verificationId(), second.verificationId());
    assertEquals(first.decidedAt(), second.decidedAt());
    assertEquals(List.of(first.verificationId()), stage.entries("java-twice"));
  }

  @Test
  void rejectionIsExplained() {
    var explanation = counter.explain(decide(counter, "replayed").verificationId());
    assertEquals("rejected", explanation.verdict());
    assertEquals(Optional.of(Reason.REPLAYED), explanation.reason());
    var failed = explanation.steps().stream().filter(each -> each.outcome() == StepOutcome.FAILED).toList();
    assertEquals(1, failed.size());
    assertEquals(Optional.of(Reason.REPLAYED), failed.get(0).reason());
    assertFalse(failed.get(0).meaning().orElseThrow().text(Language.EN).isEmpty());
  }

  @Test
  void consentCarriesAMatterUntilItIsWithdrawn() {
    var newborn = "XS-RH";
    var consent = counter.recordConsent(newborn, List.of("name", "id_number"), Duration.ofMillis(86_400_500));
    assertTrue(consent.expiresAt().isAfter(Instant.now()));
    Supplier<Decision> ask = () -> {
      var challenge = counter.challenge(newborn);
      return counter.verify(VerifyRequest.of(newborn, stage.present(challenge, ""))
          .withNonce(challenge.nonce())
          .withConsentId(consent.id()));
    };
    assertInstanceOf(Accepted.class, ask.get().verdict());
    var since = counter.withdrawConsent(consent.id());
    assertTrue(since.isAfter(Instant.EPOCH));
    assertEquals(since, counter.withdrawConsent(consent.id()));
    var afterwards = ask.get();
    assertEquals(new Rejected(Reason.CONSENT_WITHDRAWN, Reason.CONSENT_WITHDRAWN.number()), afterwards.verdict());
    assertEquals(NextStep.OBTAIN_CONSENT, afterwards.nextStep());
    assertThrows(RecognitionException.Refused.class, () -> counter.withdrawConsent("A".repeat(22)));
  }

  @Test
  void presentationThatIsTooLargeIsRejectedAndOneFarTooLargeNotSent() {
    var challenge = counter.challenge(matter);
    var large = VerifyRequest.of(matter, "x".repeat(100 * 1024)).withNonce(challenge.nonce());
    assertInstanceOf(Rejected.class, counter.verify(large).verdict());
    var larger = VerifyRequest.of(matter, "x".repeat(5 * 1024 * 1024)).withNonce(challenge.nonce());
    var error = assertThrows(RecognitionException.InvalidRequest.class, () -> counter.verify(larger));
    assertEquals("presentation", error.field());
  }

  @Test
  void questionForAnothersMatterIsNotPermitted() {
    var error = assertThrows(RecognitionException.NotPermitted.class, () -> counter.challenge(filing));
    assertEquals("NOT_PERMITTED", error.reason());
  }

  @Test
  void fieldAtFaultIsNamed() {
    var request = VerifyRequest.of(matter, "secret").withNonce("n").withRequestId("not a reference!");
    var error = assertThrows(RecognitionException.InvalidRequest.class, () -> counter.verify(request));
    assertEquals("request_id", error.field());
    assertFalse(error.toString().contains("secret"));
  }

  @Test
  void decisionOfNobodyIsRefused() {
    assertThrows(RecognitionException.class, () -> counter.explain("there-is-no-such-verification"));
  }

  @Test
  void stubAnswersToo() {
    var assertion = stage.assertions(court.challenge(filing).audience(), 1).get(0);
    var answer = court.stub()
        .withDeadlineAfter(60, TimeUnit.SECONDS)
        .verifyCredential(VerifyRequest.of(filing, assertion).toMessage());
    assertEquals(VerdictCase.ACCEPTED, answer.getVerdictCase());
  }

  // -- disturbances ----------------------------------------------------------------------------------------------------

  @Test
  void pausedGatewayRunsIntoTheDeadline() throws Exception {
    try (var hasty = client("hukou", Options.DEFAULT.withDeadline(Duration.ofSeconds(2)))) {
      eventually("connected", () -> hasty.challenge(matter) != null);
      stage.post("pause", Map.of());
      try {
        assertThrows(RecognitionException.DeadlineExceeded.class, () -> hasty.challenge(matter));
      } finally {
        stage.post("resume", Map.of());
      }
      eventually("answers again", () -> hasty.challenge(matter) != null);
    }
  }

  @Test
  void killedGatewayIsFoundAgainAndDecidesOnce() throws Exception {
    var requests = new ConcurrentLinkedQueue<VerifyRequest>();
    for (var assertion : stage.assertions(court.challenge(filing).audience(), 5_000)) {
      requests.add(VerifyRequest.of(filing, assertion).withRequestId("java-killed-" + requests.size()));
    }
    var decisions = new ConcurrentLinkedQueue<Decision>();
    var errors = new ConcurrentLinkedQueue<RecognitionException>();
    var ended = new AtomicBoolean();
    var afterwards = new AtomicInteger();
    var callers = Executors.newFixedThreadPool(4);
    try {
      List<Future<?>> calls = Stream.generate(() -> callers.submit(() -> {
        while ((!ended.get() || afterwards.get() < 4) && !Thread.currentThread().isInterrupted()) {
          var request = requests.poll();
          if (request == null) {
            return;
          }
          try {
            decisions.add(court.verify(request));
            afterwards.addAndGet(ended.get() ? 1 : 0);
          } catch (RecognitionException error) {
            errors.add(error);
            requests.add(request);
            LockSupport.parkNanos(10_000_000); // an error comes at once while nobody listens
          }
        }
      })).limit(4).<Future<?>>map(each -> each).toList();
      eventually("under way", () -> decisions.size() > 20);
      stage.post("kill", Map.of());
      try {
        eventually("noticed", () -> !errors.isEmpty());
      } finally {
        stage.post("start", Map.of());
      }
      ended.set(true);
      for (var call : calls) {
        call.get(120, TimeUnit.SECONDS);
      }
    } finally {
      ended.set(true);
      callers.shutdownNow();
    }
    assertTrue(afterwards.get() >= 4, afterwards + " decisions after the restart; " + errors.stream().limit(3).toList());
    errors.forEach(each -> assertInstanceOf(RecognitionException.Unavailable.class, each));
    for (var decision : decisions) {
      if (decision.verdict() instanceof Rejected rejected) {
        // Decided, and killed before it could say so; the second try finds the presentation used up.
        assertEquals(Reason.REPLAYED, rejected.reason());
        assertTrue(stage.entries(decision.requestId()).size() > 1);
      } else {
        assertInstanceOf(Accepted.class, decision.verdict());
      }
    }
    assertEquals(decisions.size(), decisions.stream().map(Decision::verificationId).distinct().count());
  }

  @Test
  void overloadIsWaitedFor() throws Exception {
    var small = stage.matter("small");
    try (var client = client("small", PATIENT)) {
      for (int i = 0; i < 6; i++) {
        client.challenge(small);
      }
    }
    try (var hasty = client("small", Options.DEFAULT.withDeadline(Duration.ofMillis(300)))) {
      var error = eventuallyThrows(RecognitionException.Overloaded.class, () -> hasty.challenge(small));
      assertTrue(error.retryAfter().isPresent());
      assertEquals("CALLER_RATE_EXCEEDED", error.reason());
    }
  }

  // -- certificates ----------------------------------------------------------------------------------------------------

  @Test
  void replacedCertificateIsUsed() {
    var before = decide(counter, "");
    var expected = stage.post("certificate", Map.of("profile", "hukou")).get("sha256").getAsString();
    assertNotEquals(expected, certificate(before));
    eventually("the new certificate", () -> certificate(decide(counter, "")).equals(expected));
  }

  @Test
  void filesThatDoNotFitLeaveTheOldOnesInUse(@TempDir Path folder) throws Exception {
    var hukou = Profile.read(stage.profile("hukou"));
    var other = Profile.read(stage.profile("court"));
    var copy = copy(hukou, folder);
    try (var client = new RecognitionClient(copy, PATIENT)) {
      client.challenge(matter);
      replace(other.privateKey(), copy.privateKey());
      long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(2_500);
      for (int i = 0; i < 100_000 && System.nanoTime() < until; i++) {
        client.challenge(matter);
      }
      replace(other.certificate(), copy.certificate());
      eventually("the court's certificate", () -> {
        try {
          client.challenge(matter);
          return false;
        } catch (RecognitionException.NotPermitted court) {
          return true;
        }
      });
    }
    assertThrows(
        IOException.class,
        () -> new RecognitionClient(new Profile(hukou.address(), hukou.ca(), hukou.certificate(), other.privateKey())));
  }

  @Test
  void gatewayOfAnotherCaIsNotTrusted() throws Exception {
    var hukou = Profile.read(stage.profile("hukou"));
    var otherCa = hukou.ca().toAbsolutePath().normalize().getParent().getParent().getParent().resolve("zj/tls/ca.pem");
    var misled = new Profile(hukou.address(), otherCa, hukou.certificate(), hukou.privateKey());
    try (var client = new RecognitionClient(misled, PATIENT)) {
      var error = assertThrows(RecognitionException.Unavailable.class, () -> client.challenge(matter));
      assertInstanceOf(javax.net.ssl.SSLException.class, error.getCause());
      assertTrue(error.getMessage().contains("runs at " + hukou.address()), error.getMessage());
      assertTrue(error.getMessage().contains("certification path"), error.getMessage());
      assertFalse(error.getMessage().contains("\n"), error.getMessage());
    }
  }

  // -- many ------------------------------------------------------------------------------------------------------------

  @Test
  void thousandAreVerifiedAtOnce() {
    var assertions = stage.assertions(court.challenge(filing).audience(), 1_000);
    var outcomes = court.verifyAll(assertions.stream().map(each -> VerifyRequest.of(filing, each)).toList());
    var ids = new HashSet<String>();
    for (var outcome : outcomes) {
      var decision = assertInstanceOf(Decision.class, outcome);
      assertInstanceOf(Accepted.class, decision.verdict());
      ids.add(decision.verificationId());
    }
    assertEquals(1_000, ids.size());
    var again = court.verifyAll(List.of(VerifyRequest.of(filing, assertions.get(0)), VerifyRequest.of(matter, "x")));
    assertEquals(Reason.REPLAYED, assertInstanceOf(
        Rejected.class, assertInstanceOf(Decision.class, again.get(0)).verdict()).reason());
    failure(RecognitionException.NotPermitted.class, again.get(1));
  }

  @Test
  void tenThousandAreStreamedToASlowConsumer() {
    int count = QUICK ? 1_000 : 10_000;
    var taken = new AtomicInteger();
    var audience = court.challenge(filing).audience();
    // They live for five minutes, so they are made as they are needed.
    Iterator<VerifyRequest> source = Stream.iterate(0, each -> each < count, each -> each + 500)
        .flatMap(each -> stage.assertions(audience, 500).stream())
        .map(each -> VerifyRequest.of(filing, each))
        .iterator();
    var counted = new Iterator<VerifyRequest>() {
      @Override
      public boolean hasNext() {
        return source.hasNext();
      }

      @Override
      public VerifyRequest next() {
        taken.incrementAndGet();
        return source.next();
      }
    };
    var seen = new HashSet<Long>();
    var ids = new HashSet<String>();
    try (var answers = court.stream(counted)) {
      while (answers.hasNext()) {
        var answer = answers.next();
        LockSupport.parkNanos(200_000); // this consumer is slow
        assertTrue(seen.add(answer.index()));
        assertTrue(taken.get() - seen.size() <= VerificationStream.WINDOW);
        var decision = assertInstanceOf(Decision.class, answer.outcome(), answer.outcome()::toString);
        assertInstanceOf(Accepted.class, decision.verdict());
        ids.add(decision.verificationId());
      }
    }
    assertEquals(count, seen.size());
    assertEquals(count, ids.size());
  }

  @Test
  void streamOutlivesAGatewayThatIsKilled() throws Exception {
    int count = 2_000;
    var assertions = stage.assertions(court.challenge(filing).audience(), count);
    var seen = new HashSet<Long>();
    CompletableFuture<Void> started = null;
    try (var answers = court.stream(assertions.stream().map(each -> VerifyRequest.of(filing, each)).iterator())) {
      while (answers.hasNext()) {
        var answer = answers.next();
        assertTrue(seen.add(answer.index()));
        var decision = assertInstanceOf(Decision.class, answer.outcome(), answer.outcome()::toString);
        if (decision.verdict() instanceof Rejected rejected) {
          // Decided, and killed before it could say so; the second try finds the presentation used up.
          assertEquals(Reason.REPLAYED, rejected.reason());
        } else {
          assertInstanceOf(Accepted.class, decision.verdict());
        }
        if (seen.size() == 300) {
          stage.post("kill", Map.of());
          started = CompletableFuture.runAsync(() -> stage.post("start", Map.of()));
        }
      }
    } finally {
      if (started != null) {
        started.get(120, TimeUnit.SECONDS);
      }
    }
    assertEquals(count, seen.size());
  }

  // -- what the tests are made of --------------------------------------------------------------------------------------

  private interface Attempt {
    Object now() throws Exception;
  }

  private interface Condition {
    boolean holds() throws Exception;
  }

  private static RecognitionClient client(String profile, Options options) throws IOException {
    return new RecognitionClient(Profile.read(stage.profile(profile)), options);
  }

  private static Decision decide(RecognitionClient client, String kind) {
    var challenge = client.challenge(matter);
    return client.verify(VerifyRequest.of(matter, stage.present(challenge, kind)).withNonce(challenge.nonce()));
  }

  private static String certificate(Decision decision) {
    return stage.caller(decision.verificationId()).get("certificate_sha256").getAsString();
  }

  private static void eventually(String what, Condition condition) {
    long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(120);
    do {
      try {
        if (condition.holds()) {
          return;
        }
      } catch (RecognitionException.Unavailable | RecognitionException.DeadlineExceeded notYet) {
        continue;
      } catch (Exception error) {
        throw new AssertionError(what, error);
      } finally {
        LockSupport.parkNanos(10_000_000); // not to take the processor from what is waited for
      }
    } while (System.nanoTime() < until);
    throw new AssertionError("not within two minutes: " + what);
  }

  private static <T extends RecognitionException> T eventuallyThrows(Class<T> kind, Attempt attempt) {
    for (int tries = 0; tries < 1_000; tries++) {
      try {
        attempt.now();
      } catch (RecognitionException error) {
        if (kind.isInstance(error)) {
          return kind.cast(error);
        }
        assertInstanceOf(RecognitionException.DeadlineExceeded.class, error);
      } catch (Exception error) {
        throw new AssertionError(error);
      }
    }
    throw new AssertionError("never: " + kind.getSimpleName());
  }

  private static Profile copy(Profile profile, Path folder) throws IOException {
    return new Profile(
        profile.address(),
        profile.ca(),
        Files.copy(profile.certificate(), folder.resolve("certificate.pem")),
        Files.copy(profile.privateKey(), folder.resolve("key.pem")));
  }

  private static void replace(Path from, Path to) throws IOException {
    var draft = to.resolveSibling("draft");
    Files.copy(from, draft, StandardCopyOption.REPLACE_EXISTING);
    Files.move(draft, to, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
  }
}
