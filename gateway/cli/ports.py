"""Ports that a supervisor has bound for its processes: they may listen there, and nobody else.

A port is bound as by somebody who listens there alone, so that it is free. From then on it is shared, with whoever asks
to share it: with processes of the same user, and Linux sees to that. Another supervisor does not ask, and is refused.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from gateway.cli import options
from gateway.cli.console import Failure
from gateway.config import Config

_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(frozen=True, slots=True)
class _Held:
    number: int
    close: Callable[[], object]


class HeldPorts:
    """Ports that are bound and not listened on: ours to share, and nobody else's."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], _Held] = {}
        """By listener and address, as the configuration names them."""

    def hold(self, config: Config) -> Mapping[str, int]:
        """Bind the ports of a configuration, beside those that are held; gives them by the name of the listener.

        Raises:
            Failure: one is taken, or not an address of this host; none more is held than before.
        """
        with ExitStack() as opened:
            fresh: dict[tuple[str, str], _Held] = {}
            for name, address in _addresses(config).items():
                if (name, address) not in self._held:
                    try:
                        fresh[name, address] = _hold(address, opened)
                    except OSError as error:
                        raise Failure(
                            f"{config.file}: listeners.{name}.address: cannot listen on {address}; "
                            "choose a free address of this host",
                            fix=options.CONFIG_FIX,
                        ) from error
            opened.pop_all()
        self._held |= fresh
        return {name: self._held[name, address].number for name, address in _addresses(config).items()}

    def keep(self, config: Config) -> None:
        """Let go of all but the ports of a configuration: no process listens there any more."""
        for place in self._held.keys() - _addresses(config).items():
            self._held.pop(place).close()


def _addresses(config: Config) -> Mapping[str, str]:
    listeners = config.listeners
    return {
        "verification": listeners.verification.address,
        "federation": listeners.federation.address,
        "admin": listeners.admin.address,
    }


def _hold(address: str, opened: ExitStack) -> _Held:
    host, _, text = address.rpartition(":")
    number, stack = int(text), opened.enter_context(ExitStack())
    is_bound = False
    found = socket.getaddrinfo(host.strip("[]"), number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for position, (family, kind, protocol, _, place) in enumerate(found, start=1):
        try:
            held = stack.enter_context(socket.socket(family, kind, protocol))
            # No other listener may be there; connections that have ended are not in the way.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((place[0], number, *place[2:]))
        except OSError as error:
            # Of the addresses of a name, as localhost, this host need not have each.
            if error.errno not in _NOT_HERE or (position == len(found) and not is_bound):
                raise
            continue
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        number, is_bound = held.getsockname()[1], True
    return _Held(number, stack.close)
