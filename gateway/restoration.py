"""A backup that was put back decides nothing until others have said what it does not know.

The store tells that it was put back (``storage.Lineage``); an intact one is taken at its word, also when nobody can be
reached. A backup lacks revocations, withdrawals and charters that were known here before, and whoever put it back may
be the one who keeps the peers away. So it is whole again only when as many other provinces have answered since the
start as make it impossible that all of them keep something back: one more than the quorum can do without. An answer is
the trust documents and every status list that the peer holds: a list from the backup calls good what was revoked since.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from gateway.logs import get_logger
from gateway.resolver import Resolver
from gateway.storage import Lineage, StorageError

DETAIL: Final = "nothing is decided until enough other provinces have answered"

_log = get_logger("restoration")


class Restoration:
    """Whether what is held may be decided by. Thread-safe."""

    def __init__(
        self,
        store: Lineage,
        resolver: Resolver,
        peers: Sequence[str],
        *,
        now: Callable[[], datetime],
        recover: Callable[[], object] = lambda: None,
    ) -> None:
        """Look whether the store was put back.

        Args:
            store: tells whether it was, and remembers when that is made good.
            resolver: hears from the peers; made at this start.
            peers: their provinces.
            now: the time.
            recover: writes down, of what the others have told, what nobody else keeps for us; called before the store
                is taken at its word again. Raises StorageError.
        """
        self._store = store
        self._resolver = resolver
        self._peers = frozenset(peers)
        self._recover = recover
        self._now = now
        self._lock = threading.Lock()
        self._incomplete = store.is_restored
        if self._incomplete:
            _log.error("database_restored", detail=DETAIL, count=self._needed())

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing that was known here before, as far as can be known."""
        if not self._incomplete:
            return True
        if self._resolver.is_clock_regressed:
            return False  # nothing that peers say is taken in
        if sum(self._resolver.has_told_all(each) for each in self._peers) < self._needed():
            return False
        with self._lock:
            if self._incomplete:
                self._settle()
        return not self._incomplete

    def _needed(self) -> int:
        charter = self._resolver.view.charter
        count = len(charter.anchors)
        return min(count - charter.quorum + 1, count - 1)  # an anchor alone has nobody to ask

    def _settle(self) -> None:
        try:
            self._recover()
        except StorageError as error:
            _log.error("restoration_not_completed", exc_info=error)
            return
        try:
            self._store.settle_restored(self._now())
        except StorageError as error:
            # What was learned is on disk. The next start asks once more, that is all.
            _log.error("restoration_not_noted", exc_info=error)
        self._incomplete = False
        _log.info("database_completed")
