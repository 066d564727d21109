"""The private way from the workers of a gateway to its front.

All processes of one supervisor serve verification on one port, and a caller cannot choose which. What only one of them
can do, the front, is handed on to it: issuance, what asks other provinces, and a refresh for an unknown key. Rules that
live here:

* A call is handed on as it came, with the certificate that its caller has proved to hold, and answered as it was
  answered. Whose the certificate is and what they may do, the front judges as for its own callers; only that TLS has
  seen the key that belongs to it, it takes the worker's word for.
* So nobody but a worker may speak on this way. It is a socket in a folder that only the gateway's own user can enter.
  TLS has no part in it, and no address of any network leads there.
* Callers do not notice that the front is replaced: their calls wait for the next one, as long as their deadlines let
  them. Those that wait are bounded, so that they leave threads for verification.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, cast

import grpc
from grpc_status import rpc_status
from recognition.v1 import audit_pb2_grpc, issuance_pb2_grpc

from gateway.clock import World
from gateway.core.reasons import Indeterminate, Overloaded, Reason, Unavailable
from gateway.core.receipt import MAX_BUNDLE_BYTES
from gateway.guard import Guard, certificate_of
from gateway.resolver import Refreshed
from gateway.server.audit import AuditServicer
from gateway.server.issuance import IssuanceServicer
from gateway.tls import CallerReader

LINK: Final = "front.sock"
"""Leads to the socket of the front that serves. Each has one of its own: the next is there before the last is gone."""
CALL_SECONDS: Final = 60.0
"""How long a call that is handed on may take, where its caller sets no earlier deadline."""
REFRESH_SECONDS: Final = 5.0
"""The front answers within half of it, or not at all."""
HEALTH_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0
FRONT_THREADS: Final = 16
MAX_ANSWER_BYTES: Final = MAX_BUNDLE_BYTES + 64 * 1024
"""The evidence of a dispute is the largest."""
MAX_METADATA_BYTES: Final = 64 * 1024
_CERTIFICATE: Final = "caller-certificate-bin"
_REFRESH: Final = "/front/Refresh"
_HEALTH: Final = "/front/Health"
_CHANNEL_OPTIONS: Final = (
    # The next front is found at once.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
)


# -- the front ---------------------------------------------------------------------------------------------------------


class _HandedOn:
    """A call as its caller would have it seen: the certificate is the one that a worker has seen."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def auth_context(self) -> Mapping[str, Any]:
        """Give the caller's certificate, and nothing of the worker's."""
        given = [value for key, value in self._context.invocation_metadata() if key == _CERTIFICATE]
        return {"x509_pem_cert": given} if len(given) == 1 else {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class _Presented(grpc.ServerInterceptor):
    """Gives every call the certificate that it was handed on with."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        behaviour: Any = handler.unary_unary

        def presented(request: Any, context: grpc.ServicerContext) -> Any:
            return behaviour(request, cast("grpc.ServicerContext", _HandedOn(context)))

        return grpc.unary_unary_rpc_method_handler(presented, handler.request_deserializer, handler.response_serializer)


class _Own(grpc.ServerInterceptor):
    """Answers what the workers ask for themselves: no caller's certificate comes with it."""

    def __init__(self, refresh: Callable[[], Refreshed], health: Callable[[], Mapping[str, bool]]) -> None:
        self._handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]] = {
            _REFRESH: grpc.unary_unary_rpc_method_handler(lambda _request, context: _refresh(refresh, context)),
            _HEALTH: grpc.unary_unary_rpc_method_handler(
                lambda _request, _context: json.dumps(dict(health())).encode()
            ),
        }

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        own = self._handlers.get(handler_call_details.method)
        return continuation(handler_call_details) if own is None else own


def _refresh(refresh: Callable[[], Refreshed], context: grpc.ServicerContext) -> bytes:
    try:
        refreshed = refresh()
        return json.dumps([refreshed.is_made, refreshed.view_id]).encode()
    except Indeterminate as error:
        context.set_code(grpc.StatusCode.UNAVAILABLE)
        context.set_details(error.detail)
        return b""


class FrontListener:
    """Where the front hears its workers."""

    def __init__(
        self,
        folder: Path,
        *,
        callers: CallerReader,
        world: World,
        max_concurrent_calls: int,
        max_request_bytes: int,
        refresh: Callable[[], Refreshed],
        health: Callable[[], Mapping[str, bool]],
    ) -> None:
        """Bind a socket in a folder of the gateway's own; serving begins with ``start``.

        Args:
            folder: only our user can enter it.
            callers: tells who calls the workers, by the certificate.
            world: clock and randomness.
            max_concurrent_calls: taken at one time.
            max_request_bytes: the largest message taken.
            refresh: see ``Resolver.refresh_for_worker``.
            health: gives what is served here, by the name of the service.

        Raises:
            OSError: the socket cannot be bound.
        """
        self._folder = folder
        self._socket = folder / f"front-{world.random_bytes(6).hex()}.sock"
        self._guard = Guard(world, callers, share=FRONT_THREADS // 4, max_request_bytes=max_request_bytes)
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=FRONT_THREADS, thread_name_prefix="front"),
            interceptors=[_Own(refresh, health), _Presented(), self._guard],
            maximum_concurrent_rpcs=max_concurrent_calls,
            options=[
                ("grpc.max_receive_message_length", max_request_bytes),
                # The caller's certificate comes in the metadata, longer than gRPC likes them.
                ("grpc.max_metadata_size", MAX_METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
            ],
        )
        credentials = grpc.local_server_credentials(grpc.LocalConnectionType.UDS)
        try:
            self._server.add_secure_port(f"unix:{self._socket}", credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen in {folder}: {error}") from error

    def add_issuance(self, servicer: IssuanceServicer) -> None:
        """Serve issuance here."""
        issuance_pb2_grpc.add_IssuanceServiceServicer_to_server(servicer, self._server)

    def add_audit(self, servicer: AuditServicer) -> None:
        """Serve the log here."""
        audit_pb2_grpc.add_AuditServiceServicer_to_server(servicer, self._server)

    def start(self) -> None:
        """Begin serving, in place of the front that was there before."""
        self._server.start()
        link = self._folder / f"{self._socket.name}.link"
        link.symlink_to(self._socket.name)
        link.replace(self._folder / LINK)

    def stop(self, grace_seconds: float) -> Callable[[], None]:
        """Refuse new calls and let running ones end; the value returned waits for that."""
        stopped = self._server.stop(grace_seconds)

        def wait() -> None:
            stopped.wait()
            self._guard.close()

        return wait


# -- a worker ----------------------------------------------------------------------------------------------------------


class _Handler(grpc.GenericRpcHandler):
    """Takes the calls that are handed on."""

    def __init__(self, services: Collection[str], but: Collection[str], hand_on: Callable[..., bytes]) -> None:
        self._services = frozenset(services)
        self._but = frozenset(but)
        self._hand_on = hand_on

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        if method in self._but or method.partition("/")[2].partition("/")[0] not in self._services:
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._hand_on(method, request, context),
            request_deserializer=bytes,
            response_serializer=bytes,
        )


class Front:
    """The front, as a worker sees it. Thread-safe."""

    def __init__(self, folder: Path, *, services: Collection[str], but: Collection[str], most: int) -> None:
        """Prepare; nothing is connected before it is needed.

        Args:
            folder: where its socket is.
            services: names of the services whose calls are handed on.
            but: methods of these that are not.
            most: how many calls may be with it at one time.
        """
        credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
        self._channel = grpc.secure_channel(f"unix:{folder / LINK}", credentials, options=_CHANNEL_OPTIONS)
        self._places = threading.BoundedSemaphore(most)
        self.handler: grpc.GenericRpcHandler = _Handler(services, but, self._hand_on)
        """Takes those calls; for the worker's listener."""

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def refresh(self) -> Refreshed:
        """Have it refresh for an unknown key.

        Raises:
            Indeterminate: it cannot be asked, or too many wait already.
        """
        try:
            return Refreshed(*json.loads(self._ask(_REFRESH, REFRESH_SECONDS)))
        except grpc.RpcError as error:
            raise Indeterminate(Reason.TRUST_STALE, "the front cannot be asked to refresh") from error

    def health(self) -> Mapping[str, bool]:
        """Give what it serves, by the name of the service. Empty: it does not answer."""
        try:
            return dict(json.loads(self._ask(_HEALTH, HEALTH_SECONDS)))
        except grpc.RpcError:
            return {}

    def _ask(self, method: str, seconds: float) -> bytes:
        call: Any = self._channel.unary_unary(method)
        answer: bytes = call(b"", timeout=seconds)
        return answer

    def _hand_on(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        certificate = certificate_of(context)
        if not self._places.acquire(blocking=False):
            raise Overloaded("too many calls are with the process that answers them", RETRY_SECONDS)
        call: Any = self._channel.unary_unary(method)
        try:
            answer: bytes = call(
                request,
                timeout=min(context.time_remaining(), CALL_SECONDS),
                metadata=((_CERTIFICATE, certificate),),
                wait_for_ready=True,
            )
        except grpc.RpcError as error:
            return _pass_on(error, context)
        finally:
            self._places.release()
        return answer


def _pass_on(error: grpc.RpcError, context: grpc.ServicerContext) -> bytes:
    """Answer as the front has answered. Raises Unavailable: it was not the front that said so."""
    call: Any = error  # gRPC's errors are calls
    status = rpc_status.from_call(call)
    if status is None:
        raise Unavailable("the process that answers this cannot be reached; ask again") from error
    given = rpc_status.to_status(status)
    context.set_code(given.code)
    context.set_details(given.details)
    context.set_trailing_metadata(given.trailing_metadata)
    return b""
