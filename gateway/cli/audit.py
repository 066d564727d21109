"""``mrg audit``: the log, for auditors, who read everything and change nothing.

What an entry says is read from the bytes that are hashed. ``verify`` recomputes a whole log and names what is wrong; it
needs nothing of the gateway but its word, which it does not believe: the trust root is a charter that the auditor
brings. The gateway's database, or a file written by ``export``, will do in its place.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from recognition.v1 import audit_pb2, audit_pb2_grpc, reason_pb2
from rich.text import Text

from gateway import wire
from gateway.cli import connection, files, options
from gateway.cli.audit_screen import describe_entry, entry_facts, show_entries, show_findings
from gateway.cli.console import (
    ExitCode,
    Failure,
    Lang,
    exit_codes,
    instant,
    printable,
    progress,
    stderr,
    stdout,
    write_document,
)
from gateway.cli.log_check import CheckedLogs, LogCheck, Signatures, trusted_charter
from gateway.cli.log_export import ExportedLogs, write_export
from gateway.cli.log_sources import (
    FoundLog,
    LogSource,
    ServedLogs,
    StoredLogs,
    checkpoint,
    list_entries,
    list_logs,
    trust_bundle,
)
from gateway.cli.store import open_store, unusable
from gateway.core.checkpoint import Checkpoint, kept_checkpoint, unverified_claims
from gateway.core.encoding import b64url_encode
from gateway.core.entries import Kind
from gateway.core.merkle import check_inclusion, leaf_hash
from gateway.core.reasons import Reason, Rejected
from gateway.core.receipt import Verdict
from gateway.storage import StorageError

app = typer.Typer(no_args_is_help=True, help="Read, prove and verify the log of a gateway, as its auditor.")

_MAX_LIMIT: Final = 100_000
_PAGE: Final = 1_000
_MAX_LOOKS: Final = 3
_SIGNED_WITHIN: Final = 1.5
"""Seconds after which a head covers what is written now."""
_NO_TEXTS: Final[list[str]] = []
_LISTED: Final = exit_codes(
    {
        ExitCode.OK: "shown",
        ExitCode.NO: "some entry was edited: a column contradicts it; mrg audit verify says more",
        ExitCode.NOT_ASKED: "could not ask the gateway",
    }
)
_PROOF: Final = {
    ExitCode.OK: "proven to be in the log",
    ExitCode.NO: "no such entry, a column contradicts it, or the proof or a signature does not hold",
    ExitCode.CANNOT_TELL: "not under a signed head yet",
    ExitCode.NOT_ASKED: "could not ask the gateway",
}
VERIFY_EXIT_CODES: Final = exit_codes(
    {
        ExitCode.OK: "every log is what was signed",
        ExitCode.NO: "something is wrong; each finding is named",
        ExitCode.CANNOT_TELL: "nothing is found wrong, but some log is not all under a head that can be checked",
        ExitCode.NOT_ASKED: "could not ask the gateway",
    }
)
_Entry = Annotated[
    str, typer.Argument(metavar="ID|POSITION", help="The number of a verification or dispute, or a position.")
]
_LogOption = Annotated[
    str, typer.Option("--log", metavar="LOG", help="Of this log. Default: the one that is written to.")
]
_CharterOption = Annotated[
    Path | None, typer.Option("--charter", metavar="FILE", help="A charter you trust, to check signatures by.")
]
_PinOption = Annotated[
    str | None, typer.Option("--sha256", metavar="DIGEST", help="The charter's digest, as people compared it.")
]
_OptionalConfig = Annotated[
    Path | None, typer.Option("--config", metavar="gateway.toml", help="Read the province's own database instead.")
]


# -- reading ----------------------------------------------------------------------------------------------------------


@app.command("list", epilog=_LISTED)
@connection.administers
def list_(
    *,
    gateway: connection.Gateway,
    kind: Annotated[
        list[str], typer.Option("--kind", metavar="KIND", help=f"Only of this kind; repeatable: {', '.join(Kind)}.")
    ] = _NO_TEXTS,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From then on (RFC 3339, or -2h).")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")] = None,
    service: Annotated[str, typer.Option(metavar="URI", help="Of this relying service.")] = "",
    matter: Annotated[str, typer.Option(help="About this matter.")] = "",
    verdict: Annotated[Verdict | None, typer.Option(help="Only of this verdict.")] = None,
    reason: Annotated[str, typer.Option(help="Not accepted for this reason, for example REPLAYED.")] = "",
    issuer: Annotated[str, typer.Option(metavar="URI", help="Of credentials by this issuer.")] = "",
    kid: Annotated[str, typer.Option(help="Of credentials signed with this key.")] = "",
    verification: Annotated[str, typer.Option(metavar="ID", help="This verification, and disputes about it.")] = "",
    newest_first: Annotated[bool, typer.Option("--newest-first/--oldest-first", help="Which come first.")] = True,
    limit: Annotated[int, typer.Option(min=1, max=_MAX_LIMIT, help="At most so many.")] = 100,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """List entries by what they are about."""
    now = options.world(lab_clock).now()
    wanted = audit_pb2.EntryFilter(
        kinds=kind,
        since_time=None if since is None else wire.timestamp(options.past_moment(since, "--since", now)),
        until_time=None if until is None else wire.timestamp(options.past_moment(until, "--until", now)),
        service=service,
        matter=matter,
        verdict="" if verdict is None else verdict.value,
        reason=_reason(reason),
        issuer=issuer,
        kid=kid,
        verification_id=verification,
    )
    with gateway.connected() as connected:
        found = list(entries(connected, wanted, limit + 1, newest_first=newest_first))
    documents = [describe_entry(each) for each in found[:limit]]
    if as_json:
        write_document({"entries": documents, "more": len(found) > limit})
    else:
        show_entries(stdout(), documents, lang)
        if len(found) > limit:
            stderr().line(
                lang.pick("还有更多；请加大 --limit 或缩小范围。", "There are more: raise --limit, or narrow it down.")
            )
        if not found:
            stdout().line(lang.pick("没有这样的记录。", "There is no such entry."))
    is_edited = any(each["contradictions"] for each in documents)
    raise typer.Exit(ExitCode.NO if is_edited else ExitCode.OK)


def entries(
    connected: connection.Connection, wanted: audit_pb2.EntryFilter, limit: int, *, newest_first: bool
) -> Iterator[audit_pb2.LogEntry]:
    """Ask for entries, page after page.

    Raises:
        Failure: the gateway was not reached or refused.
    """
    request = audit_pb2.ListEntriesRequest(filter=wanted, newest_first=newest_first)
    while limit > 0:
        request.page_size = min(limit, _PAGE)
        answer = list_entries(connected, request)
        yield from answer.entries[:limit]
        limit -= len(answer.entries)
        if not answer.next_page_token or not answer.entries:
            return
        request.page_token = answer.next_page_token


def _reason(name: str) -> reason_pb2.Reason.ValueType:
    if not name:
        return reason_pb2.REASON_UNSPECIFIED
    try:
        return wire.reason_number(Reason(name.upper()))
    except ValueError as error:
        raise Failure(
            f"--reason {printable(name)}: there is no such reason", fix="write one as mrg verify shows it: REPLAYED"
        ) from error


@app.command(context_settings=options.ANY_NAME, epilog=exit_codes(_PROOF))
@connection.administers
def show(
    entry: _Entry,
    *,
    gateway: connection.Gateway,
    log: _LogOption = "",
    charter: _CharterOption = None,
    sha256: _PinOption = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show one entry with all its fields, and prove that it is in the log under the newest head."""
    document = _proven(gateway, entry, log, charter, sha256, options.world(lab_clock).now())
    if as_json:
        write_document(document)
    else:
        _show_entry(document, lang)
    raise typer.Exit(_proof_code(document))


@app.command(context_settings=options.ANY_NAME, epilog=exit_codes(_PROOF))
@connection.administers
def prove(
    entry: _Entry,
    *,
    gateway: connection.Gateway,
    log: _LogOption = "",
    charter: _CharterOption = None,
    sha256: _PinOption = None,
    out: options.OutOption = None,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Write the proof that an entry is in the log (RFC 9162 section 2.1.3), as JSON, and check it.

    For a verification, mrg receipt fetch gives more: what the gateway signed, and all that it takes to check it.
    """
    del as_json  # it is JSON in any case
    document = _proven(gateway, entry, log, charter, sha256, options.world(lab_clock).now())
    if out is None:
        write_document(document)
    else:
        files.write_text(out, json.dumps(document, ensure_ascii=False, indent=2), mode=files.PUBLIC)
    raise typer.Exit(_proof_code(document))


def _proven(
    gateway: connection.Gateway, named_entry: str, log: str, charter: Path | None, sha256: str | None, now: datetime
) -> dict[str, Any]:
    pinned = None if charter is None else trusted_charter(charter, sha256)
    with gateway.connected() as connected:
        found = _find(connected, named_entry, log)
        answer = checkpoint(connected, found.log)
        leaf = leaf_hash(found.entry)
        document: dict[str, Any] = {
            **describe_entry(found),
            "entry": b64url_encode(found.entry),
            "leaf_hash": b64url_encode(leaf),
            "proof": None,
        }
        head = _head(answer.checkpoint, found.log)
        if head is None or head.size <= found.position:
            return document
        proof = connected.ask(
            lambda channel: audit_pb2_grpc.AuditServiceStub(channel).GetInclusionProof,
            audit_pb2.GetInclusionProofRequest(log=found.log, position=found.position, size=head.size),
        )
        signature, seen_by = "not_checked", _claimed_witnesses(answer.cosignatures)
        if pinned is not None:
            listed = list_logs(connected)
            signatures = Signatures(
                trust_bundle(listed.statements, listed.events, listed.charters), pinned, min(now, head.issued_at), now
            )
            signature = _signature(signatures, answer.checkpoint)
            seen_by = list(signatures.witnesses(head, answer.cosignatures))
    document["proof"] = {
        "size": head.size,
        "root": b64url_encode(head.root),
        "issued_at": instant(head.issued_at),
        "inclusion": [b64url_encode(each) for each in proof.hashes],
        "checkpoint": answer.checkpoint,
        "cosignatures": list(answer.cosignatures),
        "holds": _holds(leaf, found.position, head, list(proof.hashes)),
        "signature": signature,
        "seen_by": seen_by,
    }
    return document


def _find(connected: connection.Connection, named_entry: str, log: str) -> audit_pb2.LogEntry:
    if named_entry.isdecimal():
        position = int(named_entry)
        wanted = audit_pb2.RangeOfEntries(log=log or _written_to(connected), begin=position, end=position + 1)
        found = list(list_entries(connected, audit_pb2.ListEntriesRequest(range=wanted)).entries)
    else:
        wanted_entry = audit_pb2.EntryFilter(verification_id=named_entry)
        found = [
            each
            for each in entries(connected, wanted_entry, _PAGE, newest_first=False)
            if describe_entry(each)["id"] == named_entry and log in {"", each.log}
        ]
    if not found:
        raise Failure(
            "there is no such entry",
            fix="name the number that mrg verify showed, or a position; what was erased has a hash left, and no more. "
            "mrg audit verify names what is missing without having been erased",
            code=ExitCode.NO,
        )
    return found[0]


def _written_to(connected: connection.Connection) -> str:
    logs = list_logs(connected).logs
    return logs[-1].log if logs else ""


def _head(token: str, log: str) -> Checkpoint | None:
    if not token:
        return None
    try:
        head = kept_checkpoint(token)
    except Rejected as rejection:
        raise Failure("the gateway's head cannot be read", fix="see its log", code=ExitCode.NO) from rejection
    return head if head.log == log else None


def _holds(leaf: bytes, position: int, head: Checkpoint, proof: list[bytes]) -> bool:
    try:
        check_inclusion(leaf, position, head.size, proof, head.root)
    except Rejected:
        return False
    return True


def _signature(signatures: Signatures, token: str) -> str:
    try:
        return "holds" if signatures.head(token).is_proven else "cannot_tell"
    except Rejected:
        return "does_not_hold"


def _claimed_witnesses(tokens: Any) -> list[str]:
    found = []
    for token in tokens:
        try:
            found.append(str(unverified_claims(token).get("iss", "")))
        except Rejected:
            continue
    return sorted(found)


def _proof_code(document: Mapping[str, Any]) -> ExitCode:
    proof = document["proof"]
    if document["contradictions"] or (
        proof is not None and (not proof["holds"] or proof["signature"] == "does_not_hold")
    ):
        return ExitCode.NO
    return ExitCode.CANNOT_TELL if proof is None or proof["signature"] == "cannot_tell" else ExitCode.OK


_SIGNATURES: Final[Mapping[str, tuple[str, str]]] = {
    "holds": ("签名有效", "signature holds"),
    "not_checked": ("签名未检查；用 --charter 检查", "signature not checked: give --charter"),
    "cannot_tell": ("签名密钥已不再公布", "the key that signed it is no longer published"),
    "does_not_hold": ("签名无效", "signature does not hold"),
}


def _show_entry(document: Mapping[str, Any], lang: Lang) -> None:
    pick, proof = lang.pick, document["proof"]
    facts = [*entry_facts(document, lang), (pick("叶哈希", "Leaf hash"), document["leaf_hash"])]
    if proof is None:
        facts.append((pick("证明", "Proof"), Text(pick("尚未被日志头覆盖", "not under a signed head yet"), "yellow")))
    else:
        holds = proof["holds"]
        words = ("在日志中", "is in the log") if holds else ("证明不成立", "the proof does not hold")
        facts += [
            (pick("证明", "Proof"), Text(pick(*words), "green" if holds else "bold red")),
            (
                pick("日志头", "Head"),
                f"{proof['size']}, {proof['root']}, {proof['issued_at']}; {pick(*_SIGNATURES[proof['signature']])}",
            ),
            (pick("见证", "Seen by"), " ".join(proof["seen_by"]) or pick("尚无", "nobody yet")),
        ]
    stdout().facts(facts)


# -- the whole log ----------------------------------------------------------------------------------------------------


@contextmanager
def _source(gateway: connection.Gateway | None, config: Path | None, export: Path | None) -> Iterator[LogSource]:
    """Open the one place that was named.

    Raises:
        Failure: none or several were; or it cannot be read.
    """
    if (gateway is not None) + (config is not None) + (export is not None) != 1:
        raise Failure(
            "it is not clear where the log is",
            fix="give exactly one: --as AUDITOR.toml, --config gateway.toml, or (to verify) --export FILE",
        )
    if gateway is not None:
        with gateway.connected() as connected:
            yield ServedLogs(connected)
    elif export is not None:
        yield ExportedLogs(export)
    elif config is not None:
        loaded = options.configuration(config)
        with open_store(loaded) as stores:
            try:
                yield StoredLogs(stores.trust, stores.log)
            except StorageError as error:
                raise unusable(loaded, error) from error


@app.command(epilog=VERIFY_EXIT_CODES)
@connection.may_administer
def verify(
    *,
    gateway: connection.Gateway | None,
    charter: Annotated[
        Path | None,
        typer.Option("--charter", metavar="FILE", help="A charter you trust. Default with --config: the pinned one."),
    ] = None,
    sha256: _PinOption = None,
    config: _OptionalConfig = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Read what mrg audit export wrote instead.")
    ] = None,
    seen: Annotated[
        Path | None,
        typer.Option("--seen", metavar="FILE", help="What mrg audit seen --json of another province wrote."),
    ] = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Recompute every log of a gateway, hold it against the signed heads, and name what is wrong.

    Asks the gateway (--as), or reads its database while it is down (--config), or a file (--export). Heads are checked
    by the charter you give, and by nothing that the gateway says. With --seen, the log must also continue what another
    province has seen of it.
    """
    now = options.world(lab_clock).now()
    if charter is None and config is not None:
        pin = options.configuration(config).charter
        charter, sha256 = pin.file, pin.sha256
    if charter is None:
        raise Failure("--charter is missing", fix="name a charter that you trust: it is what signatures are checked by")
    pinned = trusted_charter(charter, sha256)
    size = -1
    for _ in range(_MAX_LOOKS):
        with _source(gateway, config, export) as source:
            before, size = size, sum(log.size for log in source.logs())
            with progress(size, shown=not as_json) as advance:
                checked = LogCheck(source=source, pinned=pinned, now=now, seen=seen, advance=advance).run()
        if size == before or export is not None or not checked.lacks_entries:
            break
        # What is missing may have been erased while we read: then the entry that says so has been written since.
        time.sleep(_SIGNED_WITHIN)
    document = _checked_document(checked)
    if as_json:
        write_document(document)
    else:
        _show_checked(document, lang)
    if not checked.is_clean:
        raise typer.Exit(ExitCode.NO)
    raise typer.Exit(ExitCode.OK if checked.is_provable else ExitCode.CANNOT_TELL)


def _checked_document(checked: CheckedLogs) -> dict[str, Any]:
    return {
        "gateway": checked.gateway or None,
        "clean": checked.is_clean,
        "provable": checked.is_provable,
        "logs": [log.document() for log in checked.logs],
        "missing": [_seen_document("", each.token) for each in checked.missing],
    }


def _show_checked(document: Mapping[str, Any], lang: Lang) -> None:
    screen, pick = stdout(), lang.pick
    screen.facts([(pick("网关", "Gateway"), document["gateway"] or "-")])
    for log in document["logs"]:
        heads, head = log["heads"], log["head"]
        screen.line()
        screen.facts(
            [
                (pick("日志", "Log"), log["log"]),
                (pick("记录", "Entries"), _entries_of(log, lang)),
                (pick("日志头", "Heads"), _heads_of(heads, lang)),
                (
                    pick("最新可证日志头", "Newest proven head"),
                    "-" if head is None else f"{head['size']}, {head['root']}, {head['issued_at']}",
                ),
                (pick("见证", "Seen by"), " ".join(log["seen_by"]) or pick("尚无", "nobody yet")),
            ]
        )
        show_findings(screen, log, lang)
    screen.table(
        pick("他省见过而此处没有的日志", "Logs that another province has seen, and that are not here"),
        (pick("日志", "Log"), pick("条数", "Entries"), pick("根", "Root")),
        [(each["log"], str(each["size"]), each["root"]) for each in document["missing"]],
    )
    screen.line()
    if not document["clean"]:
        screen.line(Text(pick("日志有问题。", "Something is wrong with the log."), "bold red"))
    elif not document["provable"]:
        words = (
            "未发现问题，但可核对的日志头未覆盖全部记录。",
            "Nothing was found wrong, but no head that can be checked covers all of it.",
        )
        screen.line(Text(pick(*words), "yellow"))
    else:
        screen.line(Text(pick("日志与签署的完全一致。", "The log is what was signed."), "green"))


def _heads_of(heads: Mapping[str, int], lang: Lang) -> str:
    checked, alone = heads["checked"], heads["by_root_only"]
    if not alone:
        return lang.pick(f"已核对 {checked}", f"{checked} checked")
    return lang.pick(
        f"已核对 {checked}；其中 {alone} 个的密钥已不再公布，仅核对根",
        f"{checked} checked, {alone} of them by their root only: the keys that signed them are no longer published",
    )


def _entries_of(log: Mapping[str, Any], lang: Lang) -> str:
    size, erased = log["size"], log["erased"]
    if not erased:
        return str(size)
    return lang.pick(f"{size}（到期清除 {erased}）", f"{size}, of which {erased} were erased when their time was over")


@app.command(epilog=exit_codes({ExitCode.OK: "written", ExitCode.NOT_ASKED: "could not ask the gateway"}))
@connection.may_administer
def export(
    *,
    gateway: connection.Gateway | None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Write it here: JSON lines, for its owner alone.")
    ],
    config: _OptionalConfig = None,
    since: Annotated[int, typer.Option(min=0, help="From this position of each log on.")] = 0,
    until: Annotated[int | None, typer.Option(min=0, help="Before this position of each log.")] = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Write the logs to a file, with their heads and all that it takes to verify them elsewhere.

    A part of a log can be read, and not verified: a root is computed over all of it.
    """

    def chosen(log: FoundLog) -> tuple[int, int]:
        end = log.size if until is None else min(until, log.size)
        return min(since, end), end

    now = options.world(lab_clock).now()
    with _source(gateway, config, None) as source:
        total = sum(end - begin for begin, end in map(chosen, source.logs()))
        with progress(total, shown=not as_json) as advance, files.draft_text(out, mode=files.PRIVATE) as file:
            count = write_export(file, source, now, chosen, advance)
        logs = [log.log_id for log in source.logs()]
    if as_json:
        write_document({"file": str(out), "logs": logs, "entries": count})
    else:
        stdout().line(lang.pick(f"已写出 {count} 条记录：{out}", f"{count} entries written: {out}"))


# -- others -----------------------------------------------------------------------------------------------------------


@app.command(
    epilog=exit_codes(
        {
            ExitCode.OK: "shown; no log contradicts itself",
            ExitCode.NO: "some gateway's log contradicts what it had shown before, or was replaced",
            ExitCode.NOT_ASKED: "could not ask the gateway",
        }
    )
)
@connection.administers
def seen(
    *,
    gateway: connection.Gateway,
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Show what this gateway has seen of other provinces' logs, and what contradicts itself there.

    With --json, what an auditor in another province gives to mrg audit verify --seen.
    """
    with gateway.connected() as connected:
        listed = list_logs(connected)
    document = {
        "seen": [_seen_document(each.gateway, each.checkpoint) for each in listed.seen],
        "forks": [
            {
                "gateway": each.gateway,
                "kind": each.kind,
                "found_at": instant(connection.moment(each.find_time)),
                "seen": _seen_document(each.gateway, each.seen),
                "shown": _seen_document(each.gateway, each.shown),
            }
            for each in listed.forks
        ],
    }
    if as_json:
        write_document(document)
    else:
        _show_seen(document, lang)
    raise typer.Exit(ExitCode.NO if document["forks"] else ExitCode.OK)


def _seen_document(gateway: str, token: str) -> dict[str, Any]:
    try:
        head = kept_checkpoint(token)
    except Rejected:
        return {"gateway": gateway, "log": None, "size": None, "root": None, "issued_at": None, "checkpoint": token}
    return {
        "gateway": gateway or head.gateway,
        "log": head.log,
        "size": head.size,
        "root": b64url_encode(head.root),
        "issued_at": instant(head.issued_at),
        "checkpoint": token,
    }


_FORKS: Final[Mapping[str, tuple[str, str]]] = {
    "forked": ("两份历史相互矛盾", "two histories contradict each other"),
    "rolled_back": ("日志变短", "the log has become shorter"),
    "replaced": ("换了一份日志", "another log was begun"),
    "resumed": ("已终止的日志又在增长", "a log that had ended goes on"),
}


def _show_seen(document: Mapping[str, Any], lang: Lang) -> None:
    screen, pick = stdout(), lang.pick
    screen.table(
        pick("见过的日志头", "Heads seen"),
        (
            pick("网关", "Gateway"),
            pick("日志", "Log"),
            pick("条数", "Entries"),
            pick("根", "Root"),
            pick("签署时间", "Signed"),
        ),
        [
            (each["gateway"], each["log"] or "-", str(each["size"]), each["root"] or "-", each["issued_at"] or "-")
            for each in document["seen"]
        ],
    )
    screen.table(
        pick("矛盾：须立即查问", "Contradictions: ask that province at once"),
        (
            pick("网关", "Gateway"),
            pick("种类", "Kind"),
            pick("含义", "Meaning"),
            pick("发现时间", "Found"),
            pick("此前", "Seen before"),
            pick("后来", "Shown then"),
        ),
        [
            (
                each["gateway"],
                Text(each["kind"], "bold red"),
                pick(*_FORKS.get(each["kind"], (each["kind"], each["kind"]))),
                each["found_at"] or "-",
                _short(each["seen"]),
                _short(each["shown"]),
            )
            for each in document["forks"]
        ],
    )
    if not document["seen"]:
        screen.line(pick("尚未见过任何日志头。", "No head was seen yet."))


def _short(head: Mapping[str, Any]) -> str:
    return f"{head['log']} {head['size']} {head['root']}"


@app.command(
    epilog=exit_codes(
        {
            ExitCode.OK: "shown; every province was asked",
            ExitCode.CANNOT_TELL: "some province could not be asked, or there are more than were given",
            ExitCode.NOT_ASKED: "could not ask the gateway",
        }
    )
)
@connection.administers
def disclosures(
    *,
    gateway: connection.Gateway,
    subject: Annotated[
        str, typer.Option("--subject", metavar="LOCAL", help="As the identity system knows the person.")
    ],
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From then on (RFC 3339, or -30d).")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then, as --since.")] = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Tell who verified a person's identity, for which matter and when, in all provinces. For identity systems."""
    now = options.world(lab_clock).now()
    request = audit_pb2.ListDisclosuresRequest(
        local_subject=subject,
        since_time=None if since is None else wire.timestamp(options.past_moment(since, "--since", now)),
        until_time=None if until is None else wire.timestamp(options.past_moment(until, "--until", now)),
    )
    answer = gateway.ask(lambda channel: audit_pb2_grpc.AuditServiceStub(channel).ListDisclosures, request)
    document = {
        "disclosures": [
            {
                "verification_id": each.verification_id,
                "verified_at": instant(connection.moment(each.verify_time)),
                "province": each.province,
                "service": each.service,
                "service_name": each.service_name or None,
                "matter": each.matter,
                "claims": list(each.claims),
                "as_actor": each.as_actor,
                "consent_id": each.consent_id or None,
            }
            for each in answer.disclosures
        ],
        "truncated": answer.truncated,
        "unreachable_provinces": list(answer.unreachable_provinces),
    }
    if as_json:
        write_document(document)
    else:
        _show_disclosures(document, lang)
    is_whole = not answer.truncated and not answer.unreachable_provinces
    raise typer.Exit(ExitCode.OK if is_whole else ExitCode.CANNOT_TELL)


def _show_disclosures(document: Mapping[str, Any], lang: Lang) -> None:
    screen, pick = stdout(), lang.pick
    screen.table(
        pick("谁核验过此人", "Who verified this person"),
        (
            pick("时间", "When"),
            pick("省份", "Province"),
            pick("业务系统", "Service"),
            pick("事项", "Matter"),
            pick("交出的属性", "Handed on"),
            pick("身份", "As"),
            pick("依据", "Basis"),
            pick("核验编号", "Verification"),
        ),
        [
            (
                each["verified_at"] or "-",
                each["province"],
                each["service_name"] or each["service"],
                each["matter"],
                " ".join(each["claims"]) or pick("无", "nothing"),
                pick("代办人", "actor") if each["as_actor"] else pick("本人", "subject"),
                each["consent_id"] or pick("法律规定", "the law"),
                each["verification_id"],
            )
            for each in document["disclosures"]
        ],
        whole={pick("核验编号", "Verification")},
    )
    if not document["disclosures"]:
        screen.line(pick("没有记录。", "There is nothing on record."))
    if document["unreachable_provinces"]:
        names = " ".join(document["unreachable_provinces"])
        words = (f"未能询问：{names}。那里的记录不在其中。", f"Could not be asked: {names}. What they know is missing.")
        screen.line(Text(pick(*words), "bold yellow"))
    if document["truncated"]:
        screen.line(Text(pick("还有更早的，未列出。", "There are more, older ones, which are not shown."), "yellow"))
