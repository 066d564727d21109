"""Sequence numbers, digests, and the snapshot in which an anchor names everything it says (the rules of TUF, ours).

OpenID Federation knows expiry and nothing else against old documents. Three claims of ours close that; they are never
listed in ``crit``, so a plain OpenID Federation verifier ignores them:

* ``seq``: every newly signed payload of a place (issuer, subject) bears a higher number than the one before. The same
  number twice means the same bytes.
* ``snapshot``: an anchor's configuration names the one statement about each member that counts, by number and digest,
  so that nobody can mix old statements with new ones or leave one out unseen. A member that is no longer vouched for
  stays named, as suspended or as withdrawn: silence is not a withdrawal.
* ``charter``: which charter the anchor enforces. For people; nothing is decided by it.

A digest is SHA-256 over the payload: signing the same bytes again says nothing new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.core.charter import MAX_MEMBERS, Charter
from gateway.core.encoding import MAX_SAFE_INTEGER, sha256_b64url
from gateway.core.jose import parse_compact
from gateway.core.reasons import Reason, Rejected
from gateway.core.statements import MAX_ENTITY_ID_CHARS, MAX_NUMERIC_DATE, PROFILE, EntityStatement, UnverifiedStatement

MAX_JUMP: Final = 2**31
"""How far a number may run ahead of the clock. Whoever steals a key must not use up all numbers there are; and were it
measured from the last one, each of his statements would carry him further, until nobody can follow."""
MAX_STATEMENT_CHARS: Final = 16_384
"""An anchor's statement about one member. Of two keys for each purpose it has 3,000."""
MAX_CONFIGURATION_CHARS: Final = 32_768
"""A member's configuration: it has the same keys, and a proof of possession with most."""
MAX_REASON_CHARS: Final = 200
_DIGEST_CHARS: Final = 43


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """The one statement about a member that counts."""

    seq: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """The anchor will never vouch for the member again."""

    revoked_at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """The anchor does not vouch for the member until a time."""

    suspended_at: datetime
    until: datetime
    reason: str


Entry = Vouched | Withdrawn | Suspended


def payload_digest(document: str | UnverifiedStatement | EntityStatement) -> str:
    """SHA-256 of what was signed, base64url; the signature is not part of it.

    Raises:
        Rejected: a token that is no compact JWS.
    """
    if isinstance(document, str):
        return sha256_b64url(parse_compact(document, max_chars=PROFILE.max_chars).payload)
    return sha256_b64url(document.jws.payload)


def read_seq(statement: UnverifiedStatement | EntityStatement) -> int:
    """Read a statement's sequence number.

    Raises:
        Rejected: SEQUENCE_INVALID.
    """
    seq = statement.claims.get("seq")
    if type(seq) is not int or not 1 <= seq <= MAX_SAFE_INTEGER:  # bool is an int to Python, not to JSON
        raise Rejected(Reason.SEQUENCE_INVALID, "seq is missing or not a whole number from one")
    return seq


def is_within_reach(seq: int, now: datetime) -> bool:
    """Whether a number can have been given out by now.

    One that cannot is the work of a thief or of a clock that ran ahead, and is no floor under the next either: nobody
    else takes it, so whoever went on from there would be heard no more.
    """
    return seq - int(now.timestamp()) <= MAX_JUMP


def check_jump(seq: int, now: datetime) -> None:
    """Refuse a number that runs too far ahead of the clock; see ``is_within_reach``.

    Raises:
        Rejected: SEQUENCE_INVALID.
    """
    if not is_within_reach(seq, now):
        raise Rejected(Reason.SEQUENCE_INVALID, "seq runs too far ahead of the clock")


def read_snapshot(statement: UnverifiedStatement | EntityStatement) -> Mapping[str, Entry]:
    """Read what an anchor's configuration says of each member.

    Raises:
        Rejected: SNAPSHOT_MISMATCH when there is no snapshot, or one that cannot be read.
    """
    snapshot = statement.claims.get("snapshot")
    members = snapshot.get("members") if isinstance(snapshot, dict) else None
    if not isinstance(members, dict):
        raise _mismatch("configuration of an anchor has no snapshot")
    if len(members) > MAX_MEMBERS:
        raise _mismatch(f"snapshot names more than {MAX_MEMBERS} members")
    return {member: _read_entry(member, entry) for member, entry in members.items()}


def snapshot_claim(entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Write the ``snapshot`` claim, members in the order of their names."""
    return {"members": {member: _write_entry(entries[member]) for member in sorted(entries)}}


def charter_claim(charter: Charter) -> dict[str, Any]:
    """Write the ``charter`` claim."""
    return {"version": charter.version, "sha256": charter.sha256}


def _read_entry(member: str, entry: object) -> Entry:
    if len(member) > MAX_ENTITY_ID_CHARS or not isinstance(entry, dict):
        raise _mismatch("an entry of the snapshot is malformed")
    # Exactly one of the three shapes: an entry that is two things at once would be read differently by two programs.
    match sorted(entry):
        case ["seq", "sha256"]:
            return Vouched(seq=_seq(entry["seq"]), sha256=_digest(entry["sha256"]))
        case ["reason", "revoked_at"]:
            return Withdrawn(revoked_at=_instant(entry["revoked_at"]), reason=_text(entry["reason"]))
        case ["reason", "suspended_at", "until"]:
            return Suspended(
                suspended_at=_instant(entry["suspended_at"]),
                until=_instant(entry["until"]),
                reason=_text(entry["reason"]),
            )
        case _:
            raise _mismatch("an entry of the snapshot is neither a statement, a withdrawal nor a suspension")


def _write_entry(entry: Entry) -> dict[str, Any]:
    match entry:
        case Vouched():
            return {"seq": entry.seq, "sha256": entry.sha256}
        case Withdrawn():
            return {"revoked_at": int(entry.revoked_at.timestamp()), "reason": entry.reason}
        case Suspended():
            return {
                "suspended_at": int(entry.suspended_at.timestamp()),
                "until": int(entry.until.timestamp()),
                "reason": entry.reason,
            }


def _seq(value: object) -> int:
    if type(value) is not int or not 1 <= value <= MAX_SAFE_INTEGER:
        raise _mismatch("seq of an entry is not a whole number from one")
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or len(value) != _DIGEST_CHARS:
        raise _mismatch("sha256 of an entry is not a digest")
    return value


def _instant(value: object) -> datetime:
    if type(value) is not int or not 0 <= value <= MAX_NUMERIC_DATE:
        raise _mismatch("an entry bears no time in whole seconds")
    return datetime.fromtimestamp(value, UTC)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_REASON_CHARS:
        raise _mismatch("reason of an entry is not a short text")
    return value


def _mismatch(detail: str) -> Rejected:
    return Rejected(Reason.SNAPSHOT_MISMATCH, detail)
