"""Private keys in files: for their owner alone, never overwritten, each with one purpose."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import pytest

from gateway.clock import system_world
from gateway.config import KeyStoreOptions, SecretSource
from gateway.core.jose import (
    Algorithm,
    Signer,
    SoftwareKey,
    generate_key,
    load_pkcs8,
    parse_compact,
    sign_compact,
    verify,
)
from gateway.keystore import MAX_KEYS, PAIRWISE_SECRETS, SECRET_BYTES, KeyRole, KeyStore, KeyStoreError, SecretName
from gateway.keystore.file import MIN_PASSPHRASE_BYTES, FileKeyStore, make_secret
from gateway.keystore.opening import create_key_store, open_key_store
from gateway.keystore.source import MAX_SECRET_BYTES, read_secret

WORLD = system_world()
ROLES: tuple[KeyRole, ...] = get_args(KeyRole)
NAMES: tuple[SecretName, ...] = get_args(SecretName)
PASSPHRASE = b"correct horse battery staple"
OTHER = b"incorrect mule battery staple"
Chosen = Callable[[Path], Path]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def store(directory: Path) -> FileKeyStore:
    return FileKeyStore.create(directory, WORLD)


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def key_file(directory: Path, role: KeyRole) -> Path:
    (file,) = directory.glob(f"{role}.*.pem")
    return file


def signs(signer: Signer) -> bool:
    verify(parse_compact(sign_compact("test+jwt", {"a": 1}, signer), max_chars=1000), signer.public)
    return True


# -- what is made -----------------------------------------------------------------------------------------------------


def test_created_store_has_a_key_for_every_role_and_every_secret_and_nothing_else(
    directory: Path, store: FileKeyStore
) -> None:
    keys = {f"{role}.{store.sole(role).public.thumbprint}.pem" for role in ROLES}

    assert set(contents(directory)) == keys | {f"{name}.secret" for name in NAMES}


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_created_store_is_for_its_owner_alone_whatever_the_umask(directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        FileKeyStore.create(directory, WORLD).generate("issuer-credential")
    finally:
        os.umask(before)

    assert directory.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in directory.iterdir()} == {0o600}


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_opened_store_gives_the_keys_that_were_created(directory: Path, passphrase: bytes | None) -> None:
    created = FileKeyStore.create(directory, WORLD, passphrase)

    opened = FileKeyStore.open(directory, passphrase)

    for role in ROLES:
        assert set(opened.keys(role)) == set(created.keys(role))
        assert signs(opened.sole(role))
    for name in NAMES:
        assert opened.secret(name) == created.secret(name)


def test_all_keys_and_secrets_differ(store: FileKeyStore) -> None:
    assert len({store.sole(role).public.thumbprint for role in ROLES}) == len(ROLES)
    secrets = {store.secret(name) for name in NAMES}
    assert len(secrets) == len(NAMES)
    assert {len(secret) for secret in secrets} == {SECRET_BYTES}


def test_created_again_every_key_stays(directory: Path, store: FileKeyStore) -> None:
    before = contents(directory)

    FileKeyStore.create(directory, WORLD)

    assert contents(directory) == before


@pytest.mark.parametrize("name", PAIRWISE_SECRETS)
def test_a_secret_that_replaces_another_is_another(directory: Path, store: FileKeyStore, name: SecretName) -> None:
    make_secret(directory, name, 2, WORLD)
    opened = FileKeyStore.open(directory)
    assert opened.secret(name) == store.secret(name)
    assert len({opened.secret(name), opened.secret(name, 2)}) == 2
    assert stat.S_IMODE((directory / f"{name}.v2.secret").stat().st_mode) == 0o600
    with pytest.raises(KeyStoreError) as raised:
        opened.secret(name, 3)
    assert raised.value.place == directory / f"{name}.v3.secret"


def test_no_secret_is_ever_overwritten(directory: Path, store: FileKeyStore) -> None:
    make_secret(directory, "pairwise", 2, WORLD)
    before = contents(directory)
    with pytest.raises(KeyStoreError):
        make_secret(directory, "pairwise", 2, WORLD)
    assert contents(directory) == before


def test_created_again_the_first_version_of_what_was_replaced_does_not_come_back(
    directory: Path, store: FileKeyStore
) -> None:
    make_secret(directory, "pairwise", 2, WORLD)
    (directory / "pairwise.secret").unlink()
    FileKeyStore.create(directory, WORLD)
    assert not (directory / "pairwise.secret").exists()


@pytest.mark.parametrize(
    "name",
    ["pairwise.v1.secret", "pairwise.v02.secret", "pairwise.v1000.secret", "pairwise.v.secret", "nonce.v2.secret"],
)
def test_a_version_that_nobody_asks_for_is_told(directory: Path, store: FileKeyStore, name: str) -> None:
    file = directory / name
    file.write_bytes(a_secret(directory).read_bytes())
    file.chmod(0o600)
    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)
    assert raised.value.place == file


def test_created_again_after_a_crash_what_is_missing_is_added(directory: Path, store: FileKeyStore) -> None:
    lost = key_file(directory, "issuer-credential")
    lost.unlink()
    (directory / "pairwise.secret").unlink()
    (directory / ".issuer-credential.half-written.pem").write_bytes(b"-----BEGIN")
    before = contents(directory)

    after = FileKeyStore.create(directory, WORLD)

    assert {name: content for name, content in contents(directory).items() if name in before} == before
    assert set(contents(directory)) - set(before) == {
        key_file(directory, "issuer-credential").name,
        "pairwise.secret",
    }
    assert signs(after.sole("issuer-credential"))


def test_created_again_with_another_passphrase_nothing_is_added(directory: Path) -> None:
    FileKeyStore.create(directory, WORLD, PASSPHRASE)
    key_file(directory, "issuer-credential").unlink()
    before = contents(directory)

    with pytest.raises(KeyStoreError):
        FileKeyStore.create(directory, WORLD, OTHER)

    assert contents(directory) == before


def test_processes_that_create_at_once_make_one_store(directory: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from gateway.clock import system_world;"
        "from gateway.keystore.file import FileKeyStore;"
        "sys.stdin.read(1); FileKeyStore.create(Path(sys.argv[1]), system_world())"
    )
    arguments = [sys.executable, "-c", program, str(directory)]
    processes = [subprocess.Popen(arguments, stdin=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()

    assert [process.wait(30) for process in processes] == [0, 0, 0]
    opened = FileKeyStore.open(directory)
    assert all(signs(opened.sole(role)) for role in ROLES)


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.create(tmp_path / "missing" / "keys", WORLD)

    assert raised.value.place == tmp_path / "missing" / "keys"


# -- several keys of a role -------------------------------------------------------------------------------------------


def test_generated_key_is_there_at_once_and_after_a_restart(directory: Path, store: FileKeyStore) -> None:
    first = store.sole("issuer-credential").public.kid
    snapshot = store.keys("issuer-credential")

    made = store.generate("issuer-credential")

    assert set(snapshot) == {first}
    assert set(store.keys("issuer-credential")) == {first, made.public.kid}
    assert store.signer("issuer-credential", made.public.kid) is made
    reopened = FileKeyStore.open(directory)
    assert set(reopened.keys("issuer-credential")) == {first, made.public.kid}
    assert signs(reopened.signer("issuer-credential", made.public.kid))


def test_generated_key_is_on_the_disk_before_it_is_given_out(
    directory: Path, store: FileKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's content, then its name in the folder."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    store.generate("issuer-credential")

    assert synced == ["file", "folder"]


def test_key_that_cannot_be_written_is_not_given_out(
    directory: Path, store: FileKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before, keys = contents(directory), dict(store.keys("issuer-credential"))
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(KeyStoreError):
        store.generate("issuer-credential")

    assert contents(directory) == before
    assert dict(store.keys("issuer-credential")) == keys


@pytest.mark.parametrize("algorithm", sorted(set(Algorithm) - {Algorithm.PS256}))
def test_keys_of_any_algorithm_are_kept(directory: Path, store: FileKeyStore, algorithm: Algorithm) -> None:
    made = store.generate("issuer-credential", algorithm)

    kept = FileKeyStore.open(directory).signer("issuer-credential", made.public.kid)

    assert kept.public.algorithm is algorithm
    assert signs(kept)


def test_key_whose_file_would_not_say_its_algorithm_is_not_made(store: FileKeyStore) -> None:
    """An RSA key is for either of two, and would come back as the other."""
    with pytest.raises(KeyStoreError):
        store.generate("issuer-credential", Algorithm.PS256)


def test_threads_that_generate_at_once_lose_no_key(directory: Path, store: FileKeyStore) -> None:
    threads = [threading.Thread(target=store.generate, args=("issuer-credential",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(store.keys("issuer-credential")) == 9
    assert set(FileKeyStore.open(directory).keys("issuer-credential")) == set(store.keys("issuer-credential"))


def test_sole_key_is_neither_one_of_none_nor_one_of_two(directory: Path, store: FileKeyStore) -> None:
    store.generate("issuer-credential")
    key_file(directory, "anchor-federation").unlink()
    opened = FileKeyStore.open(directory)

    assert signs(opened.sole("gateway-federation"))
    with pytest.raises(KeyStoreError):
        opened.sole("issuer-credential")
    with pytest.raises(KeyStoreError):
        opened.sole("anchor-federation")


def test_key_of_another_role_is_not_given(store: FileKeyStore) -> None:
    kid = store.sole("issuer-credential").public.kid

    assert store.signer("issuer-credential", kid).public.kid == kid
    with pytest.raises(KeyStoreError):
        store.signer("issuer-status", kid)


def test_store_is_not_filled_without_end(directory: Path, store: FileKeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.keystore.file.MAX_KEYS", len(ROLES) + 1)
    store.generate("issuer-credential")
    with pytest.raises(KeyStoreError):
        store.generate("issuer-credential")

    assert len(FileKeyStore.open(directory).keys("issuer-credential")) == 2
    monkeypatch.setattr("gateway.keystore.file.MAX_KEYS", len(ROLES))
    with pytest.raises(KeyStoreError):
        FileKeyStore.open(directory)
    assert len(ROLES) < MAX_KEYS


# -- what is not opened -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o701, 0o770, 0o755])
def test_folder_others_can_use_is_not_opened(directory: Path, store: FileKeyStore, mode: int) -> None:
    directory.chmod(mode)

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.place == directory
    assert raised.value.fix == f"run: chmod 700 '{directory}'"


def a_key(directory: Path) -> Path:
    return key_file(directory, "gateway-federation")


def a_secret(directory: Path) -> Path:
    return directory / "nonce.secret"


def a_later_version(directory: Path) -> Path:
    file = directory / "pairwise.v2.secret"
    if not file.exists():
        make_secret(directory, "pairwise", 2, WORLD)
    return file


@pytest.mark.parametrize("chosen", [a_key, a_secret, a_later_version])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_file_others_can_use_is_not_opened(directory: Path, store: FileKeyStore, chosen: Chosen, mode: int) -> None:
    file = chosen(directory)
    file.chmod(mode)

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.place == file
    assert raised.value.fix == f"run: chmod 600 '{file}'"


def test_store_of_another_user_is_not_opened(
    directory: Path, store: FileKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.fix == f"run: chown 12345 '{directory}'"


def test_missing_folder_is_told(directory: Path) -> None:
    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.place == directory


def test_file_in_place_of_the_folder_is_told(directory: Path) -> None:
    directory.touch(mode=0o600)

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.place == directory


@pytest.mark.parametrize("chosen", [a_key, a_secret])
def test_link_in_place_of_a_file_is_not_followed(
    directory: Path, tmp_path: Path, store: FileKeyStore, chosen: Chosen
) -> None:
    file = chosen(directory)
    file.rename(tmp_path / file.name)
    file.symlink_to(tmp_path / file.name)

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.place == file


@pytest.mark.parametrize("chosen", [a_key, a_secret])
def test_pipe_in_place_of_a_file_is_refused_without_waiting(
    directory: Path, store: FileKeyStore, chosen: Chosen
) -> None:
    file = chosen(directory)
    file.unlink()
    os.mkfifo(file, 0o600)

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.place == file


@pytest.mark.parametrize("content", [b"", b"not a key", b"\xff", b"A" * 42 + b"\n", b"A" * 44, b"A" * 20_000])
@pytest.mark.parametrize("chosen", [a_key, a_secret])
def test_file_that_holds_something_else_is_told(
    directory: Path, store: FileKeyStore, chosen: Chosen, content: bytes
) -> None:
    file = chosen(directory)
    file.write_bytes(content)

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.place == file


def test_one_key_for_two_roles_is_refused(directory: Path, store: FileKeyStore) -> None:
    file = key_file(directory, "issuer-federation")
    copy = file.with_name(file.name.replace("issuer-federation", "issuer-status"))
    copy.write_bytes(file.read_bytes())
    copy.chmod(0o600)

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.place == copy


def test_key_under_the_name_of_another_is_refused(directory: Path, store: FileKeyStore) -> None:
    file = key_file(directory, "issuer-credential")
    file.write_bytes(generate_key().to_pkcs8())

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.place == file


@pytest.mark.parametrize("role", ["issuer", "issuer-credentials", "anchor-federation.old", ""])
def test_key_of_no_role_is_refused(directory: Path, store: FileKeyStore, role: str) -> None:
    file = key_file(directory, "issuer-credential")
    renamed = file.rename(file.with_name(file.name.replace("issuer-credential", role or "x", 1)))

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.place == renamed


def test_key_that_is_named_after_its_role_alone_is_told_its_name(directory: Path, store: FileKeyStore) -> None:
    """As stores were that had one key a role."""
    file = key_file(directory, "issuer-credential")
    old = file.rename(directory / "issuer-credential.pem")

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert raised.value.fix == f"run: mv '{old}' '{file}'"


def test_missing_key_is_missed_only_when_asked_for(directory: Path, store: FileKeyStore) -> None:
    """An anchor's key may live on a host of its own."""
    gone = key_file(directory, "anchor-federation")
    gone.unlink()
    (directory / "audit-reference.secret").unlink()

    opened = FileKeyStore.open(directory)

    assert signs(opened.sole("gateway-federation"))
    with pytest.raises(KeyStoreError) as raised:
        opened.signer("anchor-federation", store.sole("anchor-federation").public.kid)
    assert raised.value.place == gone
    with pytest.raises(KeyStoreError) as raised:
        opened.secret("audit-reference")
    assert raised.value.place == directory / "audit-reference.secret"


def test_error_names_the_file_and_the_fix_and_no_content(directory: Path, store: FileKeyStore) -> None:
    (directory / "nonce.secret").write_text("c2VjcmV0\n")

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory)

    assert str(raised.value.place) in str(raised.value)
    assert raised.value.fix in str(raised.value)
    assert "c2VjcmV0" not in str(raised.value)


# -- the passphrase ---------------------------------------------------------------------------------------------------


def test_passphrase_encrypts_every_signing_key_also_a_later_one(directory: Path) -> None:
    store = FileKeyStore.create(directory, WORLD, PASSPHRASE)
    store.generate("issuer-credential")

    for file in directory.glob("*.pem"):
        assert file.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        with pytest.raises(ValueError, match="passphrase"):
            load_pkcs8(file.read_bytes())
    assert store.protection == "passphrase"


def test_store_without_a_passphrase_says_that_it_has_none(store: FileKeyStore) -> None:
    assert (store.kind, store.protection) == ("file", "none")


@pytest.mark.parametrize(("given", "used"), [(None, PASSPHRASE), (PASSPHRASE, None), (PASSPHRASE, OTHER)])
def test_passphrase_that_does_not_fit_is_told(directory: Path, given: bytes | None, used: bytes | None) -> None:
    FileKeyStore.create(directory, WORLD, given)

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory, used)

    assert raised.value.place == key_file(directory, "anchor-federation")


def test_one_key_that_is_not_encrypted_is_refused_among_those_that_are(directory: Path) -> None:
    FileKeyStore.create(directory, WORLD, PASSPHRASE)
    key = generate_key()
    file = directory / f"issuer-credential.{key.public.kid}.pem"
    file.write_bytes(key.to_pkcs8())
    file.chmod(0o600)

    with pytest.raises(KeyStoreError) as raised:
        FileKeyStore.open(directory, PASSPHRASE)

    assert raised.value.place == file


# What openssl pkcs8 -topk8 -v2 aes-256-cbc makes with -scrypt, and with -v2prf hmacWithSHA512 -iter 100000.
STRONGER = {
    "5gfxROf53flWJYw5LrEmnzJRgR3hQBTgHE4ctYf6LL0": """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHkME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAgYUBlgCs8VSgICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBDTCJTtGi/TbXNVKgBS+pgiBIGQgio98aFNlvLr
/jxo4JIci7kb8OgsFlQ4k1Dk+APlLu93Ul9y5HYnP2bRtp6tHOGUxkS75IPxqi5W
6ne+VW4KKakkN7oB2+/t/S2jpn+Y+7FRQw4Btp7YyQEZkYi9fXlxoJlka+PPXWA2
mOlrBWxWIoasPZKuzSG8xaHNem5YXS2OXIy7IIENG3fAEq8O9Cn/
-----END ENCRYPTED PRIVATE KEY-----
""",
    "s86yXWbqCrGaM6rFROT6FzyDQdH_-O8Hbc0dTCHrxjc": """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHtMFgGCSqGSIb3DQEFDTBLMCoGCSqGSIb3DQEFDDAdBAhUppGT4DBWWAIDAYag
MAwGCCqGSIb3DQILBQAwHQYJYIZIAWUDBAEqBBCoqann2+Ma7jFA7f/zVNCTBIGQ
ZREU31TMkmsxJgnkYMdgN72P5pGm/9YsFTlySrRY3Zx/MiYT5x3GrQDDRmRnVuQY
BveiBWv3hOhVQ/mJqllf2qPBLE74hMLO3Gt43NrtS2Ax37LWP8v8zxO0J4Wvzyh5
nXNoYz5mpmtHElc0TVcEnp5J31DGYbubtLaxmsvV3kLoQSi1fKLVUmtr3rbiCJNV
-----END ENCRYPTED PRIVATE KEY-----
""",
}


@pytest.mark.parametrize("kid", STRONGER)
def test_key_that_was_encrypted_more_strongly_elsewhere_is_opened(directory: Path, kid: str) -> None:
    FileKeyStore.create(directory, WORLD, PASSPHRASE)
    file = directory / f"issuer-credential.{kid}.pem"
    file.write_text(STRONGER[kid], "ascii")
    file.chmod(0o600)

    assert signs(FileKeyStore.open(directory, PASSPHRASE).signer("issuer-credential", kid))


def test_short_passphrase_is_refused_before_anything_is_made(directory: Path) -> None:
    with pytest.raises(KeyStoreError):
        FileKeyStore.create(directory, WORLD, b"x" * (MIN_PASSPHRASE_BYTES - 1))

    assert not list(directory.iterdir())
    assert FileKeyStore.create(directory, WORLD, b"x" * MIN_PASSPHRASE_BYTES).protection == "passphrase"


# -- where a passphrase comes from ------------------------------------------------------------------------------------


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "passphrase"
    file.touch(mode=0o600)
    file.write_bytes(PASSPHRASE + b"\n")
    return file


def from_file(file: Path) -> bytes:
    return read_secret(SecretSource(file=file), "passphrase")


def test_passphrase_is_read_from_any_of_the_three_places(secret_file: Path) -> None:
    environ = {"MRG_PASSPHRASE": PASSPHRASE.decode(), "CREDENTIALS_DIRECTORY": str(secret_file.parent)}

    assert from_file(secret_file) == PASSPHRASE
    assert read_secret(SecretSource(env="MRG_PASSPHRASE"), "passphrase", environ) == PASSPHRASE
    assert read_secret(SecretSource(credential="passphrase"), "passphrase", environ) == PASSPHRASE


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_end_of_the_line_is_not_part_of_it(secret_file: Path, ending: bytes) -> None:
    secret_file.write_bytes(PASSPHRASE + ending)

    assert from_file(secret_file) == PASSPHRASE


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two\nlines\n", b"line\n\n", b"tab\tbed", b"\0" * 20, b"x" * (MAX_SECRET_BYTES + 1)]
)
def test_file_with_anything_but_one_line_is_refused_and_not_shown(secret_file: Path, content: bytes) -> None:
    secret_file.write_bytes(content)

    with pytest.raises(KeyStoreError) as raised:
        from_file(secret_file)

    assert raised.value.place == secret_file
    assert "lines" not in str(raised.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_passphrase_that_others_can_read_is_refused(secret_file: Path, mode: int) -> None:
    secret_file.chmod(mode)

    with pytest.raises(KeyStoreError) as raised:
        from_file(secret_file)

    assert raised.value.fix == f"run: chmod 600 '{secret_file}'"


def test_link_to_a_passphrase_is_not_followed(secret_file: Path) -> None:
    link = secret_file.with_name("link")
    link.symlink_to(secret_file)

    with pytest.raises(KeyStoreError) as raised:
        from_file(link)

    assert raised.value.place == link


def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)

    with pytest.raises(KeyStoreError):
        from_file(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("source", "environ"),
    [
        (SecretSource(file=Path("missing")), {}),
        (SecretSource(env="MRG_PASSPHRASE"), {}),
        (SecretSource(env="MRG_PASSPHRASE"), {"MRG_PASSPHRASE": ""}),
        (SecretSource(env="MRG_PASSPHRASE"), {"MRG_PASSPHRASE": "secret word\nsecret"}),
        (SecretSource(credential="passphrase"), {}),
        (SecretSource(credential="passphrase"), {"CREDENTIALS_DIRECTORY": "/nonexistent"}),
    ],
)
def test_source_that_gives_nothing_is_told_without_what_it_holds(
    source: SecretSource, environ: Mapping[str, str]
) -> None:
    with pytest.raises(KeyStoreError) as raised:
        read_secret(source, "passphrase", environ)

    assert "secret word" not in str(raised.value)


def test_credential_may_be_read_by_an_access_list_and_by_nobody_else(
    secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(secret_file.parent)}
    source = SecretSource(credential=secret_file.name)
    secret_file.chmod(0o440)

    assert read_secret(source, "passphrase", environ) == PASSPHRASE
    for mode in (0o444, 0o460, 0o404):
        secret_file.chmod(mode)
        with pytest.raises(KeyStoreError):
            read_secret(source, "passphrase", environ)


def test_store_is_created_and_opened_with_the_passphrase_that_the_configuration_names(
    directory: Path, secret_file: Path
) -> None:
    options = KeyStoreOptions(passphrase=SecretSource(file=secret_file))
    created: KeyStore = create_key_store(directory, options, WORLD)

    opened = open_key_store(directory, options)

    assert (opened.kind, opened.protection) == ("file", "passphrase")
    assert set(opened.keys("issuer-credential")) == set(created.keys("issuer-credential"))
    with pytest.raises(KeyStoreError):
        open_key_store(directory, KeyStoreOptions())


def test_no_word_of_a_store_shows_a_key(directory: Path, store: FileKeyStore) -> None:
    key = store.sole("issuer-credential")

    assert isinstance(key, SoftwareKey)
    body = key.to_pkcs8().decode().splitlines()[1]
    assert body not in repr(store) + repr(key) + str(store.keys("issuer-credential"))
