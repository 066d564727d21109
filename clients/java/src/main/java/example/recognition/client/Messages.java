package example.recognition.client;

import com.google.protobuf.Struct;
import com.google.protobuf.Timestamp;
import com.google.protobuf.Value;
import example.recognition.client.Accepted.Actor;
import example.recognition.client.Accepted.Assurance;
import example.recognition.client.Accepted.PredicateAnswer;
import example.recognition.client.Accepted.SubjectType;
import example.recognition.client.Decision.StatusBasis;
import example.recognition.client.Decision.TrustBasis;
import example.recognition.v1.Acceptance;
import example.recognition.v1.VerificationError;
import example.recognition.v1.VerifyCredentialRequest;
import example.recognition.v1.VerifyCredentialResponse;
import java.time.DateTimeException;
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
  private static final long MAX_DURATION_SECONDS = 315_576_000_000L;

  private Messages() {}

  /**
   * Reads a decision.
   *
   * @throws RecognitionException.DamagedAnswer there is no verdict in it, or no answer to one of the questions
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
        message.getVerificationId(),
        message.hasVerifyTime() ? instant(message.getVerifyTime(), requestId) : null,
        NextStep.of(message.getNextStepValue()),
        message.getReceipt(),
        trustBasis(message.getTrustBasis()),
        message.hasStatusBasis() ? Optional.of(statusBasis(message.getStatusBasis(), requestId)) : Optional.empty(),
        requestId);
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
  static Instant instant(Timestamp message, String requestId) {
    try {
      return Instant.ofEpochSecond(message.getSeconds(), message.getNanos());
    } catch (DateTimeException | ArithmeticException error) {
      throw Errors.damaged("a time in it is none", requestId);
    }
  }

  private static Verdict rejected(int number) {
    return new Rejected(Reason.of(number), number);
  }

  private static Verdict indeterminate(example.recognition.v1.Indeterminate message) {
    var number = message.getReasonValue();
    var retryAfter = message.hasRetryAfter() ? Optional.of(duration(message.getRetryAfter())) : Optional.<Duration>empty();
    return new Indeterminate(Reason.of(number), number, retryAfter);
  }

  private static Verdict accepted(Acceptance message, VerifyCredentialRequest request) {
    var requestId = request.getRequestId();
    var assurance = message.getAssurance();
    return new Accepted(
        message.getSubject(),
        message.getIssuer(),
        message.getIssuingProvince(),
        message.getCredentialType(),
        new Assurance(
            assurance.getIdentity(),
            assurance.getAuthenticator(),
            assurance.getFederation(),
            assurance.getAcr(),
            assurance.getLevel()),
        attributes(message.getAttributes()),
        message.hasIssueTime() ? instant(message.getIssueTime(), requestId) : null,
        message.hasAuthenticationTime() ? instant(message.getAuthenticationTime(), requestId) : null,
        message.hasExpireTime() ? instant(message.getExpireTime(), requestId) : null,
        message.getHolderBound(),
        predicateAnswers(message, request),
        switch (message.getSubjectType()) {
          case SUBJECT_TYPE_NATURAL -> SubjectType.NATURAL;
          case SUBJECT_TYPE_LEGAL -> SubjectType.LEGAL;
          case SUBJECT_TYPE_UNSPECIFIED, UNRECOGNIZED -> SubjectType.UNRECOGNISED;
        },
        message.hasActor() ? Optional.of(actor(message.getActor())) : Optional.empty(),
        message.getHouseholdProvince(),
        message.hasCredentialAge() ? duration(message.getCredentialAge()) : null,
        message.hasAuthenticationAge() ? duration(message.getAuthenticationAge()) : null,
        message.hasEraseTime() ? instant(message.getEraseTime(), requestId) : null,
        message.getPreviousSubject(),
        message.getLegalBasis());
  }

  private static List<PredicateAnswer> predicateAnswers(Acceptance message, VerifyCredentialRequest request) {
    // One answer too few, and each would be taken for the answer to another question.
    if (message.getPredicateAnswersCount() != request.getPredicatesCount()) {
      throw Errors.damaged("it does not answer the questions", request.getRequestId());
    }
    return message.getPredicateAnswersList().stream().map(each -> switch (each) {
      case PREDICATE_ANSWER_YES -> PredicateAnswer.YES;
      case PREDICATE_ANSWER_NO -> PredicateAnswer.NO;
      case PREDICATE_ANSWER_UNSPECIFIED, UNRECOGNIZED ->
          throw Errors.damaged("it does not answer a question", request.getRequestId());
    }).toList();
  }

  private static Actor actor(example.recognition.v1.Actor message) {
    return new Actor(
        message.getSubject(),
        message.getRelationship(),
        attributes(message.getAttributes()),
        message.getPreviousSubject());
  }

  private static TrustBasis trustBasis(example.recognition.v1.TrustBasis message) {
    return new TrustBasis(
        message.getCharterVersion(), message.getViewId(), duration(message.getAge()), message.getStale());
  }

  private static StatusBasis statusBasis(example.recognition.v1.StatusBasis message, String requestId) {
    return new StatusBasis(message.getList(), instant(message.getIssueTime(), requestId), duration(message.getAge()));
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
