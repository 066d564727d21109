"""Durable state behind narrow protocols.

Each protocol is what one caller needs, no more. An implementation is native to its database and shares no code with
another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.core.publication import Attested


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One decision to make durable."""

    entry: AuditEntry
    """Written when the replay key is new, or when there is none."""
    if_replayed: AuditEntry | None = None
    """Written instead when the replay key was used before."""
    replay_key: str | None = None
    replay_until: datetime | None = None
    """Until when the key must be remembered."""


class LedgerStore(Protocol):
    """Where decisions become durable."""

    def commit(self, group: Sequence[LedgerEntry]) -> Sequence[bool]:
        """Write a group in one durable transaction: all or nothing.

        Returns:
            For each entry in order: True when its replay key had been used before (in this group or earlier).

        Raises:
            StorageError: nothing of the group was written.
        """

    def forget_replays(self, before: datetime) -> int:
        """Drop replay keys that no presentation could use any more."""


class TrustStore(Protocol):
    """What a gateway must still know after a restart."""

    def load_documents(self) -> Mapping[tuple[str, str], str]:
        """Load the statements held, by (issuer, subject)."""

    def save_documents(self, documents: Mapping[tuple[str, str], str]) -> None:
        """Write statements; those not named stay."""

    def load_charters(self) -> Mapping[int, str]:
        """Load the charters held, by version, oldest first."""

    def save_charter(self, version: int, document: str) -> None:
        """Write a charter; a version once written stays as it is."""


class AttestationStore(Protocol):
    """What an anchor remembers of the members it vouches for."""

    def load_attested(self) -> Mapping[str, Attested]:
        """Load what is attested for each member."""

    def save_vouching(self, member: str, attested: Attested, place: tuple[str, str], statement: str) -> None:
        """Write what is attested for a member and the statement that says so, together."""
