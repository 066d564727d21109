"""A log that was edited is never clean, and what was done to it is named with its position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import log_audit
from gateway.core.entries import (
    MIN_RETENTION,
    Entry,
    Erasure,
    Keep,
    Kind,
    consent_entry,
    retention_entry,
    runs_of,
    seal,
)
from gateway.core.log_audit import Fault, Finding, Head, LogAudit, Page, Row, audit_log, audit_tiles
from gateway.core.merkle import EMPTY_ROOT, Hasher, append, leaf_hash

LOGGED = datetime(2026, 1, 1, tzinfo=UTC)
ERASED = LOGGED + timedelta(days=1_200)
SIZE = 40


def entry(number: int) -> bytes:
    return written(LOGGED + timedelta(seconds=number), number)


def written(at: datetime, number: int) -> bytes:
    return seal(consent_entry(at=at, consent_id=f"c-{number}", service="s", matter="M", event="recorded")).raw


def erasing(positions: Iterable[int], *, keep: Keep = Keep.DISCLOSURE, early: timedelta = timedelta(0)) -> bytes:
    before = ERASED - MIN_RETENTION.get(keep, timedelta(0)) + early
    return seal(retention_entry(Erasure(keep=keep, before=before, positions=runs_of(positions)), at=ERASED)).raw


@dataclass
class Store:
    """A log as somebody finds it: what was logged and signed, then edited."""

    rows: dict[int, bytes]
    leaves: list[bytes]
    heads: list[Head]
    size: int
    columns: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def audit(self, page: int = 7) -> LogAudit:
        return audit_log(lambda: self.pages(page), self.size, self.heads)

    def pages(self, width: int) -> Iterator[Page]:
        end = max(self.size, *(position + 1 for position in self.rows), 0) if self.rows else self.size
        for begin in range(0, end, width):
            rows = [
                Row(position=each, raw=self.rows[each], contradictions=self.columns.get(each, ()))
                for each in range(begin, min(begin + width, end))
                if each in self.rows
            ]
            yield Page(begin=begin, end=min(begin + width, end), rows=rows, leaves=self.leaves[begin : begin + width])

    def edit(self, position: int, raw: bytes) -> None:
        self.rows[position] = raw

    def renumber(self, rows: Sequence[bytes]) -> None:
        self.rows = dict(enumerate(rows))


def logged(entries: Sequence[bytes], heads: Iterable[int] | None = None) -> Store:
    leaves = [leaf_hash(raw) for raw in entries]
    sizes = [10, 25, len(entries)] if heads is None else heads
    return Store(
        rows=dict(enumerate(entries)),
        leaves=leaves,
        heads=[Head(size=size, root=root_of(leaves[:size]), signed_at=ERASED) for size in sizes],
        size=len(entries),
    )


def root_of(leaves: Iterable[bytes]) -> bytes:
    hasher = Hasher()
    for leaf in leaves:
        hasher.add(leaf)
    return hasher.root()


@pytest.fixture
def store() -> Store:
    return logged([entry(number) for number in range(SIZE)])


def told(audit: LogAudit) -> list[tuple[Fault, int, int]]:
    return [(each.fault, each.begin, each.end) for each in audit.findings]


# -- nothing wrong ----------------------------------------------------------------------------------------------------


def test_a_log_as_it_was_signed_is_clean(store: Store) -> None:
    audit = store.audit()
    assert audit == LogAudit(size=SIZE, entries=SIZE, erased=0, heads=3, covered=SIZE, findings=(), is_cut=False)
    assert audit.is_clean


@pytest.mark.parametrize("width", [1, 9, SIZE, 1_000])
def test_pages_may_have_any_length(store: Store, width: int) -> None:
    assert store.audit(width).is_clean
    store.edit(17, entry(99))
    assert told(store.audit(width)) == [(Fault.CHANGED, 17, 18)]


def test_a_log_without_entries_is_clean() -> None:
    assert audit_log(tuple, 0, []).is_clean
    assert audit_log(tuple, 0, [Head(size=0, root=EMPTY_ROOT, signed_at=ERASED)]).is_clean


def test_entries_past_the_last_head_are_told_and_no_fault() -> None:
    store = logged([entry(number) for number in range(SIZE)], heads=[10, 30])
    audit = store.audit()
    assert audit.is_clean
    assert told(audit) == [(Fault.UNCOVERED, 30, SIZE)]
    store.leaves = store.leaves[:33]  # the tree follows in a moment
    assert store.audit().is_clean


def test_a_log_is_read_once_when_all_is_well(store: Store) -> None:
    read = 0

    def pages() -> Iterator[Page]:
        nonlocal read
        read += 1
        yield from store.pages(7)

    assert audit_log(pages, store.size, store.heads).is_clean
    assert read == 1


# -- one edit ---------------------------------------------------------------------------------------------------------


def test_a_changed_entry_is_named(store: Store) -> None:
    store.edit(17, entry(99))
    audit = store.audit()
    assert told(audit) == [(Fault.CHANGED, 17, 18)]
    assert not audit.is_clean
    assert audit.heads == 3  # the tree is what was signed


def test_a_removed_entry_is_named(store: Store) -> None:
    del store.rows[17], store.rows[18]
    assert told(store.audit()) == [(Fault.REMOVED, 17, 19)]


def test_entries_that_changed_places_are_named_with_where_they_belong(store: Store) -> None:
    store.rows[5], store.rows[30] = store.rows[30], store.rows[5]
    assert store.audit().findings == (
        Finding(fault=Fault.REORDERED, begin=5, end=6, source=30),
        Finding(fault=Fault.REORDERED, begin=30, end=31, source=5),
    )


def test_a_copy_over_another_entry_is_named_with_what_it_destroyed(store: Store) -> None:
    store.edit(17, entry(3))
    assert set(store.audit().findings) == {
        Finding(fault=Fault.REORDERED, begin=17, end=18, source=3),
        Finding(fault=Fault.REMOVED, begin=17, end=18),
    }


def test_an_inserted_entry_shifts_the_others(store: Store) -> None:
    rows = list(store.rows.values())
    store.renumber([*rows[:17], entry(99), *rows[17:]])
    assert store.audit().findings == (
        Finding(fault=Fault.INSERTED, begin=17, end=18),
        Finding(fault=Fault.REORDERED, begin=18, end=SIZE, source=17),
        Finding(fault=Fault.BEYOND, begin=SIZE, end=SIZE + 1, source=SIZE - 1),
    )


def test_a_removed_entry_whose_gap_was_closed_is_named(store: Store) -> None:
    rows = list(store.rows.values())
    store.renumber([*rows[:17], *rows[18:]])
    assert set(store.audit().findings) == {
        Finding(fault=Fault.REMOVED, begin=17, end=18),
        Finding(fault=Fault.REORDERED, begin=17, end=SIZE - 1, source=18),
    }


def test_entries_beyond_the_log_are_named(store: Store) -> None:
    store.edit(SIZE, entry(99))
    assert told(store.audit()) == [(Fault.BEYOND, SIZE, SIZE + 1)]


def test_an_entry_before_the_first_position_is_named(store: Store) -> None:
    row = Row(position=-1, raw=entry(99))

    def pages() -> Iterator[Page]:
        yield Page(begin=-1, end=0, rows=[row], leaves=[])
        yield from store.pages(7)

    assert told(audit_log(pages, store.size, store.heads)) == [(Fault.BEYOND, -1, 0)]


def test_an_entry_that_was_moved_out_of_the_log_is_not_called_destroyed(store: Store) -> None:
    store.edit(SIZE, store.rows.pop(17))
    assert store.audit().findings == (Finding(fault=Fault.BEYOND, begin=SIZE, end=SIZE + 1, source=17),)


def test_a_column_that_contradicts_its_entry_is_named(store: Store) -> None:
    store.columns[17] = ("matter", "verdict")
    assert store.audit().findings == (Finding(fault=Fault.COLUMN, begin=17, end=18, columns=("matter", "verdict")),)


def test_a_changed_entry_that_cannot_be_read_is_named_once(store: Store) -> None:
    store.edit(17, b"{}")
    store.columns[17] = ("entry",)
    assert told(store.audit()) == [(Fault.CHANGED, 17, 18)]


def test_a_tile_that_is_not_what_was_signed_is_told_from_a_changed_entry(store: Store) -> None:
    store.leaves[17] = leaf_hash(entry(99))
    assert told(store.audit()) == [(Fault.TREE, 17, 18)]


def test_a_tile_that_is_too_short_is_named(store: Store) -> None:
    del store.leaves[38:]
    assert told(store.audit()) == [(Fault.TREE, 38, SIZE)]


def test_a_tile_that_was_made_to_agree_with_a_changed_entry_is_told_by_the_head(store: Store) -> None:
    store.edit(17, entry(99))
    store.leaves[17] = leaf_hash(entry(99))
    assert told(store.audit()) == [(Fault.HEAD, 10, 25)]


def test_a_log_that_is_shorter_than_was_signed_is_told_by_the_head(store: Store) -> None:
    store.rows = {position: raw for position, raw in store.rows.items() if position < 30}
    store.leaves, store.size = store.leaves[:30], 30
    assert told(store.audit()) == [(Fault.HEAD, 30, SIZE)]


def test_a_head_with_another_root_is_named_and_takes_nothing_from_the_others(store: Store) -> None:
    store.heads[1] = Head(size=25, root=root_of([leaf_hash(entry(99))]), signed_at=ERASED)
    audit = store.audit()
    assert told(audit) == [(Fault.HEAD, 10, 25)]
    assert (audit.heads, audit.covered) == (2, SIZE)


def test_two_roots_at_one_size_are_named(store: Store) -> None:
    store.heads.append(Head(size=25, root=root_of([leaf_hash(entry(99))]), signed_at=ERASED))
    assert [each.fault for each in store.audit().findings] == [Fault.HEAD]


def test_a_head_of_no_entries_has_one_root(store: Store) -> None:
    store.heads.append(Head(size=0, root=store.heads[0].root, signed_at=ERASED))
    assert told(store.audit()) == [(Fault.HEAD, 0, 0)]


# -- several edits ----------------------------------------------------------------------------------------------------


def test_edits_in_different_places_are_all_named(store: Store) -> None:
    store.edit(3, entry(99))
    del store.rows[12]
    store.leaves[20] = leaf_hash(entry(98))
    store.rows[30], store.rows[31] = store.rows[31], store.rows[30]
    store.columns[36] = ("issuer",)
    assert told(store.audit()) == [
        (Fault.CHANGED, 3, 4),
        (Fault.REMOVED, 12, 13),
        (Fault.TREE, 20, 21),
        (Fault.REORDERED, 30, 31),
        (Fault.REORDERED, 31, 32),
        (Fault.COLUMN, 36, 37),
    ]


def test_a_wrong_tile_and_a_changed_entry_between_two_heads_leave_nothing_to_believe(store: Store) -> None:
    store.leaves[20] = leaf_hash(entry(98))
    store.edit(21, entry(99))
    assert (Fault.HEAD, 10, 25) in told(store.audit())


def test_what_is_named_has_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_audit, "MAX_NAMED", 5)
    for position in range(0, 12, 2):
        store.edit(position, entry(100 + position))
    audit = store.audit()
    assert audit.is_cut
    assert not audit.is_clean
    assert told(audit) == [(Fault.CHANGED, position, position + 1) for position in range(0, 10, 2)]


def test_a_log_cut_to_the_bound_is_not_clean(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_audit, "MAX_NAMED", 0)
    store.edit(3, entry(99))
    assert not store.audit().is_clean


# -- erasures ---------------------------------------------------------------------------------------------------------


def erased_log(erasure: bytes, gone: Iterable[int] = (3, 4, 9)) -> Store:
    store = logged([*(entry(number) for number in range(20)), erasure, entry(21)], heads=[10, 22])
    for position in gone:
        del store.rows[position]
    return store


def test_what_the_log_says_was_erased_may_be_gone() -> None:
    audit = erased_log(erasing([3, 4, 9])).audit()
    assert audit.is_clean
    assert (audit.erased, audit.entries) == (3, 19)


def test_one_entry_more_than_the_log_says_is_named() -> None:
    assert told(erased_log(erasing([3, 4, 9]), gone=(3, 4, 5, 9)).audit()) == [(Fault.REMOVED, 5, 6)]


def test_an_erasure_that_was_never_logged_excuses_nothing() -> None:
    store = erased_log(entry(20))
    store.edit(20, erasing([3, 4, 9]))
    assert told(store.audit()) == [(Fault.REMOVED, 3, 5), (Fault.REMOVED, 9, 10), (Fault.CHANGED, 20, 21)]


def test_an_erasure_excuses_nothing_that_was_written_after_it() -> None:
    assert told(erased_log(erasing([3, 4, 9, 21]), gone=(3, 4, 9, 21)).audit()) == [(Fault.REMOVED, 21, 22)]


@pytest.mark.parametrize(
    "unlawful",
    [
        erasing([3, 4, 9], early=timedelta(milliseconds=1)),
        erasing([3, 4, 9], keep=Keep.SECURITY, early=timedelta(days=1)),
        erasing([3, 4, 9], keep=Keep.PERMANENT),
    ],
)
def test_an_erasure_that_the_law_forbids_excuses_nothing(unlawful: bytes) -> None:
    assert told(erased_log(unlawful).audit()) == [(Fault.REMOVED, 3, 5), (Fault.REMOVED, 9, 10)]


def test_an_erasure_that_states_a_time_ahead_excuses_nothing() -> None:
    before = ERASED + timedelta(days=1)
    erasure = Erasure(keep=Keep.SECURITY, before=before, positions=runs_of([3, 4, 9]))
    ahead = seal(retention_entry(erasure, at=before + MIN_RETENTION[Keep.SECURITY])).raw
    assert told(erased_log(ahead).audit()) == [(Fault.REMOVED, 3, 5), (Fault.REMOVED, 9, 10)]


def test_an_erasure_that_no_head_covers_excuses_nothing() -> None:
    store = erased_log(erasing([3, 4, 9]))
    store.heads = store.heads[:1]
    assert told(store.audit()) == [(Fault.REMOVED, 3, 5), (Fault.REMOVED, 9, 10), (Fault.UNCOVERED, 10, 22)]


def test_an_erasure_whose_own_tile_is_wrong_still_counts() -> None:
    store = erased_log(erasing([3, 4, 9]))
    store.leaves[20] = leaf_hash(entry(99))
    assert told(store.audit()) == [(Fault.TREE, 20, 21)]


YOUNG = 8


@pytest.mark.parametrize(("days", "named"), [(2, []), (3, [(Fault.REMOVED, YOUNG + 3, YOUNG + 5)])])
def test_what_stands_between_entries_that_are_too_young_was_not_too_old(
    days: int, named: list[tuple[Fault, int, int]]
) -> None:
    """The erasure says that what it lets go was old enough. Where its neighbours on both sides are not, nor was it."""
    old = ERASED - MIN_RETENTION[Keep.DISCLOSURE] - timedelta(hours=1)
    store = logged(
        [
            *(written(old, number) for number in range(YOUNG)),
            *(written(old + timedelta(days=days), number) for number in range(YOUNG, 2 * YOUNG)),
            written(old, 2 * YOUNG),
            erasing([2, YOUNG, YOUNG + 3, YOUNG + 4, 2 * YOUNG - 1]),
        ],
        heads=[2 * YOUNG + 2],
    )
    for position in (2, YOUNG, YOUNG + 3, YOUNG + 4, 2 * YOUNG - 1):
        del store.rows[position]
    audit = store.audit()
    assert told(audit) == named
    assert audit.erased == 5 - 2 * len(named)


def test_where_nothing_stood_before_what_was_erased_what_follows_tells() -> None:
    assert told(erased_log(erasing([0, 1]), gone=[0, 1]).audit()) == []
    store = logged([written(ERASED, 0), written(ERASED, 1), erasing([0])], heads=[3])
    del store.rows[0]
    assert told(store.audit()) == [(Fault.REMOVED, 0, 1)]


def test_an_erasure_of_a_shorter_class_may_come_sooner() -> None:
    assert erased_log(erasing([3, 4, 9], keep=Keep.SECURITY)).audit().is_clean


def test_a_wrong_tile_at_an_erased_position_is_told_by_the_head() -> None:
    store = erased_log(erasing([3, 4, 9]))
    store.leaves[4] = leaf_hash(entry(99))
    assert (Fault.HEAD, 0, 10) in told(store.audit())


def test_an_entry_put_in_place_of_an_erased_one_is_named() -> None:
    store = erased_log(erasing([3, 4, 9]))
    store.edit(4, entry(99))
    assert told(store.audit()) == [(Fault.INSERTED, 4, 5)]


def test_an_erasure_that_was_renumbered_still_counts() -> None:
    store = erased_log(erasing([3, 4, 9]))
    store.rows[19], store.rows[20] = store.rows[20], store.rows[19]
    assert store.audit().findings == (
        Finding(fault=Fault.REORDERED, begin=19, end=20, source=20),
        Finding(fault=Fault.REORDERED, begin=20, end=21, source=19),
    )


def test_an_entry_that_only_looks_like_an_erasure_excuses_nothing() -> None:
    store = erased_log(seal(Entry(kind=Kind.RETENTION, at=ERASED, body={"steps": [3, 2]})).raw)
    assert (Fault.REMOVED, 3, 5) in told(store.audit())


# -- tiles above the leaves -------------------------------------------------------------------------------------------


class Tiles:
    def __init__(self, size: int) -> None:
        self.held: dict[tuple[int, int], bytes] = {}
        self.held = dict(append(0, [leaf_hash(b"%d" % number) for number in range(size)], self))

    def tile(self, level: int, number: int) -> bytes:
        return self.held.get((level, number), b"")


def test_tiles_that_follow_from_those_below_are_right() -> None:
    assert audit_tiles(1_000, Tiles(1_000)) == []


def test_a_tile_that_does_not_follow_from_those_below_is_named() -> None:
    tiles = Tiles(1_000)
    tiles.held[1, 0] = tiles.held[1, 0][:32] + bytes(32) + tiles.held[1, 0][64:]
    assert list(audit_tiles(1_000, tiles)) == [Finding(fault=Fault.TREE, begin=256, end=512)]
    del tiles.held[1, 0]
    assert [each.begin for each in audit_tiles(1_000, tiles)] == [0, 256, 512]


# -- any edit ---------------------------------------------------------------------------------------------------------


def change(store: Store, position: int) -> tuple[set[Fault], int]:
    store.edit(position, entry(10_000))
    return {Fault.CHANGED}, position


def remove(store: Store, position: int) -> tuple[set[Fault], int]:
    del store.rows[position]
    return {Fault.REMOVED}, position


def close_gap(store: Store, position: int) -> tuple[set[Fault], int]:
    rows = [raw for place, raw in store.rows.items() if place != position]
    store.renumber(rows)
    return {Fault.REMOVED}, position


def insert(store: Store, position: int) -> tuple[set[Fault], int]:
    rows = list(store.rows.values())
    store.renumber([*rows[:position], entry(10_000), *rows[position:]])
    return {Fault.INSERTED}, position


def swap(store: Store, position: int) -> tuple[set[Fault], int]:
    other = (position + 1) % store.size
    store.rows[position], store.rows[other] = store.rows[other], store.rows[position]
    return {Fault.REORDERED}, position


def spoil_tile(store: Store, position: int) -> tuple[set[Fault], int]:
    store.leaves[position] = leaf_hash(b"")
    return {Fault.TREE}, position


def forge_both(store: Store, position: int) -> tuple[set[Fault], int]:
    store.edit(position, entry(10_000))
    store.leaves[position] = leaf_hash(entry(10_000))
    return {Fault.HEAD}, position


def cut(store: Store, position: int) -> tuple[set[Fault], int]:
    store.rows = {place: raw for place, raw in store.rows.items() if place < position}
    store.leaves, store.size = store.leaves[:position], position
    return {Fault.HEAD}, position


EDITS: list[Callable[[Store, int], tuple[set[Fault], int]]] = [
    change,
    remove,
    close_gap,
    insert,
    swap,
    spoil_tile,
    forge_both,
    cut,
]


@settings(max_examples=300)
@given(
    size=st.integers(2, 80),
    heads=st.sets(st.integers(1, 80)),
    edit=st.sampled_from(EDITS),
    place=st.integers(0, 79),
    width=st.integers(1, 30),
)
def test_whatever_is_done_to_a_log_is_seen_and_named_where_it_was_done(
    size: int, heads: set[int], edit: Callable[[Store, int], tuple[set[Fault], int]], place: int, width: int
) -> None:
    store = logged([entry(number) for number in range(size)], heads={min(each, size) for each in heads} | {size})
    assert store.audit(width).is_clean
    faults, position = edit(store, place % size)
    audit = store.audit(width)
    assert not audit.is_clean
    assert any(each.fault in faults and each.begin <= position < each.end for each in audit.findings)
