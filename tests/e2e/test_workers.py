"""One province served by several processes: as one to whoever calls, whichever process answers and whatever dies."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from recognition.v1 import issuance_pb2, issuance_pb2_grpc, verification_pb2, verification_pb2_grpc

from gateway.lab.callers import Wallet, refused
from gateway.lab.cast import HUKOU, IDENTITY
from gateway.lab.charter import HUKOU_MIGRATION, LICENCE_DISPLAY, entity_ids
from gateway.lab.federation import is_serving
from tests.e2e.compromise import KEY_REVOKED
from tests.e2e.crowd import REPLAYED, UNAVAILABLE, Crowd, discrepancies
from tests.e2e.group import Grouped, gone, is_running
from tests.e2e.kept import all_entries, audit, kept_log, seen_by_others
from tests.e2e.lab import AH, CALL_SECONDS, SH, header_of
from tests.e2e.links import wait_for
from tests.e2e.load import Authority, verdict_of
from tests.e2e.rotation import Administrator
from tests.postgres import Server
from tests.stores import KINDS

PRESENTATIONS = 20
FOLLOWED_SECONDS = 1.0
"""From what the front has made durable until every process enforces it."""

sizes = pytest.mark.parametrize(
    "workers", [pytest.param(2, id="two"), pytest.param(4, id="four", marks=pytest.mark.long)]
)
kinds = pytest.mark.parametrize("kind", KINDS)
mostly_sqlite = pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.long)])


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Grouped]:
    def make(kind: str, workers: int, connection_age: float = 600) -> Grouped:
        databases = {} if kind == "sqlite" else {AH: request.getfixturevalue("postgres").new_database()}
        return Grouped(tmp_path / "lab", AH, workers, connection_age=connection_age, databases=databases)

    return make


class Desk:
    """The counter of one process."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = verification_pb2_grpc.VerificationServiceStub(channel)

    def challenge(self, matter: str = HUKOU_MIGRATION) -> verification_pb2.CreateChallengeResponse:
        return self._stub.CreateChallenge(verification_pb2.CreateChallengeRequest(matter=matter), timeout=CALL_SECONDS)

    def verify(self, matter: str, presentation: str, nonce: str) -> tuple[str, str]:
        verdict, reason, _ = verdict_of(
            self._stub.VerifyCredential(
                verification_pb2.VerifyCredentialRequest(matter=matter, presentation=presentation, nonce=nonce),
                timeout=CALL_SECONDS,
            )
        )
        return verdict, reason

    def show(self, wallet: Wallet) -> tuple[str, str]:
        challenge = self.challenge()
        return self.verify(HUKOU_MIGRATION, wallet.present(challenge), challenge.nonce)

    def show_licence(self, credential: str) -> tuple[str, str]:
        return self.verify(LICENCE_DISPLAY, credential, self.challenge(LICENCE_DISPLAY).nonce)


def desks(federation: Grouped) -> Mapping[int, Desk]:
    return {number: Desk(channel) for number, channel in federation.channels(HUKOU).items()}


def seconds_until(
    desks: Mapping[int, Desk], ask: Callable[[Desk], tuple[str, str]], wanted: tuple[str, str]
) -> Mapping[int, float]:
    """How long, from now on, until each process gives an answer."""
    began = time.monotonic()
    took: dict[int, float] = {}

    def watch(number: int) -> None:
        while ask(desks[number]) != wanted:
            assert time.monotonic() - began < 30, f"process {number} does not come to {wanted}"
        took[number] = time.monotonic() - began

    with ThreadPoolExecutor(len(desks)) as pool:
        list(pool.map(watch, desks))
    return took


@sizes
@kinds
def test_whichever_process_answers_the_province_is_one(start: Callable[..., Grouped], kind: str, workers: int) -> None:
    with start(kind, workers) as federation:
        federation.settle()
        at = desks(federation)
        authority = Authority(federation, SH)
        wallet = authority.credential()
        # What is good once is good once, wherever and however often it is shown at one time.
        with ThreadPoolExecutor(2 * workers) as pool:
            for number in range(PRESENTATIONS):
                challenge = at[number % workers].challenge()
                presentation = wallet.present(challenge)
                shown = pool.map(
                    lambda desk, p=presentation, c=challenge: desk.verify(HUKOU_MIGRATION, p, c.nonce),
                    [*at.values()] * 2,
                )
                assert Counter(shown) == {("accepted", ""): 1, REPLAYED: 2 * workers - 1}
        # Issued through any process, and refused as by the front itself.
        for channel in federation.channels(IDENTITY).values():
            issued = Authority(federation, AH, channel).credential()
            assert at[0].show(issued) == ("accepted", "")
            with pytest.raises(grpc.RpcError) as caught:
                issuance_pb2_grpc.IssuanceServiceStub(channel).IssueCredential(
                    issuance_pb2.IssueCredentialRequest(), timeout=CALL_SECONDS
                )
            assert refused(caught.value).reason == "INVALID_REQUEST"
        for channel in federation.channels(HUKOU).values():
            with pytest.raises(grpc.RpcError) as caught:
                issuance_pb2_grpc.IssuanceServiceStub(channel).ListStatusLists(
                    issuance_pb2.ListStatusListsRequest(), timeout=CALL_SECONDS
                )
            assert refused(caught.value).verdict == "not_permitted"
        # A key is revoked in another province; a credential is, here.
        mine = Authority(federation, AH).credential()
        channel = federation.channels(IDENTITY)[workers - 1]
        issuance_pb2_grpc.IssuanceServiceStub(channel).SetCredentialStatus(
            issuance_pb2.SetCredentialStatusRequest(
                targets=[issuance_pb2.CredentialTarget(credential_id=mine.credential_id)],
                status=issuance_pb2.CREDENTIAL_STATUS_REVOKED,
            ),
            timeout=CALL_SECONDS,
        )
        took = seconds_until(at, lambda desk: desk.show(mine), ("rejected", "CREDENTIAL_REVOKED"))
        assert max(took.values()) < FOLLOWED_SECONDS, took
        credential = wallet.credential
        kid = header_of(credential.partition("~")[0])["kid"]
        Administrator(federation, SH).revoke(kid, "compromise", since=federation.now)
        took = seconds_until(at, lambda desk: desk.show_licence(credential), ("rejected", KEY_REVOKED))
        # From another province's word on, that word's way to the front among it.
        assert max(took.values()) < 2 * FOLLOWED_SECONDS, took


@sizes
@mostly_sqlite
def test_what_was_said_holds_whichever_process_is_killed(
    start: Callable[..., Grouped], kind: str, workers: int
) -> None:
    kills = 2 if workers == 2 else 40
    with start(kind, workers, connection_age=2) as federation:
        federation.settle()
        with Crowd(federation, AH, SH) as crowd:
            for number in range(kills):
                await_answers(crowd)
                served, killed = federation.serving(), federation.pids[(number + 1) % workers]
                os.kill(killed, signal.SIGKILL)
                wait_for(lambda served=served: federation.serving() > served, what="another in its place")
                assert not is_running(killed)
            await_answers(crowd)
            crowd.finish()
        assert set(crowd.outcomes) <= {("accepted", ""), REPLAYED, UNAVAILABLE}
        with kept_log(federation.folder, AH) as book:
            (log,) = book.logs()
            assert discrepancies(crowd.shown, all_entries(book, log)) == []
            found = audit(book, log, seen_by_others(federation.folder, AH))
        assert found.is_clean, found.findings


@sizes
@mostly_sqlite
def test_the_configuration_is_read_again_without_losing_a_call(
    start: Callable[..., Grouped], kind: str, workers: int
) -> None:
    with start(kind, workers, connection_age=1) as federation:
        federation.settle()
        file = federation.folder.config(AH)
        before, text = federation.pids, file.read_text("utf-8")
        # Its own people: what only the front can do is among the calls.
        with Crowd(federation, AH, AH) as crowd:
            await_answers(crowd)
            for seconds in range(7, 8 if workers == 2 else 12):
                changed = re.sub(r"^interval_seconds = .*$", f"interval_seconds = {seconds}", text, flags=re.MULTILINE)
                file.write_text(changed, "utf-8")
                reloaded = len(federation.events("configuration_reloaded"))
                os.kill(federation.supervisor, signal.SIGHUP)
                wait_for(
                    lambda reloaded=reloaded: len(federation.events("configuration_reloaded")) > reloaded,
                    what="all to be replaced",
                )
            await_answers(crowd)
            crowd.finish()
        gone(*before.values())
        assert set(crowd.outcomes) == {("accepted", ""), REPLAYED}
        assert crowd.unmade == 0
        # One that cannot be meant changes nothing.
        after = federation.pids
        file.write_text("nothing = true", "utf-8")
        os.kill(federation.supervisor, signal.SIGHUP)
        wait_for(lambda: federation.events("reload_refused"), what="a refusal")
        # Nor does one with which no process comes up.
        file.write_text(re.sub(r'^sha256 = ".*"', f'sha256 = "{"A" * 43}"', text, count=1, flags=re.MULTILINE), "utf-8")
        os.kill(federation.supervisor, signal.SIGHUP)
        wait_for(lambda: federation.events("reload_taken_back"), what="it to be taken back")
        assert is_serving(federation.client(AH, HUKOU), entity_ids(AH).issuer)
        assert is_running(after[0])


def test_a_database_that_is_restarted_needs_nobody(
    start: Callable[..., Grouped], request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue("postgres")
    with start("postgres", 2) as federation:
        federation.settle()
        with Crowd(federation, AH, SH) as crowd:
            await_answers(crowd)
            served = federation.serving()
            server.stop("immediate")
            server.start()
            wait_for(lambda: federation.serving() >= served + 2, what="both to begin anew")
            await_answers(crowd)
            crowd.finish()
        assert set(crowd.outcomes) <= {("accepted", ""), REPLAYED, UNAVAILABLE}
        with kept_log(federation.folder, AH) as book:
            (log,) = book.logs()
            assert discrepancies(crowd.shown, all_entries(book, log)) == []
        assert federation.events("process_died") == []


def await_answers(crowd: Crowd, count: int = 60) -> None:
    until = crowd.answers + count
    wait_for(lambda: crowd.answers >= until, what=lambda: f"answers: {crowd.outcomes}")
