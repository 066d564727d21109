"""The recognition agreement: what the provinces accept from each other, as data inside the charter.

It answers, per matter (政务服务事项), which assurance, freshness and credential types are demanded and which claims
may be released; and per issuer, which algorithms it may sign with, how its ``acr`` values map to assurance levels and
how much it may assert at all. The upper bounds below are part of the software and no charter can lift them: a signed
mistake of one digit must not turn a five-minute proof into a five-month one.

The mapping of ``acr`` values is a table of the agreement, never string equality: two provinces may use one name for
different levels (facts/domain.md 2.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, TypeVar

from gateway.core.fields import Field
from gateway.core.jose import Algorithm

MAX_LEVEL: Final = 3
MAX_CLOCK_SKEW: Final = timedelta(seconds=60)
MAX_STALE_GRACE: Final = timedelta(hours=24)
MAX_CREDENTIAL_LIFETIME: Final = timedelta(days=400)
MAX_ASSERTION_LIFETIME: Final = timedelta(seconds=300)
MAX_KEY_BINDING_AGE: Final = timedelta(seconds=300)
MAX_MATTERS: Final = 500
MAX_ISSUERS: Final = 400
MAX_ACR_VALUES: Final = 64
MAX_NAMES: Final = 64
"""Credential types or claims of one matter, frameworks, levels."""

_Named = TypeVar("_Named")
MATTER_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
# These make a credential a credential and say nothing about the person; ``sub`` is replaced by a pairwise subject. A
# matter that released one of them would hand the relying service a handle to link people by.
_NEVER_RELEASED: Final = frozenset(
    {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "nonce", "cnf", "status", "vct", "vct#integrity", "aka_vcts"}
    | {"_sd", "_sd_alg", "...", "verified_claims"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assurance:
    """Three independent levels, 1 to 3: of the person's identity, of the login, of the hand-over (NIST SP 800-63)."""

    identity: int
    authenticator: int
    federation: int

    def meets(self, floor: Assurance) -> bool:
        """Whether no level is below the floor's. One high level never makes up for another."""
        return (
            self.identity >= floor.identity
            and self.authenticator >= floor.authenticator
            and self.federation >= floor.federation
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """A service item and what it demands."""

    code: str
    name_zh: str
    name_en: str
    min_assurance: Assurance
    key_binding: bool
    max_credential_age: timedelta
    max_authentication_age: timedelta
    credential_types: frozenset[str]
    required_claims: frozenset[str]
    released_claims: frozenset[str]
    legal_basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerTerms:
    """On which terms one issuer is recognised."""

    algorithms: frozenset[Algorithm]
    cap: Assurance
    equivalence: Mapping[str, Assurance]
    """``acr`` value to levels; an ``acr`` that is not listed is not recognised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The whole agreement of one charter version."""

    matters: Mapping[str, Matter]
    issuers: Mapping[str, IssuerTerms]
    trust_frameworks: frozenset[str]
    assurance_levels: frozenset[str]
    clock_skew: timedelta
    stale_grace: timedelta
    max_credential_lifetime: timedelta
    max_assertion_lifetime: timedelta
    max_key_binding_age: timedelta


def parse_agreement(value: object) -> Agreement:
    """Read the ``agreement`` member of a charter.

    Raises:
        Rejected: CHARTER_INVALID, naming the field and the rule it breaks.
    """
    members = Field("agreement", value).members(
        "matters",
        "issuers",
        "trust_frameworks",
        "assurance_levels",
        "clock_skew_seconds",
        "stale_grace_seconds",
        "max_credential_lifetime_seconds",
        "max_assertion_lifetime_seconds",
        "max_key_binding_age_seconds",
    )
    return Agreement(
        matters=_unique(members["matters"], (_matter(item) for item in members["matters"].items(1, MAX_MATTERS))),
        issuers=_unique(members["issuers"], (_issuer(item) for item in members["issuers"].items(1, MAX_ISSUERS))),
        trust_frameworks=members["trust_frameworks"].tokens(1, MAX_NAMES),
        assurance_levels=members["assurance_levels"].tokens(1, MAX_NAMES),
        # Zero is a strict federation's right for skew and grace; a zero lifetime would accept nothing.
        clock_skew=_span(members["clock_skew_seconds"], MAX_CLOCK_SKEW, low=0),
        stale_grace=_span(members["stale_grace_seconds"], MAX_STALE_GRACE, low=0),
        max_credential_lifetime=_span(members["max_credential_lifetime_seconds"], MAX_CREDENTIAL_LIFETIME),
        max_assertion_lifetime=_span(members["max_assertion_lifetime_seconds"], MAX_ASSERTION_LIFETIME),
        max_key_binding_age=_span(members["max_key_binding_age_seconds"], MAX_KEY_BINDING_AGE),
    )


def _unique(field: Field, pairs: Iterable[tuple[str, _Named]]) -> Mapping[str, _Named]:
    found: dict[str, _Named] = {}
    for index, (name, value) in enumerate(pairs):
        if name in found:
            raise Field(f"{field.path}[{index}]", value).invalid("is listed twice")
        found[name] = value
    return MappingProxyType(found)


def _span(field: Field, high: timedelta, *, low: int = 1) -> timedelta:
    return timedelta(seconds=field.integer(low, int(high.total_seconds())))


def _assurance(field: Field) -> Assurance:
    members = field.members("ial", "aal", "fal")
    return Assurance(
        identity=members["ial"].integer(1, MAX_LEVEL),
        authenticator=members["aal"].integer(1, MAX_LEVEL),
        federation=members["fal"].integer(1, MAX_LEVEL),
    )


def _matter(field: Field) -> tuple[str, Matter]:
    members = field.members(
        "code",
        "name_zh",
        "name_en",
        "min_assurance",
        "key_binding",
        "max_credential_age_seconds",
        "max_authentication_age_seconds",
        "credential_types",
        "required_claims",
        "released_claims",
        "legal_basis",
    )
    code = members["code"].token()
    if MATTER_CODE.fullmatch(code) is None:
        raise members["code"].invalid("must be 1 to 64 letters, digits, dots, colons, dashes or underscores")
    matter = Matter(
        code=code,
        name_zh=members["name_zh"].text(),
        name_en=members["name_en"].text(),
        min_assurance=_assurance(members["min_assurance"]),
        key_binding=members["key_binding"].boolean(),
        max_credential_age=_span(members["max_credential_age_seconds"], MAX_CREDENTIAL_LIFETIME),
        max_authentication_age=_span(members["max_authentication_age_seconds"], MAX_CREDENTIAL_LIFETIME),
        credential_types=members["credential_types"].tokens(1, MAX_NAMES),
        # Nothing required and nothing released is the usual matter: it wants the verdict alone.
        required_claims=members["required_claims"].tokens(0, MAX_NAMES),
        released_claims=members["released_claims"].tokens(0, MAX_NAMES),
        legal_basis=members["legal_basis"].text(),
    )
    if not matter.required_claims <= matter.released_claims:
        raise members["required_claims"].invalid("must all be among released_claims")
    if not matter.released_claims.isdisjoint(_NEVER_RELEASED):
        raise members["released_claims"].invalid("must not name a claim that belongs to the credential itself")
    return code, matter


def _issuer(field: Field) -> tuple[str, IssuerTerms]:
    members = field.members("entity_id", "algorithms", "cap", "equivalence")
    # Whose identifier it is, the charter checks: it must be that of a member who issues.
    entity_id = members["entity_id"].token()
    cap = _assurance(members["cap"])
    equivalence: dict[str, Assurance] = {}
    for name, entry in members["equivalence"].entries(1, MAX_ACR_VALUES):
        level = _assurance(entry)
        if not cap.meets(level):
            raise entry.invalid("must not be above the issuer's cap")
        equivalence[Field(entry.path, name).token()] = level
    return entity_id, IssuerTerms(
        algorithms=_algorithms(members["algorithms"]), cap=cap, equivalence=MappingProxyType(equivalence)
    )


def _algorithms(field: Field) -> frozenset[Algorithm]:
    # Looked up by exact name: the alias "EdDSA" is something to understand on the wire, not to write into a charter.
    try:
        return frozenset(Algorithm(name) for name in field.tokens(1, len(Algorithm)))
    except ValueError as error:
        raise field.invalid("must name known signature algorithms") from error
