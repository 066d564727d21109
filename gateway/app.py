"""One province's process, put together from its configuration.

The only place that knows all parts. Order matters: everything that can be wrong with the configuration is found before
a port is opened, and the ledger is closed last, because running calls still write to it while they end.

Of several processes on one database, one leads (``leading``). The others verify and relay: what runs by itself there is
looking at peers and at what the leader has written, and nothing else. Health says of a follower that only verification
is served, so that whoever spreads calls sends the rest to the leader.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.anchor import Anchor
from gateway.certificates import CertificateFiles, UnfitFileError, expiries, problems
from gateway.clock import World
from gateway.config import MAX_MAPPING_DAYS, Config, ConfigError, Listeners, PairwiseOptions, PostgresUrl, Role
from gateway.consents import Consents
from gateway.core.acknowledgement import MAX_CHARS as MAX_ACKNOWLEDGEMENT_CHARS
from gateway.core.agreement import Agreement
from gateway.core.charter import GATEWAY_TYPE, Charter, parse_charter
from gateway.core.encoding import sha256_b64url
from gateway.core.key_schedule import KeyPurpose
from gateway.core.memory import Revocation
from gateway.core.pairwise import PairwiseKey
from gateway.core.reasons import Rejected
from gateway.core.references import References
from gateway.core.status_list import StatusList
from gateway.core.trust import TrustView
from gateway.entity import Entity
from gateway.explainer import Explainer
from gateway.guard import CALLS_PER_DOMAIN, STREAMS_PER_DOMAIN
from gateway.holdings import Holdings
from gateway.issuer import Issuer
from gateway.keyring import ADDED_LATER, KeyRing
from gateway.keystore import KeyStore, KeyStoreError, SecretName
from gateway.keystore.opening import open_key_store
from gateway.leading import ALONE, Leading
from gateway.ledger import Ledger
from gateway.logs import get_logger
from gateway.member import member_entity
from gateway.peers import GrpcPeer
from gateway.records import Records
from gateway.resolver import Resolver, load_charter
from gateway.restoration import Restoration
from gateway.rotation import Rotation
from gateway.server.admin import Administration
from gateway.server.anchor import AnchorServicer
from gateway.server.audit import AuditServicer, Entitled
from gateway.server.federation import FederationServicer
from gateway.server.issuance import IssuanceServicer
from gateway.server.keys import KeyServicer
from gateway.server.listener import (
    AUDIT_SERVICE,
    FEDERATION_SERVICE,
    ISSUANCE_SERVICE,
    MAX_REQUEST_BYTES,
    VERIFICATION_SERVICE,
    Listener,
)
from gateway.server.verification import ExplanationServicer, VerificationServicer
from gateway.status_register import StatusRegister
from gateway.storage import AnchorStore, Lead, Lineage, StorageError, TrustStore
from gateway.storage.opening import open_stores
from gateway.storage.read_only import ReadOnly
from gateway.storage.stores import Stores
from gateway.tls import CallerReader
from gateway.verifier import Verifier

HEALTH_SECONDS: Final = 0.5
FOLLOW_SECONDS: Final = 1.0
"""How often a follower looks which of our keys may sign. What the leader has learned of others, it takes over as often
as the leader publishes."""
FEDERATION: Final = "federation"
FREE_FEDERATION_THREADS: Final = 8
"""Beside those that the shares of all provinces can hold: to look whose the next call is, and refuse it."""
MAX_FEDERATION_REQUEST_BYTES: Final = 2 * MAX_ACKNOWLEDGEMENT_CHARS
ADMIN_THREADS: Final = 4
_LEADERS: Final = (FEDERATION_SERVICE, ISSUANCE_SERVICE, AUDIT_SERVICE)
"""Services of which a follower can give only a part."""

_log = get_logger("app")


class App:
    """A province's gateway, with its issuer and anchor where the configuration says so."""

    def __init__(self, config: Config, world: World, lead: Lead | None = None) -> None:
        """Open keys, store and charter, and bind the listeners. Nothing is served before ``start``.

        Args:
            config: what it is.
            world: clock and randomness.
            lead: whether this process leads now; None: no other process shares its database.

        Raises:
            ConfigError: the configuration, the keys, the charter or an address is at fault; nothing was started.
        """
        self._config = config
        self._world = world
        self._leading = ALONE if lead is None else Leading(lead)
        self._stop = threading.Event()
        self._follower: threading.Thread | None = None
        self._health: threading.Thread | None = None
        with ExitStack() as opened:  # what is open when something fails is closed again, last first
            try:
                self._open(opened)
            except KeyStoreError as error:
                raise ConfigError(str(error), file=config.file, key="keys") from error
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack) -> None:
        config, world = self._config, self._world
        self._certificates = _certificates(config, world)
        leads = self._leading.is_leader
        stores = _open_stores(config)
        opened.callback(stores.close)
        # One writes what is known of the federation. Who follows would write what is older over what is newer.
        trust = stores.trust if leads else ReadOnly(stores.trust)
        charter = _open_charter(config, trust, world.now())
        key_store = open_key_store(config.keys, config.key_store)
        opened.callback(key_store.close)
        self._keys = keys = KeyRing(stores.keys, key_store, world, leading=self._leading)
        self._peers = peers = _peers(config, self._certificates)
        for peer in peers:
            opened.callback(peer.close)
        self._issuer: Issuer | None = None
        if config.entities.issuer is not None:
            self._issuer = Issuer(
                entity_id=config.entities.issuer,
                keys=keys,
                pairwise_key=self._pairwise_key(key_store, "pairwise-issuer", config.pairwise_issuer),
                former_keys=self._former_keys(key_store),
                world=world,
                agreement=self._agreement,
                credential_types=_credential_types(charter.agreement),
                register=lambda: self._register,
            )
        self._anchor = _anchor(config, keys, stores.anchor)
        gateway = _gateway(config, keys)
        members = [self._issuer.entity, gateway] if self._issuer is not None else [gateway]
        self._resolver = Resolver(
            world=world,
            store=trust,
            charter=charter,
            peers=peers,
            own_entities=members,
            gateway=gateway,
            anchor=self._anchor,
            status_store=stores.statuses,
            on_own_revocations=self._take_own_revocations,
            leads=leads,
        )
        opened.callback(self._resolver.stop)
        purposes = _purposes(config)
        self._rotation = Rotation(
            world=world,
            store=stores.keys,
            keys=keys,
            holdings=Holdings(self._resolver, gateway.entity_id, purposes),
            entities=purposes,
            policy=config.rotation,
            publish=self._resolver.publish_own,
            deadlines=partial(_certificate_ends, config),
        )
        opened.callback(self._rotation.stop)
        self._is_whole = self._wholeness(stores.lineage, [peer.province for peer in peers])
        if config.entities.issuer is not None and leads:
            self._register = self._open_register(opened, config.entities.issuer, keys, stores, key_store)
        services = {service.identity: service for service in config.relying_services}
        references = References(key_store.secret("audit-reference"))
        self._records = Records(
            province=config.province.code,
            gateway=gateway.entity_id,
            issuer=config.entities.issuer,
            log=stores.log,
            keys=keys,
            resolver=self._resolver,
            is_whole=self._is_whole,
            pinned=_pinned(config),
            peers=peers,
            services=services,
            references=references,
            subjects=self._subjects,
            retention=config.retention,
            world=world,
        )
        if leads:
            _note_configuration(config, self._records)
        opened.callback(self._records.stop)
        self._ledger = Ledger(stores.log, world, lambda: self._resolver.view.clock_floor)
        opened.callback(self._ledger.close)
        self._consents = Consents(services=services, agreement=self._agreement, store=stores.consents, world=world)
        self._explainer = Explainer(
            services=services,
            administrators={each.identity for each in config.administrators if Role.EXPLAIN in each.roles},
            log=stores.log,
        )
        self._verifier = Verifier(
            gateway_id=config.entities.gateway,
            services=services,
            resolver=self._resolver,
            is_whole=self._is_whole,
            lists=lambda: self._resolver.statuses.current,
            consents=stores.consents,
            ledger=self._ledger,
            receipts=self._records.receipts,
            world=world,
            nonce_key=key_store.secret("nonce"),
            references=references,
            pairwise_key=self._pairwise_key(key_store, "pairwise", config.pairwise),
        )
        anchors = [self._anchor.entity] if self._anchor is not None else []
        self._listeners: dict[str, Listener] = {}
        opened.callback(self._close_listeners, 0)
        self._listen({entity.entity_id: entity for entity in (*members, *anchors)}, key_store.kind)

    def _open_register(
        self, opened: ExitStack, issuer: str, keys: KeyRing, stores: Stores, key_store: KeyStore
    ) -> StatusRegister:
        register = StatusRegister(
            issuer=issuer,
            store=stores.register,
            statuses=self._resolver.statuses,
            keys=keys,
            world=self._world,
            reference_key=key_store.secret("audit-reference"),
            registered=lambda: self._registered_lists(issuer),
            may_sign=self._may_sign_lists,
            restored=stores.lineage.is_restored,
        )
        opened.callback(register.stop)
        return register

    def _wholeness(self, lineage: Lineage, peers: Sequence[str]) -> Callable[[], bool]:
        """Give what tells whether what is held may be decided by. The leader makes good what is not."""
        if not self._leading.is_leader:
            return lambda: not lineage.is_restored
        restoration = Restoration(lineage, self._resolver, peers, now=self._world.now, recover=self._recover_lists)
        return lambda: restoration.is_whole

    def _registered_lists(self, issuer: str) -> Mapping[str, int]:
        recognised = self._resolver.view.issuers.get(issuer)
        return {} if recognised is None else recognised.status_lists

    def _may_sign_lists(self) -> bool:
        return self._resolver.is_ready and self._is_whole() and not self._resolver.is_clock_regressed

    def _recover_lists(self) -> None:
        if self._issuer is not None:
            self._register.recover()

    def _subjects(self, local_subject: str, audience: str) -> Sequence[str]:
        return () if self._issuer is None else self._issuer.subjects(local_subject, audience)

    def _former_keys(self, key_store: KeyStore) -> Sequence[PairwiseKey]:
        """Give what earlier subjects of our issuer were made with, as far as it was kept: see ``Issuer.subjects``."""
        held = key_store.versions("pairwise-issuer")
        return [
            PairwiseKey(version=version, key=key_store.secret("pairwise-issuer", version))
            for version in sorted(held, reverse=True)
            if version < self._config.pairwise_issuer.version
        ]

    def _pairwise_key(self, key_store: KeyStore, name: SecretName, options: PairwiseOptions) -> PairwiseKey:
        now, until = self._world.now(), options.mapped_until
        if until is not None and until - now > timedelta(days=MAX_MAPPING_DAYS):
            raise ConfigError(
                f"lies more than {MAX_MAPPING_DAYS} days ahead; name an earlier moment",
                file=self._config.file,
                key=f"{name.replace('-', '_')}.mapped_until",
            )
        mapped = options.mapped_version(now)
        return PairwiseKey(
            version=options.version,
            key=key_store.secret(name, options.version),
            # What nobody needs any more may have been destroyed.
            previous=None if mapped is None else key_store.secret(name, mapped),
            mapped_until=until,
        )

    def start(self) -> None:
        """Serve, and keep the trust view current."""
        # Peers that start at the same time hear from each other what each holds.
        self._listeners[FEDERATION].start()
        # What they know of us and we do not comes before anything that we say, or that our keys sign.
        self._resolver.catch_up()
        if self._leading.is_leader:
            self._rotation.tick()
        self._resolver.start(self._interval)
        if self._leading.is_leader:
            self._rotation.start()
            if self._issuer is not None:
                self._register.start()
            self._records.start()
        else:
            self._follower = threading.Thread(target=self._follow, name="follower", daemon=True)
            self._follower.start()
        self._health = threading.Thread(target=self._watch_health, name="health", daemon=True)
        self._health.start()
        for name, listener in self._listeners.items():
            if name != FEDERATION:
                listener.start()
        status = "leader" if self._leading.is_leader else "follower"
        _log.info("gateway_started", province=self._config.province.code, status=status)

    def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let running ones end, write what is queued, close."""
        self._stop.set()
        for thread in (self._health, self._follower):
            if thread is not None:
                thread.join()
        self._close_listeners(grace_seconds)
        self._opened.close()
        _log.info("gateway_stopped", province=self._config.province.code)

    @property
    def is_leader(self) -> bool:
        """Whether it was put together to lead."""
        return self._leading.is_leader

    @property
    def ports(self) -> Mapping[str, int]:
        """The port each listener is bound to."""
        return {name: listener.port for name, listener in self._listeners.items()}

    def _close_listeners(self, grace_seconds: float) -> None:
        waits = [listener.stop(grace_seconds) for listener in self._listeners.values()]
        for wait in waits:
            wait()

    @property
    def _interval(self) -> timedelta:
        return timedelta(seconds=self._config.refresh.interval_seconds)

    def _take_own_revocations(self, known: Mapping[tuple[str, str], Revocation]) -> None:
        self._rotation.take_revocations(known)  # which is made after the resolver

    def _agreement(self) -> Agreement:
        return self._resolver.view.charter.agreement

    def _listen(self, entities: Mapping[str, Entity], key_store_kind: str) -> None:
        config, listeners = self._config, self._config.listeners
        own_prefixes = tuple(
            entity for entity in (config.entities.gateway, config.entities.issuer) if entity is not None
        )
        own = {listeners.verification.client_ca: own_prefixes}
        verification, callers = self._bind("verification", listeners.verification.address, own, config.limits.threads)
        verification.add_verification(
            VerificationServicer(self._verifier, self._consents, self._explainer, callers, self._world)
        )
        served = Entitled(
            services=frozenset(each.identity for each in config.relying_services),
            identity_systems=frozenset(each.identity for each in config.identity_systems),
        )
        verification.add_audit(AuditServicer(self._records, served, callers, self._world))
        if self._issuer is not None:
            systems = [system.identity for system in config.identity_systems]
            issuance = IssuanceServicer(
                self._issuer, lambda: self._register, systems, callers, self._world, leading=self._leading
            )
            verification.add_issuance(issuance)
        # No entry hides another: no certificate is ever in force from two of these files.
        cas = {peer.ca: (_origin(peer.gateway),) for peer in config.peers} | own
        threads = CALLS_PER_DOMAIN * len(cas) + FREE_FEDERATION_THREADS
        federation, peers = self._bind(FEDERATION, listeners.federation.address, cas, threads)
        federation.add_federation(FederationServicer(self._resolver, entities, peers, self._world, self._interval))
        federation.add_audit(AuditServicer(self._records, Entitled(gateways=self._gateways), peers, self._world))
        admins = {listeners.admin.client_ca: own_prefixes}
        admin, operators = self._bind("admin", listeners.admin.address, admins, ADMIN_THREADS)
        administration = Administration(config.administrators, operators, self._world, leading=self._leading)
        admin.add_verification(ExplanationServicer(self._explainer, operators, self._world))
        overseers = Entitled(
            auditors=frozenset(each.identity for each in config.auditors),
            dispute_officers=frozenset(each.identity for each in config.administrators if Role.DISPUTES in each.roles),
            gateways=self._gateways,
        )
        admin.add_audit(AuditServicer(self._records, overseers, operators, self._world))
        admin.add_keys(KeyServicer(self._rotation, administration, key_store_kind))
        if self._anchor is not None:
            admin.add_anchor(AnchorServicer(self._anchor, self._resolver, administration, self._world))
        if listeners.admin.reflection:
            admin.add_reflection()

    def _gateways(self) -> Collection[str]:
        """Give the other provinces' gateways by the charter."""
        return frozenset(self._resolver.view.gateways) - {self._config.entities.gateway}

    def _bind(
        self, name: str, address: str, cas: Mapping[Path, Sequence[str]], threads: int
    ) -> tuple[Listener, CallerReader]:
        config, certificates = self._config, self._certificates
        # Both take from one set: what TLS lets in and who may call never contradict each other.
        callers = CallerReader(partial(certificates.authorities, cas))
        try:
            listener = Listener(
                address=address,
                material=partial(certificates.material, tuple(cas)),
                callers=callers,
                threads=threads,
                max_concurrent_calls=config.limits.max_concurrent_calls,
                world=self._world,
                # Each CA has its share: those of the peers, and our own.
                calls_per_domain=CALLS_PER_DOMAIN if name == FEDERATION else 0,
                streams=STREAMS_PER_DOMAIN * len(cas) if name == FEDERATION else 0,
                open_streams=name == "admin",
                max_request_bytes=MAX_FEDERATION_REQUEST_BYTES if name == FEDERATION else MAX_REQUEST_BYTES,
            )
        except OSError as error:
            raise ConfigError(
                f"{error}; choose a free address of this host", file=config.file, key=f"listeners.{name}.address"
            ) from error
        self._listeners[name] = listener
        return listener, callers

    def _watch_health(self) -> None:
        named: dict[str, bool] = {}  # an issuer that the charter removed is not recognised any more
        while True:
            services = named | _health(self._resolver.view, self._resolver.statuses.current, self._world.now())
            named = dict.fromkeys(services, False)
            if self._resolver.is_clock_regressed or not self._is_whole():
                services = dict.fromkeys(services, False) | {FEDERATION_SERVICE: True}
            services[AUDIT_SERVICE] = self._records.is_sound
            if not self._ledger.is_open:
                services |= {"": False, VERIFICATION_SERVICE: False}  # no verdict without its record
            if self._issuer is not None:
                services[ISSUANCE_SERVICE] = True
            if not self._leading():
                services |= {name: False for name in _LEADERS if name in services}
            if self._stop.is_set():
                return
            for peer in self._peers:
                peer.renew()
            for listener in self._listeners.values():
                listener.set_health(services)
            self._stop.wait(HEALTH_SECONDS)

    def _follow(self) -> None:
        while not self._stop.wait(FOLLOW_SECONDS):
            try:
                self._keys.follow()
            except (StorageError, KeyStoreError) as error:
                _log.warning("leader_not_followed", exc_info=error)


def at_ports(config: Config, ports: Mapping[str, int]) -> Config:
    """Give a configuration with the ports that were bound in place of those that were asked for."""

    def bound(name: str, address: str) -> str:
        return f"{address.rpartition(':')[0]}:{ports[name]}"

    listeners = config.listeners
    return replace(
        config,
        listeners=Listeners(
            verification=replace(listeners.verification, address=bound("verification", listeners.verification.address)),
            federation=replace(listeners.federation, address=bound(FEDERATION, listeners.federation.address)),
            admin=replace(listeners.admin, address=bound("admin", listeners.admin.address)),
        ),
    )


def _health(view: TrustView, lists: Mapping[str, StatusList], now: datetime) -> dict[str, bool]:
    """What to tell the health service: per service, and per issuer, under its identifier, whether it is recognised.

    An issuer is, as far as its keys are trusted and there is word on what became of its credentials.
    """
    charter_holds = now < view.charter.expires_at
    services = {
        issuer.entity_id: charter_holds
        and any(key.stale_until > now for key in issuer.keys.values())
        and (not issuer.status_lists or any(now < lists[uri].expires_at for uri in issuer.status_lists if uri in lists))
        for issuer in view.issuers.values()
    }
    can_verify = any(services.values())
    return {**services, "": can_verify, VERIFICATION_SERVICE: can_verify, FEDERATION_SERVICE: True}


def _certificates(config: Config, world: World) -> CertificateFiles:
    for problem in problems(config, world.now()):
        raise ConfigError(f"{problem.detail}; put the right file there", file=config.file, key=problem.key)
    try:
        return CertificateFiles(config, world.now)
    except (UnfitFileError, OSError) as error:
        # Somebody changed a file between the two.
        raise ConfigError(f"{error}; put the right file there", file=config.file, key="tls") from error


def _open_stores(config: Config) -> Stores:
    try:
        return open_stores(config)
    except StorageError as error:
        check = "the server, the user and the password file" if isinstance(config.database, PostgresUrl) else "the path"
        raise ConfigError(
            f"cannot open the database ({error}); check {check} and its permissions", file=config.file, key="database"
        ) from error


def _open_charter(config: Config, trust: TrustStore, now: datetime) -> Charter:
    try:
        return load_charter(trust, config.charter.file.read_text("utf-8"), config.charter.sha256, now)
    except (Rejected, OSError, ValueError) as error:
        detail = error.detail if isinstance(error, Rejected) else str(error)
        raise ConfigError(
            f"charter is not acceptable ({detail}); compare the file and the digest with the other provinces",
            file=config.file,
            key="charter",
        ) from error


def _pinned(config: Config) -> Charter:
    # It was verified when trust was opened.
    return parse_charter(config.charter.file.read_text("utf-8")).unverified


def _note_configuration(config: Config, records: Records) -> None:
    try:
        records.note_configuration(sha256_b64url(config.file.read_bytes()))
    except (StorageError, OSError) as error:
        raise ConfigError(f"cannot be written to the log ({error})", file=config.file, key="database") from error


def _peers(config: Config, certificates: CertificateFiles) -> list[GrpcPeer]:
    return [
        GrpcPeer(
            province=peer.province,
            gateway=peer.gateway,
            address=peer.address,
            material=partial(certificates.material, (peer.ca,)),
        )
        for peer in config.peers
    ]


def _credential_types(agreement: Agreement) -> Sequence[str]:
    """What no matter accepts, nobody needs to be issued."""
    return sorted({name for matter in agreement.matters.values() for name in matter.credential_types})


def _gateway(config: Config, keys: KeyRing) -> Entity:
    entity = member_entity(
        entity_id=config.entities.gateway,
        entity_type=GATEWAY_TYPE,
        federation=KeyPurpose.GATEWAY_FEDERATION,
        keys=keys,
    )
    for purpose in sorted(ADDED_LATER):
        keys.make_first(purpose)
    return entity


def _anchor(config: Config, keys: KeyRing, store: AnchorStore) -> Anchor | None:
    if config.entities.anchor is None:
        return None
    purpose = KeyPurpose.ANCHOR_FEDERATION
    keys.require(purpose)
    return Anchor(
        entity_id=config.entities.anchor,
        signer=lambda: keys.signer(purpose),
        federation_keys=lambda: keys.published(purpose),
        store=store,
        enrolled={each.entity_id: each.federation_key for each in config.anchor_enrolments},
        approve=config.anchor.approve,
    )


def _certificate_ends(config: Config) -> Mapping[str, datetime]:
    """When each file of certificates ceases to be good: with the last of them, so that a CA can be replaced in time."""
    ends: dict[str, datetime] = {}
    for each in expiries(config):
        ends[each.key] = max(each.not_after, ends.get(each.key, each.not_after))
    return ends


def _purposes(config: Config) -> Mapping[KeyPurpose, str]:
    """Which of our entities a key of each purpose speaks for."""
    entities = config.entities
    played = {
        KeyPurpose.CREDENTIAL: entities.issuer,
        KeyPurpose.STATUS: entities.issuer,
        KeyPurpose.ISSUER_FEDERATION: entities.issuer,
        KeyPurpose.GATEWAY_FEDERATION: entities.gateway,
        KeyPurpose.ANCHOR_FEDERATION: entities.anchor,
        KeyPurpose.RECEIPT: entities.gateway,
        KeyPurpose.AUDIT: entities.gateway,
    }
    return {purpose: entity for purpose, entity in played.items() if entity is not None}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
