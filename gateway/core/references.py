"""Keyed references: how the log names people and things without saying who or what they are.

Only who holds the key can make a reference again, so whoever steals the log cannot find a person by trying all ID
numbers. The key is shared by the province's processes and never replaced: what was used up must stay so, and a person
must be able to find what was disclosed about them three years ago.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.encoding import keyed_digest


@dataclass(frozen=True, slots=True)
class References:
    """Makes references. A reference of one kind is never one of another."""

    _key: bytes = field(repr=False)

    def replay(self, *parts: str) -> str:
        """Name a nonce or jti that is used up."""
        return keyed_digest(self._key, "replay", *parts)

    def request(self, service: str, exchange: str) -> str:
        """Name a question of a service together with what it was told."""
        return keyed_digest(self._key, "request", service, exchange)

    def consent(self, issuer: str, subject: str) -> str:
        """Name the person of whom a consent is, by the subject that the issuer gives them."""
        return keyed_digest(self._key, "consent", issuer, subject)

    def person(self, issuer: str, subject: str) -> str:
        """Name the person a verification was about, by the subject that the issuer gives them."""
        return keyed_digest(self._key, "person", issuer, subject)
