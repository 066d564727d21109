"""Keys are rotated while people come to the counters of all four provinces, and nobody notices.

Real processes, a steady load, and whatever may go wrong at the worst moment: a peer that is down, a peer that hears
nothing for ten minutes, the rotating province's own process killed at each step. No valid credential may be rejected,
and none left undecided.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from gateway.core.identifiers import Province
from tests.e2e.lab import AH, JS, SH, ZJ, RealFederation
from tests.e2e.links import State, wait_for
from tests.e2e.load import Load
from tests.e2e.rotation import (
    CREDENTIAL,
    GATEWAY_FEDERATION,
    PURPOSES,
    Administrator,
    Crash,
    Purpose,
    Rotating,
    wrong,
)

BEHIND = timedelta(minutes=10)


def other(province: Province) -> Province:
    """Somebody else, a different one for each."""
    order = list(Province)
    return order[(order.index(province) + 1) % len(order)]


def marked(short: set[tuple[object, ...]], cases: list[tuple[object, ...]]) -> list[object]:
    return [pytest.param(*case, marks=[] if case in short else [pytest.mark.long]) for case in cases]


def _short(case: object, short: object) -> list[pytest.MarkDecorator]:
    return [] if case == short else [pytest.mark.long]


def crashes() -> list[tuple[object, ...]]:
    """Each purpose killed at each step, the provinces taking turns."""
    steps = [(purpose, crash) for purpose in PURPOSES for crash in Crash if crash is not Crash.NOWHERE]
    return [(list(Province)[number % len(Province)], *step) for number, step in enumerate(steps)]


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFederation]:
    """No stand-by keys: each rotation then publishes a key that nobody has seen, and has to wait for all of them."""
    with RealFederation(tmp_path_factory.mktemp("rotation") / "lab", lines=True, standby=False) as made:
        yield made


@pytest.mark.parametrize(
    ("province", "purpose", "crash"),
    marked(
        {(SH, CREDENTIAL, Crash.ACTIVATING)},
        [
            *((province, purpose, Crash.NOWHERE) for province in Province for purpose in PURPOSES),
            *crashes(),
        ],
    ),
)
def test_nobody_notices_a_rotation(
    federation: RealFederation, province: Province, purpose: Purpose, crash: Crash
) -> None:
    with Load(federation) as load:
        rotating = Rotating(federation, load, province, purpose, crash=crash)
        assert rotating.is_played
        rotated = rotating.run()
        mark = load.mark()
        after = load.at_least(2, mark)
        down = [] if crash is Crash.NOWHERE else [province]
        assert wrong(load.since(), down=down) == ""
        assert wrong(after) == ""
        if purpose == CREDENTIAL:
            assert after.signed_by(rotated.new_kid).calls
            assert not after.signed_by(rotated.old_kid).calls
    assert rotated.old_kid != rotated.new_kid
    if purpose == CREDENTIAL:
        assert rotating.refusals, "a key that nobody had seen was activated at once"
        assert rotating.refusals[0].blockers


@pytest.mark.parametrize(
    ("province", "purpose"),
    [
        pytest.param(province, purpose, marks=_short((province, purpose), (JS, CREDENTIAL)))
        for province in Province
        for purpose in PURPOSES
    ],
)
def test_nobody_notices_a_rotation_while_a_peer_is_down(
    federation: RealFederation, province: Province, purpose: Purpose
) -> None:
    absent = other(province)
    with Load(federation) as load:
        assert Administrator(federation, province).list(purpose)
        federation.lab.kill(absent)
        try:
            rotating = Rotating(federation, load, province, purpose)
            old, new = rotating.publish()
            rotating.wait(new)
            rotating.activate(new)
            rotating.drain(old, new)
        finally:
            federation.start()
        back = load.at_least(2, load.mark())
        assert wrong(load.since(), down=[absent]) == ""
        assert wrong(back) == ""
        rotating.retire(old)
        assert wrong(load.at_least(1, load.mark())) == ""


@pytest.mark.parametrize(
    ("province", "purpose"),
    marked({(ZJ, CREDENTIAL)}, [(province, purpose) for province in Province for purpose in PURPOSES]),
)
def test_nobody_notices_a_rotation_while_a_peer_is_ten_minutes_behind(
    federation: RealFederation, province: Province, purpose: Purpose
) -> None:
    """Cut off before the key is published, back ten minutes later: until then it has heard of nothing."""
    behind = other(province)
    among = [[each for each in Province if each is not behind], [behind]]
    with Load(federation) as load:
        assert Administrator(federation, province).list(purpose)
        federation.lines.isolate([behind], State.SILENT)
        try:
            rotating = Rotating(federation, load, province, purpose, among=among)
            old, new = rotating.publish()
            federation.advance(BEHIND, among)
        finally:
            federation.lines.mend()
        federation.settle()
        rotating = Rotating(federation, load, province, purpose)
        rotating.wait(new)
        rotating.activate(new)
        rotating.drain(old, new)
        back = load.at_least(2, load.mark())
        assert wrong(load.since()) == ""
        assert wrong(back) == ""


@pytest.mark.long
@pytest.mark.parametrize("province", Province)
def test_who_is_cut_off_through_all_of_it_says_that_it_cannot_tell(
    federation: RealFederation, province: Province
) -> None:
    """Nobody can wait for a gateway for ever. It never says "rejected", and knows the key as soon as it is back."""
    lost = other(province)
    reachable = [each for each in Province if each is not lost]
    with Load(federation) as load:
        federation.lines.isolate([lost], State.SILENT)
        try:
            rotating = Rotating(federation, load, province, CREDENTIAL, among=[reachable, [lost]])
            old, new = rotating.publish()
            rotating.wait(new)
            rotating.activate(new)
            mark = load.mark()
            cut = load.at_least(3, mark)
        finally:
            federation.lines.mend()
        assert wrong(load.since().at(reachable)) == ""
        assert not [call for call in load.since().calls if call.verdict == "rejected"], load.since().explain()
        assert not [call for call in cut.wrong if call.kid != new], cut.explain()
        federation.settle()
        assert wrong(load.at_least(2, load.mark())) == ""
        rotating.drain(old, new)


@pytest.mark.parametrize("purpose", [GATEWAY_FEDERATION])
def test_a_rotation_can_be_taken_back_until_the_first_signature(federation: RealFederation, purpose: Purpose) -> None:
    with Load(federation) as load:
        rotating = Rotating(federation, load, AH, purpose)
        old, new = rotating.publish()
        admin = Administrator(federation, AH)
        admin.undo(new, "undo-once")
        admin.undo(new, "undo-once")
        assert admin.active(purpose) == old
        wait_for(lambda: not any(holder.holds for holder in admin.holders(new)), what="everybody letting go of it")
        assert wrong(load.at_least(1, load.mark())) == ""
    assert admin.state(purpose, new) == "RETIRED"
