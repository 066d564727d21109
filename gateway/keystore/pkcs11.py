"""Keys in a PKCS#11 token: generated there, used there, never anywhere else.

In the token a key pair has its role as label (``CKA_LABEL``) and the 32 bytes of its thumbprint as identifier
(``CKA_ID``). Objects with other labels are not ours and are left alone, so a token can be shared; two provinces, or two
gateways with keys of their own, cannot share one. Keys are P-256, for ES256.

A private key is used only when the token says that it is sensitive, was never extractable, and was generated inside: a
key that was imported may have a copy anywhere. What the token's public half says is not believed: the point is imported
like any foreign key, the identifier must be its thumbprint, and a signature is made and verified whenever a key is
looked up, at the start and in every new session.

A key pair being made has a label of its own until it is complete; a process that is killed leaves a pair that nobody
uses. What leaves this process for the token is the SHA-256 digest of what is signed, never what is in a credential; a
token that insists on hashing by itself gets the message.

The folder beside the token holds the secrets. Key files in it still sign, so that a province can move to a token by
rotating its keys, role by role; new keys are always made in the token.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self, get_args

from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass
from pkcs11.exceptions import AttributeReadOnly, PKCS11Error
from pkcs11.mechanisms import Mechanism

from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.core.jose import Algorithm, Header, PublicKey, Signer, UnverifiedJws, import_jwk, verify_signature
from gateway.core.reasons import Rejected, Unavailable
from gateway.keystore import MAX_KEYS, KeyRole, KeyStoreError, Kind, Protection, SecretName, sole_signer
from gateway.keystore.file import FileKeyStore
from gateway.keystore.token import Opened, Token

_ROLES: Final[tuple[KeyRole, ...]] = get_args(KeyRole)
_P256: Final = bytes.fromhex("06082a8648ce3d030107")  # the curve's object identifier, prime256v1, as DER
_POINT: Final = b"\x04"  # uncompressed: two coordinates follow
_COORDINATE_BYTES: Final = 32
_WRAPPED: Final = bytes((0x04, 1 + 2 * _COORDINATE_BYTES))  # a DER OCTET STRING of that length
_UNFINISHED: Final = ".unfinished"
# No JWS begins like this: what is signed to try a key out must not be of use to anybody.
_PROBE: Final = b"mutual-recognition-gateway: is this the key?"
_MUST_BE: Final = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
    Attribute.LOCAL: True,
    Attribute.SIGN: True,
}


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A signer whose key is in a token."""

    public: PublicKey
    role: KeyRole
    _token: Token

    def sign(self, message: bytes) -> bytes:
        """Have the token sign.

        Raises:
            Unavailable: the token is not to be had now.
        """
        try:
            return self._token.use(lambda opened: _sign(opened, _private(opened, self), message))
        except KeyStoreError as error:
            raise Unavailable("the token that holds the signing key does not sign") from error


class Pkcs11KeyStore:
    """The keys of one token, and the files beside it."""

    def __init__(self, files: FileKeyStore, token: Token, keys: Mapping[KeyRole, Mapping[str, TokenKey]]) -> None:
        self._files = files
        self._token = token
        self._keys = dict(keys)
        self._adding = threading.Lock()

    @classmethod
    def open(cls, files: FileKeyStore, token: Token) -> Self:
        """Look up all keys and try each of them out.

        Raises:
            KeyStoreError: the token is not there or refuses the PIN, or a key is not what it should be.
        """
        keys = token.use(lambda opened: _load(opened, token))
        holders: dict[str, KeyRole] = {}
        for role in _ROLES:
            for kid in (*keys[role], *files.keys(role)):
                other = holders.setdefault(kid, role)
                if other != role:
                    fix = "give each role a key of its own"
                    raise token.problem(f"has one key, {kid}, for {other} and {role}", fix)
        return cls(files, token, keys)

    @classmethod
    def create(cls, files: FileKeyStore, token: Token) -> Self:
        """Make a key for every role that has none yet.

        Raises:
            KeyStoreError: as ``open`` and ``generate``.
        """
        store = cls.open(files, token)
        for role in _ROLES:
            if not store.keys(role):
                store.generate(role)
        return store

    @property
    def kind(self) -> Kind:
        """New keys are made in the token."""
        return "pkcs11"

    @property
    def protection(self) -> Protection:
        """The token, unless a key is still in a file."""
        return self._files.protection if any(self._files.keys(role) for role in _ROLES) else "token"

    def keys(self, role: KeyRole) -> Mapping[str, Signer]:
        """All keys of a role by ``kid``."""
        return MappingProxyType({**self._files.keys(role), **self._keys[role]})

    def signer(self, role: KeyRole, kid: str) -> Signer:
        """Give one key of a role.

        Raises:
            KeyStoreError: the token has it not.
        """
        found = self.keys(role).get(kid)
        if found is None:
            raise self._token.problem(f"has no key {role} {kid}", "restore the token from its maker's backup")
        return found

    def sole(self, role: KeyRole) -> Signer:
        """Give the one key of a role that has one.

        Raises:
            KeyStoreError: it has none, or several.
        """
        return sole_signer(str(self._token), role, self.keys(role))

    def generate(self, role: KeyRole, algorithm: Algorithm = Algorithm.ES256) -> Signer:
        """Have the token make another key for a role.

        Raises:
            KeyStoreError: it cannot, or the algorithm is another than ES256.
        """
        if algorithm is not Algorithm.ES256:
            raise self._token.problem(f"makes no keys for {algorithm}", f"ask for {Algorithm.ES256}")
        with self._adding:
            if sum(map(len, self._keys.values())) >= MAX_KEYS:
                raise self._token.problem(f"holds {MAX_KEYS} keys", "delete those that are retired")
            key = self._token.use(lambda opened: _generate(opened, self._token, role))
            self._keys[role] = {**self._keys[role], key.public.kid: key}
            return key

    def versions(self, name: SecretName) -> Collection[int]:
        """Give the versions of a secret that are held."""
        return self._files.versions(name)

    def secret(self, name: SecretName, version: int = 1) -> bytes:
        """Give a secret of 32 bytes.

        Raises:
            KeyStoreError: the folder has not this version of it.
        """
        return self._files.secret(name, version)

    def close(self) -> None:
        """Log out of the token."""
        self._token.close()


# -- in the token; each of these runs while nobody else uses it -------------------------------------------------------


def _load(opened: Opened, token: Token) -> dict[KeyRole, dict[str, TokenKey]]:
    keys: dict[KeyRole, dict[str, TokenKey]] = {}
    for role in _ROLES:
        keys[role] = {}
        for private in _objects(opened, token, ObjectClass.PRIVATE_KEY, role):
            key = _key(opened, token, role, private)
            keys[role][key.public.kid] = key
    return keys


def _objects(opened: Opened, token: Token, kind: ObjectClass, label: str, identifier: bytes | None = None) -> list[Any]:
    template: dict[Attribute, Any] = {Attribute.CLASS: kind, Attribute.LABEL: label}
    if identifier is not None:
        template[Attribute.ID] = identifier
    found = []
    for each in opened.session.get_objects(template):
        found.append(each)
        if len(found) > MAX_KEYS:
            raise token.problem(f"holds more than {MAX_KEYS} keys {label}", "delete those that are retired")
    return found


def _key(opened: Opened, token: Token, role: KeyRole, private: Any) -> TokenKey:
    """Check a private key, find its public half, and see that they belong together."""
    identifier = _attribute(private, Attribute.ID) or b""
    named = f"key {role} {identifier.hex()}"
    fix = "delete it in the token, and have a new one made"
    for attribute, value in _MUST_BE.items():
        if _attribute(private, attribute) is not value:
            raise token.problem(f"{named}: CKA_{attribute.name} is not {value}", fix)
    publics = _objects(opened, token, ObjectClass.PUBLIC_KEY, role, identifier)
    if len(publics) != 1:
        raise token.problem(f"{named}: has {len(publics)} public keys of its label and identifier", fix)
    try:
        public = _public(publics[0])
    except Rejected as error:
        raise token.problem(f"{named}: {error.detail}", fix) from error
    if identifier != b64url_decode(public.thumbprint):
        raise token.problem(f"{named}: its CKA_ID is not its thumbprint", fix)
    key = TokenKey(public, role, token)
    _try_out(opened, key, private)
    return key


def _private(opened: Opened, key: TokenKey) -> Any:
    """The private key's handle in this session, tried out when it is new."""
    kid, token = key.public.kid, key._token  # noqa: SLF001 - own type
    if kid not in opened.found:
        found = _objects(opened, token, ObjectClass.PRIVATE_KEY, key.role, b64url_decode(kid))
        if len(found) != 1:
            raise token.problem(f"has {len(found)} keys {key.role} {kid}", "restore the token from its maker's backup")
        _try_out(opened, key, found[0])
    return opened.found[kid]


def _try_out(opened: Opened, key: TokenKey, private: Any) -> None:
    signature = _sign(opened, private, _PROBE)
    try:
        verify_signature(UnverifiedJws(Header(key.public.algorithm, None, None), b"", _PROBE, signature), key.public)
    except Rejected as error:
        problem = f"key {key.role} {key.public.kid}: what it signs does not verify"
        raise key._token.problem(problem, "do not use this token; have it examined") from error  # noqa: SLF001
    opened.found[key.public.kid] = private


def _sign(opened: Opened, private: Any, message: bytes) -> bytes:
    """Sign over SHA-256; R||S, which is PKCS#11's own form too."""
    if Mechanism.ECDSA in opened.mechanisms:
        digest = hashlib.sha256(message).digest()
        return bytes(private.sign(digest, mechanism=Mechanism.ECDSA))
    return bytes(private.sign(message, mechanism=Mechanism.ECDSA_SHA256))


def _generate(opened: Opened, token: Token, role: KeyRole) -> TokenKey:
    # A session that may write; logged in, as all sessions of the process are.
    session = opened.token.open(rw=True)
    try:
        parameters = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: _P256}, local=True)
        public_half, private = parameters.generate_keypair(
            store=True,
            label=f"{role}{_UNFINISHED}",
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            public_template={Attribute.PRIVATE: False},
            private_template={
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.DERIVE: False,
            },
        )
        identifier = b64url_decode(_public(public_half).thumbprint)
        # The private key's label comes last: with it the key is there.
        for half in (public_half, private):
            half[Attribute.ID] = identifier
            half[Attribute.LABEL] = role
    except Rejected as error:
        raise token.problem(f"made an unusable key ({error.detail})", "use another token") from error
    except AttributeReadOnly as error:
        raise token.problem(
            "does not let a new key be named", "use a token that can set CKA_ID and CKA_LABEL"
        ) from error
    finally:
        session.close()
    made = _objects(opened, token, ObjectClass.PRIVATE_KEY, role, identifier)
    if len(made) != 1:
        raise token.problem("does not hold the key it has just made", "do not use this token; have it examined")
    return _key(opened, token, role, made[0])


def _public(half: Any) -> PublicKey:
    """Read a public key from the token, trusting it as little as one from anywhere else.

    Raises:
        Rejected: KEY_NOT_ACCEPTABLE, or MALFORMED when it is no point of the right length.
    """
    point = _attribute(half, Attribute.EC_POINT) or b""
    # A DER OCTET STRING by the standard; some tokens give what is in it.
    point = point.removeprefix(_WRAPPED) if len(point) == len(_WRAPPED) + _WRAPPED[1] else point
    x, y = point[1 : 1 + _COORDINATE_BYTES], point[1 + _COORDINATE_BYTES :]
    curve = "P-256" if _attribute(half, Attribute.EC_PARAMS) == _P256 and point[:1] == _POINT else "of another kind"
    return import_jwk({"kty": "EC", "crv": curve, "x": b64url_encode(x), "y": b64url_encode(y)})


def _attribute(item: Any, attribute: Attribute) -> Any:
    """One attribute; None where the token has it not or does not show it."""
    try:
        return item[attribute]
    except (PKCS11Error, KeyError):
        return None
