"""The Java client: its own tests, against a real federation over mutual TLS.

Where there is no Java or Maven, this is skipped; with MRG_REQUIRE_CLIENTS=1 it fails.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.clients import tools

CLIENT = tools.CLIENTS / "java"
VERIFY = ("mvn", "--quiet", "--batch-mode", "--no-transfer-progress", "verify")
NEWEST_JAVA = 25
NEWEST_PROTOBUF = "4.36.2"


def test_the_reasons_and_their_words_are_the_published_ones() -> None:
    tools.run(CLIENT, sys.executable, "generate_reasons.py", "--check")


def test_both_readmes_have_the_same_code() -> None:
    blocks = [
        re.findall(r"^```.*?^```$", (CLIENT / name).read_text("utf-8"), re.DOTALL | re.MULTILINE)
        for name in ("README.md", "README.zh-CN.md")
    ]
    assert blocks[0] == blocks[1]


def test_own_tests(control: str) -> None:
    tools.need("javac", "mvn")
    tools.run(CLIENT, *VERIFY, MRG_STAGE=control)


@pytest.mark.long
def test_own_tests_on_the_newest_java_and_protobuf() -> None:
    tools.need("javac", "mvn")
    homes = sorted(Path("/usr/lib/jvm").glob(f"*{NEWEST_JAVA}*"))
    home = os.environ.get("JAVA_NEWEST_HOME") or (str(homes[0]) if homes else "")
    if not home:
        pytest.skip(f"there is no Java {NEWEST_JAVA}; JAVA_NEWEST_HOME names one")
    # Everything is built anew: with another compiler, and against another library.
    tools.run(
        CLIENT, *VERIFY[:-1], "clean", "verify", f"-Dprotobuf.version={NEWEST_PROTOBUF}", MRG_STAGE="", JAVA_HOME=home
    )
