"""How many things a message holds, found out before it is decoded.

Two bytes on the wire can be an empty item, which takes two hundred bytes of memory once it is decoded: four megabytes
of them would stop the process for half a second and take hundreds of megabytes, before anybody could count them. So the
fields of a message that may be large are counted first, level by level, without taking anything out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH: Final = 2
_FIXED32: Final = 5
_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}
MAX_VARINT_BYTES: Final = 10


def is_within(raw: bytes, bounds: Sequence[int]) -> bool:
    """Whether no message in it has more fields than it may, on each level.

    Args:
        raw: a message as it came.
        bounds: how many fields it may have; how many each message in it; and so on, as far as it is looked into.
            What is not a message may be looked into as if it were one: text that cannot be read so ends that look.
    """
    return _count(raw, 0, len(raw), bounds, 0)


def _count(raw: bytes, at: int, end: int, bounds: Sequence[int], level: int) -> bool:
    fields, most, deeper = 0, bounds[level], level + 1 < len(bounds)
    while at < end:  # at most so many fields as the bound says, of at least one byte
        fields += 1
        if fields > most:
            return False
        tag, at = _varint(raw, at, end)
        kind = tag & 7
        if kind == _LENGTH:
            size, at = _varint(raw, at, end)
            if deeper and at + size <= end and not _count(raw, at, at + size, bounds, level + 1):
                return False
            at += size
        elif kind == _VARINT:
            _, at = _varint(raw, at, end)
        elif kind in _SIZES:
            at += _SIZES[kind]
        else:
            return True  # no message: decoding it says so
    return True


def _varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a number; one that is cut off or too long ends the message."""
    value = shift = 0
    for place in range(at, min(end, at + MAX_VARINT_BYTES)):
        byte = raw[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the top bit says that another byte follows
            return value, place + 1
        shift += 7
    return 0, end
