"""Entries of the log in PostgreSQL: how they are added, by whichever process, and in which part of the table they lie.

* Whoever adds entries first locks the row of the log that is written to, before anything else: so processes take turns,
  entries stand in the order of commits and without a gap, and nobody waits for each other in a circle.
* The table is divided by class and day; what is permanent is in one part. A day's parts are made before they are
  needed, outside of the transaction that needs them, and attached, which stops nobody who reads or writes.
* Days follow no strict order in the log: clocks differ. ``entry_parts`` says between which numbers a part's entries
  lie, so that reading by number touches few parts, and searching looks through a bounded number of them at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from gateway.core.entries import INDEX_COLUMNS, EntryIndex, Keep, SealedEntry, day_of
from gateway.storage import Log, StorageError, StoredEntry
from gateway.storage.postgres_connection import LOCKS, Db, Lock, Session

DAYS_AHEAD: Final = 7
MAX_PARTS: Final = 32
"""Parts of the table that one query looks through. The server locks each and its indexes, and has room for some
thousands of locks."""
BY_DAY: Final = (Keep.DISCLOSURE, Keep.SECURITY)
"""Classes that are divided by day; each day has one part of each. One entry in place of another may be of the other."""
PERMANENT_PART: Final = -(2**31)
SELECT: Final = f"SELECT number, raw, {', '.join(INDEX_COLUMNS)} FROM entries"  # noqa: S608 - our own names
# Binary (%b): as text, each value of an array would be searched for what has to be escaped.
_ARRAYS: Final = ", ".join(f"%b::{'bigint' if name == 'at' else 'text'}[]" for name in INDEX_COLUMNS)
_INSERT: Final = (  # names of columns, all ours
    f"INSERT INTO entries (number, part, raw, {', '.join(INDEX_COLUMNS)})"  # noqa: S608
    f" SELECT %s::bigint + place - 1, part, raw, {', '.join(INDEX_COLUMNS)}"
    f" FROM unnest(%b::integer[], %b::bytea[], {_ARRAYS}) WITH ORDINALITY"
    f" AS new (part, raw, {', '.join(INDEX_COLUMNS)}, place)"
)
_NOTE_PARTS: Final = (
    "INSERT INTO entry_parts (part, low, high) SELECT * FROM unnest(%s::integer[], %s::bigint[], %s::bigint[])"
    " ON CONFLICT (part) DO UPDATE SET low = least(entry_parts.low, excluded.low),"
    " high = greatest(entry_parts.high, excluded.high)"
)
LOCK_HEAD: Final = "SELECT log_id, first, size, tree_size FROM logs ORDER BY first DESC LIMIT 1 FOR UPDATE"


def lock_head(db: Db) -> Log:
    """Lock the log that is written to until the end of the transaction, and say how far it is."""
    return read_log(db.execute(LOCK_HEAD).fetchone())


def read_log(row: tuple[Any, ...] | None) -> Log:
    """Read what ``LOCK_HEAD`` gives."""
    if row is None:
        raise StorageError("PostgreSQL: the database has no log")
    return Log(log_id=row[0], first=row[1], size=row[2], tree_size=row[3])


def append(db: Db, head: Log, entries: Sequence[SealedEntry]) -> None:
    """Write entries after the last of the locked log. The parts of the table that they go to are there already.

    Gives no result to wait for, so that it may be sent together with what follows.
    """
    if not entries:
        return
    start = head.first + head.size
    parts = [part_of(entry) for entry in entries]
    columns = [[getattr(entry.index, name) for entry in entries] for name in INDEX_COLUMNS]
    db.execute(_INSERT, (start, parts, [entry.raw for entry in entries], *columns))
    ranges: dict[int, tuple[int, int]] = {}
    for number, part in enumerate(parts, start):
        ranges[part] = (ranges.get(part, (number, 0))[0], number)
    lows, highs = zip(*ranges.values(), strict=True)
    db.execute(_NOTE_PARTS, (list(ranges), list(lows), list(highs)))
    db.execute("UPDATE logs SET size = size + %s WHERE first = %s", (len(entries), head.first))


def part_of(entry: SealedEntry) -> int:
    """Number the part of the table in which an entry lies, by class and day."""
    keep = Keep(entry.index.keep)
    return number_of(keep, day_of(entry.index.at)) if keep in BY_DAY else PERMANENT_PART


def number_of(keep: Keep, day: int) -> int:
    """Number the part of a class and a day."""
    return day * len(BY_DAY) + BY_DAY.index(keep)


def name_of(part: int) -> str:
    """Name a part of the table."""
    if part == PERMANENT_PART:
        return "entries_permanent"
    day, keep = divmod(part, len(BY_DAY))
    return f"entries_{BY_DAY[keep].value}_{day}".replace("-", "m")


# -- parts of the table -----------------------------------------------------------------------------------------------


class Parts:
    """Which days have their parts of the table. Thread-safe."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._lock = threading.Lock()

    def prepare(self, session: Session, entries: Sequence[SealedEntry]) -> None:
        """Make the parts that entries go to, and those of the next days before they are needed.

        Raises:
            StorageError: that is not possible.
        """
        days = {day_of(entry.index.at) for entry in entries}
        with self._lock:
            if {each for day in days for each in (day, day + 1)} <= self._known:
                return
        wanted = sorted({each for day in days for each in range(day, day + 1 + DAYS_AHEAD)})
        with session.transaction() as db:
            db.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCKS, Lock.PARTS))
            for keep in BY_DAY:
                for day in wanted:  # of a group, whose number of entries is bounded
                    _make(db, number_of(keep, day))
        with self._lock:
            self._known.update(wanted)

    def forget(self) -> None:
        """Look again next time: another process may have dropped some."""
        with self._lock:
            self._known.clear()


def _make(db: Db, part: int) -> None:
    name = name_of(part)
    if db.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone() == (True,):
        return
    # Attaching waits for nobody who reads or writes; making it as a part would.
    db.execute(
        sql.SQL("CREATE TABLE {} (LIKE entries INCLUDING DEFAULTS INCLUDING CONSTRAINTS)").format(sql.Identifier(name))
    )
    db.execute(
        sql.SQL("ALTER TABLE entries ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            sql.Identifier(name), sql.Literal(part), sql.Literal(part + 1)
        )
    )


def drop(db: Db, part: int) -> None:
    """Drop a part with all that is in it."""
    db.execute("SET LOCAL lock_timeout = '2s'")  # everybody waits while this waits for readers
    db.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name_of(part))))
    db.execute("DELETE FROM entry_parts WHERE part = %s", (part,))


# -- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the table, and between which numbers its entries lie, both included."""

    part: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of numbers, and the only parts that have entries there."""

    begin: int
    end: int
    """Not included."""
    parts: tuple[Part, ...]

    @property
    def condition(self) -> str:
        """The condition for the server, which then looks at no other part; ``values`` belong to it."""
        return "number >= %s AND number < %s AND part = ANY(%s::integer[])"

    @property
    def values(self) -> tuple[object, ...]:
        """What stands in the condition."""
        return self.begin, self.end, [part.part for part in self.parts]


def load_parts(db: Db, begin: int, end: int) -> list[Part]:
    """Load the parts that have entries between two numbers."""
    rows = db.execute("SELECT part, low, high FROM entry_parts WHERE low < %s AND high >= %s", (end, begin)).fetchall()
    return [Part(*row) for row in rows]


def windows(parts: Sequence[Part], begin: int, end: int, *, newest_first: bool = False) -> Iterator[Window]:
    """Cut a stretch of numbers into such that few parts have entries in, in the order asked for."""
    while begin < end:
        inside = [part for part in parts if part.low < end and part.high >= begin]
        if newest_first:
            others = sorted((part.high + 1 for part in inside), reverse=True)[MAX_PARTS:]
            cut = next((each for each in others if each < end), begin)
            yield _window(inside, max(cut, begin), end)
            end = cut
        else:
            others = sorted(part.low for part in inside)[MAX_PARTS:]
            cut = next((each for each in others if each > begin), end)
            yield _window(inside, begin, min(cut, end))
            begin = cut


def _window(parts: Sequence[Part], begin: int, end: int) -> Window:
    return Window(begin, end, tuple(part for part in parts if part.low < end and part.high >= begin))


def read_entry(row: Sequence[Any], logs: Sequence[Log]) -> StoredEntry:
    """Read a row of ``SELECT``."""
    number, raw, *columns = row
    log = next((each for each in reversed(logs) if each.first <= number), logs[0])
    return StoredEntry(
        log_id=log.log_id,
        position=number - log.first,
        raw=bytes(raw),
        index=EntryIndex._make(columns),
    )
