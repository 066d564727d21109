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
from recognition.errors import DamagedAnswer, RecognitionError, Unavailable, closed, from_rpc
from recognition.profile import Files, Material, Profile
from recognition.v1 import audit_pb2_grpc, verification_pb2, verification_pb2_grpc
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
        request = _wire.challenge_request(matter)
        return _wire.challenge(await self._call(lambda link: link.verification.CreateChallenge, request))

    async def verify(self, request: VerifyRequest) -> Decision:
        """Ask for the verdict on one presentation.

        Raises:
            RecognitionError: there is none.
        """
        asked = _wire.question(request)
        request_id = asked.request_id
        answer = await self._call(lambda link: link.verification.VerifyCredential, asked, request_id=request_id)
        return _wire.decision(answer, request_id, len(asked.predicates))

    async def verify_all(self, requests: Iterable[VerifyRequest]) -> list[Outcome]:
        """Ask for the verdicts on many, in batches, one after another.

        Returns:
            What became of each, in their order. Where a batch fails as a whole, each of its requests has failed: what
            had no answer may have been decided, and is asked again under the request id that the failure names.
        """
        asked = list(map(_wire.question_or_failure, requests))
        answered = [outcome for batch in _rules.batches(asked) for outcome in await self._verify_batch(batch)]
        return _rules.in_order(asked, answered)

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
                service, and the source has more. What was under way has been given as failed before: it may have been
                decided, and is asked again under the request id that the failure names. What the source raises is
                raised after the outcomes of what was taken from it.
        """
        stream = _Stream(self._take_link, self._give_back, self._options, requests, self._address)
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
        request = _wire.consent_request(matter, claims, lifetime)
        return _wire.consent(await self._call(lambda link: link.verification.RecordConsent, request, once=True))

    async def withdraw_consent(self, consent_id: str) -> datetime:
        """Put on record that the person withdrew it; gives since when."""
        request = _wire.withdrawal_request(consent_id)
        return _wire.withdrawal(await self._call(lambda link: link.verification.WithdrawConsent, request))

    async def explain(self, verification_id: str) -> Explanation:
        """Ask how an earlier decision came about."""
        request = _wire.explanation_request(verification_id)
        return _wire.explanation(await self._call(lambda link: link.verification.ExplainVerification, request))

    async def evidence(self, verification_id: str) -> bytes:
        """Fetch the evidence of an earlier decision: a file to keep, which ``recognition.evidence`` checks offline."""
        request = _wire.evidence_request(verification_id)
        return _wire.evidence(await self._call(lambda link: link.audit.GetEvidence, request))

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
        once: bool = False,
    ) -> _Answer:
        now = time.monotonic()
        ends = now + (self._seconds if deadline is None else deadline.total_seconds())
        tries = 0
        while True:
            tries += 1
            link = self._link
            if link is None or now >= self._files.look_at:
                link = await self._take_link(now, request_id)
            else:  # as nearly always; what the two coroutines do is cheaper here than in them
                link.users += 1
            try:
                answer = await method(link)(request, timeout=ends - now)
            except (grpc.RpcError, grpc.aio.UsageError, asyncio.CancelledError) as error:
                failed = self._failed(error, request_id)
                if failed is None:
                    raise
                seconds = None if once else _rules.pause(failed, tries, ends - time.monotonic())
                if seconds is None:
                    raise failed from error
            else:
                if answer is None:  # which is grpc.aio's way to say that it could not be read
                    raise DamagedAnswer("not a message of this contract", request_id=request_id)
                return answer
            finally:
                link.users -= 1
                if link is not self._link:
                    await self._leave(link)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), seconds)
            now = time.monotonic()

    def _failed(
        self, error: grpc.RpcError | grpc.aio.UsageError | asyncio.CancelledError, request_id: str
    ) -> RecognitionError | None:
        """Make the error of a call that failed; None: it is not the call that was ended, but who waits for it."""
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and (not self._closed.is_set() or (task and task.cancelling())):
            return None
        if self._closed.is_set() or not isinstance(error, grpc.RpcError):
            return closed(request_id)
        return from_rpc(error, request_id, address=self._address)

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

    async def _take_link(self, now: float, request_id: str = "") -> _Link:
        if not self._closed.is_set():
            old, has_changed = self._link, self._files.have_changed(now)
            if old is None or has_changed:
                self._link = self._connect(self._files.material)
                if old is not None:
                    await self._leave(old)
        link = self._link
        if link is None:
            raise closed(request_id)
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
    """One call of a stream: writes what it is given, and has a task that reads what comes.

    It reads on only while fewer answers than may be under way have not been taken in.
    """

    def __init__(self, link: _Link, events: asyncio.Queue[_Event], most: int, address: str) -> None:
        self._outbox: asyncio.Queue[verification_pb2.StreamVerifyCredentialsRequest | None] = asyncio.Queue()
        self._call = link.verification.StreamVerifyCredentials(self._messages())
        self._events = events
        self._most = most
        self._room = asyncio.Semaphore(most)
        self._address = address
        self.link = link
        self.reading = asyncio.create_task(self._read())

    def send(self, message: verification_pb2.StreamVerifyCredentialsRequest) -> None:
        self._outbox.put_nowait(message)

    def finish(self) -> None:
        """Send no more; what was sent is still answered."""
        self._outbox.put_nowait(None)

    def cancel(self) -> None:
        self._call.cancel()
        for _ in range(self._most):
            self._room.release()

    def took(self, answer: verification_pb2.StreamVerifyCredentialsResponse) -> None:
        """Make room for more answers."""
        for _ in range(self._weight(answer)):
            self._room.release()

    def _weight(self, answer: verification_pb2.StreamVerifyCredentialsResponse) -> int:
        return min(max(1, len(answer.results)), self._most)

    async def _messages(self) -> AsyncIterator[verification_pb2.StreamVerifyCredentialsRequest]:
        while (message := await self._outbox.get()) is not None:
            yield message

    async def _read(self) -> None:
        end: RecognitionError | None = None
        try:
            async for answer in self._call:
                weight = self._weight(answer)
                self._events.put_nowait(_Came(self, answer))
                for _ in range(weight):
                    await self._room.acquire()
        except grpc.aio.AioRpcError as error:
            end = from_rpc(error, address=self._address)
            if end.code is grpc.StatusCode.INTERNAL and _NOT_SENT in end.detail:
                end = Unavailable(grpc.StatusCode.UNAVAILABLE, "the stream broke while something was sent")
        except asyncio.CancelledError:
            if not self._call.cancelled():
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits for answers must hear of it
            # grpc.aio gives None in place of what it could not read.
            end = DamagedAnswer(f"{type(error).__name__} where an answer was read")
            self._call.cancel()
        finally:
            self.finish()
            self._events.put_nowait(_Ended(self, end))


@dataclass(frozen=True, slots=True)
class _Came:
    """Answers have come."""

    call: _OpenStream
    answer: verification_pb2.StreamVerifyCredentialsResponse


@dataclass(frozen=True, slots=True)
class _Ended:
    """A call is over."""

    call: _OpenStream
    error: RecognitionError | None


@dataclass(frozen=True, slots=True)
class _Taken:
    """The source gave something, which should be a request."""

    request: VerifyRequest


@dataclass(frozen=True, slots=True)
class _Exhausted:
    """The source is, or it failed."""

    error: Exception | None


_Event = _Taken | _Came | _Ended | _Exhausted


class _Stream:
    """One ``RecognitionClient.stream``: from the source through one call, and then another, to outcomes."""

    def __init__(
        self,
        take_link: Callable[[float], Awaitable[_Link]],
        give_back: Callable[[_Link], Awaitable[None]],
        options: Options,
        source: Iterable[VerifyRequest] | AsyncIterable[VerifyRequest],
        address: str,
    ) -> None:
        self._take_link = take_link
        self._give_back = give_back
        self._most = options.under_way
        self._address = address
        self._is_exhausted = False
        self._source_error: Exception | None = None
        self._is_answered = False
        self._flow = _rules.Flow(options)
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._room = asyncio.Semaphore(options.under_way)
        self._taking = asyncio.create_task(self._take(source))
        self._call: _OpenStream | None = None
        self._is_moving = False
        """Whether the call is only there for its last answers: there are other certificates."""

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
        error: RecognitionError | None = None
        while error is None and not (self._flow.is_idle and self._is_exhausted):
            outcomes, error = await self._next()
            for outcome in outcomes:
                yield outcome
                self._room.release()
            if error is None:
                error = await self._send()
        if error is None:
            self._is_answered = True
        else:
            self._taking.cancel()
            for outcome in (*self._taken_late(), *self._flow.give_up(error)):
                yield outcome
        if self._source_error is not None:
            raise self._source_error
        if error is not None and not self._is_exhausted:
            raise error

    async def _take(self, source: Iterable[VerifyRequest] | AsyncIterable[VerifyRequest]) -> None:
        error: Exception | None = None
        try:
            requests = aiter(source) if isinstance(source, AsyncIterable) else aiter(_each(source))
            while True:
                await self._room.acquire()
                self._events.put_nowait(_Taken(await anext(requests)))
        except StopAsyncIteration:
            pass
        except Exception as failed:  # noqa: BLE001 - whoever reads the outcomes is told of it
            error = failed
        self._events.put_nowait(_Exhausted(error))

    def _taken_late(self) -> Iterator[tuple[int, Outcome]]:
        """Take in what had been taken from the source when it was given up; gives what could not be sent of it."""
        while not self._events.empty():
            match self._events.get_nowait():
                case _Taken(request=request):
                    yield from self._flow.take(request)
                case _Exhausted(error=error):
                    self._is_exhausted, self._source_error = True, error
                case _:
                    pass

    async def _send(self) -> RecognitionError | None:
        """Send what may be sent; gives why nothing can be any more."""
        try:
            while not self._is_moving and self._flow.may_send(now := time.monotonic()):
                if self._call is None:
                    self._call = await self._open(now)
                elif await self._are_others(self._call, now):
                    self._call.finish()
                    self._is_moving = True
                    break
                message = self._flow.next_message(now)
                if message is not None:
                    self._call.send(message)
        except RecognitionError as error:
            return error
        return None

    async def _open(self, now: float) -> _OpenStream:
        link = await self._take_link(now)
        try:
            return _OpenStream(link, self._events, self._most, self._address)
        except grpc.aio.UsageError as error:  # the connection was closed in this moment
            await self._give_back(link)
            raise closed() from error

    async def _are_others(self, call: _OpenStream, now: float) -> bool:
        """Look whether new calls go over another connection, as they do when there are new certificates."""
        link = await self._take_link(now)
        await self._give_back(link)
        return link is not call.link

    async def _next(self) -> tuple[Sequence[tuple[int, Outcome]], RecognitionError | None]:
        """Take in all that has come, or wait for something; gives outcomes, or why to give up."""
        began = time.monotonic()
        outcomes: list[tuple[int, Outcome]] = []
        try:
            async with asyncio.timeout(None if self._flow.is_idle else self._flow.may_wait(began)):
                event = await self._events.get()
        except TimeoutError:
            return (), self._flow.waited(time.monotonic() - began)
        tired = self._flow.waited(time.monotonic() - began)
        is_settled = False
        while True:
            error: RecognitionError | None = None
            match event:
                case _Taken():
                    outcomes += self._flow.take(event.request)
                case _Exhausted():
                    self._is_exhausted, self._source_error = True, event.error
                case _Ended():
                    error = await self._has_ended(event)
                case _Came():
                    event.call.took(event.answer)
                    settled, error = self._flow.settle(event.answer, time.monotonic())
                    is_settled = is_settled or bool(settled)
                    outcomes += settled
            if error is not None:
                return outcomes, error
            if self._events.empty():
                return outcomes, None if is_settled else tired
            event = self._events.get_nowait()

    async def _has_ended(self, event: _Ended) -> RecognitionError | None:
        """Take in that the call is over; gives why there can be no other."""
        await self._is_over(event.call)
        self._call = None
        if self._is_moving:
            self._is_moving = False
            if event.error is None:
                self._flow.moved()
                return None
        return self._flow.broke(event.error, time.monotonic())

    async def _is_over(self, call: _OpenStream) -> None:
        await asyncio.wait([call.reading])
        await self._give_back(call.link)


async def _each(requests: Iterable[VerifyRequest]) -> AsyncIterator[VerifyRequest]:
    for request in requests:
        yield request
