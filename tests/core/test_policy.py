"""What the agreement demands, number by number, and what of a decision is kept to be decided again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from gateway.core.agreement import Assurance, IssuerTerms
from gateway.core.findings import Findings
from gateway.core.jose import Algorithm
from gateway.core.policy import check_policy
from gateway.core.preview import Outcome, Recorded, replay
from gateway.core.reasons import Indeterminate, Reason, Rejected
from tests.core.presentations import (
    AGREEMENT,
    HIGHEST,
    ISSUER,
    MATTER,
    MATTER_CODE,
    NOW,
    TERMS,
    Attempt,
    Change,
    demanding,
    making,
    setting,
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


# -- deciding again ---------------------------------------------------------------------------------------------------


def recorded(attempt: Attempt, change: Change | None = None) -> Recorded:
    """Decide, and give what the log would hold, read back from its text."""
    if change is not None:
        change(attempt)
    verdict, reason = "accepted", None
    try:
        attempt.judge()
    except Rejected as rejection:
        verdict, reason = "rejected", rejection.reason
    except Indeterminate as indeterminate:
        verdict, reason = "indeterminate", indeterminate.reason
    return Recorded(
        matter=attempt.matter.code,
        verdict=verdict,
        reason=reason,
        decided_at=attempt.now,
        findings=Findings.from_json(attempt.findings.to_json()),
    )


def test_what_was_accepted_passes_the_same_agreement_again() -> None:
    for attempt in (Attempt.credential(), Attempt.assertion()):
        again = replace(AGREEMENT, matters={MATTER_CODE: attempt.matter})
        attempt.findings = Findings()
        attempt.judge()
        check_policy(attempt.findings, again, attempt.matter, NOW)


STRICTER: Final[Mapping[str, tuple[Change, Reason]]] = {
    "another type": (
        demanding(credential_types=frozenset({"urn:other"})),
        Reason.CREDENTIAL_TYPE_NOT_ACCEPTED,
    ),
    "a younger credential": (demanding(max_credential_age=timedelta(seconds=99)), Reason.CREDENTIAL_TOO_OLD),
    "a younger log-in": (demanding(max_authentication_age=timedelta(seconds=159)), Reason.AUTHENTICATION_TOO_OLD),
    "another claim": (demanding(required_claims=frozenset({"address"})), Reason.REQUIRED_CLAIM_MISSING),
    "a status": (demanding(status_required=True), Reason.STATUS_MISSING),
}


@pytest.mark.parametrize(("change", "reason"), STRICTER.values(), ids=STRICTER.keys())
def test_a_stricter_agreement_would_have_refused_what_it_then_refuses(change: Change, reason: Reason) -> None:
    decision = recorded(Attempt.credential())
    assert decision.verdict == "accepted"
    stricter = Attempt.credential()
    change(stricter)
    replayed = replay(decision, replace(AGREEMENT, matters={MATTER_CODE: stricter.matter}))
    assert (replayed.outcome, replayed.reason) == (Outcome.REJECTED, reason)
    assert replayed.differs(decision)
    # And so it would: the same presentation under that matter.
    assert stricter.refusal() is reason


def test_lower_caps_and_other_tables_would_have_refused() -> None:
    decision = recorded(Attempt.credential())
    two = Assurance(identity=2, authenticator=2, federation=3)
    for terms, reason in (
        (replace(TERMS, cap=two), Reason.ASSURANCE_ABOVE_CAP),
        (replace(TERMS, equivalence={"urn:other": HIGHEST}), Reason.ASSURANCE_UNKNOWN),
        (replace(TERMS, algorithms={Algorithm.ES384: None}), Reason.ALGORITHM_NOT_ALLOWED),
    ):
        replayed = replay(decision, replace(AGREEMENT, issuers={ISSUER: terms}))
        assert (replayed.outcome, replayed.reason) == (Outcome.REJECTED, reason)
    assert replay(decision, replace(AGREEMENT, issuers={})).reason is Reason.ISSUER_NOT_AUTHORISED


def test_a_matter_that_is_gone_is_not_permitted() -> None:
    decision = recorded(Attempt.credential())
    assert replay(decision, replace(AGREEMENT, matters={})).outcome is Outcome.NOT_PERMITTED


UNTOUCHED: Final[Mapping[str, Change]] = {
    "expired": making(now=NOW + 2 * DAY),
    "of a key that nobody attests": making(header={"kid": "s" * 43}),
    "not readable": making(rewrite=lambda text: text.replace("~", "~~", 1)),
    "of another audience": making(binding={"aud": "https://elsewhere.example"}),
}


@pytest.mark.parametrize("change", UNTOUCHED.values(), ids=UNTOUCHED.keys())
def test_no_agreement_changes_what_is(change: Change) -> None:
    decision = recorded(Attempt.credential(), change)
    assert decision.verdict == "rejected"
    lax = replace(MATTER, key_binding=False, required_claims=frozenset(), max_credential_age=365 * DAY)
    replayed = replay(decision, replace(AGREEMENT, matters={MATTER_CODE: lax}))
    assert (replayed.outcome, replayed.reason) == (Outcome.REJECTED, decision.reason)
    assert not replayed.differs(decision)


def test_what_would_go_on_to_steps_that_never_ran_is_unknown() -> None:
    for change in (setting(acr="urn:yrd:loa:3"), demanding(required_claims=frozenset({"address"}))):
        decision = recorded(Attempt.credential(), change)
        assert decision.verdict == "rejected"
        terms = IssuerTerms(
            algorithms=TERMS.algorithms, cap=HIGHEST, equivalence={"urn:yrd:loa:3": HIGHEST, **TERMS.equivalence}
        )
        lax = replace(
            AGREEMENT, issuers={ISSUER: replace(terms, equivalence={**terms.equivalence, "urn:yrd:loa:3": HIGHEST})}
        )
        replayed = replay(decision, lax)
        assert replayed.outcome is Outcome.UNKNOWN
        assert not replayed.differs(decision)
