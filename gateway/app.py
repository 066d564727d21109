"""One province's process, put together from its configuration.

The only place that knows all parts. Order matters: everything that can be wrong with the configuration is found before
a port is opened, and the ledger is closed last, because running calls still write to it while they end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.anchor import Anchor
from gateway.clock import World
from gateway.config import Config, ConfigError
from gateway.core.agreement import Agreement
from gateway.core.charter import GATEWAY_TYPE, Charter
from gateway.core.reasons import Rejected
from gateway.core.trust import TrustView
from gateway.entity import Entity
from gateway.issuer import Issuer
from gateway.keystore import KeyStore, KeyStoreError
from gateway.ledger import Ledger
from gateway.logs import get_logger
from gateway.peers import GrpcPeer
from gateway.resolver import Resolver, load_charter
from gateway.server import (
    FEDERATION_SERVICE,
    ISSUANCE_SERVICE,
    VERIFICATION_SERVICE,
    FederationServicer,
    IssuanceServicer,
    Listener,
    VerificationServicer,
)
from gateway.storage import StorageError
from gateway.storage.sqlite import SqliteStore
from gateway.tls import CallerReader, check_cas, check_own_certificate
from gateway.verifier import Verifier

GATEWAY_CONFIGURATION_LIFETIME: Final = timedelta(hours=1)
HEALTH_SECONDS: Final = 0.5
FEDERATION_THREADS: Final = 16
ADMIN_THREADS: Final = 4

_log = get_logger("app")


class App:
    """A province's gateway, with its issuer and anchor where the configuration says so."""

    def __init__(self, config: Config, world: World) -> None:
        """Open keys, store and charter, and bind the listeners. Nothing is served before ``start``.

        Raises:
            ConfigError: the configuration, the keys, the charter or an address is at fault; nothing was started.
        """
        self._config = config
        self._world = world
        self._stop = threading.Event()
        self._health: threading.Thread | None = None
        with ExitStack() as opened:  # what is open when something fails is closed again, last first
            try:
                self._open(opened)
            except KeyStoreError as error:
                raise ConfigError(str(error), file=config.file, key="keys") from error
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack) -> None:
        config, world = self._config, self._world
        _check_tls(config, world.now())
        charter, store = _open_trust(config)
        opened.callback(store.close)
        keys = KeyStore.open(config.keys)
        peers = _peers(config)
        for peer in peers:
            opened.callback(peer.close)
        self._issuer = _issuer(config, keys, world, charter.agreement, self._agreement)
        anchor = _anchor(config, keys, store)
        gateway = Entity(
            entity_id=config.entities.gateway,
            signer=keys.signer("gateway-federation"),
            metadata={GATEWAY_TYPE: {}},
            lifetime=GATEWAY_CONFIGURATION_LIFETIME,
        )
        members = [self._issuer.entity, gateway] if self._issuer is not None else [gateway]
        self._resolver = Resolver(
            world=world, store=store, charter=charter, peers=peers, own_entities=members, anchor=anchor
        )
        opened.callback(self._resolver.stop)
        self._ledger = Ledger(store, world)
        opened.callback(self._ledger.close)
        self._verifier = Verifier(
            gateway_id=config.entities.gateway,
            services={service.identity: service for service in config.relying_services},
            resolver=self._resolver,
            ledger=self._ledger,
            world=world,
            nonce_key=keys.secret("nonce"),
            pairwise_key=keys.secret("pairwise"),
        )
        anchors = [anchor.entity] if anchor is not None else []
        self._listeners: dict[str, Listener] = {}
        opened.callback(self._close_listeners, 0)
        self._listen({entity.entity_id: entity for entity in (*members, *anchors)})

    def start(self) -> None:
        """Serve, and keep the trust view current."""
        self._resolver.publish_own()
        self._resolver.start(timedelta(seconds=self._config.refresh.interval_seconds))
        self._health = threading.Thread(target=self._watch_health, name="health", daemon=True)
        self._health.start()
        for listener in self._listeners.values():
            listener.start()
        _log.info("gateway_started", province=self._config.province.code)

    def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let running ones end, write what is queued, close."""
        self._stop.set()
        if self._health is not None:
            self._health.join()
        self._close_listeners(grace_seconds)
        self._opened.close()
        _log.info("gateway_stopped", province=self._config.province.code)

    @property
    def ports(self) -> Mapping[str, int]:
        """The port each listener is bound to."""
        return {name: listener.port for name, listener in self._listeners.items()}

    def _close_listeners(self, grace_seconds: float) -> None:
        waits = [listener.stop(grace_seconds) for listener in self._listeners.values()]
        for wait in waits:
            wait()

    def _agreement(self) -> Agreement:
        return self._resolver.view.charter.agreement

    def _listen(self, own: Mapping[str, Entity]) -> None:
        config, listeners = self._config, self._config.listeners
        own_prefixes = tuple(
            entity for entity in (config.entities.gateway, config.entities.issuer) if entity is not None
        )
        own_ca = listeners.verification.client_ca.read_bytes()
        callers = CallerReader({own_ca: own_prefixes})
        verification = self._bind(
            "verification", listeners.verification.address, own_ca, callers, config.limits.threads
        )
        verification.add_verification(VerificationServicer(self._verifier, callers, self._world))
        if self._issuer is not None:
            systems = [system.identity for system in config.identity_systems]
            verification.add_issuance(IssuanceServicer(self._issuer, systems, callers, self._world))
        # No entry hides another: the configuration admits no certificate in two of these files.
        cas: dict[bytes, tuple[str, ...]] = {peer.ca.read_bytes(): (_origin(peer.gateway),) for peer in config.peers}
        cas[own_ca] = own_prefixes
        peers = CallerReader(cas)
        federation = self._bind("federation", listeners.federation.address, b"\n".join(cas), peers, FEDERATION_THREADS)
        federation.add_federation(FederationServicer(self._resolver, own, peers, self._world))
        admin_ca = listeners.admin.client_ca.read_bytes()
        operators = CallerReader({admin_ca: own_prefixes})
        admin = self._bind("admin", listeners.admin.address, admin_ca, operators, ADMIN_THREADS)
        if listeners.admin.reflection:
            admin.add_reflection()

    def _bind(self, name: str, address: str, client_cas: bytes, callers: CallerReader, threads: int) -> Listener:
        config = self._config
        try:
            listener = Listener(
                address=address,
                certificate=config.tls.certificate.read_bytes(),
                private_key=config.tls.private_key.read_bytes(),
                client_cas=client_cas,
                callers=callers,
                threads=threads,
                max_concurrent_calls=config.limits.max_concurrent_calls,
                world=self._world,
                streams=name == "admin",
            )
        except OSError as error:
            raise ConfigError(
                f"{error}; choose a free address of this host", file=config.file, key=f"listeners.{name}.address"
            ) from error
        self._listeners[name] = listener
        return listener

    def _watch_health(self) -> None:
        while True:
            services = _health(self._resolver.view, self._world.now())
            if not self._ledger.is_open:
                services |= {"": False, VERIFICATION_SERVICE: False}  # no verdict without its record
            if self._issuer is not None:
                services[ISSUANCE_SERVICE] = True
            if self._stop.is_set():
                return
            for listener in self._listeners.values():
                listener.set_health(services)
            self._stop.wait(HEALTH_SECONDS)


def _health(view: TrustView, now: datetime) -> dict[str, bool]:
    """What to tell the health service: per service, and per issuer, under its identifier, whether it is recognised."""
    services = {
        issuer.entity_id: now < view.charter.expires_at and any(key.stale_until > now for key in issuer.keys.values())
        for issuer in view.issuers.values()
    }
    can_verify = any(services.values())
    return {**services, "": can_verify, VERIFICATION_SERVICE: can_verify, FEDERATION_SERVICE: True}


def _check_tls(config: Config, now: datetime) -> None:
    """Find what is wrong with certificates here: gRPC only says that a port could not be opened."""
    tls, listeners = config.tls, config.listeners
    checks: dict[str, Callable[[], None]] = {
        "tls.private_key": lambda: _check_private(tls.private_key),
        "tls.certificate": lambda: check_own_certificate(
            tls.certificate.read_bytes(), tls.private_key.read_bytes(), config.entities.gateway, now
        ),
        "listeners.verification.client_ca": lambda: check_cas(listeners.verification.client_ca.read_bytes()),
        "listeners.admin.client_ca": lambda: check_cas(listeners.admin.client_ca.read_bytes()),
    }
    for number, peer in enumerate(config.peers):
        checks[f"peers[{number}].ca"] = partial(lambda ca: check_cas(ca.read_bytes()), peer.ca)
    for key, check in checks.items():
        try:
            check()
        except (ValueError, OSError) as error:
            raise ConfigError(f"{error}; put the right file there", file=config.file, key=key) from error


def _check_private(file: Path) -> None:
    if file.stat().st_mode & 0o077:
        raise ValueError(f"can be read by others than its owner: chmod 600 {file}")


def _open_trust(config: Config) -> tuple[Charter, SqliteStore]:
    try:
        config.database.parent.mkdir(parents=True, exist_ok=True)
        store = SqliteStore(config.database)
    except (StorageError, OSError) as error:
        raise ConfigError(
            f"cannot open the database ({error}); check the path and its permissions", file=config.file, key="database"
        ) from error
    try:
        return load_charter(store, config.charter.file.read_text("utf-8"), config.charter.sha256), store
    except (Rejected, OSError, ValueError) as error:
        store.close()
        detail = error.detail if isinstance(error, Rejected) else str(error)
        raise ConfigError(
            f"charter is not acceptable ({detail}); compare the file and the digest with the other provinces",
            file=config.file,
            key="charter",
        ) from error


def _peers(config: Config) -> list[GrpcPeer]:
    return [
        GrpcPeer(
            province=peer.province,
            address=peer.address,
            ca=peer.ca.read_bytes(),
            certificate=config.tls.certificate.read_bytes(),
            private_key=config.tls.private_key.read_bytes(),
        )
        for peer in config.peers
    ]


def _issuer(
    config: Config, keys: KeyStore, world: World, initial: Agreement, agreement: Callable[[], Agreement]
) -> Issuer | None:
    if config.entities.issuer is None:
        return None
    # What no matter accepts, nobody needs to be issued.
    types = {name for matter in initial.matters.values() for name in matter.credential_types}
    return Issuer(
        entity_id=config.entities.issuer,
        federation_signer=keys.signer("issuer-federation"),
        credential_signer=keys.signer("issuer-credential"),
        subject_key=keys.secret("pairwise-issuer"),
        world=world,
        agreement=agreement,
        credential_types=sorted(types),
    )


def _anchor(config: Config, keys: KeyStore, store: SqliteStore) -> Anchor | None:
    if config.entities.anchor is None:
        return None
    return Anchor(
        entity_id=config.entities.anchor,
        signer=keys.signer("anchor-federation"),
        store=store,
        enrolled={each.entity_id: each.federation_key for each in config.anchor_enrolments},
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
