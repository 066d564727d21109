"""VerificationService: for service backends."""

from __future__ import annotations

import grpc
from recognition.v1 import verification_pb2, verification_pb2_grpc

from gateway import wire
from gateway.clock import World
from gateway.guard import caller_of
from gateway.tls import CallerReader
from gateway.verifier import Acceptance, Answer, Rejection, Verifier


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
        caller = caller_of(context, self._callers, self._world)
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
        caller = caller_of(context, self._callers, self._world)
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
