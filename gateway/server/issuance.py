"""IssuanceService: for the province's own identity systems."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc
from recognition.v1 import issuance_pb2, issuance_pb2_grpc

from gateway import wire
from gateway.clock import World
from gateway.core.reasons import NotPermitted
from gateway.core.status_list import Status
from gateway.guard import caller_of
from gateway.issuer import ActingFor, Issuer, Subject
from gateway.leading import ALONE, Leading
from gateway.status_register import ListSummary, StatusRegister
from gateway.storage import OwnStatus
from gateway.tls import CallerReader


class IssuanceServicer(issuance_pb2_grpc.IssuanceServiceServicer):
    """For the province's own identity systems."""

    def __init__(
        self,
        issuer: Issuer,
        register: Callable[[], StatusRegister],
        systems: Sequence[str],
        callers: CallerReader,
        world: World,
        *,
        leading: Leading = ALONE,
    ) -> None:
        self._issuer = issuer
        self._register = register
        self._systems = frozenset(systems)
        self._callers = callers
        self._world = world
        self._leading = leading

    def IssueCredential(
        self, request: issuance_pb2.IssueCredentialRequest, context: grpc.ServicerContext
    ) -> issuance_pb2.IssueCredentialResponse:
        """Issue a credential."""
        self._permit(context)
        issued = self._issuer.issue_credential(
            _subject(request),
            credential_type=request.credential_type,
            holder_jwk=request.holder_jwk,
            authentication=wire.authentication(request.authentication),
            lifetime=wire.lifetime(request),
        )
        return issuance_pb2.IssueCredentialResponse(
            credential=issued.token,
            expire_time=wire.timestamp(issued.expires_at),
            credential_id=issued.credential_id,
        )

    def IssueAssertion(
        self, request: issuance_pb2.IssueAssertionRequest, context: grpc.ServicerContext
    ) -> issuance_pb2.IssueAssertionResponse:
        """Issue an assertion."""
        self._permit(context)
        issued = self._issuer.issue_assertion(
            _subject(request),
            audience=wire.entity_id("audience", request.audience),
            authentication=wire.authentication(request.authentication),
            certificate_sha256=wire.certificate_sha256(request.confirmation_certificate_sha256),
            lifetime=wire.lifetime(request),
        )
        return issuance_pb2.IssueAssertionResponse(
            assertion=issued.token, expire_time=wire.timestamp(issued.expires_at)
        )

    def SetCredentialStatus(
        self, request: issuance_pb2.SetCredentialStatusRequest, context: grpc.ServicerContext
    ) -> issuance_pb2.SetCredentialStatusResponse:
        """Set what became of credentials."""
        system = self._permit(context)
        results = self._register().set_status(wire.targets(request.targets), wire.status(request.status), system)
        return issuance_pb2.SetCredentialStatusResponse(
            results=[
                issuance_pb2.CredentialStatusResult(changed=each.changed, refused=each.refused, known=each.known)
                for each in results
            ],
            effective_within=wire.duration(self._register().ttl),
        )

    def GetCredentialStatus(
        self, request: issuance_pb2.GetCredentialStatusRequest, context: grpc.ServicerContext
    ) -> issuance_pb2.GetCredentialStatusResponse:
        """Give what became of credentials."""
        self._permit(context)
        found = self._register().find(wire.target("target", request.target))
        return issuance_pb2.GetCredentialStatusResponse(credentials=[_credential(each) for each in found])

    def ListStatusLists(
        self, request: issuance_pb2.ListStatusListsRequest, context: grpc.ServicerContext
    ) -> issuance_pb2.ListStatusListsResponse:
        """Give the status lists."""
        self._permit(context)
        return issuance_pb2.ListStatusListsResponse(lists=[_list(each) for each in self._register().lists()])

    def _permit(self, context: grpc.ServicerContext) -> str:
        identity = caller_of(context, self._callers, self._world).identity
        if identity not in self._systems:
            raise NotPermitted("caller is not a registered identity system")
        self._leading.require()
        return identity


def _credential(status: OwnStatus) -> issuance_pb2.IssuedCredential:
    message = issuance_pb2.IssuedCredential(
        credential_id=status.credential_id or "",
        status=wire.status_number(Status(status.status)),
        list=status.uri,
        index=status.place,
    )
    if status.expires_at is not None:
        message.expire_time.CopyFrom(wire.timestamp(status.expires_at))
    if status.changed_at is not None:
        message.change_time.CopyFrom(wire.timestamp(status.changed_at))
    return message


def _list(summary: ListSummary) -> issuance_pb2.StatusListSummary:
    own, held = summary.own, summary.held
    message = issuance_pb2.StatusListSummary(uri=own.uri, size=own.size, used=own.used, open=not own.closed)
    if held is not None:
        message.issue_time.CopyFrom(wire.timestamp(held.issued_at))
        message.expire_time.CopyFrom(wire.timestamp(held.expires_at))
    return message


def _subject(request: issuance_pb2.IssueCredentialRequest | issuance_pb2.IssueAssertionRequest) -> Subject:
    return Subject(
        local_subject=request.local_subject,
        claims=wire.claims(request.claims),
        subject_type=wire.subject_type(request.subject_type),
        actor=_actor(request.actor) if request.HasField("actor") else None,
    )


def _actor(message: issuance_pb2.IssuedActor) -> ActingFor:
    return ActingFor(
        local_subject=message.local_subject,
        relationship=wire.relationship(message.relationship),
        scope=wire.scope(message.scope),
        claims=wire.claims(message.claims),
        expires_at=wire.instant("actor.expire_time", message.expire_time) if message.HasField("expire_time") else None,
    )
