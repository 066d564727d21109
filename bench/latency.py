"""How long a call takes at a fixed rate, and what is left when far more come than can be served.

All of it in open loops: calls begin when they are due, whether or not those before have ended, and their time counts
from then. Rates are parts of the capacity that was found just before, in a closed loop. Beside the calls at half of it,
another caller sends one batch of a thousand after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from bench.credentials import BATCH, VERIFY, accepted_batches, accepted_singles, batches, require, singles
from bench.figures import Figure, served
from bench.http2 import STATUS_OK
from bench.load import Cost, Flow, LoadError, connected, pinned, run
from bench.rig import UNARY_CONNECTIONS, Rig
from bench.servers import SQLITE

SECONDS: Final = 4.0
CAPACITY_SECONDS: Final = 1.0
FIRST: Final = 300
PERCENTS: Final = (25, 50, 75, 90)
"""Of capacity."""
BATCH_SIZE: Final = 1_000
OVERLOAD: Final = 3
OVERLOAD_CONNECTIONS: Final = 8
OVERLOAD_DEADLINE_SECONDS: Final = 2
"""Of a call: nobody stands at a counter for longer."""
_SPARE: Final = 1.5
"""How many more batches are made than are thought to be needed."""


def measure(rig: Rig, percents: Sequence[int] = (50,), seconds: float = SECONDS, first: int = FIRST) -> list[Figure]:
    """Measure latency at these parts of capacity, at half of it beside batches, and the goodput under overload.

    Args:
        rig: what it needs.
        percents: of capacity.
        seconds: of each load.
        first: calls by which the capacity is found roughly.
    """
    capacity = _capacity(rig, first, seconds)
    figures = [served("unary_capacity_per_s", capacity, "1/s")]
    for percent in percents:
        rig.say(f"{percent} % of {capacity:,.0f} calls a second")
        flow, cost = _paced(rig, capacity * percent / 100, seconds)
        figures += _answered(flow, cost, f"{percent}_percent")
    rig.say(f"half of {capacity:,.0f} calls a second, and batches of {BATCH_SIZE:,} beside them")
    flow, beside, cost = _beside_batches(rig, capacity / 2, seconds, first)
    figures += _answered(flow, cost, "half_load")
    figures.append(served("batch1000_beside_half_load_per_s", beside, "1/s", cost.generator_share))
    return [*figures, *_overload(rig, seconds, first)]


def _answered(flow: Flow, cost: Cost, load: str) -> Iterator[Figure]:
    """Give percentiles of the calls that were answered, and how many were not: those would be the slowest."""
    share = cost.generator_share
    for percent in (50, 99, 99.9):
        name = f"{percent:g}".replace(".", "")
        yield served(f"unary_p{name}_ms_at_{load}", flow.percentile_ms(percent), "ms", share)
    turned_away = 1 - flow.statuses[STATUS_OK] / len(flow.replies)
    yield served(f"unary_turned_away_at_{load}", turned_away, "ratio", share)


def _capacity(rig: Rig, first: int, seconds: float) -> float:
    rough = rig.unary(SQLITE, first).per_s
    return rig.unary(SQLITE, max(first, int(rough * min(CAPACITY_SECONDS, seconds)))).per_s


def _paced(rig: Rig, rate: float, seconds: float) -> tuple[Flow, Cost]:
    counter = rig.federation.court(SQLITE)
    requests = singles(rig.mint.assertions(counter, max(1, int(rate * seconds))))
    with connected(counter.target, UNARY_CONNECTIONS) as connections, pinned({rig.cores.generator}):
        flow = Flow(VERIFY, requests, connections, rate=rate)
        cost = run(flow)
    require(accepted_singles(flow), flow.statuses[STATUS_OK])
    return flow, cost


def _beside_batches(rig: Rig, rate: float, seconds: float, first: int) -> tuple[Flow, float, Cost]:
    """Give the calls, and how many credentials a second were verified in batches beside them."""
    size = min(BATCH_SIZE, first)
    batched = rig.batched(SQLITE, size, 2 * size).per_s
    court, other = rig.federation.court(SQLITE), rig.federation.licences(SQLITE)
    requests = singles(rig.mint.assertions(court, max(1, int(rate * seconds))))
    count = int(batched * seconds * _SPARE / size) + 4
    many = batches(rig.mint.assertions(other, count * size), size)
    with ExitStack() as opened:
        flow = Flow(VERIFY, requests, opened.enter_context(connected(court.target, UNARY_CONNECTIONS)), rate=rate)
        connections = opened.enter_context(connected(other.target, 1))
        beside = Flow(BATCH, many, connections, in_flight=1, background=True)
        opened.enter_context(pinned({rig.cores.generator}))
        cost = run(flow, beside)
    require(accepted_singles(flow), flow.statuses[STATUS_OK])
    accepted = accepted_batches(beside)
    require(accepted, len(beside.replies) * size)
    return flow, accepted / (beside.ended - beside.began), cost


def _overload(rig: Rig, seconds: float, first: int) -> list[Figure]:
    """Offer three times as much as can be served, from two callers, and count what is served of it."""
    peak = _capacity(rig, first, seconds)
    rig.say(f"{OVERLOAD} times {peak:,.0f} calls a second")
    rate = peak * OVERLOAD / 2
    counters = (rig.federation.court(SQLITE), rig.federation.licences(SQLITE))
    made = [singles(rig.mint.assertions(counter, max(1, int(rate * seconds)))) for counter in counters]
    with ExitStack() as opened:
        flows = []
        for counter, requests in zip(counters, made, strict=True):
            connections = opened.enter_context(
                connected(counter.target, OVERLOAD_CONNECTIONS // 2, OVERLOAD_DEADLINE_SECONDS)
            )
            flows.append(Flow(VERIFY, requests, connections, rate=rate))
        opened.enter_context(pinned({rig.cores.generator}))
        cost = run(*flows)
    replies = [reply for flow in flows for reply in flow.replies]
    good = sorted(reply.seconds for reply in replies if reply.status == STATUS_OK)
    if not good:
        raise LoadError("nothing was served under overload")
    require(sum(accepted_singles(flow) for flow in flows), len(good))
    took = max(flow.ended for flow in flows) - min(flow.began for flow in flows)
    after = _capacity(rig, first, seconds)
    share = cost.generator_share
    return [
        served("overload_offered_per_s", len(replies) / seconds, "1/s", share),
        served("overload_goodput_per_s", len(good) / took, "1/s", share),
        served("overload_goodput_vs_peak", len(good) / took / ((peak + after) / 2), "ratio", share),
        served("overload_p99_ms", good[min(len(good) - 1, len(good) * 99 // 100)] * 1_000, "ms", share),
        served("overload_turned_away_share", 1 - len(good) / len(replies), "ratio", share),
    ]
