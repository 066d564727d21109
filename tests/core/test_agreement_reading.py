"""What a change of the agreement means: whether it loosens or tightens, and of which matter it speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from gateway.core.agreement import parse_agreement
from gateway.core.agreement_reading import Effect, Reading, effects, read_changes
from gateway.core.charter_diff import diff_agreements
from tests.core.charters import agreement_claims, delete_at, set_at

LOOSENS, TIGHTENS, NEUTRAL = Effect.LOOSENS, Effect.TIGHTENS, Effect.NEUTRAL
MATTER: Final = ("matters", 0)
ISSUER: Final = ("issuers", 0)
COMPARABLE: Final = (*MATTER, "comparable_claims")
WORDS: Final = {"zh": "同意书", "en": "consent"}
Path = tuple[str | int, ...]


def readings(old: dict[str, Any], new: dict[str, Any]) -> tuple[Reading, ...]:
    before, after = parse_agreement(old), parse_agreement(new)
    return read_changes(diff_agreements(before, after), before, after)


def made(*changes: tuple[Path, object]) -> dict[str, Any]:
    claims = agreement_claims()
    for path, value in changes:
        set_at(claims, path, value)
    return claims


# Of each: one side, the other, and what it is to go from the first to the second. The way back does the opposite.
ONE_WAY: dict[str, tuple[Path, object, object, Effect]] = {
    "a floor": ((*MATTER, "min_assurance", "aal"), 2, 1, LOOSENS),
    "key binding": ((*MATTER, "key_binding"), True, False, LOOSENS),
    "age of credentials": ((*MATTER, "max_credential_age_seconds"), 60, 61, LOOSENS),
    "age of log-ins": ((*MATTER, "max_authentication_age_seconds"), 60, 61, LOOSENS),
    "required claims": ((*MATTER, "required_claims"), ["name"], [], LOOSENS),
    "released claims": ((*MATTER, "released_claims"), ["name"], ["name", "hukou_region"], LOOSENS),
    "parties": ((*MATTER, "parties"), ["guardian"], ["self", "guardian"], LOOSENS),
    "released of the actor": ((*MATTER, "actor_released_claims"), [], ["name"], LOOSENS),
    "required of the actor": ((*MATTER, "actor_required_claims"), ["name"], [], LOOSENS),
    "questions": ((*MATTER, "questions"), [], ["household_in"], LOOSENS),
    "comparisons": ((*MATTER, "comparable_claims"), [], ["id_number"], LOOSENS),
    "status": ((*MATTER, "status_required"), True, False, LOOSENS),
    "age of the status": ((*MATTER, "max_status_age_seconds"), 900, 901, LOOSENS),
    "retention": ((*MATTER, "retention_seconds"), 0, 1, LOOSENS),
    "consent": ((*MATTER, "consent"), WORDS, None, LOOSENS),
    "a cap": ((*ISSUER, "cap", "aal"), 2, 3, LOOSENS),
    "a level of a name": ((*ISSUER, "equivalence", "urn:yrd:loa:3", "aal"), 1, 2, LOOSENS),
    "a new name": ((*ISSUER, "equivalence"), {"urn:yrd:loa:4": {"ial": 3, "aal": 2, "fal": 3}}, ..., LOOSENS),
    "a sunset": ((*ISSUER, "algorithms", 1, "sunset"), 1_800_000_000, None, LOOSENS),
    "a later sunset": ((*ISSUER, "algorithms", 1, "sunset"), 1_800_000_000, 1_800_000_001, LOOSENS),
    "an algorithm": ((*ISSUER, "algorithms"), [{"name": "ES256", "sunset": None}], ..., LOOSENS),
    "frameworks": (("assurance_levels",), ["low"], ["low", "high"], LOOSENS),
    "skew": (("clock_skew_seconds",), 10, 60, LOOSENS),
    "grace": (("stale_grace_seconds",), 10, 60, LOOSENS),
    "lifetime of credentials": (("max_credential_lifetime_seconds",), 86_400, 86_401, LOOSENS),
    "lifetime of assertions": (("max_assertion_lifetime_seconds",), 100, 101, LOOSENS),
    "age of proofs": (("max_key_binding_age_seconds",), 100, 101, LOOSENS),
    "a step of the scale": (("levels", 1, "floor", "ial"), 3, 2, LOOSENS),
}
_OPPOSITE: Final = {LOOSENS: TIGHTENS, TIGHTENS: LOOSENS}


def put(path: Path, value: object) -> dict[str, Any]:
    return agreement_claims() if value is ... else made((path, value))


@pytest.mark.parametrize(("path", "one", "other", "effect"), ONE_WAY.values(), ids=ONE_WAY)
def test_what_loosens_one_way_tightens_the_other(path: Path, one: object, other: object, effect: Effect) -> None:
    first, second = put(path, one), put(path, other)
    assert [each.effect for each in readings(first, second)] == [effect]
    assert [each.effect for each in readings(second, first)] == [_OPPOSITE[effect]]


NO_WAY: dict[str, tuple[Path, object]] = {
    "a name": ((*MATTER, "name_en"), "Migration"),
    "words of the law": ((*MATTER, "legal_basis", "en"), "PIPL"),
    "words of a term": (("terms", "name", "en"), "full name"),
    "words of the scale": (("levels", 0, "name", "en"), "registered"),
}


@pytest.mark.parametrize(("path", "value"), NO_WAY.values(), ids=NO_WAY)
def test_other_words_are_neutral(path: Path, value: object) -> None:
    (reading,) = readings(agreement_claims(), made((path, value)))
    assert reading.effect is NEUTRAL
    (reading,) = readings(made((path, value)), agreement_claims())
    assert reading.effect is NEUTRAL


def test_other_words_for_the_same_consent_are_neutral() -> None:
    old = made(((*MATTER, "consent"), WORDS))
    (reading,) = readings(old, made(((*MATTER, "consent"), {**WORDS, "en": "pledge"})))
    assert reading.effect is NEUTRAL


def test_what_lets_in_one_thing_for_another_loosens_both_ways() -> None:
    old, new = made((COMPARABLE, ["id_number"])), made((COMPARABLE, ["hukou_region"]))
    for one, other in ((old, new), (new, old)):
        (reading,) = readings(one, other)
        assert reading.effect is LOOSENS


def another_matter(claims: dict[str, Any]) -> None:
    claims["matters"].append({**claims["matters"][0], "code": "DZ-LZ"})


def another_issuer(claims: dict[str, Any]) -> None:
    claims["issuers"].append({**claims["issuers"][0], "entity_id": "https://js.example"})


@pytest.mark.parametrize(
    ("add", "matter"), [(another_matter, "DZ-LZ"), (another_issuer, None)], ids=["matter", "issuer"]
)
def test_a_new_entry_loosens_and_one_that_goes_tightens(
    add: Callable[[dict[str, Any]], None], matter: str | None
) -> None:
    more = agreement_claims()
    add(more)
    (came,) = readings(agreement_claims(), more)
    (went,) = readings(more, agreement_claims())
    assert [(each.effect, each.matter) for each in (came, went)] == [(LOOSENS, matter), (TIGHTENS, matter)]


def test_a_name_of_a_level_that_goes_tightens() -> None:
    new = agreement_claims()
    delete_at(new, (*ISSUER, "equivalence", "urn:yrd:loa:3"))
    (reading,) = readings(agreement_claims(), new)
    assert (reading.effect, reading.matter) == (TIGHTENS, None)


def test_the_words_name_the_matter_in_both_languages_and_what_is_added_and_dropped() -> None:
    old, new = made((COMPARABLE, ["id_number"])), made((COMPARABLE, ["hukou_region"]))
    (reading,) = readings(old, new)
    assert reading.matter == "HK-QY"
    for words, title in ((reading.words.zh, "跨省户口网上迁移"), (reading.words.en, "Online household migration")):
        for expected in ("HK-QY", title, "id_number", "hukou_region"):
            assert expected in words


def test_of_each_matter_its_effects_are_given_without_neutral_ones() -> None:
    old, new = agreement_claims(), agreement_claims()
    for claims in (old, new):
        claims["matters"] += [{**claims["matters"][0], "code": code} for code in ("DZ-LZ", "KY-LA", "XS-RH")]
    for path, value in (
        (("matters", 0, "key_binding"), False),
        (("matters", 0, "max_status_age_seconds"), 300),
        (("matters", 1, "retention_seconds"), 0),
        (("matters", 2, "name_en"), "Filing"),
        (("issuers", 0, "cap", "aal"), 3),
    ):
        set_at(new, path, value)
    assert effects(readings(old, new)) == {"HK-QY": {LOOSENS, TIGHTENS}, "DZ-LZ": {TIGHTENS}}
    assert effects(readings(old, old)) == {}
