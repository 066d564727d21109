"""Acknowledgements: a gateway's signed word on which trust it enforces.

Whoever rotates a key has to know that every gateway holds the new one before it signs, and after a compromise that
every gateway refuses the old one. Rules that live here:

* Only a gateway of the charter acknowledges, by a federation key that a quorum of anchors attests, and only for itself.
* It says what is enforced now: keys that would be accepted, keys that are refused, and whose word it would take.
* An acknowledgement is evidence for people and for the gate before a rotation. No verdict on a credential depends on
  it, and a gateway that lies harms those who present credentials to it, nobody else.
* It tells nothing about any person or any verification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.core.charter import GATEWAY_TYPE, MAX_ANCHORS, MAX_MEMBERS, MAX_VERSION
from gateway.core.encoding import JsonLimits
from gateway.core.events import MAX_EVENTS
from gateway.core.jose import MAX_JWKS_KEYS, PublicKey, parse_compact, verify
from gateway.core.reasons import Reason, Rejected
from gateway.core.statements import MAX_ENTITY_ID_CHARS, MAX_NUMERIC_DATE, PROFILE
from gateway.core.trust import TrustView

ACKNOWLEDGEMENT_TYPE: Final = "trust-acknowledgement+jwt"
MAX_CHARS: Final = 327_680
MAX_AGE: Final = timedelta(hours=1)
"""An older one says what was enforced once, and may be a replay."""
_LIMITS: Final = JsonLimits(max_bytes=MAX_CHARS, max_depth=5, max_members=20_000)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_KEYS: Final = 4 * MAX_JWKS_KEYS
"""A member may be issuer and gateway, each with keys for two purposes."""
_MAX_REFUSED_OF_ONE: Final = 4 * MAX_EVENTS
_MAX_REFUSED: Final = 1_500
"""In all, which is little over a quarter of what may be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """What a gateway enforces, in its own word."""

    gateway: str
    issued_at: datetime
    charter_version: int
    view_id: str
    keys: Mapping[str, frozenset[str]]
    """By member: names of the keys that it would accept, an issuer's for credentials and status lists, a gateway's for
    receipts and checkpoints."""
    federation_keys: Mapping[str, frozenset[str]]
    """By member: thumbprints of the federation keys that a quorum of anchors attests to it."""
    refused: Mapping[str, frozenset[str]]
    """By member: names of the keys that it refuses as revoked."""
    anchor_keys: frozenset[str]
    """Names of the anchors' keys by its charter."""


def make(view: TrustView, gateway_id: str, now: datetime) -> dict[str, Any]:
    """Write what this gateway enforces by a view."""
    return {
        "iss": gateway_id,
        "iat": int(now.timestamp()),
        "charter_version": view.charter.version,
        "view_id": view.view_id,
        "keys": _accepted(view, now),
        "federation_keys": {
            member.entity_id: sorted(key.thumbprint for key in view.federation_keys(member.entity_id).values())
            for member in view.charter.members
        },
        "refused": _refused(view),
        "anchor_keys": sorted(kid for anchor in view.charter.anchors for kid in anchor.keys),
    }


def read(token: str, view: TrustView, now: datetime) -> Acknowledgement:
    """Read and verify a gateway's acknowledgement.

    Raises:
        Rejected: ISSUER_UNKNOWN when its author is no gateway of the charter, KEY_UNKNOWN when no quorum attests its
            key, EXPIRED, NOT_YET_VALID, SIGNATURE_INVALID, TYPE_MISMATCH, STATEMENT_INVALID, TOO_LARGE, or it cannot be
            read.
    """
    jws = parse_compact(token, max_chars=MAX_CHARS)
    if jws.header.typ != ACKNOWLEDGEMENT_TYPE:
        raise Rejected(Reason.TYPE_MISMATCH, f"typ is not {ACKNOWLEDGEMENT_TYPE}")
    # The signature before the claims: to read as many as there may be takes a while, and anybody can write them.
    owners = _owners(view, jws.header.kid or "")
    if not owners:
        raise Rejected(Reason.KEY_UNKNOWN, "signed by a key that no quorum of anchors attests")
    claims = verify(jws, next(iter(owners.values())), _LIMITS)
    gateway = claims.get("iss")
    member = view.charter.member(gateway) if isinstance(gateway, str) else None
    if member is None or GATEWAY_TYPE not in member.entity_types:
        raise Rejected(Reason.ISSUER_UNKNOWN, "not from a gateway of the charter")
    if member.entity_id not in owners:
        raise Rejected(Reason.KEY_UNKNOWN, "signed by a key that no quorum of anchors attests for this gateway")
    view_id = claims.get("view_id")
    if not isinstance(view_id, str) or _NAME.fullmatch(view_id) is None:
        raise _invalid("view_id")
    return Acknowledgement(
        gateway=member.entity_id,
        issued_at=_issued_at(claims, now),
        charter_version=_integer(claims, "charter_version", MAX_VERSION),
        view_id=view_id,
        keys=_sets(claims, "keys", _MAX_KEYS),
        federation_keys=_sets(claims, "federation_keys", _MAX_KEYS),
        refused=_sets(claims, "refused", _MAX_REFUSED_OF_ONE),
        anchor_keys=_set(claims.get("anchor_keys"), "anchor_keys", MAX_ANCHORS * MAX_JWKS_KEYS),
    )


def _accepted(view: TrustView, now: datetime) -> dict[str, list[str]]:
    sets = [(each.entity_id, keys) for each in view.issuers.values() for keys in (each.keys, each.status_keys)]
    sets += [(each.entity_id, keys) for each in view.gateways.values() for keys in (each.receipt_keys, each.audit_keys)]
    accepted: dict[str, set[str]] = {}
    for entity_id, keys in sets:
        accepted.setdefault(entity_id, set()).update(kid for kid, key in keys.items() if now < key.stale_until)
    return {entity_id: sorted(kids) for entity_id, kids in accepted.items()}


def _refused(view: TrustView) -> dict[str, list[str]]:
    """Give the revoked keys of all members, not of issuers alone: a gateway's key can be in other hands as well.

    Those that some anchor attested come first, the rest as far as there is room: a thief who made up thousands of names
    must not make the word of every honest gateway too long to be read.
    """
    refused: dict[str, list[str]] = {}
    room = _MAX_REFUSED
    for member, kid in sorted(view.revocations, key=lambda place: (not view.revocations[place].attested, place)):
        names = refused.setdefault(member, [])
        if room and len(names) < _MAX_REFUSED_OF_ONE:
            names.append(kid)
            room -= 1
    return {member: sorted(names) for member, names in refused.items() if names}


def _owners(view: TrustView, kid: str) -> Mapping[str, PublicKey]:
    """Give the members that a quorum of anchors attests a federation key to, by entity identifier."""
    attested = {member.entity_id: view.federation_keys(member.entity_id) for member in view.charter.members}
    return {member: keys[kid] for member, keys in attested.items() if kid in keys}


def _issued_at(claims: Mapping[str, Any], now: datetime) -> datetime:
    issued_at = datetime.fromtimestamp(_integer(claims, "iat", MAX_NUMERIC_DATE), UTC)
    if issued_at > now + PROFILE.clock_skew:
        raise Rejected(Reason.NOT_YET_VALID, "acknowledgement is from the future")
    if issued_at < now - MAX_AGE:
        raise Rejected(Reason.EXPIRED, "acknowledgement is too old to tell anything")
    return issued_at


def _integer(claims: Mapping[str, Any], name: str, at_most: int) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 <= value <= at_most:
        raise _invalid(name)
    return value


def _sets(claims: Mapping[str, Any], name: str, at_most: int) -> Mapping[str, frozenset[str]]:
    value = claims.get(name)
    if (
        not isinstance(value, dict)
        or len(value) > MAX_MEMBERS
        or any(len(each) > MAX_ENTITY_ID_CHARS for each in value)
    ):
        raise _invalid(name)
    return {member: _set(names, name, at_most) for member, names in value.items()}


def _set(value: object, name: str, at_most: int) -> frozenset[str]:
    if not isinstance(value, list) or len(value) > at_most:
        raise _invalid(name)
    if not all(isinstance(each, str) and _NAME.fullmatch(each) is not None for each in value):
        raise _invalid(name)
    return frozenset(value)


def _invalid(name: str) -> Rejected:
    return Rejected(Reason.STATEMENT_INVALID, f"{name} of an acknowledgement is malformed")
