"""Whose status ``mrg status`` is to set or show: from options, and from a file with one target a line.

A file holds lines ``credential:ID`` and ``subject:LOCAL``, or is CSV with a header in which ``credential_id`` or
``local_subject`` is a column; other columns are not looked at. Targets are spoken of by their line: what names a person
is not repeated.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from recognition.v1 import issuance_pb2

from gateway.cli import files
from gateway.cli.console import Failure

_MAX_BYTES: Final = 128 * 1024 * 1024
_MAX_SUBJECT: Final = 256
_CREDENTIAL_ID: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_COLUMNS: Final = {"credential_id": "credential", "local_subject": "subject"}
_FIX: Final = (
    "write credential:ID or subject:LOCAL on each line, or CSV with a column credential_id or local_subject; nothing"
    " was changed"
)

CredentialOption = Annotated[
    list[str], typer.Option("--credential", metavar="ID", help="A credential, as mrg issue named it; repeatable.")
]
SubjectOption = Annotated[
    list[str],
    typer.Option(
        "--subject",
        metavar="LOCAL",
        help="All unexpired credentials about somebody, or that they act with; repeatable.",
    ),
]
FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file", help="A target a line: credential:ID or subject:LOCAL; or CSV with such a column. - reads stdin."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which credentials are meant."""

    line: int
    """Of the file; of what options name, the how manieth."""
    kind: str
    """``credential`` or ``subject``."""
    name: str

    @property
    def message(self) -> issuance_pb2.CredentialTarget:
        """The target as it is asked for."""
        if self.kind == "credential":
            return issuance_pb2.CredentialTarget(credential_id=self.name)
        return issuance_pb2.CredentialTarget(local_subject=self.name)


def read(credentials: Sequence[str], subjects: Sequence[str], file: Path | None) -> Sequence[Target]:
    """Read targets: from options, or from a file.

    Raises:
        Failure: there are none, or one is none; told by its line.
    """
    if file is not None and (credentials or subjects):
        raise Failure("--file stands beside --credential or --subject", fix="give the file alone, or no file")
    if file is not None:
        return list(_read_file(file))
    named = [*(("credential", name) for name in credentials), *(("subject", name) for name in subjects)]
    if not named:
        raise Failure("nobody is named", fix="give --credential ID, --subject LOCAL or --file FILE")
    return [_target("target", line, kind, name) for line, (kind, name) in enumerate(named, start=1)]


def _read_file(file: Path) -> Iterator[Target]:
    text = files.read_text(file, "list of targets", limit=_MAX_BYTES).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    lines = text.splitlines()
    header = [name.strip() for name in next(csv.reader(lines[:1]), [])]
    if any(name in _COLUMNS for name in header):
        yield from _read_csv(file, header, lines)
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            kind, _, name = line.strip().partition(":")
            yield _target(f"{file}: line", number, kind, name)


def _read_csv(file: Path, header: Sequence[str], lines: Sequence[str]) -> Iterator[Target]:
    columns = {position: _COLUMNS[name] for position, name in enumerate(header) if name in _COLUMNS}
    rows = csv.reader(lines)
    next(rows)
    for row in rows:
        named = [
            (columns[position], value.strip())
            for position, value in enumerate(row)
            if position in columns and value.strip()
        ]
        if len(named) == 1:
            yield _target(f"{file}: line", rows.line_num, *named[0])
        elif named or any(value.strip() for value in row):
            raise Failure(f"{file}: line {rows.line_num}: names not exactly one target", fix=_FIX)


def _target(where: str, line: int, kind: str, name: str) -> Target:
    is_good = {
        "credential": _CREDENTIAL_ID.fullmatch(name) is not None,
        "subject": 1 <= len(name) <= _MAX_SUBJECT,
    }
    if not is_good.get(kind, False):
        what = "a credential's name, 22 characters" if kind == "credential" else "a target"
        raise Failure(f"{where} {line}: is not {what}", fix=_FIX)
    return Target(line=line, kind=kind, name=name)
