"""What was found out about a presentation, apart from the person.

Filled in step by step while a presentation is judged, so that it tells how far that got and on what. It is what the
audit log keeps of a decision, what an explanation is made from, and what a proposed agreement is tried on. Therefore:

* No attribute's value, no subject, no token, no place in a status list: nothing by which a person could be told from
  another. The names of claims are kept only as far as the agreement knows them.
* Nothing that the presenter merely asserts. An issuer or key is named when the trust view knows it, what an issuer
  states once its signature has held and the agreement has a word for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import IntEnum
from operator import attrgetter
from typing import Any, Final

from gateway.core.agreement import Assurance, Party, SubjectType
from gateway.core.jose import Algorithm

_FORMAT: Final = 1


class Step(IntEnum):
    """The steps of a verification, by the numbers that ``verifier`` gives them."""

    CALLER = 1
    STRUCTURE = 2
    KEY = 3
    SIGNATURE = 4
    STATEMENT = 5
    DISCLOSURES = 6
    BINDING = 7
    STATUS = 8
    POLICY = 9
    LEDGER = 10
    ANSWER = 11


@dataclass(slots=True, kw_only=True)
class Findings:
    """What is known so far. Anything still empty or None was not reached, or is not there."""

    step: Step = Step.STRUCTURE
    """The step that was begun last; after a refusal, the one that refused."""
    profile: str = ""
    issuer: str = ""
    kid: str = ""
    anchors: tuple[str, ...] = ()
    """Those that attest the key."""
    trusted_until: datetime | None = None
    """Until when a quorum's unexpired word for the key lasts."""
    algorithm: Algorithm | None = None
    credential_type: str = ""
    acr: str = ""
    asserted: Assurance | None = None
    """By the issuer, before what the hand-over takes from it."""
    effective: Assurance | None = None
    issued_at: datetime | None = None
    authenticated_at: datetime | None = None
    expires_at: datetime | None = None
    subject_type: SubjectType | None = None
    party: Party | None = None
    in_scope: bool = False
    """Whether the authority of whoever acts extends to the matter, now."""
    disclosed: frozenset[str] = frozenset()
    """Names of the subject's claims that were presented and say something."""
    actor_disclosed: frozenset[str] = frozenset()
    holder_bound: bool = False
    status_list: str = ""
    status_issued_at: datetime | None = None
    status: int | None = None
    asked: frozenset[str] = frozenset()
    """Names of the claims that predicates of the request need."""
    consented: bool = False
    """Whether the request named a consent that covers it."""

    def to_members(self) -> dict[str, Any]:
        """Write it as JSON members, without what is empty. The same findings give the same members."""
        members: dict[str, Any] = {"format": _FORMAT}
        writers = _WRITERS
        for name, value in zip(_NAMES, _values_of(self), strict=True):
            if value or (value == 0 and value is not False):  # 0 is a status
                write = writers.get(type(value))
                members[name] = value if write is None else write(value)
        return members

    @classmethod
    def from_members(cls, written: Mapping[str, Any]) -> Findings:
        """Read what ``to_members`` wrote.

        Raises:
            ValueError: it is of a format that this program does not know.
        """
        members = dict(written)
        if members.pop("format", None) != _FORMAT:
            raise ValueError("findings are of an unknown format")
        if not members.keys() <= set(_NAMES):
            raise ValueError("findings have a member that is not known")
        read: dict[str, Any] = {
            name: _READERS[name](value) if name in _READERS else value for name, value in members.items()
        }
        return cls(**read)


_NAMES: Final = tuple(each.name for each in fields(Findings))
_values_of: Final = attrgetter(*_NAMES)


def _assurance(value: Any) -> Assurance:
    identity, authenticator, federation = value
    return Assurance(identity=identity, authenticator=authenticator, federation=federation)


def _instant(value: Any) -> datetime:
    return datetime.fromtimestamp(value, UTC)


_WRITERS: Final[Mapping[type, Callable[[Any], object]]] = {
    Assurance: lambda assurance: [assurance.identity, assurance.authenticator, assurance.federation],
    datetime: lambda at: int(at.timestamp()),
    frozenset: sorted,
    tuple: list,
}

_READERS: Final[Mapping[str, Callable[[Any], object]]] = {
    "step": Step,
    "anchors": tuple,
    "trusted_until": _instant,
    "algorithm": Algorithm,
    "asserted": _assurance,
    "effective": _assurance,
    "issued_at": _instant,
    "authenticated_at": _instant,
    "expires_at": _instant,
    "subject_type": SubjectType,
    "party": Party,
    "disclosed": frozenset,
    "actor_disclosed": frozenset,
    "status_issued_at": _instant,
    "asked": frozenset,
}
