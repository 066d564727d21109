"""The trust anchor: vouches for members whose configuration is signed by a key it has attested.

What may be said is decided in ``core.publication``; this module signs it, remembers what was attested, and signs anew
before a statement lapses.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from gateway.core.charter import Charter
from gateway.core.jose import Signer, sign_compact
from gateway.core.publication import SUBORDINATE_LIFETIME, Attested, vouch
from gateway.core.reasons import Reason, Rejected
from gateway.core.statements import PROFILE, parse_statement
from gateway.core.statements import TYP as STATEMENT_TYPE
from gateway.entity import Entity
from gateway.logs import get_logger
from gateway.storage import AttestationStore

CONFIGURATION_LIFETIME: Final = timedelta(minutes=10)
"""An anchor's configuration lives briefly: it bounds how long a frozen view can pass for a fresh one."""

_log = get_logger("anchor")


class Anchor:
    """One province's trust anchor. Thread-safe."""

    def __init__(self, *, entity_id: str, signer: Signer, store: AttestationStore, enrolled: Mapping[str, str]) -> None:
        """Prepare the anchor.

        Args:
            entity_id: its entity identifier.
            signer: its key, the one the charter lists.
            store: where it remembers what it attested.
            enrolled: first federation key (thumbprint) of each member, compared by people out of band.
        """
        self.entity = Entity(
            entity_id=entity_id,
            signer=signer,
            metadata={"federation_entity": {}},
            lifetime=CONFIGURATION_LIFETIME,
        )
        self._store = store
        self._lock = threading.Lock()
        self._attested = {
            member: Attested(federation_keys=frozenset({thumbprint}), credential_keys=frozenset())
            for member, thumbprint in enrolled.items()
        }
        self._attested.update(store.load_attested())
        self._statements: dict[str, tuple[datetime, str]] = {}

    def vouch(self, charter: Charter, configurations: Mapping[str, str], now: datetime) -> Mapping[str, str]:
        """Judge configurations on offer, by the member asked about; give the statements newly made, by member."""
        made: dict[str, str] = {}
        for member, configuration in configurations.items():
            try:
                statement = self._vouch_one(charter, member, configuration, now)
            except Rejected as rejection:
                _log.warning("vouching_refused", reason=rejection.reason, detail=rejection.detail)
                continue
            if statement is not None:
                made[member] = statement
        return made

    def _vouch_one(self, charter: Charter, member: str, configuration: str, now: datetime) -> str | None:
        if parse_statement(configuration, PROFILE).sub != member:
            raise Rejected(Reason.STATEMENT_INVALID, "not the configuration that was asked for")
        with self._lock:
            attested = self._attested.get(member)
            if attested is None:
                raise Rejected(Reason.ISSUER_UNKNOWN, "no key of the member was enrolled at this anchor")
            vouching = vouch(
                anchor_id=self.entity.entity_id,
                charter=charter,
                configuration=configuration,
                attested=attested,
                taken_keys=self._taken_keys(charter, member),
                now=now,
            )
            last = self._statements.get(member)
            if last is not None and _same_keys(vouching.attested, attested) and _is_young(last[0], now):
                return None
            statement = sign_compact(STATEMENT_TYPE, vouching.claims, self.entity.signer)
            # Durable before it is served: after a crash the anchor must not know less than it has told others.
            place = (self.entity.entity_id, member)
            self._store.save_vouching(member, vouching.attested, place, statement)
            self._attested[member] = vouching.attested
            self._statements[member] = (now, statement)
            return statement

    def _taken_keys(self, charter: Charter, member: str) -> frozenset[str]:
        taken = {key.thumbprint for anchor in charter.anchors for key in anchor.keys.values()}
        for other, attested in self._attested.items():
            if other != member and charter.member(other) is not None:
                taken |= attested.credential_keys  # proven; anybody can list anybody's federation key
        return frozenset(taken)


def _same_keys(one: Attested, other: Attested) -> bool:
    return (one.federation_keys, one.credential_keys) == (other.federation_keys, other.credential_keys)


def _is_young(signed_at: datetime, now: datetime) -> bool:
    return timedelta(0) <= now - signed_at < SUBORDINATE_LIFETIME / 2
