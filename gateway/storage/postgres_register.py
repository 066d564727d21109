"""Our own status lists in PostgreSQL: which place was given to which credential, and what became of it.

Every change counts as one that must not be forgotten: a backup put back may lack places that were given away since, and
credentials that were revoked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from gateway.core.entries import SealedEntry
from gateway.storage import OwnList, OwnStatus
from gateway.storage.postgres_changes import Changes
from gateway.storage.postgres_connection import Session
from gateway.storage.rows import instant, maybe_instant, maybe_seconds, seconds

_COLUMNS: Final = "uri, place, credential_id, subject, actor, expires_at, status, changed_at"
_INSERT: Final = f"INSERT INTO own_statuses ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"  # noqa: S608
_SELECT: Final = f"SELECT {_COLUMNS} FROM own_statuses WHERE "  # noqa: S608 - our own names
_NEVER: Final = 0
"""In place of the expiry of what does not expire, because no credential has it."""


class PostgresRegister:
    """The tables of our own status lists; implements ``RegisterStore``. Thread-safe."""

    def __init__(self, session: Session, changes: Changes) -> None:
        """Use a connection; ``changes`` counts what must not be forgotten."""
        self._session = session
        self._changes = changes

    def load_lists(self) -> Sequence[OwnList]:
        """Load all lists; see ``RegisterStore``."""
        with self._session.statement() as db:
            rows = db.execute(
                "SELECT uri, size, opened_at, closed, count(place), max(expires_at)"
                ' FROM own_lists LEFT JOIN own_statuses USING (uri) GROUP BY uri ORDER BY opened_at, uri COLLATE "C"'
            ).fetchall()
        return [
            OwnList(
                uri=uri,
                size=size,
                opened_at=instant(opened_at),
                closed=closed,
                used=used,
                last_expiry=maybe_instant(last_expiry or None),
            )
            for uri, size, opened_at, closed, used, last_expiry in rows
        ]

    def load_set(self, uri: str) -> Sequence[tuple[int, int]]:
        """Load what is set; see ``RegisterStore``."""
        with self._session.statement() as db:
            rows = db.execute(
                "SELECT place, status FROM own_statuses WHERE uri = %s AND status <> 0", (uri,)
            ).fetchall()
        return [(place, status) for place, status in rows]

    def add_lists(self, lists: Sequence[OwnList]) -> None:
        """Write new lists; see ``RegisterStore``."""
        with self._changes.durable() as db:
            db.cursor().executemany(
                "INSERT INTO own_lists (uri, size, opened_at, closed) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [(each.uri, each.size, seconds(each.opened_at), each.closed) for each in lists],
            )

    def close_list(self, uri: str) -> None:
        """Close a list; see ``RegisterStore``."""
        with self._changes.durable() as db:
            db.execute("UPDATE own_lists SET closed = true WHERE uri = %s", (uri,))

    def take_place(self, status: OwnStatus) -> bool:
        """Take a place; see ``RegisterStore``."""
        with self._changes.durable() as db:
            return db.execute(f"{_INSERT} ON CONFLICT (uri, place) DO NOTHING", _row(status)).rowcount == 1

    def find_credential(self, credential_id: str) -> OwnStatus | None:
        """Find a credential; see ``RegisterStore``."""
        with self._session.statement() as db:
            row = db.execute(f"{_SELECT} credential_id = %s", (credential_id,)).fetchone()
        return None if row is None else _read(row)

    def find_person(self, reference: str, after: datetime, limit: int | None = None) -> Sequence[OwnStatus]:
        """Find somebody's credentials; see ``RegisterStore``."""
        if not reference:
            return []  # of nobody
        with self._session.statement() as db:
            rows = db.execute(
                f"{_SELECT} (subject = %(person)s AND subject <> '' OR actor = %(person)s AND actor <> '')"
                " AND credential_id IS NOT NULL AND expires_at > %(after)s"
                ' ORDER BY expires_at DESC, uri COLLATE "C", place LIMIT %(limit)s',
                {"person": reference, "after": seconds(after), "limit": limit},
            ).fetchall()
        return [_read(row) for row in rows]

    def is_taken(self, uri: str, place: int) -> bool:
        """Look whether a place is taken; see ``RegisterStore``."""
        with self._session.statement() as db:
            row = db.execute("SELECT 1 FROM own_statuses WHERE uri = %s AND place = %s", (uri, place)).fetchone()
        return row is not None

    def find_decoys(self, uri: str, status: int, limit: int) -> Sequence[OwnStatus]:
        """Find decoys; see ``RegisterStore``."""
        with self._session.statement() as db:
            rows = db.execute(
                f"{_SELECT} uri = %s AND status = %s AND status <> 0 AND credential_id IS NULL LIMIT %s",
                (uri, status, limit),
            ).fetchall()
        return [_read(row) for row in rows]

    def write(self, statuses: Sequence[OwnStatus], log: Sequence[SealedEntry] = ()) -> None:
        """Write what became of places; see ``RegisterStore``."""
        with self._changes.durable(log) as db:
            db.cursor().executemany(
                f"{_INSERT} ON CONFLICT (uri, place) DO UPDATE SET status = excluded.status,"
                " changed_at = excluded.changed_at",
                [_row(each) for each in statuses],
            )


def _row(status: OwnStatus) -> tuple[object, ...]:
    return (
        status.uri,
        status.place,
        status.credential_id,
        status.subject,
        status.actor,
        _NEVER if status.expires_at is None else seconds(status.expires_at),
        status.status,
        maybe_seconds(status.changed_at),
    )


def _read(row: Sequence[Any]) -> OwnStatus:
    uri, place, credential_id, subject, actor, expires_at, status, changed_at = row
    return OwnStatus(
        uri=uri,
        place=place,
        credential_id=credential_id,
        subject=subject,
        actor=actor,
        expires_at=maybe_instant(expires_at or None),
        status=status,
        changed_at=maybe_instant(changed_at),
    )
