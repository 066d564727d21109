"""What people are shown before they sign a charter."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.charter import Charter, parse_charter
from gateway.core.charter_diff import CautionKind, cautions, diff
from gateway.core.jose import SoftwareKey
from tests.core.charters import KEYS, SPARE, anchor_claims, charter_claims, delete_at, member_claims, set_at, sign


def charter(claims: dict[str, Any]) -> Charter:
    return parse_charter(sign(claims)).unverified


def changes(path: tuple[str | int, ...], value: object) -> list[str]:
    claims = charter_claims()
    set_at(claims, path, value)
    return [str(change) for change in diff(charter(charter_claims()), charter(claims))]


def test_charter_does_not_differ_from_itself() -> None:
    assert diff(charter(charter_claims()), charter(charter_claims())) == ()


def test_order_spelling_and_signatures_do_not_show() -> None:
    claims = charter_claims()
    claims["anchors"].reverse()
    claims["members"].reverse()
    reordered = dict(reversed(claims.items()))
    assert diff(charter(charter_claims()), parse_charter(sign(reordered, *KEYS.values())).unverified) == ()


CHANGED: dict[str, tuple[tuple[str | int, ...], object, str]] = {
    "a quorum": (("quorum",), 3, "~ quorum: 2 -> 3"),
    "an anchor's province": (
        ("anchors", 2, "province"),
        "ah",
        "~ anchors[https://anchor.zj.example].province: zj -> ah",
    ),
    "entity types": (
        ("members", 0, "entity_types"),
        ["recognition_gateway", "identity_credential_issuer"],
        (
            "~ members[https://sh.example].entity_types: identity_credential_issuer"
            " -> identity_credential_issuer recognition_gateway"
        ),
    ),
    "a level": (
        ("agreement", "matters", 0, "min_assurance", "aal"),
        1,
        "~ agreement.matters[HK-QY].min_assurance.authenticator: 2 -> 1",
    ),
    "a flag": (
        ("agreement", "matters", 0, "key_binding"),
        False,
        "~ agreement.matters[HK-QY].key_binding: yes -> no",
    ),
    "a span": (("agreement", "stale_grace_seconds"), 60, "~ agreement.stale_grace: 3600 s -> 60 s"),
    "claims": (
        ("agreement", "matters", 0, "required_claims"),
        [],
        "~ agreement.matters[HK-QY].required_claims: name -> none",
    ),
    "algorithms": (
        ("agreement", "issuers", 0, "algorithms"),
        [{"name": "ES256", "sunset": None}],
        "- agreement.issuers[https://sh.example].algorithms[Ed25519]: no sunset",
    ),
    "a sunset": (
        ("agreement", "issuers", 0, "algorithms", 1, "sunset"),
        1_800_000_000,
        "~ agreement.issuers[https://sh.example].algorithms[Ed25519]: no sunset -> 2027-01-15T08:00:00+00:00",
    ),
    "a step of the scale": (
        ("agreement", "levels", 1, "floor", "ial"),
        3,
        "~ agreement.levels[2].floor.identity: 2 -> 3",
    ),
    "words": (
        ("agreement", "terms", "name", "en"),
        "full name",
        "~ agreement.terms[name].en: name -> full name",
    ),
    "consent": (
        ("agreement", "matters", 0, "consent"),
        {"zh": "同意书", "en": "consent"},
        "~ agreement.matters[HK-QY].consent: none -> {zh: 同意书, en: consent}",
    ),
    "retention": (
        ("agreement", "matters", 0, "retention_seconds"),
        0,
        "~ agreement.matters[HK-QY].retention: 3600 s -> 0 s",
    ),
    "a new acr": (
        ("agreement", "issuers", 0, "equivalence", "urn:yrd:loa:1"),
        {"ial": 1, "aal": 1, "fal": 1},
        (
            "+ agreement.issuers[https://sh.example].equivalence[urn:yrd:loa:1]:"
            " {identity: 1, authenticator: 1, federation: 1}"
        ),
    ),
    "a time": (("exp",), 1_800_000_000, "~ expires_at: 2027-02-21T00:00:00+00:00 -> 2027-01-15T08:00:00+00:00"),
}


@pytest.mark.parametrize(("path", "value", "line"), CHANGED.values(), ids=CHANGED)
def test_change_is_one_line(path: tuple[str | int, ...], value: object, line: str) -> None:
    assert changes(path, value) == [line]


def test_new_key_of_an_anchor_is_shown_by_its_thumbprint() -> None:
    claims = charter_claims([anchor_claims("sh", KEYS["sh"], SPARE), anchor_claims("js"), anchor_claims("zj")])
    (change,) = diff(charter(charter_claims()), charter(claims))
    assert (change.before, change.after) == (None, "Ed25519")
    assert change.path == f"anchors[https://anchor.sh.example].keys[{SPARE.public.thumbprint}]"


def test_replaced_anchor_is_one_gone_and_one_new() -> None:
    claims = charter_claims([anchor_claims("sh"), anchor_claims("js"), anchor_claims("ah")])
    gone, new = diff(charter(charter_claims()), charter(claims))
    assert (gone.path, gone.after) == ("anchors[https://anchor.zj.example]", None)
    assert (new.path, new.before) == ("anchors[https://anchor.ah.example]", None)
    assert KEYS["ah"].public.thumbprint in str(new)
    assert str(gone).startswith("- ")


def test_new_member_is_written_out() -> None:
    lines = changes(("members", "..."), member_claims("js", "recognition_gateway"))
    assert lines == [
        (
            "+ members[https://gateway.js.example]: {entity_id: https://gateway.js.example, province: js,"
            " entity_types: recognition_gateway, name_zh: 示例机构, name_en: Example authority}"
        )
    ]


def test_removed_acr_is_shown() -> None:
    claims = charter_claims()
    delete_at(claims, ("agreement", "issuers", 0, "equivalence", "urn:yrd:loa:3"))
    (change,) = diff(charter(charter_claims()), charter(claims))
    assert change.after is None
    assert change.path == "agreement.issuers[https://sh.example].equivalence[urn:yrd:loa:3]"


# -- what to mind -----------------------------------------------------------------------------------------------------

GAP, SPARE_NONE, ADDED, DROPPED = (
    CautionKind.RECOGNITION_GAP,
    CautionKind.NO_ANCHOR_TO_SPARE,
    CautionKind.ANCHOR_ADDED,
    CautionKind.ANCHOR_KEY_DROPPED,
)
THREE = ("sh", "js", "zj")


def step(*provinces: str, quorum: int = 2, **keys: tuple[SoftwareKey, ...]) -> set[CautionKind]:
    """What to mind about the step from sh, js, zj with their keys, two of three, to these."""
    old = charter(charter_claims([anchor_claims(code) for code in THREE]))
    new = charter(charter_claims([anchor_claims(code, *keys.get(code, ())) for code in provinces], quorum=quorum))
    return {each.kind for each in cautions(old, new)}


def test_nothing_is_to_be_minded_when_nothing_changes() -> None:
    assert step(*THREE) == set()
    assert cautions(None, charter(charter_claims())) == ()


def test_an_anchor_that_joins_has_to_vouch_first() -> None:
    assert step(*THREE, "ah", quorum=3) == {ADDED}


def test_an_anchor_may_go_while_enough_continue() -> None:
    assert step("sh", "js", quorum=2) == {SPARE_NONE}
    assert step("sh", "js", "ah") == {ADDED}


def test_too_few_that_continue_leave_a_gap() -> None:
    assert step("sh", "ah") == {ADDED, GAP, SPARE_NONE}
    assert step(*THREE, js=(SPARE,), zj=(KEYS["ah"],)) == {ADDED, GAP}
    assert step(*THREE, "ah", quorum=4) == {ADDED, GAP, SPARE_NONE}


def test_a_key_is_added_without_a_gap_and_dropped_after_it_has_ceased_to_sign() -> None:
    assert step(*THREE, js=(KEYS["js"], SPARE)) == set()
    old = charter(charter_claims([anchor_claims("sh"), anchor_claims("js", KEYS["js"], SPARE), anchor_claims("zj")]))
    new = charter(charter_claims([anchor_claims("sh"), anchor_claims("js", SPARE), anchor_claims("zj")]))
    (caution,) = cautions(old, new)
    assert (caution.kind, caution.subject) == (DROPPED, "https://anchor.js.example")
    assert SPARE.public.kid in caution.detail


def test_members_that_come_and_go_are_named() -> None:
    claims = charter_claims()
    claims["members"][1] = member_claims("js", "recognition_gateway")
    found = cautions(charter(charter_claims()), charter(claims))
    assert [(each.kind, each.subject) for each in found] == [
        (CautionKind.MEMBER_ADDED, "https://gateway.js.example"),
        (CautionKind.MEMBER_REMOVED, "https://gateway.ah.example"),
    ]


def test_an_issuer_without_terms_is_named() -> None:
    claims = charter_claims()
    claims["members"].append(member_claims("js", "identity_credential_issuer"))
    (found,) = cautions(None, charter(claims))
    assert (found.kind, found.subject) == (CautionKind.ISSUER_WITHOUT_TERMS, "https://js.example")
