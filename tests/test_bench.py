"""The benchmark measures something, and says what."""

from __future__ import annotations

from bench.core import measure


def test_the_benchmark_runs_and_gives_every_figure() -> None:
    figures = {figure.metric: figure.as_json() for figure in measure(lambda _text: None, rounds=1, per_round=5)}
    assert {"core_assertion_vs_raw_verify", "core_credential_kb_vs_raw_verify"} <= figures.keys()
    assert all(figure["value"] > 0 for figure in figures.values())
    assert all(figure.keys() == {"metric", "value", "unit", "target", "met"} for figure in figures.values())
