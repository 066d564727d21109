"""How calls come in: gRPC hands each to this in place of a pool of threads.

A thread of gRPC's own pool is taken when the headers of a call arrive, waits for the message, and is woken by gRPC's
serving thread once it is there. Here the serving thread asks for the message itself, and a call gets a thread when it
can be worked on. That spares two of four changes between threads, which cost more than anything else gRPC does for a
call; and a caller that opens calls and sends nothing holds no thread.

Whether a call is let in (``core.quota``, ``guard``) is decided on the serving thread too, before its message is taken,
with one look at the certificate for each call. Calls that were let in wait for a thread, those of several callers in
turn.

To refuse a call costs a third of answering one: gRPC has done most of its work when we hear of it. Whoever asks again
at once could keep us busy with refusing. So only so many a second are refused at once; the others are held and told
when it is their turn. Each holds one of the few streams that its connection may have open, and a client that has used
these up keeps what it wants to call besides to itself, at no cost to us. A client that heeds the refusals hears them at
once.

gRPC has no door for this: what is taken from ``grpc._server`` is its private matter. It is all in this module, the
version is pinned, and ``tests/test_intake.py`` fails when one of it changes. Nothing in here may raise on the serving
thread, which would end.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

import grpc
from grpc import _server
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from gateway.core.quota import Bucket, Quotas, Refused, Shortage
from gateway.core.reasons import InvalidRequest, Overloaded, Unavailable
from gateway.guard import Guard, Pending, Prompt, in_the_name_of
from gateway.logs import get_logger
from gateway.tls import Certified

REFUSALS_PER_SECOND: Final = 200
"""Told at once. At about 150 microseconds each they take three hundredths of a core."""
MAX_HELD_REFUSALS: Final = 1_024
"""The oldest is told when there is one more. No message of theirs is taken."""
TELL_SECONDS: Final = 0.1
"""How often it is looked whether refusals that are held can be told."""
FULL_RETRY_SECONDS: Final = 1.0
SAY_EVERY_SECONDS: Final = 60.0
"""How often the log is told whose calls were refused, and how many."""
MAX_NAMED: Final = 50
"""Callers named at one time; each has a certificate of the listener's CA."""
_RECEIVING: Final[str] = _server._RECEIVE_MESSAGE_TOKEN  # noqa: SLF001 - see above, here and below
_CERTIFICATE: Final = b"x509_pem_cert"
_SHORT_OF: Final = {
    Shortage.RATE: "this caller brings more credentials a second than it may",
    Shortage.CONCURRENCY: "this caller has as many calls open as there is room for",
    Shortage.DEADLINE: "the call would not be answered in the time it has left",
}

_Run = Callable[..., None]
_log = get_logger("intake")


class _Taken:
    """Stands in for the future of a pool. How many calls are open is counted here, not by gRPC."""

    def add_done_callback(self, _callback: Callable[[Any], object]) -> None:
        """Forget it."""


_TAKEN: Final = _Taken()


@dataclass(slots=True, eq=False)
class _Call:
    """A call of one message, between its headers and its answer."""

    run: _Run
    answer: Callable[..., None]
    event: Any
    state: Any
    behaviour: Prompt
    decode: Callable[[bytes], Any]
    encode: Any
    certified: Certified
    pending: Pending
    message: bytes = b""

    def perform(self) -> None:
        """Answer it, on a thread of the pool."""
        self.run(
            *(in_the_name_of, self.certified, self.answer),
            *(self.event, self.state, self.behaviour, lambda: self.decode(self.message), None, self.encode),
        )


class Intake:
    """A pool of threads for ``grpc.server``, which gets calls that can be worked on. Thread-safe."""

    def __init__(self, guard: Guard, quotas: Quotas[Any], *, threads: int, max_streams: int) -> None:
        """Start the threads.

        Args:
            guard: says who may call.
            quotas: how much of it, and whose turn it is. Nobody else uses them.
            threads: how many calls are worked on at one time.
            max_streams: how many calls that read their messages themselves are taken at one time.
        """
        self._guard = guard
        self._quotas: Quotas[_Call] = quotas
        self._lock = threading.Lock()
        """Of the quotas, the ration, and what is held. Never held while anything is waited for."""
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._free_streams = threading.Semaphore(max_streams)
        self._ration = Bucket(REFUSALS_PER_SECOND, time.monotonic())
        self._held: deque[Callable[[], None]] = deque()
        self._short: Counter[tuple[str, Shortage]] = Counter()
        """Calls refused since the log was told, by caller and by what there was too little of."""
        self._draining = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"rpc-{number}", daemon=True) for number in range(threads)
        ]
        for thread in (*self._threads, threading.Thread(target=self._tell, name="refusals", daemon=True)):
            thread.start()

    def drain(self) -> None:
        """Refuse all calls from now on, and hold no refusal any more: the server stops."""
        with self._lock:  # so that nothing is held any more after it
            self._draining.set()

    def close(self) -> None:
        """End the threads once all calls taken have been answered."""
        self.drain()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def charge(self, identity: str, count: int) -> None:
        """Count more credentials that a caller brings. A call counts as one when it arrives.

        Raises:
            Overloaded: they are more than it may bring now; none was counted.
        """
        with self._lock:
            refused = self._quotas.charge(identity, count, time.monotonic())
            if refused is not None:
                self._short[identity, refused.why] += 1
        if refused is not None:
            raise _overloaded(refused)

    def submit(self, run: _Run, answer: Callable[..., None], event: Any, state: Any, *handler: Any) -> _Taken:
        """Take a call. gRPC calls this on its serving thread, with the call's lock held.

        Args:
            run: runs a function in the call's context (``contextvars``).
            answer: answers the call, on the thread that calls it.
            event: brought the headers.
            state: what gRPC knows of the call.
            handler: the behaviour; what gives its argument; what decodes, and what encodes messages.
        """
        behaviour, _, decode, encode = handler
        if self._draining.is_set():
            self._turn_away(event, state, Unavailable("this process stops serving; ask again"))
            return _TAKEN
        if not isinstance(behaviour, Prompt):
            self._take_stream(event, state, partial(run, answer, event, state, *handler))
            return _TAKEN
        try:
            certified = self._let_in(event, state)
        except Exception as error:  # noqa: BLE001 - whatever it is, the serving thread goes on
            self._turn_away(event, state, error)
            return _TAKEN
        pending = self._guard.reception.expect(self._guard.owner(certified), event.call.cancel)
        call = _Call(run, answer, event, state, behaviour, decode, encode, certified, pending)
        state.due.add(_RECEIVING)
        # An operation of its own: what is received is laid down in it.
        receive = (cygrpc.ReceiveMessageOperation(0),)
        event.call.start_server_batch(receive, partial(self._received, call))
        return _TAKEN

    def _let_in(self, event: Any, state: Any) -> Certified:
        certificates = cygrpc.auth_context(event.call).get(_CERTIFICATE)
        certified = self._guard.arrive(certificates[0] if certificates else None)
        with self._lock:
            refused = self._quotas.arrive(certified.caller.identity, time.monotonic(), _remaining(event, state))
            if refused is not None:
                self._short[certified.caller.identity, refused.why] += 1
        if refused is not None:
            self._guard.leave(certified)
            raise _overloaded(refused)
        return certified

    def _take_stream(self, event: Any, state: Any, perform: Callable[[], None]) -> None:
        if not self._free_streams.acquire(blocking=False):
            self._turn_away(event, state, Overloaded("too many streams", FULL_RETRY_SECONDS))
            return

        def stream() -> None:
            try:
                perform()
            finally:
                self._free_streams.release()

        self._jobs.put(stream)

    def _received(self, call: _Call, received: Any) -> tuple[Any, Any]:
        """Queue a call whose message has come. Like ``grpc._server._receive_message``, on the serving thread."""
        message = received.batch_operations[0].message()
        self._guard.reception.note(call.pending)
        with call.state.condition:
            flaw = _flaw(message, call.behaviour)
            if flaw is not None:
                self._leave(call, taken=False)
                _refuse(call.event, call.state, self._guard, flaw)
            finished = _server._possibly_finish_call(call.state, _RECEIVING)  # noqa: SLF001
        if flaw is None:
            call.message = message
            with self._lock:
                self._quotas.wait(call.certified.caller.identity, call)
            self._jobs.put(self._next)
        return finished

    def _next(self) -> None:
        """Answer the call whose turn it is. This is called once for each that waits."""
        began, service = time.monotonic(), None
        with self._lock:
            call = self._quotas.take(began)
            # Nobody is kept waiting by a call that is answered too late when nobody waits.
            least = self._quotas.pace.service if self._quotas.waiting else 0.0
        if call is None:
            return
        try:
            if call.state.client is _server._CANCELLED:  # noqa: SLF001
                return  # nobody hears the answer, and a verdict would spend the nonce
            if _remaining(call.event, call.state) < least:
                error = _overloaded(Refused(Shortage.DEADLINE, least))
                with call.state.condition:
                    _refuse(call.event, call.state, self._guard, error)
                return
            call.perform()
            service = time.monotonic() - began
        finally:
            self._leave(call, taken=True, service=service)

    def _leave(self, call: _Call, *, taken: bool, service: float | None = None) -> None:
        with self._lock:
            self._quotas.leave(call.certified.caller.identity, taken=taken, service=service)
        self._guard.leave(call.certified)

    def _turn_away(self, event: Any, state: Any, error: Exception) -> None:
        """Refuse a call, or hold the refusal if there were many."""
        refuse: Callable[[], None] | None = partial(_refuse, event, state, self._guard, error)
        with self._lock:
            at_once = self._draining.is_set() or (not self._held and not self._ration.take(1, time.monotonic()))
            if not at_once:
                self._held.append(partial(_refuse_later, event, state, self._guard, error))
                refuse = self._held.popleft() if len(self._held) > MAX_HELD_REFUSALS else None
        if refuse is not None:
            refuse()

    def _tell(self) -> None:
        say_at = time.monotonic() + SAY_EVERY_SECONDS
        while not self._draining.wait(TELL_SECONDS):
            while (refuse := self._due()) is not None:
                refuse()
            if time.monotonic() >= say_at:
                self._say_who()
                say_at = time.monotonic() + SAY_EVERY_SECONDS
        while self._held:
            self._held.popleft()()
        self._say_who()

    def _say_who(self) -> None:
        with self._lock:
            short, self._short = self._short, Counter()
        for (caller, why), count in short.most_common(MAX_NAMED):
            _log.warning("calls_refused", caller=caller, reason=why, count=count)

    def _due(self) -> Callable[[], None] | None:
        with self._lock:
            if not self._held or self._ration.take(1, time.monotonic()):
                return None
            return self._held.popleft()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # noqa: BLE001 - gRPC's functions answer for their own; the thread goes on
                _log.error("call_failed", exc_info=error)
            del job  # what a stream holds is not kept until the next


def calls_under_way(server: grpc.Server) -> Callable[[], bool]:
    """Give what tells whether calls that have come by now are under way. One is until its answer has been written."""
    served: Any = server
    state = served._state  # noqa: SLF001 - see above
    with state.lock:  # held while a call comes in
        come = {*state.rpc_states}

    def are_any() -> bool:
        with state.lock:
            come.intersection_update(state.rpc_states)
        return bool(come)

    return are_any


def _flaw(message: bytes | None, behaviour: Prompt) -> InvalidRequest | None:
    if message is None:
        return InvalidRequest("request", "was not sent")
    # gRPC has one limit for all calls of a listener, that of the largest.
    return InvalidRequest("request", "is too large") if len(message) > behaviour.max_bytes else None


def _refuse_later(event: Any, state: Any, guard: Guard, error: Exception) -> None:
    with state.condition:
        _refuse(event, state, guard, error)


def _refuse(event: Any, state: Any, guard: Guard, error: Exception) -> None:
    """Answer a call with an error; its lock is held. Says nothing to a caller that has gone."""
    status: Any = guard.status_of(error)
    state.code, state.details = status.code, status.details.encode()
    state.trailing_metadata = status.trailing_metadata
    _server._status(event, state, None)  # noqa: SLF001


def _remaining(event: Any, state: Any) -> float:
    """How many seconds the caller will wait for the answer."""
    remaining: float = _server._Context(event, state, None).time_remaining()  # noqa: SLF001
    return remaining


def _overloaded(refused: Refused) -> Overloaded:
    return Overloaded(_SHORT_OF[refused.why], refused.retry_after, refused.why.value)
