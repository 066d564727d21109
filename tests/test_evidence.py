"""What was decided can be proven years later, by whoever is entitled, without trusting the gateway that decided it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.core import key_schedule
from gateway.core.checkpoint import kept_checkpoint, make_checkpoint, make_cosignature
from gateway.core.disputes import DisputeOutcome, Ground
from gateway.core.entries import Keep, Kind, TrustChange, read, read_erasure, read_verification
from gateway.core.jose import SoftwareKey
from gateway.core.key_schedule import Change, KeyPurpose, Records
from gateway.core.memory import RevocationReason
from gateway.core.merkle import append, check_inclusion, consistency_proof, leaf_hash, root_hash
from gateway.core.reasons import NotHeld, NotPermitted, Reason, Rejected, Unavailable, WrongState
from gateway.core.receipt import (
    EvidenceBundle,
    ReceiptCheck,
    check_bundle,
    read_bundle,
    read_logged,
    read_receipt,
    view_of,
)
from gateway.disclosures import MAX_TOLD_CHARS
from gateway.disputes import MAX_DISPUTES
from gateway.issuer import Subject
from gateway.keyring import Author
from gateway.lab.charter import HUKOU_MIGRATION, LICENCE_DISPLAY
from gateway.peers import Disclosed, Disclosures, Head
from gateway.storage import EntryQuery, StorageError
from gateway.tls import Caller
from gateway.verifier import Acceptance, Answer
from gateway.wire import VerifyRequest
from gateway.witness import FORKED, REPLACED, RESUMED, ROLLED_BACK
from tests.federation import AH, JS, SH, XU_CLAIMS, ZJ, Federation, Node, found

DAY = timedelta(days=1)
OTHERS = (SH, JS, ZJ)


@pytest.fixture
def federation(restarted: Federation) -> Federation:
    restarted.publish()
    return restarted


def accept(federation: Federation, **changes: Any) -> Answer:
    presentation, nonce = federation.present(federation.issue())
    node = federation[AH]
    return node.verifier.verify(
        node.caller,
        VerifyRequest(matter=HUKOU_MIGRATION, presentation=presentation, nonce=nonce, request_id="case-1", **changes),
    )


def checked(federation: Federation, evidence: EvidenceBundle) -> ReceiptCheck:
    return check_bundle(
        evidence,
        federation.charter,
        lambda charter, at: view_of(evidence, charter, at),
        read_logged,
        federation.clock.now,
    )


def evidence_of(federation: Federation, answer: Answer) -> EvidenceBundle:
    return read_bundle(federation[AH].records.receipts.evidence(answer.verification_id).document)


# -- one verification -------------------------------------------------------------------------------------------------


def test_a_receipt_comes_with_the_verdict_and_names_the_entry(federation: Federation) -> None:
    answer = accept(federation, want_receipt=True)
    view = federation[SH].resolver.view
    receipt = read_receipt(
        answer.receipt, lambda gateway, kid: view.receipt_key(gateway, kid, federation.clock.now).key
    )
    stored = federation[AH].log.find_entry(answer.verification_id)
    assert stored is not None
    assert (receipt.verification_id, receipt.verdict) == (answer.verification_id, "accepted")
    assert (receipt.log, receipt.position) == (stored.log_id, stored.position)
    assert receipt.entry_sha256 == leaf_hash(stored.raw)
    assert receipt.charter_sha256 == federation.charter.sha256
    assert receipt.view_id == answer.basis.view_id


def test_no_receipt_is_signed_that_nobody_asked_for(federation: Federation) -> None:
    assert accept(federation).receipt == ""


def test_a_refusal_has_a_receipt_too(federation: Federation) -> None:
    node = federation[AH]
    answer = node.verifier.verify(
        node.caller, VerifyRequest(matter=LICENCE_DISPLAY, presentation="not.a.credential~", want_receipt=True)
    )
    check = checked(federation, evidence_of(federation, answer))
    assert (check.receipt.verdict, check.receipt.reason) == ("rejected", Reason.MALFORMED)


def test_nothing_is_used_up_when_no_receipt_can_be_signed(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue())
    node = federation[AH]
    (active,) = [each for each in node.ring.records(KeyPurpose.RECEIPT) if each.state.value == "active"]
    federation.revoke(AH, active.key.kid, purpose=KeyPurpose.RECEIPT)
    before = node.decisions()
    with pytest.raises(Unavailable):
        accept(federation, want_receipt=True)
    assert node.decisions() == before
    assert isinstance(federation.verify(presentation, nonce).verdict, Acceptance)


def test_evidence_is_complete_when_others_have_seen_the_log(federation: Federation) -> None:
    answer = accept(federation)
    check = checked(federation, evidence_of(federation, answer))
    assert (check.in_log, check.witnesses, check.problems) == (False, (), ())
    federation.witness()
    check = checked(federation, evidence_of(federation, answer))
    assert check.in_log
    assert check.witnesses == tuple(federation[province].ids.gateway for province in OTHERS)
    assert check.problems == ()


def test_evidence_holds_years_later_and_offline(federation: Federation) -> None:
    answer = accept(federation)
    federation.witness()
    evidence = evidence_of(federation, answer)
    federation.clock.advance(5_000 * DAY)
    assert checked(federation, evidence).in_log


def test_evidence_can_be_had_when_the_keys_of_the_day_are_gone(federation: Federation) -> None:
    answer = accept(federation)
    federation.witness()
    for purpose in (KeyPurpose.RECEIPT, KeyPurpose.AUDIT):
        kid = federation.new_key(AH, purpose)
        federation.settle()
        federation.activate(AH, kid, purpose)
    federation.clock.advance(timedelta(hours=3))
    federation.settle()
    for purpose in (KeyPurpose.RECEIPT, KeyPurpose.AUDIT):
        old = key_schedule.drained_last(federation[AH].ring.records(purpose))
        assert old is not None
        federation[AH].ring.change(purpose, partial(retired, old.key.kid), Author())
    federation.settle()
    federation.witness()
    check = checked(federation, evidence_of(federation, answer))
    assert (check.in_log, len(check.witnesses)) == (True, 3)


def retired(kid: str, records: Records, now: datetime) -> Change:
    return key_schedule.retire(records, kid, now)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("entry = replace(entry, 'HK-QY', 'XX-QY')", id="so that it reads well"),
        pytest.param("entry = replace(entry, 'accepted', 'rejected')", id="so that there is no such verdict"),
        pytest.param("entry = substr(entry, 2)", id="so that it cannot be read"),
    ],
)
def test_no_receipt_is_signed_for_an_entry_that_was_edited(federation: Federation, change: str) -> None:
    answer = accept(federation)
    federation.witness()
    assert checked(federation, evidence_of(federation, answer)).in_log
    edit(federation[AH], f"UPDATE entries SET {change} WHERE entry_id = ?", answer.verification_id)
    with pytest.raises(Unavailable):
        evidence_of(federation, answer)


def test_a_compromised_key_proves_nothing(federation: Federation) -> None:
    answer = accept(federation)
    federation.witness()
    evidence = evidence_of(federation, answer)
    (active,) = [each for each in federation[AH].ring.records(KeyPurpose.RECEIPT) if each.state.value == "active"]
    federation.revoke(AH, active.key.kid, purpose=KeyPurpose.RECEIPT)
    federation.settle()
    events = federation[SH].resolver.state().events
    with pytest.raises(Rejected) as refused:
        checked(federation, replace(evidence, events=events))
    assert refused.value.reason is Reason.KEY_REVOKED


def test_an_entry_says_nothing_about_the_person(federation: Federation) -> None:
    answer = accept(federation, terminal="window-3")
    stored = federation[AH].log.find_entry(answer.verification_id)
    assert stored is not None
    text = stored.raw.decode()
    subject = federation[SH].issuer.subjects("person-1", "")[0]
    assert not any(str(secret) in text for secret in (*XU_CLAIMS.values(), "person-1", subject))
    said = read_verification(read(stored.raw))
    assert (said.terminal, said.request_id, len(said.person), len(said.replay)) == ("window-3", "case-1", 43, 43)
    assert said.caller_certificate == federation[AH].caller.certificate_sha256
    assert said.duration > 0


def test_evidence_of_two_services_does_not_tell_that_it_is_one_person(federation: Federation) -> None:
    first, second = (read_verification(read(evidence_of(federation, accept(federation)).entry)) for _ in range(2))
    assert first.person
    assert first.person != second.person
    shared = {name for name in ("person", "actor", "replay") if getattr(first, name) == getattr(second, name) != ""}
    assert shared == set()
    assert len(federation[SH].records.disclosures.of_person("person-1", None).found) == 2


def test_who_is_not_accepted_is_not_referred_to(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue())
    federation.verify(presentation, nonce)
    federation.verify(presentation, nonce)
    accepted, replayed = federation[AH].decisions()
    assert (accepted.verdict, replayed.verdict, replayed.reason) == ("accepted", "rejected", "REPLAYED")
    assert accepted.person
    assert (replayed.person, replayed.released) == ("", ())
    assert replayed.replay == accepted.replay


# -- the tree and its heads -------------------------------------------------------------------------------------------


def test_a_head_is_signed_over_whatever_was_written(federation: Federation) -> None:
    node = federation[AH]
    answers = [accept(federation) for _ in range(3)]
    node.records.notary.tick()
    held = node.records.notary.checkpoint()
    assert held is not None
    (log,) = node.log.logs()
    assert (held.size, log.tree_size) == (log.size, log.size)
    head = kept_checkpoint(held.token)
    for answer in answers:
        stored = node.log.find_entry(answer.verification_id)
        assert stored is not None
        proof = node.records.notary.inclusion(log.log_id, stored.position, held.size)
        check_inclusion(leaf_hash(stored.raw), stored.position, held.size, proof, head.root)


def test_no_head_is_signed_twice_over_the_same(federation: Federation) -> None:
    notary = federation[AH].records.notary
    notary.tick()
    first = notary.checkpoint()
    federation.clock.advance(timedelta(minutes=9))
    notary.tick()
    assert notary.checkpoint() == first
    federation.clock.advance(timedelta(minutes=2))
    notary.tick()
    again = notary.checkpoint()
    assert first is not None
    assert again is not None
    assert again.size == first.size
    assert again.issued_at > first.issued_at


def test_a_head_never_bears_an_earlier_time_than_the_one_before(federation: Federation) -> None:
    notary = federation[AH].records.notary
    notary.tick()
    first = notary.checkpoint()
    federation.clock.advance(-timedelta(seconds=20))
    accept(federation)
    notary.tick()
    second = notary.checkpoint()
    assert first is not None
    assert second is not None
    assert (second.size > first.size, second.issued_at) == (True, first.issued_at)


def test_the_tree_goes_on_where_a_crash_left_it(federation: Federation) -> None:
    node = federation[AH]
    accept(federation)
    node.records.notary.tick()
    accept(federation)
    (log,) = node.log.logs()
    # What was written of the tree when the power failed: tiles, and not yet that they count.
    tile = node.log.tile(log.log_id, 0, 0)
    node.log.save_tree(log.log_id, log.tree_size, {(0, 0): tile + b"\xff" * 32})
    node = federation.restart(AH)
    federation.settle()
    node.records.notary.tick()
    held = node.records.notary.checkpoint()
    (log,) = node.log.logs()
    assert held is not None
    assert held.size == log.size
    assert b"\xff" * 32 not in node.log.tile(log.log_id, 0, 0)


def test_an_entry_that_is_gone_before_it_was_hashed_stops_the_signing(federation: Federation) -> None:
    node = federation[AH]
    node.records.notary.tick()
    answer = accept(federation)
    accept(federation)
    edit(node, "DELETE FROM entries WHERE entry_id = ?", answer.verification_id)
    node.records.notary.tick()
    assert not node.records.notary.is_signing


def edit(node: Node, statement: str, *values: object) -> None:
    """Change a province's database by hand, as somebody would who has the file."""
    with closing(sqlite3.connect(node.store._path)) as database, database:
        database.execute(statement, values)


# -- witnesses --------------------------------------------------------------------------------------------------------


def test_others_cosign_what_continues_what_they_have_seen(federation: Federation) -> None:
    for _ in range(3):
        accept(federation)
        federation.clock.advance(timedelta(seconds=1))
        federation.witness()
    held = federation[AH].records.notary.checkpoint()
    assert held is not None
    assert set(held.cosignatures) == {federation[province].ids.gateway for province in OTHERS}
    for province in OTHERS:
        (seen,) = federation[province].records.witness.seen_of(federation[AH].ids.gateway)
        assert seen.size == held.size
        assert federation[province].records.witness.forks() == []


def test_what_was_seen_outlives_a_restart_of_the_witness(federation: Federation) -> None:
    accept(federation)
    federation.witness()
    before = federation[SH].records.witness.seen_of(federation[AH].ids.gateway)
    assert federation.restart(SH).records.witness.seen_of(federation[AH].ids.gateway) == before


def is_sound(node: Node) -> bool:
    return node.records.is_sound


def shown(federation: Federation, head: Head) -> bool:
    """Let Shanghai see a head of Anhui's."""
    peer = federation[SH].peers[AH]
    peer.heads = [head]
    try:
        return federation[SH].records.witness.look(peer)
    finally:
        peer.heads = []


def forged(
    federation: Federation, *, root: bytes = b"\7" * 32, size: int | None = None, log: str | None = None, later: int = 0
) -> Head:
    """Sign, with Anhui's own audit key, a head that it never had."""
    held = federation[AH].records.notary.checkpoint()
    assert held is not None
    token = make_checkpoint(
        gateway=federation[AH].ids.gateway,
        log=log or held.log_id,
        size=held.size if size is None else size,
        root=root,
        now=federation.clock.now + timedelta(seconds=later),
        signer=federation[AH].ring.signer(KeyPurpose.AUDIT),
    )
    return Head(checkpoint=token, consistency=())


FORKS: dict[str, tuple[Callable[[Federation], Head], str]] = {
    "another root at the same size": (forged, FORKED),
    "a larger log that does not continue": (lambda federation: forged(federation, size=1_000), FORKED),
    "a smaller log": (lambda federation: forged(federation, size=1, later=1), ROLLED_BACK),
    "another log": (lambda federation: forged(federation, log="another", size=1), REPLACED),
}


@pytest.mark.parametrize(("make", "kind"), FORKS.values(), ids=FORKS.keys())
def test_a_log_that_contradicts_itself_is_found_out(
    federation: Federation, make: Callable[[Federation], Head], kind: str
) -> None:
    accept(federation)
    accept(federation)
    federation.witness()
    witness = federation[SH].records.witness
    before = witness.seen_of(federation[AH].ids.gateway)
    head = make(federation)
    shown(federation, head)
    shown(federation, head)  # once more: it is found once
    (fork,) = witness.forks()
    assert (fork.gateway, fork.kind) == (federation[AH].ids.gateway, kind)
    assert (fork.seen, fork.shown) == (before[-1].token, head.checkpoint)
    assert witness.seen_of(federation[AH].ids.gateway)[0] == before[0]
    assert not federation[SH].records.is_sound
    node = federation.restart(SH)
    assert node.records.witness.forks() == [fork]
    assert not is_sound(node)
    federation.clock.advance(timedelta(days=31))
    assert is_sound(node)
    assert node.records.witness.forks() == [fork]


HARMLESS: dict[str, Callable[[Federation], Head]] = {
    "an old letter": lambda federation: forged(federation, size=1, later=-60),
    "from the future": lambda federation: forged(federation, size=1_000, later=3_600),
    "rubbish": lambda _: Head(checkpoint="rubbish"),
    "of another gateway": lambda federation: Head(checkpoint=federation[JS].records.notary.checkpoint().token),  # type: ignore[union-attr]
    "nothing": lambda _: Head(checkpoint=""),
}


@pytest.mark.parametrize("make", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_proves_nothing_raises_no_alarm_and_is_not_cosigned(
    federation: Federation, make: Callable[[Federation], Head]
) -> None:
    accept(federation)
    federation.witness()
    witness = federation[SH].records.witness
    before = witness.seen_of(federation[AH].ids.gateway)
    cosigned = list(federation[SH].peers[AH].cosigned)
    assert not shown(federation, make(federation))
    assert witness.forks() == []
    assert federation[SH].records.is_sound
    assert witness.seen_of(federation[AH].ids.gateway) == before
    assert federation[SH].peers[AH].cosigned == cosigned


def test_a_head_that_a_stranger_signed_is_not_looked_at(federation: Federation) -> None:
    accept(federation)
    federation.witness()
    stranger: SoftwareKey = federation.keys[JS]["gateway-audit"]
    held = federation[AH].records.notary.checkpoint()
    assert held is not None
    token = make_checkpoint(
        gateway=federation[AH].ids.gateway,
        log=held.log_id,
        size=held.size,
        root=b"\7" * 32,
        now=federation.clock.now,
        signer=stranger,
    )
    shown(federation, Head(checkpoint=token))
    assert federation[SH].records.witness.forks() == []


def test_no_cosignature_counts_but_another_gateways_own(federation: Federation) -> None:
    accept(federation)
    federation.witness()
    node, token = federation[AH], federation[SH].peers[AH].cosigned[-1]
    assert node.records.notary.take_cosignature(token) == federation[SH].ids.gateway
    with pytest.raises(Rejected):
        node.records.notary.take_cosignature(token[:-6] + "AAAAAA")
    with pytest.raises((Rejected, NotHeld)):
        node.records.notary.take_cosignature(federation[AH].peers[SH].cosigned[-1])  # of Shanghai's log


def test_a_log_that_had_ended_and_goes_on_is_found_out(federation: Federation) -> None:
    node, witness = federation[AH], federation[SH].records.witness
    accept(federation)
    federation.witness()
    (ended,) = node.log.logs()
    node.log.begin_log(federation.clock.now, "", 0)
    federation.witness()
    before = witness.seen_of(node.ids.gateway)
    cosigned = list(federation[SH].peers[AH].cosigned)
    tiles: dict[tuple[int, int], bytes] = {}

    class Continued:
        def tile(self, level: int, number: int) -> bytes:
            return tiles.get((level, number)) or node.log.tile(ended.log_id, level, number)

    size = before[0].size
    tiles |= append(size, [leaf_hash(b"what the other log is not to show")], Continued())
    head = forged(federation, log=ended.log_id, size=size + 1, root=root_hash(size + 1, Continued()), later=1)
    shown(federation, replace(head, consistency=consistency_proof(size, size + 1, Continued())))
    assert [fork.kind for fork in witness.forks()] == [REPLACED, RESUMED]
    assert witness.seen_of(node.ids.gateway) == before
    assert federation[SH].peers[AH].cosigned == cosigned


def test_a_witness_makes_us_write_no_more_than_it_has_to_say(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(federation)
    federation.witness()
    node, written = federation[AH], list[object]()
    held = node.records.notary.checkpoint()
    assert held is not None
    monkeypatch.setattr(node.log, "save_cosignature", lambda *arguments: written.append(arguments))

    def cosign() -> None:
        signer = federation[SH].ring.signer(KeyPurpose.AUDIT)
        token = make_cosignature(
            kept_checkpoint(held.token), witness=federation[SH].ids.gateway, now=federation.clock.now, signer=signer
        )
        node.records.notary.take_cosignature(token)

    cosign()
    cosign()
    assert written == []
    federation.clock.advance(timedelta(minutes=6))  # its key may be another one by now
    cosign()
    assert len(written) == 1
    accept(federation)
    node.records.notary.tick()
    cosign()
    assert len(written) == 1


# -- a backup that is put back ----------------------------------------------------------------------------------------


def test_a_rolled_back_log_is_ended_and_another_one_begun(federation: Federation) -> None:
    """By entries alone: no change of trust tells that the database was put back. The witnesses do."""
    accept(federation)
    federation.witness()
    node = federation[AH]
    node.close()
    backup = {file: file.read_bytes() for file in federation.directory.glob("ah.sqlite*")}
    federation.nodes[AH] = federation.build(AH)
    federation.settle()
    lost = accept(federation)
    federation.witness()
    federation[AH].close()
    for file in federation.directory.glob("ah.sqlite*"):
        file.unlink()
    for file, content in backup.items():
        file.write_bytes(content)
    node = federation.nodes[AH] = federation.build(AH)
    federation.settle()
    assert node.log.find_entry(lost.verification_id) is None
    (old,) = node.log.logs()
    federation.witness()
    ended, begun = node.log.logs()
    assert ended.log_id == old.log_id
    first = node.log.read_entries(begun.log_id, 0, 1)[0]
    body = read(first.raw).body
    assert (body["replaced"], body["seen"]) == (old.log_id, old.log_id)
    assert body["seen_size"] > body["size"]
    # It goes on in the new log, which others follow; what they have seen of the old one stays.
    answer = accept(federation)
    federation.witness()
    federation.witness()
    check = checked(federation, evidence_of(federation, answer))
    assert (check.receipt.log, len(check.witnesses)) == (begun.log_id, 3)
    (fork,) = federation[SH].records.witness.forks()
    assert fork.kind == REPLACED
    assert [each.log_id for each in federation[SH].records.witness.seen_of(node.ids.gateway)] == [
        old.log_id,
        begun.log_id,
    ]
    assert not node.records.is_sound
    # And no third one, whoever goes on showing the first.
    federation.restart(AH)
    federation.settle()
    federation.witness()
    assert len(federation[AH].log.logs()) == 2


def test_a_superseded_key_speaks_for_no_log_any_more(federation: Federation) -> None:
    node = federation[AH]
    accept(federation)
    federation.witness()
    old = node.ring.signer(KeyPurpose.AUDIT)
    superseded = federation.key_stores[AH].signer("gateway-audit", old.public.kid)
    kid = federation.new_key(AH, KeyPurpose.AUDIT)
    federation.settle()
    federation.activate(AH, kid, KeyPurpose.AUDIT)
    federation.revoke(AH, old.public.kid, RevocationReason.SUPERSEDED, KeyPurpose.AUDIT)
    federation.settle()
    federation.clock.advance(timedelta(minutes=11))
    federation.settle()
    federation.witness()
    token = make_checkpoint(
        gateway=node.ids.gateway,
        log="another",
        size=5,
        root=b"\7" * 32,
        now=federation.clock.now,
        signer=superseded,
    )
    with pytest.raises(Rejected) as refused:
        node.records.notary.take_seen(federation[SH].ids.gateway, token)
    assert refused.value.reason is Reason.KEY_REVOKED
    assert len(node.log.logs()) == 1
    shown(federation, Head(checkpoint=token))
    assert federation[SH].records.witness.forks() == []
    held = node.records.notary.checkpoint()
    assert held is not None
    assert len(held.cosignatures) == 3  # of the heads that the new key signs


def test_a_rewritten_log_is_ended_as_well(federation: Federation) -> None:
    """Somebody changes an entry and makes the tree anew over it."""
    answer = accept(federation)
    federation.witness()
    node = federation[AH]
    edit(
        node,
        "UPDATE entries SET entry = replace(entry, '\"accepted\"', '\"rejected\"') WHERE entry_id = ?",
        answer.verification_id,
    )
    edit(node, "UPDATE logs SET tree_size = 0")
    edit(node, "DELETE FROM tiles")
    edit(node, "DELETE FROM checkpoints")
    node = federation.restart(AH)
    federation.settle()
    federation.witness()
    federation.witness()
    assert len(node.log.logs()) == 2
    kinds = {fork.kind for province in OTHERS for fork in federation[province].records.witness.forks()}
    assert kinds <= {FORKED, REPLACED}
    assert REPLACED in kinds


# -- who is told what -------------------------------------------------------------------------------------------------


def test_a_person_is_told_who_verified_them(federation: Federation) -> None:
    answer = accept(federation)
    federation.clock.advance(timedelta(minutes=1))
    assertion = federation.assertion(audience=federation[ZJ].service.identity)
    other = federation.verify(assertion, at=ZJ, matter=LICENCE_DISPLAY)
    told = federation[SH].records.disclosures.of_person("person-1", None)
    assert [(each.province, each.disclosed.verification_id) for each in told.found] == [
        ("zj", other.verification_id),
        ("ah", answer.verification_id),
    ]
    assert (told.unreachable, told.truncated) == ((), False)
    disclosed = told.found[1].disclosed
    assert (disclosed.service, disclosed.service_name) == (federation[AH].service.identity, "counter")
    assert disclosed.verified_at == answer.decided_at
    assert set(disclosed.claims) == set(answer.verdict.attributes)  # type: ignore[union-attr]


def test_nobody_else_is_among_them(federation: Federation) -> None:
    wallet = federation.issue(subject=Subject(local_subject="person-2", claims=XU_CLAIMS))
    federation.verify(*federation.present(wallet))
    assert federation[SH].records.disclosures.of_person("person-1", None).found == ()
    assert len(federation[SH].records.disclosures.of_person("person-2", None).found) == 1


def test_who_was_turned_away_was_not_disclosed(federation: Federation) -> None:
    presentation, nonce = federation.present(federation.issue(acr="urn:yrd:loa:4"))
    federation.verify(presentation, nonce)
    federation.verify(presentation, nonce)
    assert len(federation[SH].records.disclosures.of_person("person-1", None).found) == 1


def test_a_time_bounds_what_is_told(federation: Federation) -> None:
    accept(federation)
    federation.clock.advance(timedelta(minutes=5))
    accept(federation)
    desk, between = federation[SH].records.disclosures, federation.clock.now - timedelta(minutes=1)
    (later,) = desk.of_person("person-1", between).found
    (earlier,) = desk.of_person("person-1", None, between).found
    assert earlier.disclosed.verified_at < between < later.disclosed.verified_at


def test_a_province_that_cannot_be_asked_is_named(federation: Federation) -> None:
    accept(federation)
    federation.silence(SH, [AH])
    told = federation[SH].records.disclosures.of_person("person-1", None)
    assert (told.found, told.unreachable) == ((), ("ah",))


def test_only_the_home_provinces_gateway_may_ask(federation: Federation) -> None:
    accept(federation)
    desk = federation[AH].records.disclosures
    subjects = federation[SH].issuer.subjects("person-1", "")
    issuer = federation[SH].ids.issuer
    home = Caller(identity=federation[SH].ids.gateway, certificate_sha256="A" * 43)
    assert len(desk.of_subjects(home, issuer, subjects, None).found) == 1
    for stranger in (federation[JS].ids.gateway, federation[AH].service.identity, federation[SH].ids.issuer + "/x"):
        with pytest.raises(NotPermitted):
            desk.of_subjects(replace(home, identity=stranger), issuer, subjects, None)


def test_no_gateway_learns_what_people_are_called_at_services_of_others(federation: Federation) -> None:
    peer, asked = federation[SH].peers[AH], list[str]()
    foreign, own = federation[JS].service.identity, federation[AH].service.identity

    def answer(issuer: str, subjects: Sequence[str], since: datetime | None, until: datetime | None) -> Disclosures:
        asked.extend(subjects)
        return Disclosures(found=(), truncated=False, audiences=(foreign, own, peer.gateway, ""))

    peer.disclosures = answer  # type: ignore[method-assign]
    federation[SH].records.disclosures.of_person("person-1", None)
    known = {each: set(federation[SH].issuer.subjects("person-1", each)) for each in ("", own, foreign)}
    assert set(asked) == known[""] | known[own]
    assert not set(asked) & known[foreign]


def test_what_one_province_tells_takes_no_room_from_the_others(federation: Federation) -> None:
    true = accept(federation)
    false = Disclosed(
        verification_id="x",
        verified_at=federation.clock.now + timedelta(days=1),
        service="s",
        service_name="s",
        matter="m",
        claims=("c" * 512,) * 100,
        as_actor=False,
        consent_id="",
    )
    flood = Disclosures(found=(false,) * 1_000, truncated=False, audiences=())
    federation[SH].peers[JS].disclosures = lambda *_: flood  # type: ignore[method-assign]
    told = federation[SH].records.disclosures.of_person("person-1", None)
    assert true.verification_id in {each.disclosed.verification_id for each in told.found}
    assert told.truncated
    assert sum(len(claim) for each in told.found for claim in each.disclosed.claims) <= MAX_TOLD_CHARS


# -- disputes ---------------------------------------------------------------------------------------------------------


def test_a_verification_elsewhere_is_contested_and_settled(federation: Federation) -> None:
    answer = accept(federation)
    federation.witness()
    disputes = federation[SH].records.disputes
    opened = disputes.open(
        "https://clerk",
        verification_id=answer.verification_id,
        province="ah",
        ground=Ground.NOT_ME,
        case_reference="2026-17",
    )
    assert opened.outcome is None
    check = checked(federation, read_bundle(disputes.evidence(opened)))
    assert (check.receipt.verification_id, len(check.witnesses)) == (answer.verification_id, 3)
    federation.clock.advance(timedelta(days=1))
    settled = disputes.resolve("https://judge", opened.dispute_id, DisputeOutcome.DISMISSED)
    assert (settled.outcome, settled.resolved_by, settled.resolved_at) == (
        DisputeOutcome.DISMISSED,
        "https://judge",
        federation.clock.now,
    )
    assert disputes.resolve("https://judge", opened.dispute_id, DisputeOutcome.DISMISSED) == settled
    with pytest.raises(WrongState):
        disputes.resolve("https://judge", opened.dispute_id, DisputeOutcome.UPHELD)
    assert federation.restart(SH).records.disputes.get(opened.dispute_id) == settled
    kinds = [each.index.kind for each in federation[SH].log.list_entries(EntryQuery(kinds=("dispute",)), 10)]
    assert kinds == ["dispute", "dispute"]


def test_the_evidence_that_was_put_by_serves_when_the_other_province_is_gone(federation: Federation) -> None:
    answer = accept(federation)
    federation.witness()
    disputes = federation[SH].records.disputes
    opened = disputes.open(
        "c", verification_id=answer.verification_id, province="ah", ground=Ground.OTHER, case_reference=""
    )
    federation.silence(SH)
    kept = disputes.evidence(opened)
    assert checked(federation, read_bundle(kept)).in_log
    edit(federation[SH], "UPDATE evidence SET document = ?", kept[:-1] + b" ")
    with pytest.raises(Unavailable):
        disputes.evidence(opened)


@pytest.mark.parametrize("given", ["garbage", "another's"])
def test_no_evidence_is_put_by_but_that_of_what_is_contested(federation: Federation, given: str) -> None:
    answer, other = accept(federation), accept(federation)
    federation.witness()
    disputes, peer = federation[SH].records.disputes, federation[SH].peers[AH]
    opened = disputes.open(
        "c", verification_id=answer.verification_id, province="ah", ground=Ground.NOT_ME, case_reference=""
    )
    false = {"garbage": given, "another's": peer.evidence(other.verification_id)}[given]
    peer.evidence = lambda verification_id: false  # type: ignore[method-assign]
    # What was put by serves on; and nothing false is put by.
    assert read_receipt_id(federation, disputes.evidence(opened)) == answer.verification_id
    with pytest.raises(Unavailable):
        disputes.open(
            "c", verification_id=answer.verification_id, province="ah", ground=Ground.NOT_ME, case_reference=""
        )


def read_receipt_id(federation: Federation, evidence: bytes) -> str:
    return checked(federation, read_bundle(evidence)).receipt.verification_id


def test_a_verification_is_contested_so_often_and_each_dispute_settled_once(federation: Federation) -> None:
    answer = accept(federation)
    disputes = federation[AH].records.disputes

    def open_one() -> str:
        return disputes.open(
            "c", verification_id=answer.verification_id, province="", ground=Ground.NOT_ME, case_reference=""
        ).dispute_id

    opened = [open_one() for _ in range(MAX_DISPUTES)]
    with pytest.raises(WrongState):
        open_one()
    for each in opened:
        assert disputes.resolve("j", each, DisputeOutcome.UPHELD).outcome is DisputeOutcome.UPHELD
    with pytest.raises(WrongState):
        disputes.resolve("j", opened[-1], DisputeOutcome.DISMISSED)


def test_disputes_are_listed_newest_first_in_pages(federation: Federation) -> None:
    disputes, found = federation[AH].records.disputes, []
    for _ in range(3):
        answer = accept(federation)
        found.append(
            disputes.open(
                "c", verification_id=answer.verification_id, province="", ground=Ground.NOT_ME, case_reference=""
            )
        )
    page, further = disputes.list(2, None)
    rest, end = disputes.list(2, further)
    assert [*page, *rest] == found[::-1]
    assert end is None


def test_what_never_was_cannot_be_contested(federation: Federation) -> None:
    for province in ("", "ah", "zj"):
        with pytest.raises(NotHeld):
            federation[AH].records.disputes.open(
                "c", verification_id="A" * 22, province=province, ground=Ground.NOT_ME, case_reference=""
            )


# -- changes of trust -------------------------------------------------------------------------------------------------


def changes(node: Node) -> list[tuple[str, str]]:
    stored = node.log.list_entries(EntryQuery(kinds=(Kind.TRUST.value,)), 1_000)
    bodies = [read(each.raw).body for each in stored]
    return [(body["change"], body["event"]) for body in bodies]


def test_every_change_of_trust_is_in_the_log(federation: Federation) -> None:
    node = federation[AH]
    assert (TrustChange.CHARTER, "pinned") in changes(node)
    assert changes(node).count((TrustChange.CHARTER, "pinned")) == 1
    kid = federation.new_key(AH)
    assert changes(node)[-3:-1] == [(TrustChange.KEY, "staged"), (TrustChange.KEY, "published")]
    federation.settle()
    assert (TrustChange.MEMBER, "keys attested") in changes(node)
    federation.revoke(AH, kid)
    federation.settle()
    assert (TrustChange.KEY, "revoked") in changes(node)
    assert (TrustChange.REVOCATION, "key revoked") in changes(federation[SH])
    node.anchor.suspend(
        federation.charter,
        federation[ZJ].ids.issuer,
        until=federation.clock.now + timedelta(hours=1),
        reason="looked into",
        now=federation.clock.now,
        administrator="https://admin",
    )
    stored = node.log.list_entries(EntryQuery(kinds=("trust",)), 1, newest_first=True)
    body = read(stored[0].raw).body
    assert (body["event"], body["administrator"], body["subject"]) == (
        "suspended",
        "https://admin",
        federation[ZJ].ids.issuer,
    )


def test_a_restart_changes_no_trust(federation: Federation) -> None:
    before = changes(federation[AH])
    assert changes(federation.restart(AH)) == before


def test_another_configuration_is_noted_once(federation: Federation) -> None:
    records = federation[AH].records
    for digest in ("one", "one", "two", "two", "one"):
        records.note_configuration(digest)
    stored = federation[AH].log.list_entries(EntryQuery(kinds=("trust",)), 1_000)
    bodies = [read(each.raw).body for each in stored]
    assert [body["subject"] for body in bodies if body["change"] == TrustChange.CONFIGURATION] == ["one", "two", "one"]


# -- how long it is kept ----------------------------------------------------------------------------------------------


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[Federation]:
    """Under a charter that outlives what is kept."""
    made = Federation(tmp_path, founding=found(lambda claims: claims.update(exp=claims["iat"] + 399 * 86_400)))
    yield made
    made.close()


def test_what_is_over_is_erased_and_every_proof_holds(lasting: Federation) -> None:
    federation, node = lasting, lasting[AH]
    kept = accept(federation)
    refused = federation.verify("not.a.credential~")
    federation.witness()
    evidence = evidence_of(federation, kept)
    assert node.records.erase_due() == 0
    # A year later: what was refused is over, what was disclosed is not. Floors of the clock move with the anchors.
    federation.clock.advance(timedelta(days=200))
    federation.settle()
    assert node.records.erase_due() == 1
    assert node.log.find_entry(refused.verification_id) is None
    assert node.log.find_entry(kept.verification_id) is not None
    (stored,) = node.log.list_entries(EntryQuery(kinds=("retention",)), 10)
    erasure = read_erasure(read(stored.raw))
    assert (erasure.keep, erasure.count) == (Keep.SECURITY, 1)
    with pytest.raises(NotHeld):
        node.records.receipts.evidence(refused.verification_id)
    federation.witness()
    assert checked(federation, evidence).in_log
    assert checked(federation, evidence_of(federation, kept)).in_log
    assert node.records.erase_due() == 0


def test_a_clock_that_ran_ahead_erases_nothing(federation: Federation) -> None:
    refused = federation.verify("not.a.credential~")
    node = federation[AH]
    node.records.notary.tick()
    federation.clock.advance(timedelta(days=300))  # and nobody attests it
    assert node.records.erase_due() == 0
    assert node.log.find_entry(refused.verification_id) is not None


def test_the_evidence_of_a_dispute_goes_with_the_dispute(federation: Federation) -> None:
    answer, node = accept(federation), federation[AH]
    gone, kept = (
        node.records.disputes.open(
            "c", verification_id=answer.verification_id, province="", ground=Ground.OTHER, case_reference=""
        )
        for _ in range(2)
    )
    node.records.notary.tick()
    edit(node, "UPDATE entries SET at = at + 2000 WHERE entry_id = ?", kept.dispute_id)
    now = federation.clock.now
    node.log.erase(Keep.DISCLOSURE, now + timedelta(seconds=1), now)
    assert node.log.load_evidence(gone.dispute_id) is None
    assert node.log.load_evidence(kept.dispute_id) is not None


def test_nothing_is_erased_that_is_not_in_the_tree(lasting: Federation) -> None:
    federation, node = lasting, lasting[AH]
    refused = federation.verify("not.a.credential~")
    federation.clock.advance(timedelta(days=200))
    federation.settle()
    assert node.records.erase_due() == 0
    node.records.notary.tick()
    assert node.records.erase_due() == 1
    assert node.log.find_entry(refused.verification_id) is None


# -- writing ----------------------------------------------------------------------------------------------------------


def test_a_verdict_that_cannot_be_written_is_none(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    presentation, nonce = federation.present(federation.issue())
    node = federation[AH]

    def broken(_group: object) -> Any:
        raise StorageError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(node.log, "commit", broken)
        with pytest.raises(Unavailable):
            federation.verify(presentation, nonce)
    assert node.decisions() == []
    assert isinstance(federation.verify(presentation, nonce).verdict, Acceptance)
    assert [each.verdict for each in node.decisions()] == ["accepted"]


def test_positions_follow_each_other_whoever_writes(federation: Federation) -> None:
    for _ in range(3):
        accept(federation)
        federation.new_key(AH)
        federation.settle()
        federation.revoke(AH, federation[AH].ring.records(KeyPurpose.CREDENTIAL)[-1].key.kid)
    (log,) = federation[AH].log.logs()
    stored = federation[AH].log.read_entries(log.log_id, 0, log.size)
    assert [each.position for each in stored] == list(range(log.size))
    assert json.loads(stored[-1].raw)
