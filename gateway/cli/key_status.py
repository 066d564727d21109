"""``mrg keys status``: who already holds each key, how old their word is, and who is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from gateway.cli import connection, options
from gateway.cli.console import Board, ExitCode, Lang, Screen, exit_codes, instant, span, stdout, write_document
from gateway.cli.key_calls import holders_of, list_keys, plan_of
from gateway.cli.key_views import (
    SHORT_KID,
    Purpose,
    PurposeOption,
    ago,
    describe_key,
    describe_rotation,
    is_ready,
    show_holders,
    since,
)

EXIT_CODES: Final = exit_codes(
    {
        ExitCode.OK: "no key that is published waits for anybody",
        ExitCode.CANNOT_TELL: "a published key cannot be activated yet",
        ExitCode.NOT_ASKED: "could not ask the gateway",
    }
)
_MIN_INTERVAL: Final = 0.2


@connection.administers
def status(
    *,
    gateway: connection.Gateway,
    purpose: PurposeOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again until nobody is waited for.")] = False,
    interval: Annotated[float, typer.Option(min=_MIN_INTERVAL, max=60, help="Seconds between two looks.")] = 1.0,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show who already holds each key, how old their word is, and who is waited for."""
    world = options.world(lab_clock)
    with gateway.connected() as connected:

        def look() -> dict[str, Any]:
            return _status(connected, purpose, world.now())

        if not watch:
            document = look()
        elif as_json or not stdout().is_terminal:
            document = _watched(look, interval, lambda _document: None)
        else:
            with Board() as board:
                document = _watched(
                    look,
                    interval,
                    lambda found: board.draw(lambda screen: _show_status(screen, found, world.now(), lang)),
                )
    if as_json:
        write_document(document)
    elif not watch or not stdout().is_terminal:
        _show_status(stdout(), document, world.now(), lang)
    raise typer.Exit(ExitCode.OK if document["ready"] else ExitCode.CANNOT_TELL)


def _watched(
    look: Callable[[], dict[str, Any]], interval: float, show: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    while True:
        document = look()
        show(document)
        if document["ready"]:
            return document
        time.sleep(interval)


def _status(connected: connection.Connection, purpose: Purpose | None, now: datetime) -> dict[str, Any]:
    keys = [describe_key(key) for key in list_keys(connected, purpose, past=False)]
    rotations = [
        describe_rotation(plan_of(connected, each.number), now)
        for each in Purpose
        if any(key["purpose"] == each for key in keys)
    ]
    next_keys = {rotation["next_kid"]: rotation for rotation in rotations if rotation["next_kid"] is not None}
    for key in keys:
        rotation = next_keys.get(key["kid"])
        holders = rotation["holders"] if rotation is not None else holders_of(connected, key["kid"], now)
        key["holders"] = holders
        key["waits"] = key["state"] == "published" and rotation is not None and not is_ready(rotation, now)
    return {
        "now": instant(now),
        "ready": not any(key["waits"] for key in keys),
        "keys": keys,
        "rotations": rotations,
    }


def _show_status(screen: Screen, document: Mapping[str, Any], now: datetime, lang: Lang) -> None:
    pick = lang.pick
    screen.table(
        pick("密钥", "Keys"),
        (
            *(pick("用途", "Purpose"), "kid", pick("状态", "State"), pick("启用", "Signs since")),
            *(pick("已持有", "Held by"), pick("最旧的说法", "Oldest word"), pick("时钟偏差", "Clocks")),
            pick("等待", "Waits for"),
        ),
        [
            (
                *(key["purpose"], key["kid"][:SHORT_KID], key["state"], since(key["activated_at"], now, lang)),
                *_held(key["holders"], lang),
                Text(_waits_for(key, document["rotations"], now, lang), "yellow"),
            )
            for key in document["keys"]
        ],
        whole={"kid"},
    )
    for key in document["keys"]:
        if key["state"] == "published":
            show_holders(screen, key["kid"], key["holders"], now, lang)


def _held(holders: Sequence[Mapping[str, Any]], lang: Lang) -> tuple[str, str, str]:
    # Anchors sign what they hold and acknowledge nothing.
    said = [holder for holder in holders if holder["age_seconds"] is not None or not holder["holds"]]
    ages = [holder["age_seconds"] for holder in said]
    offsets = [abs(each["clock_offset_seconds"]) for each in holders if each["clock_offset_seconds"] is not None]
    count, whole = sum(holder["holds"] for holder in holders), len(holders)
    held = f"{count}/{whole}" if lang is Lang.ZH else f"{count} of {whole}"
    if not ages:
        oldest = "-"
    elif None in ages:
        oldest = lang.pick("从未", "never")
    else:
        oldest = span(timedelta(seconds=max(0, *ages)), lang)
    return held, oldest, f"±{max(offsets):.1f} s" if offsets else "-"


def _waits_for(key: Mapping[str, Any], rotations: Sequence[Mapping[str, Any]], now: datetime, lang: Lang) -> str:
    if not key["waits"]:
        return "-"
    blocking = [holder["province"] or holder["entity_id"] for holder in key["holders"] if holder["blocks"]]
    if blocking:
        return " ".join(blocking)
    steps = next(rotation["steps"] for rotation in rotations if rotation["next_kid"] == key["kid"])
    until = next((step["at"] for step in steps if step["step"] == "wait" and not step["done"]), None)
    return f"{lang.pick('公布期', 'publication window')} {ago(until, now, lang)}"
