"""How a decision came about, from what is kept of it; and that nothing of the person is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.agreement import Assurance, Party, SubjectType
from gateway.core.explanation import ORDER, Decision, ExplainedStep, Outcome, explain, fix
from gateway.core.findings import Findings, Step
from gateway.core.jose import Algorithm
from gateway.core.reasons import Indeterminate, Reason, Rejected
from tests.core.presentations import (
    ISSUER,
    ISSUER_KEY,
    NOW,
    Attempt,
    Change,
    demanding,
    making,
    setting,
)

CANARIES: Final[Mapping[str, Any]] = {
    "name": "金丝雀姓名",
    "id_type": "resident_id",
    "id_number": "340104190001010016",
    "hukou_region": "330106",
    "birthdate": "1900-12-31",
    "金丝雀名目": "金丝雀值",
}
SECRETS: Final = (
    "金丝雀",
    "340104190001010016",
    "330106",
    "1900-12-31",
    "canary-sub",
    "canary-jti",
    "canary-kid",
    "canary.example",
    "urn:canary",
)


def decided(attempt: Attempt) -> Decision:
    verdict, reason = "accepted", None
    try:
        attempt.judge()
    except Rejected as rejection:
        verdict, reason = "rejected", rejection.reason
    except Indeterminate as indeterminate:
        verdict, reason = "indeterminate", indeterminate.reason
    return Decision(
        service="https://service.example",
        matter="HK-QY",
        verdict=verdict,
        reason=reason,
        charter_version=7,
        view_id="view",
        findings=Findings.from_members(attempt.findings.to_members()),
    )


def by_step(decision: Decision) -> Mapping[Step, ExplainedStep]:
    return {each.step: each for each in explain(decision)}


DECIDING: Final[Mapping[str, tuple[Change, Step, Outcome]]] = {
    "not readable": (making(rewrite=lambda text: text.replace("~", "~~", 1)), Step.STRUCTURE, Outcome.FAILED),
    "unknown key": (making(header={"kid": "canary-kid"}), Step.KEY, Outcome.FAILED),
    "unknown issuer": (setting(iss="https://canary.example"), Step.KEY, Outcome.FAILED),
    "stale trust": (
        lambda attempt: setattr(attempt.view, "failure", Indeterminate(Reason.TRUST_STALE, "old")),
        Step.KEY,
        Outcome.UNDECIDED,
    ),
    "bad signature": (
        making(rewrite=lambda text: text.replace("~", "A~", 1) if "." in text else text),
        Step.SIGNATURE,
        Outcome.FAILED,
    ),
    "expired": (making(now=NOW + timedelta(days=2)), Step.STATEMENT, Outcome.FAILED),
    "unknown acr": (setting(acr="urn:canary"), Step.STATEMENT, Outcome.FAILED),
    "a disclosure too many": (lambda attempt: attempt.disclosures.append("W10"), Step.DISCLOSURES, Outcome.FAILED),
    "of another audience": (making(binding={"aud": "https://canary.example"}), Step.BINDING, Outcome.FAILED),
    "too low": (
        demanding(min_assurance=Assurance(identity=3, authenticator=3, federation=3), key_binding=False),
        Step.POLICY,
        Outcome.FAILED,
    ),
    "without status": (demanding(status_required=True), Step.STATUS, Outcome.FAILED),
}


def planted() -> Attempt:
    attempt = Attempt.credential()
    attempt.payload["sub"] = "canary-sub"
    attempt.payload["jti"] = "canary-jti-of-16-chars"
    attempt.hide(CANARIES)
    return attempt


@pytest.mark.parametrize(("change", "step", "outcome"), DECIDING.values(), ids=DECIDING.keys())
def test_the_deciding_step_is_named_with_reason_meaning_and_fix(change: Change, step: Step, outcome: Outcome) -> None:
    attempt = planted()
    change(attempt)
    if step is Step.POLICY:
        attempt.without_binding()
    decision = decided(attempt)
    steps = by_step(decision)
    assert steps[step].outcome is outcome
    assert steps[step].reason is decision.reason
    for words in (steps[step].meaning, steps[step].fix):
        assert words is not None
        assert words.zh != words.en
    place = ORDER.index(step)
    assert {steps[each].outcome for each in ORDER[:place]} <= {Outcome.PASSED, Outcome.NOT_NEEDED}
    assert {steps[each].outcome for each in ORDER[place + 1 : -2]} <= {Outcome.NOT_REACHED}
    # Whatever was decided was recorded and answered.
    assert (steps[Step.LEDGER].outcome, steps[Step.ANSWER].outcome) == (Outcome.PASSED, Outcome.PASSED)
    assert [each for each in steps.values() if each.reason is not None] == [steps[step]]


@pytest.mark.parametrize(("change", "step", "outcome"), DECIDING.values(), ids=DECIDING.keys())
def test_nothing_of_the_person_is_kept_or_told(change: Change, step: Step, outcome: Outcome) -> None:
    attempt = planted()
    change(attempt)
    decision = decided(attempt)
    told = f"{attempt.findings.to_members()} {explain(decision)!r}"
    assert [secret for secret in SECRETS if secret in told] == []


def test_an_accepted_one_passed_everything_and_names_what_it_rests_on() -> None:
    decision = decided(planted())
    assert decision.verdict == "accepted"
    steps = by_step(decision)
    assert {each.outcome for each in steps.values()} == {Outcome.PASSED, Outcome.NOT_NEEDED}
    assert steps[Step.STATUS].outcome is Outcome.NOT_NEEDED
    inputs = steps[Step.KEY].inputs
    assert (inputs["issuer"], inputs["kid"]) == (ISSUER, ISSUER_KEY.public.kid)
    assert inputs["anchors"] == "https://anchor.js.example, https://anchor.sh.example"
    assert (inputs["charter_version"], inputs["view_id"]) == ("7", "view")
    assert steps[Step.STATEMENT].inputs["asserted"] == "ial 3, aal 3, fal 3"
    told = f"{decision.findings.to_members()} {explain(decision)!r}"
    assert [secret for secret in SECRETS if secret in told] == []


def test_a_replayed_one_fails_at_the_ledger() -> None:
    decision = replace(decided(planted()), verdict="rejected", reason=Reason.REPLAYED)
    decision.findings.step = Step.LEDGER
    steps = by_step(decision)
    assert steps[Step.LEDGER].outcome is Outcome.FAILED
    assert steps[Step.LEDGER].reason is Reason.REPLAYED
    assert steps[Step.ANSWER].outcome is Outcome.PASSED


def test_every_reason_has_a_mend_in_both_languages() -> None:
    for reason in Reason:
        words = fix(reason)
        assert words.zh
        assert words.en
        assert words.zh != words.en


# -- what is written --------------------------------------------------------------------------------------------------

MOMENTS = st.one_of(st.none(), st.integers(0, 10**6).map(lambda seconds: NOW + timedelta(seconds=seconds)))
LEVELS = st.integers(1, 3)
NAMES = st.frozensets(st.sampled_from(["name", "id_number", "ethnicity"]))


@given(
    st.builds(
        Findings,
        step=st.sampled_from(list(Step)),
        issuer=st.sampled_from(["", ISSUER]),
        anchors=st.lists(st.sampled_from(["a", "b"])).map(tuple),
        trusted_until=MOMENTS,
        algorithm=st.one_of(st.none(), st.sampled_from(list(Algorithm))),
        asserted=st.one_of(st.none(), st.builds(Assurance, identity=LEVELS, authenticator=LEVELS, federation=LEVELS)),
        issued_at=MOMENTS,
        subject_type=st.one_of(st.none(), st.sampled_from(list(SubjectType))),
        party=st.one_of(st.none(), st.sampled_from(list(Party))),
        in_scope=st.booleans(),
        disclosed=NAMES,
        asked=NAMES,
        holder_bound=st.booleans(),
        status=st.one_of(st.none(), st.integers(0, 3)),
        status_issued_at=MOMENTS,
    )
)
def test_what_is_written_is_read_back(findings: Findings) -> None:
    members = findings.to_members()
    assert Findings.from_members(json.loads(json.dumps(members))) == findings
    assert Findings.from_members(members).to_members() == members


@pytest.mark.parametrize("text", ['{"format":2}', "{}", '{"format":1,"subject":"x"}'])
def test_what_another_program_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="findings"):
        Findings.from_members(json.loads(text))
