"""SQLite: the default store. Needs nothing, loses nothing.

Write-ahead log with ``synchronous=FULL``: a commit that was acknowledged survives ``kill -9`` and loss of power.
The log has connections of its own (``sqlite_log``); everything here shares one, under a lock. What changes who is
trusted is in the log as well: entries are written in the transaction that makes the change.
Columns are always named, so that a database written by a newer version can still be read.

A backup that was put back looks like any database. So what must not be forgotten counts its changes, and the highest
count is also written beside the database, where no backup of it reaches. A database that is behind that mark, or has
none, was put back; it says so itself until its owner has made good what it lacks. The mark is written after the commit:
who is killed between the two finds a database ahead of its mark, and that is an intact one.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.core.consent import Consent
from gateway.core.entries import SealedEntry, TrustChange, seal, trust_entry
from gateway.core.key_schedule import KeyRecord
from gateway.core.memory import Documents, Equivocation, Revocation, RevocationReason, TrustMemory, Withdrawal
from gateway.core.vouching import MemberRecord
from gateway.storage import KeyEvent, Override, StorageError
from gateway.storage.connection import connect, snapshot, transaction, wrapped
from gateway.storage.mark import SUFFIX, Mark
from gateway.storage.rows import (
    KEY_COLUMNS,
    MAX_VIEW_AGE,
    MAX_VIEWS,
    PRUNE_VIEWS_EVERY,
    instant,
    key_row,
    maybe_instant,
    maybe_seconds,
    member,
    milliseconds,
    read_key,
    read_member,
    seconds,
)
from gateway.storage.schema import MIGRATIONS
from gateway.storage.sqlite_entries import append, begin_log

_SELECT_KEYS: Final = f"SELECT {', '.join(KEY_COLUMNS)} FROM keys ORDER BY position"  # noqa: S608 - our own names
# What signing wrote meanwhile is not undone by whoever read the record before.
_UPSERT_KEY: Final = (  # names of columns, all ours
    f"INSERT INTO keys ({', '.join(KEY_COLUMNS)}) VALUES ({', '.join('?' * len(KEY_COLUMNS))})"  # noqa: S608
    " ON CONFLICT (kid) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in KEY_COLUMNS if name not in ("kid", "signed_until"))
)


class SqliteStore:
    """One SQLite file; implements what is neither the log nor about status lists."""

    def __init__(self, path: Path) -> None:
        """Open or create the file and bring it to the newest schema.

        Raises:
            StorageError: the file cannot be opened, is not ours, or was written by a newer version.
        """
        self._path = path
        self._mark = Mark(path.with_name(path.name + SUFFIX), path)
        self._views_until_pruned = 0
        self._lock = threading.Lock()
        with ExitStack() as opened:
            self._open(path, opened)
            self._opened = opened.pop_all()

    def _open(self, path: Path, opened: ExitStack) -> None:
        try:
            # Who verifies what, and when, is for the owner's eyes; SQLite gives its side files the same mode.
            path.touch(mode=0o600, exist_ok=True)
            self._connection = opened.enter_context(closing(connect(self._path)))
            self._migrate()
            self._restored = self._compare_with_mark()
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{path.name}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._opened.close()

    # -- lineage -------------------------------------------------------------------------------------------------------

    @property
    def is_restored(self) -> bool:
        """Whether it is a backup put back; see ``Lineage``."""
        if not self._restored:
            return False
        try:
            with self._lock, wrapped():
                restored, settled = self._connection.execute("SELECT restored, settled FROM lineage").fetchone()
        except StorageError:
            return True
        if settled != self._settled and not restored:
            self._restored = False  # another process has made it good
        return self._restored

    def settle_restored(self, at: datetime) -> None:
        """Be whole again, unless another process has seen to it; see ``Lineage``."""
        with self._lock:
            with transaction(self._connection) as db:
                (settled,) = db.execute("SELECT settled FROM lineage").fetchone()
                generation = self._settle(db, at) if settled == self._settled else None
            self._restored = False
            if generation is not None:
                self._mark.write(generation)

    def _settle(self, db: sqlite3.Connection, at: datetime) -> int:
        # Beyond what the one that was lost had reached: from here on this is the newer of the two.
        db.execute(
            "UPDATE lineage SET restored = 0, generation = max(generation, ?1) + 1, settled = max(generation, ?1) + 1",
            (self._mark.read() or 0,),
        )
        (generation,) = db.execute("SELECT generation FROM lineage").fetchone()
        # Nobody can say which were withdrawn since: those that stand are signed, and can be recorded anew.
        db.execute("DELETE FROM consents")
        begin_log(db, at)
        return int(generation)

    def _compare_with_mark(self) -> bool:
        # The mark first: another process may be writing both, and must not look as if it had gone backwards.
        mark = self._mark.read()
        generation, restored, self._settled = self._connection.execute(
            "SELECT generation, restored, settled FROM lineage"
        ).fetchone()
        if mark is None and generation == 0:
            self._mark.write(0)  # new, or from before there were marks
            return False
        return bool(restored) or mark is None or generation < mark

    @contextmanager
    def _durable_change(self) -> Iterator[sqlite3.Connection]:
        """One transaction that changes what must not be forgotten; the mark follows it."""
        with transaction(self._connection) as db:
            yield db
            generation = self.count_change(db)
        self.note_change(generation)

    def count_change(self, db: sqlite3.Connection) -> int:
        """Count a change of what must not be forgotten, in the transaction that makes it; gives the count.

        For those who have tables of their own in this file. ``note_change`` follows the commit.
        """
        # A backup put back goes on counting, and would look intact once it had passed the mark: so it is noted.
        db.execute(
            "UPDATE lineage SET generation = generation + 1, restored = max(restored, ? AND settled = ?)",
            (int(self._restored), self._settled),
        )
        generation: int = db.execute("SELECT generation FROM lineage").fetchone()[0]
        return generation

    def note_change(self, generation: int) -> None:
        """Raise the mark beside the file to a count that was committed."""
        self._mark.write(generation)

    # -- consents ------------------------------------------------------------------------------------------------------

    def save_consent(self, consent: Consent, log: Sequence[SealedEntry] = ()) -> None:
        """Write a consent; see ``ConsentStore``."""
        with self._lock, transaction(self._connection) as db:
            append(db, log)
            db.execute(
                "INSERT INTO consents (consent_id, service, matter, claims, recorded_at, expires_at, subject)"
                " VALUES (?, ?, ?, ?, ?, ?, '')",
                (
                    consent.consent_id,
                    consent.service,
                    consent.matter,
                    json.dumps(sorted(consent.claims)),
                    seconds(consent.recorded_at),
                    seconds(consent.expires_at),
                ),
            )

    def load_consent(self, consent_id: str) -> Consent | None:
        """Load a consent; see ``ConsentStore``."""
        with self._lock, wrapped():
            row = self._connection.execute(
                "SELECT service, matter, claims, recorded_at, expires_at, withdrawn_at FROM consents"
                " WHERE consent_id = ?",
                (consent_id,),
            ).fetchone()
        if row is None:
            return None
        return Consent(
            consent_id=consent_id,
            service=row[0],
            matter=row[1],
            claims=frozenset(json.loads(row[2])),
            recorded_at=instant(row[3]),
            expires_at=instant(row[4]),
            withdrawn_at=maybe_instant(row[5]),
        )

    def withdraw_consent(
        self, consent_id: str, service: str, at: datetime, log: Sequence[SealedEntry] = ()
    ) -> datetime | None:
        """Note that a consent was withdrawn; see ``ConsentStore``."""
        with self._lock, self._durable_change() as db:
            cursor = db.execute(
                "UPDATE consents SET withdrawn_at = ? WHERE consent_id = ? AND service = ? AND withdrawn_at IS NULL",
                (seconds(at), consent_id, service),
            )
            if cursor.rowcount:
                append(db, log)
            row = db.execute(
                "SELECT withdrawn_at FROM consents WHERE consent_id = ? AND service = ?", (consent_id, service)
            ).fetchone()
        return None if row is None else instant(row[0])

    # -- trust ---------------------------------------------------------------------------------------------------------

    def load_memory(self) -> TrustMemory:
        """Load what is remembered; see ``TrustStore``."""
        with self._lock, snapshot(self._connection) as db:
            read = db.execute
            floor = read("SELECT at FROM clock_floor").fetchone()
            return TrustMemory(
                documents={
                    (issuer, subject): token
                    for issuer, subject, token in read("SELECT issuer, subject, token FROM documents")
                },
                events=dict(read("SELECT member, token FROM events").fetchall()),
                revocations={
                    (member, kid): Revocation(
                        revoked_at=instant(at),
                        reason=RevocationReason(reason),
                        compromised_since=maybe_instant(since),
                        attested=bool(attested),
                    )
                    for member, kid, at, reason, since, attested in read(
                        "SELECT member, kid, revoked_at, reason, compromised_since, attested FROM revocations"
                    )
                },
                withdrawals={
                    (anchor, signer, member): Withdrawal(revoked_at=instant(at), reason=reason)
                    for anchor, signer, member, at, reason in read(
                        "SELECT anchor, signer, member, revoked_at, reason FROM withdrawals"
                    )
                },
                equivocations={
                    (anchor, signer): Equivocation(one=one, other=other)
                    for anchor, signer, one, other in read("SELECT anchor, signer, one, other FROM equivocations")
                },
                clock_floor=None if floor is None else instant(floor[0]),
            )

    def save_memory(self, change: TrustMemory, log: Sequence[SealedEntry] = ()) -> None:
        """Add to what is remembered; see ``TrustStore``."""
        with self._lock, self._durable_change() as db:
            append(db, log)
            _save_documents(db, change.documents)
            db.executemany(
                "INSERT INTO events (member, token) VALUES (?, ?)"
                " ON CONFLICT (member) DO UPDATE SET token = excluded.token",
                list(change.events.items()),
            )
            db.executemany(
                # Sticky, but that it may get graver; see ``memory.joined``.
                "INSERT INTO revocations (member, kid, revoked_at, reason, compromised_since, attested)"
                " VALUES (?, ?, ?, ?, ?, 0)"
                " ON CONFLICT (member, kid) DO UPDATE SET revoked_at = excluded.revoked_at, reason = excluded.reason,"
                " compromised_since = excluded.compromised_since"
                " WHERE reason = 'superseded'"
                " AND (excluded.reason = 'compromised' OR excluded.revoked_at < revoked_at)",
                [
                    (*place, seconds(each.revoked_at), each.reason.value, maybe_seconds(each.compromised_since))
                    for place, each in change.revocations.items()
                ],
            )
            db.executemany(
                "UPDATE revocations SET attested = 1 WHERE member = ? AND kid = ?",
                [place for place, each in change.revocations.items() if each.attested],
            )
            db.executemany(
                "INSERT INTO withdrawals (anchor, signer, member, revoked_at, reason) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                [(*place, seconds(each.revoked_at), each.reason) for place, each in change.withdrawals.items()],
            )
            db.executemany(
                "INSERT INTO equivocations (anchor, signer, one, other) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(*place, each.one, each.other) for place, each in change.equivocations.items()],
            )
            if change.clock_floor is not None:
                db.execute(
                    "INSERT INTO clock_floor (only, at) VALUES (0, ?)"
                    " ON CONFLICT (only) DO UPDATE SET at = max(at, excluded.at)",
                    (seconds(change.clock_floor),),
                )

    def reset_clock_floor(self, log: Sequence[SealedEntry] = ()) -> None:
        """Forget the clock floor; see ``TrustStore``."""
        with self._lock, transaction(self._connection) as db:
            append(db, log)
            db.execute("DELETE FROM clock_floor")

    def load_charters(self) -> Mapping[int, str]:
        """Load the charters held; see ``TrustStore``."""
        with self._lock, wrapped():
            rows = self._connection.execute("SELECT version, document FROM charters ORDER BY version").fetchall()
        return dict(rows)

    def load_charter(self, version: int) -> str | None:
        """Load one charter; see ``TrustStore``."""
        with self._lock, wrapped():
            row = self._connection.execute("SELECT document FROM charters WHERE version = ?", (version,)).fetchone()
        return None if row is None else str(row[0])

    def save_charter(self, version: int, document: str, log: Sequence[SealedEntry] = ()) -> None:
        """Write a charter; see ``TrustStore``."""
        if self.load_charter(version) is not None:
            return  # as at each start: nothing changes
        with self._lock, self._durable_change() as db:
            cursor = db.execute(
                "INSERT INTO charters (version, document) VALUES (?, ?) ON CONFLICT DO NOTHING", (version, document)
            )
            if cursor.rowcount:
                append(db, log)

    def save_view(self, taken_at: datetime, summary: str) -> None:
        """Remember a view; see ``TrustStore``. What is too old, or too much, goes."""
        with self._lock, transaction(self._connection) as db:
            if self._views_until_pruned <= 0:
                _prune_views(db, taken_at)
                self._views_until_pruned = PRUNE_VIEWS_EVERY
            self._views_until_pruned -= 1
            last = db.execute("SELECT summary FROM views ORDER BY taken_at DESC LIMIT 1").fetchone()
            if last is None or last[0] != summary:
                db.execute(
                    "INSERT INTO views (taken_at, summary) VALUES (?, ?)"
                    " ON CONFLICT (taken_at) DO UPDATE SET summary = excluded.summary",
                    (milliseconds(taken_at), summary),
                )

    def load_view(self, at: datetime) -> tuple[datetime, str] | None:
        """Give the view in force at a time; see ``TrustStore``."""
        with self._lock, wrapped():
            row = self._connection.execute(
                "SELECT taken_at, summary FROM views WHERE taken_at <= ? ORDER BY taken_at DESC LIMIT 1",
                (milliseconds(at),),
            ).fetchone()
        return None if row is None else (datetime.fromtimestamp(row[0] / 1000, UTC), row[1])

    # -- anchor --------------------------------------------------------------------------------------------------------

    def load_members(self) -> Mapping[str, MemberRecord]:
        """Load what the anchor remembers; see ``AnchorStore``."""
        with self._lock, wrapped():
            rows = self._connection.execute("SELECT member, record FROM members").fetchall()
        return {name: read_member(json.loads(record)) for name, record in rows}

    def save_anchor(
        self, members: Mapping[str, MemberRecord], documents: Documents, log: Sequence[SealedEntry] = ()
    ) -> None:
        """Write what the anchor remembers and says; see ``AnchorStore``."""
        with self._lock, self._durable_change() as db:
            append(db, log)
            db.executemany(
                "INSERT INTO members (member, record) VALUES (?, ?)"
                " ON CONFLICT (member) DO UPDATE SET record = excluded.record",
                [(name, json.dumps(member(record))) for name, record in members.items()],
            )
            _save_documents(db, documents)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def load_keys(self) -> Sequence[KeyRecord]:
        """Load the keys; see ``KeyStateStore``."""
        with self._lock, wrapped():
            rows = self._connection.execute(_SELECT_KEYS).fetchall()
        return [read_key(row) for row in rows]

    def save_keys(self, keys: Sequence[KeyRecord], events: Sequence[KeyEvent], request_id: str = "") -> None:
        """Write keys and what happened to them; see ``KeyStateStore``."""
        with self._lock, self._durable_change() as db:
            append(db, [_key_entry(each) for each in events])
            db.executemany(_UPSERT_KEY, [key_row(key) for key in keys])
            db.executemany(
                "INSERT INTO key_events (at, kid, purpose, event, administrator, detail) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (seconds(each.at), each.kid, each.purpose, each.event, each.administrator, each.detail)
                    for each in events
                ],
            )
            if request_id:
                db.execute(
                    "INSERT INTO requests (request_id, done_at) VALUES (?, ?)",
                    (request_id, max((seconds(each.at) for each in events), default=0)),
                )

    def raise_signed_until(self, kid: str, until: datetime) -> None:
        """Note until when what a key signs is valid; see ``KeyStateStore``."""
        with self._lock, transaction(self._connection) as db:
            db.execute(
                "UPDATE keys SET signed_until = max(coalesce(signed_until, 0), ?) WHERE kid = ?", (seconds(until), kid)
            )

    def is_done(self, request_id: str) -> bool:
        """Whether a request was carried out; see ``KeyStateStore``."""
        with self._lock, wrapped():
            row = self._connection.execute("SELECT 1 FROM requests WHERE request_id = ?", (request_id,)).fetchone()
        return row is not None

    def load_key_events(self, kid: str | None = None) -> Sequence[KeyEvent]:
        """Load the history; see ``KeyStateStore``."""
        with self._lock, wrapped():
            rows = self._connection.execute(
                "SELECT at, kid, purpose, event, administrator, detail FROM key_events"
                " WHERE ?1 IS NULL OR kid = ?1 ORDER BY position",
                (kid,),
            ).fetchall()
        return [
            KeyEvent(at=instant(at), kid=of, purpose=purpose, event=event, administrator=who, detail=detail)
            for at, of, purpose, event, who, detail in rows
        ]

    def load_override(self, kid: str) -> Override | None:
        """Load a wish; see ``KeyStateStore``."""
        with self._lock, wrapped():
            row = self._connection.execute(
                "SELECT administrator, justification, asked_at FROM overrides WHERE kid = ?", (kid,)
            ).fetchone()
        if row is None:
            return None
        return Override(kid=kid, administrator=row[0], justification=row[1], asked_at=instant(row[2]))

    def save_override(self, override: Override) -> None:
        """Write a wish; see ``KeyStateStore``."""
        with self._lock, transaction(self._connection) as db:
            db.execute(
                "INSERT INTO overrides (kid, administrator, justification, asked_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (kid) DO UPDATE SET administrator = excluded.administrator,"
                " justification = excluded.justification, asked_at = excluded.asked_at",
                (override.kid, override.administrator, override.justification, seconds(override.asked_at)),
            )

    def accepted_count(self, issuer: str, kid: str, since: datetime | None) -> int:
        """Count what was accepted; see ``KeyStateStore``."""
        with self._lock, wrapped():
            row = self._connection.execute(
                "SELECT count(*) FROM entries WHERE verdict = 'accepted' AND issuer = ? AND kid = ? AND at >= ?",
                (issuer, kid, 0 if since is None else milliseconds(since)),
            ).fetchone()
        count: int = row[0]
        return count

    # -- connections ---------------------------------------------------------------------------------------------------

    def _migrate(self) -> None:
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise StorageError(f"{self._path.name}: written by a newer version of this program (schema {version})")
        for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
            if isinstance(step, str):
                self._connection.executescript(f"BEGIN IMMEDIATE;\n{step}\nPRAGMA user_version = {number};\nCOMMIT;")
                continue
            with transaction(self._connection) as db:
                step(db)
                db.execute(f"PRAGMA user_version = {number}")


def _key_entry(event: KeyEvent) -> SealedEntry:
    return seal(
        trust_entry(
            TrustChange.KEY,
            at=event.at,
            subject=f"{event.purpose}.{event.kid}",
            event=event.event,
            administrator=event.administrator,
            detail=event.detail,
        )
    )


def _save_documents(db: sqlite3.Connection, documents: Documents) -> None:
    db.executemany(
        "INSERT INTO documents (issuer, subject, token) VALUES (?, ?, ?)"
        " ON CONFLICT (issuer, subject) DO UPDATE SET token = excluded.token",
        [(issuer, subject, token) for (issuer, subject), token in documents.items()],
    )


def _prune_views(db: sqlite3.Connection, now: datetime) -> None:
    # The last before the limit stays: it says what was in force at the limit.
    db.execute(
        "DELETE FROM views WHERE taken_at < (SELECT max(taken_at) FROM views WHERE taken_at <= ?)",
        (milliseconds(now - MAX_VIEW_AGE),),
    )
    db.execute(
        "DELETE FROM views WHERE taken_at <= (SELECT taken_at FROM views ORDER BY taken_at DESC LIMIT 1 OFFSET ?)",
        (MAX_VIEWS,),
    )
