"""Whatever is presented: nothing beyond the matter's list is released, no level is raised, no unknown status passes.

Driven through whole verifications of correctly signed presentations, since whoever signs may be an issuer gone wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from gateway.core.agreement import Assurance, IssuerTerms, Party, Words
from gateway.core.consent import Consent
from gateway.core.credential import VerifiedPresentation
from gateway.core.jose import Algorithm
from gateway.core.reasons import Indeterminate, Rejected
from gateway.core.status_list import MIN_ENTRIES, StatusList
from tests.core.presentations import (
    ACR,
    AGREEMENT,
    ISSUER,
    MATTER,
    NOW,
    SERVICE,
    STATUS_KEY,
    STATUS_LIST,
    Attempt,
    disclosure,
    hashed,
    salt,
)

NAMES = ("name", "address", "phone_number", "remark", "income", "sub", "iss", "acr")
VALUES = st.one_of(st.text(max_size=8), st.integers(-5, 5), st.booleans(), st.none(), st.lists(st.text(max_size=3)))
CLAIMS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=len(NAMES))
LISTED = st.frozensets(st.sampled_from(NAMES[:5]), max_size=5)
LEVEL = st.integers(1, 3)
ASSURANCES = st.builds(Assurance, identity=LEVEL, authenticator=LEVEL, federation=LEVEL)
LOWEST = Assurance(identity=1, authenticator=1, federation=1)
ENTRIES = bytes(MIN_ENTRIES // 4)


def judged(attempt: Attempt) -> VerifiedPresentation | None:
    try:
        accepted = attempt.judge()
    except (Rejected, Indeterminate) as refused:
        event(refused.reason.value)
        return None
    event("accepted")
    return accepted


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    claims=CLAIMS,
    actor_claims=CLAIMS,
    released=LISTED,
    actor_released=LISTED,
    required=LISTED,
    consented=st.one_of(st.none(), LISTED),
    acts=st.booleans(),
)
def test_nothing_is_released_beyond_the_matter_and_the_consent(
    claims: Mapping[str, Any],
    actor_claims: Mapping[str, Any],
    released: frozenset[str],
    actor_released: frozenset[str],
    required: frozenset[str],
    consented: frozenset[str] | None,
    acts: bool,
) -> None:
    attempt = Attempt.credential()
    attempt.hide(claims)
    if acts:
        hidden = [disclosure(salt(60 + i), name, value) for i, (name, value) in enumerate(actor_claims.items())]
        attempt.payload["act"] = {
            "sub": "v1.actor",
            "relationship": "guardian",
            "scope": [MATTER.code],
            "claims": {"_sd": sorted(map(hashed, hidden))},
        }
        attempt.disclosures += hidden
    attempt.matter = replace(
        MATTER,
        parties=frozenset({Party.SELF, Party.GUARDIAN}),
        released_claims=released,
        actor_released_claims=actor_released,
        required_claims=required & released,
        consent=None if consented is None else Words("同意书", "consent"),
    )
    if consented is not None:
        attempt.consent_id = "c" * 22
        attempt.consent = Consent(
            consent_id="c" * 22,
            service=SERVICE,
            matter=MATTER.code,
            claims=consented,
            recorded_at=NOW,
            expires_at=NOW + timedelta(days=1),
        )
    accepted = judged(attempt)
    if accepted is None:
        return
    allowed = released if consented is None else released & consented
    assert accepted.attributes.keys() <= allowed
    assert all(accepted.attributes[name] == claims[name] for name in accepted.attributes)
    assert attempt.matter.required_claims <= accepted.attributes.keys()
    of_actor = {} if accepted.actor is None else accepted.actor.attributes
    assert of_actor.keys() <= (actor_released if consented is None else actor_released & consented)
    assert all(of_actor[name] == actor_claims[name] for name in of_actor)


@settings(deadline=None)
@given(asserted=ASSURANCES, stood_for=ASSURANCES, cap=ASSURANCES, floor=ASSURANCES, bound=st.booleans())
def test_no_level_is_ever_raised(
    asserted: Assurance, stood_for: Assurance, cap: Assurance, floor: Assurance, bound: bool
) -> None:
    attempt = Attempt.credential() if bound else Attempt.credential().without_binding()
    attempt.payload["assurance"] = {
        "ial": asserted.identity,
        "aal": asserted.authenticator,
        "fal": asserted.federation,
    }
    attempt.matter = replace(MATTER, min_assurance=floor, key_binding=False)
    terms = IssuerTerms(algorithms={Algorithm.ES256: None}, cap=cap, equivalence={ACR: stood_for})
    attempt.view.with_agreement(issuers={ISSUER: terms})
    accepted = judged(attempt)
    if accepted is None:
        return
    for most in (asserted, stood_for, cap):
        assert most.meets(accepted.assurance)
    assert accepted.assurance.meets(floor)
    assert accepted.assurance.federation <= (3 if bound else 2)
    assert accepted.level <= AGREEMENT.level(accepted.assurance)


@settings(deadline=None)
@given(
    index=st.one_of(st.integers(-2, MIN_ENTRIES + 2), st.just(True), st.text(max_size=2)),
    uri=st.sampled_from([STATUS_LIST, f"{ISSUER}/status/other", "https://elsewhere.example/list"]),
    names_status=st.booleans(),
    is_held=st.booleans(),
    is_registered=st.booleans(),
    is_key_trusted=st.booleans(),
    age=st.integers(-120, 2_000),
    value=st.integers(0, 3),
)
def test_an_unknown_status_is_never_accepted_where_one_is_demanded(
    index: object,
    uri: str,
    names_status: bool,
    is_held: bool,
    is_registered: bool,
    is_key_trusted: bool,
    age: int,
    value: int,
) -> None:
    attempt = Attempt.credential()
    attempt.matter = replace(MATTER, status_required=True, max_status_age=timedelta(seconds=900))
    if names_status:
        attempt.payload["status"] = {"status_list": {"idx": index, "uri": uri}}
    if is_registered:
        attempt.view.issuers[ISSUER].status_lists[STATUS_LIST] = MIN_ENTRIES
    if not is_key_trusted:
        attempt.view.status_keys.clear()
    if is_held:
        attempt.lists[STATUS_LIST] = StatusList(
            uri=STATUS_LIST,
            issuer=ISSUER,
            kid=STATUS_KEY.public.kid,
            seq=1,
            issued_at=NOW - timedelta(seconds=age),
            expires_at=NOW + timedelta(seconds=1_800 - age),
            ttl=timedelta(seconds=300),
            bits=2,
            entries=ENTRIES if value == 0 else bytes([value * 0x55]) * len(ENTRIES),
            sha256="s" * 43,
        )
    is_known = (
        names_status
        and is_held
        and is_registered
        and is_key_trusted
        and uri == STATUS_LIST
        and type(index) is int
        and 0 <= index < MIN_ENTRIES
        and -60 <= age <= 900
        and age < 1_800
    )
    accepted = judged(attempt)
    assert (accepted is not None) == (is_known and value == 0)


def test_such_runs_do_accept() -> None:
    """The properties above are about something: their usual case is accepted."""
    attempt = Attempt.credential()
    attempt.hide({"name": "徐某"})
    attempt.matter = replace(MATTER, min_assurance=LOWEST, released_claims=frozenset({"name"}))
    assert attempt.judge().attributes == {"name": "徐某"}
