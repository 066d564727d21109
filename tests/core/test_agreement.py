"""The recognition agreement: every bound, and every error naming its place."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.core.agreement import (
    RESTRICTED_BY_LAW,
    Agreement,
    Assurance,
    IssuerTerms,
    Party,
    Question,
    SubjectType,
    Words,
    parse_agreement,
    terms_used,
)
from gateway.core.jose import Algorithm
from gateway.core.reasons import Reason, Rejected
from gateway.lab.agreement import example_agreement
from tests.core.charters import agreement_claims, delete_at, set_at

MATTER = ("matters", 0)
ISSUER = ("issuers", 0)
LEVELS = {"ial": 1, "aal": 1, "fal": 1}
WORDS = {"zh": "一", "en": "one"}
SIGNS = (*ISSUER, "algorithms")


def complaint(claims: object) -> str:
    """Where the agreement is refused."""
    with pytest.raises(Rejected) as caught:
        parse_agreement(claims)
    assert caught.value.reason is Reason.CHARTER_INVALID
    return caught.value.detail.partition(": ")[0]


def test_agreement_is_read() -> None:
    agreement = parse_agreement(agreement_claims())
    matter, terms = agreement.matters["HK-QY"], agreement.issuers["https://sh.example"]
    assert (matter.code, matter.name_zh) == ("HK-QY", "跨省户口网上迁移")
    assert matter.min_assurance == Assurance(identity=3, authenticator=2, federation=3)
    assert matter.key_binding is True
    assert (matter.max_credential_age, matter.max_authentication_age) == (timedelta(days=1), timedelta(hours=1))
    assert matter.required_claims == {"name"}
    assert matter.released_claims == {"name", "hukou_region"}
    assert matter.restricted_claims == {"name"}
    assert matter.subject_types == {SubjectType.NATURAL}
    assert matter.parties == {Party.SELF, Party.GUARDIAN}
    assert not matter.actor_required_claims
    assert matter.actor_released_claims == {"name"}
    assert matter.questions == {Question.HOUSEHOLD_IN}
    assert matter.comparable_claims == {"id_number"}
    assert (matter.status_required, matter.max_status_age) == (True, timedelta(minutes=15))
    assert (matter.legal_basis, matter.consent) == (
        Words("个人信息保护法第十三条第一款第三项", "PIPL 13(1)(iii)"),
        None,
    )
    assert matter.retention == timedelta(hours=1)
    assert terms.algorithms == {Algorithm.ES256: None, Algorithm.ED25519: None}
    assert terms.equivalence["urn:yrd:loa:3"] == Assurance(identity=2, authenticator=2, federation=3)
    assert agreement.clock_skew == timedelta(seconds=60)
    assert agreement.max_credential_lifetime == timedelta(days=400)
    assert [step.name.en for step in agreement.levels] == ["real name", "real person"]
    assert agreement.restricted_claims == RESTRICTED_BY_LAW
    assert agreement.terms["self"] == Words("本人", "the person")


def test_agreement_cannot_be_changed() -> None:
    agreement = parse_agreement(agreement_claims())
    terms = agreement.issuers["https://sh.example"]
    for mapping in (agreement.matters, agreement.issuers, agreement.terms, terms.equivalence, terms.algorithms):
        with pytest.raises(TypeError, match="does not support item"):
            mapping["x"] = terms  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        agreement.clock_skew = timedelta(days=1)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("levels", "met"),
    [((2, 2, 2), True), ((3, 3, 3), True), ((1, 3, 3), False), ((3, 1, 3), False), ((3, 3, 1), False)],
)
def test_assurance_meets_a_floor_only_in_every_level(levels: tuple[int, int, int], met: bool) -> None:
    floor = Assurance(identity=2, authenticator=2, federation=2)
    identity, authenticator, federation = levels
    given = Assurance(identity=identity, authenticator=authenticator, federation=federation)
    assert given.meets(floor) is met


Case = tuple[tuple[str | int, ...], object, str]
REFUSED: dict[str, Case] = {
    "an unknown member": (("grace",), 1, "agreement"),
    "an unknown member of a matter": ((*MATTER, "grace"), 1, "agreement.matters[0]"),
    "an unknown member of an issuer": ((*ISSUER, "keys"), [], "agreement.issuers[0]"),
    "an unknown level": ((*MATTER, "min_assurance", "loa"), 1, "agreement.matters[0].min_assurance"),
    "matters that are an object": (("matters",), {}, "agreement.matters"),
    "no matters": (("matters",), [], "agreement.matters"),
    "501 matters": (("matters",), [{}] * 501, "agreement.matters"),
    "a matter that is a string": (("matters", 0), "HK-QY", "agreement.matters[0]"),
    "the same matter twice": (("matters", "..."), agreement_claims()["matters"][0], "agreement.matters[1]"),
    "a code with a space": ((*MATTER, "code"), "HK QY", "agreement.matters[0].code"),
    "a code with a slash": ((*MATTER, "code"), "HK/QY", "agreement.matters[0].code"),
    "a code of 65 characters": ((*MATTER, "code"), "A" * 65, "agreement.matters[0].code"),
    "an empty code": ((*MATTER, "code"), "", "agreement.matters[0].code"),
    "a code that is a number": ((*MATTER, "code"), 1, "agreement.matters[0].code"),
    "an empty name": ((*MATTER, "name_zh"), "", "agreement.matters[0].name_zh"),
    "a name of two lines": ((*MATTER, "name_en"), "a\nb", "agreement.matters[0].name_en"),
    "a name with white space around": ((*MATTER, "name_en"), " a", "agreement.matters[0].name_en"),
    "a name that turns the direction of text": ((*MATTER, "name_en"), "a\u202eb", "agreement.matters[0].name_en"),
    "a name of 501 characters": ((*MATTER, "name_zh"), "户" * 501, "agreement.matters[0].name_zh"),
    "level 0": ((*MATTER, "min_assurance", "ial"), 0, "agreement.matters[0].min_assurance.ial"),
    "level 4": ((*MATTER, "min_assurance", "aal"), 4, "agreement.matters[0].min_assurance.aal"),
    "a level that is a string": ((*MATTER, "min_assurance", "fal"), "2", "agreement.matters[0].min_assurance.fal"),
    "a level that is true": ((*MATTER, "min_assurance", "fal"), True, "agreement.matters[0].min_assurance.fal"),
    "a level that is a fraction": ((*MATTER, "min_assurance", "fal"), 2.0, "agreement.matters[0].min_assurance.fal"),
    "key_binding that is 1": ((*MATTER, "key_binding"), 1, "agreement.matters[0].key_binding"),
    "a credential age of 0": (
        (*MATTER, "max_credential_age_seconds"),
        0,
        "agreement.matters[0].max_credential_age_seconds",
    ),
    "a credential age over 400 days": (
        (*MATTER, "max_credential_age_seconds"),
        34_560_001,
        "agreement.matters[0].max_credential_age_seconds",
    ),
    "an authentication age that is null": (
        (*MATTER, "max_authentication_age_seconds"),
        None,
        "agreement.matters[0].max_authentication_age_seconds",
    ),
    "no credential types": ((*MATTER, "credential_types"), [], "agreement.matters[0].credential_types"),
    "a credential type twice": ((*MATTER, "credential_types"), ["a", "a"], "agreement.matters[0].credential_types"),
    "a credential type with a space": (
        (*MATTER, "credential_types"),
        ["a b"],
        "agreement.matters[0].credential_types[0]",
    ),
    "a required claim that is not released": (
        (*MATTER, "required_claims"),
        ["id_number"],
        "agreement.matters[0].required_claims",
    ),
    "a released sub": ((*MATTER, "released_claims"), ["name", "sub"], "agreement.matters[0].released_claims"),
    "a released cnf": ((*MATTER, "released_claims"), ["name", "cnf"], "agreement.matters[0].released_claims"),
    "a released status": ((*MATTER, "released_claims"), ["name", "status"], "agreement.matters[0].released_claims"),
    "65 released claims": (
        (*MATTER, "released_claims"),
        [f"c{i}" for i in range(65)],
        "agreement.matters[0].released_claims",
    ),
    "neither legal basis nor consent": ((*MATTER, "legal_basis"), None, "agreement.matters[0]"),
    "a legal basis in one language": ((*MATTER, "legal_basis"), {"zh": "法"}, "agreement.matters[0].legal_basis"),
    "a legal basis that is a string": ((*MATTER, "legal_basis"), "法", "agreement.matters[0].legal_basis"),
    "an empty legal basis": ((*MATTER, "legal_basis", "en"), "", "agreement.matters[0].legal_basis.en"),
    "a consent that is empty": ((*MATTER, "consent"), "", "agreement.matters[0].consent"),
    "status_required that is null": ((*MATTER, "status_required"), None, "agreement.matters[0].status_required"),
    "a status age of 0": ((*MATTER, "max_status_age_seconds"), 0, "agreement.matters[0].max_status_age_seconds"),
    "a status age over 7 days": (
        (*MATTER, "max_status_age_seconds"),
        604_801,
        "agreement.matters[0].max_status_age_seconds",
    ),
    "a negative retention": ((*MATTER, "retention_seconds"), -1, "agreement.matters[0].retention_seconds"),
    "a retention over 30 years": (
        (*MATTER, "retention_seconds"),
        948_672_001,
        "agreement.matters[0].retention_seconds",
    ),
    "no subject types": ((*MATTER, "subject_types"), [], "agreement.matters[0].subject_types"),
    "an unknown subject type": ((*MATTER, "subject_types"), ["person"], "agreement.matters[0].subject_types"),
    "no parties": ((*MATTER, "parties"), [], "agreement.matters[0].parties"),
    "an unknown party": ((*MATTER, "parties"), ["self", "friend"], "agreement.matters[0].parties"),
    "a party twice": ((*MATTER, "parties"), ["self", "self"], "agreement.matters[0].parties"),
    "an organisation that presents itself": ((*MATTER, "subject_types"), ["legal"], "agreement.matters[0].parties"),
    "claims of an actor where nobody acts": (
        (*MATTER, "parties"),
        ["self"],
        "agreement.matters[0].actor_released_claims",
    ),
    "a required claim of an actor that is not released": (
        (*MATTER, "actor_required_claims"),
        ["hukou_region"],
        "agreement.matters[0].actor_required_claims",
    ),
    "a released sub of an actor": (
        (*MATTER, "actor_released_claims"),
        ["name", "sub"],
        "agreement.matters[0].actor_released_claims",
    ),
    "a released act": ((*MATTER, "released_claims"), ["name", "act"], "agreement.matters[0].released_claims"),
    "a released sub_type": ((*MATTER, "released_claims"), ["name", "sub_type"], "agreement.matters[0].released_claims"),
    "a comparable sub": ((*MATTER, "comparable_claims"), ["sub"], "agreement.matters[0].comparable_claims"),
    "65 comparable claims": (
        (*MATTER, "comparable_claims"),
        [f"c{i}" for i in range(65)],
        "agreement.matters[0].comparable_claims",
    ),
    "an unknown question": ((*MATTER, "questions"), ["claim_matches"], "agreement.matters[0].questions"),
    "a question twice": (
        (*MATTER, "questions"),
        ["household_in", "household_in"],
        "agreement.matters[0].questions",
    ),
    "a restricted claim that is not named twice": (
        (*MATTER, "restricted_claims"),
        [],
        "agreement.matters[0].restricted_claims",
    ),
    "a restricted claim that is not released": (
        (*MATTER, "restricted_claims"),
        ["name", "id_number"],
        "agreement.matters[0].restricted_claims",
    ),
    "a claim named as restricted that is not": (
        (*MATTER, "restricted_claims"),
        ["name", "hukou_region"],
        "agreement.matters[0].restricted_claims",
    ),
    "restricted claims without one of the law's": (
        ("restricted_claims",),
        sorted(RESTRICTED_BY_LAW - {"id_valid_to"}),
        "agreement.restricted_claims",
    ),
    "a further restricted claim that no matter names twice": (
        ("restricted_claims", "..."),
        "hukou_region",
        "agreement.matters[0].restricted_claims",
    ),
    "no levels": (("levels",), [], "agreement.levels"),
    "10 levels": (("levels",), [{}] * 10, "agreement.levels"),
    "a level twice": (("levels", "..."), agreement_claims()["levels"][1], "agreement.levels[2]"),
    "a level that demands less": (("levels", "..."), agreement_claims()["levels"][0], "agreement.levels[2]"),
    "a level that demands less of one thing": (
        ("levels", "..."),
        {"name": WORDS, "floor": {"ial": 3, "aal": 3, "fal": 1}},
        "agreement.levels[2]",
    ),
    "a level without a name": (("levels", 0, "name"), "", "agreement.levels[0].name"),
    "a level with a floor of 4": (("levels", 1, "floor", "ial"), 4, "agreement.levels[1].floor.ial"),
    "no terms": (("terms",), {}, "agreement.terms"),
    "1001 terms": (("terms",), {f"t{i}": WORDS for i in range(1001)}, "agreement.terms"),
    "a term with a space": (("terms", "a b"), WORDS, "agreement.terms[10]"),
    "a term in one language": (("terms", "name"), {"zh": "姓名"}, "agreement.terms[name]"),
    "a term of two lines": (("terms", "name", "zh"), "姓\n名", "agreement.terms[name].zh"),
    "a framework without words": (("trust_frameworks", "..."), "urn:x", "agreement.terms"),
    "a credential type without words": ((*MATTER, "credential_types", "..."), "urn:x", "agreement.terms"),
    "a party without words": ((*MATTER, "parties", "..."), "lawyer", "agreement.terms"),
    "a released claim without words": ((*MATTER, "released_claims", "..."), "uscc", "agreement.terms"),
    "a released claim of an actor without words": (
        (*MATTER, "actor_released_claims", "..."),
        "uscc",
        "agreement.terms",
    ),
    "a comparable claim without words": ((*MATTER, "comparable_claims", "..."), "uscc", "agreement.terms"),
    "an acr without words": ((*ISSUER, "equivalence", "urn:x"), LEVELS, "agreement.terms"),
    "no issuers": (("issuers",), [], "agreement.issuers"),
    "the same issuer twice": (("issuers", "..."), agreement_claims()["issuers"][0], "agreement.issuers[1]"),
    "an issuer without identifier": ((*ISSUER, "entity_id"), "", "agreement.issuers[0].entity_id"),
    "no algorithms": (SIGNS, [], "agreement.issuers[0].algorithms"),
    "an algorithm that is a string": (SIGNS, ["ES256"], "agreement.issuers[0].algorithms[0]"),
    "algorithm none": ((*SIGNS, 0, "name"), "none", "agreement.issuers[0].algorithms[0].name"),
    "algorithm HS256": (
        (*SIGNS, "..."),
        {"name": "HS256", "sunset": None},
        "agreement.issuers[0].algorithms[2].name",
    ),
    "algorithm es256": ((*SIGNS, 0, "name"), "es256", "agreement.issuers[0].algorithms[0].name"),
    "the old name EdDSA": ((*SIGNS, 0, "name"), "EdDSA", "agreement.issuers[0].algorithms[0].name"),
    "an algorithm twice": (
        (*SIGNS, "..."),
        {"name": "ES256", "sunset": None},
        "agreement.issuers[0].algorithms[2]",
    ),
    "an algorithm twice, with two sunsets": (
        (*SIGNS, "..."),
        {"name": "ES256", "sunset": 1},
        "agreement.issuers[0].algorithms[2]",
    ),
    "a sunset before 1970": ((*SIGNS, 0, "sunset"), -1, "agreement.issuers[0].algorithms[0].sunset"),
    "a sunset after 9999": ((*SIGNS, 0, "sunset"), 253_402_300_800, "agreement.issuers[0].algorithms[0].sunset"),
    "a sunset that is a text": ((*SIGNS, 0, "sunset"), "2030-01-01", "agreement.issuers[0].algorithms[0].sunset"),
    "a sunset that is false": ((*SIGNS, 0, "sunset"), False, "agreement.issuers[0].algorithms[0].sunset"),
    "a cap of 4": ((*ISSUER, "cap", "ial"), 4, "agreement.issuers[0].cap.ial"),
    "no equivalence": ((*ISSUER, "equivalence"), {}, "agreement.issuers[0].equivalence"),
    "an equivalence above the cap": (
        (*ISSUER, "equivalence", "urn:yrd:loa:3"),
        LEVELS | {"aal": 3},
        "agreement.issuers[0].equivalence[urn:yrd:loa:3]",
    ),
    "an equivalence that is a number": (
        (*ISSUER, "equivalence", "urn:yrd:loa:3"),
        3,
        "agreement.issuers[0].equivalence[urn:yrd:loa:3]",
    ),
    "an acr with a space": ((*ISSUER, "equivalence", "loa 3"), LEVELS, "agreement.issuers[0].equivalence[2]"),
    "an empty acr": ((*ISSUER, "equivalence", ""), LEVELS, "agreement.issuers[0].equivalence[2]"),
    "no trust frameworks": (("trust_frameworks",), [], "agreement.trust_frameworks"),
    "assurance levels that are an object": (("assurance_levels",), {"low": 1}, "agreement.assurance_levels"),
    "a skew of 61 s": (("clock_skew_seconds",), 61, "agreement.clock_skew_seconds"),
    "a negative skew": (("clock_skew_seconds",), -1, "agreement.clock_skew_seconds"),
    "a grace over 24 h": (("stale_grace_seconds",), 86_401, "agreement.stale_grace_seconds"),
    "a credential lifetime over 400 days": (
        ("max_credential_lifetime_seconds",),
        34_560_001,
        "agreement.max_credential_lifetime_seconds",
    ),
    "an assertion lifetime over 300 s": (
        ("max_assertion_lifetime_seconds",),
        301,
        "agreement.max_assertion_lifetime_seconds",
    ),
    "an assertion lifetime of 0": (("max_assertion_lifetime_seconds",), 0, "agreement.max_assertion_lifetime_seconds"),
    "a key-binding age over 300 s": (
        ("max_key_binding_age_seconds",),
        301,
        "agreement.max_key_binding_age_seconds",
    ),
    "a key-binding age of 10^400": (
        ("max_key_binding_age_seconds",),
        10**400,
        "agreement.max_key_binding_age_seconds",
    ),
}


@pytest.mark.parametrize(("path", "value", "place"), REFUSED.values(), ids=REFUSED)
def test_agreement_is_refused_for(path: tuple[str | int, ...], value: object, place: str) -> None:
    claims = agreement_claims()
    set_at(claims, path, value)
    assert complaint(claims) == place


def places(value: Any, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every member of every object of the agreement, but for acr values and terms, which are data."""
    if isinstance(value, list):
        return [place for i, item in enumerate(value) for place in places(item, (*way, i))]
    if not isinstance(value, dict):
        return []
    here = [] if way[-1:] in {("equivalence",), ("terms",)} else [(*way, name) for name in value]
    return here + [place for name, item in value.items() for place in places(item, (*way, name))]


@pytest.mark.parametrize("path", places(agreement_claims()), ids=lambda path: ".".join(map(str, path)))
def test_agreement_is_refused_without(path: tuple[str | int, ...]) -> None:
    claims = agreement_claims()
    delete_at(claims, path)
    assert complaint(claims).startswith("agreement")


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_agreement_that_is_no_object_is_refused(value: object) -> None:
    assert complaint(value) == "agreement"


ACCEPTED: dict[str, tuple[tuple[str | int, ...], object]] = {
    "no skew": (("clock_skew_seconds",), 0),
    "no grace": (("stale_grace_seconds",), 0),
    "a grace of 24 h": (("stale_grace_seconds",), 86_400),
    "a matter that releases what it does not require": ((*MATTER, "required_claims"), []),
    "a term that nothing uses": (("terms", "uscc"), WORDS),
    "every algorithm": (SIGNS, [{"name": algorithm.value, "sunset": None} for algorithm in Algorithm]),
    "a sunset in 1970": ((*SIGNS, 0, "sunset"), 0),
    "a sunset in 9999": ((*SIGNS, 0, "sunset"), 253_402_300_799),
    "consent as well": ((*MATTER, "consent"), WORDS),
    "a status age of 7 days": ((*MATTER, "max_status_age_seconds"), 604_800),
    "no retention": ((*MATTER, "retention_seconds"), 0),
    "persons and organisations": ((*MATTER, "subject_types"), ["legal", "natural"]),
    "a guardian alone": ((*MATTER, "parties"), ["guardian"]),
    "no claims of the actor": ((*MATTER, "actor_released_claims"), []),
    "no questions": ((*MATTER, "questions"), []),
    "both questions": ((*MATTER, "questions"), ["age_at_least", "household_in"]),
    "a comparable claim that is released too": ((*MATTER, "comparable_claims"), ["name"]),
    "a further level": (("levels", "..."), {"name": WORDS, "floor": {"ial": 2, "aal": 2, "fal": 3}}),
    "a further restricted claim": (("restricted_claims", "..."), "uscc"),
    "an equivalence at the cap": ((*ISSUER, "equivalence", "urn:yrd:loa:4"), {"ial": 3, "aal": 2, "fal": 3}),
    "a name in another script": ((*MATTER, "name_zh"), "བོད་ཡིག"),
}


def test_agreement_may_rest_on_consent_alone() -> None:
    claims = agreement_claims()
    claims["matters"][0] |= {"legal_basis": None, "consent": WORDS}
    assert parse_agreement(claims).matters["HK-QY"].consent == Words("一", "one")


def test_agreement_may_release_a_claim_in_two_languages() -> None:
    claims = agreement_claims()
    claims["matters"][0]["released_claims"].append("name#zh-Hans-CN")
    claims["terms"]["name#zh-Hans-CN"] = WORDS
    assert "name#zh-Hans-CN" in parse_agreement(claims).matters["HK-QY"].released_claims


def test_organisation_is_presented_by_those_who_act_for_it() -> None:
    claims = agreement_claims()
    claims["matters"][0] |= {"subject_types": ["legal"], "parties": ["agent"]}
    claims["terms"]["agent"] = WORDS
    assert parse_agreement(claims).matters["HK-QY"].parties == {Party.AGENT}


@pytest.mark.parametrize(
    ("sunset", "allowed"),
    [(None, True), (timedelta(seconds=1), True), (timedelta(0), False), (timedelta(seconds=-1), False)],
)
def test_algorithm_counts_until_its_sunset(sunset: timedelta | None, allowed: bool) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    terms = IssuerTerms(
        algorithms={Algorithm.ES256: None if sunset is None else now + sunset},
        cap=Assurance(identity=3, authenticator=3, federation=3),
        equivalence={},
    )
    assert terms.allows(Algorithm.ES256, now) is allowed
    assert not terms.allows(Algorithm.ED25519, now)


@pytest.mark.parametrize(
    ("levels", "step"), [((1, 1, 1), 1), ((2, 2, 2), 2), ((3, 3, 3), 2), ((3, 1, 3), 1), ((2, 2, 1), 1)]
)
def test_overall_level_is_the_highest_that_all_three_reach(levels: tuple[int, int, int], step: int) -> None:
    identity, authenticator, federation = levels
    given = Assurance(identity=identity, authenticator=authenticator, federation=federation)
    assert parse_agreement(agreement_claims()).level(given) == step


def test_below_the_lowest_step_there_is_no_level() -> None:
    claims = agreement_claims()
    del claims["levels"][0]
    assert parse_agreement(claims).level(Assurance(identity=1, authenticator=3, federation=3)) == 0


def test_agreement_of_the_lab_has_ten_matters_and_words_for_all_it_names() -> None:
    agreement = parse_agreement(example_agreement(["https://sh.example"]))
    assert len(agreement.matters) == 10
    assert terms_used(agreement) == agreement.terms.keys()


@pytest.mark.parametrize(("path", "value"), ACCEPTED.values(), ids=ACCEPTED)
def test_agreement_is_accepted_with(path: tuple[str | int, ...], value: object) -> None:
    claims = agreement_claims()
    set_at(claims, path, value)
    assert isinstance(parse_agreement(claims), Agreement)


def test_error_does_not_repeat_a_member_name_that_nobody_could_read() -> None:
    claims = agreement_claims()
    claims["\u202ereversed\n"] = 1
    with pytest.raises(Rejected) as caught:
        parse_agreement(claims)
    assert caught.value.detail.isprintable()
