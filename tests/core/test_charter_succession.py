"""From one charter to the next: the root rules of TUF, as one table (facts/federation.md section 3; cases 131 to 133).

The rows are those of TUF's conformance suite for key rotation and what goes with it: rollback, expiry, duplicates. Two
numbers differ, because a charter is stricter than a TUF root. There are four provinces and each has one anchor, and a
quorum is more than half of the anchors. So TUF's "3 of 5" is 3 of 4 here, its "threshold 1 of 3 raised to 2 of 3" is 2
of 3 raised to 3 of 3, and its "1 of 2 raised to 2 of 2" is 1 of 1 raised to 2 of 2. A threshold counts anchors, not
keys: where TUF rotates a key of one role, an anchor lists another key.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest

from gateway.core.charter import (
    CHARTER_TYP,
    Charter,
    continuing_anchors,
    draft,
    parse_charter,
    require_unexpired,
    verify_pinned,
    verify_successor,
)
from gateway.core.encoding import b64url_encode, sha256_b64url, write_json
from gateway.core.jose import Algorithm, SoftwareKey, generate_key, protected_header
from gateway.core.reasons import Reason
from tests.core.charters import LIFETIME, START, anchor_claims, charter_claims
from tests.core.tokens import reason_of

SOON = START + timedelta(days=1)
LATE = START + 3 * LIFETIME


@cache
def key(name: str) -> SoftwareKey:
    """The key of that name: ``sh`` is Shanghai's first, ``sh2`` the one that follows it."""
    return generate_key(Algorithm.ED25519)


@dataclass(frozen=True, kw_only=True)
class Version:
    """One charter, written the way people speak of it."""

    anchors: str
    """``sh js2 zj+zj2``: each anchor by its keys; ``js=sh`` is the anchor of js with the key of sh."""
    quorum: int
    signed: str = ""
    lacking: str = ""
    """Signatures for want of which it is refused, with QUORUM_NOT_MET; with them it is accepted."""
    wrong: Mapping[str, Any] = field(default_factory=dict)
    """Claims for which it is refused, with CHARTER_INVALID; without them it is accepted."""
    issued: datetime = START

    def document(self, before: Charter | None) -> str:
        claims = charter_claims(
            [_anchor(each) for each in self.anchors.split()],
            quorum=self.quorum,
            version=1 if before is None else before.version + 1,
            prev_sha256=None if before is None else before.sha256,
            issued_at=self.issued,
        )
        return _signed({**claims, **self.wrong}, [key(name) for name in self.signed.split()])


def _anchor(spelt: str) -> dict[str, Any]:
    province, _, keys = spelt.rpartition("=")
    return anchor_claims(province or keys[:2], *(key(name) for name in keys.split("+")))


def _signed(claims: Mapping[str, Any], signers: Sequence[SoftwareKey]) -> str:
    """Sign as told: also what is no charter, also twice with one key."""
    payload = b64url_encode(write_json(claims))
    entries = []
    for signer in signers:
        header = protected_header(CHARTER_TYP, signer)
        signature = b64url_encode(signer.sign(f"{header}.{payload}".encode()))
        entries.append({"protected": header, "signature": signature})
    return json.dumps({"payload": payload, "signatures": entries})


def trusted(version: Version) -> Charter:
    document = version.document(None)
    return verify_pinned(document, parse_charter(document).unverified.sha256)


def walk(versions: Sequence[Version]) -> Charter:
    charter = trusted(versions[0])
    for version in versions[1:]:
        charter = verify_successor(charter, version.document(charter))
    return charter


ONE = Version(anchors="sh", quorum=1, signed="sh")
TWO = Version(anchors="sh js", quorum=2, signed="sh js")
TWO_OF_THREE = Version(anchors="sh js zj", quorum=2, signed="sh js zj")
THREE_OF_THREE = replace(TWO_OF_THREE, quorum=3)
FOUR = Version(anchors="sh js zj ah", quorum=3, signed="sh js zj ah")
ONE_ROTATED = Version(anchors="sh js zj ah2", quorum=3)
ALL_ROTATED = Version(anchors="sh2 js2 zj2 ah2", quorum=3)
SAME = replace(TWO_OF_THREE, signed="sh js zj")

ROTATIONS: dict[str, tuple[Version, ...]] = {
    # TUF's table, adapted.
    "1 of 1, key rotated": (
        ONE,
        Version(anchors="sh2", quorum=1, signed="sh2 sh"),
        Version(anchors="sh2", quorum=1, signed="sh2"),
    ),
    "1 of 1, key rotated, strangers signed too": (
        replace(ONE, signed="zj sh ah"),
        Version(anchors="sh2", quorum=1, signed="zj sh2 sh ah"),
        Version(anchors="sh2", quorum=1, signed="zj sh2 ah"),
    ),
    "1 of 1, key rotated, not signed with the old": (
        ONE,
        Version(anchors="sh2", quorum=1, signed="zj sh2 ah", lacking="sh"),
    ),
    "1 of 1, key rotated, not signed with the new": (
        ONE,
        Version(anchors="sh2", quorum=1, signed="zj sh ah", lacking="sh2"),
    ),
    "3 of 4, signed by others each time": (
        replace(FOUR, signed="sh js zj"),
        replace(FOUR, signed="sh js ah"),
        replace(FOUR, signed="ah zj js"),
    ),
    "3 of 4, one key rotated": (FOUR, replace(ONE_ROTATED, signed="sh js ah ah2")),
    "3 of 4, one key rotated, its owner does not sign": (FOUR, replace(ONE_ROTATED, signed="sh js zj")),
    "3 of 4, one key rotated, with intermediate step": (
        FOUR,
        replace(ONE_ROTATED, signed="sh js ah ah2"),
        replace(ONE_ROTATED, signed="sh js ah2"),
    ),
    "3 of 4, one key rotated by way of a charter with both": (
        FOUR,
        Version(anchors="sh js zj ah+ah2", quorum=3, signed="sh js ah"),
        replace(ONE_ROTATED, signed="sh js ah2"),
    ),
    "3 of 4, all keys rotated, with intermediate step": (
        FOUR,
        replace(ALL_ROTATED, signed="sh js zj sh2 js2 zj2"),
        replace(ALL_ROTATED, signed="js2 zj2 ah2"),
    ),
    "3 of 4, all keys rotated by way of a charter with both": (
        FOUR,
        Version(anchors="sh+sh2 js+js2 zj+zj2 ah+ah2", quorum=3, signed="sh js zj"),
        replace(ALL_ROTATED, signed="sh2 js2 zj2"),
    ),
    "3 of 4, one key rotated, fewer than 3 of the new": (
        FOUR,
        replace(ONE_ROTATED, signed="sh js ah", lacking="ah2"),
    ),
    "3 of 4, one key rotated, fewer than 3 of the old": (
        FOUR,
        replace(ONE_ROTATED, signed="sh js ah2", lacking="ah"),
    ),
    "3 of 4, all keys rotated, fewer than 3 of the new": (
        FOUR,
        replace(ALL_ROTATED, signed="sh js zj ah sh2 js2", lacking="ah2"),
    ),
    "3 of 4, all keys rotated, fewer than 3 of the old": (
        FOUR,
        replace(ALL_ROTATED, signed="sh js sh2 js2 zj2 ah2", lacking="zj"),
    ),
    "3 of 4, all keys rotated, the intermediate step left out": (
        FOUR,
        replace(ALL_ROTATED, signed="sh2 js2 zj2 ah2", lacking="sh js zj"),
    ),
    "threshold up from 2 to 3 of 3": (TWO_OF_THREE, replace(THREE_OF_THREE, signed="sh js zj")),
    "threshold up from 1 of 1 to 2 of 2": (ONE, replace(TWO, signed="sh js")),
    "threshold up, the new one unmet": (TWO_OF_THREE, replace(THREE_OF_THREE, signed="sh js", lacking="zj")),
    "threshold down from 3 to 2 of 3": (
        THREE_OF_THREE,
        replace(TWO_OF_THREE, signed="sh js zj"),
        replace(TWO_OF_THREE, signed="zj js"),
    ),
    "threshold down from 2 of 2 to 1 of 1": (TWO, replace(ONE, signed="sh js")),
    "threshold down, the old one unmet": (THREE_OF_THREE, replace(TWO_OF_THREE, signed="sh js", lacking="zj")),
    # Anchors that come, go, and lose their keys.
    "nobody signed": (TWO_OF_THREE, replace(SAME, signed="", lacking="sh js")),
    "strangers alone signed": (TWO_OF_THREE, replace(SAME, signed="sh2 js2 ah", lacking="sh js")),
    "an anchor added": (TWO_OF_THREE, replace(FOUR, signed="sh js ah")),
    "an anchor added, the newcomer counted for the old quorum": (
        TWO_OF_THREE,
        replace(FOUR, signed="sh ah", lacking="js"),
    ),
    "an anchor removed": (FOUR, replace(THREE_OF_THREE, quorum=2, signed="sh js ah")),
    "an anchor removed, the leaver counted for the new quorum": (
        FOUR,
        replace(THREE_OF_THREE, signed="sh js ah", lacking="zj"),
    ),
    "an anchor replaced, each side completing a quorum": (
        TWO_OF_THREE,
        Version(anchors="sh js ah", quorum=2, signed="sh zj ah"),
    ),
    "a lost anchor replaced without it, then heard again": (
        FOUR,
        replace(ONE_ROTATED, signed="sh js zj"),
        replace(ONE_ROTATED, signed="sh js ah2"),
    ),
    "a lost anchor replaced, its old key counted for the new quorum": (
        FOUR,
        replace(ONE_ROTATED, signed="sh js ah", lacking="zj"),
    ),
    "two of four anchors lost at once": (
        FOUR,
        Version(anchors="sh js zj2 ah2", quorum=3, signed="sh js zj2 ah2", lacking="zj"),
    ),
    # One anchor and one key count once.
    "one key signs twice": (TWO_OF_THREE, replace(SAME, signed="sh sh", lacking="js")),
    "one anchor signs with both its keys": (
        TWO_OF_THREE,
        Version(anchors="sh+sh2 js zj", quorum=2, signed="sh sh2", lacking="js"),
    ),
    "one anchor signs with a key of each charter": (
        TWO_OF_THREE,
        Version(anchors="sh2 js zj", quorum=2, signed="sh sh2", lacking="js"),
    ),
    "a key moves to another anchor, and counts for its owner of each time": (
        TWO_OF_THREE,
        Version(anchors="sh=js js=js2 zj=zj2", quorum=2, signed="js sh", lacking="js2"),
    ),
    "a key is listed twice by its anchor": (
        TWO_OF_THREE,
        replace(SAME, wrong={"anchors": [_anchor("sh+sh"), _anchor("js"), _anchor("zj")]}),
    ),
    "a key is listed by two anchors": (
        TWO_OF_THREE,
        replace(SAME, wrong={"anchors": [_anchor("sh"), _anchor("js=sh"), _anchor("zj")]}),
    ),
    "an anchor is listed twice": (
        TWO_OF_THREE,
        replace(SAME, wrong={"anchors": [_anchor("sh"), _anchor("sh=sh2"), _anchor("zj")]}),
    ),
    "a threshold of 0": (TWO_OF_THREE, replace(SAME, wrong={"quorum": 0})),
    "a threshold of half": (FOUR, replace(FOUR, wrong={"quorum": 2})),
    # Exactly one step, forward.
    "case 131: two versions at once": (TWO_OF_THREE, replace(SAME, wrong={"version": 3})),
    "the same version again": (TWO_OF_THREE, SAME, replace(SAME, wrong={"version": 2})),
    "back by one version": (TWO_OF_THREE, SAME, SAME, replace(SAME, wrong={"version": 2})),
    "back to the first": (TWO_OF_THREE, SAME, replace(SAME, wrong={"version": 1, "prev_sha256": None})),
    "upon a predecessor of another digest": (
        TWO_OF_THREE,
        replace(SAME, wrong={"prev_sha256": sha256_b64url(b"another")}),
    ),
    # Expiry on the way does not matter.
    "case 133: every charter but the last has expired": (
        TWO_OF_THREE,
        replace(SAME, issued=START + LIFETIME),
        replace(SAME, issued=LATE - timedelta(days=1)),
    ),
    "a successor issued before the charter it follows": (TWO_OF_THREE, replace(SAME, issued=START - LIFETIME)),
}


@pytest.mark.parametrize("versions", ROTATIONS.values(), ids=ROTATIONS)
def test_charters_follow_each_other_by_the_rules_of_tuf(versions: tuple[Version, ...]) -> None:
    *way, last = versions
    current = walk(way)
    if last.lacking:
        assert reason_of(verify_successor, current, last.document(current)) is Reason.QUORUM_NOT_MET
    if last.wrong:
        assert reason_of(verify_successor, current, last.document(current)) is Reason.CHARTER_INVALID
    mended = replace(last, signed=f"{last.signed} {last.lacking}", wrong={})
    document = mended.document(current)
    charter = verify_successor(current, document)
    assert (charter.version, charter.prev_sha256, charter.document) == (len(versions), current.sha256, document)


@pytest.mark.parametrize("versions", [each for each in ROTATIONS.values() if each[-1].lacking])
def test_each_signature_that_is_lacking_is_needed(versions: tuple[Version, ...]) -> None:
    *way, last = versions
    current = walk(way)
    lacking = last.lacking.split()
    for given in itertools.combinations(lacking, len(lacking) - 1):
        short = replace(last, signed=f"{last.signed} {' '.join(given)}")
        assert reason_of(verify_successor, current, short.document(current)) is Reason.QUORUM_NOT_MET


def test_a_charter_that_was_passed_already_is_refused_as_it_is() -> None:
    first = trusted(TWO_OF_THREE)
    second = verify_successor(first, SAME.document(first))
    third = verify_successor(second, SAME.document(second))
    for passed in (first, second, third):
        assert reason_of(verify_successor, third, passed.document) is Reason.CHARTER_INVALID


EXPIRY = {
    "good": (LATE - timedelta(days=1), False),
    "good for one second more": (LATE - LIFETIME + timedelta(seconds=1), False),
    "expired this second": (LATE - LIFETIME, True),
    "expired long ago": (START + LIFETIME, True),
}


@pytest.mark.parametrize(("issued", "expired"), EXPIRY.values(), ids=EXPIRY)
def test_case_133_only_the_charter_one_stops_at_must_be_unexpired(issued: datetime, expired: bool) -> None:
    arrived = walk((TWO_OF_THREE, SAME, replace(SAME, issued=issued)))
    assert arrived.version == 3
    if expired:
        assert reason_of(require_unexpired, arrived, LATE) is Reason.EXPIRED
    else:
        require_unexpired(arrived, LATE)


def test_second_charter_of_one_version_is_another_charter() -> None:
    # With quorums over half, two charters of one version need an anchor that signed both: proof against it.
    current = trusted(TWO_OF_THREE)
    one, other = (
        parse_charter(replace(SAME, signed=signed, issued=issued).document(current)).unverified
        for signed, issued in (("sh js", START), ("js zj", SOON))
    )
    assert one.version == other.version
    assert one.sha256 != other.sha256


CONTINUING = {
    "the same": ("sh js zj", "sh js zj"),
    "sh js2 zj": ("sh zj", "sh js zj"),
    "sh js+js2 zj": ("sh js zj", "sh js zj"),
    "sh js zj ah": ("sh js zj", "sh js zj"),
    "sh js": ("sh js", "sh js zj"),
    "sh=js js=sh zj": ("zj", "sh js zj"),
    "sh2 js2 zj2": ("", "sh js zj"),
}


@pytest.mark.parametrize("anchors", CONTINUING)
def test_anchors_continue_by_a_key_that_both_charters_list(anchors: str) -> None:
    expected, before = CONTINUING[anchors]
    old, new = (
        parse_charter(Version(anchors=each, quorum=len(each.split())).document(None)).unverified
        for each in (before, before if anchors == "the same" else anchors)
    )
    assert [anchor.province.code for anchor in continuing_anchors(old, new)] == expected.split()


def test_drafts_of_the_table_are_what_authors_write() -> None:
    claims = charter_claims([_anchor("sh+sh2"), _anchor("js")])
    assert parse_charter(_signed(claims, [])).signed.decoded == draft(claims)
