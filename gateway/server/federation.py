"""FederationService: signed documents, for anyone whose certificate a province issued.

All that is held is one message, encoded once for each change and handed to whoever watches: a watcher costs a thread
and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

import grpc
from recognition.v1 import federation_pb2, federation_pb2_grpc

from gateway import wire
from gateway.clock import World
from gateway.core.reasons import InvalidRequest, NotHeld, Rejected, Unavailable
from gateway.correspondent import HEARTBEAT_SECONDS
from gateway.entity import Entity
from gateway.guard import caller_of
from gateway.peers import TrustOffer
from gateway.resolver import Resolver
from gateway.tls import CallerReader

ENCODED_AGE: Final = timedelta(seconds=1)
"""How long an encoded state is handed on; it bears the time, by which people look for clocks that are wrong."""


class FederationServicer(federation_pb2_grpc.FederationServiceServicer):
    """Signed documents, for anyone whose certificate a province issued."""

    def __init__(
        self,
        resolver: Resolver,
        own: Mapping[str, Entity],
        callers: CallerReader,
        world: World,
        interval: timedelta = timedelta(minutes=1),
    ) -> None:
        """Prepare to serve.

        Args:
            resolver: holds the documents.
            own: the entities this process plays, by their identifiers.
            callers: tells who calls.
            world: the time.
            interval: how soon to tell others to ask again when they have no stream.
        """
        self._resolver = resolver
        self._own = own
        self._callers = callers
        self._world = world
        self._interval = interval
        self._lock = threading.Lock()
        self._encoded: tuple[int, datetime, bytes] | None = None

    def GetCharter(
        self, request: federation_pb2.GetCharterRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetCharterResponse:
        """Give a charter."""
        caller_of(context, self._callers, self._world)
        document = self._resolver.charter_document(request.version)
        if document is None:
            raise NotHeld("charter of that version is not held here")
        return federation_pb2.GetCharterResponse(charter=document)

    def GetEntityConfiguration(
        self, request: federation_pb2.GetEntityConfigurationRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetEntityConfigurationResponse:
        """Give an entity configuration."""
        caller_of(context, self._callers, self._world)
        entity_id = wire.entity_id("entity_id", request.entity_id)
        return federation_pb2.GetEntityConfigurationResponse(statement=self._statement(entity_id, entity_id))

    def GetSubordinateStatement(
        self, request: federation_pb2.GetSubordinateStatementRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetSubordinateStatementResponse:
        """Give what an anchor says about a member."""
        caller_of(context, self._callers, self._world)
        issuer = wire.entity_id("issuer", request.issuer)
        subject = wire.entity_id("subject", request.subject)
        if issuer == subject:
            # OpenID Federation 1.0 section 8.1.1: an entity makes no subordinate statement about itself.
            raise InvalidRequest("subject", "must not be the issuer")
        return federation_pb2.GetSubordinateStatementResponse(statement=self._statement(issuer, subject))

    def GetStatusList(
        self, request: federation_pb2.GetStatusListRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetStatusListResponse:
        """Give a status list."""
        caller_of(context, self._callers, self._world)
        token = self._resolver.statuses.token(wire.status_list_uri("uri", request.uri))
        if token is None:
            raise NotHeld("status list is not held here")
        return federation_pb2.GetStatusListResponse(status_list=token)

    def GetHistoricalKeys(
        self, request: federation_pb2.GetHistoricalKeysRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetHistoricalKeysResponse:
        """Give an entity's past keys."""
        caller_of(context, self._callers, self._world)
        entity = self._own.get(wire.entity_id("entity_id", request.entity_id))
        if entity is None:
            raise NotHeld("entity is not one of this gateway's")
        if not self._resolver.is_ready:
            # Peers that start at the same time are given what is held, but nothing new is signed yet.
            raise Unavailable("is starting")
        return federation_pb2.GetHistoricalKeysResponse(key_set=entity.historical_keys(self._world.now()))

    def GetTrust(
        self, request: federation_pb2.GetTrustRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetTrustResponse:
        """Give all documents held."""
        caller_of(context, self._callers, self._world)
        return federation_pb2.GetTrustResponse(state=self._state(self._resolver.state()))

    def WatchTrust(
        self, request: federation_pb2.WatchTrustRequest, context: grpc.ServicerContext
    ) -> Iterator[federation_pb2.WatchTrustResponse]:
        """Give all documents held, at once and as they change."""
        caller_of(context, self._callers, self._world)
        gone = threading.Event()

        def leave() -> None:
            gone.set()
            self._resolver.wake()

        if not context.add_callback(leave):
            return
        version = 0
        while True:
            version, state = self._resolver.wait_for_change(version, HEARTBEAT_SECONDS, gone.is_set)
            if gone.is_set():
                return
            # The guard passes bytes on as they are.
            yield self._encode(version, state)  # type: ignore[misc]

    def AcknowledgeTrust(
        self, request: federation_pb2.AcknowledgeTrustRequest, context: grpc.ServicerContext
    ) -> federation_pb2.AcknowledgeTrustResponse:
        """Take another gateway's word on which trust it enforces."""
        caller_of(context, self._callers, self._world)
        try:
            self._resolver.take_acknowledgement(request.acknowledgement)
        except Rejected as rejection:
            raise InvalidRequest("acknowledgement", f"is not acceptable: {rejection.reason}") from rejection
        return federation_pb2.AcknowledgeTrustResponse()

    def _statement(self, issuer: str, subject: str) -> str:
        statement = self._resolver.served(issuer, subject)
        if statement is None:
            raise NotHeld("statement is not held here")
        return statement

    def _encode(self, version: int, state: TrustOffer) -> bytes:
        now = self._world.now()
        with self._lock:
            known = self._encoded
            if known is None or known[0] != version or not timedelta(0) <= now - known[1] < ENCODED_AGE:
                message = federation_pb2.WatchTrustResponse(state=self._state(state))
                known = self._encoded = (version, now, message.SerializeToString())
            return known[2]

    def _state(self, state: TrustOffer) -> federation_pb2.TrustState:
        return federation_pb2.TrustState(
            charter_version=state.charter_version,
            statements=state.statements,
            events=state.events,
            refresh_hint=wire.duration(self._interval),
            send_time=wire.timestamp(self._world.now()),
            status_lists=[federation_pb2.StatusListHead(uri=uri, seq=seq) for uri, seq in state.status_lists.items()],
        )
