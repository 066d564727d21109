"""What changes from one charter to the next, for the people who are asked to sign it.

Compares meaning, not text: the order of members, spelling of JSON and signatures do not show. An entry that is new or
gone is one change, with its content written out; an entry that stays is compared field by field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from gateway.core.charter import Charter, CharterAnchor, Member
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


def _compare(path: str, old: _Tree | None, new: _Tree | None) -> Iterator[Change]:
    if isinstance(old, str) or isinstance(new, str) or old is None or new is None:
        if old != new:
            yield Change(path=path, before=_render(old), after=_render(new))
        return
    for name in [*old, *(name for name in new if name not in old)]:
        yield from _compare((path + name).removeprefix("."), old.get(name), new.get(name))


def _tree(value: object) -> _Tree:
    if isinstance(value, tuple):  # anchors or members: known by their identifiers, whatever their order
        return {f"[{item.entity_id}]": _tree(item) for item in value if isinstance(item, CharterAnchor | Member)}
    if isinstance(value, Mapping):
        return {f"[{name}]": _tree(item) for name, item in value.items()}
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
