"""Saying in time what ends soon: 30, 14, 7 and 1 days ahead, and when it has ended. Once each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from gateway.logs import get_logger

WARN_DAYS: Final = (30, 14, 7, 1, 0)

_log = get_logger("deadlines")


class Deadlines:
    """Remembers what was said. Not thread-safe: one thread warns."""

    def __init__(self) -> None:
        """Start with nothing said: after a restart it is said again."""
        self._said: set[tuple[str, datetime, int]] = set()

    def warn(self, ends: Mapping[str, datetime], now: datetime) -> int:
        """Say of each thing, by name, the nearest threshold it has passed, unless that was said. Returns how many."""
        due = {
            (name, end, min(days for days in WARN_DAYS if end - now <= timedelta(days=days)))
            for name, end in ends.items()
            if end - now <= timedelta(days=WARN_DAYS[0])
        } - self._said
        for name, end, days in sorted(due):
            _log.warning("deadline_near", role=name, expires_at=end.isoformat(), count=days)
        # What has been replaced is forgotten, so that this stays as small as the list of ends.
        self._said = {each for each in self._said | due if ends.get(each[0]) == each[1]}
        return len(due)
