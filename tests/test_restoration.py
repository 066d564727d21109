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
from gateway.storage.stores import Stores
from gateway.verifier import Acceptance, Answer, Rejection, Undecided
from tests.federation import AH, JS, SH, ZJ, Federation, Wallet
from tests.stores import Place

NOW = datetime(2026, 11, 23, 1, 0, 0, tzinfo=UTC)
MEMBER = "https://issuer.sh.example"
CHANGE = TrustMemory(clock_floor=NOW)

# -- the store --------------------------------------------------------------------------------------------------------


def write(place: Place, *changes: TrustMemory) -> bool:
    """Open a store, write, and say whether it says that it was put back."""
    stores = place.open()
    for change in changes:
        stores.trust.save_memory(change)
    is_restored = stores.lineage.is_restored
    place.close()
    return is_restored


@pytest.fixture
def used(place: Place) -> Place:
    """A database in which something happened."""
    write(place, CHANGE)
    return place


def test_an_intact_database_is_taken_at_its_word(used: Place) -> None:
    assert not write(used, CHANGE)
    assert not write(used)


def test_a_database_from_before_there_were_marks_is_intact(place: Place) -> None:
    write(place)
    place.mark.unlink()
    assert not write(place)


def key_change(stores: Stores) -> None:
    key = KeyRecord(key=generate_key().public, purpose=KeyPurpose.CREDENTIAL, state=KeyState.STAGED, staged_at=NOW)
    stores.keys.save_keys([key], [])


@pytest.mark.parametrize(
    "change",
    [
        lambda stores: stores.trust.save_memory(CHANGE),
        key_change,
        lambda stores: stores.trust.save_charter(2, "two"),
        lambda stores: stores.anchor.save_anchor({MEMBER: MemberRecord(federation_keys=frozenset({"f"}))}, {}),
        lambda stores: stores.register.close_list("uri"),
        lambda stores: stores.consents.withdraw_consent("c", "service", NOW),
        lambda stores: stores.statuses.save_status_list(
            HeldStatusList(uri=f"{MEMBER}/status/one", issuer=MEMBER, seq=2, issued_at=NOW), "token"
        ),
    ],
    ids=["memory", "keys", "charter", "anchor", "register", "consent", "status list"],
)
def test_a_backup_from_before_one_change_is_found_out(used: Place, change: Callable[[Stores], object]) -> None:
    backup = used.back_up()
    change(used.open())
    used.put_back(backup)
    assert write(used)


def test_a_backup_put_where_there_is_no_mark_is_found_out(used: Place) -> None:
    backup = used.back_up()
    used.put_back(backup)
    used.mark.unlink()
    assert write(used)


def test_a_backup_that_goes_on_past_the_mark_stays_a_backup_until_it_is_made_good(used: Place) -> None:
    backup = used.back_up()
    write(used, CHANGE, CHANGE)
    used.put_back(backup)
    assert write(used, *[CHANGE] * 5)
    assert write(used)
    stores = used.open()
    stores.lineage.settle_restored(NOW)
    assert not stores.lineage.is_restored
    used.close()
    assert not write(used)


def test_a_backup_made_good_is_ahead_of_the_one_that_was_lost(used: Place) -> None:
    backup = used.back_up()
    write(used, *[CHANGE] * 5)
    lost = used.back_up()
    used.put_back(backup)
    used.open().lineage.settle_restored(NOW)
    used.put_back(lost)
    assert write(used)


def test_a_backup_made_good_begins_another_log(used: Place) -> None:
    backup = used.back_up()
    write(used, CHANGE)
    used.put_back(backup)
    stores = used.open()
    (old,) = stores.log.logs()
    stores.lineage.settle_restored(NOW)
    assert [log.log_id == old.log_id for log in stores.log.logs()] == [True, False]


def test_a_mark_that_cannot_be_written_loses_nothing(used: Place) -> None:
    used.mark.with_name(f"{used.mark.name}.new").mkdir()
    assert not write(used, replace(CHANGE, clock_floor=NOW + timedelta(days=1)))
    stores = used.open()
    assert stores.trust.load_memory().clock_floor == NOW + timedelta(days=1)
    assert not stores.lineage.is_restored


def test_a_backup_forgets_the_consents_of_which_it_cannot_know_the_withdrawal(used: Place) -> None:
    used.open().consents.save_consent(
        Consent(
            consent_id="c",
            service="service",
            matter="HK-QY",
            claims=frozenset({"name"}),
            recorded_at=NOW,
            expires_at=NOW + timedelta(days=1),
        )
    )
    backup = used.back_up()
    stores = used.open()
    stores.trust.save_memory(CHANGE)
    assert stores.consents.withdraw_consent("c", "service", NOW) == NOW
    used.put_back(backup)
    stores = used.open()
    assert stores.lineage.is_restored
    stores.lineage.settle_restored(NOW)
    assert stores.consents.load_consent("c") is None


# -- what is decided --------------------------------------------------------------------------------------------------


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
    database = config.database
    assert isinstance(database, Path)
    status = health_pb2.HealthCheckResponse
    assert set(health(config).values()) == {status.SERVING}
    backup = back_up(database)
    assert set(health(config).values()) == {status.SERVING}
    assert "database_restored" not in capfd.readouterr().err
    put_back(backup, database)
    assert health(config) == {
        "": status.NOT_SERVING,
        VERIFICATION_SERVICE: status.NOT_SERVING,
        FEDERATION_SERVICE: status.SERVING,
    }
    assert "database_restored" in capfd.readouterr().err
