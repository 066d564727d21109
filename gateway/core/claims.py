"""What an issuer states about every person it vouches for: the claims that both profiles of ours must have.

Read from the signed payload itself, in clear, after the signature and before any Disclosure. Parse, don't validate: the
result is a finished ``Statement``, or the first rule broken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.core.agreement import MAX_LEVEL, Agreement, Assurance
from gateway.core.identifiers import parse_resident_id
from gateway.core.reasons import Reason, Rejected

_MAX_NUMERIC_DATE: Final = 253_402_300_799  # 9999-12-31T23:59:59Z, the last second datetime knows
_ID_NUMBER_CHARS: Final = 18
_SUBJECT: Final = re.compile(r"[!-~]{1,255}")
_ASSURANCE_MEMBERS: Final = frozenset({"ial", "aal", "fal"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """How and when the issuer authenticated the person."""

    acr: str
    methods: tuple[str, ...]
    authenticated_at: datetime
    assurance: Assurance | None
    """None: what the acr stands for in the agreement's table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Whom the issuer means, since when and until when, and how sure it says it is."""

    credential_type: str
    subject: str
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
    subject = claims.get("sub")
    if not isinstance(subject, str) or _SUBJECT.fullmatch(subject) is None or _is_id_number(subject):
        raise Rejected(Reason.CLAIM_INVALID, "sub is missing or not a pseudonym")
    issued_at, expires_at = _read_validity(claims, now, agreement.clock_skew, max_lifetime)
    authenticated_at = numeric_date(claims, "auth_time")
    if authenticated_at > issued_at + agreement.clock_skew:
        raise Rejected(Reason.CLAIM_INVALID, "auth_time is after iat")
    methods = claims.get("amr", [])
    if not isinstance(methods, list) or not all(isinstance(method, str) for method in methods):
        raise Rejected(Reason.CLAIM_INVALID, "amr is not an array of strings")
    if "status" in claims:
        _check_status_form(claims["status"])
    _check_verification(claims, agreement)
    acr = claims.get("acr")
    if not isinstance(acr, str) or "assurance" not in claims:
        raise Rejected(Reason.ASSURANCE_UNKNOWN, "acr or assurance is missing")
    return Statement(
        credential_type=credential_type,
        subject=subject,
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
    if expires_at - issued_at > max_lifetime:
        raise Rejected(Reason.LIFETIME_TOO_LONG, "exp is too long after iat")
    return issued_at, expires_at


def _check_status_form(status: object) -> None:
    # Token Status List draft-20 section 6.2.
    reference = status.get("status_list") if isinstance(status, dict) else None
    if not isinstance(reference, dict):
        raise Rejected(Reason.CLAIM_INVALID, "status is not a reference to a status list")
    index, uri = reference.get("idx"), reference.get("uri")
    if type(index) is not int or index < 0 or not isinstance(uri, str) or not uri:
        raise Rejected(Reason.CLAIM_INVALID, "status has no index or no list")


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
    if not all(type(level) is int and 1 <= level <= MAX_LEVEL for level in assurance.values()):
        raise Rejected(Reason.CLAIM_INVALID, "assurance holds something that is not a level")
    return Assurance(identity=assurance["ial"], authenticator=assurance["aal"], federation=assurance["fal"])
