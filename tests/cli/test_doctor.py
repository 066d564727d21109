"""mrg doctor: each check stands alone, each finding has its fix, and it works when nothing else does."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from recognition.v1 import federation_pb2, federation_pb2_grpc

from gateway import wire
from gateway.cli.console import instant
from gateway.cli.findings import WARN_DAYS, Finding, State, end, isolated
from gateway.clock import set_lab_offset, system_world
from gateway.config import KeyStoreOptions
from gateway.config.reader import load_config
from gateway.core.jose import generate_key, load_pkcs8
from gateway.core.key_schedule import KeyPurpose, KeyRecord, KeyState, due_at
from gateway.core.memory import Equivocation, TrustMemory, Withdrawal
from gateway.keystore.file import make_secret
from gateway.keystore.opening import open_key_store
from gateway.lab.charter import entity_ids
from gateway.storage import Fork
from tests.cli.ceremony import Ceremony, Ended, mrg
from tests.federation import AH, SH, START, Federation

FAST = ("--timeout", "2")


@dataclass
class Peer:
    """Another province's listener, which hands out what it is told to. Nothing else is asked of it."""

    state: federation_pb2.TrustState = field(default_factory=federation_pb2.TrustState)
    refuses: grpc.StatusCode | None = None

    def GetTrust(
        self, request: federation_pb2.GetTrustRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetTrustResponse:
        if self.refuses is not None:
            context.abort(self.refuses, "no")
        return federation_pb2.GetTrustResponse(state=self.state)

    GetCharter = GetEntityConfiguration = GetSubordinateStatement = GetHistoricalKeys = GetTrust
    WatchTrust = AcknowledgeTrust = GetStatusList = GetTrust


class Province:
    """Anhui's configuration over the store of a federation in memory; the lab's clock is the federation's."""

    def __init__(self, federation: Federation, ceremony: Ceremony) -> None:
        self.federation = federation
        self.folder = ceremony.folder / "ah"
        self.ceremony = ceremony
        self.config = self.folder / "gateway.toml"
        self.clock = ceremony.folder / "clock"
        (self.folder / "charter.json").write_text(federation.charter.document)
        self.edit(r'^sha256 = ".*"', f'sha256 = "{federation.charter.sha256}"')
        self.edit(r'^database = ".*?"', f'database = "{federation.directory / "ah.sqlite"}"')
        self.set_clock(timedelta(0))

    def edit(self, pattern: str, new: str) -> None:
        text, count = re.subn(pattern, new, self.config.read_text(), flags=re.MULTILINE)
        assert count
        self.config.write_text(text)

    def set_clock(self, since_start: timedelta) -> None:
        set_lab_offset(self.clock, round((START + since_start - system_world().now()).total_seconds()))

    def doctor(self, *arguments: str) -> Ended:
        return mrg("doctor", "--config", self.config, "--lab-clock", self.clock, *FAST, *arguments)

    def findings(self, area: str) -> dict[str, Any]:
        """Give the findings of one area, by what they are about."""
        ended = self.doctor("--json")
        assert ended.code == 3
        return {each["subject"]: each for each in ended.document["findings"] if each["area"] == area}

    @contextmanager
    def served(self, peer: Peer, code: str = "sh") -> Iterator[None]:
        """Have a peer listen, with its own certificate, and the configuration know where."""
        tls = self.ceremony.folder / code / "tls"
        server = grpc.server(ThreadPoolExecutor(max_workers=2))
        federation_pb2_grpc.add_FederationServiceServicer_to_server(cast("Any", peer), server)
        port = server.add_secure_port("127.0.0.1:0", _credentials(tls, self.folder / "tls" / "ca.pem"))
        server.start()
        self.edit(r'(?<=^province = "sh"\n)address = ".*"', f'address = "127.0.0.1:{port}"')
        yield
        server.stop(None).wait()


def _credentials(tls: Path, client_ca: Path) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [((tls / "server.key").read_bytes(), (tls / "server.pem").read_bytes())],
        root_certificates=client_ca.read_bytes(),
        require_client_auth=True,
    )


@pytest.fixture
def province(federation: Federation, completed: Ceremony) -> Province:
    return Province(federation, completed)


def state(province: Province, **changes: Any) -> federation_pb2.TrustState:
    members = {
        "charter_version": 1,
        "statements": list(province.federation[AH].store.load_memory().documents.values()),
        "send_time": wire.timestamp(START),
        **changes,
    }
    return federation_pb2.TrustState(**members)


# -- with everything down ---------------------------------------------------------------------------------------------


def test_everything_is_looked_at_when_everything_is_down(province: Province) -> None:
    ended = province.doctor("--json")
    assert ended.code == 3
    document = ended.document
    assert document["healthy"] is False
    areas = {each["area"] for each in document["findings"]}
    assert areas >= {"configuration", "key store", "TLS", "charter", "trust", "peer sh", "peer js", "peer zj"}
    assert sum(document["counts"].values()) == len(document["findings"])
    for each in document["findings"]:
        assert set(each) == {"area", "subject", "state", "detail", "fix"}
        assert (each["state"] == "ok") or each["fix"], each
    states = {(each["area"], each["subject"]): each["state"] for each in document["findings"]}
    assert states["peer sh", "TLS"] == "fail"
    assert states["our gateway", "verification"] == "fail"
    assert states["trust", entity_ids(SH).issuer] == "ok"
    assert states["TLS", "server.pem"] == "ok"


def test_people_get_a_table_and_may_leave_out_what_is_well(province: Province) -> None:
    shown = province.doctor()
    assert shown.code == 3
    assert "nothing listens there" in shown.out
    assert "to mend" in shown.out
    assert re.search(r"^ok ", shown.out, flags=re.MULTILINE)
    assert not re.search(r"^ok ", province.doctor("--problems").out, flags=re.MULTILINE)


def test_a_configuration_at_fault_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("province = 1")
    ended = mrg("doctor", "--config", tmp_path / "gateway.toml", "--json")
    assert ended.code == 3
    assert [(each["area"], each["state"]) for each in ended.document["findings"]] == [("configuration", "fail")]


def test_a_configuration_that_is_not_there_is_2(tmp_path: Path) -> None:
    assert mrg("doctor", "--config", tmp_path / "nosuch.toml").code == 2


def test_a_province_that_never_ran_is_looked_at_all_the_same(completed: Ceremony) -> None:
    ended = mrg("doctor", "--config", completed.folder / "ah" / "gateway.toml", *FAST, "--json")
    found = {(each["area"], each["state"]) for each in ended.document["findings"]}
    assert {("trust", "fail"), ("key store", "ok"), ("TLS", "ok"), ("peer sh", "fail")} <= found


# -- on this machine --------------------------------------------------------------------------------------------------


def test_keys_that_others_can_read_are_found(province: Province) -> None:
    next((province.folder / "keys").glob("*.pem")).chmod(0o644)
    (found,) = province.findings("key store").values()
    assert found["state"] == "fail"
    assert "chmod" in found["fix"]


def test_a_role_without_a_key_is_found(province: Province) -> None:
    next((province.folder / "keys").glob("issuer-status*.pem")).unlink()
    assert province.findings("key store")["issuer-status"]["state"] == "fail"


def test_a_role_that_came_later_gets_its_first_key_by_itself_unless_it_had_one(province: Province) -> None:
    next((province.folder / "keys").glob("gateway-audit*.pem")).unlink()
    recorded = province.federation[AH].store.load_keys()
    assert any(record.purpose is KeyPurpose.AUDIT for record in recorded)
    assert province.findings("key store")["gateway-audit"]["state"] == "fail"
    with closing(sqlite3.connect(province.federation.directory / "ah.sqlite")) as database, database:
        database.execute("DELETE FROM keys WHERE purpose = 'gateway-audit'")
    assert province.findings("key store")["gateway-audit"]["state"] == "warn"


def test_a_live_key_whose_file_is_gone_is_found(province: Province) -> None:
    store = province.federation[AH].store
    opened = open_key_store(province.folder / "keys", KeyStoreOptions())
    (there,) = opened.keys("issuer-credential").values()
    gone = generate_key().public
    states = (KeyState.PUBLISHED, KeyState.ACTIVE, KeyState.RETIRED)
    for key, state in zip((there.public, gone, generate_key().public), states, strict=True):
        record = KeyRecord(key=key, purpose=KeyPurpose.CREDENTIAL, state=state, staged_at=START, activated_at=START)
        store.save_keys([record], [])
    found = province.findings("key store")
    assert found[f"issuer-credential.{gone.kid}"]["state"] == "fail"
    assert "backup" in found[f"issuer-credential.{gone.kid}"]["fix"]
    assert not any(there.public.kid in subject for subject in found)
    assert sum("issuer-credential." in subject for subject in found) == 2, found  # the federation's own is not here


def test_a_pairwise_secret_is_told_when_it_is_missing_in_use_or_of_no_use(province: Province) -> None:
    def states() -> dict[str, str]:
        return {subject: each["state"] for subject, each in province.findings("pseudonyms").items()}

    assert states() == {"pairwise": "ok", "pairwise-issuer": "ok"}

    make_secret(province.folder / "keys", "pairwise", 2, system_world())
    assert states() == {"pairwise": "ok", "pairwise-issuer": "ok", "pairwise.v2.secret": "warn"}

    until = instant(START + timedelta(days=1))
    province.edit(r"(?<=^\[pairwise\]\n)version = 1\n#.*$", f"version = 2\nmapped_until = {until}")
    assert states() == {"pairwise": "ok", "pairwise-issuer": "ok"}

    province.set_clock(timedelta(days=1, seconds=1))  # its offset is in whole seconds
    assert states() == {"pairwise": "ok", "pairwise-issuer": "ok", "pairwise.secret": "warn"}
    assert "shred" in province.findings("pseudonyms")["pairwise.secret"]["fix"]

    (province.folder / "keys" / "pairwise.secret").unlink()
    assert states() == {"pairwise": "ok", "pairwise-issuer": "ok"}

    province.set_clock(timedelta(0))
    assert states() == {"pairwise.secret": "fail", "pairwise-issuer": "ok"}


def test_an_encrypted_key_without_a_passphrase_says_what_to_name(province: Province) -> None:
    file = next((province.folder / "keys").glob("*.pem"))
    file.write_bytes(load_pkcs8(file.read_bytes()).to_pkcs8(b"a passphrase that nobody guesses"))
    (found,) = province.findings("key store").values()
    assert "encrypted" in found["detail"]
    assert "passphrase_file" in found["fix"]


def test_an_issuer_that_was_withdrawn_is_named(province: Province) -> None:
    issuer, anchors = entity_ids(SH).issuer, province.federation.charter.anchors[:2]
    withdrawals = {
        (anchor.entity_id, key.thumbprint, issuer): Withdrawal(revoked_at=START, reason="closed")
        for anchor in anchors
        for key in anchor.keys.values()
    }
    province.federation[AH].store.save_memory(TrustMemory(withdrawals=withdrawals))
    found = province.findings("trust")[issuer]
    assert found["state"] == "fail"
    assert all(anchor.entity_id in found["detail"] for anchor in anchors)


def test_a_certificate_of_another_key_is_found(province: Province) -> None:
    key = province.folder / "tls" / "server.key"
    key.write_bytes((province.folder / "tls" / "ca.key").read_bytes())
    key.chmod(0o640)
    found = province.findings("TLS")
    assert (found["server.pem"]["state"], found["server.key"]["state"]) == ("fail", "fail")
    assert found["CA of sh"]["state"] == "ok"


def test_fewer_than_two_administrators_are_warned_of(province: Province) -> None:
    province.edit(r'(?<=/admin-2"\n)roles = .*', 'roles = ["anchor"]')
    assert province.findings("configuration")["administrators"]["state"] == "warn"


def test_what_ends_soon_is_warned_of(province: Province) -> None:
    # The charter of the federation lives 180 days.
    for days, expected in ((140, "ok"), (160, "warn"), (200, "fail")):
        province.set_clock(timedelta(days=days))
        assert province.findings("charter")["expiry"]["state"] == expected


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (31, State.OK),
        *((days, State.WARN) for days in WARN_DAYS[:-1]),
        (1, State.FAIL),
        (0, State.FAIL),
        (-3, State.FAIL),
    ],
)
def test_the_calendar_warns_ahead(days: int, expected: State) -> None:
    found = end("TLS", "x", START + timedelta(days=days), START, "renew it")
    assert found.state is expected
    assert (expected is State.OK) == (not found.fix)


def test_stale_trust_data_is_found(province: Province) -> None:
    province.set_clock(timedelta(minutes=15))
    assert province.findings("trust")[entity_ids(SH).issuer]["state"] == "warn"
    province.set_clock(timedelta(days=2))
    assert province.findings("trust")[entity_ids(SH).issuer]["state"] == "fail"


def test_alarms_and_a_clock_that_went_back_are_found(province: Province) -> None:
    anchor = province.federation.charter.anchors[0]
    (key,) = anchor.keys.values()
    equivocations = {(anchor.entity_id, key.thumbprint): Equivocation(one="a", other="b")}
    memory = TrustMemory(equivocations=equivocations, clock_floor=START + timedelta(days=1))
    province.federation[AH].store.save_memory(memory)
    assert "EQUIVOCATION" in province.findings("alarm")[anchor.entity_id]["detail"]
    assert "reset-clock" in province.findings("trust")["clock"]["fix"]


def test_keys_that_are_due_and_stand_by_keys_that_are_missing_are_found(province: Province) -> None:
    store = province.federation[AH].store
    for record in store.load_keys():
        store.save_keys([_aged(record)], [])
    found = province.findings("keys")[KeyPurpose.CREDENTIAL.value]
    assert found["state"] == "warn"
    assert "mrg keys rotate credential" in found["fix"]


def test_a_key_is_due_when_the_scheduler_rotates_it(province: Province) -> None:
    store = province.federation[AH].store
    (record,) = [each for each in store.load_keys() if each.purpose is KeyPurpose.CREDENTIAL]
    days = load_config(province.config).rotation.credential_days
    due = due_at(record, timedelta(days=days))
    assert due < (record.activated_at or START) + timedelta(days=days)
    details = [each["detail"] for each in province.doctor("--json").document["findings"] if each["area"] == "keys"]
    assert any((instant(due) or "never") in detail for detail in details)


def _aged(record: KeyRecord) -> KeyRecord:
    """The one key of a purpose, active for longer than any policy lets it be."""
    moment = START - timedelta(days=400)
    return KeyRecord(
        key=record.key, purpose=record.purpose, state=KeyState.ACTIVE, staged_at=moment, activated_at=moment
    )


# -- on the way to others ---------------------------------------------------------------------------------------------


def test_a_peer_that_is_well_is_said_to_be(province: Province) -> None:
    with province.served(Peer(state(province))):
        found = province.findings("peer sh")
    assert {subject: each["state"] for subject, each in found.items()} == {
        "TLS": "ok",
        "their certificate": "ok",
        "answers": "ok",
        "clock": "ok",
        "charter": "ok",
        entity_ids(SH).anchor: "ok",
    }


@pytest.mark.parametrize(
    ("changes", "subject", "expected"),
    [
        ({"charter_version": 0}, "charter", "warn"),
        ({"charter_version": 2}, "charter", "warn"),
        ({"send_time": wire.timestamp(START + timedelta(seconds=40))}, "clock", "warn"),
        ({"send_time": wire.timestamp(START - timedelta(minutes=10))}, "clock", "fail"),
        ({"statements": []}, entity_ids(SH).anchor, "warn"),
        ({"statements": ["garbage"]}, entity_ids(SH).anchor, "warn"),
    ],
)
def test_what_a_peer_lacks_is_found(province: Province, changes: dict[str, Any], subject: str, expected: str) -> None:
    with province.served(Peer(state(province, **changes))):
        assert province.findings("peer sh")[subject]["state"] == expected


def test_an_anchor_that_ceased_to_speak_is_found(province: Province) -> None:
    peer = Peer(state(province, send_time=wire.timestamp(START + timedelta(hours=1))))
    province.set_clock(timedelta(hours=1))
    with province.served(peer):
        assert province.findings("peer sh")[entity_ids(SH).anchor]["state"] == "fail"


def test_a_peer_that_does_not_know_us_is_found(province: Province) -> None:
    with province.served(Peer(refuses=grpc.StatusCode.PERMISSION_DENIED)):
        found = province.findings("peer sh")["answers"]
    assert found["state"] == "fail"
    assert "CA" in found["fix"]


def test_a_peer_with_another_ca_is_found(province: Province) -> None:
    with province.served(Peer(state(province)), code="js"):
        found = province.findings("peer sh")
    assert list(found) == ["TLS"]
    assert "not accepted" in found["TLS"]["detail"]


def test_our_own_listeners_are_asked_for_their_health(province: Province) -> None:
    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    tls = province.folder / "tls"
    port = server.add_secure_port("127.0.0.1:0", _credentials(tls, tls / "ca.pem"))
    server.start()
    address = load_config(province.config).listeners.admin.address
    province.edit(re.escape(address), f"0.0.0.0:{port}")
    assert province.findings("our gateway")["admin"]["state"] == "ok"
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert province.findings("our gateway")["admin"]["state"] == "fail"
    server.stop(None).wait()


class InTurns(health.HealthServicer):
    """Several processes behind one port, one of which is not fit."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = 0

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._turns += 1
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if self._turns % 3 else status.NOT_SERVING)


def test_one_of_several_processes_that_is_not_fit_is_found(province: Province) -> None:
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    health_pb2_grpc.add_HealthServicer_to_server(InTurns(), server)
    tls = province.folder / "tls"
    port = server.add_secure_port("127.0.0.1:0", _credentials(tls, tls / "ca.pem"))
    server.start()
    address = load_config(province.config).listeners.verification.address
    province.edit(re.escape(address), f"127.0.0.1:{port}")
    found = province.findings("our gateway")["verification"]
    assert (found["state"], "processes" in found["detail"]) == ("fail", True)
    server.stop(None).wait()


def test_a_check_that_breaks_is_a_finding_and_quotes_nothing() -> None:
    def broken() -> Sequence[Finding]:
        raise RuntimeError("徐某")

    (found,) = isolated("trust", broken)
    assert found.state is State.FAIL
    assert "RuntimeError" in found.detail
    assert "徐某" not in found.detail


# -- the log ----------------------------------------------------------------------------------------------------------


def log_findings(province: Province) -> dict[str, Any]:
    return {each["subject"]: each["state"] for each in province.findings("log").values()}


def test_a_log_whose_head_is_signed_and_seen_is_well(province: Province) -> None:
    province.federation.publish()
    province.federation.witness()
    province.edit(r"gateway\.(sh|js|zj)\.test", r"gateway.\1.mrg.example")
    found = log_findings(province)
    assert found == {
        "head": "ok",
        **dict.fromkeys(("seen by sh", "seen by js", "seen by zj"), "ok"),
        "retention": "ok",
    }


def test_a_log_that_is_not_signed_is_to_be_mended(province: Province) -> None:
    assert log_findings(province)["head"] == "fail"


def test_a_head_that_nobody_has_seen_lately_is_warned_of(province: Province) -> None:
    province.federation.publish()
    province.federation.witness()
    province.edit(r"gateway\.(sh|js|zj)\.test", r"gateway.\1.mrg.example")
    province.set_clock(timedelta(hours=2))
    found = log_findings(province)
    assert (found["head"], found["seen by sh"]) == ("warn", "warn")


@pytest.mark.parametrize(("kind", "state"), [("forked", "fail"), ("rolled_back", "fail"), ("replaced", "warn")])
def test_a_log_that_contradicts_itself_is_named(province: Province, kind: str, state: str) -> None:
    log, gateway = province.federation[AH].log, entity_ids(SH).gateway
    log.save_fork(Fork(gateway=gateway, kind=kind, found_at=START, seen="one", shown="other"))
    assert log_findings(province)[gateway] == state


def test_a_log_that_took_the_place_of_another_is_pointed_out_for_a_while(province: Province) -> None:
    province.federation[AH].log.begin_log(START, "another", 10)
    assert log_findings(province)["ours"] == "warn"
    province.set_clock(timedelta(days=31))
    assert log_findings(province)["ours"] == "ok"


def test_what_should_have_been_erased_is_warned_of(province: Province) -> None:
    province.federation.verify(*province.federation.present(province.federation.issue()))
    assert log_findings(province)["retention"] == "ok"
    province.set_clock(timedelta(days=1_200))
    found = [each for each in province.doctor("--json").document["findings"] if each["subject"] == "retention"]
    assert {each["state"] for each in found} == {"ok", "warn"}
