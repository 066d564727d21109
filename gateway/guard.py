"""Around every call: who waits for whom, and what an error becomes.

Errors become gRPC statuses here and nowhere else. Each carries one ``ErrorInfo``; none carries a stack trace, a token
or a claim. An exception that is none of ours is a bug: the caller gets INTERNAL and a reference, the log its type and
place.

gRPC hands a call to a thread when its headers arrive, and the thread waits for the message. A caller that opens calls
and sends nothing would hold them all. So a call must bring its message within ``RECEIVE_SECONDS``; and of the calls
that noticeably wait, each province's CA has a share, because it could make any number of certificates. Calls whose
message comes at once, as those of honest callers do, are not counted at all.

That is too late where one CA's calls could fill the queue before the others' are looked at. gRPC tells who calls only
in a thread: an interceptor sees the method and metadata, which the caller makes up. So where several provinces call, a
thread looks at the certificate first, and a call beyond its CA's share is refused at that moment; until then no thread
waits for anything. The listener has more threads than all shares together, so that one is always free to look.

A call that answers with a stream holds a thread for as long as it lasts. Their number is bounded, and the listener has
that many threads more, so that they take none from calls of one message. Each CA has a share of them; who opens one too
many loses its own oldest, because a stream whose other end vanished looks just like one that is idle. Whoever stops
reading is cut off.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from gateway.clock import World
from gateway.core.encoding import b64url_encode
from gateway.core.reasons import (
    Conflict,
    InvalidRequest,
    NotHeld,
    NotPermitted,
    Overloaded,
    Unavailable,
    WrongState,
)
from gateway.logs import get_logger
from gateway.tls import Caller, CallerReader

ERROR_DOMAIN: Final = "recognition.v1"
RECEIVE_SECONDS: Final = 2.0
NOTICEABLE_SECONDS: Final = 0.1
"""A message that takes longer than its headers by this much is waited for; others arrive together with them."""
STREAMED: Final = frozenset({"/recognition.v1.FederationService/WatchTrust"})
"""The calls that answer with a stream where strangers call. Health and reflection would do so too."""
STREAMS_PER_DOMAIN: Final = 2
"""One, and one more for a caller that comes again before it is known that the first is dead."""
CALLS_PER_DOMAIN: Final = 8
"""How many calls of one message a domain may have open where it has a share. A gateway has up to five: it asks, follows
a charter, acknowledges; the rest is for people who look what is wrong, and for a second process."""
SHARE_RETRY_SECONDS: Final = 1.0
UNREAD_SECONDS: Final = 30.0
"""How long one message of a stream may wait for its reader."""
_STREAM_CHECK_SECONDS: Final = 1.0

_log = get_logger("guard")

# -- errors -----------------------------------------------------------------------------------------------------------


def _abort(context: grpc.ServicerContext, code: int, reason: str, message: str, *details: Message) -> NoReturn:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN)
    packed = []
    for detail in (info, *details):
        any_message = any_pb2.Any()
        any_message.Pack(detail)
        packed.append(any_message)
    context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=code, message=message, details=packed)))
    raise AssertionError("abort_with_status returned")  # pragma: no cover - it raises


def _answer_error(context: grpc.ServicerContext, error: Exception, world: World) -> NoReturn:
    match error:
        case InvalidRequest():
            violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.description)
            detail = error_details_pb2.BadRequest(field_violations=[violation])
            _abort(context, code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST", f"{error.field} {error.description}", detail)
        case NotPermitted():
            _abort(context, code_pb2.PERMISSION_DENIED, "NOT_PERMITTED", error.detail)
        case NotHeld():
            _abort(context, code_pb2.NOT_FOUND, "NOT_HELD", error.detail)
        case WrongState():
            violations = [
                error_details_pb2.PreconditionFailure.Violation(type="BLOCKED", subject="key", description=each)
                for each in error.blockers
            ]
            failure = error_details_pb2.PreconditionFailure(violations=violations)
            _abort(context, code_pb2.FAILED_PRECONDITION, "WRONG_STATE", error.detail, failure)
        case Conflict():
            _abort(context, code_pb2.ABORTED, "CONFLICT", error.detail)
        case Unavailable():
            _abort(context, code_pb2.UNAVAILABLE, "UNAVAILABLE", error.detail)
        case Overloaded():
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
            retry = error_details_pb2.RetryInfo(retry_delay=delay)
            _abort(context, code_pb2.RESOURCE_EXHAUSTED, "OVERLOADED", error.detail, retry)
        case _:
            reference = b64url_encode(world.random_bytes(9))
            _log.error("unexpected_exception", exc_info=error, rpc_id=reference)
            _abort(context, code_pb2.INTERNAL, "INTERNAL", f"internal error, reference {reference}")


@dataclass(frozen=True, slots=True)
class _Undecodable:
    """Stands in for a request that is no such message, so that the caller hears INVALID_ARGUMENT and not INTERNAL."""


@dataclass(slots=True, eq=False)
class _Pending:
    """A call whose message has not come."""

    domain: str
    since: float
    context: grpc.ServicerContext


class Reception:
    """Waits for the messages of calls, and not for long. Thread-safe."""

    def __init__(self, share: int) -> None:
        """Start watching.

        Args:
            share: how many calls of one domain may noticeably wait for their message at one time.
        """
        self._share = share
        self._pending: dict[int, _Pending] = {}
        self._any = threading.Event()
        self._closed = False
        threading.Thread(target=self._watch, name="reception", daemon=True).start()

    def receive(self, messages: Iterator[Any], domain: str, context: grpc.ServicerContext) -> Any:
        """Wait for a call's one message.

        Raises:
            InvalidRequest: the caller ended the call without a message.
        """
        pending = _Pending(domain, time.monotonic(), context)
        self._pending[id(pending)] = pending  # one operation on a dict: no lock needed, here nor below
        self._any.set()
        try:
            return next(messages)
        except StopIteration as error:
            raise InvalidRequest("request", "was not sent") from error
        finally:
            del self._pending[id(pending)]

    def close(self) -> None:
        """Stop watching."""
        self._closed = True
        self._any.set()

    def _watch(self) -> None:
        pause = threading.Event()  # never set: a clock that ticks while somebody waits
        while not self._closed:
            if not self._pending:
                self._any.clear()
                if not self._pending:
                    self._any.wait()
                continue
            pause.wait(NOTICEABLE_SECONDS)
            for pending in _overdue(list(self._pending.values()), self._share, time.monotonic()):
                try:
                    pending.context.cancel()
                except Exception as error:  # noqa: BLE001 - one call that cannot be cancelled must not shield the rest
                    _log.warning("call_not_cancelled", exc_info=error)


def _overdue(pending: list[_Pending], share: int, now: float) -> Iterator[_Pending]:
    """Give the calls to end: those that waited too long, and what a domain has waiting beyond its share."""
    waiting: Counter[str] = Counter()
    for each in sorted(pending, key=lambda each: each.since):
        if now - each.since < NOTICEABLE_SECONDS:
            return
        waiting[each.domain] += 1
        if waiting[each.domain] > share or now - each.since > RECEIVE_SECONDS:
            yield each


class _Shares:
    """Counts the calls that each domain has open. Thread-safe."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    @contextmanager
    def hold(self, domain: str) -> Iterator[None]:
        """Count one call for as long as it lasts.

        Raises:
            Overloaded: the domain has its share already.
        """
        with self._lock:
            if self._open[domain] >= self._share:
                raise Overloaded("too many calls of one domain", SHARE_RETRY_SECONDS)
            self._open[domain] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[domain] -= 1


@dataclass(slots=True, eq=False)
class _Stream:
    """A call that answers with a stream."""

    domain: str
    context: grpc.ServicerContext
    ending: bool = False
    sending_since: float | None = None
    """Since when a message of it waits to be read."""


class Streams:
    """The streams of a listener: few, and none that nobody reads. Thread-safe."""

    def __init__(self, limit: int) -> None:
        """Start watching.

        Args:
            limit: how many there may be at one time.
        """
        self._limit = limit
        self._lock = threading.Lock()
        self._open: list[_Stream] = []  # oldest first
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="streams", daemon=True).start()

    def run(self, messages: Iterator[Any], domain: str, context: grpc.ServicerContext) -> Iterator[Any]:
        """Pass a stream on, message by message.

        Raises:
            Overloaded: there are too many.
        """
        stream = self._admit(domain, context)
        try:
            for message in messages:
                stream.sending_since = time.monotonic()
                yield message
                stream.sending_since = None
        finally:
            with self._lock:
                self._open.remove(stream)

    def close(self) -> None:
        """End all streams, and stop watching."""
        self._closed.set()
        with self._lock:
            for stream in self._open:
                _end(stream)

    def _admit(self, domain: str, context: grpc.ServicerContext) -> _Stream:
        with self._lock:
            own = [stream for stream in self._open if stream.domain == domain]
            if len(own) >= STREAMS_PER_DOMAIN:
                _end(own[0])
                raise Overloaded("too many streams of one domain; the oldest was ended", _STREAM_CHECK_SECONDS)
            if len(self._open) >= self._limit or self._closed.is_set():
                raise Overloaded("too many streams", UNREAD_SECONDS)
            stream = _Stream(domain, context)
            self._open.append(stream)
            return stream

    def _watch(self) -> None:
        while not self._closed.wait(_STREAM_CHECK_SECONDS):
            now = time.monotonic()
            with self._lock:
                for stream in self._open:
                    since = stream.sending_since
                    if since is not None and now - since > UNREAD_SECONDS:
                        _end(stream)


def _end(stream: _Stream) -> None:
    if stream.ending:
        return
    stream.ending = True
    try:
        stream.context.cancel()
    except Exception as error:  # noqa: BLE001 - one call that cannot be cancelled must not shield the rest
        _log.warning("call_not_cancelled", exc_info=error)


class Guard(grpc.ServerInterceptor):
    """Around every call: receive its message in time, decode it safely, turn errors into statuses."""

    def __init__(
        self,
        world: World,
        callers: CallerReader,
        *,
        share: int,
        calls_per_domain: int = 0,
        streams: int = 0,
        open_streams: bool = False,
    ) -> None:
        """Prepare a listener's guard.

        Args:
            world: the time, and randomness for references.
            callers: tells whose certificate a call comes with; others are refused before they can wait.
            share: see ``Reception``.
            calls_per_domain: how many calls of one message a domain may have open; 0: not counted, as where there is
                but one domain.
            streams: how many calls that answer with a stream are served at one time.
            open_streams: serve any number of streams, and unguarded ones: those of health and reflection. Only for a
                listener that strangers cannot reach.
        """
        self._world = world
        self._open_streams = open_streams
        self._callers = callers
        self.reception = Reception(share)
        self._shares = _Shares(calls_per_domain) if calls_per_domain else None
        self._streams = Streams(streams) if streams else None

    def close(self) -> None:
        """Stop watching; see ``end_streams``."""
        self.reception.close()
        self.end_streams()

    def end_streams(self) -> None:
        """End what would never end by itself."""
        if self._streams is not None:
            self._streams.close()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of one call."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        if handler.unary_unary is not None:
            # On the wire the same as a call of one message; here it begins before the message is there.
            return grpc.stream_unary_rpc_method_handler(
                self._guarded(handler.unary_unary), _decode_safely(handler), handler.response_serializer
            )
        if self._open_streams:
            return handler
        is_streamed = handler_call_details.method in STREAMED
        if handler.unary_stream is not None and self._streams is not None and is_streamed:
            return grpc.stream_stream_rpc_method_handler(
                self._guarded_stream(handler.unary_stream, self._streams),
                _decode_safely(handler),
                _encode_once(handler),
            )
        return None

    def _guarded(self, behaviour: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[..., Any]:
        def guarded(messages: Iterator[Any], context: grpc.ServicerContext) -> Any:
            try:
                domain = self._domain(context)
                with self._share(domain):
                    return behaviour(self._receive(messages, domain, context), context)
            except grpc.RpcError:
                raise  # the call is over: cancelled by the caller, or by us because its message did not come
            except Exception as error:  # noqa: BLE001 - the one border where every error becomes a status
                _answer_error(context, error, self._world)

        return guarded

    def _guarded_stream(
        self, behaviour: Callable[[Any, grpc.ServicerContext], Iterator[Any]], streams: Streams
    ) -> Callable[..., Iterator[Any]]:
        def guarded(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                domain = self._domain(context)
                with self._share(domain):  # until it is one of the streams, which have shares of their own
                    request = self._receive(messages, domain, context)
                for message in streams.run(behaviour(request, context), domain, context):
                    # It may outlive the caller's certificate, and its CA's being accepted here.
                    self._domain(context)
                    yield message
            except grpc.RpcError:
                raise  # as above
            except Exception as error:  # noqa: BLE001 - as above
                _answer_error(context, error, self._world)

        return guarded

    def _share(self, domain: str) -> AbstractContextManager[None]:
        return nullcontext() if self._shares is None else self._shares.hold(domain)

    def _receive(self, messages: Iterator[Any], domain: str, context: grpc.ServicerContext) -> Any:
        request = self.reception.receive(messages, domain, context)
        _check(request, context)
        return request

    def _domain(self, context: grpc.ServicerContext) -> str:
        return self._callers.domain(certificate_of(context), self._world.now())


def _decode_safely(handler: grpc.RpcMethodHandler[Any, Any]) -> Callable[[bytes], Any]:
    decode: Any = handler.request_deserializer

    def decode_safely(raw: bytes) -> Any:
        try:
            return decode(raw)
        except DecodeError:
            return _Undecodable()

    return decode_safely


def _encode_once(handler: grpc.RpcMethodHandler[Any, Any]) -> Callable[[Any], bytes]:
    """Let a behaviour give bytes, so that one message to many callers is encoded once."""
    encode: Any = handler.response_serializer
    return lambda message: message if isinstance(message, bytes) else encode(message)


def certificate_of(context: grpc.ServicerContext) -> bytes:
    """Give the caller's certificate, PEM.

    Raises:
        NotPermitted: there is none.
    """
    certificates: Any = context.auth_context().get("x509_pem_cert")
    if not certificates:
        raise NotPermitted("no client certificate")
    certificate: bytes = certificates[0]
    return certificate


def caller_of(context: grpc.ServicerContext, reader: CallerReader, world: World) -> Caller:
    """Say who calls.

    Raises:
        NotPermitted: see ``CallerReader.read``.
    """
    return reader.read(certificate_of(context), world.now())


def _check(request: object, context: grpc.ServicerContext) -> None:
    if isinstance(request, _Undecodable):
        raise InvalidRequest("request", "is not a message of this type")
    if context.time_remaining() <= 0:
        # It waited in the queue too long: nobody hears the answer, and a verdict would spend the nonce.
        raise Unavailable("no time left")
