"""``mrg trust``, the part about time: what was trusted then, what has changed since, and a clock that ran ahead.

The gateway writes down what it trusts whenever that changes. So a verdict that is asked about months later can be held
against what was trusted when it was given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from gateway.cli import options
from gateway.cli.console import (
    Cell,
    ExitCode,
    Failure,
    Lang,
    exit_codes,
    instant,
    stderr,
    stdout,
    until,
    write_document,
)
from gateway.cli.store import open_store
from gateway.config import Config
from gateway.core.entries import TrustChange, seal, trust_entry
from gateway.core.trust import SUMMARISED_KEYS, diff_summaries, is_regressed
from gateway.storage import TrustStore

DIFF_EXIT_CODES: Final = exit_codes(
    {ExitCode.OK: "shown", ExitCode.CANNOT_TELL: "nothing is known of one of the two times"}
)
RESET_EXIT_CODES: Final = exit_codes({ExitCode.OK: "forgotten", ExitCode.NO: "not done: the answer was no"})
_SECOND: Final = timedelta(seconds=1)
_SIGNS: Final = {
    "keys": ("凭证", "credentials"),
    "status_keys": ("状态", "status lists"),
    "receipt_keys": ("回执", "receipts"),
    "audit_keys": ("检查点", "checkpoints"),
}
_MARKS: Final = {(False, True): ("+", "green"), (True, False): ("-", "red"), (True, True): ("~", "yellow")}


def look_back(config: Config, at: datetime, now: datetime, lang: Lang, *, as_json: bool) -> None:
    """Show what the gateway trusted at a time.

    Raises:
        Failure: the store cannot be read, or knows nothing of that time.
    """
    since, text = _load(config, at, "--as-of", now)
    summary: dict[str, Any] = json.loads(text)
    if as_json:
        write_document({"as_of": instant(at), "since": instant(since), "summary": summary})
        return
    screen, pick = stdout(), lang.pick
    screen.facts(
        [
            (pick("时间", "As of"), instant(at) or ""),
            (pick("自", "In force since"), instant(since) or ""),
            (pick("章程", "Charter"), str(summary["charter"])),
        ]
    )
    rows: list[tuple[Cell, ...]] = []
    for kind, subjects in SUMMARISED_KEYS.items():
        for member, said in sorted(summary.get(kind, {}).items()):
            rows += _rows(member, subjects, said, lang)
    screen.table(
        pick("当时被信任的密钥", "Keys trusted then"),
        (pick("成员", "Member"), pick("用途", "Signs"), "kid", pick("信任锚或原因", "Anchors, or why not")),
        rows,
    )


def _rows(member: str, subjects: Sequence[str], said: Mapping[str, Any], lang: Lang) -> Iterator[tuple[Cell, ...]]:
    pick = lang.pick
    for subject in subjects:
        for kid, anchors in sorted(said[subject].items()):
            yield member, pick(*_SIGNS[subject]), kid, " ".join(anchors)
    for kid, reason in sorted(said["revoked"].items()):
        yield member, Text(pick("已撤销", "revoked"), "bold red"), kid, reason
    for anchor in sorted(said["withdrawn"]):
        yield member, Text(pick("已撤回", "withdrawn"), "bold red"), "-", anchor


def diff(
    *,
    config: options.ConfigOption,
    begin: Annotated[str, typer.Option("--from", metavar="TIME", help="The earlier time (RFC 3339, or -5m).")],
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="The later time; absent: now.")] = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show what changed in what the gateway trusts between two times. Offline: from the province's own store."""
    now = options.world(lab_clock).now()
    loaded = options.configuration(config)
    first, second = options.past_moment(begin, "--from", now), options.past_moment(end, "--to", now)
    if second < first:
        raise Failure("--to is before --from", fix="give the earlier time first")
    old_since, old = _load(loaded, first, "--from", now)
    new_since, new = _load(loaded, second, "--to", now)
    changes = [
        {
            "issuer": each.issuer or None,
            "subject": each.subject,
            "name": each.name,
            "before": each.before or None,
            "after": each.after or None,
        }
        for each in diff_summaries(old, new)
    ]
    if as_json:
        write_document(
            {
                "from": {"at": instant(first), "since": instant(old_since)},
                "to": {"at": instant(second), "since": instant(new_since)},
                "changes": changes,
            }
        )
        return
    if not changes:
        stdout().line(lang.pick("没有变化。", "Nothing changed."))
        return
    pick = lang.pick
    stdout().table(
        pick("变化", "Changes"),
        (
            "",
            pick("成员", "Member"),
            pick("何事", "What"),
            pick("名称", "Name"),
            pick("之前", "Before"),
            pick("之后", "After"),
        ),
        [
            (
                _mark(each),
                *(each["issuer"] or "-", each["subject"] or "", each["name"] or ""),
                *(each["before"] or "-", each["after"] or "-"),
            )
            for each in changes
        ],
    )


def reset_clock(
    *,
    config: options.ConfigOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Forget the clock floor, once people have established that the anchors' clocks had run ahead and not ours behind.

    The floor is the latest time that a quorum of anchors attested. While our clock shows less, nothing is decided: with
    a clock that was set back, everything outdated would look fresh. The gateway may be running; it goes on within a
    round. First compare this machine's clock with another one.
    """
    now = options.world(lab_clock).now()
    loaded = options.configuration(config)
    with open_store(loaded) as stores:
        store = stores.trust
        floor = store.load_memory().clock_floor
        if floor is not None and not yes:
            options.ask_person(
                lambda: stderr().facts(
                    [
                        (lang.pick("本机时间", "Our clock"), instant(now) or ""),
                        (lang.pick("时钟下限", "Clock floor"), until(floor, now)),
                        ("", _explanation(lang, regressed=is_regressed(floor, now))),
                    ]
                ),
                lang.pick(
                    "已与另一时钟核对本机时间？忘记下限？", "Was our clock compared with another one? Forget the floor?"
                ),
                "compare this machine's clock with another one, then give --yes",
                as_json=as_json,
            )
        if floor is not None:
            entry = trust_entry(TrustChange.CLOCK, at=now, subject="clock floor", event="reset")
            store.reset_clock_floor([seal(entry)])
    if as_json:
        write_document({"now": instant(now), "floor": instant(floor), "reset": floor is not None})
        return
    words = ("没有下限可忘记。", "There was no floor.") if floor is None else ("已忘记。", "Forgotten.")
    stdout().line(lang.pick(*words))


def _explanation(lang: Lang, *, regressed: bool) -> str:
    if regressed:
        return lang.pick(
            "本机时间早于法定数信任锚已证明的时间，因此目前一律不作判断。若本机时钟有误，请校正时钟，不要重置。",
            "Our clock shows less than a quorum of anchors attested, so nothing is decided. If ours is wrong, correct"
            " it and do not reset.",
        )
    return lang.pick(
        "本机时间不早于下限，通常无需重置。", "Our clock is not behind the floor; a reset is hardly needed."
    )


def _load(config: Config, at: datetime, option: str, now: datetime) -> tuple[datetime, str]:
    with open_store(config) as stores:
        found = stores.trust.load_view(at)
        first = None if found is not None else _first_known(stores.trust, at, now)
    if found is None:
        raise Failure(
            f"{option}: nothing is known of that time",
            fix="the gateway had not run yet by then; "
            + ("name a later time" if first is None else f"the first time known is {instant(first)}"),
            code=ExitCode.CANNOT_TELL,
        )
    return found


def _first_known(store: TrustStore, unknown: datetime, now: datetime) -> datetime | None:
    """Give when the first view was taken, to the second; None: there is none."""
    found = store.load_view(now)
    while found is not None and found[0] - unknown > _SECOND:
        middle = unknown + (found[0] - unknown) / 2
        earlier = store.load_view(middle)
        if earlier is None:
            unknown = middle
        else:
            found = earlier
    return None if found is None else found[0]


def _mark(change: Mapping[str, str | None]) -> Text:
    return Text(*_MARKS[change["before"] is not None, change["after"] is not None])
