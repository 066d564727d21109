"""The trust store without its writing half: for who looks, and for who follows one that writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from gateway.core.entries import SealedEntry
from gateway.core.memory import TrustMemory
from gateway.storage import TrustStore


class ReadOnly:
    """Changes nothing, and works on a full disk; implements ``TrustStore``."""

    def __init__(self, store: TrustStore) -> None:
        """Read from a store."""
        self._store = store

    def load_memory(self) -> TrustMemory:
        """See ``TrustStore``."""
        return self._store.load_memory()

    def save_memory(self, change: TrustMemory, log: Sequence[SealedEntry] = ()) -> None:
        """Do nothing."""

    def reset_clock_floor(self, log: Sequence[SealedEntry] = ()) -> None:
        """Do nothing."""

    def load_charters(self) -> Mapping[int, str]:
        """See ``TrustStore``."""
        return self._store.load_charters()

    def load_charter(self, version: int) -> str | None:
        """See ``TrustStore``."""
        return self._store.load_charter(version)

    def save_charter(self, version: int, document: str, log: Sequence[SealedEntry] = ()) -> None:
        """Do nothing."""

    def save_view(self, taken_at: datetime, summary: str) -> None:
        """Do nothing."""

    def load_view(self, at: datetime) -> tuple[datetime, str] | None:
        """See ``TrustStore``."""
        return self._store.load_view(at)
