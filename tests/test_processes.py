"""Several processes on one database: who may serve from it, who is told what the others wrote, who waits for whom."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.core.consent import Consent
from gateway.core.entries import TrustChange, seal, trust_entry
from gateway.core.jose import generate_key
from gateway.core.key_schedule import KeyPurpose, KeyRecord, KeyState
from gateway.core.memory import TrustMemory
from gateway.leading import Leading
from gateway.storage import HeldStatusList, LedgerEntry, StorageError, Topic
from gateway.storage import connection as connection_module
from gateway.storage.connection import connect, transaction
from gateway.storage.postgres_lead import PostgresLead
from gateway.storage.sqlite import SqliteStore
from gateway.storage.sqlite_lead import InUseError, SettledLead, SqliteLead
from gateway.storage.stores import Stores
from tests.postgres import Server
from tests.stores import Place

NOW = datetime(2026, 11, 23, 1, 0, 0, tzinfo=UTC)
ISSUER = "https://issuer.sh.example"
MEMORY = TrustMemory(documents={(ISSUER, ISSUER): "a.b.c"})
SECONDS = 10


def floor(days: int) -> TrustMemory:
    return TrustMemory(clock_floor=NOW + timedelta(days=days))


# -- who is told -------------------------------------------------------------------------------------------------------

TELLING: dict[str, tuple[Topic, Callable[[Stores], object]]] = {
    "documents": (Topic.TRUST, lambda stores: stores.trust.save_memory(MEMORY)),
    "a charter": (Topic.TRUST, lambda stores: stores.trust.save_charter(1, "{}")),
    "a clock put right": (Topic.TRUST, lambda stores: stores.trust.reset_clock_floor()),
    "an anchor's word": (Topic.TRUST, lambda stores: stores.anchor.save_anchor({}, {(ISSUER, ISSUER): "d.e.f"})),
    "a status list": (
        Topic.LISTS,
        lambda stores: stores.statuses.save_status_list(
            HeldStatusList(uri=f"{ISSUER}/status/1", issuer=ISSUER, seq=1, issued_at=NOW), "x.y.z"
        ),
    ),
    "a key": (
        Topic.KEYS,
        lambda stores: stores.keys.save_keys(
            [KeyRecord(key=generate_key().public, purpose=KeyPurpose.RECEIPT, state=KeyState.STAGED, staged_at=NOW)], []
        ),
    ),
}


@pytest.mark.parametrize("change", TELLING)
def test_a_process_is_told_what_another_has_written(place: Place, change: str) -> None:
    topic, write = TELLING[change]
    place.open().trust.save_memory(floor(0))
    with closing(place.open().tidings()) as tidings:
        assert tidings.wait(0) == frozenset(Topic)  # whatever was written before
        assert tidings.wait(0) == frozenset()
        write(place.open())
        assert tidings.wait(SECONDS) == {topic}
        assert tidings.wait(0) == frozenset()


def test_a_process_is_told_while_it_waits(place: Place) -> None:
    writer = place.open()
    with closing(place.open().tidings()) as tidings, ThreadPoolExecutor(1) as pool:
        tidings.wait(0)
        told = pool.submit(tidings.wait, SECONDS)
        writer.trust.save_memory(MEMORY)
        assert told.result() == {Topic.TRUST}


def test_nobody_is_told_of_decisions_and_of_consents(place: Place) -> None:
    stores = place.open()
    consent = Consent(
        consent_id="c",
        service=ISSUER,
        matter="m",
        claims=frozenset({"name"}),
        recorded_at=NOW,
        expires_at=NOW + timedelta(days=1),
    )
    with closing(place.open().tidings()) as tidings:
        tidings.wait(0)
        entry = trust_entry(TrustChange.CONFIGURATION, at=NOW, subject="s", event="in force")
        stores.log.commit([LedgerEntry(entry=seal(entry))])
        stores.consents.save_consent(consent)
        stores.consents.withdraw_consent("c", ISSUER, NOW)
        assert tidings.wait(0.2) == frozenset()


def test_after_the_connection_was_lost_everything_counts_as_written(postgres: Server, tmp_path: Path) -> None:
    from tests.stores import PostgresPlace  # noqa: PLC0415

    place = PostgresPlace(postgres, tmp_path / "gateway.toml.mark")
    with closing(place.open().tidings()) as tidings:
        tidings.wait(0)
        assert postgres.cut(place.url, "tidings") == 1
        with pytest.raises(StorageError):
            tidings.wait(SECONDS)
        assert tidings.wait(0) == frozenset(Topic)
    place.close()


def test_what_is_remembered_is_read_as_it_was_at_one_moment(tmp_path: Path) -> None:
    reading, writing = SqliteStore(tmp_path / "gateway.sqlite"), SqliteStore(tmp_path / "gateway.sqlite")
    whole = TrustMemory(documents=MEMORY.documents, events={ISSUER: "d.e.f"}, clock_floor=NOW)
    written: list[str] = []

    def write(statement: str) -> None:
        if "FROM events" in statement and not written:  # after the documents were read
            written.append(statement)
            writing.save_memory(whole)

    reading._connection.set_trace_callback(write)
    assert reading.load_memory() == TrustMemory()
    assert written
    assert reading.load_memory() == whole
    reading.close()
    writing.close()


# -- who may serve -----------------------------------------------------------------------------------------------------


def test_one_process_serves_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "gateway.sqlite"
    with closing(SqliteLead(path)) as one, closing(SqliteLead(path)) as other:
        assert not Leading(one).is_leader
        assert one.try_lead()
        assert one.try_lead()
        assert Leading(one).is_leader
        with pytest.raises(InUseError):
            other.try_lead()
        one.close()
        assert other.try_lead()
    assert path.with_name("gateway.sqlite.lock").stat().st_mode & 0o777 == 0o600


def test_who_has_inherited_the_lock_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sqlite"
    lock = SqliteLead(path)
    lock.try_lead()
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]) as heir:
        lock.close()
        with closing(SqliteLead(path)) as other, pytest.raises(InUseError):
            other.try_lead()
        heir.communicate()
    with closing(SqliteLead(path)) as other:
        assert other.try_lead()


def test_a_lock_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        SqliteLead(tmp_path / "file" / "gateway.sqlite")


@pytest.mark.parametrize("leads", [True, False])
def test_among_processes_of_one_supervisor_it_is_settled_who_leads(leads: bool) -> None:
    lead = SettledLead(leads=leads)
    assert (lead.leads, lead.try_lead(), lead.leads) == (leads, leads, leads)


def test_a_worker_never_leads_and_notices_that_the_database_is_gone(postgres: Server) -> None:
    url = postgres.new_database()
    with closing(PostgresLead(url, contends=False)) as worker:
        assert not worker.try_lead()
        with closing(PostgresLead(url)) as front:
            assert front.try_lead()
        assert not worker.try_lead()
        assert not worker.leads
        postgres.cut(url, "lead")
        with pytest.raises(StorageError):
            worker.try_lead()


def test_what_one_process_makes_good_is_good_for_all(place: Place) -> None:
    place.open().trust.save_memory(floor(0))
    backup = place.back_up()
    place.open().trust.save_memory(floor(1))
    place.put_back(backup)
    one, other = place.open(), place.open()
    assert [each.lineage.is_restored for each in (one, other)] == [True, True]
    one.lineage.settle_restored(NOW)
    assert [each.lineage.is_restored for each in (one, other)] == [False, False]
    other.lineage.settle_restored(NOW)
    other.trust.save_memory(floor(0))
    assert len(one.log.logs()) == 2
    assert not place.open().lineage.is_restored


def test_who_has_not_heard_that_it_was_made_good_does_not_undo_that(place: Place) -> None:
    place.open().trust.save_memory(floor(0))
    backup = place.back_up()
    place.open().trust.save_memory(floor(1))
    place.put_back(backup)
    one, other = place.open(), place.open()
    one.lineage.settle_restored(NOW)
    other.trust.save_memory(floor(2))  # before it has looked
    assert not place.open().lineage.is_restored


# -- who waits for whom ------------------------------------------------------------------------------------------------


def test_who_writes_to_a_file_waits_for_who_writes_already(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sqlite"
    with closing(connect(path)) as one, closing(connect(path)) as other, ThreadPoolExecutor(1) as pool:
        one.execute("CREATE TABLE numbers (number INTEGER)")
        begun = threading.Event()

        def write() -> None:
            begun.set()
            with transaction(other) as db:
                db.execute("INSERT INTO numbers VALUES (2)")

        with transaction(one) as db:
            db.execute("INSERT INTO numbers VALUES (1)")
            waiting = pool.submit(write)
            begun.wait()
            assert not waiting.done()
        waiting.result()
        assert one.execute("SELECT number FROM numbers ORDER BY rowid").fetchall() == [(1,), (2,)]


def test_who_waits_too_long_for_who_writes_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_BUSY_SECONDS", 0.05)
    path = tmp_path / "gateway.sqlite"
    with closing(connect(path)) as one, closing(connect(path)) as other:
        with transaction(one), pytest.raises(StorageError), transaction(other):
            pass
        with transaction(other):
            pass


def test_processes_that_write_all_the_time_all_get_their_turn(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sqlite"
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE numbers (number INTEGER)")
    code = (
        "import sys, pathlib; from gateway.storage.connection import connect, transaction\n"
        "db = connect(pathlib.Path(sys.argv[1]))\n"
        "for number in range(200):\n"
        "    with transaction(db): db.execute('INSERT INTO numbers VALUES (?)', (number,))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    assert [each.wait() for each in running] == [0, 0, 0]
    with closing(connect(path)) as db:
        assert db.execute("SELECT count(*) FROM numbers").fetchone() == (600,)
