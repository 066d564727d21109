"""Values to messages and back. What is no proper answer raises ``DamagedAnswer``; what is new in one is left out."""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
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
    Readers,
    Rejected,
    StatusBasis,
    StepOutcome,
    SubjectType,
    TrustBasis,
    Verdict,
    VerifyRequest,
)

_ANSWERS: Final[Mapping[int, bool]] = {
    verification_pb2.PREDICATE_ANSWER_YES: True,
    verification_pb2.PREDICATE_ANSWER_NO: False,
}
_SUBJECT_TYPES: Final = {each.value: each for each in SubjectType}
_STEP_OUTCOMES: Final = {each.value: each for each in StepOutcome}
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_ID_CHARS: Final = 22
_unused_ids: Final[list[str]] = []
"""Made and not given out; a forked process must not give out the same ones."""
if hasattr(os, "register_at_fork"):  # where there is no fork, there is not this either
    os.register_at_fork(after_in_child=_unused_ids.clear)


# -- to the gateway ---------------------------------------------------------------------------------------------------


def new_request_id() -> str:
    """Make a reference that nobody else makes; never one that a command line would take for an option."""
    try:
        return _unused_ids.pop()
    except IndexError:
        # Many at once cost hardly more than one does between two calls.
        text = b2a_base64(os.urandom(_ID_CHARS * 48), newline=False).translate(_URL_SAFE).decode()
        made = [text[at : at + _ID_CHARS] for at in range(0, len(text), _ID_CHARS)]
        first, *others = [f"A{each[1:]}" if each.startswith("-") else each for each in made]
        _unused_ids.extend(others)
        return first


def question(request: VerifyRequest, request_id: str = "") -> verification_pb2.VerifyCredentialRequest:
    """Write a request, with the reference that all tries then share: ``request_id`` if given, its own, or a new one."""
    message = verification_pb2.VerifyCredentialRequest(
        matter=request.matter,
        presentation=request.presentation,
        nonce=request.nonce,
        request_id=request_id or request.request_id or new_request_id(),
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
    return Challenge(nonce=answer.nonce, audience=answer.audience, expires_at=_time(answer.expire_time))


def consent(answer: verification_pb2.RecordConsentResponse) -> Consent:
    """Read a consent."""
    return Consent(consent_id=answer.consent_id, expires_at=_time(answer.expire_time))


def withdrawal(answer: verification_pb2.WithdrawConsentResponse) -> datetime:
    """Read since when a consent is withdrawn."""
    return _time(answer.withdraw_time)


def decision(answer: verification_pb2.VerifyCredentialResponse, request_id: str, questions: int) -> Decision:
    """Read a decision: its verdict now, and most of the rest when it is asked for.

    Args:
        answer: what came.
        request_id: of the request.
        questions: how many predicates it had.

    Raises:
        DamagedAnswer: it holds no verdict, or one of a kind that is not known, or does not answer the questions.
    """
    kind = answer.WhichOneof("verdict")
    verdict: Verdict
    if kind == "accepted":
        accepted = answer.accepted
        verdict = _new(Accepted)
        _set(verdict, "_answer", (_ACCEPTED, accepted, request_id))
        # What everybody asks for is read at once, for two thirds of what it costs later.
        _set(verdict, "subject", accepted.subject)
        _set(verdict, "attributes", _attributes(accepted.attributes))
        if questions or accepted.predicate_answers:
            _set(verdict, "predicate_answers", _answers(accepted.predicate_answers, questions, request_id))
    elif kind == "rejected":
        number = answer.rejected.reason
        verdict = Rejected(reason=Reason.of(number), number=number)
    elif kind == "indeterminate":
        number = answer.indeterminate.reason
        retry_after = read_duration(answer.indeterminate.retry_after)
        verdict = Indeterminate(reason=Reason.of(number), number=number, retry_after=retry_after)
    else:
        raise DamagedAnswer("no verdict, or one of a kind that is not known", request_id=request_id)
    made = _new(Decision)
    _set(made, "_answer", (_DECISION, answer, request_id))
    _set(made, "verdict", verdict)
    _set(made, "verification_id", answer.verification_id)
    _set(made, "request_id", request_id)
    return made


def outcome(
    result: verification_pb2.VerificationResult | verification_pb2.StreamResult,
    asked: verification_pb2.VerifyCredentialRequest,
) -> Outcome:
    """Read what became of one of many."""
    match result.WhichOneof("result"):
        case "response":
            try:
                return decision(result.response, asked.request_id, len(asked.predicates))
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
        decided_at=_time(answer.verify_time),
        service=answer.service,
        matter=answer.matter,
        verdict=answer.verdict,
        reason=Reason.of(answer.reason) if answer.reason else None,
        steps=tuple(map(_step, answer.steps)),
    )


def _answers(numbers: Sequence[int], questions: int, request_id: str) -> tuple[bool, ...]:
    if len(numbers) != questions or any(number not in _ANSWERS for number in numbers):
        raise DamagedAnswer("not a yes or no to each question", request_id=request_id)
    return tuple(_ANSWERS[number] for number in numbers)


def _trust_basis(answer: verification_pb2.VerifyCredentialResponse) -> TrustBasis:
    basis = answer.trust_basis
    return TrustBasis(
        charter_version=basis.charter_version,
        view_id=basis.view_id,
        age=read_duration(basis.age) if basis.HasField("age") else None,
        stale=basis.stale,
    )


def _assurance(accepted: verification_pb2.Acceptance) -> Assurance:
    assurance = accepted.assurance
    return Assurance(
        identity=assurance.identity,
        authenticator=assurance.authenticator,
        federation=assurance.federation,
        acr=assurance.acr,
        level=assurance.level,
    )


def _actor(accepted: verification_pb2.Acceptance) -> Actor | None:
    if not accepted.HasField("actor"):
        return None
    actor = accepted.actor
    return Actor(
        subject=actor.subject,
        relationship=actor.relationship,
        attributes=_attributes(actor.attributes),
        previous_subject=actor.previous_subject,
    )


def _status_basis(answer: verification_pb2.VerifyCredentialResponse) -> StatusBasis | None:
    if not answer.HasField("status_basis"):
        return None
    basis = answer.status_basis
    return StatusBasis(list=basis.list, issued_at=_optional_time(basis, "issue_time"), age=read_duration(basis.age))


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


def _time(stamp: Timestamp) -> datetime:
    nanos = stamp.nanos
    try:
        time = datetime.fromtimestamp(stamp.seconds, UTC)
        return time + timedelta(microseconds=nanos // 1_000) if nanos else time
    except (OverflowError, ValueError, OSError) as error:
        raise DamagedAnswer("a time out of range") from error


def _optional_time(message: Any, name: str) -> datetime | None:
    return _time(getattr(message, name)) if message.HasField(name) else None


def _attributes(struct: Struct) -> Mapping[str, Any]:
    values = struct.fields
    plain = {}
    for name in values:
        value = values[name]
        plain[name] = value.string_value or _plain(value)  # most are strings, and are known by it for less
    return plain


def _plain(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "struct_value":
        return _attributes(value.struct_value)
    if kind == "list_value":
        return [_plain(each) for each in value.list_value.values]
    return None


# How is read what is read when it is asked for.

_new: Final = object.__new__
_set: Final = object.__setattr__
_DECISION: Final[Readers] = {
    "decided_at": lambda answer: _time(answer.verify_time),
    "next_step": lambda answer: NextStep.of(answer.next_step),
    "receipt": attrgetter("receipt"),
    "trust_basis": _trust_basis,
    "status_basis": _status_basis,
}
_ACCEPTED: Final[Readers] = {
    "issuer": attrgetter("issuer"),
    "issuing_province": attrgetter("issuing_province"),
    "credential_type": attrgetter("credential_type"),
    "assurance": _assurance,
    "issued_at": lambda accepted: _optional_time(accepted, "issue_time"),
    "authenticated_at": lambda accepted: _optional_time(accepted, "authentication_time"),
    "expires_at": lambda accepted: _optional_time(accepted, "expire_time"),
    "holder_bound": attrgetter("holder_bound"),
    "predicate_answers": lambda _: (),  # where there was a question, they are there already
    "subject_type": lambda accepted: _SUBJECT_TYPES.get(accepted.subject_type, SubjectType.UNRECOGNISED),
    "actor": _actor,
    "household_province": attrgetter("household_province"),
    "credential_age": lambda accepted: read_duration(accepted.credential_age),
    "authentication_age": lambda accepted: read_duration(accepted.authentication_age),
    "erase_at": lambda accepted: _optional_time(accepted, "erase_time"),
    "previous_subject": attrgetter("previous_subject"),
    "legal_basis": attrgetter("legal_basis"),
}
