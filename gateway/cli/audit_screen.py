"""Entries of the log, and what is wrong with it, in words for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from recognition.v1 import audit_pb2
from rich.text import Text

from gateway.cli.console import Cell, Lang, Screen
from gateway.cli.verdict_screen import VERDICTS
from gateway.core.entries import Kind, read
from gateway.core.log_audit import Fault
from gateway.core.reasons import Rejected

_KINDS: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.VERIFICATION: ("核验", "verification"),
    Kind.CONSENT: ("同意", "consent"),
    Kind.CREDENTIAL: ("凭证状态", "credential status"),
    Kind.TRUST: ("信任变更", "change of trust"),
    Kind.DISPUTE: ("异议", "dispute"),
    Kind.RETENTION: ("到期清除", "erasure"),
    Kind.LOG: ("启用新日志", "log begun"),
}
_FAULTS: Final[Mapping[Fault, tuple[str, str]]] = {
    Fault.CHANGED: ("记录被改动", "the entry is not what was logged"),
    Fault.REMOVED: ("记录被删除，且不是到期清除", "the entry is gone, and no retention entry names it"),
    Fault.REORDERED: ("记录被移位", "the entry belongs elsewhere"),
    Fault.INSERTED: ("记录是插入的", "the entry was never logged"),
    Fault.BEYOND: ("记录在日志范围之外", "the entry lies outside the log"),
    Fault.COLUMN: ("检索列与记录不符", "a look-up column contradicts the entry"),
    Fault.TREE: ("树节点与签署的不符，记录无误", "the tree does not hold what was signed; the entries do"),
    Fault.HEAD: ("签署的日志头与日志不符", "a signed head is not that of the log, or does not hold"),
    Fault.UNCOVERED: ("尚未被日志头覆盖", "not under a signed head yet"),
}
_EVENTS: Final[Mapping[str, str]] = {
    # charters, configuration, clock
    "pinned": "置备时钉定",
    "followed": "自动跟进",
    "installed": "安装",
    "in force": "生效",
    "reset": "重新设定",
    # keys
    "staged": "已备",
    "published": "已公布",
    "active": "启用",
    "draining": "停签，仍可验",
    "retired": "退役",
    "revoked": "撤销",
    "attested": "已获证实",
    "override asked": "请求破例",
    "undone": "收回",
    "lost": "丢失",
    # members
    "enrolled": "登记",
    "suspended": "中止",
    "resumed": "恢复",
    "change approved": "变更获准",
    "change rejected": "变更被拒",
    "keys attested": "证实密钥",
    "keys no longer attested": "不再证实密钥",
    "key revoked": "密钥撤销",
    "withdrawn": "撤回",
    "equivocated": "自相矛盾",
    # disputes
    "opened": "提出",
    "resolved": "处理完毕",
}
"""In Chinese; in English they are what the log says."""


def describe_entry(message: audit_pb2.LogEntry) -> dict[str, Any]:
    """Write an entry for programs: what it says is read from its bytes, never from the columns."""
    document: dict[str, Any] = {
        "log": message.log,
        "position": message.position,
        "id": None,
        "kind": None,
        "at": None,
        "body": None,
        "contradictions": list(message.contradictions),
    }
    try:
        entry = read(message.entry)
    except Rejected:
        return document
    return {
        **document,
        "id": entry.entry_id or None,
        "kind": entry.kind.value,
        "at": entry.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "body": dict(entry.body),
    }


def kind_name(kind: str | None, lang: Lang) -> str:
    """Name a kind of entry."""
    return lang.pick("无法读取", "cannot be read") if kind is None else lang.pick(*_KINDS[Kind(kind)])


def summary(document: Mapping[str, Any], lang: Lang) -> Cell:
    """Say in a line what an entry is about."""
    body: Mapping[str, Any] = document["body"] or {}
    match document["kind"]:
        case Kind.VERIFICATION:
            verdict = str(body.get("verdict", ""))
            _, style, zh, en = VERDICTS.get(verdict, (None, "", verdict, verdict))
            return Text(lang.pick(zh, en), style).append(_words(" ", body, "reason", "matter"), "")
        case Kind.TRUST:
            return event_name(body, lang) + _words(" ", body, "change", "subject", "administrator")
        case Kind.DISPUTE:
            return event_name(body, lang) + _words(" ", body, "ground", "outcome", "dispute_id")
        case Kind.CONSENT:
            return event_name(body, lang) + _words(" ", body, "matter", "consent_id")
        case Kind.RETENTION:
            gone = sum(body.get("steps", ())[1::2])
            return lang.pick(f"清除 {gone} 条 {body.get('keep')}", f"{gone} of class {body.get('keep')}")
        case _:
            return " ".join(f"{name}={value}" for name, value in body.items() if isinstance(value, str | int))


def event_name(body: Mapping[str, Any], lang: Lang) -> str:
    """Say what became of it."""
    event = str(body.get("event") or "-")
    return lang.pick(_EVENTS[event], event) if event in _EVENTS else event


def _words(before: str, body: Mapping[str, Any], *names: str) -> str:
    return "".join(f"{before}{body[name]}" for name in names if body.get(name))


def show_entries(screen: Screen, entries: list[dict[str, Any]], lang: Lang) -> None:
    """Show entries as a table."""
    pick = lang.pick
    logs = {each["log"] for each in entries}
    screen.table(
        pick("日志记录", "Entries of the log"),
        (
            *((pick("日志", "Log"),) if len(logs) > 1 else ()),
            pick("位置", "Position"),
            pick("时间", "Time"),
            pick("种类", "Kind"),
            pick("编号", "Id"),
            pick("业务系统", "Service"),
            pick("内容", "What"),
            "",
        ),
        [
            (
                *((each["log"],) if len(logs) > 1 else ()),
                str(each["position"]),
                each["at"] or "-",
                kind_name(each["kind"], lang),
                each["id"] or "-",
                str((each["body"] or {}).get("service", "-")),
                summary(each, lang),
                _contradicted(each["contradictions"], lang),
            )
            for each in entries
        ],
        whole={pick("编号", "Id"), pick("位置", "Position")},
    )


def _contradicted(names: list[str], lang: Lang) -> Cell:
    return Text(lang.pick("列不符：", "edited: ") + " ".join(names), "bold red") if names else ""


def entry_facts(document: Mapping[str, Any], lang: Lang) -> Iterator[tuple[str, Cell]]:
    """Give all fields of one entry."""
    pick = lang.pick
    yield pick("日志", "Log"), document["log"]
    yield pick("位置", "Position"), str(document["position"])
    yield pick("编号", "Id"), document["id"] or "-"
    yield pick("种类", "Kind"), kind_name(document["kind"], lang)
    yield pick("时间", "Time"), document["at"] or "-"
    for name, value in sorted((document["body"] or {}).items()):
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    found = document["contradictions"]
    yield pick("检索列", "Columns"), _contradicted(found, lang) if found else pick("与记录一致", "agree with the entry")


def show_findings(screen: Screen, log: Mapping[str, Any], lang: Lang) -> None:
    """Show what is wrong with a log."""
    pick = lang.pick
    screen.table(
        pick("发现", "Findings"),
        (pick("位置", "Positions"), pick("发现", "Finding"), pick("含义", "Meaning"), pick("说明", "Detail")),
        [
            (
                _positions(each["begin"], each["end"]),
                Text(each["fault"], "dim" if each["fault"] == Fault.UNCOVERED else "bold red"),
                pick(*_FAULTS[Fault(each["fault"])]),
                _detail(each, lang),
            )
            for each in log["findings"]
        ],
        whole={pick("位置", "Positions")},
    )
    if log["more"]:
        screen.line(Text(pick("还有更多，未逐一列出。", "And more, which are not named one by one."), "bold red"))


def _positions(begin: int, end: int) -> str:
    return str(begin) if end <= begin + 1 else f"{begin}-{end - 1}"


def _detail(finding: Mapping[str, Any], lang: Lang) -> str:
    begin, end, source = finding["begin"], finding["end"], finding["source"]
    if source is not None:
        belongs = _positions(source, source + end - begin)
        return lang.pick(f"原位置 {belongs}", f"belongs to {belongs}")
    if finding["fault"] == Fault.HEAD:
        return lang.pick(f"日志头：{end} 条", f"the head over {end} entries")
    return " ".join(finding["columns"])
