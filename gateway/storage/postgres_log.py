"""The log in PostgreSQL: its entries, its tree and checkpoints, disputes, and what was seen of the logs of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.core.entries import (
    Erasure,
    Keep,
    SealedEntry,
    day_of,
    log_entry,
    milliseconds,
    retention_entry,
    runs_of,
    seal,
)
from gateway.storage import Committed, EntryQuery, Fork, HeldCheckpoint, LedgerEntry, Log, StorageError, StoredEntry
from gateway.storage.postgres_connection import Db, Session
from gateway.storage.postgres_entries import (
    BY_DAY,
    PERMANENT_PART,
    SELECT,
    Part,
    Parts,
    append,
    drop,
    load_parts,
    lock_head,
    number_of,
    read_entry,
    read_log,
    windows,
)
from gateway.storage.postgres_ledger import PostgresLedger
from gateway.storage.rows import instant, seconds

MAX_ERASED: Final = 10_000
"""Entries erased in one transaction: no decision waits long for it."""
MAX_FORKS: Final = 16
"""Proofs kept of one gateway: one that is hostile can sign any number."""
KEEP_CHECKPOINTS: Final = timedelta(hours=2)
"""How long every checkpoint is kept. Of the older ones, the last of each hour stays: those that others cosigned."""
EVERYTHING: Final = (-(2**62), 2**62)
"""Between these all numbers lie."""
_PRUNE_EVERY: Final = 500


class PostgresLog:
    """Implements ``LogBook``. Thread-safe."""

    def __init__(self, session: Session, ledger: PostgresLedger, parts: Parts) -> None:
        """Use a connection that no decision waits for; ``ledger`` has its own."""
        self._session = session
        self._ledger = ledger
        self._parts = parts
        self._until_pruned = 0

    # -- decisions -----------------------------------------------------------------------------------------------------

    def commit(self, group: Sequence[LedgerEntry]) -> Sequence[Committed]:
        """Write a group of decisions; see ``LedgerStore``."""
        return self._ledger.commit(group)

    def forget_replays(self, before: datetime) -> int:
        """Drop lapsed replay keys; see ``LedgerStore``."""
        return self._ledger.forget_replays(before)

    def check_writable(self) -> None:
        """Find out whether anything can be written; see ``LedgerStore``."""
        self._ledger.check_writable()

    # -- entries -------------------------------------------------------------------------------------------------------

    def logs(self) -> Sequence[Log]:
        """Load all logs; see ``LogStore``."""
        with self._session.statement() as db:
            return _logs(db)

    def append(self, entries: Sequence[SealedEntry]) -> None:
        """Write entries; see ``LogStore``."""
        self._parts.prepare(self._session, entries)
        with self._session.transaction() as db:
            append(db, lock_head(db), entries)

    def read_entries(self, log_id: str, begin: int, end: int) -> Sequence[StoredEntry]:
        """Load entries by position; see ``LogStore``."""
        with self._session.snapshot() as db:
            logs = _logs(db)
            log = _named(logs, log_id)
            begin, end = log.first + begin, min(log.first + end, _end_of(log, logs))
            rows: list[tuple[Any, ...]] = []
            for window in windows(load_parts(db, begin, end), begin, end):
                rows += db.execute(f"{SELECT} WHERE {window.condition} ORDER BY number", window.values).fetchall()
            return [read_entry(row, logs) for row in rows]

    def find_entry(self, entry_id: str) -> StoredEntry | None:
        """Find an entry by its id; see ``LogStore``."""
        with self._session.snapshot() as db:
            logs = _logs(db)
            found = _search(
                db,
                load_parts(db, *EVERYTHING),
                ["entry_id = %s AND entry_id <> ''"],
                [entry_id],
                1,
                between=EVERYTHING,
                newest_first=True,
            )
            return next((read_entry(row, logs) for row in found), None)

    def list_entries(
        self, query: EntryQuery, limit: int, after: tuple[str, int] | None = None, *, newest_first: bool = False
    ) -> Sequence[StoredEntry]:
        """Find entries; see ``LogStore``."""
        with self._session.snapshot() as db:
            logs = _logs(db)
            begin, end = EVERYTHING  # also what somebody put where no log is
            if after is not None:
                number = _named(logs, after[0]).first + after[1]
                begin, end = (begin, number) if newest_first else (number + 1, end)
            clauses, values = _where(query)
            parts = [part for part in load_parts(db, begin, end) if _may_hold(part, query)]
            found = _search(db, parts, clauses, values, limit, between=(begin, end), newest_first=newest_first)
            return [read_entry(row, logs) for row in found]

    def begin_log(self, at: datetime, seen: str, seen_size: int) -> None:
        """Begin another log; see ``LogStore``."""
        with self._session.transaction() as db:
            begin_log(db, at, seen, seen_size)

    def erase(self, keep: Keep, before: datetime, at: datetime) -> Erasure | None:
        """Erase what is over; see ``LogStore``. A part of the table of which nothing is left is dropped."""
        if keep not in BY_DAY:
            return None
        with self._session.transaction() as db:
            head = lock_head(db)
            # Never what is not in the tree yet: its hash would be lost.
            begin, end = head.first, head.first + head.tree_size
            last = number_of(keep, day_of(milliseconds(before)))
            parts = [each for each in load_parts(db, begin, end) if _is_of(each, keep) and each.part <= last]
            over = _over(db, parts, milliseconds(before), (begin, end))
            runs = runs_of(number - head.first for number, _ in over)
            if not runs:
                return None
            erasure = Erasure(keep=keep, before=before, positions=runs)
            named: dict[int, list[int]] = {}
            for number, part in over:
                if number < head.first + runs[-1].stop:
                    named.setdefault(part, []).append(number)
            for part, numbers in named.items():
                # What was put by for a dispute is kept as long as the dispute.
                db.execute(
                    "DELETE FROM evidence WHERE dispute_id IN (SELECT entry_id FROM entries"
                    " WHERE part = %s AND number = ANY(%s::bigint[]) AND kind = 'dispute')",
                    (part, numbers),
                )
                _erase(db, part, numbers, is_over=part < last)
            append(db, head, [seal(retention_entry(erasure, at=at))])
        self._parts.forget()
        return erasure

    # -- the tree ------------------------------------------------------------------------------------------------------

    def tile(self, log_id: str, level: int, number: int) -> bytes:
        """Load a tile; see ``LogStore``."""
        with self._session.statement() as db:
            row = db.execute(
                "SELECT hashes FROM tiles WHERE log_id = %s AND level = %s AND number = %s", (log_id, level, number)
            ).fetchone()
        return b"" if row is None else bytes(row[0])

    def save_tree(self, log_id: str, tree_size: int, tiles: Mapping[tuple[int, int], bytes]) -> None:
        """Write tiles; see ``LogStore``."""
        with self._session.transaction() as db:
            # The log first, like everybody.
            db.execute("UPDATE logs SET tree_size = %s WHERE log_id = %s", (tree_size, log_id))
            db.cursor().executemany(
                "INSERT INTO tiles (log_id, level, number, hashes) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (log_id, level, number) DO UPDATE SET hashes = excluded.hashes",
                [(log_id, *place, hashes) for place, hashes in tiles.items()],
            )

    def save_checkpoint(self, checkpoint: HeldCheckpoint) -> None:
        """Write a checkpoint; see ``LogStore``."""
        with self._session.transaction() as db:
            db.execute(
                "INSERT INTO checkpoints (log_id, size, issued_at, token) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (log_id, size) DO UPDATE SET issued_at = excluded.issued_at, token = excluded.token",
                (checkpoint.log_id, checkpoint.size, seconds(checkpoint.issued_at), checkpoint.token),
            )
            self._until_pruned -= 1
            if self._until_pruned < 0:
                self._until_pruned = _PRUNE_EVERY
                _prune_checkpoints(db, checkpoint.issued_at)

    def latest_checkpoint(self, log_id: str) -> HeldCheckpoint | None:
        """Load the newest checkpoint; see ``LogStore``."""
        found = self._checkpoints("log_id = %s ORDER BY size DESC LIMIT 1", log_id)
        return found[0] if found else None

    def checkpoints_from(self, log_id: str, size: int, limit: int) -> Sequence[HeldCheckpoint]:
        """Load checkpoints from a size on; see ``LogStore``."""
        return self._checkpoints("log_id = %s AND size >= %s ORDER BY size LIMIT %s", log_id, size, limit)

    def checkpoints_before(self, log_id: str, size: int, limit: int) -> Sequence[HeldCheckpoint]:
        """Load checkpoints up to a size; see ``LogStore``."""
        return self._checkpoints("log_id = %s AND size < %s ORDER BY size DESC LIMIT %s", log_id, size, limit)

    def save_cosignature(self, log_id: str, size: int, witness: str, token: str) -> bool:
        """Write a cosignature; see ``LogStore``."""
        with self._session.transaction() as db:
            held = db.execute(
                "SELECT 1 FROM checkpoints WHERE log_id = %s AND size = %s FOR SHARE", (log_id, size)
            ).fetchone()
            if held is None:
                return False
            db.execute(
                "INSERT INTO cosignatures (log_id, size, witness, token) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (log_id, size, witness) DO UPDATE SET token = excluded.token",
                (log_id, size, witness, token),
            )
        return True

    def _checkpoints(self, condition: str, *values: object) -> list[HeldCheckpoint]:
        with self._session.statement() as db:
            rows = db.execute(
                "SELECT log_id, size, issued_at, token, ARRAY(SELECT ARRAY[witness, cosignatures.token]"  # noqa: S608
                " FROM cosignatures WHERE cosignatures.log_id = checkpoints.log_id"
                " AND cosignatures.size = checkpoints.size ORDER BY witness)"
                f" FROM checkpoints WHERE {condition}",  # our own words
                values,
            ).fetchall()
        return [
            HeldCheckpoint(
                log_id=log_id, size=size, issued_at=instant(issued_at), token=token, cosignatures=dict(cosignatures)
            )
            for log_id, size, issued_at, token, cosignatures in rows
        ]

    # -- disputes ------------------------------------------------------------------------------------------------------

    def save_dispute(self, dispute_id: str, evidence: bytes, entry: SealedEntry) -> None:
        """Write a dispute; see ``DisputeStore``."""
        self._parts.prepare(self._session, [entry])
        with self._session.transaction() as db:
            append(db, lock_head(db), [entry])
            db.execute("INSERT INTO evidence (dispute_id, document) VALUES (%s, %s)", (dispute_id, evidence))

    def load_evidence(self, dispute_id: str) -> bytes | None:
        """Load the evidence of a dispute; see ``DisputeStore``."""
        with self._session.statement() as db:
            row = db.execute("SELECT document FROM evidence WHERE dispute_id = %s", (dispute_id,)).fetchone()
        return None if row is None else bytes(row[0])

    # -- other gateways' logs ------------------------------------------------------------------------------------------

    def load_seen(self, gateway: str) -> Sequence[HeldCheckpoint]:
        """Load what was seen of a gateway; see ``WitnessStore``."""
        with self._session.statement() as db:
            rows = db.execute(
                "SELECT log_id, size, issued_at, token FROM seen WHERE gateway = %s ORDER BY position", (gateway,)
            ).fetchall()
        return [
            HeldCheckpoint(log_id=row[0], size=row[1], issued_at=instant(row[2]), token=row[3], cosignatures={})
            for row in rows
        ]

    def save_seen(self, gateway: str, checkpoint: HeldCheckpoint) -> None:
        """Write what was seen; see ``WitnessStore``."""
        with self._session.statement() as db:
            db.execute(
                "INSERT INTO seen (gateway, log_id, size, issued_at, token) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (gateway, log_id) DO UPDATE SET size = excluded.size, issued_at = excluded.issued_at,"
                " token = excluded.token WHERE excluded.size > seen.size",
                (gateway, checkpoint.log_id, checkpoint.size, seconds(checkpoint.issued_at), checkpoint.token),
            )

    def save_fork(self, fork: Fork) -> None:
        """Write a proof; see ``WitnessStore``."""
        with self._session.transaction() as db:
            db.execute("LOCK TABLE forks IN SHARE ROW EXCLUSIVE MODE")  # tokens are too long for a unique index
            held = db.execute("SELECT kind, seen, shown FROM forks WHERE gateway = %s", (fork.gateway,)).fetchall()
            if len(held) < MAX_FORKS and (fork.kind, fork.seen, fork.shown) not in held:
                db.execute(
                    "INSERT INTO forks (gateway, kind, found_at, seen, shown) VALUES (%s, %s, %s, %s, %s)",
                    (fork.gateway, fork.kind, seconds(fork.found_at), fork.seen, fork.shown),
                )

    def load_forks(self) -> Sequence[Fork]:
        """Load all proofs; see ``WitnessStore``."""
        with self._session.statement() as db:
            rows = db.execute("SELECT gateway, kind, found_at, seen, shown FROM forks ORDER BY position").fetchall()
        return [Fork(gateway=row[0], kind=row[1], found_at=instant(row[2]), seen=row[3], shown=row[4]) for row in rows]


def begin_log(db: Db, at: datetime, seen: str = "", seen_size: int = 0) -> None:
    """Begin a log in place of the one that is written to, and say so in its first entry, which is permanent.

    The server's randomness names it, and guards nothing.
    """
    old = lock_head(db)
    row = db.execute(
        "INSERT INTO logs (first, log_id, size, tree_size) VALUES (%s, replace(gen_random_uuid()::text, '-', ''), 0, 0)"
        " RETURNING log_id, first, size, tree_size",
        (old.first + max(old.size, 1),),
    ).fetchone()
    begun = log_entry(at=at, replaced=old.log_id, size=old.size, seen=seen, seen_size=seen_size)
    append(db, read_log(row), [seal(begun)])


def _logs(db: Db) -> Sequence[Log]:
    return [read_log(row) for row in db.execute("SELECT log_id, first, size, tree_size FROM logs ORDER BY first")]


def _named(logs: Sequence[Log], log_id: str) -> Log:
    for log in logs:
        if log.log_id == log_id:
            return log
    raise StorageError("there is no such log")


def _end_of(log: Log, logs: Sequence[Log]) -> int:
    """Give the number before which a log's entries end: where the next log begins."""
    return min((each.first for each in logs if each.first > log.first), default=EVERYTHING[1])


# -- searching --------------------------------------------------------------------------------------------------------


def _search(
    db: Db,
    parts: Sequence[Part],
    clauses: Sequence[str],
    values: Sequence[object],
    limit: int,
    *,
    between: tuple[int, int],
    newest_first: bool,
) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    order = "DESC" if newest_first else "ASC"
    for window in windows(parts, *between, newest_first=newest_first):
        query = f"{SELECT} WHERE {' AND '.join([window.condition, *clauses])} ORDER BY number {order} LIMIT %s"
        found += db.execute(query, (*window.values, *values, limit - len(found))).fetchall()
        if len(found) >= limit:
            break
    return found


def _may_hold(part: Part, query: EntryQuery) -> bool:
    if part.part == PERMANENT_PART:
        return True
    day = part.part // len(BY_DAY)
    return (query.since is None or day >= day_of(milliseconds(query.since))) and (
        query.until is None or day <= day_of(milliseconds(query.until))
    )


def _is_of(part: Part, keep: Keep) -> bool:
    return part.part != PERMANENT_PART and part.part % len(BY_DAY) == BY_DAY.index(keep)


def _where(query: EntryQuery) -> tuple[list[str], list[object]]:
    clauses: list[str] = []
    values: list[object] = []
    for name in ("about", "service", "matter", "verdict", "reason", "issuer", "kid"):
        if getattr(query, name):
            clauses.append(
                f"{name} = %s AND {name} <> ''"
            )  # the second half for the indexes that leave out what is empty
            values.append(getattr(query, name))
    for at, comparison in ((query.since, ">="), (query.until, "<")):
        if at is not None:
            clauses.append(f"at {comparison} %s")
            values.append(milliseconds(at))
    if query.kinds:
        clauses.append("kind = ANY(%s::text[])")
        values.append(list(query.kinds))
    if query.verification_id:
        clauses.append("(entry_id = %s AND entry_id <> '' OR about = %s AND about <> '')")
        values += [query.verification_id] * 2
    if query.persons:
        clauses.append("(person = ANY(%s::text[]) AND person <> '' OR actor = ANY(%s::text[]) AND actor <> '')")
        values += [list(query.persons)] * 2
    return clauses, values


# -- erasing ----------------------------------------------------------------------------------------------------------


def _over(db: Db, parts: Sequence[Part], before: int, between: tuple[int, int]) -> list[tuple[int, int]]:
    """Find what is over, as many as are erased at once: number and part."""
    for window in windows(parts, *between):
        rows = db.execute(
            f"SELECT number, part FROM entries WHERE {window.condition} AND at < %s ORDER BY number LIMIT %s",  # noqa: S608
            (*window.values, before, MAX_ERASED),
        ).fetchall()
        if rows:
            return [(number, part) for number, part in rows]
    return []


def _erase(db: Db, part: int, numbers: Sequence[int], *, is_over: bool) -> None:
    row = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM entries WHERE part = %s LIMIT %s) AS counted", (part, len(numbers) + 1)
    ).fetchone()
    if is_over and row == (len(numbers),):
        drop(db, part)
    else:
        db.execute("DELETE FROM entries WHERE part = %s AND number = ANY(%s::bigint[])", (part, list(numbers)))


def _prune_checkpoints(db: Db, now: datetime) -> None:
    db.execute(
        "DELETE FROM checkpoints WHERE issued_at < %(old)s AND (log_id, size) NOT IN"
        " (SELECT log_id, max(size) FROM checkpoints WHERE issued_at < %(old)s GROUP BY log_id, issued_at / 3600)",
        {"old": seconds(now - KEEP_CHECKPOINTS)},
    )
