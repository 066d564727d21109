"""The recognition agreement: what the provinces accept from each other, as data inside the charter.

It answers, per matter (政务服务事项), which assurance, freshness and credential types are demanded and which claims
may be released; and per issuer, which algorithms it may sign with, how its ``acr`` values map to assurance levels and
how much it may assert at all. The upper bounds below are part of the software and no charter can lift them: a signed
mistake of one digit must not turn a five-minute proof into a five-month one.

The mapping of ``acr`` values is a table of the agreement, never string equality: two provinces may use one name for
different levels.

What the law restricts (names, numbers, dates of birth) a matter has to name twice: among the claims it releases, and
among those it releases although they are restricted. So nobody hands them out by an oversight, and whoever reviews the
agreement sees them. Every term that a person may have to read has a text in Chinese and in English, or the agreement is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
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
MAX_LEVELS: Final = 9
MAX_TERMS: Final = 1_000
MAX_STATUS_AGE: Final = timedelta(days=7)
"""No status list lives longer."""
MAX_RETENTION: Final = timedelta(days=30 * 366)

_Named = TypeVar("_Named")
MATTER_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
# These make a credential a credential and say nothing about the person; ``sub`` is replaced by a pairwise subject. A
# matter that released one of them would hand the relying service a handle to link people by.
_NEVER_RELEASED: Final = frozenset(
    {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "nonce", "cnf", "status", "vct", "vct#integrity", "aka_vcts"}
    | {"_sd", "_sd_alg", "...", "verified_claims", "act", "sub_type", "previous_sub"}
)
RESTRICTED_BY_LAW: Final = frozenset(
    {"name", "id_number", "birthdate", "gender", "ethnicity", "address", "phone_number", "id_valid_to"}
)
"""Sensitive or identifying (个人信息保护法第二十八条): no agreement can make less of them."""
_LAST_DATE: Final = 253_402_300_799  # 9999-12-31T23:59:59Z


class SubjectType(StrEnum):
    """Who or what a credential is about."""

    NATURAL = "natural"
    LEGAL = "legal"


class Party(StrEnum):
    """Who presents: the subject, or somebody who acts for it, in one of these relationships."""

    SELF = "self"
    GUARDIAN = "guardian"
    AGENT = "agent"
    LAWYER = "lawyer"
    LEGAL_REPRESENTATIVE = "legal_representative"


class Question(StrEnum):
    """Predicates that are no comparison."""

    AGE_AT_LEAST = "age_at_least"
    HOUSEHOLD_IN = "household_in"


@dataclass(frozen=True, slots=True)
class Words:
    """The same in Chinese and in English."""

    zh: str
    en: str


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
    """A service item, what it demands and what it may have. What is not named here is not given."""

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
    legal_basis: Words | None
    """The statutory duty that the matter rests on (个人信息保护法第十三条第一款第三项)."""
    consent: Words | None = None
    """The document by which the person consents, when the matter rests on that."""
    restricted_claims: frozenset[str] = frozenset()
    """Those of the released claims, the actor's included, that are restricted. Named so that nobody overlooks them."""
    subject_types: frozenset[SubjectType] = frozenset({SubjectType.NATURAL})
    parties: frozenset[Party] = frozenset({Party.SELF})
    actor_required_claims: frozenset[str] = frozenset()
    actor_released_claims: frozenset[str] = frozenset()
    questions: frozenset[Question] = frozenset()
    comparable_claims: frozenset[str] = frozenset()
    """Claims of the subject that may be compared with what the caller has on file."""
    status_required: bool = False
    max_status_age: timedelta = MAX_STATUS_AGE
    """How old the issuer's word on the status may be."""
    retention: timedelta = timedelta(days=1)
    """How long the relying service may keep attributes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerTerms:
    """On which terms one issuer is recognised."""

    algorithms: Mapping[Algorithm, datetime | None]
    """Each with the date of its sunset, if it has one: from then on, nothing signed with it counts."""
    cap: Assurance
    equivalence: Mapping[str, Assurance]
    """``acr`` value to levels; an ``acr`` that is not listed is not recognised."""

    def allows(self, algorithm: Algorithm, now: datetime) -> bool:
        """Whether the issuer's signatures with an algorithm count."""
        if algorithm not in self.algorithms:
            return False
        sunset = self.algorithms[algorithm]
        return sunset is None or now < sunset


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A step of the overall scale, and the least that each of the three levels must be to reach it."""

    name: Words
    floor: Assurance


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
    levels: tuple[Level, ...] = ()
    """The overall scale, lowest first. The first is level 1."""
    restricted_claims: frozenset[str] = RESTRICTED_BY_LAW
    terms: Mapping[str, Words] = field(default_factory=dict)
    """What claims, credential types, frameworks, ``acr`` values and relationships are called."""

    def level(self, assurance: Assurance) -> int:
        """Give the highest step of the scale whose floor is met; 0: none is."""
        return max((number for number, step in enumerate(self.levels, 1) if assurance.meets(step.floor)), default=0)


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
        "levels",
        "restricted_claims",
        "terms",
    )
    agreement = Agreement(
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
        levels=_levels(members["levels"]),
        restricted_claims=members["restricted_claims"].tokens(1, MAX_NAMES),
        terms=MappingProxyType(
            {Field(entry.path, name).token(): _words(entry) for name, entry in members["terms"].entries(1, MAX_TERMS)}
        ),
    )
    _check_restricted(agreement, members)
    _check_terms(agreement, members["terms"])
    return agreement


def _check_restricted(agreement: Agreement, members: Mapping[str, Field]) -> None:
    if not agreement.restricted_claims >= RESTRICTED_BY_LAW:
        raise members["restricted_claims"].invalid(
            f"must contain all that the law restricts: {', '.join(sorted(RESTRICTED_BY_LAW))}"
        )
    for index, matter in enumerate(agreement.matters.values()):
        released = matter.released_claims | matter.actor_released_claims
        if matter.restricted_claims != released & agreement.restricted_claims:
            place = Field(f"{members['matters'].path}[{index}].restricted_claims", None)
            raise place.invalid("must name exactly those of the released claims that are restricted")


def _check_terms(agreement: Agreement, field_of_terms: Field) -> None:
    """What a clerk or a citizen may be shown has to have words."""
    missing = terms_used(agreement) - agreement.terms.keys()
    if missing:
        raise field_of_terms.invalid(f"has no words for {', '.join(sorted(missing)[:8])}")


def terms_used(agreement: Agreement) -> frozenset[str]:
    """Give every term of the agreement that must have words."""
    used: set[str] = set(agreement.trust_frameworks)
    for matter in agreement.matters.values():
        used |= matter.released_claims | matter.actor_released_claims | matter.comparable_claims
        used |= matter.credential_types | {party.value for party in matter.parties}
    for terms in agreement.issuers.values():
        used |= terms.equivalence.keys()
    return frozenset(used)


def _levels(members: Field) -> tuple[Level, ...]:
    found: list[Level] = []
    for item in members.items(1, MAX_LEVELS):
        step = item.members("name", "floor")
        level = Level(name=_words(step["name"]), floor=_assurance(step["floor"]))
        if found and (level.floor == found[-1].floor or not level.floor.meets(found[-1].floor)):
            raise item.invalid("must demand more than the level before")
        found.append(level)
    return tuple(found)


def _words(entry: Field) -> Words:
    members = entry.members("zh", "en")
    return Words(members["zh"].text(), members["en"].text())


def _maybe_words(entry: Field) -> Words | None:
    return None if entry.value is None else _words(entry)


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


def _matter(entry: Field) -> tuple[str, Matter]:
    members = entry.members(
        "code",
        "name_zh",
        "name_en",
        "min_assurance",
        "key_binding",
        "status_required",
        "max_status_age_seconds",
        "max_credential_age_seconds",
        "max_authentication_age_seconds",
        "credential_types",
        "subject_types",
        "parties",
        "required_claims",
        "released_claims",
        "actor_required_claims",
        "actor_released_claims",
        "restricted_claims",
        "questions",
        "comparable_claims",
        "legal_basis",
        "consent",
        "retention_seconds",
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
        status_required=members["status_required"].boolean(),
        max_status_age=_span(members["max_status_age_seconds"], MAX_STATUS_AGE),
        max_credential_age=_span(members["max_credential_age_seconds"], MAX_CREDENTIAL_LIFETIME),
        max_authentication_age=_span(members["max_authentication_age_seconds"], MAX_CREDENTIAL_LIFETIME),
        credential_types=members["credential_types"].tokens(1, MAX_NAMES),
        subject_types=_choices(members["subject_types"], SubjectType, 1),
        parties=_choices(members["parties"], Party, 1),
        # Nothing required and nothing released is the usual matter: it wants the verdict alone.
        required_claims=members["required_claims"].tokens(0, MAX_NAMES),
        released_claims=members["released_claims"].tokens(0, MAX_NAMES),
        actor_required_claims=members["actor_required_claims"].tokens(0, MAX_NAMES),
        actor_released_claims=members["actor_released_claims"].tokens(0, MAX_NAMES),
        restricted_claims=members["restricted_claims"].tokens(0, MAX_NAMES),
        questions=_choices(members["questions"], Question, 0),
        comparable_claims=members["comparable_claims"].tokens(0, MAX_NAMES),
        legal_basis=_maybe_words(members["legal_basis"]),
        consent=_maybe_words(members["consent"]),
        retention=_span(members["retention_seconds"], MAX_RETENTION, low=0),
    )
    _check_matter(matter, entry, members)
    return code, matter


def _check_matter(matter: Matter, entry: Field, members: Mapping[str, Field]) -> None:
    for required, released in (
        ("required_claims", "released_claims"),
        ("actor_required_claims", "actor_released_claims"),
    ):
        if not getattr(matter, required) <= getattr(matter, released):
            raise members[required].invalid(f"must all be among {released}")
        if not getattr(matter, released).isdisjoint(_NEVER_RELEASED):
            raise members[released].invalid("must not name a claim that belongs to the credential itself")
    if not matter.comparable_claims.isdisjoint(_NEVER_RELEASED):
        raise members["comparable_claims"].invalid("must not name a claim that belongs to the credential itself")
    if matter.parties == {Party.SELF} and matter.actor_released_claims:
        raise members["actor_released_claims"].invalid("must be empty where nobody acts for the subject")
    if SubjectType.LEGAL in matter.subject_types and Party.SELF in matter.parties and len(matter.subject_types) == 1:
        raise members["parties"].invalid("must not name self: an organisation cannot present anything itself")
    if matter.legal_basis is None and matter.consent is None:
        # 个人信息保护法第十三条: without either, nothing may be handed over at all.
        raise entry.invalid("must rest on a legal_basis, on consent, or on both")


_Choice = TypeVar("_Choice", bound=StrEnum)


def _choices(entry: Field, kind: type[_Choice], low: int) -> frozenset[_Choice]:
    known = {each.value: each for each in kind}
    names = entry.tokens(low, len(known))
    if not names <= known.keys():
        raise entry.invalid(f"must be of {', '.join(known)}")
    return frozenset(known[name] for name in names)


def _issuer(entry: Field) -> tuple[str, IssuerTerms]:
    members = entry.members("entity_id", "algorithms", "cap", "equivalence")
    # Whose identifier it is, the charter checks: it must be that of a member who issues.
    entity_id = members["entity_id"].token()
    cap = _assurance(members["cap"])
    equivalence: dict[str, Assurance] = {}
    for name, level_of in members["equivalence"].entries(1, MAX_ACR_VALUES):
        level = _assurance(level_of)
        if not cap.meets(level):
            raise level_of.invalid("must not be above the issuer's cap")
        equivalence[Field(level_of.path, name).token()] = level
    return entity_id, IssuerTerms(
        algorithms=_algorithms(members["algorithms"]), cap=cap, equivalence=MappingProxyType(equivalence)
    )


def _algorithms(entry: Field) -> Mapping[Algorithm, datetime | None]:
    # Looked up by exact name: the alias "EdDSA" is something to understand on the wire, not to write into a charter.
    known = {algorithm.value: algorithm for algorithm in Algorithm}
    found: dict[Algorithm, datetime | None] = {}
    for item in entry.items(1, len(known)):
        members = item.members("name", "sunset")
        name = members["name"].token()
        if name not in known:
            raise members["name"].invalid(f"must be one of {', '.join(known)}")
        if known[name] in found:
            raise item.invalid("is listed twice")
        sunset = members["sunset"]
        found[known[name]] = (
            None if sunset.value is None else datetime.fromtimestamp(sunset.integer(0, _LAST_DATE), UTC)
        )
    return MappingProxyType(found)
