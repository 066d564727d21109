"""``mrg challenge`` and ``mrg verify``: a service backend's two questions to its own province's gateway.

The verdict is in the exit code, so that a script cannot take a failed call for a verdict: 0 accepted, 1 rejected, 3
indeterminate, 4 could not ask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from recognition.v1 import verification_pb2, verification_pb2_grpc

from gateway.cli import connection, files, options
from gateway.cli.console import (
    ExitCode,
    Failure,
    Lang,
    exit_codes,
    instant,
    stderr,
    stdout,
    write_document,
)
from gateway.cli.holder import read_challenge
from gateway.cli.receipt import WAIT, WaitOption, fetch_evidence, show_fetched
from gateway.cli.verdict_screen import VERDICTS, describe, show
from gateway.core.sd_jwt import MAX_PRESENTATION_CHARS

CHALLENGE_EXIT_CODES: Final = exit_codes({ExitCode.OK: "done", ExitCode.NOT_ASKED: "could not ask the gateway"})
VERIFY_EXIT_CODES: Final = exit_codes(
    {
        ExitCode.OK: "accepted",
        ExitCode.NO: "rejected",
        ExitCode.CANNOT_TELL: "indeterminate: the gateway cannot tell now; ask again later",
        ExitCode.NOT_ASKED: "could not ask the gateway: there is no verdict",
    }
)
_MAX_VALUE_BYTES: Final = 1_024
_NO_TEXTS: Final[list[str]] = []
_NO_AGES: Final[list[int]] = []
_Matter = Annotated[str, typer.Option(help="Code of the matter (政务服务事项), for example HK-QY.")]


@connection.calls_gateway
def challenge(*, gateway: connection.Gateway, matter: _Matter, as_json: options.JsonOption = False) -> None:
    """Ask for a challenge: the nonce and audience that the holder is to sign. It is good once, for minutes."""
    request = verification_pb2.CreateChallengeRequest(matter=matter)
    answer = gateway.ask(
        lambda channel: verification_pb2_grpc.VerificationServiceStub(channel).CreateChallenge, request
    )
    expires_at = instant(connection.moment(answer.expire_time))
    if as_json:
        write_document({"matter": matter, "audience": answer.audience, "nonce": answer.nonce, "expires_at": expires_at})
        return
    stdout().facts(
        [
            ("Matter", matter),
            ("Audience", answer.audience),
            ("Nonce", answer.nonce),
            ("Expires", expires_at or ""),
            ("Next", f"mrg present CREDENTIAL --holder-key KEY --audience {answer.audience} --nonce {answer.nonce}"),
        ]
    )


@connection.calls_gateway
def verify(
    presentation: Annotated[
        Path, typer.Argument(metavar="PRESENTATION", help="File with the presentation or assertion; - for stdin.")
    ],
    *,
    gateway: connection.Gateway,
    matter: _Matter,
    nonce: Annotated[str, typer.Option(help="The nonce that the presentation answers; none for an assertion.")] = "",
    challenge: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What mrg challenge --json wrote, instead of --nonce.")
    ] = None,
    request_id: Annotated[str, typer.Option(help="Our own reference for the audit log.")] = "",
    consent: Annotated[str, typer.Option(metavar="ID", help="The consent it rests on; see mrg consent record.")] = "",
    age_at_least: Annotated[
        list[int], typer.Option(metavar="YEARS", help="Ask whether the person is so old; repeatable.")
    ] = _NO_AGES,
    household_in: Annotated[
        list[str], typer.Option(metavar="sh,js,..", help="Ask whether the household is there; repeatable.")
    ] = _NO_TEXTS,
    matches: Annotated[
        list[str],
        typer.Option(metavar="NAME=VALUE|NAME=@FILE", help="Ask whether an attribute is exactly this; repeatable."),
    ] = _NO_TEXTS,
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", metavar="FILE", help="Have the verdict signed, and keep its evidence in this file."),
    ] = None,
    wait: WaitOption = WAIT,
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Ask for the verdict on a presentation or an assertion, for one matter.

    Questions are answered yes or no without the attribute behind them. They are asked in the order of the options
    --age-at-least, --household-in, --matches, and the answers come in that order.
    """
    if challenge is not None:
        if nonce:
            raise Failure("--challenge says the nonce already", fix="leave --nonce out")
        _, nonce = read_challenge(challenge)
    request = verification_pb2.VerifyCredentialRequest(
        matter=matter,
        presentation=files.read_text(presentation, "presentation", limit=MAX_PRESENTATION_CHARS),
        nonce=nonce,
        request_id=request_id,
        consent_id=consent,
        predicates=[
            *(verification_pb2.Predicate(age_at_least=years) for years in age_at_least),
            *(_household_in(codes) for codes in household_in),
            *(_matches(text) for text in matches),
        ],
        want_receipt=receipt is not None,
    )
    with gateway.connected() as connected:
        answer = connected.ask(
            lambda channel: verification_pb2_grpc.VerificationServiceStub(channel).VerifyCredential, request
        )
        document = describe(answer)
        if as_json:
            write_document(document)
        else:
            show(document, matter, [_question(predicate) for predicate in request.predicates], lang)
        if receipt is not None:
            _keep_evidence(connected, answer, receipt, wait, lang, as_json=as_json)
    raise typer.Exit(VERDICTS[document["verdict"]][0])


def _keep_evidence(
    connected: connection.Connection,
    answer: verification_pb2.VerifyCredentialResponse,
    file: Path,
    wait: float,
    lang: Lang,
    *,
    as_json: bool,
) -> None:
    """Fetch the evidence of a verdict that was shown already. What goes wrong here takes nothing from the verdict."""
    try:
        witnesses = fetch_evidence(connected, answer.verification_id, file, wait, as_json=as_json)
    except Failure as failure:
        stderr().line(
            lang.pick("判定有效，但凭据未取得：", "The verdict stands, but its evidence was not fetched: ")
            + f"{failure.message}; mrg receipt fetch {answer.verification_id} --out {file}"
        )
        return
    if not as_json:
        show_fetched(file, witnesses, 1, lang)


# -- questions --------------------------------------------------------------------------------------------------------


def _household_in(codes: str) -> verification_pb2.Predicate:
    provinces = [code.strip() for code in codes.split(",") if code.strip()]
    return verification_pb2.Predicate(household_in=verification_pb2.HouseholdIn(provinces=provinces))


def _matches(text: str) -> verification_pb2.Predicate:
    claim, equals, value = text.partition("=")
    if not claim or not equals or not value:
        raise Failure(
            "--matches is not NAME=VALUE",
            fix="write for example --matches name=@name.txt; what stands on a command line is seen by others",
        )
    if value.startswith("@"):
        value = files.read_text(Path(value[1:]), "value to compare", limit=_MAX_VALUE_BYTES)
    return verification_pb2.Predicate(claim_matches=verification_pb2.ClaimMatch(claim=claim, value=value))


def _question(predicate: verification_pb2.Predicate) -> tuple[str, str]:
    match predicate.WhichOneof("question"):
        case "age_at_least":
            return f"年满 {predicate.age_at_least} 周岁？", f"at least {predicate.age_at_least} years old?"
        case "household_in":
            provinces = ", ".join(predicate.household_in.provinces)
            return f"户籍在 {provinces}？", f"household in {provinces}?"
        case _:
            claim = predicate.claim_matches.claim
            return f"{claim} 相符？", f"{claim} is the same?"
