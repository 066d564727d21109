"""Values to messages and back. What is no proper answer raises ``DamagedAnswer``; what is new in one is left out."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from recognition.errors import DamagedAnswer, RecognitionError, from_code, read_duration, status_code
from recognition.reasons import NextStep, Reason
from recognition.v1 import verification_pb2
from recognition.verdicts import (
    Accepted,
    Actor,
    AgeAtLeast,
    Assurance,
    Challenge,
    ClaimMatches,
    Consent,
    Decision,
    ExplainedStep,
    Explanation,
    Failure,
    HouseholdIn,
    Indeterminate,
    LocalizedText,
    Outcome,
    Predicate,
    Rejected,
    StatusBasis,
    StepOutcome,
    SubjectType,
    TrustBasis,
    Verdict,
    VerifyRequest,
)

_ANSWERS: Final = {verification_pb2.PREDICATE_ANSWER_YES: True, verification_pb2.PREDICATE_ANSWER_NO: False}
_SUBJECT_TYPES: Final = {each.value: each for each in SubjectType}
_STEP_OUTCOMES: Final = {each.value: each for each in StepOutcome}


# -- to the gateway ---------------------------------------------------------------------------------------------------


def new_request_id() -> str:
    """Make a reference that nobody else makes; never one that a command line would take for an option."""
    made = secrets.token_urlsafe(16)
    return f"A{made[1:]}" if made.startswith("-") else made


def question(request: VerifyRequest) -> verification_pb2.VerifyCredentialRequest:
    """Write a request. One without a reference gets one, which all tries then share."""
    message = verification_pb2.VerifyCredentialRequest(
        matter=request.matter,
        presentation=request.presentation,
        nonce=request.nonce,
        request_id=request.request_id or new_request_id(),
        consent_id=request.consent_id,
        terminal=request.terminal,
        want_receipt=request.want_receipt,
    )
    if request.predicates:
        message.predicates.extend(map(_predicate, request.predicates))
    return message


def duration(span: timedelta) -> Duration:
    """Write a duration."""
    message = Duration()
    message.FromTimedelta(span)
    return message


def _predicate(predicate: Predicate) -> verification_pb2.Predicate:
    match predicate:
        case AgeAtLeast(years=years):
            return verification_pb2.Predicate(age_at_least=years)
        case HouseholdIn(provinces=provinces):
            return verification_pb2.Predicate(household_in=verification_pb2.HouseholdIn(provinces=provinces))
        case ClaimMatches(claim=claim, value=value):
            return verification_pb2.Predicate(claim_matches=verification_pb2.ClaimMatch(claim=claim, value=value))


# -- from the gateway -------------------------------------------------------------------------------------------------


def challenge(answer: verification_pb2.CreateChallengeResponse) -> Challenge:
    """Read a challenge."""
    return Challenge(nonce=answer.nonce, audience=answer.audience, expires_at=_time(answer.expire_time, ""))


def consent(answer: verification_pb2.RecordConsentResponse) -> Consent:
    """Read a consent."""
    return Consent(consent_id=answer.consent_id, expires_at=_time(answer.expire_time, ""))


def withdrawal(answer: verification_pb2.WithdrawConsentResponse) -> datetime:
    """Read since when a consent is withdrawn."""
    return _time(answer.withdraw_time, "")


def decision(
    answer: verification_pb2.VerifyCredentialResponse, asked: verification_pb2.VerifyCredentialRequest
) -> Decision:
    """Read a decision.

    Raises:
        DamagedAnswer: it holds no verdict, or one of a kind that is not known.
    """
    request_id, basis = asked.request_id, answer.trust_basis
    return Decision(
        verdict=_verdict(answer, asked),
        verification_id=answer.verification_id,
        decided_at=_time(answer.verify_time, request_id),
        next_step=NextStep.of(answer.next_step),
        receipt=answer.receipt,
        trust_basis=TrustBasis(
            charter_version=basis.charter_version,
            view_id=basis.view_id,
            age=read_duration(basis.age) if basis.HasField("age") else None,
            stale=basis.stale,
        ),
        status_basis=_status_basis(answer.status_basis, request_id) if answer.HasField("status_basis") else None,
        request_id=request_id,
    )


def outcome(
    result: verification_pb2.VerificationResult | verification_pb2.StreamResult,
    asked: verification_pb2.VerifyCredentialRequest,
) -> Outcome:
    """Read what became of one of many."""
    match result.WhichOneof("result"):
        case "response":
            try:
                return decision(result.response, asked)
            except DamagedAnswer as error:
                return Failure(error)
        case "error":
            return Failure(_item_error(result.error, asked.request_id))
        case _:
            return Failure(DamagedAnswer("neither a decision nor an error", request_id=asked.request_id))


def explanation(answer: verification_pb2.ExplainVerificationResponse) -> Explanation:
    """Read how a decision came about."""
    return Explanation(
        verification_id=answer.verification_id,
        decided_at=_time(answer.verify_time, ""),
        service=answer.service,
        matter=answer.matter,
        verdict=answer.verdict,
        reason=Reason.of(answer.reason) if answer.reason else None,
        steps=tuple(map(_step, answer.steps)),
    )


def _verdict(
    answer: verification_pb2.VerifyCredentialResponse, asked: verification_pb2.VerifyCredentialRequest
) -> Verdict:
    match answer.WhichOneof("verdict"):
        case "accepted":
            return _accepted(answer.accepted, asked)
        case "rejected":
            number = answer.rejected.reason
            return Rejected(reason=Reason.of(number), number=number)
        case "indeterminate":
            number = answer.indeterminate.reason
            retry_after = read_duration(answer.indeterminate.retry_after)
            return Indeterminate(reason=Reason.of(number), number=number, retry_after=retry_after)
        case _:
            raise DamagedAnswer("no verdict, or one of a kind that is not known", request_id=asked.request_id)


def _accepted(accepted: verification_pb2.Acceptance, asked: verification_pb2.VerifyCredentialRequest) -> Accepted:
    request_id, assurance = asked.request_id, accepted.assurance
    return Accepted(
        subject=accepted.subject,
        issuer=accepted.issuer,
        issuing_province=accepted.issuing_province,
        credential_type=accepted.credential_type,
        assurance=Assurance(
            identity=assurance.identity,
            authenticator=assurance.authenticator,
            federation=assurance.federation,
            acr=assurance.acr,
            level=assurance.level,
        ),
        attributes=_attributes(accepted.attributes),
        issued_at=_time(accepted.issue_time, request_id) if accepted.HasField("issue_time") else None,
        authenticated_at=(
            _time(accepted.authentication_time, request_id) if accepted.HasField("authentication_time") else None
        ),
        expires_at=_time(accepted.expire_time, request_id) if accepted.HasField("expire_time") else None,
        holder_bound=accepted.holder_bound,
        predicate_answers=_answers(accepted, asked) if accepted.predicate_answers or asked.predicates else (),
        subject_type=_SUBJECT_TYPES.get(accepted.subject_type, SubjectType.UNRECOGNISED),
        actor=_actor(accepted.actor) if accepted.HasField("actor") else None,
        household_province=accepted.household_province,
        credential_age=read_duration(accepted.credential_age),
        authentication_age=read_duration(accepted.authentication_age),
        erase_at=_time(accepted.erase_time, request_id) if accepted.HasField("erase_time") else None,
        previous_subject=accepted.previous_subject,
        legal_basis=accepted.legal_basis,
    )


def _answers(
    accepted: verification_pb2.Acceptance, asked: verification_pb2.VerifyCredentialRequest
) -> tuple[bool, ...]:
    numbers = accepted.predicate_answers
    if len(numbers) != len(asked.predicates) or any(number not in _ANSWERS for number in numbers):
        raise DamagedAnswer("not a yes or no to each question", request_id=asked.request_id)
    return tuple(_ANSWERS[number] for number in numbers)


def _actor(actor: verification_pb2.Actor) -> Actor:
    return Actor(
        subject=actor.subject,
        relationship=actor.relationship,
        attributes=_attributes(actor.attributes),
        previous_subject=actor.previous_subject,
    )


def _status_basis(basis: verification_pb2.StatusBasis, request_id: str) -> StatusBasis:
    return StatusBasis(
        list=basis.list,
        issued_at=_time(basis.issue_time, request_id) if basis.HasField("issue_time") else None,
        age=read_duration(basis.age),
    )


def _step(step: verification_pb2.ExplainedStep) -> ExplainedStep:
    return ExplainedStep(
        number=step.number,
        title=_text(step.title),
        outcome=_STEP_OUTCOMES.get(step.outcome, StepOutcome.UNRECOGNISED),
        inputs=dict(step.inputs),
        reason=Reason.of(step.reason) if step.reason else None,
        meaning=_text(step.meaning) if step.HasField("meaning") else None,
        fix=_text(step.fix) if step.HasField("fix") else None,
    )


def _text(text: verification_pb2.LocalizedText) -> LocalizedText:
    return LocalizedText(text.zh, text.en)


def _item_error(error: verification_pb2.VerificationError, request_id: str) -> RecognitionError:
    return from_code(
        status_code(error.code),
        f"{error.field} {error.description}".lstrip(),
        reason=error.reason,
        field=error.field,
        retry_after=read_duration(error.retry_delay) if error.HasField("retry_delay") else None,
        request_id=request_id,
    )


def _time(stamp: Timestamp, request_id: str) -> datetime:
    nanos = stamp.nanos
    try:
        time = datetime.fromtimestamp(stamp.seconds, UTC)
        return time + timedelta(microseconds=nanos // 1_000) if nanos else time
    except (OverflowError, ValueError, OSError) as error:
        raise DamagedAnswer("a time out of range", request_id=request_id) from error


def _attributes(struct: Struct) -> Mapping[str, Any]:
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _attributes(value.struct_value)
        case "list_value":
            return [_plain(each) for each in value.list_value.values]
        case _:
            return None
