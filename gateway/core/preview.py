"""What recorded decisions would have been under another agreement.

A decision is replayed from its findings, by the very functions that made it (``policy``), at the time it was made. Only
what the agreement decides can come out differently. Rules that live here:

* What a forged, replayed or revoked presentation came to does not depend on any agreement.
* What was refused at a step that a new agreement may let pass was never looked at by the steps behind it. What they
  would have said is not known, and not guessed at.
* Of some things the findings keep only that they passed under the agreement in force: of a consent, that it covered
  what was required; of clocks, that they were within the skew. Where the proposal is stricter in those, an acceptance
  is not known to stand; where it is laxer, neither is a refusal on that ground. Hence the agreement in force then is
  needed beside the proposed one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Never

from gateway.core.agreement import Agreement, IssuerTerms, Matter, Party
from gateway.core.claims import check_lifetime
from gateway.core.credential import Profile
from gateway.core.findings import Findings, Step
from gateway.core.policy import check_algorithm, check_assurance, check_matter, check_status_demand, issuer_terms
from gateway.core.predicates import asked_about
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.release import CHECKED


class Outcome(StrEnum):
    """What comes of a replay."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    INDETERMINATE = "indeterminate"
    NOT_PERMITTED = "not_permitted"
    """The agreement has no such matter any more, or what was asked may not be asked."""
    UNKNOWN = "unknown"
    """The record does not tell: it would go on to steps that never looked at this presentation, or be held against a
    bound that was not kept."""


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


def replay(recorded: Recorded, before: Agreement, proposed: Agreement) -> Replayed:
    """Decide again what was decided, by another agreement.

    Args:
        recorded: the decision.
        before: the agreement by which it was made.
        proposed: the other one.
    """
    was, matter = before.matters.get(recorded.matter), proposed.matters.get(recorded.matter)
    if matter is None or not recorded.findings.asked <= asked_about(matter):
        return Replayed(outcome=Outcome.NOT_PERMITTED, reason=None)
    if was is None or (recorded.findings.asked and not _asks_as_much(was, matter)):
        return _UNKNOWN
    case = _Case(recorded=recorded, before=before, proposed=proposed, was=was, matter=matter)
    try:
        _walk(case)
    except _Ended as ended:
        return ended.replayed
    except Rejected as rejection:  # for certain, whatever else was not told
        return Replayed(outcome=Outcome.REJECTED, reason=rejection.reason)
    except Indeterminate as indeterminate:
        replayed = Replayed(outcome=Outcome.INDETERMINATE, reason=indeterminate.reason)
    else:
        replayed = Replayed(outcome=Outcome.ACCEPTED, reason=None)
    return _UNKNOWN if case.is_open else replayed


_UNKNOWN: Final = Replayed(outcome=Outcome.UNKNOWN, reason=None)


def _asks_as_much(was: Matter, matter: Matter) -> bool:
    # Which question it was that needed a claim is not recorded.
    return matter.questions >= was.questions and matter.comparable_claims >= was.comparable_claims


class _Ended(Exception):  # noqa: N818 - an end, and no error
    """It ends before the last step, without any check that refuses it."""

    def __init__(self, replayed: Replayed) -> None:
        super().__init__()
        self.replayed = replayed


# -- what differs -----------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Case:
    """A decision on its way through the steps, and what differs between the two agreements."""

    recorded: Recorded
    before: Agreement
    proposed: Agreement
    was: Matter
    """The matter as it was."""
    matter: Matter
    """The matter as it is proposed."""
    is_open: bool = field(default=False)
    """Whether something passed then of which the record does not tell whether it still would."""

    @property
    def findings(self) -> Findings:
        return self.recorded.findings

    def allowed(self, agreement: Agreement) -> frozenset[str]:
        """The algorithms by which the issuer's signatures counted when it was decided."""
        terms = agreement.issuers.get(self.findings.issuer)
        at = self.recorded.decided_at
        return frozenset() if terms is None else frozenset(each for each in terms.algorithms if terms.allows(each, at))

    def max_lifetime(self, agreement: Agreement) -> timedelta:
        """How long what was presented may be good."""
        is_assertion = self.findings.profile == Profile.ASSERTION
        return agreement.max_assertion_lifetime if is_assertion else agreement.max_credential_lifetime

    @staticmethod
    def names(terms: IssuerTerms | None, agreement: Agreement) -> frozenset[tuple[str, str]]:
        """The names of levels and frameworks that are known of an issuer."""
        return frozenset(
            (kind, name)
            for kind, names in (
                ("acr", frozenset() if terms is None else terms.equivalence.keys()),
                ("framework", agreement.trust_frameworks),
                ("level", agreement.assurance_levels),
            )
            for name in names
        )

    def knows_more(self) -> bool:
        """Whether the proposal has a name of a level or a framework that there was not."""
        issuer = self.findings.issuer
        after = self.names(self.proposed.issuers.get(issuer), self.proposed)
        return not after <= self.names(self.before.issuers.get(issuer), self.before)

    def covered(self, matter: Matter) -> frozenset[str]:
        """What a consent has to cover for the matter; see ``check_consent``."""
        asked = self.findings.asked if matter.consent is not None else frozenset()
        return matter.required_claims | matter.actor_required_claims | asked

    def refused_by_the_matter(self) -> bool:
        """Whether it was the matter that refused it, and nothing beside it for the same reason."""
        try:
            check_matter(self.findings, self.was, self.recorded.decided_at)
        except Rejected:
            return True
        return False

    def recordable(self) -> frozenset[str]:
        """Names that were recorded where they were presented; of others nobody knows."""
        known = (
            self.before.terms.keys(),
            self.was.released_claims,
            self.was.actor_released_claims,
            self.findings.asked,
        )
        return frozenset().union(*known)

    def releases_unchecked(self) -> bool:
        """Whether the proposal may release what was presented and, not being released, not checked."""
        # What a consent covered is not recorded: where it no longer limits what is released, all may be new.
        is_limited = self.was.consent is None or self.matter.consent is not None
        recordable, findings = self.recordable(), self.findings
        new = self.matter.released_claims - (self.was.released_claims if is_limited else frozenset())
        new_of_actor = self.matter.actor_released_claims - (
            self.was.actor_released_claims if is_limited else frozenset()
        )
        presented = (new - (recordable - findings.disclosed)) | (new_of_actor - (recordable - findings.actor_disclosed))
        return not CHECKED.isdisjoint(presented)

    def surely_missing(self) -> bool:
        """Whether a claim is missing whose name would have been recorded, had it been presented."""
        subjects = (self.matter.required_claims | self.findings.asked) - self.findings.disclosed
        actors = self.matter.actor_required_claims - self.findings.actor_disclosed
        if self.findings.party is Party.SELF:
            actors = frozenset()
        return not (subjects | actors).isdisjoint(self.recordable())


# A refusal that is not listed here does not depend on the agreement. One that is may not have been made under the
# proposal if this holds. What can be checked again has been, and passed, before it is asked.
_MAY_PASS: Final[Mapping[Reason, Callable[[_Case], bool]]] = {
    Reason.TRUST_STALE: lambda case: case.proposed.stale_grace > case.before.stale_grace,
    Reason.ISSUER_NOT_AUTHORISED: lambda case: case.findings.step is Step.SIGNATURE,  # later, the anchors decided it
    Reason.ALGORITHM_NOT_ALLOWED: lambda case: not case.allowed(case.proposed) <= case.allowed(case.before),
    Reason.LIFETIME_TOO_LONG: lambda case: case.max_lifetime(case.proposed) > case.max_lifetime(case.before),
    Reason.NOT_YET_VALID: lambda case: case.proposed.clock_skew > case.before.clock_skew,
    Reason.CLAIM_INVALID: lambda case: (
        case.matter.released_claims != case.was.released_claims
        or case.matter.actor_released_claims != case.was.actor_released_claims
        if case.findings.step is Step.POLICY
        else case.proposed.clock_skew > case.before.clock_skew
    ),
    Reason.ASSURANCE_UNKNOWN: _Case.knows_more,
    Reason.ASSURANCE_ABOVE_CAP: lambda _case: True,
    Reason.KEY_BINDING_MISSING: lambda case: case.was.key_binding,
    Reason.KEY_BINDING_INVALID: lambda case: (
        case.proposed.max_key_binding_age > case.before.max_key_binding_age
        or case.proposed.clock_skew > case.before.clock_skew
    ),
    Reason.CONSENT_INVALID: lambda case: not case.covered(case.matter) >= case.covered(case.was),
    Reason.STATUS_MISSING: lambda _case: True,
    Reason.STATUS_UNAVAILABLE: lambda case: (
        case.findings.status is not None
        or (
            case.findings.status_issued_at is not None
            and (
                case.proposed.clock_skew > case.before.clock_skew
                or case.proposed.stale_grace > case.before.stale_grace
                or not case.allowed(case.proposed) <= case.allowed(case.before)
            )
        )
    ),
    **dict.fromkeys(
        (
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
        ),
        _Case.refused_by_the_matter,
    ),
}


# -- step by step -----------------------------------------------------------------------------------------------------


def _walk(case: _Case) -> None:
    """Go through the steps as far as the record goes; returns where it would have been accepted, but for ``is_open``.

    Raises:
        Rejected, Indeterminate: as the checks of a verification do.
        _Ended: it ends before.
    """
    findings, before, proposed = case.findings, case.before, case.proposed
    at = case.recorded.decided_at
    if findings.step in (Step.CALLER, Step.STRUCTURE, Step.KEY):
        _end(case)
    if (
        findings.trusted_until is not None
        and at >= findings.trusted_until
        and proposed.stale_grace < before.stale_grace
    ):
        raise _Ended(_UNKNOWN)
    terms = issuer_terms(proposed, findings.issuer)
    if findings.step is Step.SIGNATURE:
        _end(case)
    check_algorithm(findings.algorithm, terms, at)
    _walk_statement(case, terms)
    if findings.step in (Step.STATEMENT, Step.DISCLOSURES):
        _end(case)
    if findings.step is Step.BINDING and case.recorded.reason is not Reason.KEY_BINDING_MISSING:
        _end(case)
    if case.matter.key_binding and not findings.holder_bound:
        raise Rejected(Reason.KEY_BINDING_MISSING, "the matter requires key binding")
    if findings.step is Step.BINDING:
        _end(case)
    case.is_open |= findings.holder_bound and proposed.max_key_binding_age < before.max_key_binding_age
    _walk_matter(case)
    _walk_status(case)
    if case.recorded.reason is not None:  # refused by the ledger
        raise _Ended(_as_then(case.recorded))


def _end(case: _Case) -> Never:
    """End at the step at which it was refused."""
    may_pass = _MAY_PASS.get(case.recorded.reason) if case.recorded.reason is not None else None
    as_then = _as_then(case.recorded)
    # Something open can only have refused it, which is another verdict than none.
    is_told = as_then.outcome is Outcome.REJECTED or not case.is_open
    raise _Ended(as_then if is_told and (may_pass is None or not may_pass(case)) else _UNKNOWN)


def _as_then(recorded: Recorded) -> Replayed:
    return Replayed(outcome=Outcome(recorded.verdict), reason=recorded.reason)


def _walk_statement(case: _Case, terms: IssuerTerms) -> None:
    findings = case.findings
    if findings.issued_at is not None and findings.expires_at is not None:
        check_lifetime(findings.issued_at, findings.expires_at, case.max_lifetime(case.proposed))
    if findings.asserted is not None and findings.acr:
        check_assurance(findings.acr, findings.asserted, terms)
    case.is_open |= (
        case.proposed.clock_skew < case.before.clock_skew
        or not case.proposed.trust_frameworks >= case.before.trust_frameworks
        or not case.proposed.assurance_levels >= case.before.assurance_levels
    )


def _walk_matter(case: _Case) -> None:
    findings, reason = case.findings, case.recorded.reason
    if findings.step is Step.POLICY and reason in (Reason.CONSENT_INVALID, Reason.CONSENT_WITHDRAWN):
        _end(case)
    if findings.consented:
        # Which claims a consent covers is not recorded; it covered what the matter required then.
        needed = case.covered(case.matter)
        case.is_open |= not needed <= case.covered(case.was)
    try:
        check_matter(findings, case.matter, case.recorded.decided_at)
    except Rejected as rejection:
        if rejection.reason is Reason.REQUIRED_CLAIM_MISSING and not case.surely_missing():
            raise _Ended(_UNKNOWN) from rejection
        raise
    case.is_open |= case.releases_unchecked()
    if findings.step is Step.POLICY:
        _end(case)


def _walk_status(case: _Case) -> None:
    findings, reason = case.findings, case.recorded.reason
    # Only a list that was found, and good for an answer, may be too old for the matter alone.
    is_by_demand = reason is Reason.STATUS_MISSING or (
        reason is Reason.STATUS_UNAVAILABLE and findings.status is not None
    )
    if findings.step is Step.STATUS and not is_by_demand:
        _end(case)
    if findings.status is not None:  # by which algorithm its list was signed is not recorded
        case.is_open |= not case.allowed(case.proposed) >= case.allowed(case.before)
    check_status_demand(findings, case.matter, case.recorded.decided_at)
    if findings.step is Step.STATUS:
        _end(case)
