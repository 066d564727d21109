"""Load on a server: closed loops and open loops, from one thread on one core.

A closed loop keeps so many calls under way and begins another when one ends: it finds out how much a server can do. An
open loop begins calls at a fixed rate whether or not those before have ended, and counts each one's time from the
moment at which it should have begun: a server that stalls is charged for everybody who would have come meanwhile
(coordinated omission). Both end after so many calls, and are given up after so many seconds.
"""

from __future__ import annotations

import gc
import os
import select
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Final

from bench.http2 import DEADLINE_SECONDS, STATUS_OK, Connection, Target

LIMIT_SECONDS: Final = 60.0
"""After which a run is given up, unless it says otherwise."""
MAX_IN_FLIGHT: Final = 20_000
"""Calls that a server may owe in an open loop."""
_COARSE_SECONDS: Final = 0.02


class LoadError(Exception):
    """The load could not be put on, or something else came back than was asked for."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How one call ended."""

    index: int
    """Which message it was."""
    status: int
    seconds: float
    """In a closed loop since it was sent, in an open loop since it should have been."""
    data: bytes = field(repr=False)


@dataclass(slots=True)
class Flow:
    """Calls of one method, each message sent once."""

    path: bytes
    messages: Sequence[bytes]
    """With their prefixes."""
    connections: Sequence[Connection]
    in_flight: int = 0
    """Of a closed loop: calls under way on each connection."""
    rate: float = 0.0
    """Of an open loop: calls a second."""
    background: bool = False
    """Whether it only accompanies the others, and ends with them."""
    replies: list[Reply] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0
    _next: int = 0
    _owed: int = 0

    def __post_init__(self) -> None:
        """Check it."""
        if (self.in_flight > 0) == (self.rate > 0):
            raise ValueError("a flow is a closed loop or an open one")

    @property
    def statuses(self) -> Counter[int]:
        """How many calls ended with each status."""
        return Counter(reply.status for reply in self.replies)

    def percentile_ms(self, percent: float) -> float:
        """So many of a hundred calls that were answered with OK took no longer than this."""
        ordered = sorted(reply.seconds for reply in self.replies if reply.status == STATUS_OK)
        if not ordered:
            raise LoadError("no call was answered")
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1_000

    @property
    def is_sent(self) -> bool:
        """Whether all calls have begun."""
        return self._next >= len(self.messages)

    @property
    def is_done(self) -> bool:
        """Whether all it sent was answered, and all was sent that is to be."""
        return self._owed == 0 and (self.is_sent or self.background)

    def start(self, calls: dict[tuple[int, int], tuple[Flow, int, float]], now: float) -> float:
        """Begin the calls that are due; gives the moment at which the next one is, or infinity."""
        if self.began == 0.0:
            self.began = now
        return self._start_open(calls, now) if self.rate else self._start_closed(calls, now)

    def _start_closed(self, calls: dict[tuple[int, int], tuple[Flow, int, float]], now: float) -> float:
        for connection in self.connections:
            while connection.in_flight < min(self.in_flight, connection.max_calls) and not self.is_sent:
                self._call(calls, connection, now)
        return float("inf")

    def _start_open(self, calls: dict[tuple[int, int], tuple[Flow, int, float]], now: float) -> float:
        while not self.is_sent:
            due = self.began + self._next / self.rate
            if due > now:
                return due
            if self._owed >= MAX_IN_FLIGHT:
                raise LoadError("the server owes too many answers")
            self._call(calls, self.connections[self._next % len(self.connections)], due)
        return float("inf")

    def _call(
        self, calls: dict[tuple[int, int], tuple[Flow, int, float]], connection: Connection, since: float
    ) -> None:
        number = connection.call(self.path, self.messages[self._next])
        calls[connection.fileno(), number] = (self, self._next, since)
        self._next += 1
        self._owed += 1

    def end(self, reply: Reply, now: float) -> None:
        """Note how a call ended."""
        self.replies.append(reply)
        self.ended = now
        self._owed -= 1


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost here."""

    seconds: float
    generator_share: float
    """The part of its core that the generator was busy for."""


def run(*flows: Flow, limit_seconds: float = LIMIT_SECONDS) -> Cost:
    """Put load on until every flow that is not in the background has ended.

    Raises:
        LoadError: it took too long, or a server could not keep up with the protocol.
        OSError: a connection was lost.
    """
    began, used = time.perf_counter(), time.process_time()
    collects = gc.isenabled()
    gc.disable()  # a pause of the generator's would be charged to the server
    try:
        with ExitStack() as opened:
            _Loop(opened, flows).run(began + limit_seconds)
    finally:
        if collects:
            gc.enable()
    took = time.perf_counter() - began
    return Cost(seconds=took, generator_share=(time.process_time() - used) / took)


class _Loop:
    def __init__(self, opened: ExitStack, flows: Sequence[Flow]) -> None:
        self._flows = flows
        self._calls: dict[tuple[int, int], tuple[Flow, int, float]] = {}
        self._connections = {each.fileno(): each for flow in flows for each in flow.connections}
        self._writable: set[int] = set()
        self._epoll = opened.enter_context(select.epoll())
        for descriptor in self._connections:
            self._epoll.register(descriptor, select.EPOLLIN)

    def run(self, until: float) -> None:
        main = [flow for flow in self._flows if not flow.background]
        while True:
            now = time.perf_counter()
            if now > until:
                raise LoadError(f"not done in time; {len(self._calls)} calls are not answered")
            ending = all(flow.is_done for flow in main)
            if not ending and any(flow.background and flow.is_sent for flow in self._flows):
                raise LoadError("what accompanies a run was over before it")
            if ending and all(flow.is_done for flow in self._flows):
                return
            due = min(flow.start(self._calls, now) for flow in (main if ending else self._flows))
            for connection in self._connections.values():
                if connection.has_unsent:
                    connection.flush()
                    self._watch(connection)
            self._wait(min(due, until))

    def _watch(self, connection: Connection) -> None:
        descriptor, waits = connection.fileno(), connection.has_unsent
        if waits != (descriptor in self._writable):
            self._epoll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if waits else 0))
            (self._writable.add if waits else self._writable.discard)(descriptor)

    def _wait(self, due: float) -> None:
        pause = max(0.0, due - time.perf_counter())
        if pause < _COARSE_SECONDS:
            # epoll counts in milliseconds, which is too coarse for when the next call is due.
            select.select([self._epoll], [], [], pause)
            pause = 0.0
        for descriptor, _ in self._epoll.poll(pause):
            self._receive(descriptor)

    def _receive(self, descriptor: int) -> None:
        connection = self._connections[descriptor]
        answers = connection.receive()
        self._watch(connection)
        if not answers:
            return
        now = time.perf_counter()
        for answer in answers:
            if answer.status is not None:
                flow, index, since = self._calls.pop((descriptor, answer.call))
                flow.end(Reply(index, answer.status, now - since, answer.data), now)


# -- streams ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Streamed:
    """What came of a stream."""

    cost: Cost
    status: int
    data: bytes = field(repr=False)


def stream(
    target: Target, path: bytes, messages: Sequence[bytes], *, ahead: int, limit_seconds: float = LIMIT_SECONDS
) -> Streamed:
    """Send all messages on one stream and read what comes, never more than so many bytes ahead of the socket.

    Raises:
        LoadError: it took too long.
        OSError: the connection was lost.
    """
    with closing(Connection(target)) as connection:
        began, used = time.perf_counter(), time.process_time()
        number, waiting, data = connection.open(path), deque(messages), []
        while True:
            while waiting and connection.unsent_bytes < ahead:
                connection.send(number, waiting.popleft())
                if not waiting:
                    connection.finish(number)
            connection.flush()
            if time.perf_counter() - began > limit_seconds:
                raise LoadError("the stream did not end in time")
            select.select([connection], [connection] if connection.has_unsent else [], [], 1.0)
            for answer in connection.receive():
                data.append(answer.data)
                if answer.status is not None:
                    took = time.perf_counter() - began
                    cost = Cost(seconds=took, generator_share=(time.process_time() - used) / took)
                    return Streamed(cost, answer.status, b"".join(data))


# -- connections and cores --------------------------------------------------------------------------------------------


@contextmanager
def connected(target: Target, count: int, deadline_seconds: int = DEADLINE_SECONDS) -> Iterator[Sequence[Connection]]:
    """Open several connections to one server."""
    context = target.context()
    with ExitStack() as opened:
        yield [
            opened.enter_context(closing(Connection(target, context, deadline_seconds=deadline_seconds)))
            for _ in range(count)
        ]


@contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Keep this process on these cores for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def median_ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """Give the median of the ratios of two series that were measured side by side."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))
