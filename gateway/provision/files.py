"""The files of a province: read within bounds, written whole or not at all, keys for their owner alone."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.core.encoding import JsonLimits, parse_json_object
from gateway.core.fields import Field
from gateway.core.reasons import Rejected
from gateway.provision import ProvisionError

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644
MAX_BYTES: Final = 262_144
_LIMITS: Final = JsonLimits(max_bytes=MAX_BYTES, max_members=20_000)
_Read = TypeVar("_Read")


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it.

    Raises:
        ProvisionError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProvisionError(folder, f"cannot be made ({error.strerror})", "name a folder that can be") from error


def write(file: Path, content: bytes, mode: int) -> None:
    """Write a file in one step, over the one that is there.

    Raises:
        ProvisionError: it cannot be written.
    """
    _place(file, content, mode, lambda draft: draft.replace(file))


def write_pair(certificate: Path, key: Path, made: tuple[bytes, bytes]) -> None:
    """Write a certificate and its private key, neither of which may exist.

    Raises:
        ProvisionError: one exists, or cannot be written.
    """
    # The key first: a certificate without its key would pass for complete. Unlike a rename, a link never replaces.
    _place(key, made[1], PRIVATE, key.hardlink_to)
    _place(certificate, made[0], PUBLIC, certificate.hardlink_to)


def pair_exists(certificate: Path, key: Path) -> bool:
    """Whether a certificate is there, with its key.

    Raises:
        ProvisionError: one is there without the other.
    """
    for present, absent in ((certificate, key), (key, certificate)):
        if present.exists() and not absent.exists():
            raise ProvisionError(
                present, f"has no {absent.name} beside it", f"put that back, or remove {present.name} as well"
            )
    return certificate.exists()


def _place(file: Path, content: bytes, mode: int, put: Callable[[Path], object]) -> None:
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                os.fchmod(opened.fileno(), mode)
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            put(Path(name))
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise ProvisionError(
            file, f"cannot be written ({error.strerror})", "free the name or the disk, or check the permissions"
        ) from error


def read_json(file: Path, read: Callable[[Field], _Read], *, what: str, fix: str) -> _Read:
    """Read a JSON file strictly.

    Args:
        file: the file.
        read: makes the value; complains by ``Rejected`` whose detail is ``key: rule``.
        what: what the file should be.
        fix: what to do when it is not.

    Raises:
        ProvisionError: it cannot be read, or is not what it should be.
    """
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ProvisionError(file, f"{what} cannot be read ({error.strerror})", fix) from error
    try:
        parsed = parse_json_object(raw, _LIMITS)
    except Rejected as error:
        raise ProvisionError(file, f"is no {what} ({error.detail})", fix) from error
    try:
        return read(Field("", parsed))
    except Rejected as error:
        key, _, rule = error.detail.partition(": ")
        raise ProvisionError(file, rule, fix, key="" if key == "charter" else key) from error


def pretty(claims: Mapping[str, Any]) -> bytes:
    """Write JSON for programs that people look at too."""
    return f"{json.dumps(claims, ensure_ascii=False, indent=2)}\n".encode()
