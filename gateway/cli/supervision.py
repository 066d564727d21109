"""Several processes of one gateway, and the one that looks after them (``mrg serve --workers``).

The supervisor serves nothing and decides nothing about anybody. It starts processes, replaces those that die, has all
replaced in turn when the configuration is to be read again, and ends them. Number 0 is the front, the others are
workers (``gateway.app``). Rules that live here:

* Ports are bound here first, in a way that lets nobody else have them, and kept for as long as the supervisor lives;
  its processes listen on the same ones. Nobody shares a port by accident.
* A process is started, loads its program, and says that it is prepared. It goes on when it is told to: a worker when a
  front has served, so that the database is there and is new enough; a front when the front before is gone.
* A replacement serves before the process that it replaces goes. That one takes no more connections, and ends when its
  last client has connected elsewhere, which gRPC asks of every client when a connection has come to its age.
* There are never two fronts: the last one ends what it does on behalf of the province before the next one begins. Those
  who connect to its other ports meanwhile wait a moment, and are not refused.
* Whoever dies is replaced at once, and after a growing pause when it dies again and again. A configuration with which
  one does not come up is taken back: those that serve go on.
* Orders are letters on a process's standard input, which ends when the supervisor is gone, however it ended; then the
  process drains and ends as well. It answers in lines of JSON on its standard output.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import typer

from gateway.cli.console import Failure
from gateway.cli.membership import Event
from gateway.cli.ports import HeldPorts
from gateway.cli.wishes import END, LEAVE, PARENT_GONE, PROCEED, STOP, STOPPING, Wishes, exit_by
from gateway.config import Config, ConfigError
from gateway.config.reader import read_config, read_text
from gateway.logs import get_logger
from gateway.storage.sqlite_lead import SqliteLead

MAX_WORKERS: Final = 64
PAUSES: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before a process that died is replaced: for the first time, for the second in a row, and so on."""
STEADY_SECONDS: Final = 60.0
"""Who has served for so long has not died in a row."""
END_SECONDS: Final = 10.0
"""How much longer than its grace a process may take to end before it is killed."""
HANDOVER_SECONDS: Final = 20.0
"""Likewise, for one whose place another has taken. The 5 seconds of its grace are in it."""

_log = get_logger("supervisor")


# -- processes ---------------------------------------------------------------------------------------------------------


class _Phase(StrEnum):
    STARTING = "starting"
    PREPARED = "prepared"
    GOING_ON = "going on"
    BOUND = "bound"
    SERVING = "serving"
    LEAVING = "leaving"
    DESERTED = "deserted"
    ENDING = "ending"


_AFTER: Final = {
    Event.PREPARED: _Phase.PREPARED,
    Event.BOUND: _Phase.BOUND,
    Event.SERVING: _Phase.SERVING,
    Event.DESERTED: _Phase.DESERTED,
}
_COMING: Final = frozenset({_Phase.STARTING, _Phase.PREPARED, _Phase.GOING_ON, _Phase.BOUND})


@dataclass(slots=True, eq=False)
class _Process:
    number: int
    generation: int
    popen: subprocess.Popen[bytes]
    phase: _Phase = _Phase.STARTING
    serves_since: float | None = None
    kill_at: float | None = None
    said: bytearray = field(default_factory=bytearray)

    def order(self, letter: int, then: _Phase, kill_at: float | None = None) -> None:
        self.phase = then
        self.kill_at = kill_at
        with suppress(OSError):  # it is gone, and that will be noticed
            assert self.popen.stdin is not None  # noqa: S101 - it was made with one
            self.popen.stdin.write(bytes([letter]))
            self.popen.stdin.flush()


@dataclass(frozen=True, slots=True)
class _InForce:
    """A configuration as it was read."""

    config: Config
    text: str
    ports: Mapping[str, int]


class Supervisor:
    """Looks after the processes. Not thread-safe: it is one thread."""

    def __init__(
        self,
        config: Config,
        *,
        workers: int,
        arguments: Sequence[str],
        grace: float,
        leave: float,
        lock: SqliteLead | None,
    ) -> None:
        """Bind the ports; nothing is started yet.

        Args:
            config: what they serve.
            workers: how many there are, the front included.
            arguments: options of ``mrg serve`` for each.
            grace: seconds that running calls may take to end.
            leave: seconds after which one whose place another has taken says that the last client has gone.
            lock: what keeps others from the database; each process inherits it. None: it knows by itself.

        Raises:
            Failure: a port is taken.
        """
        self._grace = grace
        self._leave = leave
        self._lock = lock
        self._numbers = range(workers)
        self._command = [sys.executable, "-m", "gateway", "serve", "--member", "--config", str(config.file), *arguments]
        self._held = HeldPorts()
        self._in_force = _InForce(config, read_text(config.file), self._held.hold(config))
        self._before: _InForce | None = None
        """What to go back to if nobody comes up with what is in force."""
        self._generation = self._settled = 1
        self._folder = Path(tempfile.mkdtemp(prefix="mrg-"))
        self._processes: list[_Process] = []
        self._deaths: dict[int, int] = dict.fromkeys(self._numbers, 0)
        self._not_before: dict[int, float] = dict.fromkeys(self._numbers, 0.0)
        self._has_front_served = False
        self._was_ready = False
        self._is_taken_back = False
        """Whether what is put in force is what was in force before."""
        self._stopping = False
        self._selector = selectors.DefaultSelector()

    def run(self, announce: Callable[[Mapping[str, int]], object], *, exit_with_parent: bool) -> None:
        """Serve until it is to stop.

        Args:
            announce: called once all serve, with the ports.
            exit_with_parent: whether to stop when standard input ends.

        Raises:
            typer.Exit: one did not come up at the start, and has said why.
        """
        wishes = Wishes((*STOPPING, signal.SIGHUP))
        if exit_with_parent:
            wishes.follow_parent()
        self._selector.register(wishes, selectors.EVENT_READ)
        try:
            while not self._stopping or self._processes:
                self._step(announce)
                for key, _ in self._selector.select(self._seconds_until_due()):
                    if isinstance(key.data, _Process):
                        self._hear(key.data)
                    else:
                        self._heed(wishes.wait(0))
        finally:
            for each in self._processes:
                each.popen.kill()
            shutil.rmtree(self._folder, ignore_errors=True)

    # -- what is wished ------------------------------------------------------------------------------------------------

    def _heed(self, wish: int | None) -> None:
        if wish == signal.SIGHUP:
            self._reload()
        elif wish in (*STOPPING, PARENT_GONE) and not self._stopping:
            self._stop()
        elif wish in STOPPING and wish is not None:
            for each in self._processes:
                each.popen.kill()
            shutil.rmtree(self._folder, ignore_errors=True)
            exit_by(wish)

    def _stop(self) -> None:
        self._stopping = True
        for each in self._processes:
            each.order(STOP, _Phase.ENDING, time.monotonic() + self._grace + END_SECONDS)

    def _reload(self) -> None:
        if self._stopping or not self._was_ready:
            return
        held = self._in_force
        try:
            anew = self._read_again(held)
        except (ConfigError, Failure) as error:
            _log.error("reload_refused", detail=str(error))
            return
        self._before = self._before or held  # what was not in force everywhere yet is nothing to go back to
        self._put_in_force(anew)
        _log.info("reload_begun", version=self._generation)

    def _read_again(self, held: _InForce) -> _InForce:
        text = read_text(held.config.file)
        config = read_config(text, held.config.file)
        if config.database != held.config.database:
            raise ConfigError("cannot be changed while it serves; start anew", file=config.file, key="database")
        return _InForce(config, text, self._held.hold(config))

    def _put_in_force(self, configuration: _InForce) -> None:
        self._in_force = configuration
        self._generation += 1
        self._deaths = dict.fromkeys(self._numbers, 0)
        self._not_before = dict.fromkeys(self._numbers, 0.0)

    # -- what is due ---------------------------------------------------------------------------------------------------

    def _step(self, announce: Callable[[Mapping[str, int]], object]) -> None:
        now = time.monotonic()
        for each in self._processes:
            if each.kill_at is not None and now > each.kill_at:
                each.popen.kill()
                each.kill_at = None
        if self._stopping:
            return
        for each in self._processes:
            if each.phase in _COMING and each.generation != self._generation:
                each.order(END, _Phase.ENDING, now + HANDOVER_SECONDS)
        for number in self._numbers:
            if self._is_wanted(number) and now >= self._not_before[number]:
                self._spawn(number)
        for each in [*self._processes]:
            self._lead_on(each)
        if all(self._current(number, _Phase.SERVING) for number in self._numbers):
            self._note_ready(announce)

    def _note_ready(self, announce: Callable[[Mapping[str, int]], object]) -> None:
        if not self._was_ready:
            self._was_ready = True
            announce(self._in_force.ports)
        if self._generation != self._settled and len(self._processes) == len(self._numbers):  # all others are gone
            self._held.keep(self._in_force.config)
            self._before, self._settled = None, self._generation
            if self._is_taken_back:
                _log.info("configuration_kept", version=self._generation)
            else:
                _log.info("configuration_reloaded", version=self._generation)
            self._is_taken_back = False

    def _is_wanted(self, number: int) -> bool:
        """Whether a process is to be started: there is none of this number, or it is its turn to be replaced."""
        if self._current(number, *_COMING, _Phase.SERVING):
            return False
        if not any(each.number == number and each.phase is _Phase.SERVING for each in self._processes):
            return True
        turns = [*self._numbers[1:], 0]  # the front last: what is wrong with a configuration, a worker finds out
        before = turns[: turns.index(number)]
        return all(self._current(each, _Phase.SERVING) for each in before)

    def _current(self, number: int, *phases: _Phase) -> bool:
        return any(
            each.number == number and each.generation == self._generation and each.phase in phases
            for each in self._processes
        )

    def _lead_on(self, process: _Process) -> None:
        """Let a process go on as far as the others of its number allow, and those as far as it does."""
        others = [each for each in self._processes if each.number == process.number and each is not process]
        if process.phase is _Phase.PREPARED:
            if (process.number and self._has_front_served) or (
                not process.number and all(each.phase is _Phase.DESERTED for each in others)
            ):
                process.order(PROCEED, _Phase.GOING_ON)
            elif not process.number:
                self._let_leave(others)
        elif process.phase is _Phase.BOUND:
            if not others:
                process.order(PROCEED, _Phase.GOING_ON)
            self._let_end(others)
        elif process.phase is _Phase.SERVING and process.generation == self._generation:
            self._let_leave(others)
            self._let_end(others)

    def _let_leave(self, processes: Sequence[_Process]) -> None:
        for each in processes:
            if each.phase is _Phase.SERVING:
                each.order(LEAVE, _Phase.LEAVING, time.monotonic() + self._leave + END_SECONDS)

    def _let_end(self, processes: Sequence[_Process]) -> None:
        for each in processes:
            if each.phase is _Phase.DESERTED:
                each.order(END, _Phase.ENDING, time.monotonic() + HANDOVER_SECONDS)

    def _seconds_until_due(self) -> float | None:
        times = [each.kill_at for each in self._processes if each.kill_at is not None]
        if not self._stopping:
            times += [self._not_before[number] for number in self._numbers if self._is_wanted(number)]
        return max(0.0, min(times) - time.monotonic()) if times else None

    # -- a process -----------------------------------------------------------------------------------------------------

    def _spawn(self, number: int) -> None:
        in_force = self._in_force
        popen = subprocess.Popen(  # noqa: S603 - this program
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C in a terminal is for the supervisor, which ends its processes in order.
            process_group=0,
            pass_fds=() if self._lock is None else (self._lock.fileno(),),
        )
        process = _Process(number, self._generation, popen)
        self._processes.append(process)
        given = {
            "number": number,
            "folder": str(self._folder),
            "ports": in_force.ports,
            "configuration": in_force.text,
        }
        assert popen.stdin is not None  # noqa: S101 - it was made with them
        assert popen.stdout is not None  # noqa: S101
        with suppress(OSError):  # it is gone, and that will be noticed
            popen.stdin.write(json.dumps(given).encode("utf-8") + b"\n")
            popen.stdin.flush()
        self._selector.register(popen.stdout, selectors.EVENT_READ, process)
        _log.info("process_started", worker=number, pid=popen.pid)

    def _hear(self, process: _Process) -> None:
        assert process.popen.stdout is not None  # noqa: S101 - it was made with one
        said = os.read(process.popen.stdout.fileno(), 65_536)
        if not said:
            self._bury(process)
            return
        process.said += said
        for line in _lines(process.said):
            with suppress(ValueError, KeyError, TypeError):  # whatever else somebody printed
                self._note(process, Event(json.loads(line)["event"]))

    def _note(self, process: _Process, event: Event) -> None:
        if process.phase is _Phase.ENDING:
            return
        process.phase, process.kill_at = _AFTER[event], None
        if event is Event.SERVING:
            process.serves_since = time.monotonic()
            self._has_front_served = self._has_front_served or process.number == 0

    def _bury(self, process: _Process) -> None:
        assert process.popen.stdout is not None  # noqa: S101 - it was made with them
        assert process.popen.stdin is not None  # noqa: S101
        self._selector.unregister(process.popen.stdout)
        process.popen.stdout.close()
        with suppress(OSError):
            process.popen.stdin.close()
        code = process.popen.wait()  # its standard output ends with it
        self._processes.remove(process)
        if process.phase is _Phase.ENDING:
            return
        _log.error("process_died", worker=process.number, pid=process.popen.pid, status=code)
        number, now = process.number, time.monotonic()
        if process.generation == self._generation:
            if process.serves_since is not None and now - process.serves_since > STEADY_SECONDS:
                self._deaths[number] = 0
            self._not_before[number] = now + PAUSES[min(self._deaths[number], len(PAUSES) - 1)]
            self._deaths[number] += 1
            if process.serves_since is None and code > 0:  # else somebody ended it
                self._note_failure(code)

    def _note_failure(self, code: int) -> None:
        """One did not come up, and has said why. At the start that ends all; later, what is in force is taken back."""
        if not self._was_ready:
            raise typer.Exit(code)
        if self._before is not None:
            _log.error("reload_taken_back", version=self._generation)
            back, self._before = self._before, None
            self._put_in_force(back)
            self._is_taken_back = True


def _lines(said: bytearray) -> Iterator[bytes]:
    """Take whole lines off the beginning."""
    while (end := said.find(b"\n")) >= 0:
        yield bytes(said[:end])
        del said[: end + 1]
