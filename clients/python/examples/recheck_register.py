"""Check a whole register anew: is what was presented still accepted?

    python recheck_register.py --profile service.toml --matter KY-LA register.jsonl results.jsonl

The register has one entry a line, in JSONL or, by its suffix, CSV: ``id``, your own name of it, and ``presentation``,
an identity assertion. The results are JSONL, a line for each entry that was decided, with nothing about the person.
Stopped at any time, it goes on where it was when it is started with the same files; entries about which the gateway
could not tell are asked about again.

On a terminal a bar shows how far it is, elsewhere a line now and then. Exit codes: 0 all accepted, 1 some rejected,
2 usage, 3 none rejected and some undecided, 4 the gateway could not be asked, 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TextIO, assert_never

from recognition.client import (
    Accepted,
    Decision,
    Failure,
    Indeterminate,
    Language,
    Outcome,
    Profile,
    Reason,
    RecognitionClient,
    RecognitionError,
    Rejected,
    VerifyRequest,
)

BAR_WIDTH: Final = 40
LINE_SECONDS: Final = 5.0
ACCEPTED, REJECTED, UNDECIDED = "accepted", "rejected", "undecided"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the register."""

    name: str
    presentation: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of an entry, as it is kept."""

    name: str
    verdict: str
    reason: str
    verification_id: str

    @property
    def is_final(self) -> bool:
        """Whether asking again would bring nothing new."""
        return self.verdict != UNDECIDED


class NotAsked(Exception):  # noqa: N818 - what happened
    """The gateway decided nothing; the error says why."""


class Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int, out: TextIO) -> None:
        self._total = total
        self._out = out
        self._shown_at = time.monotonic()

    def show(self, done: int) -> None:
        """Say how far it is."""
        if self._out.isatty():
            filled = BAR_WIDTH * done // max(1, self._total)
            self._out.write(f"\r[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {done}/{self._total}")
            self._out.write("\n" if done == self._total else "")
        elif done == self._total or time.monotonic() - self._shown_at >= LINE_SECONDS:
            self._shown_at = time.monotonic()
            self._out.write(f"{done}/{self._total}\n")
        self._out.flush()


def read_register(file: Path) -> list[Entry]:
    """Read the register."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines) if file.suffix == ".csv" else map(json.loads, filter(str.strip, lines))
        entries = [Entry(row["id"], row["presentation"]) for row in rows]
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError(f"{file}: an id appears twice")
    return entries


def read_findings(file: Path) -> dict[str, Finding]:
    """Read what was found before; a last line that was cut off is as if it had not been written."""
    found: dict[str, Finding] = {}
    if file.exists():
        text = file.read_text("utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            file.write_text(whole, "utf-8")
        for line in whole.splitlines():
            row = json.loads(line)
            found[row["id"]] = Finding(row["id"], row["verdict"], row["reason"], row["verification_id"])
    return found


def finding(entry: Entry, outcome: Outcome) -> Finding:
    """Say what became of an entry.

    Raises:
        NotAsked: nothing, and so it would be with the others.
    """
    match outcome:
        case Failure(error=error):
            raise NotAsked(str(error))
        case Decision(verdict=Accepted(), verification_id=verification_id):
            return Finding(entry.name, ACCEPTED, "", verification_id)
        case Decision(verdict=Rejected(reason=reason), verification_id=verification_id):
            return Finding(entry.name, REJECTED, reason.name, verification_id)
        case Decision(verdict=Indeterminate(reason=reason), verification_id=verification_id):
            return Finding(entry.name, UNDECIDED, reason.name, verification_id)
        case Decision():
            raise AssertionError("there are three verdicts")
        case never:
            assert_never(never)


def recheck(
    client: RecognitionClient, matter: str, entries: Sequence[Entry], results: TextIO, batch: int
) -> Iterator[Finding]:
    """Ask about the entries, a batch at a time, and write down what was found before going on."""
    waiting = iter(entries)
    while some := list(islice(waiting, batch)):
        outcomes = client.verify_all(VerifyRequest(matter=matter, presentation=each.presentation) for each in some)
        for entry, outcome in zip(some, outcomes, strict=True):
            found = finding(entry, outcome)
            line = {
                "id": found.name,
                "verdict": found.verdict,
                "reason": found.reason,
                "verification_id": found.verification_id,
            }
            results.write(json.dumps(line, ensure_ascii=False) + "\n")
            yield found
        results.flush()


def summary(findings: Sequence[Finding], language: Language) -> Iterator[str]:
    """Write the table of what was found."""
    counted = Counter((each.verdict, each.reason) for each in findings)
    for (verdict, reason), count in sorted(counted.items()):
        words = Reason[reason].text(language).what if reason else ""
        yield f"{count:>8}  {verdict:<10} {reason:<28} {words}".rstrip()
    yield f"{counted.total():>8}  in all"


def exit_code(findings: Sequence[Finding]) -> int:
    """Say how it went to the shell."""
    verdicts = {each.verdict for each in findings}
    return 1 if REJECTED in verdicts else 3 if UNDECIDED in verdicts else 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Check a register of identity assertions anew.")
    parser.add_argument("--profile", type=Path, required=True, help="how to reach the gateway (TOML)")
    parser.add_argument("--matter", required=True, help="code of the matter")
    parser.add_argument("--batch", type=int, default=200, help="entries asked about in one call, 1 to 1000")
    parser.add_argument("--language", choices=["zh", "en"], default="en", help="of the words for reasons")
    parser.add_argument("register", type=Path, help="JSONL or CSV with id and presentation")
    parser.add_argument("results", type=Path, help="JSONL, continued if it exists")
    return parser.parse_args()


def main() -> int:
    """Check the register."""
    options = arguments()
    try:
        entries = read_register(options.register)
        findings = read_findings(options.results)
        client = RecognitionClient(Profile.read(options.profile))
    except (OSError, ValueError, KeyError) as error:
        print(f"recheck_register: {error}", file=sys.stderr)
        return 2
    left = [each for each in entries if each.name not in findings or not findings[each.name].is_final]
    progress = Progress(len(entries), sys.stderr)
    with client, options.results.open("a", encoding="utf-8") as results:
        done = len(entries) - len(left)
        progress.show(done)
        try:
            for found in recheck(client, options.matter, left, results, min(max(1, options.batch), 1_000)):
                findings[found.name] = found
                done += 1
                progress.show(done)
        except (NotAsked, RecognitionError) as error:
            print(
                f"\nrecheck_register: {error}\n{done} of {len(entries)} are done; start again to go on.",
                file=sys.stderr,
            )
            return 4
        except KeyboardInterrupt:
            print(f"\n{done} of {len(entries)} are done; start again to go on.", file=sys.stderr)
            return 130
    ours = [findings[each.name] for each in entries]
    print(*summary(ours, options.language), sep="\n")
    return exit_code(ours)


if __name__ == "__main__":
    sys.exit(main())
