"""The Python client by itself, and against a gateway that answers what the test tells it to."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_never, cast

import grpc
import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from recognition import _rules, _wire, aio, client, errors
from recognition.client import (
    Accepted,
    AgeAtLeast,
    Assurance,
    ClaimMatches,
    DamagedAnswer,
    DeadlineExceeded,
    Decision,
    Failure,
    HouseholdIn,
    Indeterminate,
    Internal,
    InvalidRequest,
    NextStep,
    NotPermitted,
    Options,
    Overloaded,
    Profile,
    Reason,
    RecognitionError,
    Refused,
    Rejected,
    SubjectType,
    TrustBasis,
    Unavailable,
    VerifyRequest,
)
from recognition.holder import Credential, HolderKey
from recognition.profile import Files
from recognition.v1 import audit_pb2, reason_pb2, verification_pb2

from gateway.core import sd_jwt
from gateway.core.jose import generate_key, parse_compact
from gateway.core.key_binding import Transaction, verify_key_binding
from tests.clients.fake import FORMS, NOW, Authority, FakeGateway, Form, accepted, fail, retry_info, serving

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "clients"
PACKAGE = CLIENTS / "python"
OLDEST = ROOT / ".venv-oldest" / "bin" / "python"
Issued = tuple[str, HolderKey, Any]
SECRETS = ("PRESENTED", "NONCE", "赵某", "COMPARED", "PSEUDONYM", "RECEIPT", "CONSENT")
SOON = Options(deadline=timedelta(seconds=5), batch_deadline=timedelta(seconds=5), under_way=32)

Verify = verification_pb2.VerifyCredentialRequest
Answer = verification_pb2.VerifyCredentialResponse


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def gateway(authority: Authority) -> Iterator[FakeGateway]:
    with serving(authority) as running:
        yield running


@pytest.fixture
def profile(authority: Authority, gateway: FakeGateway, tmp_path: Path) -> Profile:
    return authority.profile(tmp_path, gateway.address)


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__.lower())
def form(request: pytest.FixtureRequest) -> Form:
    chosen: Form = request.param
    return chosen


def asking(presentation: str = "p", **fields: Any) -> VerifyRequest:
    return VerifyRequest(matter="HK-QY", presentation=presentation, **fields)


def dated(answer: Answer) -> Answer:
    """Give an answer what every decision has."""
    answer.verification_id = "v"
    answer.verify_time.FromDatetime(NOW)
    return answer


def decided(answer: Answer, *, questions: int = 0) -> Decision:
    return _wire.decision(answer, "case-1", questions)


# -- words ------------------------------------------------------------------------------------------------------------


def test_the_words_are_those_of_the_file_that_all_languages_have() -> None:
    command = [sys.executable, str(PACKAGE / "generate_reasons.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_reasons_and_next_steps_are_those_of_the_contract() -> None:
    numbers = {f"REASON_{each.name}": each.value for each in Reason if each is not Reason.UNRECOGNISED}
    assert numbers | {"REASON_UNSPECIFIED": 0} == dict(reason_pb2.Reason.items())
    steps = {f"NEXT_STEP_{each.name}": each.value for each in NextStep}
    assert steps | {"NEXT_STEP_UNSPECIFIED": 0} == dict(verification_pb2.NextStep.items())


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words_in_both_languages(reason: Reason) -> None:
    assert all(reason.text("en"))
    assert all(reason.text("zh"))
    assert reason.text("zh") != reason.text("en")
    assert reason.text("zh").next_step == reason.next_step.text("zh")


def test_the_service_config_is_the_published_one() -> None:
    published = (CLIENTS / "service-config.json").read_text("utf-8")
    assert (PACKAGE / "recognition" / "service-config.json").read_text("utf-8") == published
    assert dict(_rules.channel_options())["grpc.service_config"] == published


def test_what_is_tried_again_exists_and_changes_nothing() -> None:
    config = json.loads((CLIENTS / "service-config.json").read_text("utf-8"))
    services = {
        each.full_name: each
        for file in (verification_pb2.DESCRIPTOR, audit_pb2.DESCRIPTOR)
        for each in file.services_by_name.values()
    }
    retried = [(name["service"], name["method"]) for method in config["methodConfig"] for name in method["name"]]
    assert all(method in services[service].methods_by_name for service, method in retried)
    assert "RecordConsent" not in {method for _, method in retried}


# -- verdicts ---------------------------------------------------------------------------------------------------------


def whole_answer() -> Answer:
    answer = accepted("case-1")
    answer.accepted.subject = "PSEUDONYM"
    answer.accepted.previous_subject = "PSEUDONYM-1"
    answer.accepted.attributes.update(
        {"name": "赵某", "age": 44, "ratio": 0.5, "is": True, "no": None, "of": {"list": ["x", 1]}}
    )
    answer.accepted.actor.subject = "PSEUDONYM-2"
    answer.accepted.actor.attributes.update({"name": "赵某"})
    answer.accepted.predicate_answers.extend(
        [verification_pb2.PREDICATE_ANSWER_YES, verification_pb2.PREDICATE_ANSWER_NO]
    )
    answer.accepted.erase_time.FromDatetime(NOW)
    answer.receipt = "RECEIPT"
    answer.status_basis.list = "https://issuer.example/status"
    return answer


QUESTIONS = [verification_pb2.Predicate(age_at_least=18), verification_pb2.Predicate(age_at_least=60)]


def test_all_of_an_acceptance_is_read() -> None:
    decision = decided(whole_answer(), questions=2)
    assert (decision.verification_id, decision.request_id) == ("v-case-1", "case-1")
    assert (decision.decided_at, decision.next_step, decision.receipt) == (NOW, NextStep.PROCEED, "RECEIPT")
    verdict = decision.verdict
    assert isinstance(verdict, Accepted)
    assert verdict.attributes == {
        "name": "赵某",
        "age": 44,
        "ratio": 0.5,
        "is": True,
        "no": None,
        "of": {"list": ["x", 1]},
    }
    assert isinstance(verdict.attributes["age"], int)
    assert verdict.predicate_answers == (True, False)
    assert verdict.actor is not None
    assert verdict.actor.attributes == {"name": "赵某"}
    assert (verdict.erase_at, verdict.expires_at) == (NOW, None)


def test_a_decision_can_be_made_from_its_fields() -> None:
    verdict = Accepted(
        subject="PSEUDONYM",
        issuer="https://issuer.sh.mrg.example",
        issuing_province="",
        credential_type="urn:yrd:credential:resident-id:1",
        assurance=Assurance(identity=2, authenticator=2, federation=2, acr="", level=0),
        attributes={"name": "赵某"},
        issued_at=None,
        authenticated_at=None,
        expires_at=None,
        holder_bound=False,
        predicate_answers=(),
        subject_type=SubjectType.UNRECOGNISED,
        actor=None,
        household_province="",
        credential_age=None,
        authentication_age=None,
        erase_at=NOW,
        previous_subject="",
        legal_basis="",
    )
    made = Decision(
        verdict=verdict,
        verification_id="v-case-1",
        decided_at=NOW,
        next_step=NextStep.PROCEED,
        receipt="",
        trust_basis=TrustBasis(charter_version=0, view_id="", age=None, stale=False),
        status_basis=None,
        request_id="case-1",
    )
    answer = accepted("case-1")
    answer.accepted.subject = "PSEUDONYM"
    answer.accepted.attributes.update({"name": "赵某"})
    answer.accepted.erase_time.FromDatetime(NOW)
    came = decided(answer)
    assert (came, repr(came)) == (made, repr(made))
    assert replace(decided(answer), receipt="r") == replace(made, receipt="r")
    assert decided(answer) != replace(made, receipt="r")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])  # noqa: S301 - our own
def test_a_decision_can_be_kept(copied: Callable[[Decision], Decision]) -> None:
    kept = copied(decided(whole_answer(), questions=2))
    assert kept == decided(whole_answer(), questions=2)
    assert kept.receipt == "RECEIPT"


def test_what_was_answered_cannot_be_changed() -> None:
    decision: Any = decided(whole_answer(), questions=2)
    for value, name in ((decision, "verdict"), (decision, "receipt"), (decision.verdict, "subject")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, "x")
    for value in (decision, decision.verdict):
        with pytest.raises(AttributeError, match="has no accepted"):
            _ = value.accepted
        assert not hasattr(value, "__len__")


def test_a_verdict_is_neither_true_nor_false() -> None:
    decision = decided(accepted())
    rejected = Rejected(reason=Reason.EXPIRED, reason_number=21)
    undecided = Indeterminate(reason=Reason.TRUST_STALE, reason_number=60, retry_after=timedelta(seconds=1))
    for value in (decision, decision.verdict, rejected, undecided, Failure(DamagedAnswer("x"))):
        with pytest.raises(TypeError, match="use match"):
            bool(value)


def test_match_knows_all_cases() -> None:
    def act(verdict: client.Verdict) -> str:
        match verdict:
            case Accepted():
                return "go on"
            case Rejected(reason=reason):
                return reason.name
            case Indeterminate(retry_after=retry_after):
                return "later" if retry_after is None else f"in {retry_after.total_seconds():g} s"
            case never:
                assert_never(never)

    answer = dated(Answer())
    answer.indeterminate.reason = reason_pb2.REASON_TRUST_STALE
    assert act(decided(answer).verdict) == "later"
    answer.indeterminate.retry_after.FromSeconds(3)
    assert act(decided(answer).verdict) == "in 3 s"
    rejected = dated(Answer(rejected=verification_pb2.Rejection(reason=reason_pb2.REASON_EXPIRED)))
    assert act(decided(rejected).verdict) == "EXPIRED"
    assert act(decided(accepted()).verdict) == "go on"


def test_what_can_be_printed_tells_nothing_about_the_person() -> None:
    request = asking(
        "PRESENTED",
        nonce="NONCE",
        consent_id="CONSENT",
        predicates=[ClaimMatches("name", "COMPARED"), AgeAtLeast(18), HouseholdIn(["ah"])],
    )
    challenge = client.Challenge(nonce="NONCE", audience="a", expires_at=NOW)
    values = [request, request.predicates[0], challenge, decided(whole_answer(), questions=2)]
    printed = "\n".join(f"{value!r} {value}" for value in values)
    assert not [secret for secret in SECRETS if secret in printed]


def test_all_questions_are_asked() -> None:
    message = _wire.question(asking(predicates=[AgeAtLeast(18), HouseholdIn(["ah"]), ClaimMatches("name", "x")]))
    assert [each.WhichOneof("question") for each in message.predicates] == [
        "age_at_least",
        "household_in",
        "claim_matches",
    ]
    assert message.predicates[1].household_in.provinces == ["ah"]


def test_a_request_gets_a_reference_of_its_own() -> None:
    made = [_wire.question(asking()).request_id for _ in range(1_000)]
    assert len(set(made)) == 1_000
    assert all(len(each) == 22 and not each.startswith("-") for each in made)
    assert _wire.question(asking(request_id="case-1")).request_id == "case-1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_two_processes_have_no_reference_in_common() -> None:
    program = """
import os
from recognition._wire import new_request_id
new_request_id()
child = os.fork()
made = [new_request_id() for _ in range(200)]
if child:
    os.waitpid(child, 0)
print(*made, flush=True)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert len(set(printed)) == len(printed) == 400


# -- answers that are none --------------------------------------------------------------------------------------------


def unknown_verdict() -> Answer:
    # Field 11 of the message, of a kind that today's contract does not have.
    return Answer.FromString(b"\x5a\x02\x08\x01" + dated(Answer()).SerializeToString())


def with_answers(*numbers: int) -> Answer:
    answer = accepted()
    answers: Any = answer.accepted.predicate_answers
    answers.extend(numbers)
    return answer


@pytest.mark.parametrize(
    ("answer", "questions"),
    [
        pytest.param(dated(Answer()), 0, id="no verdict"),
        pytest.param(unknown_verdict(), 0, id="a kind of verdict that is not known"),
        pytest.param(with_answers(0), 1, id="a question answered by nothing"),
        pytest.param(with_answers(3), 1, id="a question answered by neither yes nor no"),
        pytest.param(with_answers(1), 2, id="too few answers"),
        pytest.param(with_answers(1), 0, id="an answer nobody asked for"),
        pytest.param(accepted(), 1, id="no answers"),
    ],
)
def test_a_damaged_answer_is_no_verdict(answer: Answer, questions: int) -> None:
    with pytest.raises(DamagedAnswer) as caught:
        decided(answer, questions=questions)
    assert caught.value.request_id == "case-1"
    result = verification_pb2.VerificationResult(response=answer)
    outcome = _wire.outcome(result, Verify(request_id="case-1", predicates=QUESTIONS[:questions]))
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, DamagedAnswer)


DAMAGE: Mapping[str, Callable[[Any], object]] = {
    "no id": lambda answer: answer.ClearField("verification_id"),
    "no time": lambda answer: answer.ClearField("verify_time"),
    "a time out of range": lambda answer: setattr(answer.verify_time, "seconds", 1 << 60),
    "a time before all others": lambda answer: setattr(answer.verify_time, "seconds", -62_135_596_801),
    "a time with too many nanoseconds": lambda answer: setattr(answer.verify_time, "nanos", 1_000_000_000),
    "a time with less than no nanoseconds": lambda answer: setattr(answer.verify_time, "nanos", -1),
    "a status of no time": lambda answer: setattr(answer.status_basis.issue_time, "seconds", 1 << 60),
    "no subject": lambda answer: answer.accepted.ClearField("subject"),
    "no issuer": lambda answer: answer.accepted.ClearField("issuer"),
    "no type": lambda answer: answer.accepted.ClearField("credential_type"),
    "no assurance": lambda answer: answer.accepted.ClearField("assurance"),
    "no identity level": lambda answer: setattr(answer.accepted.assurance, "identity", 0),
    "an authenticator level below all": lambda answer: setattr(answer.accepted.assurance, "authenticator", -1),
    "no federation level": lambda answer: setattr(answer.accepted.assurance, "federation", 0),
    "no time to erase it": lambda answer: answer.accepted.ClearField("erase_time"),
    "a time to erase it out of range": lambda answer: setattr(answer.accepted.erase_time, "seconds", 1 << 60),
    "issued at no time": lambda answer: setattr(answer.accepted.issue_time, "seconds", 1 << 60),
    "authenticated at no time": lambda answer: setattr(answer.accepted.authentication_time, "nanos", -1),
    "expiring at no time": lambda answer: setattr(answer.accepted.expire_time, "seconds", 1 << 60),
    "an actor who is nobody": lambda answer: answer.accepted.actor.ClearField("subject"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_an_acceptance_that_lacks_something_is_none(damage: Callable[[Any], object]) -> None:
    answer = whole_answer()
    assert isinstance(decided(answer, questions=2).verdict, Accepted)
    damage(answer)
    with pytest.raises(DamagedAnswer) as caught:
        decided(answer, questions=2)
    assert caught.value.request_id == "case-1"
    assert not [secret for secret in SECRETS if secret in f"{caught.value!r} {caught.value}"]


def test_an_empty_acceptance_is_no_yes() -> None:
    answer = dated(Answer())
    answer.accepted.SetInParent()
    with pytest.raises(DamagedAnswer):
        decided(answer)
    with pytest.raises(DamagedAnswer):
        decided(Answer(verification_id="v", rejected=verification_pb2.Rejection(reason=reason_pb2.REASON_EXPIRED)))


def test_what_was_not_said_is_not_zero() -> None:
    answer = accepted("case-1")
    answer.status_basis.list = "https://issuer.example/status"
    decision = decided(answer)
    verdict = decision.verdict
    assert isinstance(verdict, Accepted)
    assert (verdict.issued_at, verdict.authenticated_at, verdict.expires_at) == (None, None, None)
    assert (verdict.credential_age, verdict.authentication_age) == (None, None)
    assert decision.status_basis is not None
    assert (decision.status_basis.issued_at, decision.status_basis.age, decision.trust_basis.age) == (None, None, None)
    assert not decision.repeated
    answer.repeated = True
    assert decided(answer).repeated
    assert _wire.explanation(verification_pb2.ExplainVerificationResponse(verification_id="v")).decided_at is None


@pytest.mark.parametrize(
    ("read", "answer", "missing"),
    [
        pytest.param(read, answer, missing, id=f"{type(answer).__name__} without {missing}")
        for read, answer, names in (
            (
                _wire.challenge,
                verification_pb2.CreateChallengeResponse(nonce="n", audience="a", expire_time=Timestamp(seconds=1)),
                ("nonce", "audience", "expire_time"),
            ),
            (
                _wire.consent,
                verification_pb2.RecordConsentResponse(consent_id="c", expire_time=Timestamp(seconds=1)),
                ("consent_id", "expire_time"),
            ),
            (
                _wire.withdrawal,
                verification_pb2.WithdrawConsentResponse(withdraw_time=Timestamp(seconds=1)),
                ("withdraw_time",),
            ),
            (_wire.evidence, audit_pb2.GetEvidenceResponse(evidence="{}"), ("evidence",)),
        )
        for missing in names
    ],
)
def test_an_answer_that_lacks_something_is_damaged(read: Any, answer: Any, missing: str) -> None:
    read(answer)
    without = type(answer)()
    without.CopyFrom(answer)
    without.ClearField(missing)
    with pytest.raises(DamagedAnswer):
        read(without)
    if missing.endswith("_time"):
        getattr(without, missing).seconds = 1 << 60
        with pytest.raises(DamagedAnswer, match="out of range"):
            read(without)


def test_durations_of_any_length_can_be_read() -> None:
    assert errors.read_duration(_wire.duration(timedelta(days=1))) == timedelta(days=1)
    assert errors.read_duration(Duration(seconds=1 << 62)) == timedelta.max
    assert errors.read_duration(Duration(seconds=-(1 << 62))) == timedelta.min


def test_a_reason_that_is_not_known_is_still_a_rejection() -> None:
    answer = dated(Answer.FromString(b"\x12\x03\x08\xe7\x07"))  # rejected, 999
    answer.MergeFromString(b"\x40\x4d")  # next step 77
    decision = decided(answer)
    assert decision.verdict == Rejected(reason=Reason.UNRECOGNISED, reason_number=999)
    assert decision.next_step is NextStep.CALL_SUPPORT


def test_an_item_with_neither_decision_nor_error_failed() -> None:
    outcome = _wire.outcome(verification_pb2.VerificationResult(), Verify(request_id="case-1"))
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, DamagedAnswer)


# -- a gateway of a later contract ------------------------------------------------------------------------------------


def later_contract() -> Callable[[str], Any]:
    """Today's contract with a reason, a field and a kind of verdict more; gives its messages by their names."""
    files = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "proto" / "baseline.binpb").read_bytes())
    for file in files.file:
        if file.name.endswith("reason.proto"):
            file.enum_type[0].value.add(name="REASON_OF_LATER", number=999)
        for message in file.message_type:
            if message.name in {"VerifyCredentialResponse", "Rejection", "Acceptance", "CreateChallengeResponse"}:
                message.field.add(name="added", number=100, type="TYPE_STRING", label="LABEL_OPTIONAL")
            if message.name == "VerifyCredentialResponse":
                message.field.add(
                    name="deferred",
                    number=101,
                    type="TYPE_MESSAGE",
                    type_name=".recognition.v1.Indeterminate",
                    label="LABEL_OPTIONAL",
                    oneof_index=0,
                )
    pool = descriptor_pool.DescriptorPool()
    waiting = list(files.file)
    known: set[str] = set()
    for _ in range(len(waiting)):
        ready = next(each for each in waiting if known.issuperset(each.dependency))
        waiting.remove(ready)
        known.add(ready.name)
        pool.Add(ready)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"recognition.v1.{name}"))


def test_a_gateway_of_a_later_contract_is_understood(authority: Authority, tmp_path: Path, form: Form) -> None:
    message = later_contract()
    whole = accepted().SerializeToString()
    answers = {
        "new-reason": message("VerifyCredentialResponse")(rejected={"reason": 999, "added": "x"}, added="y"),
        "new-kind": message("VerifyCredentialResponse")(deferred={"reason": 60}, added="y"),
        "new-fields": message("VerifyCredentialResponse")(accepted={"subject": "s", "added": "x"}, added="y"),
    }
    for kind, answer in answers.items():
        told = message("VerifyCredentialResponse").FromString(whole)
        if kind != "new-fields":
            told.ClearField("accepted")
        told.MergeFrom(answer)
        answers[kind] = told

    def verify(request: Any, _context: grpc.ServicerContext) -> Any:
        return answers[request.presentation]

    handler: Any = grpc.unary_unary_rpc_method_handler(
        verify, message("VerifyCredentialRequest").FromString, lambda answer: answer.SerializeToString()
    )
    handlers = [
        grpc.method_handlers_generic_handler("recognition.v1.VerificationService", {"VerifyCredential": handler})
    ]
    with (
        serving(authority, handlers=handlers) as gateway,
        closing(form(authority.profile(tmp_path, gateway.address), SOON)) as asker,
    ):
        rejected = asker.ask("verify", asking("new-reason")).verdict
        assert rejected == Rejected(reason=Reason.UNRECOGNISED, reason_number=999)
        with pytest.raises(DamagedAnswer):
            asker.ask("verify", asking("new-kind"))
        assert asker.ask("verify", asking("new-fields")).verdict.subject == "s"


# -- errors -----------------------------------------------------------------------------------------------------------

VIOLATION = error_details_pb2.BadRequest(
    field_violations=[error_details_pb2.BadRequest.FieldViolation(field="nonce", description="is malformed")]
)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.PERMISSION_DENIED, NotPermitted),
        (grpc.StatusCode.NOT_FOUND, Refused),
        (grpc.StatusCode.ABORTED, Refused),
        (grpc.StatusCode.FAILED_PRECONDITION, Refused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.INTERNAL, Internal),
        (grpc.StatusCode.UNIMPLEMENTED, Internal),
    ],
)
def test_an_error_says_what_kind_it_is(
    gateway: FakeGateway, profile: Profile, form: Form, code: grpc.StatusCode, kind: type[RecognitionError]
) -> None:
    gateway.behaviours["VerifyCredential"] = lambda _, context: fail(context, code, "WHY", VIOLATION)
    with closing(form(profile, SOON)) as asker, pytest.raises(RecognitionError) as caught:
        asker.ask("verify", asking("PRESENTED", nonce="NONCE", request_id="case-1"))
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.reason, error.field, error.request_id) == (code, "WHY", "nonce", "case-1")
    assert "case-1" in str(error)
    assert kind.advice in str(error)
    assert not [secret for secret in SECRETS if secret in f"{error!r} {error}"]


def test_the_text_of_an_error_is_one_line_and_says_first_what_to_do() -> None:
    told = "no such\nmatter\x1b[2J\u2028" + "x" * 1_000
    error = NotPermitted(grpc.StatusCode.PERMISSION_DENIED, told, reason="NOT_PERMITTED", request_id="r-1")
    text = str(error)
    assert text.startswith(f"{NotPermitted.advice} [no such matter [2J x")
    assert text.endswith("x: NOT_PERMITTED] request r-1")
    assert text.isprintable()
    assert len(error.detail) <= 400
    assert "may help after 2 s" in str(Overloaded(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=timedelta(seconds=2)))
    assert str(Internal(grpc.StatusCode.INTERNAL)) == f"{Internal.advice} [INTERNAL]"


@pytest.mark.parametrize("copied", [copy.copy, lambda value: pickle.loads(pickle.dumps(value))])  # noqa: S301 - our own
def test_every_error_can_be_kept(copied: Callable[[RecognitionError], RecognitionError]) -> None:
    kinds = [InvalidRequest, NotPermitted, Refused, Overloaded, Unavailable, DeadlineExceeded, Internal]
    made: list[RecognitionError] = [
        kind(grpc.StatusCode.ABORTED, "why", reason="R", field="f", retry_after=timedelta(seconds=1), request_id="r")
        for kind in kinds
    ]
    for error in (*made, DamagedAnswer("why", request_id="r"), errors.closed("r"), errors.invalid("f", "why", "r")):
        kept = copied(error)
        assert type(kept) is type(error)
        assert vars(kept) == vars(error)
        assert str(kept) == str(error)
        assert errors.for_request(error, "other").request_id == "other"
        assert error.request_id == "r"


def test_what_is_damaged_stays_so_for_each_request() -> None:
    made = errors.for_request(DamagedAnswer("why"), "r")
    assert (type(made), made.code, made.reason) == (DamagedAnswer, grpc.StatusCode.DATA_LOSS, "DAMAGED_ANSWER")
    came = errors.from_code(grpc.StatusCode.DATA_LOSS, "", reason="", field="", retry_after=None, request_id="r")
    assert type(came) is Internal
    assert errors.status_code(77) is errors.status_code(0) is grpc.StatusCode.INTERNAL


def malformed(url: str) -> Any:
    return any_pb2.Any(type_url=url, value=b"\xff\xff\xff")


@pytest.mark.parametrize(
    "details",
    [
        pytest.param(status_pb2.Status(details=[malformed(f"type.googleapis.com/google.rpc.{name}")]), id=name)
        for name in ("ErrorInfo", "BadRequest", "RetryInfo")
    ],
)
def test_a_malformed_detail_leaves_the_status(gateway: FakeGateway, profile: Profile, form: Form, details: Any) -> None:
    def behaviour(_request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", details.SerializeToString()),))
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")

    def streamed(requests: Any, context: grpc.ServicerContext) -> Any:
        next(requests)
        behaviour(None, context)
        yield

    gateway.behaviours |= {"VerifyCredential": behaviour, "StreamVerifyCredentials": streamed}
    with closing(form(profile, SOON)) as asker:
        with pytest.raises(NotPermitted, match="no: PERMISSION_DENIED"):
            asker.ask("verify", asking())
        outcomes = list(asker.stream(numbered(3)))
    assert [type(outcome.error) for _, outcome in outcomes] == [NotPermitted] * 3


def test_a_status_that_cannot_be_read_leaves_the_status(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    def behaviour(_request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no")

    gateway.behaviours["VerifyCredential"] = behaviour
    with closing(form(profile, SOON)) as asker, pytest.raises(Refused):
        asker.ask("verify", asking())


def test_an_answer_that_is_no_message_is_an_error(authority: Authority, tmp_path: Path, form: Form) -> None:
    def streamed(requests: Any, _context: Any) -> Any:
        next(requests)
        yield b"\xff\xff\xff"
        yield from requests

    unary: Any = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"\xff\xff\xff")
    stream: Any = grpc.stream_stream_rpc_method_handler(streamed)
    handlers = [
        grpc.method_handlers_generic_handler(
            "recognition.v1.VerificationService", {"VerifyCredential": unary, "StreamVerifyCredentials": stream}
        )
    ]
    with (
        serving(authority, handlers=handlers) as gateway,
        closing(form(authority.profile(tmp_path, gateway.address), SOON)) as asker,
    ):
        with pytest.raises((DamagedAnswer, Internal)):
            asker.ask("verify", asking())
        outcomes = list(asker.stream(numbered(3)))
    assert all(isinstance(outcome.error, DamagedAnswer | Internal) for _, outcome in outcomes)
    assert len(outcomes) == 3


@pytest.mark.parametrize(
    ("authority_of", "cause"),
    [("gateway", "unable to get local issuer certificate"), ("client", ""), ("nobody", "Connection refused")],
)
def test_who_cannot_connect_is_told_where_and_why(
    authority: Authority, profile: Profile, gateway: FakeGateway, form: Form, authority_of: str, cause: str
) -> None:
    stranger = Authority("strangers")
    if authority_of == "gateway":
        profile.ca.write_bytes(stranger.certificate)
    elif authority_of == "client":
        stranger.profile(profile.ca.parent, gateway.address)
        profile.ca.write_bytes(authority.certificate)
    else:
        gateway.stop()
    with closing(form(profile, SOON)) as asker, pytest.raises(Unavailable) as caught:
        asker.ask("verify", asking(request_id="r-1"))
    text = str(caught.value)
    advice = f"See that the gateway runs at {gateway.address}, and that each side trusts the other's certificate. ["
    assert text.startswith(advice)
    assert f"{cause}: UNAVAILABLE]" in text
    assert text.endswith("] request r-1")


def test_closing_ends_calls_under_way(gateway: FakeGateway, profile: Profile) -> None:
    came, over = threading.Event(), threading.Event()

    def silent(*_: Any) -> Any:
        came.set()
        over.wait(20)
        return accepted()

    def silent_stream(*_: Any) -> Any:
        silent()
        yield from ()

    gateway.behaviours |= {"VerifyCredential": silent, "StreamVerifyCredentials": silent_stream}

    async def awaited(method: str) -> Any:
        asker = aio.RecognitionClient(profile)
        asked: Any = asker.verify(asking()) if method == "verify" else _all(asker.stream(numbered(2)))
        running = asyncio.create_task(asked)
        await asyncio.to_thread(came.wait, 5)
        await asker.close()
        return await asyncio.wait_for(running, 5)

    def blocking(method: str) -> Any:
        asker = client.RecognitionClient(profile)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(
                lambda: asker.verify(asking()) if method == "verify" else list(asker.stream(numbered(2)))
            )
            came.wait(5)
            asker.close()
            return running.result(5)

    try:
        for ask in (blocking, lambda method: asyncio.run(awaited(method))):
            came.clear()
            with pytest.raises(Unavailable, match="this client was closed"):
                ask("verify")
            came.clear()
            outcomes = ask("stream")
            assert [(index, type(outcome.error)) for index, outcome in outcomes] == [(0, Unavailable), (1, Unavailable)]
            assert all("this client was closed" in str(outcome.error) for _, outcome in outcomes)
    finally:
        over.set()


async def _all(outcomes: Any) -> list[Any]:
    return [outcome async for outcome in outcomes]


# -- what cannot be sent ----------------------------------------------------------------------------------------------

UNFIT: Sequence[tuple[Any, str]] = [
    (asking(predicates=[AgeAtLeast(2**40)]), "predicates[0].age_at_least"),
    (asking(predicates=[AgeAtLeast(18), AgeAtLeast(18.0)]), "predicates[1].age_at_least"),  # type: ignore[arg-type]
    (asking(predicates=[AgeAtLeast(None)]), "predicates[0].age_at_least"),  # type: ignore[arg-type]
    (asking(predicates=[HouseholdIn("sh")]), "predicates[0].household_in"),
    (asking(predicates=[HouseholdIn([1])]), "predicates[0].household_in"),  # type: ignore[list-item]
    (asking(predicates=[ClaimMatches("name", "\ud800")]), "predicates[0].claim_matches"),
    (asking(predicates=[ClaimMatches("name", None)]), "predicates[0].claim_matches"),  # type: ignore[arg-type]
    (asking(predicates=["age"]), "predicates[0]"),
    (asking(predicates=AgeAtLeast(18)), "predicates"),
    (asking(predicates=None), "predicates"),
    (asking(""), "presentation"),
    (asking("\ud800"), "presentation"),
    (asking(None), "presentation"),  # type: ignore[arg-type]
    (asking(b"p"), "presentation"),  # type: ignore[arg-type]
    (asking("x" * 262_144), "presentation"),
    (asking(nonce=5), "nonce"),
    (asking(nonce=b"n"), "nonce"),
    (asking(terminal="\udfff"), "terminal"),
    (asking(consent_id=None), "consent_id"),
    (asking(request_id="\ud800"), "request_id"),
    (asking(want_receipt="yes"), "want_receipt"),
    (replace(asking(), matter=""), "matter"),
    ({"matter": "HK-QY"}, "request"),
    (None, "request"),
]


def one_line_of(field: str) -> str:
    """Name a predicate as the error does, without what is in it."""
    return field.split(".", maxsplit=1)[0]


@pytest.mark.parametrize(("request_", "field"), UNFIT, ids=[f"{n} {field}" for n, (_, field) in enumerate(UNFIT)])
def test_what_cannot_be_sent_is_an_invalid_request(request_: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _wire.question(request_)
    error = caught.value
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert error.field in {field, one_line_of(field)}
    assert str(error).isprintable()


def test_what_cannot_be_sent_spoils_no_other(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    seen: Counter[str] = Counter()
    gateway.behaviours |= {
        "BatchVerifyCredentials": answer_batch([]),
        "StreamVerifyCredentials": answer_stream(seen),
    }
    requests = [asking(), *(each for each, _ in UNFIT), asking()]
    kinds = [Decision, *[Failure] * len(UNFIT), Decision]
    with closing(form(profile, SOON)) as asker:
        outcomes = asker.ask("verify_all", requests)
        assert [type(each) for each in outcomes] == kinds
        assert all(isinstance(each.error, InvalidRequest) for each in outcomes[1:-1])
        streamed = dict(asker.stream(requests))
        assert [type(streamed[number]) for number in range(len(requests))] == kinds
        with pytest.raises(InvalidRequest):
            asker.ask("verify", UNFIT[0][0])
    assert seen.total() == 2


@pytest.mark.parametrize(
    ("method", "arguments", "field"),
    [
        ("challenge", [""], "matter"),
        ("challenge", [None], "matter"),
        ("challenge", ["\ud800"], "matter"),
        ("record_consent", ["", ["name"], timedelta(1)], "matter"),
        ("record_consent", ["XS-RH", "name", timedelta(1)], "claims"),
        ("record_consent", ["XS-RH", [], timedelta(1)], "claims"),
        ("record_consent", ["XS-RH", [1], timedelta(1)], "claims"),
        ("record_consent", ["XS-RH", ["name"], 5], "lifetime"),
        ("withdraw_consent", [""], "consent_id"),
        ("explain", [7], "verification_id"),
        ("evidence", [b"v"], "verification_id"),
    ],
)
def test_other_questions_that_cannot_be_sent(
    profile: Profile, form: Form, method: str, arguments: Sequence[Any], field: str
) -> None:
    with closing(form(profile, SOON)) as asker, pytest.raises(InvalidRequest) as caught:
        asker.ask(method, *arguments)
    assert caught.value.field == field


# -- reaching it ------------------------------------------------------------------------------------------------------


def test_proxies_of_the_environment_are_not_used(
    gateway: FakeGateway, profile: Profile, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://localhost:9")
    monkeypatch.delenv("no_proxy", raising=False)
    gateway.behaviours["VerifyCredential"] = lambda request, _: accepted(request.request_id)
    with closing(form(profile, SOON)) as asker:
        asker.ask("verify", asking())


def test_nobody_listening_is_unavailable_soon(authority: Authority, tmp_path: Path, form: Form) -> None:
    with serving(authority) as gateway:
        profile = authority.profile(tmp_path, gateway.address)
    began = time.monotonic()
    with closing(form(profile)) as asker, pytest.raises(Unavailable):
        asker.ask("challenge", "HK-QY")
    assert time.monotonic() - began < 8


def test_a_gateway_of_another_ca_is_not_asked(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    profile.ca.write_bytes(Authority("strangers").certificate)
    with closing(form(profile, SOON)) as asker, pytest.raises(Unavailable):
        asker.ask("verify", asking())


def test_a_gateway_of_another_name_is_not_asked(authority: Authority, tmp_path: Path, form: Form) -> None:
    with (
        serving(authority, host="elsewhere.example") as gateway,
        closing(form(authority.profile(tmp_path, gateway.address), SOON)) as asker,
        pytest.raises(Unavailable),
    ):
        asker.ask("verify", asking())


def test_a_closed_client_answers_nothing(profile: Profile, form: Form) -> None:
    asker = form(profile)
    asker.ask("close")
    with pytest.raises(Unavailable, match="this client was closed"):
        asker.ask("challenge", "HK-QY")
    with pytest.raises(Unavailable, match="this client was closed") as caught:
        asker.ask("verify", asking(request_id="r-1"))
    assert caught.value.request_id == "r-1"
    (failed,) = asker.ask("verify_all", [asking(request_id="r-1")])
    assert (type(failed.error), failed.error.request_id) == (Unavailable, "r-1")
    assert [type(outcome) for _, outcome in asker.stream(numbered(3))] == [Failure] * 3
    asker.close()


# -- tries ------------------------------------------------------------------------------------------------------------


def failing(times: int, code: grpc.StatusCode, *details: Any, seen: list[Any]) -> Callable[..., Any]:
    def behaviour(request: Any, context: grpc.ServicerContext) -> Any:
        seen.append(request)
        if len(seen) <= times:
            fail(context, code, "WHY", *details)
        return accepted(getattr(request, "request_id", ""))

    return behaviour


def test_a_verification_is_tried_again_under_the_same_reference(
    gateway: FakeGateway, profile: Profile, form: Form
) -> None:
    seen: list[Verify] = []
    gateway.behaviours["VerifyCredential"] = failing(2, grpc.StatusCode.UNAVAILABLE, seen=seen)
    with closing(form(profile, SOON)) as asker:
        decision = asker.ask("verify", asking())
    assert len(seen) == 3
    assert {each.request_id for each in seen} == {decision.request_id}


def test_a_consent_is_not_recorded_twice(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    seen: list[Any] = []
    gateway.behaviours["RecordConsent"] = failing(1, grpc.StatusCode.UNAVAILABLE, seen=seen)
    with closing(form(profile, SOON)) as asker, pytest.raises(Unavailable):
        asker.ask("record_consent", "XS-RH", ["name"], timedelta(days=1))
    assert len(seen) == 1


def test_who_is_told_to_wait_waits(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    seen: list[Any] = []
    gateway.behaviours["VerifyCredential"] = failing(2, grpc.StatusCode.RESOURCE_EXHAUSTED, retry_info(0.2), seen=seen)
    began = time.monotonic()
    with closing(form(profile, SOON)) as asker:
        asker.ask("verify", asking())
    assert time.monotonic() - began >= 0.4
    assert len(seen) == 3


def test_a_consent_is_asked_once_where_there_is_no_room(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    seen: list[Any] = []
    gateway.behaviours["RecordConsent"] = failing(1, grpc.StatusCode.RESOURCE_EXHAUSTED, retry_info(0.01), seen=seen)
    with closing(form(profile, SOON)) as asker, pytest.raises(Overloaded) as caught:
        asker.ask("record_consent", "XS-RH", ["name"], timedelta(days=1))
    assert caught.value.retry_after == timedelta(seconds=0.01)
    assert len(seen) == 1


@pytest.mark.parametrize("details", [(), (retry_info(0),), (retry_info(-5),)], ids=["absent", "zero", "negative"])
def test_who_is_not_told_how_long_waits_a_little(
    gateway: FakeGateway, profile: Profile, form: Form, details: Sequence[Any]
) -> None:
    seen: list[Any] = []
    gateway.behaviours["VerifyCredential"] = failing(2, grpc.StatusCode.RESOURCE_EXHAUSTED, *details, seen=seen)
    began = time.monotonic()
    with closing(form(profile, SOON)) as asker:
        asker.ask("verify", asking())
    assert 0.2 <= time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("wait", "tries"),
    [(0.01, 3), (60.0, 1), (9e9, 1)],
    ids=["no more than three times", "never beyond the deadline", "however long"],
)
def test_it_is_not_tried_for_ever(gateway: FakeGateway, profile: Profile, form: Form, wait: float, tries: int) -> None:
    seen: list[Any] = []
    gateway.behaviours["VerifyCredential"] = failing(9, grpc.StatusCode.RESOURCE_EXHAUSTED, retry_info(wait), seen=seen)
    with closing(form(profile, SOON)) as asker, pytest.raises(Overloaded) as caught:
        asker.ask("verify", asking())
    assert caught.value.retry_after == timedelta(seconds=wait)
    assert len(seen) == tries


def test_all_tries_share_one_deadline(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    over = threading.Event()
    gateway.behaviours["VerifyCredential"] = lambda *_: over.wait(20)
    try:
        began = time.monotonic()
        with closing(form(profile, Options(deadline=timedelta(seconds=0.5)))) as asker:
            with pytest.raises(DeadlineExceeded):
                asker.ask("verify", asking())
            assert time.monotonic() - began < 3
    finally:
        over.set()


def test_consents_explanations_and_evidence(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    def record(request: Any, _context: Any) -> Any:
        assert (request.matter, list(request.claims), request.lifetime.seconds) == ("XS-RH", ["name"], 86_400)
        answer = verification_pb2.RecordConsentResponse(consent_id="c-1")
        answer.expire_time.FromDatetime(NOW)
        return answer

    def withdraw(request: Any, _context: Any) -> Any:
        answer = verification_pb2.WithdrawConsentResponse()
        answer.withdraw_time.FromDatetime(NOW)
        return answer

    def explain(request: Any, _context: Any) -> Any:
        step = verification_pb2.ExplainedStep(number=1, inputs={"kid": "k"}, reason=reason_pb2.REASON_EXPIRED)
        step.fix.en = "renew"
        return verification_pb2.ExplainVerificationResponse(
            verification_id=request.verification_id,
            verdict="rejected",
            reason=reason_pb2.REASON_EXPIRED,
            steps=[step],
        )

    gateway.behaviours |= {"RecordConsent": record, "WithdrawConsent": withdraw, "ExplainVerification": explain}
    gateway.behaviours["GetEvidence"] = lambda *_: audit_pb2.GetEvidenceResponse(evidence='{"证": 1}')
    with closing(form(profile, SOON)) as asker:
        consent = asker.ask("record_consent", "XS-RH", ["name"], timedelta(days=1))
        assert (consent.consent_id, consent.expires_at) == ("c-1", NOW)
        assert asker.ask("withdraw_consent", "c-1") == NOW
        explained = asker.ask("explain", "v-1")
        assert (explained.verification_id, explained.reason, explained.steps[0].fix.en) == (
            "v-1",
            Reason.EXPIRED,
            "renew",
        )
        assert explained.steps[0].inputs == {"kid": "k"}
        assert asker.ask("evidence", "v-1") == '{"证": 1}'.encode()


def test_the_generated_stub_is_lent(gateway: FakeGateway, profile: Profile) -> None:
    gateway.behaviours["VerifyCredential"] = lambda request, _: accepted(request.request_id)
    with client.RecognitionClient(profile) as asker, asker.stub() as stub:
        assert stub.VerifyCredential(Verify(request_id="r"), timeout=5).verification_id == "v-r"


# -- batches ----------------------------------------------------------------------------------------------------------


def answer_batch(sizes: list[int]) -> Callable[..., Any]:
    def behaviour(request: Any, context: grpc.ServicerContext) -> Any:
        sizes.append(len(request.items))
        if request.items[0].terminal == "down":
            fail(context, grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
        answer = verification_pb2.BatchVerifyCredentialsResponse()
        for item in request.items:
            result = answer.results.add()
            if item.presentation == "bad":
                result.error.code, result.error.reason, result.error.field = 3, "INVALID_REQUEST", "nonce"
            else:
                result.response.CopyFrom(accepted(item.request_id))
        if request.items[0].terminal == "short":
            del answer.results[0]
        return answer

    return behaviour


def test_a_batch_is_cut_by_number(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    sizes: list[int] = []
    gateway.behaviours["BatchVerifyCredentials"] = answer_batch(sizes)
    with closing(form(profile, SOON)) as asker:
        outcomes = asker.ask("verify_all", (asking(request_id=f"r-{number}") for number in range(2_300)))
    assert [each.verification_id for each in outcomes] == [f"v-r-{number}" for number in range(2_300)]
    assert sizes == [1_000, 1_000, 300]


def test_a_batch_is_cut_by_size(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    sizes: list[int] = []
    gateway.behaviours["BatchVerifyCredentials"] = answer_batch(sizes)
    with closing(form(profile, SOON)) as asker:
        outcomes = asker.ask("verify_all", [asking("x" * 60_000)] * 100)
    assert len(outcomes) == 100
    assert sum(sizes) == 100
    assert all(size * 60_000 < _rules.MAX_BATCH_BYTES for size in sizes)
    assert len(sizes) == 2


def test_one_bad_item_spoils_no_other(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    gateway.behaviours["BatchVerifyCredentials"] = answer_batch([])
    requests = [asking(), asking("bad", request_id="r"), asking("x" * 2_000_000), asking()]
    with closing(form(profile, SOON)) as asker:
        outcomes = asker.ask("verify_all", requests)
        assert asker.ask("verify_all", []) == []
    assert [type(each) for each in outcomes] == [Decision, Failure, Failure, Decision]
    assert isinstance(outcomes[1].error, InvalidRequest)
    assert (outcomes[1].error.field, outcomes[1].error.request_id) == ("nonce", "r")
    assert outcomes[2].error.field == "presentation"


@pytest.mark.parametrize(("terminal", "kind"), [("down", NotPermitted), ("short", DamagedAnswer)])
def test_a_batch_that_fails_gives_no_decision(
    gateway: FakeGateway, profile: Profile, form: Form, terminal: str, kind: type[RecognitionError]
) -> None:
    gateway.behaviours["BatchVerifyCredentials"] = answer_batch([])
    with closing(form(profile, SOON)) as asker:
        outcomes = asker.ask("verify_all", [asking(terminal=terminal, request_id=f"r-{each}") for each in range(3)])
    assert [(type(each.error), each.error.request_id) for each in outcomes] == [
        (kind, f"r-{number}") for number in range(3)
    ]


# -- streams ----------------------------------------------------------------------------------------------------------


def answer_stream(seen: Counter[str], *, breaks_after: int = 0, refuses: int = 0) -> Callable[..., Any]:
    """Answers packs; ends once after so many messages, the last of which it does not answer; refuses so many items."""
    state = {"breaks": breaks_after, "refuses": refuses}

    def behaviour(requests: Any, context: grpc.ServicerContext) -> Any:
        for number, request in enumerate(requests, 1):
            assert 1 <= len(request.items) <= 16
            seen.update(item.request.request_id for item in request.items)
            if number == state["breaks"]:
                state["breaks"] = 0
                fail(context, grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
            answer = verification_pb2.StreamVerifyCredentialsResponse()
            for item in reversed(request.items):
                result = answer.results.add(item_id=item.item_id)
                if state["refuses"] > 0:
                    state["refuses"] -= 1
                    result.error.code, result.error.reason = 8, "CALLER_RATE_EXCEEDED"
                    result.error.retry_delay.FromMilliseconds(50)
                else:
                    result.response.CopyFrom(accepted(item.request.request_id))
            yield answer

    return behaviour


def numbered(count: int, taken: list[int] | None = None) -> Iterator[VerifyRequest]:
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield asking(request_id=f"r-{number}")


def test_a_stream_answers_every_request_once(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    seen: Counter[str] = Counter()
    gateway.behaviours["StreamVerifyCredentials"] = answer_stream(seen)
    with closing(form(profile, SOON)) as asker:
        outcomes = list(asker.stream(numbered(500)))
    assert sorted(index for index, _ in outcomes) == list(range(500))
    assert all(outcome.verification_id == f"v-r-{index}" for index, outcome in outcomes)
    assert set(seen.values()) == {1}


def test_who_reads_slowly_slows_the_source_down(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    gateway.behaviours["StreamVerifyCredentials"] = answer_stream(Counter())
    taken: list[int] = []
    with closing(form(profile, SOON)) as asker:
        for read, _ in enumerate(asker.stream(numbered(300, taken))):
            assert len(taken) - read <= SOON.under_way
    assert len(taken) == 300


def test_a_stream_that_ends_early_is_opened_anew(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    seen: Counter[str] = Counter()
    gateway.behaviours["StreamVerifyCredentials"] = answer_stream(seen, breaks_after=4)
    with closing(form(profile, SOON)) as asker:
        outcomes = list(asker.stream(numbered(200)))
    assert sorted(index for index, _ in outcomes) == list(range(200))
    assert all(outcome.verification_id == f"v-r-{index}" for index, outcome in outcomes)
    assert set(seen) == {f"r-{number}" for number in range(200)}
    assert max(seen.values()) == 2


def test_what_a_stream_has_no_room_for_is_sent_again(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    gateway.behaviours["StreamVerifyCredentials"] = answer_stream(Counter(), refuses=70)
    with closing(form(profile, SOON)) as asker:
        outcomes = list(asker.stream(numbered(150)))
    assert sorted(index for index, _ in outcomes) == list(range(150))
    assert {type(outcome) for _, outcome in outcomes} == {Decision}


def test_a_stream_that_is_not_permitted_is_not_opened_again(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    calls: list[int] = []

    def refuse(requests: Any, context: grpc.ServicerContext) -> Any:
        calls.append(1)
        next(requests)
        fail(context, grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
        yield

    gateway.behaviours["StreamVerifyCredentials"] = refuse
    taken: list[int] = []
    outcomes: list[tuple[int, Any]] = []
    with closing(form(profile, SOON)) as asker, pytest.raises(NotPermitted):
        outcomes.extend(asker.stream(numbered(1_000, taken)))
    assert len(calls) == 1
    assert sorted(index for index, _ in outcomes) == taken[: len(outcomes)]
    assert all(isinstance(outcome.error, NotPermitted) for _, outcome in outcomes)


def test_a_stream_that_stays_silent_is_given_up(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    over = threading.Event()

    def silent(requests: Any, _context: Any) -> Any:
        over.wait(20)
        yield from ()

    gateway.behaviours["StreamVerifyCredentials"] = silent
    try:
        began = time.monotonic()
        with closing(form(profile, Options(batch_deadline=timedelta(seconds=0.5)))) as asker:
            outcomes = list(asker.stream(numbered(3)))
        assert time.monotonic() - began < 10
    finally:
        over.set()
    assert [(index, type(outcome.error), outcome.error.request_id) for index, outcome in outcomes] == [
        (number, DeadlineExceeded, f"r-{number}") for number in range(3)
    ]


def test_an_error_of_the_source_is_the_caller_s(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    gateway.behaviours["StreamVerifyCredentials"] = answer_stream(Counter())

    def broken() -> Iterator[VerifyRequest]:
        yield from numbered(40)
        raise KeyError("register")

    outcomes: list[Any] = []
    with closing(form(profile, SOON)) as asker, pytest.raises(KeyError, match="register"):
        outcomes.extend(asker.stream(broken()))
    # What was taken has its outcome first.
    assert sorted(index for index, _ in outcomes) == list(range(40))
    assert {type(outcome) for _, outcome in outcomes} == {Decision}


def test_a_gateway_that_stays_away_is_named_as_the_reason(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    calls: list[int] = []

    def away(requests: Any, context: grpc.ServicerContext) -> Any:
        calls.append(1)
        next(requests)
        fail(context, grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        yield

    gateway.behaviours["StreamVerifyCredentials"] = away
    taken: list[int] = []
    failed: list[tuple[int, Any]] = []
    options = Options(batch_deadline=timedelta(seconds=1), under_way=8)
    with closing(form(profile, options)) as asker:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="SHUTTING_DOWN"):
            failed.extend(asker.stream(numbered(1_000, taken)))
        assert 1 <= time.monotonic() - began < 4
        # A source of which there is no more ends as it should.
        assert [type(outcome.error) for _, outcome in asker.stream(numbered(3))] == [Unavailable] * 3
    assert [(index, type(outcome.error), outcome.error.request_id) for index, outcome in failed] == [
        (number, Unavailable, f"r-{number}") for number in taken
    ]
    assert {outcome.error.reason for _, outcome in failed} == {"SHUTTING_DOWN"}
    assert len(taken) <= 9  # not the whole source
    assert len(calls) > 4


@pytest.mark.parametrize("seconds", [60.0, 9e9, 1e18], ids=["a minute", "285 years", "as long as can be"])
def test_who_would_have_to_wait_too_long_is_told_at_once(
    gateway: FakeGateway, profile: Profile, form: Form, seconds: float
) -> None:
    def refuse(requests: Any, _context: Any) -> Any:
        for request in requests:
            answer = verification_pb2.StreamVerifyCredentialsResponse()
            for item in request.items:
                result = answer.results.add(item_id=item.item_id)
                result.error.code, result.error.reason = 8, "OVERLOADED"
                result.error.retry_delay.seconds = int(seconds)
            yield answer

    gateway.behaviours["StreamVerifyCredentials"] = refuse
    began = time.monotonic()
    with closing(form(profile, SOON)) as asker:
        outcomes = list(asker.stream(numbered(3)))
    assert time.monotonic() - began < 4
    assert [type(outcome.error) for _, outcome in outcomes] == [Overloaded] * 3
    assert all(outcome.error.retry_after >= timedelta(seconds=60) for _, outcome in outcomes)


@pytest.mark.parametrize("delay", [None, 0, -3], ids=["absent", "zero", "negative"])
def test_what_is_refused_without_a_time_is_sent_again_soon(
    gateway: FakeGateway, profile: Profile, form: Form, delay: int | None
) -> None:
    refused: Counter[str] = Counter()

    def behaviour(requests: Any, _context: Any) -> Any:
        for request in requests:
            answer = verification_pb2.StreamVerifyCredentialsResponse()
            for item in request.items:
                result = answer.results.add(item_id=item.item_id)
                if refused[item.item_id] == 5:  # more often than a single call would be
                    result.response.CopyFrom(accepted(item.request.request_id))
                    continue
                refused[item.item_id] += 1
                result.error.code, result.error.reason = 8, "OVERLOADED"
                if delay is not None:
                    result.error.retry_delay.seconds = delay
            yield answer

    gateway.behaviours["StreamVerifyCredentials"] = behaviour
    began = time.monotonic()
    with closing(form(profile, SOON)) as asker:
        outcomes = list(asker.stream(numbered(3)))
    assert {type(outcome) for _, outcome in outcomes} == {Decision}
    assert 0.5 <= time.monotonic() - began < 4


def strays(item_id: str, *, each: int = 1) -> verification_pb2.StreamVerifyCredentialsResponse:
    answer = verification_pb2.StreamVerifyCredentialsResponse()
    for _ in range(each):
        answer.results.add(item_id=item_id).response.CopyFrom(accepted())
    return answer


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(lambda _: verification_pb2.StreamVerifyCredentialsResponse(), id="nothing"),
        pytest.param(lambda _: strays("another"), id="answers to others"),
        pytest.param(lambda name: strays(f"0{name}"), id="a number written otherwise"),
        pytest.param(lambda name: strays(chr(0xFF10 + int(name))), id="full-width digits"),
        pytest.param(lambda _: strays("9" * 5_000), id="a very long number"),
        pytest.param(lambda _: strays(""), id="no name"),
    ],
)
def test_what_answers_no_item_does_not_prolong_the_wait(
    gateway: FakeGateway, profile: Profile, form: Form, noise: Callable[[str], Any]
) -> None:
    over = threading.Event()

    def behaviour(requests: Any, _context: Any) -> Any:
        name = next(requests).items[0].item_id
        for _ in range(200):
            yield noise(name)
            if over.wait(0.05):
                return

    gateway.behaviours["StreamVerifyCredentials"] = behaviour
    began = time.monotonic()
    try:
        with closing(form(profile, Options(batch_deadline=timedelta(seconds=1)))) as asker:
            ((_, outcome),) = asker.stream(numbered(1))
    finally:
        over.set()
    assert isinstance(outcome.error, DeadlineExceeded)
    assert 1 <= time.monotonic() - began < 5


@pytest.mark.parametrize("each", [0, 1, 2_000], ids=["empty ones", "one by one", "all at once"])
def test_a_stream_of_nothing_but_strays_is_damaged(
    gateway: FakeGateway, profile: Profile, form: Form, each: int
) -> None:
    def behaviour(requests: Any, _context: Any) -> Any:
        next(requests)
        for _ in range(5_000):
            yield strays("another", each=each)

    gateway.behaviours["StreamVerifyCredentials"] = behaviour
    with closing(form(profile, SOON)) as asker:
        outcomes = list(asker.stream(numbered(3)))
    assert [type(outcome.error) for _, outcome in outcomes] == [DamagedAnswer] * 3


def test_a_slow_reader_does_not_gather_what_a_gateway_floods_it_with(
    gateway: FakeGateway, profile: Profile, form: Form
) -> None:
    sent, still = [0], threading.Event()
    flood = strays("another")
    flood.results[0].response.receipt = "x" * 200_000

    def behaviour(requests: Any, _context: Any) -> Any:
        for request in requests:
            yield strays(request.items[0].item_id)
            for _ in range(900):
                sent[0] += 1
                yield flood

    gateway.behaviours["StreamVerifyCredentials"] = behaviour
    options = Options(batch_deadline=timedelta(seconds=5), under_way=8)
    with closing(form(profile, options)) as asker, closing(cast("Any", asker.stream(numbered(2)))) as outcomes:
        next(outcomes)
        before = -1
        while sent[0] != before:  # until the gateway cannot send any more
            before = sent[0]
            still.wait(0.3)
        assert sent[0] < 500  # what fits into the windows of HTTP/2 is with gRPC


def test_refused_requests_do_not_prolong_the_wait(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    over = threading.Event()

    def silent(requests: Any, _context: Any) -> Any:
        over.wait(20)
        yield from ()

    def source() -> Iterator[VerifyRequest]:
        yield asking()
        for _ in range(400):
            over.wait(0.02)
            yield asking("")

    async def awaited_source() -> AsyncIterator[VerifyRequest]:
        yield asking()
        for _ in range(400):
            await asyncio.sleep(0.02)
            yield asking("")

    gateway.behaviours["StreamVerifyCredentials"] = silent
    options = Options(batch_deadline=timedelta(seconds=0.5), under_way=8)
    try:
        began = time.monotonic()
        with closing(form(profile, options)) as asker, pytest.raises(DeadlineExceeded):
            list(asker.stream(source() if form is FORMS[0] else cast("Any", awaited_source())))
        assert time.monotonic() - began < 6
    finally:
        over.set()


def test_a_stream_that_is_left_ends(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    ended = threading.Event()

    def watch(requests: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(ended.set)
        yield from answer_stream(Counter())(requests, context)

    gateway.behaviours["StreamVerifyCredentials"] = watch
    with closing(form(profile, SOON)) as asker:
        outcomes = asker.stream(numbered(1_000))
        next(outcomes)
        closed: Any = outcomes
        closed.close()
        assert ended.wait(5)


def test_what_cannot_be_sent_spoils_no_stream(gateway: FakeGateway, profile: Profile, form: Form) -> None:
    gateway.behaviours["StreamVerifyCredentials"] = answer_stream(Counter())
    with closing(form(profile, SOON)) as asker:
        outcomes = dict(asker.stream([asking(), asking("x" * 2_000_000), asking()]))
        assert list(asker.stream([])) == []
    assert [type(outcomes[number]) for number in range(3)] == [Decision, Failure, Decision]


# -- the register that is checked anew ---------------------------------------------------------------------------------


class Register:
    """A register, the program that checks it anew, and a gateway that accepts each presentation once."""

    def __init__(self, folder: Path, profile: Profile, presentations: Sequence[object]) -> None:
        self.accepted: dict[str, str] = {}
        """By presentation, under which reference."""
        self.asked: list[list[str]] = []
        self.forgets = False
        """As a gateway does after a minute."""
        self.before_answering: Callable[[], object] = lambda: None
        self._register, self._results = folder / "register.jsonl", folder / "results.jsonl"
        rows = [{"id": f"row-{number}", "presentation": each} for number, each in enumerate(presentations)]
        self._register.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        names = ("address", "ca", "certificate", "private_key")
        content = "".join(f'{name} = "{getattr(profile, name)}"\n' for name in names)
        (folder / "service.toml").write_text(content, "utf-8")
        self._command = [sys.executable, str(PACKAGE / "examples" / "recheck_register.py")]
        self._command += ["--profile", str(folder / "service.toml"), "--matter", "KY-LA", "--batch", "5"]
        self._command += [str(self._register), str(self._results)]
        self.running: subprocess.Popen[str] | None = None

    def answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.asked.append([item.request_id for item in request.items])
        answer = verification_pb2.BatchVerifyCredentialsResponse()
        for item in request.items:
            result = answer.results.add()
            before = self.accepted.get(item.presentation)
            if item.presentation == "not permitted":
                result.error.code, result.error.reason = 7, "NOT_PERMITTED"
            elif item.presentation == "lost":
                result.error.code, result.error.reason = 14, "UNAVAILABLE"
            elif item.presentation == "damaged":
                result.response.CopyFrom(accepted(item.request_id))
                result.response.accepted.ClearField("subject")
            elif before is not None and (self.forgets or before != item.request_id):
                dated(result.response).rejected.reason = reason_pb2.REASON_REPLAYED
            else:
                self.accepted[item.presentation] = item.request_id
                result.response.CopyFrom(accepted(item.request_id))
                result.response.repeated = before is not None
        self.before_answering()
        return answer

    def check(self) -> tuple[int, str]:
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        with subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as running:
            self.running = running
            out, _ = running.communicate(timeout=60)
        return running.returncode, out

    def found(self) -> dict[str, tuple[str, str]]:
        rows = map(json.loads, self._results.read_text("utf-8").splitlines())
        return {row["id"]: (row["verdict"], row["reason"]) for row in rows}


def test_one_bad_entry_costs_the_register_no_other(gateway: FakeGateway, profile: Profile, tmp_path: Path) -> None:
    presentations = ["a", "", "b", "not permitted", "damaged", "c", None, "\ud800", "d"]
    register = Register(tmp_path, profile, presentations)
    gateway.behaviours["BatchVerifyCredentials"] = register.answer
    code, out = register.check()
    assert code == 3, out
    bad = {1: "INVALID_REQUEST", 3: "NOT_PERMITTED", 4: "DAMAGED_ANSWER", 6: "INVALID_REQUEST", 7: "INVALID_REQUEST"}
    assert register.found() == {
        f"row-{number}": ("undecided", bad[number]) if number in bad else ("accepted", "") for number in range(9)
    }
    # What was accepted is not asked about again, and the others under their own references.
    first = [reference for batch in register.asked for reference in batch]
    register.asked.clear()
    assert register.check()[0] == 3
    assert [reference for batch in register.asked for reference in batch] == [first[2], first[3]]


def test_what_a_batch_decided_is_kept_where_the_rest_of_it_failed(
    gateway: FakeGateway, profile: Profile, tmp_path: Path
) -> None:
    register = Register(tmp_path, profile, ["lost", "a", "b", "c", "lost", "d"])
    gateway.behaviours["BatchVerifyCredentials"] = register.answer
    code, out = register.check()
    assert (code, "3 of 6 are done" in out) == (4, True), out
    assert register.found() == {f"row-{number}": ("accepted", "") for number in (1, 2, 3)}


@pytest.mark.parametrize("forgets", [False, True], ids=["within a minute", "later"])
def test_a_program_that_was_killed_asks_the_same_again(
    gateway: FakeGateway, profile: Profile, tmp_path: Path, *, forgets: bool
) -> None:
    register = Register(tmp_path, profile, [f"p-{number}" for number in range(12)])
    gateway.behaviours["BatchVerifyCredentials"] = register.answer

    def kill() -> None:
        if len(register.asked) == 2:
            assert register.running is not None
            register.running.kill()

    register.before_answering = kill
    code, _ = register.check()
    assert code == -9
    assert len(register.found()) == 5
    assert len(register.accepted) == 10  # five of which the program does not know
    register.before_answering, register.forgets = lambda: None, forgets
    code, out = register.check()
    assert code == (3 if forgets else 0), out
    assert register.asked[1] == register.asked[2]
    unknown = ("unknown", "REPLAYED") if forgets else ("accepted", "")
    assert register.found() == {
        f"row-{number}": unknown if 5 <= number < 10 else ("accepted", "") for number in range(12)
    }
    assert ("asked before, outcome unknown: see the log by request id" in out) == forgets


def test_a_presentation_that_was_used_elsewhere_is_rejected(
    gateway: FakeGateway, profile: Profile, tmp_path: Path
) -> None:
    register = Register(tmp_path, profile, ["a", "b"])
    register.accepted["a"] = "another-one"
    gateway.behaviours["BatchVerifyCredentials"] = register.answer
    assert register.check()[0] == 1
    assert register.found() == {"row-0": ("rejected", "REPLAYED"), "row-1": ("accepted", "")}


# -- certificates -----------------------------------------------------------------------------------------------------


def test_a_profile_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    file.write_text('address = "g:1"\nca = "../ca.pem"\ncertificate = "c.pem"\nprivate_key = "/k.pem"\n', "utf-8")
    read = Profile.read(file)
    assert read == Profile(
        address="g:1", ca=tmp_path / "../ca.pem", certificate=tmp_path / "c.pem", private_key=Path("/k.pem")
    )
    for content, why in (
        ('address = "g:1"\n', "ca is missing"),
        ('address = ""\nca = "c"\ncertificate = "c"\nprivate_key = "k"\n', "address is missing, empty"),
        ("address = \n", "service.toml"),
    ):
        file.write_text(content, "utf-8")
        with pytest.raises(ValueError, match=why):
            Profile.read(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"service\.toml"):
        Profile.read(file)


def test_files_that_do_not_fit_together_are_refused_at_first(authority: Authority, tmp_path: Path) -> None:
    profile = authority.profile(tmp_path, "localhost:1")
    profile.certificate.write_bytes(authority.issue("hukou")[0])
    with pytest.raises(ValueError, match="do not fit together"):
        client.RecognitionClient(profile)
    with pytest.raises(OSError, match="nowhere"):
        client.RecognitionClient(
            Profile(address="a:1", ca=Path("nowhere"), certificate=Path("x"), private_key=Path("y"))
        )


def test_files_that_do_not_fit_together_yet_leave_the_old_ones_in_use(authority: Authority, tmp_path: Path) -> None:
    profile = authority.profile(tmp_path, "localhost:1")
    files = Files(profile)
    good = files.material
    assert not files.have_changed(10.0)
    certificate, key = authority.issue("hukou")
    profile.certificate.write_bytes(certificate)
    assert not files.have_changed(11.0)
    profile.private_key.write_bytes(key[:100])
    assert not files.have_changed(12.0)
    profile.private_key.unlink()
    assert not files.have_changed(13.0)
    assert files.material == good
    profile.private_key.write_bytes(key)
    assert not files.have_changed(13.5)  # looked at less than a second ago
    assert files.have_changed(14.0)
    assert files.material.certificate == certificate
    assert not files.have_changed(15.0)
    assert "PRIVATE KEY" not in repr(files.material)


def test_new_certificates_are_taken_up_and_calls_under_way_end_in_peace(
    authority: Authority, gateway: FakeGateway, profile: Profile, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recognition.profile.LOOK_SECONDS", 0.0)
    seen: list[bytes] = []
    streamed: list[bytes] = []

    def certificate(context: grpc.ServicerContext) -> bytes:
        auth: Any = context.auth_context()
        pem: bytes = auth["x509_pem_cert"][0]
        return pem.strip()

    def verify(request: Any, context: grpc.ServicerContext) -> Any:
        seen.append(certificate(context))
        return accepted(request.request_id)

    answered: Counter[str] = Counter()

    def stream(requests: Any, context: grpc.ServicerContext) -> Any:
        streamed.append(certificate(context))
        yield from answer_stream(answered)(requests, context)

    gateway.behaviours |= {"VerifyCredential": verify, "StreamVerifyCredentials": stream}
    with closing(form(profile, SOON)) as asker:
        outcomes = asker.stream(numbered(100))
        next(outcomes)
        asker.ask("verify", asking())
        renewed = authority.renew(profile)
        asker.ask("verify", asking())
        asker.ask("verify", asking())
        assert seen[0] != renewed.strip()
        assert seen[1:] == [renewed.strip()] * 2
        assert len(list(outcomes)) == 99
    # What was sent on the old connection was answered there, and the rest went over the new one.
    assert streamed == [seen[0], renewed.strip()]
    assert set(answered.values()) == {1}


# -- the holder -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issued() -> Issued:
    key = generate_key()
    claims = {
        "iss": "https://issuer.example",
        "cnf": {"jwk": dict(key.public.jwk)},
        "person": {"name": "赵某", "region": "sh", "of": ["cn", "mo"]},
        "actor": {"name": "钱某"},
    }
    paths: Any = [("person",), ("person", "name"), ("person", "region"), ("person", "of", 1), ("actor", "name")]
    salts = (base64.urlsafe_b64encode(bytes([number] * 18)).decode() for number in range(100))
    text = sd_jwt.issue(claims, paths, salts=salts, signer=generate_key(), typ="dc+sd-jwt", decoys=2)
    return text, HolderKey.from_pem(key.to_pkcs8()), key


@pytest.mark.parametrize(
    ("disclose", "shown"),
    [
        (None, {"person": {"name": "赵某", "region": "sh", "of": ["cn", "mo"]}, "actor": {"name": "钱某"}}),
        ([], {"actor": {}}),
        (["region"], {"person": {"region": "sh", "of": ["cn"]}, "actor": {}}),
        (["person.name", "person.of.1"], {"person": {"name": "赵某", "of": ["cn", "mo"]}, "actor": {}}),
        (["actor.name"], {"actor": {"name": "钱某"}}),
    ],
)
def test_a_holder_shows_what_it_chooses(
    issued: Issued, disclose: Sequence[str] | None, shown: Mapping[str, Any]
) -> None:
    text, key, private = issued
    presented = Credential(text).present(key, "aud", "n-1", disclose=disclose, issued_at=NOW)
    parts = sd_jwt.split(presented)
    payload = parse_compact(parts.issuer_jwt, max_chars=32_768).unverified_claims()
    claims = sd_jwt.process(payload, parts.disclosures, sd_jwt.HashAlgorithm.SHA_256)
    assert {name: claims[name] for name in ("person", "actor") if name in claims} == shown
    assert parts.key_binding_jwt is not None
    verify_key_binding(
        parts.key_binding_jwt,
        private.public,
        sd_jwt.digest(parts.sd_jwt, sd_jwt.HashAlgorithm.SHA_256),
        Transaction(
            audience="aud",
            nonce="n-1",
            now=NOW,
            max_age=timedelta(minutes=5),
            clock_skew=timedelta(0),
        ),
    )


@pytest.mark.parametrize("name", ["name", "nothing", "erson.name"])
def test_a_holder_is_told_what_cannot_be_chosen(issued: Issued, name: str) -> None:
    text, key, _ = issued
    with pytest.raises(ValueError, match=r"more than one|nothing"):
        Credential(text).present(key, "aud", "n-1", disclose=[name])


def test_a_holder_reads_only_what_is_its_own(issued: Issued) -> None:
    text, key, _ = issued
    with pytest.raises(ValueError, match="not an SD-JWT"):
        Credential(Credential(text).present(key, "a", "n"))
    for jwk in ({}, {"kty": "EC", "crv": "P-256"}, {"kty": "OKP", "crv": "Ed25519", "d": "AA"}):
        with pytest.raises(ValueError, match="not a private JWK"):
            HolderKey.from_jwk(jwk)
    printed = f"{key!r} {Credential(text)!r} {Credential(text).disclosures}"
    assert not [secret for secret in ("赵某", text[:40]) if secret in printed]


# -- what it runs on --------------------------------------------------------------------------------------------------


def test_the_stubs_alone_load_nothing_else() -> None:
    loaded = "import sys; from recognition.v1 import verification_pb2; print(*sys.modules)"
    environment = {"PYTHONPATH": str(PACKAGE)}
    run = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True, env=environment)
    names = set(run.stdout.split())
    assert {name for name in names if name.startswith("recognition") and not name.startswith("recognition.v1")} == {
        "recognition"
    }
    assert not names & {"grpc", "google.rpc", "asyncio", "cryptography"}


ON_THE_OLDEST = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from importlib.metadata import version
from pathlib import Path
from recognition import aio, client
from recognition.holder import Credential, HolderKey

address, folder = sys.argv[2], Path(sys.argv[3])
profile = client.Profile(
    address=address, ca=folder / "ca.pem", certificate=folder / "hukou.pem", private_key=folder / "hukou.key"
)
request = client.VerifyRequest(matter="HK-QY", presentation="p")
refused = client.VerifyRequest(matter="HK-QY", presentation="refused")
with client.RecognitionClient(profile) as asker:
    found = [asker.verify(request), *asker.verify_all([request] * 3)]
    found.extend(each for _, each in asker.stream([request] * 40))
    try:
        asker.verify(refused)
    except client.InvalidRequest as error:
        print(error.reason, error.field)

async def main():
    async with aio.RecognitionClient(profile) as asker:
        found.append(await asker.verify(request))
        found.extend(await asker.verify_all([request] * 3))
        found.extend([each async for _, each in asker.stream([request] * 40)])

asyncio.run(main())
assert all(type(each.verdict) is client.Accepted for each in found)
print(len(found), version("grpcio"), version("protobuf"))
"""


def test_it_runs_on_the_oldest_versions_we_promise(gateway: FakeGateway, profile: Profile) -> None:
    if not OLDEST.exists():
        pytest.fail(f"{OLDEST.relative_to(ROOT)} is missing: run `make setup`")

    def verify(request: Any, context: grpc.ServicerContext) -> Any:
        if request.presentation == "refused":
            fail(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", VIOLATION)
        return accepted(request.request_id)

    gateway.behaviours |= {
        "VerifyCredential": verify,
        "BatchVerifyCredentials": answer_batch([]),
        "StreamVerifyCredentials": answer_stream(Counter()),
    }
    command = [str(OLDEST), "-I", "-W", "error", "-c", ON_THE_OLDEST]
    command += [str(PACKAGE), gateway.address, str(profile.ca.parent)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["INVALID_REQUEST nonce", "88 1.75.1 6.31.1"]
