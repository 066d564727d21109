"""Status lists from one peer, before anybody needs them.

Rules that live here:

* What to fetch follows from what the peer says it holds, and from nothing else: no call ever goes anywhere because
  somebody presented a credential, so nobody learns who was where, and a forged one costs no call.
* Each peer has a thread of its own for this. A list of megabytes that trickles in delays neither the trust documents,
  which may say that a key was stolen, nor the lists of another peer.
* Only what the peer said last counts; what it had before is not fetched any more.
* A peer that does not answer is asked again after a pause that grows. One that promises a newer list than it then gives
  is not asked for that list again for a while, however new the one it promises next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.clock import World
from gateway.logs import get_logger
from gateway.peers import Peer, PeerError
from gateway.statuses import Outcome, Statuses

RETRY_SECONDS: Final = 0.5
"""First pause after a call that failed; doubled each time."""
REFUSED_SECONDS: Final = 5.0
"""First pause after a list that was not what was promised; doubled each time."""
MAX_PAUSE_SECONDS: Final = 120.0
_JOIN_SECONDS: Final = 2.5

_log = get_logger("prefetch")


@dataclass(frozen=True, slots=True)
class _Pause:
    until: float
    seconds: float
    is_refusal: bool


class Prefetch:
    """Fetches what one peer has and we have not. Thread-safe."""

    def __init__(self, peer: Peer, *, statuses: Statuses, world: World) -> None:
        """Prepare; nothing is asked yet.

        Args:
            peer: whom to ask.
            statuses: where lists go.
            world: randomness for jitter.
        """
        self._peer = peer
        self._statuses = statuses
        self._world = world
        self._heads: Mapping[str, int] | None = None
        self._pauses: dict[str, _Pause] = {}
        self._fetching = threading.Lock()
        self._look = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, heads: Mapping[str, int]) -> None:
        """Note what the peer says it holds: the number of each list, by uri. Never waits."""
        self._heads = heads
        self._look.set()

    def wake(self) -> None:
        """Look again whether there is anything to fetch: what we want has changed. Never waits."""
        self._look.set()

    def reconsider(self) -> None:
        """Let what was refused be asked for again: what it was judged by has changed."""
        for uri, pause in [*self._pauses.items()]:
            if pause.is_refusal:
                self._pauses.pop(uri, None)

    @property
    def has_given_all(self) -> bool:
        """Whether the peer has given, since the start, every list that it says it holds and we could want."""
        heads = self._heads
        return heads is not None and not any(
            self._statuses.wants(uri, seq) and not self._was_refused(uri) for uri, seq in heads.items()
        )

    def _was_refused(self, uri: str) -> bool:
        pause = self._pauses.get(uri)
        return pause is not None and pause.is_refusal

    def fetch(self) -> None:
        """Fetch all that is due, now. Never raises."""
        with self._fetching:
            for uri in [*(self._heads or {})]:
                seq = (self._heads or {}).get(uri)  # as the peer says by now
                if self._stop.is_set():
                    return
                if seq is None or not self._statuses.wants(uri, seq):
                    self._pauses.pop(uri, None)
                elif self._is_due(uri):
                    self._fetch(uri, seq)

    def start(self) -> None:
        """Start to fetch whenever there is something."""
        name = f"peer-{self._peer.province}-lists"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; ``join`` waits for it."""
        self._stop.set()
        self._look.set()

    def join(self) -> None:
        """Wait for the thread. A call that takes long is not waited for; nothing is done with what comes of it."""
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look.wait(self._seconds_until_due())
            self._look.clear()
            self.fetch()

    def _fetch(self, uri: str, seq: int) -> None:
        try:
            token = self._peer.status_list(uri)
            if self._stop.is_set() or not self._statuses.wants(uri, seq):
                return  # another peer was faster
            outcome = self._statuses.take(uri, token, self._peer.province)
        except PeerError as error:
            _log.debug("status_list_not_fetched", peer=self._peer.province, error=str(error))
            outcome = Outcome.NOT_NOW
        except Exception as error:  # noqa: BLE001 - a thread that dies of one blip never fetches again
            _log.error("status_list_not_fetched", peer=self._peer.province, exc_info=error)
            outcome = Outcome.NOT_NOW
        if not self._statuses.wants(uri, seq):
            self._pauses.pop(uri, None)
            return
        first = RETRY_SECONDS if outcome is Outcome.NOT_NOW else REFUSED_SECONDS
        last = self._pauses.get(uri)
        seconds = first if last is None else min(max(first, last.seconds * 2), MAX_PAUSE_SECONDS)
        # A tenth of jitter: others found the same peer down at the same moment.
        jitter = 0.9 + 0.2 * self._world.random_bytes(1)[0] / 255
        self._pauses[uri] = _Pause(
            until=time.monotonic() + seconds * jitter, seconds=seconds, is_refusal=outcome is Outcome.REFUSED
        )

    def _is_due(self, uri: str) -> bool:
        pause = self._pauses.get(uri)
        return pause is None or time.monotonic() >= pause.until

    def _seconds_until_due(self) -> float | None:
        heads = self._heads or {}
        pauses = [pause.until for uri, pause in [*self._pauses.items()] if uri in heads]
        return max(0.0, min(pauses) - time.monotonic()) if pauses else None
