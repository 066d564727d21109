"""``mrg keys``: this province's own signing keys, for its administrators.

A key goes through one life (staged, published, active, draining, retired) and never back. Every command that changes
something says first what it would do. What may not happen yet is refused by the gateway, which knows who holds what;
here the refusal is shown with who it is about, how old their word is, and what to do. A change that may have been
carried out although no answer came is asked for again under the same ``--request-id``: it is not done twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from recognition.v1 import keys_pb2
from rich.text import Text

from gateway.cli import connection, key_status, options, pairwise
from gateway.cli.compromise import compromise
from gateway.cli.console import (
    ExitCode,
    Failure,
    Lang,
    exit_codes,
    instant,
    stderr,
    stdout,
    write_document,
)
from gateway.cli.key_calls import find_key, holders_of, list_keys, plan_of, request_id, stub
from gateway.cli.key_views import (
    Purpose,
    PurposeOption,
    advice,
    describe_key,
    describe_rotation,
    show_holders,
    show_keys,
    show_rotation,
)
from gateway.cli.store import open_store, unusable
from gateway.cli.supersede import supersede
from gateway.storage import StorageError

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Rotate, watch and revoke this province's signing keys. What the gateway says itself is English whatever --lang"
        " is: who keeps a key from being activated, and the details of steps."
    ),
)

_ASKED: Final = exit_codes({ExitCode.OK: "done", ExitCode.NOT_ASKED: "could not ask the gateway"})
_CHANGED: Final = {
    ExitCode.NO: "not done: refused as things stand, or the answer was no",
    ExitCode.NOT_ASKED: "could not ask the gateway; ask again with the same --request-id",
}

_NEVER_ACTIVATED: Final = {
    "active": "nothing is to be done: it signs already",
    **dict.fromkeys(("draining", "retired", "revoked"), "it never signs again; use another: mrg keys rotate {purpose}"),
}

_Kid = Annotated[str, typer.Argument(metavar="KID", help="The key: its kid, or at least its first 6 characters.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
_RequestId = Annotated[
    str | None, typer.Option("--request-id", help="Ask again under the name of an earlier try. Default: a new name.")
]


# -- looking ----------------------------------------------------------------------------------------------------------


@app.command("list", epilog=_ASKED)
@connection.administers
def list_(
    *,
    gateway: connection.Gateway,
    purpose: PurposeOption = None,
    past: Annotated[bool, typer.Option("--all", help="Also those that are retired or revoked.")] = False,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show the keys, what each is for and where it is in its life."""
    now = options.world(lab_clock).now()
    with gateway.connected() as connected:
        keys = [describe_key(key) for key in list_keys(connected, purpose, past=past)]
    if as_json:
        write_document({"now": instant(now), "keys": keys})
        return
    show_keys(stdout(), keys, now, lang)


app.command(epilog=key_status.EXIT_CODES)(key_status.status)


# -- changing ---------------------------------------------------------------------------------------------------------


@app.command(epilog=exit_codes({ExitCode.OK: "planned; with --apply: done", **_CHANGED}))
@connection.administers
def rotate(
    purpose: Annotated[Purpose, typer.Argument(help="What the key to be rotated signs.")],
    *,
    gateway: connection.Gateway,
    apply: Annotated[
        bool, typer.Option("--apply", help="Make and publish the next key. Without it: the plan.")
    ] = False,
    yes: _Yes = False,
    request: _RequestId = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show the plan of a rotation: steps with their times, impact, who holds what. Changes nothing without --apply.

    --apply makes and publishes the next key, which signs nothing yet; it can be taken back with mrg keys undo. Where
    the next key waits already, there is nothing to do.
    """
    world = options.world(lab_clock)
    now = world.now()
    with gateway.connected() as connected:
        plan = plan_of(connected, purpose.number)
        document = describe_rotation(plan, now)
        waiting = document["next_kid"]
        if not apply or waiting is not None:
            _give({"applied": False, "waiting_kid": waiting, "request_id": None, "rotation": document}, as_json=as_json)
            if not as_json:
                show_rotation(stdout(), document, now, lang)
                if apply:
                    _show_waiting(waiting, lang)
                _next(_after(document, f"mrg keys rotate {purpose} --apply"), lang)
            return
        if not yes:
            options.ask_person(
                lambda: show_rotation(stderr(), document, now, lang),
                lang.pick("现在生成并公布下一密钥？", "Make and publish the next key now?"),
                f"read the plan with mrg keys rotate {purpose}, then apply it with --yes",
                as_json=as_json,
            )
        with request_id(request, world, as_json=as_json) as name:
            message = keys_pb2.ApplyRotationRequest(purpose=purpose.number, request_id=name, etag=plan.etag)
            answer = connected.ask(lambda channel: stub(channel).ApplyRotation, message)
    document = describe_rotation(answer.rotation, world.now())
    _give(
        {"applied": True, "waiting_kid": document["next_kid"], "request_id": name, "rotation": document},
        as_json=as_json,
    )
    if not as_json:
        show_rotation(stdout(), document, world.now(), lang)
        _next(_after(document, f"mrg keys list --purpose {purpose}"), lang)


def _show_waiting(kid: str, lang: Lang) -> None:
    stdout().line()
    stdout().line(
        lang.pick(
            f"无需操作：{kid} 已在等待启用。", f"Nothing had to be done: {kid} waits already. Nothing was changed."
        )
    )


@app.command(
    context_settings=options.ANY_NAME,
    epilog=exit_codes(
        {
            ExitCode.OK: "the key signs from now on",
            **_CHANGED,
            ExitCode.CANNOT_TELL: "the override is recorded and waits for a second administrator",
        }
    ),
)
@connection.administers
def activate(
    kid: _Kid,
    *,
    gateway: connection.Gateway,
    override: Annotated[
        bool, typer.Option("--override", help="Although somebody does not hold it; takes two administrators.")
    ] = False,
    justification: Annotated[str, typer.Option(help="Why; needed with --override, and kept in the history.")] = "",
    yes: _Yes = False,
    check: options.CheckOption = False,
    request: _RequestId = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Let a published key sign from now on. Refused until everybody who has to holds it; then it says who and why.

    An override takes two administrators: the first call records the wish, the same call by another one within the hour
    carries it out.
    """
    if override != bool(justification):
        raise Failure(
            "--override and --justification go together", fix="give both, with the reason in a sentence, or neither"
        )
    world = options.world(lab_clock)
    with gateway.connected() as connected:
        key = find_key(connected, kid)
        if not yes and not check:
            options.ask_person(
                lambda: _show_activation(key, world.now(), lang, override=override),
                lang.pick("仍要启用？", "Activate it all the same?")
                if override
                else lang.pick("现在启用这把密钥？", "Let this key sign from now on?"),
                "give --yes",
                as_json=as_json,
            )
        with request_id(request, world, as_json=as_json) as name:
            message = keys_pb2.ActivateKeyRequest(
                kid=key.kid, request_id=name, override=override, justification=justification, validate_only=check
            )
            try:
                answer = connected.ask(lambda channel: stub(channel).ActivateKey, message)
            except Failure as failure:
                if failure.code is ExitCode.NO:
                    raise _refused(failure, connected, key, world.now(), lang, as_json=as_json) from failure
                raise
    document = describe_rotation(answer.rotation, world.now())
    _give(
        {
            "kid": key.kid,
            "activated": not check and not answer.awaiting_approval,
            "awaiting_approval": answer.awaiting_approval,
            "request_id": name,
            "rotation": document,
        },
        as_json=as_json,
    )
    if not as_json:
        _show_activated(key.kid, lang, awaiting=answer.awaiting_approval, check=check)
    raise typer.Exit(ExitCode.CANNOT_TELL if answer.awaiting_approval else ExitCode.OK)


def _show_activation(key: keys_pb2.Key, now: datetime, lang: Lang, *, override: bool) -> None:
    show_keys(stderr(), [describe_key(key)], now, lang)
    if override:
        stderr().line(
            lang.pick(
                "越过检查启用密钥：尚未持有它的网关将无法判断它签署的内容。",
                "An override: gateways that do not hold the key will not be able to judge what it signs.",
            )
        )


def _refused(
    failure: Failure, connected: connection.Connection, key: keys_pb2.Key, now: datetime, lang: Lang, *, as_json: bool
) -> Failure:
    """Add to a refusal who it is about, how old their word is and what to do."""
    document = describe_key(key)
    if document["state"] in _NEVER_ACTIVATED:
        return _answer_no(failure, _NEVER_ACTIVATED[document["state"]].format(purpose=document["purpose"]))
    rotation = describe_rotation(plan_of(connected, key.purpose), now)
    # The same parties as mrg keys status shows: our own gateway among them, and those alone who have to hold it.
    holders = rotation["holders"] if rotation["next_kid"] == key.kid else holders_of(connected, key.kid, now)
    blocking = [{**holder, "advice": advice(holder, Lang.EN)} for holder in holders if holder["blocks"]]
    if not as_json:
        screen = stderr()
        for line in failure.details.get("blockers", ()):
            screen.line(Text(f"- {line}", "yellow"))
        show_holders(screen, key.kid, holders, now, lang)
        for holder in blocking:
            screen.line(f"{holder['entity_id']}: {advice(holder, lang)}")
    blockers = failure.details.get("blockers", ())
    if blockers and not blocking and all(line.startswith("the publication window is open") for line in blockers):
        opens = next((step["at"] for step in rotation["steps"] if step["step"] == "wait" and not step["done"]), None)
        if rotation["next_kid"] == key.kid and opens is not None:
            return Failure(
                "the publication window of the key is open",
                fix=f"wait until {opens}, then activate it again; mrg keys status --watch ends by then",
                code=ExitCode.NO,
                details={**failure.details, "holders": []},
            )
    return Failure(
        failure.message,
        fix=(
            "wait (mrg keys status --watch), or have the peers named above mended; in an emergency two administrators"
            " may give --override --justification"
        ),
        code=ExitCode.NO,
        details={**failure.details, "holders": blocking},
    )


def _answer_no(failure: Failure, fix: str) -> Failure:
    return Failure(failure.message, fix=fix, code=ExitCode.NO, details=failure.details)


def _show_activated(kid: str, lang: Lang, *, awaiting: bool, check: bool) -> None:
    if awaiting:
        stdout().line(
            Text(lang.pick("已记录，等待另一位管理员。", "Recorded; waits for another administrator."), "yellow")
        )
        command = f"mrg keys activate {kid} --override --justification ... --as ANOTHER_ADMIN.toml"
        _next([f"{command} ({lang.pick('一小时之内', 'within the hour')})"], lang)
    elif check:
        stdout().line(lang.pick("可以启用，未做改动。", "It could be activated. Nothing was changed."))
    else:
        stdout().line(Text(lang.pick(f"{kid} 现已启用。", f"{kid} signs from now on."), "green"))


@app.command(context_settings=options.ANY_NAME, epilog=exit_codes({ExitCode.OK: "taken back", **_CHANGED}))
@connection.administers
def undo(
    kid: _Kid,
    *,
    gateway: connection.Gateway,
    yes: _Yes = False,
    check: options.CheckOption = False,
    request: _RequestId = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Take back a key that has not signed anything yet. Its kid is never used again."""
    world = options.world(lab_clock)
    with gateway.connected() as connected:
        key = find_key(connected, kid)
        if not yes and not check:
            options.ask_person(
                lambda: show_keys(stderr(), [describe_key(key)], world.now(), lang),
                lang.pick("收回这把密钥？", "Take this key back?"),
                "give --yes",
                as_json=as_json,
            )
        with request_id(request, world, as_json=as_json) as name:
            message = keys_pb2.UndoRotationRequest(kid=key.kid, request_id=name, validate_only=check)
            try:
                answer = connected.ask(lambda channel: stub(channel).UndoRotation, message)
            except Failure as failure:
                if failure.code is not ExitCode.NO:
                    raise
                purpose = describe_key(key)["purpose"]
                fix = f"it stays; to replace it: mrg keys rotate {purpose}; if in other hands: mrg keys compromise"
                raise _answer_no(failure, fix) from failure
    document = describe_rotation(answer.rotation, world.now())
    _give({"kid": key.kid, "undone": not check, "request_id": name, "rotation": document}, as_json=as_json)
    if not as_json:
        words = (
            ("可以收回，未做改动。", "It could be taken back. Nothing was changed.")
            if check
            else ("已收回。", "Taken back.")
        )
        stdout().line(lang.pick(*words))


app.command(
    context_settings=options.ANY_NAME,
    epilog=exit_codes(
        {
            ExitCode.OK: "revoked, and everybody refuses it",
            **_CHANGED,
            ExitCode.CANNOT_TELL: "revoked; somebody has not been reached yet",
        }
    ),
)(compromise)
app.command(
    context_settings=options.ANY_NAME,
    epilog=exit_codes({ExitCode.OK: "replaced; with --check: could be replaced", **_CHANGED}),
)(supersede)


app.command(epilog=pairwise.EXIT_CODES)(pairwise.pairwise)


# -- looking back -----------------------------------------------------------------------------------------------------


@app.command(
    context_settings=options.ANY_NAME,
    epilog=exit_codes({ExitCode.OK: "shown", ExitCode.NO: "no such key in the history"}),
)
def history(
    kid: Annotated[str, typer.Argument(metavar="[KID]", help="Only of this key.")] = "",
    *,
    config: options.ConfigOption,
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Show what happened to the keys, when, and who did it. Offline: from the province's own store."""
    loaded = options.configuration(config)
    with open_store(loaded) as stores:
        try:
            events = [event for event in stores.keys.load_key_events() if event.kid.startswith(kid)]
        except StorageError as error:
            raise unusable(loaded, error) from error
    if kid and not events:
        raise Failure("the history knows no such key", fix="leave KID out to see all there were", code=ExitCode.NO)
    found = [
        {
            "at": instant(event.at),
            "kid": event.kid,
            "purpose": event.purpose,
            "event": event.event,
            "administrator": event.administrator or None,
            "detail": event.detail,
        }
        for event in events
    ]
    if as_json:
        write_document({"events": found})
        return
    pick = lang.pick
    stdout().table(
        pick("密钥历史", "What happened to the keys"),
        (
            pick("时间", "When"),
            pick("用途", "Purpose"),
            "kid",
            pick("事件", "Event"),
            pick("何人", "By"),
            pick("说明", "Detail"),
        ),
        [
            (
                *(each["at"] or "", each["purpose"] or "", each["kid"] or "", each["event"] or ""),
                *(each["administrator"] or pick("自动", "scheduler"), each["detail"] or ""),
            )
            for each in found
        ],
        whole={"kid"},
    )


# -- shared -----------------------------------------------------------------------------------------------------------


def _give(document: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_document(document)


def _after(rotation: Mapping[str, Any], otherwise: str) -> Sequence[str]:
    """What comes after a look at a rotation: the next key waits to be held by all, if there is one."""
    kid = rotation["next_kid"]
    if kid is None:
        return [otherwise]
    published = any(step["step"] == "publish" and step["done"] for step in rotation["steps"])
    if rotation["purpose"] == Purpose.ANCHOR_FEDERATION and not published:  # that a charter does, which people sign
        return [
            f"mrg charter key --config gateway.toml --kid {kid} --out KEY.json",
            "mrg charter create --previous CHARTER.json --add-anchor-key PROVINCE=KEY.json",
        ]
    return [f"mrg keys status --purpose {rotation['purpose']} --watch", f"mrg keys activate {kid}"]


def _next(commands: Sequence[str], lang: Lang) -> None:
    stdout().line()
    names = (lang.pick("下一步", "Next"), *[""] * len(commands))
    stdout().facts(zip(names, commands, strict=False))
