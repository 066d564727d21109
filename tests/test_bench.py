"""The benchmark measures something, and says what."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import database, ledger, log, members, report, status, throughput
from bench.core import measure
from bench.figures import TARGETS, Figure, served
from bench.rig import Sample
from tests.postgres import find_binaries

ISSUE = {
    "batch100_cold_vs_raw_verify": (0.70, False),
    "batch100_noledger_vs_raw_verify": (0.80, False),
    "unary_cold_vs_echo": (0.55, False),
    "unary_cold_vs_naive": (1.3, False),
    "batch100_vs_naive_unary": (5, False),
    "batch100_warm_vs_cold": (1.6, False),
    "workers2_vs_1": (1.7, False),
    "unary_p99_ms_at_half_load": (25, True),
    "soak_memory_ratio": (1.05, True),
}


def are_measured(figures: list[Figure], wanted: set[str]) -> bool:
    return wanted <= {figure.metric for figure in figures if figure.value > 0}


def test_the_cost_of_the_ledger_is_measured() -> None:
    figures = ledger.measure(lambda _text: None, rounds=1, batches=1, batch=5)
    assert are_measured(figures, {"ledger_sqlite_vs_none", "ledger_sqlite_vs_core", "ledger_sqlite_per_s"})


def test_what_a_database_takes_is_measured() -> None:
    figures = database.measure(lambda _text: None, entries=600, seconds=0.05, writers=(1, 2))
    stores = {"sqlite": [""], "postgres": ["_1", "_2"]} if find_binaries() is not None else {"sqlite": [""]}
    rates = {f"{what}_per_s_{name}{one}" for name in stores for one in stores[name] for what in ("commits", "entries")}
    assert are_measured(figures, rates | {f"entry_bytes_{name}" for name in stores} | {"disk_sync_p50_ms"})


def test_proofs_and_audits_are_measured() -> None:
    figures = log.measure(lambda _text: None, leaves=200_000, proofs=5, entries=4_000, receipts=5)
    assert are_measured(figures, {"proof_ms_10m", "audit_verify_entries_per_s", "receipt_sign_per_s"})


def test_the_benchmark_runs_and_gives_every_figure() -> None:
    figures = {figure.metric: figure.as_json() for figure in measure(lambda _text: None, rounds=1, per_round=5)}
    assert {"core_assertion_vs_raw_verify", "core_credential_kb_vs_raw_verify"} <= figures.keys()
    assert all(figure["value"] > 0 for figure in figures.values())
    names = {"metric", "value", "unit", "target", "met", "generator_share"}
    assert all(figure.keys() == names for figure in figures.values())


def test_trust_views_are_measured() -> None:
    figures = members.measure(lambda _text: None, sizes=(4,), rounds=1, held_members=40)
    assert are_measured(figures, {"trust_view_build_ms_4", "trust_view_rebuild_ms_4", "trust_view_memory_kb_4"})


# -- targets ----------------------------------------------------------------------------------------------------------


def test_every_target_of_serving_is_held_against_its_figure() -> None:
    held = {name: (TARGETS[name].value, TARGETS[name].at_most) for name in ISSUE}
    assert held == ISSUE


@pytest.mark.parametrize(("metric", "value", "met"), [
    ("unary_cold_vs_naive", 1.3, True),
    ("unary_cold_vs_naive", 1.29, False),
    ("soak_memory_ratio", 1.05, True),
    ("soak_memory_ratio", 1.06, False),
    ("unary_per_s", 1.0, None),
])  # fmt: skip
def test_a_figure_says_whether_its_target_was_met(metric: str, value: float, met: bool | None) -> None:
    assert served(metric, value, "ratio").met is met


def test_both_sides_of_every_ratio_are_measured_in_the_quick_run() -> None:
    quick = {name for leg in throughput.LEGS if leg.is_quick for name in leg.names}
    assert {name for pair in throughput.RATIOS.values() for name in pair} <= quick


def test_a_ratio_is_that_of_the_rounds_in_which_both_sides_were_measured() -> None:
    rounds = object.__new__(throughput.Rounds)
    rounds.samples = {
        "unary": {1: _sample(10), 2: _sample(30), 3: _sample(90)},
        "echo": {1: _sample(20), 3: _sample(100)},
    }
    figures = {figure.metric: figure for figure in rounds.figures()}
    assert figures["unary_cold_vs_echo"].value == pytest.approx((10 / 20 + 90 / 100) / 2)
    assert figures["unary_cold_vs_echo"].generator_share == 0.25
    assert "unary_cold_vs_naive" not in figures


def _sample(per_s: float) -> Sample:
    return Sample(per_s=per_s, server_us=1e6 / per_s, generator_share=0.25)


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(command, "OUT", tmp_path / "latest.jsonl")
    return tmp_path / "latest.jsonl"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    return command.main()


def test_some_of_it_is_measured_by_name(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--only", "raw_verify", "--rounds", "2", "--seconds", "0.01") == 0
    metrics = [json.loads(line)["metric"] for line in out.read_text("utf-8").splitlines()]
    assert metrics == ["load_average_before", "raw_verify_per_s", "raw_verify_server_us"]


def test_a_name_that_is_none_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--only", "raw_verify,unarry")
    assert ended.value.code == 2
    assert not out.exists()


def test_every_name_that_is_listed_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run(monkeypatch, "--list")
    listed = capsys.readouterr().out.split()
    assert command._names(",".join(listed)) == tuple(listed)
    assert {"core", "latency", "soak", "workers", "unary", "batch100_credential_warm"} <= set(listed)


def test_what_cannot_be_measured_fails_the_run_and_nothing_else(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_say: object, **_options: object) -> list[Figure]:
        raise OSError("no disk")

    monkeypatch.setattr(ledger, "measure", fail)
    monkeypatch.setattr(status, "measure", lambda _say: [served("status_lookup_us", 1.0, "us")])
    assert run(monkeypatch, "--only", "ledger,status") == 1
    assert "status_lookup_us" in out.read_text("utf-8")


Capture = pytest.CaptureFixture[str]

# -- the report -------------------------------------------------------------------------------------------------------


def test_the_report_shows_every_figure_and_plots(tmp_path: Path) -> None:
    figures = [
        served("unary_per_s", 1_000.0, "1/s", 0.1),
        served("unary_p99_ms_at_25_percent", 3.0, "ms"),
        served("unary_p99_ms_at_50_percent", 4.0, "ms"),
        served("unary_p99_ms_at_half_load", 44.0, "ms"),
        served("trust_view_build_ms_4", 10.0, "ms"),
        served("trust_view_build_ms_40", 100.0, "ms"),
        served("trust_view_rebuild_ms_4", 1.0, "ms"),
        served("trust_view_rebuild_ms_40", 10.0, "ms"),
    ]
    file = tmp_path / "report.html"
    report.write_report(file, figures, [(10.0, 100.0), (20.0, 101.0)], ["a < b"])
    text = file.read_text("utf-8")
    assert all(figure.metric in text for figure in figures)
    assert "a &lt; b" in text
    assert text.count("<svg") == 4


def test_plots_are_well_formed_and_stay_inside() -> None:
    root = ET.fromstring(report.lines({"a & b": [(1.0, 3.0), (2.0, 7.0)]}, "x", "y"))  # noqa: S314 - our own
    line = next(each for each in root if each.get("stroke-width"))
    points = [tuple(float(part) for part in point.split(",")) for point in (line.get("points") or "").split()]
    assert all(0 <= x <= report.WIDTH and 0 <= y <= report.HEIGHT for x, y in points)
    assert points[0][0] < points[1][0]
    assert points[0][1] > points[1][1], "more is further up"
    widths = [float(each.get("width") or 0) for each in ET.fromstring(report.bars([("a", 1), ("b", 2)]))[1::3]]  # noqa: S314 - our own
    assert widths[1] == pytest.approx(2 * widths[0])
