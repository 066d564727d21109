"""The issuer: makes the credentials and assertions that other provinces recognise.

It refuses to sign what a gateway would refuse to accept (unknown type, unknown level, a level above its cap, a bad ID
number), because a citizen should learn of that at the counter that issues and not at the counter that verifies. For
the same reason it reads back what it made, with the parsers and the limits of those who verify, before it answers.

Which key signs is the key ring's business and may change between two calls. While none may sign (the last was revoked,
and the next is not held by everybody yet) nothing is issued: a credential nobody can check helps nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.clock import World
from gateway.core.agreement import Agreement, Assurance, Party, SubjectType
from gateway.core.charter import ISSUER_TYPE
from gateway.core.claims import Authentication, read_statement
from gateway.core.credential import ASSERTION_CREDENTIAL_TYPE, ASSERTION_TYPE, CREDENTIAL_TYPE
from gateway.core.encoding import b64url_encode, parse_json_object
from gateway.core.identifiers import check_entity_id
from gateway.core.jose import parse_compact, sign_compact
from gateway.core.key_binding import MAX_KEY_BINDING_JWT_CHARS, holder_key
from gateway.core.key_schedule import KeyPurpose
from gateway.core.pairwise import PairwiseKey
from gateway.core.predicates import AGE_CLAIM
from gateway.core.reasons import InvalidRequest, Rejected
from gateway.core.release import check_attributes, check_kind
from gateway.core.sd_jwt import (
    MAX_ISSUER_JWT_CHARS,
    MAX_PRESENTATION_CHARS,
    Path,
    hash_algorithm,
    issue,
    process,
    split,
)
from gateway.core.status_list import STATUS_LISTS
from gateway.keyring import KeyRing
from gateway.member import member_entity
from gateway.status_register import StatusRegister

DEFAULT_CREDENTIAL_LIFETIME: Final = timedelta(days=30)
SALT_BYTES: Final = 16  # 128 bits, RFC 9901 section 9.3
MAX_CLAIMS: Final = 40
_MAX_LOCAL_SUBJECT: Final = 256
_EVERYWHERE: Final = "recognition"
"""The sector of the subject in a credential, which is shown in many places: gateways derive each service's from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActingFor:
    """Who acts for a subject, by which right and for which matters."""

    local_subject: str
    relationship: Party
    scope: Sequence[str]
    claims: Mapping[str, Any] = field(repr=False)
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who or what a credential is about, and who acts for them, if anybody does."""

    local_subject: str
    """The issuer's own stable name for them; it appears in nothing that is issued."""
    claims: Mapping[str, Any] = field(repr=False)
    subject_type: SubjectType = SubjectType.NATURAL
    actor: ActingFor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What was issued, and until when it is good."""

    token: str
    expires_at: datetime
    credential_id: str = ""
    """By which its status is set; empty for an assertion, which has none."""


class Issuer:
    """One province's identity authority. Thread-safe."""

    def __init__(
        self,
        *,
        entity_id: str,
        keys: KeyRing,
        pairwise_key: PairwiseKey,
        former_keys: Sequence[PairwiseKey] = (),
        world: World,
        agreement: Callable[[], Agreement],
        credential_types: Sequence[str],
        register: Callable[[], StatusRegister],
    ) -> None:
        """Prepare the issuer.

        Args:
            entity_id: its entity identifier, the ``iss`` of what it signs.
            keys: those of its purposes: for credentials and assertions, for status lists, for its configuration.
            pairwise_key: secret behind pairwise subjects.
            former_keys: those before, as far as they were kept.
            world: clock and randomness.
            agreement: gives the recognition agreement in force.
            credential_types: what it issues.
            register: gives what gives each credential its place in a status list. A function, because it comes into
                being after whoever publishes this issuer's configuration.

        Raises:
            KeyStoreError: there is no key for credentials, or none for the configuration.
        """
        keys.require(KeyPurpose.CREDENTIAL)
        self._entity_id = entity_id
        self._keys = keys
        self._pairwise_key = pairwise_key
        self._former_keys = tuple(former_keys)
        self._world = world
        self._agreement = agreement
        self._types = frozenset(credential_types)
        self._register = register
        self.entity = member_entity(
            entity_id=entity_id,
            entity_type=ISSUER_TYPE,
            federation=KeyPurpose.ISSUER_FEDERATION,
            keys=keys,
            parameters=self._parameters,
        )

    def issue_credential(
        self,
        subject: Subject,
        *,
        credential_type: str,
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
            **self._common(subject, _EVERYWHERE, authentication, agreement),
            "vct": credential_type,
            "cnf": {"jwk": {name: value for name, value in holder.jwk.items() if name not in ("kid", "use")}},
            "iat": int(now.timestamp()),
            "exp": int((now + life).timestamp()),
        }
        place = self._register().allocate(
            local_subject=subject.local_subject,
            local_actor="" if subject.actor is None else subject.actor.local_subject,
            expires_at=now + life,
        )
        payload["status"] = {"status_list": {"idx": place.reference.index, "uri": place.reference.uri}}
        try:
            token = issue(
                payload,
                disclosable=_disclosable(subject),
                salts=self._salts(),
                signer=self._keys.sign_until(KeyPurpose.CREDENTIAL, now + life),
                typ=CREDENTIAL_TYPE,
            )
        except ValueError as error:
            raise InvalidRequest("claims", "holds a name that SD-JWT reserves") from error
        _check_statement(_read_credential(token), agreement, now, credential_type, agreement.max_credential_lifetime)
        return Issued(token=token, expires_at=now + life, credential_id=place.credential_id)

    def issue_assertion(
        self,
        subject: Subject,
        *,
        audience: str,
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
            **self._common(subject, audience, authentication, agreement),
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

    def _parameters(self) -> Mapping[str, Any]:
        """What the configuration says of this issuer beside its keys, whenever it is signed."""
        return {"credential_types": sorted(self._types), STATUS_LISTS: list(self._register().metadata())}

    def subjects(self, local_subject: str, audience: str) -> Sequence[str]:
        """Give the subjects by which a person is known in what was signed here.

        Those by former keys are among them as long as these were kept.

        Args:
            local_subject: the person, by the identity authority's own name.
            audience: of assertions to it; empty: of credentials.
        """
        sector = audience or _EVERYWHERE
        return [key.subject(sector, local_subject) for key in (self._pairwise_key, *self._former_keys)]

    def _common(
        self, subject: Subject, sector: str, authentication: Authentication, agreement: Agreement
    ) -> dict[str, Any]:
        _check_claims("claims", subject.claims, subject.subject_type)
        assurance = self._assurance(authentication, agreement)
        return {
            "iss": self._entity_id,
            **self._pseudonym(subject.local_subject, sector),
            "sub_type": subject.subject_type.value,
            **({} if subject.actor is None else {"act": self._act(subject.actor, sector)}),
            "acr": authentication.acr,
            "amr": list(authentication.methods),
            "auth_time": int(authentication.authenticated_at.timestamp()),
            "assurance": {"ial": assurance.identity, "aal": assurance.authenticator, "fal": assurance.federation},
            "verified_claims": {
                "verification": {"trust_framework": min(agreement.trust_frameworks)},
                "claims": dict(subject.claims),
            },
        }

    def _act(self, actor: ActingFor, sector: str) -> dict[str, Any]:
        _check_claims("actor.claims", actor.claims, SubjectType.NATURAL)
        act: dict[str, Any] = {
            **self._pseudonym(actor.local_subject, sector),
            "relationship": actor.relationship.value,
            "scope": sorted(set(actor.scope)),
            "claims": dict(actor.claims),
        }
        if actor.expires_at is not None:
            act["exp"] = int(actor.expires_at.timestamp())
        return act

    def _pseudonym(self, local_subject: str, sector: str) -> dict[str, str]:
        if not 1 <= len(local_subject) <= _MAX_LOCAL_SUBJECT:
            raise InvalidRequest("local_subject", "must be 1 to 256 characters")
        previous = self._pairwise_key.previous_subject(self._world.now(), sector, local_subject)
        subject = {"sub": self._pairwise_key.subject(sector, local_subject)}
        return {**subject, "previous_sub": previous} if previous else subject

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


def _check_claims(field_name: str, claims: Mapping[str, Any], subject_type: SubjectType) -> None:
    if len(claims) > MAX_CLAIMS:
        raise InvalidRequest(field_name, f"must be at most {MAX_CLAIMS} attributes")
    try:
        check_attributes(claims)
        check_kind(claims, subject_type)
    except Rejected as rejection:
        raise InvalidRequest(field_name, rejection.detail) from rejection


def _disclosable(subject: Subject) -> list[Path]:
    """Every attribute by itself, and of the ages each: who shows one is not to show all."""
    paths: list[Path] = []
    for name, value in subject.claims.items():
        place = ("verified_claims", "claims", name)
        paths += [(*place, age) for age in value] if name == AGE_CLAIM and isinstance(value, dict) else [place]
    if subject.actor is not None:
        paths += [("act", "claims", name) for name in subject.actor.claims]
    return paths


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
