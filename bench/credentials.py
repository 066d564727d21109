"""What is presented: credentials and assertions of Shanghai's, each distinct and never seen.

Shanghai's own issuer makes one of each; its claims are the pattern for all others, which are signed here with its key,
on all cores, before anything is measured. An assertion lives for five minutes, so they are made just before they are
used. Challenges are made here too, with the secret of the gateway that will check them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Final, Self

from recognition.v1 import verification_pb2

from bench.http2 import STATUS_OK, Target, framed, messages
from bench.load import Flow, LoadError
from gateway.core.challenge import make_nonce
from gateway.core.credential import ASSERTION_TYPE, CREDENTIAL_TYPE
from gateway.core.encoding import b64url_encode
from gateway.core.jose import SoftwareKey, generate_key, load_pkcs8, sign_compact
from gateway.core.key_binding import make_key_binding
from gateway.core.sd_jwt import HashAlgorithm, digest, issue

HOLDERS: Final = 500
"""People's keys; each credential is one of theirs, in turn."""
PER_TASK: Final = 250
"""How many are made in one piece."""
ASSERTION_LIFETIME: Final = timedelta(minutes=5)
CREDENTIAL_LIFETIME: Final = timedelta(days=30)
CHALLENGE_LIFETIME: Final = timedelta(minutes=5)
VERIFY: Final = b"/recognition.v1.VerificationService/VerifyCredential"
BATCH: Final = b"/recognition.v1.VerificationService/BatchVerifyCredentials"
STREAM: Final = b"/recognition.v1.VerificationService/StreamVerifyCredentials"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """A relying service: how it reaches its gateway, what it asks for, and how its challenges are made."""

    target: Target
    service: str
    """Its identity, and so the audience."""
    matter: str
    nonce_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What all credentials and assertions are made after."""

    issuer_key: bytes = field(repr=False)
    """PKCS#8."""
    assertion: Mapping[str, Any]
    """Claims of an assertion, but for who, when, to whom."""
    credential: Mapping[str, Any]
    """Claims of a credential, all in clear, but for who, when, and the place in the status list."""
    status_list: str
    status_places: int


@dataclass(frozen=True, slots=True)
class Held:
    """A credential as its holder has it."""

    sd_jwt: str
    holder: int
    """Whose key it is bound to."""


class Mint:
    """Signs. Use it as a context manager."""

    def __init__(self, pattern: Pattern, holders: int = HOLDERS, processes: int | None = None) -> None:
        """Make the holders' keys, and start the processes that sign.

        Args:
            pattern: what all are made after.
            holders: how many people there are.
            processes: how many sign beside each other; None: one on each core; 0: this one does.
        """
        keys = [generate_key().to_pkcs8() for _ in range(holders)]
        self._press = _Press(pattern, keys) if processes == 0 else None
        self._pool: ProcessPoolExecutor | None = None
        self._holders = holders
        self._issued = 0
        if self._press is None:
            cores = sorted(os.sched_getaffinity(0))
            self._pool = ProcessPoolExecutor(
                processes or len(cores), get_context("spawn"), initializer=_start, initargs=(pattern, keys, cores)
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def assertions(self, counter: Counter, count: int) -> list[bytes]:
        """Make requests, each with an assertion for this counter."""
        return self._each(_assertions, [(counter, size) for size in _sizes(count)])

    def credentials(self, count: int) -> list[Held]:
        """Issue credentials with ten attributes."""
        tasks = []
        for size in _sizes(count):
            tasks.append(([(self._issued + number) % self._holders for number in range(size)],))
            self._issued += size
        return self._each(_credentials, tasks)

    def presented(self, counter: Counter, held: Sequence[Held]) -> list[bytes]:
        """Make requests, each with one of these credentials, answering a challenge of its own."""
        parts = [held[at : at + PER_TASK] for at in range(0, len(held), PER_TASK)]
        return self._each(_presented, [(counter, part) for part in parts])

    def _each(self, make: Any, tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
        if self._press is not None:
            done: Iterable[list[Any]] = (make(*task, press=self._press) for task in tasks)
        else:
            assert self._pool is not None
            done = [each.result() for each in [self._pool.submit(make, *task) for task in tasks]]
        return [item for part in done for item in part]


def _sizes(count: int) -> list[int]:
    return [min(PER_TASK, count - at) for at in range(0, count, PER_TASK)]


# -- in each of the processes that sign -------------------------------------------------------------------------------


class _Press:
    def __init__(self, pattern: Pattern, holders: Sequence[bytes]) -> None:
        self.pattern = pattern
        self.issuer: SoftwareKey = load_pkcs8(pattern.issuer_key)
        self.holders = [load_pkcs8(each) for each in holders]


_PRESS: list[_Press] = []


def _start(pattern: Pattern, holders: Sequence[bytes], cores: Sequence[int]) -> None:
    os.sched_setaffinity(0, cores)
    _PRESS[:] = [_Press(pattern, holders)]


def _assertions(counter: Counter, count: int, press: _Press | None = None) -> list[bytes]:
    press = press or _PRESS[0]
    now = int(datetime.now(UTC).timestamp())
    times = {"iat": now, "auth_time": now, "exp": now + int(ASSERTION_LIFETIME.total_seconds())}
    made = []
    for _ in range(count):
        who = {"sub": f"v1.{_random(32)}", "aud": counter.service, "jti": _random(16)}
        token = sign_compact(ASSERTION_TYPE, {**press.pattern.assertion, **times, **who}, press.issuer)
        request = verification_pb2.VerifyCredentialRequest(matter=counter.matter, presentation=token)
        made.append(request.SerializeToString())
    return made


def _credentials(holders: Sequence[int], press: _Press | None = None) -> list[Held]:
    press = press or _PRESS[0]
    pattern, now = press.pattern, datetime.now(UTC)
    times = {
        "iat": int(now.timestamp()),
        "auth_time": int(now.timestamp()),
        "exp": int((now + CREDENTIAL_LIFETIME).timestamp()),
    }
    paths = [("verified_claims", "claims", name) for name in pattern.credential["verified_claims"]["claims"]]
    made = []
    for holder in holders:
        jwk = press.holders[holder].public.jwk
        claims = {
            **pattern.credential,
            **times,
            "sub": f"v1.{_random(32)}",
            "cnf": {"jwk": {name: jwk[name] for name in ("kty", "crv", "x", "y")}},
            "status": {"status_list": {"idx": _index(pattern.status_places), "uri": pattern.status_list}},
        }
        salts = iter([_random(16) for _ in paths])
        made.append(Held(issue(claims, paths, salts=salts, signer=press.issuer, typ=CREDENTIAL_TYPE), holder))
    return made


def _presented(counter: Counter, held: Sequence[Held], press: _Press | None = None) -> list[bytes]:
    press = press or _PRESS[0]
    now = datetime.now(UTC)
    made = []
    for each in held:
        nonce = make_nonce(
            counter.nonce_key,
            service=counter.service,
            matter=counter.matter,
            expires_at=now + CHALLENGE_LIFETIME,
            random=os.urandom(16),
        )
        proof = make_key_binding(
            digest(each.sd_jwt, HashAlgorithm.SHA_256),
            signer=press.holders[each.holder],
            audience=counter.service,
            nonce=nonce,
            issued_at=now,
        )
        request = verification_pb2.VerifyCredentialRequest(
            matter=counter.matter, presentation=each.sd_jwt + proof, nonce=nonce
        )
        made.append(request.SerializeToString())
    return made


def _random(size: int) -> str:
    return b64url_encode(os.urandom(size))


def _index(places: int) -> int:
    return int.from_bytes(os.urandom(4)) % places


# -- in messages, and out of them -------------------------------------------------------------------------------------


def singles(requests: Iterable[bytes]) -> list[bytes]:
    """Put each request into a message of its own."""
    return [framed(each) for each in requests]


def batches(requests: Sequence[bytes], size: int) -> list[bytes]:
    """Put so many requests at a time into a message."""
    made = []
    for at in range(0, len(requests), size):
        batch = verification_pb2.BatchVerifyCredentialsRequest()
        for each in requests[at : at + size]:
            batch.items.add().MergeFromString(each)
        made.append(framed(batch.SerializeToString()))
    return made


def stream_messages(requests: Sequence[bytes], size: int) -> list[bytes]:
    """Put so many requests at a time into a message of a stream."""
    made = []
    for at in range(0, len(requests), size):
        message = verification_pb2.StreamVerifyCredentialsRequest()
        for number, each in enumerate(requests[at : at + size], at):
            item = message.items.add(item_id=str(number))
            item.request.MergeFromString(each)
        made.append(framed(message.SerializeToString()))
    return made


def accepted_singles(flow: Flow) -> int:
    """Count what was accepted of single calls."""
    return sum(
        verification_pb2.VerifyCredentialResponse.FromString(message).HasField("accepted")
        for reply in flow.replies
        if reply.status == STATUS_OK
        for message in messages(reply.data)
    )


def accepted_batches(flow: Flow) -> int:
    """Count what was accepted of batches."""
    return sum(
        result.response.HasField("accepted")
        for reply in flow.replies
        if reply.status == STATUS_OK
        for message in messages(reply.data)
        for result in verification_pb2.BatchVerifyCredentialsResponse.FromString(message).results
    )


def accepted_streamed(data: bytes) -> int:
    """Count what was accepted on a stream."""
    return sum(
        result.response.HasField("accepted")
        for message in messages(data)
        for result in verification_pb2.StreamVerifyCredentialsResponse.FromString(message).results
    )


def check(flow: Flow) -> None:
    """See to it that every call was answered.

    Raises:
        LoadError: some ended otherwise.
    """
    if set(flow.statuses) != {STATUS_OK}:
        raise LoadError(f"calls ended with {dict(flow.statuses)}")


def require(accepted: int, presented: int) -> None:
    """See to it that everything was accepted: what is turned away costs less, and would be measured instead.

    Raises:
        LoadError: something was not.
    """
    if accepted != presented:
        raise LoadError(f"only {accepted} of {presented} presentations were accepted")
