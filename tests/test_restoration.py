"""A backup that was put back is found out, and decides nothing until others have said what it lacks."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from gateway import app as app_module
from gateway.app import App
from gateway.clock import system_world
from gateway.config import Config
from gateway.config.reader import load_config
from gateway.core.consent import Consent
from gateway.core.credential_status import SubjectTarget
from gateway.core.identifiers import Province
from gateway.core.jose import generate_key
from gateway.core.key_schedule import KeyPurpose, KeyRecord, KeyState
from gateway.core.memory import TrustMemory
from gateway.core.reasons import Reason
from gateway.core.status_list import Status
from gateway.core.vouching import MemberRecord
from gateway.lab.folder import prepare_lab
from gateway.server.listener import FEDERATION_SERVICE, VERIFICATION_SERVICE
from gateway.storage import HeldStatusList
from gateway.storage.sqlite import SqliteStore
from gateway.storage.sqlite_statuses import SqliteStatuses
from gateway.verifier import Acceptance, Answer, Rejection, Undecided
from tests.federation import AH, JS, SH, ZJ, Federation, Wallet

NOW = datetime(2026, 11, 23, 1, 0, 0, tzinfo=UTC)
MEMBER = "https://issuer.sh.example"
CHANGE = TrustMemory(clock_floor=NOW)

# -- the store --------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database in which something happened."""
    path = tmp_path / "gateway.sqlite"
    write(path, CHANGE)
    return path


def write(path: Path, *changes: TrustMemory) -> bool:
    """Open a store, write, and say whether it says that it was put back."""
    store = SqliteStore(path)
    for change in changes:
        store.save_memory(change)
    store.close()
    return store.is_restored


def back_up(path: Path) -> Path:
    """As docs/deploy.md says, while it serves."""
    backup = path.with_name("backup.sqlite")
    with sqlite3.connect(path) as db:
        db.execute("VACUUM INTO ?", (str(backup),))
    db.close()
    return backup


def put_back(backup: Path, path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    shutil.copy(backup, path)


def test_an_intact_database_is_taken_at_its_word(file: Path) -> None:
    assert not write(file, CHANGE)
    assert not write(file)


def test_a_database_from_before_there_were_marks_is_intact(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sqlite"
    write(path)
    path.with_name("gateway.sqlite.mark").unlink()
    assert not write(path)


def key_change(store: SqliteStore) -> None:
    key = KeyRecord(key=generate_key().public, purpose=KeyPurpose.CREDENTIAL, state=KeyState.STAGED, staged_at=NOW)
    store.save_keys([key], [])


def status_list_change(store: SqliteStore) -> None:
    statuses = SqliteStatuses(store._path, store)
    held = HeldStatusList(uri=f"{MEMBER}/status/one", issuer=MEMBER, seq=2, issued_at=NOW)
    statuses.save_status_list(held, "token")
    statuses.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.save_memory(CHANGE),
        key_change,
        lambda store: store.save_charter(2, "two"),
        lambda store: store.save_anchor({MEMBER: MemberRecord(federation_keys=frozenset({"f"}))}, {}),
        status_list_change,
    ],
    ids=["memory", "keys", "charter", "anchor", "status list"],
)
def test_a_backup_from_before_one_change_is_found_out(file: Path, change: Callable[[SqliteStore], None]) -> None:
    backup = back_up(file)
    store = SqliteStore(file)
    change(store)
    store.close()
    put_back(backup, file)
    assert write(file)


def test_a_backup_put_where_there_is_no_mark_is_found_out(file: Path) -> None:
    elsewhere = file.parent / "other" / file.name
    elsewhere.parent.mkdir()
    put_back(back_up(file), elsewhere)
    assert write(elsewhere)


def test_a_backup_that_goes_on_past_the_mark_stays_a_backup_until_it_is_made_good(file: Path) -> None:
    backup = back_up(file)
    write(file, CHANGE, CHANGE)
    put_back(backup, file)
    assert write(file, *[CHANGE] * 5)
    assert write(file)
    store = SqliteStore(file)
    store.settle_restored()
    assert not store.is_restored
    store.close()
    assert not write(file)


def test_a_backup_made_good_is_ahead_of_the_one_that_was_lost(file: Path) -> None:
    backup = back_up(file)
    write(file, *[CHANGE] * 5)
    lost = file.with_name("lost.sqlite")
    shutil.copy(file, lost)
    put_back(backup, file)
    store = SqliteStore(file)
    store.settle_restored()
    store.close()
    put_back(lost, file)
    assert write(file)


def test_a_mark_that_cannot_be_written_loses_nothing(file: Path) -> None:
    file.with_name("gateway.sqlite.mark.new").mkdir()
    assert not write(file, replace(CHANGE, clock_floor=NOW + timedelta(days=1)))
    store = SqliteStore(file)
    assert store.load_memory().clock_floor == NOW + timedelta(days=1)
    assert not store.is_restored
    store.close()


# -- what is decided --------------------------------------------------------------------------------------------------


def reason(answer: Answer) -> Reason | None:
    return None if isinstance(answer.verdict, Acceptance) else answer.verdict.reason


@pytest.fixture
def wallet(federation: Federation) -> Wallet:
    """A holder whose issuer's key is revoked; Anhui was told, and then its backup was put back, with nobody to ask."""
    wallet = federation.issue(SH)
    path = federation.directory / "ah.sqlite"
    backup = back_up(path)
    federation.revoke(SH, federation.keys[SH]["issuer-credential"].public.kid)
    federation.settle()
    assert isinstance(federation.verify(*federation.present(wallet)).verdict, Rejection)
    federation[AH].close()
    put_back(backup, path)
    federation.nodes[AH] = federation.build(AH)
    federation.silence(AH)
    start(federation)
    return wallet


def start(federation: Federation) -> None:
    """What ``App.start`` does."""
    resolver = federation[AH].resolver
    resolver.catch_up(timeout=0.0)
    resolver.publish_own()


def test_a_backup_decides_nothing_while_the_peers_are_kept_away(federation: Federation, wallet: Wallet) -> None:
    for _ in range(3):
        answer = federation.verify(*federation.present(wallet))
        assert isinstance(answer.verdict, Undecided)
        assert reason(answer) is Reason.TRUST_STALE
        federation.clock.advance(timedelta(minutes=5))
        federation[AH].resolver.refresh()


def test_two_of_four_provinces_make_a_backup_whole(federation: Federation, wallet: Wallet) -> None:
    for heard, expected in ((ZJ, Reason.TRUST_STALE), (JS, Reason.KEY_REVOKED)):
        federation[AH].peers[heard].down = False
        federation[AH].resolver.refresh()
        assert reason(federation.verify(*federation.present(wallet))) is expected
    # For good: the next start may be alone again.
    federation.restart(AH)
    federation.silence(AH)
    start(federation)
    assert reason(federation.verify(*federation.present(wallet))) is Reason.KEY_REVOKED


def test_a_backup_waits_for_the_status_lists_too(federation: Federation) -> None:
    """Its own list, still good for hours, calls valid what was revoked since."""
    wallet = federation.issue(SH)
    path = federation.directory / "ah.sqlite"
    backup = back_up(path)
    federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.REVOKED)
    federation.settle()
    federation.clock.advance(timedelta(minutes=5))
    federation.settle()
    assert reason(federation.verify(*federation.present(wallet))) is Reason.CREDENTIAL_REVOKED
    federation[AH].close()
    put_back(backup, path)
    node = federation.nodes[AH] = federation.build(AH)
    for peer in node.peers.values():
        peer.lists_down = True
    federation.settle(AH)
    assert reason(federation.verify(*federation.present(wallet))) is Reason.TRUST_STALE
    federation.restart(AH)  # no pause is left of the calls that failed
    federation.settle(AH)
    assert reason(federation.verify(*federation.present(wallet))) is Reason.CREDENTIAL_REVOKED


def test_a_backup_forgets_the_consents_of_which_it_cannot_know_the_withdrawal(file: Path) -> None:
    backup = back_up(file)
    with_consent(backup)
    put_back(backup, file)
    store = SqliteStore(file)
    store.save_memory(CHANGE)
    assert store.withdraw_consent("c", "service", NOW) == NOW
    store.close()
    put_back(backup, file)
    store = SqliteStore(file)
    assert store.is_restored
    store.settle_restored()
    assert store.load_consent("c") is None
    store.close()


def with_consent(path: Path) -> None:
    store = SqliteStore(path)
    store.save_consent(
        Consent(
            consent_id="c",
            service="service",
            matter="HK-QY",
            claims=frozenset({"name"}),
            recorded_at=NOW,
            expires_at=NOW + timedelta(days=1),
        )
    )
    store.close()


def test_an_intact_gateway_verifies_at_once_after_a_restart_alone(federation: Federation) -> None:
    wallet = federation.issue(SH)
    federation.restart(AH)
    federation.silence(AH)
    start(federation)
    assert isinstance(federation.verify(*federation.present(wallet)).verdict, Acceptance)


# -- the process ------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """One province of a lab, the others not running; its view passes for fresh."""
    fit = {"": True, VERIFICATION_SERVICE: True, FEDERATION_SERVICE: True}
    monkeypatch.setattr(app_module, "_health", lambda _view, _lists, _now: fit)
    monkeypatch.setattr(app_module, "HEALTH_SECONDS", 0.01)
    return load_config(prepare_lab(tmp_path / "lab").path / Province.ANHUI / "gateway.toml")


def health(config: Config) -> dict[str, int]:
    """Start a gateway and ask for its health, as soon as it is told."""
    app = App(config, system_world())
    app.start()
    servicer: Any = app._listeners["verification"].health
    told: dict[str, int] = {}
    for name in ("", VERIFICATION_SERVICE, FEDERATION_SERVICE):
        while name not in servicer._server_status:
            app._stop.wait(0.01)
        told[name] = servicer._server_status[name]
    app.stop(0)
    return told


def test_a_gateway_on_a_backup_says_so_and_is_not_fit_to_be_asked(
    config: Config, capfd: pytest.CaptureFixture[str]
) -> None:
    status = health_pb2.HealthCheckResponse
    assert set(health(config).values()) == {status.SERVING}
    backup = back_up(config.database)
    assert set(health(config).values()) == {status.SERVING}
    assert "database_restored" not in capfd.readouterr().err
    put_back(backup, config.database)
    assert health(config) == {
        "": status.NOT_SERVING,
        VERIFICATION_SERVICE: status.NOT_SERVING,
        FEDERATION_SERVICE: status.SERVING,
    }
    assert "database_restored" in capfd.readouterr().err
