"""Status lists: what holding forty million statuses costs, looking one up, and taking a new list in.

Four provinces have ten million credentials each, in a list of 2^23 places and one of 2^21, one in a hundred of them set
at random. What is held is measured in a process that does nothing else, by what the operating system says it has.
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from bench.core import ISSUER
from bench.figures import Figure
from bench.members import NOW
from gateway.core.jose import SoftwareKey, generate_key, load_pkcs8, sign_compact
from gateway.core.status_list import (
    STATUS_LIST_TYPE,
    StatusList,
    StatusReference,
    check_value,
    encode,
    read_status_list,
    status_list_claims,
)

PROVINCES: Final = 4
SIZES: Final = (2**23, 2**21)
ONE_IN: Final = 100
LOOKUPS: Final = 200_000
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def measure(say: Callable[[str], None], sizes: tuple[int, ...] = SIZES, lookups: int = LOOKUPS) -> list[Figure]:
    """Measure all three."""
    say(f"signing status lists of {sum(sizes):,} places")
    key = generate_key()
    tokens = [_token(key, size) for size in sizes]
    say("taking them in")
    began = time.perf_counter()
    lists = [_read(token, size, key) for token, size in zip(tokens, sizes, strict=True)]
    refresh_ms = (time.perf_counter() - began) * 1_000
    say("looking statuses up")
    lookup_us = _lookup_us(lists[0], lookups)
    say(f"holding {PROVINCES} provinces' lists")
    with tempfile.TemporaryDirectory(prefix="mrg-bench-") as folder:
        (Path(folder) / "key.pem").write_bytes(key.to_pkcs8())
        for number, (token, size) in enumerate(zip(tokens, sizes, strict=True)):
            (Path(folder) / f"{number}.{size}.jwt").write_text(token, "ascii")
        command = [sys.executable, "-m", "bench.status", folder]
        held = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ourselves
    return [
        Figure(metric="status_memory_mb_40m", value=float(held.stdout), unit="MB", target=12, at_most=True),
        Figure(metric="status_lookup_us", value=lookup_us, unit="us", target=2, at_most=True),
        Figure(metric="status_refresh_ms_10m", value=refresh_ms, unit="ms"),
    ]


def _token(key: SoftwareKey, size: int) -> str:
    entries = bytearray(size // 4)
    for _ in range(size // ONE_IN):
        place = int.from_bytes(os.urandom(4)) % size
        entries[place >> 2] |= 1 << (place & 3) * 2
    claims = status_list_claims(
        uri=_uri(size),
        issuer=ISSUER,
        seq=int(NOW.timestamp() * 1_000),
        now=NOW,
        ttl=timedelta(seconds=300),
        lifetime=timedelta(hours=12),
        lst=encode(bytes(entries)),
    )
    return sign_compact(STATUS_LIST_TYPE, claims, key)


def _uri(size: int) -> str:
    return f"{ISSUER}/status/{size}"


def _read(token: str, size: int, key: SoftwareKey) -> StatusList:
    return read_status_list(
        token,
        uri=_uri(size),
        issuer=ISSUER,
        size=size,
        key=lambda _kid: key.public,
        now=NOW,
        clock_skew=timedelta(seconds=60),
        floor=None,
    )


def _lookup_us(held: StatusList, count: int) -> float:
    """From a reference to what it says, in a snapshot of lists as a verification has it."""
    lists = {held.uri: held}
    usable = [place for place in range(0, held.size, max(1, held.size // 4_096)) if held.at(place) == 0]
    references = [StatusReference(uri=held.uri, index=place) for place in usable]
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        done = 0
        while done < count:
            for reference in references:
                check_value(lists[reference.uri].at(reference.index))
            done += len(references)
        rounds.append((time.perf_counter() - began) / done)
    return statistics.median(rounds) * 1_000_000


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES


def _hold(folder: Path) -> float:
    """Take the lists of a folder in once for each province; gives by how many megabytes this process has grown."""
    key = load_pkcs8((folder / "key.pem").read_bytes())
    files = {file: int(file.name.split(".")[1]) for file in sorted(folder.glob("*.jwt"))}
    # One province beforehand, and kept: what reading a list leaves behind in the allocator is left behind only once.
    first = [_read(file.read_text("ascii"), size, key) for file, size in files.items()]
    before = _resident()
    held = [_read(file.read_text("ascii"), size, key) for _ in range(PROVINCES) for file, size in files.items()]
    growth = _resident() - before
    del first, held
    return growth / 1_000_000


if __name__ == "__main__":
    sys.stdout.write(f"{_hold(Path(sys.argv[1]))}\n")
