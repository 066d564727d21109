"""How this gateway comes to its trust view, and how others come to ours.

``custody`` holds and judges, ``correspondent`` listens to one peer; this module is what they work for. Rules:

* Nothing of our own is signed before the peers were asked once what they hold of ours: a backup that was put back has
  to learn how far it had got, or it would contradict itself.
* What any peer says about any province counts, because only signatures do. So a province that is cut off from another
  hears of it through a third.
* A charter is followed step by step, as many steps as there are, and only the last is put in force: one that expired on
  the way was good for leading to the next.
* What is in force after each change is acknowledged to every peer, and nothing waits for that.
* Which status lists a peer holds comes with its documents, and what we lack is fetched aside (``prefetch``). Which ones
  we hold is told to all who watch at once: a revocation may be in one.
* Of the processes that share a store one publishes; the others take over from it what that one has written, as soon as
  the store tells of it (``follow``). Those that hear the peers too hold what they hear besides, and write nothing.
* An unknown kid may be seconds old. It causes one round with all peers at a verification's wish, rate-limited: a flood
  of made-up kids costs one round.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from gateway.anchor import Anchor
from gateway.clock import World
from gateway.core import acknowledgement
from gateway.core.acknowledgement import Acknowledgement
from gateway.core.admission import Offer
from gateway.core.changes import charter_entry
from gateway.core.charter import Charter, parse_charter, verify_pinned, verify_successor
from gateway.core.entries import seal
from gateway.core.events import read_events
from gateway.core.memory import Documents, Revocation
from gateway.core.reasons import Indeterminate, Reason, Rejected, Unavailable
from gateway.core.snapshot import check_jump, is_within_reach, read_seq
from gateway.core.statements import PROFILE, UnverifiedStatement, parse_statement, verify_signature
from gateway.core.trust import TrustView
from gateway.correspondent import POLL_WAIT_SECONDS, Correspondent
from gateway.custody import Custody, Held, own_revocations
from gateway.entity import Entity
from gateway.logs import Sparing, get_logger
from gateway.peers import Peer, PeerError, TrustOffer
from gateway.prefetch import Prefetch
from gateway.statuses import Statuses
from gateway.storage import StatusStore, StorageError, Topic, TrustStore

FORCED_EVERY: Final = timedelta(seconds=5)
MAX_FORCED_WAITERS: Final = 4
MAX_CHARTER_STEPS: Final = 256
"""Versions of the charter followed in one round (TUF 5.3)."""
FOLLOW_SECONDS: Final = 10.0
"""How long one round may take over them. There will be another."""
CATCH_UP_AGAIN_SECONDS: Final = 0.25
LEAP: Final = timedelta(seconds=2**20)
"""How far beyond the clock our numbers go on when it is not known how far they had got: twelve days. That covers a
clock that was wrong before and what was signed since. It does not add up, and is far from a jump that others refuse."""
IMPLAUSIBLE: Final = timedelta(days=3_650)
"""How far beyond what a quorum of anchors attested our clock may be and still be believed. No federation was ever off
for that long, and numbers from within it can be gone on from."""
PUBLISH_SECONDS: Final = 10.0
"""How often to look whether something of ours is due, however rarely the peers are asked."""

OWN: Final = "own"
"""In the log, where the name of a peer would be."""

_log = get_logger("resolver")

Revocations = Mapping[tuple[str, str], Revocation]
"""By (entity, kid)."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What came of a refresh that another process was asked for."""

    is_made: bool
    """As ``Resolver.refresh_for_unknown_key`` gives it."""
    view_id: str
    """The view it holds now, where what it hears is in no store, because it does not lead; else empty."""


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
        gateway: Entity,
        anchor: Anchor | None,
        status_store: StatusStore,
        on_own_revocations: Callable[[Revocations], object] = dict,
        leads: bool = True,
        ask_front: Callable[[], Refreshed] | None = None,
    ) -> None:
        """Load what the store holds and build the first view from it.

        Args:
            world: clock and randomness.
            store: where documents are kept.
            charter: the charter in force (see ``load_charter``).
            peers: the other provinces' gateways.
            own_entities: the entities this process plays, its anchor not among them.
            gateway: the one of them that acknowledges.
            anchor: this province's anchor, when this process plays it.
            status_store: where status lists are kept.
            on_own_revocations: told of all revocations of our keys that are held, by (entity, kid), whenever they have
                changed and before anything more is signed. After a backup was put back, peers know some that it does
                not. It may call ``publish_own``, and must not wait for anybody who does.
            leads: whether this process publishes and acknowledges; else another one does, and this one takes over from
                the store what that one has written.
            ask_front: in a process without peers of its own: has the one that hears them refresh for an unknown key;
                see ``refresh_for_worker``.
        """
        self._world = world
        self._store = store
        self._leads = leads
        self._ask_front = ask_front
        self._own = tuple(own_entities)
        self._gateway = gateway
        self._anchor = anchor
        self._on_own_revocations = on_own_revocations
        self._told: Revocations = {}
        self._outrun: dict[str, int] = {}
        self._sparing = Sparing()
        self._is_ahead = False
        self._custody = Custody(world=world, store=store, charter=charter)
        self.statuses = Statuses(
            world=world, store=status_store, view=lambda: self.view, on_change=self._hand_out_lists
        )
        """The status lists held, of all issuers."""
        self._hand_out_lists()
        self._prefetches = {str(peer.province): Prefetch(peer, statuses=self.statuses, world=world) for peer in peers}
        self._correspondents = {str(peer.province): Correspondent(peer, world=world, hear=self._hear) for peer in peers}
        self._publishing = threading.RLock()
        self._numbers_from = 0
        self._ready = False
        documents = self._custody.held.memory.documents
        self._heads = {entity.entity_id: _seq(documents, entity.entity_id, world.now()) for entity in self._own}
        if anchor is not None:
            anchor.recall(documents, world.now())
        self._acknowledged: dict[str, tuple[Acknowledgement, datetime]] = {}
        self._acknowledged_lock = threading.Lock()
        self._forced_at: datetime | None = None
        self._forced_in_vain = False
        """Whether the last one came to no end: nobody could be asked."""
        self._forced_lock = threading.Lock()
        self._forced_waiters = threading.BoundedSemaphore(MAX_FORCED_WAITERS)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._pool = ThreadPoolExecutor(max_workers=4 * len(peers) + 1, thread_name_prefix="refresh")

    # -- what is held --------------------------------------------------------------------------------------------------

    @property
    def view(self) -> TrustView:
        """The view in force. Read it once per verification."""
        return self._custody.held.view

    @property
    def is_ready(self) -> bool:
        """Whether what is ours was published since the start."""
        return self._ready

    @property
    def is_clock_regressed(self) -> bool:
        """Whether our clock shows less than a quorum of anchors has attested."""
        return self._custody.is_regressed

    def state(self) -> TrustOffer:
        """Give all documents held, for serving."""
        return self._custody.held.offer

    def wait_for_change(
        self, after: int, timeout: float, stop: Callable[[], bool] = lambda: False
    ) -> tuple[int, TrustOffer]:
        """Wait for documents newer than a version; see ``Custody.wait_for_change``."""
        return self._custody.wait_for_change(after, timeout, lambda: stop() or self._stop.is_set())

    def wake(self) -> None:
        """Let everybody who waits for a change look again whether to go on."""
        self._custody.wake()

    def document(self, issuer: str, subject: str) -> str | None:
        """Give a statement held, as received, for relaying."""
        return self._custody.held.memory.documents.get((issuer, subject))

    def served(self, issuer: str, subject: str) -> str | None:
        """Give a statement for whoever asks: of ours the newest, held or not, else the one held."""
        own = self._custody.own(issuer) if issuer == subject else None
        return own or self.document(issuer, subject)

    def charter_document(self, version: int) -> str | None:
        """Give a charter held; 0 means the one in force."""
        charter = self._custody.held.charter
        if version in (0, charter.version):
            return charter.document
        return self._store.load_charter(version)

    def charters_from(self, pinned: Charter) -> Sequence[Charter]:
        """Give the charters from one on to the one in force, as far as they are held."""
        current = self._custody.held.charter
        charters = [pinned] if pinned.version < current.version else []
        for version in range(pinned.version + 1, current.version):
            document = self._store.load_charter(version)
            if document is not None:
                charters.append(parse_charter(document).unverified)
        return [*charters, current]

    def revocations(self) -> Revocations:
        """Give every revocation known, by (entity, kid)."""
        return self._custody.held.memory.revocations

    def has_forgotten(self, entity_id: str) -> bool:
        """Whether others hold a statement of an entity of ours that the store did not: a backup was put back.

        Ours is on disk before anybody is given it. To be asked before anything more is published.
        """
        head = self._head(self._custody.held, entity_id, self._world.now())
        return head > self._heads.get(entity_id, head)

    def _head(self, held: Held, entity_id: str, now: datetime) -> int:
        return max(_seq(held.memory.documents, entity_id, now), _reached(self._outrun.get(entity_id, 0), now))

    def _hand_out_lists(self) -> None:
        self._custody.hand_out_lists(lambda: self.statuses.heads)

    def _fetch_lists(self) -> Sequence[Future[None]]:
        return [self._pool.submit(each.fetch) for each in self._prefetches.values()]

    # -- peers ---------------------------------------------------------------------------------------------------------

    def reachable(self, province: str) -> bool:
        """Whether a province's gateway could be reached when it was last tried. False for one that is no peer."""
        found = self._correspondents.get(province)
        return found is not None and found.reachable

    def last_heard(self, province: str) -> datetime | None:
        """When a province's gateway last gave its documents."""
        found = self._correspondents.get(province)
        return None if found is None else found.heard_at

    def has_told_all(self, province: str) -> bool:
        """Whether a province's gateway has given, since the start, its documents and the status lists it holds."""
        return self.last_heard(province) is not None and self._prefetches[province].has_given_all

    def take_acknowledgement(self, token: str) -> None:
        """Take another gateway's word on which trust it enforces.

        Raises:
            Rejected: it is not signed by a gateway of the charter, or cannot be read.
        """
        now = self._world.now()
        read = acknowledgement.read(token, self.view, now)
        with self._acknowledged_lock:
            known = self._acknowledged.get(read.gateway)
            if known is None or read.issued_at >= known[0].issued_at:
                self._acknowledged[read.gateway] = (read, now)

    def acknowledgements(self) -> Mapping[str, tuple[Acknowledgement, datetime]]:
        """Give the last word of each other gateway of the charter, and when it came."""
        charter = self._custody.held.charter
        with self._acknowledged_lock:
            return {each: word for each, word in self._acknowledged.items() if charter.member(each) is not None}

    # -- publishing ----------------------------------------------------------------------------------------------------

    def publish_own(self) -> None:
        """Sign what is ours anew where due, and take it in. To be called when anything of ours changed."""
        if not self._leads:
            return
        if self._custody.is_regressed:
            self._custody.absorb(Offer(), OWN)  # looks whether people have put it right
            if self._custody.is_regressed:
                return  # nothing is signed by a clock that is wrong
        if self._is_clock_ahead():
            return
        with self._publishing:
            self._tell_own_revocations()
            held, now = self._custody.held, self._world.now()
            configurations: dict[str, str] = {}
            events: dict[str, str] = {}
            for entity in self._own:
                try:
                    configurations[entity.entity_id] = self._configuration(entity, held, now)
                    events.update(self._events(entity, held, now))
                except Unavailable as error:
                    # Its key was revoked and the next is not ready. What was published lives on until it lapses.
                    _log.warning("publication_failed", entity=entity.entity_id, detail=error.detail)
            offer = TrustOffer(
                charter_version=held.charter.version,
                statements=(*self._vouch([*configurations.values()], held, now), *configurations.values()),
                events=tuple(events.values()),
            )
            self._custody.absorb(self._custody.news(offer, OWN), OWN)
            self._custody.hand_out(configurations, events)
            self._ready = True

    def _is_clock_ahead(self) -> bool:
        """Whether our clock shows a time that cannot be: what it would have us sign could not be taken back."""
        floor = self._custody.held.memory.clock_floor
        is_ahead = floor is not None and self._world.now() - floor > IMPLAUSIBLE
        if is_ahead and not self._is_ahead:
            _log.error("clock_ahead", detail="years beyond what a quorum of anchors attested; nothing is signed")
        self._is_ahead = is_ahead
        return is_ahead

    def _configuration(self, entity: Entity, held: Held, now: datetime) -> str:
        hints = tuple(anchor.entity_id for anchor in held.charter.anchors)
        head = self._head(held, entity.entity_id, now)
        if head > self._heads[entity.entity_id]:
            # Only we can have signed it, and we do not remember it.
            _log.warning("state_restored", entity=entity.entity_id, seq=head)
        token = entity.configuration(hints, now, max(head, _reached(self._numbers_from, now)))
        self._heads[entity.entity_id] = read_seq(parse_statement(token, PROFILE))
        return token

    def _events(self, entity: Entity, held: Held, now: datetime) -> Mapping[str, str]:
        last = held.memory.events.get(entity.entity_id)
        known = own_revocations(held.memory, entity.entity_id)
        seqs = (self._numbers_from, 0 if last is None else read_events(last).seq)
        token = entity.events(known, now, max(_reached(seq, now) for seq in seqs))
        return {} if token is None else {entity.entity_id: token}

    def _vouch(self, configurations: Sequence[str], held: Held, now: datetime) -> Sequence[str]:
        """Let our anchor, if this process plays it, judge configurations; give all that it says, if it is new."""
        if self._anchor is None:
            return ()
        try:
            seqs = (self._numbers_from, self._outrun.get(self._anchor.entity.entity_id, 0))
            last_seq = max(_reached(seq, now) for seq in seqs)
            return self._anchor.absorb(held.charter, configurations, held.memory, now, last_seq=last_seq)
        except Unavailable as error:
            _log.warning("publication_failed", entity=self._anchor.entity.entity_id, detail=error.detail)
            return ()

    def _tell_own_revocations(self) -> None:
        own = {entity.entity_id for entity in self._own}
        revocations = {place: each for place, each in self.revocations().items() if place[0] in own}
        if revocations != self._told:
            self._told = revocations
            self._on_own_revocations(revocations)

    # -- rounds --------------------------------------------------------------------------------------------------------

    def catch_up(self, timeout: float = POLL_WAIT_SECONDS) -> None:
        """Ask the peers what they hold, until one has answered or the time is up.

        Where one is missing, what is ours may have got further than anybody says. Our numbers then go on from a place
        that no clock of ours can have reached.
        """
        deadline = time.monotonic() + timeout
        heard, count = 0, len(self._correspondents)
        while True:
            asked = [self._pool.submit(each.poll) for each in self._correspondents.values()]
            heard = sum(each.result() for each in wait(asked, max(0.0, deadline - time.monotonic())).done)
            if heard or not count or time.monotonic() > deadline or self._stop.wait(CATCH_UP_AGAIN_SECONDS):
                break
        if heard < count:
            self._numbers_from = int((self._world.now() + LEAP).timestamp())
        self._custody.renew()
        self.statuses.renew()
        # Ours among them: an issuer whose database was put back learns how far it had got.
        wait(self._fetch_lists(), max(0.0, deadline - time.monotonic()))

    def refresh(self) -> None:
        """Ask every peer once, publish, and acknowledge."""
        self._follow_store()
        wait([self._pool.submit(each.poll) for each in self._correspondents.values()])
        self._custody.renew()
        self.statuses.renew()
        self.publish_own()
        self.acknowledge()
        wait([self._pool.submit(each.flush) for each in self._correspondents.values()])
        wait(self._fetch_lists())

    def acknowledge(self) -> None:
        """Have every peer told which trust is in force now. Never waits."""
        if not self._leads or self._custody.is_regressed or self._is_clock_ahead():
            return
        claims = acknowledgement.make(self.view, self._gateway.entity_id, self._world.now())
        token = self._gateway.sign(acknowledgement.ACKNOWLEDGEMENT_TYPE, claims)
        for correspondent in self._correspondents.values():
            correspondent.send(token)

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
                    if self._forced_in_vain:
                        raise Indeterminate(Reason.TRUST_STALE, "it could not be found out a moment ago either")
                    return self.view.built_at >= asked_at
                self._forced_at = self._world.now()
                if self._ask_front is not None:
                    self._forced_in_vain = True
                    is_made = self._refresh_by(self._ask_front)
                    self._forced_in_vain = False
                    return is_made
                reachable = [each for each in self._correspondents.values() if each.reachable]
                wait([self._pool.submit(each.poll) for each in reachable], timeout=POLL_WAIT_SECONDS)
                return bool(reachable)
        finally:
            self._forced_waiters.release()

    def refresh_for_worker(self) -> Refreshed:
        """Refresh as ``refresh_for_unknown_key``, for a process that hears of it through the store."""
        is_made = self.refresh_for_unknown_key()
        return Refreshed(is_made, "" if self._leads else self.view.view_id)

    def _refresh_by(self, ask: Callable[[], Refreshed]) -> bool:
        try:
            refreshed = ask()
            self.follow()  # what came of it is in the store, whatever has told of it by now
        except (Unavailable, StorageError) as error:
            # Nobody can say that the key does not exist.
            raise Indeterminate(Reason.TRUST_STALE, "the process that hears the peers cannot be asked") from error
        if refreshed.view_id not in ("", self.view.view_id):
            raise Indeterminate(Reason.TRUST_STALE, "the process that leads has not written what others hold")
        return refreshed.is_made

    def follow(self, topics: Collection[Topic] = frozenset(Topic)) -> None:
        """Take over what the process that leads has written: to be called when the store tells of it.

        Raises:
            StorageError: it cannot be read.
        """
        if Topic.TRUST in topics:
            self._follow_store()
            if self._correspondents:
                self._custody.follow_store()
            else:
                self._custody.take_over()
        # What is trusted decides over lists as well.
        if Topic.TRUST in topics or Topic.LISTS in topics:
            self.statuses.renew()
            self.statuses.follow_store()

    def start(self, interval: timedelta) -> None:
        """Publish, and start the threads: for each peer, for what is ours, for acknowledging.

        ``catch_up`` goes before.
        """
        self._publish_round()
        for correspondent in self._correspondents.values():
            correspondent.start(interval)
        seconds = interval.total_seconds()
        self._spawn("publish", lambda: self._repeat(min(PUBLISH_SECONDS, seconds), self._publish_round))
        self._spawn("acknowledge", lambda: self._acknowledge_changes(seconds))
        for prefetch in self._prefetches.values():
            prefetch.start()
        self._spawn("statuses", self._renew_statuses)

    def stop(self) -> None:
        """Stop the threads. What is held is on disk already."""
        self._stop.set()
        self._custody.wake()
        for correspondent in self._correspondents.values():
            correspondent.stop()
        for prefetch in self._prefetches.values():
            prefetch.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for correspondent in self._correspondents.values():
            correspondent.join()
        for prefetch in self._prefetches.values():
            prefetch.join()
        for thread in self._threads:
            thread.join()

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _repeat(self, seconds: float, work: Callable[[], None]) -> None:
        while not self._stop.wait(seconds):
            work()

    def _publish_round(self) -> None:
        try:
            if self._leads:
                self._follow_store()
                self.publish_own()
            else:
                self.follow()  # whatever was or was not told
            self._custody.renew()
        except Exception as error:  # noqa: BLE001 - a thread that dies of one blip never publishes again
            _log.error("publication_failed", exc_info=error)

    def _acknowledge_changes(self, interval: float) -> None:
        version = 0
        while not self._stop.is_set():
            version, _ = self.wait_for_change(version, interval)
            try:
                self.acknowledge()
            except Exception as error:  # noqa: BLE001 - as above
                _log.error("acknowledgement_failed", exc_info=error)

    def _renew_statuses(self) -> None:
        version, judged_by = 0, ""
        while not self._stop.is_set():
            version, _ = self.wait_for_change(version, PUBLISH_SECONDS)
            try:
                self.statuses.renew()
                changed, judged_by = self.view.view_id != judged_by, self.view.view_id
                for prefetch in self._prefetches.values():
                    if changed:
                        prefetch.reconsider()  # what was refused may be signed with a key that is known now
                    prefetch.wake()  # what was nobody's list may be an issuer's now
            except Exception as error:  # noqa: BLE001 - as above
                _log.error("status_lists_not_renewed", exc_info=error)

    # -- hearing -------------------------------------------------------------------------------------------------------

    def _hear(self, peer: Peer, offer: TrustOffer) -> bool:
        """Take in what a peer holds. Returns whether there was anything new in it."""
        before = self._custody.held.version
        self._follow_charter(peer, offer.charter_version)
        news = self._custody.news(offer, peer.province)
        urgent = self._custody.urgent(news)
        if urgent.events:
            # Our anchor may be busy with what another has sent. A revocation does not wait for that.
            self._custody.absorb(urgent, peer.province)
            news = replace(news, events=[token for token in news.events if token not in urgent.events])
        read = self._custody.read(news)
        self._note_own(read)
        if self._ready and news.statements and not (self._custody.is_regressed or self._is_clock_ahead()):
            # Our anchor's word on what is new comes with it; before the start is over it says nothing.
            held = self._custody.held
            offered = [each.token for each in read if each.is_configuration and held.charter.member(each.sub)]
            bundle = self._vouch(offered, held, self._world.now())
            news = Offer(statements=(*bundle, *news.statements), events=news.events)
        self._custody.absorb(news, peer.province)
        self._prefetches[peer.province].note(offer.status_lists)
        if self._ready:
            self._tell_own_revocations()
        return self._custody.held.version != before

    def _follow_store(self) -> None:
        """Take the charters that people put into the store while we run (``mrg charter install``), as a peer's."""
        current, installed = self._custody.held.charter, self._store.load_charters()
        successors: list[Charter] = []
        try:
            for version in range(current.version + 1, current.version + MAX_CHARTER_STEPS + 1):
                if version not in installed:
                    break
                current = verify_successor(current, installed[version])
                successors.append(current)
        except Rejected as rejection:
            if self._sparing.is_worth("store", rejection.reason, self._world.now()):
                _log.warning("charter_refused", peer="store", reason=rejection.reason, detail=rejection.detail)
        if successors:
            self._custody.follow(successors)

    def _note_own(self, offered: Sequence[UnverifiedStatement]) -> None:
        """Note how far we had got, also by statements of ours that contradict what we say now and are refused."""
        held, now = self._custody.held, self._world.now()
        own = {entity.entity_id for entity in self._own}
        if self._anchor is not None:
            own.add(self._anchor.entity.entity_id)
        for statement in offered:
            if statement.iss not in own:
                continue
            anchor = held.charter.anchor(statement.iss)
            keys = anchor.keys if anchor is not None else held.view.federation_keys(statement.iss)
            try:
                key = keys.get(statement.kid)
                if key is not None:
                    verify_signature(statement, key)
                    seq = read_seq(statement)
                    check_jump(seq, now)
                    self._outrun[statement.iss] = max(self._outrun.get(statement.iss, 0), seq)
            except Rejected:
                continue  # nobody's word

    def _follow_charter(self, peer: Peer, offered: int) -> None:
        """Take the charters that the peer has beyond ours: one step at a time, each signed by both quorums."""
        current = self._custody.held.charter
        if offered <= current.version:
            return
        successors: list[Charter] = []
        deadline = time.monotonic() + FOLLOW_SECONDS
        try:
            for version in range(current.version + 1, min(offered, current.version + MAX_CHARTER_STEPS) + 1):
                if time.monotonic() > deadline:
                    break
                current = verify_successor(current, peer.charter(version))
                successors.append(current)
        except PeerError:
            pass  # it has promised more than it has, or is gone; what came is good
        except Rejected as rejection:
            # It promises the same in each of its messages.
            if self._sparing.is_worth(peer.province, rejection.reason, self._world.now()):
                _log.warning("charter_refused", peer=peer.province, reason=rejection.reason, detail=rejection.detail)
        if successors:
            self._custody.follow(successors)
            if self._ready:
                self.publish_own()  # to the new anchors, too


def _seq(documents: Documents, entity_id: str, now: datetime) -> int:
    token = documents.get((entity_id, entity_id))
    return 0 if token is None else _reached(read_seq(parse_statement(token, PROFILE)), now)


def _reached(seq: int, now: datetime) -> int:
    """Give a number of ours that the next one has to go beyond; 0 for one that only a wrong clock can have made."""
    return seq if is_within_reach(seq, now) else 0


def load_charter(store: TrustStore, document: str, pin: str, now: datetime) -> Charter:
    """Establish the charter in force: the pinned one, then every successor the store holds.

    An expired charter is still the charter (its successor is checked against it); verification answers indeterminate
    until a newer one is there.

    Raises:
        Rejected: the document is not the pinned charter, or lacks its quorum.
    """
    charter = verify_pinned(document, pin)
    store.save_charter(charter.version, charter.document, [seal(charter_entry(charter, "pinned", now))])
    for version, held in store.load_charters().items():
        if version > charter.version:
            try:
                charter = verify_successor(charter, held)
            except Rejected as rejection:
                # One bad row must not keep the gateway from starting; peers lead on from here.
                _log.error("charter_skipped", version=version, reason=rejection.reason, detail=rejection.detail)
    return charter
