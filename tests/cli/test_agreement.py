"""mrg agreement: lint, diff and preview, offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.agreement import _Tally
from gateway.config.reader import load_config
from gateway.core.agreement import parse_agreement
from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.core.findings import Findings, Step
from gateway.core.identifiers import Province as Code
from gateway.lab.charter import entity_ids, example_agreement
from gateway.verifier import Acceptance
from tests.cli.ceremony import Ceremony, mrg
from tests.cli.test_trust import Province
from tests.federation import AH, Federation


@pytest.fixture
def province(federation: Federation, completed: Ceremony) -> Province:
    return Province(federation, completed)


def agreement(change: Callable[[dict[str, Any]], None] = lambda _matters: None) -> dict[str, Any]:
    made = example_agreement([entity_ids(each).issuer for each in Code])
    change({matter["code"]: matter for matter in made["matters"]})
    return made


def written(folder: Path, name: str, made: dict[str, Any]) -> Path:
    file = folder / name
    file.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
    return file


def stricter(matters: dict[str, Any]) -> None:
    matters["HK-QY"]["min_assurance"] = {"ial": 3, "aal": 3, "fal": 3}
    matters["HK-QY"]["max_credential_age_seconds"] = 1
    matters["DZ-LZ"]["min_assurance"] = {"ial": 1, "aal": 1, "fal": 1}


def test_the_labs_agreement_can_work(tmp_path: Path) -> None:
    ended = mrg("agreement", "lint", written(tmp_path, "a.json", agreement()), "--json")
    assert ended.code == 0
    assert {each["severity"] for each in ended.document["remarks"]} <= {"warning", "note"}


def test_what_can_never_work_is_an_error(tmp_path: Path) -> None:
    def unreachable(matters: dict[str, Any]) -> None:
        matters["HK-QY"]["max_status_age_seconds"] = 60

    ended = mrg("agreement", "lint", written(tmp_path, "a.json", agreement(unreachable)), "--json")
    assert ended.code == 1
    assert [each["path"] for each in ended.document["remarks"] if each["severity"] == "error"] == [
        "agreement.matters[HK-QY].max_status_age_seconds"
    ]


def test_what_is_no_agreement_is_named_by_its_place(tmp_path: Path) -> None:
    made = agreement()
    made["matters"][0]["restricted_claims"] = []
    ended = mrg("agreement", "lint", written(tmp_path, "a.json", made), "--json")
    assert ended.code == 2
    assert "matters[0].restricted_claims" in ended.error["message"]


def test_each_change_says_whether_it_loosens_or_tightens(tmp_path: Path) -> None:
    old, new = written(tmp_path, "old.json", agreement()), written(tmp_path, "new.json", agreement(stricter))
    changes = mrg("agreement", "diff", old, new, "--json").document["changes"]
    assert {(each["matter"], each["effect"]) for each in changes} == {("HK-QY", "tightens"), ("DZ-LZ", "loosens")}
    assert mrg("agreement", "diff", old, old, "--json").document["changes"] == []


def test_of_each_matter_it_is_said_whether_it_loosens_or_tightens(tmp_path: Path) -> None:
    def both(matters: dict[str, Any]) -> None:
        stricter(matters)
        matters["DZ-LZ"]["status_required"] = not matters["DZ-LZ"]["status_required"]
        matters["KY-LA"]["name_en"] = "Filing"

    old, new = written(tmp_path, "old.json", agreement()), written(tmp_path, "new.json", agreement(both))
    document = mrg("agreement", "diff", old, new, "--json").document
    effects = {each["effect"] for each in document["changes"] if each["matter"] == "DZ-LZ"}
    assert document["matters"] == {"DZ-LZ": sorted(effects), "HK-QY": ["tightens"]}
    shown = mrg("agreement", "diff", old, new, "--lang", "en").out
    lines = [line.split() for line in shown[shown.index("Changes by matter") :].splitlines()]
    assert ["HK-QY", "tightens"] in lines
    assert [line[0] for line in lines if line].count("KY-LA") == 0


def test_a_type_that_no_issuer_is_granted_is_found_with_the_metadata_held(province: Province, tmp_path: Path) -> None:
    def unheard_of(matters: dict[str, Any]) -> None:
        matters["HK-QY"]["credential_types"].append("urn:yrd:credential:passport:1")

    def ungranted(*arguments: str | Path) -> list[str]:
        remarks = mrg("agreement", "lint", proposed, *arguments, "--json").document["remarks"]
        return [each["path"] for each in remarks if each["kind"] == "type_not_granted"]

    held = ("--config", province.config, "--lab-clock", province.clock)
    proposed = written(tmp_path, "usual.json", agreement())
    assert "agreement.matters[HK-QY].credential_types" not in ungranted(*held)
    made = agreement(unheard_of)
    made["terms"]["urn:yrd:credential:passport:1"] = {"zh": "护照", "en": "passport"}
    proposed = written(tmp_path, "proposed.json", made)
    assert ungranted() == []
    assert "agreement.matters[HK-QY].credential_types" in ungranted(*held)


def test_a_charter_is_as_good_as_the_agreement_in_it(province: Province, tmp_path: Path) -> None:
    payload = json.loads(b64url_decode(json.loads(province.charter.read_text())["payload"]))
    inside = written(tmp_path, "inside.json", payload["agreement"])
    assert mrg("agreement", "diff", province.charter, inside, "--json").document["changes"] == []


def test_a_preview_shows_which_recorded_verdicts_would_change(province: Province, tmp_path: Path) -> None:
    federation = province.federation
    wallet = federation.issue()
    federation.settle()
    answers = [federation.verify(*federation.present(wallet)) for _ in range(2)]
    refused = federation.verify("not.a.credential~")
    assert all(isinstance(answer.verdict, Acceptance) for answer in answers)

    def too_young(matters: dict[str, Any]) -> None:
        matters["HK-QY"]["required_claims"].append("id_type")
        matters["HK-QY"]["min_assurance"] = {"ial": 3, "aal": 3, "fal": 3}
        matters["HK-QY"]["credential_types"] = ["urn:yrd:credential:organisation:1"]

    def preview(name: str, made: dict[str, Any]) -> dict[str, Any]:
        proposed = written(tmp_path, name, made)
        arguments = ("--config", province.config, "--proposed", proposed, "--lab-clock", province.clock, "--list")
        document: dict[str, Any] = mrg("agreement", "preview", *arguments, "--json").document
        return document

    same = preview("same.json", agreement())
    assert (same["decisions"], same["changed"]) == (3, [])
    other = preview("other.json", agreement(too_young))
    assert {each["verification_id"] for each in other["changed"]} == {answer.verification_id for answer in answers}
    assert {each["would_be"] for each in other["changed"]} == {"rejected CREDENTIAL_TYPE_NOT_ACCEPTED"}
    assert refused.verification_id not in json.dumps(other)
    assert "徐" not in json.dumps(other, ensure_ascii=False)
    assert federation[AH].province is AH


def preview_arguments(province: Province, tmp_path: Path) -> list[str | Path]:
    proposed = written(tmp_path, "proposed.json", agreement())
    return [
        *("agreement", "preview", "--config", province.config, "--proposed", proposed),
        *("--lab-clock", province.clock, "--json"),
    ]


@pytest.mark.parametrize("since", ["999999d", "999999999h"])
def test_a_preview_does_not_look_back_beyond_all_time(province: Province, tmp_path: Path, since: str) -> None:
    ended = mrg(*preview_arguments(province, tmp_path), "--since", since)
    assert ended.code == 2
    assert "--since" in ended.error["message"]


def of_another_digest(text: str) -> str:
    document = json.loads(text)
    return json.dumps({**document, "payload": b64url_encode(b64url_decode(document["payload"]) + b" ")})


@pytest.mark.parametrize("change", [of_another_digest, lambda _: "{", None], ids=["other", "none", "gone"])
def test_a_preview_needs_the_charter_that_is_configured(
    province: Province, tmp_path: Path, change: Callable[[str], str] | None
) -> None:
    file = load_config(province.config).charter.file
    if change is None:
        file.unlink()
    else:
        file.write_text(change(file.read_text("utf-8")), "utf-8")
    ended = mrg(*preview_arguments(province, tmp_path))
    assert ended.code == 2
    assert str(file) in ended.error["message"]


def test_a_preview_names_no_decision_unless_asked_to(province: Province, tmp_path: Path) -> None:
    province.federation.verify("not.a.credential~")
    assert mrg(*preview_arguments(province, tmp_path)).document["changed"] is None
    tally = _Tally(names_changes=False)
    entry = province.federation[AH].decisions()[0]
    accepted = replace(entry, verdict="accepted", reason="", findings=Findings(step=Step.LEDGER).to_members())
    before, proposed = parse_agreement(agreement()), parse_agreement(agreement(stricter))
    tally.count(accepted, before, proposed)
    assert (tally.changed.total(), tally.changes) == (1, [])
