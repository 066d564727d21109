"""``mrg consent``: put a person's consent on record, and withdraw it.

The signed document stays where it was signed. On record are service, matter, names of claims and times.
"""

from __future__ import annotations

from typing import Annotated, Final

import typer
from recognition.v1 import verification_pb2, verification_pb2_grpc

from gateway import wire
from gateway.cli import connection, options
from gateway.cli.console import ExitCode, Failure, Lang, exit_codes, instant, stdout, write_document

app = typer.Typer(no_args_is_help=True, help="Put a person's consent on record, and withdraw it.")
_EXIT_CODES: Final = exit_codes(
    {ExitCode.OK: "recorded", ExitCode.NOT_ASKED: "not recorded: the gateway was not reached or refused"}
)


@app.command(epilog=_EXIT_CODES)
@connection.calls_gateway
def record(
    *,
    gateway: connection.Gateway,
    matter: Annotated[str, typer.Option(help="Code of the matter; it must rest on consent.")],
    claim: Annotated[list[str], typer.Option(metavar="NAME", help="A claim that the consent covers; repeatable.")],
    lifetime: Annotated[str, typer.Option(metavar="12h|90d", help="How long it lasts; 366 days at most.")],
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Record that a person consented; name the reference in mrg verify --consent."""
    span = options.lifetime(lifetime)
    if span is None:
        raise Failure("--lifetime is missing", fix="write for example --lifetime 90d")
    request = verification_pb2.RecordConsentRequest(matter=matter, claims=claim, lifetime=wire.duration(span))
    answer = gateway.ask(lambda channel: verification_pb2_grpc.VerificationServiceStub(channel).RecordConsent, request)
    expires_at = instant(connection.moment(answer.expire_time))
    if as_json:
        write_document({"consent_id": answer.consent_id, "matter": matter, "claims": claim, "expires_at": expires_at})
        return
    stdout().facts(
        [
            (lang.pick("同意编号", "Consent"), answer.consent_id),
            (lang.pick("事项", "Matter"), matter),
            (lang.pick("覆盖", "Covers"), " ".join(claim)),
            (lang.pick("有效期至", "Lasts until"), expires_at or ""),
        ]
    )


@app.command(context_settings=options.ANY_NAME, epilog=_EXIT_CODES)
@connection.calls_gateway
def withdraw(
    consent_id: Annotated[str, typer.Argument(metavar="CONSENT", help="Its reference.")],
    *,
    gateway: connection.Gateway,
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Record that the person withdrew it. Nothing is accepted on its strength any more."""
    request = verification_pb2.WithdrawConsentRequest(consent_id=consent_id)
    answer = gateway.ask(
        lambda channel: verification_pb2_grpc.VerificationServiceStub(channel).WithdrawConsent, request
    )
    withdrawn_at = instant(connection.moment(answer.withdraw_time))
    if as_json:
        write_document({"consent_id": consent_id, "withdrawn_at": withdrawn_at})
        return
    stdout().facts(
        [
            (lang.pick("同意编号", "Consent"), consent_id),
            (lang.pick("撤回时间", "Withdrawn"), withdrawn_at or ""),
        ]
    )
