"""How trust travels between four provinces, and what nobody can make it forget: production code, no network."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import correspondent as correspondent_module
from gateway import resolver as resolver_module
from gateway.core import acknowledgement
from gateway.core.charter import Charter, add_signature, draft, parse_charter, unsigned
from gateway.core.identifiers import Province
from gateway.core.jose import SoftwareKey, generate_key, sign_compact
from gateway.core.key_schedule import KeyPurpose, KeyState
from gateway.core.memory import RevocationReason, Withdrawal
from gateway.core.publication import key_proof
from gateway.core.reasons import Reason, Rejected, Unavailable
from gateway.core.statements import TYP
from gateway.core.vouching import Approval
from gateway.correspondent import Correspondent
from gateway.lab.charter import entity_ids
from gateway.peers import PeerError, TrustOffer
from gateway.storage import StorageError
from gateway.verifier import Acceptance, Answer, Rejection, Undecided
from tests.federation import AH, JS, SH, ZJ, Federation, MemoryKeyStore, MemoryPeer, payload

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def accepted(answer: Answer) -> Acceptance:
    assert isinstance(answer.verdict, Acceptance), answer.verdict
    return answer.verdict


def rejected(answer: Answer) -> Reason:
    assert isinstance(answer.verdict, Rejection), answer.verdict
    return answer.verdict.reason


def undecided(answer: Answer) -> Reason:
    assert isinstance(answer.verdict, Undecided), answer.verdict
    return answer.verdict.reason


def kids(federation: Federation, at: Province, of: Province) -> set[str]:
    """The credential keys of one province that another would accept."""
    return set(federation[at].resolver.view.issuers[entity_ids(of).issuer].keys)


def sole_kid(federation: Federation, province: Province) -> str:
    return federation.keys[province]["issuer-credential"].public.kid


def head(federation: Federation, at: Province, entity: str) -> int:
    """The number of the configuration that a province holds of an entity."""
    token = federation[at].resolver.document(entity, entity)
    return int(payload(token or "")["seq"])


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        threading.Event().wait(0.01)


# -- relays -----------------------------------------------------------------------------------------------------------


def test_what_two_cut_off_provinces_publish_arrives_through_a_third(federation: Federation) -> None:
    federation.silence(AH, [SH, ZJ])
    federation.clock.advance(MINUTE)
    kid = federation.new_key(SH)
    federation.settle(SH, JS, ZJ)
    federation[AH].resolver.refresh()
    # Three of four anchors attest it at once; ours has heard of it by the same relay.
    assert kid in kids(federation, AH, SH)
    federation.clock.advance(timedelta(minutes=12))
    federation.settle(SH, JS, ZJ)
    federation[AH].resolver.refresh()
    answer = federation.verify(*federation.present(federation.issue(ZJ)))
    accepted(answer)
    assert not answer.basis.stale


def test_a_peer_that_stands_still_is_outvoted_before_anything_lapses(federation: Federation) -> None:
    for province in (SH, ZJ):
        federation[AH].peers[province].freeze()
    kid = federation.new_key(SH)
    federation.settle(SH, JS, ZJ)
    federation[AH].resolver.refresh()
    assert kid in kids(federation, AH, SH)


def test_a_peer_that_hands_out_the_past_takes_nothing_back(federation: Federation) -> None:
    for peer in federation[AH].peers.values():
        peer.freeze()
    kid = federation.new_key(SH)
    federation.settle(SH, JS, ZJ)
    before = {province: peer.frozen for province, peer in federation[AH].peers.items()}
    for peer in federation[AH].peers.values():
        peer.frozen = None
    federation[AH].resolver.refresh()
    for province, peer in federation[AH].peers.items():
        peer.frozen = before[province]
    federation[AH].resolver.refresh()
    assert kid in kids(federation, AH, SH)


def test_a_relay_that_leaves_one_statement_out_switches_nobody_off(federation: Federation) -> None:
    federation.clock.advance(timedelta(minutes=6))
    federation.settle(SH, JS, ZJ)
    shanghai, zhejiang = entity_ids(SH), entity_ids(ZJ)
    federation.new_key(ZJ)
    federation.settle(SH, JS, ZJ)
    for peer in federation[AH].peers.values():
        stripped = [token for token in peer.node().resolver.state().statements if not about(token, shanghai.anchor)]
        kept = peer.node().resolver.document(shanghai.anchor, shanghai.anchor)
        peer.frozen = replace(peer.node().resolver.state(), statements=(*stripped, kept or ""))
    seq = head(federation, AH, shanghai.anchor)
    federation[AH].resolver.refresh()
    assert head(federation, AH, shanghai.anchor) == seq
    assert (
        shanghai.anchor in federation[AH].resolver.view.issuers[zhejiang.issuer].keys[sole_kid(federation, ZJ)].anchors
    )


def about(token: str, anchor: str) -> bool:
    return bool(payload(token)["iss"] == anchor)


# -- anchors that lie -------------------------------------------------------------------------------------------------


def second_tongue(federation: Federation, province: Province) -> str:
    """Another configuration of an anchor, with the number of the true one."""
    anchor = entity_ids(province).anchor
    claims = payload(federation[province].resolver.document(anchor, anchor) or "")
    return sign_compact(TYP, {**claims, "exp": claims["exp"] - 1}, federation.keys[province]["anchor-federation"])


def test_case_122_an_anchor_that_says_two_things_loses_its_vote_and_nobody_else(federation: Federation) -> None:
    federation.clock.advance(timedelta(minutes=6))
    federation[SH].resolver.publish_own()
    anchor = entity_ids(SH).anchor
    # Anhui is shown one head, Jiangsu another; then they hear each other.
    federation[AH].peers[SH].overrides[anchor, anchor] = second_tongue(federation, SH)
    federation.silence(AH, [JS, ZJ])
    federation.silence(JS, [ZJ, AH])
    federation[AH].resolver.refresh()
    federation[JS].resolver.refresh()
    assert not federation[AH].resolver.view.alarms
    federation[AH].peers[JS].down = False
    federation[AH].resolver.refresh()
    view = federation[AH].resolver.view
    assert [(alarm.issuer, alarm.reason) for alarm in view.alarms] == [(anchor, Reason.EQUIVOCATION)]
    trusted = view.issuers[entity_ids(JS).issuer].keys[sole_kid(federation, JS)]
    assert anchor not in trusted.anchors
    assert len(trusted.anchors) == 3
    accepted(federation.verify(*federation.present(federation.issue(JS))))
    # And it stays so.
    federation.restart(AH)
    assert [alarm.reason for alarm in federation[AH].resolver.view.alarms] == [Reason.EQUIVOCATION]


def test_the_proof_against_an_anchor_goes_round(federation: Federation) -> None:
    """Also to one who was shown the same half as whoever relays it."""
    federation.clock.advance(timedelta(minutes=6))
    federation[SH].resolver.publish_own()
    anchor = entity_ids(SH).anchor
    federation[JS].peers[SH].extra.append(second_tongue(federation, SH))
    federation[JS].resolver.refresh()
    federation.silence(ZJ, [SH, AH])
    federation[ZJ].resolver.refresh()
    assert [(alarm.issuer, alarm.reason) for alarm in federation[ZJ].resolver.view.alarms] == [
        (anchor, Reason.EQUIVOCATION)
    ]
    version = federation[ZJ].resolver.wait_for_change(0, 0)[0]
    federation[ZJ].resolver.refresh()
    assert federation[ZJ].resolver.wait_for_change(0, 0)[0] == version


def test_one_anchor_alone_withdraws_one_vote_and_two_of_four_the_issuer(federation: Federation) -> None:
    wallet = federation.issue(SH)
    for count, province in enumerate((JS, ZJ), start=1):
        node = federation[province]
        charter, now = node.resolver.view.charter, federation.clock.now
        node.anchor.revoke(charter, entity_ids(SH).issuer, reason="test", now=now, administrator="")
        node.resolver.publish_own()
        federation[AH].resolver.refresh()
        answer = federation.verify(*federation.present(wallet))
        if count == 1:
            accepted(answer)
        else:
            assert rejected(answer) is Reason.ISSUER_WITHDRAWN


def test_a_suspension_ends_by_itself_and_with_the_keys_of_that_day(federation: Federation) -> None:
    node, shanghai = federation[JS], entity_ids(SH)
    until = federation.clock.now + timedelta(minutes=30)
    charter = node.resolver.view.charter
    node.anchor.suspend(
        charter, shanghai.issuer, until=until, reason="test", now=federation.clock.now, administrator=""
    )
    node.resolver.publish_own()
    federation[AH].resolver.refresh()
    assert node.ids.anchor not in anchors_of(federation, sole_kid(federation, SH))
    federation.clock.advance(MINUTE)
    kid = federation.new_key(SH)
    federation.settle()
    assert node.ids.anchor not in anchors_of(federation, kid)
    federation.clock.advance(timedelta(minutes=30))
    federation.settle()
    assert node.ids.anchor in anchors_of(federation, kid)


def anchors_of(federation: Federation, kid: str, at: Province = AH, of: Province = SH) -> tuple[str, ...]:
    return federation[at].resolver.view.issuers[entity_ids(of).issuer].keys[kid].anchors


def test_keys_wait_for_a_person_where_the_anchors_approve_by_hand(tmp_path: Path) -> None:
    federation = Federation(tmp_path, approve=Approval.MANUAL)
    try:
        for _ in range(2):  # the first keys, then one more
            changes = {province: node.anchor.pending() for province, node in federation.nodes.items()}
            assert all(changes.values())
            for province, pending in changes.items():
                node = federation[province]
                for _, change in pending:
                    node.anchor.approve(
                        node.resolver.view.charter,
                        change.change_id,
                        now=federation.clock.now,
                        administrator="",
                        validate_only=True,
                    )
                    node.anchor.approve(
                        node.resolver.view.charter, change.change_id, now=federation.clock.now, administrator=""
                    )
            federation.settle()
            federation.settle()
            accepted(federation.verify(*federation.present(federation.issue(SH))))
            assert not any(node.anchor.pending() for node in federation.nodes.values())
            federation.clock.advance(MINUTE)
            kid = federation.new_key(SH)
            federation.settle()
            assert kid not in kids(federation, AH, SH)
            federation.activate(SH, kid)
    finally:
        federation.close()


def test_what_an_anchor_attests_is_on_disk_before_it_is_said(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = federation[JS]

    def full(*_arguments: object) -> None:
        raise StorageError("disk full")

    federation.clock.advance(MINUTE)
    federation[SH].ring.stage(KeyPurpose.CREDENTIAL, author())
    federation.settle(SH)
    before = head(federation, JS, node.ids.anchor)
    kid = federation.new_key(ZJ)
    with monkeypatch.context() as patched:
        patched.setattr(node.store, "save_anchor", full)
        federation.clock.advance(timedelta(minutes=6))
        with pytest.raises(StorageError):
            node.resolver.publish_own()
        assert head(federation, JS, node.ids.anchor) == before
    federation.settle()
    assert node.ids.anchor in anchors_of(federation, kid, of=ZJ)


def author() -> Any:
    from gateway.keyring import Author  # noqa: PLC0415

    return Author()


# -- what is never forgotten ------------------------------------------------------------------------------------------


def test_case_135_a_revocation_survives_the_replay_of_all_that_was_before_it(federation: Federation) -> None:
    federation.activate(SH, federation.new_key(SH))
    old = sole_kid(federation, SH)
    federation.settle()
    past = federation[SH].resolver.state()
    wallet = federation.issue(SH)
    other = federation.issue(SH)
    current = payload(wallet.credential.split("~")[0])
    assert current["iss"] == entity_ids(SH).issuer
    kid = active(federation, SH)
    assert kid != old
    accepted(federation.verify(*federation.present(wallet)))
    federation.revoke(SH, kid)
    federation[AH].resolver.refresh()
    assert rejected(federation.verify(*federation.present(other))) is Reason.KEY_REVOKED
    for peer in federation[AH].peers.values():
        peer.frozen = past
    federation[AH].resolver.refresh()
    assert rejected(federation.verify(*federation.present(other))) is Reason.KEY_REVOKED
    federation.restart(AH)
    assert rejected(federation.verify(*federation.present(other))) is Reason.KEY_REVOKED


def active(federation: Federation, province: Province) -> str:
    return federation[province].ring.signer(KeyPurpose.CREDENTIAL).public.kid


def test_a_revocation_reaches_a_gateway_through_any_peer(federation: Federation) -> None:
    federation.silence(AH, [SH, ZJ])
    federation.revoke(SH, sole_kid(federation, SH))
    federation[JS].resolver.refresh()
    federation[AH].resolver.refresh()
    assert sole_kid(federation, SH) not in kids(federation, AH, SH)
    assert (entity_ids(SH).issuer, sole_kid(federation, SH)) in federation[AH].resolver.revocations()


def test_a_superseded_key_may_still_turn_out_to_be_compromised(federation: Federation) -> None:
    kid, issuer = sole_kid(federation, SH), entity_ids(SH).issuer
    federation.activate(SH, federation.new_key(SH))
    federation.revoke(SH, kid, RevocationReason.SUPERSEDED)
    federation[AH].resolver.refresh()
    assert federation[AH].resolver.revocations()[issuer, kid].reason is RevocationReason.SUPERSEDED
    claims_known = federation[AH].resolver.revocations()[issuer, kid]
    graver = replace(claims_known, reason=RevocationReason.COMPROMISED)
    node = federation[SH]
    token = node.issuer.entity.events({kid: graver}, federation.clock.now, 0)
    assert token is not None
    from gateway.core.memory import TrustMemory  # noqa: PLC0415

    store = federation[AH].store
    store.save_memory(TrustMemory(revocations={(issuer, kid): graver}))
    store.save_memory(TrustMemory(revocations={(issuer, kid): claims_known}))
    assert store.load_memory().revocations[issuer, kid].reason is RevocationReason.COMPROMISED


@pytest.fixture
def restored(federation: Federation) -> Federation:
    """A federation in which Anhui has put back a backup from before it published a key and revoked another."""
    file = federation.directory / "ah.sqlite"
    backup = federation.directory / "backup.sqlite"
    federation[AH].close()
    shutil.copy(file, backup)
    federation.nodes[AH] = federation.build(AH)
    # Its clock ran ahead for a while, and its numbers with it.
    federation[AH].resolver._numbers_from = int(federation.clock.now.timestamp()) + 7_200
    federation.activate(AH, federation.new_key(AH))
    federation.revoke(AH, sole_kid(federation, AH))
    node = federation[AH]
    node.anchor.revoke(
        node.resolver.view.charter, entity_ids(ZJ).gateway, reason="test", now=federation.clock.now, administrator=""
    )
    federation.settle()
    federation[AH].close()
    for path in federation.directory.glob("ah.sqlite*"):
        path.unlink()
    shutil.copy(backup, file)
    federation.nodes[AH] = federation.build(AH)
    return federation


def test_case_134_a_restored_backup_goes_on_above_its_old_head(
    restored: Federation, capfd: pytest.CaptureFixture[str]
) -> None:
    ids, resolver = entity_ids(AH), restored[AH].resolver
    heads = {entity: head(restored, SH, entity) for entity in (ids.anchor, ids.issuer, ids.gateway)}
    assert head(restored, AH, ids.anchor) < heads[ids.anchor]
    resolver.catch_up()
    resolver.publish_own()
    assert all(head(restored, AH, entity) > seq for entity, seq in heads.items())
    assert "state_restored" in capfd.readouterr().err
    restored.settle()
    for province in (SH, JS, ZJ):
        assert not restored[province].resolver.view.alarms
        assert head(restored, province, ids.anchor) == head(restored, AH, ids.anchor)


def test_a_restored_backup_revokes_and_withdraws_again_what_it_forgot(restored: Federation) -> None:
    ring, kid = restored[AH].ring, sole_kid(restored, AH)
    assert ring.signer(KeyPurpose.CREDENTIAL).public.kid == kid
    restored[AH].resolver.catch_up()
    restored[AH].resolver.publish_own()
    assert {each.key.kid: each.state for each in ring.records(KeyPurpose.CREDENTIAL)}[kid] is KeyState.REVOKED
    restored.settle()
    assert kid not in kids(restored, SH, AH)
    standing = {each.member.entity_id: each.record for each in restored[AH].anchor.members(restored.charter)}
    record = standing[entity_ids(ZJ).gateway]
    assert record is not None
    assert record.withdrawal is not None


def test_a_backup_restored_while_nobody_can_be_asked_is_put_right_later(restored: Federation) -> None:
    peers = restored.silence(AH)
    restored[AH].resolver.catch_up(timeout=0.0)
    restored[AH].resolver.publish_own()
    for peer in peers:
        peer.down = False
    restored.settle()
    for province in Province:
        assert not restored[province].resolver.view.alarms, "no number was used twice"
        assert head(restored, province, entity_ids(AH).anchor) == head(restored, AH, entity_ids(AH).anchor)
    assert sole_kid(restored, AH) not in kids(restored, SH, AH)


# -- partitions and clocks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("here", [(AH,), (ZJ, AH)])
def test_a_partition_ends_in_indeterminate_and_heals_by_itself(
    federation: Federation, here: tuple[Province, ...]
) -> None:
    there = tuple(province for province in Province if province not in here)
    cut = [peer for at in here for peer in federation.silence(at, there)]
    cut += [peer for at in there for peer in federation.silence(at, here)]
    wallet = federation.issue(SH)
    seen: list[str] = []
    for minutes in (5, 7, 20, 60):
        federation.clock.advance(timedelta(minutes=minutes))
        federation.settle(*here)
        federation.settle(*there)
        answer = federation.verify(*federation.present(wallet))
        seen.append("stale" if answer.basis.stale else type(answer.verdict).__name__)
    assert seen == ["Acceptance", "stale", "stale", "Undecided"]
    for peer in cut:
        peer.down = False
    federation.settle()
    answer = federation.verify(*federation.present(wallet))
    accepted(answer)
    assert not answer.basis.stale


def test_a_key_published_behind_a_partition_is_nobodys_forgery(federation: Federation) -> None:
    federation.silence(AH)
    kid = federation.new_key(SH)
    for _ in range(2):  # the publication window: an anchor's configuration, and the clocks
        federation.clock.advance(timedelta(minutes=6))
        federation.settle(SH, JS, ZJ)
        federation[AH].resolver.refresh()
    federation.activate(SH, kid)
    assert undecided(federation.verify(*federation.present(federation.issue(SH)))) is Reason.TRUST_STALE


def test_a_province_that_is_away_for_a_day_keeps_nobody_from_the_others(federation: Federation) -> None:
    for at in (SH, JS, AH):
        federation.silence(at, [ZJ])
    for _ in range(24):
        federation.clock.advance(HOUR)
        federation.settle(SH, JS, AH)
    answer = federation.verify(*federation.present(federation.issue(JS)))
    accepted(answer)
    assert not answer.basis.stale


def test_case_130_a_clock_that_went_back_decides_and_signs_nothing_until_people_put_it_right(
    federation: Federation, capfd: pytest.CaptureFixture[str]
) -> None:
    wallet = federation.issue()
    presentation, nonce = federation.present(wallet)
    federation.clock.advance(-2 * HOUR)
    seq = head(federation, AH, entity_ids(AH).anchor)
    federation[AH].resolver.refresh()
    assert federation[AH].resolver.is_clock_regressed
    assert undecided(federation.verify(presentation, nonce)) is Reason.CLOCK_REGRESSED
    assert head(federation, AH, entity_ids(AH).anchor) == seq
    assert "clock_regressed" in capfd.readouterr().err
    # The clock had run ahead before, everywhere: now it is right.
    for node in federation.nodes.values():
        node.store.reset_clock_floor()
    federation.settle()
    federation.settle()
    assert not federation[AH].resolver.is_clock_regressed
    accepted(federation.verify(*federation.present(federation.issue())))


# -- what a thief withdrew --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replaced", [True, False], ids=["the charter replaces the key", "it does not"])
def test_an_anchor_lets_go_what_it_learned_from_a_key_that_was_replaced(federation: Federation, replaced: bool) -> None:
    """Its own record must not keep the theft when the charter has healed it."""
    anchor, member, now = federation[AH].anchor, entity_ids(SH).issuer, federation.clock.now
    memory = federation[AH].store.load_memory()
    old = federation.keys[AH]["anchor-federation"].public
    withdrawals = {(anchor.entity.entity_id, old.thumbprint, member): Withdrawal(revoked_at=now, reason="theft")}
    memory = replace(memory, withdrawals=withdrawals)

    def withdrawn(charter: Charter) -> bool:
        anchor.absorb(charter, (), memory, now)
        record = next(each.record for each in anchor.members(charter) if each.member.entity_id == member)
        return record is not None and record.withdrawal is not None

    assert withdrawn(federation.charter)
    (own,) = [each for each in federation.charter.anchors if each.entity_id == anchor.entity.entity_id]
    fresh = generate_key().public if replaced else old
    healed = replace(
        federation.charter,
        anchors=tuple(
            replace(each, keys={fresh.kid: fresh}) if each is own else each for each in federation.charter.anchors
        ),
    )
    assert withdrawn(healed) is not replaced


# -- charters ---------------------------------------------------------------------------------------------------------


def successors(federation: Federation, lifetimes: list[timedelta]) -> list[str]:
    """Charters 2, 3 and so on, each signed by all, each with a lifetime of its own."""
    previous, documents = federation.charter.sha256, []
    for version, lifetime in enumerate(lifetimes, start=2):
        claims = {
            **federation.claims,
            "version": version,
            "prev_sha256": previous,
            "exp": federation.claims["iat"] + int(lifetime.total_seconds()),
        }
        document = unsigned(draft(claims))
        for province in Province:
            document = add_signature(document, federation.keys[province]["anchor-federation"])
        previous = parse_charter(document).unverified.sha256
        documents.append(document)
    return documents


def test_case_133_a_gateway_long_away_walks_through_charters_that_have_expired(federation: Federation) -> None:
    documents = successors(federation, [HOUR, HOUR, timedelta(days=300)])
    peer = federation[AH].peers[SH]
    peer.charters = dict(enumerate(documents, start=2))
    federation.clock.advance(timedelta(days=30))
    federation[AH].resolver.refresh()
    assert federation[AH].resolver.view.charter.version == 4
    assert federation[AH].resolver.charter_document(3) == documents[1]
    for node in federation.nodes.values():  # it spreads from one to the next
        node.resolver.refresh()
    federation.settle()
    accepted(federation.verify(*federation.present(federation.issue())))
    federation.restart(AH)
    assert federation[AH].resolver.view.charter.version == 4


def test_a_peer_that_promises_charters_it_has_not_costs_one_question(federation: Federation) -> None:
    peer = federation[AH].peers[SH]
    peer.frozen = replace(peer.node().resolver.state(), charter_version=1_000_000)
    before = peer.asked
    federation[AH].resolver.refresh()
    assert peer.asked - before <= 3
    assert federation[AH].resolver.view.charter.version == 1


# -- acknowledgements -------------------------------------------------------------------------------------------------


def test_every_gateway_says_what_it_enforces_and_the_others_take_note(federation: Federation) -> None:
    kid, issuer = federation.new_key(SH), entity_ids(SH).issuer
    federation.settle()
    federation.settle()
    words = federation[SH].resolver.acknowledgements()
    assert set(words) == {entity_ids(each).gateway for each in (JS, ZJ, AH)}
    assert all(kid in word.keys[issuer] for word, _ in words.values())
    federation.revoke(SH, kid)
    federation.settle()
    words = federation[SH].resolver.acknowledgements()
    assert all(kid in word.refused[issuer] for word, _ in words.values())
    assert not any(kid in word.keys[issuer] for word, _ in words.values())


def test_an_older_word_does_not_take_the_place_of_a_newer(federation: Federation) -> None:
    federation[AH].peers[SH].acknowledged.clear()
    federation[AH].resolver.refresh()
    (old,) = federation[AH].peers[SH].acknowledged
    federation.clock.advance(MINUTE)
    federation[AH].resolver.refresh()
    gateway = entity_ids(AH).gateway
    before = federation[SH].resolver.acknowledgements()[gateway][0]
    federation[SH].resolver.take_acknowledgement(old)
    assert federation[SH].resolver.acknowledgements()[gateway][0] == before


def test_nobody_acknowledges_for_another_gateway(federation: Federation) -> None:
    claims = acknowledgement.make(federation[SH].resolver.view, entity_ids(AH).gateway, federation.clock.now)
    signer: SoftwareKey = federation.keys[JS]["gateway-federation"]
    with pytest.raises(Rejected) as caught:
        federation[SH].resolver.take_acknowledgement(sign_compact(acknowledgement.ACKNOWLEDGEMENT_TYPE, claims, signer))
    assert caught.value.reason is Reason.KEY_UNKNOWN


# -- threads ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def running(federation: Federation) -> Federation:
    """A federation whose threads run, with an interval so long that only streams can explain what is fast."""
    for node in federation.nodes.values():
        node.resolver.catch_up()
        node.resolver.start(timedelta(minutes=10))
    return federation


def test_a_revocation_is_everywhere_and_acknowledged_within_seconds(running: Federation) -> None:
    kid, issuer = sole_kid(running, SH), entity_ids(SH).issuer
    wait_until(lambda: len(running[SH].resolver.acknowledgements()) == 3)
    running.revoke(SH, kid)
    wait_until(lambda: all((issuer, kid) in node.resolver.revocations() for node in running.nodes.values()))
    wait_until(
        lambda: all(kid in word.refused.get(issuer, ()) for word, _ in running[SH].resolver.acknowledgements().values())
    )


def test_a_stream_that_breaks_is_opened_again(running: Federation) -> None:
    peer = running[AH].peers[SH]
    peer.deaf = True
    running.silence(AH, [JS, ZJ])
    running[SH].resolver.wake()
    kid = running.new_key(SH)
    peer.deaf = False
    wait_until(lambda: kid in published(running, AH, SH))


def published(federation: Federation, at: Province, of: Province) -> str:
    issuer = entity_ids(of).issuer
    return str(payload(federation[at].resolver.document(issuer, issuer) or ""))


def test_where_streams_are_cut_polling_goes_on(federation: Federation) -> None:
    for peer in federation[AH].peers.values():
        peer.deaf = True
    for node in federation.nodes.values():
        node.resolver.start(timedelta(seconds=1))
    kid = federation.new_key(SH)
    wait_until(lambda: kid in published(federation, AH, SH))


def test_a_peer_that_raises_what_it_should_not_does_not_end_its_thread(running: Federation) -> None:
    peer, kid = running[AH].peers[SH], ""
    running.silence(AH, [JS, ZJ])
    offer = peer.offer
    failed = threading.Event()

    def broken() -> TrustOffer:
        failed.set()
        raise RuntimeError

    peer.offer = broken  # type: ignore[method-assign]
    running.new_key(SH)
    assert failed.wait(20)
    peer.offer = offer  # type: ignore[method-assign]
    kid = running.new_key(JS)
    running[SH].resolver.publish_own()
    wait_until(lambda: kid in published(running, AH, JS))


def test_a_slow_peer_delays_nobody(running: Federation) -> None:
    release = threading.Event()
    peer = running[AH].peers[ZJ]

    def slow() -> TrustOffer:
        release.wait(60)
        raise PeerError("DEADLINE_EXCEEDED", reachable=False)

    peer.offer = slow  # type: ignore[method-assign]
    try:
        kid = running.new_key(SH)
        wait_until(lambda: kid in published(running, AH, SH))
    finally:
        release.set()


def test_a_silent_stream_is_given_up(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.correspondent.SILENCE_SECONDS", 0.2)
    monkeypatch.setattr("gateway.correspondent._CHECK_SECONDS", 0.1)
    peer = federation[AH].peers[SH]
    polled = threading.Event()

    class Silent:
        def __init__(self) -> None:
            self._cancelled = threading.Event()

        def __iter__(self) -> Silent:
            return self

        def __next__(self) -> TrustOffer:
            self._cancelled.wait(60)
            raise PeerError("CANCELLED", reachable=False)

        def cancel(self) -> None:
            self._cancelled.set()

    def hear(_peer: object, _offer: TrustOffer) -> bool:
        polled.set()
        return True

    peer.watch = Silent  # type: ignore[assignment, method-assign]
    correspondent = Correspondent(peer, world=federation.world, hear=hear)
    correspondent.start(timedelta(minutes=10))
    assert polled.wait(20)
    correspondent.stop()
    correspondent.join()


def test_stopping_ends_every_thread_also_one_that_waits_on_a_stream(federation: Federation) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    resolver = federation[AH].resolver
    resolver.start(timedelta(minutes=10))
    resolver.stop()
    left = [thread.name for thread in threading.enumerate() if thread.ident not in before]
    assert [name for name in left if name.startswith(("peer", "publish", "acknowledge", "refresh"))] == []


def test_reachability_is_known_for_each_peer(federation: Federation) -> None:
    resolver = federation[AH].resolver
    assert [resolver.reachable(each) for each in (SH, JS, ZJ)] == [True] * 3
    assert resolver.last_heard(SH) == federation.clock.now
    assert not resolver.reachable("gd")
    federation.silence(AH, [SH])
    federation.clock.advance(MINUTE)
    resolver.refresh()
    assert not resolver.reachable(SH)
    assert resolver.last_heard(SH) == federation.clock.now - MINUTE


def test_a_peer_of_our_own_kind(federation: Federation) -> None:
    assert {peer.gateway for peer in federation[AH].peers.values()} == {
        entity_ids(each).gateway for each in (SH, JS, ZJ)
    }
    assert all(isinstance(peer, MemoryPeer) for peer in federation[AH].peers.values())


# -- what an attacker tried -------------------------------------------------------------------------------------------


def hear(
    federation: Federation, at: Province, source: Province, *statements: str, events: tuple[str, ...] = ()
) -> None:
    """Let a province hear something from another that the other would not say."""
    node = federation[at]
    version = node.resolver.view.charter.version
    offer = TrustOffer(charter_version=version, statements=statements, events=events)
    node.resolver._hear(node.peers[source], offer)


def resigned(token: str, key: SoftwareKey, **changes: Any) -> str:
    return sign_compact(TYP, {**payload(token), **changes}, key)


def enrol_everywhere(federation: Federation, thumbprint: str, *provinces: Province) -> None:
    for province in provinces:
        node = federation[province]
        assert node.anchor is not None
        issuer = entity_ids(SH).issuer
        node.anchor.enrol(
            federation.charter, issuer, thumbprint, replace_keys=True, now=federation.clock.now, administrator=""
        )
        node.resolver.publish_own()


def test_a_lost_federation_key_that_people_replaced_everywhere_costs_one_round(federation: Federation) -> None:
    issuer, wallet = entity_ids(SH).issuer, federation.issue(SH)
    federation.clock.advance(MINUTE)
    federation[SH].close()
    for each in federation.directory.glob("sh.sqlite*"):
        each.unlink()
    fresh = generate_key()
    federation.keys[SH]["issuer-federation"] = fresh
    federation.key_stores[SH] = MemoryKeyStore(federation.keys[SH])
    federation.nodes[SH] = federation.build(SH)
    federation[SH].resolver.catch_up()

    enrol_everywhere(federation, fresh.public.thumbprint, *Province)
    federation.clock.advance(MINUTE)
    federation.settle()
    federation.settle()

    assert set(federation[AH].resolver.view.attesting(issuer, fresh.public.thumbprint)) == {
        entity_ids(province).anchor for province in Province
    }
    accepted(federation.verify(*federation.present(wallet)))


def test_our_own_newest_word_is_handed_out_before_it_is_held(federation: Federation) -> None:
    issuer = entity_ids(SH).issuer
    fresh = generate_key()
    federation.keys[SH]["issuer-federation"] = fresh
    federation.key_stores[SH] = MemoryKeyStore(federation.keys[SH])
    federation.clock.advance(MINUTE)
    federation[SH].close()
    for each in federation.directory.glob("sh.sqlite*"):
        each.unlink()
    federation.nodes[SH] = federation.build(SH)
    federation[SH].resolver.catch_up()

    federation[SH].resolver.publish_own()

    resolver = federation[SH].resolver
    held, served = resolver.document(issuer, issuer), resolver.served(issuer, issuer)
    assert held != served
    assert payload(served or "")["jwks"]["keys"] == [dict(fresh.public.jwk)]
    assert {held, served} <= set(resolver.state().statements)


def test_what_a_thief_had_attested_goes_as_soon_as_people_replace_the_key(federation: Federation) -> None:
    issuer, theirs = entity_ids(SH).issuer, generate_key()
    said = payload(federation[AH].resolver.document(issuer, issuer) or "")
    metadata = said["metadata"]
    own = metadata["identity_credential_issuer"]
    own["jwks"]["keys"].append(dict(theirs.public.jwk))
    own["key_proofs"][theirs.public.kid] = key_proof(issuer, theirs)
    evil = sign_compact(TYP, {**said, "seq": said["seq"] + 1_000}, federation.keys[SH]["issuer-federation"])
    federation.silence(SH)
    others = (JS, ZJ, AH)
    for province in others:
        hear(federation, province, JS if province is not JS else ZJ, evil)
    federation.settle(*others)
    assert theirs.public.kid in kids(federation, AH, SH)

    federation.clock.advance(MINUTE)
    enrol_everywhere(federation, generate_key().public.thumbprint, *others)
    federation.settle(*others)

    assert kids(federation, AH, SH) == set()


@pytest.mark.parametrize("believed", [False, True])
def test_a_clock_that_ran_ahead_for_a_moment_ruins_nothing(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, believed: bool
) -> None:
    anchor, wallet, before = entity_ids(AH).anchor, federation.issue(AH), federation.clock.now
    was = head(federation, AH, anchor)
    if believed:
        monkeypatch.setattr(resolver_module, "IMPLAUSIBLE", timedelta(days=100_000))
    peers = federation.silence(AH)
    federation.clock.now = before.replace(year=2100)
    federation[AH].resolver.publish_own()
    assert (head(federation, AH, anchor) == was) is not believed

    federation.clock.now = before + MINUTE
    for peer in peers:
        peer.down = False
    federation.restart(AH)
    federation[AH].resolver.catch_up()
    for _ in range(12):
        federation.clock.advance(7 * MINUTE)
        federation.settle()

    accepted(federation.verify(*federation.present(wallet, at=SH), at=SH))
    assert anchor in anchors_of(federation, sole_kid(federation, SH), at=JS)


def test_lifting_the_suspension_of_a_silent_member_keeps_the_anchors_word_on_all_others(federation: Federation) -> None:
    anchor, silent = federation[AH].anchor, entity_ids(ZJ).issuer
    assert anchor is not None
    now = federation.clock.now
    anchor.suspend(federation.charter, silent, until=now + 72 * HOUR, reason="looked into", now=now, administrator="")
    federation[AH].resolver.publish_own()
    federation.clock.advance(MINUTE)
    federation.new_key(ZJ)  # it is still listened to
    federation.settle()
    others = (SH, JS, AH)
    for _ in range(10):
        federation.clock.advance(14 * MINUTE)
        for _ in range(2):
            federation.settle(*others)

    anchor.resume(federation.charter, silent, now=federation.clock.now, administrator="")
    for _ in range(4):
        federation.clock.advance(4 * MINUTE)
        federation.settle(*others)

    states = {state.entity_id: state for state in federation[SH].resolver.view.anchors}
    expires_at = states[entity_ids(AH).anchor].expires_at
    assert expires_at is not None  # what it said since is taken in by the others
    assert expires_at > federation.clock.now


def test_an_anchor_that_changes_its_mind_all_the_time_fills_no_disk(federation: Federation) -> None:
    anchor, target, key = entity_ids(ZJ).anchor, entity_ids(SH).issuer, federation.keys[ZJ]["anchor-federation"]
    resolver, now = federation[AH].resolver, int(federation.clock.now.timestamp())
    first = resolver.document(anchor, anchor) or ""
    members = payload(first)["snapshot"]["members"]
    statements = [resolver.document(anchor, member) or "" for member in members]
    suspended = {**members, target: {"suspended_at": now, "until": now + 3_000, "reason": "why not"}}

    def views() -> int:
        with closing(sqlite3.connect(federation.directory / "ah.sqlite")) as db:
            return int(db.execute("SELECT count(*) FROM views").fetchone()[0])

    before = views()
    for flip in range(20):
        federation.clock.advance(timedelta(milliseconds=50))
        snapshot = {"members": members if flip % 2 else suspended}
        seq = payload(first)["seq"] + 1 + flip
        hear(federation, AH, ZJ, resigned(first, key, seq=seq, snapshot=snapshot), *statements)

    assert head(federation, AH, anchor) == payload(first)["seq"] + 20
    assert views() <= before + 1


def test_unsigned_rubbish_writes_a_few_lines_of_log_whoever_it_names(federation: Federation) -> None:
    key = generate_key()

    def rubbish(name: str) -> str:
        claims = {"iss": name, "sub": name, "iat": 1, "exp": 2, "jwks": {"keys": [dict(key.public.jwk)]}}
        return sign_compact(TYP, claims, key)

    with capture_logs() as logs:
        for offer in range(5):
            hear(federation, AH, ZJ, *(rubbish(f"https://x{offer}-{number}.example") for number in range(50)))

    assert len(logs) == 1


def test_a_peer_is_not_logged_again_for_each_configuration_that_it_makes_up(federation: Federation) -> None:
    issuer, key = entity_ids(SH).issuer, generate_key()
    said = payload(federation[AH].resolver.document(issuer, issuer) or "")
    said["jwks"] = {"keys": [dict(key.public.jwk)]}

    with capture_logs() as logs:
        for number in range(1, 30):
            hear(federation, AH, ZJ, sign_compact(TYP, {**said, "seq": said["seq"] + number}, key))

    assert len(logs) <= 2  # by the anchor, and by who keeps the documents


def test_a_revocation_does_not_wait_for_an_anchor_that_is_kept_busy(federation: Federation) -> None:
    anchor, kid = federation[AH].anchor, active(federation, JS)
    assert anchor is not None
    federation.silence(AH)
    federation.revoke(JS, kid)
    offer = federation[JS].resolver.state()
    others = threading.Thread(
        target=lambda: hear(federation, AH, JS, *offer.statements, events=tuple(offer.events)), daemon=True
    )

    with anchor._lock:
        others.start()
        wait_until(lambda: (entity_ids(JS).issuer, kid) in federation[AH].resolver.revocations(), seconds=5)
    others.join()


def test_what_is_too_much_or_concerns_nobody_is_put_aside_unread(federation: Federation) -> None:
    issuer, key = entity_ids(ZJ).issuer, federation.keys[ZJ]["issuer-federation"]
    said = federation[AH].resolver.document(issuer, issuer) or ""
    many = [resigned(said, key, seq=payload(said)["seq"] + 1 + number) for number in range(20)]
    stranger = resigned(said, key, iss="https://nobody.example", sub="https://nobody.example")
    custody = federation[AH].resolver._custody

    news = custody.news(TrustOffer(charter_version=1, statements=(stranger, *many), events=()), "zj")

    assert news.statements == tuple(many[:8])


def test_a_peer_that_costs_much_gets_a_pause_also_when_there_was_something_new(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correspondent_module, "SLOW_SECONDS", 0.0)
    peer = federation[AH].peers[SH]
    listening = Correspondent(peer, world=federation.world, hear=lambda *_: sum(range(3_000_000)) > 0)

    assert listening.poll()
    began = time.monotonic()
    assert listening.poll()

    assert time.monotonic() - began > 0.1


def test_what_an_anchor_judged_and_could_not_sign_it_judges_again(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor = federation[AH].anchor
    assert anchor is not None

    def unable() -> SoftwareKey:
        raise Unavailable("the disk is full")

    federation.silence(AH)
    federation.clock.advance(MINUTE)
    kid = federation.new_key(SH)
    federation[SH].resolver.publish_own()
    issuer, now = entity_ids(SH).issuer, federation.clock.now
    offered = [federation[SH].resolver.document(issuer, issuer) or ""]
    memory = federation[AH].resolver._custody.held.memory
    with monkeypatch.context() as broken:
        broken.setattr(anchor, "_signer", unable)
        with pytest.raises(Unavailable):
            anchor.absorb(federation.charter, offered, memory, now)

    said = [payload(token) for token in anchor.absorb(federation.charter, offered, memory, now)]

    (about,) = [claims for claims in said if claims["sub"] == issuer]
    assert kid in {key["kid"] for key in about["metadata"]["identity_credential_issuer"]["jwks"]["keys"]}
