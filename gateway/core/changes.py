"""Changes of trust, as entries of the log: charters, keys, members, revocations, what contradicts itself.

Whoever asks years later why a signature counted finds here when it began to, when it ceased to, and who decided that.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from gateway.core.charter import Charter
from gateway.core.entries import Entry, TrustChange, trust_entry
from gateway.core.memory import Revocation, TrustMemory


def charter_entry(charter: Charter, event: str, now: datetime, administrator: str = "") -> Entry:
    """Write down that a charter is in force.

    Args:
        charter: the charter.
        event: how it came about: pinned, followed or installed.
        now: the time.
        administrator: who installed it; empty: the gateway followed it by itself.
    """
    return trust_entry(
        TrustChange.CHARTER,
        at=now,
        subject=charter.sha256,
        event=event,
        administrator=administrator,
        detail=f"version {charter.version}",
    )


def memory_entries(before: TrustMemory, change: TrustMemory, now: datetime) -> Iterator[Entry]:
    """Write down what a change adds to what is remembered against keys and members.

    Revocations that no anchor attested are left out: a thief makes up thousands of names.
    """
    for (member, kid), revocation in change.revocations.items():
        known = before.revocations.get((member, kid))
        if revocation.attested and not _is_said(known, revocation):
            detail = f"{kid} as {revocation.reason.value}, since {revocation.revoked_at.isoformat()}"
            yield trust_entry(TrustChange.REVOCATION, at=now, subject=member, event="key revoked", detail=detail)
    for (anchor, signer, member), withdrawal in change.withdrawals.items():
        if (anchor, signer, member) not in before.withdrawals:
            detail = f"by {anchor} with {signer}: {withdrawal.reason}"
            yield trust_entry(TrustChange.WITHDRAWAL, at=now, subject=member, event="withdrawn", detail=detail)
    for anchor, signer in change.equivocations:
        if (anchor, signer) not in before.equivocations:
            detail = f"{signer} signed two documents with one number"
            yield trust_entry(TrustChange.EQUIVOCATION, at=now, subject=anchor, event="equivocated", detail=detail)


def _is_said(known: Revocation | None, revocation: Revocation) -> bool:
    return known is not None and known.attested and known.reason is revocation.reason
