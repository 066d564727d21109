"""Rotation in a federation of four provinces with a clock that is set: no valid credential is rejected on the way.

Every rotation is watched from all four gateways: at each step a credential from before the rotation and one of that
moment are presented at each of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from gateway.config import RotationPolicy
from gateway.core.charter import add_signature, draft, parse_charter, unsigned
from gateway.core.history import check_as_of, read_history
from gateway.core.identifiers import Province
from gateway.core.key_schedule import KeyPurpose, KeyRecord, KeyState, StepKind
from gateway.core.memory import RevocationReason
from gateway.core.reasons import Conflict, InvalidRequest, NotHeld, Reason, Rejected, Unavailable, WrongState
from gateway.deadlines import Deadlines
from gateway.holdings import Holdings
from gateway.keyring import Author
from gateway.rotation import Asked, Rotation
from gateway.storage import StorageError
from gateway.verifier import Acceptance, Rejection
from tests.federation import AH, JS, SH, START, ZJ, Federation, Node, Wallet

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WINDOW = 12 * MINUTE
FIRST, SECOND = (f"https://gateway.sh.mrg.example/administrators/{number}" for number in (1, 2))
CREDENTIAL, STATUS = KeyPurpose.CREDENTIAL, KeyPurpose.STATUS
ISSUER, GATEWAY, ANCHOR = KeyPurpose.ISSUER_FEDERATION, KeyPurpose.GATEWAY_FEDERATION, KeyPurpose.ANCHOR_FEDERATION
RECEIPT, AUDIT = KeyPurpose.RECEIPT, KeyPurpose.AUDIT
APPLICATION = (CREDENTIAL, STATUS, RECEIPT, AUDIT)
MEMBERS = (*APPLICATION, ISSUER, GATEWAY)
LIKE_AUDIT = pytest.param(RECEIPT, marks=pytest.mark.long)
"""Its keys go the way of those for the log, which every run of the tests follows."""
BY_HAND = RotationPolicy(credential_days=0, status_days=0, federation_days=0, standby=False)


def entities(node: Node) -> Mapping[KeyPurpose, str]:
    issuer = dict.fromkeys((CREDENTIAL, STATUS, ISSUER), node.ids.issuer)
    gateway = dict.fromkeys((RECEIPT, AUDIT, GATEWAY), node.ids.gateway)
    return {**issuer, **gateway, ANCHOR: node.ids.anchor}


@dataclass
class Office:
    """The keys of one province, and those who look after them."""

    federation: Federation
    province: Province = SH
    policy: RotationPolicy = BY_HAND
    wallets: list[Wallet] = field(default_factory=list)
    requests: int = 0

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        node = self.node
        played = entities(node)
        self.rotation = Rotation(
            world=self.federation.world,
            store=node.store,
            keys=node.ring,
            holdings=Holdings(node.resolver, node.ids.gateway, played),
            entities=played,
            policy=self.policy,
            publish=node.resolver.publish_own,
        )

    @property
    def node(self) -> Node:
        return self.federation[self.province]

    def crash(self) -> None:
        """End without a word, and start again from the disk."""
        self.federation.restart(self.province)
        self.open()
        self.settle()

    def settle(self) -> None:
        """Let everybody hear everybody, what is due be done, and everybody hear of that."""
        before = -1
        while len(self.rotation.history()) != before:  # each thing happens once
            before = len(self.rotation.history())
            self.federation.settle()
            self.rotation.tick()

    def advance(self, span: timedelta) -> None:
        """Let time pass."""
        self.federation.clock.advance(span)
        self.settle()

    def ask(self, administrator: str = FIRST, request_id: str = "", **changes: Any) -> Asked:
        self.requests += 1
        return Asked(administrator=administrator, request_id=request_id or f"r{self.requests}", **changes)

    def records(self, purpose: KeyPurpose = CREDENTIAL) -> list[KeyRecord]:
        return list(reversed(self.rotation.keys(purpose)))

    def states(self, purpose: KeyPurpose = CREDENTIAL) -> list[KeyState]:
        return [record.state for record in self.records(purpose)]

    def kid(self, state: KeyState, purpose: KeyPurpose = CREDENTIAL) -> str:
        (kid,) = [record.key.kid for record in self.records(purpose) if record.state is state]
        return kid

    def apply(self, purpose: KeyPurpose = CREDENTIAL) -> str:
        plan = self.rotation.apply(purpose, self.ask())
        assert plan.following is not None
        return plan.following.key.kid

    def applied(self, purpose: KeyPurpose = CREDENTIAL) -> str:
        """Make and publish a key, and let everybody know of it for long enough."""
        kid = self.apply(purpose)
        self.settle()
        self.advance(WINDOW)
        return kid

    def blockers(self, kid: str) -> tuple[str, ...]:
        with pytest.raises(WrongState) as caught:
            self.rotation.activate(kid, self.ask(validate_only=True))
        return caught.value.blockers

    def watch(self, *but: Province) -> None:
        """Everything issued so far, and something issued now, is accepted everywhere that can be reached."""
        self.wallets.append(self.federation.issue(self.province))
        for wallet in self.wallets:
            for province in Province:
                if province not in but:
                    answer = self.federation.verify(*self.federation.present(wallet, at=province), at=province)
                    assert isinstance(answer.verdict, Acceptance), (province, answer.verdict)

    def refused(self, wallet: Wallet, at: Province) -> Reason:
        answer = self.federation.verify(*self.federation.present(wallet, at=at), at=at)
        assert isinstance(answer.verdict, Rejection)
        return answer.verdict.reason

    def cut_off(self, province: Province, *, down: bool = True) -> None:
        """Nobody reaches the province, and it reaches nobody."""
        for other, node in self.federation.nodes.items():
            for name, peer in node.peers.items():
                if province in (other, name):
                    peer.down = down


@pytest.fixture
def office(federation: Federation) -> Office:
    return Office(federation)


# -- rotating ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", MEMBERS)
def test_a_key_is_rotated_and_no_valid_credential_is_rejected(office: Office, purpose: KeyPurpose) -> None:
    office.watch()
    old = office.kid(KeyState.ACTIVE, purpose)
    new = office.apply(purpose)
    office.watch()
    assert office.blockers(new)  # nobody has heard of it
    office.settle()
    office.watch()
    if purpose in APPLICATION:
        assert len(office.blockers(new)) == 1  # everybody has, and the window is for those nobody thought of
        office.advance(WINDOW)
    activated = office.rotation.activate(new, office.ask())
    assert activated.plan.current is not None
    assert activated.plan.current.key.kid == new
    office.watch()
    office.settle()
    office.watch()
    assert office.states(purpose) == [KeyState.DRAINING, KeyState.ACTIVE]
    office.federation.clock.advance(32 * DAY)  # as long as a credential lives
    office.wallets.clear()
    office.settle()
    assert office.states(purpose) == [KeyState.RETIRED, KeyState.ACTIVE]
    office.watch()
    assert old not in {key.kid for key in office.node.ring.published(purpose)}


def test_a_key_stays_until_its_last_credential_has_lapsed(office: Office) -> None:
    office.watch()
    new = office.applied()
    office.rotation.activate(new, office.ask())
    office.advance(20 * MINUTE)
    last = office.records()[0].signed_until
    assert last is not None
    assert last >= START + 30 * DAY
    office.federation.clock.now = START + 30 * DAY - HOUR
    office.settle()
    assert office.states() == [KeyState.DRAINING, KeyState.ACTIVE]
    office.watch()
    office.federation.clock.now = last + MINUTE
    office.settle()
    assert office.states() == [KeyState.RETIRED, KeyState.ACTIVE]


def test_a_plan_says_what_would_happen_and_changes_nothing(office: Office) -> None:
    before = office.records()
    plan = office.rotation.plan(CREDENTIAL)
    assert [step.kind for step in plan.steps] == list(StepKind)
    assert not any(step.done for step in plan.steps)
    assert plan.following is None
    assert office.records() == before


def test_a_purpose_that_is_not_played_has_no_plan(federation: Federation) -> None:
    office = Office(federation)
    office.rotation = Rotation(
        world=federation.world,
        store=office.node.store,
        keys=office.node.ring,
        holdings=Holdings(office.node.resolver, office.node.ids.gateway, {GATEWAY: office.node.ids.gateway}),
        entities={GATEWAY: office.node.ids.gateway},
        policy=BY_HAND,
        publish=office.node.resolver.publish_own,
    )
    assert office.rotation.plan(GATEWAY).current
    with pytest.raises(NotHeld):
        office.rotation.plan(CREDENTIAL)
    with pytest.raises(NotHeld):
        office.rotation.undo(office.node.ring.records(CREDENTIAL)[0].key.kid, office.ask())


# -- who holds the key ------------------------------------------------------------------------------------------------


def test_a_gateway_that_can_be_reached_and_does_not_hold_the_key_blocks(office: Office) -> None:
    for peer in office.federation[ZJ].peers.values():
        peer.freeze()
    new = office.applied()
    (line,) = office.blockers(new)
    assert line.startswith(f"zj {office.federation[ZJ].ids.gateway} acknowledged ")
    (holder,) = [each for each in office.rotation.acknowledgements(new) if each.blocks]
    assert (holder.province, holder.reachable, holder.holds) == ("zj", True, False)
    for peer in office.federation[ZJ].peers.values():
        peer.frozen = None
    office.settle()
    office.rotation.activate(new, office.ask())
    office.watch()


def test_a_gateway_that_cannot_be_reached_blocks_for_as_long_as_the_window(office: Office) -> None:
    office.watch()
    office.cut_off(ZJ)
    new = office.apply()
    office.settle()
    assert len(office.blockers(new)) == 1
    office.advance(WINDOW)
    wait = next(step for step in office.rotation.plan(CREDENTIAL).steps if step.kind is StepKind.WAIT)
    assert "zj" in wait.detail  # named all the same
    office.rotation.activate(new, office.ask())
    office.settle()
    office.watch(ZJ)
    # It cannot tell, and says so; it never calls the credential a forgery.
    wallet = office.wallets[-1]
    answer = office.federation.verify(*office.federation.present(wallet, at=ZJ), at=ZJ)
    assert not isinstance(answer.verdict, Rejection)
    office.cut_off(ZJ, down=False)
    office.settle()
    office.watch()


def test_an_anchor_that_can_be_reached_and_does_not_attest_a_federation_key_blocks(office: Office) -> None:
    for peer in office.federation[ZJ].peers.values():
        peer.freeze()
    new = office.applied(ISSUER)
    lines = office.blockers(new)
    assert any(office.federation[ZJ].ids.anchor in line for line in lines)
    kinds = {holder.entity_id for holder in office.rotation.acknowledgements(new)}
    assert kinds == {node.ids.anchor for node in office.federation.nodes.values()} | {
        office.federation[each].ids.gateway for each in (JS, ZJ, AH)
    }


def test_without_a_key_each_gateway_says_what_it_acknowledged(office: Office) -> None:
    found = office.rotation.acknowledgements("")
    assert {holder.province for holder in found} == {"js", "zj", "ah"}
    assert {holder.charter_version for holder in found} == {1}
    assert all(holder.acknowledged_at == START and holder.clock_offset == timedelta(0) for holder in found)


# -- two administrators -----------------------------------------------------------------------------------------------


def test_two_administrators_may_activate_a_key_early(office: Office) -> None:
    new = office.apply()

    def activate(administrator: str) -> bool:
        asked = office.ask(administrator)
        return office.rotation.activate(
            new, asked, override=True, justification="the old one is failing"
        ).awaiting_approval

    assert activate(FIRST)
    assert activate(FIRST)  # asking twice is not being two
    assert office.states() == [KeyState.ACTIVE, KeyState.PUBLISHED]
    assert not activate(SECOND)
    assert office.states() == [KeyState.DRAINING, KeyState.ACTIVE]
    events = [event for event in office.rotation.history(new) if event.event in ("override asked", "active")]
    assert [event.administrator for event in events] == [FIRST, SECOND]
    assert FIRST in events[-1].detail
    assert "the old one is failing" in events[-1].detail


@pytest.mark.parametrize(("later", "agreed"), [(HOUR, True), (HOUR + timedelta(seconds=1), False), (-MINUTE, False)])
def test_a_wish_lapses_after_an_hour(office: Office, later: timedelta, agreed: bool) -> None:
    new = office.apply()
    for peer in office.federation[ZJ].peers.values():  # there has to be something to override
        peer.freeze()
    assert office.rotation.activate(new, office.ask(FIRST), override=True, justification="x").awaiting_approval
    office.federation.clock.advance(later)
    second = office.rotation.activate(new, office.ask(SECOND), override=True, justification="x")
    assert second.awaiting_approval is not agreed


def test_an_override_of_nothing_needs_no_second_administrator(office: Office) -> None:
    new = office.applied()
    assert not office.rotation.activate(new, office.ask(), override=True, justification="x").awaiting_approval
    assert office.kid(KeyState.ACTIVE) == new


def test_an_override_jumps_no_step(office: Office) -> None:
    draining = office.kid(KeyState.ACTIVE)
    office.rotation.activate(office.applied(), office.ask())
    for administrator in (FIRST, SECOND):
        with pytest.raises(WrongState):
            office.rotation.activate(draining, office.ask(administrator), override=True, justification="x")


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_is_carried_out_once(office: Office) -> None:
    asked = office.ask(request_id="one")
    plan = office.rotation.apply(CREDENTIAL, asked)
    assert plan.following is not None
    new = plan.following.key.kid
    assert office.rotation.apply(CREDENTIAL, asked).following == plan.following
    office.settle()
    office.advance(WINDOW)
    office.rotation.activate(new, asked)
    assert office.rotation.activate(new, asked).plan.current is not None
    # The same name for another deed is another request; the same again, after others, still does nothing.
    office.rotation.revoke(new, RevocationReason.COMPROMISED, asked)
    count = len(office.rotation.history())
    office.rotation.revoke(new, RevocationReason.COMPROMISED, asked)
    office.rotation.apply(CREDENTIAL, asked)
    assert len(office.rotation.history()) == count
    with pytest.raises(WrongState):
        office.rotation.revoke(new, RevocationReason.COMPROMISED, office.ask())


def test_a_request_is_remembered_over_a_crash(office: Office) -> None:
    asked = office.ask(request_id="one")
    new = office.apply()
    office.rotation.undo(new, asked)
    office.crash()
    office.rotation.undo(new, asked)
    assert office.states() == [KeyState.ACTIVE, KeyState.RETIRED]


def test_a_plan_that_changed_is_not_applied(office: Office) -> None:
    seen = office.rotation.plan(CREDENTIAL).etag
    kid = office.apply()
    office.rotation.undo(kid, office.ask())
    with pytest.raises(Conflict):
        office.rotation.apply(CREDENTIAL, office.ask(), seen)
    office.rotation.apply(CREDENTIAL, office.ask(), office.rotation.plan(CREDENTIAL).etag)


def test_what_is_only_tried_changes_nothing(office: Office) -> None:
    try_out = office.ask(validate_only=True)
    office.rotation.apply(CREDENTIAL, try_out)
    assert office.states() == [KeyState.ACTIVE]
    new = office.applied()
    before, count = office.records(), len(office.rotation.history())
    office.rotation.activate(new, try_out)
    office.rotation.undo(new, try_out)
    tried = office.rotation.revoke(office.kid(KeyState.ACTIVE), RevocationReason.COMPROMISED, try_out)
    assert tried.promoted_kid == new
    assert (office.records(), len(office.rotation.history())) == (before, count)


def test_a_wish_that_is_only_tried_is_not_recorded(office: Office) -> None:
    new = office.apply()
    for administrator in (FIRST, SECOND):
        asked = office.ask(administrator, validate_only=True)
        assert office.rotation.activate(new, asked, override=True, justification="x").awaiting_approval


# -- undoing ----------------------------------------------------------------------------------------------------------


def test_a_key_is_taken_back_until_it_has_signed(office: Office) -> None:
    office.watch()
    old, new = office.kid(KeyState.ACTIVE), office.applied()
    office.rotation.activate(new, office.ask())
    office.rotation.undo(new, office.ask())
    assert office.kid(KeyState.ACTIVE) == old
    office.settle()
    office.watch()
    again = office.applied()
    assert again != new
    office.rotation.activate(again, office.ask())
    office.watch()  # issues, hence signs
    with pytest.raises(WrongState):
        office.rotation.undo(again, office.ask())


# -- compromise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_the_standby_key_takes_over_whoever_holds_it(office: Office, known: bool) -> None:
    stolen, old = office.federation.issue(SH), office.kid(KeyState.ACTIVE)
    standby = office.applied() if known else office.apply()
    revoked = office.rotation.revoke(old, RevocationReason.COMPROMISED, office.ask(), compromised_since=START)
    assert (revoked.promoted_kid, revoked.record.state) == (standby, KeyState.REVOKED)
    fresh = office.federation.issue(SH)
    office.federation.settle()
    for province in Province:
        assert office.refused(stolen, province) is Reason.KEY_REVOKED
        answer = office.federation.verify(*office.federation.present(fresh, at=province), at=province)
        assert isinstance(answer.verdict, Acceptance)


def test_without_a_standby_key_nothing_is_issued_until_one_is_held_by_all(office: Office) -> None:
    revoked = office.rotation.revoke(office.kid(KeyState.ACTIVE), RevocationReason.COMPROMISED, office.ask())
    assert revoked.promoted_kid == ""
    assert office.states() == [KeyState.REVOKED, KeyState.PUBLISHED]
    with pytest.raises(Unavailable):
        office.federation.issue(SH)
    office.settle()
    with pytest.raises(Unavailable):
        office.federation.issue(SH)
    office.advance(WINDOW)
    assert office.states() == [KeyState.REVOKED, KeyState.ACTIVE]
    office.settle()
    office.watch()


def test_what_a_superseded_key_signed_before_still_counts(office: Office) -> None:
    office.watch()
    standby = office.applied()
    revoked = office.rotation.revoke(office.kid(KeyState.ACTIVE), RevocationReason.SUPERSEDED, office.ask())
    assert revoked.promoted_kid == standby
    office.settle()
    office.watch()


@pytest.mark.parametrize("purpose", [ISSUER, GATEWAY])
def test_a_federation_key_is_replaced_by_the_standby_key(office: Office, purpose: KeyPurpose) -> None:
    office.watch()
    standby = office.applied(purpose)
    revoked = office.rotation.revoke(office.kid(KeyState.ACTIVE, purpose), RevocationReason.COMPROMISED, office.ask())
    assert revoked.promoted_kid == standby
    office.settle()
    office.advance(2 * HOUR)  # longer than any statement from before lives
    office.watch()
    for province in Province:
        keys = office.federation[province].resolver.view.federation_keys(entities(office.node)[purpose])
        assert set(keys) == {standby}


@pytest.mark.parametrize("purpose", [ISSUER, GATEWAY])
def test_a_revoked_federation_key_is_refused_by_all_in_the_end(office: Office, purpose: KeyPurpose) -> None:
    old = office.kid(KeyState.ACTIVE, purpose)
    office.applied(purpose)
    office.settle()
    office.cut_off(ZJ)
    office.rotation.revoke(old, RevocationReason.COMPROMISED, office.ask())
    done = {holder.province for holder in office.rotation.acknowledgements(old) if holder.refuses}
    assert done == {"sh"}  # our own anchor
    office.settle()
    refusing = {holder.province: holder.refuses for holder in office.rotation.acknowledgements(old)}
    assert refusing == {"sh": True, "js": True, "zj": False, "ah": True}
    office.cut_off(ZJ, down=False)
    office.settle()
    holders = office.rotation.acknowledgements(old)
    assert len(holders) == 7  # four anchors, and three other gateways
    assert all(holder.refuses and not holder.holds for holder in holders)


def test_an_anchor_that_does_not_attest_a_key_yet_does_not_refuse_it(office: Office) -> None:
    assert not any(holder.refuses for holder in office.rotation.acknowledgements(office.apply(ISSUER)))


def test_a_federation_key_without_a_standby_key_is_replaced_by_one_that_people_have_to_enrol(office: Office) -> None:
    revoked = office.rotation.revoke(office.kid(KeyState.ACTIVE, ISSUER), RevocationReason.COMPROMISED, office.ask())
    assert revoked.promoted_kid == office.kid(KeyState.ACTIVE, ISSUER)


def test_an_anchors_key_is_revoked_by_the_charter(office: Office) -> None:
    with pytest.raises(WrongState) as caught:
        office.rotation.revoke(office.kid(KeyState.ACTIVE, ANCHOR), RevocationReason.COMPROMISED, office.ask())
    assert "mrg charter" in caught.value.detail
    assert office.states(ANCHOR) == [KeyState.ACTIVE]


def test_a_compromise_lies_in_the_past(office: Office) -> None:
    with pytest.raises(InvalidRequest):
        office.rotation.revoke(
            office.kid(KeyState.ACTIVE),
            RevocationReason.COMPROMISED,
            office.ask(),
            compromised_since=START + timedelta(seconds=1),
        )


def test_it_is_counted_what_was_accepted_under_a_compromised_key(office: Office) -> None:
    wallet = office.federation.issue(SH)
    for at in (SH, SH, AH):
        office.federation.verify(*office.federation.present(wallet, at=at), at=at)
    asked = office.ask(validate_only=True)
    old = office.kid(KeyState.ACTIVE)
    assert office.rotation.revoke(old, RevocationReason.COMPROMISED, asked).accepted_count == 2
    office.federation.clock.advance(MINUTE)
    since = START + timedelta(seconds=1)
    revoked = office.rotation.revoke(old, RevocationReason.COMPROMISED, asked, compromised_since=since)
    assert revoked.accepted_count == 0


def test_a_revocation_that_a_restored_backup_forgot_is_taken_in_again(office: Office) -> None:
    old = office.kid(KeyState.ACTIVE)
    office.applied()
    saved = office.records()
    office.rotation.revoke(old, RevocationReason.COMPROMISED, office.ask())
    office.settle()
    # Put the records back as they were, behind everybody's back.
    office.node.ring.change(CREDENTIAL, lambda _records, _now: tuple(saved), Author())
    assert office.kid(KeyState.ACTIVE) == old
    office.rotation.tick()
    assert office.states() == [KeyState.REVOKED, KeyState.ACTIVE]


def copy_of_the_database(office: Office) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in office.federation.directory.glob(f"{office.province.code}.sqlite*")
    }


def restore(office: Office, backup: Mapping[str, bytes]) -> None:
    """Start with the database of the backup. The key store is not part of it."""
    office.node.close()
    for path in office.federation.directory.glob(f"{office.province.code}.sqlite*"):
        path.unlink()
    for name, content in backup.items():
        (office.federation.directory / name).write_bytes(content)
    office.federation.nodes[office.province] = office.federation.build(office.province)
    office.open()


@pytest.mark.parametrize("purpose", [CREDENTIAL, ISSUER, GATEWAY])
def test_a_restored_backup_learns_of_keys_that_came_into_use_since(office: Office, purpose: KeyPurpose) -> None:
    office.watch()
    backup = copy_of_the_database(office)
    new = office.applied(purpose)
    office.rotation.activate(new, office.ask())
    office.settle()
    office.watch()
    restore(office, backup)
    assert office.states(purpose) == [KeyState.ACTIVE, KeyState.STAGED]  # the key store is not part of the backup
    office.node.resolver.catch_up()
    office.rotation.tick()
    office.settle()
    assert new in {key.kid for key in office.node.ring.published(purpose)}
    office.watch()
    kept = [record.signed_until for record in office.records(purpose)]
    assert all(kept)
    office.crash()
    assert [record.signed_until for record in office.records(purpose)] == kept


@pytest.mark.parametrize("purpose", [CREDENTIAL, GATEWAY])
def test_a_key_that_may_have_signed_since_the_backup_is_held_for_used(office: Office, purpose: KeyPurpose) -> None:
    new = office.applied(purpose)
    backup = copy_of_the_database(office)
    office.rotation.activate(new, office.ask())
    office.settle()
    office.advance(20 * MINUTE)  # what the issuer says is signed anew
    office.watch()
    restore(office, backup)
    assert office.states(purpose) == [KeyState.ACTIVE, KeyState.PUBLISHED]
    office.node.resolver.catch_up()
    office.rotation.tick()
    (record,) = [each for each in office.records(purpose) if each.key.kid == new]
    assert record.state is (KeyState.ACTIVE if purpose is GATEWAY else KeyState.PUBLISHED)
    assert record.signed_until is not None
    assert any("backup" in event.detail for event in office.rotation.history(new))
    with pytest.raises(WrongState):
        office.rotation.undo(new, office.ask())
    office.settle()
    office.watch()


def test_each_purpose_learns_from_what_was_said_before_the_first_of_them_says_something_new(office: Office) -> None:
    kids = {purpose: office.applied(purpose) for purpose in (CREDENTIAL, STATUS)}
    backup = copy_of_the_database(office)
    office.advance(20 * MINUTE)
    restore(office, backup)
    office.node.resolver.catch_up()
    office.rotation.tick()
    for purpose, kid in kids.items():
        assert {each.key.kid: each.signed_until is not None for each in office.records(purpose)}[kid]


def test_a_standby_key_can_be_taken_back_after_a_start_that_forgot_nothing(office: Office) -> None:
    new = office.applied()
    office.node.close()
    office.federation.nodes[office.province] = office.federation.build(office.province)
    office.open()
    office.node.resolver.catch_up()
    office.rotation.tick()
    office.rotation.undo(new, office.ask())
    assert office.states() == [KeyState.ACTIVE, KeyState.RETIRED]


# -- a gateway's keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", [LIKE_AUDIT, AUDIT])
def test_a_gateways_key_that_a_witness_lacks_does_not_sign(office: Office, purpose: KeyPurpose) -> None:
    for peer in office.federation[ZJ].peers.values():
        peer.freeze()  # it hears nothing new, and can be reached
    new = office.apply(purpose)
    office.settle()
    office.advance(WINDOW)
    assert any(office.federation[ZJ].ids.gateway in line for line in office.blockers(new))


@pytest.mark.parametrize("purpose", [LIKE_AUDIT, AUDIT])
def test_what_a_gateway_signed_is_looked_up_for_an_hour_and_in_its_history_from_then_on(
    office: Office, purpose: KeyPurpose
) -> None:
    node = office.node
    signer = node.ring.signer(purpose)
    signer.sign(b"a receipt, or a checkpoint")
    old, signed_at = signer.public.kid, office.federation.clock.now
    office.rotation.activate(office.applied(purpose), office.ask())
    office.advance(HOUR)

    def known() -> bool:
        found = office.federation[AH].resolver.view.gateway(node.ids.gateway)
        return old in (found.receipt_keys if purpose is RECEIPT else found.audit_keys)

    assert known()
    office.advance(2 * HOUR)
    assert office.states(purpose) == [KeyState.RETIRED, KeyState.ACTIVE]
    assert not known()
    attested = office.federation[AH].resolver.view.federation_keys(node.ids.gateway)
    past = read_history(node.gateway.historical_keys(office.federation.clock.now), attested)
    assert check_as_of(past, old, signed_at).kid == old


@pytest.mark.parametrize("purpose", [LIKE_AUDIT, AUDIT])
def test_a_gateways_key_that_is_revoked_is_refused_everywhere_and_its_standby_takes_over(
    office: Office, purpose: KeyPurpose
) -> None:
    lost, standby = office.kid(KeyState.ACTIVE, purpose), office.applied(purpose)
    revoked = office.rotation.revoke(lost, RevocationReason.COMPROMISED, office.ask())
    assert revoked.promoted_kid == standby
    office.settle()
    now, gateway = office.federation.clock.now, office.node.ids.gateway
    for province in Province:
        view = office.federation[province].resolver.view
        look_up = view.receipt_key if purpose is RECEIPT else view.audit_key
        with pytest.raises(Rejected) as refused:
            look_up(gateway, lost, now)
        assert refused.value.reason is Reason.KEY_REVOKED
        assert look_up(gateway, standby, now).key.kid == standby
    attested = office.node.resolver.view.federation_keys(gateway)
    past = read_history(office.node.gateway.historical_keys(now), attested)
    with pytest.raises(Rejected) as refused:
        check_as_of(past, lost, START)
    assert refused.value.reason is Reason.KEY_REVOKED


# -- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "purpose",
    [
        CREDENTIAL,
        GATEWAY,
        LIKE_AUDIT,
        *(pytest.param(each, marks=pytest.mark.long) for each in (STATUS, AUDIT, ISSUER)),
    ],
)
def test_a_rotation_goes_on_after_a_crash_at_each_step(office: Office, purpose: KeyPurpose) -> None:
    office.watch()
    new = office.apply(purpose)
    office.crash()
    office.watch()
    office.settle()
    office.crash()
    office.advance(WINDOW)
    office.rotation.activate(new, office.ask())
    office.crash()
    office.watch()
    assert office.kid(KeyState.ACTIVE, purpose) == new


def test_a_key_whose_making_was_cut_short_is_published_by_the_next_tick(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise StorageError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(office.node.store, "save_keys", full)
        with pytest.raises(StorageError):
            office.apply()
    assert office.states() == [KeyState.ACTIVE]
    office.crash()
    assert office.states() == [KeyState.ACTIVE, KeyState.PUBLISHED]


def test_the_window_goes_on_where_it_was_after_a_crash(office: Office) -> None:
    new = office.applied()
    office.crash()
    office.rotation.activate(new, office.ask())
    assert office.kid(KeyState.ACTIVE) == new


# -- by itself --------------------------------------------------------------------------------------------------------


def automatic(office: Office, **changes: Any) -> None:
    office.policy = RotationPolicy(**{"credential_days": 0, "status_days": 0, "federation_days": 0, **changes})
    office.open()


def test_a_standby_key_is_kept_published_for_every_purpose_but_the_anchors(office: Office) -> None:
    automatic(office)
    office.settle()
    for purpose in MEMBERS:
        assert office.states(purpose) == [KeyState.ACTIVE, KeyState.PUBLISHED]
    assert office.states(ANCHOR) == [KeyState.ACTIVE]
    office.settle()
    assert len(office.records()) == 2
    office.rotation.revoke(office.kid(KeyState.ACTIVE), RevocationReason.COMPROMISED, office.ask())
    office.settle()
    assert office.states() == [KeyState.REVOKED, KeyState.ACTIVE, KeyState.PUBLISHED]


@pytest.mark.parametrize("standby", [True, False])
def test_a_key_is_rotated_when_it_is_old_enough_and_its_successor_is_held_by_all(office: Office, standby: bool) -> None:
    automatic(office, credential_days=90, standby=standby)
    office.cut_off(ZJ)
    office.settle()
    office.advance(80 * DAY)
    assert office.states() == [KeyState.ACTIVE, KeyState.PUBLISHED][: 1 + standby]
    office.advance(11 * DAY)
    office.advance(WINDOW)
    # Not without the word of somebody who cannot be reached: nothing is urgent.
    assert office.states() == [KeyState.ACTIVE, KeyState.PUBLISHED]
    office.cut_off(ZJ, down=False)
    office.settle()  # after three months it first has to be believed again
    office.settle()
    assert office.states()[:2] == [KeyState.DRAINING, KeyState.ACTIVE]
    office.watch()


def test_the_scheduler_never_dies(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> Any:
        raise RuntimeError

    office.apply()
    with monkeypatch.context() as patched:
        patched.setattr(office.node.store, "save_keys", broken)
        patched.setattr(Holdings, "is_attested", broken)
        patched.setattr(Holdings, "revocations", broken)
        office.rotation.tick()
    office.settle()
    assert any(event.event == "attested" for event in office.rotation.history())


def test_the_thread_does_what_is_due(office: Office) -> None:
    automatic(office)
    published = threading.Event()

    def look() -> None:
        if all(office.states(each) == [KeyState.ACTIVE, KeyState.PUBLISHED] for each in MEMBERS):
            published.set()

    office.node.ring.on_change(look)
    office.rotation.start()
    assert published.wait(timeout=30)
    office.rotation.stop()
    assert office.states() == [KeyState.ACTIVE, KeyState.PUBLISHED]


def test_what_ends_is_said_once_for_each_threshold() -> None:
    said = Deadlines()
    ends = {"charter": START + 40 * DAY, "issuer-credential": START + 400 * DAY}
    counts = [said.warn(ends, START + days * DAY) for days in range(45)]
    assert [day for day, count in enumerate(counts) if count] == [10, 26, 33, 39, 40]
    assert set(counts) == {0, 1}
    # What was replaced in time is spoken of no more; what comes after it starts anew.
    assert said.warn({"charter": START + 500 * DAY}, START + 41 * DAY) == 0
    assert said.warn({"charter": START + 500 * DAY}, START + 480 * DAY) == 1


# -- the anchor's key -------------------------------------------------------------------------------------------------


def install(federation: Federation, change: Callable[[dict[str, Any]], None], version: int = 2) -> None:
    """Put the next charter in force everywhere: signed by a quorum without Shanghai, carried by hand."""
    claims = {
        **federation.claims,
        "version": version,
        "prev_sha256": parse_charter(federation.document).unverified.sha256,
    }
    claims["anchors"] = [dict(anchor) for anchor in claims["anchors"]]
    change(claims)
    document = unsigned(draft(claims))
    for province in (JS, ZJ, AH):
        document = add_signature(document, federation.keys[province]["anchor-federation"])
    for node in federation.nodes.values():
        for peer in node.peers.values():
            peer.charters[version] = document
    federation.settle()
    assert {node.resolver.view.charter.version for node in federation.nodes.values()} == {version}


def anchor_keys(office: Office, *kids: str) -> Callable[[dict[str, Any]], None]:
    keys = {record.key.kid: dict(record.key.jwk) for record in office.records(ANCHOR)}

    def change(claims: dict[str, Any]) -> None:
        for anchor in claims["anchors"]:
            if anchor["entity_id"] == office.node.ids.anchor:
                anchor["jwks"] = {"keys": [keys[kid] for kid in kids]}

    return change


def test_an_anchors_key_is_rotated_by_a_charter_that_lists_it(office: Office) -> None:
    office.watch()
    old, new = office.kid(KeyState.ACTIVE, ANCHOR), office.apply(ANCHOR)
    office.settle()
    office.advance(WINDOW)
    assert office.states(ANCHOR) == [KeyState.ACTIVE, KeyState.STAGED]
    publish = next(step for step in office.rotation.plan(ANCHOR).steps if step.kind is StepKind.PUBLISH)
    assert "charter" in publish.detail
    for administrator in (FIRST, SECOND):  # no override: nobody would accept what it signs
        with pytest.raises(WrongState):
            office.rotation.activate(new, office.ask(administrator), override=True, justification="x")
    install(office.federation, anchor_keys(office, old, new))
    office.settle()
    assert office.states(ANCHOR) == [KeyState.ACTIVE, KeyState.PUBLISHED]
    assert office.blockers(new)
    office.advance(WINDOW)
    office.rotation.activate(new, office.ask())
    office.settle()
    office.watch()
    office.advance(2 * HOUR + 20 * MINUTE)
    assert office.states(ANCHOR) == [KeyState.RETIRED, KeyState.ACTIVE]
    office.watch()


def test_an_anchor_follows_a_charter_that_drops_its_key(office: Office) -> None:
    office.watch()
    new = office.apply(ANCHOR)
    install(office.federation, anchor_keys(office, new))
    office.settle()
    office.settle()
    assert office.states(ANCHOR) == [KeyState.RETIRED, KeyState.ACTIVE]
    office.watch()
    attesting = {anchor.entity_id for anchor in office.federation[AH].resolver.view.anchors if anchor.issued_at}
    assert office.node.ids.anchor in attesting


# -- anywhere ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("province", Province)
def test_every_province_can_rotate(federation: Federation, province: Province) -> None:
    office = Office(federation, province)
    office.watch()
    office.rotation.activate(office.applied(), office.ask())
    office.settle()
    office.watch()
    assert office.states() == [KeyState.DRAINING, KeyState.ACTIVE]
