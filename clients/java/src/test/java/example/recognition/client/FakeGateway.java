package example.recognition.client;

import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.protobuf.Timestamp;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import example.recognition.v1.Assurance;
import example.recognition.v1.BatchVerifyCredentialsRequest;
import example.recognition.v1.BatchVerifyCredentialsResponse;
import example.recognition.v1.CreateChallengeRequest;
import example.recognition.v1.CreateChallengeResponse;
import example.recognition.v1.ExplainVerificationRequest;
import example.recognition.v1.ExplainVerificationResponse;
import example.recognition.v1.RecordConsentRequest;
import example.recognition.v1.RecordConsentResponse;
import example.recognition.v1.StreamVerifyCredentialsRequest;
import example.recognition.v1.StreamVerifyCredentialsResponse;
import example.recognition.v1.VerificationServiceGrpc.VerificationServiceImplBase;
import example.recognition.v1.VerifyCredentialRequest;
import example.recognition.v1.VerifyCredentialResponse;
import example.recognition.v1.WithdrawConsentRequest;
import example.recognition.v1.WithdrawConsentResponse;
import io.grpc.ManagedChannel;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.inprocess.InProcessChannelBuilder;
import io.grpc.inprocess.InProcessServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Function;

/** A gateway in this process that answers what a test tells it to, and remembers what it was asked. */
final class FakeGateway extends VerificationServiceImplBase implements AutoCloseable {

  static final Timestamp LATER = Timestamp.newBuilder().setSeconds(1_800_000_000).build();

  final List<VerifyCredentialRequest> asked = new CopyOnWriteArrayList<>();
  final List<BatchVerifyCredentialsRequest> batches = new CopyOnWriteArrayList<>();
  final List<RecordConsentRequest> consents = new CopyOnWriteArrayList<>();

  /** What it answers to a single presentation: a response, or a StatusRuntimeException that is thrown. */
  volatile Function<VerifyCredentialRequest, VerifyCredentialResponse> verdicts = FakeGateway::accepted;

  volatile Function<BatchVerifyCredentialsRequest, BatchVerifyCredentialsResponse> batchAnswers =
      FakeGateway::acceptedAll;

  volatile Function<CreateChallengeRequest, CreateChallengeResponse> challenges =
      request -> CreateChallengeResponse.newBuilder().setNonce("its-nonce").setAudience("its-audience").setExpireTime(LATER).build();

  volatile Function<RecordConsentRequest, RecordConsentResponse> consentAnswers =
      request -> RecordConsentResponse.newBuilder().setConsentId("its-consent").setExpireTime(LATER).build();

  volatile ExplainVerificationResponse explanation = ExplainVerificationResponse.getDefaultInstance();

  volatile Function<StreamObserver<StreamVerifyCredentialsResponse>, StreamObserver<StreamVerifyCredentialsRequest>>
      streams;

  volatile WithdrawConsentResponse withdrawal = WithdrawConsentResponse.newBuilder().setWithdrawTime(LATER).build();

  private final String name = UUID.randomUUID().toString();
  private final Server server;
  private final List<ManagedChannel> channels = new CopyOnWriteArrayList<>();

  FakeGateway() throws IOException {
    server = InProcessServerBuilder.forName(name).addService(this).build().start();
    connectAnew();
  }

  /** Has new calls go over another connection, as when a certificate was replaced; the old one ends with its calls. */
  void connectAnew() {
    channels.forEach(ManagedChannel::shutdown);
    channels.add(TlsChannels.configure(InProcessChannelBuilder.forName(name)).build());
  }

  RecognitionClient client(Options options) {
    return new RecognitionClient(
        new Channels() {
          @Override
          ManagedChannel current() {
            return channels.get(channels.size() - 1);
          }

          @Override
          String address() {
            return "gateway.example:8443";
          }

          @Override
          void shutDown() {
            channels.forEach(ManagedChannel::shutdownNow);
          }
        },
        options);
  }

  RecognitionClient client() {
    return client(Options.DEFAULT);
  }

  static VerifyCredentialResponse accepted(VerifyCredentialRequest request) {
    var response = decided().setVerificationId("of-" + request.getPresentation());
    response.getAcceptedBuilder()
        .setSubject("pairwise-of-zhang")
        .setIssuer("https://issuer.example")
        .setCredentialType("urn:example:credential")
        .setEraseTime(LATER)
        .setAssurance(Assurance.newBuilder().setIdentity(3).setAuthenticator(2).setFederation(1))
        .getAttributesBuilder()
        .putFields("name", com.google.protobuf.Value.newBuilder().setStringValue("张某").build());
    return response.build();
  }

  /** A decision, but for its verdict. */
  static VerifyCredentialResponse.Builder decided() {
    return VerifyCredentialResponse.newBuilder()
        .setVerificationId("its-id")
        .setVerifyTime(LATER);
  }

  static BatchVerifyCredentialsResponse acceptedAll(BatchVerifyCredentialsRequest request) {
    var response = BatchVerifyCredentialsResponse.newBuilder();
    request.getItemsList().forEach(each -> response.addResultsBuilder().setResponse(accepted(each)));
    return response.build();
  }

  static StatusRuntimeException error(Status.Code code, String reason, String description, Message... details) {
    var status = com.google.rpc.Status.newBuilder()
        .setCode(code.value())
        .setMessage(description)
        .addDetails(Any.pack(ErrorInfo.newBuilder().setReason(reason).setDomain("recognition.v1").build()));
    for (var detail : details) {
      status.addDetails(Any.pack(detail));
    }
    return StatusProto.toStatusRuntimeException(status.build());
  }

  static StatusRuntimeException overloaded(int retryMillis) {
    var delay = com.google.protobuf.Duration.newBuilder().setNanos(retryMillis * 1_000_000).build();
    return error(
        Status.Code.RESOURCE_EXHAUSTED,
        "CALLER_RATE_EXCEEDED",
        "too many",
        RetryInfo.newBuilder().setRetryDelay(delay).build());
  }

  @Override
  public void verifyCredential(VerifyCredentialRequest request, StreamObserver<VerifyCredentialResponse> answer) {
    asked.add(request);
    answer(request, verdicts, answer);
  }

  @Override
  public void batchVerifyCredentials(
      BatchVerifyCredentialsRequest request, StreamObserver<BatchVerifyCredentialsResponse> answer) {
    batches.add(request);
    answer(request, batchAnswers, answer);
  }

  @Override
  public void recordConsent(RecordConsentRequest request, StreamObserver<RecordConsentResponse> answer) {
    consents.add(request);
    answer(request, consentAnswers, answer);
  }

  @Override
  public void withdrawConsent(WithdrawConsentRequest request, StreamObserver<WithdrawConsentResponse> answer) {
    answer(request, each -> withdrawal, answer);
  }

  @Override
  public void explainVerification(
      ExplainVerificationRequest request, StreamObserver<ExplainVerificationResponse> answer) {
    answer(request, each -> explanation, answer);
  }

  @Override
  public void createChallenge(CreateChallengeRequest request, StreamObserver<CreateChallengeResponse> answer) {
    answer(request, challenges, answer);
  }

  @Override
  public StreamObserver<StreamVerifyCredentialsRequest> streamVerifyCredentials(
      StreamObserver<StreamVerifyCredentialsResponse> answer) {
    return streams.apply(answer);
  }

  private static <Q, A> void answer(Q request, Function<Q, A> answers, StreamObserver<A> observer) {
    A answer;
    try {
      answer = answers.apply(request);
    } catch (StatusRuntimeException error) {
      observer.onError(error);
      return;
    }
    if (answer != null) { // else it never answers
      observer.onNext(answer);
      observer.onCompleted();
    }
  }

  @Override
  public void close() {
    channels.forEach(ManagedChannel::shutdownNow);
    server.shutdownNow();
  }
}
