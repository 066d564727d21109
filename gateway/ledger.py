"""The one door to durable writes on the hot path.

A decision is answered only after its audit entry and its replay key are on disk, in one transaction. Callers wait
together: a single writer takes whatever has queued up and commits it as one group, so that the cost of a durable commit
is shared (one fsync for dozens of decisions instead of one each).

A replay key is forgotten when both our clock and the anchors' say that its presentation has lapsed. Our own alone may
have run ahead; once it is put right, the presentation would be good again and its key gone.

The queue is bounded. When it is full the caller is told so at once; waiting without bound would turn a slow disk into a
pile of blocked threads.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Final

from gateway.clock import World
from gateway.core.reasons import Overloaded, Unavailable
from gateway.logs import get_logger
from gateway.storage import LedgerEntry, LedgerStore, Outcome, StorageError

MAX_QUEUE: Final = 4_096
MAX_GROUP: Final = 256
WAIT_SECONDS: Final = 10.0
"""How long a caller waits for its group. A disk that needs longer is down for our purposes."""
FORGET_EVERY: Final = timedelta(minutes=1)

_log = get_logger("ledger")
_Waiting = tuple[LedgerEntry, "Future[Outcome]"]


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
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(MAX_QUEUE)
        self._closed = False
        self._clock_floor = clock_floor
        self._forgot_at = world.now()
        self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._writer.start()

    def record(self, item: LedgerEntry) -> Outcome:
        """Make one decision durable, and wait until it is.

        Returns:
            What became of it: whether its replay key was used before, or its consent does not carry it any more. The
            entry for that case was written then.

        Raises:
            Overloaded: the queue is full.
            Unavailable: it could not be written. Nothing of it was.
        """
        if self._closed:
            raise Unavailable("the ledger is closed")
        done: Future[Outcome] = Future()
        try:
            self._queue.put_nowait((item, done))
        except queue.Full as error:
            raise Overloaded("the ledger's queue is full", retry_after_seconds=1.0) from error
        return _outcome(done)

    @property
    def is_open(self) -> bool:
        """Whether decisions can be recorded, as far as is known."""
        return not self._closed

    def close(self) -> None:
        """Write what is queued, then stop."""
        self._closed = True
        self._queue.put(None)
        self._writer.join()

    def _write(self) -> None:
        try:
            self._write_groups()
        finally:
            # Also when the writer dies of a bug: whoever asks next is refused at once instead of waiting for nobody.
            self._closed = True
            self._refuse_rest()

    def _write_groups(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            group = [first]
            stop = False
            while len(group) < MAX_GROUP:
                try:
                    waiting = self._queue.get_nowait()
                except queue.Empty:
                    break
                if waiting is None:
                    stop = True
                    break
                group.append(waiting)
            self._commit(group)
            if stop:
                return

    def _commit(self, waiting: list[_Waiting]) -> None:
        # From here on an entry cannot be taken back; those whose callers gave up are not written.
        group = [(item, done) for item, done in waiting if done.set_running_or_notify_cancel()]
        try:
            outcomes = self._store.commit([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - whatever it is, this group fails and the next is tried
            _log.error("ledger_write_failed", entries=len(group), exc_info=error)
            for _, done in group:
                done.set_exception(StorageError("the group was not written"))
            return
        for (_, done), outcome in zip(group, outcomes, strict=True):
            done.set_result(outcome)
        self._forget()

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
        while True:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                return
            if waiting is not None and waiting[1].set_running_or_notify_cancel():
                waiting[1].set_exception(StorageError("the ledger is closed"))


def _outcome(done: Future[Outcome]) -> Outcome:
    """Wait for an entry's group. Who stops waiting takes the entry back, so that asking again is safe."""
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
