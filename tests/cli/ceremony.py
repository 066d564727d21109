"""What tests of the command need: running it in this process, and four provinces set up by it on real files."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.cli import run

CODES = ("sh", "js", "zj", "ah")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def error(self) -> dict[str, Any]:
        """The one JSON document on stderr, of a command that failed under --json."""
        assert self.out == ""
        error: dict[str, Any] = json.loads(self.err)["error"]
        return error


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class _Piped(io.TextIOWrapper):
    def __init__(self, content: str) -> None:
        super().__init__(io.BytesIO(content.encode()), encoding="utf-8")


def mrg(*arguments: str | Path, typed: str | None = None, piped: str = "") -> Ended:
    """Run a command. ``typed``: a person at a terminal types this; ``piped``: what standard input holds."""
    person = typed is not None
    out, err = (Terminal(), Terminal()) if person else (io.StringIO(), io.StringIO())
    before = sys.stdin
    sys.stdin = Terminal(typed) if person else _Piped(piped)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([str(argument) for argument in arguments])
    finally:
        sys.stdin = before
    return Ended(int(code), out.getvalue(), err.getvalue())


def done(*arguments: str | Path, piped: str = "") -> Ended:
    """Run a command that must succeed."""
    ended = mrg(*arguments, piped=piped)
    assert ended.code == 0, ended.err
    return ended


def failed(*arguments: str | Path, code: int = 2) -> str:
    """Run a command that must fail as foreseen: nothing on stdout, two lines on stderr. Gives them."""
    ended = mrg(*arguments)
    assert (ended.code, ended.out) == (code, ""), ended
    error, fix = ended.err.splitlines()
    assert error.startswith("Error: ")
    assert fix.startswith("  Fix: ")
    return ended.err


def init_arguments(code: str) -> Sequence[str]:
    """The options that answer every question for one province."""
    return [
        *("--province", code),
        *("--gateway", f"https://gateway.{code}.test"),
        *("--issuer", f"https://issuer.{code}.test"),
        *("--anchor", f"https://anchor.{code}.test"),
        *("--reached-at", "127.0.0.1"),
        *("--verification-address", f"127.0.0.1:{7000 + CODES.index(code)}"),
        *("--federation-address", f"127.0.0.1:{7100 + CODES.index(code)}"),
        *("--admin-address", f"127.0.0.1:{7200 + CODES.index(code)}"),
        *("--service", "counter:户政窗口:household:HK-QY,DZ-LZ"),
        *("--system", "identity"),
    ]


@dataclass(frozen=True)
class Ceremony:
    """A folder in which four provinces were created and a charter was drafted."""

    folder: Path

    @property
    def charter(self) -> Path:
        return self.folder / "charter.json"

    @property
    def cards(self) -> Sequence[str]:
        return [part for code in CODES for part in ("--card", str(self.folder / code / "card.json"))]

    def keys(self, code: str) -> Path:
        return self.folder / code / "keys"

    def client(self, code: str, name: str) -> Path:
        return self.folder / code / "clients" / f"{name}.toml"

    def sign(self, codes: Sequence[str] = CODES, file: Path | None = None, previous: Path | None = None) -> str:
        """Sign the charter, or the one that is to follow ``previous``, and give its digest."""
        file = file or self.charter
        before = () if previous is None else ("--previous", previous)
        for code in codes:
            done("charter", "sign", file, "--keys", self.keys(code), "--yes", *before)
        digest: str = mrg("charter", "verify", file, "--json").document["sha256"]
        return digest

    def amend(self, *changes: str | Path, previous: Path | None = None, name: str = "next.json") -> Path:
        """Draft the charter that follows one."""
        file = self.folder / name
        done("charter", "create", "--previous", previous or self.charter, "--out", file, *changes)
        return file

    def complete(self, codes: Sequence[str] = CODES) -> None:
        """Sign the charter and write the configurations."""
        digest = self.sign()
        for code in codes:
            done(
                *("init", self.folder / code, "--charter", self.charter),
                *("--charter-sha256", digest, *self.cards),
            )


def hold_ceremony(folder: Path) -> Ceremony:
    """Create four provinces and draft their charter."""
    ceremony = Ceremony(folder)
    for code in CODES:
        done("init", folder / code, *init_arguments(code))
    agreement = folder / "agreement.json"
    agreement.write_text(done("charter", "create", "--example-agreement", *ceremony.cards).out)
    done("charter", "create", *ceremony.cards, "--agreement", agreement, "--out", ceremony.charter)
    return ceremony


@contextlib.contextmanager
def edited(file: Path, old: str, new: str) -> Iterator[None]:
    """Change a file for a while."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    yield
    file.write_text(text)
