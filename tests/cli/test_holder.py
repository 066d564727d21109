"""mrg present: what is disclosed, what is withheld, and for whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.core.encoding import b64url_encode, parse_json_object, write_json
from gateway.core.jose import SoftwareKey, generate_key, parse_compact
from gateway.core.sd_jwt import hash_algorithm, issue, process, split
from tests.cli.ceremony import done, failed, mrg

AUDIENCE = "https://gateway.ah.test/services/counter"
ATTRIBUTES = {"name": "徐某", "id_number": "310101190001010011", "address": {"city": "合肥", "street": "长江路"}}
BASE = ("verified_claims", "claims")
HIDDEN = [(*BASE, "name"), (*BASE, "id_number"), (*BASE, "address"), (*BASE, "address", "street")]


@pytest.fixture
def wallet(tmp_path: Path) -> Path:
    """A folder with a holder's key and a credential."""
    write_wallet(tmp_path, HIDDEN)
    return tmp_path


def write_wallet(folder: Path, hidden: Sequence[tuple[str, ...]], extra: dict[str, Any] | None = None) -> None:
    key = generate_key()
    claims = {
        "iss": "https://issuer.sh.test",
        "vct": "urn:yrd:credential:resident-id:1",
        "cnf": {"jwk": dict(key.public.jwk)},
        "verified_claims": {"verification": {"trust_framework": "x"}, "claims": ATTRIBUTES},
        **(extra or {}),
    }
    salts = (b64url_encode(bytes([i]) * 16) for i in range(100))
    credential = issue(claims, hidden, salts=salts, signer=generate_key(), typ="dc+sd-jwt")
    (folder / "credential").write_text(credential)
    write_key(folder / "holder.pem", key)


def write_key(file: Path, key: SoftwareKey) -> None:
    file.write_bytes(key.to_pkcs8())


def arguments(wallet: Path, *more: str) -> list[str]:
    return [
        *("present", str(wallet / "credential"), "--holder-key", str(wallet / "holder.pem")),
        *("--audience", AUDIENCE, "--nonce", "n-1", *more),
    ]


def presented(presentation: str) -> dict[str, Any]:
    parts = split(presentation)
    payload = parse_json_object(parse_compact(parts.issuer_jwt, max_chars=40_000).payload)
    attributes: dict[str, Any] = process(payload, parts.disclosures, hash_algorithm(payload))["verified_claims"][
        "claims"
    ]
    return attributes


def test_only_what_is_named_is_disclosed(wallet: Path) -> None:
    document = done(*arguments(wallet, "--disclose", "name", "--json")).document
    assert document["disclosed"] == ["name"]
    assert sorted(document["withheld"]) == ["address", "address.street", "id_number"]
    assert presented(document["presentation"]) == {"name": "徐某"}


def test_a_nested_claim_comes_with_the_one_it_stands_in(wallet: Path) -> None:
    document = done(*arguments(wallet, "--disclose", "address.street", "--json")).document
    assert sorted(document["disclosed"]) == ["address", "address.street"]
    assert presented(document["presentation"]) == {"address": ATTRIBUTES["address"]}


def test_all_discloses_all_and_none_discloses_none(wallet: Path) -> None:
    assert presented(done(*arguments(wallet, "--all", "--json")).document["presentation"]) == ATTRIBUTES
    assert presented(done(*arguments(wallet, "--none", "--json")).document["presentation"]) == {}


def test_what_stands_in_clear_is_said(wallet: Path) -> None:
    document = done(*arguments(wallet, "--none", "--json")).document
    assert document["in_clear"] == ["iss", "vct", "cnf", "verified_claims"]


def test_the_proof_is_for_this_audience_and_nonce(wallet: Path) -> None:
    presentation = done(*arguments(wallet, "--none", "--json")).document["presentation"]
    proof = parse_compact(split(presentation).key_binding_jwt or "", max_chars=4_000).unverified_claims()
    assert (proof["aud"], proof["nonce"]) == (AUDIENCE, "n-1")


def test_without_out_the_presentation_alone_is_on_stdout(wallet: Path) -> None:
    ended = done(*arguments(wallet, "--disclose", "name"))
    assert presented(ended.out.strip()) == {"name": "徐某"}
    assert len(ended.out.splitlines()) == 1
    assert "Withheld" in ended.err
    assert "徐某" not in ended.err


def test_out_writes_a_file_for_its_owner_alone(wallet: Path) -> None:
    file = wallet / "presentation"
    ended = done(*arguments(wallet, "--all", "--out", str(file)))
    assert presented(file.read_text().strip()) == ATTRIBUTES
    assert file.stat().st_mode & 0o777 == 0o600
    assert "Disclosed" in ended.out


def test_a_challenge_file_says_audience_and_nonce(wallet: Path) -> None:
    (wallet / "challenge.json").write_text(json.dumps({"audience": AUDIENCE, "nonce": "n-2", "matter": "HK-QY"}))
    base: list[str | Path] = [
        "present",
        wallet / "credential",
        "--holder-key",
        wallet / "holder.pem",
        "--none",
        "--json",
    ]
    assert done(*base, "--challenge", wallet / "challenge.json").document["nonce"] == "n-2"
    assert done(*base, "--challenge", "-", piped=(wallet / "challenge.json").read_text()).document["nonce"] == "n-2"
    assert "--challenge" in failed(*base[:-1], "--challenge", wallet / "challenge.json", "--nonce", "n-3")
    (wallet / "challenge.json").write_text("[]")
    assert "challenge" in failed(*base[:-1], "--challenge", wallet / "challenge.json")


def test_the_credential_may_come_from_a_pipe(wallet: Path) -> None:
    piped = (wallet / "credential").read_text()
    ended = done("present", "-", *arguments(wallet, "--all", "--json")[2:], piped=piped)
    assert presented(ended.document["presentation"]) == ATTRIBUTES


def test_a_claim_of_the_same_name_elsewhere_is_told_apart(tmp_path: Path) -> None:
    write_wallet(tmp_path, [*HIDDEN, ("name",)], {"name": "elsewhere"})
    document = done(*arguments(tmp_path, "--none", "--json")).document
    assert sorted(document["withheld"]) == [".name", "address", "address.street", "id_number", "name"]
    shown = done(*arguments(tmp_path, "--disclose", ".name", "--json")).document
    assert shown["disclosed"] == [".name"]
    assert presented(shown["presentation"]) == {}


def acting(**claims: Any) -> dict[str, Any]:
    return {"act": {"sub": "actor", "relationship": "agent", "scope": ["HK-QY"], "claims": claims}}


def test_what_is_of_the_actor_is_named_so(tmp_path: Path) -> None:
    write_wallet(tmp_path, [*HIDDEN, ("act", "claims", "name")], acting(name="赵经办"))
    document = done(*arguments(tmp_path, "--disclose", "actor.name", "--json")).document
    assert document["disclosed"] == ["actor.name"]
    assert presented(document["presentation"]) == {}
    document = done(*arguments(tmp_path, "--disclose", "name", "--json")).document
    assert document["disclosed"] == ["name"]
    assert "act.claims" not in failed(*arguments(tmp_path, "--disclose", "act.claims.name"))


AMBIGUOUS: dict[str, tuple[dict[str, Any], tuple[tuple[str, ...], ...], str]] = {
    "the actor's, and one of the subject's": (acting(name="赵经办"), (("act", "claims", "name"),), "actor.name"),
    "nested, and with a dot": ({"x": {"y": 1}, "x.y": 2}, (("x", "y"), ("x.y",)), "x.y"),
}


@pytest.mark.parametrize(("extra", "hidden", "name"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_name_of_two_is_refused_and_chooses_neither(
    tmp_path: Path, extra: dict[str, Any], hidden: Sequence[tuple[str, ...]], name: str
) -> None:
    claims = {**ATTRIBUTES, "actor": {"name": "of the subject"}}
    verified = {"verified_claims": {"verification": {"trust_framework": "x"}, "claims": claims}}
    write_wallet(tmp_path, [*HIDDEN, (*BASE, "actor", "name"), *hidden], {**verified, **extra})
    refused = failed(*arguments(tmp_path, "--disclose", name))
    assert "ambiguous" in refused
    assert f"--disclose {name} or" not in refused
    assert done(*arguments(tmp_path, "--disclose", "name", "--json")).document["disclosed"] == ["name"]
    assert done(*arguments(tmp_path, "--all", "--json")).document["withheld"] == []


# -- a person at a terminal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "disclosed"),
    [("name\n", {"name"}), ("all\n", set(ATTRIBUTES)), ("none\n", set()), ("\n", set())],
)
def test_a_person_chooses_by_name(wallet: Path, typed: str, disclosed: set[str]) -> None:
    file = wallet / "presentation"
    ended = mrg(*arguments(wallet, "--out", str(file)), typed=typed)
    assert ended.code == 0, ended.err
    assert set(presented(file.read_text().strip())) == disclosed
    assert "徐某" in ended.err


def test_a_person_chooses_by_number(wallet: Path) -> None:
    names = done(*arguments(wallet, "--none", "--json")).document["withheld"]
    number = names.index("id_number") + 1
    file = wallet / "presentation"
    assert mrg(*arguments(wallet, "--out", str(file)), typed=f"{number}\n").code == 0
    assert set(presented(file.read_text().strip())) == {"id_number"}


def test_a_person_may_give_up(wallet: Path) -> None:
    assert mrg(*arguments(wallet), typed="").code == 130


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_where_nobody_can_be_asked_the_choice_must_be_given(wallet: Path) -> None:
    refused = failed(*arguments(wallet))
    assert "--disclose name" in refused
    assert "徐某" not in refused


def test_a_claim_that_is_not_there_is_refused_with_those_that_are(wallet: Path) -> None:
    refused = failed(*arguments(wallet, "--disclose", "姓名"))
    assert "--disclose name" in refused
    assert "姓名" not in refused


def test_choices_that_contradict_each_other_are_refused(wallet: Path) -> None:
    assert "exclude" in failed(*arguments(wallet, "--all", "--none"))
    assert "exclude" in failed(*arguments(wallet, "--all", "--disclose", "name"))


@pytest.mark.parametrize("missing", ["--audience", "--nonce"])
def test_a_missing_half_of_the_challenge_is_named(wallet: Path, missing: str) -> None:
    given = arguments(wallet, "--all")
    position = given.index(missing)
    assert f"{missing} is missing" in failed(*given[:position], *given[position + 2 :])


def test_another_holders_key_is_refused(wallet: Path) -> None:
    write_key(wallet / "holder.pem", generate_key())
    assert "bound to" in failed(*arguments(wallet, "--all"))


def test_what_is_no_key_is_refused(wallet: Path) -> None:
    (wallet / "holder.pem").write_text("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n")
    assert "holder.pem" in failed(*arguments(wallet, "--all"))


@pytest.mark.parametrize("content", ["", "x", "a.b.c~", "a.b.c~~", "eyJ.eyJ.x~WyJ4Il0~", "徐某"])
def test_what_is_no_credential_is_refused_without_repeating_it(wallet: Path, content: str) -> None:
    (wallet / "credential").write_text(content)
    refused = failed(*arguments(wallet, "--all"))
    assert "徐某" not in refused


def test_a_presentation_is_not_presented_again(wallet: Path) -> None:
    presentation = done(*arguments(wallet, "--all")).out.strip()
    (wallet / "credential").write_text(presentation)
    assert "cannot be read" in failed(*arguments(wallet, "--all"))


def test_a_credential_bound_to_no_key_is_refused(tmp_path: Path) -> None:
    write_wallet(tmp_path, HIDDEN, {"cnf": {"kid": "x"}})
    assert "bound to no holder key" in failed(*arguments(tmp_path, "--all"))


def test_escape_sequences_in_a_credential_do_not_reach_the_terminal(tmp_path: Path) -> None:
    write_wallet(tmp_path, HIDDEN, {"\x1b[2J": write_json(["x"]).decode()})
    ended = done(*arguments(tmp_path, "--none"))
    assert "\x1b" not in ended.err
