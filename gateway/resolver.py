"""Fetch, judge, persist, swap: how this gateway comes to its trust view.

One round with one peer: fetch what its province publishes, hand members' configurations to our own anchor, admit what
is good (``core.trust.admit``), write it to the store, rebuild the view and swap it in one assignment. A verification
that began with the old view ends with the old view.

Rules:

* Each peer has its own thread, deadline and back-off. A dead, slow or hostile peer delays nobody: not another peer's
  round, not a verification.
* Rounds run by the clock, because a removal is only seen by looking, and once at a verification's wish when a kid is
  unknown, because a rotation may be seconds old. The wish is rate-limited: a flood of made-up kids costs one round.
* A failed fetch changes nothing. What is held stays until it expires.
* What is held is on disk. A gateway restarted while every peer is down verifies as before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from gateway.anchor import Anchor
from gateway.clock import World
from gateway.core.charter import Charter, verify_pinned, verify_successor
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.statements import PROFILE, parse_statement
from gateway.core.trust import Documents, TrustView, admit, build_view
from gateway.entity import Entity
from gateway.logs import get_logger
from gateway.peers import Peer, PeerError
from gateway.storage import TrustStore

FORCED_EVERY: Final = timedelta(seconds=5)
FORCED_WAIT_SECONDS: Final = 2.5
MAX_FORCED_WAITERS: Final = 4
ROUND_SECONDS: Final = 10.0
"""How long one round with one peer may take. One that answers so slowly that this is too short counts as down."""
RETRY_SECONDS: Final = 0.5
"""First pause after a round that failed or left something missing; doubled each time up to the interval."""

_log = get_logger("resolver")


class Resolver:
    """Holds the trust view and keeps it current. Thread-safe."""

    def __init__(
        self,
        *,
        world: World,
        store: TrustStore,
        charter: Charter,
        peers: Sequence[Peer],
        own_entities: Sequence[Entity],
        anchor: Anchor | None,
    ) -> None:
        """Load what the store holds and build the first view from it.

        Args:
            world: clock and randomness.
            store: where documents are kept.
            charter: the charter in force (see ``load_charter``).
            peers: the other provinces' gateways.
            own_entities: the entities this process plays, its anchor not among them.
            anchor: this province's anchor, when this process plays it.
        """
        self._world = world
        self._store = store
        self._peers = tuple(peers)
        self._own = tuple(own_entities)
        self._anchor = anchor
        self._lock = threading.Lock()  # one round at a time judges and swaps; fetching happens outside
        self._charter = charter
        self._documents: Documents = store.load_documents()
        self._view = build_view(charter, self._documents, world.now())
        self._busy = {peer.province: threading.Lock() for peer in self._peers}
        self._incomplete = {peer.province: 0 for peer in self._peers}  # rounds in a row that left something missing
        self._unreachable = {peer.province: False for peer in self._peers}
        self._forced_at: datetime | None = None
        self._forced_lock = threading.Lock()
        self._forced_waiters = threading.BoundedSemaphore(MAX_FORCED_WAITERS)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._pool = ThreadPoolExecutor(max_workers=4 * len(self._peers) + 1, thread_name_prefix="refresh")

    @property
    def view(self) -> TrustView:
        """The view in force. Read it once per verification."""
        return self._view

    def document(self, issuer: str, subject: str) -> str | None:
        """Give a statement held, as received, for relaying."""
        return self._documents.get((issuer, subject))

    def charter_document(self, version: int) -> str | None:
        """Give a charter held; 0 means the one in force."""
        if version in (0, self._charter.version):
            return self._charter.document
        return self._store.load_charters().get(version)

    def publish_own(self) -> None:
        """Sign our own configurations anew where due, and take them in."""
        now = self._world.now()
        anchors = tuple(anchor.entity_id for anchor in self._charter.anchors)
        offered = {
            (entity.entity_id, entity.entity_id): entity.configuration(anchors, now, self._held_since(entity))
            for entity in self._own
        }
        if self._anchor is not None:
            entity = self._anchor.entity
            offered[entity.entity_id, entity.entity_id] = entity.configuration((), now, self._held_since(entity))
        self._absorb(offered)

    def _held_since(self, entity: Entity) -> datetime | None:
        held = self._documents.get((entity.entity_id, entity.entity_id))
        return parse_statement(held, PROFILE).issued_at if held is not None else None

    def poll(self, peer: Peer) -> bool:
        """Do one round with one peer. Returns whether everything asked for was had."""
        if not self._busy[peer.province].acquire(timeout=FORCED_WAIT_SECONDS):
            return False  # a round with it is under way; whoever wanted another has stopped waiting by now
        try:
            self._follow_charter(peer)
            offered, problems = _fetch(peer, self._charter)
            self._note(peer, problems)
            if offered:
                self._absorb(offered)
            return not problems
        finally:
            self._busy[peer.province].release()

    def refresh(self) -> None:
        """Publish, and do one round with every peer at once."""
        self.publish_own()
        wait([self._pool.submit(self._round, peer) for peer in self._peers])

    def refresh_for_unknown_key(self) -> bool:
        """Refresh once because a verification met an unknown kid. Returns whether a refresh was made.

        Rate-limited and single-flight. A few callers who come while one runs wait for it and share its result; the rest
        are told to ask again (Indeterminate), so that made-up kids and a slow peer together cannot hold all threads.
        """
        asked_at = self._world.now()
        if not self._forced_waiters.acquire(blocking=False):
            raise Indeterminate(Reason.TRUST_STALE, "too many wait for a refresh already")
        try:
            with self._forced_lock:
                # abs: a clock that was set back must not switch this off until it has caught up.
                if self._forced_at is not None and abs(asked_at - self._forced_at) < FORCED_EVERY:
                    return self._view.built_at >= asked_at
                self._forced_at = self._world.now()
                reachable = [peer for peer in self._peers if not self._unreachable[peer.province]]
                wait([self._pool.submit(self._round, peer) for peer in reachable], timeout=FORCED_WAIT_SECONDS)
                return bool(reachable)
        finally:
            self._forced_waiters.release()

    def start(self, interval: timedelta) -> None:
        """Start one thread per peer, and one for our own documents."""
        self._spawn("publish", lambda: self._run(interval, self._publish_round))
        for peer in self._peers:
            self._spawn(f"peer-{peer.province}", partial(self._run, interval, partial(self._round, peer)))

    def stop(self) -> None:
        """Stop the threads. What is held is on disk already."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for thread in self._threads:
            thread.join()

    def _spawn(self, name: str, target: Callable[[], object]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, interval: timedelta, work: Callable[[], bool]) -> None:
        regular, retry = interval.total_seconds(), RETRY_SECONDS
        while not self._stop.is_set():
            if work():
                pause, retry = regular, RETRY_SECONDS
            else:
                pause, retry = min(retry, regular), retry * 2
            # Four provinces on one schedule would all ask at the top of the minute; a tenth of jitter spreads them.
            jitter = 0.9 + 0.2 * self._world.random_bytes(1)[0] / 255
            self._stop.wait(pause * jitter)

    def _publish_round(self) -> bool:
        try:
            self.publish_own()
        except Exception as error:  # noqa: BLE001 - as in _round
            _log.error("publication_failed", exc_info=error)
            return False
        return True

    def _round(self, peer: Peer) -> bool:
        try:
            return self.poll(peer)
        except Exception as error:  # noqa: BLE001 - a thread that dies of one blip never refreshes again
            _log.error("refresh_failed", peer=peer.province, exc_info=error)
            return False

    def _follow_charter(self, peer: Peer) -> None:
        """Take the next charter, if the peer has one: exactly one step, signed by both quorums."""
        current = self._charter
        try:
            document = peer.charter(current.version + 1)
        except PeerError:
            return
        try:
            successor = verify_successor(current, document)
        except Rejected as rejection:
            _log.warning("charter_refused", peer=peer.province, reason=rejection.reason, detail=rejection.detail)
            return
        with self._lock:
            if self._charter is not current:
                return
            self._store.save_charter(successor.version, successor.document)
            self._charter = successor
            self._view = build_view(successor, self._documents, self._world.now())
        _log.info("charter_followed", version=successor.version)

    def _absorb(self, offered: Documents) -> None:
        now = self._world.now()
        if self._anchor is not None:
            anchor_id = self._anchor.entity.entity_id
            configurations = {
                subject: token
                for (issuer, subject), token in offered.items()
                if issuer == subject and self._charter.member(subject) is not None
            }
            made = self._anchor.vouch(self._charter, configurations, now)
            offered = {**offered, **{(anchor_id, member): statement for member, statement in made.items()}}
        with self._lock:
            admission = admit(self._charter, self._documents, offered, now)
            for problem in admission.refused:
                _log.warning(
                    "document_refused",
                    issuer=problem.issuer,
                    subject=problem.subject,
                    reason=problem.reason,
                    detail=problem.detail,
                )
            if admission.changed:
                # Durable before it is used: a restart must not know less than an answer was based on.
                self._store.save_documents({place: admission.documents[place] for place in admission.changed})
                self._documents = admission.documents
            self._view = build_view(self._charter, self._documents, now)

    def _note(self, peer: Peer, problems: Sequence[PeerError]) -> None:
        before = self._incomplete[peer.province]
        self._incomplete[peer.province] = before + 1 if problems else 0
        self._unreachable[peer.province] = any(not problem.reachable for problem in problems)
        if problems and before == 0:
            _log.warning("peer_incomplete", peer=peer.province, problems=len(problems), first=str(problems[0]))
        elif before and not problems:
            _log.info("peer_recovered", peer=peer.province, after_rounds=before)


def load_charter(store: TrustStore, document: str, pin: str) -> Charter:
    """Establish the charter in force: the pinned one, then every successor the store holds.

    An expired charter is still the charter (its successor is checked against it); verification answers indeterminate
    until a newer one is there.

    Raises:
        Rejected: the document is not the pinned charter, or lacks its quorum.
    """
    charter = verify_pinned(document, pin)
    store.save_charter(charter.version, charter.document)
    for version, held in store.load_charters().items():
        if version > charter.version:
            charter = verify_successor(charter, held)
    return charter


def _fetch(peer: Peer, charter: Charter) -> tuple[Documents, Sequence[PeerError]]:
    """Fetch what a peer's province publishes, by the place each document was asked for."""
    anchors = [anchor.entity_id for anchor in charter.anchors if anchor.province == peer.province]
    places = [(entity_id, entity_id) for entity_id, province in _entities(charter) if province == peer.province]
    places += [(anchor_id, member.entity_id) for anchor_id in anchors for member in charter.members]
    offered: dict[tuple[str, str], str] = {}
    problems: list[PeerError] = []
    deadline = time.monotonic() + ROUND_SECONDS
    for issuer, subject in places:
        if time.monotonic() > deadline:
            problems.append(PeerError("TOO_SLOW", reachable=False))
            break
        try:
            if issuer == subject:
                offered[issuer, subject] = peer.entity_configuration(subject)
            else:
                offered[issuer, subject] = peer.subordinate_statement(issuer, subject)
        except PeerError as error:
            problems.append(error)
            if not error.reachable:
                break  # it is down: do not wait out a deadline for each of the rest
    return offered, problems


def _entities(charter: Charter) -> list[tuple[str, str]]:
    anchors: list[tuple[str, str]] = [(anchor.entity_id, anchor.province) for anchor in charter.anchors]
    return anchors + [(member.entity_id, member.province) for member in charter.members]
