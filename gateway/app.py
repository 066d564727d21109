"""One province's process, put together from its configuration.

The only place that knows all parts. Order matters: everything that can be wrong with the configuration is found before
a port is opened, and the ledger is closed last, because running calls still write to it while they end.

Of several processes on one database, one leads (``leading``). The others verify and relay: what runs by itself there is
looking at peers and at what the leader has written, and nothing else. Health says of a follower that only verification
is served, so that whoever spreads calls sends the rest to the leader.

Of the processes of one supervisor, which share ports and database, one is the front: it has all listeners, hears the
peers, and may lead. The others, its workers, serve verification alone, take over what is written, and hand on to the
front what only it can do (``server.private``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
from gateway.core.quota import Allowance
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
    CONNECTION_AGE,
    FEDERATION_SERVICE,
    FREE,
    ISSUANCE_SERVICE,
    MAX_REQUEST_BYTES,
    VERIFICATION_SERVICE,
    Listener,
)
from gateway.server.private import Front, FrontListener
from gateway.server.verification import ExplanationServicer, VerificationServicer
from gateway.status_register import StatusRegister
from gateway.storage import AnchorStore, Lead, Lineage, StorageError, Tidings, Topic, TrustStore
from gateway.storage.opening import Place, open_stores
from gateway.storage.read_only import ReadOnly
from gateway.storage.stores import Stores
from gateway.tls import CallerReader
from gateway.verifier import Verifier

HEALTH_SECONDS: Final = 0.5
FOLLOW_SECONDS: Final = 0.5
"""How long a follower waits at most to be told of a change before it looks whether to go on; and, after an error, until
it tries again."""
VERIFICATION: Final = "verification"
BATCHES: Final = 8
"""Served at one time: 4 MiB of memory each for what is asked, and about as much for the answers."""
STREAMS: Final = 16
"""Of presentations, served at one time. A quiet one holds two threads that sleep."""
FEDERATION: Final = "federation"
ADMIN: Final = "admin"
FREE_FEDERATION_THREADS: Final = 8
"""Beside those that the shares of all provinces can hold: to look whose the next call is, and refuse it."""
MAX_FEDERATION_REQUEST_BYTES: Final = 2 * MAX_ACKNOWLEDGEMENT_CHARS
ADMIN_THREADS: Final = 4
_LEADERS: Final = (FEDERATION_SERVICE, ISSUANCE_SERVICE, AUDIT_SERVICE)
"""Services of which a follower can give only a part."""
_GET_EVIDENCE: Final = f"/{AUDIT_SERVICE}/GetEvidence"
"""Any process can put it together out of the database."""

_log = get_logger("app")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What a process is among those of one supervisor."""

    number: int
    """0: the front."""
    folder: Path
    """Where the front's socket is. Only our user can enter it."""
    configuration: bytes
    """What the configuration's file said when it was read: it may say something else by now, and not be in force."""
    connection_age: timedelta
    """How long a connection to the verification listener lasts; so long a process waits for its last to go."""

    @property
    def place(self) -> Place:
        """Whether it is the front."""
        return Place.WORKER if self.number else Place.FRONT


class App:
    """A province's gateway, with its issuer and anchor where the configuration says so."""

    def __init__(
        self,
        config: Config,
        world: World,
        lead: Lead | None = None,
        member: Member | None = None,
        take_turn: Callable[[], object] = lambda: None,
    ) -> None:
        """Open keys, store and charter, and bind the listeners. Nothing is served before ``start``.

        Args:
            config: what it is.
            world: clock and randomness.
            lead: whether this process leads now; None: no other process shares its database.
            member: its place among those of one supervisor; None: it has none.
            take_turn: waits until the front before this one is gone, and asks for the lead. Called when the listeners
                are bound that no worker has, so that who connects meanwhile waits, and is not refused.

        Raises:
            ConfigError: the configuration, the keys, the charter or an address is at fault; nothing was started.
        """
        self._config = config
        self._world = world
        self._lead = lead
        self._member = member
        self._place = Place.ALONE if member is None else member.place
        self._take_turn = take_turn
        self._stop = threading.Event()
        self._follower: threading.Thread | None = None
        self._front_listener: FrontListener | None = None
        self._told_healthy: Mapping[str, bool] = {}
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
        self._listeners: dict[str, Listener] = {}
        self._callers: dict[str, CallerReader] = {}
        self._await_turn(opened)
        self._leading = ALONE if self._lead is None else Leading(self._lead)
        leads = self._leading.is_leader
        stores = _open_stores(config)
        opened.callback(stores.close)
        self._tidings = stores.tidings
        # One writes what is known of the federation. Who follows would write what is older over what is newer.
        trust = stores.trust if leads else ReadOnly(stores.trust)
        charter = _open_charter(config, trust, world.now())
        key_store = open_key_store(config.keys, config.key_store)
        opened.callback(key_store.close)
        self._keys = keys = KeyRing(stores.keys, key_store, world, leading=self._leading)
        is_worker = self._place is Place.WORKER
        self._peers = peers = [] if is_worker else _peers(config, self._certificates)
        for peer in peers:
            opened.callback(peer.close)
        self._issuer: Issuer | None = None
        if config.entities.issuer is not None and not is_worker:
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
        self._anchor = None if is_worker else _anchor(config, keys, stores.anchor)
        self._front = self._reach_front(opened)
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
            ask_front=None if self._front is None else self._front.refresh,
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
            _note_configuration(config, self._records, None if self._member is None else self._member.configuration)
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
        opened.callback(self._close_listeners, 0)
        self._listen({entity.entity_id: entity for entity in (*members, *anchors)}, key_store.kind)

    def _await_turn(self, opened: ExitStack) -> None:
        opened.callback(self._close_listeners, 0)
        if self._place is Place.FRONT:
            self._bind(FEDERATION)
            self._bind(ADMIN)
        self._take_turn()

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
        if FEDERATION in self._listeners:
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
        if self._front_listener is not None:
            self._front_listener.start()
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

    def turn_away(self) -> None:
        """Take no more connections to verification: another process of this supervisor has taken this one's place."""
        self._listeners[VERIFICATION].turn_away()

    @property
    def is_deserted(self) -> bool:
        """Whether nobody is connected to verification any more."""
        return self._listeners[VERIFICATION].is_deserted

    @property
    def is_leader(self) -> bool:
        """Whether it was put together to lead."""
        return self._leading.is_leader

    @property
    def ports(self) -> Mapping[str, int]:
        """The port each listener is bound to."""
        return {name: listener.port for name, listener in self._listeners.items()}

    def _close_listeners(self, grace_seconds: float) -> None:
        listeners, self._listeners = self._listeners, {}
        waits = [listener.stop(grace_seconds) for listener in listeners.values()]
        for wait in waits:
            wait()
        # What workers have handed on ends with them, and with their own callers' patience.
        if self._front_listener is not None:
            self._front_listener.stop(grace_seconds)()

    @property
    def _interval(self) -> timedelta:
        return timedelta(seconds=self._config.refresh.interval_seconds)

    def _take_own_revocations(self, known: Mapping[tuple[str, str], Revocation]) -> None:
        self._rotation.take_revocations(known)  # which is made after the resolver

    def _agreement(self) -> Agreement:
        return self._resolver.view.charter.agreement

    def _listen(self, entities: Mapping[str, Entity], key_store_kind: str) -> None:
        config = self._config
        verification, callers = self._bind(VERIFICATION)
        if self._front is not None:
            verification.add_front(self._front)
        verification.add_verification(
            VerificationServicer(
                self._verifier, self._consents, self._explainer, callers, self._world, charge=verification.charge
            )
        )
        served = Entitled(
            services=frozenset(each.identity for each in config.relying_services),
            identity_systems=frozenset(each.identity for each in config.identity_systems),
        )
        audit = AuditServicer(self._records, served, callers, self._world)
        verification.add_audit(audit)
        if self._place is Place.WORKER:
            return
        front = self._hear_workers(callers)
        if front is not None:
            front.add_audit(audit)
        if self._issuer is not None:
            systems = [system.identity for system in config.identity_systems]
            issuance = IssuanceServicer(
                self._issuer, lambda: self._register, systems, callers, self._world, leading=self._leading
            )
            verification.add_issuance(issuance)
            if front is not None:
                front.add_issuance(issuance)
        federation, peers = self._bind(FEDERATION)
        federation.add_federation(FederationServicer(self._resolver, entities, peers, self._world, self._interval))
        federation.add_audit(AuditServicer(self._records, Entitled(gateways=self._gateways), peers, self._world))
        self._listen_to_administrators(key_store_kind)

    def _listen_to_administrators(self, key_store_kind: str) -> None:
        config = self._config
        admin, operators = self._bind(ADMIN)
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
        if config.listeners.admin.reflection:
            admin.add_reflection()

    def _reach_front(self, opened: ExitStack) -> Front | None:
        if self._member is None or self._place is not Place.WORKER:
            return None
        front = Front(
            self._member.folder,
            services=(ISSUANCE_SERVICE, AUDIT_SERVICE),
            but=(_GET_EVIDENCE,),
            most=max(1, self._config.limits.threads // 4),
        )
        opened.callback(front.close)
        return front

    def _hear_workers(self, callers: CallerReader) -> FrontListener | None:
        if self._member is None:
            return None
        try:
            self._front_listener = FrontListener(
                self._member.folder,
                callers=callers,
                world=self._world,
                max_concurrent_calls=self._config.limits.max_concurrent_calls,
                max_request_bytes=MAX_REQUEST_BYTES,
                refresh=self._resolver.refresh_for_worker,
                health=lambda: self._told_healthy,
            )
        except OSError as error:
            raise ConfigError(f"{error}; see that TMPDIR is a short path", file=self._config.file, key="") from error
        return self._front_listener

    def _gateways(self) -> Collection[str]:
        """Give the other provinces' gateways by the charter."""
        return frozenset(self._resolver.view.gateways) - {self._config.entities.gateway}

    def _bind(self, name: str) -> tuple[Listener, CallerReader]:
        """Bind a listener, unless it is bound."""
        if name not in self._listeners:
            config, listeners = self._config, self._config.listeners
            own_prefixes = tuple(
                entity for entity in (config.entities.gateway, config.entities.issuer) if entity is not None
            )
            own = {listeners.verification.client_ca: own_prefixes}
            # No entry hides another: no certificate is ever in force from two of these files.
            cas = {peer.ca: (_origin(peer.gateway),) for peer in config.peers} | own
            if name == VERIFICATION:
                self._bind_to(name, listeners.verification.address, own, config.limits.threads)
            elif name == FEDERATION:
                threads = CALLS_PER_DOMAIN * len(cas) + FREE_FEDERATION_THREADS
                self._bind_to(name, listeners.federation.address, cas, threads)
            else:
                admins = {listeners.admin.client_ca: own_prefixes}
                self._bind_to(name, listeners.admin.address, admins, ADMIN_THREADS)
        return self._listeners[name], self._callers[name]

    def _bind_to(self, name: str, address: str, cas: Mapping[Path, Sequence[str]], threads: int) -> None:
        config, certificates, member = self._config, self._certificates, self._member
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
                allowance=_allowance(config) if name == "verification" else FREE,
                allowances=_allowances(config) if name == "verification" else {},
                # Each CA has its share: those of the peers, and our own.
                calls_per_domain=CALLS_PER_DOMAIN if name == FEDERATION else 0,
                streams=STREAMS_PER_DOMAIN * len(cas) if name == FEDERATION else 0,
                batches=BATCHES if name == VERIFICATION else 0,
                streams_both_ways=STREAMS if name == VERIFICATION else 0,
                open_streams=name == ADMIN,
                max_request_bytes=MAX_FEDERATION_REQUEST_BYTES if name == FEDERATION else MAX_REQUEST_BYTES,
                is_shared=member is not None,
                connection_age=member.connection_age if member and name == VERIFICATION else CONNECTION_AGE,
            )
        except OSError as error:
            raise ConfigError(
                f"{error}; choose a free address of this host", file=config.file, key=f"listeners.{name}.address"
            ) from error
        self._listeners[name], self._callers[name] = listener, callers

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
            if self._front is not None:
                given = self._front.health()  # what is handed on is as fit as it is there
                services |= {name: given.get(name, False) for name in _LEADERS}
            elif not self._leading():
                services |= {name: False for name in _LEADERS if name in services}
            self._told_healthy = services
            if self._stop.is_set():
                return
            for peer in self._peers:
                peer.renew()
            for listener in self._listeners.values():
                listener.set_health(services)
            self._stop.wait(HEALTH_SECONDS)

    def _follow(self) -> None:
        tidings: Tidings | None = None
        is_told = False
        while not self._stop.is_set():
            try:
                if tidings is None:
                    tidings = self._tidings()
                self._take_over(tidings.wait(FOLLOW_SECONDS))
                is_told = False
            except Exception as error:  # noqa: BLE001 - a thread that dies of one blip never follows again
                if not is_told:
                    _log.warning("leader_not_followed", exc_info=error)
                is_told = True
                if tidings is not None:
                    tidings.close()  # the next one tells of everything, this among it
                tidings = None
                self._stop.wait(FOLLOW_SECONDS)
        if tidings is not None:
            tidings.close()

    def _take_over(self, topics: Collection[Topic]) -> None:
        if topics:
            self._resolver.follow(topics)
        if Topic.KEYS in topics:
            self._keys.follow()


def at_ports(config: Config, ports: Mapping[str, int]) -> Config:
    """Give a configuration with the ports that were bound in place of those that were asked for."""

    def bound(name: str, address: str) -> str:
        return f"{address.rpartition(':')[0]}:{ports[name]}"

    listeners = config.listeners
    return replace(
        config,
        listeners=Listeners(
            verification=replace(listeners.verification, address=bound(VERIFICATION, listeners.verification.address)),
            federation=replace(listeners.federation, address=bound(FEDERATION, listeners.federation.address)),
            admin=replace(listeners.admin, address=bound(ADMIN, listeners.admin.address)),
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


def _note_configuration(config: Config, records: Records, content: bytes | None) -> None:
    try:
        records.note_configuration(sha256_b64url(config.file.read_bytes() if content is None else content))
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


def _allowance(config: Config) -> Allowance:
    return Allowance(rate=config.limits.caller_rate, concurrency=config.limits.caller_concurrency)


def _allowances(config: Config) -> Mapping[str, Allowance]:
    default = _allowance(config)
    return {
        service.identity: Allowance(
            rate=default.rate if service.rate is None else service.rate,
            concurrency=default.concurrency if service.concurrency is None else service.concurrency,
        )
        for service in config.relying_services
    }


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
