"""Reading a charter field by field, so that every complaint names the place: ``agreement.matters[2].code: ...``.

The charter is written by people of four provinces and read by programs that must agree about every bit of it. So it is
closed: a member that is missing, unknown, of another type or out of bounds refuses the whole document. Nothing has a
default; a default is a rule that nobody signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.core.reasons import Reason, Rejected

MAX_TEXT: Final = 500
_NAMEABLE: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
"""Foreign names fit to be repeated in an error; others are left out of it."""
# No control characters, and nothing that is invisible or turns the direction of what a person reads.
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+")
_TOKEN: Final = re.compile(r"[!-~]+")


def _shown(name: str, otherwise: object) -> str:
    return name if _NAMEABLE.fullmatch(name) else str(otherwise)


@dataclass(frozen=True, slots=True)
class Field:
    """One JSON value of a charter, and where it stands."""

    path: str
    value: object

    def invalid(self, rule: str) -> Rejected:
        """Make the error that says which rule this field breaks."""
        return Rejected(Reason.CHARTER_INVALID, f"{self.path or 'charter'}: {rule}")

    def members(self, *names: str) -> Mapping[str, Field]:
        """Read an object that has exactly these members."""
        found = self._object()
        for name in found:
            if name not in names:
                raise self.invalid(f"unknown member {_shown(name, 'of an unprintable name')}")
        for name in names:
            if name not in found:
                raise self.invalid(f"member {name} is missing")
        return {name: Field(f"{self.path}.{name}".lstrip("."), found[name]) for name in names}

    def entries(self, low: int, high: int) -> tuple[tuple[str, Field], ...]:
        """Read an object whose member names are data."""
        found = self._object()
        if not low <= len(found) <= high:
            raise self.invalid(f"must have {low} to {high} members")
        return tuple((name, Field(f"{self.path}[{_shown(name, i)}]", found[name])) for i, name in enumerate(found))

    def items(self, low: int, high: int) -> tuple[Field, ...]:
        """Read an array."""
        if not isinstance(self.value, list):
            raise self.invalid("must be an array")
        if not low <= len(self.value) <= high:
            raise self.invalid(f"must have {low} to {high} items")
        return tuple(Field(f"{self.path}[{i}]", item) for i, item in enumerate(self.value))

    def tokens(self, low: int, high: int, longest: int = 255) -> frozenset[str]:
        """Read an array of distinct identifiers."""
        items = self.items(low, high)
        found = frozenset(item.token(longest) for item in items)
        if len(found) != len(items):
            raise self.invalid("an item appears twice")
        return found

    def integer(self, low: int, high: int) -> int:
        """Read an integer between two bounds, both allowed."""
        # bool is an int to Python, not to JSON.
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.invalid("must be an integer")
        if not low <= self.value <= high:
            raise self.invalid(f"must be {low} to {high}")
        return self.value

    def boolean(self) -> bool:
        """Read true or false."""
        if not isinstance(self.value, bool):
            raise self.invalid("must be true or false")
        return self.value

    def token(self, longest: int = 255) -> str:
        """Read an identifier: printable ASCII without spaces, compared character by character."""
        return self._string(_TOKEN, longest, f"must be 1 to {longest} printable ASCII characters without spaces")

    def text(self, longest: int = MAX_TEXT) -> str:
        """Read words for people: any script, one line, no white space around it."""
        text = self._string(_TEXT, longest, f"must be one line of 1 to {longest} characters")
        if text != text.strip():
            raise self.invalid("must not begin or end with white space")
        return text

    def _string(self, pattern: re.Pattern[str], longest: int, rule: str) -> str:
        if not isinstance(self.value, str):
            raise self.invalid("must be a string")
        if len(self.value) > longest or pattern.fullmatch(self.value) is None:
            raise self.invalid(rule)
        return self.value

    def _object(self) -> dict[str, object]:
        if not isinstance(self.value, dict):
            raise self.invalid("must be an object")
        return self.value
