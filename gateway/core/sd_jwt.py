"""SD-JWT, compact form (RFC 9901): split and process, present, issue.

An SD-JWT is an issuer's JWS followed by Disclosures. The JWS holds digests of claims; a Disclosure is the preimage of
one digest. Whoever holds the SD-JWT passes on the Disclosures it chooses, and may append a key-binding JWT that ties
the choice to one verifier and one transaction.

Rules that live here, with their step in section 7 of the RFC:

* ``split``: the ABNF of section 4, and our size limits, before anything is decoded. The JSON serialization is refused.
* ``hash_algorithm``: ``_sd_alg`` (7.1 step 2d).
* ``process``: digests to claims (7.1 steps 3 to 5). Every digest appears once, every Disclosure is used once.

The issuer's signature is the caller's business: it knows whose key to use (``credential``). The holder's proof has its
own rules (``key_binding``). Where the text leaves a choice, ours is to refuse: a malformed ``_sd``, a misplaced
``...``, a nested ``_sd_alg``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from gateway.core.encoding import b64url_decode, b64url_encode, parse_json, write_json
from gateway.core.jose import Signer, parse_compact, sign_compact
from gateway.core.key_binding import MAX_KEY_BINDING_JWT_CHARS, make_key_binding
from gateway.core.reasons import Reason, Rejected

MAX_PRESENTATION_CHARS: Final = 65_536
MAX_ISSUER_JWT_CHARS: Final = 32_768
MAX_DISCLOSURES: Final = 100
MAX_DISCLOSURE_CHARS: Final = 8_192
MAX_NESTED_DISCLOSURES: Final = 8
"""How many Disclosures may stand one inside another."""
MAX_DEPTH: Final = 16
"""Nesting of the processed claims; ``jose`` bounds the JWS and each Disclosure, but not what they build together."""

Path = tuple[str | int, ...]
"""Where a claim stands: member names, and positions in the issuer's own arrays."""


class HashAlgorithm(StrEnum):
    """What ``_sd_alg`` may name. The registry also holds truncations (sha-256-32) that anybody can collide."""

    SHA_256 = "sha-256"
    SHA_384 = "sha-384"
    SHA_512 = "sha-512"


_HASHES: Final = {
    HashAlgorithm.SHA_256: hashlib.sha256,
    HashAlgorithm.SHA_384: hashlib.sha384,
    HashAlgorithm.SHA_512: hashlib.sha512,
}
_HASH_NAMES: Final[Mapping[str, HashAlgorithm]] = {algorithm.value: algorithm for algorithm in HashAlgorithm}
_RESERVED: Final = frozenset({"_sd", "...", "_sd_alg"})
_CONTAINERS: Final = (dict, list)


# -- compact form -----------------------------------------------------------------------------------------------------

# Possessive quantifiers: foreign text is read once, without backtracking.
_DISCLOSURES: Final = re.compile(r"(?:[A-Za-z0-9_-]++~)*+")
_JWT: Final = re.compile(r"[A-Za-z0-9_.-]*+")


@dataclass(slots=True, kw_only=True)
class SdJwtParts:
    """The parts of an SD-JWT, or of an SD-JWT+KB. Nothing is verified yet."""

    issuer_jwt: str
    disclosures: tuple[str, ...]
    key_binding_jwt: str | None
    sd_jwt: str
    """Everything up to and including the last tilde: what a key-binding JWT covers."""


def split(text: str) -> SdJwtParts:
    """Split the compact form (section 4). All is bounded; what follows the issuer's JWT holds no foreign character.

    Raises:
        Rejected: TOO_LARGE, MALFORMED.
    """
    if len(text) > MAX_PRESENTATION_CHARS:
        raise Rejected(Reason.TOO_LARGE, "presentation over the size limit")
    first, last = text.find("~"), text.rfind("~") + 1
    issuer_jwt, middle, key_binding_jwt = text[:first], text[first + 1 : last], text[last:]
    if first < 1 or _DISCLOSURES.fullmatch(middle) is None or _JWT.fullmatch(key_binding_jwt) is None:
        raise Rejected(Reason.MALFORMED, "not a compact SD-JWT")
    disclosures = tuple(middle.split("~")[:-1])
    if (
        len(issuer_jwt) > MAX_ISSUER_JWT_CHARS
        or len(key_binding_jwt) > MAX_KEY_BINDING_JWT_CHARS
        or len(disclosures) > MAX_DISCLOSURES
        or (len(middle) > MAX_DISCLOSURE_CHARS and any(len(d) > MAX_DISCLOSURE_CHARS for d in disclosures))
    ):
        raise Rejected(Reason.TOO_LARGE, "a part of the SD-JWT is over its limit")
    return SdJwtParts(
        issuer_jwt=issuer_jwt,
        disclosures=disclosures,
        key_binding_jwt=key_binding_jwt or None,
        sd_jwt=text[:last],
    )


def hash_algorithm(payload: Mapping[str, Any]) -> HashAlgorithm:
    """Read ``_sd_alg``; absent means SHA-256 (section 4.1.1).

    Raises:
        Rejected: HASH_NOT_ALLOWED.
    """
    name = payload.get("_sd_alg", "sha-256")
    algorithm = _HASH_NAMES.get(name) if isinstance(name, str) else None
    if algorithm is None:
        raise Rejected(Reason.HASH_NOT_ALLOWED, "_sd_alg is not an allowed hash")
    return algorithm


def digest(text: str, algorithm: HashAlgorithm) -> str:
    """Hash the characters as they were sent, never what they decode to (section 4.2.3)."""
    return b64url_encode(_HASHES[algorithm](text.encode("ascii")).digest())


# -- verifier: from digests to claims ---------------------------------------------------------------------------------


def process(payload: Mapping[str, Any], disclosures: Sequence[str], algorithm: HashAlgorithm) -> dict[str, Any]:
    """Put the disclosed claims in the places of their digests (section 7.1 steps 3 to 5).

    Digests without a Disclosure are decoys or claims the holder kept; they vanish, and so does all ``_sd`` machinery.
    The payload is left as it is.

    Raises:
        Rejected: DISCLOSURE_INVALID, MALFORMED, HASH_NOT_ALLOWED, TOO_LARGE.
    """
    return _Processing(disclosures, algorithm).run(payload)


class _Processing:
    """One walk over one payload, depth first, opening each Disclosure at the place of its digest."""

    __slots__ = ("_closed", "_seen", "places")

    def __init__(self, disclosures: Sequence[str], algorithm: HashAlgorithm) -> None:
        self._closed = {digest(disclosure, algorithm): disclosure for disclosure in disclosures}
        if len(self._closed) != len(disclosures):
            raise Rejected(Reason.DISCLOSURE_INVALID, "a Disclosure appears twice")
        self._seen: set[str] = set()
        self.places: dict[str, Path] = {}
        """Where each Disclosure's claim stands."""

    def run(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        claims = self._object(payload, (), 0)
        if self._closed:
            # Nobody signed for it: added by the presenter, or a child whose parent is missing.
            raise Rejected(Reason.DISCLOSURE_INVALID, "a Disclosure matches no digest")
        return claims

    def _value(self, value: Any, path: Path, nesting: int) -> Any:
        if isinstance(value, dict):
            return self._object(value, path, nesting)
        if isinstance(value, list):
            return self._array(value, path, nesting)
        return value

    def _object(self, source: Mapping[str, Any], path: Path, nesting: int) -> dict[str, Any]:
        if len(path) >= MAX_DEPTH:
            raise _too_deep()
        claims = {
            name: self._value(value, (*path, name), nesting) if isinstance(value, _CONTAINERS) else value
            for name, value in source.items()
            if name not in _RESERVED
        }
        if len(claims) != len(source):
            for disclosure in self._opened(_object_digests(source, path), nesting):
                name, value = _read_member(disclosure)
                if name in claims:
                    raise Rejected(Reason.DISCLOSURE_INVALID, "a disclosed name is already taken")
                self.places[disclosure] = place = (*path, name)
                claims[name] = self._value(value, place, nesting + 1) if isinstance(value, _CONTAINERS) else value
        return claims

    def _array(self, source: list[Any], path: Path, nesting: int) -> list[Any]:
        if len(path) >= MAX_DEPTH:
            raise _too_deep()
        elements: list[Any] = []
        for index, element in enumerate(source):
            place = (*path, index)
            if isinstance(element, dict) and "..." in element:
                for disclosure in self._opened(_element_digest(element), nesting):
                    self.places[disclosure] = place
                    elements.append(self._value(_read_element(disclosure), place, nesting + 1))
            else:
                elements.append(self._value(element, place, nesting))
        return elements

    def _opened(self, digests: list[Any], nesting: int) -> Iterator[str]:
        for item in digests:
            if not isinstance(item, str):
                raise Rejected(Reason.MALFORMED, "a digest is not a string")
            if item in self._seen:
                # One claim in two places, or a place that two verifiers could fill differently (7.1 step 4).
                raise Rejected(Reason.DISCLOSURE_INVALID, "a digest appears twice")
            self._seen.add(item)
            disclosure = self._closed.pop(item, None)
            if disclosure is not None:
                if nesting >= MAX_NESTED_DISCLOSURES:
                    raise Rejected(Reason.TOO_LARGE, "Disclosures nested too deeply")
                yield disclosure


def _too_deep() -> Rejected:
    return Rejected(Reason.TOO_LARGE, "claims nested too deeply")


def _object_digests(source: Mapping[str, Any], path: Path) -> list[Any]:
    if "..." in source:
        raise Rejected(Reason.MALFORMED, "a digest of an array element stands outside an array")
    if path and "_sd_alg" in source:
        raise Rejected(Reason.HASH_NOT_ALLOWED, "_sd_alg below the top level")
    digests = source.get("_sd", [])
    if not isinstance(digests, list):
        raise Rejected(Reason.MALFORMED, "_sd is not an array")
    return digests


def _element_digest(element: Mapping[str, Any]) -> list[Any]:
    if len(element) != 1:
        raise Rejected(Reason.MALFORMED, "a digest of an array element has company")
    return [element["..."]]


def _read_member(disclosure: str) -> tuple[str, Any]:
    content = _read_disclosure(disclosure, 3)
    name = content[1]
    if not isinstance(name, str) or name in _RESERVED:
        raise Rejected(Reason.DISCLOSURE_INVALID, "a disclosed name is not a string, or reserved")
    return name, content[2]


def _read_element(disclosure: str) -> Any:
    return _read_disclosure(disclosure, 2)[1]


def _read_disclosure(disclosure: str, length: int) -> list[Any]:
    raw = b64url_decode(disclosure)
    try:
        content = parse_json(raw)
    except Rejected as error:
        if error.reason is Reason.MALFORMED:
            raise Rejected(Reason.DISCLOSURE_INVALID, "a Disclosure is not strict JSON") from error
        raise
    if not isinstance(content, list) or len(content) != length or not isinstance(content[0], str):
        raise Rejected(Reason.DISCLOSURE_INVALID, "a Disclosure has the wrong shape for its place")
    return content


# -- holder -----------------------------------------------------------------------------------------------------------


def select_disclosures(sd_jwt: str, select: Callable[[Path], bool]) -> str:
    """Keep the Disclosures of the claims chosen by path, and those they stand inside; an SD-JWT without key binding.

    Raises:
        Rejected: what the issuer sent is not a well-formed SD-JWT, or came with a key-binding JWT, which only a holder
            can make (section 7.2).
    """
    parts = split(sd_jwt)
    payload = _issuer_payload(parts)
    processing = _Processing(parts.disclosures, hash_algorithm(payload))
    processing.run(payload)
    chosen = [place for place in processing.places.values() if select(place)]
    kept = (
        disclosure
        for disclosure in parts.disclosures
        if any(place[: len(processing.places[disclosure])] == processing.places[disclosure] for place in chosen)
    )
    return "~".join((parts.issuer_jwt, *kept, ""))


def present(
    sd_jwt: str, select: Callable[[Path], bool], *, signer: Signer, audience: str, nonce: str, issued_at: datetime
) -> str:
    """Present the chosen claims to one audience, with proof of possession of the holder's key: an SD-JWT+KB.

    Raises:
        Rejected: see ``select_disclosures``.
    """
    selected = select_disclosures(sd_jwt, select)
    sd_hash = digest(selected, hash_algorithm(_issuer_payload(split(selected))))
    return selected + make_key_binding(sd_hash, signer=signer, audience=audience, nonce=nonce, issued_at=issued_at)


def _issuer_payload(parts: SdJwtParts) -> dict[str, Any]:
    if parts.key_binding_jwt is not None:
        raise Rejected(Reason.MALFORMED, "an issuer does not bind a holder's key")
    return parse_compact(parts.issuer_jwt, max_chars=MAX_ISSUER_JWT_CHARS).unverified_claims()


# -- issuer -----------------------------------------------------------------------------------------------------------

_MIN_SALT_CHARS: Final = 22  # 128 bits in base64url: below, a verifier could guess the claims that were kept from it


def issue(
    claims: Mapping[str, Any],
    disclosable: Collection[Path],
    *,
    salts: Iterator[str],
    signer: Signer,
    typ: str,
    decoys: int = 0,
) -> str:
    """Issue an SD-JWT whose disclosable claims are only in Disclosures (section 4.2), hashed with SHA-256.

    Args:
        claims: all claims, in clear.
        disclosable: the path of each claim or array element to hide; one may stand inside another.
        salts: fresh random strings of at least 128 bits, one for each Disclosure and each decoy.
        signer: the issuer's key.
        typ: the JWT's type.
        decoys: digests of nothing to add to every ``_sd``, where the number of claims would tell something.

    Raises:
        ValueError: a path names no claim, a claim has a reserved name, or a salt is too short.
    """
    hiding = _Hiding(frozenset(disclosable), salts, decoys)
    payload = hiding.hide(claims, ())
    if hiding.disclosures:
        payload["_sd_alg"] = HashAlgorithm.SHA_256.value
    if len(hiding.disclosures) != len(disclosable):
        raise ValueError("a disclosable path names no claim")
    return "~".join((sign_compact(typ, payload, signer), *hiding.disclosures, ""))


class _Hiding:
    """One walk over the claims of one credential, innermost first, replacing what is disclosable by its digest."""

    __slots__ = ("_decoys", "_disclosable", "_salts", "disclosures")

    def __init__(self, disclosable: frozenset[Path], salts: Iterator[str], decoys: int) -> None:
        self._disclosable = disclosable
        self._salts = salts
        self._decoys = decoys
        self.disclosures: list[str] = []

    def hide(self, source: Mapping[str, Any], path: Path) -> dict[str, Any]:
        if not _RESERVED.isdisjoint(source):
            raise ValueError("a claim has a reserved name")
        clear: dict[str, Any] = {}
        digests: list[str] = []
        for name, value in source.items():
            place = (*path, name)
            hidden = self._below(value, place)
            if place in self._disclosable:
                digests.append(self._close(name, hidden))
            else:
                clear[name] = hidden
        if digests:
            digests.extend(digest(self._salt(), HashAlgorithm.SHA_256) for _ in range(self._decoys))
            clear["_sd"] = sorted(digests)  # in the order of the claims, the digests would tell which is which
        return clear

    def _below(self, value: Any, path: Path) -> Any:
        if isinstance(value, Mapping):
            return self.hide(value, path)
        if not isinstance(value, list | tuple):
            return value
        elements: list[Any] = []
        for index, element in enumerate(value):
            place = (*path, index)
            hidden = self._below(element, place)
            elements.append({"...": self._close(hidden)} if place in self._disclosable else hidden)
        return elements

    def _close(self, *content: Any) -> str:
        disclosure = b64url_encode(write_json([self._salt(), *content]))
        self.disclosures.append(disclosure)
        return digest(disclosure, HashAlgorithm.SHA_256)

    def _salt(self) -> str:
        salt = next(self._salts)
        if len(salt) < _MIN_SALT_CHARS:
            raise ValueError("a salt is shorter than 128 bits")
        return salt
