"""What the tests of all clients need of the machine: the languages' tools, and whether they must be there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "clients"
PROTO_PYTHON = ROOT / ".venv-proto" / "bin" / "python"
BUILD_SECONDS = 1_500
"""The first time, what is locked is fetched."""


def absent(why: str) -> None:
    """Skip, or fail where clients are required."""
    if os.environ.get("MRG_REQUIRE_CLIENTS") == "1":
        pytest.fail(why)
    pytest.skip(why)


def need(*commands: str) -> None:
    """Go on only where these commands are."""
    for command in commands:
        if shutil.which(command) is None:
            absent(f"there is no {command}")


def run(folder: Path, *command: str, **environment: str) -> str:
    """Run a command; when it fails, all that it said is shown."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode:
        sys.stdout.write(done.stdout)
        pytest.fail(f"{' '.join(command)} failed with {done.returncode}; see above")
    return done.stdout
