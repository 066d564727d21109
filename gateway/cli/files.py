"""Files named on the command line: read within bounds, written whole or not at all.

Credentials, presentations and holder keys are written for their owner alone (0600). Nothing here repeats what a file
holds; an error names the file and the mend.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from gateway.cli.console import Failure

STDIN: Final = Path("-")
PRIVATE: Final = 0o600
PUBLIC: Final = 0o644


def read_text(path: Path, what: str, *, limit: int) -> str:
    """Read a UTF-8 file, or standard input for ``-``, without the white space around its content.

    Args:
        path: the file.
        what: what it should be, for the error.
        limit: the most bytes it may have.

    Raises:
        Failure: it cannot be read, is larger, or is not text.
    """
    name = "standard input" if path == STDIN else str(path)
    try:
        if path == STDIN:
            raw = sys.stdin.buffer.read(limit + 1)
        else:
            with path.open("rb") as file:
                raw = file.read(limit + 1)
    except OSError as error:
        raise Failure(f"{name}: {what} cannot be read ({error.strerror})", fix="name an existing file") from error
    if len(raw) > limit:
        raise Failure(f"{name}: {what} is larger than {limit} bytes", fix=f"name the file that holds the {what}")
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise Failure(f"{name}: {what} is not UTF-8 text", fix=f"name the file that holds the {what}") from error
    if not text:
        raise Failure(f"{name}: {what} is empty", fix=f"name the file that holds the {what}")
    return text


def write_text(path: Path, text: str, *, mode: int) -> None:
    """Write a file in one step: whoever reads it sees the old content or the new, with exactly this mode.

    Raises:
        Failure: it cannot be written.
    """
    with _draft(path, text.encode("utf-8") + b"\n", mode) as draft:
        draft.replace(path)


@contextmanager
def draft_text(path: Path, *, mode: int) -> Iterator[TextIO]:
    """Give a file to write line by line; it takes its name when everything is written, and never half.

    Raises:
        Failure: it cannot be written.
    """
    with _draft(path, b"", mode) as draft, draft.open("w", encoding="utf-8") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
        draft.replace(path)


def create_private(path: Path, content: bytes) -> None:
    """Create a file for its owner alone; never over an existing one, which may be somebody's only key.

    Raises:
        Failure: it exists, or cannot be written.
    """
    with _draft(path, content, PRIVATE) as draft:
        path.hardlink_to(draft)  # unlike a rename, fails when the name is taken


@contextmanager
def _draft(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """Give a complete file beside the one to be written, gone afterwards."""
    draft: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        draft = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        yield draft
    except OSError as error:
        raise Failure(
            f"{path}: cannot be written ({error.strerror})", fix="choose a folder that exists and that you may write to"
        ) from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)
