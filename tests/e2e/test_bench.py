"""The benchmarks of real processes measure something, and say what. Counts are tiny: the figures mean nothing here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import latency, memory, throughput, workers
from bench.credentials import VERIFY, accepted_singles, check, require, singles
from bench.figures import Figure
from bench.load import Flow, LoadError, connected, run
from bench.rig import Rig
from bench.rotation import measure
from bench.servers import SQLITE


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(lambda _text: None, mint_processes=0) as made:
        yield made


def names(figures: list[Figure]) -> set[str]:
    return {figure.metric for figure in figures if figure.value > 0}


def test_one_core_serves_calls_batches_and_streams_beside_its_rivals(rig: Rig) -> None:
    wanted = ("raw_verify", "echo", "naive_unary", "unary", "batch10", "stream", "unary_credential_warm")
    figures = throughput.measure(rig, throughput.legs_for(wanted), rounds=1, seconds=0.01, first=20)
    assert {f"{name}_per_s" for name in (*wanted, "unary_credential_cold")} <= names(figures)
    assert {"unary_cold_vs_echo", "unary_cold_vs_naive"} <= names(figures)
    assert all(0 <= (figure.generator_share or 0) <= 1.5 for figure in figures)


def test_open_connections_are_measured(rig: Rig) -> None:
    (figure,) = memory.connections(rig, 10)
    assert figure.metric == "memory_mb_per_1000_connections"


def test_latency_and_overload_are_measured(rig: Rig) -> None:
    figures = latency.measure(rig, (50,), seconds=0.3, first=50)
    assert {"unary_p99_ms_at_50_percent", "unary_p99_ms_at_half_load", "overload_goodput_vs_peak"} <= names(figures)


@pytest.mark.long
def test_a_soak_looks_at_memory_again_and_again(rig: Rig) -> None:
    figures, looks = memory.soak(rig, seconds=3.0, segment_seconds=0.2, people=200)
    assert {"soak_memory_ratio", "soak_verified"} <= names(figures)
    assert len(looks) >= 2
    assert all(look.megabytes > 10 for look in looks)


def test_what_is_turned_away_spoils_a_measurement(rig: Rig) -> None:
    counter = rig.federation.court(SQLITE)
    twice = singles(rig.mint.assertions(counter, 1)) * 2
    rig.gateway(SQLITE)
    with connected(counter.target, 1) as connections:
        flow = Flow(VERIFY, twice, connections, in_flight=1)
        run(flow)
    check(flow)
    require(accepted_singles(flow), 1)
    with pytest.raises(LoadError):
        require(accepted_singles(flow), len(twice))


@pytest.mark.long
def test_every_other_load_is_measured(rig: Rig) -> None:
    figures = throughput.measure(rig, throughput.LEGS, rounds=1, seconds=0.01, first=20)
    assert {f"{name}_per_s" for name in throughput.NAMES} <= names(figures)
    assert set(throughput.RATIOS) <= names(figures)


@pytest.mark.long
def test_a_second_worker_is_measured() -> None:
    with Rig(lambda _text: None, mint_processes=0) as alone:
        assert "workers2_vs_1" in names(workers.measure(alone, rounds=1, seconds=0.1, first=200))


@pytest.mark.long
def test_the_benchmark_of_rotations_gives_every_figure() -> None:
    figures = {figure.metric: figure for figure in measure(lambda _text: None, compromises=2)}
    assert {"compromise_p99_s", "rotation_wrong_verdicts"} <= figures.keys()
    assert figures["compromise_p99_s"].value > 0
    assert figures["rotation_wrong_verdicts"].value == 0
