"""Counting: per key, per anchor, per issuer, and never from what a document says about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.charter import GATEWAY_TYPE, ISSUER_TYPE
from gateway.core.jose import Algorithm, generate_key, sign_compact
from gateway.core.memory import Equivocation, TrustMemory, Withdrawal
from gateway.core.publication import STATUS_JWKS
from gateway.core.reasons import Reason
from gateway.core.snapshot import Entry, Suspended, Vouched, Withdrawn
from gateway.core.statements import TYP
from gateway.core.trust import diff_summaries, view_summary
from gateway.core.votes import Reader
from gateway.lab.charter import RESIDENT_ID
from tests.core.papers import (
    ANCHORS,
    GATEWAY,
    HOUR,
    JIANGSU,
    MINUTE,
    NOW,
    SECOND,
    SHANGHAI,
    Papers,
    claims_of,
    compromised,
    key_of,
    reason_of,
    superseded,
)


@pytest.fixture
def papers() -> Papers:
    return Papers()


def kid_of(papers: Papers, issuer: str = SHANGHAI) -> str:
    return papers.credential_keys[issuer][0].public.kid


def test_a_key_that_all_anchors_attest_is_usable(papers: Papers) -> None:
    key = papers.credential_keys[SHANGHAI][0].public
    trusted = papers.view().credential_key(SHANGHAI, key.kid, NOW)
    assert trusted.key.thumbprint == key.thumbprint
    assert set(trusted.anchors) == set(ANCHORS)
    assert trusted.signed_before is None
    assert papers.view().issuer(SHANGHAI).credential_types == {RESIDENT_ID}
    assert papers.view().problems == ()
    assert papers.view().alarms == ()


@pytest.mark.parametrize(("anchors", "usable"), [(2, False), (3, True), (4, True)])
def test_case_118_a_key_needs_a_quorum_of_distinct_anchors(papers: Papers, anchors: int, usable: bool) -> None:
    fresh = generate_key()
    papers.attest(SHANGHAI, [*papers.credential_keys[SHANGHAI], fresh], ANCHORS[:anchors])
    view = papers.view()
    if usable:
        assert len(view.credential_key(SHANGHAI, fresh.public.kid, NOW).anchors) == anchors
    else:
        assert reason_of(lambda: view.credential_key(SHANGHAI, fresh.public.kid, NOW)) is Reason.KEY_UNKNOWN


def test_the_old_key_stays_usable_while_a_new_one_gathers_its_quorum(papers: Papers) -> None:
    old, fresh = papers.credential_keys[SHANGHAI][0], generate_key()
    papers.attest(SHANGHAI, [old, fresh], ANCHORS[:2])
    assert papers.view().credential_key(SHANGHAI, old.public.kid, NOW).key.kid == old.public.kid


def test_a_key_listed_only_by_its_issuer_is_not_trusted(papers: Papers) -> None:
    fresh = generate_key()
    papers.attest(SHANGHAI, [*papers.credential_keys[SHANGHAI], fresh], [])
    assert reason_of(lambda: papers.view().credential_key(SHANGHAI, fresh.public.kid, NOW)) is Reason.KEY_UNKNOWN


def test_trap_1_a_key_of_one_issuer_never_vouches_for_another(papers: Papers) -> None:
    kid = kid_of(papers, JIANGSU)
    view = papers.view()
    assert view.credential_key(JIANGSU, kid, NOW).key.kid == kid
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid, NOW)) is Reason.KEY_UNKNOWN


def test_an_issuer_outside_the_charter_is_unknown(papers: Papers) -> None:
    stranger, kid = "https://issuer.gd.mrg.example", kid_of(papers)
    assert reason_of(lambda: papers.view().credential_key(stranger, kid, NOW)) is Reason.ISSUER_UNKNOWN


def test_case_63_trap_2_anchor_keys_never_come_from_a_fetched_document(papers: Papers) -> None:
    thief = generate_key()
    for anchor in ANCHORS:
        papers.documents[anchor, SHANGHAI] = papers.statement(anchor, SHANGHAI, signer=thief)
        papers.seal(anchor, key=thief)
    view = papers.view()
    assert view.issuer(SHANGHAI).keys == {}
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers), NOW)) is Reason.TRUST_STALE


def test_case_119_trap_10_one_anchor_under_several_names_of_place_has_one_vote(papers: Papers) -> None:
    fresh = generate_key()
    keys = [*papers.credential_keys[SHANGHAI], fresh]
    papers.attest(SHANGHAI, keys, ANCHORS[:2])
    # The same anchor's word once more, under another anchor's place.
    papers.documents[ANCHORS[2], SHANGHAI] = papers.statement(ANCHORS[0], SHANGHAI, keys=keys)
    papers.documents[ANCHORS[3], SHANGHAI] = papers.statement(ANCHORS[1], SHANGHAI, keys=keys)
    papers.seal(*ANCHORS)
    view = papers.view()
    assert fresh.public.kid not in view.issuer(SHANGHAI).keys
    assert len(view.issuer(SHANGHAI).votes) == 2


def test_case_35_a_key_that_two_issuers_register_serves_neither(papers: Papers) -> None:
    shared = papers.credential_keys[SHANGHAI][0]
    papers.attest(JIANGSU, [*papers.credential_keys[JIANGSU], shared], ANCHORS)
    view = papers.view()
    assert shared.public.kid not in view.issuer(SHANGHAI).keys
    assert shared.public.kid not in view.issuer(JIANGSU).keys
    assert kid_of(papers, JIANGSU) in view.issuer(JIANGSU).keys


def test_a_federation_key_signs_no_credentials(papers: Papers) -> None:
    federation = papers.federation_keys[SHANGHAI]
    papers.attest(SHANGHAI, [*papers.credential_keys[SHANGHAI], federation], ANCHORS)
    assert federation.public.kid not in papers.view().issuer(SHANGHAI).keys


def test_one_broken_chain_costs_one_vote_and_is_reported(papers: Papers) -> None:
    papers.say(ANCHORS[0], SHANGHAI, change=lambda claims: claims["constraints"].update(max_path_length=-1))
    view, kid = papers.view(), kid_of(papers)
    assert len(view.issuer(SHANGHAI).votes) == 3
    assert view.credential_key(SHANGHAI, kid, NOW).key.kid == kid
    assert any(problem.issuer == ANCHORS[0] for problem in view.problems)


def test_case_81_a_type_the_anchors_do_not_allow_grants_nothing(papers: Papers) -> None:
    def only_gateway(claims: dict[str, Any]) -> None:
        claims["constraints"]["allowed_entity_types"] = [GATEWAY_TYPE]

    for anchor in ANCHORS:
        papers.say(anchor, SHANGHAI, change=only_gateway)
    view = papers.view()
    assert view.issuer(SHANGHAI).credential_types == frozenset()
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers), NOW)) is Reason.KEY_UNKNOWN


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "outcome"),
    [
        (10 * MINUTE - SECOND, "fresh"),
        (10 * MINUTE, "stale"),
        (10 * MINUTE + HOUR - SECOND, "stale"),
        (10 * MINUTE + HOUR, "indeterminate"),
    ],
)
def test_case_129_fresh_then_stale_then_indeterminate_never_unknown(
    papers: Papers, later: timedelta, outcome: str
) -> None:
    view, at = papers.view(), NOW + later
    if outcome == "indeterminate":
        assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers), at)) is Reason.TRUST_STALE
    else:
        assert (at < view.credential_key(SHANGHAI, kid_of(papers), at).fresh_until) is (outcome == "fresh")


@pytest.mark.parametrize("later", [10 * MINUTE, HOUR, 2 * HOUR])
def test_case_129_trap_4_stale_documents_never_say_that_a_key_is_unknown(papers: Papers, later: timedelta) -> None:
    stranger = generate_key().public.kid
    assert reason_of(lambda: papers.view().credential_key(SHANGHAI, stranger, NOW + later)) is Reason.TRUST_STALE
    rebuilt = papers.view(NOW + later)
    assert reason_of(lambda: rebuilt.credential_key(SHANGHAI, stranger, NOW + later)) is Reason.TRUST_STALE


def test_a_view_rebuilt_in_the_grace_still_holds_the_keys(papers: Papers) -> None:
    at = NOW + 30 * MINUTE
    trusted = papers.view(at).credential_key(SHANGHAI, kid_of(papers), at)
    assert trusted.fresh_until == NOW + 10 * MINUTE


def test_freshness_is_that_of_the_quorum_not_of_the_luckiest_anchor(papers: Papers) -> None:
    later = NOW + 5 * MINUTE
    papers.seal(*ANCHORS[:2], at=later)
    fresh_until = papers.view(later).credential_key(SHANGHAI, kid_of(papers), later).fresh_until
    assert fresh_until == NOW + 10 * MINUTE


@pytest.mark.parametrize(("silent", "reason"), [(3, Reason.TRUST_STALE), (2, Reason.KEY_UNKNOWN)])
def test_an_unknown_kid_is_indeterminate_while_silent_anchors_could_make_its_quorum(
    papers: Papers, silent: int, reason: Reason
) -> None:
    stranger = generate_key().public.kid
    for anchor in ANCHORS[:silent]:
        del papers.documents[anchor, anchor]
    assert reason_of(lambda: papers.view().credential_key(SHANGHAI, stranger, NOW)) is reason


def test_trap_28_with_no_anchor_at_all_nothing_is_dropped_in_silence(papers: Papers) -> None:
    for anchor in ANCHORS:
        del papers.documents[anchor, anchor]
    view = papers.view()
    assert SHANGHAI in view.issuers
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers), NOW)) is Reason.TRUST_STALE
    assert len(view.problems) == len(papers.federation_keys) * len(ANCHORS)


def test_case_53_an_expired_charter_decides_nothing(papers: Papers) -> None:
    view, at = papers.view(), papers.charter.expires_at
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers), at)) is Reason.TRUST_STALE


@pytest.mark.parametrize(("behind", "refused"), [(60 * SECOND, False), (61 * SECOND, True)])
def test_case_130_a_clock_below_the_floor_decides_nothing(papers: Papers, behind: timedelta, refused: bool) -> None:
    view = papers.view(clock_floor=NOW + behind)
    for look_up in (lambda: view.credential_key(SHANGHAI, kid_of(papers), NOW), lambda: view.require_clock(NOW)):
        if refused:
            assert reason_of(look_up) is Reason.CLOCK_REGRESSED
        else:
            look_up()


# -- snapshots --------------------------------------------------------------------------------------------------------


def test_case_67_128_a_statement_that_the_snapshot_does_not_name_is_nobodys_word(papers: Papers) -> None:
    fresh = generate_key()
    keys = [*papers.credential_keys[SHANGHAI], fresh]
    papers.attest(SHANGHAI, keys, ANCHORS[:2])
    papers.documents[ANCHORS[2], SHANGHAI] = papers.statement(ANCHORS[2], SHANGHAI, keys=keys)
    view = papers.view()
    assert fresh.public.kid not in view.issuer(SHANGHAI).keys
    assert (ANCHORS[2], Reason.SNAPSHOT_MISMATCH) in [(each.issuer, each.reason) for each in view.problems]
    papers.seal(ANCHORS[2])
    assert fresh.public.kid in papers.view().issuer(SHANGHAI).keys


def test_case_67_the_number_must_be_the_snapshots_too(papers: Papers) -> None:
    entries = papers.entries(ANCHORS[0])
    named = entries[SHANGHAI]
    assert isinstance(named, Vouched)
    papers.seal(ANCHORS[0], entries={**entries, SHANGHAI: Vouched(seq=named.seq + 1, sha256=named.sha256)})
    assert len(papers.view().issuer(SHANGHAI).votes) == 3


def test_an_anchor_without_a_snapshot_has_no_vote(papers: Papers) -> None:
    papers.seal(ANCHORS[0], change=lambda claims: claims.pop("snapshot"))
    assert len(papers.view().issuer(SHANGHAI).votes) == 3


GONE = Withdrawn(revoked_at=NOW, reason="closed")


def away(until: timedelta) -> Suspended:
    return Suspended(suspended_at=NOW - MINUTE, until=NOW + until, reason="under review")


@pytest.mark.parametrize(
    ("entry", "anchors", "later", "reason"),
    [
        pytest.param(GONE, 1, 0 * MINUTE, None, id="one anchor costs one vote"),
        pytest.param(GONE, 2, 0 * MINUTE, Reason.ISSUER_WITHDRAWN, id="no quorum is left"),
        pytest.param(GONE, 2, 10 * MINUTE, Reason.TRUST_STALE, id="they said so, but are not fresh"),
        pytest.param(away(HOUR), 1, 0 * MINUTE, None, id="one anchor suspends"),
        pytest.param(away(HOUR), 2, 0 * MINUTE, Reason.ISSUER_WITHDRAWN, id="two suspend"),
        pytest.param(away(2 * MINUTE), 2, 2 * MINUTE, Reason.TRUST_STALE, id="the suspension has ended"),
    ],
)
def test_anchors_take_their_word_back(
    papers: Papers, entry: Entry, anchors: int, later: timedelta, reason: Reason | None
) -> None:
    for anchor in ANCHORS[:anchors]:
        papers.seal(anchor, entries={**papers.entries(anchor), SHANGHAI: entry})
    for view in (papers.view(), papers.view(NOW + later)):
        if reason is None:
            assert len(view.credential_key(SHANGHAI, kid_of(papers), NOW + later).anchors) == 3
        else:
            assert reason_of(lambda it=view: it.credential_key(SHANGHAI, kid_of(papers), NOW + later)) is reason  # type: ignore[misc]


def withdrawal(papers: Papers, anchor: str) -> tuple[str, str, str]:
    return anchor, papers.anchor_keys[anchor].public.thumbprint, SHANGHAI


def test_a_withdrawal_by_a_key_that_the_charter_does_not_list_counts_no_more(papers: Papers) -> None:
    said = {(anchor, "old key", SHANGHAI): Withdrawal(revoked_at=NOW, reason="theft") for anchor in ANCHORS[:2]}
    assert len(papers.view(withdrawals=said).credential_key(SHANGHAI, kid_of(papers), NOW).anchors) == 4


def test_a_withdrawal_outlives_the_document_that_said_it(papers: Papers) -> None:
    said = {withdrawal(papers, anchor): Withdrawal(revoked_at=NOW, reason="closed") for anchor in ANCHORS[:2]}
    view = papers.view(withdrawals=said)
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers), NOW)) is Reason.ISSUER_WITHDRAWN
    assert kid_of(papers, JIANGSU) in view.issuer(JIANGSU).keys


def test_case_122_an_anchor_with_two_tongues_has_no_vote(papers: Papers) -> None:
    caught = {
        (anchor, papers.anchor_keys[anchor].public.thumbprint): Equivocation(one="a", other="b")
        for anchor in ANCHORS[:1]
    }
    view = papers.view(equivocations=caught)
    assert len(view.credential_key(SHANGHAI, kid_of(papers), NOW).anchors) == 3
    assert [(each.issuer, each.reason) for each in view.alarms] == [(ANCHORS[0], Reason.EQUIVOCATION)]
    assert view.anchors[0].issued_at is None


def test_case_122_the_charter_heals_it_by_another_key(papers: Papers) -> None:
    fresh = generate_key()
    caught = {(ANCHORS[0], papers.anchor_keys[ANCHORS[0]].public.thumbprint): Equivocation(one="a", other="b")}
    papers.anchor_keys[ANCHORS[0]] = fresh
    papers.charter = papers.make_charter()
    for member in papers.federation_keys:
        papers.documents[ANCHORS[0], member] = papers.statement(ANCHORS[0], member)
    papers.seal(ANCHORS[0])
    view = papers.view(equivocations=caught)
    assert len(view.credential_key(SHANGHAI, kid_of(papers), NOW).anchors) == 4
    assert view.alarms == ()


# -- revocations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [0 * MINUTE, 30 * MINUTE, 5 * HOUR], ids=["fresh", "stale", "expired"])
def test_case_111_a_compromised_key_is_refused_whatever_the_state_of_the_documents(
    papers: Papers, later: timedelta
) -> None:
    view = papers.view(revocations={(SHANGHAI, kid_of(papers)): compromised()})
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers), NOW + later)) is Reason.KEY_REVOKED
    assert kid_of(papers) not in view.issuer(SHANGHAI).keys
    assert set(view.issuer(SHANGHAI).revocations) == {kid_of(papers)}


def test_trap_16_a_revoked_key_is_refused_although_every_anchor_attests_it_anew(papers: Papers) -> None:
    revoked = {(SHANGHAI, kid_of(papers)): compromised()}
    papers.attest(SHANGHAI, papers.credential_keys[SHANGHAI], ANCHORS)
    view = papers.view(revocations=revoked)
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers), NOW)) is Reason.KEY_REVOKED


def test_case_110_a_superseded_key_tells_until_when_it_counts(papers: Papers) -> None:
    at = NOW - MINUTE
    view = papers.view(revocations={(SHANGHAI, kid_of(papers)): superseded(at)})
    assert view.credential_key(SHANGHAI, kid_of(papers), NOW).signed_before == at


def test_one_issuers_revocation_takes_nothing_from_another(papers: Papers) -> None:
    view = papers.view(revocations={(JIANGSU, kid_of(papers)): compromised()})
    assert view.credential_key(SHANGHAI, kid_of(papers), NOW).key.kid == kid_of(papers)


@pytest.mark.parametrize(
    ("revocation", "votes"),
    [(compromised(), 0), (superseded(NOW), 0), (superseded(NOW + SECOND), 4)],
    ids=["compromised", "superseded by then", "superseded later"],
)
def test_case_110_a_configuration_signed_by_a_revoked_federation_key(
    papers: Papers, revocation: Any, votes: int
) -> None:
    signer = papers.federation_keys[SHANGHAI].public.kid
    view = papers.view(revocations={(SHANGHAI, signer): revocation})
    assert len(view.issuer(SHANGHAI).votes) == votes
    if not votes:
        assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers), NOW)) is Reason.TRUST_STALE


# -- other keys -------------------------------------------------------------------------------------------------------


def listing_status_keys(*keys: Any) -> Callable[[dict[str, Any]], None]:
    def change(claims: dict[str, Any]) -> None:
        claims["metadata"][ISSUER_TYPE][STATUS_JWKS] = {"keys": [dict(key.public.jwk) for key in keys]}

    return change


@pytest.mark.parametrize(("anchors", "usable"), [(2, False), (3, True)])
def test_status_keys_need_a_quorum_too(papers: Papers, anchors: int, usable: bool) -> None:
    status = key_of("status")
    listing = listing_status_keys(status)
    papers.documents[SHANGHAI, SHANGHAI] = papers.configuration(SHANGHAI, change=listing)
    for anchor in ANCHORS[:anchors]:
        papers.say(anchor, SHANGHAI, change=listing)
    view = papers.view()
    assert (status.public.kid in view.issuer(SHANGHAI).status_keys) is usable
    if usable:
        assert view.status_key(SHANGHAI, status.public.kid, NOW).key.kid == status.public.kid
        assert reason_of(lambda: view.credential_key(SHANGHAI, status.public.kid, NOW)) is not Reason.KEY_REVOKED
    else:
        assert reason_of(lambda: view.status_key(SHANGHAI, status.public.kid, NOW)) is Reason.KEY_UNKNOWN


def test_a_key_for_two_purposes_serves_neither(papers: Papers) -> None:
    listing = listing_status_keys(papers.credential_keys[SHANGHAI][0])
    papers.documents[SHANGHAI, SHANGHAI] = papers.configuration(SHANGHAI, change=listing)
    for anchor in ANCHORS:
        papers.say(anchor, SHANGHAI, change=listing)
    issuer = papers.view().issuer(SHANGHAI)
    assert issuer.keys == {}
    assert issuer.status_keys == {}


@pytest.mark.parametrize("anchors", [2, 3])
def test_federation_keys_count_when_a_quorum_attests_them(papers: Papers, anchors: int) -> None:
    old, fresh = papers.federation_keys[GATEWAY], key_of("fresh federation key")
    for anchor in ANCHORS[:anchors]:
        papers.say(anchor, GATEWAY, federation=[old, fresh])
    view = papers.view()
    assert view.attesting(GATEWAY, fresh.public.thumbprint) == tuple(ANCHORS[:anchors])
    assert view.attesting(GATEWAY, generate_key().public.thumbprint) == ()
    expected = {old.public.kid} | ({fresh.public.kid} if anchors == 3 else set())
    assert view.federation_keys(GATEWAY).keys() == expected


def test_federation_keys_need_no_word_of_the_member_itself(papers: Papers) -> None:
    del papers.documents[GATEWAY, GATEWAY]
    assert papers.federation_keys[GATEWAY].public.kid in papers.view().federation_keys(GATEWAY)


def test_a_revoked_federation_key_counts_no_more(papers: Papers) -> None:
    kid = papers.federation_keys[GATEWAY].public.kid
    assert papers.view(revocations={(GATEWAY, kid): superseded()}).federation_keys(GATEWAY) == {}


# -- one member against another ---------------------------------------------------------------------------------------


def test_a_member_that_lists_anothers_keys_as_its_own_takes_nothing_from_it(papers: Papers) -> None:
    stolen = papers.credential_keys[SHANGHAI][0].public

    def claim_it(claims: dict[str, Any]) -> None:
        claims["jwks"]["keys"].append(dict(stolen.jwk))

    papers.documents[JIANGSU, JIANGSU] = papers.configuration(JIANGSU, change=claim_it)
    for anchor in ANCHORS:
        papers.say(anchor, JIANGSU, change=claim_it)
    papers.seal(ANCHORS[1], change=claim_it)
    assert papers.view().credential_key(SHANGHAI, stolen.kid, NOW).key.kid == stolen.kid


def test_keys_that_the_anchors_did_not_pin_are_nobodys(papers: Papers) -> None:
    for anchor in ANCHORS:
        papers.say(anchor, SHANGHAI, change=lambda claims: claims.pop("metadata"))
    view = papers.view()
    assert len(view.issuer(SHANGHAI).votes) == 4
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers), NOW)) is Reason.KEY_UNKNOWN


def test_a_key_that_only_the_issuers_list_lacks_is_not_usable_and_not_unknown(papers: Papers) -> None:
    """The list held may be old: a relay that holds back the newer one must not get good credentials refused."""
    old, fresh = papers.credential_keys[SHANGHAI][0], generate_key()
    papers.attest(SHANGHAI, [old, fresh], ANCHORS)
    papers.documents[SHANGHAI, SHANGHAI] = papers.configuration(SHANGHAI, keys=[fresh])
    view = papers.view()
    assert reason_of(lambda: view.credential_key(SHANGHAI, old.public.kid, NOW)) is Reason.TRUST_STALE
    assert view.credential_key(SHANGHAI, fresh.public.kid, NOW).key.kid == fresh.public.kid
    for anchor in ANCHORS[:2]:
        papers.say(anchor, SHANGHAI, keys=[fresh])
    assert reason_of(lambda: papers.view().credential_key(SHANGHAI, old.public.kid, NOW)) is Reason.KEY_UNKNOWN


def test_a_type_that_too_few_fresh_anchors_speak_of_is_indeterminate(papers: Papers) -> None:
    def grants_nothing(claims: dict[str, Any]) -> None:
        claims["metadata_policy"] = {ISSUER_TYPE: {"credential_types": {"subset_of": []}}}

    papers.say(ANCHORS[0], SHANGHAI, change=grants_nothing)
    del papers.documents[ANCHORS[1], ANCHORS[1]]
    view = papers.view()
    assert reason_of(lambda: view.check_authority(SHANGHAI, RESIDENT_ID, NOW)) is Reason.TRUST_STALE
    papers.say(ANCHORS[2], SHANGHAI, change=grants_nothing)
    assert reason_of(lambda: papers.view().check_authority(SHANGHAI, RESIDENT_ID, NOW)) is Reason.ISSUER_NOT_AUTHORISED


def test_an_anchor_does_not_choose_the_algorithm_of_a_key(papers: Papers) -> None:
    key = generate_key(Algorithm.RS256)
    papers.attest(SHANGHAI, [key], ANCHORS)
    assert papers.view().credential_key(SHANGHAI, key.public.kid, NOW).key.algorithm is Algorithm.RS256

    def as_pss(claims: dict[str, Any]) -> None:
        claims["metadata"][ISSUER_TYPE]["jwks"]["keys"][0]["alg"] = "PS256"

    papers.say(ANCHORS[0], SHANGHAI, keys=[key], change=as_pss)
    trusted = papers.view().credential_key(SHANGHAI, key.public.kid, NOW)
    assert trusted.key.algorithm is Algorithm.RS256
    assert len(trusted.anchors) == 3


# -- views as such ----------------------------------------------------------------------------------------------------


def test_a_view_is_named_by_all_that_it_rests_on(papers: Papers) -> None:
    place = (SHANGHAI, kid_of(papers))
    caught = {(ANCHORS[0], "thumbprint"): Equivocation(one="a", other="b")}
    memories: list[dict[str, Any]] = [
        {},
        {"documents": {}},
        {"revocations": {place: superseded()}},
        {"revocations": {place: compromised()}},
        {"withdrawals": {withdrawal(papers, ANCHORS[0]): Withdrawal(revoked_at=NOW, reason="closed")}},
        {"equivocations": caught},
    ]
    assert len({papers.view(**memory).view_id for memory in memories}) == len(memories)
    assert papers.view(NOW).view_id == papers.view(NOW + MINUTE).view_id


def test_a_summary_is_one_spelling_and_differences_are_told(papers: Papers) -> None:
    before = view_summary(papers.view())
    assert before == view_summary(papers.view(NOW + MINUTE))
    assert diff_summaries(before, before) == ()
    fresh = generate_key()
    papers.attest(SHANGHAI, [*papers.credential_keys[SHANGHAI], fresh], ANCHORS[:3])
    revoked = {(JIANGSU, kid_of(papers, JIANGSU)): replace(compromised(), attested=True)}
    revoked |= {(JIANGSU, f"made up {number}"): compromised() for number in range(1_000)}  # told of nowhere
    withdrawn = {withdrawal(papers, ANCHORS[3]): Withdrawal(revoked_at=NOW, reason="closed")}
    after = view_summary(papers.view(revocations=revoked, withdrawals=withdrawn))
    found = {
        (each.issuer, each.subject, each.name): (each.before, each.after) for each in diff_summaries(before, after)
    }
    assert found == {
        (SHANGHAI, "keys", kid_of(papers)): (" ".join(sorted(ANCHORS)), " ".join(sorted(ANCHORS[:3]))),
        (SHANGHAI, "keys", fresh.public.kid): ("", " ".join(sorted(ANCHORS[:3]))),
        (SHANGHAI, "withdrawn", ANCHORS[3]): ("", "yes"),
        (JIANGSU, "keys", kid_of(papers, JIANGSU)): (" ".join(sorted(ANCHORS)), ""),
        (JIANGSU, "revoked", kid_of(papers, JIANGSU)): ("", "compromised"),
    }


def test_documents_in_the_place_of_others_are_not_read(papers: Papers) -> None:
    """Trap 17 and 21: what a document is about is what it says, not where it lies."""
    foreign = papers.documents[JIANGSU, JIANGSU]
    documents = {**papers.documents, (SHANGHAI, SHANGHAI): foreign}
    view = papers.view(documents=documents)
    assert view.issuer(SHANGHAI).keys == {}
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers, JIANGSU), NOW)) is Reason.TRUST_STALE


def test_an_empty_memory_gives_a_view_that_decides_nothing(papers: Papers) -> None:
    papers.documents.clear()
    view = papers.view()
    assert view.confirmed_at is None
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid_of(papers), NOW)) is Reason.TRUST_STALE
    assert TrustMemory() == papers.memory()


def test_a_statement_may_be_signed_again_by_another_key_of_the_charter(papers: Papers) -> None:
    """After a change of the anchor's key: the same bytes, and so the same entry of the snapshot."""
    old, fresh = papers.anchor_keys[ANCHORS[0]], generate_key()
    papers.anchor_keys[ANCHORS[0]] = fresh
    papers.charter = papers.make_charter()
    for member in papers.federation_keys:
        token = papers.documents[ANCHORS[0], member]
        papers.documents[ANCHORS[0], member] = sign_compact(TYP, claims_of(token), fresh)
    papers.seal(ANCHORS[0])
    assert old.public.kid != fresh.public.kid
    assert len(papers.view().issuer(SHANGHAI).votes) == 4


# -- reading once ------------------------------------------------------------------------------------------------------


def test_what_was_verified_with_one_key_is_not_taken_for_another(papers: Papers) -> None:
    reader = Reader()
    statement = reader.read(papers.documents[SHANGHAI, SHANGHAI])
    key = papers.federation_keys[SHANGHAI].public
    assert reader.verify(statement, key).signer == key
    assert reason_of(lambda: reader.verify(statement, papers.federation_keys[JIANGSU].public)) is Reason.KEY_UNKNOWN
    other = replace(papers.federation_keys[JIANGSU].public, kid=key.kid)
    assert reason_of(lambda: reader.verify(statement, other)) is Reason.SIGNATURE_INVALID


def test_a_reader_that_is_told_to_forget_while_it_reads_reads_again(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, token = Reader(), papers.documents[SHANGHAI, SHANGHAI]

    class Raced(dict[str, Any]):
        """Another thread forgets whenever this one has just looked."""

        def __contains__(self, name: object) -> bool:
            found = super().__contains__(name)
            reader.forget(())
            return found

    first = reader.read(token)
    monkeypatch.setattr(reader, "_read", Raced({token: first}))
    assert reader.read(token) == first


# -- status lists -----------------------------------------------------------------------------------------------------

LIST = {"uri": f"{SHANGHAI}/status/1", "size": 2**20}


def registering(papers: Papers, lists: object) -> None:
    """Have the issuer register status lists."""

    def change(claims: dict[str, Any]) -> None:
        claims["metadata"][ISSUER_TYPE]["status_lists"] = lists

    papers.documents[SHANGHAI, SHANGHAI] = papers.configuration(SHANGHAI, change=change)


def test_an_issuer_without_status_lists_has_none(papers: Papers) -> None:
    assert papers.view().issuer(SHANGHAI).status_lists == {}


def test_registered_status_lists_are_in_the_view(papers: Papers) -> None:
    registering(papers, [LIST])
    assert papers.view().issuer(SHANGHAI).status_lists == {LIST["uri"]: LIST["size"]}
    assert papers.view().issuer(JIANGSU).status_lists == {}


@pytest.mark.parametrize(("anchors", "counts"), [(2, False), (3, True)])
def test_case_109_a_status_list_needs_a_quorum_of_anchors(papers: Papers, anchors: int, counts: bool) -> None:
    registering(papers, [LIST])

    def strip(claims: dict[str, Any]) -> None:
        claims["metadata_policy"] = {ISSUER_TYPE: {"status_lists": {"value": None}}}

    for anchor in ANCHORS[anchors:]:
        papers.say(anchor, SHANGHAI, change=strip)
    assert (LIST["uri"] in papers.view().issuer(SHANGHAI).status_lists) is counts


@pytest.mark.parametrize(
    "lists",
    [
        LIST,
        [LIST, LIST],
        [LIST | {"size": True}],
        [LIST | {"uri": "http://127.0.0.1/status/1"}],
        [LIST | {"uri": f"{JIANGSU}/status/1"}],
    ],
)
def test_case_109_what_is_no_registration_costs_the_votes(papers: Papers, lists: Any) -> None:
    registering(papers, lists)
    issuer = papers.view().issuer(SHANGHAI)
    assert (issuer.status_lists, issuer.votes, issuer.keys) == ({}, (), {})
    assert {problem.reason for problem in papers.view().problems} == {Reason.STATUS_LIST_INVALID}
    assert len(papers.view().issuer(JIANGSU).votes) == len(ANCHORS)
