"""What changes from one charter to the next, and what to mind about it, for the people who are asked to sign it.

Compares meaning, not text: the order of members, spelling of JSON and signatures do not show. An entry that is new or
gone is one change, with its content written out; an entry that stays is compared field by field. What is acceptable to
the rules may still hurt those who live under it: ``cautions`` says how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from gateway.core.agreement import Agreement
from gateway.core.charter import ISSUER_TYPE, Charter, CharterAnchor, Member, continuing_anchors
from gateway.core.jose import PublicKey

_NOT_CONTENT: Final = frozenset({"document", "sha256"})

_Tree: TypeAlias = "str | Mapping[str, _Tree]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference. ``before`` is None for what is new, ``after`` for what is gone."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        """One line for people, marked ``+``, ``-`` or ``~``."""
        if self.before is None:
            return f"+ {self.path}: {self.after}"
        if self.after is None:
            return f"- {self.path}: {self.before}"
        return f"~ {self.path}: {self.before} -> {self.after}"


def diff(old: Charter, new: Charter) -> tuple[Change, ...]:
    """List the changes from ``old`` to ``new`` in the order of the document."""
    return tuple(_compare("", _tree(old), _tree(new)))


def diff_agreements(old: Agreement, new: Agreement) -> tuple[Change, ...]:
    """List the changes between two recognition agreements, with the paths that they have in a charter."""
    return tuple(_compare("agreement", _tree(old), _tree(new)))


def _compare(path: str, old: _Tree | None, new: _Tree | None) -> Iterator[Change]:
    if isinstance(old, str) or isinstance(new, str) or old is None or new is None:
        if old != new:
            yield Change(path=path, before=_render(old), after=_render(new))
        return
    for name in [*old, *(name for name in new if name not in old)]:
        yield from _compare((path + name).removeprefix("."), old.get(name), new.get(name))


def _tree(value: object) -> _Tree:
    if isinstance(value, tuple):
        # Anchors and members are known by their identifiers, whatever their order; steps of a scale by their number.
        return {
            f"[{item.entity_id if isinstance(item, CharterAnchor | Member) else number}]": _tree(item)
            for number, item in enumerate(value, 1)
        }
    if isinstance(value, Mapping):  # of these, only an algorithm's sunset may be missing
        return {f"[{name}]": "no sunset" if item is None else _tree(item) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, PublicKey):
        return {f".{f.name}": _tree(getattr(value, f.name)) for f in fields(value) if f.name not in _NOT_CONTENT}
    return _scalar(value)


def _scalar(value: object) -> str:
    match value:
        case PublicKey():
            text = value.algorithm.value
        case frozenset():
            text = " ".join(sorted(map(_scalar, value))) or "none"
        case bool():
            text = "yes" if value else "no"
        case timedelta():
            text = f"{int(value.total_seconds())} s"
        case datetime():
            text = value.isoformat()
        case None:
            text = "none"
        case _:
            text = str(value)
    return text


def _render(tree: _Tree | None) -> str | None:
    if tree is None or isinstance(tree, str):
        return tree
    return "{" + ", ".join(f"{name.strip('.')}: {_render(item)}" for name, item in tree.items()) + "}"


# -- what to mind -----------------------------------------------------------------------------------------------------


class CautionKind(StrEnum):
    """What a charter that is acceptable may still do to those who live under it."""

    RECOGNITION_GAP = "recognition_gap"
    """Too few anchors continue: until the new ones have vouched, no key reaches the quorum."""
    NO_ANCHOR_TO_SPARE = "no_anchor_to_spare"
    """All anchors are needed: one lost key, and there can be no further charter."""
    ANCHOR_ADDED = "anchor_added"
    """A new anchor, or one whose keys are all new: it counts once it has vouched."""
    ANCHOR_KEY_DROPPED = "anchor_key_dropped"
    """An anchor keeps some keys and loses others: it has to sign with one that stays."""
    MEMBER_ADDED = "member_added"
    MEMBER_REMOVED = "member_removed"
    ISSUER_WITHOUT_TERMS = "issuer_without_terms"
    """A member that issues, of which the agreement says nothing: none of its credentials is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """One thing to mind before a charter is signed."""

    kind: CautionKind
    subject: str
    """The entity it is about; empty: the charter as a whole."""
    detail: str
    """What happens, and what to do about it."""


def cautions(old: Charter | None, new: Charter) -> tuple[Caution, ...]:
    """List what to mind about a charter, and about the step to it from the one before."""
    found = [*_of_the_step(old, new)] if old is not None else []
    if len(new.anchors) == new.quorum > 1:
        found.append(
            Caution(
                kind=CautionKind.NO_ANCHOR_TO_SPARE,
                subject="",
                detail=f"all {new.quorum} anchors are needed: with one of them down nothing is recognised, and with one"
                " key lost there can be no further charter; add an anchor, or lower the quorum where it may be lower",
            )
        )
    found += (
        Caution(
            kind=CautionKind.ISSUER_WITHOUT_TERMS,
            subject=member.entity_id,
            detail="the agreement has no terms for it, so that none of its credentials is accepted; add it to issuers",
        )
        for member in new.members
        if ISSUER_TYPE in member.entity_types and member.entity_id not in new.agreement.issuers
    )
    return tuple(found)


def _of_the_step(old: Charter, new: Charter) -> Iterator[Caution]:
    continuing = {anchor.entity_id for anchor in continuing_anchors(old, new)}
    if len(continuing) < new.quorum:
        yield Caution(
            kind=CautionKind.RECOGNITION_GAP,
            subject="",
            detail=f"{len(continuing)} anchors continue and {new.quorum} are needed: until new ones have vouched for"
            " them, no member is recognised; change fewer anchors at a time, and add before you remove",
        )
    for anchor in new.anchors:
        before = old.anchor(anchor.entity_id)
        if before is None or anchor.entity_id not in continuing:
            yield Caution(
                kind=CautionKind.ANCHOR_ADDED,
                subject=anchor.entity_id,
                detail="it counts once it has enrolled the members and vouched for them; gateways name it in their"
                " authority_hints by themselves as soon as they follow this charter",
            )
        elif dropped := before.keys.keys() - anchor.keys.keys():
            yield Caution(
                kind=CautionKind.ANCHOR_KEY_DROPPED,
                subject=anchor.entity_id,
                detail=f"it must be signing with {' or '.join(sorted(anchor.keys))} before this charter is installed;"
                f" what {' and '.join(sorted(dropped))} signed counts for nothing after",
            )
    yield from _of_members(old, new)


def _of_members(old: Charter, new: Charter) -> Iterator[Caution]:
    before = {member.entity_id for member in old.members}
    after = {member.entity_id for member in new.members}
    for entity_id in sorted(after - before):
        yield Caution(
            kind=CautionKind.MEMBER_ADDED,
            subject=entity_id,
            detail=f"it is recognised once {new.quorum} anchors have enrolled its first federation key",
        )
    for entity_id in sorted(before - after):
        yield Caution(
            kind=CautionKind.MEMBER_REMOVED,
            subject=entity_id,
            detail="it is refused at once wherever this charter is followed, with all it ever signed",
        )
