"""Durable state behind narrow protocols.

Each protocol is what one caller needs, no more. An implementation is native to its database and shares no code with
another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Protocol

from gateway.core.consent import Consent
from gateway.core.entries import EntryIndex, Erasure, Keep, SealedEntry
from gateway.core.key_schedule import KeyRecord
from gateway.core.memory import Documents, TrustMemory
from gateway.core.vouching import MemberRecord


class StorageError(Exception):
    """The store could not do what was asked. Nothing was done."""


class Outcome(Enum):
    """What became of a decision when it was written."""

    WRITTEN = "written"
    REPLAYED = "replayed"
    """Its replay key had been used before, in the same group or earlier."""
    REPEATED = "repeated"
    """Its replay key had been used by the same decision: nothing was written, and what was written then stands."""
    CONSENT_WITHDRAWN = "consent withdrawn"
    """The consent that it rests on was withdrawn meanwhile, or is gone."""
    CONSENT_OF_ANOTHER = "consent of another"
    """The consent that it rests on was used for another person before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentUse:
    """A consent that a decision rests on, and for whom."""

    consent_id: str
    subject: str
    """A keyed reference."""
    previous_subject: str
    """By the key before, while the issuer replaces its key; else empty."""


@dataclass(slots=True, kw_only=True)
class LedgerEntry:
    """One decision to make durable."""

    entry: SealedEntry
    """Written as long as nothing speaks against it at that moment."""
    otherwise: Callable[[Outcome], SealedEntry] | None = None
    """Gives what to write instead, by what speaks against it. Needed where a replay key or a consent is."""
    replay_key: str | None = None
    replay_until: datetime | None = None
    """Until when the key must be remembered."""
    request: str = ""
    """Keyed reference of the question and its answer, by which it may be asked again; empty: it may not."""
    consent: ConsentUse | None = None


@dataclass(slots=True, kw_only=True)
class Committed:
    """A decision that is durable."""

    outcome: Outcome
    log_id: str
    position: int
    """In that log."""
    first: bytes | None = None
    """Of a decision that was repeated, the entry at that position; None: the one that it was given stands there."""


class LedgerStore(Protocol):
    """Where decisions become durable."""

    def commit(self, group: Sequence[LedgerEntry]) -> Sequence[Committed]:
        """Write a group in one durable transaction: all or nothing. Replay keys and consents are used up by it.

        Where a replay key was used up by the same ``request``, in the log that is written to, and ``core.repeats``
        finds that both are one decision, which its consent still carries, nothing is written of it.

        Entries stand in the log in the order in which transactions are committed, whichever process they are from, and
        without a gap.

        Returns:
            For each entry in order: what became of it, and so which of its entries was written; and where it stands.

        Raises:
            StorageError: nothing of the group was written, or it cannot be known whether it was.
        """

    def forget_replays(self, before: datetime) -> int:
        """Drop replay keys that no presentation could use any more."""

    def check_writable(self) -> None:
        """Write something that changes nothing, durably.

        Raises:
            StorageError: a group could not be written either.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log of this store. There is one after another only where a backup was put back."""

    log_id: str
    first: int
    """Number of its first entry, where all entries of the store are counted through."""
    size: int
    """Entries that are durable."""
    tree_size: int
    """Entries whose hashes are in the tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """An entry as it is in the store."""

    log_id: str
    position: int
    raw: bytes
    index: EntryIndex
    """The columns as they are: whoever edits the store by hand may have made them contradict ``raw``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryQuery:
    """Which entries are wanted. What is empty or None does not matter."""

    kinds: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    """Before this."""
    about: str = ""
    verification_id: str = ""
    """The entry of that id, and those about it."""
    service: str = ""
    matter: str = ""
    verdict: str = ""
    reason: str = ""
    issuer: str = ""
    kid: str = ""
    persons: tuple[str, ...] = ()
    """Keyed references: entries about, or with which acted, any of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCheckpoint:
    """A signed head of a log, and who else has seen it."""

    log_id: str
    size: int
    issued_at: datetime
    token: str
    cosignatures: Mapping[str, str]
    """By witness."""


class LogStore(Protocol):
    """The log: its entries, its tree, its checkpoints. Entries are added, and erased when their time is over.

    Positions count from 0 in each log. Where no log is named, the one that is written to is meant.
    """

    def logs(self) -> Sequence[Log]:
        """Load all logs, oldest first; the last is the one that is written to."""

    def append(self, entries: Sequence[SealedEntry]) -> None:
        """Write entries, in one durable transaction. For what changes nothing else."""

    def read_entries(self, log_id: str, begin: int, end: int) -> Sequence[StoredEntry]:
        """Load the entries from a position to before another, in order; those erased are not among them."""

    def find_entry(self, entry_id: str) -> StoredEntry | None:
        """Find an entry by its id; None: there is none."""

    def list_entries(
        self, query: EntryQuery, limit: int, after: tuple[str, int] | None = None, *, newest_first: bool = False
    ) -> Sequence[StoredEntry]:
        """Find entries, at most so many, after (log, position) in the order asked for."""

    def tile(self, log_id: str, level: int, number: int) -> bytes:
        """Load a tile of the tree (see ``core.merkle``); empty: there is none."""

    def save_tree(self, log_id: str, tree_size: int, tiles: Mapping[tuple[int, int], bytes]) -> None:
        """Write tiles, and that the tree has so many leaves now, in one durable transaction."""

    def save_checkpoint(self, checkpoint: HeldCheckpoint) -> None:
        """Write a checkpoint, in place of one of the same size. Old ones that nobody needs any more may go."""

    def latest_checkpoint(self, log_id: str) -> HeldCheckpoint | None:
        """Load the newest checkpoint of a log."""

    def checkpoints_from(self, log_id: str, size: int, limit: int) -> Sequence[HeldCheckpoint]:
        """Load checkpoints of at least so many entries, the smallest first."""

    def checkpoints_before(self, log_id: str, size: int, limit: int) -> Sequence[HeldCheckpoint]:
        """Load checkpoints of fewer entries, the largest first."""

    def save_cosignature(self, log_id: str, size: int, witness: str, token: str) -> bool:
        """Write a cosignature to a checkpoint, in place of the witness's before.

        False: there is no such checkpoint, and nothing was written.
        """

    def begin_log(self, at: datetime, seen: str, seen_size: int) -> None:
        """Begin a log in place of the one that is written to: others have seen of ours what is not here.

        Args:
            at: the time.
            seen: the log of which they have.
            seen_size: how many entries they have seen of it.
        """

    def erase(self, keep: Keep, before: datetime, at: datetime) -> Erasure | None:
        """Erase the entries of a class that are older, in the log that is written to, and write down that it was done.

        In one durable transaction, as many as can be done at once; the hashes stay, so that every proof holds. None:
        there was nothing to erase.
        """


class DisputeStore(Protocol):
    """Where the evidence of disputes is put by."""

    def save_dispute(self, dispute_id: str, evidence: bytes, entry: SealedEntry) -> None:
        """Write the evidence and the entry that opens the dispute, in one durable transaction."""

    def load_evidence(self, dispute_id: str) -> bytes | None:
        """Load it; None: there is none."""


class WitnessStore(Protocol):
    """What this gateway has seen of the logs of others. It is never forgotten."""

    def load_seen(self, gateway: str) -> Sequence[HeldCheckpoint]:
        """Load the newest checkpoint seen of each log of a gateway, oldest log first."""

    def save_seen(self, gateway: str, checkpoint: HeldCheckpoint) -> None:
        """Write what was seen, in place of what was before of that log."""

    def save_fork(self, fork: Fork) -> None:
        """Write the proof that a gateway contradicts itself. The same one is written once."""

    def load_forks(self) -> Sequence[Fork]:
        """Load all proofs, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Two signed heads that one log cannot have had both, or a log that took the place of another."""

    gateway: str
    kind: str
    """forked, rolled_back, replaced or resumed."""
    found_at: datetime
    seen: str
    """The checkpoint that was seen before."""
    shown: str


class ConsentStore(Protocol):
    """Where consents are on record."""

    def save_consent(self, consent: Consent, log: Sequence[SealedEntry] = ()) -> None:
        """Write a new consent, and entries of the log with it."""

    def load_consent(self, consent_id: str) -> Consent | None:
        """Load one; None: there is none."""

    def withdraw_consent(
        self, consent_id: str, service: str, at: datetime, log: Sequence[SealedEntry] = ()
    ) -> datetime | None:
        """Note that a service's consent was withdrawn, and write entries of the log with it, unless it was before.

        Returns:
            Since when it is, which may be before now; None: the service has no such consent.
        """


class TrustStore(Protocol):
    """What a gateway must still know after a restart.

    Every change of trust is in the log: its entries are written in the same transaction.
    """

    def load_memory(self) -> TrustMemory:
        """Load all that is remembered of the federation."""

    def save_memory(self, change: TrustMemory, log: Sequence[SealedEntry] = ()) -> None:
        """Add a change, in one durable transaction; see ``core.memory.merge`` for what adding means."""

    def reset_clock_floor(self, log: Sequence[SealedEntry] = ()) -> None:
        """Forget the clock floor: people have established that the clock had run ahead."""

    def load_charters(self) -> Mapping[int, str]:
        """Load the charters held, by version, oldest first."""

    def load_charter(self, version: int) -> str | None:
        """Load one charter; None: it is not held."""

    def save_charter(self, version: int, document: str, log: Sequence[SealedEntry] = ()) -> None:
        """Write a charter; a version once written stays as it is, and nothing more is logged of it."""

    def save_view(self, taken_at: datetime, summary: str) -> None:
        """Remember what the trust view was from a time on, for looking back. The same as the last is not repeated."""

    def load_view(self, at: datetime) -> tuple[datetime, str] | None:
        """Give the summary in force at a time and since when; None: nothing is known of that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStatusList:
    """What is remembered of the newest status list of a name, without the list."""

    uri: str
    issuer: str
    seq: int
    issued_at: datetime


class StatusStore(Protocol):
    """Where status lists are kept, the newest of each name. None is ever forgotten: it is the floor under the next."""

    def load_status_lists(self) -> Sequence[HeldStatusList]:
        """Load what is remembered of every list."""

    def load_status_list(self, uri: str) -> str | None:
        """Load one list as it was signed; None: it is not held."""

    def save_status_list(self, held: HeldStatusList, token: str) -> None:
        """Write a list in place of the one before of its name, durably."""


class LogBook(LedgerStore, LogStore, DisputeStore, WitnessStore, Protocol):
    """All that is stored of logs."""


class Lineage(Protocol):
    """Tells a store that was never lost from a backup that was put in its place."""

    @property
    def is_restored(self) -> bool:
        """Whether it lacks something that it had known, and nobody has made that good since."""

    def settle_restored(self, at: datetime) -> None:
        """Note, durably, that what it lacked was learned again from others.

        What no other can know does not survive: consents on record, some of which may have been withdrawn since. Nor
        does the log: others have seen entries that it lacks, so that nothing can be added to it. Another one is begun.
        """


class Topic(StrEnum):
    """What one process writes and others take over."""

    TRUST = "trust"
    """Charters, documents, revocations, and what else is remembered of the federation."""
    LISTS = "lists"
    """Status lists, whoever published them."""
    KEYS = "keys"
    """The lives of this province's own keys."""


class Tidings(Protocol):
    """Tells a process what was written, whichever process wrote it. For one thread.

    The database tells it, with the transaction that writes: nobody who writes has to think of it.
    """

    def wait(self, seconds: float) -> frozenset[Topic]:
        """Wait until something was written, at most so long.

        Returns:
            What was written since it was told last: everything, the first time and after it could not be told. Empty:
            nothing was, as far as is known.

        Raises:
            StorageError: it cannot be told now.
        """

    def close(self) -> None:
        """Close the connection."""


class Lead(Protocol):
    """Tells one process from those that share its database: only it publishes, signs and changes keys.

    Once lost, it is not found again: another one is asked for.
    """

    def close(self) -> None:
        """Let another lead."""

    def try_lead(self) -> bool:
        """Lead if no other process does; who leads finds out whether it still does. To be called every second or so.

        Raises:
            StorageError: the database cannot be reached, and this process does not lead.
        """

    @property
    def leads(self) -> bool:
        """Whether this process leads, and no other can. False as soon as that is not certain."""


class AnchorStore(Protocol):
    """What an anchor remembers of the members it vouches for."""

    def load_members(self) -> Mapping[str, MemberRecord]:
        """Load what is remembered of each member."""

    def save_anchor(
        self, members: Mapping[str, MemberRecord], documents: Documents, log: Sequence[SealedEntry] = ()
    ) -> None:
        """Write what is remembered of some members and the statements that go with it, together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One administrator's wish to activate a key early, waiting for another's."""

    kid: str
    administrator: str
    justification: str
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEvent:
    """One change to the keys, for the history."""

    at: datetime
    kid: str
    purpose: str
    event: str
    """The state reached, or what was done."""
    administrator: str
    """Who did it; empty: the scheduler."""
    detail: str = ""


class KeyStateStore(Protocol):
    """Where the lives of this province's keys are written down."""

    def load_keys(self) -> Sequence[KeyRecord]:
        """Load all keys that ever were, oldest first."""

    def save_keys(self, keys: Sequence[KeyRecord], events: Sequence[KeyEvent], request_id: str = "") -> None:
        """Write keys, what happened to them, and that a request was carried out, in one durable transaction.

        What happened is written to the log as well.
        """

    def raise_signed_until(self, kid: str, until: datetime) -> None:
        """Note that a key signs something valid until then. Never lowers what is noted."""

    def is_done(self, request_id: str) -> bool:
        """Whether a request was carried out."""

    def load_key_events(self, kid: str | None = None) -> Sequence[KeyEvent]:
        """Load the history of one key, or of all, oldest first."""

    def load_override(self, kid: str) -> Override | None:
        """Load the wish that waits for approval."""

    def save_override(self, override: Override) -> None:
        """Write a wish, in place of one there was for the key."""

    def accepted_count(self, issuer: str, kid: str, since: datetime | None) -> int:
        """Count the presentations signed with a key that were accepted here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnList:
    """A status list of ours."""

    uri: str
    size: int
    opened_at: datetime
    closed: bool
    """Whether no more credentials are given places in it."""
    used: int = 0
    """Places that are taken, decoys included."""
    last_expiry: datetime | None = None
    """When the last of what has a place in it expires; None: nothing that expires has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnStatus:
    """A place in a status list of ours, and what became of the credential that has it."""

    uri: str
    place: int
    credential_id: str | None
    """None: no credential has the place, and none ever will."""
    subject: str = ""
    """Keyed reference of whom the credential is about."""
    actor: str = ""
    """Keyed reference of who acts with it; empty: the subject."""
    expires_at: datetime | None = None
    """None: of a place without a credential that need not be remembered for any time."""
    status: int = 0
    changed_at: datetime | None = None


class RegisterStore(Protocol):
    """Where it is written down which credential has which place in our status lists, and what became of it.

    A place once taken is never free again.
    """

    def load_lists(self) -> Sequence[OwnList]:
        """Load all lists, oldest first."""

    def load_set(self, uri: str) -> Sequence[tuple[int, int]]:
        """Load the places of a list whose status is not 0, each with its status."""

    def add_lists(self, lists: Sequence[OwnList]) -> None:
        """Write new lists; those that there are stay as they are."""

    def close_list(self, uri: str) -> None:
        """Give no more places of a list away."""

    def take_place(self, status: OwnStatus) -> bool:
        """Take a place, durably. False: somebody has it, and nothing was written."""

    def find_credential(self, credential_id: str) -> OwnStatus | None:
        """Find a credential by its name."""

    def find_person(self, reference: str, after: datetime, limit: int | None = None) -> Sequence[OwnStatus]:
        """Find the credentials about somebody, or with which they act, that expire after a time; the last first."""

    def is_taken(self, uri: str, place: int) -> bool:
        """Whether a place is anybody's, or a decoy's."""

    def find_decoys(self, uri: str, status: int, limit: int) -> Sequence[OwnStatus]:
        """Find places of a list that have a status other than 0, and no credential."""

    def write(self, statuses: Sequence[OwnStatus], log: Sequence[SealedEntry] = ()) -> None:
        """Write what became of places, whether anybody had them or not, in one durable transaction."""
