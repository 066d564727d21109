"""The memory against a small model: whatever is offered in whatever order, what may never be forgotten stays.

One anchor of four is hostile, one stranger forges a member's configurations and revocations, and every relay leaves out
and brings back what it likes. A second part throws damaged documents at admission: they are refused, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateway.core.admission import Offer, admit
from gateway.core.charter import Charter
from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.core.jose import SoftwareKey, sign_compact
from gateway.core.memory import RevocationReason, TrustMemory, merge
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.snapshot import (
    MAX_JUMP,
    Entry,
    Suspended,
    Vouched,
    Withdrawn,
    is_within_reach,
    payload_digest,
)
from gateway.core.trust import build_view
from tests.core.papers import (
    ANCHORS,
    JIANGSU,
    MINUTE,
    NOW,
    SHANGHAI,
    START,
    Papers,
    claims_of,
    compromised,
    key_of,
    superseded,
)
from tests.core.tokens import mutated, seeded

HOSTILE, *HONEST = ANCHORS
THIEF = key_of("a thief's")
FORGED = key_of("a forged credential key")
SPARE = [key_of(f"spare {number}").public.kid for number in range(4)]
numbers = st.sampled_from([1, START, START + 1, START + 40, START + MAX_JUMP, START + 2 * MAX_JUMP + 1])


class Memory(RuleBasedStateMachine):
    """Offers in random order."""

    def __init__(self) -> None:
        super().__init__()
        self.papers = Papers()
        self.papers.documents.clear()
        self.memory = TrustMemory()
        self.stored = TrustMemory()
        self.now = NOW
        self.pool: list[str] = []
        self.events: list[str] = []
        self.withdrawn: set[str] = set()
        """Honest anchors that withdrew Jiangsu."""
        self.revoked: set[str] = set()
        self.own: set[str] = set()
        """Configurations that Shanghai made itself."""
        self.firm = False
        """Whether one of these was held with a quorum's support."""
        for anchor in HONEST:
            self._speak(anchor, JIANGSU)
            self._speak(anchor, SHANGHAI)
        self.pool.append(self.papers.configuration(JIANGSU))
        self._publish()

    # -- who says what -------------------------------------------------------------------------------------------------

    def _head(self, anchor: str, entries: Mapping[str, Entry], **options: Any) -> None:
        token = self.papers.head(anchor, entries=entries, at=self.now, **options)
        self.papers.documents[anchor, anchor] = token
        self.pool.append(token)

    def _entries(self, anchor: str) -> dict[str, Entry]:
        entries = self.papers.entries(anchor)
        if anchor in self.withdrawn:
            entries[JIANGSU] = Withdrawn(revoked_at=NOW, reason="closed")
        return entries

    def _speak(self, anchor: str, member: str) -> None:
        token = self.papers.statement(anchor, member, at=self.now)
        self.papers.documents[anchor, member] = token
        self.pool.append(token)
        self._head(anchor, self._entries(anchor))

    def _publish(self, **options: Any) -> None:
        token = self.papers.configuration(SHANGHAI, at=self.now, **options)
        self.own.add(token)
        self.pool.append(token)

    @rule(anchor=st.sampled_from(HONEST), member=st.sampled_from([SHANGHAI, JIANGSU]))
    def an_anchor_speaks_anew(self, anchor: str, member: str) -> None:
        self._speak(anchor, member)

    @rule(anchor=st.sampled_from(HONEST))
    def an_anchor_suspends(self, anchor: str) -> None:
        away = Suspended(suspended_at=self.now, until=self.now + 5 * MINUTE, reason="under review")
        if anchor not in self.withdrawn:
            self._head(anchor, {**self._entries(anchor), JIANGSU: away})

    @rule(anchor=st.sampled_from(HONEST))
    def an_anchor_withdraws(self, anchor: str) -> None:
        self.withdrawn.add(anchor)
        self._head(anchor, self._entries(anchor))

    @rule()
    def the_member_publishes(self) -> None:
        self._publish()

    @rule(kid=st.sampled_from(SPARE), grave=st.booleans())
    def the_member_revokes(self, kid: str, grave: bool) -> None:
        self.revoked.add(kid)
        said = {each: compromised() if grave else superseded() for each in self.revoked}
        self.events.append(self.papers.events(SHANGHAI, said, at=self.now))

    # -- who lies ------------------------------------------------------------------------------------------------------

    @rule(
        seq=numbers,
        member=st.sampled_from([SHANGHAI, JIANGSU, "https://nobody.example"]),
        entry=st.sampled_from(["drop", "withdraw", "suspend", "invent", "forge"]),
    )
    def the_hostile_anchor_says_anything(self, seq: int, member: str, entry: str) -> None:
        entries = self.papers.entries(HOSTILE)
        entries.pop(member, None)
        match entry:
            case "withdraw":
                entries[member] = Withdrawn(revoked_at=NOW, reason="hostile")
            case "suspend":
                entries[member] = Suspended(suspended_at=NOW, until=NOW + 9 * MINUTE, reason="hostile")
            case "invent":
                entries[member] = Vouched(seq=seq, sha256="A" * 43)
            case "forge" if member == SHANGHAI:
                forged = self.papers.statement(
                    HOSTILE, SHANGHAI, keys=[FORGED], federation=[THIEF], at=self.now, seq=seq
                )
                self.papers.documents[HOSTILE, SHANGHAI] = forged
                entries[SHANGHAI] = Vouched(seq=seq, sha256=payload_digest(forged))
                self.pool.append(forged)
        self._head(HOSTILE, entries, seq=seq)

    @rule(seq=numbers, keys=st.sampled_from([[FORGED], []]))
    def a_stranger_forges_a_configuration(self, seq: int, keys: list[SoftwareKey]) -> None:
        self.pool.append(self.papers.configuration(SHANGHAI, keys=keys, signer=THIEF, at=self.now, seq=seq))

    @rule(seq=numbers)
    def a_stranger_forges_revocations(self, seq: int) -> None:
        kid = self.papers.credential_keys[SHANGHAI][0].public.kid
        for author in (SHANGHAI, JIANGSU):
            self.events.append(self.papers.events(author, {kid: compromised()}, signer=THIEF, seq=seq, at=self.now))

    # -- what reaches us -----------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def a_relay_offers_what_it_likes(self, data: st.DataObject) -> None:
        statements = data.draw(st.lists(st.sampled_from(self.pool), max_size=12))
        events = data.draw(st.lists(st.sampled_from(self.events), max_size=3)) if self.events else []
        self._admit(Offer(statements=statements, events=events))

    @rule()
    def a_relay_offers_all(self) -> None:
        self._admit(Offer(statements=self.pool[-100:], events=self.events[-20:]))

    @rule(minutes=st.sampled_from([-30, -1, 1, 3, 11, 90]))
    def the_clock_moves(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def the_gateway_restarts(self) -> None:
        self.memory = self.stored

    def _admit(self, offer: Offer) -> None:
        before = self.memory
        answer = admit(self.papers.charter, before, offer, self.now)
        # As the store adds it: a graver revocation takes the place of a milder one.
        stored = merge(self.stored, answer.change)
        self.stored = replace(stored, revocations={**stored.revocations, **answer.change.revocations})
        self.memory = answer.memory
        _check_forward(before, self.memory, self.now)
        if before.clock_floor is not None and self.now < before.clock_floor - MINUTE:
            assert self.memory == before
            assert [alarm.reason for alarm in answer.alarms] == [Reason.CLOCK_REGRESSED]
            return
        accused = {alarm.issuer for alarm in answer.alarms if alarm.reason is Reason.EQUIVOCATION}
        assert accused <= {HOSTILE}
        again = admit(self.papers.charter, self.memory, offer, self.now).change
        assert not any((again.revocations, again.withdrawals, again.equivocations))

    # -- what must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def what_is_stored_is_what_is_remembered(self) -> None:
        assert self.stored == self.memory

    @invariant()
    def only_who_lies_is_caught_and_only_who_withdrew_has_withdrawn(self) -> None:
        assert {anchor for anchor, _ in self.memory.equivocations} <= {HOSTILE}
        assert {anchor for anchor, _, _ in self.memory.withdrawals} <= {HOSTILE} | self.withdrawn
        assert all(member == JIANGSU for anchor, _, member in self.memory.withdrawals if anchor != HOSTILE)
        assert set(self.memory.revocations) <= {(SHANGHAI, kid) for kid in self.revoked}

    @invariant()
    def a_strangers_word_is_never_taken_for_the_members(self) -> None:
        view = build_view(self.papers.charter, self.memory, self.now)
        issuer = view.issuer(SHANGHAI)
        assert FORGED.public.kid not in issuer.keys
        assert THIEF.public.kid not in view.federation_keys(SHANGHAI)
        said = view.issuer(JIANGSU).votes
        withdrawn = {anchor for anchor, _, member in self.memory.withdrawals if member == JIANGSU}
        assert all(vote.withdrawn for vote in said if vote.anchor in withdrawn)
        kid = self.papers.credential_keys[SHANGHAI][0].public.kid
        # A good key is never refused for good, whatever one anchor, a stranger and the relays do.
        try:
            view.credential_key(SHANGHAI, kid, self.now)
        except Indeterminate:
            pass
        except Rejected as rejection:
            pytest.fail(f"a good key was refused: {rejection}")
        held = self.memory.documents.get((SHANGHAI, SHANGHAI))
        self.firm = self.firm or (held in self.own and len(issuer.keys) > 0)
        assert not self.firm or held in self.own


def _check_forward(before: TrustMemory, after: TrustMemory, now: datetime) -> None:
    for place, token in before.documents.items():
        # A number that the clock, set back, has not reached yet binds nobody.
        if place[0] in ANCHORS and is_within_reach(claims_of(token)["seq"], now):
            assert claims_of(after.documents[place])["seq"] >= claims_of(token)["seq"]
    for place, revocation in before.revocations.items():
        same = replace(after.revocations[place], attested=revocation.attested) == revocation
        assert same or (
            after.revocations[place].reason is RevocationReason.COMPROMISED
            and revocation.reason is RevocationReason.SUPERSEDED
        )
        assert after.revocations[place].attested >= revocation.attested
    assert before.withdrawals.items() <= after.withdrawals.items()
    assert before.equivocations.items() <= after.equivocations.items()
    if before.clock_floor is not None:
        assert after.clock_floor is not None
        assert after.clock_floor >= before.clock_floor


@pytest.mark.parametrize("examples", [15, pytest.param(300, marks=pytest.mark.long)])
def test_what_may_never_be_forgotten_stays(examples: int) -> None:
    health = list(HealthCheck)  # a step signs and verifies; it is slow, and there are enough of them
    run_state_machine_as_test(
        Memory,
        settings=settings(max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=health),
    )


# -- damaged documents ------------------------------------------------------------------------------------------------

PAPERS = Papers()
WHOLE = PAPERS.admit(*PAPERS.documents.values(), memory=TrustMemory()).memory


def refused(charter: Charter, offer: Offer) -> None:
    answer = admit(charter, WHOLE, offer, NOW)
    assert answer.memory == WHOLE
    assert answer.alarms == ()


@given(st.lists(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")), max_size=5))
@settings(deadline=None)
def test_random_texts_are_refused_and_nothing_else(texts: list[str]) -> None:
    refused(PAPERS.charter, Offer(statements=texts, events=texts))


def test_damaged_documents_are_refused_and_nothing_else() -> None:
    rng = seeded(3)
    tokens = [*PAPERS.documents.values(), PAPERS.events(SHANGHAI, {SPARE[0]: compromised()})]
    for _ in range(600):
        token = rng.choice(tokens)
        head, payload, signature = token.split(".")
        spoiled = b64url_encode(mutated(b64url_decode(payload), rng))
        damaged = [f"{head}.{spoiled}.{signature}", mutated(token.encode(), rng).decode("latin-1")]
        damaged = [each for each in damaged if each not in tokens]
        refused(PAPERS.charter, Offer(statements=damaged, events=damaged))


VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    2**53 - 1,
    "",
    "x" * 300,
    [],
    [[]],
    {},
    {"members": {"": {}}},
    [{"kid": 1}],
]


def paths(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [way] if way else []
    if isinstance(value, dict):
        for name in value:
            found += paths(value[name], (*way, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += paths(item, (*way, index))
    return found


@pytest.mark.parametrize("author", ["an anchor", "a member", "an anchor about a member", "a member's revocations"])
def test_an_author_that_writes_nonsense_breaks_nothing(author: str) -> None:
    """Well signed, one member of the payload replaced by something else or left out: judged, and never an error."""
    first = ANCHORS[0]
    token, key = {
        "an anchor": (PAPERS.documents[first, first], PAPERS.anchor_keys[first]),
        "a member": (PAPERS.documents[SHANGHAI, SHANGHAI], PAPERS.federation_keys[SHANGHAI]),
        "an anchor about a member": (PAPERS.documents[first, SHANGHAI], PAPERS.anchor_keys[first]),
        "a member's revocations": (
            PAPERS.events(SHANGHAI, {SPARE[0]: compromised()}),
            PAPERS.federation_keys[SHANGHAI],
        ),
    }[author]
    typ = json.loads(b64url_decode(token.split(".")[0]))["typ"]
    original = json.dumps(claims_of(token))
    for number, way in enumerate(paths(json.loads(original))):
        # Left out, and some of the values each time: over the many places, each value comes to stand in many.
        for value in (..., *(VALUES[(number + step) % len(VALUES)] for step in (0, 5, 9))):
            claims = json.loads(original)
            place = claims
            for step in way[:-1]:
                place = place[step]
            if value is ...:
                del place[way[-1]]
            else:
                place[way[-1]] = value
            nonsense = sign_compact(typ, claims, key)
            answer = admit(PAPERS.charter, WHOLE, Offer(statements=[nonsense], events=[nonsense]), NOW)
            build_view(PAPERS.charter, answer.memory, NOW) if answer.change.documents else None
            _check_forward(WHOLE, answer.memory, NOW)
            others = {place: each for place, each in WHOLE.documents.items() if place[0] not in (first, SHANGHAI)}
            assert others.items() <= answer.memory.documents.items()
