"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.federation import Federation
from tests.postgres import Server, running_server
from tests.stores import KINDS, Place, place_of

# Images for containers often forbid Python to keep what it compiled. Each of the hundreds of processes that the tests
# start would then compile the whole program anew, for longer than it takes to start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Files of tests are kept in memory where there is room. Thousands of times a test would wait for the disk, and none of
# them can tell: they kill processes, not machines.
_MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own in it
_ROOM = 4 << 30
if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM and not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# The same examples in every run: a run that fails must fail again. The long run explores.
settings.register_profile("every run", derandomize=True, deadline=None)
settings.register_profile("long run", deadline=None)
settings.load_profile("every run")


def pytest_configure(config: pytest.Config) -> None:
    """Let the long run look for new examples."""
    if config.getoption("-m") == "long":
        settings.load_profile("long run")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    """Give a settled federation of four provinces in memory."""
    made = Federation(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the files of a settled federation, made once; nobody changes them."""
    folder = tmp_path_factory.mktemp("settled")
    Federation(folder).close()
    return folder


@pytest.fixture
def restarted(settled: Path, tmp_path: Path) -> Iterator[Federation]:
    """Give a federation that had settled and was started again: for who needs what it holds, and not how it came by it.

    It takes a third of the time that another takes to settle.
    """
    made = Federation(shutil.copytree(settled, tmp_path / "restarted"), is_restart=True)
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Give a PostgreSQL server, one for each process that runs tests."""
    yield from running_server()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give an empty database of each kind in turn."""
    yield from place_of(request.param, tmp_path, request)
