"""Around every call: who waits for whom, and what an error becomes.

Errors become gRPC statuses here and nowhere else. Each carries one ``ErrorInfo``; none carries a stack trace, a token
or a claim. An exception that is none of ours is a bug: the caller gets INTERNAL and a reference, the log its type and
place.

A call gets a thread when its message is there (``intake``), but it takes a place from its headers on. A caller that
opens calls and sends nothing would hold them all. So a call must bring its message within ``RECEIVE_SECONDS``; and of
the calls that noticeably wait, each province's CA has a share, because it could make any number of certificates. Calls
whose message comes at once, as those of honest callers do, are not counted at all.

That is too late where one CA's calls could fill all places before the others' are looked at. So where several provinces
call, each has a share of the calls open, and one beyond it is refused when its headers arrive. Where all callers are of
one domain, each of them has such a share.

A call that answers with a stream holds a thread for as long as it lasts (``streams``), and a batch for long. Their
number is bounded, and the listener has that many threads more, so that they take none from calls of one presentation.
Each CA has a share of the streams that go one way, each caller one of the others and of the batches. A batch is counted
before its message is received, which bounds the memory that they need.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

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
from gateway.shape import is_within
from gateway.streams import Inbox, Received, Streams
from gateway.tls import Caller, CallerReader, Certified
from gateway.wire import MAX_BATCH_ITEMS, MAX_STREAM_ITEMS

ERROR_DOMAIN: Final = "recognition.v1"
RECEIVE_SECONDS: Final = 2.0
RECEIVE_BATCH_SECONDS: Final = 20.0
"""4 MiB over a line of 2 Mbit/s."""
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
MAX_WRAPPED: Final = 256
"""Methods kept wrapped. Where calls are handed on, whatever is called in the name of a service is one."""
BATCHED: Final = frozenset({"/recognition.v1.VerificationService/BatchVerifyCredentials"})
"""The calls of one message that has many items, and may be large."""
MAX_ITEM_FIELDS: Final = 32
"""Of a request for one verdict: seven, and its questions. What else there is, nobody has asked for."""
BATCH_BOUNDS: Final = (MAX_BATCH_ITEMS + 1, MAX_ITEM_FIELDS)
"""One more than there may be, so that one too many is told so by its name."""
STREAM_BOUNDS: Final = (MAX_STREAM_ITEMS + 1, 4, MAX_ITEM_FIELDS)
"""An item has a name and a request."""
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
BATCHES_PER_CALLER: Final = 4
"""How many one caller may have open. More of them are not faster: they wait for each other."""
BOTH_WAYS: Final = frozenset({"/recognition.v1.VerificationService/StreamVerifyCredentials"})
"""The calls on which both sides send any number of messages."""
MAX_STREAM_MESSAGE_BYTES: Final = 1024 * 1024
STREAMS_PER_CALLER: Final = 4
"""How many streams of presentations one caller may have open."""

_log = get_logger("guard")

# -- errors -----------------------------------------------------------------------------------------------------------


def _status(code: int, reason: str, message: str, *details: Message) -> grpc.Status:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN)
    packed = []
    for detail in (info, *details):
        any_message = any_pb2.Any()
        any_message.Pack(detail)
        packed.append(any_message)
    return rpc_status.to_status(status_pb2.Status(code=code, message=message, details=packed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What an error is to a caller: of a call, or of one of the items in it."""

    code: int
    """By google.rpc.Code."""
    reason: str
    description: str
    field: str = ""
    """The one at fault; empty: none is."""
    retry_after_seconds: float | None = None
    blockers: tuple[str, ...] = ()


_FAILURES: Final = {
    NotPermitted: (code_pb2.PERMISSION_DENIED, "NOT_PERMITTED"),
    NotHeld: (code_pb2.NOT_FOUND, "NOT_HELD"),
    Conflict: (code_pb2.ABORTED, "CONFLICT"),
    Unavailable: (code_pb2.UNAVAILABLE, "UNAVAILABLE"),
}


def failure(error: Exception, world: World) -> Failure:
    """Say what an error is to a caller. What is none of ours is a bug: the log gets it, the caller a reference."""
    match error:
        case InvalidRequest():
            return Failure(
                code=code_pb2.INVALID_ARGUMENT,
                reason="INVALID_REQUEST",
                description=error.description,
                field=error.field,
            )
        case NotPermitted() | NotHeld() | Conflict() | Unavailable():
            code, reason = _FAILURES[type(error)]
            return Failure(code=code, reason=reason, description=error.detail)
        case WrongState():
            return Failure(
                code=code_pb2.FAILED_PRECONDITION,
                reason="WRONG_STATE",
                description=error.detail,
                blockers=error.blockers,
            )
        case Overloaded():
            return Failure(
                code=code_pb2.RESOURCE_EXHAUSTED,
                reason=error.reason,
                description=error.detail,
                retry_after_seconds=error.retry_after_seconds,
            )
        case _:
            reference = b64url_encode(world.random_bytes(9))
            _log.error("unexpected_exception", exc_info=error, rpc_id=reference)
            return Failure(
                code=code_pb2.INTERNAL, reason="INTERNAL", description=f"internal error, reference {reference}"
            )


def _status_of(error: Exception, world: World) -> grpc.Status:
    found = failure(error, world)
    details: list[Message] = []
    if found.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=found.field, description=found.description)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if found.code == code_pb2.FAILED_PRECONDITION:
        violations = [
            error_details_pb2.PreconditionFailure.Violation(type="BLOCKED", subject="key", description=each)
            for each in found.blockers
        ]
        details.append(error_details_pb2.PreconditionFailure(violations=violations))
    if found.retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(found.retry_after_seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return _status(found.code, found.reason, f"{found.field} {found.description}".lstrip(), *details)


def _answer_error(context: grpc.ServicerContext, error: Exception, world: World) -> NoReturn:
    context.abort_with_status(_status_of(error, world))
    raise AssertionError("abort_with_status returned")  # pragma: no cover - it raises


@dataclass(frozen=True, slots=True)
class _Undecodable:
    """Stands in for a request that is no such message, so that the caller hears INVALID_ARGUMENT and not INTERNAL."""


@dataclass(slots=True, eq=False)
class Pending:
    """A call whose message has not come."""

    owner: str
    """To whose share it counts: a domain, or a caller where there is but one domain."""
    since: float
    cancel: Callable[[], object]
    seconds: float
    """How long it may take."""


class Reception:
    """Sees to it that the messages of calls come, and soon. Thread-safe."""

    def __init__(self, share: int) -> None:
        """Start watching.

        Args:
            share: how many calls of one owner may noticeably wait for their message at one time.
        """
        self._share = share
        self._pending: dict[int, Pending] = {}  # one operation at a time, each indivisible: no lock needed
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="reception", daemon=True).start()

    def expect(self, owner: str, cancel: Callable[[], object], seconds: float = RECEIVE_SECONDS) -> Pending:
        """Begin to wait for a call's message; ``cancel`` ends the call if it does not come."""
        pending = Pending(owner, time.monotonic(), cancel, seconds)
        self._pending[id(pending)] = pending
        return pending

    def note(self, pending: Pending) -> None:
        """Take down that the message has come, or never will."""
        del self._pending[id(pending)]

    def receive(self, messages: Iterator[Any], owner: str, context: grpc.ServicerContext, seconds: float) -> Any:
        """Wait for the one message of a call that has a thread.

        Raises:
            InvalidRequest: the caller ended the call without a message.
        """
        pending = self.expect(owner, context.cancel, seconds)
        try:
            return next(messages)
        except StopIteration as error:
            raise InvalidRequest("request", "was not sent") from error
        finally:
            self.note(pending)

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(NOTICEABLE_SECONDS):
            for pending in _overdue(list(self._pending.values()), self._share, time.monotonic()):
                try:
                    pending.cancel()
                except Exception as error:  # noqa: BLE001 - one call that cannot be cancelled must not shield the rest
                    _log.warning("call_not_cancelled", exc_info=error)


def _overdue(pending: list[Pending], share: int, now: float) -> Iterator[Pending]:
    """Give the calls to end: those that waited too long, and what a domain has waiting beyond its share."""
    waiting: Counter[str] = Counter()
    for each in sorted(pending, key=lambda each: each.since):
        if now - each.since < NOTICEABLE_SECONDS:
            return
        waiting[each.owner] += 1
        if waiting[each.owner] > share or now - each.since > each.seconds:
            yield each


class _Shares:
    """Counts the calls that each caller has open, or each domain. Thread-safe."""

    def __init__(self, share: int, limit: int = 0) -> None:
        """Start with none open.

        Args:
            share: how many each may have.
            limit: how many there may be in all; 0: as many as have a share.
        """
        self._share = share
        self._limit = limit
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def take(self, owner: str) -> None:
        """Count one call.

        Raises:
            Overloaded: its owner has a share already, or all is taken.
        """
        with self._lock:
            if self._open[owner] >= self._share or (self._limit and self._open.total() >= self._limit):
                raise Overloaded("too many calls of one caller or domain, or in all", SHARE_RETRY_SECONDS)
            self._open[owner] += 1

    def give_back(self, owner: str) -> None:
        """Count one call less."""
        with self._lock:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]

    @contextmanager
    def hold(self, owner: str) -> Iterator[None]:
        """Count one call for as long as it lasts; raises as ``take``."""
        self.take(owner)
        try:
            yield
        finally:
            self.give_back(owner)


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A behaviour that needs no thread until the one message of its call has come."""

    behaviour: Callable[[Any, grpc.ServicerContext], Any]
    max_bytes: int
    """A larger message is not kept while it waits for a thread."""

    def __call__(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer a call."""
        return self.behaviour(request, context)


_Behaviour = Callable[[Any, grpc.ServicerContext], Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_certified: ContextVar[Certified] = ContextVar("certified")
"""Who makes the call that is being answered, as was seen when it arrived."""


class Guard(grpc.ServerInterceptor):
    """Around every call: let it in, have its message in time, decode it safely, turn errors into statuses."""

    def __init__(
        self,
        world: World,
        callers: CallerReader,
        *,
        share: int,
        max_request_bytes: int,
        calls_per_domain: int = 0,
        streams: int = 0,
        batches: int = 0,
        streams_both_ways: int = 0,
        stream_seconds: float = 3_600.0,
        open_streams: bool = False,
    ) -> None:
        """Prepare a listener's guard.

        Args:
            world: the time, and randomness for references.
            callers: tells whose certificate a call comes with; others are refused before they can wait.
            share: see ``Reception``.
            max_request_bytes: the largest message taken, but for those of batches and of streams that go both ways.
            calls_per_domain: how many calls of one message a domain may have open; 0: not counted, as where there is
                but one domain.
            streams: how many calls that answer with a stream are served at one time.
            batches: how many batches are served at one time.
            streams_both_ways: how many streams that go both ways are served at one time.
            stream_seconds: how long each of these may last.
            open_streams: serve any number of streams, and unguarded ones: those of health and reflection. Only for a
                listener that strangers cannot reach.
        """
        self._world = world
        self._open_streams = open_streams
        self._callers = callers
        self.reception = Reception(share)
        self._shares = _Shares(calls_per_domain) if calls_per_domain else None
        self._max_request_bytes = max_request_bytes
        self._batches = _Shares(BATCHES_PER_CALLER, batches)
        self._streams = (
            Streams(streams, STREAMS_PER_DOMAIN, replacing=True, seconds=stream_seconds) if streams else None
        )
        self._both_ways = Streams(streams_both_ways, STREAMS_PER_CALLER, replacing=False, seconds=stream_seconds)
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        """By method. Only those that are served: what strangers ask for besides is not kept."""

    def close(self) -> None:
        """Stop watching; see ``end_streams``."""
        self.reception.close()
        self.end_streams()

    def end_streams(self) -> None:
        """End what would never end by itself."""
        self._both_ways.close()
        if self._streams is not None:
            self._streams.close()

    def arrive(self, certificate: bytes | None) -> Certified:
        """Say who makes a call whose headers have come, and count it. Once it is over, ``leave`` must be called.

        Args:
            certificate: the caller's, PEM, as TLS gives it; None: there is none.

        Raises:
            NotPermitted: see ``CallerReader.read``.
            Overloaded: the caller's domain has its share of calls open.
        """
        if certificate is None:
            raise NotPermitted("no client certificate")
        certified = self._callers.certified(certificate, self._world.now())
        if self._shares is not None:
            self._shares.take(certified.domain)
        return certified

    def owner(self, certified: Certified) -> str:
        """Say to whose share a call counts while its message is waited for."""
        return certified.caller.identity if self._shares is None else certified.domain

    def leave(self, certified: Certified) -> None:
        """Take down that a call is over."""
        if self._shares is not None:
            self._shares.give_back(certified.domain)

    def status_of(self, error: Exception) -> grpc.Status:
        """Say what the caller hears of an error."""
        return _status_of(error, self._world)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of one call."""
        method = handler_call_details.method
        if method not in self._wrapped:
            wrapped = self._wrap(continuation(handler_call_details), method)
            if wrapped is None or len(self._wrapped) >= MAX_WRAPPED:
                return wrapped
            self._wrapped[method] = wrapped
        return self._wrapped[method]

    def _wrap(
        self, handler: grpc.RpcMethodHandler[Any, Any] | None, method: str
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        if handler is None:
            return None
        if handler.unary_unary is not None:
            wrap = self._wrap_batch if method in BATCHED else self._wrap_call
            return wrap(handler, handler.unary_unary)
        if handler.stream_stream is not None and method in BOTH_WAYS:
            return grpc.stream_stream_rpc_method_handler(
                self._guarded_both_ways(handler.stream_stream, self._both_ways),
                _receive_safely(handler, MAX_STREAM_MESSAGE_BYTES),
                handler.response_serializer,
            )
        if self._open_streams:
            return handler
        is_streamed = method in STREAMED
        if handler.unary_stream is not None and self._streams is not None and is_streamed:
            return grpc.stream_stream_rpc_method_handler(
                self._guarded_stream(handler.unary_stream, self._streams),
                _decode_safely(handler, self._max_request_bytes),
                _encode_once(handler),
            )
        return None

    def _wrap_call(self, handler: _Handler, behaviour: _Behaviour) -> _Handler:
        decode = _decode_safely(handler, self._max_request_bytes)
        guarded = Prompt(self._guarded(behaviour), self._max_request_bytes)
        return grpc.unary_unary_rpc_method_handler(guarded, decode, handler.response_serializer)

    def _wrap_batch(self, handler: _Handler, behaviour: _Behaviour) -> _Handler:
        # On the wire the same as a call of one message; here it begins before the message is there.
        decode = _decode_safely(handler, MAX_BATCH_BYTES, BATCH_BOUNDS)
        return grpc.stream_unary_rpc_method_handler(self._guarded_batch(behaviour), decode, handler.response_serializer)

    def _guarded(self, behaviour: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[..., Any]:
        def guarded(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                _check(request, context)
                return behaviour(request, context)
            except grpc.RpcError:
                raise  # the call is over: cancelled by the caller, or by us because its message did not come
            except Exception as error:  # noqa: BLE001 - the one border where every error becomes a status
                _answer_error(context, error, self._world)

        return guarded

    def _guarded_batch(self, behaviour: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[..., Any]:
        def guarded(messages: Iterator[Any], context: grpc.ServicerContext) -> Any:
            try:
                # Before its message, which may be large, is received.
                caller = self._caller(context)
                with self._batches.hold(caller):
                    return behaviour(self._receive(messages, caller, context, RECEIVE_BATCH_SECONDS), context)
            except grpc.RpcError:
                raise  # as above
            except Exception as error:  # noqa: BLE001 - as above
                _answer_error(context, error, self._world)

        return guarded

    def _guarded_both_ways(
        self, behaviour: Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Any]], streams: Streams
    ) -> Callable[..., Iterator[Any]]:
        def guarded(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            inbox = Inbox(messages)
            try:
                answers, caller = behaviour(inbox, context), self._caller(context)
                for message in streams.run(answers, caller, context, inbox.leave):
                    # It may outlive the caller's certificate, and its CA's being accepted here.
                    self._domain(context)
                    yield message
            except grpc.RpcError:
                raise  # as above
            except Exception as error:  # noqa: BLE001 - as above
                _answer_error(context, error, self._world)
            finally:
                inbox.close()

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

    def _receive(
        self, messages: Iterator[Any], owner: str, context: grpc.ServicerContext, seconds: float = RECEIVE_SECONDS
    ) -> Any:
        request = self.reception.receive(messages, owner, context, seconds)
        _check(request, context)
        return request

    def _caller(self, context: grpc.ServicerContext) -> str:
        return caller_of(context, self._callers, self._world).identity

    def _domain(self, context: grpc.ServicerContext) -> str:
        return self._callers.domain(certificate_of(context), self._world.now())


def _decode_safely(
    handler: grpc.RpcMethodHandler[Any, Any], max_bytes: int, bounds: Sequence[int] = ()
) -> Callable[[bytes], Any]:
    decode: Any = handler.request_deserializer

    def decode_safely(raw: bytes) -> Any:
        # gRPC has one limit for all calls of a listener, that of the largest.
        if len(raw) > max_bytes or (bounds and not is_within(raw, bounds)):
            return _Undecodable()
        try:
            return decode(raw)
        except DecodeError:
            return _Undecodable()

    return decode_safely


def _receive_safely(handler: grpc.RpcMethodHandler[Any, Any], max_bytes: int) -> Callable[[bytes], Received]:
    decode = _decode_safely(handler, max_bytes, STREAM_BOUNDS)

    def receive_safely(raw: bytes) -> Received:
        message = decode(raw)
        return Received(None if isinstance(message, _Undecodable) else message, len(raw))

    return receive_safely


def _encode_once(handler: grpc.RpcMethodHandler[Any, Any]) -> Callable[[Any], bytes]:
    """Let a behaviour give bytes, so that one message to many callers is encoded once."""
    encode: Any = handler.response_serializer
    return lambda message: message if isinstance(message, bytes) else encode(message)


def in_the_name_of(certified: Certified, answer: Callable[..., None], *arguments: Any) -> None:
    """Answer a call of whom ``Guard.arrive`` let in. Runs in the call's own context."""
    _certified.set(certified)
    answer(*arguments)


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
    certified = _certified.get(None)
    return certified.caller if certified is not None else reader.read(certificate_of(context), world.now())


def _check(request: object, context: grpc.ServicerContext) -> None:
    if isinstance(request, _Undecodable):
        raise InvalidRequest("request", "is not a message of this type, or too large")
    if context.time_remaining() <= 0:
        # It waited in the queue too long: nobody hears the answer, and a verdict would spend the nonce.
        raise Unavailable("no time left")
