"""Durable state behind narrow protocols.

Each protocol is what one caller needs, no more. An implementation is native to its database and shares no code with
another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from gateway.core.consent import Consent
from gateway.core.key_schedule import KeyRecord
from gateway.core.memory import Documents, TrustMemory
from gateway.core.vouching import MemberRecord


class StorageError(Exception):
    """The store could not do what was asked. Nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """What was decided, without a word about the person."""

    verification_id: str
    decided_at: datetime
    service: str
    matter: str
    verdict: str
    reason: str
    issuer: str
    kid: str
    charter_version: int
    view_id: str
    request_id: str
    findings: str = ""
    """What was found out, as ``core.findings`` writes it."""


class Outcome(Enum):
    """What became of a decision when it was written."""

    WRITTEN = "written"
    REPLAYED = "replayed"
    """Its replay key had been used before, in the same group or earlier."""
    CONSENT_WITHDRAWN = "consent withdrawn"
    """The consent that it rests on was withdrawn meanwhile, or is gone."""
    CONSENT_OF_ANOTHER = "consent of another"
    """The consent that it rests on was used for another person before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentUse:
    """A consent that a decision rests on, and for whom."""

    consent_id: str
    subject: str
    """A keyed reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One decision to make durable."""

    entry: AuditEntry
    """Written as long as nothing speaks against it at that moment."""
    otherwise: Callable[[Outcome], AuditEntry] | None = None
    """Gives what to write instead, by what speaks against it. Needed where a replay key or a consent is."""
    replay_key: str | None = None
    replay_until: datetime | None = None
    """Until when the key must be remembered."""
    consent: ConsentUse | None = None


class LedgerStore(Protocol):
    """Where decisions become durable."""

    def commit(self, group: Sequence[LedgerEntry]) -> Sequence[Outcome]:
        """Write a group in one durable transaction: all or nothing. Replay keys and consents are used up by it.

        Returns:
            For each entry in order: what became of it, and so which of its audit entries was written.

        Raises:
            StorageError: nothing of the group was written.
        """

    def forget_replays(self, before: datetime) -> int:
        """Drop replay keys that no presentation could use any more."""


class AuditReader(Protocol):
    """Where decisions are looked up."""

    def audit_entry(self, verification_id: str) -> AuditEntry | None:
        """Load one entry; None: there is none."""


class ConsentStore(Protocol):
    """Where consents are on record."""

    def save_consent(self, consent: Consent) -> None:
        """Write a new consent."""

    def load_consent(self, consent_id: str) -> Consent | None:
        """Load one; None: there is none."""

    def withdraw_consent(self, consent_id: str, service: str, at: datetime) -> datetime | None:
        """Note that a service's consent was withdrawn.

        Returns:
            Since when it is, which may be before now; None: the service has no such consent.
        """


class TrustStore(Protocol):
    """What a gateway must still know after a restart."""

    def load_memory(self) -> TrustMemory:
        """Load all that is remembered of the federation."""

    def save_memory(self, change: TrustMemory) -> None:
        """Add a change, in one durable transaction; see ``core.memory.merge`` for what adding means."""

    def reset_clock_floor(self) -> None:
        """Forget the clock floor: people have established that the clock had run ahead."""

    def load_charters(self) -> Mapping[int, str]:
        """Load the charters held, by version, oldest first."""

    def load_charter(self, version: int) -> str | None:
        """Load one charter; None: it is not held."""

    def save_charter(self, version: int, document: str) -> None:
        """Write a charter; a version once written stays as it is."""

    def save_view(self, taken_at: datetime, summary: str) -> None:
        """Remember what the trust view was from a time on, for looking back. The same as the last is not repeated."""

    def load_view(self, at: datetime) -> tuple[datetime, str] | None:
        """Give the summary in force at a time and since when; None: nothing is known of that time."""


class Lineage(Protocol):
    """Tells a store that was never lost from a backup that was put in its place."""

    @property
    def is_restored(self) -> bool:
        """Whether it lacks something that it had known, and nobody has made that good since."""

    def settle_restored(self) -> None:
        """Note, durably, that what it lacked was learned again from others."""


class AnchorStore(Protocol):
    """What an anchor remembers of the members it vouches for."""

    def load_members(self) -> Mapping[str, MemberRecord]:
        """Load what is remembered of each member."""

    def save_anchor(self, members: Mapping[str, MemberRecord], documents: Documents) -> None:
        """Write what is remembered of some members and the statements that go with it, together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One administrator's wish to activate a key early, waiting for another's."""

    kid: str
    administrator: str
    justification: str
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEvent:
    """One change to the keys, for the history."""

    at: datetime
    kid: str
    purpose: str
    event: str
    """The state reached, or what was done."""
    administrator: str
    """Who did it; empty: the scheduler."""
    detail: str = ""


class KeyStateStore(Protocol):
    """Where the lives of this province's keys are written down."""

    def load_keys(self) -> Sequence[KeyRecord]:
        """Load all keys that ever were, oldest first."""

    def save_keys(self, keys: Sequence[KeyRecord], events: Sequence[KeyEvent], request_id: str = "") -> None:
        """Write keys, what happened to them, and that a request was carried out, in one durable transaction."""

    def raise_signed_until(self, kid: str, until: datetime) -> None:
        """Note that a key signs something valid until then. Never lowers what is noted."""

    def is_done(self, request_id: str) -> bool:
        """Whether a request was carried out."""

    def load_key_events(self, kid: str | None = None) -> Sequence[KeyEvent]:
        """Load the history of one key, or of all, oldest first."""

    def load_override(self, kid: str) -> Override | None:
        """Load the wish that waits for approval."""

    def save_override(self, override: Override) -> None:
        """Write a wish, in place of one there was for the key."""

    def accepted_count(self, issuer: str, kid: str, since: datetime | None) -> int:
        """Count the presentations signed with a key that were accepted here."""
