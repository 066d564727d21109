"""Opening what a configuration names: a SQLite file, or a PostgreSQL database."""

from __future__ import annotations

from contextlib import ExitStack
from enum import Enum
from pathlib import Path

from gateway.config import Config, PostgresUrl
from gateway.storage import Lead, StorageError
from gateway.storage.sqlite import SqliteStore
from gateway.storage.sqlite_lead import SettledLead, SqliteLead
from gateway.storage.sqlite_log import SqliteLog
from gateway.storage.sqlite_register import SqliteRegister
from gateway.storage.sqlite_statuses import SqliteStatuses
from gateway.storage.sqlite_tidings import SqliteTidings
from gateway.storage.stores import Stores


def open_stores(config: Config) -> Stores:
    """Open the database, make a SQLite file that is not there, and bring either to the newest schema.

    Raises:
        StorageError: it cannot be opened, is not ours, or was written by a newer version.
    """
    if isinstance(config.database, PostgresUrl):
        from gateway.storage.postgres_opening import open_postgres  # noqa: PLC0415 - loaded only where one is used

        return open_postgres(config.database.url, mark_file(config))
    return open_sqlite(config.database)


class Place(Enum):
    """What a process is among those that serve one province on one host."""

    ALONE = "alone"
    """It is the only one."""
    FRONT = "front"
    """The one of several that may lead."""
    WORKER = "worker"
    """One that never leads."""


def open_lead(config: Config, place: Place = Place.ALONE) -> Lead:
    """Ask for no lead yet, but be able to.

    Raises:
        StorageError: the database cannot be reached.
    """
    if isinstance(config.database, PostgresUrl):
        from gateway.storage.postgres_lead import PostgresLead  # noqa: PLC0415 - as above

        return PostgresLead(config.database.url, contends=place is not Place.WORKER)
    if place is Place.ALONE:
        return SqliteLead(config.database)
    return SettledLead(leads=place is Place.FRONT)  # their supervisor has the lock, and they have inherited it


def exists(config: Config) -> bool:
    """Whether the gateway was started before: a PostgreSQL database is made by whoever keeps the server."""
    return isinstance(config.database, PostgresUrl) or config.database.is_file()


def mark_file(config: Config) -> Path:
    """Say where the mark of a PostgreSQL database is: beside the configuration."""
    return config.file.with_name(f"{config.file.name}.mark")


def open_sqlite(path: Path) -> Stores:
    """Open the stores of a file.

    Raises:
        StorageError: it cannot be opened, is not ours, or was written by a newer version.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path.name}: {error.strerror}") from error
    with ExitStack() as opened:
        store = SqliteStore(path)
        opened.callback(store.close)
        log = SqliteLog(path)
        opened.callback(log.close)
        statuses = SqliteStatuses(path, store)
        opened.callback(statuses.close)
        register = SqliteRegister(path, store)
        opened.callback(register.close)
        return Stores(
            trust=store,
            lineage=store,
            anchor=store,
            keys=store,
            consents=store,
            log=log,
            statuses=statuses,
            register=register,
            tidings=lambda: SqliteTidings(path),
            close=opened.pop_all().close,
        )
