"""The trust anchor: vouches for members whose configuration is signed by a key it has attested.

What may be said is decided in ``core.vouching``; this module remembers, signs and publishes. Rules that live here:

* What is published is a whole: the anchor's configuration and the one statement about each member that its snapshot
  names. It is made anew, all in one, when anything in it changed or is past half its life.
* What was attested, and what is said because of it, is on disk together before anybody sees it. After a crash the
  anchor must not know less than it has told others.
* A backup that was put back learns from its own statements, as peers relay them, what it attested since; what it
  withdrew stays withdrawn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.core import vouching
from gateway.core.charter import Charter, Member
from gateway.core.entries import SealedEntry, TrustChange, seal, trust_entry
from gateway.core.jose import PublicKey, Signer, sign_compact
from gateway.core.memory import Documents, Place, TrustMemory
from gateway.core.publication import KEY_PARAMETERS, listed_keys, next_seq
from gateway.core.reasons import InvalidRequest, NotHeld, Reason, Rejected
from gateway.core.snapshot import (
    Entry,
    Suspended,
    Vouched,
    charter_claim,
    is_within_reach,
    read_seq,
    read_snapshot,
)
from gateway.core.statements import PROFILE, UnverifiedStatement, parse_statement, verify_signature
from gateway.core.statements import TYP as STATEMENT_TYPE
from gateway.core.votes import Evidence, matches
from gateway.core.vouching import (
    SUBORDINATE_LIFETIME,
    Approval,
    MemberRecord,
    PendingChange,
    Suspension,
    anchor_snapshot,
    vouch,
)
from gateway.entity import Entity
from gateway.logs import Sparing, get_logger
from gateway.storage import AnchorStore

CONFIGURATION_LIFETIME: Final = timedelta(minutes=10)
"""An anchor's configuration lives briefly: it bounds how long a frozen view can pass for a fresh one."""
_USUAL: Final = frozenset({Reason.ROLLED_BACK, Reason.EXPIRED})
"""Why configurations are refused all day: relays lag behind."""

_log = get_logger("anchor")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStanding:
    """A member of the charter as the anchor sees it."""

    member: Member
    record: MemberRecord | None
    """None: no key of it was enrolled here."""
    statement_expires_at: datetime | None
    """Until when the last statement about it lives; None: there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """The last statement about a member."""

    token: str
    seq: int
    issued_at: datetime
    expires_at: datetime
    charter: str
    """Digest of the charter it was made under; empty: not known any more."""
    kid: str
    """The key that signed it."""


@dataclass(frozen=True, slots=True)
class _Round:
    """One look at what is offered. It becomes what we know when it is on disk, and not before."""

    evidence: Evidence
    records: dict[str, MemberRecord]
    statements: dict[str, _Statement]
    made: dict[str, _Statement] = field(default_factory=dict)
    """Those of the statements that are new."""
    judged: dict[str, str] = field(default_factory=dict)


class Anchor:
    """One province's trust anchor. Thread-safe."""

    def __init__(
        self,
        *,
        entity_id: str,
        signer: Callable[[], Signer],
        federation_keys: Callable[[], Sequence[PublicKey]],
        store: AnchorStore,
        enrolled: Mapping[str, str],
        approve: Approval = Approval.AUTO,
    ) -> None:
        """Prepare the anchor.

        Args:
            entity_id: its entity identifier.
            signer: gives the key that signs now, one that the charter lists.
            federation_keys: gives all its keys that others are to know.
            store: where it remembers what it attested.
            enrolled: first federation key (thumbprint) of each member, compared by people out of band.
            approve: who approves new keys of a member.
        """
        self.entity = Entity(
            entity_id=entity_id,
            signer=signer,
            federation_keys=federation_keys,
            metadata=lambda: {"federation_entity": {}},
            lifetime=CONFIGURATION_LIFETIME,
            extra=lambda: self._extra,
        )
        self._signer = signer
        self._store = store
        self._approve = approve
        self._lock = threading.Lock()
        self._records = {member: vouching.enrol(None, thumbprint) for member, thumbprint in enrolled.items()}
        self._records.update(store.load_members())
        self._statements: dict[str, _Statement] = {}
        self._judged: dict[str, str] = {}  # by member, the configuration last vouched for
        self._named: Mapping[str, Entry] = {}  # what the last snapshot said
        self._sparing = Sparing()
        self._configuration = ""
        self._bundle: tuple[str, ...] = ()
        self._seq = 0
        self._extra: Mapping[str, Any] = {}

    # -- publishing ----------------------------------------------------------------------------------------------------

    def recall(self, documents: Documents, now: datetime) -> None:
        """Take up what was said before the last stop. To be called once, before anything else."""
        own_id = self.entity.entity_id
        with self._lock:
            own = self._own(documents)
            head = own.pop((own_id, own_id), None)
            named = {} if head is None else read_snapshot(head)
            # A statement that the snapshot names no more was taken back; it is not to be named again.
            own = {place: each for place, each in own.items() if _names(named.get(place[1]), each)}
            self._named = named
            self._statements = {place[1]: _read(statement) for place, statement in own.items()}
            seqs = [read_seq(statement) for statement in (*own.values(), *([] if head is None else [head]))]
            self._seq = max((seq for seq in seqs if is_within_reach(seq, now)), default=0)

    def absorb(
        self, charter: Charter, configurations: Sequence[str], memory: TrustMemory, now: datetime, *, last_seq: int = 0
    ) -> Sequence[str]:
        """Judge configurations of members, and say what there is to say.

        Args:
            charter: the charter in force.
            configurations: as offered by anybody, untrusted.
            memory: what is held, our own documents among it as peers relayed them.
            now: the time.
            last_seq: the highest sequence number that any statement of ours is known to bear.

        Returns:
            The anchor's configuration and all statements it names, when it is not the one held; otherwise nothing.
        """
        held = memory.documents
        with self._lock:
            self._unwind(now)
            self._seq = max(self._seq, last_seq)
            self._learn(charter, memory, now)
            round_ = _Round(Evidence(charter, memory, now), dict(self._records), dict(self._statements))
            for token in self._candidates(charter, configurations, held, now):
                self._judge(round_, token)
            self._publish(round_)
            own_id = self.entity.entity_id
            return () if held.get((own_id, own_id)) == self._configuration else self._bundle

    def _unwind(self, now: datetime) -> None:
        """Let go of numbers beyond reach: our clock ran far ahead once, and nobody took what we said then."""
        if not is_within_reach(self._seq, now):
            self._seq = 0
        for member, statement in list(self._statements.items()):
            if not is_within_reach(statement.seq, now):
                del self._statements[member]
                self._judged.pop(member, None)

    def _candidates(self, charter: Charter, configurations: Sequence[str], held: Documents, now: datetime) -> list[str]:
        known = set(self._judged.values())
        candidates = [token for token in dict.fromkeys(configurations) if token not in known]
        for member in (member.entity_id for member in charter.members):
            token = held.get((member, member))
            if token is not None and (self._judged.get(member) != token or self._is_due(charter, member, now)):
                candidates.append(token)
        return candidates

    def _is_due(self, charter: Charter, member: str, now: datetime) -> bool:
        """Whether a statement about a member has to be made, whatever it says."""
        last = self._statements.get(member)
        if last is None or last.charter != charter.sha256:
            return True
        own = charter.anchor(self.entity.entity_id)
        if own is not None and last.kid not in own.keys:
            return True  # a charter took effect before our key did
        return not timedelta(0) <= now - last.issued_at < SUBORDINATE_LIFETIME / 2

    def _judge(self, round_: _Round, token: str) -> None:
        evidence, records = round_.evidence, round_.records
        charter, now = evidence.charter, evidence.now
        member = ""
        try:
            statement = parse_statement(token, PROFILE)
            record = _enrolled(records, statement.sub)
            member = statement.sub
            # Looked up only for a key that is new to us.
            agreed = evidence.federation_keys(member) if statement.kid not in record.federation_keys else {}
            _require_attested(statement, record.federation_keys | agreed.keys())
            seq = next_seq(self._seq, now)
            outcome = vouch(
                anchor_id=self.entity.entity_id,
                charter=charter,
                configuration=token,
                record=record,
                taken_keys=_taken_keys(charter, member, records),
                seq=seq,
                approve=self._approve,
                now=now,
                agreed_keys=frozenset(key.thumbprint for key in agreed.values()),
            )
        except Rejected as rejection:
            self._complain(member, rejection, now)
            return
        records[member] = outcome.record
        round_.judged[member] = token
        if outcome.claims is None:
            # The last statement is not the one to go back to when something may be said again: keys may have changed.
            round_.statements.pop(member, None)
            round_.made.pop(member, None)
        elif outcome.keys_changed or member in round_.made or self._is_due(charter, member, now):
            signer = self._signer()
            round_.statements[member] = round_.made[member] = _Statement(
                token=sign_compact(STATEMENT_TYPE, outcome.claims, signer),
                seq=seq,
                issued_at=now,
                expires_at=now + SUBORDINATE_LIFETIME,
                charter=charter.sha256,
                kid=signer.public.kid,
            )

    def _complain(self, member: str, rejection: Rejected, now: datetime) -> None:
        # By member and not by text: whoever offers one after the other does not fill the disk with it.
        if rejection.reason not in _USUAL and self._sparing.is_worth("", (member, rejection.reason), now):
            _log.warning("vouching_refused", member=member, reason=rejection.reason, detail=rejection.detail)

    def _publish(self, round_: _Round) -> None:
        own_id = self.entity.entity_id
        charter, now = round_.evidence.charter, round_.evidence.now
        records, statements, made = round_.records, round_.statements, round_.made
        named = {
            member.entity_id: records[member.entity_id] for member in charter.members if member.entity_id in records
        }
        tokens = {member: statements[member].token for member in named if member in statements}
        # One that drops a member would be refused by all, and our word on everybody else with it.
        before = {member: entry for member, entry in self._named.items() if charter.member(member) is not None}
        snapshot = anchor_snapshot(named, tokens, now, before)
        self._extra = {"snapshot": snapshot, "charter": charter_claim(charter)}
        configuration = self.entity.configuration((), now, self._seq)
        changed = {member: record for member, record in records.items() if record != self._records.get(member)}
        if configuration == self._configuration and not changed:
            self._judged.update(round_.judged)
            return
        documents: dict[Place, str] = {(own_id, member): statement.token for member, statement in made.items()}
        log = [
            entry for member, record in changed.items() for entry in _key_entries(member, self._records, record, now)
        ]
        self._store.save_anchor(changed, {**documents, (own_id, own_id): configuration}, log)
        # Only now: what was judged and could not be said is judged again.
        self._judged.update(round_.judged)
        self._records, self._statements, self._configuration = records, statements, configuration
        head = parse_statement(configuration, PROFILE)
        self._named = read_snapshot(head)
        self._seq = max(self._seq, read_seq(head))
        vouched = [tokens[member] for member, entry in snapshot["members"].items() if "sha256" in entry]
        self._bundle = (configuration, *vouched)

    # -- what a backup forgot ------------------------------------------------------------------------------------------

    def _learn(self, charter: Charter, memory: TrustMemory, now: datetime) -> None:
        """Take in what we said and do not remember."""
        own_id = self.entity.entity_id
        before = dict(self._records)
        self._learn_withdrawals(charter, memory)
        token = memory.documents.get((own_id, own_id))
        if token is not None and token != self._configuration:
            head = parse_statement(token, PROFILE)
            if self._seq < read_seq(head) and is_within_reach(read_seq(head), now):
                self._catch_up(charter, memory.documents, head)
        if self._records != before:
            _log.warning("state_restored", entity=own_id, seq=self._seq)
            self._judged.clear()
            self._store.save_anchor(self._records, {})

    def _learn_withdrawals(self, charter: Charter, memory: TrustMemory) -> None:
        """Take in what we withdrew by a key that still counts, and let go what we know from one that counts no more."""
        own = charter.anchor(self.entity.entity_id)
        counting = {key.thumbprint for key in own.keys.values()} if own is not None else set[str]()
        for member, record in list(self._records.items()):
            if record.withdrawal_signer and record.withdrawal_signer not in counting:
                self._records[member] = replace(record, withdrawal=None, withdrawal_signer="")
        for (anchor, signer, member), withdrawal in memory.withdrawals.items():
            if anchor != self.entity.entity_id or signer not in counting or charter.member(member) is None:
                continue
            known = self._records.get(member, MemberRecord(federation_keys=frozenset()))
            if not known.withdrawal:
                self._records[member] = replace(known, withdrawal=withdrawal, withdrawal_signer=signer)

    def _catch_up(self, charter: Charter, documents: Documents, head: UnverifiedStatement) -> None:
        own_id = self.entity.entity_id
        for (_, member), statement in self._own(documents).items():
            last = self._statements.get(member)
            if member != own_id and charter.member(member) and (last is None or last.seq < read_seq(statement)):
                self._statements[member] = _read(statement)
                self._records[member] = _caught_up(self._records.get(member), statement)
        snapshot = read_snapshot(head)
        self._named = {**self._named, **snapshot}
        for member, entry in snapshot.items():
            record = self._records.get(member)
            if isinstance(entry, Suspended) and record is not None and record.suspension is None:
                suspension = Suspension(suspended_at=entry.suspended_at, until=entry.until, reason=entry.reason)
                self._records[member] = replace(record, suspension=suspension)
        self._seq = read_seq(head)

    def _own(self, documents: Documents) -> dict[Place, UnverifiedStatement]:
        own_id = self.entity.entity_id
        return {place: parse_statement(token, PROFILE) for place, token in documents.items() if place[0] == own_id}

    # -- what operators decide -----------------------------------------------------------------------------------------

    def members(self, charter: Charter) -> Sequence[MemberStanding]:
        """Give all members of the charter, in its order."""
        with self._lock:
            return [self._standing(member) for member in charter.members]

    def pending(self) -> Sequence[tuple[str, PendingChange]]:
        """Give the changes that wait for approval, with the member of each, oldest first."""
        with self._lock:
            changes = [(member, record.pending) for member, record in self._records.items() if record.pending]
        return sorted(changes, key=lambda change: (change[1].seen_at, change[0]))

    def approve(
        self, charter: Charter, change_id: str, *, now: datetime, administrator: str, validate_only: bool = False
    ) -> MemberStanding:
        """Attest the keys of a change from the next statement on.

        Every act of an operator is on disk when it returns; ``Resolver.publish_own`` has to follow. With
        ``validate_only`` nothing is done but to check.

        Raises:
            NotHeld: no such change waits.
        """
        with self._lock:
            member = self._member_of(change_id)
            record = vouching.approve_change(self._records[member], change_id)
            return self._decide(
                charter,
                member,
                record,
                deed=_Deed("change approved", administrator, now, detail=change_id),
                validate_only=validate_only,
            )

    def reject(
        self, charter: Charter, change_id: str, *, now: datetime, administrator: str, validate_only: bool = False
    ) -> MemberStanding:
        """Leave the keys of a change out for good; see ``approve``."""
        with self._lock:
            member = self._member_of(change_id)
            record = vouching.reject_change(self._records[member], change_id)
            return self._decide(
                charter,
                member,
                record,
                deed=_Deed("change rejected", administrator, now, detail=change_id),
                validate_only=validate_only,
            )

    def enrol(
        self,
        charter: Charter,
        member: str,
        thumbprint: str,
        *,
        now: datetime,
        replace_keys: bool = False,
        administrator: str,
        validate_only: bool = False,
    ) -> MemberStanding:
        """Take a member's federation key that people compared; see ``approve``.

        Where it replaces others, nothing is said for the member any more, at once, until it speaks by this key.

        Raises:
            InvalidRequest: the charter does not name the member, or the key cannot be its.
            WrongState: it is enrolled already and ``replace_keys`` is not set.
        """
        with self._lock:
            if charter.member(member) is None:
                raise InvalidRequest("entity_id", "is not a member that the charter names")
            replaced_at = now if replace_keys else None
            record = vouching.enrol(self._records.get(member), thumbprint, replaced_at=replaced_at)
            return self._decide(
                charter,
                member,
                record,
                deed=_Deed(
                    "enrolled",
                    administrator,
                    now,
                    detail=f"{thumbprint}{' in place of all others' if replace_keys else ''}",
                ),
                validate_only=validate_only,
            )

    def suspend(
        self,
        charter: Charter,
        member: str,
        *,
        until: datetime,
        reason: str,
        now: datetime,
        administrator: str,
        validate_only: bool = False,
    ) -> MemberStanding:
        """Say nothing for a member until a time; see ``approve``.

        Raises:
            NotHeld: no key of the member was enrolled here.
            InvalidRequest, WrongState: see ``core.vouching.suspend``.
        """
        with self._lock:
            record = vouching.suspend(self._enrolled(member), until=until, reason=reason, now=now)
            return self._decide(
                charter,
                member,
                record,
                deed=_Deed("suspended", administrator, now, detail=reason),
                validate_only=validate_only,
            )

    def resume(
        self, charter: Charter, member: str, *, now: datetime, administrator: str, validate_only: bool = False
    ) -> MemberStanding:
        """End a suspension; see ``approve`` and ``core.vouching.resume``."""
        with self._lock:
            record = vouching.resume(self._enrolled(member), now=now)
            return self._decide(
                charter, member, record, deed=_Deed("resumed", administrator, now), validate_only=validate_only
            )

    def revoke(
        self,
        charter: Charter,
        member: str,
        *,
        reason: str,
        now: datetime,
        administrator: str,
        validate_only: bool = False,
    ) -> MemberStanding:
        """Never say anything for a member again; see ``approve`` and ``core.vouching.revoke``."""
        with self._lock:
            record = vouching.revoke(self._enrolled(member), reason=reason, now=now)
            return self._decide(
                charter,
                member,
                record,
                deed=_Deed("revoked", administrator, now, detail=reason),
                validate_only=validate_only,
            )

    def _decide(
        self, charter: Charter, entity_id: str, record: MemberRecord, *, deed: _Deed, validate_only: bool
    ) -> MemberStanding:
        member = charter.member(entity_id)
        if member is None:
            raise NotHeld("the charter does not name the member any more")
        if not validate_only:
            self._store.save_anchor({entity_id: record}, {}, [_member_entry(entity_id, deed)])
            self._records[entity_id] = record
            self._judged.pop(entity_id, None)
        return replace(self._standing(member), record=record)

    def _standing(self, member: Member) -> MemberStanding:
        statement = self._statements.get(member.entity_id)
        return MemberStanding(
            member=member,
            record=self._records.get(member.entity_id),
            statement_expires_at=None if statement is None else statement.expires_at,
        )

    def _enrolled(self, member: str) -> MemberRecord:
        record = self._records.get(member)
        if record is None:
            raise NotHeld("no key of the member was enrolled at this anchor")
        return record

    def _member_of(self, change_id: str) -> str:
        for member, record in self._records.items():
            if record.pending is not None and record.pending.change_id == change_id:
                return member
        raise NotHeld("no such change waits")


@dataclass(frozen=True, slots=True)
class _Deed:
    """What an operator did, for the log."""

    event: str
    administrator: str
    at: datetime
    detail: str = ""


def _member_entry(entity_id: str, deed: _Deed) -> SealedEntry:
    return seal(
        trust_entry(
            TrustChange.MEMBER,
            at=deed.at,
            subject=entity_id,
            event=deed.event,
            administrator=deed.administrator,
            detail=deed.detail,
        )
    )


def _key_entries(
    member: str, before: Mapping[str, MemberRecord], record: MemberRecord, now: datetime
) -> Iterator[SealedEntry]:
    """Write down which keys of a member this anchor attests from now on, and which no more."""
    known = before.get(member)
    held = frozenset[str]() if known is None else known.federation_keys | known.credential_keys
    attested = record.federation_keys | record.credential_keys
    for event, keys in (("keys attested", attested - held), ("keys no longer attested", held - attested)):
        if keys:
            yield _member_entry(member, _Deed(event, "", now, " ".join(sorted(keys))))


def _names(entry: Entry | None, statement: UnverifiedStatement) -> bool:
    return isinstance(entry, Vouched) and matches(entry, statement)


def _enrolled(records: Mapping[str, MemberRecord], member: str) -> MemberRecord:
    record = records.get(member)
    if record is None:
        raise Rejected(Reason.ISSUER_UNKNOWN, "no key of the member was enrolled at this anchor")
    return record


def _require_attested(statement: UnverifiedStatement, known: Collection[str]) -> None:
    # Before anything costly: strangers may offer any number. A kid is the key's thumbprint.
    key = statement.jwks.get(statement.kid)
    if key is None or key.thumbprint not in known:
        raise Rejected(Reason.KEY_UNKNOWN, "configuration is signed by a key this anchor has not attested")
    verify_signature(statement, key)


def _taken_keys(charter: Charter, member: str, records: Mapping[str, MemberRecord]) -> frozenset[str]:
    taken = {key.thumbprint for anchor in charter.anchors for key in anchor.keys.values()}
    for other, record in records.items():
        if other != member and charter.member(other) is not None:
            taken |= record.credential_keys  # proven; anybody can list anybody's federation key
    return frozenset(taken)


def _read(statement: UnverifiedStatement) -> _Statement:
    return _Statement(
        token=statement.token,
        seq=read_seq(statement),
        issued_at=statement.issued_at,
        expires_at=statement.expires_at,
        charter="",
        kid=statement.kid,
    )


def _caught_up(record: MemberRecord | None, statement: UnverifiedStatement) -> MemberRecord:
    """What is remembered of a member, brought up to a later statement of ours about it."""
    pinned = [listed_keys(statement.metadata, purpose) for purpose in KEY_PARAMETERS]
    federation = frozenset(key.thumbprint for key in statement.jwks.values())
    credential = frozenset(key.thumbprint for keys in pinned for key in keys.values())
    if record is None:
        return MemberRecord(federation_keys=federation, credential_keys=credential)
    gone = (record.federation_keys | record.credential_keys) - federation - credential
    return replace(
        record,
        federation_keys=federation,
        credential_keys=credential,
        replaced_at=None,
        spent_keys=(record.spent_keys | gone) - federation - credential,
    )
