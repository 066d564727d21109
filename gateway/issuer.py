"""The issuer: makes the credentials and assertions that other provinces recognise.

It refuses to sign what a gateway would refuse to accept (unknown type, unknown level, a level above its cap, a bad ID
number), because a citizen should learn of that at the counter that issues and not at the counter that verifies. For
the same reason it reads back what it made, with the parsers and the limits of those who verify, before it answers.

Which key signs is the key ring's business and may change between two calls. While none may sign (the last was revoked,
and the next is not held by everybody yet) nothing is issued: a credential nobody can check helps nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.clock import World
from gateway.core.agreement import Agreement, Assurance
from gateway.core.charter import ISSUER_TYPE
from gateway.core.claims import Authentication, read_statement
from gateway.core.credential import (
    ASSERTION_CREDENTIAL_TYPE,
    ASSERTION_TYPE,
    CREDENTIAL_TYPE,
    check_attributes,
)
from gateway.core.encoding import b64url_encode, keyed_digest, parse_json_object
from gateway.core.identifiers import check_entity_id
from gateway.core.jose import PublicKey, parse_compact, sign_compact
from gateway.core.key_binding import MAX_KEY_BINDING_JWT_CHARS, holder_key
from gateway.core.key_schedule import KeyPurpose
from gateway.core.publication import KEY_PROOFS, key_proof
from gateway.core.reasons import InvalidRequest, Rejected
from gateway.core.sd_jwt import MAX_ISSUER_JWT_CHARS, MAX_PRESENTATION_CHARS, hash_algorithm, issue, process, split
from gateway.core.status_list import STATUS_LISTS
from gateway.entity import Entity
from gateway.keyring import KeyRing
from gateway.status_register import StatusRegister

PURPOSES: Final = (KeyPurpose.CREDENTIAL, KeyPurpose.STATUS, KeyPurpose.ISSUER_FEDERATION)
CONFIGURATION_LIFETIME: Final = timedelta(hours=1)
DEFAULT_CREDENTIAL_LIFETIME: Final = timedelta(days=30)
SALT_BYTES: Final = 16  # 128 bits, RFC 9901 section 9.3
MAX_CLAIMS: Final = 40
_MAX_LOCAL_SUBJECT: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What was issued, and until when it is good."""

    token: str
    expires_at: datetime
    credential_id: str = ""
    """By which its status is set; empty: it has none."""


class Issuer:
    """One province's identity authority. Thread-safe."""

    def __init__(
        self,
        *,
        entity_id: str,
        keys: KeyRing,
        subject_key: bytes,
        world: World,
        agreement: Callable[[], Agreement],
        credential_types: Sequence[str],
        register: StatusRegister | None = None,
    ) -> None:
        """Prepare the issuer.

        Args:
            entity_id: its entity identifier, the ``iss`` of what it signs.
            keys: those of its purposes: for credentials and assertions, for status lists, for its configuration.
            subject_key: secret behind pairwise subjects; 32 bytes.
            world: clock and randomness.
            agreement: gives the recognition agreement in force.
            credential_types: what it issues.
            register: gives each credential its place in a status list; None: credentials have no status.

        Raises:
            KeyStoreError: there is no key for credentials, or none for the configuration.
        """
        keys.require(KeyPurpose.CREDENTIAL)
        keys.require(KeyPurpose.ISSUER_FEDERATION)
        self._entity_id = entity_id
        self._keys = keys
        self._proofs: dict[str, str] = {}
        self._subject_key = subject_key
        self._world = world
        self._agreement = agreement
        self._types = frozenset(credential_types)
        self._register = register
        self.entity = Entity(
            entity_id=entity_id,
            signer=lambda: keys.signer(KeyPurpose.ISSUER_FEDERATION),
            federation_keys=lambda: keys.published(KeyPurpose.ISSUER_FEDERATION),
            metadata=self._metadata,
            lifetime=CONFIGURATION_LIFETIME,
            revocations=lambda: keys.revocations(*PURPOSES),
            history=lambda: keys.records(*PURPOSES),
        )

    def issue_credential(
        self,
        *,
        local_subject: str,
        credential_type: str,
        claims: Mapping[str, Any],
        holder_jwk: str,
        authentication: Authentication,
        lifetime: timedelta | None,
    ) -> Issued:
        """Issue an identity credential: SD-JWT VC, every attribute selectively disclosable.

        Raises:
            InvalidRequest: what was asked for would not be recognised.
            Unavailable: no key may sign now.
        """
        agreement = self._agreement()
        life = DEFAULT_CREDENTIAL_LIFETIME if lifetime is None else lifetime
        if credential_type not in self._types or credential_type == ASSERTION_CREDENTIAL_TYPE:
            raise InvalidRequest("credential_type", "is not a type that this issuer issues")
        _check_lifetime(life, agreement.max_credential_lifetime)
        try:
            holder = holder_key({"jwk": parse_json_object(holder_jwk.encode("utf-8"))})
        except (Rejected, UnicodeEncodeError) as error:
            raise InvalidRequest("holder_jwk", "is not a public key that a holder may use") from error
        now = self._world.now()
        payload = {
            # One subject per credential type, so that a credential by itself links nothing beyond its own kind.
            **self._common(local_subject, f"credential:{credential_type}", claims, authentication, agreement),
            "vct": credential_type,
            "cnf": {"jwk": {name: value for name, value in holder.jwk.items() if name not in ("kid", "use")}},
            "iat": int(now.timestamp()),
            "exp": int((now + life).timestamp()),
        }
        credential_id = self._give_place(payload, local_subject, now + life)
        try:
            token = issue(
                payload,
                disclosable=[("verified_claims", "claims", name) for name in claims],
                salts=self._salts(),
                signer=self._keys.sign_until(KeyPurpose.CREDENTIAL, now + life),
                typ=CREDENTIAL_TYPE,
            )
        except ValueError as error:
            raise InvalidRequest("claims", "holds a name that SD-JWT reserves") from error
        _check_statement(_read_credential(token), agreement, now, credential_type, agreement.max_credential_lifetime)
        return Issued(token=token, expires_at=now + life, credential_id=credential_id)

    def _give_place(self, payload: dict[str, Any], local_subject: str, expires_at: datetime) -> str:
        """Give a credential its place in a status list, and a name by which its status is set."""
        if self._register is None:
            return ""
        given = self._register.allocate(local_subject=local_subject, expires_at=expires_at)
        payload["status"] = {"status_list": {"idx": given.reference.index, "uri": given.reference.uri}}
        return given.credential_id

    def issue_assertion(
        self,
        *,
        local_subject: str,
        audience: str,
        claims: Mapping[str, Any],
        authentication: Authentication,
        certificate_sha256: str,
        lifetime: timedelta | None,
    ) -> Issued:
        """Issue an identity assertion: a JWT for one audience, good once, for minutes.

        Raises:
            InvalidRequest: what was asked for would not be recognised.
            Unavailable: no key may sign now.
        """
        agreement = self._agreement()
        life = agreement.max_assertion_lifetime if lifetime is None else lifetime
        _check_lifetime(life, agreement.max_assertion_lifetime)
        _check_audience(audience)
        now = self._world.now()
        payload = {
            **self._common(local_subject, audience, claims, authentication, agreement),
            "aud": audience,
            "jti": b64url_encode(self._world.random_bytes(16)),
            "iat": int(now.timestamp()),
            "exp": int((now + life).timestamp()),
        }
        if certificate_sha256:
            payload["cnf"] = {"x5t#S256": certificate_sha256}
        token = sign_compact(ASSERTION_TYPE, payload, self._keys.sign_until(KeyPurpose.CREDENTIAL, now + life))
        longest = agreement.max_assertion_lifetime
        _check_statement(_read_assertion(token), agreement, now, ASSERTION_CREDENTIAL_TYPE, longest)
        return Issued(token=token, expires_at=now + life)

    def _metadata(self) -> Mapping[str, Mapping[str, Any]]:
        """What the configuration says of this issuer: made from the keys there are, whenever it is signed."""
        credential = self._keys.published(KeyPurpose.CREDENTIAL)
        status = self._keys.published(KeyPurpose.STATUS)
        metadata: dict[str, Any] = {"credential_types": sorted(self._types)}
        # An empty set is no JWK Set; a member with no key to show leaves the name out.
        if credential:
            metadata["jwks"] = _jwks(credential)
        if status:
            metadata["status_jwks"] = _jwks(status)
        if self._register is not None:
            metadata[STATUS_LISTS] = list(self._register.metadata())
        metadata[KEY_PROOFS] = self._key_proofs()
        return {ISSUER_TYPE: metadata}

    def _key_proofs(self) -> Mapping[str, str]:
        # A proof says the same for as long as the key lives, and would look new each time it is signed: made once.
        signers = [
            signer
            for purpose in (KeyPurpose.CREDENTIAL, KeyPurpose.STATUS)
            for signer in self._keys.proof_signers(purpose)
        ]
        for signer in signers:
            if signer.public.kid not in self._proofs:
                self._proofs[signer.public.kid] = key_proof(self._entity_id, signer)
        return {signer.public.kid: self._proofs[signer.public.kid] for signer in signers}

    def _common(
        self,
        local_subject: str,
        sector: str,
        claims: Mapping[str, Any],
        authentication: Authentication,
        agreement: Agreement,
    ) -> dict[str, Any]:
        if not 1 <= len(local_subject) <= _MAX_LOCAL_SUBJECT:
            raise InvalidRequest("local_subject", "must be 1 to 256 characters")
        if len(claims) > MAX_CLAIMS:
            raise InvalidRequest("claims", f"must be at most {MAX_CLAIMS} attributes")
        try:
            check_attributes(claims)
        except Rejected as rejection:
            raise InvalidRequest("claims", rejection.detail) from rejection
        assurance = self._assurance(authentication, agreement)
        return {
            "iss": self._entity_id,
            "sub": f"v1.{keyed_digest(self._subject_key, sector, local_subject)}",
            "acr": authentication.acr,
            "amr": list(authentication.methods),
            "auth_time": int(authentication.authenticated_at.timestamp()),
            "assurance": {"ial": assurance.identity, "aal": assurance.authenticator, "fal": assurance.federation},
            "verified_claims": {
                "verification": {"trust_framework": min(agreement.trust_frameworks)},
                "claims": dict(claims),
            },
        }

    def _assurance(self, authentication: Authentication, agreement: Agreement) -> Assurance:
        terms = agreement.issuers.get(self._entity_id)
        levels = terms.equivalence.get(authentication.acr) if terms is not None else None
        if terms is None or levels is None:
            raise InvalidRequest("authentication.acr", "is not a level the agreement knows for this issuer")
        if authentication.authenticated_at > self._world.now() + agreement.clock_skew:
            raise InvalidRequest("authentication.authentication_time", "lies in the future")
        asserted = authentication.assurance or levels
        if not levels.meets(asserted) or not terms.cap.meets(asserted):
            raise InvalidRequest("authentication.assurance", "is above what the level stands for")
        return asserted

    def _salts(self) -> Iterator[str]:
        while True:
            yield b64url_encode(self._world.random_bytes(SALT_BYTES))


def _jwks(keys: Sequence[PublicKey]) -> dict[str, Any]:
    return {"keys": [dict(key.jwk) for key in keys]}


def _check_lifetime(lifetime: timedelta, longest: timedelta) -> None:
    if not timedelta(seconds=1) <= lifetime <= longest:
        raise InvalidRequest("lifetime", f"must be 1 second to {int(longest.total_seconds())} seconds")


def _check_audience(audience: str) -> None:
    try:
        check_entity_id(audience)
    except ValueError as error:
        raise InvalidRequest("audience", str(error)) from error
    if audience.endswith("/"):
        # Identifiers are compared character by character, and the configuration admits none that ends so.
        raise InvalidRequest("audience", "must not end with a slash")


# -- reading back -----------------------------------------------------------------------------------------------------


def _read_credential(token: str) -> Mapping[str, Any]:
    # The holder may present all there is, and adds a proof.
    if len(token) + MAX_KEY_BINDING_JWT_CHARS > MAX_PRESENTATION_CHARS:
        raise InvalidRequest("claims", "would make a credential too large to present")
    try:
        parts = split(token)
        signed = parse_compact(parts.issuer_jwt, max_chars=MAX_ISSUER_JWT_CHARS).unverified_claims()
        process(signed, parts.disclosures, hash_algorithm(signed))
    except Rejected as rejection:
        raise _not_recognisable("claims", rejection) from rejection
    return signed


def _read_assertion(token: str) -> Mapping[str, Any]:
    try:
        return parse_compact(token, max_chars=MAX_ISSUER_JWT_CHARS).unverified_claims()
    except Rejected as rejection:
        raise _not_recognisable("claims", rejection) from rejection


def _check_statement(
    signed: Mapping[str, Any], agreement: Agreement, now: datetime, credential_type: str, max_lifetime: timedelta
) -> None:
    try:
        read_statement(signed, agreement, now, credential_type=credential_type, max_lifetime=max_lifetime)
    except Rejected as rejection:
        # Of what it reads, only the authentication is the caller's own words.
        raise _not_recognisable("authentication", rejection) from rejection


def _not_recognisable(field: str, rejection: Rejected) -> InvalidRequest:
    return InvalidRequest(field, f"would not be recognised: {rejection.detail}")
