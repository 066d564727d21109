"""How a lab shows itself: the day as tables for people or lines for programs, and what to try next."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.console import Cell, Lang, printable, stderr, stdout, write_line
from gateway.core.identifiers import Province
from gateway.core.texts import Language
from gateway.lab.cast import HUKOU, IDENTITY, XU_FILE, Words
from gateway.lab.charter import HUKOU_MIGRATION, RESIDENT_ID
from gateway.lab.folder import DEFAULT, LabFolder
from gateway.lab.stage import Step
from gateway.provision.province import CHARTER_FILE

_VERDICTS: Final = {
    "accepted": (Words("认可", "accepted"), "green"),
    "rejected": (Words("不予认可", "rejected"), "yellow"),
    "indeterminate": (Words("无法判断", "indeterminate"), "magenta"),
    "not_permitted": (Words("不予受理", "not permitted"), "yellow"),
    "error": (Words("出错", "error"), "red"),
}


@contextmanager
def progress(lang: Lang, zh: str, en: str) -> Iterator[None]:
    """Say on stderr what takes a while."""
    words = lang.pick(zh, en)
    if not sys.stderr.isatty():
        stderr().line(f"{words} ...")
        yield
        return
    with Console(stderr=True).status(words):
        yield


def written(step: Step) -> Step:
    """Write a step for programs. The first four members are promised; the rest explains."""
    document = {
        "step": step.step,
        "expected": step.expected,
        "verdict": step.verdict,
        "reason": step.reason,
        "expected_reason": step.expected_reason,
        "met": step.met,
        "caller": step.caller.en,
        "gateway": step.callee.en,
        "what": step.title.en,
    }
    write_line(json.dumps(document, ensure_ascii=False))
    return step


def shown(day: Iterable[Step], lang: Lang) -> list[Step]:
    """Play the day and show it for people, chapter by chapter."""
    steps: list[Step] = []
    for chapter, group in groupby(day, key=lambda step: step.chapter):
        played = list(group)
        steps += played
        _show_chapter(chapter, played, lang)
    met = sum(step.met for step in steps)
    stdout().line()
    stdout().line(
        Text(
            lang.pick(f"共 {len(steps)} 步，{met} 步符合预期。", f"{len(steps)} steps, {met} as expected."),
            "bold green" if met == len(steps) else "bold red",
        )
    )
    return steps


_REASON: Final = Words("原因", "Reason")
_HEADINGS: Final = (
    Words("", ""),
    Words("谁问谁", "Who asks whom"),
    Words("经过", "What happens"),
    Words("判定", "Verdict"),
    _REASON,
)


def _show_chapter(chapter: Words, steps: Sequence[Step], lang: Lang) -> None:
    if not sys.stdout.isatty():
        rows: list[list[Cell]] = [
            [mark(met=step.met), *(_pick(lang, cell) for cell in _cells(step)), step.reason] for step in steps
        ]
        stdout().table(_pick(lang, chapter), [_pick(lang, heading) for heading in _HEADINGS], rows)
        return
    # Two languages read better one below the other, which plain columns cannot do.
    table = Table(title=_pick(lang, chapter), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in _HEADINGS:
        # A reason is one word to search for.
        table.add_column(_stacked(lang, heading), overflow="fold", no_wrap=heading is _REASON)
    for step in steps:
        asked, happens, verdict = (_stacked(lang, cell) for cell in _cells(step))
        verdict.stylize(_style(step))
        table.add_row(mark(met=step.met), asked, happens, verdict, printable(step.reason))
    console = Console(markup=False, emoji=False, highlight=False)
    console.print()
    console.print(table)


def _cells(step: Step) -> tuple[Words, Words, Words]:
    verdict = _VERDICTS[step.verdict][0]
    if not step.met:
        expected = f"{step.expected} {step.expected_reason}".rstrip()
        verdict = Words(f"{verdict.zh}（预期 {expected}）", f"{verdict.en} (expected: {expected})")
    asked = Words(f"{step.caller.zh} → {step.callee.zh}", f"{step.caller.en} → {step.callee.en}")
    return asked, step.title, verdict


def _style(step: Step) -> str:
    return _VERDICTS[step.verdict][1] if step.met else "bold red"


def _stacked(lang: Lang, words: Words) -> Text:
    lines = [Text(words.zh)] if Language.ZH in lang.languages else []
    if Language.EN in lang.languages:
        lines.append(Text(words.en, "dim" if lines else ""))
    return Text("\n").join(lines)


def _pick(lang: Lang, words: Words) -> str:
    return lang.pick(words.zh, words.en)


def mark(*, met: bool) -> Text:
    """A tick or a cross."""
    return Text("✓", "green") if met else Text("✗", "bold red")


def show_next(folder: LabFolder, lang: Lang) -> None:
    """Print what a person can try now, ready to be copied."""
    screen = stdout()
    screen.line()
    screen.facts(
        [
            (lang.pick("目录", "Folder"), f"{folder.path.absolute()}"),
            (
                lang.pick("密钥", "Keys"),
                f"{folder.path}/<{'|'.join(each.code for each in Province)}>/keys; mrg lab keys",
            ),
            (lang.pick("配置", "Configurations"), f"{folder.path}/<...>/gateway.toml"),
            (lang.pick("日志", "Logs"), f"{folder.path}/<...>/gateway.log"),
        ]
    )
    screen.line()
    screen.line(Text(lang.pick("在另一个终端试一试：", "Try next, in another terminal:"), "bold"))
    for command in _commands(folder):
        screen.line(f"  {command}")


def _commands(folder: LabFolder) -> Sequence[str]:
    (folder.path / "try").mkdir(exist_ok=True)

    def at(file: Path) -> str:
        return shlex.quote(str(file))

    def made(name: str) -> str:
        return at(folder.path / "try" / name)

    issues, asks = at(folder.profile(Province.SHANGHAI, IDENTITY)), at(folder.profile(Province.ANHUI, HUKOU))
    credential, holder, challenge = made("xu.credential"), made("xu.pem"), made("challenge.json")
    presentation, claims = made("xu.presentation"), at(folder.path / XU_FILE)
    issue = f"mrg issue credential --as {issues} --type {RESIDENT_ID} --subject xu --acr urn:yrd:loa:4"
    lab = "" if folder.path == DEFAULT else f" --dir {at(folder.path)}"
    return (
        # Another terminal may be anywhere, and whoever came by ``make run`` has no ``mrg`` in the search path.
        f"cd {at(Path.cwd())}",
        f"export PATH={at(Path(sys.executable).parent)}:$PATH",
        # Everybody in the lab goes by its clock, the holder included.
        f"export MRG_LAB_CLOCK={at(folder.clock)}",
        f"{issue} --claims @{claims} --holder-key {holder} --out {credential}",
        f"mrg challenge --as {asks} --matter {HUKOU_MIGRATION} --json > {challenge}",
        f"mrg present {credential} --holder-key {holder} --challenge {challenge} --all --out {presentation}",
        f"mrg verify {presentation} --as {asks} --matter {HUKOU_MIGRATION} --challenge {challenge}",
        f"mrg trust show --config {at(folder.config(Province.ANHUI))}",
        f"mrg charter show {at(folder.province(Province.SHANGHAI) / CHARTER_FILE)}",
        *(f"mrg lab {command}{lab}" for command in ("status", "keys", "clock +2h", "clock reset")),
    )
