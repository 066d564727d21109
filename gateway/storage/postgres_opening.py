"""All that is kept in one PostgreSQL database, over three connections: decisions, the rest, and what is large."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from gateway.storage.postgres import PostgresStore
from gateway.storage.postgres_changes import Changes
from gateway.storage.postgres_connection import Session
from gateway.storage.postgres_entries import Parts
from gateway.storage.postgres_ledger import PostgresLedger
from gateway.storage.postgres_lineage import PostgresLineage
from gateway.storage.postgres_log import PostgresLog
from gateway.storage.postgres_register import PostgresRegister
from gateway.storage.postgres_schema import migrate
from gateway.storage.postgres_statuses import PostgresStatuses
from gateway.storage.postgres_tidings import PostgresTidings
from gateway.storage.stores import Stores


def open_postgres(url: str, mark: Path) -> Stores:
    """Bring a database to the newest schema, and look whether it is the one that was known here.

    Args:
        url: where it is, as libpq reads it; no password is in it.
        mark: the file that remembers how far it was; beside the configuration, whose owner it gets.

    Raises:
        StorageError: it cannot be reached or used, or was written by a newer version.
    """
    lineage = PostgresLineage(mark)
    parts = Parts()
    with ExitStack() as opened:

        def session(name: str) -> Session:
            made = Session(url, name, lineage.check)
            opened.callback(made.close)
            return made

        decisions, rest, large = session("decisions"), session("store"), session("log")
        migrate(rest)
        lineage.compare(rest)
        changes = Changes(rest, parts, lineage)
        store = PostgresStore(rest, changes, lineage)
        return Stores(
            trust=store,
            lineage=store,
            anchor=store,
            keys=store,
            consents=store,
            log=PostgresLog(large, PostgresLedger(decisions, parts), parts),
            statuses=PostgresStatuses(large, changes),
            register=PostgresRegister(rest, changes),
            tidings=lambda: PostgresTidings(url),
            close=opened.pop_all().close,
        )
