"""What happens on the lab's stage: one question asked by one actor, and the answer held against the expected one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Final

import grpc
from recognition.v1 import issuance_pb2, verification_pb2

from gateway.core.agreement import SubjectType
from gateway.core.identifiers import Province
from gateway.lab.agreement import HUKOU_MIGRATION, ORGANISATION, RESIDENT_ID
from gateway.lab.callers import IdentitySystem, Observed, Person, RelyingService, Wallet, refused
from gateway.lab.cast import HUKOU, IDENTITY, RESIDENTS, Words, role
from gateway.lab.federation import Lab

EVERYWHERE_SECONDS: Final = 5.0
"""How long a change of status may take to be enforced in another province. It is a matter of tenths of a second."""
POLL_SECONDS: Final = 0.05
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
    if observed.verdict == "accepted" and not _is_told(case.expected, observed):
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


def _is_told(expected: Observed, observed: Observed) -> bool:
    return expected.attributes in (None, observed.attributes) and expected.told.items() <= observed.told.items()


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
        """Have a credential issued to a person, by default the province's own; or to an organisation."""
        subject = person or RESIDENTS[province]
        credential_type = ORGANISATION if subject.subject_type is SubjectType.LEGAL else RESIDENT_ID
        return self.identity(province).credential(subject, credential_type, acr=acr)

    def set_status(self, province: Province, wallet: Wallet, status: issuance_pb2.CredentialStatus.ValueType) -> None:
        """Have the issuing province say what became of a credential."""
        self.identity(province).set_status(wallet.credential_id, status)

    def present_until(self, place: Province, wallet: Wallet, reason: str) -> Observed:
        """Present until the verdict is the one that a change should bring about, or the time for it is up."""
        deadline = time.monotonic() + EVERYWHERE_SECONDS
        while True:
            observed = self.present(place, wallet)
            if observed.reason == reason or time.monotonic() > deadline:
                return observed
            time.sleep(POLL_SECONDS)

    def assertion(self, province: Province, audience: str, *, lifetime: timedelta | None = None) -> str:
        """Have an assertion issued about the province's own person."""
        return self.identity(province).assertion(RESIDENTS[province], audience, lifetime=lifetime)

    def present(
        self,
        place: Province,
        wallet: Wallet,
        matter: str = HUKOU_MIGRATION,
        *,
        withhold: frozenset[str] = frozenset(),
        at: str = HUKOU,
        consent_id: str = "",
        questions: Sequence[verification_pb2.Predicate] = (),
    ) -> Observed:
        """Go to one of a province's counters, by default its household counter, and present."""
        counter = self.service(place, at)
        challenge = counter.challenge(matter)
        presentation = wallet.present(challenge, withhold=withhold)
        return counter.verify(matter, presentation, challenge.nonce, consent_id=consent_id, questions=questions)

    def identity(self, province: Province) -> IdentitySystem:
        """Give a province's identity system."""
        return IdentitySystem(self.lab.channel(province, IDENTITY), self.lab.now)
