"""One province's process: put together whole, or not at all."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.app import App
from gateway.clock import system_world
from gateway.config import MAX_MAPPING_DAYS, Config, ConfigError, PairwiseOptions
from gateway.config.reader import load_config
from gateway.core.identifiers import Province
from gateway.keystore import KeyRole, SecretName
from gateway.keystore.file import FileKeyStore, make_secret, secret_file
from gateway.lab.folder import prepare_lab

GATEWAY_ROLES: tuple[KeyRole, ...] = ("gateway-receipt", "gateway-audit")
THREADS = ("ledger", "peer", "refresh", "publish", "acknowledge", "rotation", "health")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four provinces on disk, none running."""
    return prepare_lab(tmp_path_factory.mktemp("app") / "lab").path


@pytest.fixture
def config(lab: Path) -> Iterator[Config]:
    found = load_config(lab / Province.ANHUI / "gateway.toml")
    yield found
    found.keys.chmod(0o700)


def is_free(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
        return True


def test_a_province_starts_serves_and_stops_without_a_trace(config: Config) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    app = App(config, system_world())
    app.start()
    assert set(app.ports) == {"verification", "federation", "admin"}
    assert not is_free(config.listeners.verification.address)
    app.stop(0)
    left = {thread.name for thread in threading.enumerate() if thread.ident not in before}
    assert {name for name in left if name.startswith(THREADS)} == set()
    assert is_free(config.listeners.verification.address)


def without(lab: Path, *roles: KeyRole) -> Config:
    """A province that never ran, and has no keys for some roles."""
    config = load_config(prepare_lab(lab).path / Province.ANHUI / "gateway.toml")
    for role in roles:
        (file,) = config.keys.glob(f"{role}.*")
        file.unlink()
    return config


def start_and_stop(config: Config) -> None:
    app = App(config, system_world())
    app.start()
    app.stop(0)


def test_a_province_set_up_before_its_gateway_had_keys_of_its_own_makes_them_at_the_start(tmp_path: Path) -> None:
    config = without(tmp_path / "lab", *GATEWAY_ROLES)
    start_and_stop(config)
    made = {role: set(FileKeyStore.open(config.keys).keys(role)) for role in GATEWAY_ROLES}
    # The stand-by key beside it is the scheduler's, as for every other purpose.
    assert [len(kids) for kids in made.values()] == [2, 2]
    start_and_stop(config)
    assert {role: set(FileKeyStore.open(config.keys).keys(role)) for role in GATEWAY_ROLES} == made


@pytest.mark.parametrize("role", ["gateway-federation", "issuer-credential"])
def test_a_key_that_every_version_had_is_missed_and_not_made(tmp_path: Path, role: KeyRole) -> None:
    config = without(tmp_path / "lab", role)
    with pytest.raises(ConfigError):
        App(config, system_world())
    assert list(config.keys.glob(f"{role}.*")) == []


def wrong_pin(config: Config) -> Config:
    return dataclasses.replace(config, charter=dataclasses.replace(config.charter, sha256="A" * 43))


def open_keys(config: Config) -> Config:
    config.keys.chmod(0o755)
    return config


def no_keys(config: Config) -> Config:
    return dataclasses.replace(config, keys=config.keys.parent / "elsewhere")


def database_in_the_way(config: Config) -> Config:
    return dataclasses.replace(config, database=config.keys)


def charter_garbled(config: Config) -> Config:
    file = config.file.parent / "garbled.json"
    file.write_text("{}")
    return dataclasses.replace(config, charter=dataclasses.replace(config.charter, file=file))


def copied(config: Config, name: str, content: bytes, mode: int = 0o600) -> Path:
    file = config.file.parent / name
    file.write_bytes(content)
    file.chmod(mode)
    return file


def garbled_certificate(config: Config) -> Config:
    return dataclasses.replace(
        config, tls=dataclasses.replace(config.tls, certificate=copied(config, "garbled.pem", b"garbage"))
    )


def another_provinces_certificate(config: Config) -> Config:
    theirs = load_config(config.file.parent.parent / Province.SHANGHAI / "gateway.toml").tls
    return dataclasses.replace(config, tls=theirs)


def another_key(config: Config) -> Config:
    theirs = load_config(config.file.parent.parent / Province.SHANGHAI / "gateway.toml").tls
    return dataclasses.replace(config, tls=dataclasses.replace(config.tls, private_key=theirs.private_key))


def readable_key(config: Config) -> Config:
    file = copied(config, "readable.key", config.tls.private_key.read_bytes(), 0o644)
    return dataclasses.replace(config, tls=dataclasses.replace(config.tls, private_key=file))


def garbled_ca(config: Config) -> Config:
    first = dataclasses.replace(config.peers[0], ca=copied(config, "ca.pem", b"garbage"))
    return dataclasses.replace(config, peers=(first, *config.peers[1:]))


def no_ca(config: Config) -> Config:
    first = dataclasses.replace(config.peers[0], ca=config.tls.certificate)
    return dataclasses.replace(config, peers=(first, *config.peers[1:]))


@pytest.mark.parametrize(
    ("spoil", "key"),
    [
        (garbled_certificate, "tls.certificate"),
        (another_provinces_certificate, "tls.certificate"),
        (another_key, "tls.certificate"),
        (readable_key, "tls.private_key"),
        (garbled_ca, "peers[0].ca"),
        (no_ca, "peers[0].ca"),
        (wrong_pin, "charter"),
        (charter_garbled, "charter"),
        (open_keys, "keys"),
        (no_keys, "keys"),
        (database_in_the_way, "database"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_half_started(
    config: Config, spoil: Callable[[Config], Config], key: str
) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ConfigError) as caught:
        App(spoil(config), system_world())
    assert (caught.value.file, caught.value.key) == (config.file, key)
    assert set(threading.enumerate()) <= before
    assert is_free(config.listeners.verification.address)


@pytest.mark.parametrize(("name", "key"), [("pairwise", "pairwise"), ("pairwise-issuer", "pairwise_issuer")])
def test_the_secrets_that_pseudonyms_need_must_be_there(config: Config, name: SecretName, key: str) -> None:
    """The version that is named, and the one before while records are moved; then that may be destroyed."""
    now = system_world().now()
    first, second = secret_file(config.keys, name), secret_file(config.keys, name, 2)

    def with_options(options: PairwiseOptions) -> Config:
        if name == "pairwise":
            return dataclasses.replace(config, pairwise=options)
        return dataclasses.replace(config, pairwise_issuer=options)

    def opens(mapped: timedelta) -> bool:
        options = PairwiseOptions(version=2, mapped_until=now + mapped)
        try:
            app = App(with_options(options), system_world())
        except ConfigError as error:
            return error.key not in {"keys", f"{key}.mapped_until"}
        app.start()
        app.stop(0)
        return True

    assert not opens(timedelta(days=1))
    make_secret(config.keys, name, 2, system_world())
    try:
        assert opens(timedelta(days=1))
        assert not opens(timedelta(days=MAX_MAPPING_DAYS + 1))
        kept = first.rename(first.with_suffix(".kept"))
        assert not opens(timedelta(days=1))
        assert opens(-timedelta(days=1))
        kept.rename(first)
    finally:
        second.unlink()


@pytest.mark.parametrize("name", ["verification", "federation", "admin"])
def test_a_taken_address_is_named_and_the_others_are_let_go(config: Config, name: str) -> None:
    address: str = getattr(config.listeners, name).address
    host, port = address.rsplit(":", 1)
    with socket.socket() as taken:
        taken.bind((host, int(port)))
        taken.listen()
        with pytest.raises(ConfigError) as caught:
            App(config, system_world())
    assert caught.value.key == f"listeners.{name}.address"
    assert not [thread for thread in threading.enumerate() if thread.name == "ledger"]
    for each in ("verification", "federation", "admin"):
        assert is_free(getattr(config.listeners, each).address)
