"""What recorded decisions would have been under another agreement.

A decision is replayed from its findings, by the very functions that made it (``policy``), at the time it was made. Only
what the agreement decides can come out differently. Rules that live here:

* What a forged, replayed or revoked presentation came to does not depend on any agreement.
* What was refused at a step that a new agreement would let pass was never looked at by the steps behind it. What they
  would have said is not known, and not guessed at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from gateway.core.agreement import Agreement
from gateway.core.findings import Findings, Step
from gateway.core.policy import check_algorithm, check_assurance, check_policy, issuer_terms
from gateway.core.reasons import Indeterminate, Reason, Rejected

_BY_AGREEMENT: Final = frozenset(
    {
        Reason.ALGORITHM_NOT_ALLOWED,
        Reason.ASSURANCE_UNKNOWN,
        Reason.ASSURANCE_ABOVE_CAP,
        Reason.KEY_BINDING_MISSING,
        Reason.CREDENTIAL_TYPE_NOT_ACCEPTED,
        Reason.SUBJECT_TYPE_NOT_ACCEPTED,
        Reason.ACTOR_MISSING,
        Reason.ACTOR_NOT_ACCEPTED,
        Reason.AUTHORITY_EXCEEDED,
        Reason.ASSURANCE_TOO_LOW,
        Reason.CREDENTIAL_TOO_OLD,
        Reason.AUTHENTICATION_TOO_OLD,
        Reason.CONSENT_MISSING,
        Reason.REQUIRED_CLAIM_MISSING,
        Reason.STATUS_MISSING,
        Reason.STATUS_UNAVAILABLE,
    }
)
"""Reasons that a matter's or an issuer's terms alone may give."""


class Outcome(StrEnum):
    """What comes of a replay."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    INDETERMINATE = "indeterminate"
    NOT_PERMITTED = "not_permitted"
    """The agreement has no such matter any more."""
    UNKNOWN = "unknown"
    """It would go on to steps that never looked at this presentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A decision as it was recorded."""

    matter: str
    verdict: str
    reason: Reason | None
    decided_at: datetime
    findings: Findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What it would have been."""

    outcome: Outcome
    reason: Reason | None

    def differs(self, recorded: Recorded) -> bool:
        """Whether the verdict would have been another one."""
        return self.outcome is not Outcome.UNKNOWN and self.outcome.value != recorded.verdict


def replay(recorded: Recorded, agreement: Agreement) -> Replayed:
    """Decide again what was decided, by another agreement."""
    if recorded.matter not in agreement.matters:
        return Replayed(outcome=Outcome.NOT_PERMITTED, reason=None)
    if recorded.reason is not None and recorded.reason not in _BY_AGREEMENT:
        return Replayed(outcome=Outcome(recorded.verdict), reason=recorded.reason)
    try:
        is_known = _check(recorded, agreement)
    except Rejected as rejection:
        return Replayed(outcome=Outcome.REJECTED, reason=rejection.reason)
    except Indeterminate as indeterminate:
        return Replayed(outcome=Outcome.INDETERMINATE, reason=indeterminate.reason)
    return Replayed(outcome=Outcome.ACCEPTED if is_known else Outcome.UNKNOWN, reason=None)


def _check(recorded: Recorded, agreement: Agreement) -> bool:
    """Check what can be checked; says whether nothing was left out. Raises as the checks do."""
    findings = recorded.findings
    if findings.step in (Step.POLICY, Step.STATUS, Step.LEDGER):
        check_policy(findings, agreement, agreement.matters[recorded.matter], recorded.decided_at)
        # Where the list was there and only too old, its entry was good; where there was none at all, nobody knows.
        return findings.step is Step.LEDGER or (findings.step is Step.STATUS and findings.status is not None)
    terms = issuer_terms(agreement, findings.issuer)
    if findings.algorithm is not None:
        check_algorithm(findings.algorithm, terms, recorded.decided_at)
    if findings.asserted is not None and findings.acr:
        check_assurance(findings.acr, findings.asserted, terms)
    return False
