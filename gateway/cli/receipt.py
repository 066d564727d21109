"""``mrg receipt``: what a relying service keeps of a verification, and how anybody checks it years later.

``fetch`` waits until another province has seen the log with the entry in it, and writes one file. ``verify`` asks
nobody: the file and a charter that whoever checks trusts are all it takes. Its exit code is one of three answers, as
for a verdict: proven, does not hold, and signed but not proven to be in a log that others have seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from recognition.v1 import audit_pb2, audit_pb2_grpc
from rich.text import Text

from gateway.cli import connection, files, options
from gateway.cli.console import (
    Cell,
    ExitCode,
    Lang,
    exit_codes,
    instant,
    progress,
    stderr,
    stdout,
    write_document,
)
from gateway.cli.log_check import trusted_charter
from gateway.cli.verdict_screen import VERDICTS
from gateway.core.encoding import b64url_encode
from gateway.core.identifiers import Province
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.receipt import (
    MAX_BUNDLE_BYTES,
    ReceiptCheck,
    check_bundle,
    read_bundle,
    read_logged,
    view_of,
)

app = typer.Typer(no_args_is_help=True, help="Keep the evidence of a verification, and check it offline.")

LOOK_SECONDS: Final = 0.5
"""Between two looks whether another province has seen the log."""
_UNTOLD: Final = frozenset({Reason.TRUST_STALE, Reason.CLOCK_REGRESSED})
"""Why a key cannot be judged: neither a yes nor a no."""
_FETCHED: Final = {
    ExitCode.OK: "written, and complete",
    ExitCode.CANNOT_TELL: "written, but not enough other provinces have seen it yet; fetch it again later",
    ExitCode.NOT_ASKED: "could not ask the gateway, or there is no such verification",
}
VERIFY_EXIT_CODES: Final = exit_codes(
    {
        ExitCode.OK: "all is proven",
        ExitCode.NO: "something does not hold",
        ExitCode.CANNOT_TELL: "signed, but not proven to be in a log that enough provinces have seen",
    }
)
_Verification = Annotated[
    str, typer.Argument(metavar="VERIFICATION", help="The verification's number, as mrg verify shows it.")
]
WaitOption = Annotated[
    float, typer.Option("--wait", min=0, max=300, help="Seconds to wait until another province has seen it.")
]
WAIT: Final = 15.0
_WITNESSES_HELP: Final = "So many other provinces must have seen the log."


# -- fetching ---------------------------------------------------------------------------------------------------------


@app.command(context_settings=options.ANY_NAME, epilog=exit_codes(_FETCHED))
@connection.calls_gateway
def fetch(
    verification_id: _Verification,
    *,
    gateway: connection.Gateway,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Write the evidence here.")],
    wait: WaitOption = WAIT,
    wanted: Annotated[int, typer.Option("--witnesses", min=0, max=len(Province) - 1, help=_WITNESSES_HELP)] = 1,
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Fetch the evidence of a verification into a file that can be checked without asking anybody.

    It can be fetched as long as the entry is kept, and it is the better the sooner: keep it with the case file.
    """
    with gateway.connected() as connected:
        witnesses = fetch_evidence(connected, verification_id, out, wait, wanted=wanted, as_json=as_json)
    if as_json:
        write_document({"verification_id": verification_id, "file": str(out), "witnesses": witnesses})
    else:
        show_fetched(out, witnesses, wanted, lang)
    raise typer.Exit(ExitCode.OK if witnesses >= wanted else ExitCode.CANNOT_TELL)


def fetch_evidence(
    connected: connection.Connection,
    verification_id: str,
    out: Path,
    wait: float,
    *,
    wanted: int = 1,
    as_json: bool,
) -> int:
    """Fetch evidence into a file, complete if it becomes so in time; gives how many other provinces have seen it.

    Raises:
        Failure: the gateway was not reached or refused, or the file cannot be written.
    """
    request = audit_pb2.GetEvidenceRequest(verification_id=verification_id)
    began = time.monotonic()
    with progress(max(1, round(wait)), shown=not as_json) as advance:
        shown = 0
        while True:
            answer = connected.ask(lambda channel: audit_pb2_grpc.AuditServiceStub(channel).GetEvidence, request)
            passed = time.monotonic() - began
            if answer.witnesses >= wanted or passed + LOOK_SECONDS > wait:
                break
            advance(round(passed) - shown)
            shown = round(passed)
            time.sleep(LOOK_SECONDS)
    files.write_text(out, answer.evidence, mode=files.PRIVATE)
    return answer.witnesses


def show_fetched(out: Path, witnesses: int, wanted: int, lang: Lang) -> None:
    """Say what was fetched, on stderr where stdout may be taken by a verdict."""
    seen = lang.pick(f"{witnesses} 省已见证", f"provinces that have seen it: {witnesses}")
    written = lang.pick(f"凭据已写出：{out}", f"Evidence: {out}")
    if witnesses >= wanted:
        stderr().line(f"{written} ({seen})")
        return
    again = lang.pick(f"需 {wanted} 省，请稍后再取", f"wanted: {wanted}; fetch it again later")
    stderr().line(Text(f"{written} ({seen}; {again})", "yellow"))


# -- checking ---------------------------------------------------------------------------------------------------------


@app.command(epilog=VERIFY_EXIT_CODES)
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What mrg receipt fetch wrote.")],
    *,
    charter: Annotated[Path, typer.Option("--charter", metavar="FILE", help="A charter you trust.")],
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="DIGEST", help="The charter's digest, as people compared it.")
    ] = None,
    witnesses: Annotated[int, typer.Option(min=0, max=len(Province) - 1, help=_WITNESSES_HELP)] = 1,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Check the evidence of a verification. Offline: it needs the file and a charter that you trust, and no network.

    The charter may be any that was in force when the evidence was fetched, or before: those that followed are in the
    file and must have been signed by a quorum of the one before.
    """
    now = options.world(lab_clock).now()
    pinned = trusted_charter(charter, sha256)
    raw = files.read_text(file, "evidence", limit=MAX_BUNDLE_BYTES).encode("utf-8")
    document: dict[str, Any] = {"file": str(file), "receipt": None, "log": None, "witnesses": [], "problems": []}
    code = ExitCode.NO
    try:
        bundle = read_bundle(raw)
        check = check_bundle(bundle, pinned, partial(view_of, bundle), read_logged, now)
        document |= _describe(check)
        code = _judge(check, witnesses)
    except Rejected as rejection:
        document["problems"] = [{"reason": rejection.reason.value, "detail": rejection.detail}]
    except Indeterminate as doubt:
        document["problems"] = [{"reason": doubt.reason.value, "detail": doubt.detail}]
        code = ExitCode.CANNOT_TELL
    document["result"] = _RESULTS[code][0]
    if as_json:
        write_document(document)
    else:
        _show(document, code, witnesses, lang)
    raise typer.Exit(code)


_RESULTS: Final[Mapping[ExitCode, tuple[str, str, str, str]]] = {
    ExitCode.OK: ("proven", "bold green", "全部得证", "PROVEN"),
    ExitCode.NO: ("does_not_hold", "bold red", "不成立", "DOES NOT HOLD"),
    ExitCode.CANNOT_TELL: ("not_proven", "bold yellow", "尚不能证明", "NOT PROVEN"),
}


def _judge(check: ReceiptCheck, witnesses: int) -> ExitCode:
    if not check.in_log:
        is_false = any(problem.reason not in _UNTOLD for problem in check.problems)
        return ExitCode.NO if is_false else ExitCode.CANNOT_TELL
    return ExitCode.OK if len(check.witnesses) >= witnesses else ExitCode.CANNOT_TELL


def _describe(check: ReceiptCheck) -> dict[str, Any]:
    receipt, head = check.receipt, check.checkpoint
    return {
        "receipt": {
            "verification_id": receipt.verification_id,
            "gateway": receipt.gateway,
            "service": receipt.service,
            "matter": receipt.matter,
            "verdict": receipt.verdict.value,
            "reason": None if receipt.reason is None else receipt.reason.value,
            "verified_at": instant(receipt.verified_at),
            "signed_at": instant(receipt.issued_at),
            "charter_version": receipt.charter_version,
            "charter_sha256": receipt.charter_sha256,
            "charter_checked": check.charter is not None,
            "view_id": receipt.view_id,
            "log": receipt.log,
            "position": receipt.position,
            "entry_sha256": b64url_encode(receipt.entry_sha256),
        },
        "log": None
        if head is None
        else {"size": head.size, "root": b64url_encode(head.root), "signed_at": instant(head.issued_at)},
        "witnesses": list(check.witnesses),
        "problems": [{"reason": each.reason.value, "detail": each.detail} for each in check.problems],
    }


def _show(document: Mapping[str, Any], code: ExitCode, witnesses: int, lang: Lang) -> None:
    screen = stdout()
    _, style, zh, en = _RESULTS[code]
    screen.line(Text(lang.pick(zh, en), style))
    screen.facts(_facts(document, witnesses, lang))
    screen.table(
        lang.pick("不成立或不计入的", "What does not hold, or does not count"),
        (lang.pick("原因", "Reason"), lang.pick("说明", "Detail")),
        [(Text(each["reason"], "yellow"), each["detail"]) for each in document["problems"]],
        whole={lang.pick("原因", "Reason")},
    )


def _facts(document: Mapping[str, Any], witnesses: int, lang: Lang) -> Iterator[tuple[str, Cell]]:
    receipt, log, pick = document["receipt"], document["log"], lang.pick
    if receipt is None:
        return
    _, _, *verdict = VERDICTS[receipt["verdict"]]
    yield pick("判定", "Verdict"), " ".join(filter(None, (pick(*verdict), receipt["reason"])))
    yield pick("事项", "Matter"), receipt["matter"]
    yield pick("业务系统", "Service"), receipt["service"]
    yield pick("核验时间", "Decided"), receipt["verified_at"]
    yield pick("核验编号", "Verification"), receipt["verification_id"]
    yield pick("网关", "Gateway"), receipt["gateway"]
    unchecked = (
        ""
        if receipt["charter_checked"]
        else pick("；早于所给章程，未核对", "; older than the charter given, and not checked")
    )
    yield pick("章程", "Charter"), f"{receipt['charter_version']}, {receipt['charter_sha256']}{unchecked}"
    yield pick("信任视图", "Trust view"), receipt["view_id"]
    yield pick("签署时间", "Receipt signed"), receipt["signed_at"]
    yield pick("日志", "Log"), f"{receipt['log']}, {pick('位置', 'position')} {receipt['position']}"
    if log is None:
        yield pick("在日志中", "In the log"), Text(pick("未证明", "not proven"), "yellow")
        return
    yield pick("在日志中", "In the log"), f"{pick('日志头', 'head')} {log['size']}, {log['root']}, {log['signed_at']}"
    seen = " ".join(document["witnesses"]) or pick("无", "nobody")
    enough = len(document["witnesses"]) >= witnesses
    yield (
        pick("他省见证", "Seen by"),
        seen if enough else Text(f"{seen} ({pick('需', 'wanted')}: {witnesses})", "yellow"),
    )
