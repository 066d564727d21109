"""Who verifies next: single presentations go before batches and streams, and these take turns.

A batch computes for as long as it has items. Left alone, it would delay everybody else of this process by that much,
because one thread at a time runs Python. So:

* Every few presentations, a batch waits until no single presentation is under way: not for its verification alone, the
  thread that writes it down and the one that answers need the interpreter as much. It does not wait for long, so that
  it ends however many of them come.
* One batch at a time computes. The next one is of another caller where there is one: ten batches of one caller do not
  starve the one of another. It has the turn for as many presentations as are recorded together; were it changed more
  often, all batches would come to the disk at the same time, and single presentations would wait for all of them.
* Whoever waits for something else (the disk, a peer) does not hold the turn meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Protocol

COMPUTE_SECONDS: Final = 0.002
"""How long a batch computes until it lets others go first: about a dozen presentations."""
GIVE_WAY_SECONDS: Final = 0.005
"""How long it waits for them then. Under so many single presentations that there is always one, batches have two parts
in seven of the time."""


class Turn(Protocol):
    """The right to verify several presentations now."""

    def give_way(self) -> None:
        """Let others go first if it is time to. To be called between two presentations."""

    def aside(self) -> AbstractContextManager[None]:
        """Let others have the turn while something is waited for."""


class _Alone:
    """The turn of somebody who is nobody's rival."""

    def give_way(self) -> None:
        """Nobody waits."""

    def aside(self) -> AbstractContextManager[None]:
        """Nobody waits."""
        return nullcontext()


ALONE: Final[Turn] = _Alone()


class Turns:
    """Whose turn it is. Thread-safe."""

    def __init__(self) -> None:
        """Start with nobody verifying."""
        self._lock = threading.Lock()
        self._single = 0
        """Single presentations that are under way."""
        self._no_single = threading.Condition(self._lock)
        self._is_taken = False
        """Whether a batch or stream has the turn."""
        self._waiting: dict[str, deque[threading.Event]] = {}
        """The others, by caller; the caller whose turn is next stands first."""

    @contextmanager
    def single(self) -> Iterator[None]:
        """Serve a call about one presentation, before any batch."""
        with self._lock:
            self._single += 1
        try:
            yield
        finally:
            with self._lock:
                self._single -= 1
                if not self._single:
                    self._no_single.notify()  # one at most waits: who has the turn

    @contextmanager
    def bulk(self, caller: str) -> Iterator[Turn]:
        """Wait for a caller's turn, and have it until all is done."""
        turn = _BulkTurn(self, caller)
        turn.begin()
        try:
            yield turn
        finally:
            self.release()

    def acquire(self, caller: str) -> None:
        """Wait for the turn."""
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            mine = threading.Event()
            self._waiting.setdefault(caller, deque()).append(mine)
        # Who has it gives it up by itself, and there is a bound on how many wait.
        mine.wait()

    def release(self) -> None:
        """Give the turn to whose it is next."""
        with self._lock:
            if not self._waiting:
                self._is_taken = False
                return
            caller = next(iter(self._waiting))
            others = self._waiting.pop(caller)
            following = others.popleft()
            if others:
                self._waiting[caller] = others  # behind all other callers
        following.set()

    def let_single_go(self) -> None:
        """Wait until no single presentation is under way, but not for long."""
        with self._lock:
            self._no_single.wait_for(lambda: not self._single, GIVE_WAY_SECONDS)


class _BulkTurn:
    """The turn of a batch or stream."""

    def __init__(self, turns: Turns, caller: str) -> None:
        self._turns = turns
        self._caller = caller
        self._since = 0.0
        """When it last let others go."""

    def begin(self) -> None:
        """Wait for it."""
        self._turns.acquire(self._caller)
        self._turns.let_single_go()
        self._since = time.monotonic()

    def give_way(self) -> None:
        """See ``Turn``."""
        if time.monotonic() - self._since >= COMPUTE_SECONDS:
            self._turns.let_single_go()
            self._since = time.monotonic()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """See ``Turn``."""
        self._turns.release()
        try:
            yield
        finally:
            self.begin()
