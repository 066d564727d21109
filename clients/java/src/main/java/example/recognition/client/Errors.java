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

  private Errors() {}

  static RecognitionException of(StatusRuntimeException error, String requestId) {
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
    var description = error.getStatus().getDescription();
    return of(new Details(
        error.getStatus().getCode(), description == null ? "" : description, reason, field, retryAfter, requestId,
        error.getStatus().getCause()));
  }

  static RecognitionException of(VerificationError error, String requestId) {
    var code = Status.fromCodeValue(error.getCode()).getCode();
    return of(new Details(
        code == Code.OK ? Code.INTERNAL : code,
        error.getDescription(),
        error.getReason(),
        error.getField(),
        error.hasRetryDelay() ? Messages.duration(error.getRetryDelay()) : null,
        requestId,
        null));
  }

  /** Says the same of another request. */
  static RecognitionException under(String requestId, RecognitionException error) {
    return of(new Details(
        error.code(),
        error.description(),
        error.reason(),
        error.field(),
        error.retryAfter().orElse(null),
        requestId,
        error.getCause()));
  }

  static RecognitionException invalid(String field, String description, String requestId) {
    return of(new Details(Code.INVALID_ARGUMENT, field + " " + description, "", field, null, requestId, null));
  }

  static RecognitionException damaged(String description, String requestId) {
    return of(new Details(Code.DATA_LOSS, description, "DAMAGED_ANSWER", "", null, requestId, null));
  }

  static RecognitionException interrupted(InterruptedException cause, String requestId) {
    Thread.currentThread().interrupt();
    return of(new Details(Code.CANCELLED, "this thread was interrupted", "", "", null, requestId, cause));
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
      case DATA_LOSS -> new RecognitionException.DamagedAnswer(details);
      case OK, UNKNOWN, INTERNAL, UNIMPLEMENTED -> new RecognitionException.Internal(details);
    };
  }
}
