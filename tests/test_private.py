"""The private way from a worker to its front: calls come through whole, and the front judges who makes them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from recognition.v1 import issuance_pb2, issuance_pb2_grpc

from gateway.core.reasons import Indeterminate, Reason
from gateway.resolver import Refreshed
from gateway.server.issuance import IssuanceServicer
from gateway.server.listener import AUDIT_SERVICE, ISSUANCE_SERVICE, MAX_REQUEST_BYTES
from gateway.server.private import LINK, Front, FrontListener
from gateway.tls import CallerReader, create_ca
from tests.federation import AH, Federation
from tests.test_server import SYSTEM, WORLD, Edge, client_certificate, failure, info, opened

LIST = f"/{ISSUANCE_SERVICE}/ListStatusLists"
SECONDS = 20


@pytest.fixture
def federation(restarted: Federation) -> Federation:
    restarted.publish()
    return restarted


@dataclass
class Fixed:
    """What the front says when it is asked for itself."""

    refreshes: list[Refreshed | Indeterminate] = field(default_factory=list)

    def refresh(self) -> Refreshed:
        answer = self.refreshes.pop(0)
        if isinstance(answer, Indeterminate):
            raise answer
        return answer


@contextmanager
def listening(folder: Path, edge: Edge, fixed: Fixed | None = None) -> Iterator[None]:
    """The front of the edge's province, in a folder."""
    node = edge.federation[AH]
    callers = CallerReader({edge.ca[0]: (node.ids.gateway, node.ids.issuer)})
    front = FrontListener(
        folder,
        callers=callers,
        world=WORLD,
        max_concurrent_calls=16,
        max_request_bytes=MAX_REQUEST_BYTES,
        refresh=(fixed or Fixed()).refresh,
        health=lambda: {ISSUANCE_SERVICE: True, AUDIT_SERVICE: False},
    )
    front.add_issuance(IssuanceServicer(node.issuer, lambda: node.register, [SYSTEM], callers, WORLD))
    front.start()
    try:
        yield
    finally:
        front.stop(0)()


@pytest.fixture
def edge(federation: Federation) -> Iterator[Edge]:
    with opened(federation, issues=False) as made:
        yield made


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(tmp_path, services=[ISSUANCE_SERVICE, AUDIT_SERVICE], but=[], most=2)
    yield made
    made.close()


def list_lists(channel: grpc.Channel) -> issuance_pb2.ListStatusListsResponse:
    stub = issuance_pb2_grpc.IssuanceServiceStub(channel)
    return stub.ListStatusLists(issuance_pb2.ListStatusListsRequest(), timeout=SECONDS)


def test_a_call_to_a_worker_is_answered_by_the_front(tmp_path: Path, edge: Edge, front: Front) -> None:
    edge.listener.add_front(front)
    with listening(tmp_path, edge), edge.channel(SYSTEM) as channel:
        assert list_lists(channel).lists
        stub = issuance_pb2_grpc.IssuanceServiceStub(channel)
        code, details = failure(lambda: stub.IssueCredential(issuance_pb2.IssueCredentialRequest(), timeout=SECONDS))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert info(details).reason == "INVALID_REQUEST"
        assert len(details) == 2  # which field, too


def test_the_front_judges_who_calls(tmp_path: Path, edge: Edge, front: Front) -> None:
    edge.listener.add_front(front)
    with listening(tmp_path, edge), edge.service() as channel:
        code, details = failure(lambda: list_lists(channel))
        assert (code, info(details).reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")


def test_calls_wait_for_the_next_front(tmp_path: Path, edge: Edge, front: Front) -> None:
    edge.listener.add_front(front)
    with edge.channel(SYSTEM) as channel, ThreadPoolExecutor(1) as pool:
        with listening(tmp_path, edge):
            list_lists(channel)
        waiting = pool.submit(list_lists, channel)
        with listening(tmp_path, edge):
            assert waiting.result().lists


def test_few_calls_wait_at_a_time(tmp_path: Path, edge: Edge, front: Front) -> None:
    edge.listener.add_front(front)
    with edge.channel(SYSTEM) as channel:
        stub = issuance_pb2_grpc.IssuanceServiceStub(channel)
        waiting = [
            stub.ListStatusLists.future(issuance_pb2.ListStatusListsRequest(), timeout=SECONDS) for _ in range(3)
        ]
        with pytest.raises(grpc.RpcError) as caught:
            _first_failed(waiting)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with listening(tmp_path, edge):
            answered = [each for each in waiting if each.exception() is None]
        assert len(answered) == 2


def _first_failed(calls: list[Any]) -> None:
    for each in _as_they_end(calls):
        each.result()


def _as_they_end(calls: list[Any]) -> Iterator[Any]:
    ended: SimpleQueue[Any] = SimpleQueue()
    for each in calls:
        each.add_done_callback(ended.put)
    for _ in calls:
        yield ended.get(timeout=SECONDS)


def test_without_a_certificate_nobody_is_believed(tmp_path: Path, edge: Edge) -> None:
    own, _ = client_certificate(edge.ca, SYSTEM)
    foreign, _ = client_certificate(create_ca("Another CA", WORLD.now()), SYSTEM)
    with listening(tmp_path, edge), _channel(tmp_path) as channel:
        ask: Any = channel.unary_unary(LIST)
        good = (("caller-certificate-bin", own),)
        assert ask(b"", metadata=good, timeout=SECONDS) is not None
        for given in ((), (*good, *good), (("caller-certificate-bin", foreign),)):
            code, _ = failure(partial(ask, b"", metadata=given, timeout=SECONDS))
            assert code is grpc.StatusCode.PERMISSION_DENIED


def test_a_certificate_in_the_metadata_means_nothing_to_who_listens_on_a_port(edge: Edge) -> None:
    node = edge.federation[AH]
    own, _ = client_certificate(edge.ca, SYSTEM)
    edge.listener.add_issuance(
        IssuanceServicer(
            node.issuer, lambda: node.register, [SYSTEM], CallerReader({edge.ca[0]: (node.ids.issuer,)}), WORLD
        )
    )
    with edge.service() as channel:
        ask: Any = channel.unary_unary(LIST)
        code, _ = failure(partial(ask, b"", metadata=(("caller-certificate-bin", own),), timeout=SECONDS))
        assert code is grpc.StatusCode.PERMISSION_DENIED


def test_the_front_tells_what_it_serves_and_refreshes(tmp_path: Path, edge: Edge, front: Front) -> None:
    unable = Indeterminate(Reason.TRUST_STALE, "too many wait")
    assert front.health() == {}
    with pytest.raises(Indeterminate):
        front.refresh()
    with listening(tmp_path, edge, Fixed([Refreshed(True, ""), Refreshed(False, "view"), unable])):
        grpc.channel_ready_future(front._channel).result(timeout=SECONDS)
        assert front.health() == {ISSUANCE_SERVICE: True, AUDIT_SERVICE: False}
        assert front.refresh() == Refreshed(True, "")
        assert front.refresh() == Refreshed(False, "view")
        with pytest.raises(Indeterminate):
            front.refresh()


def _channel(folder: Path) -> grpc.Channel:
    return grpc.secure_channel(f"unix:{folder / LINK}", grpc.local_channel_credentials(grpc.LocalConnectionType.UDS))
