"""How much one core serves: one by one, in batches, on a stream; cold and warm; with each ledger; beside others.

Everything is measured in rounds, each kind of load once a round, so that a machine that slows down slows all of them;
a ratio is the median of the ratios of the rounds. Before the first, a round that does not count warms the servers up
and says how much is to be sent, so that each load takes about as long as wanted. What is sent was never seen before,
but for the loads called warm: those present the credentials of the load before them once more, with new proofs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.figures import Figure, served
from bench.load import LoadError
from bench.rig import Rig, Sample
from bench.servers import POSTGRES, SQLITE, UNLEDGERED
from gateway.core.identifiers import Province

ROUNDS: Final = 5
SECONDS: Final = 0.5
FIRST: Final = 200
"""Credentials of each load in the round that does not count."""
MAX_COUNT: Final = 20_000
"""Credentials of one load: what is signed for it must be used before it lapses."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One kind of load, or one after the other of several that belong together."""

    names: tuple[str, ...]
    run: Callable[[Rig, int], tuple[Sample, ...]]
    """With so many credentials each."""
    least: int = 1
    """Credentials."""
    is_quick: bool = True
    """Whether it is measured in the quick run too."""


def _one(name: str, run: Callable[[Rig, int], Sample], *, least: int = 1, is_quick: bool = True) -> Leg:
    return Leg((name,), lambda rig, count: (run(rig, count),), least, is_quick)


def _warmed(kind: str, run: Callable[..., Sample], *, least: int = 1, is_quick: bool = True) -> Leg:
    def both(rig: Rig, count: int) -> tuple[Sample, ...]:
        held = rig.mint.credentials(count)
        return run(rig, held), run(rig, held)

    return Leg((f"{kind}_credential_cold", f"{kind}_credential_warm"), both, least, is_quick)


def _batch(size: int, province: Province = SQLITE) -> Callable[[Rig, int], Sample]:
    return lambda rig, count: rig.batched(province, size, _whole(count, size))


def _whole(count: int, size: int) -> int:
    """Give a number of credentials that fills batches."""
    return max(1, round(count / size)) * size


LEGS: Final[Sequence[Leg]] = (
    _one("raw_verify", lambda rig, count: rig.raw(count)),
    _one("echo", lambda rig, count: rig.echo(count)),
    _one("naive_unary", lambda rig, count: rig.naive(count)),
    _one("unary", lambda rig, count: rig.unary(SQLITE, count)),
    _one("batch100", _batch(100), least=400),
    _one("batch100_noledger", _batch(100, UNLEDGERED), least=400),
    _warmed("batch100", lambda rig, held: rig.batched(SQLITE, 100, len(held), held), least=400),
    _one("batch10", _batch(10), least=40),
    _one("batch1000", _batch(1_000), least=2_000),
    _one("stream", lambda rig, count: rig.streamed(SQLITE, count)),
    _one("batch100_postgres", _batch(100, POSTGRES), least=400),
    _one("unary_postgres", lambda rig, count: rig.unary(POSTGRES, count)),
    _one("unary_noledger", lambda rig, count: rig.unary(UNLEDGERED, count), is_quick=False),
    _warmed("unary", lambda rig, held: rig.unary(SQLITE, len(held), held), is_quick=False),
    _warmed("stream", lambda rig, held: rig.streamed(SQLITE, len(held), held), is_quick=False),
    _warmed("batch1000", lambda rig, held: rig.batched(SQLITE, 1_000, len(held), held), least=4_000, is_quick=False),
)
RATIOS: Final[Mapping[str, tuple[str, str]]] = {
    "batch100_cold_vs_raw_verify": ("batch100", "raw_verify"),
    "batch100_noledger_vs_raw_verify": ("batch100_noledger", "raw_verify"),
    "unary_cold_vs_echo": ("unary", "echo"),
    "unary_cold_vs_naive": ("unary", "naive_unary"),
    "batch100_vs_naive_unary": ("batch100", "naive_unary"),
    "batch100_warm_vs_cold": ("batch100_credential_warm", "batch100_credential_cold"),
    "batch100_postgres_vs_sqlite": ("batch100_postgres", "batch100"),
    "unary_postgres_vs_sqlite": ("unary_postgres", "unary"),
}
NAMES: Final = tuple(name for leg in LEGS for name in leg.names)


def legs_for(names: Sequence[str]) -> list[Leg]:
    """Give the legs that measure these, and those whose ratios to them are wanted."""
    return [leg for leg in LEGS if not set(leg.names).isdisjoint(names)]


def measure(
    rig: Rig, legs: Sequence[Leg], rounds: int = ROUNDS, seconds: float = SECONDS, first: int = FIRST
) -> list[Figure]:
    """Measure these legs.

    Args:
        rig: what they need.
        legs: some of ``LEGS``.
        rounds: that count.
        seconds: that each load is to take.
        first: credentials of each load in the round that does not count.
    """
    taken = Rounds(rig, legs, seconds, first)
    for number in range(rounds):
        taken.next(f"round {number + 1} of {rounds}")
    return list(taken.figures())


class Rounds:
    """Rounds of loads, and what came of them."""

    def __init__(self, rig: Rig, legs: Sequence[Leg], seconds: float, first: int = FIRST) -> None:
        self._rig = rig
        self._seconds = seconds
        self._legs: list[Leg] = []
        self._counts: dict[str, int] = {}
        self._number = 0
        self.samples: dict[str, dict[int, Sample]] = {}
        """By name, then by round."""
        for leg in legs:
            if "postgres" in leg.names[0] and not rig.federation.has_postgres:
                rig.say(f"{leg.names[0]}: there is no PostgreSQL server on this machine")
                continue
            rig.say(f"warming up: {', '.join(leg.names)}")
            try:
                samples = leg.run(rig, max(first, leg.least))
            except (LoadError, OSError) as error:
                rig.say(f"{leg.names[0]}: cannot be measured ({error})")
                continue
            self._legs.append(leg)
            slowest = min(sample.per_s for sample in samples)
            self._counts[leg.names[0]] = max(leg.least, min(MAX_COUNT, int(slowest * seconds)))

    def next(self, title: str) -> None:
        """Put each load on once. One that fails has no part in this round."""
        self._number += 1
        for leg in self._legs:
            try:
                samples = leg.run(self._rig, self._counts[leg.names[0]])
            except (LoadError, OSError) as error:
                self._rig.say(f"{title}: {leg.names[0]} could not be measured ({error})")
                continue
            for name, sample in zip(leg.names, samples, strict=True):
                self.samples.setdefault(name, {})[self._number] = sample
                self._rig.say(
                    f"{title}: {name} {sample.per_s:,.0f}/s, {sample.server_us:,.0f} us of the server's core each,"
                    f" generator {sample.generator_share:.0%}"
                )

    def figures(self) -> Iterator[Figure]:
        """Say what came of it: rates, costs, and the ratios of which both sides were measured.

        A ratio by core time says the same of a quiet machine, and nearly the same of a busy one.
        """
        for name, samples in self.samples.items():
            share = self._share(name)
            rate = statistics.median(sample.per_s for sample in samples.values())
            cost = statistics.median(sample.server_us for sample in samples.values())
            yield served(f"{name}_per_s", rate, "1/s", share)
            yield served(f"{name}_server_us", cost, "us", share)
        for metric, (one, other) in RATIOS.items():
            pairs = self._pairs(one, other)
            if pairs:
                share = max(self._share(one), self._share(other))
                by_rate = statistics.median(this.per_s / that.per_s for this, that in pairs)
                by_core = statistics.median(that.server_us / this.server_us for this, that in pairs)
                yield served(metric, by_rate, "ratio", share)
                yield served(f"{metric}_by_core_time", by_core, "ratio", share)

    def _pairs(self, one: str, other: str) -> list[tuple[Sample, Sample]]:
        """Give what was measured in the same rounds."""
        others = self.samples.get(other, {})
        return [(sample, others[number]) for number, sample in self.samples.get(one, {}).items() if number in others]

    def _share(self, name: str) -> float:
        return statistics.median(sample.generator_share for sample in self.samples[name].values())
