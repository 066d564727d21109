"""The province's own store, opened by a command beside the gateway that may be running on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from gateway.cli.console import Failure
from gateway.config import Config
from gateway.core.charter import Charter
from gateway.core.memory import TrustMemory
from gateway.core.reasons import Rejected
from gateway.resolver import load_charter
from gateway.storage import StorageError
from gateway.storage.sqlite import SqliteStore


@contextmanager
def open_store(config: Config) -> Iterator[SqliteStore]:
    """Give the store that is there; none is made.

    Raises:
        Failure: there is none, it cannot be used, or what is done with it inside fails.
    """
    if not config.database.is_file():
        raise Failure(f"{config.database}: there is no database yet", fix="start the gateway once: mrg serve --config")
    try:
        store = SqliteStore(config.database)
        try:
            yield store
        finally:
            store.close()
    except StorageError as error:
        raise Failure(f"{config.database}: {error}", fix="check the file and its permissions") from error


def charter_in_force(config: Config, store: SqliteStore) -> Charter:
    """Establish the charter in force from the configured one and what the store holds; changes nothing.

    Raises:
        Failure: the file is not there, or is not the charter whose digest is configured.
    """
    file = config.charter.file
    try:
        return load_charter(ReadOnly(store), file.read_text("utf-8"), config.charter.sha256)
    except Rejected as error:
        raise Failure(
            f"{file}: {error.detail}",
            fix="compare the file and the digest in the configuration with the other provinces: mrg charter verify",
        ) from error
    except (OSError, ValueError) as error:
        raise Failure(f"{file}: cannot be read", fix="put the charter's file back") from error


class ReadOnly:
    """The trust store without its writing half: looking must work on a full disk and change nothing."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def load_memory(self) -> TrustMemory:
        """See ``TrustStore``."""
        return self._store.load_memory()

    def save_memory(self, change: TrustMemory) -> None:
        """Do nothing."""

    def reset_clock_floor(self) -> None:
        """Do nothing."""

    def load_charters(self) -> Mapping[int, str]:
        """See ``TrustStore``."""
        return self._store.load_charters()

    def load_charter(self, version: int) -> str | None:
        """See ``TrustStore``."""
        return self._store.load_charter(version)

    def save_charter(self, version: int, document: str) -> None:
        """Do nothing."""

    def save_view(self, taken_at: datetime, summary: str) -> None:
        """Do nothing."""

    def load_view(self, at: datetime) -> tuple[datetime, str] | None:
        """See ``TrustStore``."""
        return self._store.load_view(at)
