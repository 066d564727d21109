"""Case 111: ten thousand mutations of a valid presentation. None is accepted, and nothing but a verdict comes out."""

from __future__ import annotations

import pytest

from gateway.core.reasons import Rejected
from tests.core.presentations import ATTRIBUTES, BOTH, Attempt, Make, twin
from tests.core.tokens import MUTATIONS, mutated, seeded

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"


def _accepted(attempt: Attempt, presentation: str) -> bool:
    try:
        attempt.judge(presentation)
    except Rejected as rejection:
        detail = rejection.detail
    else:
        return True
    # Case 112: a reason, and a detail that says nothing about the person.
    assert not any(str(value) in detail for value in ATTRIBUTES.values())
    return False


# Ten thousand mutations in every run, a quarter of a million in the long one.
LONG = [pytest.param(seed, marks=pytest.mark.long) for seed in range(4, 100)]
SEEDS = pytest.mark.parametrize("seed", [*range(4), *LONG])


# Mutations of any byte mostly end at the alphabet, so as many stay within it and get further.
@SEEDS
@BOTH
def test_mutated_presentation_is_never_accepted(make: Make, seed: int) -> None:
    rng = seeded(seed)
    attempt = make()
    text = attempt.text()
    for _ in range(MUTATIONS // 4):
        anything = mutated(text.encode(), rng).decode("latin-1")
        at = rng.randrange(len(text))
        plausible = text[:at] + rng.choice(ALPHABET) + text[at + 1 :]
        for other in (anything, plausible):
            assert other == text or not _accepted(attempt, other)


@SEEDS
def test_parts_put_together_otherwise_are_never_accepted(seed: int) -> None:
    rng = seeded(seed)
    attempt = Attempt.credential()
    text = attempt.text()
    again = attempt.text()  # the same presentation signed once more is as good, and nothing between the two is
    pool = [*text.split("~"), *again.split("~"), *Attempt.assertion().text().split("."), ""]
    for _ in range(MUTATIONS // 4):
        parts = text.split("~")
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(parts))
            parts[at : at + rng.randint(0, 1)] = rng.choices(pool, k=rng.randint(0, 2))
        other = "~".join(parts)
        assert other in {text, again} or not _accepted(attempt, other)


def test_every_single_character_of_a_presentation_counts() -> None:
    attempt = Attempt.credential()
    text = attempt.text()
    for at, character in enumerate(text):
        other = text[:at] + ("A" if character != "A" else "B") + text[at + 1 :]
        assert not _accepted(attempt, other)
        assert not _accepted(attempt, text[:at] + text[at + 1 :])


def test_only_the_twin_of_the_proofs_signature_is_accepted() -> None:
    attempt = Attempt.credential()
    sd_jwt, _, proof = attempt.text().rpartition("~")
    token, tilde, disclosures = sd_jwt.partition("~")
    assert _accepted(attempt, f"{sd_jwt}~{twin(proof)}")
    # The issuer's signature is part of what the holder signed.
    assert not _accepted(attempt, f"{twin(token)}{tilde}{disclosures}~{proof}")
