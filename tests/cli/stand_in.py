"""A gateway's admin listener that answers what it is told to, over real mutual TLS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from recognition.v1 import anchor_pb2_grpc, keys_pb2_grpc

Refusal = Callable[[grpc.ServicerContext], NoReturn]


@dataclass
class StandIn:
    """Answers each RPC with the messages put up for it, the last of them again and again; remembers who asked what."""

    answers: dict[str, list[Message | Refusal]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def answer(self, rpc: str, *answers: Message | Refusal) -> None:
        self.answers[rpc] = list(answers)

    def requests(self, rpc: str) -> list[Any]:
        return [request for name, request in self.asked if name == rpc]

    def __getattr__(self, rpc: str) -> Any:
        """Give the handler of any RPC: all are answered alike."""

        def give(request: Message, context: grpc.ServicerContext) -> Any:
            self.asked.append((rpc, request))
            answers = self.answers[rpc]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            return answer if isinstance(answer, Message) else answer(context)

        return give


@contextmanager
def serving(stand_in: StandIn, tls: Path) -> Iterator[int]:
    """Serve with a province's certificate; give the port."""
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    keys_pb2_grpc.add_KeyServiceServicer_to_server(cast("Any", stand_in), server)
    anchor_pb2_grpc.add_AnchorServiceServicer_to_server(cast("Any", stand_in), server)
    credentials = grpc.ssl_server_credentials(
        [((tls / "server.key").read_bytes(), (tls / "server.pem").read_bytes())],
        root_certificates=(tls / "ca.pem").read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield port
    server.stop(None).wait()


def refusing(code: int, reason: str, message: str, *details: Message) -> Refusal:
    """Refuse as the gateway does."""

    def refuse(context: grpc.ServicerContext) -> NoReturn:
        packed = []
        for detail in (error_details_pb2.ErrorInfo(reason=reason, domain="recognition.v1"), *details):
            any_message = any_pb2.Any()
            any_message.Pack(detail)
            packed.append(any_message)
        context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=code, message=message, details=packed)))
        raise AssertionError

    return refuse


def wrong_state(message: str, *blockers: str) -> Refusal:
    """Refuse what cannot be done yet."""
    violations = [
        error_details_pb2.PreconditionFailure.Violation(type="BLOCKED", subject="key", description=each)
        for each in blockers
    ]
    failure = error_details_pb2.PreconditionFailure(violations=violations)
    return refusing(code_pb2.FAILED_PRECONDITION, "WRONG_STATE", message, failure)
