"""The closed set of reasons, and the errors that carry them.

An error is classed by who has to act on it:

* ``Rejected``: the presenter or the issuer. What was presented is not acceptable, for one reason.
* ``Indeterminate``: nobody's fault yet. The gateway cannot tell (its trust data is too old, a document is missing);
  asking again later is legitimate. An indeterminate answer is never a rejection: a citizen must not be called a
  forger because a peer was unreachable.
* ``InvalidRequest``: the caller's program. The request itself is malformed.
* ``NotPermitted``: the caller's registration. It asked for something it is not registered for.
* ``WrongState``, ``Conflict``: an administrator. It cannot be done as things stand, or they have changed meanwhile.
* ``NotHeld``: nobody. The document asked for is not here, which says nothing about it.
* ``Unavailable``, ``Overloaded``: ourselves. We could not record the decision, or we have no room for it.

``detail`` is for engineers and never holds a claim value, a token or anything about a person: it may reach a log.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why something was not accepted. Mirrors ``recognition.v1.Reason``; numbers live in the proto."""

    # What was sent cannot be read (RFC 7515 sections 4 and 7; RFC 9901 section 4).
    MALFORMED = "MALFORMED"
    TOO_LARGE = "TOO_LARGE"
    HEADER_NOT_ALLOWED = "HEADER_NOT_ALLOWED"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    ALGORITHM_NOT_ALLOWED = "ALGORITHM_NOT_ALLOWED"
    HASH_NOT_ALLOWED = "HASH_NOT_ALLOWED"

    # Who signed it.
    ISSUER_UNKNOWN = "ISSUER_UNKNOWN"
    KEY_UNKNOWN = "KEY_UNKNOWN"
    KEY_NOT_ACCEPTABLE = "KEY_NOT_ACCEPTABLE"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    ISSUER_NOT_AUTHORISED = "ISSUER_NOT_AUTHORISED"
    KEY_REVOKED = "KEY_REVOKED"
    ISSUER_WITHDRAWN = "ISSUER_WITHDRAWN"

    # What it says.
    CLAIM_INVALID = "CLAIM_INVALID"
    EXPIRED = "EXPIRED"
    NOT_YET_VALID = "NOT_YET_VALID"
    LIFETIME_TOO_LONG = "LIFETIME_TOO_LONG"
    DISCLOSURE_INVALID = "DISCLOSURE_INVALID"

    # Who presents it, to whom.
    KEY_BINDING_MISSING = "KEY_BINDING_MISSING"
    KEY_BINDING_INVALID = "KEY_BINDING_INVALID"
    AUDIENCE_MISMATCH = "AUDIENCE_MISMATCH"
    NONCE_MISMATCH = "NONCE_MISMATCH"
    REPLAYED = "REPLAYED"

    # What the matter demands.
    CREDENTIAL_TYPE_NOT_ACCEPTED = "CREDENTIAL_TYPE_NOT_ACCEPTED"
    CREDENTIAL_TOO_OLD = "CREDENTIAL_TOO_OLD"
    AUTHENTICATION_TOO_OLD = "AUTHENTICATION_TOO_OLD"
    ASSURANCE_UNKNOWN = "ASSURANCE_UNKNOWN"
    ASSURANCE_ABOVE_CAP = "ASSURANCE_ABOVE_CAP"
    ASSURANCE_TOO_LOW = "ASSURANCE_TOO_LOW"
    REQUIRED_CLAIM_MISSING = "REQUIRED_CLAIM_MISSING"
    SUBJECT_TYPE_NOT_ACCEPTED = "SUBJECT_TYPE_NOT_ACCEPTED"
    ACTOR_MISSING = "ACTOR_MISSING"
    ACTOR_NOT_ACCEPTED = "ACTOR_NOT_ACCEPTED"
    AUTHORITY_EXCEEDED = "AUTHORITY_EXCEEDED"
    CONSENT_MISSING = "CONSENT_MISSING"
    CONSENT_INVALID = "CONSENT_INVALID"
    CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"

    # What became of it (Token Status List draft-20 section 8.3).
    CREDENTIAL_REVOKED = "CREDENTIAL_REVOKED"
    CREDENTIAL_SUSPENDED = "CREDENTIAL_SUSPENDED"
    ATTRIBUTES_STALE = "ATTRIBUTES_STALE"
    STATUS_MISSING = "STATUS_MISSING"
    STATUS_INVALID = "STATUS_INVALID"

    # Why the gateway cannot tell (verdict indeterminate).
    TRUST_STALE = "TRUST_STALE"
    STATUS_UNAVAILABLE = "STATUS_UNAVAILABLE"
    CLOCK_REGRESSED = "CLOCK_REGRESSED"

    # Trust documents: statements, chains, charter (OpenID Federation 1.0).
    STATEMENT_INVALID = "STATEMENT_INVALID"
    CHAIN_INVALID = "CHAIN_INVALID"
    CONSTRAINT_VIOLATED = "CONSTRAINT_VIOLATED"
    METADATA_POLICY_INVALID = "METADATA_POLICY_INVALID"
    METADATA_POLICY_VIOLATED = "METADATA_POLICY_VIOLATED"
    CRITICAL_NOT_UNDERSTOOD = "CRITICAL_NOT_UNDERSTOOD"
    CHARTER_INVALID = "CHARTER_INVALID"
    QUORUM_NOT_MET = "QUORUM_NOT_MET"
    ROLLED_BACK = "ROLLED_BACK"
    EQUIVOCATION = "EQUIVOCATION"
    SEQUENCE_INVALID = "SEQUENCE_INVALID"
    SNAPSHOT_MISMATCH = "SNAPSHOT_MISMATCH"
    STATUS_LIST_INVALID = "STATUS_LIST_INVALID"

    # Logs of verdicts, and what is proven by them (RFC 9162).
    PROOF_INVALID = "PROOF_INVALID"
    LOG_FORKED = "LOG_FORKED"
    LOG_ENTRY_INVALID = "LOG_ENTRY_INVALID"
    COSIGNATURES_MISSING = "COSIGNATURES_MISSING"


INDETERMINATE: Final = frozenset({Reason.TRUST_STALE, Reason.STATUS_UNAVAILABLE, Reason.CLOCK_REGRESSED})
"""The reasons for which the gateway cannot tell. A verdict with any other is a rejection."""


class Rejected(Exception):  # noqa: N818 - a verdict, not a malfunction
    """What was presented is not acceptable; the presenter or issuer has to act."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Indeterminate(Exception):  # noqa: N818 - a verdict, not a malfunction
    """The gateway cannot tell; asking again later is legitimate."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class InvalidRequest(Exception):  # noqa: N818 - named for who must act, as the others
    """The caller's request is malformed; the caller's program has to change."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class NotPermitted(Exception):  # noqa: N818 - named for who must act, as the others
    """The caller is not registered for what it asked; its registration has to change."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotHeld(Exception):  # noqa: N818 - named for who must act, as the others
    """A document is not held here; never evidence that it does not exist or was withdrawn."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class WrongState(Exception):  # noqa: N818 - named for who must act, as the others
    """What was asked cannot be done as things stand; ``blockers`` names, one line each, what has to change first."""

    def __init__(self, detail: str, blockers: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.blockers = blockers


class Conflict(Exception):  # noqa: N818 - named for who must act, as the others
    """What was asked for was decided upon an earlier state; look again, then decide again."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Unavailable(Exception):  # noqa: N818 - named for who must act, as the others
    """We could not do our part (record, reach a store); retrying is safe."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Overloaded(Exception):  # noqa: N818 - named for who must act, as the others
    """There is no room for it; the caller should come back after ``retry_after_seconds``.

    ``reason``: of what there is no more, as programs read it.
    """

    def __init__(self, detail: str, retry_after_seconds: float, reason: str = "OVERLOADED") -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.reason = reason
