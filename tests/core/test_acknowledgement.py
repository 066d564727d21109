"""What a gateway says it enforces, and whose word that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.core import jose
from gateway.core.acknowledgement import ACKNOWLEDGEMENT_TYPE, MAX_AGE, MAX_CHARS, make, read
from gateway.core.encoding import parse_json_object
from gateway.core.jose import SoftwareKey, generate_key, sign_compact
from gateway.core.reasons import Reason
from gateway.core.statements import TYP
from gateway.core.trust import TrustView
from tests.core.papers import (
    ANCHORS,
    GATEWAY,
    HOUR,
    JIANGSU,
    MINUTE,
    NOW,
    SECOND,
    SHANGHAI,
    Papers,
    compromised,
    key_of,
    reason_of,
    superseded,
)


@pytest.fixture(scope="module")
def papers() -> Papers:
    return Papers()


@pytest.fixture(scope="module")
def view(papers: Papers) -> TrustView:
    return papers.view()


def signed(
    view: TrustView,
    *,
    gateway: str = GATEWAY,
    at: Any = NOW,
    signer: SoftwareKey | None = None,
    typ: str = ACKNOWLEDGEMENT_TYPE,
    change: Callable[[dict[str, Any]], object] = dict,
) -> str:
    claims = make(view, gateway, at)
    change(claims)
    return sign_compact(typ, claims, signer or key_of(gateway))


def test_what_is_made_is_read(papers: Papers, view: TrustView) -> None:
    said = read(signed(view), view, NOW)
    assert (said.gateway, said.issued_at, said.charter_version, said.view_id) == (GATEWAY, NOW, 1, view.view_id)
    assert said.keys[SHANGHAI] == {papers.credential_keys[SHANGHAI][0].public.kid}
    assert said.federation_keys[GATEWAY] == {papers.federation_keys[GATEWAY].public.thumbprint}
    assert said.federation_keys.keys() == papers.federation_keys.keys()
    assert said.refused == {}
    assert said.anchor_keys == {key.public.kid for key in papers.anchor_keys.values()}


def test_it_says_what_is_refused_and_only_what_is_still_accepted(papers: Papers, view: TrustView) -> None:
    lost, old = (papers.credential_keys[issuer][0].public.kid for issuer in (SHANGHAI, JIANGSU))
    revoking = papers.view(revocations={(SHANGHAI, lost): compromised(), (JIANGSU, old): superseded()})
    said = read(signed(revoking), view, NOW)
    assert said.refused == {SHANGHAI: {lost}, JIANGSU: {old}}
    assert said.keys[SHANGHAI] == frozenset()
    assert said.keys[JIANGSU] == {old}
    late = NOW + 2 * HOUR
    assert read(signed(view, at=late), view, late).keys[JIANGSU] == frozenset()


REFUSED: Mapping[str, tuple[Mapping[str, Any], Reason]] = {
    "by a key that nobody attests": ({"signer": generate_key()}, Reason.KEY_UNKNOWN),
    "trap 17: by another gateway's key": ({"signer": key_of("https://gateway.sh.mrg.example")}, Reason.KEY_UNKNOWN),
    "from an issuer": ({"gateway": SHANGHAI}, Reason.ISSUER_UNKNOWN),
    "from a stranger": (
        {"gateway": "https://gateway.gd.mrg.example", "signer": key_of(GATEWAY)},
        Reason.ISSUER_UNKNOWN,
    ),
    "from a stranger, by its own key": ({"gateway": "https://gateway.gd.mrg.example"}, Reason.KEY_UNKNOWN),
    "of another type": ({"typ": TYP}, Reason.TYPE_MISMATCH),
    "from the future": ({"at": NOW + MINUTE + SECOND}, Reason.NOT_YET_VALID),
    "too old": ({"at": NOW - MAX_AGE - SECOND}, Reason.EXPIRED),
}


@pytest.mark.parametrize(("options", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_whose_word_it_is_and_when_is_checked(view: TrustView, options: Mapping[str, Any], reason: Reason) -> None:
    token = signed(view, **options)
    assert reason_of(lambda: read(token, view, NOW)) is reason


@pytest.mark.parametrize("at", [NOW + MINUTE, NOW - MAX_AGE])
def test_the_clocks_of_two_gateways_differ_a_little(view: TrustView, at: Any) -> None:
    assert read(signed(view, at=at), view, NOW).issued_at == at


def test_a_key_that_only_two_anchors_attest_signs_no_acknowledgement() -> None:
    papers, fresh = Papers(), key_of("fresh federation key")
    for anchor in ANCHORS[:2]:
        papers.say(anchor, GATEWAY, federation=[papers.federation_keys[GATEWAY], fresh])
    view = papers.view()
    token = signed(view, signer=fresh)
    assert reason_of(lambda: read(token, view, NOW)) is Reason.KEY_UNKNOWN
    papers.say(ANCHORS[2], GATEWAY, federation=[papers.federation_keys[GATEWAY], fresh])
    assert read(token, papers.view(), NOW).gateway == GATEWAY


BROKEN: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "no time": lambda claims: claims.pop("iat"),
    "a time that is no number": lambda claims: claims.update(iat=True),
    "no charter": lambda claims: claims.pop("charter_version"),
    "no view": lambda claims: claims.pop("view_id"),
    "a view with spaces": lambda claims: claims.update(view_id="a b"),
    "no keys": lambda claims: claims.pop("keys"),
    "keys in a list": lambda claims: claims.update(keys=[]),
    "keys of one issuer in an object": lambda claims: claims.update(keys={SHANGHAI: {}}),
    "too many keys": lambda claims: claims.update(keys={SHANGHAI: ["A" * 43] * 65}),
    "a key that is no text": lambda claims: claims.update(keys={SHANGHAI: [1]}),
    "a key that is no name": lambda claims: claims.update(keys={SHANGHAI: ["../key"]}),
    "too many issuers": lambda claims: claims.update(refused={f"https://{n}": [] for n in range(401)}),
    "an issuer that is too long": lambda claims: claims.update(refused={"x" * 600: []}),
    "no anchors": lambda claims: claims.pop("anchor_keys"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_malformed_is_refused(view: TrustView, change: Callable[[dict[str, Any]], object]) -> None:
    token = signed(view, change=change)
    assert reason_of(lambda: read(token, view, NOW)) is Reason.STATEMENT_INVALID


def test_it_is_bounded(view: TrustView) -> None:
    assert reason_of(lambda: read("x" * (MAX_CHARS + 1), view, NOW)) is Reason.TOO_LARGE
    assert len(signed(view)) < MAX_CHARS / 10


def test_a_thiefs_inventions_do_not_make_it_too_long(papers: Papers) -> None:
    known = {(GATEWAY, key_of("a gateway's lost key").public.kid): replace(compromised(), attested=True)}
    invented = {
        (issuer, f"{number:043}"): compromised() for issuer in papers.federation_keys for number in range(1_024)
    }
    view = papers.view(revocations={**invented, **known})
    said = read(signed(view), view, NOW)
    assert said.refused[GATEWAY] >= {kid for _, kid in known}


@pytest.mark.parametrize("signer", [generate_key(), None], ids=["an unknown key", "a known key, signed otherwise"])
def test_the_claims_are_not_read_before_it_is_known_whose_they_are(
    view: TrustView, monkeypatch: pytest.MonkeyPatch, signer: SoftwareKey | None
) -> None:
    token = signed(view, signer=signer)
    read_so_far: list[bytes] = []

    def noting(raw: bytes, *limits: Any) -> Any:
        read_so_far.append(raw)
        return parse_json_object(raw, *limits)

    monkeypatch.setattr(jose, "parse_json_object", noting)
    parts = token.split(".")
    spoiled = ".".join([*parts[:2], parts[2][:20] + ("A" if parts[2][20] != "A" else "B") + parts[2][21:]])
    expected = {Reason.KEY_UNKNOWN} if signer else {Reason.SIGNATURE_INVALID}
    assert {reason_of(lambda: read(spoiled, view, NOW))} == expected
    assert all(b"anchor_keys" not in raw for raw in read_so_far)


def test_a_gateway_whose_trust_is_stale_says_so_by_what_it_leaves_out(view: TrustView) -> None:
    at = NOW + timedelta(minutes=9)
    assert all(read(signed(view, at=at), view, at).keys.values())
