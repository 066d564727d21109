"""Fixtures for tests of the command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.ceremony import Ceremony, hold_ceremony


@pytest.fixture(scope="session")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with four provinces and an unsigned charter, made once; nobody changes it."""
    return hold_ceremony(tmp_path_factory.mktemp("ceremony")).folder


@pytest.fixture
def ceremony(drafted: Path, tmp_path: Path) -> Ceremony:
    """Give a copy of that folder to work in."""
    shutil.copytree(drafted, tmp_path / "ceremony")
    return Ceremony(tmp_path / "ceremony")
