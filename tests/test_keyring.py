"""The keys of a running province: over a real file and a real key store, with a crash wherever there can be one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import World, system_world
from gateway.core import key_schedule
from gateway.core.jose import Algorithm, Signer
from gateway.core.key_schedule import KeyPurpose, KeyRecord, KeyState
from gateway.core.memory import Revocation, RevocationReason
from gateway.core.reasons import Unavailable, WrongState
from gateway.keyring import ADDED_LATER, ROLES, STATEMENT_LIFETIME, Author, KeyRing
from gateway.keystore import KeyStoreError
from gateway.keystore.file import FileKeyStore
from gateway.storage import KeyEvent, StorageError
from gateway.storage.sqlite import SqliteStore

START = datetime(2026, 11, 23, 1, 0, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CREDENTIAL, FEDERATION = KeyPurpose.CREDENTIAL, KeyPurpose.ISSUER_FEDERATION
ADMIN = Author(administrator="https://gateway.ah.example/admins/1")


class Flaky:
    """A store in front of the real one, which can be made to fail when something is written."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.broken = False
        self.marks = 0

    def save_keys(self, keys: Sequence[KeyRecord], events: Sequence[KeyEvent], request_id: str = "") -> None:
        self._check()
        self._store.save_keys(keys, events, request_id)

    def raise_signed_until(self, kid: str, until: datetime) -> None:
        self._check()
        self.marks += 1
        self._store.raise_signed_until(kid, until)

    def _check(self) -> None:
        if self.broken:
            raise StorageError("the disk is full")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@dataclass
class Place:
    """A province's disk."""

    directory: Path
    now: datetime = START
    stores: list[SqliteStore] = field(default_factory=list)

    @property
    def world(self) -> World:
        return World(now=lambda: self.now, random_bytes=system_world().random_bytes)

    def keystore(self) -> FileKeyStore:
        return FileKeyStore.create(self.directory / "keys", self.world)

    def opened(self) -> FileKeyStore:
        """The key store as it is: nothing that is missing is made."""
        return FileKeyStore.open(self.directory / "keys")

    def store(self) -> Flaky:
        self.stores.append(SqliteStore(self.directory / "state.sqlite"))
        return Flaky(self.stores[-1])

    def ring(self, store: Flaky | None = None, keystore: FileKeyStore | None = None) -> KeyRing:
        """As after a start: everything that is not on the disk is forgotten."""
        return KeyRing(store or self.store(), keystore or self.keystore(), self.world)

    def key_files(self, purpose: KeyPurpose) -> list[Path]:
        return sorted((self.directory / "keys").glob(f"{ROLES[purpose]}.*"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for store in place.stores:
        store.close()


def states(ring: KeyRing, purpose: KeyPurpose = CREDENTIAL) -> list[KeyState]:
    return [record.state for record in ring.records(purpose)]


def move(ring: KeyRing, what: Any, kid: str, purpose: KeyPurpose = CREDENTIAL, author: Author = ADMIN) -> None:
    ring.change(purpose, lambda records, now: what(records, kid, now), author)


def standby(ring: KeyRing, purpose: KeyPurpose = CREDENTIAL) -> str:
    (staged,) = ring.stage(purpose, ADMIN)
    move(ring, key_schedule.publish, staged.key.kid, purpose)
    return staged.key.kid


def rotated(ring: KeyRing, purpose: KeyPurpose = CREDENTIAL) -> tuple[str, str]:
    old = ring.signer(purpose).public.kid
    new = standby(ring, purpose)
    move(ring, key_schedule.activate, new, purpose)
    return old, new


def revoke(ring: KeyRing, kid: str, purpose: KeyPurpose = CREDENTIAL, now: datetime = START) -> None:
    given = Revocation(revoked_at=now, reason=RevocationReason.COMPROMISED)
    move(ring, lambda records, of, at: key_schedule.revoke(records, of, given, at), kid, purpose)


# -- starting ---------------------------------------------------------------------------------------------------------


def test_the_keys_of_a_new_province_sign(place: Place) -> None:
    ring = place.ring()
    for purpose in KeyPurpose:
        assert states(ring, purpose) == [KeyState.ACTIVE]
        assert [ring.signer(purpose).public] == list(ring.published(purpose))
    assert {event.event for event in place.store().load_key_events()} == {"active"}


def test_what_is_written_down_survives(place: Place) -> None:
    ring = place.ring()
    rotated(ring)
    standby(ring)
    again = place.ring()
    for purpose in KeyPurpose:
        assert again.records(purpose) == ring.records(purpose)


def test_a_role_that_is_not_played_is_missed_when_it_is_asked_for(place: Place) -> None:
    place.keystore()
    for file in place.key_files(CREDENTIAL):
        file.unlink()
    opened = FileKeyStore.open(place.directory / "keys")
    ring = place.ring(keystore=opened)
    ring.require(FEDERATION)
    with pytest.raises(KeyStoreError):
        ring.require(CREDENTIAL)
    assert list(ring.published(CREDENTIAL)) == []


def test_of_several_keys_without_a_record_none_can_be_told_to_be_the_first(place: Place) -> None:
    keystore = place.keystore()
    keystore.generate(ROLES[CREDENTIAL])
    with pytest.raises(KeyStoreError):
        place.ring(keystore=keystore)


@pytest.mark.parametrize("state", ["published", "active", "draining"])
def test_a_start_misses_a_key_that_others_were_told_of(place: Place, state: str) -> None:
    ring = place.ring()
    rotated(ring)
    standby(ring)
    kid = next(record.key.kid for record in ring.records(CREDENTIAL) if record.state == state)
    place.ring()
    (file,) = [file for file in place.key_files(CREDENTIAL) if kid in file.name]
    file.unlink()
    with pytest.raises(KeyStoreError):
        place.ring(keystore=FileKeyStore.open(place.directory / "keys"))


def test_a_start_lets_go_of_a_lost_key_that_nobody_heard_of(place: Place) -> None:
    (staged,) = place.ring().stage(CREDENTIAL, ADMIN)
    (file,) = [file for file in place.key_files(CREDENTIAL) if staged.key.kid in file.name]
    file.unlink()
    assert states(place.ring()) == [KeyState.ACTIVE, KeyState.RETIRED]


# -- purposes that came later -----------------------------------------------------------------------------------------


@pytest.fixture
def older(place: Place) -> Place:
    """A province that was set up before gateways had keys for receipts and checkpoints."""
    place.keystore()
    for purpose in ADDED_LATER:
        for file in place.key_files(purpose):
            file.unlink()
    place.ring(keystore=place.opened())
    return place


@pytest.mark.parametrize("purpose", sorted(ADDED_LATER))
def test_the_first_key_of_a_purpose_that_came_later_is_made_at_the_start(older: Place, purpose: KeyPurpose) -> None:
    ring = older.ring(keystore=older.opened())
    assert ring.published(purpose) == []
    ring.make_first(purpose)
    assert states(ring, purpose) == [KeyState.ACTIVE]
    assert [ring.signer(purpose).public] == list(ring.published(purpose))
    assert len(older.key_files(purpose)) == 1
    ring.signer(purpose).sign(b"it does")
    again = older.ring(keystore=older.opened())
    again.make_first(purpose)
    assert again.records(purpose)[0].key.kid == ring.records(purpose)[0].key.kid
    assert len(older.key_files(purpose)) == 1


def test_a_first_key_made_just_before_a_crash_is_the_first_key_of_the_next_start(older: Place) -> None:
    store = older.store()
    ring = older.ring(store, older.opened())
    store.broken = True
    with pytest.raises(StorageError):
        ring.make_first(KeyPurpose.AUDIT)
    (file,) = older.key_files(KeyPurpose.AUDIT)
    again = older.ring(keystore=older.opened())
    again.make_first(KeyPurpose.AUDIT)
    assert states(again, KeyPurpose.AUDIT) == [KeyState.ACTIVE]
    assert older.key_files(KeyPurpose.AUDIT) == [file]


def test_no_key_is_made_in_place_of_one_that_was_recorded_and_is_gone(older: Place) -> None:
    older.ring(keystore=older.opened()).make_first(KeyPurpose.AUDIT)
    (file,) = older.key_files(KeyPurpose.AUDIT)
    file.unlink()
    with pytest.raises(KeyStoreError):
        older.ring(keystore=older.opened())
    assert older.key_files(KeyPurpose.AUDIT) == []


# -- crashes ----------------------------------------------------------------------------------------------------------


def test_a_key_made_just_before_a_crash_is_staged_by_the_next_start(place: Place) -> None:
    place.ring()
    made = place.keystore().generate(ROLES[CREDENTIAL])
    ring = place.ring()
    assert [(record.key.kid, record.state) for record in ring.records(CREDENTIAL)][1:] == [
        (made.public.kid, KeyState.STAGED)
    ]


def test_a_key_that_could_not_be_written_down_is_not_made_twice(place: Place) -> None:
    store = place.store()
    ring = place.ring(store)
    store.broken = True
    with pytest.raises(StorageError):
        ring.stage(CREDENTIAL, ADMIN)
    assert states(ring) == [KeyState.ACTIVE]
    store.broken = False
    ring.stage(CREDENTIAL, ADMIN)
    assert states(ring) == [KeyState.ACTIVE, KeyState.STAGED]
    assert len(place.key_files(CREDENTIAL)) == 2


@pytest.mark.parametrize("what", ["publish", "activate", "undo"])
def test_a_change_that_could_not_be_written_has_not_happened(place: Place, what: str) -> None:
    store = place.store()
    ring = place.ring(store)
    (staged,) = ring.stage(CREDENTIAL, ADMIN)
    kid = staged.key.kid
    if what == "activate":
        move(ring, key_schedule.publish, kid)
    before = ring.records(CREDENTIAL)
    store.broken = True
    with pytest.raises(StorageError):
        move(ring, getattr(key_schedule, what), kid)
    assert ring.records(CREDENTIAL) == before
    assert place.ring().records(CREDENTIAL) == before


def test_nothing_is_signed_that_was_not_noted(place: Place) -> None:
    store = place.store()
    ring = place.ring(store)
    store.broken = True
    signer = ring.sign_until(CREDENTIAL, START + DAY)
    with pytest.raises(Unavailable):
        signer.sign(b"credential")
    assert ring.records(CREDENTIAL)[0].signed_until is None


# -- signing ----------------------------------------------------------------------------------------------------------


def test_until_when_a_keys_word_counts_is_on_disk_with_the_first_signature(place: Place) -> None:
    ring = place.ring()
    signer = ring.sign_until(CREDENTIAL, START + 30 * DAY)
    assert place.ring().records(CREDENTIAL)[0].signed_until is None  # to look at it is not to use it
    signer.sign(b"credential")
    noted = place.ring().records(CREDENTIAL)[0].signed_until
    assert noted is not None
    assert START + 30 * DAY <= noted <= START + 31 * DAY


def test_the_mark_never_falls_and_is_written_rarely(place: Place) -> None:
    store = place.store()
    ring = place.ring(store)
    for minutes in range(0, 600, 10):
        ring.sign_until(CREDENTIAL, START + 30 * DAY + timedelta(minutes=minutes)).sign(b"credential")
        ring.sign_until(CREDENTIAL, START + timedelta(minutes=minutes)).sign(b"assertion")
    assert store.marks == 1
    ring.sign_until(CREDENTIAL, START + 40 * DAY).sign(b"credential")
    assert store.marks == 2
    assert place.ring().records(CREDENTIAL) == ring.records(CREDENTIAL)


def test_a_statements_key_counts_for_as_long_as_a_statement_lives(place: Place) -> None:
    ring = place.ring()
    ring.signer(FEDERATION).sign(b"statement")
    noted = ring.records(FEDERATION)[0].signed_until
    assert noted is not None
    assert START + STATEMENT_LIFETIME <= noted <= START + STATEMENT_LIFETIME + HOUR


def test_a_key_is_undone_until_it_signs(place: Place) -> None:
    ring = place.ring()
    _, unused = rotated(ring)
    move(ring, key_schedule.undo, unused)
    assert states(ring) == [KeyState.ACTIVE, KeyState.RETIRED]
    _, used = rotated(ring)
    ring.sign_until(CREDENTIAL, START + HOUR).sign(b"assertion")
    with pytest.raises(WrongState):
        move(ring, key_schedule.undo, used)


def test_a_signer_given_out_before_a_rotation_finishes_what_was_begun(place: Place) -> None:
    ring = place.ring()
    signer = ring.sign_until(CREDENTIAL, START + 10 * DAY)
    old, _ = rotated(ring)
    signer.sign(b"credential")
    (record,) = [record for record in ring.records(CREDENTIAL) if record.key.kid == old]
    assert record.state is KeyState.DRAINING
    assert record.signed_until is not None
    assert record.signed_until >= START + 10 * DAY


def finished(ring: KeyRing, how: str) -> tuple[str, Signer]:
    signer = ring.sign_until(CREDENTIAL, START + HOUR)
    signer.sign(b"assertion")
    old, _ = rotated(ring)
    if how == "revoked":
        revoke(ring, old)
    else:
        move(ring, key_schedule.retire, old)
    return old, signer


@pytest.mark.parametrize("how", ["revoked", "retired"])
def test_a_signer_given_out_before_a_key_ended_signs_nothing_more(place: Place, how: str) -> None:
    ring = place.ring()
    old, signer = finished(ring, how)
    with pytest.raises(Unavailable):
        signer.sign(b"assertion")
    for again in (ring, place.ring()):
        assert again.sign_until(CREDENTIAL, START + HOUR).public.kid != old
        assert old not in {key.kid for key in again.published(CREDENTIAL)}
        assert old not in {each.public.kid for each in again.proof_signers(CREDENTIAL)}


def test_without_an_active_key_nothing_is_signed(place: Place) -> None:
    ring = place.ring()
    revoke(ring, ring.signer(CREDENTIAL).public.kid)
    with pytest.raises(Unavailable):
        ring.sign_until(CREDENTIAL, START + HOUR)
    ring.signer(FEDERATION)


def test_the_standby_key_takes_over_from_one_that_is_revoked(place: Place) -> None:
    ring = place.ring()
    old, next_kid = ring.signer(CREDENTIAL).public.kid, standby(ring)
    revoke(ring, old)
    for each in (ring, place.ring()):
        assert each.signer(CREDENTIAL).public.kid == next_kid
        assert states(each) == [KeyState.REVOKED, KeyState.ACTIVE]


def test_the_next_key_is_of_the_algorithm_of_the_one_that_signs(place: Place) -> None:
    keystore = place.keystore()
    for file in place.key_files(CREDENTIAL):
        file.unlink()
    keystore = FileKeyStore.open(place.directory / "keys")
    keystore.generate(ROLES[CREDENTIAL], Algorithm.ED25519)
    ring = place.ring(keystore=keystore)
    (staged,) = ring.stage(CREDENTIAL, ADMIN)
    assert staged.key.algorithm is Algorithm.ED25519


def test_a_superseded_key_signs_nothing_more_and_can_still_be_checked(place: Place) -> None:
    ring = place.ring()
    signer = ring.sign_until(CREDENTIAL, START + DAY)
    signer.sign(b"credential")
    old, new = rotated(ring)
    given = Revocation(revoked_at=START, reason=RevocationReason.SUPERSEDED)
    move(ring, lambda records, kid, now: key_schedule.revoke(records, kid, given, now), old)
    with pytest.raises(Unavailable):
        signer.sign(b"credential")
    assert {signer.public.kid for signer in ring.proof_signers(CREDENTIAL)} == {old, new}
    place.now += 3 * DAY
    assert [key.kid for key in ring.published(CREDENTIAL)] == [new]


# -- what others are told ---------------------------------------------------------------------------------------------


def test_what_is_published_is_what_may_be_met(place: Place) -> None:
    ring = place.ring()
    old, new = rotated(ring)
    assert [key.kid for key in ring.published(CREDENTIAL)] == [old, new]
    (staged,) = ring.stage(CREDENTIAL, ADMIN)
    assert [key.kid for key in ring.published(CREDENTIAL)] == [old, new]
    move(ring, key_schedule.publish, staged.key.kid)
    assert [signer.public.kid for signer in ring.proof_signers(CREDENTIAL)] == [old, new, staged.key.kid]


def test_proving_possession_is_not_using(place: Place) -> None:
    ring = place.ring()
    for signer in ring.proof_signers(CREDENTIAL):
        signer.sign(b"proof")
    assert ring.records(CREDENTIAL)[0].signed_until is None


def test_revocations_are_given_by_purpose(place: Place) -> None:
    ring = place.ring()
    kids = {purpose: ring.signer(purpose).public.kid for purpose in (CREDENTIAL, FEDERATION)}
    for purpose, kid in kids.items():
        revoke(ring, kid, purpose)
    assert set(ring.revocations(CREDENTIAL)) == {kids[CREDENTIAL]}
    assert set(ring.revocations()) == set(kids.values())
    expected = Revocation(revoked_at=START, reason=RevocationReason.COMPROMISED)
    assert place.ring().revocations(CREDENTIAL) == {kids[CREDENTIAL]: expected}


def test_whoever_listens_hears_of_a_change_when_it_is_done(place: Place) -> None:
    ring = place.ring()
    heard: list[list[KeyState]] = []
    ring.on_change(lambda: heard.append(states(ring)))
    ring.on_change(partial(ring.signer, CREDENTIAL))  # no lock is held: the ring can be used from there
    kid = standby(ring)
    with pytest.raises(WrongState):
        move(ring, key_schedule.publish, kid)
    ring.change(CREDENTIAL, lambda _records, _now: (), ADMIN)
    assert heard == [[KeyState.ACTIVE, KeyState.PUBLISHED]]  # that a key was made is nobody's business


def test_the_history_says_who_did_what(place: Place) -> None:
    ring = place.ring()
    _, new = rotated(ring)
    move(ring, key_schedule.undo, new, author=Author(administrator="someone else", event="undone", request_id="r1"))
    events = place.store().load_key_events(new)
    assert [(event.event, event.administrator) for event in events] == [
        ("staged", ADMIN.administrator),
        ("published", ADMIN.administrator),
        ("active", ADMIN.administrator),
        ("undone", "someone else"),
    ]
    assert place.store().is_done("r1")
