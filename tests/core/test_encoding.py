"""Names that people type; JSON, by whichever of two parsers."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.encoding import b64url_decode, new_name, new_timed_name, parse_json, write_canonical_json
from gateway.core.reasons import Rejected

NUMBERS = st.sampled_from(
    ["0", "-0", "1", "-1", "0.0", "-0.0", "1.5", "1e2", "1E400", "01", "NaN", "9007199254740991"]
).flatmap(lambda number: st.sampled_from([number, "9007199254740992", "-9007199254740992", "18446744073709551616"]))
STRINGS = st.text(st.sampled_from("ab:,{}[]é\x00\x7f\u2028😀 "), max_size=4).map(lambda text: f'"{text}"')
SPACE = st.sampled_from(["", " ", "\n\t", "\x0b"])


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.tuples(STRINGS, SPACE, values).map(lambda parts: f"{parts[0]}{parts[1]}:{parts[2]}")
    return st.lists(members, max_size=4).map(lambda parts: "{" + ",".join(parts) + "}")


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=4).map(lambda parts: "[" + ",".join(parts) + "]")


TEXTS = st.recursive(
    st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null"])),
    lambda values: st.one_of(objects(values), arrays(values)),
    max_leaves=12,
)
VALUES = st.recursive(
    st.one_of(st.integers(-(2**53) + 1, 2**53 - 1), st.text(max_size=8), st.booleans(), st.none()),
    lambda values: st.one_of(st.lists(values, max_size=4), st.dictionaries(st.text(max_size=4), values, max_size=4)),
    max_leaves=12,
)


def read(raw: bytes) -> Any:
    try:
        value = parse_json(raw)
    except Rejected as rejection:
        return rejection.reason
    return json.dumps(value)  # True is 1 to Python, and 1.0 too


@given(st.binary(min_size=1, max_size=32))
def test_a_name_begins_with_no_dash_and_loses_one_bit(random: bytes) -> None:
    name = new_name(random)
    assert not name.startswith("-")
    assert b64url_decode(name) in (random, bytes([random[0] ^ 0x80]) + random[1:])


@given(st.integers(0, 2**47 - 1), st.binary(min_size=10, max_size=10))
def test_a_timed_name_tells_when_and_keeps_its_randomness(milliseconds: int, random: bytes) -> None:
    name = new_timed_name(milliseconds, random)
    assert b64url_decode(name) == milliseconds.to_bytes(6, "big") + random
    assert not name.startswith("-")


@given(TEXTS)
def test_both_parsers_read_a_text_alike(text: str) -> None:
    raw = text.encode()
    # An escape keeps the fast one away.
    assert read(b'["a",' + raw + b"]") == read(b'["\\u0061",' + raw + b"]")


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=6))
def test_the_canonical_spelling_is_the_one_of_the_standard_library(value: dict[str, Any]) -> None:
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    assert write_canonical_json(value) == expected
    assert parse_json(expected) == value
