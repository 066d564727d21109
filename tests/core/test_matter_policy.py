"""What a matter demands of a credential that is otherwise good, and what it gets to see."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.agreement import Assurance
from gateway.core.reasons import Reason, Rejected
from gateway.core.release import check_attributes
from tests.core.presentations import (
    ATTRIBUTES,
    BOTH,
    HIGHEST,
    LOWER_ACR,
    ONLINE_MATTER,
    Attempt,
    Make,
    changed,
    demanding,
    setting,
)

# -- assurance and policy ---------------------------------------------------------------------------------------------


@BOTH
def test_hand_over_without_binding_is_worth_less(make: Make) -> None:
    attempt = make().without_binding()
    if not attempt.tilde:
        del attempt.payload["cnf"]
    attempt.matter = ONLINE_MATTER
    assert attempt.judge().assurance == Assurance(identity=3, authenticator=3, federation=2)
    attempt.matter = replace(ONLINE_MATTER, min_assurance=Assurance(identity=1, authenticator=1, federation=3))
    assert attempt.refusal() is Reason.ASSURANCE_TOO_LOW


@pytest.mark.parametrize(("level", "name"), [("ial", "identity"), ("aal", "authenticator"), ("fal", "federation")])
@BOTH
def test_one_level_below_the_floor_is_too_low(make: Make, level: str, name: str) -> None:
    attempt = make()
    attempt.payload["assurance"][level] = getattr(attempt.matter.min_assurance, name) - 1
    assert attempt.refusal() is Reason.ASSURANCE_TOO_LOW


@pytest.mark.parametrize("level", ["identity", "authenticator", "federation"])
@BOTH
def test_51_level_above_the_issuers_cap_is_refused_and_not_clamped(make: Make, level: str) -> None:
    attempt = make()
    attempt.matter = replace(ONLINE_MATTER, min_assurance=Assurance(identity=1, authenticator=1, federation=1))
    attempt.view.with_terms(cap=replace(HIGHEST, **{level: 2}))
    assert attempt.refusal() is Reason.ASSURANCE_ABOVE_CAP


@BOTH
def test_51_level_above_what_the_acr_stands_for_is_refused(make: Make) -> None:
    assert changed(make(), setting(acr=LOWER_ACR)).refusal() is Reason.ASSURANCE_ABOVE_CAP


@pytest.mark.parametrize(
    ("limit", "age", "reason"),
    [
        ("max_credential_age", 100, Reason.CREDENTIAL_TOO_OLD),
        ("max_authentication_age", 160, Reason.AUTHENTICATION_TOO_OLD),
    ],
)
@BOTH
def test_age_counts_to_the_second(make: Make, limit: str, age: int, reason: Reason) -> None:
    attempt = make()
    assert changed(attempt, demanding(**{limit: timedelta(seconds=age)})).is_accepted()
    changed(attempt, demanding(**{limit: timedelta(seconds=age - 1)}))
    assert attempt.refusal() is reason


@pytest.mark.parametrize("value", [None, "", [], {}], ids=["null", "empty text", "empty array", "empty object"])
def test_required_claim_that_states_nothing_is_missing(value: Any) -> None:
    attempt = Attempt.credential()
    attempt.hide({**ATTRIBUTES, "name": value})
    assert attempt.refusal() is Reason.REQUIRED_CLAIM_MISSING


def test_required_claim_kept_back_is_missing() -> None:
    attempt = Attempt.credential()
    del attempt.disclosures[0]
    assert attempt.refusal() is Reason.REQUIRED_CLAIM_MISSING


def test_claim_that_is_null_is_not_released() -> None:
    attempt = Attempt.credential()
    attempt.hide({"name": "徐某", "hukou_region": None})
    assert attempt.judge().attributes == {"name": "徐某"}


# -- attributes with a syntax -----------------------------------------------------------------------------------------

MALFORMED_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "ID number with a wrong check character": {"id_number": "310101190001010012"},
    "ID number that is a number": {"id_number": 310101},
    "ID number of another kind than stated": {"id_type": "hmt_residence_permit"},
    "ID number of an unknown kind": {"id_type": "library_card"},
    "kind of ID number that is no text": {"id_type": ["resident_id"]},
    "passport number that is no text": {"id_type": "passport", "id_number": 1},
    "household region with letters": {"hukou_region": "31010x"},
    "household region of seven digits": {"hukou_region": "3101011"},
}


@pytest.mark.parametrize("attributes", MALFORMED_ATTRIBUTES.values(), ids=MALFORMED_ATTRIBUTES.keys())
@BOTH
def test_malformed_attribute_is_refused_where_it_would_be_released(make: Make, attributes: dict[str, Any]) -> None:
    attempt = make()
    if attempt.tilde:
        attempt.hide({**ATTRIBUTES, **attributes})
    else:
        attempt.attributes.update(attributes)
    assert attempt.refusal() is Reason.CLAIM_INVALID
    attempt.matter = replace(attempt.matter, released_claims=frozenset({"name"}))
    assert attempt.judge().attributes == {"name": "徐某"}


@pytest.mark.parametrize(
    "attributes",
    [
        {"id_number": "310101190001010011"},
        {"id_type": "hmt_residence_permit", "id_number": "83000019000101002X"},
        {"id_type": "passport", "id_number": "E00000000"},
        {"uscc": "91350100M000100Y43", "hukou_region": "340104"},
        {},
    ],
)
def test_well_formed_attributes_pass(attributes: dict[str, Any]) -> None:
    check_attributes(attributes)


def test_refused_attribute_is_not_repeated() -> None:
    with pytest.raises(Rejected) as caught:
        check_attributes({"id_number": "310101190001010012"})
    assert "310101190001010012" not in f"{caught.value} {caught.value.__cause__}"


def test_id_number_of_another_province_than_the_issuers_is_accepted() -> None:
    # The digits say where the number was first assigned, not who vouches for the person now.
    attempt = Attempt.credential()
    attempt.hide({**ATTRIBUTES, "id_number": "340104190001010016"})
    accepted = attempt.judge()
    assert accepted.province == "sh"
    assert accepted.attributes["id_number"] == "340104190001010016"
