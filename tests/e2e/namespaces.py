"""Four provinces, each in a network namespace of its own, and cables that can be pulled.

    province ──federation cable── switch "one" or switch "two"       10.87.0.n
        └─────counter cable────── whoever runs the tests             10.87.n.2

Everything is made inside one namespace of networks and mounts that belongs to this program's process tree
(``unshare``): the machine's own network is not touched, nothing of it is reachable from inside, and all of it is gone
with the last process, however that ended.

A partition is a cable moved to the other switch. Packets are then lost without a word, which no closed socket shows.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final, Self

from gateway.clock import system_world
from gateway.config.reader import load_config
from gateway.config.writer import render_config
from gateway.core.identifiers import Province
from gateway.lab import folder as lab_folder
from gateway.lab.federation import GRACE_SECONDS, Lab
from gateway.lab.folder import LabFolder
from gateway.provision import files
from gateway.provision.province import create_province
from tests.e2e.lab import RealFederation

_UNSHARE: Final = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--propagation", "private")
_NAMES: Final = Path("/run/netns")
_PORTS: Final = (7001, 7002, 7003)
"""Verification, federation, admin: the same everywhere, as every province has its own network."""
SWITCHES: Final = ("one", "two")
_PROBE: Final = (
    "mount -t tmpfs tmpfs /run && ip netns add probe && ip link add name left type veth peer name right netns probe"
)


# -- outside ----------------------------------------------------------------------------------------------------------


@cache
def why_not() -> str:
    """Why namespaces cannot be made here; empty when they can."""
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            return f"there is no {program} here (packages util-linux and iproute2)"
    switch = "ip link add name one type bridge"
    done = _run_inside(["/bin/sh", "-ec", f"{_PROBE} && {switch}"], timeout=20)
    if done.returncode:
        return f"namespaces cannot be made here: {done.stderr.strip().splitlines()[-1:]}"
    return ""


def run_inside(program: str, *arguments: str | Path, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a module of these tests in a network of its own."""
    return _run_inside([sys.executable, "-m", program, *map(str, arguments)], timeout=timeout)


def _run_inside(command: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_UNSHARE, *command], capture_output=True, text=True, check=False, timeout=timeout)


# -- inside -----------------------------------------------------------------------------------------------------------


def _ip(*arguments: str, inside: Province | None = None) -> None:
    enter = [] if inside is None else _entering(inside)
    subprocess.run([*enter, "ip", *arguments], capture_output=True, text=True, check=True)


def _entering(province: Province) -> list[str]:
    return ["nsenter", f"--net={_NAMES / province.code}"]


def _number(province: Province) -> int:
    return list(Province).index(province) + 1


def federation_host(province: Province) -> str:
    return f"10.87.0.{_number(province)}"


def counter_host(province: Province) -> str:
    return f"10.87.{_number(province)}.2"


class Network:
    """The namespaces, switches and cables. Once, inside ``run_inside``."""

    def __init__(self) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        _ip("link", "set", "lo", "up")
        for switch in SWITCHES:
            _ip("link", "add", "name", switch, "type", "bridge")
            _ip("link", "set", switch, "up")
        for province in Province:
            self._connect(province)

    @staticmethod
    def _connect(province: Province) -> None:
        code, number = province.code, _number(province)
        _ip("netns", "add", code)
        _ip("link", "set", "lo", "up", inside=province)
        _ip("link", "add", "name", f"fed-{code}", "type", "veth", "peer", "name", "fed", "netns", code)
        _ip("link", "add", "name", f"svc-{code}", "type", "veth", "peer", "name", "svc", "netns", code)
        _ip("addr", "add", f"{federation_host(province)}/24", "dev", "fed", inside=province)
        _ip("addr", "add", f"{counter_host(province)}/24", "dev", "svc", inside=province)
        _ip("addr", "add", f"10.87.{number}.1/24", "dev", f"svc-{code}")
        for name in ("fed", "svc"):
            _ip("link", "set", name, "up", inside=province)
            _ip("link", "set", f"{name}-{code}", "up")
        _ip("link", "set", f"fed-{code}", "master", SWITCHES[0])

    def part(self, provinces: Iterable[Province]) -> None:
        """Move the federation cables of these provinces to the other switch."""
        for province in provinces:
            _ip("link", "set", f"fed-{province.code}", "master", SWITCHES[1])

    def rejoin(self) -> None:
        """Put every cable back."""
        for province in Province:
            _ip("link", "set", f"fed-{province.code}", "master", SWITCHES[0])


class _ApartLab(Lab):
    """A lab whose processes run in their namespaces."""

    def _spawn(self, province: Province) -> None:
        command = [*_entering(province), sys.executable, "-m", "gateway", "serve", "--exit-with-parent"]
        command += ["--config", str(self.folder.config(province)), "--lab-clock", str(self.folder.clock)]
        with self.folder.log(province).open("ab") as log:
            self._processes[province] = subprocess.Popen(
                [*command, "--grace", str(GRACE_SECONDS)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                process_group=0,
            )


class ApartFederation(RealFederation):
    """As ``RealFederation``, in namespaces."""

    def __init__(self, path: Path) -> None:
        self.network = Network()
        super().__init__(path)

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def _make_lab(self) -> Lab:
        return _ApartLab(self.folder)

    def federation_address(self, province: Province) -> str:
        return f"{counter_host(province)}:{_PORTS[1]}"

    def _prepare(self, path: Path) -> LabFolder:
        folder = LabFolder(path)
        files.make_folder(path)
        files.write(folder.clock, b"0\n", files.PUBLIC)
        for province in Province:
            usual = lab_folder._answers(province, _PORTS)
            verification, federation, admin = _PORTS
            answers = replace(
                usual,
                verification_address=f"{counter_host(province)}:{verification}",
                federation_address=f"0.0.0.0:{federation}",
                admin_address=f"{counter_host(province)}:{admin}",
                reached_at=counter_host(province),
                ip_addresses=(counter_host(province), federation_host(province)),
            )
            create_province(folder.province(province), answers, system_world(), lab_folder._VALIDITY)
        lab_folder._complete(folder, lab_folder._ceremony(folder))
        for province in Province:
            config = load_config(folder.config(province))
            peers = tuple(
                replace(peer, address=f"{federation_host(peer.province)}:{_PORTS[1]}") for peer in config.peers
            )
            config.file.write_text(render_config(replace(config, peers=peers)), "utf-8")
        return folder
