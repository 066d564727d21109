"""Who holds which of our keys: gateways by their acknowledgements, anchors by their statements.

This is where a rotation learns whether a key may sign. What a gateway holds, only its own signed word says; that it was
sent the key proves nothing. What an anchor attests is in its statements, which are here. Our own gateway is asked like
any other: a province that cannot verify its own credentials has published nothing yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from gateway.anchor import CONFIGURATION_LIFETIME as ANCHOR_CONFIGURATION_LIFETIME
from gateway.core.acknowledgement import Acknowledgement
from gateway.core.charter import GATEWAY_TYPE, Charter
from gateway.core.key_schedule import Holder, KeyPurpose, KeyRecord, Readiness, Said, Timing
from gateway.core.memory import Revocation
from gateway.core.publication import listed_keys
from gateway.core.statements import PROFILE, parse_statement
from gateway.core.trust import TrustView
from gateway.core.vouching import SUBORDINATE_LIFETIME
from gateway.keyring import STATEMENT_LIFETIME
from gateway.resolver import Resolver

FEDERATION_PURPOSES: Final = frozenset({KeyPurpose.ISSUER_FEDERATION, KeyPurpose.GATEWAY_FEDERATION})
"""Keys that anchors attest for a member, and that sign what the anchors then judge."""


class Holdings:
    """Who holds which key. Thread-safe: it keeps nothing."""

    def __init__(self, resolver: Resolver, gateway: str, entities: Mapping[KeyPurpose, str]) -> None:
        """Prepare to look.

        Args:
            resolver: knows the trust view and what the other gateways acknowledged.
            gateway: our own gateway.
            entities: our entity that a key of each purpose speaks for; purposes not played are absent.
        """
        self._resolver = resolver
        self._gateway = gateway
        self._entities = entities

    @property
    def charter(self) -> Charter:
        """The charter in force."""
        return self._resolver.view.charter

    def timing(self, purpose: KeyPurpose) -> Timing:
        """Say how long things take for keys of a purpose."""
        skew = max(PROFILE.clock_skew, self.charter.agreement.clock_skew)
        if purpose in FEDERATION_PURPOSES:
            return Timing(window=SUBORDINATE_LIFETIME + skew, linger=SUBORDINATE_LIFETIME, skew=skew)
        linger = timedelta(0)
        if purpose is KeyPurpose.ANCHOR_FEDERATION:
            linger = ANCHOR_CONFIGURATION_LIFETIME + SUBORDINATE_LIFETIME
        elif purpose in (KeyPurpose.RECEIPT, KeyPurpose.AUDIT):
            # What it signed last may be old, and be handed out until something newer is signed.
            linger = STATEMENT_LIFETIME
        # An anchor's configuration bounds how long a frozen view passes for a fresh one; clocks differ at both ends.
        return Timing(window=ANCHOR_CONFIGURATION_LIFETIME + 2 * skew, linger=linger, skew=skew)

    def readiness(self, record: KeyRecord, since: datetime | None, now: datetime) -> Readiness:
        """Say who holds a key, and who has to before it signs."""
        gateways = (self._ourselves(record, now), *self.gateways(record))
        if record.purpose in FEDERATION_PURPOSES:
            return Readiness(holders=self.anchors(record), since=since, witnesses=gateways)
        return Readiness(holders=gateways, since=since)

    def gateways(self, record: KeyRecord | None) -> tuple[Holder, ...]:
        """Give every other gateway of the charter; without a key only what it acknowledged, and when."""
        words = self._resolver.acknowledgements()
        return tuple(
            self._gateway_holder(member.entity_id, member.province.code, words.get(member.entity_id), record)
            for member in self.charter.members
            if GATEWAY_TYPE in member.entity_types and member.entity_id != self._gateway
        )

    def anchors(self, record: KeyRecord) -> tuple[Holder, ...]:
        """Give every anchor of the charter, for a federation key of a member."""
        view = self._resolver.view
        attesting = view.attesting(self._entities[record.purpose], record.key.thumbprint)
        own, revoked = self._own_province(), record.revoked_at is not None
        return tuple(
            Holder(
                entity_id=anchor.entity_id,
                province=anchor.province.code,
                reachable=anchor.province.code == own or self._resolver.reachable(anchor.province.code),
                holds=anchor.entity_id in attesting,
                # Its statement is all that an anchor says. One without the key will never have it again.
                refuses=revoked and anchor.entity_id not in attesting,
                charter_version=view.charter.version,
                is_anchor=True,
            )
            for anchor in view.charter.anchors
        )

    def is_attested(self, record: KeyRecord) -> bool:
        """Whether a quorum of anchors attests a key; for an anchor's key, whether the charter in force lists it."""
        return _in_view(self._resolver.view, record, self._entities[record.purpose])

    def revocations(self) -> Mapping[tuple[str, str], Revocation]:
        """Give every revocation that the federation knows, by (entity, kid)."""
        return self._resolver.revocations()

    def said(self, purpose: KeyPurpose) -> Said | None:
        """Give what our own statement, as it is held, says of the keys of a purpose; None: there is none."""
        entity_id = self._entities[purpose]
        token = self._resolver.document(entity_id, entity_id)
        if token is None or purpose is KeyPurpose.ANCHOR_FEDERATION:
            return None  # of an anchor's keys the charter speaks
        statement, forgotten = parse_statement(token, PROFILE), self._resolver.has_forgotten(entity_id)
        if purpose in FEDERATION_PURPOSES:
            kids = frozenset(statement.jwks)
            return Said(at=statement.issued_at, kids=kids, signer=statement.kid, forgotten=forgotten)
        kids = frozenset(listed_keys(statement.metadata, purpose))
        return Said(at=statement.issued_at, kids=kids, signer="", forgotten=forgotten)

    def signed_at_most_until(self, purpose: KeyPurpose, now: datetime) -> datetime:
        """Say until when something that a key signed just now may be good."""
        if purpose in (KeyPurpose.CREDENTIAL, KeyPurpose.STATUS):
            return now + self.charter.agreement.max_credential_lifetime
        return now + STATEMENT_LIFETIME

    def _own_province(self) -> str:
        member = self.charter.member(self._gateway)
        return member.province.code if member is not None else ""

    def _ourselves(self, record: KeyRecord, now: datetime) -> Holder:
        view = self._resolver.view
        return Holder(
            entity_id=self._gateway,
            province=self._own_province(),
            reachable=True,
            holds=self.is_attested(record),
            acknowledged_at=now,
            charter_version=view.charter.version,
            clock_offset=timedelta(0),
        )

    def _gateway_holder(
        self,
        entity_id: str,
        province: str,
        word: tuple[Acknowledgement, datetime] | None,
        record: KeyRecord | None,
    ) -> Holder:
        reachable = self._resolver.reachable(province)
        if word is None:
            return Holder(entity_id=entity_id, province=province, reachable=reachable, holds=False)
        acknowledgement, received_at = word
        holds = refuses = False
        if record is not None:
            speaks_for, kid = self._entities[record.purpose], record.key.kid
            holds = kid in _held(acknowledgement, record.purpose, speaks_for)
            refuses = kid in acknowledgement.refused.get(speaks_for, ())
        return Holder(
            entity_id=entity_id,
            province=province,
            reachable=reachable,
            holds=holds,
            refuses=refuses,
            acknowledged_at=received_at,
            charter_version=acknowledgement.charter_version,
            clock_offset=acknowledgement.issued_at - received_at,
        )


def _held(acknowledgement: Acknowledgement, purpose: KeyPurpose, entity_id: str) -> frozenset[str]:
    match purpose:
        case KeyPurpose.ANCHOR_FEDERATION:
            return acknowledgement.anchor_keys
        case KeyPurpose.ISSUER_FEDERATION | KeyPurpose.GATEWAY_FEDERATION:
            return acknowledgement.federation_keys.get(entity_id, frozenset())
        case KeyPurpose.CREDENTIAL | KeyPurpose.STATUS | KeyPurpose.RECEIPT | KeyPurpose.AUDIT:
            return acknowledgement.keys.get(entity_id, frozenset())


def _in_view(view: TrustView, record: KeyRecord, entity_id: str) -> bool:
    kid = record.key.kid
    match record.purpose:
        case KeyPurpose.ANCHOR_FEDERATION:
            anchor = view.charter.anchor(entity_id)
            return anchor is not None and kid in anchor.keys
        case KeyPurpose.ISSUER_FEDERATION | KeyPurpose.GATEWAY_FEDERATION:
            return kid in view.federation_keys(entity_id)
        case KeyPurpose.CREDENTIAL:
            issuer = view.issuers.get(entity_id)
            return issuer is not None and kid in issuer.keys
        case KeyPurpose.STATUS:
            issuer = view.issuers.get(entity_id)
            return issuer is not None and kid in issuer.status_keys
        case KeyPurpose.RECEIPT:
            gateway = view.gateways.get(entity_id)
            return gateway is not None and kid in gateway.receipt_keys
        case KeyPurpose.AUDIT:
            gateway = view.gateways.get(entity_id)
            return gateway is not None and kid in gateway.audit_keys
