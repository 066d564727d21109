"""Connections to the SQLite file, for all who have tables in it: write-ahead log, ``synchronous=FULL``.

What was committed survives ``kill -9`` and loss of power, and is there whole or not at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.storage import StorageError

_BUSY_SECONDS: Final = 5.0


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection of one's own. It may be handed between threads, but not used by two at a time.

    Raises:
        sqlite3.Error: the file is no database, or cannot be opened.
    """
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        connection.close()  # the first statement is what finds out that the file is no database
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Do what is inside in one durable transaction, or nothing of it."""
    with wrapped():
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def wrapped() -> Iterator[None]:
    """Turn what SQLite raises into ``StorageError``."""
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"SQLite: {error}") from error
