"""Several processes of one gateway on one database: one leads, the others follow, and any of them can take over."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from recognition.v1 import issuance_pb2, issuance_pb2_grpc, keys_pb2, keys_pb2_grpc

from gateway.app import App
from gateway.cli.serving import _Serving
from gateway.clock import system_world
from gateway.config import Config, PostgresUrl
from gateway.config.reader import load_config
from gateway.config.writer import render_config
from gateway.core.identifiers import Province
from gateway.core.key_schedule import KeyPurpose
from gateway.core.reasons import Unavailable
from gateway.lab.agreement import ENTERPRISE_CHANGE, HUKOU_MIGRATION
from gateway.lab.callers import RelyingService, connect, read_profile
from gateway.lab.folder import prepare_lab
from gateway.storage.opening import open_lead
from tests.postgres import Server

SECONDS = 60


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return prepare_lab(tmp_path / "lab").path


@pytest.fixture
def configs(lab: Path, postgres: Server) -> tuple[Config, Config]:
    """Two processes of one province on one database; each listens wherever there is a free port."""
    config = load_config(lab / Province.ANHUI / "gateway.toml")
    listeners = config.listeners
    one = dataclasses.replace(
        config,
        file=config.file.with_name("one.toml"),
        database=PostgresUrl(postgres.new_database()),
        listeners=dataclasses.replace(
            listeners,
            verification=dataclasses.replace(listeners.verification, address="127.0.0.1:0"),
            federation=dataclasses.replace(listeners.federation, address="127.0.0.1:0"),
            admin=dataclasses.replace(listeners.admin, address="127.0.0.1:0"),
        ),
    )
    other = dataclasses.replace(one, file=config.file.with_name("other.toml"))
    for each in (one, other):
        each.file.write_text(render_config(each))
    return one, other


@contextmanager
def running(config: Config) -> Iterator[App]:
    with closing(open_lead(config)) as lead:
        lead.try_lead()
        app = App(config, system_world(), lead)
        app.start()
        try:
            yield app
        finally:
            app.stop(0)


def refusal(error: pytest.ExceptionInfo[grpc.RpcError]) -> str:
    status = rpc_status.from_call(error.value)  # type: ignore[arg-type] # an error is a call
    assert status is not None
    assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return str(status.message)


def test_a_follower_verifies_and_speaks_for_nobody(configs: tuple[Config, Config], lab: Path) -> None:
    clients = lab / Province.ANHUI / "clients"
    with running(configs[0]) as leader, running(configs[1]) as follower, ExitStack() as opened:

        def channel(app: App, name: str, listener: str = "verification") -> grpc.Channel:
            profile = read_profile(next(clients.glob(f"{name}*.toml")))
            made = connect(dataclasses.replace(profile, address=f"127.0.0.1:{app.ports[listener]}"))
            return opened.enter_context(made)

        # What any process can do, and what is then known to all.
        for app in (leader, follower):
            assert RelyingService(channel(app, "hukou")).challenge(HUKOU_MIGRATION).nonce
        consent_id = RelyingService(channel(follower, "market")).consent(
            ENTERPRISE_CHANGE, ["uscc", "organisation_name"]
        )
        RelyingService(channel(leader, "market")).withdraw(consent_id)

        # What only the leader can.
        issuance = issuance_pb2_grpc.IssuanceServiceStub(channel(follower, "identity"))
        with pytest.raises(grpc.RpcError) as refused:
            issuance.IssueCredential(issuance_pb2.IssueCredentialRequest(), timeout=SECONDS)
        assert "another process" in refusal(refused)
        keys = keys_pb2_grpc.KeyServiceStub(channel(follower, "admin-1", "admin"))
        with pytest.raises(grpc.RpcError) as refused:
            keys.ListKeys(keys_pb2.ListKeysRequest(), timeout=SECONDS)
        assert "another process" in refusal(refused)
        asked_leader = keys_pb2_grpc.KeyServiceStub(channel(leader, "admin-1", "admin"))
        assert asked_leader.ListKeys(keys_pb2.ListKeysRequest(), timeout=SECONDS).keys

        # Nothing is signed, and what the leader signed is relayed.
        for purpose in set(KeyPurpose) - {KeyPurpose.RECEIPT}:
            with pytest.raises(Unavailable):
                follower._keys.signer(purpose)
        follower._keys.signer(KeyPurpose.RECEIPT).sign(b"a receipt")
        gateway = configs[0].entities.gateway
        follower._resolver._publish_round()
        assert follower._resolver.served(gateway, gateway) == leader._resolver.document(gateway, gateway) is not None

        for app, status in ((leader, "SERVING"), (follower, "NOT_SERVING")):
            asked = health_pb2.HealthCheckRequest(service="recognition.v1.FederationService")
            health: Any = health_pb2_grpc.HealthStub(channel(app, "admin-1", "admin"))
            answer = health.Check(asked, timeout=SECONDS)
            assert health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == status


def test_a_leader_that_lost_its_lead_signs_nothing_more(configs: tuple[Config, Config], postgres: Server) -> None:
    with running(configs[0]) as app:
        signer = app._keys.signer(KeyPurpose.GATEWAY_FEDERATION)
        signer.sign(b"a statement")
        assert postgres.cut(str(configs[0].database), "lead") == 1
        with pytest.raises(Unavailable):
            signer.sign(b"another")
        with pytest.raises(Unavailable):
            app._keys.signer(KeyPurpose.AUDIT)


def test_a_follower_writes_nothing_of_trust(configs: tuple[Config, Config], postgres: Server) -> None:
    with running(configs[0]):
        pass

    def written() -> list[object]:
        tables = ("lineage", "documents", "charters", "events", "keys", "key_events", "views", "members", "logs")
        return [postgres.ask(f"TABLE {name}", str(configs[0].database)) for name in tables]

    with closing(open_lead(configs[0])) as leader:
        assert leader.try_lead()
        before = written()
        with running(configs[1]) as follower:
            follower._resolver.refresh()
            follower._keys.follow()
        assert written() == before


def test_who_loses_the_lead_while_put_together_anew_asks_for_it_again(
    configs: tuple[Config, Config], postgres: Server
) -> None:
    config = configs[0]
    assert isinstance(config.database, PostgresUrl)
    lead = open_lead(config)
    assert lead.try_lead()
    unused: Any = None  # neither what was there before nor a wish has a part in it
    serving = _Serving(config, system_world(), lead, unused, unused)
    assert postgres.cut(config.database.url, "lead") == 1
    app = serving._put_together()
    assert app is not None
    with closing(serving.lead):
        assert serving.lead is not lead
        assert app.is_leader
        app.stop(0)


# -- as processes -----------------------------------------------------------------------------------------------------


class Process:
    """One `mrg serve`, and what it says."""

    def __init__(self, config: Config) -> None:
        command = [sys.executable, "-m", "gateway", "serve", "--json", "--config", str(config.file)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, event: str, **members: object) -> dict[str, object]:
        """Read its log up to an event."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            entry: dict[str, object] = json.loads(line)
            if entry["event"] == event and members.items() <= entry.items():
                return entry
        raise AssertionError(f"it ended before {event}")

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=SECONDS)
        return self._process.returncode

    def close(self) -> None:
        self._process.kill()
        with self._process:
            pass


@pytest.fixture
def start() -> Iterator[Callable[[Config], Process]]:
    started: list[Process] = []

    def run(config: Config) -> Process:
        started.append(Process(config))
        return started[-1]

    yield run
    for each in started:
        each.close()


def test_a_follower_takes_over_when_the_leader_dies(
    configs: tuple[Config, Config], start: Callable[[Config], Process]
) -> None:
    one = start(configs[0])
    one.wait_for("gateway_started", status="leader")
    other = start(configs[1])
    other.wait_for("gateway_started", status="follower")
    one.kill()
    other.wait_for("gateway_started", status="leader")
    again = start(configs[0])
    again.wait_for("gateway_started", status="follower")
    assert other.end() == 0
    again.wait_for("gateway_started", status="leader")
    assert again.end() == 0


def test_processes_survive_a_database_that_is_restarted(
    configs: tuple[Config, Config], start: Callable[[Config], Process], postgres: Server
) -> None:
    both = [start(each) for each in configs]
    both[0].wait_for("gateway_started")
    both[1].wait_for("gateway_started")
    postgres.stop("immediate")
    postgres.start()
    ends = [each.wait_for("gateway_started")["status"] for each in both]
    assert sorted(map(str, ends)) == ["follower", "leader"]
    assert [each.end() for each in both] == [0, 0]
