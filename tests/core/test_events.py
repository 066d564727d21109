"""Revocation events: reading, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.encoding import b64url_encode
from gateway.core.events import (
    EVENTS,
    EVENTS_TYPE,
    MAX_EVENTS,
    REVOCATION_EVENT,
    events_claims,
    read_events,
    verify_events,
)
from gateway.core.jose import Algorithm, generate_key, sign_compact
from gateway.core.memory import Revocation, RevocationReason
from gateway.core.reasons import Reason
from gateway.core.statements import TYP
from tests.core.papers import NOW, SHANGHAI, START, compromised, key_of, reason_of, superseded

SIGNER = key_of("events")
KID = key_of("lost").public.kid
OTHER = key_of("lost too").public.kid


def signed(change: Callable[[dict[str, Any]], object] = dict, typ: str = EVENTS_TYPE) -> str:
    claims = events_claims(SHANGHAI, {KID: compromised()}, seq=START, now=NOW)
    change(claims)
    return sign_compact(typ, claims, SIGNER)


def test_what_is_written_is_read_oldest_first() -> None:
    since = Revocation(revoked_at=NOW, reason=RevocationReason.COMPROMISED, compromised_since=NOW - timedelta(days=1))
    revocations = {KID: since, OTHER: superseded(NOW - timedelta(hours=1))}
    claims = events_claims(SHANGHAI, revocations, seq=7, now=NOW)
    assert [event["kid"] for event in claims[EVENTS]] == [OTHER, KID]
    events = read_events(sign_compact(EVENTS_TYPE, claims, SIGNER))
    assert events.revocations == revocations
    assert (events.entity_id, events.seq, events.issued_at, events.kid) == (SHANGHAI, 7, NOW, SIGNER.public.kid)
    verify_events(events, SIGNER.public)


def test_all_revocations_of_a_members_life_fit() -> None:
    many = {b64url_encode(number.to_bytes(32, "big")): compromised() for number in range(MAX_EVENTS)}
    token = sign_compact(EVENTS_TYPE, events_claims(SHANGHAI, many, seq=1, now=NOW), SIGNER)
    assert read_events(token).revocations == many
    with pytest.raises(ValueError, match="more revocations"):
        events_claims(SHANGHAI, {**many, KID: compromised()}, seq=1, now=NOW)


def test_a_signature_by_another_key_is_refused() -> None:
    events = read_events(signed())
    assert reason_of(lambda: verify_events(events, generate_key().public)) is Reason.KEY_UNKNOWN
    head, payload, _ = signed().split(".")
    spoiled = read_events(f"{head}.{payload}.{signed(lambda claims: claims.update(seq=2)).split('.')[2]}")
    assert reason_of(lambda: verify_events(spoiled, SIGNER.public)) is Reason.SIGNATURE_INVALID


def event(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda claims: claims[EVENTS][0].update(changes)


def setting(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda claims: claims.update(changes)


ENTRY = {"iat": START, "event": REVOCATION_EVENT, "kid": KID, "reason": "compromised"}
INVALID = Reason.STATEMENT_INVALID
BROKEN: Mapping[str, tuple[Callable[[dict[str, Any]], object], Reason]] = {
    "no issuer": (lambda claims: claims.pop("iss"), INVALID),
    "an issuer that is no text": (setting(iss=1, sub=1), INVALID),
    "an issuer that is too long": (setting(iss="x" * 600, sub="x" * 600), INVALID),
    "about another": (setting(sub="https://issuer.js.mrg.example"), INVALID),
    "no time": (lambda claims: claims.pop("iat"), INVALID),
    "a time that is no number": (setting(iat="now"), INVALID),
    "no number": (lambda claims: claims.pop("seq"), Reason.SEQUENCE_INVALID),
    "number zero": (setting(seq=0), Reason.SEQUENCE_INVALID),
    "number true": (setting(seq=True), Reason.SEQUENCE_INVALID),
    "crit": (setting(crit=["seq"]), INVALID),
    "no events": (lambda claims: claims.pop(EVENTS), INVALID),
    "events in an object": (setting(**{EVENTS: {}}), INVALID),
    "an event that is no object": (setting(**{EVENTS: [1]}), INVALID),
    "an event without kind": (setting(**{EVENTS: [{"iat": 1}]}), INVALID),
    "too many": (setting(**{EVENTS: [{"event": "registration"}] * (MAX_EVENTS + 1)}), Reason.TOO_LARGE),
    "no key": (event(kid=None), INVALID),
    "a key by another name": (event(kid="key-1"), INVALID),
    "a key twice": (setting(**{EVENTS: [ENTRY, ENTRY]}), INVALID),
    "an event without time": (event(iat=None), INVALID),
    "since no time": (event(since="yesterday"), INVALID),
}


@pytest.mark.parametrize(("change", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_malformed_is_refused(change: Callable[[dict[str, Any]], object], reason: Reason) -> None:
    token = signed(change)
    assert reason_of(lambda: read_events(token)) is reason


def test_a_statement_of_another_type_or_algorithm_is_refused() -> None:
    assert reason_of(lambda: read_events(signed(typ=TYP))) is Reason.TYPE_MISMATCH
    rsa = sign_compact(EVENTS_TYPE, events_claims(SHANGHAI, {}, seq=1, now=NOW), generate_key(Algorithm.RS256))
    assert reason_of(lambda: read_events(rsa)) is Reason.ALGORITHM_NOT_ALLOWED


@pytest.mark.parametrize("reason", ["unspecified", "stolen", None, 1, "Superseded"])
def test_a_reason_that_is_not_known_counts_as_the_gravest(reason: Any) -> None:
    read = read_events(signed(event(reason=reason))).revocations[KID]
    assert read.reason is RevocationReason.COMPROMISED


def test_events_of_other_kinds_are_passed_over() -> None:
    other = {"iat": START, "event": "jwks_update"}
    assert set(read_events(signed(setting(**{EVENTS: [other, ENTRY, other]}))).revocations) == {KID}
