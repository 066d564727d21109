"""One entity of the federation that this process plays: it signs and re-signs its own configuration."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.core.jose import Signer, sign_compact
from gateway.core.publication import configuration_claims
from gateway.core.statements import PROFILE
from gateway.core.statements import TYP as STATEMENT_TYPE

HISTORICAL_KEYS_TYPE: Final = "jwk-set+jwt"


class Entity:
    """An entity identifier, its federation key, and the configuration it publishes. Thread-safe."""

    def __init__(self, *, entity_id: str, signer: Signer, metadata: Mapping[str, Any], lifetime: timedelta) -> None:
        """Prepare an entity.

        Args:
            entity_id: its entity identifier.
            signer: its federation key.
            metadata: by entity type, what it says of itself.
            lifetime: how long a configuration lives; it is signed anew at half of that.
        """
        self.entity_id = entity_id
        self.signer = signer
        self._metadata = metadata
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._signed: tuple[datetime, tuple[str, ...], str] | None = None

    def configuration(self, authority_hints: Sequence[str], now: datetime, last: datetime | None = None) -> str:
        """Give the current configuration, signing a new one when the last is past half its life.

        Args:
            authority_hints: the superiors to name.
            now: the time.
            last: when the configuration that was published last was issued. A new one is later, if only by a second:
                anchors do not go back, and a restart or a small step of the clock must not look like it.
        """
        hints = tuple(authority_hints)
        with self._lock:
            if self._signed is not None:
                signed_at, signed_hints, token = self._signed
                if signed_hints == hints and timedelta(0) <= now - signed_at < self._lifetime / 2:
                    return token
            claims = configuration_claims(
                entity_id=self.entity_id,
                federation_key=self.signer.public,
                metadata=self._metadata,
                authority_hints=hints,
                lifetime=self._lifetime,
                now=_after(last, now),
            )
            token = sign_compact(STATEMENT_TYPE, claims, self.signer)
            self._signed = (now, hints, token)
            return token

    def historical_keys(self, now: datetime) -> str:
        """Sign the set of keys this entity used in the past (OpenID Federation 1.0 section 8.7): none so far."""
        claims = {"iss": self.entity_id, "iat": int(now.timestamp()), "keys": []}
        return sign_compact(HISTORICAL_KEYS_TYPE, claims, self.signer)


def _after(last: datetime | None, now: datetime) -> datetime:
    # Beyond the skew that others tolerate there is nothing to win: the last one came from a clock that was wrong.
    if last is None or last + timedelta(seconds=1) > now + PROFILE.clock_skew:
        return now
    return max(now, last + timedelta(seconds=1))
