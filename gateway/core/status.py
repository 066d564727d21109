"""What became of a credential, by the status lists that are held (Token Status List draft-20 section 8.3).

Rules that live here:

* Only a list that the credential's own issuer registered counts, whatever the credential names. A name of its own that
  the anchors do not attest (yet, or because the issuer had them change it) says nothing; any other is no status.
* No list, a list that has lapsed, or one whose key is not trusted any more says nothing. Nothing is no evidence: the
  verdict is then indeterminate, and never accepted.
* Only one value is good.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from gateway.core.findings import Findings
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.status_list import StatusList, StatusReference, check_value, is_list_of
from gateway.core.trust import TrustView


def check_status(
    reference: StatusReference, view: TrustView, lists: Mapping[str, StatusList], now: datetime, findings: Findings
) -> None:
    """Look up what became of a credential that is good in every other respect.

    Args:
        reference: where its status stands.
        view: the trust view.
        lists: the status lists held, by their URIs.
        now: the time.
        findings: name the issuer, and are filled in with list, time and status.

    Raises:
        Rejected: CREDENTIAL_REVOKED, CREDENTIAL_SUSPENDED, ATTRIBUTES_STALE, STATUS_INVALID.
        Indeterminate: STATUS_UNAVAILABLE.
    """
    issuer = findings.issuer
    if reference.uri not in view.issuer(issuer).status_lists:
        if is_list_of(issuer, reference.uri):
            raise Indeterminate(Reason.STATUS_UNAVAILABLE, "the list is not attested as the issuer's, or not yet")
        raise Rejected(Reason.STATUS_INVALID, "the list is not one that the issuer registered")
    findings.status_list = reference.uri
    held = lists.get(reference.uri)
    if held is None or held.issuer != issuer:
        raise Indeterminate(Reason.STATUS_UNAVAILABLE, "the list is not held")
    findings.status_issued_at = held.issued_at
    if now >= held.expires_at or held.issued_at > now + view.charter.agreement.clock_skew:
        raise Indeterminate(Reason.STATUS_UNAVAILABLE, "the list has lapsed, or is of a time to come")
    _require_status_key(view, held, now)
    findings.status = held.at(reference.index)
    check_value(findings.status)


def _require_status_key(view: TrustView, held: StatusList, now: datetime) -> None:
    # The key may have been revoked since the list was taken in. That is no evidence against the credential.
    try:
        trusted = view.status_key(held.issuer, held.kid, now)
    except Rejected as rejection:
        raise Indeterminate(Reason.STATUS_UNAVAILABLE, "the list's key is not trusted any more") from rejection
    except Indeterminate as stale:
        raise Indeterminate(Reason.STATUS_UNAVAILABLE, "the list's key cannot be judged now") from stale
    if not view.charter.agreement.issuers[held.issuer].allows(trusted.key.algorithm, now):
        raise Indeterminate(Reason.STATUS_UNAVAILABLE, "the algorithm that signed the list does not count any more")
    if trusted.signed_before is not None and held.issued_at >= trusted.signed_before:
        raise Indeterminate(Reason.STATUS_UNAVAILABLE, "the list was signed after its key was superseded")
