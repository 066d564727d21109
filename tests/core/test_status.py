"""What became of a credential, as part of the verdict (credentials.md 93-109, seen from the presentation)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from gateway.core.findings import Step
from gateway.core.jose import Algorithm, generate_key
from gateway.core.reasons import Reason
from gateway.core.status_list import MIN_ENTRIES, StatusList
from tests.core.presentations import (
    ISSUER,
    NOW,
    OTHER_ISSUER,
    STATUS_KEY,
    STATUS_LIST,
    Attempt,
    Change,
    Trusted,
    all_of,
    demanding,
    making,
    setting,
)

INDEX: Final = 6
LAST: Final = MIN_ENTRIES - 1


def entries(status: int = 0, index: int = INDEX, bits: int = 2) -> bytes:
    raw = bytearray(MIN_ENTRIES * bits // 8)
    raw[index * bits >> 3] |= status << (index * bits & 7)
    return bytes(raw)


def held(**changes: Any) -> StatusList:
    usual: dict[str, Any] = {
        "uri": STATUS_LIST,
        "issuer": ISSUER,
        "kid": STATUS_KEY.public.kid,
        "seq": 1,
        "issued_at": NOW - timedelta(seconds=100),
        "expires_at": NOW + timedelta(hours=1),
        "ttl": timedelta(seconds=300),
        "bits": 2,
        "entries": entries(),
        "sha256": "s" * 43,
    }
    return StatusList(**{**usual, **changes})


def credential(index: object = INDEX, uri: object = STATUS_LIST) -> Attempt:
    """An accepted credential whose status is good, and demanded."""
    attempt = Attempt.credential()
    attempt.payload["status"] = {"status_list": {"idx": index, "uri": uri}}
    attempt.view.issuers[ISSUER].status_lists[STATUS_LIST] = MIN_ENTRIES
    attempt.lists[STATUS_LIST] = held()
    attempt.matter = replace(attempt.matter, status_required=True, max_status_age=timedelta(minutes=15))
    return attempt


def test_a_good_status_is_accepted_and_noted() -> None:
    attempt = credential()
    assert attempt.is_accepted()
    findings = attempt.findings
    assert (findings.status_list, findings.status, findings.status_issued_at) == (
        STATUS_LIST,
        0,
        NOW - timedelta(seconds=100),
    )


def test_99_the_last_place_of_a_list_counts() -> None:
    assert credential(index=LAST).is_accepted()


STATUSES: Final = {1: Reason.CREDENTIAL_REVOKED, 2: Reason.CREDENTIAL_SUSPENDED, 3: Reason.ATTRIBUTES_STALE}


@pytest.mark.parametrize(("status", "reason"), STATUSES.items())
def test_104_a_status_that_is_not_good_has_a_reason_of_its_own(status: int, reason: Reason) -> None:
    attempt = credential()
    attempt.lists[STATUS_LIST] = held(entries=entries(status))
    assert attempt.refusal() is reason
    assert attempt.findings.step is Step.STATUS


def test_the_neighbours_status_is_nobody_elses() -> None:
    for neighbour in (INDEX - 1, INDEX + 1):
        attempt = credential()
        attempt.lists[STATUS_LIST] = held(entries=entries(1, neighbour))
        assert attempt.is_accepted()


def test_105_the_first_entry_is_in_the_lowest_bits() -> None:
    one_bit = {"bits": 1, "entries": entries(1, 1, 1)}
    attempt = credential(index=1)
    attempt.lists[STATUS_LIST] = held(**one_bit)
    assert attempt.refusal() is Reason.CREDENTIAL_REVOKED
    attempt = credential(index=6)
    attempt.lists[STATUS_LIST] = held(**one_bit)
    assert attempt.is_accepted()


REFERENCES: Final[Mapping[str, tuple[object, object]]] = {
    "98 a negative index": (-1, STATUS_LIST),
    "98 a number with a fraction": (6.5, STATUS_LIST),
    "98 a text": ("6", STATUS_LIST),
    "98 true": (True, STATUS_LIST),
    "98 null": (None, STATUS_LIST),
    "98 the length of the list": (MIN_ENTRIES, STATUS_LIST),
    "98 2^53 - 1": (2**53 - 1, STATUS_LIST),
    "109 a list on this machine": (INDEX, "http://127.0.0.1/status/list-1"),
    "109 a file": (INDEX, "file:///etc/passwd"),
    "109 a list in other case": (INDEX, STATUS_LIST.upper()),
    "109 the list with a slash behind": (INDEX, f"{STATUS_LIST}/"),
    "109 the list with a query": (INDEX, f"{STATUS_LIST}?x"),
    "a list without name": (INDEX, ""),
    "a number as name": (INDEX, 7),
}


@pytest.mark.parametrize(("index", "uri"), REFERENCES.values(), ids=REFERENCES.keys())
def test_a_reference_that_leads_nowhere_is_refused(index: object, uri: object) -> None:
    assert credential(index=index, uri=uri).refusal() is Reason.STATUS_INVALID


def test_a_list_of_the_issuer_that_is_not_attested_says_nothing() -> None:
    # 109: no connection, and never accepted. But the anchors may attest it a moment later.
    assert credential(uri=f"{ISSUER}/status/list-2").indecision() is Reason.STATUS_UNAVAILABLE


@pytest.mark.parametrize(
    "status", [{}, {"other": {}}, {"status_list": None}, {"status_list": []}, "x", None, []], ids=str
)
def test_108_a_status_without_list_is_refused(status: object) -> None:
    attempt = credential()
    attempt.payload["status"] = status
    assert attempt.refusal() is Reason.STATUS_INVALID


def test_another_issuers_list_says_nothing() -> None:
    attempt = credential(uri=f"{OTHER_ISSUER}/status/list-1")
    attempt.view.issuers[OTHER_ISSUER].status_lists[f"{OTHER_ISSUER}/status/list-1"] = MIN_ENTRIES
    attempt.lists[f"{OTHER_ISSUER}/status/list-1"] = held(issuer=OTHER_ISSUER)
    assert attempt.refusal() is Reason.STATUS_INVALID


UNKNOWN: Final[Mapping[str, Mapping[str, StatusList]]] = {
    "no list is held": {},
    "106 the list has lapsed": {STATUS_LIST: held(expires_at=NOW)},
    "the list is of a time to come": {STATUS_LIST: held(issued_at=NOW + timedelta(seconds=61))},
    "the list is older than the matter allows": {STATUS_LIST: held(issued_at=NOW - timedelta(minutes=15, seconds=1))},
    "the list is signed by a key that nobody trusts now": {STATUS_LIST: held(kid="k" * 43)},
    "the list is held in another issuer's name": {STATUS_LIST: held(issuer=OTHER_ISSUER)},
}


@pytest.mark.parametrize("lists", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_where_nothing_is_known_the_verdict_is_indeterminate(lists: Mapping[str, StatusList]) -> None:
    attempt = credential()
    attempt.lists = dict(lists)
    assert attempt.indecision() is Reason.STATUS_UNAVAILABLE
    # Also where the matter could do without: what names a status is judged by it.
    attempt.matter = replace(attempt.matter, status_required=False)
    assert attempt.indecision() is Reason.STATUS_UNAVAILABLE


def test_a_list_just_young_enough_counts() -> None:
    attempt = credential()
    attempt.lists[STATUS_LIST] = held(issued_at=NOW - timedelta(minutes=15))
    assert attempt.is_accepted()


def test_what_a_superseded_key_signed_before_counts_and_not_after() -> None:
    attempt = credential()
    attempt.view.status_keys[ISSUER, STATUS_KEY.public.kid].signed_before = NOW
    assert attempt.is_accepted()
    attempt.view.status_keys[ISSUER, STATUS_KEY.public.kid].signed_before = NOW - timedelta(seconds=100)
    assert attempt.indecision() is Reason.STATUS_UNAVAILABLE


def test_a_list_counts_until_the_sunset_of_its_algorithm_and_not_after() -> None:
    attempt = credential()
    key = generate_key(Algorithm.ED25519).public
    attempt.view.status_keys[ISSUER, key.kid] = Trusted(key)
    attempt.lists[STATUS_LIST] = held(kid=key.kid)
    # The credential's own algorithm is another, and has no sunset.
    attempt.view.with_terms(algorithms={Algorithm.ES256: None, Algorithm.ED25519: NOW + timedelta(seconds=1)})
    assert attempt.is_accepted()
    attempt.view.with_terms(algorithms={Algorithm.ES256: None, Algorithm.ED25519: NOW})
    assert attempt.indecision() is Reason.STATUS_UNAVAILABLE
    attempt.view.with_terms(algorithms={Algorithm.ES256: None})
    assert attempt.indecision() is Reason.STATUS_UNAVAILABLE


def test_108_a_credential_without_status_where_one_is_demanded_is_refused() -> None:
    attempt = credential()
    del attempt.payload["status"]
    assert attempt.refusal() is Reason.STATUS_MISSING
    attempt.matter = replace(attempt.matter, status_required=False)
    assert attempt.is_accepted()


def test_an_assertion_where_a_status_is_demanded_is_refused() -> None:
    attempt = Attempt.assertion()
    assert attempt.is_accepted()
    attempt.matter = replace(attempt.matter, status_required=True)
    assert attempt.refusal() is Reason.STATUS_MISSING


EARLIER: Final[Mapping[str, tuple[Change, Reason]]] = {
    "expired": (all_of(making(now=NOW + timedelta(days=2))), Reason.EXPIRED),
    "signed by a stranger": (making(header={"kid": "s" * 43}), Reason.KEY_UNKNOWN),
    "of a type the matter does not take": (
        demanding(credential_types=frozenset({"urn:other"})),
        Reason.CREDENTIAL_TYPE_NOT_ACCEPTED,
    ),
    "with an assurance nobody knows": (setting(acr="urn:other"), Reason.ASSURANCE_UNKNOWN),
}


@pytest.mark.parametrize(("change", "reason"), EARLIER.values(), ids=EARLIER.keys())
def test_107_what_is_refused_anyway_is_refused_whatever_its_status(change: Change, reason: Reason) -> None:
    for lists in ({}, {STATUS_LIST: held(entries=entries(1))}):
        attempt = credential()
        attempt.lists = dict(lists)
        change(attempt)
        assert attempt.refusal() is reason
        assert attempt.findings.status is None
