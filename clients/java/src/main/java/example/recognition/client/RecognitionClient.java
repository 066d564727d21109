package example.recognition.client;

import example.recognition.v1.AuditServiceGrpc;
import example.recognition.v1.AuditServiceGrpc.AuditServiceBlockingStub;
import example.recognition.v1.BatchVerifyCredentialsRequest;
import example.recognition.v1.BatchVerifyCredentialsResponse;
import example.recognition.v1.CreateChallengeRequest;
import example.recognition.v1.ExplainVerificationRequest;
import example.recognition.v1.GetEvidenceRequest;
import example.recognition.v1.RecordConsentRequest;
import example.recognition.v1.VerificationResult;
import example.recognition.v1.VerificationServiceGrpc;
import example.recognition.v1.VerificationServiceGrpc.VerificationServiceBlockingStub;
import example.recognition.v1.VerifyCredentialRequest;
import example.recognition.v1.WithdrawConsentRequest;
import io.grpc.Deadline;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Iterator;
import java.util.List;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * Asks a gateway for verdicts, over mutual TLS. Make one for a process, share it, and close it in the end: it is
 * thread-safe, and its one connection carries any number of calls.
 *
 * <p>Every call has a deadline ({@link Options}) that all its tries share. A call that is safe to repeat is tried again
 * when the gateway was not reached; one that came at a bad time waits as long as the gateway says, at most twice.
 * Whatever does not end in an answer ends in a {@link RecognitionException}, which is never a verdict. A thread that is
 * interrupted stops waiting and stays interrupted.
 *
 * <p>When the files of the profile change, the next calls go by the new ones: a certificate is renewed without a restart.
 * The client logs nothing.
 */
public final class RecognitionClient implements AutoCloseable {

  private static final int MAX_TRIES = 3;
  private static final double JITTER = 0.2;

  /** Where a gateway does not say how long to wait. */
  private static final Duration SHORTEST_WAIT = Duration.ofMillis(100);

  /** Longer than any deadline, and short enough to be counted in nanoseconds. */
  private static final Duration LONGEST_WAIT = Duration.ofDays(365);
  private static final int MAX_BATCH_ITEMS = 1_000;
  private static final int MAX_BATCH_BYTES = 4 * 1024 * 1024;

  /** What a batch spends on an item beside the item: a tag, and a length of up to four bytes. */
  private static final int ITEM_BYTES = 5;

  private final Channels channels;
  private final Options options;

  /**
   * Prepares a client; nothing is connected before the first call.
   *
   * @param profile where the gateway is, and what to show there
   * @throws IOException a file cannot be read, or certificate and key do not belong together
   */
  public RecognitionClient(Profile profile) throws IOException {
    this(profile, Options.DEFAULT);
  }

  /**
   * Prepares a client; nothing is connected before the first call.
   *
   * @param profile where the gateway is, and what to show there
   * @param options how long to wait
   * @throws IOException a file cannot be read, or certificate and key do not belong together
   */
  public RecognitionClient(Profile profile, Options options) throws IOException {
    this(new TlsChannels(profile), options);
  }

  RecognitionClient(Channels channels, Options options) {
    this.channels = channels;
    this.options = options;
  }

  /**
   * Asks for the nonce and audience that a holder is to sign.
   *
   * @param matter code of the matter (政务服务事项) that the presentation will be for
   * @return a challenge, good for one presentation
   * @throws RecognitionException there is no answer
   */
  public Challenge challenge(String matter) {
    var request = Requests.bounded(
        "matter", CreateChallengeRequest.newBuilder().setMatter(Requests.required("matter", matter, "")).build(), "");
    return Messages.challenge(
        call("", options.deadline(), deadline -> verification(deadline).createChallenge(request)));
  }

  /**
   * Asks for the verdict on one presentation.
   *
   * @param request the presentation, and what is asked about it
   * @return what was decided: it may be a rejection, or that the gateway cannot tell now
   * @throws RecognitionException there is no decision. {@link RecognitionException.InvalidRequest}: most likely it was
   *     never sent, because matter or presentation is missing, it is larger than 256 KiB, or a text is none
   */
  public Decision verify(VerifyRequest request) {
    var message = Requests.verify(request);
    var answer = call(
        message.getRequestId(), options.deadline(), deadline -> verification(deadline).verifyCredential(message));
    return Messages.decision(message, answer);
  }

  /**
   * Asks for the verdicts on many presentations, a thousand at a time, one batch after another. For many thousands,
   * {@link #stream} begins to answer earlier and keeps less.
   *
   * @param requests any number
   * @return what became of each, in their order. Where a batch fails as a whole, each of its requests has that failure.
   *     What cannot be sent fails alone
   */
  public List<Outcome> verifyAll(Collection<VerifyRequest> requests) {
    var outcomes = new ArrayList<Outcome>(requests.size());
    var batch = new TreeMap<Integer, VerifyCredentialRequest>(); // by their places among all
    int bytes = 0;
    for (var request : requests) {
      VerifyCredentialRequest message;
      try {
        message = Requests.verify(request);
      } catch (RecognitionException.InvalidRequest invalid) {
        outcomes.add(new Failure(invalid));
        continue;
      }
      int size = message.getSerializedSize() + ITEM_BYTES;
      if (batch.size() == MAX_BATCH_ITEMS || bytes + size > MAX_BATCH_BYTES) {
        verifyBatch(batch, outcomes);
        batch.clear();
        bytes = 0;
      }
      batch.put(outcomes.size(), message);
      outcomes.add(null); // until the batch is answered
      bytes += size;
    }
    if (!batch.isEmpty()) {
      verifyBatch(batch, outcomes);
    }
    return outcomes;
  }

  /**
   * Asks for the verdicts on any number of presentations, and gives them in the order in which they come.
   *
   * <p>Requests are taken from the source, on a thread of the stream's own, only while fewer than 256 wait for their
   * answer or for being taken from here: whoever is slow to take answers slows the source down. Close the stream, which
   * ends what is under way.
   *
   * <p>A stream that is lost is opened again, and what the gateway has no room for is sent again later, until there has
   * been no answer for the batch deadline. Then what is under way is a {@link Failure}, and if the source has more, the
   * stream ends with that error: a gateway that is away does not use the source up. What cannot be sent fails alone.
   *
   * <pre>{@code
   * try (var answers = client.stream(requests.iterator())) {
   *   while (answers.hasNext()) {
   *     var answer = answers.next();
   *   }
   * }
   * }</pre>
   *
   * @param requests the source; an exception that it throws comes out of {@code hasNext}, after the answers
   * @return the answers, for one thread
   */
  public VerificationStream stream(Iterator<VerifyRequest> requests) {
    return new VerificationStream(channels, options.batchDeadline(), requests);
  }

  /**
   * Records that a person consented. It is asked once, also of a gateway that says when it has room: a second try could
   * record a second consent.
   *
   * @param matter the matter, which must rest on consent
   * @param claims the claims that may be released on its strength
   * @param lifetime how long it lasts: 1 second to 366 days
   * @return its reference
   * @throws RecognitionException it is not known to be recorded
   */
  public Consent recordConsent(String matter, Collection<String> claims, Duration lifetime) {
    if (Math.abs(lifetime.getSeconds()) >= Messages.MAX_DURATION_SECONDS) {
      throw Errors.invalid("lifetime", "is longer than a message can say", "");
    }
    var message = RecordConsentRequest.newBuilder()
        .setMatter(Requests.required("matter", matter, ""))
        .setLifetime(com.google.protobuf.Duration.newBuilder()
            .setSeconds(lifetime.getSeconds())
            .setNanos(lifetime.getNano()));
    claims.forEach(each -> message.addClaims(Requests.required("claims", each, "")));
    var request = Requests.bounded("claims", message.build(), "");
    return Messages.consent(
        call("", options.deadline(), 1, deadline -> verification(deadline).recordConsent(request)));
  }

  /**
   * Records that the person withdrew it. To withdraw again changes nothing.
   *
   * @param consentId its reference
   * @return since when it is withdrawn
   * @throws RecognitionException it is not known to be withdrawn
   */
  public Instant withdrawConsent(String consentId) {
    var request = Requests.bounded("consent_id", WithdrawConsentRequest.newBuilder()
        .setConsentId(Requests.required("consent_id", consentId, ""))
        .build(), "");
    return Messages.withdrawal(
        call("", options.deadline(), deadline -> verification(deadline).withdrawConsent(request)));
  }

  /**
   * Asks how a decision came about, where this service may know.
   *
   * @param verificationId the decision
   * @return its steps, and what would mend it; never an attribute
   * @throws RecognitionException there is no answer
   */
  public Explanation explain(String verificationId) {
    var request = Requests.bounded("verification_id", ExplainVerificationRequest.newBuilder()
        .setVerificationId(Requests.required("verification_id", verificationId, ""))
        .build(), "");
    return Messages.explanation(
        call("", options.deadline(), deadline -> verification(deadline).explainVerification(request)));
  }

  /**
   * Fetches what proves a decision to anybody, years later.
   *
   * @param verificationId the decision
   * @return the bundle: one JSON document in UTF-8, to be kept as it is. Some seconds after the decision, other
   *     provinces have seen it, and the bundle proves that too
   * @throws RecognitionException there is no answer
   */
  public byte[] evidence(String verificationId) {
    var request = Requests.bounded("verification_id", GetEvidenceRequest.newBuilder()
        .setVerificationId(Requests.required("verification_id", verificationId, ""))
        .build(), "");
    var answer = call("", options.deadline(), deadline -> audit(deadline).getEvidence(request));
    return answer.getEvidence().getBytes(StandardCharsets.UTF_8);
  }

  /**
   * Gives the generated stub, for what this client does not offer. It goes by the certificate of now and knows nothing of
   * later ones, so ask for it anew; and a deadline has to be set for every call.
   *
   * @return a stub
   */
  public VerificationServiceBlockingStub stub() {
    return VerificationServiceGrpc.newBlockingStub(channels.forCall());
  }

  /** Ends what is under way, and lets no more calls begin. */
  @Override
  public void close() {
    channels.close();
  }

  private void verifyBatch(SortedMap<Integer, VerifyCredentialRequest> batch, List<Outcome> outcomes) {
    var request = BatchVerifyCredentialsRequest.newBuilder().addAllItems(batch.values()).build();
    BatchVerifyCredentialsResponse answer;
    try {
      answer = call("", options.batchDeadline(), deadline -> verification(deadline).batchVerifyCredentials(request));
    } catch (RecognitionException error) {
      batch.forEach((place, each) -> outcomes.set(place, new Failure(Errors.under(each.getRequestId(), error))));
      return;
    }
    // Which answer belongs to which item is known by their order alone.
    boolean isWhole = answer.getResultsCount() == batch.size();
    var results = answer.getResultsList().iterator();
    batch.forEach((place, each) -> {
      var result = isWhole ? results.next() : VerificationResult.getDefaultInstance();
      outcomes.set(place, Messages.outcome(
          each,
          result.hasResponse() ? result.getResponse() : null,
          result.hasError() ? result.getError() : null));
    });
  }

  private VerificationServiceBlockingStub verification(Deadline deadline) {
    return VerificationServiceGrpc.newBlockingStub(channels.forCall()).withDeadline(deadline);
  }

  private AuditServiceBlockingStub audit(Deadline deadline) {
    return AuditServiceGrpc.newBlockingStub(channels.forCall()).withDeadline(deadline);
  }

  /**
   * Makes a call. gRPC tries it again where the published service config says so; overload, where it is the gateway that
   * knows how long to wait, is seen to here.
   */
  private <T> T call(String requestId, Duration timeout, Function<Deadline, T> method) {
    return call(requestId, timeout, MAX_TRIES, method);
  }

  private <T> T call(String requestId, Duration timeout, int maxTries, Function<Deadline, T> method) {
    var deadline = Deadline.after(timeout.toNanos(), TimeUnit.NANOSECONDS);
    for (int tries = 1; ; tries++) {
      try {
        return method.apply(deadline);
      } catch (StatusRuntimeException status) {
        var error = Errors.of(status, requestId, channels);
        if (tries == maxTries || !(error instanceof RecognitionException.Overloaded)) {
          throw error;
        }
        long wait = waitNanos(error);
        if (wait >= deadline.timeRemaining(TimeUnit.NANOSECONDS)) {
          throw error;
        }
        try {
          channels.pause(wait);
        } catch (InterruptedException interrupt) {
          throw Errors.interrupted(interrupt, requestId);
        }
      }
    }
  }

  /** Tells how long an overloaded gateway wants us to wait, and up to a fifth more. */
  static long waitNanos(RecognitionException error) {
    var said = error.retryAfter().filter(each -> !each.isNegative() && !each.isZero()).orElse(SHORTEST_WAIT);
    var wait = said.compareTo(LONGEST_WAIT) < 0 ? said : LONGEST_WAIT;
    return (long) (wait.toNanos() * (1 + JITTER * ThreadLocalRandom.current().nextDouble()));
  }
}
