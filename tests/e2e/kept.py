"""What is left of a federation when it has ended: the logs in its databases, and what the others saw of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager

from gateway.config.reader import load_config
from gateway.core.checkpoint import kept_checkpoint
from gateway.core.entries import contradictions
from gateway.core.identifiers import Province
from gateway.core.log_audit import Head, LogAudit, Page, Row, audit_log, audit_tiles
from gateway.core.merkle import HASH_BYTES, TILE_WIDTH
from gateway.lab.charter import entity_ids
from gateway.lab.folder import LabFolder
from gateway.storage import EntryQuery, Log, LogBook, StoredEntry
from gateway.storage.opening import open_stores

PAGE = 1_000


@contextmanager
def kept_log(folder: LabFolder, province: Province) -> Iterator[LogBook]:
    """Open the log of a province that does not run."""
    with closing(open_stores(load_config(folder.config(province)))) as stores:
        yield stores.log


def all_entries(book: LogBook, log: Log) -> Sequence[StoredEntry]:
    """Every entry of a log, in order."""
    return [entry for begin in range(0, log.size, PAGE) for entry in book.read_entries(log.log_id, begin, begin + PAGE)]


def audit(book: LogBook, log: Log, seen: Iterable[str] = ()) -> LogAudit:
    """Recompute a log from its entries, and hold it against its heads and those that others have seen.

    Args:
        book: where it is.
        log: which.
        seen: heads of this log that were seen elsewhere, as they were signed.
    """
    tokens = [*seen]
    size = 0
    while found := book.checkpoints_from(log.log_id, size, PAGE):
        tokens += [each.token for each in found]
        size = found[-1].size + 1
    heads = [kept_checkpoint(token) for token in tokens]
    assert {head.log for head in heads} <= {log.log_id}, "a head of another log"
    known = [Head(size=head.size, root=head.root, signed_at=head.issued_at) for head in heads]
    assert not audit_tiles(log.tree_size, _Tiles(book, log.log_id))
    return audit_log(lambda: _pages(book, log), log.size, known)


def _pages(book: LogBook, log: Log) -> Iterator[Page]:
    for begin in range(0, log.size, TILE_WIDTH):
        end = min(begin + TILE_WIDTH, log.size)
        tile = book.tile(log.log_id, 0, begin // TILE_WIDTH)
        leaves = [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)][: end - begin]
        yield Page(begin=begin, end=end, rows=list(map(_row, book.read_entries(log.log_id, begin, end))), leaves=leaves)
    beyond = [each for each in book.list_entries(EntryQuery(), PAGE, newest_first=True) if each.log_id == log.log_id]
    for entry in beyond:
        if not 0 <= entry.position < log.size:
            yield Page(begin=entry.position, end=entry.position + 1, rows=[_row(entry)], leaves=[])


def _row(stored: StoredEntry) -> Row:
    return Row(position=stored.position, raw=stored.raw, contradictions=contradictions(stored.raw, stored.index))


class _Tiles:
    def __init__(self, book: LogBook, log_id: str) -> None:
        self._book = book
        self._log_id = log_id

    def tile(self, level: int, number: int) -> bytes:
        return self._book.tile(self._log_id, level, number)


def seen_by_others(folder: LabFolder, province: Province) -> Sequence[str]:
    """The newest heads that the other provinces have seen of a province's logs.

    None of them must have found a contradiction.
    """
    gateway = entity_ids(province).gateway
    tokens: list[str] = []
    for other in Province:
        if other is not province:
            with kept_log(folder, other) as book:
                assert [(fork.gateway, fork.kind) for fork in book.load_forks()] == []
                tokens += [each.token for each in book.load_seen(gateway)]
    return tokens
