"""Entries of the log in the SQLite file, for everybody who writes some together with a change of their own.

Randomness for the name of a log is SQLite's: it names, and guards nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from gateway.core.entries import INDEX_COLUMNS, EntryIndex, SealedEntry, log_entry, seal
from gateway.storage import Log, StoredEntry

COLUMNS: Final = f"number, entry, {', '.join(INDEX_COLUMNS)}"
_INSERT: Final = f"INSERT INTO entries ({COLUMNS}) VALUES ({', '.join('?' * (2 + len(INDEX_COLUMNS)))})"  # noqa: S608


def newest_log(db: sqlite3.Connection) -> Log:
    """Say which log is written to, and how far it is."""
    row = db.execute("SELECT log_id, first, size, tree_size FROM logs ORDER BY first DESC LIMIT 1").fetchone()
    return Log(log_id=row[0], first=row[1], size=row[2], tree_size=row[3])


def append(db: sqlite3.Connection, entries: Sequence[SealedEntry]) -> None:
    """Add entries to the log that is written to, in the transaction that is running.

    SQLite lets one transaction write at a time, so entries are numbered in the order in which they are committed.
    """
    head = newest_log(db)
    if entries:
        start = head.first + head.size
        db.executemany(_INSERT, [_row(start + offset, each) for offset, each in enumerate(entries)])
        db.execute("UPDATE logs SET size = size + ? WHERE log_id = ?", (len(entries), head.log_id))


def begin_log(db: sqlite3.Connection, at: datetime, seen: str = "", seen_size: int = 0) -> None:
    """Begin a log in place of the one that is written to, and say so in its first entry."""
    old = newest_log(db)
    db.execute(
        "INSERT INTO logs (log_id, first, size, tree_size) VALUES (lower(hex(randomblob(16))), ?, 0, 0)",
        (old.first + max(old.size, 1),),
    )
    append(db, [seal(log_entry(at=at, replaced=old.log_id, size=old.size, seen=seen, seen_size=seen_size))])


def _row(number: int, sealed: SealedEntry) -> tuple[object, ...]:
    return (number, sealed.raw, *sealed.index)


def read_entry(row: Sequence[Any], logs: Sequence[Log]) -> StoredEntry:
    """Read a row of ``COLUMNS``."""
    number, raw, *columns = row
    log = next((each for each in reversed(logs) if each.first <= number), logs[0])
    # Somebody may have put anything there by hand; SQLite holds what it is given.
    return StoredEntry(
        log_id=log.log_id,
        position=number - log.first,
        raw=raw if isinstance(raw, bytes) else str(raw).encode("utf-8", "surrogatepass"),
        index=EntryIndex._make(columns),
    )
