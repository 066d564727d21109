"""Where a log is read from: a gateway that runs, the database of one that does not, or a file that was exported.

All three give the same: the logs with their signed heads, the trust documents to check those by, and the entries beside
the hashes that the tree holds for them. Nothing that a source gives is believed for being given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from recognition.v1 import audit_pb2, audit_pb2_grpc

from gateway.cli.connection import Connection
from gateway.core.entries import contradictions
from gateway.core.log_audit import MAX_NAMED, Page, Row
from gateway.core.merkle import HASH_BYTES, TILE_WIDTH, Tiles
from gateway.core.receipt import EvidenceBundle
from gateway.storage import EntryQuery, LogStore, StoredEntry, TrustStore

PAGE: Final = 1_000
"""Entries asked for at once."""
MAX_HEADS: Final = 64
"""Heads of one log that a running gateway is asked for, spread over it: between two of them a fault is looked for."""
_LOCAL_PAGE: Final = 4 * TILE_WIDTH


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundHead:
    """A head as it is kept, and others' word that they have seen it. Nothing was verified."""

    token: str
    cosignatures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLog:
    """A log as its keeper says it is."""

    log_id: str
    size: int
    heads: tuple[FoundHead, ...]
    """By size."""


class LogSource(Protocol):
    """Where logs are read from."""

    def logs(self) -> Sequence[FoundLog]:
        """Give the logs, oldest first. Raises Failure."""

    def trust(self) -> EvidenceBundle:
        """Give the trust documents, in a bundle that holds nothing else. Raises Failure."""

    def pages(self, log: FoundLog, begin: int = 0, end: int | None = None) -> Iterator[Page]:
        """Give a log from a position to before another, in order. Raises Failure."""

    def outside(self, log: FoundLog) -> Iterator[Page]:
        """Give what stands where the log has no positions: it should be nothing. Raises Failure."""

    def tiles(self, log: FoundLog) -> Tiles | None:
        """Give the log's tree, where all of it can be seen. Raises Failure."""


def trust_bundle(statements: Iterable[str], events: Iterable[str], charters: Iterable[str]) -> EvidenceBundle:
    """Put trust documents where keys are looked up in them."""
    return EvidenceBundle(
        receipt="", entry=b"", statements=tuple(statements), events=tuple(events), charters=tuple(charters)
    )


# -- a gateway that runs ----------------------------------------------------------------------------------------------


class ServedLogs:
    """The logs of a gateway that runs, as it gives them to its auditors."""

    def __init__(self, connected: Connection) -> None:
        self._connected = connected
        self._listed = list_logs(connected)
        heads = {each.log: tuple(self._heads(each)) for each in self._listed.logs}
        # The log grows meanwhile: it is as long as it is found to be after the last of the heads was read.
        self._logs = [
            FoundLog(log_id=each.log, size=each.size, heads=heads.get(each.log, ()))
            for each in list_logs(connected).logs
        ]

    def logs(self) -> Sequence[FoundLog]:
        """See ``LogSource``."""
        return self._logs

    def _heads(self, summary: audit_pb2.LogSummary) -> Iterator[FoundHead]:
        seen: set[str] = set()
        wanted = sorted({1 + summary.tree_size * number // MAX_HEADS for number in range(MAX_HEADS)})
        answers = [checkpoint(self._connected, summary.log, at_least) for at_least in wanted]
        found = [(each.checkpoint, tuple(each.cosignatures)) for each in answers]
        found.append((summary.checkpoint, ()))
        found.append((summary.cosigned_checkpoint, tuple(summary.cosignatures)))
        for token, cosignatures in found:
            if token and token not in seen:
                seen.add(token)
                yield FoundHead(token=token, cosignatures=cosignatures)

    def trust(self) -> EvidenceBundle:
        """See ``LogSource``."""
        return trust_bundle(self._listed.statements, self._listed.events, self._listed.charters)

    def pages(self, log: FoundLog, begin: int = 0, end: int | None = None) -> Iterator[Page]:
        """See ``LogSource``."""
        end = log.size if end is None else end
        while begin < end:
            wanted = audit_pb2.RangeOfEntries(log=log.log_id, begin=begin, end=end)
            answer = list_entries(self._connected, audit_pb2.ListEntriesRequest(page_size=PAGE, range=wanted))
            # An answer has room for so many entries. How far it goes is told by the hashes, or where the tree has none
            # yet by the entries; one without either, by what was asked for.
            last = max((each.position + 1 for each in answer.entries), default=begin)
            stop = max(begin + len(answer.leaf_hashes), last)
            stop = min(end, stop if stop > begin else begin + PAGE)
            yield Page(begin=begin, end=stop, rows=_rows(answer.entries), leaves=list(answer.leaf_hashes))
            begin = stop

    def outside(self, log: FoundLog) -> Iterator[Page]:
        """See ``LogSource``."""
        ends = [
            list_entries(self._connected, audit_pb2.ListEntriesRequest(page_size=PAGE, newest_first=newest_first))
            for newest_first in (False, True)
        ]
        # Asked for afterwards: the log may have grown since.
        size = next((each.size for each in list_logs(self._connected).logs if each.log == log.log_id), 0)
        yield from _strangers([row for answer in ends for row in _rows(answer.entries, log.log_id)], size)

    def tiles(self, log: FoundLog) -> Tiles | None:
        """See ``LogSource``. What a gateway gives of its tree is proofs."""
        del log
        return None


def list_logs(connected: Connection) -> audit_pb2.ListLogsResponse:
    """Ask which logs there are. Raises Failure."""
    return connected.ask(lambda channel: audit_pb2_grpc.AuditServiceStub(channel).ListLogs, audit_pb2.ListLogsRequest())


def list_entries(connected: Connection, request: audit_pb2.ListEntriesRequest) -> audit_pb2.ListEntriesResponse:
    """Ask for entries. Raises Failure."""
    return connected.ask(lambda channel: audit_pb2_grpc.AuditServiceStub(channel).ListEntries, request)


def checkpoint(connected: Connection, log: str, at_least: int = 0) -> audit_pb2.GetCheckpointResponse:
    """Ask for a head. Raises Failure."""
    request = audit_pb2.GetCheckpointRequest(log=log, at_least=at_least)
    return connected.ask(lambda channel: audit_pb2_grpc.AuditServiceStub(channel).GetCheckpoint, request)


def _rows(entries: Iterable[audit_pb2.LogEntry], log_id: str | None = None) -> list[Row]:
    return [
        Row(position=each.position, raw=each.entry, contradictions=tuple(each.contradictions))
        for each in entries
        if log_id is None or each.log == log_id
    ]


def _strangers(rows: Iterable[Row], size: int) -> Iterator[Page]:
    """Give the rows at no position of a log of that size, a page each."""
    for row in {row.position: row for row in rows if not 0 <= row.position < size}.values():
        yield Page(begin=row.position, end=row.position + 1, rows=[row], leaves=[])


# -- a database -------------------------------------------------------------------------------------------------------


class StoredLogs:
    """The logs in a province's own database, whether its gateway runs or not."""

    def __init__(self, store: TrustStore, log: LogStore) -> None:
        self._store = store
        self._log = log

    def logs(self) -> Sequence[FoundLog]:
        """See ``LogSource``."""
        heads = {each.log_id: tuple(self._heads(each.log_id)) for each in self._log.logs()}
        # The log grows meanwhile: it is as long as it is found to be after the last of the heads was read.
        return [
            FoundLog(log_id=each.log_id, size=each.size, heads=heads.get(each.log_id, ())) for each in self._log.logs()
        ]

    def _heads(self, log_id: str) -> Iterator[FoundHead]:
        size = 0
        while found := self._log.checkpoints_from(log_id, size, PAGE):
            for each in found:
                yield FoundHead(token=each.token, cosignatures=tuple(each.cosignatures.values()))
            size = found[-1].size + 1

    def trust(self) -> EvidenceBundle:
        """See ``LogSource``."""
        memory = self._store.load_memory()
        charters = self._store.load_charters()
        return trust_bundle(memory.documents.values(), memory.events.values(), charters.values())

    def pages(self, log: FoundLog, begin: int = 0, end: int | None = None) -> Iterator[Page]:
        """See ``LogSource``."""
        end = log.size if end is None else end
        while begin < end:
            stop = min(end, (begin // _LOCAL_PAGE + 1) * _LOCAL_PAGE)
            rows = [_row(each) for each in self._log.read_entries(log.log_id, begin, stop)]
            yield Page(begin=begin, end=stop, rows=rows, leaves=self._leaves(log.log_id, begin, stop))
            begin = stop

    def _leaves(self, log_id: str, begin: int, end: int) -> Sequence[bytes]:
        first = begin // TILE_WIDTH
        tiles = [self._log.tile(log_id, 0, number) for number in range(first, -(-end // TILE_WIDTH))]
        # A tile that is too short must not shift those after it.
        whole = b"".join(
            tile.ljust(TILE_WIDTH * HASH_BYTES, b"\0") if number + 1 < len(tiles) else tile
            for number, tile in enumerate(tiles)
        )
        low, high = ((position - first * TILE_WIDTH) * HASH_BYTES for position in (begin, end))
        return [whole[at : at + HASH_BYTES] for at in range(low, min(high, len(whole)), HASH_BYTES)]

    def outside(self, log: FoundLog) -> Iterator[Page]:
        """See ``LogSource``."""
        first = self._log.list_entries(EntryQuery(), PAGE)
        last = self._log.list_entries(EntryQuery(), MAX_NAMED + 1, newest_first=True)
        size = next((each.size for each in self._log.logs() if each.log_id == log.log_id), 0)
        rows = [_row(each) for each in (*first, *reversed(last)) if each.log_id == log.log_id]
        yield from _strangers(rows, size)

    def tiles(self, log: FoundLog) -> Tiles | None:
        """See ``LogSource``."""
        return _TilesOf(self._log, log.log_id)


class _TilesOf:
    def __init__(self, log: LogStore, log_id: str) -> None:
        self._log = log
        self._log_id = log_id

    def tile(self, level: int, number: int) -> bytes:
        """See ``core.merkle.Tiles``."""
        return self._log.tile(self._log_id, level, number)


def _row(stored: StoredEntry) -> Row:
    return Row(position=stored.position, raw=stored.raw, contradictions=contradictions(stored.raw, stored.index))
