"""The sockets of one of our ports, past gRPC, which tells nothing of them.

gRPC knows one way of ending: it says farewell on every connection and refuses what is on its way to it at that moment.
Where another process shares the port nobody need be refused: no more connections are taken, those there are come to the
age at which gRPC asks a client to connect again, which loses nothing, and then there is nobody left to refuse.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_OPEN_FILES: Final = Path("/proc/self/fd")


def stop_listening(port: int) -> None:
    """Take no more connections on a port of ours. Linux gives them to other sockets that share it."""
    for each in _sockets(port):
        if _is_listening(each):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def count_connections(port: int) -> int:
    """Count the connections to a port of ours that are open."""
    return sum(not _is_listening(each) and _is_connected(each) for each in _sockets(port))


def _sockets(port: int) -> Iterator[socket.socket]:
    for each in _OPEN_FILES.iterdir():
        try:
            if each.readlink().name.partition(":")[0] != "socket":
                continue
            found = socket.socket(fileno=os.dup(int(each.name)))
        except OSError:
            continue  # closed meanwhile
        with found:
            if found.family in (socket.AF_INET, socket.AF_INET6) and _port(found) == port:
                yield found


def _port(found: socket.socket) -> int:
    try:
        port: int = found.getsockname()[1]
    except OSError:
        return 0
    return port


def _is_listening(found: socket.socket) -> bool:
    return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _is_connected(found: socket.socket) -> bool:
    try:
        found.getpeername()
    except OSError:
        return False
    return True
