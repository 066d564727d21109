"""Connections to a PostgreSQL server, for all who have tables there.

* What breaks is thrown away, and made anew when it is needed next: nobody has to look after a gateway because the
  database was restarted. Nothing is tried twice in silence, because the first try may have succeeded.
* Every wait has an end: for the network, for a lock, for a statement. A server that was cut off from us gives up what
  we hold there as well.
* A commit that was acknowledged survives: neither a standby nor a server that does not wait for its disk is written to.
* Errors say what PostgreSQL says of the kind of error, never which values were in it.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from gateway.storage import StorageError

Db = psycopg.Connection[TupleRow]
"""Inside of a transaction."""

LOCKS: Final = 0x6D7267
"""The first half of all our advisory locks; a database is ours alone, but need not stay so."""
MIN_VERSION: Final = 150_000
_CONNECT_SECONDS: Final = 5
_OPTIONS: Final = {
    "statement_timeout": "30s",
    "lock_timeout": "8s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
    # For the server to notice that we are gone, and free what we have locked.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "2",
}
_PARAMETERS: Final[dict[str, Any]] = {
    "connect_timeout": _CONNECT_SECONDS,
    "options": " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items()),
    # For us to notice that the server is gone.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 8_000,
}


class Lock(IntEnum):
    """What is locked by the second half of an advisory lock."""

    MIGRATION = 1
    PARTS = 2
    LEAD = 3
    FORGETTING = 4


class Session:
    """One connection at a time. Thread-safe: whoever comes second waits."""

    def __init__(self, url: str, name: str, check: Callable[[Db], object] = lambda _db: None) -> None:
        """Connect to nothing yet.

        Args:
            url: where the database is, as libpq reads it.
            name: what the connection is for; people see it on the server.
            check: looks at each new connection before it is used; raises StorageError.
        """
        self._url = url
        self._name = name
        self._check = check
        self._lock = threading.Lock()
        self._connection: Db | None = None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._discard()

    @contextmanager
    def transaction(self) -> Iterator[Db]:
        """Do what is inside in one durable transaction, or nothing of it.

        Raises:
            StorageError: nothing was done; but when the commit itself failed, it cannot be known whether it was.
        """
        with self._connected() as db, db.transaction():
            yield db

    @contextmanager
    def pipeline(self) -> Iterator[tuple[Db, psycopg.Pipeline]]:
        """Likewise, sending statements without waiting for the results of those before, until one is looked at."""
        with self._connected() as db, db.pipeline() as pipeline, db.transaction():
            yield db, pipeline

    @contextmanager
    def snapshot(self) -> Iterator[Db]:
        """Read several things as they were at one moment."""
        with self.transaction() as db:
            db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield db

    @contextmanager
    def statement(self) -> Iterator[Db]:
        """Do with one statement, which is a transaction of its own."""
        with self._connected() as db:
            yield db

    @contextmanager
    def _connected(self) -> Iterator[Db]:
        with self._lock, wrapped():
            db = self._connection
            if db is None or is_over(db):
                self._discard()
                db = self._connection = connect(self._url, self._name, self._check)
            try:
                yield db
            except BaseException as error:
                if isinstance(error, psycopg.OperationalError) or _is_busy(db):
                    self._discard()
                raise

    def _discard(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None


def connect(url: str, name: str, check: Callable[[Db], object] = lambda _db: None) -> Db:
    """Make a connection. Every statement is a transaction, unless one was begun.

    Raises:
        StorageError: there is no connection, or no server that what is written to survives on.
    """
    with wrapped():
        db = psycopg.connect(url, autocommit=True, application_name=f"mrg {name}", **_PARAMETERS)
        try:
            _require_durable(db)
            check(db)
        except BaseException:
            db.close()
            raise
        return db


def _require_durable(db: Db) -> None:
    if db.info.server_version < MIN_VERSION:
        raise StorageError("PostgreSQL: version 15 or newer is needed")
    if db.info.parameter_status("server_encoding") != "UTF8":
        raise StorageError("PostgreSQL: the database's encoding must be UTF8")
    row = db.execute("SELECT pg_is_in_recovery(), current_setting('synchronous_commit')").fetchone()
    is_standby, synchronous_commit = row or (True, "")
    if is_standby:
        raise StorageError("PostgreSQL: this server is a standby; name the primary")
    if synchronous_commit == "off":
        db.execute("SET synchronous_commit = on")


def is_over(db: Db) -> bool:
    """Whether an idle connection was ended by the other side.

    Nobody talks on an idle connection but to take leave: a restarted server is noticed without asking it.
    """
    if db.closed:
        return True
    waiting = select.poll()
    waiting.register(db.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def _is_busy(db: Db) -> bool:
    return db.closed or db.info.transaction_status is not TransactionStatus.IDLE


@contextmanager
def wrapped() -> Iterator[None]:
    """Turn what psycopg raises into ``StorageError``."""
    try:
        yield
    except psycopg.Error as error:
        # Its details would show values.
        text = error.diag.message_primary or next(iter(str(error).splitlines()), type(error).__name__)
        raise StorageError(f"PostgreSQL: {text}") from error
