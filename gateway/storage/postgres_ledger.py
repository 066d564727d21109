"""Decisions in PostgreSQL: replay keys and consents are used up, and entries are written, a group at a time.

A group costs two exchanges with the server, however large it is: one that locks the log and uses up what the group uses
up, and one that writes its entries and commits. In between it is decided here what became of each. Only where something
was used up before by a question that may be asked again, a third one in between looks up how that was decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gateway.core.entries import Keep, SealedEntry, day_of
from gateway.core.repeats import REPEAT_WITHIN, is_repeat, remembered
from gateway.storage import Committed, ConsentUse, LedgerEntry, Log, Outcome, StorageError
from gateway.storage.postgres_connection import LOCKS, Db, Lock, Session
from gateway.storage.postgres_entries import LOCK_HEAD, Parts, append, lock_head, number_of, read_log
from gateway.storage.rows import seconds

_USE_KEYS: Final = (
    "INSERT INTO replays (replay_key, until, request, entry_id)"
    " SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::text[])"
    " ON CONFLICT DO NOTHING RETURNING replay_key"
)
_FIND_FIRSTS: Final = (
    "SELECT replays.replay_key, replays.request, entries.number, entries.raw FROM replays JOIN entries"
    " ON entries.entry_id = replays.entry_id AND entries.entry_id <> ''"
    " WHERE replays.replay_key = ANY(%s::text[])"
    " AND entries.part = ANY(%s::integer[]) AND entries.number >= %s"
)
_LOCK_CONSENTS: Final = (
    "SELECT consent_id, subject FROM consents WHERE consent_id = ANY(%s::text[]) AND withdrawn_at IS NULL"
    " ORDER BY consent_id FOR UPDATE"
)
_USE_CONSENTS: Final = (
    "UPDATE consents SET subject = new.subject FROM unnest(%s::text[], %s::text[]) AS new (consent_id, subject)"
    " WHERE consents.consent_id = new.consent_id"
)
_MILLISECOND: Final = timedelta(milliseconds=1)


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
                    fresh = db.execute(_USE_KEYS, _columns(keys), prepare=True)
                held = db.execute(_LOCK_CONSENTS, (consents,), prepare=True) if consents else None
                pipeline.sync()
                head = read_log(locked.fetchone())
                unused = {key for (key,) in fresh.fetchall()} if fresh is not None else set()
                again = [item for item in group if item.request and item.replay_key not in unused]
                spent = _Spending(
                    unused=unused,
                    firsts=_find_firsts(db, head, again) if again else {},
                    subjects=dict(held.fetchall()) if held is not None else {},
                )
                committed: list[Committed] = []
                entries: list[SealedEntry] = []
                for item in group:
                    outcome = spent.use(item)
                    first = spent.repeated(item) if outcome is Outcome.REPLAYED else None
                    if first is None:
                        position = head.size + len(entries)
                        entries.append(_written(item, outcome))
                        spent.note(item, _First(remembered(item.request, entries[-1].raw), position, entries[-1].raw))
                        committed.append(Committed(outcome=outcome, log_id=head.log_id, position=position))
                    else:
                        outcome, position = Outcome.REPEATED, first.position
                        committed.append(
                            Committed(outcome=outcome, log_id=head.log_id, position=position, first=first.raw)
                        )
                if spent.bound:
                    db.execute(_USE_CONSENTS, (list(spent.bound), list(spent.bound.values())))
                append(db, head, entries)
        except StorageError:
            self._parts.forget()
            raise
        return committed

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


def _first_uses(group: Sequence[LedgerEntry]) -> Mapping[str, LedgerEntry]:
    """By replay key: which of the group is the first to use it."""
    uses: dict[str, LedgerEntry] = {}
    for item in group:
        if item.replay_key is not None and item.replay_until is not None:
            uses.setdefault(item.replay_key, item)
    return uses


def _columns(uses: Mapping[str, LedgerEntry]) -> tuple[list[str], list[int], list[str], list[str]]:
    untils = [seconds(item.replay_until) for item in uses.values() if item.replay_until is not None]
    requests = [remembered(item.request, item.entry.raw) for item in uses.values()]
    return list(uses), untils, requests, [item.entry.index.entry_id for item in uses.values()]


@dataclass(frozen=True, slots=True)
class _First:
    """The decision that a replay key was used up by."""

    request: str
    """See ``remembered``."""
    position: int
    raw: bytes


def _find_firsts(db: Db, log: Log, again: Sequence[LedgerEntry]) -> dict[str, _First]:
    """Find the decisions that used-up keys were used up by, as far as these might repeat them."""
    keys = [item.replay_key for item in again]
    span = REPEAT_WITHIN // _MILLISECOND
    days = {day_of(item.entry.index.at + late) for item in again for late in (-span, span)}
    parts = [number_of(Keep.DISCLOSURE, day) for day in sorted(days)]  # of what was accepted
    rows = db.execute(_FIND_FIRSTS, (keys, parts, log.first)).fetchall()
    return {key: _First(request, number - log.first, bytes(raw)) for key, request, number, raw in rows}


@dataclass(slots=True, kw_only=True)
class _Spending:
    """What a group uses up, as one entry after the other uses it."""

    unused: set[str]
    """Replay keys that had not been used before."""
    firsts: dict[str, _First]
    """By replay key that was used, where that decision might be repeated."""
    subjects: dict[str, str]
    """Of the consents that are not withdrawn: whom each was used for; empty: nobody yet."""
    bound: dict[str, str] = field(default_factory=dict)
    """What is to be written of them."""

    def use(self, item: LedgerEntry) -> Outcome:
        """Use up what a decision uses up, and say what speaks against it."""
        if item.replay_key is not None and item.replay_until is not None:
            if item.replay_key not in self.unused:
                return Outcome.REPLAYED
            self.unused.remove(item.replay_key)
        return Outcome.WRITTEN if item.consent is None else self._use_consent(item.consent)

    def note(self, item: LedgerEntry, first: _First) -> None:
        """Remember what a decision of this group was, for those after it."""
        if item.replay_key is not None:
            self.firsts.setdefault(item.replay_key, first)

    def repeated(self, item: LedgerEntry) -> _First | None:
        """Give the decision that this one repeats, whose key is used up."""
        first = self.firsts.get(item.replay_key or "")
        if first is None or not is_repeat(item.request, item.entry, first.request, first.raw):
            return None
        if item.consent is not None and self._use_consent(item.consent) is not Outcome.WRITTEN:
            return None
        return first

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
