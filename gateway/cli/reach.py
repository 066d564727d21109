"""What ``mrg doctor`` finds on the way to others: each peer's listener, and our own. Every wait has its deadline."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recognition.v1 import federation_pb2, federation_pb2_grpc

from gateway.cli import connection
from gateway.cli.console import printable, span
from gateway.cli.findings import Finding, end, fail, isolated, ok, warn
from gateway.clock import system_world
from gateway.config import Config, Peer
from gateway.core.charter import Charter
from gateway.core.reasons import Rejected
from gateway.core.statements import PROFILE, parse_statement

_MAX_STATE_BYTES: Final = 64 * 1024 * 1024
_MAX_PEERS_AT_ONCE: Final = 16
_GRACE_SECONDS: Final = 1.0
_LOOKS: Final = 8
"""Of two processes that share a port, one is missed by so many connections once in 128 times."""
_WILDCARDS: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - replaced, not listened on
_MENDS: Final = {
    grpc.StatusCode.PERMISSION_DENIED: "have them compare the CA they have for us, and the URI in our certificate",
    grpc.StatusCode.UNIMPLEMENTED: "they run another version; agree on one",
    grpc.StatusCode.DEADLINE_EXCEEDED: "they are slow or overloaded; ask them for mrg doctor",
    grpc.StatusCode.UNAVAILABLE: "they may not accept our certificate: have them compare the CA they have for us",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Greeted:
    """What a TLS handshake showed."""

    version: str
    names: tuple[str, ...]
    not_after: datetime | None


def check_peers(
    config: Config, charter: Charter | None, now: Callable[[], datetime], timeout: float
) -> Iterator[Finding]:
    """Ask all peers at once; who does not answer in time delays nobody."""
    pool = ThreadPoolExecutor(max_workers=_MAX_PEERS_AT_ONCE, thread_name_prefix="doctor")
    asked: dict[str, Future[list[Finding]]] = {}
    for peer in config.peers:
        area = f"peer {peer.province.code}"
        asked[area] = pool.submit(_listed, area, partial(_check_peer, config, peer, charter, now, timeout))
    # Each step has a deadline of its own; this one is for a name service that hangs.
    wait(asked.values(), timeout=2 * timeout + _GRACE_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    for area, future in asked.items():
        if future.done() and not future.cancelled():
            yield from future.result()
        else:
            yield fail(area, "TLS", "no answer in time", "check the network and the name service")


def _listed(area: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    return list(isolated(area, check))


def _check_peer(
    config: Config, peer: Peer, charter: Charter | None, now: Callable[[], datetime], timeout: float
) -> Iterator[Finding]:
    area = f"peer {peer.province.code}"
    host, _, _ = peer.address.rpartition(":")
    try:
        greeted = _greet(config, peer.address, peer.ca, host.strip("[]"), timeout)
    except OSError as error:
        yield fail(area, "TLS", *_explain(error))
        return
    yield ok(area, "TLS", greeted.version)
    if greeted.not_after is not None:
        yield end(area, "their certificate", greeted.not_after, system_world().now(), "ask them to renew it")
    began = now()
    try:
        with _channel(config, peer.address, peer.ca) as channel:
            request = federation_pb2.GetTrustRequest()
            answer = federation_pb2_grpc.FederationServiceStub(channel).GetTrust(request, timeout=timeout)
    except grpc.RpcError as error:
        yield _not_answered(area, error)
        return
    yield ok(area, "answers", peer.gateway)
    yield from _check_state(area, peer, answer.state, charter, began + (now() - began) / 2, now())


def _check_state(
    area: str,
    peer: Peer,
    state: federation_pb2.TrustState,
    charter: Charter | None,
    middle: datetime,
    now: datetime,
) -> Iterator[Finding]:
    sent = connection.moment(state.send_time) if state.HasField("send_time") else None
    if sent is not None:
        yield _skew(area, sent, middle)
    if charter is None:
        yield warn(
            area, "charter", f"they enforce version {state.charter_version}", "see what is wrong with ours above"
        )
        return
    yield _charter_version(area, state.charter_version, charter.version)
    for anchor in charter.anchors:
        if anchor.province == peer.province.code:
            yield _anchor_age(area, anchor.entity_id, state.statements, now)


def _skew(area: str, sent: datetime, middle: datetime) -> Finding:
    skew = sent - middle
    detail = f"theirs is {span(skew)} {'ahead of' if skew.total_seconds() > 0 else 'behind'} ours"
    if abs(skew) > PROFILE.clock_skew:
        return fail(area, "clock", detail, "compare both with a third clock, and correct the wrong one")
    if abs(skew) > PROFILE.clock_skew / 2:
        return warn(area, "clock", detail, "compare both with a third clock before it gets worse")
    return ok(area, "clock", detail)


def _charter_version(area: str, theirs: int, ours: int) -> Finding:
    detail = f"they enforce version {theirs}, we version {ours}"
    if theirs < ours:
        return warn(area, "charter", detail, "they follow by themselves when they reach somebody who has it; ask them")
    if theirs > ours:
        return warn(
            area, "charter", detail, "our gateway follows by itself while it runs; its log says why if it does not"
        )
    return ok(area, "charter", detail)


def _anchor_age(area: str, anchor: str, statements: Sequence[str], now: datetime) -> Finding:
    for token in statements:
        with suppress(Rejected):
            parsed = parse_statement(token, PROFILE)
            if parsed.iss == parsed.sub == anchor:
                detail = f"signed {span(now - parsed.issued_at)} ago"
                if now >= parsed.expires_at:
                    return fail(area, anchor, f"{detail}, has expired", "ask them to look at their anchor: mrg doctor")
                return ok(area, anchor, detail)
    return warn(area, anchor, "they do not hold their own anchor's configuration", "ask them for mrg doctor")


def _not_answered(area: str, error: Exception) -> Finding:
    if not isinstance(error, grpc.Call):
        return fail(area, "answers", "the call failed", "try again")
    code = error.code()
    said = printable(error.details() or "")[:200]
    fix = _MENDS.get(code, "ask them to look at their gateway's log")
    return fail(area, "answers", f"{code.name}: {said}", fix)


# -- ourselves --------------------------------------------------------------------------------------------------------


def check_own_listeners(config: Config, timeout: float) -> Iterator[Finding]:
    """Ask our own listeners for their health."""
    listeners = config.listeners
    for name, address in (
        ("verification", listeners.verification.address),
        ("federation", listeners.federation.address),
        ("admin", listeners.admin.address),
    ):
        yield from isolated("our gateway", partial(_check_listener, config, name, address, timeout))


def _check_listener(config: Config, name: str, address: str, timeout: float) -> Iterator[Finding]:
    host, _, port = address.rpartition(":")
    if port == "0":
        yield warn("our gateway", name, "listens on any free port", "look at what mrg serve printed when it started")
        return
    here = f"{_WILDCARDS.get(host, host)}:{port}"
    ca = config.listeners.admin.client_ca if name == "admin" else config.listeners.verification.client_ca
    try:
        greeted = _greet(config, here, ca, None, timeout)
    except OSError as error:
        yield fail("our gateway", name, _explain(error)[0], "start it: mrg serve --config; if it runs, see its log")
        return
    # Which name we call it by does not matter here: it is ourselves we speak to.
    ask = partial(_is_fit, config, here, ca, greeted.names[0] if greeted.names else None, timeout)
    began = time.monotonic()
    try:
        # Behind verification there may be several processes, and the kernel chooses one for each connection.
        fit = [ask() for _ in range(_LOOKS if name == "verification" else 1)]
    except grpc.RpcError as error:
        yield _not_answered("our gateway", error)
        return
    took = f"{(time.monotonic() - began) * 1000 / len(fit):.0f} ms"
    if all(fit):
        yield ok("our gateway", name, f"serving, answered in {took}")
        return
    fix = "see trust and peers; its log has the reason"
    if any(fit):
        yield fail("our gateway", name, "one of its processes is not fit to verify", f"{fix}, by the worker's number")
    else:
        yield fail("our gateway", name, "answers, but is not fit to verify", fix)


def _is_fit(config: Config, address: str, ca: Path, name: str | None, timeout: float) -> bool:
    """Ask for health over a connection of its own. Raises grpc.RpcError."""
    with _channel(config, address, ca, name=name) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # has no types
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


# -- the wire ---------------------------------------------------------------------------------------------------------


def _greet(config: Config, address: str, ca: Path, name: str | None, timeout: float) -> _Greeted:
    """Shake hands as TLS does, without gRPC in between: it says more clearly what is wrong.

    Raises:
        OSError: that does not work; ``_explain`` has words for it.
    """
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = name is not None
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(config.tls.certificate, config.tls.private_key)
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        shown: dict[str, Any] = dict(secured.getpeercert() or {})
        return _Greeted(version=secured.version() or "TLS", names=_names(shown), not_after=_not_after(shown))


def _explain(error: OSError) -> tuple[str, str]:
    """Say what is wrong with a connection, and the fix."""
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"their certificate is not accepted: {printable(error.verify_message)}",
                "compare the CA we have for them with theirs; if they renewed it, put the new one beside the old one",
            )
        case ssl.SSLError():
            what = f"the handshake failed: {printable(error.reason or '')}"
            return what, "check our certificate and key, and that a gateway listens there"
        case ConnectionRefusedError():
            return "nothing listens there", "call them: their gateway does not run, or its address is another one"
        case TimeoutError():
            return "no answer in time", "check the network and firewalls on the way"
        case socket.gaierror():
            return "the host has no address", "correct peers.address, or the name service"
        case _:
            return error.strerror or type(error).__name__, "check the network on the way"


def _names(shown: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(value for kind, value in shown.get("subjectAltName", ()) if kind in {"DNS", "IP Address"})


def _not_after(shown: Mapping[str, Any]) -> datetime | None:
    text = shown.get("notAfter")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC) if isinstance(text, str) else None


def _channel(config: Config, address: str, ca: Path, *, name: str | None = None) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        root_certificates=ca.read_bytes(),
        private_key=config.tls.private_key.read_bytes(),
        certificate_chain=config.tls.certificate.read_bytes(),
    )
    options: list[tuple[str, Any]] = [
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),  # a channel is a connection
        ("grpc.max_receive_message_length", _MAX_STATE_BYTES),
    ]
    if name is not None:
        options.append(("grpc.ssl_target_name_override", name))
    return grpc.secure_channel(address, credentials, options=options)
