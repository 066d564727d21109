"""What happens in ``test_partition``, run in a network of its own: two provinces are cut off, and rejoin.

Writes one JSON object a line for each stretch: what the load met there. Nobody does anything in between but move
cables and the clock: whatever has to happen for the federation to be whole again, it does by itself.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

from gateway.core.identifiers import Province
from tests.e2e.lab import RealFederation
from tests.e2e.load import Load, Tally
from tests.e2e.namespaces import ApartFederation

SH, JS, ZJ, AH = Province
AWAY = (JS, ZJ)
HERE = (SH, AH)
LONGER_THAN_A_CONFIGURATION = timedelta(minutes=12)
BEYOND_ALL_GRACE = timedelta(minutes=75)


def say(stretch: str, tally: Tally, **more: object) -> None:
    reasons = sorted({f"{call.verdict} {call.reason}" for call in tally.wrong})
    line = {
        "stretch": stretch,
        "calls": len(tally),
        "verdicts": tally.verdicts,
        "stale": sum(call.stale for call in tally.calls),
        "wrong": reasons,
        "explained": tally.explain(),
    }
    sys.stdout.write(json.dumps({**line, **more}) + "\n")
    sys.stdout.flush()


def play(federation: ApartFederation, load: Load) -> None:
    say("whole", load.at_least(2, 0))
    mark = load.mark()
    federation.network.part(AWAY)
    federation.advance(LONGER_THAN_A_CONFIGURATION, among=(HERE, AWAY))
    say("parted", load.at_least(2, mark))
    load.pause()
    federation.network.rejoin()
    federation.settle(within=90)
    mark = load.mark()
    load.resume()
    say("rejoined", load.at_least(2, mark), fresh=all_fresh(federation))


def play_long(federation: ApartFederation, load: Load) -> None:
    """Cut off for so long that neither side has a quorum to go by any more."""
    federation.network.part(AWAY)
    federation.advance(BEYOND_ALL_GRACE, among=(HERE, AWAY))
    mark = load.mark()
    say("beyond grace", load.at_least(2, mark))
    load.pause()
    federation.network.rejoin()
    federation.settle(within=90)
    mark = load.mark()
    load.resume()
    say("rejoined after grace", load.at_least(2, mark), fresh=all_fresh(federation))


def all_fresh(federation: RealFederation) -> bool:
    return all(federation.is_fresh(at, of) for at in Province for of in Province)


def main() -> None:
    folder, length = sys.argv[1:]
    with ApartFederation(Path(folder)) as federation, Load(federation) as load:
        play(federation, load)
        if length == "long":
            play_long(federation, load)


if __name__ == "__main__":
    main()
