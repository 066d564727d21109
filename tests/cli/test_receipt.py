"""mrg receipt and mrg dispute against the real service: what is kept of a verification, and what checks offline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.lab.charter import entity_ids
from tests.cli.audited import Audited, audited
from tests.cli.ceremony import Ended, mrg
from tests.federation import AH, SH, Federation


@pytest.fixture
def log(federation: Federation, drafted: Path, tmp_path: Path) -> Iterator[Audited]:
    with audited(federation, drafted, tmp_path) as served:
        yield served


def fetched(log: Audited, number: str, file: Path, *options: str) -> Ended:
    return log.mrg("receipt", "fetch", number, "--out", file, *options, "--wait", "0", "--json")


def verified(log: Audited, file: Path, *arguments: str) -> Ended:
    return mrg("receipt", "verify", file, "--charter", log.charter, "--json", *arguments)


def test_evidence_that_others_have_seen_is_proven_offline(log: Audited, tmp_path: Path) -> None:
    number = log.verified()
    log.federation.witness()
    file = tmp_path / "evidence.json"
    assert fetched(log, number, file).document == {"verification_id": number, "file": str(file), "witnesses": 3}
    assert file.stat().st_mode & 0o777 == 0o600
    ended = verified(log, file, "--witnesses", "3", "--sha256", log.federation.charter.sha256)
    assert ended.code == 0
    document = ended.document
    assert document["result"] == "proven"
    assert document["receipt"]["verification_id"] == number
    assert (document["receipt"]["verdict"], document["receipt"]["charter_checked"]) == ("accepted", True)
    assert document["witnesses"] == [entity_ids(province).gateway for province in log.federation[AH].peers]
    shown = mrg("receipt", "verify", file, "--charter", log.charter).out
    for expected in ("全部得证", "PROVEN", number, "HK-QY", entity_ids(SH).gateway):
        assert expected in shown


def test_evidence_of_the_first_seconds_is_signed_and_not_proven(log: Audited, tmp_path: Path) -> None:
    number = log.verified()
    file = tmp_path / "evidence.json"
    ended = fetched(log, number, file)
    assert (ended.code, ended.document["witnesses"]) == (3, 0)
    ended = verified(log, file)
    assert (ended.code, ended.document["result"], ended.document["problems"]) == (3, "not_proven", [])
    assert ended.document["receipt"]["verification_id"] == number


def test_fewer_witnesses_than_wanted_is_not_a_no(log: Audited, tmp_path: Path) -> None:
    number = log.verified()
    for peer in log.federation[AH].peers:
        if peer is not SH:
            log.federation.silence(peer, [AH])
    log.federation.witness()
    file = tmp_path / "evidence.json"
    assert fetched(log, number, file).document["witnesses"] == 1
    assert verified(log, file).code == 0
    assert verified(log, file, "--witnesses", "2").code == 3
    assert fetched(log, number, file, "--witnesses", "1").code == 0
    assert fetched(log, number, file, "--witnesses", "2").code == 3


def test_evidence_that_was_edited_does_not_hold(log: Audited, tmp_path: Path) -> None:
    number = log.verified()
    log.federation.witness()
    file = tmp_path / "evidence.json"
    fetched(log, number, file)
    bundle = json.loads(file.read_text())
    entry = b64url_decode(bundle["entry"]).replace(b'"accepted"', b'"rejected"')
    file.write_text(json.dumps(bundle | {"entry": b64url_encode(entry)}))
    ended = verified(log, file)
    assert (ended.code, ended.document["problems"][0]["reason"]) == (1, "LOG_ENTRY_INVALID")
    file.write_text(json.dumps(bundle | {"inclusion": bundle["inclusion"][1:]}))
    ended = verified(log, file)
    assert (ended.code, ended.document["problems"][0]["reason"]) == (1, "PROOF_INVALID")


def test_what_is_no_evidence_does_not_hold(log: Audited, tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    file.write_text("{}")
    ended = verified(log, file)
    assert (ended.code, ended.document["problems"][0]["reason"]) == (1, "MALFORMED")


def test_a_pin_that_is_not_the_charters_is_refused(log: Audited, tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    file.write_text("{}")
    assert verified(log, file, "--sha256", "A" * 43).code == 2


# -- disputes ---------------------------------------------------------------------------------------------------------


def test_a_dispute_is_opened_shown_settled_and_its_evidence_kept(log: Audited, tmp_path: Path) -> None:
    number = log.verified()
    log.federation.witness()
    opened = log.mrg(
        "dispute", "open", number, "--ground", "not-me", "--case", "AH-2026-17", "--json", name="admin-1"
    ).document
    assert (opened["ground"], opened["case"], opened["outcome"], opened["province"]) == (
        "not-me",
        "AH-2026-17",
        None,
        "ah",
    )
    assert len(b64url_decode(opened["evidence_sha256"])) == 32
    dispute = opened["dispute_id"]
    assert log.mrg("dispute", "show", dispute, "--json", name="admin-1").document == opened
    listed = log.mrg("dispute", "list", "--open", "--json", name="admin-1").document
    assert listed == {"disputes": [opened], "more": False}
    assert "不是本人" in log.mrg("dispute", "list", name="admin-1").out
    settled = log.mrg("dispute", "resolve", dispute, "--outcome", "upheld", "--json", name="admin-1").document
    assert settled["outcome"] == "upheld"
    assert log.mrg("dispute", "resolve", dispute, "--outcome", "dismissed", name="admin-1").code == 1
    assert log.mrg("dispute", "list", "--open", "--json", name="admin-1").document["disputes"] == []
    out = tmp_path / "bundle.json"
    assert log.mrg("dispute", "bundle", dispute, "--out", out, name="admin-1").code == 0
    assert verified(log, out).document["receipt"]["verification_id"] == number
    shown = log.mrg("dispute", "show", dispute, name="admin-1").out
    for expected in ("异议成立", "upheld", "administrators/admin-1", opened["evidence_sha256"]):
        assert expected in shown


def test_a_verification_in_another_province_is_contested_at_home(log: Audited) -> None:
    answer = log.federation.verify(*log.federation.present(log.federation.issue(AH), at=SH), at=SH)
    ended = log.mrg(
        *("dispute", "open", answer.verification_id, "--province", "sh"),
        *("--ground", "no-consent", "--json"),
        name="identity",
    )
    assert (ended.code, ended.document["province"]) == (0, "sh")


def test_auditors_settle_nothing(log: Audited) -> None:
    ended = log.mrg("dispute", "open", log.verified(), "--ground", "other", "--json")
    assert (ended.code, ended.error["reason"]) == (4, "NOT_PERMITTED")
