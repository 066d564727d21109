"""Signing whatever is given, however wrong: the raw material of the tests of ``gateway.core.jose``."""

from __future__ import annotations

import json
import random  # noqa: TID251 - seeded: every run tries the same mutations
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.encoding import b64url_encode
from gateway.core.jose import PublicKey, SoftwareKey, generate_key, parse_compact, verify
from gateway.core.reasons import Reason, Rejected

MAX_CHARS = 65_536
CLAIMS = {"iss": "https://sh.example", "exp": 1_900_000_000}
KEY = generate_key()
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def raw_token(header: bytes | dict[str, Any], payload: bytes | dict[str, Any] = b"{}", key: SoftwareKey = KEY) -> str:
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    return signed(".".join(b64url_encode(part) for part in parts), key)


def signed(signing_input: str, key: SoftwareKey = KEY) -> str:
    return f"{signing_input}.{b64url_encode(key.sign(signing_input.encode()))}"


def header(**changes: Any) -> dict[str, Any]:
    return {"alg": "ES256", "typ": "dc+sd-jwt", "kid": KEY.public.kid} | changes


BASELINE = raw_token(header(), CLAIMS)
HEADER, PAYLOAD, SIGNATURE = BASELINE.split(".")


def reason_of(action: Callable[..., object], *args: Any, **options: Any) -> Reason:
    with pytest.raises(Rejected) as caught:
        action(*args, **options)
    return caught.value.reason


def check(token: str, key: PublicKey | None = None) -> dict[str, Any]:
    return verify(parse_compact(token, max_chars=MAX_CHARS), key or KEY.public)


def refusal(token: str, key: PublicKey | None = None) -> Reason:
    return reason_of(check, token, key)


def with_unused_bit(segment: str) -> str:
    assert len(segment) % 4 in {2, 3}, "the segment has no unused bits to set"
    return segment[:-1] + ALPHABET[ALPHABET.index(segment[-1]) + 1]


MUTATIONS = 10_000


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - not for secrets


def mutated(raw: bytes, rng: random.Random) -> bytes:
    result = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(result) + 1)
        match rng.randrange(5):
            case 0:
                result[at:at] = rng.randbytes(rng.randint(1, 4))
            case 1:
                del result[at : at + rng.randint(1, 8)]
            case 2:
                result[at : at + 1] = bytes([rng.choice(b'{}[]",:\\.=~-_e0n')])
            case 3:
                start = rng.randrange(len(result) + 1)
                result[at:at] = result[start : start + rng.randint(1, 40)]
            case _:
                result[at : at + 1] = rng.randbytes(1)
    return bytes(result)


def survives(action: Callable[..., object], *args: Any, **options: Any) -> bool:
    """Whether the action is accepted; any exception but Rejected fails the test."""
    try:
        action(*args, **options)
    except Rejected:
        return False
    return True
