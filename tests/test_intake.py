"""How calls come in, over real mutual TLS. What is gRPC's private matter is held in place by these tests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from recognition.v1 import verification_pb2, verification_pb2_grpc
from structlog.testing import capture_logs

from gateway.certificates import ChannelMaterial
from gateway.clock import system_world
from gateway.core.quota import Allowance
from gateway.core.reasons import Overloaded
from gateway.guard import Guard, caller_of
from gateway.server.listener import MAX_CONNECTION_STREAMS, Listener
from gateway.tls import CallerReader, create_ca, issue_certificate

WORLD = system_world()
GATEWAY = "https://gateway.ah.mrg.example"
CHALLENGE = "/recognition.v1.VerificationService/CreateChallenge"
THREADS = 2


@dataclass
class Desk(verification_pb2_grpc.VerificationServiceServicer):
    """Answers with the name of who asks, once a call for the matter may pass."""

    callers: CallerReader
    held: dict[str, threading.Event] = field(default_factory=dict)
    """Calls for these matters wait."""
    begun: list[str] = field(default_factory=list)
    """The matters of the calls that got a thread."""
    answering: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released when a call gets a thread."""

    def CreateChallenge(self, request: Any, context: grpc.ServicerContext) -> verification_pb2.CreateChallengeResponse:
        self.begun.append(request.matter)
        self.answering.release()
        if request.matter in self.held:
            self.held[request.matter].wait(20)
        return verification_pb2.CreateChallengeResponse(nonce=caller_of(context, self.callers, WORLD).identity)


@dataclass
class Site:
    listener: Listener
    desk: Desk
    ca: tuple[bytes, bytes]

    def channel(self, name: str = "counter") -> grpc.Channel:
        certificate, key = certificate_for(self.ca, f"{GATEWAY}/services/{name}", server=False)
        credentials = grpc.ssl_channel_credentials(self.ca[0], key, certificate)
        return grpc.secure_channel(f"localhost:{self.listener.port}", credentials)


def certificate_for(ca: tuple[bytes, bytes], identity: str, *, server: bool) -> tuple[bytes, bytes]:
    return issue_certificate(
        *ca,
        identity_uri=identity,
        dns_names=["localhost"] if server else [],
        ip_addresses=[],
        server=server,
        client=True,
        now=WORLD.now() - timedelta(minutes=1),
        lifetime=timedelta(days=1),
    )


@pytest.fixture
def site() -> Iterator[Site]:
    with opened() as made:
        yield made


@contextmanager
def opened(*, threads: int = THREADS, **options: Any) -> Iterator[Site]:
    ca = create_ca("Anhui test CA", WORLD.now() - timedelta(minutes=1))
    certificate, key = certificate_for(ca, GATEWAY, server=True)
    callers = CallerReader({ca[0]: (GATEWAY,)})
    listener = Listener(
        address="localhost:0",
        material=lambda: ChannelMaterial(certificate=certificate, private_key=key, cas=ca[0]),
        callers=callers,
        threads=threads,
        max_concurrent_calls=64,
        world=WORLD,
        **options,
    )
    kind: Any = Desk  # which answers no more than is asked here
    desk = kind(callers)
    listener.add_verification(desk)
    listener.start()
    yield Site(listener=listener, desk=desk, ca=ca)
    listener.stop(0)()


def ask(channel: grpc.Channel, matter: str = "HK-QY", timeout: float = 20) -> Any:
    stub: Any = verification_pb2_grpc.VerificationServiceStub(channel)
    return stub.CreateChallenge.future(verification_pb2.CreateChallengeRequest(matter=matter), timeout=timeout)


def raw(channel: grpc.Channel, messages: Iterator[bytes]) -> Any:
    return channel.stream_unary(CHALLENGE, request_serializer=bytes, response_deserializer=bytes).future(messages)


def silence(until: threading.Event) -> Iterator[bytes]:
    until.wait(60)
    yield from ()


def reason(call: Any) -> tuple[grpc.StatusCode, str]:
    code = call.code()  # waits for it
    status: Any = rpc_status.from_call(call)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return code, info.reason


def retry_delay(call: Any) -> float:
    assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status: Any = rpc_status.from_call(call)
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    seconds: float = retry.retry_delay.ToNanoseconds() / 1e9
    return seconds


def come(channel: grpc.Channel) -> None:
    """Wait until all calls made on a channel so far have come, and those given up are known to be."""
    assert raw(channel, iter(())).code() is grpc.StatusCode.INVALID_ARGUMENT


@contextmanager
def busy(site: Site, channel: grpc.Channel, threads: int = THREADS) -> Iterator[None]:
    """Keep all threads busy."""
    gate = site.desk.held["busy"] = threading.Event()
    calls = [ask(channel, "busy") for _ in range(threads)]
    for _ in calls:
        assert site.desk.answering.acquire(timeout=20)
    yield
    gate.set()
    assert all(call.result().nonce for call in calls)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time for quotas, which stands still."""
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr("gateway.intake.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_each_call_is_answered_in_the_name_of_who_makes_it(site: Site) -> None:
    names = [f"service-{number}" for number in range(4)]
    channels = [site.channel(name) for name in names]
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda number: ask(channels[number % 4]).result().nonce, range(200)))
    assert asked == [f"{GATEWAY}/services/{names[number % 4]}" for number in range(200)]
    for channel in channels:
        channel.close()


def test_the_certificate_is_looked_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    certified = CallerReader.certified

    def counted(self: CallerReader, *arguments: Any) -> Any:
        looked.append(1)
        return certified(self, *arguments)

    monkeypatch.setattr(CallerReader, "certified", counted)
    with site.channel() as channel:
        ask(channel).result()
    assert len(looked) == 1


def test_calls_whose_message_does_not_come_hold_no_thread(site: Site) -> None:
    never = threading.Event()
    with site.channel("silent") as silent, site.channel() as channel:
        calls = [raw(silent, silence(never)) for _ in range(THREADS)]
        for _ in range(3):
            assert ask(channel).result().nonce
        assert not any(call.done() for call in calls)
        never.set()


def test_a_call_that_ends_without_a_message_is_the_callers_error(site: Site) -> None:
    with site.channel() as channel:
        call = raw(channel, iter(()))
        assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason(call) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


def test_a_call_that_was_given_up_while_it_waited_is_not_worked_on(site: Site) -> None:
    with site.channel() as channel:
        with busy(site, channel):
            given_up, kept = ask(channel, "given up"), ask(channel, "kept")
            come(channel)
            given_up.cancel()
            come(channel)
        assert kept.result().nonce
    assert sorted(site.desk.begun) == ["busy", "busy", "kept"]


@pytest.mark.parametrize("where", ["arrive", "leave"])
def test_a_bug_while_a_call_comes_in_ends_that_call_and_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    original: Callable[..., Any] = getattr(Guard, where)
    with site.channel() as channel:

        def broken(*arguments: Any) -> Any:
            monkeypatch.setattr(Guard, where, original)
            raise RuntimeError("a bug")

        monkeypatch.setattr(Guard, where, broken)
        first = ask(channel)
        assert first.code() is (grpc.StatusCode.INTERNAL if where == "arrive" else grpc.StatusCode.OK)
        for _ in range(2 * THREADS):
            assert ask(channel).result().nonce


def test_calls_taken_are_answered_when_it_is_stopped(site: Site) -> None:
    with site.channel() as channel:
        with busy(site, channel):
            waiting = [ask(channel) for _ in range(3)]
            come(channel)
            wait = site.listener.stop(20)
        wait()
        assert all(call.result().nonce for call in waiting)


def test_nobody_is_told_that_the_call_was_cancelled_when_it_is_stopped() -> None:
    codes: Counter[grpc.StatusCode] = Counter()
    for number in range(5):
        with opened() as site, ThreadPoolExecutor(4) as pool, ExitStack() as channels:
            over = threading.Event()

            def keep_asking(channel: grpc.Channel, over: threading.Event = over) -> Counter[grpc.StatusCode]:
                told: Counter[grpc.StatusCode] = Counter()
                while not over.is_set():
                    told[ask(channel).code()] += 1
                return told

            asking = [
                pool.submit(keep_asking, channels.enter_context(site.channel(f"counter-{each}"))) for each in range(4)
            ]
            for _ in range(20 + number):
                assert site.desk.answering.acquire(timeout=20)
            site.listener.stop(20)()
            over.set()
            codes += sum((each.result() for each in asking), Counter())
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


# -- quotas -----------------------------------------------------------------------------------------------------------


def test_a_caller_that_brings_too_many_is_told_when_to_come_again(clock: SimpleNamespace) -> None:
    special = {f"{GATEWAY}/services/special": Allowance(rate=4, concurrency=8)}
    with (
        opened(allowance=Allowance(rate=2, concurrency=8), allowances=special) as site,
        site.channel() as channel,
        site.channel("special") as other,
    ):
        assert [ask(channel).code() for _ in range(2)] == [grpc.StatusCode.OK] * 2
        refused = ask(channel)
        assert reason(refused) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_RATE_EXCEEDED")
        assert retry_delay(refused) == pytest.approx(0.5)
        assert [ask(other).code() for _ in range(4)] == [grpc.StatusCode.OK] * 4
        assert reason(ask(other)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_RATE_EXCEEDED")
        clock.now += retry_delay(refused)
        assert ask(channel).code() is grpc.StatusCode.OK


def test_the_log_is_told_whose_calls_were_refused_and_how_many(clock: SimpleNamespace) -> None:
    with capture_logs() as logs, opened(allowance=Allowance(rate=2, concurrency=8)) as site, site.channel() as channel:
        outcomes = [ask(channel).code() for _ in range(5)]
        assert Counter(outcomes) == {grpc.StatusCode.OK: 2, grpc.StatusCode.RESOURCE_EXHAUSTED: 3}
        site.listener.stop(0)()
    (told,) = [each for each in logs if each["event"] == "calls_refused"]
    caller = f"{GATEWAY}/services/counter"
    assert (told["caller"], told["reason"], told["count"]) == (caller, "CALLER_RATE_EXCEEDED", 3)


def test_the_items_of_a_call_count(clock: SimpleNamespace) -> None:
    identity = f"{GATEWAY}/services/counter"
    with opened(allowance=Allowance(rate=10, concurrency=8)) as site, site.channel() as channel:
        assert ask(channel).code() is grpc.StatusCode.OK
        site.listener.charge(identity, 9)
        with pytest.raises(Overloaded) as caught:
            site.listener.charge(identity, 1)
        assert caught.value.reason == "CALLER_RATE_EXCEEDED"
        assert caught.value.retry_after_seconds == pytest.approx(0.1)
        assert reason(ask(channel)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_RATE_EXCEEDED")
        clock.now += 0.1
        site.listener.charge(identity, 1)


def test_a_caller_that_has_too_many_calls_open_is_refused_and_another_is_not() -> None:
    with (
        opened(allowance=Allowance(rate=1e6, concurrency=3)) as site,
        site.channel() as channel,
        site.channel("other") as other,
    ):
        with busy(site, channel):
            waiting = ask(channel)
            come_along = ask(channel)  # the fourth
            assert reason(come_along) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_CONCURRENCY_EXCEEDED")
            assert retry_delay(come_along) > 0
            anothers = ask(other)
        assert (waiting.code(), anothers.code()) == (grpc.StatusCode.OK,) * 2
        assert ask(channel).code() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("timeout", "code"),
    [(9, grpc.StatusCode.RESOURCE_EXHAUSTED), (60, grpc.StatusCode.OK)],
    ids=["too short", "enough"],
)
def test_a_call_that_would_be_answered_too_late_is_refused_at_once(
    site: Site, timeout: float, code: grpc.StatusCode
) -> None:
    quotas: Any = site.listener._intake._quotas
    with site.channel() as channel:
        with busy(site, channel):
            waiting = ask(channel)
            come(channel)
            quotas.pace.interval, quotas.pace.service = 2.5, 5.0  # two turns, and what it takes itself: ten seconds
            call = ask(channel, timeout=timeout)
            if code is not grpc.StatusCode.OK:
                assert reason(call) == (code, "DEADLINE_TOO_SHORT")
                assert retry_delay(call) == pytest.approx(10.0)
            else:
                come(channel)
        assert call.code() is code
        assert waiting.code() is grpc.StatusCode.OK


def test_a_short_deadline_is_no_fault_while_nobody_waits(site: Site) -> None:
    quotas: Any = site.listener._intake._quotas
    with site.channel() as channel:
        quotas.pace.interval = quotas.pace.service = 1_000.0
        assert ask(channel, timeout=20).code() is grpc.StatusCode.OK


def test_callers_that_wait_are_served_in_turn() -> None:
    with opened(threads=1) as site, site.channel("greedy") as greedy, site.channel("modest") as modest:
        with busy(site, modest, threads=1):
            calls = [ask(greedy, "greedy") for _ in range(6)]
            come(greedy)
            calls += [ask(modest, "modest") for _ in range(2)]
            come(modest)
        assert [call.code() for call in calls] == [grpc.StatusCode.OK] * 8
    assert site.desk.begun == ["busy", "greedy", "modest", "greedy", "modest", *["greedy"] * 4]


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_who_asks_again_at_once_is_told_later(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> None:
    monkeypatch.setattr("gateway.intake.REFUSALS_PER_SECOND", 1)
    with opened(allowance=Allowance(rate=1, concurrency=8)) as site, site.channel() as channel:
        assert ask(channel).code() is grpc.StatusCode.OK
        told, held, last = ask(channel), ask(channel), ask(channel)
        assert told.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        wait_until(lambda: len(intake(site)._held) == 2)
        assert not held.done()
        clock.now += 1
        assert held.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert retry_delay(held) > 0
        assert not last.done()
        site.listener.stop(20)()
        assert last.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_no_more_refusals_are_held_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    monkeypatch.setattr("gateway.intake.REFUSALS_PER_SECOND", 1)
    monkeypatch.setattr("gateway.intake.MAX_HELD_REFUSALS", 2)
    with opened(allowance=Allowance(rate=1, concurrency=8)) as site, site.channel() as channel:
        assert ask(channel).code() is grpc.StatusCode.OK
        calls = [ask(channel) for _ in range(5)]
        for call in calls[:3]:
            assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not any(call.done() for call in calls[3:])


def test_what_a_connection_may_not_open_stays_with_the_client(site: Site) -> None:
    more = 5
    with site.channel() as channel, site.channel("other") as other:
        gate = site.desk.held["busy"] = threading.Event()
        calls = [ask(channel, "busy") for _ in range(MAX_CONNECTION_STREAMS + more)]
        wait_until(lambda: intake(site)._quotas._open == MAX_CONNECTION_STREAMS)
        for _ in range(10):
            come(other)
        assert intake(site)._quotas._open == MAX_CONNECTION_STREAMS
        gate.set()
        assert [call.code() for call in calls] == [grpc.StatusCode.OK] * (MAX_CONNECTION_STREAMS + more)


def test_in_a_flood_each_call_is_answered_or_refused_and_then_all_is_as_before() -> None:
    names = [f"service-{number}" for number in range(4)]
    with opened(allowance=Allowance(rate=1e6, concurrency=4)) as site:
        channels = [site.channel(name) for name in names]
        calls = [ask(channels[number % 4], str(number)) for number in range(400)]
        codes = Counter(call.code() for call in calls)
        assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert codes[grpc.StatusCode.OK] == len(site.desk.begun) == len(set(site.desk.begun))
        assert all(retry_delay(call) > 0 for call in calls if call.code() is not grpc.StatusCode.OK)
        assert [ask(channel).code() for channel in channels] == [grpc.StatusCode.OK] * 4
        wait_until(lambda: intake(site)._quotas._open == 0)
        for channel in channels:
            channel.close()


def intake(site: Site) -> Any:
    return site.listener._intake


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        threading.Event().wait(0.005)
