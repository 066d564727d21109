"""The Python client against the real federation, over real mutual TLS."""

# ruff: noqa: S310 - the only addresses are the stage's

from __future__ import annotations

import asyncio
import base64
import csv
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from recognition import aio, evidence
from recognition.client import (
    Accepted,
    ClaimMatches,
    DeadlineExceeded,
    Decision,
    HouseholdIn,
    Indeterminate,
    InvalidRequest,
    NextStep,
    NotPermitted,
    Options,
    Profile,
    Reason,
    Rejected,
    Unavailable,
    VerifyRequest,
)
from recognition.holder import Credential, HolderKey

from tests.clients.fake import FORMS, Authority, Awaited, Blocking, Form
from tests.clients.stage import stage

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "python"
CONTRACTS = sorted(Path(__file__).parent.glob("contract-*.binpb"))
STREAMED = 1_000 if os.environ.get("MRG_QUICK") else 10_000
Asker = Blocking | Awaited


class Stage:
    """The controls of a federation."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.profiles = {name: Path(file) for name, file in self.get("/profiles").items()}
        self.matters: Mapping[str, str] = self.get("/matters")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=120) as answer:
            return json.load(answer)

    def post(self, path: str, **body: Any) -> Any:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def profile(self, name: str) -> Profile:
        return Profile.read(self.profiles[name])

    def presented(self, asker: Asker, kind: str = "") -> tuple[VerifyRequest, str]:
        """Have a challenge answered; gives what is to be asked, and the reason expected."""
        challenge = asker.ask("challenge", self.matters["hukou"])
        options = {"kind": kind} if kind else {}
        made = self.post("/present", nonce=challenge.nonce, audience=challenge.audience, **options)
        request = VerifyRequest(matter=self.matters["hukou"], presentation=made["presentation"], nonce=challenge.nonce)
        return request, made["reason"]

    def asserted(self, asker: Asker, count: int) -> list[VerifyRequest]:
        """Have assertions made for the court's window."""
        matter = self.matters["court"]
        audience = asker.ask("challenge", matter).audience
        made = self.post("/assertions", audience=audience, count=count)["assertions"]
        return [VerifyRequest(matter=matter, presentation=each) for each in made]


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    given = os.environ.get("MRG_STAGE")
    if given:
        yield Stage(given)
        return
    with stage(tmp_path_factory.mktemp("stage") / "lab") as url:
        yield Stage(url)


@contextmanager
def form_of(form: Form, profile: Profile, **options: Any) -> Iterator[Asker]:
    with closing(form(profile, Options(**options))) as asker:
        yield asker


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__.lower())
def form(request: pytest.FixtureRequest) -> Form:
    chosen: Form = request.param
    return chosen


@pytest.fixture
def counter(federation: Stage, form: Form) -> Iterator[Asker]:
    """The household counter's client."""
    with form_of(form, federation.profile("hukou")) as asker:
        yield asker


@pytest.fixture
def court(federation: Stage, form: Form) -> Iterator[Asker]:
    """The court window's client."""
    with form_of(form, federation.profile("court")) as asker:
        yield asker


def verdict_of(outcome: Any) -> str:
    assert isinstance(outcome, Decision), outcome
    match outcome.verdict:
        case Accepted():
            return "accepted"
        case Rejected(reason=reason) | Indeterminate(reason=reason):
            return reason.name


# -- verdicts ---------------------------------------------------------------------------------------------------------


def test_a_good_presentation_is_accepted(federation: Stage, counter: Asker) -> None:
    request, _ = federation.presented(counter)
    decision = counter.ask("verify", replace(request, want_receipt=True, request_id="c-1"))
    assert isinstance(decision.verdict, Accepted), decision
    assert decision.verdict.issuing_province == "sh"
    assert decision.verdict.holder_bound
    assert decision.verdict.attributes
    assert decision.next_step is NextStep.PROCEED
    assert decision.receipt.count(".") == 2
    assert decision.request_id == "c-1"
    caller = federation.get(f"/caller?verification_id={decision.verification_id}")
    assert caller["request_id"] == "c-1"
    printed = f"{decision!r} {request!r}"
    secrets = [
        request.presentation,
        request.nonce,
        decision.verdict.subject,
        *map(str, decision.verdict.attributes.values()),
    ]
    assert not [secret for secret in secrets if secret in printed]


def test_questions_are_answered_without_the_attribute(federation: Stage, counter: Asker) -> None:
    matter = "WF-ZM"
    challenge = counter.ask("challenge", matter)
    made = federation.post("/present", nonce=challenge.nonce, audience=challenge.audience)
    questions = [HouseholdIn(["sh", "js"]), HouseholdIn(["ah"])]
    request = VerifyRequest(
        matter=matter, presentation=made["presentation"], nonce=challenge.nonce, predicates=questions
    )
    decision = counter.ask("verify", request)
    assert isinstance(decision.verdict, Accepted), decision
    assert decision.verdict.predicate_answers == (True, False)
    assert "hukou_region" not in decision.verdict.attributes


def test_the_holder_s_helper_makes_what_is_accepted(federation: Stage, counter: Asker) -> None:
    holder = federation.get("/holder")
    credential, key = Credential(holder["credential"]), HolderKey.from_jwk(holder["holder_key"])
    matter = federation.matters["hukou"]

    def show(disclose: Sequence[str] | None) -> str:
        challenge = counter.ask("challenge", matter)
        presentation = credential.present(key, challenge.audience, challenge.nonce, disclose=disclose)
        request = VerifyRequest(matter=matter, presentation=presentation, nonce=challenge.nonce)
        return verdict_of(counter.ask("verify", request))

    assert show(None) == "accepted"
    assert show(["name", "id_number", "hukou_region"]) == "accepted"
    assert show(["name"]) == "REQUIRED_CLAIM_MISSING"


def test_every_bad_presentation_is_rejected_for_its_reason(federation: Stage, counter: Asker) -> None:
    found, expected = {}, {}
    for kind in federation.get("/kinds"):
        request, reason = federation.presented(counter, kind["kind"])
        decision = counter.ask("verify", request)
        assert isinstance(decision.verdict, Rejected), kind
        assert decision.next_step is decision.verdict.reason.next_step
        found[kind["kind"]], expected[kind["kind"]] = decision.verdict.reason, Reason[reason]
    assert found == expected
    assert len(found) >= 10


def test_a_question_that_may_not_be_asked_is_an_error(federation: Stage, counter: Asker) -> None:
    request, _ = federation.presented(counter)
    with pytest.raises(NotPermitted) as caught:
        counter.ask("verify", replace(request, matter=federation.matters["court"], request_id="c-2"))
    assert caught.value.request_id == "c-2"
    with pytest.raises(InvalidRequest) as invalid:
        counter.ask("verify", replace(request, predicates=[ClaimMatches("name", "")]))
    assert invalid.value.field.startswith("predicates[0]")
    assert not [each for each in (request.presentation, request.nonce) if each in f"{invalid.value!r} {caught.value!r}"]
    assert verdict_of(counter.ask("verify", request)) == "accepted"  # an error spends nothing


def test_evidence_and_explanation(federation: Stage, counter: Asker) -> None:
    request, _ = federation.presented(counter)
    decision = counter.ask("verify", replace(request, want_receipt=True))
    charter = federation.get("/evidence-charter")
    bundle = counter.ask("evidence", decision.verification_id)
    found = evidence.check(bundle, Path(charter["charter"]).read_text("utf-8"), sha256=charter["sha256"])
    assert isinstance(found, evidence.Proven | evidence.Signed)
    try:
        explained = counter.ask("explain", decision.verification_id)
    except NotPermitted:  # where the registration does not allow it
        return
    assert explained.verdict == "accepted"


def test_the_same_call_again_is_the_same_decision(federation: Stage, counter: Asker) -> None:
    request, _ = federation.presented(counter)
    request = replace(request, request_id=f"again-{request.nonce[:20]}")
    first, second = (counter.ask("verify", request) for _ in range(2))
    assert verdict_of(first) == "accepted"
    assert second.verification_id == first.verification_id
    assert federation.get(f"/entries?request_id={request.request_id}") == [first.verification_id]


def test_a_gateway_that_cannot_tell_says_so(federation: Stage, form: Form) -> None:
    try:
        federation.post("/indeterminate", on=True)
        with form_of(form, federation.profile("hukou")) as asker:
            request, _ = federation.presented(asker)
            decision = asker.ask("verify", request)
        assert isinstance(decision.verdict, Indeterminate), decision
        assert decision.verdict.retry_after is not None
        assert decision.verdict.retry_after > timedelta(0)
        assert decision.next_step is NextStep.RETRY_LATER
    finally:
        federation.post("/indeterminate", on=False)


# -- many -------------------------------------------------------------------------------------------------------------


def test_a_batch_of_a_thousand(federation: Stage, court: Asker) -> None:
    requests = federation.asserted(court, 1_000)
    outcomes = court.ask("verify_all", [*requests, requests[0], replace(requests[1], presentation="x")])
    assert Counter(map(verdict_of, outcomes)) == {"accepted": 1_000, "REPLAYED": 1, "MALFORMED": 1}
    assert [verdict_of(each) for each in outcomes[-2:]] == ["REPLAYED", "MALFORMED"]
    assert len({each.verification_id for each in outcomes}) == 1_002


def test_a_long_stream_with_a_slow_reader(federation: Stage) -> None:
    """Bounded under way, all answered once."""
    most = 0
    with form_of(Blocking, federation.profile("court")) as court:
        requests = federation.asserted(court, STREAMED)
        taken = [0]

        def source() -> Iterator[VerifyRequest]:
            for request in requests:
                taken[0] += 1
                yield request

        outcomes: dict[int, Any] = {}
        for index, outcome in court.stream(source()):
            most = max(most, taken[0] - len(outcomes))
            assert index not in outcomes
            outcomes[index] = outcome
            if index % 100 == 0:
                time.sleep(0.01)  # a reader that is slow: nothing waits for this, and nothing that is asserted needs it
    assert set(outcomes) == set(range(STREAMED))
    assert {verdict_of(each) for each in outcomes.values()} == {"accepted"}
    assert most <= Options().under_way


def test_a_long_stream_with_a_slow_reader_asyncio(federation: Stage) -> None:
    with form_of(Blocking, federation.profile("court")) as court:
        requests = federation.asserted(court, STREAMED // 5)
    most = 0

    async def run() -> dict[int, Any]:
        nonlocal most
        taken = 0

        async def source() -> Any:
            nonlocal taken
            for request in requests:
                taken += 1
                yield request

        outcomes: dict[int, Any] = {}
        async with aio.RecognitionClient(federation.profile("court"), Options(under_way=128)) as client:
            async for index, outcome in client.stream(source()):
                most = max(most, taken - len(outcomes))
                assert index not in outcomes
                outcomes[index] = outcome
                if index % 100 == 0:
                    await asyncio.sleep(0.01)
        return outcomes

    outcomes = asyncio.run(run())
    assert set(outcomes) == set(range(len(requests)))
    assert {verdict_of(each) for each in outcomes.values()} == {"accepted"}
    assert most <= 128


def test_who_asks_too_often_is_held_back_and_still_answered(federation: Stage, form: Form) -> None:
    with form_of(form, federation.profile("small")) as asker:
        began = time.monotonic()
        for _ in range(6):
            asker.ask("challenge", federation.matters["small"])
        # Two a second, and two at once after a pause.
        assert time.monotonic() - began >= 1.5


# -- outages ----------------------------------------------------------------------------------------------------------


def test_no_answer_in_time_is_an_error(federation: Stage, form: Form) -> None:
    with form_of(form, federation.profile("hukou"), deadline=timedelta(seconds=2)) as asker:
        request, _ = federation.presented(asker)
        federation.post("/pause")
        try:
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded) as caught:
                asker.ask("verify", request)
            assert 1.9 <= time.monotonic() - began < 10
            assert caught.value.request_id
        finally:
            federation.post("/resume")
        request, _ = federation.presented(asker)
        assert verdict_of(asker.ask("verify", request)) == "accepted"


def killed_and_started(federation: Stage) -> Any:
    """Kill the gateway and start it again, beside the caller; whoever joins knows that it serves."""

    def run() -> None:
        try:
            federation.post("/kill")
        finally:
            federation.post("/start")

    pool = ThreadPoolExecutor(1)
    future = pool.submit(run)
    pool.shutdown(wait=False)
    return future


def test_a_gateway_that_is_killed_and_comes_back(federation: Stage, form: Form) -> None:
    again = threading.Event()
    outcomes: list[tuple[str, str]] = []
    with form_of(form, federation.profile("court")) as court:
        requests = federation.asserted(court, 2_000)
        back = killed_and_started(federation)
        served = 0
        for number, request in enumerate(requests):
            asked = replace(request, request_id=f"{form.__name__}-{number}")
            try:
                outcomes.append((asked.request_id, verdict_of(court.ask("verify", asked))))
            except (Unavailable, DeadlineExceeded):
                outcomes.append((asked.request_id, "no answer"))
                again.wait(0.1)  # as whoever waits at a counter would
            served = served + 1 if back.done() and outcomes[-1][1] == "accepted" else 0
            if served == 10:
                break
        back.result()
    assert served == 10
    # What was decided before the gateway died, and whose answer was lost, is a replay where it is asked about again.
    assert {verdict for _, verdict in outcomes} <= {"accepted", "no answer", "REPLAYED"}
    failed = next((number for number, (_, verdict) in enumerate(outcomes) if verdict != "accepted"), 0)
    for request_id, verdict in [*outcomes[max(0, failed - 2) : failed + 2], outcomes[-1]]:
        recorded = federation.get(f"/entries?request_id={request_id}")
        assert len(recorded) == 1 or verdict != "accepted"


def test_a_stream_outlives_the_gateway(federation: Stage, form: Form) -> None:
    with form_of(form, federation.profile("court")) as court:
        requests = federation.asserted(court, 1_000)
        outcomes: dict[int, Any] = {}
        back = None
        for index, outcome in court.stream(requests):
            assert index not in outcomes
            outcomes[index] = outcome
            if back is None and len(outcomes) == 100:
                back = killed_and_started(federation)
        assert back is not None
        back.result()
    assert set(outcomes) == set(range(len(requests)))
    verdicts = Counter(map(verdict_of, outcomes.values()))
    assert set(verdicts) <= {"accepted", "REPLAYED"}
    assert verdicts["accepted"] >= len(requests) - Options().under_way


# -- certificates -----------------------------------------------------------------------------------------------------


def test_the_next_call_comes_with_the_new_certificate(
    federation: Stage, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recognition.profile.LOOK_SECONDS", 0.0)

    def certificate_of(decision: Decision) -> str:
        found: str = federation.get(f"/caller?verification_id={decision.verification_id}")["certificate_sha256"]
        return found

    with form_of(form, federation.profile("hukou")) as asker:
        request, _ = federation.presented(asker)
        before = certificate_of(asker.ask("verify", request))
        renewed = federation.post("/certificate", profile="hukou")["sha256"]
        request, _ = federation.presented(asker)
        assert certificate_of(asker.ask("verify", request)) == renewed != before


def test_a_gateway_is_not_believed_on_another_ca_s_word(federation: Stage, form: Form, tmp_path: Path) -> None:
    profile = federation.profile("hukou")
    other = tmp_path / "ca.pem"
    other.write_bytes(Authority("strangers").certificate)
    with form_of(form, replace(profile, ca=other)) as asker, pytest.raises(Unavailable):
        asker.ask("challenge", federation.matters["hukou"])


def test_a_certificate_of_another_ca_is_not_believed(federation: Stage, form: Form, tmp_path: Path) -> None:
    stranger = Authority("strangers").profile(tmp_path, federation.profile("hukou").address)
    with form_of(form, replace(stranger, ca=federation.profile("hukou").ca)) as asker, pytest.raises(Unavailable):
        asker.ask("challenge", federation.matters["hukou"])


# -- clients made from an earlier contract ----------------------------------------------------------------------------


class OldStub:
    """Calls by the messages of a contract that was published once, made from nothing but its descriptors."""

    def __init__(self, contract: Path, channel: grpc.Channel) -> None:
        files = descriptor_pb2.FileDescriptorSet.FromString(contract.read_bytes())
        self._pool = descriptor_pool.DescriptorPool()
        waiting = {file.name: file for file in files.file}
        added: set[str] = set()
        for _ in range(len(waiting)):
            name = next(name for name, file in waiting.items() if added.issuperset(file.dependency))
            self._pool.Add(waiting.pop(name))
            added.add(name)
        self._channel = channel

    def message(self, name: str) -> Any:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"recognition.v1.{name}"))

    def reason(self, number: int) -> str:
        return str(self._pool.FindEnumTypeByName("recognition.v1.Reason").values_by_number[number].name)

    def call(self, method: str, **fields: Any) -> Any:
        service = self._pool.FindServiceByName("recognition.v1.VerificationService")
        described = service.methods_by_name[method]
        send: Any = self._channel.unary_unary(
            f"/recognition.v1.VerificationService/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
        )
        return send(message_factory.GetMessageClass(described.input_type)(**fields), timeout=10)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda path: path.stem)
def test_a_client_of_an_earlier_contract_still_works(federation: Stage, contract: Path) -> None:
    profile = federation.profile("hukou")
    credentials = grpc.ssl_channel_credentials(
        profile.ca.read_bytes(), profile.private_key.read_bytes(), profile.certificate.read_bytes()
    )
    matter = federation.matters["hukou"]
    with grpc.secure_channel(profile.address, credentials) as channel:
        old = OldStub(contract, channel)

        def ask(kind: str) -> Any:
            challenge = old.call("CreateChallenge", matter=matter)
            options = {"kind": kind} if kind else {}
            made = federation.post("/present", nonce=challenge.nonce, audience=challenge.audience, **options)
            return old.call(
                "VerifyCredential",
                matter=matter,
                presentation=made["presentation"],
                nonce=challenge.nonce,
                request_id="old-1",
            )

        answer = ask("")
        assert answer.WhichOneof("verdict") == "accepted"
        assert answer.accepted.subject
        assert answer.accepted.attributes["name"]
        assert answer.verification_id
        refused = ask("tampered-signature")
        assert refused.WhichOneof("verdict") == "rejected"
        assert old.reason(refused.rejected.reason) == "REASON_SIGNATURE_INVALID"
        with pytest.raises(grpc.RpcError) as caught:
            old.call("CreateChallenge", matter="NO-NE")
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED


def test_the_earliest_contract_that_is_kept_is_the_first_with_verdicts() -> None:
    assert CONTRACTS[0].name == "contract-1.binpb"


# -- what the README and the examples show ----------------------------------------------------------------------------


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_example_of_the_readme_runs_as_it_stands(federation: Stage, readme: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (PACKAGE / readme).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    holder = federation.get("/holder")
    secret = int.from_bytes(base64.urlsafe_b64decode(holder["holder_key"]["d"] + "=="), "big")
    pem = ec.derive_private_key(secret, ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    lab = tmp_path / ".lab"
    (lab / "ah").mkdir(parents=True)
    (lab / "ah" / "clients").symlink_to(federation.profiles["hukou"].parent)
    (lab / "ah" / "tls").symlink_to(federation.profiles["hukou"].parent.parent / "tls")
    (lab / "try").mkdir()
    (lab / "try" / "xu.credential").write_text(holder["credential"], "utf-8")
    (lab / "try" / "xu.pem").write_bytes(pem)
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-W", "error", "-c", blocks[0] + blocks[1]]
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0].startswith("accepted")
    assert lines[1].startswith("rejected REPLAYED")
    assert lines[2] == "accepted, the household is there: True"
    assert lines[3] == "NextStep.PROCEED"
    assert "CONSENT_WITHDRAWN" in lines[4]
    assert len(lines) == 5


def recheck(federation: Stage, register: Path, results: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PACKAGE / "examples" / "recheck_register.py")]
    command += ["--profile", str(federation.profiles["court"]), "--matter", federation.matters["court"], *options]
    command += [str(register), str(results)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_register_is_checked_anew_and_taken_up_where_it_was_left(
    federation: Stage, tmp_path: Path, suffix: str
) -> None:
    with form_of(Blocking, federation.profile("court")) as court:
        presentations = [each.presentation for each in federation.asserted(court, 60)]
    presentations[7] = "not.an.assertion"
    rows = [{"id": f"row-{number}", "presentation": each} for number, each in enumerate(presentations)]
    register, results = tmp_path / f"register{suffix}", tmp_path / "results.jsonl"
    with register.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".csv":
            writer = csv.DictWriter(file, ["id", "presentation"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    first = recheck(federation, register, results, "--batch", "25")
    assert first.returncode == 1, first.stderr
    assert [line.split()[:2] for line in first.stdout.splitlines()] == [
        ["59", "accepted"],
        ["1", "rejected"],
        ["60", "in"],
    ]
    assert "MALFORMED" in first.stdout
    assert "\r" not in first.stderr
    assert first.stderr.splitlines()[-1] == "60/60"
    found = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    assert [each["id"] for each in found] == [row["id"] for row in rows]
    assert not [row for row in rows if row["presentation"] in results.read_text("utf-8")]
    # As if it had been stopped in the middle of a line: what is written is not asked about again.
    lines = results.read_text("utf-8").splitlines(keepends=True)
    results.write_text("".join(lines[:50]) + lines[50][:20], "utf-8")
    again = recheck(federation, register, results)
    assert again.returncode == 1, again.stderr
    assert "50/60" in again.stderr or "60/60" in again.stderr
    assert len(results.read_text("utf-8").splitlines()) == 60
    # Asked under the same references, the gateway gives the same decisions.
    assert list(map(json.loads, results.read_text("utf-8").splitlines())) == found
    # Whoever does not know any more what was asked is told that it was used.
    results.with_name("results.jsonl.asked").unlink()
    results.write_text("".join(lines[:50]), "utf-8")
    assert recheck(federation, register, results).returncode == 1
    replayed = [json.loads(line) for line in results.read_text("utf-8").splitlines()[50:]]
    assert [(each["verdict"], each["reason"]) for each in replayed] == [("rejected", "REPLAYED")] * 10


def test_a_register_that_cannot_be_asked_about_is_not_called_rejected(federation: Stage, tmp_path: Path) -> None:
    register, results = tmp_path / "register.jsonl", tmp_path / "results.jsonl"
    register.write_text('{"id": "1", "presentation": "x"}\n', "utf-8")
    run = recheck(federation, register, results, "--matter", "HK-QY")
    assert run.returncode == 4
    assert "NOT_PERMITTED" in run.stderr
    (found,) = map(json.loads, results.read_text("utf-8").splitlines())
    assert (found["verdict"], found["reason"]) == ("undecided", "NOT_PERMITTED")
    assert recheck(federation, tmp_path / "nothing.jsonl", results).returncode == 2


def test_the_benchmark_measures(federation: Stage) -> None:
    command = [sys.executable, str(PACKAGE / "benchmark.py"), "--profile", str(federation.profiles["court"])]
    command += ["--stage", federation.url, "--calls", "40"]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert [(each["client"], each["what"]) for each in lines] == [("python", "thin"), ("python", "bare")]
    assert all(each["calls_per_s"] > 0 and each["client_cpu_us_per_call"] > 0 for each in lines)
