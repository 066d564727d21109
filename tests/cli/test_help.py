"""Every command explains itself, its exit codes included."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import typer

from gateway.cli import app
from tests.cli.ceremony import done, mrg


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_works_and_names_the_exit_codes(path: tuple[str, ...]) -> None:
    shown = done(*path, "--help").out
    assert "Exit codes:\n    0  " in shown
    assert "    2  usage or configuration" in shown


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_has_a_help_text(path: tuple[str, ...]) -> None:
    unexplained = [each.name for each in ALL[path].params if each.param_type_name == "option" and not each.help]
    assert unexplained == []


def test_the_commands_are_those_that_were_promised() -> None:
    expected = {
        *("init", "serve", "challenge", "present", "verify", "issue credential", "issue assertion", "doctor"),
        *("trust show", "trust diff", "trust log", "trust reset-clock"),
        *(f"audit {name}" for name in ("list", "show", "verify", "export", "prove", "seen", "disclosures")),
        *("receipt fetch", "receipt verify"),
        *(f"dispute {name}" for name in ("open", "show", "resolve", "list", "bundle")),
        *(
            f"keys {name}"
            for name in ("list", "rotate", "status", "activate", "undo", "supersede", "compromise", "history")
        ),
        *(
            f"anchor {name}"
            for name in ("members", "pending", "approve", "reject", "enroll", "suspend", "resume", "revoke")
        ),
        *("charter create", "charter sign", "charter verify", "charter show", "charter diff"),
    }
    assert expected <= {" ".join(path) for path in ALL}


def test_verify_documents_each_verdict() -> None:
    shown = done("verify", "--help").out
    for line in ("0  accepted", "1  rejected", "3  indeterminate", "4  could not ask"):
        assert line in shown


@pytest.mark.parametrize(
    "group",
    [
        (),
        ("issue",),
        ("trust",),
        ("charter",),
        ("lab",),
        ("keys",),
        ("anchor",),
        ("audit",),
        ("receipt",),
        ("dispute",),
    ],
)
def test_a_group_alone_shows_its_commands(group: tuple[str, ...]) -> None:
    assert "Commands:" in mrg(*group).out + mrg(*group).err
    assert "Commands:" in done(*group, "--help").out


def test_the_version_is_the_distributions() -> None:
    assert done("--version").out == f"mrg {version('mutual-recognition-gateway')}\n"
