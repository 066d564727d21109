"""The Java client: its own tests, against the real federation, over mutual TLS."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CLIENT = ROOT / "clients" / "java"
BUILD_SECONDS = 1_500
STAGE_SECONDS = 60


@pytest.fixture(scope="module")
def stage_url() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.clients.stage"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")])}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as stage:
        assert stage.stdin is not None
        assert stage.stdout is not None
        try:
            yield json.loads(stage.stdout.readline())["control"]
        finally:
            stage.stdin.close()
            stage.wait(STAGE_SECONDS)


def need(*commands: str) -> None:
    """Skip where Java or Maven is missing, unless they are said to be there."""
    for command in commands:
        if shutil.which(command) is None:
            if os.environ.get("MRG_REQUIRE_CLIENTS") == "1":
                pytest.fail(f"{command} is missing, and MRG_REQUIRE_CLIENTS demands it")
            pytest.skip(f"{command} is not installed")


def test_the_reasons_and_their_words_are_the_published_ones() -> None:
    command = [sys.executable, str(CLIENT / "generate_reasons.py"), "--check"]
    subprocess.run(command, check=True, timeout=60)


def test_both_readmes_have_the_same_code() -> None:
    blocks = [
        re.findall(r"^```.*?^```$", (CLIENT / name).read_text("utf-8"), re.DOTALL | re.MULTILINE)
        for name in ("README.md", "README.zh-CN.md")
    ]
    assert blocks[0] == blocks[1]


def test_the_client_passes_its_own_tests(stage_url: str) -> None:
    need("javac", "mvn")
    command = ["mvn", "--quiet", "--batch-mode", "--no-transfer-progress", "verify"]
    environment = os.environ | {"MRG_STAGE": stage_url}
    run = subprocess.run(
        command,
        cwd=CLIENT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout
