"""Everything that is kept, in one place, whatever database it is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.storage import (
    AnchorStore,
    ConsentStore,
    KeyStateStore,
    Lineage,
    LogBook,
    RegisterStore,
    StatusStore,
    Tidings,
    TrustStore,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The stores of one database. One object may be several of them."""

    trust: TrustStore
    lineage: Lineage
    anchor: AnchorStore
    keys: KeyStateStore
    consents: ConsentStore
    log: LogBook
    statuses: StatusStore
    register: RegisterStore
    tidings: Callable[[], Tidings]
    """Gives what tells of changes, over a connection of its own. Raises StorageError."""
    close: Callable[[], None]
    """Closes all of them; what tells of changes is its holder's to close."""
