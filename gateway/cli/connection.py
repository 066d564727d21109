"""Calling a gateway: who we are, where it is, how long we wait, and what it means when the call fails.

A client profile is a small TOML file; provisioning writes one for each service backend, identity system and
administrator. Paths in it count from its own folder::

    address = "127.0.0.1:7443"
    ca = "ca.pem"                        # the CA that signed the gateway's certificate
    certificate = "counter.pem"          # names us: its URI is what the gateway knows us by
    private_key = "counter-key.pem"

Each of the four can be given as an option instead, which wins. A failed call ends in ``ExitCode.NOT_ASKED``: there is
no verdict, and nobody may take the failure for one. Only where the gateway heard an administrator out and refuses as
things stand, the answer is ``ExitCode.NO``, and where what they asked for is malformed it is ``ExitCode.USAGE``.
"""

from __future__ import annotations

import functools
import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import grpc
import typer
from google.protobuf import timestamp_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gateway.cli.console import ExitCode, Failure, printable
from gateway.core.quota import Shortage

_MAX_PROFILE_BYTES: Final = 65_536
_MAX_DETAIL: Final = 300
_MAX_LISTED: Final = 100
_MEMBERS: Final = ("address", "ca", "certificate", "private_key")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_DEFAULT_TIMEOUT: Final = 10.0
_OPTIONS: Final[Mapping[str, tuple[Any, object]]] = {
    "profile": (
        Annotated[
            Path | None,
            typer.Option("--as", metavar="CLIENT.toml", help="Client profile: who calls, and which gateway."),
        ],
        None,
    ),
    "address": (
        Annotated[str | None, typer.Option(help="The gateway's listener for such callers, host:port.")],
        None,
    ),
    "ca": (
        Annotated[Path | None, typer.Option(help="PEM file of the CA that signed the gateway's certificate.")],
        None,
    ),
    "certificate": (Annotated[Path | None, typer.Option(help="PEM file of our client certificate.")], None),
    "private_key": (Annotated[Path | None, typer.Option(help="PEM file of that certificate's private key.")], None),
    "timeout": (
        Annotated[float, typer.Option(min=0.1, max=300, help="Seconds to wait for the gateway's answer.")],
        _DEFAULT_TIMEOUT,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who calls which gateway."""

    address: str
    ca: bytes
    certificate: bytes
    private_key: bytes


def client(
    profile: Path | None,
    address: str | None,
    ca: Path | None,
    certificate: Path | None,
    private_key: Path | None,
) -> Client:
    """Put a client together from its profile and the options beside it.

    Raises:
        Failure: something is missing or cannot be read; named by its option.
    """
    found = {} if profile is None else _read_profile(profile)
    given = {"address": address, "ca": ca, "certificate": certificate, "private_key": private_key}
    settings = {**found, **{name: str(value) for name, value in given.items() if value is not None}}
    for name in _MEMBERS:
        if name not in settings:
            option = f"--{name.replace('_', '-')}"
            raise Failure(f"{option} is missing", fix=f"give a client profile with --as, or {option}")
    return Client(
        address=settings["address"],
        ca=_read_pem(settings["ca"], "--ca"),
        certificate=_read_pem(settings["certificate"], "--certificate"),
        private_key=_read_pem(settings["private_key"], "--private-key"),
    )


def _read_profile(profile: Path) -> Mapping[str, str]:
    fix = f"a client profile has the members {', '.join(_MEMBERS)}, each a text"
    try:
        settings = tomllib.loads(profile.read_text("utf-8")[:_MAX_PROFILE_BYTES])
    except OSError as error:
        raise Failure(f"{profile}: cannot be read ({error.strerror})", fix="name an existing client profile") from error
    except ValueError as error:  # not UTF-8, not TOML
        raise Failure(f"{profile}: is not TOML", fix=fix) from error
    for name, value in settings.items():
        if name not in _MEMBERS or not isinstance(value, str):
            raise Failure(f"{profile}: {printable(name)}: is unknown, or not a text", fix=fix)
    return {name: value if name == "address" else str(profile.parent / value) for name, value in settings.items()}


def _read_pem(path: str, option: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise Failure(
            f"{path}: cannot be read ({error.strerror})", fix=f"correct the client profile, or give {option}"
        ) from error
    if b"-----BEGIN " not in content:
        raise Failure(f"{path}: is not a PEM file", fix=f"correct the client profile, or give {option}")
    return content


class Connection:
    """An open connection, for as many questions as a command has."""

    def __init__(self, channel: grpc.Channel, client: Client, timeout: float, invalid: ExitCode) -> None:
        self._channel = channel
        self._client = client
        self._timeout = timeout
        self._invalid = invalid

    def ask(
        self, method: Callable[[grpc.Channel], grpc.UnaryUnaryMultiCallable[_Request, _Response]], request: _Request
    ) -> _Response:
        """Make one call.

        Raises:
            Failure: the gateway was not reached or would not hear the question.
        """
        try:
            return method(self._channel)(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise _failure(error, self._client, self._invalid) from error


class Gateway:
    """The gateway a command calls."""

    def __init__(self, client: Client, timeout: float, invalid: ExitCode) -> None:
        """Prepare to call.

        Args:
            client: who calls, and where.
            timeout: seconds to wait for an answer.
            invalid: what it means when the gateway finds the request malformed.
        """
        self._client = client
        self._timeout = timeout
        self._invalid = invalid

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Give a connection over mutual TLS. It is made at the first question."""
        client = self._client
        credentials = grpc.ssl_channel_credentials(
            root_certificates=client.ca, private_key=client.private_key, certificate_chain=client.certificate
        )
        # Trying again is the decision of whoever sees the exit code.
        options = (("grpc.enable_retries", 0),)
        with grpc.secure_channel(client.address, credentials, options=options) as channel:
            yield Connection(channel, client, self._timeout, self._invalid)

    def ask(
        self, method: Callable[[grpc.Channel], grpc.UnaryUnaryMultiCallable[_Request, _Response]], request: _Request
    ) -> _Response:
        """Make the one call that a command makes.

        Raises:
            Failure: the gateway was not reached or would not hear the question.
        """
        with self.connected() as connection:
            return connection.ask(method, request)


def calls_gateway(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say who calls which gateway, in the place of its parameter ``gateway``."""
    return _with_gateway(command, ExitCode.NOT_ASKED)


def administers(command: Callable[..., None]) -> Callable[..., None]:
    """Do the same for a command of administrators: what the gateway finds malformed is what they typed."""
    return _with_gateway(command, ExitCode.USAGE)


def may_administer(command: Callable[..., None]) -> Callable[..., None]:
    """Do the same for a command that need not ask a gateway: without any of the options, ``gateway`` is None."""
    return _with_gateway(command, ExitCode.USAGE, is_needed=False)


def _with_gateway(command: Callable[..., None], invalid: ExitCode, *, is_needed: bool = True) -> Callable[..., None]:
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "gateway"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def with_gateway(*arguments: object, timeout: float, **given: Any) -> None:
        settings = {name: given.pop(name) for name in _OPTIONS if name != "timeout"}
        is_asked = is_needed or any(each is not None for each in settings.values())
        command(*arguments, gateway=Gateway(client(**settings), timeout, invalid) if is_asked else None, **given)

    with_gateway.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    with_gateway.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return with_gateway


def moment(message: timestamp_pb2.Timestamp) -> datetime | None:
    """Read a moment of an answer; None when it is none that there can be."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


# -- what a failed call means -----------------------------------------------------------------------------------------

_FIXES: Final = {
    "INVALID_REQUEST": "correct what the message names, and ask again",
    "NOT_PERMITTED": (
        "have the province's administrator register the URI in this certificate: under [[relying_services]] with the"
        " matter for verification, under [[identity_systems]] for issuance, under [[administrators]] with the role for"
        " keys, for the anchor's members or for disputes, under [[auditors]] for the log"
    ),
    "WRONG_STATE": "change first what the message names, then ask again",
    "CONFLICT": "things have changed since; look at them again, then decide again",
    "NOT_HELD": "check the name or number that was given, and whether this gateway is the one that gave it",
    "OVERLOADED": "wait as long as the gateway asks, and ask again",
    Shortage.RATE: "ask less often, or have rate raised for this service in the gateway's configuration",
    Shortage.CONCURRENCY: "have fewer calls open at one time, or concurrency raised in the gateway's configuration",
    Shortage.DEADLINE: "the gateway is busy: ask again with a longer --timeout",
    "UNAVAILABLE": "ask again in a moment; if it stays so, do as the message says, or see the gateway's log",
    "INTERNAL": "give the reference to the gateway's administrator; it stands in the gateway's log",
}
_ANSWERED_NO: Final = frozenset({"WRONG_STATE", "CONFLICT"})
"""The question was understood and permitted; as things stand the answer is no."""
_STATUS_FIXES: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "ask again, with a longer --timeout if the gateway is known to be slow",
    grpc.StatusCode.UNIMPLEMENTED: (
        "this gateway does not offer that here: issuance needs a gateway with an issuer; keys and members are asked"
        " about on the admin listener"
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: "wait a moment and ask again",
}
_NOT_REACHED: Final = (
    ("CERTIFICATE_VERIFY_FAILED", "the gateway's certificate is not one of this CA, or is out of date; check --ca"),
    ("Connection refused", "nothing listens there; start the gateway (mrg serve), or correct --address"),
    ("DNS", "the host has no address; correct --address"),
)
_NOT_REACHED_OTHERWISE: Final = (
    "check --address; check that the gateway's client CA signed our --certificate and that --private-key belongs to it"
)


def _failure(error: Exception, client: Client, invalid: ExitCode) -> Failure:
    if not isinstance(error, grpc.Call):
        return Failure("the call failed", fix="ask again", code=ExitCode.NOT_ASKED)
    code, said = error.code(), printable(error.details() or "")[:_MAX_DETAIL]
    info, extra = _details(error)
    if info in _ANSWERED_NO:
        return Failure(
            f"the gateway at {client.address} refuses: {said}",
            fix=_FIXES[info],
            code=ExitCode.NO,
            details={"reason": info, "status": code.name, **extra},
        )
    if info:
        return Failure(
            f"the gateway at {client.address} did not take the question: {said} ({info})",
            fix=_FIXES.get(info, _STATUS_FIXES.get(code, "see the gateway's log")),
            code=invalid if code is grpc.StatusCode.INVALID_ARGUMENT else ExitCode.NOT_ASKED,
            details={"reason": info, "status": code.name, **extra},
        )
    fix = _STATUS_FIXES.get(code)
    if code is grpc.StatusCode.UNIMPLEMENTED and invalid is ExitCode.USAGE:
        fix = "use an administrator's profile, clients/admin-1.toml: only the admin listener answers this"
    if code is grpc.StatusCode.UNAVAILABLE:
        fix = next((mend for sign, mend in _NOT_REACHED if sign in said), _NOT_REACHED_OTHERWISE)
    return Failure(
        f"no answer from {client.address}: {code.name}: {said}",
        fix=fix or "check that a recognition gateway listens at --address",
        code=ExitCode.NOT_ASKED,
        details={"reason": "", "status": code.name},
    )


def _details(error: grpc.Call) -> tuple[str, Mapping[str, Any]]:
    """Give the reason of the ErrorInfo, and what else a program may want to know."""
    reason = ""
    extra: dict[str, Any] = {}
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # whoever answered contradicts itself; the status alone counts
        status = None
    for packed in status.details if status is not None else ():
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry, blocked = error_details_pb2.RetryInfo(), error_details_pb2.PreconditionFailure()
        if packed.Unpack(info):
            reason = printable(info.reason)
        elif packed.Unpack(request) and request.field_violations:
            extra["field"] = printable(request.field_violations[0].field)
        elif packed.Unpack(retry):
            extra["retry_after_seconds"] = str(retry.retry_delay.ToTimedelta().total_seconds())
        elif packed.Unpack(blocked):
            extra["blockers"] = [printable(each.description)[:_MAX_DETAIL] for each in blocked.violations[:_MAX_LISTED]]
    return reason, extra
