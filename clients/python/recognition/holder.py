"""What a holder's wallet does: choose what to disclose, and prove that one holds the key (RFC 9901).

For tests, demonstrations and makers of wallets; a service that verifies needs none of it. It shares no code with the
gateway. ::

    credential = Credential(text)
    presentation = credential.present(key, challenge.audience, challenge.nonce, disclose={"name", "hukou_region"})

What is read here is the holder's own, so little is checked: the gateway does that. Nothing of gRPC is imported; install
``recognition-client[holder]``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_HASHES: Final = {"sha-256": hashlib.sha256, "sha-384": hashlib.sha384, "sha-512": hashlib.sha512}
_COORDINATE_BYTES: Final = 32
_MAX_DEPTH: Final = 16


class HolderKey:
    """A private ES256 key. Its ``repr`` tells nothing of it."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Take a key of P-256.

        Raises:
            ValueError: it is of another curve.
        """
        if not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("not a key of P-256")  # noqa: TRY004 - a key's fault, not the program's
        self._key = key

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> HolderKey:
        """Read a private JWK.

        Raises:
            ValueError: it is no private key of P-256.
        """
        if jwk.get("kty") != "EC" or jwk.get("crv") != "P-256" or not isinstance(jwk.get("d"), str):
            raise ValueError("not a private JWK of P-256")
        return cls(ec.derive_private_key(int.from_bytes(_decode(jwk["d"]), "big"), ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> HolderKey:
        """Read a PKCS #8 file, such as ``mrg issue`` makes.

        Raises:
            ValueError: it is no private key of P-256.
        """
        key = load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not a key of P-256")  # noqa: TRY004 - a file's fault, not the program's
        return cls(key)

    def sign(self, text: str) -> str:
        """Sign as ES256 (RFC 7518): the two numbers side by side, in base64url."""
        r, s = decode_dss_signature(self._key.sign(text.encode("ascii"), ec.ECDSA(SHA256())))
        return _encode(r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big"))


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One claim that the holder may show or keep back."""

    path: str
    """Where it stands: ``name``, ``actor.name``, ``nationalities.0``."""
    value: Any = field(repr=False)
    text: str = field(repr=False)
    """What is handed over to show it."""
    within: tuple[str, ...]
    """Paths of the disclosures that it stands inside, which are shown with it."""


class Credential:
    """An SD-JWT VC as its issuer gave it out. Its ``repr`` tells nothing of it."""

    def __init__(self, text: str) -> None:
        """Read it.

        Raises:
            ValueError: it is no SD-JWT as an issuer makes it, without key binding.
        """
        issuer_jwt, *disclosures, end = text.strip().split("~")
        if end or issuer_jwt.count(".") != 2:  # noqa: PLR2004 - header, payload, signature
            raise ValueError("not an SD-JWT as an issuer gives it out")
        payload = json.loads(_decode(issuer_jwt.split(".")[1]))
        self._issuer_jwt = issuer_jwt
        self._hash = _HASHES[payload.get("_sd_alg", "sha-256")]
        by_digest = {self._digest(each): each for each in disclosures}
        self.disclosures: Sequence[Disclosure] = tuple(_find(payload, by_digest, (), ()))
        """What the holder may show, in no particular order."""

    def present(
        self,
        key: HolderKey,
        audience: str,
        nonce: str,
        *,
        disclose: Collection[str] | None = None,
        issued_at: datetime | None = None,
    ) -> str:
        """Answer a challenge.

        Args:
            key: the holder's.
            audience: the challenge's.
            nonce: the challenge's.
            disclose: the claims to show: names, or paths or ends of paths where two share a name; None: all.
            issued_at: when; None: now.

        Returns:
            The presentation, an SD-JWT with key binding.

        Raises:
            ValueError: one names nothing that could be disclosed, or more than one thing.
        """
        shown = self._issuer_jwt + "~" + "".join(each.text + "~" for each in self._chosen(disclose))
        claims = {
            "iat": int((issued_at or datetime.now(UTC)).timestamp()),
            "aud": audience,
            "nonce": nonce,
            "sd_hash": self._digest(shown),
        }
        signed = f"{_encode_json({'alg': 'ES256', 'typ': 'kb+jwt'})}.{_encode_json(claims)}"
        return f"{shown}{signed}.{key.sign(signed)}"

    def _chosen(self, disclose: Collection[str] | None) -> list[Disclosure]:
        if disclose is None:
            return list(self.disclosures)
        wanted: set[str] = set()
        for name in disclose:
            found = [each for each in self.disclosures if f".{each.path}".endswith(f".{name}")]
            found = [each for each in found if each.path == name] or found
            if len(found) != 1:
                raise ValueError(f"{name} names {'more than one claim' if found else 'nothing to be disclosed'}")
            wanted.update((found[0].path, *found[0].within))
        return [each for each in self.disclosures if each.path in wanted]

    def _digest(self, text: str) -> str:
        # Over the characters as they stand (section 4.2.3), never over what they decode to.
        return _encode(self._hash(text.encode("ascii")).digest())


def _find(
    value: Any, by_digest: Mapping[str, str], path: tuple[str, ...], within: tuple[str, ...]
) -> Iterator[Disclosure]:
    """Walk through claims, opening what is disclosed in the place of its digest."""
    if len(path) > _MAX_DEPTH:
        raise ValueError("the claims are nested too deeply")
    if isinstance(value, dict):
        for digest in value.get("_sd", ()):
            if digest in by_digest:
                _, name, content = json.loads(_decode(by_digest[digest]))
                yield from _open(by_digest, digest, content, (*path, name), within)
        for name, each in value.items():
            if name != "_sd":
                yield from _find(each, by_digest, (*path, name), within)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _find_element(each, by_digest, (*path, str(place)), within)


def _find_element(
    element: Any, by_digest: Mapping[str, str], path: tuple[str, ...], within: tuple[str, ...]
) -> Iterator[Disclosure]:
    if not isinstance(element, dict) or element.keys() != {"..."}:
        yield from _find(element, by_digest, path, within)
    elif element["..."] in by_digest:
        _, content = json.loads(_decode(by_digest[element["..."]]))
        yield from _open(by_digest, element["..."], content, path, within)


def _open(
    by_digest: Mapping[str, str], digest: str, value: Any, path: tuple[str, ...], within: tuple[str, ...]
) -> Iterator[Disclosure]:
    name = ".".join(path)
    yield Disclosure(name, value, by_digest[digest], within)
    yield from _find(value, by_digest, path, (*within, name))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _encode_json(value: Mapping[str, Any]) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode("utf-8"))


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
