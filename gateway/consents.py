"""Consents: recorded when a person signs, withdrawn when they say so.

The record is the relying service's word that the person consented; the signed document stays with it. A consent is
checked when a presentation is judged (``core.consent``) and once more when the decision is written, in one transaction:
none is accepted on the strength of one that was withdrawn before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from gateway.clock import World
from gateway.config import RelyingService
from gateway.core.agreement import Agreement
from gateway.core.consent import MAX_CONSENT_LIFETIME, Consent
from gateway.core.encoding import new_name
from gateway.core.entries import SealedEntry, consent_entry, seal
from gateway.core.predicates import asked_about
from gateway.core.reasons import InvalidRequest, NotHeld, NotPermitted, Unavailable
from gateway.storage import ConsentStore, StorageError
from gateway.tls import Caller


class Consents:
    """Takes consents and withdrawals from relying services. Thread-safe."""

    def __init__(
        self,
        *,
        services: Mapping[str, RelyingService],
        agreement: Callable[[], Agreement],
        store: ConsentStore,
        world: World,
    ) -> None:
        """Prepare.

        Args:
            services: relying services by the identity in their certificate.
            agreement: gives the recognition agreement in force.
            store: where consents are on record.
            world: clock and randomness.
        """
        self._services = services
        self._agreement = agreement
        self._store = store
        self._world = world

    def record(self, caller: Caller, *, matter_code: str, claims: frozenset[str], lifetime: timedelta) -> Consent:
        """Record that a person consented.

        Raises:
            NotPermitted: the caller is not registered for the matter.
            InvalidRequest: the matter does not rest on consent, may not have these claims, or it is to last too long.
            Unavailable: it could not be written.
        """
        service = self._registered(caller)
        matter = self._agreement().matters.get(matter_code)
        if matter is None or matter.code not in service.matters:
            raise NotPermitted("relying service is not registered for this matter")
        if matter.consent is None:
            raise InvalidRequest("matter", "does not rest on consent")
        if not claims <= matter.released_claims | matter.actor_released_claims | asked_about(matter):
            raise InvalidRequest("claims", "names a claim that the matter may not have")
        if not claims >= matter.required_claims | matter.actor_required_claims:
            raise InvalidRequest("claims", "lacks a claim that the matter requires")
        if not timedelta(seconds=1) <= lifetime <= MAX_CONSENT_LIFETIME:
            raise InvalidRequest("lifetime", f"must be 1 second to {MAX_CONSENT_LIFETIME.days} days")
        now = self._world.now()
        consent = Consent(
            consent_id=new_name(self._world.random_bytes(16)),
            service=service.identity,
            matter=matter.code,
            claims=claims,
            recorded_at=now,
            expires_at=now + lifetime,
        )
        try:
            self._store.save_consent(consent, [_entry(consent, "recorded", now)])
        except StorageError as error:
            raise Unavailable("the consent could not be recorded") from error
        return consent

    def withdraw(self, caller: Caller, consent_id: str) -> datetime:
        """Note that the person withdrew it; gives since when.

        Raises:
            NotPermitted: the caller is no relying service.
            NotHeld: it recorded no such consent.
            Unavailable: it could not be written; nothing is withdrawn yet.
        """
        service, now = self._registered(caller), self._world.now()
        try:
            consent = self._store.load_consent(consent_id)
            log = [] if consent is None else [_entry(consent, "withdrawn", now)]
            since = self._store.withdraw_consent(consent_id, service.identity, now, log)
        except StorageError as error:
            raise Unavailable("the withdrawal could not be recorded") from error
        if since is None:
            raise NotHeld("no consent of this service under that reference")
        return since

    def _registered(self, caller: Caller) -> RelyingService:
        service = self._services.get(caller.identity)
        if service is None:
            raise NotPermitted("caller is not a registered relying service")
        return service


def _entry(consent: Consent, event: str, now: datetime) -> SealedEntry:
    return seal(
        consent_entry(
            at=now, consent_id=consent.consent_id, service=consent.service, matter=consent.matter, event=event
        )
    )
