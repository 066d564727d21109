"""Entity statements, one at a time (OpenID Federation 1.0 section 3).

An entity statement is a signed JWT in which an issuer speaks about a subject. About itself: entity configuration (EC).
About its immediate subordinate: subordinate statement (SS). Rules that live here:

* ``parse_statement`` checks all that needs neither a key nor a clock nor a second statement (section 3.2, but for steps
  4, 7, 8, 10 to 12 and half of 6). What it returns is well-formed and nothing more: anybody can write it.
* ``check_times`` holds it against a clock, ``verify_signature`` against one key. Only the latter makes an
  ``EntityStatement``: the moment of trust is a type. Which key to take is the business of ``chain``.
* Entity identifiers are compared code point by code point, never normalised (section 16).
* Claims we do not know are kept in ``claims`` and ignored, unless ``crit`` names them.

Every loop below runs over members of one JSON document, of which ``encoding.parse_json`` admits 2,000; what would cost
a request or a signature for each item has its own, smaller bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.core import jose
from gateway.core.encoding import DEFAULT_LIMITS, b64url_decode, parse_json_object
from gateway.core.jose import Algorithm, PublicKey, UnverifiedJws, import_jwks
from gateway.core.metadata_policy import Metadata, MetadataPolicy, parse_policies, refuse_critical_operators
from gateway.core.reasons import Reason, Rejected

TYP: Final = "entity-statement+jwt"
FEDERATION_ENTITY: Final = "federation_entity"

MAX_ENTITY_ID_CHARS: Final = 512
MAX_AUTHORITY_HINTS: Final = 10
"""Superiors of one entity. Each may cost a collector a request (section 18.1); other implementations stop at 10 too."""
MAX_TRUST_ANCHOR_HINTS: Final = 10
MAX_TRUST_MARKS: Final = 32
MAX_NAMES: Final = 64
"""Naming constraints in one list: each is compared with each entity of a chain."""
MAX_NUMERIC_DATE: Final = 253_402_300_799
"""The last second of the year 9999, the last that ``datetime`` can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementProfile:
    """What a federation leaves to be agreed. The defaults are ours."""

    algorithms: frozenset[Algorithm] = frozenset({Algorithm.ES256, Algorithm.ES384, Algorithm.ED25519})
    max_lifetime: timedelta = timedelta(hours=1)
    """From ``iat`` to ``exp``. Nothing else limits how long a stolen or withdrawn statement goes on working."""
    clock_skew: timedelta = timedelta(seconds=60)
    kid_is_thumbprint: bool = True
    max_chars: int = 90_000
    """As base64url of the largest payload that ``encoding`` reads, and some for header and signature."""


PROFILE: Final = StatementProfile()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamingConstraints:
    """Which hosts subordinates may have (section 6.2.2). Lower case; a leading dot stands for one or more labels."""

    permitted: tuple[str, ...] | None = None
    """None permits every host, () none."""
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What a superior demands of the chains that pass through it (section 6.2)."""

    max_path_length: int | None = None
    naming: NamingConstraints | None = None
    allowed_entity_types: frozenset[str] | None = None
    """None allows every type, the empty set only ``federation_entity``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    token: str
    """The statement as its issuer signed it: stored, relayed and hashed in this form only."""
    jws: UnverifiedJws
    kid: str
    iss: str
    sub: str
    issued_at: datetime
    expires_at: datetime
    jwks: Mapping[str, PublicKey]
    """The subject's federation keys by kid, not to be confused with the issuer's."""
    metadata: Metadata
    authority_hints: tuple[str, ...]
    constraints: Constraints
    metadata_policy: MetadataPolicy | None
    claims: Mapping[str, Any]
    """All claims, also those that the specification does not know."""

    @property
    def is_configuration(self) -> bool:
        """Whether the issuer speaks about itself."""
        return self.iss == self.sub


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedStatement(_Statement):
    """A well-formed statement nobody has vouched for yet. It may be refused for what it says, never accepted for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityStatement(_Statement):
    """A statement whose signature was verified. Only ``verify_signature`` makes one."""

    signer: PublicKey


# -- one statement ----------------------------------------------------------------------------------------------------


def parse_statement(token: str, profile: StatementProfile) -> UnverifiedStatement:
    """Read a statement and check all that needs neither a key nor a clock. Cheap checks come first.

    Raises:
        Rejected: STATEMENT_INVALID for a broken rule of section 3; TYPE_MISMATCH, ALGORITHM_NOT_ALLOWED,
            KEY_NOT_ACCEPTABLE, CRITICAL_NOT_UNDERSTOOD, METADATA_POLICY_INVALID; TOO_LARGE over one of the bounds
            above; or what ``jose.parse_compact`` and ``encoding.parse_json`` raise.
    """
    jws = jose.parse_compact(token, max_chars=profile.max_chars)
    # Exactly this value, or a JWT made for another purpose by the same key could pass for a statement (RFC 8725 3.11).
    if jws.header.typ != TYP:
        raise Rejected(Reason.TYPE_MISMATCH, f"typ is not {TYP}")
    if jws.header.algorithm not in profile.algorithms:
        raise Rejected(Reason.ALGORITHM_NOT_ALLOWED, "alg is not one of the federation's")
    if jws.header.kid is None:
        raise _invalid("header has no kid")
    claims = jws.unverified_claims()
    iss, sub = _entity_id(claims.get("iss"), "iss"), _entity_id(claims.get("sub"), "sub")
    _check_claim_places(claims, is_configuration=iss == sub)
    _check_crit(claims)
    issued_at, expires_at = _numeric_date(claims.get("iat"), "iat"), _numeric_date(claims.get("exp"), "exp")
    if expires_at <= issued_at:
        raise _invalid("exp is not after iat")
    _check_trust_marks(claims, profile)
    if "source_endpoint" in claims:
        _check_endpoint(claims["source_endpoint"], "source_endpoint")
    _entity_ids(claims, "trust_anchor_hints", MAX_TRUST_ANCHOR_HINTS)
    return UnverifiedStatement(
        token=token,
        jws=jws,
        kid=jws.header.kid,
        iss=iss,
        sub=sub,
        issued_at=issued_at,
        expires_at=expires_at,
        jwks=import_jwks(claims["jwks"], kid_is_thumbprint=profile.kid_is_thumbprint),
        metadata=_metadata(claims.get("metadata", {})),
        authority_hints=_entity_ids(claims, "authority_hints", MAX_AUTHORITY_HINTS),
        constraints=_constraints(claims.get("constraints", {})),
        metadata_policy=parse_policies(claims["metadata_policy"]) if "metadata_policy" in claims else None,
        claims=claims,
    )


def check_times(
    statement: UnverifiedStatement, profile: StatementProfile, now: datetime, *, grace: timedelta = timedelta(0)
) -> None:
    """Hold a statement against the clock (section 3.2, steps 7 and 8).

    Args:
        statement: the statement.
        profile: whose lifetime cap and clock skew apply.
        now: the time.
        grace: how long after its expiry the caller still wants to hear of it, beyond the clock skew.

    Raises:
        Rejected: LIFETIME_TOO_LONG, NOT_YET_VALID, EXPIRED.
    """
    if statement.expires_at - statement.issued_at > profile.max_lifetime:
        raise Rejected(Reason.LIFETIME_TOO_LONG, "statement lives longer than the federation allows")
    if statement.issued_at > now + profile.clock_skew:
        raise Rejected(Reason.NOT_YET_VALID, "statement is issued in the future")
    if statement.expires_at <= now - profile.clock_skew - grace:
        raise Rejected(Reason.EXPIRED, "statement has expired")


def verify_signature(statement: UnverifiedStatement, key: PublicKey) -> EntityStatement:
    """Verify the signature with one key, which the caller has reason to take for the issuer's.

    Raises:
        Rejected: KEY_UNKNOWN when the statement names another key; ALGORITHM_NOT_ALLOWED, SIGNATURE_INVALID.
    """
    if statement.kid != key.kid:
        raise Rejected(Reason.KEY_UNKNOWN, "statement names another key")
    jose.verify_signature(statement.jws, key)
    # The claims were read from the very bytes just verified, so they need not be read again.
    return EntityStatement(**{each.name: getattr(statement, each.name) for each in fields(statement)}, signer=key)


# -- claims -----------------------------------------------------------------------------------------------------------

_REQUIRED: Final = ("iss", "sub", "iat", "exp", "jwks")
_CONFIGURATION_ONLY: Final = frozenset(
    {"authority_hints", "trust_anchor_hints", "trust_marks", "trust_mark_issuers", "trust_mark_owners"}
)
_SUBORDINATE_ONLY: Final = frozenset({"constraints", "metadata_policy", "metadata_policy_crit", "source_endpoint"})
_REGISTRATION_ONLY: Final = frozenset({"aud", "trust_anchor"})
_DEFINED: Final = frozenset(
    {*_REQUIRED, "metadata", "crit", *_CONFIGURATION_ONLY, *_SUBORDINATE_ONLY, *_REGISTRATION_ONLY}
)


def _check_claim_places(claims: Mapping[str, Any], *, is_configuration: bool) -> None:
    if any(name not in claims for name in _REQUIRED):
        raise _invalid("a required claim is missing")
    misplaced = _SUBORDINATE_ONLY if is_configuration else _CONFIGURATION_ONLY
    if not misplaced.isdisjoint(claims):
        raise _invalid("a claim belongs to the other kind of statement")
    # A statement made for one registration must not pass for a general one (sections 3.1.4 and 3.1.5).
    if not _REGISTRATION_ONLY.isdisjoint(claims):
        raise _invalid("a claim belongs to explicit registration")
    if "metadata_policy_crit" in claims:
        refuse_critical_operators(claims["metadata_policy_crit"])


def _check_crit(claims: Mapping[str, Any]) -> None:
    """Check the ``crit`` claim (section 13.4): not the header parameter of that name, which ``jose`` refuses."""
    if "crit" not in claims:
        return
    crit = claims["crit"]
    if not isinstance(crit, list) or not crit or not all(isinstance(name, str) for name in crit):
        raise _invalid("crit is not a list of claim names")
    if len(set(crit)) != len(crit) or not _DEFINED.isdisjoint(crit) or not claims.keys() >= set(crit):
        raise _invalid("crit names a claim twice, a standard claim or an absent one")
    # Our own extra claims are not critical either: a plain OpenID Federation verifier has to be able to ignore them.
    raise Rejected(Reason.CRITICAL_NOT_UNDERSTOOD, "crit names a claim that is not understood")


def _numeric_date(value: object, name: str) -> datetime:
    # Integers only: RFC 7519 also allows fractions, which one program rounds up and the next down.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMERIC_DATE:
        raise _invalid(f"{name} is not a time in whole seconds")
    return datetime.fromtimestamp(value, tz=UTC)


def _metadata(value: object) -> Metadata:
    if not isinstance(value, dict):
        raise _invalid("metadata is not an object")
    for parameters in value.values():
        if not isinstance(parameters, dict):
            raise _invalid("metadata of an entity type is not an object")
        if any(parameter is None for parameter in parameters.values()):
            raise _invalid("a metadata parameter is null")
    _check_federation_entity(value.get(FEDERATION_ENTITY, {}))
    return value


def _check_federation_entity(parameters: Mapping[str, Any]) -> None:
    # Federation keys stand in the jwks claim and nowhere else (section 5.2.1).
    if not {"jwks", "jwks_uri", "signed_jwks_uri"}.isdisjoint(parameters):
        raise _invalid("metadata of federation_entity holds keys")
    for name, value in parameters.items():
        if name.startswith("federation_") and name.endswith("_endpoint"):
            _check_endpoint(value, "a federation endpoint")


def _check_trust_marks(claims: Mapping[str, Any], profile: StatementProfile) -> None:
    """Check syntax (section 3.2, steps 20 to 22). Whether a mark means anything is another question."""
    for mark in _list(claims.get("trust_marks", []), "trust_marks", MAX_TRUST_MARKS):
        if not isinstance(mark, dict) or not isinstance(mark.get("trust_mark_type"), str):
            raise _invalid("a trust mark has no type")
        if _unverified_trust_mark_type(mark.get("trust_mark")) != mark["trust_mark_type"]:
            raise _invalid("a trust mark is of another type than it is listed under")
    for issuers in _object(claims.get("trust_mark_issuers", {}), "trust_mark_issuers").values():
        for issuer in _list(issuers, "trust_mark_issuers"):
            _entity_id(issuer, "a trust mark issuer")
    for owner in _object(claims.get("trust_mark_owners", {}), "trust_mark_owners").values():
        members = _object(owner, "a trust mark owner")
        _entity_id(members.get("sub"), "a trust mark owner")
        import_jwks(members.get("jwks"), kid_is_thumbprint=profile.kid_is_thumbprint)


def _unverified_trust_mark_type(token: object) -> object:
    # Its header is not looked at: marks are signed by parties outside this profile, and nothing here trusts them.
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3:  # noqa: PLR2004 - header, payload, signature
        raise _invalid("a trust mark is not a signed JWT")
    return parse_json_object(b64url_decode(parts[1])).get("trust_mark_type")


def _constraints(value: object) -> Constraints:
    """Read the ``constraints`` claim. Members that are not known are ignored, as section 6.2 demands."""
    members = _object(value, "constraints")
    length = members.get("max_path_length")
    if "max_path_length" in members and (not isinstance(length, int) or isinstance(length, bool) or length < 0):
        raise _invalid("max_path_length is not a whole number from zero")
    types = None
    if "allowed_entity_types" in members:
        types = _list(members["allowed_entity_types"], "allowed_entity_types", MAX_NAMES)
        # federation_entity is always allowed, and a list that says so was written by somebody who thinks otherwise.
        if FEDERATION_ENTITY in types or not all(isinstance(name, str) for name in types):
            raise _invalid("allowed_entity_types is not a list of types other than federation_entity")
    return Constraints(
        max_path_length=length,
        naming=_naming(members["naming_constraints"]) if "naming_constraints" in members else None,
        allowed_entity_types=None if types is None else frozenset(types),
    )


def _naming(value: object) -> NamingConstraints:
    members = _object(value, "naming_constraints")
    permitted = _domains(members["permitted"]) if "permitted" in members else None
    return NamingConstraints(permitted=permitted, excluded=_domains(members.get("excluded", [])))


def _domains(value: object) -> tuple[str, ...]:
    domains = _list(value, "naming_constraints", MAX_NAMES)
    if not all(isinstance(domain, str) and _is_domain(domain.removeprefix(".")) for domain in domains):
        # An exclusion that matches nothing would fail open: URLs, wildcards, addresses, names with the dot at the end.
        raise _invalid("a naming constraint is not a domain name, with or without a leading dot")
    return tuple(domain.lower() for domain in domains)


# -- identifiers and addresses ----------------------------------------------------------------------------------------

# RFC 3986, without what section 1.2 forbids (user, query, fragment) and without anything but ASCII, so that no two
# identifiers differ by Unicode normalisation alone. Wider than what our own charter admits: an underscore or an
# upper-case letter in the host is another federation's business, and never equal to a member of ours.
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = rf"{_LABEL}(?:\.{_LABEL})*\.?"
_AUTHORITY: Final = rf"(?P<host>{_HOST}|\[[0-9A-Fa-f:.]{{2,45}}\])(?::(?P<port>[1-9][0-9]{{0,4}}))?"
_CHARACTER: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_PATH: Final = rf"(?:/{_CHARACTER}*)*"
_ENTITY_ID: Final = re.compile(rf"https://{_AUTHORITY}{_PATH}")
_ENDPOINT: Final = re.compile(rf"https://{_AUTHORITY}{_PATH}(?:\?(?:{_CHARACTER}|[/?])*)?")
_DOMAIN: Final = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
# What ends in a number is an address to every resolver, however it is written: 127.0.0.1, 127.1, 0x7f000001.
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_MAX_PORT: Final = 65_535


def host(entity_id: str) -> str | None:
    """The host name of an entity identifier, in lower case; None when it is an IP address instead."""
    match = _ENTITY_ID.fullmatch(entity_id)
    name = match["host"].removesuffix(".").lower() if match else ""
    return name if _is_domain(name) else None


def _is_domain(name: str) -> bool:
    return _DOMAIN.fullmatch(name) is not None and _NUMBER.fullmatch(name.rpartition(".")[2]) is None


def _entity_id(value: object, name: str) -> str:
    match = _ENTITY_ID.fullmatch(value) if isinstance(value, str) and len(value) <= MAX_ENTITY_ID_CHARS else None
    if match is None or int(match["port"] or 0) > _MAX_PORT:
        raise _invalid(f"{name} is not an entity identifier")
    return match[0]


def _check_endpoint(value: object, name: str) -> None:
    match = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match["port"] or 0) > _MAX_PORT:
        raise _invalid(f"{name} is not an https URL without fragment")


def _entity_ids(claims: Mapping[str, Any], name: str, at_most: int) -> tuple[str, ...]:
    """Read hints: never empty when present, because an empty list would say something that nobody has defined."""
    if name not in claims:
        return ()
    values = _list(claims[name], name, at_most)
    if not values:
        raise _invalid(f"{name} is empty")
    return tuple(_entity_id(value, name) for value in values)


def _list(value: object, name: str, at_most: int = DEFAULT_LIMITS.max_members) -> list[Any]:
    if not isinstance(value, list):
        raise _invalid(f"{name} is not a list")
    if len(value) > at_most:
        raise Rejected(Reason.TOO_LARGE, f"{name} has more than {at_most} items")
    return value


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _invalid(f"{name} is not an object")
    return value


def _invalid(detail: str) -> Rejected:
    return Rejected(Reason.STATEMENT_INVALID, detail)
