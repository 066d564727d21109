"""Historical keys: was a signature good when it was made?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.history import HISTORY_TYPE, MAX_PAST_KEYS, History, check_as_of, history_claims, read_history
from gateway.core.jose import generate_key, sign_compact
from gateway.core.key_schedule import KeyPurpose, KeyRecord, KeyState
from gateway.core.memory import RevocationReason
from gateway.core.reasons import Reason
from gateway.core.statements import TYP
from tests.core.papers import NOW, SHANGHAI, key_of, reason_of

SIGNER = key_of("history")
KEYS = {SIGNER.public.kid: SIGNER.public}
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def record(name: str, state: KeyState, **changes: Any) -> KeyRecord:
    times = {"staged_at": NOW - 11 * DAY, "published_at": NOW - 10 * DAY, **changes}
    return KeyRecord(key=key_of(name).public, purpose=KeyPurpose.CREDENTIAL, state=state, **times)


RETIRED = record("retired", KeyState.RETIRED, retired_at=NOW - DAY)
SUPERSEDED = record("superseded", KeyState.REVOKED, revoked_at=NOW - DAY, reason=RevocationReason.SUPERSEDED)
COMPROMISED = record("compromised", KeyState.REVOKED, revoked_at=NOW - DAY, reason=RevocationReason.COMPROMISED)
PAST = [RETIRED, SUPERSEDED, COMPROMISED]
STILL_USED = [record(state.value, state) for state in KeyState if state not in (KeyState.RETIRED, KeyState.REVOKED)]
NEVER_PUBLISHED = record("undone", KeyState.RETIRED, published_at=None, retired_at=NOW)


def signed(
    records: list[KeyRecord] | None = None,
    *,
    at: Any = NOW,
    change: Callable[[dict[str, Any]], object] = dict,
    entity_id: str = SHANGHAI,
    typ: str = HISTORY_TYPE,
) -> str:
    claims = history_claims(entity_id, PAST if records is None else records, at)
    change(claims)
    return sign_compact(typ, claims, SIGNER)


def held(**options: Any) -> History:
    return read_history(signed(**options), KEYS)


def test_past_keys_and_no_others_are_listed() -> None:
    history = held(records=[*PAST, *STILL_USED, NEVER_PUBLISHED])
    assert set(history.keys) == {each.key.kid for each in PAST}
    assert history.entity_id == SHANGHAI
    assert history.issued_at == NOW
    assert history.keys[RETIRED.key.kid].revocation is None
    assert history.keys[RETIRED.key.kid].issued_at == NOW - 10 * DAY


@pytest.mark.parametrize(
    ("key", "at", "reason"),
    [
        (RETIRED, NOW - 10 * DAY, None),
        (RETIRED, NOW - 10 * DAY - SECOND, Reason.NOT_YET_VALID),
        (RETIRED, NOW - DAY - SECOND, None),
        (RETIRED, NOW - DAY, Reason.EXPIRED),
        (SUPERSEDED, NOW - DAY - SECOND, None),
        (SUPERSEDED, NOW - DAY, Reason.KEY_REVOKED),
        (COMPROMISED, NOW - DAY - SECOND, Reason.KEY_REVOKED),
        (COMPROMISED, NOW - 9 * DAY, Reason.KEY_REVOKED),
    ],
)
def test_case_110_111_whether_a_signature_was_good_then(key: KeyRecord, at: Any, reason: Reason | None) -> None:
    history = held()
    if reason is None:
        assert check_as_of(history, key.key.kid, at).thumbprint == key.key.thumbprint
    else:
        assert reason_of(lambda: check_as_of(history, key.key.kid, at)) is reason


def test_a_key_that_is_not_listed_was_never_good() -> None:
    history = held()
    assert reason_of(lambda: check_as_of(history, generate_key().public.kid, NOW)) is Reason.KEY_UNKNOWN


def dropped(claims: dict[str, Any]) -> None:
    claims["keys"].pop()


def taken_back(claims: dict[str, Any]) -> None:
    del claims["keys"][2]["revoked"]


def milder(claims: dict[str, Any]) -> None:
    claims["keys"][2]["revoked"]["reason"] = "superseded"


def graver(claims: dict[str, Any]) -> None:
    claims["keys"][1]["revoked"]["reason"] = "compromised"


def later(claims: dict[str, Any]) -> None:
    claims["keys"][1]["revoked"]["revoked_at"] += 1


SUCCESSORS: Mapping[str, tuple[Mapping[str, Any], Reason | None]] = {
    "the same": ({}, None),
    "newer": ({"at": NOW + SECOND}, None),
    "case 109: older": ({"at": NOW - SECOND}, Reason.ROLLED_BACK),
    "of another entity": ({"entity_id": "https://issuer.js.mrg.example"}, Reason.STATEMENT_INVALID),
    "one key less": ({"change": dropped}, Reason.SNAPSHOT_MISMATCH),
    "a revocation taken back": ({"change": taken_back}, Reason.SNAPSHOT_MISMATCH),
    "a revocation made milder": ({"change": milder}, Reason.SNAPSHOT_MISMATCH),
    "a revocation made graver": ({"change": graver}, None),
    "a revocation put later": ({"change": later}, Reason.SNAPSHOT_MISMATCH),
}


@pytest.mark.parametrize(("options", "reason"), SUCCESSORS.values(), ids=SUCCESSORS.keys())
def test_case_109_sets_only_go_forward(options: Mapping[str, Any], reason: Reason | None) -> None:
    before = held()
    token = signed(**options)
    if reason is None:
        assert read_history(token, KEYS, before).entity_id == SHANGHAI
    else:
        assert reason_of(lambda: read_history(token, KEYS, before)) is reason


def key_members(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda claims: claims["keys"][0].update(changes)


INVALID = Reason.STATEMENT_INVALID
BROKEN: Mapping[str, tuple[Callable[[dict[str, Any]], object], Reason]] = {
    "no issuer": (lambda claims: claims.pop("iss"), INVALID),
    "no time": (lambda claims: claims.pop("iat"), INVALID),
    "no keys": (lambda claims: claims.pop("keys"), INVALID),
    "keys in an object": (lambda claims: claims.update(keys={}), INVALID),
    "too many": (lambda claims: claims.update(keys=[1] * (MAX_PAST_KEYS + 1)), Reason.TOO_LARGE),
    "a key that is no object": (lambda claims: claims.update(keys=[1]), INVALID),
    "a key without exp": (lambda claims: claims["keys"][0].pop("exp"), INVALID),
    "a key twice": (lambda claims: claims["keys"].append(claims["keys"][0]), INVALID),
    "a private key": (key_members(d="AAAA"), Reason.KEY_NOT_ACCEPTABLE),
    "another kid": (key_members(kid="key-1"), Reason.KEY_NOT_ACCEPTABLE),
    "a time that is no number": (key_members(iat="then"), INVALID),
    "a revocation that is no object": (key_members(revoked=1), INVALID),
    "a revocation without time": (key_members(revoked={"reason": "superseded"}), INVALID),
}


@pytest.mark.parametrize(("change", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_malformed_is_refused(change: Callable[[dict[str, Any]], object], reason: Reason) -> None:
    token = signed(change=change)
    assert reason_of(lambda: read_history(token, KEYS)) is reason


@pytest.mark.parametrize("reason", ["unspecified", "unheard of", None])
def test_a_reason_that_is_not_known_counts_as_the_gravest(reason: Any) -> None:
    history = held(change=key_members(revoked={"revoked_at": int(NOW.timestamp()), "reason": reason}))
    assert reason_of(lambda: check_as_of(history, RETIRED.key.kid, NOW - 9 * DAY)) is Reason.KEY_REVOKED


def test_who_signed_and_what_it_is_is_checked() -> None:
    assert reason_of(lambda: read_history(signed(), {})) is Reason.KEY_UNKNOWN
    assert reason_of(lambda: read_history(signed(typ=TYP), KEYS)) is Reason.TYPE_MISMATCH
    head, payload, _ = signed().split(".")
    spoiled = f"{head}.{payload}.{signed(at=NOW + DAY).split('.')[2]}"
    assert reason_of(lambda: read_history(spoiled, KEYS)) is Reason.SIGNATURE_INVALID
