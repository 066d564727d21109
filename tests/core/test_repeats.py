"""An acceptance is one that was logged before only if nothing differs but what has to."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from gateway.core.entries import SealedEntry, Verification, blinded, seal, verification_entry
from gateway.core.repeats import REPEAT_WITHIN, is_repeat, remembered

NOW: Final = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)
FIRST: Final = Verification(
    verification_id="first",
    decided_at=NOW,
    service="service",
    caller_certificate="certificate",
    matter="matter",
    verdict="accepted",
    reason="",
    issuer="issuer",
    kid="kid",
    charter_version=1,
    charter_sha256="charter",
    view_id="view",
    request_id="case-1",
    terminal="window-1",
    consent_id="consent",
    replay="nonce",
    released=("name",),
    actor_released=("name",),
    duration=10,
    findings={"format": 1},
)


def sealed(verification: Verification, person: str = "xu", actor: str = "he") -> SealedEntry:
    name = verification.verification_id
    referred = replace(verification, person=blinded(person, name), actor=blinded(actor, name))
    return seal(verification_entry(referred), person=person, actor=actor)


def asked_again(again: SealedEntry, first: bytes) -> bool:
    return is_repeat("question", again, remembered("question", first), first)


def is_first(person: str = "xu", actor: str = "he", **changes: Any) -> bool:
    """Whether what is decided once more, with these changes, is the first decision."""
    again = sealed(replace(FIRST, verification_id="again", **changes), person, actor)
    return asked_again(again, sealed(FIRST).raw)


MAY_DIFFER: Final[dict[str, Any]] = {
    "duration": 99,
    "view_id": "a newer view",
    "findings": {"format": 1, "status_issued_at": 7},
    "caller_certificate": "of another host",
}
MUST_AGREE: Final[dict[str, Any]] = {
    "service": "another",
    "matter": "another",
    "verdict": "rejected",
    "reason": "REPLAYED",
    "issuer": "another",
    "kid": "another",
    "charter_version": 2,
    "charter_sha256": "another",
    "request_id": "case-2",
    "terminal": "window-2",
    "consent_id": "another",
    "person": "another",
    "actor": "another",
    "replay": "another",
    "released": ("name", "id_number"),
    "actor_released": (),
}


def test_every_member_of_an_entry_is_known_to_agree_or_to_be_free_to_differ() -> None:
    known = {*MAY_DIFFER, *MUST_AGREE, "verification_id", "decided_at"}
    assert known == {each.name for each in fields(Verification)}


@pytest.mark.parametrize("name", MAY_DIFFER)
def test_what_hangs_on_when_and_where_it_is_decided_may_differ(name: str) -> None:
    assert is_first(**{name: MAY_DIFFER[name]})


@pytest.mark.parametrize("name", MUST_AGREE)
def test_nothing_else_may(name: str) -> None:
    assert not is_first(**{name: MUST_AGREE[name]})


@pytest.mark.parametrize(
    ("late", "repeated"),
    [
        (REPEAT_WITHIN, True),
        (REPEAT_WITHIN + MILLISECOND, False),
        (-REPEAT_WITHIN, True),
        (-REPEAT_WITHIN - MILLISECOND, False),
    ],
    ids=str,
)
def test_it_is_asked_within_a_minute_whichever_clock_is_ahead(late: timedelta, repeated: bool) -> None:
    assert is_first(decided_at=NOW + late) is repeated


def test_a_refusal_is_not_repeated() -> None:
    refused = replace(FIRST, verdict="rejected", reason="CONSENT_WITHDRAWN")
    assert not asked_again(sealed(replace(refused, verification_id="again")), sealed(refused).raw)


@pytest.mark.parametrize("raw", [b"", b"{}", sealed(FIRST).raw[:-1], b"\xff"], ids=["nothing", "none", "cut", "bytes"])
def test_what_cannot_be_read_is_not_repeated(raw: bytes) -> None:
    assert not asked_again(sealed(replace(FIRST, verification_id="again")), raw)


def test_only_the_same_question_with_a_name_repeats_an_entry_that_is_as_it_was() -> None:
    again, first = sealed(replace(FIRST, verification_id="again")), sealed(FIRST).raw
    other = sealed(replace(FIRST, view_id="another view")).raw
    assert is_repeat("question", again, remembered("question", first), first)
    assert not is_repeat("another", again, remembered("question", first), first)
    assert not is_repeat("", again, remembered("", first), first)
    assert not is_repeat("question", again, remembered("question", first), other)
