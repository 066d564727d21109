"""Who may have how much of a listener, and whose turn it is.

Three bounds hold for each caller: how many credentials a second it may bring (a bucket that fills at that rate), how
many calls it may have open, and how many of the places that are free: no caller takes more than as many as it leaves,
so that whoever comes with few finds room, however many others are greedy. Calls of several callers that wait are taken
in turn, one each: who sends ten times as many waits ten times as long, and nobody else does.

A call is refused early when it would not be answered in time: when it has less time than those before it and it itself
will take, by how long these took lately. Nobody is refused for that while nobody waits: what was measured may be out of
date, and only calls that are let in put it right.

Time is in seconds of some clock that only goes forward. Nothing in here waits, and nothing is thread-safe.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

MAX_IDLE_CALLERS: Final = 1_024
"""Of so many callers without open calls it is remembered what they used up. An identity beyond, which our own CA must
have certified, is given a full bucket anew."""
MIN_RETRY_SECONDS: Final = 0.05
MAX_RETRY_SECONDS: Final = 60.0
_WEIGHT: Final = 1 / 16
"""Of what was measured last, in a moving mean: about the last thirty count."""

_Call = TypeVar("_Call")


class Shortage(StrEnum):
    """Why there is no room for a call. These are the reasons in ``google.rpc.ErrorInfo``."""

    RATE = "CALLER_RATE_EXCEEDED"
    """The caller brings more credentials a second than it may."""
    CONCURRENCY = "CALLER_CONCURRENCY_EXCEEDED"
    """The caller has as many calls open as it may, or as there are places left for others."""
    DEADLINE = "DEADLINE_TOO_SHORT"
    """The call would not be answered in time."""


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no room for a call; there may be after so many seconds."""

    why: Shortage
    retry_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How much one caller may have."""

    rate: float
    """Credentials a second, and at one time after a pause of a second."""
    concurrency: int
    """Calls open."""


class Bucket:
    """Fills at a rate up to one second's worth."""

    def __init__(self, rate: float, now: float) -> None:
        """Begin full.

        Args:
            rate: a second, positive.
            now: the time.
        """
        self._rate = rate
        self._held = rate
        self._at = now

    def take(self, count: int, now: float) -> float:
        """Take so many if they are there, else none.

        More than the bucket holds may be taken from a full one, which is then so much below empty: nobody waits for
        ever.

        Returns:
            After how many seconds they will be there; 0: they were taken.
        """
        self._held = min(self._rate, self._held + (now - self._at) * self._rate)
        self._at = now
        missing = min(count, self._rate) - self._held
        if missing > 0:
            return missing / self._rate
        self._held -= count
        return 0.0


class Pace:
    """How long calls take, by how long they took lately."""

    def __init__(self) -> None:
        """Begin with nothing known: calls take no time."""
        self.service = 0.0
        """From when a call is taken until it is answered."""
        self.interval = 0.0
        """From when a call is taken until the next is, while calls wait."""

    def note_service(self, seconds: float) -> None:
        """Take down how long one call took."""
        self.service += (seconds - self.service) * _WEIGHT

    def note_interval(self, seconds: float) -> None:
        """Take down how long it took until the next of several that waited was taken."""
        self.interval += (seconds - self.interval) * _WEIGHT


class _Caller(Generic[_Call]):
    """One caller: what it may have, what it has."""

    __slots__ = ("allowance", "bucket", "open", "waiting")

    def __init__(self, allowance: Allowance, now: float) -> None:
        self.allowance = allowance
        self.bucket = Bucket(allowance.rate, now)
        self.open = 0
        self.waiting: deque[_Call] = deque()


class Quotas(Generic[_Call]):
    """The callers of one listener, and the calls that wait."""

    def __init__(self, *, default: Allowance, allowances: Mapping[str, Allowance], places: int, threads: int) -> None:
        """Begin with nobody.

        Args:
            default: what a caller may have.
            allowances: what some may have instead, by their identities.
            places: how many calls may be open in all.
            threads: how many are worked on at one time.
        """
        self._default = default
        self._allowances = allowances
        self._places = places
        self._threads = threads
        self._callers: dict[str, _Caller[_Call]] = {}
        """Those with calls open."""
        self._idle: OrderedDict[str, _Caller[_Call]] = OrderedDict()
        """Those without, whose calls ended longest ago first."""
        self._turns: deque[_Caller[_Call]] = deque()
        """Those with calls that wait, whose turn it is first."""
        self._open = 0
        self._waiting = 0
        self._running = 0
        self._took_at = 0.0
        self.pace = Pace()

    def arrive(self, name: str, now: float, remaining: float) -> Refused | None:
        """Let a call in, or not. One that is let in must ``leave``.

        Args:
            name: the caller's identity.
            now: the time.
            remaining: how long the caller will wait for its answer.
        """
        caller = self._caller(name, now)
        refused = self._judge(caller, now, remaining)
        if refused is None:
            caller.open += 1
            self._open += 1
        self._keep(name, caller)
        return refused

    def charge(self, name: str, count: int, now: float) -> Refused | None:
        """Count more credentials of a caller, or of none if there are too many. A call counts as one when it arrives.

        Args:
            name: the caller's identity.
            count: how many more.
            now: the time.
        """
        caller = self._caller(name, now)
        refused = _over_rate(caller.bucket.take(count, now)) if count > 0 else None
        self._keep(name, caller)
        return refused

    def wait(self, name: str, call: _Call) -> None:
        """Put a call that was let in last of its caller's."""
        caller = self._callers[name]
        if not caller.waiting:
            self._turns.append(caller)
        caller.waiting.append(call)
        self._waiting += 1

    def take(self, now: float) -> _Call | None:
        """Give the call whose turn it is, to be worked on; None: none waits."""
        if not self._turns:
            return None
        caller = self._turns.popleft()
        call = caller.waiting.popleft()
        if caller.waiting:
            self._turns.append(caller)
        if self._waiting > 1 and self._took_at:
            self.pace.note_interval(now - self._took_at)
        self._waiting -= 1
        self._running += 1
        self._took_at = now if self._waiting else 0.0
        return call

    def leave(self, name: str, *, taken: bool, service: float | None = None) -> None:
        """Take down that a call is over.

        Args:
            name: the caller's identity.
            taken: whether it was taken to be worked on.
            service: how many seconds it was worked on; None: it was not.
        """
        caller = self._callers[name]
        caller.open -= 1
        self._open -= 1
        if taken:
            self._running -= 1
        if service is not None:
            self.pace.note_service(service)
        self._keep(name, caller)

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return self._waiting

    @property
    def remembered(self) -> int:
        """Of how many callers something is remembered."""
        return len(self._callers) + len(self._idle)

    def _caller(self, name: str, now: float) -> _Caller[_Call]:
        caller = self._callers.pop(name, None) or self._idle.pop(name, None)
        return caller if caller is not None else _Caller(self._allowances.get(name, self._default), now)

    def _keep(self, name: str, caller: _Caller[_Call]) -> None:
        if caller.open:
            self._callers[name] = caller
            return
        self._callers.pop(name, None)
        self._idle[name] = caller
        if len(self._idle) > MAX_IDLE_CALLERS:
            self._idle.popitem(last=False)

    def _judge(self, caller: _Caller[_Call], now: float, remaining: float) -> Refused | None:
        ahead = self._ahead(caller)
        if caller.open >= min(caller.allowance.concurrency, self._places - self._open):
            return Refused(Shortage.CONCURRENCY, _bounded(self._expected(ahead)))
        if ahead and remaining < self._expected(ahead):
            return Refused(Shortage.DEADLINE, _bounded(self._expected(ahead)))
        return _over_rate(caller.bucket.take(1, now))

    def _ahead(self, caller: _Caller[_Call]) -> int:
        """Say how many of the calls that wait have their turn before the caller's next: of others, as many as of it."""
        if self._running < self._threads and not self._waiting:
            return 0
        own = len(caller.waiting)
        others = len(self._turns) - (1 if own else 0)
        return min(self._waiting, own + others * (own + 1))

    def _expected(self, ahead: int) -> float:
        return (ahead + 1) * self.pace.interval + self.pace.service


def _over_rate(seconds: float) -> Refused | None:
    return Refused(Shortage.RATE, _bounded(seconds)) if seconds > 0 else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)
