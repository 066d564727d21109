"""SQLite: the default store. Needs nothing, loses nothing.

Write-ahead log with ``synchronous=FULL``: a commit that was acknowledged survives ``kill -9`` and loss of power.
Connections are not shared between threads: the ledger's writer has one, everything else shares another under a lock.
Columns are always named, so that a database written by a newer version can still be read.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.core.publication import Attested
from gateway.storage import AuditEntry, LedgerEntry, StorageError

# Numbered, forward only. A version once released is never edited; changes are appended.
_MIGRATIONS: Final = (
    """
    CREATE TABLE documents (
        issuer TEXT NOT NULL, subject TEXT NOT NULL, token TEXT NOT NULL, PRIMARY KEY (issuer, subject)
    ) WITHOUT ROWID;
    CREATE TABLE charters (version INTEGER PRIMARY KEY, document TEXT NOT NULL);
    CREATE TABLE attested (
        member TEXT PRIMARY KEY, federation_keys TEXT NOT NULL, credential_keys TEXT NOT NULL,
        issued_at INTEGER NOT NULL, digest TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE replays (replay_key TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX replays_until ON replays (until);
    CREATE TABLE audit (
        position INTEGER PRIMARY KEY AUTOINCREMENT, verification_id TEXT NOT NULL UNIQUE, decided_at INTEGER NOT NULL,
        service TEXT NOT NULL, matter TEXT NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL, issuer TEXT NOT NULL,
        kid TEXT NOT NULL, charter_version INTEGER NOT NULL, view_id TEXT NOT NULL, request_id TEXT NOT NULL
    );
    """,
)
_INSERT_AUDIT: Final = (
    "INSERT INTO audit (verification_id, decided_at, service, matter, verdict, reason, issuer, kid, charter_version,"
    " view_id, request_id) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
)
_BUSY_SECONDS: Final = 5.0


class SqliteStore:
    """One SQLite file; implements all storage protocols."""

    def __init__(self, path: Path) -> None:
        """Open or create the file and bring it to the newest schema.

        Raises:
            StorageError: the file cannot be opened, is not ours, or was written by a newer version.
        """
        self._path = path
        self._lock = threading.Lock()
        self._ledger_lock = threading.Lock()
        with ExitStack() as opened:
            self._open(path, opened)
            self._opened = opened.pop_all()

    def _open(self, path: Path, opened: ExitStack) -> None:
        try:
            # Who verifies what, and when, is for the owner's eyes; SQLite gives its side files the same mode.
            path.touch(mode=0o600, exist_ok=True)
            self._connection = opened.enter_context(closing(self._connect()))
            self._migrate()
            self._ledger = opened.enter_context(closing(self._connect()))
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{path.name}: {error}") from error

    def close(self) -> None:
        """Close both connections."""
        with self._lock, self._ledger_lock:
            self._opened.close()

    # -- ledger --------------------------------------------------------------------------------------------------------

    def commit(self, group: Sequence[LedgerEntry]) -> Sequence[bool]:
        """Write a group of decisions; see ``LedgerStore``."""
        replayed: list[bool] = []
        with self._ledger_lock, self._transaction(self._ledger) as db:
            for item in group:
                seen = False
                if item.replay_key is not None and item.replay_until is not None:
                    cursor = db.execute(
                        "INSERT INTO replays (replay_key, until) VALUES (?, ?) ON CONFLICT DO NOTHING",
                        (item.replay_key, int(item.replay_until.timestamp())),
                    )
                    seen = cursor.rowcount == 0
                db.execute(_INSERT_AUDIT, _audit_row(item.if_replayed if seen and item.if_replayed else item.entry))
                replayed.append(seen)
        return replayed

    def forget_replays(self, before: datetime) -> int:
        """Drop lapsed replay keys; see ``LedgerStore``."""
        with self._ledger_lock, self._transaction(self._ledger) as db:
            return db.execute("DELETE FROM replays WHERE until < ?", (int(before.timestamp()),)).rowcount

    def audit_entries(self) -> Iterator[AuditEntry]:
        """Read all audit entries, oldest first."""
        with self._lock, _wrapped():
            rows = self._connection.execute(
                "SELECT verification_id, decided_at, service, matter, verdict, reason, issuer, kid, charter_version,"
                " view_id, request_id FROM audit ORDER BY position"
            ).fetchall()
        for row in rows:
            yield AuditEntry(
                verification_id=row[0],
                decided_at=datetime.fromtimestamp(row[1] / 1000, UTC),
                service=row[2],
                matter=row[3],
                verdict=row[4],
                reason=row[5],
                issuer=row[6],
                kid=row[7],
                charter_version=row[8],
                view_id=row[9],
                request_id=row[10],
            )

    # -- trust ---------------------------------------------------------------------------------------------------------

    def load_documents(self) -> Mapping[tuple[str, str], str]:
        """Load the statements held; see ``TrustStore``."""
        with self._lock, _wrapped():
            rows = self._connection.execute("SELECT issuer, subject, token FROM documents").fetchall()
        return {(issuer, subject): token for issuer, subject, token in rows}

    def save_documents(self, documents: Mapping[tuple[str, str], str]) -> None:
        """Write statements; see ``TrustStore``."""
        with self._lock, self._transaction(self._connection) as db:
            db.executemany(
                "INSERT INTO documents (issuer, subject, token) VALUES (?, ?, ?)"
                " ON CONFLICT (issuer, subject) DO UPDATE SET token = excluded.token",
                [(issuer, subject, token) for (issuer, subject), token in documents.items()],
            )

    def load_charters(self) -> Mapping[int, str]:
        """Load the charters held; see ``TrustStore``."""
        with self._lock, _wrapped():
            rows = self._connection.execute("SELECT version, document FROM charters ORDER BY version").fetchall()
        return dict(rows)

    def save_charter(self, version: int, document: str) -> None:
        """Write a charter; see ``TrustStore``."""
        with self._lock, self._transaction(self._connection) as db:
            db.execute(
                "INSERT INTO charters (version, document) VALUES (?, ?) ON CONFLICT DO NOTHING", (version, document)
            )

    # -- anchor --------------------------------------------------------------------------------------------------------

    def load_attested(self) -> Mapping[str, Attested]:
        """Load what the anchor attested; see ``AttestationStore``."""
        with self._lock, _wrapped():
            rows = self._connection.execute(
                "SELECT member, federation_keys, credential_keys, issued_at, digest FROM attested"
            ).fetchall()
        return {
            member: Attested(
                federation_keys=frozenset(json.loads(federation_keys)),
                credential_keys=frozenset(json.loads(credential_keys)),
                issued_at=datetime.fromtimestamp(issued_at, UTC),
                digest=digest,
            )
            for member, federation_keys, credential_keys, issued_at, digest in rows
        }

    def save_vouching(self, member: str, attested: Attested, place: tuple[str, str], statement: str) -> None:
        """Write what is attested and the statement; see ``AttestationStore``."""
        row = (
            member,
            json.dumps(sorted(attested.federation_keys)),
            json.dumps(sorted(attested.credential_keys)),
            int(attested.issued_at.timestamp()) if attested.issued_at is not None else 0,
            attested.digest,
        )
        with self._lock, self._transaction(self._connection) as db:
            db.execute(
                "INSERT INTO attested (member, federation_keys, credential_keys, issued_at, digest)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (member) DO UPDATE SET federation_keys = excluded.federation_keys,"
                " credential_keys = excluded.credential_keys, issued_at = excluded.issued_at, digest = excluded.digest",
                row,
            )
            db.execute(
                "INSERT INTO documents (issuer, subject, token) VALUES (?, ?, ?)"
                " ON CONFLICT (issuer, subject) DO UPDATE SET token = excluded.token",
                (*place, statement),
            )

    # -- connections ---------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error:
            connection.close()  # the first statement is what finds out that the file is no database
            raise
        return connection

    def _migrate(self) -> None:
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(_MIGRATIONS):
            raise StorageError(f"{self._path.name}: written by a newer version of this program (schema {version})")
        for number, script in enumerate(_MIGRATIONS[version:], start=version + 1):
            self._connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        with _wrapped():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


@contextmanager
def _wrapped() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"SQLite: {error}") from error


def _audit_row(entry: AuditEntry) -> tuple[object, ...]:
    return (
        entry.verification_id,
        int(entry.decided_at.timestamp() * 1000),
        entry.service,
        entry.matter,
        entry.verdict,
        entry.reason,
        entry.issuer,
        entry.kid,
        entry.charter_version,
        entry.view_id,
        entry.request_id,
    )
