"""``mrg agreement``: look at a recognition agreement before four provinces sign it.

``lint`` finds what is allowed and hardly meant, ``diff`` says of each change whether it lets in more or less, and
``preview`` decides again, by the proposed agreement, what this gateway has decided. All three are offline and change
nothing. An agreement is given as the JSON that ``mrg charter create --agreement`` takes, or as a charter that holds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from gateway.cli import files, options
from gateway.cli.console import ExitCode, Failure, Lang, exit_codes, stdout, write_document
from gateway.cli.store import charter_in_force, open_store
from gateway.cli.trust import load_view
from gateway.config import Config
from gateway.core.agreement import Agreement, parse_agreement
from gateway.core.agreement_lint import Remark, Severity
from gateway.core.agreement_lint import lint as remarks
from gateway.core.agreement_reading import Effect, Reading, effects, read_changes
from gateway.core.charter import MAX_DOCUMENT_CHARS, Charter, parse_charter
from gateway.core.charter_diff import diff_agreements
from gateway.core.encoding import JsonLimits, parse_json_object
from gateway.core.entries import Kind, Verification, read, read_verification
from gateway.core.findings import Findings
from gateway.core.preview import Outcome, Recorded, replay
from gateway.core.reasons import Reason, Rejected
from gateway.lab.charter import CHARTER_LIFETIME
from gateway.storage import EntryQuery, LogStore, StoredEntry, TrustStore

app = typer.Typer(no_args_is_help=True, help="Look at a recognition agreement before it is signed.")

_PAGE: Final = 1_000
_LIMITS: Final = JsonLimits(max_bytes=MAX_DOCUMENT_CHARS, max_members=100_000, max_string=MAX_DOCUMENT_CHARS)
_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}
_EFFECTS: Final[Mapping[Effect, tuple[str, str, str]]] = {
    Effect.LOOSENS: ("bold red", "放宽", "loosens"),
    Effect.TIGHTENS: ("green", "收紧", "tightens"),
    Effect.NEUTRAL: ("dim", "不变", "neutral"),
}
_Config = Annotated[
    Path | None, typer.Option(help="The province's configuration, gateway.toml, to look at the issuers too.")
]
_File = Annotated[Path, typer.Argument(metavar="AGREEMENT.json", help="An agreement, or a charter that holds one.")]


@app.command("lint", epilog=exit_codes({ExitCode.OK: "nothing that cannot work", ExitCode.NO: "something cannot work"}))
def lint(
    file: _File,
    *,
    config: _Config = None,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Find what no rule forbids and hardly anybody means: floors nobody reaches, attributes for whoever asks.

    With --config it also finds credential types that no issuer is granted, by what this gateway holds of the issuers.
    """
    now = options.world(lab_clock).now()
    agreement, expires_at = read_agreement(file)
    granted = None if config is None else _granted(options.configuration(config), now)
    found = remarks(agreement, now=now, until=expires_at or now + CHARTER_LIFETIME, granted=granted)
    if as_json:
        write_document({"remarks": [_remark(remark) for remark in found]})
    else:
        _show_remarks(found, lang)
    if any(remark.severity is Severity.ERROR for remark in found):
        raise typer.Exit(ExitCode.NO)


@app.command("diff", epilog=exit_codes({ExitCode.OK: "compared"}))
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD.json")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json")],
    *,
    lang: options.LangOption = Lang.BOTH,
    as_json: options.JsonOption = False,
) -> None:
    """Say what changes from one agreement to another: of each change, and of each matter, if it loosens or tightens."""
    before, after = read_agreement(old)[0], read_agreement(new)[0]
    readings = read_changes(diff_agreements(before, after), before, after)
    if as_json:
        write_document(
            {
                "changes": [_reading(reading) for reading in readings],
                "matters": {matter: _sorted(found) for matter, found in sorted(effects(readings).items())},
            }
        )
    else:
        _show_readings(readings, lang)


@app.command("preview", epilog=exit_codes({ExitCode.OK: "replayed"}))
def preview(
    *,
    config: options.ConfigOption,
    proposed: Annotated[
        Path, typer.Option(metavar="AGREEMENT.json", help="The proposed agreement, or a charter that holds it.")
    ],
    since: Annotated[str, typer.Option(metavar="30d", help="How far to look back.")] = "30d",
    list_changes: Annotated[bool, typer.Option("--list", help="Name every decision that would change.")] = False,
    lang: options.LangOption = Lang.BOTH,
    lab_clock: options.LabClockOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Decide again what this gateway has decided, by a proposed agreement, and show which verdicts would change.

    It goes by what was recorded, which holds no attribute. What the record does not tell is counted as unknown: what
    the steps behind a refusal would have said, or whether a consent covers what is newly required.
    """
    settings = options.configuration(config)
    agreement, _ = read_agreement(proposed)
    now = options.world(lab_clock).now()
    begin = options.ago(since, "--since", now)
    tally = _Tally(names_changes=list_changes)
    with open_store(settings) as stores:
        agreements = _Agreements(charter_in_force(settings, stores.trust, now), stores.trust)
        for stored in _decisions(stores.log, begin):
            try:
                entry = read_verification(read(stored.raw))
            except Rejected:
                tally.unreadable += 1
                continue
            tally.count(entry, agreements.by_version(entry.charter_version), agreement)
    if as_json:
        write_document(tally.document())
    else:
        _show_tally(tally, lang)


# -- reading ----------------------------------------------------------------------------------------------------------


def read_agreement(file: Path) -> tuple[Agreement, datetime | None]:
    """Read an agreement, and when the charter that holds it expires, if one does.

    Raises:
        Failure: it is none; the message names the place.
    """
    text = files.read_text(file, "agreement", limit=MAX_DOCUMENT_CHARS)
    try:
        members = parse_json_object(text.encode("utf-8"), _LIMITS)
        if "signatures" in members:
            charter = parse_charter(text).unverified
            return charter.agreement, charter.expires_at
        return parse_agreement(members), None
    except Rejected as rejection:
        raise Failure(
            f"{file}: {rejection.detail}", fix="correct what the message names; docs/deploy.md explains every field"
        ) from rejection


def _granted(config: Config, now: datetime) -> frozenset[str]:
    """Give the credential types that a quorum of anchors grants some issuer, as this gateway knows it."""
    view, _ = load_view(config, now)
    return frozenset().union(*(issuer.credential_types for issuer in view.issuers.values()))


# -- preview ----------------------------------------------------------------------------------------------------------


class _Agreements:
    """The agreements by which this gateway has decided."""

    def __init__(self, charter: Charter, store: TrustStore) -> None:
        self._store = store
        self._read: dict[int, Agreement | None] = {charter.version: charter.agreement}  # as many as charters followed

    def by_version(self, version: int) -> Agreement | None:
        """Give the agreement of a version of the charter, if the store has it."""
        if version not in self._read:
            document = self._store.load_charter(version)
            try:
                # The gateway verified it when it took it in.
                self._read[version] = None if document is None else parse_charter(document).unverified.agreement
            except Rejected:  # of an older form; the gateway itself passes over such rows
                self._read[version] = None
        return self._read[version]


@dataclass(slots=True)
class _Tally:
    """What a preview has counted. Bounded by matters and reasons, unless every decision is to be named."""

    names_changes: bool
    looked_at: Counter[str] = field(default_factory=Counter)
    """By matter."""
    changed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By matter, what was and what would be, each with its reason."""
    unknown: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    """Recorded by a version that kept no findings, or under a charter that is not kept."""
    changes: list[tuple[str, str, str, str]] = field(default_factory=list)

    def count(self, entry: Verification, before: Agreement | None, proposed: Agreement) -> None:
        """Replay one decision, which was made by the agreement before; None: that one is not there any more."""
        recorded = _recorded(entry)
        if recorded is None or before is None:
            self.unreadable += 1
            return
        replayed = replay(recorded, before, proposed)
        self.looked_at[entry.matter] += 1
        if replayed.outcome is Outcome.UNKNOWN:
            self.unknown[entry.matter] += 1
        elif replayed.differs(recorded):
            was, would_be = _said(entry.verdict, recorded.reason), _said(replayed.outcome, replayed.reason)
            self.changed[entry.matter, was, would_be] += 1
            if self.names_changes:
                self.changes.append((entry.verification_id, entry.matter, was, would_be))

    def document(self) -> dict[str, Any]:
        """Write it for programs."""
        return {
            "decisions": self.looked_at.total(),
            "unreadable": self.unreadable,
            "matters": [
                {
                    "matter": matter,
                    "decisions": count,
                    "unknown": self.unknown[matter],
                    "changes": [
                        {"was": was, "would_be": would_be, "count": number}
                        for (of, was, would_be), number in sorted(self.changed.items())
                        if of == matter
                    ],
                }
                for matter, count in sorted(self.looked_at.items())
            ],
            "changed": [
                {"verification_id": number, "matter": matter, "was": was, "would_be": would_be}
                for number, matter, was, would_be in self.changes
            ]
            if self.names_changes
            else None,
        }


def _decisions(log: LogStore, since: datetime) -> Iterator[StoredEntry]:
    """Give what was decided from a time on, a page at a time: there may be millions."""
    query = EntryQuery(kinds=(Kind.VERIFICATION.value,), since=since)
    after: tuple[str, int] | None = None
    while page := log.list_entries(query, _PAGE, after):
        yield from page
        after = (page[-1].log_id, page[-1].position)


def _recorded(entry: Verification) -> Recorded | None:
    try:
        findings = Findings.from_members(entry.findings)
    except (Rejected, ValueError):
        return None
    return Recorded(
        matter=entry.matter,
        verdict=entry.verdict,
        reason=Reason(entry.reason) if entry.reason else None,
        decided_at=entry.decided_at,
        findings=findings,
    )


def _said(verdict: str, reason: Reason | None) -> str:
    return verdict if reason is None else f"{verdict} {reason}"


# -- showing ----------------------------------------------------------------------------------------------------------


def _remark(remark: Remark) -> dict[str, str]:
    return {
        "severity": remark.severity.value,
        "kind": remark.kind.value,
        "path": remark.path,
        "zh": remark.words.zh,
        "en": remark.words.en,
    }


def _show_remarks(found: Sequence[Remark], lang: Lang) -> None:
    screen = stdout()
    screen.table(
        lang.pick("协议中值得留意之处", "What is odd about the agreement"),
        (lang.pick("程度", "How bad"), lang.pick("位置", "Where"), lang.pick("说明", "What")),
        [
            (
                Text(remark.severity.value, _STYLES[remark.severity]),
                remark.path,
                lang.pick(remark.words.zh, remark.words.en),
            )
            for remark in found
        ],
    )
    if not found:
        screen.line(lang.pick("没有值得留意之处", "nothing is odd"))


def _reading(reading: Reading) -> dict[str, str | None]:
    return {
        "path": reading.change.path,
        "before": reading.change.before,
        "after": reading.change.after,
        "matter": reading.matter,
        "effect": reading.effect.value,
        "zh": reading.words.zh,
        "en": reading.words.en,
    }


def _sorted(found: Collection[Effect]) -> list[Effect]:
    """Put first what somebody has to have meant."""
    return sorted(found, key=list(Effect).index)


def _show_readings(readings: Sequence[Reading], lang: Lang) -> None:
    screen = stdout()
    screen.table(
        lang.pick("改动", "Changes"),
        (lang.pick("作用", "Effect"), lang.pick("说明", "What")),
        [
            (Text(lang.pick(zh, en), style), lang.pick(reading.words.zh, reading.words.en))
            for reading in readings
            for style, zh, en in (_EFFECTS[reading.effect],)
        ],
    )
    screen.table(
        lang.pick("各事项的改动", "Changes by matter"),
        (lang.pick("事项", "Matter"), lang.pick("作用", "Effect")),
        [
            (matter, Text(", ".join(lang.pick(*_EFFECTS[each][1:]) for each in found), _EFFECTS[found[0]][0]))
            for matter, found in ((matter, _sorted(found)) for matter, found in sorted(effects(readings).items()))
        ],
    )
    if not readings:
        screen.line(lang.pick("含义没有改动", "no difference in meaning"))


def _show_tally(tally: _Tally, lang: Lang) -> None:
    screen = stdout()
    screen.table(
        lang.pick("按拟议协议重新判定", "Decided again by the proposed agreement"),
        (
            lang.pick("事项", "Matter"),
            lang.pick("原判定", "Was"),
            lang.pick("将判定", "Would be"),
            lang.pick("次数", "How often"),
        ),
        list(_rows(tally, lang)),
    )
    if not tally.looked_at:
        screen.line(lang.pick("这段时间没有判定", "nothing was decided in that time"))
    if tally.unreadable:
        screen.line(
            lang.pick("登记的内容不足、无从重新判定：", "recorded too scantily to be decided again: ")
            + str(tally.unreadable)
        )
    if tally.names_changes:
        screen.table(
            lang.pick("将改变的判定", "Decisions that would change"),
            (
                lang.pick("核验编号", "Verification"),
                lang.pick("事项", "Matter"),
                lang.pick("原判定", "Was"),
                lang.pick("将判定", "Would be"),
            ),
            tally.changes,
        )


def _rows(tally: _Tally, lang: Lang) -> Iterator[tuple[str, str, str, str]]:
    for matter, count in sorted(tally.looked_at.items()):
        changes = [(was, would_be, number) for (of, was, would_be), number in tally.changed.items() if of == matter]
        unknown = tally.unknown[matter]
        same = count - unknown - sum(number for _, _, number in changes)
        if same:
            yield matter, lang.pick("全部", "any"), lang.pick("不变", "the same"), str(same)
        for was, would_be, number in sorted(changes):
            yield matter, was, would_be, str(number)
        if unknown:
            yield matter, lang.pick("全部", "any"), lang.pick("不详", "unknown"), str(unknown)
