package example.recognition.client;

import io.grpc.Status;
import java.time.Duration;
import java.util.Optional;
import java.util.regex.Pattern;

/**
 * There is no answer, and what the question was about is as open as before. It is never evidence of anything, and not a
 * rejection: a rejection is a {@link Decision}.
 *
 * <p>Each is of one of the eight kinds below, by what is to be done. None holds an attribute, a presentation or a nonce.
 */
public abstract sealed class RecognitionException extends RuntimeException {

  private static final long serialVersionUID = 1L;

  private final String advice;
  private final Status.Code code;
  private final String description;
  private final String reason;
  private final String field;
  private final Duration retryAfter;
  private final String requestId;

  private RecognitionException(String usualAdvice, Details details) {
    super(details.say(usualAdvice), details.cause());
    this.advice = details.advice();
    this.code = details.code();
    this.description = details.description();
    this.reason = details.reason();
    this.field = details.field();
    this.retryAfter = details.retryAfter();
    this.requestId = details.requestId();
  }

  /**
   * Gives gRPC's word for it.
   *
   * @return the status code
   */
  public Status.Code code() {
    return code;
  }

  /** Gives what to do, where it is not what is usual for its kind; else null. */
  String advice() {
    return advice;
  }

  String description() {
    return description;
  }

  /**
   * Gives the gateway's word for it, for programs, such as {@code CALLER_RATE_EXCEEDED}.
   *
   * @return empty where the gateway gave none
   */
  public String reason() {
    return reason;
  }

  /**
   * Names the field of the request that is at fault, such as {@code predicates[0].age_at_least}.
   *
   * @return empty where none is
   */
  public String field() {
    return field;
  }

  /**
   * Tells when asking again may help.
   *
   * @return how long to wait; empty where nobody said
   */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  /**
   * Tells under which id it was asked, by which the gateway's log can be searched.
   *
   * @return empty for calls other than verifications
   */
  public String requestId() {
    return requestId;
  }

  /** What is known of an error. */
  record Details(
      String advice,
      Status.Code code,
      String description,
      String reason,
      String field,
      Duration retryAfter,
      String requestId,
      Throwable cause) {

    private static final int MAX_DESCRIPTION = 400;

    /** Ends of lines of every kind, and what else moves a terminal's cursor. */
    private static final Pattern CONTROL = Pattern.compile("[\\p{Cc}\\u2028\\u2029]+");

    /** Says it in one line: what to do, what went wrong, and under which request. */
    String say(String usualAdvice) {
      var text = new StringBuilder(advice == null ? usualAdvice : advice);
      if (retryAfter != null) {
        text.append(" It may help after ").append(retryAfter.toMillis() / 1000.0).append(" s.");
      }
      text.append(" [").append(reason.isEmpty() ? code.name() : reason);
      if (!description.isEmpty()) {
        text.append(": ").append(shortened(description));
      }
      text.append(']');
      if (!requestId.isEmpty()) {
        text.append(" [request ").append(requestId).append(']');
      }
      return CONTROL.matcher(text).replaceAll(" ");
    }

    private static String shortened(String text) {
      int end = Math.min(text.length(), MAX_DESCRIPTION);
      return text.substring(0, end > 0 && Character.isHighSurrogate(text.charAt(end - 1)) ? end - 1 : end);
    }
  }

  /** The request itself is at fault, most likely in {@link #field}. Asking again as it is does not help. */
  public static final class InvalidRequest extends RecognitionException {
    private static final long serialVersionUID = 1L;

    InvalidRequest(Details details) {
      super("The request is not valid: mend the program; sent again as it is, it fails again.", details);
    }
  }

  /** The gateway does not take this question from this service. */
  public static final class NotPermitted extends RecognitionException {
    private static final long serialVersionUID = 1L;

    NotPermitted(Details details) {
      super("Not permitted: have the gateway's administrator look at this service's registration and certificate.",
          details);
    }
  }

  /** What was named does not exist, belongs to somebody else, or is not in a state for this. */
  public static final class Refused extends RecognitionException {
    private static final long serialVersionUID = 1L;

    Refused(Details details) {
      super("Refused: see whether the id is right, and this service's.", details);
    }
  }

  /** The gateway takes no more for now; the client has waited already, as long as its deadline allowed. */
  public static final class Overloaded extends RecognitionException {
    private static final long serialVersionUID = 1L;

    Overloaded(Details details) {
      super("The gateway takes no more for now: ask less often, or have this service's quota raised.", details);
    }
  }

  /**
   * The gateway was not reached, or could not record the decision; the client has tried more than once. Also: this thread
   * was interrupted while it waited, or the client was closed.
   */
  public static final class Unavailable extends RecognitionException {
    private static final long serialVersionUID = 1L;

    Unavailable(Details details) {
      super("The gateway cannot answer for now: ask again later.", details);
    }
  }

  /** No answer came in time. It may have been decided all the same: the log tells by the request id. */
  public static final class DeadlineExceeded extends RecognitionException {
    private static final long serialVersionUID = 1L;

    DeadlineExceeded(Details details) {
      super("No answer came in time: ask again with the same request id, or allow more time.", details);
    }
  }

  /** Something is wrong in the gateway, or it does not know this call. */
  public static final class Internal extends RecognitionException {
    private static final long serialVersionUID = 1L;

    Internal(Details details) {
      super("Something is wrong in the gateway: tell its administrator, with the reference if there is one.", details);
    }
  }

  /** An answer came that is none: it says less than it must, or what this client does not know. It is no verdict. */
  public static final class DamagedAnswer extends RecognitionException {
    private static final long serialVersionUID = 1L;

    DamagedAnswer(Details details) {
      super("The answer is damaged or newer than this client, and no verdict: treat it as no answer.", details);
    }
  }
}
