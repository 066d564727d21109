"""An in-memory federation: four provinces with their real issuers, anchors, resolvers, ledgers and verifiers.

Everything is the production code; only the network is replaced, by peers that call each other's resolvers directly, and
the clock, which the test sets. A peer can be taken down, and can be made to hand out something else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, Self

from gateway.anchor import Anchor
from gateway.clock import World, system_world
from gateway.config import RelyingService, Retention
from gateway.core import key_schedule
from gateway.core.charter import GATEWAY_TYPE, add_signature, draft, parse_charter, unsigned, verify_pinned
from gateway.core.claims import Authentication
from gateway.core.encoding import b64url_decode, parse_json_object, write_json
from gateway.core.entries import Kind as EntryKind
from gateway.core.entries import Verification, read, read_verification
from gateway.core.identifiers import Province
from gateway.core.jose import Algorithm, Signer, SoftwareKey, generate_key
from gateway.core.key_schedule import Change, KeyPurpose, KeyState
from gateway.core.key_schedule import Records as KeyRecords
from gateway.core.memory import Revocation, RevocationReason
from gateway.core.pairwise import PairwiseKey
from gateway.core.predicates import Predicate
from gateway.core.reasons import NotHeld, Rejected
from gateway.core.references import References
from gateway.core.sd_jwt import Path as ClaimPath
from gateway.core.sd_jwt import present
from gateway.core.vouching import Approval
from gateway.entity import Entity
from gateway.issuer import Issuer, Subject
from gateway.keyring import Author, KeyRing
from gateway.keystore import PAIRWISE_SECRETS, KeyRole, Kind, Protection, SecretName
from gateway.lab.charter import (
    HUKOU_MIGRATION,
    LICENCE_DISPLAY,
    RESIDENT_ID,
    EntityIds,
    charter_claims,
    entity_ids,
)
from gateway.ledger import Ledger
from gateway.member import member_entity
from gateway.peers import Disclosures, Head, PeerError, TrustOffer
from gateway.records import Records
from gateway.resolver import Resolver, load_charter
from gateway.restoration import Restoration
from gateway.status_register import StatusRegister
from gateway.statuses import Statuses
from gateway.storage import EntryQuery
from gateway.storage.sqlite import SqliteStore
from gateway.storage.sqlite_log import SqliteLog
from gateway.storage.sqlite_register import SqliteRegister
from gateway.storage.sqlite_statuses import SqliteStatuses
from gateway.tls import Caller
from gateway.verifier import Answer, Verifier
from gateway.wire import VerifyRequest

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


class MemoryKeyStore:
    """Private keys in memory; they outlive the node that uses them, as those on a disk would."""

    kind: Kind = "file"
    protection: Protection = "none"

    def __init__(self, keys: Mapping[KeyRole, SoftwareKey]) -> None:
        self._keys: dict[KeyRole, dict[str, Signer]] = {role: {key.public.kid: key} for role, key in keys.items()}

    def keys(self, role: KeyRole) -> Mapping[str, Signer]:
        return dict(self._keys.get(role, {}))

    def signer(self, role: KeyRole, kid: str) -> Signer:
        return self._keys[role][kid]

    def sole(self, role: KeyRole) -> Signer:
        (signer,) = self._keys[role].values()
        return signer

    def generate(self, role: KeyRole, algorithm: Algorithm = Algorithm.ES256) -> Signer:
        key = generate_key(algorithm)
        self._keys.setdefault(role, {})[key.public.kid] = key
        return key

    def versions(self, name: SecretName) -> Collection[int]:
        return {1}

    def secret(self, name: SecretName, version: int = 1) -> bytes:
        return f"{name} {version}".encode().ljust(32)

    def close(self) -> None:
        """Nothing is open."""


class MemoryStream:
    """What a neighbour's ``WatchTrust`` gives, without a network."""

    def __init__(self, peer: MemoryPeer) -> None:
        self._peer = peer
        self._node = peer.node()
        self._version = 0
        self._cancelled = threading.Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TrustOffer:
        while not self._cancelled.is_set():
            if self._peer.down or self._peer.deaf or self._peer.node() is not self._node:
                break
            version, _ = self._node.resolver.wait_for_change(self._version, 0.1, self._cancelled.is_set)
            if version > self._version:
                self._version = version
                return self._peer.offer()
        raise PeerError("CANCELLED", reachable=False)

    def cancel(self) -> None:
        self._cancelled.set()
        self._node.resolver.wake()


@dataclass
class MemoryPeer:
    """Another province as one of its neighbours sees it."""

    province: Province
    node: Callable[[], Node]
    asked_by: str = ""
    """The gateway whose neighbour it is."""
    down: bool = False
    deaf: bool = False
    """Streams are cut; single calls go through."""
    frozen: TrustOffer | None = None
    """What it goes on handing out."""
    overrides: dict[tuple[str, str], str] = field(default_factory=dict)
    """Documents handed out instead of the true ones."""
    extra: list[str] = field(default_factory=list)
    """Statements handed out beside the true ones."""
    charters: dict[int, str] = field(default_factory=dict)
    """Charters handed out beside the true ones."""
    heads: list[Head] = field(default_factory=list)
    """Heads of the log shown instead of the true ones."""
    cosigned: list[str] = field(default_factory=list)
    """Cosignatures it was given."""
    asked: int = 0
    promised: dict[str, int] = field(default_factory=dict)
    """Numbers of status lists told instead of the true ones."""
    lists: dict[str, str] = field(default_factory=dict)
    """Status lists handed out instead of the true ones."""
    lists_down: bool = False
    """Only calls for status lists fail."""
    fetched: list[str] = field(default_factory=list)
    """Names of the status lists it was asked for."""
    acknowledged: list[str] = field(default_factory=list)
    """What it was told."""

    @property
    def gateway(self) -> str:
        return entity_ids(self.province).gateway

    def charter(self, version: int) -> str:
        self._reach()
        document = self.charters.get(version) or self.node().resolver.charter_document(version)
        if document is None:
            raise PeerError("NOT_FOUND", reachable=True)
        return document

    def trust(self) -> TrustOffer:
        self._reach()
        return self.offer()

    def status_list(self, uri: str) -> str:
        self._reach()
        self.fetched.append(uri)
        if self.lists_down:
            raise PeerError("DEADLINE_EXCEEDED", reachable=False)
        token = self.lists.get(uri) or self.node().statuses.token(uri)
        if token is None:
            raise PeerError("NOT_FOUND", reachable=True)
        return token

    def watch(self) -> MemoryStream:
        self._reach()
        if self.deaf:
            raise PeerError("UNIMPLEMENTED", reachable=True)
        return MemoryStream(self)

    def head(self, seen_log: str, seen_size: int) -> Head:
        self._reach()
        if self.heads:
            return self.heads[0]
        node = self.node()
        seen = node.records.witness.seen_of(self.asked_by)
        held = node.records.notary.checkpoint()
        if held is None:
            return Head(checkpoint="", witnessed=seen[-1].token if seen else "")
        proof: tuple[bytes, ...] = ()
        if seen_size and seen_log == held.log_id and seen_size <= held.size:
            proof = node.records.notary.consistency(held.log_id, seen_size, held.size)
        return Head(checkpoint=held.token, consistency=proof, witnessed=seen[-1].token if seen else "")

    def cosign(self, token: str) -> None:
        self._reach()
        self.cosigned.append(token)
        self.node().records.notary.take_cosignature(token)

    def evidence(self, verification_id: str) -> str:
        self._reach()
        try:
            return self.node().records.receipts.evidence(verification_id).document.decode()
        except NotHeld as error:
            raise PeerError("NOT_FOUND", reachable=True) from error

    def disclosures(
        self, issuer: str, subjects: Sequence[str], since: datetime | None, until: datetime | None
    ) -> Disclosures:
        self._reach()
        caller = Caller(identity=self.asked_by, certificate_sha256="A" * 43)
        return self.node().records.disclosures.of_subjects(caller, issuer, subjects, since, until)

    def acknowledge(self, token: str) -> None:
        self._reach()
        self.acknowledged.append(token)
        try:
            self.node().resolver.take_acknowledgement(token)
        except Rejected as rejection:
            raise PeerError("INVALID_ARGUMENT", reachable=True) from rejection

    def freeze(self) -> None:
        """Go on handing out what is held now."""
        self.frozen = self.node().resolver.state()

    def offer(self) -> TrustOffer:
        offer = self.frozen or self.node().resolver.state()
        truth = [token for token in offer.statements if place(token) not in self.overrides]
        return replace(
            offer,
            charter_version=max((offer.charter_version, *self.charters)),
            statements=(*truth, *self.overrides.values(), *self.extra),
            status_lists={**offer.status_lists, **self.promised},
        )

    def _reach(self) -> None:
        self.asked += 1
        if self.down:
            raise PeerError("UNAVAILABLE", reachable=False)


@lru_cache(maxsize=1024)  # of all that is handed out, at each call
def place(token: str) -> tuple[str, str]:
    """Who says it, about whom."""
    claims = payload(token)
    return claims["iss"], claims["sub"]


def payload(token: str) -> dict[str, Any]:
    """What a compact JWS says, unverified."""
    return parse_json_object(b64url_decode(token.split(".")[1]))


@dataclass
class Node:
    """One province, in this process."""

    province: Province
    ids: EntityIds
    keys: Mapping[KeyRole, SoftwareKey]
    """Those it began with."""
    ring: KeyRing
    store: SqliteStore
    status_store: SqliteStatuses
    register_store: SqliteRegister
    register: StatusRegister
    issuer: Issuer
    gateway: Entity
    anchor: Anchor
    resolver: Resolver
    ledger: Ledger
    log: SqliteLog
    records: Records
    verifier: Verifier
    peers: Mapping[Province, MemoryPeer]
    service: RelyingService

    @property
    def caller(self) -> Caller:
        return Caller(identity=self.service.identity, certificate_sha256="A" * 43)

    def decisions(self) -> list[Verification]:
        """What is on record of decisions, oldest first."""
        stored = self.log.list_entries(EntryQuery(kinds=(EntryKind.VERIFICATION.value,)), 10_000)
        return [read_verification(read(each.raw)) for each in stored]

    @property
    def statuses(self) -> Statuses:
        return self.resolver.statuses

    def close(self) -> None:
        self.resolver.stop()
        self.ledger.close()
        self.log.close()
        self.register_store.close()
        self.status_store.close()
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


ROLES: tuple[KeyRole, ...] = (
    "anchor-federation",
    "issuer-federation",
    "issuer-credential",
    "issuer-status",
    "gateway-federation",
    "gateway-receipt",
    "gateway-audit",
)


@dataclass(frozen=True)
class Founding:
    """What people bring to a federation: keys, and the charter that they signed."""

    keys: Mapping[Province, Mapping[KeyRole, SoftwareKey]]
    claims: Mapping[str, Any]
    document: str


def found(charter: Callable[[dict[str, Any]], None] = lambda _claims: None) -> Founding:
    """Make keys, and have a charter signed with them."""
    keys: dict[Province, dict[KeyRole, SoftwareKey]] = {
        province: {role: generate_key() for role in ROLES} for province in Province
    }
    claims = charter_claims({province: each["anchor-federation"].public for province, each in keys.items()}, START)
    for matter in claims["agreement"]["matters"]:
        # How old a status may be is looked at where it is what is tested; clocks run by hours everywhere.
        matter["max_status_age_seconds"] = 6 * 3600
    charter(claims)
    document = unsigned(draft(claims))
    for province in Province:
        document = add_signature(document, keys[province]["anchor-federation"])
    return Founding(keys, claims, document)


@cache
def usual_founding() -> Founding:
    """Give the one that is made once for all tests that ask nothing else of it."""
    return found()


class Federation:
    """Four provinces under one charter."""

    def __init__(
        self,
        directory: Path,
        *,
        founding: Founding | None = None,
        approve: Approval = Approval.AUTO,
        is_restart: bool = False,
    ) -> None:
        """Start four provinces.

        Args:
            directory: where their files are.
            founding: keys and charter; by default the usual ones.
            approve: who approves new keys.
            is_restart: whether they start from files of provinces that had settled. Then all of them hold what they
                held, and nobody has asked anybody, or signed anything, since the start.
        """
        self.approve = approve
        self.retention = Retention()
        self.clock = Clock()
        self.world = World(now=lambda: self.clock.now, random_bytes=system_world().random_bytes)
        self.directory = directory
        founding = founding or usual_founding()
        self.keys: dict[Province, dict[KeyRole, SoftwareKey]] = {
            province: dict(keys) for province, keys in founding.keys.items()
        }
        self.key_stores = {province: MemoryKeyStore(keys) for province, keys in self.keys.items()}
        self.claims = deepcopy(dict(founding.claims))
        self.document = founding.document
        self.charter = verify_pinned(self.document, parse_charter(self.document).unverified.sha256)
        self.matters = frozenset({HUKOU_MIGRATION, LICENCE_DISPLAY})
        """What the counter of a province may ask about from its next start on."""
        self.pairwise: dict[tuple[Province, SecretName], PairwiseKey] = {
            (province, name): PairwiseKey(version=1, key=name.encode().ljust(32))
            for province in Province
            for name in PAIRWISE_SECRETS
        }
        """What a province's pseudonyms are made with from its next start on."""
        self.nodes = {province: self.build(province) for province in Province}
        if not is_restart:
            self.settle()

    def __getitem__(self, province: Province) -> Node:
        return self.nodes[province]

    def build(self, province: Province) -> Node:
        """Make a province's node; again, over the same file, for a restart."""
        ids, keys = entity_ids(province), self.keys[province]
        store = SqliteStore(self.directory / f"{province.code}.sqlite")
        status_store = SqliteStatuses(self.directory / f"{province.code}.sqlite", store)
        peers = {
            other: MemoryPeer(
                province=other,
                node=lambda other=other: self.nodes[other],  # type: ignore[misc]
                asked_by=ids.gateway,
            )
            for other in Province
            if other is not province
        }
        ring = KeyRing(store, self.key_stores[province], self.world)
        resolver: Resolver
        register: StatusRegister
        issuer = Issuer(
            entity_id=ids.issuer,
            keys=ring,
            pairwise_key=self.pairwise[province, "pairwise-issuer"],
            world=self.world,
            agreement=lambda: resolver.view.charter.agreement,
            credential_types=sorted(
                {name for matter in self.charter.agreement.matters.values() for name in matter.credential_types}
            ),
            register=lambda: register,
        )
        anchor = Anchor(
            entity_id=ids.anchor,
            signer=lambda: ring.signer(KeyPurpose.ANCHOR_FEDERATION),
            federation_keys=lambda: ring.published(KeyPurpose.ANCHOR_FEDERATION),
            store=store,
            enrolled={
                entity: self.keys[each][role].public.thumbprint
                for each in Province
                for entity, role in self.members(each)
            },
            approve=self.approve,
        )
        gateway = member_entity(
            entity_id=ids.gateway,
            entity_type=GATEWAY_TYPE,
            federation=KeyPurpose.GATEWAY_FEDERATION,
            keys=ring,
        )
        resolver = Resolver(
            world=self.world,
            store=store,
            charter=load_charter(store, self.document, self.charter.sha256, self.clock.now),
            peers=list(peers.values()),
            own_entities=[issuer.entity, gateway],
            gateway=gateway,
            anchor=anchor,
            status_store=status_store,
            on_own_revocations=lambda known: _take_revocations(ring, ids, known),
        )
        ring.on_change(resolver.publish_own)
        register_store = SqliteRegister(self.directory / f"{province.code}.sqlite", store)
        register = StatusRegister(
            issuer=ids.issuer,
            store=register_store,
            statuses=resolver.statuses,
            keys=ring,
            world=self.world,
            reference_key=b"a" * 32,
            registered=lambda: resolver.view.issuers[ids.issuer].status_lists,
            may_sign=lambda: resolver.is_ready and restoration.is_whole and not resolver.is_clock_regressed,
            restored=store.is_restored,
        )
        restoration = Restoration(store, resolver, list(peers), now=self.world.now, recover=register.recover)
        log = SqliteLog(self.directory / f"{province.code}.sqlite")
        ledger = Ledger(log, self.world, lambda: resolver.view.clock_floor)
        service = RelyingService(
            identity=f"{ids.gateway}/services/counter",
            name="counter",
            sector="household",
            matters=self.matters,
        )
        references = References(b"r" * 32)
        records = Records(
            province=province.code,
            gateway=ids.gateway,
            issuer=ids.issuer,
            log=log,
            keys=ring,
            resolver=resolver,
            is_whole=lambda: restoration.is_whole,
            pinned=self.charter,
            peers=list(peers.values()),
            services={service.identity: service},
            references=references,
            subjects=issuer.subjects,
            retention=self.retention,
            world=self.world,
        )
        verifier = Verifier(
            gateway_id=ids.gateway,
            services={service.identity: service},
            resolver=resolver,
            is_whole=lambda: restoration.is_whole,
            lists=lambda: resolver.statuses.current,
            consents=store,
            ledger=ledger,
            receipts=records.receipts,
            world=self.world,
            nonce_key=b"n" * 32,
            references=references,
            pairwise_key=self.pairwise[province, "pairwise"],
        )
        return Node(
            province=province,
            ids=ids,
            keys=keys,
            ring=ring,
            store=store,
            status_store=status_store,
            register_store=register_store,
            register=register,
            issuer=issuer,
            gateway=gateway,
            anchor=anchor,
            resolver=resolver,
            ledger=ledger,
            log=log,
            records=records,
            verifier=verifier,
            peers=peers,
            service=service,
        )

    @staticmethod
    def members(province: Province) -> Sequence[tuple[str, KeyRole]]:
        """A province's members, each with the role of the key that people enrolled."""
        ids = entity_ids(province)
        return [(ids.issuer, "issuer-federation"), (ids.gateway, "gateway-federation")]

    def publish(self, *provinces: Province) -> None:
        """Let every province, or some, publish what is its own: before that, nobody who was started signs anything."""
        for province in provinces or Province:
            self.nodes[province].resolver.publish_own()

    def settle(self, *provinces: Province) -> None:
        """Let every province, or some, publish and refresh until everyone has heard everyone."""
        nodes = [self.nodes[province] for province in provinces or Province]
        self.publish(*provinces)
        for _round in range(2):
            for node in nodes:
                node.resolver.refresh()
            for node in nodes:
                node.register.tick()
        # Lists are signed once they are attested, and go round like everything else.
        if any(node.statuses.heads != nodes[0].statuses.heads for node in nodes):
            for node in nodes:
                node.resolver.refresh()

    def witness(self) -> None:
        """Let every province sign the head of its log, and cosign what the others show it."""
        for node in self.nodes.values():
            node.records.notary.tick()
        for node in self.nodes.values():
            for peer in node.peers.values():
                node.records.witness.look(peer)

    def restart(self, province: Province) -> Node:
        """Stop a province and start it again from its file."""
        self.nodes[province].close()
        self.nodes[province] = self.build(province)
        return self.nodes[province]

    def silence(self, province: Province, others: Sequence[Province] = tuple(Province)) -> list[MemoryPeer]:
        """Cut a province off from hearing others, or some of them."""
        peers = [peer for each, peer in self[province].peers.items() if each in others]
        for peer in peers:
            peer.down = True
        return peers

    # -- keys ----------------------------------------------------------------------------------------------------------

    def new_key(self, province: Province, purpose: KeyPurpose = KeyPurpose.CREDENTIAL) -> str:
        """Stage and publish another key of a province; gives its kid."""
        ring = self[province].ring
        (staged,) = ring.stage(purpose, Author())
        kid = staged.key.kid
        ring.change(purpose, lambda records, now: key_schedule.publish(records, kid, now), Author())
        return kid

    def activate(self, province: Province, kid: str, purpose: KeyPurpose = KeyPurpose.CREDENTIAL) -> None:
        """Let a published key sign, whether others hold it or not."""
        ring = self[province].ring
        ring.change(purpose, lambda records, now: key_schedule.activate(records, kid, now), Author())

    def revoke(
        self,
        province: Province,
        kid: str,
        reason: RevocationReason = RevocationReason.COMPROMISED,
        purpose: KeyPurpose = KeyPurpose.CREDENTIAL,
    ) -> None:
        """Revoke a key of a province, and let it say so."""
        revocation = Revocation(revoked_at=self.clock.now, reason=reason)
        ring = self[province].ring
        ring.change(purpose, lambda records, now: key_schedule.revoke(records, kid, revocation, now), Author())

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
        subject: Subject | None = None,
        credential_type: str = RESIDENT_ID,
    ) -> Wallet:
        key = generate_key()
        issued = self.nodes[province].issuer.issue_credential(
            subject or Subject(local_subject="person-1", claims=claims),
            credential_type=credential_type,
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
        subject: Subject | None = None,
    ) -> str:
        return (
            self.nodes[province]
            .issuer.issue_assertion(
                subject or Subject(local_subject="person-1", claims=claims),
                audience=audience,
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

    def verify(
        self,
        presentation: str,
        nonce: str = "",
        at: Province = AH,
        matter: str = HUKOU_MIGRATION,
        *,
        consent_id: str = "",
        predicates: Sequence[Predicate] = (),
    ) -> Answer:
        node = self.nodes[at]
        return node.verifier.verify(
            node.caller,
            VerifyRequest(
                matter=matter,
                presentation=presentation,
                nonce=nonce,
                consent_id=consent_id,
                predicates=tuple(predicates),
            ),
        )


_PURPOSES = {
    KeyPurpose.CREDENTIAL: "issuer",
    KeyPurpose.STATUS: "issuer",
    KeyPurpose.ISSUER_FEDERATION: "issuer",
    KeyPurpose.GATEWAY_FEDERATION: "gateway",
    KeyPurpose.RECEIPT: "gateway",
    KeyPurpose.AUDIT: "gateway",
}


def _take_revocations(ring: KeyRing, ids: EntityIds, known: Mapping[tuple[str, str], Revocation]) -> None:
    """Revoke the keys that others know as revoked, as ``Rotation`` does."""
    for purpose, role in _PURPOSES.items():
        for record in ring.records(purpose):
            kid = record.key.kid
            revocation = known.get((getattr(ids, role), kid))
            if revocation is not None and record.state is not KeyState.REVOKED:
                ring.change(purpose, partial(_revoke, kid, revocation), Author())


def _revoke(kid: str, revocation: Revocation, records: KeyRecords, now: datetime) -> Change:
    return key_schedule.revoke(records, kid, revocation, now)
