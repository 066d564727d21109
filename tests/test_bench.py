"""The benchmark measures something, and says what."""

from __future__ import annotations

from bench import ledger, log
from bench.core import Figure, measure


def are_measured(figures: list[Figure], wanted: set[str]) -> bool:
    return wanted <= {figure.metric for figure in figures if figure.value > 0}


def test_the_cost_of_the_ledger_is_measured() -> None:
    figures = ledger.measure(lambda _text: None, rounds=1, batches=1, batch=5)
    assert are_measured(figures, {"ledger_sqlite_vs_none", "ledger_sqlite_vs_core", "ledger_sqlite_per_s"})


def test_proofs_and_audits_are_measured() -> None:
    figures = log.measure(lambda _text: None, leaves=200_000, proofs=5, entries=4_000, receipts=5)
    assert are_measured(figures, {"proof_ms_10m", "audit_verify_entries_per_s", "receipt_sign_per_s"})


def test_the_benchmark_runs_and_gives_every_figure() -> None:
    figures = {figure.metric: figure.as_json() for figure in measure(lambda _text: None, rounds=1, per_round=5)}
    assert {"core_assertion_vs_raw_verify", "core_credential_kb_vs_raw_verify"} <= figures.keys()
    assert all(figure["value"] > 0 for figure in figures.values())
    assert all(figure.keys() == {"metric", "value", "unit", "target", "met"} for figure in figures.values())
