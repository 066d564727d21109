"""Rows of both stores, the values that they hold, and how many are kept. What is written here is read here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.core.jose import import_jwk
from gateway.core.key_schedule import KeyPurpose, KeyRecord, KeyState
from gateway.core.memory import RevocationReason, Withdrawal
from gateway.core.vouching import MemberRecord, PendingChange, Suspension

KEY_TIMES: Final = (
    "staged_at",
    "published_at",
    "activated_at",
    "drained_at",
    "retired_at",
    "revoked_at",
    "compromised_since",
    "signed_until",
)
KEY_COLUMNS: Final = ("kid", "purpose", "jwk", "state", "reason", *KEY_TIMES)
MAX_VIEW_AGE: Final = timedelta(days=400)
MAX_VIEWS: Final = 50_000
"""Views kept, so that no anchor that changes its mind each minute fills the disk."""
PRUNE_VIEWS_EVERY: Final = 500
"""Views written between two looks whether some are too many."""


def seconds(at: datetime) -> int:
    """Write a moment, to the second."""
    return int(at.timestamp())


def milliseconds(at: datetime) -> int:
    """Write a moment, to the millisecond."""
    return int(at.timestamp() * 1000)


def maybe_seconds(at: datetime | None) -> int | None:
    """Write a moment that may not be known."""
    return None if at is None else seconds(at)


def instant(seconds: int) -> datetime:
    """Read a moment."""
    return datetime.fromtimestamp(seconds, UTC)


def maybe_instant(seconds: int | None) -> datetime | None:
    """Read a moment that may not be known."""
    return None if seconds is None else instant(seconds)


def key_row(record: KeyRecord) -> tuple[object, ...]:
    """Write a key and its life."""
    reason = None if record.reason is None else record.reason.value
    return (
        record.key.kid,
        record.purpose.value,
        json.dumps(dict(record.key.jwk)),
        record.state.value,
        reason,
        *(maybe_seconds(getattr(record, name)) for name in KEY_TIMES),
    )


def read_key(row: Sequence[Any]) -> KeyRecord:
    """Read one."""
    _, purpose, jwk, state, reason, *times = row
    moments: dict[str, Any] = {name: maybe_instant(at) for name, at in zip(KEY_TIMES, times, strict=True)}
    return KeyRecord(
        key=import_jwk(json.loads(jwk)),
        purpose=KeyPurpose(purpose),
        state=KeyState(state),
        reason=None if reason is None else RevocationReason(reason),
        **moments,
    )


def member(record: MemberRecord) -> dict[str, Any]:
    """Write what an anchor remembers of a member, as JSON members."""
    members: dict[str, Any] = {
        **{name: sorted(getattr(record, name)) for name in _MEMBER_SETS},
        "seq": record.seq,
        "digest": record.digest,
    }
    if record.pending is not None:
        members["pending"] = {
            "change_id": record.pending.change_id,
            "federation_keys": sorted(record.pending.federation_keys),
            "credential_keys": sorted(record.pending.credential_keys),
            "seen_at": seconds(record.pending.seen_at),
        }
    if record.suspension is not None:
        suspension = record.suspension
        members["suspension"] = [seconds(suspension.suspended_at), seconds(suspension.until), suspension.reason]
    if record.replaced_at is not None:
        members["replaced_at"] = seconds(record.replaced_at)
    if record.withdrawal is not None:
        members["withdrawal"] = [seconds(record.withdrawal.revoked_at), record.withdrawal.reason]
        members["withdrawal_signer"] = record.withdrawal_signer
    return members


_MEMBER_SETS: Final = ("federation_keys", "credential_keys", "spent_keys", "approved", "rejected")


def read_member(members: dict[str, Any]) -> MemberRecord:
    """Read it."""
    pending, suspension, withdrawal = (members.get(name) for name in ("pending", "suspension", "withdrawal"))
    return MemberRecord(
        **{name: frozenset(members[name]) for name in _MEMBER_SETS},
        seq=members["seq"],
        digest=members["digest"],
        pending=PendingChange(
            change_id=pending["change_id"],
            federation_keys=frozenset(pending["federation_keys"]),
            credential_keys=frozenset(pending["credential_keys"]),
            seen_at=instant(pending["seen_at"]),
        )
        if pending
        else None,
        suspension=Suspension(suspended_at=instant(suspension[0]), until=instant(suspension[1]), reason=suspension[2])
        if suspension
        else None,
        replaced_at=maybe_instant(members.get("replaced_at")),
        withdrawal=Withdrawal(revoked_at=instant(withdrawal[0]), reason=withdrawal[1]) if withdrawal else None,
        withdrawal_signer=members.get("withdrawal_signer", ""),
    )
