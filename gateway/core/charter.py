"""The charter (章程): the one document the provinces agree on, and the only trust configured out of band.

It names the trust anchors and their keys, how many of them make a quorum, the members, and the recognition agreement.
It is a JWS in general JSON serialization (RFC 7515 section 7.2.1), one payload with one signature per anchor, because
what counts is that several provinces signed the same bytes.

One charter follows another by the root rules of TUF (specification 1.0.34, section 5.3):

* version N+1 is accepted only on top of version N, and names N's digest;
* a quorum of N's anchors signed it *and* a quorum of its own anchors: the old ones hand over, the new ones take over;
* an anchor counts once and a key counts once, however often they signed;
* a signature that does not verify counts for nothing and spoils nothing, or one bad anchor could block the others;
* on the way through several versions expiry is ignored, so that a gateway long offline can catch up; the one it
  arrives at must be unexpired, or somebody is holding back its successor.

The digest of a charter is taken over its payload bytes. Signatures may be added after it was pinned or named as a
predecessor, by an anchor that was away; that must not make it another charter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from gateway.core.agreement import Agreement, parse_agreement
from gateway.core.encoding import JsonLimits, b64url_encode, parse_json_object, sha256_b64url, write_json
from gateway.core.fields import Field
from gateway.core.identifiers import Province, check_entity_id
from gateway.core.jose import (
    Payload,
    PublicKey,
    Signer,
    assemble_jws,
    decode_payload,
    import_jwks,
    protected_header,
    verify_signature,
)
from gateway.core.reasons import Reason, Rejected

CHARTER_TYP: Final = "recognition-charter+jws"
ISSUER_TYPE: Final = "identity_credential_issuer"
GATEWAY_TYPE: Final = "recognition_gateway"
ENTITY_TYPES: Final = frozenset({ISSUER_TYPE, GATEWAY_TYPE})
"""Closed: a misspelt entity type would make a member without a role, and nobody would notice."""

MAX_DOCUMENT_CHARS: Final = 1_048_576
MAX_SIGNATURES: Final = 64
"""Two full sets of anchors, each with a spare key."""
MAX_ANCHORS: Final = 16
MAX_MEMBERS: Final = 400
MAX_VERSION: Final = 1_000_000
MAX_LIFETIME: Final = timedelta(days=400)
"""A charter that never expires could be frozen for ever: its successors held back, its removed keys kept alive."""

_ENVELOPE_LIMITS: Final = JsonLimits(
    max_bytes=MAX_DOCUMENT_CHARS, max_depth=3, max_members=3 * MAX_SIGNATURES + 2, max_string=MAX_DOCUMENT_CHARS
)
_PAYLOAD_LIMITS: Final = JsonLimits(max_bytes=MAX_DOCUMENT_CHARS, max_depth=8, max_members=50_000, max_string=4_096)
_DIGEST: Final = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")  # 32 bytes, the one spelling
_MAX_NUMERIC_DATE: Final = 253_402_300_799  # the last second of year 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class CharterAnchor:
    """A trust anchor, the province that operates it, and the keys it may sign with."""

    entity_id: str
    keys: Mapping[str, PublicKey]
    province: Province


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An issuer or a gateway that the anchors may vouch for."""

    entity_id: str
    province: Province
    entity_types: frozenset[str]
    name_zh: str
    name_en: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Charter:
    """One version of the charter."""

    version: int
    prev_sha256: str | None
    """Digest of the version before; None in version 1 only."""
    issued_at: datetime
    expires_at: datetime
    anchors: tuple[CharterAnchor, ...]
    quorum: int
    members: tuple[Member, ...]
    agreement: Agreement
    sha256: str
    """SHA-256 of the payload bytes, base64url."""
    document: str
    """The signed document as received; stored and relayed as it is."""

    def anchor(self, entity_id: str) -> CharterAnchor | None:
        """Look up an anchor; None when the charter names none of that identifier."""
        return next((anchor for anchor in self.anchors if anchor.entity_id == entity_id), None)

    def member(self, entity_id: str) -> Member | None:
        """Look up a member; None when the charter names none of that identifier."""
        return next((member for member in self.members if member.entity_id == entity_id), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedCharter:
    """A well-formed charter whose signatures nobody has counted yet."""

    unverified: Charter
    """What it says. For people to look at before they sign; nothing else may act on it."""
    signed: Payload
    """What the signatures are over. It is large and they are many, so it was decoded once for all of them."""
    signatures: tuple[tuple[str, str], ...]
    """(protected header, signature) as in the document, base64url and nothing looked at yet."""

    @property
    def payload(self) -> str:
        """The payload as in the document, base64url."""
        return self.signed.encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdResult:
    """How far a charter is from the quorum of one set of anchors; provinces in their usual order."""

    required: int
    signed: tuple[CharterAnchor, ...]
    missing: tuple[CharterAnchor, ...]

    @property
    def met(self) -> bool:
        """Whether enough anchors signed."""
        return len(self.signed) >= self.required

    def __str__(self) -> str:
        """For people: ``2 of 3, missing zj ah``."""
        missing = " ".join(anchor.province.code for anchor in self.missing)
        return f"{len(self.signed)} of {self.required}" + (f", missing {missing}" if missing else "")


# -- reading ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)  # one document is read again and again, and what was read of it never changes
def parse_charter(document: str) -> UnverifiedCharter:
    """Read a charter and check everything about it but its signatures.

    Raises:
        Rejected: CHARTER_INVALID.
    """
    envelope = Field("", _json(document, _ENVELOPE_LIMITS)).members("payload", "signatures")
    payload = envelope["payload"].token(MAX_DOCUMENT_CHARS)
    signatures = tuple(_signature(item) for item in envelope["signatures"].items(0, MAX_SIGNATURES))
    try:
        signed = decode_payload(payload)
    except Rejected as error:
        raise envelope["payload"].invalid(error.detail) from error
    return UnverifiedCharter(unverified=_charter(signed.decoded, document), signed=signed, signatures=signatures)


def _signature(field: Field) -> tuple[str, str]:
    # Exactly two members: an unprotected header is not covered by the signature, so nobody may be led by it.
    members = field.members("protected", "signature")
    return members["protected"].token(MAX_DOCUMENT_CHARS), members["signature"].token(MAX_DOCUMENT_CHARS)


def _json(text: str | bytes, limits: JsonLimits) -> dict[str, Any]:
    if len(text) > limits.max_bytes:
        raise Rejected(Reason.CHARTER_INVALID, "charter: over the size limit")
    # Lone surrogates become bytes that are no UTF-8, and are refused as such.
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        return parse_json_object(raw, limits)
    except Rejected as error:
        raise Rejected(Reason.CHARTER_INVALID, f"charter: {error.detail}") from error


def _charter(raw: bytes, document: str) -> Charter:
    root = Field("", _json(raw, _PAYLOAD_LIMITS))
    members = root.members("version", "prev_sha256", "iat", "exp", "anchors", "quorum", "members", "agreement")
    version = members["version"].integer(1, MAX_VERSION)
    charter = Charter(
        version=version,
        prev_sha256=_predecessor(members["prev_sha256"], version),
        issued_at=_instant(members["iat"]),
        expires_at=_instant(members["exp"]),
        anchors=tuple(_anchor(item) for item in members["anchors"].items(1, MAX_ANCHORS)),
        quorum=members["quorum"].integer(1, MAX_ANCHORS),
        members=tuple(_member(item) for item in members["members"].items(1, MAX_MEMBERS)),
        agreement=parse_agreement(members["agreement"].value),
        sha256=sha256_b64url(raw),
        document=document,
    )
    # The difference, because there is no sum near the end of the year 9999.
    if not timedelta(0) < charter.expires_at - charter.issued_at <= MAX_LIFETIME:
        raise members["exp"].invalid(f"must be after iat, by at most {MAX_LIFETIME.days} days")
    _check_anchors(charter, members)
    _check_members(charter, members)
    return charter


def _check_anchors(charter: Charter, members: Mapping[str, Field]) -> None:
    anchors = charter.anchors
    # More than half, so that two disjoint sets of anchors can never sign two charters of one version.
    if not len(anchors) < 2 * charter.quorum <= 2 * len(anchors):
        raise members["quorum"].invalid("must be more than half of the anchors, and no more than all")
    if len({anchor.entity_id for anchor in anchors}) != len(anchors):
        raise members["anchors"].invalid("two anchors share an entity_id")
    if len({anchor.province for anchor in anchors}) != len(anchors):
        raise members["anchors"].invalid("two anchors share a province, which would give it two votes")
    thumbprints = [key.thumbprint for anchor in anchors for key in anchor.keys.values()]
    if len(set(thumbprints)) != len(thumbprints):
        raise members["anchors"].invalid("two anchors share a key, which would give its holder two votes")


def _check_members(charter: Charter, members: Mapping[str, Field]) -> None:
    types = {member.entity_id: member.entity_types for member in charter.members}
    if len(types) != len(charter.members):
        raise members["members"].invalid("two members share an entity_id")
    if not types.keys().isdisjoint(anchor.entity_id for anchor in charter.anchors):
        raise members["members"].invalid("an anchor must not be a member: it would vouch for itself")
    if any(ISSUER_TYPE not in types.get(issuer, ()) for issuer in charter.agreement.issuers):
        raise members["agreement"].invalid("issuers must all be members that issue credentials")


def _predecessor(field: Field, version: int) -> str | None:
    if version == 1:
        if field.value is not None:
            raise field.invalid("must be null in version 1")
        return None
    digest = field.token()
    if _DIGEST.fullmatch(digest) is None:
        raise field.invalid("must be a SHA-256 digest, base64url")
    return digest


def _instant(field: Field) -> datetime:
    return datetime.fromtimestamp(field.integer(0, _MAX_NUMERIC_DATE), UTC)


def _anchor(field: Field) -> CharterAnchor:
    members = field.members("entity_id", "jwks", "province")
    members["jwks"].members("keys")
    try:
        keys = import_jwks(members["jwks"].value)
    except Rejected as error:
        raise members["jwks"].invalid(error.detail) from error
    return CharterAnchor(
        entity_id=_entity_id(members["entity_id"]),
        keys=MappingProxyType(dict(keys)),
        province=_province(members["province"]),
    )


def _member(field: Field) -> Member:
    members = field.members("entity_id", "province", "entity_types", "name_zh", "name_en")
    entity_types = members["entity_types"].tokens(1, len(ENTITY_TYPES))
    if not entity_types <= ENTITY_TYPES:
        raise members["entity_types"].invalid(f"must be among {' '.join(sorted(ENTITY_TYPES))}")
    return Member(
        entity_id=_entity_id(members["entity_id"]),
        province=_province(members["province"]),
        entity_types=entity_types,
        name_zh=members["name_zh"].text(),
        name_en=members["name_en"].text(),
    )


def _entity_id(field: Field) -> str:
    text = field.token()
    try:
        check_entity_id(text)
    except ValueError as error:
        raise field.invalid(str(error)) from error
    return text


def _province(field: Field) -> Province:
    try:
        return Province(field.token())
    except ValueError as error:
        raise field.invalid(f"must be among {' '.join(province.code for province in Province)}") from error


# -- trusting ---------------------------------------------------------------------------------------------------------


def count_signatures(charter: UnverifiedCharter, electorate: Charter) -> ThresholdResult:
    """Count which anchors of ``electorate`` signed ``charter``. What does not verify is not counted, and no error."""
    owners = {kid: (anchor, key) for anchor in electorate.anchors for kid, key in anchor.keys.items()}
    signed: set[str] = set()
    for protected, signature in charter.signatures:  # at most MAX_SIGNATURES
        try:
            jws = assemble_jws(protected, charter.signed, signature)
            anchor, key = owners.get(jws.header.kid or "", (None, None))
            if anchor is None or key is None or anchor.entity_id in signed or jws.header.typ != CHARTER_TYP:
                continue
            verify_signature(jws, key)
        except Rejected:
            continue
        signed.add(anchor.entity_id)
    anchors = sorted(electorate.anchors, key=lambda anchor: list(Province).index(anchor.province))
    return ThresholdResult(
        required=electorate.quorum,
        signed=tuple(anchor for anchor in anchors if anchor.entity_id in signed),
        missing=tuple(anchor for anchor in anchors if anchor.entity_id not in signed),
    )


def verify_pinned(document: str, pinned_sha256: str) -> Charter:
    """Accept a charter by its digest, configured out of band, and its own anchors' quorum; expired or not.

    The pin alone would do. The quorum is asked for as well because a digest that people copied between systems may have
    been taken from a draft that was never agreed.

    Raises:
        Rejected: CHARTER_INVALID, QUORUM_NOT_MET.
    """
    parsed = parse_charter(document)
    charter = parsed.unverified
    if charter.sha256 != pinned_sha256:
        raise Rejected(Reason.CHARTER_INVALID, "charter: digest is not the pinned one")
    _require_quorum(parsed, charter)
    return charter


def verify_successor(current: Charter, document: str) -> Charter:
    """Take one step from a trusted charter to the next version; its expiry is judged by whoever stops there.

    Raises:
        Rejected: CHARTER_INVALID, QUORUM_NOT_MET.
    """
    parsed = parse_charter(document)
    charter = parsed.unverified
    if charter.version != current.version + 1:
        raise Rejected(Reason.CHARTER_INVALID, "version: must be one more than the current charter's")
    if charter.prev_sha256 != current.sha256:
        raise Rejected(Reason.CHARTER_INVALID, "prev_sha256: must be the digest of the current charter")
    _require_quorum(parsed, current)
    _require_quorum(parsed, charter)
    return charter


def verify_chain(current: Charter, documents: Iterable[str]) -> Charter:
    """Walk from a trusted charter over its successors, oldest first, and give the last.

    Raises:
        Rejected: as ``verify_successor``, at the first step that cannot be taken.
    """
    for document in documents:
        current = verify_successor(current, document)
    return current


def continuing_anchors(old: Charter, new: Charter) -> tuple[CharterAnchor, ...]:
    """Give the anchors whose word goes on counting from one charter to the next: in both, by a key that is in both.

    Any other anchor of ``new`` begins to count when its first statements have gone round. While those that continue are
    fewer than the quorum, no key of any member is attested often enough.
    """
    return tuple(
        anchor
        for anchor in new.anchors
        if (before := old.anchor(anchor.entity_id)) is not None and not before.keys.keys().isdisjoint(anchor.keys)
    )


def require_unexpired(charter: Charter, now: datetime) -> None:
    """Refuse to stop at an expired charter: its successor may be withheld.

    Raises:
        Rejected: EXPIRED.
    """
    if now >= charter.expires_at:
        raise Rejected(Reason.EXPIRED, f"charter version {charter.version} has expired")


def _require_quorum(parsed: UnverifiedCharter, electorate: Charter) -> None:
    result = count_signatures(parsed, electorate)
    if not result.met:
        raise Rejected(Reason.QUORUM_NOT_MET, f"anchors of charter version {electorate.version}: {result}")


# -- authoring --------------------------------------------------------------------------------------------------------


def draft(claims: Mapping[str, Any]) -> bytes:
    """Check a charter's claims and write the payload that the anchors are to sign.

    Raises:
        Rejected: CHARTER_INVALID.
    """
    payload = write_json(claims)
    _charter(payload, "")
    return payload


def unsigned(payload: bytes) -> str:
    """Write the document that carries a payload and no signature yet."""
    return _write(b64url_encode(payload), ())


def add_signature(
    document: str, signer: Signer, *, previous: Charter | None = None, allow_unlisted: bool = False
) -> str:
    """Add one anchor's signature, in place of one the same key gave before.

    Args:
        document: the charter, signed by some or none.
        signer: a key of an anchor; it may be kept offline.
        previous: the charter now in force; an anchor that is leaving is listed only there.
        allow_unlisted: sign although neither charter lists the key. Such a signature counts for nothing yet.

    Raises:
        Rejected: CHARTER_INVALID.
    """
    parsed = parse_charter(document)
    listed = [parsed.unverified, *([previous] if previous else [])]
    anchors = [anchor for charter in listed for anchor in charter.anchors]
    if not allow_unlisted and not any(signer.public.kid in anchor.keys for anchor in anchors):
        raise Rejected(Reason.CHARTER_INVALID, "signatures: signer is no anchor of this charter or the previous one")
    protected = protected_header(CHARTER_TYP, signer)
    signature = b64url_encode(signer.sign(f"{protected}.{parsed.payload}".encode("ascii")))
    others = tuple(entry for entry in parsed.signatures if entry[0] != protected)
    if len(others) >= MAX_SIGNATURES:
        raise Rejected(Reason.CHARTER_INVALID, f"signatures: must have at most {MAX_SIGNATURES} items")
    return _write(parsed.payload, (*others, (protected, signature)))


def merge_signatures(documents: Sequence[str]) -> str:
    """Put the signatures together that several people gave, each on a copy of the same charter.

    No signature is judged here, since some may be of anchors that only the charter before lists. So two of one key are
    both kept: the one that does not verify must not push out the one that does.

    Args:
        documents: the copies, at least one.

    Raises:
        Rejected: CHARTER_INVALID; one is no charter, or another charter than the first.
    """
    copies = [parse_charter(document) for document in documents]
    first = copies[0]
    for copy in copies:
        if copy.unverified.sha256 != first.unverified.sha256:
            raise Rejected(Reason.CHARTER_INVALID, "payload: is not the first one's; these are different charters")
    entries = tuple(dict.fromkeys(entry for copy in copies for entry in copy.signatures))
    if len(entries) > MAX_SIGNATURES:
        raise Rejected(Reason.CHARTER_INVALID, f"signatures: must have at most {MAX_SIGNATURES} items")
    return _write(first.payload, entries)


def _write(payload: str, signatures: tuple[tuple[str, str], ...]) -> str:
    entries = [{"protected": protected, "signature": signature} for protected, signature in signatures]
    return write_json({"payload": payload, "signatures": entries}).decode("utf-8")
