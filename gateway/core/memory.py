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
from dataclasses import dataclass, field, replace
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
    attested: bool = False
    """Whether some anchor is known to have attested the key. Whoever stole a federation key can revoke names of keys
    that never were, as many as he likes: those are kept, and told to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """An anchor's word that it will never vouch for a member again.

    Sticky, and it counts as long as the charter lists the key that signed it: when people replace a key that was
    stolen, what the thief withdrew is no more.
    """

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
    withdrawals: Mapping[tuple[str, str, str], Withdrawal] = field(default_factory=dict)
    """By (anchor, thumbprint of the key that signed it, member)."""
    equivocations: Mapping[tuple[str, str], Equivocation] = field(default_factory=dict)
    """By (anchor, thumbprint of the key that signed both)."""
    clock_floor: datetime | None = None


def merge(memory: TrustMemory, change: TrustMemory) -> TrustMemory:
    """Add a change. A sticky entry that is there already stays as it is, and the clock floor only rises.

    A revocation may get graver; see ``joined``.
    """
    floors = [floor for floor in (memory.clock_floor, change.clock_floor) if floor is not None]
    return TrustMemory(
        documents={**memory.documents, **change.documents},
        events={**memory.events, **change.events},
        revocations={
            **change.revocations,
            **{
                place: joined(known, change.revocations[place]) if place in change.revocations else known
                for place, known in memory.revocations.items()
            },
        },
        withdrawals={**change.withdrawals, **memory.withdrawals},
        equivocations={**change.equivocations, **memory.equivocations},
        clock_floor=max(floors, default=None),
    )


def joined(known: Revocation, revocation: Revocation) -> Revocation:
    """Give what two revocations of one key say together.

    That is the graver reason, and of two times of being superseded the earlier: a thief who is first to name a time far
    ahead must not keep the owner's from counting.
    """
    graver = revocation if _is_graver(revocation, known) else known
    return replace(graver, attested=known.attested or revocation.attested)


def _is_graver(revocation: Revocation, known: Revocation) -> bool:
    if known.reason is RevocationReason.COMPROMISED:
        return False
    return revocation.reason is RevocationReason.COMPROMISED or revocation.revoked_at < known.revoked_at
