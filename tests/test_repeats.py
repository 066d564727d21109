"""Who asks the same again, because the answer was lost, is told the first decision; nobody else is told anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config import RelyingService
from gateway.consents import Consents
from gateway.core.agreement import Party
from gateway.core.charter import add_signature, draft, unsigned
from gateway.core.credential_status import SubjectTarget
from gateway.core.pairwise import PairwiseKey
from gateway.core.predicates import AgeAtLeast, ClaimMatches, HouseholdIn, Predicate
from gateway.core.reasons import Reason, Unavailable
from gateway.core.receipt import read_receipt
from gateway.core.repeats import REPEAT_WITHIN
from gateway.core.status_list import Status
from gateway.issuer import ActingFor, Subject
from gateway.lab.charter import COURT_FILING, HUKOU_MIGRATION, LICENCE_DISPLAY
from gateway.storage import StorageError
from gateway.tls import Caller
from gateway.turns import ALONE
from gateway.verifier import Acceptance, Answer, Rejection
from gateway.wire import VerifyRequest
from tests.federation import AH, JS, SH, XU_CLAIMS, ZJ, Federation, Node, found

SECOND = timedelta(seconds=1)


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Federation]:
    """Four provinces under a charter by which Anhui's counter may ask a question of every kind."""

    def may_ask(claims: dict[str, Any]) -> None:
        for matter in claims["agreement"]["matters"]:
            if matter["code"] == LICENCE_DISPLAY:
                matter["questions"] = ["age_at_least", "household_in"]
                matter["comparable_claims"] = ["id_number"]

    made = Federation(tmp_path, founding=found(may_ask))
    yield made
    made.close()


def asked(federation: Federation, **members: Any) -> VerifyRequest:
    """Ask, under a name, about an assertion that was never shown and that several services may hand in."""
    token = federation.assertion(audience=federation[AH].ids.gateway)
    return VerifyRequest(**{"matter": LICENCE_DISPLAY, "presentation": token, "request_id": "case-1"} | members)


def shown(federation: Federation, **members: Any) -> VerifyRequest:
    """Ask about a credential."""
    presentation, nonce = federation.present(federation.issue())
    named = {"matter": HUKOU_MIGRATION, "presentation": presentation, "nonce": nonce, "request_id": "case-1"}
    return VerifyRequest(**named | members)


def ask(federation: Federation, wanted: VerifyRequest, node: Node | None = None) -> Answer:
    here = node or federation[AH]
    return here.verifier.verify(here.caller, wanted)


def told(answer: Answer) -> str:
    return "accepted" if isinstance(answer.verdict, Acceptance) else answer.verdict.reason.value


def same(one: Answer, other: Answer) -> bool:
    """Whether both are one decision, told twice."""
    return (one.verification_id, one.decided_at, one.verdict) == (
        other.verification_id,
        other.decided_at,
        other.verdict,
    ) and isinstance(one.verdict, Acceptance)


# -- the same ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [asked, shown], ids=["assertion", "credential"])
def test_who_asks_the_same_again_is_told_the_first_decision(
    counter: Federation, make: Callable[[Federation], VerifyRequest]
) -> None:
    wanted = make(counter)
    first = ask(counter, wanted)
    assert not first.repeated
    for _ in range(3):
        counter.clock.advance(timedelta(seconds=19, microseconds=1_234))
        again = ask(counter, wanted)
        assert same(first, again)
        assert again.repeated
    assert [(each.verification_id, each.verdict) for each in counter[AH].decisions()] == [
        (first.verification_id, "accepted")
    ]


def test_who_acts_for_somebody_is_told_again_as_well(federation: Federation) -> None:
    federation.matters |= {COURT_FILING}
    federation.restart(AH)
    federation.settle()
    lawyer = ActingFor(
        local_subject="lawyer-1",
        relationship=Party.LAWYER,
        scope=(COURT_FILING,),
        claims={"name": "律师甲"},
        expires_at=None,
    )
    subject = Subject(local_subject="person-1", claims=XU_CLAIMS, actor=lawyer)
    token = federation.assertion(audience=federation[AH].ids.gateway, subject=subject)
    wanted = asked(federation, presentation=token, matter=COURT_FILING)
    first = ask(federation, wanted)
    assert isinstance(first.verdict, Acceptance)
    assert first.verdict.actor is not None
    assert same(first, ask(federation, wanted))


def test_up_to_a_minute_later_and_no_longer(counter: Federation) -> None:
    wanted = asked(counter)
    first = ask(counter, wanted)
    counter.clock.advance(REPEAT_WITHIN)
    assert same(first, ask(counter, wanted))
    counter.clock.advance(SECOND)
    assert told(ask(counter, wanted)) == "REPLAYED"


def test_after_a_restart_and_by_another_process_of_the_same_database(counter: Federation) -> None:
    wanted = asked(counter)
    first = ask(counter, wanted)
    assert same(first, ask(counter, wanted, counter.restart(AH)))
    beside = counter.build(AH)
    try:
        assert same(first, ask(counter, wanted, beside))
    finally:
        beside.close()


def test_the_receipt_is_over_the_first_entry(counter: Federation) -> None:
    wanted = asked(counter, want_receipt=True)
    first = ask(counter, wanted)
    ask(counter, asked(counter))
    counter.witness()
    counter.clock.advance(SECOND)
    view = counter[SH].resolver.view
    one, other = (
        read_receipt(each.receipt, lambda gateway, kid: view.receipt_key(gateway, kid, counter.clock.now).key)
        for each in (first, ask(counter, wanted))
    )
    assert one.verification_id == first.verification_id
    assert replace(other, issued_at=one.issued_at) == one


def test_whose_receipt_could_not_be_signed_gets_it_when_it_can(
    counter: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = asked(counter, want_receipt=True)

    def none(*_: Any) -> str:
        raise Unavailable("no key may sign now")

    with monkeypatch.context() as broken:
        broken.setattr(counter[AH].records.receipts, "sign", none)
        with pytest.raises(Unavailable):
            ask(counter, wanted)
    answer = ask(counter, wanted)
    assert (told(answer), bool(answer.receipt)) == ("accepted", True)


def test_at_the_same_time_all_are_told_one_decision(counter: Federation) -> None:
    wanted = shown(counter)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(counter, wanted), range(16)))
    assert all(same(answers[0], each) for each in answers)
    assert [each.verification_id for each in counter[AH].decisions()] == [answers[0].verification_id]


def test_what_was_recorded_while_the_answer_was_lost_is_told(
    counter: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, log = shown(counter), counter[AH].log
    commit = log.commit

    def cut(group: Any) -> Any:
        commit(group)
        raise StorageError("the connection was cut while it was committed")

    with monkeypatch.context() as broken:
        broken.setattr(log, "commit", cut)
        with pytest.raises(Unavailable):
            ask(counter, wanted)
    answer = ask(counter, wanted)
    assert told(answer) == "accepted"
    assert [each.verification_id for each in counter[AH].decisions()] == [answer.verification_id]


# -- one thing differs ------------------------------------------------------------------------------------------------

DIFFERING: dict[str, dict[str, Any]] = {
    "matter": {"matter": HUKOU_MIGRATION},
    "presentation": {"presentation": "not.a.credential~"},
    "nonce": {"nonce": "another"},
    "request_id": {"request_id": "case-2"},
    "consent_id": {"consent_id": "c" * 22},
    "predicates": {"predicates": (AgeAtLeast(18),)},
    "terminal": {"terminal": "window-2"},
    "want_receipt": {"want_receipt": True},
}
BOTH_ASK: dict[str, list[tuple[Predicate, ...]]] = {
    "another age": [(AgeAtLeast(18),), (AgeAtLeast(19),)],
    "another province": [(HouseholdIn(frozenset({SH})),), (HouseholdIn(frozenset({SH, JS})),)],
    "another number": [(ClaimMatches("id_number", "1"),), (ClaimMatches("id_number", "2"),)],
    "another order": [(AgeAtLeast(18), HouseholdIn(frozenset({SH}))), (HouseholdIn(frozenset({SH})), AgeAtLeast(18))],
    "one more": [(AgeAtLeast(18),), (AgeAtLeast(18), AgeAtLeast(18))],
}
CLAIMS = XU_CLAIMS | {"birthdate": "1900-01-01"}


def test_every_part_of_a_question_is_tried() -> None:
    assert DIFFERING.keys() == {each.name for each in fields(VerifyRequest)}


@pytest.mark.parametrize("name", DIFFERING)
def test_who_asks_anything_else_is_told_nothing_new(counter: Federation, name: str) -> None:
    wanted = asked(counter, presentation=counter.assertion(audience=counter[AH].ids.gateway, claims=CLAIMS))
    first = ask(counter, wanted)
    other = ask(counter, replace(wanted, **DIFFERING[name]))
    assert told(first) == "accepted" != told(other)
    assert first.verification_id != other.verification_id
    assert same(first, ask(counter, wanted))


@pytest.mark.parametrize("name", BOTH_ASK)
def test_who_asks_another_question_is_told_nothing_new(counter: Federation, name: str) -> None:
    wanted = asked(counter, presentation=counter.assertion(audience=counter[AH].ids.gateway, claims=CLAIMS))
    one, other = (replace(wanted, predicates=each) for each in BOTH_ASK[name])
    assert [told(ask(counter, each)) for each in (one, other, one)] == ["accepted", "REPLAYED", "accepted"]


@pytest.mark.parametrize("names", [("", "case-1"), ("case-1", ""), ("", "")], ids=str)
def test_who_does_not_name_the_question_asks_once(counter: Federation, names: tuple[str, str]) -> None:
    wanted = asked(counter)
    answers = [ask(counter, replace(wanted, request_id=name)) for name in names]
    assert list(map(told, answers)) == ["accepted", "REPLAYED"]


def test_another_service_is_told_nothing(counter: Federation) -> None:
    node = counter[AH]
    other = RelyingService(
        identity=f"{node.ids.gateway}/services/other", name="other", sector=node.service.sector, matters=counter.matters
    )
    node.verifier._services = {node.service.identity: node.service, other.identity: other}
    wanted = asked(counter)
    first = ask(counter, wanted)
    caller = Caller(identity=other.identity, certificate_sha256=node.caller.certificate_sha256)
    assert told(node.verifier.verify(caller, wanted)) == "REPLAYED"
    assert told(node.verifier.verify(caller, asked(counter))) == "accepted"
    assert same(first, ask(counter, wanted))


def test_another_host_of_the_service_may_ask_again(counter: Federation) -> None:
    node, wanted = counter[AH], shown(counter)
    first = ask(counter, wanted)
    caller = Caller(identity=node.service.identity, certificate_sha256="B" * 43)
    assert same(first, node.verifier.verify(caller, wanted))


# -- what holds now ---------------------------------------------------------------------------------------------------


def revoke_credential(federation: Federation) -> None:
    federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.REVOKED)
    federation.settle()


def revoke_key(federation: Federation) -> None:
    federation.revoke(SH, federation.keys[SH]["issuer-credential"].public.kid)
    federation.settle()


def follow(federation: Federation, change: Callable[[dict[str, Any]], None]) -> None:
    """Have everybody follow a charter in which the matter is another."""
    agreement = dict(federation.claims["agreement"])
    agreement["matters"] = [dict(each) for each in agreement["matters"]]
    for matter in agreement["matters"]:
        if matter["code"] == HUKOU_MIGRATION:
            change(matter)
    claims = {
        **federation.claims,
        "version": 2,
        "prev_sha256": federation.charter.sha256,
        "agreement": agreement,
    }
    document = unsigned(draft(claims))
    for province in (SH, JS, ZJ):
        document = add_signature(document, federation.keys[province]["anchor-federation"])
    federation[AH].peers[SH].charters[2] = document
    federation[AH].resolver.refresh()
    assert federation[AH].resolver.view.charter.version == 2


def release_less(federation: Federation) -> None:
    def change(matter: dict[str, Any]) -> None:
        matter["released_claims"] = [each for each in matter["released_claims"] if each != "id_type"]

    follow(federation, change)


def keep_for_less(federation: Federation) -> None:
    def change(matter: dict[str, Any]) -> None:
        matter["retention_seconds"] -= 3_600

    follow(federation, change)


def replace_pseudonyms(federation: Federation) -> None:
    federation.pairwise[AH, "pairwise"] = PairwiseKey(version=2, key=b"another".ljust(32))
    federation.restart(AH)
    federation.settle()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (revoke_credential, Reason.CREDENTIAL_REVOKED),
        (revoke_key, Reason.KEY_REVOKED),
        (release_less, Reason.REPLAYED),
        (keep_for_less, Reason.REPLAYED),
        (replace_pseudonyms, Reason.REPLAYED),
    ],
)
def test_what_would_not_be_decided_so_now_is_not_told_again(
    federation: Federation, change: Callable[[Federation], None], reason: Reason
) -> None:
    wanted = shown(federation)
    first = ask(federation, wanted)
    assert told(first) == "accepted"
    change(federation)
    assert ask(federation, wanted).verdict == Rejection(reason=reason)
    assert [each.verdict for each in federation[AH].decisions()] == ["accepted", "rejected"]


def test_newer_data_that_say_the_same_change_nothing(federation: Federation) -> None:
    wanted = shown(federation)
    first = ask(federation, wanted)
    federation.revoke(JS, federation.keys[JS]["issuer-credential"].public.kid)
    federation.settle()
    again = ask(federation, wanted)
    assert same(first, again)
    assert again.basis.view_id != first.basis.view_id


def test_who_comes_of_age_in_between_is_not_told_by_the_old_number(counter: Federation) -> None:
    counter.clock.advance(timedelta(hours=15) - 30 * SECOND)  # half a minute before midnight in China
    counter.settle()
    claims = XU_CLAIMS | {"birthdate": "2008-11-24"}
    token = counter.assertion(audience=counter[AH].ids.gateway, claims=claims)
    wanted = asked(counter, presentation=token, predicates=(AgeAtLeast(18),))
    counter.clock.advance(29 * SECOND)
    first = ask(counter, wanted)
    assert isinstance(first.verdict, Acceptance)
    assert first.verdict.answers == (False,)
    counter.clock.advance(SECOND)
    assert told(ask(counter, wanted)) == "REPLAYED"


def test_a_withdrawn_consent_carries_no_repeat(tmp_path: Path) -> None:
    def on_consent(claims: dict[str, Any]) -> None:
        for matter in claims["agreement"]["matters"]:
            if matter["code"] == HUKOU_MIGRATION:
                matter["consent"] = {"zh": "同意书", "en": "consent"}

    federation = Federation(tmp_path, founding=found(on_consent))
    node = federation[AH]
    consents = Consents(
        services={node.service.identity: node.service},
        agreement=lambda: node.resolver.view.charter.agreement,
        store=node.store,
        world=federation.world,
    )
    consent_id = consents.record(
        node.caller,
        matter_code=HUKOU_MIGRATION,
        claims=frozenset({"name", "id_number", "hukou_region"}),
        lifetime=timedelta(days=1),
    ).consent_id
    wanted = shown(federation, consent_id=consent_id)
    first = ask(federation, wanted)
    assert same(first, ask(federation, wanted))
    consents.withdraw(node.caller, consent_id)
    assert told(ask(federation, wanted)) == "CONSENT_WITHDRAWN"
    federation.close()


def test_what_was_edited_in_the_log_is_neither_told_nor_signed_again(counter: Federation) -> None:
    first, second = (asked(counter, want_receipt=receipt) for receipt in (False, True))
    for wanted in (first, second):
        ask(counter, wanted)
    counter.witness()
    db = counter[AH].log._ledger
    db.execute("UPDATE entries SET entry = replace(CAST(entry AS TEXT), '\"released\"', '\"Released\"')")
    assert told(ask(counter, first)) == "REPLAYED"
    db.execute("UPDATE entries SET entry = CAST(replace(CAST(entry AS TEXT), '\"Released\"', '\"released\"') AS BLOB)")
    assert told(ask(counter, first)) == "accepted"
    db.execute(
        'UPDATE entries SET entry = CAST(replace(CAST(entry AS TEXT), \'"view_id":"\', \'"view_id":"x\') AS BLOB)'
    )
    assert told(ask(counter, second)) == "REPLAYED"
    assert told(ask(counter, first)) == "REPLAYED"


# -- several at once --------------------------------------------------------------------------------------------------


def ask_all(federation: Federation, items: Sequence[VerifyRequest], among: set[str] | None = None) -> list[Answer]:
    node, answers = federation[AH], []

    def write(_item: VerifyRequest, answer: Answer | Exception) -> None:
        assert isinstance(answer, Answer), answer
        answers.append(answer)

    node.verifier.verify_all(
        node.caller,
        items,
        read=lambda item: item,
        write=write,
        turn=ALONE,
        asked=set() if among is None else among,
    )
    return answers


def test_a_batch_is_asked_again_item_by_item(counter: Federation) -> None:
    items = [asked(counter, request_id=f"case-{number}") for number in range(3)]
    first = ask(counter, items[1])
    answers = ask_all(counter, items)
    assert same(first, answers[1])
    for one, other in zip(answers, ask_all(counter, [*items, asked(counter)]), strict=False):
        assert same(one, other)
    assert same(answers[2], ask(counter, items[2]))
    assert len(counter[AH].decisions()) == 4


def test_the_same_twice_in_one_call_is_accepted_once(counter: Federation) -> None:
    near, far = asked(counter), asked(counter, request_id="far")
    for _ in range(2):  # also when all of it is asked again
        among: set[str] = set()
        found = [told(each) for each in (*ask_all(counter, [near, near, far], among), *ask_all(counter, [far], among))]
        assert found == ["accepted", "REPLAYED", "accepted", "REPLAYED"]


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_no_word_of_the_question_is_kept(counter: Federation) -> None:
    wanted = asked(counter, predicates=(ClaimMatches("id_number", "a number on file"),))
    answer = ask(counter, wanted)
    assert same(answer, ask(counter, wanted))
    ((key, request, entry_id),) = (
        counter[AH].log._ledger.execute("SELECT replay_key, request, entry_id FROM replays").fetchall()
    )
    assert (len(key), len(request), entry_id) == (43, 43, answer.verification_id)
    assert key != request
    assert request.encode() not in b"".join(
        each.raw for log in counter[AH].log.logs() for each in counter[AH].log.read_entries(log.log_id, 0, log.size)
    )
    written = b"".join(path.read_bytes() for path in counter.directory.glob("ah.sqlite*"))
    canaries = ["徐某", XU_CLAIMS["id_number"], "a number on file", *wanted.presentation.split(".")[1:]]
    assert [canary for canary in canaries if canary.encode() in written] == []
