"""``mrg dispute``: somebody contests a verification (异议), and how that was settled.

For administrators with the role ``disputes`` and for the province's identity systems. Who contests, and in which words,
is in a case file elsewhere; here is its reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer
from recognition.v1 import audit_pb2, audit_pb2_grpc
from rich.text import Text

from gateway.cli import connection, files, options
from gateway.cli.console import Cell, ExitCode, Lang, exit_codes, instant, stdout, write_document
from gateway.cli.verdict_screen import named
from gateway.core.disputes import DisputeOutcome, Ground
from gateway.core.encoding import b64url_encode

app = typer.Typer(no_args_is_help=True, help="Record and settle disputes about verifications (异议).")

_PAGE: Final = 100
_MAX_LIMIT: Final = 10_000


def _spelling(name: str) -> str:
    return name.lower().replace("_", "-")


GroundOption = StrEnum("GroundOption", {each.name: _spelling(each.name) for each in Ground})  # type: ignore[misc]
OutcomeOption = StrEnum(  # type: ignore[misc]
    "OutcomeOption", {each.name: _spelling(each.name) for each in DisputeOutcome}
)
_GROUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "not-me": ("不是本人", "it was not me"),
    "wrong-attributes": ("交出的属性有误", "what was handed on is wrong"),
    "no-consent": ("未经同意", "I did not consent"),
    "wrongly-refused": ("不应被拒", "I should not have been turned away"),
    "other": ("其他，见案卷", "something else; the case file tells"),
}
_OUTCOMES: Final[Mapping[str, tuple[str, str, str]]] = {
    "upheld": ("green", "异议成立", "upheld"),
    "dismissed": ("", "维持核验", "dismissed"),
    "withdrawn": ("dim", "撤回", "withdrawn"),
}
_CHANGED: Final = exit_codes(
    {
        ExitCode.OK: "recorded",
        ExitCode.NO: "not done: it was settled before, otherwise",
        ExitCode.NOT_ASKED: "nothing was recorded: could not ask, or there is no such verification or dispute",
    }
)
_NO_DISPUTE: Final = "could not ask the gateway, or there is no such dispute"
_SHOWN: Final = exit_codes({ExitCode.OK: "shown", ExitCode.NOT_ASKED: _NO_DISPUTE})
_LISTED: Final = exit_codes({ExitCode.OK: "shown", ExitCode.NOT_ASKED: "could not ask the gateway"})
_WRITTEN: Final = exit_codes({ExitCode.OK: "written", ExitCode.NOT_ASKED: _NO_DISPUTE})
_Id = Annotated[str, typer.Argument(metavar="DISPUTE", help="The dispute's number.")]


def _stub(channel: grpc.Channel) -> Any:
    return audit_pb2_grpc.AuditServiceStub(channel)


@app.command("open", context_settings=options.ANY_NAME, epilog=_CHANGED)
@connection.administers
def open_(
    verification: Annotated[str, typer.Argument(metavar="VERIFICATION", help="The verification that is contested.")],
    *,
    gateway: connection.Gateway,
    ground: Annotated[GroundOption, typer.Option(help="Why it is contested.")],
    province: Annotated[
        str, typer.Option(metavar="sh|js|zj|ah", help="Whose gateway made it. Default: the one that is asked.")
    ] = "",
    case: Annotated[
        str, typer.Option("--case", metavar="REF", help="Reference of the case file; it must not say who it is about.")
    ] = "",
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Record that somebody contests a verification. Its evidence is put by at once, from wherever it was made."""
    request = audit_pb2.OpenDisputeRequest(
        verification_id=verification,
        province=province,
        ground=audit_pb2.DisputeGround.Value(f"DISPUTE_GROUND_{ground.name}"),
        case_reference=case,
    )
    answer = gateway.ask(lambda channel: _stub(channel).OpenDispute, request)
    _give(_describe(answer.dispute), lang, as_json=as_json)


@app.command(context_settings=options.ANY_NAME, epilog=_SHOWN)
@connection.administers
def show(
    dispute: _Id,
    *,
    gateway: connection.Gateway,
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Show a dispute as it stands."""
    answer = gateway.ask(lambda channel: _stub(channel).GetDispute, audit_pb2.GetDisputeRequest(dispute_id=dispute))
    _give(_describe(answer.dispute), lang, as_json=as_json)


@app.command(context_settings=options.ANY_NAME, epilog=_CHANGED)
@connection.administers
def resolve(
    dispute: _Id,
    *,
    gateway: connection.Gateway,
    outcome: Annotated[OutcomeOption, typer.Option(help="How it was settled.")],
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Record how a dispute was settled. It is settled once; if there is news, open another one."""
    request = audit_pb2.ResolveDisputeRequest(
        dispute_id=dispute, outcome=audit_pb2.DisputeOutcome.Value(f"DISPUTE_OUTCOME_{outcome.name}")
    )
    answer = gateway.ask(lambda channel: _stub(channel).ResolveDispute, request)
    _give(_describe(answer.dispute), lang, as_json=as_json)


@app.command("list", epilog=_LISTED)
@connection.administers
def list_(
    *,
    gateway: connection.Gateway,
    is_open: Annotated[bool, typer.Option("--open", help="Only those that are not settled.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=_MAX_LIMIT, help="At most so many.")] = 100,
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """List disputes, newest first."""
    found: list[audit_pb2.Dispute] = []
    request = audit_pb2.ListDisputesRequest(open_only=is_open, page_size=_PAGE)
    with gateway.connected() as connected:
        while len(found) <= limit:  # a page may hold none that is open, and pages come to an end
            answer = connected.ask(lambda channel: _stub(channel).ListDisputes, request)
            found += answer.disputes
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    documents = [_describe(each) for each in found[:limit]]
    if as_json:
        write_document({"disputes": documents, "more": len(found) > limit})
        return
    screen, pick = stdout(), lang.pick
    screen.table(
        pick("异议", "Disputes"),
        (
            pick("提出时间", "Opened"),
            pick("异议编号", "Dispute"),
            pick("理由", "Ground"),
            pick("省份", "Province"),
            pick("核验编号", "Verification"),
            pick("案卷", "Case"),
            pick("结果", "Outcome"),
        ),
        [
            (
                each["opened_at"] or "-",
                each["dispute_id"],
                pick(*_words(each["ground"])),
                each["province"],
                each["verification_id"],
                each["case"] or "-",
                _outcome(each["outcome"], lang),
            )
            for each in documents
        ],
        whole={pick("异议编号", "Dispute"), pick("核验编号", "Verification")},
    )
    if not documents:
        screen.line(pick("没有异议。", "There is no dispute."))
    elif len(found) > limit:
        screen.line(pick("还有更多；请加大 --limit。", "There are more: raise --limit."))


@app.command(context_settings=options.ANY_NAME, epilog=_WRITTEN)
@connection.administers
def bundle(
    dispute: _Id,
    *,
    gateway: connection.Gateway,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Write the evidence here.")],
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Write the evidence of what is contested to a file, to be checked with mrg receipt verify.

    It is fetched anew, from the other province where the verification was made there; if that cannot be, it is the one
    that was put by when the dispute was opened.
    """
    request = audit_pb2.GetDisputeRequest(dispute_id=dispute, with_evidence=True)
    answer = gateway.ask(lambda channel: _stub(channel).GetDispute, request)
    files.write_text(out, answer.evidence, mode=files.PRIVATE)
    document = _describe(answer.dispute)
    if as_json:
        write_document({"file": str(out), "dispute": document})
        return
    stdout().facts(
        [
            (lang.pick("凭据", "Evidence"), str(out)),
            (lang.pick("下一步", "Next"), f"mrg receipt verify {out} --charter CHARTER.json"),
        ]
    )


# -- showing ----------------------------------------------------------------------------------------------------------


def _describe(dispute: audit_pb2.Dispute) -> dict[str, Any]:
    is_settled = dispute.HasField("resolve_time")
    outcome = _spelling(named(audit_pb2.DisputeOutcome.Name, dispute.outcome, "DISPUTE_OUTCOME_"))
    return {
        "dispute_id": dispute.dispute_id,
        "verification_id": dispute.verification_id,
        "province": dispute.province,
        "ground": _spelling(named(audit_pb2.DisputeGround.Name, dispute.ground, "DISPUTE_GROUND_")),
        "case": dispute.case_reference or None,
        "opened_at": instant(connection.moment(dispute.open_time)),
        "opened_by": dispute.opened_by,
        "evidence_sha256": b64url_encode(dispute.evidence_sha256),
        "outcome": outcome if is_settled else None,
        "resolved_at": instant(connection.moment(dispute.resolve_time)) if is_settled else None,
        "resolved_by": dispute.resolved_by or None,
    }


def _give(document: Mapping[str, Any], lang: Lang, *, as_json: bool) -> None:
    if as_json:
        write_document(document)
        return
    pick = lang.pick
    stdout().facts(
        [
            (pick("异议编号", "Dispute"), document["dispute_id"]),
            (pick("核验编号", "Verification"), document["verification_id"]),
            (pick("省份", "Province"), document["province"]),
            (pick("理由", "Ground"), pick(*_words(document["ground"]))),
            (pick("案卷", "Case file"), document["case"] or "-"),
            (pick("提出", "Opened"), f"{document['opened_at']}, {document['opened_by']}"),
            (pick("已存凭据", "Evidence put by"), f"SHA-256 {document['evidence_sha256']}"),
            (pick("结果", "Outcome"), _outcome(document["outcome"], lang)),
            *(
                [(pick("处理", "Settled"), f"{document['resolved_at']}, {document['resolved_by']}")]
                if document["outcome"] is not None
                else []
            ),
        ]
    )


def _words(ground: str) -> tuple[str, str]:
    return _GROUNDS.get(ground, (ground, ground))


def _outcome(outcome: str | None, lang: Lang) -> Cell:
    if outcome is None:
        return Text(lang.pick("未处理", "open"), "yellow")
    style, zh, en = _OUTCOMES.get(outcome, ("", outcome, outcome))
    return Text(lang.pick(zh, en), style)
