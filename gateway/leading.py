"""Of the processes that share a database, one leads: it alone speaks for the province.

It publishes, signs what is published, issues, and changes keys. The others follow: they verify, relay, and take over
what the leader has written. Which of the two a process is stands fixed from when it is put together; one that has lost
its lead does neither of these things any more, until it is put together anew.
"""

from __future__ import annotations

from typing import Final

from gateway.core.reasons import Unavailable
from gateway.storage import Lead
from gateway.storage.sqlite_lead import SettledLead

DETAIL: Final = "another process of this gateway leads, and only that one does this; ask again, or ask it"


class Leading:
    """Whether this process leads. Thread-safe."""

    def __init__(self, lead: Lead) -> None:
        """Be what ``lead`` says now."""
        self._lead = lead
        self.is_leader = lead.leads
        """What the process was put together as."""

    def __call__(self) -> bool:
        """Whether it is the leader, and still leads."""
        return self.is_leader and self._lead.leads

    def require(self) -> None:
        """Refuse what only the leader does. Raises Unavailable."""
        if not self():
            raise Unavailable(DETAIL)


ALONE: Final = Leading(SettledLead(leads=True))
"""No other process shares the database."""
