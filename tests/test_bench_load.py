"""The load generator calls as gRPC's own client does, and says truly what came of it and how long it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import hpack
import pytest

from bench.http2 import Connection, ProtocolError, Target, _changes_table, framed, messages
from bench.load import Flow, LoadError, connected, run, stream
from gateway.clock import system_world
from gateway.tls import create_ca, issue_certificate

ECHO = "/bench.Test/Echo"
REFUSE = "/bench.Test/Refuse"
WAIT = "/bench.Test/Wait"
STREAM = "/bench.Test/Stream"
UNKNOWN = "/bench.Test/Unknown"
SIZES = (0, 1, 100, 16_384, 16_385, 70_000, 1_000_000)


@dataclass
class Desk(grpc.GenericRpcHandler):
    """A server that does what the path says."""

    gate: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return {
            ECHO: grpc.unary_unary_rpc_method_handler(lambda request, _context: request),
            REFUSE: grpc.unary_unary_rpc_method_handler(_refuse),
            WAIT: grpc.unary_unary_rpc_method_handler(self._wait),
            STREAM: grpc.stream_stream_rpc_method_handler(lambda requests, _context: requests),
        }.get(str(details.method))

    def _wait(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        assert self.gate.wait(30)
        return request


def _refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("x-number", str(len(request))),))  # so that no two trailers are alike
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no")


@dataclass
class Place:
    desk: Desk
    target: Target

    def channel(self) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            self.target.ca.read_bytes(), self.target.private_key.read_bytes(), self.target.certificate.read_bytes()
        )
        return grpc.secure_channel(self.target.address, credentials, [("grpc.max_receive_message_length", -1)])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    now = system_world().now() - timedelta(minutes=1)
    ca = create_ca("bench", now)
    certificate, key = issue_certificate(
        *ca,
        identity_uri="https://bench.example",
        dns_names=[],
        ip_addresses=["127.0.0.1"],
        server=True,
        client=True,
        now=now,
        lifetime=timedelta(days=1),
    )
    for name, content in (("ca.pem", ca[0]), ("end.pem", certificate), ("end.key", key)):
        (tmp_path / name).write_bytes(content)
    desk = Desk()
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((desk,))
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca[0], require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield Place(
        desk,
        Target(
            address=f"127.0.0.1:{port}",
            ca=tmp_path / "ca.pem",
            certificate=tmp_path / "end.pem",
            private_key=tmp_path / "end.key",
        ),
    )
    desk.gate.set()
    server.stop(0).wait()


def loaded(place: Place, path: str, payloads: Sequence[bytes], **kind: Any) -> Flow:
    with connected(place.target, 2) as connections:
        flow = Flow(path.encode(), [framed(each) for each in payloads], connections, **kind)
        run(flow)
    return flow


# -- as gRPC's own client ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [ECHO, REFUSE, UNKNOWN])
def test_answers_are_those_that_grpc_gets(place: Place, path: str) -> None:
    payloads = [bytes([number]) * size for number, size in enumerate(SIZES)]
    flow = loaded(place, path, payloads, in_flight=2)
    ours = {reply.index: (reply.status, list(messages(reply.data))) for reply in flow.replies}
    with place.channel() as channel:
        call: grpc.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(path)
        assert ours == {index: called(call, payload) for index, payload in enumerate(payloads)}


def called(call: grpc.UnaryUnaryMultiCallable[Any, Any], payload: bytes) -> tuple[int, list[bytes]]:
    try:
        return 0, [call(payload)]
    except grpc.RpcError as error:
        return cast("grpc.Call", error).code().value[0], []


def test_a_stream_gives_back_what_grpc_gets(place: Place) -> None:
    payloads = [bytes([number % 256]) * (number * 37 % 20_000) for number in range(200)]
    ours = stream(place.target, STREAM.encode(), [framed(each) for each in payloads], ahead=10_000)
    with place.channel() as channel:
        call: grpc.StreamStreamMultiCallable[Any, Any] = channel.stream_stream(STREAM)
        theirs = list(call(iter(payloads)))
    assert (ours.status, list(messages(ours.data))) == (0, theirs)


def test_a_caller_without_the_right_certificate_is_not_served(place: Place, tmp_path: Path) -> None:
    now = system_world().now() - timedelta(minutes=1)
    stranger = create_ca("bench", now)
    certificate, key = issue_certificate(
        *stranger,
        identity_uri="https://bench.example",
        dns_names=[],
        ip_addresses=[],
        server=False,
        client=True,
        now=now,
        lifetime=timedelta(days=1),
    )
    place.target.certificate.write_bytes(certificate)
    place.target.private_key.write_bytes(key)
    with pytest.raises(OSError):  # noqa: PT011 - a reset or an alert, whichever comes first
        loaded(place, ECHO, [b"x"], in_flight=1)


def test_a_server_that_is_gone_ends_the_run(place: Place) -> None:
    with connected(place.target, 1) as connections:
        connections[0]._socket.shutdown(2)
        with pytest.raises(OSError):  # noqa: PT011 - which one, the system says
            run(Flow(ECHO.encode(), [framed(b"x")], connections, in_flight=1))


# -- loops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{"in_flight": 3}, {"rate": 2_000.0}])
def test_each_message_is_sent_once(place: Place, kind: dict[str, Any]) -> None:
    payloads = [number.to_bytes(2) for number in range(300)]
    flow = loaded(place, ECHO, payloads, **kind)
    assert {reply.index: list(messages(reply.data)) for reply in flow.replies} == {
        index: [payload] for index, payload in enumerate(payloads)
    }
    assert flow.statuses == {0: 300}


def test_a_closed_loop_has_so_many_calls_under_way(place: Place) -> None:
    with connected(place.target, 2) as connections:
        flow = Flow(WAIT.encode(), [framed(b"")] * 10, connections, in_flight=3)
        with pytest.raises(LoadError):
            run(flow, limit_seconds=0.2)
        assert [connection.in_flight for connection in connections] == [3, 3]


def test_in_an_open_loop_whoever_waits_for_a_stalled_server_is_counted_from_when_they_were_due(place: Place) -> None:
    moments: list[float] = []

    def let_in() -> None:
        moments.append(time.perf_counter())
        place.desk.gate.set()

    with connected(place.target, 2) as connections:
        flow = Flow(WAIT.encode(), [framed(b"")] * 21, connections, rate=100.0)
        opening = threading.Timer(0.4, let_in)
        opening.start()
        run(flow)
        opening.join()
    assert all(reply.seconds >= moments[0] - (flow.began + reply.index / 100) for reply in flow.replies)
    assert flow.percentile_ms(99) >= (moments[0] - flow.began) * 1_000 > 200


def test_what_accompanies_a_run_ends_with_it(place: Place) -> None:
    with connected(place.target, 2) as connections:
        flow = Flow(ECHO.encode(), [framed(b"")] * 50, connections[:1], in_flight=1)
        beside = Flow(ECHO.encode(), [framed(b"")] * 100_000, connections[1:], in_flight=1, background=True)
        run(flow, beside)
    assert flow.statuses == {0: 50}
    assert 0 < len(beside.replies) < 100_000


def test_what_accompanies_a_run_and_is_over_before_it_spoils_it(place: Place) -> None:
    with connected(place.target, 2) as connections:
        flow = Flow(ECHO.encode(), [framed(b"")] * 2_000, connections[:1], in_flight=1)
        beside = Flow(ECHO.encode(), [framed(b"")], connections[1:], in_flight=1, background=True)
        with pytest.raises(LoadError):
            run(flow, beside)


# -- on the wire ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ([(":status", "200")], False),
        ([("grpc-status", "0")], True),
        ([hpack.NeverIndexedHeaderTuple("grpc-message", "x" * 300)], False),
        ([(":status", "200"), hpack.NeverIndexedHeaderTuple("grpc-status", "8"), ("x", "y")], True),
    ],
)
def test_a_header_block_that_changes_the_table_is_known(fields: list[Any], changes: bool) -> None:
    assert _changes_table(hpack.Encoder().encode(fields)) is changes


@pytest.mark.parametrize("data", [framed(b"abc")[:-1], b"\1" + framed(b"abc")[1:], b"\0\0\0"])
def test_damaged_messages_are_not_taken_for_answers(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(messages(data))


def test_a_call_that_was_never_answered_is_not_forgotten(place: Place) -> None:
    connection = Connection(place.target)
    connection.call(WAIT.encode(), framed(b""))
    assert connection.in_flight == 1
    connection.close()
