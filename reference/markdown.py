"""How the pages are written: code set in code, lines of bearable length."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import typer

from gateway.cli import app

WIDTH: Final = 120
_SPAN: Final = re.compile(r"`[^`]+`|\[[^]]+\]\([^)]+\)")
_STOPS: Final = "，。；：、）"
_HARD: Final = "\N{NO-BREAK SPACE}"


def marked(text: str) -> str:
    """Set commands and names in code that stand in a plain text."""
    return _code().sub(r"`\g<0>`", text)


@cache
def _code() -> re.Pattern[str]:
    commands = sorted((f"mrg {each}" for each in _leaves(typer.main.get_command(app), ())), key=len, reverse=True)
    dotted, joined, called, typed = r"act\.scope", r"[a-z]+(?:_[a-z]+)+", r"(?:Create|Record)[A-Z][a-z]+", r"kb\+jwt"
    return re.compile("|".join((*map(re.escape, commands), dotted, rf"\b{joined}\b", rf"\b{called}\b", typed)))


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    if not hasattr(command, "commands"):
        yield " ".join(path)
        return
    for name, below in command.commands.items():
        yield from _leaves(below, (*path, name))


def wrapped(text: str, indent: str = "") -> str:
    """Break a paragraph into lines, never inside code or a link; all but the first begin with ``indent``."""
    whole = _SPAN.sub(lambda span: span[0].replace(" ", _HARD), text)
    lines = textwrap.wrap(
        whole, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return "\n".join(part for line in lines for part in _broken(line, indent)).replace(_HARD, " ")


def _broken(line: str, indent: str) -> Iterator[str]:
    """Break a Chinese line, which has no spaces, after a stop."""
    while len(line) > WIDTH:
        outside = _SPAN.sub(lambda span: "`" * len(span[0]), line[:WIDTH])
        cut = max(outside.rfind(stop) for stop in _STOPS) + 1
        if cut <= len(indent):
            break
        yield line[:cut].rstrip()
        line = indent + line[cut:].lstrip()
    yield line


def in_cell(text: str) -> str:
    """Make a text fit for a cell of a table."""
    return text.replace("\n\n", " ").replace("|", "\\|")
