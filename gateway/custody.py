"""The trust documents in our keeping: judged, made durable, then used.

Rules that live here:

* What an offer brings is on disk before anything is decided by it: a restart must not know less than an answer was
  based on. The view is swapped in one assignment; a verification that began with the old one ends with the old one.
* Judging happens beside what is held, not on top of it, so that a flood of bad documents from one peer does not keep
  the good ones of another waiting.
* What we say ourselves is handed out at once, before it is held here. Where the anchors attest another key for us, only
  their word on the new one lets it in, here too, and for that they have to see first what they are to judge.
* What concerns nobody in the charter is put aside before it is read: reading costs.
* Whoever watches for changes is woken at once when a key or a member was revoked. Anything else may wait for a moment,
  because it seldom comes alone.
* While the clock shows less than a quorum of anchors has attested, nothing is taken in. Whether people have put that
  right is looked up each time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from gateway.clock import World
from gateway.core.admission import MAX_EVENT_STATEMENTS, MAX_PER_PLACE, Admission, Offer, admit
from gateway.core.changes import charter_entry, memory_entries
from gateway.core.charter import Charter
from gateway.core.entries import seal
from gateway.core.events import read_events
from gateway.core.jose import parse_compact
from gateway.core.memory import Documents, Place, Revocation, TrustMemory, merge
from gateway.core.reasons import Reason, Rejected
from gateway.core.snapshot import MAX_CONFIGURATION_CHARS
from gateway.core.statements import PROFILE, UnverifiedStatement
from gateway.core.trust import (
    Alarm,
    Problem,
    RecognisedGateway,
    RecognisedIssuer,
    TrustView,
    build_view,
    is_regressed,
    view_summary,
)
from gateway.core.votes import Reader
from gateway.logs import Sparing, get_logger
from gateway.peers import TrustOffer
from gateway.storage import TrustStore

COALESCE_SECONDS: Final = 0.03
VIEW_AGE: Final = timedelta(seconds=1)
"""How old a view may get before it is built again for the time alone: documents lapse, suspensions end."""
_ATTEMPTS: Final = 3
"""How often an offer is judged again because another was taken in meanwhile; then the others wait."""
VIEWS_EVERY: Final = timedelta(minutes=1)
"""How often at most a view is kept for looking back when no key is trusted, or distrusted, that was not before."""
_USUAL: Final = frozenset({Reason.ROLLED_BACK, Reason.CLOCK_REGRESSED})
"""Refusals that are no news: relays lag behind all day, and the clock has an alarm of its own."""
_NOTHING: Final = TrustMemory()

STORE: Final = "store"
"""In the log, where the name of a peer would be."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """What is handed out beside what is held: our own newest word, by entity, and which status lists we have."""

    statements: Mapping[str, str]
    events: Mapping[str, str]
    status_lists: Mapping[str, int]
    """The number of each status list that we hold, whoever published it, by uri."""


_OWN_NOTHING: Final = _Own(statements={}, events={}, status_lists={})


class Custody:
    """What is held, and the view built from it. Thread-safe."""

    def __init__(self, *, world: World, store: TrustStore, charter: Charter) -> None:
        """Load what the store holds and build the first view from it."""
        self._world = world
        self._store = store
        self._lock = threading.Lock()  # one at a time takes in and swaps; judging happens outside
        self._changes = threading.Condition()
        self._sparing = Sparing()
        self._regressed = False
        self._summary = ""
        self._kept: tuple[datetime, object] | None = None  # when a view was kept last, and the keys trusted by it
        self._own = _OWN_NOTHING
        self._reader = Reader()
        memory = store.load_memory()
        view = build_view(charter, memory, world.now(), self._reader)
        self._held = _held(charter, memory, view, self._own, version=1, urgent=0)

    @property
    def held(self) -> Held:
        """What is held now. Read it once per task."""
        return self._held

    @property
    def is_regressed(self) -> bool:
        """Whether our clock shows less than a quorum of anchors has attested."""
        return is_regressed(self._held.memory.clock_floor, self._world.now())

    def news(self, offer: TrustOffer, source: str) -> Offer:
        """Give what of an offer is not held yet and may be of use."""
        held = self._held
        fresh = (token for token in dict.fromkeys(offer.statements) if token not in held.tokens)
        statements, refused = _sieve(held.charter, fresh)
        self._note(refused, (), source, self._world.now())
        return Offer(
            statements=statements,
            events=tuple(token for token in dict.fromkeys(offer.events) if token not in held.tokens),
        )

    def read(self, news: Offer) -> Sequence[UnverifiedStatement]:
        """Read the statements of an offer that can be read. ``absorb`` is to follow: it reads none of them again."""
        found: list[UnverifiedStatement] = []
        for token in news.statements:
            try:
                found.append(self._reader.read(token))
            except Rejected:
                continue  # refused, and said so, when it is judged
        return found

    def urgent(self, news: Offer) -> Offer:
        """Give the revocations that can be taken in by what is held already. They wait for nothing else."""
        view = self._held.view
        return Offer(events=[token for token in news.events[:MAX_EVENT_STATEMENTS] if _has_known_author(view, token)])

    def hand_out(self, statements: Mapping[str, str], events: Mapping[str, str]) -> None:
        """Have our own newest word handed out, held or not.

        Args:
            statements: our configurations, by entity.
            events: our statements of revocations, by entity.
        """
        with self._lock:
            own = self._own
            self._hand_out(replace(own, statements={**own.statements, **statements}, events={**own.events, **events}))

    def hand_out_lists(self, heads: Callable[[], Mapping[str, int]]) -> None:
        """Have others told at once which status lists we hold: a revocation may be in one.

        Args:
            heads: gives the number of each, by uri. Asked under the lock, so that none who was slow tells old ones.
        """
        with self._lock:
            self._hand_out(replace(self._own, status_lists=heads()))

    def own(self, entity_id: str) -> str | None:
        """Give our own newest configuration, held or not."""
        return self._own.statements.get(entity_id)

    def absorb(self, offer: Offer, source: str) -> bool:
        """Take in what is good of an offer. Returns whether anything was.

        Args:
            offer: what came.
            source: from whom, for the log.
        """
        if self._is_clock_bad():
            self._forget(self._held.memory)
            return False
        if not offer.statements and not offer.events:
            self.renew()
            return False
        offer = self._with_own(offer)
        for _ in range(_ATTEMPTS):
            held, now = self._held, self._world.now()
            admission = admit(held.charter, held.memory, offer, now, self._reader)
            with self._lock:
                if self._held.charter is held.charter and self._held.memory is held.memory:
                    taken = self._take(admission, now)
                    break
        else:
            with self._lock:
                held, now = self._held, self._world.now()
                admission = admit(held.charter, held.memory, offer, now, self._reader)
                taken = self._take(admission, now)
        self._note(
            admission.refused, admission.alarms, source, now
        )  # without the lock: a slow log keeps nobody waiting
        return taken

    def _with_own(self, offer: Offer) -> Offer:
        """Add what we say and do not hold: what came may be what lets it in."""
        tokens, own = self._held.tokens, self._own
        waiting = [token for token in own.statements.values() if token not in tokens]
        events = [token for token in own.events.values() if token not in tokens]
        return Offer(statements=(*waiting, *offer.statements), events=(*events, *offer.events))

    def follow(self, successors: Sequence[Charter]) -> None:
        """Put the last of several charters in force, each the verified successor of the one before."""
        with self._lock:
            for charter in successors:
                if charter.version != self._held.charter.version + 1:
                    return  # another thread was here first; there will be another round
                entry = charter_entry(charter, "followed", self._world.now())
                self._store.save_charter(charter.version, charter.document, [seal(entry)])
                self._held = replace(self._held, charter=charter)
            held, now = self._held, self._world.now()
            view = build_view(held.charter, held.memory, now, self._reader)
            # At once: a charter is what removes an anchor that was lost.
            version = held.version + 1
            self._swap(_held(held.charter, held.memory, view, self._own, version=version, urgent=version))
            self._remember_view(now)
        _log.info("charter_followed", version=self._held.charter.version)

    def take_over(self) -> None:
        """Hold what is in the store, as after a restart, and nothing else: for who hears of nobody but through it.

        It was judged before it was written. To judge it again could come to another end: some of it may have lapsed
        since, or have followed what nobody holds any more. The view is built from it as ever, so signatures count.

        Raises:
            StorageError: it cannot be read; what is held stays.
        """
        with self._lock:
            # Read under the lock: of two threads, who read before a revocation would put its view in place after who
            # read it.
            stored, held, now = self._store.load_memory(), self._held, self._world.now()
            if stored == held.memory:
                return
            self._forget(stored)
            view = build_view(held.charter, stored, now, self._reader)
            version = held.version + 1
            self._swap(_held(held.charter, stored, view, self._own, version=version, urgent=version))

    def follow_store(self) -> None:
        """Take over what another process of this gateway has written. What is held already stays."""
        stored = self._store.load_memory()
        lasting = replace(stored, documents={}, events={})
        with self._lock:
            held = self._held
            memory = merge(held.memory, lasting)
            if memory != held.memory:
                view = build_view(held.charter, memory, self._world.now(), self._reader)
                self._swap(replace(held, memory=memory, view=view))
        self.absorb(
            Offer(
                statements=tuple(token for token in stored.documents.values() if token not in held.tokens),
                events=tuple(token for token in stored.events.values() if token not in held.tokens),
            ),
            STORE,
        )

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

    def _hand_out(self, own: _Own) -> None:
        self._own = own
        held, version = self._held, self._held.version + 1
        after = _held(held.charter, held.memory, held.view, own, version=version, urgent=version)
        if after.offer != held.offer:
            self._swap(after)

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

    def _forget(self, memory: TrustMemory) -> None:
        self._reader.forget(but=frozenset(memory.documents.values()))

    def _take(self, admission: Admission, now: datetime) -> bool:
        self._forget(admission.memory)
        held, change = self._held, admission.change
        if change == _NOTHING:
            if not timedelta(0) <= now - held.view.built_at < VIEW_AGE:
                self._rebuild(now)
            return False
        self._store.save_memory(change, [seal(entry) for entry in memory_entries(held.memory, change, now)])
        view = build_view(held.charter, admission.memory, now, self._reader)
        version = held.version + bool(change.documents or change.events or change.equivocations)
        pressing = change.revocations or change.withdrawals or change.equivocations
        self._swap(
            _held(
                held.charter,
                admission.memory,
                view,
                self._own,
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
        """Keep what was enforced, for looking back. After the swap: a revocation does not wait for it.

        An anchor may change its mind as often as it likes. Where no key is trusted by it that was not before, or the
        other way round, what it says last within a while is kept.
        """
        summary = view_summary(self._held.view)
        if summary == self._summary:
            return
        trusted = _trusted(self._held.view)
        if self._kept is not None:
            kept_at, before = self._kept
            if trusted == before and timedelta(0) <= now - kept_at < VIEWS_EVERY:
                return  # there will be another look; see renew
        self._store.save_view(now, summary)
        self._summary, self._kept = summary, (now, trusted)

    def _note(self, refused: Sequence[Problem], alarms: Sequence[Alarm], source: str, now: datetime) -> None:
        """Log what was refused. Of whom a document is that nobody verified, its sender chooses."""
        left_out = self._sparing.left_out(source, now)
        if left_out:
            _log.warning("refusals_left_out", peer=source, count=left_out)
        charter = self._held.charter
        alarming = {(_known(charter, alarm.issuer, alarm.subject), alarm.reason) for alarm in alarms}
        noted: list[Alarm | Problem] = [*alarms, *refused]
        for each in noted:
            place = _known(charter, each.issuer, each.subject)
            is_alarm = (place, each.reason) in alarming
            # Alarms have a share of their own: no rubbish is to hide them.
            whose = f"{source}!" if is_alarm else source
            if each.reason in _USUAL or not self._sparing.is_worth(whose, (place, each.reason), now):
                continue
            issuer, subject = place
            if is_alarm:
                _log.error(
                    "trust_alarm",
                    peer=source,
                    issuer=issuer,
                    subject=subject,
                    reason=each.reason,
                    detail=each.detail,
                )
            else:
                _log.warning(
                    "document_refused",
                    peer=source,
                    issuer=issuer,
                    subject=subject,
                    reason=each.reason,
                    detail=each.detail,
                )


def own_revocations(memory: TrustMemory, entity_id: str) -> Mapping[str, Revocation]:
    """Give what a member has revoked, by kid."""
    return {kid: revocation for (member, kid), revocation in memory.revocations.items() if member == entity_id}


def _known(charter: Charter, issuer: str, subject: str) -> Place:
    """Give a place of the charter as it is, any other without names."""
    for each in (issuer, subject):
        if charter.anchor(each) is None and charter.member(each) is None:
            return ("", "")
    return (issuer, subject)


def _trusted(view: TrustView) -> object:
    issuers = {
        entity_id: (frozenset(issuer.keys), frozenset(issuer.status_keys), _refused(issuer))
        for entity_id, issuer in view.issuers.items()
    }
    gateways = {
        entity_id: (frozenset(gateway.receipt_keys), frozenset(gateway.audit_keys), _refused(gateway))
        for entity_id, gateway in view.gateways.items()
    }
    return view.charter.version, issuers, gateways


def _refused(recognised: RecognisedIssuer | RecognisedGateway) -> frozenset[str]:
    return frozenset(kid for kid, revocation in recognised.revocations.items() if revocation.attested)


def _has_known_author(view: TrustView, token: str) -> bool:
    try:
        events = read_events(token)
    except Rejected:
        return False  # refused, and said so, when it is judged
    return events.kid in view.federation_keys(events.entity_id)


def _sieve(charter: Charter, tokens: Iterable[str]) -> tuple[tuple[str, ...], list[Problem]]:
    """Put aside what is about nobody in the charter, and what there is too much of: before keys are read from it."""
    kept: list[str] = []
    refused: dict[Reason, Problem] = {}
    counted: Counter[Place | None] = Counter()
    for token in tokens:
        try:
            # Only an anchor's configuration is that long. The rest is not even looked into.
            if len(token) > MAX_CONFIGURATION_CHARS:
                _count(counted, None, MAX_PER_PLACE * len(charter.anchors))
            _count(counted, _place(charter, token), MAX_PER_PLACE)
        except Rejected as rejection:
            refused[rejection.reason] = Problem(issuer="", subject="", reason=rejection.reason, detail=rejection.detail)
            continue
        kept.append(token)
    return tuple(kept), list(refused.values())


def _count(counted: Counter[Place | None], place: Place | None, most: int) -> None:
    counted[place] += 1
    if counted[place] > most:
        raise Rejected(Reason.TOO_LARGE, f"more than {most} statements of one place, or of such length, in one offer")


def _place(charter: Charter, token: str) -> Place:
    claims = parse_compact(token, max_chars=PROFILE.max_chars).unverified_claims()
    issuer, subject = claims.get("iss"), claims.get("sub")
    if not isinstance(issuer, str) or not isinstance(subject, str) or not _known(charter, issuer, subject)[0]:
        raise Rejected(Reason.ISSUER_UNKNOWN, "about nobody in the charter")
    return (issuer, subject)


def _held(charter: Charter, memory: TrustMemory, view: TrustView, own: _Own, *, version: int, urgent: int) -> Held:
    # Both halves of each proof go round: who holds only one of them has no way to know.
    proofs = [
        token
        for (anchor, _), proof in memory.equivocations.items()
        if charter.anchor(anchor) is not None
        for token in (proof.one, proof.other)
    ]
    offer = TrustOffer(
        charter_version=charter.version,
        statements=tuple(
            dict.fromkeys(
                (*_current(charter, memory.documents).values(), *proofs, *_of_members(charter, own.statements))
            )
        ),
        events=tuple(dict.fromkeys((*_of_members(charter, memory.events), *_of_members(charter, own.events)))),
        status_lists=own.status_lists,
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


def _of_members(charter: Charter, tokens: Mapping[str, str]) -> Iterable[str]:
    return [token for member, token in tokens.items() if charter.member(member) is not None]


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
