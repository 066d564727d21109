"""Receipts, and the file by which a service proves years later what it was told.

A receipt is a gateway's signed word that it gave a service a verdict, and where in its log it wrote that down. It is
worth as much as the gateway's honesty; the log takes that out: with the entry, a proof that the log holds it, and the
word of other provinces that they have seen this log, the gateway can neither deny the verdict nor have made it up
afterwards. An evidence bundle keeps all of it in one file, with the trust documents of the time, and is checked without
asking anybody. Rules that live here:

* A receipt tells nothing about a person: which verification, for which service and matter, and what came of it.
* The charter is pinned by whoever checks, and those that follow it stand on its signatures. A bundle brings keys along,
  and none of them counts unless a quorum of that charter's anchors attests it, as of the time of what it signed.
* A receipt, its entry and its place in the log say the same, or the bundle is refused.
* Signed, in the log, and seen by others are three answers. "Not yet in the log" is what an honest bundle says in its
  first minutes, and is not the same as a proof that fails.
* A witness counts once, and only for another province than the log's: a keeper's own province could be under orders.
* A key that was revoked as compromised proves nothing, whenever the signature is said to have been made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

from gateway.core.agreement import MATTER_CODE
from gateway.core.charter import (
    GATEWAY_TYPE,
    MAX_DOCUMENT_CHARS,
    MAX_MEMBERS,
    MAX_VERSION,
    Charter,
    parse_charter,
    verify_successor,
)
from gateway.core.checkpoint import (
    Checkpoint,
    KeyOf,
    digest,
    instant,
    invalid,
    log_id,
    read_checkpoint,
    read_cosignature,
    signed_claims,
    unverified_claims,
    whole_number,
)
from gateway.core.encoding import JsonLimits, b64url_decode, b64url_encode, parse_json_object, write_json
from gateway.core.entries import read, read_verification
from gateway.core.events import read_events, verify_events
from gateway.core.identifiers import Province
from gateway.core.jose import PublicKey, Signer, sign_compact
from gateway.core.memory import Place, Revocation, TrustMemory, joined
from gateway.core.merkle import MAX_PROOF_HASHES, MAX_SIZE, check_inclusion, leaf_hash
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.snapshot import Vouched, payload_digest, read_snapshot
from gateway.core.statements import PROFILE, UnverifiedStatement, parse_statement
from gateway.core.trust import Problem, TrustedKey, TrustView, build_view

RECEIPT_TYPE: Final = "verification-receipt+jwt"
BUNDLE_FORMAT: Final = 1
MAX_BUNDLE_BYTES: Final = 33_554_432
MAX_ENTRY_CHARS: Final = 65_536
"""Of one entry of a log, base64url."""
MAX_COSIGNATURES: Final = 64
"""Of one head. Four provinces have a gateway or two each; every one costs a signature to check."""
MAX_STATEMENTS: Final = 4_000
"""Twice what all anchors say of all members: at the time of the receipt and at that of the checkpoint."""
MAX_EVENT_STATEMENTS: Final = 2 * MAX_MEMBERS
MAX_CHARTERS: Final = 64
"""Charters last for months."""

_Closed = TypeVar("_Closed", bound=StrEnum)
_LIMITS: Final = JsonLimits(max_bytes=MAX_BUNDLE_BYTES, max_depth=2, max_members=8_192, max_string=MAX_DOCUMENT_CHARS)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SERVICE: Final = re.compile(r"[!-~]{1,255}")


class Verdict(StrEnum):
    """What came of a verification."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A gateway's word on one verdict that it gave."""

    gateway: str
    service: str
    """The relying service that asked."""
    issued_at: datetime
    """When it was signed: with the verdict, or whenever somebody asked for the evidence of it."""
    verified_at: datetime
    """When the verdict was given, in whole seconds."""
    verification_id: str
    matter: str
    verdict: Verdict
    reason: Reason | None
    """None exactly when accepted."""
    charter_version: int
    charter_sha256: str
    view_id: str
    """The trust view by which it was decided."""
    log: str
    position: int
    """Of the entry in the log, counted from 0."""
    entry_sha256: bytes
    """The leaf hash of the entry (RFC 9162)."""

    def repeated(self) -> dict[str, Any]:
        """Give what the entry in the log has to say as well, by the names that the receipt has for it."""
        return {
            "aud": self.service,
            "verified_at": int(self.verified_at.timestamp()),
            "jti": self.verification_id,
            "matter": self.matter,
            "verdict": self.verdict.value,
            **({} if self.reason is None else {"reason": self.reason.value}),
            "charter_version": self.charter_version,
            "charter_sha256": self.charter_sha256,
            "view_id": self.view_id,
        }


_CLAIMS: Final = (
    *("iss", "aud", "iat", "verified_at", "jti", "matter", "verdict", "charter_version", "charter_sha256", "view_id"),
    *("log", "position", "entry_sha256"),
)
"""All but the reason."""


def make_receipt(receipt: Receipt, signer: Signer) -> str:
    """Sign a receipt with the gateway's receipt key.

    Raises:
        ValueError: it is accepted for a reason, or not accepted for none.
    """
    if (receipt.reason is None) is not (receipt.verdict is Verdict.ACCEPTED):
        raise ValueError("a verdict has a reason exactly when it is not accepted")
    claims = {
        "iss": receipt.gateway,
        "iat": int(receipt.issued_at.timestamp()),
        **receipt.repeated(),
        "log": receipt.log,
        "position": receipt.position,
        "entry_sha256": b64url_encode(receipt.entry_sha256),
    }
    return sign_compact(RECEIPT_TYPE, claims, signer)


def read_receipt(token: str, key_of: KeyOf) -> Receipt:
    """Read and verify a receipt.

    Raises:
        Rejected: TYPE_MISMATCH, STATEMENT_INVALID, SIGNATURE_INVALID, ALGORITHM_NOT_ALLOWED, TOO_LARGE, it cannot be
            read, or whatever ``key_of`` raises.
    """
    claims = signed_claims(token, RECEIPT_TYPE, _CLAIMS, key_of, optional=("reason",))
    verdict = _member(claims, "verdict", Verdict)
    if ("reason" in claims) is (verdict is Verdict.ACCEPTED):
        raise invalid("reason")
    digest(claims, "charter_sha256")
    issued_at, verified_at = instant(claims, "iat"), instant(claims, "verified_at")
    if issued_at < verified_at:
        raise invalid("iat")
    return Receipt(
        gateway=claims["iss"],
        service=_text(claims, "aud", _SERVICE),
        issued_at=issued_at,
        verified_at=verified_at,
        verification_id=_text(claims, "jti", _NAME),
        matter=_text(claims, "matter", MATTER_CODE),
        verdict=verdict,
        reason=_member(claims, "reason", Reason) if "reason" in claims else None,
        charter_version=whole_number(claims, "charter_version", MAX_VERSION),
        charter_sha256=claims["charter_sha256"],
        view_id=_text(claims, "view_id", _NAME),
        log=log_id(claims),
        position=whole_number(claims, "position", MAX_SIZE - 1),
        entry_sha256=digest(claims, "entry_sha256"),
    )


def _text(claims: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = claims[name]
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise invalid(name)
    return value


def _member(claims: Mapping[str, Any], name: str, names: type[_Closed]) -> _Closed:
    try:
        return names(claims[name])
    except ValueError as error:
        raise invalid(name) from error


# -- the file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceBundle:
    """An evidence bundle: what a service keeps of one verification. Nothing in it is trusted for being in it."""

    receipt: str
    entry: bytes
    """The entry of the log, as it was hashed."""
    checkpoint: str | None = None
    """A head of the log that covers the entry; None: not yet."""
    inclusion: tuple[bytes, ...] = ()
    """The proof that it does."""
    cosignatures: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    """Of the gateways and the anchors, in force when the receipt or the checkpoint was signed."""
    events: tuple[str, ...] = ()
    """Statements of revocations."""
    charters: tuple[str, ...] = ()
    """Each the successor of the one before it, up to the one in force when the checkpoint was signed."""


_ALWAYS: Final = frozenset({"format", "receipt", "entry", "statements", "events", "charters"})
_ONCE_IN_THE_LOG: Final = frozenset({"checkpoint", "inclusion", "cosignatures"})


def write_bundle(evidence: EvidenceBundle) -> bytes:
    """Write the file."""
    in_log = {
        "checkpoint": evidence.checkpoint,
        "inclusion": [b64url_encode(each) for each in evidence.inclusion],
        "cosignatures": list(evidence.cosignatures),
    }
    return write_json(
        {
            "format": BUNDLE_FORMAT,
            "receipt": evidence.receipt,
            "entry": b64url_encode(evidence.entry),
            **({} if evidence.checkpoint is None else in_log),
            "statements": list(evidence.statements),
            "events": list(evidence.events),
            "charters": list(evidence.charters),
        }
    )


def read_bundle(raw: bytes) -> EvidenceBundle:
    """Read the file; what is in it is checked by ``check_bundle``.

    Raises:
        Rejected: TOO_LARGE, MALFORMED.
    """
    bundle = parse_json_object(raw, _LIMITS)
    # All or nothing: a head without a proof says nothing about the entry.
    if bundle.keys() not in (_ALWAYS, _ALWAYS | _ONCE_IN_THE_LOG):
        raise _malformed("a member is missing, or there is one too many")
    if type(bundle["format"]) is not int or bundle["format"] != BUNDLE_FORMAT:
        raise _malformed(f"format is not {BUNDLE_FORMAT}")
    in_log = "checkpoint" in bundle
    inclusion = _strings(bundle, "inclusion", MAX_PROOF_HASHES) if in_log else ()
    return EvidenceBundle(
        receipt=_string(bundle, "receipt"),
        entry=_entry(_string(bundle, "entry")),
        checkpoint=_string(bundle, "checkpoint") if in_log else None,
        inclusion=tuple(b64url_decode(each) for each in inclusion),
        cosignatures=_strings(bundle, "cosignatures", MAX_COSIGNATURES) if in_log else (),
        statements=_strings(bundle, "statements", MAX_STATEMENTS),
        events=_strings(bundle, "events", MAX_EVENT_STATEMENTS),
        charters=_strings(bundle, "charters", MAX_CHARTERS),
    )


def _string(bundle: Mapping[str, Any], name: str) -> str:
    if not isinstance(bundle[name], str):
        raise _malformed(f"{name} is not a string")
    value: str = bundle[name]
    return value


def _strings(bundle: Mapping[str, Any], name: str, at_most: int) -> tuple[str, ...]:
    value = bundle[name]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _malformed(f"{name} is not an array of strings")
    if len(value) > at_most:
        raise Rejected(Reason.TOO_LARGE, f"{name} has more than {at_most} items")
    return tuple(value)


def _entry(text: str) -> bytes:
    if len(text) > MAX_ENTRY_CHARS:
        raise Rejected(Reason.TOO_LARGE, "entry over the size limit")
    return b64url_decode(text)


def _malformed(detail: str) -> Rejected:
    return Rejected(Reason.MALFORMED, f"evidence bundle: {detail}")


# -- keys as of then --------------------------------------------------------------------------------------------------


class GatewayKeys(Protocol):
    """Where gateways' keys are looked up: a trust view."""

    def receipt_key(self, gateway: str, kid: str, now: datetime, /) -> TrustedKey:
        """Give the key that signs a gateway's receipts. Raises Rejected or Indeterminate."""

    def audit_key(self, gateway: str, kid: str, now: datetime, /) -> TrustedKey:
        """Give the key that signs a gateway's checkpoints and cosignatures. Raises Rejected or Indeterminate."""


KeySource = Callable[[Charter, datetime], GatewayKeys]
"""Gives the keys under a charter as of a time; ``view_of`` builds them from a bundle."""


def view_of(evidence: EvidenceBundle, charter: Charter, at: datetime) -> TrustView:
    """Build the trust view as of a time, from the statements in a bundle.

    Statements that nobody can read, or that no anchor's configuration of the time names, are passed over: they vouch
    for nothing. So are revocations by keys that no quorum attests, since anybody can write them.
    """
    memory = TrustMemory(documents=_documents(evidence.statements, charter, at))
    view = build_view(charter, memory, at)
    revocations: dict[tuple[str, str], Revocation] = {}
    for token in evidence.events:  # at most MAX_EVENT_STATEMENTS
        try:
            events = read_events(token)
            key = view.federation_keys(events.entity_id).get(events.kid)
            if key is None:
                continue
            verify_events(events, key)
        except Rejected:
            continue
        for kid, revocation in events.revocations.items():
            place = (events.entity_id, kid)
            known = revocations.get(place)
            revocations[place] = revocation if known is None else joined(known, revocation)
    return build_view(charter, replace(memory, revocations=revocations), at) if revocations else view


def _documents(tokens: Iterable[str], charter: Charter, at: datetime) -> Mapping[Place, str]:
    """Choose the statements of the time: the newest of each entity about itself, and those that anchors' name."""
    newest: dict[Place, UnverifiedStatement] = {}
    others: list[UnverifiedStatement] = []
    for token in tokens:  # at most MAX_STATEMENTS
        try:
            statement = parse_statement(token, PROFILE)
        except Rejected:
            continue
        place = (statement.iss, statement.sub)
        if not statement.is_configuration:
            others.append(statement)
        elif statement.issued_at <= at + PROFILE.clock_skew and (
            place not in newest or newest[place].issued_at < statement.issued_at
        ):
            newest[place] = statement
    heads = [newest[place] for anchor in charter.anchors if (place := (anchor.entity_id,) * 2) in newest]
    named = {digest for head in heads for digest in _named(head)}
    chosen = [*newest.values(), *(statement for statement in others if payload_digest(statement) in named)]
    return {(statement.iss, statement.sub): statement.token for statement in chosen}


def _named(head: UnverifiedStatement) -> Iterable[str]:
    try:
        return [entry.sha256 for entry in read_snapshot(head).values() if isinstance(entry, Vouched)]
    except Rejected:
        return ()


# -- checking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptCheck:
    """What a bundle proves. There is one only when the receipt is signed, and the entry is the one it names."""

    receipt: Receipt
    charter: Charter | None
    """The one by which the verdict was given; None: it is older than the pinned one, and was not brought along."""
    checkpoint: Checkpoint | None
    """The head in which the entry is proven to be. None without a problem: not yet. None with one: the proof failed."""
    witnesses: tuple[str, ...]
    """Gateways that cosigned that head, one for each other province."""
    problems: tuple[Problem, ...]
    """Why the entry is not proven to be in the log, or a cosignature does not count."""

    @property
    def in_log(self) -> bool:
        """Whether the log is proven to hold the entry."""
        return self.checkpoint is not None


EntryReader = Callable[[bytes], Mapping[str, Any]]
"""Reads an entry of the log, and gives what it says by the names of ``Receipt.repeated``; raises Rejected."""


def read_logged(raw: bytes) -> Mapping[str, Any]:
    """Read an entry of our logs: an ``EntryReader``."""
    said = read_verification(read(raw))
    return {
        "aud": said.service,
        "verified_at": int(said.decided_at.timestamp()),
        "jti": said.verification_id,
        "matter": said.matter,
        "verdict": said.verdict,
        **({"reason": said.reason} if said.reason else {}),
        "charter_version": said.charter_version,
        "charter_sha256": said.charter_sha256,
        "view_id": said.view_id,
    }


def check_bundle(
    evidence: EvidenceBundle, pinned: Charter, keys_at: KeySource, read_entry: EntryReader, now: datetime
) -> ReceiptCheck:
    """Check a bundle without asking anybody.

    All keys are those of one time: when the receipt was signed, which is when the bundle was put together. The head of
    the log is never older than minutes then, whatever the age of the verdict.

    1. Walk from the pinned charter over those in the bundle to the newest.
    2. Verify the receipt, by a key that this charter's anchors attested when it was signed, and hold the charter that
       it names against those walked over.
    3. Hold the entry against the receipt: by its hash, and by what it says.
    4. Verify the checkpoint, and the proof that the entry is in it.
    5. Count the other provinces whose gateways cosigned it.

    Args:
        evidence: the bundle.
        pinned: a charter that whoever checks trusts already, no newer than the one in force when the bundle was put
            together.
        keys_at: gives the gateways' keys under a charter as of a time.
        read_entry: reads the entry.
        now: the time; nothing may have been signed after it.

    Raises:
        Rejected: CHARTER_INVALID, QUORUM_NOT_MET for step 1; for step 2 as ``read_receipt``, KEY_REVOKED or
            NOT_YET_VALID; LOG_ENTRY_INVALID for step 3. What fails in 4 and 5 is told in the result.
        Indeterminate: what is held does not tell whether the receipt's key counted.
    """
    charters = successors(pinned, evidence.charters)
    at = instant(unverified_claims(evidence.receipt), "iat")
    if at > now + PROFILE.clock_skew:
        raise Rejected(Reason.NOT_YET_VALID, "receipt is from the future")
    keys, latest = keys_at(charters[-1], at), charters[-1]
    receipt = read_receipt(evidence.receipt, keys_by(keys.receipt_key, at))
    charter = _named_charter(receipt, charters)
    _province(receipt.gateway, latest)
    if leaf_hash(evidence.entry) != receipt.entry_sha256:
        raise Rejected(Reason.LOG_ENTRY_INVALID, "the entry is not the one that the receipt names")
    if read_entry(evidence.entry) != receipt.repeated():
        raise Rejected(Reason.LOG_ENTRY_INVALID, "the entry says something else than the receipt")
    check = ReceiptCheck(receipt=receipt, charter=charter, checkpoint=None, witnesses=(), problems=())
    if evidence.checkpoint is None:
        return check
    key_of = keys_by(keys.audit_key, at)
    try:
        checkpoint = read_checkpoint(evidence.checkpoint, key_of, now)
        _require_entry(checkpoint, receipt, evidence.inclusion)
    except (Rejected, Indeterminate) as refusal:
        return replace(check, problems=(_problem(receipt.gateway, refusal),))
    witnesses, problems = _witnesses(evidence.cosignatures, checkpoint, latest, key_of, now)
    return replace(check, checkpoint=checkpoint, witnesses=witnesses, problems=problems)


def successors(pinned: Charter, documents: Sequence[str]) -> Sequence[Charter]:
    """Give the pinned charter and its successors. A bundle may begin before it: those are not needed.

    Raises:
        Rejected: CHARTER_INVALID, QUORUM_NOT_MET.
    """
    charters = [pinned]
    for document in documents:  # at most MAX_CHARTERS
        if parse_charter(document).unverified.version > pinned.version:
            charters.append(verify_successor(charters[-1], document))
    return charters


def _named_charter(receipt: Receipt, charters: Sequence[Charter]) -> Charter | None:
    for charter in charters:
        if charter.version == receipt.charter_version:
            if charter.sha256 != receipt.charter_sha256:
                raise Rejected(Reason.CHARTER_INVALID, "the charter that the receipt names is another one")
            return charter
    if receipt.charter_version > charters[0].version:
        raise Rejected(Reason.CHARTER_INVALID, "the charter that the receipt names does not follow the pinned one")
    return None


def _require_entry(checkpoint: Checkpoint, receipt: Receipt, inclusion: Sequence[bytes]) -> None:
    if (checkpoint.gateway, checkpoint.log) != (receipt.gateway, receipt.log):
        raise Rejected(Reason.PROOF_INVALID, "checkpoint is of another log than the receipt's")
    check_inclusion(receipt.entry_sha256, receipt.position, checkpoint.size, inclusion, checkpoint.root)


def _witnesses(
    tokens: Sequence[str], checkpoint: Checkpoint, charter: Charter, key_of: KeyOf, now: datetime
) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    keeper = _province(checkpoint.gateway, charter)
    found: dict[Province, str] = {}
    problems: list[Problem] = []
    for token in tokens:  # at most MAX_COSIGNATURES
        # One that does not count spoils nothing, or a bad witness could silence the good ones.
        try:
            cosignature = read_cosignature(token, checkpoint, key_of, now)
            province = _province(cosignature.witness, charter)
        except (Rejected, Indeterminate) as refusal:
            problems.append(_problem(checkpoint.gateway, refusal))
            continue
        if province != keeper:
            found.setdefault(province, cosignature.witness)
    return tuple(found[province] for province in Province if province in found), tuple(problems)


def _province(gateway: str, charter: Charter) -> Province:
    member = charter.member(gateway)
    if member is None or GATEWAY_TYPE not in member.entity_types:
        raise Rejected(Reason.ISSUER_UNKNOWN, "not a gateway of the charter")
    return member.province


def keys_by(look_up: Callable[[str, str, datetime], TrustedKey], at: datetime) -> KeyOf:
    """Look up gateways' keys as of a time. What a superseded key signed counts until it was superseded."""

    def key_of(gateway: str, kid: str) -> PublicKey:
        trusted = look_up(gateway, kid, at)
        if trusted.signed_before is not None and at >= trusted.signed_before:
            raise Rejected(Reason.KEY_REVOKED, "the key had been superseded by then")
        return trusted.key

    return key_of


def _problem(gateway: str, refusal: Rejected | Indeterminate) -> Problem:
    return Problem(issuer="", subject=gateway, reason=refusal.reason, detail=refusal.detail)
