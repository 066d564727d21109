"""The TypeScript client: its own tests against a real federation, its types and style, and that others can install it.

Where there is no Node.js, or no registry to take its packages from, this is skipped; with MRG_REQUIRE_CLIENTS=1, as on
the machine that guards the main branch, it fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients import tools

CLIENT = tools.CLIENTS / "typescript"
OLDEST_NODE = 20
NEWEST_NODE = "26.10.0"
NONE_FAILED = r"^\S fail 0$"
"""By the reporter that Node.js takes for what is no terminal, which is another one from 23 on."""
MADE = shutil.ignore_patterns("node_modules", "dist", "build")


def run(*command: str, folder: Path = CLIENT, **environment: str) -> str:
    return tools.run(folder, *command, **environment)


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Have what the lock file says in the client's folder."""
    tools.need("npm", "node")
    version = run("node", "--version").strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        tools.absent(f"Node.js {version} is older than {OLDEST_NODE}")
    installed, lock = CLIENT / "node_modules" / ".package-lock.json", CLIENT / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--prefer-offline"],
            cwd=CLIENT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            tools.absent(f"npm ci failed: {done.stderr[-2000:]}")


def test_types_and_style() -> None:
    run("npm", "run", "typecheck")
    run("npm", "run", "lint")


def test_generated_code_is_current() -> None:
    if not tools.PROTO_PYTHON.exists():
        tools.absent("the compiler of protocol files is not there: make setup")
    run("npm", "run", "generate:check", PYTHON=sys.executable, PROTO_PYTHON=str(tools.PROTO_PYTHON))


def test_lock_file_names_no_registry() -> None:
    lock = (CLIENT / "package-lock.json").read_text("utf-8")
    assert re.findall(r'"resolved"|https?://[^"]*registry[^"]*', lock) == []
    assert lock.count('"integrity": "sha512-') > 10


def test_own_tests(control: str) -> None:
    told = run("npm", "test", MRG_STAGE=control)
    assert re.search(NONE_FAILED, told, re.MULTILINE), told
    for skipped in re.findall(r"^ok .*# SKIP (.*)$", told, re.MULTILINE):
        assert "MRG_STAGE" not in skipped


def test_another_project_can_install_the_folder(tmp_path: Path) -> None:
    checkout, project = tmp_path / "checkout", tmp_path / "project"
    shutil.copytree(CLIENT, checkout, ignore=MADE)
    project.mkdir()
    (project / "package.json").write_text('{"name": "project", "version": "1.0.0", "type": "module"}', "utf-8")
    run("npm", "install", "--prefer-offline", str(checkout), folder=project)
    program = (
        'import { Reason } from "recognition-client"; import "recognition-client/holder"; console.log(Reason.EXPIRED)'
    )
    assert run("node", "--input-type=module", "--eval", program, folder=project) == "EXPIRED\n"


@pytest.mark.long
def test_own_tests_on_the_newest_node(control: str, tmp_path: Path) -> None:
    run("npm", "install", "--prefix", str(tmp_path), f"node@{NEWEST_NODE}", folder=tmp_path)
    newest = tmp_path / "node_modules" / ".bin"
    told = run("npm", "test", MRG_STAGE=control, MRG_QUICK="1", PATH=f"{newest}:{os.environ['PATH']}")
    assert re.search(NONE_FAILED, told, re.MULTILINE), told
