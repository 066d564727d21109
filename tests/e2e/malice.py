"""A province gone bad: a program of its own in the place of its gateway, with its real keys and certificate.

It speaks the real protocol and knows no more than the province's operator, or whoever broke in there, would know: the
private keys of that province's anchor, issuer and gateway, and every document that goes round. What it sends is made
from the honest documents by changing something and signing again, with nothing of the code that is to see through it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Final, Self

import grpc
from cryptography import x509
from recognition.v1 import federation_pb2, federation_pb2_grpc

from gateway.core.encoding import b64url_decode, b64url_encode, sha256_b64url, write_json
from gateway.core.identifiers import Province
from gateway.core.jose import SoftwareKey
from gateway.guard import certificate_of
from gateway.lab.charter import entity_ids
from tests.e2e.lab import RealFederation, claims_of, header_of
from tests.e2e.links import wait_for

STATEMENT: Final = "entity-statement+jwt"
EVENTS: Final = "entity-events-statement+jwt"
ISSUER: Final = "identity_credential_issuer"
MAX_MESSAGE: Final = 64 * 1024 * 1024
_THREADS: Final = 32

Place = tuple[str, str]


def sign(key: SoftwareKey, claims: Mapping[str, Any] | bytes, typ: str = STATEMENT, kid: str | None = None) -> str:
    """Sign anything, also what no honest program would: the payload may be given as bytes."""
    payload = claims if isinstance(claims, bytes) else write_json(claims)
    header = write_json({"alg": key.public.algorithm.value, "typ": typ, "kid": kid or key.public.kid})
    signed = f"{b64url_encode(header)}.{b64url_encode(payload)}"
    return f"{signed}.{b64url_encode(key.sign(signed.encode('ascii')))}"


def digest_of(token: str) -> str:
    return sha256_b64url(b64url_decode(token.split(".")[1]))


def forged(credential: str, key: SoftwareKey, **changes: Any) -> str:
    """A credential whose issuer's part says something else and is signed by another key; the disclosures stay."""
    token, tilde, disclosures = credential.partition("~")
    return f"{sign(key, {**claims_of(token), **changes}, header_of(token)['typ'])}{tilde}{disclosures}"


@dataclass(frozen=True, slots=True)
class Offer:
    """What is sent to somebody."""

    statements: Sequence[str]
    events: Sequence[str] = ()
    charter_version: int = 1

    def state(self, marker: str = "") -> federation_pb2.TrustState:
        statements = [marker, *self.statements] if marker else self.statements
        return federation_pb2.TrustState(
            charter_version=self.charter_version, statements=statements, events=self.events
        )


class Forger:
    """The documents of one province and the keys to change them."""

    def __init__(self, federation: RealFederation, province: Province) -> None:
        """Learn what the province's gateway holds, before it is ended."""
        self.province = province
        self.ids = entity_ids(province)
        state = federation.trust(province)
        self.charter_version = state.charter_version
        self.documents: dict[Place, str] = {
            (claims["iss"], claims["sub"]): token for token in state.statements for claims in [claims_of(token)]
        }
        self.events: list[str] = list(state.events)
        self._federation = federation
        highest: int = max(claims_of(token)["seq"] for token in self.documents.values())
        self._seq = count(max(highest, int(federation.now.timestamp())) + 1)
        self.anchor_key = self._signer(self.ids.anchor, "anchor-federation")
        self.issuer_key = self._signer(self.ids.issuer, "issuer-federation")
        self.gateway_key = self._signer(self.ids.gateway, "gateway-federation")
        listed = claims_of(self.documents[self.ids.issuer, self.ids.issuer])["metadata"][ISSUER]["jwks"]["keys"]
        self.credential_key = federation.private_key(province, "issuer-credential", listed[0]["kid"])

    def _signer(self, entity: str, role: str) -> SoftwareKey:
        """The key that the entity signs with now."""
        return self._federation.private_key(self.province, role, header_of(self.documents[entity, entity])["kid"])

    def key_of(self, entity: str) -> SoftwareKey:
        return {
            self.ids.anchor: self.anchor_key,
            self.ids.issuer: self.issuer_key,
            self.ids.gateway: self.gateway_key,
        }[entity]

    def next_seq(self) -> int:
        return next(self._seq)

    def claims(self, issuer: str, subject: str | None = None) -> dict[str, Any]:
        return claims_of(self.documents[issuer, subject or issuer])

    def renewed(self, claims: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        """The same said again now, under the next number, with something changed."""
        lifetime = claims["exp"] - claims["iat"]
        issued_at = int(self._federation.now.timestamp())
        times = {"iat": issued_at, "exp": issued_at + lifetime, "seq": self.next_seq()}
        return {**claims, **times, **changes}

    def configuration(self, entity: str, **changes: Any) -> str:
        """A new configuration of one of the province's own entities."""
        return sign(self.key_of(entity), self.renewed(self.claims(entity), **changes))

    def statement(self, member: str, **changes: Any) -> str:
        """A new statement of the province's anchor about a member."""
        return sign(self.anchor_key, self.renewed(self.claims(self.ids.anchor, member), **changes))

    def members(self) -> Sequence[str]:
        """Those the province's anchor vouches for."""
        return [subject for issuer, subject in self.documents if issuer == self.ids.anchor != subject]

    def bundle(
        self,
        statements: Mapping[str, str] | None = None,
        entries: Mapping[str, Mapping[str, Any] | None] | None = None,
        **changes: Any,
    ) -> list[str]:
        """What the anchor says in all: its configuration, and the statements its snapshot names.

        Args:
            statements: by member, those that differ from the honest ones.
            entries: by member, entries of the snapshot that differ; None leaves the member out.
            changes: claims of the configuration that differ.
        """
        tokens = {member: self.documents[self.ids.anchor, member] for member in self.members()} | dict(statements or {})
        snapshot: dict[str, Any] = {
            member: {"seq": claims_of(token)["seq"], "sha256": digest_of(token)} for member, token in tokens.items()
        }
        for member, entry in (entries or {}).items():
            tokens.pop(member, None)
            snapshot.pop(member, None)
            if entry is not None:
                snapshot[member] = dict(entry)
        held = self.claims(self.ids.anchor)["snapshot"]
        configuration = self.configuration(self.ids.anchor, snapshot={**held, "members": snapshot}, **changes)
        return [configuration, *tokens.values()]

    def with_key(self, member: str, key: SoftwareKey) -> str:
        """A statement that pins another credential key for a member, beside its own."""
        claims = self.claims(self.ids.anchor, member)
        metadata = {kind: dict(values) for kind, values in claims["metadata"].items()}
        keys = [*metadata[ISSUER]["jwks"]["keys"], dict(key.public.jwk)]
        metadata[ISSUER] = {**metadata[ISSUER], "jwks": {"keys": keys}}
        return self.statement(member, metadata=metadata)

    def offer(self, *replaced: str, extra: Iterable[str] = (), events: Sequence[str] | None = None) -> Offer:
        """Everything honest, with these documents in the place of those they replace, and more."""
        documents = dict(self.documents)
        for token in replaced:
            claims = claims_of(token)
            documents[claims["iss"], claims["sub"]] = token
        return Offer([*documents.values(), *extra], self.events if events is None else events, self.charter_version)


class Impostor(federation_pb2_grpc.FederationServiceServicer):
    """Serves in the place of a province's gateway. Its process must have ended. Use it as a context manager."""

    def __init__(self, federation: RealFederation, forger: Forger, offer: Offer) -> None:
        province = forger.province
        self._federation = federation
        self._forger = forger
        self._marker = ""
        self._changed = threading.Condition()
        self._version = 0
        self._offers: Callable[[Province], Offer] = lambda _caller: offer
        self._flood: Iterator[Offer] | None = None
        self._served: dict[Province, int] = {}
        self._ended = False
        self._charters = {1: (federation.folder.province(province) / "charter.json").read_text("utf-8")}
        tls = federation.folder.province(province) / "tls"
        others = [path.read_bytes() for path in sorted((tls / "peers").glob("*.pem"))]
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=_THREADS),
            options=[("grpc.max_send_message_length", MAX_MESSAGE), ("grpc.so_reuseport", 0)],
        )
        federation_pb2_grpc.add_FederationServiceServicer_to_server(self, self._server)
        credentials = grpc.ssl_server_credentials(
            [((tls / "server.key").read_bytes(), (tls / "server.pem").read_bytes())],
            root_certificates=b"\n".join([*others, (tls / "ca.pem").read_bytes()]),
            require_client_auth=True,
        )
        bound = self._server.add_secure_port(federation.federation_address(province), credentials)
        assert bound

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._server.stop(0.5).wait()

    # -- what is sent -------------------------------------------------------------------------------------------------

    def send(
        self,
        offer: Offer | Callable[[Province], Offer],
        to: Iterable[Province],
        within: float = 30.0,
        then: Offer | None = None,
    ) -> None:
        """Send something to everybody who listens, and wait until each has dealt with it.

        That shows by a new configuration of the forger's gateway, which is sent after it on the same streams: it is
        sound, and a gateway that still works takes it.

        Args:
            offer: what is sent, to all the same or by listener.
            to: to whom.
            within: seconds for each step.
            then: what the sound document is sent with; by default what was sent before, if that is not refused whole.
        """
        self._change(offer if callable(offer) else lambda _caller: offer, marker="")
        for gateway in to:
            wait_for(lambda gateway=gateway: self._has(gateway), within=within, what=f"{gateway.code} being sent it")
        entity = self._forger.ids.gateway
        marker = self._forger.configuration(entity)
        wanted: int = claims_of(marker)["seq"]
        self._change(self._offers if then is None else lambda _caller: then, marker)
        for gateway in to:
            wait_for(
                lambda gateway=gateway: self._holds(gateway, entity, wanted),
                within=within,
                what=f"{gateway.code} hearing it",
            )

    def send_without_end(self, offers: Iterator[Offer]) -> None:
        """Send one after the other on every stream, as fast as they are taken."""
        with self._changed:
            self._flood = offers
            self._version += 1
            self._changed.notify_all()

    def _change(self, offers: Callable[[Province], Offer], marker: str) -> None:
        with self._changed:
            self._offers, self._marker, self._flood = offers, marker, None
            self._version += 1
            self._changed.notify_all()

    def _has(self, gateway: Province) -> bool:
        with self._changed:
            return self._served.get(gateway) == self._version

    def _holds(self, gateway: Province, entity: str, seq: int) -> bool:
        claims = self._federation.statement(gateway, entity)
        return claims is not None and claims["seq"] >= seq

    def _serve(self, caller: Province) -> federation_pb2.TrustState:
        with self._changed:
            self._served[caller] = self._version
            return self._offers(caller).state(self._marker)

    # -- the protocol -------------------------------------------------------------------------------------------------

    def GetTrust(
        self, request: federation_pb2.GetTrustRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetTrustResponse:
        return federation_pb2.GetTrustResponse(state=self._serve(caller(context)))

    def WatchTrust(
        self, request: federation_pb2.WatchTrustRequest, context: grpc.ServicerContext
    ) -> Iterator[federation_pb2.WatchTrustResponse]:
        who, sent = caller(context), -1
        while context.is_active() and not self._ended:
            with self._changed:
                if self._version == sent and self._flood is None:
                    self._changed.wait(timeout=1.0)
                flood, version = self._flood, self._version
                offer = next(flood, None) if flood is not None else None
            if offer is not None:
                yield federation_pb2.WatchTrustResponse(state=offer.state())
            elif version != sent:
                sent = version
                yield federation_pb2.WatchTrustResponse(state=self._serve(who))

    def AcknowledgeTrust(
        self, request: federation_pb2.AcknowledgeTrustRequest, context: grpc.ServicerContext
    ) -> federation_pb2.AcknowledgeTrustResponse:
        return federation_pb2.AcknowledgeTrustResponse()

    def GetEntityConfiguration(
        self, request: federation_pb2.GetEntityConfigurationRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetEntityConfigurationResponse:
        context.abort(grpc.StatusCode.NOT_FOUND, "it says only what it wants to")

    def GetSubordinateStatement(
        self, request: federation_pb2.GetSubordinateStatementRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetSubordinateStatementResponse:
        context.abort(grpc.StatusCode.NOT_FOUND, "it says only what it wants to")

    def GetHistoricalKeys(
        self, request: federation_pb2.GetHistoricalKeysRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetHistoricalKeysResponse:
        context.abort(grpc.StatusCode.NOT_FOUND, "it says only what it wants to")

    def GetStatusList(
        self, request: federation_pb2.GetStatusListRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetStatusListResponse:
        context.abort(grpc.StatusCode.NOT_FOUND, "it says only what it wants to")

    def GetCharter(
        self, request: federation_pb2.GetCharterRequest, context: grpc.ServicerContext
    ) -> federation_pb2.GetCharterResponse:
        charter = self._charters.get(request.version or max(self._charters))
        if charter is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such charter")
        return federation_pb2.GetCharterResponse(charter=charter)


def caller(context: grpc.ServicerContext) -> Province:
    """Which province's gateway calls."""
    certificate = x509.load_pem_x509_certificate(certificate_of(context))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (identity,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    return next(province for province in Province if entity_ids(province).gateway == identity)
