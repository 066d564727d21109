"""Values to messages and back. What is no proper answer raises ``DamagedAnswer``; what is new in one is left out."""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from recognition.errors import (
    DamagedAnswer,
    InvalidRequest,
    RecognitionError,
    from_code,
    invalid,
    read_duration,
    status_code,
)
from recognition.reasons import NextStep, Reason
from recognition.v1 import audit_pb2, verification_pb2
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
MAX_REQUEST_BYTES: Final = 256 * 1024
"""Of one request. More than a gateway takes, and little enough to go into any message with others."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_LAST_SECOND: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_NANOS_PER_SECOND: Final = 1_000_000_000
_UNFIT: Final = (TypeError, ValueError, AttributeError, OverflowError)
"""What protobuf raises at a value that does not fit its field; a lone surrogate is a ValueError."""
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


def question(request: VerifyRequest) -> verification_pb2.VerifyCredentialRequest:
    """Write a request, with the reference that all tries then share: its own, or a new one.

    Raises:
        InvalidRequest: it cannot be sent.
    """
    try:
        message = verification_pb2.VerifyCredentialRequest(
            matter=request.matter,
            presentation=request.presentation,
            nonce=request.nonce,
            request_id=request.request_id or new_request_id(),
            consent_id=request.consent_id,
            terminal=request.terminal,
            want_receipt=request.want_receipt,
        )
        # To protobuf, None is a field that is not set, and bytes are a text.
        for name in _TEXTS:
            if not isinstance(getattr(request, name), str):
                raise invalid(name, _CANNOT_BE_SENT)
        if request.predicates != ():
            message.predicates.extend(_predicates(request.predicates))
    except InvalidRequest as error:
        error.request_id = _reference_of(request)
        raise
    except _UNFIT as error:
        raise invalid(_unfit_field(request), _CANNOT_BE_SENT, _reference_of(request)) from error
    if not request.matter:
        raise invalid("matter", "is missing", message.request_id)
    if not request.presentation:
        raise invalid("presentation", "is missing", message.request_id)
    if message.ByteSize() > MAX_REQUEST_BYTES:
        raise invalid("presentation", "is too large to be sent", message.request_id)
    return message


def question_or_failure(request: VerifyRequest) -> verification_pb2.VerifyCredentialRequest | Failure:
    """Write one of many requests; what cannot be sent is the failure of that one alone."""
    try:
        return question(request)
    except InvalidRequest as error:
        return Failure(error)


def challenge_request(matter: str) -> verification_pb2.CreateChallengeRequest:
    """Write what asks for a challenge; this and the next raise ``InvalidRequest`` where it cannot be sent."""
    return _filled(verification_pb2.CreateChallengeRequest, matter=matter)


def consent_request(matter: str, claims: Sequence[str], lifetime: timedelta) -> verification_pb2.RecordConsentRequest:
    """Write a consent."""
    if isinstance(claims, str):  # a sequence, but of letters
        raise invalid("claims", _CANNOT_BE_SENT)
    try:
        lasts = duration(lifetime)
    except _UNFIT as error:
        raise invalid("lifetime", _CANNOT_BE_SENT) from error
    request = _filled(verification_pb2.RecordConsentRequest, matter=matter)
    request.MergeFrom(_filled(verification_pb2.RecordConsentRequest, claims=claims))
    request.lifetime.CopyFrom(lasts)
    return request


def withdrawal_request(consent_id: str) -> verification_pb2.WithdrawConsentRequest:
    """Write that a consent is withdrawn."""
    return _filled(verification_pb2.WithdrawConsentRequest, consent_id=consent_id)


def explanation_request(verification_id: str) -> verification_pb2.ExplainVerificationRequest:
    """Write what asks for an explanation."""
    return _filled(verification_pb2.ExplainVerificationRequest, verification_id=verification_id)


def evidence_request(verification_id: str) -> audit_pb2.GetEvidenceRequest:
    """Write what asks for evidence."""
    return _filled(audit_pb2.GetEvidenceRequest, verification_id=verification_id)


def duration(span: timedelta) -> Duration:
    """Write a duration."""
    message = Duration()
    message.FromTimedelta(span)
    return message


_Message = TypeVar("_Message", bound=Message)
_TEXTS: Final = ("matter", "presentation", "nonce", "request_id", "consent_id", "terminal")
_CANNOT_BE_SENT: Final = "is of a wrong type, or out of range"


def _filled(kind: type[_Message], **only: Any) -> _Message:
    ((name, value),) = only.items()
    if isinstance(value, bytes) or value is None:
        raise invalid(name, _CANNOT_BE_SENT)
    if not value:
        raise invalid(name, "is missing")
    try:
        return kind(**only)
    except _UNFIT as error:
        raise invalid(name, _CANNOT_BE_SENT) from error


def _reference_of(request: object) -> str:
    given = getattr(request, "request_id", "")
    return given if isinstance(given, str) and given.isascii() else ""


def _unfit_field(request: Any) -> str:
    """Find out which it was that protobuf did not take."""
    if not isinstance(request, VerifyRequest):
        return "request"
    for name in (*_TEXTS, "want_receipt"):
        fields: Mapping[str, Any] = {name: getattr(request, name)}
        try:
            verification_pb2.VerifyCredentialRequest(**fields)
        except _UNFIT:
            return name
    return "predicates"


def _predicates(predicates: Sequence[Predicate]) -> Iterator[verification_pb2.Predicate]:
    for number, predicate in enumerate(predicates):
        field = f"predicates[{number}]"
        try:
            match predicate:
                case AgeAtLeast(years=int() as years):
                    field += ".age_at_least"
                    yield verification_pb2.Predicate(age_at_least=years)
                case HouseholdIn(provinces=provinces) if not isinstance(provinces, str):
                    field += ".household_in"
                    yield verification_pb2.Predicate(household_in=verification_pb2.HouseholdIn(provinces=provinces))
                case ClaimMatches(claim=str() as claim, value=str() as value):
                    field += ".claim_matches"
                    yield verification_pb2.Predicate(
                        claim_matches=verification_pb2.ClaimMatch(claim=claim, value=value)
                    )
                case _:
                    raise invalid(field, "is no question, or holds a value of a wrong type")
        except _UNFIT as error:
            raise invalid(field, _CANNOT_BE_SENT) from error


# -- from the gateway -------------------------------------------------------------------------------------------------


def challenge(answer: verification_pb2.CreateChallengeResponse) -> Challenge:
    """Read a challenge; what is read here and below raises ``DamagedAnswer`` where it lacks what it must have."""
    if not answer.nonce or not answer.audience:
        raise DamagedAnswer("a challenge without a nonce or an audience")
    return Challenge(nonce=answer.nonce, audience=answer.audience, expires_at=_needed_time(answer, "expire_time"))


def consent(answer: verification_pb2.RecordConsentResponse) -> Consent:
    """Read a consent."""
    if not answer.consent_id:
        raise DamagedAnswer("a consent without an id")
    return Consent(consent_id=answer.consent_id, expires_at=_needed_time(answer, "expire_time"))


def withdrawal(answer: verification_pb2.WithdrawConsentResponse) -> datetime:
    """Read since when a consent is withdrawn."""
    return _needed_time(answer, "withdraw_time")


def evidence(answer: audit_pb2.GetEvidenceResponse) -> bytes:
    """Read evidence."""
    if not answer.evidence:
        raise DamagedAnswer("no evidence")
    return answer.evidence.encode("utf-8")


def decision(answer: verification_pb2.VerifyCredentialResponse, request_id: str, questions: int) -> Decision:
    """Read a decision: its verdict now, and most of the rest when it is asked for.

    Args:
        answer: what came.
        request_id: of the request.
        questions: how many predicates it had.

    Raises:
        DamagedAnswer: it holds no verdict, or one of a kind that is not known, lacks what a decision has, holds a time
            that is none, or does not answer the questions.
    """
    kind = answer.WhichOneof("verdict")
    verdict: Verdict
    if kind == "accepted":
        accepted = answer.accepted
        damage = _damage_of(accepted)
        if damage:
            raise DamagedAnswer(damage, request_id=request_id)
        verdict = _new(Accepted)
        _set(verdict, "_answer", (_ACCEPTED, accepted))
        # What everybody asks for is read at once, for two thirds of what it costs later.
        _set(verdict, "subject", accepted.subject)
        _set(verdict, "attributes", _attributes(accepted.attributes))
        if questions or accepted.predicate_answers:
            _set(verdict, "predicate_answers", _answers(accepted.predicate_answers, questions, request_id))
    elif kind == "rejected":
        number = answer.rejected.reason
        verdict = Rejected(reason=Reason.of(number), reason_number=number)
    elif kind == "indeterminate":
        number = answer.indeterminate.reason
        retry_after = _optional_duration(answer.indeterminate, "retry_after")
        verdict = Indeterminate(reason=Reason.of(number), reason_number=number, retry_after=retry_after)
    else:
        raise DamagedAnswer("no verdict, or one of a kind that is not known", request_id=request_id)
    verification_id = answer.verification_id
    if not verification_id:
        raise DamagedAnswer("a decision without an id", request_id=request_id)
    if not answer.HasField("verify_time") or not _is_time(answer.verify_time):
        raise DamagedAnswer("a decision without its time", request_id=request_id)
    if answer.HasField("status_basis") and not _are_times(answer.status_basis, _STATUS_TIMES):
        raise DamagedAnswer("a status list of no time", request_id=request_id)
    made = _new(Decision)
    _set(made, "_answer", (_DECISION, answer))
    _set(made, "verdict", verdict)
    _set(made, "verification_id", verification_id)
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
        decided_at=_optional_time(answer, "verify_time"),
        service=answer.service,
        matter=answer.matter,
        verdict=answer.verdict,
        reason=Reason.of(answer.reason) if answer.reason else None,
        steps=tuple(map(_step, answer.steps)),
    )


def _damage_of(accepted: verification_pb2.Acceptance) -> str:
    """Say what it lacks for being relied on; empty: nothing."""
    assurance = accepted.assurance  # reads as zeros where there is none
    if not (accepted.subject and accepted.issuer and accepted.credential_type):
        return "an acceptance without a subject, an issuer or a type"
    if assurance.identity < 1 or assurance.authenticator < 1 or assurance.federation < 1 or assurance.level < 0:
        return "an acceptance without its assurance"
    if not accepted.HasField("erase_time") or not _are_times(accepted, _ACCEPTED_TIMES):
        return "an acceptance without its times"
    if accepted.HasField("actor") and not accepted.actor.subject:
        return "an actor without a pseudonym"
    return ""


def _answers(numbers: Sequence[int], questions: int, request_id: str) -> tuple[bool, ...]:
    if len(numbers) != questions or any(number not in _ANSWERS for number in numbers):
        raise DamagedAnswer("not a yes or no to each question", request_id=request_id)
    return tuple(_ANSWERS[number] for number in numbers)


def _trust_basis(answer: verification_pb2.VerifyCredentialResponse) -> TrustBasis:
    basis = answer.trust_basis
    return TrustBasis(
        charter_version=basis.charter_version,
        view_id=basis.view_id,
        age=_optional_duration(basis, "age"),
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
    return StatusBasis(
        list=basis.list, issued_at=_optional_time(basis, "issue_time"), age=_optional_duration(basis, "age")
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
        retry_after=_optional_duration(error, "retry_delay"),
        request_id=request_id,
    )


_ACCEPTED_TIMES: Final = ("erase_time", "issue_time", "authentication_time", "expire_time")
_STATUS_TIMES: Final = ("issue_time",)


def _is_time(stamp: Timestamp) -> bool:
    return _FIRST_SECOND <= stamp.seconds <= _LAST_SECOND and 0 <= stamp.nanos < _NANOS_PER_SECOND


def _are_times(message: Message, names: Sequence[str]) -> bool:
    """Say whether what is there of these times is a time."""
    return all(_is_time(getattr(message, name)) for name in names if message.HasField(name))


def _time(stamp: Timestamp) -> datetime:
    if not _is_time(stamp):
        raise DamagedAnswer("a time out of range")
    return _EPOCH + timedelta(0, stamp.seconds, stamp.nanos // 1_000)


def _needed_time(message: Any, name: str) -> datetime:
    if not message.HasField(name):
        raise DamagedAnswer(f"no {name}")
    return _time(getattr(message, name))


def _optional_time(message: Any, name: str) -> datetime | None:
    return _time(getattr(message, name)) if message.HasField(name) else None


def _optional_duration(message: Any, name: str) -> timedelta | None:
    return read_duration(getattr(message, name)) if message.HasField(name) else None


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
    "repeated": attrgetter("repeated"),
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
    "credential_age": lambda accepted: _optional_duration(accepted, "credential_age"),
    "authentication_age": lambda accepted: _optional_duration(accepted, "authentication_age"),
    "erase_at": lambda accepted: _time(accepted.erase_time),
    "previous_subject": attrgetter("previous_subject"),
    "legal_basis": attrgetter("legal_basis"),
}
