"""What is on disk comes back as it was, only grows where it must only grow, and is all there or not at all."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.consent import Consent
from gateway.core.entries import (
    Entry,
    Erasure,
    Keep,
    Kind,
    SealedEntry,
    TrustChange,
    Verification,
    log_entry,
    retention_entry,
    seal,
    trust_entry,
    verification_entry,
)
from gateway.core.jose import generate_key
from gateway.core.key_schedule import KeyPurpose, KeyRecord, KeyState
from gateway.core.memory import Equivocation, Revocation, RevocationReason, TrustMemory, Withdrawal, merge
from gateway.core.vouching import MemberRecord, PendingChange, Suspension
from gateway.storage import (
    Committed,
    ConsentUse,
    EntryQuery,
    Fork,
    HeldCheckpoint,
    HeldStatusList,
    KeyEvent,
    LedgerEntry,
    Outcome,
    Override,
    StorageError,
    StoredEntry,
)
from gateway.storage import postgres as postgres_module
from gateway.storage import sqlite as sqlite_module
from gateway.storage.sqlite import SqliteStore
from gateway.storage.stores import Stores
from tests.stores import KINDS, Place, SqlitePlace, place_of

NOW = datetime(2026, 11, 23, 1, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ANCHOR, MEMBER = "https://anchor.sh.example", "https://issuer.sh.example"

SUPERSEDED = Revocation(revoked_at=NOW, reason=RevocationReason.SUPERSEDED)
COMPROMISED = Revocation(
    revoked_at=NOW + SECOND, reason=RevocationReason.COMPROMISED, compromised_since=NOW - timedelta(days=1)
)
FULL = TrustMemory(
    documents={(ANCHOR, ANCHOR): "a.b.c", (ANCHOR, MEMBER): "d.e.f"},
    events={MEMBER: "g.h.i"},
    revocations={(MEMBER, "k1"): SUPERSEDED, (MEMBER, "k2"): replace(COMPROMISED, attested=True)},
    withdrawals={(ANCHOR, "t1", MEMBER): Withdrawal(revoked_at=NOW, reason="公示撤回")},
    equivocations={(ANCHOR, "t1"): Equivocation(one="x", other="y")},
    clock_floor=NOW,
)


@pytest.fixture
def stores(place: Place) -> Stores:
    return place.open()


# -- the memory of trust ----------------------------------------------------------------------------------------------


def test_a_fresh_store_remembers_nothing(stores: Stores) -> None:
    assert stores.trust.load_memory() == TrustMemory()
    assert stores.trust.load_charters() == {}
    assert stores.anchor.load_members() == {}
    assert stores.keys.load_keys() == []
    assert stores.trust.load_view(NOW) is None


def test_what_was_remembered_is_there_after_a_restart(place: Place, stores: Stores) -> None:
    stores.trust.save_memory(FULL)
    assert place.open().trust.load_memory() == FULL


@pytest.mark.parametrize(
    "change",
    [
        TrustMemory(documents={(ANCHOR, MEMBER): "new"}),
        TrustMemory(events={MEMBER: "new"}),
        TrustMemory(revocations={(MEMBER, "k3"): COMPROMISED}),
        TrustMemory(revocations={(MEMBER, "k1"): replace(SUPERSEDED, revoked_at=NOW + SECOND)}),
        TrustMemory(revocations={(MEMBER, "k1"): replace(SUPERSEDED, revoked_at=NOW - SECOND)}),
        TrustMemory(revocations={(MEMBER, "k1"): replace(SUPERSEDED, revoked_at=NOW + SECOND, attested=True)}),
        TrustMemory(revocations={(MEMBER, "k1"): COMPROMISED}),
        TrustMemory(revocations={(MEMBER, "k2"): SUPERSEDED}),
        TrustMemory(withdrawals={(ANCHOR, "t1", MEMBER): Withdrawal(revoked_at=NOW + SECOND, reason="again")}),
        TrustMemory(withdrawals={(ANCHOR, "t2", MEMBER): Withdrawal(revoked_at=NOW + SECOND, reason="again")}),
        TrustMemory(equivocations={(ANCHOR, "t1"): Equivocation(one="z", other="y")}),
        TrustMemory(clock_floor=NOW + SECOND),
        TrustMemory(clock_floor=NOW - SECOND),
    ],
)
def test_adding_on_disk_is_adding_in_memory(stores: Stores, change: TrustMemory) -> None:
    stores.trust.save_memory(FULL)
    stores.trust.save_memory(change)
    assert stores.trust.load_memory() == merge(FULL, change)


def test_a_superseded_key_becomes_compromised_and_never_back(stores: Stores) -> None:
    place = (MEMBER, "k1")
    for revocation in (SUPERSEDED, COMPROMISED, SUPERSEDED):
        stores.trust.save_memory(TrustMemory(revocations={place: revocation}))
    assert stores.trust.load_memory().revocations[place] == COMPROMISED


def test_the_clock_floor_is_forgotten_when_people_say_so(stores: Stores) -> None:
    stores.trust.save_memory(FULL)
    stores.trust.reset_clock_floor()
    assert stores.trust.load_memory() == replace(FULL, clock_floor=None)


def test_a_change_is_written_whole_or_not_at_all(place: Place, stores: Stores) -> None:
    stores.trust.save_memory(FULL)
    place.ask("DROP TABLE clock_floor")
    with pytest.raises(StorageError):
        stores.trust.save_memory(TrustMemory(documents={(ANCHOR, MEMBER): "new"}, clock_floor=NOW + SECOND))
    kept = place.ask("SELECT subject, token FROM documents")
    assert (MEMBER, "d.e.f") in kept


def test_a_charter_once_written_stays(stores: Stores) -> None:
    for version, document in ((2, "two"), (1, "one"), (2, "another")):
        stores.trust.save_charter(version, document)
    assert list(stores.trust.load_charters().items()) == [(1, "one"), (2, "two")]


def test_a_view_is_found_by_the_time_it_was_in_force(stores: Stores) -> None:
    later = NOW + timedelta(hours=1)
    for at, summary in ((NOW, "first"), (NOW + SECOND, "first"), (later, "second")):
        stores.trust.save_view(at, summary)
    assert stores.trust.load_view(NOW - SECOND) is None
    assert stores.trust.load_view(NOW) == (NOW, "first")
    assert stores.trust.load_view(later - SECOND) == (NOW, "first")
    assert stores.trust.load_view(later + SECOND) == (later, "second")


# -- the anchor -------------------------------------------------------------------------------------------------------

BARE = MemberRecord(federation_keys=frozenset({"f1"}))
RICH = MemberRecord(
    federation_keys=frozenset({"f1", "f2"}),
    credential_keys=frozenset({"c1"}),
    spent_keys=frozenset({"s1"}),
    seq=7,
    digest="digest",
    approved=frozenset({"a1"}),
    rejected=frozenset({"r1"}),
    pending=PendingChange(
        change_id="change", federation_keys=frozenset({"f3"}), credential_keys=frozenset(), seen_at=NOW
    ),
    suspension=Suspension(suspended_at=NOW, until=NOW + timedelta(days=1), reason="停用"),
    withdrawal=Withdrawal(revoked_at=NOW, reason="撤回"),
    withdrawal_signer="t1",
)


def test_members_and_statements_are_written_together(place: Place, stores: Stores) -> None:
    stores.anchor.save_anchor({MEMBER: BARE}, {(ANCHOR, MEMBER): "one"})
    stores.anchor.save_anchor({MEMBER: RICH, ANCHOR: BARE}, {(ANCHOR, ANCHOR): "two"})
    assert place.open().anchor.load_members() == {MEMBER: RICH, ANCHOR: BARE}
    assert place.open().trust.load_memory().documents == {(ANCHOR, MEMBER): "one", (ANCHOR, ANCHOR): "two"}


def test_a_record_without_its_statement_is_not_written(place: Place, stores: Stores) -> None:
    place.ask("DROP TABLE documents")
    with pytest.raises(StorageError):
        stores.anchor.save_anchor({MEMBER: BARE}, {(ANCHOR, MEMBER): "one"})
    assert stores.anchor.load_members() == {}


# -- keys -------------------------------------------------------------------------------------------------------------


def key_record(**changes: object) -> KeyRecord:
    fresh = KeyRecord(key=generate_key().public, purpose=KeyPurpose.CREDENTIAL, state=KeyState.STAGED, staged_at=NOW)
    return replace(fresh, **changes)  # type: ignore[arg-type]


def test_keys_come_back_oldest_first_and_as_they_were(place: Place, stores: Stores) -> None:
    times = (
        "published_at",
        "activated_at",
        "drained_at",
        "retired_at",
        "revoked_at",
        "compromised_since",
    )
    full = key_record(
        state=KeyState.REVOKED,
        reason=RevocationReason.COMPROMISED,
        signed_until=NOW + timedelta(days=9),
        **{name: NOW + number * SECOND for number, name in enumerate(times)},
    )
    records = [full, key_record(), key_record(purpose=KeyPurpose.STATUS)]
    stores.keys.save_keys(records, [])
    assert place.open().keys.load_keys() == records


def test_the_mark_until_when_a_key_signed_is_never_lowered(stores: Stores) -> None:
    record = key_record()
    stores.keys.save_keys([record], [])
    for days in (3, 1):
        stores.keys.raise_signed_until(record.key.kid, NOW + timedelta(days=days))
    # Whoever read the record before the first signature and writes it back undoes nothing.
    stores.keys.save_keys([replace(record, state=KeyState.PUBLISHED)], [])
    (kept,) = stores.keys.load_keys()
    assert (kept.state, kept.signed_until) == (KeyState.PUBLISHED, NOW + timedelta(days=3))


def test_a_request_is_done_together_with_what_it_did(stores: Stores) -> None:
    record = key_record()
    event = KeyEvent(at=NOW, kid=record.key.kid, purpose=record.purpose, event="staged", administrator="a")
    stores.keys.save_keys([record], [event], "request-1")
    assert stores.keys.is_done("request-1")
    assert not stores.keys.is_done("request-2")
    with pytest.raises(StorageError):
        stores.keys.save_keys([replace(record, state=KeyState.PUBLISHED)], [event], "request-1")
    assert stores.keys.load_keys() == [record]
    assert stores.keys.load_key_events() == [event]
    assert stores.keys.load_key_events("another") == []


def test_a_wish_takes_the_place_of_the_one_before(stores: Stores) -> None:
    first = Override(kid="k", administrator="one", justification="why", asked_at=NOW)
    second = replace(first, administrator="two")
    stores.keys.save_override(first)
    stores.keys.save_override(second)
    assert stores.keys.load_override("k") == second
    assert stores.keys.load_override("other") is None


# -- the ledger -------------------------------------------------------------------------------------------------------


def verification(
    number: int, *, verdict: str = "accepted", kid: str = "k", at: datetime = NOW, person: str = ""
) -> SealedEntry:
    return seal(
        verification_entry(
            Verification(
                verification_id=f"v{number}",
                decided_at=at,
                service="https://gateway.ah.example/services/counter",
                caller_certificate="c",
                matter="m",
                verdict=verdict,
                reason="" if verdict == "accepted" else "replayed",
                issuer=MEMBER,
                kid=kid,
                charter_version=1,
                charter_sha256="",
                view_id="view",
            )
        ),
        person=person,
    )


def decision(
    number: int,
    *,
    key: str | None = None,
    consent: ConsentUse | None = None,
    request: str = "",
    at: datetime = NOW,
    person: str = "",
) -> LedgerEntry:
    return LedgerEntry(
        entry=verification(number, at=at, person=person),
        otherwise=lambda against: verification(number, verdict=against.name.lower(), at=at),
        replay_key=key,
        replay_until=None if key is None else at + SECOND,
        request=request,
        consent=consent,
    )


def test_accepted_presentations_of_a_key_are_counted(stores: Stores) -> None:
    entries = [
        verification(1),
        verification(2, at=NOW - timedelta(days=2)),
        verification(3, verdict="rejected"),
        verification(4, kid="other"),
    ]
    stores.log.commit([LedgerEntry(entry=each) for each in entries])
    assert stores.keys.accepted_count(MEMBER, "k", None) == 2
    assert stores.keys.accepted_count(MEMBER, "k", NOW - timedelta(days=1)) == 1
    assert stores.keys.accepted_count(ANCHOR, "k", None) == 0


def outcomes(committed: Sequence[Committed]) -> list[Outcome]:
    return [each.outcome for each in committed]


def test_a_replay_key_is_good_once_also_within_a_group(stores: Stores) -> None:
    first = stores.log.commit([decision(1, key="r"), decision(2, key="r"), decision(3, key="s")])
    assert outcomes(first) == [Outcome.WRITTEN, Outcome.REPLAYED, Outcome.WRITTEN]
    assert outcomes(stores.log.commit([decision(4, key="r")])) == [Outcome.REPLAYED]
    (log,) = stores.log.logs()
    written = stores.log.read_entries(log.log_id, 0, 9)
    assert [each.index.verdict for each in written] == ["accepted", "replayed", "accepted", "replayed"]
    assert stores.log.forget_replays(NOW + 2 * SECOND) == 2
    assert outcomes(stores.log.commit([decision(5, key="r")])) == [Outcome.WRITTEN]


def test_finding_out_whether_anything_can_be_written_changes_nothing(stores: Stores) -> None:
    stores.log.commit([decision(1)])
    (before,) = stores.log.logs()
    held = stores.log.read_entries(before.log_id, 0, 9)
    stores.log.check_writable()
    assert stores.log.logs() == [before]
    assert stores.log.read_entries(before.log_id, 0, 9) == held
    assert stores.log.commit([decision(2)])[0].position == before.size


def test_a_replay_key_is_kept_until_its_time_is_over(stores: Stores) -> None:
    stores.log.commit([decision(1, key="r")])
    assert stores.log.forget_replays(NOW + SECOND) == 0
    assert outcomes(stores.log.commit([decision(2, key="r")])) == [Outcome.REPLAYED]


def asked(number: int, request: str = "q", *, key: str = "r", **members: Any) -> LedgerEntry:
    """What is decided of a question that may be asked again."""
    return decision(number, key=key, request=request, **members)


def test_what_is_asked_again_is_what_was_written_first(place: Place, stores: Stores) -> None:
    stores.log.commit([decision(0)])
    (first,) = stores.log.commit([asked(1)])
    written = Committed(outcome=Outcome.WRITTEN, log_id=first.log_id, position=1)
    assert first == written
    repeated = replace(written, outcome=Outcome.REPEATED, first=verification(1).raw)
    assert stores.log.commit([asked(2)]) == [repeated]
    # By another process, and among others, whose positions are without a gap.
    found = place.open().log.commit([decision(3), asked(4), asked(5, "another"), decision(6)])
    assert [(each.outcome, each.position) for each in found] == [
        (Outcome.WRITTEN, 2),
        (Outcome.REPEATED, 1),
        (Outcome.REPLAYED, 3),
        (Outcome.WRITTEN, 4),
    ]
    names = [each.index.entry_id for each in stores.log.read_entries(first.log_id, 0, 9)]
    assert names == ["v0", "v1", "v3", "v5", "v6"]


def test_within_a_group_the_second_is_the_first(stores: Stores) -> None:
    found = stores.log.commit([decision(0), asked(1), asked(2), decision(3), asked(4), asked(5, "")])
    assert [(each.outcome, each.position) for each in found] == [
        (Outcome.WRITTEN, 0),
        (Outcome.WRITTEN, 1),
        (Outcome.REPEATED, 1),
        (Outcome.WRITTEN, 2),
        (Outcome.REPEATED, 1),
        (Outcome.REPLAYED, 3),
    ]
    assert found[2].first == found[4].first == verification(1).raw
    assert size_of(stores) == 4


@pytest.mark.parametrize(
    "again",
    [asked(2, "another"), asked(2, ""), asked(2, at=NOW + 61 * SECOND), asked(2, person="he")],
    ids=["another question", "without a name", "too late", "of another person"],
)
def test_what_is_not_the_same_is_a_replay(stores: Stores, again: LedgerEntry) -> None:
    stores.log.commit([asked(1)])
    assert outcomes(stores.log.commit([again])) == [Outcome.REPLAYED]
    assert outcomes(stores.log.commit([asked(3)])) == [Outcome.REPEATED]


def test_it_is_found_across_midnight_whichever_clock_is_ahead(stores: Stores) -> None:
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    for number, times in enumerate([(midnight - SECOND, midnight), (midnight, midnight - SECOND)]):
        key = f"r{number}"
        found = [stores.log.commit([asked(10 * number + each, key=key, at=at)]) for each, at in enumerate(times)]
        assert [outcomes(each) for each in found] == [[Outcome.WRITTEN], [Outcome.REPEATED]]


def test_what_its_consent_does_not_carry_any_more_is_a_replay(stores: Stores) -> None:
    stores.consents.save_consent(CONSENT)
    stores.log.commit([asked(1, consent=use("xu"))])
    assert outcomes(stores.log.commit([asked(2, consent=use("xu"))])) == [Outcome.REPEATED]
    assert outcomes(stores.log.commit([asked(3, consent=use("he"))])) == [Outcome.REPLAYED]
    stores.consents.withdraw_consent("c1", CONSENT.service, NOW)
    assert outcomes(stores.log.commit([asked(4, consent=use("xu"))])) == [Outcome.REPLAYED]


def test_what_a_consent_did_not_carry_the_first_time_is_a_replay(stores: Stores) -> None:
    stores.consents.save_consent(CONSENT)
    stores.log.commit([decision(0, consent=use("he"))])
    assert outcomes(stores.log.commit([asked(1, consent=use("xu"))])) == [Outcome.CONSENT_OF_ANOTHER]
    assert outcomes(stores.log.commit([asked(2, consent=use("he"))])) == [Outcome.REPLAYED]
    group = [asked(3, key="s", consent=use("xu")), asked(4, key="s", consent=use("he"))]
    assert outcomes(stores.log.commit(group)) == [Outcome.CONSENT_OF_ANOTHER, Outcome.REPLAYED]


def test_of_a_log_that_was_replaced_nothing_is_repeated(stores: Stores) -> None:
    stores.log.commit([asked(1)])
    stores.log.begin_log(NOW, "another", 9)
    assert outcomes(stores.log.commit([asked(2)])) == [Outcome.REPLAYED]


def test_processes_that_are_asked_the_same_at_once_write_it_once(place: Place) -> None:
    both = [place.open(), place.open()]

    def ask(number: int) -> Sequence[Committed]:
        return both[number % 2].log.commit([asked(100 * number + each, key=f"r{each}") for each in range(10)])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(8)))
    for each in zip(*found, strict=True):
        assert sorted(one.outcome.name for one in each) == ["REPEATED"] * 7 + ["WRITTEN"]
        assert len({one.position for one in each}) == 1
        assert len({one.first for one in each} - {None}) == 1
    assert size_of(both[0]) == 10


Asks = Sequence[Sequence[tuple[str, str, int]]]
"""Groups of questions: what they use up, which they are, and how many seconds after the first they are asked."""


@settings(max_examples=30)
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("rs"), st.sampled_from(["", "q", "p"]), st.integers(0, 90)),
            min_size=1,
            max_size=4,
        ),
        max_size=8,
    )
)
def test_in_whatever_order_only_who_asks_the_first_again_is_told_and_nothing_is_written_of_it(
    tmp_path_factory: pytest.TempPathFactory, groups: Asks
) -> None:
    place = SqlitePlace(tmp_path_factory.mktemp("asks") / "gateway.sqlite")
    log = place.open().log
    firsts: dict[str, tuple[str, int, int]] = {}
    size = number = 0
    for group in groups:
        items: list[LedgerEntry] = []
        expected: list[tuple[Outcome, int]] = []
        for key, request, late in group:
            number += 1
            items.append(asked(number, request, key=key, at=NOW + late * SECOND))
            first_request, first_late, position = firsts.setdefault(key, (request, late, size))
            if position == size:
                expected.append((Outcome.WRITTEN, size))
            elif first_request == request != "" and abs(late - first_late) <= 60:
                expected.append((Outcome.REPEATED, position))
                continue
            else:
                expected.append((Outcome.REPLAYED, size))
            size += 1
        assert [(each.outcome, each.position) for each in log.commit(items)] == expected
    place.close()


CONSENT = Consent(
    consent_id="c1",
    service="https://gateway.ah.example/services/counter",
    matter="m",
    claims=frozenset({"name"}),
    recorded_at=NOW,
    expires_at=NOW + timedelta(days=1),
)


def use(subject: str, previous: str = "", consent_id: str = "c1") -> ConsentUse:
    return ConsentUse(consent_id=consent_id, subject=subject, previous_subject=previous)


def test_a_consent_is_of_the_first_person_whom_it_is_used_for(stores: Stores) -> None:
    stores.consents.save_consent(CONSENT)
    group = [decision(1, consent=use("xu")), decision(2, consent=use("he")), decision(3, consent=use("xu"))]
    assert outcomes(stores.log.commit(group)) == [Outcome.WRITTEN, Outcome.CONSENT_OF_ANOTHER, Outcome.WRITTEN]
    # The key of the references was replaced: it is the same person.
    assert outcomes(stores.log.commit([decision(4, consent=use("xu by the new key", "xu"))])) == [Outcome.WRITTEN]
    assert outcomes(stores.log.commit([decision(5, consent=use("xu"))])) == [Outcome.CONSENT_OF_ANOTHER]


def test_what_is_replayed_uses_no_consent_up(stores: Stores) -> None:
    stores.consents.save_consent(CONSENT)
    group = [decision(1, key="r"), decision(2, key="r", consent=use("xu")), decision(3, consent=use("he"))]
    assert outcomes(stores.log.commit(group)) == [Outcome.WRITTEN, Outcome.REPLAYED, Outcome.WRITTEN]


def test_a_consent_that_is_withdrawn_or_gone_carries_nothing(stores: Stores) -> None:
    stores.consents.save_consent(CONSENT)
    assert stores.consents.withdraw_consent("c1", CONSENT.service, NOW) == NOW
    group = [decision(1, consent=use("xu")), decision(2, consent=use("xu", consent_id="none"))]
    assert outcomes(stores.log.commit(group)) == [Outcome.CONSENT_WITHDRAWN] * 2


def test_a_consent_is_withdrawn_once_and_by_its_service_alone(stores: Stores) -> None:
    stores.consents.save_consent(CONSENT, [TRUST])
    assert stores.consents.load_consent("c1") == CONSENT
    assert stores.consents.withdraw_consent("c1", "https://another.example", NOW, [TRUST]) is None
    assert stores.consents.withdraw_consent("c1", CONSENT.service, NOW, [TRUST]) == NOW
    assert stores.consents.withdraw_consent("c1", CONSENT.service, NOW + SECOND, [TRUST]) == NOW
    assert stores.consents.load_consent("c1") == replace(CONSENT, withdrawn_at=NOW)
    assert size_of(stores) == 2


# -- the log ----------------------------------------------------------------------------------------------------------

TRUST = seal(trust_entry(TrustChange.CLOCK, at=NOW, subject="clock", event="reset", administrator="a"))


def size_of(stores: Stores) -> int:
    return stores.log.logs()[-1].size


def positions(entries: Sequence[StoredEntry]) -> list[int]:
    return [each.position for each in entries]


def fill(stores: Stores, entries: Sequence[SealedEntry]) -> str:
    """Write entries, have their tree built, and name the log."""
    stores.log.append(entries)
    log = stores.log.logs()[-1]
    stores.log.save_tree(log.log_id, log.size, {})
    return log.log_id


def test_a_decision_stands_where_it_is_said_to_stand(stores: Stores) -> None:
    (log,) = stores.log.logs()
    stores.log.append([TRUST])
    committed = stores.log.commit([decision(1), decision(2)])
    assert [(each.log_id, each.position) for each in committed] == [(log.log_id, 1), (log.log_id, 2)]
    assert [(each.position, each.raw) for each in stores.log.read_entries(log.log_id, 1, 2)] == [
        (1, verification(1).raw)
    ]
    assert stores.log.find_entry("v2") == StoredEntry(
        log_id=log.log_id, position=2, raw=verification(2).raw, index=verification(2).index
    )
    assert stores.log.find_entry("none") is None
    assert stores.log.find_entry("") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda stores: stores.trust.save_memory(TrustMemory(clock_floor=NOW), [TRUST]),
        lambda stores: stores.trust.reset_clock_floor([TRUST]),
        lambda stores: stores.trust.save_charter(1, "one", [TRUST]),
        lambda stores: stores.anchor.save_anchor({MEMBER: BARE}, {}, [TRUST]),
        lambda stores: stores.consents.save_consent(CONSENT, [TRUST]),
        lambda stores: stores.register.write([], [TRUST]),
        lambda stores: stores.log.append([TRUST]),
    ],
    ids=["memory", "clock", "charter", "anchor", "consent", "register", "log"],
)
def test_a_change_is_in_the_log_or_is_not_made(
    place: Place, stores: Stores, change: Callable[[Stores], object]
) -> None:
    change(stores)
    assert size_of(stores) == 1
    log = stores.log.logs()[-1]
    (written,) = stores.log.read_entries(log.log_id, 0, 1)
    assert (written.raw, written.index) == (TRUST.raw, TRUST.index)
    place.ask("ALTER TABLE entries RENAME TO elsewhere")
    memory, charters = stores.trust.load_memory(), stores.trust.load_charters()
    with pytest.raises(StorageError):
        change(stores) if not charters else stores.trust.save_charter(2, "two", [TRUST])
    assert (stores.trust.load_memory(), stores.trust.load_charters()) == (memory, charters)
    assert size_of(stores) == 1


def test_entries_are_found_by_what_they_are_about(stores: Stores) -> None:
    log_id = fill(
        stores,
        [
            verification(0, person="xu"),
            TRUST,
            verification(2, verdict="rejected", at=NOW - timedelta(days=40)),
            verification(3, person="he", at=NOW + timedelta(days=1)),
            verification(4, person="xu", at=NOW + timedelta(days=50)),
        ],
    )

    def found(query: EntryQuery, limit: int = 9, **order: Any) -> list[int]:
        return positions(stores.log.list_entries(query, limit, **order))

    assert found(EntryQuery()) == [0, 1, 2, 3, 4]
    assert found(EntryQuery(), newest_first=True) == [4, 3, 2, 1, 0]
    assert found(EntryQuery(), 2) == [0, 1]
    assert found(EntryQuery(), 2, after=(log_id, 1)) == [2, 3]
    assert found(EntryQuery(), 2, after=(log_id, 3), newest_first=True) == [2, 1]
    assert found(EntryQuery(persons=("xu", "li"))) == [0, 4]
    assert found(EntryQuery(persons=("xu",), until=NOW + timedelta(days=50))) == [0]
    assert found(EntryQuery(verdict="accepted", since=NOW + SECOND)) == [3, 4]
    assert found(EntryQuery(kinds=("trust",))) == [1]
    assert found(EntryQuery(kinds=("verification",), verdict="rejected")) == [2]
    assert found(EntryQuery(reason="replayed", matter="m", issuer=MEMBER, kid="k")) == [2]
    assert found(EntryQuery(service="https://another.example")) == []
    assert found(EntryQuery(verification_id="v3")) == [3]


def test_entries_of_a_hundred_days_are_read_in_order(stores: Stores) -> None:
    # Clocks differ: days are not strictly one after the other.
    days = [(number * 7) % 100 for number in range(100)]
    log_id = fill(stores, [verification(day, at=NOW + timedelta(days=day)) for day in days])
    assert [each.index.entry_id for each in stores.log.read_entries(log_id, 0, 100)] == [f"v{day}" for day in days]
    assert positions(stores.log.list_entries(EntryQuery(), 100)) == list(range(100))
    assert positions(stores.log.list_entries(EntryQuery(), 40, newest_first=True)) == list(range(99, 59, -1))


def test_what_is_over_is_erased_and_said_to_be(stores: Stores) -> None:
    old, new = NOW - timedelta(days=10), NOW
    log_id = fill(
        stores,
        [
            verification(0, at=old),
            verification(1, at=old, verdict="rejected"),
            TRUST,
            verification(3, at=old, verdict="rejected"),
            verification(4, at=old + timedelta(days=1), verdict="rejected"),
            verification(5, at=new, verdict="rejected"),
        ],
    )
    erasure = stores.log.erase(Keep.SECURITY, new, NOW)
    assert erasure == Erasure(keep=Keep.SECURITY, before=new, positions=(range(1, 2), range(3, 5)))
    assert positions(stores.log.read_entries(log_id, 0, 9)) == [0, 2, 5, 6]
    assert stores.log.read_entries(log_id, 6, 7)[0].raw == seal(retention_entry(erasure, at=NOW)).raw
    assert stores.log.erase(Keep.SECURITY, new, NOW) is None
    assert stores.log.erase(Keep.PERMANENT, NOW - timedelta(days=1), NOW) is None
    # There is room again for whoever comes late.
    stores.log.append([verification(7, at=old, verdict="rejected")])
    assert positions(stores.log.read_entries(log_id, 0, 9)) == [0, 2, 5, 6, 7]


def test_what_is_over_within_a_day_is_erased_to_the_second(stores: Stores) -> None:
    log_id = fill(stores, [verification(number, at=NOW + number * SECOND) for number in range(3)])
    erasure = stores.log.erase(Keep.DISCLOSURE, NOW + SECOND, NOW)
    assert erasure is not None
    assert erasure.positions == (range(1),)
    assert positions(stores.log.read_entries(log_id, 0, 3)) == [1, 2]


def test_the_evidence_of_a_dispute_is_kept_as_long_as_the_dispute(stores: Stores) -> None:
    fill(stores, [])
    for number, at in ((0, NOW), (1, NOW + SECOND)):
        opened = seal(Entry(kind=Kind.DISPUTE, at=at, entry_id=f"d{number}", body={"verification_id": "v"}))
        stores.log.save_dispute(f"d{number}", b"evidence", opened)
    (log,) = stores.log.logs()
    stores.log.save_tree(log.log_id, log.size, {})
    stores.log.erase(Keep.DISCLOSURE, NOW + SECOND, NOW)
    assert [stores.log.load_evidence(f"d{number}") for number in (0, 1)] == [None, b"evidence"]


def test_what_is_not_in_the_tree_is_not_erased(stores: Stores) -> None:
    fill(stores, [verification(0)])
    stores.log.append([verification(1)])
    erasure = stores.log.erase(Keep.DISCLOSURE, NOW + SECOND, NOW)
    assert erasure is not None
    assert erasure.positions == (range(1),)
    assert stores.log.erase(Keep.DISCLOSURE, NOW + SECOND, NOW) is None


def test_a_log_begun_anew_goes_on_after_the_old_one(place: Place, stores: Stores) -> None:
    old = fill(stores, [verification(0), verification(1)])
    stores.log.begin_log(NOW, "another", 9)
    first, second = place.open().log.logs()
    assert (first.log_id, first.size) == (old, 2)
    assert (second.first, second.size, second.tree_size) == (2, 1, 0)
    assert first.log_id != second.log_id
    (begun,) = stores.log.read_entries(second.log_id, 0, 9)
    assert begun.raw == seal(log_entry(at=NOW, replaced=old, size=2, seen="another", seen_size=9)).raw
    assert positions(stores.log.read_entries(old, 0, 9)) == [0, 1]
    committed = stores.log.commit([decision(5)])
    assert [(each.log_id, each.position) for each in committed] == [(second.log_id, 1)]
    everything = stores.log.list_entries(EntryQuery(), 9)
    assert [(each.log_id, each.position) for each in everything] == [
        (old, 0), (old, 1), (second.log_id, 0), (second.log_id, 1)
    ]  # fmt: skip
    assert positions(stores.log.list_entries(EntryQuery(), 9, after=(old, 1))) == [0, 1]


def test_a_log_begun_where_nothing_was_written_is_another_one(stores: Stores) -> None:
    stores.log.begin_log(NOW, "another", 9)
    first, second = stores.log.logs()
    assert stores.log.read_entries(first.log_id, 0, 9) == []
    assert positions(stores.log.read_entries(second.log_id, 0, 9)) == [0]


def test_a_log_that_is_not_there_cannot_be_read(stores: Stores) -> None:
    with pytest.raises(StorageError):
        stores.log.read_entries("none", 0, 1)


def test_tiles_are_there_as_long_as_the_tree(place: Place, stores: Stores) -> None:
    log_id = fill(stores, [verification(0)])
    stores.log.save_tree(log_id, 1, {(0, 0): b"one", (1, 0): b"\0"})
    stores.log.save_tree(log_id, 1, {(0, 0): b"two"})
    again = place.open()
    assert [again.log.tile(log_id, *where) for where in ((0, 0), (1, 0), (0, 1))] == [b"two", b"\0", b""]
    assert again.log.logs()[0].tree_size == 1


def checkpoint(size: int, at: datetime = NOW, log_id: str = "log") -> HeldCheckpoint:
    return HeldCheckpoint(log_id=log_id, size=size, issued_at=at, token=f"token {size}", cosignatures={})


def test_checkpoints_gather_cosignatures(stores: Stores) -> None:
    for size in (3, 1, 2):
        stores.log.save_checkpoint(checkpoint(size))
    assert stores.log.save_cosignature("log", 2, "js", "by js")
    assert stores.log.save_cosignature("log", 2, "ah", "by ah")
    assert stores.log.save_cosignature("log", 2, "js", "by js again")
    assert not stores.log.save_cosignature("log", 9, "js", "by js")
    assert stores.log.latest_checkpoint("log") == checkpoint(3)
    assert stores.log.latest_checkpoint("none") is None
    seen = replace(checkpoint(2), cosignatures={"ah": "by ah", "js": "by js again"})
    assert stores.log.checkpoints_from("log", 2, 9) == [seen, checkpoint(3)]
    assert stores.log.checkpoints_from("log", 0, 1) == [checkpoint(1)]
    assert stores.log.checkpoints_before("log", 3, 9) == [seen, checkpoint(1)]
    assert stores.log.checkpoints_before("log", 3, 1) == [seen]
    signed_again = replace(checkpoint(2, NOW + SECOND), token="another")
    stores.log.save_checkpoint(signed_again)
    assert stores.log.checkpoints_from("log", 2, 1) == [replace(signed_again, cosignatures=seen.cosignatures)]


def test_a_dispute_is_opened_with_its_evidence_or_not_at_all(place: Place, stores: Stores) -> None:
    stores.log.save_dispute("d1", b"evidence", TRUST)
    with pytest.raises(StorageError):
        stores.log.save_dispute("d1", b"another", TRUST)
    again = place.open()
    assert again.log.load_evidence("d1") == b"evidence"
    assert again.log.load_evidence("d2") is None
    assert size_of(again) == 1


def test_what_was_seen_of_others_only_grows(place: Place, stores: Stores) -> None:
    for size in (2, 3, 1):
        stores.log.save_seen("https://js.example", checkpoint(size))
    stores.log.save_seen("https://js.example", checkpoint(1, log_id="next"))
    stores.log.save_seen("https://sh.example", checkpoint(9))
    assert place.open().log.load_seen("https://js.example") == [checkpoint(3), checkpoint(1, log_id="next")]


def test_a_proof_is_kept_once_and_not_too_many_of_one_gateway(stores: Stores) -> None:
    proofs = [
        Fork(gateway="https://js.example", kind="forked", found_at=NOW, seen="a", shown=str(number))
        for number in range(20)
    ]
    for proof in [*proofs, *proofs]:
        stores.log.save_fork(proof)
    assert stores.log.load_forks() == proofs[:16]
    other = replace(proofs[0], gateway="https://sh.example")
    stores.log.save_fork(other)
    assert stores.log.load_forks() == [*proofs[:16], other]


# -- status lists of others -------------------------------------------------------------------------------------------


def test_of_a_status_list_the_newest_is_held(place: Place, stores: Stores) -> None:
    held = HeldStatusList(uri="https://sh.example/1", issuer="https://sh.example", seq=1, issued_at=NOW)
    stores.statuses.save_status_list(held, "one")
    newer = replace(held, seq=2, issued_at=NOW + SECOND)
    stores.statuses.save_status_list(newer, "two")
    again = place.open()
    assert again.statuses.load_status_lists() == [newer]
    assert again.statuses.load_status_list(held.uri) == "two"
    assert again.statuses.load_status_list("https://sh.example/2") is None


# -- the SQLite file --------------------------------------------------------------------------------------------------


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path / "gateway.sqlite")
    place.open()
    place.ask("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="newer"):
        place.open()
    place.close()


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path / "gateway.sqlite")
    place.open()
    assert place.path.stat().st_mode & 0o077 == 0
    place.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear colleague, " * 100)
    with pytest.raises(StorageError, match=r"letter\.txt"):
        SqliteStore(file)


def test_another_process_reads_while_this_one_writes(place: Place, stores: Stores) -> None:
    stores.trust.save_memory(FULL)
    other = place.open()
    assert len(other.trust.load_memory().documents) == 2
    stores.trust.save_memory(TrustMemory(documents={(MEMBER, MEMBER): "new"}))
    assert len(other.trust.load_memory().documents) == 3


@pytest.mark.parametrize("module", [sqlite_module, postgres_module], ids=KINDS)
def test_views_that_are_too_old_or_too_many_go(
    module: ModuleType, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_VIEWS", 3)
    monkeypatch.setattr(module, "PRUNE_VIEWS_EVERY", 1)
    start, day = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)
    kind = KINDS[[sqlite_module, postgres_module].index(module)]
    with contextmanager(place_of)(kind, tmp_path, request) as place:
        store = place.open().trust
        for days in (0, 1, 500):
            store.save_view(start + days * day, f"view {days}")
        store.save_view(start + 501 * day, "view 501")
        assert store.load_view(start) is None
        assert store.load_view(start + 101 * day) == (start + day, "view 1")  # in force at the limit

        for days in range(502, 510):
            store.save_view(start + days * day, f"view {days}")
        assert store.load_view(start + 503 * day) is None
        assert store.load_view(start + 509 * day) is not None


def test_a_file_that_may_not_grow_cannot_be_written_and_the_store_says_so(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path / "gateway.sqlite")
    log = place.open().log
    log.check_writable()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        with pytest.raises(StorageError):
            log.check_writable()
        with pytest.raises(StorageError):
            log.commit([decision(1)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.check_writable()
    assert log.commit([decision(1)])[0].position == 0
    place.close()
