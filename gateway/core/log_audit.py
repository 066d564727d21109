"""Recomputes a log from its entries, holds it against what was signed, and names what is wrong.

Whoever owns the machine can edit the store. What they cannot do is make the edited log hash to a root that was signed,
and seen by others, before. That something was edited follows from one comparison; this file is about telling what.
Rules that live here:

* Three accounts of every position are compared: the entry that stands there, the hash that the tree's tiles hold for
  it, and the roots that were signed. The signed root says which of the other two is true. Where neither is, no account
  is left of what stood there, and the range between two heads is all that can be named.
* An entry may be gone for one reason: a retention entry of this very log, itself under a signed head, names its
  position, and its class and age are such that the law lets it go. Nothing that came later excuses what is missing
  earlier. How old it was is counted back from when that head was signed, for a retention entry may state any time; and
  its neighbours tell: what stands between two entries of today is not from years ago, whoever says so.
* What was moved is told from what was changed: an entry that stands elsewhere has not been destroyed.
* It works through a log of any length page by page and keeps one hash for each level of the tree, one bit for each
  position whose entry is not in its place, and a bounded number of edits. Past those it says that there are more.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from gateway.core.entries import MIN_RETENTION, Erasure, Kind, day_of, milliseconds, read, read_erasure
from gateway.core.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Hasher, Tiles, leaf_hash
from gateway.core.reasons import Rejected

MAX_NAMED: Final = 10_000
"""Edits that are named. Whoever renumbers a million entries is not told a million times."""
_CHUNK: Final = 8_192
"""Positions whose bits are kept together."""
_NO_HASH: Final = bytes(HASH_BYTES)
"""In place of a hash that the tiles ought to hold and do not: no entry has it."""


class Fault(StrEnum):
    """What is wrong."""

    CHANGED = "changed"
    """The entry is not what was logged there."""
    REMOVED = "removed"
    """The entry is gone, and not because its time was over."""
    REORDERED = "reordered"
    """The entry belongs elsewhere in the log."""
    INSERTED = "inserted"
    """The entry was never logged; what was logged there stands elsewhere."""
    BEYOND = "beyond"
    """There are entries where the log has no positions."""
    COLUMN = "column"
    """A column by which the entry is looked up contradicts the entry."""
    TREE = "tree"
    """The tiles do not hold what was signed; the entries do."""
    HEAD = "head"
    """A head was signed that is not the log's, or over more entries than there are."""
    UNCOVERED = "uncovered"
    """No head covers the entries yet. No fault: the last ones always are so for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault, at positions side by side."""

    fault: Fault
    begin: int
    end: int
    """Before this one."""
    source: int | None = None
    """Of REORDERED: the position to which the first of the entries belongs."""
    columns: tuple[str, ...] = ()
    """Of COLUMN: which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An entry as it was found."""

    position: int
    raw: bytes
    contradictions: tuple[str, ...] = ()
    """Columns that say something else; see ``core.entries.contradictions``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Positions side by side."""

    begin: int
    end: int
    """Before this one."""
    rows: Sequence[Row]
    """The entries found at these positions."""
    leaves: Sequence[bytes]
    """The hashes that the tiles hold for them, from the first on; fewer where the tree has not so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A head of the log that was signed, or seen by somebody else."""

    size: int
    root: bytes
    signed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAudit:
    """What came of recomputing a log."""

    size: int
    entries: int
    """Found at positions of the log."""
    erased: int
    """Gone, and named by a retention entry."""
    heads: int
    """That are those of this log."""
    covered: int
    """Entries under the largest of them."""
    findings: tuple[Finding, ...]
    """By position."""
    is_cut: bool
    """Whether there are more than are named."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.is_cut and all(each.fault is Fault.UNCOVERED for each in self.findings)


def audit_log(pages: Callable[[], Iterable[Page]], size: int, heads: Iterable[Head]) -> LogAudit:
    """Recompute a log.

    Args:
        pages: gives the log from its first position on, without a gap; then, perhaps, pages beyond its size. It is
            asked twice again only where entries are not in their places, to find out where they went.
        size: how many entries the log has, as far as its keeper says.
        heads: those whose signatures hold, and those that others have seen.
    """
    work = _Audit(size, sorted(heads, key=lambda head: head.size))
    for page in pages():
        work.take(page)
    work.close()
    if work.is_amiss:
        for page in pages():
            work.locate(page)
        work.excuse()
        for page in pages():
            work.search(page)
    return work.result()


def audit_tiles(size: int, tiles: Tiles) -> Sequence[Finding]:
    """Find hashes of subtrees that are not those of the tiles below them: proofs made of them would not hold."""
    found: list[Finding] = []
    level = 1
    while count := size >> (TILE_HEIGHT * level):
        for number in range(count):
            below, hasher = tiles.tile(level - 1, number), Hasher()
            for at in range(0, TILE_WIDTH * HASH_BYTES, HASH_BYTES):
                hasher.add(below[at : at + HASH_BYTES].ljust(HASH_BYTES, b"\0"))
            place = number % TILE_WIDTH * HASH_BYTES
            if tiles.tile(level, number // TILE_WIDTH)[place : place + HASH_BYTES] != hasher.root():
                width = TILE_HEIGHT * level
                found.append(Finding(fault=Fault.TREE, begin=number << width, end=(number + 1) << width))
                if len(found) >= MAX_NAMED:
                    return found
        level += 1
    return found


class _Positions:
    """A set of positions: one bit each, and nothing where there are none."""

    def __init__(self) -> None:
        self._chunks: dict[int, int] = {}

    def add(self, begin: int, end: int) -> None:
        """Add positions side by side."""
        for chunk, mask in _masks(begin, end):
            self._chunks[chunk] = self._chunks.get(chunk, 0) | mask

    def remove(self, begin: int, end: int) -> int:
        """Take positions out; gives how many were in."""
        count = 0
        for chunk, mask in _masks(begin, end):
            held = self._chunks.get(chunk, 0)
            count += (held & mask).bit_count()
            if held & ~mask:
                self._chunks[chunk] = held & ~mask
            else:
                self._chunks.pop(chunk, None)
        return count

    def __contains__(self, position: int) -> bool:
        return bool(self._chunks.get(position // _CHUNK, 0) >> position % _CHUNK & 1)

    def __iter__(self) -> Iterator[int]:
        for chunk, bits in sorted(self._chunks.items()):
            left = bits
            while left:
                lowest = left & -left
                yield chunk * _CHUNK + lowest.bit_length() - 1
                left ^= lowest


def _masks(begin: int, end: int) -> Iterator[tuple[int, int]]:
    while begin < end:
        chunk, low = divmod(begin, _CHUNK)
        high = min(end - chunk * _CHUNK, _CHUNK)
        yield chunk, (1 << high) - (1 << low)
        begin = (chunk + 1) * _CHUNK


class _Gaps:
    """How old absent entries can be at most: no older than the elder of the two that stand around them.

    One day for all gaps side by side of the same day: entries follow each other in time, so these are few.
    """

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._days: list[int] = []
        self._open: int | None = None
        """Where the gap begins that has not ended yet."""
        self._last = b""
        """The entry before it."""

    def absent(self, position: int) -> None:
        """Note that there is no entry."""
        if self._open is None:
            self._open = position

    def present(self, raw: bytes) -> None:
        """Note the next entry that there is."""
        if self._open is not None:
            days = [day for day in (_day(self._last), _day(raw)) if day is not None]
            day = min(days, default=0)
            if not self._days or self._days[-1] != day:
                self._begins.append(self._open)
                self._days.append(day)
            self._open = None
        self._last = raw

    def older(self, begin: int, end: int, day: int) -> Iterator[tuple[int, int]]:
        """Give the stretches of positions at which what is absent may be of that day, or older."""
        place = bisect_right(self._begins, begin) - 1
        while begin < end:
            stop = min(end, self._begins[place + 1]) if place + 1 < len(self._begins) else end
            if place < 0 or self._days[place] <= day:
                yield begin, stop
            begin, place = stop, place + 1


def _day(raw: bytes) -> int | None:
    """Read the day of an entry, and nothing else of it; None: it has none."""
    match = _TIME.match(raw)
    return None if match is None else day_of(int(match[1]))


_TIME: Final = re.compile(rb'\{"at":([0-9]{1,15}),')
_SLACK_DAYS: Final = 1
"""Clocks of several processes differ, and a day is no exact time."""


@dataclass(frozen=True, slots=True)
class _Misfit:
    """An entry that is not the one whose hash the tiles hold for its position."""

    leaf: bytes
    """What the tiles hold."""
    found: bytes
    """Hash of the entry."""
    erasure: Erasure | None
    """What it erases, if it is a retention entry."""


class _Audit:
    """One log at work."""

    def __init__(self, size: int, heads: Sequence[Head]) -> None:
        self._size = size
        self._heads = heads
        self._next_head = 0
        self._true = Hasher()
        """Over the hashes in the tiles; up to the last head that held, over what was signed."""
        self._found: Hasher | None = None
        """Over the entries' own hashes, since they first differ from the tiles'. None: they do not."""
        self._good_heads = 0
        self._covered = 0
        self._wrong_heads: list[int] = []
        """Sizes of heads since the last good one that are not those of this log."""
        self._entries = 0
        self._gone = _Positions()
        """Positions whose own entry is not there, for whatever reason."""
        self._absent = _Positions()
        """Those of them without any entry."""
        self._gaps = _Gaps()
        self._misfits: dict[int, _Misfit] = {}
        self._unjudged: list[int] = []
        """Misfits since the last good head: the tiles may be wrong instead."""
        self._erasures: list[tuple[int, Erasure]] = []
        """Retention entries since the last good head: they count once one covers them."""
        self._signed_at: datetime | None = None
        """When the last good head was signed."""
        self._erased = 0
        self._findings: list[Finding] = []
        self._last: dict[tuple[object, ...], int] = {}
        """Of each kind of finding, the place of the last one."""
        self._is_cut = False
        self._outside: dict[int, bytes] = {}
        """Hashes of entries where the log has no positions."""
        self._places: dict[bytes, int] = {}
        """Where in the tree the hashes of misfits belong."""
        self._wanted: dict[int, bytes] = {}
        """What the tiles hold for positions without an entry that nothing excuses."""
        self._strays: set[bytes] = set()
        """What the tiles hold for one position, and stands at another."""

    # -- the first time through ----------------------------------------------------------------------------------------

    def take(self, page: Page) -> None:
        """Compare the three accounts of some positions."""
        rows = {row.position: row for row in page.rows}
        self._beyond(rows)
        for position in range(max(0, page.begin), min(page.end, self._size)):
            offset = position - page.begin
            leaf = page.leaves[offset] if offset < len(page.leaves) else None
            self._compare(position, leaf, rows.get(position))
            self._meet_heads(position + 1)

    def _beyond(self, rows: Mapping[int, Row]) -> None:
        for position, row in rows.items():
            if 0 <= position < self._size:
                continue
            if len(self._outside) < MAX_NAMED:
                self._outside[position] = leaf_hash(row.raw)
            else:
                self._is_cut = True

    def _compare(self, position: int, leaf: bytes | None, row: Row | None) -> None:
        if leaf is not None and len(leaf) != HASH_BYTES:
            leaf = _NO_HASH
        if row is None:
            # Nothing tells what stood here but the tiles; whether they tell the truth, the next head shows.
            self._gaps.absent(position)
            self._gone.add(position, position + 1)
            self._absent.add(position, position + 1)
            self._add(leaf or _NO_HASH, leaf or _NO_HASH)
            return
        self._entries += 1
        self._gaps.present(row.raw)
        found, fits = leaf_hash(row.raw), True
        if leaf is None and position >= self._last_size:
            leaf = found  # not in the tree yet
        if found != leaf:
            fits = False
            self._misfit(position, _Misfit(leaf or _NO_HASH, found, _erasure(row.raw)))
        elif erasure := _erasure(row.raw):
            self._erasures.append((position, erasure))
        if row.contradictions and (fits or row.contradictions != ("entry",)):
            self._name(Finding(fault=Fault.COLUMN, begin=position, end=position + 1, columns=tuple(row.contradictions)))
        self._add(leaf or _NO_HASH, found)

    def _misfit(self, position: int, misfit: _Misfit) -> None:
        if len(self._misfits) >= MAX_NAMED:
            self._is_cut = True
            return
        self._gone.add(position, position + 1)
        self._misfits[position] = misfit
        self._unjudged.append(position)

    def _add(self, leaf: bytes, found: bytes) -> None:
        if self._found is None and leaf != found:
            self._found = deepcopy(self._true)
        self._true.add(leaf)
        if self._found is not None:
            self._found.add(found)

    @property
    def _last_size(self) -> int:
        return self._heads[-1].size if self._heads else 0

    def _meet_heads(self, size: int) -> None:
        while self._next_head < len(self._heads) and self._heads[self._next_head].size <= size:
            head = self._heads[self._next_head]
            self._next_head += 1
            if head.size == size:
                self._meet(head)

    def _meet(self, head: Head) -> None:
        if self._true.root() == head.root:
            self._unjudged.clear()  # the tiles are what was signed: the entries are wrong
        elif self._found is not None and self._found.root() == head.root:
            self._true = self._found
            for position in self._unjudged:
                misfit = self._misfits.pop(position)
                if misfit.erasure is not None:
                    self._erasures.append((position, misfit.erasure))
                self._gone.remove(position, position + 1)
                self._name(Finding(fault=Fault.TREE, begin=position, end=position + 1))
            self._unjudged.clear()
        else:
            self._wrong_heads.append(head.size)
            return
        self._found = None
        self._name_wrong_heads()
        self._good_heads += 1
        self._covered, self._signed_at = head.size, head.signed_at
        for position, erasure in self._erasures:
            self._erase(position, erasure)
        self._erasures.clear()

    def _name_wrong_heads(self) -> None:
        """Name the first head that is not this log's: what follows may be a consequence."""
        if self._wrong_heads:
            self._name(Finding(fault=Fault.HEAD, begin=self._covered, end=self._wrong_heads[0]))
            self._wrong_heads.clear()

    def close(self) -> None:
        """Note what can be said only at the end."""
        empty = [head for head in self._heads if head.size == 0 and head.root != Hasher().root()]
        self._name_wrong_heads()
        for head in (*empty, *(head for head in self._heads if head.size > self._size)):
            self._name(Finding(fault=Fault.HEAD, begin=min(self._size, head.size), end=head.size))
        if self._last_size < self._size:
            self._name(Finding(fault=Fault.UNCOVERED, begin=self._last_size, end=self._size))

    # -- where entries went --------------------------------------------------------------------------------------------

    @property
    def is_amiss(self) -> bool:
        """Whether entries stand where they do not belong."""
        return bool(self._misfits or self._outside)

    def locate(self, page: Page) -> None:
        """Find the positions to which misfits belong, and what belongs where nothing stands."""
        belonging = self._belonging()
        for position, leaf in zip(range(page.begin, min(page.end, self._size)), page.leaves, strict=False):
            if leaf in belonging:
                self._places.setdefault(leaf, position)
            if position in self._absent and position in self._gone and len(self._wanted) < MAX_NAMED:
                self._wanted[position] = leaf

    def _belonging(self) -> frozenset[bytes]:
        return frozenset((*(misfit.found for misfit in self._misfits.values()), *self._outside.values()))

    def excuse(self) -> None:
        """Let retention entries count that were renumbered, and are true all the same."""
        for misfit in self._misfits.values():
            place = self._places.get(misfit.found)
            if misfit.erasure is not None and place is not None and place < self._covered:
                self._erase(place, misfit.erasure)

    def search(self, page: Page) -> None:
        """Find whether what does not stand in its place stands elsewhere."""
        wanted = self._lost()
        for row in page.rows:
            offset, found = row.position - page.begin, leaf_hash(row.raw)
            is_in_place = 0 <= offset < len(page.leaves) and page.leaves[offset] == found
            if found in wanted and not (is_in_place and row.position < self._size):
                self._strays.add(found)

    def _lost(self) -> frozenset[bytes]:
        return frozenset((*(misfit.leaf for misfit in self._misfits.values()), *self._wanted.values()))

    def _erase(self, position: int, erasure: Erasure) -> None:
        floor = MIN_RETENTION.get(erasure.keep)
        if floor is None or self._signed_at is None or erasure.before > self._signed_at - floor:
            return  # more than the law lets go
        day = day_of(milliseconds(erasure.before)) + _SLACK_DAYS
        for run in erasure.positions:
            # Of what was written after it, it cannot speak.
            for begin, end in self._gaps.older(run.start, min(run.stop, position), day):
                self._erased += self._gone.remove(begin, end)

    # -- telling -------------------------------------------------------------------------------------------------------

    def result(self) -> LogAudit:
        """Tell."""
        for position, misfit in self._misfits.items():
            self._judge(position, misfit)
        for position, found in self._outside.items():
            source = self._places.get(found)
            self._name(Finding(fault=Fault.BEYOND, begin=position, end=position + 1, source=source))
        for position in self._gone:
            if position in self._absent and self._wanted.get(position) not in self._strays:
                self._name(Finding(fault=Fault.REMOVED, begin=position, end=position + 1))
        return LogAudit(
            size=self._size,
            entries=self._entries,
            erased=self._erased,
            heads=self._good_heads,
            covered=self._covered,
            findings=tuple(sorted(self._findings, key=lambda finding: (finding.begin, finding.end, finding.fault))),
            is_cut=self._is_cut,
        )

    def _judge(self, position: int, misfit: _Misfit) -> None:
        source = self._places.get(misfit.found)
        is_lost = position in self._gone and misfit.leaf not in self._strays
        one = Finding(fault=Fault.CHANGED, begin=position, end=position + 1)
        if source is not None:
            self._name(replace(one, fault=Fault.REORDERED, source=source))
            if is_lost:
                self._name(replace(one, fault=Fault.REMOVED))
        else:
            self._name(one if is_lost else replace(one, fault=Fault.INSERTED))

    def _name(self, finding: Finding) -> None:
        """Add a fault; one that goes on where the last of its kind ended makes that one longer."""
        key = (finding.fault, finding.columns, None if finding.source is None else finding.source - finding.begin)
        place = self._last.get(key)
        if place is not None and self._findings[place].end == finding.begin and finding.fault is not Fault.HEAD:
            self._findings[place] = replace(self._findings[place], end=finding.end)
        elif len(self._findings) < MAX_NAMED:
            self._last[key] = len(self._findings)
            self._findings.append(finding)
        else:
            self._is_cut = True


def _erasure(raw: bytes) -> Erasure | None:
    """Read what an entry lets go; None: nothing."""
    if not raw.endswith(_RETENTION):
        return None  # most are not, and reading takes time
    try:
        return read_erasure(read(raw))
    except Rejected:
        return None


_RETENTION: Final = f'"kind":"{Kind.RETENTION}"}}'.encode()
