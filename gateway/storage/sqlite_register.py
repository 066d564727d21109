"""Our own status lists in the SQLite file: which place was given to which credential, and what became of it.

Every change counts as one that must not be forgotten: a backup put back may lack places that were given away since, and
credentials that were revoked.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.core.entries import SealedEntry
from gateway.storage import OwnList, OwnStatus, StorageError
from gateway.storage.connection import connect, transaction, wrapped
from gateway.storage.sqlite import SqliteStore
from gateway.storage.sqlite_entries import append

_COLUMNS: Final = "uri, place, credential_id, subject, actor, expires_at, status, changed_at"
_INSERT: Final = f"INSERT INTO own_statuses ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
_SELECT: Final = f"SELECT {_COLUMNS} FROM own_statuses WHERE "  # noqa: S608 - our own names
_NEVER: Final = 0
"""In place of the expiry of what does not expire, because no credential has it."""


class SqliteRegister:
    """The tables of our own status lists; implements ``RegisterStore``. Thread-safe."""

    def __init__(self, path: Path, store: SqliteStore) -> None:
        """Open a connection of its own.

        Args:
            path: the file that ``store`` has brought to the newest schema.
            store: counts what must not be forgotten.

        Raises:
            StorageError: the file cannot be opened.
        """
        self._store = store
        self._lock = threading.Lock()
        try:
            self._connection = connect(path)
        except sqlite3.Error as error:
            raise StorageError(f"{path.name}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def load_lists(self) -> Sequence[OwnList]:
        """Load all lists; see ``RegisterStore``."""
        with self._lock, wrapped():
            rows = self._connection.execute(
                "SELECT uri, size, opened_at, closed, count(place), max(expires_at)"
                " FROM own_lists LEFT JOIN own_statuses USING (uri) GROUP BY uri ORDER BY opened_at, uri"
            ).fetchall()
        return [
            OwnList(
                uri=uri,
                size=size,
                opened_at=datetime.fromtimestamp(opened_at, UTC),
                closed=bool(closed),
                used=used,
                last_expiry=_maybe_instant(last_expiry or None),
            )
            for uri, size, opened_at, closed, used, last_expiry in rows
        ]

    def load_set(self, uri: str) -> Sequence[tuple[int, int]]:
        """Load what is set; see ``RegisterStore``."""
        with self._lock, wrapped():
            return self._connection.execute(
                "SELECT place, status FROM own_statuses WHERE uri = ? AND status <> 0", (uri,)
            ).fetchall()

    def add_lists(self, lists: Sequence[OwnList]) -> None:
        """Write new lists; see ``RegisterStore``."""
        with self._durable_change() as db:
            db.executemany(
                "INSERT INTO own_lists (uri, size, opened_at, closed) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(each.uri, each.size, _seconds(each.opened_at), int(each.closed)) for each in lists],
            )

    def close_list(self, uri: str) -> None:
        """Close a list; see ``RegisterStore``."""
        with self._durable_change() as db:
            db.execute("UPDATE own_lists SET closed = 1 WHERE uri = ?", (uri,))

    def take_place(self, status: OwnStatus) -> bool:
        """Take a place; see ``RegisterStore``."""
        with self._durable_change() as db:
            return db.execute(f"{_INSERT} ON CONFLICT (uri, place) DO NOTHING", _row(status)).rowcount == 1

    def find_credential(self, credential_id: str) -> OwnStatus | None:
        """Find a credential; see ``RegisterStore``."""
        with self._lock, wrapped():
            row = self._connection.execute(f"{_SELECT} credential_id = ?", (credential_id,)).fetchone()
        return None if row is None else _read(row)

    def find_person(self, reference: str, after: datetime, limit: int | None = None) -> Sequence[OwnStatus]:
        """Find somebody's credentials; see ``RegisterStore``."""
        if not reference:
            return []  # of nobody
        with self._lock, wrapped():
            rows = self._connection.execute(
                f"{_SELECT} (subject = ?1 AND subject <> '' OR actor = ?1 AND actor <> '')"
                " AND credential_id IS NOT NULL AND expires_at > ?2 ORDER BY expires_at DESC, uri, place LIMIT ?3",
                (reference, _seconds(after), -1 if limit is None else limit),
            ).fetchall()
        return [_read(row) for row in rows]

    def is_taken(self, uri: str, place: int) -> bool:
        """Look whether a place is taken; see ``RegisterStore``."""
        with self._lock, wrapped():
            found = self._connection.execute("SELECT 1 FROM own_statuses WHERE uri = ? AND place = ?", (uri, place))
            return found.fetchone() is not None

    def find_decoys(self, uri: str, status: int, limit: int) -> Sequence[OwnStatus]:
        """Find decoys; see ``RegisterStore``."""
        with self._lock, wrapped():
            rows = self._connection.execute(
                f"{_SELECT} uri = ? AND status = ? AND status <> 0 AND credential_id IS NULL LIMIT ?",
                (uri, status, limit),
            ).fetchall()
        return [_read(row) for row in rows]

    def write(self, statuses: Sequence[OwnStatus], log: Sequence[SealedEntry] = ()) -> None:
        """Write what became of places; see ``RegisterStore``."""
        with self._durable_change() as db:
            append(db, log)
            db.executemany(
                f"{_INSERT} ON CONFLICT (uri, place) DO UPDATE SET status = excluded.status,"
                " changed_at = excluded.changed_at",
                [_row(each) for each in statuses],
            )

    @contextmanager
    def _durable_change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            with transaction(self._connection) as db:
                yield db
                generation = self._store.count_change(db)
            self._store.note_change(generation)


def _row(status: OwnStatus) -> tuple[object, ...]:
    return (
        status.uri,
        status.place,
        status.credential_id,
        status.subject,
        status.actor,
        _NEVER if status.expires_at is None else _seconds(status.expires_at),
        status.status,
        None if status.changed_at is None else _seconds(status.changed_at),
    )


def _read(row: Sequence[Any]) -> OwnStatus:
    uri, place, credential_id, subject, actor, expires_at, status, changed_at = row
    return OwnStatus(
        uri=uri,
        place=place,
        credential_id=credential_id,
        subject=subject,
        actor=actor,
        expires_at=_maybe_instant(expires_at or None),
        status=status,
        changed_at=_maybe_instant(changed_at),
    )


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _maybe_instant(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
