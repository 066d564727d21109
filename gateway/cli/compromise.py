"""``mrg keys compromise``: somebody else may have a key, and one command does all that is to be done.

It shows what will happen and asks once. Then the key is revoked for good and the stand-by key takes over, both in one
call to the gateway; then it watches until every gateway refuses the key, and tells for each how long that took. The
seconds are counted on this machine, from before the call to the moment the refusal was seen here, so the true time is
shorter. What happened is written down for those who have to answer for it, first as soon as the key is revoked.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from recognition.v1 import keys_pb2
from rich.text import Text

from gateway import wire
from gateway.cli import connection, files, options
from gateway.cli.console import (
    ExitCode,
    Failure,
    Lang,
    Screen,
    instant,
    stderr,
    stdout,
    write_document,
)
from gateway.cli.key_calls import find_key, request_id, stub
from gateway.cli.key_views import at, describe_holder, describe_key, show_keys, signs

_POLL_SECONDS: Final = 0.075
_PREFIX: Final = 8
_TELL_SECONDS: Final = 5.0
_OWNER_ONLY: Final = 0o700

_KEEP_RUNNING: Final = (
    "请保持本省网关运行，直到各方都已确认：此前各方可能尚未得知，而只有本省网关能告诉它们。",
    "Keep this gateway running until everybody acknowledged it: others may not know yet, and only it can tell them.",
)
_NEXT_STEPS: Final = (
    _KEEP_RUNNING,
    (
        "联系所列“尚未送达”的省份，确认其网关恢复后已拒绝该密钥。",
        "Call the provinces listed as not reached, and see that their gateways refuse the key once they are back.",
    ),
    (
        "逐一复核自该时间起凭该密钥被接受的核验（审计记录中有签发机构与 kid）。",
        "Review every verification accepted with the key since that time; the audit rows name issuer and kid.",
    ),
    (
        "为持有由该密钥签署凭证的人员重新签发凭证。",
        "Issue anew what the key had signed: nothing with its signature counts any more, whatever time it states.",
    ),
    (
        "确认新的备用密钥已公布（mrg keys list）；若没有：mrg keys rotate PURPOSE --apply。",
        "See that a new stand-by key is published (mrg keys list); if none is: mrg keys rotate PURPOSE --apply.",
    ),
    (
        "查明泄露途径，保全证据，并按预案向主管部门报告。",
        "Find out how it leaked, keep the evidence, and report as your procedures demand.",
    ),
)


@connection.administers
def compromise(
    kid: Annotated[str, typer.Argument(metavar="KID", help="The key: its kid, or at least its first 6 characters.")],
    *,
    gateway: connection.Gateway,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Since when somebody else may have had it (RFC 3339).")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, max=3600, help="Seconds to wait until everybody refuses it.")] = 30.0,
    record: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the incident record; made if need be.")
    ] = Path(),
    yes: Annotated[bool, typer.Option("--yes", help="Revoke it without asking.")] = False,
    request: Annotated[
        str | None,
        typer.Option("--request-id", help="Ask again under the name of an earlier try. Default: a new name."),
    ] = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Revoke a key that somebody else may have. For good: nothing it ever signed counts any more.

    The published stand-by key takes over at once. Waits until every gateway refuses the key, tells how many seconds
    each took, and writes an incident record.
    """
    world = options.world(lab_clock)
    since_at = None if since is None else options.moment(since, "--since", world.now())
    with gateway.connected() as connected:
        key = find_key(connected, kid)
        message = keys_pb2.RevokeKeyRequest(
            kid=key.kid,
            reason=keys_pb2.REVOCATION_REASON_COMPROMISED,
            compromised_since=None if since_at is None else wire.timestamp(since_at),
        )
        if not yes:
            options.ask_person(
                lambda: _show_plan(connected, key, message, world.now(), lang),
                lang.pick("现在撤销？", "Revoke it now?"),
                "revoke it with --yes",
                as_json=as_json,
            )
        with request_id(request, world, as_json=as_json) as name:
            message.request_id = name
            began = time.monotonic()
            answer = connected.ask(lambda channel: stub(channel).RevokeKey, message)
        incident = _incident(key, answer, since_at, name, world.now())
        place = _folder(record) / f"incident-{key.kid[:_PREFIX]}-{world.now():%Y%m%dT%H%M%SZ}"
        _write(place, incident)
        if not as_json:
            stderr().line(Text(lang.pick(*_KEEP_RUNNING), "bold yellow"))
        gateways, complete = _watch(connected, key.kid, began, wait, world.now(), _Progress(lang, as_json=as_json))
    incident |= {"gateways": gateways, "complete": complete}
    _write(place, incident)
    document = {**incident, "files": [f"{place}.json", f"{place}.md"]}
    if as_json:
        write_document(document)
    else:
        _show(stdout(), document, lang)
    raise typer.Exit(ExitCode.OK if incident["complete"] else ExitCode.CANNOT_TELL)


# -- before -----------------------------------------------------------------------------------------------------------


def _show_plan(
    connected: connection.Connection,
    key: keys_pb2.Key,
    message: keys_pb2.RevokeKeyRequest,
    now: datetime,
    lang: Lang,
) -> None:
    trial = keys_pb2.RevokeKeyRequest()
    trial.CopyFrom(message)
    trial.validate_only = True
    answer = connected.ask(lambda channel: stub(channel).RevokeKey, trial)
    document, screen, pick = describe_key(key), stderr(), lang.pick
    show_keys(screen, [document], now, lang)
    screen.line()
    screen.facts(
        [
            (
                pick("将要发生", "What will happen"),
                pick(
                    "该密钥永久撤销，不可恢复；凡由它签署的内容（无论标明何时）一律不再有效。",
                    "The key is revoked for good. Nothing it signed counts any more, whatever time it states.",
                ),
            ),
            (pick("涉及", "It signs"), signs(document["purpose"], lang)),
            (
                pick("接替", "Takes over"),
                answer.promoted_kid
                or Text(
                    pick(
                        "没有备用密钥：在新密钥为各方持有之前，无法签署。",
                        "no stand-by key: nothing can be signed until a new one is held by all",
                    ),
                    "bold red",
                ),
            ),
            (
                pick("本省已接受", "Accepted here"),
                pick(f"自该时间起 {answer.accepted_count} 次", f"{answer.accepted_count} times since then"),
            ),
        ]
    )


# -- watching ---------------------------------------------------------------------------------------------------------


class _Progress:
    """Tells a person at a terminal who is still waited for: when that changes, and every few seconds."""

    def __init__(self, lang: Lang, *, as_json: bool) -> None:
        self._lang = lang
        self._screen = stderr()
        self._wanted = self._screen.is_terminal and not as_json
        self._missing: list[str] | None = None
        self._told = 0.0

    def tell(self, holders: Sequence[Mapping[str, Any]], elapsed: float) -> None:
        """Say who does not refuse the key yet."""
        missing = [holder["province"] or holder["entity_id"] for holder in holders if not holder["refuses"]]
        if not self._wanted or (missing == self._missing and elapsed - self._told < _TELL_SECONDS):
            return
        self._missing, self._told = missing, elapsed
        names = " ".join(missing)
        if missing:
            words = self._lang.pick(f"{elapsed:.1f} 秒，尚未确认：{names}", f"{elapsed:.1f} s, still missing: {names}")
        else:
            words = self._lang.pick(f"{elapsed:.1f} 秒，各方均已拒绝", f"{elapsed:.1f} s, everybody refuses it")
        self._screen.line(Text(words, "yellow" if missing else "green"))


def _watch(
    connected: connection.Connection, kid: str, began: float, wait: float, now: datetime, progress: _Progress
) -> tuple[list[dict[str, Any]], bool]:
    """Look until every party refuses the key or the time is up; give each with the seconds it took, and if all do."""
    seconds: dict[str, float] = {}
    holders: Sequence[Mapping[str, Any]] = ()
    complete = False
    # The key is revoked by now. That the watching is cut short is no reason to lose the record of it.
    with suppress(KeyboardInterrupt):
        while not complete and time.monotonic() - began <= wait:
            # One look that fails is not the last.
            with suppress(Failure):
                answer = connected.ask(
                    lambda channel: stub(channel).ListAcknowledgements, keys_pb2.ListAcknowledgementsRequest(kid=kid)
                )
                holders = [describe_holder(holder, now) for holder in answer.holders]
                elapsed = time.monotonic() - began
                for holder in holders:
                    if holder["refuses"]:
                        seconds.setdefault(holder["entity_id"], round(elapsed, 3))
                complete = all(holder["refuses"] for holder in holders)
                progress.tell(holders, elapsed)
            if not complete:
                time.sleep(_POLL_SECONDS)
    gateways = [
        {
            "entity_id": holder["entity_id"],
            "province": holder["province"],
            "reachable": holder["reachable"],
            "seconds": seconds.get(holder["entity_id"]),
        }
        for holder in holders
    ]
    return gateways, complete


# -- the record -------------------------------------------------------------------------------------------------------


def _folder(wanted: Path) -> Path:
    """Give the folder for the record, made if need be, and the current one where that cannot be."""
    try:
        wanted.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
        if os.access(wanted, os.W_OK | os.X_OK):
            return wanted
        problem = "cannot be written to"
    except OSError as error:
        problem = error.strerror or type(error).__name__
    words = f"{wanted}: {problem}; the incident record goes to the current folder, {Path.cwd()}"
    stderr().line(Text(words, "bold red"))
    return Path()


def _incident(
    key: keys_pb2.Key, answer: keys_pb2.RevokeKeyResponse, since: datetime | None, request: str, now: datetime
) -> dict[str, Any]:
    return {
        "kid": key.kid,
        "purpose": describe_key(key)["purpose"],
        "compromised_since": instant(since),
        "revoked_at": at(answer, "revoke_time"),
        "promoted_kid": answer.promoted_kid or None,
        "accepted_since": answer.accepted_count,
        "request_id": request,
        "written_at": instant(now),
        "gateways": [],
        "complete": False,
        "next_steps": [{"zh": zh, "en": en} for zh, en in _NEXT_STEPS],
    }


def _write(place: Path, incident: Mapping[str, Any]) -> None:
    """Write the record twice: for programs, and for people in both languages. What cannot be written is told, no more.

    By now the key is revoked, and whoever reads a failure here might think it was not.
    """
    for suffix, text in ((".json", json.dumps(incident, ensure_ascii=False, indent=2)), (".md", _prose(incident))):
        try:
            files.write_text(Path(f"{place}{suffix}"), text, mode=files.PRIVATE)
        except Failure as failure:
            stderr().line(Text(f"the incident record was not written: {failure.message}", "bold red"))


def _prose(incident: Mapping[str, Any]) -> str:
    rows = [
        ("密钥 Key", f"`{incident['kid']}` ({incident['purpose']})"),
        ("可能泄露自 Possibly known to others since", incident["compromised_since"] or "不详 not known"),
        ("撤销时间 Revoked at", incident["revoked_at"] or "-"),
        (
            "接替密钥 Stand-by key that took over",
            f"`{incident['promoted_kid']}`" if incident["promoted_kid"] else "无 none",
        ),
        ("本省自该时间起接受次数 Accepted here since then", str(incident["accepted_since"])),
        ("请求编号 Request", f"`{incident['request_id']}`"),
    ]
    lines = [
        "# 密钥泄露事件记录 Record of a compromised key",
        "",
        *(f"- {name}: {value}" for name, value in rows),
        "",
        "## 各方拒绝该密钥所用时间 Seconds until each refused the key",
        "",
        *(f"- {each['province']} {each['entity_id']}: {_took(each)}" for each in incident["gateways"]),
        *([] if incident["gateways"] else ["- 记录写入时尚未得知 not known when this was written"]),
        "",
        "## 后续工作 Next steps",
        "",
    ]
    for number, step in enumerate(incident["next_steps"], 1):
        lines += [f"{number}. {step['zh']}", f"   {step['en']}"]
    return "\n".join(lines)


def _took(gateway: Mapping[str, Any]) -> str:
    return "尚未送达 not reached" if gateway["seconds"] is None else f"{gateway['seconds']:.2f} s"


def _show(screen: Screen, document: Mapping[str, Any], lang: Lang) -> None:
    pick = lang.pick
    screen.line(Text(pick("密钥已撤销", "The key is revoked"), "bold green"))
    screen.facts(
        [
            ("kid", document["kid"]),
            (pick("撤销时间", "Revoked at"), document["revoked_at"] or "-"),
            (pick("接替", "Took over"), document["promoted_kid"] or Text(pick("无", "none"), "bold red")),
            (pick("本省已接受", "Accepted here"), str(document["accepted_since"])),
            (pick("事件记录", "Incident record"), document["files"][0]),
            ("", document["files"][1]),
        ]
    )
    screen.table(
        pick("各方拒绝该密钥", "Until each refused it"),
        (pick("省份", "Province"), pick("网关或信任锚", "Gateway or anchor"), pick("秒", "Seconds")),
        [
            (
                each["province"],
                each["entity_id"],
                Text(pick("尚未送达", "not reached"), "bold red")
                if each["seconds"] is None
                else Text(f"{each['seconds']:.2f}", "green"),
            )
            for each in document["gateways"]
        ],
    )
    screen.line()
    for number, step in enumerate(document["next_steps"], 1):
        screen.line(f"{number}. {pick(step['zh'], step['en'])}")
