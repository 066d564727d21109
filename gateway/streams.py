"""Streams of a listener: few, none that nobody reads, and on those that go both ways no more taken than is answered.

A stream holds a thread for as long as it lasts. Their number is bounded, in all and for each of those who open them.
Whoever stops reading is cut off: what was decided for them is on record, and they can ask again.

On a stream that goes both ways, a thread of its own reads ahead, so that what is sent in small messages is worked on
together. It stops reading when a bounded amount waits; then the other end's writes wait, by HTTP/2's flow control. What
has been read is answered also where the stream is ended because the gateway stops serving.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc

from gateway.core.reasons import InvalidRequest, Overloaded, Unavailable
from gateway.logs import get_logger
from gateway.wire import MAX_STREAM_ITEMS

UNREAD_SECONDS: Final = 30.0
"""How long one message of a stream may wait for its reader."""
IDLE_SECONDS: Final = 300.0
"""How long nothing may come on a stream that goes both ways, while nothing waits for an answer."""
MAX_WAITING_BYTES: Final = 1024 * 1024
"""Read ahead, beside the message that went beyond it."""
_CHECK_SECONDS: Final = 1.0

_log = get_logger("streams")


@dataclass(slots=True, eq=False)
class _Stream:
    """A call that answers with a stream."""

    owner: str
    context: grpc.ServicerContext
    leave: Callable[[], None] | None
    """Ends it when its time is over or the gateway stops serving; None: it has all the time, and is cut off then."""
    began: float
    """By the monotonic clock."""
    ending: bool = False
    sending_since: float | None = None
    """Since when a message of it waits to be read."""


class Streams:
    """The streams of a listener. Thread-safe."""

    def __init__(self, limit: int, share: int, *, replacing: bool, seconds: float) -> None:
        """Start watching.

        Args:
            limit: how many there may be at one time.
            share: how many of them one owner may have.
            replacing: an owner with one too many loses its oldest, because a stream whose other end vanished looks just
                like one that is idle. Else the new one is refused only.
            seconds: how long one that can be told to end may last. Its connection would be cut off under it later.
        """
        self._limit = limit
        self._share = share
        self._replacing = replacing
        self._seconds = seconds
        self._lock = threading.Lock()
        self._open: list[_Stream] = []  # oldest first
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="streams", daemon=True).start()

    def run(
        self,
        messages: Iterator[Any],
        owner: str,
        context: grpc.ServicerContext,
        leave: Callable[[], None] | None = None,
    ) -> Iterator[Any]:
        """Pass a stream on, message by message.

        Args:
            messages: what is sent.
            owner: to whose share it counts.
            context: the call.
            leave: ends it when its time is over or the gateway stops serving; None: it is cut off then.

        Raises:
            Overloaded: there are too many.
        """
        stream = _Stream(owner, context, leave, time.monotonic())
        self._admit(stream)
        try:
            for message in messages:
                stream.sending_since = time.monotonic()
                yield message
                stream.sending_since = None
        finally:
            with self._lock:
                self._open.remove(stream)

    def close(self) -> None:
        """End all streams, and stop watching."""
        self._closed.set()
        with self._lock:
            for stream in self._open:
                if stream.leave is None:
                    _cut(stream)
                else:
                    stream.leave()

    def _admit(self, stream: _Stream) -> None:
        with self._lock:
            own = [each for each in self._open if each.owner == stream.owner]
            if len(own) >= self._share:
                if self._replacing:
                    _cut(own[0])
                raise Overloaded("too many streams of one caller", _CHECK_SECONDS)
            if len(self._open) >= self._limit or self._closed.is_set():
                raise Overloaded("too many streams", UNREAD_SECONDS)
            self._open.append(stream)

    def _watch(self) -> None:
        while not self._closed.wait(_CHECK_SECONDS):
            now = time.monotonic()
            with self._lock:
                for stream in self._open:
                    since = stream.sending_since
                    if since is not None and now - since > UNREAD_SECONDS:
                        _cut(stream)
                    elif stream.leave is not None and now - stream.began > self._seconds:
                        stream.leave()


def _cut(stream: _Stream) -> None:
    if stream.ending:
        return
    stream.ending = True
    try:
        stream.context.cancel()
    except Exception as error:  # noqa: BLE001 - one call that cannot be cancelled must not shield the rest
        _log.warning("call_not_cancelled", exc_info=error)


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came."""

    message: Any
    """With ``items``; None: it is no message of the type, or too large."""
    size: int
    """In bytes."""


class Inbox:
    """What is sent on a stream that goes both ways, read ahead. One thread takes from it."""

    def __init__(self, messages: Iterator[Received]) -> None:
        """Prepare to read; that begins when something is asked for.

        Args:
            messages: as they come; what it raises when the call is over is raised to whoever takes.
        """
        self._messages = messages
        self._changed = threading.Condition()
        self._waiting: deque[Received] = deque()
        self._over: Exception | None = None
        """What there is instead of another message."""
        self._reader = threading.Thread(target=self._read, name="inbox", daemon=True)

    def __iter__(self) -> Inbox:
        return self

    def __next__(self) -> Any:
        """Wait for a message; what came with and after it is put together up to ``MAX_STREAM_ITEMS``.

        Raises:
            InvalidRequest: what came is no message.
            Unavailable: nothing came for too long, the time is over, or the gateway stops serving.
            grpc.RpcError: the call is over.
        """
        if self._reader.ident is None:
            self._reader.start()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._over is not None, IDLE_SECONDS)
            if not self._waiting:
                raise self._over or Unavailable("nothing was sent for too long")
            message = self._waiting.popleft().message
            while self._waiting and _belong_together(message, self._waiting[0].message):
                message.MergeFrom(self._waiting.popleft().message)
            self._changed.notify_all()
        if message is None:
            raise InvalidRequest("request", "is not a message of this type, or too large")
        return message

    def leave(self) -> None:
        """Take no more; what was taken is still given."""
        self._end(Unavailable("this stream is over; open another"))

    def close(self) -> None:
        """Take no more, and give no more."""
        self._end(Unavailable("the stream is closed"))
        with self._changed:
            self._waiting.clear()

    def _end(self, over: Exception) -> None:
        with self._changed:
            self._over = self._over or over
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            for received in self._messages:
                if not self._put(received):
                    return
        except Exception as error:  # noqa: BLE001 - it belongs to whoever takes
            self._end(error)
        else:
            self._end(StopIteration())

    def _put(self, received: Received) -> bool:
        """Keep a message until it is taken, and wait until there is room for another; False: none is wanted."""
        with self._changed:
            if self._over is None:
                self._waiting.append(received)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._has_room() or self._over is not None)
            return self._over is None

    def _has_room(self) -> bool:
        items = sum(_count(each.message) for each in self._waiting)
        return items < MAX_STREAM_ITEMS and sum(each.size for each in self._waiting) < MAX_WAITING_BYTES


def _count(message: Any) -> int:
    """Count items; what has none is one thing to look at."""
    return 1 if message is None else max(1, len(message.items))


def _belong_together(first: Any, second: Any) -> bool:
    """Whether two messages can be put together. What is at fault stays by itself, so that the rest is answered."""
    if first is None or second is None or not first.items or not second.items:
        return False
    return _count(first) + _count(second) <= MAX_STREAM_ITEMS
