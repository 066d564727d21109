"""The disk of a gateway fills up under load: it says so, decides nothing it cannot record, and goes on when it can.

Its own log lies on the same disk: a line that cannot be written must not take anything down either.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest

from gateway.lab.cast import COURT
from gateway.lab.federation import is_serving
from tests.e2e.crowd import REPLAYED, UNAVAILABLE, Crowd, discrepancies
from tests.e2e.kept import all_entries, audit, kept_log, seen_by_others
from tests.e2e.lab import AH, SH, RealFederation
from tests.e2e.links import wait_for

VERIFICATION = "recognition.v1.VerificationService"
ISSUANCE = "recognition.v1.IssuanceService"
SOME = 30
"""Calls that are answered, or not, before anything is concluded."""
SMALL = 4_096
"""Bytes: less than any file that a gateway keeps under load."""
DISK_MIB = 64


class Disk(ABC):
    """What the files of one gateway lie on."""

    @abstractmethod
    def fill(self, federation: RealFederation) -> None: ...

    @abstractmethod
    def clear(self, federation: RealFederation) -> None: ...


class BoundedFiles(Disk):
    """No file of the process can grow beyond a few pages: as with a quota."""

    def fill(self, federation: RealFederation) -> None:
        self._bound(federation, SMALL)

    def clear(self, federation: RealFederation) -> None:
        self._bound(federation, resource.RLIM_INFINITY)

    @staticmethod
    def _bound(federation: RealFederation, size: int) -> None:
        resource.prlimit(federation.lab.pids[AH], resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class SmallDisk(Disk):
    """A file system that somebody else fills."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self, federation: RealFederation) -> None:
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (65_536, 512):
                with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                    _write_all(ballast, size)

    def clear(self, federation: RealFederation) -> None:
        self._ballast.unlink()


def _write_all(file: FileIO, size: int) -> None:
    while file.write(bytes(size)):
        pass


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Put a folder with all that is in it on a disk of its own."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield SmallDisk(folder)
    finally:
        shutil.copytree(folder, aside, dirs_exist_ok=True)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()
        aside.rename(folder)


@contextmanager
def disk_of(kind: str, folder: Path) -> Iterator[Disk]:
    if kind == "bounded files":
        yield BoundedFiles()
        return
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    with small_disk(folder) as disk:
        yield disk


@pytest.mark.parametrize("kind", ["bounded files", "small disk"])
def test_a_gateway_whose_disk_is_full_decides_nothing_and_goes_on_when_there_is_room(tmp_path: Path, kind: str) -> None:
    federation = RealFederation(tmp_path / "lab")
    with disk_of(kind, federation.folder.province(AH)) as disk:
        with federation:
            federation.settle()
            channel = federation.client(AH, COURT)
            with Crowd(federation, AH, SH) as crowd:
                wait_for(lambda: crowd.answers >= SOME, what=lambda: f"answers: {crowd.outcomes}")
                process = federation.lab.pids[AH]
                disk.fill(federation)
                wait_for(lambda: crowd.outcomes[UNAVAILABLE] >= SOME, what=lambda: f"refusals: {crowd.outcomes}")
                wait_for(lambda: not is_serving(channel, VERIFICATION), what="health saying so")
                assert not is_serving(channel, "")
                disk.clear(federation)
                wait_for(lambda: is_serving(channel, VERIFICATION), what="health saying that all is well")
                until = crowd.answers + SOME
                wait_for(lambda: crowd.answers >= until, what=lambda: f"answers again: {crowd.outcomes}")
                crowd.finish()
            assert federation.lab.pids[AH] == process, "it was not the same process that went on"
        assert set(crowd.outcomes) == {("accepted", ""), REPLAYED, UNAVAILABLE}
        with kept_log(federation.folder, AH) as book:
            (log,) = book.logs()
            assert discrepancies(crowd.shown, all_entries(book, log)) == []
            found = audit(book, log, seen_by_others(federation.folder, AH))
    assert found.is_clean, found.findings
    assert found.covered == log.size
