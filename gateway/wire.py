"""Protocol buffers to domain values and back, in one place.

Requests are checked here: nothing inside sees a half-filled message. What is wrong with a request is the caller's
program and raises ``InvalidRequest``; what is wrong with a *presentation* is a verdict and is none of this module's
business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2
from google.protobuf.json_format import MessageToDict
from recognition.v1 import issuance_pb2, reason_pb2, verification_pb2

from gateway.core.agreement import MATTER_CODE, MAX_NAMES, Assurance, Party, SubjectType
from gateway.core.claims import MAX_SCOPE, Authentication
from gateway.core.credential_status import MAX_TARGETS, CredentialTarget, SubjectTarget, Target
from gateway.core.explanation import Outcome
from gateway.core.identifiers import Province, parse_resident_id
from gateway.core.predicates import (
    MAX_AGE,
    MAX_COMPARED_CHARS,
    MAX_PREDICATES,
    AgeAtLeast,
    ClaimMatches,
    HouseholdIn,
    Predicate,
)
from gateway.core.reasons import InvalidRequest, Reason
from gateway.core.status_list import MAX_URI_CHARS, Status
from gateway.core.texts import NextStep

MAX_ENTITY_ID: Final = 512
MAX_BATCH_ITEMS: Final = 1_000
MAX_STREAM_ITEMS: Final = 100
"""In one message of a stream."""
_NONCE: Final = re.compile(r"[A-Za-z0-9_.-]{0,200}")
_ID_NUMBER: Final = re.compile(r"(?<![0-9])[0-9]{17}[0-9Xx](?![0-9])")
_ID_NUMBER_CHARS: Final = 18
_WITHIN_NUMBER: Final = re.compile(r"(?<=[0-9])[._-](?=[0-9Xx])")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{0,64}")
_CERTIFICATE_SHA256: Final = re.compile(r"([A-Za-z0-9_-]{43})?")
_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_ACR: Final = re.compile(r"[!-~]{1,128}")
_AMR: Final = re.compile(r"[a-z0-9_]{1,16}")
_MAX_METHODS: Final = 10
_LEVELS: Final = range(1, 4)

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_CREDENTIAL_ID: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_MAX_LOCAL_SUBJECT: Final = 256
_STATUSES: Final = {
    Status.VALID: issuance_pb2.CREDENTIAL_STATUS_VALID,
    Status.REVOKED: issuance_pb2.CREDENTIAL_STATUS_REVOKED,
    Status.SUSPENDED: issuance_pb2.CREDENTIAL_STATUS_SUSPENDED,
    Status.ATTRIBUTES_CHANGED: issuance_pb2.CREDENTIAL_STATUS_ATTRIBUTES_CHANGED,
}
_STATUS_NUMBERS: Final = {number: status for status, number in _STATUSES.items()}

_REFERENCE: Final = re.compile(r"[A-Za-z0-9_-]{22}")
"""Names of decisions and consents: 16 random bytes."""
_CLAIM: Final = re.compile(r"[a-z0-9_]{1,64}")
_REASON_NUMBERS: Final = {reason: reason_pb2.Reason.Value(f"REASON_{reason.value}") for reason in Reason}


_NEXT_STEPS: Final = {step: verification_pb2.NextStep.Value(f"NEXT_STEP_{step.value}") for step in NextStep}
_OUTCOMES: Final = {outcome: verification_pb2.StepOutcome.Value(f"STEP_OUTCOME_{outcome.value}") for outcome in Outcome}
_SUBJECT_TYPES: Final = {
    SubjectType.NATURAL: verification_pb2.SUBJECT_TYPE_NATURAL,
    SubjectType.LEGAL: verification_pb2.SUBJECT_TYPE_LEGAL,
}


@dataclass(slots=True, kw_only=True)
class VerifyRequest:
    """A well-formed request for a verdict."""

    matter: str
    presentation: str = field(repr=False)
    nonce: str = field(default="", repr=False)
    request_id: str = ""
    consent_id: str = ""
    predicates: tuple[Predicate, ...] = ()
    terminal: str = ""
    want_receipt: bool = False


def matter_code(text: str) -> str:
    """Check the form of a matter code."""
    if MATTER_CODE.fullmatch(text) is None:
        raise InvalidRequest("matter", "must be the code of a matter")
    return text


def entity_id(field: str, text: str) -> str:
    """Check the form of an entity identifier asked for."""
    if not text.startswith("https://") or len(text) > MAX_ENTITY_ID:
        raise InvalidRequest(field, "must be an entity identifier (https URL)")
    return text


def status_list_uri(field: str, text: str) -> str:
    """Check the form of a status list's name asked for."""
    if not text.startswith("https://") or len(text) > MAX_URI_CHARS:
        raise InvalidRequest(field, "must be the name of a status list (https URL)")
    return text


def thumbprint(field: str, text: str) -> str:
    """Check the form of a key's name, its RFC 7638 thumbprint."""
    if _THUMBPRINT.fullmatch(text) is None:
        raise InvalidRequest(field, "must be the thumbprint of a key, 43 characters")
    return text


def verify_request(message: verification_pb2.VerifyCredentialRequest) -> VerifyRequest:
    """Read a request for a verdict."""
    if not message.presentation:
        raise InvalidRequest("presentation", "must not be empty")
    if _NONCE.fullmatch(message.nonce) is None:
        raise InvalidRequest("nonce", "must be a nonce as CreateChallenge gave it, or absent")
    request_id(message.request_id)
    request_id(message.terminal, "terminal")
    return VerifyRequest(
        matter=matter_code(message.matter),
        presentation=message.presentation,
        nonce=message.nonce,
        request_id=message.request_id,
        consent_id=reference("consent_id", message.consent_id) if message.consent_id else "",
        predicates=_predicates(message.predicates),
        terminal=message.terminal,
        want_receipt=message.want_receipt,
    )


def batch_items(
    message: verification_pb2.BatchVerifyCredentialsRequest,
) -> Sequence[verification_pb2.VerifyCredentialRequest]:
    """Read a batch; each item is still to be read."""
    if not 1 <= len(message.items) <= MAX_BATCH_ITEMS:
        raise InvalidRequest("items", f"must be 1 to {MAX_BATCH_ITEMS}")
    return message.items


def stream_items(
    message: verification_pb2.StreamVerifyCredentialsRequest,
) -> tuple[Sequence[verification_pb2.StreamItem], InvalidRequest | None]:
    """Read a message of a stream; each item is still to be read.

    Returns:
        The items, and what is wrong with the one that comes after them; None: there is none.
    """
    if not 1 <= len(message.items) <= MAX_STREAM_ITEMS:
        return (), InvalidRequest("items", f"must be 1 to {MAX_STREAM_ITEMS}")
    seen: set[str] = set()
    for index, item in enumerate(message.items):
        name = f"items[{index}].item_id"
        try:
            _item_id(item.item_id, name)
        except InvalidRequest as flaw:
            return message.items[:index], flaw
        if item.item_id in seen:
            return message.items[:index], InvalidRequest(name, "is that of an item which waits for its answer")
        seen.add(item.item_id)
    return message.items, None


def _item_id(text: str, field: str) -> None:
    if not text:
        raise InvalidRequest(field, "is required")
    request_id(text, field)


def reference(field: str, text: str) -> str:
    """Check the form of the name of a decision or a consent."""
    if _REFERENCE.fullmatch(text) is None:
        raise InvalidRequest(field, "must be a reference as this gateway gave it, 22 characters")
    return text


def claim_names(field: str, names: Sequence[str]) -> frozenset[str]:
    """Read names of claims."""
    if len(names) > MAX_NAMES or any(_CLAIM.fullmatch(name) is None for name in names):
        raise InvalidRequest(field, f"must be at most {MAX_NAMES} names of claims")
    return frozenset(names)


def _predicates(messages: Sequence[verification_pb2.Predicate]) -> tuple[Predicate, ...]:
    if len(messages) > MAX_PREDICATES:
        raise InvalidRequest("predicates", f"must be at most {MAX_PREDICATES}")
    return tuple(_predicate(f"predicates[{index}]", message) for index, message in enumerate(messages))


def _predicate(field: str, message: verification_pb2.Predicate) -> Predicate:
    match message.WhichOneof("question"):
        case "age_at_least":
            if not 1 <= message.age_at_least <= MAX_AGE:
                raise InvalidRequest(f"{field}.age_at_least", f"must be 1 to {MAX_AGE}")
            return AgeAtLeast(message.age_at_least)
        case "household_in":
            codes = message.household_in.provinces
            known = {province.code: province for province in Province}
            if not 1 <= len(codes) <= len(known) or not set(codes) <= known.keys():
                raise InvalidRequest(f"{field}.household_in.provinces", f"must be one or more of {', '.join(known)}")
            return HouseholdIn(frozenset(known[code] for code in codes))
        case "claim_matches":
            asked = message.claim_matches
            if _CLAIM.fullmatch(asked.claim) is None:
                raise InvalidRequest(f"{field}.claim_matches.claim", "must name a claim")
            if not 1 <= len(asked.value) <= MAX_COMPARED_CHARS:
                raise InvalidRequest(f"{field}.claim_matches.value", f"must be 1 to {MAX_COMPARED_CHARS} characters")
            return ClaimMatches(asked.claim, asked.value)
        case _:
            raise InvalidRequest(field, "must ask something")


def request_id(text: str, field: str = "request_id") -> str:
    """Check the form of the name a caller gives to a request, or of its place; it may be empty."""
    if _REQUEST_ID.fullmatch(text) is None:
        raise InvalidRequest(field, "must be at most 64 characters of A-Z a-z 0-9 . _ -")
    if len(text) < _ID_NUMBER_CHARS:
        return text
    joined = _WITHIN_NUMBER.sub("", text)
    # Both: joining may also glue another number to it.
    if any(map(_is_id_number, [*_ID_NUMBER.findall(text), *_ID_NUMBER.findall(joined)])):
        # It goes into the audit log as it is.
        raise InvalidRequest(field, "must not hold the ID number of a person")
    return text


def _is_id_number(text: str) -> bool:
    try:
        parse_resident_id(text.upper())
    except ValueError:
        return False
    return True


def reason_number(reason: Reason) -> reason_pb2.Reason.ValueType:
    """Give the number a reason has on the wire."""
    return _REASON_NUMBERS[reason]


def reason_name(field: str, number: reason_pb2.Reason.ValueType) -> str:
    """Read a reason asked for."""
    for reason, known in _REASON_NUMBERS.items():
        if known == number:
            return reason.value
    raise InvalidRequest(field, "is no reason")


def local_subject(text: str) -> str:
    """Check the form of the name that an identity authority has for a person."""
    if not 1 <= len(text) <= _MAX_LOCAL_SUBJECT:
        raise InvalidRequest("local_subject", f"must be 1 to {_MAX_LOCAL_SUBJECT} characters")
    return text


def next_step_number(step: NextStep) -> verification_pb2.NextStep.ValueType:
    """Give the number a next step has on the wire."""
    return _NEXT_STEPS[step]


def outcome_number(outcome: Outcome) -> verification_pb2.StepOutcome.ValueType:
    """Give the number the outcome of a step has on the wire."""
    return _OUTCOMES[outcome]


def subject_type_number(subject_type: SubjectType) -> verification_pb2.SubjectType.ValueType:
    """Give the number a type of subject has on the wire."""
    return _SUBJECT_TYPES[subject_type]


def subject_type(number: verification_pb2.SubjectType.ValueType) -> SubjectType:
    """Read a type of subject; not stated means a person."""
    if number == verification_pb2.SUBJECT_TYPE_UNSPECIFIED:
        return SubjectType.NATURAL
    for known, its_number in _SUBJECT_TYPES.items():
        if its_number == number:
            return known
    raise InvalidRequest("subject_type", "is not known")


def relationship(text: str) -> Party:
    """Read in which relationship somebody acts."""
    known = [party for party in Party if party is not Party.SELF]
    for party in known:
        if party.value == text:
            return party
    raise InvalidRequest("actor.relationship", f"must be one of {', '.join(known)}")


def scope(codes: Sequence[str]) -> tuple[str, ...]:
    """Read for which matters somebody may act."""
    if not 1 <= len(codes) <= MAX_SCOPE or any(MATTER_CODE.fullmatch(code) is None for code in codes):
        raise InvalidRequest("actor.scope", f"must be 1 to {MAX_SCOPE} codes of matters")
    return tuple(codes)


def timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    """Write a moment."""
    message = timestamp_pb2.Timestamp()
    write_timestamp(message, moment)
    return message


def write_timestamp(message: timestamp_pb2.Timestamp, moment: datetime) -> None:
    """Write a moment where it belongs."""
    write_duration(message, moment - _EPOCH)


def instant(field: str, message: timestamp_pb2.Timestamp) -> datetime:
    """Read a moment."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(field, "is out of range") from error


def duration(span: timedelta) -> duration_pb2.Duration:
    """Write a span."""
    message = duration_pb2.Duration()
    message.FromTimedelta(span)
    return message


def write_duration(message: duration_pb2.Duration | timestamp_pb2.Timestamp, span: timedelta) -> None:
    """Write a span that is not negative where it belongs."""
    # What protobuf offers computes with integers of nanoseconds; this runs half a dozen times an answer.
    message.seconds = span.days * 86_400 + span.seconds
    message.nanos = span.microseconds * 1_000


def struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Write attributes."""
    message = struct_pb2.Struct()
    write_struct(message, values)
    return message


def write_struct(message: struct_pb2.Struct, values: Mapping[str, Any]) -> None:
    """Write attributes where they belong."""
    message.SetInParent()
    for name, value in values.items():
        if isinstance(value, str):
            message.fields[name].string_value = value
        else:
            message.update({name: value})


def claims(message: struct_pb2.Struct) -> dict[str, Any]:
    """Read attributes to issue. Struct has one kind of number, a double: whole ones become integers again."""
    try:
        found = MessageToDict(message)
    except ValueError as error:
        raise InvalidRequest("claims", "must hold finite numbers only") from error
    return {name: _whole(value) for name, value in found.items()}


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


def lifetime(
    message: issuance_pb2.IssueCredentialRequest
    | issuance_pb2.IssueAssertionRequest
    | verification_pb2.RecordConsentRequest,
) -> timedelta | None:
    """Read a lifetime asked for; None when absent."""
    if not message.HasField("lifetime"):
        return None
    try:
        span = message.lifetime.ToTimedelta()
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("lifetime", "is out of range") from error
    return span


def certificate_sha256(text: str) -> str:
    """Check the form of a certificate thumbprint."""
    if _CERTIFICATE_SHA256.fullmatch(text) is None:
        raise InvalidRequest("confirmation_certificate_sha256", "must be the base64url SHA-256 of a certificate")
    return text


def authentication(message: issuance_pb2.Authentication) -> Authentication:
    """Read how a person was authenticated."""
    if _ACR.fullmatch(message.acr) is None:
        raise InvalidRequest("authentication.acr", "must name the level")
    if len(message.amr) > _MAX_METHODS or any(_AMR.fullmatch(method) is None for method in message.amr):
        raise InvalidRequest("authentication.amr", "must be at most 10 method names of RFC 8176")
    if not message.HasField("authentication_time"):
        raise InvalidRequest("authentication.authentication_time", "is required")
    authenticated_at = instant("authentication.authentication_time", message.authentication_time)
    return Authentication(
        acr=message.acr,
        methods=tuple(message.amr),
        authenticated_at=authenticated_at,
        assurance=_assurance(message.assurance) if message.HasField("assurance") else None,
    )


def _assurance(message: issuance_pb2.IssuedAssurance) -> Assurance:
    for level in (message.identity, message.authenticator, message.federation):
        if level not in _LEVELS:
            raise InvalidRequest("authentication.assurance", "each level must be 1 to 3")
    return Assurance(identity=message.identity, authenticator=message.authenticator, federation=message.federation)


# -- status -----------------------------------------------------------------------------------------------------------


def targets(messages: Sequence[issuance_pb2.CredentialTarget]) -> Sequence[Target]:
    """Read whose status is to be set."""
    if not 1 <= len(messages) <= MAX_TARGETS:
        raise InvalidRequest("targets", f"must be 1 to {MAX_TARGETS}")
    return [target(f"targets[{number}]", each) for number, each in enumerate(messages)]


def target(field: str, message: issuance_pb2.CredentialTarget) -> Target:
    """Read which credentials are meant."""
    match message.WhichOneof("target"):
        case "credential_id":
            if _CREDENTIAL_ID.fullmatch(message.credential_id) is None:
                raise InvalidRequest(f"{field}.credential_id", "must be the name a credential was given, 22 characters")
            return CredentialTarget(credential_id=message.credential_id)
        case "local_subject":
            if not 1 <= len(message.local_subject) <= _MAX_LOCAL_SUBJECT:
                raise InvalidRequest(f"{field}.local_subject", "must be 1 to 256 characters")
            return SubjectTarget(local_subject=message.local_subject)
        case _:
            raise InvalidRequest(field, "must name a credential or a subject")


def status(number: issuance_pb2.CredentialStatus.ValueType) -> Status:
    """Read a status asked for."""
    if number not in _STATUS_NUMBERS:
        raise InvalidRequest("status", "must be a status that this gateway knows")
    return _STATUS_NUMBERS[number]


def status_number(value: Status) -> issuance_pb2.CredentialStatus.ValueType:
    """Give the number a status has on the wire, which is not the one it has in a list."""
    return _STATUSES[value]
