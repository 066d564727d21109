"""Pairwise subjects: what a person is called, differently for everybody who must not compare notes.

A keyed derivation (HMAC-SHA-256) over parts with their lengths in front, so that no two lists of parts run together,
and with the version of its key in front of the result. The key never leaves its province. Nobody without it can go
back from a subject to a person, or from one sector's subject to another's.

A key that is replaced changes every subject it made. So that records can be moved over, both subjects are given for a
while: the new one, and the one by the version before. After that the old key is of no use to anybody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from gateway.core.encoding import keyed_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseKey:
    """The key behind pairwise subjects, its version, and the one before while records are moved."""

    version: int
    key: bytes = field(repr=False)
    previous: bytes | None = field(default=None, repr=False)
    """The key of the version before; None: there is none, or nobody needs it any more."""
    mapped_until: datetime | None = None
    """Until when both subjects are given."""

    def subject(self, *parts: str) -> str:
        """Give the subject for these parts, such as sector, issuer and the issuer's own subject."""
        return _derive(self.key, self.version, parts)

    def previous_subject(self, now: datetime, *parts: str) -> str:
        """Give what the subject was by the version before; empty once records must have been moved."""
        if self.previous is None or self.mapped_until is None or now >= self.mapped_until:
            return ""
        return _derive(self.previous, self.version - 1, parts)


def _derive(key: bytes, version: int, parts: tuple[str, ...]) -> str:
    return f"v{version}.{keyed_digest(key, 'subject', *parts)}"
