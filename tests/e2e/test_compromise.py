"""A credential key is compromised while people come to all counters: it is refused everywhere at once.

Meanwhile nobody with a valid credential is turned away: the stand-by key, which everybody holds already, takes over.
How fast it is on a quiet machine is for ``bench/rotation.py`` to say; here it only has to come over the streams, and
not with the next poll.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from gateway.core.identifiers import Province
from tests.e2e.compromise import KEY_REVOKED, Compromiser
from tests.e2e.lab import AH, SH, ZJ, RealFederation
from tests.e2e.links import State, wait_for
from tests.e2e.load import Authority, Kind, Load, Visitor, verdict_of
from tests.e2e.rotation import wrong

INTERVAL = 30
"""Seconds between polls: what comes sooner came over a stream."""
AT_ONCE = 10.0
ANCHOR_LIFETIME = timedelta(minutes=10)
GRACE = timedelta(minutes=75)
"""An anchor's configuration, the agreement's grace of an hour, and some."""


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFederation]:
    with RealFederation(tmp_path_factory.mktemp("compromise") / "lab", lines=True, interval_seconds=INTERVAL) as made:
        yield made


def test_a_compromised_key_is_refused_everywhere_at_once(federation: RealFederation) -> None:
    with Load(federation) as load:
        compromiser = Compromiser(federation, SH)
        standby = compromiser.prepare()
        done = compromiser.run()
        mark = load.mark()
        after = load.at_least(3, mark)
    assert done.promoted == standby
    assert done.strange == {}
    assert done.last < AT_ONCE, done.seconds
    # The one thing that is turned away is what the compromised key signed; the stand-by key's word counts at once.
    refused = [call for call in load.since().calls if call.is_wrong]
    assert {(call.verdict, call.reason, call.kid) for call in refused} <= {("rejected", KEY_REVOKED, done.kid)}
    assert {call.verdict for call in after.signed_by(standby).calls} == {"accepted"}
    assert not [call for call in after.wrong if call.kind is not Kind.STANDING], after.explain()


def test_a_revoked_key_stays_revoked_when_its_province_comes_back_from_a_crash(federation: RealFederation) -> None:
    compromiser = Compromiser(federation, ZJ)
    compromiser.prepare()
    credential = Authority(federation, ZJ).credential().credential
    done = compromiser.run()
    for province in (ZJ, AH):
        federation.crash(province)
    for province in Province:
        visitor = Visitor(federation, province)
        verdict, reason, _ = verdict_of(visitor.show_licence(credential))
        assert (province, verdict, reason) == (province, "rejected", KEY_REVOKED)
    assert done.kid


def test_without_streams_polling_brings_the_word_within_a_configurations_life(federation: RealFederation) -> None:
    """Every connection between provinces is reset before long: polls get through, no stream stays up."""
    compromiser = Compromiser(federation, AH)
    compromiser.prepare()
    federation.lines.isolate([AH], State.CHOPPY)
    for province in Province:
        federation.lines.isolate([province], State.CHOPPY)
    began = federation.now
    try:
        done = compromiser.run()
    finally:
        federation.lines.mend()
    assert federation.now - began < ANCHOR_LIFETIME
    assert done.last < ANCHOR_LIFETIME.total_seconds()
    assert done.strange == {}


@pytest.mark.long
def test_a_gateway_cut_off_cannot_tell_after_its_grace_and_others_go_on(federation: RealFederation) -> None:
    others = [province for province in Province if province is not ZJ]
    with Load(federation) as load:
        federation.lines.isolate([ZJ], State.SILENT)
        try:
            federation.advance(GRACE, among=[others, [ZJ]])
            mark = load.mark()
            tally = load.at_least(2, mark)
        finally:
            federation.lines.mend()
        assert wrong(load.since().at(others)) == ""
        assert {call.verdict for call in tally.at([ZJ]).calls} == {"indeterminate"}, tally.explain()
        assert not [call for call in load.since().calls if call.verdict == "rejected"]
        federation.settle()
        wait_for(lambda: all(federation.recognises(ZJ, each) for each in Province), what="zj coming back")
        assert wrong(load.at_least(2, load.mark())) == ""


@pytest.mark.long
def test_who_never_heard_of_the_revocation_trusts_no_longer_than_its_grace(federation: RealFederation) -> None:
    """Its issuer revoked the key while nothing reached this gateway: it must not trust on for ever."""
    others = [province for province in Province if province is not AH]
    federation.lines.isolate([AH], State.SILENT)
    try:
        compromiser = Compromiser(federation, SH, gateways=others)
        credential = Authority(federation, SH).credential().credential
        done = compromiser.run()
        visitor = Visitor(federation, AH)
        federation.advance(GRACE, among=[others, [AH]])
        verdict, _, _ = verdict_of(visitor.show_licence(credential))
        assert verdict == "indeterminate"
    finally:
        federation.lines.mend()
    federation.settle()
    wait_for(lambda: verdict_of(visitor.show_licence(credential))[1] == KEY_REVOKED, what="ah learning of it")
    assert done.strange == {}
