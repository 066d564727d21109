"""Credentials that were presented before, so that what their issuers signed is read and checked once.

What is remembered, and why nothing of it can go out of date: ``core.known``. Only what was verified is kept, so that
who cannot sign cannot push anything out.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Final

from gateway.core.known import IssuerSigned

MAX_KNOWN: Final = 4_096
"""Credentials kept; those that were not presented for longest go first."""
MAX_KNOWN_CHARS: Final = 8 * 2**20
"""Of what their issuers signed, in all. Read, and with Disclosures, it takes some ten times as much."""


class KnownCredentials:
    """Bounded memory of what was verified, by the SHA-256 of exactly the bytes that were signed. Thread-safe."""

    def __init__(self, *, most: int = MAX_KNOWN, most_chars: int = MAX_KNOWN_CHARS) -> None:
        """Know nothing yet.

        Args:
            most: how many are kept.
            most_chars: how many characters of issuers' JWTs these may have in all.
        """
        self._most = most
        self._most_chars = most_chars
        self._chars = 0
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[IssuerSigned, int]] = OrderedDict()

    def __len__(self) -> int:
        """How many are known."""
        return len(self._known)

    def find(self, issuer_jwt: str) -> IssuerSigned | None:
        """Give what is known of these bytes."""
        place = _place(issuer_jwt)
        with self._lock:
            found = self._known.get(place)
            if found is None:
                return None
            self._known.move_to_end(place)
            return found[0]

    def keep(self, issuer_jwt: str, signed: IssuerSigned) -> None:
        """Remember what was verified; what is over the bounds is forgotten."""
        if signed.verified_by is None:
            raise ValueError("only what was verified is kept")
        place = _place(issuer_jwt)
        with self._lock:
            before = self._known.pop(place, None)
            if before is not None:
                self._chars -= before[1]
            self._known[place] = (signed, len(issuer_jwt))
            self._chars += len(issuer_jwt)
            while len(self._known) > self._most or self._chars > self._most_chars:
                _, (_, chars) = self._known.popitem(last=False)
                self._chars -= chars


def _place(issuer_jwt: str) -> bytes:
    return hashlib.sha256(issuer_jwt.encode("utf-8", "surrogatepass")).digest()
