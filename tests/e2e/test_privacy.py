"""Nothing about a person comes out but in the answer that is meant to hold it (facts/domain.md 1.5).

Unmistakable values go into every field of every request, for every kind of answer, at four real gateways. Then every
output is searched: logs, databases to the last byte, errors with their details, explanations, and what the commands
for operators show.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from recognition.v1 import issuance_pb2_grpc, verification_pb2

from gateway import issuer, verifier
from gateway.app import App
from gateway.config.reader import load_config
from gateway.core.encoding import b64url_encode
from gateway.core.entries import read, read_verification
from gateway.core.identifiers import Province
from gateway.lab.agreement import HUKOU_MIGRATION, NEWBORN_REGISTRATION
from gateway.lab.cast import HUKOU, IDENTITY
from gateway.logs import configure
from gateway.storage.sqlite_log import SqliteLog
from gateway.storage.sqlite_register import SqliteRegister
from tests.cli.ceremony import mrg
from tests.e2e.canaries import Canaries, files, forms
from tests.e2e.lab import AH, SH, RealFederation
from tests.e2e.privacy import ID_NUMBER, NAME, Person, tables
from tests.stores import file_of

EXPECTED = {
    *("ASSURANCE_TOO_LOW", "AUDIENCE_MISMATCH", "CONSENT_INVALID", "CONSENT_WITHDRAWN", "CREDENTIAL_REVOKED"),
    *("CREDENTIAL_SUSPENDED", "DISCLOSURE_INVALID", "ISSUER_UNKNOWN", "KEY_BINDING_INVALID", "KEY_BINDING_MISSING"),
    *("KEY_UNKNOWN", "MALFORMED", "NONCE_MISMATCH", "REPLAYED", "REQUIRED_CLAIM_MISSING", "SIGNATURE_INVALID"),
}


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFederation]:
    with RealFederation(tmp_path_factory.mktemp("privacy") / "lab", standby=False) as made:
        yield made


@pytest.fixture(scope="module")
def person(federation: RealFederation, canaries: Canaries) -> Person:
    """Somebody who has been everywhere."""
    came = Person(federation, canaries)
    came.come()
    return came


def leaks(canaries: Canaries, outputs: Iterator[tuple[str, bytes]]) -> list[tuple[str, list[str]]]:
    found = [(name, sorted(canaries.found(content))) for name, content in outputs]
    return [(name, what) for name, what in found if what]


# -- the search itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [NAME, ID_NUMBER, "v1.A-subject_that/is+given", 'quoted "twice"'])
def test_a_value_is_found_in_whatever_form(tmp_path: Path, value: str) -> None:
    canaries = Canaries()
    canaries.plant("it", value)
    for how, form in forms(value):
        (tmp_path / how).write_bytes(b"\0around" + form + b"around\xff")
    assert {name for name, _ in leaks(canaries, files(tmp_path))} == {how for how, _ in forms(value)}


def test_a_value_is_found_in_what_was_encoded_as_a_whole(tmp_path: Path) -> None:
    canaries = Canaries()
    canaries.plant("it", NAME)
    for around in ("", "a", "bc", "def"):
        whole = json.dumps({f"key{around}": NAME, "other": 1}, ensure_ascii=False).encode()
        for content in (whole.hex(), b64url_encode(whole)):
            assert canaries.found(content.encode())
    assert not canaries.found(b"something else, of no more than ordinary length")


def test_a_value_is_found_in_a_store(tmp_path: Path) -> None:
    canaries = Canaries()
    canaries.plant("it", NAME)
    with closing(sqlite3.connect(tmp_path / "s.sqlite")) as store:
        store.execute("CREATE TABLE t (v TEXT)")
        store.execute("INSERT INTO t VALUES (?)", (NAME,))
        store.commit()
    assert leaks(canaries, files(tmp_path)) == [("s.sqlite", ["it, as it is"])]


def test_what_is_handed_over_is_found_where_it_may_be(person: Person, canaries: Canaries) -> None:
    """The positive control: the search works on what is really sent, and the person really was accepted."""
    handed_over = frozenset().union(*(canaries.found(each.SerializeToString()) for each in person.accepted))
    for what in ("name", "ID number", "actor's name", "subject given out", "actor given out"):
        assert f"{what}, as it is" in handed_over


def test_every_answer_was_brought_about(person: Person, canaries: Canaries) -> None:
    assert person.heard.reasons >= EXPECTED
    assert person.heard.codes >= {"INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "UNIMPLEMENTED"}
    assert len(canaries.planted) > 40


# -- the outputs ------------------------------------------------------------------------------------------------------


def test_nothing_is_told_to_who_is_refused(person: Person, canaries: Canaries) -> None:
    assert leaks(canaries, iter(person.heard.outputs)) == []


def test_nothing_is_in_any_file(federation: RealFederation, person: Person, canaries: Canaries) -> None:
    written = dict(files(federation.folder.path))
    names = {Path(name).name for name in written}
    assert {"gateway.log", "gateway.sqlite", "gateway.sqlite-wal", "gateway.sqlite-shm"} <= names
    assert leaks(canaries, iter(written.items())) == []


def test_nothing_is_in_any_row(federation: RealFederation, person: Person, canaries: Canaries) -> None:
    """Whatever pages it may be spread over."""
    for province in Province:
        database = file_of(load_config(federation.folder.config(province)))
        rows = ((name, repr(row).encode()) for name, found in tables(database) for row in found)
        assert leaks(canaries, rows) == []


def test_commands_for_operators_show_nothing(federation: RealFederation, person: Person, canaries: Canaries) -> None:
    config, clock = federation.folder.config(AH), ("--lab-clock", federation.folder.clock)
    clients = {name: federation.folder.profile(AH, name) for name in (HUKOU, "admin-1")}
    identity = federation.folder.profile(SH, IDENTITY)
    ids = [row[5] for name, rows in tables(file_of(load_config(config))) if name == "entries" for row in rows if row[5]]
    assert len(ids) > len(EXPECTED)
    ended = [
        mrg("doctor", "--config", config, *clock),
        mrg("doctor", "--config", config, *clock, "--json"),
        mrg("trust", "show", "--config", config, *clock),
        mrg("trust", "show", "--config", config, *clock, "--json"),
        mrg("keys", "history", "--config", config),
        mrg("status", "lists", "--as", identity),
        mrg("status", "show", "--subject", person.local_subject, "--as", identity),
        mrg("status", "show", "--subject", person.local_subject, "--as", identity, "--json"),
        mrg("status", "revoke", "--subject", person.local_subject * 100, "--as", identity, "--verbose"),
        mrg("explain", ID_NUMBER, "--as", clients[HUKOU]),
        *(mrg("explain", ids[at], "--as", clients["admin-1"], "--json") for at in range(0, len(ids), 7)),
    ]
    shown = [(str(number), (each.out + each.err).encode()) for number, each in enumerate(ended)]
    assert all(content for _, content in shown)
    assert leaks(canaries, iter(shown)) == []


# -- bugs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(
    federation: RealFederation, person: Person, capsys: pytest.CaptureFixture[str]
) -> Iterator[pytest.CaptureFixture[str]]:
    """Run Anhui's gateway in this process, where bugs can be put into it."""
    settings, hooks = structlog.get_config(), (sys.excepthook, threading.excepthook)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    federation.lab.kill(AH)
    configure("debug", json=True)
    app = App(load_config(federation.folder.config(AH)), federation.folder.world())
    app.start()
    try:
        # The channel has to find the gateway again.
        grpc.channel_ready_future(federation.client(AH, HUKOU)).result(timeout=10)
        grpc.channel_ready_future(federation.client(AH, IDENTITY)).result(timeout=10)
        yield capsys
    finally:
        app.stop(0)
        structlog.configure(**settings)
        root.handlers, (sys.excepthook, threading.excepthook) = handlers, hooks
        root.setLevel(level)
        federation.start([AH])


def test_a_bug_tells_nothing(
    federation: RealFederation,
    person: Person,
    canaries: Canaries,
    here: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever an exception may quote, and whatever the variables around it hold."""
    wallet = person.issue()
    issuance = issuance_pb2_grpc.IssuanceServiceStub(federation.client(AH, IDENTITY))

    def bug(kind: type[Exception]) -> Callable[..., Any]:
        def fail(*arguments: Any, **named: Any) -> Any:
            held = [repr(each) for each in (*arguments, *named.values())]
            raise kind(f"{NAME} {ID_NUMBER} {held} {wallet}")

        return fail

    def show() -> None:
        made = person.challenge()
        request = verification_pb2.VerifyCredentialRequest(
            matter=HUKOU_MIGRATION, presentation=person.bind(wallet, made), nonce=made.nonce
        )
        assert person.heard.ask(person.window().VerifyCredential, request) is None

    def issue() -> None:
        assert person.heard.ask(issuance.IssueCredential, person.request(wallet.key)) is None

    show_then_issue = ((show, verifier, "open_presentation"), (show, SqliteLog, "commit"), (issue, issuer, "issue"))
    for act, place, name in (*show_then_issue, (issue, SqliteRegister, "take_place")):
        for kind in (RuntimeError, sqlite3.OperationalError, KeyError):
            with monkeypatch.context() as broken:
                broken.setattr(place, name, bug(kind))
                person.heard.codes.clear()
                act()
                assert person.heard.codes <= {"INTERNAL", "UNAVAILABLE"}, name
    written = here.readouterr()
    events = [json.loads(line) for line in written.err.splitlines()]
    assert [each for each in events if each["event"] == "unexpected_exception"]
    assert [each for each in events if each["event"] == "ledger_write_failed"]
    assert leaks(canaries, iter([("log", (written.out + written.err).encode())])) == []
    assert leaks(canaries, iter(person.heard.outputs)) == []
    assert leaks(canaries, files(federation.folder.path)) == []


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_after_an_acceptance_only_keyed_references_are_kept(federation: RealFederation, canaries: Canaries) -> None:
    """Row by row: a decision without a word about the person, and a reference that is of no use without a key."""
    visitor = Person(federation, canaries)
    wallet = visitor.issue()
    database = file_of(load_config(federation.folder.config(AH)))
    claims = ["name", "id_type", "id_number"]
    recorded = verification_pb2.RecordConsentRequest(matter=NEWBORN_REGISTRATION, claims=claims)
    recorded.lifetime.FromSeconds(86_400)
    consent_id = visitor.window().RecordConsent(recorded, timeout=10).consent_id
    before = dict(tables(database))

    assert visitor.show(wallet, NEWBORN_REGISTRATION, consent_id=consent_id) == "ACCEPTED"

    after = dict(tables(database))
    added = {name: [row for row in rows if row not in before[name]] for name, rows in after.items()}
    # Trust data come and go whoever is verified.
    kept = {name for name, rows in added.items() if rows} - {
        *("documents", "views", "clock_floor", "status_lists", "events", "own_lists", "own_statuses", "lineage"),
        *("sqlite_sequence", "logs", "tiles", "checkpoints", "cosignatures", "seen"),
    }
    assert kept == {"entries", "replays", "consents"}
    ((reference, until, request, entry_id),) = added["replays"]
    assert (len(reference), type(until)) == (43, int)
    assert (request, len(entry_id)) == ("", 22)  # nobody may ask again without a name for the question
    ((*consent, subject),) = added["consents"]
    assert [(*consent, "")] == [row for row in before["consents"] if row[0] == consent_id]
    assert len(subject) == 43
    assert subject != reference
    ((_, raw, *_),) = added["entries"]
    findings = read_verification(read(raw)).findings
    assert set(findings) <= {
        *("format", "step", "profile", "issuer", "kid", "anchors", "trusted_until", "algorithm", "credential_type"),
        *("acr", "asserted", "effective", "issued_at", "authenticated_at", "expires_at", "subject_type", "party"),
        *("in_scope", "disclosed", "holder_bound", "status_list", "status_issued_at", "status", "asked", "consented"),
    }
    assert leaks(canaries, iter([("rows", repr(added).encode())])) == []
