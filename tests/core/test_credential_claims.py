"""Payloads and claims (facts/credentials.md section 8, cases 36 to 54), for both profiles.

Every refused presentation is correctly signed by the issuer and differs from an accepted one in one thing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.encoding import write_json
from gateway.core.reasons import Reason
from tests.core.presentations import (
    BOTH,
    EPOCH,
    GATEWAY,
    ISSUER,
    OTHER_ISSUER,
    Attempt,
    Change,
    Make,
    cases,
    changed,
    dropping,
    setting,
)

Rewrite = Callable[[bytes], bytes]


# -- the payload as text ----------------------------------------------------------------------------------------------


def _instead(old: str, new: str | bytes) -> Rewrite:
    """Replace the one place of a text in the payload."""

    def rewrite(payload: bytes) -> bytes:
        assert payload.count(old.encode()) == 1, "the text to replace has one place"
        return payload.replace(old.encode(), new if isinstance(new, bytes) else new.encode("utf-8", "surrogatepass"))

    return rewrite


def _with_member(text: str | bytes) -> Rewrite:
    """Add a member, written as it is."""
    return lambda payload: payload[:-1] + b"," + (text if isinstance(text, bytes) else text.encode()) + b"}"


PAYLOADS: dict[str, tuple[Rewrite, Reason]] = {
    "36 empty": (lambda _: b"", Reason.MALFORMED),
    "36 an array": (lambda payload: b"[" + payload + b"]", Reason.MALFORMED),
    "36 a string": (lambda _: b'"iss"', Reason.MALFORMED),
    "36 null": (lambda _: b"null", Reason.MALFORMED),
    "36 followed by something": (lambda payload: payload + b"x", Reason.MALFORMED),
    "36 followed by a second object": (lambda payload: payload + b"{}", Reason.MALFORMED),
    "36 with a comment": (lambda payload: b"/**/" + payload, Reason.MALFORMED),
    "36 with a comma too many": (lambda payload: payload[:-1] + b",}", Reason.MALFORMED),
    "37 with iss twice": (_with_member('"iss":"https://issuer.sh.example"'), Reason.MALFORMED),
    "37 with exp twice": (_with_member('"exp":1700000100'), Reason.MALFORMED),
    "37 with iss twice, once escaped": (_with_member('"\\u0069ss":"https://issuer.sh.example"'), Reason.MALFORMED),
    "37 with a nested member twice": (_instead('"aal":3', '"aal":3,"aal":3'), Reason.MALFORMED),
    "37 with a nested member twice, once escaped": (_instead('"aal":3', '"aal":3,"\\u0061al":3'), Reason.MALFORMED),
    "38 with NaN": (_with_member('"x":NaN'), Reason.MALFORMED),
    "38 with Infinity": (_with_member('"x":Infinity'), Reason.MALFORMED),
    "38 with -Infinity": (_with_member('"x":-Infinity'), Reason.MALFORMED),
    "38 with a number beyond all floats": (_with_member('"x":1e400'), Reason.MALFORMED),
    "38 with negative zero": (_with_member('"x":-0.0'), Reason.MALFORMED),
    "39 with half a surrogate pair": (_with_member('"x":"\\ud800"'), Reason.MALFORMED),
    "39 with raw surrogate bytes": (_with_member(b'"x":"\xed\xa0\x80"'), Reason.MALFORMED),
    "39 with a control character": (_with_member('"x":"\x01"'), Reason.MALFORMED),
    "39 with overlong UTF-8": (_with_member(b'"x":"\xc0\xaf"'), Reason.MALFORMED),
    "39 with invalid UTF-8": (_with_member(b'"x":"\xff"'), Reason.MALFORMED),
    "41 nested 17 deep": (_with_member('"x":' + "[" * 16 + "]" * 16), Reason.MALFORMED),
    "41 nested 10,000 deep": (_with_member('"x":' + "[" * 10_000 + "]" * 10_000), Reason.MALFORMED),
    "41 nested 100,000 deep": (_with_member('"x":' + "[" * 100_000 + "]" * 100_000), Reason.TOO_LARGE),
    "42 with 2,001 members": (
        _with_member('"x":{' + ",".join(f'"{number}":0' for number in range(2_001)) + "}"),
        Reason.TOO_LARGE,
    ),
    "42 with a string of 8,193 characters": (_with_member(f'"x":"{"s" * 8_193}"'), Reason.TOO_LARGE),
    "42 with a string of a megabyte": (_with_member(f'"x":"{"s" * 1_000_000}"'), Reason.TOO_LARGE),
    "42 with an array of a million elements": (_with_member(f'"x":[{"0," * 999_999}0]'), Reason.TOO_LARGE),
    "43 with an integer of 2^63": (_with_member(f'"x":{2**63}'), Reason.MALFORMED),
    "43 with an integer of 2^53": (_with_member(f'"x":{2**53}'), Reason.MALFORMED),
    "43 with an integer of 400 digits": (_with_member(f'"x":1{"0" * 400}'), Reason.MALFORMED),
    "43 with an integer of 5,000 digits": (_with_member(f'"x":1{"0" * 5_000}'), Reason.MALFORMED),
}


@pytest.mark.parametrize(("rewrite", "reason"), PAYLOADS.values(), ids=PAYLOADS.keys())
@BOTH
def test_payload_is_refused(make: Make, rewrite: Rewrite, reason: Reason) -> None:
    attempt = make()
    attempt.raw_payload = rewrite(write_json(attempt.payload))
    assert attempt.refusal() is reason


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda payload: payload,
        lambda payload: b" \n" + payload + b"\t\r",
        lambda payload: json.dumps(json.loads(payload), indent=2).encode(),
        _with_member('"x":' + "[" * 15 + "]" * 15),
        _with_member(f'"x":{2**53 - 1}'),
        _with_member('"x":"\\ud83d\\ude00"'),
    ],
    ids=["as it is", "with white space around", "indented", "nested 16 deep", "with 2^53 - 1", "with a surrogate pair"],
)
@BOTH
def test_payload_is_accepted(make: Make, rewrite: Rewrite) -> None:
    attempt = make()
    attempt.raw_payload = rewrite(write_json(attempt.payload))
    assert attempt.is_accepted()


# -- issuer -----------------------------------------------------------------------------------------------------------


@cases(
    {
        "40 with NUL inside": (setting(iss="https://issuer.sh\0.example"), Reason.ISSUER_UNKNOWN),
        "48 missing": (dropping("iss"), Reason.ISSUER_UNKNOWN),
        "48 a list": (setting(iss=[ISSUER]), Reason.ISSUER_UNKNOWN),
        "48 null": (setting(iss=None), Reason.ISSUER_UNKNOWN),
        "48 with a trailing slash": (setting(iss=f"{ISSUER}/"), Reason.ISSUER_UNKNOWN),
        "48 in upper case": (setting(iss=ISSUER.upper()), Reason.ISSUER_UNKNOWN),
        "48 a prefix of a known one": (setting(iss=ISSUER[:-1]), Reason.ISSUER_UNKNOWN),
        "48 a homoglyph of a known one": (setting(iss="https://issuer.\u0455h.example"), Reason.ISSUER_UNKNOWN),
        "49 another member": (setting(iss=OTHER_ISSUER), Reason.KEY_UNKNOWN),
    }
)
@BOTH
def test_issuer_is_refused(make: Make, change: Change, reason: Reason) -> None:
    assert changed(make(), change).refusal() is reason


# -- times ------------------------------------------------------------------------------------------------------------

NO_DATES: dict[str, Any] = {
    "a string": "1700000100",
    "a float": 1_700_000_100.0,
    "true": True,
    "null": None,
    "a list": [1_700_000_100],
    "an object": {},
    "negative": -1,
    "beyond the year 9999": 253_402_300_800,
    "1e20": 1e20,
}


@pytest.mark.parametrize("value", NO_DATES.values(), ids=[f"44 {name}" for name in NO_DATES])
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf", "auth_time"])
@BOTH
def test_date_that_is_none_is_refused(make: Make, claim: str, value: Any) -> None:
    assert changed(make(), setting(**{claim: value})).refusal() is Reason.CLAIM_INVALID


@cases(
    {
        "45 without exp": (dropping("exp"), Reason.CLAIM_INVALID),
        "45 expiring now": (setting(exp=EPOCH), Reason.EXPIRED),
        "45 expired long ago": (setting(iat=0, exp=1, auth_time=0), Reason.EXPIRED),
        "46 valid from later than the skew": (setting(nbf=EPOCH + 61), Reason.NOT_YET_VALID),
        "47 without iat": (dropping("iat"), Reason.CLAIM_INVALID),
        "47 issued later than the skew": (setting(iat=EPOCH + 61), Reason.NOT_YET_VALID),
        "47 issued after it expires": (setting(iat=EPOCH + 11, exp=EPOCH + 10), Reason.CLAIM_INVALID),
        "authenticated at no time": (dropping("auth_time"), Reason.CLAIM_INVALID),
        "authenticated after it was issued": (setting(auth_time=EPOCH - 39), Reason.CLAIM_INVALID),
    }
)
@BOTH
def test_times_are_refused(make: Make, change: Change, reason: Reason) -> None:
    assert changed(make(), change).refusal() is reason


@pytest.mark.parametrize(
    "change",
    [
        setting(exp=EPOCH + 1),
        setting(nbf=EPOCH + 60),
        setting(iat=EPOCH + 60),
        setting(nbf=0),
        setting(auth_time=EPOCH - 40),
    ],
    ids=[
        "45 expiring in a second",
        "46 valid from within the skew",
        "47 issued within the skew",
        "valid since 1970",
        "authenticated within the skew after it was issued",
    ],
)
@BOTH
def test_times_are_accepted(make: Make, change: Change) -> None:
    assert changed(make(), change).is_accepted()


@pytest.mark.parametrize(
    ("make", "lifetime"),
    [(Attempt.credential, 400 * 86_400), (Attempt.assertion, 300)],
    ids=["47 credential", "47 assertion"],
)
def test_lifetime_counts_to_the_second(make: Make, lifetime: int) -> None:
    expiry = EPOCH - 100 + lifetime
    assert changed(make(), setting(exp=expiry)).is_accepted()
    assert changed(make(), setting(exp=expiry + 1)).refusal() is Reason.LIFETIME_TOO_LONG


# -- other claims -----------------------------------------------------------------------------------------------------


def _verification(**members: Any) -> Change:
    return lambda attempt: attempt.payload["verified_claims"]["verification"].update(members)


def _verified(name: str, value: Any) -> Change:
    return lambda attempt: attempt.payload["verified_claims"].update({name: value})


@cases(
    {
        "51 with an unknown trust framework": (_verification(trust_framework="eidas"), Reason.ASSURANCE_UNKNOWN),
        "51 with an unknown assurance level": (_verification(assurance_level="extreme"), Reason.ASSURANCE_UNKNOWN),
        "51 with a number as assurance level": (_verification(assurance_level=3), Reason.ASSURANCE_UNKNOWN),
        "51 with null as assurance level": (_verification(assurance_level=None), Reason.ASSURANCE_UNKNOWN),
        "51 with an unknown acr": (setting(acr="urn:yrd:loa:5"), Reason.ASSURANCE_UNKNOWN),
        "51 with a list as acr": (setting(acr=["urn:yrd:loa:4"]), Reason.ASSURANCE_UNKNOWN),
        "51 without acr": (dropping("acr"), Reason.ASSURANCE_UNKNOWN),
        "51 without any level": (dropping("assurance"), Reason.ASSURANCE_UNKNOWN),
        "51 with a level too few": (setting(assurance={"ial": 3, "aal": 3}), Reason.CLAIM_INVALID),
        "51 with a level too many": (setting(assurance={"ial": 3, "aal": 3, "fal": 3, "x": 3}), Reason.CLAIM_INVALID),
        "51 with level 0": (setting(assurance={"ial": 0, "aal": 3, "fal": 3}), Reason.CLAIM_INVALID),
        "51 with level 4": (setting(assurance={"ial": 4, "aal": 3, "fal": 3}), Reason.CLAIM_INVALID),
        "51 with true as level": (setting(assurance={"ial": True, "aal": 3, "fal": 3}), Reason.CLAIM_INVALID),
        "51 with a float as level": (setting(assurance={"ial": 3.0, "aal": 3, "fal": 3}), Reason.CLAIM_INVALID),
        "51 with a string as level": (setting(assurance={"ial": "3", "aal": 3, "fal": 3}), Reason.CLAIM_INVALID),
        "51 with one level for all": (setting(assurance=3), Reason.CLAIM_INVALID),
        "without verified claims": (dropping("verified_claims"), Reason.CLAIM_INVALID),
        "with several verified claims": (
            lambda attempt: attempt.payload.update(verified_claims=[attempt.payload["verified_claims"]]),
            Reason.CLAIM_INVALID,
        ),
        "without verification": (
            lambda attempt: attempt.payload["verified_claims"].pop("verification"),
            Reason.CLAIM_INVALID,
        ),
        "without trust framework": (_verified("verification", {"assurance_level": "high"}), Reason.CLAIM_INVALID),
        "with a number as trust framework": (_verification(trust_framework=1), Reason.CLAIM_INVALID),
        "54 without sub": (dropping("sub"), Reason.CLAIM_INVALID),
        "54 with a number as sub": (setting(sub=42), Reason.CLAIM_INVALID),
        "54 with an empty sub": (setting(sub=""), Reason.CLAIM_INVALID),
        "54 with a sub of 256 characters": (setting(sub="s" * 256), Reason.CLAIM_INVALID),
        "54 with a Chinese sub": (setting(sub="徐某"), Reason.CLAIM_INVALID),
        "54 with a blank in sub": (setting(sub="a b"), Reason.CLAIM_INVALID),
        "54 with a line feed after sub": (setting(sub="ab\n"), Reason.CLAIM_INVALID),
        "54 with an ID number as sub": (setting(sub="310101190001010011"), Reason.CLAIM_INVALID),
        "with a text as amr": (setting(amr="face"), Reason.CLAIM_INVALID),
        "with a number in amr": (setting(amr=["face", 1]), Reason.CLAIM_INVALID),
        "108 with an empty status": (setting(status={}), Reason.STATUS_INVALID),
        "108 with null as status": (setting(status=None), Reason.STATUS_INVALID),
        "108 with a status list without index": (
            setting(status={"status_list": {"uri": "https://issuer.sh.example/status/1"}}),
            Reason.STATUS_INVALID,
        ),
        "98 with true as index": (setting(status={"status_list": {"idx": True, "uri": "u"}}), Reason.STATUS_INVALID),
        "98 with a negative index": (setting(status={"status_list": {"idx": -1, "uri": "u"}}), Reason.STATUS_INVALID),
        "with a status list of no name": (
            setting(status={"status_list": {"idx": 1, "uri": ""}}),
            Reason.STATUS_INVALID,
        ),
    }
)
@BOTH
def test_claims_are_refused(make: Make, change: Change, reason: Reason) -> None:
    assert changed(make(), change).refusal() is reason


@pytest.mark.parametrize(
    "subject", ["s", "s" * 255, "310101190001010012"], ids=["of one character", "of 255", "like an ID number, but none"]
)
def test_54_sub_is_accepted(subject: str) -> None:
    assert changed(Attempt.credential(), setting(sub=subject)).judge().subject == subject


@pytest.mark.parametrize("claims", [None, [], "name"], ids=["null", "an array", "a text"])
def test_assertion_without_an_object_of_claims_is_refused(claims: Any) -> None:
    assert changed(Attempt.assertion(), _verified("claims", claims)).refusal() is Reason.CLAIM_INVALID


@cases(
    {
        "without vct": (dropping("vct"), Reason.CLAIM_INVALID),
        "with a list as vct": (setting(vct=["urn:yrd:credential:resident-id:1"]), Reason.CLAIM_INVALID),
        "with vct in upper case": (setting(vct="URN:YRD:CREDENTIAL:RESIDENT-ID:1"), Reason.ISSUER_NOT_AUTHORISED),
        "for another audience": (setting(aud="https://gateway.zj.example"), Reason.AUDIENCE_MISMATCH),
        "for several audiences": (setting(aud=[GATEWAY]), Reason.CLAIM_INVALID),
    }
)
def test_credential_claims_are_refused(change: Change, reason: Reason) -> None:
    assert changed(Attempt.credential(), change).refusal() is reason


def test_credential_for_this_gateway_alone_is_accepted() -> None:
    assert changed(Attempt.credential(), setting(aud=GATEWAY)).is_accepted()
