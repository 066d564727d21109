"""Revocation events: a member's signed word on which of its keys are revoked (OpenID Federation Subordinate Events).

Rules that live here:

* One statement of a member always lists *all* its revocations, so whoever comes late learns of every one, and whoever
  relays it can leave none out.
* It has no expiry. A revocation never ends, and an old statement takes nothing back: what it says is added to what is
  known (``admission``).
* It says which keys *not* to trust, about its author alone. What a thief of a member's federation key could do with it
  is to silence that member.
* Events of other kinds are other people's business and are passed over. A reason we do not know counts as the gravest.

What ``read_events`` returns is well-formed and nothing more; whose key has to have signed it is for ``admission``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.core.encoding import MAX_SAFE_INTEGER, sha256_b64url
from gateway.core.jose import PublicKey, UnverifiedJws, parse_compact, verify_signature
from gateway.core.memory import Revocation, RevocationReason
from gateway.core.reasons import Reason, Rejected
from gateway.core.statements import MAX_ENTITY_ID_CHARS, MAX_NUMERIC_DATE, PROFILE

EVENTS_TYPE: Final = "entity-events-statement+jwt"
EVENTS: Final = "federation_registration_events"
REVOCATION_EVENT: Final = "revocation"
MAX_EVENTS: Final = 256
"""Keys that one member revokes in its life. A quarterly rotation, each time revoked, lasts 16 years for four keys."""
MAX_EVENTS_CHARS: Final = 65_536
_KID: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedEvents:
    """A well-formed statement of revocations nobody has vouched for yet."""

    token: str
    jws: UnverifiedJws
    kid: str
    """The federation key that is to have signed it."""
    entity_id: str
    issued_at: datetime
    seq: int
    digest: str
    revocations: Mapping[str, Revocation]
    """By kid."""


def events_claims(entity_id: str, revocations: Mapping[str, Revocation], *, seq: int, now: datetime) -> dict[str, Any]:
    """Write the statement of all revocations of a member, oldest first.

    Raises:
        ValueError: there are more than ``MAX_EVENTS``.
    """
    if len(revocations) > MAX_EVENTS:
        raise ValueError("more revocations than one statement holds")
    oldest_first = sorted(revocations.items(), key=lambda item: (item[1].revoked_at, item[0]))
    return {
        "iss": entity_id,
        "sub": entity_id,
        "iat": int(now.timestamp()),
        "seq": seq,
        EVENTS: [_write_event(kid, revocation) for kid, revocation in oldest_first],
    }


def read_events(token: str) -> UnverifiedEvents:
    """Read a statement of revocations, and check all that needs no key and no clock.

    Raises:
        Rejected: STATEMENT_INVALID, TYPE_MISMATCH, ALGORITHM_NOT_ALLOWED, SEQUENCE_INVALID, TOO_LARGE, or what
            ``jose.parse_compact`` and ``encoding.parse_json`` raise.
    """
    jws = parse_compact(token, max_chars=MAX_EVENTS_CHARS)
    if jws.header.typ != EVENTS_TYPE:
        raise Rejected(Reason.TYPE_MISMATCH, f"typ is not {EVENTS_TYPE}")
    if jws.header.algorithm not in PROFILE.algorithms:
        raise Rejected(Reason.ALGORITHM_NOT_ALLOWED, "alg is not one of the federation's")
    claims = jws.unverified_claims()
    entity_id, seq = claims.get("iss"), claims.get("seq")
    if not isinstance(entity_id, str) or len(entity_id) > MAX_ENTITY_ID_CHARS or claims.get("sub") != entity_id:
        raise _invalid("iss and sub are not one entity")
    if jws.header.kid is None or "crit" in claims:
        raise _invalid("header has no kid, or crit demands what is not understood")
    if type(seq) is not int or not 1 <= seq <= MAX_SAFE_INTEGER:
        raise Rejected(Reason.SEQUENCE_INVALID, "seq is missing or not a whole number from one")
    return UnverifiedEvents(
        token=token,
        jws=jws,
        kid=jws.header.kid,
        entity_id=entity_id,
        issued_at=_instant(claims.get("iat")),
        seq=seq,
        digest=sha256_b64url(jws.payload),
        revocations=_revocations(claims.get(EVENTS)),
    )


def verify_events(events: UnverifiedEvents, key: PublicKey) -> None:
    """Verify the signature with one key, which the caller has reason to take for the member's.

    Raises:
        Rejected: KEY_UNKNOWN when the statement names another key; ALGORITHM_NOT_ALLOWED, SIGNATURE_INVALID.
    """
    if events.kid != key.kid:
        raise Rejected(Reason.KEY_UNKNOWN, "statement names another key")
    verify_signature(events.jws, key)


def _write_event(kid: str, revocation: Revocation) -> dict[str, Any]:
    since = revocation.compromised_since
    return {
        "iat": int(revocation.revoked_at.timestamp()),
        "event": REVOCATION_EVENT,
        "kid": kid,
        "reason": revocation.reason.value,
        **({} if since is None else {"since": int(since.timestamp())}),
    }


def _revocations(value: object) -> Mapping[str, Revocation]:
    if not isinstance(value, list):
        raise _invalid("there is no list of events")
    if len(value) > MAX_EVENTS:
        raise Rejected(Reason.TOO_LARGE, f"more than {MAX_EVENTS} events")
    revocations: dict[str, Revocation] = {}
    for event in value:  # at most MAX_EVENTS
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise _invalid("an event is malformed")
        if event["event"] != REVOCATION_EVENT:
            continue
        kid = event.get("kid")
        if not isinstance(kid, str) or _KID.fullmatch(kid) is None or kid in revocations:
            raise _invalid("an event names no key, or one that another event names")
        revocations[kid] = Revocation(
            revoked_at=_instant(event.get("iat")),
            reason=_reason(event.get("reason")),
            compromised_since=_instant(event["since"]) if "since" in event else None,
        )
    return revocations


def _reason(value: object) -> RevocationReason:
    superseded = RevocationReason.SUPERSEDED
    return superseded if value == superseded.value else RevocationReason.COMPROMISED


def _instant(value: object) -> datetime:
    if type(value) is not int or not 0 <= value <= MAX_NUMERIC_DATE:
        raise _invalid("a time is not in whole seconds")
    return datetime.fromtimestamp(value, UTC)


def _invalid(detail: str) -> Rejected:
    return Rejected(Reason.STATEMENT_INVALID, detail)
