"""Explains decisions that were made, from what the log keeps of them.

A relying service is told of its own decisions, where its registration says that it may be; an administrator who may
explain, of all. Whoever may not see a decision is told the same as of one that there never was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway.config import RelyingService
from gateway.core.entries import Kind, Verification, read, read_verification
from gateway.core.explanation import Decision, ExplainedStep, explain
from gateway.core.findings import Findings
from gateway.core.reasons import NotHeld, NotPermitted, Reason, Rejected, Unavailable
from gateway.storage import LogStore, StorageError
from gateway.tls import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How a decision came about."""

    verification_id: str
    decided_at: datetime
    decision: Decision
    steps: tuple[ExplainedStep, ...]


class Explainer:
    """Explains decisions. Thread-safe."""

    def __init__(
        self, *, services: Mapping[str, RelyingService], administrators: Collection[str], log: LogStore
    ) -> None:
        """Prepare.

        Args:
            services: relying services by the identity in their certificate.
            administrators: identities of those who may have any decision explained.
            log: where decisions are looked up.
        """
        self._services = services
        self._administrators = administrators
        self._log = log

    def explain(self, caller: Caller, verification_id: str) -> Explanation:
        """Tell how a decision came about.

        Raises:
            NotPermitted: the caller may not have decisions explained.
            NotHeld: there is no such decision, or it is another service's.
            Unavailable: the log could not be read.
        """
        service = self._services.get(caller.identity)
        sees_all = caller.identity in self._administrators
        if not sees_all and (service is None or not service.explain):
            raise NotPermitted("caller may not have decisions explained")
        entry = self._find(verification_id)
        if entry is None or not (sees_all or entry.service == caller.identity):
            raise NotHeld("no decision under that number, or none that the caller may see")
        decision = Decision(
            service=entry.service,
            matter=entry.matter,
            verdict=entry.verdict,
            reason=Reason(entry.reason) if entry.reason else None,
            charter_version=entry.charter_version,
            view_id=entry.view_id,
            findings=Findings.from_members(entry.findings) if entry.findings else Findings(),
        )
        return Explanation(
            verification_id=verification_id,
            decided_at=entry.decided_at,
            decision=decision,
            steps=explain(decision),
        )

    def _find(self, verification_id: str) -> Verification | None:
        try:
            stored = self._log.find_entry(verification_id)
            if stored is None or stored.index.kind != Kind.VERIFICATION:
                return None
            return read_verification(read(stored.raw))
        except StorageError as error:
            raise Unavailable("the log could not be read") from error
        except Rejected as rejection:
            raise Unavailable("the log's entry is damaged; mrg audit verify tells more") from rejection
