"""Check a whole register anew: does what was issued for each entry still hold?

    python recheck_register.py --profile service.toml --matter KY-LA register.jsonl results.jsonl

For a re-check, the people's home provinces issue an identity assertion afresh for every entry, made out to this
service. An assertion is accepted once, and within minutes of its issue: what was presented the first time cannot be
checked again, and neither can the same register twice.

The register has one entry a line, in JSONL or, by its suffix, CSV: ``id``, your own name of it, and ``presentation``,
the assertion. The results are JSONL, a line for each entry that was asked about, with nothing about the person:

    accepted, rejected  decided
    undecided           the gateway could not tell, or would not be asked about this one; asked again at the next start
    unknown             asked before, outcome unknown: see the log by request id

Before an entry is asked about, the reference of the question is written to ``<results>.asked``. Stopped at any time,
the program goes on where it was when it is started with the same files: what has no result is asked again under the
same reference, and who does that within a minute has the same answer. Later, what was accepted the first time is
refused as used: such an entry is unknown, and not rejected.

On a terminal a bar shows how far it is, elsewhere a line now and then. Exit codes: 0 all accepted, 1 some rejected,
2 usage, 3 none rejected and some undecided or unknown, 4 the gateway could not be asked, 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO, assert_never

from recognition.client import (
    Accepted,
    DamagedAnswer,
    Decision,
    Failure,
    Indeterminate,
    InvalidRequest,
    Language,
    NotPermitted,
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
ACCEPTED, REJECTED, UNDECIDED, UNKNOWN = "accepted", "rejected", "undecided", "unknown"
ASKED_BEFORE: Final = "asked before, outcome unknown: see the log by request id"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the register."""

    name: str
    presentation: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about an entry."""

    entry: Entry
    request_id: str
    """Random, and the same whenever this entry is asked about."""
    is_repeated: bool
    """Whether an earlier run asked it, and does not know the answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of an entry, as it is kept."""

    name: str
    verdict: str
    reason: str
    request_id: str
    verification_id: str = ""

    @property
    def is_final(self) -> bool:
        """Whether asking again would bring nothing new."""
        return self.verdict != UNDECIDED


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
        entries = [Entry(str(row["id"]), row["presentation"]) for row in rows]
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError(f"{file}: an id appears twice")
    return entries


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read what was written before; a last line that was cut off is as if it had not been written."""
    if not file.exists():
        return []
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(file, len(whole))
    return [json.loads(line) for line in whole.split(b"\n") if line]


def write_rows(file: TextIO, rows: Sequence[dict[str, str]]) -> None:
    """Write rows, and go on when the disk has them."""
    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.flush()
    os.fsync(file.fileno())


def read_findings(file: Path) -> dict[str, Finding]:
    """Read what was found before."""
    rows = read_rows(file)
    return {
        row["id"]: Finding(row["id"], row["verdict"], row["reason"], row["request_id"], row["verification_id"])
        for row in rows
    }


def finding(question: Question, outcome: Outcome) -> Finding:
    """Say what became of an entry.

    Raises:
        RecognitionError: nothing, and so it would be with the others.
    """
    name, request_id = question.entry.name, question.request_id
    match outcome:
        case Decision(verdict=Accepted(), verification_id=verification_id):
            return Finding(name, ACCEPTED, "", request_id, verification_id)
        case Decision(verdict=Rejected(reason=Reason.REPLAYED), verification_id=verification_id) if (
            question.is_repeated
        ):
            return Finding(name, UNKNOWN, Reason.REPLAYED.name, request_id, verification_id)
        case Decision(verdict=Rejected(reason=reason), verification_id=verification_id):
            return Finding(name, REJECTED, reason.name, request_id, verification_id)
        case Decision(verdict=Indeterminate(reason=reason), verification_id=verification_id):
            return Finding(name, UNDECIDED, reason.name, request_id, verification_id)
        case Failure(error=InvalidRequest() | NotPermitted() | DamagedAnswer() as error):
            return Finding(name, UNDECIDED, error.reason or error.code.name, request_id)
        case Failure(error=error):
            raise error
        case Decision():
            raise AssertionError("there are three verdicts")
        case never:
            assert_never(never)


def recheck(
    client: RecognitionClient, matter: str, batches: Iterable[Sequence[Question]], results: TextIO, asked: TextIO
) -> Iterator[Finding]:
    """Ask, a batch at a time; all that was found of one is written down before anything else happens.

    Raises:
        RecognitionError: there is no use in going on now.
    """
    for some in batches:
        first = [each for each in some if not each.is_repeated]
        write_rows(asked, [{"id": each.entry.name, "request_id": each.request_id} for each in first])
        outcomes = client.verify_all(
            VerifyRequest(matter=matter, presentation=each.entry.presentation, request_id=each.request_id)
            for each in some
        )
        found, failed = [], None
        for question, outcome in zip(some, outcomes, strict=True):
            try:
                found.append(finding(question, outcome))
            except RecognitionError as error:
                failed = error
        write_rows(
            results,
            [
                {
                    "id": each.name,
                    "verdict": each.verdict,
                    "reason": each.reason,
                    "request_id": each.request_id,
                    "verification_id": each.verification_id,
                }
                for each in found
            ],
        )
        yield from found
        errors = [each.error for each in outcomes if isinstance(each, Failure)]
        if len(errors) == len(some) and all(isinstance(each, NotPermitted) for each in errors):
            failed = errors[0]  # it is not one entry that is not permitted
        if failed is not None:
            raise failed


def summary(findings: Sequence[Finding], language: Language) -> Iterator[str]:
    """Write the table of what was found."""
    counted = Counter((each.verdict, each.reason) for each in findings)
    for (verdict, reason), count in sorted(counted.items()):
        words = Reason[reason].text(language).what if reason in Reason.__members__ else ""
        words = ASKED_BEFORE if verdict == UNKNOWN else words
        yield f"{count:>8}  {verdict:<10} {reason:<28} {words}".rstrip()
    yield f"{counted.total():>8}  in all"


def exit_code(findings: Sequence[Finding]) -> int:
    """Say how it went to the shell."""
    verdicts = {each.verdict for each in findings}
    return 1 if REJECTED in verdicts else 3 if verdicts & {UNDECIDED, UNKNOWN} else 0


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
    memory = options.results.with_name(options.results.name + ".asked")
    try:
        entries = read_register(options.register)
        findings = read_findings(options.results)
        references = {row["id"]: row["request_id"] for row in read_rows(memory)}
        client = RecognitionClient(Profile.read(options.profile))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"recheck_register: {error}", file=sys.stderr)
        return 2
    left = [
        Question(each, references.get(each.name) or uuid.uuid4().hex, each.name in references)
        for each in entries
        if each.name not in findings or not findings[each.name].is_final
    ]
    size = min(max(1, options.batch), 1_000)
    batches = [left[at : at + size] for at in range(0, len(left), size)]
    progress = Progress(len(entries), sys.stderr)
    done = len(entries) - len(left)
    with client, options.results.open("a", encoding="utf-8") as results, memory.open("a", encoding="utf-8") as asked:
        progress.show(done)
        try:
            for found in recheck(client, options.matter, batches, results, asked):
                findings[found.name] = found
                done += 1
                progress.show(done)
        except RecognitionError as error:
            print(f"\nrecheck_register: {error}", file=sys.stderr)
            print(f"{done} of {len(entries)} are done; start again to go on.", file=sys.stderr)
            return 4
        except KeyboardInterrupt:
            print(f"\n{done} of {len(entries)} are done; start again to go on.", file=sys.stderr)
            return 130
    ours = [findings[each.name] for each in entries]
    print(*summary(ours, options.language), sep="\n")
    return exit_code(ours)


if __name__ == "__main__":
    sys.exit(main())
