"""Measure, print a table, write JSON lines to ``bench/out/latest.jsonl``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import core, ledger, log, rotation, status

OUT = Path(__file__).parent / "out" / "latest.jsonl"


def main() -> int:
    """Run all benchmarks. A missed target is shown, not an error: machines differ."""
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(f"[dim]{text}[/dim]")

    figures = [
        *core.measure(say),
        *ledger.measure(say),
        *log.measure(say),
        *status.measure(say),
        *rotation.measure(say),
    ]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("".join(json.dumps(figure.as_json()) + "\n" for figure in figures), encoding="utf-8")
    table = Table(title="Benchmarks")
    for heading in ("metric", "value", "unit", "target", "met"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for figure in figures:
        target = "" if figure.target is None else f"{figure.target:g}"
        met = "" if figure.met is None else ("yes" if figure.met else "NO")
        table.add_row(figure.metric, f"{figure.value:.4g}", figure.unit, target, met)
    Console().print(table)
    Console(stderr=True).print(f"[dim]written to {OUT.parent.name}/{OUT.name}[/dim]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
