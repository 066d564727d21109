"""gRPC calls over HTTP/2, as cheaply as Python can make them.

On two cores a load generator that costs as much as the server measures itself. This one speaks HTTP/2 (RFC 9113)
straight over a TLS socket: the header block of a call is one constant, a message is framed once, before anything is
measured, and of what comes back no more is read than ends the call. gRPC's own client costs ten times as much.

It is a client for servers that we start ourselves. What it does not know (padding, continuation, push) it refuses, and
everything else that the protocol obliges a client to do it does: both flow controls, settings, pings, resets, goaway.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hpack import Decoder

CONNECT_SECONDS: Final = 10.0
DEADLINE_SECONDS: Final = 60
MAX_READ: Final = 256 * 1024
"""Of one connection before the next has its turn."""
MAX_CACHED_BLOCKS: Final = 64
STATUS_OK: Final = 0
STATUS_UNAVAILABLE: Final = 14
STATUS_INTERNAL: Final = 13

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    *(0, 1, 3, 4, 5, 6, 7, 8, 9),
)
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 3, 4, 5
_REFUSED_STREAM: Final = 7
_MAX_TEXT: Final = 126
"""Of a length that fits one byte (RFC 7541 section 5.2)."""
_DEFAULT_WINDOW: Final = 65_535
_LARGEST_WINDOW: Final = 2**31 - 1
_REFILL_AT: Final = 2**30
_FRAME: Final = struct.Struct(">BHBBL")  # length in one byte and two, type, flags, stream


class ProtocolError(Exception):
    """The server did what it may not, or what this client does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server, and who calls it."""

    address: str
    ca: Path
    certificate: Path
    private_key: Path

    def context(self) -> ssl.SSLContext:
        """Make what one or many connections are opened with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        context.load_cert_chain(self.certificate, self.private_key)
        context.set_alpn_protocols(["h2"])
        return context


def framed(message: bytes) -> bytes:
    """Put the prefix of a gRPC message in front of it."""
    return b"\0" + len(message).to_bytes(4) + message


def messages(data: bytes) -> Iterator[bytes]:
    """Take the messages out of what a call was answered with.

    Raises:
        ProtocolError: one is compressed or cut off.
    """
    at = 0
    while at < len(data):
        end = at + 5 + int.from_bytes(data[at + 1 : at + 5])
        if data[at] or end > len(data):
            raise ProtocolError("a message is compressed or cut off")
        yield data[at + 5 : end]
        at = end


@dataclass(frozen=True, slots=True)
class Answer:
    """What has come for a call."""

    call: int
    data: bytes
    """Of a call of one answer: all of it. Of a stream: what came since the last time."""
    status: int | None
    """The gRPC status; None: the call goes on."""


@dataclass(slots=True)
class _Call:
    streams: bool
    data: list[bytes]
    window: int
    status: int | None = None


class Connection:
    """One connection. Not thread-safe; nothing here ever waits but the opening."""

    def __init__(
        self, target: Target, context: ssl.SSLContext | None = None, *, deadline_seconds: int = DEADLINE_SECONDS
    ) -> None:
        """Open it.

        Args:
            target: the server.
            context: of ``target``, where many are opened.
            deadline_seconds: of each call, as the server is told.

        Raises:
            OSError: it cannot be opened; ssl.SSLError is one.
            ProtocolError: the server does not speak HTTP/2.
        """
        host, _, port = target.address.rpartition(":")
        raw = socket.create_connection((host, int(port)), CONNECT_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = raw
        # TLS in memory: a look at the socket takes all that is there, however many records it is, and sends likewise.
        self._received, self._to_send, self._unsent = ssl.MemoryBIO(), ssl.MemoryBIO(), b""
        self._tls = (context or target.context()).wrap_bio(self._received, self._to_send, server_hostname=host)
        try:
            self._shake_hands()
        except BaseException:
            raw.close()
            raise
        raw.setblocking(False)  # noqa: FBT003 - the library takes it so
        self._authority = target.address.encode("ascii")
        self._deadline = f"{deadline_seconds}S".encode("ascii")
        self._blocks: dict[bytes, bytes] = {}
        self._calls: dict[int, _Call] = {}
        self._next = 1
        self._decoder = Decoder()
        self._statuses: dict[bytes, int | None] = {}
        self._in, self._out = b"", bytearray(_PREFACE)
        self._waiting: deque[tuple[int, memoryview, bool]] = deque()
        """What the windows have no room for: call, data, whether it is the last."""
        self._window, self._initial_window, self._max_frame = _DEFAULT_WINDOW, _DEFAULT_WINDOW, 16_384
        self._taken = 0
        self.max_calls: int = 100  # until the server says otherwise
        self.is_going_away = False
        # Nothing is ever held back by our side's windows, and nothing pushed.
        self._frame(_SETTINGS, 0, 0, struct.pack(">HLHL", 2, 0, _INITIAL_WINDOW_SIZE, _LARGEST_WINDOW))
        self._frame(_WINDOW_UPDATE, 0, 0, (_LARGEST_WINDOW - _DEFAULT_WINDOW).to_bytes(4))

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._socket.sendall(self._to_send.read())
                chunk = self._socket.recv(MAX_READ)
                if not chunk:
                    raise ConnectionResetError("the server closed the connection") from None
                self._received.write(chunk)
            else:
                break
        self._socket.sendall(self._to_send.read())
        if self._tls.selected_alpn_protocol() != "h2":
            raise ProtocolError("the server does not speak HTTP/2")

    def fileno(self) -> int:
        """Give the socket's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it; what is under way is lost."""
        self._socket.close()

    @property
    def in_flight(self) -> int:
        """Calls that have not ended."""
        return len(self._calls)

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for the socket."""
        return bool(self._out or self._unsent)

    @property
    def unsent_bytes(self) -> int:
        """How much waits for the socket, or for the server to make room."""
        return len(self._out) + len(self._unsent) + sum(len(data) for _, data, _ in self._waiting)

    # -- calling ------------------------------------------------------------------------------------------------------

    def call(self, path: bytes, message: bytes) -> int:
        """Begin a call of one message.

        Args:
            path: ``/package.Service/Method``.
            message: with its prefix (``framed``).

        Returns:
            The call, as answers name it.
        """
        number = self._open(path, streams=False)
        self._send(number, message, last=True)
        return number

    def open(self, path: bytes) -> int:
        """Begin a call of many messages both ways; see ``send`` and ``finish``."""
        return self._open(path, streams=True)

    def send(self, call: int, message: bytes) -> None:
        """Send a message, with its prefix, on a call that was opened."""
        self._send(call, message, last=False)

    def finish(self, call: int) -> None:
        """Say that no more messages come."""
        self._send(call, b"", last=True)

    def _open(self, path: bytes, *, streams: bool) -> int:
        block = self._blocks.get(path)
        if block is None:
            block = self._blocks[path] = _header_block(path, self._authority, self._deadline)
        number, self._next = self._next, self._next + 2
        self._calls[number] = _Call(streams, [], self._initial_window)
        self._frame(_HEADERS, _END_HEADERS, number, block)
        return number

    def _send(self, number: int, data: bytes, *, last: bool) -> None:
        call = self._calls[number]
        size = len(data)
        if not self._waiting and size <= self._max_frame and size <= self._window and size <= call.window:
            self._window -= size
            call.window -= size
            self._frame(_DATA, _END_STREAM if last else 0, number, data)
            return
        self._waiting.append((number, memoryview(data), last))
        self._send_waiting()

    def _send_waiting(self) -> None:
        # In order: a call whose own window is full holds up those behind it, which servers of ours do not let happen
        # for longer than a message takes.
        while self._waiting:
            number, data, last = self._waiting[0]
            call = self._calls.get(number)
            if call is None:  # it was ended before all was sent
                self._waiting.popleft()
                continue
            room = min(self._window, call.window, self._max_frame)
            part, rest = data[: max(0, room)], data[max(0, room) :]
            if not part and rest:
                return
            self._window -= len(part)
            call.window -= len(part)
            self._frame(_DATA, _END_STREAM if last and not rest else 0, number, part)
            if rest:
                self._waiting[0] = (number, rest, last)
            else:
                self._waiting.popleft()

    def _frame(self, kind: int, flags: int, number: int, payload: bytes | memoryview) -> None:
        size = len(payload)
        self._out += _FRAME.pack(size >> 16, size & 0xFFFF, kind, flags, number)
        self._out += payload

    def flush(self) -> None:
        """Send what the socket takes.

        Raises:
            OSError: the connection is lost.
        """
        if self._out:
            self._tls.write(self._out)
            self._out = bytearray()
            self._unsent += self._to_send.read()
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return

    # -- being answered -----------------------------------------------------------------------------------------------

    def receive(self) -> list[Answer]:
        """Take in what has come.

        Raises:
            OSError: the connection is lost.
            ProtocolError: it makes no sense.
        """
        try:
            chunk = self._socket.recv(MAX_READ)
        except BlockingIOError:
            return []
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        self._received.write(chunk)
        chunks = [self._in]
        try:
            while part := self._tls.read(MAX_READ):
                chunks.append(part)
        except ssl.SSLWantReadError:
            pass
        answers = self._take(b"".join(chunks))
        if self._taken > _REFILL_AT:
            self._frame(_WINDOW_UPDATE, 0, 0, self._taken.to_bytes(4))
            self._taken = 0
        if self._out:
            self.flush()
        return answers

    def _take(self, data: bytes) -> list[Answer]:
        answers: list[Answer] = []
        at, end = 0, len(data)
        while end - at >= _FRAME.size:
            high, low, kind, flags, number = _FRAME.unpack_from(data, at)
            begin = at + _FRAME.size
            after = begin + (high << 16 | low)
            if after > end:
                break
            at = after
            if kind == _DATA:
                self._taken += after - begin
                self._on_data(number, flags, data[begin:after], answers)
            elif kind == _HEADERS:
                self._on_headers(number, flags, data[begin:after], answers)
            else:
                self._on_other(kind, flags, number, data[begin:after], answers)
        self._in = data[at:]
        return answers

    def _on_data(self, number: int, flags: int, payload: bytes, answers: list[Answer]) -> None:
        if flags & (_PADDED | _END_STREAM):  # gRPC ends with trailers
            raise ProtocolError("data that is padded or ends a call")
        call = self._calls.get(number)
        if call is None:
            return
        if call.streams:
            answers.append(Answer(number, payload, None))
        else:
            call.data.append(payload)

    def _on_headers(self, number: int, flags: int, block: bytes, answers: list[Answer]) -> None:
        if flags & (_PADDED | _PRIORITY) or not flags & _END_HEADERS:
            raise ProtocolError("headers that are padded, prioritised or continued")
        status = self._status(block)  # whether or not anybody waits for it: the table is the connection's
        if flags & _END_STREAM:
            self._end(number, STATUS_INTERNAL if status is None else status, answers)

    def _status(self, block: bytes) -> int | None:
        if block in self._statuses:
            return self._statuses[block]
        fields = dict(self._decoder.decode(block, raw=True))
        found = fields.get(b"grpc-status")
        status = None if found is None else int(found)
        if _changes_table(block):
            self._statuses.clear()  # by the table before, the others were read
        elif len(self._statuses) < MAX_CACHED_BLOCKS:
            self._statuses[block] = status
        return status

    def _end(self, number: int, status: int, answers: list[Answer]) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            answers.append(Answer(number, b"".join(call.data), status))

    def _on_other(self, kind: int, flags: int, number: int, payload: bytes, answers: list[Answer]) -> None:
        if kind == _WINDOW_UPDATE:
            self._on_window(number, int.from_bytes(payload) & _LARGEST_WINDOW)
        elif kind == _PING:
            if not flags & _ACK:
                self._frame(_PING, _ACK, 0, payload)
        elif kind == _SETTINGS:
            if not flags & _ACK:
                self._on_settings(payload)
        elif kind == _RST_STREAM:
            refused = int.from_bytes(payload) == _REFUSED_STREAM
            self._end(number, STATUS_UNAVAILABLE if refused else STATUS_INTERNAL, answers)
        elif kind == _GOAWAY:
            self.is_going_away = True
        elif kind in (_PUSH_PROMISE, _CONTINUATION):
            raise ProtocolError("a frame that this client does not take")

    def _on_window(self, number: int, more: int) -> None:
        if number == 0:
            self._window += more
        elif number in self._calls:
            self._calls[number].window += more
        self._send_waiting()

    def _on_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HL", payload):
            if name == _INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._initial_window
                self._initial_window = value
            elif name == _MAX_FRAME_SIZE:
                self._max_frame = value
            elif name == _MAX_CONCURRENT_STREAMS:
                self.max_calls = value
        self._frame(_SETTINGS, _ACK, 0, b"")
        self._send_waiting()


def _header_block(path: bytes, authority: bytes, deadline: bytes) -> bytes:
    """Write the headers of a call: static entries and literals that are not indexed, so that no table is ever kept."""
    return b"".join(
        (
            b"\x83\x87",  # :method POST, :scheme https
            b"\x04" + _text(path),
            b"\x01" + _text(authority),
            b"\x0f\x10" + _text(b"application/grpc"),  # content-type
            b"\x00" + _text(b"te") + _text(b"trailers"),
            b"\x00" + _text(b"grpc-timeout") + _text(deadline),
        )
    )


def _changes_table(block: bytes) -> bool:
    """Whether a header block that was decoded changed the table by which the next is read (RFC 7541 section 6)."""
    at = 0
    while at < len(block):
        kind = block[at]
        if kind & 0x80:  # an index and nothing else
            _, at = _integer(block, at, 7)
        elif kind & 0x60:  # a literal that is indexed, or another size of the table
            return True
        else:  # a literal that is not indexed
            name, at = _integer(block, at, 4)
            for _ in range(1 if name else 2):
                length, at = _integer(block, at, 7)
                at += length
    return False


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Read an integer (RFC 7541 section 5.1); gives what follows it as well."""
    most = (1 << bits) - 1
    value, at = block[at] & most, at + 1
    if value < most:
        return value, at
    shift = 0
    while True:
        value += (block[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not block[at - 1] & 0x80:
            return value, at


def _text(value: bytes) -> bytes:
    if len(value) > _MAX_TEXT:
        raise ValueError("longer than a header of ours is")
    return bytes([len(value)]) + value
