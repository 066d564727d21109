"""Rotating, activating, undoing and revoking this province's keys: what administrators ask for, and what time brings.

``core.key_schedule`` knows the rules, ``keyring`` the keys, ``holdings`` who holds them. Rules that live here:

* What is to be is derived from the records, over and over, by ``tick``. A crash between any two steps leaves records
  from which the next tick goes on: a staged key is published, a purpose without a key to come gets one.
* Nobody activates a key that is not held by everybody who has to, the scheduler least of all. An administrator may,
  when another one agrees within the hour; both names stay in the history.
* A request is named. What was done under that name is noted with it, and the name asked again gets an answer and does
  nothing.
* Revoking waits for nobody. What the stand-by key cannot take over stops until a key is held by all; it never goes on
  with a key that may be somebody else's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from gateway.clock import World
from gateway.config import RotationPolicy
from gateway.core import key_schedule
from gateway.core.key_schedule import (
    Change,
    Holder,
    KeyPurpose,
    KeyRecord,
    KeyState,
    Readiness,
    Records,
    RotationPlan,
    Said,
)
from gateway.core.memory import Revocation, RevocationReason
from gateway.core.reasons import Conflict, InvalidRequest, NotHeld, WrongState
from gateway.deadlines import Deadlines
from gateway.holdings import FEDERATION_PURPOSES, Holdings
from gateway.keyring import Author, KeyRing
from gateway.logs import get_logger
from gateway.storage import KeyEvent, KeyStateStore, Override

OVERRIDE_WITHIN: Final = timedelta(hours=1)
ATTESTED_EVENT: Final = "attested"
"""In the history: from here on the publication window runs, also after a restart."""
TICK_SECONDS: Final = 1.0
"""Of real time, so that a clock that is moved in the lab is noticed."""

_log = get_logger("rotation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who asks, and how."""

    administrator: str
    request_id: str = ""
    """Empty: only with ``validate_only``."""
    validate_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    """What came of an activation."""

    plan: RotationPlan
    awaiting_approval: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """What came of a revocation."""

    record: KeyRecord
    promoted_kid: str
    """Empty: no key took over."""
    accepted_count: int


class Rotation:
    """Carries out what administrators ask for and what is due. Thread-safe: one thing at a time."""

    def __init__(
        self,
        *,
        world: World,
        store: KeyStateStore,
        keys: KeyRing,
        holdings: Holdings,
        entities: Mapping[KeyPurpose, str],
        policy: RotationPolicy,
        publish: Callable[[], None],
        deadlines: Callable[[], Mapping[str, datetime]] = dict,
    ) -> None:
        """Prepare.

        Args:
            world: the time.
            store: for requests, wishes and the history.
            keys: the keys.
            holdings: who holds them.
            entities: our entity that a key of each purpose speaks for; purposes not played are absent.
            policy: when to rotate.
            publish: sign and hand out our documents anew; called after each change.
            deadlines: further ends to warn of, by name (certificates).
        """
        self._world = world
        self._store = store
        self._keys = keys
        self._holdings = holdings
        self._entities = entities
        self._policy = policy
        self._publish = publish
        self._deadlines = deadlines
        self._lock = threading.Lock()
        self._attested = {event.kid: event.at for event in store.load_key_events() if event.event == ATTESTED_EVENT}
        self._warnings = Deadlines()
        self._said_to_wait: set[str] = set()
        self._said: dict[KeyPurpose, Said | None] = {}
        self._recovered: set[KeyPurpose] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        keys.on_change(self._publish_now)

    # -- looking -------------------------------------------------------------------------------------------------------

    def keys(self, purpose: KeyPurpose | None = None) -> Sequence[KeyRecord]:
        """Give all keys of the purposes played, newest first within each."""
        purposes = [purpose] if purpose is not None else list(self._entities)
        return [record for each in purposes if each in self._entities for record in reversed(self._keys.records(each))]

    def plan(self, purpose: KeyPurpose) -> RotationPlan:
        """Say what rotating would do, from where things stand.

        Raises:
            NotHeld: this province has no keys of that purpose.
        """
        return self._plan(purpose)

    def acknowledgements(self, kid: str) -> Sequence[Holder]:
        """Say who holds a key: other gateways, and for a federation key the anchors. Empty: what each acknowledged."""
        record = self._find(kid) if kid else None
        anchors = self._holdings.anchors(record) if record and record.purpose in FEDERATION_PURPOSES else ()
        return (*anchors, *self._holdings.gateways(record))

    def history(self, kid: str | None = None) -> Sequence[KeyEvent]:
        """Give what happened to a key, or to all, oldest first."""
        return self._store.load_key_events(kid)

    def _plan(self, purpose: KeyPurpose, *, after: bool = False) -> RotationPlan:
        records, now = self._records(purpose), self._world.now()
        timing = self._holdings.timing(purpose)
        key = key_schedule.active(records) if after else key_schedule.waiting(records)
        readiness = Readiness() if key is None else self._readiness(key, now)
        return key_schedule.plan(purpose, records, readiness, timing, now, after=after)

    def _readiness(self, record: KeyRecord, now: datetime) -> Readiness:
        since = self._attested.get(record.key.kid)
        return self._holdings.readiness(record, since if self._holdings.is_attested(record) else None, now)

    def _records(self, purpose: KeyPurpose) -> Records:
        records = self._keys.records(purpose) if purpose in self._entities else ()
        if not records:
            raise NotHeld(f"this province has no {purpose} key")
        return records

    def _find(self, kid: str) -> KeyRecord:
        return key_schedule.find(self.keys(), kid)

    # -- asked for -----------------------------------------------------------------------------------------------------

    def apply(self, purpose: KeyPurpose, asked: Asked, etag: str = "") -> RotationPlan:
        """Make and publish the next key, if none waits already.

        Raises:
            NotHeld: this province has no keys of that purpose.
            Conflict: the plan is not the one the caller saw.
            WrongState: no more keys fit into what is published.
        """
        with self._lock:
            name = _request("apply", purpose.value, asked)
            plan = self._plan(purpose)
            if self._is_done(name) or plan.following is not None:
                return plan  # what was asked for is so; publishing goes on by itself
            if etag and etag != plan.etag:
                raise Conflict("the plan has changed since; look at it again")
            if not asked.validate_only:
                self._make(purpose, Author(administrator=asked.administrator, request_id=name))
            return self._plan(purpose)

    def activate(self, kid: str, asked: Asked, *, override: bool = False, justification: str = "") -> Activated:
        """Let a published key sign.

        Raises:
            NotHeld: there is no such key.
            WrongState: it is not published, or somebody who has to does not hold it yet.
        """
        with self._lock:
            record, now = self._find(kid), self._world.now()
            purpose = record.purpose
            name = _request("activate", kid, asked)
            if self._is_done(name):
                return Activated(plan=self._plan(purpose, after=True))
            self._check_activation(record, now)
            found = key_schedule.blockers(self._readiness(record, now), self._holdings.timing(purpose), now)
            detail = ""
            if found and not override:
                raise WrongState("not everybody who has to holds the key yet", found)
            if found:
                wish = self._wish(record, asked, justification, now)
                if wish is None:
                    return Activated(plan=self._plan(purpose), awaiting_approval=True)
                detail = (
                    f"override asked for by {wish.administrator}: {wish.justification}; agreed to by"
                    f" {asked.administrator}: {justification}; at that time: {'; '.join(found)}"
                )
            if asked.validate_only:
                return Activated(plan=self._plan(purpose))
            author = Author(administrator=asked.administrator, detail=detail, request_id=name)
            self._change(purpose, lambda records, at: key_schedule.activate(records, kid, at), author)
            return Activated(plan=self._plan(purpose, after=True))

    def undo(self, kid: str, asked: Asked) -> RotationPlan:
        """Take back a key that has not signed.

        Raises:
            NotHeld: there is no such key.
            WrongState: it has signed, or there is nothing to take back.
        """
        with self._lock:
            purpose = self._find(kid).purpose
            name = _request("undo", kid, asked)
            transition = partial(_undo, kid)
            if asked.validate_only:
                transition(self._records(purpose), self._world.now())
            elif not self._is_done(name):
                author = Author(administrator=asked.administrator, request_id=name, event="undone")
                self._change(purpose, transition, author)
            return self._plan(purpose)

    def revoke(
        self, kid: str, reason: RevocationReason, asked: Asked, *, compromised_since: datetime | None = None
    ) -> Revoked:
        """Revoke a key for good, at once and whoever holds the one that takes over.

        Raises:
            NotHeld: there is no such key.
            InvalidRequest: it cannot have been compromised in the future.
            WrongState: it is revoked already, or an anchor's, which the charter revokes.
        """
        with self._lock:
            record = self._find(kid)
            purpose = record.purpose
            if purpose is KeyPurpose.ANCHOR_FEDERATION:
                raise WrongState(
                    "an anchor's key is listed by the charter, and only a charter without it revokes it: hold the"
                    " ceremony (mrg charter); a quorum of the other anchors is enough to sign"
                )
            name = _request("revoke", kid, asked)
            if self._is_done(name):
                return self._revoked(record)
            now = self._world.now()
            if compromised_since is not None and compromised_since > now:
                raise InvalidRequest("compromised_since", "lies in the future")
            revocation = _revocation(reason, compromised_since, now)
            transition = partial(_revoke, kid, revocation)
            changed = transition(self._records(purpose), now)
            if asked.validate_only:
                return self._revoked(changed[0], promoted=changed[1:])
            author = Author(administrator=asked.administrator, detail=reason.value, request_id=name)
            self._replace_revoked(record, transition, author)
            return self._revoked(self._find(kid))

    def _check_activation(self, record: KeyRecord, now: datetime) -> None:
        if record.purpose is KeyPurpose.ANCHOR_FEDERATION and not self._holdings.is_attested(record):
            # No administrator can change that: what it signed nobody would accept.
            raise WrongState("the charter in force does not list this key; carry it into the next one (mrg charter)")
        key_schedule.activate(self._records(record.purpose), record.key.kid, now)

    def _wish(self, record: KeyRecord, asked: Asked, justification: str, now: datetime) -> Override | None:
        """Give the other administrator's wish that this call agrees to; None: this call is the first."""
        kid = record.key.kid
        wish = self._store.load_override(kid)
        if wish is not None and not timedelta(0) <= now - wish.asked_at <= OVERRIDE_WITHIN:
            wish = None
        if wish is not None and wish.administrator != asked.administrator:
            return wish
        if wish is None and not asked.validate_only:
            event = _event(record, now, "override asked", asked.administrator, justification)
            self._store.save_keys((), [event])
            self._store.save_override(
                Override(
                    kid=kid,
                    administrator=asked.administrator,
                    justification=justification,
                    asked_at=now.replace(microsecond=0),
                )
            )
        return None

    def _replace_revoked(
        self, record: KeyRecord, transition: Callable[[Records, datetime], Change], author: Author
    ) -> None:
        purpose = record.purpose
        signs = record.state is KeyState.ACTIVE
        if signs and purpose in FEDERATION_PURPOSES and not self._has_standby(purpose):
            # Without a key the entity could say nothing at all, not even that the old one is revoked.
            self._make(purpose, replace(author, detail="to take over from a key that is revoked", request_id=""))
        self._change(purpose, transition, author)
        if key_schedule.active(self._records(purpose)) is None and not self._has_standby(purpose):
            self._make(purpose, replace(author, detail="in place of a key that was revoked", request_id=""))

    def _revoked(self, record: KeyRecord, promoted: Change = ()) -> Revoked:
        if not promoted:
            promoted = tuple(
                each
                for each in self._keys.records(record.purpose)
                if each.key.kid != record.key.kid
                and each.activated_at is not None
                and record.revoked_at is not None
                # The same transaction; a key that was superseded counts until the end of that second.
                and timedelta(0) <= record.revoked_at - each.activated_at <= timedelta(seconds=1)
            )
        count = self._store.accepted_count(self._entities[record.purpose], record.key.kid, record.compromised_since)
        kid = promoted[-1].key.kid if promoted else ""
        return Revoked(record=record, promoted_kid=kid, accepted_count=count)

    # -- due by itself -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start to look after the keys."""
        self._thread = threading.Thread(target=self._run, name="rotation", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop. Whatever was begun is on disk."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.tick()
            self._stop.wait(TICK_SECONDS)

    def tick(self) -> None:
        """Do what is due. Of one purpose at a time: what keeps one from going on keeps no other.

        The first time it has to be called when peers were asked what they hold of ours, and before that is signed anew.
        """
        try:
            self._note_said()
            self.take_revocations(self._holdings.revocations())
            self._warnings.warn(self._ends(), self._world.now())
        except Exception as error:  # noqa: BLE001 - a thread that dies of one blip rotates never again
            _log.error("rotation_failed", exc_info=error)
        for purpose in self._entities:
            try:
                with self._lock:
                    if self._keys.records(purpose):
                        self._recover(purpose)
                        self._tend(purpose, self._world.now())
            except Exception as error:  # noqa: BLE001 - as above
                _log.error("rotation_failed", role=purpose.value, exc_info=error)

    def _tend(self, purpose: KeyPurpose, now: datetime) -> None:
        if purpose is KeyPurpose.ANCHOR_FEDERATION:
            self._follow_charter()
        else:
            self._see_to_standby(purpose, now)
        self._note_attested(purpose, now)
        self._activate_due(purpose, now)
        timing = self._holdings.timing(purpose)
        self._change(purpose, lambda records, at: key_schedule.retire_due(records, timing, at), Author())

    def take_revocations(self, known: Mapping[tuple[str, str], Revocation]) -> None:
        """Take in our own revocations, by (entity, kid), where others remember what a restored backup forgot.

        Called while documents are being published, so it must not wait for anything that publishes.
        """
        author = Author(detail="the federation remembers the revocation; this store did not")
        for purpose, entity_id in self._entities.items():
            for record in self._keys.records(purpose):
                revocation = known.get((entity_id, record.key.kid))
                if revocation is not None and record.state is not KeyState.REVOKED:
                    _log.error("state_restored", role=purpose.value, kid=record.key.kid)
                    with suppress(WrongState):  # revoked here meanwhile
                        self._change(purpose, partial(_revoke, record.key.kid, revocation), author)

    def _follow_charter(self) -> None:
        """Publish the anchor's key that the charter lists; drop the one that it lists no more."""
        purpose = KeyPurpose.ANCHOR_FEDERATION
        for record in self._keys.records(purpose):
            if record.state is KeyState.STAGED and self._holdings.is_attested(record):
                self._publish_key(purpose, record.key.kid, Author(detail="the charter lists it"))
                break
        records = self._keys.records(purpose)
        current, following = key_schedule.active(records), key_schedule.waiting(records)
        if current is None or following is None or following.state is not KeyState.PUBLISHED:
            return
        if not self._holdings.is_attested(current) and self._holdings.is_attested(following):
            author = Author(detail="the charter in force lists the key before it no more")
            kid, old = following.key.kid, current.key.kid
            self._change(purpose, lambda records, at: key_schedule.activate(records, kid, at), author)
            self._change(purpose, lambda records, at: key_schedule.retire(records, old, at), author)

    def _note_said(self) -> None:
        """Once after the start: keep what our statements say, of all purposes, before the first change signs them anew.

        Each that we sign ourselves says only what is remembered here.
        """
        for purpose in self._entities:
            if purpose not in self._said:
                self._said[purpose] = self._holdings.said(purpose)

    def _recover(self, purpose: KeyPurpose) -> None:
        """Once after the start: take in what our statements say of keys that a restored backup does not remember."""
        if purpose in self._recovered:
            return
        said, now = self._said[purpose], self._world.now()
        if said is not None:
            until = self._holdings.signed_at_most_until(purpose, now)
            author = Author(
                detail=(
                    "a backup was put back: what our own statements say since, this store did not remember; what the"
                    f" key may have signed since is held for good until {until:%Y-%m-%dT%H:%M:%SZ}, the latest possible"
                )
            )
            changed = self._change(purpose, lambda records, at: key_schedule.recover(records, said, until, at), author)
            for record in changed:
                _log.error("state_restored", role=purpose.value, kid=record.key.kid)
        self._recovered.add(purpose)

    def _see_to_standby(self, purpose: KeyPurpose, now: datetime) -> None:
        records = self._keys.records(purpose)
        following, current = key_schedule.waiting(records), key_schedule.active(records)
        if following is not None and following.state is KeyState.STAGED:
            self._publish_key(purpose, following.key.kid, Author(detail="going on where it was left"))
        elif following is None and (current is None or self._policy.standby or self._is_due(current, now)):
            self._make(purpose, Author(detail="the next key"))

    def _note_attested(self, purpose: KeyPurpose, now: datetime) -> None:
        """Note when the publication window begins: with the quorum's word, which may come long after ours."""
        for record in self._keys.records(purpose):
            kid = record.key.kid
            if record.state is KeyState.PUBLISHED and kid not in self._attested and self._holdings.is_attested(record):
                at = now.replace(microsecond=0)
                self._store.save_keys((), [_event(record, at, ATTESTED_EVENT, "", "by a quorum of anchors")])
                self._attested[kid] = at

    def _activate_due(self, purpose: KeyPurpose, now: datetime) -> None:
        records = self._keys.records(purpose)
        current, following = key_schedule.active(records), key_schedule.waiting(records)
        if following is None or following.state is not KeyState.PUBLISHED:
            return
        kid = following.key.kid
        if current is None and purpose in FEDERATION_PURPOSES:
            # Nobody attests a key that cannot sign the configuration that names it: people have to enrol it.
            author = Author(detail="no key was left; anchors have to enrol this one (mrg anchor enroll --replace)")
        elif current is None or self._is_due(current, now):
            readiness = self._readiness(following, now)
            found = key_schedule.blockers(readiness, self._holdings.timing(purpose), now)
            if current is not None:
                # Nothing is urgent: also those that cannot be reached are waited for. A person may decide otherwise.
                found += key_schedule.warnings(readiness, now)
            if found:
                self._say_waiting(following, found)
                return
            author = Author(detail="it was due, and is held by all" if current else "no key was left, and it is held")
        else:
            return
        self._change(purpose, lambda records, at: key_schedule.activate(records, kid, at), author)

    def _say_waiting(self, record: KeyRecord, found: Sequence[str]) -> None:
        if record.key.kid not in self._said_to_wait:
            self._said_to_wait.add(record.key.kid)
            _log.warning("rotation_waits", role=record.purpose.value, kid=record.key.kid, detail="; ".join(found))

    def _is_due(self, record: KeyRecord, now: datetime) -> bool:
        due = self._due_at(record)
        return due is not None and due <= now

    def _due_at(self, record: KeyRecord) -> datetime | None:
        days = {KeyPurpose.CREDENTIAL: self._policy.credential_days, KeyPurpose.STATUS: self._policy.status_days}.get(
            record.purpose, self._policy.federation_days
        )
        return key_schedule.due_at(record, timedelta(days=days)) if days else None

    def _ends(self) -> Mapping[str, datetime]:
        ends = {"charter": self._holdings.charter.expires_at, **self._deadlines()}
        for purpose in self._entities:
            current = key_schedule.active(self._keys.records(purpose))
            due = None if current is None else self._due_at(current)
            if due is not None:
                ends[purpose.value] = due
        return ends

    # -- shared --------------------------------------------------------------------------------------------------------

    def _make(self, purpose: KeyPurpose, author: Author) -> None:
        """Make the next key and publish it. The request is done with the first step: the rest follows by itself."""
        (staged,) = self._keys.stage(purpose, author)
        if purpose is not KeyPurpose.ANCHOR_FEDERATION:  # those the charter publishes
            self._publish_key(purpose, staged.key.kid, replace(author, request_id=""))

    def _publish_key(self, purpose: KeyPurpose, kid: str, author: Author) -> None:
        self._change(purpose, lambda records, at: key_schedule.publish(records, kid, at), author)

    def _change(self, purpose: KeyPurpose, transition: Callable[[Records, datetime], Change], author: Author) -> Change:
        return self._keys.change(purpose, transition, author)

    def _has_standby(self, purpose: KeyPurpose) -> bool:
        following = key_schedule.waiting(self._keys.records(purpose))
        return following is not None and following.state is KeyState.PUBLISHED

    def _is_done(self, name: str) -> bool:
        return bool(name) and self._store.is_done(name)

    def _publish_now(self) -> None:
        try:
            self._publish()
        except Exception as error:  # noqa: BLE001 - the change is done; the next round publishes what this one could not
            _log.error("publication_failed", exc_info=error)


def _undo(kid: str, records: Records, now: datetime) -> Change:
    return key_schedule.undo(records, kid, now)


def _revoke(kid: str, revocation: Revocation, records: Records, now: datetime) -> Change:
    return key_schedule.revoke(records, kid, revocation, now)


def _revocation(reason: RevocationReason, since: datetime | None, now: datetime) -> Revocation:
    at = now.replace(microsecond=0)
    if reason is RevocationReason.SUPERSEDED:
        # Tokens bear whole seconds: what was signed in this one, before now, still counts.
        return Revocation(revoked_at=at + timedelta(seconds=1), reason=reason)
    return Revocation(revoked_at=at, reason=reason, compromised_since=since)


def _request(what: str, which: str, asked: Asked) -> str:
    """Name what was asked for: the same name for another key or deed is another request."""
    return f"{what}/{which}/{asked.request_id}" if asked.request_id else ""


def _event(record: KeyRecord, at: datetime, event: str, administrator: str, detail: str) -> KeyEvent:
    return KeyEvent(
        at=at,
        kid=record.key.kid,
        purpose=record.purpose.value,
        event=event,
        administrator=administrator,
        detail=detail,
    )
