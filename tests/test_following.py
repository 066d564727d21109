"""A worker hears of the federation through the database alone: it enforces what the front wrote, and writes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

import pytest

from gateway.core.credential_status import SubjectTarget
from gateway.core.key_schedule import KeyPurpose
from gateway.core.reasons import Indeterminate, Reason, Unavailable
from gateway.core.status_list import Status
from gateway.lab.charter import HUKOU_MIGRATION
from gateway.resolver import Refreshed, Resolver
from gateway.storage import Topic
from gateway.storage.opening import open_sqlite
from gateway.storage.read_only import ReadOnly
from gateway.storage.stores import Stores
from gateway.verifier import Acceptance, Verifier
from gateway.wire import VerifyRequest
from tests.federation import AH, SH, Federation, Wallet


@dataclass
class Worker:
    """A process of Anhui that is not its front."""

    federation: Federation
    resolver: Resolver
    verifier: Verifier
    stores: Stores

    def reason(self, wallet: Wallet) -> Reason | None:
        """What it has against a credential; None: it accepts it."""
        presentation, nonce = self.federation.present(wallet)
        verdict = self.verifier.verify(
            self.federation[AH].caller,
            VerifyRequest(matter=HUKOU_MIGRATION, presentation=presentation, nonce=nonce),
        ).verdict
        return None if isinstance(verdict, Acceptance) else verdict.reason


@pytest.fixture
def work(federation: Federation) -> Iterator[Callable[..., Worker]]:
    with ExitStack() as opened:

        def make(ask_front: Callable[[], Refreshed] | None = None) -> Worker:
            front = federation[AH]
            stores = open_sqlite(federation.directory / "ah.sqlite")
            opened.callback(stores.close)
            resolver = Resolver(
                world=federation.world,
                store=ReadOnly(stores.trust),
                charter=front.resolver.view.charter,
                peers=[],
                own_entities=[],
                gateway=front.gateway,
                anchor=None,
                status_store=stores.statuses,
                leads=False,
                ask_front=ask_front or front.resolver.refresh_for_worker,
            )
            opened.callback(resolver.stop)
            verifier = copy.copy(front.verifier)
            verifier._resolver = resolver
            verifier._lists = lambda: resolver.statuses.current
            return Worker(federation, resolver, verifier, stores)

        yield make


def test_a_revoked_key_is_refused_as_soon_as_the_front_has_written_it(
    federation: Federation, work: Callable[..., Worker]
) -> None:
    worker, wallet = work(), federation.issue()
    assert worker.reason(wallet) is None
    federation.revoke(SH, federation[SH].ring.signer(KeyPurpose.CREDENTIAL).public.kid)
    federation[SH].resolver.publish_own()
    federation[AH].resolver.refresh()
    worker.resolver.follow({Topic.TRUST})
    assert worker.reason(wallet) is Reason.KEY_REVOKED
    assert worker.resolver.view.view_id == federation[AH].resolver.view.view_id


def test_a_revoked_credential_is_refused_as_soon_as_the_front_has_written_the_list(
    federation: Federation, work: Callable[..., Worker]
) -> None:
    worker, wallet = work(), federation.issue()
    assert worker.reason(wallet) is None
    federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.REVOKED)
    federation[AH].resolver.refresh()
    worker.resolver.follow({Topic.LISTS})
    assert worker.reason(wallet) is Reason.CREDENTIAL_REVOKED


def test_who_follows_writes_nothing(federation: Federation, work: Callable[..., Worker]) -> None:
    worker = work()
    federation[SH].register.set_status([SubjectTarget(local_subject="person-1")], Status.REVOKED)
    federation.activate(SH, federation.new_key(SH))
    federation.settle()
    tidings = worker.stores.tidings()
    tidings.wait(0)
    worker.resolver.follow()
    worker.resolver._publish_round()
    assert tidings.wait(0) == frozenset()
    tidings.close()


def test_who_looks_late_holds_what_the_front_holds(federation: Federation, work: Callable[..., Worker]) -> None:
    worker = work()
    for _ in range(2):
        federation.activate(SH, federation.new_key(SH, KeyPurpose.ISSUER_FEDERATION), KeyPurpose.ISSUER_FEDERATION)
        federation.settle()
        federation.clock.advance(timedelta(hours=2))
        federation.settle()
    federation.silence(AH)
    federation.clock.advance(timedelta(hours=2))  # what it holds has lapsed, and may still be served
    worker.resolver.follow()
    assert worker.resolver.view.view_id == federation[AH].resolver.view.view_id
    assert worker.stores.trust.load_memory() == worker.resolver._custody.held.memory


def test_a_key_published_a_moment_ago_is_asked_for_through_the_front(
    federation: Federation, work: Callable[..., Worker]
) -> None:
    worker = work()
    federation.activate(SH, federation.new_key(SH))
    federation.settle(*(each for each in federation.nodes if each is not AH))
    assert worker.reason(federation.issue()) is None


def unreachable() -> Refreshed:
    raise Unavailable("nobody is there")


def overrun() -> Refreshed:
    raise Indeterminate(Reason.TRUST_STALE, "too many wait")


def ahead() -> Refreshed:
    return Refreshed(True, "a view of documents that are in no store")


@pytest.mark.parametrize("ask", [unreachable, overrun, ahead])
def test_an_unknown_key_is_no_final_no_while_the_front_cannot_be_asked(
    federation: Federation, work: Callable[..., Worker], ask: Callable[[], Refreshed]
) -> None:
    worker = work(ask)
    federation.activate(SH, federation.new_key(SH))
    assert worker.reason(federation.issue()) is Reason.TRUST_STALE


def test_made_up_keys_shown_to_workers_cost_the_peers_one_round(
    federation: Federation, work: Callable[..., Worker]
) -> None:
    workers = [work(), work()]
    peer = federation[AH].peers[SH]
    before = peer.asked
    for _ in range(5):
        for worker in workers:
            worker.resolver.refresh_for_unknown_key()
    assert peer.asked == before + 1
