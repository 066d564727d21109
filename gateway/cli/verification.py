"""``mrg challenge`` and ``mrg verify``: a service backend's two questions to its own province's gateway.

The verdict is in the exit code, so that a script cannot take a failed call for a verdict: 0 accepted, 1 rejected, 3
indeterminate, 4 could not ask.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from recognition.v1 import reason_pb2, verification_pb2, verification_pb2_grpc
from rich.text import Text

from gateway import wire
from gateway.cli import connection, files, options
from gateway.cli.console import (
    Cell,
    ExitCode,
    Failure,
    Lang,
    exit_codes,
    instant,
    printable,
    span,
    stdout,
    write_document,
)
from gateway.cli.holder import read_challenge
from gateway.core.identifiers import Province
from gateway.core.reasons import Reason
from gateway.core.sd_jwt import MAX_PRESENTATION_CHARS
from gateway.core.texts import Language, text

CHALLENGE_EXIT_CODES: Final = exit_codes({ExitCode.OK: "done", ExitCode.NOT_ASKED: "could not ask the gateway"})
VERIFY_EXIT_CODES: Final = exit_codes(
    {
        ExitCode.OK: "accepted",
        ExitCode.NO: "rejected",
        ExitCode.CANNOT_TELL: "indeterminate: the gateway cannot tell now; ask again later",
        ExitCode.NOT_ASKED: "could not ask the gateway: there is no verdict",
    }
)
_VERDICTS: Final[Mapping[str, tuple[ExitCode, str, str, str]]] = {
    "accepted": (ExitCode.OK, "bold green", "予以认可", "ACCEPTED"),
    "rejected": (ExitCode.NO, "bold red", "不予认可", "REJECTED"),
    "indeterminate": (ExitCode.CANNOT_TELL, "bold yellow", "无法判断", "INDETERMINATE"),
}
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
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Ask for the verdict on a presentation or an assertion, for one matter."""
    if challenge is not None:
        if nonce:
            raise Failure("--challenge says the nonce already", fix="leave --nonce out")
        _, nonce = read_challenge(challenge)
    request = verification_pb2.VerifyCredentialRequest(
        matter=matter,
        presentation=files.read_text(presentation, "presentation", limit=MAX_PRESENTATION_CHARS),
        nonce=nonce,
        request_id=request_id,
    )
    answer = gateway.ask(
        lambda channel: verification_pb2_grpc.VerificationServiceStub(channel).VerifyCredential, request
    )
    document = describe(answer)
    if as_json:
        write_document(document)
    else:
        _show(document, matter, lang)
    raise typer.Exit(_VERDICTS[document["verdict"]][0])


# -- the answer as a document -----------------------------------------------------------------------------------------


def describe(answer: verification_pb2.VerifyCredentialResponse) -> dict[str, Any]:
    """Write an answer as the document that ``--json`` prints. Every key is always there.

    Raises:
        Failure: it holds no verdict.
    """
    verdict = answer.WhichOneof("verdict")
    if verdict is None:
        raise Failure(
            "the gateway's answer holds no verdict",
            fix="treat it as no answer and ask again; tell the gateway's administrator if it stays so",
            code=ExitCode.NOT_ASKED,
        )
    reason, retry_after = None, None
    if verdict == "rejected":
        reason = _reason(answer.rejected.reason)
    elif verdict == "indeterminate":
        reason = _reason(answer.indeterminate.reason)
        retry_after = _seconds(answer.indeterminate.retry_after.ToTimedelta())
    basis = answer.trust_basis
    return {
        "verdict": verdict,
        "reason": reason,
        "texts": _texts(reason),
        "retry_after_seconds": retry_after,
        "accepted": _acceptance(answer.accepted) if verdict == "accepted" else None,
        "verification_id": answer.verification_id,
        "verified_at": instant(connection.moment(answer.verify_time)),
        "trust_basis": {
            "charter_version": basis.charter_version,
            "view_id": basis.view_id,
            "age_seconds": _seconds(basis.age.ToTimedelta()) if basis.HasField("age") else None,
            "stale": basis.stale,
        },
    }


def _acceptance(accepted: verification_pb2.Acceptance) -> dict[str, Any]:
    return {
        "subject": accepted.subject,
        "issuer": accepted.issuer,
        "issuing_province": accepted.issuing_province,
        "credential_type": accepted.credential_type,
        "assurance": {
            "identity": accepted.assurance.identity,
            "authenticator": accepted.assurance.authenticator,
            "federation": accepted.assurance.federation,
            "acr": accepted.assurance.acr,
        },
        "attributes": wire.claims(accepted.attributes),
        "issued_at": instant(connection.moment(accepted.issue_time)),
        "authenticated_at": instant(connection.moment(accepted.authentication_time)),
        "expires_at": instant(connection.moment(accepted.expire_time)),
        "holder_bound": accepted.holder_bound,
    }


def _reason(number: reason_pb2.Reason.ValueType) -> str:
    try:
        return reason_pb2.Reason.Name(number).removeprefix("REASON_")
    except ValueError:  # a gateway newer than this program
        return str(int(number))


def _texts(reason: str | None) -> dict[str, dict[str, str]]:
    try:
        known = Reason(reason or "")
    except ValueError:
        return {}
    words = {language: text(known, language) for language in Language}
    return {language.value: {"what": word.what, "next_step": word.next_step} for language, word in words.items()}


def _seconds(length: timedelta) -> int:
    return int(length.total_seconds())


# -- the answer for people --------------------------------------------------------------------------------------------


def _show(document: Mapping[str, Any], matter: str, lang: Lang) -> None:
    screen = stdout()
    _, style, zh, en = _VERDICTS[document["verdict"]]
    reason = f"  {document['reason']}" if document["reason"] else ""
    screen.line(Text.assemble((lang.pick(zh, en), style), printable(reason)))
    for language in lang.languages:
        words = document["texts"].get(language.value)
        if words is not None:
            screen.line(words["what"])
            screen.line(words["next_step"])
    screen.facts(_facts(document, matter, lang))
    if document["accepted"] is not None:
        attributes = document["accepted"]["attributes"].items()
        screen.table(
            lang.pick("属性", "Attributes"),
            (lang.pick("名称", "Name"), lang.pick("值", "Value")),
            [
                (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
                for name, value in sorted(attributes)
            ],
        )


def _facts(document: Mapping[str, Any], matter: str, lang: Lang) -> Iterator[tuple[str, Cell]]:
    accepted, basis = document["accepted"], document["trust_basis"]
    yield lang.pick("事项", "Matter"), matter
    if accepted is not None:
        level = accepted["assurance"]
        yield lang.pick("签发机构", "Issuer"), f"{accepted['issuer']} ({_province(accepted['issuing_province'], lang)})"
        yield lang.pick("凭证类型", "Type"), accepted["credential_type"]
        yield (
            lang.pick("认证等级", "Assurance"),
            f"IAL{level['identity']} AAL{level['authenticator']} FAL{level['federation']} ({level['acr']})",
        )
        yield lang.pick("化名", "Subject"), accepted["subject"]
        yield lang.pick("持有证明", "Holder bound"), "✓" if accepted["holder_bound"] else "✗"
        yield lang.pick("认证时间", "Authenticated"), accepted["authenticated_at"] or ""
        yield lang.pick("有效期至", "Expires"), accepted["expires_at"] or ""
    if document["retry_after_seconds"] is not None:
        yield lang.pick("可重试", "Ask again in"), span(timedelta(seconds=document["retry_after_seconds"]))
    yield lang.pick("核验编号", "Verification"), document["verification_id"]
    yield lang.pick("核验时间", "Decided"), document["verified_at"] or ""
    age = "-" if basis["age_seconds"] is None else span(timedelta(seconds=basis["age_seconds"]))
    stale = f", {lang.pick('已陈旧', 'stale')}" if basis["stale"] else ""
    yield (
        lang.pick("信任依据", "Trust basis"),
        f"charter {basis['charter_version']}, view {basis['view_id']}, {age}{stale}",
    )


def _province(code: str, lang: Lang) -> str:
    try:
        province = Province(code)
    except ValueError:
        return code
    return lang.pick(province.name_zh, province.name_en)
