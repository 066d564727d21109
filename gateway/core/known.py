"""What an issuer signed, and that somebody may remember having checked it.

A credential is held for months and presented again and again. What the issuer signed of it stays the same, and that a
signature over these bytes is by this key is a fact that no time changes. That fact may be remembered, with the claims
as they were read and the Disclosures presented last. No decision may: whether the key counts, whether the credential is
in force, revoked or good enough, the holder's proof, the nonce and everything else are asked of the view, the lists and
the clock each time. So nothing that is remembered can outlive a revocation, and nothing needs to be flushed when trust
changes: a key that the view does not give is never compared with the one that is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.core.jose import Algorithm, PublicKey, UnverifiedJws


@dataclass(slots=True, kw_only=True, eq=False)
class IssuerSigned:
    """What an issuer signed, as read. To be believed once ``verified_by`` is the key that the view gives for it."""

    jws: UnverifiedJws
    claims: Mapping[str, Any] = field(repr=False)
    """The payload. Never changed: several verifications may be reading it."""
    issuer: str
    verified_by: tuple[str, Algorithm] | None = None
    """Thumbprint and algorithm of the key that the signature was verified with; None: it was not."""
    holder: PublicKey | None = None
    """The key in ``cnf``, once it was imported."""
    disclosed: tuple[tuple[str, ...], Mapping[str, Any]] | None = field(default=None, repr=False)
    """The Disclosures that were presented last and the claims with these in their places: a matter that asks again is
    shown the same. One value, replaced as a whole: another thread must never read one half of each of two."""


class Known(Protocol):
    """Remembers what was verified, by exactly the bytes that were signed. Thread-safe."""

    def find(self, issuer_jwt: str) -> IssuerSigned | None:
        """Give what is known of these bytes."""

    def keep(self, issuer_jwt: str, signed: IssuerSigned) -> None:
        """Remember what was verified."""
