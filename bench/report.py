"""The full run's report: every figure beside its target, and plots. One HTML file that needs no other.

The plots are SVG, written here: bars with their values, and lines over axes that begin at nought.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from bench.figures import Figure

WIDTH: Final = 720
BAR: Final = 22
HEIGHT: Final = 320
MARGIN: Final = 56
LABELS: Final = 230
TICKS: Final = 5
COLOURS: Final = ("#1b6ca8", "#c8553d", "#3f7d20", "#7d4f9e")
_STYLE: Final = (
    "body{font:15px/1.5 sans-serif;margin:2rem auto;max-width:60rem;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.15rem .8rem;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}.no{color:#b00020;font-weight:bold}"
    "svg{font:12px sans-serif;display:block;margin:1rem 0}"
)
Series = Mapping[str, Sequence[tuple[float, float]]]


def write_report(
    file: Path, figures: Sequence[Figure], soak: Sequence[tuple[float, float]], about: Sequence[str]
) -> None:
    """Write the report.

    Args:
        file: where to.
        figures: all that was measured.
        soak: memory over time: seconds and megabytes; empty if there was no soak.
        about: what to say of the machine and the run.
    """
    by_name = {figure.metric: figure.value for figure in figures}
    parts = [f"<p>{escape(line)}</p>" for line in about]
    parts.append(_table(figures))
    rates = [(name.removesuffix("_per_s"), value) for name, value in by_name.items() if _is_rate(name)]
    parts += ["<h2>Throughput of one core, a second</h2>", bars(rates)]
    latency = _latency(by_name)
    if latency:
        parts += ["<h2>Milliseconds a call takes, by percent of capacity</h2>", lines(latency, "% of capacity", "ms")]
    if soak:
        held = {"resident memory": [(seconds / 60, megabytes) for seconds, megabytes in soak]}
        parts += ["<h2>Memory under a steady load</h2>", lines(held, "minutes", "MB")]
    members = _members(by_name)
    if members:
        parts += ["<h2>Building the trust view</h2>", lines(members, "members", "ms")]
    head = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Benchmarks</title><style>{_STYLE}</style>'
    file.write_text(f"{head}<h1>Benchmarks</h1>{''.join(parts)}</html>\n", encoding="utf-8")


def _is_rate(name: str) -> bool:
    return name.endswith("_per_s") and name.startswith(("raw", "echo", "naive", "unary", "batch", "stream", "workers"))


def _latency(by_name: Mapping[str, float]) -> Series:
    found: dict[str, list[tuple[float, float]]] = {}
    for name, value in by_name.items():
        head, _, percent = name.partition("_ms_at_")
        if percent.endswith("_percent"):
            found.setdefault(head.removeprefix("unary_"), []).append((float(percent.removesuffix("_percent")), value))
    return found


def _members(by_name: Mapping[str, float]) -> Series:
    found: dict[str, list[tuple[float, float]]] = {}
    for kind, title in (("build", "anew"), ("rebuild", "nothing new")):
        prefix = f"trust_view_{kind}_ms_"
        points = [(float(name.removeprefix(prefix)), each) for name, each in by_name.items() if name.startswith(prefix)]
        if points:
            found[title] = sorted(points)
    return found


def _table(figures: Sequence[Figure]) -> str:
    rows = ["<tr><th>metric</th><th>value</th><th>unit</th><th>target</th><th>met</th><th>generator</th></tr>"]
    for figure in figures:
        bound = "≤" if figure.at_most else "≥"
        target = "" if figure.target is None else f"{bound} {figure.target:g}"
        met = {None: "", True: "yes", False: '<span class="no">no</span>'}[figure.met]
        share = "" if figure.generator_share is None else f"{figure.generator_share:.0%}"
        cells = (escape(figure.metric), f"{figure.value:,.4g}", escape(figure.unit), target, met, share)
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(rows)}</table>"


def bars(values: Sequence[tuple[str, float]]) -> str:
    """Draw a bar for each value, with the value beside it."""
    most = max((value for _, value in values), default=1.0) or 1.0
    room = WIDTH - LABELS - MARGIN - 20
    drawn = []
    for number, (name, value) in enumerate(values):
        top, length = number * BAR, value / most * room
        drawn += [
            f'<text x="{LABELS - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LABELS}" y="{top + 3}" width="{length:.1f}" height="{BAR - 6}" fill="{COLOURS[0]}"/>',
            f'<text x="{LABELS + length + 6:.1f}" y="{top + 15}">{value:,.0f}</text>',
        ]
    return _svg(len(values) * BAR, drawn)


def lines(series: Series, across: str, up: str) -> str:
    """Draw a line for each series, over axes that begin at nought."""
    most_x = _round_up(max(x for points in series.values() for x, _ in points))
    most_y = _round_up(max(y for points in series.values() for _, y in points))
    room_x, room_y = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN

    def place(x: float, y: float) -> str:
        return f"{MARGIN + x / most_x * room_x:.1f},{HEIGHT - MARGIN - y / most_y * room_y:.1f}"

    drawn = [f'<polyline points="{place(0, most_y)} {place(0, 0)} {place(most_x, 0)}" fill="none" stroke="#444"/>']
    for tick in range(TICKS + 1):
        x, y = place(most_x * tick / TICKS, most_y * tick / TICKS).split(",")
        drawn += [
            f'<text x="{x}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{most_x * tick / TICKS:g}</text>',
            f'<text x="{MARGIN - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{most_y * tick / TICKS:g}</text>',
        ]
    drawn += [
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 14}" text-anchor="end">{escape(across)}</text>',
        f'<text x="{MARGIN}" y="{MARGIN - 16}" text-anchor="middle">{escape(up)}</text>',
    ]
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(place(x, y) for x, y in points)
        drawn += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{MARGIN + 60 + number * 150}" y="20" fill="{colour}">{escape(name)}</text>',
        ]
    return _svg(HEIGHT, drawn)


def _round_up(value: float) -> float:
    """Give the end of an axis: 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= value)


def _svg(height: int, drawn: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(drawn)}</svg>'
