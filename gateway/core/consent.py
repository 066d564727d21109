"""Consent: that a person agreed to what a matter needs, as a reference with a scope and an end.

The signed document stays with the relying service. What is on record here is for which service and matter it was
given, which claims it covers, until when, and whether it was withdrawn (个人信息保护法第十四条至第十六条). Rules that
live here:

* Consent is given to one service for one matter. It covers the claims that it names and nothing else: what the matter
  may have beyond it is not released on its strength.
* It is one person's. The record is tied to the first person it is used for; the ledger sees to that, in the same
  transaction that records the decision, as it sees to a withdrawal that came while the presentation was judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.core.agreement import Matter
from gateway.core.reasons import Reason, Rejected

MAX_CONSENT_LIFETIME: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A consent on record."""

    consent_id: str
    service: str
    matter: str
    claims: frozenset[str]
    recorded_at: datetime
    expires_at: datetime
    withdrawn_at: datetime | None = None


def check_consent(
    consent: Consent | None, *, service: str, matter: Matter, asked: frozenset[str], now: datetime
) -> None:
    """Check that a consent named in a request covers it.

    Args:
        consent: what is on record under the reference; None: nothing is.
        service: identifier of the relying service that asks.
        matter: what it asks for.
        asked: the claims that its questions are about.
        now: the time.

    Raises:
        Rejected: CONSENT_INVALID, CONSENT_WITHDRAWN.
    """
    if consent is None or consent.service != service or consent.matter != matter.code:
        # One reason for both: whoever guesses references learns nothing about those of others.
        raise Rejected(Reason.CONSENT_INVALID, "no consent to this service and matter under that reference")
    if consent.withdrawn_at is not None:
        raise Rejected(Reason.CONSENT_WITHDRAWN, "the consent was withdrawn")
    if now >= consent.expires_at:
        raise Rejected(Reason.CONSENT_INVALID, "the consent has lapsed")
    if not consent.claims >= matter.required_claims | matter.actor_required_claims:
        raise Rejected(Reason.CONSENT_INVALID, "the consent does not cover what the matter requires")
    # An answer tells of a claim as its value does, and enough answers tell the value.
    if matter.consent is not None and not consent.claims >= asked:
        raise Rejected(Reason.CONSENT_INVALID, "the consent does not cover what is asked about")
