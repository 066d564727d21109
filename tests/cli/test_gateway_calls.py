"""mrg issue, challenge and verify against a gateway over real mutual TLS: answers, exit codes, and what goes wrong.

The gateway is a stand-in that gives the answers it is told to; what a real one answers, the lab's tests show.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from recognition.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    issuance_pb2,
    issuance_pb2_grpc,
    reason_pb2,
    verification_pb2,
    verification_pb2_grpc,
)

from gateway import wire
from gateway.cli import receipt
from gateway.core.jose import load_pkcs8
from gateway.core.reasons import Reason
from gateway.core.texts import Language, text
from tests.cli.ceremony import Ceremony, done, failed, mrg
from tests.federation import START


@dataclass
class StandIn(
    verification_pb2_grpc.VerificationServiceServicer,
    issuance_pb2_grpc.IssuanceServiceServicer,
    audit_pb2_grpc.AuditServiceServicer,
):
    """Answers what it is told to, and remembers what it was asked."""

    answer: Message | Callable[[grpc.ServicerContext], NoReturn] = field(
        default_factory=verification_pb2.VerifyCredentialResponse
    )
    asked: list[Any] = field(default_factory=list)
    evidence: list[Message | Callable[[grpc.ServicerContext], NoReturn]] = field(default_factory=list)
    """What is answered when evidence is asked for, the last of it again and again."""

    def GetEvidence(self, request: Message, context: grpc.ServicerContext) -> Any:
        self.asked.append(request)
        answer = self.evidence.pop(0) if len(self.evidence) > 1 else self.evidence[0]
        return answer if isinstance(answer, Message) else answer(context)

    def _give(self, request: Message, context: grpc.ServicerContext) -> Any:
        self.asked.append(request)
        return self.answer if isinstance(self.answer, Message) else self.answer(context)

    CreateChallenge = VerifyCredential = BatchVerifyCredentials = IssueCredential = IssueAssertion = _give
    ExplainVerification = RecordConsent = WithdrawConsent = _give
    SetCredentialStatus = GetCredentialStatus = ListStatusLists = _give
    ListEntries = GetCheckpoint = GetInclusionProof = GetConsistencyProof = CosignCheckpoint = _give
    ListLogs = ListDisclosures = OpenDispute = ResolveDispute = GetDispute = ListDisputes = _give

    def StreamVerifyCredentials(self, request_iterator: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        raise AssertionError("no command asks for a stream")


@pytest.fixture(scope="module")
def server(drafted: Path) -> Iterator[tuple[StandIn, int]]:
    stand_in = StandIn()
    tls = drafted / "ah" / "tls"
    running = grpc.server(ThreadPoolExecutor(max_workers=2))
    verification_pb2_grpc.add_VerificationServiceServicer_to_server(stand_in, running)
    issuance_pb2_grpc.add_IssuanceServiceServicer_to_server(stand_in, running)
    audit_pb2_grpc.add_AuditServiceServicer_to_server(stand_in, running)
    credentials = grpc.ssl_server_credentials(
        [((tls / "server.key").read_bytes(), (tls / "server.pem").read_bytes())],
        root_certificates=(tls / "ca.pem").read_bytes(),
        require_client_auth=True,
    )
    port = running.add_secure_port("127.0.0.1:0", credentials)
    running.start()
    yield stand_in, port
    running.stop(None).wait()


@dataclass
class Gateway:
    """The stand-in, and how to reach it."""

    stand_in: StandIn
    reach: list[str]
    presentation: Path

    def verify(self, *arguments: str, piped: str = "") -> Any:
        return mrg("verify", self.presentation, *self.reach, "--matter", "HK-QY", *arguments, piped=piped)


@pytest.fixture
def gateway(server: tuple[StandIn, int], drafted: Path, tmp_path: Path) -> Gateway:
    stand_in, port = server
    stand_in.asked.clear()
    presentation = tmp_path / "presentation"
    presentation.write_text("a.b.c~\n")
    profile = drafted / "ah" / "clients" / "counter.toml"
    return Gateway(stand_in, ["--as", str(profile), "--address", f"127.0.0.1:{port}"], presentation)


def accepted(attributes: dict[str, Any]) -> verification_pb2.VerifyCredentialResponse:
    return verification_pb2.VerifyCredentialResponse(
        accepted=verification_pb2.Acceptance(
            subject="pseudonym",
            issuer="https://issuer.sh.test",
            issuing_province="sh",
            credential_type="urn:type",
            assurance=verification_pb2.Assurance(identity=3, authenticator=2, federation=3, acr="urn:acr"),
            attributes=wire.struct(attributes),
            issue_time=wire.timestamp(START),
            holder_bound=True,
        ),
        verification_id="v-1",
        verify_time=wire.timestamp(START),
        trust_basis=verification_pb2.TrustBasis(charter_version=1, view_id="view", stale=True),
    )


def rejected(reason: Reason) -> verification_pb2.VerifyCredentialResponse:
    return verification_pb2.VerifyCredentialResponse(
        rejected=verification_pb2.Rejection(reason=wire.reason_number(reason))
    )


def refusing(code: int, reason: str, message: str, *details: Message) -> Callable[[grpc.ServicerContext], NoReturn]:
    def refuse(context: grpc.ServicerContext) -> NoReturn:
        packed = []
        for detail in (error_details_pb2.ErrorInfo(reason=reason, domain="recognition.v1"), *details):
            any_message = any_pb2.Any()
            any_message.Pack(detail)
            packed.append(any_message)
        context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=code, message=message, details=packed)))
        raise AssertionError

    return refuse


# -- verdicts ---------------------------------------------------------------------------------------------------------


def test_accepted_is_0_and_shows_the_attributes(gateway: Gateway) -> None:
    gateway.stand_in.answer = accepted({"name": "徐某", "age": 126})
    ended = gateway.verify("--nonce", "n-1", "--request-id", "r-1")
    assert ended.code == 0
    for expected in ("ACCEPTED", "徐某", "126", "IAL3 AAL2 FAL3", "上海市", "v-1"):
        assert expected in ended.out
    asked = gateway.stand_in.asked[0]
    assert (asked.matter, asked.presentation, asked.nonce, asked.request_id) == ("HK-QY", "a.b.c~", "n-1", "r-1")


def test_rejected_is_1_and_says_what_to_do_in_both_languages(gateway: Gateway) -> None:
    gateway.stand_in.answer = rejected(Reason.REPLAYED)
    ended = gateway.verify()
    assert ended.code == 1
    assert "REPLAYED" in ended.out
    for language in Language:
        assert text(Reason.REPLAYED, language).what in ended.out
        assert text(Reason.REPLAYED, language).next_step in ended.out


@pytest.mark.parametrize(("lang", "other"), [("zh", Language.EN), ("en", Language.ZH)])
def test_one_language_is_enough_when_asked_for(gateway: Gateway, lang: str, other: Language) -> None:
    gateway.stand_in.answer = rejected(Reason.EXPIRED)
    shown = gateway.verify("--lang", lang).out
    assert text(Reason.EXPIRED, Language(lang)).what in shown
    assert text(Reason.EXPIRED, other).what not in shown


def test_indeterminate_is_3(gateway: Gateway) -> None:
    gateway.stand_in.answer = verification_pb2.VerifyCredentialResponse(
        indeterminate=verification_pb2.Indeterminate(
            reason=reason_pb2.REASON_TRUST_STALE, retry_after=duration_pb2.Duration(seconds=30)
        )
    )
    ended = gateway.verify("--json")
    assert ended.code == 3
    assert ended.document["verdict"] == "indeterminate"
    assert ended.document["retry_after_seconds"] == 30


def test_an_answer_without_verdict_is_4(gateway: Gateway) -> None:
    gateway.stand_in.answer = verification_pb2.VerifyCredentialResponse(verification_id="v-1")
    ended = gateway.verify("--json")
    assert ended.code == 4
    assert "no verdict" in ended.error["message"]


def test_a_reason_this_program_does_not_know_is_still_a_rejection(gateway: Gateway) -> None:
    answer = verification_pb2.VerifyCredentialResponse()
    answer.MergeFromString(b"\x12\x03\x08\xe7\x07")  # rejected { reason: 999 }
    gateway.stand_in.answer = answer
    ended = gateway.verify("--json")
    assert ended.code == 1
    assert (ended.document["reason"], ended.document["texts"]) == ("999", {})


def test_json_has_the_same_keys_for_every_verdict(gateway: Gateway) -> None:
    keys = []
    for answer in (accepted({}), rejected(Reason.EXPIRED)):
        gateway.stand_in.answer = answer
        keys.append(list(gateway.verify("--json").document))
    assert keys[0] == keys[1]


def test_json_gives_attributes_with_their_types(gateway: Gateway) -> None:
    gateway.stand_in.answer = accepted({"name": "徐某", "age": 126, "nested": {"list": [1, 1.5, None]}})
    document = gateway.verify("--json").document
    assert document["accepted"]["attributes"] == {"name": "徐某", "age": 126, "nested": {"list": [1, 1.5, None]}}
    assert document["trust_basis"] == {"charter_version": 1, "view_id": "view", "age_seconds": None, "stale": True}


def test_escape_sequences_in_an_attribute_do_not_reach_the_terminal(gateway: Gateway) -> None:
    gateway.stand_in.answer = accepted({"name": "\x1b[2J\u202e"})
    shown = gateway.verify().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_the_presentation_may_come_from_a_pipe_and_the_nonce_from_the_challenge(
    gateway: Gateway, tmp_path: Path
) -> None:
    challenge = tmp_path / "challenge.json"
    challenge.write_text(json.dumps({"audience": "https://a.test", "nonce": "n-7"}))
    gateway.stand_in.answer = rejected(Reason.EXPIRED)
    ended = mrg("verify", "-", *gateway.reach, "--matter", "HK-QY", "--challenge", challenge, piped="x.y.z~\n")
    assert ended.code == 1
    assert (gateway.stand_in.asked[0].presentation, gateway.stand_in.asked[0].nonce) == ("x.y.z~", "n-7")


# -- evidence ---------------------------------------------------------------------------------------------------------


def evidence(witnesses: int) -> audit_pb2.GetEvidenceResponse:
    return audit_pb2.GetEvidenceResponse(evidence=f'{{"seen by": {witnesses}}}', witnesses=witnesses)


def test_a_verdict_is_kept_with_its_evidence_once_others_have_seen_it(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt, "LOOK_SECONDS", 0.01)
    gateway.stand_in.answer = accepted({})
    gateway.stand_in.evidence = [evidence(0), evidence(0), evidence(2)]
    file = tmp_path / "evidence.json"
    ended = gateway.verify("--receipt", str(file), "--json")
    assert (ended.code, ended.document["verdict"]) == (0, "accepted")
    assert json.loads(file.read_text()) == {"seen by": 2}
    assert gateway.stand_in.asked[0].want_receipt
    assert [each.verification_id for each in gateway.stand_in.asked[1:]] == ["v-1"] * 3


def test_evidence_that_nobody_has_seen_in_time_is_kept_and_said_to_be_so(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer = accepted({})
    gateway.stand_in.evidence = [evidence(0)]
    file = tmp_path / "evidence.json"
    ended = gateway.verify("--receipt", str(file), "--wait", "0")
    assert ended.code == 0
    assert "again later" in ended.err
    assert json.loads(file.read_text()) == {"seen by": 0}


def test_evidence_that_cannot_be_had_takes_nothing_from_the_verdict(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer = rejected(Reason.EXPIRED)
    gateway.stand_in.evidence = [refusing(code_pb2.UNAVAILABLE, "UNAVAILABLE", "no")]
    ended = gateway.verify("--receipt", str(tmp_path / "evidence.json"))
    assert ended.code == 1
    assert "mrg receipt fetch" in ended.err


def test_no_receipt_is_asked_for_unless_it_is_wanted(gateway: Gateway) -> None:
    gateway.stand_in.answer = accepted({})
    gateway.verify()
    (asked,) = gateway.stand_in.asked
    assert not asked.want_receipt


# -- challenge and issue ----------------------------------------------------------------------------------------------


def test_a_challenge_can_be_kept_for_present_and_verify(gateway: Gateway) -> None:
    gateway.stand_in.answer = verification_pb2.CreateChallengeResponse(
        nonce="n-1", audience="https://gateway.ah.test/services/counter", expire_time=wire.timestamp(START)
    )
    assert done("challenge", *gateway.reach, "--matter", "HK-QY", "--json").document == {
        "matter": "HK-QY",
        "audience": "https://gateway.ah.test/services/counter",
        "nonce": "n-1",
        "expires_at": "2026-11-23T01:00:00Z",
    }
    assert "mrg present" in done("challenge", *gateway.reach, "--matter", "HK-QY").out


def issuing(gateway: Gateway, *arguments: str | Path) -> list[str | Path]:
    return ["issue", "credential", *gateway.reach, "--subject", "p-1", "--type", "urn:t", "--acr", "urn:a", *arguments]


def test_issue_makes_the_holders_key_once_and_hands_over_the_credential(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer = issuance_pb2.IssueCredentialResponse(
        credential="a.b.c~d~", expire_time=wire.timestamp(START)
    )
    key, out = tmp_path / "holder.pem", tmp_path / "credential"
    command = issuing(gateway, "--holder-key", key, "--claims", "name=徐某", "--lifetime", "30d", "--amr", "face")
    ended = done(*command)
    assert ended.out == "a.b.c~d~\n"
    assert key.stat().st_mode & 0o777 == 0o600
    made = key.read_bytes()
    done(*command, "--out", out)
    assert key.read_bytes() == made
    assert (out.read_text(), out.stat().st_mode & 0o777) == ("a.b.c~d~\n", 0o600)
    asked = gateway.stand_in.asked[1]
    assert json.loads(asked.holder_jwk)["kid"] == load_pkcs8(made).public.kid
    assert (asked.lifetime.seconds, list(asked.authentication.amr)) == (30 * 86_400, ["face"])
    assert wire.claims(asked.claims) == {"name": "徐某"}


def test_attributes_come_from_json_files_pipes_and_pairs(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer = issuance_pb2.IssueAssertionResponse(assertion="a.b.c", expire_time=wire.timestamp(START))
    (tmp_path / "claims.json").write_text('{"name": "徐某"}')
    document = done(
        *("issue", "assertion", *gateway.reach, "--subject", "p-1", "--audience", "https://a.test", "--acr", "urn:a"),
        *("--claims", f"@{tmp_path / 'claims.json'}", "--claims", "@-", "--claims", "id_type=resident_id", "--json"),
        piped='{"age": 126}',
    ).document
    assert document == {
        "kind": "assertion",
        "audience": "https://a.test",
        "assertion": "a.b.c",
        "expires_at": "2026-11-23T01:00:00Z",
        "file": None,
    }
    assert wire.claims(gateway.stand_in.asked[0].claims) == {"name": "徐某", "age": 126, "id_type": "resident_id"}
    assert not gateway.stand_in.asked[0].HasField("lifetime")


@pytest.mark.parametrize(
    "wrong",
    [
        ("--claims", "徐某"),
        ("--claims", '{"name": "徐某"'),
        ("--claims", '{"name": "徐某", "name": "徐某"}'),
        ("--claims", "name=徐某", "--claims", "name=徐某"),
        ("--claims", "name=徐", "徐某"),
        ("--lifetime", "徐某"),
        ("--authenticated-at", "徐某"),
        ("--authenticated-at", "2026-11-23T09:30:00"),
    ],
)
def test_a_mistake_is_named_without_repeating_what_was_typed(
    gateway: Gateway, tmp_path: Path, wrong: tuple[str, ...]
) -> None:
    refused = failed(*issuing(gateway, "--holder-key", tmp_path / "key.pem", *wrong))
    assert "徐某" not in refused
    assert gateway.stand_in.asked == []


# -- could not ask ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "fix"),
    [
        (code_pb2.PERMISSION_DENIED, "NOT_PERMITTED", "relying_services"),
        (code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST", "correct"),
        (code_pb2.UNAVAILABLE, "UNAVAILABLE", "again"),
        (code_pb2.INTERNAL, "INTERNAL", "reference"),
        (code_pb2.UNAUTHENTICATED, "SOMETHING_NEW", "log"),
    ],
)
def test_a_refusal_is_4_with_its_reason_and_the_fix(gateway: Gateway, code: int, reason: str, fix: str) -> None:
    gateway.stand_in.answer = refusing(code, reason, "no")
    ended = gateway.verify("--json")
    assert ended.code == 4
    assert ended.error["reason"] == reason
    assert fix in ended.error["fix"]
    shown = gateway.verify()
    assert (shown.code, shown.out) == (4, "")
    assert reason in shown.err


def test_the_details_of_a_refusal_are_kept_for_programs(gateway: Gateway) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="nonce", description="must be a nonce")
    request = error_details_pb2.BadRequest(field_violations=[violation])
    gateway.stand_in.answer = refusing(code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST", "no", request)
    assert gateway.verify("--json").error["field"] == "nonce"
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2))
    gateway.stand_in.answer = refusing(code_pb2.RESOURCE_EXHAUSTED, "OVERLOADED", "no", retry)
    assert gateway.verify("--json").error["retry_after_seconds"] == "2.0"


def test_a_gateway_of_no_kind_we_know_is_4(gateway: Gateway) -> None:
    def abort(context: grpc.ServicerContext) -> NoReturn:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "nothing here")

    gateway.stand_in.answer = abort
    ended = gateway.verify("--json")
    assert (ended.code, ended.error["status"]) == (4, "UNIMPLEMENTED")


def test_a_gateway_that_does_not_listen_is_4(gateway: Gateway) -> None:
    refused = mrg("verify", gateway.presentation, *gateway.reach[:3], "127.0.0.1:1", "--matter", "HK-QY")
    assert refused.code == 4
    assert "start the gateway" in refused.err


def test_a_gateway_with_a_foreign_certificate_is_4(gateway: Gateway, drafted: Path) -> None:
    refused = gateway.verify("--ca", str(drafted / "sh" / "tls" / "ca.pem"))
    assert refused.code == 4
    assert "--ca" in refused.err


def test_a_certificate_of_another_province_is_4(gateway: Gateway, drafted: Path) -> None:
    clients = drafted / "sh" / "clients"
    refused = gateway.verify(
        "--certificate", str(clients / "counter.pem"), "--private-key", str(clients / "counter.key")
    )
    assert refused.code == 4
    assert "--certificate" in refused.err


# -- client profiles --------------------------------------------------------------------------------------------------


def test_without_a_profile_every_part_must_be_given(gateway: Gateway) -> None:
    assert "--ca is missing" in failed("challenge", "--matter", "HK-QY", "--address", "127.0.0.1:1")


@pytest.mark.parametrize("content", ["address = ", "address = 1", 'adress = "127.0.0.1:1"', "\udcff"])
def test_a_broken_profile_is_named(tmp_path: Path, content: str) -> None:
    profile = tmp_path / "client.toml"
    profile.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert "client.toml" in failed("challenge", "--matter", "HK-QY", "--as", profile)


def test_a_profile_whose_files_are_gone_is_named(tmp_path: Path, ceremony: Ceremony) -> None:
    profile = ceremony.client("ah", "counter")
    profile.with_suffix(".pem").unlink()
    assert "counter.pem" in failed("challenge", "--matter", "HK-QY", "--as", profile)
    profile.with_suffix(".pem").write_text("not PEM")
    assert "counter.pem" in failed("challenge", "--matter", "HK-QY", "--as", profile)


def test_a_certificate_without_its_key_is_no_traceback(gateway: Gateway, drafted: Path) -> None:
    refused = gateway.verify("--private-key", str(drafted / "ah" / "clients" / "identity.key"))
    assert refused.code in {2, 4}
    assert "Error: " in refused.err


# -- questions, consent, who acts --------------------------------------------------------------------------------------


def full_acceptance() -> verification_pb2.VerifyCredentialResponse:
    answer = accepted({"organisation_name": "某公司"})
    answer.accepted.subject_type = verification_pb2.SUBJECT_TYPE_LEGAL
    answer.accepted.previous_subject = "v1.before"
    answer.accepted.household_province = "ah"
    answer.accepted.assurance.level = 3
    answer.accepted.predicate_answers.extend(
        [verification_pb2.PREDICATE_ANSWER_YES, verification_pb2.PREDICATE_ANSWER_NO]
    )
    answer.accepted.actor.subject = "v2.agent"
    answer.accepted.actor.relationship = "agent"
    answer.accepted.actor.attributes.CopyFrom(wire.struct({"name": "赵经办"}))
    answer.accepted.erase_time.CopyFrom(wire.timestamp(START))
    answer.next_step = verification_pb2.NEXT_STEP_PROCEED
    answer.status_basis.list = "https://issuer.sh.test/status/x"
    answer.status_basis.age.FromSeconds(90)
    return answer


def test_questions_are_asked_in_order_and_their_values_are_not_repeated(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stand_in.answer = full_acceptance()
    value = tmp_path / "name.txt"
    value.write_text("金丝雀\n")
    ended = gateway.verify(
        "--household-in", "js,zj", "--age-at-least", "18", "--matches", f"name=@{value}", "--consent", "c" * 22
    )
    assert ended.code == 0
    asked = gateway.stand_in.asked[0]
    assert asked.consent_id == "c" * 22
    assert [each.WhichOneof("question") for each in asked.predicates] == [
        "age_at_least",
        "household_in",
        "claim_matches",
    ]
    assert list(asked.predicates[1].household_in.provinces) == ["js", "zj"]
    assert asked.predicates[2].claim_matches.value == "金丝雀"
    assert "金丝雀" not in ended.out + ended.err


def test_who_acts_has_a_block_of_their_own(gateway: Gateway) -> None:
    gateway.stand_in.answer = full_acceptance()
    shown = gateway.verify("--lang", "en").out
    subject, _, actor = shown.partition("Somebody acts for the subject")
    assert "某公司" in subject
    assert "赵经办" not in subject
    assert "赵经办" in actor
    assert "某公司" not in actor
    for expected in (
        "an organisation",
        "v1.before",
        "安徽省" if "安徽省" in shown else "Anhui",
        "Erase by",
        "Status basis",
    ):
        assert expected in subject


def test_json_says_all_of_an_acceptance(gateway: Gateway) -> None:
    gateway.stand_in.answer = full_acceptance()
    document = gateway.verify("--json", "--age-at-least", "18", "--household-in", "sh").document
    found = document["accepted"]
    assert found["answers"] == ["yes", "no"]
    assert found["actor"] == {
        "subject": "v2.agent",
        "previous_subject": None,
        "relationship": "agent",
        "attributes": {"name": "赵经办"},
    }
    assert (found["subject_type"], found["household_province"], found["assurance"]["level"]) == ("legal", "ah", 3)
    assert (document["next_step"], document["status_basis"]["age_seconds"]) == ("PROCEED", 90)


@pytest.mark.parametrize("text", ["name", "=x", "name="])
def test_a_comparison_without_value_is_a_usage_error(gateway: Gateway, text: str) -> None:
    assert gateway.verify("--matches", text).code == 2
    assert gateway.stand_in.asked == []


def test_a_verdict_that_is_no_yes_says_how_to_have_it_explained(gateway: Gateway) -> None:
    answer = rejected(Reason.CREDENTIAL_REVOKED)
    answer.verification_id = "v-9"
    answer.next_step = verification_pb2.NEXT_STEP_ASK_ISSUER
    gateway.stand_in.answer = answer
    shown = gateway.verify("--lang", "en").out
    assert "mrg explain v-9" in shown
    assert text(Reason.CREDENTIAL_REVOKED, Language.EN).next_step in shown


@pytest.mark.parametrize("answer", [rejected(Reason.CREDENTIAL_REVOKED), accepted({})], ids=["refused", "answers none"])
def test_a_question_without_an_answer_is_shown_as_such(
    gateway: Gateway, answer: verification_pb2.VerifyCredentialResponse
) -> None:
    gateway.stand_in.answer = answer
    lines = gateway.verify("--age-at-least", "18", "--household-in", "sh", "--lang", "en").out.splitlines()
    for question in ("at least 18 years old?", "household in sh?"):
        (line,) = [line for line in lines if line.startswith(question)]
        assert line.endswith("not answered")


def test_chinese_alone_is_asked_for_and_given(gateway: Gateway) -> None:
    gateway.stand_in.answer = full_acceptance()
    shown = gateway.verify("--lang", "zh").out
    for english in ("charter", "view ", "minutes", "hours", "days", " s,", " s)"):
        assert english not in shown
    for chinese in ("章程 1", "视图 view", "90 秒"):
        assert chinese in shown


def test_an_explanation_names_the_deciding_step_and_what_would_mend_it(gateway: Gateway) -> None:
    step = verification_pb2.ExplainedStep(
        number=8,
        title=verification_pb2.LocalizedText(zh="凭证状态", en="Status of the credential"),
        outcome=verification_pb2.STEP_OUTCOME_FAILED,
        inputs={"status_list": "https://issuer.sh.test/status/x", "status_issued_at": "2026-11-23T01:00:00Z"},
        reason=reason_pb2.REASON_CREDENTIAL_REVOKED,
        meaning=verification_pb2.LocalizedText(zh="已注销", en="was revoked"),
        fix=verification_pb2.LocalizedText(zh="问签发方", en="ask the issuer"),
    )
    gateway.stand_in.answer = verification_pb2.ExplainVerificationResponse(
        verification_id="v" * 22, verdict="rejected", reason=reason_pb2.REASON_CREDENTIAL_REVOKED, steps=[step]
    )
    ended = mrg("explain", "v" * 22, *gateway.reach, "--lang", "en")
    assert ended.code == 0
    for expected in ("refused here", "was revoked", "ask the issuer"):
        assert expected in ended.out
    looked_at = {line.split("  ")[-1].strip() for line in ended.out.splitlines()}
    assert {"status_list: https://issuer.sh.test/status/x", "status_issued_at: 2026-11-23T01:00:00Z"} <= looked_at
    (found,) = mrg("explain", "v" * 22, *gateway.reach, "--json").document["steps"]
    assert (found["number"], found["outcome"], found["reason"]) == (8, "FAILED", "CREDENTIAL_REVOKED")


@pytest.mark.parametrize("name", ["-" + "v" * 21, "--" + "v" * 20, "-" * 22])
def test_a_name_that_begins_with_a_dash_is_no_option(gateway: Gateway, name: str) -> None:
    gateway.stand_in.answer = verification_pb2.ExplainVerificationResponse(verification_id=name)
    assert mrg("explain", name, *gateway.reach).code == 0
    gateway.stand_in.answer = verification_pb2.WithdrawConsentResponse(withdraw_time=wire.timestamp(START))
    assert mrg("consent", "withdraw", *gateway.reach, name, "--json").document["consent_id"] == name
    gateway.stand_in.answer = accepted({})
    assert gateway.verify("--consent", name).code == 0
    explained, withdrawn, verified = gateway.stand_in.asked
    assert (explained.verification_id, withdrawn.consent_id, verified.consent_id) == (name, name, name)


def test_an_option_that_is_none_stays_a_usage_error(gateway: Gateway) -> None:
    assert mrg("explain", "v" * 22, *gateway.reach, "--jsno").code == 2
    assert mrg("consent", "withdraw", "c" * 22, *gateway.reach, "--jsno").code == 2
    assert gateway.stand_in.asked == []


def test_a_consent_is_recorded_and_withdrawn(gateway: Gateway) -> None:
    gateway.stand_in.answer = verification_pb2.RecordConsentResponse(consent_id="c" * 22)
    recorded = mrg(
        "consent", "record", *gateway.reach, "--matter", "XS-RH", "--claim", "name", "--lifetime", "90d", "--json"
    )
    assert recorded.document["consent_id"] == "c" * 22
    asked = gateway.stand_in.asked[0]
    assert (asked.matter, list(asked.claims), asked.lifetime.seconds) == ("XS-RH", ["name"], 90 * 86_400)
    gateway.stand_in.answer = verification_pb2.WithdrawConsentResponse(withdraw_time=wire.timestamp(START))
    assert mrg("consent", "withdraw", "c" * 22, *gateway.reach).code == 0
    assert gateway.stand_in.asked[1].consent_id == "c" * 22


# -- mrg status -------------------------------------------------------------------------------------------------------


def results(*outcomes: tuple[int, int, bool]) -> issuance_pb2.SetCredentialStatusResponse:
    return issuance_pb2.SetCredentialStatusResponse(
        results=[
            issuance_pb2.CredentialStatusResult(changed=changed, refused=refused, known=known)
            for changed, refused, known in outcomes
        ],
        effective_within=duration_pb2.Duration(seconds=300),
    )


def test_a_bulk_change_counts_and_names_lines_and_no_subject(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "moved.csv"
    file.write_text("local_subject\nregister-1\nregister-2\nregister-3\n")
    gateway.stand_in.answer = results((1, 0, True), (0, 0, False), (0, 1, True))
    ended = mrg("status", "changed", *gateway.reach, "--file", file, "--json")
    assert ended.code == 1
    assert {name: ended.document[name] for name in ("targets", "changed", "refused", "unknown")} == {
        "targets": 3,
        "changed": 1,
        "refused": 1,
        "unknown": 1,
    }
    assert [each["line"] for each in ended.document["not_done"]] == [3, 4]
    assert "register-" not in ended.out + ended.err
    asked = gateway.stand_in.asked[0]
    assert asked.status == issuance_pb2.CREDENTIAL_STATUS_ATTRIBUTES_CHANGED
    assert [each.local_subject for each in asked.targets] == ["register-1", "register-2", "register-3"]


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("revoke", issuance_pb2.CREDENTIAL_STATUS_REVOKED),
        ("suspend", issuance_pb2.CREDENTIAL_STATUS_SUSPENDED),
        ("resume", issuance_pb2.CREDENTIAL_STATUS_VALID),
    ],
)
def test_one_credential_changes(gateway: Gateway, command: str, status: int) -> None:
    gateway.stand_in.answer = results((1, 0, True))
    assert mrg("status", command, *gateway.reach, "--credential", "c" * 22).code == 0
    asked = gateway.stand_in.asked[0]
    assert (asked.status, asked.targets[0].credential_id) == (status, "c" * 22)


def test_many_are_sent_in_chunks(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "many.txt"
    file.write_text("".join(f"subject:register-{number}\n" for number in range(700)))
    gateway.stand_in.answer = results(*[(1, 0, True)] * 500)
    ended = mrg("status", "revoke", *gateway.reach, "--file", file)
    # The second chunk has another length than the stand-in's answer, which is then no answer.
    assert ended.code == 4
    assert [len(each.targets) for each in gateway.stand_in.asked] == [500, 200]
