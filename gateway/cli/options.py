"""Options that several commands share, and reading them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli.console import ExitCode, Failure, Lang, at_terminal, confirm
from gateway.clock import World, lab_world, system_world
from gateway.config import Config, ConfigError
from gateway.config.reader import load_config

JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON document instead of text for people.")]
LangOption = Annotated[Lang, typer.Option(envvar="MRG_LANG", help="Language of the texts for people.")]
LabClockOption = Annotated[
    Path | None,
    typer.Option("--lab-clock", envvar="MRG_LAB_CLOCK", metavar="FILE", help="Only in the lab: the lab's clock file."),
]
# Where a clock that is wrong does harm, it must have been asked for: a variable is forgotten in a terminal.
ExplicitLabClockOption = Annotated[
    Path | None, typer.Option("--lab-clock", metavar="FILE", help="Only in the lab: the lab's clock file.")
]
ConfigOption = Annotated[Path, typer.Option("--config", help="The province's configuration, gateway.toml.")]
CheckOption = Annotated[bool, typer.Option("--check", help="Check whether it could be done, and change nothing.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Write the result to this file instead of standard output.")
]

ANY_NAME: Final = {"ignore_unknown_options": True}
"""For commands with an argument that may begin with a dash, as a digest in base64url may: it is no option then."""

CONFIG_FIX: Final = "change what the message names; nothing was started"
_LIFETIME: Final = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d)")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def world(lab_clock: Path | None) -> World:
    """Give the clock and randomness that a command is to use.

    Raises:
        Failure: the lab's clock file is no such file.
    """
    if lab_clock is None:
        return system_world()
    try:
        return lab_world(lab_clock)
    except ValueError as error:
        raise Failure(str(error), fix="name the clock file that mrg lab printed, or leave --lab-clock out") from error


def configuration(file: Path) -> Config:
    """Load a province's configuration.

    Raises:
        Failure: it is at fault; the message names file and key.
    """
    try:
        return load_config(file)
    except ConfigError as error:
        raise Failure(str(error), fix=CONFIG_FIX) from error


def lifetime(text: str | None, option: str = "--lifetime") -> timedelta | None:
    """Read a length of time: 300s, 15m, 12h, 30d.

    Raises:
        Failure: it is none.
    """
    if text is None:
        return None
    match = _LIFETIME.fullmatch(text)
    if match is None:
        raise Failure(f"{option} is not a length of time", fix="write for example 300s, 15m, 12h or 30d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def moment(text: str | None, option: str, now: datetime) -> datetime:
    """Read a moment in RFC 3339; absent means now.

    Raises:
        Failure: it is none.
    """
    return now if text is None else exact_moment(text, option)


def exact_moment(text: str, option: str) -> datetime:
    """Read a moment in RFC 3339.

    Raises:
        Failure: it is none.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise Failure(f"{option} is not a moment with its zone", fix="write for example 2026-11-23T09:30:00+08:00")
    return read.astimezone(UTC)


def past_moment(text: str | None, option: str, now: datetime) -> datetime:
    """Read a moment that has been: in RFC 3339, or as ``-5m`` counted back from now; absent means now.

    Raises:
        Failure: it is none, or lies ahead.
    """
    if text is not None and text.startswith("-") and _LIFETIME.fullmatch(text[1:]):
        return ago(text[1:], option, now)
    read = moment(text, option, now)
    if read > now:
        raise Failure(
            f"{option} is in the future: it is {now:%Y-%m-%dT%H:%M:%SZ} now", fix="name a time that has been, or -5m"
        )
    return read


def ago(text: str, option: str, now: datetime) -> datetime:
    """Read a length of time and count it back from now.

    Raises:
        Failure: it is none, or reaches beyond all time.
    """
    try:
        return now - (lifetime(text, option) or timedelta(0))
    except OverflowError as error:
        raise Failure(f"{option} is before all time", fix="look back less far") from error


def ask_person(show: Callable[[], None], question: str, otherwise: str, *, as_json: bool) -> None:
    """Show a person what would happen and ask for a yes.

    Args:
        show: shows it.
        question: asks for a yes.
        otherwise: what to do where there is nobody to ask.
        as_json: a program called; it is not asked.

    Raises:
        Failure: the answer was no, or there is nobody to ask.
    """
    if as_json or not at_terminal():
        raise Failure("--yes is missing, and there is nobody to ask", fix=otherwise)
    show()
    if not confirm(question):
        raise Failure("not done; nothing was changed", fix="run the command again when you are sure", code=ExitCode.NO)
