"""What was written to a PostgreSQL database, for the processes that follow: NOTIFY, in the transaction that writes.

A notification comes with the commit and after it, or not at all. It is lost with the connection: so whoever had to make
a new one is told that anything may have been written.
"""

from __future__ import annotations

from contextlib import suppress

import psycopg

from gateway.storage import Topic
from gateway.storage.postgres_connection import Db, connect, wrapped
from gateway.storage.postgres_schema import TIDINGS

_EVERYTHING = frozenset(Topic)


class PostgresTidings:
    """A connection that listens; implements ``Tidings``."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet."""
        self._url = url
        self._connection: Db | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None

    def wait(self, seconds: float) -> frozenset[Topic]:
        """Wait for a notification; see ``Tidings``."""
        try:
            with wrapped():
                if self._connection is None:
                    self._connection = connect(self._url, "tidings")
                    self._connection.execute(f"LISTEN {TIDINGS}".encode("ascii"))
                    return _EVERYTHING
                # Those that came together are given together.
                told = {each.payload for each in self._connection.notifies(timeout=seconds, stop_after=1)}
                return frozenset(topic for topic in Topic if topic.value in told)
        except BaseException:
            self.close()
            raise
