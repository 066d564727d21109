"""Status lists in PostgreSQL: the newest of each name, as its issuer signed it.

Every list written counts as a change that must not be forgotten: a backup put back holds lists in which what was
revoked since is still valid.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.storage import HeldStatusList
from gateway.storage.postgres_changes import Changes
from gateway.storage.postgres_connection import Session
from gateway.storage.rows import instant, seconds


class PostgresStatuses:
    """The table ``status_lists``; implements ``StatusStore``. Thread-safe."""

    def __init__(self, session: Session, changes: Changes) -> None:
        """Use a connection on which nobody waits who cannot wait for megabytes to be read; ``changes`` counts."""
        self._session = session
        self._changes = changes

    def load_status_lists(self) -> Sequence[HeldStatusList]:
        """Load what is remembered of every list; see ``StatusStore``."""
        with self._session.statement() as db:
            rows = db.execute("SELECT uri, issuer, seq, issued_at FROM status_lists ORDER BY uri").fetchall()
        return [
            HeldStatusList(uri=uri, issuer=issuer, seq=seq, issued_at=instant(issued_at))
            for uri, issuer, seq, issued_at in rows
        ]

    def load_status_list(self, uri: str) -> str | None:
        """Load one list as it was signed; see ``StatusStore``."""
        with self._session.statement() as db:
            row = db.execute("SELECT token FROM status_lists WHERE uri = %s", (uri,)).fetchone()
        return None if row is None else str(row[0])

    def save_status_list(self, held: HeldStatusList, token: str) -> None:
        """Write a list in place of the one before; see ``StatusStore``."""
        with self._changes.durable() as db:
            # Of several processes that fetch, the slower one may come with the older list.
            db.execute(
                "INSERT INTO status_lists (uri, issuer, seq, issued_at, token) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (uri) DO UPDATE SET issuer = excluded.issuer, seq = excluded.seq,"
                " issued_at = excluded.issued_at, token = excluded.token"
                " WHERE excluded.seq >= status_lists.seq OR excluded.issuer <> status_lists.issuer",
                (held.uri, held.issuer, held.seq, seconds(held.issued_at), token),
            )
