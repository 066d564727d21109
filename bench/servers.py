"""The servers that are measured: real processes behind real mutual TLS, each on the cores it is given.

Four provinces come up once, as the lab has them, until each recognises every issuer. Then Shanghai's process ends: its
documents are in everybody's database, and it signs nothing any more but what is signed here with its key. Anhui keeps
its ledger in SQLite, Zhejiang in PostgreSQL, Jiangsu keeps none. All run on the server's core, PostgreSQL too, and one
at a time is asked something. Their clock is the machine's. What PostgreSQL's own processes take of the core is in the
rates, and not in what a gateway's process took.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.credentials import Counter, Pattern
from bench.http2 import Target
from bench.load import pinned
from gateway.config import PostgresUrl
from gateway.config.reader import load_config
from gateway.config.writer import render_config
from gateway.core.identifiers import Province
from gateway.core.jose import SoftwareKey, load_pkcs8, parse_compact
from gateway.core.sd_jwt import split
from gateway.core.status_list import MIN_ENTRIES
from gateway.keystore.file import FileKeyStore
from gateway.lab.callers import IdentitySystem, connect, read_profile
from gateway.lab.cast import COURT, HUKOU, IDENTITY, XU, identity
from gateway.lab.charter import COURT_FILING, HUKOU_CERTIFICATE, LICENCE_DISPLAY, RESIDENT_ID, entity_ids
from gateway.lab.federation import Lab, is_serving
from gateway.lab.folder import LabFolder, prepare_lab
from tests.postgres import Server as Postgres
from tests.postgres import find_binaries

SH, JS, ZJ, AH = Province
SQLITE, POSTGRES, UNLEDGERED = AH, ZJ, JS
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
REFRESH_SECONDS: Final = 600
"""Peers are not to be looked at while something is measured."""
ATTRIBUTES: Final = 10
_LAST_WORDS: Final = 6
"""Lines of a log."""
_MAX_CHARS: Final = 65_536
_PLACE: Final = Path(__file__).parent / "out"
TICK_SECONDS: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core does what. On a machine of one core both are the same, and nothing measured there means much."""

    server: int
    generator: int

    @property
    def both(self) -> set[int]:
        """All cores that are used."""
        return {self.server, self.generator}


def cores() -> Cores:
    """Choose a core for the server, and another for the generator."""
    ours = sorted(os.sched_getaffinity(0))
    return Cores(server=ours[0], generator=ours[-1])


class Process:
    """A server's process, and those that it started."""

    def __init__(
        self, module: str, arguments: Sequence[str], *, on: set[int], log: Path, words: str = "", profiled: bool = False
    ) -> None:
        """Start it, and wait until it says that it is ready.

        Args:
            module: what to run; it says one line when it is ready, and ends when its standard input does.
            arguments: for it.
            on: the cores it may use.
            log: where it writes what else it has to say.
            words: what it is told on its standard input.
            profiled: whether it can be asked where its time goes.

        Raises:
            RuntimeError: it ended instead.
        """
        reading, self._profiler = os.pipe() if profiled else (-1, -1)
        command = [sys.executable, "-m", *(["bench.profiled", str(reading)] if profiled else []), module, *arguments]
        with log.open("ab") as errors, pinned(on):
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                process_group=0,
                pass_fds=[reading] if profiled else [],
            )
        if profiled:
            os.close(reading)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(words.encode("utf-8"))
        self._process.stdin.flush()
        if not self._process.stdout.readline():
            self.close()
            last_words = log.read_text("utf-8", "replace").splitlines()[-_LAST_WORDS:]
            raise RuntimeError(f"{module} did not start: {' '.join(last_words)}")

    @property
    def pid(self) -> int:
        """The number of the first process."""
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """The numbers of all."""
        found, left = [], [self._process.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                left += [int(each) for each in children.read_text("ascii").split()]
        return found

    def cpu_seconds(self) -> float:
        """How long it has been working, in itself and in the kernel."""
        return sum(_cpu_seconds(pid) for pid in self.pids)

    def resident_bytes(self) -> int:
        """How much memory it has."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE for pid in self.pids)

    def tell_profiler(self, line: str) -> None:
        """Write a line to the profiler that runs in it."""
        os.write(self._profiler, f"{line}\n".encode())

    def close(self) -> None:
        """End it."""
        if self._profiler >= 0:
            os.close(self._profiler)
            self._profiler = -1
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_SECONDS  # utime, stime


class Federation:
    """The provinces after they have come up once, and what is needed to be served by them."""

    def __init__(self, folder: LabFolder, pattern: Pattern, databases: Mapping[Province, str]) -> None:
        self._folder = folder
        self.pattern = pattern
        self._databases = databases
        self._configs = {province: load_config(folder.config(province)) for province in Province}

    @property
    def path(self) -> Path:
        """Where everything lies."""
        return self._folder.path

    @property
    def has_postgres(self) -> bool:
        """Whether there is a PostgreSQL server on this machine."""
        return POSTGRES in self._databases

    def court(self, province: Province) -> Counter:
        """A court's window, which takes assertions."""
        return self._counter(province, COURT, COURT_FILING)

    def licences(self, province: Province) -> Counter:
        """A counter of another service, which takes assertions too."""
        return self._counter(province, HUKOU, LICENCE_DISPLAY)

    def household(self, province: Province) -> Counter:
        """The same counter, where a credential with key binding is asked for."""
        return self._counter(province, HUKOU, HUKOU_CERTIFICATE)

    def _counter(self, province: Province, role: str, matter: str) -> Counter:
        profile = read_profile(self._folder.profile(province, role))
        return Counter(
            target=Target(
                address=profile.address,
                ca=profile.ca,
                certificate=profile.certificate,
                private_key=profile.private_key,
            ),
            service=identity(province, role),
            matter=matter,
            nonce_key=FileKeyStore.open(self._folder.keys(province)).secret("nonce"),
        )

    def at(self, counter: Counter, address: str) -> Counter:
        """The same counter, asking another server."""
        return replace(counter, target=replace(counter.target, address=address))

    @contextmanager
    def gateway(
        self, province: Province, *, on: set[int], options: Sequence[str] = (), profiled: bool = False
    ) -> Iterator[Process]:
        """Run a province's gateway, and wait until it recognises Shanghai's issuer."""
        module = "bench.unledgered" if province is UNLEDGERED else "gateway"
        arguments = ["serve", "--json", "--exit-with-parent", "--grace", "1"]
        arguments += ["--config", str(self._folder.config(province)), *options]
        log = self._folder.log(province)
        with closing(Process(module, arguments, on=on, log=log, profiled=profiled)) as process:
            profile = read_profile(self._folder.profile(province, COURT))
            with closing(connect(profile)) as channel:
                deadline = time.monotonic() + READY_SECONDS
                while not is_serving(channel, entity_ids(SH).issuer):
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"{province.code} does not recognise the issuer")
                    time.sleep(0.05)
            yield process

    @contextmanager
    def bare(
        self, module: str, *, on: set[int], words: str = "", profiled: bool = False
    ) -> Iterator[tuple[Process, str]]:
        """Run a server that is no gateway, with the certificate of one; gives its address too."""
        tls, address = self._configs[SQLITE], f"127.0.0.1:{_free_port()}"
        arguments = [address, str(tls.listeners.verification.client_ca)]
        arguments += [str(tls.tls.certificate), str(tls.tls.private_key)]
        log = self.path / f"{module}.log"
        with closing(Process(module, arguments, on=on, log=log, words=words, profiled=profiled)) as process:
            yield process, address

    def naive_words(self, counter: Counter) -> str:
        """What the naive peer is told."""
        jwk = dict(load_pkcs8(self.pattern.issuer_key).public.jwk)
        told = {"jwks": {"keys": [jwk]}, "issuer": self.pattern.assertion["iss"], "audience": counter.service}
        return json.dumps(told) + "\n"


@contextmanager
def federation(say: Callable[[str], None], where: Path = _PLACE) -> Iterator[Federation]:
    """Bring the federation up, then Shanghai's process and the others' down."""
    where.mkdir(exist_ok=True)
    with ExitStack() as opened:
        path = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="federation-", dir=where)))
        say("bringing four provinces up, so that they know each other")
        folder = prepare_lab(path / "lab")
        databases = opened.enter_context(_databases())
        for province in Province:
            _configure(folder, province, databases.get(province))
        with Lab(folder) as lab:
            lab.start()
            pattern = _pattern(folder, lab)
        yield Federation(folder, pattern, databases)


@contextmanager
def _databases() -> Iterator[Mapping[Province, str]]:
    binaries = find_binaries()
    if binaries is None:
        yield {}
        return
    server = Postgres(binaries, durable=True)
    with closing(server):
        server.initialise()
        with pinned({cores().server}):  # of one core, it does the database's work as well
            server.start()
        yield {POSTGRES: server.new_database()}


def _configure(folder: LabFolder, province: Province, database: str | None) -> None:
    config = load_config(folder.config(province))
    changed = replace(config, refresh=replace(config.refresh, interval_seconds=REFRESH_SECONDS))
    if database is not None:
        changed = replace(changed, database=PostgresUrl(database))
    config.file.write_text(render_config(changed), "utf-8")


def _pattern(folder: LabFolder, lab: Lab) -> Pattern:
    system = IdentitySystem(lab.channel(SH, IDENTITY), lab.now)
    assertion = parse_compact(system.assertion(XU, identity(SQLITE, COURT)), max_chars=_MAX_CHARS)
    credential = parse_compact(
        split(system.credential(XU, RESIDENT_ID).credential).issuer_jwt, max_chars=_MAX_CHARS
    ).unverified_claims()
    signer = FileKeyStore.open(folder.keys(SH)).signer("issuer-credential", assertion.header.kid or "")
    assert isinstance(signer, SoftwareKey)
    attributes = dict(XU.claims)
    attributes |= {f"attribute_{number}": f"value {number}" for number in range(len(attributes), ATTRIBUTES)}
    verification = credential["verified_claims"]["verification"]
    clear = {name: value for name, value in credential.items() if name not in ("_sd", "_sd_alg")}
    return Pattern(
        issuer_key=signer.to_pkcs8(),
        assertion=assertion.unverified_claims(),
        credential=clear | {"verified_claims": {"verification": verification, "claims": attributes}},
        status_list=credential["status"]["status_list"]["uri"],
        status_places=MIN_ENTRIES,
    )


def _free_port() -> int:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
