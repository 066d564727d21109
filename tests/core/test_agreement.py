"""The recognition agreement: every bound, and every error naming its place."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.agreement import Agreement, Assurance, parse_agreement
from gateway.core.jose import Algorithm
from gateway.core.reasons import Reason, Rejected
from tests.core.charters import agreement_claims, delete_at, set_at

MATTER = ("matters", 0)
ISSUER = ("issuers", 0)
LEVELS = {"ial": 1, "aal": 1, "fal": 1}


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
    assert terms.algorithms == {Algorithm.ES256, Algorithm.ED25519}
    assert terms.equivalence["urn:yrd:loa:3"] == Assurance(identity=2, authenticator=2, federation=3)
    assert agreement.clock_skew == timedelta(seconds=60)
    assert agreement.max_credential_lifetime == timedelta(days=400)


def test_agreement_cannot_be_changed() -> None:
    agreement = parse_agreement(agreement_claims())
    terms = agreement.issuers["https://sh.example"]
    for mapping in (agreement.matters, agreement.issuers, terms.equivalence):
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
    "an unknown member of a matter": ((*MATTER, "retention"), 1, "agreement.matters[0]"),
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
    "no legal basis": ((*MATTER, "legal_basis"), "", "agreement.matters[0].legal_basis"),
    "no issuers": (("issuers",), [], "agreement.issuers"),
    "the same issuer twice": (("issuers", "..."), agreement_claims()["issuers"][0], "agreement.issuers[1]"),
    "an issuer without identifier": ((*ISSUER, "entity_id"), "", "agreement.issuers[0].entity_id"),
    "no algorithms": ((*ISSUER, "algorithms"), [], "agreement.issuers[0].algorithms"),
    "algorithm none": ((*ISSUER, "algorithms"), ["none"], "agreement.issuers[0].algorithms"),
    "algorithm HS256": ((*ISSUER, "algorithms"), ["ES256", "HS256"], "agreement.issuers[0].algorithms"),
    "algorithm es256": ((*ISSUER, "algorithms"), ["es256"], "agreement.issuers[0].algorithms"),
    "the old name EdDSA": ((*ISSUER, "algorithms"), ["EdDSA"], "agreement.issuers[0].algorithms"),
    "an algorithm twice": ((*ISSUER, "algorithms"), ["ES256", "ES256"], "agreement.issuers[0].algorithms"),
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
    """Every member of every object of the agreement, but for the acr values, which are data."""
    if isinstance(value, list):
        return [place for i, item in enumerate(value) for place in places(item, (*way, i))]
    if not isinstance(value, dict):
        return []
    here = [] if way[-1:] == ("equivalence",) else [(*way, name) for name in value]
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
    "a claim in two languages": ((*MATTER, "released_claims"), ["name", "name#zh-Hans-CN"]),
    "every algorithm": ((*ISSUER, "algorithms"), [algorithm.value for algorithm in Algorithm]),
    "an equivalence at the cap": ((*ISSUER, "equivalence", "urn:yrd:loa:4"), {"ial": 3, "aal": 2, "fal": 3}),
    "a name in another script": ((*MATTER, "name_zh"), "བོད་ཡིག"),
}


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
