"""``mrg issue``: have the province's own issuer sign a credential or an assertion.

For identity systems, and for trying things out. The person's attributes are best given as ``--claims @file`` or
``--claims @-``: what stands on a command line is seen by every user of the machine and kept in the shell's history.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from google.protobuf import duration_pb2, timestamp_pb2
from recognition.v1 import issuance_pb2, issuance_pb2_grpc

from gateway import wire
from gateway.cli import connection, files, options
from gateway.cli.console import ExitCode, Failure, exit_codes, instant, stderr, stdout, write_document, write_line
from gateway.core.agreement import SubjectType
from gateway.core.encoding import parse_json_object, write_json
from gateway.core.jose import SoftwareKey, generate_key, load_pkcs8
from gateway.core.reasons import Rejected

app = typer.Typer(no_args_is_help=True, help="Have the province's issuer sign a credential or an assertion.")

_EXIT_CODES: Final = exit_codes(
    {ExitCode.OK: "issued", ExitCode.NOT_ASKED: "not issued: the gateway was not reached or refused"}
)
# Extra arguments are taken in and refused by us: click would repeat them, and one of them may be half an attribute.
_TAKE_EXTRA: Final = {"allow_extra_args": True}
_MAX_CLAIMS_BYTES: Final = 65_536
MAX_KEY_BYTES: Final = 65_536

_Subject = Annotated[str, typer.Option(help="The issuer's own identifier of the person; never an ID number.")]
_Claims = Annotated[
    list[str], typer.Option(metavar="JSON|@FILE|NAME=VALUE", help="Attributes; may be repeated. @- reads stdin.")
]
_Type = Annotated[str, typer.Option("--type", help="Type of the credential (vct).")]
_HolderKey = Annotated[Path, typer.Option(help="The holder's private key (PKCS#8 PEM); created when there is none.")]
_Acr = Annotated[str, typer.Option(help="Level by the agreement's table, for example urn:yrd:loa:4.")]
_Amr = Annotated[list[str], typer.Option(help="Method of authentication (RFC 8176), for example face; repeatable.")]
_AuthenticatedAt = Annotated[
    str | None, typer.Option(metavar="TIME", help="When the person was authenticated (RFC 3339); absent: now.")
]
_Lifetime = Annotated[str | None, typer.Option(metavar="300s|12h|30d", help="How long it lives.")]
_SubjectType = Annotated[
    SubjectType, typer.Option(help="Whether it is about a person or an organisation, which needs an actor.")
]
_Actor = Annotated[
    str | None, typer.Option(metavar="SUBJECT", help="The issuer's identifier of whoever acts for the subject.")
]
_Relationship = Annotated[str | None, typer.Option(help="How: guardian, agent, lawyer or legal_representative.")]
_Scope = Annotated[list[str], typer.Option(metavar="MATTER", help="A matter the actor may act in; repeatable.")]
_ActorClaims = Annotated[
    list[str], typer.Option(metavar="JSON|@FILE|NAME=VALUE", help="The actor's attributes, as --claims.")
]
_ActorUntil = Annotated[str | None, typer.Option(metavar="TIME", help="When the authority ends (RFC 3339).")]
_NO_TEXTS: Final[list[str]] = []


@app.command(epilog=_EXIT_CODES, context_settings=_TAKE_EXTRA)
@connection.calls_gateway
def credential(
    context: typer.Context,
    *,
    gateway: connection.Gateway,
    subject: _Subject,
    credential_type: _Type,
    holder_key: _HolderKey,
    acr: _Acr,
    claims: _Claims = _NO_TEXTS,
    amr: _Amr = _NO_TEXTS,
    authenticated_at: _AuthenticatedAt = None,
    lifetime: _Lifetime = None,
    subject_type: _SubjectType = SubjectType.NATURAL,
    actor: _Actor = None,
    relationship: _Relationship = None,
    scope: _Scope = _NO_TEXTS,
    actor_claims: _ActorClaims = _NO_TEXTS,
    actor_until: _ActorUntil = None,
    out: options.OutOption = None,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Issue an identity credential: for months, bound to the holder's key, attributes disclosed one by one.

    Without --out, the credential alone goes to standard output. It is for the holder: whoever reads it knows every
    attribute in it.
    """
    _refuse_extra(context)
    request = issuance_pb2.IssueCredentialRequest(
        local_subject=subject,
        credential_type=credential_type,
        claims=wire.struct(parse_claims(claims)),
        authentication=_authentication(acr, amr, authenticated_at, lab_clock),
        lifetime=_lifetime(lifetime),
        subject_type=wire.subject_type_number(subject_type),
        actor=_actor(actor, relationship, scope, actor_claims, actor_until),
    )
    created = not holder_key.exists()
    # Written before anything is asked: a credential bound to a key that was lost would be worth nothing.
    request.holder_jwk = write_json(_holder_key(holder_key, created=created).public.jwk).decode("utf-8")
    answer = gateway.ask(lambda channel: issuance_pb2_grpc.IssuanceServiceStub(channel).IssueCredential, request)
    _hand_over(
        answer.credential,
        answer.expire_time,
        {"kind": "credential", "holder_key": str(holder_key), "credential_id": answer.credential_id},
        out,
        f"mrg present CREDENTIAL --holder-key {holder_key} --challenge CHALLENGE",
        as_json=as_json,
    )


@app.command(epilog=_EXIT_CODES, context_settings=_TAKE_EXTRA)
@connection.calls_gateway
def assertion(
    context: typer.Context,
    *,
    gateway: connection.Gateway,
    subject: _Subject,
    audience: Annotated[str, typer.Option(help="The one audience: a relying service's identifier, or its gateway's.")],
    acr: _Acr,
    claims: _Claims = _NO_TEXTS,
    amr: _Amr = _NO_TEXTS,
    authenticated_at: _AuthenticatedAt = None,
    lifetime: _Lifetime = None,
    subject_type: _SubjectType = SubjectType.NATURAL,
    actor: _Actor = None,
    relationship: _Relationship = None,
    scope: _Scope = _NO_TEXTS,
    actor_claims: _ActorClaims = _NO_TEXTS,
    actor_until: _ActorUntil = None,
    bound_to: Annotated[
        str, typer.Option(metavar="SHA256", help="Certificate (base64url thumbprint) that alone may present it.")
    ] = "",
    out: options.OutOption = None,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Issue an identity assertion: for minutes, to one audience, good once.

    Without --out, the assertion alone goes to standard output. Whoever holds it can use it, once.
    """
    _refuse_extra(context)
    request = issuance_pb2.IssueAssertionRequest(
        local_subject=subject,
        audience=audience,
        claims=wire.struct(parse_claims(claims)),
        authentication=_authentication(acr, amr, authenticated_at, lab_clock),
        lifetime=_lifetime(lifetime),
        confirmation_certificate_sha256=bound_to,
        subject_type=wire.subject_type_number(subject_type),
        actor=_actor(actor, relationship, scope, actor_claims, actor_until),
    )
    answer = gateway.ask(lambda channel: issuance_pb2_grpc.IssuanceServiceStub(channel).IssueAssertion, request)
    _hand_over(
        answer.assertion,
        answer.expire_time,
        {"kind": "assertion", "audience": audience},
        out,
        "mrg verify ASSERTION --as SERVICE.toml --matter MATTER",
        as_json=as_json,
    )


# -- what goes in -----------------------------------------------------------------------------------------------------


def parse_claims(texts: Sequence[str]) -> dict[str, Any]:
    """Read attributes: JSON objects, ``@file`` with one in it, and ``name=value`` for texts.

    Raises:
        Failure: one is none of these, or an attribute comes twice. The value is never repeated.
    """
    claims: dict[str, Any] = {}
    for text in texts:
        for name, value in _read_claims(text).items():
            if name in claims:
                raise Failure(f"--claims: the attribute {name!r} is given twice", fix="leave one of them out")
            claims[name] = value
    return claims


def _read_claims(text: str) -> dict[str, Any]:
    fix = 'write for example --claims @person.json, --claims \'{"name": "..."}\' or --claims name=...'
    if text.startswith("@"):
        text = files.read_text(Path(text[1:]), "JSON object of attributes", limit=_MAX_CLAIMS_BYTES)
    elif not text.startswith("{"):
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise Failure("--claims: neither a JSON object nor @file nor name=value", fix=fix)
        return {name: value}
    try:
        return parse_json_object(text.encode("utf-8"))
    except Rejected as error:
        raise Failure(f"--claims: {error.detail}", fix=fix) from error


def _authentication(
    acr: str, amr: Sequence[str], authenticated_at: str | None, lab_clock: Path | None
) -> issuance_pb2.Authentication:
    moment = options.moment(authenticated_at, "--authenticated-at", options.world(lab_clock).now())
    return issuance_pb2.Authentication(acr=acr, amr=amr, authentication_time=wire.timestamp(moment))


def _actor(
    actor: str | None, relationship: str | None, scope: Sequence[str], claims: Sequence[str], until: str | None
) -> issuance_pb2.IssuedActor | None:
    if actor is None:
        if relationship or scope or claims or until:
            raise Failure("somebody is described who acts, and not named", fix="give --actor too")
        return None
    message = issuance_pb2.IssuedActor(
        local_subject=actor, relationship=relationship or "", scope=scope, claims=wire.struct(parse_claims(claims))
    )
    if until is not None:
        message.expire_time.CopyFrom(wire.timestamp(options.exact_moment(until, "--actor-until")))
    return message


def _lifetime(text: str | None) -> duration_pb2.Duration | None:
    span = options.lifetime(text)
    return None if span is None else wire.duration(span)


def _holder_key(path: Path, *, created: bool) -> SoftwareKey:
    if not created:
        return load_holder_key(path)
    key = generate_key()
    files.create_private(path, key.to_pkcs8())
    return key


def load_holder_key(path: Path) -> SoftwareKey:
    """Load a holder's private key.

    Raises:
        Failure: there is none.
    """
    try:
        return load_pkcs8(files.read_text(path, "holder's private key", limit=MAX_KEY_BYTES).encode("utf-8"))
    except ValueError as error:
        raise Failure(
            f"{path}: is not an unencrypted PKCS#8 private key (PEM)",
            fix="name the file that mrg issue credential --holder-key wrote",
        ) from error


def _refuse_extra(context: typer.Context) -> None:
    if context.args:
        raise Failure(
            "there are words that belong to no option",
            fix="put each option's value in quotes; repeat --claims for each",
        )


# -- what comes out ---------------------------------------------------------------------------------------------------


def _hand_over(
    token: str,
    expires: timestamp_pb2.Timestamp,
    facts: dict[str, str],
    out: Path | None,
    next_step: str,
    *,
    as_json: bool,
) -> None:
    expires_at = instant(connection.moment(expires))
    if out is not None:
        files.write_text(out, token, mode=files.PRIVATE)
    if as_json:
        file = None if out is None else str(out)
        write_document({**facts, facts["kind"]: token, "expires_at": expires_at, "file": file})
        return
    if out is None:
        write_line(token)
    screen = stdout() if out is not None else stderr()
    screen.facts(
        [
            ("Issued", facts["kind"]),
            *([("File", str(out))] if out is not None else []),
            ("Expires", expires_at or ""),
            *([("Credential", facts["credential_id"])] if facts.get("credential_id") else []),
            *([("Holder key", facts["holder_key"])] if "holder_key" in facts else []),
            ("Next", next_step),
        ]
    )
