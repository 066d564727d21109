"""Status lists held ahead: fetched from peers, handed on, never rolled back (credentials.md 93-109, verifying side)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import prefetch as prefetch_module
from gateway.core.credential_status import SubjectTarget
from gateway.core.jose import SoftwareKey, sign_compact
from gateway.core.key_schedule import KeyPurpose
from gateway.core.reasons import Reason
from gateway.core.status_list import STATUS_LIST_TYPE, Status, encode, status_list_claims
from gateway.statuses import Outcome
from gateway.verifier import Acceptance, Rejection, Undecided
from tests.federation import AH, JS, SH, START, ZJ, Federation, Node, found

TTL, LIFE = timedelta(seconds=300), timedelta(hours=12)


def uri_of(node: Node) -> str:
    (uri,) = (each["uri"] for each in node.register.metadata())
    return str(uri)


def signed(
    federation: Federation, *, key: SoftwareKey | None = None, typ: str = STATUS_LIST_TYPE, **claims: Any
) -> str:
    """A list of Shanghai's, a second newer than the one it published: all valid."""
    node = federation[SH]
    held = node.statuses.current[uri_of(node)]
    made = status_list_claims(
        uri=held.uri,
        issuer=node.ids.issuer,
        seq=held.seq + 1_000,
        now=federation.clock.now,
        ttl=TTL,
        lifetime=LIFE,
        lst=encode(bytes(len(held.entries))),
    )
    return sign_compact(typ, {**made, **claims}, key or node.keys["issuer-status"])


def reason_of(federation: Federation, wallet: Any) -> Reason | None:
    verdict = federation.verify(*federation.present(wallet)).verdict
    return None if isinstance(verdict, Acceptance) else verdict.reason


def revoke(federation: Federation, status: Status = Status.REVOKED) -> None:
    federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], status)


def spread(federation: Federation) -> None:
    for province in (JS, ZJ, AH):
        federation[province].resolver.refresh()


def test_every_gateway_holds_every_list_before_anybody_presents(federation: Federation) -> None:
    for at in federation.nodes.values():
        assert set(at.statuses.current) == {uri_of(node) for node in federation.nodes.values()}


def test_nothing_is_asked_of_anybody_because_somebody_presents(federation: Federation) -> None:
    wallet = federation.issue()
    before = {peer.province: (peer.asked, len(peer.fetched)) for peer in federation[AH].peers.values()}
    for _ in range(3):
        assert reason_of(federation, wallet) is None
    revoke(federation)
    assert reason_of(federation, wallet) is None  # Anhui has not heard yet, and does not ask
    assert {peer.province: (peer.asked, len(peer.fetched)) for peer in federation[AH].peers.values()} == before


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (Status.REVOKED, Reason.CREDENTIAL_REVOKED),
        (Status.SUSPENDED, Reason.CREDENTIAL_SUSPENDED),
        (Status.ATTRIBUTES_CHANGED, Reason.ATTRIBUTES_STALE),
    ],
)
def test_a_change_is_enforced_where_the_list_arrives(federation: Federation, status: Status, reason: Reason) -> None:
    wallet = federation.issue()
    revoke(federation, status)
    spread(federation)
    assert reason_of(federation, wallet) is reason
    if status is Status.SUSPENDED:
        revoke(federation, Status.VALID)
        spread(federation)
        assert reason_of(federation, wallet) is None


def test_a_third_province_hands_a_list_on(federation: Federation) -> None:
    wallet = federation.issue()
    federation.silence(AH, [SH])
    revoke(federation)
    spread(federation)
    spread(federation)
    assert reason_of(federation, wallet) is Reason.CREDENTIAL_REVOKED


def test_an_open_stream_tells_of_a_new_list_at_once(federation: Federation) -> None:
    node = federation[SH]
    version, _ = node.resolver.wait_for_change(0, 0)
    revoke_seq = node.statuses.heads[uri_of(node)]
    federation.issue()
    revoke(federation)
    after, offer = node.resolver.wait_for_change(version, 10)
    assert after > version
    assert offer.status_lists[uri_of(node)] > revoke_seq


REFUSED: dict[str, Callable[[Federation], str]] = {
    "93 of another type": lambda f: signed(f, typ="JWT"),
    "93 signed by a credential key": lambda f: signed(f, key=f[SH].keys["issuer-credential"]),
    "93 signed by another province": lambda f: signed(f, key=f[JS].keys["issuer-status"]),
    "93 signed by a stranger": lambda f: signed(f, key=f[SH].keys["anchor-federation"]),
    "94 about another list": lambda f: signed(f, sub=uri_of(f[SH]) + "/"),
    "95 expired": lambda f: signed(f, iat=int(f.clock.now.timestamp()) - 100, exp=int(f.clock.now.timestamp())),
    "95 of a time to come": lambda f: signed(f, iat=int(f.clock.now.timestamp()) + 61),
    "95 older than the one held": lambda f: signed(f, seq=1),
    "96 to be asked for without end": lambda f: signed(f, ttl=0),
    "97 of three bits": lambda f: signed(f, status_list={"bits": 3, "lst": encode(bytes(8))}),
    "103 shorter than registered": lambda f: signed(f, status_list={"bits": 2, "lst": encode(bytes(8))}),
    "in another issuer's name": lambda f: signed(f, iss=f[JS].ids.issuer),
    "without a number": lambda f: signed(f, seq=None),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_list_is_refused_and_the_good_one_stays(
    federation: Federation, make: Callable[[Federation], str]
) -> None:
    statuses, uri = federation[AH].statuses, uri_of(federation[SH])
    before = statuses.current[uri]
    assert statuses.take(uri, make(federation), "test") is not Outcome.TAKEN
    assert statuses.current[uri] is before
    # Its neighbour, which differs in that one thing, is taken.
    assert statuses.take(uri, signed(federation), "test") is Outcome.TAKEN


def test_two_lists_of_one_number_are_not_both_taken(federation: Federation) -> None:
    statuses, uri = federation[AH].statuses, uri_of(federation[SH])
    assert statuses.take(uri, signed(federation), "test") is Outcome.TAKEN
    first = statuses.current[uri]
    other = signed(federation, seq=first.seq, status_list={"bits": 2, "lst": encode(b"\1" + bytes(2**18 - 1))})
    assert statuses.take(uri, other, "test") is Outcome.REFUSED
    assert statuses.current[uri] is first


def test_95_an_older_list_stays_refused_after_a_restart(federation: Federation) -> None:
    wallet = federation.issue()
    uri = uri_of(federation[SH])
    old = federation[SH].statuses.token(uri)
    assert old is not None
    federation.clock.advance(timedelta(seconds=1))
    revoke(federation)
    spread(federation)
    node = federation.restart(AH)
    federation.silence(AH)
    assert node.statuses.take(uri, old, "test") is Outcome.REFUSED
    assert reason_of(federation, wallet) is Reason.CREDENTIAL_REVOKED


def test_a_gateway_restarts_with_its_lists_while_every_peer_is_down(federation: Federation) -> None:
    wallet = federation.issue()
    federation.restart(AH)
    federation.silence(AH)
    assert reason_of(federation, wallet) is None


def test_106_a_list_counts_until_it_lapses_and_is_then_no_evidence(federation: Federation) -> None:
    wallet = federation.issue()
    uri = uri_of(federation[SH])
    statuses = federation[AH].statuses
    short = signed(federation, exp=int(federation.clock.now.timestamp()) + 60)
    assert statuses.take(uri, short, "test") is Outcome.TAKEN
    federation.clock.advance(timedelta(seconds=59))
    assert reason_of(federation, wallet) is None
    federation.clock.advance(timedelta(seconds=1))
    assert isinstance(federation.verify(*federation.present(wallet)).verdict, Undecided)
    assert reason_of(federation, wallet) is Reason.STATUS_UNAVAILABLE


def test_109_a_list_that_nobody_registered_is_never_fetched(federation: Federation) -> None:
    peer = federation[AH].peers[JS]
    for uri in ("http://127.0.0.1/x", "file:///etc/passwd", f"{federation[SH].ids.issuer}/status/other"):
        peer.promised[uri] = 2**50
    federation[AH].resolver.refresh()
    assert not set(peer.fetched) & set(peer.promised)


def test_who_promises_more_than_it_has_is_not_asked_again_and_again(federation: Federation) -> None:
    uri = uri_of(federation[SH])
    peer = federation[AH].peers[JS]
    before = peer.fetched.count(uri)
    peer.promised[uri] = federation[AH].statuses.heads[uri] + 10
    for _ in range(5):
        federation[AH].resolver.refresh()
    assert peer.fetched.count(uri) - before == 1


def test_lists_of_a_key_that_was_stolen_are_no_evidence_any_more(federation: Federation) -> None:
    wallet = federation.issue()
    stolen = federation[SH].keys["issuer-status"].public.kid
    federation.revoke(SH, stolen, purpose=KeyPurpose.STATUS)
    federation.settle()
    assert isinstance(federation.verify(*federation.present(wallet)).verdict, Undecided | Rejection)
    assert reason_of(federation, wallet) is Reason.STATUS_UNAVAILABLE


# -- sunsets ----------------------------------------------------------------------------------------------------------

SUNSET = START + timedelta(hours=2)


def ending(claims: dict[str, Any]) -> None:
    """Let ES256, by which Shanghai signs its lists, end."""
    for terms in claims["agreement"]["issuers"]:
        if "sh" in terms["entity_id"]:
            rest = [each for each in terms["algorithms"] if each["name"] != "ES256"]
            terms["algorithms"] = [*rest, {"name": "ES256", "sunset": int(SUNSET.timestamp())}]


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Federation]:
    federation = Federation(tmp_path, founding=found(ending))
    yield federation
    federation.close()


def test_a_list_whose_algorithm_has_had_its_sunset_is_neither_taken_nor_used(ended: Federation) -> None:
    statuses, uri = ended[AH].statuses, uri_of(ended[SH])
    ended.clock.now = SUNSET - timedelta(seconds=1)
    ended.settle()
    in_time, late = signed(ended), signed(ended, seq=ended[SH].statuses.current[uri].seq + 2_000)
    assert statuses.take(uri, in_time, "test") is Outcome.TAKEN
    statuses.renew()
    assert uri in statuses.current
    ended.clock.now = SUNSET
    assert statuses.take(uri, late, "test") is Outcome.REFUSED
    statuses.renew()
    assert uri not in statuses.current
    assert uri_of(ended[JS]) in statuses.current


# -- asking again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_down", [False, True], ids=["refused", "not reached"])
def test_what_was_refused_is_asked_for_again_when_the_view_has_changed(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, *, is_down: bool
) -> None:
    """A peer that does not answer is another matter: no view changes that."""
    for name in ("RETRY_SECONDS", "REFUSED_SECONDS", "MAX_PAUSE_SECONDS"):
        monkeypatch.setattr(prefetch_module, name, 3_600.0)
    uri, node = uri_of(federation[SH]), federation[AH]
    resolver, peer = node.resolver, node.peers[JS]
    peer.promised[uri] = node.statuses.heads[uri] + 10_000_000
    peer.lists[uri] = signed(federation, key=federation[JS].keys["issuer-status"])
    peer.lists_down = is_down
    prefetch = resolver._prefetches[JS]
    asked: list[int] = []

    def fetch() -> None:
        prefetch.fetch()
        asked.append(peer.fetched.count(uri))

    def change_view() -> None:
        fetch()
        before = resolver.view.view_id
        federation.revoke(ZJ, federation.keys[ZJ]["issuer-credential"].public.kid)
        federation.settle()
        assert resolver.view.view_id != before

    def end() -> None:
        fetch()
        resolver._stop.set()

    resolver.refresh()
    between = iter([fetch, fetch, change_view, end])

    def wait(version: int, _timeout: float) -> tuple[int, None]:
        next(between)()
        return version + 1, None

    monkeypatch.setattr(resolver, "wait_for_change", wait)
    resolver._renew_statuses()  # its first round knows no view before
    first = asked[0]
    assert asked == ([first] * 4 if is_down else [first, first + 1, first + 1, first + 2])
