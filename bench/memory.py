"""What a gateway's process holds: for each connection that is open, and after half an hour of work.

Connections are opened, used once, and kept. The half hour is a steady load of single calls and of batches, at about
half of what the core can do; a look at the process every few seconds. Growth after the first minutes is a leak.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from bench.credentials import BATCH, VERIFY, accepted_batches, accepted_singles, batches, check, require, singles
from bench.figures import Figure, served
from bench.http2 import STATUS_OK
from bench.load import Flow, connected, pinned, run
from bench.rig import UNARY_CONNECTIONS, Rig
from bench.servers import SQLITE, Process

CONNECTIONS: Final = 1_000
QUICK_CONNECTIONS: Final = 200
CALLS_PER_SECOND: Final = 300.0
"""While connections are counted: one each, and never many at a time."""
SOAK_SECONDS: Final = 1_800.0
SETTLED: Final = 0.1
"""The part of the time after which memory is first looked at: 3 of 30 minutes."""
SEGMENT_SECONDS: Final = 10.0
"""What is presented in one is signed just before."""
LOOKS: Final = 3
"""Segments whose median counts."""
BATCH_SIZE: Final = 100
CREDENTIALS: Final = 2_000
"""People who come again and again in batches, each time with a new proof."""
_MEGABYTE: Final = 1_000_000


def connections(rig: Rig, count: int = QUICK_CONNECTIONS) -> list[Figure]:
    """Measure what open connections cost, and give it for a thousand."""
    process, counter = rig.gateway(SQLITE), rig.federation.court(SQLITE)
    rig.say(f"opening {count:,} connections")
    rig.unary(SQLITE, 100)
    before = process.resident_bytes()
    requests = singles(rig.mint.assertions(counter, count))
    with connected(counter.target, count) as opened, pinned({rig.cores.generator}):
        flow = Flow(VERIFY, requests, opened, rate=CALLS_PER_SECOND)
        run(flow)
        grown = process.resident_bytes() - before
    require(accepted_singles(flow), count)
    per_1000 = max(0, grown) / count * 1_000 / _MEGABYTE
    return [served("memory_mb_per_1000_connections", per_1000, "MB")]


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a process."""

    seconds: float
    """Since the soak began."""
    megabytes: float


def soak(
    rig: Rig,
    seconds: float = SOAK_SECONDS,
    segment_seconds: float = SEGMENT_SECONDS,
    people: int = CREDENTIALS,
) -> tuple[list[Figure], Sequence[Look]]:
    """Keep a gateway at work, and see whether it grows; gives all that was seen as well."""
    process = rig.gateway(SQLITE)
    held = rig.mint.credentials(people)
    singly = rig.unary(SQLITE, people // 2).per_s / 4
    together = rig.batched(SQLITE, BATCH_SIZE, people, held).per_s / 4
    began, looks, place, verified = time.monotonic(), [], 0, 0
    while (passed := time.monotonic() - began) < seconds:
        count = min(len(held), max(1, round(together * segment_seconds / BATCH_SIZE)) * BATCH_SIZE)
        some = [held[(place + number) % len(held)] for number in range(count)]
        place += count
        verified += _segment(rig, singly, segment_seconds, rig.mint.presented(rig.federation.household(SQLITE), some))
        looks.append(_look(process, time.monotonic() - began))
        rig.say(f"soak: {passed:,.0f} of {seconds:,.0f} s, {verified:,} verified, {looks[-1].megabytes:,.1f} MB")
    settled = [look.megabytes for look in looks if look.seconds >= seconds * SETTLED][:LOOKS]
    early, late = statistics.median(settled), statistics.median([look.megabytes for look in looks[-LOOKS:]])
    return [
        served("soak_memory_ratio", late / early, "ratio"),
        served("soak_memory_mb_settled", early, "MB"),
        served("soak_memory_mb_end", late, "MB"),
        served("soak_verified", verified, "verdicts"),
    ], looks


def _segment(rig: Rig, rate: float, seconds: float, presented: Sequence[bytes]) -> int:
    court, household = rig.federation.court(SQLITE), rig.federation.household(SQLITE)
    requests = singles(rig.mint.assertions(court, max(1, int(rate * seconds))))
    many = batches(presented, BATCH_SIZE)
    with ExitStack() as opened:
        flow = Flow(VERIFY, requests, opened.enter_context(connected(court.target, UNARY_CONNECTIONS)), rate=rate)
        others = opened.enter_context(connected(household.target, 1))
        together = Flow(BATCH, many, others, in_flight=1)
        opened.enter_context(pinned({rig.cores.generator}))
        run(flow, together)
    # Of single calls, some may be turned away when the machine has other things to do for a moment.
    singly = accepted_singles(flow)
    require(singly, flow.statuses[STATUS_OK])
    check(together)
    require(accepted_batches(together), len(presented))
    return singly + len(presented)


def _look(process: Process, seconds: float) -> Look:
    return Look(seconds=seconds, megabytes=process.resident_bytes() / _MEGABYTE)
