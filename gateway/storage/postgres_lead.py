"""Which of the processes that share a PostgreSQL database leads: the one that holds a lock of its session.

The server frees the lock when it finds that the connection is gone, which takes it a while where the network was cut.
A process that has not heard from the server for a shorter while does not lead any more, whatever it believes to hold:
so there are never two.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Final

import psycopg

from gateway.storage import StorageError
from gateway.storage.postgres_connection import LOCKS, Db, Lock, connect, is_over, wrapped

LEASE_SECONDS: Final = 10.0
"""Less than the server takes to notice that a client is gone; see ``postgres_connection``."""


class PostgresLead:
    """The lock, on a connection of its own that is never made anew; implements ``Lead``. Thread-safe."""

    def __init__(self, url: str, *, contends: bool = True) -> None:
        """Connect.

        Args:
            url: where the database is.
            contends: whether to lead when nobody does; else only to find out whether the database is there.

        Raises:
            StorageError: that is not possible.
        """
        self._contends = contends
        self._lock = threading.Lock()
        self._connection: Db = connect(url, "lead")
        self._holds = False
        self._heard_at = time.monotonic()

    def close(self) -> None:
        """Give up what is held, at once: the server takes its time over a connection that ended."""
        with suppress(psycopg.Error):
            if self._holds and not is_over(self._connection):
                self._connection.execute("SELECT pg_advisory_unlock_all()")
        self._holds = False
        with suppress(psycopg.Error):
            self._connection.close()

    def try_lead(self) -> bool:
        """Become the leader if nobody is, or find out whether we are still; see ``Lead``."""
        with self._lock:
            asked_at = time.monotonic()
            try:
                with wrapped():
                    if self._holds or not self._contends:
                        self._connection.execute("SELECT 1")
                    else:
                        row = self._connection.execute(
                            "SELECT pg_try_advisory_lock(%s, %s)", (LOCKS, Lock.LEAD)
                        ).fetchone()
                        self._holds = row == (True,)
            except StorageError:
                self.close()
                raise
            self._heard_at = asked_at
            return self._holds

    @property
    def leads(self) -> bool:
        """Whether nobody else can lead now; see ``Lead``."""
        if not self._holds or time.monotonic() - self._heard_at >= LEASE_SECONDS:
            return False
        if not self._lock.acquire(blocking=False):
            return True  # it is being asked: what has arrived on the connection is the answer, and no farewell
        try:
            return not is_over(self._connection)
        finally:
            self._lock.release()
