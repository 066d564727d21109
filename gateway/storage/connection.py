"""Connections to the SQLite file, for all who have tables in it: write-ahead log, ``synchronous=FULL``.

What was committed survives ``kill -9`` and loss of power, and is there whole or not at all.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.storage import StorageError

_BUSY_SECONDS: Final = 5.0
"""How long to wait for another connection, of this process or another, that writes."""
_LOOK_AGAIN_SECONDS: Final = 0.001


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
        _begin(connection)
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _begin(connection: sqlite3.Connection) -> None:
    """Begin to write, as soon as nobody else does.

    SQLite's own way of waiting looks ever more seldom, up to ten times a second: of several processes that write all
    the time, one would be passed over again and again. A transaction takes a few milliseconds.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(_LOOK_AGAIN_SECONDS)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(_BUSY_SECONDS * 1000)}")


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Read several things as they were at one moment, whatever other processes write meanwhile."""
    with wrapped():
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("COMMIT")


@contextmanager
def wrapped() -> Iterator[None]:
    """Turn what SQLite raises into ``StorageError``."""
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"SQLite: {error}") from error
