"""The keys that an anchor signs charters with: in a key store, or in one file on a machine that never had a network.

An anchor has several keys while one takes over from another. It signs with each of them that the old charter or the new
one lists, so that its word counts on both sides whichever of them a charter adds or drops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli import options
from gateway.cli.console import Failure
from gateway.config import KeyStoreOptions, SecretSource
from gateway.core.charter import Charter, UnverifiedCharter, add_signature
from gateway.core.jose import Signer, load_pkcs8
from gateway.core.reasons import Rejected
from gateway.keystore import KeyStoreError
from gateway.keystore.opening import open_key_store
from gateway.keystore.source import check_private, read_plain, read_secret

KeysOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The province's key store, with its anchor's keys.")
]
KeyOption = Annotated[Path | None, typer.Option(metavar="KEY.pem", help="One private key of the anchor, PKCS#8.")]
ConfigOption = Annotated[
    Path | None, typer.Option(metavar="gateway.toml", help="The key store that this configuration names.")
]
PassphraseOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --keys or --key: the file with the passphrase.")
]

_ROLE: Final = "anchor-federation"
_MAX_KEY_BYTES: Final = 16_384


@contextmanager
def anchor_signers(
    keys: Path | None, key: Path | None, config: Path | None, passphrase_file: Path | None
) -> Iterator[Mapping[str, Signer]]:
    """Give the anchor's keys by kid, from the one place that was named.

    Raises:
        Failure: none or several places were named, or the keys cannot be read.
    """
    given = [place for place in (keys, key, config) if place is not None]
    if len(given) != 1:
        raise Failure(
            "--keys is missing" if not given else "the anchor's key is named more than once",
            fix="give --keys DIR, or --key KEY.pem, or --config gateway.toml",
        )
    if config is not None and passphrase_file is not None:
        raise Failure("--passphrase-file does not go with --config", fix="the configuration says where it is")
    source = None if passphrase_file is None else SecretSource(file=passphrase_file)
    try:
        if key is not None:
            yield _one_key(key, source)
        elif config is not None:
            loaded = options.configuration(config)
            yield from _stored(loaded.keys, loaded.key_store)
        elif keys is not None:
            # The province's folder will do as well, which is what mrg init takes.
            yield from _stored(keys / "keys" if (keys / "keys").is_dir() else keys, KeyStoreOptions(passphrase=source))
    except KeyStoreError as error:
        raise Failure(f"{error.place}: {error.problem}", fix=error.fix) from error


def _stored(directory: Path, opening: KeyStoreOptions) -> Iterator[Mapping[str, Signer]]:
    store = open_key_store(directory, opening)
    try:
        signers = store.keys(_ROLE)
        if not signers:
            raise KeyStoreError(directory, "holds no key of an anchor", "name the folder of the anchor's keys")
        yield signers
    finally:
        store.close()


def _one_key(file: Path, source: SecretSource | None) -> Mapping[str, Signer]:
    passphrase = None if source is None else read_secret(source, "passphrase")
    pem = read_plain(file, _MAX_KEY_BYTES, "a key file", lambda path, status: check_private(path, status, "600"))
    if pem is None:
        raise KeyStoreError(file, "is missing", "name the file of the anchor's key")
    try:
        signer = load_pkcs8(pem, passphrase)
    except ValueError as error:
        raise KeyStoreError(
            file,
            "is not a private key that can be opened",
            "give the file with its passphrase by --passphrase-file, or name another key",
        ) from error
    return {signer.public.kid: signer}


def sign_with_all(
    parsed: UnverifiedCharter, signers: Mapping[str, Signer], previous: Charter | None
) -> tuple[str, tuple[str, ...]]:
    """Sign with every key that the charter or the previous one lists. Gives the document, and the keys.

    Raises:
        Failure: neither lists any of them.
    """
    charter = parsed.unverified
    listed = {kid for each in (charter, previous) if each is not None for anchor in each.anchors for kid in anchor.keys}
    signing = {kid: signer for kid, signer in signers.items() if kid in listed}
    if not signing:
        before = "" if previous is not None else "; an anchor that leaves signs with --previous OLD.json"
        raise Failure(
            "the key is that of no anchor of this charter" + ("" if previous is None else " or the previous one"),
            fix=f"sign with the anchor's key that the charter names, see mrg charter show{before}",
        )
    document = charter.document
    try:
        for signer in signing.values():
            document = add_signature(document, signer, previous=previous)
    except Rejected as error:
        raise Failure(error.detail, fix="draft it again: nobody can sign it as it is") from error
    return document, tuple(sorted(signing))
