"""Who leads where the store is a SQLite file."""

from __future__ import annotations


class SqliteLead:
    """Whoever serves from a SQLite file serves from it alone; implements ``Lead``."""

    def close(self) -> None:
        """Do nothing."""

    def try_lead(self) -> bool:
        """Lead."""
        return True

    @property
    def leads(self) -> bool:
        """Always."""
        return True
