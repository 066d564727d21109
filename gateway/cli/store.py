"""The province's own store, opened by a command beside the gateway that may be running on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from gateway.cli.console import Failure
from gateway.config import Config, PostgresUrl
from gateway.core.charter import Charter
from gateway.core.reasons import Rejected
from gateway.resolver import load_charter
from gateway.storage import StorageError, TrustStore
from gateway.storage.opening import exists, open_stores
from gateway.storage.read_only import ReadOnly
from gateway.storage.stores import Stores


@contextmanager
def open_store(config: Config) -> Iterator[Stores]:
    """Give the store that is there; none is made.

    Raises:
        Failure: there is none, it cannot be used, or what is done with it inside fails.
    """
    # Whoever starts the gateway makes a SQLite file: made here, it might belong to somebody else.
    if not exists(config):
        raise Failure(f"{config.database}: there is no database yet", fix="start the gateway once: mrg serve --config")
    try:
        stores = open_stores(config)
        try:
            yield stores
        finally:
            stores.close()
    except StorageError as error:
        raise unusable(config, error) from error


def charter_in_force(config: Config, store: TrustStore, now: datetime) -> Charter:
    """Establish the charter in force from the configured one and what the store holds; changes nothing.

    Raises:
        Failure: the file is not there, or is not the charter whose digest is configured.
    """
    file = config.charter.file
    try:
        return load_charter(ReadOnly(store), file.read_text("utf-8"), config.charter.sha256, now)
    except Rejected as error:
        raise Failure(
            f"{file}: {error.detail}",
            fix="compare the file and the digest in the configuration with the other provinces: mrg charter verify",
        ) from error
    except (OSError, ValueError) as error:
        raise Failure(f"{file}: cannot be read", fix="put the charter's file back") from error


def unusable(config: Config, error: StorageError) -> Failure:
    """Say that the database cannot be used, and what to look at."""
    is_server = isinstance(config.database, PostgresUrl)
    fix = "check the server, the user and the password file" if is_server else "check the file and its permissions"
    return Failure(f"{config.database}: {error}", fix=fix)
