"""A gateway that answers what a test tells it to, over mutual TLS, and the Python client in both of its forms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from recognition import aio, client
from recognition.profile import Profile
from recognition.v1 import audit_pb2_grpc, verification_pb2, verification_pb2_grpc

from gateway.tls import create_ca, issue_certificate

NOW = datetime.now(UTC)  # noqa: TID251 - TLS goes by the machine's clock
DAY = timedelta(days=1)
GATEWAY = "https://gateway.ah.mrg.example"

Behaviour = Callable[[Any, grpc.ServicerContext], Any]


class Authority:
    """A CA, and what it certifies."""

    def __init__(self, name: str = "tests") -> None:
        self.certificate, self._key = create_ca(name, NOW, DAY)

    def issue(self, role: str = "", *, host: str = "localhost") -> tuple[bytes, bytes]:
        """Make a certificate and its key: a service's, or the gateway's where no role is given."""
        return issue_certificate(
            self.certificate,
            self._key,
            identity_uri=f"{GATEWAY}/services/{role}" if role else GATEWAY,
            dns_names=() if role else (host,),
            ip_addresses=(),
            server=not role,
            client=bool(role),
            now=NOW,
            lifetime=DAY,
        )

    def profile(self, folder: Path, address: str, role: str = "hukou") -> Profile:
        """Write the files of a client."""
        profile = Profile(
            address=address,
            ca=folder / "ca.pem",
            certificate=folder / f"{role}.pem",
            private_key=folder / f"{role}.key",
        )
        profile.ca.write_bytes(self.certificate)
        self.renew(profile, role)
        return profile

    def renew(self, profile: Profile, role: str = "hukou") -> bytes:
        """Replace the certificate and the key of a client; gives the certificate."""
        certificate, key = self.issue(role)
        for file, content in ((profile.certificate, certificate), (profile.private_key, key)):
            draft = file.with_suffix(".new")
            draft.write_bytes(content)
            draft.replace(file)
        return certificate


class Scripted(verification_pb2_grpc.VerificationServiceServicer, audit_pb2_grpc.AuditServiceServicer):
    """Answers by what a test put in place of a method."""


for _method in (
    "CreateChallenge",
    "VerifyCredential",
    "BatchVerifyCredentials",
    "StreamVerifyCredentials",
    "ExplainVerification",
    "RecordConsent",
    "WithdrawConsent",
    "GetEvidence",
):

    def _answer(self: Any, request: Any, context: grpc.ServicerContext, _name: str = _method) -> Any:
        return self.behaviours[_name](request, context)

    setattr(Scripted, _method, _answer)


class FakeGateway:
    """Serves until it is stopped."""

    def __init__(self, authority: Authority, *, host: str = "localhost", handlers: Any = None) -> None:
        self._pool = ThreadPoolExecutor(16)
        self._server = grpc.server(self._pool)
        self.behaviours: dict[str, Behaviour] = {}
        make: Any = Scripted
        servicer = make()
        servicer.behaviours = self.behaviours
        if handlers is None:
            verification_pb2_grpc.add_VerificationServiceServicer_to_server(servicer, self._server)
            audit_pb2_grpc.add_AuditServiceServicer_to_server(servicer, self._server)
        else:
            self._server.add_generic_rpc_handlers(handlers)
        certificate, key = authority.issue(host=host)
        credentials = grpc.ssl_server_credentials(
            [(key, certificate)], root_certificates=authority.certificate, require_client_auth=True
        )
        self.address = f"localhost:{self._server.add_secure_port('localhost:0', credentials)}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()
        self._pool.shutdown()


@contextmanager
def serving(authority: Authority, **options: Any) -> Iterator[FakeGateway]:
    gateway = FakeGateway(authority, **options)
    try:
        yield gateway
    finally:
        gateway.stop()


def fail(context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, *details: Message) -> None:
    """End a call as the gateway does: with rich details."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="recognition.v1")
    packed = []
    for detail in (info, *details):
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    number: Any = code.value[0]
    context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=number, message="because", details=packed)))


def retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def accepted(request_id: str = "") -> verification_pb2.VerifyCredentialResponse:
    answer = verification_pb2.VerifyCredentialResponse(
        verification_id=f"v-{request_id}", next_step=verification_pb2.NEXT_STEP_PROCEED
    )
    answer.verify_time.FromDatetime(NOW)
    answer.accepted.subject = "v1.subject"
    answer.accepted.issuer = "https://issuer.sh.mrg.example"
    answer.accepted.credential_type = "urn:yrd:credential:resident-id:1"
    assurance = answer.accepted.assurance
    assurance.identity = assurance.authenticator = assurance.federation = 2
    answer.accepted.erase_time.FromDatetime(NOW + DAY)
    return answer


class Blocking:
    """The blocking client."""

    def __init__(self, profile: Profile, options: client.Options | None = None) -> None:
        self._client = client.RecognitionClient(profile, options)

    def ask(self, method: str, *arguments: Any) -> Any:
        return getattr(self._client, method)(*arguments)

    def stream(self, requests: Iterable[client.VerifyRequest]) -> Iterator[tuple[int, Any]]:
        return self._client.stream(requests)

    def close(self) -> None:
        self._client.close()


class Awaited:
    """The client for asyncio, asked by a program that is not asynchronous."""

    def __init__(self, profile: Profile, options: client.Options | None = None) -> None:
        self._runner = asyncio.Runner()
        self._client = aio.RecognitionClient(profile, options)

    def ask(self, method: str, *arguments: Any) -> Any:
        return self._runner.run(getattr(self._client, method)(*arguments))

    def stream(self, requests: Iterable[client.VerifyRequest]) -> Iterator[tuple[int, Any]]:
        outcomes: Any = self._client.stream(requests)
        try:
            with suppress(StopAsyncIteration):
                while True:
                    yield self._runner.run(_next(outcomes))
        finally:
            self._runner.run(outcomes.aclose())

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


async def _next(outcomes: Any) -> Any:
    return await anext(outcomes)


Form = type[Blocking] | type[Awaited]
FORMS: tuple[Form, ...] = (Blocking, Awaited)
