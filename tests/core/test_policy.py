"""What the agreement demands, number by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from gateway.core.agreement import Assurance
from gateway.core.jose import Algorithm
from gateway.core.reasons import Reason
from tests.core.presentations import (
    AGREEMENT,
    HIGHEST,
    MATTER,
    NOW,
    Attempt,
)

DAY: Final = timedelta(days=1)


def test_an_algorithm_counts_until_its_sunset_and_not_after() -> None:
    attempt = Attempt.credential()
    attempt.view.with_terms(algorithms={Algorithm.ES256: NOW + timedelta(seconds=1)})
    assert attempt.is_accepted()
    attempt.view.with_terms(algorithms={Algorithm.ES256: NOW})
    assert attempt.refusal() is Reason.ALGORITHM_NOT_ALLOWED


@pytest.mark.parametrize("number", ["identity", "authenticator", "federation"])
def test_each_number_is_held_against_the_floor_by_itself(number: str) -> None:
    two = Assurance(identity=2, authenticator=2, federation=2)
    attempt = Attempt.credential()
    attempt.payload["assurance"] = {"ial": 2, "aal": 2, "fal": 2}
    attempt.matter = replace(MATTER, min_assurance=two)
    assert attempt.is_accepted()
    attempt.matter = replace(MATTER, min_assurance=replace(two, **{number: 3}))
    assert attempt.refusal() is Reason.ASSURANCE_TOO_LOW


LEVELS: Final[Mapping[Assurance, int]] = {
    HIGHEST: 3,
    Assurance(identity=3, authenticator=3, federation=2): 2,
    Assurance(identity=2, authenticator=2, federation=2): 2,
    Assurance(identity=3, authenticator=1, federation=3): 1,
}


@pytest.mark.parametrize(("assurance", "level"), LEVELS.items())
def test_the_overall_level_is_the_highest_whose_floor_is_met(assurance: Assurance, level: int) -> None:
    assert AGREEMENT.level(assurance) == level


def test_below_the_scale_is_level_0() -> None:
    only_high = replace(AGREEMENT, levels=AGREEMENT.levels[2:])
    assert only_high.level(Assurance(identity=1, authenticator=1, federation=1)) == 0
