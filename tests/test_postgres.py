"""What only PostgreSQL can do to a gateway: be restarted, cut off, put back and shared, while the gateway goes on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.entries import Keep, SealedEntry, Verification, day_of, seal, verification_entry
from gateway.core.memory import TrustMemory
from gateway.storage import Committed, EntryQuery, LedgerEntry, Outcome, StorageError
from gateway.storage import postgres_connection as connection_module
from gateway.storage import postgres_entries as entries_module
from gateway.storage import postgres_lead as lead_module
from gateway.storage import postgres_schema as schema_module
from gateway.storage.postgres_entries import Part, windows
from gateway.storage.postgres_lead import PostgresLead
from gateway.storage.stores import Stores
from tests.postgres import Server
from tests.stores import PostgresPlace

NOW = datetime(2026, 11, 23, 1, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TODAY = (NOW - datetime(1970, 1, 1, tzinfo=UTC)).days


@pytest.fixture
def place(postgres: Server, tmp_path: Path) -> Iterator[PostgresPlace]:
    made = PostgresPlace(postgres, tmp_path / "gateway.toml.mark")
    yield made
    made.close()


@pytest.fixture
def own_server(postgres: Server, tmp_path: Path) -> Iterator[PostgresPlace]:
    """A place on a server that the test may stop; it runs again in the end."""
    made = PostgresPlace(postgres, tmp_path / "gateway.toml.mark")
    yield made
    made.close()


def sealed(name: str, at: datetime = NOW, verdict: str = "accepted") -> SealedEntry:
    return seal(
        verification_entry(
            Verification(
                verification_id=name,
                decided_at=at,
                service="https://gateway.ah.example/services/counter",
                caller_certificate="c",
                matter="m",
                verdict=verdict,
                reason="" if verdict == "accepted" else "replayed",
                issuer="https://issuer.sh.example",
                kid="k",
                charter_version=1,
                charter_sha256="",
                view_id="view",
            )
        )
    )


def decision(name: str, key: str) -> LedgerEntry:
    return LedgerEntry(
        entry=sealed(name),
        otherwise=lambda against: sealed(name, verdict=against.name.lower()),
        replay_key=key,
        replay_until=NOW + DAY,
    )


def names(stores: Stores, end: int = 100_000) -> list[str]:
    (log,) = stores.log.logs()
    return [each.index.entry_id for each in stores.log.read_entries(log.log_id, 0, end)]


# -- several processes ------------------------------------------------------------------------------------------------


def test_of_two_processes_each_replay_key_is_accepted_once_and_no_position_twice(place: PostgresPlace) -> None:
    both = [place.open(), place.open()]
    keys = [f"key {number}" for number in range(150)]

    def run(worker: int) -> list[tuple[str, Committed]]:
        stores, done = both[worker % 2], []
        for begin in range(0, len(keys), 10):
            group = [decision(f"{worker}.{key}", key) for key in keys[begin : begin + 10]]
            if worker % 3 == 0:
                group.reverse()  # whoever takes them in another order waits for nobody in a circle
            done += list(zip((each.replay_key or "" for each in group), stores.log.commit(group), strict=True))
            stores.trust.save_memory(TrustMemory(documents={("a", str(worker)): "d"}), [sealed(f"{worker}.{begin}")])
        return done

    with ThreadPoolExecutor(6) as pool:
        committed = [each for done in pool.map(run, range(6)) for each in done]
    accepted = Counter(key for key, each in committed if each.outcome is Outcome.WRITTEN)
    assert accepted == Counter(keys)
    (log,) = both[0].log.logs()
    written = both[0].log.read_entries(log.log_id, 0, log.size)
    assert [each.position for each in written] == list(range(log.size))
    assert log.size == 6 * (150 + 15)
    at = {each.position: each for each in written}
    for key, each in committed:
        assert at[each.position].index.entry_id.endswith(f".{key}")
        assert at[each.position].index.verdict == ("accepted" if each.outcome is Outcome.WRITTEN else "replayed")


def test_processes_that_start_at_once_make_one_schema_and_one_log(place: PostgresPlace) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: place.open(), range(4)))
    assert len({log.log_id for each in opened for log in each.log.logs()}) == 1


def test_a_process_of_another_host_joins_while_somebody_leads(place: PostgresPlace, tmp_path: Path) -> None:
    place.open().trust.save_memory(TrustMemory(clock_floor=NOW))
    lead = PostgresLead(place.url)
    assert lead.try_lead()
    here, place._mark = place._mark, tmp_path / "another.mark"
    assert not place.open().lineage.is_restored
    lead.close()
    # It has made its acquaintance, and needs nobody any more.
    assert not place.open().lineage.is_restored
    place._mark = tmp_path / "third.mark"
    assert place.open().lineage.is_restored  # and nobody leads who could know
    place._mark = here
    assert not place.open().lineage.is_restored


# -- a server that goes away ------------------------------------------------------------------------------------------


class Load:
    """Decisions written as fast as they can be, and what became of them."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self.failed: list[BaseException] = []
        self.stop = threading.Event()
        self._written = threading.Semaphore(0)

    def run(self, stores: Stores, worker: int) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            name = f"{worker}.{number}"
            try:
                (done,) = stores.log.commit([decision(name, name)])
            except StorageError:
                continue
            except BaseException as error:  # noqa: BLE001 - any other is a fault
                self.failed.append(error)
                return
            if done.outcome is Outcome.WRITTEN:
                self.acknowledged.append(name)
                self._written.release()

    def wait_for(self, count: int) -> None:
        """Wait for so many further decisions."""
        while self._written.acquire(blocking=False):
            pass
        for _ in range(count):
            assert self._written.acquire(timeout=60)


def test_what_was_acknowledged_survives_a_server_that_dies_under_load(
    own_server: PostgresPlace, postgres: Server
) -> None:
    stores = [own_server.open(), own_server.open()]
    load = Load()
    threads = [threading.Thread(target=load.run, args=(stores[worker % 2], worker)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        load.wait_for(50)
        postgres.stop("immediate")
        postgres.start()
    load.wait_for(50)  # by themselves
    load.stop.set()
    for thread in threads:
        thread.join()
    assert not load.failed
    kept = names(own_server.open())
    assert set(load.acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))
    (log,) = own_server.open().log.logs()
    assert len(kept) == log.size


def test_a_restarted_server_is_noticed_before_it_is_asked(own_server: PostgresPlace, postgres: Server) -> None:
    stores = own_server.open()
    stores.trust.save_memory(TrustMemory(clock_floor=NOW))
    postgres.stop("fast")
    with pytest.raises(StorageError):
        stores.trust.load_memory()
    postgres.start()
    assert stores.trust.load_memory().clock_floor == NOW
    assert stores.statuses.load_status_lists() == []
    stores.log.commit([decision("v", "k")])


def test_a_connection_that_is_cut_is_made_anew(place: PostgresPlace, postgres: Server) -> None:
    stores = place.open()
    stores.log.commit([decision("v1", "k1")])
    stores.log.list_entries(EntryQuery(), 1)
    assert postgres.cut(place.url) == 3
    assert [each.outcome for each in stores.log.commit([decision("v2", "k1")])] == [Outcome.REPLAYED]
    assert stores.trust.load_memory() == TrustMemory()
    assert names(stores) == ["v1", "v2"]


def test_a_connection_that_is_cut_within_a_transaction_writes_nothing(place: PostgresPlace, postgres: Server) -> None:
    stores = place.open()

    def cut(_against: Outcome) -> SealedEntry:
        postgres.cut(place.url, "decisions")
        return sealed("v2", verdict="rejected")

    stores.log.commit([decision("v1", "k")])
    with pytest.raises(StorageError):
        stores.log.commit(
            [
                decision("v3", "other"),
                LedgerEntry(entry=sealed("v2"), otherwise=cut, replay_key="k", replay_until=NOW),
            ]
        )
    assert names(stores) == ["v1"]
    assert [each.outcome for each in stores.log.commit([decision("v3", "other")])] == [Outcome.WRITTEN]


def test_whoever_holds_a_lock_for_too_long_is_not_waited_for(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = str(connection_module._PARAMETERS["options"]).replace("lock_timeout=8s", "lock_timeout=50ms")
    monkeypatch.setitem(connection_module._PARAMETERS, "options", options)
    stores = place.open()
    with psycopg.connect(place.url) as other:
        other.execute("SELECT 1 FROM logs FOR UPDATE")
        with pytest.raises(StorageError):
            stores.log.commit([decision("v", "k")])
    assert [each.outcome for each in stores.log.commit([decision("v", "k")])] == [Outcome.WRITTEN]


def test_a_fault_inside_a_transaction_undoes_it_and_harms_no_other(place: PostgresPlace) -> None:
    stores = place.open()
    stores.log.commit([decision("v1", "k")])

    def fault(_against: Outcome) -> SealedEntry:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stores.log.commit(
            [
                decision("v2", "other"),
                LedgerEntry(entry=sealed("v3"), otherwise=fault, replay_key="k", replay_until=NOW),
            ]
        )
    assert [each.outcome for each in stores.log.commit([decision("v2", "other")])] == [Outcome.WRITTEN]
    assert names(stores) == ["v1", "v2"]


def test_a_server_put_back_under_a_running_process_is_noticed(place: PostgresPlace, postgres: Server) -> None:
    place.open().trust.save_memory(TrustMemory(clock_floor=NOW))
    backup = place.back_up()
    stores = place.open()
    stores.trust.save_memory(TrustMemory(clock_floor=NOW + DAY))
    (name, older) = (each.rpartition("/")[2] for each in (place.url, backup.url))
    postgres.cut(place.url)
    postgres.ask(f"ALTER DATABASE {name} RENAME TO {name}_lost")
    postgres.ask(f"ALTER DATABASE {older} RENAME TO {name}")
    for use in (stores.trust.load_memory, lambda: stores.log.commit([decision("v", "k")])):
        with pytest.raises(StorageError, match="put back"):
            use()
    assert place.open().lineage.is_restored


def test_errors_show_no_values_and_no_password(place: PostgresPlace) -> None:
    stores = place.open()
    place.ask("ALTER TABLE documents ADD CONSTRAINT short CHECK (token <> 'secret')")
    with pytest.raises(StorageError) as caught:
        stores.trust.save_memory(TrustMemory(documents={("a", "b"): "secret"}))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("setting", ["synchronous_commit = off", "synchronous_commit = on"])
def test_a_commit_waits_for_the_disk_whatever_the_server_is_set_to(place: PostgresPlace, setting: str) -> None:
    place.ask(f"ALTER DATABASE {place.url.rpartition('/')[2]} SET {setting}")
    with closing(connection_module.connect(place.url, "test")) as db:
        assert db.execute("SHOW synchronous_commit").fetchone() == ("on",)


# -- the schema -------------------------------------------------------------------------------------------------------


def test_a_database_of_a_newer_version_is_left_alone(place: PostgresPlace) -> None:
    place.open()
    place.close()
    place.ask("UPDATE schema_version SET version = 99")
    with pytest.raises(StorageError, match="newer"):
        place.open()


@pytest.mark.parametrize("version", range(len(schema_module.MIGRATIONS)))
def test_every_version_is_brought_to_the_newest(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    whole = schema_module.MIGRATIONS
    if version:
        monkeypatch.setattr(schema_module, "MIGRATIONS", whole[:version])
        with closing(connection_module.Session(place.url, "test")) as session:
            schema_module.migrate(session)
    monkeypatch.setattr(schema_module, "MIGRATIONS", whole)
    stores = place.open()
    stores.log.commit([decision("v", "k")])
    assert place.ask("SELECT version FROM schema_version") == [(len(whole),)]


def test_the_next_step_keeps_what_is_there(place: PostgresPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = place.open()
    stores.trust.save_memory(TrustMemory(clock_floor=NOW))
    stores.log.commit([decision("v1", "k")])
    step = "ALTER TABLE documents ADD COLUMN more text NOT NULL DEFAULT ''; CREATE TABLE further (one text);"
    monkeypatch.setattr(schema_module, "MIGRATIONS", (*schema_module.MIGRATIONS, step))
    newer = place.open()
    assert newer.trust.load_memory().clock_floor == NOW
    assert place.ask("SELECT version FROM schema_version") == [(len(schema_module.MIGRATIONS),)]
    # A process of the version before may still run beside it.
    stores.log.commit([decision("v2", "k2")])
    stores.trust.save_memory(TrustMemory(documents={("a", "b"): "c"}))
    assert names(newer) == ["v1", "v2"]


def test_a_step_that_fails_leaves_the_version_before(place: PostgresPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    place.open()
    steps = ("CREATE TABLE further (one text);", "CREATE TABLE further (one text);")
    monkeypatch.setattr(schema_module, "MIGRATIONS", (*schema_module.MIGRATIONS, *steps))
    with pytest.raises(StorageError):
        place.open()
    monkeypatch.undo()
    place.open().log.commit([decision("v", "k")])
    assert place.ask("SELECT to_regclass('further')") == [(None,)]


# -- parts of the table -----------------------------------------------------------------------------------------------


def parts(place: PostgresPlace) -> set[str]:
    rows = place.ask("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'entries'::regclass")
    return {str(name) for (name,) in rows}


def test_parts_are_made_before_they_are_needed(place: PostgresPlace) -> None:
    stores = place.open()
    stores.log.commit([decision("v", "k")])
    made = parts(place)
    assert {f"entries_{keep}_{TODAY + ahead}" for keep in ("security", "disclosure") for ahead in range(8)} <= made
    stores.log.append([sealed("w", at=NOW + 6 * DAY)])
    assert parts(place) == made  # tomorrow's is there
    stores.log.append([sealed("x", at=NOW + 7 * DAY)])
    assert f"entries_disclosure_{TODAY + 14}" in parts(place)


def test_processes_that_need_the_same_part_at_once_make_it_once(place: PostgresPlace) -> None:
    opened = [place.open() for _ in range(4)]
    ready = threading.Barrier(4)

    def run(worker: int) -> Sequence[Committed]:
        ready.wait()
        return opened[worker].log.commit([decision(f"v{worker}", f"k{worker}")])

    with ThreadPoolExecutor(4) as pool:
        done = [each for committed in pool.map(run, range(4)) for each in committed]
    assert sorted(each.position for each in done) == [0, 1, 2, 3]


def test_a_part_of_which_nothing_is_left_is_dropped_and_only_that(place: PostgresPlace) -> None:
    stores = place.open()
    stores.log.append(
        [
            sealed("a", verdict="rejected"),
            sealed("b"),
            sealed("c", at=NOW + DAY, verdict="rejected"),
            sealed("d", at=NOW + DAY + timedelta(hours=5), verdict="rejected"),
        ]
    )
    (log,) = stores.log.logs()
    stores.log.save_tree(log.log_id, log.size, {})
    before = parts(place)
    assert stores.log.erase(Keep.SECURITY, NOW + DAY + timedelta(hours=1), NOW) is not None
    assert before - parts(place) == {f"entries_security_{TODAY}"}
    assert names(stores) == ["b", "d", ""]


def test_another_process_that_knew_a_dropped_part_makes_it_again(place: PostgresPlace) -> None:
    one, other = place.open(), place.open()
    for stores, name in ((one, "a"), (other, "b")):
        stores.log.append([sealed(name)])
    (log,) = one.log.logs()
    one.log.save_tree(log.log_id, log.size, {})
    assert one.log.erase(Keep.DISCLOSURE, NOW + 2 * DAY, NOW) is not None
    with pytest.raises(StorageError):
        other.log.commit([decision("c", "k")])
    assert [each.outcome for each in other.log.commit([decision("c", "k")])] == [Outcome.WRITTEN]


def test_an_erasure_too_large_for_one_entry_is_made_in_several(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.core.entries.MAX_RUNS", 2)
    stores = place.open()
    stores.log.append([sealed(str(number), verdict="accepted" if number % 2 else "rejected") for number in range(10)])
    (log,) = stores.log.logs()
    stores.log.save_tree(log.log_id, log.size, {})
    counts = []
    while (erasure := stores.log.erase(Keep.SECURITY, NOW + DAY, NOW)) is not None:
        counts.append(erasure.count)
    assert counts == [2, 2, 1]
    assert names(stores) == ["1", "3", "5", "7", "9", "", "", ""]


def test_reading_by_number_touches_few_parts(place: PostgresPlace) -> None:
    stores = place.open()
    stores.log.append([sealed(str(number), at=NOW + number * DAY) for number in range(60)])
    with closing(connection_module.connect(place.url, "test")) as db:
        found = entries_module.load_parts(db, 30, 32)
        (window,) = windows(found, 30, 32)
        plan = db.execute(f"EXPLAIN {entries_module.SELECT} WHERE {window.condition}", window.values).fetchall()
    scanned = {part for part in parts(place) if any(f" on {part}" in str(line) for (line,) in plan)}
    assert scanned == {f"entries_disclosure_{TODAY + number}" for number in (30, 31)}


SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=90)


@given(SPANS, st.integers(0, 320), st.integers(0, 320), st.booleans())
def test_windows_cover_everything_once_in_order_and_miss_no_part(
    spans: list[tuple[int, int]], begin: int, end: int, newest_first: bool
) -> None:
    made = [Part(day, low, low + length) for day, (low, length) in enumerate(spans)]
    cut = list(windows(made, begin, end, newest_first=newest_first))
    ordered = list(reversed(cut)) if newest_first else cut
    assert [number for window in ordered for number in range(window.begin, window.end)] == list(range(begin, end))
    for window in cut:
        assert window.begin < window.end
        touching = [part for part in made if part.low < window.end and part.high >= window.begin]
        assert list(window.parts) == touching
        crowded = max(
            (sum(part.low <= number <= part.high for part in made) for number in range(window.begin, window.end)),
            default=0,
        )
        assert len(window.parts) <= max(entries_module.MAX_PARTS, crowded)


def test_days_are_counted_the_same_before_1970() -> None:
    assert day_of(-1) == -1
    assert entries_module.name_of(entries_module.number_of(Keep.SECURITY, -1)) == "entries_security_m1"


# -- who leads --------------------------------------------------------------------------------------------------------


@pytest.fixture
def lead(place: PostgresPlace) -> Iterator[Callable[[], PostgresLead]]:
    made: list[PostgresLead] = []

    def make() -> PostgresLead:
        made.append(PostgresLead(place.url))
        return made[-1]

    yield make
    for each in made:
        each.close()


def leads(lead: PostgresLead) -> bool:
    return lead.leads


def test_one_leads_until_it_lets_go(lead: Callable[[], PostgresLead]) -> None:
    one, other = lead(), lead()
    assert not leads(one)
    assert one.try_lead()
    assert leads(one)
    assert not other.try_lead()
    assert not leads(other)
    assert one.try_lead()
    one.close()
    assert not leads(one)
    assert other.try_lead()
    assert leads(other)


def test_a_leader_that_is_cut_off_leads_no_more_and_another_does(
    lead: Callable[[], PostgresLead], place: PostgresPlace, postgres: Server
) -> None:
    one, other = lead(), PostgresLead(postgres.new_database())
    assert one.try_lead()
    assert other.try_lead()  # of another database
    assert postgres.cut(place.url, "lead") == 1
    assert not leads(one)
    with pytest.raises(StorageError):
        one.try_lead()
    assert lead().try_lead()
    with pytest.raises(StorageError):
        one.try_lead()
    assert not leads(one)
    assert leads(other)
    other.close()


def test_a_leader_leads_also_while_it_asks(lead: Callable[[], PostgresLead]) -> None:
    one = lead()
    assert one.try_lead()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(lambda: [one.try_lead() for _ in range(300)])
        seen = [leads(one)]
        while not asking.done():
            seen.append(leads(one))
    assert all(asking.result())
    assert all(seen)


def test_a_leader_that_does_not_ask_for_too_long_leads_no_more(
    lead: Callable[[], PostgresLead], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = lead()
    clock = [0.0]
    monkeypatch.setattr("gateway.storage.postgres_lead.time.monotonic", lambda: clock[0])
    assert one.try_lead()
    clock[0] = lead_module.LEASE_SECONDS - 1
    assert leads(one)
    clock[0] += 1
    assert not leads(one)
    assert one.try_lead()
    assert leads(one)
