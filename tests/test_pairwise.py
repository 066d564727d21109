"""A pairwise secret is replaced: a person stays the same person while records are moved, and nobody's past is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from gateway.core.agreement import Party
from gateway.core.consent import Consent
from gateway.core.identifiers import Province
from gateway.core.pairwise import PairwiseKey
from gateway.core.reasons import Reason
from gateway.issuer import ActingFor, Subject
from gateway.keystore import SecretName
from gateway.lab.charter import COURT_FILING, NEWBORN_REGISTRATION
from gateway.verifier import Acceptance, ActingPerson, Answer, Rejection
from tests.federation import AH, SH, XU_CLAIMS, Federation

WINDOW = timedelta(hours=2)
AT_THE_ISSUER: tuple[Province, SecretName] = (SH, "pairwise-issuer")
AT_THE_GATEWAY: tuple[Province, SecretName] = (AH, "pairwise")
CLIENT = Subject(
    local_subject="person-1",
    claims=XU_CLAIMS,
    actor=ActingFor(
        local_subject="lawyer-1",
        relationship=Party.LAWYER,
        scope=(COURT_FILING,),
        claims={"name": "律师甲"},
        expires_at=None,
    ),
)
Show = Callable[[Federation, Subject], Answer]


@pytest.fixture
def federation(restarted: Federation) -> Federation:
    restarted.publish()
    return restarted


def by_credential(federation: Federation, subject: Subject) -> Answer:
    presentation, nonce = federation.present(federation.issue(subject=subject), matter=COURT_FILING)
    return federation.verify(presentation, nonce, matter=COURT_FILING)


def by_assertion(federation: Federation, subject: Subject) -> Answer:
    token = federation.assertion(audience=federation[AH].service.identity, subject=subject)
    return federation.verify(token, matter=COURT_FILING)


def accepted(answer: Answer) -> Acceptance:
    assert isinstance(answer.verdict, Acceptance), answer.verdict
    return answer.verdict


def who(answer: Answer) -> tuple[tuple[str, str], tuple[str, str]]:
    """Give the subject and who acts for it, each with what they were called before."""
    verdict = accepted(answer)
    actor = verdict.actor
    assert isinstance(actor, ActingPerson)
    return (verdict.subject, verdict.previous_subject), (actor.subject, actor.previous_subject)


def replace(federation: Federation, *places: tuple[Province, SecretName]) -> None:
    """Start provinces anew with the next version of a secret."""
    for province, name in places:
        old = federation.pairwise[province, name]
        federation.pairwise[province, name] = PairwiseKey(
            version=old.version + 1,
            key=f"{name} {old.version + 1}".encode().ljust(32),
            previous=old.key,
            mapped_until=federation.clock.now + WINDOW,
        )
    for province in {province for province, _ in places}:
        federation.restart(province)
    federation.settle()


@pytest.fixture
def court(federation: Federation) -> Federation:
    """Let Anhui's counter ask what a court and a police station ask."""
    federation.matters |= {COURT_FILING, NEWBORN_REGISTRATION}
    federation.restart(AH)
    federation.settle()
    return federation


@pytest.mark.parametrize("show", [by_credential, pytest.param(by_assertion, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "places",
    [[AT_THE_ISSUER], [AT_THE_GATEWAY], [AT_THE_ISSUER, AT_THE_GATEWAY]],
    ids=["issuer", "gateway", "both"],
)
def test_a_person_and_who_acts_are_told_by_both_names_for_as_long_as_the_window(
    court: Federation, places: Sequence[tuple[Province, SecretName]], show: Show
) -> None:
    before = who(show(court, CLIENT))
    assert [previous for _, previous in before] == ["", ""]

    replace(court, *places)
    within = who(show(court, CLIENT))
    assert [previous for _, previous in within] == [subject for subject, _ in before]
    assert not {subject for subject, _ in within} & {subject for subject, _ in before}

    court.clock.advance(WINDOW)
    court.settle()
    after = who(show(court, CLIENT))
    assert after == tuple((subject, "") for subject, _ in within)


def test_the_version_of_the_gateways_secret_is_told(court: Federation) -> None:
    replace(court, AT_THE_GATEWAY)
    ((subject, previous), _) = who(by_credential(court, CLIENT))
    assert (subject[:3], previous[:3]) == ("v2.", "v1.")


@pytest.mark.parametrize(
    "places", [[AT_THE_ISSUER], [AT_THE_ISSUER, AT_THE_GATEWAY]], ids=["issuer", "issuer and gateway"]
)
def test_what_was_issued_before_still_leads_to_the_records(
    court: Federation, places: Sequence[tuple[Province, SecretName]]
) -> None:
    wallet = court.issue(subject=CLIENT)
    presentation, nonce = court.present(wallet, matter=COURT_FILING)
    ((filed_under, _), _) = who(court.verify(presentation, nonce, matter=COURT_FILING))

    replace(court, *places)
    presentation, nonce = court.present(wallet, matter=COURT_FILING)
    (names, _) = who(court.verify(presentation, nonce, matter=COURT_FILING))
    assert filed_under in names


def test_two_people_are_never_one(court: Federation) -> None:
    another = Subject(local_subject="person-2", claims=XU_CLAIMS, actor=CLIENT.actor)
    replace(court, AT_THE_ISSUER, AT_THE_GATEWAY)
    (one, _), (other, _) = who(by_credential(court, CLIENT)), who(by_credential(court, another))
    assert not set(one) & set(other)


def shown_once(federation: Federation) -> tuple[str, str]:
    return federation.present(federation.issue(subject=CLIENT), matter=COURT_FILING)


def handed_over(federation: Federation) -> tuple[str, str]:
    return federation.assertion(audience=federation[AH].service.identity, subject=CLIENT), ""


@pytest.mark.parametrize("make", [shown_once, handed_over])
def test_what_was_used_up_stays_so(court: Federation, make: Callable[[Federation], tuple[str, str]]) -> None:
    presentation, nonce = make(court)
    accepted(court.verify(presentation, nonce, matter=COURT_FILING))

    replace(court, AT_THE_ISSUER, AT_THE_GATEWAY)

    again = court.verify(presentation, nonce, matter=COURT_FILING)
    assert again.verdict == Rejection(reason=Reason.REPLAYED)


@pytest.mark.parametrize(
    ("local_subject", "verdict"), [("person-1", None), ("person-2", Reason.CONSENT_INVALID)], ids=["same", "another"]
)
def test_a_consent_goes_on_being_one_persons(court: Federation, local_subject: str, verdict: Reason | None) -> None:
    consent = Consent(
        consent_id="consent-of-person-1",
        service=court[AH].service.identity,
        matter=NEWBORN_REGISTRATION,
        claims=frozenset({"name", "id_type", "id_number"}),
        recorded_at=court.clock.now,
        expires_at=court.clock.now + timedelta(days=1),
    )
    court[AH].store.save_consent(consent)

    def use(local_subject: str) -> Answer:
        wallet = court.issue(subject=Subject(local_subject=local_subject, claims=XU_CLAIMS))
        presentation, nonce = court.present(wallet, matter=NEWBORN_REGISTRATION)
        return court.verify(presentation, nonce, matter=NEWBORN_REGISTRATION, consent_id=consent.consent_id)

    accepted(use("person-1"))
    replace(court, AT_THE_ISSUER, AT_THE_GATEWAY)
    answer = use(local_subject)
    if verdict is None:
        accepted(answer)
    else:
        assert answer.verdict == Rejection(reason=verdict)
