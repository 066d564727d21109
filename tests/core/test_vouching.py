"""What an anchor says about its members, and what its operators decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.core import vouching
from gateway.core.charter import ISSUER_TYPE
from gateway.core.jose import SoftwareKey, generate_key, sign_compact
from gateway.core.memory import Withdrawal
from gateway.core.publication import KEY_PROOFS, STATUS_JWKS, configuration_claims, key_proof, next_seq
from gateway.core.reasons import InvalidRequest, NotHeld, Reason, WrongState
from gateway.core.snapshot import MAX_JUMP, MAX_REASON_CHARS, Vouched, payload_digest
from gateway.core.statements import TYP
from gateway.core.vouching import (
    MAX_SPENT_KEYS,
    MAX_SUSPENSION,
    Approval,
    MemberRecord,
    Suspension,
    Vouching,
    anchor_snapshot,
    approve_change,
    change_id,
    enrol,
    reject_change,
    resume,
    revoke,
    suspend,
    vouch,
)
from tests.core.papers import (
    ANCHORS,
    GATEWAY,
    HOUR,
    JIANGSU,
    MINUTE,
    NOW,
    SECOND,
    SHANGHAI,
    START,
    Papers,
    claims_of,
    key_of,
    reason_of,
)

NEXT = key_of("the next credential key")
NEXT_FEDERATION = key_of("the next federation key")


@pytest.fixture
def papers() -> Papers:
    return Papers()


def thumbprints(*keys: SoftwareKey) -> frozenset[str]:
    return frozenset(key.public.thumbprint for key in keys)


def enrolled(papers: Papers, member: str = SHANGHAI) -> MemberRecord:
    return enrol(None, papers.federation_keys[member].public.thumbprint)


def attested(papers: Papers, **changes: Any) -> MemberRecord:
    keys = thumbprints(*papers.credential_keys[SHANGHAI])
    return replace(enrolled(papers), **{"credential_keys": keys, **changes})


def vouched(
    papers: Papers,
    configuration: str,
    record: MemberRecord | None = None,
    *,
    taken: frozenset[str] = frozenset(),
    approve: Approval = Approval.AUTO,
    now: Any = NOW,
    agreed: frozenset[str] = frozenset(),
) -> Vouching:
    return vouch(
        anchor_id=ANCHORS[0],
        charter=papers.charter,
        configuration=configuration,
        record=enrolled(papers) if record is None else record,
        taken_keys=taken,
        seq=START + 7,
        approve=approve,
        now=now,
        agreed_keys=agreed,
    )


def said(vouching: Vouching) -> Mapping[str, Any]:
    assert vouching.claims is not None
    return vouching.claims


def pinned(vouching: Vouching, parameter: str = "jwks") -> set[str]:
    jwks = said(vouching).get("metadata", {}).get(ISSUER_TYPE, {}).get(parameter, {"keys": []})
    return {key["kid"] for key in jwks["keys"]}


def publishing(papers: Papers, keys: Sequence[SoftwareKey], **options: Any) -> str:
    return papers.configuration(SHANGHAI, keys=[*papers.credential_keys[SHANGHAI], *keys], **options)


def test_an_anchor_pins_the_keys_and_narrows_what_the_member_may_be(papers: Papers) -> None:
    configuration = papers.configuration(SHANGHAI)
    vouching = vouched(papers, configuration)
    claims = said(vouching)
    assert pinned(vouching) == {papers.credential_keys[SHANGHAI][0].public.kid}
    assert claims["seq"] == START + 7
    assert claims["constraints"] == {
        "max_path_length": 0,
        "naming_constraints": {"permitted": ["issuer.sh.mrg.example"]},
        "allowed_entity_types": [ISSUER_TYPE],
    }
    assert vouching.keys_changed
    assert vouching.record == attested(
        papers, seq=claims_of(configuration)["seq"], digest=payload_digest(configuration)
    )
    papers.documents[SHANGHAI, SHANGHAI] = configuration
    papers.documents[ANCHORS[0], SHANGHAI] = sign_compact(TYP, claims, papers.anchor_keys[ANCHORS[0]])
    papers.seal(ANCHORS[0])
    assert len(papers.view().issuer(SHANGHAI).votes) == 4
    assert papers.view().problems == ()


def test_the_statement_about_a_gateway_is_a_chain_too(papers: Papers) -> None:
    vouching = vouched(papers, papers.documents[GATEWAY, GATEWAY], enrolled(papers, GATEWAY))
    papers.documents[ANCHORS[0], GATEWAY] = sign_compact(TYP, said(vouching), papers.anchor_keys[ANCHORS[0]])
    papers.seal(ANCHORS[0])
    assert ANCHORS[0] in papers.view().attesting(GATEWAY, papers.federation_keys[GATEWAY].public.thumbprint)


def with_status_keys(papers: Papers, *keys: SoftwareKey, prover: str = SHANGHAI) -> str:
    def change(claims: dict[str, Any]) -> None:
        parameters = claims["metadata"][ISSUER_TYPE]
        parameters[STATUS_JWKS] = {"keys": [dict(key.public.jwk) for key in keys]}
        parameters[KEY_PROOFS] |= {key.public.kid: key_proof(prover, key) for key in keys}

    return papers.configuration(SHANGHAI, change=change)


def test_status_keys_are_pinned_beside_the_others(papers: Papers) -> None:
    status = key_of("status")
    vouching = vouched(papers, with_status_keys(papers, status))
    assert pinned(vouching, STATUS_JWKS) == {status.public.kid}
    assert vouching.record.credential_keys == thumbprints(status, *papers.credential_keys[SHANGHAI])


def strangers(papers: Papers) -> str:
    key = key_of("a stranger's")
    claims = configuration_claims(
        entity_id="https://issuer.gd.mrg.example",
        federation_keys=[key.public],
        metadata={},
        authority_hints=ANCHORS,
        lifetime=HOUR,
        now=NOW,
        seq=START,
    )
    return sign_compact(TYP, claims, key)


REFUSED: Mapping[str, tuple[Callable[[Papers], str], Reason]] = {
    "by a key never attested": (
        lambda papers: papers.configuration(SHANGHAI, signer=generate_key()),
        Reason.KEY_UNKNOWN,
    ),
    "by a key it does not list": (
        lambda papers: papers.configuration(SHANGHAI, federation=[generate_key()]),
        Reason.KEY_UNKNOWN,
    ),
    "a federation key among the credential keys": (
        lambda papers: papers.configuration(SHANGHAI, keys=[papers.federation_keys[SHANGHAI]]),
        Reason.KEY_NOT_ACCEPTABLE,
    ),
    "a credential key among the status keys": (
        lambda papers: with_status_keys(papers, papers.credential_keys[SHANGHAI][0]),
        Reason.KEY_NOT_ACCEPTABLE,
    ),
    "where it is not asked to": (
        lambda papers: papers.configuration(SHANGHAI, hints=ANCHORS[1:]),
        Reason.CHAIN_INVALID,
    ),
    "for a stranger": (strangers, Reason.ISSUER_UNKNOWN),
    "possession proven by nobody": (
        lambda papers: papers.configuration(
            SHANGHAI, change=lambda claims: claims["metadata"][ISSUER_TYPE].pop(KEY_PROOFS)
        ),
        Reason.KEY_NOT_ACCEPTABLE,
    ),
    "possession proven to somebody else": (
        lambda papers: papers.configuration(SHANGHAI, prover=JIANGSU),
        Reason.KEY_NOT_ACCEPTABLE,
    ),
    "possession of a status key not proven": (
        lambda papers: with_status_keys(papers, key_of("status"), prover=JIANGSU),
        Reason.KEY_NOT_ACCEPTABLE,
    ),
    "expired": (lambda papers: papers.configuration(SHANGHAI, at=NOW - 2 * HOUR), Reason.EXPIRED),
    "case 125: without number": (
        lambda papers: papers.configuration(SHANGHAI, change=lambda claims: claims.pop("seq")),
        Reason.SEQUENCE_INVALID,
    ),
    "case 126: a jump": (
        lambda papers: papers.configuration(SHANGHAI, seq=START + MAX_JUMP + 1),
        Reason.SEQUENCE_INVALID,
    ),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_an_anchor_does_not_vouch(papers: Papers, make: Callable[[Papers], str], reason: Reason) -> None:
    configuration = make(papers)
    assert reason_of(lambda: vouched(papers, configuration)) is reason


@pytest.mark.parametrize("key", ["credential", "federation"])
def test_an_anchor_does_not_vouch_for_a_key_that_belongs_to_another(papers: Papers, key: str) -> None:
    taken = thumbprints(
        papers.credential_keys[SHANGHAI][0] if key == "credential" else papers.federation_keys[SHANGHAI]
    )
    assert reason_of(lambda: vouched(papers, papers.configuration(SHANGHAI), taken=taken)) is Reason.KEY_NOT_ACCEPTABLE


# -- forward only -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seq", "reason"),
    [(START + 99, Reason.ROLLED_BACK), (START + 100, Reason.EQUIVOCATION), (START + 101, None)],
    ids=["case 123: older", "case 122: another of that number", "newer"],
)
def test_a_members_configurations_only_go_forward(papers: Papers, seq: int, reason: Reason | None) -> None:
    record = vouched(papers, papers.configuration(SHANGHAI, seq=START + 100)).record
    configuration = publishing(papers, [NEXT], seq=seq)
    if reason is None:
        assert NEXT.public.thumbprint in vouched(papers, configuration, record).record.credential_keys
    else:
        assert reason_of(lambda: vouched(papers, configuration, record)) is reason


def test_case_124_the_same_configuration_is_vouched_for_again(papers: Papers) -> None:
    configuration = papers.configuration(SHANGHAI)
    first = vouched(papers, configuration)
    again = vouched(papers, configuration, first.record, now=NOW + 30 * MINUTE)
    assert again.record == first.record
    assert not again.keys_changed
    assert said(again)["iat"] == int((NOW + 30 * MINUTE).timestamp())


def test_trap_7_a_key_that_went_never_comes_back(papers: Papers) -> None:
    record = vouched(papers, publishing(papers, [NEXT])).record
    record = vouched(papers, publishing(papers, []), record).record
    assert record.spent_keys == thumbprints(NEXT)
    assert reason_of(lambda: vouched(papers, publishing(papers, [NEXT]), record)) is Reason.KEY_NOT_ACCEPTABLE


def test_a_federation_key_is_handed_over_in_two_steps(papers: Papers) -> None:
    old = papers.federation_keys[SHANGHAI]
    both = publishing(papers, [], federation=[old, NEXT_FEDERATION])
    record = vouched(papers, both).record
    assert record.federation_keys == thumbprints(old, NEXT_FEDERATION)
    alone = publishing(papers, [], signer=NEXT_FEDERATION)
    record = vouched(papers, alone, record).record
    assert record.federation_keys == thumbprints(NEXT_FEDERATION)
    assert record.spent_keys == thumbprints(old)
    assert reason_of(lambda: vouched(papers, publishing(papers, []), record)) is Reason.KEY_UNKNOWN


def test_an_anchor_that_was_away_follows_the_quorum_unless_people_approve(papers: Papers) -> None:
    # The configuration is the true one; what this anchor attested is a key from before.
    away = replace(enrolled(papers), federation_keys=thumbprints(NEXT_FEDERATION))
    agreed, configuration = thumbprints(papers.federation_keys[SHANGHAI]), papers.configuration(SHANGHAI)
    followed = vouched(papers, configuration, away, agreed=agreed)
    assert followed.record.federation_keys == agreed
    assert followed.record.spent_keys == thumbprints(NEXT_FEDERATION)
    assert reason_of(lambda: vouched(papers, configuration, away)) is Reason.KEY_UNKNOWN
    manual = reason_of(lambda: vouched(papers, configuration, away, agreed=agreed, approve=Approval.MANUAL))
    assert manual is Reason.KEY_UNKNOWN


@pytest.mark.parametrize("direction", ["federation to credential", "credential to federation"])
def test_a_key_does_not_take_up_another_purpose(papers: Papers, direction: str) -> None:
    old, credential = papers.federation_keys[SHANGHAI], papers.credential_keys[SHANGHAI][0]
    if direction == "credential to federation":
        record = attested(papers)
        configuration = papers.configuration(SHANGHAI, keys=[NEXT], federation=[old, credential])
    else:
        record = attested(papers, federation_keys=thumbprints(old, NEXT_FEDERATION))
        configuration = publishing(papers, [NEXT_FEDERATION])
    assert reason_of(lambda: vouched(papers, configuration, record)) is Reason.KEY_NOT_ACCEPTABLE


def test_the_keys_that_an_anchor_remembers_as_gone_are_bounded(papers: Papers) -> None:
    spent = frozenset(f"{number:043}" for number in range(MAX_SPENT_KEYS + 1))
    record = attested(papers, spent_keys=spent)
    assert reason_of(lambda: vouched(papers, publishing(papers, []), record)) is Reason.TOO_LARGE


@pytest.mark.parametrize(("last", "expected"), [(0, START), (START - 5, START), (START, START + 1), (2**40, 2**40 + 1)])
def test_case_134_the_clock_seeds_the_numbers(last: int, expected: int) -> None:
    assert next_seq(last, NOW) == expected


# -- approval by hand -------------------------------------------------------------------------------------------------


def test_new_keys_wait_for_a_person(papers: Papers) -> None:
    old = papers.federation_keys[SHANGHAI]
    configuration = publishing(papers, [NEXT], federation=[old, NEXT_FEDERATION])
    waiting = vouched(papers, configuration, attested(papers), approve=Approval.MANUAL)
    assert pinned(waiting) == {papers.credential_keys[SHANGHAI][0].public.kid}
    assert [key["kid"] for key in said(waiting)["jwks"]["keys"]] == [old.public.kid]
    assert not waiting.keys_changed
    pending = waiting.record.pending
    assert pending is not None
    assert pending.change_id == change_id([*thumbprints(NEXT, NEXT_FEDERATION)])
    assert (pending.federation_keys, pending.credential_keys) == (thumbprints(NEXT_FEDERATION), thumbprints(NEXT))
    assert pending.seen_at == NOW
    later = vouched(papers, configuration, waiting.record, approve=Approval.MANUAL, now=NOW + MINUTE)
    assert later.record.pending == pending
    approved = approve_change(later.record, pending.change_id)
    attesting = vouched(papers, configuration, approved, approve=Approval.MANUAL)
    assert attesting.keys_changed
    assert NEXT.public.kid in pinned(attesting)
    assert attesting.record.federation_keys == thumbprints(old, NEXT_FEDERATION)
    assert attesting.record.pending is None
    assert attesting.record.approved == frozenset()


def test_the_first_keys_wait_too_and_no_plain_verifier_takes_them_for_granted(papers: Papers) -> None:
    configuration = papers.configuration(SHANGHAI)
    waiting = vouched(papers, configuration, approve=Approval.MANUAL)
    assert pinned(waiting) == set()
    assert said(waiting)["metadata_policy"][ISSUER_TYPE]["jwks"] == {"value": None}
    papers.documents[SHANGHAI, SHANGHAI] = configuration
    papers.documents[ANCHORS[0], SHANGHAI] = sign_compact(TYP, said(waiting), papers.anchor_keys[ANCHORS[0]])
    papers.seal(ANCHORS[0])
    votes = {vote.anchor: vote for vote in papers.view().issuer(SHANGHAI).votes}
    assert votes[ANCHORS[0]].keys == {}
    assert votes[ANCHORS[0]].pinned == frozenset()


def test_that_a_key_goes_waits_for_nobody(papers: Papers) -> None:
    record = attested(papers, credential_keys=thumbprints(*papers.credential_keys[SHANGHAI], NEXT))
    fewer = vouched(papers, publishing(papers, []), record, approve=Approval.MANUAL)
    assert fewer.keys_changed
    assert NEXT.public.kid not in pinned(fewer)
    assert fewer.record.spent_keys == thumbprints(NEXT)


def test_a_key_that_waited_and_went_may_come_back(papers: Papers) -> None:
    record = vouched(papers, publishing(papers, [NEXT]), attested(papers), approve=Approval.MANUAL).record
    record = vouched(papers, publishing(papers, []), record, approve=Approval.MANUAL).record
    assert record.pending is None
    record = vouched(papers, publishing(papers, [NEXT]), record, approve=Approval.MANUAL).record
    assert record.pending is not None


def test_what_was_rejected_is_left_out_without_asking_again_also_beside_others(papers: Papers) -> None:
    record = vouched(papers, publishing(papers, [NEXT]), attested(papers), approve=Approval.MANUAL).record
    assert record.pending is not None
    record = reject_change(record, record.pending.change_id)
    again = vouched(papers, publishing(papers, [NEXT]), record, approve=Approval.MANUAL)
    assert again.record.pending is None
    assert NEXT.public.kid not in pinned(again)
    other = key_of("yet another credential key")
    more = vouched(papers, publishing(papers, [NEXT, other]), again.record, approve=Approval.MANUAL)
    assert more.record.pending is not None
    assert more.record.pending.credential_keys == thumbprints(other)


@pytest.mark.parametrize("decide", [approve_change, reject_change])
def test_only_what_waits_is_decided(papers: Papers, decide: Callable[[MemberRecord, str], MemberRecord]) -> None:
    with pytest.raises(NotHeld):
        decide(attested(papers), change_id(thumbprints(NEXT)))


# -- suspended, withdrawn ---------------------------------------------------------------------------------------------


def test_a_suspended_member_gets_no_statement_and_is_still_listened_to(papers: Papers) -> None:
    record = suspend(attested(papers), until=NOW + HOUR, reason="under review", now=NOW)
    silent = vouched(papers, publishing(papers, [NEXT]), record)
    assert silent.claims is None
    assert NEXT.public.thumbprint in silent.record.credential_keys
    assert NEXT.public.kid in pinned(vouched(papers, publishing(papers, [NEXT]), resume(silent.record, now=NOW)))
    after = NOW + HOUR
    assert pinned(vouched(papers, publishing(papers, [NEXT], at=after), silent.record, now=after))


def test_a_withdrawal_learned_from_our_own_statement_may_be_decided_again(papers: Papers) -> None:
    learned = replace(revoke(attested(papers), reason="closed", now=NOW), withdrawal_signer="the key of that time")
    decided = revoke(learned, reason="closed", now=NOW)
    assert decided.withdrawal_signer == ""
    with pytest.raises(WrongState):
        revoke(decided, reason="closed", now=NOW)


def test_a_withdrawn_member_gets_no_statement_ever_again(papers: Papers) -> None:
    record = revoke(attested(papers), reason="closed", now=NOW)
    assert vouched(papers, publishing(papers, []), record).claims is None
    acts: list[Callable[[], MemberRecord]] = [
        lambda: revoke(record, reason="closed", now=NOW),
        lambda: resume(record, now=NOW),
        lambda: suspend(record, until=NOW + HOUR, reason="under review", now=NOW),
        lambda: enrol(record, NEXT_FEDERATION.public.thumbprint, replaced_at=NOW),
    ]
    for act in acts:
        with pytest.raises(WrongState):
            act()


@pytest.mark.parametrize(
    ("until", "reason"),
    [
        (timedelta(0), "under review"),
        (MAX_SUSPENSION + SECOND, "under review"),
        (HOUR, ""),
        (HOUR, "x" * (MAX_REASON_CHARS + 1)),
    ],
)
def test_a_suspension_has_an_end_and_a_reason(papers: Papers, until: timedelta, reason: str) -> None:
    with pytest.raises(InvalidRequest):
        suspend(attested(papers), until=NOW + until, reason=reason, now=NOW)


def test_only_a_suspended_member_is_resumed(papers: Papers) -> None:
    with pytest.raises(WrongState):
        resume(attested(papers), now=NOW)
    with pytest.raises(WrongState):
        resume(suspend(attested(papers), until=NOW + HOUR, reason="under review", now=NOW), now=NOW + HOUR)


# -- enrolling --------------------------------------------------------------------------------------------------------


def test_lost_federation_keys_are_replaced_by_hand(papers: Papers) -> None:
    old, fresh = papers.federation_keys[SHANGHAI], NEXT_FEDERATION
    record = attested(papers, seq=START + MAX_JUMP, digest="of a thief's")
    with pytest.raises(WrongState):
        enrol(record, fresh.public.thumbprint)
    replaced = enrol(record, fresh.public.thumbprint, replaced_at=NOW)
    assert replaced.federation_keys == thumbprints(fresh)
    assert replaced.spent_keys == thumbprints(old)
    assert pinned(vouched(papers, publishing(papers, [], signer=fresh), replaced))
    assert reason_of(lambda: vouched(papers, publishing(papers, []), replaced)) is Reason.KEY_UNKNOWN
    with pytest.raises(InvalidRequest):
        enrol(replaced, old.public.thumbprint, replaced_at=NOW)
    with pytest.raises(InvalidRequest):
        enrol(replaced, papers.credential_keys[SHANGHAI][0].public.thumbprint, replaced_at=NOW)


@pytest.mark.parametrize(("ahead", "reason"), [(MAX_JUMP, Reason.ROLLED_BACK), (MAX_JUMP + 1, None)])
def test_a_number_beyond_reach_of_the_clock_is_no_floor(papers: Papers, ahead: int, reason: Reason | None) -> None:
    """The anchor's own clock ran decades ahead when it vouched last."""
    record = attested(papers, seq=START + ahead, digest="of another")
    if reason is None:
        assert vouched(papers, publishing(papers, []), record).record.seq < START + ahead
    else:
        assert reason_of(lambda: vouched(papers, publishing(papers, []), record)) is reason


@pytest.mark.parametrize("ahead", [MAX_JUMP, MAX_JUMP + 1])
def test_case_126_how_far_a_number_may_jump_does_not_depend_on_the_last(papers: Papers, ahead: int) -> None:
    record = attested(papers, seq=START + MAX_JUMP - 1, digest="of a thief's")
    configuration = publishing(papers, [], seq=START + ahead)
    if ahead == MAX_JUMP:
        assert vouched(papers, configuration, record).record.seq == START + ahead
    else:
        assert reason_of(lambda: vouched(papers, configuration, record)) is Reason.SEQUENCE_INVALID


# -- how much may be listed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chars", "taken"), [(1_000, True), (4_000, False)])
def test_a_configuration_that_nobody_would_take_in_is_not_vouched_for(papers: Papers, chars: int, taken: bool) -> None:
    padding = {f"pad{number}": "z" * chars for number in range(8)}
    configuration = papers.configuration(SHANGHAI, change=lambda claims: claims.update(padding))
    if taken:
        assert vouched(papers, configuration).claims
    else:
        assert reason_of(lambda: vouched(papers, configuration)) is Reason.TOO_LARGE


@pytest.mark.parametrize(("most", "taken"), [(4_000, True), (2_000, False)])
def test_a_statement_that_nobody_would_take_in_is_not_made(
    papers: Papers, monkeypatch: pytest.MonkeyPatch, most: int, taken: bool
) -> None:
    monkeypatch.setattr(vouching, "MAX_STATEMENT_CHARS", most)
    configuration = papers.configuration(SHANGHAI)
    if taken:
        assert vouched(papers, configuration).claims
    else:
        assert reason_of(lambda: vouched(papers, configuration)) is Reason.TOO_LARGE


# -- the snapshot -----------------------------------------------------------------------------------------------------


def test_a_snapshot_names_everybody_who_was_ever_named(papers: Papers) -> None:
    statement = papers.documents[ANCHORS[0], SHANGHAI]
    entry = {"seq": claims_of(statement)["seq"], "sha256": payload_digest(statement)}
    base = attested(papers)
    away = Suspension(suspended_at=NOW - HOUR, until=NOW, reason="under review")
    suspended = {
        "suspended_at": int((NOW - HOUR).timestamp()),
        "until": int(NOW.timestamp()),
        "reason": "under review",
    }
    records = {
        "https://a.example": base,
        "https://b.example": replace(base, suspension=away),
        "https://c.example": replace(base, suspension=away),
        "https://d.example": replace(base, withdrawal=Withdrawal(revoked_at=NOW, reason="closed")),
        "https://e.example": base,
    }
    statements = dict.fromkeys(["https://a.example", "https://b.example", "https://d.example"], statement)
    withdrawn = {"revoked_at": START, "reason": "closed"}
    before = anchor_snapshot(records, statements, NOW - SECOND)["members"]
    after = anchor_snapshot(records, statements, NOW)["members"]
    assert before == {
        "https://a.example": entry,
        "https://b.example": suspended,
        "https://c.example": suspended,
        "https://d.example": withdrawn,
    }
    assert after == {**before, "https://b.example": entry}


def test_where_people_replaced_a_key_nothing_is_said_until_the_new_one_speaks(papers: Papers) -> None:
    known = vouched(papers, papers.configuration(SHANGHAI), enrolled(papers)).record
    replaced = enrol(known, NEXT_FEDERATION.public.thumbprint, replaced_at=NOW)
    statement = papers.statement(ANCHORS[0], SHANGHAI)

    for later in (NOW, NOW + 2 * MAX_SUSPENSION):  # that time passes brings nothing back
        assert "sha256" not in anchor_snapshot({SHANGHAI: replaced}, {SHANGHAI: statement}, later)["members"][SHANGHAI]
    spoken = papers.configuration(SHANGHAI, federation=[NEXT_FEDERATION], signer=NEXT_FEDERATION)
    again = vouched(papers, spoken, replaced)

    assert again.keys_changed
    assert again.claims is not None
    assert again.record.silence is None


def test_a_replaced_key_is_not_followed_by_the_quorum_that_still_attests_another(papers: Papers) -> None:
    replaced = enrol(enrolled(papers), NEXT_FEDERATION.public.thumbprint, replaced_at=NOW)
    thief = key_of("what a thief had attested elsewhere")
    agreed, offered = thumbprints(thief), papers.configuration(SHANGHAI, federation=[thief], signer=thief)

    assert vouched(papers, offered, enrolled(papers), agreed=agreed).claims is not None
    assert reason_of(lambda: vouched(papers, offered, replaced, agreed=agreed)) is Reason.KEY_UNKNOWN


def test_a_snapshot_drops_nobody_even_when_there_is_nothing_left_to_say(papers: Papers) -> None:
    before = {SHANGHAI: Vouched(seq=1, sha256="x" * 43)}

    first = anchor_snapshot({SHANGHAI: enrolled(papers)}, {}, NOW, before)["members"][SHANGHAI]

    assert first["until"] == first["suspended_at"]
