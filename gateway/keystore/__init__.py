"""Where this province's private keys are, and what may be asked of whoever keeps them.

A store gives out signers, never keys: what holds for a key that lies in a file holds for one inside a hardware module.

* ``file`` keeps keys as PKCS#8 files in one folder, encrypted where a passphrase is given.
* ``token`` keeps them in a PKCS#11 token, where they are generated and which they cannot leave.
* ``opening`` opens or creates what the configuration names; ``source`` reads the passphrase or PIN for it.

A role may have several keys, since a key is made long before it signs and kept for a while after. No key has two roles:
what is signed for one purpose must never pass for another. Which key of a role signs today is not the store's business.

Secrets (of nonces, of pseudonyms) are files whatever the keys are: every process needs them as soon as it starts. Those
of pseudonyms can be replaced, and then have versions; the others never change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

from gateway.core.jose import Algorithm, Signer

KeyRole = Literal[
    "anchor-federation",
    "issuer-federation",
    "issuer-credential",
    "issuer-status",
    "gateway-federation",
    "gateway-receipt",
    "gateway-audit",
]
SecretName = Literal["nonce", "pairwise", "pairwise-issuer", "audit-reference"]
Kind = Literal["file", "pkcs11"]
Protection = Literal["none", "passphrase", "token"]

SECRET_BYTES: Final = 32
PAIRWISE_SECRETS: Final[tuple[SecretName, ...]] = ("pairwise", "pairwise-issuer")
"""Those that have versions."""
MAX_KEYS: Final = 256
"""Of all roles together, those that no longer sign included: more is a mistake, and would make a start slow."""


class KeyStoreError(ValueError):
    """The store cannot be used as it is. ``str`` names the place and says how to mend it, and holds no secret."""

    def __init__(self, place: Path | str, problem: str, fix: str) -> None:
        """Say which file, variable or token has which problem, and what the administrator has to do."""
        super().__init__(f"{place}: {problem}; {fix}")
        self.place = place
        self.problem = problem
        self.fix = fix


class KeyStore(Protocol):
    """Private keys by role, and secrets. Thread-safe."""

    @property
    def kind(self) -> Kind:
        """Where new keys are made."""

    @property
    def protection(self) -> Protection:
        """What keeps a key from whoever gets hold of the disk."""

    def keys(self, role: KeyRole) -> Mapping[str, Signer]:
        """All keys of a role by their ``kid``, which is the thumbprint. A snapshot: it does not change any more."""

    def signer(self, role: KeyRole, kid: str) -> Signer:
        """Give one key of a role.

        Raises:
            KeyStoreError: the store has it not.
        """

    def sole(self, role: KeyRole) -> Signer:
        """Give the one key of a role that has one.

        Raises:
            KeyStoreError: it has none, or several.
        """

    def generate(self, role: KeyRole, algorithm: Algorithm = Algorithm.ES256) -> Signer:
        """Make another key for a role. It is on the disk, or in the token, before this returns.

        Raises:
            KeyStoreError: it cannot be made.
        """

    def versions(self, name: SecretName) -> Collection[int]:
        """Give the versions of a secret that are held."""

    def secret(self, name: SecretName, version: int = 1) -> bytes:
        """Give a secret of 32 bytes.

        Raises:
            KeyStoreError: the store has not this version of it.
        """

    def close(self) -> None:
        """Let go of what is open. Signers of a closed store may refuse to sign."""


def sole_signer(place: Path | str, role: KeyRole, signers: Mapping[str, Signer]) -> Signer:
    """Give the only one of these.

    Raises:
        KeyStoreError: there is none, or there are several.
    """
    if not signers:
        raise KeyStoreError(
            place, f"has no key {role}", "put it back from the backup, or create it where it never existed"
        )
    if len(signers) > 1:
        raise KeyStoreError(
            place, f"has {len(signers)} keys {role}", "take those away that do not sign, after their records were read"
        )
    return next(iter(signers.values()))
