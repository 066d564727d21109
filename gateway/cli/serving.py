"""``mrg serve``: one province's process, from its configuration to its last answer.

Where several processes share a database, one leads. Each looks every second whether that is still so, and is put
together anew when it changes.

Everything that can be wrong with the configuration is found before a port is opened, and told in one message. Once it
serves, SIGTERM or SIGINT make it drain: new calls are refused, running ones end, what was decided is on disk. A second
signal ends it at once.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway import logs
from gateway.app import App, at_ports
from gateway.cli import options
from gateway.cli.console import ExitCode, Failure, exit_codes, stdout, write_line
from gateway.clock import World
from gateway.config import Config, ConfigError
from gateway.keystore import KeyStoreError
from gateway.storage import Lead, StorageError
from gateway.storage.opening import open_lead

EXIT_CODES: Final = exit_codes(
    {ExitCode.OK: "served, and stopped when told to", ExitCode.BUG: "a fault of this program"}
)
LOOK_SECONDS: Final = 1.0
CHANGE_GRACE_SECONDS: Final = 5.0
"""How long running calls may take to end when a follower becomes the leader: nobody leads meanwhile. A call that was
under way when the database went is answered UNAVAILABLE, which takes a moment; cut off, it would be CANCELLED."""
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
    world = options.world(lab_clock)
    lead = _first_lead(loaded)
    try:
        app = App(loaded, world, lead)
    except (ConfigError, KeyStoreError) as error:
        raise Failure(str(error), fix=options.CONFIG_FIX) from error
    if lab_clock is not None:
        logs.get_logger("serving").warning("lab_clock_in_use", file=str(lab_clock))
    requests = _stop_requests(exit_with_parent=exit_with_parent)
    app.start()
    _announce(loaded, app.ports, lab_clock, as_json=as_json)
    loaded = at_ports(loaded, app.ports)  # where it stays, however often it is put together anew
    while (changed := _watch(loaded, lead, requests, led=app.is_leader)) is not None:
        lead = changed
        app.stop(CHANGE_GRACE_SECONDS)
        anew = _put_together(loaded, world, lead, requests)
        if anew is None:
            return
        app = anew
        app.start()
    _exit_when_asked_again(requests)
    app.stop(grace)


def _first_lead(config: Config) -> Lead:
    """Wait for the database: after a power cut, its server may need longer than we do. A signal ends this at once."""
    is_told = False
    while True:
        try:
            lead = open_lead(config)
            lead.try_lead()
        except StorageError as error:
            if not is_told:
                logs.get_logger("serving").error("database_unreachable", detail=str(error))
            is_told = True
            time.sleep(LOOK_SECONDS)
        else:
            return lead


def _watch(config: Config, lead: Lead, requests: int, *, led: bool) -> Lead | None:
    """Wait until this process is to be put together anew, as leader or follower. None: it is asked to stop.

    That is when it can lead and did not, and when its connection to the database was lost: another may lead meanwhile,
    and the database itself may be another one. Until the database is there again, it goes on as it is: a process that
    has lost its lead signs nothing any more.

    ``led``: whether it leads as it is. Its lease says nothing of that: it may have run out while the process started.
    """
    is_lost = False
    while not _is_asked_to_stop(requests):
        try:
            if is_lost:
                lead = open_lead(config)
            if lead.try_lead() != led or is_lost:
                return lead
        except StorageError:
            if not is_lost:
                logs.get_logger("serving").warning("lead_lost" if led else "database_lost")
            is_lost = True
            lead.close()
    return None


def _put_together(config: Config, world: World, lead: Lead, requests: int) -> App | None:
    """Try until it works: what was served before is not given up for want of a port or a file that is being changed."""
    while True:
        try:
            return App(config, world, lead)
        except (ConfigError, KeyStoreError) as error:
            logs.get_logger("serving").error("not_put_together", exc_info=error)
        if _is_asked_to_stop(requests):
            return None


def _is_asked_to_stop(requests: int) -> bool:
    """Wait for a while whether somebody wishes that the process stop."""
    readable, _, _ = select.select([requests], [], [], LOOK_SECONDS)
    return bool(readable) and bool(os.read(requests, 1))


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
