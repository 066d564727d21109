"""What ``mrg doctor`` finds about the log: whether its head is signed and seen, by whom, and what contradicts itself.

It looks at what is on disk and recomputes nothing; ``mrg audit verify`` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from gateway.cli.console import instant, span
from gateway.cli.findings import Finding, fail, ok, warn
from gateway.cli.store import open_store
from gateway.config import Config
from gateway.core.entries import Kind, read
from gateway.notary import RESIGN_EVERY
from gateway.storage import EntryQuery, Log, LogBook
from gateway.witness import REPLACED

AREA: Final = "log"
NEWS: Final = timedelta(days=30)
"""How long a log that took the place of another is pointed out."""
_LATE: Final = timedelta(minutes=1)
"""A head follows its entries within a second, and is signed again every ten minutes."""
_SEEN_LATELY: Final = timedelta(hours=1)
_HEADS: Final = 200
"""Heads looked at for cosignatures: the last ones."""
_SLACK: Final = timedelta(days=2)
"""What is over is erased within an hour, where the gateway runs."""
_START: Final = "start the gateway: mrg serve; if it runs, its log says log_not_signed, and why"


def check_log(config: Config, now: datetime) -> Iterator[Finding]:
    """Look at our own log, at what was seen of others', and at how long entries are kept."""
    with open_store(config) as stores:
        store = stores.log
        log = store.logs()[-1]
        yield from _head(store, log, now)
        yield from _witnesses(config, store, log, now)
        yield from _replaced(store, now)
        yield from _forks(store, now)
        yield from _retention(config, store, now)


def _head(store: LogBook, log: Log, now: datetime) -> Iterator[Finding]:
    head = store.latest_checkpoint(log.log_id)
    if head is None:
        if log.size:
            yield fail(AREA, "head", f"{log.size} entries, and none is under a signed head", _START)
        return
    age = now - head.issued_at
    detail = f"{head.size} of {log.size} entries under the head signed {span(age)} ago"
    if head.size < log.size and age > _LATE:
        yield fail(AREA, "head", detail, _START)
    elif age > RESIGN_EVERY + _LATE:
        yield warn(AREA, "head", detail, _START)
    else:
        yield ok(AREA, "head", detail)


def _witnesses(config: Config, store: LogBook, log: Log, now: datetime) -> Iterator[Finding]:
    seen: dict[str, datetime] = {}
    for head in store.checkpoints_before(log.log_id, log.size + 1, _HEADS):  # the newest first
        for witness in head.cosignatures:
            seen.setdefault(witness, head.issued_at)
    for peer in config.peers:
        subject, last = f"seen by {peer.province.code}", seen.get(peer.gateway)
        mend = "see the peer below; ask them whether their gateway reports log_alarm or log_not_witnessed about ours"
        if last is None:
            yield warn(AREA, subject, "has cosigned none of the last heads", mend)
        elif now - last > _SEEN_LATELY:
            yield warn(AREA, subject, f"the last head it cosigned was signed {span(now - last)} ago", mend)
        else:
            yield ok(AREA, subject, f"cosigned the head signed {span(now - last)} ago")


def _replaced(store: LogBook, now: datetime) -> Iterator[Finding]:
    for stored in store.list_entries(EntryQuery(kinds=(Kind.LOG.value,)), 1, newest_first=True):
        begun = read(stored.raw)
        detail = f"begun {instant(begun.at)} in place of {begun.body.get('replaced')}"
        if now - begun.at > NEWS:
            yield ok(AREA, "ours", detail)
        else:
            mend = "tell the other provinces why, and what the backup lacks; their gateways raise an alarm about it"
            yield warn(AREA, "ours", detail, mend)


def _forks(store: LogBook, now: datetime) -> Iterator[Finding]:
    for fork in store.load_forks():
        detail = f"{fork.kind}, found {instant(fork.found_at)}"
        if fork.kind == REPLACED:
            if now - fork.found_at <= NEWS:
                mend = "ask that province which backup was put back, and why; mrg audit seen shows both heads"
                yield warn(AREA, fork.gateway, detail, mend)
        else:
            mend = "that province's log has two histories: mrg audit seen --json is the proof; call them, all of you"
            yield fail(AREA, fork.gateway, detail, mend)


def _retention(config: Config, store: LogBook, now: datetime) -> Iterator[Finding]:
    kept = config.retention
    for name, days, verdict in (
        ("disclosure", kept.disclosure_days, "accepted"),
        ("security", kept.security_days, "rejected"),
    ):
        over = now - timedelta(days=days) - _SLACK
        query = EntryQuery(kinds=(Kind.VERIFICATION.value,), verdict=verdict, until=over)
        detail = f"class {name} is kept for {days} days"
        if store.list_entries(query, 1):
            yield warn(AREA, "retention", f"{detail}; older entries are there", "let the gateway run; it erases hourly")
        else:
            yield ok(AREA, "retention", detail)
