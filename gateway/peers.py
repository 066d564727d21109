"""Fetching signed documents from the other provinces' gateways. Fetches, judges nothing.

What a peer is, and where, comes from the configuration. Nothing named inside a document is ever fetched.
"""

from __future__ import annotations

from typing import Final, Protocol

import grpc
from recognition.v1 import federation_pb2, federation_pb2_grpc

from gateway.core.charter import MAX_DOCUMENT_CHARS
from gateway.core.statements import PROFILE

FETCH_SECONDS: Final = 2.0
"""Deadline of one fetch. A peer that needs longer counts as down for this round."""
_KEEPALIVE_MS: Final = 30_000
_ANSWERS: Final = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
)


class PeerError(Exception):
    """The peer could not be asked, or did not have it. Never evidence about the thing asked for."""

    def __init__(self, detail: str, *, reachable: bool) -> None:
        super().__init__(detail)
        self.reachable = reachable
        """Whether the peer answered at all."""


class Peer(Protocol):
    """Another province's gateway, as a source of documents."""

    @property
    def province(self) -> str:
        """The province it belongs to."""

    def charter(self, version: int) -> str:
        """Fetch a charter. Raises PeerError."""

    def entity_configuration(self, entity_id: str) -> str:
        """Fetch an entity configuration. Raises PeerError."""

    def subordinate_statement(self, issuer: str, subject: str) -> str:
        """Fetch what an anchor says about a member. Raises PeerError."""


class GrpcPeer:
    """A peer over gRPC and mutual TLS."""

    def __init__(self, *, province: str, address: str, ca: bytes, certificate: bytes, private_key: bytes) -> None:
        """Prepare a channel; nothing is connected yet.

        Args:
            province: whose gateway it is.
            address: host:port of its federation listener.
            ca: PEM of the one CA its certificate must come from.
            certificate: PEM of our certificate.
            private_key: PEM of its key.
        """
        self.province = province
        credentials = grpc.ssl_channel_credentials(ca, private_key, certificate)
        self._channel = grpc.secure_channel(
            address,
            credentials,
            options=[
                ("grpc.max_receive_message_length", MAX_DOCUMENT_CHARS + 1024),
                ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
                # A peer that just came up is found at the next retry, not seconds later.
                ("grpc.initial_reconnect_backoff_ms", 250),
                ("grpc.max_reconnect_backoff_ms", 5_000),
            ],
        )
        self._stub = federation_pb2_grpc.FederationServiceStub(self._channel)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def charter(self, version: int) -> str:
        """Fetch a charter; see ``Peer``."""
        try:
            answer = self._stub.GetCharter(federation_pb2.GetCharterRequest(version=version), timeout=FETCH_SECONDS)
        except grpc.RpcError as error:
            raise _peer_error(error) from error
        return _bounded(answer.charter, MAX_DOCUMENT_CHARS)

    def entity_configuration(self, entity_id: str) -> str:
        """Fetch an entity configuration; see ``Peer``."""
        request = federation_pb2.GetEntityConfigurationRequest(entity_id=entity_id)
        try:
            answer = self._stub.GetEntityConfiguration(request, timeout=FETCH_SECONDS)
        except grpc.RpcError as error:
            raise _peer_error(error) from error
        return _bounded(answer.statement, PROFILE.max_chars)

    def subordinate_statement(self, issuer: str, subject: str) -> str:
        """Fetch what an anchor says about a member; see ``Peer``."""
        request = federation_pb2.GetSubordinateStatementRequest(issuer=issuer, subject=subject)
        try:
            answer = self._stub.GetSubordinateStatement(request, timeout=FETCH_SECONDS)
        except grpc.RpcError as error:
            raise _peer_error(error) from error
        return _bounded(answer.statement, PROFILE.max_chars)


def _peer_error(error: grpc.RpcError) -> PeerError:
    # What a call raises is an RpcError and a Call in one; the stubs do not know.
    code: grpc.StatusCode = getattr(error, "code", lambda: grpc.StatusCode.UNKNOWN)()
    return PeerError(code.name, reachable=code in _ANSWERS)


def _bounded(document: str, limit: int) -> str:
    if not document or len(document) > limit:
        raise PeerError("document is empty or over the size limit", reachable=True)
    return document
