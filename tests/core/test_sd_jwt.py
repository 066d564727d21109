"""SD-JWT by itself (RFC 9901): taken apart, put together, issued, presented.

The refusals of each kind are in test_disclosures.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.encoding import b64url_decode, parse_json
from gateway.core.jose import parse_compact, sign_compact, verify
from gateway.core.key_binding import holder_key
from gateway.core.reasons import Reason, Rejected
from gateway.core.sd_jwt import (
    HashAlgorithm,
    Path,
    digest,
    hash_algorithm,
    issue,
    present,
    process,
    select_disclosures,
    split,
)
from tests.core.presentations import (
    HOLDER_KEY,
    ISSUER_KEY,
    NOW,
    SERVICE,
    Attempt,
    disclosure,
    hashed,
    salt,
)

SHA_256 = HashAlgorithm.SHA_256
CLAIMS: dict[str, Any] = {
    "iss": "https://issuer.sh.example",
    "name": "徐某",
    "address": {"region": "上海市", "street": {"name": "南京路", "number": 1}},
    "nationalities": ["CHN", "XXX"],
    "age_over_18": True,
}
PATHS: frozenset[Path] = frozenset(
    {
        ("name",),
        ("address",),
        ("address", "region"),
        ("address", "street", "number"),
        ("nationalities", 1),
        ("age_over_18",),
    }
)


def _salts() -> Iterator[str]:
    return (salt(number) for number in count())


def _issued(decoys: int = 0) -> str:
    return issue(CLAIMS, PATHS, salts=_salts(), signer=ISSUER_KEY, typ="dc+sd-jwt", decoys=decoys)


def _payload(sd_jwt: str) -> dict[str, Any]:
    jws = parse_compact(split(sd_jwt).issuer_jwt, max_chars=32_768)
    return verify(jws, ISSUER_KEY.public)


def _seen(sd_jwt: str) -> dict[str, Any]:
    """What a verifier makes of it."""
    payload = _payload(sd_jwt)
    return process(payload, split(sd_jwt).disclosures, hash_algorithm(payload))


def _reason(caught: pytest.ExceptionInfo[Rejected]) -> Reason:
    return caught.value.reason


# -- compact form -----------------------------------------------------------------------------------------------------


def test_sd_jwt_ends_with_a_tilde_and_one_with_key_binding_does_not() -> None:
    parts = split("a.b.c~")
    assert (parts.issuer_jwt, parts.disclosures, parts.key_binding_jwt) == ("a.b.c", (), None)
    parts = split("a.b.c~D1~D2~d.e.f")
    assert (parts.issuer_jwt, parts.disclosures, parts.key_binding_jwt) == ("a.b.c", ("D1", "D2"), "d.e.f")
    assert parts.sd_jwt == "a.b.c~D1~D2~"


@pytest.mark.parametrize(
    "text",
    ["", "a.b.c", "~", "~D1~", "a.b.c~~", "a.b.c~D1~~", "a.b.c~D.1~", "a.b.c~D=~", "a.b.c~D1~d.e.f~", "a.b.c~ ~"],
)
def test_55_56_other_forms_are_refused(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        split(text)
    assert _reason(caught) is Reason.MALFORMED


def test_presentation_of_64_kib_is_split_and_one_character_more_is_not() -> None:
    text = f"a.b.c~{'A' * 5_949}~" + f"{'A' * 8_192}~" * 7 + "A" * 2_229
    assert len(text) == 65_536
    assert len(split(text).disclosures) == 8
    with pytest.raises(Rejected) as caught:
        split(f"{text}A")
    assert _reason(caught) is Reason.TOO_LARGE


@given(st.text(alphabet="aA0-_.~= \n{é", max_size=40))
@settings(max_examples=500, deadline=None)
def test_whatever_is_split_comes_together_again(text: str) -> None:
    try:
        parts = split(text)
    except Rejected:
        return
    assert "~".join((parts.issuer_jwt, *parts.disclosures, parts.key_binding_jwt or "")) == text


def test_digest_is_over_the_characters_of_the_disclosure() -> None:
    text = "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0"
    assert digest(text, SHA_256) == "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0"


# -- processing -------------------------------------------------------------------------------------------------------


def test_payload_is_left_as_it_was() -> None:
    attempt = Attempt.credential()
    before = copy.deepcopy(attempt.payload)
    process(attempt.payload, attempt.disclosures, SHA_256)
    assert attempt.payload == before


def test_77_object_of_nothing_but_decoys_becomes_empty() -> None:
    assert process({"a": {"_sd": [hashed("decoy")]}, "_sd": [], "_sd_alg": "sha-256"}, (), SHA_256) == {"a": {}}


def test_array_inside_an_array_is_processed() -> None:
    inner = disclosure(salt(0), "x")
    outer = disclosure(salt(1), ["y", {"...": hashed(inner)}])
    payload = {"a": [[{"...": hashed(outer)}], {"b": [{"...": hashed("decoy")}]}]}
    assert process(payload, (inner, outer), SHA_256) == {"a": [[["y", "x"]], {"b": []}]}


def test_depth_of_claims_is_bounded() -> None:
    value: Any = 1
    for _ in range(15):
        value = [value]
    assert process({"a": value}, (), SHA_256) == {"a": value}
    with pytest.raises(Rejected) as caught:
        process({"a": [value]}, (), SHA_256)
    assert _reason(caught) is Reason.TOO_LARGE


CLAIM_NAMES = st.text(max_size=4).filter(lambda name: name not in {"_sd", "..."})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CLAIM_NAMES, inner, max_size=3),
    max_leaves=12,
)
NAMES = st.sampled_from(["_sd", "...", "_sd_alg", "a", "b"])
DIGESTS = st.sampled_from([hashed(disclosure(salt(0), "a", 1)), hashed(disclosure(salt(1), {"_sd": []})), "x", "y"])
HOSTILE = st.recursive(
    DIGESTS | st.lists(DIGESTS, max_size=3) | st.none() | st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, HOSTILE, max_size=4), st.lists(HOSTILE, max_size=3))
@settings(max_examples=400, deadline=None)
def test_processing_ends_in_claims_or_in_a_rejection(payload: dict[str, Any], contents: list[Any]) -> None:
    disclosures = [disclosure(salt(0), "a", 1), disclosure(salt(1), {"_sd": []})]
    disclosures += [disclosure(*content) for content in contents if isinstance(content, list)]
    try:
        claims = process(payload, disclosures, SHA_256)
    except Rejected:
        return
    assert not {"_sd", "...", "_sd_alg"} & set(_names(claims))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from _names(inner)
    if isinstance(value, list):
        for inner in value:
            yield from _names(inner)


# -- issuing ----------------------------------------------------------------------------------------------------------


def test_issued_claims_are_seen_again() -> None:
    assert _seen(_issued()) == CLAIMS


def test_what_is_disclosable_is_not_in_clear() -> None:
    payload = _payload(_issued())
    assert payload.keys() == {"iss", "nationalities", "_sd", "_sd_alg"}
    assert payload["nationalities"][0] == "CHN"
    assert payload["nationalities"][1].keys() == {"..."}


def test_digests_do_not_keep_the_order_of_the_claims() -> None:
    digests = _payload(_issued())["_sd"]
    assert digests == sorted(digests)


def test_decoys_cannot_be_told_from_digests_and_change_nothing() -> None:
    sd_jwt = _issued(decoys=3)
    assert len(_payload(sd_jwt)["_sd"]) == 3 + 3
    assert {len(text) for text in _payload(sd_jwt)["_sd"]} == {43}
    assert _seen(sd_jwt) == CLAIMS


def test_credential_with_nothing_to_disclose_has_no_machinery() -> None:
    sd_jwt = issue(CLAIMS, (), salts=_salts(), signer=ISSUER_KEY, typ="dc+sd-jwt")
    assert split(sd_jwt).disclosures == ()
    assert _payload(sd_jwt) == CLAIMS


@pytest.mark.parametrize(
    ("claims", "paths", "salts"),
    [
        (CLAIMS, {("nobody",)}, _salts()),
        (CLAIMS, {("nationalities", 2)}, _salts()),
        (CLAIMS, {("name", "first")}, _salts()),
        ({"_sd": []}, {}, _salts()),
        ({"a": {"...": "x"}}, {}, _salts()),
        ({"_sd_alg": "sha-256"}, {}, _salts()),
        (CLAIMS, {("name",)}, iter(["short"])),
    ],
    ids=[
        "unknown name",
        "unknown element",
        "name inside a text",
        "claim named _sd",
        "claim named ...",
        "claim named _sd_alg",
        "salt under 128 bits",
    ],
)
def test_mistaken_issuance_is_refused(claims: dict[str, Any], paths: set[Path], salts: Iterator[str]) -> None:
    with pytest.raises(ValueError, match=r"path|reserved|salt"):
        issue(claims, paths, salts=salts, signer=ISSUER_KEY, typ="dc+sd-jwt")


def _places(value: Any, path: Path = ()) -> Iterator[Path]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in inner:
        yield (*path, name)
        yield from _places(below, (*path, name))


def _without(value: Any, hidden: frozenset[Path], path: Path = ()) -> Any:
    """The claims without what is hidden, worked out without digests."""
    if isinstance(value, dict):
        return {
            name: _without(below, hidden, (*path, name)) for name, below in value.items() if (*path, name) not in hidden
        }
    if isinstance(value, list):
        return [
            _without(below, hidden, (*path, index)) for index, below in enumerate(value) if (*path, index) not in hidden
        ]
    return value


@given(st.dictionaries(CLAIM_NAMES, JSON, max_size=4), st.data())
@settings(max_examples=150, deadline=None)
def test_any_claims_are_hidden_and_seen_again(claims: dict[str, Any], data: st.DataObject) -> None:
    places = list(_places(claims))
    paths = frozenset(data.draw(st.lists(st.sampled_from(places), max_size=6))) if places else frozenset()
    disclosable = frozenset(place for place in paths if sum(place[:i] in paths for i in range(len(place))) < 8)
    sd_jwt = issue(claims, disclosable, salts=_salts(), signer=ISSUER_KEY, typ="dc+sd-jwt")
    assert _seen(sd_jwt) == claims
    assert _seen(select_disclosures(sd_jwt, lambda _: False)) == _without(claims, disclosable)


# -- holding ----------------------------------------------------------------------------------------------------------


def _shown(*names: str | int) -> dict[str, Any]:
    return _seen(select_disclosures(_issued(), lambda path: path[-1] in names))


def test_holder_shows_what_it_chooses() -> None:
    assert _shown() == {"iss": CLAIMS["iss"], "nationalities": ["CHN"]}
    assert _shown("name") == {"iss": CLAIMS["iss"], "nationalities": ["CHN"], "name": "徐某"}
    assert _shown(1)["nationalities"] == ["CHN", "XXX"]


def test_parents_come_along_and_children_do_not() -> None:
    assert _shown("number")["address"] == {"street": {"name": "南京路", "number": 1}}
    assert _shown("address")["address"] == {"street": {"name": "南京路"}}


def test_presentation_is_bound_to_its_transaction() -> None:
    attempt = Attempt.credential()
    credential = attempt.without_binding().text()
    presentation = present(
        credential,
        lambda path: path == ("verified_claims", "claims", "name"),
        signer=HOLDER_KEY,
        audience=SERVICE,
        nonce=attempt.nonce,
        issued_at=NOW,
    )
    accepted = attempt.judge(presentation)
    assert accepted.attributes == {"name": "徐某"}
    assert accepted.holder_bound


def test_holder_refuses_a_credential_that_somebody_bound_already() -> None:
    with pytest.raises(Rejected) as caught:
        select_disclosures(Attempt.credential().text(), lambda _: True)
    assert _reason(caught) is Reason.MALFORMED


def test_holder_refuses_a_credential_with_a_disclosure_nobody_signed_for() -> None:
    with pytest.raises(Rejected) as caught:
        select_disclosures(f"{_issued()}{disclosure(salt(99), 'n', 'x')}~", lambda _: True)
    assert _reason(caught) is Reason.DISCLOSURE_INVALID


def test_holder_refuses_a_bare_jwt() -> None:
    with pytest.raises(Rejected) as caught:
        select_disclosures(sign_compact("dc+sd-jwt", CLAIMS, ISSUER_KEY), lambda _: True)
    assert _reason(caught) is Reason.MALFORMED


def test_made_proof_names_no_key() -> None:
    presentation = present(_issued(), lambda _: True, signer=HOLDER_KEY, audience=SERVICE, nonce="n", issued_at=NOW)
    jws = parse_compact(split(presentation).key_binding_jwt or "", max_chars=4_096)
    assert jws.header.kid is None
    assert verify(jws, holder_key({"jwk": dict(HOLDER_KEY.public.jwk)}))["nonce"] == "n"


def test_disclosures_are_readable_json() -> None:
    contents = [parse_json(b64url_decode(text)) for text in split(_issued()).disclosures]
    assert {len(content) for content in contents} == {2, 3}
