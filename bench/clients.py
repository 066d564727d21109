"""What the clients cost: calls a second, and the client's processor time for each, beside the bare generated stub.

    python -m bench.clients              all languages whose tools are here
    python -m bench.clients go python    some of them

Four provinces come up once, on their own core where there are two. Each language's own program then verifies as many
assertions through its client as through the stub that the client is made of, in alternating rounds in one process. What
the client costs is the ratio of the two processor times: nothing else on the machine is in it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.figures import Figure
from tests.clients.stage import stage

CLIENTS: Final = Path(__file__).parent.parent / "clients"
OUT: Final = Path(__file__).parent / "out" / "clients.jsonl"
CALLS: Final = 4_000
MOST: Final = 1.10
"""What a client may cost, against the bare stub."""
SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Program:
    """A language's own benchmark."""

    command: Sequence[str]
    folder: Path
    needs: str
    """A program that must be there."""
    times: int = 1
    """How many times as many calls it takes: Java compiles what it runs often while it runs."""


_JAVA: Final = "-Dexec.mainClass=example.recognition.client.Bench"
PROGRAMS: Final[Mapping[str, Program]] = {
    "go": Program(("go", "run", "./bench"), CLIENTS / "go", "go"),
    "java": Program(("mvn", "-q", "-B", "test-compile", "exec:java", _JAVA), CLIENTS / "java", "mvn", times=4),
    "python": Program((sys.executable, "benchmark.py"), CLIENTS / "python", sys.executable),
    "typescript": Program(("npm", "run", "--silent", "bench", "--"), CLIENTS / "typescript", "npm"),
}


def measure(languages: Sequence[str], calls: int, console: Console) -> list[Figure]:
    """Run the programs of these languages, one after another."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="mrg-bench-") as folder:
        console.print("[dim]bringing four provinces up[/dim]")
        with stage(Path(folder) / "lab") as control:
            with urllib.request.urlopen(f"{control}/profiles") as answer:  # noqa: S310 - the stage's, which is ours
                profile = json.load(answer)["court"]
            for language in languages:
                count = calls * PROGRAMS[language].times
                console.print(f"[dim]{language}: {count:,} calls each[/dim]")
                figures += _measured(language, ("--profile", profile, "--stage", control, "--calls", str(count)))
    return figures


def _measured(language: str, options: Sequence[str]) -> list[Figure]:
    program = PROGRAMS[language]
    arguments = [f"-Dexec.args={' '.join(options)}"] if language == "java" else options  # Maven's own are before
    done = subprocess.run(
        [*program.command, *arguments],
        cwd=program.folder,
        stdout=subprocess.PIPE,
        timeout=SECONDS,
        check=True,
        text=True,
    )
    # Some build tools colour what they print, even where nobody looks.
    found: list[dict[str, Any]] = [json.loads(each) for each in re.findall(r"^[^{]*({.*})$", done.stdout, re.MULTILINE)]

    def middle(what: str, name: str) -> float:
        return statistics.median(float(each[name]) for each in found if each["what"] == what)

    costs = {what: middle(what, "client_cpu_us_per_call") for what in ("thin", "bare")}
    return [
        Figure(metric=f"{language}_calls_per_s", value=middle("thin", "calls_per_s"), unit="1/s"),
        Figure(metric=f"{language}_bare_calls_per_s", value=middle("bare", "calls_per_s"), unit="1/s"),
        Figure(metric=f"{language}_cpu_us", value=costs["thin"], unit="us a call"),
        Figure(metric=f"{language}_bare_cpu_us", value=costs["bare"], unit="us a call"),
        Figure(
            metric=f"{language}_cpu_vs_bare",
            value=costs["thin"] / costs["bare"],
            unit="ratio",
            target=MOST,
            at_most=True,
        ),
    ]


def main() -> int:
    """Measure clients. A missed target is shown, and is no error: machines differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.clients", description="Measure the clients.")
    parser.add_argument("languages", nargs="*", choices=[*PROGRAMS, []], help="which; by default all that can be run")
    parser.add_argument(
        "--calls",
        type=int,
        default=CALLS,
        help=f"through each of the two; by default {CALLS:,}; in Java four times as many",
    )
    asked = parser.parse_args()
    console = Console(stderr=True)
    languages = asked.languages or [name for name, each in PROGRAMS.items() if shutil.which(each.needs)]
    figures = measure(languages, asked.calls, console)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("".join(json.dumps(figure.as_json()) + "\n" for figure in figures), encoding="utf-8")
    table = Table("metric", "value", "unit", "target", "met", title="Clients")
    for figure in figures:
        met = "" if figure.met is None else "yes" if figure.met else "NO"
        target = "" if figure.target is None else f"{figure.target:g}"
        table.add_row(figure.metric, f"{figure.value:,.4g}", figure.unit, target, met)
    Console().print(table)
    console.print(f"[dim]written to bench/out/{OUT.name}[/dim]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
