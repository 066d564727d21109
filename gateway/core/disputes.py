"""Disputes (异议): somebody contests a verification, and how that was settled. Their state is in the log.

What a dispute is about is a verification's number; why, one of a few grounds; who, a case file elsewhere, by its
reference. A free text would hold a name before long.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from gateway.core.encoding import b64url_decode
from gateway.core.entries import Entry, Kind
from gateway.core.merkle import HASH_BYTES
from gateway.core.reasons import Reason, Rejected


class Ground(StrEnum):
    """Why a verification is contested. Mirrors ``recognition.v1.DisputeGround``."""

    NOT_ME = "NOT_ME"
    WRONG_ATTRIBUTES = "WRONG_ATTRIBUTES"
    NO_CONSENT = "NO_CONSENT"
    WRONGLY_REFUSED = "WRONGLY_REFUSED"
    OTHER = "OTHER"


class DisputeOutcome(StrEnum):
    """How a dispute was settled. Mirrors ``recognition.v1.DisputeOutcome``."""

    UPHELD = "UPHELD"
    DISMISSED = "DISMISSED"
    WITHDRAWN = "WITHDRAWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A dispute as it stands."""

    dispute_id: str
    verification_id: str
    province: str
    """Of the gateway that made the verification."""
    ground: Ground
    case_reference: str
    opened_at: datetime
    opened_by: str
    evidence_sha256: str
    """Of the evidence that was put by when it was opened, base64url."""
    outcome: DisputeOutcome | None = None
    """None: it is open."""
    resolved_at: datetime | None = None
    resolved_by: str = ""


def opening_entry(dispute: Dispute) -> Entry:
    """Write down that a dispute was opened."""
    body = {
        "event": "opened",
        "dispute_id": dispute.dispute_id,
        "verification_id": dispute.verification_id,
        "province": dispute.province,
        "ground": dispute.ground.value,
        "case_reference": dispute.case_reference,
        "by": dispute.opened_by,
        "evidence_sha256": dispute.evidence_sha256,
    }
    return Entry(kind=Kind.DISPUTE, at=dispute.opened_at, entry_id=dispute.dispute_id, body=body)


def settlement_entry(dispute: Dispute, outcome: DisputeOutcome, *, at: datetime, by: str) -> Entry:
    """Write down how a dispute was settled."""
    body = {
        "event": "resolved",
        "dispute_id": dispute.dispute_id,
        "verification_id": dispute.verification_id,
        "outcome": outcome.value,
        "by": by,
    }
    return Entry(kind=Kind.DISPUTE, at=at, body=body)


def read_opening(entry: Entry) -> Dispute:
    """Read that a dispute was opened.

    Raises:
        Rejected: LOG_ENTRY_INVALID: the entry is no such thing. MALFORMED: the digest in it is none.
    """
    body = entry.body
    names = ("dispute_id", "verification_id", "province", "case_reference", "by", "evidence_sha256")
    if entry.kind is not Kind.DISPUTE or body.get("event") != "opened":
        raise Rejected(Reason.LOG_ENTRY_INVALID, "the entry opens no dispute")
    try:
        texts = {name: body[name] for name in names}
        ground = Ground(body["ground"])
    except (KeyError, ValueError) as error:
        raise Rejected(Reason.LOG_ENTRY_INVALID, "the entry opens no dispute") from error
    if not all(isinstance(each, str) for each in texts.values()):
        raise Rejected(Reason.LOG_ENTRY_INVALID, "the entry opens no dispute")
    if len(b64url_decode(texts["evidence_sha256"])) != HASH_BYTES:
        raise Rejected(Reason.LOG_ENTRY_INVALID, "the entry names no evidence")
    return Dispute(opened_at=entry.at, ground=ground, opened_by=texts.pop("by"), **texts)


def as_it_stands(dispute: Dispute, entries: Iterable[Entry]) -> Dispute:
    """Give a dispute as it stands after later entries about the same verification. The first settlement counts.

    Raises:
        Rejected: LOG_ENTRY_INVALID: what says to settle it settles nothing.
    """
    for entry in entries:
        body = entry.body
        if body.get("event") == "resolved" and body.get("dispute_id") == dispute.dispute_id:
            try:
                outcome, by = DisputeOutcome(body["outcome"]), str(body["by"])
            except (KeyError, ValueError) as error:
                raise Rejected(Reason.LOG_ENTRY_INVALID, "the entry settles no dispute") from error
            return replace(dispute, outcome=outcome, resolved_at=entry.at, resolved_by=by)
    return dispute
