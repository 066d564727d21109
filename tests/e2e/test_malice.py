"""One province has gone bad, or two anchors have. They harm nobody but themselves.

In the place of Jiangsu's gateway (and, where two collude, Zhejiang's) stands a program of the tests with all its keys.
While it does its worst, people with credentials of the honest issuers come to the honest gateways, and must not
notice; what was forged is shown there too, and must not be accepted; and the honest processes must go on serving, with
no more memory and threads than they should have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count

import pytest
from recognition.v1 import federation_pb2

from gateway.core.encoding import b64url_encode
from gateway.core.identifiers import Province
from gateway.core.jose import SoftwareKey, generate_key
from gateway.lab.charter import entity_ids
from gateway.lab.federation import is_serving
from tests.e2e.assault import ALLOWED_STREAMS, greedy_streams, slow_loris, unknown_kids
from tests.e2e.compromise import KEY_REVOKED
from tests.e2e.lab import AH, CALL_SECONDS, JS, SH, ZJ, RealFederation, Usage, claims_of, header_of
from tests.e2e.links import wait_for
from tests.e2e.load import Authority, Kind, Load, Visitor, latencies, verdict_of
from tests.e2e.malice import EVENTS, ISSUER, Forger, Impostor, Offer, forged, sign
from tests.e2e.rotation import Administrator, wrong

HONEST = (SH, ZJ, AH)
MAX_RESIDENT_KIB = 400 * 1024
MORE_RESIDENT_KIB = 150 * 1024
MORE_THREADS = 64
SLOWEST_P99 = 2.5
"""Seconds: what a person at a counter may have to wait while somebody else does his worst. Two cores do all of it."""


@dataclass
class Scene:
    """The honest three, and the forger in the fourth place."""

    federation: RealFederation
    forger: Forger
    impostor: Impostor
    load: Load
    credential: str
    """Somebody's, of Shanghai: what forgeries are made from."""
    before: Mapping[Province, Usage]

    def attempt(self, credential: str) -> set[str]:
        """What the honest gateways say to a credential; those that were not even asked the right way say nothing."""
        return {
            f"{verdict} {reason}".strip()
            for gateway in HONEST
            for verdict, reason, _ in [verdict_of(Visitor(self.federation, gateway).show_licence(credential))]
        }

    def logged(self) -> Mapping[Province, int]:
        """How much the honest have logged so far."""
        return {gateway: len(self.federation.log(gateway)) for gateway in HONEST}

    def is_noticed(self, reason: str, since: Mapping[Province, int]) -> bool:
        """Whether each of the honest has logged a reason since."""
        return all(f'"reason": "{reason}"' in self.federation.log(gateway)[since[gateway] :] for gateway in HONEST)

    def check(self, mark: int, times: int = 1) -> None:
        """The honest noticed nothing, and the processes are sound."""
        tally = self.load.at_least(times, mark, HONEST)
        assert wrong(tally.of(HONEST)) == ""
        assert latencies(tally.of(HONEST).calls)["p99"] < SLOWEST_P99
        for gateway in HONEST:
            assert is_serving(self.federation.client(gateway, "hukou"), "")
            usage = self.federation.usage(gateway)
            assert usage.resident_kib < MAX_RESIDENT_KIB
            assert usage.resident_kib - self.before[gateway].resident_kib < MORE_RESIDENT_KIB
            assert usage.threads - self.before[gateway].threads < MORE_THREADS


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFederation]:
    with RealFederation(tmp_path_factory.mktemp("malice") / "lab") as made:
        yield made


@pytest.fixture(scope="module")
def scene(federation: RealFederation) -> Iterator[Scene]:
    credential = Authority(federation, SH).credential().credential
    with Load(federation, HONEST) as load:
        load.at_least(1, 0)
        before = {gateway: federation.usage(gateway) for gateway in HONEST}
        forger = Forger(federation, JS)
        federation.lab.kill(JS)
        with Impostor(federation, forger, forger.offer()) as impostor:
            impostor.send(forger.offer(), HONEST)
            yield Scene(federation, forger, impostor, load, credential, before)


Malice = Callable[[Scene], Sequence[str]]
"""Does it, and gives the credentials that it would make good."""

# -- a malicious member -----------------------------------------------------------------------------------------------


def speaks_for_another(scene: Scene) -> Sequence[str]:
    """Its own key signs in the name of another province's issuer, and a configuration of that issuer as well."""
    forger, victim = scene.forger, entity_ids(SH).issuer
    claims = forger.renewed(forger.claims(forger.ids.issuer), iss=victim, sub=victim)
    scene.impostor.send(forger.offer(extra=[sign(forger.issuer_key, claims)]), HONEST)
    return [forged(scene.credential, forger.credential_key)]


def lists_anothers_key(scene: Scene) -> Sequence[str]:
    """It lists the other issuer's key as one of its own: whose it is first would lose it."""
    forger = scene.forger
    (theirs, *_) = claims_of(forger.documents[entity_ids(SH).issuer, entity_ids(SH).issuer])["metadata"][ISSUER][
        "jwks"
    ]["keys"]
    metadata = forger.claims(forger.ids.issuer)["metadata"]
    listed = {**metadata[ISSUER], "jwks": {"keys": [*metadata[ISSUER]["jwks"]["keys"], theirs]}}
    own = forger.configuration(forger.ids.issuer, metadata={**metadata, ISSUER: listed})
    scene.impostor.send(forger.offer(own), HONEST)
    return []


def rolls_back(scene: Scene) -> Sequence[str]:
    """A newer configuration with a key more, then the older one again: the key must not come and go with the order."""
    forger = scene.forger
    newer = forger.configuration(forger.ids.issuer)
    scene.impostor.send(forger.offer(newer), HONEST)
    scene.impostor.send(forger.offer(), HONEST)
    return []


def equivocates(scene: Scene) -> Sequence[str]:
    """Two configurations of its own under one number, both in one message."""
    forger = scene.forger
    seq = forger.next_seq()
    one = forger.configuration(forger.ids.issuer, seq=seq)
    other = forger.configuration(forger.ids.issuer, seq=seq, authority_hints=[forger.ids.anchor])
    scene.impostor.send(forger.offer(one, extra=[other]), HONEST)
    return []


def adds_keys_without_end(scene: Scene) -> Sequence[str]:
    """A configuration with thousands of keys."""
    forger = scene.forger
    keys = [dict(generate_key().public.jwk) for _ in range(500)]
    metadata = forger.claims(forger.ids.issuer)["metadata"]
    listed = {**metadata[ISSUER], "jwks": {"keys": keys}}
    own = forger.configuration(forger.ids.issuer, metadata={**metadata, ISSUER: listed})
    scene.impostor.send(forger.offer(own), HONEST, then=forger.offer())
    return []


def revokes_anothers_key(scene: Scene) -> Sequence[str]:
    """It says that the other issuer's key is revoked: in its own name, and in theirs."""
    forger, victim = scene.forger, entity_ids(SH).issuer
    kid = header_of(scene.credential.partition("~")[0])["kid"]
    now = int(scene.federation.now.timestamp())
    event = {"iat": now, "event": "revocation", "kid": kid, "reason": "compromised"}
    events = [
        sign(forger.issuer_key, claims, EVENTS)
        for entity in (forger.ids.issuer, victim)
        for claims in [
            {
                "iss": entity,
                "sub": entity,
                "iat": now,
                "seq": forger.next_seq(),
                "federation_registration_events": [event],
            }
        ]
    ]
    scene.impostor.send(forger.offer(events=events), HONEST)
    return []


def sends_what_is_huge_and_deep(scene: Scene) -> Sequence[str]:
    """Documents that cost more to read than to write."""
    forger = scene.forger
    key = forger.anchor_key
    deep = b'{"iss":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    wide = b"{" + b",".join(b'"%d":0' % number for number in range(60_000)) + b"}"
    digits = b'{"seq":' + b"9" * 200_000 + b"}"
    long = b'{"iss":"' + b"a" * 2_000_000 + b'"}'
    documents = [sign(key, each) for each in (deep, wide, digits, long)]
    documents += ["." * 100_000, "A" * 3_000_000, "", "é" * 1_000, f"{b64url_encode(b'[' * 400)}.e30.AAAA"]
    scene.impostor.send(forger.offer(extra=documents), HONEST, then=forger.offer())
    return []


def sends_thousands_of_statements(scene: Scene) -> Sequence[str]:
    """Thousands of well-formed statements about nobody, and thousands about somebody."""
    forger = scene.forger
    claims = forger.claims(forger.ids.anchor, entity_ids(SH).issuer)
    strangers = [
        sign(forger.anchor_key, {**claims, "sub": f"https://issuer.{number}.example", "seq": number + 1})
        for number in range(1_500)
    ]
    again = [sign(forger.anchor_key, {**claims, "seq": claims["seq"] + number}) for number in range(1_500)]
    scene.impostor.send(forger.offer(extra=[*strangers, *again]), HONEST, then=forger.offer())
    return []


def sends_more_than_a_message_may_hold(scene: Scene) -> Sequence[str]:
    """Not even read: the stream ends, and the honest ask again, less and less often."""
    filler = [b64url_encode(b"x" * 700_000)] * 24
    with pytest.raises(AssertionError, match="hearing it"):
        scene.impostor.send(Offer([*scene.forger.documents.values(), *filler]), HONEST[:1], within=4.0)
    scene.impostor.send(scene.forger.offer(), HONEST)
    return []


def never_stops_changing(scene: Scene) -> Sequence[str]:
    """A stream on which something is new at every moment."""
    forger, mark = scene.forger, scene.load.mark()
    scene.impostor.send_without_end(forger.offer(*forger.bundle()) for _ in count())
    scene.load.at_least(4, mark, HONEST)
    scene.impostor.send(forger.offer(*forger.bundle()), HONEST)
    return []


# -- a malicious anchor -----------------------------------------------------------------------------------------------


def adds_a_key_alone(scene: Scene) -> Sequence[str]:
    """It attests a key of its own making for another province's issuer."""
    forger, rogue = scene.forger, generate_key()
    victim = entity_ids(SH).issuer
    scene.impostor.send(forger.offer(*forger.bundle({victim: forger.with_key(victim, rogue)})), HONEST)
    return [forged(scene.credential, rogue)]


def withholds_statements(scene: Scene) -> Sequence[str]:
    """It names statements in its snapshot and sends none of them."""
    forger = scene.forger
    configuration = forger.bundle({victim: forger.statement(victim) for victim in forger.members()})[0]
    scene.impostor.send(forger.offer(configuration), HONEST)
    return []


def removes_in_silence(scene: Scene) -> Sequence[str]:
    """Members are simply not in its snapshot any more."""
    forger = scene.forger
    gone = {entity_ids(each).issuer: None for each in HONEST}
    scene.impostor.send(forger.offer(*forger.bundle(entries=gone)), HONEST)
    return []


def runs_far_ahead(scene: Scene) -> Sequence[str]:
    """It uses up the numbers."""
    forger = scene.forger
    scene.impostor.send(forger.offer(*forger.bundle(seq=2**52)), HONEST)
    return []


def is_of_the_future(scene: Scene) -> Sequence[str]:
    """Its clock is a year ahead: nobody else's may follow it."""
    forger = scene.forger
    issued_at = int(scene.federation.now.timestamp()) + 365 * 86_400
    scene.impostor.send(forger.offer(*forger.bundle(iat=issued_at, exp=issued_at + 600)), HONEST)
    return []


def speaks_with_many_tongues(scene: Scene) -> Sequence[str]:
    """Another story for each listener, all under one number."""
    forger, rogue, seq = scene.forger, generate_key(), scene.forger.next_seq()
    victim = entity_ids(SH).issuer
    stories = {gateway: forger.offer(*forger.bundle({victim: forger.statement(victim)}, seq=seq)) for gateway in HONEST}
    stories[AH] = forger.offer(*forger.bundle({victim: forger.with_key(victim, rogue)}, seq=seq))
    scene.impostor.send(lambda listener: stories.get(listener, forger.offer()), HONEST)
    return [forged(scene.credential, rogue)]


def buries_the_others(scene: Scene) -> Sequence[str]:
    """It withdraws its word for every member of the others, for good."""
    forger, now = scene.forger, int(scene.federation.now.timestamp())
    graves = {
        entity: {"revoked_at": now, "reason": "malice"}
        for each in HONEST
        for entity in (entity_ids(each).issuer, entity_ids(each).gateway)
    }
    scene.impostor.send(forger.offer(*forger.bundle(entries=graves)), HONEST)
    return []


ALL: Sequence[Malice] = (
    speaks_for_another,
    lists_anothers_key,
    rolls_back,
    equivocates,
    adds_keys_without_end,
    revokes_anothers_key,
    sends_what_is_huge_and_deep,
    sends_thousands_of_statements,
    sends_more_than_a_message_may_hold,
    never_stops_changing,
    adds_a_key_alone,
    withholds_statements,
    removes_in_silence,
    runs_far_ahead,
    is_of_the_future,
    # What these do cannot be undone, so they come last.
    speaks_with_many_tongues,
    buries_the_others,
)
LONG: Sequence[Malice] = (sends_more_than_a_message_may_hold, never_stops_changing)
NOTICED: Mapping[Malice, str] = {
    speaks_for_another: "KEY_UNKNOWN",
    lists_anothers_key: "KEY_NOT_ACCEPTABLE",
    revokes_anothers_key: "KEY_UNKNOWN",
    removes_in_silence: "SNAPSHOT_MISMATCH",
    runs_far_ahead: "SEQUENCE_INVALID",
    is_of_the_future: "NOT_YET_VALID",
    speaks_with_many_tongues: "EQUIVOCATION",
}
"""What the honest say of it in their logs, so that a test does not pass because nothing arrived."""


@pytest.mark.parametrize(
    "malice",
    [pytest.param(each, id=each.__name__, marks=[pytest.mark.long] if each in LONG else []) for each in ALL],
)
def test_a_malicious_province_harms_only_itself(scene: Scene, malice: Malice) -> None:
    mark, logged = scene.load.mark(), scene.logged()
    forgeries = malice(scene)
    answers = {answer for credential in forgeries for answer in scene.attempt(credential)}
    assert not {answer for answer in answers if answer.startswith("accepted")}
    assert {answer.partition(" ")[0] for answer in answers} <= {"rejected", "indeterminate"}
    scene.check(mark, times=2)
    if malice in NOTICED:
        wait_for(lambda: scene.is_noticed(NOTICED[malice], logged), what=f"everybody noticing {NOTICED[malice]}")


# -- assaults on the ports --------------------------------------------------------------------------------------------


def test_made_up_kids_do_not_keep_honest_people_waiting(scene: Scene) -> None:
    mark = scene.load.mark()
    with unknown_kids(Visitor(scene.federation, SH), scene.credential, threads=4) as answers:
        scene.check(mark, times=4)
    assert answers
    assert not [answer for answer in answers if answer.startswith("accepted")]
    assert {answer for answer in answers if answer.startswith("rejected")} <= {"rejected KEY_UNKNOWN"}


def test_slow_callers_do_not_keep_the_other_provinces_out(scene: Scene) -> None:
    mark = scene.load.mark()
    with slow_loris(scene.federation, SH, JS, connections=90):
        scene.check(mark, times=3)
        for other in (ZJ, AH):
            stub = scene.federation.federation(SH, caller=other)
            assert stub.GetTrust(federation_pb2.GetTrustRequest(), timeout=CALL_SECONDS).state.statements
        scene.federation.settle(HONEST)


def test_one_province_cannot_have_all_streams(scene: Scene) -> None:
    mark = scene.load.mark()
    with greedy_streams(scene.federation, SH, JS, streams=60) as ended:
        wait_for(lambda: len(ended) >= 60 - ALLOWED_STREAMS, what="the gateway ending streams")
        scene.check(mark, times=2)
        scene.impostor.send(scene.forger.offer(*scene.forger.bundle()), HONEST)
        assert set(ended) <= {"OVERLOADED", "CANCELLED"}


# -- after a revocation; and two at once ------------------------------------------------------------------------------


@pytest.mark.long
def test_statements_from_before_a_revocation_bring_nothing_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    with RealFederation(tmp_path_factory.mktemp("replay") / "lab") as federation, ExitStack() as opened:
        credential = Authority(federation, JS).credential().credential
        before = Forger(federation, JS)
        Administrator(federation, JS).revoke(before.credential_key.public.kid, "stolen")
        visitors = [Visitor(federation, gateway) for gateway in HONEST]
        load = opened.enter_context(Load(federation, HONEST))
        for visitor in visitors:
            wait_for(
                lambda visitor=visitor: verdict_of(visitor.show_licence(credential))[1] == KEY_REVOKED,
                what=f"{visitor.province.code} hearing of the revocation",
            )
        federation.lab.kill(JS)
        with Impostor(federation, before, before.offer(events=[])) as impostor:
            mark = load.mark()
            # As it was, and signed anew under higher numbers, with the revoked key listed once more.
            impostor.send(before.offer(events=[]), HONEST)
            impostor.send(before.offer(*before.bundle(), before.configuration(before.ids.issuer), events=[]), HONEST)
            for visitor in visitors:
                verdict, reason, _ = verdict_of(visitor.show_licence(credential))
                assert (visitor.province, verdict, reason) == (visitor.province, "rejected", KEY_REVOKED)
            assert wrong(load.at_least(2, mark, HONEST).of(HONEST)) == ""


@pytest.mark.long
def test_two_colluding_anchors_add_no_key(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One less than the quorum. They could fall silent, and others would go stale; they cannot speak for anybody."""
    honest = (SH, AH)
    with RealFederation(tmp_path_factory.mktemp("collusion") / "lab") as federation, ExitStack() as opened:
        credential = Authority(federation, SH).credential().credential
        load = opened.enter_context(Load(federation, honest))
        load.at_least(1, 0)
        rogue: SoftwareKey = generate_key()
        victim = entity_ids(SH).issuer
        forgers = [Forger(federation, province) for province in (JS, ZJ)]
        for forger in forgers:
            federation.lab.kill(forger.province)
        impostors = [opened.enter_context(Impostor(federation, forger, forger.offer())) for forger in forgers]
        mark = load.mark()
        bundles = [forger.bundle({victim: forger.with_key(victim, rogue)}) for forger in forgers]
        everything = [token for bundle in bundles for token in bundle]
        for forger, impostor in zip(forgers, impostors, strict=True):
            impostor.send(forger.offer(*everything), honest)
        for gateway in honest:
            verdict, _, _ = verdict_of(Visitor(federation, gateway).show_licence(forged(credential, rogue)))
            assert verdict in {"rejected", "indeterminate"}
        tally = load.at_least(2, mark, [SH, AH])
        assert wrong(tally.of([SH, AH])) == ""
        assert {call.kind for call in tally.calls} == set(Kind)
