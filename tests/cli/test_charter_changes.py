"""From one charter to the next: who joins, who leaves, which keys an anchor has, and who has to sign it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.core.charter import parse_charter, verify_successor
from gateway.core.jose import Signer
from gateway.keystore.file import FileKeyStore
from tests.cli.ceremony import CODES, Ceremony, done, failed, init_arguments, mrg

PASSPHRASE = "correct horse battery staple 8"


@pytest.fixture
def agreed(ceremony: Ceremony) -> Ceremony:
    """Four provinces under a charter that all signed."""
    ceremony.sign()
    return ceremony


def payload(file: Path) -> dict[str, Any]:
    claims: dict[str, Any] = done("charter", "show", file, "--json").document["payload"]
    return claims


def anchors(file: Path) -> list[str]:
    return [anchor["province"] for anchor in payload(file)["anchors"]]


def members(file: Path) -> list[str]:
    return [member["entity_id"] for member in payload(file)["members"]]


def terms(file: Path) -> list[str]:
    return [issuer["entity_id"] for issuer in payload(file)["agreement"]["issuers"]]


def kids(file: Path, code: str) -> list[str]:
    return [
        jwk["kid"]
        for anchor in payload(file)["anchors"]
        if anchor["province"] == code
        for jwk in anchor["jwks"]["keys"]
    ]


def cautions(file: Path, previous: Path) -> set[str]:
    verified = mrg("charter", "verify", file, "--previous", previous, "--json").document
    return {each["kind"] for each in verified["cautions"]}


def follows(file: Path, previous: Path) -> bool:
    """Whether a gateway would take the step; the command must say the same."""
    accepted: bool = mrg("charter", "verify", file, "--previous", previous, "--json").document["acceptable"]
    if accepted:
        verify_successor(parse_charter(previous.read_text()).unverified, file.read_text().strip())
    return accepted


def renewed(ceremony: Ceremony, code: str) -> Path:
    """Another folder for a province, with the same names and new keys: what was left after a fire."""
    folder = ceremony.folder / f"{code}-new"
    done("init", folder, *init_arguments(code))
    return folder


# -- members ----------------------------------------------------------------------------------------------------------


def test_a_member_that_leaves_takes_its_terms_along_and_that_is_said(agreed: Ceremony) -> None:
    file = agreed.folder / "next.json"
    created = done(
        *("charter", "create", "--previous", agreed.charter, "--out", file),
        *("--remove-member", "https://issuer.zj.test", "--json"),
    )
    assert len(created.document["also_changed"]) == 1
    assert "https://issuer.zj.test" in created.document["also_changed"][0]
    assert set(members(agreed.charter)) - set(members(file)) == {"https://issuer.zj.test"}
    assert terms(file) == [f"https://issuer.{code}.test" for code in ("sh", "js", "ah")]
    assert anchors(file) == list(CODES)
    assert cautions(file, agreed.charter) == {"member_removed"}


def test_a_member_that_leaves_is_taken_out_of_a_new_agreement_too(agreed: Ceremony) -> None:
    agreement = agreed.folder / "agreement.json"
    file = agreed.amend("--remove-member", "https://issuer.zj.test", "--agreement", agreement)
    assert "https://issuer.zj.test" not in terms(file)


def test_terms_for_somebody_who_never_was_a_member_are_refused(agreed: Ceremony) -> None:
    agreement = agreed.folder / "agreement.json"
    agreement.write_text(agreement.read_text().replace("https://issuer.zj.test", "https://isuer.zj.test"))
    refused = failed(
        *("charter", "create", "--previous", agreed.charter, "--agreement", agreement, "--out", agreed.folder / "x")
    )
    assert "agreement" in refused


def test_a_member_joins_from_a_file_and_is_marked_while_it_has_no_terms(agreed: Ceremony) -> None:
    member = {
        "entity_id": "https://issuer.nanjing.test",
        "province": "js",
        "entity_types": ["identity_credential_issuer"],
        "name_zh": "南京身份认证机构",
        "name_en": "Nanjing identity authority",
    }
    (agreed.folder / "member.json").write_text(json.dumps(member))
    file = agreed.amend("--add-member", agreed.folder / "member.json")
    assert set(members(file)) - set(members(agreed.charter)) == {member["entity_id"]}
    assert cautions(file, agreed.charter) == {"member_added", "issuer_without_terms"}
    again = agreed.amend("--add-member", agreed.folder / "member.json", previous=file, name="again.json")
    assert members(again) == members(file)


def test_the_agreement_can_be_taken_out_edited_and_put_back(agreed: Ceremony) -> None:
    agreement = done("charter", "show", agreed.charter, "--agreement").document
    assert agreement == payload(agreed.charter)["agreement"]
    agreement["clock_skew_seconds"] = 30
    (agreed.folder / "edited.json").write_text(json.dumps(agreement))
    file = agreed.amend("--agreement", agreed.folder / "edited.json")
    assert payload(file)["agreement"]["clock_skew_seconds"] == 30


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", '{"entity_id": "https://a.test"}', "{", '{"recognition_card": 1}'],
)
def test_what_is_no_member_does_not_join(agreed: Ceremony, content: str) -> None:
    file = agreed.folder / "member.json"
    file.write_text(content)
    refused = failed(
        *("charter", "create", "--previous", agreed.charter, "--add-member", file, "--out", agreed.folder / "x")
    )
    assert "member.json" in refused


# -- provinces and anchors --------------------------------------------------------------------------------------------


def test_a_province_may_leave_and_its_anchor_still_hands_over(agreed: Ceremony) -> None:
    file = agreed.amend("--leaving", "ah")
    assert anchors(file) == ["sh", "js", "zj"]
    assert not any(".ah." in name for name in members(file) + terms(file))
    assert payload(file)["quorum"] == 3
    assert cautions(file, agreed.charter) == {"member_removed", "no_anchor_to_spare"}
    refused = failed("charter", "sign", file, "--keys", agreed.keys("ah"), "--yes")
    assert "--previous" in refused
    signed = done("charter", "sign", file, "--keys", agreed.keys("ah"), "--previous", agreed.charter, "--json", "--yes")
    assert signed.document["signatures"]["signed"] == []
    assert signed.document["previous_signatures"]["signed"] == ["ah"]


def test_a_province_joins_with_all_it_has(ceremony: Ceremony) -> None:
    cards = [part for code in ("sh", "js", "zj") for part in ("--card", ceremony.folder / code / "card.json")]
    agreement = ceremony.folder / "three.json"
    agreement.write_text(done("charter", "create", "--example-agreement", *cards).out)
    first = ceremony.folder / "first.json"
    done("charter", "create", *cards, "--agreement", agreement, "--quorum", "2", "--out", first)
    ceremony.sign(["sh", "js", "zj"], first)
    card = ceremony.folder / "ah" / "card.json"
    whole = ceremony.amend("--card", card, "--agreement", ceremony.folder / "agreement.json", previous=first)
    assert (anchors(whole), payload(whole)["quorum"]) == (list(CODES), 3)
    assert cautions(whole, first) == {"anchor_added", "member_added"}
    ceremony.sign(["sh", "ah"], whole, first)
    assert not follows(whole, first)
    ceremony.sign(["js"], whole, first)
    assert follows(whole, first)
    # The same in parts: members without their anchor, then the anchor.
    joined = ceremony.amend("--add-member", card, previous=first, name="members.json")
    assert anchors(joined) == ["sh", "js", "zj"]
    both = ceremony.amend("--add-anchor", card, previous=joined, name="anchor.json")
    assert anchors(both) == list(CODES)
    assert members(both) == members(whole)


def test_an_anchor_leaves_and_its_members_stay(agreed: Ceremony) -> None:
    file = agreed.amend("--remove-anchor", "zj", "--quorum", "2")
    assert (anchors(file), payload(file)["quorum"]) == (["sh", "js", "ah"], 2)
    assert members(file) == members(agreed.charter)
    assert cautions(file, agreed.charter) == set()
    by_name = agreed.amend("--remove-anchor", "https://anchor.zj.test", "--quorum", "2", name="by-name.json")
    assert anchors(by_name) == anchors(file)


def test_a_lost_anchor_is_replaced_without_it(agreed: Ceremony) -> None:
    folder = renewed(agreed, "zj")
    shutil.rmtree(agreed.keys("zj"))
    file = agreed.amend("--remove-anchor", "zj", "--add-anchor", folder / "card.json")
    assert anchors(file) == list(CODES)
    assert kids(file, "zj") != kids(agreed.charter, "zj")
    assert cautions(file, agreed.charter) == {"anchor_added"}
    agreed.sign(["sh", "js"], file, agreed.charter)
    done("charter", "sign", file, "--keys", folder, "--previous", agreed.charter, "--yes")
    progress = mrg("charter", "verify", file, "--previous", agreed.charter, "--json").document
    assert progress["signatures"]["signed"] == ["sh", "js", "zj"]
    assert progress["previous_signatures"]["signed"] == ["sh", "js"]
    assert not progress["acceptable"]
    agreed.sign(["ah"], file, agreed.charter)
    assert follows(file, agreed.charter)


def test_replacing_too_many_anchors_at_once_is_marked(agreed: Ceremony) -> None:
    changes = [part for code in ("zj", "ah") for part in ("--remove-anchor", code)]
    cards = [part for code in ("zj", "ah") for part in ("--add-anchor", renewed(agreed, code) / "card.json")]
    file = agreed.amend(*changes, *cards)
    assert cautions(file, agreed.charter) == {"anchor_added", "recognition_gap"}


# -- keys of an anchor ------------------------------------------------------------------------------------------------


def second_key(ceremony: Ceremony, code: str) -> tuple[Signer, Path]:
    """Make another key in a province's store, and write its public half for the others."""
    key = FileKeyStore.open(ceremony.keys(code)).generate("anchor-federation")
    file = ceremony.folder / f"{code}-key.json"
    done("charter", "key", "--keys", ceremony.keys(code), "--kid", key.public.kid, "--out", file)
    return key, file


def test_an_anchor_changes_its_key_in_two_charters(agreed: Ceremony) -> None:
    (old_kid,) = kids(agreed.charter, "zj")
    new, file = second_key(agreed, "zj")
    both = agreed.amend("--add-anchor-key", f"zj={file}", name="both.json")
    assert set(kids(both, "zj")) == {old_kid, new.public.kid}
    assert cautions(both, agreed.charter) == set()
    signed = done("charter", "sign", both, "--keys", agreed.keys("zj"), "--previous", agreed.charter, "--yes", "--json")
    assert set(signed.document["kids"]) == {old_kid, new.public.kid}
    assert signed.document["signatures"]["signed"] == signed.document["previous_signatures"]["signed"] == ["zj"]
    agreed.sign(["sh", "js"], both, agreed.charter)
    assert follows(both, agreed.charter)

    only = agreed.amend("--remove-anchor-key", old_kid, previous=both, name="only.json")
    assert kids(only, "zj") == [new.public.kid]
    assert cautions(only, both) == {"anchor_key_dropped"}
    (agreed.keys("zj") / f"anchor-federation.{old_kid}.pem").unlink()
    agreed.sign(["sh", "zj"], only, both)
    assert not follows(only, both)
    agreed.sign(["ah"], only, both)
    assert follows(only, both)


def test_a_key_is_added_once(agreed: Ceremony) -> None:
    card = agreed.folder / "zj" / "card.json"
    assert kids(agreed.amend("--add-anchor-key", f"zj={card}"), "zj") == kids(agreed.charter, "zj")


def test_all_keys_of_an_anchor_can_be_swapped_in_one_step(agreed: Ceremony) -> None:
    (old_kid,) = kids(agreed.charter, "zj")
    new, file = second_key(agreed, "zj")
    swapped = agreed.amend("--remove-anchor-key", old_kid, "--add-anchor-key", f"zj={file}")
    assert kids(swapped, "zj") == [new.public.kid]
    assert cautions(swapped, agreed.charter) == {"anchor_added"}


# -- where the key is -------------------------------------------------------------------------------------------------


def key_file(ceremony: Ceremony, code: str) -> Path:
    (file,) = ceremony.keys(code).glob("anchor-federation*.pem")
    return file


def test_one_key_file_will_do(ceremony: Ceremony) -> None:
    alone = ceremony.folder / "stick" / "zj.pem"
    alone.parent.mkdir()
    shutil.move(key_file(ceremony, "zj"), alone)
    signed = done("charter", "sign", ceremony.charter, "--key", alone, "--yes", "--json")
    assert signed.document["signatures"]["signed"] == ["zj"]


def test_an_encrypted_key_file_needs_its_passphrase(ceremony: Ceremony) -> None:
    store = FileKeyStore.open(ceremony.keys("zj"))
    key = store.sole("anchor-federation")
    alone = ceremony.folder / "zj.pem"
    alone.touch(mode=0o600)
    alone.write_bytes(key.to_pkcs8(PASSPHRASE.encode()))  # type: ignore[attr-defined]
    secret = ceremony.folder / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text("not that one, but long enough\n")
    assert "--passphrase-file" in failed("charter", "sign", ceremony.charter, "--key", alone, "--yes")
    failed("charter", "sign", ceremony.charter, "--key", alone, "--passphrase-file", secret, "--yes")
    secret.write_text(PASSPHRASE)
    done("charter", "sign", ceremony.charter, "--key", alone, "--passphrase-file", secret, "--yes")


@pytest.mark.parametrize(
    "place",
    [(), ("--keys", "zj/keys", "--key", "zj.pem"), ("--key", "nowhere.pem"), ("--key", "zj/card.json")],
    ids=["none", "two", "missing", "no-key"],
)
def test_the_key_is_in_one_place(ceremony: Ceremony, place: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ceremony.folder)
    before = ceremony.charter.read_text()
    failed("charter", "sign", ceremony.charter, "--yes", *place)
    assert ceremony.charter.read_text() == before


def test_a_key_that_others_can_read_does_not_sign(ceremony: Ceremony) -> None:
    key_file(ceremony, "zj").chmod(0o644)
    assert "chmod 600" in failed("charter", "sign", ceremony.charter, "--key", key_file(ceremony, "zj"), "--yes")


def test_public_keys_are_written_without_the_private_half(agreed: Ceremony) -> None:
    _, file = second_key(agreed, "zj")
    (jwk,) = json.loads(file.read_text())["keys"]
    assert "d" not in jwk
    out = agreed.folder / "all.json"
    assert len(done("charter", "key", "--keys", agreed.keys("zj"), "--out", out, "--json").document["kids"]) == 2
    assert "--kid" in failed("charter", "key", "--keys", agreed.keys("zj"), "--kid", "x", "--out", out)


# -- signed in parallel -----------------------------------------------------------------------------------------------


def copies(ceremony: Ceremony, codes: Sequence[str]) -> list[Path]:
    files = [ceremony.folder / f"signed-{code}.json" for code in codes]
    for code, file in zip(codes, files, strict=True):
        done("charter", "sign", ceremony.charter, "--keys", ceremony.keys(code), "--out", file, "--yes")
    return files


def test_copies_that_provinces_signed_in_parallel_are_put_together(ceremony: Ceremony) -> None:
    files = copies(ceremony, CODES[:3])
    whole = ceremony.folder / "whole.json"
    merged = done("charter", "merge", *files[:2], "--out", whole, "--json").document
    assert (merged["signatures"]["signed"], merged["signatures"]["missing"]) == (["sh", "js"], ["zj", "ah"])
    assert mrg("charter", "verify", whole).code == 1
    assert "3 of 3, not signed by ah" in done("charter", "merge", whole, files[2], "--out", whole).out
    assert mrg("charter", "verify", whole).code == 0


def test_copies_of_a_successor_are_counted_on_both_sides(agreed: Ceremony) -> None:
    file = agreed.amend("--remove-anchor", "ah", "--quorum", "2")
    other = agreed.folder / "copy.json"
    shutil.copy(file, other)
    agreed.sign(["sh"], file, agreed.charter)
    agreed.sign(["ah", "js"], other, agreed.charter)
    merged = done("charter", "merge", file, other, "--out", file, "--previous", agreed.charter, "--json").document
    assert merged["signatures"]["signed"] == ["sh", "js"]
    assert merged["previous_signatures"]["signed"] == ["sh", "js", "ah"]
    assert follows(file, agreed.charter)


def test_different_charters_are_not_merged(ceremony: Ceremony) -> None:
    (first,) = copies(ceremony, ["sh"])
    other = ceremony.folder / "other.json"
    agreement = ceremony.folder / "agreement.json"
    done("charter", "create", *ceremony.cards, "--agreement", agreement, "--days", "90", "--out", other)
    refused = failed("charter", "merge", first, other, "--out", ceremony.folder / "whole.json")
    for file in (first, other):
        assert mrg("charter", "verify", file, "--json").document["sha256"] in refused
    assert not (ceremony.folder / "whole.json").exists()
    before = other.read_text()
    assert "exists" in failed("charter", "merge", first, "--out", other)
    assert other.read_text() == before


# -- options that do not fit ------------------------------------------------------------------------------------------

MISFITS: dict[str, tuple[str, ...]] = {
    "an unknown member": ("--remove-member", "https://issuer.bj.test"),
    "an unknown anchor": ("--remove-anchor", "bj"),
    "a second anchor of a province": ("--add-anchor", "zj/card.json"),
    "a key of nobody": ("--remove-anchor-key", "x"),
    "a key for a province without anchor": ("--remove-anchor", "zj", "--add-anchor-key", "zj=zj/card.json"),
    "a key without province": ("--add-anchor-key", "zj/card.json"),
    "a key that is none": ("--add-anchor-key", "zj=agreement.json"),
    "a quorum of half": ("--quorum", "2"),
    "a quorum of more than all": ("--quorum", "5"),
    "a quorum that was enough before": ("--remove-anchor", "zj", "--quorum", "4"),
    "two ends": ("--days", "30", "--expires", "2027-01-01T00:00:00Z"),
    "an end in the past": ("--expires", "2020-01-01T00:00:00Z"),
    "an end without zone": ("--expires", "2027-01-01T00:00:00"),
    "a province that takes no part": ("--leaving", "ah", "--remove-anchor", "ah"),
}


@pytest.mark.parametrize("options", MISFITS.values(), ids=MISFITS)
def test_options_that_do_not_fit_are_refused(
    agreed: Ceremony, options: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(agreed.folder)
    failed("charter", "create", "--previous", "charter.json", "--out", "x.json", *options)
    assert not Path("x.json").exists()


def test_the_last_key_of_an_anchor_stays(agreed: Ceremony) -> None:
    (kid,) = kids(agreed.charter, "zj")
    refused = failed(
        *("charter", "create", "--previous", agreed.charter, "--remove-anchor-key", kid, "--out", agreed.folder / "x")
    )
    assert "--remove-anchor zj" in refused


@pytest.mark.parametrize(
    "change",
    ["--leaving=zj", "--remove-member=a", "--add-member=a", "--remove-anchor=zj", "--add-anchor=a"],
)
def test_a_change_needs_what_it_changes(ceremony: Ceremony, change: str) -> None:
    agreement = ceremony.folder / "agreement.json"
    refused = failed(
        "charter", "create", *ceremony.cards, "--agreement", agreement, change, "--out", ceremony.folder / "x"
    )
    assert "--previous" in refused


def test_the_end_can_be_named(agreed: Ceremony) -> None:
    file = agreed.folder / "next.json"
    created = done("charter", "create", "--previous", agreed.charter, "--days", "30", "--out", file, "--json")
    end = created.document["expires_at"]
    other = agreed.folder / "named.json"
    named = done("charter", "create", "--previous", agreed.charter, "--expires", end, "--out", other, "--json")
    assert payload(other)["exp"] == payload(file)["exp"]
    assert named.document["version"] == 2
