"""The sockets of one of our ports, past gRPC, which tells nothing of them.

gRPC knows one way of ending: it says farewell on every connection and cancels what is on its way to it at that moment,
which tells the caller nothing. So the connections are ended here before: who has called in vain hears UNAVAILABLE.
Where another process shares the port nobody need be refused: no more connections are taken, those there are come to the
age at which gRPC asks a client to connect again, which loses nothing, and then there is nobody left to refuse.

All of it needs Linux. Elsewhere nothing is found, and gRPC ends in its own way.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

DELIVERY_SECONDS: Final = 1.0
"""How long what was written to a connection may take to arrive before the connection is ended."""
LOOK_SECONDS: Final = 0.005
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


def end_connections(port: int) -> None:
    """End the connections to a port of ours, each as soon as what was written to it has arrived.

    Not before: what is still on its way is lost when a client goes on sending to a connection that is closed.
    """
    until = time.monotonic() + DELIVERY_SECONDS
    while True:
        is_late, are_left = time.monotonic() > until, False
        for each in _sockets(port):
            if _is_listening(each) or not _is_connected(each):
                continue
            if is_late or _is_delivered(each):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            else:
                are_left = True
        if not are_left:
            return
        time.sleep(LOOK_SECONDS)


def _sockets(port: int) -> Iterator[socket.socket]:
    if not _OPEN_FILES.is_dir():
        return
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


def _is_delivered(connection: socket.socket) -> bool:
    (waiting,) = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(struct.calcsize("i"))))
    return bool(waiting == 0)
