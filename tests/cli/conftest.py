"""Fixtures for tests of the command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.ceremony import Ceremony, hold_ceremony
from tests.federation import Federation


@pytest.fixture(scope="session")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with four provinces and an unsigned charter, made once; nobody changes it."""
    return hold_ceremony(tmp_path_factory.mktemp("ceremony")).folder


@pytest.fixture
def ceremony(drafted: Path, tmp_path: Path) -> Ceremony:
    """Give a copy of that folder to work in."""
    shutil.copytree(drafted, tmp_path / "ceremony")
    return Ceremony(tmp_path / "ceremony")


@pytest.fixture(scope="session")
def signed(drafted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with four provinces that have signed and are configured, made once; nobody changes it."""
    made = Ceremony(shutil.copytree(drafted, tmp_path_factory.mktemp("signed") / "ceremony"))
    made.complete()
    return made.folder


@pytest.fixture
def completed(signed: Path, tmp_path: Path) -> Ceremony:
    """Give a copy of that folder to work in."""
    return Ceremony(shutil.copytree(signed, tmp_path / "completed"))


@pytest.fixture
def federation(restarted: Federation) -> Federation:
    """Give a federation whose databases are looked at, and whose log is served."""
    return restarted
