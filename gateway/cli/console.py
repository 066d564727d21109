"""What a command says, and where: the result on stdout, everything else on stderr, the verdict in the exit code.

Three readers, one rule each. A person at a terminal gets tables and colour. A pipe gets the same words as plain text. A
program that asked for ``--json`` gets one JSON document on stdout, and on failure one on stderr and nothing on stdout.

Whatever came from outside (an attribute, an address, the text of a peer) is made printable first: an escape sequence in
a credential must not repaint the clerk's screen.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any, Final, Self, TextIO, TypeAlias

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gateway.core.texts import Language

Cell: TypeAlias = str | Text
"""Text for people; ``Text`` carries a colour, which a pipe does not see."""


class ExitCode(IntEnum):
    """What a script may branch on. The same number means the same thing in every command."""

    OK = 0
    NO = 1
    """The question was answered, and the answer is no."""
    USAGE = 2
    """The command line, a file or the configuration is at fault."""
    CANNOT_TELL = 3
    """The question was asked, and cannot be answered now. Never a yes, never a no."""
    NOT_ASKED = 4
    """The gateway was not reached, or would not hear the question."""
    BUG = 70
    """This program is at fault (sysexits: EX_SOFTWARE)."""
    INTERRUPTED = 130


_ALWAYS: Final = {ExitCode.USAGE: "usage or configuration"}


def exit_codes(meanings: Mapping[ExitCode, str]) -> str:
    """Write the part of a command's help that says what its exit codes mean."""
    lines = (f"  {int(code)}  {meaning}" for code, meaning in sorted({**_ALWAYS, **meanings}.items()))
    return "\n".join(("\b", "Exit codes:", *lines))  # click leaves a paragraph alone that begins with \b


class Failure(Exception):  # noqa: N818 - what is at fault is seldom this program
    """A command cannot go on, for a reason that was foreseen. Reported in two lines, without a traceback."""

    def __init__(
        self,
        message: str,
        *,
        fix: str,
        code: ExitCode = ExitCode.USAGE,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what is wrong and what to do about it.

        Args:
            message: one sentence. It never holds an attribute, a token or a key.
            fix: what the reader should do next.
            code: the exit code.
            details: more for programs, by stable names.
        """
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.code = code
        self.details = dict(details or {})


def report(failure: Failure, *, as_json: bool) -> None:
    """Write a failure to stderr."""
    if as_json:
        error = {**failure.details, "exit_code": int(failure.code), "message": failure.message, "fix": failure.fix}
        _write(sys.stderr, _json({"error": error}))
        return
    screen = Screen(sys.stderr)
    screen.line(Text.assemble(("Error: ", "bold red"), printable(failure.message)))
    screen.line(Text.assemble(("  Fix: ", "bold"), printable(failure.fix)))


# -- languages --------------------------------------------------------------------------------------------------------


class Lang(StrEnum):
    """The languages a person may ask for."""

    ZH = "zh"
    EN = "en"
    BOTH = "both"

    @property
    def languages(self) -> tuple[Language, ...]:
        """The languages to write in, in order."""
        return tuple(Language) if self is Lang.BOTH else (Language(self.value),)

    def pick(self, zh: str, en: str) -> str:
        """Choose words; for both languages, Chinese first."""
        words = {Language.ZH: zh, Language.EN: en}
        return " ".join(words[language] for language in self.languages)


# -- writing ----------------------------------------------------------------------------------------------------------


def write_document(document: Mapping[str, Any]) -> None:
    """Write the one JSON document of a command to stdout."""
    _write(sys.stdout, _json(document))


def write_line(line: str) -> None:
    """Write one line to stdout as it is: a token, or a line for a program."""
    _write(sys.stdout, line)


class Screen:
    """Writes for people: in colour and boxes to a terminal, in plain columns to anything else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False) if stream.isatty() else None

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks on."""
        return self._console is not None

    def line(self, text: Cell = "") -> None:
        """Write one line."""
        if self._console is None:
            _write(self._stream, _text(text).plain)
        else:
            self._show(_text(text), soft_wrap=True)

    def facts(self, facts: Iterable[tuple[str, Cell]]) -> None:
        """Write names and values, one pair a line; a name left empty continues the value above."""
        rows = [(_text(name), _text(value)) for name, value in facts]
        if self._console is None:
            for line in _columns([(name.plain, value.plain) for name, value in rows]):
                _write(self._stream, line)
            return
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in rows:
            grid.add_row(name, value)
        self._show(grid)

    def table(
        self, title: str, headings: Sequence[str], rows: Iterable[Sequence[Cell]], *, whole: Collection[str] = ()
    ) -> None:
        """Write a table; nothing when it has no rows. The columns headed by ``whole`` are not broken over lines."""
        cells = [[_text(cell) for cell in row] for row in rows]
        if not cells:
            return
        if self._console is None:
            plain = [tuple(headings), *(tuple(cell.plain for cell in row) for row in cells)]
            for line in ("", title, *_columns(plain)):
                _write(self._stream, line)
            return
        table = Table(title=title, title_justify="left", header_style="bold")
        for heading in headings:
            table.add_column(
                heading, overflow="fold", no_wrap=heading in whole
            )  # half a key or an identifier is of no use
        for row in cells:
            table.add_row(*row)
        self._show(Text())
        self._show(table)

    def _show(self, drawn: RenderableType, *, soft_wrap: bool = False) -> None:
        if self._console is not None:
            self._console.print(drawn, soft_wrap=soft_wrap)


class Board(AbstractContextManager["Board"]):
    """A part of the terminal that is drawn again and again. Only where stdout is one."""

    def __init__(self) -> None:
        self._live = Live(console=Console(highlight=False, markup=False, emoji=False), auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def draw(self, paint: Callable[[Screen], None]) -> None:
        """Draw it anew, in place of what was there."""
        canvas = _Canvas(sys.stdout)
        paint(canvas)
        self._live.update(Group(*canvas.drawn), refresh=True)


@contextmanager
def progress(total: int, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """Show on stderr how far something has got, where a person looks on; give what says that it got further."""
    if not shown or not sys.stderr.isatty():
        yield lambda _count: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


class _Canvas(Screen):
    """A screen that keeps what is written instead of writing it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.drawn: list[RenderableType] = []

    def _show(self, drawn: RenderableType, *, soft_wrap: bool = False) -> None:
        del soft_wrap  # a board is as wide as the terminal
        self.drawn.append(drawn)


def stdout() -> Screen:
    """The screen for results."""
    return Screen(sys.stdout)


def stderr() -> Screen:
    """The screen for remarks, where stdout is taken by a token."""
    return Screen(sys.stderr)


def at_terminal() -> bool:
    """Whether a person can be asked: both ends of the conversation are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, *, default: str = "") -> str:
    """Ask a person one question, on stderr. The empty answer is the default.

    Raises:
        Failure: the person gave up.
    """
    shown = f"{question} [{default}]: " if default else f"{question}: "
    sys.stderr.write(shown)
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if not answer:  # end of input; an empty answer has its newline
        sys.stderr.write("\n")
        raise Failure("cancelled", fix="run the command again when you are ready", code=ExitCode.INTERRUPTED)
    return answer.strip() or default


def confirm(question: str) -> bool:
    """Ask a person for a yes; anything else is a no."""
    return ask(f"{question} [y/N]").lower() in {"y", "yes", "是"}


# -- forms ------------------------------------------------------------------------------------------------------------

_GROUP: Final = 4


def printable(text: str) -> str:
    """Replace what would act on a terminal instead of showing: controls, escapes, marks that turn the direction."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def instant(moment: datetime | None) -> str | None:
    """Write a moment: RFC 3339, UTC, whole seconds."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(length: timedelta, lang: Lang = Lang.EN) -> str:
    """Write a length of time the way people say it: in Chinese where only Chinese is asked for, else in English."""
    seconds = int(abs(length).total_seconds())
    for unit, zh, size in (("days", "天", 86_400), ("hours", "小时", 3_600), ("minutes", "分钟", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {zh if lang is Lang.ZH else unit}"
    return f"{seconds} {'秒' if lang is Lang.ZH else 's'}"


def away(moment: datetime, now: datetime, lang: Lang = Lang.EN) -> str:
    """Write how far away a moment is, in the language of ``span``."""
    length = span(moment - now, lang)
    if lang is Lang.ZH:
        return f"{length}{'后' if moment > now else '前'}"
    return f"in {length}" if moment > now else f"{length} ago"


def until(moment: datetime, now: datetime) -> str:
    """Write a moment and how far away it is."""
    return f"{instant(moment)} ({away(moment, now)})"


def groups(digest: str) -> str:
    """Write a digest in groups of four, for people to compare aloud."""
    return " ".join(digest[i : i + _GROUP] for i in range(0, len(digest), _GROUP))


def _text(cell: Cell) -> Text:
    if isinstance(cell, str):
        return Text(printable(cell))
    cell.plain = printable(cell.plain)
    return cell


def _columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        # Chinese characters are two columns wide, so that str.ljust would not align them.
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2)


def _write(stream: TextIO, text: str) -> None:
    """Write a line. A reader who went away (``| head``) does not change what the exit code says."""
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
