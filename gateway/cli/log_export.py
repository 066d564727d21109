"""A log in a file: one JSON object a line, so that it is written and read a line at a time, whatever its length.

First ``export`` (what it is), then ``trust`` (the documents by which heads are checked), then for each log ``log`` and
its ``head`` lines; the rest are positions in order: ``entry`` with its bytes, or ``erased`` where only a hash is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

from gateway.cli.console import Failure, instant
from gateway.cli.log_sources import PAGE, FoundHead, FoundLog, LogSource, trust_bundle
from gateway.core.encoding import JsonLimits, b64url_decode, b64url_encode, parse_json_object
from gateway.core.log_audit import Page, Row
from gateway.core.merkle import MAX_SIZE, Tiles
from gateway.core.reasons import Rejected
from gateway.core.receipt import MAX_BUNDLE_BYTES, EvidenceBundle

FORMAT: Final = 1
_LIMITS: Final = JsonLimits(max_bytes=MAX_BUNDLE_BYTES, max_depth=3, max_members=16_384, max_string=MAX_BUNDLE_BYTES)
_POSITIONS: Final = ("entry", "erased")
_KINDS: Final = ("export", "trust", "log", "head", *_POSITIONS)
_FIX: Final = "name a file that mrg audit export wrote; if it is one, it was cut or edited: export again"


def write_export(
    file: TextIO,
    source: LogSource,
    now: datetime,
    chosen: Callable[[FoundLog], tuple[int, int]],
    advance: Callable[[int], object],
) -> int:
    """Write logs; gives how many entries.

    Args:
        file: where to.
        source: where from.
        now: the time.
        chosen: gives the positions wanted of a log, from one to before another.
        advance: is told how many positions were written.
    """
    logs = source.logs()
    trust = source.trust()
    _line(file, {"type": "export", "format": FORMAT, "exported_at": instant(now)})
    documents = {"statements": trust.statements, "events": trust.events, "charters": trust.charters}
    _line(file, {"type": "trust", **{name: list(each) for name, each in documents.items()}})
    for log in logs:
        begin, end = chosen(log)
        _line(file, {"type": "log", "log": log.log_id, "size": log.size, "begin": begin, "end": end})
        for head in log.heads:
            cosignatures = list(head.cosignatures)
            _line(file, {"type": "head", "log": log.log_id, "checkpoint": head.token, "cosignatures": cosignatures})
    count = 0
    for log in logs:
        for page in source.pages(log, *chosen(log)):
            count += _write_page(file, log.log_id, page)
            advance(page.end - page.begin)
        for page in source.outside(log):
            count += _write_page(file, log.log_id, page)
    return count


def _write_page(file: TextIO, log_id: str, page: Page) -> int:
    rows = {row.position: row for row in page.rows}
    for position in range(page.begin, page.end):
        offset, row = position - page.begin, rows.get(position)
        line: dict[str, Any] = {"type": "erased" if row is None else "entry", "log": log_id, "position": position}
        if row is not None:
            line["entry"] = b64url_encode(row.raw)
            if row.contradictions:
                line["contradictions"] = list(row.contradictions)
        if offset < len(page.leaves):
            line["leaf"] = b64url_encode(page.leaves[offset])
        _line(file, line)
    return len(rows)


def _line(file: TextIO, document: Mapping[str, Any]) -> None:
    file.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")


class ExportedLogs:
    """The logs in a file. Whoever wrote it may have written anything."""

    def __init__(self, file: Path) -> None:
        """Read what comes before the entries.

        Raises:
            Failure: it is no export, or one of a part of a log.
        """
        self._file = file
        sizes: dict[str, int] = {}
        heads: dict[str, list[FoundHead]] = {}
        self._trust = trust_bundle((), (), ())
        for number, line in enumerate(self._lines()):
            kind = line.get("type")
            if (number == 0) is not (kind == "export") or (number == 0 and line.get("format") != FORMAT):
                raise self._unfit(number, "is not an export that this program can read")
            if kind == "trust":
                self._trust = trust_bundle(
                    *(self._texts(number, line, name) for name in ("statements", "events", "charters"))
                )
            elif kind == "log":
                log_id, size = self._text(number, line, "log"), self._number(number, line, "size")
                if (line.get("begin"), line.get("end")) != (0, size):
                    raise Failure(
                        f"{file}: holds a part of a log",
                        fix="export the whole log: a root is computed over all of it",
                    )
                sizes[log_id] = size
            elif kind == "head":
                heads.setdefault(self._text(number, line, "log"), []).append(
                    FoundHead(
                        token=self._text(number, line, "checkpoint"),
                        cosignatures=tuple(self._texts(number, line, "cosignatures")),
                    )
                )
            elif number:
                break
        if not sizes:
            raise self._unfit(0, "holds no log")
        self._logs = [
            FoundLog(log_id=log_id, size=size, heads=tuple(heads.get(log_id, ()))) for log_id, size in sizes.items()
        ]

    def logs(self) -> Sequence[FoundLog]:
        """See ``LogSource``."""
        return self._logs

    def trust(self) -> EvidenceBundle:
        """See ``LogSource``."""
        return self._trust

    def pages(self, log: FoundLog, begin: int = 0, end: int | None = None) -> Iterator[Page]:
        """See ``LogSource``."""
        first, end = begin, log.size if end is None else end
        rows: list[Row] = []
        leaves: list[bytes] = []
        for number, line in self._positions(log):
            position = self._number(number, line, "position")
            if first <= position < begin + len(leaves):
                # Whoever reads the file may take the other one, which nobody has checked.
                raise self._unfit(number, "repeats a position")
            if not begin + len(leaves) <= position < end:
                continue
            if position != begin + len(leaves):
                raise self._unfit(number, "skips a position")
            if line["type"] == "entry":
                rows.append(self._row(number, line, position))
            leaves.append(self._bytes(number, line, "leaf") if "leaf" in line else b"")
            if len(leaves) == PAGE:
                yield _page(begin, rows, leaves)
                begin, rows, leaves = begin + PAGE, [], []
        if leaves:
            yield _page(begin, rows, leaves)
            begin += len(leaves)
        if begin < end:
            raise self._unfit(0, f"ends before position {end - 1} of log {log.log_id}")

    def outside(self, log: FoundLog) -> Iterator[Page]:
        """See ``LogSource``."""
        for number, line in self._positions(log):
            position = self._number(number, line, "position")
            if line["type"] == "entry" and not 0 <= position < log.size:
                row = self._row(number, line, position)
                yield Page(begin=position, end=position + 1, rows=[row], leaves=[])

    def tiles(self, log: FoundLog) -> Tiles | None:
        """See ``LogSource``. An export has no tree: it can be computed anew."""
        del log
        return None

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _positions(self, log: FoundLog) -> Iterator[tuple[int, Mapping[str, Any]]]:
        known = {each.log_id for each in self._logs}
        for number, line in enumerate(self._lines()):
            kind, log_id = line.get("type"), line.get("log")
            if kind not in _KINDS or (kind in _POSITIONS and log_id not in known):
                raise self._unfit(number, "belongs to nothing that is checked")
            if kind in _POSITIONS and log_id == log.log_id:
                yield number, line

    def _row(self, number: int, line: Mapping[str, Any], position: int) -> Row:
        contradictions = tuple(self._texts(number, line, "contradictions")) if "contradictions" in line else ()
        return Row(position=position, raw=self._bytes(number, line, "entry"), contradictions=contradictions)

    def _lines(self) -> Iterator[Mapping[str, Any]]:
        try:
            with self._file.open("rb") as file:
                number = 0
                while raw := file.readline(MAX_BUNDLE_BYTES):
                    try:
                        yield parse_json_object(raw, _LIMITS)
                    except Rejected as rejection:
                        raise self._unfit(number, "is no JSON object") from rejection
                    number += 1
        except OSError as error:
            raise Failure(f"{self._file}: cannot be read ({error.strerror})", fix="name an existing file") from error

    def _text(self, number: int, line: Mapping[str, Any], name: str) -> str:
        value = line.get(name)
        if not isinstance(value, str):
            raise self._unfit(number, f"has no {name}")
        return value

    def _texts(self, number: int, line: Mapping[str, Any], name: str) -> Sequence[str]:
        value = line.get(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._unfit(number, f"has no {name}")
        return value

    def _number(self, number: int, line: Mapping[str, Any], name: str) -> int:
        value = line.get(name)
        if type(value) is not int or abs(value) > MAX_SIZE:
            raise self._unfit(number, f"has no {name}")
        return value

    def _bytes(self, number: int, line: Mapping[str, Any], name: str) -> bytes:
        try:
            return b64url_decode(self._text(number, line, name))
        except Rejected as rejection:
            raise self._unfit(number, f"has no {name}") from rejection

    def _unfit(self, number: int, what: str) -> Failure:
        return Failure(f"{self._file}: line {number + 1} {what}", fix=_FIX)


def _page(begin: int, rows: Sequence[Row], leaves: Sequence[bytes]) -> Page:
    """Make a page; from the first position on of which the file has no hash, the tree had none."""
    whole = list(leaves)
    while whole and not whole[-1]:
        whole.pop()
    return Page(begin=begin, end=begin + len(leaves), rows=rows, leaves=whole)
