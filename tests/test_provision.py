"""Setting up a province: what is made, what is never made twice, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import World, system_world
from gateway.config import KeyStoreOptions, Role, SecretSource, reader
from gateway.config.reader import load_config
from gateway.core.charter import add_signature, draft, parse_charter, unsigned, verify_pinned, verify_successor
from gateway.core.identifiers import Province
from gateway.core.jose import generate_key
from gateway.core.reasons import NotPermitted
from gateway.keystore.file import FileKeyStore
from gateway.lab.charter import charter_claims as lab_claims
from gateway.lab.charter import entity_ids
from gateway.provision import ProvisionError
from gateway.provision import answers as decisions
from gateway.provision.answers import Answers, Service
from gateway.provision.cards import Card, charter_claims, read_card
from gateway.provision.province import Validity, complete_province, create_province
from gateway.tls import CallerReader, create_ca

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
WORLD = World(now=lambda: NOW, random_bytes=system_world().random_bytes)
SH, JS, ZJ, AH = Province
DAYS_180 = timedelta(days=180)


def answers(province: Province, **changes: Any) -> Answers:
    ids, port = entity_ids(province), 7000 + 10 * list(Province).index(province)
    return dataclasses.replace(
        Answers(
            province=province,
            gateway=ids.gateway,
            issuer=ids.issuer,
            anchor=ids.anchor,
            verification_address=f"0.0.0.0:{port}",
            federation_address=f"0.0.0.0:{port + 1}",
            admin_address=f"127.0.0.1:{port + 2}",
            reached_at=f"gateway.{province.code}.mrg.example",
            dns_names=(f"gateway.{province.code}.mrg.example",),
            ip_addresses=("192.0.2.7",),
            services=(
                Service(name="counter", title="户政窗口", sector="household", matters=frozenset({"HK-QY", "DZ-LZ"})),
            ),
            systems=("identity",),
        ),
        **changes,
    )


CLIENTS = ("counter", "identity", "admin-1", "admin-2", "auditor-1")


class Delta:
    """Four provinces that have exchanged cards, and the charter they signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for province in Province:
            create_province(folder / province.code, answers(province), WORLD)
        self.cards = {folder / p.code / "card.json": read_card(folder / p.code / "card.json") for p in Province}
        self.agreement = lab_claims({p: generate_key().public for p in Province}, NOW)["agreement"]
        self.document = unsigned(draft(self.claims()))
        for province in Province:
            self.document = add_signature(
                self.document, FileKeyStore.open(folder / province.code / "keys").sole("anchor-federation")
            )

    def claims(self) -> dict[str, Any]:
        return charter_claims(list(self.cards.values()), self.agreement, quorum=3, now=NOW, lifetime=DAYS_180)

    @property
    def sha256(self) -> str:
        return parse_charter(self.document).unverified.sha256

    def complete(self, province: Province, **changes: Any) -> Path:
        arguments = {"cards": self.cards, "charter_document": self.document, "sha256": self.sha256, **changes}
        return complete_province(self.folder / province.code, **arguments)


@pytest.fixture(scope="module")
def delta(tmp_path_factory: pytest.TempPathFactory) -> Delta:
    return Delta(tmp_path_factory.mktemp("delta"))


def contents(folder: Path) -> dict[Path, bytes]:
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# -- the first step ---------------------------------------------------------------------------------------------------


def test_a_province_gets_all_its_files(tmp_path: Path) -> None:
    create_province(tmp_path, answers(AH), WORLD)
    made = {str(file) for file in contents(tmp_path) if file.parts[0] != "keys"}
    assert made == {
        *("card.json", "province.json", "tls/ca.pem", "tls/ca.key", "tls/server.pem", "tls/server.key"),
        *(f"clients/{name}.{kind}" for name in CLIENTS for kind in ("pem", "key", "toml")),
    }
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    for key in (*tmp_path.glob("**/*.key"), *tmp_path.glob("keys/*")):
        assert key.stat().st_mode & 0o177 == 0, key


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    first = create_province(tmp_path, answers(AH), WORLD)
    before = contents(tmp_path)
    assert create_province(tmp_path, answers(AH), WORLD) == first
    assert contents(tmp_path) == before


def test_a_second_run_adds_what_is_missing_and_touches_no_key(tmp_path: Path) -> None:
    create_province(tmp_path, answers(AH), WORLD)
    before = contents(tmp_path)
    court = Service(name="court", title="诉讼服务窗口", sector="courts", matters=frozenset({"KY-LA"}))
    changed = answers(AH, services=(*answers(AH).services, court), federation_address="0.0.0.0:9999")
    card = create_province(tmp_path, changed, WORLD)
    assert card.federation_address == "gateway.ah.mrg.example:9999"
    after = contents(tmp_path)
    assert {str(file) for file in after.keys() - before.keys()} == {
        f"clients/court.{k}" for k in ("pem", "key", "toml")
    }
    changed_files = {str(file) for file in before if before[file] != after[file]}
    assert changed_files == {"card.json", "province.json"}


def test_a_second_run_after_a_rotation_keeps_the_card(tmp_path: Path) -> None:
    first = create_province(tmp_path, answers(AH), WORLD)
    FileKeyStore.open(tmp_path / "keys").generate("gateway-federation")
    assert create_province(tmp_path, answers(AH), WORLD) == first


def test_keys_can_be_encrypted_from_the_start(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery staple")
    passphrase.chmod(0o600)
    protected = KeyStoreOptions(passphrase=SecretSource(file=passphrase))
    folder = tmp_path / "ah"
    create_province(folder, answers(AH, key_store=protected), WORLD)
    assert all(b"ENCRYPTED" in file.read_bytes() for file in (folder / "keys").glob("*.pem"))
    with pytest.raises(ProvisionError):
        create_province(folder, answers(AH), WORLD)


@pytest.mark.parametrize(("gone", "left"), [("tls/ca.key", "ca.pem"), ("clients/counter.pem", "counter.key")])
def test_half_a_pair_is_not_guessed_at(tmp_path: Path, gone: str, left: str) -> None:
    create_province(tmp_path, answers(AH), WORLD)
    (tmp_path / gone).unlink()
    before = contents(tmp_path)
    with pytest.raises(ProvisionError, match="beside it") as caught:
        create_province(tmp_path, answers(AH), WORLD)
    assert caught.value.file.name == left
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["", "Counter", "../counter", "a/b", "counter.", "-counter", "户政", "c" * 64])
def test_a_client_has_a_name_fit_for_a_file(tmp_path: Path, name: str) -> None:
    service = dataclasses.replace(answers(AH).services[0], name=name)
    with pytest.raises(ProvisionError, match=r"services\[0\]\.name") as caught:
        create_province(tmp_path / "ah", answers(AH, services=(service,)), WORLD)
    assert "small letters" in caught.value.fix
    assert not (tmp_path / "ah").exists()


@pytest.mark.parametrize("name", ["counter", "admin-2"])
def test_two_clients_cannot_share_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProvisionError, match=r"systems\[0\]"):
        create_province(tmp_path / "ah", answers(AH, systems=(name,)), WORLD)


@pytest.mark.parametrize(
    ("listens", "reached"),
    [
        ("127.0.0.1:7002", "127.0.0.1:7002"),
        ("0.0.0.0:7002", "gateway.ah.mrg.example:7002"),
        ("[::]:7002", "gateway.ah.mrg.example:7002"),
        ("admin.ah.mrg.example:7002", "admin.ah.mrg.example:7002"),
    ],
)
def test_administrators_call_the_admin_listener_and_services_do_not(tmp_path: Path, listens: str, reached: str) -> None:
    create_province(tmp_path, answers(AH, admin_address=listens), WORLD)
    addresses = {
        name: tomllib.loads((tmp_path / f"clients/{name}.toml").read_text())["address"]
        for name in ("admin-1", "admin-2", "counter")
    }
    verification = answers(AH).reached(answers(AH).verification_address)
    assert addresses == {"admin-1": reached, "admin-2": reached, "counter": verification}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "ah").write_text("a file")
    with pytest.raises(ProvisionError) as caught:
        create_province(tmp_path / "ah", answers(AH), WORLD)
    assert str(tmp_path / "ah") in str(caught.value)


def test_clients_are_known_by_their_identity_and_the_gateway_by_its_own(tmp_path: Path) -> None:
    create_province(tmp_path, answers(AH), WORLD)
    ids = entity_ids(AH)
    reader = CallerReader({(tmp_path / "tls/ca.pem").read_bytes(): (ids.gateway, ids.issuer)})
    identities = {
        "tls/server.pem": ids.gateway,
        "clients/counter.pem": f"{ids.gateway}/services/counter",
        "clients/identity.pem": f"{ids.issuer}/systems/identity",
        "clients/admin-1.pem": f"{ids.gateway}/administrators/admin-1",
        "clients/admin-2.pem": f"{ids.gateway}/administrators/admin-2",
    }
    for file, identity in identities.items():
        assert reader.read((tmp_path / file).read_bytes(), NOW).identity == identity


def test_certificates_are_good_for_as_long_as_asked(tmp_path: Path) -> None:
    year = timedelta(days=365)
    create_province(tmp_path, answers(AH), WORLD, Validity(begins=year, ca=3 * year, end=2 * year))
    reader = CallerReader({(tmp_path / "tls/ca.pem").read_bytes(): (entity_ids(AH).gateway,)})
    certificate = (tmp_path / "tls/server.pem").read_bytes()
    reader.read(certificate, NOW - year)
    reader.read(certificate, NOW + year)
    with pytest.raises(NotPermitted):
        reader.read(certificate, NOW + year + timedelta(seconds=1))


# -- cards ------------------------------------------------------------------------------------------------------------


def test_a_card_reads_back_as_it_was_made_and_holds_nothing_private(tmp_path: Path) -> None:
    card = create_province(tmp_path, answers(AH), WORLD)
    assert read_card(tmp_path / "card.json") == card
    assert read_card(tmp_path / "card.json").fingerprint == card.fingerprint
    text = (tmp_path / "card.json").read_text()
    assert "PRIVATE" not in text
    assert '"d"' not in text


def test_the_fingerprint_covers_everything(delta: Delta) -> None:
    (one, other, *_) = delta.cards.values()
    fields = [field.name for field in dataclasses.fields(Card) if field.name != "anchor_key"]
    prints = {dataclasses.replace(one, **{name: getattr(other, name)}).fingerprint for name in fields}
    assert len({one.fingerprint, *prints}) == len(fields) + 1


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda card: card.pop(name)


def _with(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda card: card.update({name: value})


PRIVATE_JWK = {**dict(generate_key().public.jwk), "d": "AAAA"}
CA_AND_KEY = "".join(part.decode() for part in create_ca("somebody", NOW))


@pytest.mark.parametrize(
    ("harm", "key"),
    [
        (_without("ca"), ""),
        (_with("note", "hello"), ""),
        (_with("recognition_card", 2), "recognition_card"),
        (_with("province", "bj"), "province"),
        (_with("gateway", "http://gateway.ah.mrg.example"), "gateway"),
        (_with("issuer", "https://ISSUER.ah.mrg.example"), "issuer"),
        (_with("anchor", 7), "anchor"),
        (_with("anchor", entity_ids(AH).gateway), ""),
        (_with("anchor_key", "a key"), "anchor_key"),
        (_with("anchor_key", PRIVATE_JWK), "anchor_key"),
        (_with("issuer_federation_key", "AAAA"), "issuer_federation_key"),
        (_with("gateway_federation_key", "!" * 43), "gateway_federation_key"),
        (_with("federation_address", "gateway.ah.mrg.example"), "federation_address"),
        (_with("ca", "none"), "ca"),
        (_with("ca", CA_AND_KEY), "ca"),
        (_with("ca", ["a", "list"]), "ca"),
    ],
)
def test_a_malformed_card_is_told_by_file_and_key(
    tmp_path: Path, delta: Delta, harm: Callable[[dict[str, Any]], object], key: str
) -> None:
    claims = json.loads((delta.folder / "ah" / "card.json").read_text())
    harm(claims)
    file = tmp_path / "from-anhui.json"
    file.write_text(json.dumps(claims))
    with pytest.raises(ProvisionError) as caught:
        read_card(file)
    assert (caught.value.file, caught.value.key) == (file, key)
    assert "again" in caught.value.fix
    assert "\n" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"a": 1, "a": 2}', b" " * 300_000])
def test_what_is_no_json_object_is_no_card(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "card.json"
    file.write_bytes(content)
    with pytest.raises(ProvisionError, match="card"):
        read_card(file)


def test_a_card_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match="cannot be read"):
        read_card(tmp_path / "card.json")


# -- the charter ------------------------------------------------------------------------------------------------------


def test_cards_make_a_charter_in_the_usual_order(delta: Delta) -> None:
    claims = charter_claims(list(reversed(delta.cards.values())), delta.agreement, quorum=3, now=NOW, lifetime=DAYS_180)
    assert claims == delta.claims()
    assert [anchor["province"] for anchor in claims["anchors"]] == ["sh", "js", "zj", "ah"]


def test_cards_make_the_next_charter(delta: Delta) -> None:
    current = verify_pinned(delta.document, delta.sha256)
    later = NOW + timedelta(days=90)
    claims = charter_claims(
        list(delta.cards.values()), delta.agreement, quorum=3, now=later, lifetime=DAYS_180, previous=current
    )
    document = unsigned(draft(claims))
    for province in (SH, JS, ZJ):
        document = add_signature(
            document, FileKeyStore.open(delta.folder / province.code / "keys").sole("anchor-federation")
        )
    assert verify_successor(current, document).version == 2


# -- the second step --------------------------------------------------------------------------------------------------


def test_a_completed_province_has_a_configuration_that_holds(delta: Delta) -> None:
    file = delta.complete(ZJ)
    config = load_config(file)
    assert file == delta.folder / "zj" / "gateway.toml"
    assert config.province is ZJ
    assert [peer.province for peer in config.peers] == [SH, JS, AH]
    assert [peer.address for peer in config.peers] == [f"gateway.{p.code}.mrg.example:{a}" for p, a in PEERS]
    assert config.charter.sha256 == delta.sha256
    assert {each.entity_id for each in config.anchor_enrolments} == {
        entity for p in Province for entity in (entity_ids(p).issuer, entity_ids(p).gateway)
    }
    assert [service.identity for service in config.relying_services] == [f"{entity_ids(ZJ).gateway}/services/counter"]
    assert [(each.identity, each.roles) for each in config.administrators] == [
        (f"{entity_ids(ZJ).gateway}/administrators/admin-{number}", frozenset(Role)) for number in (1, 2)
    ]


PEERS = [(SH, 7001), (JS, 7011), (AH, 7031)]


def test_completing_again_changes_nothing(delta: Delta) -> None:
    delta.complete(SH)
    before = contents(delta.folder / "sh")
    delta.complete(SH)
    assert contents(delta.folder / "sh") == before


def test_a_province_needs_not_be_told_its_own_card(delta: Delta) -> None:
    others = {file: card for file, card in delta.cards.items() if card.province is not JS}
    assert load_config(delta.complete(JS, cards=others)).province is JS


def test_an_edited_configuration_is_not_written_over(delta: Delta) -> None:
    file = delta.complete(AH)
    file.write_text(f"# our own remark\n{file.read_text()}")
    remarked = file.read_text()
    delta.complete(AH)  # a remark changes no meaning
    file.write_text(remarked.replace("interval_seconds = 60", "interval_seconds = 30"))
    edited = file.read_text()
    with pytest.raises(ProvisionError, match="says something else"):
        delta.complete(AH)
    assert file.read_text() == edited
    delta.complete(AH, replace=True)
    assert load_config(file).refresh.interval_seconds == 60


def _other_anchor_key(cards: dict[Path, Card], file: Path) -> None:
    cards[file] = dataclasses.replace(cards[file], anchor_key=generate_key().public)


def _same_ca(cards: dict[Path, Card], file: Path) -> None:
    cards[file] = dataclasses.replace(cards[file], ca=next(card.ca for card in cards.values() if card.province is JS))


def _same_key(cards: dict[Path, Card], file: Path) -> None:
    cards[file] = dataclasses.replace(cards[file], gateway_federation_key=cards[file].issuer_federation_key)


def _other_province(cards: dict[Path, Card], file: Path) -> None:
    theirs = next(other for other, card in cards.items() if card.province is JS)
    cards[file], cards[theirs] = (
        dataclasses.replace(cards[file], province=JS),
        dataclasses.replace(cards[theirs], province=SH),
    )


def _stranger(cards: dict[Path, Card], file: Path) -> None:
    cards[file] = dataclasses.replace(cards[file], issuer="https://issuer.elsewhere.example")


@pytest.mark.parametrize(
    ("harm", "key"),
    [
        (_other_anchor_key, "anchor_key"),
        (_same_ca, "ca"),
        (_same_key, "gateway_federation_key"),
        (_other_province, "province"),
        (_stranger, ""),
    ],
)
def test_cards_and_charter_must_agree(
    tmp_path: Path, delta: Delta, harm: Callable[[dict[Path, Card], Path], None], key: str
) -> None:
    cards = dict(delta.cards)
    harm(cards, delta.folder / "sh" / "card.json")
    create_province(tmp_path / "zj", answers(ZJ), WORLD)
    with pytest.raises(ProvisionError) as caught:
        delta.complete(ZJ, cards=cards)
    assert caught.value.key == key


def test_a_member_without_a_card_is_missed(delta: Delta) -> None:
    cards = {file: card for file, card in delta.cards.items() if card.province is not SH}
    with pytest.raises(ProvisionError, match="no card"):
        delta.complete(ZJ, cards=cards)


def test_an_outdated_card_of_ones_own_is_found_out(tmp_path: Path, delta: Delta) -> None:
    card = create_province(tmp_path, answers(ZJ), WORLD)  # other keys: another province of the same name
    with pytest.raises(ProvisionError) as caught:
        delta.complete(ZJ, cards={**delta.cards, tmp_path / "card.json": card})
    assert caught.value.key == "province"


def test_the_charter_must_be_the_one_people_compared(delta: Delta) -> None:
    with pytest.raises(ProvisionError, match="not acceptable"):
        delta.complete(ZJ, sha256="A" * 43)


def test_the_charter_must_have_its_quorum(delta: Delta) -> None:
    document = add_signature(
        unsigned(draft(delta.claims())), FileKeyStore.open(delta.folder / "sh" / "keys").sole("anchor-federation")
    )
    with pytest.raises(ProvisionError, match="1 of 3"):
        delta.complete(ZJ, charter_document=document)


def test_a_province_is_created_before_it_is_completed(tmp_path: Path, delta: Delta) -> None:
    with pytest.raises(ProvisionError, match="cannot be read"):
        complete_province(tmp_path, delta.cards, delta.document, delta.sha256)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"province": "bj"}, "province"),
        ({"refresh_seconds": 0}, "refresh_seconds"),
        ({"services": [{"name": "counter"}]}, "services[0]"),
        ({"systems": ["counter"]}, "systems[0]"),
        ({"dns_names": "localhost"}, "dns_names"),
    ],
)
def test_answers_that_somebody_spoilt_are_told_by_key(
    tmp_path: Path, delta: Delta, change: Mapping[str, Any], key: str
) -> None:
    create_province(tmp_path, answers(AH), WORLD)
    file = tmp_path / "province.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ProvisionError) as caught:
        complete_province(tmp_path, delta.cards, delta.document, delta.sha256)
    assert (caught.value.file, caught.value.key) == (file, key)


def test_a_service_is_judged_as_the_configuration_judges_it() -> None:
    assert (decisions._TITLE, decisions._SECTOR) == (reader._NAME, reader._SECTOR)
