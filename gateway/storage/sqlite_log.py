"""The log in the SQLite file: decisions as they become durable, the tree over them, and what was seen of other logs.

Connections are not shared between those who wait for different things: the ledger's writer has one, so that no reader
of a hundred thousand entries keeps a verdict waiting; everything else shares another.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.core.entries import Erasure, Keep, SealedEntry, milliseconds, retention_entry, runs_of, seal
from gateway.core.repeats import is_repeat, remembered
from gateway.storage import (
    Committed,
    ConsentUse,
    EntryQuery,
    Fork,
    HeldCheckpoint,
    LedgerEntry,
    Log,
    Outcome,
    StorageError,
    StoredEntry,
)
from gateway.storage.connection import connect, transaction, wrapped
from gateway.storage.rows import instant, seconds
from gateway.storage.sqlite_entries import COLUMNS, append, begin_log, newest_log, read_entry

_SELECT: Final = f"SELECT {COLUMNS} FROM entries"  # noqa: S608 - our own names
MAX_ERASED: Final = 10_000
"""Entries erased in one transaction: nobody waits long for it."""
MAX_FORKS: Final = 16
"""Proofs kept of one gateway: one that is hostile can sign any number."""
KEEP_CHECKPOINTS: Final = timedelta(hours=2)
"""How long every checkpoint is kept. Of the older ones, the last of each hour stays: those that others cosigned."""
_PRUNE_EVERY: Final = 500


class SqliteLog:
    """Implements ``LedgerStore``, ``LogStore``, ``DisputeStore`` and ``WitnessStore``. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open connections to the file, which ``SqliteStore`` has brought to the newest schema before.

        Raises:
            StorageError: it cannot be opened.
        """
        self._lock = threading.Lock()
        self._ledger_lock = threading.Lock()
        self._until_pruned = 0
        with ExitStack() as opened:
            try:
                self._ledger = opened.enter_context(closing(connect(path)))
                self._connection = opened.enter_context(closing(connect(path)))
            except sqlite3.Error as error:
                raise StorageError(f"{path.name}: {error}") from error
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the connections."""
        with self._lock, self._ledger_lock:
            self._opened.close()

    # -- decisions -----------------------------------------------------------------------------------------------------

    def commit(self, group: Sequence[LedgerEntry]) -> Sequence[Committed]:
        """Write a group of decisions; see ``LedgerStore``."""
        committed: list[Committed] = []
        sealed: list[SealedEntry] = []
        appended = 0
        with self._ledger_lock, transaction(self._ledger) as db:
            head = newest_log(db)
            for item in group:
                outcome = _use(db, item)
                if outcome is Outcome.REPLAYED and item.request:
                    append(db, sealed[appended:])  # what it repeats may be of this group
                    appended = len(sealed)
                    repeated = _find_first(db, head, item)
                    if repeated is not None:
                        committed.append(repeated)
                        continue
                against = None if outcome is Outcome.WRITTEN else item.otherwise
                committed.append(Committed(outcome=outcome, log_id=head.log_id, position=head.size + len(sealed)))
                sealed.append(item.entry if against is None else against(outcome))
            append(db, sealed[appended:])
        return committed

    def forget_replays(self, before: datetime) -> int:
        """Drop lapsed replay keys; see ``LedgerStore``."""
        with self._ledger_lock, transaction(self._ledger) as db:
            return db.execute("DELETE FROM replays WHERE until < ?", (seconds(before),)).rowcount

    def check_writable(self) -> None:
        """Find out whether anything can be written; see ``LedgerStore``."""
        with self._ledger_lock, transaction(self._ledger) as db:
            # SQLite leaves out what would change nothing in a row, but writes the page with this number in any case.
            (version,) = db.execute("PRAGMA user_version").fetchone()
            db.execute(f"PRAGMA user_version = {version}")

    # -- entries -------------------------------------------------------------------------------------------------------

    def logs(self) -> Sequence[Log]:
        """Load all logs; see ``LogStore``."""
        with self._lock, wrapped():
            return self._logs()

    def append(self, entries: Sequence[SealedEntry]) -> None:
        """Write entries; see ``LogStore``."""
        with self._lock, transaction(self._connection) as db:
            append(db, entries)

    def read_entries(self, log_id: str, begin: int, end: int) -> Sequence[StoredEntry]:
        """Load entries by position; see ``LogStore``."""
        with self._lock, wrapped():
            logs = self._logs()
            log = _named(logs, log_id)
            rows = self._connection.execute(
                f"{_SELECT} WHERE number >= ? AND number < ? ORDER BY number",
                (log.first + begin, min(log.first + end, _end_of(log, logs))),
            ).fetchall()
            return [read_entry(row, logs) for row in rows]

    def find_entry(self, entry_id: str) -> StoredEntry | None:
        """Find an entry by its id; see ``LogStore``."""
        with self._lock, wrapped():
            row = self._connection.execute(f"{_SELECT} WHERE entry_id = ? AND entry_id <> ''", (entry_id,)).fetchone()
            return None if row is None else read_entry(row, self._logs())

    def list_entries(
        self, query: EntryQuery, limit: int, after: tuple[str, int] | None = None, *, newest_first: bool = False
    ) -> Sequence[StoredEntry]:
        """Find entries; see ``LogStore``."""
        with self._lock, wrapped():
            logs = self._logs()
            clauses, values = _where(query)
            if after is not None:
                clauses.append(f"number {'<' if newest_first else '>'} ?")
                values.append(_named(logs, after[0]).first + after[1])
            condition = f" WHERE {' AND '.join(clauses)}" if clauses else ""
            order = "DESC" if newest_first else "ASC"
            rows = self._connection.execute(
                f"{_SELECT}{condition} ORDER BY number {order} LIMIT ?", (*values, limit)
            ).fetchall()
            return [read_entry(row, logs) for row in rows]

    def begin_log(self, at: datetime, seen: str, seen_size: int) -> None:
        """Begin another log; see ``LogStore``."""
        with self._lock, transaction(self._connection) as db:
            begin_log(db, at, seen, seen_size)

    def erase(self, keep: Keep, before: datetime, at: datetime) -> Erasure | None:
        """Erase what is over; see ``LogStore``."""
        with self._lock, transaction(self._connection) as db:
            log = self._logs()[-1]
            # Never what is not in the tree yet: its hash would be lost.
            rows = db.execute(
                "SELECT number FROM entries WHERE at < ? AND keep = ? AND number >= ? AND number < ?"
                " ORDER BY number LIMIT ?",
                (milliseconds(before), keep.value, log.first, log.first + log.tree_size, MAX_ERASED),
            ).fetchall()
            runs = runs_of(number - log.first for (number,) in rows)
            if not runs:
                return None
            erasure = Erasure(keep=keep, before=before, positions=runs)
            numbers = [(log.first + run.start, log.first + run.stop) for run in runs]
            # What was put by for a dispute is kept as long as the dispute.
            db.executemany(
                "DELETE FROM evidence WHERE dispute_id IN (SELECT entry_id FROM entries"
                " WHERE number >= ? AND number < ? AND kind = 'dispute')",
                numbers,
            )
            db.executemany("DELETE FROM entries WHERE number >= ? AND number < ?", numbers)
            append(db, [seal(retention_entry(erasure, at=at))])
            return erasure

    def _logs(self) -> Sequence[Log]:
        rows = self._connection.execute("SELECT log_id, first, size, tree_size FROM logs ORDER BY first").fetchall()
        return [Log(log_id=row[0], first=row[1], size=row[2], tree_size=row[3]) for row in rows]

    # -- the tree ------------------------------------------------------------------------------------------------------

    def tile(self, log_id: str, level: int, number: int) -> bytes:
        """Load a tile; see ``LogStore``."""
        with self._lock, wrapped():
            row = self._connection.execute(
                "SELECT hashes FROM tiles WHERE log_id = ? AND level = ? AND number = ?", (log_id, level, number)
            ).fetchone()
        return b"" if row is None else bytes(row[0])

    def save_tree(self, log_id: str, tree_size: int, tiles: Mapping[tuple[int, int], bytes]) -> None:
        """Write tiles; see ``LogStore``."""
        with self._lock, transaction(self._connection) as db:
            db.executemany(
                "INSERT INTO tiles (log_id, level, number, hashes) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (log_id, level, number) DO UPDATE SET hashes = excluded.hashes",
                [(log_id, *place, hashes) for place, hashes in tiles.items()],
            )
            db.execute("UPDATE logs SET tree_size = ? WHERE log_id = ?", (tree_size, log_id))

    def save_checkpoint(self, checkpoint: HeldCheckpoint) -> None:
        """Write a checkpoint; see ``LogStore``."""
        with self._lock, transaction(self._connection) as db:
            db.execute(
                "INSERT INTO checkpoints (log_id, size, issued_at, token) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (log_id, size) DO UPDATE SET issued_at = excluded.issued_at, token = excluded.token",
                (checkpoint.log_id, checkpoint.size, seconds(checkpoint.issued_at), checkpoint.token),
            )
            self._until_pruned -= 1
            if self._until_pruned < 0:
                self._until_pruned = _PRUNE_EVERY
                _prune_checkpoints(db, checkpoint.issued_at)

    def latest_checkpoint(self, log_id: str) -> HeldCheckpoint | None:
        """Load the newest checkpoint; see ``LogStore``."""
        found = self._checkpoints("log_id = ? ORDER BY size DESC LIMIT 1", log_id)
        return found[0] if found else None

    def checkpoints_from(self, log_id: str, size: int, limit: int) -> Sequence[HeldCheckpoint]:
        """Load checkpoints from a size on; see ``LogStore``."""
        return self._checkpoints("log_id = ? AND size >= ? ORDER BY size LIMIT ?", log_id, size, limit)

    def checkpoints_before(self, log_id: str, size: int, limit: int) -> Sequence[HeldCheckpoint]:
        """Load checkpoints up to a size; see ``LogStore``."""
        return self._checkpoints("log_id = ? AND size < ? ORDER BY size DESC LIMIT ?", log_id, size, limit)

    def save_cosignature(self, log_id: str, size: int, witness: str, token: str) -> bool:
        """Write a cosignature; see ``LogStore``."""
        with self._lock, transaction(self._connection) as db:
            if db.execute("SELECT 1 FROM checkpoints WHERE log_id = ? AND size = ?", (log_id, size)).fetchone() is None:
                return False
            db.execute(
                "INSERT INTO cosignatures (log_id, size, witness, token) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (log_id, size, witness) DO UPDATE SET token = excluded.token",
                (log_id, size, witness, token),
            )
        return True

    def _checkpoints(self, condition: str, *values: object) -> list[HeldCheckpoint]:
        with self._lock, wrapped():
            rows = self._connection.execute(
                f"SELECT log_id, size, issued_at, token FROM checkpoints WHERE {condition}",  # noqa: S608 - our own words
                values,
            ).fetchall()
            return [
                HeldCheckpoint(
                    log_id=row[0],
                    size=row[1],
                    issued_at=instant(row[2]),
                    token=row[3],
                    cosignatures=dict(
                        self._connection.execute(
                            "SELECT witness, token FROM cosignatures WHERE log_id = ? AND size = ? ORDER BY witness",
                            (row[0], row[1]),
                        ).fetchall()
                    ),
                )
                for row in rows
            ]

    # -- disputes ------------------------------------------------------------------------------------------------------

    def save_dispute(self, dispute_id: str, evidence: bytes, entry: SealedEntry) -> None:
        """Write a dispute; see ``DisputeStore``."""
        with self._lock, transaction(self._connection) as db:
            db.execute("INSERT INTO evidence (dispute_id, document) VALUES (?, ?)", (dispute_id, evidence))
            append(db, [entry])

    def load_evidence(self, dispute_id: str) -> bytes | None:
        """Load the evidence of a dispute; see ``DisputeStore``."""
        with self._lock, wrapped():
            row = self._connection.execute(
                "SELECT document FROM evidence WHERE dispute_id = ?", (dispute_id,)
            ).fetchone()
        return None if row is None else bytes(row[0])

    # -- other gateways' logs ------------------------------------------------------------------------------------------

    def load_seen(self, gateway: str) -> Sequence[HeldCheckpoint]:
        """Load what was seen of a gateway; see ``WitnessStore``."""
        with self._lock, wrapped():
            rows = self._connection.execute(
                "SELECT log_id, size, issued_at, token FROM seen WHERE gateway = ? ORDER BY position", (gateway,)
            ).fetchall()
        return [
            HeldCheckpoint(log_id=row[0], size=row[1], issued_at=instant(row[2]), token=row[3], cosignatures={})
            for row in rows
        ]

    def save_seen(self, gateway: str, checkpoint: HeldCheckpoint) -> None:
        """Write what was seen; see ``WitnessStore``."""
        with self._lock, transaction(self._connection) as db:
            db.execute(
                "INSERT INTO seen (gateway, log_id, size, issued_at, token) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (gateway, log_id) DO UPDATE SET size = excluded.size, issued_at = excluded.issued_at,"
                " token = excluded.token WHERE excluded.size > size",
                (gateway, checkpoint.log_id, checkpoint.size, seconds(checkpoint.issued_at), checkpoint.token),
            )

    def save_fork(self, fork: Fork) -> None:
        """Write a proof; see ``WitnessStore``."""
        with self._lock, transaction(self._connection) as db:
            (held,) = db.execute("SELECT count(*) FROM forks WHERE gateway = ?", (fork.gateway,)).fetchone()
            if held < MAX_FORKS:
                db.execute(
                    "INSERT INTO forks (gateway, kind, found_at, seen, shown) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT DO NOTHING",
                    (fork.gateway, fork.kind, seconds(fork.found_at), fork.seen, fork.shown),
                )

    def load_forks(self) -> Sequence[Fork]:
        """Load all proofs; see ``WitnessStore``."""
        with self._lock, wrapped():
            rows = self._connection.execute(
                "SELECT gateway, kind, found_at, seen, shown FROM forks ORDER BY position"
            ).fetchall()
        return [Fork(gateway=row[0], kind=row[1], found_at=instant(row[2]), seen=row[3], shown=row[4]) for row in rows]


def _use(db: sqlite3.Connection, item: LedgerEntry) -> Outcome:
    """Use up what a decision uses up, and say what speaks against it."""
    if item.replay_key is not None and item.replay_until is not None:
        cursor = db.execute(
            "INSERT INTO replays (replay_key, until, request, entry_id) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                item.replay_key,
                seconds(item.replay_until),
                remembered(item.request, item.entry.raw),
                item.entry.index.entry_id,
            ),
        )
        if cursor.rowcount == 0:
            return Outcome.REPLAYED
    return Outcome.WRITTEN if item.consent is None else _use_consent(db, item.consent)


def _find_first(db: sqlite3.Connection, log: Log, item: LedgerEntry) -> Committed | None:
    """Find the decision that a used-up key was used up by, if this one repeats it."""
    held = db.execute("SELECT request, entry_id FROM replays WHERE replay_key = ?", (item.replay_key,)).fetchone()
    if held is None:
        return None
    request, entry_id = held
    row = db.execute(
        f"{_SELECT} WHERE entry_id = ? AND entry_id <> '' AND number >= ?", (entry_id, log.first)
    ).fetchone()
    first = None if row is None else read_entry(row, [log])
    if first is None or not is_repeat(item.request, item.entry, request, first.raw):
        return None
    if item.consent is not None and _use_consent(db, item.consent) is not Outcome.WRITTEN:
        return None
    return Committed(outcome=Outcome.REPEATED, log_id=first.log_id, position=first.position, first=first.raw)


def _use_consent(db: sqlite3.Connection, consent: ConsentUse) -> Outcome:
    cursor = db.execute(
        "UPDATE consents SET subject = ?1 WHERE consent_id = ?2 AND withdrawn_at IS NULL AND subject IN ('', ?1, ?3)",
        (consent.subject, consent.consent_id, consent.previous_subject),
    )
    if cursor.rowcount == 1:
        return Outcome.WRITTEN
    row = db.execute(
        "SELECT 1 FROM consents WHERE consent_id = ? AND withdrawn_at IS NULL", (consent.consent_id,)
    ).fetchone()
    return Outcome.CONSENT_WITHDRAWN if row is None else Outcome.CONSENT_OF_ANOTHER


def _named(logs: Sequence[Log], log_id: str) -> Log:
    for log in logs:
        if log.log_id == log_id:
            return log
    raise StorageError("there is no such log")


def _end_of(log: Log, logs: Sequence[Log]) -> int:
    """Give the number before which a log's entries end: where the next log begins."""
    return min((each.first for each in logs if each.first > log.first), default=2**62)


def _where(query: EntryQuery) -> tuple[list[str], list[object]]:
    clauses: list[str] = []
    values: list[object] = []
    for name in ("about", "service", "matter", "verdict", "reason", "issuer", "kid"):
        if getattr(query, name):
            # The second half lets SQLite use the index that leaves out what is empty.
            clauses.append(f"{name} = ? AND {name} <> ''")
            values.append(getattr(query, name))
    for at, comparison in ((query.since, ">="), (query.until, "<")):
        if at is not None:
            clauses.append(f"at {comparison} ?")
            values.append(milliseconds(at))
    if query.kinds:
        clauses.append(f"kind IN ({', '.join('?' * len(query.kinds))})")
        values += query.kinds
        if "verification" not in query.kinds:
            clauses.append("kind <> 'verification'")
    if query.verification_id:
        clauses.append("(entry_id = ? AND entry_id <> '' OR about = ? AND about <> '')")
        values += [query.verification_id] * 2
    if query.persons:
        marks = ", ".join("?" * len(query.persons))
        clauses.append(f"(person IN ({marks}) AND person <> '' OR actor IN ({marks}) AND actor <> '')")
        values += query.persons * 2
    return clauses, values


def _prune_checkpoints(db: sqlite3.Connection, now: datetime) -> None:
    old = seconds(now - KEEP_CHECKPOINTS)
    db.execute(
        "DELETE FROM checkpoints WHERE issued_at < ?1 AND (log_id, size) NOT IN"
        " (SELECT log_id, max(size) FROM checkpoints WHERE issued_at < ?1 GROUP BY log_id, issued_at / 3600)",
        (old,),
    )
    db.execute(
        "DELETE FROM cosignatures WHERE NOT EXISTS (SELECT 1 FROM checkpoints"
        " WHERE checkpoints.log_id = cosignatures.log_id AND checkpoints.size = cosignatures.size)"
    )
