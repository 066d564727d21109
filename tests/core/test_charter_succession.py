"""From one charter to the next: the root rules of TUF (facts/federation.md section 3; cases 131 to 133)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.core.charter import Charter, parse_charter, require_unexpired, verify_pinned, verify_successor
from gateway.core.encoding import sha256_b64url, write_json
from gateway.core.jose import Algorithm, SoftwareKey, generate_key
from gateway.core.reasons import Reason
from tests.core.charters import KEYS, LIFETIME, START, anchor_claims, charter_claims, sign
from tests.core.tokens import reason_of

OLD = KEYS
NEW = {province: generate_key(Algorithm.ED25519) for province in KEYS}


@dataclass(frozen=True)
class Electorate:
    """Anchors and quorum of one charter; each anchor with one key."""

    quorum: int
    keys: tuple[tuple[str, SoftwareKey], ...]

    def claims(self, **changes: Any) -> dict[str, Any]:
        return charter_claims([anchor_claims(name, key) for name, key in self.keys], quorum=self.quorum, **changes)


def electorate(quorum: int, old: str, new: str = "") -> Electorate:
    return Electorate(
        quorum, (*((name, OLD[name]) for name in old.split()), *((name, NEW[name]) for name in new.split()))
    )


def trusted(voters: Electorate) -> Charter:
    claims = voters.claims()
    return verify_pinned(sign(claims, *(key for _, key in voters.keys)), sha256_b64url(write_json(claims)))


def successor(current: Charter, voters: Electorate, *signers: SoftwareKey, **changes: Any) -> str:
    return sign(voters.claims(**{"version": current.version + 1, "prev_sha256": current.sha256} | changes), *signers)


def signers(old: str = "", new: str = "") -> list[SoftwareKey]:
    return [OLD[name] for name in old.split()] + [NEW[name] for name in new.split()]


TWO_OF_THREE = electorate(2, "sh js zj")
THREE_OF_THREE = electorate(3, "sh js zj")
REKEYED = electorate(2, "", "sh js zj")

ACCEPTED = {
    "the same anchors, signed by a quorum": (TWO_OF_THREE, TWO_OF_THREE, signers("sh zj")),
    "the same anchors, signed by all": (TWO_OF_THREE, TWO_OF_THREE, signers("sh js zj")),
    "one anchor replaced, signed by those that stay": (TWO_OF_THREE, electorate(2, "sh js ah"), signers("sh js")),
    "one anchor replaced, each side completing a quorum": (
        TWO_OF_THREE,
        electorate(2, "sh js ah"),
        signers("sh zj ah"),
    ),
    "one key rotated": (TWO_OF_THREE, electorate(2, "sh js", "zj"), signers("sh js")),
    "one key rotated, its owner signing with both": (
        TWO_OF_THREE,
        electorate(2, "sh js", "zj"),
        signers("sh zj", "zj"),
    ),
    "every key rotated, signed by both quorums": (TWO_OF_THREE, REKEYED, signers("sh js", "js zj")),
    "an anchor added": (TWO_OF_THREE, electorate(3, "sh js zj ah"), signers("sh js ah")),
    "an anchor removed": (electorate(3, "sh js zj ah"), TWO_OF_THREE, signers("sh js ah")),
    "quorum raised from 2 to 3, signed by 3": (TWO_OF_THREE, THREE_OF_THREE, signers("sh js zj")),
    "quorum lowered from 3 to 2, signed by 3": (THREE_OF_THREE, TWO_OF_THREE, signers("sh js zj")),
}

REFUSED = {
    "signed by nobody": (TWO_OF_THREE, TWO_OF_THREE, signers()),
    "signed by one": (TWO_OF_THREE, TWO_OF_THREE, signers("sh")),
    "signed by strangers": (TWO_OF_THREE, TWO_OF_THREE, signers("", "sh js zj")),
    "case 132: every key rotated, signed by the old keys only": (TWO_OF_THREE, REKEYED, signers("sh js zj")),
    "case 132: every key rotated, signed by the new keys only": (TWO_OF_THREE, REKEYED, signers("", "sh js zj")),
    "case 132: every key rotated, one old signature missing": (TWO_OF_THREE, REKEYED, signers("sh", "sh js zj")),
    "case 132: every key rotated, one new signature missing": (TWO_OF_THREE, REKEYED, signers("sh js zj", "sh")),
    "case 132: quorum raised from 2 to 3, signed by 2": (TWO_OF_THREE, THREE_OF_THREE, signers("sh js")),
    "case 132: quorum lowered from 3 to 2, signed by 2": (THREE_OF_THREE, TWO_OF_THREE, signers("sh js")),
    "an anchor added, the newcomer counted for the old quorum": (
        TWO_OF_THREE,
        electorate(3, "sh js zj ah"),
        signers("sh ah"),
    ),
    "an anchor removed, the leaver counted for the new quorum": (
        electorate(3, "sh js zj ah"),
        electorate(3, "sh js zj"),
        signers("sh js ah"),
    ),
}


@pytest.mark.parametrize(("old", "new", "by"), ACCEPTED.values(), ids=ACCEPTED)
def test_step_is_accepted(old: Electorate, new: Electorate, by: list[SoftwareKey]) -> None:
    current = trusted(old)
    document = successor(current, new, *by)
    charter = verify_successor(current, document)
    assert (charter.version, charter.prev_sha256, charter.document) == (2, current.sha256, document)


@pytest.mark.parametrize(("old", "new", "by"), REFUSED.values(), ids=REFUSED)
def test_step_without_both_quorums_is_refused(old: Electorate, new: Electorate, by: list[SoftwareKey]) -> None:
    current = trusted(old)
    assert reason_of(verify_successor, current, successor(current, new, *by)) is Reason.QUORUM_NOT_MET


def test_key_that_moves_to_another_anchor_counts_for_its_owner_of_each_time() -> None:
    # One holder, one vote on either side: never two on one.
    current = trusted(TWO_OF_THREE)
    moved = Electorate(2, (("sh", OLD["js"]), ("js", NEW["js"]), ("zj", NEW["zj"])))
    assert (
        reason_of(verify_successor, current, successor(current, moved, OLD["js"], OLD["sh"])) is Reason.QUORUM_NOT_MET
    )
    assert verify_successor(current, successor(current, moved, OLD["js"], OLD["sh"], NEW["js"])).version == 2


BY_ALL = signers("sh js zj")
BAD_STEPS: dict[str, dict[str, Any]] = {
    "case 131: two versions at once": {"version": 3},
    "the same version again": {"version": 1, "prev_sha256": None},
    "a predecessor of another digest": {"prev_sha256": sha256_b64url(b"another")},
}


@pytest.mark.parametrize("changes", BAD_STEPS.values(), ids=BAD_STEPS)
def test_step_is_refused(changes: dict[str, Any]) -> None:
    current = trusted(TWO_OF_THREE)
    assert verify_successor(current, successor(current, TWO_OF_THREE, *BY_ALL)).version == 2
    document = successor(current, TWO_OF_THREE, *BY_ALL, **changes)
    assert reason_of(verify_successor, current, document) is Reason.CHARTER_INVALID


def test_step_back_is_refused() -> None:
    first = trusted(TWO_OF_THREE)
    second = verify_successor(first, successor(first, TWO_OF_THREE, *BY_ALL))
    assert reason_of(verify_successor, second, first.document) is Reason.CHARTER_INVALID


def test_step_to_itself_is_refused() -> None:
    first = trusted(TWO_OF_THREE)
    assert reason_of(verify_successor, first, first.document) is Reason.CHARTER_INVALID


def walk(start: datetime, *issued: datetime) -> Charter:
    """Versions 1, 2, ... each issued at its time and living as long as all charters here."""
    charter = trusted(TWO_OF_THREE)
    assert charter.issued_at == start
    for moment in issued:
        charter = verify_successor(charter, successor(charter, TWO_OF_THREE, *BY_ALL, issued_at=moment))
    return charter


def test_case_133_expired_charters_on_the_way_do_not_stop_a_gateway_that_catches_up() -> None:
    now = START + 3 * LIFETIME
    arrived = walk(START, START + LIFETIME, START + 2.5 * LIFETIME)
    require_unexpired(arrived, now)
    assert arrived.version == 3


def test_gateway_does_not_stop_at_an_expired_charter() -> None:
    now = START + 3 * LIFETIME
    assert reason_of(require_unexpired, walk(START, START + LIFETIME), now) is Reason.EXPIRED
    assert reason_of(require_unexpired, walk(START, now - LIFETIME), now) is Reason.EXPIRED
    require_unexpired(walk(START, now - LIFETIME + timedelta(seconds=1)), now)


def test_second_charter_of_one_version_is_another_charter() -> None:
    # With quorums over half, two charters of one version need an anchor that signed both: proof against it.
    current = trusted(TWO_OF_THREE)
    one = parse_charter(successor(current, TWO_OF_THREE, *signers("sh js")))
    other = parse_charter(successor(current, TWO_OF_THREE, *signers("js zj"), issued_at=START + LIFETIME))
    assert one.unverified.version == other.unverified.version
    assert one.unverified.sha256 != other.unverified.sha256
