"""mrg init: answers from options, from a person, from before; keys are never replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config import PostgresUrl
from gateway.config.reader import load_config
from gateway.provision.answers import read
from tests.cli.ceremony import Ceremony, done, edited, failed, init_arguments, mrg

ENTITIES = ("--gateway", "https://gateway.ah.test", "--issuer", "https://issuer.ah.test")
ANCHOR = ("--anchor", "https://anchor.ah.test")


def contents(folder: Path) -> Mapping[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_running_it_again_changes_no_file(ceremony: Ceremony) -> None:
    before = contents(ceremony.folder / "ah")
    done("init", ceremony.folder / "ah", *init_arguments("ah"))
    assert contents(ceremony.folder / "ah") == before


def test_running_it_again_without_options_keeps_the_answers(ceremony: Ceremony) -> None:
    before = contents(ceremony.folder / "ah")
    done("init", ceremony.folder / "ah")
    assert contents(ceremony.folder / "ah") == before


def test_a_service_added_later_gets_a_certificate_and_the_keys_stay(ceremony: Ceremony) -> None:
    province = ceremony.folder / "ah"
    before = contents(province)
    added = done("init", province, "--service", "court:法院:justice:KY-LA", "--json").document
    assert set(added["clients"]) == {"court", "identity"}
    assert set(added["administrators"]) == {"admin-1", "admin-2"}
    assert all(Path(profile).is_file() for profile in added["administrators"].values())
    after = contents(province)
    assert "clients/court.pem" in after
    assert {name: after[name] for name in before if name.startswith(("keys/", "tls/", "clients/"))} == {
        name: before[name] for name in before if name.startswith(("keys/", "tls/", "clients/"))
    }


def test_json_gives_the_card_and_its_fingerprint(ceremony: Ceremony) -> None:
    document = done("init", ceremony.folder / "ah", "--json").document
    assert document["step"] == "created"
    assert Path(document["card"]).is_file()
    assert len(document["fingerprint"]) == 43


def test_private_files_belong_to_their_owner_alone(ceremony: Ceremony) -> None:
    province = ceremony.folder / "ah"
    private = [*(province / "keys").iterdir(), *province.rglob("*.key")]
    assert private
    assert all(file.stat().st_mode & 0o077 == 0 for file in private)


# -- what protects the keys -------------------------------------------------------------------------------------------


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    file = tmp_path / "passphrase"
    file.touch(mode=0o600)
    file.write_text("correct horse battery staple\n", "ascii")
    return file


def test_keys_are_encrypted_from_the_start_and_the_next_run_knows_it(tmp_path: Path, passphrase: Path) -> None:
    arguments = init_arguments("ah")
    plain = done("init", tmp_path / "plain", *arguments, "--json").document
    made = done("init", tmp_path / "ah", *arguments, "--passphrase-file", passphrase, "--json").document

    assert (plain["key_protection"], made["key_protection"]) == ("none", "passphrase")
    files = list((tmp_path / "ah" / "keys").glob("*.pem"))
    assert files
    assert all(b"BEGIN ENCRYPTED PRIVATE KEY" in file.read_bytes() for file in files)
    before = contents(tmp_path / "ah")
    assert done("init", tmp_path / "ah", "--json").document["key_protection"] == "passphrase"
    assert contents(tmp_path / "ah") == before
    assert not any(b"battery" in content for content in before.values())


def test_keys_that_are_not_encrypted_are_said_not_to_be(tmp_path: Path) -> None:
    assert "NOT encrypted" in done("init", tmp_path / "ah", *init_arguments("ah")).out


def test_passphrase_that_others_can_read_makes_no_key(tmp_path: Path, passphrase: Path) -> None:
    passphrase.chmod(0o644)
    failed("init", tmp_path / "ah", *init_arguments("ah"), "--passphrase-file", passphrase)
    assert not list(tmp_path.rglob("*.pem"))


@pytest.mark.parametrize("missing", ["--pkcs11-module", "--pkcs11-token", "--pin-file"])
def test_token_needs_all_three_options(tmp_path: Path, passphrase: Path, missing: str) -> None:
    given: dict[str, str | Path] = {"--pkcs11-module": passphrase, "--pkcs11-token": "mrg", "--pin-file": passphrase}
    del given[missing]
    options: list[str | Path] = [part for option in given.items() for part in option]
    assert missing in failed("init", tmp_path / "ah", *init_arguments("ah"), *options)
    assert not (tmp_path / "ah").exists()


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ((), "--province"),
        (("--province", "ah"), "--gateway"),
        (("--province", "ah", *ENTITIES[:2]), "--issuer"),
        (("--province", "ah", *ENTITIES), "--anchor"),
    ],
)
def test_where_nobody_can_be_asked_the_missing_option_is_named(
    tmp_path: Path, given: tuple[str, ...], missing: str
) -> None:
    assert f"{missing} is missing" in failed("init", tmp_path / "ah", *given)
    assert not (tmp_path / "ah").exists()


def test_the_rest_has_defaults(tmp_path: Path) -> None:
    done("init", tmp_path / "ah", "--province", "ah", *ENTITIES, *ANCHOR)
    answers = read(tmp_path / "ah")
    assert answers.reached_at == "gateway.ah.test"
    assert answers.dns_names == ("gateway.ah.test",)
    assert answers.ip_addresses == ("127.0.0.1",)
    assert (answers.services, answers.systems) == ((), ())


def test_a_person_is_asked_and_may_take_what_is_suggested(tmp_path: Path) -> None:
    typed = "ah\n\n\n\n\n\n\n\ncounter:户政窗口:household:HK-QY\n\nidentity\n\n"
    ended = mrg("init", tmp_path / "ah", typed=typed)
    assert ended.code == 0, ended.err
    answers = read(tmp_path / "ah")
    assert answers.issuer == "https://issuer.ah.mrg.example"
    assert answers.verification_address == "0.0.0.0:7443"
    assert set(answers.clients) == {"counter", "identity"}


def test_a_person_is_not_asked_what_an_option_says(tmp_path: Path) -> None:
    arguments = [*init_arguments("ah"), "--refresh-seconds", "5"]
    ended = mrg("init", tmp_path / "ah", *arguments, typed="")
    assert ended.code == 0, ended.err
    assert read(tmp_path / "ah").refresh_seconds == 5


def test_a_person_who_gives_up_leaves_nothing_behind(tmp_path: Path) -> None:
    assert mrg("init", tmp_path / "ah", typed="ah\n").code == 130
    assert not (tmp_path / "ah").exists()


def test_only_a_service_that_is_named_may_have_its_decisions_explained(ceremony: Ceremony) -> None:
    province = ceremony.folder / "ah"
    services = ("--service", "counter:户政窗口:household:HK-QY", "--service", "court:法院:justice:KY-LA")
    done("init", province, *services, "--explain", "court")
    digest = ceremony.sign()
    ended = done(
        *("init", province, "--charter", ceremony.charter, "--charter-sha256", digest),
        *(*ceremony.cards, "--json"),
    )
    explained = {each.name: each.explain for each in load_config(Path(ended.document["config"])).relying_services}
    assert explained == {"户政窗口": False, "法院": True}
    done("init", province)
    assert {each.name: each.explain for each in read(province).services} == {"counter": False, "court": True}


def test_a_service_to_be_explained_must_be_one(tmp_path: Path) -> None:
    assert "--explain" in failed("init", tmp_path / "ah", *init_arguments("ah"), "--explain", "court")
    assert not (tmp_path / "ah").exists()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (("--gateway", "http://gateway.ah.test"), "--gateway"),
        (("--issuer", "https://gateway.ah.test/issuer"), "--issuer"),
        (("--federation-address", "127.0.0.1"), "--federation-address"),
        (("--database", "gateway.sqlite"), "--database"),
        (("--database", "postgresql://mrg:secret@db/gateway"), "--database"),
        (("--service", "counter"), "--service"),
        (("--service", "counter:户政窗口:household:"), "--service"),
        (("--service", "counter:户政窗口:HH hh:HK-QY"), "services[0].sector"),
        (("--service", "counter:户政窗口:household:HK QY"), "services[0].matters"),
        (("--service", f"counter:{'户' * 101}:household:HK-QY"), "services[0].title"),
        (("--service", "Counter 1:户政窗口:household:HK-QY"), "services[0].name"),
    ],
)
def test_a_wrong_answer_is_named_before_anything_is_made(tmp_path: Path, wrong: tuple[str, str], named: str) -> None:
    arguments = ["--province", "ah", *ENTITIES, *ANCHOR, *wrong]
    assert named in failed("init", tmp_path / "ah", *arguments)
    assert not (tmp_path / "ah" / "keys").exists()


def test_a_database_of_a_server_is_remembered_and_configured(tmp_path: Path) -> None:
    url = "postgresql://mrg@db.ah.example/gateway"
    done("init", tmp_path / "ah", *init_arguments("ah"), "--database", url)
    done("init", tmp_path / "ah", *init_arguments("ah"))
    assert read(tmp_path / "ah").database == PostgresUrl(url)


# -- the second run ---------------------------------------------------------------------------------------------------


def test_the_second_run_names_what_is_missing(ceremony: Ceremony) -> None:
    digest = ceremony.sign()
    province = ceremony.folder / "ah"
    assert "--charter-sha256" in failed("init", province, "--charter", ceremony.charter, *ceremony.cards)
    refused = failed("init", province, "--charter", ceremony.charter, "--charter-sha256", digest)
    assert "no card" in refused
    assert not (province / "gateway.toml").exists()


def test_the_second_run_refuses_a_charter_of_another_digest(ceremony: Ceremony) -> None:
    ceremony.sign()
    province = ceremony.folder / "ah"
    refused = failed("init", province, "--charter", ceremony.charter, "--charter-sha256", "A" * 43, *ceremony.cards)
    assert "digest" in refused
    assert not (province / "gateway.toml").exists()


def test_the_second_run_refuses_a_charter_without_its_quorum(ceremony: Ceremony) -> None:
    digest = ceremony.sign(["sh", "js"])
    province = ceremony.folder / "ah"
    refused = failed("init", province, "--charter", ceremony.charter, "--charter-sha256", digest, *ceremony.cards)
    assert "2 of 3" in refused


def test_a_card_with_another_key_than_the_charters_is_refused(ceremony: Ceremony) -> None:
    digest = ceremony.sign()
    stranger = ceremony.folder / "stranger"
    done("init", stranger, *init_arguments("zj"))
    cards = [str(stranger / "card.json") if part.endswith("/zj/card.json") else part for part in ceremony.cards]
    refused = failed(
        *("init", ceremony.folder / "ah", "--charter", ceremony.charter, "--charter-sha256", digest), *cards
    )
    assert "anchor_key" in refused


def test_a_configuration_somebody_changed_is_replaced_only_on_request(ceremony: Ceremony) -> None:
    ceremony.complete(["ah"])
    config = ceremony.folder / "ah" / "gateway.toml"
    again: list[str | Path] = [
        *("init", ceremony.folder / "ah", "--charter", ceremony.charter),
        *("--charter-sha256", load_config(config).charter.sha256, *ceremony.cards),
    ]
    done(*again)
    with edited(config, "interval_seconds = 60", "interval_seconds = 7"):
        assert "gateway.toml" in failed(*again)
        assert load_config(config).refresh.interval_seconds == 7
        done(*again, "--replace")
        assert load_config(config).refresh.interval_seconds == 60


def test_the_second_run_gives_its_result_as_json(ceremony: Ceremony) -> None:
    digest = ceremony.sign()
    ended = done(
        *("init", ceremony.folder / "ah", "--charter", ceremony.charter, "--charter-sha256", digest),
        *(*ceremony.cards, "--json"),
    )
    assert ended.document["step"] == "completed"
    assert load_config(Path(ended.document["config"])).charter.sha256 == digest
