"""Batches and streams of presentations, over real mutual TLS on loopback."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from recognition.v1 import reason_pb2, verification_pb2, verification_pb2_grpc

from gateway import guard, streams, verifier
from gateway.core.credential import open_presentation
from gateway.core.quota import Allowance
from gateway.core.reasons import Unavailable
from gateway.guard import BATCHES_PER_CALLER, MAX_BATCH_BYTES, MAX_STREAM_MESSAGE_BYTES, STREAMS_PER_CALLER
from gateway.lab.charter import COURT_FILING, HUKOU_MIGRATION, LICENCE_DISPLAY, entity_ids
from gateway.server import verification
from gateway.server.listener import MAX_REQUEST_BYTES
from gateway.storage import Committed, LedgerEntry, StorageError
from gateway.streams import Inbox, Received
from gateway.verifier import MAX_TOGETHER, Acceptance
from gateway.wire import MAX_BATCH_ITEMS, MAX_STREAM_ITEMS
from tests.e2e.links import wait_for
from tests.federation import AH, Federation, payload
from tests.test_server import Edge, failure, info, opened

SECONDS = 60.0
"""Longer than anything here takes."""
Request = verification_pb2.VerifyCredentialRequest
Batch = verification_pb2.BatchVerifyCredentialsRequest
Messages = verification_pb2.StreamVerifyCredentialsRequest
Item = verification_pb2.StreamItem
BATCH = "/recognition.v1.VerificationService/BatchVerifyCredentials"
STREAM = "/recognition.v1.VerificationService/StreamVerifyCredentials"
MALFORMED = Request(matter=LICENCE_DISPLAY, presentation="not.a.credential~")
"""It costs next to nothing, and gets a verdict."""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One for all: each test presents what nobody has presented before."""
    federation = Federation(tmp_path_factory.mktemp("bulk"))
    with opened(federation, batches=2 * BATCHES_PER_CALLER, streams_both_ways=2 * STREAMS_PER_CALLER) as made:
        yield made
    federation.close()


@pytest.fixture
def stub(edge: Edge) -> Iterator[Any]:
    with edge.service() as channel:
        yield verification_pb2_grpc.VerificationServiceStub(channel)


def assertion(edge: Edge, **members: Any) -> Request:
    """Ask about an assertion that was never shown."""
    token = edge.federation.assertion(audience=edge.federation[AH].service.identity)
    return Request(matter=LICENCE_DISPLAY, presentation=token, **members)


def credential(edge: Edge) -> Request:
    presentation, nonce = edge.federation.present(edge.federation.issue())
    return Request(matter=HUKOU_MIGRATION, presentation=presentation, nonce=nonce)


def told(result: Any) -> str:
    """What became of an item: the verdict, a reason, or the code of an error."""
    if result.WhichOneof("result") == "error":
        return code_pb2.Code.Name(result.error.code)
    verdict: str = result.response.WhichOneof("verdict")
    if verdict == "accepted":
        return verdict
    return reason_pb2.Reason.Name(getattr(result.response, verdict).reason).removeprefix("REASON_")


def batch(stub: Any, items: Sequence[Request]) -> list[Any]:
    results = list(stub.BatchVerifyCredentials(Batch(items=items), timeout=SECONDS).results)
    assert len(results) == len(items)
    return results


def decided(edge: Edge) -> int:
    return len(edge.federation[AH].decisions())


class Gate:
    """Stops the ledger's writer at a group, until it is let go."""

    def __init__(
        self, edge: Edge, monkeypatch: pytest.MonkeyPatch, *, full: Callable[[int], bool] | None = None
    ) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        self.groups: list[int] = []
        store = edge.federation[AH].log
        commit = store.commit

        def gated(group: Sequence[LedgerEntry]) -> Sequence[Committed]:
            self.groups.append(len(group))
            if full is not None:
                if full(len(self.groups)):
                    raise StorageError("the disk is full")
                return commit(group)
            self.reached.set()
            self.open.wait(SECONDS)
            return commit(group)

        monkeypatch.setattr(store, "commit", gated)


# -- batches ----------------------------------------------------------------------------------------------------------


def test_each_item_of_a_batch_has_an_answer_of_its_own_in_its_place(edge: Edge, stub: Any) -> None:
    good = assertion(edge)
    spoilt = assertion(edge)
    spoilt.presentation = spoilt.presentation[:-8] + "AAAAAAAA"
    results = batch(
        stub,
        [
            good,
            Request(matter=LICENCE_DISPLAY),
            credential(edge),
            Request(matter=COURT_FILING, presentation=good.presentation),
            spoilt,
            Request(matter=LICENCE_DISPLAY, presentation="x", predicates=[verification_pb2.Predicate(age_at_least=0)]),
            Request(matter=LICENCE_DISPLAY, presentation="A" * (64 * 1024 + 1)),
            good,
            assertion(edge),
        ],
    )
    assert [told(each) for each in results] == [
        "accepted",
        "INVALID_ARGUMENT",
        "accepted",
        "PERMISSION_DENIED",
        "SIGNATURE_INVALID",
        "INVALID_ARGUMENT",
        "TOO_LARGE",
        "REPLAYED",
        "accepted",
    ]
    errors = [each.error for each in results if each.WhichOneof("result") == "error"]
    assert [(each.reason, each.field) for each in errors] == [
        ("INVALID_REQUEST", "presentation"),
        ("NOT_PERMITTED", ""),
        ("INVALID_REQUEST", "predicates[0].age_at_least"),
    ]


def test_an_item_is_answered_and_recorded_as_if_it_came_alone(edge: Edge, stub: Any) -> None:
    first, second = (
        assertion(edge, request_id="alone", terminal="7"),
        assertion(edge, request_id="beside", terminal="7"),
    )
    alone = stub.VerifyCredential(first, timeout=SECONDS)
    (result,) = batch(stub, [second])
    for each in (alone, result.response):
        assert len(each.verification_id) == 22
        each.ClearField("verification_id")
    assert result.response == alone
    one, other = edge.federation[AH].decisions()[-2:]
    assert (one.request_id, other.request_id) == ("alone", "beside")
    assert (one.terminal, one.matter, one.verdict, one.findings) == (
        other.terminal,
        other.matter,
        other.verdict,
        other.findings,
    )


def test_what_is_presented_twice_in_a_batch_is_accepted_once(edge: Edge, stub: Any) -> None:
    near, far = assertion(edge), assertion(edge)
    results = batch(stub, [near, near, far, *[MALFORMED] * MAX_TOGETHER, far])
    assert [told(each) for each in (*results[:3], results[-1])] == ["accepted", "REPLAYED", "accepted", "REPLAYED"]


def test_a_batch_whose_answer_was_lost_is_asked_again(edge: Edge, stub: Any) -> None:
    near, far = assertion(edge, request_id="near"), assertion(edge, request_id="far", want_receipt=True)
    items = [near, near, far, *[MALFORMED] * MAX_TOGETHER, far]
    before = decided(edge)
    first = batch(stub, items)
    assert decided(edge) == before + len(items)
    again = batch(stub, items)
    for results in (first, again):
        assert [told(each) for each in (*results[:3], results[-1])] == ["accepted", "REPLAYED", "accepted", "REPLAYED"]
    for place in (0, 2):
        one, other = first[place].response, again[place].response
        assert (one.verification_id, one.verify_time) == (other.verification_id, other.verify_time)
        assert one.accepted == other.accepted
    one_receipt, other_receipt = (payload(each[2].response.receipt) for each in (first, again))
    assert one_receipt | {"iat": 0} == other_receipt | {"iat": 0}
    assert stub.VerifyCredential(far, timeout=SECONDS).verification_id == first[2].response.verification_id
    assert decided(edge) == before + 2 * len(items) - 2


def test_a_batch_of_one_and_one_of_a_thousand_are_decided_whole(edge: Edge, stub: Any) -> None:
    assert [told(each) for each in batch(stub, [assertion(edge)])] == ["accepted"]
    before = decided(edge)
    results = batch(stub, [*[MALFORMED] * (MAX_BATCH_ITEMS - 1), assertion(edge)])
    assert [told(each) for each in results] == [*["MALFORMED"] * (MAX_BATCH_ITEMS - 1), "accepted"]
    assert decided(edge) == before + MAX_BATCH_ITEMS


@pytest.mark.parametrize("count", [0, MAX_BATCH_ITEMS + 1])
def test_a_batch_of_none_or_of_too_many_is_refused_and_nothing_is_decided(edge: Edge, stub: Any, count: int) -> None:
    before = decided(edge)
    code, details = failure(lambda: batch(stub, [MALFORMED] * count))
    assert (code, info(details).reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert decided(edge) == before


def test_a_batch_that_is_too_large_is_refused_and_one_just_below_is_not(edge: Edge, stub: Any) -> None:
    item = Request(matter=LICENCE_DISPLAY, presentation="A" * (MAX_BATCH_BYTES // 2 - 100))
    assert [told(each) for each in batch(stub, [item] * 2)] == ["TOO_LARGE"] * 2
    assert failure(lambda: batch(stub, [item] * 3))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_single_request_may_not_be_as_large_as_a_batch(edge: Edge, stub: Any) -> None:
    request = Request(matter=LICENCE_DISPLAY, presentation="A" * MAX_REQUEST_BYTES)
    code, _ = failure(lambda: stub.VerifyCredential(request, timeout=SECONDS))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_receipts_are_for_those_who_want_them(edge: Edge, stub: Any) -> None:
    wanted = Request(want_receipt=True)
    wanted.MergeFrom(MALFORMED)
    results = batch(stub, [assertion(edge, want_receipt=True), assertion(edge), wanted])
    accepted, without, rejected = [each.response for each in results]
    assert without.receipt == ""
    for each, verdict in ((accepted, "accepted"), (rejected, "rejected")):
        said = payload(each.receipt)
        assert (said["jti"], said["verdict"]) == (each.verification_id, verdict)


def test_without_a_key_for_receipts_nobody_elses_item_suffers(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise Unavailable("no key may sign now")

    monkeypatch.setattr(edge.federation[AH].records.receipts, "require_signer", none)
    item = assertion(edge, want_receipt=True)
    assert [told(each) for each in batch(stub, [item, assertion(edge)])] == ["UNAVAILABLE", "accepted"]
    item.want_receipt = False
    assert [told(each) for each in batch(stub, [item])] == ["accepted"]  # its presentation was not used up


def test_what_could_not_be_recorded_is_no_verdict_and_can_be_asked_again(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [assertion(edge) for _ in range(3)]
    items = [good[0], *[MALFORMED] * (MAX_TOGETHER - 1), good[1], *[MALFORMED] * (MAX_TOGETHER - 1), good[2]]
    before = decided(edge)
    with monkeypatch.context() as patch:
        gate = Gate(edge, patch, full=lambda number: number == 2)
        results = batch(stub, items)
    assert gate.groups == [MAX_TOGETHER, MAX_TOGETHER, 1]
    assert [told(each) for each in results] == [
        *["accepted", *["MALFORMED"] * (MAX_TOGETHER - 1)],
        *["UNAVAILABLE"] * MAX_TOGETHER,
        "accepted",
    ]
    assert decided(edge) == before + MAX_TOGETHER + 1
    assert [told(each) for each in batch(stub, good)] == ["REPLAYED", "accepted", "REPLAYED"]


def test_a_full_queue_is_said_of_each_item_with_when_to_ask_again(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ledger.MAX_QUEUE", 1)
    one, two = batch(stub, [MALFORMED] * 2)
    assert (told(one), one.error.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert two.error.retry_delay.seconds > 0


def test_a_bug_met_by_one_item_shows_a_reference_and_spoils_no_other(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(request: Any, *rest: Any) -> Any:
        if request.presentation.startswith("canary"):
            raise RuntimeError(request.presentation)
        return open_presentation(request, *rest)

    monkeypatch.setattr(verifier, "open_presentation", broken)
    bad = Request(matter=LICENCE_DISPLAY, presentation="canary 徐某")
    results = batch(stub, [assertion(edge), bad, assertion(edge)])
    assert [told(each) for each in results] == ["accepted", "INTERNAL", "accepted"]
    err = capfd.readouterr().err
    assert "RuntimeError" in err
    assert "canary" not in err + str(results[1])


def test_an_answer_that_cannot_be_written_costs_no_other(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = verification._write_acceptance

    def broken(message: Any, accepted: Acceptance, now: datetime) -> None:
        write(message, accepted, now)
        if accepted.holder_bound:
            raise ValueError("canary")

    monkeypatch.setattr(verification, "_write_acceptance", broken)
    results = batch(stub, [assertion(edge), credential(edge), assertion(edge)])
    assert [told(each) for each in results] == ["accepted", "INTERNAL", "accepted"]
    assert "canary" not in str(results)


def test_a_batch_that_does_not_come_is_ended(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "RECEIVE_BATCH_SECONDS", 0.1)
    never = threading.Event()
    with edge.service() as channel:
        method = channel.stream_unary(BATCH, request_serializer=bytes, response_deserializer=bytes)
        call = method.future(iter(lambda: never.wait(SECONDS) and b"", b""))
        assert call.code() is grpc.StatusCode.CANCELLED
        never.set()
    wait_for(lambda: not edge.listener._guard._batches._open, what="its place being given back")


def test_nobody_without_a_registration_gets_a_batch_or_a_stream(edge: Edge) -> None:
    with edge.channel(f"{entity_ids(AH).gateway}/services/stranger") as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        for call in (
            lambda: batch(stub, [MALFORMED]),
            lambda: list(stub.StreamVerifyCredentials(iter([]), timeout=SECONDS)),
        ):
            code, details = failure(call)
            assert (code, info(details).reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")


def test_one_batch_too_many_of_a_caller_is_refused_and_told_when_to_come_again(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(edge, monkeypatch)
    running = [
        stub.BatchVerifyCredentials.future(Batch(items=[MALFORMED]), timeout=SECONDS) for _ in range(BATCHES_PER_CALLER)
    ]
    wait_for(lambda: edge.listener._guard._batches._open.total() == BATCHES_PER_CALLER, what="all being served")
    code, details = failure(lambda: batch(stub, [MALFORMED]))
    assert (code, info(details).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert next(each for each in details if isinstance(each, error_details_pb2.RetryInfo)).retry_delay.seconds > 0
    gate.open.set()
    assert [told(each.result().results[0]) for each in running] == ["MALFORMED"] * BATCHES_PER_CALLER
    assert [told(each) for each in batch(stub, [MALFORMED])] == ["MALFORMED"]


def test_nothing_more_is_decided_for_a_caller_that_has_gone(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = decided(edge)
    contexts: list[grpc.ServicerContext] = []
    receive = edge.listener._guard._receive

    def watched(messages: Any, owner: str, context: grpc.ServicerContext, seconds: float) -> Any:
        contexts.append(context)
        return receive(messages, owner, context, seconds)

    monkeypatch.setattr(edge.listener._guard, "_receive", watched)
    gate = Gate(edge, monkeypatch)
    call = stub.BatchVerifyCredentials.future(Batch(items=[MALFORMED] * 3 * MAX_TOGETHER), timeout=SECONDS)
    assert gate.reached.wait(SECONDS)
    call.cancel()
    wait_for(lambda: not contexts[0].is_active(), what="the server hearing of it")
    gate.open.set()
    wait_for(lambda: not edge.listener._guard._batches._open, what="the end of it")
    assert decided(edge) == before + MAX_TOGETHER


# -- what a caller may bring ------------------------------------------------------------------------------------------


@pytest.fixture
def frugal(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    """A caller may bring four a second, and time stands still."""
    monkeypatch.setattr("gateway.intake.time", SimpleNamespace(monotonic=lambda: 1_000.0))
    allowance = Allowance(rate=4, concurrency=8)
    with opened(federation, allowance=allowance, batches=1, streams_both_ways=1) as made:
        yield made


def test_each_item_of_a_batch_counts_against_what_its_caller_may_bring(frugal: Edge) -> None:
    with frugal.service() as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        assert [told(each) for each in batch(stub, [MALFORMED] * 3)] == ["MALFORMED"] * 3
        code, details = failure(lambda: batch(stub, [MALFORMED] * 2))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert info(details).reason == "CALLER_RATE_EXCEEDED"
        assert [told(each) for each in batch(stub, [MALFORMED])] == ["MALFORMED"]
    assert decided(frugal) == 4


def test_what_a_stream_brings_too_much_of_is_refused_item_by_item(frugal: Edge) -> None:
    with frugal.service() as channel:
        stub: Any = verification_pb2_grpc.VerificationServiceStub(channel)
        messages = [
            Messages(items=[Item(item_id=f"{message}-{item}", request=MALFORMED) for item in range(3)])
            for message in range(2)
        ]
        answered = threading.Event()

        def sent() -> Iterator[Any]:
            yield messages[0]
            answered.wait(SECONDS)  # else both may be read, and counted, together
            yield messages[1]

        answers = stub.StreamVerifyCredentials(sent(), timeout=SECONDS)
        first = next(answers)
        answered.set()
        second = next(answers)
    assert [told(each) for each in first.results] == ["MALFORMED"] * 3
    assert [told(each) for each in second.results] == ["RESOURCE_EXHAUSTED"] * 3
    assert {each.error.reason for each in second.results} == {"CALLER_RATE_EXCEEDED"}
    assert all(each.error.retry_delay.ToNanoseconds() > 0 for each in second.results)
    assert decided(frugal) == 3


# -- batches and others -----------------------------------------------------------------------------------------------


def test_a_single_presentation_is_answered_while_a_batch_is_in_the_midst_of_its_turn(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    halfway, answered = threading.Event(), threading.Event()

    def stopping(request: Any, *rest: Any) -> Any:
        if request.presentation == "halfway":
            halfway.set()
            answered.wait(SECONDS)
        return open_presentation(request, *rest)

    monkeypatch.setattr(verifier, "open_presentation", stopping)
    items = [*[MALFORMED] * 450, Request(matter=LICENCE_DISPLAY, presentation="halfway"), *[MALFORMED] * 549]
    running = stub.BatchVerifyCredentials.future(Batch(items=items), timeout=SECONDS)
    assert halfway.wait(SECONDS)
    assert told_of(stub.VerifyCredential(assertion(edge), timeout=SECONDS)) == "accepted"
    assert not running.done()
    answered.set()
    assert len(running.result().results) == MAX_BATCH_ITEMS


def told_of(response: Any) -> str:
    return told(verification_pb2.VerificationResult(response=response))


def test_batches_and_streams_take_no_thread_from_single_presentations(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(edge, monkeypatch)
    batches = [
        stub.BatchVerifyCredentials.future(Batch(items=[MALFORMED]), timeout=SECONDS) for _ in range(BATCHES_PER_CALLER)
    ]
    sent = [Conversation(stub) for _ in range(STREAMS_PER_CALLER)]
    for each in sent:
        each.send(Item(item_id="1", request=MALFORMED))
    wait_for(lambda: open_streams(edge) == STREAMS_PER_CALLER, what="all streams being served")
    barrier = threading.Barrier(8)  # as many threads as the listener has for them
    made_by = edge.federation[AH].verifier.create_challenge

    def together(*arguments: Any) -> Any:
        barrier.wait(SECONDS)
        return made_by(*arguments)

    monkeypatch.setattr(edge.federation[AH].verifier, "create_challenge", together)
    request = verification_pb2.CreateChallengeRequest(matter=LICENCE_DISPLAY)
    with ThreadPoolExecutor(8) as pool:
        nonces = {each.nonce for each in pool.map(lambda _: stub.CreateChallenge(request, timeout=SECONDS), range(8))}
    assert len(nonces) == 8
    gate.open.set()
    for call in batches:
        assert len(call.result().results) == 1
    for conversation in sent:
        assert [told(each) for each in conversation.close()] == ["MALFORMED"]


# -- streams ----------------------------------------------------------------------------------------------------------


class Conversation:
    """A stream, sent to and read from step by step."""

    def __init__(self, stub: Any) -> None:
        self._outbox: queue.SimpleQueue[Messages | None] = queue.SimpleQueue()
        self.call = stub.StreamVerifyCredentials(iter(self._outbox.get, None), timeout=SECONDS)

    def send(self, *items: Item) -> None:
        self._outbox.put(Messages(items=items))

    def results(self, count: int) -> list[Any]:
        """Read until there are so many."""
        found: list[Any] = []
        while len(found) < count:
            found.extend(next(self.call).results)
        assert len(found) == count
        return found

    def close(self) -> list[Any]:
        """Send no more, and read to the end."""
        self._outbox.put(None)
        return [each for message in self.call for each in message.results]

    def ends(self) -> tuple[list[Any], grpc.StatusCode]:
        """Read until it is ended by the other side; gives what came, and the status."""
        found, code = read_to_the_end(self.call)
        self._outbox.put(None)
        return found, code


def read_to_the_end(call: Any) -> tuple[list[Any], grpc.StatusCode]:
    """Read what comes until the other side ends it; gives the results, and the status."""
    found: list[Any] = []
    try:
        for message in call:
            found.extend(message.results)
    except grpc.RpcError:
        pass  # the status says it
    return found, call.code()


def open_streams(edge: Edge) -> int:
    return len(edge.listener._guard._both_ways._open)


def numbered(count: int) -> list[Item]:
    return [Item(item_id=str(number), request=MALFORMED) for number in range(count)]


def test_each_item_on_a_stream_is_answered_under_its_name(edge: Edge, stub: Any) -> None:
    good, twice = assertion(edge), credential(edge)
    talk = Conversation(stub)
    talk.send(
        Item(item_id="good", request=good),
        Item(item_id="bad", request=Request(matter=LICENCE_DISPLAY)),
        Item(item_id="twice", request=twice),
        Item(item_id="not-mine", request=Request(matter=COURT_FILING, presentation="x")),
    )
    first = talk.results(4)
    talk.send(Item(item_id="good", request=twice))  # it was answered, so that the name is free
    assert {each.item_id: told(each) for each in first} == {
        "good": "accepted",
        "bad": "INVALID_ARGUMENT",
        "twice": "accepted",
        "not-mine": "PERMISSION_DENIED",
    }
    assert [(each.item_id, told(each)) for each in talk.close()] == [("good", "REPLAYED")]
    assert talk.call.code() is grpc.StatusCode.OK


def test_what_a_stream_did_not_answer_is_asked_again_on_another(edge: Edge, stub: Any) -> None:
    item = Item(item_id="1", request=assertion(edge, request_id="case-1"))
    found = []
    for _ in range(2):
        talk = Conversation(stub)
        talk.send(item)
        found += talk.close()
    assert [told(each) for each in found] == ["accepted", "accepted"]
    assert len({each.response.verification_id for each in found}) == 1


def converse(stub: Any, count: int) -> None:
    """Send so many, without waiting for answers, and read at leisure."""
    items = numbered(count)
    some = [Messages(items=items[begin : begin + 16]) for begin in range(0, count, 16)]
    call = stub.StreamVerifyCredentials(iter(some), timeout=600)
    slow = threading.Event()  # never set
    answered: list[str] = []
    for message in call:
        assert 1 <= len(message.results) <= MAX_STREAM_ITEMS
        answered.extend(each.item_id for each in message.results)
        slow.wait(0.002)
    assert sorted(answered) == sorted(each.item_id for each in items)
    assert call.code() is grpc.StatusCode.OK


def test_a_slow_reader_gets_an_answer_to_each_of_a_thousand_items(edge: Edge, stub: Any) -> None:
    converse(stub, 1_000)


@pytest.mark.long
def test_a_slow_reader_gets_an_answer_to_each_of_ten_thousand_items(edge: Edge, stub: Any) -> None:
    converse(stub, 10_000)


def test_who_closes_their_side_gets_all_answers(edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(edge, monkeypatch)
    talk = Conversation(stub)
    with ThreadPoolExecutor(1) as pool:
        for item in numbered(5):
            talk.send(item)
        closing = pool.submit(talk.close)
        assert gate.reached.wait(SECONDS)
        gate.open.set()
        assert [each.item_id for each in closing.result(SECONDS)] == ["0", "1", "2", "3", "4"]
    assert talk.call.code() is grpc.StatusCode.OK


def test_small_messages_that_came_meanwhile_are_recorded_together(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(edge, monkeypatch)
    inboxes = made_inboxes(monkeypatch)
    talk = Conversation(stub)
    talk.send(Item(item_id="first", request=MALFORMED))
    assert gate.reached.wait(SECONDS)
    for item in numbered(10):
        talk.send(item)
    wait_for(lambda: len(inboxes[0]._waiting) == 10, what="all of them being read")
    gate.open.set()
    assert len(talk.results(1)) == 1
    assert len(next(talk.call).results) == 10
    assert gate.groups == [1, 10]
    talk.close()


def made_inboxes(monkeypatch: pytest.MonkeyPatch) -> list[Inbox]:
    """Give a list to which those of streams to come are added."""
    made: list[Inbox] = []

    def make(messages: Any) -> Inbox:
        made.append(Inbox(messages))
        return made[-1]

    monkeypatch.setattr(guard, "Inbox", make)
    return made


@pytest.mark.parametrize(
    "bad",
    [
        Messages().SerializeToString(),
        Messages(items=numbered(MAX_STREAM_ITEMS + 1)).SerializeToString(),
        Messages(items=[Item(request=MALFORMED)]).SerializeToString(),
        Messages(items=[Item(item_id="a b", request=MALFORMED)]).SerializeToString(),
        Messages(items=[Item(item_id="a" * 65, request=MALFORMED)]).SerializeToString(),
        Messages(items=[Item(item_id="310101190001010011", request=MALFORMED)]).SerializeToString(),
        Messages(items=[Item(item_id="a", request=MALFORMED)] * 2).SerializeToString()[:-1],
        Messages(
            items=[Item(item_id="a", request=Request(presentation="A" * MAX_STREAM_MESSAGE_BYTES))]
        ).SerializeToString(),
    ],
    ids=["empty", "too many", "no name", "a space", "a long name", "an ID number", "cut off", "too large"],
)
def test_a_message_out_of_form_ends_the_stream_after_what_came_before(edge: Edge, bad: bytes) -> None:
    good = Messages(items=[Item(item_id="good", request=MALFORMED)]).SerializeToString()
    with edge.service() as channel:
        method = channel.stream_stream(
            STREAM,
            request_serializer=bytes,
            response_deserializer=verification_pb2.StreamVerifyCredentialsResponse.FromString,
        )
        found, code = read_to_the_end(method(iter([good, bad, good]), timeout=SECONDS))
    assert ([each.item_id for each in found], code) == (["good"], grpc.StatusCode.INVALID_ARGUMENT)


def test_a_name_that_waits_for_its_answer_is_not_used_again(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Conversation(stub)
    items = [assertion(edge) for _ in range(2)]
    talk.send(*[Item(item_id="same", request=each) for each in items])
    found, code = talk.ends()
    assert ([told(each) for each in found], code) == (["accepted"], grpc.StatusCode.INVALID_ARGUMENT)
    assert [told(each) for each in batch(stub, items)] == ["REPLAYED", "accepted"]


def test_who_stops_reading_is_cut_off_and_what_was_decided_is_on_record(
    edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "UNREAD_SECONDS", 0.2)
    item = assertion(edge)
    # Answers that no window of HTTP/2 holds.
    monkeypatch.setattr(
        "gateway.server.verification.failure",
        lambda *_: guard.Failure(code=3, reason="INVALID_REQUEST", description="A" * 1_000_000),
    )
    bad = [Item(item_id=str(number), request=Request()) for number in range(MAX_STREAM_ITEMS - 1)]
    talk = Conversation(stub)
    talk.send(Item(item_id="good", request=item), *bad)
    wait_for(lambda: open_streams(edge) == 1, what="the stream being served")
    wait_for(lambda: open_streams(edge) == 0, what="the stream being cut off")
    _, code = talk.ends()
    assert code in {grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert [told(each) for each in batch(stub, [item])] == ["REPLAYED"]


def test_who_vanishes_gives_the_threads_back(edge: Edge) -> None:
    for _ in range(2 * STREAMS_PER_CALLER):
        with edge.service() as channel:
            talk = Conversation(verification_pb2_grpc.VerificationServiceStub(channel))
            talk.send(Item(item_id="1", request=MALFORMED))
            talk.results(1)
        talk.ends()
        wait_for(lambda: open_streams(edge) == 0, what="the stream being given back")
    wait_for(lambda: not any(each.name == "inbox" for each in threading.enumerate()), what="its thread ending")


def test_one_stream_too_many_of_a_caller_is_refused_and_the_others_live_on(edge: Edge, stub: Any) -> None:
    talks = [Conversation(stub) for _ in range(STREAMS_PER_CALLER)]
    for talk in talks:
        talk.send(Item(item_id="1", request=MALFORMED))
        talk.results(1)
    code, details = failure(lambda: next(stub.StreamVerifyCredentials(iter([]), timeout=SECONDS)))
    assert (code, info(details).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert [each for each in details if isinstance(each, error_details_pb2.RetryInfo)]
    for talk in talks:
        talk.send(Item(item_id="2", request=MALFORMED))
        assert [each.item_id for each in talk.close()] == ["2"]


def test_a_stream_on_which_nothing_comes_is_ended(edge: Edge, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "IDLE_SECONDS", 0.1)
    talk = Conversation(stub)
    assert talk.ends() == ([], grpc.StatusCode.UNAVAILABLE)


def test_draining_ends_a_stream_after_what_was_taken_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation(tmp_path)
    with opened(federation, batches=1, streams_both_ways=1) as edge, edge.service() as channel:
        gate, inboxes = Gate(edge, monkeypatch), made_inboxes(monkeypatch)
        talk = Conversation(verification_pb2_grpc.VerificationServiceStub(channel))
        talk.send(Item(item_id="deciding", request=MALFORMED))
        assert gate.reached.wait(SECONDS)
        talk.send(Item(item_id="waiting", request=MALFORMED))
        wait_for(lambda: len(inboxes[0]._waiting) == 1, what="it being read")
        stopped = edge.listener.stop(SECONDS)
        gate.open.set()
        found, code = talk.ends()
        assert ([each.item_id for each in found], code) == (["deciding", "waiting"], grpc.StatusCode.UNAVAILABLE)
        stopped()
    federation.close()


def test_where_decisions_are_only_explained_nothing_is_verified(federation: Federation) -> None:
    with opened(federation, explaining=True) as edge, edge.service() as channel:
        stub: Any = verification_pb2_grpc.VerificationServiceStub(channel)
        for call in (
            lambda: stub.VerifyCredential(MALFORMED, timeout=SECONDS),
            lambda: batch(stub, [MALFORMED]),
            lambda: list(stub.StreamVerifyCredentials(iter([]), timeout=SECONDS)),
        ):
            assert failure(call)[0] is grpc.StatusCode.PERMISSION_DENIED
    assert decided(edge) == 0


# -- what is read ahead -----------------------------------------------------------------------------------------------


class Sender:
    """Messages without end; counts those that were read."""

    def __init__(self, size: int, items: int = 1) -> None:
        self._received = Received(Messages(items=numbered(items)), size)
        self.read = 0

    def __iter__(self) -> Iterator[Received]:
        while True:
            self.read += 1
            yield Received(Messages(items=self._received.message.items), self._received.size)


@pytest.mark.parametrize(
    ("items", "size", "most"),
    [
        (1, 1_000, MAX_STREAM_ITEMS),
        (60, 1_000, 2),
        (1, streams.MAX_WAITING_BYTES // 4, 4),
        (0, 0, MAX_STREAM_ITEMS),
    ],
    ids=["small", "middling", "large", "empty"],
)
def test_no_more_is_read_ahead_than_the_bounds_say(items: int, size: int, most: int) -> None:
    sender = Sender(size, items)
    inbox = Inbox(iter(sender))
    next(inbox)
    wait_for(lambda: len(inbox._waiting) == most, what="the reader having enough")
    taken = sender.read
    next(inbox)
    wait_for(lambda: len(inbox._waiting) == most, what="the reader having enough again")
    assert sender.read > taken
    inbox.close()


@pytest.mark.parametrize(
    ("sent", "taken"),
    [([40, 60, 1], [100, 1]), ([40, 61], [40, 61]), ([1, 1, 0, 1], [2, 0, 1]), ([50, 101], [50, 101])],
    ids=str,
)
def test_what_is_put_together_stays_within_what_one_message_may_hold(sent: list[int], taken: list[int]) -> None:
    inbox = Inbox(iter([Received(Messages(items=numbered(count)), 1) for count in sent]))
    inbox._reader.start()
    wait_for(lambda: len(inbox._waiting) >= 2, what="two being read")
    wait_for(lambda: inbox._over is not None or not inbox._has_room(), what="all being read that there is room for")
    assert [len(message.items) for message in inbox] == taken


def test_a_closed_inbox_gives_nothing_more() -> None:
    inbox = Inbox(iter(Sender(1)))
    next(inbox)
    inbox.close()
    with pytest.raises(Unavailable):
        next(inbox)
