"""``mrg trust log``: what changed about who is trusted, or about who may change it, as the log has it.

Charters, keys, members, revocations, the configuration: each change is an entry of the log from the same transaction,
and is never erased. It is read from the province's own database, or asked of the gateway as its auditor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from recognition.v1 import audit_pb2
from rich.text import Text

from gateway import wire
from gateway.cli import audit, connection, options
from gateway.cli.audit_screen import describe_entry, event_name
from gateway.cli.console import ExitCode, Failure, Lang, exit_codes, stdout, write_document
from gateway.cli.store import open_store, unusable
from gateway.core.entries import Kind, TrustChange, contradictions
from gateway.storage import EntryQuery, StorageError

EXIT_CODES: Final = exit_codes(
    {
        ExitCode.OK: "shown",
        ExitCode.NO: "some entry was edited: a column contradicts it; mrg audit verify says more",
        ExitCode.NOT_ASKED: "could not ask the gateway",
    }
)
_CHANGES: Final[Mapping[str, tuple[str, str]]] = {
    TrustChange.CHARTER: ("章程", "charter"),
    TrustChange.KEY: ("本省密钥", "key of ours"),
    TrustChange.MEMBER: ("成员", "member"),
    TrustChange.REVOCATION: ("密钥撤销", "key revoked"),
    TrustChange.WITHDRAWAL: ("信任锚撤回", "anchor's withdrawal"),
    TrustChange.EQUIVOCATION: ("自相矛盾", "equivocation"),
    TrustChange.CLOCK: ("时钟", "clock"),
    TrustChange.CONFIGURATION: ("配置", "configuration"),
}


@connection.may_administer
def log(
    *,
    gateway: connection.Gateway | None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="gateway.toml", help="Read the province's own database.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From then on (RFC 3339, or -7d).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 100,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show what changed about who is trusted: when, what, whom it is about, and by which administrator.

    From the province's own database (--config, offline), or from the gateway as its auditor (--as auditor-1.toml).
    """
    now = options.world(lab_clock).now()
    begin = None if since is None else options.past_moment(since, "--since", now)
    if (config is None) is (gateway is None):
        raise Failure("it is not clear where the log is", fix="give one of --config gateway.toml and --as AUDITOR.toml")
    found = list(_stored(config, begin, limit) if config is not None else _served(gateway, begin, limit))
    documents = [_describe(each) for each in found]
    if as_json:
        write_document({"changes": documents})
    else:
        _show(documents, lang)
    is_edited = any(each["contradictions"] for each in documents)
    raise typer.Exit(ExitCode.NO if is_edited else ExitCode.OK)


def _served(gateway: connection.Gateway | None, since: datetime | None, limit: int) -> Iterator[audit_pb2.LogEntry]:
    wanted = audit_pb2.EntryFilter(
        kinds=[Kind.TRUST.value], since_time=None if since is None else wire.timestamp(since)
    )
    if gateway is not None:
        with gateway.connected() as connected:
            yield from audit.entries(connected, wanted, limit, newest_first=True)


def _stored(config: Path, since: datetime | None, limit: int) -> Iterator[audit_pb2.LogEntry]:
    loaded = options.configuration(config)
    query = EntryQuery(kinds=(Kind.TRUST.value,), since=since)
    with open_store(loaded) as stores:
        try:
            found = stores.log.list_entries(query, limit, newest_first=True)
        except StorageError as error:
            raise unusable(loaded, error) from error
    for each in found:
        yield audit_pb2.LogEntry(
            log=each.log_id,
            position=each.position,
            entry=each.raw,
            contradictions=contradictions(each.raw, each.index),
        )


def _describe(message: audit_pb2.LogEntry) -> dict[str, Any]:
    entry = describe_entry(message)
    body = entry["body"] or {}
    return {
        **{name: entry[name] for name in ("log", "position", "at")},
        **{name: body.get(name) for name in ("change", "event", "subject", "administrator", "detail")},
        "contradictions": entry["contradictions"],
    }


def _show(documents: list[dict[str, Any]], lang: Lang) -> None:
    pick, screen = lang.pick, stdout()
    screen.table(
        pick("信任的变更", "Changes of trust"),
        (
            pick("时间", "When"),
            pick("何事", "What"),
            pick("结果", "Event"),
            pick("关于", "About"),
            pick("何人", "By"),
            pick("说明", "Detail"),
            "",
        ),
        [
            (
                each["at"] or "-",
                pick(*_CHANGES.get(each["change"], (str(each["change"]), str(each["change"])))),
                event_name(each, lang),
                each["subject"] or "-",
                each["administrator"] or pick("自动", "the gateway"),
                each["detail"] or "",
                Text(" ".join(each["contradictions"]), "bold red"),
            )
            for each in documents
        ],
    )
    if not documents:
        screen.line(pick("没有变更。", "Nothing changed."))
