"""``mrg anchor``: the members that this province's anchor vouches for, for its operators.

One anchor's word is one vote: withdrawing it takes nothing from a member while a quorum of others stands by it. What
cannot be undone (a revocation, enrolling another key in the place of one) is asked about first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import grpc
import typer
from recognition.v1 import anchor_pb2, anchor_pb2_grpc
from rich.text import Text

from gateway import wire
from gateway.cli import connection, drafting, options
from gateway.cli.console import (
    ExitCode,
    Failure,
    Lang,
    Screen,
    exit_codes,
    groups,
    instant,
    stderr,
    stdout,
    write_document,
)
from gateway.cli.key_views import ago, at, name_of
from gateway.core.vouching import MAX_SUSPENSION

app = typer.Typer(no_args_is_help=True, help="Look after the members this province's anchor vouches for.")

_ASKED: Final = exit_codes({ExitCode.OK: "done", ExitCode.NOT_ASKED: "could not ask the gateway"})
_CHANGED: Final = exit_codes(
    {
        ExitCode.OK: "done; with --check: could be done",
        ExitCode.NO: "not done: refused as things stand, or the answer was no",
        ExitCode.NOT_ASKED: "could not ask the gateway",
    }
)
_STYLES: Final[Mapping[str, str]] = {
    "vouched": "green",
    "awaited": "yellow",
    "not-enrolled": "yellow",
    "suspended": "bold yellow",
    "revoked": "bold red",
}
_PAGE: Final = 1_000
_MAX_PAGES: Final = 100
_MIN_CHANGE: Final = 6
_MAX_SUSPENSION_DAYS: Final = MAX_SUSPENSION.days
_SHORT: Final = 12

_Member = Annotated[str, typer.Argument(metavar="ENTITY", help="The member's entity identifier.")]
_Change = Annotated[str, typer.Argument(metavar="CHANGE", help="The change, as mrg anchor pending shows it.")]
_Reason = Annotated[str, typer.Option("--reason", help="Why, in 1 to 200 characters. Everybody can read it.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


def _stub(channel: grpc.Channel) -> Any:
    return anchor_pb2_grpc.AnchorServiceStub(channel)


# -- looking ----------------------------------------------------------------------------------------------------------


@app.command(epilog=_ASKED)
@connection.administers
def members(
    *,
    gateway: connection.Gateway,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show the members and what this anchor says of each."""
    now = options.world(lab_clock).now()
    with gateway.connected() as connected:
        found: list[anchor_pb2.AnchorMember] = []
        request = anchor_pb2.ListMembersRequest(page_size=_PAGE)
        for _ in range(_MAX_PAGES):
            answer = connected.ask(lambda channel: _stub(channel).ListMembers, request)
            found += answer.members
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
    documents = [_describe(member) for member in found]
    if as_json:
        write_document({"now": instant(now), "members": documents})
    else:
        _show_members(stdout(), documents, now, lang)


@app.command(epilog=_ASKED)
@connection.administers
def pending(
    *,
    gateway: connection.Gateway,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show new keys of members that wait for somebody's approval."""
    now = options.world(lab_clock).now()
    with gateway.connected() as connected:
        changes = [_describe_change(change) for change in _pending(connected)]
    if as_json:
        write_document({"now": instant(now), "changes": changes})
        return
    if not changes:
        stdout().line(lang.pick("没有待批准的变更。", "Nothing waits for approval."))
        return
    _show_changes(stdout(), changes, now, lang)
    stdout().line()
    stdout().line(
        lang.pick(
            "批准之前，请致电该省核对指纹：mrg anchor approve CHANGE。",
            "Compare the thumbprints with that province over the telephone, then: mrg anchor approve CHANGE.",
        )
    )


# -- deciding on new keys ---------------------------------------------------------------------------------------------


@app.command(context_settings=options.ANY_NAME, epilog=_CHANGED)
@connection.administers
def approve(
    change: _Change,
    *,
    gateway: connection.Gateway,
    yes: _Yes = False,
    check: options.CheckOption = False,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Approve new keys of a member: from now on this anchor attests them."""
    now = options.world(lab_clock).now()
    with gateway.connected() as connected:
        found = _find_change(connected, change)
        if not yes and not check:
            options.ask_person(
                lambda: _show_change(stderr(), _describe_change(found), now, lang),
                lang.pick(
                    "已与该省核对这些指纹？批准？", "Were these thumbprints compared with that province? Approve?"
                ),
                "compare the thumbprints mrg anchor pending shows, then approve with --yes",
                as_json=as_json,
            )
        request = anchor_pb2.ApproveChangeRequest(change_id=found.change_id, validate_only=check)
        answer = connected.ask(lambda channel: _stub(channel).ApproveChange, request)
    _changed(answer.member, "approved", ("已批准", "approved"), now, lang, check=check, as_json=as_json)


@app.command(context_settings=options.ANY_NAME, epilog=_CHANGED)
@connection.administers
def reject(
    change: _Change,
    *,
    gateway: connection.Gateway,
    yes: _Yes = False,
    check: options.CheckOption = False,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Reject new keys of a member: this anchor will not attest them, nor ask about them again."""
    now = options.world(lab_clock).now()
    with gateway.connected() as connected:
        found = _find_change(connected, change)
        if not yes and not check:
            options.ask_person(
                lambda: _show_change(stderr(), _describe_change(found), now, lang),
                lang.pick("拒绝这些密钥？不会再次询问。", "Reject these keys? They will not be asked about again."),
                "reject with --yes",
                as_json=as_json,
            )
        request = anchor_pb2.RejectChangeRequest(change_id=found.change_id, validate_only=check)
        answer = connected.ask(lambda channel: _stub(channel).RejectChange, request)
    _changed(answer.member, "rejected", ("已拒绝", "rejected"), now, lang, check=check, as_json=as_json)


# -- deciding on members ----------------------------------------------------------------------------------------------


@app.command(epilog=_CHANGED)
@connection.administers
def enroll(
    member: _Member,
    *,
    gateway: connection.Gateway,
    key: Annotated[str, typer.Option(metavar="THUMBPRINT", help="Its federation key, as people compared it.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="In the place of the keys attested so far, for a member that lost them.")
    ] = False,
    yes: _Yes = False,
    check: options.CheckOption = False,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Enrol a member under the thumbprint of its federation key, which people compared."""
    now, thumbprint = options.world(lab_clock).now(), _thumbprint(key)
    if replace and not yes and not check:
        options.ask_person(
            lambda: stderr().facts(
                [(lang.pick("成员", "Member"), member), (lang.pick("指纹", "Key"), groups(thumbprint))]
            ),
            lang.pick(
                "已认可的密钥将永远失效。已当面或致电核对新指纹？继续？",
                "The keys attested so far are spent for good. Was the new thumbprint compared by people? Go on?",
            ),
            "compare the thumbprint, then give --yes",
            as_json=as_json,
        )
    request = anchor_pb2.EnrolMemberRequest(
        entity_id=member, federation_key=thumbprint, replace=replace, validate_only=check
    )
    answer = gateway.ask(lambda channel: _stub(channel).EnrolMember, request)
    _changed(answer.member, "enrolled", ("已登记", "enrolled"), now, lang, check=check, as_json=as_json)


@app.command(epilog=_CHANGED)
@connection.administers
def suspend(
    member: _Member,
    *,
    gateway: connection.Gateway,
    reason: _Reason,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Until when (RFC 3339); at most 30 days ahead.")
    ] = None,
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="12h|7d", help="How long, instead of --until.")
    ] = None,
    check: options.CheckOption = False,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Withdraw this anchor's word for a member for a while. It comes back by itself, or by mrg anchor resume."""
    now = options.world(lab_clock).now()
    if (until is None) == (lasting is None):
        raise Failure("one of --until and --for is needed, and only one", fix="write for example --for 7d")
    length = options.lifetime(lasting, "--for")
    until_at = options.moment(until, "--until", now) if length is None else now + length
    request = anchor_pb2.SuspendMemberRequest(
        entity_id=member, until_time=wire.timestamp(until_at), reason=reason, validate_only=check
    )
    try:
        answer = gateway.ask(lambda channel: _stub(channel).SuspendMember, request)
    except Failure as failure:
        if failure.details.get("field") != "until_time" and "until_time" not in failure.message:
            raise
        option = "--until" if length is None else "--for"
        raise Failure(
            failure.message.replace("until_time", option),
            fix=f"give {option} a time that is at most {_MAX_SUSPENSION_DAYS} days ahead",
            code=failure.code,
            details=failure.details,
        ) from failure
    _changed(answer.member, "suspended", ("已暂停", "suspended"), now, lang, check=check, as_json=as_json)


@app.command(epilog=_CHANGED)
@connection.administers
def resume(
    member: _Member,
    *,
    gateway: connection.Gateway,
    check: options.CheckOption = False,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """End a suspension: this anchor vouches for the member again."""
    now = options.world(lab_clock).now()
    request = anchor_pb2.ResumeMemberRequest(entity_id=member, validate_only=check)
    try:
        answer = gateway.ask(lambda channel: _stub(channel).ResumeMember, request)
    except Failure as failure:
        if failure.code is not ExitCode.NO:
            raise
        raise Failure(
            failure.message,
            fix="only a suspension can be resumed: mrg anchor members shows the state of each member",
            code=failure.code,
            details=failure.details,
        ) from failure
    _changed(answer.member, "resumed", ("已恢复", "resumed"), now, lang, check=check, as_json=as_json)


@app.command(epilog=_CHANGED)
@connection.administers
def revoke(
    member: _Member,
    *,
    gateway: connection.Gateway,
    reason: _Reason,
    yes: _Yes = False,
    check: options.CheckOption = False,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Withdraw this anchor's word for a member, for good: no command brings it back."""
    now = options.world(lab_clock).now()
    if not yes and not check:
        options.ask_person(
            lambda: stderr().facts([(lang.pick("成员", "Member"), member), (lang.pick("原因", "Reason"), reason)]),
            lang.pick("永久撤回，无法恢复。继续？", "This is for good and cannot be taken back. Go on?"),
            "give --yes; for a while, use mrg anchor suspend instead",
            as_json=as_json,
        )
    request = anchor_pb2.RevokeMemberRequest(entity_id=member, reason=reason, validate_only=check)
    answer = gateway.ask(lambda channel: _stub(channel).RevokeMember, request)
    _changed(answer.member, "revoked", ("已撤销", "revoked"), now, lang, check=check, as_json=as_json)


# -- documents --------------------------------------------------------------------------------------------------------


def _describe(member: anchor_pb2.AnchorMember) -> dict[str, Any]:
    return {
        "entity_id": member.entity_id,
        "province": member.province,
        "entity_types": list(member.entity_types),
        "state": name_of(anchor_pb2.MemberState.Name, member.state, "MEMBER_STATE_"),
        "federation_keys": list(member.federation_keys),
        "credential_keys": list(member.credential_keys),
        "statement_expires_at": at(member, "statement_expire_time"),
        "suspended_until": at(member, "suspend_until_time"),
        "reason": member.reason or None,
        "change_pending": member.change_pending,
    }


def _describe_change(change: anchor_pb2.PendingChange) -> dict[str, Any]:
    return {
        "change_id": change.change_id,
        "entity_id": change.entity_id,
        "province": change.province,
        "added_federation_keys": list(change.added_federation_keys),
        "added_credential_keys": list(change.added_credential_keys),
        "seen_at": at(change, "create_time"),
    }


def _pending(connected: connection.Connection) -> list[anchor_pb2.PendingChange]:
    changes: list[anchor_pb2.PendingChange] = []
    request = anchor_pb2.ListPendingChangesRequest(page_size=_PAGE)
    for _ in range(_MAX_PAGES):
        answer = connected.ask(lambda channel: _stub(channel).ListPendingChanges, request)
        changes += answer.changes
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    return changes


def _thumbprint(text: str) -> str:
    try:
        return drafting.digest(text, "--key")
    except Failure as failure:
        raise Failure(
            "--key is not a thumbprint", fix="copy it from the member's card, base64url or hexadecimal"
        ) from failure


def _find_change(connected: connection.Connection, change: str) -> anchor_pb2.PendingChange:
    changes = _pending(connected)
    found = [each for each in changes if each.change_id == change] or [
        each for each in changes if len(change) >= _MIN_CHANGE and each.change_id.startswith(change)
    ]
    if not found and len(change) < _MIN_CHANGE:
        raise Failure(
            f"{change}: too short: give at least {_MIN_CHANGE} characters", fix="mrg anchor pending shows it whole"
        )
    if len(found) != 1:
        raise Failure(
            "no such change waits for approval" if not found else "several changes begin like that",
            fix=f"write its identifier, or at least {_MIN_CHANGE} characters of it, as mrg anchor pending shows it",
        )
    return found[0]


# -- for people -------------------------------------------------------------------------------------------------------


def _show_members(screen: Screen, members: Sequence[Mapping[str, Any]], now: datetime, lang: Lang) -> None:
    pick = lang.pick
    screen.table(
        pick("成员", "Members"),
        (
            *(
                pick("省份", "Province"),
                pick("实体", "Entity"),
                pick("状态", "State"),
                pick("联邦密钥", "Federation keys"),
            ),
            *(
                pick("业务密钥", "Application keys"),
                pick("声明有效至", "Statement lives until"),
                pick("说明", "Remark"),
            ),
        ),
        [
            (
                *(member["province"], member["entity_id"], Text(member["state"], _STYLES.get(member["state"], ""))),
                " ".join(kid[:_SHORT] for kid in member["federation_keys"]) or "-",
                " ".join(kid[:_SHORT] for kid in member["credential_keys"]) or "-",
                ago(member["statement_expires_at"], now, lang),
                _remark(member, now, lang),
            )
            for member in members
        ],
    )


def _remark(member: Mapping[str, Any], now: datetime, lang: Lang) -> str:
    parts = [
        lang.pick("有待批准的新密钥", "new keys wait for approval") if member["change_pending"] else "",
        f"{lang.pick('至', 'until')} {ago(member['suspended_until'], now, lang)}" if member["suspended_until"] else "",
        member["reason"] or "",
    ]
    return "; ".join(part for part in parts if part) or "-"


def _show_changes(screen: Screen, changes: Sequence[Mapping[str, Any]], now: datetime, lang: Lang) -> None:
    pick = lang.pick
    screen.table(
        pick("待批准的变更", "Changes that wait for approval"),
        (pick("变更", "Change"), pick("省份", "Province"), pick("实体", "Entity"), pick("首见", "First seen")),
        [
            (change["change_id"], change["province"], change["entity_id"], ago(change["seen_at"], now, lang))
            for change in changes
        ],
        whole={pick("变更", "Change")},
    )
    screen.table(
        pick("新增密钥的指纹", "Thumbprints of the keys that would be added"),
        (pick("实体", "Entity"), pick("用途", "For"), pick("指纹", "Thumbprint")),
        [
            (change["entity_id"], use, groups(thumbprint))
            for change in changes
            for use, thumbprints in (
                (pick("联邦", "federation"), change["added_federation_keys"]),
                (pick("业务", "application"), change["added_credential_keys"]),
            )
            for thumbprint in thumbprints
        ],
    )


def _show_change(screen: Screen, change: Mapping[str, Any], now: datetime, lang: Lang) -> None:
    _show_changes(screen, [change], now, lang)


def _changed(
    member: anchor_pb2.AnchorMember,
    done: str,
    words: tuple[str, str],
    now: datetime,
    lang: Lang,
    *,
    check: bool,
    as_json: bool,
) -> None:
    document = _describe(member)
    if as_json:
        write_document({"done": None if check else done, "member": document})
        return
    unchanged = lang.pick("可以执行，未做改动。", "It could be done. Nothing was changed.")
    stdout().line(unchanged if check else f"{member.entity_id}: {lang.pick(*words)}")
    _show_members(stdout(), [document], now, lang)
