"""The file store of this province's private keys.

One folder, for the owner alone (0700), holds ``<role>.pem`` (PKCS#8) for every signing key and ``<name>.secret`` (32
random bytes as base64url) for every secret that is shared by the province's processes and nobody else. A store whose
folder or files somebody else could read is not opened: whoever reads a key speaks for the province, and a key that was
readable for an hour must be treated as known.

A file is complete or absent: it is written under another name, forced to disk, then linked to its own name, which fails
when that is taken. So no key is ever overwritten, and ``create`` can be run again after a crash: it adds what is
missing.

A passphrase encrypts the signing keys. The secrets stay as they are: they protect pseudonyms and nonces, and are needed
by every process as soon as it starts.

A role has one key, and no key has two roles: what is signed for one purpose must never pass for another.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self, get_args

from gateway.clock import World
from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.core.jose import SoftwareKey, generate_key, load_pkcs8
from gateway.core.reasons import Rejected

KeyRole = Literal["anchor-federation", "issuer-federation", "issuer-credential", "gateway-federation"]
SecretName = Literal["nonce", "pairwise", "pairwise-issuer", "audit-reference"]

SECRET_BYTES: Final = 32
_MAX_FILE_BYTES: Final = 16_384
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class KeyStoreError(ValueError):
    """The store cannot be used as it is. ``str`` names the file and says how to mend it."""

    def __init__(self, file: Path, problem: str, fix: str) -> None:
        """Say which file has which problem, and what the administrator has to do."""
        super().__init__(f"{file}: {problem}; {fix}")
        self.file = file
        self.fix = fix


class KeyStore:
    """The keys and secrets of one folder, read once when it is opened. Immutable, so thread-safe."""

    def __init__(
        self, directory: Path, signers: Mapping[KeyRole, SoftwareKey], secrets: Mapping[SecretName, bytes]
    ) -> None:
        self._directory = directory
        self._signers = signers
        self._secrets = secrets

    @classmethod
    def create(cls, directory: Path, world: World, passphrase: bytes | None = None) -> Self:
        """Make the folder and every key and secret that is not there yet, then open it.

        Args:
            directory: made when missing; its parent must exist.
            world: gives the secrets' random bytes.
            passphrase: encrypts the signing keys. Keys that exist must open with it.

        Raises:
            KeyStoreError: it cannot be written, or what exists cannot be opened.
        """
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise KeyStoreError(directory, f"cannot be made ({error.strerror})", "name a folder that can be") from error
        # Before anything is added: half a store under one passphrase and half under another would help nobody.
        cls.open(directory, passphrase)
        for role in get_args(KeyRole):
            if not _key_file(directory, role).exists():
                _write_new(_key_file(directory, role), generate_key().to_pkcs8(passphrase), world)
        for name in get_args(SecretName):
            if not _secret_file(directory, name).exists():
                secret = b64url_encode(world.random_bytes(SECRET_BYTES))
                _write_new(_secret_file(directory, name), f"{secret}\n".encode("ascii"), world)
        return cls.open(directory, passphrase)

    @classmethod
    def open(cls, directory: Path, passphrase: bytes | None = None) -> Self:
        """Read the keys and secrets that are there. One that is missing is missed when it is asked for.

        Raises:
            KeyStoreError: the folder is missing, somebody else could read it, or a file is not what it should be.
        """
        _check_folder(directory)
        signers: dict[KeyRole, SoftwareKey] = {}
        holders: dict[str, Path] = {}
        for role in get_args(KeyRole):
            file = _key_file(directory, role)
            pem = _read_private(file)
            if pem is None:
                continue
            signers[role] = _load_key(file, pem, passphrase)
            holder = holders.setdefault(signers[role].public.thumbprint, file)
            if holder != file:
                raise KeyStoreError(file, f"is the same key as {holder.name}", "give each role a key of its own")
        secrets: dict[SecretName, bytes] = {}
        for name in get_args(SecretName):
            file = _secret_file(directory, name)
            text = _read_private(file)
            if text is not None:
                secrets[name] = _load_secret(file, text)
        return cls(directory, signers, secrets)

    def signer(self, role: KeyRole) -> SoftwareKey:
        """Give the signing key of a role.

        Raises:
            KeyStoreError: the store has none.
        """
        if role not in self._signers:
            raise _missing(_key_file(self._directory, role))
        return self._signers[role]

    def secret(self, name: SecretName) -> bytes:
        """Give a secret of 32 bytes.

        Raises:
            KeyStoreError: the store has none.
        """
        if name not in self._secrets:
            raise _missing(_secret_file(self._directory, name))
        return self._secrets[name]


def _key_file(directory: Path, role: KeyRole) -> Path:
    return directory / f"{role}.pem"


def _secret_file(directory: Path, name: SecretName) -> Path:
    return directory / f"{name}.secret"


def _missing(file: Path) -> KeyStoreError:
    return KeyStoreError(file, "is missing", "put it back from the backup, or create it where it never existed")


# -- reading ----------------------------------------------------------------------------------------------------------


def _check_folder(directory: Path) -> None:
    try:
        status = directory.stat()
    except OSError as error:
        raise KeyStoreError(directory, f"cannot be opened ({error.strerror})", "create the key store first") from error
    if not stat.S_ISDIR(status.st_mode):
        raise KeyStoreError(directory, "is not a folder", "name the folder of the keys")
    _check_private(directory, status, "700")


def _check_private(path: Path, status: os.stat_result, mode: str) -> None:
    if status.st_uid != os.geteuid():
        raise KeyStoreError(path, "belongs to another user", f"run: chown {os.geteuid()} '{path}'")
    if status.st_mode & _OTHERS:
        raise KeyStoreError(path, "can be used by others than its owner", f"run: chmod {mode} '{path}'")


def _read_private(file: Path) -> bytes | None:
    """Read a file that belongs to us alone; None when it is not there."""
    try:
        # The checks are of the file that is read, not of what bears its name a moment later; hence no links either.
        # Nor does opening a pipe put up for us wait for its writer.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyStoreError(
            file, f"cannot be opened ({error.strerror})", "make it a plain file that its owner can read"
        ) from error
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE_BYTES:
            raise KeyStoreError(file, "is not a key file", "put it back from the backup")
        _check_private(file, status, "600")
        return opened.read()


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
        raise KeyStoreError(file, "is not base64url", "put it back from the backup") from error
    if len(secret) != SECRET_BYTES:
        raise KeyStoreError(file, f"does not hold {SECRET_BYTES} bytes", "put it back from the backup")
    return secret


# -- writing ----------------------------------------------------------------------------------------------------------


def _write_new(file: Path, content: bytes, world: World) -> None:
    """Write a file that must not exist yet: complete and on disk, or not at all."""
    temporary = file.with_name(f".{file.name}.{world.random_bytes(8).hex()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            # Unlike a rename, a link never replaces: of two processes that create at once, one fails.
            os.link(temporary, file)
        finally:
            temporary.unlink()
        _sync_folder(file.parent)
    except OSError as error:
        raise KeyStoreError(file, f"cannot be written ({error.strerror})", "free the name or the disk") from error


def _sync_folder(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
