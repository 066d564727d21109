"""A gateway is killed between its commit and its answer, and the same is asked again: the decision that stands is told.

In a real process, over a line that carries the question and loses the answer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from recognition.v1 import verification_pb2, verification_pb2_grpc

from gateway.config.reader import load_config
from gateway.core.entries import Kind, read, read_verification
from gateway.lab.callers import connect, read_profile
from gateway.lab.cast import HUKOU
from gateway.lab.charter import HUKOU_MIGRATION
from tests.e2e.kept import all_entries, audit, kept_log, seen_by_others
from tests.e2e.lab import AH, CALL_SECONDS, SH, RealFederation
from tests.e2e.links import Line, State, wait_for
from tests.e2e.load import Authority
from tests.postgres import Server
from tests.stores import KINDS, file_of

ACCEPTED = "SELECT count(*) FROM entries WHERE verdict = 'accepted'"


def counting(federation: RealFederation, database: str, request: pytest.FixtureRequest) -> Callable[[], int]:
    """Give what counts the acceptances that are in the database, past the gateway."""
    if database:
        server: Server = request.getfixturevalue("postgres")
        return lambda: int(str(server.ask(ACCEPTED, database)[0][0]))
    file = file_of(load_config(federation.folder.config(AH)))

    def count() -> int:
        with closing(sqlite3.connect(file)) as db:
            return int(db.execute(ACCEPTED).fetchone()[0])

    return count


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_of_a_killed_gateway_can_be_asked_for_again(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    database = "" if kind == "sqlite" else request.getfixturevalue("postgres").new_database()
    with RealFederation(tmp_path / "lab", databases={AH: database} if database else {}) as federation:
        federation.settle()
        count = counting(federation, database, request)
        profile = read_profile(federation.folder.profile(AH, HUKOU))
        line = Line(int(profile.address.rpartition(":")[2]))
        try:
            with connect(replace(profile, address=f"localhost:{line.port}")) as channel:
                counter = verification_pb2_grpc.VerificationServiceStub(channel)
                challenge = counter.CreateChallenge(
                    verification_pb2.CreateChallengeRequest(matter=HUKOU_MIGRATION), timeout=CALL_SECONDS
                )
                asked = verification_pb2.VerifyCredentialRequest(
                    matter=HUKOU_MIGRATION,
                    presentation=Authority(federation, SH).credential().present(challenge),
                    nonce=challenge.nonce,
                    request_id="case-1",
                    want_receipt=True,
                )
                before = count()
                line.set(State.MUTE)
                lost = counter.VerifyCredential.future(asked, timeout=30)
                wait_for(lambda: count() == before + 1, what="the decision being on record")
                federation.lab.kill(AH)
                line.set(State.REFUSED)
                assert lost.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            line.close()
        federation.start([AH])
        counter = verification_pb2_grpc.VerificationServiceStub(federation.client(AH, HUKOU))
        answers = [counter.VerifyCredential(asked, timeout=CALL_SECONDS) for _ in range(2)]
        assert count() == before + 1
    assert [each.WhichOneof("verdict") for each in answers] == ["accepted", "accepted"]
    with kept_log(federation.folder, AH) as book:
        (log,) = book.logs()
        entries = [read(each.raw) for each in all_entries(book, log)]
        found = audit(book, log, seen_by_others(federation.folder, AH))
    assert found.is_clean, found.findings
    (recorded,) = [read_verification(each) for each in entries if each.kind is Kind.VERIFICATION]
    assert (recorded.verdict, recorded.request_id) == ("accepted", "case-1")
    for each in answers:
        assert (each.verification_id, each.receipt != "") == (recorded.verification_id, True)
        assert each.verify_time.ToMilliseconds() == round(recorded.decided_at.timestamp() * 1000)
