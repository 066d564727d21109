"""The keys of a gateway, for receipts and for checkpoints: counted exactly like those of an issuer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from gateway.core import acknowledgement
from gateway.core.charter import GATEWAY_TYPE, ISSUER_TYPE
from gateway.core.jose import SoftwareKey, generate_key, sign_compact
from gateway.core.publication import AUDIT_JWKS, JWKS, KEY_PROOFS, RECEIPT_JWKS, STATUS_JWKS, key_proof
from gateway.core.reasons import Reason
from gateway.core.trust import TrustedKey, TrustView, diff_summaries, view_summary
from gateway.core.vouching import Approval, Vouching, enrol, vouch
from tests.core.papers import (
    ANCHORS,
    GATEWAY,
    HOUR,
    MINUTE,
    NOW,
    SHANGHAI,
    START,
    Papers,
    compromised,
    jwks_of,
    key_of,
    nothing,
    reason_of,
    superseded,
)

LOOK_UP: Mapping[str, Callable[[TrustView, str, str, Any], TrustedKey]] = {
    RECEIPT_JWKS: TrustView.receipt_key,
    AUDIT_JWKS: TrustView.audit_key,
}
LOOK_UP_SET: Mapping[str, Callable[[TrustView], Mapping[str, TrustedKey]]] = {
    RECEIPT_JWKS: lambda view: view.gateway(GATEWAY).receipt_keys,
    AUDIT_JWKS: lambda view: view.gateway(GATEWAY).audit_keys,
}
each_purpose = pytest.mark.parametrize("name", LOOK_UP)


@pytest.fixture
def papers() -> Papers:
    return Papers()


def listing(entity_type: str, name: str, *keys: SoftwareKey) -> Callable[[dict[str, Any]], None]:
    """List keys under a metadata parameter, in the place of those that are there."""

    def change(claims: dict[str, Any]) -> None:
        claims.setdefault("metadata", {}).setdefault(entity_type, {})[name] = jwks_of(keys)

    return change


def attest(
    papers: Papers, name: str, keys: Sequence[SoftwareKey], anchors: Sequence[str], *, entity_type: str = GATEWAY_TYPE
) -> None:
    """Have the gateway list keys, and these anchors pin them."""
    change = listing(entity_type, name, *keys)
    papers.documents[GATEWAY, GATEWAY] = papers.configuration(GATEWAY, change=change)
    for anchor in anchors:
        papers.say(anchor, GATEWAY, change=change)


def key_for(papers: Papers, name: str) -> SoftwareKey:
    return papers.gateway_keys[GATEWAY][name][0]


def other(name: str) -> str:
    return AUDIT_JWKS if name == RECEIPT_JWKS else RECEIPT_JWKS


@each_purpose
def test_a_key_that_all_anchors_attest_is_usable_for_its_purpose_and_no_other(papers: Papers, name: str) -> None:
    view, kid = papers.view(), key_for(papers, name).public.kid
    trusted = LOOK_UP[name](view, GATEWAY, kid, NOW)
    assert trusted.key.kid == kid
    assert set(trusted.anchors) == set(ANCHORS)
    assert kid not in LOOK_UP_SET[other(name)](view)
    assert view.problems == ()


@each_purpose
@pytest.mark.parametrize(("anchors", "usable"), [(2, False), (3, True), (4, True)])
def test_a_key_needs_a_quorum_of_distinct_anchors(papers: Papers, name: str, anchors: int, usable: bool) -> None:
    fresh = generate_key()
    attest(papers, name, [key_for(papers, name), fresh], ANCHORS[:anchors])
    view = papers.view()
    if usable:
        assert len(LOOK_UP[name](view, GATEWAY, fresh.public.kid, NOW).anchors) == anchors
    else:
        assert reason_of(lambda: LOOK_UP[name](view, GATEWAY, fresh.public.kid, NOW)) is Reason.KEY_UNKNOWN
    old = key_for(papers, name).public.kid
    assert LOOK_UP[name](view, GATEWAY, old, NOW).key.kid == old


@each_purpose
def test_a_key_that_the_gateway_lists_no_more_is_not_trusted(papers: Papers, name: str) -> None:
    fresh = generate_key()
    papers.documents[GATEWAY, GATEWAY] = papers.configuration(GATEWAY, change=listing(GATEWAY_TYPE, name, fresh))
    assert LOOK_UP_SET[name](papers.view()) == {}


@each_purpose
def test_a_key_revoked_as_compromised_is_refused_whatever_the_state_of_the_documents(papers: Papers, name: str) -> None:
    kid = key_for(papers, name).public.kid
    view = papers.view(revocations={(GATEWAY, kid): compromised()})
    assert LOOK_UP_SET[name](view) == {}
    assert reason_of(lambda: LOOK_UP[name](view, GATEWAY, kid, NOW)) is Reason.KEY_REVOKED
    assert reason_of(lambda: LOOK_UP[name](view, GATEWAY, kid, NOW + 9 * HOUR)) is Reason.KEY_REVOKED
    assert view.gateway(GATEWAY).revocations == {kid: compromised()}


@each_purpose
def test_a_key_that_was_superseded_counts_for_what_it_signed_before(papers: Papers, name: str) -> None:
    kid = key_for(papers, name).public.kid
    view = papers.view(revocations={(GATEWAY, kid): superseded()})
    assert LOOK_UP[name](view, GATEWAY, kid, NOW).signed_before == NOW


@each_purpose
def test_a_key_that_an_issuer_has_too_serves_neither(papers: Papers, name: str) -> None:
    shared = papers.credential_keys[SHANGHAI][0]
    attest(papers, name, [key_for(papers, name), shared], ANCHORS)
    view = papers.view()
    assert shared.public.kid not in LOOK_UP_SET[name](view)
    assert shared.public.kid not in view.issuer(SHANGHAI).keys
    assert key_for(papers, name).public.kid in LOOK_UP_SET[name](view)


@each_purpose
def test_a_key_for_both_purposes_serves_neither(papers: Papers, name: str) -> None:
    attest(papers, name, [key_for(papers, other(name))], ANCHORS)
    view = papers.view()
    assert view.gateway(GATEWAY).receipt_keys == {}
    assert view.gateway(GATEWAY).audit_keys == {}


@each_purpose
def test_a_federation_key_signs_neither_receipts_nor_checkpoints(papers: Papers, name: str) -> None:
    federation = papers.federation_keys[GATEWAY]
    attest(papers, name, [key_for(papers, name), federation], ANCHORS)
    assert LOOK_UP_SET[name](papers.view()).keys() == {key_for(papers, name).public.kid}


@each_purpose
def test_an_anchors_key_signs_neither_receipts_nor_checkpoints(papers: Papers, name: str) -> None:
    anchors = papers.anchor_keys[ANCHORS[0]]
    attest(papers, name, [key_for(papers, name), anchors], ANCHORS)
    assert LOOK_UP_SET[name](papers.view()).keys() == {key_for(papers, name).public.kid}


@each_purpose
def test_a_member_that_is_no_gateway_has_no_such_keys(papers: Papers, name: str) -> None:
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    assert reason_of(lambda: LOOK_UP[name](papers.view(), SHANGHAI, kid, NOW)) is Reason.ISSUER_UNKNOWN
    assert reason_of(lambda: LOOK_UP[name](papers.view(), "https://x.example", kid, NOW)) is Reason.ISSUER_UNKNOWN


@each_purpose
@pytest.mark.parametrize(("later", "served"), [(10 * MINUTE + HOUR, False), (10 * MINUTE, True)])
def test_stale_documents_decide_nothing(papers: Papers, name: str, later: Any, served: bool) -> None:
    view, kid = papers.view(), key_for(papers, name).public.kid
    if served:
        assert LOOK_UP[name](view, GATEWAY, kid, NOW + later).fresh_until <= NOW + later
    else:
        assert reason_of(lambda: LOOK_UP[name](view, GATEWAY, kid, NOW + later)) is Reason.TRUST_STALE
    stranger = generate_key().public.kid
    assert reason_of(lambda: LOOK_UP[name](view, GATEWAY, stranger, NOW + later)) is Reason.TRUST_STALE


# -- under the wrong entity type --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [JWKS, STATUS_JWKS])
def test_a_gateway_has_no_keys_of_an_issuer(papers: Papers, name: str) -> None:
    key = key_of("a credential key of a gateway")
    for entity_type in (ISSUER_TYPE, GATEWAY_TYPE):
        attest(papers, name, [key], ANCHORS, entity_type=entity_type)
        view = papers.view()
        assert GATEWAY not in view.issuers
        assert all(key.public.kid not in vote.pinned for vote in view.gateway(GATEWAY).votes)


@each_purpose
def test_an_issuer_has_no_keys_of_a_gateway(papers: Papers, name: str) -> None:
    key = key_of("a receipt key of an issuer")
    for entity_type in (ISSUER_TYPE, GATEWAY_TYPE):
        change = listing(entity_type, name, key)
        papers.documents[SHANGHAI, SHANGHAI] = papers.configuration(SHANGHAI, change=change)
        for anchor in ANCHORS:
            papers.say(anchor, SHANGHAI, change=change)
        view = papers.view()
        assert SHANGHAI not in view.gateways
        assert len(view.issuer(SHANGHAI).votes) == len(ANCHORS)
        assert all(key.public.kid not in vote.pinned for vote in view.issuer(SHANGHAI).votes)
        assert all(vote.receipt_keys == vote.audit_keys == {} for vote in view.issuer(SHANGHAI).votes)


@each_purpose
def test_an_issuer_cannot_take_a_gateways_key_away_by_listing_it_as_a_gateway(papers: Papers, name: str) -> None:
    gateways = key_for(papers, name)
    change = listing(GATEWAY_TYPE, name, gateways)
    papers.documents[SHANGHAI, SHANGHAI] = papers.configuration(SHANGHAI, change=change)
    for anchor in ANCHORS:
        papers.say(anchor, SHANGHAI, change=change)
    assert gateways.public.kid in LOOK_UP_SET[name](papers.view())


# -- what an anchor attests -------------------------------------------------------------------------------------------


def vouched(
    papers: Papers, member: str, change: Callable[[dict[str, Any]], None], *, approve: Approval = Approval.AUTO
) -> Vouching:
    return vouch(
        anchor_id=ANCHORS[0],
        charter=papers.charter,
        configuration=papers.configuration(member, change=change),
        record=enrol(None, papers.federation_keys[member].public.thumbprint),
        taken_keys=frozenset(),
        seq=START + 7,
        approve=approve,
        now=NOW,
    )


def proven(
    name: str, key: SoftwareKey, *, by: str, entity_type: str = GATEWAY_TYPE
) -> Callable[[dict[str, Any]], None]:
    def change(claims: dict[str, Any]) -> None:
        parameters = claims["metadata"].setdefault(entity_type, {})
        parameters[name] = jwks_of([key])
        parameters.setdefault(KEY_PROOFS, {})[key.public.kid] = key_proof(by, key)

    return change


def pinned(vouching: Vouching, entity_type: str = GATEWAY_TYPE) -> dict[str, set[str]]:
    assert vouching.claims is not None
    parameters = vouching.claims.get("metadata", {}).get(entity_type, {})
    return {name: {jwk["kid"] for jwk in jwks["keys"]} for name, jwks in parameters.items()}


def test_an_anchor_pins_the_keys_of_a_gateway(papers: Papers) -> None:
    vouching = vouched(papers, GATEWAY, nothing)
    kids = {name: {key_for(papers, name).public.kid} for name in LOOK_UP}
    assert pinned(vouching) == kids
    assert vouching.record.credential_keys == frozenset().union(*kids.values())


@each_purpose
def test_possession_of_a_gateways_key_has_to_be_proven(papers: Papers, name: str) -> None:
    key = key_of("a gateway's next key")
    assert pinned(vouched(papers, GATEWAY, proven(name, key, by=GATEWAY)))[name] == {key.public.kid}
    for change in (proven(name, key, by=SHANGHAI), listing(GATEWAY_TYPE, name, key)):
        assert reason_of(partial(vouched, papers, GATEWAY, change)) is Reason.KEY_NOT_ACCEPTABLE


def test_a_gateways_keys_wait_for_a_person_where_one_approves(papers: Papers) -> None:
    vouching = vouched(papers, GATEWAY, nothing, approve=Approval.MANUAL)
    assert pinned(vouching) == {}
    assert vouching.claims is not None
    assert vouching.claims["metadata_policy"][GATEWAY_TYPE] == {name: {"value": None} for name in LOOK_UP}
    assert vouching.record.pending is not None
    assert vouching.record.pending.credential_keys == {key_for(papers, name).public.thumbprint for name in LOOK_UP}


@pytest.mark.parametrize(
    ("member", "entity_type", "name"),
    [
        (GATEWAY, GATEWAY_TYPE, STATUS_JWKS),
        (GATEWAY, ISSUER_TYPE, STATUS_JWKS),
        (GATEWAY, ISSUER_TYPE, RECEIPT_JWKS),
        (SHANGHAI, ISSUER_TYPE, RECEIPT_JWKS),
        (SHANGHAI, GATEWAY_TYPE, RECEIPT_JWKS),
        (SHANGHAI, GATEWAY_TYPE, STATUS_JWKS),
    ],
)
def test_an_anchor_attests_no_key_in_the_wrong_place(papers: Papers, member: str, entity_type: str, name: str) -> None:
    key = key_of("a key in the wrong place")
    vouching = vouched(papers, member, proven(name, key, by=member, entity_type=entity_type))
    assert name not in pinned(vouching, entity_type)
    assert key.public.thumbprint not in vouching.record.credential_keys


# -- said to others, and looked back on -------------------------------------------------------------------------------


def test_an_acknowledgement_names_the_gateways_keys(papers: Papers) -> None:
    view = papers.view()
    kids = {key_for(papers, name).public.kid for name in LOOK_UP}
    claims = acknowledgement.make(view, GATEWAY, NOW)
    token = sign_compact(acknowledgement.ACKNOWLEDGEMENT_TYPE, claims, papers.federation_keys[GATEWAY])
    assert acknowledgement.read(token, view, NOW).keys[GATEWAY] == kids
    late = NOW + 2 * HOUR
    assert acknowledgement.make(view, GATEWAY, late)["keys"][GATEWAY] == []


def test_an_acknowledgement_names_no_key_of_a_gateway_that_is_refused(papers: Papers) -> None:
    lost, kept = (key_for(papers, name).public.kid for name in LOOK_UP)
    view = papers.view(revocations={(GATEWAY, lost): compromised()})
    claims = acknowledgement.make(view, GATEWAY, NOW)
    assert claims["keys"][GATEWAY] == [kept]
    assert claims["refused"] == {GATEWAY: [lost]}


@each_purpose
def test_a_summary_names_the_gateways_keys_and_one_without_them_is_still_read(papers: Papers, name: str) -> None:
    kid = key_for(papers, name).public.kid
    after = view_summary(papers.view())
    older = json.loads(after)
    del older["gateways"]
    found = {each.name: each for each in diff_summaries(json.dumps(older), after)}
    assert (found[kid].issuer, found[kid].subject) == (GATEWAY, name.replace("_jwks", "_keys"))
    assert (found[kid].before, found[kid].after) == ("", " ".join(sorted(ANCHORS)))
    assert all(each.issuer in papers.gateway_keys for each in found.values())
    assert diff_summaries(json.dumps(older), json.dumps(older)) == ()
