"""What a command says: forms, columns, and that no way of ending is mistaken for another."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from rich.text import Text

from gateway.cli import console, files
from gateway.cli.console import ExitCode, Failure, Lang, Screen
from tests.cli.ceremony import Terminal, mrg
from tests.federation import START


def test_a_bug_is_70_and_keeps_its_message_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object, **_named: object) -> str:
        raise RuntimeError("徐某")

    monkeypatch.setattr(files, "read_text", broken)
    command = ("present", "x", "--holder-key", "y", "--audience", "a", "--nonce", "n", "--all")
    ended = mrg(*command)
    assert ended.code == 70
    assert "RuntimeError in test_console.py" in ended.err
    assert "徐某" not in ended.err
    assert "Traceback" not in ended.err
    assert mrg(*command, "--json").error["exit_code"] == 70


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object, **_named: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "read_text", interrupted)
    assert mrg("present", "x", "--holder-key", "y", "--audience", "a", "--nonce", "n", "--all").code == 130


@pytest.mark.parametrize("place", ["gateway.cli", "gateway.app"])
def test_ctrl_c_while_it_is_imported_is_130(place: str) -> None:
    """The signal strikes at the start of an import; sent by the process itself, so that no time has to be guessed."""
    script = f"""
import os, signal, sys
class Striking:
    def find_spec(self, name, path=None, target=None):
        if name == {place!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Striking())
from gateway.__main__ import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_an_unknown_command_or_option_is_2() -> None:
    assert mrg("nonsense").code == 2
    assert mrg("verify", "--nonsense").code == 2


def test_a_reader_who_went_away_does_not_change_the_exit_code(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", "charter", "create", "--example-agreement"],
            stdout=closed,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (0, b"")


# -- screens ----------------------------------------------------------------------------------------------------------


def test_plain_columns_line_up_where_chinese_is_two_columns_wide(capsys: pytest.CaptureFixture[str]) -> None:
    console.stdout().table("Title", ("Name", "Value"), [("徐某", "1"), ("ab", "2")])
    assert capsys.readouterr().out == "\nTitle\nName  Value\n徐某  1\nab    2\n"


def test_a_table_without_rows_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    console.stdout().table("Title", ("Name",), [])
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_colour_and_a_pipe_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    Screen(terminal).line(Text("no", "bold red"))
    console.stdout().line(Text("no", "bold red"))
    assert "\x1b[" in terminal.getvalue()
    assert capsys.readouterr().out == "no\n"


def test_what_looks_like_markup_is_text() -> None:
    terminal = Terminal()
    Screen(terminal).facts([("Name", "[red]x[/red] :smile:")])
    assert "[red]x[/red] :smile:" in terminal.getvalue()


def test_no_key_is_cut_short_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    Screen(terminal).table("Keys", ("Kid", "Algorithm"), [("k" * 43, "ES256")])
    assert terminal.getvalue().count("k") == 43


# -- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\x1b[2J", "\x07", "\u202e", "\u200b", "\n", "\x9b"])
def test_what_would_act_on_a_terminal_is_replaced(text: str) -> None:
    assert console.printable(f"a{text}b").startswith("a\N{REPLACEMENT CHARACTER}")
    assert console.printable("徐某 a-1") == "徐某 a-1"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (119, "119 s"), (120, "2 minutes"), (7_200, "2 hours"), (172_800, "2 days")]
)
def test_spans_are_said_the_way_people_say_them(seconds: int, shown: str) -> None:
    assert console.span(timedelta(seconds=seconds)) == shown


def test_moments_are_utc_and_say_how_far_away_they_are() -> None:
    assert console.until(START + timedelta(hours=3), START) == "2026-11-23T04:00:00Z (in 3 hours)"
    assert console.until(START - timedelta(minutes=5), START) == "2026-11-23T00:55:00Z (5 minutes ago)"
    assert console.instant(None) is None


def test_languages_are_picked_in_their_order() -> None:
    assert [lang.pick("中", "en") for lang in (Lang.ZH, Lang.EN, Lang.BOTH)] == ["中", "en", "中 en"]


def test_exit_codes_of_a_command_include_those_that_every_command_has() -> None:
    assert console.exit_codes({ExitCode.OK: "done"}).splitlines()[1:] == [
        "Exit codes:",
        "  0  done",
        "  2  usage or configuration",
    ]


def test_a_failure_is_two_lines_for_people_and_one_document_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure("broken", fix="mend it", code=ExitCode.NOT_ASKED, details={"reason": "R"})
    console.report(failure, as_json=False)
    assert capsys.readouterr().err == "Error: broken\n  Fix: mend it\n"
    console.report(failure, as_json=True)
    assert '"reason": "R"' in capsys.readouterr().err
