"""Token Status List (draft-ietf-oauth-status-list-20), in our profile: what became of a credential after it was issued.

A list is a signed byte string with one small number for each credential. Rules that live here, where the draft leaves
them open (sections 8.3, 11 and 12) or we are stricter:

* A list counts only if signed by a key that the caller says is the issuer's for lists. ``sub`` is the name that the
  list goes by, to the letter, and ``iss`` the issuer that registered it.
* Old lists do not come back: every newly signed list of a name bears a higher ``seq`` (ours) than the one before and no
  lower ``iat``. The same number twice means the same bytes. A list held is a floor under the next, also long after it
  has expired.
* ``iat``, ``exp`` and ``ttl`` are required and bounded: no list is for ever, and none has to be asked for without end.
* What a list inflates to is bounded before it is inflated: 1 MB can hold 1 GiB. One zlib stream, complete, and nothing
  behind it.
* A list is never shorter than registered. Only the value 0 is good; what nobody gave a meaning is no status.
* The inflated bytes are kept and looked into, never spread out into numbers.

The name of a list is a name. Nobody ever connects to it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final

from gateway.core.encoding import (
    MAX_SAFE_INTEGER,
    JsonLimits,
    b64url_decode,
    b64url_encode,
    parse_json_object,
    sha256_b64url,
)
from gateway.core.jose import PublicKey, parse_compact, verify_signature
from gateway.core.reasons import Reason, Rejected

STATUS_LIST_TYPE: Final = "statuslist+jwt"
"""``typ`` of a list; nothing else is one."""
STATUS_LISTS: Final = "status_lists"
"""Metadata parameter of an issuer: the lists it has, each with its size. Ours."""
BITS: Final = 2
"""Bits for each credential in the lists that we issue."""
MIN_ENTRIES: Final = 2**20
"""So many credentials at least share a list: who asks for one tells nobody about whom."""
MAX_ENTRIES: Final = 2**23
MAX_RAW_BYTES: Final = 2 * 1024 * 1024
"""MAX_ENTRIES of two bits."""
MAX_LISTS: Final = 64
"""Lists of one issuer."""
MAX_HEADS: Final = 4_096
"""Lists of all issuers that one gateway tells another of."""
MIN_TTL: Final = timedelta(seconds=60)
MAX_TTL: Final = timedelta(seconds=86_400)
MAX_LIFETIME: Final = timedelta(days=7)
MAX_URI_CHARS: Final = 600
"""Of an entity identifier, and what follows it."""
MAX_JUMP: Final = 86_400_000
"""How far ``seq``, which starts from milliseconds, may run ahead of the clock: a day. It never does by itself. A
thief's or a wrong clock's number is a floor under all right ones, and may not be one for longer. Nor may it be so small
that a clock, which can be wrong by hours before the anchors' words show it, would lift the floors that are there."""
MAX_LST_CHARS: Final = 2_800_000
"""MAX_RAW_BYTES that do not shrink, as base64url: 2,797,074."""
MAX_TOKEN_CHARS: Final = 3_740_000
"""A list of that length as base64url once more, with all that goes with it."""

_MAX_NUMERIC_DATE: Final = 253_402_300_799  # the end of the year 9999, where Python's calendar ends
_LIMITS: Final = JsonLimits(max_bytes=MAX_LST_CHARS + 4_096, max_depth=8, max_members=64, max_string=MAX_LST_CHARS)
_ACCEPTED_BITS: Final = (1, 2)
_BITS: Final = (1, 2, 4, 8)  # section 4.1
_PATH: Final = "/status/"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


class Status(IntEnum):
    """What a list may say of a credential (section 7.1)."""

    VALID = 0
    REVOKED = 1
    SUSPENDED = 2
    ATTRIBUTES_CHANGED = 3
    """Left to applications by the draft. Ours means: what the credential states has changed; a new one tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReference:
    """Where a credential's status stands."""

    uri: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What is remembered of the newest list of a name, for ever; what is lower is refused."""

    seq: int
    issued_at: datetime
    sha256: str
    """Of what was signed; the signature is not part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusList:
    """A list that was verified."""

    uri: str
    issuer: str
    kid: str
    seq: int
    issued_at: datetime
    expires_at: datetime
    ttl: timedelta
    bits: int
    entries: bytes = field(repr=False)
    sha256: str

    @property
    def size(self) -> int:
        """How many credentials it has room for."""
        return len(self.entries) * 8 // self.bits

    @property
    def floor(self) -> Floor:
        """What stays of it."""
        return Floor(seq=self.seq, issued_at=self.issued_at, sha256=self.sha256)

    def at(self, index: int) -> int:
        """Read one status. Raises Rejected(STATUS_INVALID) when the list does not reach so far."""
        return value_at(self.entries, self.bits, index)


# -- names ------------------------------------------------------------------------------------------------------------


def list_uri(issuer: str, name: str) -> str:
    """Give the name by which a list of an issuer goes.

    Raises:
        ValueError: ``name`` has other characters than [A-Za-z0-9_-], or not 1 to 64 of them.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError("name of a status list is malformed")
    return f"{issuer}{_PATH}{name}"


def read_registered(issuer: str, value: object) -> Mapping[str, int]:
    """Read the lists that an issuer's metadata names, each with its size.

    Raises:
        Rejected: STATUS_LIST_INVALID. One bad entry spoils them all: its author is not to be guessed at.
    """
    if value is None:
        return _NOTHING
    if not isinstance(value, list) or len(value) > MAX_LISTS:
        raise _invalid(f"{STATUS_LISTS} is not a list of at most {MAX_LISTS}")
    lists: dict[str, int] = {}
    for entry in value:
        if not isinstance(entry, dict) or entry.keys() != {"uri", "size"}:
            raise _invalid("a registered list does not have exactly uri and size")
        uri, size = entry["uri"], entry["size"]
        if not isinstance(uri, str) or not is_list_of(issuer, uri) or uri in lists:
            raise _invalid("uri of a registered list is not a name under its issuer's, or appears twice")
        if type(size) is not int or not MIN_ENTRIES <= size <= MAX_ENTRIES or size % 4:
            raise _invalid("size of a registered list is out of bounds")
        lists[uri] = size
    return lists


def is_list_of(issuer: str, uri: str) -> bool:
    """Whether a list could be an issuer's, by its name."""
    start = issuer + _PATH
    return uri.startswith(start) and _NAME.fullmatch(uri[len(start) :]) is not None


# -- in a credential --------------------------------------------------------------------------------------------------


def read_reference(status: object) -> StatusReference:
    """Read the ``status`` claim of a credential (section 6.1). Other mechanisms beside the list are not looked at.

    Raises:
        Rejected: STATUS_INVALID.
    """
    reference = status.get("status_list") if isinstance(status, dict) else None
    if not isinstance(reference, dict):
        raise _no_status("status names no status list")
    uri, index = reference.get("uri"), reference.get("idx")
    if not isinstance(uri, str) or not 1 <= len(uri) <= MAX_URI_CHARS:
        raise _no_status("uri of a status is not a short text")
    if type(index) is not int or not 0 <= index <= MAX_SAFE_INTEGER:  # bool is an int to Python, not to JSON
        raise _no_status("idx of a status is not a whole number from zero")
    return StatusReference(uri=uri, index=index)


def check_value(value: int) -> None:
    """Let a credential pass whose status is 0.

    Raises:
        Rejected: CREDENTIAL_REVOKED, CREDENTIAL_SUSPENDED, ATTRIBUTES_STALE; STATUS_INVALID for what has no meaning.
    """
    match value:
        case Status.VALID:
            return
        case Status.REVOKED:
            raise Rejected(Reason.CREDENTIAL_REVOKED, "the issuer revoked the credential")
        case Status.SUSPENDED:
            raise Rejected(Reason.CREDENTIAL_SUSPENDED, "the issuer suspended the credential")
        case Status.ATTRIBUTES_CHANGED:
            raise Rejected(Reason.ATTRIBUTES_STALE, "what the credential states has changed since")
        case _:
            raise _no_status("status has a value without meaning")


# -- bytes ------------------------------------------------------------------------------------------------------------


def value_at(entries: bytes, bits: int, index: int) -> int:
    """Read one value: the first is in the lowest bits of the first byte (section 4.1).

    Raises:
        Rejected: STATUS_INVALID when there are not so many.
    """
    place = index * bits
    if not 0 <= place < len(entries) * 8:
        raise _no_status("idx is beyond the end of the list")
    return (entries[place >> 3] >> (place & 7)) & ((1 << bits) - 1)


def encode(entries: bytes) -> str:
    """Compress a list's bytes and write them as ``lst`` (section 4.1)."""
    return b64url_encode(zlib.compress(entries, 9))


def decode(bits: int, lst: str, *, max_raw: int) -> bytes:
    """Read the bytes of a list.

    Args:
        bits: for each value.
        lst: as it stands in the token, untrusted.
        max_raw: how many bytes there may be.

    Raises:
        Rejected: TOO_LARGE for more than that, STATUS_LIST_INVALID for everything else.
    """
    if type(bits) is not int or bits not in _BITS:
        raise _invalid("bits is not 1, 2, 4 or 8")
    if not isinstance(lst, str):
        raise _invalid("lst is not a text")
    # zlib's own bound on what does not shrink. A longer text has been blown up on purpose.
    if len(lst) > (max_raw + max_raw // 1_024 + 64) * 4 // 3:
        raise Rejected(Reason.TOO_LARGE, "lst over the size limit")
    try:
        compressed = b64url_decode(lst)
    except Rejected as error:
        raise _invalid("lst is not base64url") from error
    # RFC 1950 alone: neither gzip nor a bare stream, nor one with a dictionary of its own.
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(compressed, max_raw + 1)
    except zlib.error as error:
        raise _invalid("lst is not a zlib stream") from error
    if len(raw) > max_raw:
        raise Rejected(Reason.TOO_LARGE, "list inflates beyond the size limit")
    if not stream.eof or stream.unconsumed_tail or stream.unused_data:
        raise _invalid("lst is not one complete zlib stream")
    return raw


# -- tokens -----------------------------------------------------------------------------------------------------------


def status_list_claims(
    *, uri: str, issuer: str, seq: int, now: datetime, ttl: timedelta, lifetime: timedelta, lst: str, bits: int = BITS
) -> dict[str, Any]:
    """Write the claims of a list (section 5.1).

    Args:
        uri: the list's name.
        issuer: whose it is.
        seq: see ``next_list_seq``.
        now: the time.
        ttl: how soon others should look for a newer one.
        lifetime: how long it may be used.
        lst: see ``encode``.
        bits: for each credential.
    """
    issued_at = int(now.timestamp())
    return {
        "iss": issuer,
        "sub": uri,
        "iat": issued_at,
        "exp": issued_at + int(lifetime.total_seconds()),
        "ttl": int(ttl.total_seconds()),
        "seq": seq,
        "status_list": {"bits": bits, "lst": lst},
    }


def next_list_seq(last: int, now: datetime) -> int:
    """Give the number of the next list of a name; ``last`` is 0 before the first.

    A last one beyond reach, which only a wrong clock can have made, is not gone on from: nobody has taken it.
    """
    return max(last + 1 if is_within_reach(last, now) else 1, _milliseconds(now))


def is_within_reach(seq: int, now: datetime) -> bool:
    """Whether a number can have been given out by now. One that cannot is no floor under the next either."""
    return seq - _milliseconds(now) <= MAX_JUMP


def read_status_list(
    token: str,
    *,
    uri: str,
    issuer: str,
    size: int,
    key: Callable[[str], PublicKey],
    now: datetime,
    clock_skew: timedelta,
    floor: Floor | None,
) -> StatusList:
    """Verify a list and inflate it.

    Args:
        token: compact JWS, untrusted.
        uri: the name by which it was asked for.
        issuer: who registered that name.
        size: how many credentials the list was registered for.
        key: gives the issuer's key for lists that bears a kid, or raises.
        now: the time.
        clock_skew: how far ``iat`` may lie ahead.
        floor: what is remembered of the last one. The same list again is given again.

    Raises:
        Rejected: TOO_LARGE, TYPE_MISMATCH, KEY_UNKNOWN, SIGNATURE_INVALID and what else reading a JWS gives;
            STATUS_LIST_INVALID for its structure; EXPIRED, NOT_YET_VALID, LIFETIME_TOO_LONG; SEQUENCE_INVALID,
            ROLLED_BACK, EQUIVOCATION.
        Exception: whatever ``key`` raises.
    """
    jws = parse_compact(token, max_chars=MAX_TOKEN_CHARS)
    if jws.header.typ != STATUS_LIST_TYPE:
        raise Rejected(Reason.TYPE_MISMATCH, "typ is not that of a status list")
    if jws.header.kid is None:
        raise Rejected(Reason.KEY_UNKNOWN, "status list names no key")
    verify_signature(jws, key(jws.header.kid))
    claims = parse_json_object(jws.payload, _LIMITS)
    if claims.get("sub") != uri or claims.get("iss") != issuer:
        raise _invalid("list is another one, or another issuer's")
    issued_at, expires_at = _read_times(claims, now, clock_skew)
    ttl = claims.get("ttl")
    if type(ttl) is not int or not MIN_TTL.total_seconds() <= ttl <= MAX_TTL.total_seconds():
        raise _invalid("ttl is missing or out of bounds")
    fresh = Floor(seq=_read_seq(claims, now), issued_at=issued_at, sha256=sha256_b64url(jws.payload))
    check_floor(fresh, floor, now=now, clock_skew=clock_skew)
    bits, entries = _read_entries(claims.get("status_list"), size)
    return StatusList(
        uri=uri,
        issuer=issuer,
        kid=jws.header.kid,
        seq=fresh.seq,
        issued_at=issued_at,
        expires_at=expires_at,
        ttl=timedelta(seconds=ttl),
        bits=bits,
        entries=entries,
        sha256=fresh.sha256,
    )


def _read_times(claims: Mapping[str, Any], now: datetime, clock_skew: timedelta) -> tuple[datetime, datetime]:
    issued_at, expires_at = _instant(claims.get("iat")), _instant(claims.get("exp"))
    if issued_at > now + clock_skew:
        raise Rejected(Reason.NOT_YET_VALID, "list was issued in the future")
    if expires_at <= issued_at:
        raise _invalid("list expires before it was issued")
    if expires_at - issued_at > MAX_LIFETIME:
        raise Rejected(Reason.LIFETIME_TOO_LONG, "list lives longer than allowed")
    if now >= expires_at:
        raise Rejected(Reason.EXPIRED, "list has expired")
    return issued_at, expires_at


def _read_seq(claims: Mapping[str, Any], now: datetime) -> int:
    seq = claims.get("seq")
    if type(seq) is not int or not 1 <= seq <= MAX_SAFE_INTEGER:
        raise Rejected(Reason.SEQUENCE_INVALID, "seq is missing or not a whole number from one")
    if not is_within_reach(seq, now):
        raise Rejected(Reason.SEQUENCE_INVALID, "seq runs too far ahead of the clock")
    return seq


def check_floor(fresh: Floor, floor: Floor | None, *, now: datetime, clock_skew: timedelta) -> None:
    """Check that a list may follow what is remembered, or is the same again; see ``read_status_list``.

    Raises:
        Rejected: ROLLED_BACK, EQUIVOCATION.
    """
    if floor is None or not is_within_reach(floor.seq, now):
        return
    if fresh.seq < floor.seq:
        raise Rejected(Reason.ROLLED_BACK, "a newer list is known")
    if fresh.seq == floor.seq and fresh.sha256 != floor.sha256:
        raise Rejected(Reason.EQUIVOCATION, "another list with this number is known")
    # A list that bears a time to come was taken in while clocks ran ahead. Its number still counts; were its time to
    # count, no right list would be taken until then.
    if fresh.issued_at < floor.issued_at <= now + clock_skew:
        raise Rejected(Reason.ROLLED_BACK, "list is older than the one before it")


def _read_entries(status_list: object, size: int) -> tuple[int, bytes]:
    if not isinstance(status_list, dict):
        raise _invalid("status_list is missing")
    bits = status_list.get("bits")
    if type(bits) is not int or bits not in _ACCEPTED_BITS:
        raise _invalid("bits is not 1 or 2")
    entries = decode(bits, status_list.get("lst", ""), max_raw=min(MAX_ENTRIES * bits // 8, MAX_RAW_BYTES))
    if len(entries) * 8 < size * bits:
        raise _invalid("list is shorter than registered")
    return bits, entries


def _instant(value: object) -> datetime:
    if type(value) is not int or not 0 <= value <= _MAX_NUMERIC_DATE:
        raise _invalid("iat or exp is missing or not a time in whole seconds")
    return datetime.fromtimestamp(value, UTC)


def _milliseconds(now: datetime) -> int:
    return int(now.timestamp() * 1_000)


def _invalid(detail: str) -> Rejected:
    return Rejected(Reason.STATUS_LIST_INVALID, detail)


def _no_status(detail: str) -> Rejected:
    return Rejected(Reason.STATUS_INVALID, detail)
