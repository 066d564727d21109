"""What a second process adds: one worker and two, on two cores, one after the other.

The load generator shares the two cores with them, because there are no others: its share of one core, stated beside the
figure, is what two workers cannot have. It sends batches, which cost it least.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from typing import Final

from bench.credentials import BATCH, accepted_batches, batches, check, require
from bench.figures import Figure, served
from bench.load import Cost, Flow, connected, median_ratio, pinned, run
from bench.rig import Rig
from bench.servers import SQLITE

ROUNDS: Final = 3
SECONDS: Final = 2.0
BATCH_SIZE: Final = 100
FIRST: Final = 800
CONNECTIONS: Final = 4
"""Of each of two callers, with one batch under way on each: no more are taken of one. The kernel deals connections out
to workers by chance; of eight, each gets some."""


def measure(rig: Rig, rounds: int = ROUNDS, seconds: float = SECONDS, first: int = FIRST) -> list[Figure]:
    """Measure one worker and two in turn; the rig's own gateway of that province must not run."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    shares: list[float] = []
    for number in range(rounds):
        for workers, taken in rates.items():
            cost, count = _load(rig, workers, seconds, first)
            taken.append(count / cost.seconds)
            shares.append(cost.generator_share)
            rig.say(f"round {number + 1} of {rounds}: {workers} workers {taken[-1]:,.0f}/s")
    share = statistics.median(shares)
    return [
        *(
            served(f"workers{workers}_per_s", statistics.median(taken), "1/s", share)
            for workers, taken in rates.items()
        ),
        served("workers2_vs_1", median_ratio(rates[2], rates[1]), "ratio", share),
    ]


def _load(rig: Rig, workers: int, seconds: float, first: int) -> tuple[Cost, int]:
    """Give what a load cost, and how many credentials it was; one before it says how many are to be made."""
    with rig.federation.gateway(SQLITE, on=rig.cores.both, options=("--workers", str(workers))):
        cost = _batches(rig, first)
        count = max(first, int(first / cost.seconds * seconds))
        return _batches(rig, count), count


def _batches(rig: Rig, count: int) -> Cost:
    counters = (rig.federation.court(SQLITE), rig.federation.licences(SQLITE))
    made = [batches(rig.mint.assertions(counter, count // 2), BATCH_SIZE) for counter in counters]
    with ExitStack() as opened:
        flows = [
            Flow(BATCH, many, opened.enter_context(connected(counter.target, CONNECTIONS)), in_flight=1)
            for counter, many in zip(counters, made, strict=True)
        ]
        opened.enter_context(pinned(rig.cores.both))
        cost = run(*flows)
    for flow in flows:
        check(flow)
        require(accepted_batches(flow), count // 2)
    return cost
