"""Questions about attributes, answered yes or no, so that the attribute itself need not be handed over.

Which questions a matter may ask is part of the agreement. What a question is about must have been disclosed: "not told"
is not "no", and ends the verification as a required claim that is missing.

Ages count in full years by the calendar of China (UTC+8, no summer time); who was born on 29 February is a year older
on 1 March in years that lack the day. The household's province is read from the division where it is registered at
present, which an issuer states. It is never read from an ID number: that names where the number was first given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Final

from gateway.core.agreement import Matter, Question
from gateway.core.encoding import equal_secrets
from gateway.core.identifiers import Province, parse_division_code
from gateway.core.reasons import Reason, Rejected

MAX_PREDICATES: Final = 8
MAX_AGE: Final = 150
MAX_COMPARED_CHARS: Final = 256
HOUSEHOLD_CLAIM: Final = "hukou_region"
BIRTH_CLAIM: Final = "birthdate"
AGE_CLAIM: Final = "age_equal_or_over"
_CHINA: Final = timezone(timedelta(hours=8))
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_THRESHOLD: Final = re.compile(r"[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class AgeAtLeast:
    """Is the person at least so many years old today?"""

    years: int


@dataclass(frozen=True, slots=True)
class HouseholdIn:
    """Is the household registered in one of these provinces?"""

    provinces: frozenset[Province]


@dataclass(frozen=True, slots=True)
class ClaimMatches:
    """Is an attribute exactly this, character by character?"""

    claim: str
    value: str


Predicate = AgeAtLeast | HouseholdIn | ClaimMatches


def may_ask(matter: Matter, predicate: Predicate) -> bool:
    """Whether the agreement lets the matter ask this."""
    match predicate:
        case AgeAtLeast():
            return Question.AGE_AT_LEAST in matter.questions
        case HouseholdIn():
            return Question.HOUSEHOLD_IN in matter.questions
        case ClaimMatches(claim=claim):
            return claim in matter.comparable_claims


def spelled(predicate: Predicate) -> list[str | int]:
    """Spell a question as JSON; the same question has one spelling."""
    match predicate:
        case AgeAtLeast(years=years):
            return ["age_at_least", years]
        case HouseholdIn(provinces=provinces):
            return ["household_in", *sorted(province.code for province in provinces)]
        case ClaimMatches(claim=claim, value=value):
            return ["claim_matches", claim, value]


def asked_about(matter: Matter) -> frozenset[str]:
    """Give the claims that the matter's questions can be about."""
    ages = {BIRTH_CLAIM, AGE_CLAIM} if Question.AGE_AT_LEAST in matter.questions else set()
    households = {HOUSEHOLD_CLAIM} if Question.HOUSEHOLD_IN in matter.questions else set()
    return matter.comparable_claims | ages | households


def needed(predicates: Sequence[Predicate], claims: Mapping[str, Any]) -> frozenset[str]:
    """Give the claims that the answers need; of two that would do, the one that was presented."""
    found: set[str] = set()
    for predicate in predicates:
        match predicate:
            case AgeAtLeast():
                found.add(AGE_CLAIM if claims.get(BIRTH_CLAIM) is None and AGE_CLAIM in claims else BIRTH_CLAIM)
            case HouseholdIn():
                found.add(HOUSEHOLD_CLAIM)
            case ClaimMatches(claim=claim):
                found.add(claim)
    return frozenset(found)


def answer(predicate: Predicate, claims: Mapping[str, Any], now: datetime) -> bool:
    """Answer one question from the claims presented, which hold what is ``needed``.

    Raises:
        Rejected: CLAIM_INVALID when what was presented cannot be read; REQUIRED_CLAIM_MISSING when it does not tell.
    """
    match predicate:
        case AgeAtLeast(years=years):
            return _is_at_least(years, claims, now)
        case HouseholdIn(provinces=provinces):
            return household_province(claims.get(HOUSEHOLD_CLAIM)) in {province.code for province in provinces}
        case ClaimMatches(claim=claim, value=value):
            stated = claims.get(claim)
            if not isinstance(stated, str):
                raise Rejected(Reason.CLAIM_INVALID, f"{claim} is not a string")
            return equal_secrets(stated, value)


def household_province(region: object) -> str:
    """Give the province of the division where a household is registered: sh, js, zj, ah, else six digits.

    Raises:
        Rejected: CLAIM_INVALID.
    """
    try:
        division = parse_division_code(region) if isinstance(region, str) else None
    except ValueError as error:
        raise Rejected(Reason.CLAIM_INVALID, "hukou_region is malformed") from error
    if division is None:
        raise Rejected(Reason.CLAIM_INVALID, "hukou_region is not a string")
    province = f"{division[:2]}0000"
    return next((each.code for each in Province if each.division == province), province)


def _is_at_least(years: int, claims: Mapping[str, Any], now: datetime) -> bool:
    if claims.get(BIRTH_CLAIM) is not None:
        age = _age(_birth_date(claims[BIRTH_CLAIM]), now.astimezone(_CHINA).date())
        if age < 0:
            raise Rejected(Reason.CLAIM_INVALID, "birthdate is a day to come")
        return age >= years
    thresholds = claims.get(AGE_CLAIM)
    if not isinstance(thresholds, dict) or not all(
        _THRESHOLD.fullmatch(name) and isinstance(holds, bool) for name, holds in thresholds.items()
    ):
        raise Rejected(Reason.CLAIM_INVALID, "age_equal_or_over is not a table of ages")
    reached = [int(name) for name, holds in thresholds.items() if holds]
    missed = [int(name) for name, holds in thresholds.items() if not holds]
    if reached and missed and max(reached) >= min(missed):
        raise Rejected(Reason.CLAIM_INVALID, "age_equal_or_over contradicts itself")
    if any(age >= years for age in reached):
        return True
    if any(age <= years for age in missed):
        return False
    raise Rejected(Reason.REQUIRED_CLAIM_MISSING, "no age was disclosed that tells")


def _birth_date(text: object) -> date:
    try:
        if isinstance(text, str) and _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass  # without its cause, which would name the date
    raise Rejected(Reason.CLAIM_INVALID, "birthdate is not a date")


def _age(born: date, today: date) -> int:
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
