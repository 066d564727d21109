"""The province's signing keys while it runs: which one signs, which ones others are told of.

``core.key_schedule`` says what may become of a key; here it becomes so, in one durable transaction, before anything
acts on it. What is published is read from here whenever it is signed, so it follows from what is written down, whatever
a crash cut short. Rules:

* A key's first signature, and until when anything it signed is good, is on disk before the signature is made: only so
  can a key be undone without leaving a credential that nobody can check, and drained without cutting one off.
* What was revoked or retired signs nothing more, not even for a caller that was given the signer a moment before.
* A private key nobody wrote down was made just before a crash. It is taken in as staged, never made a second time.
* No key is made in place of one that is missed: that is what backups are for. The first key of a purpose is made here
  only where the purpose came after the province was set up (``make_first``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.clock import World
from gateway.core import key_schedule
from gateway.core.jose import Algorithm, PublicKey, Signer
from gateway.core.key_schedule import Change, KeyPurpose, KeyRecord, KeyState, Records
from gateway.core.memory import Revocation, RevocationReason
from gateway.core.reasons import Unavailable
from gateway.core.vouching import SUBORDINATE_LIFETIME
from gateway.keystore import KeyRole, KeyStore
from gateway.leading import ALONE, Leading
from gateway.logs import get_logger
from gateway.storage import KeyEvent, KeyStateStore, StorageError

ROLES: Final[Mapping[KeyPurpose, KeyRole]] = {
    KeyPurpose.CREDENTIAL: "issuer-credential",
    KeyPurpose.STATUS: "issuer-status",
    KeyPurpose.ISSUER_FEDERATION: "issuer-federation",
    KeyPurpose.GATEWAY_FEDERATION: "gateway-federation",
    KeyPurpose.ANCHOR_FEDERATION: "anchor-federation",
    KeyPurpose.RECEIPT: "gateway-receipt",
    KeyPurpose.AUDIT: "gateway-audit",
}
ADDED_LATER: Final = frozenset({KeyPurpose.RECEIPT, KeyPurpose.AUDIT})
"""Purposes that provinces were set up without: their first keys are made at the first start that knows them."""
STATEMENT_LIFETIME: Final = SUBORDINATE_LIFETIME
"""No statement signed with a federation key lives longer. What a gateway's receipt or audit key signed is looked for in
the view for so long, by whoever polls, and among its past keys from then on."""
_MARK_EVERY: Final = {KeyPurpose.CREDENTIAL: timedelta(days=1), KeyPurpose.STATUS: timedelta(days=1)}
"""The time until which a key's signatures count is rounded up to this, so that few signatures have to wait for a write.
What a key drains longer for it costs nothing."""
_MARK_STATEMENTS_EVERY: Final = timedelta(hours=1)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_FOLLOWERS_SIGN: Final = frozenset({KeyPurpose.RECEIPT})
"""A receipt says what this process has decided itself. All else is the province's one word."""
_MAY_SIGN: Final = frozenset({KeyState.ACTIVE, KeyState.DRAINING})
"""A draining key finishes what was begun while it was active."""

_log = get_logger("keyring")


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who changes something, for the history."""

    administrator: str = ""
    """Empty: the scheduler."""
    detail: str = ""
    request_id: str = ""
    event: str = ""
    """What to call it where the state reached does not say it."""


@dataclass(frozen=True, slots=True)
class _RingSigner:
    """A signer that asks the ring before each signature."""

    public: PublicKey
    _sign: Callable[[bytes], bytes]

    def sign(self, message: bytes) -> bytes:
        """Sign, if the key still may."""
        return self._sign(message)


class KeyRing:
    """The keys of all purposes. Thread-safe."""

    def __init__(self, store: KeyStateStore, keystore: KeyStore, world: World, *, leading: Leading = ALONE) -> None:
        """Load what is written down, and take in keys that are not.

        Args:
            store: where their lives are written down.
            keystore: where private keys are.
            world: the time.
            leading: whether this process leads. Who follows only reads, and signs nothing
                but receipts of its own verdicts.

        Raises:
            KeyStoreError: a key that is published is not in the key store, or none of several can be told to be the
                first.
        """
        self._store = store
        self._keystore = keystore
        self._world = world
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], object]] = []
        self._signers: dict[str, Signer] = {}
        self._leading = leading
        self._records = self._load()
        for purpose in ROLES if leading.is_leader else _FOLLOWERS_SIGN:
            self._signers.update(keystore.keys(ROLES[purpose]))  # a key that is not held cannot be stolen here
        if not leading.is_leader:
            return
        for purpose in ROLES:
            if not self._records[purpose]:
                self._adopt_first(purpose)
            else:
                self._adopt_orphans(purpose)
                self._check_present(purpose)

    def _load(self) -> dict[KeyPurpose, tuple[KeyRecord, ...]]:
        records: dict[KeyPurpose, tuple[KeyRecord, ...]] = dict.fromkeys(KeyPurpose, ())
        for record in self._store.load_keys():
            records[record.purpose] += (record,)
        return records

    def follow(self) -> None:
        """Take over what the leader has written down since.

        Raises:
            StorageError: it cannot be read.
            KeyStoreError: a new key cannot be.
        """
        with self._lock:
            self._records = self._load()
            for purpose in _FOLLOWERS_SIGN:
                record = key_schedule.active(self._records[purpose])
                if record is not None and record.key.kid not in self._signers:
                    self._signers.update(self._keystore.keys(ROLES[purpose]))

    def _adopt_first(self, purpose: KeyPurpose) -> None:
        role = ROLES[purpose]
        if not self._keystore.keys(role):
            return  # not played here, or missed when it is asked for
        self._begin(purpose, self._keystore.sole(role).public, "found at the first start")

    def _begin(self, purpose: KeyPurpose, key: PublicKey, detail: str) -> None:
        now = self._now()
        first = KeyRecord(
            key=key, purpose=purpose, state=KeyState.ACTIVE, staged_at=now, published_at=now, activated_at=now
        )
        self._write(purpose, (first,), Author(detail=detail), now)

    def _adopt_orphans(self, purpose: KeyPurpose) -> None:
        for key in self._orphans(purpose):
            now = self._now()
            change = key_schedule.stage(self._records[purpose], key, purpose, now)
            self._write(purpose, change, Author(detail="found in the key store without a record"), now)
            _log.warning("key_adopted", role=purpose.value, kid=key.kid)

    def _orphans(self, purpose: KeyPurpose) -> list[PublicKey]:
        known = {record.key.kid for record in self._records[purpose]}
        found = self._keystore.keys(ROLES[purpose])
        return [found[kid].public for kid in sorted(found) if kid not in known]

    def _check_present(self, purpose: KeyPurpose) -> None:
        for record in self._records[purpose]:
            kid = record.key.kid
            if kid in self._signers:
                continue
            if record in key_schedule.published(self._records[purpose], self._now()):
                self._keystore.signer(ROLES[purpose], kid)  # raises, and says what to do
            elif record.state is KeyState.STAGED:  # nobody heard of it: let it go, and make another
                now = self._now()
                change = key_schedule.undo(self._records[purpose], kid, now)
                self._write(purpose, change, Author(event="lost", detail="not in the key store"), now)

    def make_first(self, purpose: KeyPurpose) -> None:
        """Make the first key of a purpose in ``ADDED_LATER``, and let it sign, unless there ever was one.

        Raises:
            KeyStoreError: the key store cannot make one.
            StorageError: it could not be written down; the next start takes the same key.
        """
        with self._lock:
            if self._records[purpose] or not self._leading.is_leader:
                return  # one that is recorded and gone was missed by now
            signer = self._keystore.generate(ROLES[purpose])
            self._signers[signer.public.kid] = signer
            self._begin(purpose, signer.public, "made at the first start that knows this purpose")

    # -- what signs ----------------------------------------------------------------------------------------------------

    def require(self, purpose: KeyPurpose) -> None:
        """See to it that there ever was a key of a purpose.

        Raises:
            KeyStoreError: there is none, and the key store says how to mend it.
        """
        if not self._records[purpose]:
            self._keystore.sole(ROLES[purpose])

    def signer(self, purpose: KeyPurpose) -> Signer:
        """Give the active key, for statements, receipts and checkpoints.

        What it signs counts for ``STATEMENT_LIFETIME`` from the signature on: so long the key stays published.

        Raises:
            Unavailable: no key of this purpose may sign now.
        """
        return self._signer(purpose, lambda: self._world.now() + STATEMENT_LIFETIME)

    def sign_until(self, purpose: KeyPurpose, expires_at: datetime) -> Signer:
        """Give the active key, for something that is valid until then.

        Raises:
            Unavailable: no key of this purpose may sign now.
        """
        return self._signer(purpose, lambda: expires_at)

    def _signer(self, purpose: KeyPurpose, until: Callable[[], datetime]) -> Signer:
        if purpose not in _FOLLOWERS_SIGN:
            self._leading.require()
        record = key_schedule.active(self._records[purpose])
        if record is None or record.key.kid not in self._signers:
            raise Unavailable(f"no {purpose} key may sign now: the last is revoked, the next not held by everybody yet")
        key = record.key
        raw = self._signers[key.kid]

        def sign(message: bytes) -> bytes:
            if purpose not in _FOLLOWERS_SIGN:
                self._leading.require()
            self._note_use(purpose, key.kid, until())
            return raw.sign(message)

        return _RingSigner(key, sign)

    def _note_use(self, purpose: KeyPurpose, kid: str, until: datetime) -> None:
        if self._is_noted(purpose, kid, until):
            return  # the common case, and needs no lock: records are replaced, never changed
        with self._lock:
            if self._is_noted(purpose, kid, until):
                return
            mark = _round_up(until, _MARK_EVERY.get(purpose, _MARK_STATEMENTS_EVERY))
            try:
                self._store.raise_signed_until(kid, mark)
            except StorageError as error:
                raise Unavailable("what a key signs cannot be noted, so it does not sign") from error
            self._replace(purpose, [replace(key_schedule.find(self._records[purpose], kid), signed_until=mark)])

    def _is_noted(self, purpose: KeyPurpose, kid: str, until: datetime) -> bool:
        record = key_schedule.find(self._records[purpose], kid)
        if record.state not in _MAY_SIGN:
            raise Unavailable(f"the {purpose} key has just been taken out of use")
        return record.signed_until is not None and until <= record.signed_until

    # -- what is published ---------------------------------------------------------------------------------------------

    def published(self, purpose: KeyPurpose) -> Sequence[PublicKey]:
        """Give the keys that others are to know: those to come, and those whose signatures still count."""
        return [record.key for record in key_schedule.published(self._records[purpose], self._world.now())]

    def proof_signers(self, purpose: KeyPurpose) -> Sequence[Signer]:
        """Give the same keys to prove with that they are ours. That is no use of them: it says nothing of anybody."""
        return [self._signers[key.kid] for key in self.published(purpose)]

    def revocations(self, *purposes: KeyPurpose) -> Mapping[str, Revocation]:
        """Give the revoked keys by kid: of some purposes, or of all."""
        return {
            record.key.kid: Revocation(
                revoked_at=record.revoked_at,
                reason=record.reason or RevocationReason.COMPROMISED,
                compromised_since=record.compromised_since,
            )
            for record in self.records(*purposes)
            if record.revoked_at is not None
        }

    def records(self, *purposes: KeyPurpose) -> Sequence[KeyRecord]:
        """Give all keys that ever were, oldest first within a purpose: of some purposes, or of all."""
        return [record for purpose in purposes or KeyPurpose for record in self._records[purpose]]

    # -- changes -------------------------------------------------------------------------------------------------------

    def on_change(self, listener: Callable[[], object]) -> None:
        """Call something after each change that others may see, when it is on disk and no lock is held."""
        self._listeners.append(listener)

    def stage(self, purpose: KeyPurpose, author: Author) -> Change:
        """Make the next key of a purpose, unless a crash left one that nobody wrote down.

        Raises:
            KeyStoreError: the key store cannot make one.
            StorageError: it could not be written down; the next attempt takes the same key.
            Unavailable: another process leads.
        """
        self._leading.require()
        with self._lock:
            orphans = self._orphans(purpose)
            if orphans:
                key = orphans[0]
                self._signers[key.kid] = self._keystore.keys(ROLES[purpose])[key.kid]
            else:
                current = key_schedule.active(self._records[purpose])
                algorithm = current.key.algorithm if current is not None else Algorithm.ES256
                signer = self._keystore.generate(ROLES[purpose], algorithm)
                key = signer.public
                self._signers[key.kid] = signer
            now = self._now()
            change = key_schedule.stage(self._records[purpose], key, purpose, now)
            self._write(purpose, change, author, now)
        return change

    def change(self, purpose: KeyPurpose, transition: Callable[[Records, datetime], Change], author: Author) -> Change:
        """Carry out a transition of ``core.key_schedule``: judged, written and in force under one lock.

        Raises:
            WrongState: what the transition raises; nothing was changed.
            StorageError: it could not be written; nothing was changed.
            Unavailable: another process leads.
        """
        self._leading.require()
        with self._lock:
            now = self._now()
            change = transition(self._records[purpose], now)
            if change:
                self._write(purpose, change, author, now)
        if change:
            self._tell()
        return change

    def _write(self, purpose: KeyPurpose, change: Change, author: Author, now: datetime) -> None:
        events = [
            KeyEvent(
                at=now,
                kid=record.key.kid,
                purpose=purpose.value,
                event=author.event or record.state.value if number == 0 else record.state.value,
                administrator=author.administrator,
                detail=author.detail,
            )
            for number, record in enumerate(change)
        ]
        known = {record.key.kid: record.signed_until for record in self._records[purpose]}
        for record in change:
            if record.signed_until is not None and record.signed_until != known.get(record.key.kid):
                # Only this raises the mark of a key that is known; first, because too high a mark does no harm.
                self._store.raise_signed_until(record.key.kid, record.signed_until)
        self._store.save_keys(change, events, author.request_id)
        self._replace(purpose, change)
        for event in events:
            _log.info("key_changed", role=event.purpose, kid=event.kid, status=event.event)

    def _replace(self, purpose: KeyPurpose, change: Sequence[KeyRecord]) -> None:
        records = {record.key.kid: record for record in self._records[purpose]}
        records.update({record.key.kid: record for record in change})
        self._records[purpose] = tuple(records.values())

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def _now(self) -> datetime:
        return self._world.now().replace(microsecond=0)  # as it is written down


def _round_up(moment: datetime, unit: timedelta) -> datetime:
    return _EPOCH - ((_EPOCH - moment) // unit) * unit
