"""What a gateway remembers of the federation, and must never forget (DESIGN: monotonic memory).

Nothing here judges; ``admission`` decides what may enter, ``trust`` what it means. Rules that the shapes below carry:

* The newest document of each place is the floor under the next one: what bears a lower sequence number is refused, also
  long after the document itself has expired.
* Revocations, withdrawals and proofs of equivocation are sticky: they are added, never removed. Whoever replays a
  document from before a revocation changes nothing.
* The clock floor is the latest time that a quorum of anchors attested. One anchor, or our own clock, cannot move it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

Place = tuple[str, str]
"""(issuer, subject) of a statement."""
Documents = Mapping[Place, str]
"""Signed statements by place, each the string as its author signed it."""


class RevocationReason(StrEnum):
    """Why a key was revoked (OpenID Federation 1.0 section 8.7.3)."""

    COMPROMISED = "compromised"
    """Nothing the key ever signed counts: whoever stole it chooses the time that a signature bears."""
    SUPERSEDED = "superseded"
    """What it signed before the revocation still counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A member's word that one of its keys is revoked. Sticky."""

    revoked_at: datetime
    reason: RevocationReason
    compromised_since: datetime | None = None
    """For the record; see ``RevocationReason.COMPROMISED``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """An anchor's word that it will never vouch for a member again. Sticky."""

    revoked_at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivocation:
    """The proof that one key signed two different documents under one sequence number. Sticky."""

    one: str
    other: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustMemory:
    """All that is remembered."""

    documents: Documents = field(default_factory=dict)
    events: Mapping[str, str] = field(default_factory=dict)
    """The newest statement of revocations of each member, as signed."""
    revocations: Mapping[tuple[str, str], Revocation] = field(default_factory=dict)
    """By (member, kid)."""
    withdrawals: Mapping[tuple[str, str], Withdrawal] = field(default_factory=dict)
    """By (anchor, member)."""
    equivocations: Mapping[tuple[str, str], Equivocation] = field(default_factory=dict)
    """By (anchor, thumbprint of the key that signed both)."""
    clock_floor: datetime | None = None


def merge(memory: TrustMemory, change: TrustMemory) -> TrustMemory:
    """Add a change. A sticky entry that is there already stays as it is, and the clock floor only rises.

    One may get graver: a key that was revoked as superseded, and then turns out to be compromised.
    """
    floors = [floor for floor in (memory.clock_floor, change.clock_floor) if floor is not None]
    return TrustMemory(
        documents={**memory.documents, **change.documents},
        events={**memory.events, **change.events},
        revocations={
            **change.revocations,
            **{
                place: change.revocations[place] if _is_graver(change.revocations.get(place), known) else known
                for place, known in memory.revocations.items()
            },
        },
        withdrawals={**change.withdrawals, **memory.withdrawals},
        equivocations={**change.equivocations, **memory.equivocations},
        clock_floor=max(floors, default=None),
    )


def _is_graver(revocation: Revocation | None, known: Revocation) -> bool:
    if revocation is None or revocation.reason is known.reason:
        return False
    return revocation.reason is RevocationReason.COMPROMISED
