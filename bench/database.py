"""What a ledger's database takes: commits and entries a second of several writers, and bytes for each entry.

A process commits one group after the other, so what limits it is how long one commit takes. Several processes do not
commit faster: each holds the log from the moment at which it is given its position until that is on disk, so that
entries stand in the order of commits. What grows are the groups. Both ends are measured: one decision in each commit,
and as many as a group has at most. Writers are processes of their own and hold nothing else up; each decision has a
replay key never used before. They and the server share all cores there are, and every commit waits for the disk.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from bench.figures import Figure
from bench.log import notary_of, verification_entries
from bench.members import NOW
from gateway.core.encoding import b64url_encode, new_name
from gateway.core.entries import SealedEntry
from gateway.core.jose import generate_key
from gateway.ledger import MAX_GROUP
from gateway.storage import LedgerEntry, Outcome
from gateway.storage.opening import open_sqlite
from gateway.storage.postgres_opening import open_postgres
from gateway.storage.stores import Stores
from tests.postgres import Server, find_binaries

ENTRIES: Final = 50_000
SECONDS: Final = 4.0
WRITERS: Final = (1, 2, 4)
_PLACE: Final = Path(__file__).parent / "out"
_SIZES: Final = (
    "SELECT sum(pg_table_size(c.oid)), sum(pg_indexes_size(c.oid)) FROM pg_class c WHERE c.relkind = 'r'"
    " AND (c.relname LIKE 'entries%' OR c.relname = 'tiles')"
)


def measure(
    say: Callable[[str], None],
    entries: int = ENTRIES,
    seconds: float = SECONDS,
    writers: Sequence[int] = WRITERS,
) -> list[Figure]:
    """Measure a SQLite file, and a PostgreSQL server where there is one."""
    _PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="database-", dir=_PLACE) as place, ExitStack() as opened:
        folder = Path(place)
        say("waiting for the disk")
        figures = [Figure(metric="disk_sync_p50_ms", value=_sync_ms(folder, seconds / 4), unit="ms")]
        say(f"SQLite: {entries:,} entries, then commits")
        figures += _sqlite(folder, entries, seconds)
        binaries = find_binaries()
        if binaries is None:
            say("there is no PostgreSQL server on this machine")
            return figures
        server = opened.enter_context(closing(Server(binaries, durable=True)))
        server.initialise()
        server.start()
        say(f"PostgreSQL: {entries:,} entries, then commits of {', '.join(map(str, writers))} writers")
        return [*figures, *_postgres(server, folder, entries, seconds, writers)]


def _sync_ms(folder: Path, seconds: float) -> float:
    """Append a page to a file again and again, each time until it is on disk: what no database can go below."""
    took: list[float] = []
    with (folder / "sync").open("wb", buffering=0) as file:
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until or not took:
            file.write(bytes(8192))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1_000


# -- each store -------------------------------------------------------------------------------------------------------


def _sqlite(folder: Path, entries: int, seconds: float) -> Iterator[Figure]:
    file = folder / "size.sqlite"
    with closing(open_sqlite(file)):
        pass  # closing takes in the write-ahead log
    empty = file.stat().st_size
    with closing(open_sqlite(file)) as stores:
        _fill(stores, entries)
    yield Figure(metric="entry_bytes_sqlite", value=(file.stat().st_size - empty) / entries, unit="B")
    with _writers(1, str(folder / "commits.sqlite")) as writers:
        yield from _commits("sqlite", _write_together(writers, seconds, 1))
        yield _entries("sqlite", _write_together(writers, seconds, MAX_GROUP))


def _postgres(server: Server, folder: Path, entries: int, seconds: float, counts: Sequence[int]) -> Iterator[Figure]:
    url = server.new_database()
    with closing(open_postgres(url, folder / "size.mark")) as stores:
        ((began,),) = server.ask("SELECT pg_current_wal_lsn()")
        _fill(stores, entries)
        ((logged,),) = server.ask(f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{began}')::bigint")
    ((table, indexes),) = server.ask(_SIZES, url)
    for name, size in (("entry", int(str(table)) + int(str(indexes))), ("entry_index", indexes), ("entry_wal", logged)):
        yield Figure(metric=f"{name}_bytes_postgres", value=int(str(size)) / entries, unit="B")
    with _writers(max(counts), url, str(folder / "size.mark")) as writers:
        for count in counts:
            yield from _commits("postgres", _write_together(writers[:count], seconds, 1), f"_{count}")
        for count in counts:
            yield _entries("postgres", _write_together(writers[:count], seconds, MAX_GROUP), f"_{count}")


def _commits(store: str, written: _Written, writers: str = "") -> Iterator[Figure]:
    yield Figure(metric=f"commits_per_s_{store}{writers}", value=written.commits_per_s, unit="1/s")
    for percent in (50, 99):
        value = written.percentile_ms(percent)
        yield Figure(metric=f"commit_p{percent}_ms_{store}{writers}", value=value, unit="ms")


def _entries(store: str, written: _Written, writers: str = "") -> Figure:
    return Figure(metric=f"entries_per_s_{store}{writers}", value=written.commits_per_s * written.group, unit="1/s")


def _fill(stores: Stores, count: int) -> None:
    """Write entries in groups, and their tree. Replay keys are left out: they last for minutes, entries for years."""
    made = verification_entries()
    for begin in range(0, count, MAX_GROUP):
        stores.log.commit([LedgerEntry(entry=next(made)) for _ in range(min(MAX_GROUP, count - begin))])
    notary_of(stores, generate_key()).tick()


# -- writers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What writers wrote at one time."""

    seconds: float
    group: int
    took: Sequence[float]
    """How long each commit took, in seconds, shortest first."""

    @property
    def commits_per_s(self) -> float:
        return len(self.took) / self.seconds

    def percentile_ms(self, percent: int) -> float:
        return self.took[min(len(self.took) - 1, len(self.took) * percent // 100)] * 1_000


@contextmanager
def _writers(count: int, *place: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Start so many writers, and wait until each has a connection."""
    command = [sys.executable, "-m", "bench.database", *place]
    with ExitStack() as opened:
        writers = []
        for _ in range(count):
            writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
            writers.append(opened.enter_context(writer))
            assert writer.stdin is not None
            opened.callback(writer.stdin.close)  # upon which it ends
        for writer in writers:
            _told(writer)
        yield writers


def _write_together(writers: Sequence[subprocess.Popen[str]], seconds: float, group: int) -> _Written:
    """Have them all commit groups of that size for so long."""
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(f"{seconds} {group}\n")
        writer.stdin.flush()
    took = sorted(each for writer in writers for each in json.loads(_told(writer)))
    return _Written(seconds=seconds, group=group, took=took)


def _told(writer: subprocess.Popen[str]) -> str:
    assert writer.stdout is not None
    line = writer.stdout.readline()
    if not line:
        raise RuntimeError("a writer ended before it was to")
    return line


def _write(place: str, mark: str | None = None) -> None:
    """Be a writer: do what each line says, and tell how long each commit took."""
    stores = open_sqlite(Path(place)) if mark is None else open_postgres(place, Path(mark))
    with closing(stores):
        made = _alike()
        print(json.dumps([_commit(stores, made, 1)]), flush=True)  # makes the connection, and the part of the table
        for line in sys.stdin:
            seconds, group = line.split()
            took: list[float] = []
            until = time.perf_counter() + float(seconds)
            while time.perf_counter() < until:
                took.append(_commit(stores, made, int(group)))
            print(json.dumps(took), flush=True)


def _alike() -> Iterator[SealedEntry]:
    """Entries that differ in what is never the same: made in no time, so that committing them is all that takes any."""
    one = next(verification_entries())
    old = one.index.entry_id.encode("ascii")
    while True:
        name, person = new_name(os.urandom(16)), b64url_encode(os.urandom(32))
        index = one.index._replace(entry_id=name, person=person)
        yield SealedEntry(raw=one.raw.replace(old, name.encode("ascii")), index=index)


def _commit(stores: Stores, made: Iterator[SealedEntry], count: int) -> float:
    items = [_decision(next(made)) for _ in range(count)]
    began = time.perf_counter()
    committed = stores.log.commit(items)
    took = time.perf_counter() - began
    assert all(each.outcome is Outcome.WRITTEN for each in committed)
    return took


def _decision(entry: SealedEntry) -> LedgerEntry:
    return LedgerEntry(
        entry=entry,
        otherwise=lambda _outcome: entry,
        replay_key=b64url_encode(os.urandom(32)),
        replay_until=NOW + timedelta(minutes=10),
        request=b64url_encode(os.urandom(32)),
    )


if __name__ == "__main__":
    _write(*sys.argv[1:])
