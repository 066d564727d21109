"""The ledger when its store is slow or cannot write; it finds out by itself when it can again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway import ledger
from gateway.clock import system_world
from gateway.core.entries import Entry, Kind, seal
from gateway.core.reasons import Overloaded, Unavailable
from gateway.ledger import Ledger
from gateway.storage import Committed, LedgerEntry, Outcome, StorageError
from tests.e2e.links import wait_for

ENTRY = LedgerEntry(entry=seal(Entry(kind=Kind.TRUST, at=datetime(2026, 11, 23, tzinfo=UTC), body={})))


class Disk:
    """A store that can be full."""

    def __init__(self) -> None:
        self.is_full = False
        self.written = 0
        self.tried = 0
        self.begun = 0
        self.turn = threading.Event()
        """While it is not set, a group waits."""
        self.turn.set()

    def commit(self, group: Sequence[LedgerEntry]) -> Sequence[Committed]:
        self.begun += 1
        self.turn.wait()
        self._write()
        begin, self.written = self.written, self.written + len(group)
        return [Committed(outcome=Outcome.WRITTEN, log_id="log", position=begin + each) for each in range(len(group))]

    def forget_replays(self, before: datetime) -> int:
        return 0

    def check_writable(self) -> None:
        self.tried += 1
        self._write()

    def _write(self) -> None:
        if self.is_full:
            raise StorageError("the disk is full")


@contextmanager
def opened(disk: Disk) -> Iterator[Ledger]:
    made = Ledger(disk, system_world(), lambda: None)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "TRY_AGAIN_SECONDS", 0.01)


def test_what_cannot_be_written_is_refused_and_the_ledger_says_so() -> None:
    disk = Disk()
    with opened(disk) as made:
        assert made.record(ENTRY).position == 0
        found = [made.is_open]
        disk.is_full = True
        with pytest.raises(Unavailable):
            made.record(ENTRY)
        found.append(made.is_open)
    assert found == [True, False]
    assert disk.written == 1


def test_it_finds_out_by_itself_when_there_is_room_again() -> None:
    disk = Disk()
    with opened(disk) as made:
        disk.is_full = True
        with pytest.raises(Unavailable):
            made.record(ENTRY)
        wait_for(lambda: disk.tried >= 2, what="trying again and again")
        assert not made.is_open
        disk.is_full = False
        wait_for(lambda: made.is_open, what="finding out")
        assert made.record(ENTRY).position == 0


def test_a_group_that_is_written_shows_it_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "TRY_AGAIN_SECONDS", 3_600.0)
    disk = Disk()
    with opened(disk) as made:
        disk.is_full = True
        with pytest.raises(Unavailable):
            made.record(ENTRY)
        disk.is_full = False
        assert made.record(ENTRY).position == 0
        assert made.is_open
    assert disk.tried == 0


def test_while_all_is_well_nothing_is_tried() -> None:
    disk = Disk()
    with opened(disk) as made:
        made.record(ENTRY)
        made.record(ENTRY)
        assert made.is_open
    assert disk.tried == 0


def test_a_full_queue_is_told_at_once_and_takes_more_when_it_has_been_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MAX_QUEUE", 3)
    disk = Disk()
    disk.turn.clear()
    with opened(disk) as made, ThreadPoolExecutor(2) as pool:
        first = pool.submit(made.record, ENTRY)
        wait_for(lambda: disk.begun == 1, what="the first being written")
        waiting = pool.submit(made.record_all, [ENTRY] * 3)
        wait_for(lambda: made._queued == 3, what="three waiting")
        with pytest.raises(Overloaded):
            made.record(ENTRY)
        disk.turn.set()
        assert [each.position for each in (first.result(), *waiting.result())] == [0, 1, 2, 3]
        assert made.record(ENTRY).position == 4
    assert disk.written == 5


def test_decisions_of_one_caller_are_told_in_order_however_many() -> None:
    disk = Disk()
    count = 2 * ledger.MAX_GROUP + 1
    with opened(disk) as made:
        assert [each.position for each in made.record_all([ENTRY] * count)] == list(range(count))
        assert made.record_all([]) == []


def test_single_decisions_go_before_those_of_batches_and_batches_are_written_one_by_one() -> None:
    disk = Disk()
    disk.turn.clear()
    with opened(disk) as made, ThreadPoolExecutor(4) as pool:
        first = pool.submit(made.record, ENTRY)
        wait_for(lambda: disk.begun == 1, what="the first being written")
        batches = []
        for count in (3, 2):
            batches.append(pool.submit(made.record_all, [ENTRY] * count))
            wait_for(lambda: len(made._batches) == len(batches), what="the batch waiting")
        single = pool.submit(made.record, ENTRY)
        wait_for(lambda: made._queued == 6, what="all of them waiting")
        disk.turn.set()
        assert first.result().position == 0
        assert single.result().position == 1
        assert [[each.position for each in batch.result()] for batch in batches] == [[2, 3, 4], [5, 6]]
    assert disk.begun == 4


def test_a_batch_is_not_passed_over_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MAX_PASSED_OVER", 2)
    disk, groups = Disk(), []
    commit = disk.commit

    def busy(group: Sequence[LedgerEntry]) -> Sequence[Committed]:
        groups.append(len(group))
        if len(groups) == 1:
            running.append(pool.submit(made.record_all, [ENTRY] * 10))
            wait_for(lambda: len(made._batches) == 1, what="the batch waiting")
        if len(groups) < 6:  # whenever a group is written, a single decision comes
            running.append(pool.submit(made.record, ENTRY))
            wait_for(lambda: len(made._single) == 1, what="another waiting")
        return commit(group)

    monkeypatch.setattr(disk, "commit", busy)
    running: list[Future[Any]] = []
    with opened(disk) as made, ThreadPoolExecutor(8) as pool:
        made.record(ENTRY)
        wait_for(lambda: len(groups) == 6, what="the end")
        for each in running:
            each.result()
    assert groups == [1, 1, 1, 11, 1, 1]


def test_a_closed_ledger_takes_nothing_more() -> None:
    disk = Disk()
    with opened(disk) as made:
        made.record(ENTRY)
    assert not made.is_open
    with pytest.raises(Unavailable):
        made.record(ENTRY)
