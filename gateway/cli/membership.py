"""What a supervisor and its processes say to each other: first what a process is, then letters, and where it stands."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from gateway.app import at_ports
from gateway.cli import options
from gateway.cli.console import Failure, write_line
from gateway.cli.wishes import Wishes
from gateway.config import Config, ConfigError
from gateway.config.reader import read_config

_MAX_GIVEN_BYTES: Final = 64 * 1024 * 1024


class Event(StrEnum):
    """What a process says of itself."""

    PREPARED = "prepared"
    """Its program is loaded, and it waits to go on."""
    BOUND = "bound"
    """Of a front: its ports are bound, and it waits for the one before it to be gone."""
    SERVING = "serving"
    DESERTED = "deserted"
    """It takes no more connections, and the last is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a process is told first."""

    number: int
    folder: str
    ports: Mapping[str, int]
    configuration: str
    """What the file said when the supervisor read it."""

    def config(self, file: Path) -> Config:
        """Read the configuration, with the ports that are bound. Raises Failure."""
        try:
            return at_ports(read_config(self.configuration, file), self.ports)
        except ConfigError as error:
            raise Failure(str(error), fix=options.CONFIG_FIX) from error


def enter(wishes: Wishes) -> Given:
    """Take from standard input what this process is; from then on it says what is wished.

    Raises:
        Failure: a person has started it.
    """
    said = bytearray()
    while b"\n" not in said:
        more = os.read(sys.stdin.fileno(), 65_536)
        said += more
        if not more or len(said) > _MAX_GIVEN_BYTES:
            raise _not_for_people()
    line, _, letters = said.partition(b"\n")
    try:
        given = Given(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise _not_for_people() from error
    wishes.follow_parent(bytes(letters))
    return given


def _not_for_people() -> Failure:
    return Failure("--member is for processes that mrg serve --workers starts", fix="leave it out")


def tell(event: Event) -> None:
    """Say to the supervisor where this process is."""
    write_line(json.dumps({"event": event.value}))
