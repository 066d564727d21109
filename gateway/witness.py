"""Sees to it that no other gateway rewrites its log unseen, and says so of those that do not.

Each round it fetches a peer's newest head, with the proof that it continues the last one seen here, and cosigns it.
What it has seen is on disk before it is cosigned. Rules that live here:

* One peer's log never waits for another's: each peer has a thread of its own.
* A head that cannot stand beside one seen before is the proof that its keeper cheats, or that a backup was put back.
  Both heads are kept, an alarm is raised, and the head is not cosigned. The one seen before stays for ever.
* A log in place of another is cosigned, and an alarm raised: the keeper cannot take back the one before, and people
  have to ask it why.
* A log that another one took the place of has ended. One that grows all the same is neither cosigned nor followed, and
  an alarm is raised: whoever keeps two could write in the one what the other is not to show.
* With each head comes what the peer has seen of our own log. That is how a gateway learns that its database was put
  back, when nothing on its own disk can tell.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from gateway.clock import World
from gateway.core.checkpoint import (
    Checkpoint,
    KeyOf,
    Progress,
    judge_progress,
    kept_checkpoint,
    make_cosignature,
    read_checkpoint,
)
from gateway.core.jose import Signer
from gateway.core.reasons import Indeterminate, NotHeld, Reason, Rejected, Unavailable
from gateway.logs import Sparing, get_logger
from gateway.notary import Notary
from gateway.peers import Head, Peer, PeerError
from gateway.storage import Fork, HeldCheckpoint, StorageError, WitnessStore

LOOK_SECONDS: Final = 1.0
"""How soon to look again after a log has grown."""
IDLE_SECONDS: Final = 5.0
"""How soon to look again after it has not."""
MAX_LOGS: Final = 16
"""Logs followed of one gateway. Each stands for a backup that was put back; a hostile one could begin any number."""

FORKED: Final = "forked"
ROLLED_BACK: Final = "rolled_back"
REPLACED: Final = "replaced"
RESUMED: Final = "resumed"

_log = get_logger("witness")


class Witness:
    """Follows the logs of all peers. Thread-safe."""

    def __init__(
        self,
        *,
        gateway: str,
        peers: Sequence[Peer],
        store: WitnessStore,
        world: World,
        signer: Callable[[], Signer],
        key_of: KeyOf,
        notary: Notary,
        may_sign: Callable[[], bool],
    ) -> None:
        """Prepare to look.

        Args:
            gateway: our entity identifier.
            peers: whose logs to follow.
            store: what was seen of them.
            world: the time.
            signer: gives the audit key that signs now; raises Unavailable.
            key_of: gives the audit key of a gateway by kid.
            notary: keeps our own log.
            may_sign: whether the clock is right and nothing is waited for that others know of us.
        """
        self._gateway = gateway
        self._peers = tuple(peers)
        self._store = store
        self._world = world
        self._signer = signer
        self._key_of = key_of
        self._notary = notary
        self._may_sign = may_sign
        self._sparing = Sparing()
        self._looked: dict[str, datetime] = {}
        self._delivered: dict[str, str] = {}
        """By gateway, the head that it has our cosignature of."""
        self._alarmed_at = max((fork.found_at for fork in store.load_forks()), default=None)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Look from now on, in a thread for each peer."""
        self._threads = [
            threading.Thread(target=self._run, args=(peer,), name=f"witness-{peer.province}", daemon=True)
            for peer in self._peers
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def seen_of(self, gateway: str) -> Sequence[HeldCheckpoint]:
        """Give the newest head seen of each log of a gateway, oldest log first. Raises Unavailable."""
        try:
            return self._store.load_seen(gateway)
        except StorageError as error:
            raise Unavailable("what was seen cannot be read") from error

    @property
    def alarmed_at(self) -> datetime | None:
        """When a log was last found to contradict itself; None: never."""
        return self._alarmed_at

    def forks(self) -> Sequence[Fork]:
        """Give all contradictions found. Raises Unavailable."""
        try:
            return self._store.load_forks()
        except StorageError as error:
            raise Unavailable("what was found cannot be read") from error

    def _run(self, peer: Peer) -> None:
        wait = LOOK_SECONDS
        while not self._stop.wait(wait):
            wait = LOOK_SECONDS if self.look(peer) else IDLE_SECONDS

    # -- one round -----------------------------------------------------------------------------------------------------

    def look(self, peer: Peer) -> bool:
        """Look at a peer's log once. Returns whether it had grown. Raises nothing."""
        try:
            seen = self._last(peer.gateway)
            head = peer.head("" if seen is None else seen.log, 0 if seen is None else seen.size)
            self._looked[peer.gateway] = self._world.now()
            if head.witnessed:
                self._take_own(peer, head.witnessed)
            return bool(head.checkpoint) and self._judge(peer, head)
        except PeerError:
            return False  # whether a peer can be reached is looked after elsewhere
        except (Rejected, Indeterminate, NotHeld, Unavailable, StorageError) as error:
            self._complain(peer, error)
            return False

    def _judge(self, peer: Peer, head: Head) -> bool:
        shown = read_checkpoint(head.checkpoint, self._key_of, self._world.now())
        if shown.gateway != peer.gateway:
            raise Rejected(Reason.STATEMENT_INVALID, "the head is of another gateway's log")
        logs = [kept_checkpoint(each.token) for each in self._store.load_seen(peer.gateway)]
        known = next((each for each in logs if each.log == shown.log), None)
        try:
            progress = judge_progress(known, shown, head.consistency)
        except Rejected as rejection:
            if known is None or rejection.reason is not Reason.LOG_FORKED:
                raise
            self._alarm(ROLLED_BACK if shown.size < known.size else FORKED, known, shown)
            return False
        if known is not None and known.log != logs[-1].log and progress is Progress.NEWER:
            self._alarm(RESUMED, logs[-1], shown)
            return False
        if known is None and logs:
            if len(logs) >= MAX_LOGS:
                raise Rejected(Reason.TOO_LARGE, f"the gateway has begun more than {MAX_LOGS} logs")
            self._alarm(REPLACED, logs[-1], shown)
        if progress in (Progress.FIRST, Progress.NEWER):
            self._store.save_seen(peer.gateway, _held(shown))
        if progress is not Progress.OLDER:
            self._cosign(peer, shown)
        return progress in (Progress.FIRST, Progress.NEWER)

    def _cosign(self, peer: Peer, shown: Checkpoint) -> None:
        if self._delivered.get(peer.gateway) == shown.token or not self._may_sign():
            return
        now = self._world.now()
        peer.cosign(make_cosignature(shown, witness=self._gateway, now=now, signer=self._signer()))
        self._delivered[peer.gateway] = shown.token

    def _take_own(self, peer: Peer, token: str) -> None:
        try:
            self._notary.take_seen(peer.gateway, token)
        except (Rejected, Indeterminate, NotHeld) as error:
            # A key of ours that is no longer known says nothing, nor does what is not ours.
            self._complain(peer, error)

    def _last(self, gateway: str) -> Checkpoint | None:
        logs = self._store.load_seen(gateway)
        return kept_checkpoint(logs[-1].token) if logs else None

    def _alarm(self, kind: str, seen: Checkpoint, shown: Checkpoint) -> None:
        now = self._world.now()
        self._store.save_fork(Fork(gateway=seen.gateway, kind=kind, found_at=now, seen=seen.token, shown=shown.token))
        self._alarmed_at = now
        if self._sparing.is_worth(seen.gateway, (kind, seen.log), now):
            _log.error("log_alarm", gateway=seen.gateway, status=kind, log=shown.log, count=shown.size)

    def _complain(self, peer: Peer, error: Exception) -> None:
        if self._sparing.is_worth(peer.gateway, type(error).__name__, self._world.now()):
            _log.warning("log_not_witnessed", peer=peer.province, exc_info=error)


def _held(checkpoint: Checkpoint) -> HeldCheckpoint:
    return HeldCheckpoint(
        log_id=checkpoint.log,
        size=checkpoint.size,
        issued_at=checkpoint.issued_at,
        token=checkpoint.token,
        cosignatures={},
    )
