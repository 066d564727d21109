package example.recognition.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import example.recognition.client.RecognitionException.Details;
import example.recognition.v1.VerificationError;
import io.grpc.Status;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;

/** Makes errors of gRPC's statuses and of the details (google.rpc) that the gateway attaches; nowhere else are any made. */
final class Errors {

  private static final String DOMAIN = "recognition.v1";

  /** Causes can be chained in a ring. */
  private static final int MAX_CAUSES = 20;

  private Errors() {}

  /** Says why a call has no answer. */
  static RecognitionException of(StatusRuntimeException error, String requestId, Channels channels) {
    String reason = "";
    String field = "";
    Duration retryAfter = null;
    for (Any each : details(error)) {
      try {
        if (each.is(ErrorInfo.class)) {
          var info = each.unpack(ErrorInfo.class);
          reason = info.getDomain().equals(DOMAIN) ? info.getReason() : reason;
        } else if (each.is(BadRequest.class)) {
          var request = each.unpack(BadRequest.class);
          field = request.getFieldViolationsCount() > 0 ? request.getFieldViolations(0).getField() : field;
        } else if (each.is(RetryInfo.class)) {
          retryAfter = Messages.duration(each.unpack(RetryInfo.class).getRetryDelay());
        }
      } catch (InvalidProtocolBufferException damaged) {
        continue; // without it, the status still says what kind of error it is
      }
    }
    var code = error.getStatus().getCode();
    var cause = error.getStatus().getCause();
    var description = error.getStatus().getDescription();
    if (isUndecodable(cause)) {
      return damaged("it cannot be decoded", requestId);
    }
    if (reason.isEmpty() && (code == Code.UNAVAILABLE || code == Code.CANCELLED)) {
      if (cause instanceof InterruptedException interrupt) {
        return interrupted(interrupt, requestId);
      }
      if (channels.isClosed()) {
        return closed(requestId);
      }
      if (code == Code.UNAVAILABLE) {
        return of(new Details(
            "The gateway cannot be reached: see that the gateway runs at " + channels.address()
                + ", and that each side trusts the other's certificate.",
            code, innermost(cause, description), "", "", retryAfter, requestId, cause));
      }
    }
    return of(new Details(
        null, code, description == null ? "" : description, reason, field, retryAfter, requestId, cause));
  }

  /** Says why one of many has no decision. */
  static RecognitionException of(VerificationError error, String requestId) {
    var code = Status.fromCodeValue(error.getCode()).getCode();
    return of(new Details(
        null,
        code == Code.OK || code == Code.UNKNOWN ? Code.INTERNAL : code,
        error.getDescription(),
        error.getReason(),
        error.getField(),
        error.hasRetryDelay() ? Messages.duration(error.getRetryDelay()) : null,
        requestId,
        null));
  }

  /** Says the same of another request. */
  static RecognitionException under(String requestId, RecognitionException error) {
    var details = new Details(
        error.advice(),
        error.code(),
        error.description(),
        error.reason(),
        error.field(),
        error.retryAfter().orElse(null),
        requestId,
        error.getCause());
    return error instanceof RecognitionException.DamagedAnswer
        ? new RecognitionException.DamagedAnswer(details)
        : of(details);
  }

  static RecognitionException invalid(String field, String description, String requestId) {
    return of(new Details(
        null, Code.INVALID_ARGUMENT, field + " " + description, "INVALID_REQUEST", field, null, requestId, null));
  }

  static RecognitionException damaged(String description, String requestId) {
    return new RecognitionException.DamagedAnswer(
        new Details(null, Code.DATA_LOSS, description, "DAMAGED_ANSWER", "", null, requestId, null));
  }

  static RecognitionException interrupted(InterruptedException cause, String requestId) {
    Thread.currentThread().interrupt();
    return of(new Details(
        "Stopped waiting for the answer; it may have been decided all the same.",
        Code.CANCELLED, "this thread was interrupted", "", "", null, requestId, cause));
  }

  static RecognitionException closed(String requestId) {
    return of(new Details(
        "Nothing more can be asked here: make another client.",
        Code.UNAVAILABLE, "this client was closed", "", "", null, requestId, null));
  }

  static RecognitionException silent() {
    return of(new Details(null, Code.DEADLINE_EXCEEDED, "no answer on the stream", "", "", null, "", null));
  }

  /** Finds what went wrong in the end; gRPC's own words for it are "io exception". */
  private static String innermost(Throwable cause, String description) {
    var said = description == null ? "" : description;
    int channel = said.indexOf("\nChannel Pipeline:"); // gRPC's way to say how far a connection came
    said = channel < 0 ? said : said.substring(0, channel);
    var each = cause;
    for (int depth = 0; each != null && depth < MAX_CAUSES; depth++) {
      said = each.getMessage() == null ? each.getClass().getSimpleName() : each.getMessage();
      each = each.getCause();
    }
    return said;
  }

  /** Tells whether an answer came that is no message; gRPC calls that cancelled. */
  private static boolean isUndecodable(Throwable cause) {
    var each = cause;
    for (int depth = 0; each != null && depth < MAX_CAUSES; depth++) {
      if (each instanceof InvalidProtocolBufferException) {
        return true;
      }
      each = each.getCause();
    }
    return false;
  }

  private static List<Any> details(StatusRuntimeException error) {
    try {
      var status = StatusProto.fromThrowable(error);
      return status == null ? List.of() : status.getDetailsList();
    } catch (IllegalArgumentException damaged) {
      return List.of();
    }
  }

  private static RecognitionException of(Details details) {
    return switch (details.code()) {
      case INVALID_ARGUMENT, OUT_OF_RANGE -> new RecognitionException.InvalidRequest(details);
      case PERMISSION_DENIED, UNAUTHENTICATED -> new RecognitionException.NotPermitted(details);
      case NOT_FOUND, ABORTED, ALREADY_EXISTS, FAILED_PRECONDITION -> new RecognitionException.Refused(details);
      case RESOURCE_EXHAUSTED -> new RecognitionException.Overloaded(details);
      case UNAVAILABLE, CANCELLED -> new RecognitionException.Unavailable(details);
      case DEADLINE_EXCEEDED -> new RecognitionException.DeadlineExceeded(details);
      case OK, UNKNOWN, INTERNAL, UNIMPLEMENTED, DATA_LOSS -> new RecognitionException.Internal(details);
    };
  }
}
