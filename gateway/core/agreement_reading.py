"""What a change of the agreement means: whether it loosens or tightens, in words.

A change that lets in, hands out or keeps more than before loosens. One that lets in one thing and keeps out another
loosens too: what is newly allowed is what somebody has to have meant. What neither lets in nor keeps out is neutral.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from gateway.core.agreement import Agreement, Words
from gateway.core.charter_diff import Change


class Effect(StrEnum):
    """What a change does."""

    LOOSENS = "loosens"
    TIGHTENS = "tightens"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One change, and what it means."""

    change: Change
    matter: str | None
    """The matter that it is about; None: another part, which may bear on all."""
    effect: Effect
    words: Words


_Judge: TypeAlias = Callable[[str | None, str | None], Effect]
_PLACE: Final = re.compile(r"agreement\.(matters|issuers|levels|terms)\[(.*?)\](?:\.(.+))?")
_ENTRY: Final = re.compile(r"(algorithms|equivalence)\[(.*)\](?:\.(.+))?")
_NONE: Final = "none"
_NO_SUNSET: Final = "no sunset"


# -- which way --------------------------------------------------------------------------------------------------------


def _neutral(_before: str | None, _after: str | None) -> Effect:
    return Effect.NEUTRAL


def _opposite(judge: _Judge) -> _Judge:
    def judged(before: str | None, after: str | None) -> Effect:
        return judge(after, before)

    return judged


def _more_loosens(before: str | None, after: str | None) -> Effect:
    """Judge names: what is new loosens."""
    return Effect.LOOSENS if _names(after) - _names(before) else Effect.TIGHTENS


def _more_tightens(before: str | None, after: str | None) -> Effect:
    """Judge names that are demanded: what is gone loosens."""
    return Effect.LOOSENS if _names(before) - _names(after) else Effect.TIGHTENS


def _higher_loosens(before: str | None, after: str | None) -> Effect:
    return Effect.LOOSENS if _number(after) > _number(before) else Effect.TIGHTENS


def _entry_loosens(before: str | None, after: str | None) -> Effect:
    """Judge an entry that is new or gone."""
    return Effect.LOOSENS if before is None else Effect.TIGHTENS if after is None else Effect.NEUTRAL


def _demand_tightens(before: str | None, after: str | None) -> Effect:
    """Judge what is demanded, or is not; other words for the same demand are neutral."""
    asked, asks = before not in {None, _NONE, "no"}, after not in {None, _NONE, "no"}
    return Effect.NEUTRAL if asked == asks else Effect.TIGHTENS if asks else Effect.LOOSENS


def _later_loosens(before: str | None, after: str | None) -> Effect:
    if before is None or after is None:
        return _entry_loosens(before, after)
    return Effect.LOOSENS if _end(after) > _end(before) else Effect.TIGHTENS


def _names(rendered: str | None) -> frozenset[str]:
    return frozenset() if rendered in {None, _NONE} else frozenset(str(rendered).split(" "))


def _number(rendered: str | None) -> int:
    return int(str(rendered).removesuffix(" s"))


def _end(rendered: str) -> float:
    return float("inf") if rendered == _NO_SUNSET else datetime.fromisoformat(rendered).timestamp()


_higher_tightens: Final = _opposite(_higher_loosens)


@dataclass(frozen=True, slots=True)
class _Part:
    zh: str
    en: str
    judge: _Judge = _neutral


_AXES: Final = {
    "identity": ("身份", "identity"),
    "authenticator": ("鉴别", "authenticator"),
    "federation": ("联合", "federation"),
}


def _levels(prefix: str, zh: str, en: str, judge: _Judge) -> dict[str, _Part]:
    return {
        f"{prefix}.{axis}": _Part(f"{zh}（{axis_zh}）", f"{en} ({axis_en})", judge)
        for axis, (axis_zh, axis_en) in _AXES.items()
    }


_OF_MATTERS: Final[Mapping[str, _Part]] = {
    "name_zh": _Part("中文名称", "Chinese name"),
    "name_en": _Part("英文名称", "English name"),
    **_levels("min_assurance", "保障等级下限", "floor", _higher_tightens),
    "key_binding": _Part("密钥绑定", "key binding", _demand_tightens),
    "max_credential_age": _Part("凭证最长时间", "age of the credential", _higher_loosens),
    "max_authentication_age": _Part("认证最长时间", "age of the log-in", _higher_loosens),
    "credential_types": _Part("凭证类型", "credential types", _more_loosens),
    "required_claims": _Part("必需属性", "required claims", _more_tightens),
    "released_claims": _Part("放行属性", "released claims", _more_loosens),
    "legal_basis": _Part("法律依据", "legal basis"),
    "legal_basis.zh": _Part("法律依据（中文）", "legal basis (Chinese)"),
    "legal_basis.en": _Part("法律依据（英文）", "legal basis (English)"),
    "consent": _Part("同意文书", "consent", _demand_tightens),
    "consent.zh": _Part("同意文书（中文）", "consent (Chinese)"),
    "consent.en": _Part("同意文书（英文）", "consent (English)"),
    "restricted_claims": _Part("受限制的属性", "restricted claims"),
    "subject_types": _Part("主体类型", "subject types", _more_loosens),
    "parties": _Part("出示人", "parties", _more_loosens),
    "actor_required_claims": _Part("代办人必需属性", "required claims of the actor", _more_tightens),
    "actor_released_claims": _Part("代办人放行属性", "released claims of the actor", _more_loosens),
    "questions": _Part("可问的问题", "questions", _more_loosens),
    "comparable_claims": _Part("可比对属性", "comparable claims", _more_loosens),
    "status_required": _Part("状态核查", "status required", _demand_tightens),
    "max_status_age": _Part("状态最长时间", "age of the status", _higher_loosens),
    "retention": _Part("保存期限", "retention", _higher_loosens),
}
_OF_ISSUERS: Final[Mapping[str, _Part]] = {
    **_levels("cap", "等级上限", "cap", _higher_loosens),
    "algorithms": _Part("算法", "algorithm", _later_loosens),
    "equivalence": _Part("等级对照", "equivalence", _entry_loosens),
    **_levels("equivalence", "等级对照", "equivalence", _higher_loosens),
}
_OF_LEVELS: Final[Mapping[str, _Part]] = {
    "name.zh": _Part("中文名称", "Chinese name"),
    "name.en": _Part("英文名称", "English name"),
    **_levels("floor", "下限", "floor", _higher_tightens),
}
_OF_TERMS: Final[Mapping[str, _Part]] = {"zh": _Part("中文", "Chinese"), "en": _Part("英文", "English")}
_OF_ALL: Final[Mapping[str, _Part]] = {
    "trust_frameworks": _Part("互认框架", "trust frameworks", _more_loosens),
    "assurance_levels": _Part("保障级别名称", "assurance levels", _more_loosens),
    "clock_skew": _Part("时钟偏差", "clock skew", _higher_loosens),
    "stale_grace": _Part("陈旧宽限", "stale grace", _higher_loosens),
    "max_credential_lifetime": _Part("凭证最长有效期", "lifetime of credentials", _higher_loosens),
    "max_assertion_lifetime": _Part("断言最长有效期", "lifetime of assertions", _higher_loosens),
    "max_key_binding_age": _Part("密钥绑定证明最长时间", "age of key-binding proofs", _higher_loosens),
    "restricted_claims": _Part("受限制的属性", "restricted claims", _more_tightens),
}
_PARTS: Final[Mapping[str, tuple[Words, Mapping[str, _Part], _Judge]]] = {
    "matters": (Words("事项", "matter"), _OF_MATTERS, _entry_loosens),
    "issuers": (Words("签发方", "issuer"), _OF_ISSUERS, _entry_loosens),
    "levels": (Words("总等级", "level"), _OF_LEVELS, _neutral),
    "terms": (Words("用语", "term"), _OF_TERMS, _neutral),
}


# -- in words ---------------------------------------------------------------------------------------------------------


def read_changes(changes: Sequence[Change], old: Agreement, new: Agreement) -> tuple[Reading, ...]:
    """Say of every change between two agreements what it does."""
    return tuple(_read(change, old, new) for change in changes)


def effects(readings: Sequence[Reading]) -> Mapping[str, frozenset[Effect]]:
    """Give, by matter, what its changes do, neutral ones left out."""
    found: dict[str, frozenset[Effect]] = {}
    for reading in readings:
        if reading.matter is not None and reading.effect is not Effect.NEUTRAL:
            found[reading.matter] = found.get(reading.matter, frozenset()) | {reading.effect}
    return found


def _read(change: Change, old: Agreement, new: Agreement) -> Reading:
    place = _PLACE.fullmatch(change.path)
    if place is None:
        name = change.path.removeprefix("agreement.")
        part = _OF_ALL.get(name, _Part(name, name))
        return _reading(change, None, part, Words(part.zh, part.en))
    kind, name, rest = place[1], place[2], place[3]
    title, parts, whole = _PARTS[kind]
    matter = name if kind == "matters" else None
    called = _called(kind, name, new if change.after is not None else old)
    if rest is None:
        return _reading(change, matter, _Part(title.zh, title.en, whole), _joined(title, called))
    entry = _ENTRY.fullmatch(rest) if kind == "issuers" else None
    member = rest if entry is None else entry[1] if entry[3] is None else f"{entry[1]}.{entry[3]}"
    part = parts.get(member, _Part(member, member))
    words = _joined(title, called)
    of_entry = "" if entry is None else f" {entry[2]}"
    return _reading(change, matter, part, Words(f"{words.zh}：{part.zh}{of_entry}", f"{words.en}: {part.en}{of_entry}"))


def _called(kind: str, name: str, agreement: Agreement) -> Words:
    matter = agreement.matters.get(name) if kind == "matters" else None
    return Words(name, name) if matter is None else Words(f"{name}（{matter.name_zh}）", f"{name} ({matter.name_en})")


def _joined(title: Words, called: Words) -> Words:
    return Words(f"{title.zh} {called.zh}", f"{title.en} {called.en}")


def _reading(change: Change, matter: str | None, part: _Part, subject: Words) -> Reading:
    zh, en = _said(change, part)
    return Reading(
        change=change,
        matter=matter,
        effect=part.judge(change.before, change.after),
        words=Words(f"{subject.zh}：{zh}", f"{subject.en}: {en}"),
    )


def _said(change: Change, part: _Part) -> tuple[str, str]:
    if change.before is None:
        return "新增", "new"
    if change.after is None:
        return "取消", "gone"
    if part.judge in {_more_loosens, _more_tightens}:
        more = " ".join(sorted(_names(change.after) - _names(change.before)))
        less = " ".join(sorted(_names(change.before) - _names(change.after)))
        zh = "；".join(part for part in (more and f"增加 {more}", less and f"去掉 {less}") if part)
        en = "; ".join(part for part in (more and f"adds {more}", less and f"drops {less}") if part)
        return zh, en
    return f"由 {change.before} 改为 {change.after}", f"{change.before} becomes {change.after}"
