"""Private keys: for their owner alone, never overwritten, each with one purpose."""

import os
from pathlib import Path
from typing import get_args

import pytest

from gateway.clock import World, system_world
from gateway.core.jose import generate_key, load_pkcs8
from gateway.keystore import SECRET_BYTES, KeyRole, KeyStore, KeyStoreError, SecretName

WORLD = system_world()
FILES = {*(f"{role}.pem" for role in get_args(KeyRole)), *(f"{name}.secret" for name in get_args(SecretName))}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_created_store_has_every_key_and_secret_and_nothing_else(directory: Path) -> None:
    KeyStore.create(directory, WORLD)

    assert set(contents(directory)) == FILES


def test_created_store_is_for_its_owner_alone(directory: Path) -> None:
    KeyStore.create(directory, WORLD)

    assert directory.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in directory.iterdir()} == {0o600}


def test_created_store_is_for_its_owner_alone_whatever_the_umask(directory: Path) -> None:
    before = os.umask(0)
    try:
        KeyStore.create(directory, WORLD)
    finally:
        os.umask(before)

    assert KeyStore.open(directory).secret("nonce")


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_opened_store_gives_the_keys_that_were_created(directory: Path, passphrase: bytes | None) -> None:
    created = KeyStore.create(directory, WORLD, passphrase)

    opened = KeyStore.open(directory, passphrase)

    for role in get_args(KeyRole):
        assert opened.signer(role).public.kid == created.signer(role).public.kid
    for name in get_args(SecretName):
        assert opened.secret(name) == created.secret(name)


def test_all_keys_and_secrets_differ(directory: Path) -> None:
    store = KeyStore.create(directory, WORLD)

    assert len({store.signer(role).public.thumbprint for role in get_args(KeyRole)}) == len(get_args(KeyRole))
    secrets = {store.secret(name) for name in get_args(SecretName)}
    assert len(secrets) == len(get_args(SecretName))
    assert {len(secret) for secret in secrets} == {SECRET_BYTES}


def test_passphrase_encrypts_every_signing_key(directory: Path) -> None:
    KeyStore.create(directory, WORLD, b"correct horse")

    for role in get_args(KeyRole):
        pem = (directory / f"{role}.pem").read_bytes()
        with pytest.raises(ValueError, match="passphrase"):
            load_pkcs8(pem)


def test_created_again_every_key_stays(directory: Path) -> None:
    KeyStore.create(directory, WORLD)
    before = contents(directory)

    KeyStore.create(directory, WORLD)

    assert contents(directory) == before


def test_created_again_after_a_crash_what_is_missing_is_added(directory: Path) -> None:
    KeyStore.create(directory, WORLD)
    before = contents(directory)
    (directory / "issuer-credential.pem").unlink()
    (directory / "pairwise.secret").unlink()

    KeyStore.create(directory, WORLD)

    after = contents(directory)
    assert set(after) == FILES
    assert {name for name in FILES if after[name] != before[name]} == {"issuer-credential.pem", "pairwise.secret"}


def test_created_again_with_another_passphrase_nothing_is_added(directory: Path) -> None:
    KeyStore.create(directory, WORLD, b"correct horse")
    (directory / "issuer-credential.pem").unlink()
    before = contents(directory)

    with pytest.raises(KeyStoreError):
        KeyStore.create(directory, WORLD, b"battery staple")

    assert contents(directory) == before


def test_key_that_appears_while_the_store_is_created_is_not_overwritten(directory: Path) -> None:
    """Another process that creates at the same time, played by the source of random bytes."""
    rival = generate_key().to_pkcs8()

    def random_bytes(count: int) -> bytes:
        file = directory / "anchor-federation.pem"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_bytes(rival)
        return WORLD.random_bytes(count)

    with pytest.raises(KeyStoreError) as raised:
        KeyStore.create(directory, World(now=WORLD.now, random_bytes=random_bytes))

    assert raised.value.file == directory / "anchor-federation.pem"
    assert contents(directory) == {"anchor-federation.pem": rival}


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError) as raised:
        KeyStore.create(tmp_path / "missing" / "keys", WORLD)

    assert raised.value.file == tmp_path / "missing" / "keys"


# -- what is not opened -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o701, 0o770, 0o755])
def test_folder_others_can_use_is_not_opened(directory: Path, mode: int) -> None:
    KeyStore.create(directory, WORLD)
    directory.chmod(mode)

    with pytest.raises(KeyStoreError) as raised:
        KeyStore.open(directory)

    assert raised.value.file == directory
    assert raised.value.fix == f"run: chmod 700 '{directory}'"


@pytest.mark.parametrize("name", ["gateway-federation.pem", "nonce.secret"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_file_others_can_use_is_not_opened(directory: Path, name: str, mode: int) -> None:
    KeyStore.create(directory, WORLD)
    (directory / name).chmod(mode)

    with pytest.raises(KeyStoreError) as raised:
        KeyStore.open(directory)

    assert raised.value.file == directory / name
    assert raised.value.fix == f"run: chmod 600 '{directory / name}'"


def test_store_of_another_user_is_not_opened(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KeyStore.create(directory, WORLD)
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)

    with pytest.raises(KeyStoreError) as raised:
        KeyStore.open(directory)

    assert raised.value.fix == f"run: chown 12345 '{directory}'"


def test_missing_folder_is_told(directory: Path) -> None:
    with pytest.raises(KeyStoreError) as raised:
        KeyStore.open(directory)

    assert raised.value.file == directory


def test_file_in_place_of_the_folder_is_told(directory: Path) -> None:
    directory.touch(mode=0o600)

    with pytest.raises(KeyStoreError) as raised:
        KeyStore.open(directory)

    assert raised.value.file == directory


@pytest.mark.parametrize("name", ["gateway-federation.pem", "nonce.secret"])
def test_link_in_place_of_a_file_is_not_followed(directory: Path, tmp_path: Path, name: str) -> None:
    KeyStore.create(directory, WORLD)
    (directory / name).rename(tmp_path / name)
    (directory / name).symlink_to(tmp_path / name)

    with pytest.raises(KeyStoreError) as raised:
        KeyStore.open(directory)

    assert raised.value.file == directory / name


def test_pipe_in_place_of_a_file_is_refused_without_waiting(directory: Path) -> None:
    KeyStore.create(directory, WORLD)
    (directory / "nonce.secret").unlink()
    os.mkfifo(directory / "nonce.secret", 0o600)

    with pytest.raises(KeyStoreError) as raised:
        KeyStore.open(directory)

    assert raised.value.file == directory / "nonce.secret"


@pytest.mark.parametrize(
    ("given", "used"), [(None, b"correct horse"), (b"correct horse", None), (b"correct horse", b"battery staple")]
)
def test_passphrase_that_does_not_fit_is_told(directory: Path, given: bytes | None, used: bytes | None) -> None:
    KeyStore.create(directory, WORLD, given)

    with pytest.raises(KeyStoreError) as raised:
        KeyStore.open(directory, used)

    assert raised.value.file == directory / "anchor-federation.pem"


@pytest.mark.parametrize("content", [b"", b"not a key", b"\xff", b"A" * 42 + b"\n", b"A" * 44, b"A" * 20_000])
@pytest.mark.parametrize("name", ["gateway-federation.pem", "nonce.secret"])
def test_file_that_holds_something_else_is_told(directory: Path, name: str, content: bytes) -> None:
    KeyStore.create(directory, WORLD)
    (directory / name).write_bytes(content)

    with pytest.raises(KeyStoreError) as raised:
        KeyStore.open(directory)

    assert raised.value.file == directory / name


def test_one_key_for_two_roles_is_refused(directory: Path) -> None:
    KeyStore.create(directory, WORLD)
    (directory / "issuer-credential.pem").write_bytes((directory / "issuer-federation.pem").read_bytes())

    with pytest.raises(KeyStoreError) as raised:
        KeyStore.open(directory)

    assert raised.value.file == directory / "issuer-credential.pem"


def test_missing_key_is_missed_only_when_asked_for(directory: Path) -> None:
    """An anchor's key may live on a host of its own."""
    KeyStore.create(directory, WORLD)
    (directory / "anchor-federation.pem").unlink()
    (directory / "audit-reference.secret").unlink()

    store = KeyStore.open(directory)

    assert store.signer("gateway-federation").public.kid
    with pytest.raises(KeyStoreError) as raised:
        store.signer("anchor-federation")
    assert raised.value.file == directory / "anchor-federation.pem"
    with pytest.raises(KeyStoreError) as raised:
        store.secret("audit-reference")
    assert raised.value.file == directory / "audit-reference.secret"


def test_error_names_the_file_and_the_fix_and_no_content(directory: Path) -> None:
    KeyStore.create(directory, WORLD)
    (directory / "nonce.secret").write_text("c2VjcmV0\n")

    with pytest.raises(KeyStoreError) as raised:
        KeyStore.open(directory)

    assert str(raised.value.file) in str(raised.value)
    assert raised.value.fix in str(raised.value)
    assert "c2VjcmV0" not in str(raised.value)
