"""Rotation and compromise between four real processes on this machine, under a steady load.

What counts is counted by the machine's clock from an administrator's command to the last gateway that acts on it, over
loopback, with the streams between the provinces open. The load is small: what is measured is how word gets about, not
how much the gateways can take.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.figures import Figure
from gateway.core.identifiers import Province
from tests.e2e.compromise import KEY_REVOKED, Compromise, Compromiser
from tests.e2e.lab import SH, RealFederation
from tests.e2e.load import Call, Load
from tests.e2e.rotation import CREDENTIAL, Rotating

COMPROMISES: Final = 20
PAUSE_SECONDS: Final = 0.1
"""Between two people at one counter: about thirty verifications a second in all, which two cores hardly feel."""


def measure(say: Callable[[str], None], compromises: int = COMPROMISES) -> list[Figure]:
    """Measure a rotation, and the compromise of credential keys of all provinces in turn."""
    say("starting four provinces")
    with (
        tempfile.TemporaryDirectory(prefix="mrg-bench-") as folder,
        RealFederation(Path(folder) / "lab") as federation,
        Load(federation, pause_seconds=PAUSE_SECONDS) as load,
    ):
        load.at_least(1, 0)
        say("rotating a credential key")
        rotating = Rotating(federation, load, SH, CREDENTIAL)
        old, new = rotating.publish()
        rotating.wait(new)
        rotating.activate(new)
        rotating.drain(old, new)
        say(f"{compromises} compromises of credential keys")
        done = _compromise(federation, compromises)
        tally = load.at_least(1, load.mark())
        wrong = [call for call in (*load.since().calls, *tally.calls) if call.is_wrong]
    revoked = {each.kid for each in done}
    strange = sum(len(answers) for each in done for answers in each.strange.values())
    seconds = sorted(each.last for each in done)
    return [
        Figure(metric="compromise_p50_s", value=seconds[len(seconds) // 2], unit="s"),
        Figure(metric="compromise_p99_s", value=_p99(seconds), unit="s", target=1.0, at_most=True),
        Figure(
            metric="rotation_wrong_verdicts",
            value=sum(not _was_right(call, revoked) for call in wrong) + strange,
            unit="verdicts",
            target=0,
            at_most=True,
        ),
        Figure(metric="rotation_verdicts", value=len(load.since()), unit="verdicts"),
    ]


def _compromise(federation: RealFederation, times: int) -> Sequence[Compromise]:
    compromisers = [Compromiser(federation, province) for province in Province]
    done = []
    for number in range(times):
        compromiser = compromisers[number % len(compromisers)]
        compromiser.prepare()
        done.append(compromiser.run())
    return done


def _was_right(call: Call, revoked: set[str]) -> bool:
    """Whether what was turned away was signed by a key that had been revoked."""
    return (call.verdict, call.reason) == ("rejected", KEY_REVOKED) and call.kid in revoked


def _p99(ordered: Sequence[float]) -> float:
    """The slowest of a hundred; of fewer, the slowest."""
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
