"""The benchmark of rotations measures something, and says what."""

from __future__ import annotations

import pytest

from bench.rotation import measure


@pytest.mark.long
def test_the_benchmark_of_rotations_gives_every_figure() -> None:
    figures = {figure.metric: figure for figure in measure(lambda _text: None, compromises=2)}
    assert {"compromise_p99_s", "rotation_wrong_verdicts"} <= figures.keys()
    assert figures["compromise_p99_s"].value > 0
    assert figures["rotation_wrong_verdicts"].value == 0
