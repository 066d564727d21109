"""JOSE, strictly: JWK and JWS. The only module of the core that touches ``jwt`` or ``cryptography``.

Rules that live here (RFC 7515, 7517, 7518, 7638, 8037, 8725; the stricter choices are ours):

* A header holds ``alg``, ``typ`` and ``kid`` and nothing else: ``jwk``, ``jku``, ``x5u``, ``x5c`` would let a token
  name the key it is checked with, ``crit`` and ``b64`` would change what the signature covers.
* The algorithm comes from the key, never from the token: the token's ``alg`` must equal the one its key is registered
  for.
* ``kid`` is a hint for a look-up. It is never a path, a query or an address.
* A key is checked before it is imported; one that is weak, private, ambiguous or for another use never gets that far.

PyJWT supplies the signature primitives. Its ``decode`` is not used: it reads the wall clock, keeps the last of
duplicate members and accepts padded signatures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NewType, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm
from jwt.exceptions import InvalidKeyError

from gateway.core.encoding import (
    DEFAULT_LIMITS,
    JsonLimits,
    b64url_decode,
    b64url_encode,
    parse_json_object,
    sha256_b64url,
    write_json,
)
from gateway.core.reasons import Reason, Rejected

VerifiedClaims = NewType("VerifiedClaims", dict[str, Any])
"""Claims whose signature was verified. Only ``verify`` makes them."""

MAX_HEADER_CHARS: Final = 683  # base64url of 512 bytes
_HEADER_LIMITS: Final = JsonLimits(max_bytes=512, max_depth=4, max_members=64, max_string=512)
MAX_JWKS_KEYS: Final = 16
"""Keys in one set; precedents keep two or three (old, current, next)."""


class Algorithm(StrEnum):
    """Signature algorithms the gateway can verify. Which are allowed is the charter's decision, per issuer."""

    ES256 = "ES256"
    ES384 = "ES384"
    ED25519 = "Ed25519"
    RS256 = "RS256"
    PS256 = "PS256"


# RFC 9864 gives EdDSA-with-Ed25519 a name of its own; older signers still write the polymorphic one. Both mean Ed25519
# here, because only Ed25519 keys are ever imported.
_ALGORITHM_NAMES: Final[Mapping[str, Algorithm]] = {**{a.value: a for a in Algorithm}, "EdDSA": Algorithm.ED25519}

_PRIMITIVES: Final[Mapping[Algorithm, Any]] = {
    Algorithm.ES256: ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1),
    Algorithm.ES384: ECAlgorithm(ECAlgorithm.SHA384, ec.SECP384R1),
    Algorithm.ED25519: OKPAlgorithm(),
    Algorithm.RS256: RSAAlgorithm(RSAAlgorithm.SHA256),
    Algorithm.PS256: RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
}
_SIGNATURE_BYTES: Final = {
    Algorithm.ES256: 64,
    Algorithm.ES384: 96,
    Algorithm.ED25519: 64,
}  # RFC 7518 3.4, RFC 8037 3.1


# -- keys -------------------------------------------------------------------------------------------------------------

_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_CURVES: Final[Mapping[str, tuple[Algorithm, ec.EllipticCurve, int]]] = {
    "P-256": (Algorithm.ES256, ec.SECP256R1(), 32),
    "P-384": (Algorithm.ES384, ec.SECP384R1(), 48),
}
_MAX_MEMBER_CHARS: Final = 1024  # an RSA modulus of 4096 bits takes 683
_KID: Final = re.compile(r"[A-Za-z0-9._:@~-]{1,128}")
# Ed25519 points of small order: one of them as a public key verifies signatures that nobody made. The top bit of the
# last byte is the sign of x and is masked off before the comparison.
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
# ROCA (CVE-2017-15361): the faulty generator only made moduli that are powers of 65537 modulo each of these primes.
_ROCA_PRIMES: Final = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
_ROCA_RESIDUES: Final = tuple((p, frozenset(pow(65537, i, p) for i in range(p))) for p in _ROCA_PRIMES)

PublicKeyObject = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A public key that passed the import rules, with the one algorithm it may be used with."""

    kid: str
    algorithm: Algorithm
    thumbprint: str
    """RFC 7638 SHA-256 thumbprint, base64url: the key's identity, whatever its kid says."""
    jwk: Mapping[str, str]
    """The public members, as published."""
    _object: PublicKeyObject


def import_jwk(jwk: Any, *, kid_is_thumbprint: bool = True) -> PublicKey:
    """Import a published public key.

    Args:
        jwk: the parsed JWK (RFC 7517), untrusted.
        kid_is_thumbprint: our profile: ``kid`` must be the RFC 7638 thumbprint, which leaves nobody a choice of kid and
            so rules out collisions. Off for statements of other federations.

    Raises:
        Rejected: KEY_NOT_ACCEPTABLE.
    """
    _check_use(jwk)
    importer = _IMPORTERS.get(jwk["kty"]) if isinstance(jwk.get("kty"), str) else None
    if importer is None:
        raise _bad_key("key type is not supported")
    algorithm, public, members = importer(jwk)
    if "alg" in jwk:
        algorithm = _declared_algorithm(jwk["alg"], algorithm)
    thumbprint = _thumbprint(members)
    kid = jwk.get("kid", thumbprint)
    if not isinstance(kid, str) or _KID.fullmatch(kid) is None:
        raise _bad_key("kid is malformed")
    if kid_is_thumbprint and kid != thumbprint:
        raise _bad_key("kid is not the thumbprint")
    return PublicKey(
        kid=kid,
        algorithm=algorithm,
        thumbprint=thumbprint,
        jwk={**members, "kid": kid, "alg": algorithm.value, "use": "sig"},
        _object=public,
    )


def _check_use(jwk: Any) -> None:
    if not isinstance(jwk, dict):
        raise _bad_key("not an object")
    # Before any import: a private RSA member would send the library into prime recovery for seconds.
    if not _PRIVATE_MEMBERS.isdisjoint(jwk):
        raise _bad_key("holds a private or symmetric member")
    if jwk.get("use", "sig") != "sig":
        raise _bad_key("is not for signatures")
    if "key_ops" in jwk and jwk["key_ops"] != ["verify"]:
        raise _bad_key("key_ops is not verify alone")


def _declared_algorithm(name: object, natural: Algorithm) -> Algorithm:
    declared = _ALGORITHM_NAMES.get(name) if isinstance(name, str) else None
    # An RSA key fits two algorithms and is for one; every other key fits one.
    if declared is not natural and (declared, natural) != (Algorithm.PS256, Algorithm.RS256):
        raise _bad_key("alg does not fit the key")
    return declared if declared is not None else natural


def _thumbprint(members: Mapping[str, str]) -> str:
    # RFC 7638: the required members in the order of their names, without white space. The importers give them in that
    # order, and what they give needs no escaping.
    return sha256_b64url(("{" + ",".join(f'"{name}":"{members[name]}"' for name in members) + "}").encode("ascii"))


def import_jwks(jwks: Any, *, kid_is_thumbprint: bool = True) -> Mapping[str, PublicKey]:
    """Import a published JWK Set as {kid: key}.

    The whole set is refused when one member is: a publisher who slips in one bad key is not to be guessed at. Each key
    needs a ``kid``; no two may share it, and no key may appear under two names (RFC 7517 section 4.5).

    Raises:
        Rejected: KEY_NOT_ACCEPTABLE.
    """
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list) or not 1 <= len(keys) <= MAX_JWKS_KEYS:
        raise _bad_key("not a JWK Set of 1 to 16 keys")
    imported: dict[str, PublicKey] = {}
    for jwk in keys:
        if not isinstance(jwk, dict) or "kid" not in jwk:
            raise _bad_key("has no kid")
        key = import_jwk(jwk, kid_is_thumbprint=kid_is_thumbprint)
        if key.kid in imported:
            raise _bad_key("two keys share a kid")
        imported[key.kid] = key
    if len({key.thumbprint for key in imported.values()}) != len(imported):
        raise _bad_key("one key appears twice")
    return imported


def _bad_key(detail: str) -> Rejected:
    return Rejected(Reason.KEY_NOT_ACCEPTABLE, f"key {detail}")


def _member(jwk: Mapping[str, Any], name: str, size: int | None = None) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str) or len(text) > _MAX_MEMBER_CHARS:
        raise _bad_key(f"member {name} is missing or not a string")
    try:
        raw = b64url_decode(text)
    except Rejected as error:
        raise _bad_key(f"member {name} is not base64url") from error
    if size is not None and len(raw) != size:
        raise _bad_key(f"member {name} has the wrong length")
    return raw


_Imported = tuple[Algorithm, PublicKeyObject, dict[str, str]]


def _import_ec(jwk: Mapping[str, Any]) -> _Imported:
    curve = _CURVES.get(jwk["crv"]) if isinstance(jwk.get("crv"), str) else None
    if curve is None:
        raise _bad_key("curve is not supported")
    algorithm, _, size = curve
    x, y = _member(jwk, "x", size), _member(jwk, "y", size)
    try:
        public = _point(jwk["crv"], b"\x04" + x + y)
    except ValueError as error:
        raise _bad_key("point is not on the curve") from error
    return algorithm, public, {"crv": jwk["crv"], "kty": "EC", "x": jwk["x"], "y": jwk["y"]}


@lru_cache(maxsize=1024)  # a key stands in every statement about its owner, and in each new one again
def _point(curve: str, encoded: bytes) -> ec.EllipticCurvePublicKey:
    # Checks that the point is on the curve. Unlike the import from two integers, it does not reduce coordinates modulo
    # the field prime: a point with a small one would have two spellings, hence two thumbprints, and one key would count
    # as two.
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve][1], encoded)


def _import_okp(jwk: Mapping[str, Any]) -> _Imported:
    if jwk.get("crv") != "Ed25519":
        raise _bad_key("curve is not supported")
    x = _member(jwk, "x", 32)
    if x[:-1] + bytes([x[-1] & 0x7F]) in _SMALL_ORDER:
        raise _bad_key("point has small order")
    try:
        public = ed25519.Ed25519PublicKey.from_public_bytes(x)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad_key("point is not acceptable") from error
    return Algorithm.ED25519, public, {"crv": "Ed25519", "kty": "OKP", "x": jwk["x"]}


def _import_rsa(jwk: Mapping[str, Any]) -> _Imported:
    n_raw, e_raw = _member(jwk, "n"), _member(jwk, "e")
    n = int.from_bytes(n_raw, "big")
    if n_raw[0:1] == b"\0" or not 2048 <= n.bit_length() <= 4096 or n % 2 == 0:  # noqa: PLR2004 - sizes in bits
        raise _bad_key("RSA modulus is not an odd number of 2048 to 4096 bits")
    if e_raw != b"\x01\x00\x01":
        raise _bad_key("RSA exponent is not 65537")
    if all(n % prime in residues for prime, residues in _ROCA_RESIDUES):
        raise _bad_key("RSA modulus has the ROCA fingerprint")
    try:
        public = rsa.RSAPublicNumbers(65537, n).public_key()
    except ValueError as error:
        raise _bad_key("RSA key is not acceptable") from error
    return Algorithm.RS256, public, {"e": jwk["e"], "kty": "RSA", "n": jwk["n"]}


_IMPORTERS: Final = {"EC": _import_ec, "OKP": _import_okp, "RSA": _import_rsa}


# -- JWS --------------------------------------------------------------------------------------------------------------

_HEADER_MEMBERS: Final = frozenset({"alg", "typ", "kid"})


@dataclass(frozen=True, slots=True)
class Header:
    """The protected header. Attacker's input until the signature is verified."""

    algorithm: Algorithm
    typ: str | None
    kid: str | None


@dataclass(slots=True)
class UnverifiedJws:
    """A well-formed JWS nobody has vouched for yet. Read nothing from it but what selects the key."""

    header: Header
    payload: bytes
    signing_input: bytes
    signature: bytes

    def unverified_claims(self, limits: JsonLimits = DEFAULT_LIMITS) -> dict[str, Any]:
        """Read the payload before verification: only to learn which issuer's key to try."""
        return parse_json_object(self.payload, limits)


@dataclass(frozen=True, slots=True)
class Payload:
    """A payload as signatures cover it, and what it decodes to. Only ``decode_payload`` makes one."""

    encoded: str
    decoded: bytes


def decode_payload(encoded: str) -> Payload:
    """Decode a payload once, however many signatures it has.

    Raises:
        Rejected: MALFORMED.
    """
    return Payload(encoded, b64url_decode(encoded))


def parse_compact(token: str, *, max_chars: int) -> UnverifiedJws:
    """Split a compact JWS (RFC 7515 section 7.1) and read its header. No cryptography happens here.

    Raises:
        Rejected: TOO_LARGE, MALFORMED, HEADER_NOT_ALLOWED, ALGORITHM_NOT_ALLOWED.
    """
    if len(token) > max_chars:
        raise Rejected(Reason.TOO_LARGE, "JWS over the size limit")
    parts = token.split(".", 3)
    if len(parts) != 3 or not parts[0] or not parts[1]:  # noqa: PLR2004 - header, payload, signature
        raise Rejected(Reason.MALFORMED, "not a compact JWS")
    return assemble_jws(parts[0], parts[1], parts[2])


def assemble_jws(protected: str, payload: str | Payload, signature: str) -> UnverifiedJws:
    """Build a JWS from its three base64url parts (of the compact or of a JSON serialization)."""
    header = _parse_header(protected)
    covered = payload if isinstance(payload, Payload) else decode_payload(payload)
    signing_input = f"{protected}.{covered.encoded}".encode("ascii")
    return UnverifiedJws(header, covered.decoded, signing_input, b64url_decode(signature))


@lru_cache(maxsize=1024)
def _parse_header(segment: str) -> Header:
    # Pure, and the same few headers arrive all day: one per issuer key.
    if len(segment) > MAX_HEADER_CHARS:
        raise Rejected(Reason.MALFORMED, "JWS header over the size limit")
    header = parse_json_object(b64url_decode(segment), _HEADER_LIMITS)
    if not _HEADER_MEMBERS.issuperset(header):
        raise Rejected(Reason.HEADER_NOT_ALLOWED, "header holds more than alg, typ and kid")
    name = header.get("alg")
    algorithm = _ALGORITHM_NAMES.get(name) if isinstance(name, str) else None
    if algorithm is None:
        raise Rejected(Reason.ALGORITHM_NOT_ALLOWED, "alg is missing or not supported")
    typ, kid = header.get("typ"), header.get("kid")
    if "typ" in header and not isinstance(typ, str):
        raise Rejected(Reason.TYPE_MISMATCH, "typ is not a string")
    if "kid" in header and (not isinstance(kid, str) or _KID.fullmatch(kid) is None):
        raise Rejected(Reason.MALFORMED, "kid is malformed")
    return Header(algorithm, typ, kid)


def verify(jws: UnverifiedJws, key: PublicKey, limits: JsonLimits = DEFAULT_LIMITS) -> VerifiedClaims:
    """Verify the signature with the key's own algorithm, and read the payload.

    Raises:
        Rejected: ALGORITHM_NOT_ALLOWED when the token names another algorithm than the key's, SIGNATURE_INVALID, or
            what ``parse_json_object`` raises for the payload.
    """
    verify_signature(jws, key)
    return VerifiedClaims(parse_json_object(jws.payload, limits))


def verify_signature(jws: UnverifiedJws, key: PublicKey) -> None:
    """Verify the signature alone; see ``verify``."""
    if jws.header.algorithm is not key.algorithm:
        raise Rejected(Reason.ALGORITHM_NOT_ALLOWED, "alg is not the one the key is registered for")
    size = _SIGNATURE_BYTES.get(key.algorithm)
    if size is not None and len(jws.signature) != size:
        raise Rejected(Reason.SIGNATURE_INVALID, "signature has the wrong length")
    public: Any = key._object  # noqa: SLF001 - own type
    ecdsa = _ECDSA.get(key.algorithm)
    if ecdsa is None:
        verifies = _PRIMITIVES[key.algorithm].verify(jws.signing_input, public, jws.signature)
    else:
        verifies = _verify_ecdsa(jws, public, ecdsa)
    if not verifies:
        raise Rejected(Reason.SIGNATURE_INVALID, "signature does not verify")


def _verify_ecdsa(jws: UnverifiedJws, public: ec.EllipticCurvePublicKey, ecdsa: ec.ECDSA) -> bool:
    # What PyJWT does, without making its objects anew: most of what arrives all day is signed so.
    size = len(jws.signature) // 2
    r, s = int.from_bytes(jws.signature[:size], "big"), int.from_bytes(jws.signature[size:], "big")
    try:
        public.verify(encode_dss_signature(r, s), jws.signing_input, ecdsa)
    except InvalidSignature:
        return False
    return True


_ECDSA: Final[Mapping[Algorithm, ec.ECDSA]] = {
    Algorithm.ES256: ec.ECDSA(hashes.SHA256()),
    Algorithm.ES384: ec.ECDSA(hashes.SHA384()),
}


# -- signing ----------------------------------------------------------------------------------------------------------

PrivateKeyObject = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class Signer(Protocol):
    """A private key that can sign and never leaves its store."""

    @property
    def public(self) -> PublicKey:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """Sign, giving the raw JOSE signature (R||S for ECDSA)."""


@dataclass(frozen=True, slots=True)
class SoftwareKey:
    """A private key held in this process's memory."""

    public: PublicKey
    _object: PrivateKeyObject

    def sign(self, message: bytes) -> bytes:
        """Sign with the key's one algorithm."""
        signature: bytes = _PRIMITIVES[self.public.algorithm].sign(message, self._object)
        return signature

    def to_pkcs8(self, passphrase: bytes | None = None) -> bytes:
        """Serialise as PEM PKCS#8, encrypted when a passphrase is given."""
        encryption: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        )
        return self._object.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def generate_key(algorithm: Algorithm = Algorithm.ES256) -> SoftwareKey:
    """Generate a key pair; the library draws the randomness. Called by the key store and by tests only."""
    match algorithm:
        case Algorithm.ES256:
            return _software_key(ec.generate_private_key(ec.SECP256R1()), algorithm)
        case Algorithm.ES384:
            return _software_key(ec.generate_private_key(ec.SECP384R1()), algorithm)
        case Algorithm.ED25519:
            return _software_key(ed25519.Ed25519PrivateKey.generate(), algorithm)
        case Algorithm.RS256 | Algorithm.PS256:
            return _software_key(rsa.generate_private_key(65537, 2048), algorithm)


def load_pkcs8(pem: bytes, passphrase: bytes | None = None) -> SoftwareKey:
    """Load a PEM PKCS#8 private key.

    Raises:
        ValueError: the file is not such a key, or the passphrase does not open it.
    """
    try:
        private = serialization.load_pem_private_key(pem, passphrase)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("passphrase missing or not needed, or the key type is not supported") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        raise ValueError("key type is not supported")  # noqa: TRY004 - the content of a file is at fault
    return _software_key(private)


def _software_key(private: PrivateKeyObject, algorithm: Algorithm | None = None) -> SoftwareKey:
    try:
        match private:
            case ec.EllipticCurvePrivateKey():
                jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
            case ed25519.Ed25519PrivateKey():
                jwk = OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
            case _:
                members = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
                jwk = {name: value for name, value in members.items() if name != "key_ops"}
        if algorithm is not None:
            jwk["alg"] = algorithm.value
        return SoftwareKey(import_jwk(jwk), private)
    except Rejected as error:
        raise ValueError(error.detail) from error
    except InvalidKeyError as error:
        raise ValueError("curve is not supported") from error


def sign_compact(typ: str, claims: Mapping[str, Any], signer: Signer) -> str:
    """Sign claims as a compact JWS with our three-member header."""
    signing_input = f"{protected_header(typ, signer)}.{b64url_encode(write_json(claims))}"
    return f"{signing_input}.{b64url_encode(signer.sign(signing_input.encode('ascii')))}"


def protected_header(typ: str, signer: Signer) -> str:
    """Write the protected header, base64url encoded."""
    public = signer.public
    return b64url_encode(write_json({"alg": public.algorithm.value, "typ": typ, "kid": public.kid}))
