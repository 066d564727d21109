"""Where a server's time goes: what each function takes of its core, while a load is on it.

The profiler runs inside the server, counts the time that each thread is on a core, and costs about a microsecond a
call: what consists of many small calls looks worse than it is. Two lists are printed, by what functions take themselves
and by what they take with what they call; both are in ``bench/out/profile-*.pstats`` for ``python -m pstats`` too.
"""

from __future__ import annotations

import pstats
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import throughput
from bench.rig import Rig
from bench.servers import Process

SECONDS: Final = 4.0
SHOWN: Final = 45
WRITE_SECONDS: Final = 30.0
_OUT: Final = Path(__file__).parent / "out"


def profile(rig: Rig, names: Sequence[str], seconds: float) -> None:
    """Profile the server of each of these loads; the rig must profile its servers.

    Raises:
        RuntimeError: a server did not say what it noted.
    """
    _OUT.mkdir(exist_ok=True)
    for leg in throughput.legs_for(names):
        rounds = throughput.Rounds(rig, [leg], seconds)
        rounds.next("not profiled")
        file = _OUT / f"profile-{leg.names[0]}.pstats"
        for process in rig.processes.values():
            process.tell_profiler("start")
        rounds.next("profiled")
        for name, process in rig.processes.items():
            _collect(process, file)
            print(f"\n{leg.names[0]}, the process of {name}: {file}")
            stats = pstats.Stats(str(file))
            stats.strip_dirs().sort_stats("tottime").print_stats(SHOWN)
            stats.sort_stats("cumulative").print_stats(SHOWN)


def _collect(process: Process, file: Path) -> None:
    done = file.with_name(f"{file.name}.done")
    done.unlink(missing_ok=True)
    process.tell_profiler(str(file))
    deadline = time.monotonic() + WRITE_SECONDS
    while not done.exists():
        if time.monotonic() > deadline:
            raise RuntimeError("the server does not say what it noted")
        time.sleep(0.05)
    done.unlink()
