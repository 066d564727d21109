"""A verdict as a document for programs, and as a screen for people.

Whoever acts for somebody has a block of their own, and nothing of the two is ever on one line. What a question was
compared with is not repeated: it came from the caller's file, and belongs there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from recognition.v1 import reason_pb2, verification_pb2
from rich.text import Text

from gateway import wire
from gateway.cli import connection
from gateway.cli.console import Cell, ExitCode, Failure, Lang, instant, printable, span, stdout
from gateway.core.identifiers import Province
from gateway.core.reasons import Reason
from gateway.core.texts import Language, NextStep, step_text, text

VERDICTS: Final[Mapping[str, tuple[ExitCode, str, str, str]]] = {
    "accepted": (ExitCode.OK, "bold green", "予以认可", "ACCEPTED"),
    "rejected": (ExitCode.NO, "bold red", "不予认可", "REJECTED"),
    "indeterminate": (ExitCode.CANNOT_TELL, "bold yellow", "无法判断", "INDETERMINATE"),
}
_SUBJECT_TYPES: Final = {
    verification_pb2.SUBJECT_TYPE_NATURAL: "natural",
    verification_pb2.SUBJECT_TYPE_LEGAL: "legal",
}
_ANSWERS: Final = {verification_pb2.PREDICATE_ANSWER_YES: "yes", verification_pb2.PREDICATE_ANSWER_NO: "no"}


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
        "next_step": named(verification_pb2.NextStep.Name, answer.next_step, "NEXT_STEP_"),
        "verification_id": answer.verification_id,
        "verified_at": instant(connection.moment(answer.verify_time)),
        "trust_basis": {
            "charter_version": basis.charter_version,
            "view_id": basis.view_id,
            "age_seconds": _seconds(basis.age.ToTimedelta()) if basis.HasField("age") else None,
            "stale": basis.stale,
        },
        "status_basis": _status_basis(answer),
        "receipt": answer.receipt or None,
    }


def _status_basis(answer: verification_pb2.VerifyCredentialResponse) -> dict[str, Any] | None:
    if not answer.HasField("status_basis"):
        return None
    basis = answer.status_basis
    return {
        "list": basis.list,
        "issued_at": instant(connection.moment(basis.issue_time)),
        "age_seconds": _seconds(basis.age.ToTimedelta()),
    }


def _acceptance(accepted: verification_pb2.Acceptance) -> dict[str, Any]:
    return {
        "subject": accepted.subject,
        "previous_subject": accepted.previous_subject or None,
        "subject_type": _SUBJECT_TYPES.get(accepted.subject_type),
        "actor": _actor(accepted.actor) if accepted.HasField("actor") else None,
        "issuer": accepted.issuer,
        "issuing_province": accepted.issuing_province,
        "household_province": accepted.household_province or None,
        "credential_type": accepted.credential_type,
        "assurance": {
            "identity": accepted.assurance.identity,
            "authenticator": accepted.assurance.authenticator,
            "federation": accepted.assurance.federation,
            "acr": accepted.assurance.acr,
            "level": accepted.assurance.level,
        },
        "attributes": wire.claims(accepted.attributes),
        "answers": [_ANSWERS.get(answer) for answer in accepted.predicate_answers],
        "issued_at": instant(connection.moment(accepted.issue_time)),
        "authenticated_at": instant(connection.moment(accepted.authentication_time)),
        "expires_at": instant(connection.moment(accepted.expire_time)),
        "credential_age_seconds": _seconds(accepted.credential_age.ToTimedelta()),
        "authentication_age_seconds": _seconds(accepted.authentication_age.ToTimedelta()),
        "erase_at": instant(connection.moment(accepted.erase_time)) if accepted.HasField("erase_time") else None,
        "legal_basis": accepted.legal_basis or None,
        "holder_bound": accepted.holder_bound,
    }


def _actor(actor: verification_pb2.Actor) -> dict[str, Any]:
    return {
        "subject": actor.subject,
        "previous_subject": actor.previous_subject or None,
        "relationship": actor.relationship,
        "attributes": wire.claims(actor.attributes),
    }


def named(name: Callable[[Any], str], number: int, prefix: str) -> str:
    """Give the name of a number of an enum, or the number when a newer gateway sent it."""
    try:
        return name(number).removeprefix(prefix)
    except ValueError:
        return str(int(number))


def _reason(number: reason_pb2.Reason.ValueType) -> str:
    return named(reason_pb2.Reason.Name, number, "REASON_")


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


def show(document: Mapping[str, Any], matter: str, questions: Sequence[tuple[str, str]], lang: Lang) -> None:
    """Show an answer.

    Args:
        document: see ``describe``.
        matter: what it was for.
        questions: what was asked, in Chinese and in English.
        lang: the languages to write in.
    """
    screen = stdout()
    _, style, zh, en = VERDICTS[document["verdict"]]
    reason = f"  {document['reason']}" if document["reason"] else ""
    screen.line(Text.assemble((lang.pick(zh, en), style), printable(reason)))
    for language in lang.languages:
        words = document["texts"].get(language.value)
        if words is not None:
            screen.line(words["what"])
        screen.line(_next_step(document, language))
    screen.facts(_facts(document, matter, lang))
    accepted = document["accepted"]
    _answers(questions, [] if accepted is None else accepted["answers"], lang)
    if accepted is None:
        screen.line(
            lang.pick("逐步说明：", "Step by step: ") + f"mrg explain {document['verification_id']} --as PROFILE"
        )
        return
    _attributes(accepted["attributes"], lang.pick("属性", "Attributes"), lang)
    actor = accepted["actor"]
    if actor is not None:
        screen.line("")
        screen.line(
            Text(lang.pick("由他人代办，以下是代办人：", "Somebody acts for the subject; this is who:"), "bold")
        )
        screen.facts(
            [
                (lang.pick("关系", "Relationship"), actor["relationship"]),
                (lang.pick("代办人化名", "Actor's subject"), actor["subject"]),
                *_previous(actor, lang),
            ]
        )
        _attributes(actor["attributes"], lang.pick("代办人属性", "Actor's attributes"), lang)


def _answers(questions: Sequence[tuple[str, str]], answers: Sequence[str | None], lang: Lang) -> None:
    """Show every question: of one that is left out, nobody would notice that it has no answer."""
    answered = [*answers, *[None] * (len(questions) - len(answers))]
    stdout().table(
        lang.pick("回答", "Answers"),
        (lang.pick("问题", "Question"), lang.pick("答", "Answer")),
        [(lang.pick(*question), _answer(answer, lang)) for question, answer in zip(questions, answered, strict=False)],
    )


def _attributes(attributes: Mapping[str, Any], title: str, lang: Lang) -> None:
    stdout().table(
        title,
        (lang.pick("名称", "Name"), lang.pick("值", "Value")),
        [
            (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for name, value in sorted(attributes.items())
        ],
    )


def _answer(answer: str | None, lang: Lang) -> Cell:
    match answer:
        case "yes":
            return Text(lang.pick("是", "yes"), "green")
        case "no":
            return Text(lang.pick("否", "no"), "red")
        case _:
            return Text(lang.pick("未回答", "not answered"), "yellow")


def _next_step(document: Mapping[str, Any], language: Language) -> str:
    try:
        return step_text(NextStep(document["next_step"]), language)
    except ValueError:  # none, or one of a gateway newer than this program: what the reason alone suggests
        words = document["texts"].get(language.value)
        return words["next_step"] if words is not None else step_text(NextStep.CALL_SUPPORT, language)


def _facts(document: Mapping[str, Any], matter: str, lang: Lang) -> Iterator[tuple[str, Cell]]:
    yield lang.pick("事项", "Matter"), matter
    if document["accepted"] is not None:
        yield from _accepted(document["accepted"], lang)
    if document["retry_after_seconds"] is not None:
        yield lang.pick("可重试", "Ask again in"), _age(document["retry_after_seconds"], lang)
    yield lang.pick("核验编号", "Verification"), document["verification_id"]
    yield lang.pick("核验时间", "Decided"), document["verified_at"] or ""
    basis, status = document["trust_basis"], document["status_basis"]
    stale = f", {lang.pick('已陈旧', 'stale')}" if basis["stale"] else ""
    charter, view = lang.pick("章程", "charter"), lang.pick("视图", "view")
    yield (
        lang.pick("信任依据", "Trust basis"),
        f"{charter} {basis['charter_version']}, {view} {basis['view_id']}, {_age(basis['age_seconds'], lang)}{stale}",
    )
    if status is not None:
        yield lang.pick("状态依据", "Status basis"), f"{status['list']}, {_age(status['age_seconds'], lang)}"


def _accepted(accepted: Mapping[str, Any], lang: Lang) -> Iterator[tuple[str, Cell]]:
    level = accepted["assurance"]
    yield lang.pick("签发机构", "Issuer"), f"{accepted['issuer']} ({_province(accepted['issuing_province'], lang)})"
    yield lang.pick("凭证类型", "Type"), accepted["credential_type"]
    yield (
        lang.pick("认证等级", "Assurance"),
        f"{level['level']}: {_three(level)} ({level['acr']})",
    )
    if accepted["subject_type"] == "legal":
        yield lang.pick("主体", "Subject is"), lang.pick("法人或其他组织", "an organisation")
    yield lang.pick("化名", "Subject"), accepted["subject"]
    yield from _previous(accepted, lang)
    if accepted["household_province"] is not None:
        yield lang.pick("户籍所在", "Household in"), _province(accepted["household_province"], lang)
    yield lang.pick("持有证明", "Holder bound"), "✓" if accepted["holder_bound"] else "✗"
    yield (
        lang.pick("认证时间", "Authenticated"),
        f"{accepted['authenticated_at'] or ''} ({_age(accepted['authentication_age_seconds'], lang)})",
    )
    yield (
        lang.pick("签发至今", "Issued"),
        f"{accepted['issued_at'] or ''} ({_age(accepted['credential_age_seconds'], lang)})",
    )
    yield lang.pick("有效期至", "Expires"), accepted["expires_at"] or ""
    if accepted["erase_at"] is not None:
        yield lang.pick("信息保存至", "Erase by"), accepted["erase_at"]
    if accepted["legal_basis"] is not None:
        yield lang.pick("法律依据", "Legal basis"), accepted["legal_basis"]


def _three(level: Mapping[str, Any]) -> str:
    return f"IAL{level['identity']} AAL{level['authenticator']} FAL{level['federation']}"


def _previous(subject: Mapping[str, Any], lang: Lang) -> Iterator[tuple[str, Cell]]:
    if subject["previous_subject"] is not None:
        yield lang.pick("此前化名", "Subject before"), subject["previous_subject"]


def _age(seconds: int | None, lang: Lang) -> str:
    return "-" if seconds is None else span(timedelta(seconds=seconds), lang)


def _province(code: str, lang: Lang) -> str:
    try:
        province = Province(code)
    except ValueError:
        return code
    return lang.pick(province.name_zh, province.name_en)
