"""Encodings, strictly: base64url, JSON, digests.

* base64url (RFC 7515 section 2): every character outside the alphabet, every unused bit that is set and every pad
  character is refused, so that one document has one spelling.
* JSON (RFC 8259): UTF-8 without BOM, without duplicate members at any depth, without NaN, infinities or lone
  surrogates, within named limits. Parsers keep the last of two duplicates, which is how a checker and a user of the
  same bytes come to read different things. So whatever the fast parser could have read otherwise than it is written
  goes to the slow one, which sees every pair and the spelling of every number.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import orjson

from gateway.core.reasons import Reason, Rejected

_MAX_INTEGER_CHARS: Final = 17  # with a sign; longer ones are not even converted
MAX_SAFE_INTEGER: Final = 2**53 - 1  # the largest every JSON reader agrees on (RFC 8259 section 6)

# -- base64url --------------------------------------------------------------------------------------------------------

# With 2 or 3 characters in the last group, the low 4 or 2 bits of the last character carry nothing and must be zero;
# otherwise several strings decode to the same bytes.
_LAST_CHARACTERS: Final = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}
_PADDING: Final = (b"", b"", b"==", b"=")
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
# The characters that only the other alphabet has, and the pad character, become one that neither has.
_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/!!!")


def b64url_encode(raw: bytes) -> str:
    """Encode without padding (RFC 7515 section 2)."""
    return b2a_base64(raw, newline=False).translate(_TO_URL, b"=").decode("ascii")


def b64url_decode(text: str) -> bytes:
    """Decode the one canonical spelling; anything else is MALFORMED."""
    tail = len(text) % 4
    if tail == 1 or (tail and text[-1] not in _LAST_CHARACTERS[tail]):
        raise Rejected(Reason.MALFORMED, "base64url is not canonical")
    try:
        return a2b_base64(text.encode("ascii").translate(_FROM_URL) + _PADDING[tail], strict_mode=True)
    except ValueError as error:
        raise Rejected(Reason.MALFORMED, "not base64url") from error


def new_name(random: bytes) -> str:
    """Spell random bytes as the name of something that people will type; one bit of them is lost.

    It does not begin with a dash: commands would take it for an option, and spreadsheets for a formula.
    """
    return b64url_encode(bytes([random[0] & 0x7F]) + random[1:])


def new_timed_name(milliseconds: int, random: bytes) -> str:
    """Spell random bytes as the name of something that was made at a time, and begin with that.

    An index over such names grows in one place, and not in another page for every row. They tell the time, as what they
    name does. ``milliseconds`` since 1970 have 48 bits, of which the first is 0 for longer than anybody will ask.
    """
    return new_name(milliseconds.to_bytes(6, "big") + random)


# -- JSON -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLimits:
    """Bounds on foreign JSON, checked before anything reads it."""

    max_bytes: int = 65_536
    max_depth: int = 16
    max_members: int = 2_000
    max_string: int = 8_192


DEFAULT_LIMITS: Final = JsonLimits()
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json_object(raw: bytes, limits: JsonLimits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Read one JSON object strictly.

    Raises:
        Rejected: TOO_LARGE over a size limit, MALFORMED for everything else.
    """
    value = parse_json(raw, limits)
    if not isinstance(value, dict):
        raise Rejected(Reason.MALFORMED, "not a JSON object")
    return value


def parse_json(raw: bytes, limits: JsonLimits = DEFAULT_LIMITS) -> Any:
    """Read one JSON value strictly; see ``parse_json_object``."""
    if len(raw) > limits.max_bytes:
        raise Rejected(Reason.TOO_LARGE, "JSON text over the size limit")
    value = _parse_plain(raw)
    if value is _NOT_PLAIN:
        value = _parse_any(raw)
    # Length bounds strings from above, commas and brackets bound members, brackets bound depth, and only an escape can
    # spell a surrogate: what cannot be over a limit is not looked for.
    if len(raw) > limits.max_string or (b"\\" in raw and _SURROGATE_ESCAPE.search(raw)):
        _check_strings(value, limits)
    brackets = raw.count(b"{") + raw.count(b"[")
    if brackets > limits.max_depth or raw.count(b",") + brackets > limits.max_members:
        _check_shape(value, limits)
    return value


def _parse_plain(raw: bytes) -> Any:
    """Read what can be read in one way only; anything else gives ``_NOT_PLAIN``.

    A string takes two quotes where nothing is escaped. A member that was lost because another has its name took its two
    quotes along, so counting them finds it. Of numbers, only integers other than 0 that every reader agrees on are
    plain: 0 may have been written -0.
    """
    if b"\\" in raw or len(raw) > _MAX_PLAIN_BYTES:
        return _NOT_PLAIN
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _NOT_PLAIN  # the other one says why
    return value if 2 * _plain_strings(value) == raw.count(b'"') else _NOT_PLAIN


def _plain_strings(value: Any) -> int:
    """Count the strings, names included, in what was parsed; -1 where there is a number that is not plain."""
    strings = 0
    level = [value]
    while level:  # as deep as what was parsed
        inside: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                strings += 1
            elif kind is dict:
                strings += len(item)
                inside += item.values()
            elif kind is list:
                inside += item
            elif kind is float or (kind is int and (item == 0 or not -MAX_SAFE_INTEGER <= item <= MAX_SAFE_INTEGER)):
                return -1
        level = inside
    return strings


_NOT_PLAIN: Final = object()
_MAX_PLAIN_BYTES: Final = 16_384  # the fast parser takes some twelve times as much memory as its text


def _parse_any(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8").strip(" \t\n\r")  # RFC 8259 section 2: white space is these four, no others
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise Rejected(Reason.MALFORMED, "not strict JSON") from error
    if end != len(text):
        raise Rejected(Reason.MALFORMED, "text after the JSON value")
    return value


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _parse_float(text: str) -> float:
    number = float(text)
    if number - number != 0 or (number == 0 and text.startswith("-")):
        raise ValueError("number is not finite, or is negative zero")
    return number


def _parse_int(text: str) -> int:
    if (
        len(text) > _MAX_INTEGER_CHARS
        or text == "-0"
        or not -MAX_SAFE_INTEGER <= (number := int(text)) <= MAX_SAFE_INTEGER
    ):
        raise ValueError("integer out of range, or is negative zero")
    return number


def _refuse_constant(_text: str) -> NoReturn:
    raise ValueError("constant is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_float=_parse_float, parse_int=_parse_int, parse_constant=_refuse_constant
)


def _check_strings(value: Any, limits: JsonLimits) -> None:
    level = [value]
    while level:  # as deep as what was parsed
        inside: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_string(item, limits)
            elif isinstance(item, dict):
                inside += item
                inside += item.values()
            elif isinstance(item, list):
                inside += item
        level = inside


def _check_shape(value: Any, limits: JsonLimits) -> None:
    members = 0
    containers = [value] if isinstance(value, dict | list) else []
    for _depth in range(limits.max_depth + 1):
        if not containers:
            return
        members += sum(map(len, containers))
        if members > limits.max_members:
            raise Rejected(Reason.TOO_LARGE, "too many JSON members")
        containers = [
            item
            for container in containers
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
    raise Rejected(Reason.MALFORMED, "JSON nested too deeply")


def _check_string(text: str, limits: JsonLimits) -> None:
    if len(text) > limits.max_string:
        raise Rejected(Reason.TOO_LARGE, "JSON string over the size limit")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Rejected(Reason.MALFORMED, "lone surrogate in a JSON string") from error


def write_json(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """Write compact UTF-8 JSON, members in the order given."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def write_canonical_json(value: Mapping[str, Any]) -> bytes:
    """Write the one spelling that equal values have: compact UTF-8, members sorted by code point.

    As far as ``parse_json`` reads it, without fractions: those have more than one spelling.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


# -- digests ----------------------------------------------------------------------------------------------------------


def sha256_b64url(raw: bytes) -> str:
    """SHA-256, base64url."""
    return b64url_encode(hashlib.sha256(raw).digest())


def keyed_digest(key: bytes, *parts: str) -> str:
    """HMAC-SHA-256 over length-prefixed parts, base64url.

    The prefixes keep ("ab", "c") and ("a", "bc") apart. Keyed, because the things we refer to (a person at an issuer)
    come from spaces small enough to enumerate.
    """
    message = b""
    for part in parts:
        raw = part.encode()
        message += len(raw).to_bytes(4, "big") + raw
    return b64url_encode(hmac.digest(key, message, "sha256"))


def equal_secrets(left: str, right: str) -> bool:
    """Compare without telling by the time taken where they differ."""
    return hmac.compare_digest(left.encode("utf-8"), right.encode("utf-8"))
