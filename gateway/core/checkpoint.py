"""Checkpoints and cosignatures: what a log's keeper says it holds, and who else has seen that.

A checkpoint is a gateway's signed word on the head of its log: so many entries, with this root. Whoever signs two heads
of which neither continues the other has signed the proof against itself. Nobody notices while each is shown to
different people; hence the witnesses: gateways of other provinces that remember the last head each log showed them, and
cosign the next one when it is proven to continue that. Rules that live here:

* A document says exactly what it must and nothing more; each kind has a type of its own, so that neither can be shown
  in place of the other.
* A cosignature repeats the head it is about. It counts for that head and no other, and a log's keeper is no witness of
  its own log.
* A witness keeps the head it has seen until one is proven to continue it. Nothing but a proof takes that head away: not
  an outage, not a smaller log, and no log of another name, which is how a keeper would start anew unseen.
* A smaller log that was signed later is a contradiction. One that was signed earlier is an old letter that arrives
  late; for that to be told, no head bears an earlier time than the one that it continues.
* A head and a cosignature never expire. They are evidence of what was, whenever somebody asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from gateway.core.encoding import JsonLimits, b64url_decode, b64url_encode
from gateway.core.identifiers import check_entity_id
from gateway.core.jose import PublicKey, Signer, VerifiedClaims, parse_compact, sign_compact, verify
from gateway.core.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, check_consistency
from gateway.core.reasons import Reason, Rejected
from gateway.core.statements import MAX_NUMERIC_DATE, PROFILE

CHECKPOINT_TYPE: Final = "audit-checkpoint+jwt"
COSIGNATURE_TYPE: Final = "audit-cosignature+jwt"
MAX_CHARS: Final = 4_096
"""Of a document about a log. Two entity identifiers as long as they may be leave more than half of it."""
_LIMITS: Final = JsonLimits(max_bytes=MAX_CHARS, max_depth=2, max_members=32, max_string=1_024)
LOG_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

KeyOf = Callable[[str, str], PublicKey]
"""Gives a gateway's key by its kid; raises Rejected, or Indeterminate, when that gateway has no such key to be trusted
for this kind of document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The head of a gateway's log, in its own word."""

    gateway: str
    log: str
    size: int
    """Entries."""
    root: bytes
    issued_at: datetime
    token: str = field(repr=False)
    """As signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """A witness's word that it has seen a head, and that it continues every head of that log seen before."""

    witness: str
    issued_at: datetime
    token: str = field(repr=False)
    """As signed."""


def make_checkpoint(*, gateway: str, log: str, size: int, root: bytes, now: datetime, signer: Signer) -> str:
    """Sign a head with the gateway's audit key.

    Args:
        gateway: the entity identifier of the log's keeper.
        log: the log's name.
        size: how many entries it has.
        root: the root of the tree over them.
        now: the time, no earlier than that of the head before.
        signer: the gateway's audit key.
    """
    return sign_compact(CHECKPOINT_TYPE, {"iss": gateway, **_head(log, size, root, now)}, signer)


def make_cosignature(checkpoint: Checkpoint, *, witness: str, now: datetime, signer: Signer) -> str:
    """Sign, as a witness, that a head was seen, with the witness's audit key.

    Raises:
        ValueError: the witness is the log's keeper.
    """
    if witness == checkpoint.gateway:
        raise ValueError("a gateway does not witness its own log")
    head = _head(checkpoint.log, checkpoint.size, checkpoint.root, now)
    return sign_compact(COSIGNATURE_TYPE, {"iss": witness, "sub": checkpoint.gateway, **head}, signer)


def _head(log: str, size: int, root: bytes, now: datetime) -> dict[str, Any]:
    return {"log": log, "size": size, "root": b64url_encode(root), "iat": int(now.timestamp())}


# -- reading ----------------------------------------------------------------------------------------------------------


def read_checkpoint(token: str, key_of: KeyOf, now: datetime) -> Checkpoint:
    """Read and verify a gateway's checkpoint.

    Raises:
        Rejected: TYPE_MISMATCH, STATEMENT_INVALID, NOT_YET_VALID, SIGNATURE_INVALID, ALGORITHM_NOT_ALLOWED, TOO_LARGE,
            it cannot be read, or whatever ``key_of`` raises.
    """
    claims = signed_claims(token, CHECKPOINT_TYPE, ("iss", "log", "size", "root", "iat"), key_of)
    return Checkpoint(
        gateway=claims["iss"],
        log=log_id(claims),
        size=whole_number(claims, "size", MAX_SIZE),
        root=_root(claims),
        issued_at=_issued_at(claims, now),
        token=token,
    )


def read_cosignature(token: str, checkpoint: Checkpoint, key_of: KeyOf, now: datetime) -> Cosignature:
    """Read and verify a witness's cosignature of this very head.

    Raises:
        Rejected: PROOF_INVALID when it is about another head; otherwise as ``read_checkpoint``.
    """
    claims = signed_claims(token, COSIGNATURE_TYPE, ("iss", "sub", "log", "size", "root", "iat"), key_of)
    if claims["iss"] == claims["sub"]:
        raise Rejected(Reason.STATEMENT_INVALID, "a gateway does not witness its own log")
    head = (claims["sub"], log_id(claims), whole_number(claims, "size", MAX_SIZE), _root(claims))
    if head != (checkpoint.gateway, checkpoint.log, checkpoint.size, checkpoint.root):
        raise Rejected(Reason.PROOF_INVALID, "cosignature is about another head")
    return Cosignature(witness=claims["iss"], issued_at=_issued_at(claims, now), token=token)


def signed_claims(
    token: str, typ: str, names: Sequence[str], key_of: KeyOf, *, optional: Sequence[str] = ()
) -> VerifiedClaims:
    """Verify a document about a log, and give its claims: these and no others, among them the gateway as ``iss``.

    Raises:
        Rejected: as ``read_checkpoint``.
    """
    jws = parse_compact(token, max_chars=MAX_CHARS)
    if jws.header.typ != typ:
        raise Rejected(Reason.TYPE_MISMATCH, f"typ is not {typ}")
    if jws.header.algorithm not in PROFILE.algorithms:
        raise Rejected(Reason.ALGORITHM_NOT_ALLOWED, "alg is not one of the federation's")
    if jws.header.kid is None:
        raise invalid("kid")
    author = entity_id(jws.unverified_claims(_LIMITS), "iss")
    claims = verify(jws, key_of(author, jws.header.kid), _LIMITS)
    if not set(names) <= claims.keys() <= {*names, *optional}:
        raise Rejected(Reason.STATEMENT_INVALID, "a claim is missing, or there is one too many")
    return claims


def unverified_claims(token: str) -> Mapping[str, Any]:
    """Read a document about a log before its signature is verified: only to learn which keys to try, as of when.

    Raises:
        Rejected: TOO_LARGE, or it cannot be read.
    """
    return parse_compact(token, max_chars=MAX_CHARS).unverified_claims(_LIMITS)


def kept_checkpoint(token: str) -> Checkpoint:
    """Read a checkpoint that was verified before it was written down: the key of that day may have been retired since.

    Raises:
        Rejected: it cannot be read.
    """
    claims = unverified_claims(token)
    return Checkpoint(
        gateway=entity_id(claims, "iss"),
        log=log_id(claims),
        size=whole_number(claims, "size", MAX_SIZE),
        root=_root(claims),
        issued_at=instant(claims, "iat"),
        token=token,
    )


def named_head(token: str) -> tuple[str, int]:
    """Say which head a cosignature claims to be about: its log and size. Unverified. Raises Rejected."""
    claims = unverified_claims(token)
    return log_id(claims), whole_number(claims, "size", MAX_SIZE)


def kept_issued_at(token: str) -> datetime:
    """Say when a checkpoint or cosignature was signed that was verified before it was written down. Raises Rejected."""
    return instant(unverified_claims(token), "iat")


def entity_id(claims: Mapping[str, Any], name: str) -> str:
    """Read an entity identifier. Raises Rejected(STATEMENT_INVALID)."""
    value = claims.get(name)
    if not isinstance(value, str):
        raise invalid(name)
    try:
        check_entity_id(value)
    except ValueError as error:
        raise invalid(name) from error
    return value


def log_id(claims: Mapping[str, Any]) -> str:
    """Read the name of a log. Raises Rejected(STATEMENT_INVALID)."""
    value = claims.get("log")
    if not isinstance(value, str) or LOG_ID.fullmatch(value) is None:
        raise invalid("log")
    return value


def whole_number(claims: Mapping[str, Any], name: str, at_most: int) -> int:
    """Read a number that is not negative. Raises Rejected(STATEMENT_INVALID)."""
    value = claims.get(name)
    if type(value) is not int or not 0 <= value <= at_most:
        raise invalid(name)
    return value


def digest(claims: Mapping[str, Any], name: str) -> bytes:
    """Read a SHA-256 digest. Raises Rejected(STATEMENT_INVALID)."""
    value = claims.get(name)
    try:
        raw = b64url_decode(value) if isinstance(value, str) else b""
    except Rejected as error:
        raise invalid(name) from error
    if len(raw) != HASH_BYTES:
        raise invalid(name)
    return raw


def instant(claims: Mapping[str, Any], name: str) -> datetime:
    """Read a time in whole seconds. Raises Rejected(STATEMENT_INVALID)."""
    return datetime.fromtimestamp(whole_number(claims, name, MAX_NUMERIC_DATE), UTC)


def invalid(name: str) -> Rejected:
    """Make the error that says which claim is not what it must be."""
    return Rejected(Reason.STATEMENT_INVALID, f"{name} is missing or malformed")


def _root(claims: Mapping[str, Any]) -> bytes:
    root = digest(claims, "root")
    if claims["size"] == 0 and root != EMPTY_ROOT:
        raise invalid("root")
    return root


def _issued_at(claims: Mapping[str, Any], now: datetime) -> datetime:
    issued_at = instant(claims, "iat")
    # One from the future would make every honest head after it look like an old one.
    if issued_at > now + PROFILE.clock_skew:
        raise Rejected(Reason.NOT_YET_VALID, "document is from the future")
    return issued_at


# -- witnessing -------------------------------------------------------------------------------------------------------


class Progress(StrEnum):
    """What a witness concludes from a head that it is shown. It keeps the head for FIRST and NEWER, else the old one.

    For SAME too: of two times at which a log had one size, the earlier is the one that it cannot go back behind.
    """

    FIRST = "FIRST"
    """None of this gateway's was seen before."""
    SAME = "SAME"
    """The log has not grown."""
    NEWER = "NEWER"
    """It is proven to continue the head seen before."""
    OLDER = "OLDER"
    """It is smaller than the head seen before, and no later. It proves nothing, and nothing against anybody."""
    REPLACED = "REPLACED"
    """It is of another log than the one seen before: people have to ask why."""


def judge_progress(seen: Checkpoint | None, shown: Checkpoint, proof: Sequence[bytes]) -> Progress:
    """Hold a head that a log shows against the head that it had shown before.

    Args:
        seen: the head seen before, as kept by the rule of ``Progress``; None if there is none.
        shown: the head shown now.
        proof: that the log grew from the one to the other; looked at when the head shown is the larger.

    Raises:
        Rejected: LOG_FORKED when the two contradict each other: one size with two roots, a smaller log that was signed
            later, a proof that does not hold. ROLLED_BACK when the log grew while its time went back: it may show that
            head again with a later time.
        ValueError: the heads are of two gateways.
    """
    if seen is None:
        return Progress.FIRST
    if seen.gateway != shown.gateway:
        raise ValueError("heads of two gateways say nothing about each other")
    if seen.log != shown.log:
        return Progress.REPLACED
    if shown.size < seen.size:
        if shown.issued_at > seen.issued_at:
            raise Rejected(Reason.LOG_FORKED, "the log is smaller than it was before")
        return Progress.OLDER
    if shown.size == seen.size:
        if shown.root != seen.root:
            raise Rejected(Reason.LOG_FORKED, "the log has another root at the same size")
        return Progress.SAME
    try:
        check_consistency(seen.size, shown.size, seen.root, shown.root, proof)
    except Rejected as rejection:
        raise Rejected(Reason.LOG_FORKED, f"the log does not continue what it was: {rejection.detail}") from rejection
    if shown.issued_at < seen.issued_at:
        raise Rejected(Reason.ROLLED_BACK, "the log grew while its time went back")
    return Progress.NEWER
