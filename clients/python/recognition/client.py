"""The blocking client of a gateway. ``recognition.aio`` has the same for asyncio.

::

    with RecognitionClient(Profile.read("service.toml")) as client:
        challenge = client.challenge(matter)
        ...  # the holder answers it with a presentation
        decision = client.verify(VerifyRequest(matter=matter, presentation=presentation, nonce=challenge.nonce))
        match decision.verdict:  # see recognition.verdicts
            ...

Every call has a deadline, which all its tries share. Calls that change nothing, or that the gateway answers the second
time as the first, are tried again where the gateway was not reached; where it has no room, the client waits for as long
as it is told to. What remains is raised as a ``RecognitionError``, which is never a verdict.

Certificates that are replaced on disk are taken up by the next call, and calls under way end on the old connection; a
stream moves to the new one. A gateway is reached directly: proxies that the environment names are not used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc

from recognition import _rules, _wire
from recognition._rules import Options
from recognition.errors import (
    DamagedAnswer,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    NotPermitted,
    Overloaded,
    RecognitionError,
    Refused,
    Unavailable,
    closed,
    from_rpc,
)
from recognition.profile import Files, Material, Profile
from recognition.reasons import Language, NextStep, Reason, ReasonText
from recognition.v1 import audit_pb2_grpc, verification_pb2, verification_pb2_grpc
from recognition.verdicts import (
    Accepted,
    Actor,
    AgeAtLeast,
    Assurance,
    Challenge,
    ClaimMatches,
    Consent,
    Decision,
    Explanation,
    Failure,
    HouseholdIn,
    Indeterminate,
    Outcome,
    Predicate,
    Rejected,
    StatusBasis,
    SubjectType,
    TrustBasis,
    Verdict,
    VerifyRequest,
)

__all__ = [
    "Accepted",
    "Actor",
    "AgeAtLeast",
    "Assurance",
    "Challenge",
    "ClaimMatches",
    "Consent",
    "DamagedAnswer",
    "DeadlineExceeded",
    "Decision",
    "Explanation",
    "Failure",
    "HouseholdIn",
    "Indeterminate",
    "Internal",
    "InvalidRequest",
    "Language",
    "NextStep",
    "NotPermitted",
    "Options",
    "Outcome",
    "Overloaded",
    "Predicate",
    "Profile",
    "Reason",
    "ReasonText",
    "RecognitionClient",
    "RecognitionError",
    "Refused",
    "Rejected",
    "StatusBasis",
    "SubjectType",
    "TrustBasis",
    "Unavailable",
    "Verdict",
    "VerifyRequest",
]

_TAKING_SECONDS: Final = 0.02
"""How long a pack is filled from a source that is slow, before it is sent as it is."""
_SOURCE_SECONDS: Final = 1.0
"""How much of the time that a source takes for one pack is counted as waiting for the gateway."""

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class RecognitionClient:
    """Asks the gateway of one's own province. Thread-safe; make one and keep it."""

    def __init__(self, profile: Profile, options: Options | None = None) -> None:
        """Read the profile's files; nothing is connected before the first call.

        Args:
            profile: how to reach the gateway.
            options: deadlines and bounds.

        Raises:
            OSError: a file cannot be read.
            ValueError: the files do not fit together.
        """
        self._address = profile.address
        self._options = options or Options()
        self._seconds = self._options.deadline.total_seconds()
        self._files = Files(profile)
        self._settings = _rules.channel_options()
        self._lock = threading.Lock()
        self._link: _Link | None = self._connect(self._files.material)  # None: closed
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and with it the calls under way."""
        self._closed.set()
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.channel.close()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def challenge(self, matter: str) -> Challenge:
        """Have a nonce made for one presentation."""
        request = _wire.challenge_request(matter)
        return _wire.challenge(self._call(lambda link: link.verification.CreateChallenge, request))

    def verify(self, request: VerifyRequest) -> Decision:
        """Ask for the verdict on one presentation.

        Raises:
            RecognitionError: there is none.
        """
        asked = _wire.question(request)
        request_id = asked.request_id
        answer = self._call(lambda link: link.verification.VerifyCredential, asked, request_id=request_id)
        return _wire.decision(answer, request_id, len(asked.predicates))

    def verify_all(self, requests: Iterable[VerifyRequest]) -> list[Outcome]:
        """Ask for the verdicts on many, in batches, one after another.

        Returns:
            What became of each, in their order. Where a batch fails as a whole, each of its requests has failed: what
            had no answer may have been decided, and is asked again under the request id that the failure names.
        """
        asked = list(map(_wire.question_or_failure, requests))
        answered = [outcome for batch in _rules.batches(asked) for outcome in self._verify_batch(batch)]
        return _rules.in_order(asked, answered)

    def stream(self, requests: Iterable[VerifyRequest]) -> Iterator[tuple[int, Outcome]]:
        """Ask for the verdicts on any number, as they come.

        The source is read in the thread of whoever reads the outcomes, and only while fewer than ``Options.under_way``
        have been taken from it whose outcome was not read: who reads slowly slows the source down. An answer waits for
        the source no longer than it takes to give one request.

        A stream that ends early, because the gateway stops or the connection is old, is opened anew, and what has no
        answer is sent again under the same request id.

        Returns:
            The number of each request, from 0, and what became of it, in any order. Each that was taken appears once.

        Raises:
            RecognitionError: no answer came for ``Options.batch_deadline``, or the gateway refuses streams to this
                service, and the source has more. What was under way has been given as failed before: it may have been
                decided, and is asked again under the request id that the failure names. What the source raises is
                raised after the outcomes of what was taken from it.
        """
        return _Stream(self._take_link, self._give_back, self._options, iter(requests), self._address).run()

    def record_consent(self, matter: str, claims: Sequence[str], lifetime: timedelta) -> Consent:
        """Put on record that a person consented; never tried again by itself.

        Args:
            matter: its code.
            claims: names of the claims that may be released on its strength.
            lifetime: 1 second to 366 days.
        """
        request = _wire.consent_request(matter, claims, lifetime)
        return _wire.consent(self._call(lambda link: link.verification.RecordConsent, request, once=True))

    def withdraw_consent(self, consent_id: str) -> datetime:
        """Put on record that the person withdrew it; gives since when."""
        request = _wire.withdrawal_request(consent_id)
        return _wire.withdrawal(self._call(lambda link: link.verification.WithdrawConsent, request))

    def explain(self, verification_id: str) -> Explanation:
        """Ask how an earlier decision came about."""
        request = _wire.explanation_request(verification_id)
        return _wire.explanation(self._call(lambda link: link.verification.ExplainVerification, request))

    def evidence(self, verification_id: str) -> bytes:
        """Fetch the evidence of an earlier decision: a file to keep, which ``recognition.evidence`` checks offline."""
        request = _wire.evidence_request(verification_id)
        return _wire.evidence(self._call(lambda link: link.audit.GetEvidence, request))

    @contextmanager
    def stub(self) -> Iterator[verification_pb2_grpc.VerificationServiceStub]:
        """Lend the generated stub, with this client's connection and retries, and without its deadlines and errors."""
        link = self._take_link(time.monotonic())
        try:
            yield link.verification
        finally:
            self._give_back(link)

    # -- how they are made ---------------------------------------------------------------------------------------------

    def _call(
        self,
        method: Callable[[_Link], grpc.UnaryUnaryMultiCallable[_Request, _Answer]],
        request: _Request,
        *,
        deadline: timedelta | None = None,
        request_id: str = "",
        once: bool = False,
    ) -> _Answer:
        now = time.monotonic()
        ends = now + (self._seconds if deadline is None else deadline.total_seconds())
        tries = 0
        while True:
            tries += 1
            link = self._take_link(now, request_id)
            try:
                return method(link)(request, ends - now)
            except grpc.RpcError as error:
                if self._closed.is_set():
                    raise closed(request_id) from error
                failed = from_rpc(error, request_id, address=self._address)
                seconds = None if once else _rules.pause(failed, tries, ends - time.monotonic())
                if seconds is None:
                    raise failed from error
            except ValueError as error:
                if self._closed.is_set():  # between the two lines above, which gRPC calls a wrong value
                    raise closed(request_id) from error
                raise
            finally:
                self._give_back(link)
            self._closed.wait(seconds)
            now = time.monotonic()

    def _verify_batch(self, batch: Sequence[verification_pb2.VerifyCredentialRequest]) -> Iterator[Outcome]:
        request = verification_pb2.BatchVerifyCredentialsRequest(items=batch)
        try:
            answer = self._call(
                lambda link: link.verification.BatchVerifyCredentials, request, deadline=self._options.batch_deadline
            )
        except RecognitionError as error:
            return _rules.all_failed(batch, error)
        return _rules.batch_outcomes(batch, answer.results)

    def _connect(self, material: Material) -> _Link:
        return _Link(grpc.secure_channel(self._address, _rules.credentials(material), self._settings))

    def _take_link(self, now: float, request_id: str = "") -> _Link:
        with self._lock:
            link = self._link
            if link is None:
                raise closed(request_id)
            if now >= self._files.look_at and self._files.have_changed(now):
                old, link = link, self._connect(self._files.material)
                self._link = link
                if not old.users:
                    old.channel.close()
            link.users += 1
        return link

    def _give_back(self, link: _Link) -> None:
        with self._lock:
            link.users -= 1
            if link.users or link is self._link:
                return
        link.channel.close()


class _Link:
    """A connection, and how many calls are under way on it."""

    __slots__ = ("audit", "channel", "users", "verification")

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.verification = verification_pb2_grpc.VerificationServiceStub(channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(channel)
        self.users = 0


class _OpenStream:
    """One call of a stream: writes what it is given, and has a thread that reads what comes.

    It reads on only while fewer answers than may be under way have not been taken in.
    """

    def __init__(
        self, link: _Link, give_back: Callable[[_Link], None], events: SimpleQueue[_Event], most: int, address: str
    ) -> None:
        self.link = link
        self._outbox: SimpleQueue[verification_pb2.StreamVerifyCredentialsRequest | None] = SimpleQueue()
        self._call = link.verification.StreamVerifyCredentials(iter(self._outbox.get, None))
        self._events = events
        self._give_back = give_back
        self._most = most
        self._room = threading.Semaphore(most)
        self._address = address
        threading.Thread(target=self._read, name="recognition-stream", daemon=True).start()

    def send(self, message: verification_pb2.StreamVerifyCredentialsRequest) -> None:
        self._outbox.put(message)

    def finish(self) -> None:
        """Send no more; what was sent is still answered."""
        self._outbox.put(None)

    def cancel(self) -> None:
        self._call.cancel()
        self._room.release(self._most)

    def took(self, answer: verification_pb2.StreamVerifyCredentialsResponse) -> None:
        """Make room for more answers."""
        self._room.release(self._weight(answer))

    def _weight(self, answer: verification_pb2.StreamVerifyCredentialsResponse) -> int:
        return min(max(1, len(answer.results)), self._most)

    def _read(self) -> None:
        end: RecognitionError | None = None
        try:
            for answer in self._call:
                self._events.put((self, answer))
                for _ in range(self._weight(answer)):
                    self._room.acquire()
        except grpc.RpcError as error:
            end = from_rpc(error, address=self._address)
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits for answers must hear of it
            end = DamagedAnswer(f"{type(error).__name__} where an answer was read")
            self._call.cancel()
        finally:
            self.finish()  # else the thread in which gRPC takes what is to be sent would wait for ever
            self._give_back(self.link)
            self._events.put((self, end))


_Event = tuple[_OpenStream, "verification_pb2.StreamVerifyCredentialsResponse | RecognitionError | None"]


class _Stream:
    """One ``RecognitionClient.stream``: from the source through one call, and then another, to outcomes."""

    def __init__(
        self,
        take_link: Callable[[float], _Link],
        give_back: Callable[[_Link], None],
        options: Options,
        source: Iterator[VerifyRequest],
        address: str,
    ) -> None:
        self._take_link = take_link
        self._give_back = give_back
        self._most = options.under_way
        self._source = source
        self._address = address
        self._is_exhausted = False
        self._source_error: Exception | None = None
        self._flow = _rules.Flow(options)
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._call: _OpenStream | None = None
        self._is_moving = False
        """Whether the call is only there for its last answers: there are other certificates."""

    def run(self) -> Iterator[tuple[int, Outcome]]:
        error: RecognitionError | None = None
        try:
            while error is None:
                yield from self._take()
                error = self._send()
                if error is None and self._flow.is_idle and self._is_exhausted:
                    if self._call is not None:
                        self._call.finish()
                        self._call = None
                    break
                if error is None:
                    outcomes, error = self._next()
                    yield from outcomes
            if error is not None:
                yield from self._flow.give_up(error)
        finally:
            if self._call is not None:
                self._call.cancel()
        if self._source_error is not None:
            raise self._source_error
        if error is not None and not self._is_exhausted:
            raise error

    def _take(self) -> Iterator[tuple[int, Outcome]]:
        began = time.monotonic()
        for _ in range(_rules.PACK_ITEMS):
            if self._is_exhausted or not self._flow.has_room:
                return
            try:
                request = next(self._source)
            except StopIteration:
                self._is_exhausted = True
                return
            except Exception as error:  # noqa: BLE001 - it is the caller's, and raised when all that was taken is given
                self._is_exhausted, self._source_error = True, error
                return
            known = self._flow.take(request)
            spent = time.monotonic() - began
            if known or spent > _TAKING_SECONDS:
                # The gateway could have answered meanwhile; but whoever kept us from hearing it is not the gateway.
                self._flow.waited(min(spent, _SOURCE_SECONDS))
                yield from known
                return

    def _send(self) -> RecognitionError | None:
        """Send what may be sent; gives why nothing can be any more."""
        try:
            while not self._is_moving and self._flow.may_send(now := time.monotonic()):
                if self._call is None:
                    self._call = self._open(now)
                elif self._are_others(self._call, now):
                    self._call.finish()
                    self._is_moving = True
                    break
                message = self._flow.next_message(now)
                if message is not None:
                    self._call.send(message)
        except RecognitionError as error:
            return error
        return None

    def _open(self, now: float) -> _OpenStream:
        link = self._take_link(now)
        try:
            return _OpenStream(link, self._give_back, self._events, self._most, self._address)
        except ValueError as error:  # gRPC's word for a connection that was closed in this moment
            self._give_back(link)
            raise closed() from error

    def _are_others(self, call: _OpenStream, now: float) -> bool:
        """Look whether new calls go over another connection, as they do when there are new certificates."""
        link = self._take_link(now)
        self._give_back(link)
        return link is not call.link

    def _next(self) -> tuple[Sequence[tuple[int, Outcome]], RecognitionError | None]:
        """Take in what comes next, or nothing if there is something else to do; gives outcomes, or why to give up."""
        began = time.monotonic()
        may_take = self._flow.has_room and not self._is_exhausted
        try:
            timeout = self._flow.may_wait(began)
            call, event = self._events.get_nowait() if may_take else self._events.get(timeout=timeout)
        except Empty:
            return (), self._flow.waited(time.monotonic() - began)
        tired = self._flow.waited(time.monotonic() - began)
        if call is not self._call:
            return (), tired
        if isinstance(event, verification_pb2.StreamVerifyCredentialsResponse):
            call.took(event)
            outcomes, error = self._flow.settle(event, time.monotonic())
            return outcomes, error or (None if outcomes else tired)
        self._call = None
        if self._is_moving:
            self._is_moving = False
            if event is None:
                self._flow.moved()
                return (), tired
        return (), self._flow.broke(event, time.monotonic()) or tired
