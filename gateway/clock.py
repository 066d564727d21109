"""The world outside: the one home of the wall clock and of randomness.

Everything that needs the time or random bytes is handed a ``World``; nothing else may ask the machine. That is what
makes a decision repeatable in a test, and an outage of an hour playable in a second in the lab.

In the lab all processes share one file that holds a whole number of seconds; their clock is the machine's plus that
number. TLS is not ours to set: handshakes are judged by the machine's clock.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

MAX_LAB_OFFSET: Final = timedelta(days=3650)
"""Ten years either way: enough for every scenario, and no sum with the present leaves what ``datetime`` can hold."""
_OFFSET: Final = re.compile(r"[+-]?[0-9]{1,9}\n?")


@dataclass(frozen=True, slots=True)
class World:
    """Where a process gets the time and its random bytes from."""

    now: Callable[[], datetime]
    """The present: aware, UTC."""
    random_bytes: Callable[[int], bytes]
    """That many bytes, fit for secrets."""


def system_world() -> World:
    """The machine's own clock and randomness."""
    return World(now=_system_now, random_bytes=os.urandom)


def lab_world(offset_file: Path) -> World:
    """The machine's clock moved by the number of seconds in a file, read anew at every look.

    Once the lab runs, a file that cannot be read leaves the clock where it last stood: a file in the making must not
    throw a process back to the present.

    Raises:
        ValueError: the file is missing or does not hold an offset now, at the start.
    """
    clock = _LabClock(offset_file)
    return World(now=clock.now, random_bytes=os.urandom)


def set_lab_offset(offset_file: Path, seconds: int) -> None:
    """Move the clock of every process that reads this file; they see the old or the new number, never half of one.

    Raises:
        ValueError: the offset is over ten years.
        OSError: the file cannot be written.
    """
    if abs(seconds) > MAX_LAB_OFFSET.total_seconds():
        raise ValueError(f"lab clock: {seconds} seconds is more than ten years; give a smaller offset")
    descriptor, temporary = tempfile.mkstemp(prefix=f".{offset_file.name}.", dir=offset_file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{seconds}\n")
        Path(temporary).replace(offset_file)
    except BaseException:
        Path(temporary).unlink()
        raise


def _system_now() -> datetime:
    return datetime.now(UTC)


class _LabClock:
    def __init__(self, offset_file: Path) -> None:
        self._file = offset_file
        self._offset = _read_offset(offset_file)

    def now(self) -> datetime:
        with suppress(ValueError):  # the last good one stays, as lab_world promises
            self._offset = _read_offset(self._file)
        return _system_now() + self._offset


def _read_offset(file: Path) -> timedelta:
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: the lab clock cannot be read ({type(error).__name__}); write 0 to it") from error
    offset = timedelta(seconds=int(text)) if _OFFSET.fullmatch(text) else None
    if offset is None or abs(offset) > MAX_LAB_OFFSET:
        raise ValueError(f"{file}: must hold a whole number of seconds, at most ten years; write 0 to it")
    return offset
