"""JSON, read strictly: one test per way to be lax (facts/credentials.md section 8, cases 36 to 43).

Every refused document differs from an accepted one in one thing.
"""

from __future__ import annotations

import json

import pytest

from gateway.core.encoding import JsonLimits, parse_json, parse_json_object
from gateway.core.reasons import Reason
from tests.core.tokens import MUTATIONS, header, mutated, raw_token, reason_of, refusal, seeded, survives


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


MALFORMED_JSON = {
    "case 36: an empty payload is refused": b"",
    "case 36: an array is refused": b"[]",
    "case 36: a string is refused": b'"a"',
    "case 36: null is refused": b"null",
    "case 36: trailing garbage is refused": b"{}x",
    "case 36: a second object is refused": b"{}{}",
    "case 36: a comment is refused": b"{}/**/",
    "case 36: a trailing comma is refused": b'{"a":1,}',
    "case 36: single quotes are refused": b"{'a':1}",
    "case 36: a vertical tab as white space is refused": b'{"a":\x0b1}',
    "case 36: a no-break space is refused": b'{"a":\xc2\xa01}',
    "case 37: a duplicate iss is refused": b'{"iss":"a","iss":"a"}',
    "case 37: a duplicate exp, once escaped, is refused": b'{"exp":1,"\\u0065xp":2}',
    "case 37: a duplicate in a nested object is refused": b'{"a":{"vct":1,"vct":1}}',
    "case 37: a duplicate in an object in an array is refused": b'{"a":[{"vct":1,"vct":1}]}',
    "case 38: NaN is refused": b'{"exp":NaN}',
    "case 38: Infinity is refused": b'{"exp":Infinity}',
    "case 38: -Infinity is refused": b'{"exp":-Infinity}',
    "case 38: 1e400 is refused": b'{"exp":1e400}',
    "case 38: -0.0 is refused": b'{"exp":-0.0}',
    "case 38: -0 is refused": b'{"exp":-0}',
    "case 38: -1e-400 is refused": b'{"exp":-1e-400}',
    "case 38: a leading zero is refused": b'{"exp":01}',
    "case 38: a leading plus is refused": b'{"exp":+1}',
    "case 38: an underscore in a number is refused": b'{"exp":1_0}',
    "case 38: Arabic-Indic digits are refused": '{"exp":\u0661}'.encode(),
    "case 39: a lone high surrogate is refused": b'{"a":"\\ud800"}',
    "case 39: a lone low surrogate is refused": b'{"a":"\\uDC00"}',
    "case 39: surrogates in the wrong order are refused": b'{"a":"\\udc00\\ud800"}',
    "case 39: a lone surrogate in a name is refused": b'{"\\ud800":1}',
    "case 39: a lone surrogate at the depth limit is refused": b'{"a":' + b"[" * 15 + b'"\\ud800"' + b"]" * 15 + b"}",
    "case 39: CESU-8 bytes are refused": b'{"a":"\xed\xa0\xbd\xed\xb8\x80"}',
    "case 39: a control character is refused": b'{"a":"\x01"}',
    "case 39: a NUL is refused": b'{"a":"\x00"}',
    "case 39: overlong UTF-8 is refused": b'{"a":"\xc0\xaf"}',
    "case 39: UTF-16 is refused": '{"a":1}'.encode("utf-16"),
    "case 39: a BOM is refused": b"\xef\xbb\xbf{}",
    "case 41: objects of depth 17 are refused": b'{"a":' * 16 + b"{}" + b"}" * 16,
    "case 41: arrays of depth 17 are refused": b'{"a":' + nested(16) + b"}",
    "case 41: a depth of 20,000 is refused": b'{"a":' + nested(20_000) + b"}",
    "case 43: 2^53 is refused": b'{"a":9007199254740992}',
    "case 43: -2^53 is refused": b'{"a":-9007199254740992}',
    "case 43: 2^63 is refused": b'{"a":9223372036854775808}',
    "case 43: 10^400 is refused": b'{"a":1' + b"0" * 400 + b"}",
    "case 43: 5,000 digits are refused": b'{"a":' + b"9" * 5_000 + b"}",
}


@pytest.mark.parametrize("raw", MALFORMED_JSON.values(), ids=MALFORMED_JSON)
def test_malformed_json(raw: bytes) -> None:
    assert reason_of(parse_json_object, raw) is Reason.MALFORMED
    assert refusal(raw_token(header(), raw)) is Reason.MALFORMED


ACCEPTED_JSON = {
    "case 39: a surrogate pair is a character": (b'{"a":"\\ud83d\\ude00"}', {"a": "😀"}),
    "case 39: an escaped backslash before u is no surrogate": (b'{"a":"\\\\ud800"}', {"a": "\\ud800"}),
    "case 39: white space around is allowed": (b" \r\n\t{} ", {}),
    "case 43: the largest safe integers are accepted": (
        b'{"a":9007199254740991,"b":-9007199254740991}',
        {"a": 2**53 - 1, "b": 1 - 2**53},
    ),
    "case 43: fractions are accepted": (b'{"a":0.5,"b":0.0,"c":1e3}', {"a": 0.5, "b": 0.0, "c": 1000.0}),
}


@pytest.mark.parametrize(("raw", "value"), ACCEPTED_JSON.values(), ids=ACCEPTED_JSON)
def test_accepted_json(raw: bytes, value: object) -> None:
    assert parse_json_object(raw) == value


def test_case_41_depth_is_bounded_at_exactly_sixteen() -> None:
    assert parse_json(nested(16))
    assert parse_json(b"[" * 16 + b'"a"' + b"]" * 16)
    assert reason_of(lambda: parse_json(nested(17))) is Reason.MALFORMED


@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["arrays", "objects"])
def test_case_41_depth_of_100_000_is_refused_without_recursion_error(opening: bytes) -> None:
    roomy = JsonLimits(max_bytes=10_000_000)
    assert reason_of(parse_json, opening * 100_000, roomy) is Reason.MALFORMED
    assert reason_of(lambda: parse_json(nested(100_000), roomy)) is Reason.MALFORMED


def members(count: int) -> bytes:
    return json.dumps({str(i): 0 for i in range(count)}).encode()


ROOMY = JsonLimits(max_bytes=10_000_000)
TOO_LARGE = {
    "case 42: 2,001 members are refused": (members(2_001), ROOMY),
    "case 42: 2,001 members in two objects are refused": (b"[" + members(1_000) + b"," + members(999) + b"]", ROOMY),
    "case 42: 2,001 items are refused": (json.dumps([0] * 2_001).encode(), ROOMY),
    "case 42: an array of a million is refused": (json.dumps([0] * 1_000_000).encode(), ROOMY),
    "case 42: a string of 8,193 characters is refused": (json.dumps("a" * 8_193).encode(), ROOMY),
    "case 42: a name of 8,193 characters is refused": (json.dumps({"a" * 8_193: 1}).encode(), ROOMY),
    "case 42: a string of a megabyte is refused": (json.dumps("a" * 1_000_000).encode(), ROOMY),
    "case 42: 65,537 bytes are refused": (b" " * 65_535 + b"{}", JsonLimits()),
}


@pytest.mark.parametrize(("raw", "limits"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_json_over_a_limit(raw: bytes, limits: JsonLimits) -> None:
    assert reason_of(parse_json, raw, limits) is Reason.TOO_LARGE


def test_case_42_json_at_its_limits_is_accepted() -> None:
    assert len(parse_json(members(2_000), ROOMY)) == 2_000
    assert len(parse_json(json.dumps("好" * 8_192, ensure_ascii=False).encode(), ROOMY)) == 8_192
    assert parse_json(b" " * 65_534 + b"{}") == {}


def test_mutated_json_raises_nothing_but_rejected() -> None:
    rng = seeded(8259)
    raw = json.dumps({"iss": "https://sh.example", "n": [1, -2.5, None, True], "zh": {"名": "\ud83d\ude00"}}).encode()
    for _ in range(MUTATIONS):
        text = mutated(raw, rng)
        survives(parse_json, text, JsonLimits(max_depth=2, max_members=6, max_string=20))
