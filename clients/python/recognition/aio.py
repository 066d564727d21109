"""The client of a gateway for asyncio: the same as ``recognition.client``, awaited.

::

    async with RecognitionClient(Profile.read("service.toml")) as client:
        challenge = await client.challenge(matter)

One client belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc

from recognition import _rules, _wire
from recognition._rules import Options
from recognition.errors import DeadlineExceeded, RecognitionError, Unavailable, from_rpc
from recognition.profile import Files, Material, Profile
from recognition.v1 import audit_pb2, audit_pb2_grpc, verification_pb2, verification_pb2_grpc
from recognition.verdicts import Challenge, Consent, Decision, Explanation, Outcome, VerifyRequest

__all__ = ["Options", "Profile", "RecognitionClient"]

_FAREWELL_SECONDS: Final = 1.0
"""How long a stream on which all was answered is given to end by itself."""
_NOT_SENT: Final = "Internal error from Core"
"""What grpc.aio says of a stream that ended while a message was on its way, in place of what the gateway said of it. On
the next stream, on which little is sent at first, the gateway is heard."""

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class RecognitionClient:
    """Asks the gateway of one's own province. Make one and keep it."""

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
        self._link: _Link | None = None
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection, and with it the calls under way."""
        self._closed.set()
        link, self._link = self._link, None
        if link is not None:
            await link.channel.close()

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def challenge(self, matter: str) -> Challenge:
        """Have a nonce made for one presentation."""
        request = verification_pb2.CreateChallengeRequest(matter=matter)
        return _wire.challenge(await self._call(lambda link: link.verification.CreateChallenge, request))

    async def verify(self, request: VerifyRequest) -> Decision:
        """Ask for the verdict on one presentation.

        Raises:
            RecognitionError: there is none.
        """
        request_id = request.request_id or _wire.new_request_id()
        questions = len(request.predicates)
        asked = _wire.question(request, request_id)
        answer = await self._call(lambda link: link.verification.VerifyCredential, asked, request_id=request_id)
        return _wire.decision(answer, request_id, questions)

    async def verify_all(self, requests: Iterable[VerifyRequest]) -> list[Outcome]:
        """Ask for the verdicts on many, in batches, one after another.

        Returns:
            What became of each, in their order. Where a batch fails as a whole, each of its requests has failed.
        """
        asked = list(map(_wire.question, requests))
        refused = list(map(_rules.too_large, asked))
        fit = (each for each, failure in zip(asked, refused, strict=True) if failure is None)
        answered = [outcome for batch in _rules.batches(fit) for outcome in await self._verify_batch(batch)]
        return _rules.in_order(refused, answered)

    async def stream(
        self, requests: Iterable[VerifyRequest] | AsyncIterable[VerifyRequest]
    ) -> AsyncIterator[tuple[int, Outcome]]:
        """Ask for the verdicts on any number, as they come.

        The source is read only while fewer than ``Options.under_way`` have been taken from it whose outcome was not
        read: who reads slowly slows the source down. One that is no asynchronous iterator must not block.

        A stream that ends early, because the gateway stops or the connection is old, is opened anew, and what has no
        answer is sent again under the same request id.

        Leave it early only within ``contextlib.aclosing``: what is under way is then ended at once.

        Returns:
            The number of each request, from 0, and what became of it, in any order. Each that was taken appears once.

        Raises:
            RecognitionError: no answer came for ``Options.batch_deadline``, or the gateway refuses streams to this
                service. What was under way has been given as failed before.
        """
        stream = _Stream(self._take_link, self._give_back, self._options, requests)
        try:
            async for outcome in stream.run():
                yield outcome
        finally:
            await stream.close()

    async def record_consent(self, matter: str, claims: Sequence[str], lifetime: timedelta) -> Consent:
        """Put on record that a person consented; never tried again by itself.

        Args:
            matter: its code.
            claims: names of the claims that may be released on its strength.
            lifetime: 1 second to 366 days.
        """
        request = verification_pb2.RecordConsentRequest(matter=matter, claims=claims, lifetime=_wire.duration(lifetime))
        return _wire.consent(await self._call(lambda link: link.verification.RecordConsent, request))

    async def withdraw_consent(self, consent_id: str) -> datetime:
        """Put on record that the person withdrew it; gives since when."""
        request = verification_pb2.WithdrawConsentRequest(consent_id=consent_id)
        return _wire.withdrawal(await self._call(lambda link: link.verification.WithdrawConsent, request))

    async def explain(self, verification_id: str) -> Explanation:
        """Ask how an earlier decision came about."""
        request = verification_pb2.ExplainVerificationRequest(verification_id=verification_id)
        return _wire.explanation(await self._call(lambda link: link.verification.ExplainVerification, request))

    async def evidence(self, verification_id: str) -> bytes:
        """Fetch the evidence of an earlier decision: a file to keep, which ``recognition.evidence`` checks offline."""
        request = audit_pb2.GetEvidenceRequest(verification_id=verification_id)
        return (await self._call(lambda link: link.audit.GetEvidence, request)).evidence.encode("utf-8")

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[verification_pb2_grpc.VerificationServiceAsyncStub]:
        """Lend the generated stub, with this client's connection and retries, and without its deadlines and errors."""
        link = await self._take_link(time.monotonic())
        try:
            yield link.verification
        finally:
            await self._give_back(link)

    # -- how they are made ---------------------------------------------------------------------------------------------

    async def _call(
        self,
        method: Callable[[_Link], grpc.aio.UnaryUnaryMultiCallable[_Request, _Answer]],
        request: _Request,
        *,
        deadline: timedelta | None = None,
        request_id: str = "",
    ) -> _Answer:
        now = time.monotonic()
        ends = now + (self._seconds if deadline is None else deadline.total_seconds())
        tries = 0
        while True:
            tries += 1
            link = self._link
            if link is None or now >= self._files.look_at:
                link = await self._take_link(now)
            else:  # as nearly always; what the two coroutines do is cheaper here than in them
                link.users += 1
            try:
                return await method(link)(request, timeout=ends - now)
            except grpc.RpcError as error:
                failed = from_rpc(error, request_id)
                seconds = _rules.pause(failed, tries, ends - time.monotonic())
                if seconds is None:
                    raise failed from error
            finally:
                link.users -= 1
                if link is not self._link:
                    await self._leave(link)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), seconds)
            now = time.monotonic()

    async def _verify_batch(self, batch: Sequence[verification_pb2.VerifyCredentialRequest]) -> Iterator[Outcome]:
        request = verification_pb2.BatchVerifyCredentialsRequest(items=batch)
        try:
            answer = await self._call(
                lambda link: link.verification.BatchVerifyCredentials, request, deadline=self._options.batch_deadline
            )
        except RecognitionError as error:
            return _rules.all_failed(batch, error)
        return _rules.batch_outcomes(batch, answer.results)

    def _connect(self, material: Material) -> _Link:
        return _Link(grpc.aio.secure_channel(self._address, _rules.credentials(material), self._settings))

    async def _take_link(self, now: float) -> _Link:
        if not self._closed.is_set():
            old, has_changed = self._link, self._files.have_changed(now)
            if old is None or has_changed:
                self._link = self._connect(self._files.material)
                if old is not None:
                    await self._leave(old)
        link = self._link
        if link is None:
            raise RuntimeError("the client is closed")
        link.users += 1
        return link

    async def _give_back(self, link: _Link) -> None:
        link.users -= 1
        if link is not self._link:
            await self._leave(link)

    async def _leave(self, link: _Link) -> None:
        """Close a connection that is not for new calls any more, once there are none on it."""
        if not link.users:
            await link.channel.close()


class _Link:
    """A connection, and how many calls are under way on it."""

    __slots__ = ("audit", "channel", "users", "verification")

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.verification: verification_pb2_grpc.VerificationServiceAsyncStub
        self.verification = verification_pb2_grpc.VerificationServiceStub(channel)
        self.audit: audit_pb2_grpc.AuditServiceAsyncStub = audit_pb2_grpc.AuditServiceStub(channel)
        self.users = 0


class _OpenStream:
    """One call of a stream: writes what it is given, and has a task that reads what comes."""

    def __init__(self, link: _Link, events: asyncio.Queue[_Event]) -> None:
        self._outbox: asyncio.Queue[verification_pb2.StreamVerifyCredentialsRequest | None] = asyncio.Queue()
        self._call = link.verification.StreamVerifyCredentials(self._messages())
        self._events = events
        self.link = link
        self.reading = asyncio.create_task(self._read())

    def send(self, message: verification_pb2.StreamVerifyCredentialsRequest) -> None:
        self._outbox.put_nowait(message)

    def finish(self) -> None:
        """Send no more; what was sent is still answered."""
        self._outbox.put_nowait(None)

    def cancel(self) -> None:
        self._call.cancel()

    async def _messages(self) -> AsyncIterator[verification_pb2.StreamVerifyCredentialsRequest]:
        while (message := await self._outbox.get()) is not None:
            yield message

    async def _read(self) -> None:
        end: RecognitionError | None = None
        try:
            async for answer in self._call:
                self._events.put_nowait(answer)
        except grpc.aio.AioRpcError as error:
            end = from_rpc(error)
            if end.code is grpc.StatusCode.INTERNAL and end.detail == _NOT_SENT:
                end = Unavailable(grpc.StatusCode.UNAVAILABLE, "the stream broke while something was sent")
        except asyncio.CancelledError:
            if not self._call.cancelled():
                raise
        self.finish()
        self._events.put_nowait(_Ended(self, end))


@dataclass(frozen=True, slots=True)
class _Ended:
    """A call is over."""

    call: _OpenStream
    error: RecognitionError | None


@dataclass(frozen=True, slots=True)
class _Exhausted:
    """The source is, or it failed."""

    error: Exception | None


_Event = VerifyRequest | verification_pb2.StreamVerifyCredentialsResponse | _Ended | _Exhausted


class _Stream:
    """One ``RecognitionClient.stream``: from the source through one call, and then another, to outcomes."""

    def __init__(
        self,
        take_link: Callable[[float], Awaitable[_Link]],
        give_back: Callable[[_Link], Awaitable[None]],
        options: Options,
        source: Iterable[VerifyRequest] | AsyncIterable[VerifyRequest],
    ) -> None:
        self._take_link = take_link
        self._give_back = give_back
        self._patience = options.batch_deadline.total_seconds()
        self._is_exhausted = False
        self._is_answered = False
        self._flow = _rules.Flow(options.under_way)
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._room = asyncio.Semaphore(options.under_way)
        self._taking = asyncio.create_task(self._take(source))
        self._call: _OpenStream | None = None

    async def close(self) -> None:
        """End what is under way."""
        self._taking.cancel()
        if self._call is not None:
            if self._is_answered:
                self._call.finish()
                await asyncio.wait([self._call.reading], timeout=_FAREWELL_SECONDS)
            if not self._call.reading.done():
                self._call.cancel()
            await self._is_over(self._call)

    async def run(self) -> AsyncIterator[tuple[int, Outcome]]:
        waited = 0.0
        while not (self._flow.is_idle and self._is_exhausted):
            began = time.monotonic()
            outcomes, error = await self._next(self._patience - waited)
            # While nothing is under way, it is the source that takes its time.
            waited = 0.0 if self._flow.is_idle else waited + time.monotonic() - began
            for outcome in outcomes:
                yield outcome
                self._room.release()
                waited = 0.0
            if error is None and waited >= self._patience:
                error = DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, "the stream brought no answer in time")
            if error is not None:
                for outcome in self._flow.give_up(error):
                    yield outcome
                if not self._is_exhausted:
                    raise error
                return
            await self._send()
        self._is_answered = True

    async def _take(self, source: Iterable[VerifyRequest] | AsyncIterable[VerifyRequest]) -> None:
        requests = aiter(source) if isinstance(source, AsyncIterable) else aiter(_each(source))
        error: Exception | None = None
        try:
            while True:
                await self._room.acquire()
                self._events.put_nowait(await anext(requests))
        except StopAsyncIteration:
            pass
        except Exception as failed:  # noqa: BLE001 - whoever reads the outcomes is told of it
            error = failed
        self._events.put_nowait(_Exhausted(error))

    async def _send(self) -> None:
        while (message := self._flow.next_message(time.monotonic())) is not None:
            if self._call is None:
                self._call = _OpenStream(await self._take_link(time.monotonic()), self._events)
            self._call.send(message)

    async def _next(self, patience: float) -> tuple[Sequence[tuple[int, Outcome]], RecognitionError | None]:
        """Take in all that has come, or wait for something; gives outcomes, or why to give up."""
        held = self._flow.held_for(time.monotonic())
        timeout = None if self._flow.is_idle else max(0.0, patience if held is None else min(patience, held))
        outcomes: list[tuple[int, Outcome]] = []
        try:
            async with asyncio.timeout(timeout):
                event = await self._events.get()
        except TimeoutError:
            return (), None
        while True:
            match event:
                case VerifyRequest():
                    outcomes += self._flow.take(event)
                case _Exhausted():
                    self._is_exhausted = True
                    if event.error is not None:
                        raise event.error
                case _Ended():
                    await self._is_over(event.call)
                    self._call = None
                    given_up = self._flow.broke(event.error, time.monotonic())
                    if given_up is not None:
                        return outcomes, given_up
                case verification_pb2.StreamVerifyCredentialsResponse():
                    outcomes += self._flow.settle(event, time.monotonic())
            if self._events.empty():
                return outcomes, None
            event = self._events.get_nowait()

    async def _is_over(self, call: _OpenStream) -> None:
        await call.reading
        await self._give_back(call.link)


async def _each(requests: Iterable[VerifyRequest]) -> AsyncIterator[VerifyRequest]:
    for request in requests:
        yield request
