"""Changes of what must not be forgotten, in PostgreSQL: counted, and in the log.

Every such transaction takes its locks in one order, so that none waits for another in a circle: the log that is written
to, if it writes entries; the lineage; then whatever it changes. The lineage lets only one change through at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from gateway.core.entries import SealedEntry
from gateway.storage.postgres_connection import Db, Session
from gateway.storage.postgres_entries import Parts, append, lock_head
from gateway.storage.postgres_lineage import PostgresLineage


class Changes:
    """Makes changes over one connection. Thread-safe."""

    def __init__(self, session: Session, parts: Parts, lineage: PostgresLineage) -> None:
        """Know over which connection, where entries go, and who counts."""
        self._session = session
        self._parts = parts
        self._lineage = lineage

    @contextmanager
    def durable(self, log: Sequence[SealedEntry] = ()) -> Iterator[Db]:
        """Change something in one durable transaction that is counted, and write entries of the log with it."""
        with self.undecided(log) as (db, write_log):
            write_log()
            yield db

    @contextmanager
    def undecided(self, log: Sequence[SealedEntry]) -> Iterator[tuple[Db, Callable[[], None]]]:
        """Likewise, for whoever finds out inside whether it is worth an entry; gives what writes them."""
        with self.uncounted(log) as (db, write_log):
            generation = self._lineage.count(db)
            yield db, write_log
        self._lineage.note(generation)

    @contextmanager
    def uncounted(self, log: Sequence[SealedEntry]) -> Iterator[tuple[Db, Callable[[], None]]]:
        """Likewise, for what may be forgotten."""
        if log:
            self._parts.prepare(self._session, log)
        with self._session.transaction() as db:
            head = lock_head(db) if log else None

            def write_log() -> None:
                if head is not None:
                    append(db, head, log)

            yield db, write_log
