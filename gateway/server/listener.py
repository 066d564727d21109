"""One gRPC server: an address, mutual TLS, its own threads, health."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
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
from gateway.guard import Guard
from gateway.server.anchor import AnchorServicer
from gateway.server.audit import AuditServicer
from gateway.server.federation import FederationServicer
from gateway.server.issuance import IssuanceServicer
from gateway.server.keys import KeyServicer
from gateway.server.verification import ExplanationServicer
from gateway.tls import CallerReader

MAX_REQUEST_BYTES: Final = 256 * 1024
"""A presentation is at most 64 KiB; the rest is room for the attributes of an issuance."""
MAX_UNSEEN_CALLS: Final = 1_024
"""Calls that wait until it is seen whose they are, where domains have shares. No message of theirs is taken yet, and
seeing takes less than a millisecond."""
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
        calls_per_domain: int = 0,
        streams: int = 0,
        open_streams: bool = False,
        max_request_bytes: int = MAX_REQUEST_BYTES,
    ) -> None:
        """Bind the address; serving begins with ``start``.

        Args:
            address: host:port.
            material: gives our certificate, and the CAs that callers' must come from, as they are now. Asked at every
                handshake.
            callers: tells who calls.
            threads: for calls of one message; those that answer with a stream have theirs beside these.
            max_concurrent_calls: taken at one time, streams not counted. Where domains have shares, these bound it, and
                so many more calls may wait for the moment it takes to see whose they are.
            world: clock and randomness.
            calls_per_domain: see ``Guard``.
            streams: see ``Guard``.
            open_streams: see ``Guard``.
            max_request_bytes: the largest message taken.

        Raises:
            OSError: the address is taken or not ours.
        """
        self._guard = Guard(
            world,
            callers,
            share=max(1, threads // 4),
            calls_per_domain=calls_per_domain,
            streams=streams,
            open_streams=open_streams,
        )
        # gRPC counts what waits without regard to whose it is, so whoever fills that count locks everybody out.
        unseen = MAX_UNSEEN_CALLS if calls_per_domain else 0
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=threads + streams, thread_name_prefix="rpc"),
            interceptors=[self._guard],
            maximum_concurrent_rpcs=max_concurrent_calls + streams + unseen,
            options=[
                ("grpc.max_receive_message_length", max_request_bytes),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.max_connection_age_ms", 3_600_000),
                ("grpc.max_connection_age_grace_ms", 30_000),
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

    def set_health(self, services: Mapping[str, bool]) -> None:
        """Tell load balancers which services are fit to be asked."""
        for name, serving in services.items():
            status = health_pb2.HealthCheckResponse
            self.health.set(name, status.SERVING if serving else status.NOT_SERVING)

    def start(self) -> None:
        """Begin serving."""
        self._started = True
        self._server.start()

    def stop(self, grace_seconds: float) -> Callable[[], None]:
        """Refuse new calls and let running ones end; the value returned waits for that."""
        self.health.enter_graceful_shutdown()
        self._guard.end_streams()
        if not self._started:
            # gRPC gives an address back only when a server that ran is stopped.
            self._server.start()
            grace_seconds = 0
        stopped = self._server.stop(grace_seconds)

        def wait() -> None:
            stopped.wait()
            self._guard.close()

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
