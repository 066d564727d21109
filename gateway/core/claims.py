"""What an issuer states about every person it vouches for: the claims that both profiles of ours must have.

Read from the signed payload itself, in clear, after the signature and before any Disclosure. Parse, don't validate: the
result is a finished ``Statement``, or the first rule broken.

Whoever acts for another is never merged with them (RFC 8693 section 4.1 has the claim, ``act``): the credential is
about the subject, and names beside it the person who acts, in which relationship and for which matters. How the person
was authenticated is said of whoever holds the key, and that is then the actor. An organisation always has one, since it
can do nothing itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final

from gateway.core.agreement import MATTER_CODE, MAX_LEVEL, Agreement, Assurance, Party, SubjectType
from gateway.core.identifiers import parse_resident_id
from gateway.core.reasons import Reason, Rejected

_MAX_NUMERIC_DATE: Final = 253_402_300_799  # 9999-12-31T23:59:59Z, the last second datetime knows
_ID_NUMBER_CHARS: Final = 18
_SUBJECT: Final = re.compile(r"[!-~]{1,255}")
_ASSURANCE_MEMBERS: Final = frozenset({"ial", "aal", "fal"})
MAX_SCOPE: Final = 64
"""Matters that one authority extends to."""
_ACTOR_MEMBERS: Final = frozenset({"sub", "relationship", "scope", "exp", "claims"})
_FITTING: Final[Mapping[SubjectType, frozenset[Party]]] = {
    SubjectType.NATURAL: frozenset({Party.GUARDIAN, Party.AGENT, Party.LAWYER}),
    SubjectType.LEGAL: frozenset({Party.AGENT, Party.LAWYER, Party.LEGAL_REPRESENTATIVE}),
}
"""Nobody is an organisation's guardian, nor a person's legal representative in the sense of a company's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """How and when the issuer authenticated the person."""

    acr: str
    methods: tuple[str, ...]
    authenticated_at: datetime
    assurance: Assurance | None
    """None: what the acr stands for in the agreement's table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts for the subject, as the issuer states it."""

    subject: str
    previous_subject: str
    relationship: Party
    scope: frozenset[str]
    """Codes of the matters that the authority extends to."""
    expires_at: datetime | None
    """When it ends; None: with the credential."""

    def may_act(self, matter_code: str, now: datetime) -> bool:
        """Whether the authority extends to a matter, and still does."""
        return matter_code in self.scope and (self.expires_at is None or now < self.expires_at)


@dataclass(slots=True, kw_only=True)
class Statement:
    """Whom the issuer means, since when and until when, and how sure it says it is."""

    credential_type: str
    subject: str
    previous_subject: str
    """The subject by the version before of the issuer's key; empty as a rule (see ``pairwise``)."""
    subject_type: SubjectType
    actor: Actor | None
    issued_at: datetime
    expires_at: datetime
    authenticated_at: datetime
    acr: str
    assurance: Assurance
    """As asserted. Whether the issuer may assert so much is for the agreement to say."""


def read_statement(
    claims: Mapping[str, Any], agreement: Agreement, now: datetime, *, credential_type: str, max_lifetime: timedelta
) -> Statement:
    """Read the claims common to both profiles; the type and how long one may live depend on the profile.

    Raises:
        Rejected: CLAIM_INVALID, EXPIRED, NOT_YET_VALID, LIFETIME_TOO_LONG, ASSURANCE_UNKNOWN.
    """
    subject, previous = _read_pseudonym(claims, "sub"), _read_previous(claims)
    subject_type = _read_subject_type(claims)
    actor = _read_actor(claims["act"], subject, subject_type) if "act" in claims else None
    if actor is None and subject_type is SubjectType.LEGAL:
        raise Rejected(Reason.CLAIM_INVALID, "an organisation has nobody who acts for it")
    issued_at, expires_at = _read_validity(claims, now, agreement.clock_skew, max_lifetime)
    authenticated_at = numeric_date(claims, "auth_time")
    if authenticated_at > issued_at + agreement.clock_skew:
        raise Rejected(Reason.CLAIM_INVALID, "auth_time is after iat")
    methods = claims.get("amr", [])
    if not isinstance(methods, list) or not all(isinstance(method, str) for method in methods):
        raise Rejected(Reason.CLAIM_INVALID, "amr is not an array of strings")
    _check_verification(claims, agreement)
    acr = claims.get("acr")
    if not isinstance(acr, str) or "assurance" not in claims:
        raise Rejected(Reason.ASSURANCE_UNKNOWN, "acr or assurance is missing")
    return Statement(
        credential_type=credential_type,
        subject=subject,
        previous_subject=previous,
        subject_type=subject_type,
        actor=actor,
        issued_at=issued_at,
        expires_at=expires_at,
        authenticated_at=authenticated_at,
        acr=acr,
        assurance=_read_assurance(claims["assurance"]),
    )


def numeric_date(claims: Mapping[str, Any], name: str, reason: Reason = Reason.CLAIM_INVALID) -> datetime:
    """Read a NumericDate (RFC 7519 section 2), whole seconds only.

    Raises:
        Rejected: ``reason``, when it is missing, not an integer or no date.
    """
    value = claims.get(name)
    if type(value) is not int or not 0 <= value <= _MAX_NUMERIC_DATE:  # bool is an int to Python, not to JSON
        raise Rejected(reason, f"{name} is missing or not a date")
    return datetime.fromtimestamp(value, UTC)


def _read_pseudonym(members: Mapping[str, Any], name: str) -> str:
    subject = members.get(name)
    if not isinstance(subject, str) or _SUBJECT.fullmatch(subject) is None or _is_id_number(subject):
        raise Rejected(Reason.CLAIM_INVALID, f"{name} is missing or not a pseudonym")
    return subject


def _read_previous(members: Mapping[str, Any]) -> str:
    return _read_pseudonym(members, "previous_sub") if "previous_sub" in members else ""


def _read_subject_type(claims: Mapping[str, Any]) -> SubjectType:
    name = claims.get("sub_type")
    known = _SUBJECT_TYPES.get(name) if isinstance(name, str) else None
    if known is None:
        raise Rejected(Reason.CLAIM_INVALID, "sub_type is missing or not known")
    return known


_SUBJECT_TYPES: Final = {each.value: each for each in SubjectType}


def _read_actor(act: object, subject: str, subject_type: SubjectType) -> Actor:
    if not isinstance(act, dict) or not act.keys() <= _ACTOR_MEMBERS | {"previous_sub"}:
        # A chain of actors (RFC 8693 section 4.1) would be delegation of delegation, which no matter provides for.
        raise Rejected(Reason.CLAIM_INVALID, "act is not the description of one actor")
    actor = _read_pseudonym(act, "sub")
    if actor == subject:
        raise Rejected(Reason.CLAIM_INVALID, "the subject cannot act for itself")
    relationship = next((each for each in _FITTING[subject_type] if each.value == act.get("relationship")), None)
    if relationship is None:
        raise Rejected(Reason.CLAIM_INVALID, "relationship is missing, or not one that this subject can have")
    scope = act.get("scope")
    if not isinstance(scope, list) or not 1 <= len(scope) <= MAX_SCOPE:
        raise Rejected(Reason.CLAIM_INVALID, "scope is not a list of matters")
    if not all(isinstance(code, str) and MATTER_CODE.fullmatch(code) for code in scope):
        raise Rejected(Reason.CLAIM_INVALID, "scope names something that is no matter")
    return Actor(
        subject=actor,
        previous_subject=_read_previous(act),
        relationship=relationship,
        scope=frozenset(scope),
        expires_at=numeric_date(act, "exp") if "exp" in act else None,
    )


def _is_id_number(text: str) -> bool:
    if len(text) != _ID_NUMBER_CHARS:
        return False
    try:
        parse_resident_id(text)
    except ValueError:
        return False
    return True


def _read_validity(
    claims: Mapping[str, Any], now: datetime, clock_skew: timedelta, max_lifetime: timedelta
) -> tuple[datetime, datetime]:
    issued_at, expires_at = numeric_date(claims, "iat"), numeric_date(claims, "exp")
    not_before = numeric_date(claims, "nbf") if "nbf" in claims else issued_at
    if issued_at > expires_at:
        raise Rejected(Reason.CLAIM_INVALID, "iat is after exp")
    if expires_at <= now:  # no leeway: the skew excuses clocks that run ahead, an expiry is the issuer's word
        raise Rejected(Reason.EXPIRED, "exp is past")
    if max(issued_at, not_before) > now + clock_skew:
        raise Rejected(Reason.NOT_YET_VALID, "iat or nbf is ahead")
    check_lifetime(issued_at, expires_at, max_lifetime)
    return issued_at, expires_at


def check_lifetime(issued_at: datetime, expires_at: datetime, max_lifetime: timedelta) -> None:
    """Check that something is not good for longer than it may be. Raises Rejected(LIFETIME_TOO_LONG)."""
    if expires_at - issued_at > max_lifetime:
        raise Rejected(Reason.LIFETIME_TOO_LONG, "exp is too long after iat")


def _check_verification(claims: Mapping[str, Any], agreement: Agreement) -> None:
    verified = claims.get("verified_claims")
    verification = verified.get("verification") if isinstance(verified, dict) else None
    framework = verification.get("trust_framework") if isinstance(verification, dict) else None
    if not isinstance(verification, dict) or not isinstance(framework, str):
        raise Rejected(Reason.CLAIM_INVALID, "verified_claims names no trust framework")
    if framework not in agreement.trust_frameworks:
        raise Rejected(Reason.ASSURANCE_UNKNOWN, "trust framework is not in the agreement")
    if "assurance_level" in verification:
        level = verification["assurance_level"]
        if not isinstance(level, str) or level not in agreement.assurance_levels:
            raise Rejected(Reason.ASSURANCE_UNKNOWN, "assurance level is not in the agreement")


def _read_assurance(assurance: object) -> Assurance:
    if not isinstance(assurance, dict) or assurance.keys() != _ASSURANCE_MEMBERS:
        raise Rejected(Reason.CLAIM_INVALID, "assurance is not ial, aal and fal")
    identity, authenticator, federation = assurance["ial"], assurance["aal"], assurance["fal"]
    if not type(identity) is type(authenticator) is type(federation) is int:  # True and 1.0 are equal to 1
        raise Rejected(Reason.CLAIM_INVALID, "assurance holds something that is not a level")
    known = _ASSURANCES.get((identity, authenticator, federation))
    if known is None:
        raise Rejected(Reason.CLAIM_INVALID, "assurance holds something that is not a level")
    return known


_LEVELS: Final = range(1, MAX_LEVEL + 1)
_ASSURANCES: Final = {
    levels: Assurance(identity=levels[0], authenticator=levels[1], federation=levels[2])
    for levels in product(_LEVELS, _LEVELS, _LEVELS)
}
