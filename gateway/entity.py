"""One entity of the federation that this process plays: it signs and re-signs what it says about itself.

Rules that live here:

* Whatever is newly signed bears a higher sequence number than anything of ours that anybody is known to hold. So a
  backup that was put back goes on above its old head, as soon as a peer has shown it that head.
* What an entity says is asked for each time, never kept: a key that changed state is in the next statement.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.core.events import EVENTS_TYPE, MAX_EVENTS, events_claims
from gateway.core.history import HISTORY_TYPE, history_claims
from gateway.core.jose import PublicKey, Signer, sign_compact
from gateway.core.key_schedule import KeyRecord
from gateway.core.memory import Revocation
from gateway.core.publication import configuration_claims, next_seq
from gateway.core.snapshot import is_within_reach
from gateway.core.statements import TYP as STATEMENT_TYPE

HISTORY_AGE: Final = timedelta(hours=1)
"""How long a set of past keys is handed on; it bears the time up to which it is complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """What was signed last, and what it says apart from its times and its number."""

    at: datetime
    seq: int
    said: object
    token: str


class Entity:
    """An entity identifier, its keys, and what it publishes. Thread-safe."""

    def __init__(
        self,
        *,
        entity_id: str,
        signer: Callable[[], Signer],
        federation_keys: Callable[[], Sequence[PublicKey]],
        metadata: Callable[[], Mapping[str, Any]],
        lifetime: timedelta,
        extra: Callable[[], Mapping[str, Any]] = dict,
        revocations: Callable[[], Mapping[str, Revocation]] = dict,
        history: Callable[[], Sequence[KeyRecord]] = tuple,
    ) -> None:
        """Prepare an entity. Everything that may change is given as a function, called at each look.

        Args:
            entity_id: its entity identifier.
            signer: the federation key that signs now.
            federation_keys: all that others are to know, the signing one among them.
            metadata: by entity type, what it says of itself. It must compare equal while nothing changed, so proofs of
                possession have to be kept and not made anew: a difference is signed and sent to everybody.
            lifetime: how long a configuration lives; it is signed anew at half of that.
            extra: claims of ours beside those of the specification.
            revocations: of its keys, by kid; all there ever were.
            history: its past keys.
        """
        self.entity_id = entity_id
        self._signer = signer
        self._federation_keys = federation_keys
        self._metadata = metadata
        self._lifetime = lifetime
        self._extra = extra
        self._revocations = revocations
        self._history = history
        self._lock = threading.Lock()
        self._configuration: _Signed | None = None
        self._events: _Signed | None = None
        self._historical: tuple[datetime, object, str] | None = None

    def configuration(self, hints: Sequence[str], now: datetime, last_seq: int) -> str:
        """Give the current configuration, signing a new one when it is past half its life or says something else.

        Args:
            hints: the superiors to name; none for an anchor.
            now: the time.
            last_seq: the highest sequence number known of any configuration of ours; 0: there was none.
        """
        with self._lock:
            signer, keys = self._signer(), tuple(self._federation_keys())
            metadata, extra = dict(self._metadata()), dict(self._extra())
            said = (signer.public.kid, [key.kid for key in keys], metadata, tuple(hints), extra)
            last = _in_reach(self._configuration, now)
            is_young = last is not None and timedelta(0) <= now - last.at < self._lifetime / 2
            if last is not None and is_young and last.said == said and last.seq >= last_seq:
                return last.token
            seq = next_seq(_highest(last, last_seq), now)
            claims = configuration_claims(
                entity_id=self.entity_id,
                federation_keys=keys,
                metadata=metadata,
                authority_hints=hints,
                lifetime=self._lifetime,
                now=now,
                seq=seq,
                extra=extra,
            )
            token = sign_compact(STATEMENT_TYPE, claims, signer)
            self._configuration = _Signed(at=now, seq=seq, said=said, token=token)
            return token

    def events(self, known: Mapping[str, Revocation], now: datetime, last_seq: int) -> str | None:
        """Give the statement of all revocations, signed anew when there is one more or another key signs.

        Args:
            known: revocations of ours that others hold. What was said once is said for ever, also by a backup that does
                not remember it.
            now: the time.
            last_seq: the highest sequence number known of any such statement of ours; 0: there was none.

        Returns:
            The statement; None when nothing was ever revoked.
        """
        with self._lock:
            revocations = _bounded(self._revocations(), known)
            if not revocations:
                return None
            signer = self._signer()
            said = (signer.public.kid, revocations)
            last = _in_reach(self._events, now)
            if last is not None and last.said == said and last.seq >= last_seq:
                return last.token
            seq = next_seq(_highest(last, last_seq), now)
            claims = events_claims(entity_id=self.entity_id, revocations=revocations, seq=seq, now=now)
            token = sign_compact(EVENTS_TYPE, claims, signer)
            self._events = _Signed(at=now, seq=seq, said=said, token=token)
            return token

    def historical_keys(self, now: datetime) -> str:
        """Give the set of keys this entity used in the past (OpenID Federation 1.0 section 8.7).

        Signed anew when they have changed, and from time to time: anybody may ask, as often as they like.
        """
        with self._lock:
            signer, records = self._signer(), tuple(self._history())
            said, last = (signer.public.kid, records), self._historical
            if last is not None and last[1] == said and timedelta(0) <= now - last[0] < HISTORY_AGE:
                return last[2]
            token = sign_compact(HISTORY_TYPE, history_claims(self.entity_id, records, now), signer)
            self._historical = (now, said, token)
            return token

    def sign(self, typ: str, claims: Mapping[str, Any]) -> str:
        """Sign something else in the entity's name."""
        return sign_compact(typ, claims, self._signer())


def _in_reach(last: _Signed | None, now: datetime) -> _Signed | None:
    # Signed while the clock ran far ahead, it was taken by nobody, and what goes on from it would not be either.
    return last if last is not None and is_within_reach(last.seq, now) else None


def _highest(last: _Signed | None, last_seq: int) -> int:
    return max(last_seq, last.seq if last is not None else 0)


def _bounded(own: Mapping[str, Revocation], known: Mapping[str, Revocation]) -> dict[str, Revocation]:
    """Put both together. A thief may have revoked any number of made-up keys: they are not to crowd out ours."""
    revocations = dict(own)
    for kid, revocation in sorted(known.items(), key=lambda each: (each[1].revoked_at, each[0])):
        if len(revocations) >= MAX_EVENTS:
            break
        revocations.setdefault(kid, revocation)
    return revocations
