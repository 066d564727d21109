"""A lab of four real processes as the end-to-end tests need it: its lines, its clock and its administrators at hand.

Nothing here looks inside a gateway. What is known of one comes over its own ports, from its log, or from the kernel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc
from recognition.v1 import anchor_pb2_grpc, audit_pb2_grpc, federation_pb2, federation_pb2_grpc, keys_pb2_grpc

from gateway.config import PostgresUrl
from gateway.config.reader import load_config
from gateway.config.writer import render_config
from gateway.core.encoding import b64url_decode
from gateway.core.identifiers import Province
from gateway.core.jose import SoftwareKey, load_pkcs8
from gateway.lab.callers import Profile, connect
from gateway.lab.cast import COURT, HUKOU, IDENTITY
from gateway.lab.charter import entity_ids
from gateway.lab.federation import Lab, is_serving
from gateway.lab.folder import LabFolder, prepare_lab
from tests.e2e.links import Lines, wait_for

SH, JS, ZJ, AH = Province
CLOCK_STEP: Final = timedelta(seconds=20)
"""The lab's clock is moved in steps of this: a challenge lives 300 s, and what is under way must not lapse."""
SETTLE_EVERY: Final = timedelta(minutes=2)
FRESH: Final = timedelta(minutes=6)
"""An anchor's configuration lives 10 minutes and is signed anew after 5; older than this, somebody is behind."""
LISTED: Final = timedelta(minutes=10)
"""A list is signed anew every five minutes, and a household counter takes none that is older than fifteen."""
CALL_SECONDS: Final = 5.0
ADMINISTRATORS: Final = ("admin-1", "admin-2")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds."""

    resident_kib: int
    threads: int


class RealFederation:
    """Four provinces, each its own process. Leaving it ends every process it started."""

    def __init__(
        self,
        path: Path,
        *,
        lines: bool = False,
        standby: bool = True,
        interval_seconds: int | None = None,
        databases: Mapping[Province, str] | None = None,
    ) -> None:
        """Make a lab.

        Args:
            path: its folder.
            lines: whether to put relays between the provinces.
            standby: whether the provinces keep stand-by keys. Without, each rotation publishes a key nobody has seen.
            interval_seconds: how often they ask each other where no stream tells them; by default the lab's usual.
            databases: URLs of the PostgreSQL databases of those provinces that do not keep a SQLite file.
        """
        self.folder = self._prepare(path)
        self._opened = ExitStack()
        self._configure(standby=standby, interval_seconds=interval_seconds, databases=databases or {})
        self._lines = self._opened.enter_context(Lines(self.folder)) if lines else None
        self._configs = {province: load_config(self.folder.config(province)) for province in Province}
        self.lab = self._make_lab()
        self._opened.callback(self.lab.stop)
        self._channels: dict[tuple[str, Province, str], grpc.Channel] = {}

    def _prepare(self, path: Path) -> LabFolder:
        return prepare_lab(path)

    def _configure(self, *, standby: bool, interval_seconds: int | None, databases: Mapping[Province, str]) -> None:
        for province in Province:
            config = load_config(self.folder.config(province))
            changed = replace(config, rotation=replace(config.rotation, standby=standby))
            if interval_seconds is not None:
                changed = replace(changed, refresh=replace(config.refresh, interval_seconds=interval_seconds))
            if province in databases:
                changed = replace(changed, database=PostgresUrl(databases[province]))
            if changed != config:
                config.file.write_text(render_config(changed), "utf-8")

    @property
    def lines(self) -> Lines:
        assert self._lines is not None, "made without lines"
        return self._lines

    def _make_lab(self) -> Lab:
        return Lab(self.folder)

    def __enter__(self) -> Self:
        try:
            self.lab.start()
        except BaseException:
            self._opened.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels.values():
            channel.close()
        self._opened.close()

    @property
    def now(self) -> datetime:
        return self.lab.now()

    @property
    def running(self) -> frozenset[Province]:
        return frozenset(self.lab.pids)

    # -- who calls ----------------------------------------------------------------------------------------------------

    def client(self, province: Province, name: str) -> grpc.Channel:
        """A channel to a province's verification listener; call it once before threads share it."""
        return self.lab.channel(province, name)

    def open_channels(self) -> None:
        """Open the channels that several threads will use."""
        for province in Province:
            for name in (HUKOU, COURT, IDENTITY):
                self.client(province, name)

    def _admin(self, province: Province, name: str) -> grpc.Channel:
        """A channel of an administrator to the province's admin listener."""
        place = ("admin", province, name)
        if place not in self._channels:
            clients = self.folder.province(province) / "clients"
            config = self._configs[province]
            self._channels[place] = connect(
                Profile(
                    address=config.listeners.admin.address,
                    ca=config.listeners.admin.client_ca,
                    certificate=clients / f"{name}.pem",
                    private_key=clients / f"{name}.key",
                )
            )
        return self._channels[place]

    def keys(self, province: Province, name: str = ADMINISTRATORS[0]) -> keys_pb2_grpc.KeyServiceStub:
        return keys_pb2_grpc.KeyServiceStub(self._admin(province, name))

    def anchor(self, province: Province, name: str = ADMINISTRATORS[0]) -> anchor_pb2_grpc.AnchorServiceStub:
        return anchor_pb2_grpc.AnchorServiceStub(self._admin(province, name))

    def federation(
        self, called: Province, *, caller: Province | None = None
    ) -> federation_pb2_grpc.FederationServiceStub:
        """The federation listener of a province, called with the certificate of another's gateway, or of its own."""
        return federation_pb2_grpc.FederationServiceStub(self._peer(called, caller or called))

    def audit(self, called: Province, *, caller: Province) -> audit_pb2_grpc.AuditServiceStub:
        """The log of a province, as another's gateway sees it."""
        return audit_pb2_grpc.AuditServiceStub(self._peer(called, caller))

    def _peer(self, called: Province, caller: Province) -> grpc.Channel:
        place = ("federation", called, caller.code)
        if place not in self._channels:
            tls = self._configs[caller].tls
            self._channels[place] = connect(
                Profile(
                    address=self.federation_address(called),
                    ca=self.folder.province(called) / "tls" / "ca.pem",
                    certificate=tls.certificate,
                    private_key=tls.private_key,
                )
            )
        return self._channels[place]

    def federation_address(self, province: Province) -> str:
        """Where a province's federation listener is reached past all lines."""
        return self._configs[province].listeners.federation.address

    # -- what a gateway holds -----------------------------------------------------------------------------------------

    def statement(self, at: Province, issuer: str, subject: str | None = None) -> dict[str, Any] | None:
        """The claims of a statement as a gateway relays it; None when it has none or does not answer."""
        stub = self.federation(at)
        try:
            if subject is None or subject == issuer:
                token = stub.GetEntityConfiguration(
                    federation_pb2.GetEntityConfigurationRequest(entity_id=issuer), timeout=CALL_SECONDS
                ).statement
            else:
                token = stub.GetSubordinateStatement(
                    federation_pb2.GetSubordinateStatementRequest(issuer=issuer, subject=subject), timeout=CALL_SECONDS
                ).statement
        except grpc.RpcError:
            return None
        return claims_of(token)

    def trust(self, at: Province) -> federation_pb2.TrustState:
        """All that a gateway holds."""
        request = federation_pb2.GetTrustRequest()
        return self.federation(at).GetTrust(request, timeout=CALL_SECONDS, wait_for_ready=True).state

    def agree(self) -> bool:
        """Whether all that run hold the same documents: nothing is on its way any more."""
        held = {frozenset((*state.statements, *state.events)) for state in map(self.trust, sorted(self.running))}
        return len(held) == 1

    def recognises(self, at: Province, issuer: Province) -> bool:
        return is_serving(self.client(at, COURT), entity_ids(issuer).issuer)

    def is_fresh(self, at: Province, of: Province) -> bool:
        """Whether a gateway has a recent word of a province's anchor."""
        claims = self.statement(at, entity_ids(of).anchor)
        return claims is not None and self.now.timestamp() - claims["iat"] < FRESH.total_seconds()

    def holds_lists(self, at: Province, of: Province) -> bool:
        """Whether a gateway can tell what became of a province's credentials: by recent word, as a counter demands."""
        uris = [head.uri for head in self.trust(at).status_lists if head.uri.startswith(f"{entity_ids(of).issuer}/")]
        return bool(uris) and all(self._is_listed(at, uri) for uri in uris)

    def _is_listed(self, at: Province, uri: str) -> bool:
        request = federation_pb2.GetStatusListRequest(uri=uri)
        try:
            token = self.federation(at).GetStatusList(request, timeout=CALL_SECONDS).status_list
        except grpc.RpcError:
            return False
        return bool(self.now.timestamp() - claims_of(token)["iat"] < LISTED.total_seconds())

    def settle(self, gateways: Iterable[Province] | None = None, within: float = 60.0) -> None:
        """Wait until each of these gateways has a recent word of each other's anchor, and its status lists."""
        among = tuple(self.running if gateways is None else gateways)
        pairs = [(at, of) for at in among for of in among]

        def settled() -> bool:
            pairs[:] = [pair for pair in pairs if not (self.is_fresh(*pair) and self.holds_lists(*pair))]
            return not pairs

        wait_for(settled, within=within, what=f"fresh word between {[each.code for each in among]}")

    # -- its clock ----------------------------------------------------------------------------------------------------

    def advance(self, span: timedelta, among: Iterable[Iterable[Province]] | None = None) -> None:
        """Move the clock in small steps, none of which a gateway that works could miss.

        Args:
            span: how far.
            among: groups of provinces that can hear each other; by default all that run are one.
        """
        for _ in self.advancing(span, among):
            pass

    def advancing(self, span: timedelta, among: Iterable[Iterable[Province]] | None = None) -> Iterator[timedelta]:
        """As ``advance``; gives what has passed so far after each stretch."""
        groups = None if among is None else [tuple(group) for group in among]
        target, passed, unsettled = self.folder.offset, timedelta(0), timedelta(0)
        while passed < span:
            step = min(CLOCK_STEP, span - passed)
            passed, unsettled = passed + step, unsettled + step
            self.folder.set_offset(target + round(passed.total_seconds()))
            if unsettled >= SETTLE_EVERY or passed == span:
                unsettled = timedelta(0)
                for group in [tuple(self.running)] if groups is None else groups:
                    self.settle(group)
                yield passed

    def jump(self, span: timedelta, within: float = 60.0) -> None:
        """Move the clock at once, with nobody under way, and wait until nobody holds what has lapsed meanwhile."""
        self.folder.set_offset(self.folder.offset + round(span.total_seconds()))
        self.settle(within=within)
        for at in self.running:
            wait_for(
                lambda at=at: not self.lapsed(at),
                within=within,
                what=partial(self._lapsed_in_words, at),
            )

    def _lapsed_in_words(self, at: Province) -> str:
        return f"{at.code} letting go of {self.lapsed(at)}"

    def lapsed(self, at: Province) -> list[tuple[str, str]]:
        """What a gateway holds of those that run that has lapsed, or will within a minute: (issuer, subject)."""
        ids = {each for province in self.running for each in astuple(entity_ids(province))}
        soon = self.now.timestamp() + 60
        held = [claims_of(token) for token in self.trust(at).statements]
        return [
            (claims["iss"], claims["sub"])
            for claims in held
            if claims["exp"] <= soon and {claims["iss"], claims["sub"]} <= ids
        ]

    # -- its processes ------------------------------------------------------------------------------------------------

    def start(self, provinces: Iterable[Province] = Province) -> None:
        """Start those that do not run, and wait until they recognise all and our channels have found them again."""
        started = [province for province in provinces if province not in self.running]
        self.lab.start(started)
        self._find_again(started)
        self.settle()

    def _find_again(self, started: Iterable[Province]) -> None:
        among = frozenset(started)
        for (province, _), channel in list(self.lab._channels.items()):
            if province in among:
                grpc.channel_ready_future(channel).result(timeout=2 * CALL_SECONDS)

    def restart(self, province: Province) -> None:
        """End a province's process in good order and start it again."""
        self.lab.restart(province)
        self._find_again([province])

    def crash(self, province: Province) -> None:
        """Kill a province's process as a power cut would, and start it again."""
        self.lab.kill(province)
        self.start([province])

    def spawn(self, province: Province) -> None:
        """Start a province's process as whatever looks after processes would, and leave it alone."""
        self.lab._spawn(province)

    def usage(self, province: Province) -> Usage:
        """Ask the kernel."""
        status = Path(f"/proc/{self.lab.pids[province]}/status").read_text("ascii")
        fields = {
            name: value.split()[0]
            for name, _, value in (line.partition(":") for line in status.splitlines())
            if value.split()
        }
        return Usage(resident_kib=int(fields["VmRSS"]), threads=int(fields["Threads"]))

    def log(self, province: Province) -> str:
        return self.folder.log(province).read_text("utf-8", "replace")

    def private_key(self, province: Province, role: str, kid: str | None = None) -> SoftwareKey:
        """A province's private key, for what its owner, or a thief, would do with it."""
        found: dict[str, SoftwareKey] = {}
        for file in sorted(self.folder.keys(province).glob(f"{role}*.pem")):
            key = load_pkcs8(file.read_bytes())
            found[key.public.kid] = key
        if kid is None:
            (only,) = found.values()
            return only
        return found[kid]


def claims_of(token: str) -> dict[str, Any]:
    """Read a token's claims, whoever signed it and however large they are."""
    claims: dict[str, Any] = json.loads(b64url_decode(token.split(".")[1]))
    return claims


def header_of(token: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(b64url_decode(token.split(".", maxsplit=1)[0]))
    return header


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    with suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


def by_province(values: Mapping[Province, object]) -> dict[str, object]:
    """For messages of assertions."""
    return {province.code: value for province, value in values.items()}
