"""The mark beside a database: how many changes it had seen, where no backup of the database reaches."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.logs import get_logger

SUFFIX: Final = ".mark"
_MAX_CHARS: Final = 20

_log = get_logger("storage")


class Mark:
    """The file that holds the mark. It is only ever raised, by whichever thread or process of this host."""

    def __init__(self, file: Path, beside: Path) -> None:
        """Know the file, and whose owner it is to have: that of the file beside it."""
        self._file = file
        self._beside = beside
        self._lock = threading.Lock()

    def read(self) -> int | None:
        """Give the mark; None: there is none, or none that can be read."""
        try:
            text = self._file.read_text("ascii")
            return int(text) if len(text) <= _MAX_CHARS else None
        except (OSError, ValueError):
            return None

    def write(self, generation: int) -> None:
        """Raise the mark, durably. Never raises an error: what it guards is on disk already."""
        try:
            with self._alone():
                if generation >= (self.read() or 0):  # a backup put back does not lower it
                    self._write(generation)
        except OSError as error:
            # A mark that is behind notices less, and harms nothing.
            _log.error("mark_not_written", file=self._file.name, exc_info=error)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            folder = os.open(self._file.parent, os.O_RDONLY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                yield
            finally:
                os.close(folder)

    def _write(self, generation: int) -> None:
        fresh = self._file.with_name(self._file.name + ".new")
        fresh.touch(mode=0o600)
        with fresh.open("w", encoding="ascii") as file:
            if os.geteuid() == 0:
                owner = self._beside.stat()  # a command that root runs must leave it to the gateway's user
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(str(generation))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)
