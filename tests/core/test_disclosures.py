"""Disclosures in a credential (facts/credentials.md section 8, cases 55 to 78).

Every refused presentation is signed by issuer and holder and differs from an accepted one in one thing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.core.reasons import Reason
from tests.core.presentations import (
    ATTRIBUTES,
    Attempt,
    Change,
    cases,
    changed,
    disclosure,
    dropping,
    hashed,
    making,
    salt,
    setting,
    status_reference,
)

# -- structure --------------------------------------------------------------------------------------------------------


def _splice(old: str, new: str) -> Change:
    """Change the finished text in one place."""
    return making(rewrite=lambda text: text.replace(old, new, 1))


def _filled(count: int) -> Change:
    """Give the credential this many Disclosures."""
    return lambda attempt: attempt.hide({"name": "徐某"} | {f"other_{number}": number for number in range(count - 1)})


def _long_disclosure(raw_bytes: int) -> Change:
    """Have one Disclosure whose JSON is this long."""

    def change(attempt: Attempt) -> None:
        attempt.hide({"name": ""})
        attempt.hide({"name": "x" * (raw_bytes - len(b64url_decode(attempt.disclosures[0])))})

    return change


@cases(
    {
        "55 without any tilde, as a bare JWT": (
            making(rewrite=lambda text: text.partition("~")[0]),
            Reason.MALFORMED,
        ),
        "56 with a tilde first": (making(rewrite=lambda text: f"~{text}"), Reason.MALFORMED),
        "56 with an empty Disclosure": (_splice("~", "~~"), Reason.MALFORMED),
        "56 with a blank before a tilde": (_splice("~", " ~"), Reason.MALFORMED),
        "56 with a line feed after a tilde": (_splice("~", "~\n"), Reason.MALFORMED),
        "56 with a line feed at the end": (making(rewrite=lambda text: f"{text}\n"), Reason.MALFORMED),
        "56 with two key-binding JWTs": (
            making(rewrite=lambda text: f"{text}~{text.rpartition('~')[2]}"),
            Reason.MALFORMED,
        ),
        "56 with a tilde after the key-binding JWT": (making(rewrite=lambda text: f"{text}~"), Reason.MALFORMED),
        "56 with nothing but tildes": (making(rewrite=lambda _: "~~"), Reason.MALFORMED),
        "9 in the JSON serialization": (
            making(rewrite=lambda text: f'{{"payload":"{text.split(".")[1]}"}}'),
            Reason.MALFORMED,
        ),
        "57 with 101 Disclosures": (_filled(101), Reason.TOO_LARGE),
        "57 with a Disclosure over 8 KiB": (_long_disclosure(6_145), Reason.TOO_LARGE),
        "over 64 KiB": (lambda attempt: attempt.disclosures.append("A" * 65_536), Reason.TOO_LARGE),
        "with an issuer's JWT over 32 KiB": (setting(padding="x" * 8_000, more=["y" * 8_000] * 3), Reason.TOO_LARGE),
        "with a key-binding JWT over 4 KiB": (
            lambda attempt: attempt.binding.update(padding="x" * 4_096),
            Reason.TOO_LARGE,
        ),
    }
)
def test_structure_is_refused(change: Change, reason: Reason) -> None:
    assert changed(Attempt.credential(), change).refusal() is reason


def test_57_hundred_disclosures_are_accepted() -> None:
    assert changed(Attempt.credential(), _filled(100)).is_accepted()


def test_disclosure_of_8_kib_is_accepted() -> None:
    attempt = changed(Attempt.credential(), _long_disclosure(6_144))
    assert len(attempt.disclosures[0]) == 8_192
    assert attempt.is_accepted()


# -- digests and Disclosures ------------------------------------------------------------------------------------------


def _disclosing(*content: Any) -> Change:
    """Add a Disclosure of this content, correctly hashed by the issuer, among the attributes."""
    return lambda attempt: attempt.disclose(*content)


def _raw_disclosure(raw: bytes) -> Change:
    return lambda attempt: _hash_in(attempt, b64url_encode(raw))


def _hash_in(attempt: Attempt, text: str) -> None:
    attempt.attributes["_sd"].append(hashed(text))
    attempt.disclosures.append(text)


def _placing(element: Any, *extra: str) -> Change:
    """Put an array with this element among the attributes, and these Disclosures behind."""

    def change(attempt: Attempt) -> None:
        attempt.attributes["address"] = [element]
        attempt.disclosures.extend(extra)

    return change


def _attributes(**members: Any) -> Change:
    return lambda attempt: attempt.attributes.update(members)


def _unreferenced(attempt: Attempt) -> None:
    attempt.disclosures.append(disclosure(salt(90), "nickname", "x"))


def _orphan(attempt: Attempt) -> None:
    child = disclosure(salt(90), "street", "x")
    attempt.disclose(salt(91), "address", {"_sd": [hashed(child)]})
    attempt.disclosures[-1] = child


def _reveal_again(attempt: Attempt) -> None:
    attempt.disclosures.append(attempt.disclosures[0])


def _decoy_twice(attempt: Attempt) -> None:
    attempt.attributes["_sd"] += [hashed("decoy"), hashed("decoy")]


def _digest_in_two_objects(attempt: Attempt) -> None:
    attempt.attributes["address"] = {"_sd": [hashed(attempt.disclosures[0])]}


def _digest_in_object_and_array(attempt: Attempt) -> None:
    attempt.attributes["address"] = [{"...": hashed(attempt.disclosures[0])}]


def _digest_inside_a_disclosed_value(attempt: Attempt) -> None:
    attempt.disclose(salt(90), "address", {"_sd": [hashed(attempt.disclosures[0])]})


def _alter(attempt: Attempt) -> None:
    attempt.disclosures[0] = disclosure(salt(0), "name", "somebody else")


def _digest_of(raw: bytes) -> str:
    return b64url_encode(hashlib.sha256(raw).digest())


def _replace_digest(digest_of: Callable[[str], str]) -> Change:
    """Hash the first Disclosure in another way."""

    def change(attempt: Attempt) -> None:
        digests = attempt.attributes["_sd"]
        digests[digests.index(hashed(attempt.disclosures[0]))] = digest_of(attempt.disclosures[0])

    return change


def _padded(attempt: Attempt) -> None:
    text = disclosure(salt(90), "nickname", "xyz")
    assert len(text) % 4, "the text needs padding"
    _hash_in(attempt, text + "=" * (-len(text) % 4))


def _same_name_twice(attempt: Attempt) -> None:
    attempt.disclose(salt(90), "nickname", "x")
    attempt.disclose(salt(91), "nickname", "y")


def _same_name_in_clear(attempt: Attempt) -> None:
    attempt.attributes["nickname"] = "x"
    attempt.disclose(salt(90), "nickname", "y")


@cases(
    {
        "58 a Disclosure nobody signed for": (_unreferenced, Reason.DISCLOSURE_INVALID),
        "59 a Disclosure without its parent": (_orphan, Reason.DISCLOSURE_INVALID),
        "60 a Disclosure sent twice": (_reveal_again, Reason.DISCLOSURE_INVALID),
        "61 a digest twice in one _sd": (
            lambda attempt: attempt.attributes["_sd"].append(attempt.attributes["_sd"][0]),
            Reason.DISCLOSURE_INVALID,
        ),
        "61 a digest in two _sd": (_digest_in_two_objects, Reason.DISCLOSURE_INVALID),
        "61 a digest in _sd and in an array": (_digest_in_object_and_array, Reason.DISCLOSURE_INVALID),
        "61 a digest again inside a disclosed value": (_digest_inside_a_disclosed_value, Reason.DISCLOSURE_INVALID),
        "61 a repeated decoy": (_decoy_twice, Reason.DISCLOSURE_INVALID),
        "61 a repeated decoy in an array": (
            _attributes(address=[{"...": hashed("decoy")}, {"...": hashed("decoy")}]),
            Reason.DISCLOSURE_INVALID,
        ),
        "62 a Disclosure of one element": (_disclosing(salt(90)), Reason.DISCLOSURE_INVALID),
        "62 a Disclosure of no element": (_disclosing(), Reason.DISCLOSURE_INVALID),
        "62 a Disclosure of two elements in an object": (_disclosing(salt(90), "x"), Reason.DISCLOSURE_INVALID),
        "62 a Disclosure of three elements in an array": (
            _placing({"...": hashed(disclosure(salt(90), "n", "x"))}, disclosure(salt(90), "n", "x")),
            Reason.DISCLOSURE_INVALID,
        ),
        "62 a Disclosure of four elements": (_disclosing(salt(90), "n", "x", "y"), Reason.DISCLOSURE_INVALID),
        "62 a Disclosure that is an object": (_raw_disclosure(b'{"0":"s","1":"n","2":1}'), Reason.DISCLOSURE_INVALID),
        "62 a Disclosure that is a string": (_raw_disclosure(b'"snx"'), Reason.DISCLOSURE_INVALID),
        "62 a Disclosure that is null": (_raw_disclosure(b"null"), Reason.DISCLOSURE_INVALID),
        "62 a Disclosure that is no JSON": (_raw_disclosure(b'["s","n",'), Reason.DISCLOSURE_INVALID),
        "62 a Disclosure in invalid UTF-8": (_raw_disclosure(b'["s","n","\xff"]'), Reason.DISCLOSURE_INVALID),
        "62 a Disclosure followed by another": (
            _raw_disclosure(b'["s","n",1],["t","m",2]'),
            Reason.DISCLOSURE_INVALID,
        ),
        "63 a salt that is a number": (_disclosing(1, "nickname", "x"), Reason.DISCLOSURE_INVALID),
        "63 a salt that is null": (_disclosing(None, "nickname", "x"), Reason.DISCLOSURE_INVALID),
        "63 a salt in an array that is a number": (
            _placing({"...": hashed(disclosure(1, "x"))}, disclosure(1, "x")),
            Reason.DISCLOSURE_INVALID,
        ),
        "63 a name that is a number": (_disclosing(salt(90), 1, "x"), Reason.DISCLOSURE_INVALID),
        "63 a name that is a list": (_disclosing(salt(90), ["n"], "x"), Reason.DISCLOSURE_INVALID),
        "64 the name _sd": (_disclosing(salt(90), "_sd", []), Reason.DISCLOSURE_INVALID),
        "64 the name ...": (_disclosing(salt(90), "...", "x"), Reason.DISCLOSURE_INVALID),
        "64 the name _sd_alg": (_disclosing(salt(90), "_sd_alg", "sha-256"), Reason.DISCLOSURE_INVALID),
        "65 a name that is there in clear": (_same_name_in_clear, Reason.DISCLOSURE_INVALID),
        "65 a name disclosed twice": (_same_name_twice, Reason.DISCLOSURE_INVALID),
        "68 _sd that is a string": (_attributes(_sd="x"), Reason.MALFORMED),
        "68 _sd that is an object": (_attributes(_sd={}), Reason.MALFORMED),
        "68 _sd that is null": (_attributes(_sd=None), Reason.MALFORMED),
        "68 _sd with a number": (lambda attempt: attempt.attributes["_sd"].append(1), Reason.MALFORMED),
        "68 _sd with a list": (lambda attempt: attempt.attributes["_sd"].append([]), Reason.MALFORMED),
        "68 an element's digest that is a number": (_placing({"...": 1}), Reason.MALFORMED),
        "68 an element's digest that is a list": (_placing({"...": []}), Reason.MALFORMED),
        "68 an element's digest with company": (_placing({"...": hashed("x"), "y": 1}), Reason.MALFORMED),
        "68 an element's digest outside an array": (_attributes(address={"...": hashed("x")}), Reason.MALFORMED),
        "68 _sd malformed inside a disclosed value": (
            _disclosing(salt(90), "address", {"_sd": "x"}),
            Reason.MALFORMED,
        ),
        "69 _sd_alg sha-1": (setting(_sd_alg="sha-1"), Reason.HASH_NOT_ALLOWED),
        "69 _sd_alg sha-256-32": (setting(_sd_alg="sha-256-32"), Reason.HASH_NOT_ALLOWED),
        "69 _sd_alg in upper case": (setting(_sd_alg="SHA-256"), Reason.HASH_NOT_ALLOWED),
        "69 _sd_alg that is a number": (setting(_sd_alg=5), Reason.HASH_NOT_ALLOWED),
        "69 _sd_alg that is null": (setting(_sd_alg=None), Reason.HASH_NOT_ALLOWED),
        "69 _sd_alg that is a list": (setting(_sd_alg=["sha-256"]), Reason.HASH_NOT_ALLOWED),
        "69 _sd_alg below the top": (_attributes(_sd_alg="sha-256"), Reason.HASH_NOT_ALLOWED),
        "69 _sd_alg inside a disclosed value": (
            _disclosing(salt(90), "address", {"_sd_alg": "sha-256"}),
            Reason.HASH_NOT_ALLOWED,
        ),
        "69 _sd_alg of another hash than was used": (setting(_sd_alg="sha-512"), Reason.DISCLOSURE_INVALID),
        "71 a padded Disclosure with a padded hash": (_padded, Reason.MALFORMED),
        "72 a member twice inside a Disclosure": (
            _raw_disclosure(b'["salt-of-22-characters-090","address",{"a":1,"a":2}]'),
            Reason.DISCLOSURE_INVALID,
        ),
        "74 an altered value": (_alter, Reason.DISCLOSURE_INVALID),
        "75 a digest of the decoded bytes": (
            _replace_digest(lambda text: _digest_of(b64url_decode(text))),
            Reason.DISCLOSURE_INVALID,
        ),
        "75 a digest in hexadecimal": (
            _replace_digest(lambda text: hashlib.sha256(text.encode()).hexdigest()),
            Reason.DISCLOSURE_INVALID,
        ),
        "a Disclosure of too many members": (
            lambda attempt: attempt.disclose(salt(90), "n", [0] * 2_001),
            Reason.TOO_LARGE,
        ),
    }
)
def test_disclosures_are_refused(change: Change, reason: Reason) -> None:
    assert changed(Attempt.credential(), change).refusal() is reason


def test_disclosure_with_unused_bits_set_is_refused() -> None:
    attempt = Attempt.credential()
    text = next(text for text in (disclosure(salt(90), "n", "x" * i) for i in range(3)) if len(text) % 4 == 3)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    _hash_in(attempt, text[:-1] + alphabet[alphabet.index(text[-1]) + 1])
    assert attempt.refusal() is Reason.MALFORMED


# -- what must be in clear --------------------------------------------------------------------------------------------

NEVER_DISCLOSED = ["iss", "nbf", "exp", "cnf", "vct", "vct#integrity", "aka_vcts", "status", "aud"]


@pytest.mark.parametrize("name", NEVER_DISCLOSED)
@pytest.mark.parametrize("value", ["x", None])
def test_66_claim_that_must_be_in_clear_is_refused_from_a_disclosure(name: str, value: str | None) -> None:
    attempt = Attempt.credential()
    attempt.disclose(salt(90), name, value, at=attempt.payload)
    assert attempt.refusal() is Reason.DISCLOSURE_INVALID


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("iss", Reason.ISSUER_UNKNOWN),
        ("exp", Reason.CLAIM_INVALID),
        ("iat", Reason.CLAIM_INVALID),
        ("sub", Reason.CLAIM_INVALID),
        ("vct", Reason.CLAIM_INVALID),
        ("auth_time", Reason.CLAIM_INVALID),
        ("acr", Reason.ASSURANCE_UNKNOWN),
        ("assurance", Reason.ASSURANCE_UNKNOWN),
        ("cnf", Reason.DISCLOSURE_INVALID),
        ("verified_claims", Reason.CLAIM_INVALID),
    ],
)
def test_66_claim_that_decides_is_not_taken_from_a_disclosure(name: str, reason: Reason) -> None:
    attempt = Attempt.credential()
    attempt.disclose(salt(90), name, attempt.payload.pop(name), at=attempt.payload)
    assert attempt.refusal() is reason


@pytest.mark.parametrize("place", ["cnf", "status"])
def test_67_nothing_inside_cnf_or_status_is_disclosable(place: str) -> None:
    for digests in ([], [hashed("decoy")]):
        attempt = changed(Attempt.credential(), status_reference)
        attempt.payload[place]["_sd"] = digests
        assert attempt.refusal() is Reason.DISCLOSURE_INVALID
    attempt = changed(Attempt.credential(), status_reference)
    attempt.payload[place]["list"] = [{"...": hashed("decoy")}]
    assert attempt.refusal() is Reason.DISCLOSURE_INVALID


def test_nothing_inside_verification_is_disclosable() -> None:
    attempt = Attempt.credential()
    verification = attempt.payload["verified_claims"]["verification"]
    attempt.disclose(salt(90), "assurance_level", verification.pop("assurance_level"), at=verification)
    assert attempt.refusal() is Reason.DISCLOSURE_INVALID


def test_verified_claims_kept_back_as_a_whole_are_refused() -> None:
    attempt = Attempt.credential()
    verified = attempt.payload["verified_claims"]
    attempt.disclosures.clear()
    attempt.disclose(salt(90), "claims", verified.pop("claims"), at=verified)
    assert attempt.refusal() is Reason.REQUIRED_CLAIM_MISSING
    attempt.disclosures.clear()
    assert attempt.refusal() is Reason.CLAIM_INVALID


# -- what is accepted -------------------------------------------------------------------------------------------------


def _nested(levels: int) -> Change:
    """Disclose an address that has this many Disclosures one inside another."""

    def change(attempt: Attempt) -> None:
        value: Any = "innermost"
        added: list[str] = []
        for level in range(levels):
            name = "address" if level == levels - 1 else f"level_{level}"
            added.append(disclosure(salt(100 + level), name, value))
            value = {"_sd": [hashed(added[-1])]}
        attempt.attributes["_sd"] += value["_sd"]
        attempt.disclosures.extend(added)

    return change


def test_76_eight_levels_of_disclosures_are_accepted_and_nine_are_not() -> None:
    accepted = changed(Attempt.credential(), _nested(8)).judge()
    assert str(accepted.attributes["address"]).count("level_") == 7
    assert changed(Attempt.credential(), _nested(9)).refusal() is Reason.TOO_LARGE


def test_claims_nested_too_deeply_by_disclosures_together_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(14):
        deep = {"x": deep}
    attempt = Attempt.credential()
    attempt.disclose(salt(90), "address", deep)
    assert attempt.refusal() is Reason.TOO_LARGE
    attempt = Attempt.credential()
    attempt.disclose(salt(90), "address", deep["x"]["x"])
    assert attempt.is_accepted()


@pytest.mark.parametrize(
    "change",
    [
        dropping("_sd_alg"),
        _raw_disclosure(b'\n[ "salt-of-22-characters-090" ,\t"nick\\u006eame", "\\u5f90" ]\r\n'),
        lambda attempt: attempt.attributes["_sd"].append(hashed("decoy")),
        lambda attempt: attempt.payload.update(_sd=[hashed("decoy")]),
        lambda attempt: attempt.payload.update(_sd=[]),
        lambda attempt: attempt.disclosures.reverse(),
        lambda attempt: attempt.disclose(salt(90), "nickname", "x", at=attempt.payload),
        lambda attempt: attempt.disclose(salt(90), "a/b\0", 1.5),
    ],
    ids=[
        "70 without _sd_alg",
        "73 with odd white space and escapes in a Disclosure",
        "with a decoy",
        "77 with nothing but a decoy at the top",
        "with an empty _sd",
        "with Disclosures in another order",
        "with an unknown claim disclosed at the top",
        "with an attribute of an odd name",
    ],
)
def test_disclosures_are_accepted(change: Change) -> None:
    attributes = changed(Attempt.credential(), change).judge().attributes
    assert attributes == {name: ATTRIBUTES[name] for name in ("name", "id_type", "id_number", "hukou_region")}


@pytest.mark.parametrize("name", ["sha384", "sha512"])
def test_longer_hashes_are_accepted(name: str) -> None:
    attempt = changed(Attempt.credential(), setting(_sd_alg=f"sha-{name[3:]}"))
    attempt.attributes["_sd"] = [hashed(text, name) for text in attempt.disclosures]
    attempt.binding_hash = name
    assert attempt.is_accepted()


def test_78_elements_kept_back_are_dropped() -> None:
    kept, shown = disclosure(salt(90), "kept back"), disclosure(salt(91), "shown")
    attempt = Attempt.credential()
    attempt.attributes["address"] = ["clear", {"...": hashed(kept)}, {"...": hashed(shown)}, {"...": hashed("decoy")}]
    attempt.disclosures.append(shown)
    assert attempt.judge().attributes["address"] == ["clear", "shown"]
