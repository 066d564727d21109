package example.recognition.client;

import com.google.protobuf.Struct;
import com.google.protobuf.Timestamp;
import com.google.protobuf.Value;
import example.recognition.client.Accepted.Actor;
import example.recognition.client.Accepted.Assurance;
import example.recognition.client.Accepted.SubjectType;
import example.recognition.client.Decision.StatusBasis;
import example.recognition.client.Decision.TrustBasis;
import example.recognition.client.ExplainedStep.StepOutcome;
import example.recognition.v1.Acceptance;
import example.recognition.v1.CreateChallengeResponse;
import example.recognition.v1.ExplainVerificationResponse;
import example.recognition.v1.RecordConsentResponse;
import example.recognition.v1.VerificationError;
import example.recognition.v1.VerifyCredentialRequest;
import example.recognition.v1.VerifyCredentialResponse;
import example.recognition.v1.WithdrawConsentResponse;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Reads what a gateway answers.
 *
 * <p>What cannot be a verdict is an error, never a guess. Fields that this version does not know are passed over.
 */
final class Messages {

  /** As the contract's format has it. */
  static final long MAX_DURATION_SECONDS = 315_576_000_000L;

  /** The years 1 to 9999, and no time beyond them: likewise. */
  private static final long MIN_TIME_SECONDS = -62_135_596_800L;

  private static final long MAX_TIME_SECONDS = 253_402_300_799L;
  private static final int MAX_NANOS = 999_999_999;

  private Messages() {}

  /**
   * Reads a challenge.
   *
   * @throws RecognitionException.DamagedAnswer there is nothing in it that could be signed, or it does not say until when
   */
  static Challenge challenge(CreateChallengeResponse message) {
    return new Challenge(
        said(message.getNonce(), "it has no nonce", ""),
        said(message.getAudience(), "it has no audience", ""),
        said(message.hasExpireTime(), message.getExpireTime(), "it does not say when it lapses", ""));
  }

  /**
   * Reads a consent.
   *
   * @throws RecognitionException.DamagedAnswer it has no id, or does not say until when
   */
  static Consent consent(RecordConsentResponse message) {
    return new Consent(
        said(message.getConsentId(), "it has no consent id", ""),
        said(message.hasExpireTime(), message.getExpireTime(), "it does not say when it lapses", ""));
  }

  /**
   * Reads since when a consent is withdrawn.
   *
   * @throws RecognitionException.DamagedAnswer it does not say
   */
  static Instant withdrawal(WithdrawConsentResponse message) {
    return said(message.hasWithdrawTime(), message.getWithdrawTime(), "it does not say since when", "");
  }

  /**
   * Reads how a decision came about.
   *
   * @throws RecognitionException.DamagedAnswer it does not say of which decision
   */
  static Explanation explanation(ExplainVerificationResponse message) {
    return new Explanation(
        said(message.getVerificationId(), "it names no decision", ""),
        said(message.hasVerifyTime(), message.getVerifyTime(), "it does not say when it was decided", ""),
        message.getService(),
        message.getMatter(),
        message.getVerdict(),
        reason(message.getReasonValue()),
        message.getReasonValue(),
        message.getStepsList().stream().map(Messages::step).toList());
  }

  /**
   * Reads a decision.
   *
   * @throws RecognitionException.DamagedAnswer there is no verdict in it, it is not known which decision it is and when
   *     it was made, an acceptance does not say who is accepted on whose word, or one of the questions has no answer
   */
  static Decision decision(VerifyCredentialRequest request, VerifyCredentialResponse message) {
    var requestId = request.getRequestId();
    var verdict = switch (message.getVerdictCase()) {
      case ACCEPTED -> accepted(message.getAccepted(), request);
      case REJECTED -> rejected(message.getRejected().getReasonValue());
      case INDETERMINATE -> indeterminate(message.getIndeterminate());
      case VERDICT_NOT_SET -> throw Errors.damaged("it has no verdict that this client knows", requestId);
    };
    return new Decision(
        verdict,
        said(message.getVerificationId(), "it has no verification id", requestId),
        said(message.hasVerifyTime(), message.getVerifyTime(), "it does not say when it was decided", requestId),
        NextStep.of(message.getNextStepValue()),
        message.getReceipt(),
        trustBasis(message.getTrustBasis()),
        message.hasStatusBasis() ? Optional.of(statusBasis(message.getStatusBasis(), requestId)) : Optional.empty(),
        requestId,
        message.getRepeated());
  }

  /** Reads what became of one of many; what is not there is null, and if neither is, the answer is damaged. */
  static Outcome outcome(VerifyCredentialRequest request, VerifyCredentialResponse response, VerificationError error) {
    if (error != null) {
      return new Failure(Errors.of(error, request.getRequestId()));
    }
    if (response == null) {
      return new Failure(Errors.damaged("it neither decides on an item nor says why not", request.getRequestId()));
    }
    try {
      return decision(request, response);
    } catch (RecognitionException.DamagedAnswer damaged) {
      return new Failure(damaged);
    }
  }

  /** Reads a duration; one that no calendar has a use for is ten thousand years. */
  static Duration duration(com.google.protobuf.Duration message) {
    return Duration.ofSeconds(
        Math.max(-MAX_DURATION_SECONDS, Math.min(MAX_DURATION_SECONDS, message.getSeconds())), message.getNanos());
  }

  /**
   * Reads a time.
   *
   * @throws RecognitionException.DamagedAnswer it is none
   */
  private static Instant instant(Timestamp message, String requestId) {
    boolean isTime = message.getSeconds() >= MIN_TIME_SECONDS
        && message.getSeconds() <= MAX_TIME_SECONDS
        && message.getNanos() >= 0
        && message.getNanos() <= MAX_NANOS;
    if (!isTime) {
      throw Errors.damaged("a time in it is none", requestId);
    }
    return Instant.ofEpochSecond(message.getSeconds(), message.getNanos());
  }

  /** Reads a time that may be left out; not said is not 1970. */
  private static Optional<Instant> instant(boolean isSaid, Timestamp message, String requestId) {
    return isSaid ? Optional.of(instant(message, requestId)) : Optional.empty();
  }

  private static Optional<Duration> duration(boolean isSaid, com.google.protobuf.Duration message) {
    return isSaid ? Optional.of(duration(message)) : Optional.empty();
  }

  private static Instant said(boolean isSaid, Timestamp message, String otherwise, String requestId) {
    if (!isSaid) {
      throw Errors.damaged(otherwise, requestId);
    }
    return instant(message, requestId);
  }

  private static String said(String text, String otherwise, String requestId) {
    if (text.isEmpty()) {
      throw Errors.damaged(otherwise, requestId);
    }
    return text;
  }

  private static Optional<Reason> reason(int number) {
    return number == 0 ? Optional.empty() : Optional.of(Reason.of(number));
  }

  private static ExplainedStep step(example.recognition.v1.ExplainedStep message) {
    return new ExplainedStep(
        message.getNumber(),
        text(message.getTitle()),
        switch (message.getOutcome()) {
          case STEP_OUTCOME_PASSED -> StepOutcome.PASSED;
          case STEP_OUTCOME_FAILED -> StepOutcome.FAILED;
          case STEP_OUTCOME_UNDECIDED -> StepOutcome.UNDECIDED;
          case STEP_OUTCOME_NOT_REACHED -> StepOutcome.NOT_REACHED;
          case STEP_OUTCOME_NOT_NEEDED -> StepOutcome.NOT_NEEDED;
          case STEP_OUTCOME_UNSPECIFIED, UNRECOGNIZED -> StepOutcome.UNRECOGNISED;
        },
        Map.copyOf(message.getInputsMap()),
        reason(message.getReasonValue()),
        message.getReasonValue(),
        message.hasMeaning() ? Optional.of(text(message.getMeaning())) : Optional.empty(),
        message.hasFix() ? Optional.of(text(message.getFix())) : Optional.empty());
  }

  private static LocalizedText text(example.recognition.v1.LocalizedText message) {
    return new LocalizedText(message.getZh(), message.getEn());
  }

  private static Verdict rejected(int number) {
    return new Rejected(Reason.of(number), number);
  }

  private static Verdict indeterminate(example.recognition.v1.Indeterminate message) {
    var number = message.getReasonValue();
    return new Indeterminate(Reason.of(number), number, duration(message.hasRetryAfter(), message.getRetryAfter()));
  }

  private static Verdict accepted(Acceptance message, VerifyCredentialRequest request) {
    var requestId = request.getRequestId();
    return new Accepted(
        said(message.getSubject(), "it does not say who is accepted", requestId),
        said(message.getIssuer(), "it does not say who issued it", requestId),
        message.getIssuingProvince(),
        said(message.getCredentialType(), "it does not say what is accepted", requestId),
        assurance(message.getAssurance(), requestId),
        attributes(message.getAttributes()),
        instant(message.hasIssueTime(), message.getIssueTime(), requestId),
        instant(message.hasAuthenticationTime(), message.getAuthenticationTime(), requestId),
        instant(message.hasExpireTime(), message.getExpireTime(), requestId),
        message.getHolderBound(),
        predicateAnswers(message, request),
        switch (message.getSubjectType()) {
          case SUBJECT_TYPE_NATURAL -> SubjectType.NATURAL;
          case SUBJECT_TYPE_LEGAL -> SubjectType.LEGAL;
          case SUBJECT_TYPE_UNSPECIFIED, UNRECOGNIZED -> SubjectType.UNRECOGNISED;
        },
        message.hasActor() ? Optional.of(actor(message.getActor(), requestId)) : Optional.empty(),
        message.getHouseholdProvince(),
        duration(message.hasCredentialAge(), message.getCredentialAge()),
        duration(message.hasAuthenticationAge(), message.getAuthenticationAge()),
        said(message.hasEraseTime(), message.getEraseTime(), "it does not say until when it may be kept", requestId),
        message.getPreviousSubject(),
        message.getLegalBasis());
  }

  private static List<Boolean> predicateAnswers(Acceptance message, VerifyCredentialRequest request) {
    // One answer too few, and each would be taken for the answer to another question.
    if (message.getPredicateAnswersCount() != request.getPredicatesCount()) {
      throw Errors.damaged("it does not answer the questions", request.getRequestId());
    }
    return message.getPredicateAnswersList().stream().map(each -> switch (each) {
      case PREDICATE_ANSWER_YES -> true;
      case PREDICATE_ANSWER_NO -> false;
      case PREDICATE_ANSWER_UNSPECIFIED, UNRECOGNIZED ->
          throw Errors.damaged("it does not answer a question", request.getRequestId());
    }).toList();
  }

  private static Assurance assurance(example.recognition.v1.Assurance message, String requestId) {
    // An assurance that is left out has no levels either.
    if (Math.min(message.getIdentity(), Math.min(message.getAuthenticator(), message.getFederation())) < 1
        || message.getLevel() < 0) {
      throw Errors.damaged("it does not say how surely it is this person", requestId);
    }
    return new Assurance(
        message.getIdentity(),
        message.getAuthenticator(),
        message.getFederation(),
        message.getAcr(),
        message.getLevel());
  }

  private static Actor actor(example.recognition.v1.Actor message, String requestId) {
    return new Actor(
        said(message.getSubject(), "it does not say who acts", requestId),
        message.getRelationship(),
        attributes(message.getAttributes()),
        message.getPreviousSubject());
  }

  private static TrustBasis trustBasis(example.recognition.v1.TrustBasis message) {
    return new TrustBasis(
        message.getCharterVersion(),
        message.getViewId(),
        duration(message.hasAge(), message.getAge()),
        message.getStale());
  }

  private static StatusBasis statusBasis(example.recognition.v1.StatusBasis message, String requestId) {
    return new StatusBasis(
        message.getList(),
        instant(message.hasIssueTime(), message.getIssueTime(), requestId),
        duration(message.hasAge(), message.getAge()));
  }

  private static Map<String, Object> attributes(Struct struct) {
    var map = new LinkedHashMap<String, Object>();
    struct.getFieldsMap().forEach((name, value) -> map.put(name, attribute(value)));
    return Collections.unmodifiableMap(map); // not Map.copyOf, which takes no null
  }

  private static Object attribute(Value value) {
    return switch (value.getKindCase()) {
      case STRING_VALUE -> value.getStringValue();
      case NUMBER_VALUE -> value.getNumberValue();
      case BOOL_VALUE -> value.getBoolValue();
      case STRUCT_VALUE -> attributes(value.getStructValue());
      case LIST_VALUE -> {
        var list = new ArrayList<Object>();
        value.getListValue().getValuesList().forEach(each -> list.add(attribute(each)));
        yield Collections.unmodifiableList(list);
      }
      case NULL_VALUE, KIND_NOT_SET -> null;
    };
  }
}
