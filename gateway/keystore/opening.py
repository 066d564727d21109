"""Opening the key store that the configuration names, whatever kind it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gateway.clock import World
from gateway.config import KeyStoreOptions, Pkcs11
from gateway.keystore import KeyStore, KeyStoreError
from gateway.keystore.file import FileKeyStore
from gateway.keystore.source import read_secret


def open_key_store(directory: Path, options: KeyStoreOptions, environ: Mapping[str, str] | None = None) -> KeyStore:
    """Open the store of a folder, and of the token beside it where one is named.

    Args:
        directory: holds key files and secrets.
        options: where the passphrase is, which token.
        environ: the variables of this process, unless others are given.

    Raises:
        KeyStoreError: it cannot be used as it is; ``str`` says what to do.
    """
    files = FileKeyStore.open(directory, _passphrase(options, environ))
    return files if options.pkcs11 is None else _with_token(files, options.pkcs11, environ, create=False)


def create_key_store(
    directory: Path, options: KeyStoreOptions, world: World, environ: Mapping[str, str] | None = None
) -> KeyStore:
    """Make what is missing of a store: the folder, the secrets, a key for every role that has none.

    Raises:
        KeyStoreError: as ``open_key_store``, or it cannot be written to.
    """
    passphrase = _passphrase(options, environ)
    files = FileKeyStore.create(directory, world, passphrase, keys=options.pkcs11 is None)
    return files if options.pkcs11 is None else _with_token(files, options.pkcs11, environ, create=True)


def _passphrase(options: KeyStoreOptions, environ: Mapping[str, str] | None) -> bytes | None:
    return None if options.passphrase is None else read_secret(options.passphrase, "passphrase", environ)


def _with_token(files: FileKeyStore, options: Pkcs11, environ: Mapping[str, str] | None, *, create: bool) -> KeyStore:
    try:
        # Only here: whoever has no token needs no binding, and there is not one for every machine.
        from gateway.keystore.pkcs11 import Pkcs11KeyStore  # noqa: PLC0415
        from gateway.keystore.token import Token  # noqa: PLC0415
    except ImportError as error:
        raise KeyStoreError(
            options.module, "needs the Python package python-pkcs11", "install it, or keep keys in files"
        ) from error
    token = Token(options.module, options.token, read_secret(options.pin, "PIN", environ))
    try:
        return Pkcs11KeyStore.create(files, token) if create else Pkcs11KeyStore.open(files, token)
    except KeyStoreError:
        with suppress(KeyStoreError):
            token.close()
        raise
