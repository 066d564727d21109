"""PostgreSQL: for several gateways, or several processes of one, on one database.

A commit that was acknowledged survives a crash of the server, as far as the server's own settings promise (``fsync``,
standbys). The log has connections of its own (``postgres_ledger``, ``postgres_log``). What changes who is trusted is in
the log as well: entries are written in the transaction that makes the change.
Columns are always named, so that a database written by a newer version can still be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from gateway.core.consent import Consent
from gateway.core.entries import Keep, SealedEntry, TrustChange, day_of, seal, trust_entry
from gateway.core.key_schedule import KeyRecord
from gateway.core.memory import Documents, Equivocation, Revocation, RevocationReason, TrustMemory, Withdrawal
from gateway.core.vouching import MemberRecord
from gateway.storage import KeyEvent, Override
from gateway.storage.postgres_changes import Changes
from gateway.storage.postgres_connection import Db, Session
from gateway.storage.postgres_entries import lock_head, number_of
from gateway.storage.postgres_lineage import PostgresLineage
from gateway.storage.postgres_log import begin_log
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

_SELECT_KEYS: Final = f"SELECT {', '.join(KEY_COLUMNS)} FROM keys ORDER BY position"  # noqa: S608 - our own names
# What signing wrote meanwhile is not undone by whoever read the record before.
_UPSERT_KEY: Final = (  # names of columns, all ours
    f"INSERT INTO keys ({', '.join(KEY_COLUMNS)}) VALUES ({', '.join(['%s'] * len(KEY_COLUMNS))})"  # noqa: S608
    " ON CONFLICT (kid) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in KEY_COLUMNS if name not in ("kid", "signed_until"))
)


class PostgresStore:
    """One database; implements what is neither the log nor about status lists. Thread-safe."""

    def __init__(self, session: Session, changes: Changes, lineage: PostgresLineage) -> None:
        """Use a connection to a database that has the newest schema and was compared with its mark."""
        self._session = session
        self._changes = changes
        self._lineage = lineage
        self._views_until_pruned = 0

    # -- lineage -------------------------------------------------------------------------------------------------------

    @property
    def is_restored(self) -> bool:
        """Whether it is a backup put back; see ``Lineage``."""
        return self._lineage.is_restored(self._session)

    def settle_restored(self, at: datetime) -> None:
        """Be whole again, unless another process has seen to it; see ``Lineage``."""
        with self._session.transaction() as db:
            lock_head(db)
            generation = self._lineage.settle(db)
            if generation is not None:
                # Nobody can say which were withdrawn since: those that stand are signed, and can be recorded anew.
                db.execute("DELETE FROM consents")
                begin_log(db, at)
        self._lineage.note_settled(generation)

    # -- consents ------------------------------------------------------------------------------------------------------

    def save_consent(self, consent: Consent, log: Sequence[SealedEntry] = ()) -> None:
        """Write a consent; see ``ConsentStore``."""
        with self._changes.uncounted(log) as (db, write_log):
            write_log()
            db.execute(
                "INSERT INTO consents (consent_id, service, matter, claims, recorded_at, expires_at, subject)"
                " VALUES (%s, %s, %s, %s, %s, %s, '')",
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
        with self._session.statement() as db:
            row = db.execute(
                "SELECT service, matter, claims, recorded_at, expires_at, withdrawn_at FROM consents"
                " WHERE consent_id = %s",
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
        with self._changes.undecided(log) as (db, write_log):
            cursor = db.execute(
                "UPDATE consents SET withdrawn_at = %s WHERE consent_id = %s AND service = %s AND withdrawn_at IS NULL",
                (seconds(at), consent_id, service),
            )
            if cursor.rowcount:
                write_log()
            row = db.execute(
                "SELECT withdrawn_at FROM consents WHERE consent_id = %s AND service = %s", (consent_id, service)
            ).fetchone()
        return None if row is None else instant(row[0])

    # -- trust ---------------------------------------------------------------------------------------------------------

    def load_memory(self) -> TrustMemory:
        """Load what is remembered; see ``TrustStore``."""
        with self._session.snapshot() as db:
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
                        attested=attested,
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
        with self._changes.durable(log) as db:
            _save_documents(db, change.documents)
            db.cursor().executemany(
                "INSERT INTO events (member, token) VALUES (%s, %s)"
                " ON CONFLICT (member) DO UPDATE SET token = excluded.token",
                list(change.events.items()),
            )
            db.cursor().executemany(
                # Sticky, but that it may get graver; see ``memory.joined``.
                "INSERT INTO revocations (member, kid, revoked_at, reason, compromised_since, attested)"
                " VALUES (%s, %s, %s, %s, %s, false)"
                " ON CONFLICT (member, kid) DO UPDATE SET revoked_at = excluded.revoked_at, reason = excluded.reason,"
                " compromised_since = excluded.compromised_since"
                " WHERE revocations.reason = 'superseded'"
                " AND (excluded.reason = 'compromised' OR excluded.revoked_at < revocations.revoked_at)",
                [
                    (*place, seconds(each.revoked_at), each.reason.value, maybe_seconds(each.compromised_since))
                    for place, each in change.revocations.items()
                ],
            )
            db.cursor().executemany(
                "UPDATE revocations SET attested = true WHERE member = %s AND kid = %s",
                [place for place, each in change.revocations.items() if each.attested],
            )
            db.cursor().executemany(
                "INSERT INTO withdrawals (anchor, signer, member, revoked_at, reason) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                [(*place, seconds(each.revoked_at), each.reason) for place, each in change.withdrawals.items()],
            )
            db.cursor().executemany(
                "INSERT INTO equivocations (anchor, signer, one, other) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [(*place, each.one, each.other) for place, each in change.equivocations.items()],
            )
            if change.clock_floor is not None:
                db.execute(
                    "INSERT INTO clock_floor (single, at) VALUES (true, %s)"
                    " ON CONFLICT (single) DO UPDATE SET at = greatest(clock_floor.at, excluded.at)",
                    (seconds(change.clock_floor),),
                )

    def reset_clock_floor(self, log: Sequence[SealedEntry] = ()) -> None:
        """Forget the clock floor; see ``TrustStore``."""
        with self._changes.uncounted(log) as (db, write_log):
            write_log()
            db.execute("DELETE FROM clock_floor")

    def load_charters(self) -> Mapping[int, str]:
        """Load the charters held; see ``TrustStore``."""
        with self._session.statement() as db:
            rows = db.execute("SELECT version, document FROM charters ORDER BY version").fetchall()
        return dict(rows)

    def load_charter(self, version: int) -> str | None:
        """Load one charter; see ``TrustStore``."""
        with self._session.statement() as db:
            row = db.execute("SELECT document FROM charters WHERE version = %s", (version,)).fetchone()
        return None if row is None else str(row[0])

    def save_charter(self, version: int, document: str, log: Sequence[SealedEntry] = ()) -> None:
        """Write a charter; see ``TrustStore``."""
        if self.load_charter(version) is not None:
            return  # as at each start: nothing changes
        with self._changes.undecided(log) as (db, write_log):
            cursor = db.execute(
                "INSERT INTO charters (version, document) VALUES (%s, %s) ON CONFLICT DO NOTHING", (version, document)
            )
            if cursor.rowcount:
                write_log()

    def save_view(self, taken_at: datetime, summary: str) -> None:
        """Remember a view; see ``TrustStore``. What is too old, or too much, goes."""
        with self._session.transaction() as db:
            if self._views_until_pruned <= 0:
                _prune_views(db, taken_at)
                self._views_until_pruned = PRUNE_VIEWS_EVERY
            self._views_until_pruned -= 1
            last = db.execute("SELECT summary FROM views ORDER BY taken_at DESC LIMIT 1").fetchone()
            if last is None or last[0] != summary:
                db.execute(
                    "INSERT INTO views (taken_at, summary) VALUES (%s, %s)"
                    " ON CONFLICT (taken_at) DO UPDATE SET summary = excluded.summary",
                    (milliseconds(taken_at), summary),
                )

    def load_view(self, at: datetime) -> tuple[datetime, str] | None:
        """Give the view in force at a time; see ``TrustStore``."""
        with self._session.statement() as db:
            row = db.execute(
                "SELECT taken_at, summary FROM views WHERE taken_at <= %s ORDER BY taken_at DESC LIMIT 1",
                (milliseconds(at),),
            ).fetchone()
        return None if row is None else (datetime.fromtimestamp(row[0] / 1000, UTC), row[1])

    # -- anchor --------------------------------------------------------------------------------------------------------

    def load_members(self) -> Mapping[str, MemberRecord]:
        """Load what the anchor remembers; see ``AnchorStore``."""
        with self._session.statement() as db:
            rows = db.execute("SELECT member, record FROM members").fetchall()
        return {name: read_member(json.loads(record)) for name, record in rows}

    def save_anchor(
        self, members: Mapping[str, MemberRecord], documents: Documents, log: Sequence[SealedEntry] = ()
    ) -> None:
        """Write what the anchor remembers and says; see ``AnchorStore``."""
        with self._changes.durable(log) as db:
            db.cursor().executemany(
                "INSERT INTO members (member, record) VALUES (%s, %s)"
                " ON CONFLICT (member) DO UPDATE SET record = excluded.record",
                [(name, json.dumps(member(record))) for name, record in members.items()],
            )
            _save_documents(db, documents)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def load_keys(self) -> Sequence[KeyRecord]:
        """Load the keys; see ``KeyStateStore``."""
        with self._session.statement() as db:
            rows = db.execute(_SELECT_KEYS).fetchall()
        return [read_key(row) for row in rows]

    def save_keys(self, keys: Sequence[KeyRecord], events: Sequence[KeyEvent], request_id: str = "") -> None:
        """Write keys and what happened to them; see ``KeyStateStore``."""
        with self._changes.durable([_key_entry(each) for each in events]) as db:
            db.cursor().executemany(_UPSERT_KEY, [key_row(key) for key in keys])
            db.cursor().executemany(
                "INSERT INTO key_events (at, kid, purpose, event, administrator, detail)"
                " VALUES (%s, %s, %s, %s, %s, %s)",
                [
                    (seconds(each.at), each.kid, each.purpose, each.event, each.administrator, each.detail)
                    for each in events
                ],
            )
            if request_id:
                db.execute(
                    "INSERT INTO requests (request_id, done_at) VALUES (%s, %s)",
                    (request_id, max((seconds(each.at) for each in events), default=0)),
                )

    def raise_signed_until(self, kid: str, until: datetime) -> None:
        """Note until when what a key signs is valid; see ``KeyStateStore``."""
        with self._session.transaction() as db:
            db.execute(
                "UPDATE keys SET signed_until = greatest(signed_until, %s) WHERE kid = %s", (seconds(until), kid)
            )

    def is_done(self, request_id: str) -> bool:
        """Whether a request was carried out; see ``KeyStateStore``."""
        with self._session.statement() as db:
            row = db.execute("SELECT 1 FROM requests WHERE request_id = %s", (request_id,)).fetchone()
        return row is not None

    def load_key_events(self, kid: str | None = None) -> Sequence[KeyEvent]:
        """Load the history; see ``KeyStateStore``."""
        with self._session.statement() as db:
            rows = db.execute(
                "SELECT at, kid, purpose, event, administrator, detail FROM key_events"
                " WHERE %(kid)s::text IS NULL OR kid = %(kid)s ORDER BY position",
                {"kid": kid},
            ).fetchall()
        return [
            KeyEvent(at=instant(at), kid=of, purpose=purpose, event=event, administrator=who, detail=detail)
            for at, of, purpose, event, who, detail in rows
        ]

    def load_override(self, kid: str) -> Override | None:
        """Load a wish; see ``KeyStateStore``."""
        with self._session.statement() as db:
            row = db.execute(
                "SELECT administrator, justification, asked_at FROM overrides WHERE kid = %s", (kid,)
            ).fetchone()
        if row is None:
            return None
        return Override(kid=kid, administrator=row[0], justification=row[1], asked_at=instant(row[2]))

    def save_override(self, override: Override) -> None:
        """Write a wish; see ``KeyStateStore``."""
        with self._session.transaction() as db:
            db.execute(
                "INSERT INTO overrides (kid, administrator, justification, asked_at) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (kid) DO UPDATE SET administrator = excluded.administrator,"
                " justification = excluded.justification, asked_at = excluded.asked_at",
                (override.kid, override.administrator, override.justification, seconds(override.asked_at)),
            )

    def accepted_count(self, issuer: str, kid: str, since: datetime | None) -> int:
        """Count what was accepted; see ``KeyStateStore``."""
        earliest = 0 if since is None else milliseconds(since)
        with self._session.statement() as db:
            row = db.execute(
                "SELECT count(*) FROM entries WHERE verdict = 'accepted' AND issuer = %s AND kid = %s AND at >= %s"
                " AND part >= %s",
                (issuer, kid, earliest, number_of(Keep.DISCLOSURE, day_of(earliest))),
            ).fetchone()
        return 0 if row is None else int(row[0])


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


def _save_documents(db: Db, documents: Documents) -> None:
    db.cursor().executemany(
        "INSERT INTO documents (issuer, subject, token) VALUES (%s, %s, %s)"
        " ON CONFLICT (issuer, subject) DO UPDATE SET token = excluded.token",
        [(issuer, subject, token) for (issuer, subject), token in documents.items()],
    )


def _prune_views(db: Db, now: datetime) -> None:
    # The last before the limit stays: it says what was in force at the limit.
    db.execute(
        "DELETE FROM views WHERE taken_at < (SELECT max(taken_at) FROM views WHERE taken_at <= %s)",
        (milliseconds(now - MAX_VIEW_AGE),),
    )
    db.execute(
        "DELETE FROM views WHERE taken_at <= (SELECT taken_at FROM views ORDER BY taken_at DESC LIMIT 1 OFFSET %s)",
        (MAX_VIEWS,),
    )
