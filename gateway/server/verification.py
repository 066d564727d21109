"""VerificationService: for service backends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import grpc
from recognition.v1 import verification_pb2, verification_pb2_grpc

from gateway import wire
from gateway.clock import World
from gateway.consents import Consents
from gateway.core.agreement import Words
from gateway.core.explanation import ExplainedStep
from gateway.core.reasons import InvalidRequest, NotPermitted, Overloaded, Unavailable
from gateway.explainer import Explainer, Explanation
from gateway.guard import caller_of, failure
from gateway.tls import Caller, CallerReader
from gateway.turns import Turns
from gateway.verifier import MAX_TOGETHER, Acceptance, Answer, Rejection, Verifier

MAX_PAUSE_SECONDS: Final = 1.0
"""How long items of a stream that are over their caller's rate wait to be told."""


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

    def BatchVerifyCredentials(
        self, request: verification_pb2.BatchVerifyCredentialsRequest, context: grpc.ServicerContext
    ) -> verification_pb2.BatchVerifyCredentialsResponse:
        """Refuse."""
        raise _elsewhere()

    def StreamVerifyCredentials(
        self,
        request_iterator: Iterator[verification_pb2.StreamVerifyCredentialsRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[verification_pb2.StreamVerifyCredentialsResponse]:
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
        self,
        verifier: Verifier,
        consents: Consents,
        explainer: Explainer,
        callers: CallerReader,
        world: World,
        *,
        charge: Callable[[str, int], None],
    ) -> None:
        """Prepare.

        Args:
            verifier: answers.
            consents: records consents.
            explainer: explains decisions.
            callers: tells who calls.
            world: clock and randomness.
            charge: counts presentations that a caller brings in batches and streams; see ``Intake.charge``.
        """
        super().__init__(explainer, callers, world)
        self._charge = charge
        self._never = threading.Event()
        self._verifier = verifier
        self._consents = consents
        self._turns = Turns()

    def CreateChallenge(
        self, request: verification_pb2.CreateChallengeRequest, context: grpc.ServicerContext
    ) -> verification_pb2.CreateChallengeResponse:
        """Make a nonce for one presentation."""
        with self._turns.single():
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
        with self._turns.single():
            caller = caller_of(context, self._callers, self._world)
            answer = self._verifier.verify(caller, wire.verify_request(request))
            response = verification_pb2.VerifyCredentialResponse()
            _write_answer(response, answer)
            return response

    def BatchVerifyCredentials(
        self, request: verification_pb2.BatchVerifyCredentialsRequest, context: grpc.ServicerContext
    ) -> verification_pb2.BatchVerifyCredentialsResponse:
        """Verify several presentations."""
        caller = caller_of(context, self._callers, self._world)
        self._verifier.require_service(caller)
        items = wire.batch_items(request)
        self._charge(caller.identity, len(items))
        response = verification_pb2.BatchVerifyCredentialsResponse()
        asked: set[str] = set()

        def write(_item: verification_pb2.VerifyCredentialRequest, outcome: Answer | Exception) -> None:
            self._write_result(response.results.add(), outcome)

        for begin in range(0, len(items), MAX_TOGETHER):
            if not context.is_active():
                # What is decided for nobody would spend nonces for nothing.
                raise Unavailable("nobody waits for the answer")
            with self._turns.bulk(caller.identity) as turn:
                some = items[begin : begin + MAX_TOGETHER]
                self._verifier.verify_all(caller, some, read=wire.verify_request, write=write, turn=turn, asked=asked)
        return response

    def StreamVerifyCredentials(
        self,
        request_iterator: Iterator[verification_pb2.StreamVerifyCredentialsRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[verification_pb2.StreamVerifyCredentialsResponse]:
        """Verify presentations as they come."""
        self._verifier.require_service(caller_of(context, self._callers, self._world))
        for request in request_iterator:
            items, flaw = wire.stream_items(request)
            if items:
                # Looked at anew: a stream may outlive the caller's certificate.
                caller = caller_of(context, self._callers, self._world)
                yield self._stream_response(caller, items)
            if flaw is not None:
                raise flaw

    def _stream_response(
        self, caller: Caller, items: Sequence[verification_pb2.StreamItem]
    ) -> verification_pb2.StreamVerifyCredentialsResponse:
        response = verification_pb2.StreamVerifyCredentialsResponse()
        asked: set[str] = set()

        def write(item: verification_pb2.StreamItem, outcome: Answer | Exception) -> None:
            self._write_result(response.results.add(item_id=item.item_id), outcome)

        try:
            self._charge(caller.identity, len(items))
        except Overloaded as error:
            # Answered at once, it would be sent again at once; while it waits, so does whoever sends.
            self._never.wait(min(error.retry_after_seconds, MAX_PAUSE_SECONDS))
            for item in items:
                write(item, error)
            return response
        for begin in range(0, len(items), MAX_TOGETHER):
            some = items[begin : begin + MAX_TOGETHER]
            with self._turns.bulk(caller.identity) as turn:
                self._verifier.verify_all(
                    caller,
                    some,
                    read=lambda item: wire.verify_request(item.request),
                    write=write,
                    turn=turn,
                    asked=asked,
                )
        return response

    def _write_result(
        self, result: verification_pb2.VerificationResult | verification_pb2.StreamResult, outcome: Answer | Exception
    ) -> None:
        if isinstance(outcome, Answer):
            try:
                _write_answer(result.response, outcome)
            except Exception as bug:  # noqa: BLE001 - a bug that one answer meets must not cost all others
                result.ClearField("response")
                outcome = bug
            else:
                return
        found = failure(outcome, self._world)
        error = result.error
        error.code, error.reason, error.description = found.code, found.reason, found.description
        error.field = found.field
        if found.retry_after_seconds is not None:
            error.retry_delay.CopyFrom(wire.duration(timedelta(seconds=found.retry_after_seconds)))

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


def _write_answer(response: verification_pb2.VerifyCredentialResponse, answer: Answer) -> None:
    response.verification_id = answer.verification_id
    wire.write_timestamp(response.verify_time, answer.decided_at)
    response.next_step = wire.next_step_number(answer.next_step)
    response.receipt = answer.receipt
    response.repeated = answer.repeated
    basis = response.trust_basis
    basis.charter_version = answer.basis.charter_version
    basis.view_id = answer.basis.view_id
    basis.stale = answer.basis.stale
    if answer.basis.age is not None:
        wire.write_duration(basis.age, answer.basis.age)
    if answer.status is not None:
        response.status_basis.list = answer.status.uri
        wire.write_timestamp(response.status_basis.issue_time, answer.status.issued_at)
        wire.write_duration(response.status_basis.age, answer.status.age)
    match answer.verdict:
        case Acceptance() as accepted:
            _write_acceptance(response.accepted, accepted, answer.decided_at)
        case Rejection(reason=reason):
            response.rejected.reason = wire.reason_number(reason)
        case undecided:
            response.indeterminate.reason = wire.reason_number(undecided.reason)
            wire.write_duration(response.indeterminate.retry_after, undecided.retry_after)


def _write_acceptance(message: verification_pb2.Acceptance, accepted: Acceptance, now: datetime) -> None:
    message.subject = accepted.subject
    message.previous_subject = accepted.previous_subject
    message.subject_type = wire.subject_type_number(accepted.subject_type)
    message.issuer = accepted.issuer
    message.issuing_province = accepted.province
    message.household_province = accepted.household_province
    message.credential_type = accepted.credential_type
    assurance = message.assurance
    assurance.identity = accepted.assurance.identity
    assurance.authenticator = accepted.assurance.authenticator
    assurance.federation = accepted.assurance.federation
    assurance.acr, assurance.level = accepted.acr, accepted.level
    wire.write_struct(message.attributes, accepted.attributes)
    message.predicate_answers.extend(
        [
            verification_pb2.PREDICATE_ANSWER_YES if holds else verification_pb2.PREDICATE_ANSWER_NO
            for holds in accepted.answers
        ]
    )
    wire.write_timestamp(message.issue_time, accepted.issued_at)
    wire.write_duration(message.credential_age, _age(accepted.issued_at, now))
    wire.write_timestamp(message.authentication_time, accepted.authenticated_at)
    wire.write_duration(message.authentication_age, _age(accepted.authenticated_at, now))
    wire.write_timestamp(message.expire_time, accepted.expires_at)
    message.holder_bound = accepted.holder_bound
    wire.write_timestamp(message.erase_time, accepted.erase_at)
    message.legal_basis = accepted.legal_basis
    if accepted.actor is not None:
        actor = message.actor
        actor.subject = accepted.actor.subject
        actor.previous_subject = accepted.actor.previous_subject
        actor.relationship = accepted.actor.relationship.value
        wire.write_struct(actor.attributes, accepted.actor.attributes)


def _age(since: datetime, now: datetime) -> timedelta:
    # The issuer's clock may run ahead by the skew that everybody tolerates.
    return max(_NO_TIME, now - since)


_NO_TIME: Final = timedelta(0)


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
