"""Checks an evidence bundle: what a gateway decided, proven without asking anybody and without trusting the gateway.

    match evidence.check(bundle, charter, sha256=pinned):
        case evidence.Proven(receipt=receipt, witnesses=witnesses): ...   # nobody can deny it, or have made it up since
        case evidence.Signed(receipt=receipt): ...                        # one gateway's word, and no more

Written apart from the gateway's own check, so that no one program has to be right. It reads no clock and asks no
network; it needs ``recognition-client[evidence]``, which brings ``cryptography``, and neither gRPC nor protobuf.

Rules that live here; whose keys count is the business of ``_trust``:

* The receipt, the entry and its place in the log say the same, or there is no evidence. A hash in the proof too many
  is as bad as one too few.
* Signed, in the log, and seen by others are three answers. "Not yet in the log" is what an honest bundle says in its
  first minutes; a proof that fails is something else.
* A head of the log counts as seen by another province when a gateway of that province cosigned this very head.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

from recognition._charter import (
    MAX_DOCUMENT,
    MAX_SKEW,
    MAX_TIME,
    MAX_VERSION,
    PROVINCES,
    Charter,
    Flaw,
    NotProven,
    follow,
)
from recognition._jose import (
    Limits,
    Unreadable,
    as_bytes,
    decode,
    parse_compact,
    parse_json,
    read_hash,
    read_number,
    read_string,
    read_strings,
    read_text,
)
from recognition._trust import Trust, trust_at

__all__ = ["Evidence", "Flaw", "NotProven", "Proven", "Receipt", "Signed", "Verdict", "check"]

# -- answers ----------------------------------------------------------------------------------------------------------


class Verdict(StrEnum):
    """What came of a verification."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a gateway says that it decided."""

    gateway: str
    province: str
    service: str
    """The relying service that asked."""
    verification_id: str
    verified_at: datetime
    """When it was decided."""
    issued_at: datetime
    """When the receipt was signed."""
    matter: str
    verdict: Verdict
    reason: str | None
    """A name of ``recognition.v1.Reason`` without its prefix; None exactly when accepted. Newer ones may come."""
    charter_version: int
    charter_sha256: str
    """The charter by which it was decided. One older than the pinned one is the gateway's word alone."""
    view_id: str
    log: str
    position: int
    """Of the entry in the log, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    receipt: Receipt
    witnesses: tuple[str, ...]
    """Gateways that cosigned a head of the log with the entry in it, one for each other province."""

    def __bool__(self) -> NoReturn:
        """Refuse: ``if check(...)`` would take a word for a proof."""
        raise TypeError("match on Proven and Signed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven(_Answer):
    """The verdict is in the gateway's log, and as many other provinces as were asked for have seen that log."""

    log_size: int
    """Entries of the log in the head that they saw."""
    logged_at: datetime
    """When the gateway signed that head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed(_Answer):
    """The gateway signed the verdict, and nothing is wrong; it could still deny it, or have made it up since.

    As in the minutes after the verdict: ask the gateway for the evidence again.
    """

    in_log: bool
    """Whether the log holds it, and only too few provinces have seen that."""


Evidence: TypeAlias = Proven | Signed


# -- the check --------------------------------------------------------------------------------------------------------

_MAX_CHARS: Final = 4_096
"""Of a receipt, a checkpoint or a cosignature."""
_LIMITS: Final = Limits(size=_MAX_CHARS, depth=2, members=32, string=1_024)
_MAX_TREE: Final = 2**40
"""Entries of a log."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SERVICE: Final = re.compile(r"[!-~]{1,255}")
_MATTER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_REASON: Final = re.compile(r"[A-Z][A-Z_]{0,63}")


def check(
    bundle: bytes | str, charter: str, sha256: str | None = None, witnesses: int = 1, now: datetime | None = None
) -> Evidence:
    """Check an evidence bundle.

    Args:
        bundle: the file.
        charter: a charter that the caller trusts, no newer than the one in force when the bundle was put together.
        sha256: the digest of its payload, base64url, as the provinces announced it. None: the file given is trusted as
            it is, so it must have come from somewhere that nobody who gains by the bundle could write to.
        witnesses: how many other provinces must have seen the log, 1 to 3.
        now: the time, with its zone; nothing may be dated after it. None: dates are not held against any clock.

    Returns:
        ``Proven`` or ``Signed``; neither says whether the credential was accepted: that is ``receipt.verdict``.

    Raises:
        NotProven: the bundle is evidence of nothing, or its proof fails.
        ValueError: ``witnesses`` or ``now`` is not as above.
    """
    if not 1 <= witnesses < len(PROVINCES):
        raise ValueError("witnesses must be 1 to 3")
    if now is not None and now.utcoffset() is None:
        raise ValueError("now must have a time zone")
    until = MAX_TIME if now is None else int(now.timestamp()) + MAX_SKEW
    try:
        return _check(_read_bundle(bundle), charter, sha256, witnesses, until)
    except Unreadable as error:
        raise NotProven(Flaw.MALFORMED, str(error)) from error


def _check(bundle: _Bundle, document: str, pin: str | None, needed: int, until: int) -> Evidence:
    charters = follow(document, pin, bundle.charters)
    # Unverified as yet, and only to learn as of when keys have to count: a false time finds no key.
    at = read_number(parse_json(parse_compact(bundle.receipt, _MAX_CHARS).payload, _LIMITS), "iat", MAX_TIME)
    trust = trust_at(charters[-1], at, bundle.statements, bundle.events)
    claims = _verified(bundle.receipt, _RECEIPT, trust, until)
    receipt = _read_receipt(claims, trust.charter.gateways[claims["iss"]])
    _require_charter(receipt, charters)
    leaf = hashlib.sha256(b"\x00" + bundle.entry).digest()
    if leaf != read_hash(claims, "entry_sha256") or _read_entry(bundle.entry) != _repeated(claims):
        raise NotProven(Flaw.ENTRY_MISMATCH, "the entry is not the one that the receipt names, or says something else")
    if bundle.checkpoint is None:
        return Signed(receipt=receipt, witnesses=(), in_log=False)
    checkpoint = _verified(bundle.checkpoint, _CHECKPOINT, trust, until)
    head = _head(checkpoint, checkpoint["iss"])
    _, log, size, root = head
    if (checkpoint["iss"], log) != (receipt.gateway, receipt.log):
        raise NotProven(Flaw.PROOF_INVALID, "the head is of another log")
    if receipt.position >= size or _root(leaf, receipt.position, size, bundle.inclusion) != root:
        raise NotProven(Flaw.PROOF_INVALID, "the log is not proven to hold the entry")
    seen = _witnesses(bundle.cosignatures, head, trust, until)
    if len(seen) < needed:
        return Signed(receipt=receipt, witnesses=seen, in_log=True)
    return Proven(receipt=receipt, witnesses=seen, log_size=size, logged_at=_instant(checkpoint["iat"]))


def _require_charter(receipt: Receipt, charters: Sequence[Charter]) -> None:
    known = {each.version: each.sha256 for each in charters}
    if receipt.charter_version < charters[0].version:
        return
    if known.get(receipt.charter_version) != receipt.charter_sha256:
        raise NotProven(Flaw.CHARTER_INVALID, "the receipt names another charter")


def _witnesses(tokens: Iterable[str], head: _Head, trust: Trust, until: int) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for token in tokens:  # at most _MAX_COSIGNATURES
        # One that does not count spoils nothing, or a bad witness could silence the good ones.
        try:
            claims = _verified(token, _COSIGNATURE, trust, until)
            is_same = _head(claims, claims["sub"]) == head
        except (NotProven, Unreadable):
            continue
        province = trust.charter.gateways[claims["iss"]]
        if is_same and province != trust.charter.gateways[head.gateway]:
            found.setdefault(province, claims["iss"])
    return tuple(found[province] for province in PROVINCES if province in found)


def _root(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """Give the root that a proof leads to, by the definition of RFC 9162 section 2.1.3.1; None: of another length."""
    if size == 1 or not proof:
        return leaf if size == 1 and not proof else None
    left = 1 << (size - 1).bit_length() - 1  # the largest power of two below size
    right_half = index >= left
    inner = _root(leaf, index - left, size - left, proof[:-1]) if right_half else _root(leaf, index, left, proof[:-1])
    if inner is None:
        return None
    return hashlib.sha256(b"\x01" + (proof[-1] + inner if right_half else inner + proof[-1])).digest()


# -- what gateways sign -----------------------------------------------------------------------------------------------

_HEAD_CLAIMS: Final = frozenset({"iss", "iat", "log", "size", "root"})
_REPEATED: Final = ("aud", "verified_at", "jti", "matter", "verdict", "charter_version", "charter_sha256", "view_id")
"""What the entry has to say as well, and the reason."""


class _Kind(NamedTuple):
    """What a document has to be."""

    typ: str
    purpose: str
    """Of the key that signs it."""
    claims: frozenset[str]
    optional: frozenset[str] = frozenset()


_CHECKPOINT: Final = _Kind("audit-checkpoint+jwt", "audit_jwks", _HEAD_CLAIMS)
_COSIGNATURE: Final = _Kind("audit-cosignature+jwt", "audit_jwks", _HEAD_CLAIMS | {"sub"})
_RECEIPT: Final = _Kind(
    "verification-receipt+jwt",
    "receipt_jwks",
    frozenset({*_REPEATED, "iss", "iat", "log", "position", "entry_sha256"}),
    frozenset({"reason"}),
)


def _verified(token: str, kind: _Kind, trust: Trust, until: int) -> Mapping[str, Any]:
    typ, purpose, names, optional = kind
    jws = parse_compact(token, _MAX_CHARS)
    claims = parse_json(jws.payload, _LIMITS)
    if jws.typ != typ or not names <= claims.keys() <= {*names, *optional}:
        raise Unreadable(f"not a {typ}, a claim is missing, or there is one too many")
    issued_at = read_number(claims, "iat", MAX_TIME)
    if issued_at > until:
        raise NotProven(Flaw.NOT_YET_VALID, f"{typ} is from the future")
    read_text(claims, "log", _NAME)
    if not trust.key(claims["iss"], purpose, jws.kid, issued_at).verifies(jws):
        raise NotProven(Flaw.SIGNATURE_INVALID, f"signature of the {typ} does not hold")
    return claims


class _Head(NamedTuple):
    gateway: str
    log: str
    size: int
    root: bytes


def _head(claims: Mapping[str, Any], gateway: str) -> _Head:
    return _Head(gateway, claims["log"], read_number(claims, "size", _MAX_TREE), read_hash(claims, "root"))


def _read_receipt(claims: Mapping[str, Any], province: str) -> Receipt:
    reason = read_text(claims, "reason", _REASON) if "reason" in claims else None
    try:
        verdict = Verdict(claims["verdict"])
    except ValueError as error:
        raise Unreadable("verdict is none") from error
    verified_at = read_number(claims, "verified_at", MAX_TIME)
    if (reason is None) is not (verdict is Verdict.ACCEPTED) or claims["iat"] < verified_at:
        raise Unreadable("a receipt contradicts itself")
    read_hash(claims, "charter_sha256")
    return Receipt(
        gateway=claims["iss"],
        province=province,
        service=read_text(claims, "aud", _SERVICE),
        verification_id=read_text(claims, "jti", _NAME),
        verified_at=_instant(verified_at),
        issued_at=_instant(claims["iat"]),
        matter=read_text(claims, "matter", _MATTER),
        verdict=verdict,
        reason=reason,
        charter_version=read_number(claims, "charter_version", MAX_VERSION),
        charter_sha256=claims["charter_sha256"],
        view_id=read_text(claims, "view_id", _NAME),
        log=claims["log"],
        position=read_number(claims, "position", _MAX_TREE - 1),
    )


_ENTRY_LIMITS: Final = Limits(size=65_536, depth=8, members=6_000)
_ENTRY_TEXTS: Final = frozenset(
    {
        *("service", "caller_certificate", "matter", "verdict", "reason", "issuer", "kid", "charter_sha256", "view_id"),
        *("request_id", "terminal", "consent_id", "person", "actor", "replay"),
    }
)
_ENTRY_NUMBERS: Final = frozenset({"charter_version", "duration"})
_ENTRY_LISTS: Final = frozenset({"released", "actor_released"})


def _read_entry(raw: bytes) -> Mapping[str, Any]:
    """Read an entry of a log about a verification, and give what it says by the receipt's names."""
    entry = parse_json(raw, _ENTRY_LIMITS)
    canonical = json.dumps(entry, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
    if canonical.encode() != raw or entry.keys() != {"format", "kind", "at", "id", "body"}:
        raise Unreadable("the entry is not in its one spelling")
    body = entry["body"]
    if read_number(entry, "format", 1) != 1 or entry["kind"] != "verification" or not isinstance(body, dict):
        raise Unreadable("the entry is no verification")
    for name, value in body.items():
        is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
        fits = (
            (name in _ENTRY_TEXTS and isinstance(value, str))
            or (name in _ENTRY_NUMBERS and type(value) is int)
            or (name in _ENTRY_LISTS and is_list)
            or (name == "findings" and isinstance(value, dict))
        )
        if not fits:
            raise Unreadable("the entry says something that no verification says")
    return {
        "aud": body.get("service", ""),
        "verified_at": read_number(entry, "at", 1_000 * MAX_TIME) // 1_000,  # milliseconds
        "jti": entry["id"],
        "matter": body.get("matter", ""),
        "verdict": body.get("verdict", ""),
        "reason": body.get("reason", ""),
        "charter_version": body.get("charter_version", 0),
        "charter_sha256": body.get("charter_sha256", ""),
        "view_id": body.get("view_id", ""),
    }


def _repeated(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**{name: claims[name] for name in _REPEATED}, "reason": claims.get("reason", "")}


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# -- the file ---------------------------------------------------------------------------------------------------------

_MAX_BUNDLE: Final = 33_554_432
"""Bytes."""
_BUNDLE_LIMITS: Final = Limits(size=_MAX_BUNDLE, depth=2, members=8_192, string=MAX_DOCUMENT)
_MAX_ENTRY: Final = 65_536
"""Characters, base64url."""
_MAX_PROOF: Final = 41
"""Hashes: one for each level of the largest tree, and one."""
_MAX_COSIGNATURES: Final = 64
_MAX_STATEMENTS: Final = 4_000
_MAX_EVENTS: Final = 800
_MAX_CHARTERS: Final = 64
_ALWAYS: Final = frozenset({"format", "receipt", "entry", "statements", "events", "charters"})


class _Bundle(NamedTuple):
    receipt: str
    entry: bytes
    checkpoint: str | None
    inclusion: Sequence[bytes]
    cosignatures: Sequence[str]
    statements: Sequence[str]
    events: Sequence[str]
    charters: Sequence[str]


def _read_bundle(bundle: bytes | str) -> _Bundle:
    if len(bundle) > _MAX_BUNDLE:
        raise Unreadable("the bundle is over the size limit")
    file = parse_json(as_bytes(bundle), _BUNDLE_LIMITS)
    in_log = "checkpoint" in file
    # All or nothing: a head without a proof says nothing about the entry.
    if file.keys() != _ALWAYS | ({"checkpoint", "inclusion", "cosignatures"} if in_log else set()):
        raise Unreadable("a member of the bundle is missing, or there is one too many")
    if type(file["format"]) is not int or file["format"] != 1:
        raise Unreadable("the bundle is of another format")
    if len(read_string(file, "entry")) > _MAX_ENTRY:
        raise Unreadable("the entry is over the size limit")
    inclusion = [decode(each) for each in read_strings(file, "inclusion", _MAX_PROOF)] if in_log else []
    if any(len(each) != hashlib.sha256().digest_size for each in inclusion):
        raise NotProven(Flaw.PROOF_INVALID, "a hash has the wrong length")
    return _Bundle(
        receipt=read_string(file, "receipt"),
        entry=decode(file["entry"]),
        checkpoint=read_string(file, "checkpoint") if in_log else None,
        inclusion=inclusion,
        cosignatures=read_strings(file, "cosignatures", _MAX_COSIGNATURES) if in_log else [],
        statements=read_strings(file, "statements", _MAX_STATEMENTS),
        events=read_strings(file, "events", _MAX_EVENTS),
        charters=read_strings(file, "charters", _MAX_CHARTERS),
    )
