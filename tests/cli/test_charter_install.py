"""mrg charter install: what a province's gateway takes into its store, and what it leaves outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import set_lab_offset
from gateway.config.reader import load_config
from gateway.core.charter import parse_charter
from gateway.storage.sqlite import SqliteStore
from tests.cli.ceremony import Ceremony, done, failed, mrg
from tests.stores import file_of

DAY = 86_400


@pytest.fixture
def started(completed: Ceremony) -> Ceremony:
    """Four provinces under a charter, Anhui's gateway with a database."""
    with store(completed):
        pass
    return completed


def config(ceremony: Ceremony) -> Path:
    return ceremony.folder / "ah" / "gateway.toml"


@contextmanager
def store(ceremony: Ceremony) -> Iterator[SqliteStore]:
    opened = SqliteStore(file_of(load_config(config(ceremony))))
    try:
        yield opened
    finally:
        opened.close()


def held(ceremony: Ceremony) -> list[int]:
    with store(ceremony) as opened:
        return list(opened.load_charters())


def install(ceremony: Ceremony, *files: str | Path) -> dict[str, Any]:
    return done("charter", "install", *files, "--config", config(ceremony), "--json").document


def refused(ceremony: Ceremony, *files: str | Path) -> str:
    """Try to install what is not acceptable: answered with no, and nothing is written."""
    before = held(ceremony)
    text = failed("charter", "install", *files, "--config", config(ceremony), code=1)
    assert held(ceremony) == before
    return text


def successors(ceremony: Ceremony, count: int) -> list[Path]:
    """Signed versions 2, 3, ... of the charter."""
    files: list[Path] = []
    for number in range(count):
        previous = files[-1] if files else ceremony.charter
        file = ceremony.amend(previous=previous, name=f"version-{number + 2}.json")
        ceremony.sign(["sh", "js", "ah"], file, previous)
        files.append(file)
    return files


def test_a_successor_is_installed_as_it_was_signed(started: Ceremony) -> None:
    (second,) = successors(started, 1)
    installed = install(started, second)
    assert (installed["installed"], installed["version"], installed["not_in_it"]) == ([2], 2, [])
    with store(started) as opened:
        assert opened.load_charters()[2] == second.read_text().strip()


def test_installing_again_changes_nothing(started: Ceremony) -> None:
    (second,) = successors(started, 1)
    install(started, second)
    assert install(started, second, started.charter)["installed"] == []
    assert held(started) == [2]


def test_several_versions_are_walked_in_whatever_order_they_are_given(started: Ceremony) -> None:
    second, third, fourth = successors(started, 3)
    assert install(started, fourth, second, third)["installed"] == [2, 3, 4]
    assert held(started) == [2, 3, 4]


def test_it_works_while_the_gateway_has_the_store_open(started: Ceremony) -> None:
    (second,) = successors(started, 1)
    with store(started) as running:
        install(started, second)
        assert list(running.load_charters()) == [2]


def test_copies_of_one_charter_count_together(started: Ceremony) -> None:
    file = started.amend()
    other = started.folder / "copy.json"
    other.write_text(file.read_text())
    started.sign(["sh", "js"], file)
    started.sign(["ah"], other)
    refused(started, file)
    assert install(started, file, other)["installed"] == [2]


def test_a_step_that_is_left_out_is_named(started: Ceremony) -> None:
    second, third = successors(started, 2)
    assert "version 2" in refused(started, third)
    assert install(started, third, second)["installed"] == [2, 3]


def test_what_lacks_a_quorum_is_not_installed_and_neither_is_what_follows_it(started: Ceremony) -> None:
    second = started.amend()
    started.sign(["sh", "js"], second, started.charter)
    assert "--previous" in refused(started, second)
    started.sign(["ah"], second, started.charter)
    third = started.amend(previous=second, name="third.json")
    refused(started, second, third)
    assert install(started, second)["installed"] == [2]


def test_versions_on_the_way_may_have_expired_the_last_must_not(started: Ceremony) -> None:
    second = started.amend("--days", "1")
    started.sign(["sh", "js", "ah"], second, started.charter)
    third = started.amend("--days", "90", previous=second, name="third.json")
    started.sign(["sh", "js", "ah"], third, second)
    clock = started.folder / "clock"
    set_lab_offset(clock, 2 * DAY)
    arguments = ("--config", config(started), "--lab-clock", clock)
    assert "successors" in failed("charter", "install", second, *arguments, code=1)
    assert held(started) == []
    done("charter", "install", second, third, *arguments)
    assert held(started) == [2, 3]


def test_a_second_charter_of_a_version_is_an_alarm_not_an_update(started: Ceremony) -> None:
    (second,) = successors(started, 1)
    other = started.amend("--days", "30", name="other.json")
    started.sign(["sh", "js", "ah"], other, started.charter)
    assert "two different charters" in refused(started, second, other)
    install(started, second)
    assert "two different charters" in refused(started, other)


def test_a_charter_without_this_province_is_installed_and_that_is_said(started: Ceremony) -> None:
    second = started.amend("--leaving", "ah")
    started.sign(["sh", "js", "zj"], second, started.charter)
    absent = install(started, second)["not_in_it"]
    assert absent == [f"https://{role}.ah.test" for role in ("gateway", "issuer", "anchor")]


def test_before_the_first_start_there_is_nothing_to_install_into(completed: Ceremony) -> None:
    (second,) = successors(completed, 1)
    assert "mrg serve" in failed("charter", "install", second, "--config", config(completed))
    assert not file_of(load_config(config(completed))).exists()


# -- the charter that is held -----------------------------------------------------------------------------------------


def test_the_charter_held_is_written_out_to_draft_from(started: Ceremony) -> None:
    out = started.folder / "held.json"
    assert done("charter", "export", "--config", config(started), "--out", out, "--json").document["version"] == 1
    second, third = successors(started, 2)
    install(started, second, third)
    assert "exists" in failed("charter", "export", "--config", config(started), "--out", out)
    out.unlink()
    done("charter", "export", "--config", config(started), "--out", out)
    assert parse_charter(out.read_text()).unverified.version == 3


def test_the_key_store_of_a_configuration_signs_and_its_charter_is_what_is_followed(started: Ceremony) -> None:
    second, third = successors(started, 2)
    assert "does not follow" in failed("charter", "sign", third, "--config", config(started), "--yes")
    install(started, second)
    signed = done("charter", "sign", third, "--config", config(started), "--yes", "--json").document
    assert "ah" in signed["previous_signatures"]["signed"]
    explicit = ("--previous", started.charter)
    done("charter", "sign", second, "--config", config(started), *explicit, "--yes")
    # Whoever verifies it needs the charter before, which lies in the store alone.
    shown = done("charter", "sign", third, "--config", config(started), "--yes").out
    assert f"mrg charter verify {third} --previous OLD.json" in shown
    assert f"mrg charter export --config {config(started)} --out OLD.json" in shown


def test_the_charter_in_force_may_be_signed_late(completed: Ceremony) -> None:
    cut = json.loads(completed.charter.read_text())
    cut["signatures"] = cut["signatures"][:3]
    completed.charter.write_text(json.dumps(cut))
    signed = done("charter", "sign", completed.charter, "--config", config(completed), "--yes", "--json").document
    assert signed["signatures"]["missing"] == []


@pytest.mark.parametrize("content", ["{}", json.dumps({"payload": "e30", "signatures": []})])
def test_what_is_no_charter_is_not_installed(started: Ceremony, content: str) -> None:
    file = started.folder / "broken.json"
    file.write_text(content)
    assert "broken.json" in failed("charter", "install", file, "--config", config(started))
    assert mrg("charter", "install", "--config", config(started)).code == 2
