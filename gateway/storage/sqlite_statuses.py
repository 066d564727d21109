"""Status lists on disk: the newest of each name, as its issuer signed it.

They share the database file with everything else, which ``SqliteStore`` has brought to the newest schema before, over a
connection of their own: whoever asks the store for something else does not wait for megabytes to be read.

Every list written counts as a change that must not be forgotten: a backup put back holds lists in which what was
revoked since is still valid.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from gateway.storage import HeldStatusList, StorageError
from gateway.storage.connection import connect, transaction, wrapped
from gateway.storage.sqlite import SqliteStore


class SqliteStatuses:
    """The table ``status_lists`` of the store's file; implements ``StatusStore``. Thread-safe."""

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

    def load_status_lists(self) -> Sequence[HeldStatusList]:
        """Load what is remembered of every list; see ``StatusStore``."""
        rows = self._read("SELECT uri, issuer, seq, issued_at FROM status_lists ORDER BY uri")
        return [
            HeldStatusList(uri=uri, issuer=issuer, seq=seq, issued_at=datetime.fromtimestamp(issued_at, UTC))
            for uri, issuer, seq, issued_at in rows
        ]

    def load_status_list(self, uri: str) -> str | None:
        """Load one list as it was signed; see ``StatusStore``."""
        rows = self._read("SELECT token FROM status_lists WHERE uri = ?", uri)
        return str(rows[0][0]) if rows else None

    def save_status_list(self, held: HeldStatusList, token: str) -> None:
        """Write a list in place of the one before; see ``StatusStore``."""
        with self._lock:
            with transaction(self._connection) as db:
                db.execute(
                    "INSERT INTO status_lists (uri, issuer, seq, issued_at, token) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (uri) DO UPDATE SET issuer = excluded.issuer, seq = excluded.seq,"
                    " issued_at = excluded.issued_at, token = excluded.token",
                    (held.uri, held.issuer, held.seq, int(held.issued_at.timestamp()), token),
                )
                generation = self._store.count_change(db)
            self._store.note_change(generation)

    def _read(self, query: str, *arguments: object) -> Sequence[sqlite3.Row]:
        with self._lock, wrapped(), closing(self._connection.execute(query, arguments)) as cursor:
            return cursor.fetchall()
