"""What may become of a credential after it was issued.

::

    VALID -> SUSPENDED -> VALID -> ...
    VALID, SUSPENDED -> ATTRIBUTES_CHANGED
    VALID, SUSPENDED, ATTRIBUTES_CHANGED -> REVOKED

REVOKED and ATTRIBUTES_CHANGED are final: what was said of a credential for good is never taken back, by nobody and by
no backup. Only that it is graver than was known may still be said. To ask for what is so already is no error, so that
whoever does not know whether a call arrived makes it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from gateway.core.status_list import Status

TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = MappingProxyType(
    {
        Status.VALID: frozenset({Status.SUSPENDED, Status.ATTRIBUTES_CHANGED, Status.REVOKED}),
        Status.SUSPENDED: frozenset({Status.VALID, Status.ATTRIBUTES_CHANGED, Status.REVOKED}),
        Status.ATTRIBUTES_CHANGED: frozenset({Status.REVOKED}),
        Status.REVOKED: frozenset(),
    }
)
FINAL: Final = frozenset({Status.ATTRIBUTES_CHANGED, Status.REVOKED})
MAX_TARGETS: Final = 1_000
"""Of one call."""
_GRAVITY: Final = (Status.VALID, Status.SUSPENDED, Status.ATTRIBUTES_CHANGED, Status.REVOKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialTarget:
    """One credential, by the name it was given when it was issued."""

    credential_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectTarget:
    """All credentials about somebody, or with which they act, that have not expired."""

    local_subject: str


Target = CredentialTarget | SubjectTarget


class Change(Enum):
    """What asking for a status comes to."""

    CHANGED = "changed"
    ALREADY = "already"
    """It has that status."""
    REFUSED = "refused"
    """What became of it before is final, or it was never suspended."""


def judge(current: Status, wanted: Status) -> Change:
    """Say what becomes of a credential for which a status is asked."""
    if current is wanted:
        return Change.ALREADY
    return Change.CHANGED if wanted in TRANSITIONS[current] else Change.REFUSED


def graver(one: Status, other: Status) -> Status:
    """Give the graver of two, for when two of our own lists differ: nothing that was ever said is lost."""
    return max(one, other, key=_GRAVITY.index)
