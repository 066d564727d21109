"""Sequence numbers, digests, and what a snapshot may look like."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.charter import MAX_MEMBERS
from gateway.core.encoding import MAX_SAFE_INTEGER, sha256_b64url
from gateway.core.jose import parse_compact, sign_compact
from gateway.core.reasons import Reason
from gateway.core.snapshot import (
    MAX_JUMP,
    MAX_REASON_CHARS,
    Entry,
    Suspended,
    Vouched,
    Withdrawn,
    charter_claim,
    check_jump,
    payload_digest,
    read_seq,
    read_snapshot,
    snapshot_claim,
)
from gateway.core.statements import PROFILE, TYP, UnverifiedStatement, parse_statement
from tests.core.papers import ANCHORS, NOW, SHANGHAI, START, Papers, claims_of, reason_of

DIGEST = sha256_b64url(b"")
VOUCHED = Vouched(seq=1, sha256=DIGEST)
WITHDRAWN = Withdrawn(revoked_at=NOW, reason="closed")
SUSPENDED = Suspended(suspended_at=NOW, until=NOW + timedelta(hours=1), reason="under review")


@pytest.fixture(scope="module")
def papers() -> Papers:
    return Papers()


def head(papers: Papers, **claims: Any) -> UnverifiedStatement:
    return parse_statement(papers.head(ANCHORS[0], change=lambda made: made.update(claims)), PROFILE)


def test_what_is_written_is_read(papers: Papers) -> None:
    entries: Mapping[str, Entry] = {"https://c": VOUCHED, "https://a": WITHDRAWN, "https://b": SUSPENDED}
    claim = snapshot_claim(entries)
    assert list(claim["members"]) == sorted(entries)
    assert read_snapshot(head(papers, snapshot=claim)) == entries


def test_a_snapshot_of_as_many_members_as_a_charter_may_have_fits_one_statement(papers: Papers) -> None:
    entries = {
        f"https://issuer-{number:03}.province.government.example": Vouched(seq=START, sha256=DIGEST)
        for number in range(MAX_MEMBERS)
    }
    assert read_snapshot(head(papers, snapshot=snapshot_claim(entries))) == entries


BROKEN: Mapping[str, Any] = {
    "no object": [],
    "no members": {},
    "members in a list": {"members": []},
    "too many": {"members": {f"https://{n}": {"seq": 1, "sha256": DIGEST} for n in range(MAX_MEMBERS + 1)}},
    "an entry that is no object": {"members": {SHANGHAI: 1}},
    "an empty entry": {"members": {SHANGHAI: {}}},
    "a name that is too long": {"members": {"x" * 600: {"seq": 1, "sha256": DIGEST}}},
    "two things at once": {"members": {SHANGHAI: {"seq": 1, "sha256": DIGEST, "revoked_at": 1, "reason": ""}}},
    "more than was asked": {"members": {SHANGHAI: {"seq": 1, "sha256": DIGEST, "note": 1}}},
    "seq of zero": {"members": {SHANGHAI: {"seq": 0, "sha256": DIGEST}}},
    "seq of true": {"members": {SHANGHAI: {"seq": True, "sha256": DIGEST}}},
    "a short digest": {"members": {SHANGHAI: {"seq": 1, "sha256": "AAAA"}}},
    "a digest that is no text": {"members": {SHANGHAI: {"seq": 1, "sha256": 1}}},
    "a time that is no number": {"members": {SHANGHAI: {"revoked_at": "1", "reason": ""}}},
    "a time after time": {"members": {SHANGHAI: {"revoked_at": 253_402_300_800, "reason": ""}}},
    "a reason that is no text": {"members": {SHANGHAI: {"revoked_at": 1, "reason": 1}}},
    "a long reason": {"members": {SHANGHAI: {"revoked_at": 1, "reason": "x" * (MAX_REASON_CHARS + 1)}}},
    "a suspension without end": {"members": {SHANGHAI: {"suspended_at": 1, "reason": ""}}},
}


@pytest.mark.parametrize("claim", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_snapshot_is_refused_as_a_whole(papers: Papers, claim: Any) -> None:
    statement = head(papers, snapshot=claim)
    assert reason_of(lambda: read_snapshot(statement)) is Reason.SNAPSHOT_MISMATCH


@pytest.mark.parametrize("seq", [1, START, MAX_SAFE_INTEGER])
def test_a_number_is_read(papers: Papers, seq: int) -> None:
    assert read_seq(head(papers, seq=seq)) == seq


@pytest.mark.parametrize("seq", [None, 0, -1, True, 1.5, "1", [1]])
def test_case_125_what_is_no_number_is_refused(papers: Papers, seq: Any) -> None:
    statement = head(papers, seq=seq)
    assert reason_of(lambda: read_seq(statement)) is Reason.SEQUENCE_INVALID


@pytest.mark.parametrize("seq", [START + MAX_JUMP, START, 1])
def test_case_126_a_number_may_run_ahead_so_far(seq: int) -> None:
    check_jump(seq, NOW)
    assert reason_of(lambda: check_jump(START + MAX_JUMP + 1, NOW)) is Reason.SEQUENCE_INVALID


def test_case_122_a_digest_is_over_the_payload_alone(papers: Papers) -> None:
    token = papers.documents[ANCHORS[0], ANCHORS[0]]
    again = sign_compact(TYP, claims_of(token), papers.anchor_keys[ANCHORS[0]])
    assert again != token
    assert payload_digest(again) == payload_digest(token) == payload_digest(parse_statement(token, PROFILE))
    assert payload_digest(token) == sha256_b64url(parse_compact(token, max_chars=100_000).payload)
    assert payload_digest(papers.head(ANCHORS[0])) != payload_digest(token)
    assert reason_of(lambda: payload_digest("garbage")) is Reason.MALFORMED


def test_the_charter_claim_names_version_and_digest(papers: Papers) -> None:
    assert charter_claim(papers.charter) == {"version": 1, "sha256": papers.charter.sha256}
