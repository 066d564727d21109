"""What was written to a SQLite file, for the processes that follow: the counts of ``tidings``, looked at often.

SQLite tells other processes nothing by itself. One short row by topic, read out of memory shared with whoever wrote it,
costs microseconds and no lock that a writer waits for.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.storage import StorageError, Topic
from gateway.storage.connection import connect, wrapped

LOOK_SECONDS: Final = 0.05


class SqliteTidings:
    """Implements ``Tidings``."""

    def __init__(self, path: Path) -> None:
        """Open a connection.

        Raises:
            StorageError: the file cannot be opened.
        """
        self._seen: Mapping[str, int] = {}
        try:
            self._connection = connect(path)
        except sqlite3.Error as error:
            raise StorageError(f"{path.name}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def wait(self, seconds: float) -> frozenset[Topic]:
        """Look until something was written; see ``Tidings``."""
        deadline = time.monotonic() + seconds
        while True:
            counts = self._counts()
            found = frozenset(topic for topic in Topic if counts.get(topic, 0) != self._seen.get(topic))
            self._seen = counts
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(LOOK_SECONDS, left))

    def _counts(self) -> Mapping[str, int]:
        try:
            with wrapped():
                return dict(self._connection.execute("SELECT topic, count FROM tidings").fetchall())
        except StorageError:
            self._seen = {}
            raise
