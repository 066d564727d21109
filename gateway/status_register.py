"""Our own credentials' status: set, signed and handed out at once.

``status_places`` knows the places, ``statuses`` holds what was signed, ours like everybody's. Rules that live here:

* What a caller is told has happened is on disk, signed and handed out. Calls at the same time share one signature.
  Where no key may sign, the change is on disk all the same, and is handed out as soon as one may; the caller is told.
* A list is signed anew at half its time to live, so that nobody ever holds one that has outlived it, and as soon as
  another key signs: who distrusts the old key trusts none of its lists.
* A list is due by what is held of it, not by what we remember to have done. So nothing is lost by a crash between the
  change and the signature, and nothing is signed twice.
* Nothing is signed while the clock is wrong, or before a store that was put back has heard from the others: a list
  signed too early would call good what was revoked, with a higher number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from gateway.clock import World
from gateway.core.credential_status import MAX_TARGETS, Change, SubjectTarget, Target, judge
from gateway.core.encoding import keyed_digest
from gateway.core.entries import credential_entries, seal
from gateway.core.jose import Signer, sign_compact
from gateway.core.key_schedule import KeyPurpose
from gateway.core.reasons import InvalidRequest, Unavailable
from gateway.core.status_list import (
    BITS,
    MAX_LISTS,
    MIN_ENTRIES,
    STATUS_LIST_TYPE,
    Status,
    StatusList,
    encode,
    next_list_seq,
    status_list_claims,
)
from gateway.keyring import KeyRing
from gateway.logs import get_logger
from gateway.status_places import Allocation, Places
from gateway.statuses import Statuses
from gateway.storage import OwnList, OwnStatus, RegisterStore, StorageError

TTL: Final = timedelta(seconds=300)
"""After this a holder looks for a newer list. A change is pushed at once; this is for whoever missed it."""
LIFETIME: Final = timedelta(hours=12)
"""So long a province may be cut off from us, or we may be down, before our credentials cannot be judged there. A night,
and the time to notice; and no longer, because for as long a revocation may be unknown."""
TICK_SECONDS: Final = 1.0
"""Of real time, so that a clock that is moved in the lab is noticed."""
STEP_BACK: Final = timedelta(seconds=60)
"""A clock that was put back by no more than this goes on signing, with the time it had."""
OWN: Final = "own"
"""Where the lists come from that we sign; beside the names of peers."""
_LATER: Final = "what was changed is on disk, and handed out as soon as it can be signed"

_log = get_logger("status")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResult:
    """What became of one target."""

    changed: int
    refused: int
    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSummary:
    """One of our lists, and what is held of it."""

    own: OwnList
    held: StatusList | None


@dataclass(frozen=True, slots=True)
class _Text:
    version: int
    lst: str


@dataclass(frozen=True, slots=True)
class _Signed:
    version: int
    seq: int


_NEVER: Final = _Signed(-1, 0)


class StatusRegister:
    """What became of our credentials. Thread-safe."""

    def __init__(
        self,
        *,
        issuer: str,
        store: RegisterStore,
        statuses: Statuses,
        keys: KeyRing,
        world: World,
        reference_key: bytes,
        registered: Callable[[], Mapping[str, int]],
        may_sign: Callable[[], bool] = lambda: True,
        restored: bool = False,
        size: int = MIN_ENTRIES,
    ) -> None:
        """Load what there is, and open the first list.

        Args:
            issuer: entity identifier of the issuer.
            store: where places are written down.
            statuses: holds and hands out what is signed.
            keys: those that sign.
            world: clock and randomness.
            reference_key: secret behind the references to persons; 32 bytes.
            registered: gives the lists of ours that a quorum of anchors attests; no other is judged by anywhere.
            may_sign: whether the clock is right and nothing is waited for that others know of us.
            restored: whether the store is a backup put back.
            size: places of a new list.

        Raises:
            StorageError: the store cannot be read or written.
        """
        self._issuer = issuer
        self._store = store
        self._statuses = statuses
        self._keys = keys
        self._world = world
        self._reference_key = reference_key
        self._registered = registered
        self._may_sign = may_sign
        self._lock = threading.Lock()
        """Guards the places. Never held while somebody is waited for, but the disk."""
        self._places = Places(store=store, issuer=issuer, size=size, world=world, restored=restored)
        self._missed: dict[str, int] = {}
        """Lists registered as ours that we do not know, or not yet again."""
        self._changes = 0
        self._published = 0
        self._publishing = threading.Lock()
        self._texts: dict[str, _Text] = {}
        self._signed: dict[str, _Signed] = {}
        self._is_silent = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        with self._lock:
            self._places.open_due(self._world.now())
        keys.on_change(self.tick)

    # -- credentials ---------------------------------------------------------------------------------------------------

    def allocate(self, *, local_subject: str, local_actor: str = "", expires_at: datetime) -> Allocation:
        """Give a new credential a name and a place, before it is handed out.

        Args:
            local_subject: whom it is about, by the issuer's own identifier.
            local_actor: who acts with it; empty: the subject.
            expires_at: when it expires.

        Raises:
            Unavailable: there is no place, or it cannot be written down.
        """
        subject = self._reference(local_subject)
        actor = self._reference(local_actor) if local_actor else ""
        try:
            with self._lock:
                return self._places.allocate(subject, actor, expires_at, self._world.now())
        except StorageError as error:
            raise Unavailable("what is issued cannot be written down, so nothing is issued") from error

    def set_status(self, targets: Sequence[Target], status: Status, system: str = "") -> Sequence[TargetResult]:
        """Set what became of credentials, and hand it out.

        Args:
            targets: which ones.
            status: what became of them.
            system: identity of the system that says so; empty: nobody's.

        Returns:
            One result for each target.

        Raises:
            InvalidRequest: there are too many targets.
            Unavailable: it cannot be written down, and nothing was changed; or it is, and cannot be signed now. Asking
                again is safe.
        """
        if len(targets) > MAX_TARGETS:
            raise InvalidRequest("targets", f"must be at most {MAX_TARGETS}")
        try:
            with self._lock:
                results, changed = self._set(targets, status, self._world.now(), system)
                mine = self._changes
        except StorageError as error:
            raise Unavailable("the change cannot be written down; nothing was changed") from error
        if changed:
            _log.info("credential_status_set", status=status.name, count=changed)
        self._publish(mine)
        return results

    def _set(
        self, targets: Sequence[Target], status: Status, now: datetime, system: str
    ) -> tuple[Sequence[TargetResult], int]:
        changes: dict[str, tuple[OwnStatus, Status]] = {}
        results = []
        for target in targets:
            found = self._find(target, now)
            verdicts = [
                Change.ALREADY if each.credential_id in changes else judge(Status(each.status), status)
                for each in found
            ]
            changes.update(
                {
                    each.credential_id or "": (each, status)
                    for each, verdict in zip(found, verdicts, strict=True)
                    if verdict is Change.CHANGED
                }
            )
            results.append(
                TargetResult(
                    changed=verdicts.count(Change.CHANGED),
                    refused=verdicts.count(Change.REFUSED),
                    known=bool(found),
                )
            )
        if changes:
            log = [seal(entry) for entry in credential_entries(sorted(changes), status.name, at=now, system=system)]
            self._places.change(list(changes.values()), now, log)
            self._changes += 1
        return results, len(changes)

    def find(self, target: Target, limit: int = MAX_TARGETS) -> Sequence[OwnStatus]:
        """Give what became of credentials, those that expire last first.

        Raises:
            Unavailable: the store cannot be read.
        """
        try:
            return self._find(target, self._world.now(), limit)
        except StorageError as error:
            raise Unavailable("what became of credentials cannot be read") from error

    def _find(self, target: Target, now: datetime, limit: int | None = None) -> Sequence[OwnStatus]:
        if isinstance(target, SubjectTarget):
            return self._store.find_person(self._reference(target.local_subject), now, limit)
        found = self._store.find_credential(target.credential_id)
        return [] if found is None else [found]

    def _reference(self, local: str) -> str:
        return keyed_digest(self._reference_key, "credential-status", local)

    # -- lists ---------------------------------------------------------------------------------------------------------

    @property
    def ttl(self) -> timedelta:
        """After how long at the latest whoever can be reached knows a change."""
        return TTL

    def lists(self) -> Sequence[ListSummary]:
        """Give our lists, oldest first."""
        held = self._statuses.current
        with self._lock:
            kept = self._places.kept(self._world.now())
        return [ListSummary(own=each, held=held.get(each.uri)) for each in kept]

    def metadata(self) -> Sequence[Mapping[str, str | int]]:
        """Give the lists as the issuer's configuration names them.

        Those among them that only others know: whoever lost the database must not take back the lists by which the
        others judge what was issued.
        """
        registered = self._registered()
        with self._lock:
            # Also when the anchors have to attest all anew: for a moment, then, nothing of ours is registered.
            self._missed |= registered
            self._missed = {uri: size for uri, size in self._missed.items() if not self._places.knows(uri)}
            lists = {each.uri: each.size for each in self._places.kept(self._world.now())} | self._missed
        return [{"uri": uri, "size": size} for uri, size in islice(lists.items(), MAX_LISTS)]

    def _own_held(self) -> Mapping[str, StatusList]:
        current = self._statuses.current
        known = {each.uri for each in self._places.kept(self._world.now())}
        return {uri: each for uri, each in current.items() if uri in known}

    # -- publishing ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Do what is due from now on, in a thread."""
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            self.tick()

    def tick(self) -> None:
        """Do what is due: take in what others hold of ours, open the next list, sign. Raises nothing."""
        try:
            with self._publishing:
                self._sign_due()
            self._is_silent = False
        except Unavailable as error:
            if not self._is_silent:
                _log.error("status_lists_not_signed", detail=error.detail)
            self._is_silent = True

    def _publish(self, mine: int) -> None:
        """See to it that a change is handed out, by us or by whoever is at it."""
        with self._publishing:
            if self._published < mine:
                self._sign_due()

    def _sign_due(self) -> None:
        if not self._may_sign():
            raise Unavailable(_LATER)
        now, registered = self._world.now(), self._registered()
        try:
            with self._lock:
                self._take_in(registered, now)
                self._places.open_due(now)
                number, lists = self._changes, self._places.kept(now)
            signer = self._keys.sign_until(KeyPurpose.STATUS, now + LIFETIME + STEP_BACK)
            # Nobody judges by a list that is not attested yet; its first signature waits for that.
            refused = [each.uri for each in lists if each.uri in registered and not self._renew(each, signer, now)]
        except StorageError as error:
            raise Unavailable(f"the register cannot be read or written; {_LATER}") from error
        if refused:
            raise Unavailable(f"{len(refused)} of our status lists are not accepted here; {_LATER}")
        self._published = number

    def _take_in(self, registered: Mapping[str, int], now: datetime) -> None:
        current = self._statuses.current
        for uri, size in registered.items():
            held = current.get(uri)
            # What it said is not known before it is held; until then nobody signs it.
            if not self._places.knows(uri) and held is not None and held.bits == BITS:
                self._places.adopt(uri, size, held.entries, now)
        for uri, held in self._own_held().items():
            if held.seq > self._signed.get(uri, _Signed(0, held.seq)).seq:
                # Signed with our key, and not by us. Nothing that it says is taken over: a thief would set for good
                # what no new key can undo. It is signed over at once.
                _log.error("status_list_of_a_stranger", seq=held.seq, kid=held.kid)

    def recover(self) -> None:
        """Take over what others hold of ours and a backup that was put back does not know.

        To be called once the others have been heard, and before anybody trusts the store again.

        Raises:
            StorageError: it could not be written.
        """
        with self._lock:
            for uri, held in self._own_held().items():
                if held.bits == BITS:
                    count = self._places.take_over(uri, held.entries, self._world.now())
                    _log.warning("status_list_returned", seq=held.seq, count=count)

    def _renew(self, own: OwnList, signer: Signer, now: datetime) -> bool:
        """Sign a list if that is due. False: it was not accepted."""
        held = self._statuses.current.get(own.uri)
        # One that bears a time to come was signed while the clock ran ahead: nobody judges by it now.
        if held is None or not -STEP_BACK <= now - held.issued_at < TTL / 2:
            with self._lock:
                self._places.cover(own.uri, now)
        elif held.kid == signer.public.kid and self._says(held):
            return True
        return self._sign(own.uri, held, signer, now)

    def _says(self, held: StatusList) -> bool:
        """Whether a list that is held says what is to be said."""
        with self._lock:
            version = self._places.version(held.uri)
            if self._signed.get(held.uri, _NEVER) == _Signed(version, held.seq):
                return True  # the common case: nothing has to be compared
            return held.bits == BITS and self._places.entries(held.uri) == held.entries

    def _sign(self, uri: str, held: StatusList | None, signer: Signer, now: datetime) -> bool:
        text = self._text(uri)
        # The floor outlives the list: what others remember of one that lapsed, or whose key was revoked, is above it.
        floor = self._statuses.floor(uri)
        seq = next_list_seq(0 if floor is None else floor.seq, now)
        if held is not None and now < held.issued_at <= now + STEP_BACK:
            now = held.issued_at  # the clock was put right a little; a list older than the last is none
        claims = status_list_claims(
            uri=uri, issuer=self._issuer, seq=seq, now=now, ttl=TTL, lifetime=LIFETIME, lst=text.lst
        )
        is_taken = self._statuses.absorb(uri, sign_compact(STATUS_LIST_TYPE, claims, signer), OWN)
        if is_taken:
            self._signed[uri] = _Signed(text.version, seq)
        return is_taken

    def _text(self, uri: str) -> _Text:
        """Compress a list, once for all signatures until it changes."""
        with self._lock:
            version, entries = self._places.version(uri), self._places.entries(uri)
        text = self._texts.get(uri)
        if text is None or text.version != version:
            text = self._texts[uri] = _Text(version, encode(entries))
        return text
