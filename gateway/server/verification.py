"""VerificationService: for service backends."""

from __future__ import annotations

from datetime import datetime, timedelta

import grpc
from google.protobuf import duration_pb2
from recognition.v1 import verification_pb2, verification_pb2_grpc

from gateway import wire
from gateway.clock import World
from gateway.consents import Consents
from gateway.core.agreement import Words
from gateway.core.explanation import ExplainedStep
from gateway.core.reasons import InvalidRequest, NotPermitted
from gateway.explainer import Explainer, Explanation
from gateway.guard import caller_of
from gateway.tls import CallerReader
from gateway.verifier import Acceptance, Answer, Rejection, Verifier


class ExplanationServicer(verification_pb2_grpc.VerificationServiceServicer):
    """Explains decisions, and does nothing else: for the admin listener."""

    def __init__(self, explainer: Explainer, callers: CallerReader, world: World) -> None:
        self._explainer = explainer
        self._callers = callers
        self._world = world

    def ExplainVerification(
        self, request: verification_pb2.ExplainVerificationRequest, context: grpc.ServicerContext
    ) -> verification_pb2.ExplainVerificationResponse:
        """Tell how a decision came about."""
        caller = caller_of(context, self._callers, self._world)
        verification_id = wire.reference("verification_id", request.verification_id)
        return _explain_response(self._explainer.explain(caller, verification_id))

    def CreateChallenge(
        self, request: verification_pb2.CreateChallengeRequest, context: grpc.ServicerContext
    ) -> verification_pb2.CreateChallengeResponse:
        """Refuse."""
        raise _elsewhere()

    def VerifyCredential(
        self, request: verification_pb2.VerifyCredentialRequest, context: grpc.ServicerContext
    ) -> verification_pb2.VerifyCredentialResponse:
        """Refuse."""
        raise _elsewhere()

    def RecordConsent(
        self, request: verification_pb2.RecordConsentRequest, context: grpc.ServicerContext
    ) -> verification_pb2.RecordConsentResponse:
        """Refuse."""
        raise _elsewhere()

    def WithdrawConsent(
        self, request: verification_pb2.WithdrawConsentRequest, context: grpc.ServicerContext
    ) -> verification_pb2.WithdrawConsentResponse:
        """Refuse."""
        raise _elsewhere()


def _elsewhere() -> NotPermitted:
    # The few threads of this listener are the administrators'.
    return NotPermitted("is done on the verification listener")


class VerificationServicer(ExplanationServicer):
    """For service backends."""

    def __init__(
        self, verifier: Verifier, consents: Consents, explainer: Explainer, callers: CallerReader, world: World
    ) -> None:
        super().__init__(explainer, callers, world)
        self._verifier = verifier
        self._consents = consents

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
            consent_id=wanted.consent_id,
            predicates=wanted.predicates,
            terminal=wanted.terminal,
            receipt=wanted.want_receipt,
        )
        return _verify_response(answer)

    def RecordConsent(
        self, request: verification_pb2.RecordConsentRequest, context: grpc.ServicerContext
    ) -> verification_pb2.RecordConsentResponse:
        """Record a consent."""
        caller = caller_of(context, self._callers, self._world)
        lifetime = wire.lifetime(request)
        if lifetime is None:
            raise InvalidRequest("lifetime", "is required")
        consent = self._consents.record(
            caller,
            matter_code=wire.matter_code(request.matter),
            claims=wire.claim_names("claims", request.claims),
            lifetime=lifetime,
        )
        return verification_pb2.RecordConsentResponse(
            consent_id=consent.consent_id, expire_time=wire.timestamp(consent.expires_at)
        )

    def WithdrawConsent(
        self, request: verification_pb2.WithdrawConsentRequest, context: grpc.ServicerContext
    ) -> verification_pb2.WithdrawConsentResponse:
        """Withdraw a consent."""
        caller = caller_of(context, self._callers, self._world)
        since = self._consents.withdraw(caller, wire.reference("consent_id", request.consent_id))
        return verification_pb2.WithdrawConsentResponse(withdraw_time=wire.timestamp(since))


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
        next_step=wire.next_step_number(answer.next_step),
        receipt=answer.receipt,
    )
    if answer.status is not None:
        response.status_basis.list = answer.status.uri
        response.status_basis.issue_time.CopyFrom(wire.timestamp(answer.status.issued_at))
        response.status_basis.age.CopyFrom(wire.duration(answer.status.age))
    match answer.verdict:
        case Acceptance() as accepted:
            response.accepted.CopyFrom(_acceptance(accepted, answer.decided_at))
        case Rejection(reason=reason):
            response.rejected.reason = wire.reason_number(reason)
        case undecided:
            response.indeterminate.reason = wire.reason_number(undecided.reason)
            response.indeterminate.retry_after.CopyFrom(wire.duration(undecided.retry_after))
    return response


def _acceptance(accepted: Acceptance, now: datetime) -> verification_pb2.Acceptance:
    message = verification_pb2.Acceptance(
        subject=accepted.subject,
        previous_subject=accepted.previous_subject,
        subject_type=wire.subject_type_number(accepted.subject_type),
        issuer=accepted.issuer,
        issuing_province=accepted.province,
        household_province=accepted.household_province,
        credential_type=accepted.credential_type,
        assurance=verification_pb2.Assurance(
            identity=accepted.assurance.identity,
            authenticator=accepted.assurance.authenticator,
            federation=accepted.assurance.federation,
            acr=accepted.acr,
            level=accepted.level,
        ),
        attributes=wire.struct(accepted.attributes),
        predicate_answers=[
            verification_pb2.PREDICATE_ANSWER_YES if holds else verification_pb2.PREDICATE_ANSWER_NO
            for holds in accepted.answers
        ],
        issue_time=wire.timestamp(accepted.issued_at),
        credential_age=_age(accepted.issued_at, now),
        authentication_time=wire.timestamp(accepted.authenticated_at),
        authentication_age=_age(accepted.authenticated_at, now),
        expire_time=wire.timestamp(accepted.expires_at),
        holder_bound=accepted.holder_bound,
        erase_time=wire.timestamp(accepted.erase_at),
        legal_basis=accepted.legal_basis,
    )
    if accepted.actor is not None:
        message.actor.subject = accepted.actor.subject
        message.actor.previous_subject = accepted.actor.previous_subject
        message.actor.relationship = accepted.actor.relationship.value
        message.actor.attributes.CopyFrom(wire.struct(accepted.actor.attributes))
    return message


def _age(since: datetime, now: datetime) -> duration_pb2.Duration:
    # The issuer's clock may run ahead by the skew that everybody tolerates.
    return wire.duration(max(timedelta(0), now - since))


def _explain_response(explanation: Explanation) -> verification_pb2.ExplainVerificationResponse:
    decision = explanation.decision
    response = verification_pb2.ExplainVerificationResponse(
        verification_id=explanation.verification_id,
        verify_time=wire.timestamp(explanation.decided_at),
        service=decision.service,
        matter=decision.matter,
        verdict=decision.verdict,
        steps=[_step(step) for step in explanation.steps],
    )
    if decision.reason is not None:
        response.reason = wire.reason_number(decision.reason)
    return response


def _step(step: ExplainedStep) -> verification_pb2.ExplainedStep:
    message = verification_pb2.ExplainedStep(
        number=step.step.value,
        title=_localized(step.title),
        outcome=wire.outcome_number(step.outcome),
        inputs=step.inputs,
    )
    if step.reason is not None and step.meaning is not None and step.fix is not None:
        message.reason = wire.reason_number(step.reason)
        message.meaning.CopyFrom(_localized(step.meaning))
        message.fix.CopyFrom(_localized(step.fix))
    return message


def _localized(words: Words) -> verification_pb2.LocalizedText:
    return verification_pb2.LocalizedText(zh=words.zh, en=words.en)
