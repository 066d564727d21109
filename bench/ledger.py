"""What it costs to have every decision on disk before it is answered.

Batches of assertions, each seen once, go through the whole verifier in two threads, as they would for two callers: a
batch waits for its group to be durable while the other one is verified. The same without a ledger, and the pure core
without even an entry, are measured in the same rounds, in turn, so that a machine that slows down slows all; the median
ratio counts. Databases lie beside this file, on a real disk, and PostgreSQL waits for it too.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final, cast

from bench.core import GATEWAY, SERVICE, Stage
from bench.figures import Figure
from bench.members import NOW
from gateway.clock import World
from gateway.config import RelyingService
from gateway.core.credential import PresentationRequest
from gateway.core.pairwise import PairwiseKey
from gateway.core.references import References
from gateway.ledger import Ledger
from gateway.receipts import Receipts
from gateway.resolver import Resolver
from gateway.storage import Committed, LedgerEntry, Outcome
from gateway.storage.opening import open_sqlite
from gateway.storage.postgres_opening import open_postgres
from gateway.storage.stores import Stores
from gateway.tls import Caller
from gateway.verifier import Acceptance, Verifier
from gateway.wire import VerifyRequest
from tests.postgres import Server, find_binaries

ROUNDS: Final = 5
BATCHES: Final = 4
"""Of each thread, in each round."""
BATCH: Final = 100
THREADS: Final = 2
_PLACE: Final = Path(__file__).parent / "out"
_CALLER: Final = Caller(identity=SERVICE, certificate_sha256="c" * 43)
_NOWHERE: Final = Committed(outcome=Outcome.WRITTEN, log_id="", position=0)


def measure(
    say: Callable[[str], None], rounds: int = ROUNDS, batches: int = BATCHES, batch: int = BATCH
) -> list[Figure]:
    """Measure with each store that there is."""
    say("opening ledgers")
    stage, world = Stage(), World(now=lambda: NOW, random_bytes=os.urandom)
    with ExitStack() as opened:
        ledgers = {
            name: opened.enter_context(closing(Ledger(stores.log, world, lambda: None)))
            for name, stores in opened.enter_context(_databases()).items()
        }
        desks: dict[str, Callable[[Sequence[PresentationRequest]], None]] = {
            "core": lambda requests: _judge(stage, requests),
            "none": _Desk(stage, world, None).verify,
            **{name: _Desk(stage, world, ledger).verify for name, ledger in ledgers.items()},
        }
        say(f"{rounds} rounds of {THREADS} x {batches} batches of {batch}: {', '.join(desks)}")
        rates: dict[str, list[float]] = {name: [] for name in desks}
        for _ in range(rounds):
            for name, desk in desks.items():
                work = [[[stage.assertion() for _ in range(batch)] for _ in range(batches)] for _ in range(THREADS)]
                rates[name].append(_rate(desk, work))
    return list(_figures(rates))


def _figures(rates: Mapping[str, Sequence[float]]) -> Iterator[Figure]:
    for name, target in (("sqlite", 0.85), ("postgres", 0.75)):
        if name in rates:
            yield Figure(metric=f"ledger_{name}_per_s", value=statistics.median(rates[name]), unit="1/s")
            for base, wanted in (("none", target), ("core", None)):
                ratio = statistics.median(one / other for one, other in zip(rates[name], rates[base], strict=True))
                yield Figure(metric=f"ledger_{name}_vs_{base}", value=ratio, unit="ratio", target=wanted)


def _judge(stage: Stage, requests: Sequence[PresentationRequest]) -> None:
    for request in requests:
        stage.verify(request)


class _Desk:
    """The whole verifier, batch by batch."""

    def __init__(self, stage: Stage, world: World, ledger: Ledger | None) -> None:
        self._ledger = ledger
        self._batch = threading.local()
        # Only a part of each is needed for a verification, and nothing here is fetched or answered.
        self._verifier = Verifier(
            gateway_id=GATEWAY,
            services={
                SERVICE: RelyingService(
                    identity=SERVICE, name="counter", sector="public", matters=frozenset(stage.matters)
                )
            },
            resolver=cast("Resolver", _Held(stage)),
            is_whole=lambda: True,
            lists=lambda: stage.lists,
            consents=cast("Any", None),
            ledger=cast("Ledger", self),
            receipts=cast("Receipts", None),
            world=world,
            nonce_key=b"n" * 32,
            references=References(b"r" * 32),
            pairwise_key=PairwiseKey(version=1, key=b"p" * 32),
        )

    def record(self, item: LedgerEntry) -> Committed:
        """Take what a batch decided; it is made durable together. Called by the verifier."""
        self._batch.items.append(item)
        return _NOWHERE

    def verify(self, requests: Sequence[PresentationRequest]) -> None:
        """Verify a batch, and wait until it is durable."""
        self._batch.items = []
        for request in requests:
            answer = self._verifier.verify(
                _CALLER,
                VerifyRequest(
                    matter=request.matter.code,
                    presentation=request.presentation,
                    nonce=request.nonce,
                    request_id="bench",
                ),
            )
            assert isinstance(answer.verdict, Acceptance)
        if self._ledger is not None:
            done = self._ledger.record_all(self._batch.items)
            assert all(each.outcome is Outcome.WRITTEN for each in done)


class _Held:
    """A trust view that nobody refreshes."""

    def __init__(self, stage: Stage) -> None:
        self.view = stage.view


def _rate(desk: Callable[[Sequence[PresentationRequest]], None], work: Sequence[Sequence[Any]]) -> float:
    """Have each thread do its batches; gives assertions a second."""
    failures: list[BaseException] = []

    def run(batches: Sequence[Sequence[PresentationRequest]]) -> None:
        try:
            for batch in batches:
                desk(batch)
        except BaseException as error:  # noqa: BLE001 - raised by who waits
            failures.append(error)

    threads = [threading.Thread(target=run, args=(batches,)) for batches in work]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    for failure in failures:
        raise failure
    return sum(len(batch) for batches in work for batch in batches) / took


@contextmanager
def _databases() -> Iterator[Mapping[str, Stores]]:
    """Open a new SQLite file, and a new PostgreSQL database where there is a server."""
    _PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ledger-", dir=_PLACE) as folder, ExitStack() as opened:
        stores = {"sqlite": opened.enter_context(_closing(open_sqlite(Path(folder) / "bench.sqlite")))}
        binaries = find_binaries()
        if binaries is not None:
            server = opened.enter_context(closing(Server(binaries, durable=True)))
            server.initialise()
            server.start()
            url = server.new_database()
            stores["postgres"] = opened.enter_context(_closing(open_postgres(url, Path(folder) / "bench.mark")))
        yield stores


@contextmanager
def _closing(stores: Stores) -> Iterator[Stores]:
    try:
        yield stores
    finally:
        stores.close()
