"""``mrg doctor``: everything an administrator would look at, in one table, each with the fix.

It is needed most when little works, so every check stands alone: one that fails, or has nobody to ask, is a finding
like others and keeps none from being looked at. It changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from gateway.cli import diagnosis, log_health, options, reach
from gateway.cli.console import ExitCode, Failure, exit_codes, instant, stdout, write_document
from gateway.cli.findings import Finding, State, fail, isolated
from gateway.cli.trust import load_view
from gateway.clock import World, system_world
from gateway.config import Config
from gateway.core.trust import TrustView

EXIT_CODES: Final = exit_codes(
    {ExitCode.OK: "all is well", ExitCode.CANNOT_TELL: "something is not; the table says what and how to mend it"}
)
_STYLES: Final = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red"}


def doctor(
    *,
    config: options.ConfigOption,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds each peer may take for each step.")] = 3.0,
    problems_only: Annotated[bool, typer.Option("--problems", help="Leave out what is well.")] = False,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Look at everything: files, keys, certificates, charter, trust data, peers, our own listeners. Changes nothing."""
    world = options.world(lab_clock)
    if not config.is_file():
        raise Failure(f"{config}: there is no such file", fix="name the province's gateway.toml with --config")
    findings = list(_examine(config, world, timeout))
    healthy = all(finding.state is State.OK for finding in findings)
    if as_json:
        write_document(
            {
                "now": instant(world.now()),
                "healthy": healthy,
                "counts": {state.value: sum(each.state is state for each in findings) for state in State},
                "findings": [asdict(each) for each in _wanted(findings, problems_only=problems_only)],
            }
        )
    else:
        _show(findings, problems_only=problems_only)
    raise typer.Exit(ExitCode.OK if healthy else ExitCode.CANNOT_TELL)


def _examine(file: Path, world: World, timeout: float) -> Iterator[Finding]:
    try:
        config = options.configuration(file)
    except Failure as failure:
        yield fail("configuration", file.name, failure.message, failure.fix)
        return
    now = world.now()
    view, told = _view(config, now)
    yield from isolated("configuration", partial(diagnosis.check_configuration, config))
    yield from isolated("key store", partial(diagnosis.check_key_store, config))
    yield from isolated("pseudonyms", partial(diagnosis.check_pseudonyms, config, now))
    # Handshakes are judged by the machine's clock, in the lab too.
    yield from isolated("TLS", partial(diagnosis.check_tls, config, system_world().now()))
    yield from told
    yield from isolated("log", partial(log_health.check_log, config, now))
    if view is not None:
        yield from isolated("charter", partial(diagnosis.check_charter, config, view.charter, now))
        yield from isolated("trust", partial(diagnosis.check_trust, view, now))
        yield from isolated("keys", partial(diagnosis.check_calendar, config, now))
    charter = None if view is None else view.charter
    yield from reach.check_peers(config, charter, world.now, timeout)
    yield from reach.check_own_listeners(config, timeout)


def _view(config: Config, now: datetime) -> tuple[TrustView | None, Sequence[Finding]]:
    """Build the view; without one, the finding that says why."""
    built: list[TrustView] = []

    def build() -> Iterable[Finding]:
        built.append(load_view(config, now)[0])
        return ()

    told = list(isolated("trust", build))
    return (built[0] if built else None), told


def _wanted(findings: Sequence[Finding], *, problems_only: bool) -> Iterator[Finding]:
    return (each for each in findings if not problems_only or each.state is not State.OK)


def _show(findings: Sequence[Finding], *, problems_only: bool) -> None:
    screen = stdout()
    screen.table(
        "Findings",
        ("State", "Area", "About", "Finding", "Fix"),
        [
            (Text(each.state.value, _STYLES[each.state]), each.area, each.subject or "-", each.detail, each.fix or "-")
            for each in _wanted(findings, problems_only=problems_only)
        ],
    )
    counts = Counter(each.state for each in findings)
    screen.line()
    screen.line(f"{counts[State.OK]} well, {counts[State.WARN]} to watch, {counts[State.FAIL]} to mend.")
