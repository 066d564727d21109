"""What is on disk comes back as it was, only grows where it must only grow, and is all there or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.core.jose import generate_key
from gateway.core.key_schedule import KeyPurpose, KeyRecord, KeyState
from gateway.core.memory import Equivocation, Revocation, RevocationReason, TrustMemory, Withdrawal, merge
from gateway.core.vouching import MemberRecord, PendingChange, Suspension
from gateway.storage import AuditEntry, KeyEvent, LedgerEntry, Outcome, Override, StorageError
from gateway.storage import sqlite as sqlite_module
from gateway.storage.sqlite import SqliteStore

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
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "gateway.sqlite")
    yield opened
    opened.close()


def reopened(store: SqliteStore) -> SqliteStore:
    return SqliteStore(store._path)


# -- the memory of trust ----------------------------------------------------------------------------------------------


def test_a_fresh_store_remembers_nothing(store: SqliteStore) -> None:
    assert store.load_memory() == TrustMemory()
    assert store.load_charters() == {}
    assert store.load_members() == {}
    assert store.load_keys() == []
    assert store.load_view(NOW) is None


def test_what_was_remembered_is_there_after_a_restart(store: SqliteStore) -> None:
    store.save_memory(FULL)
    again = reopened(store)
    assert again.load_memory() == FULL
    again.close()


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
def test_adding_on_disk_is_adding_in_memory(store: SqliteStore, change: TrustMemory) -> None:
    store.save_memory(FULL)
    store.save_memory(change)
    assert store.load_memory() == merge(FULL, change)


def test_a_superseded_key_becomes_compromised_and_never_back(store: SqliteStore) -> None:
    place = (MEMBER, "k1")
    for revocation in (SUPERSEDED, COMPROMISED, SUPERSEDED):
        store.save_memory(TrustMemory(revocations={place: revocation}))
    assert store.load_memory().revocations[place] == COMPROMISED


def test_the_clock_floor_is_forgotten_when_people_say_so(store: SqliteStore) -> None:
    store.save_memory(FULL)
    store.reset_clock_floor()
    assert store.load_memory() == replace(FULL, clock_floor=None)


def test_a_change_is_written_whole_or_not_at_all(store: SqliteStore) -> None:
    store.save_memory(FULL)
    store._connection.execute("DROP TABLE clock_floor")
    with pytest.raises(StorageError):
        store.save_memory(TrustMemory(documents={(ANCHOR, MEMBER): "new"}, clock_floor=NOW + SECOND))
    kept = store._connection.execute("SELECT token FROM documents WHERE subject = ?", (MEMBER,)).fetchone()
    assert kept == ("d.e.f",)


def test_a_charter_once_written_stays(store: SqliteStore) -> None:
    for version, document in ((2, "two"), (1, "one"), (2, "another")):
        store.save_charter(version, document)
    assert list(store.load_charters().items()) == [(1, "one"), (2, "two")]


def test_a_view_is_found_by_the_time_it_was_in_force(store: SqliteStore) -> None:
    later = NOW + timedelta(hours=1)
    for at, summary in ((NOW, "first"), (NOW + SECOND, "first"), (later, "second")):
        store.save_view(at, summary)
    assert store.load_view(NOW - SECOND) is None
    assert store.load_view(NOW) == (NOW, "first")
    assert store.load_view(later - SECOND) == (NOW, "first")
    assert store.load_view(later + SECOND) == (later, "second")


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


def test_members_and_statements_are_written_together(store: SqliteStore) -> None:
    store.save_anchor({MEMBER: BARE}, {(ANCHOR, MEMBER): "one"})
    store.save_anchor({MEMBER: RICH, ANCHOR: BARE}, {(ANCHOR, ANCHOR): "two"})
    again = reopened(store)
    assert again.load_members() == {MEMBER: RICH, ANCHOR: BARE}
    assert again.load_memory().documents == {(ANCHOR, MEMBER): "one", (ANCHOR, ANCHOR): "two"}
    again.close()


def test_a_record_without_its_statement_is_not_written(store: SqliteStore) -> None:
    store._connection.execute("DROP TABLE documents")
    with pytest.raises(StorageError):
        store.save_anchor({MEMBER: BARE}, {(ANCHOR, MEMBER): "one"})
    assert store.load_members() == {}


# -- keys -------------------------------------------------------------------------------------------------------------


def key_record(**changes: object) -> KeyRecord:
    fresh = KeyRecord(key=generate_key().public, purpose=KeyPurpose.CREDENTIAL, state=KeyState.STAGED, staged_at=NOW)
    return replace(fresh, **changes)  # type: ignore[arg-type]


def test_keys_come_back_oldest_first_and_as_they_were(store: SqliteStore) -> None:
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
    store.save_keys(records, [])
    again = reopened(store)
    assert again.load_keys() == records
    again.close()


def test_the_mark_until_when_a_key_signed_is_never_lowered(store: SqliteStore) -> None:
    record = key_record()
    store.save_keys([record], [])
    for days in (3, 1):
        store.raise_signed_until(record.key.kid, NOW + timedelta(days=days))
    # Whoever read the record before the first signature and writes it back undoes nothing.
    store.save_keys([replace(record, state=KeyState.PUBLISHED)], [])
    (kept,) = store.load_keys()
    assert (kept.state, kept.signed_until) == (KeyState.PUBLISHED, NOW + timedelta(days=3))


def test_a_request_is_done_together_with_what_it_did(store: SqliteStore) -> None:
    record = key_record()
    event = KeyEvent(at=NOW, kid=record.key.kid, purpose=record.purpose, event="staged", administrator="a")
    store.save_keys([record], [event], "request-1")
    assert store.is_done("request-1")
    assert not store.is_done("request-2")
    with pytest.raises(StorageError):
        store.save_keys([replace(record, state=KeyState.PUBLISHED)], [event], "request-1")
    assert store.load_keys() == [record]
    assert store.load_key_events() == [event]
    assert store.load_key_events("another") == []


def test_a_wish_takes_the_place_of_the_one_before(store: SqliteStore) -> None:
    first = Override(kid="k", administrator="one", justification="why", asked_at=NOW)
    second = replace(first, administrator="two")
    store.save_override(first)
    store.save_override(second)
    assert store.load_override("k") == second
    assert store.load_override("other") is None


# -- the ledger -------------------------------------------------------------------------------------------------------


def entry(number: int, *, verdict: str = "accepted", kid: str = "k", at: datetime = NOW) -> AuditEntry:
    return AuditEntry(
        verification_id=f"v{number}",
        decided_at=at,
        service="https://gateway.ah.example/services/counter",
        matter="m",
        verdict=verdict,
        reason="",
        issuer=MEMBER,
        kid=kid,
        charter_version=1,
        view_id="view",
        request_id="",
    )


def commit(store: SqliteStore, entries: Sequence[AuditEntry]) -> None:
    store.commit([LedgerEntry(entry=each) for each in entries])


def test_accepted_presentations_of_a_key_are_counted(store: SqliteStore) -> None:
    commit(
        store,
        [
            entry(1),
            entry(2, at=NOW - timedelta(days=2)),
            entry(3, verdict="rejected"),
            entry(4, kid="other"),
        ],
    )
    assert store.accepted_count(MEMBER, "k", None) == 2
    assert store.accepted_count(MEMBER, "k", NOW - timedelta(days=1)) == 1
    assert store.accepted_count(ANCHOR, "k", None) == 0


def test_a_replay_key_is_good_once_also_within_a_group(store: SqliteStore) -> None:
    def once(number: int) -> LedgerEntry:
        return LedgerEntry(
            entry=entry(number),
            otherwise=lambda _against: entry(number, verdict="rejected"),
            replay_key="r",
            replay_until=NOW + SECOND,
        )

    assert list(store.commit([once(1), once(2)])) == [Outcome.WRITTEN, Outcome.REPLAYED]
    assert list(store.commit([once(3)])) == [Outcome.REPLAYED]
    assert [each.verdict for each in store.audit_entries()] == ["accepted", "rejected", "rejected"]
    assert store.forget_replays(NOW + 2 * SECOND) == 1
    assert list(store.commit([once(4)])) == [Outcome.WRITTEN]


# -- the file ---------------------------------------------------------------------------------------------------------


def test_a_file_of_a_newer_version_is_left_alone(store: SqliteStore) -> None:
    store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="newer"):
        reopened(store)


def test_the_file_is_for_its_owner_only(store: SqliteStore) -> None:
    assert store._path.stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear colleague, " * 100)
    with pytest.raises(StorageError, match=r"letter\.txt"):
        SqliteStore(file)


def test_another_process_reads_while_this_one_writes(store: SqliteStore) -> None:
    store.save_memory(FULL)
    other = sqlite3.connect(store._path)
    other.execute("BEGIN")
    assert other.execute("SELECT count(*) FROM documents").fetchone() == (2,)
    store.save_memory(TrustMemory(documents={(MEMBER, MEMBER): "new"}))
    other.close()
    assert len(store.load_memory().documents) == 3


def test_views_that_are_too_old_or_too_many_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_module, "MAX_VIEWS", 3)
    monkeypatch.setattr(sqlite_module, "_PRUNE_VIEWS_EVERY", 1)
    start, day = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)
    store = SqliteStore(tmp_path / "views.sqlite")
    try:
        for days in (0, 1, 500):
            store.save_view(start + days * day, f"view {days}")
        store.save_view(start + 501 * day, "view 501")
        assert store.load_view(start) is None
        assert store.load_view(start + 101 * day) == (start + day, "view 1")  # in force at the limit

        for days in range(502, 510):
            store.save_view(start + days * day, f"view {days}")
        assert store.load_view(start + 503 * day) is None
        assert store.load_view(start + 509 * day) is not None
    finally:
        store.close()
