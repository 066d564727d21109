"""IssuanceService: for the province's own identity systems."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from recognition.v1 import issuance_pb2, issuance_pb2_grpc

from gateway import wire
from gateway.clock import World
from gateway.core.reasons import NotPermitted
from gateway.guard import caller_of
from gateway.issuer import Issuer
from gateway.tls import CallerReader


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
        if caller_of(context, self._callers, self._world).identity not in self._systems:
            raise NotPermitted("caller is not a registered identity system")
