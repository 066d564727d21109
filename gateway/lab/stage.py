"""What happens on the lab's stage: one question asked by one actor, and the answer held against the expected one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Final

import grpc

from gateway.core.identifiers import Province
from gateway.lab.callers import IdentitySystem, Observed, Person, RelyingService, Wallet, refused
from gateway.lab.cast import HUKOU, IDENTITY, RESIDENTS, Words, role
from gateway.lab.charter import HUKOU_MIGRATION, RESIDENT_ID
from gateway.lab.federation import Lab

OTHER_ATTRIBUTES: Final = "OTHER_ATTRIBUTES"
"""Stands for the reason when a gateway accepted but released something else than it should have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A step as planned: who asks, about what, and what the answer should be."""

    name: str
    asks: tuple[Province, str]
    """The relying service: its province, and its role there."""
    title: Words
    expected: Observed
    action: Callable[[], Observed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step as it went."""

    step: str
    chapter: Words
    caller: Words
    callee: Words
    title: Words
    expected: str
    expected_reason: str
    verdict: str
    reason: str

    @property
    def met(self) -> bool:
        """Whether the answer was the expected one, for the expected reason."""
        return (self.verdict, self.reason) == (self.expected, self.expected_reason)


def run(case: Case, chapter: Words) -> Step:
    """Ask, and write down what came back. A call that fails is an answer too, only never an expected one."""
    try:
        observed = case.action()
    except grpc.RpcError as error:
        observed = refused(error)
    reason = observed.reason
    if observed.verdict == "accepted" and case.expected.attributes not in (None, observed.attributes):
        reason = OTHER_ATTRIBUTES
    province, name = case.asks
    return Step(
        step=case.name,
        chapter=chapter,
        caller=role(province, name).title,
        callee=Words(f"{province.short_zh}网关", f"{province.code} gateway"),
        title=case.title,
        expected=case.expected.verdict,
        expected_reason=case.expected.reason,
        verdict=observed.verdict,
        reason=reason,
    )


class Stage:
    """What the actors can do in one lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        # One credential a person, as in life: issued once, presented over and over.
        self.wallet = cache(self._first_wallet)

    def _first_wallet(self, home: Province) -> Wallet:
        return self.issue(home)

    def service(self, province: Province, name: str = HUKOU) -> RelyingService:
        """Give a service backend."""
        return RelyingService(self.lab.channel(province, name))

    def issue(self, province: Province, person: Person | None = None, *, acr: str = "urn:yrd:loa:4") -> Wallet:
        """Have a credential issued to a person, by default the province's own."""
        return self._identity(province).credential(person or RESIDENTS[province], RESIDENT_ID, acr=acr)

    def assertion(self, province: Province, audience: str, *, lifetime: timedelta | None = None) -> str:
        """Have an assertion issued about the province's own person."""
        return self._identity(province).assertion(RESIDENTS[province], audience, lifetime=lifetime)

    def present(
        self,
        place: Province,
        wallet: Wallet,
        matter: str = HUKOU_MIGRATION,
        *,
        withhold: frozenset[str] = frozenset(),
    ) -> Observed:
        """Go to a province's household counter and present."""
        counter = self.service(place)
        challenge = counter.challenge(matter)
        return counter.verify(matter, wallet.present(challenge, withhold=withhold), challenge.nonce)

    def _identity(self, province: Province) -> IdentitySystem:
        return IdentitySystem(self.lab.channel(province, IDENTITY), self.lab.now)
