"""The other provinces' gateways, as sources of signed documents. Fetches, judges nothing.

What a peer is, and where, comes from the configuration. Nothing named inside a document is ever fetched. What a peer
hands over may be its own or another's that it relays: trust rests on the signatures, so it makes no difference.

A channel keeps the certificates it was made with. When they are replaced, a new one is made: new calls go over it,
calls that run end on the old one, and a stream moves over without whoever listens noticing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol, Self

import grpc
from recognition.v1 import audit_pb2, audit_pb2_grpc, federation_pb2, federation_pb2_grpc

from gateway.certificates import ChannelMaterial
from gateway.core.admission import MAX_EVENT_STATEMENTS, MAX_OFFERED
from gateway.core.charter import MAX_DOCUMENT_CHARS
from gateway.core.checkpoint import MAX_CHARS as MAX_HEAD_CHARS
from gateway.core.merkle import HASH_BYTES, MAX_PROOF_HASHES
from gateway.core.receipt import MAX_BUNDLE_BYTES
from gateway.core.statements import PROFILE
from gateway.core.status_list import MAX_HEADS, MAX_TOKEN_CHARS, MAX_URI_CHARS

FETCH_SECONDS: Final = 2.0
"""Deadline of one call. A peer that needs longer counts as down for this round."""
LIST_SECONDS: Final = 15.0
"""Deadline of a call for a status list: four megabytes over a slow line."""
MAX_STATE_BYTES: Final = 64 * 1024 * 1024
"""All documents of 400 members and 4 anchors are under 10 MiB. Were each as long as admission lets it be, they would
just fit: nobody can make what honest gateways hand on too long for each other."""
MAX_DISCLOSURES: Final = 1_000
MAX_AUDIENCES: Final = 1_000
MAX_NAME_CHARS: Final = 512
MAX_CLAIMS_TOLD: Final = 100
_KEEPALIVE_MS: Final = 30_000
_KEEPALIVE_TIMEOUT_MS: Final = 10_000
_ANSWERS: Final = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustOffer:
    """All signed documents that a gateway holds, its own and those it relays."""

    charter_version: int
    statements: tuple[str, ...]
    events: tuple[str, ...]
    status_lists: Mapping[str, int] = field(default_factory=dict)
    """The number of each status list it holds, by uri. Nobody's word: a hint at what is worth asking for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A head of a gateway's log, and what it has seen of ours."""

    checkpoint: str
    """Empty: it has signed none."""
    consistency: tuple[bytes, ...] = ()
    """That the head continues the one asked about."""
    witnessed: str = ""
    """The last head of our log that it has seen; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosed:
    """A verification by another gateway, as it tells of it."""

    verification_id: str
    verified_at: datetime
    service: str
    service_name: str
    matter: str
    claims: tuple[str, ...]
    as_actor: bool
    consent_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosures:
    """What a gateway tells of the verifications of one person."""

    found: tuple[Disclosed, ...]
    truncated: bool
    audiences: tuple[str, ...]
    """Services there that an issuer gives subjects of their own."""


class PeerError(Exception):
    """The peer could not be asked, or did not have it. Never evidence about the thing asked for."""

    def __init__(self, detail: str, *, reachable: bool) -> None:
        super().__init__(detail)
        self.reachable = reachable
        """Whether the peer answered at all."""


class TrustStream(Protocol):
    """A peer's documents at once, and again whenever they change."""

    def __iter__(self) -> Self:
        """Iterate over what comes."""

    def __next__(self) -> TrustOffer:
        """Wait for the next state. Raises PeerError when the stream breaks, StopIteration when the peer ends it."""

    def cancel(self) -> None:
        """End it, from any thread; whoever waits for the next state stops waiting."""


class Peer(Protocol):
    """Another province's gateway, as a source of documents."""

    @property
    def province(self) -> str:
        """The province it belongs to."""

    @property
    def gateway(self) -> str:
        """Its entity identifier."""

    def charter(self, version: int) -> str:
        """Fetch a charter. Raises PeerError."""

    def trust(self) -> TrustOffer:
        """Fetch all documents it holds. Raises PeerError."""

    def watch(self) -> TrustStream:
        """Open a stream of all documents it holds. Raises PeerError, here or at the first state."""

    def status_list(self, uri: str) -> str:
        """Fetch a status list, which may take long. Raises PeerError."""

    def acknowledge(self, token: str) -> None:
        """Tell it which trust we enforce. Raises PeerError."""

    def head(self, seen_log: str, seen_size: int) -> Head:
        """Fetch the newest head of its log, proven to continue one that was seen. Raises PeerError."""

    def cosign(self, token: str) -> None:
        """Tell it that we have seen a head of its log. Raises PeerError."""

    def evidence(self, verification_id: str) -> str:
        """Fetch the evidence of a verification of a person of ours. Raises PeerError."""

    def disclosures(
        self, issuer: str, subjects: Sequence[str], since: datetime | None, until: datetime | None
    ) -> Disclosures:
        """Ask for the verifications of a person to whom an issuer of ours gave these subjects. Raises PeerError."""


class GrpcPeer:
    """A peer over gRPC and mutual TLS."""

    def __init__(self, *, province: str, gateway: str, address: str, material: Callable[[], ChannelMaterial]) -> None:
        """Prepare a channel; nothing is connected yet.

        Args:
            province: whose gateway it is.
            gateway: its entity identifier.
            address: host:port of its federation listener.
            material: gives our certificate, and the CA that the peer's must come from, as they are now.
        """
        self.province = province
        self.gateway = gateway
        self._links = _Links(address, material)

    def close(self) -> None:
        """Close all channels; calls that run are cancelled."""
        self._links.close()

    def renew(self) -> None:
        """Move over to the certificates as they are now, if they are others. To be called now and then.

        New calls see to it themselves; a stream that says nothing for long does not.
        """
        self._links.renew()

    def charter(self, version: int) -> str:
        """Fetch a charter; see ``Peer``."""
        with self._links.call() as stub:
            answer = stub.GetCharter(federation_pb2.GetCharterRequest(version=version), timeout=FETCH_SECONDS)
        if not answer.charter or len(answer.charter) > MAX_DOCUMENT_CHARS:
            raise PeerError("document is empty or over the size limit", reachable=True)
        return answer.charter

    def trust(self) -> TrustOffer:
        """Fetch all documents it holds; see ``Peer``."""
        with self._links.call() as stub:
            answer = stub.GetTrust(federation_pb2.GetTrustRequest(), timeout=FETCH_SECONDS)
        return _offer(answer.state)

    def status_list(self, uri: str) -> str:
        """Fetch a status list; see ``Peer``."""
        request = federation_pb2.GetStatusListRequest(uri=uri)
        with self._links.call() as stub:
            answer = stub.GetStatusList(request, timeout=LIST_SECONDS)
        if not answer.status_list or len(answer.status_list) > MAX_TOKEN_CHARS:
            raise PeerError("status list is empty or over the size limit", reachable=True)
        return answer.status_list

    def watch(self) -> TrustStream:
        """Open a stream; see ``Peer``."""
        # No deadline: whoever listens ends a stream that has been silent for too long.
        return _GrpcStream(self._links)

    def acknowledge(self, token: str) -> None:
        """Tell it which trust we enforce; see ``Peer``."""
        request = federation_pb2.AcknowledgeTrustRequest(acknowledgement=token)
        with self._links.call() as stub:
            stub.AcknowledgeTrust(request, timeout=FETCH_SECONDS)

    def head(self, seen_log: str, seen_size: int) -> Head:
        """Fetch the newest head of its log; see ``Peer``."""
        request = audit_pb2.GetCheckpointRequest(seen_log=seen_log, seen_size=seen_size)
        with self._links.audit() as stub:
            answer = stub.GetCheckpoint(request, timeout=FETCH_SECONDS)
        if max(len(answer.checkpoint), len(answer.witnessed)) > MAX_HEAD_CHARS:
            raise PeerError("a head is over the size limit", reachable=True)
        if len(answer.consistency) > MAX_PROOF_HASHES or any(len(each) != HASH_BYTES for each in answer.consistency):
            raise PeerError("a proof is over the size limit, or of no hashes", reachable=True)
        return Head(checkpoint=answer.checkpoint, consistency=tuple(answer.consistency), witnessed=answer.witnessed)

    def cosign(self, token: str) -> None:
        """Tell it that we have seen a head of its log; see ``Peer``."""
        with self._links.audit() as stub:
            stub.CosignCheckpoint(audit_pb2.CosignCheckpointRequest(cosignature=token), timeout=FETCH_SECONDS)

    def evidence(self, verification_id: str) -> str:
        """Fetch the evidence of a verification; see ``Peer``."""
        request = audit_pb2.GetEvidenceRequest(verification_id=verification_id)
        with self._links.audit() as stub:
            answer = stub.GetEvidence(request, timeout=LIST_SECONDS)
        if not answer.evidence or len(answer.evidence) > MAX_BUNDLE_BYTES:
            raise PeerError("evidence is empty or over the size limit", reachable=True)
        return answer.evidence

    def disclosures(
        self, issuer: str, subjects: Sequence[str], since: datetime | None, until: datetime | None
    ) -> Disclosures:
        """Ask for the verifications of a person; see ``Peer``."""
        request = audit_pb2.ListDisclosuresRequest(subjects=audit_pb2.IssuedSubjects(issuer=issuer, subjects=subjects))
        if since is not None:
            request.since_time.FromDatetime(since)
        if until is not None:
            request.until_time.FromDatetime(until)
        with self._links.audit() as stub:
            answer = stub.ListDisclosures(request, timeout=LIST_SECONDS)
        return _disclosures(answer)


class _StreamCall(Protocol):
    """What gRPC gives for a stream."""

    def __next__(self) -> federation_pb2.WatchTrustResponse:
        """Wait for the next message."""

    def cancel(self) -> object:
        """End it."""


class _Link:
    """A channel with the certificates of one moment, and what runs over it."""

    def __init__(self, address: str, material: ChannelMaterial) -> None:
        self.material = material
        self.channel = _open_channel(address, material)
        self.stub = federation_pb2_grpc.FederationServiceStub(self.channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(self.channel)
        self.calls = 0
        self.streams: set[_StreamCall] = set()
        self.replaced = False


class _Links:
    """The channel in use, and those replaced that calls still run over. Thread-safe."""

    def __init__(self, address: str, material: Callable[[], ChannelMaterial]) -> None:
        self._address = address
        self._material = material
        self._lock = threading.Lock()
        self._link = _Link(address, material())
        self._replaced: set[_Link] = set()
        self._closed = False

    def renew(self) -> None:
        """Replace the channel, if the certificates were replaced."""
        with self._lock:
            # Asked for under the lock, so that none who was slow to ask turns the clock back.
            material, old = self._material(), self._link
            if material == old.material or self._closed:
                return
            self._link = _Link(self._address, material)
            old.replaced = True
            self._replaced.add(old)
            streams = list(old.streams)
        for stream in streams:
            stream.cancel()  # whoever listens to it opens it again over the new channel
        self._close_idle()

    @contextmanager
    def call(self) -> Iterator[federation_pb2_grpc.FederationServiceStub]:
        """Give what to make one call with. What gRPC raises becomes a PeerError."""
        with self._used() as link:
            yield link.stub

    @contextmanager
    def audit(self) -> Iterator[audit_pb2_grpc.AuditServiceStub]:
        """Give what to ask about its log with; see ``call``."""
        with self._used() as link:
            yield link.audit

    @contextmanager
    def _used(self) -> Iterator[_Link]:
        self.renew()
        with self._lock:
            link = self._link
            link.calls += 1
        try:
            yield link
        except grpc.RpcError as error:
            raise _peer_error(error) from error
        finally:
            with self._lock:
                link.calls -= 1
            self._close_idle()

    def open_stream(self) -> tuple[_Link, _StreamCall]:
        self.renew()
        with self._lock:
            link = self._link
            # Under the lock, so that a channel is never replaced without its streams being known. It does not wait.
            stream = link.stub.WatchTrust(federation_pb2.WatchTrustRequest())
            link.streams.add(stream)
        return link, stream

    def end_stream(self, link: _Link, stream: _StreamCall) -> None:
        stream.cancel()
        with self._lock:
            link.streams.discard(stream)
        self._close_idle()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            links = [self._link, *self._replaced]
        for link in links:
            link.channel.close()

    def _close_idle(self) -> None:
        with self._lock:
            idle = {link for link in self._replaced if not link.calls and not link.streams}
            self._replaced -= idle
        for link in idle:
            link.channel.close()


class _GrpcStream:
    """A stream over gRPC, or one after another."""

    def __init__(self, links: _Links) -> None:
        self._links = links
        self._lock = threading.Lock()
        self._ended = False
        self._link, self._call = links.open_stream()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TrustOffer:
        while True:
            try:
                return _offer(next(self._call).state)
            except StopIteration:
                if not self._moved():
                    raise
            except grpc.RpcError as error:
                if not self._moved():
                    raise _peer_error(error) from error

    def cancel(self) -> None:
        with self._lock:
            self._ended = True
            self._links.end_stream(self._link, self._call)

    def _moved(self) -> bool:
        """Open the stream anew, if it ended because its channel was replaced."""
        with self._lock:
            if self._ended or not self._link.replaced:
                return False
            self._links.end_stream(self._link, self._call)
            self._link, self._call = self._links.open_stream()
            return True


def _open_channel(address: str, material: ChannelMaterial) -> grpc.Channel:
    return grpc.secure_channel(
        address,
        grpc.ssl_channel_credentials(material.cas, material.private_key, material.certificate),
        options=[
            ("grpc.max_receive_message_length", MAX_STATE_BYTES),
            # A stream may be silent for minutes; without these, a peer that vanished would not be missed.
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
            # A peer that just came up is found at the next retry, not seconds later.
            ("grpc.initial_reconnect_backoff_ms", 250),
            ("grpc.max_reconnect_backoff_ms", 5_000),
        ],
    )


def _offer(state: federation_pb2.TrustState) -> TrustOffer:
    if len(state.statements) > MAX_OFFERED or len(state.events) > MAX_EVENT_STATEMENTS:
        raise PeerError("more documents than a federation has", reachable=True)
    if any(len(document) > PROFILE.max_chars for document in (*state.statements, *state.events)):
        raise PeerError("a document is over the size limit", reachable=True)
    if len(state.status_lists) > MAX_HEADS or any(len(head.uri) > MAX_URI_CHARS for head in state.status_lists):
        raise PeerError("more status lists than a federation has, or a name is over the size limit", reachable=True)
    return TrustOffer(
        charter_version=state.charter_version,
        statements=tuple(state.statements),
        events=tuple(state.events),
        status_lists={head.uri: head.seq for head in state.status_lists},
    )


def _disclosures(answer: audit_pb2.ListDisclosuresResponse) -> Disclosures:
    if len(answer.disclosures) > MAX_DISCLOSURES or len(answer.audiences) > MAX_AUDIENCES:
        raise PeerError("more disclosures than were asked for", reachable=True)
    try:
        found = tuple(
            Disclosed(
                verification_id=each.verification_id[:MAX_NAME_CHARS],
                verified_at=each.verify_time.ToDatetime(tzinfo=UTC),
                service=each.service[:MAX_NAME_CHARS],
                service_name=each.service_name[:MAX_NAME_CHARS],
                matter=each.matter[:MAX_NAME_CHARS],
                claims=tuple(name[:MAX_NAME_CHARS] for name in each.claims[:MAX_CLAIMS_TOLD]),
                as_actor=each.as_actor,
                consent_id=each.consent_id[:MAX_NAME_CHARS],
            )
            for each in answer.disclosures
        )
    except (ValueError, OverflowError) as error:
        raise PeerError("a time is none", reachable=True) from error
    return Disclosures(found=found, truncated=answer.truncated, audiences=tuple(answer.audiences))


def _peer_error(error: grpc.RpcError) -> PeerError:
    # What a call raises is an RpcError and a Call in one; the stubs do not know.
    code: grpc.StatusCode = getattr(error, "code", lambda: grpc.StatusCode.UNKNOWN)()
    return PeerError(code.name, reachable=code in _ANSWERS)
