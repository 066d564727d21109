"""A new charter in a running federation: installed at one province, followed by all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.charter import (
    Charter,
    add_signature,
    draft,
    parse_charter,
    unsigned,
)
from gateway.core.identifiers import Province
from gateway.core.jose import generate_key
from gateway.core.reasons import Reason
from gateway.lab.charter import entity_ids
from gateway.verifier import Acceptance, Answer, Rejection
from tests.federation import AH, JS, SH, ZJ, Federation, MemoryKeyStore

Claims = dict[str, Any]
MONTH = timedelta(days=30)


class Ceremony:
    """The provinces' offline half: drafts and signs charters, and installs them at one province."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.newest: Charter = federation.charter
        self.anchor_keys = {each: federation.keys[each]["anchor-federation"] for each in Province}

    def agree(
        self,
        change: Callable[[Claims], None] = lambda _claims: None,
        *,
        signers: Iterable[Province] = Province,
        lifetime: timedelta = MONTH,
    ) -> Charter:
        """Come to the next charter."""
        claims: Claims = json.loads(parse_charter(self.newest.document).signed.decoded)
        now = int(self.federation.clock.now.timestamp())
        claims |= {"version": self.newest.version + 1, "prev_sha256": self.newest.sha256}
        claims |= {"iat": now, "exp": now + int(lifetime.total_seconds())}
        change(claims)
        document = unsigned(draft(claims))
        for each in signers:
            document = add_signature(document, self.anchor_keys[each], previous=self.newest)
        self.newest = parse_charter(document).unverified
        return self.newest

    def install(self, charter: Charter, at: Province = SH) -> None:
        """What ``mrg charter install`` does to the store of a gateway that runs."""
        self.federation[at].store.save_charter(charter.version, charter.document)


def without_anchor(province: Province, quorum: int) -> Callable[[Claims], None]:
    def change(claims: Claims) -> None:
        claims["anchors"] = [each for each in claims["anchors"] if each["province"] != province.code]
        claims["quorum"] = quorum

    return change


def with_anchor(province: Province, jwk: Any, quorum: int) -> Callable[[Claims], None]:
    def change(claims: Claims) -> None:
        without_anchor(province, quorum)(claims)
        entry = {"entity_id": entity_ids(province).anchor, "province": province.code, "jwks": {"keys": [dict(jwk)]}}
        claims["anchors"].append(entry)

    return change


def versions(federation: Federation) -> set[int]:
    return {node.resolver.view.charter.version for node in federation.nodes.values()}


def attesting(federation: Federation, issuing: Province, at: Province) -> set[str]:
    """The anchors whose word counts for an issuer's keys."""
    issuer = federation[at].resolver.view.issuers[entity_ids(issuing).issuer]
    return {anchor for key in issuer.keys.values() for anchor in key.anchors}


def anchors(*provinces: Province) -> set[str]:
    return {entity_ids(each).anchor for each in provinces}


def shown(federation: Federation, issuing: Province = SH, at: Province = AH) -> Answer:
    return federation.verify(*federation.present(federation.issue(issuing), at=at), at=at)


def cut_off(federation: Federation, province: Province, *, down: bool = True) -> None:
    """Take a province off the network, both ways."""
    for peer in federation[province].peers.values():
        peer.down = down
    for other in Province:
        if other is not province:
            federation[other].peers[province].down = down


def test_a_charter_installed_at_one_province_reaches_all(federation: Federation) -> None:
    ceremony = Ceremony(federation)
    ceremony.install(ceremony.agree())
    federation.settle()
    assert versions(federation) == {2}
    assert isinstance(shown(federation).verdict, Acceptance)


def test_what_was_installed_is_in_force_after_a_restart(federation: Federation) -> None:
    ceremony = Ceremony(federation)
    ceremony.install(ceremony.agree())
    assert federation.restart(SH).resolver.view.charter.version == 2


def test_what_somebody_put_into_the_store_without_a_quorum_is_not_followed(federation: Federation) -> None:
    ceremony = Ceremony(federation)
    ceremony.install(ceremony.agree(signers=[SH, JS]))
    federation.settle()
    assert versions(federation) == {1}


def test_a_gateway_offline_across_three_versions_catches_up(federation: Federation) -> None:
    ceremony = Ceremony(federation)
    cut_off(federation, ZJ)
    for lifetime in (timedelta(days=1), timedelta(days=1), MONTH):
        ceremony.install(ceremony.agree(signers=[SH, JS, AH], lifetime=lifetime))
        federation.settle()
        federation.clock.advance(timedelta(hours=20))
    assert versions(federation) == {1, 4}
    # Version 2 expired on the way, and version 1 lives: only the last has to be good.
    cut_off(federation, ZJ, down=False)
    federation[ZJ].resolver.refresh()
    assert federation[ZJ].resolver.view.charter.version == 4
    federation.settle()
    for issuing, at in ((ZJ, AH), (AH, ZJ)):
        assert isinstance(shown(federation, issuing, at).verdict, Acceptance)


def test_the_votes_of_a_removed_anchor_stop_and_its_members_keys_stay_usable(federation: Federation) -> None:
    assert attesting(federation, AH, SH) == anchors(*Province)
    ceremony = Ceremony(federation)
    ceremony.install(ceremony.agree(without_anchor(AH, quorum=2)))
    federation.settle()
    for at in Province:
        assert attesting(federation, AH, at) == anchors(SH, JS, ZJ)
    assert isinstance(shown(federation, AH, SH).verdict, Acceptance)


def test_an_added_anchor_begins_to_vouch_and_counts(federation: Federation) -> None:
    ceremony = Ceremony(federation)
    ceremony.install(ceremony.agree(without_anchor(AH, quorum=2)))
    federation.settle()
    jwk = ceremony.anchor_keys[AH].public.jwk
    ceremony.install(ceremony.agree(with_anchor(AH, jwk, quorum=3)))
    federation.settle()
    federation.settle()
    for at in Province:
        assert attesting(federation, SH, at) == anchors(*Province)
    # It is needed now: three of four, and one of the others is gone for good.
    cut_off(federation, ZJ)
    federation.clock.advance(timedelta(hours=3))
    federation.settle()
    assert attesting(federation, SH, AH) >= anchors(SH, JS, AH)
    assert isinstance(shown(federation, SH, AH).verdict, Acceptance)


def test_a_lost_anchor_is_replaced_without_it(federation: Federation) -> None:
    ceremony = Ceremony(federation)
    cut_off(federation, ZJ)
    new = generate_key()
    ceremony.install(ceremony.agree(with_anchor(ZJ, new.public.jwk, quorum=3), signers=[SH, JS, AH]))
    federation.settle()
    assert attesting(federation, SH, AH) == anchors(SH, JS, AH)
    assert isinstance(shown(federation, SH, AH).verdict, Acceptance)
    # The province is back, on a new machine with a new key: it follows, and its word counts again.
    federation[ZJ].close()
    for file in federation.directory.glob(f"{ZJ.code}.sqlite*"):
        file.unlink()
    federation.key_stores[ZJ] = MemoryKeyStore({**federation.keys[ZJ], "anchor-federation": new})
    federation.nodes[ZJ] = federation.build(ZJ)
    cut_off(federation, ZJ, down=False)
    federation.settle()
    federation.settle()
    assert versions(federation) == {2}
    assert attesting(federation, SH, AH) == anchors(*Province)


def test_a_removed_member_is_refused_at_once(federation: Federation) -> None:
    gone = entity_ids(SH).issuer

    def change(claims: Claims) -> None:
        claims["members"] = [each for each in claims["members"] if each["entity_id"] != gone]
        terms = [each for each in claims["agreement"]["issuers"] if each["entity_id"] != gone]
        claims["agreement"] = {**claims["agreement"], "issuers": terms}

    ceremony = Ceremony(federation)
    wallet = federation.issue(SH)
    assert isinstance(federation.verify(*federation.present(wallet)).verdict, Acceptance)
    ceremony.install(ceremony.agree(change), at=AH)
    federation[AH].resolver.refresh()
    answer = federation.verify(*federation.present(wallet))
    assert answer.verdict == Rejection(reason=Reason.ISSUER_UNKNOWN)
    assert isinstance(shown(federation, JS).verdict, Acceptance)


def test_a_stored_charter_that_does_not_follow_does_not_keep_the_gateway_from_starting(
    federation: Federation, capfd: pytest.CaptureFixture[str]
) -> None:
    forged = Ceremony(federation).agree(signers=(SH,))  # not a quorum
    federation[AH].store.save_charter(forged.version, forged.document)
    assert federation.restart(AH).resolver.view.charter == federation.charter
    assert "charter_skipped" in capfd.readouterr().err
