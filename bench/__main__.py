"""Measure, print a table, write JSON lines to ``bench/out/latest.jsonl``.

    python -m bench                          the quick run, under three minutes
    python -m bench --full                   everything, with a soak of half an hour; bench/out/report.html shows it
    python -m bench --only unary,echo        some of it, by name
    python -m bench --list                   the names
    python -m bench --only unary --profile   where the server's time goes, instead

How servers are measured: the server on one core, the generator of the load on another, and nothing else on the machine.
What the generator took of its core stands beside each figure; near 100 %, the figure is the generator's. Rates are
compared within one run and never across two: each kind of load has its turn in each round, and the median of the ratios
counts. Nothing that is presented was ever presented before, unless the name says ``warm``, and what is not accepted
ends the measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import core, database, latency, ledger, log, members, memory, profile, rotation, status, throughput, workers
from bench.figures import TARGETS, Figure, served
from bench.load import LoadError
from bench.report import write_report
from bench.rig import Rig
from gateway.lab.folder import LabError

OUT: Final = Path(__file__).parent / "out" / "latest.jsonl"
REPORT: Final = OUT.with_name("report.html")
TABLE_WIDTH: Final = 120
FULL_ROUNDS: Final = 9
FULL_SECONDS: Final = 2.0
Say = Callable[[str], None]


@dataclass(slots=True)
class Run:
    """One run: what is wanted of it, and what came of it."""

    say: Say
    is_full: bool
    only: Sequence[str]
    rounds: int
    seconds: float
    figures: list[Figure] = field(default_factory=list)
    soaked: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def take(self, name: str, measure: Callable[[], list[Figure]]) -> None:
        """Measure something, if it is wanted. What goes wrong there is said, and does not end the rest."""
        if self.only and name not in self.only:
            return
        try:
            self.figures += measure()
        except (LoadError, LabError, OSError, RuntimeError, AssertionError) as error:
            self.say(f"{name}: cannot be measured ({error})")
            self.failed.append(name)


def _inside(run: Run) -> Mapping[str, Callable[[], list[Figure]]]:
    """What is measured without a load on a server."""
    say = run.say
    if run.is_full:
        return {
            "core": lambda: core.measure(say),
            "ledger": lambda: ledger.measure(say),
            "database": lambda: database.measure(say),
            "log": lambda: log.measure(say),
            "status": lambda: status.measure(say),
            "rotation": lambda: rotation.measure(say),
            "members": lambda: members.measure(say),
        }
    return {
        "core": lambda: core.measure(say, rounds=3),
        "ledger": lambda: ledger.measure(say, rounds=3),
        "database": lambda: database.measure(say, entries=10_000, seconds=0.5),
        "log": lambda: log.measure(say, entries=20_000),
        "status": lambda: status.measure(say),
        "rotation": lambda: rotation.measure(say, compromises=4),
        "members": lambda: members.measure(say, sizes=members.SIZES[:-1], rounds=1),
    }


def _served(run: Run) -> Mapping[str, Callable[[Rig], list[Figure]]]:
    """What is measured by loads on servers, beside throughput. Workers come first: they need a gateway's ports free."""
    if run.is_full:
        return {
            "workers": lambda rig: workers.measure(rig, rounds=5, seconds=4.0),
            "latency": lambda rig: latency.measure(rig, latency.PERCENTS, seconds=10.0),
            "connections": lambda rig: memory.connections(rig, memory.CONNECTIONS),
            "soak": lambda rig: _soak(run, rig),
        }
    return {
        "workers": lambda rig: workers.measure(rig, rounds=2, seconds=1.5),
        "latency": lambda rig: latency.measure(rig, seconds=2.5),
        "connections": memory.connections,
        **({"soak": lambda rig: _soak(run, rig)} if "soak" in run.only else {}),
    }


SERVED: Final = ("workers", "latency", "connections", "soak")
INSIDE: Final = ("core", "ledger", "database", "log", "status", "rotation", "members")


def main() -> int:
    """Run benchmarks. A missed target is shown, not an error: machines differ. What could not be measured is one."""
    asked = _arguments()
    if asked.list:
        print("\n".join((*INSIDE, *SERVED, *throughput.NAMES)))
        return 0
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(f"[dim]{text}[/dim]", highlight=False)

    if asked.profile:
        with Rig(say, profiled=True) as rig:
            profile.profile(rig, asked.only, asked.seconds or profile.SECONDS)
        return 0
    run = Run(
        say=say,
        is_full=asked.full,
        only=asked.only,
        rounds=asked.rounds or (FULL_ROUNDS if asked.full else throughput.ROUNDS),
        seconds=asked.seconds or (FULL_SECONDS if asked.full else throughput.SECONDS),
    )
    _measure(run)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("".join(json.dumps(figure.as_json()) + "\n" for figure in run.figures), encoding="utf-8")
    _show(run.figures)
    say(f"written to bench/out/{OUT.name}")
    if run.is_full:
        write_report(REPORT, run.figures, run.soaked, _about())
        say(f"written to bench/out/{REPORT.name}")
    missing = set(TARGETS) - {figure.metric for figure in run.figures}
    if not run.only and (missing := missing - (set() if run.is_full else {"soak_memory_ratio"})):
        say(f"not measured: {', '.join(sorted(missing))}")
    return 1 if run.failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure.")
    parser.add_argument("--full", action="store_true", help="measure everything, for most of an hour")
    parser.add_argument("--only", type=_names, default=(), help="names of what to measure, with commas between them")
    parser.add_argument("--list", action="store_true", help="print the names, and measure nothing")
    parser.add_argument("--rounds", type=int, default=None, help="rounds of loads on servers")
    parser.add_argument("--seconds", type=float, default=None, help="seconds of each load")
    parser.add_argument("--profile", action="store_true", help="say where the time of the servers goes, instead")
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = set(names) - {*INSIDE, *SERVED, *throughput.NAMES}
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}; --list gives the names")
    return names


def _measure(run: Run) -> None:
    run.figures.append(served("load_average_before", os.getloadavg()[0], "processes"))
    for name, inside in _inside(run).items():
        run.take(name, inside)
    names = run.only or [name for leg in throughput.LEGS if leg.is_quick or run.is_full for name in leg.names]
    legs = throughput.legs_for(names)
    measures = _served(run)
    # An hour after they last heard of each other, the provinces decide nothing: a soak begins with fresh news.
    for together in (("workers", "latency", "connections"), ("soak",)):
        with Rig(run.say) as rig:
            for name in together:
                if name in measures:
                    run.take(name, partial(measures[name], rig))
            if legs and "soak" not in together:
                run.figures += throughput.measure(rig, legs, run.rounds, run.seconds)


def _soak(run: Run, rig: Rig) -> list[Figure]:
    figures, looks = memory.soak(rig)
    run.soaked += [(look.seconds, look.megabytes) for look in looks]
    return figures


def _about() -> list[str]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("cryptography", "grpcio", "protobuf", "pyjwt"))
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return [
        f"{platform.platform()}, {len(os.sched_getaffinity(0))} cores, {_processor()}; load when done: {load}.",
        f"{platform.python_implementation()} {platform.python_version()}; {packages}.",
        "The server had one core, the generator another, except where two workers are measured.",
    ]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else "unknown processor"


def _show(figures: Sequence[Figure]) -> None:
    table = Table(title="Benchmarks")
    for heading in ("metric", "value", "unit", "target", "met", "generator"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for figure in figures:
        target = "" if figure.target is None else f"{figure.target:g}"
        met = "" if figure.met is None else ("yes" if figure.met else "NO")
        share = "" if figure.generator_share is None else f"{figure.generator_share:.0%}"
        table.add_row(figure.metric, f"{figure.value:,.4g}", figure.unit, target, met, share)
    # Written to a file, no name is cut off.
    Console(width=None if sys.stdout.isatty() else TABLE_WIDTH).print(table)


if __name__ == "__main__":
    sys.exit(main())
