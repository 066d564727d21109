"""What ``mrg doctor`` finds: one line each, with its state and the fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from gateway.cli.console import Failure, instant, span

WARN_DAYS: Final = (30, 14, 7, 1)
"""Days ahead of an end at which it is warned of; the last of them is no warning any more."""


class State(StrEnum):
    """How good a finding is."""

    OK = "ok"
    WARN = "warn"
    """Nothing fails yet, or only for others."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    area: str
    subject: str
    state: State
    detail: str
    fix: str = ""


def ok(area: str, subject: str, detail: str) -> Finding:
    """All is well."""
    return Finding(area=area, subject=subject, state=State.OK, detail=detail)


def warn(area: str, subject: str, detail: str, fix: str) -> Finding:
    """It works, and somebody should act."""
    return Finding(area=area, subject=subject, state=State.WARN, detail=detail, fix=fix)


def fail(area: str, subject: str, detail: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(area=area, subject=subject, state=State.FAIL, detail=detail, fix=fix)


def end(area: str, subject: str, ends: datetime, now: datetime, fix: str) -> Finding:
    """Judge when something ends."""
    left = ends - now
    if left <= timedelta(0):
        return fail(area, subject, f"ended {span(-left)} ago, at {instant(ends)}", fix)
    detail = f"ends in {span(left)}, at {instant(ends)}"
    due = [days for days in WARN_DAYS if left <= timedelta(days=days)]
    if not due:
        return ok(area, subject, detail)
    if due[-1] == WARN_DAYS[-1]:
        return fail(area, subject, detail, f"today: {fix}")
    return warn(area, subject, f"{detail} (within {due[-1]} days)", fix)


def isolated(area: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Run one check so that whatever is wrong with it spoils no other."""
    try:
        yield from check()
    except Failure as failure:
        yield fail(area, "", failure.message, failure.fix)
    except OSError as error:
        place = Path(error.filename).name if isinstance(error.filename, str) else ""
        yield fail(area, place, error.strerror or type(error).__name__, "check the file and its permissions")
    except Exception as error:  # noqa: BLE001 - a doctor that falls ill helps nobody; messages may quote anything
        yield fail(
            area, "", f"this check failed: {type(error).__qualname__}", "report it with the version (mrg --version)"
        )
