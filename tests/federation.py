"""An in-memory federation: four provinces with their real issuers, anchors, resolvers, ledgers and verifiers.

Everything is the production code; only the network is replaced, by peers that call each other's resolvers directly, and
the clock, which the test sets. A peer can be taken down, and can be made to hand out something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.anchor import Anchor
from gateway.clock import World, system_world
from gateway.config import RelyingService
from gateway.core.charter import GATEWAY_TYPE, add_signature, draft, parse_charter, unsigned, verify_pinned
from gateway.core.claims import Authentication
from gateway.core.credential import ASSERTION_CREDENTIAL_TYPE
from gateway.core.encoding import write_json
from gateway.core.identifiers import Province
from gateway.core.jose import SoftwareKey, generate_key
from gateway.core.sd_jwt import Path as ClaimPath
from gateway.core.sd_jwt import present
from gateway.entity import Entity
from gateway.issuer import Issuer
from gateway.lab.charter import (
    HUKOU_MIGRATION,
    LICENCE_DISPLAY,
    RESIDENT_ID,
    EntityIds,
    charter_claims,
    entity_ids,
)
from gateway.ledger import Ledger
from gateway.peers import PeerError
from gateway.resolver import Resolver, load_charter
from gateway.storage.sqlite import SqliteStore
from gateway.tls import Caller
from gateway.verifier import Answer, Verifier

START = datetime(2026, 11, 23, 1, 0, 0, tzinfo=UTC)
SH, JS, ZJ, AH = Province
XU_ID_NUMBER = "310101190001010011"  # synthetic: birth year 1900
XU_CLAIMS = {"name": "徐某", "id_type": "resident_id", "id_number": XU_ID_NUMBER, "hukou_region": "310101"}


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = START

    def advance(self, span: timedelta) -> None:
        self.now += span


@dataclass
class MemoryPeer:
    """Another province as its neighbours see it."""

    province: Province
    node: Callable[[], Node]
    down: bool = False
    overrides: dict[tuple[str, str], str] = field(default_factory=dict)
    """Documents handed out instead of the true ones."""
    asked: int = 0

    def charter(self, version: int) -> str:
        self._reach()
        document = self.node().resolver.charter_document(version)
        if document is None:
            raise PeerError("NOT_FOUND", reachable=True)
        return document

    def entity_configuration(self, entity_id: str) -> str:
        return self._document(entity_id, entity_id)

    def subordinate_statement(self, issuer: str, subject: str) -> str:
        return self._document(issuer, subject)

    def _document(self, issuer: str, subject: str) -> str:
        self._reach()
        document = self.overrides.get((issuer, subject)) or self.node().resolver.document(issuer, subject)
        if document is None:
            raise PeerError("NOT_FOUND", reachable=True)
        return document

    def _reach(self) -> None:
        self.asked += 1
        if self.down:
            raise PeerError("UNAVAILABLE", reachable=False)


@dataclass
class Node:
    """One province, in this process."""

    province: Province
    ids: EntityIds
    keys: Mapping[str, SoftwareKey]
    store: SqliteStore
    issuer: Issuer
    anchor: Anchor
    resolver: Resolver
    ledger: Ledger
    verifier: Verifier
    peers: Mapping[Province, MemoryPeer]
    service: RelyingService

    @property
    def caller(self) -> Caller:
        return Caller(identity=self.service.identity, certificate_sha256="A" * 43)

    def close(self) -> None:
        self.resolver.stop()
        self.ledger.close()
        self.store.close()


@dataclass
class Wallet:
    """A holder: its key and one credential."""

    key: SoftwareKey
    credential: str

    def present(
        self,
        *,
        audience: str,
        nonce: str,
        issued_at: datetime,
        select: Callable[[ClaimPath], bool] = lambda _path: True,
        key: SoftwareKey | None = None,
    ) -> str:
        return present(
            self.credential, select, signer=key or self.key, audience=audience, nonce=nonce, issued_at=issued_at
        )


ROLES = ("anchor-federation", "issuer-federation", "issuer-credential", "gateway-federation")


class Federation:
    """Four provinces under one charter."""

    def __init__(self, directory: Path, *, charter: Callable[[dict[str, Any]], None] = lambda _claims: None) -> None:
        self.clock = Clock()
        self.world = World(now=lambda: self.clock.now, random_bytes=system_world().random_bytes)
        self.directory = directory
        self.keys = {province: {role: generate_key() for role in ROLES} for province in Province}
        claims = charter_claims(
            {province: keys["anchor-federation"].public for province, keys in self.keys.items()}, START
        )
        charter(claims)
        document = unsigned(draft(claims))
        for province in Province:
            document = add_signature(document, self.keys[province]["anchor-federation"])
        self.claims = claims
        self.document = document
        self.charter = verify_pinned(document, parse_charter(document).unverified.sha256)
        self.nodes = {province: self.build(province) for province in Province}
        self.settle()

    def __getitem__(self, province: Province) -> Node:
        return self.nodes[province]

    def build(self, province: Province) -> Node:
        """Make a province's node; again, over the same file, for a restart."""
        ids, keys = entity_ids(province), self.keys[province]
        store = SqliteStore(self.directory / f"{province.code}.sqlite")
        peers = {
            other: MemoryPeer(province=other, node=lambda other=other: self.nodes[other])  # type: ignore[misc]
            for other in Province
            if other is not province
        }
        resolver: Resolver
        issuer = Issuer(
            entity_id=ids.issuer,
            federation_signer=keys["issuer-federation"],
            credential_signer=keys["issuer-credential"],
            subject_key=b"s" * 32,
            world=self.world,
            agreement=lambda: resolver.view.charter.agreement,
            credential_types=[RESIDENT_ID, ASSERTION_CREDENTIAL_TYPE],
        )
        anchor = Anchor(
            entity_id=ids.anchor,
            signer=keys["anchor-federation"],
            store=store,
            enrolled={
                entity: self.keys[each][role].public.thumbprint
                for each in Province
                for entity, role in (
                    (entity_ids(each).issuer, "issuer-federation"),
                    (entity_ids(each).gateway, "gateway-federation"),
                )
            },
        )
        gateway = Entity(
            entity_id=ids.gateway,
            signer=keys["gateway-federation"],
            metadata={GATEWAY_TYPE: {}},
            lifetime=timedelta(hours=1),
        )
        resolver = Resolver(
            world=self.world,
            store=store,
            charter=load_charter(store, self.document, self.charter.sha256),
            peers=list(peers.values()),
            own_entities=[issuer.entity, gateway],
            anchor=anchor,
        )
        ledger = Ledger(store, self.world)
        service = RelyingService(
            identity=f"{ids.gateway}/services/counter",
            name="counter",
            sector="household",
            matters=frozenset({HUKOU_MIGRATION, LICENCE_DISPLAY}),
        )
        verifier = Verifier(
            gateway_id=ids.gateway,
            services={service.identity: service},
            resolver=resolver,
            ledger=ledger,
            world=self.world,
            nonce_key=b"n" * 32,
            pairwise_key=b"p" * 32,
        )
        return Node(
            province=province,
            ids=ids,
            keys=keys,
            store=store,
            issuer=issuer,
            anchor=anchor,
            resolver=resolver,
            ledger=ledger,
            verifier=verifier,
            peers=peers,
            service=service,
        )

    def settle(self) -> None:
        """Let every province publish and refresh until everyone has heard everyone."""
        for node in self.nodes.values():
            node.resolver.publish_own()
        for _round in range(2):
            for node in self.nodes.values():
                node.resolver.refresh()

    def restart(self, province: Province) -> Node:
        """Stop a province and start it again from its file."""
        self.nodes[province].close()
        self.nodes[province] = self.build(province)
        return self.nodes[province]

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()

    # -- people --------------------------------------------------------------------------------------------------------

    def issue(
        self,
        province: Province = SH,
        *,
        claims: Mapping[str, Any] = XU_CLAIMS,
        acr: str = "urn:yrd:loa:4",
        lifetime: timedelta | None = None,
    ) -> Wallet:
        key = generate_key()
        issued = self.nodes[province].issuer.issue_credential(
            local_subject="person-1",
            credential_type=RESIDENT_ID,
            claims=claims,
            holder_jwk=write_json(key.public.jwk).decode(),
            authentication=self.authentication(acr),
            lifetime=lifetime,
        )
        return Wallet(key=key, credential=issued.token)

    def assertion(
        self,
        province: Province = SH,
        *,
        audience: str,
        acr: str = "urn:yrd:loa:3",
        claims: Mapping[str, Any] = XU_CLAIMS,
        certificate_sha256: str = "",
    ) -> str:
        return (
            self.nodes[province]
            .issuer.issue_assertion(
                local_subject="person-1",
                audience=audience,
                claims=claims,
                authentication=self.authentication(acr),
                certificate_sha256=certificate_sha256,
                lifetime=None,
            )
            .token
        )

    def authentication(self, acr: str) -> Authentication:
        return Authentication(acr=acr, methods=("face", "hwk"), authenticated_at=self.clock.now, assurance=None)

    def present(self, wallet: Wallet, at: Province = AH, matter: str = HUKOU_MIGRATION) -> tuple[str, str]:
        """Ask for a challenge and answer it; gives (presentation, nonce)."""
        node = self.nodes[at]
        challenge = node.verifier.create_challenge(node.caller, matter)
        presentation = wallet.present(audience=challenge.audience, nonce=challenge.nonce, issued_at=self.clock.now)
        return presentation, challenge.nonce

    def verify(self, presentation: str, nonce: str = "", at: Province = AH, matter: str = HUKOU_MIGRATION) -> Answer:
        node = self.nodes[at]
        return node.verifier.verify(
            node.caller, matter_code=matter, presentation=presentation, nonce=nonce, request_id=""
        )
