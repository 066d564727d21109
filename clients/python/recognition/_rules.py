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
from typing import Any, Final

import grpc

from recognition import _wire
from recognition.errors import InvalidRequest, Overloaded, RecognitionError, Unavailable, for_request
from recognition.profile import Material
from recognition.v1 import verification_pb2
from recognition.verdicts import Failure, Outcome, VerifyRequest

MAX_BATCH_ITEMS: Final = 1_000
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
PACK_ITEMS: Final = 16
"""In one message of a stream."""
MAX_PACK_BYTES: Final = 1024 * 1024
MAX_ITEM_BYTES: Final = MAX_PACK_BYTES - 128
"""What cannot be sent on a stream is sent nowhere. 128 is for what stands around the item."""
ITEM_OVERHEAD: Final = 8
"""Bytes in front of an item of a batch, at most."""
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
    """Of every batch; and how long a stream may bring no answer while one is waited for."""
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
        # The answer to a full batch, with receipts and attributes.
        ("grpc.max_receive_message_length", 4 * MAX_BATCH_BYTES),
    )


def pause(error: RecognitionError, tries: int, remaining: float) -> float | None:
    """Say after how many seconds to try again; None: not at all.

    What was not reached is gRPC's to try again, by the service config.

    Args:
        error: why the last try failed.
        tries: how many there were.
        remaining: seconds until the deadline.
    """
    if not isinstance(error, Overloaded) or error.retry_after is None or tries >= MAX_TRIES:
        return None
    seconds = error.retry_after.total_seconds() * (1 + random.uniform(0, JITTER))  # noqa: S311 - to spread, not to hide
    return seconds if seconds < remaining else None


def too_large(asked: verification_pb2.VerifyCredentialRequest) -> Failure | None:
    """Refuse what would spoil the message that it stands in for all others."""
    if asked.ByteSize() <= MAX_ITEM_BYTES:
        return None
    error = InvalidRequest(
        grpc.StatusCode.INVALID_ARGUMENT,
        "presentation is too large to be sent",
        reason="INVALID_REQUEST",
        field="presentation",
        request_id=asked.request_id,
    )
    return Failure(error)


def in_order(refused: Sequence[Failure | None], answered: Iterable[Outcome]) -> list[Outcome]:
    """Put the outcomes of what was asked between those of what was not."""
    answers = iter(answered)
    return [next(answers) if each is None else each for each in refused]


def batches(
    asked: Iterable[verification_pb2.VerifyCredentialRequest],
) -> Iterator[Sequence[verification_pb2.VerifyCredentialRequest]]:
    """Cut requests into batches that a gateway takes."""
    batch: list[verification_pb2.VerifyCredentialRequest] = []
    size = 0
    for each in asked:
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

    def __init__(self, limit: int) -> None:
        """Begin with none; ``limit`` is how many there may be."""
        self._limit = limit
        self._window = limit
        """How many may wait for their answer: fewer for a while after the gateway had no room, or the stream broke."""
        self._waiting: deque[tuple[int, verification_pb2.VerifyCredentialRequest]] = deque()
        self._sent: dict[int, verification_pb2.VerifyCredentialRequest] = {}
        self._taken = 0
        self._not_before = 0.0
        self._failures = 0

    @property
    def has_room(self) -> bool:
        """Whether another request may be taken."""
        return len(self._waiting) + len(self._sent) < self._limit

    @property
    def is_idle(self) -> bool:
        """Whether all that was taken has its outcome."""
        return not self._waiting and not self._sent

    def take(self, request: VerifyRequest) -> Sequence[tuple[int, Outcome]]:
        """Take one more; gives its outcome if that is known already."""
        index, self._taken = self._taken, self._taken + 1
        asked = _wire.question(request)
        refused = too_large(asked)
        if refused is not None:
            return ((index, refused),)
        self._waiting.append((index, asked))
        return ()

    def next_message(self, now: float) -> verification_pb2.StreamVerifyCredentialsRequest | None:
        """Give what is to be sent now; None: nothing."""
        if now < self._not_before or not self._waiting or len(self._sent) >= self._window:
            return None
        message = verification_pb2.StreamVerifyCredentialsRequest()
        size = 0
        while self._waiting and len(message.items) < PACK_ITEMS:
            index, asked = self._waiting[0]
            size += asked.ByteSize() + MAX_PACK_BYTES - MAX_ITEM_BYTES
            if message.items and size > MAX_PACK_BYTES:
                break
            self._waiting.popleft()
            self._sent[index] = asked
            message.items.add(item_id=str(index), request=asked)
        return message

    def held_for(self, now: float) -> float | None:
        """Say for how many seconds nothing may be sent; None: what waits is not held."""
        return self._not_before - now if self._waiting and now < self._not_before else None

    def settle(
        self, answer: verification_pb2.StreamVerifyCredentialsResponse, now: float
    ) -> Sequence[tuple[int, Outcome]]:
        """Take in answers; gives the outcomes. What the gateway has no room for now is to be sent again later."""
        outcomes: list[tuple[int, Outcome]] = []
        refused: list[tuple[int, verification_pb2.VerifyCredentialRequest]] = []
        for result in answer.results:
            index = int(result.item_id) if result.item_id.isdecimal() else -1
            asked = self._sent.pop(index, None)
            if asked is None:
                continue  # nothing that waits for an answer, so nothing that this could be one to
            outcome = _wire.outcome(result, asked)
            if isinstance(outcome, Failure) and isinstance(outcome.error, Overloaded) and outcome.error.retry_after:
                refused.append((index, asked))
                self._hold(outcome.error.retry_after.total_seconds(), now)
            else:
                outcomes.append((index, outcome))
        if refused:
            self._waiting.extendleft(reversed(refused))
            self._window = PACK_ITEMS
        if outcomes:
            self._failures = 0
            if not refused:
                self._window = min(self._limit, self._window + len(outcomes))
        return outcomes

    def broke(self, error: RecognitionError | None, now: float) -> RecognitionError | None:
        """Take in that the stream ended; what has no answer is to be sent on another one.

        Args:
            error: why; None: the gateway ended it as if all were done.
            now: the time.

        Returns:
            Why no other may be opened; None: one may.
        """
        self._waiting.extendleft(sorted(self._sent.items(), reverse=True))
        self._sent.clear()
        seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._failures)
        if isinstance(error, Overloaded) and error.retry_after is not None:
            seconds = error.retry_after.total_seconds()
        elif error is not None and not isinstance(error, Unavailable):
            return error
        self._window = PACK_ITEMS
        self._failures = min(self._failures + 1, 10)  # 2 to that is far beyond the longest pause
        self._hold(seconds, now)
        return None

    def give_up(self, error: RecognitionError) -> Sequence[tuple[int, Outcome]]:
        """Give what was taken and has no answer as failed."""
        left = sorted((*self._waiting, *self._sent.items()))
        self._waiting.clear()
        self._sent.clear()
        return [(index, Failure(for_request(error, asked.request_id))) for index, asked in left]

    def _hold(self, seconds: float, now: float) -> None:
        spread = 1 + random.uniform(0, JITTER)  # noqa: S311 - as above
        self._not_before = max(self._not_before, now + seconds * spread)
