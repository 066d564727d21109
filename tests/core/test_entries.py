"""An entry has one spelling, says nothing about a person, and is looked up by what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.entries import (
    MAX_ENTRY_BYTES,
    MAX_RUNS,
    MIN_RETENTION,
    Entry,
    EntryIndex,
    Erasure,
    Keep,
    Kind,
    SealedEntry,
    TrustChange,
    Verification,
    blinded,
    consent_entry,
    contradictions,
    credential_entries,
    index,
    instant,
    log_entry,
    milliseconds,
    read,
    read_erasure,
    read_verification,
    retention_entry,
    runs_of,
    seal,
    trust_entry,
    verification_entry,
)
from gateway.core.reasons import Reason, Rejected
from tests.core.tokens import mutated, seeded, survives

NOW = datetime(2026, 11, 23, 1, 0, 0, 123_000, tzinfo=UTC)
VERIFICATION = Verification(
    verification_id="mK2pQ7hTz0yV5sXa9bRw3g",
    decided_at=NOW,
    service="https://gateway.ah.mrg.example/services/counter",
    caller_certificate="c" * 43,
    matter="HK-QY",
    verdict="accepted",
    reason="",
    issuer="https://issuer.sh.mrg.example",
    kid="k" * 43,
    charter_version=1,
    charter_sha256="s" * 43,
    view_id="v" * 22,
    request_id="case-1",
    terminal="window-3",
    person=blinded("p" * 43, "mK2pQ7hTz0yV5sXa9bRw3g"),
    actor=blinded("a" * 43, "mK2pQ7hTz0yV5sXa9bRw3g"),
    replay="r" * 43,
    released=("name",),
    actor_released=("name",),
    duration=412,
    findings={"format": 1, "step": 10},
)


def entries() -> Mapping[str, Entry]:
    """One of each kind."""
    return {
        "verification": verification_entry(VERIFICATION),
        "consent": consent_entry(at=NOW, consent_id="c", service="s", matter="m", event="recorded"),
        "credential": next(credential_entries(["c1"], "REVOKED", at=NOW, system="s")),
        "trust": trust_entry(TrustChange.KEY, at=NOW, subject="k", event="active", administrator="a", detail="d"),
        "dispute": Entry(kind=Kind.DISPUTE, at=NOW, entry_id="d", body={"verification_id": "v"}),
        "retention": retention_entry(Erasure(keep=Keep.SECURITY, before=NOW, positions=(range(3, 5),)), at=NOW),
        "log": log_entry(at=NOW, replaced="l", size=7, seen="m", seen_size=9),
    }


@pytest.mark.parametrize("entry", entries().values(), ids=entries().keys())
def test_what_is_written_is_read(entry: Entry) -> None:
    whom: dict[str, Any] = {"person": "p" * 43, "actor": "a" * 43} if entry.kind is Kind.VERIFICATION else {}
    sealed = seal(entry, **whom)
    assert read(sealed.raw) == entry
    assert sealed.index == index(entry)._replace(**whom)
    assert contradictions(sealed.raw, sealed.index) == ()


def test_two_entries_about_one_person_do_not_tell_so() -> None:
    def about(verification_id: str) -> SealedEntry:
        said = replace(
            VERIFICATION,
            verification_id=verification_id,
            person=blinded("p" * 43, verification_id),
            actor=blinded("a" * 43, verification_id),
        )
        return seal(verification_entry(said), person="p" * 43, actor="a" * 43)

    one, other = about("one"), about("other")
    assert (one.index.person, one.index.actor) == (other.index.person, other.index.actor)
    assert contradictions(one.raw, one.index) == contradictions(other.raw, other.index) == ()
    references = [read_verification(read(each.raw)) for each in (one, other)]
    assert len({each.person for each in references} | {each.actor for each in references}) == 4
    assert b"p" * 43 not in one.raw
    # And whoever hides a disclosure from the person is found out.
    assert contradictions(one.raw, one.index._replace(person="")) == ("person",)
    assert contradictions(one.raw, one.index._replace(actor="b" * 43)) == ("actor",)


def test_there_is_an_entry_of_every_kind() -> None:
    assert {entry.kind for entry in entries().values()} == set(Kind)


def test_a_verification_is_read_as_it_was() -> None:
    assert read_verification(read(seal(verification_entry(VERIFICATION)).raw)) == VERIFICATION
    bare = replace(VERIFICATION, request_id="", terminal="", person="", actor="", released=(), duration=0, findings={})
    assert read_verification(read(seal(verification_entry(bare)).raw)) == bare


def respelled(change: Callable[[dict[str, Any]], object], **options: Any) -> bytes:
    document = json.loads(seal(verification_entry(VERIFICATION)).raw)
    change(document)
    return json.dumps(
        document, **{"ensure_ascii": False, "separators": (",", ":"), "sort_keys": True, **options}
    ).encode()


NOT_CANONICAL: Mapping[str, bytes] = {
    "with a space": respelled(lambda _: None, separators=(", ", ":")),
    "in another order": respelled(lambda _: None, sort_keys=False)[::1].replace(b'{"at"', b'{"id":"x","at"', 1),
    "with escapes": respelled(lambda d: d["body"].update(terminal="窗口"), ensure_ascii=True),
    "with a member more": respelled(lambda d: d.update(more=1)),
    "without a member": respelled(lambda d: d.pop("id")),
    "of another format": respelled(lambda d: d.update(format=2)),
    "of a format that is true": respelled(lambda d: d.update(format=True)),
    "of a format that is a float": respelled(lambda d: d.update(format=1.0)),
    "of an unknown kind": respelled(lambda d: d.update(kind="gossip")),
    "of a kind that is no text": respelled(lambda d: d.update(kind=["verification"])),
    "with a time that is a float": respelled(lambda d: d.update(at=1.5)),
    "with a time that is true": respelled(lambda d: d.update(at=True)),
    "from before 1970": respelled(lambda d: d.update(at=-1)),
    "with an id that is a number": respelled(lambda d: d.update(id=7)),
    "with a body that is a list": respelled(lambda d: d.update(body=[])),
    "too long": respelled(lambda d: d["body"].update(findings={"x": "y" * MAX_ENTRY_BYTES})),
    "no JSON": b"{",
    "nothing": b"",
}


@pytest.mark.parametrize("raw", NOT_CANONICAL.values(), ids=NOT_CANONICAL.keys())
def test_another_spelling_is_no_entry(raw: bytes) -> None:
    with pytest.raises(Rejected) as refused:
        read(raw)
    assert refused.value.reason is Reason.LOG_ENTRY_INVALID
    held = seal(verification_entry(VERIFICATION)).index
    assert contradictions(raw, held) == ("entry",)


def test_whatever_the_bytes_are_they_are_read_or_refused() -> None:
    rng, raw = seeded(1_000), seal(verification_entry(VERIFICATION)).raw

    def look(changed: bytes) -> None:
        read_verification(read(changed))

    for _ in range(500):
        changed = mutated(raw, rng)
        survives(lambda changed=changed: look(changed))


NO_VERIFICATION: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "another member": lambda body: body.update(name="x"),
    "a verdict that is a number": lambda body: body.update(verdict=1),
    "a version that is a text": lambda body: body.update(charter_version="1"),
    "names that are no list": lambda body: body.update(released="name"),
    "names that are numbers": lambda body: body.update(released=[1]),
    "findings that are a list": lambda body: body.update(findings=[]),
}


@pytest.mark.parametrize("change", NO_VERIFICATION.values(), ids=NO_VERIFICATION.keys())
def test_an_entry_that_is_no_verification_is_not_taken_for_one(change: Callable[[dict[str, Any]], object]) -> None:
    body = dict(verification_entry(VERIFICATION).body)
    change(body)
    with pytest.raises(Rejected) as refused:
        read_verification(Entry(kind=Kind.VERIFICATION, at=NOW, entry_id="v", body=body))
    assert refused.value.reason is Reason.LOG_ENTRY_INVALID


def test_each_column_that_was_edited_is_named() -> None:
    sealed = seal(verification_entry(VERIFICATION), person="p" * 43, actor="a" * 43)
    for name in EntryIndex._fields:
        other: Any = 7 if name == "at" else "edited"
        assert contradictions(sealed.raw, sealed.index._replace(**{name: other})) == (name,)


def test_the_law_says_how_long_an_entry_is_kept() -> None:
    kept = {name: index(entry).keep for name, entry in entries().items()}
    assert kept == {
        "verification": "disclosure",
        "consent": "disclosure",
        "credential": "disclosure",
        "dispute": "disclosure",
        "trust": "permanent",
        "retention": "permanent",
        "log": "permanent",
    }
    refused = replace(VERIFICATION, verdict="rejected", reason="EXPIRED")
    assert index(verification_entry(refused)).keep == "security"
    assert MIN_RETENTION[Keep.SECURITY] >= timedelta(days=180)
    assert MIN_RETENTION[Keep.DISCLOSURE] >= timedelta(days=3 * 365)
    assert Keep.PERMANENT not in MIN_RETENTION


@given(st.integers(min_value=0, max_value=250_000_000_000_000))
def test_a_time_is_kept_to_the_millisecond(at: int) -> None:
    assert milliseconds(instant(at)) == at


# -- erasures ---------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(min_value=0, max_value=4_000)))
def test_what_was_erased_is_named_position_by_position(positions: set[int]) -> None:
    runs = runs_of(sorted(positions))
    named = [position for run in runs for position in run]
    assert named == sorted(positions)[: len(named)]
    assert len(runs) <= MAX_RUNS
    if len(named) < len(positions):
        assert len(runs) == MAX_RUNS
    erasure = Erasure(keep=Keep.SECURITY, before=NOW, positions=runs)
    assert read_erasure(read(seal(retention_entry(erasure, at=NOW)).raw)) == erasure
    assert erasure.count == len(named)


def test_as_many_runs_as_an_entry_names_fit_into_it() -> None:
    runs = runs_of(range(0, 2_000_000_000, 1_000_003))
    assert len(runs) == MAX_RUNS
    erasure = Erasure(keep=Keep.SECURITY, before=NOW, positions=runs)
    assert read_erasure(read(seal(retention_entry(erasure, at=NOW)).raw)) == erasure


NO_ERASURE: Mapping[str, Mapping[str, Any]] = {
    "of no class": {"keep": "forever"},
    "of a class that is no text": {"keep": ["security"]},
    "before no time": {"before": "then"},
    "before a time that never was": {"before": -1},
    "with steps that are no list": {"steps": "1,2"},
    "with half a step": {"steps": [1]},
    "with a step back": {"steps": [1, -1]},
    "with a step that is true": {"steps": [1, True]},
    "with too many steps": {"steps": [1] * (2 * MAX_RUNS + 2)},
    "with a member more": {"more": 1},
}


@pytest.mark.parametrize("change", NO_ERASURE.values(), ids=NO_ERASURE.keys())
def test_an_erasure_that_is_none_erases_nothing(change: Mapping[str, Any]) -> None:
    honest = retention_entry(Erasure(keep=Keep.SECURITY, before=NOW, positions=(range(3, 5),)), at=NOW)
    with pytest.raises(Rejected) as refused:
        read_erasure(replace(honest, body={**honest.body, **change}))
    assert refused.value.reason is Reason.LOG_ENTRY_INVALID
