"""The lab as it runs: four provinces, each its own process, started and ended by this one.

No process outlives the lab. Each child holds the reading end of a pipe whose writing end only this process has: when
this process is gone, however it ended, the kernel closes the pipe and the child drains and exits
(``mrg serve --exit-with-parent``). Nothing is ever ended by name, or by a number read from a file; only what this
object started.

Whether a province is ready is asked, not guessed by waiting: the standard health service tells, per issuer, whether a
gateway recognises it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.core.identifiers import Province
from gateway.core.jose import Signer
from gateway.keystore import KeyRole
from gateway.keystore.file import FileKeyStore
from gateway.lab.callers import connect, read_profile
from gateway.lab.cast import COURT
from gateway.lab.charter import entity_ids
from gateway.lab.folder import LabError, LabFolder, lock_lab

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
GRACE_SECONDS: Final = 3.0
POLL_SECONDS: Final = 0.05
HEALTH_SECONDS: Final = 2.0
_LAST_WORDS: Final = 2
"""Lines: what is at fault, and the mend."""


class Lab:
    """A running federation. Use it as a context manager; leaving it ends every process it started."""

    def __init__(self, folder: LabFolder, check: Callable[[], None] = lambda: None) -> None:
        """Take hold of a lab's folder.

        Args:
            folder: a lab that was prepared.
            check: called again and again while waiting; ends the wait by raising.

        Raises:
            LabError: another process runs this lab.
        """
        self.folder = folder
        self.now = folder.world().now
        self._processes: dict[Province, subprocess.Popen[bytes]] = {}
        self._channels: dict[tuple[Province, str], grpc.Channel] = {}
        self._check = check
        self._lock = lock_lab(folder.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- processes ----------------------------------------------------------------------------------------------------

    @property
    def pids(self) -> dict[Province, int]:
        """The processes that run."""
        return {province: process.pid for province, process in self._processes.items() if process.poll() is None}

    def start(self, provinces: Iterable[Province] = Province) -> None:
        """Start those provinces that do not run, and wait until each of them recognises every issuer.

        Raises:
            LabError: one ended instead, or was not ready in time.
        """
        started = [province for province in provinces if province not in self.pids]
        for province in started:
            self._check()
            self._spawn(province)
        self._wait_ready(started)

    def kill(self, province: Province) -> None:
        """End a province's process the hard way, as a power cut would: no drain, no farewell."""
        process = self._processes.pop(province, None)
        if process is not None:
            process.kill()
            _reap(process, None)

    def restart(self, province: Province) -> None:
        """End a province's process in good order and start it again."""
        process = self._processes.pop(province, None)
        self._end([process] if process is not None else [])
        self.start([province])

    def stop(self) -> None:
        """End every process in good order, those that do not obey the hard way, and let go of the folder."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()
        processes = list(self._processes.values())
        self._processes.clear()
        self._end(processes)
        self._lock.close()

    def _command(self, province: Province) -> list[str]:
        command = [sys.executable, "-m", "gateway", "serve", "--exit-with-parent", "--grace", str(GRACE_SECONDS)]
        return [*command, "--config", str(self.folder.config(province)), "--lab-clock", str(self.folder.clock)]

    def _spawn(self, province: Province) -> None:
        with self.folder.log(province).open("ab") as log:
            self._processes[province] = subprocess.Popen(
                self._command(province),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for the lab, which ends its processes in order; they must not race it.
                process_group=0,
            )

    def _end(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            with suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in processes:
            try:
                _reap(process, max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                _reap(process, None)

    # -- readiness ----------------------------------------------------------------------------------------------------

    def _wait_ready(self, provinces: Iterable[Province]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        for province in provinces:
            channel = self.channel(province, COURT)
            for each in Province:
                while not is_serving(channel, entity_ids(each).issuer):
                    self._check()
                    self._check_alive()
                    if time.monotonic() > deadline:
                        raise LabError(
                            f"{province.code} does not recognise {each.code} after {READY_SECONDS:.0f} seconds",
                            f"see {self.folder.log(province)}",
                        )
                    time.sleep(POLL_SECONDS)

    def _check_alive(self) -> None:
        for province, process in self._processes.items():
            if process.poll() is not None:
                log = self.folder.log(province)
                lines = log.read_text("utf-8", "replace").splitlines()[-_LAST_WORDS:]
                words = " ".join(line.strip() for line in lines)
                raise LabError(f"{province.code} ended with code {process.returncode}: {words}", f"see {log}")

    # -- what the actors need -----------------------------------------------------------------------------------------

    def channel(self, province: Province, client: str) -> grpc.Channel:
        """A channel as one of a province's clients to its own gateway; opened once."""
        place = (province, client)
        if place not in self._channels:
            self._channels[place] = connect(read_profile(self.folder.profile(province, client)))
        return self._channels[place]

    def signer(self, province: Province, role: KeyRole) -> Signer:
        """One of a province's private keys, for forgeries. The lab may: the keys are its own."""
        return next(iter(FileKeyStore.open(self.folder.keys(province)).keys(role).values()))

    @contextmanager
    def clock_moved(self, span: timedelta) -> Iterator[None]:
        """Move the clock of all processes, and back afterwards."""
        before = self.folder.offset
        self.folder.set_offset(before + round(span.total_seconds()))
        try:
            yield
        finally:
            self.folder.set_offset(before)


def _reap(process: subprocess.Popen[bytes], timeout: float | None) -> None:
    process.wait(timeout)
    if process.stdin is not None:
        process.stdin.close()


def is_serving(channel: grpc.Channel, service: str) -> bool:
    """Ask the standard health service. No answer is a no."""
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        # The stubs that come with grpcio-health-checking have no types.
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=HEALTH_SECONDS)  # type: ignore[attr-defined]
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
