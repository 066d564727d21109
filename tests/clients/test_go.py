"""The Go client: its tests, against a real federation over mutual TLS; style; and that generated code is current.

Where there is no Go, or none that is new enough, this is skipped; with MRG_REQUIRE_CLIENTS=1 it fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.stage import stage

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "go"
PROTO_PYTHON = ROOT / ".venv-proto" / "bin" / "python"
OLDEST_GO = (1, 24)
TOOLS_GO = (1, 26)
"""What the tools, and the newest grpc-go, need."""
BUILD_SECONDS = 1_200


def absent(why: str) -> None:
    """Skip, or fail where clients are required."""
    if os.environ.get("MRG_REQUIRE_CLIENTS") == "1":
        pytest.fail(why)
    pytest.skip(why)


def need(oldest: tuple[int, int]) -> None:
    """Go on only with such a Go."""
    if shutil.which("go") is None:
        absent("there is no Go")
    found = re.search(r"go(\d+)\.(\d+)", run("go", "env", "GOVERSION"))
    assert found is not None
    version = int(found[1]), int(found[2])
    if version < oldest:
        absent(f"Go {version} is older than {oldest}")


def run(*command: str, **environment: str) -> str:
    """Run a command; when it fails, all that it said is shown."""
    done = subprocess.run(
        command,
        cwd=CLIENT,
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


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give where the controls of a federation are."""
    with stage(tmp_path_factory.mktemp("stage") / "lab") as address:
        yield address


def test_style() -> None:
    need(OLDEST_GO)
    assert run("gofmt", "-l", ".") == ""
    run("go", "vet", "./...")


def test_generated_code_is_current() -> None:
    need(TOOLS_GO)
    if not PROTO_PYTHON.exists():
        pytest.skip("the compiler of protocol files is not there: make setup")
    run("./generate.sh", "--check")


def test_own_tests(control: str) -> None:
    need(OLDEST_GO)
    # One package after another: the tests of both disturb the same gateway.
    told = run("go", "test", "-count=1", "-p=1", "-v", "./...", MRG_STAGE=control)
    assert "MRG_STAGE" not in told
    assert len(re.findall(r"^--- PASS: TestStage", told, re.MULTILINE)) > 10


@pytest.mark.long
def test_own_tests_on_the_newest_libraries() -> None:
    need(TOOLS_GO)
    run("go", "test", "-count=1", "-modfile=newest.mod", ".", MRG_STAGE="")


@pytest.mark.long
def test_no_data_race() -> None:
    need(OLDEST_GO)
    run("go", "test", "-count=1", "-race", ".", MRG_STAGE="", CGO_ENABLED="1")


@pytest.mark.long
def test_static_analysis(tmp_path: Path) -> None:
    need(TOOLS_GO)
    linter = str(tmp_path / "staticcheck")
    run("go", "-C", "tools", "build", "-o", linter, "honnef.co/go/tools/cmd/staticcheck")
    run(linter, "./...")
