"""Checks a province's logs from end to end, wherever they were read from.

Signatures first: a head counts when a key signed it that a quorum of the pinned charter's anchors attests for that
gateway, as of the time of the trust documents that came with the log; or when whoever checks got it from another
province that had seen it. Those documents are renewed every few minutes, while a log in which nothing happens keeps its
head for ten: so they are often the younger of the two. Heads by keys that are no longer published are held against the
log all the same, and prove nothing by themselves. Then the log is recomputed (``core.log_audit``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from gateway.cli import drafting, files
from gateway.cli.console import ExitCode, Failure, instant
from gateway.cli.log_sources import FoundLog, LogSource
from gateway.core.charter import GATEWAY_TYPE, MAX_DOCUMENT_CHARS, Charter, parse_charter, verify_pinned
from gateway.core.checkpoint import Checkpoint, KeyOf, kept_checkpoint, read_checkpoint, read_cosignature
from gateway.core.encoding import JsonLimits, b64url_encode, parse_json_object
from gateway.core.entries import read
from gateway.core.log_audit import Fault, Finding, Head, LogAudit, Page, audit_log, audit_tiles
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.receipt import EvidenceBundle, keys_by, successors, view_of
from gateway.core.statements import PROFILE, parse_statement

MOMENT: Final = timedelta(minutes=15)
"""How much younger than the newest head that counts an entry may be that no such head covers. Heads are signed within
a second of new entries, and every ten minutes where there are none."""
_SEEN_LIMITS: Final = JsonLimits(max_bytes=4_194_304, max_depth=6, max_members=4_096)
_NO_KEY: Final = frozenset({Reason.KEY_UNKNOWN, Reason.KEY_REVOKED, Reason.ISSUER_WITHDRAWN})
"""Why a signature proves nothing now, and nothing against anybody either."""


def trusted_charter(file: Path, sha256: str | None) -> Charter:
    """Read the charter that whoever checks trusts.

    Raises:
        Failure: it is none, not the pinned one, or too few of its own anchors signed it.
    """
    document = files.read_text(file, "charter", limit=MAX_DOCUMENT_CHARS)
    try:
        pin = parse_charter(document).unverified.sha256 if sha256 is None else drafting.digest(sha256, "--sha256")
        return verify_pinned(document, pin)
    except Rejected as rejection:
        raise Failure(
            f"{file}: {rejection.detail}", fix="name a charter that you trust; compare its digest: mrg charter verify"
        ) from rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """A head of a log, and what its signature is worth."""

    checkpoint: Checkpoint
    is_proven: bool
    """Whether a key signed it that counts, or another province has seen it."""
    witnesses: tuple[str, ...] = ()
    """Province codes of the gateways whose cosignatures of it count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedLog:
    """What came of checking one log."""

    log_id: str
    audit: LogAudit
    heads: tuple[SignedHead, ...]
    findings: tuple[Finding, ...]
    """Those of ``audit``, and what is wrong with heads that cannot be held against anything."""
    newest_unproven: datetime | None
    """Of the entries past ``proven``, the time of the youngest; None: there are none."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.audit.is_cut and all(each.fault is Fault.UNCOVERED for each in self.findings)

    @property
    def proven(self) -> SignedHead | None:
        """The largest head that counts; None: no head of this log can be checked."""
        return _largest_proven(self.heads)

    @property
    def is_provable(self) -> bool:
        """Whether somebody else's word, or a signature, stands behind all of it but the last moment.

        Whoever rewrites a log from some position on need only lose the heads past it, or sign others with any key. An
        empty log needs no word.
        """
        if not self.audit.size:
            return True
        proven, newest = self.proven, self.newest_unproven
        return proven is not None and (newest is None or newest - proven.checkpoint.issued_at <= MOMENT)

    def document(self) -> dict[str, Any]:
        """Write it for programs."""
        proven = self.proven
        return {
            "log": self.log_id,
            "size": self.audit.size,
            "entries": self.audit.entries,
            "erased": self.audit.erased,
            "clean": self.is_clean,
            "heads": {
                "checked": len(self.heads),
                "proven": sum(head.is_proven for head in self.heads),
                "by_root_only": sum(not head.is_proven for head in self.heads),
            },
            "head": None
            if proven is None
            else {
                "size": proven.checkpoint.size,
                "root": b64url_encode(proven.checkpoint.root),
                "issued_at": instant(proven.checkpoint.issued_at),
            },
            "seen_by": sorted({code for head in self.heads for code in head.witnesses}),
            "findings": [
                {
                    "fault": each.fault.value,
                    "begin": each.begin,
                    "end": each.end,
                    "source": each.source,
                    "columns": list(each.columns),
                }
                for each in self.findings
            ],
            "more": self.audit.is_cut,
        }


def _largest_proven(heads: Iterable[SignedHead]) -> SignedHead | None:
    return max((head for head in heads if head.is_proven), key=lambda head: head.checkpoint.size, default=None)


class Signatures:
    """Judges heads by the trust documents that came with them, from a charter that is trusted."""

    def __init__(self, trust: EvidenceBundle, pinned: Charter, at: datetime, now: datetime) -> None:
        """Build the trust view as of the time of its documents.

        Args:
            trust: the trust documents that came with the log.
            pinned: the charter that whoever checks trusts.
            at: the time of the newest head; a key that had been superseded by then does not count.
            now: the time.

        Raises:
            Failure: the charters do not follow the one that is trusted.
        """
        try:
            self.charter = successors(pinned, trust.charters)[-1]
        except Rejected as rejection:
            raise Failure(
                f"the charters that came with the log do not follow yours: {rejection.detail}",
                fix="name the charter by which this federation began, or one that followed it: --charter",
                code=ExitCode.NO,
            ) from rejection
        held_at = min(now, max([at, *_attested(trust.statements, self.charter)]))
        view = view_of(trust, self.charter, held_at)
        self._key_of: KeyOf = keys_by(lambda gateway, kid, _at: view.audit_key(gateway, kid, held_at), at)
        self._now = now

    def head(self, token: str) -> SignedHead:
        """Judge a head.

        Raises:
            Rejected: it is none, or its signature does not hold.
        """
        try:
            return SignedHead(checkpoint=read_checkpoint(token, self._key_of, self._now), is_proven=True)
        except Indeterminate:
            pass
        except Rejected as rejection:
            if rejection.reason not in _NO_KEY:
                raise
        return SignedHead(checkpoint=kept_checkpoint(token), is_proven=False)

    def witnesses(self, checkpoint: Checkpoint, cosignatures: Iterable[str]) -> tuple[str, ...]:
        """Give the provinces whose gateways have seen a head. What does not count is passed over."""
        found: set[str] = set()
        for token in cosignatures:
            try:
                witness = read_cosignature(token, checkpoint, self._key_of, self._now).witness
            except (Rejected, Indeterminate):
                continue
            found |= {province for province in (self.province(witness),) if province is not None}
        return tuple(sorted(found - {self.province(checkpoint.gateway)}))

    def province(self, gateway: str) -> str | None:
        """Give the province of a gateway; None: the charter has no such gateway."""
        member = self.charter.member(gateway)
        return member.province if member is not None and GATEWAY_TYPE in member.entity_types else None


def _attested(statements: Iterable[str], charter: Charter) -> Iterator[datetime]:
    """Give the times at which the charter's anchors last spoke. Unverified: who lies only makes keys lapse."""
    anchors = {anchor.entity_id for anchor in charter.anchors}
    for token in statements:  # at most core.receipt.MAX_STATEMENTS
        try:
            statement = parse_statement(token, PROFILE)
        except Rejected:
            continue
        if statement.is_configuration and statement.iss in anchors:
            yield statement.issued_at


def newest_time(tokens: Iterable[str]) -> datetime | None:
    """Give the latest time that any of these heads bears. Unverified."""
    times: list[datetime] = []
    for token in tokens:
        try:
            times.append(kept_checkpoint(token).issued_at)
        except Rejected:
            continue
    return max(times, default=None)


# -- the whole --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedLogs:
    """What came of checking all logs of a gateway."""

    gateway: str
    """Empty: nothing was signed yet."""
    logs: tuple[CheckedLog, ...]
    missing: tuple[Checkpoint, ...] = ()
    """Heads that another province has seen, of logs that are not there."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.missing and all(log.is_clean for log in self.logs)

    @property
    def lacks_entries(self) -> bool:
        """Whether entries are gone that nothing excuses."""
        return any(each.fault is Fault.REMOVED for log in self.logs for each in log.findings)

    @property
    def is_provable(self) -> bool:
        """Whether it can be told."""
        return any(log.proven for log in self.logs) and all(log.is_provable for log in self.logs)


@dataclass(slots=True, kw_only=True)
class LogCheck:
    """Checks all logs of a source."""

    source: LogSource
    pinned: Charter
    now: datetime
    seen: Path | None = None
    """Heads that another province has seen; see ``read_seen``."""
    advance: Callable[[int], object] = field(default=lambda _count: None)

    def run(self) -> CheckedLogs:
        """Check them.

        Raises:
            Failure: they cannot be read, or the charters do not fit.
        """
        logs = self.source.logs()
        tokens: Sequence[str] = [head.token for log in logs for head in log.heads]
        at = newest_time(tokens)
        signatures = Signatures(
            self.source.trust(), self.pinned, self.now if at is None else min(at, self.now), self.now
        )
        gateways = {kept_checkpoint(token).gateway for token in tokens if newest_time([token]) is not None}
        if len(gateways) > 1:
            raise Failure(
                "the heads are of several gateways' logs", fix="somebody mixed them; export again", code=ExitCode.NO
            )
        gateway = next(iter(gateways), "")
        known = {log.log_id for log in logs}
        tokens = () if self.seen is None else read_seen(self.seen, gateway, known)
        theirs = [kept_checkpoint(token) for token in tokens]
        checked = [self._check(log, signatures, [each for each in theirs if each.log == log.log_id]) for log in logs]
        missing = [each for each in theirs if each.log not in known]
        return CheckedLogs(gateway=gateway, logs=tuple(checked), missing=tuple(missing))

    def _check(self, log: FoundLog, signatures: Signatures, theirs: Sequence[Checkpoint]) -> CheckedLog:
        heads = [SignedHead(checkpoint=each, is_proven=True) for each in theirs]
        wrong: list[Finding] = []
        for found in log.heads:
            try:
                head = signatures.head(found.token)
            except Rejected:
                head = None
            if head is None or head.checkpoint.log != log.log_id:
                size = _claimed_size(found.token)
                wrong.append(Finding(fault=Fault.HEAD, begin=size, end=size))
                continue
            heads.append(replace(head, witnesses=signatures.witnesses(head.checkpoint, found.cosignatures)))
        plain = {(head.checkpoint.size, head.checkpoint.root): head.checkpoint.issued_at for head in heads}
        tail = _Tail(_largest_proven(heads))
        audit = audit_log(
            lambda: tail.watch(self._pages(log)),
            log.size,
            [Head(size=size, root=root, signed_at=at) for (size, root), at in plain.items()],
        )
        tiles = self.source.tiles(log)
        if tiles is not None:
            covered = min(log.size, max((size for size, _ in plain), default=0))
            wrong += audit_tiles(covered, tiles)
        findings = sorted({*audit.findings, *wrong}, key=lambda each: (each.begin, each.end, each.fault))
        return CheckedLog(
            log_id=log.log_id,
            audit=audit,
            heads=tuple(heads),
            findings=tuple(findings),
            newest_unproven=tail.newest,
        )

    def _pages(self, log: FoundLog) -> Iterator[Page]:
        for page in self.source.pages(log):
            yield page
            self.advance(page.end - page.begin)
        yield from self.source.outside(log)


class _Tail:
    """What is past the largest head that counts."""

    def __init__(self, proven: SignedHead | None) -> None:
        self._begin = None if proven is None else proven.checkpoint.size
        self.newest: datetime | None = None

    def watch(self, pages: Iterable[Page]) -> Iterator[Page]:
        """Pass pages on, and note how young their entries are."""
        for page in pages:
            if self._begin is not None and page.end > self._begin:
                times = [_time_of(row.raw) for row in page.rows if row.position >= self._begin]
                self.newest = max([*times, *([] if self.newest is None else [self.newest])], default=None)
            yield page


def _time_of(raw: bytes) -> datetime:
    try:
        return read(raw).at
    except Rejected:
        return datetime.max.replace(tzinfo=UTC)  # nothing excuses it


def _claimed_size(token: str) -> int:
    try:
        return kept_checkpoint(token).size
    except Rejected:
        return 0


def read_seen(file: Path, gateway: str, logs: Collection[str]) -> Sequence[str]:
    """Read the heads of one gateway that another province has seen, as its ``mrg audit seen --json`` wrote them.

    Args:
        file: the file.
        gateway: whose; empty: it shows no head any more, so its logs tell.
        logs: the logs it has.

    Raises:
        Failure: it is no such file, or holds none of that gateway.
    """
    fix = "name what mrg audit seen --json of another province wrote"
    try:
        text = files.read_text(file, "list of heads", limit=_SEEN_LIMITS.max_bytes)
        listed = parse_json_object(text.encode("utf-8"), _SEEN_LIMITS)["seen"]
        heads = [kept_checkpoint(each["checkpoint"]) for each in listed if each["checkpoint"]]
    except (Rejected, AttributeError, KeyError, TypeError) as error:
        raise Failure(f"{file}: is no list of heads", fix=fix) from error
    found = [head.token for head in heads if (head.gateway == gateway if gateway else head.log in logs)]
    if not found:
        raise Failure(f"{file}: holds no head of this gateway's logs", fix=fix)
    return found
