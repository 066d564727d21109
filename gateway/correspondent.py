"""One peer at a time: its stream, its silences, and what is sent to it.

Rules that live here:

* Each peer has threads of its own, which never die, and no peer is waited for by another's. A dead, slow or hostile one
  delays nobody.
* A stream is listened to while it works. Where it breaks, the peer is asked once at once, and again after a pause that
  grows up to the interval; each time the stream is tried first. So a network that cuts streams costs minutes of
  currency and nothing else.
* A stream that has been silent for longer than its sender may be counts as broken: whoever holds one open and says
  nothing must not pass for a peer with no news.
* Whoever costs much is not soon listened to again, whether there was anything new in it or not: one peer can have a
  tenth of a core and no more.
* What is sent to the peer is only the newest; an older one that was not sent in time is not sent at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from gateway.clock import World
from gateway.logs import get_logger
from gateway.peers import Peer, PeerError, TrustOffer, TrustStream

HEARTBEAT_SECONDS: Final = 30.0
"""How long whoever serves a stream stays silent at most."""
SILENCE_SECONDS: Final = 75.0
"""How long a stream may be silent: two of its messages lost."""
RETRY_SECONDS: Final = 0.5
"""First pause after a failure; doubled each time up to the interval."""
POLL_WAIT_SECONDS: Final = 2.5
SLOW_SECONDS: Final = 0.2
"""What takes more of a core to judge gives its sender a pause."""
_SLOW_PAUSE: Final = 10
"""By how many times as long its sender is not listened to."""
_MAX_SLOW_PAUSE_SECONDS: Final = 10.0
_CHECK_SECONDS: Final = 5.0

_log = get_logger("correspondent")


class Correspondent:
    """One peer. Thread-safe."""

    def __init__(self, peer: Peer, *, world: World, hear: Callable[[Peer, TrustOffer], object]) -> None:
        """Prepare; nothing is asked yet.

        Args:
            peer: whom to listen to.
            world: the time, and randomness for jitter.
            hear: judges what the peer holds.
        """
        self.peer = peer
        self._world = world
        self._hear = hear
        self._polling = threading.Lock()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._stream: TrustStream | None = None
        self._last_word = time.monotonic()
        self._rest_until = self._last_word
        self._failures = 0
        self._heard_at: datetime | None = None
        self._outgoing: str | None = None
        self._to_send = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def reachable(self) -> bool:
        """Whether it could be reached when it was last tried; True before that."""
        return self._failures == 0

    @property
    def heard_at(self) -> datetime | None:
        """When it last gave its documents."""
        return self._heard_at

    def poll(self) -> bool:
        """Ask once for all documents. Never raises; says whether there was an answer."""
        if not self._polling.acquire(timeout=POLL_WAIT_SECONDS):
            return False  # a round with it is under way; whoever wanted another has stopped waiting by now
        try:
            self._rest()
            self._take(self.peer.trust())
        except PeerError as error:
            self._missed(error)
            return False
        except Exception as error:  # noqa: BLE001 - a thread that dies of one blip never refreshes again
            _log.error("refresh_failed", peer=self.peer.province, exc_info=error)
            return False
        else:
            return True
        finally:
            self._polling.release()

    def send(self, acknowledgement: str) -> None:
        """Have the peer told which trust we enforce, soon. Never waits."""
        self._outgoing = acknowledgement
        self._to_send.set()

    def flush(self) -> bool:
        """Send what waits to be sent, now. Never raises; says whether nothing is left."""
        token = self._outgoing
        if token is None:
            return True
        try:
            self.peer.acknowledge(token)
        except PeerError:
            return False  # the thread that listens finds out what is the matter with the peer
        except Exception as error:  # noqa: BLE001 - as in poll
            _log.error("refresh_failed", peer=self.peer.province, exc_info=error)
            return False
        with self._lock:
            if self._outgoing is token:
                self._outgoing = None
        return True

    def start(self, interval: timedelta) -> None:
        """Start to listen, and to send."""
        province = self.peer.province
        for name, work in ((f"peer-{province}", self._listen), (f"peer-{province}-send", self._send)):
            thread = threading.Thread(target=work, args=(interval.total_seconds(),), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Ask the threads to end; ``join`` waits for them."""
        with self._lock:
            self._stop.set()
            if self._stream is not None:
                self._stream.cancel()
        self._to_send.set()

    def join(self) -> None:
        """Wait for the threads."""
        for thread in self._threads:
            thread.join()

    # -- threads -------------------------------------------------------------------------------------------------------

    def _listen(self, interval: float) -> None:
        retry = RETRY_SECONDS
        while not self._stop.is_set():
            if self._follow_stream():
                retry = RETRY_SECONDS
            if self._stop.is_set():
                return
            self.poll()
            # Four provinces on one schedule would all ask at the top of the minute; a tenth of jitter spreads them.
            jitter = 0.9 + 0.2 * self._world.random_bytes(1)[0] / 255
            self._stop.wait(min(retry, interval) * jitter)
            retry = min(retry * 2, interval)

    def _follow_stream(self) -> bool:
        """Listen until the stream ends. Never raises; says whether anything came over it."""
        came = False
        stream: TrustStream | None = None
        try:
            stream = self.peer.watch()
            with self._lock:
                if self._stop.is_set():
                    return False
                self._stream, self._last_word = stream, time.monotonic()
            for offer in stream:
                came = True
                self._rest()
                self._take(offer)
                self._last_word = time.monotonic()
        except PeerError as error:
            _log.debug("stream_ended", peer=self.peer.province, error=str(error))
        except Exception as error:  # noqa: BLE001 - as in poll
            _log.error("refresh_failed", peer=self.peer.province, exc_info=error)
        finally:
            with self._lock:
                self._stream = None
            if stream is not None:
                stream.cancel()
        return came

    def _send(self, interval: float) -> None:
        pause = min(_CHECK_SECONDS, interval)
        while not self._stop.is_set():
            self._to_send.wait(pause)
            self._to_send.clear()
            if self._stop.is_set():
                return
            self._end_silent_stream()
            if not self.flush():
                self._stop.wait(min(RETRY_SECONDS, interval))

    def _end_silent_stream(self) -> None:
        with self._lock:
            if self._stream is not None and time.monotonic() - self._last_word > SILENCE_SECONDS:
                _log.warning("stream_silent", peer=self.peer.province)
                self._stream.cancel()

    # -- what came -----------------------------------------------------------------------------------------------------

    def _take(self, offer: TrustOffer) -> None:
        if self._failures:
            _log.info("peer_recovered", peer=self.peer.province, after_rounds=self._failures)
        self._failures = 0
        began = time.thread_time()  # of a core: to wait for a lock or a disk costs nobody anything
        self._hear(self.peer, offer)
        self._heard_at = self._world.now()  # not before: who looks at it relies on what came being in force
        took = time.thread_time() - began
        if took > SLOW_SECONDS:
            self._rest_until = time.monotonic() + min(took * _SLOW_PAUSE, _MAX_SLOW_PAUSE_SECONDS)

    def _rest(self) -> None:
        # Before the next, and not after this: who asked has the answer.
        self._stop.wait(max(0.0, self._rest_until - time.monotonic()))

    def _missed(self, error: PeerError) -> None:
        if error.reachable:
            return
        if self._failures == 0:
            _log.warning("peer_unreachable", peer=self.peer.province, error=str(error))
        self._failures += 1
