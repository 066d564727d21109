"""``mrg explain``: how a decision came about, step by step, from what the gateway recorded of it.

For developers of relying services, on the verification listener, and for administrators with the role ``explain``, on
the admin listener: the profile given says which. There is no attribute in it; none was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import typer
from recognition.v1 import reason_pb2, verification_pb2, verification_pb2_grpc
from rich.text import Text

from gateway.cli import connection, options
from gateway.cli.console import Cell, ExitCode, Lang, exit_codes, instant, stdout, write_document
from gateway.cli.verdict_screen import named

EXIT_CODES: Final = exit_codes(
    {ExitCode.OK: "explained", ExitCode.NOT_ASKED: "not explained: the gateway was not reached, or did not answer"}
)
_OUTCOMES: Final[Mapping[str, tuple[str, str, str]]] = {
    "PASSED": ("green", "通过", "passed"),
    "FAILED": ("bold red", "在此拒绝", "refused here"),
    "UNDECIDED": ("bold yellow", "在此无法判断", "undecided here"),
    "NOT_REACHED": ("dim", "未执行", "not reached"),
    "NOT_NEEDED": ("dim", "不需要", "not needed"),
}


@connection.calls_gateway
def explain(
    verification_id: Annotated[
        str, typer.Argument(metavar="VERIFICATION", help="The decision's number, as mrg verify shows it.")
    ],
    *,
    gateway: connection.Gateway,
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Explain a decision: what each step looked at, which one decided, why, and what would mend it."""
    request = verification_pb2.ExplainVerificationRequest(verification_id=verification_id)
    answer = gateway.ask(
        lambda channel: verification_pb2_grpc.VerificationServiceStub(channel).ExplainVerification, request
    )
    document = _describe(answer)
    if as_json:
        write_document(document)
    else:
        _show(document, lang)


def _describe(answer: verification_pb2.ExplainVerificationResponse) -> dict[str, Any]:
    return {
        "verification_id": answer.verification_id,
        "verified_at": instant(connection.moment(answer.verify_time)),
        "service": answer.service,
        "matter": answer.matter,
        "verdict": answer.verdict,
        "reason": _reason(answer.reason),
        "steps": [_step(step) for step in answer.steps],
    }


def _step(step: verification_pb2.ExplainedStep) -> dict[str, Any]:
    return {
        "number": step.number,
        "title": _texts(step.title),
        "outcome": named(verification_pb2.StepOutcome.Name, step.outcome, "STEP_OUTCOME_"),
        "inputs": dict(step.inputs),
        "reason": _reason(step.reason),
        "meaning": _texts(step.meaning) if step.HasField("meaning") else None,
        "fix": _texts(step.fix) if step.HasField("fix") else None,
    }


def _reason(number: reason_pb2.Reason.ValueType) -> str | None:
    return named(reason_pb2.Reason.Name, number, "REASON_") if number else None


def _texts(texts: verification_pb2.LocalizedText) -> dict[str, str]:
    return {"zh": texts.zh, "en": texts.en}


def _show(document: Mapping[str, Any], lang: Lang) -> None:
    screen = stdout()
    screen.facts(
        [
            (lang.pick("核验编号", "Verification"), document["verification_id"]),
            (lang.pick("核验时间", "Decided"), document["verified_at"] or ""),
            (lang.pick("业务系统", "Service"), document["service"]),
            (lang.pick("事项", "Matter"), document["matter"]),
            (lang.pick("判定", "Verdict"), " ".join(filter(None, (document["verdict"], document["reason"])))),
        ]
    )
    screen.table(
        lang.pick("按执行次序", "In the order in which they ran"),
        (
            lang.pick("步", "Step"),
            lang.pick("做什么", "What it does"),
            lang.pick("结果", "Outcome"),
            lang.pick("依据", "What it looked at"),
        ),
        [row for step in document["steps"] for row in _rows(step, lang)],
    )
    for step in document["steps"]:
        if step["reason"] is not None:
            screen.line("")
            screen.line(Text(f"{step['number']}  {step['reason']}", "bold"))
            for texts in (step["meaning"], step["fix"]):
                for language in lang.languages:
                    screen.line((texts or {}).get(language.value, ""))


def _rows(step: Mapping[str, Any], lang: Lang) -> Iterator[tuple[Cell, ...]]:
    """Give a row for each thing that a step looked at, and one for a step that looked at nothing."""
    first, *others = [f"{name}: {value}" for name, value in step["inputs"].items()] or [""]
    title = lang.pick(step["title"]["zh"], step["title"]["en"])
    yield str(step["number"]), title, _outcome(step["outcome"], lang), first
    for other in others:
        yield "", "", "", other


def _outcome(name: str, lang: Lang) -> Cell:
    style, zh, en = _OUTCOMES.get(name, ("", name, name))
    return Text(lang.pick(zh, en), style)
