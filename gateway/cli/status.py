"""``mrg status``: what became of credentials after they were issued, for the province's identity systems.

To revoke what is revoked already changes nothing and is no error: a run that broke off is run again as it was. In bulk,
targets go in chunks, each of which is in force when the next begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer
from recognition.v1 import issuance_pb2, issuance_pb2_grpc
from rich.text import Text

from gateway.cli import connection, options, status_targets
from gateway.cli.console import (
    ExitCode,
    Failure,
    Lang,
    Screen,
    exit_codes,
    progress,
    span,
    stderr,
    stdout,
    write_document,
)
from gateway.cli.key_views import ago, at, name_of
from gateway.cli.status_targets import CredentialOption, FileOption, SubjectOption, Target

app = typer.Typer(no_args_is_help=True, help="Revoke, suspend and resume credentials, and show their status.")

CHUNK: Final = 500
"""Targets of one call: half of what a gateway takes, and soon enough done for a bar to move."""
_MAX_SHOWN: Final = 100
_NOBODY: Final[list[str]] = []
_CHANGED: Final = exit_codes(
    {
        ExitCode.OK: "done: every target has this status",
        ExitCode.NO: "done, but some targets are unknown or what became of them before is final",
        ExitCode.NOT_ASKED: "the gateway was not reached or refused; run it again: nothing is done twice",
    }
)
_SHOWN: Final = exit_codes(
    {
        ExitCode.OK: "shown",
        ExitCode.NO: "no such credential is known",
        ExitCode.NOT_ASKED: "could not ask the gateway",
    }
)
_STYLES: Final[Mapping[str, str]] = {
    "valid": "green",
    "suspended": "yellow",
    "attributes-changed": "red",
    "revoked": "bold red",
}
_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "valid": ("有效", "valid"),
    "suspended": ("已暂停", "suspended"),
    "attributes-changed": ("所载信息已变更", "attributes changed"),
    "revoked": ("已撤销", "revoked"),
}
_OUTCOMES: Final[Mapping[str, tuple[str, str]]] = {
    "unknown": ("未找到凭证", "no credential is known"),
    "refused": ("先前的状态已是最终状态，或并未暂停", "what became of it before is final, or it was not suspended"),
}

_Verbose = Annotated[bool, typer.Option("--verbose", help="Also name the targets that were not changed.")]


def _setter(name: str, status: issuance_pb2.CredentialStatus.ValueType, what: str) -> None:
    @connection.administers
    def set_status(
        *,
        gateway: connection.Gateway,
        credential: CredentialOption = _NOBODY,
        subject: SubjectOption = _NOBODY,
        file: FileOption = None,
        verbose: _Verbose = False,
        lang: options.LangOption = Lang.BOTH,
        as_json: options.JsonOption = False,
    ) -> None:
        targets = status_targets.read(credential, subject, file)
        tally = _set(gateway, targets, status, as_json=as_json)
        document = tally.document(status, verbose=verbose)
        if as_json:
            write_document(document)
        else:
            _show_tally(document, lang, in_file=file is not None)
        raise typer.Exit(ExitCode.NO if tally.not_done else ExitCode.OK)

    app.command(name, epilog=_CHANGED, help=what)(set_status)


_setter(
    "revoke",
    issuance_pb2.CREDENTIAL_STATUS_REVOKED,
    "Revoke credentials, for good.",
)
_setter(
    "suspend",
    issuance_pb2.CREDENTIAL_STATUS_SUSPENDED,
    "Suspend credentials until they are resumed.",
)
_setter("resume", issuance_pb2.CREDENTIAL_STATUS_VALID, "Make suspended credentials valid again.")
_setter(
    "changed",
    issuance_pb2.CREDENTIAL_STATUS_ATTRIBUTES_CHANGED,
    "Say that what credentials state has changed, for good: the holder needs new ones.",
)


# -- setting ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    """What came of all targets so far."""

    targets: int = 0
    changed: int = 0
    already: int = 0
    refused: int = 0
    unknown: int = 0
    effective_within: timedelta = timedelta(0)
    not_done: list[tuple[Target, str]] = field(default_factory=list)

    def add(self, target: Target, result: issuance_pb2.CredentialStatusResult) -> None:
        self.targets += 1
        self.changed += result.changed
        self.refused += result.refused
        if not result.known:
            self.unknown += 1
            self.not_done.append((target, "unknown"))
        elif result.refused:
            self.not_done.append((target, "refused"))
        elif not result.changed:
            self.already += 1

    @property
    def counts(self) -> dict[str, int]:
        return {
            "targets": self.targets,
            "changed": self.changed,
            "already": self.already,
            "refused": self.refused,
            "unknown": self.unknown,
        }

    def document(self, status: issuance_pb2.CredentialStatus.ValueType, *, verbose: bool) -> dict[str, Any]:
        return {
            "status": _name(status),
            **self.counts,
            "effective_within_seconds": int(self.effective_within.total_seconds()),
            "not_done": [
                {
                    "line": target.line,
                    "kind": target.kind,
                    "outcome": outcome,
                    **({"target": target.name} if verbose else {}),
                }
                for target, outcome in self.not_done
            ],
        }


def _set(
    gateway: connection.Gateway,
    targets: Sequence[Target],
    status: issuance_pb2.CredentialStatus.ValueType,
    *,
    as_json: bool,
) -> _Tally:
    tally = _Tally()
    with gateway.connected() as connected, progress(len(targets), shown=not as_json) as advance:
        for start in range(0, len(targets), CHUNK):
            _set_chunk(connected, targets[start : start + CHUNK], status, tally)
            advance(min(CHUNK, len(targets) - start))
    return tally


def _set_chunk(
    connected: connection.Connection,
    chunk: Sequence[Target],
    status: issuance_pb2.CredentialStatus.ValueType,
    tally: _Tally,
) -> None:
    request = issuance_pb2.SetCredentialStatusRequest(targets=[each.message for each in chunk], status=status)
    try:
        answer = connected.ask(_stub(lambda stub: stub.SetCredentialStatus), request)
    except Failure as failure:
        raise Failure(
            f"{failure.message}; {tally.targets} targets were done before",
            fix=f"{failure.fix}; then run the same again: nothing is done twice",
            code=failure.code,
            details={**failure.details, **tally.counts},
        ) from failure
    if len(answer.results) != len(chunk):
        raise Failure(
            "the gateway's answer does not fit the question",
            fix="check that a recognition gateway listens at --address",
            code=ExitCode.NOT_ASKED,
        )
    for target, result in zip(chunk, answer.results, strict=True):
        tally.add(target, result)
    tally.effective_within = answer.effective_within.ToTimedelta()


def _show_tally(document: Mapping[str, Any], lang: Lang, *, in_file: bool) -> None:
    pick, screen = lang.pick, stdout()
    within = span(timedelta(seconds=document["effective_within_seconds"]), lang)
    screen.facts(
        [
            (pick("状态", "Status"), _styled(document["status"], lang)),
            (pick("目标", "Targets"), str(document["targets"])),
            (pick("已更改的凭证", "Credentials changed"), str(document["changed"])),
            (pick("此前已是如此", "Already so"), str(document["already"])),
            (pick("被拒绝的凭证", "Credentials refused"), str(document["refused"])),
            (pick("未知的目标", "Unknown targets"), str(document["unknown"])),
            (
                pick("生效", "In force"),
                pick(f"本网关即时；各地最迟 {within} 内", f"here at once; everywhere reachable within {within}"),
            ),
        ]
    )
    rest = stderr()
    for each in document["not_done"][:_MAX_SHOWN]:
        where = pick(f"第 {each['line']} 行", f"line {each['line']}") if in_file else str(each["line"])
        named = f" {each['target']}" if "target" in each else ""
        rest.line(f"{where} ({each['kind']}){named}: {pick(*_OUTCOMES[each['outcome']])}")
    more = len(document["not_done"]) - _MAX_SHOWN
    if more > 0:
        rest.line(pick(f"另有 {more} 个；--json 列出全部。", f"and {more} more; --json lists them all"))


# -- showing ----------------------------------------------------------------------------------------------------------


@app.command(epilog=_SHOWN)
@connection.administers
def show(
    *,
    gateway: connection.Gateway,
    credential: Annotated[str, typer.Option("--credential", metavar="ID", help="Only this credential.")] = "",
    subject: Annotated[
        str, typer.Option("--subject", metavar="LOCAL", help="All unexpired credentials about somebody.")
    ] = "",
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show the status lists; or, with a target, credentials and their status."""
    now = options.world(lab_clock).now()
    if credential and subject:
        raise Failure("--credential stands beside --subject", fix="give one of them")
    if not credential and not subject:
        _show_lists(gateway, now, lang, as_json=as_json)
        return
    (target,) = status_targets.read([credential] if credential else [], [subject] if subject else [], None)
    request = issuance_pb2.GetCredentialStatusRequest(target=target.message)
    answer = gateway.ask(_stub(lambda stub: stub.GetCredentialStatus), request)
    found = [_describe_credential(each) for each in answer.credentials]
    if as_json:
        write_document({"credentials": found})
    elif found:
        _show_credentials(stdout(), found, now, lang)
    else:
        stdout().line(lang.pick("没有这样的凭证。", "No such credential is known."))
    raise typer.Exit(ExitCode.OK if found else ExitCode.NO)


def _show_lists(gateway: connection.Gateway, now: datetime, lang: Lang, *, as_json: bool) -> None:
    answer = gateway.ask(_stub(lambda stub: stub.ListStatusLists), issuance_pb2.ListStatusListsRequest())
    lists = [_describe_list(each) for each in answer.lists]
    if as_json:
        write_document({"lists": lists})
        return
    if not lists:
        stdout().line(lang.pick("还没有状态列表。", "There is no status list yet."))
    pick = lang.pick
    stdout().table(
        pick("状态列表", "Status lists"),
        (
            *("URI", pick("容量", "Size"), pick("已占用", "Used"), pick("接收新凭证", "Open")),
            *(pick("签于", "Signed"), pick("有效至", "Expires")),
        ),
        [
            (
                *(each["uri"], f"{each['size']:,}", f"{each['used']:,} ({each['used'] / max(each['size'], 1):.1%})"),
                Text(pick("是", "yes"), "green") if each["open"] else pick("否", "no"),
                *(ago(each[name], now, lang) for name in ("issued_at", "expires_at")),
            )
            for each in lists
        ],
        whole={"URI"},
    )


def _show_credentials(screen: Screen, found: Sequence[Mapping[str, Any]], now: datetime, lang: Lang) -> None:
    pick = lang.pick
    screen.table(
        pick("凭证", "Credentials"),
        (
            *(pick("凭证号", "Credential"), pick("状态", "Status"), pick("变更于", "Changed")),
            *(pick("有效至", "Expires"), pick("列表", "List"), pick("位置", "Place")),
        ),
        [
            (
                *(each["credential_id"], _styled(each["status"], lang), ago(each["changed_at"], now, lang)),
                *(ago(each["expires_at"], now, lang), each["list"], str(each["index"])),
            )
            for each in found
        ],
        whole={pick("凭证号", "Credential")},
    )


def _describe_list(summary: issuance_pb2.StatusListSummary) -> dict[str, Any]:
    return {
        "uri": summary.uri,
        "size": summary.size,
        "used": summary.used,
        "open": summary.open,
        "issued_at": at(summary, "issue_time"),
        "expires_at": at(summary, "expire_time"),
    }


def _describe_credential(credential: issuance_pb2.IssuedCredential) -> dict[str, Any]:
    return {
        "credential_id": credential.credential_id,
        "status": _name(credential.status),
        "list": credential.list,
        "index": credential.index,
        "expires_at": at(credential, "expire_time"),
        "changed_at": at(credential, "change_time"),
    }


def _name(status: issuance_pb2.CredentialStatus.ValueType) -> str:
    return name_of(issuance_pb2.CredentialStatus.Name, status, "CREDENTIAL_STATUS_")


def _styled(status: str, lang: Lang) -> Text:
    return Text(lang.pick(*_NAMES.get(status, (status, status))), _STYLES.get(status, ""))


def _stub(method: Callable[[issuance_pb2_grpc.IssuanceServiceStub], Any]) -> Callable[[Any], Any]:
    return lambda channel: method(issuance_pb2_grpc.IssuanceServiceStub(channel))
