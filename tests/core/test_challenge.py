"""Challenges: good for one service, one matter and some minutes, and only if we made them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from gateway.core.challenge import check_nonce, make_nonce
from gateway.core.reasons import Reason, Rejected
from tests.core.tokens import mutated, seeded

KEY = bytes(range(32))
NOW = datetime.fromtimestamp(1_700_000_000, UTC)
EXPIRY = NOW + timedelta(minutes=5)
SERVICE = "https://gateway.ah.example/services/hefei-shushan"
MATTER = "HK-QY"
RANDOM = b"16 random bytes."


def _nonce(
    key: bytes = KEY,
    *,
    service: str = SERVICE,
    matter: str = MATTER,
    expires_at: datetime = EXPIRY,
    random: bytes = RANDOM,
) -> str:
    return make_nonce(key, service=service, matter=matter, expires_at=expires_at, random=random)


def _check(nonce: str, key: bytes = KEY, now: datetime = NOW) -> datetime:
    return check_nonce(key, nonce, service=SERVICE, matter=MATTER, now=now)


def _refusal(nonce: str, key: bytes = KEY, now: datetime = NOW) -> Reason:
    with pytest.raises(Rejected) as caught:
        _check(nonce, key, now)
    return caught.value.reason


def test_nonce_of_ours_is_accepted_until_it_lapses() -> None:
    assert _check(_nonce()) == EXPIRY
    assert _check(_nonce(), now=EXPIRY - timedelta(microseconds=1)) == EXPIRY


def test_nonce_is_short_and_plain() -> None:
    longest = _nonce(random=b"r" * 64, expires_at=datetime(9999, 12, 31, tzinfo=UTC))
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", longest)
    assert _check(longest) > NOW


def test_nonces_of_other_random_bytes_differ() -> None:
    assert _nonce() != _nonce(random=b"other random byt")
    assert _nonce() == _nonce()


@pytest.mark.parametrize(
    "nonce",
    [
        _nonce(service="https://gateway.zj.example/services/hangzhou"),
        _nonce(matter="DZ-LZ"),
        _nonce(service=f"{SERVICE}H", matter="K-QY"),
        _nonce(key=KEY[::-1]),
        _nonce(expires_at=NOW),
        _nonce(expires_at=NOW - timedelta(days=1)),
        "",
        "a",
        "..",
        "徐某",
        _nonce() + "\n",
        " " + _nonce(),
        _nonce() + "=",
        "0" + _nonce(),
        _nonce().replace(".", "..", 1),
        _nonce()[:-1],
        "1" * 100_000,
        f"999999999999.{'A' * 22}.{'A' * 43}",
    ],
    ids=[
        "for another service",
        "for another matter",
        "with a character moved from matter to service",
        "by another province",
        "lapsing now",
        "lapsed yesterday",
        "empty",
        "too short",
        "dots",
        "not ASCII",
        "with a line feed",
        "with a blank",
        "padded",
        "with the expiry spelled otherwise",
        "of four parts",
        "cut short",
        "endless",
        "with an expiry beyond all dates",
    ],
)
def test_other_nonce_is_refused(nonce: str) -> None:
    assert _refusal(nonce) is Reason.NONCE_MISMATCH


def test_postponed_nonce_is_refused() -> None:
    expiry, rest = _nonce().split(".", 1)
    assert _refusal(f"{int(expiry) + 300}.{rest}") is Reason.NONCE_MISMATCH


def test_fraction_of_a_second_is_dropped() -> None:
    assert _check(_nonce(expires_at=EXPIRY + timedelta(milliseconds=999))) == EXPIRY


def test_mutated_nonces_are_refused() -> None:
    rng = seeded(1)
    nonce = _nonce()
    for _ in range(2_000):
        other = mutated(nonce.encode(), rng).decode("latin-1")
        if other != nonce:
            assert _refusal(other) is Reason.NONCE_MISMATCH


@pytest.mark.parametrize(
    ("key", "random"),
    [(b"k" * 31, RANDOM), (b"", RANDOM), (KEY, b"r" * 15), (KEY, b""), (KEY, b"r" * 65)],
    ids=["short key", "no key", "little randomness", "no randomness", "too much randomness"],
)
def test_weak_nonce_is_not_made(key: bytes, random: bytes) -> None:
    with pytest.raises(ValueError, match="wrong length"):
        _nonce(key, random=random)
