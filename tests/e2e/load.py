"""A steady load: people with valid credentials of all four issuers, at the counters of all four provinces.

Whatever the provinces do with their keys, these people must not notice. Each call is a whole visit: ask for a
challenge, answer it, have it verified; or have an assertion issued and show it. Every answer is kept, with its time,
so that a test can say what was wrong, where and when.

A gateway that is down gives no answer, and an issuer that is down issues nothing. Neither is a wrong verdict, and
neither may happen at a province that is up.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import cycle
from types import TracebackType
from typing import Final, Self

import grpc
from google.protobuf.duration_pb2 import Duration
from recognition.v1 import issuance_pb2, issuance_pb2_grpc, reason_pb2, verification_pb2, verification_pb2_grpc

from gateway import wire
from gateway.core.encoding import write_json
from gateway.core.identifiers import Province
from gateway.core.jose import SoftwareKey, generate_key
from gateway.lab.callers import Wallet, refused
from gateway.lab.cast import COURT, HUKOU, IDENTITY, RESIDENTS, identity
from gateway.lab.charter import COURT_FILING, HUKOU_MIGRATION, LICENCE_DISPLAY, RESIDENT_ID
from tests.e2e.lab import CALL_SECONDS, RealFederation, header_of

PAUSE_SECONDS: Final = 0.02
"""Between a person and the next at one counter: a load, not a flood."""
STANDING_SECONDS: Final = 2 * 86_400
"""Longer than any test is under load. A key drains until the last credential it signed has lapsed, so no longer."""
_NO_ANSWER: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "NO_ANSWER"})


class Kind(StrEnum):
    STANDING = "standing"
    """A credential issued before anything happened."""
    FRESH = "fresh"
    """A credential issued a moment ago."""
    ASSERTION = "assertion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One visit and what came of it."""

    at: float
    lab_time: datetime
    gateway: Province
    issuer: Province
    kind: Kind
    kid: str
    verdict: str
    """accepted, rejected, indeterminate, not_permitted, no_answer, not_issued or error."""
    reason: str
    stale: bool
    seconds: float

    @property
    def is_wrong(self) -> bool:
        return self.verdict not in {"accepted", "no_answer", "not_issued"}


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of a stretch of load."""

    calls: Sequence[Call]

    def __len__(self) -> int:
        return len(self.calls)

    @property
    def verdicts(self) -> Counter[str]:
        return Counter(call.verdict for call in self.calls)

    @property
    def wrong(self) -> Sequence[Call]:
        return [call for call in self.calls if call.is_wrong]

    @property
    def unanswered(self) -> Sequence[Call]:
        return [call for call in self.calls if call.verdict in {"no_answer", "not_issued"}]

    def at(self, gateways: Iterable[Province]) -> Tally:
        among = frozenset(gateways)
        return Tally([call for call in self.calls if call.gateway in among])

    def of(self, issuers: Iterable[Province]) -> Tally:
        among = frozenset(issuers)
        return Tally([call for call in self.calls if call.issuer in among])

    def signed_by(self, kid: str) -> Tally:
        return Tally([call for call in self.calls if call.kid == kid])

    def explain(self) -> str:
        """What was wrong, for the message of an assertion."""
        counted = Counter(
            (call.gateway.code, call.issuer.code, call.kind.value, call.kid[:6], call.verdict, call.reason)
            for call in (*self.wrong, *self.unanswered)
        )
        lines = [f"{count:5d} x {' '.join(each)}" for each, count in counted.most_common(20)]
        return "\n".join([f"{len(self)} calls: {dict(self.verdicts)}", *lines])


class Visitor:
    """Who stands at the counters of one province. Its calls do not wait for a gateway that is down."""

    def __init__(self, federation: RealFederation, province: Province) -> None:
        self._federation = federation
        self.province = province
        self._counter = verification_pb2_grpc.VerificationServiceStub(federation.client(province, HUKOU))
        self._court = verification_pb2_grpc.VerificationServiceStub(federation.client(province, COURT))

    def show(self, wallet: Wallet) -> verification_pb2.VerifyCredentialResponse:
        """Answer a challenge with the credential, bound to its holder's key. Raises grpc.RpcError."""
        challenge = self._counter.CreateChallenge(
            verification_pb2.CreateChallengeRequest(matter=HUKOU_MIGRATION), timeout=CALL_SECONDS
        )
        return self._counter.VerifyCredential(
            verification_pb2.VerifyCredentialRequest(
                matter=HUKOU_MIGRATION, presentation=wallet.present(challenge), nonce=challenge.nonce
            ),
            timeout=CALL_SECONDS,
        )

    def show_licence(self, credential: str) -> verification_pb2.VerifyCredentialResponse:
        """Show a credential where nobody asks for its holder's key. Raises grpc.RpcError."""
        challenge = self._counter.CreateChallenge(
            verification_pb2.CreateChallengeRequest(matter=LICENCE_DISPLAY), timeout=CALL_SECONDS
        )
        return self._counter.VerifyCredential(
            verification_pb2.VerifyCredentialRequest(
                matter=LICENCE_DISPLAY, presentation=credential, nonce=challenge.nonce
            ),
            timeout=CALL_SECONDS,
        )

    def hand_in(self, assertion: str) -> verification_pb2.VerifyCredentialResponse:
        """Hand in an assertion at the court's window. Raises grpc.RpcError."""
        return self._court.VerifyCredential(
            verification_pb2.VerifyCredentialRequest(matter=COURT_FILING, presentation=assertion), timeout=CALL_SECONDS
        )


class Authority:
    """A province's identity system, which has its issuer sign. Its calls do not wait either."""

    def __init__(self, federation: RealFederation, province: Province, channel: grpc.Channel | None = None) -> None:
        """Take the province's usual channel, unless one is given."""
        self._stub = issuance_pb2_grpc.IssuanceServiceStub(channel or federation.client(province, IDENTITY))
        self._province = province
        self._now = federation.lab.now
        self._holder: SoftwareKey = generate_key()

    def credential(self, lifetime: int = 86_400) -> Wallet:
        """Have a credential issued. Raises grpc.RpcError."""
        person = RESIDENTS[self._province]
        answer = self._stub.IssueCredential(
            issuance_pb2.IssueCredentialRequest(
                local_subject=person.local_subject,
                credential_type=RESIDENT_ID,
                claims=wire.struct(person.claims),
                holder_jwk=write_json(self._holder.public.jwk).decode("utf-8"),
                authentication=self._authentication(),
                lifetime=Duration(seconds=lifetime),
            ),
            timeout=CALL_SECONDS,
        )
        return Wallet(key=self._holder, credential=answer.credential, now=self._now, credential_id=answer.credential_id)

    def assertion(self, audience: str) -> str:
        """Have an assertion issued. Raises grpc.RpcError."""
        person = RESIDENTS[self._province]
        return self._stub.IssueAssertion(
            issuance_pb2.IssueAssertionRequest(
                local_subject=person.local_subject,
                audience=audience,
                claims=wire.struct(person.claims),
                authentication=self._authentication(),
            ),
            timeout=CALL_SECONDS,
        ).assertion

    def _authentication(self) -> issuance_pb2.Authentication:
        return issuance_pb2.Authentication(
            acr="urn:yrd:loa:4", amr=["face", "hwk"], authentication_time=wire.timestamp(self._now())
        )


class Load:
    """Four threads, one at each province's counters. Use it as a context manager."""

    def __init__(
        self,
        federation: RealFederation,
        gateways: Iterable[Province] = Province,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        federation.open_channels()
        self._pause = pause_seconds
        self._federation = federation
        self._authorities = {province: Authority(federation, province) for province in Province}
        self._visitors = {province: Visitor(federation, province) for province in gateways}
        self._standing: dict[Province, Wallet] = {}
        self._calls: list[Call] = []
        self._stop = threading.Event()
        self._running = threading.Event()
        self._idle = {province: threading.Event() for province in self._visitors}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._issue_standing()
        self._running.set()
        for province, visitor in self._visitors.items():
            thread = threading.Thread(target=self._run, args=(visitor,), name=f"load-{province.code}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._running.set()
        for thread in self._threads:
            thread.join()

    def mark(self) -> int:
        """Where the load stands, for ``since``."""
        return len(self._calls)

    def since(self, mark: int = 0) -> Tally:
        return Tally(self._calls[mark:])

    def pause(self) -> None:
        """Let whoever is under way finish, and nobody begin: before the clock is moved far."""
        for idle in self._idle.values():
            idle.clear()
        self._running.clear()
        for idle in self._idle.values():
            assert idle.wait(10 * CALL_SECONDS), "a visit does not end"

    def resume(self) -> None:
        """Go on, with new standing credentials: the clock may have passed the end of the old ones."""
        self._issue_standing()
        self._running.set()

    def _issue_standing(self) -> None:
        for province in self._federation.running:
            self._standing[province] = self._authorities[province].credential(STANDING_SECONDS)

    def at_least(
        self, count: int, mark: int, issuers: Sequence[Province] = tuple(Province), within: float = 60.0
    ) -> Tally:
        """Go on until each of these issuers' people was so often at each counter; give what came of it all."""
        deadline = time.monotonic() + within
        wanted = {(gateway, issuer) for gateway in self._visitors for issuer in issuers}
        while True:
            tally = self.since(mark)
            seen = Counter((call.gateway, call.issuer) for call in tally.calls if call.verdict != "not_issued")
            if all(seen[pair] >= count for pair in wanted):
                return tally
            assert time.monotonic() < deadline, f"the load does not get on:\n{tally.explain()}"
            time.sleep(0.05)

    def _run(self, visitor: Visitor) -> None:
        turns = cycle([(issuer, kind) for kind in Kind for issuer in Province])
        while not self._stop.is_set():
            if not self._running.is_set():
                self._idle[visitor.province].set()
                self._running.wait()
                continue
            issuer, kind = next(turns)
            self._calls.append(self._visit(visitor, issuer, kind))
            self._stop.wait(self._pause)

    def _visit(self, visitor: Visitor, issuer: Province, kind: Kind) -> Call:
        began, lab_time, kid, stale = time.monotonic(), self._federation.now, "", False
        ask: Callable[[], verification_pb2.VerifyCredentialResponse]
        try:
            authority = self._authorities[issuer]
            if kind is Kind.ASSERTION:
                assertion = authority.assertion(identity(visitor.province, COURT))
                kid = header_of(assertion)["kid"]
                ask = lambda: visitor.hand_in(assertion)  # noqa: E731
            else:
                wallet = self._standing[issuer] if kind is Kind.STANDING else authority.credential()
                kid = header_of(wallet.credential.partition("~")[0])["kid"]
                ask = lambda: visitor.show(wallet)  # noqa: E731
        except grpc.RpcError as error:
            verdict, reason = _failed(error, "not_issued")
        else:
            try:
                verdict, reason, stale = verdict_of(ask())
            except grpc.RpcError as error:
                verdict, reason = _failed(error, "no_answer")
        return Call(
            at=began,
            lab_time=lab_time,
            gateway=visitor.province,
            issuer=issuer,
            kind=kind,
            kid=kid,
            verdict=verdict,
            reason=reason,
            stale=stale,
            seconds=time.monotonic() - began,
        )


def verdict_of(answer: verification_pb2.VerifyCredentialResponse) -> tuple[str, str, bool]:
    """Give verdict, reason, and whether it rests on stale trust."""
    stale = answer.trust_basis.stale
    match answer.WhichOneof("verdict"):
        case "accepted":
            return "accepted", "", stale
        case "rejected":
            return "rejected", _reason(answer.rejected.reason), stale
        case "indeterminate":
            return "indeterminate", _reason(answer.indeterminate.reason), stale
        case _:
            return "error", "DAMAGED_ANSWER", stale


def _reason(number: reason_pb2.Reason.ValueType) -> str:
    return reason_pb2.Reason.Name(number).removeprefix("REASON_")


def _failed(error: grpc.RpcError, absent: str) -> tuple[str, str]:
    observed = refused(error)
    return (absent if observed.reason in _NO_ANSWER else observed.verdict), observed.reason


def latencies(calls: Iterable[Call]) -> Mapping[str, float]:
    """Median and the slowest one in a hundred, in seconds."""
    ordered = sorted(call.seconds for call in calls)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]}
