"""What can go wrong with a question. An error is never evidence of anything: it is not a rejection.

::

    RecognitionError
      InvalidRequest    the request is malformed: mend the program
      NotPermitted      the service is not registered for this
      Refused           there is no such thing, or not in this state
      Overloaded        come again after ``retry_after``
      Unavailable       the gateway was not reached, or could not record the decision
      DeadlineExceeded  no answer came in time
      Internal          a fault of the gateway, or between it and us
      DamagedAnswer     an answer came that is none

Made in one place from gRPC's status and the details that the gateway attaches (``google.rpc``). The text of each is one
line: what to do, then what happened in brackets, then the request. No text holds an attribute, a presentation or a
nonce. All can be copied and pickled.
"""

# ruff: noqa: N818 - the names say what happened; that it is an error, the base class says

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DOMAIN: Final = "recognition.v1"
_DETAILS: Final = "grpc-status-details-bin"
_MAX_DETAIL_CHARS: Final = 400
_MAX_TEXT_CHARS: Final = 1_000
_CODES: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


class RecognitionError(Exception):
    """There is no answer. What the question was about is as open as before."""

    advice: str = ""
    """What to do about it."""

    def __init__(
        self,
        code: grpc.StatusCode,
        detail: str = "",
        *,
        reason: str = "",
        field: str = "",
        retry_after: timedelta | None = None,
        request_id: str = "",
    ) -> None:
        """Say what went wrong.

        Args:
            code: gRPC's status code.
            detail: what the gateway or gRPC says of it, for developers.
            reason: the same for programs, such as ``CALLER_RATE_EXCEEDED``; empty where the gateway did not say it.
            field: the field of the request at fault; empty: none is.
            retry_after: when asking again may help; None: not said.
            request_id: of the verification that was asked for; empty for other calls.
        """
        detail = _one_line(detail)
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.reason = reason
        self.field = field
        self.retry_after = retry_after
        self.request_id = request_id

    def __str__(self) -> str:
        wait = "" if self.retry_after is None else f" It may help after {self.retry_after.total_seconds():g} s."
        what = ": ".join(filter(None, (self.detail.rstrip("."), self.reason or self.code.name)))
        request = self.request_id and f" request {self.request_id}"
        return _one_line(f"{self.advice}{wait} [{what}]{request}", _MAX_TEXT_CHARS)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


class InvalidRequest(RecognitionError):
    """The request is malformed; ``field`` names what of it. Asking again does not help."""

    advice = "Correct the request; sent again as it is, it will fail again."


class NotPermitted(RecognitionError):
    """The gateway does not take this question from this service."""

    advice = "Have the gateway's administrator look at the registration and certificate of this service."


class Refused(RecognitionError):
    """What was named does not exist, belongs to somebody else, or is not in a state for this."""

    advice = "See whether the id is right and of this service."


class Overloaded(RecognitionError):
    """There is no room for the question; the client has waited already, as long as its deadline allowed."""

    advice = "Ask less often, or have the gateway's administrator raise this service's quota."


class Unavailable(RecognitionError):
    """The gateway was not reached, or could not record the decision; the client has tried more than once."""

    advice = "Ask again later with the same request id."


class DeadlineExceeded(RecognitionError):
    """No answer came in time. It may have been decided all the same: the log tells by the request id."""

    advice = "Ask again with the same request id, or allow more time."


class Internal(RecognitionError):
    """A fault of the gateway, or a gateway that does not know this call."""

    advice = "Tell the gateway's administrator, with the reference if there is one."


class DamagedAnswer(RecognitionError):
    """What came is no answer that this client knows. It is no verdict, and to be treated as none."""

    advice = "Treat it as no answer; if it happens again, take a newer version of this client."

    def __init__(self, detail: str, *, request_id: str = "") -> None:
        """Say what is wrong with it."""
        super().__init__(grpc.StatusCode.DATA_LOSS, detail, reason="DAMAGED_ANSWER", request_id=request_id)
        self.args = (self.detail,)  # by which a pickled one is made again


_KINDS: Final[Mapping[grpc.StatusCode, type[RecognitionError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.PERMISSION_DENIED: NotPermitted,
    grpc.StatusCode.UNAUTHENTICATED: NotPermitted,
    grpc.StatusCode.NOT_FOUND: Refused,
    grpc.StatusCode.ABORTED: Refused,
    grpc.StatusCode.ALREADY_EXISTS: Refused,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def from_rpc(error: grpc.RpcError, request_id: str = "", *, address: str = "") -> RecognitionError:
    """Make the error of a call that failed.

    Args:
        error: gRPC's, of either of its Python interfaces.
        request_id: of the verification that was asked for.
        address: where the gateway was looked for.
    """
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return Internal(grpc.StatusCode.UNKNOWN, "gRPC failed without a status", request_id=request_id)
    code, detail = error.code(), error.details() or ""
    try:
        reason, field, retry_after = _read_details(error.trailing_metadata() or ())
    except DecodeError:  # the status by itself still says what kind of error it is
        reason, field, retry_after = "", "", None
    if code is not grpc.StatusCode.UNAVAILABLE or reason:
        return from_code(code, detail, reason=reason, field=field, retry_after=retry_after, request_id=request_id)
    # The gateway gives a reason. gRPC, which did not reach it, tells from the outside in what it has tried.
    causes = [each for each in (part.strip(" .]") for part in detail.split(": ")) if each not in {"", "OK"}]
    cause = causes[-1] if causes else ""
    failed = Unavailable(code, cause, retry_after=retry_after, request_id=request_id)
    where = f" at {address}" if address else ""
    failed.advice = f"See that the gateway runs{where}, and that each side trusts the other's certificate."
    return failed


def closed(request_id: str = "") -> Unavailable:
    """Make the error of a call for which there is no client any more."""
    error = Unavailable(grpc.StatusCode.UNAVAILABLE, "this client was closed", request_id=request_id)
    error.advice = "Make another client."
    return error


def invalid(field: str, detail: str, request_id: str = "") -> InvalidRequest:
    """Make the error of what cannot be sent."""
    code = grpc.StatusCode.INVALID_ARGUMENT
    return InvalidRequest(code, f"{field} {detail}", reason="INVALID_REQUEST", field=field, request_id=request_id)


def from_code(
    code: grpc.StatusCode, detail: str, *, reason: str, field: str, retry_after: timedelta | None, request_id: str
) -> RecognitionError:
    """Make the error of a status."""
    kind = _KINDS.get(code, Internal)
    return kind(code, detail, reason=reason, field=field, retry_after=retry_after, request_id=request_id)


def for_request(error: RecognitionError, request_id: str) -> RecognitionError:
    """Say of one request what went wrong with many."""
    made = copy.copy(error)
    made.request_id = request_id
    return made


def status_code(number: int) -> grpc.StatusCode:
    """Name a status code; one that says nothing about what went wrong, or that nobody knows, is INTERNAL."""
    code = _CODES.get(number, grpc.StatusCode.INTERNAL)
    return code if code in _KINDS else grpc.StatusCode.INTERNAL


def read_duration(duration: Duration) -> timedelta:
    """Read a duration; one that is out of range is as long as can be."""
    try:
        return timedelta(0, duration.seconds, duration.nanos // 1_000)
    except OverflowError:
        return timedelta.max if duration.seconds > 0 else timedelta.min


def _read_details(metadata: Iterable[tuple[str, str | bytes]]) -> tuple[str, str, timedelta | None]:
    """Read the reason, the field at fault and when to come again, as far as they were said."""
    reason, field, retry_after = "", "", None
    for packed in _details(metadata):
        if packed.Unpack(info := error_details_pb2.ErrorInfo()) and info.domain == _DOMAIN:
            reason = info.reason
        elif packed.Unpack(request := error_details_pb2.BadRequest()) and request.field_violations:
            field = request.field_violations[0].field
        elif packed.Unpack(retry := error_details_pb2.RetryInfo()) and retry.HasField("retry_delay"):
            retry_after = read_duration(retry.retry_delay)
    return reason, field, retry_after


def _details(metadata: Iterable[tuple[str, str | bytes]]) -> Sequence[any_pb2.Any]:
    for key, value in metadata:
        if key == _DETAILS and isinstance(value, bytes):
            return status_pb2.Status.FromString(value).details
    return ()


def _one_line(text: str, most: int = _MAX_DETAIL_CHARS) -> str:
    """Leave out what could pass for other lines, or for nothing, in a log."""
    return " ".join("".join(each if each.isprintable() else " " for each in text[:most]).split())
