"""Figures: what was measured, in which unit, and what it should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure should be."""

    value: float
    at_most: bool = False
    """Whether it is an upper bound."""


TARGETS: Final[Mapping[str, Target]] = {
    "batch100_cold_vs_raw_verify": Target(value=0.70),
    "batch100_noledger_vs_raw_verify": Target(value=0.80),
    "unary_cold_vs_echo": Target(value=0.55),
    "unary_cold_vs_naive": Target(value=1.3),
    "batch100_vs_naive_unary": Target(value=5),
    "batch100_warm_vs_cold": Target(value=1.6),
    "workers2_vs_1": Target(value=1.7),
    "unary_p99_ms_at_half_load": Target(value=25, at_most=True),
    "soak_memory_ratio": Target(value=1.05, at_most=True),
    "overload_goodput_vs_peak": Target(value=0.9),
}
"""Of serving: ratios within one run, one server core, the ledger on unless the name says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure."""

    metric: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = False
    """Whether the target is an upper bound."""
    generator_share: float | None = None
    """The part of its core that the load generator was busy for meanwhile, where there was one."""

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None when there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def as_json(self) -> dict[str, Any]:
        """Write for programs."""
        return {
            "metric": self.metric,
            "value": round(self.value, 4),
            "unit": self.unit,
            "target": self.target,
            "met": self.met,
            "generator_share": None if self.generator_share is None else round(self.generator_share, 3),
        }


def served(metric: str, value: float, unit: str, generator_share: float | None = None) -> Figure:
    """Make a figure of serving, with the target that it has, if any."""
    target = TARGETS.get(metric)
    return Figure(
        metric=metric,
        value=value,
        unit=unit,
        target=None if target is None else target.value,
        at_most=target is not None and target.at_most,
        generator_share=generator_share,
    )
