"""Certificates are replaced under a running gateway, and no call notices. Files, and real handshakes."""

from __future__ import annotations

import json
import logging
import os
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from recognition.v1 import federation_pb2, federation_pb2_grpc

from gateway.app import App
from gateway.certificates import (
    HALF_REPLACED_SECONDS,
    MAX_FILE_BYTES,
    CertificateFiles,
    UnfitFileError,
    expiries,
    problems,
)
from gateway.clock import World, system_world
from gateway.config import (
    AdminListener,
    CharterPin,
    Config,
    Entities,
    FederationListener,
    Listeners,
    Peer,
    TlsFiles,
    VerificationListener,
)
from gateway.config.reader import load_config
from gateway.core.encoding import sha256_b64url
from gateway.core.identifiers import Province
from gateway.core.reasons import NotPermitted
from gateway.guard import caller_of
from gateway.lab.folder import prepare_lab
from gateway.logs import configure
from gateway.peers import GrpcPeer, PeerError, TrustStream
from gateway.server.listener import Listener
from gateway.tls import CallerReader, create_ca, issue_certificate

WORLD = system_world()  # a handshake is judged by the machine's clock
NOW = WORLD.now()
DAY = timedelta(days=1)
ANHUI = "https://gateway.ah.example"
JIANGSU = "https://gateway.js.example"
PATIENCE = 60.0
SLOW = 2
"""The charter of that version takes its time."""
WORKERS = 4


@dataclass(frozen=True, slots=True)
class Ca:
    certificate: bytes
    key: bytes

    def issue(self, identity: str, **changes: Any) -> tuple[bytes, bytes]:
        arguments: dict[str, Any] = {
            "dns_names": ["localhost"],
            "ip_addresses": [],
            "server": True,
            "client": True,
            "now": NOW,
            "lifetime": DAY,
        }
        return issue_certificate(self.certificate, self.key, identity_uri=identity, **(arguments | changes))


def make_ca(name: str) -> Ca:
    return Ca(*create_ca(name, NOW))


def digest(certificate_pem: bytes) -> str:
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return sha256_b64url(certificate.public_bytes(serialization.Encoding.DER))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.02)


@dataclass
class Site:
    """The files of one province, and what reads them."""

    folder: Path
    identity: str
    province: Province
    peers: tuple[Peer, ...] = ()
    now: datetime | None = None
    elapsed: float | None = None
    """Set: the time that files stand still is the test's."""
    files: CertificateFiles = field(init=False)

    @property
    def config(self) -> Config:
        folder = self.folder
        return Config(
            file=folder / "gateway.toml",
            province=self.province,
            database=folder / "gateway.db",
            keys=folder / "keys",
            entities=Entities(gateway=self.identity, issuer=None, anchor=None),
            charter=CharterPin(file=folder / "charter.jws", sha256="A" * 43),
            tls=TlsFiles(certificate=folder / "gateway.pem", private_key=folder / "gateway.key"),
            listeners=Listeners(
                verification=VerificationListener(address="localhost:0", client_ca=folder / "ca.pem"),
                federation=FederationListener(address="localhost:0"),
                admin=AdminListener(address="localhost:0", client_ca=folder / "ca.pem", reflection=False),
            ),
            peers=self.peers,
        )

    def put(self, name: str, content: bytes) -> None:
        """Replace a file as an editor or an installer does: another takes its place."""
        fresh = self.folder / f".{name}.new"
        fresh.touch(mode=0o600)
        fresh.write_bytes(content)
        fresh.replace(self.folder / name)

    def put_pair(self, pair: tuple[bytes, bytes]) -> None:
        certificate, key = pair
        self.put("gateway.pem", certificate)
        self.put("gateway.key", key)

    def open(self) -> CertificateFiles:
        world = World(now=lambda: self.now or WORLD.now(), random_bytes=WORLD.random_bytes)
        clock = time.monotonic if self.elapsed is None else lambda: self.elapsed or 0.0
        self.files = CertificateFiles(self.config, world.now, monotonic=clock)
        return self.files

    def pass_time(self, seconds: float = 5.0) -> None:
        """Let the process look, and look again once files had time to stand still."""
        assert self.elapsed is not None
        for _ in range(2):
            self.elapsed += seconds
            self.files.refresh()

    def own(self) -> tuple[bytes, bytes]:
        material = self.files.material(())
        return material.certificate, material.private_key

    def ca(self, name: str = "ca.pem") -> bytes:
        return self.files.material((self.folder / name,)).cas


ANHUI_CA = make_ca("Anhui")
ANHUI_CA_2 = make_ca("Anhui, from 2027")
JIANGSU_CA = make_ca("Jiangsu")
FIRST = ANHUI_CA.issue(ANHUI)
SECOND = ANHUI_CA.issue(ANHUI)

Warnings = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def warnings(capsys: pytest.CaptureFixture[str]) -> Warnings:
    configure("warning", json=True)

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return read


@pytest.fixture(autouse=True)
def restore_process_wide_settings() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    settings = structlog.get_config()
    yield
    structlog.configure(**settings)
    root.handlers, (sys.excepthook, threading.excepthook) = handlers, hooks
    root.setLevel(level)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Anhui, with one peer, in the test's time."""
    peer = Peer(province=Province.JIANGSU, address="localhost:1", ca=tmp_path / "js.pem", gateway=JIANGSU)
    site = Site(tmp_path, ANHUI, Province.ANHUI, (peer,), now=NOW, elapsed=1000.0)
    site.put_pair(FIRST)
    site.put("ca.pem", ANHUI_CA.certificate)
    site.put("js.pem", JIANGSU_CA.certificate)
    site.open()
    return site


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_new_pair_comes_into_force(site: Site, warnings: Warnings) -> None:
    site.put_pair(SECOND)
    site.pass_time()

    assert site.own() == SECOND
    assert warnings() == []


def test_a_new_pair_behind_a_link_comes_into_force(site: Site) -> None:
    for number, (certificate, key) in enumerate((FIRST, SECOND)):
        live = site.folder / f"live-{number}"
        live.mkdir()
        (live / "gateway.pem").write_bytes(certificate)
        (live / "gateway.key").touch(mode=0o600)
        (live / "gateway.key").write_bytes(key)
    current = site.folder / "current"
    current.symlink_to("live-0")
    for name in ("gateway.pem", "gateway.key"):
        (site.folder / name).unlink()
        (site.folder / name).symlink_to(f"current/{name}")
    site.open()

    fresh = site.folder / "next"
    fresh.symlink_to("live-1")
    fresh.replace(current)
    site.pass_time()

    assert site.own() == SECOND


def test_a_file_that_is_being_written_is_not_read(site: Site) -> None:
    assert site.elapsed is not None
    for size in (1, 2):  # two certificates, written one after the other
        (site.folder / "ca.pem").write_bytes(b"".join([ANHUI_CA_2.certificate, ANHUI_CA.certificate][:size]))
        site.elapsed += 1.5
        site.files.refresh()
        assert site.ca() == ANHUI_CA.certificate

    site.pass_time()
    assert site.ca() == ANHUI_CA_2.certificate + ANHUI_CA.certificate


def test_files_are_looked_at_once_a_second_at_most(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.elapsed is not None
    site.pass_time()
    looks: list[Path] = []
    stat = Path.stat

    def counted(file: Path, **options: Any) -> os.stat_result:
        looks.append(file)
        return stat(file, **options)

    monkeypatch.setattr(Path, "stat", counted)
    for _ in range(50):
        site.elapsed += 0.019
        site.ca()
    assert looks == []
    site.elapsed += 0.1
    site.ca()
    assert sorted(file.name for file in looks) == ["ca.pem", "gateway.key", "gateway.pem", "js.pem"]


@pytest.mark.parametrize("first", [0, 1])
def test_half_a_pair_is_not_an_error_and_the_old_pair_goes_on(site: Site, warnings: Warnings, first: int) -> None:
    names = ("gateway.pem", "gateway.key")
    site.put(names[first], SECOND[first])
    site.pass_time(HALF_REPLACED_SECONDS / 3)
    assert site.own() == FIRST
    assert warnings() == []

    site.put(names[1 - first], SECOND[1 - first])
    site.pass_time()
    assert site.own() == SECOND
    assert warnings() == []


def test_half_a_pair_that_stays_is_told_once(site: Site, warnings: Warnings) -> None:
    site.put("gateway.pem", SECOND[0])
    for _ in range(5):
        site.pass_time(HALF_REPLACED_SECONDS)

    (line,) = warnings()
    assert (line["event"], line["file"]) == ("certificate_refused", str(site.folder / "gateway.pem"))
    assert site.own() == FIRST


def encrypted(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"correct horse"),
    )


ELSEWHERE = ANHUI_CA.issue(f"{ANHUI}/services/x")
EXPIRED = ANHUI_CA.issue(ANHUI, lifetime=-timedelta(seconds=1))
EARLY = ANHUI_CA.issue(ANHUI, now=NOW + DAY)
UNFIT = {
    "garbage for a certificate": ({"gateway.pem": b"garbage"}, "gateway.pem"),
    "nothing for a certificate": ({"gateway.pem": b""}, "gateway.pem"),
    "half of a chain": ({"gateway.pem": FIRST[0] + SECOND[0][:200] + b"\n"}, "gateway.pem"),
    "garbage for a key": ({"gateway.key": b"garbage"}, "gateway.key"),
    "an encrypted key": ({"gateway.key": encrypted(FIRST[1])}, "gateway.key"),
    "another identity": ({"gateway.pem": ELSEWHERE[0], "gateway.key": ELSEWHERE[1]}, "gateway.pem"),
    "expired": ({"gateway.pem": EXPIRED[0], "gateway.key": EXPIRED[1]}, "gateway.pem"),
    "not valid yet": ({"gateway.pem": EARLY[0], "gateway.key": EARLY[1]}, "gateway.pem"),
    "too large": ({"gateway.pem": SECOND[0] + b"\n" * MAX_FILE_BYTES, "gateway.key": SECOND[1]}, "gateway.pem"),
    "garbage for a CA": ({"ca.pem": b"garbage"}, "ca.pem"),
    "no CA": ({"ca.pem": SECOND[0]}, "ca.pem"),
    "a CA and no CA": ({"ca.pem": ANHUI_CA_2.certificate + SECOND[0]}, "ca.pem"),
    "a CA that has expired": ({"js.pem": create_ca("x", NOW - DAY, timedelta(hours=1))[0]}, "js.pem"),
    "our CA for a peer's": ({"js.pem": ANHUI_CA.certificate}, "js.pem"),
    "a peer's CA besides ours": ({"ca.pem": ANHUI_CA.certificate + JIANGSU_CA.certificate}, "ca.pem"),
}


@pytest.mark.parametrize(("files", "named"), UNFIT.values(), ids=UNFIT.keys())
def test_what_is_not_good_changes_nothing_and_is_told_once(
    site: Site, warnings: Warnings, files: dict[str, bytes], named: str
) -> None:
    before = (site.own(), site.ca(), site.ca("js.pem"))
    for name, content in files.items():
        site.put(name, content)
    for _ in range(3):
        site.pass_time()
    os.utime(site.folder / named)  # the same content once more
    site.pass_time()

    assert (site.own(), site.ca(), site.ca("js.pem")) == before
    (line,) = warnings()
    assert (line["event"], line["file"]) == ("certificate_refused", str(site.folder / named))
    assert "redacted" not in line


def test_another_bad_content_is_told_too(site: Site, warnings: Warnings) -> None:
    for content in (b"garbage", b"rubbish"):
        site.put("ca.pem", content)
        site.pass_time()

    assert len(warnings()) == 2


def test_a_key_that_others_may_read_is_not_taken_over(site: Site, warnings: Warnings) -> None:
    site.put_pair(SECOND)
    (site.folder / "gateway.key").chmod(0o640)
    site.pass_time()
    assert site.own() == FIRST
    (line,) = warnings()
    assert line["file"] == str(site.folder / "gateway.key")

    (site.folder / "gateway.key").chmod(0o600)
    site.pass_time()
    assert site.own() == SECOND


def test_a_file_that_is_gone_changes_nothing(site: Site, warnings: Warnings) -> None:
    (site.folder / "ca.pem").unlink()
    site.pass_time()
    assert site.ca() == ANHUI_CA.certificate
    assert [line["file"] for line in warnings()] == [str(site.folder / "ca.pem")]

    site.put("ca.pem", ANHUI_CA_2.certificate)
    site.pass_time()
    assert site.ca() == ANHUI_CA_2.certificate


def test_one_bad_file_does_not_hold_up_another(site: Site) -> None:
    site.put("js.pem", b"garbage")
    site.put("ca.pem", ANHUI_CA_2.certificate)
    site.put_pair(SECOND)
    site.pass_time()

    assert (site.own(), site.ca()) == (SECOND, ANHUI_CA_2.certificate)


def test_a_certificate_comes_into_force_when_it_becomes_valid(site: Site) -> None:
    site.put_pair(EARLY)
    site.pass_time()
    assert site.own() == FIRST

    site.now = NOW + DAY
    site.pass_time()
    assert site.own() == EARLY


def test_readers_of_callers_follow_the_file(site: Site) -> None:
    prefixes = {site.folder / "ca.pem": (ANHUI,), site.folder / "js.pem": (JIANGSU,)}
    reader = CallerReader(lambda: site.files.authorities(prefixes))
    old, new = FIRST[0], ANHUI_CA_2.issue(ANHUI)[0]
    assert reader.read(old, NOW).identity == ANHUI
    with pytest.raises(NotPermitted):
        reader.read(new, NOW)

    site.put("ca.pem", ANHUI_CA.certificate + ANHUI_CA_2.certificate)
    site.pass_time()
    assert {reader.read(each, NOW).identity for each in (old, new)} == {ANHUI}

    site.put("ca.pem", ANHUI_CA_2.certificate)
    site.pass_time()
    assert reader.read(new, NOW).identity == ANHUI
    with pytest.raises(NotPermitted):
        reader.read(old, NOW)


@pytest.mark.parametrize("file", ["gateway.pem", "gateway.key", "ca.pem", "js.pem"])
def test_at_the_start_every_file_must_be_good(site: Site, file: str) -> None:
    assert list(problems(site.config, NOW)) == []
    site.put(file, b"garbage")
    with pytest.raises(UnfitFileError) as caught:
        site.open()
    assert caught.value.file == site.folder / file
    assert [problem.file for problem in problems(site.config, NOW)] == [site.folder / file]


def test_expiries_name_each_certificate_of_each_file_once(site: Site) -> None:
    site.put("ca.pem", ANHUI_CA.certificate + ANHUI_CA_2.certificate)
    found = expiries(site.config)

    assert [(each.key, each.file.name, each.subject) for each in found[:1]] == [
        ("tls.certificate", "gateway.pem", ANHUI)
    ]
    assert sorted(each.subject for each in found[1:]) == ["CN=Anhui", "CN=Anhui\\, from 2027", "CN=Jiangsu"]
    assert [each.not_after for each in found] == sorted(each.not_after for each in found)

    site.put("js.pem", b"garbage")
    assert len(expiries(site.config)) == 3


# -- a running gateway ------------------------------------------------------------------------------------------------


class _Trust(federation_pb2_grpc.FederationServiceServicer):
    """Says something all the time, and notes whose certificates it hears."""

    def __init__(self, callers: CallerReader) -> None:
        self._callers = callers
        self.calls: list[str] = []
        self.streams: list[str] = []
        self.stop = threading.Event()
        self.running = threading.Event()
        self.release = threading.Event()

    def GetCharter(self, request: Any, context: grpc.ServicerContext) -> federation_pb2.GetCharterResponse:
        self.calls.append(caller_of(context, self._callers, WORLD).certificate_sha256)
        if request.version == SLOW:
            self.running.set()
            self.release.wait(PATIENCE)
        return federation_pb2.GetCharterResponse(charter="x")

    def WatchTrust(self, request: Any, context: grpc.ServicerContext) -> Iterator[federation_pb2.WatchTrustResponse]:
        self.streams.append(caller_of(context, self._callers, WORLD).certificate_sha256)
        while context.is_active() and not self.stop.is_set():
            yield federation_pb2.WatchTrustResponse(state=federation_pb2.TrustState(charter_version=1))
            self.stop.wait(0.05)


def shown(port: int) -> str:
    """The certificate that a new handshake is shown."""
    return digest(ssl.get_server_certificate(("localhost", port), timeout=10).encode("ascii"))


@dataclass
class Pair:
    """Anhui serves, Jiangsu calls."""

    server: Site
    client: Site
    port: int
    servicer: _Trust

    def peer(self) -> GrpcPeer:
        ca = self.client.config.peers[0].ca
        return GrpcPeer(
            province="ah",
            gateway=ANHUI,
            address=f"localhost:{self.port}",
            material=lambda: self.client.files.material((ca,)),
        )

    def shown(self) -> str:
        return shown(self.port)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    sites = []
    for province, identity, ca, other in (
        (Province.ANHUI, ANHUI, ANHUI_CA, JIANGSU_CA),
        (Province.JIANGSU, JIANGSU, JIANGSU_CA, ANHUI_CA),
    ):
        folder = tmp_path / province
        folder.mkdir()
        theirs = (Province.JIANGSU, JIANGSU) if province is Province.ANHUI else (Province.ANHUI, ANHUI)
        peer = Peer(province=theirs[0], address="localhost:1", ca=folder / "peer.pem", gateway=theirs[1])
        site = Site(folder, identity, province, (peer,))
        site.put_pair(ca.issue(identity))
        site.put("ca.pem", ca.certificate)
        site.put("peer.pem", other.certificate)
        site.open()
        sites.append(site)
    server, client = sites
    prefixes = {server.folder / "ca.pem": (ANHUI,), server.folder / "peer.pem": (JIANGSU,)}
    callers = CallerReader(lambda: server.files.authorities(prefixes))
    listener = Listener(
        address="localhost:0",
        material=lambda: server.files.material(tuple(prefixes)),
        callers=callers,
        threads=8,
        max_concurrent_calls=32,
        world=WORLD,
        streams=4,
    )
    servicer = _Trust(callers)  # type: ignore[abstract]  # no other call is made
    federation: Any = servicer
    listener.add_federation(federation)
    listener.start()
    yield Pair(server, client, listener.port, servicer)
    servicer.stop.set()
    listener.stop(0)()


class Traffic:
    """Calls from several threads over one peer, over ever new connections, and one long stream."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.peer = pair.peer()
        self.stream: TrustStream = self.peer.watch()
        self.states = 0
        self.done = 0
        self.failed: list[BaseException] = []
        self._stop = threading.Event()
        work: Sequence[Callable[[], None]] = [*[self._call] * WORKERS, self._call_anew, self._renew]
        self._threads = [threading.Thread(target=self._repeat, args=(each,)) for each in work]
        self._threads.append(threading.Thread(target=self._listen))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.stream.cancel()
        for thread in self._threads:
            thread.join(PATIENCE)
        self.peer.close()

    def goes_on(self) -> None:
        """Wait until every kind of traffic was seen after this moment."""
        done, states = self.done, self.states
        eventually(lambda: self.failed != [] or (self.done > done + 5 * WORKERS and self.states > states + 2))
        assert self.failed == []

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                work()
            except Exception as error:  # noqa: BLE001 - whatever fails is what the test is about
                self.failed.append(error)
                return

    def _call(self) -> None:
        self.peer.charter(1)
        self.done += 1

    def _call_anew(self) -> None:
        peer = self._pair.peer()
        try:
            peer.charter(1)
        finally:
            peer.close()

    def _renew(self) -> None:
        self.peer.renew()
        self._stop.wait(0.1)

    def _listen(self) -> None:
        try:
            for _ in self.stream:
                self.states += 1
        except PeerError as error:
            if not self._stop.is_set():
                self.failed.append(error)


def test_no_call_fails_while_certificates_and_cas_are_replaced(pair: Pair) -> None:
    server, client = pair.server, pair.client
    with Traffic(pair) as traffic:
        traffic.goes_on()

        # The server's certificate.
        renewed = ANHUI_CA.issue(ANHUI)
        server.put_pair(renewed)
        eventually(lambda: pair.shown() == digest(renewed[0]))
        traffic.goes_on()

        # The client's CA: both, then the client's certificate from the new one, then the new one alone.
        successor = make_ca("Jiangsu, from 2027")
        server.put("peer.pem", JIANGSU_CA.certificate + successor.certificate)
        eventually(lambda: successor.certificate in server.ca("peer.pem"))
        traffic.goes_on()
        renewed = successor.issue(JIANGSU)
        client.put_pair(renewed)
        eventually(lambda: pair.servicer.streams[-1] == digest(renewed[0]))
        eventually(lambda: set(pair.servicer.calls[-3 * WORKERS :]) == {digest(renewed[0])})
        traffic.goes_on()
        server.put("peer.pem", successor.certificate)
        eventually(lambda: server.ca("peer.pem") == successor.certificate)
        traffic.goes_on()

        # The server's CA likewise.
        client.put("peer.pem", ANHUI_CA.certificate + ANHUI_CA_2.certificate)
        eventually(lambda: ANHUI_CA_2.certificate in client.ca("peer.pem"))
        traffic.goes_on()
        server.put("ca.pem", ANHUI_CA.certificate + ANHUI_CA_2.certificate)
        renewed = ANHUI_CA_2.issue(ANHUI)
        server.put_pair(renewed)
        eventually(lambda: pair.shown() == digest(renewed[0]))
        client.put("peer.pem", ANHUI_CA_2.certificate)
        eventually(lambda: client.ca("peer.pem") == ANHUI_CA_2.certificate)
        traffic.goes_on()


def test_a_running_call_ends_on_the_channel_it_began_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.peers.FETCH_SECONDS", PATIENCE)
    peer = pair.peer()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(peer.charter, SLOW)
        assert pair.servicer.running.wait(PATIENCE)
        renewed = JIANGSU_CA.issue(JIANGSU)
        pair.client.put_pair(renewed)
        eventually(lambda: peer.charter(1) == "x" and pair.servicer.calls[-1] == digest(renewed[0]))
        assert not slow.done()
        pair.servicer.release.set()
        assert slow.result(PATIENCE) == "x"
    assert peer.charter(1) == "x"
    assert peer._links._replaced == set()
    peer.close()


def test_a_broken_file_leaves_the_running_gateway_as_it_was(pair: Pair, warnings: Warnings) -> None:
    before = pair.shown()
    pair.server.put("gateway.pem", b"garbage")
    told: list[dict[str, Any]] = []

    def is_told() -> bool:
        assert pair.shown() == before
        told.extend(warnings())
        return bool(told)

    eventually(is_told)
    assert [line["file"] for line in told] == [str(pair.server.folder / "gateway.pem")]
    with Traffic(pair) as traffic:
        traffic.goes_on()


def test_callers_of_a_removed_ca_are_refused_on_old_connections_and_new(pair: Pair) -> None:
    peer = pair.peer()
    assert peer.charter(1) == "x"
    stream = peer.watch()
    assert next(iter(stream)).charter_version == 1

    pair.server.put("peer.pem", make_ca("Jiangsu, from 2027").certificate)

    def refused(call: Callable[[], object]) -> str:
        try:
            call()
        except PeerError as error:
            return str(error)
        return ""

    eventually(lambda: refused(lambda: peer.charter(1)) != "")
    assert refused(lambda: peer.charter(1)) == "PERMISSION_DENIED"
    assert refused(lambda: list(stream)) == "PERMISSION_DENIED"
    assert refused(lambda: pair.peer().charter(1)) == "UNAVAILABLE"
    peer.close()


def test_callers_of_an_added_ca_are_admitted(pair: Pair) -> None:
    successor = make_ca("Jiangsu, from 2027")
    pair.client.put_pair(successor.issue(JIANGSU))
    pair.client.open()
    peer = pair.peer()
    with pytest.raises(PeerError, match="UNAVAILABLE"):
        peer.charter(1)

    pair.server.put("peer.pem", JIANGSU_CA.certificate + successor.certificate)
    eventually(lambda: successor.certificate in pair.server.ca("peer.pem"))
    fresh = pair.peer()  # the first waits before it tries again
    assert fresh.charter(1) == "x"
    peer.close()
    fresh.close()


def test_a_whole_process_shows_a_new_certificate_on_every_listener_and_towards_peers(tmp_path: Path) -> None:
    folder = prepare_lab(tmp_path / "lab").path / Province.ANHUI
    config = load_config(folder / "gateway.toml")
    app = App(config, WORLD)
    app.start()
    try:
        ca = Ca((folder / "tls/ca.pem").read_bytes(), (folder / "tls/ca.key").read_bytes())
        certificate, key = ca.issue(config.entities.gateway)
        config.tls.certificate.write_bytes(certificate)
        config.tls.private_key.write_bytes(key)
        eventually(lambda: {shown(port) for port in app.ports.values()} == {digest(certificate)})
        eventually(lambda: {peer._links._link.material.certificate for peer in app._peers} == {certificate})
    finally:
        app.stop(0)
