"""One gRPC server: an address, mutual TLS, its own threads, health."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from recognition.v1 import (
    anchor_pb2_grpc,
    audit_pb2_grpc,
    federation_pb2_grpc,
    issuance_pb2_grpc,
    keys_pb2_grpc,
    verification_pb2_grpc,
)

from gateway.certificates import ChannelMaterial
from gateway.clock import World
from gateway.config import MAX_CONCURRENT_CALLS, MAX_RATE
from gateway.core.quota import Allowance, Quotas
from gateway.guard import MAX_BATCH_BYTES, Guard
from gateway.intake import Intake, calls_under_way
from gateway.server.anchor import AnchorServicer
from gateway.server.audit import AuditServicer
from gateway.server.federation import FederationServicer
from gateway.server.issuance import IssuanceServicer
from gateway.server.keys import KeyServicer
from gateway.server.private import Front
from gateway.server.sockets import LOOK_SECONDS, count_connections, end_connections, stop_listening
from gateway.server.verification import ExplanationServicer
from gateway.tls import CallerReader

MAX_REQUEST_BYTES: Final = 256 * 1024
"""A presentation is at most 64 KiB; the rest is room for the attributes of an issuance."""
CONNECTION_AGE: Final = timedelta(hours=1)
LAST_CALL_SECONDS: Final = 30.0
"""How long calls of a connection that is to end may still take, beyond what a stream may."""
BEYOND_BYTES: Final = 65_536
"""What is larger than it may be by less than that is told so by the guard: gRPC would say to come again."""
MAX_UNSEEN_STREAMS: Final = 1_024
"""Calls for a stream that wait until it is seen whose they are, where domains have shares. No message of theirs is
taken yet, and seeing takes less than a millisecond."""
MAX_CONNECTION_STREAMS: Final = 32
"""Calls that a connection may have open. What a client would call besides, it keeps until one is answered: of all ways
to put calls off, this alone costs us nothing."""
FREE: Final = Allowance(rate=MAX_RATE, concurrency=MAX_CONCURRENT_CALLS)
"""For callers who need not be kept apart."""
VERIFICATION_SERVICE: Final = "recognition.v1.VerificationService"
ISSUANCE_SERVICE: Final = "recognition.v1.IssuanceService"
FEDERATION_SERVICE: Final = "recognition.v1.FederationService"
KEY_SERVICE: Final = "recognition.v1.KeyService"
ANCHOR_SERVICE: Final = "recognition.v1.AnchorService"
AUDIT_SERVICE: Final = "recognition.v1.AuditService"


class Listener:
    """One gRPC server: an address, mutual TLS, its own threads, health."""

    def __init__(
        self,
        *,
        address: str,
        material: Callable[[], ChannelMaterial],
        callers: CallerReader,
        threads: int,
        max_concurrent_calls: int,
        world: World,
        allowance: Allowance = FREE,
        allowances: Mapping[str, Allowance] = MappingProxyType({}),
        calls_per_domain: int = 0,
        streams: int = 0,
        batches: int = 0,
        streams_both_ways: int = 0,
        open_streams: bool = False,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        is_shared: bool = False,
        connection_age: timedelta = CONNECTION_AGE,
    ) -> None:
        """Bind the address; serving begins with ``start``.

        Args:
            address: host:port.
            material: gives our certificate, and the CAs that callers' must come from, as they are now. Asked at every
                handshake.
            callers: tells who calls.
            threads: for calls of one message; batches, and calls that answer with a stream, have theirs beside these.
            max_concurrent_calls: taken at one time, batches and streams not counted.
            world: clock and randomness.
            allowance: what each caller may have.
            allowances: what some may have instead, by their identities.
            calls_per_domain: see ``Guard``.
            streams: see ``Guard``.
            batches: see ``Guard``.
            streams_both_ways: see ``Guard``.
            open_streams: see ``Guard``.
            max_request_bytes: see ``Guard``.
            is_shared: whether other processes of the same user may listen on the address too. The kernel then spreads
                the connections; whoever starts them sees to it that nobody else's do.
            connection_age: how long a connection lasts; then its client is asked to connect again, and loses nothing.

        Raises:
            OSError: the address is taken or not ours.
        """
        age_seconds = connection_age.total_seconds()
        self._guard = Guard(
            world,
            callers,
            share=max(1, threads // 4),
            max_request_bytes=max_request_bytes,
            calls_per_domain=calls_per_domain,
            streams=streams,
            batches=batches,
            streams_both_ways=streams_both_ways,
            # One that began as its connection was asked to end is over before that is cut off.
            stream_seconds=age_seconds,
            open_streams=open_streams,
        )
        long_calls = streams + batches + streams_both_ways
        self._intake = Intake(
            self._guard,
            Quotas(default=allowance, allowances=allowances, places=max_concurrent_calls, threads=threads),
            threads=threads + long_calls,
            # These are counted without regard to whose they are, so whoever fills that count locks everybody out.
            max_streams=max_concurrent_calls + long_calls + (MAX_UNSEEN_STREAMS if calls_per_domain else 0),
        )
        pool: Any = self._intake  # so it is to gRPC
        self._server = grpc.server(
            pool,
            interceptors=[self._guard],
            options=[
                ("grpc.max_receive_message_length", MAX_BATCH_BYTES + BEYOND_BYTES if batches else max_request_bytes),
                ("grpc.max_concurrent_streams", MAX_CONNECTION_STREAMS),
                # Else a call is refused that a client begins before we have cleared away the one just answered.
                ("grpc.http.overload_protection", 0),
                ("grpc.so_reuseport", int(is_shared)),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.max_connection_age_ms", round(age_seconds * 1000)),
                ("grpc.max_connection_age_grace_ms", round((age_seconds + LAST_CALL_SECONDS) * 1000)),
            ],
        )
        self._started = False
        self.health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        try:
            self.port: int = self._server.add_secure_port(address, _credentials(material))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        if self.port == 0:
            raise OSError(f"cannot listen on {address}")

    def add_verification(self, servicer: ExplanationServicer) -> None:
        """Serve verification here, or the explanation of what was verified elsewhere."""
        verification_pb2_grpc.add_VerificationServiceServicer_to_server(servicer, self._server)

    def add_issuance(self, servicer: IssuanceServicer) -> None:
        """Serve issuance here."""
        issuance_pb2_grpc.add_IssuanceServiceServicer_to_server(servicer, self._server)

    def add_front(self, front: Front) -> None:
        """Hand on here what only the front can do. Before all others are added: who is first has a call."""
        self._server.add_generic_rpc_handlers((front.handler,))

    def add_federation(self, servicer: FederationServicer) -> None:
        """Serve federation documents here."""
        federation_pb2_grpc.add_FederationServiceServicer_to_server(servicer, self._server)

    def add_audit(self, servicer: AuditServicer) -> None:
        """Serve the log here, to those whom this listener serves."""
        audit_pb2_grpc.add_AuditServiceServicer_to_server(servicer, self._server)

    def add_keys(self, servicer: KeyServicer) -> None:
        """Serve the province's own keys here."""
        keys_pb2_grpc.add_KeyServiceServicer_to_server(servicer, self._server)

    def add_anchor(self, servicer: AnchorServicer) -> None:
        """Serve the anchor's members here."""
        anchor_pb2_grpc.add_AnchorServiceServicer_to_server(servicer, self._server)

    def add_reflection(self) -> None:
        """Let tools list the services."""
        names = (
            *(VERIFICATION_SERVICE, ISSUANCE_SERVICE, FEDERATION_SERVICE, KEY_SERVICE, ANCHOR_SERVICE, AUDIT_SERVICE),
            health.SERVICE_NAME,
        )
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server)

    def charge(self, identity: str, count: int) -> None:
        """Count the credentials that a caller brings beside the first of a call; raises as ``Intake.charge``."""
        self._intake.charge(identity, count)

    def set_health(self, services: Mapping[str, bool]) -> None:
        """Tell load balancers which services are fit to be asked."""
        for name, serving in services.items():
            status = health_pb2.HealthCheckResponse
            self.health.set(name, status.SERVING if serving else status.NOT_SERVING)

    def start(self) -> None:
        """Begin serving."""
        self._started = True
        self._server.start()

    def turn_away(self) -> None:
        """Take no more connections, and serve those there are until each has come to its age."""
        stop_listening(self.port)

    @property
    def is_deserted(self) -> bool:
        """Whether nobody is connected any more."""
        return count_connections(self.port) == 0

    def stop(self, grace_seconds: float) -> Callable[[], None]:
        """Refuse new calls and let running ones end; the value returned waits for that."""
        until = time.monotonic() + grace_seconds
        self.health.enter_graceful_shutdown()
        self._guard.end_streams()
        self._intake.drain()
        if not self._started:
            self._server.start()  # gRPC gives an address back only when a server that ran is stopped
        stop_listening(self.port)
        are_under_way = calls_under_way(self._server)

        def wait() -> None:
            while are_under_way() and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
            # All that come meanwhile are refused. gRPC would cancel them from here on, so none may come any more.
            end_connections(self.port)
            self._server.stop(0).wait()
            self._guard.close()
            self._intake.close()

        return wait


def _credentials(material: Callable[[], ChannelMaterial]) -> grpc.ServerCredentials:
    given = material()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        present = material()
        if present == given:
            return None
        given = present
        return _configuration(present)

    fetch: Any = changed  # the stubs do not know that it may say "no change"
    return grpc.dynamic_ssl_server_credentials(_configuration(given), fetch, require_client_authentication=True)


def _configuration(material: ChannelMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.private_key, material.certificate)], root_certificates=material.cas
    )
