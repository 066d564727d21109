"""Who serves from a SQLite file: one process, or those of one supervisor.

A lock on a file beside the database says that somebody does. It ends with the last process that holds it, however that
one ended. The processes of one supervisor inherit it, so that none of them outlives it unseen.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from gateway.storage import StorageError

SUFFIX: Final = ".lock"


class InUseError(StorageError):
    """Another process serves from the database, and no two may. Waiting does not help."""


class SqliteLead:
    """The lock; implements ``Lead``. Who has it leads, for as long as the process lives."""

    def __init__(self, path: Path) -> None:
        """Open the lock's file, beside the database.

        Raises:
            StorageError: it cannot be opened.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Never the database itself: to close any descriptor of it would end the locks that SQLite holds on it.
            self._file = os.open(path.with_name(path.name + SUFFIX), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"{path.name}: {error.strerror}") from error
        self._name = path.name
        self._holds = False

    def close(self) -> None:
        """Let others serve, once those that have inherited the lock are gone as well."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._holds = False

    def try_lead(self) -> bool:
        """Take the lock.

        Raises:
            InUseError: another process has it.
        """
        if not self._holds:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InUseError(f"{self._name}: another process serves from it") from error
            self._holds = True
        return True

    @property
    def leads(self) -> bool:
        """Whether it was taken."""
        return self._holds

    def fileno(self) -> int:
        """Give what processes inherit to hold the lock too."""
        return self._file


class SettledLead:
    """Whether a process leads where that is settled among those of one supervisor; implements ``Lead``."""

    def __init__(self, *, leads: bool) -> None:
        """Know it."""
        self._leads = leads

    def close(self) -> None:
        """Do nothing."""

    def try_lead(self) -> bool:
        """Say it."""
        return self._leads

    @property
    def leads(self) -> bool:
        """Whether it leads, always."""
        return self._leads
