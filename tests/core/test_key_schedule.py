"""The life of a key: every move from every state as a table, readiness, plans; then any order of events at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.core import key_schedule
from gateway.core.agreement import MAX_CLOCK_SKEW
from gateway.core.jose import MAX_JWKS_KEYS, Algorithm, PublicKey, generate_key
from gateway.core.key_schedule import (
    Change,
    Holder,
    KeyPurpose,
    KeyRecord,
    KeyState,
    Readiness,
    Records,
    Said,
    StepKind,
    Timing,
)
from gateway.core.memory import Revocation, RevocationReason
from gateway.core.reasons import NotHeld, WrongState

NOW = datetime(2026, 11, 23, 1, 0, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TIMING = Timing(window=12 * MINUTE, linger=timedelta(0), skew=MINUTE)
PURPOSE = KeyPurpose.CREDENTIAL


@cache
def key(number: int) -> PublicKey:
    return generate_key(Algorithm.ED25519).public


def record(number: int, state: KeyState, *, used: bool = False) -> KeyRecord:
    published = state is not KeyState.STAGED
    signs = published and state is not KeyState.PUBLISHED
    return KeyRecord(
        key=key(number),
        purpose=PURPOSE,
        state=state,
        staged_at=NOW - 3 * DAY,
        published_at=NOW - 2 * DAY if published else None,
        activated_at=NOW - DAY if signs else None,
        drained_at=NOW - HOUR if state in (KeyState.DRAINING, KeyState.RETIRED) else None,
        retired_at=NOW if state is KeyState.RETIRED else None,
        revoked_at=NOW if state is KeyState.REVOKED else None,
        reason=RevocationReason.COMPROMISED if state is KeyState.REVOKED else None,
        signed_until=NOW + 30 * DAY if used else None,
    )


def revocation(reason: RevocationReason = RevocationReason.COMPROMISED) -> Revocation:
    return Revocation(revoked_at=NOW, reason=reason)


def states(records: Records, change: Change) -> list[KeyState]:
    after = {each.key.kid: each for each in records} | {each.key.kid: each for each in change}
    return [each.state for each in after.values()]


S, P, A, D, R, X = KeyState
Move = Callable[[Records, str, datetime], Change]


def revoke(records: Records, kid: str, now: datetime) -> Change:
    return key_schedule.revoke(records, kid, revocation(), now)


MOVES: dict[str, Move] = {
    "publish": key_schedule.publish,
    "activate": key_schedule.activate,
    "undo": key_schedule.undo,
    "revoke": revoke,
    "retire": key_schedule.retire,
}
# (what is done, states before, which of them it is done to, states after; None: refused)
TABLE: Sequence[tuple[str, tuple[KeyState, ...], int, tuple[KeyState, ...] | None]] = [
    # what goes forward
    ("publish", (A, S), 1, (A, P)),
    ("activate", (A, P), 1, (D, A)),
    ("retire", (D, A), 0, (R, A)),
    # the first of all, or the first after all were revoked
    ("activate", (P,), 0, (A,)),
    ("activate", (X, P), 1, (X, A)),
    # no step is jumped
    ("activate", (A, S), 1, None),
    ("retire", (A, P), 0, None),
    # nothing comes back
    *[("publish", (A, state), 1, None) for state in (D, R, X)],
    *[("activate", (A, state), 1, None) for state in (D, R, X)],
    *[("retire", (A, state), 1, None) for state in (S, P, R, X)],
    *[("undo", (A, state), 1, None) for state in (D, R, X)],
    # one in waiting
    ("publish", (A, P, S), 2, None),
    ("publish", (A, R, S), 2, (A, R, P)),
    # one more than fits into a JWK Set
    ("publish", (A, *[D] * (MAX_JWKS_KEYS - 1), S), MAX_JWKS_KEYS, None),
    ("publish", (A, *[D] * (MAX_JWKS_KEYS - 2), S), MAX_JWKS_KEYS - 1, (A, *[D] * (MAX_JWKS_KEYS - 2), P)),
    # back, while nothing was signed
    ("undo", (A, S), 1, (A, R)),
    ("undo", (A, P), 1, (A, R)),
    ("undo", (D, A), 1, (A, R)),
    ("undo", (R, A), 1, None),
    ("undo", (A,), 0, None),
    # revoked, from any state but one
    *[("revoke", (state,), 0, (X,)) for state in (S, P, A, D, R)],
    ("revoke", (X,), 0, None),
    # the stand-by key takes over from the active one only, and only when it is published
    ("revoke", (A, P), 0, (X, A)),
    ("revoke", (A, S), 0, (X, S)),
    ("revoke", (D, A, P), 0, (X, A, P)),
    ("revoke", (A, P), 1, (A, X)),
]


@pytest.mark.parametrize(("what", "before", "which", "after"), TABLE)
def test_a_key_goes_its_way(
    what: str, before: tuple[KeyState, ...], which: int, after: tuple[KeyState, ...] | None
) -> None:
    records = [record(number, state) for number, state in enumerate(before)]
    kid = records[which].key.kid
    if after is None:
        with pytest.raises(WrongState):
            MOVES[what](records, kid, NOW)
    else:
        assert states(records, MOVES[what](records, kid, NOW)) == list(after)


@pytest.mark.parametrize("state", KeyState)
def test_a_kid_never_comes_back(state: KeyState) -> None:
    (made,) = key_schedule.stage([record(0, state)], key(1), PURPOSE, NOW)
    assert made.state is KeyState.STAGED
    with pytest.raises(WrongState):
        key_schedule.stage([record(0, state)], key(0), PURPOSE, NOW)


def test_a_key_of_another_purpose_is_not_held() -> None:
    with pytest.raises(NotHeld):
        key_schedule.find([record(0, A)], key(1).kid)


def test_a_key_is_undone_until_it_signs() -> None:
    unused, used = record(1, A), record(1, A, used=True)
    assert key_schedule.undo([record(0, D), unused], unused.key.kid, NOW)
    with pytest.raises(WrongState):
        key_schedule.undo([record(0, D), used], used.key.kid, NOW)


def test_undoing_gives_the_key_before_it_its_place_as_if_it_had_never_ceased() -> None:
    before = record(0, A, used=True)
    records: Records = [before, record(1, P)]
    records = [*key_schedule.activate(records, records[1].key.kid, NOW)]
    retired, again = key_schedule.undo(records, records[1].key.kid, NOW)
    assert (again, retired.retired_at) == (before, NOW)


def test_of_several_draining_keys_the_last_one_signs_again() -> None:
    earlier, later = (replace(record(n, D), drained_at=NOW - (2 - n) * HOUR) for n in range(2))
    _, again = key_schedule.undo([earlier, later, record(2, A)], key(2).kid, NOW)
    assert again.key == later.key


def test_a_superseded_key_may_turn_out_to_be_compromised_and_not_the_other_way_round() -> None:
    superseded = replace(record(0, X), reason=RevocationReason.SUPERSEDED)
    graver = Revocation(revoked_at=NOW, reason=RevocationReason.COMPROMISED)
    (changed,) = key_schedule.revoke([superseded], key(0).kid, graver, NOW)
    assert (changed.state, changed.reason) == (X, RevocationReason.COMPROMISED)
    with pytest.raises(WrongState):
        key_schedule.revoke([changed], key(0).kid, replace(graver, reason=RevocationReason.SUPERSEDED), NOW)


def test_a_revocation_says_why_and_since_when() -> None:
    since = NOW - 5 * DAY
    given = Revocation(revoked_at=NOW, reason=RevocationReason.COMPROMISED, compromised_since=since)
    (revoked,) = key_schedule.revoke([record(0, A)], key(0).kid, given, NOW)
    assert (revoked.revoked_at, revoked.reason, revoked.compromised_since) == (NOW, given.reason, since)


def test_a_superseded_key_is_shown_while_what_it_signed_counts() -> None:
    def shown(changes: dict[str, object], now: datetime = NOW) -> bool:
        revoked = replace(record(0, X, used=True), reason=RevocationReason.SUPERSEDED)
        return bool(key_schedule.published([replace(revoked, **changes)], now))  # type: ignore[arg-type]

    assert shown({})
    assert not shown({"reason": RevocationReason.COMPROMISED})
    assert not shown({"signed_until": None})
    assert not shown({"purpose": KeyPurpose.ISSUER_FEDERATION})  # the next statement takes the place of the last
    assert not shown({}, NOW + 30 * DAY + MAX_CLOCK_SKEW)


@pytest.mark.parametrize(
    ("before", "said", "signer", "after"),
    [
        # Nothing to learn: as it was said, or said before the change that a crash cut short.
        ((A, P), {0, 1}, None, (A, P)),
        ((A, S), {0}, None, (A, S)),
        ((D, A, R), {0, 1, 2}, None, (D, A, R)),
        # Published since the backup, perhaps used.
        ((A, S), {0, 1}, None, (A, D)),
        ((A, P, S), {0, 1, 2}, None, (A, P, D)),
        # Withdrawn since.
        ((A, P, S), {1, 2}, None, (R, P, D)),
        # A federation key that has taken over since goes on.
        ((A, S), {0, 1}, 1, (D, A)),
        ((A, S), {1}, 1, (R, A)),
    ],
)
def test_a_restored_backup_learns_from_what_was_said_since(
    before: tuple[KeyState, ...], said: set[int], signer: int | None, after: tuple[KeyState, ...]
) -> None:
    records = [record(number, state) for number, state in enumerate(before)]
    statement = Said(
        at=NOW - MINUTE,
        kids=frozenset(key(number).kid for number in said),
        signer="" if signer is None else key(signer).kid,
    )
    change = key_schedule.recover(records, statement, NOW + DAY, NOW)
    assert states(records, change) == list(after)
    assert all(each.signed_until == NOW + DAY for each in change if each.state in (A, P, D))


def test_a_key_that_may_have_signed_in_a_time_that_is_forgotten_is_held_for_used() -> None:
    records = [record(0, A), record(1, P)]
    said = Said(at=NOW - MINUTE, kids=frozenset({key(0).kid, key(1).kid}), signer="")
    assert key_schedule.recover(records, said, NOW + DAY, NOW) == ()  # as after any start
    change = key_schedule.recover(records, replace(said, forgotten=True), NOW + DAY, NOW)
    assert states(records, change) == [A, P]
    assert {each.key.kid: each.signed_until for each in change} == dict.fromkeys(said.kids, NOW + DAY)
    with pytest.raises(WrongState):
        key_schedule.undo(change, key(1).kid, NOW)


def test_a_standby_key_that_signed_the_statement_goes_on_signing() -> None:
    records = [record(0, A), record(1, P)]
    said = Said(at=NOW - MINUTE, kids=frozenset({key(0).kid, key(1).kid}), signer=key(1).kid)
    change = key_schedule.recover(records, said, NOW + DAY, NOW)
    assert states(records, change) == [D, A]
    assert all(each.signed_until == NOW + DAY for each in change)


def test_what_was_published_after_a_statement_is_not_missed_in_it() -> None:
    records = [record(0, A), replace(record(1, P), published_at=NOW - MINUTE)]
    for at, expected in ((NOW - MINUTE, (A, P)), (NOW - MINUTE + timedelta(seconds=1), (A, R))):
        said = Said(at=at, kids=frozenset({key(0).kid}), signer="")
        assert states(records, key_schedule.recover(records, said, NOW, NOW)) == list(expected)


# -- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linger", [timedelta(0), HOUR])
@pytest.mark.parametrize("signed_until", [None, NOW + 30 * DAY])
def test_a_key_drains_until_nothing_is_left_that_needs_it(linger: timedelta, signed_until: datetime | None) -> None:
    timing = replace(TIMING, linger=linger)
    draining = replace(record(0, D), drained_at=NOW, signed_until=signed_until)
    end = (signed_until or NOW + linger) + timing.skew
    assert key_schedule.retire_due([draining, record(1, A)], timing, end - timedelta(seconds=1)) == ()
    (retired,) = key_schedule.retire_due([draining, record(1, A)], timing, end)
    assert (retired.state, retired.retired_at) == (R, end)


def test_keys_made_on_one_day_are_not_all_due_on_one_day() -> None:
    dues = [key_schedule.due_at(record(number, A), 90 * DAY) for number in range(8)]
    ages = [due - (NOW - DAY) for due in dues]
    assert all(81 * DAY <= age <= 90 * DAY for age in ages)
    assert len(set(dues)) > 1
    assert dues == [key_schedule.due_at(record(number, A), 90 * DAY) for number in range(8)]


# -- readiness --------------------------------------------------------------------------------------------------------

HELD = Holder(entity_id="https://gateway.zj.example", province="zj", reachable=True, holds=True, acknowledged_at=NOW)
BEHIND = replace(HELD, holds=False, acknowledged_at=NOW - 11 * MINUTE)
CUT_OFF = replace(BEHIND, reachable=False)
OPEN, PASSED = NOW - TIMING.window + timedelta(seconds=1), NOW - TIMING.window


@pytest.mark.parametrize(
    ("readiness", "blocking"),
    [
        (Readiness(holders=(HELD, HELD), since=PASSED), 0),
        (Readiness(holders=(HELD, BEHIND), since=PASSED), 1),
        (Readiness(holders=(BEHIND, BEHIND), since=PASSED), 2),
        # One that cannot be asked is waited for as long as the window is open, and not a second longer.
        (Readiness(holders=(HELD, CUT_OFF), since=PASSED), 0),
        (Readiness(holders=(HELD, CUT_OFF), since=OPEN), 1),
        # That all hold it is not enough either: the window is for those nobody thought of.
        (Readiness(holders=(HELD, HELD), since=OPEN), 1),
        (Readiness(holders=(HELD, HELD), since=None), 1),
        # Whoever knows the key as revoked will never take what it signs.
        (Readiness(holders=(HELD, replace(CUT_OFF, refuses=True)), since=PASSED), 1),
        # A federation key need not wait out the window once the gateways that can be reached hold it.
        (Readiness(holders=(HELD,), since=OPEN, witnesses=(HELD, CUT_OFF)), 0),
        (Readiness(holders=(HELD,), since=OPEN, witnesses=(HELD, BEHIND)), 1),
        (Readiness(holders=(HELD,), since=OPEN, witnesses=(CUT_OFF,)), 1),
        (Readiness(holders=(HELD,), since=None, witnesses=(HELD,)), 1),
        (Readiness(holders=(HELD,), since=PASSED, witnesses=(BEHIND,)), 0),
    ],
)
def test_a_key_is_ready_when_nobody_blocks(readiness: Readiness, blocking: int) -> None:
    found = key_schedule.blockers(readiness, TIMING, NOW)
    assert len(found) == blocking
    if blocking:
        with pytest.raises(WrongState) as caught:
            key_schedule.check_ready(readiness, TIMING, NOW)
        assert caught.value.blockers == found
    else:
        key_schedule.check_ready(readiness, TIMING, NOW)


def test_whoever_blocks_is_named_with_the_age_of_their_word() -> None:
    (line,) = key_schedule.blockers(Readiness(holders=(HELD, BEHIND), since=PASSED), TIMING, NOW)
    assert line == "zj https://gateway.zj.example acknowledged 11 min ago a view without this key"


def test_whoever_cannot_be_reached_is_warned_of_and_does_not_block() -> None:
    readiness = Readiness(holders=(HELD, CUT_OFF), since=PASSED)
    assert not key_schedule.blockers(readiness, TIMING, NOW)
    (line,) = key_schedule.warnings(readiness, NOW)
    assert CUT_OFF.entity_id in line
    assert not key_schedule.warnings(Readiness(holders=(HELD, BEHIND), since=PASSED), NOW)


# -- plan -------------------------------------------------------------------------------------------------------------


def done(records: Records, readiness: Readiness | None = None, *, after: bool = False) -> list[StepKind]:
    planned = key_schedule.plan(PURPOSE, records, readiness or Readiness(), TIMING, NOW, after=after)
    return [step.kind for step in planned.steps if step.done]


def test_a_plan_says_how_far_the_rotation_is() -> None:
    ready, waits = Readiness(holders=(HELD,), since=PASSED), Readiness(holders=(BEHIND,), since=PASSED)
    stage, publish, wait, activate, drain, _retire = StepKind
    assert done([record(0, A)]) == []
    assert done([record(0, A), record(1, S)]) == [stage]
    assert done([record(0, A), record(1, P)], waits) == [stage, publish]
    assert done([record(0, A), record(1, P)], ready) == [stage, publish, wait]
    assert done([record(0, D, used=True), record(1, A)], ready, after=True) == [stage, publish, wait, activate]
    drained = replace(record(0, D), drained_at=NOW - HOUR)
    assert done([drained, record(1, A)], ready, after=True)[-1] is drain


def test_a_plan_says_when() -> None:
    readiness = Readiness(holders=(HELD,), since=NOW - MINUTE)
    planned = key_schedule.plan(PURPOSE, [record(0, A, used=True), record(1, P)], readiness, TIMING, NOW)
    at = {step.kind: step.at for step in planned.steps}
    assert at[StepKind.ACTIVATE] == NOW - MINUTE + TIMING.window
    assert at[StepKind.RETIRE] == NOW + 30 * DAY + TIMING.skew
    assert (planned.current, planned.following) == (record(0, A, used=True), record(1, P))


def test_an_anchors_key_waits_for_the_charter() -> None:
    staged = [replace(record(0, A), purpose=KeyPurpose.ANCHOR_FEDERATION), record(1, S)]
    anchors = key_schedule.plan(KeyPurpose.ANCHOR_FEDERATION, staged, Readiness(), TIMING, NOW)
    others = key_schedule.plan(PURPOSE, staged, Readiness(), TIMING, NOW)
    publish = [next(step for step in each.steps if step.kind is StepKind.PUBLISH) for each in (anchors, others)]
    assert [step.at for step in publish] == [None, NOW]
    assert "charter" in publish[0].detail


def test_the_etag_changes_with_what_the_plan_was_made_from() -> None:
    def etag(records: Records, *holders: Holder, now: datetime = NOW) -> str:
        return key_schedule.plan(PURPOSE, records, Readiness(holders=holders, since=PASSED), TIMING, now).etag

    records = [record(0, A), record(1, P)]
    first = etag(records, HELD)
    assert etag(records, replace(HELD, acknowledged_at=NOW + MINUTE), now=NOW + MINUTE) == first
    others = [
        etag([record(0, A), record(1, S)], HELD),
        etag([record(0, A), record(2, P)], HELD),
        etag(records, BEHIND),
        etag(records, CUT_OFF),
        etag(records, HELD, HELD),
    ]
    assert len({first, *others}) == 1 + len(others)


# -- any order of events ----------------------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """One purpose, with every operation in any order, beside a model that knows only who signs and who is past."""

    @initialize()
    def begin(self) -> None:
        self.now = NOW
        self.count = 1
        first = replace(record(0, A), activated_at=NOW)
        self.records = {first.key.kid: first}
        # The model.
        self.signing: str | None = first.key.kid
        self.past: set[str] = set()
        self.signatures: dict[str, datetime] = {}
        """Until when what a key signed must be checkable."""

    def kids(self, *wanted: KeyState) -> list[str]:
        return [kid for kid, each in self.records.items() if each.state in wanted]

    def told(self) -> list[str]:
        return [each.key.kid for each in key_schedule.published(self.all(), self.now)]

    def all(self) -> list[KeyRecord]:
        return list(self.records.values())

    def take(self, change: Change) -> None:
        for each in change:
            assert each.key.kid not in self.past or each.state in (R, X)  # nothing comes back
        self.records.update({each.key.kid: each for each in change})

    def pick(self, data: st.DataObject, *wanted: KeyState) -> str | None:
        kids = self.kids(*(wanted or tuple(KeyState)))
        return data.draw(st.sampled_from(kids)) if kids else None

    @rule(minutes=st.sampled_from([1, 13, 60, 60 * 24, 60 * 24 * 31]))
    def time_passes(self, minutes: int) -> None:
        self.now += minutes * MINUTE

    @rule()
    def stage(self) -> None:
        self.take(key_schedule.stage(self.all(), key(self.count), PURPOSE, self.now))
        self.count += 1

    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        kid = self.pick(data)
        assert kid is not None
        could = self.records[kid].state is S and not self.kids(P) and len(self.told()) < MAX_JWKS_KEYS
        self.expect(could, lambda: key_schedule.publish(self.all(), kid, self.now))

    @rule(data=st.data())
    def activate(self, data: st.DataObject) -> None:
        kid = self.pick(data)
        assert kid is not None
        could = self.records[kid].state is P
        self.expect(could, lambda: key_schedule.activate(self.all(), kid, self.now))
        if could:
            self.signing = kid

    @precondition(lambda self: self.signing is not None)
    @rule(days=st.sampled_from([0, 1, 30]))
    def sign(self, days: int) -> None:
        kid = self.signing
        assert kid is not None
        until = max(self.now + days * DAY, self.signatures.get(kid, self.now))
        self.signatures[kid] = until
        self.records[kid] = replace(self.records[kid], signed_until=until)

    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        kid = self.pick(data)
        assert kid is not None
        state = self.records[kid].state
        could = kid not in self.signatures and (state in (S, P) or (state is A and bool(self.kids(D))))
        before = key_schedule.drained_last(self.all())
        self.expect(could, lambda: key_schedule.undo(self.all(), kid, self.now))
        if could:
            self.past.add(kid)
            if state is A:
                assert before is not None
                self.signing = before.key.kid

    @rule(data=st.data(), reason=st.sampled_from(RevocationReason))
    def revoke(self, data: st.DataObject, reason: RevocationReason) -> None:
        kid = self.pick(data)
        assert kid is not None
        record, standby = self.records[kid], self.kids(P)
        graver = (record.reason, reason) == (RevocationReason.SUPERSEDED, RevocationReason.COMPROMISED)
        could = record.state is not X or graver
        given = Revocation(revoked_at=self.now, reason=reason)
        self.expect(could, lambda: key_schedule.revoke(self.all(), kid, given, self.now))
        if could:
            self.past.add(kid)
            if reason is RevocationReason.COMPROMISED:
                self.signatures.pop(kid, None)
            if kid == self.signing:
                self.signing = standby[0] if standby else None

    @rule()
    def retire(self) -> None:
        change = key_schedule.retire_due(self.all(), TIMING, self.now)
        self.past |= {each.key.kid for each in change}
        self.take(change)

    def expect(self, could: bool, move: Callable[[], Change]) -> None:
        if could:
            self.take(move())
        else:
            with pytest.raises(WrongState):
                move()

    @invariant()
    def one_key_signs_and_it_is_the_models(self) -> None:
        assert self.kids(A) == ([self.signing] if self.signing else [])

    @invariant()
    def at_most_one_waits_published(self) -> None:
        assert len(self.kids(P)) <= 1
        assert len(self.told()) <= MAX_JWKS_KEYS

    @invariant()
    def whatever_is_still_good_can_still_be_checked(self) -> None:
        for kid, until in self.signatures.items():
            assert kid in self.told() or until <= self.now

    @invariant()
    def what_is_past_stays_past(self) -> None:
        assert set(self.kids(R, X)) == self.past

    @invariant()
    def what_was_revoked_says_when_and_why(self) -> None:
        for kid in self.kids(X):
            assert (self.records[kid].revoked_at, self.records[kid].reason) != (None, None)


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
