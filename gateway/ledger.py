"""The one door to durable writes on the hot path.

A decision is answered only after its audit entry and its replay key are on disk, in one transaction. Callers wait
together: a single writer takes whatever has queued up and commits it as one group, so that the cost of a durable commit
is shared (one fsync for dozens of decisions instead of one each).

Single decisions go first. Those of a batch are written when no single one waits, or when they were passed over often
enough; and one batch's at a time, because a single one that comes meanwhile waits until they are on disk.

A replay key is forgotten when both our clock and the anchors' say that its presentation has lapsed. Our own alone may
have run ahead; once it is put right, the presentation would be good again and its key gone.

When a group could not be written, nothing is known to be writable until something has been: the ledger says so, and
tries by itself, because a gateway that says so is asked nothing more.

The queue is bounded. When it is full the caller is told so at once; waiting without bound would turn a slow disk into a
pile of blocked threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gateway.clock import World
from gateway.core.reasons import Overloaded, Unavailable
from gateway.logs import get_logger
from gateway.storage import Committed, LedgerEntry, LedgerStore, StorageError

MAX_QUEUE: Final = 4_096
MAX_GROUP: Final = 256
"""Single decisions in one transaction, and as many of a batch. Those of one batch stay together."""
MAX_PASSED_OVER: Final = 4
"""How often single decisions go before a batch's."""
WAIT_SECONDS: Final = 10.0
"""How long a caller waits for its group. A disk that needs longer is down for our purposes."""
FORGET_EVERY: Final = timedelta(minutes=1)
TRY_AGAIN_SECONDS: Final = 1.0
"""How soon to try whether anything can be written, after something could not."""

_log = get_logger("ledger")


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Decisions of one caller. They are told together: to wake a thread for each would cost more than to write it."""

    items: Sequence[LedgerEntry]
    """At most ``MAX_GROUP``."""
    done: Future[Sequence[Committed]] = field(default_factory=Future)


class Ledger:
    """Group commit in front of a store. Thread-safe."""

    def __init__(self, store: LedgerStore, world: World, clock_floor: Callable[[], datetime | None]) -> None:
        """Start the writer.

        Args:
            store: where decisions become durable.
            world: the time.
            clock_floor: gives the time that a quorum of anchors has attested; None: none has yet.
        """
        self._store = store
        self._world = world
        self._changed = threading.Condition()
        self._single: deque[_Waiting] = deque()
        self._batches: deque[_Waiting] = deque()
        self._passed_over = 0
        """How often the next batch was."""
        self._queued = 0
        """Decisions that wait."""
        self._closed = False
        self._failing = False
        """Whether the last that was tried could not be written."""
        self._clock_floor = clock_floor
        self._forgot_at = world.now()
        self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._writer.start()

    def record(self, item: LedgerEntry) -> Committed:
        """Make one decision durable, and wait until it is.

        Returns:
            Where it stands in the log, and what became of it: whether its replay key was used before, or its consent
            does not carry it any more. The entry for that case was written then. Or whether it repeats a decision that
            stands there already.

        Raises:
            Overloaded: the queue is full.
            Unavailable: it could not be written. Nothing of it was.
        """
        (committed,) = _committed(self._enqueue([item], self._single))
        return committed

    def record_all(self, items: Sequence[LedgerEntry]) -> Sequence[Committed]:
        """Make several decisions durable, after single ones, and wait until all are; raises as ``record``.

        Where it raises, some of them may be durable: each is one that nobody was told of.
        """
        parts = [items[begin : begin + MAX_GROUP] for begin in range(0, len(items), MAX_GROUP)]
        waiting = [self._enqueue(part, self._batches) for part in parts]
        return [committed for each in waiting for committed in _committed(each)]

    def _enqueue(self, items: Sequence[LedgerEntry], waiting: deque[_Waiting]) -> Future[Sequence[Committed]]:
        one = _Waiting(items)
        with self._changed:
            if self._closed:
                raise Unavailable("the ledger is closed")
            if self._queued + len(items) > MAX_QUEUE:
                raise Overloaded("the ledger's queue is full", retry_after_seconds=1.0)
            self._queued += len(items)
            waiting.append(one)
            self._changed.notify()
        return one.done

    @property
    def is_open(self) -> bool:
        """Whether decisions can be recorded, as far as is known."""
        return not self._closed and not self._failing

    def close(self) -> None:
        """Write what is queued, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._writer.join()

    def _write(self) -> None:
        try:
            self._write_groups()
        finally:
            # Also when the writer dies of a bug: whoever asks next is refused at once instead of waiting for nobody.
            with self._changed:
                self._closed = True
            self._refuse_rest()

    def _write_groups(self) -> None:
        while True:
            group = self._next_group()
            if group:
                self._commit(group)
            elif self._closed:
                return
            else:
                self._try_again()

    def _next_group(self) -> Sequence[_Waiting]:
        """Wait for decisions. None: the ledger is closed, or failed and is to be tried."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._single or self._batches or self._closed,
                timeout=TRY_AGAIN_SECONDS if self._failing else None,
            )
            group = [self._single.popleft() for _ in range(min(len(self._single), MAX_GROUP))]
            if self._batches and (not group or self._passed_over >= MAX_PASSED_OVER):
                group.append(self._batches.popleft())
                self._passed_over = 0
            elif self._batches:
                self._passed_over += 1
            self._queued -= sum(len(each.items) for each in group)
            return group

    def _commit(self, waiting: Sequence[_Waiting]) -> None:
        # From here on an entry cannot be taken back; those whose callers gave up are not written.
        group = [each for each in waiting if each.done.set_running_or_notify_cancel()]
        items = [item for each in group for item in each.items]
        try:
            committed = self._store.commit(items)
        except Exception as error:  # noqa: BLE001 - whatever it is, this group fails and the next is tried
            if not self._failing:
                _log.error("ledger_write_failed", entries=len(items), exc_info=error)
            self._failing = True
            for each in group:
                each.done.set_exception(StorageError("the group was not written"))
            return
        self._note_success()
        begin = 0
        for each in group:
            end = begin + len(each.items)
            each.done.set_result(committed[begin:end])
            begin = end
        self._forget()

    def _try_again(self) -> None:
        try:
            self._store.check_writable()
        except Exception:  # noqa: BLE001 - whatever it is, it is tried again
            return
        self._note_success()

    def _note_success(self) -> None:
        if self._failing:
            _log.warning("ledger_writes_again")
        self._failing = False

    def _forget(self) -> None:
        now, floor = self._world.now(), self._clock_floor()
        # abs: a clock that was set back must not switch this off until it has caught up.
        if floor is None or abs(now - self._forgot_at) < FORGET_EVERY:
            return
        self._forgot_at = now
        try:
            self._store.forget_replays(min(now, floor))
        except Exception as error:  # noqa: BLE001 - they are kept longer than needed, which harms nobody
            _log.warning("replays_not_forgotten", exc_info=error)

    def _refuse_rest(self) -> None:
        for waiting in (*self._single, *self._batches):
            if waiting.done.set_running_or_notify_cancel():
                waiting.done.set_exception(StorageError("the ledger is closed"))


def _committed(done: Future[Sequence[Committed]]) -> Sequence[Committed]:
    """Wait for a group. Who stops waiting takes the entries back, so that asking again is safe."""
    for _attempt in range(2):
        try:
            return done.result(timeout=WAIT_SECONDS)
        except TimeoutError as error:
            if done.cancel():
                raise Unavailable("the ledger did not answer in time") from error
            # It is being written at this moment: too late to take back, so it is worth waiting once more.
        except StorageError as error:
            raise Unavailable("the ledger could not be written") from error
    raise Unavailable("the ledger did not answer in time; the decision may have been recorded")
