"""The Go client: its tests, against a real federation over mutual TLS; style; and that generated code is current.

Where there is no Go, or none that is new enough, this is skipped; with MRG_REQUIRE_CLIENTS=1 it fails.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.clients import tools

CLIENT = tools.CLIENTS / "go"
OLDEST_GO = (1, 24)
TOOLS_GO = (1, 26)
"""What the tools, and the newest grpc-go, need."""


def run(*command: str, **environment: str) -> str:
    return tools.run(CLIENT, *command, **environment)


def need(oldest: tuple[int, int]) -> None:
    """Go on only with such a Go."""
    tools.need("go")
    found = re.search(r"go(\d+)\.(\d+)", run("go", "env", "GOVERSION"))
    assert found is not None
    version = int(found[1]), int(found[2])
    if version < oldest:
        tools.absent(f"Go {version} is older than {oldest}")


def test_style() -> None:
    need(OLDEST_GO)
    assert run("gofmt", "-l", ".") == ""
    run("go", "vet", "./...")


def test_generated_code_is_current() -> None:
    need(TOOLS_GO)
    if not tools.PROTO_PYTHON.exists():
        tools.absent("the compiler of protocol files is not there: make setup")
    run("./generate.sh", "--check")


def test_own_tests(control: str) -> None:
    need(OLDEST_GO)
    # One package after another: the tests of both disturb the same gateway.
    told = run("go", "test", "-count=1", "-p=1", "-v", "./...", MRG_STAGE=control)
    assert "MRG_STAGE" not in told
    assert len(re.findall(r"^--- PASS: TestStage", told, re.MULTILINE)) > 10


@pytest.mark.long
def test_own_tests_on_the_oldest_go() -> None:
    need(OLDEST_GO)
    oldest = ".".join(map(str, OLDEST_GO))
    run("go", "test", "-count=1", ".", MRG_STAGE="", GOTOOLCHAIN=f"go{oldest}.0")


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
