"""mrg charter: the ceremony on real files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import set_lab_offset
from gateway.config.reader import load_config
from gateway.core.encoding import b64url_decode, b64url_encode
from tests.cli.ceremony import CODES, Ceremony, done, edited, failed, mrg


def payload(file: Path) -> dict[str, object]:
    claims: dict[str, object] = done("charter", "show", file, "--json").document["payload"]
    return claims


# -- from draft to configuration --------------------------------------------------------------------------------------


def test_the_ceremony_shows_progress_after_each_signature_and_ends_in_configurations_that_load(
    ceremony: Ceremony,
) -> None:
    for count, code in enumerate(CODES):
        verified = mrg("charter", "verify", ceremony.charter, "--json")
        assert verified.document["signatures"] == {
            "required": 3,
            "signed": list(CODES[:count]),
            "missing": list(CODES[count:]),
            "met": count >= 3,
        }
        assert verified.code == (0 if count >= 3 else 1)
        signed = done("charter", "sign", ceremony.charter, "--keys", ceremony.keys(code), "--json", "--yes")
        assert signed.document["signatures"]["signed"] == list(CODES[: count + 1])
    digest = mrg("charter", "verify", ceremony.charter, "--json").document["sha256"]
    for code in CODES:
        done("init", ceremony.folder / code, "--charter", ceremony.charter, "--charter-sha256", digest, *ceremony.cards)
        config = load_config(ceremony.folder / code / "gateway.toml")
        assert (config.province.code, config.charter.sha256) == (code, digest)
        assert len(config.peers) == 3


def test_verify_tells_people_who_has_not_signed_yet(ceremony: Ceremony) -> None:
    ceremony.sign(["sh", "js"])
    shown = mrg("charter", "verify", ceremony.charter)
    assert shown.code == 1
    assert "2 of 3, missing zj ah" in shown.out
    assert "not acceptable" in shown.out


def test_verify_counts_for_the_old_anchors_and_for_the_new(ceremony: Ceremony) -> None:
    ceremony.sign()
    file = ceremony.amend("--remove-anchor", "ah", "--quorum", "2")
    ceremony.sign(["sh", "ah"], file, ceremony.charter)
    shown = mrg("charter", "verify", file, "--previous", ceremony.charter)
    assert shown.code == 1
    assert "2 of 3, missing js zj" in shown.out
    assert "1 of 2, missing js zj" in shown.out
    ceremony.sign(["js"], file, ceremony.charter)
    shown = done("charter", "verify", file, "--previous", ceremony.charter)
    assert "3 of 3, not signed by zj" in shown.out
    assert "2 of 2, not signed by zj" in shown.out


def test_signing_twice_counts_once(ceremony: Ceremony) -> None:
    ceremony.sign(["sh", "sh"])
    assert mrg("charter", "verify", ceremony.charter, "--json").document["signatures"]["signed"] == ["sh"]


def test_signatures_do_not_change_the_digest(ceremony: Ceremony) -> None:
    before = mrg("charter", "verify", ceremony.charter, "--json").document["sha256"]
    assert ceremony.sign() == before


def test_a_signed_charter_can_be_written_elsewhere(ceremony: Ceremony) -> None:
    before = ceremony.charter.read_text()
    signed = ceremony.folder / "signed.json"
    done("charter", "sign", ceremony.charter, "--keys", ceremony.keys("zj"), "--out", signed, "--yes")
    assert ceremony.charter.read_text() == before
    assert mrg("charter", "verify", signed, "--json").document["signatures"]["signed"] == ["zj"]


# -- the digest -------------------------------------------------------------------------------------------------------


def test_the_digest_is_accepted_in_both_spellings_and_with_the_spaces_people_read_it_with(ceremony: Ceremony) -> None:
    digest = ceremony.sign()
    aloud = b64url_decode(digest).hex(" ", 2)
    assert aloud in done("charter", "verify", ceremony.charter).out
    for spelling in (digest, aloud, aloud.upper()):
        assert done("charter", "verify", ceremony.charter, "--sha256", spelling, "--json").document["pinned"] is True


def test_another_digest_is_a_no(ceremony: Ceremony) -> None:
    ceremony.sign()
    verified = mrg("charter", "verify", ceremony.charter, "--sha256", b64url_encode(bytes(32)), "--json")
    assert verified.code == 1
    assert verified.document["pinned"] is False
    assert verified.document["acceptable"] is False
    assert "signatures" in verified.document


def test_what_is_no_digest_is_a_usage_error(ceremony: Ceremony) -> None:
    assert "--sha256" in failed("charter", "verify", ceremony.charter, "--sha256", "abc")


def test_without_a_digest_people_are_told_to_compare(ceremony: Ceremony) -> None:
    ceremony.sign()
    assert "compare the digest" in done("charter", "verify", ceremony.charter).out


def test_an_expired_charter_is_not_acceptable(ceremony: Ceremony) -> None:
    ceremony.sign()
    clock = ceremony.folder / "clock"
    set_lab_offset(clock, 181 * 86_400)
    verified = mrg("charter", "verify", ceremony.charter, "--lab-clock", clock, "--json")
    assert verified.code == 1
    assert "expired" in verified.document["problem"]


# -- looking ----------------------------------------------------------------------------------------------------------


def test_show_names_anchors_members_matters_and_issuers(ceremony: Ceremony) -> None:
    shown = done("charter", "show", ceremony.charter).out
    for expected in ("https://anchor.zj.test", "https://issuer.ah.test", "HK-QY", "跨省户口网上迁移", "3 of 4 anchors"):
        assert expected in shown
    assert "Online household migration" not in done("charter", "show", ceremony.charter, "--lang", "zh").out


def test_show_json_gives_the_claims_as_written(ceremony: Ceremony) -> None:
    claims = payload(ceremony.charter)
    assert claims["version"] == 1
    assert [anchor["province"] for anchor in claims["anchors"]] == list(CODES)  # type: ignore[attr-defined]


# -- the next version -------------------------------------------------------------------------------------------------


def test_a_successor_keeps_what_is_not_changed_and_needs_both_quorums(ceremony: Ceremony) -> None:
    ceremony.sign()
    agreement = ceremony.folder / "agreement.json"
    with edited(agreement, '"clock_skew_seconds": 60', '"clock_skew_seconds": 30'):
        file = ceremony.amend("--agreement", str(agreement))
    claims = payload(file)
    assert claims["version"] == 2
    assert claims["anchors"] == payload(ceremony.charter)["anchors"]
    compared = done("charter", "diff", ceremony.charter, file, "--json").document["changes"]
    assert {"path": "agreement.clock_skew", "before": "60 s", "after": "30 s"} in compared
    for code in CODES[:3]:
        verified = mrg("charter", "verify", file, "--previous", ceremony.charter, "--json")
        assert verified.document["acceptable"] is False
        done("charter", "sign", file, "--keys", ceremony.keys(code), "--previous", ceremony.charter, "--yes")
    verified = done("charter", "verify", file, "--previous", ceremony.charter, "--json")
    assert verified.document["previous_signatures"]["met"] is True


def test_a_card_given_again_changes_nothing_but_the_version(ceremony: Ceremony) -> None:
    ceremony.sign()
    claims = payload(ceremony.amend("--card", str(ceremony.folder / "zj" / "card.json")))
    before = payload(ceremony.charter)
    assert [name for name in claims if claims[name] != before[name]] == [
        "version",
        "prev_sha256",
        *_times(claims, before),
    ]


def _times(claims: dict[str, object], before: dict[str, object]) -> list[str]:
    return [name for name in ("iat", "exp") if claims[name] != before[name]]


def test_what_is_no_successor_is_not_signed_as_one(ceremony: Ceremony) -> None:
    ceremony.sign()
    before = ceremony.charter.read_text()
    refused = failed(
        "charter", "sign", ceremony.charter, "--keys", ceremony.keys("sh"), "--previous", ceremony.charter, "--yes"
    )
    assert "does not follow" in refused
    assert ceremony.charter.read_text() == before


def test_diff_says_when_nothing_changed_in_meaning(ceremony: Ceremony) -> None:
    before = ceremony.folder / "before.json"
    before.write_text(ceremony.charter.read_text())
    ceremony.sign(["sh"])
    assert "no difference" in done("charter", "diff", before, ceremony.charter).out


# -- a person at a terminal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "code", "signed"), [("y", 0, ["sh"]), ("\n", 1, []), ("no", 1, [])])
def test_a_person_is_shown_what_they_sign_and_asked(
    ceremony: Ceremony, answer: str, code: int, signed: list[str]
) -> None:
    ended = mrg("charter", "sign", ceremony.charter, "--keys", ceremony.keys("sh"), typed=f"{answer}\n")
    assert ended.code == code
    assert "https://anchor.ah.test" in ended.out
    for signed_too in ("clock skew", "max assertion lifetime", "3 of 4 anchors", "legal basis", "credential types"):
        assert signed_too in ended.out
    assert ("not signed; nothing was changed" in ended.err) is (code == 1)
    assert mrg("charter", "verify", ceremony.charter, "--json").document["signatures"]["signed"] == signed


def test_yes_answers_for_the_person(ceremony: Ceremony) -> None:
    assert mrg("charter", "sign", ceremony.charter, "--keys", ceremony.keys("sh"), "--yes", typed="").code == 0


def test_where_nobody_can_be_asked_it_is_not_signed_without_yes(ceremony: Ceremony) -> None:
    before = ceremony.charter.read_text()
    assert "mrg charter show" in failed("charter", "sign", ceremony.charter, "--keys", ceremony.keys("sh"))
    asked_for_json = mrg("charter", "sign", ceremony.charter, "--keys", ceremony.keys("sh"), "--json", typed="y\n")
    assert asked_for_json.code == 2
    assert ceremony.charter.read_text() == before


def test_show_shows_every_member_of_the_agreement(ceremony: Ceremony) -> None:
    shown = done("charter", "show", ceremony.charter).out
    agreement: dict[str, Any] = json.loads((ceremony.folder / "agreement.json").read_text())
    names = {*agreement, *agreement["matters"][0], *agreement["issuers"][0]}
    for name in names - {"matters", "issuers", "code", "entity_id"}:
        assert f"  {name.removesuffix('_seconds').replace('_', ' ')}  " in shown
    for words in (
        agreement["matters"][0]["legal_basis"],
        agreement["terms"]["hukou_region"],
        agreement["levels"][1]["name"],
    ):
        assert words["zh"] in shown
        assert words["en"] in shown


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"payload":"e30","signatures":[]}', "\ud800"])
@pytest.mark.parametrize("command", [["verify"], ["show"], ["sign", "--keys", "keys"], ["diff", "charter.json"]])
def test_what_is_no_charter_is_refused_in_one_message(
    ceremony: Ceremony, content: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ceremony.folder)
    Path("broken.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    assert "broken.json" in failed("charter", *command, "broken.json")


def test_a_missing_charter_is_named(tmp_path: Path) -> None:
    assert "nowhere.json" in failed("charter", "verify", tmp_path / "nowhere.json")


def test_a_mistake_in_the_agreement_is_named_by_its_place(ceremony: Ceremony) -> None:
    agreement = ceremony.folder / "agreement.json"
    with edited(agreement, '"HK-QY"', '"HK QY"'):
        refused = failed("charter", "create", *ceremony.cards, "--agreement", agreement, "--out", ceremony.folder / "x")
    assert "agreement.matters[0].code" in refused
    assert not (ceremony.folder / "x").exists()


def test_an_agreement_that_is_no_json_is_refused(ceremony: Ceremony) -> None:
    broken = ceremony.folder / "broken.json"
    broken.write_text("{")
    assert "broken.json" in failed("charter", "create", *ceremony.cards, "--agreement", broken)


def test_create_names_the_option_that_is_missing(ceremony: Ceremony) -> None:
    assert "--agreement" in failed("charter", "create", *ceremony.cards)
    assert "--card" in failed("charter", "create", "--agreement", ceremony.folder / "agreement.json")
    assert "--previous" in failed("charter", "create", *ceremony.cards, "--leaving", "ah")


def test_create_writes_over_nothing(ceremony: Ceremony) -> None:
    agreement = ceremony.folder / "agreement.json"
    refused = failed("charter", "create", *ceremony.cards, "--agreement", agreement, "--out", ceremony.charter)
    assert "exists" in refused


def test_two_cards_of_one_province_are_refused(ceremony: Ceremony) -> None:
    copy = ceremony.folder / "copy.json"
    copy.write_text((ceremony.folder / "sh" / "card.json").read_text())
    refused = failed("charter", "create", "--example-agreement", *ceremony.cards, "--card", copy)
    assert "copy.json" in refused
    assert "second card of sh" in refused


def test_a_quorum_of_half_is_refused(ceremony: Ceremony) -> None:
    agreement = ceremony.folder / "agreement.json"
    refused = failed(
        "charter", "create", *ceremony.cards, "--agreement", agreement, "--quorum", "2", "--out", ceremony.folder / "x"
    )
    assert "quorum" in refused


def test_a_key_that_is_no_anchors_does_not_sign(ceremony: Ceremony, tmp_path: Path) -> None:
    done("init", tmp_path / "other", "--province", "sh", *_elsewhere())
    refused = failed("charter", "sign", ceremony.charter, "--keys", tmp_path / "other" / "keys", "--yes")
    assert "no anchor" in refused


def test_the_provinces_folder_will_do_for_its_keys(ceremony: Ceremony) -> None:
    done("charter", "sign", ceremony.charter, "--keys", ceremony.folder / "ah", "--yes")


def test_a_folder_without_keys_does_not_sign(ceremony: Ceremony, tmp_path: Path) -> None:
    assert "nothing" in failed("charter", "sign", ceremony.charter, "--keys", tmp_path / "nothing", "--yes")


def _elsewhere() -> list[str]:
    return [part for role in ("gateway", "issuer", "anchor") for part in (f"--{role}", f"https://{role}.other.test")]
