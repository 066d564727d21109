"""Reading what opens a key store: a passphrase or a PIN, from one place outside the configuration.

The place is a file, an environment variable, or a systemd credential (``LoadCredential=``, found under
``$CREDENTIALS_DIRECTORY``). It is never a command line, which every user of the machine can read, and what is read
never appears in an error. Of the three the variable is the weakest: processes started by this one inherit it, and it
tends to be written down where services are declared.

A file must be a plain one that its owner alone can use; no link is followed, and what is checked is what is read. A
credential is laid out by systemd, which may stay its owner and let us read it by an access list; group bits then show
that list.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gateway.config import SecretSource
from gateway.keystore import KeyStoreError

MAX_SECRET_BYTES: Final = 1_024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_BUT_LISTED: Final = _OTHERS & ~stat.S_IRGRP
_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
_ROOT: Final = 0


def read_secret(source: SecretSource, what: str, environ: Mapping[str, str] | None = None) -> bytes:
    """Read a passphrase or a PIN.

    Args:
        source: where it is.
        what: what to call it in an error.
        environ: the variables of this process, unless others are given.

    Raises:
        KeyStoreError: it is not there, others can read it, or it is not one line.
    """
    environ = os.environ if environ is None else environ
    if source.env is not None:
        if source.env not in environ:
            raise KeyStoreError(f"${source.env}", "is not set", f"set it to the {what}, or name another source")
        return _line(f"${source.env}", what, os.fsencode(environ[source.env]))
    if source.file is not None:
        return _read(source.file, what, lambda file, status: check_private(file, status, "600"))
    if source.credential is None:
        raise ValueError("a source is a file, a variable or a credential")
    if _CREDENTIALS not in environ:
        problem = f"is not set, so there is no credential {source.credential}"
        raise KeyStoreError(f"${_CREDENTIALS}", problem, "start the process by systemd, with LoadCredential=")
    return _read(Path(environ[_CREDENTIALS], source.credential), what, _check_credential)


def check_private(path: Path, status: os.stat_result, mode: str) -> None:
    """Refuse what is not ours alone.

    Raises:
        KeyStoreError: naming the command that mends it.
    """
    if status.st_uid != os.geteuid():
        raise KeyStoreError(path, "belongs to another user", f"run: chown {os.geteuid()} '{path}'")
    if status.st_mode & _OTHERS:
        raise KeyStoreError(path, "can be used by others than its owner", f"run: chmod {mode} '{path}'")


def read_plain(file: Path, limit: int, what: str, check: Callable[[Path, os.stat_result], None]) -> bytes | None:
    """Read a small file and nothing that stands in its place; None when it is not there.

    Raises:
        KeyStoreError: it is no plain file, too large, unreadable, or what ``check`` raises.
    """
    try:
        # The checks are of the file that is read, not of what bears its name a moment later; hence no links either.
        # Nor does opening a pipe put up for us wait for its writer.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyStoreError(
            file, f"cannot be opened ({error.strerror})", "make it a plain file that its owner can read"
        ) from error
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise KeyStoreError(file, f"is not {what}", "put it back from the backup")
        check(file, status)
        return opened.read(limit)


def _read(file: Path, what: str, check: Callable[[Path, os.stat_result], None]) -> bytes:
    text = read_plain(file, MAX_SECRET_BYTES, f"a file with a {what}", check)
    if text is None:
        raise KeyStoreError(file, "is missing", f"write the {what} to it")
    return _line(file, what, text)


def _line(place: Path | str, what: str, text: bytes) -> bytes:
    line = text.removesuffix(b"\n").removesuffix(b"\r")
    # Control characters are more often an editor's or a shell's than meant. What is wrong with it, not what is in it.
    if not line or len(line) > MAX_SECRET_BYTES or any(byte < 0x20 or byte == 0x7F for byte in line):  # noqa: PLR2004
        raise KeyStoreError(place, f"does not hold a {what} on one line", f"write the {what} and nothing else")
    return line


def _check_credential(file: Path, status: os.stat_result) -> None:
    if status.st_uid not in {_ROOT, os.geteuid()} or status.st_mode & _OTHERS_BUT_LISTED:
        raise KeyStoreError(file, "is not laid out as systemd does", "let LoadCredential= put it there")
