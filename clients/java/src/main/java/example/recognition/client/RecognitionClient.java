package example.recognition.client;

import example.recognition.v1.AuditServiceGrpc;
import example.recognition.v1.AuditServiceGrpc.AuditServiceBlockingStub;
import example.recognition.v1.BatchVerifyCredentialsRequest;
import example.recognition.v1.BatchVerifyCredentialsResponse;
import example.recognition.v1.CreateChallengeRequest;
import example.recognition.v1.ExplainVerificationRequest;
import example.recognition.v1.ExplainVerificationResponse;
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
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * Asks a gateway for verdicts, over mutual TLS. Make one for a process, share it, and close it in the end: it is
 * thread-safe, and its one connection carries any number of calls.
 *
 * <p>Every call has a deadline ({@link Options}) that all its tries share. A call that is safe to repeat is tried again
 * when the gateway was not reached; one that came at a bad time waits as long as the gateway says. Whatever does not end
 * in an answer ends in a {@link RecognitionException}, which is never a verdict. A thread that is interrupted stops
 * waiting and stays interrupted.
 *
 * <p>When the files of the profile change, the next calls go by the new ones: a certificate is renewed without a restart.
 * The client logs nothing.
 */
public final class RecognitionClient implements AutoCloseable {

  private static final int MAX_TRIES = 3;
  private static final double JITTER = 0.2;
  private static final Duration LONGEST_WAIT = Duration.ofDays(1);
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
    var request = CreateChallengeRequest.newBuilder().setMatter(matter).build();
    var answer = call("", options.deadline(), deadline -> verification(deadline).createChallenge(request));
    return new Challenge(answer.getNonce(), answer.getAudience(), Messages.instant(answer.getExpireTime(), ""));
  }

  /**
   * Asks for the verdict on one presentation.
   *
   * @param request the presentation, and what is asked about it
   * @return what was decided: it may be a rejection, or that the gateway cannot tell now
   * @throws RecognitionException there is no decision
   */
  public Decision verify(VerifyRequest request) {
    var message = request.toMessage();
    var answer = call(
        message.getRequestId(), options.deadline(), deadline -> verification(deadline).verifyCredential(message));
    return Messages.decision(message, answer);
  }

  /**
   * Asks for the verdicts on many presentations, a thousand at a time, one batch after another. For many thousands,
   * {@link #stream} begins to answer earlier and keeps less.
   *
   * @param requests any number
   * @return what became of each, in their order. Where a batch fails as a whole, each of its requests has that failure
   */
  public List<Outcome> verifyAll(Collection<VerifyRequest> requests) {
    var outcomes = new ArrayList<Outcome>(requests.size());
    var batch = new ArrayList<VerifyCredentialRequest>();
    int bytes = 0;
    for (var request : requests) {
      var message = request.toMessage();
      int size = message.getSerializedSize() + ITEM_BYTES;
      if (batch.size() == MAX_BATCH_ITEMS || (!batch.isEmpty() && bytes + size > MAX_BATCH_BYTES)) {
        outcomes.addAll(verifyBatch(batch));
        batch.clear();
        bytes = 0;
      }
      batch.add(message);
      bytes += size;
    }
    if (!batch.isEmpty()) {
      outcomes.addAll(verifyBatch(batch));
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
   * <pre>{@code
   * try (var answers = client.stream(requests.iterator())) {
   *   while (answers.hasNext()) {
   *     var answer = answers.next();
   *   }
   * }
   * }</pre>
   *
   * @param requests the source; an exception that it throws comes out of {@code hasNext}
   * @return the answers, for one thread
   */
  public VerificationStream stream(Iterator<VerifyRequest> requests) {
    return new VerificationStream(channels, options.batchDeadline(), requests);
  }

  /**
   * Records that a person consented. It is tried once: a second try could record a second consent.
   *
   * @param matter the matter, which must rest on consent
   * @param claims the claims that may be released on its strength
   * @param lifetime how long it lasts: 1 second to 366 days
   * @return its reference
   * @throws RecognitionException it is not known to be recorded
   */
  public Consent recordConsent(String matter, Collection<String> claims, Duration lifetime) {
    var request = RecordConsentRequest.newBuilder()
        .setMatter(matter)
        .addAllClaims(claims)
        .setLifetime(com.google.protobuf.Duration.newBuilder()
            .setSeconds(lifetime.getSeconds())
            .setNanos(lifetime.getNano()))
        .build();
    var answer = call("", options.deadline(), deadline -> verification(deadline).recordConsent(request));
    return new Consent(answer.getConsentId(), Messages.instant(answer.getExpireTime(), ""));
  }

  /**
   * Records that the person withdrew it. To withdraw again changes nothing.
   *
   * @param consentId its reference
   * @return since when it is withdrawn
   * @throws RecognitionException it is not known to be withdrawn
   */
  public Instant withdrawConsent(String consentId) {
    var request = WithdrawConsentRequest.newBuilder().setConsentId(consentId).build();
    var answer = call("", options.deadline(), deadline -> verification(deadline).withdrawConsent(request));
    return Messages.instant(answer.getWithdrawTime(), "");
  }

  /**
   * Asks how a decision came about, where this service may know.
   *
   * @param verificationId the decision
   * @return its steps, and what would mend it; never an attribute
   * @throws RecognitionException there is no answer
   */
  public ExplainVerificationResponse explain(String verificationId) {
    var request = ExplainVerificationRequest.newBuilder().setVerificationId(verificationId).build();
    return call("", options.deadline(), deadline -> verification(deadline).explainVerification(request));
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
    var request = GetEvidenceRequest.newBuilder().setVerificationId(verificationId).build();
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

  private List<Outcome> verifyBatch(List<VerifyCredentialRequest> batch) {
    var request = BatchVerifyCredentialsRequest.newBuilder().addAllItems(batch).build();
    BatchVerifyCredentialsResponse answer;
    try {
      answer = call("", options.batchDeadline(), deadline -> verification(deadline).batchVerifyCredentials(request));
    } catch (RecognitionException error) {
      return batch.stream().<Outcome>map(each -> new Failure(Errors.under(each.getRequestId(), error))).toList();
    }
    var outcomes = new ArrayList<Outcome>(batch.size());
    for (int i = 0; i < batch.size(); i++) {
      // Which answer belongs to which item is known by their order alone.
      var result = answer.getResultsCount() == batch.size()
          ? answer.getResults(i)
          : VerificationResult.getDefaultInstance();
      outcomes.add(Messages.outcome(
          batch.get(i),
          result.hasResponse() ? result.getResponse() : null,
          result.hasError() ? result.getError() : null));
    }
    return outcomes;
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
  private static <T> T call(String requestId, Duration timeout, Function<Deadline, T> method) {
    var deadline = Deadline.after(timeout.toNanos(), TimeUnit.NANOSECONDS);
    for (int tries = 1; ; tries++) {
      try {
        return method.apply(deadline);
      } catch (StatusRuntimeException status) {
        var error = Errors.of(status, requestId);
        if (tries == MAX_TRIES || !(error instanceof RecognitionException.Overloaded)) {
          throw error;
        }
        long wait = waitNanos(error);
        if (wait < 0 || wait >= deadline.timeRemaining(TimeUnit.NANOSECONDS)) {
          throw error;
        }
        try {
          TimeUnit.NANOSECONDS.sleep(wait);
        } catch (InterruptedException interrupt) {
          throw Errors.interrupted(interrupt, requestId);
        }
      }
    }
  }

  /** Tells how long an overloaded gateway wants us to wait, and up to a fifth more; -1: it does not say, or says never. */
  static long waitNanos(RecognitionException error) {
    return error.retryAfter()
        .filter(each -> each.compareTo(LONGEST_WAIT) < 0)
        .map(each -> (long) (each.toNanos() * (1 + JITTER * ThreadLocalRandom.current().nextDouble())))
        .orElse(-1L);
  }
}
