"""Entries of the log: what was decided or changed, as the bytes that are hashed and kept.

The log is append-only; every entry is a leaf of the tree that ``merkle`` hashes. Rules that live here:

* An entry is canonical JSON: members sorted, no white space, one spelling. The hash is over exactly the bytes that are
  stored, and what is shown of an entry is read from them, never from the columns by which it is looked up.
* No attribute's value, no token, no name, no ID number. People appear as keyed references that only the gateway which
  wrote them can make again: whoever steals the log cannot tell by trying all ID numbers whom it is about.
* An entry is shown to the service that asked, so it must not tell that two entries are about one person: two services
  would compare them. It holds a person's reference hashed with its own id. The reference itself is in a column, by
  which the person finds what was disclosed; whoever has both can check one against the other.
* Each entry has a class, by which the law says how long it is kept at least.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, NamedTuple

from gateway.core.encoding import JsonLimits, parse_json_object, sha256_b64url, write_canonical_json
from gateway.core.reasons import Reason, Rejected

MAX_ENTRY_BYTES: Final = 65_536
"""Longer than any entry that this program writes; a longer one is not read."""
MAX_RUNS: Final = 1_500
"""Runs of positions that one entry names as erased."""
MAX_DETAIL_CHARS: Final = 2_000
MAX_CREDENTIALS: Final = 500
"""Named in one entry."""
_FORMAT: Final = 1
_LIMITS: Final = JsonLimits(max_bytes=MAX_ENTRY_BYTES, max_depth=8, max_members=4 * MAX_RUNS)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Kind(StrEnum):
    """What an entry is about."""

    VERIFICATION = "verification"
    CONSENT = "consent"
    CREDENTIAL = "credential"
    """A credential of ours whose status was changed."""
    TRUST = "trust"
    """Charter, keys, members, revocations, the configuration: whatever changes who is trusted, or who may change it."""
    DISPUTE = "dispute"
    """Somebody contests a verification, or that was settled."""
    RETENTION = "retention"
    """Entries were erased because their time was over."""
    LOG = "log"
    """This log was begun in place of another one."""


class Keep(StrEnum):
    """How long an entry is kept: the class that the law gives it."""

    DISCLOSURE = "disclosure"
    """Attributes of a person were handed on, or somebody may hold us to it."""
    SECURITY = "security"
    """A record of the network's operation."""
    PERMANENT = "permanent"
    """Who was trusted, and what was erased: what everything else is judged by. Never erased."""


MIN_RETENTION: Final[Mapping[Keep, timedelta]] = {
    # Regulation on network data security management, art. 12: three years, of which one may be a leap year.
    Keep.DISCLOSURE: timedelta(days=3 * 365 + 1),
    # Cybersecurity Law as amended in 2025, art. 23: six months; MLPS level 3 counts 180 days, half a year may have 184.
    Keep.SECURITY: timedelta(days=184),
}
"""Floors. No configuration keeps anything for less."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """One entry, before it is written or after it was read."""

    kind: Kind
    at: datetime
    """To the millisecond."""
    body: Mapping[str, Any]
    """What happened; JSON."""
    entry_id: str = ""
    """By which others refer to it; empty: nobody does."""


class EntryIndex(NamedTuple):
    """By what an entry is looked up. Made from the entry alone, so that it can be checked against it."""

    kind: str
    at: int
    """Milliseconds since 1970."""
    keep: str
    entry_id: str = ""
    about: str = ""
    """The id of the verification that a dispute is about."""
    service: str = ""
    matter: str = ""
    verdict: str = ""
    reason: str = ""
    issuer: str = ""
    kid: str = ""
    person: str = ""
    """Keyed reference of whom a verification was about."""
    actor: str = ""
    """Keyed reference of who acted for them."""


INDEX_COLUMNS: Final = EntryIndex._fields


@dataclass(slots=True, kw_only=True)
class SealedEntry:
    """An entry as it is stored."""

    raw: bytes
    index: EntryIndex


def seal(entry: Entry, *, person: str = "", actor: str = "") -> SealedEntry:
    """Write an entry's canonical bytes.

    Args:
        entry: the entry.
        person: keyed reference of whom a verification was about, for finding it.
        actor: keyed reference of who acted for them.
    """
    document = {
        "format": _FORMAT,
        "kind": entry.kind.value,
        "at": milliseconds(entry.at),
        "id": entry.entry_id,
        "body": entry.body,
    }
    return SealedEntry(raw=write_canonical_json(document), index=index(entry, person=person, actor=actor))


def read(raw: bytes) -> Entry:
    """Read an entry from the bytes that were stored.

    Raises:
        Rejected: LOG_ENTRY_INVALID: they are not the one spelling of an entry.
    """
    try:
        document = parse_json_object(raw, _LIMITS)
        # Not by what ``seal`` writes with: two programs that agree are better evidence, and this one knows fractions.
        is_canonical = _ENCODER.encode(document).encode() == raw
    except Rejected as rejection:
        raise _invalid("cannot be read") from rejection
    if not is_canonical or document.keys() != {"format", "kind", "at", "id", "body"}:
        raise _invalid("is not in the canonical spelling")
    kind, at, entry_id, body = (document[name] for name in ("kind", "at", "id", "body"))
    # True and 1.0 are equal to 1, and other spellings of it.
    if type(document["format"]) is not int or document["format"] != _FORMAT or kind not in _KINDS:
        raise _invalid("is of a kind that this program does not know")
    if type(at) is not int or not 0 <= at < _MAX_MILLISECONDS or not isinstance(entry_id, str):
        raise _invalid("has no time or id")
    if not isinstance(body, dict):
        raise _invalid("has no body")
    return Entry(kind=Kind(kind), at=instant(at), body=body, entry_id=entry_id)


def index(entry: Entry, *, person: str = "", actor: str = "") -> EntryIndex:
    """Say by what an entry is looked up, and how long it is kept; not whom it is about, which it does not tell."""
    kind = entry.kind
    texts = [
        value if isinstance(value := entry.body.get(name, ""), str) and (only is None or only is kind) else ""
        for name, only in _TEXT_COLUMNS
    ]
    return EntryIndex._make(
        (kind.value, milliseconds(entry.at), _keep(entry).value, entry.entry_id, *texts, person, actor)
    )


_TEXT_COLUMNS: Final = (
    ("verification_id", Kind.DISPUTE),
    ("service", None),
    ("matter", None),
    ("verdict", None),
    ("reason", None),
    ("issuer", Kind.VERIFICATION),
    ("kid", Kind.VERIFICATION),
)
"""Members of the body that columns from ``about`` on are read from, and of which kind alone."""


def blinded(reference: str, entry_id: str) -> str:
    """Hash a keyed reference with the id of the entry that it stands in; of nobody, nothing."""
    return sha256_b64url(f"{reference} {entry_id}".encode()) if reference else ""


def contradictions(raw: bytes, held: EntryIndex) -> tuple[str, ...]:
    """Say which columns say something else than the entry: somebody edited the store. An entry that is none: entry."""
    try:
        entry = read(raw)
    except Rejected:
        return ("entry",)
    true = index(entry, person=entry.body.get("person", ""), actor=entry.body.get("actor", ""))
    shown = held._replace(person=blinded(held.person, entry.entry_id), actor=blinded(held.actor, entry.entry_id))
    return tuple(name for name, one, other in zip(INDEX_COLUMNS, shown, true, strict=True) if one != other)


def _keep(entry: Entry) -> Keep:
    if entry.kind in _PERMANENT:
        return Keep.PERMANENT
    if entry.kind is Kind.VERIFICATION and entry.body.get("verdict") != "accepted":
        return Keep.SECURITY
    return Keep.DISCLOSURE


_KINDS: Final = tuple(each.value for each in Kind)  # to look in without hashing what is looked for
_KEEPS: Final = tuple(each.value for each in Keep)
_PERMANENT: Final = frozenset({Kind.TRUST, Kind.RETENTION, Kind.LOG})


def milliseconds(at: datetime) -> int:
    """Write a moment, exactly: a float would round it."""
    return (at - _EPOCH) // _MILLISECOND


def instant(at: int) -> datetime:
    """Read a moment."""
    return _EPOCH + at * _MILLISECOND


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
_MAX_MILLISECONDS: Final = milliseconds(datetime(9999, 1, 1, tzinfo=UTC))


def _invalid(detail: str) -> Rejected:
    return Rejected(Reason.LOG_ENTRY_INVALID, f"the entry {detail}")


# -- verifications ----------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Verification:
    """One decision, without a word about the person (what MLPS level 3 has to be logged of it)."""

    verification_id: str
    decided_at: datetime
    service: str
    """Identity of the relying service that asked, which is the audience."""
    caller_certificate: str
    """SHA-256 of the certificate it asked with, base64url."""
    matter: str
    verdict: str
    """accepted, rejected or indeterminate."""
    reason: str
    """Empty when accepted."""
    issuer: str
    kid: str
    charter_version: int
    charter_sha256: str
    view_id: str
    request_id: str = ""
    """The caller's reference to its own record."""
    terminal: str = ""
    """The caller's name of the counter, terminal or operator that asked."""
    consent_id: str = ""
    person: str = ""
    """Reference of whom it was about, hashed with the id of this. Empty: it was not accepted."""
    actor: str = ""
    """Likewise, of who acted for them."""
    replay: str = ""
    """Keyed reference of the nonce or jti that was used up."""
    released: tuple[str, ...] = ()
    """Names of the claims handed on."""
    actor_released: tuple[str, ...] = ()
    duration: int = 0
    """From the call to the moment it was handed over for writing, microseconds."""
    findings: Mapping[str, Any] = field(default_factory=dict)
    """What was found out; see ``findings``."""


_TEXTS: Final = (
    "service",
    "caller_certificate",
    "matter",
    "verdict",
    "reason",
    "issuer",
    "kid",
    "charter_sha256",
    "view_id",
    "request_id",
    "terminal",
    "consent_id",
    "person",
    "actor",
    "replay",
)
_NUMBERS: Final = ("charter_version", "duration")
_PLAIN: Final = (*_TEXTS, *_NUMBERS)
_LISTS: Final = ("released", "actor_released")
_MEMBERS: Final = (*_PLAIN, *_LISTS, "findings")
_values_of: Final = attrgetter(*_MEMBERS)


def verification_entry(verification: Verification) -> Entry:
    """Write a decision down. What is empty is left out."""
    body = {name: value for name, value in zip(_MEMBERS, _values_of(verification), strict=True) if value}
    body |= {name: list(body[name]) for name in _LISTS if name in body}  # as they are read again
    return Entry(kind=Kind.VERIFICATION, at=verification.decided_at, entry_id=verification.verification_id, body=body)


def read_verification(entry: Entry) -> Verification:
    """Read a decision.

    Raises:
        Rejected: LOG_ENTRY_INVALID: the entry is none.
    """
    body = dict(entry.body)
    texts: dict[str, Any] = {name: body.pop(name, "") for name in _TEXTS}
    numbers: dict[str, Any] = {name: body.pop(name, 0) for name in _NUMBERS}
    lists: dict[str, Any] = {name: body.pop(name, []) for name in _LISTS}
    findings = body.pop("findings", {})
    if entry.kind is not Kind.VERIFICATION or body or not isinstance(findings, dict):
        raise _invalid("is no verification")
    if not all(isinstance(each, str) for each in texts.values()) or not all(map(_are_texts, lists.values())):
        raise _invalid("is no verification")
    if not all(type(each) is int for each in numbers.values()):
        raise _invalid("is no verification")
    return Verification(
        verification_id=entry.entry_id,
        decided_at=entry.at,
        findings=findings,
        **texts,
        **numbers,
        released=tuple(lists["released"]),
        actor_released=tuple(lists["actor_released"]),
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


# -- trust ------------------------------------------------------------------------------------------------------------


class TrustChange(StrEnum):
    """What was changed about who is trusted, or about who may change it."""

    CHARTER = "charter"
    KEY = "key"
    MEMBER = "member"
    REVOCATION = "revocation"
    WITHDRAWAL = "withdrawal"
    EQUIVOCATION = "equivocation"
    CLOCK = "clock"
    CONFIGURATION = "configuration"


def trust_entry(
    change: TrustChange, *, at: datetime, subject: str, event: str, administrator: str = "", detail: str = ""
) -> Entry:
    """Write down a change of trust.

    Args:
        change: what kind of change.
        at: the time.
        subject: what it is about: an entity, a kid, a charter's digest.
        event: what became of it.
        administrator: identity of who did it; empty: the gateway by itself.
        detail: in the administrator's or the gateway's words.
    """
    members = {
        "change": change.value,
        "subject": subject,
        "event": event,
        "administrator": administrator,
        "detail": detail[:MAX_DETAIL_CHARS],
    }
    return Entry(kind=Kind.TRUST, at=at, body={name: value for name, value in members.items() if value})


# -- consents, credentials, the log itself ----------------------------------------------------------------------------


def consent_entry(*, at: datetime, consent_id: str, service: str, matter: str, event: str) -> Entry:
    """Write down that a consent was recorded or withdrawn."""
    members = {"consent_id": consent_id, "service": service, "matter": matter, "event": event}
    return Entry(kind=Kind.CONSENT, at=at, body={name: value for name, value in members.items() if value})


def credential_entries(credentials: Sequence[str], status: str, *, at: datetime, system: str) -> Iterator[Entry]:
    """Write down that the status of credentials of ours was set, in as many entries as it takes.

    Args:
        credentials: their ids, which tell nothing about anybody.
        status: what became of them.
        at: the time.
        system: identity of the system that said so.
    """
    for begin in range(0, len(credentials), MAX_CREDENTIALS):
        body = {"credentials": list(credentials[begin : begin + MAX_CREDENTIALS]), "status": status, "system": system}
        yield Entry(kind=Kind.CREDENTIAL, at=at, body=body)


def log_entry(*, at: datetime, replaced: str, size: int, seen: str = "", seen_size: int = 0) -> Entry:
    """Write down that a log was begun in place of another.

    Args:
        at: the time.
        replaced: the one that was written to.
        size: entries it had here.
        seen: the log of ours that others had seen more of, or otherwise; empty: a backup was found to be one.
        seen_size: entries they had seen of it.
    """
    body: dict[str, Any] = {"replaced": replaced, "size": size}
    return Entry(kind=Kind.LOG, at=at, body=body | ({"seen": seen, "seen_size": seen_size} if seen else {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Which entries were erased because their time was over.

    They are named, one by one: nobody can erase another one as well and say that it was among them.
    """

    keep: Keep
    before: datetime
    """Those of the class that are older than this."""
    positions: tuple[range, ...]
    """In the same log, ascending."""

    @property
    def count(self) -> int:
        """How many."""
        return sum(map(len, self.positions))


def runs_of(positions: Iterable[int]) -> tuple[range, ...]:
    """Put ascending positions together to runs: as many as one entry can name."""
    runs: list[range] = []
    for position in positions:
        if runs and runs[-1].stop == position:
            runs[-1] = range(runs[-1].start, position + 1)
        elif len(runs) < MAX_RUNS:
            runs.append(range(position, position + 1))
        else:
            break
    return tuple(runs)


def retention_entry(erasure: Erasure, *, at: datetime) -> Entry:
    """Write down an erasure."""
    steps: list[int] = []  # how many stay, how many go, how many stay ...
    place = 0
    for run in erasure.positions:
        steps += [run.start - place, len(run)]
        place = run.stop
    body = {"keep": erasure.keep.value, "before": milliseconds(erasure.before), "steps": steps}
    return Entry(kind=Kind.RETENTION, at=at, body=body)


def read_erasure(entry: Entry) -> Erasure:
    """Read an erasure.

    Raises:
        Rejected: LOG_ENTRY_INVALID: the entry is none.
    """
    body = entry.body
    if entry.kind is not Kind.RETENTION or body.keys() != {"keep", "before", "steps"} or body["keep"] not in _KEEPS:
        raise _invalid("is no erasure")
    before, steps = body["before"], body["steps"]
    if type(before) is not int or not 0 <= before < _MAX_MILLISECONDS or not isinstance(steps, list):
        raise _invalid("is no erasure")
    if len(steps) % 2 or len(steps) > 2 * MAX_RUNS or not all(type(each) is int and each >= 0 for each in steps):
        raise _invalid("is no erasure")
    runs: list[range] = []
    place = 0
    for stay, go in zip(steps[::2], steps[1::2], strict=True):
        runs.append(range(place + stay, place + stay + go))
        place += stay + go
    return Erasure(keep=Keep(body["keep"]), before=instant(before), positions=tuple(runs))


def day_of(at: int) -> int:
    """Give the day of a time in milliseconds, counted from 1970 in UTC."""
    return at // 86_400_000
