"""What an offer may change, and what no offer may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.core import admission, votes
from gateway.core.admission import MAX_PER_PLACE, Offer, admit
from gateway.core.charter import MAX_MEMBERS
from gateway.core.events import MAX_EVENTS, MAX_EVENTS_CHARS
from gateway.core.jose import SoftwareKey, generate_key, sign_compact
from gateway.core.memory import Equivocation, Place, Revocation, TrustMemory, Withdrawal, merge
from gateway.core.publication import configuration_claims
from gateway.core.reasons import Reason, Rejected
from gateway.core.snapshot import (
    MAX_CONFIGURATION_CHARS,
    MAX_JUMP,
    MAX_STATEMENT_CHARS,
    Suspended,
    Vouched,
    Withdrawn,
    payload_digest,
)
from gateway.core.statements import PROFILE, TYP, parse_statement
from gateway.core.trust import build_view
from gateway.peers import MAX_STATE_BYTES
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
    alarms,
    claims_of,
    compromised,
    key_of,
    reason_of,
    reasons,
    superseded,
)

FIRST = ANCHORS[0]
OWN = (FIRST, FIRST)
ABOUT_SHANGHAI = (FIRST, SHANGHAI)
MEMBER = (SHANGHAI, SHANGHAI)
STRANGER = "https://issuer.gd.mrg.example"


@pytest.fixture
def papers() -> Papers:
    return Papers()


def seq_of(token: str) -> int:
    seq: int = claims_of(token)["seq"]
    return seq


def newer(papers: Papers, anchor: str = FIRST, **options: Any) -> list[str]:
    """Have an anchor speak anew, and give all that it says; what is held stays as it was."""
    held = dict(papers.documents)
    papers.say(anchor, SHANGHAI, **options)
    bundle = papers.bundle(anchor)
    papers.documents = held
    return bundle


# -- a whole bundle or nothing ----------------------------------------------------------------------------------------


def test_everything_is_learned_from_one_relay(papers: Papers) -> None:
    learned = papers.admit(*papers.documents.values(), memory=TrustMemory())
    assert learned.memory.documents == papers.documents
    assert learned.refused == ()
    assert learned.alarms == ()
    assert learned.memory == merge(TrustMemory(), learned.change)
    assert build_view(papers.charter, learned.memory, NOW).problems == ()


def test_the_order_of_an_offer_does_not_matter(papers: Papers) -> None:
    backwards = papers.admit(*reversed(papers.documents.values()), memory=TrustMemory())
    assert backwards.memory.documents == papers.documents


def test_case_124_what_is_held_already_changes_nothing_and_is_not_even_read(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = papers.admit(*papers.documents.values()).memory  # with the clock floor
    read: list[str] = []

    def counting(token: str, profile: Any) -> Any:
        read.append(token)
        return parse_statement(token, profile)

    monkeypatch.setattr(votes, "parse_statement", counting)
    again = papers.admit(*papers.documents.values(), memory=memory)
    assert again.change == TrustMemory()
    assert again.memory == memory
    assert again.refused == ()
    assert len(read) == len(ANCHORS), "only the anchors' own, for the clock floor"


def test_case_122_124_the_same_payload_signed_again_is_not_equivocation(papers: Papers) -> None:
    again = [
        sign_compact(TYP, claims_of(papers.documents[place]), key)
        for place, key in (
            (OWN, papers.anchor_keys[FIRST]),
            (ABOUT_SHANGHAI, papers.anchor_keys[FIRST]),
            (MEMBER, papers.federation_keys[SHANGHAI]),
        )
    ]
    assert not set(again) & set(papers.documents.values())
    answer = papers.admit(*again)
    assert answer.memory.documents == papers.documents
    assert answer.memory.equivocations == {}
    assert answer.alarms == ()


def test_a_newer_bundle_replaces_the_older(papers: Papers) -> None:
    bundle = newer(papers)
    answer = papers.admit(*bundle)
    assert answer.refused == ()
    assert set(answer.change.documents.values()) == set(bundle) - set(papers.documents.values())
    assert set(answer.change.documents) == {OWN, ABOUT_SHANGHAI}


@pytest.mark.parametrize("stripped", [0, 1], ids=["the statement", "the configuration"])
def test_a_stripped_bundle_changes_nothing(papers: Papers, stripped: int) -> None:
    """Whoever relays cannot switch a member off by leaving out the newer statement about it."""
    places = (ABOUT_SHANGHAI, OWN)
    bundle = newer(papers)
    left_out = next(token for token in bundle if (_place(token)) == places[stripped])
    answer = papers.admit(*[token for token in bundle if token != left_out])
    assert answer.memory.documents == papers.documents
    assert reasons(answer) == [Reason.SNAPSHOT_MISMATCH]
    assert alarms(answer) == []
    assert papers.admit(*bundle).refused == ()


def _place(token: str) -> Place:
    claims = claims_of(token)
    return claims["iss"], claims["sub"]


def test_case_67_128_a_statement_that_the_snapshot_does_not_name_is_refused(papers: Papers) -> None:
    bundle = newer(papers)
    other = papers.statement(FIRST, SHANGHAI, keys=[generate_key()])
    swapped = [other if _place(token) == ABOUT_SHANGHAI else token for token in bundle]
    answer = papers.admit(*swapped)
    assert answer.memory.documents == papers.documents
    assert reasons(answer) == [Reason.SNAPSHOT_MISMATCH]
    assert alarms(answer) == []


def test_a_statement_whose_signature_was_spoiled_does_not_complete_a_bundle(papers: Papers) -> None:
    spoiled = [
        sign_compact(TYP, claims_of(token), generate_key()) if _place(token) == ABOUT_SHANGHAI else token
        for token in newer(papers)
    ]
    answer = papers.admit(*spoiled)
    assert answer.memory.documents == papers.documents
    assert reasons(answer) == [Reason.KEY_UNKNOWN, Reason.SNAPSHOT_MISMATCH]


def test_of_several_configurations_the_newest_that_is_whole_is_taken(papers: Papers) -> None:
    whole = newer(papers)
    half = papers.head(FIRST, entries={**papers.entries(FIRST), SHANGHAI: Vouched(seq=START + 10_000, sha256="A" * 43)})
    answer = papers.admit(half, *whole)
    assert answer.memory.documents[OWN] in whole
    assert reasons(answer) == [Reason.SNAPSHOT_MISMATCH]


def test_trap_11_a_member_that_is_away_does_not_keep_the_anchor_from_being_heard(papers: Papers) -> None:
    later = NOW + 3 * HOUR  # every statement about a member has lapsed
    papers_later = dict(papers.documents)
    papers.seal(FIRST, at=later)
    head = papers.documents[OWN]
    answer = admit(papers.charter, TrustMemory(documents=papers_later), Offer(statements=[head]), later)
    assert answer.memory.documents[OWN] == head
    latecomer = admit(papers.charter, TrustMemory(), Offer(statements=papers.bundle(FIRST)), later)
    assert latecomer.memory.documents[OWN] == head


def test_statements_missing_so_far_are_taken_when_the_charter_names_their_member(papers: Papers) -> None:
    smaller = papers.make_charter(lambda claims: claims["members"].pop())
    gone = next(member.entity_id for member in papers.charter.members if smaller.member(member.entity_id) is None)
    held = {place: token for place, token in papers.documents.items() if gone not in place}
    early = papers.admit(*papers.documents.values(), memory=TrustMemory(), charter=smaller)
    assert early.memory.documents == held
    late = papers.admit(*papers.documents.values(), memory=early.memory)
    assert late.memory.documents == papers.documents


# -- forward only -----------------------------------------------------------------------------------------------------


def with_head(**options: Any) -> Callable[[Papers], list[str]]:
    return lambda papers: [papers.head(FIRST, **options)]


def dropping_shanghai(papers: Papers) -> list[str]:
    entries = papers.entries(FIRST)
    del entries[SHANGHAI]
    return [papers.head(FIRST, entries=entries)]


def naming(**changes: int | str) -> Callable[[Papers], list[str]]:
    """Name another statement about Shanghai than before: what is given is added to, or replaces, what was."""

    def make(papers: Papers) -> list[str]:
        entries = papers.entries(FIRST)
        entry = entries[SHANGHAI]
        assert isinstance(entry, Vouched)
        seq, sha256 = entry.seq + int(changes.get("seq", 0)), str(changes.get("sha256", entry.sha256))
        return [papers.head(FIRST, entries={**entries, SHANGHAI: Vouched(seq=seq, sha256=sha256)})]

    return make


def another_of_that_number(papers: Papers) -> list[str]:
    return [papers.head(FIRST, seq=seq_of(papers.documents[OWN]), at=NOW - SECOND)]


REFUSED: Mapping[str, tuple[Callable[[Papers], list[str]], Reason, bool]] = {
    "case 123, trap 8: a lower number": (with_head(seq=START), Reason.ROLLED_BACK, False),
    "case 122, trap 9: other content": (another_of_that_number, Reason.EQUIVOCATION, True),
    "case 125: no number": (with_head(change=lambda claims: claims.pop("seq")), Reason.SEQUENCE_INVALID, False),
    "a number that is none": (with_head(change=lambda claims: claims.update(seq=True)), Reason.SEQUENCE_INVALID, False),
    "case 126: a jump": (with_head(seq=START + 17 + 2 * MAX_JUMP), Reason.SEQUENCE_INVALID, True),
    "case 127: a member dropped": (dropping_shanghai, Reason.SNAPSHOT_MISMATCH, True),
    "an older statement": (naming(seq=-1), Reason.SNAPSHOT_MISMATCH, True),
    "another statement of the number": (naming(sha256="A" * 43), Reason.SNAPSHOT_MISMATCH, True),
    "no snapshot": (with_head(change=lambda claims: claims.pop("snapshot")), Reason.SNAPSHOT_MISMATCH, True),
    "by a stranger's key": (lambda papers: [papers.head(FIRST, key=generate_key())], Reason.KEY_UNKNOWN, False),
    "expired": (with_head(at=NOW - HOUR), Reason.EXPIRED, False),
    "from the future": (with_head(at=NOW + 2 * MINUTE), Reason.NOT_YET_VALID, False),
    "living too long": (with_head(lifetime=2 * HOUR), Reason.LIFETIME_TOO_LONG, False),
}


@pytest.mark.parametrize(("make", "reason", "alarm"), REFUSED.values(), ids=REFUSED.keys())
def test_an_anchors_configuration_is_refused(
    papers: Papers, make: Callable[[Papers], list[str]], reason: Reason, alarm: bool
) -> None:
    answer = papers.admit(*make(papers))
    assert answer.memory.documents == papers.documents
    assert reasons(answer) == [reason]
    assert alarms(answer) == ([reason] if alarm else [])
    # It harms nobody, and the anchor goes on.
    bundle = newer(papers)
    assert papers.admit(*bundle, memory=answer.memory).memory.documents[OWN] in bundle


@pytest.mark.parametrize(
    ("jump", "taken"), [(MAX_JUMP, True), (MAX_JUMP + 1, False)], ids=["as far as allowed", "one further"]
)
@pytest.mark.parametrize("held", [True, False], ids=["one held", "none held"])
def test_case_126_how_far_a_number_may_jump(papers: Papers, held: bool, jump: int, taken: bool) -> None:
    """By the clock, whatever is held: a thief's numbers must not carry each other to where nobody can follow."""
    bundle = [papers.head(FIRST, seq=START + jump), *papers.bundle(FIRST)[:-1]]
    memory = papers.memory() if held else TrustMemory()
    answer = papers.admit(*[token for token in bundle if token != papers.documents[OWN]], memory=memory)
    assert (answer.memory.documents.get(OWN) == bundle[0]) is taken
    assert (Reason.SEQUENCE_INVALID in alarms(answer)) is not taken


@pytest.mark.parametrize(("jump", "taken"), [(MAX_JUMP, True), (MAX_JUMP + 1, False)])
def test_case_126_how_far_the_number_of_a_statement_may_jump(papers: Papers, jump: int, taken: bool) -> None:
    bundle = newer(papers, seq=START + jump)
    answer = papers.admit(*bundle)
    assert (answer.memory.documents[OWN] in bundle) is taken
    assert (Reason.SEQUENCE_INVALID in alarms(answer)) is not taken


@pytest.mark.parametrize(("years", "binds"), [(60, True), (70, False)])
def test_what_a_clock_that_ran_ahead_left_behind_does_not_bind(papers: Papers, years: int, binds: bool) -> None:
    """Beyond reach of the clock a number is no floor: nobody could ever go on from there."""
    ahead = START + years * 365 * 86_400
    papers.documents[ABOUT_SHANGHAI] = papers.statement(FIRST, SHANGHAI, seq=ahead)
    papers.documents[OWN] = papers.head(FIRST, seq=ahead)
    papers.documents[MEMBER] = papers.configuration(SHANGHAI, seq=ahead)
    memory = papers.memory(events={SHANGHAI: papers.events(SHANGHAI, {}, seq=ahead)})
    bundle, configuration = newer(papers), papers.configuration(SHANGHAI)
    revoking = papers.events(SHANGHAI, {lost(): compromised()})
    after = papers.admit(*bundle, configuration, events=[revoking], memory=memory).memory
    assert (after.documents[OWN] in bundle) is not binds
    assert (after.documents[MEMBER] == configuration) is not binds
    assert (after.events[SHANGHAI] == revoking) is not binds


def test_case_127_a_member_that_left_the_charter_may_be_dropped(papers: Papers) -> None:
    smaller = papers.make_charter(lambda claims: claims["members"].pop())
    gone = next(member.entity_id for member in papers.charter.members if smaller.member(member.entity_id) is None)
    entries = papers.entries(FIRST)
    del entries[gone]
    head = papers.head(FIRST, entries=entries)
    assert papers.admit(head, charter=smaller).memory.documents[OWN] == head
    assert reasons(papers.admit(head)) == [Reason.SNAPSHOT_MISMATCH]


def test_case_123_floors_outlive_the_documents(papers: Papers) -> None:
    later = NOW + 5 * HOUR
    old = papers.head(FIRST, seq=START, at=later)
    answer = papers.admit(old, now=later)
    assert reasons(answer) == [Reason.ROLLED_BACK]


def test_a_suspension_does_not_reset_the_number_of_the_statement(papers: Papers) -> None:
    away = Suspended(suspended_at=NOW, until=NOW + HOUR, reason="under review")
    suspended = papers.head(FIRST, entries={**papers.entries(FIRST), SHANGHAI: away})
    memory = papers.admit(suspended).memory
    assert memory.documents[OWN] == suspended
    entry = papers.entries(FIRST)[SHANGHAI]
    assert isinstance(entry, Vouched)
    older = papers.statement(FIRST, SHANGHAI, seq=entry.seq - 1)
    back = papers.head(
        FIRST, entries={**papers.entries(FIRST), SHANGHAI: Vouched(seq=entry.seq - 1, sha256=payload_digest(older))}
    )
    assert reasons(papers.admit(back, older, memory=memory)) == [Reason.SNAPSHOT_MISMATCH]
    assert papers.admit(papers.head(FIRST), memory=memory).refused == ()


# -- two tongues ------------------------------------------------------------------------------------------------------


def test_case_122_a_proof_voids_the_vote_for_ever(papers: Papers) -> None:
    papers.documents[OWN] = papers.head(FIRST)
    other = papers.head(FIRST, seq=seq_of(papers.documents[OWN]), at=NOW - SECOND)
    answer = papers.admit(other)
    signer = papers.anchor_keys[FIRST].public.thumbprint
    assert answer.change.equivocations == {(FIRST, signer): Equivocation(one=papers.documents[OWN], other=other)}
    assert alarms(answer) == [Reason.EQUIVOCATION]
    assert len(build_view(papers.charter, answer.memory, NOW).issuer(SHANGHAI).votes) == 3
    again = papers.admit(other, *newer(papers), memory=answer.memory)
    assert alarms(again) == [], "it was told of once"
    assert len(build_view(papers.charter, again.memory, NOW).issuer(SHANGHAI).votes) == 3


@pytest.mark.parametrize("at", [NOW, NOW - 3 * HOUR], ids=["in time", "expired long ago"])
def test_case_122_two_in_one_offer_are_a_proof_too(papers: Papers, at: Any) -> None:
    heads = [papers.head(FIRST, seq=START + 5_000, at=at - number * SECOND) for number in range(2)]
    answer = papers.admit(*heads)
    assert len(answer.memory.equivocations) == 1
    assert alarms(answer) == [Reason.EQUIVOCATION]


def test_case_122_two_statements_about_a_member_are_a_proof_too(papers: Papers) -> None:
    seq = seq_of(papers.documents[ABOUT_SHANGHAI])
    answer = papers.admit(papers.statement(FIRST, SHANGHAI, seq=seq, keys=[generate_key()]))
    assert len(answer.memory.equivocations) == 1
    assert answer.memory.documents == papers.documents


def test_case_122_two_keys_of_one_anchor_answer_for_each_other(papers: Papers) -> None:
    second = generate_key()
    both = papers.make_charter(
        lambda claims: claims["anchors"][0]["jwks"]["keys"].append(dict(second.public.jwk))  # its next key
    )
    other = papers.head(FIRST, key=second, seq=seq_of(papers.documents[OWN]))
    answer = papers.admit(other, charter=both)
    assert {signer for _, signer in answer.memory.equivocations} == {
        papers.anchor_keys[FIRST].public.thumbprint,
        second.public.thumbprint,
    }


def test_a_stranger_proves_nothing_against_an_anchor(papers: Papers) -> None:
    other = papers.head(FIRST, key=generate_key(), seq=seq_of(papers.documents[OWN]))
    answer = papers.admit(other)
    assert answer.memory.equivocations == {}
    assert alarms(answer) == []


# -- withdrawals ------------------------------------------------------------------------------------------------------


def withdrawing(papers: Papers, member: str = SHANGHAI, **options: Any) -> str:
    gone = Withdrawn(revoked_at=NOW, reason="closed")
    return papers.head(FIRST, entries={**papers.entries(FIRST), member: gone}, **options)


def withdrawal(papers: Papers) -> tuple[str, str, str]:
    return FIRST, papers.anchor_keys[FIRST].public.thumbprint, SHANGHAI


def test_a_withdrawal_acts_at_once_even_when_the_rest_was_stripped(papers: Papers) -> None:
    entries = {**papers.entries(FIRST), JIANGSU: Vouched(seq=START + 10_000, sha256="A" * 43)}
    gone = Withdrawn(revoked_at=NOW, reason="closed")
    answer = papers.admit(papers.head(FIRST, entries={**entries, SHANGHAI: gone}))
    assert answer.memory.documents == papers.documents
    assert answer.change.withdrawals == {withdrawal(papers): Withdrawal(revoked_at=NOW, reason="closed")}


@pytest.mark.parametrize("at", [NOW, NOW - 5 * HOUR], ids=["in time", "expired"])
def test_case_135_what_was_withdrawn_does_not_come_back(papers: Papers, at: Any) -> None:
    memory = papers.admit(withdrawing(papers, at=at)).memory
    assert withdrawal(papers) in memory.withdrawals
    back = papers.admit(*newer(papers), *papers.documents.values(), memory=memory)
    assert withdrawal(papers) in back.memory.withdrawals
    votes = build_view(papers.charter, back.memory, NOW).issuer(SHANGHAI).votes
    assert [vote.anchor for vote in votes if vote.withdrawn] == [FIRST]
    if at == NOW:
        assert alarms(back) == [Reason.SNAPSHOT_MISMATCH]


@pytest.mark.parametrize("listed", [True, False], ids=["key still listed", "key replaced"])
def test_what_a_thief_withdrew_counts_until_the_charter_replaces_the_key(papers: Papers, listed: bool) -> None:
    """Two anchors were robbed, one after the other, and each thief withdrew a member; both were given new keys."""
    memory, charter = papers.memory(), papers.charter
    stolen: list[SoftwareKey] = []

    def keep(claims: dict[str, Any]) -> None:
        for entry, key in zip(claims["anchors"], stolen if listed else [], strict=False):
            entry["jwks"]["keys"].append(dict(key.public.jwk))

    for anchor in ANCHORS[:2]:
        gone = {**papers.entries(anchor), SHANGHAI: Withdrawn(revoked_at=NOW, reason="theft")}
        memory = papers.admit(papers.head(anchor, entries=gone), memory=memory, charter=charter).memory
        stolen.append(papers.anchor_keys[anchor])
        papers.anchor_keys[anchor] = key_of(f"fresh {anchor}")
        charter = papers.make_charter(keep)
        for member in papers.federation_keys:
            papers.documents[anchor, member] = papers.statement(anchor, member)
        papers.seal(anchor)
        memory = papers.admit(*papers.bundle(anchor), memory=memory, charter=charter).memory
    assert len(memory.withdrawals) == 2
    said = build_view(charter, memory, NOW).issuer(SHANGHAI).votes
    assert [vote.withdrawn for vote in said] == [listed, listed, False, False]


def test_a_stranger_withdraws_nothing(papers: Papers) -> None:
    answer = papers.admit(withdrawing(papers, key=generate_key()))
    assert answer.memory == papers.admit().memory


def test_a_withdrawal_of_nobody_is_not_remembered(papers: Papers) -> None:
    assert papers.admit(withdrawing(papers, member=STRANGER)).change.withdrawals == {}


# -- another key ------------------------------------------------------------------------------------------------------


def test_fast_forward_is_healed_by_the_charter(papers: Papers) -> None:
    """Whoever stole the key used up the numbers; with its new key the anchor goes on where it was."""
    memory = papers.memory()
    for ahead in (MAX_JUMP - 1, MAX_JUMP, 2 * MAX_JUMP - 2):  # the last is refused: he gets no further
        stolen = papers.head(FIRST, seq=START + ahead)
        memory = papers.admit(stolen, memory=memory).memory
        assert (memory.documents[OWN] == stolen) is (ahead <= MAX_JUMP)
    fresh = generate_key()
    bundle = [sign_compact(TYP, claims_of(token), fresh) for token in papers.bundle(FIRST) if _place(token) != OWN]
    # It goes on above what it remembers of its own numbers, a second later.
    head, now = papers.head(FIRST, key=fresh, seq=START + MAX_JUMP + 1), NOW + SECOND
    assert reasons(papers.admit(head, *bundle, memory=memory, now=now))[0] is Reason.KEY_UNKNOWN
    papers.anchor_keys[FIRST] = fresh
    healed = papers.make_charter()
    answer = papers.admit(head, *bundle, memory=memory, charter=healed, now=now)
    assert answer.memory.documents[OWN] == head
    assert answer.alarms == ()
    newcomer = papers.admit(head, *bundle, memory=TrustMemory(), charter=healed, now=now)
    assert newcomer.memory.documents[OWN] == head


# -- a member's configuration -----------------------------------------------------------------------------------------


def test_a_newer_configuration_of_a_member_is_taken(papers: Papers) -> None:
    token = papers.configuration(SHANGHAI)
    assert papers.admit(token).change.documents == {MEMBER: token}


def forged(papers: Papers, **options: Any) -> str:
    return papers.configuration(SHANGHAI, signer=key_of("a stranger's"), **options)


FORGED: Mapping[str, Mapping[str, Any]] = {
    "newer": {},
    "with the highest number": {"seq": START + MAX_JUMP},
    "with the same number": {"seq": START + 1},
    "older": {"seq": START - 1},
}


@pytest.mark.parametrize("options", FORGED.values(), ids=FORGED.keys())
@pytest.mark.parametrize("later", [0 * MINUTE, HOUR + 30 * MINUTE, 30 * HOUR], ids=["fresh", "stale", "expired"])
def test_a_self_made_configuration_never_displaces_the_members(
    papers: Papers, later: timedelta, options: Mapping[str, Any]
) -> None:
    papers.documents[MEMBER] = papers.configuration(SHANGHAI, seq=START + 1)
    answer = papers.admit(forged(papers, at=NOW + later, **options), now=NOW + later)
    assert answer.memory.documents == papers.documents
    assert reasons(answer) == [Reason.CHAIN_INVALID]
    assert alarms(answer) == []


@pytest.mark.parametrize("options", FORGED.values(), ids=FORGED.keys())
def test_a_self_made_configuration_never_blocks_the_members(papers: Papers, options: Mapping[str, Any]) -> None:
    true = papers.configuration(SHANGHAI, seq=START + 1)
    del papers.documents[MEMBER]
    memory = papers.admit(forged(papers, **options)).memory
    assert MEMBER in memory.documents
    answer = papers.admit(true, memory=memory)
    assert answer.memory.documents[MEMBER] == true
    assert alarms(answer) == []


def test_a_self_made_configuration_in_the_same_offer_changes_nothing(papers: Papers) -> None:
    true = papers.configuration(SHANGHAI)
    answer = papers.admit(*[forged(papers) for _ in range(MAX_PER_PLACE - 1)], true)
    assert answer.memory.documents[MEMBER] == true
    assert alarms(answer) == []


def test_a_strangers_number_may_not_run_far_ahead_of_the_clock(papers: Papers) -> None:
    del papers.documents[MEMBER]
    answer = papers.admit(forged(papers, seq=START + MAX_JUMP + 1))
    assert reasons(answer) == [Reason.SEQUENCE_INVALID]
    assert alarms(answer) == []


@pytest.mark.parametrize(
    ("options", "reason", "alarm"),
    [
        ({"seq": START - 1}, Reason.ROLLED_BACK, False),
        ({"seq": START + 50, "hints": ANCHORS[:3]}, Reason.EQUIVOCATION, True),
        ({"change": lambda claims: claims.pop("seq")}, Reason.SEQUENCE_INVALID, False),
        ({"at": NOW - 2 * HOUR}, Reason.EXPIRED, False),
        ({"hints": ANCHORS[:2]}, Reason.CHAIN_INVALID, False),
    ],
    ids=["an older one", "another of that number", "without number", "expired", "with too few anchors"],
)
def test_a_members_own_configuration_is_refused(
    papers: Papers, options: Mapping[str, Any], reason: Reason, alarm: bool
) -> None:
    papers.documents[MEMBER] = papers.configuration(SHANGHAI, seq=START + 50)
    answer = papers.admit(papers.configuration(SHANGHAI, **options))
    assert answer.memory.documents == papers.documents
    assert reasons(answer) == [reason]
    assert alarms(answer) == ([reason] if alarm else [])


def test_the_configuration_of_a_replaced_federation_key_gives_way_to_a_lower_number(papers: Papers) -> None:
    """A thief of the old key ran the numbers up; the anchors attest another key now."""
    papers.documents[MEMBER] = papers.configuration(SHANGHAI, seq=START + MAX_JUMP - 1)
    fresh = generate_key()
    papers.federation_keys[SHANGHAI] = fresh
    for anchor in ANCHORS:
        papers.say(anchor, SHANGHAI)
    true = papers.configuration(SHANGHAI)
    assert papers.admit(true).memory.documents[MEMBER] == true


def test_a_held_document_without_a_number_binds_nobody(papers: Papers) -> None:
    papers.documents[MEMBER] = papers.configuration(SHANGHAI, change=lambda claims: claims.pop("seq"))
    true = papers.configuration(SHANGHAI)
    assert papers.admit(true).memory.documents[MEMBER] == true


# -- what is not an anchor's or a member's word -----------------------------------------------------------------------


def stranger_configuration() -> str:
    key = key_of("a stranger's")
    claims = configuration_claims(
        entity_id=STRANGER,
        federation_keys=[key.public],
        metadata={},
        authority_hints=ANCHORS,
        lifetime=HOUR,
        now=NOW,
        seq=START,
    )
    return sign_compact(TYP, claims, key)


def unlisted_signer(papers: Papers) -> str:
    return sign_compact(TYP, claims_of(papers.documents[MEMBER]), generate_key())


FOREIGN: Mapping[str, tuple[Callable[[Papers], str], Reason]] = {
    "garbage": (lambda _: "garbage", Reason.MALFORMED),
    "nothing": (lambda _: "", Reason.MALFORMED),
    "a stranger's configuration": (lambda _: stranger_configuration(), Reason.ISSUER_UNKNOWN),
    "about a stranger": (
        lambda papers: papers.statement(FIRST, SHANGHAI, change=lambda claims: claims.update(sub=STRANGER)),
        Reason.ISSUER_UNKNOWN,
    ),
    "a member about another": (
        lambda papers: papers.statement(
            JIANGSU, SHANGHAI, signer=papers.federation_keys[JIANGSU], change=lambda claims: None
        ),
        Reason.ISSUER_UNKNOWN,
    ),
    "an anchor about an anchor": (
        lambda papers: papers.statement(FIRST, SHANGHAI, change=lambda claims: claims.update(sub=ANCHORS[1])),
        Reason.ISSUER_UNKNOWN,
    ),
    "trap 2: by a key that only the document lists": (
        lambda papers: papers.statement(FIRST, SHANGHAI, signer=generate_key()),
        Reason.KEY_UNKNOWN,
    ),
    "trap 17: one anchor in the name of another": (
        lambda papers: papers.statement(FIRST, SHANGHAI, signer=papers.anchor_keys[ANCHORS[1]]),
        Reason.KEY_UNKNOWN,
    ),
    "by a key that the member does not list": (unlisted_signer, Reason.KEY_UNKNOWN),
}


@pytest.mark.parametrize(("make", "reason"), FOREIGN.values(), ids=FOREIGN.keys())
def test_what_is_not_an_anchors_or_a_members_word_is_refused(
    papers: Papers, make: Callable[[Papers], str], reason: Reason
) -> None:
    answer = papers.admit(make(papers))
    assert answer.memory.documents == papers.documents
    assert reasons(answer) == [reason]
    assert alarms(answer) == []


def test_trap_17_a_signature_over_one_document_does_not_cover_another(papers: Papers) -> None:
    one, other = papers.documents[ABOUT_SHANGHAI].split("."), papers.statement(FIRST, SHANGHAI).split(".")
    answer = papers.admit(f"{other[0]}.{other[1]}.{one[2]}")
    assert reasons(answer) == [Reason.SIGNATURE_INVALID]


def test_too_many_documents_of_one_place_crowd_out_only_themselves(papers: Papers) -> None:
    flood = [forged(papers) for _ in range(MAX_PER_PLACE + 2)]
    bundle = newer(papers)
    answer = papers.admit(*flood, *bundle)
    assert answer.memory.documents[OWN] in bundle
    assert reasons(answer).count(Reason.TOO_LARGE) == 2


def test_an_offer_that_is_too_large_is_cut(papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_OFFERED", 3)
    answer = papers.admit("a", "b", "c", *newer(papers))
    assert reasons(answer) == [Reason.TOO_LARGE, *[Reason.MALFORMED] * 3]
    assert answer.memory.documents == papers.documents


def test_too_many_statements_of_revocations_are_cut(papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_EVENT_STATEMENTS", 1)
    answer = papers.admit(events=["a", papers.events(SHANGHAI, {lost(): compromised()})])
    assert reasons(answer) == [Reason.TOO_LARGE, Reason.MALFORMED]
    assert answer.memory.revocations == {}


# -- the clock --------------------------------------------------------------------------------------------------------


def at_times(papers: Papers, *minutes: int) -> TrustMemory:
    for anchor, minute in zip(ANCHORS, minutes, strict=True):
        papers.seal(anchor, at=NOW + minute * MINUTE)
    return papers.memory()


@pytest.mark.parametrize(
    ("minutes", "floor"),
    [((0, 0, 0, 0), 0), ((9, 9, 0, 0), 0), ((9, 9, 2, 0), 2), ((1, 2, 3, 4), 2)],
    ids=["together", "two run ahead", "a quorum", "spread"],
)
def test_the_clock_floor_is_what_a_quorum_of_anchors_attests(
    papers: Papers, minutes: tuple[int, ...], floor: int
) -> None:
    memory = at_times(papers, *minutes)
    learned = admit(papers.charter, memory, Offer(), NOW + 9 * MINUTE)
    assert learned.change.clock_floor == NOW + floor * MINUTE


def test_the_clock_floor_never_falls(papers: Papers) -> None:
    memory = replace(at_times(papers, 0, 0, 0, 0), clock_floor=NOW + 30 * SECOND)
    answer = admit(papers.charter, memory, Offer(), NOW)
    assert answer.change.clock_floor is None
    assert answer.memory.clock_floor == NOW + 30 * SECOND


@pytest.mark.parametrize(("behind", "refused"), [(60 * SECOND, False), (61 * SECOND, True)])
def test_case_130_below_the_floor_nothing_is_taken_in(papers: Papers, behind: timedelta, refused: bool) -> None:
    bundle = newer(papers)
    revoked = papers.events(SHANGHAI, {key_of("lost").public.kid: compromised()})
    answer = papers.admit(*bundle, events=[revoked], memory=papers.memory(clock_floor=NOW + behind))
    if refused:
        assert answer.change == TrustMemory()
        assert reasons(answer) == alarms(answer) == [Reason.CLOCK_REGRESSED]
    else:
        assert answer.memory.documents[OWN] in bundle
        assert answer.change.revocations


def test_two_colluding_anchors_do_not_move_the_clock_floor(papers: Papers) -> None:
    ahead = papers.memory(clock_floor=None)
    heads = [papers.head(anchor, at=NOW + 59 * SECOND) for anchor in ANCHORS[:2]]
    assert papers.admit(*heads, memory=ahead).change.clock_floor == NOW


# -- one hostile anchor -----------------------------------------------------------------------------------------------


def test_k_minus_one_colluding_anchors_add_no_key_and_take_none(papers: Papers) -> None:
    fresh, memory = generate_key(), papers.memory()
    token = papers.configuration(SHANGHAI, keys=[fresh], signer=key_of("colluders"))
    offered = [token]
    for anchor in ANCHORS[:2]:
        offered += newer(papers, anchor, keys=[fresh], federation=[key_of("colluders")])
    view = build_view(papers.charter, papers.admit(*offered, memory=memory).memory, NOW)
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    assert fresh.public.kid not in view.issuer(SHANGHAI).keys
    # Two of four can deny: what is left is no quorum. They cannot make the answer final by adding a key.
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid, NOW)) in (Reason.TRUST_STALE, Reason.KEY_UNKNOWN)
    others = papers.credential_keys[JIANGSU][0].public.kid
    assert view.credential_key(JIANGSU, others, NOW).key.kid == others


def test_one_hostile_anchor_harms_only_itself(papers: Papers) -> None:
    fresh = generate_key()
    offered = newer(papers, FIRST, keys=[fresh], federation=[fresh])
    offered += [withdrawing(papers, member) for member in papers.federation_keys]
    view = build_view(papers.charter, papers.admit(*offered).memory, NOW)
    for issuer in papers.issuers:
        kid = papers.credential_keys[issuer][0].public.kid
        assert view.credential_key(issuer, kid, NOW).anchors == tuple(sorted(ANCHORS[1:]))
    assert papers.federation_keys[GATEWAY].public.kid in view.federation_keys(GATEWAY)


# -- revocations ------------------------------------------------------------------------------------------------------

LOST = "lost"


def lost() -> str:
    return key_of(LOST).public.kid


def test_a_members_revocations_are_taken_and_kept_for_relaying(papers: Papers) -> None:
    token = papers.events(SHANGHAI, {lost(): compromised()})
    answer = papers.admit(events=[token])
    assert answer.change.revocations == {(SHANGHAI, lost()): compromised()}
    assert answer.change.events == {SHANGHAI: token}
    again = papers.admit(events=[token], memory=answer.memory)
    assert again.change == TrustMemory()
    assert again.refused == ()


def test_case_135_trap_7_a_revoked_key_comes_back_by_nothing(papers: Papers) -> None:
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    before = list(papers.documents.values())
    memory = papers.admit(events=[papers.events(SHANGHAI, {kid: compromised()})]).memory
    papers.attest(SHANGHAI, papers.credential_keys[SHANGHAI], ANCHORS)
    silent = papers.events(SHANGHAI, {})
    answer = papers.admit(*before, *papers.documents.values(), events=[silent], memory=memory)
    assert answer.memory.revocations == {(SHANGHAI, kid): replace(compromised(), attested=True)}
    view = build_view(papers.charter, answer.memory, NOW)
    assert reason_of(lambda: view.credential_key(SHANGHAI, kid, NOW)) is Reason.KEY_REVOKED


def test_only_a_graver_word_changes_a_revocation(papers: Papers) -> None:
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    memory = papers.admit(events=[papers.events(SHANGHAI, {kid: superseded(NOW - HOUR)})]).memory
    graver = papers.admit(events=[papers.events(SHANGHAI, {kid: compromised()})], memory=memory)
    gravest = {(SHANGHAI, kid): replace(compromised(), attested=True)}
    assert graver.memory.revocations == graver.change.revocations == gravest
    milder = papers.admit(events=[papers.events(SHANGHAI, {kid: superseded()})], memory=graver.memory)
    assert milder.memory.revocations == graver.memory.revocations
    assert reasons(milder) == alarms(milder) == [Reason.SNAPSHOT_MISMATCH]


@pytest.mark.parametrize("later", [NOW, NOW + 7_000 * 365 * 24 * HOUR], ids=["now", "in 7000 years"])
def test_of_two_times_of_being_superseded_the_earlier_counts(papers: Papers, later: datetime) -> None:
    """A thief of the federation key was first to supersede the credential key, at a time of his choice."""
    early = superseded(NOW - HOUR)
    for first, second in ((superseded(later), early), (early, superseded(later))):
        memory = papers.admit(events=[papers.events(SHANGHAI, {lost(): first})]).memory
        answer = papers.admit(events=[papers.events(SHANGHAI, {lost(): second})], memory=memory)
        assert answer.memory.revocations == {(SHANGHAI, lost()): early}


EVENTS_REFUSED: Mapping[str, tuple[Callable[[Papers], str], Reason]] = {
    "garbage": (lambda _: "garbage", Reason.MALFORMED),
    "by a key that nobody attests": (
        lambda papers: papers.events(SHANGHAI, {lost(): compromised()}, signer=generate_key()),
        Reason.KEY_UNKNOWN,
    ),
    "trap 17: by another member": (
        lambda papers: papers.events(SHANGHAI, {lost(): compromised()}, signer=papers.federation_keys[JIANGSU]),
        Reason.KEY_UNKNOWN,
    ),
    "by an anchor": (
        lambda papers: papers.events(SHANGHAI, {lost(): compromised()}, signer=papers.anchor_keys[FIRST]),
        Reason.KEY_UNKNOWN,
    ),
    "of nobody": (
        lambda papers: papers.events(STRANGER, {lost(): compromised()}, signer=papers.federation_keys[SHANGHAI]),
        Reason.ISSUER_UNKNOWN,
    ),
    "from the future": (
        lambda papers: papers.events(SHANGHAI, {lost(): compromised()}, at=NOW + 2 * MINUTE),
        Reason.NOT_YET_VALID,
    ),
    "without number": (
        lambda papers: papers.events(SHANGHAI, {lost(): compromised()}, change=lambda claims: claims.pop("seq")),
        Reason.SEQUENCE_INVALID,
    ),
}


@pytest.mark.parametrize(("make", "reason"), EVENTS_REFUSED.values(), ids=EVENTS_REFUSED.keys())
def test_revocations_are_refused(papers: Papers, make: Callable[[Papers], str], reason: Reason) -> None:
    answer = papers.admit(events=[make(papers)])
    assert answer.memory.revocations == {}
    assert answer.memory.events == {}
    assert reasons(answer) == [reason]
    assert alarms(answer) == []


@pytest.mark.parametrize("anchors", [2, 3])
def test_a_new_federation_key_revokes_once_a_quorum_attests_it(papers: Papers, anchors: int) -> None:
    fresh = key_of("fresh federation key")
    for anchor in ANCHORS[:anchors]:
        papers.say(anchor, SHANGHAI, federation=[papers.federation_keys[SHANGHAI], fresh])
    answer = papers.admit(events=[papers.events(SHANGHAI, {lost(): compromised()}, signer=fresh)])
    assert bool(answer.memory.revocations) is (anchors == 3)


def test_the_anchors_word_of_the_same_offer_is_heard_first(papers: Papers) -> None:
    token = papers.events(SHANGHAI, {lost(): compromised()})
    answer = papers.admit(*papers.documents.values(), events=[token], memory=TrustMemory())
    assert answer.change.revocations == {(SHANGHAI, lost()): compromised()}


def test_a_revoked_federation_key_revokes_nothing_more(papers: Papers) -> None:
    old, fresh = papers.federation_keys[SHANGHAI], key_of("fresh federation key")
    for anchor in ANCHORS:
        papers.say(anchor, SHANGHAI, federation=[old, fresh])
    revoking = papers.events(SHANGHAI, {old.public.kid: compromised()}, signer=fresh)
    thiefs = papers.events(SHANGHAI, {old.public.kid: compromised(), lost(): compromised()}, signer=old)
    answer = papers.admit(events=[thiefs, revoking])
    assert answer.memory.events == {SHANGHAI: revoking}
    assert reasons(answer) == [Reason.KEY_UNKNOWN]
    assert set(answer.memory.revocations) == {(SHANGHAI, old.public.kid)}


def test_what_a_thief_kept_for_relaying_gives_way_once_his_key_is_gone(papers: Papers) -> None:
    old, fresh = papers.federation_keys[SHANGHAI], key_of("fresh federation key")
    thiefs = papers.events(SHANGHAI, {}, signer=old, seq=START + MAX_JUMP)
    memory = papers.admit(events=[thiefs]).memory
    for anchor in ANCHORS:
        papers.say(anchor, SHANGHAI, federation=[fresh])
    memory = papers.admit(*papers.documents.values(), memory=memory).memory
    true = papers.events(SHANGHAI, {lost(): compromised()}, signer=fresh)
    assert papers.admit(events=[true], memory=memory).memory.events == {SHANGHAI: true}


KEPT: Mapping[str, tuple[Mapping[str, Any], Reason, bool]] = {
    "an older one": ({"seq": START}, Reason.ROLLED_BACK, False),
    "another of that number": ({"seq": START + 70}, Reason.EQUIVOCATION, True),
    "one that leaves out": ({"seq": START + 71}, Reason.SNAPSHOT_MISMATCH, True),
    "one that jumps": ({"seq": START + 71 + MAX_JUMP}, Reason.SEQUENCE_INVALID, True),
}


@pytest.mark.parametrize(("options", "reason", "alarm"), KEPT.values(), ids=KEPT.keys())
def test_whatever_a_statement_is_worth_its_revocations_are_added(
    papers: Papers, options: Mapping[str, Any], reason: Reason, alarm: bool
) -> None:
    used = papers.credential_keys[SHANGHAI][0].public.kid
    held = papers.events(SHANGHAI, {used: compromised()}, seq=START + 70)
    memory = papers.admit(events=[held]).memory
    another = key_of("lost too").public.kid
    answer = papers.admit(events=[papers.events(SHANGHAI, {another: compromised()}, **options)], memory=memory)
    assert answer.memory.events == {SHANGHAI: held}
    assert set(answer.memory.revocations) == {(SHANGHAI, used), (SHANGHAI, another)}
    assert reasons(answer) == [reason]
    assert alarms(answer) == ([reason] if alarm else [])


def test_revocations_of_one_member_are_bounded(papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_REVOCATIONS", 1)
    memory = papers.admit(events=[papers.events(SHANGHAI, {lost(): compromised()})]).memory
    more = papers.events(SHANGHAI, {lost(): compromised(), "A" * 43: compromised()})
    answer = papers.admit(events=[more], memory=memory)
    assert answer.memory.revocations == memory.revocations
    assert reasons(answer) == [Reason.TOO_LARGE]
    others = papers.admit(events=[papers.events(JIANGSU, {lost(): compromised()})], memory=memory)
    assert (JIANGSU, lost()) in others.memory.revocations


def made_up(number: int) -> dict[str, Revocation]:
    """As many revocations of keys that are none as one statement holds."""
    return {f"{number:03}{each:040}": compromised() for each in range(MAX_EVENTS)}


def test_a_thiefs_inventions_leave_room_for_what_the_owner_revokes(papers: Papers) -> None:
    old, fresh = papers.federation_keys[SHANGHAI], key_of("fresh federation key")
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    for anchor in ANCHORS:
        papers.say(anchor, SHANGHAI, federation=[old, fresh])
    memory = papers.memory()
    for number in range(5):
        memory = papers.admit(events=[papers.events(SHANGHAI, made_up(number), signer=old)], memory=memory).memory
    assert len(memory.revocations) == admission.MAX_REVOCATIONS
    # The owner does not know of any of these.
    for signer, revoked in ((old, {kid}), (fresh, {kid, old.public.kid, lost()})):
        token = papers.events(SHANGHAI, {each: compromised() for each in revoked}, signer=signer)
        answer = papers.admit(events=[token], memory=memory)
        memory = answer.memory
        assert memory.events == {SHANGHAI: token}
        assert {each for _, each in memory.revocations} >= revoked - {lost()}
        assert memory.revocations[SHANGHAI, kid].attested
    assert reasons(answer) == [Reason.TOO_LARGE]
    assert (SHANGHAI, lost()) not in memory.revocations
    # The key that had no room is attested after all.
    papers.attest(SHANGHAI, [key_of(LOST)], ANCHORS)
    late = papers.admit(*papers.documents.values(), memory=memory).memory
    assert (SHANGHAI, lost()) in late.revocations


@pytest.mark.parametrize("anchors", [2, 3])
def test_a_thief_cannot_leave_out_a_revoked_key_that_may_be_in_use(papers: Papers, anchors: int) -> None:
    used = key_of("one more credential key")
    for anchor in ANCHORS[:anchors]:
        papers.say(anchor, SHANGHAI, keys=[*papers.credential_keys[SHANGHAI], used])
    held = papers.events(SHANGHAI, {used.public.kid: compromised()})
    memory = papers.admit(events=[held]).memory
    answer = papers.admit(events=[papers.events(SHANGHAI, {})], memory=memory)
    assert (answer.memory.events == {SHANGHAI: held}) is (anchors == 3)


def test_a_statement_that_revokes_the_key_of_the_one_before_need_not_repeat_it(papers: Papers) -> None:
    old, fresh = papers.federation_keys[SHANGHAI], key_of("fresh federation key")
    kid = papers.credential_keys[SHANGHAI][0].public.kid
    for anchor in ANCHORS:
        papers.say(anchor, SHANGHAI, federation=[old, fresh])
    thiefs = papers.events(SHANGHAI, {kid: compromised()}, signer=old, seq=START + MAX_JUMP)
    memory = papers.admit(events=[thiefs]).memory
    true = papers.events(SHANGHAI, {old.public.kid: compromised()}, signer=fresh)
    assert papers.admit(events=[true], memory=memory).memory.events == {SHANGHAI: true}


# -- how long a document may be ---------------------------------------------------------------------------------------


def padded(make: Callable[[Callable[[dict[str, Any]], None]], str], size: int) -> str:
    """Make a document of this many characters, or a few less."""

    def pad(chars: int) -> str:
        # Several texts: one may not be that long.
        return make(lambda claims: claims.update({f"pad{n}": "z" * (chars // 8) for n in range(8)}))

    return pad((size - len(pad(0))) * 3 // 4)


@pytest.mark.parametrize(("over", "taken"), [(0, True), (32, False)])
def test_a_statement_is_bounded(papers: Papers, over: int, taken: bool) -> None:
    """One anchor that writes long statements must not make what all others hand on too long to be received."""
    papers.documents[ABOUT_SHANGHAI] = padded(
        lambda change: papers.statement(FIRST, SHANGHAI, seq=START + 9_000, change=change), MAX_STATEMENT_CHARS + over
    )
    assert abs(len(papers.documents[ABOUT_SHANGHAI]) - MAX_STATEMENT_CHARS - over) < 32
    papers.seal(FIRST)
    memory = papers.memory(documents={})
    answer = papers.admit(*papers.bundle(FIRST), memory=memory)
    assert (OWN in answer.memory.documents) is taken
    assert (Reason.TOO_LARGE in reasons(answer)) is not taken


@pytest.mark.parametrize(("over", "taken"), [(0, True), (32, False)])
def test_a_configuration_is_bounded(papers: Papers, over: int, taken: bool) -> None:
    token = padded(
        lambda change: papers.configuration(SHANGHAI, seq=START + 9_000, change=change), MAX_CONFIGURATION_CHARS + over
    )
    answer = papers.admit(token)
    assert (answer.memory.documents[MEMBER] == token) is taken
    assert reasons(answer) == ([] if taken else [Reason.TOO_LARGE])


def test_what_all_places_may_hold_fits_into_one_message() -> None:
    anchors, members = 4, MAX_MEMBERS
    statements = members * (anchors * MAX_STATEMENT_CHARS + MAX_CONFIGURATION_CHARS)
    heads = anchors * 3 * PROFILE.max_chars  # one held, and the two halves of a proof
    assert statements + heads + members * MAX_EVENTS_CHARS < MAX_STATE_BYTES


# -- a restored backup ------------------------------------------------------------------------------------------------


def test_case_134_a_restored_memory_learns_the_heads_from_a_peer(papers: Papers) -> None:
    backup = papers.admit(*papers.documents.values(), memory=TrustMemory()).memory
    for anchor in ANCHORS:
        papers.say(anchor, SHANGHAI)
    revoked = papers.events(SHANGHAI, {lost(): compromised()})
    answer = papers.admit(*papers.documents.values(), events=[revoked], memory=backup)
    assert answer.memory.documents == papers.documents
    assert (SHANGHAI, lost()) in answer.memory.revocations


@pytest.mark.parametrize("place", [OWN, MEMBER], ids=["an anchor's", "a member's"])
def test_trap_13_an_empty_or_broken_offer_changes_nothing(papers: Papers, place: Place) -> None:
    memory = papers.admit().memory
    spoiled = papers.documents[place][:-4] + "AAAA"
    for offered in ((), (spoiled,), (papers.documents[place][:40],)):
        assert papers.admit(*offered, memory=memory).memory == memory


def test_an_unreadable_document_held_is_no_obstacle(papers: Papers) -> None:
    papers.documents[OWN] = "garbage"
    bundle = [papers.head(FIRST), *[token for token in papers.bundle(FIRST) if token != "garbage"]]
    assert papers.admit(*bundle).memory.documents[OWN] == bundle[0]
    with pytest.raises(Rejected):
        payload_digest("garbage")
