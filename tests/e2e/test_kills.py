"""A gateway is killed at any moment, under load, and starts again from its files: what it had said still holds.

Nobody looks after it. Whoever was told "accepted" finds that in the log, once; nothing that is good once is accepted
twice, before or after; and the log is one that others have seen grow, and nothing else.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import grpc
import pytest
from recognition.v1 import audit_pb2

from gateway.core.checkpoint import kept_checkpoint
from tests.e2e.crowd import REPLAYED, UNAVAILABLE, Crowd, discrepancies
from tests.e2e.kept import all_entries, audit, kept_log, seen_by_others
from tests.e2e.lab import AH, CALL_SECONDS, SH, RealFederation
from tests.e2e.links import wait_for
from tests.stores import KINDS

KILLS = 5
LONG_KILLS = 200
MOST_ANSWERS = 60
"""Between two kills, at most; at least none."""
POLL_SECONDS = 0.1
STARTING_SECONDS = 1.5
"""About what a gateway takes to start: every fourth kill hits one that does."""


def chance(seed: str, *among: object) -> float:
    """Between 0 and 1; the same in every run, so that a run that fails can be repeated."""
    digest = hashlib.sha256("/".join(map(str, (seed, *among))).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


class Heads:
    """Watches the head of a log as another province does, and keeps all that it was shown."""

    def __init__(self, federation: RealFederation) -> None:
        self._log = federation.audit(AH, caller=SH)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heads", daemon=True)
        self.tokens: list[str] = []

    def __enter__(self) -> list[str]:
        self._thread.start()
        return self.tokens

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                answer = self._log.GetCheckpoint(audit_pb2.GetCheckpointRequest(), timeout=CALL_SECONDS)
            except grpc.RpcError:
                continue
            if answer.checkpoint and self.tokens[-1:] != [answer.checkpoint]:
                self.tokens.append(answer.checkpoint)


def suffer(federation: RealFederation, crowd: Crowd, kills: int) -> None:
    """Kill the gateway so many times; all that anybody does about it is to start the process again."""
    pause = threading.Event()
    for number in range(kills):
        if number % 4 == 3:
            pause.wait(STARTING_SECONDS * chance("starting", number))
        else:
            until = crowd.answers + round(MOST_ANSWERS * chance("answers", number))
            wait_for(
                lambda until=until: crowd.answers >= until,
                what=lambda: f"answers: {crowd.outcomes}, {federation.running}",
            )
            pause.wait(0.02 * chance("moment", number))
        federation.lab.kill(AH)
        federation.spawn(AH)
    until = crowd.answers + MOST_ANSWERS
    wait_for(lambda: crowd.answers >= until, what=lambda: f"answers after the last kill: {crowd.outcomes}")


@pytest.mark.parametrize(
    "kills", [pytest.param(KILLS, id="few"), pytest.param(LONG_KILLS, id="many", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_gateway_had_said_still_holds(
    tmp_path: Path, kills: int, kind: str, request: pytest.FixtureRequest
) -> None:
    databases = {} if kind == "sqlite" else {AH: request.getfixturevalue("postgres").new_database()}
    with RealFederation(tmp_path / "lab", databases=databases) as federation:
        federation.settle()
        with Heads(federation) as heads, Crowd(federation, AH, SH) as crowd:
            suffer(federation, crowd, kills)
            crowd.finish()
    assert set(crowd.outcomes) == {("accepted", ""), REPLAYED, UNAVAILABLE}
    with kept_log(federation.folder, AH) as book:
        (log,) = book.logs()
        assert discrepancies(crowd.shown, all_entries(book, log)) == []
        sizes = [kept_checkpoint(token).size for token in heads]
        assert sizes == sorted(sizes)
        found = audit(book, log, [*heads, *seen_by_others(federation.folder, AH)])
    assert found.is_clean, found.findings
    assert (found.entries, found.covered) == (log.size, log.size)
