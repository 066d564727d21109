"""The trust documents in our keeping: judged, made durable, then used.

Rules that live here:

* What an offer brings is on disk before anything is decided by it: a restart must not know less than an answer was
  based on. The view is swapped in one assignment; a verification that began with the old one ends with the old one.
* Judging happens beside what is held, not on top of it, so that a flood of bad documents from one peer does not keep
  the good ones of another waiting.
* Whoever watches for changes is woken at once when a key or a member was revoked. Anything else may wait for a moment,
  because it seldom comes alone.
* While the clock shows less than a quorum of anchors has attested, nothing is taken in. Whether people have put that
  right is looked up each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from gateway.clock import World
from gateway.core.admission import Admission, Offer, admit
from gateway.core.charter import Charter
from gateway.core.memory import Documents, Revocation, TrustMemory
from gateway.core.reasons import Reason
from gateway.core.trust import Alarm, Problem, TrustView, build_view, is_regressed, view_summary
from gateway.core.votes import Reader
from gateway.logs import get_logger
from gateway.peers import TrustOffer
from gateway.storage import TrustStore

COALESCE_SECONDS: Final = 0.03
VIEW_AGE: Final = timedelta(seconds=1)
"""How old a view may get before it is built again for the time alone: documents lapse, suspensions end."""
_ATTEMPTS: Final = 3
"""How often an offer is judged again because another was taken in meanwhile; then the others wait."""
_MAX_NOTED: Final = 1_000
_NOTE_AGAIN: Final = timedelta(minutes=10)
_USUAL: Final = frozenset({Reason.ROLLED_BACK, Reason.CLOCK_REGRESSED})
"""Refusals that are no news: relays lag behind all day, and the clock has an alarm of its own."""
_NOTHING: Final = TrustMemory()

_log = get_logger("custody")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """All that is held at one moment."""

    charter: Charter
    memory: TrustMemory
    view: TrustView
    version: int
    """Rises with each change of what is relayed."""
    urgent: int
    """The last version that must not wait."""
    offer: TrustOffer
    tokens: frozenset[str]
    """Every statement held; to tell what is new."""


class Custody:
    """What is held, and the view built from it. Thread-safe."""

    def __init__(self, *, world: World, store: TrustStore, charter: Charter) -> None:
        """Load what the store holds and build the first view from it."""
        self._world = world
        self._store = store
        self._lock = threading.Lock()  # one at a time takes in and swaps; judging happens outside
        self._changes = threading.Condition()
        self._noted: set[tuple[str, str, str, Reason]] = set()
        self._noted_since = world.now()
        self._regressed = False
        self._summary = ""
        self._reader = Reader()
        memory = store.load_memory()
        view = build_view(charter, memory, world.now(), self._reader)
        self._held = _held(charter, memory, view, version=1, urgent=0)

    @property
    def held(self) -> Held:
        """What is held now. Read it once per task."""
        return self._held

    @property
    def is_regressed(self) -> bool:
        """Whether our clock shows less than a quorum of anchors has attested."""
        return is_regressed(self._held.memory.clock_floor, self._world.now())

    def news(self, offer: TrustOffer) -> Offer:
        """Give what of an offer is not held yet."""
        held = self._held
        return Offer(
            statements=tuple(token for token in offer.statements if token not in held.tokens),
            events=tuple(token for token in offer.events if token not in held.tokens),
        )

    def absorb(self, offer: Offer, source: str) -> bool:
        """Take in what is good of an offer. Returns whether anything was.

        Args:
            offer: what came.
            source: from whom, for the log.
        """
        if self._is_clock_bad():
            return False
        if not offer.statements and not offer.events:
            self.renew()
            return False
        for _ in range(_ATTEMPTS):
            held, now = self._held, self._world.now()
            admission = admit(held.charter, held.memory, offer, now, self._reader)
            with self._lock:
                if self._held.charter is held.charter and self._held.memory is held.memory:
                    return self._take(admission, source, now)
        with self._lock:
            now = self._world.now()
            return self._take(admit(self._held.charter, self._held.memory, offer, now, self._reader), source, now)

    def follow(self, successors: Sequence[Charter]) -> None:
        """Put the last of several charters in force, each the verified successor of the one before."""
        with self._lock:
            for charter in successors:
                if charter.version != self._held.charter.version + 1:
                    return  # another thread was here first; there will be another round
                self._store.save_charter(charter.version, charter.document)
                self._held = replace(self._held, charter=charter)
            held, now = self._held, self._world.now()
            view = build_view(held.charter, held.memory, now, self._reader)
            # At once: a charter is what removes an anchor that was lost.
            self._swap(_held(held.charter, held.memory, view, version=held.version + 1, urgent=held.version + 1))
            self._remember_view(now)
        _log.info("charter_followed", version=self._held.charter.version)

    def renew(self) -> None:
        """Build the view again when it is old: what was fresh may have become stale."""
        now = self._world.now()
        if timedelta(0) <= now - self._held.view.built_at < VIEW_AGE:
            return
        with self._lock:
            self._rebuild(now)

    # -- who watches ---------------------------------------------------------------------------------------------------

    def wait_for_change(
        self, after: int, timeout: float, stop: Callable[[], bool] = lambda: False
    ) -> tuple[int, TrustOffer]:
        """Wait until what is held is newer than a version, or the time is up, or there is no more reason to wait.

        Args:
            after: the version seen last; 0 gives what is held at once.
            timeout: seconds.
            stop: whether to wait no longer; looked at whenever ``wake`` is called.

        Returns:
            What is held then, and its version.
        """
        with self._changes:
            if self._changes.wait_for(lambda: self._held.version > after or stop(), timeout) and after:
                self._changes.wait_for(lambda: self._held.urgent > after or stop(), COALESCE_SECONDS)
        held = self._held
        return held.version, held.offer

    def wake(self) -> None:
        """Let everybody who waits look again whether to go on."""
        with self._changes:
            self._changes.notify_all()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _is_clock_bad(self) -> bool:
        floor, now = self._held.memory.clock_floor, self._world.now()
        if not is_regressed(floor, now):
            self._regressed = False
            return False
        stored = self._store.load_memory().clock_floor
        if not is_regressed(stored, now):
            with self._lock:
                # People have reset it; see TrustStore.reset_clock_floor.
                self._held = replace(self._held, memory=replace(self._held.memory, clock_floor=stored))
                self._rebuild(now)
            _log.warning("clock_floor_reset")
            self._regressed = False
            return False
        if not self._regressed:
            _log.error("clock_regressed", reason=Reason.CLOCK_REGRESSED, detail="below what the anchors attested")
        self._regressed = True
        return True

    def _take(self, admission: Admission, source: str, now: datetime) -> bool:
        self._reader.forget(but=frozenset(admission.memory.documents.values()))
        self._note(admission.refused, admission.alarms, source, now)
        held, change = self._held, admission.change
        if change == _NOTHING:
            if not timedelta(0) <= now - held.view.built_at < VIEW_AGE:
                self._rebuild(now)
            return False
        self._store.save_memory(change)
        view = build_view(held.charter, admission.memory, now, self._reader)
        version = held.version + bool(change.documents or change.events or change.equivocations)
        pressing = change.revocations or change.withdrawals or change.equivocations
        self._swap(
            _held(
                held.charter,
                admission.memory,
                view,
                version=version,
                urgent=version if pressing else held.urgent,
            )
        )
        self._remember_view(now)
        return True

    def _rebuild(self, now: datetime) -> None:
        held = self._held
        self._held = replace(held, view=build_view(held.charter, held.memory, now, self._reader))
        self._remember_view(now)

    def _swap(self, held: Held) -> None:
        with self._changes:
            self._held = held
            self._changes.notify_all()

    def _remember_view(self, now: datetime) -> None:
        """Keep what was enforced, for looking back. After the swap: a revocation does not wait for it."""
        summary = view_summary(self._held.view)
        if summary != self._summary:
            self._store.save_view(now, summary)
            self._summary = summary

    def _note(self, refused: Sequence[Problem], alarms: Sequence[Alarm], source: str, now: datetime) -> None:
        if abs(now - self._noted_since) > _NOTE_AGAIN or len(self._noted) > _MAX_NOTED:
            self._noted.clear()
            self._noted_since = now
        alarming = {(alarm.issuer, alarm.subject, alarm.reason) for alarm in alarms}
        noted: list[Alarm | Problem] = [*alarms, *refused]
        for each in noted:
            what = (source, each.issuer, each.subject, each.reason)
            if each.reason in _USUAL or what in self._noted:
                continue  # whoever sends the same nonsense each second does not fill the disk with it
            self._noted.add(what)
            is_alarm = what[1:] in alarming
            log = _log.error if is_alarm else _log.warning
            log(
                "trust_alarm" if is_alarm else "document_refused",
                peer=source,
                issuer=each.issuer,
                subject=each.subject,
                reason=each.reason,
                detail=each.detail,
            )


def own_revocations(memory: TrustMemory, entity_id: str) -> Mapping[str, Revocation]:
    """Give what a member has revoked, by kid."""
    return {kid: revocation for (member, kid), revocation in memory.revocations.items() if member == entity_id}


def _held(charter: Charter, memory: TrustMemory, view: TrustView, *, version: int, urgent: int) -> Held:
    # Both halves of each proof go round: who holds only one of them has no way to know.
    proofs = [
        token
        for (anchor, _), proof in memory.equivocations.items()
        if charter.anchor(anchor) is not None
        for token in (proof.one, proof.other)
    ]
    offer = TrustOffer(
        charter_version=charter.version,
        statements=tuple(dict.fromkeys((*_current(charter, memory.documents).values(), *proofs))),
        events=tuple(token for member, token in memory.events.items() if charter.member(member) is not None),
    )
    return Held(
        charter=charter,
        memory=memory,
        view=view,
        version=version,
        urgent=urgent,
        offer=offer,
        tokens=frozenset((*memory.documents.values(), *memory.events.values(), *proofs)),
    )


def _current(charter: Charter, documents: Documents) -> Documents:
    """What concerns the charter in force. The rest stays on disk, as a floor, and is nobody's business."""
    anchors = {anchor.entity_id for anchor in charter.anchors}
    members = {member.entity_id for member in charter.members}
    return {
        (issuer, subject): token
        for (issuer, subject), token in documents.items()
        if (subject in members and (issuer in anchors or issuer == subject))
        or (issuer in anchors and issuer == subject)
    }
