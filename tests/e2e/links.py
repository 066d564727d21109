"""The lines between the provinces, in the tests' hands.

Each province's process is told that its peers are behind relays, one for each direction of each pair. A relay carries
bytes and understands none of them: mutual TLS ends in the gateways, as it would over any line. A line can be

* open: what comes is carried on;
* silent: nothing is carried and nothing is closed, as when packets are lost on the way;
* mute: likewise, of what the called side says;
* refused: what is open is reset and what comes is reset, as when the other side is gone;
* choppy: every connection is reset before long, so that a poll gets through and no stream stays up.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final, Self

from gateway.config.reader import load_config
from gateway.config.writer import render_config
from gateway.core.identifiers import Province
from gateway.lab.folder import LabFolder

CHUNK: Final = 65_536
MAX_CONNECTIONS: Final = 64
"""Of one line at one time; a gateway keeps one or two."""
CHOPPY_SECONDS: Final = 0.4
CONNECT_SECONDS: Final = 5.0
_HOST: Final = "127.0.0.1"
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends a reset

Ends = tuple[Province, Province]
"""(who calls, who is called)."""


class State(StrEnum):
    OPEN = "open"
    SILENT = "silent"
    MUTE = "mute"
    REFUSED = "refused"
    CHOPPY = "choppy"


class Line:
    """One direction of one pair: a port that leads to a province's federation listener."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._state = State.OPEN
        self._may_pass = threading.Event()
        self._may_pass.set()
        self._may_answer = threading.Event()
        self._may_answer.set()
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((_HOST, 0), backlog=MAX_CONNECTIONS)
        self.port: int = self._listener.getsockname()[1]
        self.refused = 0
        self._acceptor = threading.Thread(target=self._accept, name=f"line-{self.port}", daemon=True)
        self._acceptor.start()

    def set(self, state: State) -> None:
        self._state = state
        if state in {State.SILENT, State.MUTE}:
            (self._may_pass if state is State.SILENT else self._may_answer).clear()
            return
        if state is State.REFUSED:
            self._reset_all()  # before what was held back could still get through
        self._may_pass.set()
        self._may_answer.set()

    def close(self) -> None:
        self.set(State.REFUSED)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        self._reset_all()
        for thread in self._threads:
            thread.join()

    def _reset_all(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.reset()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if self._state is State.REFUSED or len(self._connections) >= MAX_CONNECTIONS:
                self.refused += 1
                _reset(caller)
                continue
            thread = threading.Thread(target=self._carry, args=(caller,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, caller: socket.socket) -> None:
        self._may_pass.wait()
        if self._state is State.REFUSED:
            _reset(caller)
            return
        try:
            called = socket.create_connection((_HOST, self._target), timeout=CONNECT_SECONDS)
        except OSError:
            _reset(caller)
            return
        called.settimeout(None)
        connection = _Connection(caller, called, self._may_pass, self._may_answer)
        with self._lock:
            self._connections.add(connection)
        chop = threading.Timer(CHOPPY_SECONDS, connection.reset) if self._state is State.CHOPPY else None
        if chop is not None:
            chop.start()
        try:
            connection.run()
        finally:
            with self._lock:
                self._connections.discard(connection)
            if chop is not None:
                chop.cancel()
                chop.join()


class _Connection:
    def __init__(
        self, caller: socket.socket, called: socket.socket, may_pass: threading.Event, may_answer: threading.Event
    ) -> None:
        self._sockets = (caller, called)
        self._may_pass = may_pass
        self._may_answer = may_answer
        for each in self._sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        """Carry both ways until either side is done; then both are."""
        caller, called = self._sockets
        back = threading.Thread(target=self._pump, args=(called, caller, self._may_pass, self._may_answer), daemon=True)
        back.start()
        self._pump(caller, called, self._may_pass)
        back.join()
        for each in self._sockets:
            each.close()

    def _pump(self, source: socket.socket, sink: socket.socket, *gates: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                for gate in gates:
                    gate.wait()
                sink.sendall(data)
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()


class Lines:
    """All lines between the four provinces of one lab."""

    def __init__(self, folder: LabFolder) -> None:
        """Put a line between each two provinces, and tell the provinces. Before any of them is started."""
        configs = {province: load_config(folder.config(province)) for province in Province}
        ports = {
            province: int(config.listeners.federation.address.rpartition(":")[2])
            for province, config in configs.items()
        }
        self._lines: Mapping[Ends, Line] = {
            (caller, called): Line(ports[called]) for caller in Province for called in Province if caller != called
        }
        for caller, config in configs.items():
            peers = tuple(
                replace(peer, address=f"{_HOST}:{self._lines[caller, peer.province].port}") for peer in config.peers
            )
            config.file.write_text(render_config(replace(config, peers=peers)), "utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set(self, ends: Iterable[Ends], state: State) -> None:
        for each in ends:
            self._lines[each].set(state)

    def isolate(self, provinces: Iterable[Province], state: State = State.SILENT) -> None:
        """Set every line between these provinces and the others, in both directions."""
        inside = frozenset(provinces)
        self.set((ends for ends in self._lines if (ends[0] in inside) != (ends[1] in inside)), state)

    def mend(self) -> None:
        self.set(self._lines, State.OPEN)

    def close(self) -> None:
        for line in self._lines.values():
            line.close()


def wait_for(met: Any, *, within: float = 60.0, every: float = 0.05, what: str | Callable[[], str] = "it") -> None:
    """Look again and again; what is waited for happens in other processes, which cannot tell us.

    Args:
        met: takes nothing, and says whether it has happened. Any: a lambda that binds the variable of a loop as a
            default has no type of its own.
        within: seconds, after which the test has failed.
        every: seconds between looks.
        what: for the message, made when it is needed.
    """
    deadline = time.monotonic() + within
    while not met():
        if time.monotonic() > deadline:
            named = what if isinstance(what, str) else what()
            raise AssertionError(f"{named} did not happen within {within:.0f} s")
        time.sleep(every)
