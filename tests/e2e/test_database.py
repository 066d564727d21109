"""Gateways on a PostgreSQL database: one that loses its server again and again, and two that share one.

Nobody looks after them. Whatever happens to the server, a call ends with a verdict that is on record, or with
UNAVAILABLE; and what is good once is good once, whichever process it is shown to.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import grpc
import pytest
from recognition.v1 import audit_pb2

from gateway.config import Config
from gateway.config.reader import load_config
from gateway.config.writer import render_config
from gateway.lab.callers import connect, read_profile
from gateway.lab.cast import HUKOU
from gateway.lab.charter import HUKOU_MIGRATION
from gateway.lab.federation import is_serving
from tests.e2e.crowd import ACCEPTED, REPLAYED, UNAVAILABLE, Counters, Crowd, Shown, discrepancies
from tests.e2e.kept import all_entries, audit, kept_log, seen_by_others
from tests.e2e.lab import AH, CALL_SECONDS, SH, RealFederation
from tests.e2e.links import wait_for
from tests.e2e.load import Authority
from tests.postgres import Server

SOME = 30
"""Calls that are answered, or not, before the next thing happens."""
VERIFICATION = "recognition.v1.VerificationService"
TIMES = 10
"""How often each presentation is shown."""
AT_ONCE = 8
"""Presentations that are shown at one time: eighty calls, forty for each of two processes."""
STOP_SECONDS = 15.0


def settled(federation: RealFederation, shown: Sequence[Shown]) -> None:
    """Hold a federation that has ended against what its callers were told."""
    with kept_log(federation.folder, AH) as book:
        (log,) = book.logs()
        assert discrepancies(shown, all_entries(book, log)) == []
        found = audit(book, log, seen_by_others(federation.folder, AH))
    assert found.is_clean, found.findings
    assert (found.entries, found.covered) == (log.size, log.size)


def is_signed(federation: RealFederation, size: object) -> bool:
    """Whether another province is shown a head over so many entries."""
    request = audit_pb2.GetCheckpointRequest(at_least=cast("int", size))
    try:
        return bool(federation.audit(AH, caller=SH).GetCheckpoint(request, timeout=CALL_SECONDS).checkpoint)
    except grpc.RpcError:
        return False


@pytest.mark.parametrize("times", [pytest.param(1, id="once"), pytest.param(20, id="often", marks=pytest.mark.long)])
def test_a_gateway_whose_server_comes_and_goes_loses_nothing(tmp_path: Path, postgres: Server, times: int) -> None:
    url = postgres.new_database()
    with RealFederation(tmp_path / "lab", databases={AH: url}) as federation:
        federation.settle()
        channel = federation.client(AH, HUKOU)
        with Crowd(federation, AH, SH) as crowd:

            def some(count: int = SOME) -> None:
                until = crowd.answers + count
                wait_for(lambda: crowd.answers >= until, what=lambda: f"answers: {crowd.outcomes}")

            some()
            process = federation.lab.pids[AH]
            for _ in range(times):
                refused = crowd.outcomes[UNAVAILABLE]
                postgres.stop("immediate")
                try:
                    wait_for(lambda r=refused: crowd.outcomes[UNAVAILABLE] > r + 3, what="calls that are refused")
                    wait_for(lambda: not is_serving(channel, VERIFICATION), what="health saying so")
                finally:
                    postgres.start()
                some()
                wait_for(lambda: is_serving(channel, VERIFICATION), what="health saying that all is well")
                assert postgres.cut(url) > 0
                some()
            crowd.finish()
            # Between a cut and the moment when it leads again it signs nothing; if it ended then, the next would.
            ((size,),) = postgres.ask("SELECT size FROM logs", url)
            wait_for(lambda: is_signed(federation, size), what=f"a head over {size} entries")
        assert federation.lab.pids[AH] == process, "it was not the same process that went on"
    assert set(crowd.outcomes) == {(ACCEPTED, ""), REPLAYED, UNAVAILABLE}
    settled(federation, crowd.shown)


@pytest.mark.parametrize("count", [100, pytest.param(1_000, marks=pytest.mark.long)])
def test_what_is_good_once_is_good_once_over_two_processes(tmp_path: Path, postgres: Server, count: int) -> None:
    with RealFederation(tmp_path / "lab", databases={AH: postgres.new_database()}) as federation:
        federation.settle()
        with second_process(federation) as other:
            counters = Counters({HUKOU: [federation.client(AH, HUKOU), other]})
            authority = Authority(federation, SH)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                shown = list(pool.map(lambda number: answered(counters, authority, number), range(count)))
                told = list(pool.map(lambda each: counters.show(each, TIMES), shown))
    outcomes = [sorted(each.outcome for each in those) for those in told]
    assert outcomes == [[(ACCEPTED, ""), *[REPLAYED] * (TIMES - 1)]] * count
    settled(federation, shown)


def answered(counters: Counters, authority: Authority, number: int) -> Shown:
    """Have a credential issued, and answer a challenge of either process with it."""
    wallet = authority.credential()
    challenge = counters.challenge(HUKOU, HUKOU_MIGRATION, process=number)
    return Shown(
        number=number,
        counter=HUKOU,
        matter=HUKOU_MIGRATION,
        presentation=wallet.present(challenge),
        nonce=challenge.nonce,
    )


@contextmanager
def second_process(federation: RealFederation) -> Iterator[grpc.Channel]:
    """Start another gateway process of Anhui on the same database; gives a counter's channel to it."""
    first = load_config(federation.folder.config(AH))
    config = _elsewhere(first)
    config.file.write_text(render_config(config), "utf-8")
    command = [sys.executable, "-m", "gateway", "serve", "--exit-with-parent", "--config", str(config.file)]
    profile = replace(read_profile(federation.folder.profile(AH, HUKOU)), address=config.listeners.verification.address)
    with ExitStack() as opened:
        log = opened.enter_context(config.file.with_suffix(".log").open("wb"))
        process = subprocess.Popen(
            [*command, "--lab-clock", str(federation.folder.clock)], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
        opened.callback(_end, process)
        channel = connect(profile)
        opened.callback(channel.close)
        wait_for(lambda: is_serving(channel, VERIFICATION), what="the second process")
        yield channel


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


def _elsewhere(config: Config) -> Config:
    """The same configuration, in a file of its own and with other ports."""
    listeners = config.listeners
    with ExitStack() as bound:
        sockets = [bound.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        verification, federation, admin = (f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    return replace(
        config,
        file=config.file.with_name("second.toml"),
        listeners=replace(
            listeners,
            verification=replace(listeners.verification, address=verification),
            federation=replace(listeners.federation, address=federation),
            admin=replace(listeners.admin, address=admin),
        ),
    )
