"""Our own lists: places given once, changes signed and handed out at once, nothing ever un-revoked."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import system_world
from gateway.core.agreement import Party
from gateway.core.credential_status import (
    FINAL,
    MAX_TARGETS,
    Change,
    CredentialTarget,
    SubjectTarget,
    Target,
    graver,
    judge,
)
from gateway.core.identifiers import Province
from gateway.core.jose import sign_compact
from gateway.core.key_schedule import KeyPurpose
from gateway.core.reasons import InvalidRequest, Reason, Unavailable
from gateway.core.status_list import (
    MAX_JUMP,
    MIN_ENTRIES,
    STATUS_LIST_TYPE,
    Status,
    encode,
    status_list_claims,
)
from gateway.issuer import ActingFor, Subject
from gateway.status_places import Places
from gateway.status_register import LIFETIME, TTL, StatusRegister
from gateway.storage import RegisterStore
from gateway.verifier import Acceptance
from tests.federation import AH, JS, SH, START, XU_CLAIMS, Federation, payload
from tests.stores import Place

DAY = timedelta(days=1)
STATUSES = st.sampled_from(list(Status))


# -- what may become of what ------------------------------------------------------------------------------------------


@given(st.lists(STATUSES, max_size=12))
def test_what_was_said_for_good_is_never_taken_back(asked: list[Status]) -> None:
    status, model = Status.VALID, Status.VALID
    for wanted in asked:
        verdict = judge(status, wanted)
        assert (verdict is Change.ALREADY) == (status is wanted)
        allowed = wanted is Status.REVOKED or (
            model not in FINAL and (wanted is not Status.VALID or model is Status.SUSPENDED)
        )
        if status is not wanted:
            assert (verdict is Change.CHANGED) == (allowed and model is not Status.REVOKED)
        if verdict is Change.CHANGED:
            status = model = wanted
    if Status.REVOKED in asked:
        assert status is Status.REVOKED


@given(STATUSES, STATUSES)
def test_of_two_the_graver_is_the_same_from_both_sides(one: Status, other: Status) -> None:
    assert graver(one, other) is graver(other, one)
    assert graver(one, Status.REVOKED) is Status.REVOKED


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(place: Place) -> RegisterStore:
    return place.open().register


def places_of(store: RegisterStore, size: int = 64, *, restored: bool = False) -> Places:
    return Places(store=store, issuer="https://issuer.example", size=size, world=system_world(), restored=restored)


def test_no_credentials_name_begins_with_a_dash(store: RegisterStore) -> None:
    world = replace(system_world(), random_bytes=lambda count: b"\xff" * count)
    places = Places(store=store, issuer="https://issuer.example", size=64, world=world, restored=False)
    assert not places.allocate("p", "", START + DAY, START).credential_id.startswith("-")


def test_no_place_is_given_twice_and_none_in_order(store: RegisterStore) -> None:
    places = places_of(store, 256)
    given_out = [places.allocate("p", "", START + DAY, START) for _ in range(100)]
    taken = [(each.reference.uri, each.reference.index) for each in given_out]
    assert len(set(taken)) == 100
    assert len({each.credential_id for each in given_out}) == 100
    order = [index for _, index in taken]
    assert order != sorted(order)


def test_the_next_list_is_opened_early_and_used_when_half_of_the_first_is_taken(store: RegisterStore) -> None:
    places = places_of(store)
    uris = []
    for number in range(40):
        uris.append(places.allocate("p", "", START + DAY, START).reference.uri)
        if number == 25:
            assert len(places.kept(START)) == 2  # registered before the first credential needs it
    assert len(set(uris[:32])) == 1
    assert len(set(uris[32:])) == 1
    assert uris[0] != uris[-1]


def test_a_list_stays_registered_until_its_last_credential_has_expired(store: RegisterStore) -> None:
    places = places_of(store)
    first, *_ = [places.allocate("p", "", START + DAY, START).reference.uri for _ in range(33)]
    assert first in {each.uri for each in places.kept(START + DAY - timedelta(seconds=1))}
    assert first not in {each.uri for each in places.kept(START + DAY)}


def test_a_place_is_not_given_again_after_a_restart_or_an_expiry(store: RegisterStore) -> None:
    taken = {places_of(store, 256).allocate("p", "", START + DAY, START).reference.index for _ in range(60)}
    assert len(taken) == 60
    later = places_of(store, 256).allocate("p", "", START + 9 * DAY, START + 8 * DAY).reference.index
    assert later not in taken


# -- through the federation -------------------------------------------------------------------------------------------


def uri_of(federation: Federation) -> str:
    (uri,) = (str(each["uri"]) for each in federation[SH].register.metadata())
    return uri


def entries(federation: Federation) -> bytes:
    return federation[SH].statuses.current[uri_of(federation)].entries


def set_entries(raw: bytes) -> int:
    return sum(1 for byte in raw for shift in (0, 2, 4, 6) if byte >> shift & 3)


def credential_id(federation: Federation, person: str = "person-1") -> str:
    found = federation[SH].register.find(SubjectTarget(local_subject=person))
    return found[0].credential_id or ""


def status_of(federation: Federation, person: str = "person-1") -> list[Status]:
    return [Status(each.status) for each in federation[SH].register.find(SubjectTarget(local_subject=person))]


def test_a_credential_is_found_by_its_name_its_subject_and_whoever_acts(federation: Federation) -> None:
    agent = ActingFor(
        local_subject="agent-1", relationship=Party.AGENT, scope=["HK-QY"], claims={"name": "某"}, expires_at=None
    )
    federation.issue(subject=Subject(local_subject="person-1", claims=XU_CLAIMS, actor=agent))
    register = federation[SH].register
    by_name: Target = CredentialTarget(credential_id=credential_id(federation))
    for target in (by_name, SubjectTarget(local_subject="person-1"), SubjectTarget(local_subject="agent-1")):
        assert len(register.find(target)) == 1
    for unknown in (CredentialTarget(credential_id="c" * 22), SubjectTarget(local_subject="person-2")):
        (result,) = register.set_status([unknown], Status.REVOKED)
        assert (result.known, result.changed, result.refused) == (False, 0, 0)


def test_a_change_is_signed_and_held_when_the_call_returns(federation: Federation) -> None:
    federation.issue()
    before = federation[SH].statuses.heads
    (result,) = federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.REVOKED)
    assert (result.known, result.changed, result.refused) == (True, 1, 0)
    after = federation[SH].statuses.heads
    assert [uri for uri in after if after[uri] > before[uri]] == [
        each["uri"] for each in federation[SH].register.metadata()
    ]
    again = federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.REVOKED)
    assert [(each.changed, each.refused) for each in again] == [(0, 0)]
    back = federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.VALID)
    assert [(each.changed, each.refused) for each in back] == [(0, 1)]
    assert status_of(federation) == [Status.REVOKED]


def test_all_of_a_persons_credentials_change_and_nobody_elses(federation: Federation) -> None:
    for _ in range(3):
        federation.issue()
    federation.issue(subject=Subject(local_subject="person-2", claims=XU_CLAIMS))
    (result,) = federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.SUSPENDED)
    assert result.changed == 3
    assert status_of(federation) == [Status.SUSPENDED] * 3
    assert status_of(federation, "person-2") == [Status.VALID]


def test_more_than_the_real_ones_are_set_now_and_then(federation: Federation) -> None:
    for number in range(60):
        federation.issue(subject=Subject(local_subject=f"person-{number}", claims=XU_CLAIMS))
        federation[SH].register.set_status([SubjectTarget(local_subject=f"person-{number}")], Status.REVOKED)
    assert 60 < set_entries(entries(federation)) <= 60 * 3


def test_too_many_targets_are_refused(federation: Federation) -> None:
    with pytest.raises(InvalidRequest):
        federation[SH].register.set_status([SubjectTarget(local_subject="p")] * (MAX_TARGETS + 1), Status.REVOKED)


def test_a_list_is_signed_anew_at_half_its_time_to_live_and_not_before(federation: Federation) -> None:
    register, statuses = federation[SH].register, federation[SH].statuses
    before = statuses.heads
    federation.clock.advance(TTL / 2 - timedelta(seconds=1))
    register.tick()
    assert statuses.heads == before
    federation.clock.advance(timedelta(seconds=1))
    register.tick()
    uri = uri_of(federation)
    assert statuses.heads[uri] > before[uri]
    assert statuses.current[uri].expires_at == federation.clock.now + LIFETIME


def test_a_clock_that_ran_ahead_and_was_put_right_signs_lists_that_count(federation: Federation) -> None:
    register, statuses = federation[SH].register, federation[SH].statuses
    uri = uri_of(federation)
    federation.clock.advance(timedelta(minutes=16))
    register.tick()
    ahead = statuses.current[uri]
    assert ahead.issued_at == federation.clock.now
    federation.clock.advance(timedelta(minutes=-16))
    register.tick()
    assert statuses.current[uri].seq > ahead.seq
    assert statuses.current[uri].issued_at <= federation.clock.now


def test_another_key_signs_as_soon_as_it_is_the_one_that_signs(federation: Federation) -> None:
    wallet = federation.issue()
    new = federation.new_key(SH, KeyPurpose.STATUS)
    federation.settle()
    federation.activate(SH, new, KeyPurpose.STATUS)
    federation.settle()
    uri = uri_of(federation)
    assert federation[AH].statuses.current[uri].kid == new
    assert isinstance(federation.verify(*federation.present(wallet)).verdict, Acceptance)


def test_without_a_key_the_change_is_kept_and_handed_out_later(federation: Federation) -> None:
    federation.issue()
    old = federation[SH].keys["issuer-status"].public.kid
    federation.revoke(SH, old, purpose=KeyPurpose.STATUS)
    with pytest.raises(Unavailable):
        federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.REVOKED)
    assert status_of(federation) == [Status.REVOKED]
    new = federation.new_key(SH, KeyPurpose.STATUS)
    federation.settle()
    federation.activate(SH, new, KeyPurpose.STATUS)
    federation.settle()
    assert set_entries(entries(federation)) >= 1


def test_calls_at_the_same_time_all_end_with_their_change_handed_out(federation: Federation) -> None:
    count = 12
    for number in range(count):
        federation.issue(subject=Subject(local_subject=f"person-{number}", claims=XU_CLAIMS))
    register = federation[SH].register
    seen: list[int] = []

    def revoke(number: int) -> None:
        register.set_status([SubjectTarget(local_subject=f"person-{number}")], Status.REVOKED)
        (place,) = register.find(SubjectTarget(local_subject=f"person-{number}"))
        seen.append(federation[SH].statuses.current[place.uri].at(place.place))

    threads = [threading.Thread(target=revoke, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [int(Status.REVOKED)] * count


def test_a_backup_put_back_un_revokes_nobody(federation: Federation) -> None:
    wallet = federation.issue()
    federation.settle()
    node = federation[SH]
    file = federation.directory / "sh.sqlite"
    node.close()
    backup = federation.directory / "backup"
    shutil.copy(file, backup)
    federation.nodes[SH] = federation.build(SH)
    federation.settle()
    federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.REVOKED)
    federation.settle()
    federation[SH].close()
    for side in ("-wal", "-shm"):
        Path(f"{file}{side}").unlink(missing_ok=True)
    shutil.copy(backup, file)
    federation.nodes[SH] = federation.build(SH)
    # The credential is unknown as revoked here; the others have the list that says so.
    federation.settle()
    federation.settle()
    verdict = federation.verify(*federation.present(wallet)).verdict
    assert not isinstance(verdict, Acceptance)
    assert verdict.reason is Reason.CREDENTIAL_REVOKED
    # No place is given away that may have been given away before: a new list takes the credentials from now on.
    fresh = federation.issue(subject=Subject(local_subject="person-9", claims=XU_CLAIMS))
    assert payload(fresh.credential)["status"] != payload(wallet.credential)["status"]
    assert (
        payload(fresh.credential)["status"]["status_list"]["uri"]
        != payload(wallet.credential)["status"]["status_list"]["uri"]
    )


def test_the_lists_are_big_enough_to_hide_in() -> None:
    assert MIN_ENTRIES >= 2**20
    assert (StatusRegister.__init__.__kwdefaults__ or {})["size"] == MIN_ENTRIES


def test_a_province_that_is_down_keeps_nobody_from_hearing(federation: Federation) -> None:
    wallet = federation.issue()
    federation.silence(AH, [JS])
    federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.REVOKED)
    federation[AH].resolver.refresh()
    verdict = federation.verify(*federation.present(wallet)).verdict
    assert not isinstance(verdict, Acceptance)
    assert verdict.reason is Reason.CREDENTIAL_REVOKED


# -- a stolen status key ----------------------------------------------------------------------------------------------


def stolen(federation: Federation, *, entries: bytes, seq: int, bits: int = 2) -> str:
    """A list signed with Shanghai's key, by somebody else."""
    claims = status_list_claims(
        uri=uri_of(federation),
        issuer=federation[SH].ids.issuer,
        seq=seq,
        now=federation.clock.now,
        ttl=TTL,
        lifetime=LIFETIME,
        lst=encode(entries),
        bits=bits,
    )
    return sign_compact(STATUS_LIST_TYPE, claims, federation.keys[SH]["issuer-status"])


@pytest.mark.parametrize("bits", [1, 2])
def test_what_a_thief_sets_with_the_stolen_key_is_signed_over_at_once(federation: Federation, bits: int) -> None:
    wallet = federation.issue()
    node, uri = federation[SH], uri_of(federation)
    held = node.statuses.current[uri]
    everybody_revoked = b"\x55" * (MIN_ENTRIES // 4)
    token = stolen(federation, entries=everybody_revoked, seq=held.seq + 1, bits=bits)
    assert node.statuses.absorb(uri, token, "js")
    node.register.tick()
    federation.settle()
    ours = federation[AH].statuses.current[uri]
    assert (ours.entries, ours.bits) == (held.entries, 2)
    assert ours.seq > held.seq + 1
    assert isinstance(federation.verify(*federation.present(wallet)).verdict, Acceptance)
    assert [each.status for each in node.register.find(SubjectTarget(local_subject="person-1"))] == [Status.VALID]


def test_the_number_of_a_list_that_lapsed_is_gone_on_from_after_a_restart(federation: Federation) -> None:
    node, uri = federation[SH], uri_of(federation)
    held = node.statuses.current[uri]
    ahead = held.seq + MAX_JUMP - 1_000
    assert node.statuses.absorb(uri, stolen(federation, entries=held.entries, seq=ahead), "js")
    federation.settle()
    federation.clock.advance(LIFETIME + timedelta(hours=1))
    federation.restart(SH)
    for _ in range(2):
        federation.settle()
    assert all(federation[province].statuses.current[uri].seq > ahead for province in Province)
    wallet = federation.issue()
    assert isinstance(federation.verify(*federation.present(wallet)).verdict, Acceptance)


def test_a_number_beyond_a_day_is_no_list(federation: Federation) -> None:
    node, uri = federation[SH], uri_of(federation)
    held = node.statuses.current[uri]
    ahead = int(federation.clock.now.timestamp() * 1_000) + MAX_JUMP + 1
    assert not node.statuses.absorb(uri, stolen(federation, entries=held.entries, seq=ahead), "js")


def test_a_lost_database_does_not_sign_a_list_whose_content_it_does_not_know(federation: Federation) -> None:
    wallet = federation.issue()
    federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.REVOKED)
    federation.settle()
    uri = payload(wallet.credential)["status"]["status_list"]["uri"]
    federation[SH].close()
    for each in federation.directory.glob("sh.sqlite*"):
        each.unlink()
    federation.nodes[SH] = federation.build(SH)
    for peer in federation[SH].peers.values():
        peer.lists_down = True
    federation[SH].resolver.catch_up()
    federation.settle()
    assert uri in {each["uri"] for each in federation[SH].register.metadata()}
    assert uri not in federation[SH].statuses.current
    federation.restart(SH)  # no pause is left of the calls that failed
    federation[SH].resolver.catch_up()
    for _ in range(2):
        federation.settle()
    assert uri in federation[SH].statuses.current
    verdict = federation.verify(*federation.present(wallet)).verdict
    assert not isinstance(verdict, Acceptance)
    assert verdict.reason is Reason.CREDENTIAL_REVOKED
