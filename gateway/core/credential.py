"""The verdict on one presentation (steps 2 to 9 of ``verifier``), and what is in a credential of ours.

Two profiles, one pipeline:

* **Identity credential**: SD-JWT VC (RFC 9901, draft-ietf-oauth-sd-jwt-vc), held by the person for months, attributes
  disclosed selectively, with the holder's proof of possession.
* **Identity assertion**: a signed JWT made for one audience, good once and for minutes.

Everything the gateway decides by stands in clear in what the issuer signed; only attributes may hide in Disclosures.
Security-critical claims that a presenter could leave out are none (RFC 9901 section 9.7). Only names under
``verified_claims.claims`` become attributes: what an issuer merely repeats elsewhere is not verified.

A pure function of (presentation, request, trust view, now). The first failed check decides, and later steps are never
reached: no policy verdict about a forged credential, no status look-up for one that has expired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from gateway.core.agreement import Agreement, Assurance, IssuerTerms, Matter
from gateway.core.challenge import check_nonce
from gateway.core.claims import Statement, read_statement
from gateway.core.identifiers import IdType, ResidentId, parse_division_code, parse_resident_id, parse_uscc
from gateway.core.jose import PublicKey, UnverifiedJws, parse_compact, verify_signature
from gateway.core.key_binding import Transaction, holder_key, verify_key_binding
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.sd_jwt import MAX_ISSUER_JWT_CHARS, SdJwtParts, digest, hash_algorithm, process, split
from gateway.core.trust import RecognisedIssuer, TrustedKey, TrustView

CREDENTIAL_TYPE: Final = "dc+sd-jwt"
"""``typ`` of an identity credential; the older vc+sd-jwt is not accepted."""
ASSERTION_TYPE: Final = "identity-assertion+jwt"
"""``typ`` of an identity assertion."""
ASSERTION_CREDENTIAL_TYPE: Final = "urn:yrd:assertion:identity:1"
"""What stands for ``vct`` where assertions are authorised and accepted."""

# Never in a Disclosure, nor anything inside them (SD-JWT VC section 2.2.2.2; aud by RFC 9901 section 9.7). The other
# claims we decide by must be in clear because they are read before Disclosures are.
_NEVER_DISCLOSED: Final = ("iss", "nbf", "exp", "cnf", "vct", "vct#integrity", "aka_vcts", "status", "aud")
_ABSENT: Final = object()
_NOTHING: Final[tuple[object, ...]] = (None, "", [], {})
"""Values that state nothing: a parent whose children were all kept back counts as missing, not as given."""
_JTI: Final = re.compile(r"[A-Za-z0-9._~-]{16,128}")
_SHA256: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_UNBOUND_FEDERATION: Final = 2
"""The highest federation level of a hand-over that proves no possession (NIST SP 800-63C: FAL3 is holder of key)."""


class Profile(StrEnum):
    """Which of the two was presented; the value is the ``typ`` it must have."""

    CREDENTIAL = CREDENTIAL_TYPE
    ASSERTION = ASSERTION_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentationRequest:
    """A presentation, and for whom and what it is to be judged."""

    presentation: str
    matter: Matter
    service: str
    """Identifier of the relying service: the audience of a key-binding proof."""
    gateway: str
    """Entity identifier of this gateway: the other audience an assertion may have."""
    nonce: str
    """The challenge that a credential answers; empty when none was given, as for an assertion."""
    nonce_key: bytes
    certificate_sha256: str
    """Base64url SHA-256 of the caller's TLS certificate; empty when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayKey:
    """What this presentation uses up. Never the text or its signature: both have a second valid spelling (n - s)."""

    issuer: str
    scope: str
    value: str
    until: datetime
    """After this the presentation is refused anyway."""

    @property
    def parts(self) -> tuple[str, str, str]:
        """The key itself, to be digested together."""
        return (self.issuer, self.scope, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPresentation:
    """A presentation that passed; it counts once its replay key is spent."""

    issuer: str
    province: str
    credential_type: str
    subject: str
    """The issuer's own ``sub``; not for relying services."""
    assurance: Assurance
    acr: str
    attributes: Mapping[str, Any]
    issued_at: datetime
    authenticated_at: datetime
    expires_at: datetime
    holder_bound: bool
    replay: ReplayKey
    kid: str
    stale: bool
    """Judged by trust documents that are past their freshness and within the grace."""


def verify_presentation(request: PresentationRequest, view: TrustView, now: datetime) -> VerifiedPresentation:
    """Judge one presentation for one matter.

    Raises:
        Rejected: it is not acceptable; the first failed check decides.
        Indeterminate: it cannot be judged now.
    """
    agreement, matter = view.charter.agreement, request.matter
    # 2. Size, characters, structure, type. No cryptography yet.
    presented = _parse(request.presentation)
    # 3. The issuer and its kid name the key; nothing else does.
    trusted = view.credential_key(presented.unverified_issuer, presented.kid, now)
    issuer = view.issuer(presented.unverified_issuer)
    # 4. Algorithm and signature. From here on, the claims are the issuer's.
    terms = _terms(agreement, issuer)
    _check_signature(presented.jws, trusted.key, terms)
    # 5. What the issuer states, and whether it may.
    statement = _read(presented, agreement, now)
    _check_superseded(trusted, statement)
    view.check_authority(issuer.entity_id, statement.credential_type, now)
    _check_assurance(statement, terms)
    # 6. Disclosures.
    claims = _disclose(presented)
    # 7. Holder binding, audience, nonce.
    bound = _check_binding(presented, statement, request, agreement, now)
    # 9. The matter's policy, before 8: a credential that is refused anyway needs no status.
    effective = _effective(statement.assurance, holder_bound=bound.holder_bound)
    _check_policy(statement, effective, matter, now)
    attributes = _release(claims, matter)
    # 8. Status. Not looked up yet: what has one cannot be judged.
    if "status" in presented.claims:
        raise Indeterminate(Reason.STATUS_UNAVAILABLE, "status cannot be checked")
    return VerifiedPresentation(
        issuer=issuer.entity_id,
        province=issuer.province,
        credential_type=statement.credential_type,
        subject=statement.subject,
        assurance=effective,
        acr=statement.acr,
        attributes=attributes,
        issued_at=statement.issued_at,
        authenticated_at=statement.authenticated_at,
        expires_at=statement.expires_at,
        holder_bound=bound.holder_bound,
        replay=bound.replay,
        kid=trusted.key.kid,
        stale=now >= trusted.fresh_until,
    )


# -- step 2: structure ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Presented:
    profile: Profile
    jws: UnverifiedJws
    claims: Mapping[str, Any]
    """The JWS payload as signed. Read once, before verification for the issuer; the bytes verified are the same."""
    unverified_issuer: str
    kid: str
    sd_jwt: SdJwtParts | None


def _parse(presentation: str) -> _Presented:
    parts = split(presentation) if "~" in presentation else None
    profile = Profile.ASSERTION if parts is None else Profile.CREDENTIAL
    jws = parse_compact(presentation if parts is None else parts.issuer_jwt, max_chars=MAX_ISSUER_JWT_CHARS)
    if parts is None and jws.header.typ == CREDENTIAL_TYPE:
        raise Rejected(Reason.MALFORMED, "an SD-JWT ends its issuer's JWT with a tilde")
    # The type is checked as early as it is known: it decides which rules the rest is read by (RFC 8725 section 3.11).
    if jws.header.typ != profile:
        raise Rejected(Reason.TYPE_MISMATCH, "typ is not the one of this profile")
    claims = jws.unverified_claims()
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise Rejected(Reason.ISSUER_UNKNOWN, "iss is missing or not a string")
    return _Presented(
        profile=profile, jws=jws, claims=claims, unverified_issuer=issuer, kid=jws.header.kid or "", sd_jwt=parts
    )


# -- step 4: signature ------------------------------------------------------------------------------------------------


def _terms(agreement: Agreement, issuer: RecognisedIssuer) -> IssuerTerms:
    terms = agreement.issuers.get(issuer.entity_id)
    if terms is None:
        raise Rejected(Reason.ISSUER_NOT_AUTHORISED, "the agreement has no terms for the issuer")
    return terms


def _check_signature(jws: UnverifiedJws, key: PublicKey, terms: IssuerTerms) -> None:
    if jws.header.algorithm not in terms.algorithms:
        raise Rejected(Reason.ALGORITHM_NOT_ALLOWED, "the agreement does not allow the issuer this algorithm")
    verify_signature(jws, key)


# -- step 5: what the issuer states -----------------------------------------------------------------------------------


def _check_superseded(trusted: TrustedKey, statement: Statement) -> None:
    # The issuer's word on its own key: it is in nobody else's hands, so the time that it wrote can be believed.
    if trusted.signed_before is not None and statement.issued_at >= trusted.signed_before:
        raise Rejected(Reason.KEY_REVOKED, "signed after the issuer superseded the key")


def _read(presented: _Presented, agreement: Agreement, now: datetime) -> Statement:
    claims = presented.claims
    if presented.profile is Profile.CREDENTIAL:
        credential_type, max_lifetime = _credential_type(claims), agreement.max_credential_lifetime
    else:
        _check_assertion_form(claims)
        credential_type, max_lifetime = ASSERTION_CREDENTIAL_TYPE, agreement.max_assertion_lifetime
    if "aud" in claims and not isinstance(claims["aud"], str):
        # An array would let one hand-over be good at several places.
        raise Rejected(Reason.CLAIM_INVALID, "aud is not one string")
    return read_statement(claims, agreement, now, credential_type=credential_type, max_lifetime=max_lifetime)


def _credential_type(claims: Mapping[str, Any]) -> str:
    vct = claims.get("vct")
    # The name that stands for assertions would carry a credential past a matter that only accepts those.
    if not isinstance(vct, str) or vct == ASSERTION_CREDENTIAL_TYPE:
        raise Rejected(Reason.CLAIM_INVALID, "vct is missing or not the type of a credential")
    return vct


def _check_assertion_form(claims: Mapping[str, Any]) -> None:
    jti = claims.get("jti")
    if not isinstance(jti, str) or _JTI.fullmatch(jti) is None:
        raise Rejected(Reason.CLAIM_INVALID, "jti is missing or malformed")
    if "aud" not in claims:
        raise Rejected(Reason.CLAIM_INVALID, "aud is missing")


def _check_assurance(statement: Statement, terms: IssuerTerms) -> None:
    levels = terms.equivalence.get(statement.acr)
    if levels is None:
        raise Rejected(Reason.ASSURANCE_UNKNOWN, "acr is not in the agreement's table for the issuer")
    if not levels.meets(statement.assurance) or not terms.cap.meets(statement.assurance):
        # Refused, not clamped: an issuer that overstates one thing is not believed in the others.
        raise Rejected(Reason.ASSURANCE_ABOVE_CAP, "the issuer asserts more than its acr stands for or its cap allows")


# -- step 6: disclosures ----------------------------------------------------------------------------------------------


def _disclose(presented: _Presented) -> Mapping[str, Any]:
    """Give the attributes: all verified claims of an assertion, those disclosed of a credential."""
    signed = presented.claims
    processed = signed
    if presented.sd_jwt is not None:
        processed = process(signed, presented.sd_jwt.disclosures, hash_algorithm(signed))
        if any(signed.get(name, _ABSENT) != processed.get(name, _ABSENT) for name in _NEVER_DISCLOSED):
            raise Rejected(Reason.DISCLOSURE_INVALID, "a claim that must be in clear is selectively disclosable")
        if processed["verified_claims"].get("verification") != signed["verified_claims"]["verification"]:
            raise Rejected(Reason.DISCLOSURE_INVALID, "verification is selectively disclosable")
    claims = processed["verified_claims"].get("claims")
    if not isinstance(claims, dict):
        raise Rejected(Reason.CLAIM_INVALID, "verified_claims holds no claims")
    return claims


# -- step 7: who presents it, to whom ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    holder_bound: bool
    replay: ReplayKey


def _check_binding(
    presented: _Presented, statement: Statement, request: PresentationRequest, agreement: Agreement, now: datetime
) -> _Bound:
    if presented.sd_jwt is None:
        return _check_assertion_binding(presented, statement, request)
    return _check_credential_binding(presented.claims, presented.sd_jwt, request, agreement, now)


def _check_credential_binding(
    claims: Mapping[str, Any], parts: SdJwtParts, request: PresentationRequest, agreement: Agreement, now: datetime
) -> _Bound:
    if "cnf" not in claims:
        raise Rejected(Reason.KEY_BINDING_MISSING, "the credential names no holder key")
    key = holder_key(claims["cnf"])
    # Whether a proof is needed is the matter's decision, never that of what was sent (RFC 9901 section 7.3 step 1).
    # One that is sent is verified in any case.
    if parts.key_binding_jwt is None and request.matter.key_binding:
        raise Rejected(Reason.KEY_BINDING_MISSING, "the matter requires key binding")
    if parts.key_binding_jwt is not None:
        transaction = Transaction(
            audience=request.service,
            nonce=request.nonce,
            now=now,
            max_age=agreement.max_key_binding_age,
            clock_skew=agreement.clock_skew,
        )
        verify_key_binding(parts.key_binding_jwt, key, digest(parts.sd_jwt, hash_algorithm(claims)), transaction)
    _check_audience(claims, request)
    lapses_at = check_nonce(
        request.nonce_key, request.nonce, service=request.service, matter=request.matter.code, now=now
    )
    # The nonce alone is spent: one challenge, one presentation, whoever's credential answers it.
    replay = ReplayKey(issuer="", scope="nonce", value=request.nonce, until=lapses_at)
    return _Bound(holder_bound=parts.key_binding_jwt is not None, replay=replay)


def _check_assertion_binding(presented: _Presented, statement: Statement, request: PresentationRequest) -> _Bound:
    claims = presented.claims
    _check_audience(claims, request)
    if "cnf" in claims:
        _check_channel(claims["cnf"], request.certificate_sha256)
    if request.matter.key_binding:
        # The channel is the relying service's own. It shows that nobody else presents this, and nothing of the person.
        raise Rejected(Reason.KEY_BINDING_MISSING, "an assertion proves no possession of the holder's key")
    replay = ReplayKey(
        issuer=presented.unverified_issuer, scope=statement.subject, value=claims["jti"], until=statement.expires_at
    )
    return _Bound(holder_bound=False, replay=replay)


def _check_audience(claims: Mapping[str, Any], request: PresentationRequest) -> None:
    # A credential has none as a rule; one that has is not for everybody (RFC 7519 section 4.1.3).
    if "aud" in claims and claims["aud"] not in (request.service, request.gateway):
        raise Rejected(Reason.AUDIENCE_MISMATCH, "made for another audience")


def _check_channel(confirmation: object, certificate_sha256: str) -> None:
    # RFC 8705 section 3.1. The pattern keeps an empty claim from matching a caller without certificate.
    bound_to = confirmation.get("x5t#S256") if isinstance(confirmation, dict) and len(confirmation) == 1 else None
    if not isinstance(bound_to, str) or _SHA256.fullmatch(bound_to) is None or bound_to != certificate_sha256:
        raise Rejected(Reason.KEY_BINDING_INVALID, "bound to another channel, or not in a form that can be checked")


# -- step 9: what the matter demands ----------------------------------------------------------------------------------


def _effective(asserted: Assurance, *, holder_bound: bool) -> Assurance:
    if holder_bound or asserted.federation <= _UNBOUND_FEDERATION:
        return asserted
    return Assurance(identity=asserted.identity, authenticator=asserted.authenticator, federation=_UNBOUND_FEDERATION)


def _check_policy(statement: Statement, effective: Assurance, matter: Matter, now: datetime) -> None:
    if statement.credential_type not in matter.credential_types:
        raise Rejected(Reason.CREDENTIAL_TYPE_NOT_ACCEPTED, "the matter does not accept this type")
    if not effective.meets(matter.min_assurance):
        raise Rejected(Reason.ASSURANCE_TOO_LOW, "assurance is below the matter's floor")
    if now - statement.issued_at > matter.max_credential_age:
        raise Rejected(Reason.CREDENTIAL_TOO_OLD, "issued too long ago for the matter")
    if now - statement.authenticated_at > matter.max_authentication_age:
        raise Rejected(Reason.AUTHENTICATION_TOO_OLD, "the person was authenticated too long ago for the matter")


def _release(claims: Mapping[str, Any], matter: Matter) -> Mapping[str, Any]:
    if any(claims.get(name) in _NOTHING for name in matter.required_claims):
        raise Rejected(Reason.REQUIRED_CLAIM_MISSING, "a claim that the matter requires was not presented")
    attributes = {name: value for name, value in claims.items() if name in matter.released_claims and value is not None}
    check_attributes({**attributes, "id_type": claims.get("id_type")})
    return attributes


_IDENTIFIERS: Final[Mapping[str, Callable[[str], object]]] = {
    "id_number": parse_resident_id,
    "uscc": parse_uscc,
    "hukou_region": parse_division_code,
}


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """Check attributes whose syntax is known: ``id_number`` (as its ``id_type`` has it), ``uscc``, ``hukou_region``.

    Raises:
        Rejected: CLAIM_INVALID, never with the value.
    """
    for name, parse in _IDENTIFIERS.items():
        if name in attributes:
            _check_identifier(name, attributes[name], attributes.get("id_type"), parse)


def _check_identifier(name: str, value: object, id_type: object, parse: Callable[[str], object]) -> None:
    # Passport numbers have no common syntax. Without a type, the number has to be of the usual kind.
    if name == "id_number" and id_type == IdType.PASSPORT.value and isinstance(value, str):
        return
    try:
        parsed = parse(value) if isinstance(value, str) else None
    except ValueError as error:
        raise Rejected(Reason.CLAIM_INVALID, f"{name} is malformed") from error
    if parsed is None or (isinstance(parsed, ResidentId) and id_type not in (None, parsed.id_type.value)):
        raise Rejected(Reason.CLAIM_INVALID, f"{name} is not a string, or not of the type stated")
