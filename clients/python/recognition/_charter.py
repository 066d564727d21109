"""Charters: what the provinces agreed, and the findings when something does not hold.

* The first one is the caller's. Each that follows it is signed by a quorum of the anchors of the one before and by a
  quorum of its own. An anchor counts once, and a signature that does not verify spoils nothing.
* Its digest is over the payload: signatures may be added later, and make no other charter of it.
* Only what decides something here is read. What else a quorum of provinces signed is theirs to have written well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final, NamedTuple

from recognition._jose import (
    Key,
    Limits,
    Unreadable,
    as_bytes,
    assemble,
    decode,
    import_jwks,
    parse_json,
    read_items,
    read_members,
    read_number,
    read_text,
    sha256,
)


class Flaw(StrEnum):
    """Why a bundle proves nothing. Closed."""

    MALFORMED = "MALFORMED"
    """It cannot be read, or something in it says what it may not or is too large."""
    CHARTER_INVALID = "CHARTER_INVALID"
    """A charter cannot be read, is not the pinned one, or does not follow the one before; or the receipt names
    another."""
    QUORUM_NOT_MET = "QUORUM_NOT_MET"
    """Too few anchors signed a charter."""
    CHARTER_EXPIRED = "CHARTER_EXPIRED"
    """The newest charter had expired when the receipt was signed."""
    NOT_YET_VALID = "NOT_YET_VALID"
    """Something is dated after now."""
    GATEWAY_UNKNOWN = "GATEWAY_UNKNOWN"
    """It is signed in the name of nobody who is a gateway of the newest charter."""
    KEY_UNKNOWN = "KEY_UNKNOWN"
    """No quorum of anchors attested the key, for this purpose and when the receipt was signed."""
    KEY_REVOKED = "KEY_REVOKED"
    """The key was revoked as compromised, or superseded before it signed."""
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    """A signature does not hold."""
    ENTRY_MISMATCH = "ENTRY_MISMATCH"
    """The entry is not the one that the receipt names, or says something else."""
    PROOF_INVALID = "PROOF_INVALID"
    """The log is another one, or is not proven to hold the entry there."""


class NotProven(Exception):  # noqa: N818 - a finding, not a malfunction
    """The bundle is evidence of nothing."""

    def __init__(self, reason: Flaw, detail: str) -> None:
        """Say why.

        Args:
            reason: why.
            detail: for engineers; it repeats nothing of what the bundle says.
        """
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


PROVINCES: Final = ("sh", "js", "zj", "ah")
MAX_SKEW: Final = 60
"""Seconds by which clocks may differ."""
MAX_TIME: Final = 253_402_300_799
"""The end of the year 9999."""
MAX_VERSION: Final = 1_000_000
"""Of a charter."""
MAX_DOCUMENT: Final = 1_048_576
"""Characters of a charter, the largest thing in a bundle."""
_MAX_SIGNATURES: Final = 64
_MAX_ANCHORS: Final = 16
MAX_MEMBERS: Final = 400
_MAX_CHARTER_LIFETIME: Final = 400 * 86_400
_MAX_GRACE: Final = 86_400
_ENVELOPE_LIMITS: Final = Limits(size=MAX_DOCUMENT, depth=3, members=3 * _MAX_SIGNATURES + 2, string=MAX_DOCUMENT)
_CHARTER_LIMITS: Final = Limits(size=MAX_DOCUMENT, depth=8, members=50_000, string=4_096)
TOKEN: Final = re.compile(r"[!-~]{1,255}")
"""An identifier."""
GATEWAY: Final = "recognition_gateway"


class Charter(NamedTuple):
    """What a charter says, as far as it matters here."""

    version: int
    sha256: str
    prev_sha256: str | None
    expires_at: int
    quorum: int
    anchors: Mapping[str, Mapping[str, Key]]
    """Their keys by kid."""
    members: Sequence[str]
    gateways: Mapping[str, str]
    """Members that are gateways: their provinces."""
    grace: int
    """Seconds for which what anchors said still counts after its end."""
    encoded: str
    """The payload, base64url."""
    payload: bytes
    signatures: Sequence[Mapping[str, Any]]


def follow(document: str, pin: str | None, successors: Iterable[str]) -> Sequence[Charter]:
    """Give the caller's charter, and those that follow it in the bundle.

    Raises:
        NotProven: CHARTER_INVALID, QUORUM_NOT_MET.
    """
    try:
        pinned, others = _read_charter(document), [_read_charter(each) for each in successors]
    except Unreadable as error:
        raise NotProven(Flaw.CHARTER_INVALID, str(error)) from error
    if pin is not None and pinned.sha256 != pin:
        raise NotProven(Flaw.CHARTER_INVALID, "the charter is not the pinned one")
    _require_quorum(pinned, pinned)
    charters = [pinned, *(each for each in others if each.version > pinned.version)]
    # Those before the pinned one decide nothing; but they are its predecessors, or this is another history.
    if others and others[0].version <= pinned.version and pinned.sha256 not in {each.sha256 for each in others}:
        raise NotProven(Flaw.CHARTER_INVALID, "the pinned charter is not among those of the bundle")
    for before, each in (*pairwise(others), *pairwise(charters)):
        if (each.version, each.prev_sha256) != (before.version + 1, before.sha256):
            raise NotProven(Flaw.CHARTER_INVALID, "a charter does not follow the one before")
    for before, each in pairwise(charters):
        _require_quorum(each, before)
        _require_quorum(each, each)
    return charters


def _require_quorum(charter: Charter, electorate: Charter) -> None:
    owners = {kid: (anchor, key) for anchor, keys in electorate.anchors.items() for kid, key in keys.items()}
    signed: set[str] = set()
    for each in charter.signatures:  # at most _MAX_SIGNATURES; one that does not verify spoils nothing
        try:
            jws = assemble(each["protected"], charter.encoded, charter.payload, each["signature"])
        except Unreadable:
            continue
        anchor, key = owners.get(jws.kid, ("", None))
        if key is not None and jws.typ == "recognition-charter+jws" and key.verifies(jws):
            signed.add(anchor)
    if len(signed) < electorate.quorum:
        raise NotProven(Flaw.QUORUM_NOT_MET, f"too few anchors of charter version {electorate.version} signed")


def _read_charter(document: str) -> Charter:
    if len(document) > MAX_DOCUMENT:
        raise Unreadable("a charter is over the size limit")
    envelope = read_members(parse_json(as_bytes(document), _ENVELOPE_LIMITS), "payload", "signatures")
    signatures = [
        read_members(each, "protected", "signature") for each in read_items(envelope, "signatures", 0, _MAX_SIGNATURES)
    ]
    payload = decode(envelope["payload"])
    claims = read_members(
        parse_json(payload, _CHARTER_LIMITS),
        *("version", "prev_sha256", "iat", "exp", "anchors", "quorum", "members", "agreement"),
    )
    anchors = [
        read_members(each, "entity_id", "jwks", "province") for each in read_items(claims, "anchors", 1, _MAX_ANCHORS)
    ]
    members = [
        read_members(each, "entity_id", "province", "entity_types", "name_zh", "name_en")
        for each in read_items(claims, "members", 1, MAX_MEMBERS)
    ]
    version, quorum = read_number(claims, "version", MAX_VERSION), read_number(claims, "quorum", _MAX_ANCHORS)
    lifetime = read_number(claims, "exp", MAX_TIME) - read_number(claims, "iat", MAX_TIME)
    agreement = claims["agreement"] if isinstance(claims["agreement"], dict) else {}
    charter = Charter(
        version=version,
        sha256=sha256(payload),
        prev_sha256=None if claims["prev_sha256"] is None else read_text(claims, "prev_sha256", TOKEN),
        expires_at=claims["exp"],
        quorum=quorum,
        anchors={read_text(each, "entity_id", TOKEN): import_jwks(each["jwks"]) for each in anchors},
        members=[read_text(each, "entity_id", TOKEN) for each in members],
        gateways={
            each["entity_id"]: each["province"] for each in members if GATEWAY in read_items(each, "entity_types", 1, 2)
        },
        grace=read_number(agreement, "stale_grace_seconds", _MAX_GRACE),
        encoded=envelope["payload"],
        payload=payload,
        signatures=signatures,
    )
    kids = [kid for keys in charter.anchors.values() for kid in keys]
    provinces = [each["province"] for each in anchors]
    named = [each["entity_id"] for each in (*anchors, *members)]
    # No anchor twice, no province twice, no key twice: each would be two votes. No anchor vouches for itself.
    if not all(len(set(map(str, each))) == len(each) for each in (kids, provinces, named)):
        raise Unreadable("an entity, a province or a key appears twice in a charter")
    if not all(province in PROVINCES for province in (*provinces, *(each["province"] for each in members))):
        raise Unreadable("a charter names a province that is none")
    # More than half, so that no two disjoint sets of anchors can sign.
    if not len(anchors) < 2 * quorum <= 2 * len(anchors):
        raise Unreadable("the quorum of a charter is not more than half, or more than all")
    if version < 1 or (version == 1) is not (charter.prev_sha256 is None) or not 0 < lifetime <= _MAX_CHARTER_LIFETIME:
        raise Unreadable("a charter has no version, no predecessor or no proper end")
    return charter
