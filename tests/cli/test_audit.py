"""mrg audit against the real service over a real log: what is listed, proven, exported, and how an edit shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import audit, log_sources
from gateway.cli.connection import Connection
from gateway.clock import set_lab_offset, system_world
from gateway.core.checkpoint import make_checkpoint
from gateway.core.encoding import b64url_decode
from gateway.core.entries import Keep
from gateway.core.jose import generate_key
from gateway.core.merkle import Hasher, check_inclusion
from gateway.lab.charter import entity_ids
from gateway.storage import HeldCheckpoint
from tests.cli.audited import Audited, audited, configured
from tests.cli.ceremony import Ceremony, done, failed, mrg
from tests.federation import AH, SH, START, Federation, found


@pytest.fixture
def log(federation: Federation, drafted: Path, tmp_path: Path) -> Iterator[Audited]:
    with audited(federation, drafted, tmp_path) as served:
        yield served


def seen(log: Audited) -> None:
    """Let the head be signed, and seen by the others."""
    log.federation.witness()


def findings(document: dict[str, Any]) -> list[tuple[str, int, int]]:
    return [(each["fault"], each["begin"], each["end"]) for log in document["logs"] for each in log["findings"]]


# -- reading ----------------------------------------------------------------------------------------------------------


def test_entries_are_listed_newest_first_and_by_what_they_are_about(log: Audited) -> None:
    numbers = [log.verified() for _ in range(3)]
    listed = log.mrg("audit", "list", "--kind", "verification", "--json").document
    assert [each["id"] for each in listed["entries"]] == numbers[::-1]
    assert listed["more"] is False
    assert listed["entries"][0]["body"]["verdict"] == "accepted"
    oldest = log.mrg("audit", "list", "--kind", "verification", "--oldest-first", "--limit", "1", "--json").document
    assert ([each["id"] for each in oldest["entries"]], oldest["more"]) == (numbers[:1], True)
    nothing = log.mrg("audit", "list", "--verdict", "rejected", "--json").document
    assert nothing["entries"] == []


def test_people_get_entries_as_a_table(log: Audited) -> None:
    number = log.verified()
    shown = log.mrg("audit", "list").out
    assert number in shown
    for expected in ("予以认可", "ACCEPTED", "信任变更", "启用 active"):
        assert expected in shown


def test_a_reason_that_there_is_not_is_refused_before_anybody_is_asked(log: Audited) -> None:
    assert "reason" in failed("audit", "list", "--reason", "BECAUSE", *log.reach())


def test_a_verdict_that_there_is_not_is_refused_and_not_called_absent(log: Audited) -> None:
    log.verified()
    assert log.mrg("audit", "list", "--verdict", "refused").code == 2
    assert [
        each["kind"] for each in log.mrg("audit", "list", "--verdict", "accepted", "--json").document["entries"]
    ] == ["verification"]


def test_only_auditors_read_the_log(log: Audited) -> None:
    ended = log.mrg("audit", "list", "--json", name="admin-1")
    assert (ended.code, ended.error["reason"]) == (4, "NOT_PERMITTED")
    assert "[[auditors]]" in ended.error["fix"]


def test_an_entry_is_shown_and_proven(log: Audited) -> None:
    number = log.verified()
    assert log.mrg("audit", "show", number).code == 3  # no head yet
    seen(log)
    document = log.mrg("audit", "show", number, "--charter", log.charter, "--json")
    assert document.code == 0
    proof = document.document["proof"]
    assert (proof["holds"], proof["signature"]) == (True, "holds")
    assert proof["seen_by"] == ["js", "sh", "zj"]
    assert log.mrg("audit", "show", number, "--log", document.document["log"], "--json").code == 0
    assert log.mrg("audit", "show", number, "--log", "another", "--json").code == 1
    position = str(document.document["position"])
    assert log.mrg("audit", "show", position, "--json").document["id"] == number
    shown = log.mrg("audit", "show", number).out
    for expected in ("is in the log", "signature not checked", "agree with the entry"):
        assert expected in shown


def test_an_entry_whose_column_was_edited_is_shown_as_such(log: Audited) -> None:
    number = log.verified()
    seen(log)
    log.edit("UPDATE entries SET verdict = 'rejected' WHERE entry_id = ?", number)
    ended = log.mrg("audit", "show", number, "--json")
    assert (ended.code, ended.document["contradictions"]) == (1, ["verdict"])
    assert log.mrg("audit", "list").code == 1


def test_an_entry_that_there_is_not_is_a_no(log: Audited) -> None:
    assert log.mrg("audit", "show", "nobody-has-this-number").code == 1


def test_a_proof_can_be_checked_by_others(log: Audited, tmp_path: Path) -> None:
    number = log.verified()
    seen(log)
    out = tmp_path / "proof.json"
    assert log.mrg("audit", "prove", number, "--out", out).code == 0
    proof = json.loads(out.read_text())
    check_inclusion(
        b64url_decode(proof["leaf_hash"]),
        proof["position"],
        proof["proof"]["size"],
        [b64url_decode(each) for each in proof["proof"]["inclusion"]],
        b64url_decode(proof["proof"]["root"]),
    )


def test_changes_of_trust_are_shown_to_auditors(log: Audited) -> None:
    changes = log.mrg("trust", "log", "--json").document["changes"]
    assert {each["change"] for each in changes} >= {"charter", "key"}


# -- verifying --------------------------------------------------------------------------------------------------------


def test_a_log_as_it_was_signed_verifies(log: Audited) -> None:
    for _ in range(3):
        log.verified()
        seen(log)
    ended = log.verify("--json")
    assert ended.code == 0
    (found,) = ended.document["logs"]
    assert ended.document["gateway"] == entity_ids(AH).gateway
    assert (found["clean"], found["seen_by"], findings(ended.document)) == (True, ["js", "sh", "zj"], [])
    assert found["heads"]["proven"] == found["heads"]["checked"] >= 1
    assert "日志与签署的完全一致" in log.verify().out


def test_a_log_in_which_nothing_happened_verifies_by_trust_documents_younger_than_its_head(
    log: Audited, completed: Ceremony, tmp_path: Path
) -> None:
    number = log.verified()
    seen(log)
    log.federation.clock.advance(timedelta(minutes=7))
    log.federation.settle()
    out = tmp_path / "export.jsonl"
    assert log.mrg("audit", "export", "--out", out).code == 0
    for ended in (
        log.verify("--json"),
        mrg("audit", "verify", "--config", configured(completed, log.federation), "--json"),
        mrg("audit", "verify", "--export", out, "--charter", log.charter, "--json"),
    ):
        (found,) = ended.document["logs"]
        assert (ended.code, found["seen_by"], found["heads"]["by_root_only"]) == (0, ["js", "sh", "zj"], 0)
    assert log.mrg("audit", "show", number, "--charter", log.charter, "--json").code == 0


def test_a_log_that_grows_while_it_is_read_verifies(log: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    log.verified()
    seen(log)
    ask = log_sources.checkpoint

    def meanwhile(connected: Connection, name: str, at_least: int = 0) -> Any:
        monkeypatch.setattr(log_sources, "checkpoint", ask)
        log.verified()
        seen(log)
        return ask(connected, name, at_least)

    monkeypatch.setattr(log_sources, "checkpoint", meanwhile)
    assert log.verify().code == 0


def test_what_is_erased_while_the_log_is_read_is_not_called_removed(
    log: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.verified()
    seen(log)
    at, clock = START + timedelta(days=2_000), tmp_path / "clock"
    set_lab_offset(clock, round((at - system_world().now()).total_seconds()))
    ask = log_sources.list_entries

    def meanwhile(connected: Connection, request: Any) -> Any:
        monkeypatch.setattr(log_sources, "list_entries", ask)
        assert log.federation[AH].log.erase(Keep.DISCLOSURE, START + timedelta(days=1), at)
        sign_head(log, at)
        return ask(connected, request)

    monkeypatch.setattr(log_sources, "list_entries", meanwhile)
    monkeypatch.setattr(audit, "_SIGNED_WITHIN", 0)
    document = log.verify("--lab-clock", clock, "--json").document
    assert (document["clean"], document["logs"][0]["erased"] > 0) == (True, True)


def sign_head(log: Audited, at: datetime) -> None:
    """Sign the head of Anhui's log at a time when its gateway would not: its trust data are too old by then."""
    node = log.federation[AH]
    node.records.notary.tick()
    newest = node.log.logs()[-1]
    tree = Hasher()
    for leaf in node.records.notary.leaves(newest.log_id, 0, newest.tree_size):
        tree.add(leaf)
    token = make_checkpoint(
        gateway=entity_ids(AH).gateway,
        log=newest.log_id,
        size=newest.tree_size,
        root=tree.root(),
        now=at,
        signer=log.federation.keys[AH]["gateway-audit"],
    )
    node.log.save_checkpoint(
        HeldCheckpoint(log_id=newest.log_id, size=newest.tree_size, issued_at=at, token=token, cosignatures={})
    )


def test_a_log_without_a_head_cannot_be_told(log: Audited) -> None:
    log.verified()
    ended = log.verify("--json")
    assert ended.code == 3
    assert (ended.document["clean"], ended.document["provable"]) == (True, False)


def test_what_was_edited_is_named_wherever_the_log_is_read_from(
    log: Audited, completed: Ceremony, tmp_path: Path
) -> None:
    numbers = [log.verified() for _ in range(3)]
    seen(log)
    places = [log.mrg("audit", "show", each, "--json").document["position"] for each in numbers]
    log.edit("UPDATE entries SET entry = replace(entry, 'accepted', 'rejected') WHERE number = ?", places[0])
    log.edit("DELETE FROM entries WHERE number = ?", places[1])
    log.edit("UPDATE entries SET matter = 'DZ-LZ' WHERE number = ?", places[2])
    out = tmp_path / "export.jsonl"
    assert log.mrg("audit", "export", "--out", out).code == 0
    for ended in (
        log.verify("--json"),
        mrg("audit", "verify", "--config", configured(completed, log.federation), "--json"),
        mrg("audit", "verify", "--export", out, "--charter", log.charter, "--json"),
    ):
        assert ended.code == 1
        assert set(findings(ended.document)) == {
            ("changed", places[0], places[0] + 1),
            ("column", places[0], places[0] + 1),
            ("removed", places[1], places[1] + 1),
            ("column", places[2], places[2] + 1),
        }
    for expected in ("记录被改动", "记录被删除", "检索列与记录不符"):
        assert expected in log.verify().out


def test_a_log_that_was_rewritten_past_its_last_proven_head_is_not_called_what_was_signed(log: Audited) -> None:
    node = log.federation[AH]
    log.verified()
    seen(log)
    signed = node.records.notary.checkpoint()
    log.federation.clock.advance(timedelta(hours=1))
    log.federation.settle()
    victim = log.verified()
    seen(log)
    assert log.verify().code == 0
    assert signed is not None
    log.edit("DELETE FROM checkpoints WHERE size > ?", signed.size)
    log.edit("UPDATE entries SET entry = replace(entry, 'HK-QY', 'XX-QY'), matter = 'XX-QY' WHERE entry_id = ?", victim)
    log.edit("UPDATE logs SET tree_size = 0")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(node.records.notary, "_signer", generate_key)  # one that nobody knows
        node.records.notary.tick()
    ended = log.verify("--json")
    assert (ended.code, ended.document["clean"], ended.document["provable"]) == (3, True, False)


def test_a_tree_that_was_wiped_is_told_from_changed_entries(log: Audited) -> None:
    for _ in range(3):
        log.verified()
    seen(log)
    log.edit("UPDATE tiles SET hashes = zeroblob(length(hashes)) WHERE level = 0")
    ended = log.verify("--json")
    assert ended.code == 1
    assert {fault for fault, _, _ in findings(ended.document)} == {"tree"}


def test_a_log_that_was_cut_off_is_told_by_what_another_province_has_seen(log: Audited, tmp_path: Path) -> None:
    log.verified()
    seen(log)
    file = tmp_path / "seen.json"
    file.write_text(json.dumps(seen_by_shanghai(log)))
    assert log.verify("--seen", file).code == 0
    log.edit("DELETE FROM checkpoints")
    size = seen_by_shanghai(log)["seen"][0]["size"]
    log.edit("UPDATE logs SET size = ?, tree_size = ?", size - 1, size - 1)
    ended = log.verify("--seen", file, "--json")
    assert ended.code == 1
    assert ("head", size - 1, size) in findings(ended.document)


def seen_by_shanghai(log: Audited) -> dict[str, Any]:
    gateway = entity_ids(AH).gateway
    heads = log.federation[SH].records.witness.seen_of(gateway)
    return {
        "seen": [{"gateway": gateway, "size": head.size, "checkpoint": head.token} for head in heads],
        "forks": [],
    }


def test_a_log_that_another_province_has_seen_and_that_is_gone_is_named(log: Audited, tmp_path: Path) -> None:
    log.verified()
    seen(log)
    document = seen_by_shanghai(log)
    key = log.federation.keys[AH]["gateway-audit"]
    document["seen"][0]["checkpoint"] = make_checkpoint(
        gateway=entity_ids(AH).gateway, log="another", size=3, root=b"r" * 32, now=log.federation.clock.now, signer=key
    )
    file = tmp_path / "seen.json"
    file.write_text(json.dumps(document))
    ended = log.verify("--seen", file, "--json")
    assert ended.code == 1
    assert [each["log"] for each in ended.document["missing"]] == ["another"]


def test_a_head_whose_signature_does_not_hold_is_named(log: Audited) -> None:
    log.verified()
    seen(log)
    log.edit("UPDATE checkpoints SET token = substr(token, 1, length(token) - 8) || 'AAAAAAAA'")
    ended = log.verify("--json")
    assert ended.code == 1
    assert [fault for fault, _, _ in findings(ended.document)][-1] == "head"


def test_a_charter_that_is_not_theirs_proves_nothing(log: Audited) -> None:
    log.verified()
    seen(log)
    log.charter.write_text(found().document)
    assert log.verify("--json").code in {1, 3}


def test_where_the_log_is_must_be_said_once(log: Audited, tmp_path: Path) -> None:
    assert "exactly one" in failed("audit", "verify", "--charter", log.charter)
    assert "exactly one" in failed(
        "audit", "verify", "--charter", log.charter, "--export", tmp_path / "x", *log.reach()
    )
    assert "--charter" in failed("audit", "verify", *log.reach())


def test_a_part_of_a_log_can_be_exported_and_not_verified(log: Audited, tmp_path: Path) -> None:
    log.verified()
    seen(log)
    out = tmp_path / "part.jsonl"
    assert log.mrg("audit", "export", "--out", out, "--since", "1", "--until", "3").code == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["position"] for line in lines if line["type"] == "entry"] == [1, 2]
    assert out.stat().st_mode & 0o777 == 0o600
    assert "part of a log" in failed("audit", "verify", "--export", out, "--charter", log.charter)


@pytest.mark.parametrize("damage", ["", "{}\n", '{"type":"export","format":1}\n', "no json\n"])
def test_a_file_that_is_no_export_is_refused(log: Audited, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "x"
    file.write_text(damage)
    failed("audit", "verify", "--export", file, "--charter", log.charter)


@pytest.mark.parametrize("extra", [{"entry": "e30"}, {"log": "another"}, {"type": "note"}], ids=str)
def test_an_export_holds_nothing_that_is_not_checked(log: Audited, tmp_path: Path, extra: dict[str, str]) -> None:
    log.verified()
    seen(log)
    out = tmp_path / "export.jsonl"
    log.mrg("audit", "export", "--out", out)
    lines = out.read_text().splitlines()
    out.write_text("\n".join([*lines, json.dumps(json.loads(lines[-1]) | extra)]) + "\n")
    failed("audit", "verify", "--export", out, "--charter", log.charter)


def test_a_file_without_a_signed_head_proves_nothing(log: Audited, tmp_path: Path) -> None:
    seen(log)
    out = tmp_path / "export.jsonl"
    log.mrg("audit", "export", "--out", out)
    lines = out.read_text().splitlines()[:2]
    empty = {"type": "log", "log": "empty", "size": 0, "begin": 0, "end": 0}
    out.write_text("\n".join([*lines, json.dumps(empty)]) + "\n")
    assert mrg("audit", "verify", "--export", out, "--charter", log.charter).code == 3


# -- others -----------------------------------------------------------------------------------------------------------


def test_what_was_seen_of_other_logs_is_shown(log: Audited) -> None:
    seen(log)
    ended = log.mrg("audit", "seen", "--json")
    assert ended.code == 0
    assert {each["gateway"] for each in ended.document["seen"]} == {
        entity_ids(province).gateway for province in log.federation[AH].peers
    }


def test_a_log_that_contradicts_itself_is_shown_and_is_a_no(log: Audited) -> None:
    seen(log)
    head = log.federation[AH].records.witness.seen_of(entity_ids(SH).gateway)[-1]
    forged = make_checkpoint(
        gateway=entity_ids(SH).gateway,
        log=head.log_id,
        size=head.size,
        root=b"r" * 32,
        now=log.federation.clock.now,
        signer=log.federation.keys[SH]["gateway-audit"],
    )
    log.federation[SH].log.save_checkpoint(
        HeldCheckpoint(log_id=head.log_id, size=head.size, issued_at=head.issued_at, token=forged, cosignatures={})
    )
    node = log.federation[AH]
    node.records.witness.look(node.peers[SH])
    ended = log.mrg("audit", "seen", "--json")
    assert ended.code == 1
    assert [each["kind"] for each in ended.document["forks"]] == ["forked"]
    assert "矛盾" in log.mrg("audit", "seen").out


def test_who_verified_a_person_is_told_and_who_could_not_be_asked(log: Audited) -> None:
    log.federation.verify(*log.federation.present(log.federation.issue(AH), at=SH), at=SH)
    ended = log.mrg("audit", "disclosures", "--subject", "person-1", "--json", name="identity")
    assert ended.code == 0
    (told,) = ended.document["disclosures"]
    assert (told["province"], told["as_actor"]) == ("sh", False)
    log.federation.silence(AH, [SH])
    ended = log.mrg("audit", "disclosures", "--subject", "person-1", "--json", name="identity")
    assert (ended.code, ended.document["unreachable_provinces"]) == (3, ["sh"])
    assert "sh" in log.mrg("audit", "disclosures", "--subject", "person-1", name="identity").out


def test_verifying_an_export_asks_nobody(log: Audited, tmp_path: Path) -> None:
    log.verified()
    seen(log)
    out = tmp_path / "export.jsonl"
    log.mrg("audit", "export", "--out", out)
    done("audit", "verify", "--export", out, "--charter", log.charter)
