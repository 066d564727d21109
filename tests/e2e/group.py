"""A province served by several processes, each of which can be called, told apart and killed.

Which process a connection came to, the kernel tells: callers cannot choose, and are not told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc

from gateway.core.identifiers import Province
from gateway.lab.callers import read_profile
from gateway.lab.federation import Lab
from tests.e2e.lab import CALL_SECONDS, RealFederation
from tests.e2e.links import wait_for

MAX_CHANNELS: Final = 400
"""Tried until one came to the process wanted: of four processes, each is missed by so many once in 10**49 times."""
_ESTABLISHED: Final = "01"


class GroupedLab(Lab):
    """A lab in which one province has several processes."""

    grouped: Province
    options: tuple[str, ...]

    def _command(self, province: Province) -> list[str]:
        return [*super()._command(province), *(self.options if province is self.grouped else ())]


class Grouped(RealFederation):
    """Four provinces, one of them served by several processes."""

    def __init__(
        self,
        path: Path,
        grouped: Province,
        workers: int,
        *,
        connection_age: float = 600,
        databases: Mapping[Province, str] | None = None,
    ) -> None:
        """Make a lab; ``connection_age`` is how long clients stay with one process."""
        self.grouped = grouped
        self.workers = workers
        self._options = ("--workers", str(workers), "--connection-age", str(connection_age))
        super().__init__(path, databases=databases)

    def _make_lab(self) -> Lab:
        lab = GroupedLab(self.folder)
        lab.grouped, lab.options = self.grouped, self._options
        return lab

    def events(self, event: str) -> list[dict[str, object]]:
        """What the processes have logged of a kind, oldest first."""
        lines = self.log(self.grouped).splitlines()
        return [entry for entry in map(_entry, lines) if entry.get("event") == event]

    @property
    def supervisor(self) -> int:
        return self.lab.pids[self.grouped]

    @property
    def pids(self) -> Mapping[int, int]:
        """The newest process of each number, whether it serves yet or not."""
        return {int(str(each["worker"])): int(str(each["pid"])) for each in self.events("process_started")}

    def serving(self) -> int:
        """How many times a process of it began to serve."""
        return len(self.events("gateway_started"))

    def channels(self, client: str) -> Mapping[int, grpc.Channel]:
        """A channel of a client to each process, by number."""
        port = int(read_profile(self.folder.profile(self.grouped, client)).address.rpartition(":")[2])
        found: dict[int, grpc.Channel] = {}
        for attempt in range(MAX_CHANNELS):
            if len(found) == self.workers:
                return found
            before = {number: connections(pid, port) for number, pid in self.pids.items()}
            channel = self._opened.enter_context(_own_channel(self.folder.profile(self.grouped, client), attempt))
            grpc.channel_ready_future(channel).result(timeout=CALL_SECONDS)
            # It may have gone to another meanwhile, or some other client have come.
            came = [number for number, pid in self.pids.items() if connections(pid, port) - before[number]]
            if len(came) == 1 and came[0] not in found:
                found[came[0]] = channel
            else:
                channel.close()
        raise AssertionError("some process is given no connections")


def _own_channel(profile: Path, number: int) -> grpc.Channel:
    read = read_profile(profile)
    credentials = grpc.ssl_channel_credentials(
        read.ca.read_bytes(), read.private_key.read_bytes(), read.certificate.read_bytes()
    )
    # gRPC would let channels that look alike share one connection.
    return grpc.secure_channel(
        read.address, credentials, options=[("grpc.use_local_subchannel_pool", 1), ("test.number", number)]
    )


def _entry(line: str) -> dict[str, object]:
    with suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict):
            return entry
    return {}


def connections(pid: int, port: int) -> frozenset[str]:
    """The connections that a process holds to a port of its own, by inode."""
    held: set[str] = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            kind, _, inode = each.readlink().name.partition(":")
            if kind == "socket":
                held.add(inode.strip("[]"))
    tables = [Path(f"/proc/{pid}/net/{name}").read_text("ascii") for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return frozenset(
        row[9] for row in rows if int(row[1].partition(":")[2], 16) == port and row[3] == _ESTABLISHED
    ) & frozenset(held)


def is_running(pid: int) -> bool:
    """Whether there is a process of that number."""
    return Path(f"/proc/{pid}").exists()


def gone(*pids: int) -> None:
    """Wait until none of these processes is there any more."""
    wait_for(lambda: not any(map(is_running, pids)), what=f"the end of {pids}")
