"""People who show what they have again, and again: what may be used once, from several counters at a time.

Each has a credential's answer to a challenge, or an assertion; either is good once. Whoever got no answer asks again
until there is one, and everybody does so later, by two calls at once. Every answer is kept; ``discrepancies`` holds
them against what the gateway logged. A call bears a number of its own as the caller's reference, so that each entry of
the log is known to belong to one call.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import grpc
from recognition.v1 import verification_pb2, verification_pb2_grpc

from gateway.core.entries import Entry, Kind, Verification, read, read_verification
from gateway.core.identifiers import Province
from gateway.lab.callers import refused
from gateway.lab.cast import COURT, HUKOU, identity
from gateway.lab.charter import COURT_FILING, HUKOU_MIGRATION
from gateway.storage import StoredEntry
from tests.e2e.lab import RealFederation
from tests.e2e.links import wait_for
from tests.e2e.load import Authority, verdict_of

CALL_SECONDS: Final = 15.0
"""Longer than a gateway waits for its own disk or database before it says so."""
LATER: Final = 48
"""Presentations that are shown for the first time before one is shown again."""
PATIENCE_SECONDS: Final = 0.25
"""Before somebody who got no answer asks again."""
PACE_SECONDS: Final = 0.01
ACCEPTED: Final = "accepted"
REPLAYED: Final = ("rejected", "REPLAYED")
UNAVAILABLE: Final = ("error", "UNAVAILABLE")
STANDING_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one call came to."""

    call: str
    """The caller's reference."""
    verdict: str
    reason: str
    verification_id: str
    """Empty: there was no answer."""

    @property
    def outcome(self) -> tuple[str, str]:
        return self.verdict, self.reason


@dataclass(slots=True, kw_only=True)
class Shown:
    """One presentation, which is good once, and what came of showing it."""

    number: int
    counter: str
    """Whose client shows it."""
    matter: str
    presentation: str
    nonce: str
    calls: int = 0
    told: list[Told] = field(default_factory=list)

    @property
    def is_decided(self) -> bool:
        """Whether it is known to be used up."""
        return any(told.outcome in {(ACCEPTED, ""), REPLAYED} for told in self.told)


class Counters:
    """The counters of one province, each reached over channels of its own, round about."""

    def __init__(self, channels: Mapping[str, Sequence[grpc.Channel]]) -> None:
        """Take the channels, by client; several of one client lead to several processes."""
        self._stubs = {
            name: [verification_pb2_grpc.VerificationServiceStub(channel) for channel in those]
            for name, those in channels.items()
        }

    def challenge(self, counter: str, matter: str, process: int = 0) -> verification_pb2.CreateChallengeResponse:
        """Ask for a nonce. Raises grpc.RpcError."""
        stubs = self._stubs[counter]
        return stubs[process % len(stubs)].CreateChallenge(
            verification_pb2.CreateChallengeRequest(matter=matter), timeout=CALL_SECONDS
        )

    def show(self, shown: Shown, times: int) -> Sequence[Told]:
        """Show it so many times at once, to each process in turn; gives what came of each."""
        stubs = self._stubs[shown.counter]
        begun = []
        for _ in range(times):
            call = f"{shown.number}.{shown.calls}"
            request = verification_pb2.VerifyCredentialRequest(
                matter=shown.matter, presentation=shown.presentation, nonce=shown.nonce, request_id=call
            )
            stub = stubs[(shown.number + shown.calls) % len(stubs)]
            shown.calls += 1
            begun.append((call, stub.VerifyCredential.future(request, timeout=CALL_SECONDS)))
        told = [_told(call, future) for call, future in begun]
        shown.told += told
        return told


def _told(call: str, future: grpc.Future[verification_pb2.VerifyCredentialResponse]) -> Told:
    try:
        answer = future.result()
    except grpc.RpcError as error:
        observed = refused(error)
        # What a call raises is an RpcError and a Call in one; the stubs do not know.
        code: str = getattr(error, "code", lambda: grpc.StatusCode.UNKNOWN)().name
        # What carries our ErrorInfo has a reason of its own, which for what cannot be recorded is UNAVAILABLE as well.
        reason = observed.reason if observed.reason == code else f"{code} {observed.reason}"
        return Told(call=call, verdict=observed.verdict, reason=reason, verification_id="")
    verdict, reason, _ = verdict_of(answer)
    return Told(
        call=call,
        verdict=verdict,
        reason=reason,
        verification_id=answer.verification_id,
    )


class Crowd:
    """Threads that keep coming to one province's counters. Use it as a context manager."""

    def __init__(
        self,
        federation: RealFederation,
        at: Province,
        issuer: Province,
        threads: int = 4,
        pace_seconds: float = PACE_SECONDS,
    ) -> None:
        """Let people of a province come to the counters of another.

        Args:
            federation: the provinces.
            at: whose gateway is asked.
            issuer: whose people they are.
            threads: how many come at once.
            pace_seconds: how long each of them waits before coming again.
        """
        self._at = at
        self._pace_seconds = pace_seconds
        self._authority = Authority(federation, issuer)
        self._counters = Counters({name: [federation.client(at, name)] for name in (HUKOU, COURT)})
        self._wallet = self._authority.credential(STANDING_SECONDS)
        self._lock = threading.Lock()
        self._shown: list[Shown] = []
        self._again: deque[Shown] = deque()
        self.answers = 0
        """How many calls came to a verdict so far."""
        self.unmade = 0
        """How often there was no presentation to show, because one of its calls had no answer."""
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"crowd-{number}", daemon=True)
            for number in range(threads)
        ]
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    @property
    def shown(self) -> Sequence[Shown]:
        with self._lock:
            return list(self._shown)

    @property
    def outcomes(self) -> Counter[tuple[str, str]]:
        return Counter(told.outcome for shown in self.shown for told in list(shown.told))

    def finish(self) -> None:
        """Stop those who come, and have everything shown once more while it is good, by two calls at once.

        What had an answer is turned away now; what had none is used up by one of the two.
        """
        self._stop.set()
        for thread in self._threads:
            thread.join()
        waiting = {shown.number for shown in self._again}
        for shown in self.shown:
            if shown.number in waiting:
                self._show(shown, 2)
            # The gateway may be coming back at this moment: a visitor would ask again.
            wait_for(lambda shown=shown: self._is_decided(shown), every=PATIENCE_SECONDS, what=f"an answer to {shown}")

    def _is_decided(self, shown: Shown) -> bool:
        if not shown.is_decided:
            self._show(shown, 2)
        return shown.is_decided

    def _run(self, number: int) -> None:
        try:
            turn = number
            while not self._stop.is_set():
                turn += 1
                self._visit(assertion=turn % 2 == 0, times=1 + (turn % 4 == 0))
                self._stop.wait(self._pace_seconds)
        except BaseException as error:  # noqa: BLE001 - raised where the crowd ends
            self._failure = error

    def _visit(self, *, assertion: bool, times: int) -> None:
        shown = self._make(assertion=assertion)
        if shown is None:
            self._stop.wait(PATIENCE_SECONDS)
            return
        self._show(shown, times)
        while not shown.is_decided:
            if self._stop.wait(PATIENCE_SECONDS):
                return
            self._show(shown, 2)
        with self._lock:
            self._again.append(shown)
            later = self._again.popleft() if len(self._again) > LATER else None
        if later is not None:
            self._show(later, 2)

    def _show(self, shown: Shown, times: int) -> None:
        told = self._counters.show(shown, times)
        with self._lock:
            self.answers += sum(1 for each in told if each.verification_id)

    def _make(self, *, assertion: bool) -> Shown | None:
        counter, matter = (COURT, COURT_FILING) if assertion else (HUKOU, HUKOU_MIGRATION)
        try:
            if assertion:
                presentation, nonce = self._authority.assertion(identity(self._at, COURT)), ""
            else:
                challenge = self._counters.challenge(counter, matter)
                presentation, nonce = self._wallet.present(challenge), challenge.nonce
        except grpc.RpcError:
            with self._lock:
                self.unmade += 1
            return None
        with self._lock:
            shown = Shown(
                number=len(self._shown),
                counter=counter,
                matter=matter,
                presentation=presentation,
                nonce=nonce,
            )
            self._shown.append(shown)
        return shown


# -- held against the log ---------------------------------------------------------------------------------------------


def discrepancies(shown: Sequence[Shown], entries: Sequence[StoredEntry]) -> Sequence[str]:
    """Hold what callers were told against a whole log; gives what does not agree, in words.

    Everything in ``shown`` must have been shown to the end: each is used up, by whatever call.
    """
    logged = [read_verification(entry) for entry in map(_read, entries) if entry.kind is Kind.VERIFICATION]
    by_call: dict[str, list[Verification]] = defaultdict(list)
    for each in logged:
        by_call[each.request_id].append(each)
    return [*_twice(logged), *(wrong for each in shown for wrong in _wrong(each, by_call))]


def _read(stored: StoredEntry) -> Entry:
    return read(stored.raw)


def _twice(logged: Sequence[Verification]) -> Iterator[str]:
    accepted = Counter(each.replay for each in logged if each.verdict == ACCEPTED)
    yield from (
        f"replay reference {replay} was accepted {count} times" for replay, count in accepted.items() if count > 1
    )
    ids = Counter(each.verification_id for each in logged)
    yield from (f"verification {name} is logged {count} times" for name, count in ids.items() if count > 1)


def _wrong(shown: Shown, by_call: Mapping[str, Sequence[Verification]]) -> Iterator[str]:
    calls = [f"{shown.number}.{number}" for number in range(shown.calls)]
    logged = [each for call in calls for each in by_call.get(call, ())]
    accepted = [each for each in logged if each.verdict == ACCEPTED]
    if len(accepted) != 1:
        yield f"presentation {shown.number} is logged as accepted {len(accepted)} times"
    if len([told for told in shown.told if told.verdict == ACCEPTED]) > 1:
        yield f"presentation {shown.number} was accepted more than once"
    if len({each.replay for each in logged}) > 1:
        yield f"presentation {shown.number} is logged under several replay references"
    for call in calls:
        if len(by_call.get(call, ())) > 1:
            yield f"call {call} is logged more than once"
    for told in shown.told:
        if told.verification_id and not _is_logged(told, by_call.get(told.call, ())):
            yield f"call {told.call} was answered {told.outcome}, and that is not in the log"


def _is_logged(told: Told, logged: Sequence[Verification]) -> bool:
    return [(each.verification_id, each.verdict, each.reason) for each in logged] == [
        (told.verification_id, told.verdict, told.reason)
    ]
