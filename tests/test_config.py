"""A mistake in the configuration is told by file, key and line; a good one survives being written and read."""

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.config import (
    Administrator,
    AdminListener,
    AnchorEnrolment,
    AnchorPolicy,
    CharterPin,
    Config,
    ConfigError,
    Entities,
    FederationListener,
    IdentitySystem,
    KeyStoreOptions,
    Limits,
    Listeners,
    PairwiseOptions,
    Peer,
    Pkcs11,
    PostgresUrl,
    Refresh,
    RelyingService,
    Role,
    RotationPolicy,
    SecretSource,
    TlsFiles,
    VerificationListener,
)
from gateway.config.reader import load_config
from gateway.config.writer import render_config
from gateway.core.encoding import sha256_b64url
from gateway.core.identifiers import Province
from gateway.core.vouching import Approval

PIN = sha256_b64url(b"charter")
THUMBPRINT = sha256_b64url(b"key")

GOOD = f"""\
province = "ah"
database = "data/gateway.sqlite"
keys = "keys"
[entities]
gateway = "https://gateway.ah.mrg.example"
issuer = "https://issuer.ah.mrg.example"
anchor = "https://anchor.ah.mrg.example"
[charter]
file = "charter.json"
sha256 = "{PIN}"
[tls]
certificate = "tls/server.pem"
private_key = "tls/server.key"
[listeners.verification]
address = "127.0.0.1:7441"
client_ca = "tls/ca.pem"
[listeners.federation]
address = "127.0.0.1:7442"
[listeners.admin]
address = "127.0.0.1:7443"
client_ca = "tls/ca.pem"
reflection = false
[[peers]]
province = "sh"
address = "127.0.0.1:7142"
ca = "tls/sh.pem"
gateway = "https://gateway.sh.mrg.example"
[[peers]]
province = "js"
address = "gateway.js.mrg.example:7242"
ca = "tls/js.pem"
gateway = "https://gateway.js.mrg.example"
[[relying_services]]
identity = "https://gateway.ah.mrg.example/services/shushan-household"
name = "合肥市蜀山区户政中心"
sector = "household"
matters = ["HK-QY", "HK-CX"]
rate = 500
concurrency = 12
[[identity_systems]]
identity = "https://issuer.ah.mrg.example/systems/counter"
[[administrators]]
identity = "https://gateway.ah.mrg.example/administrators/admin-1"
roles = ["keys", "anchor"]
[[administrators]]
identity = "https://gateway.ah.mrg.example/administrators/admin-2"
roles = ["keys"]
[[anchor_enrolments]]
entity_id = "https://issuer.sh.mrg.example"
federation_key = "{THUMBPRINT}"
[anchor]
approve = "manual"
[rotation]
credential_days = 30
status_days = 31
federation_days = 0
standby = false
[pairwise]
version = 2
mapped_until = 2027-03-01T08:00:00+08:00
[pairwise_issuer]
version = 3
[refresh]
interval_seconds = 30
[limits]
threads = 8
max_concurrent_calls = 16
caller_rate = 2000
caller_concurrency = 14
"""


def pem(name: str, *, width: int = 64, newline: str = "\n") -> str:
    """A certificate of that name, as far as the configuration looks at one: 40 bytes, so the base64 is padded."""
    body = base64.b64encode(name.encode().ljust(40, b"\0")).decode()
    lines = [body[start : start + width] for start in range(0, len(body), width)]
    return newline.join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tls").mkdir()
    for name in ("charter.json", "tls/server.pem", "tls/server.key"):
        (tmp_path / name).touch()
    for name in ("ca", "sh", "js"):
        (tmp_path / f"tls/{name}.pem").write_text(pem(name), "utf-8")
    return tmp_path


@pytest.fixture
def file(folder: Path) -> Path:
    file = folder / "gateway.toml"
    file.write_text(GOOD, "utf-8")
    return file


def expected(folder: Path) -> Config:
    return Config(
        file=folder / "gateway.toml",
        province=Province.ANHUI,
        database=folder / "data/gateway.sqlite",
        keys=folder / "keys",
        entities=Entities(
            gateway="https://gateway.ah.mrg.example",
            issuer="https://issuer.ah.mrg.example",
            anchor="https://anchor.ah.mrg.example",
        ),
        charter=CharterPin(file=folder / "charter.json", sha256=PIN),
        tls=TlsFiles(certificate=folder / "tls/server.pem", private_key=folder / "tls/server.key"),
        listeners=Listeners(
            verification=VerificationListener(address="127.0.0.1:7441", client_ca=folder / "tls/ca.pem"),
            federation=FederationListener(address="127.0.0.1:7442"),
            admin=AdminListener(address="127.0.0.1:7443", client_ca=folder / "tls/ca.pem", reflection=False),
        ),
        peers=(
            Peer(
                province=Province.SHANGHAI,
                address="127.0.0.1:7142",
                ca=folder / "tls/sh.pem",
                gateway="https://gateway.sh.mrg.example",
            ),
            Peer(
                province=Province.JIANGSU,
                address="gateway.js.mrg.example:7242",
                ca=folder / "tls/js.pem",
                gateway="https://gateway.js.mrg.example",
            ),
        ),
        relying_services=(
            RelyingService(
                identity="https://gateway.ah.mrg.example/services/shushan-household",
                name="合肥市蜀山区户政中心",
                sector="household",
                matters=frozenset({"HK-QY", "HK-CX"}),
                rate=500,
                concurrency=12,
            ),
        ),
        identity_systems=(IdentitySystem(identity="https://issuer.ah.mrg.example/systems/counter"),),
        administrators=(
            Administrator(
                identity="https://gateway.ah.mrg.example/administrators/admin-1",
                roles=frozenset({Role.KEYS, Role.ANCHOR}),
            ),
            Administrator(
                identity="https://gateway.ah.mrg.example/administrators/admin-2", roles=frozenset({Role.KEYS})
            ),
        ),
        anchor=AnchorPolicy(approve=Approval.MANUAL),
        rotation=RotationPolicy(credential_days=30, status_days=31, federation_days=0, standby=False),
        anchor_enrolments=(AnchorEnrolment(entity_id="https://issuer.sh.mrg.example", federation_key=THUMBPRINT),),
        pairwise=PairwiseOptions(version=2, mapped_until=datetime(2027, 3, 1, tzinfo=UTC)),
        pairwise_issuer=PairwiseOptions(version=3),
        refresh=Refresh(interval_seconds=30),
        limits=Limits(threads=8, max_concurrent_calls=16, caller_rate=2_000, caller_concurrency=14),
    )


def smallest(folder: Path) -> Config:
    """A gateway that plays no other role, knows nobody, and leaves everything else as it comes."""
    whole = expected(folder)
    return Config(
        file=whole.file,
        province=whole.province,
        database=whole.database,
        keys=whole.keys,
        entities=Entities(gateway=whole.entities.gateway, issuer=None, anchor=None),
        charter=whole.charter,
        tls=whole.tls,
        listeners=whole.listeners,
    )


# -- reading ----------------------------------------------------------------------------------------------------------


def test_good_file_is_read(folder: Path, file: Path) -> None:
    assert load_config(file) == expected(folder)


def test_optional_parts_may_be_left_out(folder: Path, file: Path) -> None:
    text = re.sub(r"(?ms)^\[\[.*", "", GOOD)
    text = re.sub(r"(?m)^(issuer|anchor|reflection) = .*\n", "", text)
    file.write_text(text, "utf-8")

    assert load_config(file) == smallest(folder)


def test_relative_paths_count_from_the_file_wherever_the_process_stands(
    folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)

    assert load_config(Path(folder.name) / file.name) == expected(folder)


def test_listener_may_take_any_free_port(file: Path) -> None:
    file.write_text(GOOD.replace("127.0.0.1:7441", "127.0.0.1:0").replace("127.0.0.1:7442", "127.0.0.1:0"), "utf-8")

    assert load_config(file).listeners.federation.address == "127.0.0.1:0"


@pytest.mark.parametrize("address", ["[::1]:7441", "localhost:1", "gateway-1.ah.mrg.example:65535", "0.0.0.0:7441"])
def test_address_may_be_a_name_or_a_number(file: Path, address: str) -> None:
    file.write_text(GOOD.replace("127.0.0.1:7441", address), "utf-8")

    assert load_config(file).listeners.verification.address == address


# -- mistakes ---------------------------------------------------------------------------------------------------------

SHUSHAN = '"https://gateway.ah.mrg.example/services/shushan-household"'
SECOND_SERVICE = f'[[relying_services]]\nidentity = {SHUSHAN}\nname = "x"\nsector = "x"\nmatters = ["X"]\n'
SECOND_SYSTEM = '[[identity_systems]]\nidentity = "https://issuer.ah.mrg.example/systems/counter"\n'
SECOND_MEMBER = '[[anchor_enrolments]]\nentity_id = "https://issuer.sh.mrg.example"\nfederation_key = "{}"\n'
SECOND_KEY = f'[[anchor_enrolments]]\nentity_id = "https://issuer.zj.mrg.example"\nfederation_key = "{THUMBPRINT}"\n'

# What is mistaken: the text replaced, what stands there instead, and the key the complaint names.
MISTAKES = {
    "province unknown": ('"ah"', '"bj"', "province"),
    "province in capitals": ('"ah"', '"AH"', "province"),
    "province not text": ('"ah"', "34", "province"),
    "province missing": ('province = "ah"\n', "", "province"),
    "database empty": ('"data/gateway.sqlite"', '""', "database"),
    "database with a password": ('"data/gateway.sqlite"', '"postgresql://mrg:hunter2@db/gateway"', "database"),
    "database without a name": ('"data/gateway.sqlite"', '"postgresql://mrg@db/"', "database"),
    "database with another parameter": (
        '"data/gateway.sqlite"',
        '"postgresql://mrg@db/g?password=hunter2"',
        "database",
    ),
    "database with an option of its own": (
        '"data/gateway.sqlite"',
        '"postgresql://mrg@db/g?options=-cfsync%3Doff"',
        "database",
    ),
    "database that is no URL": ('"data/gateway.sqlite"', '"postgresql:"', "database"),
    "keys not a path": ('"keys"', "false", "keys"),
    "unknown key at the top": ('keys = "keys"', 'keys = "keys"\nkey = "x"', "key"),
    "unknown key that needs quotes": ('keys = "keys"', 'keys = "keys"\n"a b" = 1', '"a b"'),
    "unknown table": ("[refresh]", "[refreshing]", "refreshing"),
    "unknown key in a table": ("[charter]", "[charter]\npin = 1", "charter.pin"),
    "misspelt key that is needed": ("certificate =", "certifcate =", "tls.certifcate"),
    "misspelt key that is optional": ("interval_seconds", "interval_second", "refresh.interval_second"),
    "misspelt key in a list of tables": ('ca = "tls/js.pem"', 'cas = "tls/js.pem"', "peers[1].cas"),
    "table that is a value": ("[tls]", "[tls2]", "tls2"),
    "entities missing": ("[entities]", "[limits.entities]", "entities"),
    "gateway missing": ('gateway = "https://gateway.ah.mrg.example"\n', "", "entities.gateway"),
    "entity not https": ('"https://issuer.ah.mrg.example"', '"http://issuer.ah.mrg.example"', "entities.issuer"),
    "entity not text": ('"https://issuer.ah.mrg.example"', "1", "entities.issuer"),
    "entity with a slash at the end": (
        '"https://anchor.ah.mrg.example"',
        '"https://anchor.ah.mrg.example/"',
        "entities.anchor",
    ),
    "two entities on one host": (
        '"https://issuer.ah.mrg.example"',
        '"https://gateway.ah.mrg.example/issuer"',
        "entities.issuer",
    ),
    "charter not there": ('"charter.json"', '"charter2.json"', "charter.file"),
    "charter a folder": ('"charter.json"', '"tls"', "charter.file"),
    "pin in hexadecimal": (PIN, "9f" * 32, "charter.sha256"),
    "pin with idle bits": (PIN, "A" * 42 + "B", "charter.sha256"),
    "pin missing": (f'sha256 = "{PIN}"\n', "", "charter.sha256"),
    "certificate not there": ('"tls/server.pem"', '"server.pem"', "tls.certificate"),
    "private key not there": ('"tls/server.key"', '"server.key"', "tls.private_key"),
    "listener missing": ('[listeners.federation]\naddress = "127.0.0.1:7442"\n', "", "listeners.federation"),
    "address without port": ("127.0.0.1:7441", "localhost", "listeners.verification.address"),
    "address with a port too high": ("127.0.0.1:7442", "127.0.0.1:65536", "listeners.federation.address"),
    "address with white space": ("127.0.0.1:7442", "127.0.0.1: 7442", "listeners.federation.address"),
    "address a number": ('"127.0.0.1:7442"', "7442", "listeners.federation.address"),
    "address a URL": ("127.0.0.1:7442", "https://127.0.0.1:7442", "listeners.federation.address"),
    "two listeners at one address": ("127.0.0.1:7443", "127.0.0.1:7442", "listeners.admin.address"),
    "client CA not there": (
        'address = "127.0.0.1:7441"\nclient_ca = "tls/ca.pem"',
        'address = "127.0.0.1:7441"\nclient_ca = "tls/ca2.pem"',
        "listeners.verification.client_ca",
    ),
    "reflection not a truth": ("reflection = false", 'reflection = "no"', "listeners.admin.reflection"),
    "peers one table": ("[[relying_services]]", "[relying_services]", "relying_services"),
    "peer's port open": ("127.0.0.1:7142", "127.0.0.1:0", "peers[0].address"),
    "peer's CA not there": ('"tls/sh.pem"', '"tls/zj.pem"', "peers[0].ca"),
    "peer is this province": ('"sh"', '"ah"', "peers[0].province"),
    "two peers of one province": ('"js"', '"sh"', "peers[1].province"),
    "two peers at one address": ("gateway.js.mrg.example:7242", "127.0.0.1:7142", "peers[1].address"),
    "two peers with one CA": ('"tls/js.pem"', '"tls/sh.pem"', "peers[1].ca"),
    "two peers with one gateway": ("https://gateway.js", "https://gateway.sh", "peers[1].gateway"),
    "two peers on one host": (
        "https://gateway.js.mrg.example",
        "https://gateway.sh.mrg.example/js",
        "peers[1].gateway",
    ),
    "peer with our gateway": ("https://gateway.js", "https://gateway.ah", "peers[1].gateway"),
    "peer on the host of our issuer": ("https://gateway.js", "https://issuer.ah", "peers[1].gateway"),
    "service of another province": (
        SHUSHAN,
        '"https://gateway.sh.mrg.example/services/x"',
        "relying_services[0].identity",
    ),
    "service on a host that only begins alike": (
        SHUSHAN,
        '"https://gateway.ah.mrg.example.evil.example/services/x"',
        "relying_services[0].identity",
    ),
    "service that is the gateway": (SHUSHAN, '"https://gateway.ah.mrg.example"', "relying_services[0].identity"),
    "service twice": ("[refresh]", f"{SECOND_SERVICE}[refresh]", "relying_services[1].identity"),
    "service's name empty": ('"合肥市蜀山区户政中心"', '""', "relying_services[0].name"),
    "service's name of two lines": ('"合肥市蜀山区户政中心"', r'"a\nb"', "relying_services[0].name"),
    "sector empty": ('"household"', '""', "relying_services[0].sector"),
    "sector with a space": ('"household"', '"house hold"', "relying_services[0].sector"),
    "matters empty": ('["HK-QY", "HK-CX"]', "[]", "relying_services[0].matters"),
    "matters not a list": ('["HK-QY", "HK-CX"]', '"HK-QY"', "relying_services[0].matters"),
    "matter not a code": ('["HK-QY", "HK-CX"]', '["HK-QY", "户口"]', "relying_services[0].matters[1]"),
    "matter twice": ('["HK-QY", "HK-CX"]', '["HK-QY", "HK-QY"]', "relying_services[0].matters"),
    "identity system under the gateway": (
        "https://issuer.ah.mrg.example/systems",
        "https://gateway.ah.mrg.example/systems",
        "identity_systems[0].identity",
    ),
    "identity system without an issuer": (
        'issuer = "https://issuer.ah.mrg.example"\n',
        "",
        "identity_systems[0].identity",
    ),
    "identity system twice": ("[refresh]", f"{SECOND_SYSTEM}[refresh]", "identity_systems[1].identity"),
    "administrator outside the gateway": (
        "https://gateway.ah.mrg.example/administrators/admin-1",
        "https://issuer.ah.mrg.example/administrators/admin-1",
        "administrators[0].identity",
    ),
    "administrator twice": ("administrators/admin-2", "administrators/admin-1", "administrators[1].identity"),
    "administrator that is a service": (
        "https://gateway.ah.mrg.example/administrators/admin-2",
        "https://gateway.ah.mrg.example/services/shushan-household",
        "administrators[1].identity",
    ),
    "administrator without a role": ('["keys", "anchor"]', "[]", "administrators[0].roles"),
    "administrator whose roles are no list": ('["keys", "anchor"]', '"keys"', "administrators[0].roles"),
    "administrator who audits": ('["keys", "anchor"]', '["keys", "audit"]', "administrators[0].roles[1]"),
    "administrator with a role twice": ('["keys", "anchor"]', '["keys", "keys"]', "administrators[0].roles"),
    "approval unknown": ('"manual"', '"never"', "anchor.approve"),
    "approval not text": ('"manual"', "true", "anchor.approve"),
    "rotation below nothing": ("credential_days = 30", "credential_days = -1", "rotation.credential_days"),
    "rotation too seldom": ("status_days = 31", "status_days = 1096", "rotation.status_days"),
    "rotation not of a number": ("federation_days = 0", "federation_days = false", "rotation.federation_days"),
    "rotation misspelt": ("federation_days = 0", "federation_day = 0", "rotation.federation_day"),
    "stand-by not a truth": ("standby = false", "standby = 0", "rotation.standby"),
    "pairwise version below the first": ("version = 2", "version = 0", "pairwise.version"),
    "pairwise version beyond the last": ("version = 3", "version = 1000", "pairwise_issuer.version"),
    "pairwise version not of a number": ("version = 2", "version = true", "pairwise.version"),
    "window with nothing before": ("version = 2", "version = 1", "pairwise.mapped_until"),
    "window without a zone": ("T08:00:00+08:00", "T08:00:00", "pairwise.mapped_until"),
    "window until a day": ("2027-03-01T08:00:00+08:00", "2027-03-01", "pairwise.mapped_until"),
    "window as text": ("2027-03-01T08:00:00+08:00", '"2027-03-01T08:00:00+08:00"', "pairwise.mapped_until"),
    "window out of all time": ("2027-03-01T", "0001-01-01T", "pairwise.mapped_until"),
    "pairwise misspelt": ("mapped_until", "mapped_till", "pairwise.mapped_till"),
    "enrolment without an anchor": ('anchor = "https://anchor.ah.mrg.example"\n', "", "anchor_enrolments"),
    "enrolment of no entity": ("https://issuer.sh.mrg.example", "issuer.sh", "anchor_enrolments[0].entity_id"),
    "enrolment without a thumbprint": (THUMBPRINT, "abc", "anchor_enrolments[0].federation_key"),
    "member enrolled twice": (
        "[refresh]",
        f"{SECOND_MEMBER.format(sha256_b64url(b'other'))}[refresh]",
        "anchor_enrolments[1].entity_id",
    ),
    "one key for two members": ("[refresh]", f"{SECOND_KEY}[refresh]", "anchor_enrolments[1].federation_key"),
    "refresh too often": ("interval_seconds = 30", "interval_seconds = 0", "refresh.interval_seconds"),
    "refresh too seldom": ("interval_seconds = 30", "interval_seconds = 3601", "refresh.interval_seconds"),
    "refresh a fraction": ("interval_seconds = 30", "interval_seconds = 0.5", "refresh.interval_seconds"),
    "threads true": ("threads = 8", "threads = true", "limits.threads"),
    "no credential a second": ("caller_rate = 2000", "caller_rate = 0", "limits.caller_rate"),
    "no call of a caller": ("caller_concurrency = 14", "caller_concurrency = 0", "limits.caller_concurrency"),
    "a service's rate": ("rate = 500", "rate = 1000001", "relying_services[0].rate"),
    "a service's calls": ("concurrency = 12", "concurrency = 10001", "relying_services[0].concurrency"),
    "no calls": ("max_concurrent_calls = 16", "max_concurrent_calls = 0", "limits.max_concurrent_calls"),
}


@pytest.mark.parametrize(("old", "new", "key"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_is_told_by_file_and_key_on_one_line(file: Path, old: str, new: str, key: str) -> None:
    assert old in GOOD
    file.write_text(GOOD.replace(old, new, 1), "utf-8")

    with pytest.raises(ConfigError) as raised:
        load_config(file)

    assert (raised.value.file, raised.value.key, raised.value.line) == (file, key, None)
    assert str(raised.value).startswith(f"{file}: {key}: ")
    assert len(str(raised.value).splitlines()) == 1


# One CA in a second file: which file it overwrites, with what, and the key the complaint names.
SHARED_CAS = {
    "two peers, two copies": ("js", pem("sh"), "peers[1].ca"),
    "two peers, one copy wrapped and ended otherwise": ("js", pem("sh", width=19, newline="\r\n"), "peers[1].ca"),
    "two peers, one copy under another label": ("js", pem("sh").replace(" CERT", " X509 CERT"), "peers[1].ca"),
    "two peers, one copy with idle bits": ("js", pem("sh").replace("A==", "B=="), "peers[1].ca"),
    "two peers, one certificate of a bundle": ("js", "the old one\n" + pem("old") + pem("sh"), "peers[1].ca"),
    "a peer and service backends": ("sh", pem("ca"), "peers[0].ca"),
    "a peer and operators": ("operators", pem("sh"), "peers[0].ca"),
}


@pytest.mark.parametrize(("name", "text", "key"), SHARED_CAS.values(), ids=SHARED_CAS.keys())
def test_ca_of_two_provinces_is_told_whatever_file_it_is_in(
    folder: Path, file: Path, name: str, text: str, key: str
) -> None:
    operators = 'address = "127.0.0.1:7443"\nclient_ca = "tls/{}.pem"'
    file.write_text(GOOD.replace(operators.format("ca"), operators.format("operators")), "utf-8")
    (folder / "tls/operators.pem").write_text(pem("operators"), "utf-8")
    load_config(file)
    (folder / f"tls/{name}.pem").write_text(text, "utf-8")

    with pytest.raises(ConfigError) as raised:
        load_config(file)

    assert (raised.value.file, raised.value.key) == (file, key)
    assert len(str(raised.value).splitlines()) == 1


def test_ca_file_that_is_garbled_is_told(folder: Path, file: Path) -> None:
    (folder / "tls/js.pem").write_text(pem("js").replace("A==", "A"), "utf-8")

    with pytest.raises(ConfigError) as raised:
        load_config(file)

    assert raised.value.key == "peers[1].ca"


def test_own_listeners_may_share_a_ca_in_two_files(folder: Path, file: Path) -> None:
    operators = 'address = "127.0.0.1:7443"\nclient_ca = "tls/{}.pem"'
    file.write_text(GOOD.replace(operators.format("ca"), operators.format("operators")), "utf-8")
    (folder / "tls/operators.pem").write_text(pem("ca"), "utf-8")

    assert load_config(file).listeners.admin.client_ca == folder / "tls/operators.pem"


def test_list_of_anything_but_tables_is_told(file: Path) -> None:
    head = GOOD.split("[[", maxsplit=1)[0]
    file.write_text(f'peers = ["sh"]\n{head}', "utf-8")

    with pytest.raises(ConfigError) as raised:
        load_config(file)

    assert raised.value.key == "peers[0]"


# Not TOML: the text, and the line tomllib names, if it does.
SYNTAX = {
    "value missing": ('province = "ah"\ndatabase =\n', 2),
    "key twice": ('province = "ah"\n\nprovince = "sh"\n', 3),
    "text not ended": ('province = "ah\n', 1),
    "list not ended": ("[charter]\nmatters = [", None),
}


@pytest.mark.parametrize(("text", "line"), SYNTAX.values(), ids=SYNTAX.keys())
def test_syntax_error_is_told_by_file_and_line(file: Path, text: str, line: int | None) -> None:
    file.write_text(text, "utf-8")

    with pytest.raises(ConfigError) as raised:
        load_config(file)

    assert (raised.value.file, raised.value.key, raised.value.line) == (file, "", line)
    assert str(raised.value).startswith(f"{file}: " if line is None else f"{file}:{line}: ")


def test_file_that_is_not_utf_8_is_refused(file: Path) -> None:
    file.write_bytes(GOOD.encode("gb18030"))

    with pytest.raises(ConfigError) as raised:
        load_config(file)

    assert (raised.value.file, raised.value.key, raised.value.line) == (file, "", None)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(tmp_path / "gateway.toml")

    assert raised.value.file == tmp_path / "gateway.toml"


def test_misspelt_key_is_answered_with_the_right_one(file: Path) -> None:
    file.write_text(GOOD.replace("private_key", "privatekey"), "utf-8")

    with pytest.raises(ConfigError, match="private_key"):
        load_config(file)


# -- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [expected, smallest])
def test_what_is_written_reads_back_the_same(folder: Path, make: Callable[[Path], Config]) -> None:
    config = make(folder)
    config.file.write_text(render_config(config), "utf-8")

    assert load_config(config.file) == config


def test_names_and_paths_that_need_escapes_are_written_and_read_back(folder: Path) -> None:
    odd = folder / 'a "b" \\ \t\x7f'
    odd.mkdir()
    (odd / "ca.pem").touch()
    config = expected(folder)
    listener = replace(config.listeners.verification, client_ca=odd / "ca.pem")
    service = replace(config.relying_services[0], name='"厅" \\ [x] # y')
    config = replace(config, listeners=replace(config.listeners, verification=listener), relying_services=(service,))
    config.file.write_text(render_config(config), "utf-8")

    assert load_config(config.file) == config


def test_paths_are_written_relative_to_the_file_so_that_a_folder_can_move(folder: Path) -> None:
    config = expected(folder)
    elsewhere = replace(config, database=Path("/var/lib/gateway.sqlite"))

    assert str(folder) not in render_config(config)
    assert 'database = "/var/lib/gateway.sqlite"' in render_config(elsewhere)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://mrg@db.ah.example/gateway",
        "postgres://mrg@one,two:5433/gateway?sslmode=verify-full&target_session_attrs=read-write",
        "postgresql:///gateway?host=/run/postgresql&passfile=/etc/mrg/pgpass",
    ],
)
def test_a_database_may_be_one_of_a_server(folder: Path, url: str) -> None:
    config = replace(expected(folder), database=PostgresUrl(url))
    config.file.write_text(render_config(config), "utf-8")
    assert load_config(config.file).database == PostgresUrl(url)


@pytest.mark.parametrize("url", ["postgresql://mrg:hunter2@db/gateway", "postgresql://mrg@db/g?password=hunter2"])
def test_a_password_in_the_wrong_place_is_not_shown(folder: Path, url: str) -> None:
    config = expected(folder)
    config.file.write_text(render_config(config).replace('"data/gateway.sqlite"', f'"{url}"'), "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(config.file)
    assert caught.value.key == "database"
    assert "hunter2" not in str(caught.value)


# -- the key store ----------------------------------------------------------------------------------------------------

TOKEN = '[key_store.pkcs11]\nmodule = "module.so"\ntoken = "mrg"\n'


def key_store(folder: Path, text: str) -> KeyStoreOptions:
    for name in ("passphrase", "pin", "module.so"):
        (folder / name).touch()
    file = folder / "gateway.toml"
    file.write_text(f"{GOOD}{text}", "utf-8")
    return load_config(file).key_store


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", KeyStoreOptions()),
        ("[key_store]\n", KeyStoreOptions()),
        (
            '[key_store]\npassphrase_file = "passphrase"\n',
            KeyStoreOptions(passphrase=SecretSource(file=Path("passphrase"))),
        ),
        ('[key_store]\npassphrase_env = "MRG_KEYS"\n', KeyStoreOptions(passphrase=SecretSource(env="MRG_KEYS"))),
        (
            '[key_store]\npassphrase_credential = "mrg.keys"\n',
            KeyStoreOptions(passphrase=SecretSource(credential="mrg.keys")),
        ),
        (
            f'{TOKEN}pin_file = "pin"\n',
            KeyStoreOptions(pkcs11=Pkcs11(module=Path("module.so"), token="mrg", pin=SecretSource(file=Path("pin")))),
        ),
        (
            f'[key_store]\npassphrase_env = "MRG_KEYS"\n{TOKEN}pin_credential = "pin"\n',
            KeyStoreOptions(
                passphrase=SecretSource(env="MRG_KEYS"),
                pkcs11=Pkcs11(module=Path("module.so"), token="mrg", pin=SecretSource(credential="pin")),
            ),
        ),
    ],
)
def test_key_store_is_read_and_written_back_the_same(folder: Path, text: str, expected: KeyStoreOptions) -> None:
    read = key_store(folder, text)

    assert read == absolute(folder, expected)
    config = replace(load_config(folder / "gateway.toml"), key_store=read)
    (folder / "gateway.toml").write_text(render_config(config), "utf-8")
    assert load_config(folder / "gateway.toml") == config


def absolute(folder: Path, options: KeyStoreOptions) -> KeyStoreOptions:
    def source(given: SecretSource) -> SecretSource:
        return given if given.file is None else replace(given, file=folder / given.file)

    token = options.pkcs11
    return KeyStoreOptions(
        passphrase=None if options.passphrase is None else source(options.passphrase),
        pkcs11=None if token is None else replace(token, module=folder / token.module, pin=source(token.pin)),
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[key_store]\npassphrase = "correct horse battery staple"\n', "key_store.passphrase"),
        ('[key_store]\npassphrase_file = "nowhere"\n', "key_store.passphrase_file"),
        ('[key_store]\npassphrase_env = "a b"\n', "key_store.passphrase_env"),
        ('[key_store]\npassphrase_env = ""\n', "key_store.passphrase_env"),
        ('[key_store]\npassphrase_credential = "../pin"\n', "key_store.passphrase_credential"),
        ('[key_store]\npassphrase_credential = ".."\n', "key_store.passphrase_credential"),
        ('[key_store]\npassphrase_file = "pin"\npassphrase_env = "A"\n', "key_store.passphrase_env"),
        (TOKEN, "key_store.pkcs11.pin_file"),
        (f'{TOKEN}pin = "1234"\n', "key_store.pkcs11.pin"),
        (f'{TOKEN}pin_env = "PIN"\npin_credential = "pin"\n', "key_store.pkcs11.pin_credential"),
        ('[key_store.pkcs11]\ntoken = "mrg"\npin_env = "PIN"\n', "key_store.pkcs11.module"),
        ('[key_store.pkcs11]\nmodule = "module.so"\npin_env = "PIN"\n', "key_store.pkcs11.token"),
        (f'{TOKEN}pin_env = "PIN"\n'.replace("module.so", "nowhere.so"), "key_store.pkcs11.module"),
        (f'{TOKEN}pin_env = "PIN"\n'.replace('"mrg"', f'"{"m" * 33}"'), "key_store.pkcs11.token"),
    ],
)
def test_mistake_in_the_key_store_is_told_by_its_key(folder: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        key_store(folder, text)

    assert raised.value.key == key


@pytest.mark.parametrize("text", ['[key_store]\npassphrase = "correct horse"\n', f'{TOKEN}pin = "1234"\n'])
def test_secret_written_into_the_configuration_is_not_repeated(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        key_store(folder, text)

    assert "correct horse" not in str(raised.value)
    assert "1234" not in str(raised.value)
