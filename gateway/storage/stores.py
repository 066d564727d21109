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
    close: Callable[[], None]
    """Closes all of them."""
