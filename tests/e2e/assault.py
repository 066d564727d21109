"""Assaults on a gateway's ports that need no signed word: many calls, slow calls, half-open calls.

All of it comes from this machine's loopback, is bounded in number and time, and ends with the test.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import grpc
from recognition.v1 import federation_pb2

from gateway.core.identifiers import Province
from gateway.core.jose import generate_key
from gateway.lab.callers import refused
from tests.e2e.lab import RealFederation
from tests.e2e.load import Visitor, verdict_of
from tests.e2e.malice import forged

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS: Final = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
HEADERS_BEGUN: Final = b"\x00\x40\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x80"
"""A frame of 16384 bytes of headers is announced, and hardly begun."""
DRIP_SECONDS: Final = 0.5
CONNECT_SECONDS: Final = 5.0
ALLOWED_STREAMS: Final = 10
"""More than any one province needs; whatever the bound of a gateway is, it is below."""


@contextmanager
def unknown_kids(visitor: Visitor, credential: str, *, threads: int, pause: float = 0.0) -> Iterator[list[str]]:
    """People who show credentials signed by keys they made themselves, a new one each time, over and over."""
    stop, answers = threading.Event(), list[str]()

    def flood() -> None:
        keys = [generate_key() for _ in range(8)]
        while not stop.is_set():
            for key in keys:
                try:
                    verdict, reason, _ = verdict_of(visitor.show_licence(forged(credential, key)))
                except grpc.RpcError as error:
                    observed = refused(error)
                    verdict, reason = observed.verdict, observed.reason
                answers.append(f"{verdict} {reason}")
                if stop.wait(pause):
                    return

    running = [threading.Thread(target=flood, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in running:
            thread.join()


@contextmanager
def slow_loris(federation: RealFederation, called: Province, caller: Province, *, connections: int) -> Iterator[None]:
    """Connections with a province's real certificate that begin to say something and never come to the point.

    A third say nothing after the handshake, a third send headers a byte at a time, a third do not even shake hands.
    """
    host, _, port = federation.federation_address(called).rpartition(":")
    tls = federation.folder.province(caller) / "tls"
    context = ssl.create_default_context(cafile=str(federation.folder.province(called) / "tls" / "ca.pem"))
    context.load_cert_chain(tls / "server.pem", tls / "server.key")
    context.set_alpn_protocols(["h2"])
    stop = threading.Event()
    with ExitStack() as opened:
        dripping: list[ssl.SSLSocket] = []
        for number in range(connections):
            raw = opened.enter_context(socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS))
            if number % 3 == 0:
                continue
            wrapped = opened.enter_context(context.wrap_socket(raw, server_hostname=host))
            wrapped.sendall(PREFACE + SETTINGS)
            if number % 3 == 1:
                with suppress(OSError):
                    wrapped.sendall(HEADERS_BEGUN)
                dripping.append(wrapped)
        thread = threading.Thread(target=_drip, args=(dripping, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _drip(connections: Sequence[ssl.SSLSocket], stop: threading.Event) -> None:
    while not stop.wait(DRIP_SECONDS):
        for connection in connections:
            with suppress(OSError):  # the gateway may have had enough of it
                connection.sendall(b"\x00")


@contextmanager
def greedy_streams(
    federation: RealFederation, called: Province, caller: Province, *, streams: int
) -> Iterator[list[str]]:
    """Ask for far more streams than one may have, and listen to all of them; gives how those ended that did."""
    stub = federation.federation(called, caller=caller)
    opened = [stub.WatchTrust(federation_pb2.WatchTrustRequest()) for _ in range(streams)]
    ended: list[str] = []

    def listen(stream: Iterator[federation_pb2.WatchTrustResponse]) -> None:
        try:
            for _ in stream:
                pass
        except grpc.RpcError as error:
            ended.append(refused(error).reason)

    listening = [threading.Thread(target=listen, args=(stream,), daemon=True) for stream in opened]
    for thread in listening:
        thread.start()
    try:
        yield ended
    finally:
        for stream in opened:
            stream.cancel()
        for thread in listening:
            thread.join()
