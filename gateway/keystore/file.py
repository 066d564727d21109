"""The file store of this province's private keys.

One folder, for the owner alone (0700), holds ``<role>.<kid>.pem`` (PKCS#8) for every signing key and ``<name>.secret``
(32 random bytes as base64url) for every secret that is shared by the province's processes and nobody else. What
replaces a secret is ``<name>.v<version>.secret``, from 2 on. A store whose folder or files somebody else could read is
not opened: whoever reads a key speaks for the province, and a key that was readable for an hour must be treated as
known.

The name of a key file says what is in it, and is checked: a file under another key's name, or a ``.pem`` of no role, is
a mistake to be found at the start and not when the key is missed.

A file is complete or absent: it is written under another name, forced to disk, then linked to its own name, which fails
when that is taken. So no key is ever overwritten, and ``create`` can be run again after a crash: it adds what is
missing. Of two processes that create or generate at once, one waits for the other.

A passphrase encrypts the signing keys, all or none: PBES2 with AES-256-CBC under PBKDF2-HMAC-SHA256, which is what the
library's "best available encryption" means, at 2048 iterations, which is few. Stretching is for what people think up;
a gateway reads its passphrase from a file, so let a machine make it (``openssl rand -base64 32``), and there is nothing
to guess. Short ones are refused. Files that another tool encrypted with more iterations, or scrypt, open as well. CBC
does not notice changes; a changed file gives no key, or one that does not match the file's name. The secrets stay as
they are: they protect pseudonyms and nonces, and are needed by every process as soon as it starts.

Keys lie in this process's memory from its start to its end. Whoever may read that memory needs no file.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self, get_args

from gateway.clock import World
from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.core.jose import Algorithm, Signer, SoftwareKey, generate_key, load_pkcs8
from gateway.core.reasons import Rejected
from gateway.keystore import (
    MAX_KEYS,
    PAIRWISE_SECRETS,
    SECRET_BYTES,
    KeyRole,
    KeyStoreError,
    Kind,
    Protection,
    SecretName,
    sole_signer,
)
from gateway.keystore.source import check_private, read_plain

MIN_PASSPHRASE_BYTES: Final = 20
_MAX_FILE_BYTES: Final = 16_384
_ROLES: Final[tuple[KeyRole, ...]] = get_args(KeyRole)
_KEY_FILE: Final = re.compile(rf"(?P<role>{'|'.join(_ROLES)})\.(?P<kid>[A-Za-z0-9_-]{{43}})\.pem")
# One version, one name: the first has no number, and 02 is not 2.
_VERSION_FILE: Final = re.compile(
    rf"(?P<name>{'|'.join(PAIRWISE_SECRETS)})\.v(?P<version>[2-9]|[1-9][0-9]{{1,2}})\.secret"
)
_BACK: Final = "put it back from the backup"


class FileKeyStore:
    """The keys and secrets of one folder, read when it is opened. Keys that are made later are added."""

    def __init__(
        self,
        directory: Path,
        keys: Mapping[KeyRole, Mapping[str, SoftwareKey]],
        secrets: Mapping[tuple[SecretName, int], bytes],
        passphrase: bytes | None,
    ) -> None:
        self._directory = directory
        self._keys = dict(keys)
        self._secrets = secrets
        self._passphrase = passphrase
        self._adding = threading.Lock()

    @classmethod
    def create(cls, directory: Path, world: World, passphrase: bytes | None = None, *, keys: bool = True) -> Self:
        """Make the folder, every secret, and a key for every role that has none yet, then open it.

        Args:
            directory: made when missing; its parent must exist.
            world: gives the secrets' random bytes.
            passphrase: encrypts the signing keys. Keys that exist must open with it.
            keys: off where keys are made elsewhere.

        Raises:
            KeyStoreError: it cannot be written, or what exists cannot be opened.
        """
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise KeyStoreError(directory, f"cannot be made ({error.strerror})", "name a folder that can be") from error
        with _alone(directory):
            # Before anything is added: half a store under one passphrase and half under another would help nobody.
            store = cls.open(directory, passphrase)
            for role in _ROLES if keys else ():
                if not store.keys(role):
                    _write_key(directory, role, generate_key(), passphrase)
            held = {name for name, _version in read_secrets(directory)}
            for name in get_args(SecretName):
                # Of one that was replaced, the first version may have been destroyed, for good.
                if name not in held:
                    _write_secret(secret_file(directory, name), world)
        return cls.open(directory, passphrase)

    @classmethod
    def open(cls, directory: Path, passphrase: bytes | None = None) -> Self:
        """Read the keys and secrets that are there. One that is missing is missed when it is asked for.

        Raises:
            KeyStoreError: the folder is missing, somebody else could read it, or a file is not what it should be.
        """
        if passphrase is not None and len(passphrase) < MIN_PASSPHRASE_BYTES:
            raise KeyStoreError(directory, "gets too short a passphrase", "make one: openssl rand -base64 32")
        _check_folder(directory)
        keys: dict[KeyRole, dict[str, SoftwareKey]] = {role: {} for role in _ROLES}
        holders: dict[str, Path] = {}
        for file in _key_files(directory):
            role, key = _read_key(file, passphrase)
            holder = holders.setdefault(key.public.thumbprint, file)
            if holder != file:
                raise KeyStoreError(file, f"is the same key as {holder.name}", "give each role a key of its own")
            keys[role][key.public.kid] = key
        return cls(directory, keys, read_secrets(directory), passphrase)

    @property
    def kind(self) -> Kind:
        """Keys are files."""
        return "file"

    @property
    def protection(self) -> Protection:
        """Whether the key files are encrypted: an opened store has either none that is, or none that is not."""
        return "none" if self._passphrase is None else "passphrase"

    def keys(self, role: KeyRole) -> Mapping[str, Signer]:
        """All keys of a role by ``kid``."""
        return MappingProxyType(self._keys[role])

    def signer(self, role: KeyRole, kid: str) -> Signer:
        """Give one key of a role.

        Raises:
            KeyStoreError: there is no such file.
        """
        if kid not in self._keys[role]:
            raise _missing(self._directory / f"{role}.{kid}.pem")
        return self._keys[role][kid]

    def sole(self, role: KeyRole) -> Signer:
        """Give the one key of a role that has one.

        Raises:
            KeyStoreError: it has none, or several.
        """
        return sole_signer(self._directory, role, self._keys[role])

    def generate(self, role: KeyRole, algorithm: Algorithm = Algorithm.ES256) -> Signer:
        """Make another key for a role; its file is on the disk before this returns.

        Raises:
            KeyStoreError: it cannot be written, the store is full, or the file would not say the algorithm.
        """
        if algorithm is Algorithm.PS256:
            # An RSA key in a file is for either of two algorithms, and would come back for the other.
            raise KeyStoreError(self._directory, f"keeps no keys for {algorithm}", f"ask for {Algorithm.ES256}")
        with self._adding:
            if sum(map(len, self._keys.values())) >= MAX_KEYS:
                raise KeyStoreError(self._directory, f"holds {MAX_KEYS} keys", "move those that are retired elsewhere")
            key = generate_key(algorithm)
            with _alone(self._directory):
                _write_key(self._directory, role, key, self._passphrase)
            # A new mapping instead of a new entry: whoever goes through the old one is not disturbed.
            self._keys[role] = {**self._keys[role], key.public.kid: key}
            return key

    def versions(self, name: SecretName) -> Collection[int]:
        """Give the versions of a secret that are held."""
        return {version for held, version in self._secrets if held == name}

    def secret(self, name: SecretName, version: int = 1) -> bytes:
        """Give a secret of 32 bytes.

        Raises:
            KeyStoreError: there is no such file.
        """
        if (name, version) not in self._secrets:
            raise _missing(secret_file(self._directory, name, version))
        return self._secrets[name, version]

    def close(self) -> None:
        """Do nothing: no file stays open."""


def secret_file(directory: Path, name: SecretName, version: int = 1) -> Path:
    """Name the file of a secret."""
    return directory / (f"{name}.secret" if version == 1 else f"{name}.v{version}.secret")


def read_secrets(directory: Path) -> Mapping[tuple[SecretName, int], bytes]:
    """Read the secrets of a folder, by name and version. The signing keys are not looked at.

    Raises:
        KeyStoreError: the folder is missing, somebody else could read it, or a file is not what it should be.
    """
    _check_folder(directory)
    secrets: dict[tuple[SecretName, int], bytes] = {}
    places = [(name, 1) for name in get_args(SecretName)]
    places += [_version_of(file) for file in sorted(directory.glob("*.v*.secret")) if file.name[0] != "."]
    for name, version in places:
        file = secret_file(directory, name, version)
        text = _read_private(file)
        if text is not None:
            secrets[name, version] = _load_secret(file, text)
    return secrets


def make_secret(directory: Path, name: SecretName, version: int, world: World) -> None:
    """Make a secret that replaces another. Its file is on the disk before this returns.

    Raises:
        KeyStoreError: it is there already, or cannot be written.
    """
    with _alone(directory):
        _write_secret(secret_file(directory, name, version), world)


def _missing(file: Path) -> KeyStoreError:
    return KeyStoreError(file, "is missing", f"{_BACK}, or create it where it never existed")


# -- reading ----------------------------------------------------------------------------------------------------------


def _check_folder(directory: Path) -> None:
    try:
        status = directory.stat()
    except OSError as error:
        raise KeyStoreError(directory, f"cannot be opened ({error.strerror})", "create the key store first") from error
    if not stat.S_ISDIR(status.st_mode):
        raise KeyStoreError(directory, "is not a folder", "name the folder of the keys")
    check_private(directory, status, "700")


def _key_files(directory: Path) -> list[Path]:
    # Hidden files are leftovers of a process that was killed while it wrote; nobody was promised what is in them.
    files = sorted(file for file in directory.glob("*.pem") if not file.name.startswith("."))
    if len(files) > MAX_KEYS:
        raise KeyStoreError(directory, f"holds more than {MAX_KEYS} keys", "move those that are retired elsewhere")
    return files


def _version_of(file: Path) -> tuple[SecretName, int]:
    found = _VERSION_FILE.fullmatch(file.name)
    if found is None:
        raise KeyStoreError(file, "is named after no version of a secret", "take it out of the key store")
    return next(name for name in PAIRWISE_SECRETS if name == found["name"]), int(found["version"])


def _read_private(file: Path) -> bytes | None:
    """Read a file that belongs to us alone; None when it is not there."""
    return read_plain(file, _MAX_FILE_BYTES, "a key file", lambda path, status: check_private(path, status, "600"))


def _read_key(file: Path, passphrase: bytes | None) -> tuple[KeyRole, SoftwareKey]:
    pem = _read_private(file)
    if pem is None:
        raise _missing(file)  # somebody takes files away as we look
    key = _load_key(file, pem, passphrase)
    kid = key.public.kid
    for role in _ROLES:
        if file.name == f"{role}.{kid}.pem":
            return role, key
    named = _KEY_FILE.fullmatch(file.name)
    role_named = named["role"] if named is not None else file.name.removesuffix(".pem")
    if role_named in _ROLES:
        # Without a kid: named as when a role had but one key.
        fix = _BACK if named is not None else f"run: mv '{file}' '{file.with_name(f'{role_named}.{kid}.pem')}'"
        raise KeyStoreError(file, "does not bear the name of the key in it", fix)
    raise KeyStoreError(file, "is named after no role", "take it out of the key store")


def _load_key(file: Path, pem: bytes, passphrase: bytes | None) -> SoftwareKey:
    try:
        return load_pkcs8(pem, passphrase)
    except ValueError as error:
        raise KeyStoreError(
            file,
            "is not a private key that this passphrase opens" if passphrase else "is not an unencrypted private key",
            "check the passphrase, or put the file back from the backup",
        ) from error


def _load_secret(file: Path, text: bytes) -> bytes:
    try:
        secret = b64url_decode(text.decode("ascii").removesuffix("\n"))
    except (UnicodeDecodeError, Rejected) as error:
        raise KeyStoreError(file, "is not base64url", _BACK) from error
    if len(secret) != SECRET_BYTES:
        raise KeyStoreError(file, f"does not hold {SECRET_BYTES} bytes", _BACK)
    return secret


# -- writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep other processes from adding to the store. The kernel lets go for us when we are killed."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KeyStoreError(directory, f"cannot be opened ({error.strerror})", "name the folder of the keys") from error
    try:
        _lock(directory, descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(directory: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        fix = "keep keys on a local file system"
        raise KeyStoreError(directory, f"cannot be locked ({error.strerror})", fix) from error


def _write_key(directory: Path, role: KeyRole, key: SoftwareKey, passphrase: bytes | None) -> None:
    _write_new(directory / f"{role}.{key.public.kid}.pem", key.to_pkcs8(passphrase))


def _write_secret(file: Path, world: World) -> None:
    _write_new(file, f"{b64url_encode(world.random_bytes(SECRET_BYTES))}\n".encode("ascii"))


def _write_new(file: Path, content: bytes) -> None:
    """Write a file that must not exist yet: complete and on disk, or not at all."""
    try:
        # For its owner alone from the first moment on, whatever the umask.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            # Unlike a rename, a link never replaces.
            file.hardlink_to(temporary)
        finally:
            Path(temporary).unlink()
        _sync_folder(file.parent)
    except OSError as error:
        raise KeyStoreError(file, f"cannot be written ({error.strerror})", "free the name or the disk") from error


def _sync_folder(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
