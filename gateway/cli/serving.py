"""``mrg serve``: one province's process, from its configuration to its last answer; or several, under one supervisor.

Where several processes share a database, one leads. Each looks every second whether that is still so, and is put
together anew when it changes.

Everything that can be wrong with the configuration is found before a port is opened, and told in one message. Once it
serves, SIGTERM or SIGINT make it drain: new calls are refused, running ones end, what was decided is on disk. A second
signal ends it at once.

With ``--workers`` this process only looks after others (``supervision``), each of which is this command again.
"""

from __future__ import annotations

import gc
import json
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway import logs
from gateway.app import App, Member, at_ports
from gateway.cli import options
from gateway.cli.console import ExitCode, Failure, exit_codes, stdout, write_line
from gateway.cli.membership import Event, enter, tell
from gateway.cli.supervision import MAX_WORKERS, Supervisor
from gateway.cli.wishes import END, LEAVE, PROCEED, STOPPING, Wishes
from gateway.clock import World
from gateway.config import Config, ConfigError, PostgresUrl
from gateway.keystore import KeyStoreError
from gateway.storage import Lead, StorageError
from gateway.storage.opening import Place, open_lead
from gateway.storage.sqlite_lead import InUseError, SqliteLead

EXIT_CODES: Final = exit_codes(
    {ExitCode.OK: "served, and stopped when told to", ExitCode.BUG: "a fault of this program"}
)
COLLECT_AFTER: Final = (20_000, 20, 50)
"""Objects made, beyond those gone, until the youngest are looked through; and how often these until the next older."""
LOOK_SECONDS: Final = 1.0
LEAVING_LOOK_SECONDS: Final = 0.2
CHANGE_GRACE_SECONDS: Final = 5.0
"""How long running calls may take to end when a follower becomes the leader: nobody leads meanwhile. A call that was
under way when the database went is answered UNAVAILABLE, which takes a moment."""
AGE_SLACK: Final = 1.1
"""gRPC spreads the ages of connections by a tenth."""
LAST_CALL_SECONDS: Final = 35.0
"""How long a connection may outlast its age: the 30 seconds that its last calls have, and a little."""


def serve(
    *,
    config: options.ConfigOption,
    grace: Annotated[float, typer.Option(min=0, max=600, help="Seconds that running calls may take to end.")] = 10.0,
    workers: Annotated[
        int, typer.Option(min=1, max=MAX_WORKERS, help="Processes that share the verification port; Linux.")
    ] = 1,
    connection_age: Annotated[
        float,
        typer.Option(min=1, max=3600, help="With --workers: seconds until a client is asked to connect again."),
    ] = 60.0,
    log_level: Annotated[str, typer.Option(help=f"Least level logged: {', '.join(logs.LEVELS)}.")] = "info",
    exit_with_parent: Annotated[
        bool, typer.Option("--exit-with-parent", help="Stop when standard input ends; for a process that started us.")
    ] = False,
    is_member: Annotated[bool, typer.Option("--member", hidden=True, help="Be one process of a supervisor.")] = False,
    lab_clock: options.ExplicitLabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Run a province's gateway, with its issuer and anchor where the configuration says so.

    Prints one line when it is ready: the addresses it listens on. Logs go to standard error, as JSON lines unless that
    is a terminal. SIGTERM or Ctrl-C drains and stops it; a second one ends it at once.

    With --workers N, N processes serve verification on one port, and one of them does all the rest. One that dies is
    replaced. SIGHUP has the configuration read again: each is replaced in turn, and no call is lost.
    """
    try:
        logs.configure(log_level, json=as_json)
    except ValueError as error:
        raise Failure(f"--log-level: {error}", fix="give one of them") from error
    if is_member:
        _serve_as_member(config, options.world(lab_clock), timedelta(seconds=connection_age), grace, log_level, as_json)
        return
    loaded = options.configuration(config)
    world = options.world(lab_clock)
    if lab_clock is not None:
        logs.get_logger("serving").warning("lab_clock_in_use", file=str(lab_clock))
    _require_different_ports(loaded)
    if workers > 1:
        arguments = ["--grace", str(grace), "--connection-age", str(connection_age), "--log-level", log_level]
        arguments += [] if lab_clock is None else ["--lab-clock", str(lab_clock)]
        arguments += ["--json"] if as_json else []
        lock = _lock_database(loaded)
        supervisor = Supervisor(
            loaded, workers=workers, arguments=arguments, grace=grace, leave=_leave_seconds(connection_age), lock=lock
        )
        supervisor.run(
            lambda ports: _announce(loaded, ports, lab_clock, workers, as_json=as_json),
            exit_with_parent=exit_with_parent,
        )
        return
    lead = _first_lead(loaded)
    try:
        app = App(loaded, world, lead)
    except (ConfigError, KeyStoreError) as error:
        raise Failure(str(error), fix=options.CONFIG_FIX) from error
    wishes = Wishes((*STOPPING, signal.SIGHUP))  # which would end it without draining
    if exit_with_parent:
        wishes.follow_parent()
    app.start()
    _announce(loaded, app.ports, lab_clock, 1, as_json=as_json)
    _Serving(loaded, world, lead, app, wishes).run(grace)


def _serve_as_member(
    file: Path, world: World, connection_age: timedelta, grace: float, log_level: str, as_json: bool
) -> None:
    """Be one of the processes of a supervisor, and do what it says when it says so."""
    wishes = Wishes()
    given = enter(wishes)
    logs.configure(log_level, json=as_json, worker=given.number)
    loaded = given.config(file)
    member = Member(
        number=given.number,
        folder=Path(given.folder),
        configuration=given.configuration.encode("utf-8"),
        connection_age=connection_age,
    )
    tell(Event.PREPARED)
    try:
        _await_turn(wishes)
        lead = _reach_database(loaded, member.place, wishes)

        def take_turn() -> None:
            if member.place is Place.FRONT:
                tell(Event.BOUND)
                _await_turn(wishes)
            with suppress(StorageError):  # it is found out soon enough
                lead.try_lead()

        app = App(loaded, world, lead, member, take_turn)
    except _StoppedError:
        return
    except (ConfigError, KeyStoreError) as error:
        raise Failure(str(error), fix=options.CONFIG_FIX) from error
    app.start()
    tell(Event.SERVING)
    _Serving(loaded, world, lead, app, wishes, member).run(grace)


class _StoppedError(Exception):
    """It is wished that the process stop, before it serves."""


def _await_turn(wishes: Wishes) -> None:
    while (wish := wishes.wait()) != PROCEED:
        if wishes.is_stop(wish):
            raise _StoppedError


def _reach_database(config: Config, place: Place, wishes: Wishes) -> Lead:
    """Wait for the database, as ``_first_lead``; the lead is not asked for yet."""
    is_told = False
    while True:
        try:
            return open_lead(config, place)
        except StorageError as error:
            if not is_told:
                logs.get_logger("serving").error("database_unreachable", detail=str(error))
            is_told = True
        if wishes.is_stop(wishes.wait(LOOK_SECONDS)):
            raise _StoppedError


def _spare_what_stays() -> None:
    """Have the garbage collector look at what calls leave behind, less often, and not at what was there before them.

    What a verification makes is gone with it, without a cycle. The collector, which looks for cycles, went through all
    that the process holds again and again: a twelfth of a batch's time.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _first_lead(config: Config) -> Lead:
    """Wait for the database: after a power cut, its server may need longer than we do. A signal ends this at once."""
    is_told = False
    while True:
        try:
            lead = open_lead(config)
            lead.try_lead()
        except StorageError as error:
            _refuse_file(config, error)
            if not is_told:
                logs.get_logger("serving").error("database_unreachable", detail=str(error))
            is_told = True
            time.sleep(LOOK_SECONDS)
        else:
            return lead


@dataclass(slots=True)
class _Serving:
    """A process that serves, however often it is put together anew."""

    config: Config
    world: World
    lead: Lead
    app: App
    wishes: Wishes
    member: Member | None = None
    leaves_until: float | None = None
    """Until when the last connections may go of their own accord, where another process has taken this one's place."""
    is_deserted: bool = False
    is_replaced: bool = False
    """Whether it is to stop for that reason."""

    def run(self, grace: float) -> None:
        """Serve until it is to stop."""
        if self.member is None:
            self.config = at_ports(self.config, self.app.ports)  # where it stays
        _spare_what_stays()
        while (lead := self._watch()) is not None:
            self.lead = lead
            self.app.stop(CHANGE_GRACE_SECONDS)
            anew = self._put_together()
            if anew is None:
                return
            self.app = anew
            self.app.start()
            _spare_what_stays()
            if self.leaves_until is not None:
                self.app.turn_away()
        if self.member is None:  # else that is the supervisor's to see to: it may have been signalled together with us
            self.wishes.exit_at_next_signal()
        # Where another has taken its place, all but the last calls are over, and somebody waits for the lead.
        self.app.stop(min(grace, CHANGE_GRACE_SECONDS) if self.is_replaced else grace)
        self.lead.close()

    def _watch(self) -> Lead | None:
        """Wait until this process is to be put together anew, as leader or follower. None: it is asked to stop.

        That is when it can lead and did not, and when its connection to the database was lost: another may lead
        meanwhile, and the database itself may be another one. Until the database is there again, it goes on as it is: a
        process that has lost its lead signs nothing any more. Whether it leads as it is, its lease does not say: that
        may have run out while the process started.
        """
        led = self.app.is_leader
        while not self._is_asked_to_stop():
            try:
                if self.lead.try_lead() != led:
                    return self.lead
            except StorageError:
                logs.get_logger("serving").warning("lead_lost" if led else "database_lost")
                return self._find_again()
        return None

    def _find_again(self) -> Lead | None:
        """Wait until the database can be reached, and ask for the lead. None: this process is asked to stop.

        It is tried at once: that a connection was cut does not say that the database is gone, and until somebody leads,
        nothing is signed.
        """
        self.lead.close()
        while True:
            with suppress(StorageError):
                lead = open_lead(self.config, Place.ALONE if self.member is None else self.member.place)
                lead.try_lead()
                return lead
            if self._is_asked_to_stop():
                return None

    def _put_together(self) -> App | None:
        """Try until it works: what was served before is not given up for want of a port or a file being changed."""
        while (lead := self._asked_again()) is not None:
            self.lead = lead
            try:
                return App(self.config, self.world, lead, self.member)
            except (ConfigError, KeyStoreError) as error:
                logs.get_logger("serving").error("not_put_together", exc_info=error)
            if self._is_asked_to_stop():
                return None
        return None

    def _asked_again(self) -> Lead | None:
        """Ask for the lead once more: while the last calls ended, its lease may have run out, or it may have been lost.

        Else this process would follow where it can lead, until it looks again and is put together once more.
        """
        try:
            self.lead.try_lead()
        except StorageError:
            return self._find_again()
        return self.lead

    def _is_asked_to_stop(self) -> bool:
        """Wait for a while whether somebody wishes that the process stop."""
        deadline = time.monotonic() + LOOK_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            if self.leaves_until is not None:
                self._look_who_is_left(self.leaves_until)
                left = min(left, LEAVING_LOOK_SECONDS)
            wish = self.wishes.wait(left)
            if self.wishes.is_stop(wish):
                self.is_replaced = wish == END
                return True
            if wish == signal.SIGHUP:
                logs.get_logger("serving").error("reload_refused", detail="only mrg serve --workers reloads; restart")
            if wish == LEAVE and self.member is not None and self.leaves_until is None:
                age = self.member.connection_age.total_seconds()
                self.leaves_until = time.monotonic() + _leave_seconds(age)
                self.app.turn_away()
        return False

    def _look_who_is_left(self, until: float) -> None:
        if self.is_deserted:
            return
        is_late = time.monotonic() > until
        if is_late or self.app.is_deserted:
            if is_late:
                logs.get_logger("serving").warning("connections_left")
            self.is_deserted = True
            tell(Event.DESERTED)


def _leave_seconds(connection_age: float) -> float:
    """Say how long it takes at most until the last client has connected elsewhere."""
    return connection_age * (AGE_SLACK + 1) + LAST_CALL_SECONDS  # a stream may begin at the end of its connection


def _require_different_ports(config: Config) -> None:
    """Refuse what could not be ended apart: a process that ends one listener knows its sockets by their port."""
    listeners = config.listeners
    addresses = (listeners.verification.address, listeners.federation.address, listeners.admin.address)
    ports = [port for port in (address.rpartition(":")[2] for address in addresses) if port != "0"]
    if len(set(ports)) != len(ports):
        raise Failure("two listeners have one port number", fix="give each listener another one")


def _lock_database(config: Config) -> SqliteLead | None:
    """Keep others from a database that is a file; None: it is none."""
    if isinstance(config.database, PostgresUrl):
        return None
    try:
        lock = SqliteLead(config.database)
        lock.try_lead()
    except StorageError as error:
        _refuse_file(config, error)
        raise
    else:
        return lock


def _refuse_file(config: Config, error: StorageError) -> None:
    """Give up where waiting for a database does not help. Raises Failure: it is a file."""
    if isinstance(error, InUseError):
        raise Failure(
            f"{config.database}: another mrg serve runs on this database",
            fix="stop it first; for several processes on one database use --workers, or PostgreSQL",
        ) from error
    if not isinstance(config.database, PostgresUrl):
        raise Failure(
            f"{config.file}: database: cannot be used ({error}); check the path and its permissions",
            fix=options.CONFIG_FIX,
        ) from error


def _announce(config: Config, ports: Mapping[str, int], lab_clock: Path | None, workers: int, *, as_json: bool) -> None:
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
        if workers > 1:
            ready["workers"] = workers
        if lab_clock is not None:
            ready["lab_clock"] = str(lab_clock)
        write_line(json.dumps(ready))
    else:
        shown = "  ".join(f"{name} {address}" for name, address in addresses.items())
        shown += f"  workers {workers}" if workers > 1 else ""
        shown += f"  LAB CLOCK {lab_clock}" if lab_clock is not None else ""
        stdout().line(f"ready: {config.province.code}  {shown}")
