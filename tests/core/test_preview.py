"""What recorded decisions would have been under another agreement: as it would have been, or not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.core.agreement import Agreement, Assurance, IssuerTerms, Party, Question, Words
from gateway.core.consent import Consent
from gateway.core.findings import Findings, Step
from gateway.core.jose import Algorithm
from gateway.core.predicates import AgeAtLeast, HouseholdIn, may_ask
from gateway.core.preview import Outcome, Recorded, Replayed, replay
from gateway.core.reasons import Indeterminate, Reason, Rejected
from tests.core.presentations import (
    AGREEMENT,
    ATTRIBUTES,
    FRAMEWORK,
    HIGHEST,
    ISSUER,
    LOWER_ACR,
    MATTER,
    MATTER_CODE,
    NOW,
    SERVICE,
    STATUS_LIST,
    TERMS,
    Attempt,
    Change,
    demanding,
    making,
    setting,
)
from tests.core.test_parties import firm, guarded
from tests.core.test_status import credential as with_status
from tests.core.test_status import entries, held

DAY: Final = timedelta(days=1)
TWO: Final = Assurance(identity=2, authenticator=2, federation=2)


def agreement_of(attempt: Attempt) -> Agreement:
    """The agreement by which an attempt is judged."""
    return replace(attempt.view.charter.agreement, matters={MATTER_CODE: attempt.matter})


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
    else:
        attempt.findings.step = Step.LEDGER
    return Recorded(
        matter=attempt.matter.code,
        verdict=verdict,
        reason=reason,
        decided_at=attempt.now,
        findings=Findings.from_members(attempt.findings.to_members()),
    )


def previewed(attempt: Attempt, proposed: Agreement) -> Replayed:
    """Decide, and then again by another agreement."""
    return replay(recorded(attempt), agreement_of(attempt), proposed)


def of_matter(attempt: Attempt, **changes: Any) -> Agreement:
    """The agreement of an attempt, with another matter."""
    return replace(agreement_of(attempt), matters={MATTER_CODE: replace(attempt.matter, **changes)})


# -- what the record tells --------------------------------------------------------------------------------------------


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
    replayed = replay(decision, AGREEMENT, replace(AGREEMENT, matters={MATTER_CODE: stricter.matter}))
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
        replayed = replay(decision, AGREEMENT, replace(AGREEMENT, issuers={ISSUER: terms}))
        assert (replayed.outcome, replayed.reason) == (Outcome.REJECTED, reason)
    assert replay(decision, AGREEMENT, replace(AGREEMENT, issuers={})).reason is Reason.ISSUER_NOT_AUTHORISED


def test_a_matter_that_is_gone_is_not_permitted() -> None:
    decision = recorded(Attempt.credential())
    assert replay(decision, AGREEMENT, replace(AGREEMENT, matters={})).outcome is Outcome.NOT_PERMITTED


def test_a_question_that_may_not_be_asked_any_more_is_not_permitted() -> None:
    attempt = Attempt.credential()
    attempt.matter = replace(MATTER, questions=frozenset({Question.HOUSEHOLD_IN}))
    attempt.predicates = [HouseholdIn(frozenset())]
    assert previewed(attempt, agreement_of(attempt)).outcome is Outcome.ACCEPTED
    assert previewed(attempt, of_matter(attempt, questions=frozenset())).outcome is Outcome.NOT_PERMITTED
    # Whether it was a comparison is not recorded.
    compared = of_matter(attempt, questions=frozenset(), comparable_claims=frozenset({"hukou_region"}))
    assert previewed(attempt, compared).outcome is Outcome.UNKNOWN


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
    replayed = replay(decision, AGREEMENT, replace(AGREEMENT, matters={MATTER_CODE: lax}))
    assert (replayed.outcome, replayed.reason) == (Outcome.REJECTED, decision.reason)
    assert not replayed.differs(decision)


def test_what_would_go_on_to_steps_that_never_ran_is_unknown() -> None:
    for change in (setting(acr="urn:yrd:loa:5"), demanding(required_claims=frozenset({"address"}))):
        attempt = Attempt.credential()
        decision = recorded(attempt, change)
        assert decision.verdict == "rejected"
        terms = IssuerTerms(
            algorithms=TERMS.algorithms, cap=HIGHEST, equivalence={**TERMS.equivalence, "urn:yrd:loa:5": HIGHEST}
        )
        replayed = replay(decision, agreement_of(attempt), replace(AGREEMENT, issuers={ISSUER: terms}))
        assert replayed.outcome is Outcome.UNKNOWN
        assert not replayed.differs(decision)


# -- status -----------------------------------------------------------------------------------------------------------


def too_old() -> Attempt:
    attempt = with_status()
    attempt.lists[STATUS_LIST] = held(issued_at=NOW - timedelta(minutes=16))
    return attempt


def test_a_list_that_a_longer_age_would_have_let_pass_leaves_the_rest_unknown() -> None:
    """Whether the challenge was spent already was never looked at."""
    attempt = too_old()
    assert previewed(attempt, of_matter(attempt, max_status_age=timedelta(minutes=15, seconds=59))) == Replayed(
        outcome=Outcome.INDETERMINATE, reason=Reason.STATUS_UNAVAILABLE
    )
    assert previewed(attempt, of_matter(attempt, max_status_age=timedelta(minutes=16))).outcome is Outcome.UNKNOWN


def test_a_list_that_was_accepted_may_be_too_old_for_the_proposal() -> None:
    attempt = with_status()
    assert previewed(attempt, of_matter(attempt, max_status_age=timedelta(seconds=99))) == Replayed(
        outcome=Outcome.INDETERMINATE, reason=Reason.STATUS_UNAVAILABLE
    )


def test_no_agreement_brings_a_list_that_is_not_held() -> None:
    for required in (True, False):
        attempt = with_status()
        attempt.lists.clear()
        assert previewed(attempt, of_matter(attempt, status_required=required, max_status_age=DAY)) == Replayed(
            outcome=Outcome.INDETERMINATE, reason=Reason.STATUS_UNAVAILABLE
        )


def test_a_status_that_was_not_looked_at_is_not_missing() -> None:
    """It was refused for its age; whether it names a status nobody knows."""
    attempt = Attempt.credential()
    attempt.matter = replace(MATTER, max_credential_age=timedelta(seconds=99))
    proposed = of_matter(attempt, max_credential_age=DAY, status_required=True)
    assert previewed(attempt, proposed).outcome is Outcome.UNKNOWN


def test_by_which_algorithm_a_list_was_signed_is_not_told() -> None:
    attempt = with_status()
    attempt.view.with_terms(algorithms={Algorithm.ES256: None, Algorithm.ES384: None})
    assert previewed(attempt, replace(agreement_of(attempt), issuers={ISSUER: TERMS})).outcome is Outcome.UNKNOWN
    attempt = Attempt.credential()
    attempt.view.with_terms(algorithms={Algorithm.ES256: None, Algorithm.ES384: None})
    assert previewed(attempt, replace(agreement_of(attempt), issuers={ISSUER: TERMS})).outcome is Outcome.ACCEPTED


# -- lifetimes --------------------------------------------------------------------------------------------------------


LIFETIMES: Final = {
    "credential": (Attempt.credential, "max_credential_lifetime", timedelta(seconds=86_500)),
    "assertion": (Attempt.assertion, "max_assertion_lifetime", timedelta(seconds=300)),
}


@pytest.mark.parametrize(("make", "name", "lifetime"), LIFETIMES.values(), ids=LIFETIMES)
def test_a_shorter_lifetime_would_have_refused(make: Callable[[], Attempt], name: str, lifetime: timedelta) -> None:
    attempt = make()
    assert previewed(attempt, of_all(**{name: lifetime})(agreement_of(attempt))).outcome is Outcome.ACCEPTED
    shorter = of_all(**{name: lifetime - timedelta(seconds=1)})(agreement_of(attempt))
    assert previewed(attempt, shorter) == Replayed(outcome=Outcome.REJECTED, reason=Reason.LIFETIME_TOO_LONG)


@pytest.mark.parametrize(("make", "name", "lifetime"), LIFETIMES.values(), ids=LIFETIMES)
def test_a_longer_lifetime_leaves_what_was_refused_unknown(
    make: Callable[[], Attempt], name: str, lifetime: timedelta
) -> None:
    attempt = make()
    attempt.view.with_agreement(**{name: lifetime - timedelta(seconds=1)})
    assert previewed(attempt, agreement_of(attempt)).reason is Reason.LIFETIME_TOO_LONG
    assert previewed(attempt, of_all(**{name: lifetime})(agreement_of(attempt))).outcome is Outcome.UNKNOWN
    # The other profile's does not matter.
    (other,) = {"max_credential_lifetime", "max_assertion_lifetime"} - {name}
    longer = {other: getattr(AGREEMENT, other) * 2}
    assert previewed(attempt, of_all(**longer)(agreement_of(attempt))).outcome is Outcome.REJECTED


# -- issuers ----------------------------------------------------------------------------------------------------------


def test_an_issuer_that_is_given_terms_is_unknown() -> None:
    attempt = Attempt.credential()
    attempt.view.with_agreement(issuers={})
    assert previewed(attempt, agreement_of(attempt)).reason is Reason.ISSUER_NOT_AUTHORISED
    assert previewed(attempt, AGREEMENT).outcome is Outcome.UNKNOWN


def test_what_the_anchors_do_not_grant_stays_refused() -> None:
    attempt = Attempt.credential()
    attempt.view.issuers[ISSUER].credential_types = frozenset()
    other = replace(TERMS, algorithms={Algorithm.ES256: None, Algorithm.ES384: None})
    assert previewed(attempt, replace(AGREEMENT, issuers={ISSUER: other})) == Replayed(
        outcome=Outcome.REJECTED, reason=Reason.ISSUER_NOT_AUTHORISED
    )


# -- consent and claims -----------------------------------------------------------------------------------------------


def consenting(covers: frozenset[str] = frozenset({"name"}), **changes: Any) -> Attempt:
    """A credential for a matter that rests on consent, with one that covers some claims."""
    attempt = Attempt.credential()
    attempt.matter = replace(MATTER, legal_basis=None, consent=Words("同意书", "consent"), **changes)
    attempt.consent_id = "c" * 22
    attempt.consent = Consent(
        consent_id=attempt.consent_id,
        service=SERVICE,
        matter=MATTER_CODE,
        claims=covers,
        recorded_at=NOW - DAY,
        expires_at=NOW + DAY,
    )
    return attempt


def test_whether_a_consent_covers_what_is_newly_required_is_unknown() -> None:
    attempt = consenting()
    assert previewed(attempt, agreement_of(attempt)).outcome is Outcome.ACCEPTED
    assert previewed(attempt, of_matter(attempt, required_claims=frozenset())).outcome is Outcome.ACCEPTED
    more = of_matter(attempt, required_claims=frozenset({"name", "id_type"}))
    assert previewed(attempt, more).outcome is Outcome.UNKNOWN
    # Without consent, what was presented is all that counts.
    attempt = Attempt.credential()
    assert previewed(attempt, of_matter(attempt, required_claims=frozenset({"name", "id_type"}))) == Replayed(
        outcome=Outcome.ACCEPTED, reason=None
    )


def test_whether_a_consent_covers_what_is_asked_about_is_unknown_where_it_did_not_have_to() -> None:
    attempt = consenting(questions=frozenset({Question.AGE_AT_LEAST}))
    attempt.predicates = [AgeAtLeast(18)]
    attempt.matter = replace(attempt.matter, consent=None, legal_basis=MATTER.legal_basis)
    proposed = of_matter(attempt, consent=Words("同意书", "consent"), legal_basis=None)
    assert previewed(attempt, agreement_of(attempt)).outcome is Outcome.ACCEPTED
    assert previewed(attempt, proposed).outcome is Outcome.UNKNOWN


def test_a_consent_that_did_not_cover_enough_may_cover_less() -> None:
    attempt = consenting(frozenset({"id_type"}))
    assert previewed(attempt, agreement_of(attempt)).reason is Reason.CONSENT_INVALID
    assert previewed(attempt, of_matter(attempt, required_claims=frozenset())).outcome is Outcome.UNKNOWN
    more = of_matter(attempt, required_claims=frozenset({"name", "id_type"}))
    assert previewed(attempt, more).outcome is Outcome.REJECTED


def test_without_consent_a_matter_that_will_rest_on_it_would_have_refused() -> None:
    attempt = Attempt.credential()
    proposed = of_matter(attempt, consent=Words("同意书", "consent"), legal_basis=None)
    assert previewed(attempt, proposed) == Replayed(outcome=Outcome.REJECTED, reason=Reason.CONSENT_MISSING)


def test_a_claim_of_which_nobody_had_heard_may_have_been_presented() -> None:
    attempt = Attempt.credential()
    attempt.hide({**ATTRIBUTES, "marital_status": "single"})
    proposed = of_matter(
        attempt,
        required_claims=frozenset({"name", "marital_status"}),
        released_claims=MATTER.released_claims | {"marital_status"},
    )
    assert previewed(attempt, proposed).outcome is Outcome.UNKNOWN


# -- bounds that are not kept -----------------------------------------------------------------------------------------


BOUNDS: Final[Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], Change, Reason]]] = {
    "skew": (
        {"clock_skew": timedelta(seconds=60)},
        {"clock_skew": timedelta(seconds=10)},
        setting(iat=1_700_000_030, auth_time=1_699_999_000),
        Reason.NOT_YET_VALID,
    ),
    "age of key-binding proofs": (
        {"max_key_binding_age": timedelta(seconds=300)},
        {"max_key_binding_age": timedelta(seconds=100)},
        making(binding={"iat": 1_700_000_000 - 200}),
        Reason.KEY_BINDING_INVALID,
    ),
    "frameworks": (
        {"trust_frameworks": frozenset({FRAMEWORK, "urn:new"})},
        {"trust_frameworks": frozenset({"urn:new"})},
        setting(),
        Reason.ASSURANCE_UNKNOWN,
    ),
    "levels": (
        {"assurance_levels": frozenset({"high", "low"})},
        {"assurance_levels": frozenset({"low"})},
        setting(),
        Reason.ASSURANCE_UNKNOWN,
    ),
}


@pytest.mark.parametrize(("wide", "narrow", "change", "reason"), BOUNDS.values(), ids=BOUNDS)
def test_where_a_bound_moves_what_was_held_against_it_is_unknown(
    wide: Mapping[str, Any], narrow: Mapping[str, Any], change: Change, reason: Reason
) -> None:
    attempt = Attempt.credential()
    change(attempt)
    attempt.view.with_agreement(**wide)
    assert previewed(attempt, agreement_of(attempt)).outcome is Outcome.ACCEPTED
    assert previewed(attempt, of_all(**narrow)(agreement_of(attempt))).outcome is Outcome.UNKNOWN
    attempt.view.with_agreement(**narrow)
    assert previewed(attempt, agreement_of(attempt)).reason is reason
    assert previewed(attempt, of_all(**wide)(agreement_of(attempt))).outcome is Outcome.UNKNOWN


def test_what_rested_on_the_grace_is_unknown_where_there_is_less_of_it() -> None:
    attempt = Attempt.credential()
    less = replace(AGREEMENT, stale_grace=timedelta(minutes=1))
    assert previewed(attempt, less).outcome is Outcome.ACCEPTED
    for trusted in attempt.view.keys.values():
        trusted.fresh_until = NOW
    assert previewed(attempt, less).outcome is Outcome.UNKNOWN
    assert previewed(attempt, AGREEMENT).outcome is Outcome.ACCEPTED


def test_what_was_stale_is_unknown_where_there_is_more_grace() -> None:
    attempt = Attempt.credential()
    attempt.view.failure = Indeterminate(Reason.TRUST_STALE, "too old")
    more = replace(AGREEMENT, stale_grace=timedelta(hours=2))
    assert previewed(attempt, more).outcome is Outcome.UNKNOWN
    assert previewed(attempt, AGREEMENT).outcome is Outcome.INDETERMINATE


# -- any of it, by any agreement --------------------------------------------------------------------------------------


def revoked() -> Attempt:
    attempt = with_status()
    attempt.lists[STATUS_LIST] = held(entries=entries(1))
    return attempt


def lapsed() -> Attempt:
    attempt = with_status()
    attempt.lists[STATUS_LIST] = held(expires_at=NOW)
    return attempt


def changed(change: Change, make: Callable[[], Attempt] = Attempt.credential) -> Callable[[], Attempt]:
    def made() -> Attempt:
        attempt = make()
        change(attempt)
        return attempt

    return made


PRESENTED: Final[Mapping[str, Callable[[], Attempt]]] = {
    "credential": Attempt.credential,
    "assertion": Attempt.assertion,
    "guarded": guarded,
    "firm": firm,
    "with status": with_status,
    "revoked": revoked,
    "lapsed list": lapsed,
    "old list": too_old,
    "with consent": consenting,
    "with a consent to more": lambda: consenting(frozenset({"name", "id_type"})),
    "with a consent to little": lambda: consenting(frozenset()),
    "asked": changed(making(predicates=[AgeAtLeast(18)], matter=replace(MATTER, questions=frozenset(Question)))),
    "with little disclosed": changed(lambda attempt: attempt.hide({"id_type": "resident_id"})),
    "without proof": changed(lambda attempt: attempt.without_binding()),
    "with an old proof": changed(making(binding={"iat": 1_700_000_000 - 200})),
    "of lower assurance": changed(setting(acr=LOWER_ACR, assurance={"ial": 2, "aal": 2, "fal": 3})),
    "above its acr": changed(setting(acr=LOWER_ACR)),
    "of an acr that is unknown": changed(setting(acr="urn:yrd:loa:5")),
    "of a time to come": changed(setting(iat=1_700_000_030)),
    "malformed": changed(lambda attempt: attempt.hide({"name": "徐某", "id_number": "1"})),
    "long": changed(setting(exp=1_700_000_000 + 300 * 86_400)),
}


def of_the_matter(**changes: Any) -> Callable[[Agreement], Agreement]:
    def change(agreement: Agreement) -> Agreement:
        matter = replace(agreement.matters[MATTER_CODE], **changes)
        # What is required is released, or it is no agreement.
        matter = replace(matter, released_claims=matter.released_claims | matter.required_claims)
        return replace(agreement, matters={MATTER_CODE: matter})

    return change


def of_the_issuer(**changes: Any) -> Callable[[Agreement], Agreement]:
    return lambda agreement: replace(agreement, issuers={ISSUER: replace(TERMS, **changes)})


def of_all(**changes: Any) -> Callable[[Agreement], Agreement]:
    return lambda agreement: replace(agreement, **changes)


CHANGES: Final[Sequence[Callable[[Agreement], Agreement]]] = (
    of_the_matter(key_binding=False),
    of_the_matter(key_binding=True),
    of_the_matter(min_assurance=TWO),
    of_the_matter(min_assurance=HIGHEST),
    of_the_matter(max_credential_age=timedelta(seconds=50)),
    of_the_matter(max_authentication_age=timedelta(seconds=50)),
    of_the_matter(required_claims=frozenset()),
    of_the_matter(required_claims=frozenset({"name", "id_type"})),
    of_the_matter(required_claims=frozenset({"name", "address"})),
    of_the_matter(released_claims=frozenset({"name"}), required_claims=frozenset({"name"})),
    of_the_matter(consent=Words("同意书", "consent"), legal_basis=None),
    of_the_matter(consent=None, legal_basis=MATTER.legal_basis),
    of_the_matter(parties=frozenset({Party.SELF})),
    of_the_matter(parties=frozenset(Party)),
    of_the_matter(status_required=True),
    of_the_matter(status_required=False),
    of_the_matter(max_status_age=timedelta(minutes=20)),
    of_the_matter(max_status_age=timedelta(seconds=30)),
    of_the_matter(questions=frozenset({Question.AGE_AT_LEAST})),
    of_the_matter(questions=frozenset()),
    of_the_issuer(algorithms={Algorithm.ES384: None}),
    of_the_issuer(algorithms={Algorithm.ES256: None, Algorithm.ES384: None}),
    of_the_issuer(algorithms={Algorithm.ES256: NOW}),
    of_the_issuer(cap=TWO),
    of_the_issuer(equivalence={**TERMS.equivalence, "urn:yrd:loa:5": HIGHEST}),
    of_the_issuer(equivalence={LOWER_ACR: HIGHEST}),
    of_all(issuers={}),
    of_all(clock_skew=timedelta(0)),
    of_all(max_key_binding_age=timedelta(seconds=100)),
    of_all(max_credential_lifetime=timedelta(days=100)),
    of_all(max_assertion_lifetime=timedelta(seconds=100)),
    of_all(trust_frameworks=frozenset({"urn:new"})),
    of_all(assurance_levels=frozenset({"low"})),
)


def judged_by(attempt: Attempt, agreement: Agreement) -> Recorded:
    assume(all(may_ask(agreement.matters[MATTER_CODE], each) for each in attempt.predicates))
    attempt.view.with_agreement(**{name: getattr(agreement, name) for name in ("issuers", *_OF_ALL)})
    attempt.matter = agreement.matters[MATTER_CODE]
    return recorded(attempt)


_OF_ALL: Final = (
    *("trust_frameworks", "assurance_levels", "clock_skew"),
    *("max_credential_lifetime", "max_assertion_lifetime", "max_key_binding_age"),
)
_AGREEMENTS = st.lists(st.sampled_from(CHANGES), max_size=3)


def amended(agreement: Agreement, changes: Sequence[Callable[[Agreement], Agreement]]) -> Agreement:
    for change in changes:
        agreement = change(agreement)
    return agreement


@pytest.mark.parametrize("make", PRESENTED.values(), ids=PRESENTED)
@given(before=_AGREEMENTS)
@settings(max_examples=15)
def test_by_the_same_agreement_everything_comes_out_as_it_did(
    make: Callable[[], Attempt], before: Sequence[Callable[[Agreement], Agreement]]
) -> None:
    attempt = make()
    agreement = amended(agreement_of(attempt), before)
    decision = judged_by(attempt, agreement)
    assert replay(decision, agreement, agreement) == Replayed(outcome=Outcome(decision.verdict), reason=decision.reason)


@pytest.mark.parametrize("make", PRESENTED.values(), ids=PRESENTED)
@given(before=_AGREEMENTS, proposed=_AGREEMENTS)
@settings(max_examples=40)
def test_by_another_agreement_it_comes_out_as_it_would_or_is_not_known(
    make: Callable[[], Attempt],
    before: Sequence[Callable[[Agreement], Agreement]],
    proposed: Sequence[Callable[[Agreement], Agreement]],
) -> None:
    attempt = make()
    old, new = amended(agreement_of(attempt), before), amended(agreement_of(attempt), proposed)
    replayed = replay(judged_by(attempt, old), old, new)
    if replayed.outcome is Outcome.NOT_PERMITTED:
        assert attempt.predicates
    elif replayed.outcome is not Outcome.UNKNOWN:
        assert replayed.outcome.value == judged_by(attempt, new).verdict
