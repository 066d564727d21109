"""Questions answered yes or no, without the attribute behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.agreement import Question
from gateway.core.identifiers import Province
from gateway.core.predicates import AgeAtLeast, ClaimMatches, HouseholdIn, Predicate, answer, may_ask
from gateway.core.reasons import Reason, Rejected
from tests.core.presentations import MATTER, Attempt

SH, JS, ZJ, AH = Province
NOON = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


def refused(predicate: Predicate, claims: Mapping[str, Any]) -> Reason:
    with pytest.raises(Rejected) as caught:
        answer(predicate, claims, NOON)
    return caught.value.reason


AGES: Final = {
    "a day before the birthday": ("2008-11-24", NOON, False),
    "on the birthday": ("2008-11-23", NOON, True),
    "a day after": ("2008-11-22", NOON, True),
    "on the birthday in China, a day before in Greenwich": (
        "2008-11-24",
        datetime(2026, 11, 23, 16, 0, tzinfo=UTC),
        True,
    ),
    "a second before midnight in China": ("2008-11-24", datetime(2026, 11, 23, 15, 59, 59, tzinfo=UTC), False),
    "born on 29 February, on 28 February of a year without": ("2008-02-29", datetime(2026, 2, 28, tzinfo=UTC), False),
    "born on 29 February, on 1 March": ("2008-02-29", datetime(2026, 3, 1, tzinfo=UTC), True),
}


@pytest.mark.parametrize(("born", "now", "holds"), AGES.values(), ids=AGES.keys())
def test_eighteen(born: str, now: datetime, holds: bool) -> None:
    assert answer(AgeAtLeast(18), {"birthdate": born}, now) is holds


THRESHOLDS: Final[Mapping[str, tuple[Mapping[str, bool], bool]]] = {
    "the threshold itself": ({"18": True}, True),
    "not the threshold": ({"18": False}, False),
    "a higher one": ({"65": True}, True),
    "a lower one that does not hold": ({"16": False}, False),
    "between two": ({"16": True, "18": True, "65": False}, True),
}


@pytest.mark.parametrize(("stated", "holds"), THRESHOLDS.values(), ids=THRESHOLDS.keys())
def test_a_threshold_tells(stated: Mapping[str, bool], holds: bool) -> None:
    assert answer(AgeAtLeast(18), {"age_equal_or_over": stated}, NOON) is holds


def test_a_birth_date_says_more_than_a_threshold_that_was_true_once() -> None:
    claims = {"birthdate": "2008-11-23", "age_equal_or_over": {"18": False}}
    assert answer(AgeAtLeast(18), claims, NOON)


def test_thresholds_that_do_not_tell_are_no_answer() -> None:
    for stated in ({}, {"16": True}, {"21": False}):
        assert refused(AgeAtLeast(18), {"age_equal_or_over": stated}) is Reason.REQUIRED_CLAIM_MISSING


@pytest.mark.parametrize(
    "born", ["20080101", "2099-01-01", "2008-13-01", "2008-02-30", 2008, "2008-1-1", "二〇〇八"], ids=str
)
def test_what_is_no_birth_date_is_refused(born: object) -> None:
    assert refused(AgeAtLeast(18), {"birthdate": born}) is Reason.CLAIM_INVALID


@pytest.mark.parametrize(
    "stated", [[], "18", {"18": 1}, {"x": True}, {"-1": True}, {"018": True}, {"18": False, "21": True}], ids=str
)
def test_what_is_no_table_of_ages_is_refused(stated: object) -> None:
    assert refused(AgeAtLeast(18), {"age_equal_or_over": stated}) is Reason.CLAIM_INVALID


@given(st.dates(min_value=datetime(1900, 1, 1).date(), max_value=NOON.date()), st.integers(1, 150))  # noqa: DTZ001 - a calendar date
def test_who_is_so_old_is_also_a_year_younger(born: Any, years: int) -> None:
    claims = {"birthdate": born.isoformat()}
    if years > 1 and answer(AgeAtLeast(years), claims, NOON):
        assert answer(AgeAtLeast(years - 1), claims, NOON)


def test_the_household_is_where_it_is_registered_now() -> None:
    # The number begins with 34; the household is Shanghai's.
    claims = {"hukou_region": "310101", "id_number": "340104190001010016"}
    assert answer(HouseholdIn(frozenset({SH, JS})), claims, NOON)
    assert not answer(HouseholdIn(frozenset({AH})), claims, NOON)
    assert not answer(HouseholdIn(frozenset(Province)), {"hukou_region": "440305"}, NOON)


@pytest.mark.parametrize("region", ["31010", "3101011", "31010x", 310101, None], ids=str)
def test_what_is_no_division_is_refused(region: object) -> None:
    assert refused(HouseholdIn(frozenset({SH})), {"hukou_region": region}) is Reason.CLAIM_INVALID


def test_a_claim_matches_character_by_character() -> None:
    claims = {"name": "徐某"}
    assert answer(ClaimMatches("name", "徐某"), claims, NOON)
    for other in ("徐", "徐某 ", "徐某某", "许某"):
        assert not answer(ClaimMatches("name", other), claims, NOON)
    assert refused(ClaimMatches("name", "7"), {"name": 7}) is Reason.CLAIM_INVALID


def test_the_matter_says_what_may_be_asked() -> None:
    asks_ages = replace(MATTER, questions=frozenset({Question.AGE_AT_LEAST}), comparable_claims=frozenset({"name"}))
    assert may_ask(asks_ages, AgeAtLeast(18))
    assert may_ask(asks_ages, ClaimMatches("name", "x"))
    assert not may_ask(asks_ages, HouseholdIn(frozenset({SH})))
    assert not may_ask(asks_ages, ClaimMatches("id_number", "x"))


# -- through a whole verification -------------------------------------------------------------------------------------


def asking(*predicates: Predicate) -> Attempt:
    attempt = Attempt.credential()
    attempt.matter = replace(
        attempt.matter,
        required_claims=frozenset(),
        released_claims=frozenset(),
        questions=frozenset(Question),
        comparable_claims=frozenset({"name", "id_number"}),
    )
    attempt.predicates = predicates
    return attempt


def test_the_answer_comes_without_the_attribute() -> None:
    accepted = asking(AgeAtLeast(18), HouseholdIn(frozenset({AH})), ClaimMatches("name", "徐某")).judge()
    assert accepted.answers == (True, False, True)
    assert accepted.attributes == {}
    assert accepted.household_province == ""  # which the matter may not know


@pytest.mark.parametrize(
    ("predicate", "hidden"),
    [
        (AgeAtLeast(18), "birthdate"),
        (HouseholdIn(frozenset({SH})), "hukou_region"),
        (ClaimMatches("name", "徐某"), "name"),
    ],
    ids=["age", "household", "name"],
)
def test_not_told_is_not_no(predicate: Predicate, hidden: str) -> None:
    attempt = asking(predicate)
    assert attempt.is_accepted()
    kept = {"name": "徐某", "hukou_region": "310101", "birthdate": "1900-01-01"}
    del kept[hidden]
    attempt = asking(predicate)
    attempt.hide(kept)
    assert attempt.refusal() is Reason.REQUIRED_CLAIM_MISSING


def test_one_threshold_is_shown_and_no_other() -> None:
    attempt = asking(AgeAtLeast(18))
    attempt.hide({"age_equal_or_over": {"18": True}})
    assert attempt.judge().answers == (True,)
