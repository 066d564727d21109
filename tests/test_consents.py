"""Consent: to one service for one matter, of one person, until it is withdrawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.consents import Consents
from gateway.core.consent import MAX_CONSENT_LIFETIME
from gateway.core.entries import SealedEntry, Verification, seal, verification_entry
from gateway.core.predicates import ClaimMatches
from gateway.core.reasons import InvalidRequest, NotHeld, NotPermitted, Reason
from gateway.issuer import Subject
from gateway.storage import ConsentUse, LedgerEntry, Outcome
from gateway.tls import Caller
from gateway.verifier import Acceptance
from tests.federation import AH, XU_CLAIMS, Federation, found

MATTER = "HK-QY"
CLAIMS = frozenset({"name", "id_number", "hukou_region"})
DAY = timedelta(days=1)


def on_consent(claims: dict[str, Any]) -> None:
    for matter in claims["agreement"]["matters"]:
        if matter["code"] == MATTER:
            matter["consent"] = {"zh": "同意书", "en": "consent"}


@pytest.fixture
def consenting(tmp_path: Path) -> Iterator[Federation]:
    federation = Federation(tmp_path, founding=found(on_consent))
    yield federation
    federation.close()


def consents(federation: Federation) -> Consents:
    node = federation[AH]
    return Consents(
        services={node.service.identity: node.service},
        agreement=lambda: node.resolver.view.charter.agreement,
        store=node.store,
        world=federation.world,
    )


def record(federation: Federation, *, claims: frozenset[str] = CLAIMS, lifetime: timedelta = DAY) -> str:
    kept = consents(federation)
    return kept.record(federation[AH].caller, matter_code=MATTER, claims=claims, lifetime=lifetime).consent_id


def present(federation: Federation, consent_id: str, person: str = "person-1") -> Acceptance | Reason:
    wallet = federation.issue(subject=Subject(local_subject=person, claims=XU_CLAIMS))
    federation.settle()
    verdict = federation.verify(*federation.present(wallet), consent_id=consent_id).verdict
    return verdict if isinstance(verdict, Acceptance) else verdict.reason


def test_a_matter_that_rests_on_consent_accepts_with_one_and_not_without(consenting: Federation) -> None:
    assert present(consenting, "") is Reason.CONSENT_MISSING
    accepted = present(consenting, record(consenting))
    assert isinstance(accepted, Acceptance)
    assert accepted.attributes.keys() == CLAIMS


def test_neither_a_consents_name_nor_a_verifications_begins_with_a_dash(consenting: Federation) -> None:
    consenting.world = replace(consenting.world, random_bytes=lambda count: b"\xff" * count)
    assert not record(consenting).startswith("-")
    consenting.restart(AH)
    assert not consenting.verify("not.a.credential~").verification_id.startswith("-")


def test_it_serves_the_same_person_again_and_nobody_else(consenting: Federation) -> None:
    consent_id = record(consenting)
    assert isinstance(present(consenting, consent_id), Acceptance)
    assert isinstance(present(consenting, consent_id), Acceptance)
    assert present(consenting, consent_id, "person-2") is Reason.CONSENT_INVALID


def test_one_that_nobody_recorded_is_invalid(consenting: Federation) -> None:
    assert present(consenting, "c" * 22) is Reason.CONSENT_INVALID


def test_it_lapses_to_the_second(consenting: Federation) -> None:
    consent_id = record(consenting, lifetime=timedelta(minutes=10))
    consenting.clock.advance(timedelta(minutes=10) - timedelta(seconds=1))
    assert isinstance(present(consenting, consent_id), Acceptance)
    consenting.clock.advance(timedelta(seconds=1))
    assert present(consenting, consent_id) is Reason.CONSENT_INVALID


def test_withdrawal_stops_acceptance_and_says_since_when(consenting: Federation) -> None:
    consent_id = record(consenting)
    assert isinstance(present(consenting, consent_id), Acceptance)
    since = consents(consenting).withdraw(consenting[AH].caller, consent_id)
    consenting.clock.advance(timedelta(minutes=1))
    assert consents(consenting).withdraw(consenting[AH].caller, consent_id) == since
    assert present(consenting, consent_id) is Reason.CONSENT_WITHDRAWN


def test_a_consent_to_another_matter_or_of_another_service_is_invalid(consenting: Federation) -> None:
    wallet = consenting.issue()
    consenting.settle()
    presentation, nonce = consenting.present(wallet, matter="DZ-LZ")
    answer = consenting.verify(presentation, nonce, matter="DZ-LZ", consent_id=record(consenting))
    assert not isinstance(answer.verdict, Acceptance)
    assert answer.verdict.reason is Reason.CONSENT_INVALID  # also where the matter needs none
    foreign = consenting[AH].store.load_consent(record(consenting))
    assert foreign is not None
    with pytest.raises(NotPermitted):
        consents(consenting).withdraw(Caller(identity="https://elsewhere.example", certificate_sha256=""), "c" * 22)
    with pytest.raises(NotHeld):
        consents(consenting).withdraw(consenting[AH].caller, "c" * 22)


def test_what_it_does_not_cover_is_not_released(consenting: Federation) -> None:
    wide = record(consenting, claims=CLAIMS | {"id_type"})
    narrow = record(consenting)
    for consent_id, released in ((wide, CLAIMS | {"id_type"}), (narrow, CLAIMS)):
        accepted = present(consenting, consent_id)
        assert isinstance(accepted, Acceptance)
        assert accepted.attributes.keys() == released


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"claims": CLAIMS - {"name"}}, "claims"),
        ({"claims": CLAIMS | {"ethnicity"}}, "claims"),
        ({"lifetime": timedelta(0)}, "lifetime"),
        ({"lifetime": MAX_CONSENT_LIFETIME + timedelta(seconds=1)}, "lifetime"),
    ],
    ids=["lacks what is required", "covers what the matter may not have", "lasts no time", "lasts too long"],
)
def test_what_could_not_be_relied_on_is_not_recorded(consenting: Federation, changes: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        record(consenting, **changes)
    assert caught.value.field == field


def test_a_matter_that_rests_on_a_duty_takes_no_consent(federation: Federation) -> None:
    with pytest.raises(InvalidRequest):
        record(federation)


# -- in the transaction that records the decision ---------------------------------------------------------------------


def entry(federation: Federation, number: int, verdict: str = "accepted") -> SealedEntry:
    return seal(
        verification_entry(
            Verification(
                verification_id=f"v-{number}",
                decided_at=federation.clock.now,
                service="s",
                caller_certificate="",
                matter=MATTER,
                verdict=verdict,
                reason="",
                issuer="",
                kid="",
                charter_version=1,
                charter_sha256="",
                view_id="",
            )
        )
    )


def outcomes(federation: Federation, group: Sequence[LedgerEntry]) -> list[Outcome]:
    return [each.outcome for each in federation[AH].log.commit(group)]


def test_a_withdrawal_that_came_while_it_was_judged_still_counts(consenting: Federation) -> None:
    store, consent_id = consenting[AH].store, record(consenting)

    def decision(number: int, subject: str, previous: str = "") -> LedgerEntry:
        return LedgerEntry(
            entry=entry(consenting, number),
            otherwise=lambda against: entry(consenting, number, against.name),
            consent=ConsentUse(consent_id=consent_id, subject=subject, previous_subject=previous),
        )

    # In one group, too: the second person comes after the first.
    assert outcomes(consenting, [decision(1, "one"), decision(2, "two"), decision(3, "one")]) == [
        Outcome.WRITTEN,
        Outcome.CONSENT_OF_ANOTHER,
        Outcome.WRITTEN,
    ]
    assert store.withdraw_consent(consent_id, consenting[AH].service.identity, consenting.clock.now) is not None
    assert outcomes(consenting, [decision(4, "one"), decision(5, "two")]) == [Outcome.CONSENT_WITHDRAWN] * 2
    assert [each.verdict for each in consenting[AH].decisions()] == [
        "accepted",
        "CONSENT_OF_ANOTHER",
        "accepted",
        "CONSENT_WITHDRAWN",
        "CONSENT_WITHDRAWN",
    ]


def test_it_stays_with_the_person_when_the_issuer_replaces_its_key(consenting: Federation) -> None:
    consent_id = record(consenting)

    def use(number: int, subject: str, previous: str = "") -> Outcome:
        decision = LedgerEntry(
            entry=entry(consenting, number),
            otherwise=lambda against: entry(consenting, number, against.name),
            consent=ConsentUse(consent_id=consent_id, subject=subject, previous_subject=previous),
        )
        (outcome,) = outcomes(consenting, [decision])
        return outcome

    # The window in which both are known ends; the same person remains.
    uses = [use(1, "old"), use(2, "new", "old"), use(3, "new"), use(4, "other", "another")]
    assert uses == [Outcome.WRITTEN, Outcome.WRITTEN, Outcome.WRITTEN, Outcome.CONSENT_OF_ANOTHER]


def test_it_covers_what_is_asked_about_or_nothing_is_answered(tmp_path: Path) -> None:
    def comparable(claims: dict[str, Any]) -> None:
        on_consent(claims)
        for matter in claims["agreement"]["matters"]:
            if matter["code"] == MATTER:
                matter["released_claims"] = matter["required_claims"] = ["name"]
                matter["restricted_claims"] = [each for each in matter["restricted_claims"] if each == "name"]
                matter["comparable_claims"] = ["id_number"]

    federation = Federation(tmp_path, founding=found(comparable))
    question = [ClaimMatches("id_number", XU_CLAIMS["id_number"])]
    for covered, expected in ((frozenset({"name"}), Reason.CONSENT_INVALID), (frozenset({"name", "id_number"}), None)):
        wallet = federation.issue()
        federation.settle()
        consent_id = record(federation, claims=covered)
        verdict = federation.verify(*federation.present(wallet), consent_id=consent_id, predicates=question).verdict
        assert (None if isinstance(verdict, Acceptance) else verdict.reason) is expected
    federation.close()
