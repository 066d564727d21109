"""Signed documents, read strictly: base64url, JSON, keys, JWS (RFC 4648, 8259, 7517, 7638, 7515).

* One document has one spelling: base64url that would be written otherwise is refused, and so is JSON with duplicate
  members, with numbers that programs disagree about, or with text that is no Unicode.
* A header holds ``alg``, ``typ`` and ``kid`` and nothing else. Nothing in a document names or brings the key that it is
  verified with.
* The algorithm is the key's; a header that says another is refused. There is one key for one ``kid``, its thumbprint.
* Every document has a bound, and none is read past it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature


class Unreadable(ValueError):  # noqa: N818 - what is the matter with a document, not with the program
    """A document that is not what it has to be. The text is for engineers and repeats nothing of the document."""


# -- base64url and JSON -----------------------------------------------------------------------------------------------


def encode(raw: bytes) -> str:
    """Write base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode(text: object) -> bytes:
    """Read the one spelling of base64url. Raises Unreadable."""
    if not isinstance(text, str):
        raise Unreadable("base64url is not a string")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise Unreadable("not base64url") from error
    if encode(raw) != text:
        raise Unreadable("base64url is not canonical")
    return raw


def sha256(raw: bytes) -> str:
    """SHA-256, base64url."""
    return encode(hashlib.sha256(raw).digest())


class Limits(NamedTuple):
    """What JSON may have at most."""

    size: int = 65_536
    """Bytes."""
    depth: int = 16
    members: int = 2_000
    """Of all arrays and objects together."""
    string: int = 8_192
    """Characters."""


DEFAULT_LIMITS: Final = Limits()
MAX_INTEGER: Final = 2**53 - 1
"""The largest that every JSON reader agrees on (RFC 8259 section 6)."""
_MAX_INTEGER_CHARS: Final = 17


def parse_json(raw: bytes, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Read one JSON object strictly. Raises Unreadable."""
    if len(raw) > limits.size:
        raise Unreadable("JSON over the size limit")
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Unreadable("not strict JSON") from error
    if not isinstance(value, dict):
        raise Unreadable("not a JSON object")
    _check_limits(value, limits)
    return value


def _check_limits(value: dict[str, Any], limits: Limits) -> None:
    level: list[Any] = [value]
    members = 0
    for _ in range(limits.depth + 1):
        for text in level:
            if isinstance(text, str):
                _check_string(text, limits)
        containers = [each for each in level if isinstance(each, dict | list)]
        if not containers:
            return
        members += sum(map(len, containers))
        if members > limits.members:
            raise Unreadable("too many JSON members")
        level = [item for each in containers for item in each]  # of an object, the names
        level += [item for each in containers if isinstance(each, dict) for item in each.values()]
    raise Unreadable("JSON nested too deeply")


def _check_string(text: str, limits: Limits) -> None:
    if len(text) > limits.string:
        raise Unreadable("JSON string over the size limit")
    as_bytes(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _integer(text: str) -> int:
    if len(text) > _MAX_INTEGER_CHARS or text == "-0" or abs(int(text)) > MAX_INTEGER:
        raise ValueError("integer out of range, or negative zero")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if number - number != 0 or (number == 0 and text.startswith("-")):
        raise ValueError("number is not finite, or negative zero")
    return number


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("constant is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_number, parse_constant=_refuse
)


# -- reading one member -----------------------------------------------------------------------------------------------


def as_bytes(text: bytes | str) -> bytes:
    """Read text as UTF-8. Raises Unreadable."""
    try:
        return text if isinstance(text, bytes) else text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unreadable("text is no Unicode") from error


def read_members(value: object, *names: str) -> Mapping[str, Any]:
    """Read an object that has exactly these members. Raises Unreadable."""
    if not isinstance(value, dict) or value.keys() != set(names):
        raise Unreadable(f"not an object of {', '.join(names)}")
    return value


def read_values(value: object) -> Iterable[Any]:
    """Read an object of which the names do not matter. Raises Unreadable."""
    if not isinstance(value, dict):
        raise Unreadable("not an object")
    return value.values()


def read_items(claims: Mapping[str, Any], name: str, low: int, high: int) -> Sequence[Any]:
    """Read an array. Raises Unreadable."""
    value = claims.get(name)
    if not isinstance(value, list) or not low <= len(value) <= high:
        raise Unreadable(f"{name} is not an array of {low} to {high} items")
    return value


def read_strings(claims: Mapping[str, Any], name: str, at_most: int) -> Sequence[str]:
    """Read an array of strings. Raises Unreadable."""
    value = read_items(claims, name, 0, at_most)
    if not all(isinstance(each, str) for each in value):
        raise Unreadable(f"{name} is not an array of strings")
    return value


def read_string(claims: Mapping[str, Any], name: str) -> str:
    """Read a string. Raises Unreadable."""
    value = claims.get(name)
    if not isinstance(value, str):
        raise Unreadable(f"{name} is not a string")
    return value


def read_text(claims: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    """Read a string of a form. Raises Unreadable."""
    value = read_string(claims, name)
    if form.fullmatch(value) is None:
        raise Unreadable(f"{name} is malformed")
    return value


def read_number(claims: Mapping[str, Any], name: str, high: int, low: int = 0) -> int:
    """Read a whole number. Raises Unreadable."""
    value = claims.get(name)
    if type(value) is not int or not low <= value <= high:  # bool is an int to Python, not to JSON
        raise Unreadable(f"{name} is not a whole number from {low} to {high}")
    return value


def read_hash(claims: Mapping[str, Any], name: str) -> bytes:
    """Read a SHA-256 digest. Raises Unreadable."""
    raw = decode(claims.get(name))
    if len(raw) != hashlib.sha256().digest_size:
        raise Unreadable(f"{name} is not a SHA-256 digest")
    return raw


# -- JWS --------------------------------------------------------------------------------------------------------------

_MAX_HEADER: Final = 683
"""Characters."""
_HEADER_LIMITS: Final = Limits(size=512, depth=1, members=3, string=512)


class Jws(NamedTuple):
    """A well-formed JWS. Anybody can make one: nothing in it counts before a key has verified it."""

    alg: str
    typ: str
    kid: str
    payload: bytes
    signed: bytes
    """What the signature is over."""
    signature: bytes


def parse_compact(token: str, max_chars: int) -> Jws:
    """Read a compact JWS. Raises Unreadable."""
    if len(token) > max_chars:
        raise Unreadable("JWS over the size limit")
    parts = token.split(".", 3)
    if len(parts) != 3 or not parts[1]:  # noqa: PLR2004 - header, payload, signature
        raise Unreadable("not a compact JWS")
    return assemble(parts[0], parts[1], decode(parts[1]), parts[2])


def assemble(protected: object, encoded: str, payload: bytes, signature: object) -> Jws:
    """Put a JWS together from its parts, of which the payload was decoded already. Raises Unreadable."""
    if not isinstance(protected, str) or len(protected) > _MAX_HEADER:
        raise Unreadable("JWS header is no string, or over the size limit")
    header = parse_json(decode(protected), _HEADER_LIMITS)
    if header.keys() != {"alg", "typ", "kid"} or not all(isinstance(each, str) for each in header.values()):
        raise Unreadable("JWS header does not hold alg, typ and kid and nothing else")
    return Jws(
        # Two names of one algorithm (RFC 9864), because only Ed25519 keys are imported.
        alg="Ed25519" if header["alg"] == "EdDSA" else header["alg"],
        typ=header["typ"],
        kid=header["kid"],
        payload=payload,
        signed=f"{protected}.{encoded}".encode("ascii"),
        signature=decode(signature),
    )


# -- keys -------------------------------------------------------------------------------------------------------------

_MAX_KEYS: Final = 16
"""Of one set."""
_MEMBERS: Final = frozenset({"kty", "crv", "x", "y", "kid", "alg", "use"})
_CURVES: Final[Mapping[str, tuple[str, ec.EllipticCurve, hashes.HashAlgorithm, int]]] = {
    "P-256": ("ES256", ec.SECP256R1(), hashes.SHA256(), 32),
    "P-384": ("ES384", ec.SECP384R1(), hashes.SHA384(), 48),
}
# One of these as a public key verifies signatures that nobody made. The top bit is the sign of x.
_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


@dataclass(frozen=True, slots=True)
class Key:
    """A public key and the one algorithm that it is for."""

    kid: str
    """Its RFC 7638 thumbprint."""
    alg: str
    _public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey = field(repr=False, compare=False)
    _curve: str = field(default="", repr=False)

    def verifies(self, jws: Jws) -> bool:
        """Whether the JWS names this key's algorithm, and the signature holds."""
        if jws.alg != self.alg:
            return False
        try:
            if isinstance(self._public, ed25519.Ed25519PublicKey):
                self._public.verify(jws.signature, jws.signed)
                return True
            _, _, digest, size = _CURVES[self._curve]
            if len(jws.signature) != 2 * size:
                return False
            r, s = (int.from_bytes(half, "big") for half in (jws.signature[:size], jws.signature[size:]))
            self._public.verify(encode_dss_signature(r, s), jws.signed, ec.ECDSA(digest))
        except InvalidSignature:
            return False
        return True


def import_jwks(jwks: object) -> Mapping[str, Key]:
    """Read a JWK Set, by kid. One bad key refuses the set. Raises Unreadable."""
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
        raise Unreadable("not a JWK Set")
    if not 1 <= len(jwks["keys"]) <= _MAX_KEYS:
        raise Unreadable(f"not a JWK Set of 1 to {_MAX_KEYS} keys")
    keys = [_import(jwk) for jwk in jwks["keys"]]
    if len({key.kid for key in keys}) != len(keys):
        raise Unreadable("a key appears twice")
    return {key.kid: key for key in keys}


def _import(jwk: object) -> Key:
    # A closed list: whatever else stands in a key, such as its private half, is no business of ours.
    if not isinstance(jwk, dict) or not jwk.keys() <= _MEMBERS or jwk.get("use", "sig") != "sig":
        raise Unreadable("a key has a member that it may not have, or is not for signatures")
    key = _import_okp(jwk) if jwk.get("kty") == "OKP" else _import_ec(jwk)
    names = ("Ed25519", "EdDSA") if key.alg == "Ed25519" else (key.alg,)
    if jwk.get("kid") != key.kid or jwk.get("alg", key.alg) not in names:
        raise Unreadable("kid is not the key's thumbprint, or alg does not fit the key")
    return key


def _import_ec(jwk: Mapping[str, Any]) -> Key:
    crv = jwk.get("crv")
    if jwk.get("kty") != "EC" or not isinstance(crv, str) or crv not in _CURVES:
        raise Unreadable("key type or curve is not one of the federation's")
    alg, curve, _, size = _CURVES[crv]
    x, y = decode(jwk.get("x")), decode(jwk.get("y"))
    if (len(x), len(y)) != (size, size):
        raise Unreadable("a coordinate has the wrong length")
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + x + y)
    except ValueError as error:
        raise Unreadable("point is not on the curve") from error
    return Key(_thumbprint(crv=crv, kty="EC", x=jwk["x"], y=jwk["y"]), alg, public, crv)


def _import_okp(jwk: Mapping[str, Any]) -> Key:
    x = decode(jwk.get("x"))
    if jwk.get("crv") != "Ed25519" or "y" in jwk or len(x) != 32 or x[:-1] + bytes([x[-1] & 0x7F]) in _SMALL_ORDER:  # noqa: PLR2004
        raise Unreadable("not an Ed25519 key, or a point of small order")
    try:
        public = ed25519.Ed25519PublicKey.from_public_bytes(x)
    except ValueError as error:
        raise Unreadable("point is not acceptable") from error
    return Key(_thumbprint(crv="Ed25519", kty="OKP", x=jwk["x"]), "Ed25519", public)


def _thumbprint(**members: str) -> str:
    # RFC 7638: the required members in the order of their names, without white space.
    return sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode("ascii"))
