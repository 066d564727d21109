"""The places in our own status lists: given away at random, never twice, and what became of them.

Rules (Token Status List draft-20 section 12, and ours):

* A list holds many credentials, so that whoever looks one up tells nobody which. Places are drawn at random: their
  order would tell when a credential was issued. A place is on disk before the credential is handed out, and never free
  again, also not when the credential has expired.
* A list takes no new credentials once half of its places are taken, so that there is always a free one to be found, for
  a credential and for a decoy. A gateway judges no credential by a list that the anchors do not attest yet, and that
  takes them a while: so the next list is opened long before the one in use is full.
* With each change, places that nobody has change in the same way. Who counts what is set learns neither how many
  credentials were revoked nor, since now and then decoys change alone, when one was.
* A store that was put back does not know which places were given away since. Its lists take no new credentials, and
  stay registered for as long as any credential can live.
* What was ever set in a list of ours is set. A list that comes back from others with more in it than we know is the
  newer one, entry by entry the graver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from gateway.clock import World
from gateway.core.agreement import MAX_CREDENTIAL_LIFETIME
from gateway.core.credential_status import graver
from gateway.core.encoding import b64url_encode, new_name
from gateway.core.entries import SealedEntry
from gateway.core.reasons import Unavailable
from gateway.core.status_list import BITS, MAX_LISTS, Status, StatusReference, list_uri
from gateway.logs import get_logger
from gateway.storage import OwnList, OwnStatus, RegisterStore

LIST_NAME_BYTES: Final = 12
"""16 characters."""
CREDENTIAL_ID_BYTES: Final = 16
MAX_DECOYS: Final = 32
"""For each list in one batch: a batch of a thousand needs no thousand decoys to be uncertain."""
COVER_EVERY: Final = 32
"""Of so many signings without a change, one brings a decoy: with one each 150 seconds, some eighteen a day."""
_MAX_TRIES: Final = 256
"""With half of the places free, one in 2^256 that none is found."""
_MAX_SUSPENDED_DECOYS: Final = 1_024
"""Looked at, to let some of them go with credentials that are made valid again."""
_PER_BYTE: Final = 8 // BITS
_MASK: Final = (1 << BITS) - 1

_log = get_logger("status")


@dataclass(slots=True, kw_only=True)
class _List:
    uri: str
    size: int
    opened_at: datetime
    closed: bool
    used: int
    last_expiry: datetime | None
    entries: bytearray = field(repr=False)
    version: int = 0
    """Rises with each change, so that nobody has to compare."""

    def at(self, place: int) -> Status:
        return Status(self.entries[place // _PER_BYTE] >> place % _PER_BYTE * BITS & _MASK)

    def set(self, place: int, status: Status) -> None:
        index, shift = place // _PER_BYTE, place % _PER_BYTE * BITS
        self.entries[index] = self.entries[index] & ~(_MASK << shift) & 0xFF | status << shift
        self.version += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """A place given to a credential."""

    credential_id: str
    reference: StatusReference


class Places:
    """All places of our lists, in the file and in memory. Whoever calls holds a lock: one call at a time."""

    def __init__(self, *, store: RegisterStore, issuer: str, size: int, world: World, restored: bool) -> None:
        """Load what there is.

        Args:
            store: where it is written down.
            issuer: whose lists they are.
            size: places of a list to be opened.
            world: randomness, and the time of this start.
            restored: whether the store is a backup put back.

        Raises:
            StorageError: it cannot be read.
        """
        self._store = store
        self._issuer = issuer
        self._size = size
        self._world = world
        self._lists: dict[str, _List] = {}
        for each in store.load_lists():
            self._add(each)
        if restored:
            self._close_all()

    def _add(self, own: OwnList) -> _List:
        added = self._lists[own.uri] = _List(
            uri=own.uri,
            size=own.size,
            opened_at=own.opened_at,
            closed=own.closed,
            used=own.used,
            last_expiry=own.last_expiry,
            entries=bytearray(own.size // _PER_BYTE),
        )
        for place, status in self._store.load_set(own.uri):
            added.set(place, Status(status))
        return added

    def _close_all(self) -> None:
        for each in self._open():
            self._keep(each)
            self._close(each)
            _log.warning("status_list_closed", detail="places may have been given away that a backup does not know")

    # -- lists ---------------------------------------------------------------------------------------------------------

    def kept(self, now: datetime) -> Sequence[OwnList]:
        """Give the lists that others need: those that take credentials, and those with one that has not expired."""
        return [
            OwnList(
                uri=each.uri,
                size=each.size,
                opened_at=each.opened_at,
                closed=each.closed,
                used=each.used,
                last_expiry=each.last_expiry,
            )
            for each in self._lists.values()
            if not each.closed or (each.last_expiry is not None and each.last_expiry > now)
        ]

    def version(self, uri: str) -> int:
        """Give a number that rises whenever what a list says changes."""
        return self._lists[uri].version

    def entries(self, uri: str) -> bytes:
        """Give what a list says, as it is now."""
        return bytes(self._lists[uri].entries)

    def open_due(self, now: datetime) -> None:
        """Open the next list if none is open, or the only one that is has three eighths of its places taken.

        Raises:
            StorageError: it could not be written; no list was opened.
        """
        opened = self._open()
        if len(opened) > 1 or (opened and opened[0].used * 8 < opened[0].size * 3):
            return
        if len(self.kept(now)) >= MAX_LISTS:
            return  # allocating says so when the last is full
        uri = list_uri(self._issuer, b64url_encode(self._world.random_bytes(LIST_NAME_BYTES)))
        self._register(OwnList(uri=uri, size=self._size, opened_at=now, closed=False))
        _log.info("status_list_opened", count=len(self._lists))

    def knows(self, uri: str) -> bool:
        """Whether a list is one of ours that we know, kept still or not."""
        return uri in self._lists

    def adopt(self, uri: str, size: int, entries: bytes, now: datetime) -> None:
        """Take in a list that is registered as ours and that we do not know: the database was lost.

        Args:
            uri: the list.
            size: as registered.
            entries: what it says.
            now: the time.

        Raises:
            StorageError: it could not be written.
        """
        # Before the list itself: known without what it says, it would be signed as if nothing had ever been set.
        set_in_it = _List(
            uri=uri, size=size, opened_at=now, closed=True, used=0, last_expiry=None, entries=bytearray(entries)
        )
        self._store.write(
            [
                OwnStatus(uri=uri, place=place, credential_id=None, status=int(set_in_it.at(place)), changed_at=now)
                for index, byte in enumerate(entries[: size // _PER_BYTE])
                if byte
                for place in range(index * _PER_BYTE, (index + 1) * _PER_BYTE)
                if set_in_it.at(place)
            ]
        )
        self._keep(self._register(OwnList(uri=uri, size=size, opened_at=now, closed=True)))
        _log.warning("status_list_adopted", entries=size)

    def _register(self, own: OwnList) -> _List:
        self._store.add_lists([own])
        return self._add(own)

    def _open(self) -> list[_List]:
        return [each for each in self._lists.values() if not each.closed]

    def _close(self, closed: _List) -> None:
        self._store.close_list(closed.uri)
        closed.closed = True

    def _keep(self, kept: _List) -> None:
        """Keep a list registered as long as a credential that we do not know of may live: with a place of nobody's."""
        until = self._world.now() + MAX_CREDENTIAL_LIFETIME
        self._draw(kept, lambda place: OwnStatus(uri=kept.uri, place=place, credential_id=None, expires_at=until))

    # -- places --------------------------------------------------------------------------------------------------------

    def allocate(self, subject: str, actor: str, expires_at: datetime, now: datetime) -> Allocation:
        """Give a place to a credential, durably.

        Args:
            subject: reference of whom it is about.
            actor: of who acts with it; empty: the subject.
            expires_at: when it expires.
            now: the time.

        Raises:
            Unavailable: every list is full, and there may be no more.
            StorageError: it could not be written.
        """
        self.open_due(now)
        for each in self._open():
            if each.used * 2 >= each.size:
                self._close(each)
        opened = self._open()
        if not opened:
            raise Unavailable("all status lists are full; larger ones are needed")
        credential_id = new_name(self._world.random_bytes(CREDENTIAL_ID_BYTES))
        taken = self._draw(
            opened[0],
            lambda place: OwnStatus(
                uri=opened[0].uri,
                place=place,
                credential_id=credential_id,
                subject=subject,
                actor=actor,
                expires_at=expires_at,
            ),
        )
        return Allocation(credential_id=credential_id, reference=StatusReference(uri=taken.uri, index=taken.place))

    def _draw(self, drawn: _List, status: Callable[[int], OwnStatus]) -> OwnStatus:
        for _ in range(_MAX_TRIES):
            wanted = status(self._below(drawn.size))
            if self._store.take_place(wanted):
                drawn.used += 1
                if wanted.expires_at is not None:
                    drawn.last_expiry = max(wanted.expires_at, drawn.last_expiry or wanted.expires_at)
                return wanted
        raise Unavailable("no free place was found in a status list")

    # -- changes -------------------------------------------------------------------------------------------------------

    def change(
        self, changes: Sequence[tuple[OwnStatus, Status]], now: datetime, log: Sequence[SealedEntry] = ()
    ) -> None:
        """Let credentials change, decoys among them, in one durable transaction.

        Args:
            changes: each place as it is, and what becomes of it.
            now: the time.
            log: entries of the log to write with it.

        Raises:
            StorageError: nothing was changed.
        """
        batch: dict[str, list[tuple[OwnStatus, Status]]] = {}
        for change in changes:
            batch.setdefault(change[0].uri, []).append(change)
        decoys = [decoy for uri, each in batch.items() for decoy in self._decoys(self._lists[uri], each)]
        self._write([(replace(place, changed_at=now), status) for place, status in (*changes, *decoys)], log)

    def cover(self, uri: str, now: datetime) -> None:
        """Now and then let a decoy change alone.

        Raises:
            StorageError: nothing was changed.
        """
        if self._below(COVER_EVERY) == 0:
            decoys = self._fresh_decoy(self._lists[uri], Status.REVOKED)
            self._write([(replace(place, changed_at=now), status) for place, status in decoys])

    def take_over(self, uri: str, entries: bytes, now: datetime) -> int:
        """Take over what is set in a list of ours that others hold, where it is graver than what we know.

        Args:
            uri: the list.
            entries: what it says.
            now: the time.

        Returns:
            How many entries were.

        Raises:
            StorageError: it could not be written.
        """
        ours = self._lists[uri]
        if ours.entries == entries:
            return 0
        changes = []
        for index, (own, theirs) in enumerate(zip(ours.entries, entries, strict=False)):
            if own == theirs:
                continue
            for place in range(index * _PER_BYTE, (index + 1) * _PER_BYTE):
                said = Status(theirs >> place % _PER_BYTE * BITS & _MASK)
                if graver(ours.at(place), said) is not ours.at(place):
                    changes.append((OwnStatus(uri=uri, place=place, credential_id=None, changed_at=now), said))
        self._write(changes)
        return len(changes)

    def _write(self, changes: Sequence[tuple[OwnStatus, Status]], log: Sequence[SealedEntry] = ()) -> None:
        if not changes:
            return
        new = {
            (place.uri, place.place)
            for place, _ in changes
            if place.credential_id is None and not self._store.is_taken(place.uri, place.place)
        }
        self._store.write([replace(place, status=int(status)) for place, status in changes], log)
        for place, status in changes:
            self._lists[place.uri].set(place.place, status)
        for uri, _ in new:
            self._lists[uri].used += 1

    def _decoys(
        self, changed: _List, changes: Sequence[tuple[OwnStatus, Status]]
    ) -> Sequence[tuple[OwnStatus, Status]]:
        """Draw decoys that do what credentials of the batch do, about as many as they, at most ``MAX_DECOYS``."""
        decoys: dict[int, tuple[OwnStatus, Status]] = {}
        # Always one for one, half of what is set would be true.
        for _ in range(min(self._below(2 * len(changes) + 1), MAX_DECOYS)):
            place, becomes = changes[self._below(len(changes))]
            if place.status == Status.VALID:
                found = self._fresh_decoy(changed, becomes)
            else:
                found = self._old_decoy(changed, Status(place.status), becomes)
            decoys.update((decoy.place, (decoy, status)) for decoy, status in found)
        return list(decoys.values())

    def _fresh_decoy(self, changed: _List, becomes: Status) -> Sequence[tuple[OwnStatus, Status]]:
        if changed.used * 4 >= changed.size * 3:
            return []  # it has few free places left
        drawn = (self._below(changed.size) for _ in range(_MAX_TRIES))
        free = (place for place in drawn if not self._store.is_taken(changed.uri, place))
        place = next(free, None)
        return [] if place is None else [(OwnStatus(uri=changed.uri, place=place, credential_id=None), becomes)]

    def _old_decoy(self, changed: _List, status: Status, becomes: Status) -> Sequence[tuple[OwnStatus, Status]]:
        found = self._store.find_decoys(changed.uri, int(status), _MAX_SUSPENDED_DECOYS)
        return [(found[self._below(len(found))], becomes)] if found else []

    def _below(self, bound: int) -> int:
        """Give a random number from 0 to below the bound, each as likely as the others."""
        limit = (1 << 64) - (1 << 64) % bound
        while True:
            number = int.from_bytes(self._world.random_bytes(8), "big")
            if number < limit:
                return number % bound
