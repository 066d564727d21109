"""What the recognition agreement demands of a presentation, as far as that can be told without the person.

Pure functions of findings, agreement, matter and time, called while a presentation is judged, and again by whoever
wants to know what another agreement would have decided: one home, so that a preview cannot differ from what it
previews.

Levels are compared one by one, and only ever lowered: what an issuer asserts above its ``acr`` or its cap is refused
and not clamped, because an issuer that overstates one thing is not believed in the others.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from gateway.core.agreement import Agreement, Assurance, IssuerTerms, Matter, Party
from gateway.core.findings import Findings
from gateway.core.jose import Algorithm
from gateway.core.reasons import Indeterminate, Reason, Rejected

_UNBOUND_FEDERATION: Final = 2
"""The highest federation level of a hand-over that proves no possession (NIST SP 800-63C: FAL3 is holder of key)."""


# -- step 4 -----------------------------------------------------------------------------------------------------------


def issuer_terms(agreement: Agreement, issuer: str) -> IssuerTerms:
    """Give the terms on which an issuer is recognised. Raises Rejected(ISSUER_NOT_AUTHORISED)."""
    terms = agreement.issuers.get(issuer)
    if terms is None:
        raise Rejected(Reason.ISSUER_NOT_AUTHORISED, "the agreement has no terms for the issuer")
    return terms


def check_algorithm(algorithm: Algorithm | None, terms: IssuerTerms, at: datetime) -> None:
    """Check that the issuer may sign with an algorithm, and still may. Raises Rejected(ALGORITHM_NOT_ALLOWED)."""
    if algorithm is None or not terms.allows(algorithm, at):
        raise Rejected(Reason.ALGORITHM_NOT_ALLOWED, "the agreement does not allow the issuer this algorithm now")


# -- step 5 -----------------------------------------------------------------------------------------------------------


def check_assurance(acr: str, asserted: Assurance, terms: IssuerTerms) -> None:
    """Check that an issuer may assert so much. Raises Rejected(ASSURANCE_UNKNOWN, ASSURANCE_ABOVE_CAP)."""
    levels = terms.equivalence.get(acr)
    if levels is None:
        raise Rejected(Reason.ASSURANCE_UNKNOWN, "acr is not in the agreement's table for the issuer")
    if not levels.meets(asserted) or not terms.cap.meets(asserted):
        raise Rejected(Reason.ASSURANCE_ABOVE_CAP, "the issuer asserts more than its acr stands for or its cap allows")


def effective_assurance(asserted: Assurance, *, holder_bound: bool) -> Assurance:
    """Take from what was asserted what this hand-over does not bear out. Never more than was asserted."""
    if holder_bound or asserted.federation <= _UNBOUND_FEDERATION:
        return asserted
    return Assurance(identity=asserted.identity, authenticator=asserted.authenticator, federation=_UNBOUND_FEDERATION)


# -- step 9 -----------------------------------------------------------------------------------------------------------


def check_matter(findings: Findings, matter: Matter, at: datetime) -> None:
    """Check what the matter demands: type, parties, assurance, ages, claims, consent.

    Raises:
        Rejected: CREDENTIAL_TYPE_NOT_ACCEPTED, SUBJECT_TYPE_NOT_ACCEPTED, ACTOR_MISSING, ACTOR_NOT_ACCEPTED,
            AUTHORITY_EXCEEDED, ASSURANCE_TOO_LOW, CREDENTIAL_TOO_OLD, AUTHENTICATION_TOO_OLD, CONSENT_MISSING,
            REQUIRED_CLAIM_MISSING.
    """
    if findings.credential_type not in matter.credential_types:
        raise Rejected(Reason.CREDENTIAL_TYPE_NOT_ACCEPTED, "the matter does not accept this type")
    _check_parties(findings, matter)
    if findings.effective is None or not findings.effective.meets(matter.min_assurance):
        raise Rejected(Reason.ASSURANCE_TOO_LOW, "assurance is below the matter's floor")
    if findings.issued_at is None or at - findings.issued_at > matter.max_credential_age:
        raise Rejected(Reason.CREDENTIAL_TOO_OLD, "issued too long ago for the matter")
    if findings.authenticated_at is None or at - findings.authenticated_at > matter.max_authentication_age:
        raise Rejected(Reason.AUTHENTICATION_TOO_OLD, "the person was authenticated too long ago for the matter")
    if matter.consent is not None and not findings.consented:
        raise Rejected(Reason.CONSENT_MISSING, "the matter rests on consent, and none is named")
    if not findings.disclosed >= matter.required_claims | findings.asked:
        raise Rejected(Reason.REQUIRED_CLAIM_MISSING, "a claim that is required or asked about was not presented")
    if findings.party is not Party.SELF and not findings.actor_disclosed >= matter.actor_required_claims:
        raise Rejected(Reason.REQUIRED_CLAIM_MISSING, "a claim about whoever acts was not presented")


def _check_parties(findings: Findings, matter: Matter) -> None:
    if findings.subject_type not in matter.subject_types:
        raise Rejected(Reason.SUBJECT_TYPE_NOT_ACCEPTED, "the matter is not for this kind of subject")
    if findings.party not in matter.parties:
        if findings.party is Party.SELF:
            raise Rejected(Reason.ACTOR_MISSING, "the matter demands that somebody acts for the subject")
        raise Rejected(Reason.ACTOR_NOT_ACCEPTED, "the matter does not accept this relationship")
    if findings.party is not Party.SELF and not findings.in_scope:
        raise Rejected(Reason.AUTHORITY_EXCEEDED, "the authority to act does not extend to the matter, or has ended")


# -- step 8 -----------------------------------------------------------------------------------------------------------


def check_status_demand(findings: Findings, matter: Matter, at: datetime) -> None:
    """Check that there is a status where the matter demands one, and that the issuer's word on it is young enough.

    Raises:
        Rejected: STATUS_MISSING.
        Indeterminate: STATUS_UNAVAILABLE.
    """
    if findings.status_issued_at is None:
        if matter.status_required:
            raise Rejected(Reason.STATUS_MISSING, "the matter demands a status, and the credential has none")
        return
    if at - findings.status_issued_at > matter.max_status_age:
        raise Indeterminate(Reason.STATUS_UNAVAILABLE, "the status list is older than the matter allows")
