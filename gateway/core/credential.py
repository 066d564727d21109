"""The verdict on one presentation (steps 2 to 9 of ``verifier``), and what is in a credential of ours.

Two profiles, one pipeline:

* **Identity credential**: SD-JWT VC (RFC 9901, draft-ietf-oauth-sd-jwt-vc), held by the person for months, attributes
  disclosed selectively, with the holder's proof of possession.
* **Identity assertion**: a signed JWT made for one audience, good once and for minutes.

Everything the gateway decides by stands in clear in what the issuer signed; only attributes may hide in Disclosures.
Security-critical claims that a presenter could leave out are none (RFC 9901 section 9.7). Only names under
``verified_claims.claims`` become attributes: what an issuer merely repeats elsewhere is not verified.

A pure function of (presentation, request, trust view, status lists, now). The first failed check decides, and later
steps are never reached: no policy verdict about a forged credential, no status look-up for one that has expired. What
was found out on the way is written down as it becomes known; see ``findings``.

A status is looked up in what is held already. Nothing is ever fetched because a person presented something: no issuer
learns where its credentials are shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from gateway.core.agreement import Agreement, Assurance, Matter, Party, SubjectType
from gateway.core.challenge import check_nonce
from gateway.core.claims import Statement, read_statement
from gateway.core.consent import Consent, check_consent
from gateway.core.findings import Findings, Step
from gateway.core.jose import parse_compact, verify_signature
from gateway.core.key_binding import Transaction, holder_key, verify_key_binding
from gateway.core.known import IssuerSigned, Known
from gateway.core.policy import (
    check_algorithm,
    check_assurance,
    check_matter,
    check_status_demand,
    effective_assurance,
    issuer_terms,
)
from gateway.core.predicates import Predicate, needed
from gateway.core.reasons import Reason, Rejected
from gateway.core.release import Released, check_kind, release, stated
from gateway.core.sd_jwt import MAX_ISSUER_JWT_CHARS, SdJwtParts, digest, hash_algorithm, process, split
from gateway.core.status import check_status
from gateway.core.status_list import StatusList, read_reference
from gateway.core.trust import RecognisedIssuer, TrustedKey, TrustView

CREDENTIAL_TYPE: Final = "dc+sd-jwt"
"""``typ`` of an identity credential; the older vc+sd-jwt is not accepted."""
ASSERTION_TYPE: Final = "identity-assertion+jwt"
"""``typ`` of an identity assertion."""
ASSERTION_CREDENTIAL_TYPE: Final = "urn:yrd:assertion:identity:1"
"""What stands for ``vct`` where assertions are authorised and accepted."""

MAX_KEPT_DISCLOSURES_CHARS: Final = 2_048
"""Longer ones are read anew each time: what is remembered of a credential is bounded by the length of its JWT."""

# Never in a Disclosure, nor anything inside them (SD-JWT VC section 2.2.2.2; aud by RFC 9901 section 9.7). The other
# claims we decide by must be in clear because they are read before Disclosures are.
_NEVER_DISCLOSED: Final = ("iss", "nbf", "exp", "cnf", "vct", "vct#integrity", "aka_vcts", "status", "aud")
# Who acts and by which right stands in clear too; that person's attributes alone may hide.
_ACTOR_IN_CLEAR: Final = ("sub", "previous_sub", "relationship", "scope", "exp")
_ABSENT: Final = object()
_JTI: Final = re.compile(r"[A-Za-z0-9._~-]{16,128}")
_SHA256: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Profile(StrEnum):
    """Which of the two was presented; the value is the ``typ`` it must have."""

    CREDENTIAL = CREDENTIAL_TYPE
    ASSERTION = ASSERTION_TYPE


@dataclass(slots=True, kw_only=True)
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
    predicates: Sequence[Predicate] = ()
    """Questions that the matter may ask."""
    consent_id: str = ""
    """The consent that the request names; empty: none."""
    consent: Consent | None = None
    """What is on record under that name."""


@dataclass(slots=True, kw_only=True)
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
class VerifiedActor:
    """Who acts for the subject."""

    subject: str = field(repr=False)
    previous_subject: str = field(repr=False)
    relationship: Party
    attributes: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPresentation:
    """A presentation that passed; it counts once its replay key is spent."""

    issuer: str
    province: str
    credential_type: str
    subject: str = field(repr=False)
    """The issuer's own ``sub``; not for relying services."""
    previous_subject: str = field(repr=False)
    subject_type: SubjectType
    actor: VerifiedActor | None
    assurance: Assurance
    acr: str
    level: int
    """By the agreement's scale, from the assurance."""
    attributes: Mapping[str, Any] = field(repr=False)
    household_province: str = field(repr=False)
    answers: tuple[bool, ...] = field(repr=False)
    issued_at: datetime
    authenticated_at: datetime
    expires_at: datetime
    holder_bound: bool
    replay: ReplayKey
    stale: bool
    """Judged by trust documents that are past their freshness and within the grace."""


def verify_presentation(
    request: PresentationRequest,
    view: TrustView,
    lists: Mapping[str, StatusList],
    now: datetime,
    findings: Findings,
    *,
    known: Known | None = None,
) -> VerifiedPresentation:
    """Judge one presentation for one matter: ``open_presentation``, ``check_signature``, ``judge``.

    Args:
        request: what was presented, and for what.
        view: the trust view.
        lists: the status lists held, by their URIs.
        now: the time.
        findings: filled in with what is found out, whatever the outcome.
        known: credentials whose issuer's signature was checked before; None: none are kept.

    Raises:
        Rejected: it is not accepted, and why.
        Indeterminate: it cannot be judged now.
    """
    opened = open_presentation(request, view, now, findings, known)
    check_signature(opened, known)
    return judge(opened, lists, now)


@dataclass(slots=True, kw_only=True)
class OpenedPresentation:
    """A presentation that was read, and whose key is known. Nothing of it may be believed yet."""

    request: PresentationRequest
    view: TrustView
    findings: Findings
    presented: _Presented
    issuer: RecognisedIssuer
    trusted: TrustedKey


def open_presentation(
    request: PresentationRequest,
    view: TrustView,
    now: datetime,
    findings: Findings,
    known: Known | None,
) -> OpenedPresentation:
    """Read a presentation and find its key: steps 2 and 3, and of 4 whether the algorithm is allowed."""
    # 2. Size, characters, structure, type. No cryptography yet.
    presented = _parse(request.presentation, known)
    findings.profile = presented.profile.value
    # 3. The issuer and its kid name the key; nothing else does.
    findings.step = Step.KEY
    header, unverified_issuer = presented.signed.jws.header, presented.signed.issuer
    if unverified_issuer in view.issuers:
        findings.issuer = unverified_issuer
    trusted = view.credential_key(unverified_issuer, header.kid or "", now)
    issuer = view.issuer(unverified_issuer)
    findings.kid, findings.anchors = trusted.key.kid, trusted.anchors
    findings.trusted_until = trusted.fresh_until
    # 4. Algorithm and signature. From here on, the claims are the issuer's.
    findings.step = Step.SIGNATURE
    check_algorithm(header.algorithm, issuer_terms(view.charter.agreement, issuer.entity_id), now)
    return OpenedPresentation(
        request=request, view=view, findings=findings, presented=presented, issuer=issuer, trusted=trusted
    )


def check_signature(opened: OpenedPresentation, known: Known | None) -> None:
    """Verify the issuer's signature (step 4). Apart from the rest, so that of many they can be verified in a row."""
    signed, key, sd_jwt = opened.presented.signed, opened.trusted.key, opened.presented.sd_jwt
    # That these bytes carry this key's signature stays true. That the key counts was asked of the view just now.
    if signed.verified_by == (key.thumbprint, key.algorithm):
        return
    verify_signature(signed.jws, key)
    if known is not None and sd_jwt is not None:  # an assertion is presented once
        signed.verified_by = (key.thumbprint, key.algorithm)
        known.keep(sd_jwt.issuer_jwt, signed)


def judge(opened: OpenedPresentation, lists: Mapping[str, StatusList], now: datetime) -> VerifiedPresentation:
    """Judge what its issuer is known to have signed: steps 5 to 9."""
    request, view, findings, presented = opened.request, opened.view, opened.findings, opened.presented
    issuer, trusted = opened.issuer, opened.trusted
    agreement, matter = view.charter.agreement, request.matter
    terms = issuer_terms(agreement, issuer.entity_id)
    findings.algorithm = presented.signed.jws.header.algorithm
    # 5. What the issuer states, and whether it may.
    findings.step = Step.STATEMENT
    statement = _read(presented, agreement, now)
    _check_superseded(trusted, statement)
    view.check_authority(issuer.entity_id, statement.credential_type, now)
    _note_statement(findings, statement, request, now)
    if statement.acr in terms.equivalence:
        findings.acr = statement.acr
    check_assurance(statement.acr, statement.assurance, terms)
    # 6. Disclosures.
    findings.step = Step.DISCLOSURES
    disclosed = _disclose(presented, statement)
    _note_disclosed(findings, disclosed, request, agreement)
    # 7. Holder binding, audience, nonce.
    findings.step = Step.BINDING
    bound = _check_binding(presented, statement, request, agreement, now)
    findings.holder_bound = bound.holder_bound
    findings.effective = effective_assurance(statement.assurance, holder_bound=bound.holder_bound)
    # 9. The matter's policy, before 8: a credential that is refused anyway needs no status.
    findings.step = Step.POLICY
    if request.consent_id:
        check_consent(request.consent, service=request.service, matter=matter, asked=findings.asked, now=now)
        findings.consented = True
    check_matter(findings, matter, now)
    released = _release(disclosed, request, now)
    # 8. Status.
    findings.step = Step.STATUS
    claims = presented.signed.claims
    if "status" in claims:
        check_status(read_reference(claims["status"]), view, lists, now, findings)
    check_status_demand(findings, matter, now)
    return VerifiedPresentation(
        issuer=issuer.entity_id,
        province=issuer.province,
        credential_type=statement.credential_type,
        subject=statement.subject,
        previous_subject=statement.previous_subject,
        subject_type=statement.subject_type,
        actor=_actor(statement, released),
        assurance=findings.effective,
        acr=statement.acr,
        level=agreement.level(findings.effective),
        attributes=released.attributes,
        household_province=released.household_province,
        answers=released.answers,
        issued_at=statement.issued_at,
        authenticated_at=statement.authenticated_at,
        expires_at=_ends_at(statement),
        holder_bound=bound.holder_bound,
        replay=bound.replay,
        stale=now >= trusted.fresh_until,
    )


def _ends_at(statement: Statement) -> datetime:
    # Who acts for somebody does so no longer than they may.
    ends = None if statement.actor is None else statement.actor.expires_at
    return statement.expires_at if ends is None else min(ends, statement.expires_at)


# -- step 2: structure ------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Presented:
    profile: Profile
    signed: IssuerSigned
    """Read once, before verification for the issuer; the bytes verified are the same."""
    sd_jwt: SdJwtParts | None


def _parse(presentation: str, known: Known | None) -> _Presented:
    if "~" not in presentation:
        return _Presented(profile=Profile.ASSERTION, signed=_read_signed(presentation, Profile.ASSERTION), sd_jwt=None)
    parts = split(presentation)
    signed = None if known is None else known.find(parts.issuer_jwt)
    if signed is None:
        signed = _read_signed(parts.issuer_jwt, Profile.CREDENTIAL)
    return _Presented(profile=Profile.CREDENTIAL, signed=signed, sd_jwt=parts)


def _read_signed(token: str, profile: Profile) -> IssuerSigned:
    jws = parse_compact(token, max_chars=MAX_ISSUER_JWT_CHARS)
    if profile is Profile.ASSERTION and jws.header.typ == CREDENTIAL_TYPE:
        raise Rejected(Reason.MALFORMED, "an SD-JWT ends its issuer's JWT with a tilde")
    # The type is checked as early as it is known: it decides which rules the rest is read by (RFC 8725 section 3.11).
    if jws.header.typ != profile.value:
        raise Rejected(Reason.TYPE_MISMATCH, "typ is not the one of this profile")
    claims = jws.unverified_claims()
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise Rejected(Reason.ISSUER_UNKNOWN, "iss is missing or not a string")
    return IssuerSigned(jws=jws, claims=claims, issuer=issuer)


# -- step 5: what the issuer states -----------------------------------------------------------------------------------


def _check_superseded(trusted: TrustedKey, statement: Statement) -> None:
    # The issuer's word on its own key: it is in nobody else's hands, so the time that it wrote can be believed.
    if trusted.signed_before is not None and statement.issued_at >= trusted.signed_before:
        raise Rejected(Reason.KEY_REVOKED, "signed after the issuer superseded the key")


def _read(presented: _Presented, agreement: Agreement, now: datetime) -> Statement:
    claims = presented.signed.claims
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


def _note_statement(findings: Findings, statement: Statement, request: PresentationRequest, now: datetime) -> None:
    findings.credential_type = statement.credential_type
    findings.asserted = statement.assurance
    findings.issued_at, findings.authenticated_at = statement.issued_at, statement.authenticated_at
    findings.expires_at = statement.expires_at
    findings.subject_type = statement.subject_type
    findings.party = Party.SELF if statement.actor is None else statement.actor.relationship
    findings.in_scope = statement.actor is None or statement.actor.may_act(request.matter.code, now)


# -- step 6: disclosures ----------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Disclosed:
    """The attributes presented: all verified claims of an assertion, those disclosed of a credential."""

    claims: Mapping[str, Any] = field(repr=False)
    actor_claims: Mapping[str, Any] = field(repr=False)


def _disclose(presented: _Presented, statement: Statement) -> _Disclosed:
    signed = presented.signed.claims
    processed: Mapping[str, Any] = signed
    if presented.sd_jwt is not None:
        processed = _process(presented.signed, presented.sd_jwt.disclosures)
        if any(signed.get(name, _ABSENT) != processed.get(name, _ABSENT) for name in _NEVER_DISCLOSED):
            raise Rejected(Reason.DISCLOSURE_INVALID, "a claim that must be in clear is selectively disclosable")
        if processed["verified_claims"].get("verification") != signed["verified_claims"]["verification"]:
            raise Rejected(Reason.DISCLOSURE_INVALID, "verification is selectively disclosable")
        _check_actor_in_clear(signed.get("act"), processed.get("act"))
    claims = processed["verified_claims"].get("claims")
    actor_claims = processed["act"].get("claims", {}) if statement.actor is not None else {}
    if not isinstance(claims, dict) or not isinstance(actor_claims, dict):
        raise Rejected(Reason.CLAIM_INVALID, "claims are not an object")
    check_kind(claims, statement.subject_type)
    check_kind(actor_claims, SubjectType.NATURAL)
    return _Disclosed(claims=claims, actor_claims=actor_claims)


def _process(signed: IssuerSigned, disclosures: tuple[str, ...]) -> Mapping[str, Any]:
    last = signed.disclosed
    if last is not None and last[0] == disclosures:
        return last[1]
    processed = process(signed.claims, disclosures, hash_algorithm(signed.claims))
    if sum(map(len, disclosures)) <= MAX_KEPT_DISCLOSURES_CHARS:
        signed.disclosed = (disclosures, processed)
    return processed


def _check_actor_in_clear(signed: object, processed: object) -> None:
    one = signed if isinstance(signed, dict) else {}
    other = processed if isinstance(processed, dict) else {}
    if one.keys() - {"claims"} != other.keys() - {"claims"}:
        raise Rejected(Reason.DISCLOSURE_INVALID, "who acts is selectively disclosable")
    if any(one.get(name) != other.get(name) for name in _ACTOR_IN_CLEAR):
        raise Rejected(Reason.DISCLOSURE_INVALID, "who acts is selectively disclosable")


def _note_disclosed(
    findings: Findings, disclosed: _Disclosed, request: PresentationRequest, agreement: Agreement
) -> None:
    matter = request.matter
    findings.asked = needed(request.predicates, disclosed.claims)
    findings.disclosed = _known(disclosed.claims, matter, agreement, findings.asked)
    findings.actor_disclosed = _known(disclosed.actor_claims, matter, agreement, findings.asked)


def _known(claims: Mapping[str, Any], matter: Matter, agreement: Agreement, asked: frozenset[str]) -> frozenset[str]:
    # Other names are the issuer's own, and could be anything.
    terms, released, of_actor = agreement.terms, matter.released_claims, matter.actor_released_claims
    return frozenset(
        [name for name in stated(claims) if name in terms or name in released or name in of_actor or name in asked]
    )


# -- step 7: who presents it, to whom ---------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Bound:
    holder_bound: bool
    replay: ReplayKey


def _check_binding(
    presented: _Presented, statement: Statement, request: PresentationRequest, agreement: Agreement, now: datetime
) -> _Bound:
    if presented.sd_jwt is None:
        return _check_assertion_binding(presented, statement, request)
    return _check_credential_binding(presented.signed, presented.sd_jwt, request, agreement, now)


def _check_credential_binding(
    signed: IssuerSigned, parts: SdJwtParts, request: PresentationRequest, agreement: Agreement, now: datetime
) -> _Bound:
    claims = signed.claims
    if "cnf" not in claims:
        raise Rejected(Reason.KEY_BINDING_MISSING, "the credential names no holder key")
    if signed.holder is None:
        signed.holder = holder_key(claims["cnf"])
    key = signed.holder
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
    claims = presented.signed.claims
    _check_audience(claims, request)
    if "cnf" in claims:
        _check_channel(claims["cnf"], request.certificate_sha256)
    if request.matter.key_binding:
        # The channel is the relying service's own. It shows that nobody else presents this, and nothing of the person.
        raise Rejected(Reason.KEY_BINDING_MISSING, "an assertion proves no possession of the holder's key")
    replay = ReplayKey(
        issuer=presented.signed.issuer, scope=statement.subject, value=claims["jti"], until=statement.expires_at
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


# -- step 9: what is given out ----------------------------------------------------------------------------------------


def _release(disclosed: _Disclosed, request: PresentationRequest, now: datetime) -> Released:
    return release(
        disclosed.claims,
        disclosed.actor_claims,
        matter=request.matter,
        consent=request.consent,
        predicates=request.predicates,
        now=now,
    )


def _actor(statement: Statement, released: Released) -> VerifiedActor | None:
    if statement.actor is None:
        return None
    return VerifiedActor(
        subject=statement.actor.subject,
        previous_subject=statement.actor.previous_subject,
        relationship=statement.actor.relationship,
        attributes=released.actor_attributes,
    )
