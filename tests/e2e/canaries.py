"""Values that appear nowhere else, planted where a person's data goes in, and looked for wherever anything comes out.

A value may come out in another form than it went in: escaped in JSON, in another encoding, inside something that was
encoded as a whole, or as a digest without a key, which for an ID number is as good as the number. All of these are
looked for.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

MIN_BYTES: Final = 8
"""Shorter values are found by chance."""
_DIGESTS: Final = ("md5", "sha1", "sha256", "sha384", "sha512", "sha3_256", "sm3")


class Canaries:
    """What was planted, and finding it again."""

    def __init__(self) -> None:
        self._forms: dict[bytes, dict[bytes, str]] = {}  # by how they begin: there are thousands
        self._planted: dict[str, str] = {}

    def plant(self, what: str, value: str) -> str:
        """Note a value that must not come out; gives it back."""
        assert all(len(form) >= MIN_BYTES for _, form in forms(value)), what
        self._planted[value] = what
        for how, form in forms(value):
            alike = self._forms.setdefault(form[:MIN_BYTES], {})
            alike.setdefault(form, f"{what}, {how}")  # of ASCII most encodings are the same
        return value

    @property
    def planted(self) -> frozenset[str]:
        """Everything that was planted, by what it is."""
        return frozenset(self._planted.values())

    def found(self, content: bytes) -> frozenset[str]:
        """Which of them come out in this content, and in which form."""
        found: set[str] = set()
        for place in range(len(content) - MIN_BYTES + 1):
            alike = self._forms.get(content[place : place + MIN_BYTES])
            if alike is not None:
                found |= {what for form, what in alike.items() if content.startswith(form, place)}
        return frozenset(found)


def forms(value: str) -> Iterator[tuple[str, bytes]]:
    """Give the forms in which a value may come out, by name."""
    plain = value.encode()
    yield "as it is", plain
    yield "escaped as JSON", json.dumps(value)[1:-1].encode()
    yield "escaped as Python", value.encode("unicode_escape")
    yield "escaped by octals", "".join(chr(byte) if byte < 128 else f"\\{byte:03o}" for byte in plain).encode()
    yield "percent-encoded", quote(value, safe="").encode()
    for encoding in ("utf-16-le", "utf-16-be", "gb18030"):
        yield f"in {encoding}", value.encode(encoding)
    yield from _encoded("", plain)
    for name in _DIGESTS:
        if name in hashlib.algorithms_available:
            digest = hashlib.new(name, plain).digest()
            yield name, digest
            yield from _encoded(f"{name} ", digest)


def _encoded(of: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield f"{of}in hexadecimal", content.hex().encode()
    yield f"{of}in capital hexadecimal", content.hex().upper().encode()
    # Base64 looks different at each place, modulo 3, of what was encoded as a whole: the middle is the same.
    for before in range(3):
        whole = base64.b64encode(bytes(before) + content)
        middle = whole[-(-before * 4 // 3) : (before + len(content)) * 4 // 3]
        yield f"{of}in base64, {before} after", middle
        yield f"{of}in base64url, {before} after", middle.translate(bytes.maketrans(b"+/", b"-_"))


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Give every file under a folder, by its name there."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield str(file.relative_to(folder)), file.read_bytes()
