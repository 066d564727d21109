"""Historical keys: what an entity signed with in the past (OpenID Federation 1.0 section 8.7).

They answer one question, long after: was a signature good when it was made? Rules that live here:

* *When* must come from somebody else's clock, such as the ledger of the gateway that accepted the signature. The time
  that a signature bears is chosen by whoever holds the key.
* A key that came to its end in peace is good for what was signed before its end. One that was superseded, for what was
  signed before its revocation. One that was compromised, for nothing: a thief writes any date.
* A set has no expiry, so an old one could hide newer revocations. Sets of an entity only go forward, and no later one
  may say better of a key than an earlier one.
* A reason that is missing or that we do not know counts as the gravest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.core.encoding import JsonLimits
from gateway.core.jose import PublicKey, import_jwk, parse_compact, verify
from gateway.core.key_schedule import KeyRecord, KeyState
from gateway.core.memory import Revocation, RevocationReason
from gateway.core.reasons import Reason, Rejected
from gateway.core.statements import MAX_ENTITY_ID_CHARS, MAX_NUMERIC_DATE

HISTORY_TYPE: Final = "jwk-set+jwt"
MAX_HISTORY_CHARS: Final = 1_048_576
MAX_PAST_KEYS: Final = 1_000
_LIMITS: Final = JsonLimits(max_bytes=MAX_HISTORY_CHARS, max_depth=6, max_members=20 * MAX_PAST_KEYS)
_PAST: Final = frozenset({KeyState.RETIRED, KeyState.REVOKED})


@dataclass(frozen=True, slots=True, kw_only=True)
class PastKey:
    """A key and how it ended."""

    key: PublicKey
    issued_at: datetime
    expires_at: datetime
    revocation: Revocation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The past keys of an entity, as its signed set has them."""

    entity_id: str
    issued_at: datetime
    keys: Mapping[str, PastKey]
    """By kid."""


def history_claims(entity_id: str, records: Sequence[KeyRecord], now: datetime) -> dict[str, Any]:
    """Write the set of an entity's past keys.

    Args:
        entity_id: the entity.
        records: its keys; those that are still in use, or that were never published, are passed over.
        now: the time.
    """
    past = [record for record in records if record.state in _PAST and _began(record) is not None]
    return {"iss": entity_id, "iat": int(now.timestamp()), "keys": [_write_key(record, now) for record in past]}


def read_history(token: str, signer_keys: Mapping[str, PublicKey], held: History | None = None) -> History:
    """Read and verify a set of past keys.

    Args:
        token: compact JWS.
        signer_keys: the entity's federation keys by kid, as anchors attest them.
        held: the set that is known already.

    Raises:
        Rejected: ROLLED_BACK for one older than the one held, SNAPSHOT_MISMATCH for one that drops a key or takes back
            a revocation; KEY_UNKNOWN, SIGNATURE_INVALID, TYPE_MISMATCH, STATEMENT_INVALID, KEY_NOT_ACCEPTABLE,
            TOO_LARGE, or it cannot be read.
    """
    jws = parse_compact(token, max_chars=MAX_HISTORY_CHARS)
    if jws.header.typ != HISTORY_TYPE:
        raise Rejected(Reason.TYPE_MISMATCH, f"typ is not {HISTORY_TYPE}")
    signer = signer_keys.get(jws.header.kid or "")
    if signer is None:
        raise Rejected(Reason.KEY_UNKNOWN, "signed by a key that is not the entity's")
    claims = verify(jws, signer, _LIMITS)
    entity_id, keys = claims.get("iss"), claims.get("keys")
    if not isinstance(entity_id, str) or len(entity_id) > MAX_ENTITY_ID_CHARS or not isinstance(keys, list):
        raise _invalid("iss or keys is missing")
    if len(keys) > MAX_PAST_KEYS:
        raise Rejected(Reason.TOO_LARGE, f"more than {MAX_PAST_KEYS} keys")
    read = [_read_key(entry) for entry in keys]
    history = History(
        entity_id=entity_id,
        issued_at=_instant(claims.get("iat"), "iat"),
        keys={past.key.kid: past for past in read},
    )
    if len(history.keys) != len(read):
        raise _invalid("a key is listed twice")
    if held is not None:
        _check_progress(history, held)
    return history


def check_as_of(history: History, kid: str, at: datetime) -> PublicKey:
    """Give the key if a signature that was made at a time, by somebody else's clock, was good then.

    Raises:
        Rejected: KEY_UNKNOWN, KEY_REVOKED; EXPIRED or NOT_YET_VALID when the key was not in use then.
    """
    past = history.keys.get(kid)
    if past is None:
        raise Rejected(Reason.KEY_UNKNOWN, "not among the entity's past keys")
    if past.revocation is not None and (
        past.revocation.reason is RevocationReason.COMPROMISED or at >= past.revocation.revoked_at
    ):
        raise Rejected(Reason.KEY_REVOKED, "the key was revoked by then, or is not to be believed at any time")
    if past.revocation is None and at >= past.expires_at:
        raise Rejected(Reason.EXPIRED, "the key had come to its end by then")
    if at < past.issued_at:
        raise Rejected(Reason.NOT_YET_VALID, "the key was not in use yet")
    return past.key


def _check_progress(history: History, held: History) -> None:
    if history.entity_id != held.entity_id:
        raise _invalid("the set of another entity")
    if history.issued_at < held.issued_at:
        raise Rejected(Reason.ROLLED_BACK, "older than the set held")
    for kid, before in held.keys.items():
        after = history.keys.get(kid)
        if after is None or (before.revocation is not None and not _as_grave(before.revocation, after.revocation)):
            raise Rejected(Reason.SNAPSHOT_MISMATCH, "a past key is gone, or a revocation was taken back")


def _as_grave(before: Revocation, after: Revocation | None) -> bool:
    if after is None:
        return False
    return after.reason is RevocationReason.COMPROMISED or (
        before.reason is RevocationReason.SUPERSEDED and after.revoked_at <= before.revoked_at
    )


# -- one key ----------------------------------------------------------------------------------------------------------


def _began(record: KeyRecord) -> datetime | None:
    return record.published_at or record.activated_at


def _write_key(record: KeyRecord, now: datetime) -> dict[str, Any]:
    began = _began(record) or record.staged_at
    ended = record.retired_at or record.revoked_at or now
    members: dict[str, Any] = {
        **record.key.jwk,
        "iat": int(began.timestamp()),
        "exp": int(ended.timestamp()),
    }
    if record.revoked_at is not None:
        reason = record.reason or RevocationReason.COMPROMISED
        members["revoked"] = {"revoked_at": int(record.revoked_at.timestamp()), "reason": reason.value}
    return members


def _read_key(entry: object) -> PastKey:
    if not isinstance(entry, dict) or "exp" not in entry:
        raise _invalid("a past key has no exp")
    return PastKey(
        key=import_jwk(entry),
        issued_at=_instant(entry.get("iat", 0), "iat of a key"),
        expires_at=_instant(entry["exp"], "exp of a key"),
        revocation=_read_revocation(entry["revoked"]) if "revoked" in entry else None,
    )


def _read_revocation(value: object) -> Revocation:
    if not isinstance(value, dict):
        raise _invalid("revoked is not an object")
    superseded = RevocationReason.SUPERSEDED
    return Revocation(
        revoked_at=_instant(value.get("revoked_at"), "revoked_at"),
        reason=superseded if value.get("reason") == superseded.value else RevocationReason.COMPROMISED,
    )


def _instant(value: object, name: str) -> datetime:
    if type(value) is not int or not 0 <= value <= MAX_NUMERIC_DATE:
        raise _invalid(f"{name} is not a time in whole seconds")
    return datetime.fromtimestamp(value, UTC)


def _invalid(detail: str) -> Rejected:
    return Rejected(Reason.STATEMENT_INVALID, detail)
