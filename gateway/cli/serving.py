"""``mrg serve``: one province's process, from its configuration to its last answer.

Everything that can be wrong with the configuration is found before a port is opened, and told in one message. Once it
serves, SIGTERM or SIGINT make it drain: new calls are refused, running ones end, what was decided is on disk. A second
signal ends it at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway import logs
from gateway.app import App
from gateway.cli import options
from gateway.cli.console import ExitCode, Failure, exit_codes, stdout, write_line
from gateway.config import Config, ConfigError
from gateway.keystore import KeyStoreError

EXIT_CODES: Final = exit_codes(
    {ExitCode.OK: "served, and stopped when told to", ExitCode.BUG: "a fault of this program"}
)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_KILLED: Final = 128
"""A process ended by signal n gives 128 + n, by the custom of shells."""


def serve(
    *,
    config: options.ConfigOption,
    grace: Annotated[float, typer.Option(min=0, max=600, help="Seconds that running calls may take to end.")] = 10.0,
    log_level: Annotated[str, typer.Option(help=f"Least level logged: {', '.join(logs.LEVELS)}.")] = "info",
    exit_with_parent: Annotated[
        bool, typer.Option("--exit-with-parent", help="Stop when standard input ends; for a process that started us.")
    ] = False,
    lab_clock: options.ExplicitLabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Run a province's gateway, with its issuer and anchor where the configuration says so.

    Prints one line when it is ready: the addresses it listens on. Logs go to standard error, as JSON lines unless that
    is a terminal. SIGTERM or Ctrl-C drains and stops it; a second one ends it at once.
    """
    try:
        logs.configure(log_level, json=as_json)
    except ValueError as error:
        raise Failure(f"--log-level: {error}", fix="give one of them") from error
    loaded = options.configuration(config)
    try:
        app = App(loaded, options.world(lab_clock))
    except (ConfigError, KeyStoreError) as error:
        raise Failure(str(error), fix=options.CONFIG_FIX) from error
    if lab_clock is not None:
        logs.get_logger("serving").warning("lab_clock_in_use", file=str(lab_clock))
    requests = _stop_requests(exit_with_parent=exit_with_parent)
    app.start()
    _announce(loaded, app.ports, lab_clock, as_json=as_json)
    os.read(requests, 1)
    _exit_when_asked_again(requests)
    app.stop(grace)


def _stop_requests(*, exit_with_parent: bool) -> int:
    """Give a descriptor from which one byte can be read for each wish that the process stop: the signal, or 0."""
    # The kernel may hand a signal to any thread, and Python's own handlers then wait until the main thread happens to
    # wake up. The wake-up descriptor is written to at once, whichever thread it was.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for each in _SIGNALS:
        signal.signal(each, lambda _number, _frame: None)  # without one, the default would end us here and now
    if exit_with_parent:

        def wait_for_parent() -> None:
            while os.read(sys.stdin.fileno(), 4096):
                pass
            os.write(writing, b"\0")

        threading.Thread(target=wait_for_parent, name="parent", daemon=True).start()
    return reading


def _exit_when_asked_again(requests: int) -> None:
    """End the process without ceremony at the next signal. That a parent has gone as well is no reason for haste."""

    def wait_for_signal() -> None:
        while (number := os.read(requests, 1)[0]) == 0:
            pass
        os._exit(_KILLED + number)

    threading.Thread(target=wait_for_signal, name="hard-exit", daemon=True).start()


def _announce(config: Config, ports: Mapping[str, int], lab_clock: Path | None, *, as_json: bool) -> None:
    listeners = config.listeners
    configured = {
        "verification": listeners.verification.address,
        "federation": listeners.federation.address,
        "admin": listeners.admin.address,
    }
    # The port configured may be 0, for any that is free.
    addresses = {name: f"{address.rpartition(':')[0]}:{ports[name]}" for name, address in configured.items()}
    if as_json:
        ready: dict[str, object] = {"event": "ready", "province": config.province.code, "addresses": addresses}
        if lab_clock is not None:
            ready["lab_clock"] = str(lab_clock)
        write_line(json.dumps(ready))
    else:
        shown = "  ".join(f"{name} {address}" for name, address in addresses.items())
        stdout().line(
            f"ready: {config.province.code}  {shown}" + (f"  LAB CLOCK {lab_clock}" if lab_clock is not None else "")
        )
