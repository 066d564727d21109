"""What the blocking client and the one for asyncio do alike.

Which calls are tried again, how batches are cut, what is under way on a stream. Nothing in here waits or sends.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from operator import itemgetter
from typing import Any, Final

import grpc

from recognition import _wire
from recognition.errors import (
    DamagedAnswer,
    DeadlineExceeded,
    Overloaded,
    RecognitionError,
    Unavailable,
    for_request,
)
from recognition.profile import Material
from recognition.v1 import verification_pb2
from recognition.verdicts import Failure, Outcome, VerifyRequest

MAX_BATCH_ITEMS: Final = 1_000
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
PACK_ITEMS: Final = 16
"""In one message of a stream."""
MAX_PACK_BYTES: Final = 1024 * 1024
ITEM_OVERHEAD: Final = 128
"""Bytes that stand around an item of a batch or a stream, at most."""
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Room for the answer to a full batch, with receipts and attributes."""
MAX_STRAYS: Final = 1_000
"""Answers on one stream to what does not wait for any. So many are not a slip."""
MAX_WAIT_SECONDS: Final = 3_600.0
"""A clock of the platform may not take more at once."""
MAX_TRIES: Final = 3
"""Of a call that the gateway has no room for."""
JITTER: Final = 0.2
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long a client waits, and how much it has under way."""

    deadline: timedelta = timedelta(seconds=10)
    """Of every call but batches, all tries of it together."""
    batch_deadline: timedelta = timedelta(seconds=60)
    """Of every batch; and how long a stream may bring no answer while one is waited for, whatever it tries."""
    under_way: int = 256
    """How many requests a stream takes from its source and has not yet given the outcome of, at most."""

    def __post_init__(self) -> None:
        if self.deadline <= timedelta(0) or self.batch_deadline <= timedelta(0) or self.under_way < 1:
            raise ValueError("deadlines must be positive, and at least one request must be under way")


def credentials(material: Material) -> grpc.ChannelCredentials:
    """Make what a channel proves itself by: TLS 1.2 at least, the server's name verified, no way around it."""
    return grpc.ssl_channel_credentials(material.ca, material.private_key, material.certificate)


def channel_options() -> Sequence[tuple[str, Any]]:
    """Give the settings of every channel."""
    config = resources.files("recognition").joinpath("service-config.json").read_text("utf-8")
    return (
        ("grpc.service_config", config),
        ("grpc.service_config_disable_resolution", 1),
        # New certificates are for a new connection, so two channels must not share one.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 0),
        # A gateway that was away is found again in two seconds, and not in gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # A gateway is in the same house; what the environment says of proxies is for the way out of it.
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    )


def pause(error: RecognitionError, tries: int, remaining: float) -> float | None:
    """Say after how many seconds to try again; None: not at all.

    What was not reached is gRPC's to try again, by the service config.

    Args:
        error: why the last try failed.
        tries: how many there were.
        remaining: seconds until the deadline.
    """
    if not isinstance(error, Overloaded) or tries >= MAX_TRIES:
        return None
    seconds = _spread(_delay(error))
    return seconds if seconds < remaining else None


def in_order(
    asked: Sequence[verification_pb2.VerifyCredentialRequest | Failure], answered: Iterable[Outcome]
) -> list[Outcome]:
    """Put the outcomes of what was asked between those of what could not be."""
    answers = iter(answered)
    return [each if isinstance(each, Failure) else next(answers) for each in asked]


def batches(
    asked: Iterable[verification_pb2.VerifyCredentialRequest | Failure],
) -> Iterator[Sequence[verification_pb2.VerifyCredentialRequest]]:
    """Cut what can be asked into batches that a gateway takes."""
    batch: list[verification_pb2.VerifyCredentialRequest] = []
    size = 0
    for each in asked:
        if isinstance(each, Failure):
            continue
        needed = each.ByteSize() + ITEM_OVERHEAD
        if batch and (len(batch) == MAX_BATCH_ITEMS or size + needed > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += needed
    if batch:
        yield batch


def batch_outcomes(
    batch: Sequence[verification_pb2.VerifyCredentialRequest],
    results: Sequence[verification_pb2.VerificationResult],
) -> Iterator[Outcome]:
    """Read the results of a batch; where there are too few or too many, nobody knows whose they are."""
    if len(results) != len(batch):
        results = [verification_pb2.VerificationResult()] * len(batch)
    return map(_wire.outcome, results, batch)


def all_failed(batch: Sequence[verification_pb2.VerifyCredentialRequest], error: RecognitionError) -> Iterator[Outcome]:
    """Say of each of a batch that it failed."""
    return (Failure(for_request(error, each.request_id)) for each in batch)


class Flow:
    """The requests of one stream: those that wait to be sent, and those that wait for their answer."""

    def __init__(self, options: Options) -> None:
        """Begin with none."""
        self._limit = options.under_way
        self._patience = options.batch_deadline.total_seconds()
        self._window = self._limit
        """How many may wait for their answer: fewer for a while after the gateway had no room, or the stream broke."""
        self._waiting: deque[_Item] = deque()
        self._sent: dict[str, _Item] = {}
        """By the name that an item has on the stream."""
        self._taken = 0
        self._not_before = 0.0
        self._failures = 0
        self._strays = 0
        self._waited = 0.0
        self._heard: RecognitionError | None = None
        """What was heard last in place of an answer."""

    @property
    def has_room(self) -> bool:
        """Whether another request may be taken."""
        return len(self._waiting) + len(self._sent) < self._limit

    @property
    def is_idle(self) -> bool:
        """Whether all that was taken has its outcome."""
        return not self._waiting and not self._sent

    @property
    def is_unanswered(self) -> bool:
        """Whether something was sent that has no answer."""
        return bool(self._sent)

    def take(self, request: VerifyRequest) -> Sequence[tuple[int, Outcome]]:
        """Take one more; gives its outcome if that is known already."""
        index, self._taken = self._taken, self._taken + 1
        asked = _wire.question_or_failure(request)
        if isinstance(asked, Failure):
            return ((index, asked),)
        self._waiting.append((index, asked))
        return ()

    def next_message(self, now: float) -> verification_pb2.StreamVerifyCredentialsRequest | None:
        """Give what is to be sent now; None: nothing."""
        if not self.may_send(now):
            return None
        message = verification_pb2.StreamVerifyCredentialsRequest()
        size = 0
        while self._waiting and len(message.items) < PACK_ITEMS:
            index, asked = self._waiting[0]
            size += asked.ByteSize() + ITEM_OVERHEAD
            if message.items and size > MAX_PACK_BYTES:
                break
            name = str(index)
            self._sent[name] = self._waiting.popleft()
            message.items.add(item_id=name, request=asked)
        return message

    def may_send(self, now: float) -> bool:
        """Say whether something is to be sent now."""
        return bool(self._waiting) and now >= self._not_before and len(self._sent) < self._window

    def may_wait(self, now: float) -> float:
        """Say for how many seconds nothing needs to be done but to wait for an answer."""
        left = max(0.0, self._patience - self._waited)
        if self._waiting and now < self._not_before:
            left = min(left, self._not_before - now)
        return min(left, MAX_WAIT_SECONDS)

    def waited(self, seconds: float) -> RecognitionError | None:
        """Take in that there was nothing to do for so long; gives why to give up, where that was too long."""
        # While nothing is under way, it is the source that takes its time.
        self._waited = 0.0 if self.is_idle else self._waited + seconds
        if self._waited < self._patience:
            return None
        silent = DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, "the stream brought no answer in time")
        return self._heard or silent

    def settle(
        self, answer: verification_pb2.StreamVerifyCredentialsResponse, now: float
    ) -> tuple[Sequence[tuple[int, Outcome]], RecognitionError | None]:
        """Take in answers; gives the outcomes, and why to give up, if there is a reason to.

        What the gateway has no room for now is to be sent again later.
        """
        outcomes: list[tuple[int, Outcome]] = []
        refused: list[tuple[_Item, Failure, Overloaded]] = []
        for result in answer.results:
            item = self._sent.pop(result.item_id, None)
            if item is None:
                self._strays += 1
                continue
            match outcome := _wire.outcome(result, item[1]):
                case Failure(error=Overloaded() as error):
                    refused.append((item, outcome, error))
                case _:
                    outcomes.append((item[0], outcome))
        if outcomes:
            self._failures, self._waited, self._heard = 0, 0.0, None
        if refused:
            self._window = PACK_ITEMS
            outcomes += self._put_off(refused, now)
        elif outcomes:
            self._window = min(self._limit, self._window + len(outcomes))
        if not answer.results:
            self._strays += 1
        if self._strays > MAX_STRAYS:
            return outcomes, DamagedAnswer("a stream of answers to what was not asked")
        return outcomes, None

    def _put_off(
        self, refused: Sequence[tuple[_Item, Failure, Overloaded]], now: float
    ) -> Iterator[tuple[int, Outcome]]:
        again: list[_Item] = []
        for item, outcome, error in refused:
            self._heard = error
            if _delay(error) > self._patience - self._waited:
                yield item[0], outcome
            else:
                again.append(item)
                self._hold(_delay(error), now)
        self._waiting.extendleft(reversed(again))

    def broke(self, error: RecognitionError | None, now: float) -> RecognitionError | None:
        """Take in that the stream ended; what has no answer is to be sent on another one.

        Args:
            error: why; None: the gateway ended it as if all were done.
            now: the time.

        Returns:
            Why no other may be opened; None: one may.
        """
        self._put_back()
        self._heard = error or self._heard
        seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._failures)
        if isinstance(error, Overloaded):
            seconds = max(seconds, _delay(error))
            if seconds > self._patience - self._waited:
                return error
        elif error is not None and not isinstance(error, Unavailable):
            return error
        self._window = PACK_ITEMS
        self._failures = min(self._failures + 1, 10)  # 2 to that is far beyond the longest pause
        self._hold(seconds, now)
        return None

    def moved(self) -> None:
        """Take in that the stream ended because it was left for another one."""
        self._put_back()

    def give_up(self, error: RecognitionError) -> Sequence[tuple[int, Outcome]]:
        """Give what was taken and has no answer as failed."""
        self._put_back()
        left = list(self._waiting)
        self._waiting.clear()
        return [(index, Failure(for_request(error, asked.request_id))) for index, asked in left]

    def _put_back(self) -> None:
        self._waiting.extendleft(sorted(self._sent.values(), key=itemgetter(0), reverse=True))
        self._sent.clear()
        self._strays = 0

    def _hold(self, seconds: float, now: float) -> None:
        self._not_before = max(self._not_before, now + _spread(seconds))


_Item = tuple[int, verification_pb2.VerifyCredentialRequest]


def _delay(error: Overloaded) -> float:
    """Say after how many seconds there may be room."""
    seconds = 0.0 if error.retry_after is None else error.retry_after.total_seconds()
    return seconds if seconds > 0 else _FIRST_PAUSE


def _spread(seconds: float) -> float:
    return seconds * (1 + random.uniform(0, JITTER))  # noqa: S311 - to spread, not to hide
