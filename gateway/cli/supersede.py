"""``mrg keys supersede``: replace a key before its time, although nobody else has it.

Unlike a rotation it revokes the old key, in the same second in which the stand-by key takes over: what bears a later
time is refused, what was signed before goes on counting. Unlike a compromise there is no hurry, so it is refused until
everybody who has to holds the stand-by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer
from recognition.v1 import keys_pb2
from rich.text import Text

from gateway.cli import connection, options
from gateway.cli.console import ExitCode, Failure, Lang, stderr, stdout, write_document
from gateway.cli.key_calls import find_key, plan_of, request_id, stub
from gateway.cli.key_views import at, describe_key, describe_rotation, is_ready, show_holders, show_keys


@connection.administers
def supersede(
    kid: Annotated[str, typer.Argument(metavar="KID", help="The key: its kid, or so much of it that it is clear.")],
    *,
    gateway: connection.Gateway,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    check: options.CheckOption = False,
    request: Annotated[
        str | None,
        typer.Option("--request-id", help="Ask again under the name of an earlier try. Default: a new name."),
    ] = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Replace the key that signs by the stand-by key and revoke it, for good. What it signed before still counts.

    Refused until everybody who has to holds the stand-by key; then it says who. For a key that somebody else may have,
    use mrg keys compromise, which waits for nobody.
    """
    world = options.world(lab_clock)
    with gateway.connected() as connected:
        key = find_key(connected, kid)
        # Asked again, it is done: the gateway knows, and does nothing twice.
        if request is None or key.state != keys_pb2.KEY_STATE_REVOKED:
            _check(connected, key, world.now(), lang, as_json=as_json)
        message = keys_pb2.RevokeKeyRequest(
            kid=key.kid, reason=keys_pb2.REVOCATION_REASON_SUPERSEDED, validate_only=check
        )
        if not yes and not check:
            options.ask_person(
                lambda: show_keys(stderr(), [describe_key(key)], world.now(), lang),
                lang.pick(
                    "永久撤销这把密钥，由备用密钥接替？它此前所签内容继续有效。",
                    "Revoke this key for good, and let the stand-by key take over? What it signed before still counts.",
                ),
                "give --yes",
                as_json=as_json,
            )
        with request_id(request, world, as_json=as_json) as name:
            message.request_id = name
            answer = connected.ask(lambda channel: stub(channel).RevokeKey, message)
    if as_json:
        write_document(
            {
                "kid": key.kid,
                "superseded": not check,
                "promoted_kid": answer.promoted_kid or None,
                "revoked_at": at(answer, "revoke_time"),
                "request_id": name,
            }
        )
    elif check:
        stdout().line(lang.pick("可以替换，未做改动。", "It could be replaced. Nothing was changed."))
    else:
        stdout().line(Text(lang.pick(f"{answer.promoted_kid} 已接替。", f"{answer.promoted_kid} took over."), "green"))


def _check(connected: connection.Connection, key: keys_pb2.Key, now: datetime, lang: Lang, *, as_json: bool) -> None:
    """See to it that the key signs, and that the next one is held by everybody who has to.

    Raises:
        Failure: it is not so, or the gateway was not reached.
    """
    if key.state != keys_pb2.KEY_STATE_ACTIVE:
        raise Failure(
            "only the key that signs can be superseded",
            fix="take one that waits back with mrg keys undo; one that drains goes by itself",
            code=ExitCode.NO,
        )
    rotation = describe_rotation(plan_of(connected, key.purpose), now)
    purpose, next_kid = rotation["purpose"], rotation["next_kid"]
    if next_kid is None:
        raise Failure(
            "no stand-by key waits to take over", fix=f"make one: mrg keys rotate {purpose} --apply", code=ExitCode.NO
        )
    if is_ready(rotation, now):
        return
    details = [step["detail"] for step in rotation["steps"] if step["step"] == "wait" and step["detail"]]
    if not as_json:
        _show_blockers(rotation, details, now, lang)
    raise Failure(
        f"not everybody who has to holds the stand-by key {next_kid} yet",
        fix=f"wait: mrg keys status --purpose {purpose} --watch; if the key is in other hands: mrg keys compromise",
        code=ExitCode.NO,
        details={"blockers": details, "holders": [each for each in rotation["holders"] if each["blocks"]]},
    )


def _show_blockers(rotation: Mapping[str, Any], details: list[str], now: datetime, lang: Lang) -> None:
    screen = stderr()
    for line in details:
        screen.line(Text(f"- {line}", "yellow"))
    show_holders(screen, rotation["next_kid"], rotation["holders"], now, lang)
