"""gRPC on three listeners: verification, federation, admin.

Each listener is a server of its own with its own threads, so that a flood on one starves no other. Every call
arrives over mutual TLS; who calls is read from the certificate's URI, and what it may ask is decided by the
registration for that identity, never by anything in the message.

What goes wrong, and calls that do not get going, are ``guard``'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from recognition.v1 import (
    federation_pb2,
    federation_pb2_grpc,
    issuance_pb2,
    issuance_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
)

from gateway import wire
from gateway.clock import World
from gateway.core.reasons import InvalidRequest, NotHeld, NotPermitted
from gateway.entity import Entity
from gateway.guard import Guard, certificate_of
from gateway.issuer import Issuer
from gateway.resolver import Resolver
from gateway.tls import Caller, CallerReader
from gateway.verifier import Acceptance, Answer, Rejection, Verifier

MAX_REQUEST_BYTES: Final = 256 * 1024
"""A presentation is at most 64 KiB; the rest is room for the attributes of an issuance."""
VERIFICATION_SERVICE: Final = "recognition.v1.VerificationService"
ISSUANCE_SERVICE: Final = "recognition.v1.IssuanceService"
FEDERATION_SERVICE: Final = "recognition.v1.FederationService"


def _caller(context: grpc.ServicerContext, reader: CallerReader, world: World) -> Caller:
    return reader.read(certificate_of(context), world.now())


# -- services ---------------------------------------------------------------------------------------------------------


class VerificationServicer(verification_pb2_grpc.VerificationServiceServicer):
    """For service backends."""

    def __init__(self, verifier: Verifier, callers: CallerReader, world: World) -> None:
        self._verifier = verifier
        self._callers = callers
        self._world = world

    def CreateChallenge(
        self, request: verification_pb2.CreateChallengeRequest, context: grpc.ServicerContext
    ) -> verification_pb2.CreateChallengeResponse:
        """Make a nonce for one presentation."""
        caller = _caller(context, self._callers, self._world)
        challenge = self._verifier.create_challenge(caller, wire.matter_code(request.matter))
        return verification_pb2.CreateChallengeResponse(
            nonce=challenge.nonce,
            audience=challenge.audience,
            expire_time=wire.timestamp(challenge.expires_at),
        )

    def VerifyCredential(
        self, request: verification_pb2.VerifyCredentialRequest, context: grpc.ServicerContext
    ) -> verification_pb2.VerifyCredentialResponse:
        """Verify one presentation."""
        caller = _caller(context, self._callers, self._world)
        wanted = wire.verify_request(request)
        answer = self._verifier.verify(
            caller,
            matter_code=wanted.matter,
            presentation=wanted.presentation,
            nonce=wanted.nonce,
            request_id=wanted.request_id,
        )
        return _verify_response(answer)


def _verify_response(answer: Answer) -> verification_pb2.VerifyCredentialResponse:
    basis = verification_pb2.TrustBasis(
        charter_version=answer.basis.charter_version, view_id=answer.basis.view_id, stale=answer.basis.stale
    )
    if answer.basis.age is not None:
        basis.age.CopyFrom(wire.duration(answer.basis.age))
    response = verification_pb2.VerifyCredentialResponse(
        verification_id=answer.verification_id,
        verify_time=wire.timestamp(answer.decided_at),
        trust_basis=basis,
    )
    match answer.verdict:
        case Acceptance() as accepted:
            response.accepted.CopyFrom(_acceptance(accepted))
        case Rejection(reason=reason):
            response.rejected.reason = wire.reason_number(reason)
        case undecided:
            response.indeterminate.reason = wire.reason_number(undecided.reason)
            response.indeterminate.retry_after.CopyFrom(wire.duration(undecided.retry_after))
    return response


def _acceptance(accepted: Acceptance) -> verification_pb2.Acceptance:
    return verification_pb2.Acceptance(
        subject=accepted.subject,
        issuer=accepted.issuer,
        issuing_province=accepted.province,
        credential_type=accepted.credential_type,
        assurance=verification_pb2.Assurance(
            identity=accepted.assurance.identity,
            authenticator=accepted.assurance.authenticator,
            federation=accepted.assurance.federation,
            acr=accepted.acr,
        ),
        attributes=wire.struct(accepted.attributes),
        issue_time=wire.timestamp(accepted.issued_at),
        authentication_time=wire.timestamp(accepted.authenticated_at),
        expire_time=wire.timestamp(accepted.expires_at),
        holder_bound=accepted.holder_bound,
    )


class IssuanceServicer(issuance_pb2_grpc.IssuanceServiceServicer):
    """For the province's own identity systems."""

    def __init__(self, issuer: Issuer, systems: Sequence[str], callers: CallerReader, world: World) -> None:
        self._issuer = issuer
        self._systems = frozenset(systems)
        self._callers = callers
        self._world = world

    def IssueCredential(
        self, request: issuance_pb2.IssueCredentialRequest, context: grpc.ServicerContext
    ) -> issuance_pb2.IssueCredentialResponse:
        """Issue a credential."""
        self._permit(context)
        issued = self._issuer.issue_credential(
            local_subject=request.local_subject,
            credential_type=request.credential_type,
            claims=wire.claims(request.claims),
            holder_jwk=request.holder_jwk,
            authentication=wire.authentication(request.authentication),
            lifetime=wire.lifetime(request),
        )
        return issuance_pb2.IssueCredentialResponse(
            credential=issued.token, expire_time=wire.timestamp(issued.expires_at)
        )

    def IssueAssertion(
        self, request: issuance_pb2.IssueAssertionRequest, context: grpc.ServicerContext
    ) -> issuance_pb2.IssueAssertionResponse:
        """Issue an assertion."""
        self._permit(context)
        issued = self._issuer.issue_assertion(
            local_subject=request.local_subject,
            audience=wire.entity_id("audience", request.audience),
            claims=wire.claims(request.claims),
            authentication=wire.authentication(request.authentication),
            certificate_sha256=wire.certificate_sha256(request.confirmation_certificate_sha256),
            lifetime=wire.lifetime(request),
        )
        return issuance_pb2.IssueAssertionResponse(
            assertion=issued.token, expire_time=wire.timestamp(issued.expires_at)
        )

    def _permit(self, context: grpc.ServicerContext) -> None:
        if _caller(context, self._callers, self._world).identity not in self._systems:
            raise NotPermitted("caller is not a registered identity system")


class FederationServicer(federation_pb2_grpc.FederationServiceServicer):
    """Signed documents, for anyone whose certificate a province issued."""

    def __init__(self, resolver: Resolver, own: Mapping[str, Entity], callers: CallerReader, world: World) -> None:
        self._resolver = resolver
        self._own = own
        self._callers = callers
        self._world = world

    def GetCharter(
        self, request: federation_pb2.GetCharterRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetCharterResponse:
        """Give a charter."""
        _caller(context, self._callers, self._world)
        document = self._resolver.charter_document(request.version)
        if document is None:
            raise NotHeld("charter of that version is not held here")
        return federation_pb2.GetCharterResponse(charter=document)

    def GetEntityConfiguration(
        self, request: federation_pb2.GetEntityConfigurationRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetEntityConfigurationResponse:
        """Give an entity configuration."""
        _caller(context, self._callers, self._world)
        entity_id = wire.entity_id("entity_id", request.entity_id)
        return federation_pb2.GetEntityConfigurationResponse(statement=self._statement(entity_id, entity_id))

    def GetSubordinateStatement(
        self, request: federation_pb2.GetSubordinateStatementRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetSubordinateStatementResponse:
        """Give what an anchor says about a member."""
        _caller(context, self._callers, self._world)
        issuer = wire.entity_id("issuer", request.issuer)
        subject = wire.entity_id("subject", request.subject)
        if issuer == subject:
            # OpenID Federation 1.0 section 8.1.1: an entity makes no subordinate statement about itself.
            raise InvalidRequest("subject", "must not be the issuer")
        return federation_pb2.GetSubordinateStatementResponse(statement=self._statement(issuer, subject))

    def GetHistoricalKeys(
        self, request: federation_pb2.GetHistoricalKeysRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetHistoricalKeysResponse:
        """Give an entity's past keys."""
        _caller(context, self._callers, self._world)
        entity = self._own.get(wire.entity_id("entity_id", request.entity_id))
        if entity is None:
            raise NotHeld("entity is not one of this gateway's")
        return federation_pb2.GetHistoricalKeysResponse(key_set=entity.historical_keys(self._world.now()))

    def _statement(self, issuer: str, subject: str) -> str:
        statement = self._resolver.document(issuer, subject)
        if statement is None:
            raise NotHeld("statement is not held here")
        return statement


# -- listeners --------------------------------------------------------------------------------------------------------


class Listener:
    """One gRPC server: an address, mutual TLS, its own threads, health."""

    def __init__(
        self,
        *,
        address: str,
        certificate: bytes,
        private_key: bytes,
        client_cas: bytes,
        callers: CallerReader,
        threads: int,
        max_concurrent_calls: int,
        world: World,
        streams: bool = False,
    ) -> None:
        """Bind the address; serving begins with ``start``.

        Raises:
            OSError: the address is taken or not ours.
        """
        guard = Guard(world, callers, share=max(1, threads // 4), streams=streams)
        self._close_guard = guard.reception.close
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=threads, thread_name_prefix="rpc"),
            interceptors=[guard],
            maximum_concurrent_rpcs=max_concurrent_calls,
            options=[
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
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
        credentials = grpc.ssl_server_credentials(
            [(private_key, certificate)], root_certificates=client_cas, require_client_auth=True
        )
        try:
            self.port: int = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        if self.port == 0:
            raise OSError(f"cannot listen on {address}")

    def add_verification(self, servicer: VerificationServicer) -> None:
        """Serve verification here."""
        verification_pb2_grpc.add_VerificationServiceServicer_to_server(servicer, self._server)

    def add_issuance(self, servicer: IssuanceServicer) -> None:
        """Serve issuance here."""
        issuance_pb2_grpc.add_IssuanceServiceServicer_to_server(servicer, self._server)

    def add_federation(self, servicer: FederationServicer) -> None:
        """Serve federation documents here."""
        federation_pb2_grpc.add_FederationServiceServicer_to_server(servicer, self._server)

    def add_reflection(self) -> None:
        """Let tools list the services."""
        names = (VERIFICATION_SERVICE, ISSUANCE_SERVICE, FEDERATION_SERVICE, health.SERVICE_NAME)
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
        if not self._started:
            # gRPC gives an address back only when a server that ran is stopped.
            self._server.start()
            grace_seconds = 0
        stopped = self._server.stop(grace_seconds)

        def wait() -> None:
            stopped.wait()
            self._close_guard()

        return wait
