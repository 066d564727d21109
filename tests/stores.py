"""The places where a gateway can keep what it keeps. What must hold of one must hold of each."""

from __future__ import annotations

import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.storage.opening import open_sqlite
from gateway.storage.postgres_opening import open_postgres
from gateway.storage.stores import Stores
from tests.postgres import Server

KINDS = ("sqlite", "postgres")


class Place(ABC):
    """One database."""

    def __init__(self) -> None:
        self._opened: list[Stores] = []

    def open(self) -> Stores:
        """Open it, once more if it is open; as a process would that starts on it."""
        stores = self._open()
        self._opened.append(stores)
        return stores

    def close(self) -> None:
        """Close whatever was opened."""
        while self._opened:
            self._opened.pop().close()

    @property
    @abstractmethod
    def mark(self) -> Path:
        """The file that remembers how far the database was."""

    @abstractmethod
    def _open(self) -> Stores: ...

    @abstractmethod
    def ask(self, query: str) -> list[tuple[object, ...]]:
        """Ask the database by hand, past the gateway."""

    @abstractmethod
    def back_up(self) -> Place:
        """Make a copy of the database. What was opened is closed."""

    @abstractmethod
    def put_back(self, backup: Place) -> None:
        """Put a copy in its place, where the mark stays. What was opened is closed."""


class SqlitePlace(Place):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def mark(self) -> Path:
        return self.path.with_name(f"{self.path.name}.mark")

    def _open(self) -> Stores:
        return open_sqlite(self.path)

    def ask(self, query: str) -> list[tuple[object, ...]]:
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            return db.execute(query).fetchall()
        finally:
            db.close()

    def back_up(self) -> SqlitePlace:
        """As docs/deploy.md says, while it serves."""
        self.close()
        number = len(list(self.path.parent.glob("backup-*.sqlite")))
        backup = self.path.with_name(f"backup-{number}.sqlite")
        db = sqlite3.connect(self.path)
        db.execute("VACUUM INTO ?", (str(backup),))
        db.close()
        return SqlitePlace(backup)

    def put_back(self, backup: Place) -> None:
        assert isinstance(backup, SqlitePlace)
        self.close()
        for name in (self.path.name, f"{self.path.name}-wal", f"{self.path.name}-shm"):
            self.path.with_name(name).unlink(missing_ok=True)
        shutil.copy(backup.path, self.path)


class PostgresPlace(Place):
    def __init__(self, server: Server, mark: Path) -> None:
        super().__init__()
        self.server = server
        self.url = server.new_database()
        self._mark = mark

    @property
    def mark(self) -> Path:
        return self._mark

    def _open(self) -> Stores:
        return open_postgres(self.url, self._mark)

    def ask(self, query: str) -> list[tuple[object, ...]]:
        return self.server.ask(query, self.url)

    def back_up(self) -> PostgresPlace:
        self.close()
        backup = PostgresPlace(self.server, self._mark.with_name("no mark"))
        backup.url = self.server.copy_database(self.url)
        return backup

    def put_back(self, backup: Place) -> None:
        assert isinstance(backup, PostgresPlace)
        self.close()
        self.url = self.server.copy_database(backup.url)


def place_of(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Make an empty place of a kind, and close in the end what was opened in it."""
    place: Place
    if kind == "sqlite":
        place = SqlitePlace(folder / "gateway.sqlite")
    else:
        place = PostgresPlace(request.getfixturevalue("postgres"), folder / "gateway.toml.mark")
    yield place
    place.close()


def file_of(config: Config) -> Path:
    """The database of a configuration that names a file."""
    assert isinstance(config.database, Path)
    return config.database
