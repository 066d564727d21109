"""Decisions in PostgreSQL: replay keys and consents are used up, and entries are written, a group at a time.

A group costs two exchanges with the server, however large it is: one that locks the log and uses up what the group uses
up, and one that writes its entries and commits. In between it is decided here what became of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.core.entries import SealedEntry
from gateway.storage import Committed, ConsentUse, LedgerEntry, Outcome, StorageError
from gateway.storage.postgres_connection import LOCKS, Lock, Session
from gateway.storage.postgres_entries import LOCK_HEAD, Parts, append, lock_head, read_log
from gateway.storage.rows import seconds

_USE_KEYS: Final = (
    "INSERT INTO replays (replay_key, until) SELECT * FROM unnest(%b::text[], %b::bigint[])"
    " ON CONFLICT DO NOTHING RETURNING replay_key"
)
_LOCK_CONSENTS: Final = (
    "SELECT consent_id, subject FROM consents WHERE consent_id = ANY(%s::text[]) AND withdrawn_at IS NULL"
    " ORDER BY consent_id FOR UPDATE"
)
_USE_CONSENTS: Final = (
    "UPDATE consents SET subject = new.subject FROM unnest(%s::text[], %s::text[]) AS new (consent_id, subject)"
    " WHERE consents.consent_id = new.consent_id"
)


class PostgresLedger:
    """Where decisions become durable; implements ``LedgerStore``. Thread-safe."""

    def __init__(self, session: Session, parts: Parts) -> None:
        """Write over a connection that nobody else has: no decision waits for a reader."""
        self._session = session
        self._parts = parts

    def commit(self, group: Sequence[LedgerEntry]) -> Sequence[Committed]:
        """Write a group of decisions; see ``LedgerStore``."""
        if not group:
            return []
        keys = _first_uses(group)
        consents = sorted({item.consent.consent_id for item in group if item.consent is not None})
        self._parts.prepare(self._session, [item.entry for item in group])
        try:
            with self._session.pipeline() as (db, pipeline):
                locked = db.execute(LOCK_HEAD, prepare=True)
                fresh = None
                if keys:
                    untils = [use.until for use in keys.values()]
                    fresh = db.execute(_USE_KEYS, (list(keys), untils), prepare=True)
                held = db.execute(_LOCK_CONSENTS, (consents,), prepare=True) if consents else None
                pipeline.sync()
                head = read_log(locked.fetchone())
                spent = _Spending(
                    first_uses={key: use.place for key, use in keys.items()},
                    fresh=frozenset(key for (key,) in fresh.fetchall()) if fresh is not None else frozenset(),
                    subjects=dict(held.fetchall()) if held is not None else {},
                )
                outcomes = [spent.use(place, item) for place, item in enumerate(group)]
                if spent.bound:
                    db.execute(_USE_CONSENTS, (list(spent.bound), list(spent.bound.values())))
                append(db, head, [_written(item, outcome) for item, outcome in zip(group, outcomes, strict=True)])
        except StorageError:
            self._parts.forget()
            raise
        return [
            Committed(outcome=outcome, log_id=head.log_id, position=head.size + place)
            for place, outcome in enumerate(outcomes)
        ]

    def forget_replays(self, before: datetime) -> int:
        """Drop lapsed replay keys; see ``LedgerStore``."""
        with self._session.transaction() as db:
            row = db.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (LOCKS, Lock.FORGETTING)).fetchone()
            if row != (True,):
                return 0  # another process is at it
            return db.execute("DELETE FROM replays WHERE until < %s", (seconds(before),)).rowcount

    def check_writable(self) -> None:
        """Find out whether anything can be written; see ``LedgerStore``."""
        with self._session.transaction() as db:
            head = lock_head(db)
            db.execute("UPDATE logs SET size = size WHERE first = %s", (head.first,))


@dataclass(frozen=True, slots=True)
class _Use:
    place: int
    until: int


def _first_uses(group: Sequence[LedgerEntry]) -> Mapping[str, _Use]:
    """By replay key: which entry of the group is the first to use it, and until when it must be remembered."""
    uses: dict[str, _Use] = {}
    for place, item in enumerate(group):
        if item.replay_key is not None and item.replay_until is not None:
            uses.setdefault(item.replay_key, _Use(place, seconds(item.replay_until)))
    return uses


@dataclass(slots=True, kw_only=True)
class _Spending:
    """What a group uses up, as one entry after the other uses it."""

    first_uses: Mapping[str, int]
    fresh: frozenset[str]
    """Replay keys that had not been used before."""
    subjects: dict[str, str]
    """Of the consents that are not withdrawn: whom each was used for; empty: nobody yet."""
    bound: dict[str, str] = field(default_factory=dict)
    """What is to be written of them."""

    def use(self, place: int, item: LedgerEntry) -> Outcome:
        """Use up what a decision uses up, and say what speaks against it."""
        key = item.replay_key
        if key in self.first_uses and (key not in self.fresh or self.first_uses[key] != place):
            return Outcome.REPLAYED
        return Outcome.WRITTEN if item.consent is None else self._use_consent(item.consent)

    def _use_consent(self, consent: ConsentUse) -> Outcome:
        subject = self.subjects.get(consent.consent_id)
        if subject is None:
            return Outcome.CONSENT_WITHDRAWN
        if subject not in ("", consent.subject, consent.previous_subject):
            return Outcome.CONSENT_OF_ANOTHER
        if subject != consent.subject:
            self.subjects[consent.consent_id] = self.bound[consent.consent_id] = consent.subject
        return Outcome.WRITTEN


def _written(item: LedgerEntry, outcome: Outcome) -> SealedEntry:
    if outcome is Outcome.WRITTEN or item.otherwise is None:
        return item.entry
    return item.otherwise(outcome)
