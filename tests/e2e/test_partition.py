"""Provinces in networks of their own, two of them cut off for longer than an anchor's configuration lives.

Nobody helps them to come back. See ``partition`` for what is played and ``namespaces`` for the networks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.namespaces import run_inside, why_not

SECONDS = 300.0


def played(folder: Path, length: str) -> dict[str, dict[str, Any]]:
    if reason := why_not():
        pytest.skip(reason)
    done = run_inside("tests.e2e.partition", folder, length, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-4_000:]
    return {line["stretch"]: line for line in map(json.loads, done.stdout.splitlines())}


def test_two_provinces_are_cut_off_and_come_back_by_themselves(tmp_path: Path) -> None:
    stretches = played(tmp_path / "lab", "short")
    for name in ("whole", "parted", "rejoined"):
        assert stretches[name]["wrong"] == [], stretches[name]["explained"]
    assert stretches["whole"]["stale"] == 0
    assert stretches["parted"]["stale"] > 0
    assert stretches["rejoined"]["stale"] == 0
    assert stretches["rejoined"]["fresh"]


@pytest.mark.long
def test_cut_off_beyond_all_grace_they_cannot_tell_and_come_back_by_themselves(tmp_path: Path) -> None:
    stretches = played(tmp_path / "lab", "long")
    assert stretches["beyond grace"]["wrong"] == ["indeterminate TRUST_STALE"], stretches["beyond grace"]["explained"]
    assert "accepted" not in stretches["beyond grace"]["verdicts"]
    assert stretches["rejoined after grace"]["wrong"] == [], stretches["rejoined after grace"]["explained"]
    assert stretches["rejoined after grace"]["fresh"]
