"""AuditService, asked for what there cannot be: a clear error whatever the numbers and tokens, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import grpc
import pytest
from recognition.v1 import audit_pb2

from gateway.core.encoding import b64url_encode
from gateway.core.reasons import InvalidRequest, NotHeld
from gateway.server import audit
from gateway.server.audit import AuditServicer, Entitled
from gateway.tls import Caller, CallerReader
from tests.federation import AH, SH, Federation

NUMBERS = (0, 1, -1, 2**40, 2**62, 2**63 - 1)
POSITIONS = ("9" * 200, "-" + "9" * 100, str(2**63 - 1), "1_0", " 1", "", "1 1")


@pytest.fixture
def federation(restarted: Federation) -> Federation:
    restarted.publish()
    return restarted


@dataclass
class Served:
    """The service, asked by somebody who may ask everything, without a network."""

    servicer: AuditServicer
    log: str

    def ask(self, name: str, request: Any) -> Any:
        return getattr(self.servicer, name)(request, cast(grpc.ServicerContext, None))


@pytest.fixture
def served(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> Served:
    federation.verify(*federation.present(federation.issue()))
    federation.witness()
    caller = Caller(identity=federation[SH].ids.gateway, certificate_sha256="A" * 43)
    monkeypatch.setattr(audit, "caller_of", lambda *_: caller)
    entitled = Entitled(
        auditors={caller.identity}, dispute_officers={caller.identity}, gateways=lambda: {caller.identity}
    )
    servicer = AuditServicer(federation[AH].records, entitled, CallerReader({}), federation.world)
    return Served(servicer, federation[AH].log.logs()[0].log_id)


def requests(log: str) -> Iterator[tuple[str, Any]]:
    for named, position in product((log, "another", ""), POSITIONS):
        token = b64url_encode(f"{named} {position}".encode("ascii"))
        yield "ListEntries", audit_pb2.ListEntriesRequest(page_token=token)
        yield "ListDisputes", audit_pb2.ListDisputesRequest(page_token=token)
        wanted = audit_pb2.RangeOfEntries(log=named, begin=0, end=5)
        yield "ListEntries", audit_pb2.ListEntriesRequest(page_token=token, range=wanted)
    for named, low, high in product((log, "another", ""), NUMBERS, NUMBERS):
        wanted = audit_pb2.RangeOfEntries(log=named, begin=low, end=high)
        yield "ListEntries", audit_pb2.ListEntriesRequest(range=wanted)
        yield "GetInclusionProof", audit_pb2.GetInclusionProofRequest(log=named, position=low, size=high)
        yield "GetConsistencyProof", audit_pb2.GetConsistencyProofRequest(log=named, old_size=low, new_size=high)
        yield "GetCheckpoint", audit_pb2.GetCheckpointRequest(log=named, at_least=low, seen_log=named, seen_size=high)


def test_whatever_is_asked_for_the_error_says_what_is_wrong_with_it(served: Served) -> None:
    for name, request in requests(served.log):
        try:
            served.ask(name, request)
        except (InvalidRequest, NotHeld):
            continue


@pytest.mark.parametrize("position", POSITIONS)
def test_a_page_token_is_one_from_an_answer(served: Served, position: str) -> None:
    token = b64url_encode(f"{served.log} {position}".encode("ascii"))
    with pytest.raises(InvalidRequest):
        served.ask("ListEntries", audit_pb2.ListEntriesRequest(page_token=token))


def test_pages_go_on_where_the_last_one_ended(served: Served) -> None:
    whole = served.ask("ListEntries", audit_pb2.ListEntriesRequest()).entries
    request, found = audit_pb2.ListEntriesRequest(page_size=3), list[Any]()
    while True:
        answer = served.ask("ListEntries", request)
        found += answer.entries
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert found == list(whole)
