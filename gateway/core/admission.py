"""Admission: what of an offer may change what is remembered. The rules of TUF, sections 5.3 to 5.6, per anchor.

Whoever offers is not trusted: documents stand on their signatures, wherever they come from, and a relay may delay but
neither alter nor withdraw. Rules that live here:

* **An anchor's configuration** counts by a key that the charter lists for it. A lower number than the one held is
  refused; the same number with other content proves that the anchor speaks with two tongues, and its key is void for
  ever; a number that jumps too far is left aside. Its snapshot may drop no member, take no number back, and bring no
  withdrawn member back.
* **It is adopted only together with all the statements it names.** Otherwise whoever strips one of them from what he
  relays would switch that member off. Only what takes away acts at once: withdrawals.
* **A key that the charter no longer lists leaves nothing behind**: no floor, because whoever stole it may have used up
  the numbers, and no withdrawal, because he may have made it. The anchor goes on with its new key, and says anew whom
  it withdrew. A number may run ahead of the clock, but not so far that this cannot be healed.
* **Statements may be past their expiry** when they enter: a member that is away must not keep the anchor's word on all
  others from being heard. They prove nothing then (``votes``), and their numbers still bind.
* **A member's configuration** is only self-signed; anybody can write one. Whichever more chains support wins, up to a
  quorum, and expiry does not end that support: the member's own, however old, is never displaced by a stranger's.
  Between two of the same standing the higher number wins.
* **Revocations** count by a federation key that a quorum of anchors attests. They are added and never taken back; only
  from superseded to compromised, or to an earlier time, may one change. Those of keys that an anchor attests always
  find room; names that nobody knows have a bound, or a thief would fill the memory with them first.
* **The clock floor** follows the latest time that a quorum of anchors attested. Below it nothing is taken in: every old
  document would look valid.

One ``now`` holds for the whole admission, and nothing is fetched. An offer that brings nothing new is found out by
comparing texts, before anything is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from gateway.core.charter import MAX_MEMBERS, Charter, CharterAnchor, Member
from gateway.core.events import UnverifiedEvents, read_events, verify_events
from gateway.core.jose import PublicKey
from gateway.core.memory import (
    Equivocation,
    Place,
    Revocation,
    RevocationReason,
    TrustMemory,
    Withdrawal,
    joined,
    merge,
)
from gateway.core.publication import KEY_PARAMETERS, listed_keys
from gateway.core.reasons import Reason, Rejected
from gateway.core.snapshot import (
    MAX_CONFIGURATION_CHARS,
    MAX_STATEMENT_CHARS,
    Entry,
    Vouched,
    Withdrawn,
    check_jump,
    is_within_reach,
    payload_digest,
    read_seq,
    read_snapshot,
)
from gateway.core.statements import (
    PROFILE,
    UnverifiedStatement,
    check_times,
)
from gateway.core.trust import Alarm, Problem, is_regressed
from gateway.core.votes import Evidence, Reader, matches, verify_by_charter

MAX_OFFERED: Final = 2_000
"""Statements one offer may bring: 400 members of 4 anchors, their configurations, and the anchors'."""
MAX_EVENT_STATEMENTS: Final = MAX_MEMBERS
MAX_PER_PLACE: Final = 8
"""Statements of one place in one offer. An honest relay has one; whoever sends more crowds out only his own."""
MAX_REVOCATIONS: Final = 1_024
"""Revocations remembered of one member, more than one statement lists: a thief's may have to stay beside its own. Those
of keys that an anchor attests come on top; anchors bound how many keys a member may use up."""
_EVER: Final = timedelta(days=3_650)
"""Grace by which the standing of members' configurations is compared: expiry must not make them forgeable."""
_ALARMING: Final = frozenset({Reason.EQUIVOCATION, Reason.SEQUENCE_INVALID, Reason.SNAPSHOT_MISMATCH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Signed documents as somebody relayed them, in no order."""

    statements: Sequence[str] = ()
    events: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What came of an offer."""

    change: TrustMemory
    """What is new, to be made durable before it is used."""
    memory: TrustMemory
    """What is remembered from now on."""
    refused: tuple[Problem, ...]
    alarms: tuple[Alarm, ...]


def admit(
    charter: Charter, memory: TrustMemory, offered: Offer, now: datetime, reader: Reader | None = None
) -> Admission:
    """Take what is good from an offer; what is held stays where the offer is not better."""
    if is_regressed(memory.clock_floor, now):
        detail = "the clock shows less than a quorum of anchors has attested; nothing is taken in"
        problem = Problem(issuer="", subject="", reason=Reason.CLOCK_REGRESSED, detail=detail)
        alarm = Alarm(issuer="", subject="", reason=Reason.CLOCK_REGRESSED, detail=detail)
        return Admission(change=TrustMemory(), memory=memory, refused=(problem,), alarms=(alarm,))
    desk = _Desk(charter, memory, now, Reader() if reader is None else reader)
    desk.sort(offered.statements)
    # A member's chains need its anchors' word first, and its revocations the keys that come of both.
    for anchor in charter.anchors:
        desk.take_anchor(anchor)
    for member in charter.members:
        desk.take_configurations(member)
    desk.take_events(offered.events)
    desk.raise_floor()
    return Admission(change=desk.change, memory=desk.memory, refused=tuple(desk.refused), alarms=tuple(desk.alarms))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """A statement, offered or held: an anchor's verified by the charter, a member's by itself."""

    statement: UnverifiedStatement
    signer: PublicKey
    seq: int
    digest: str


class _Desk:
    """One admission, step by step."""

    def __init__(self, charter: Charter, memory: TrustMemory, now: datetime, reader: Reader) -> None:
        self.memory = memory
        self.change = TrustMemory()
        self.refused: list[Problem] = []
        self.alarms: list[Alarm] = []
        self._charter = charter
        self._now = now
        self._offered: dict[Place, list[_Signed]] = {}
        self._floors: dict[str, _Signed | None] = {}  # by token
        self._reader = reader
        self._standings: dict[str, int] = {}  # by token; nothing they rest on changes while members' are taken
        self._support: Evidence | None = None

    # -- sorting -------------------------------------------------------------------------------------------------------

    def sort(self, tokens: Sequence[str]) -> None:
        """Read what is new, and put it under the place that it names itself."""
        held = frozenset(self.memory.documents.values())
        if len(tokens) > MAX_OFFERED:
            self._refuse("", "", Rejected(Reason.TOO_LARGE, f"more than {MAX_OFFERED} statements in one offer"))
        for token in dict.fromkeys(tokens[:MAX_OFFERED]):
            if token in held:
                continue
            place = ("", "")
            try:
                statement = self._reader.read(token)
                place = (statement.iss, statement.sub)
                self._require_room(place)
                self._require_short(statement)
                signed = self._authentic(statement)
            except Rejected as rejection:
                self._refuse(*place, rejection)
                continue
            self._offered.setdefault(place, []).append(signed)

    def _require_room(self, place: Place) -> None:
        if len(self._offered.get(place, ())) >= MAX_PER_PLACE:
            raise Rejected(Reason.TOO_LARGE, f"more than {MAX_PER_PLACE} statements of one place in one offer")

    def _require_short(self, statement: UnverifiedStatement) -> None:
        # An anchor's own configuration is as long as the charter has members.
        if self._charter.anchor(statement.iss) is not None and statement.is_configuration:
            return
        most = MAX_CONFIGURATION_CHARS if statement.is_configuration else MAX_STATEMENT_CHARS
        if len(statement.token) > most:
            raise Rejected(Reason.TOO_LARGE, f"longer than {most} characters")

    def _authentic(self, statement: UnverifiedStatement) -> _Signed:
        anchor, member = self._charter.anchor(statement.iss), self._charter.member(statement.sub)
        if member is None and not (anchor is not None and statement.is_configuration):
            raise Rejected(Reason.ISSUER_UNKNOWN, "about nobody in the charter")
        if anchor is None and not statement.is_configuration:
            raise Rejected(Reason.ISSUER_UNKNOWN, "neither an anchor's statement nor a member's configuration")
        seq = read_seq(statement)
        if anchor is not None:
            signer = verify_by_charter(anchor, statement, self._reader.verify).signer
        else:
            key = statement.jwks.get(statement.kid)
            if key is None:
                raise Rejected(Reason.KEY_UNKNOWN, "signed by a key that is not the issuer's")
            signer = self._reader.verify(statement, key).signer
        return _Signed(statement=statement, signer=signer, seq=seq, digest=payload_digest(statement))

    def _held(self, place: Place) -> _Signed | None:
        """Give what is held and binds: not what is signed by a key that counts no more, nor what has no number.

        Nor one beyond reach: our own clock ran far ahead once, and what was taken in then must not bind for ever.
        """
        token = self.memory.documents.get(place)
        if token is None:
            return None
        if token not in self._floors:
            try:
                signed = self._authentic(self._reader.read(token))
                self._floors[token] = signed if is_within_reach(signed.seq, self._now) else None
            except Rejected:
                self._floors[token] = None
        return self._floors[token]

    # -- anchors -------------------------------------------------------------------------------------------------------

    def take_anchor(self, anchor: CharterAnchor) -> None:
        """Take an anchor's newest configuration with all the statements that it names, or nothing."""
        place = (anchor.entity_id, anchor.entity_id)
        subjects = [anchor.entity_id, *(member.entity_id for member in self._charter.members)]
        if all((anchor.entity_id, subject) not in self._offered for subject in subjects):
            return
        for subject in subjects:
            self._look_for_equivocation((anchor.entity_id, subject))
        offered = sorted(self._offered.get(place, ()), key=lambda each: each.seq, reverse=True)
        for signed in offered:
            self._note_withdrawals(anchor, signed)
        if not any(self._adopt(anchor, signed) for signed in offered):
            self._complete(anchor, told=bool(offered))

    def _look_for_equivocation(self, place: Place) -> None:
        """Find two statements of one number and different content: each is the proof against the other.

        Times do not matter here. The keys of an anchor answer for each other, or two keys would give it two tongues.
        """
        held = self._held(place)
        by_seq = {} if held is None else {held.seq: held}
        for signed in self._offered.get(place, ()):
            other = by_seq.setdefault(signed.seq, signed)
            if other.digest == signed.digest:
                continue
            proof = Equivocation(one=other.statement.token, other=signed.statement.token)
            for signer in {other.signer.thumbprint, signed.signer.thumbprint}:
                if (place[0], signer) not in self.memory.equivocations:
                    self._take(TrustMemory(equivocations={(place[0], signer): proof}))
                    self._alarm(*place, Reason.EQUIVOCATION, "two statements with one number and different content")

    def _note_withdrawals(self, anchor: CharterAnchor, signed: _Signed) -> None:
        # Whatever becomes of the rest: nobody can unsay it, and a relay that strips the rest must not delay it.
        try:
            snapshot = read_snapshot(signed.statement)
        except Rejected:
            return  # refused by _judge_head
        signer = signed.signer.thumbprint
        withdrawn = {
            (anchor.entity_id, signer, member): Withdrawal(revoked_at=entry.revoked_at, reason=entry.reason)
            for member, entry in snapshot.items()
            if isinstance(entry, Withdrawn)
            and self._charter.member(member) is not None
            and (anchor.entity_id, signer, member) not in self.memory.withdrawals
        }
        if withdrawn:
            self._take(TrustMemory(withdrawals=withdrawn))

    def _adopt(self, anchor: CharterAnchor, signed: _Signed) -> bool:
        """Adopt a configuration if it goes forward and is complete. Returns whether it, or its like, is held now."""
        place = (anchor.entity_id, anchor.entity_id)
        held = self._held(place)
        if held is not None and (held.seq, held.digest) == (signed.seq, signed.digest):
            return False  # signed anew, nothing said anew
        try:
            snapshot = self._judge_head(anchor, signed, held)
        except Rejected as rejection:
            # Two tongues were told of where they were found.
            alarm = rejection.reason in (Reason.SEQUENCE_INVALID, Reason.SNAPSHOT_MISMATCH)
            self._refuse(*place, rejection, alarm=alarm)
            return False
        documents = {place: signed.statement.token}
        for member, entry in self._vouched(snapshot):
            named = self._find((anchor.entity_id, member), entry)
            if named is None:
                # Not an alarm: it is whoever relayed the rest who left this one out, or put another in its place.
                missing = Rejected(Reason.SNAPSHOT_MISMATCH, "the statement that the snapshot names is not there")
                self._refuse(anchor.entity_id, member, missing)
                return False
            documents[anchor.entity_id, member] = named.statement.token
        self._take_documents(documents)
        return True

    def _judge_head(self, anchor: CharterAnchor, signed: _Signed, held: _Signed | None) -> Mapping[str, Entry]:
        check_times(signed.statement, PROFILE, self._now)
        if held is not None and signed.seq < held.seq:
            raise Rejected(Reason.ROLLED_BACK, "older than the configuration held")
        if held is not None and signed.seq == held.seq:
            raise Rejected(Reason.EQUIVOCATION, "another configuration of this number is held")
        check_jump(signed.seq, self._now)
        snapshot = read_snapshot(signed.statement)
        if held is not None:
            self._check_snapshot(read_snapshot(held.statement), snapshot)
        for member, entry in self._vouched(snapshot):
            check_jump(entry.seq, self._now)  # the anchor goes on from the highest of all its numbers
            last = self._held((anchor.entity_id, member))
            if last is not None:
                _check_entry(Vouched(seq=last.seq, sha256=last.digest), entry)
        return snapshot

    def _check_snapshot(self, before: Mapping[str, Entry], after: Mapping[str, Entry]) -> None:
        for member, entry in before.items():
            if self._charter.member(member) is None:
                continue
            if member not in after:
                raise Rejected(Reason.SNAPSHOT_MISMATCH, f"snapshot drops {member} without a word")
            if isinstance(entry, Withdrawn) and not isinstance(after[member], Withdrawn):
                raise Rejected(Reason.SNAPSHOT_MISMATCH, f"snapshot brings back {member}, which was withdrawn")
            _check_entry(entry, after[member])

    def _complete(self, anchor: CharterAnchor, *, told: bool) -> None:
        """Take statements that the configuration held names and that were missing, as after a change of charter."""
        head = self._held((anchor.entity_id, anchor.entity_id))
        named = {} if head is None else dict(self._vouched(read_snapshot(head.statement)))
        for member in self._charter.members:
            place = (anchor.entity_id, member.entity_id)
            entry = named.get(member.entity_id)
            found = None if entry is None else self._find(place, entry)
            if found is not None:
                self._take_documents({place: found.statement.token})
            if not told and any(found is None or each.digest != found.digest for each in self._offered.get(place, ())):
                self._refuse(*place, Rejected(Reason.SNAPSHOT_MISMATCH, "not the statement that the snapshot names"))

    def _vouched(self, snapshot: Mapping[str, Entry]) -> Iterable[tuple[str, Vouched]]:
        return [
            (member, entry)
            for member, entry in snapshot.items()
            if isinstance(entry, Vouched) and self._charter.member(member) is not None
        ]

    def _find(self, place: Place, entry: Vouched) -> _Signed | None:
        held = self._held(place)
        candidates = [*([] if held is None else [held]), *self._offered.get(place, ())]
        return next((each for each in candidates if matches(entry, each.statement)), None)

    # -- members -------------------------------------------------------------------------------------------------------

    def take_configurations(self, member: Member) -> None:
        """Take a member's best configuration."""
        place = (member.entity_id, member.entity_id)
        for signed in sorted(self._offered.get(place, ()), key=lambda each: each.seq):  # at most MAX_PER_PLACE
            try:
                better = self._is_better(member, signed)
            except Rejected as rejection:
                self._refuse(*place, rejection, alarm=rejection.reason is Reason.EQUIVOCATION)
            else:
                if better:
                    self._take_documents({place: signed.statement.token})

    def _is_better(self, member: Member, signed: _Signed) -> bool:
        check_times(signed.statement, PROFILE, self._now)
        held = self._held((member.entity_id, member.entity_id))
        check_jump(signed.seq, self._now)
        if held is None:
            return True
        before, after = self._standing(member, held), self._standing(member, signed)
        if before != after:
            if after < before:
                raise Rejected(Reason.CHAIN_INVALID, "fewer anchors support it than the configuration held")
            return True
        if signed.seq < held.seq:
            raise Rejected(Reason.ROLLED_BACK, "older than the configuration held")
        if signed.seq == held.seq and signed.digest != held.digest:
            # Below the quorum one of the two may be a stranger's, and proves nothing about the member.
            reason = Reason.EQUIVOCATION if after >= self._charter.quorum else Reason.CHAIN_INVALID
            raise Rejected(reason, "another configuration of this number is held")
        return signed.seq > held.seq

    def _standing(self, member: Member, signed: _Signed) -> int:
        """How many anchors support a configuration; more than a quorum is no better than a quorum."""
        if self._support is None:
            self._support = Evidence(self._charter, self.memory, self._now, grace=_EVER, reader=self._reader)
        token = signed.statement.token
        if token not in self._standings:
            holds = [self._holds(self._support, anchor, member, signed) for anchor in self._charter.anchors]
            self._standings[token] = min(sum(holds), self._charter.quorum)
        return self._standings[token]

    @staticmethod
    def _holds(evidence: Evidence, anchor: CharterAnchor, member: Member, signed: _Signed) -> bool:
        try:
            evidence.chain(anchor, member.entity_id, signed.statement)
        except Rejected:
            return False
        return True

    # -- revocations ---------------------------------------------------------------------------------------------------

    def take_events(self, tokens: Sequence[str]) -> None:
        """Take revocations; each statement counts by a key that a quorum of anchors attests for its author."""
        held = frozenset(self.memory.events.values())
        read: list[UnverifiedEvents] = []
        if len(tokens) > MAX_EVENT_STATEMENTS:
            too_many = Rejected(Reason.TOO_LARGE, f"more than {MAX_EVENT_STATEMENTS} statements of revocations")
            self._refuse("", "", too_many)
        for token in dict.fromkeys(tokens[:MAX_EVENT_STATEMENTS]):
            if token in held:
                continue
            try:
                read.append(read_events(token))
            except Rejected as rejection:
                self._refuse("", "", rejection)
        self._look_again()
        evidence = Evidence(self._charter, self.memory, self._now, reader=self._reader)
        for events in sorted(read, key=lambda each: each.seq):
            try:
                keys = self._authors_keys(evidence, events)
                attesting = self._attesting(events.entity_id)
                self._add_revocations(events, attesting)
                self._keep_events(events, keys, attesting)
            except Rejected as rejection:
                place = (events.entity_id, events.entity_id)
                # By then the author was established: a stranger raises no alarm.
                self._refuse(*place, rejection, alarm=rejection.reason in _ALARMING)

    def _authors_keys(self, evidence: Evidence, events: UnverifiedEvents) -> frozenset[str]:
        """Check who signed, and give the names of the keys that the author may sign with."""
        if self._charter.member(events.entity_id) is None:
            raise Rejected(Reason.ISSUER_UNKNOWN, "revocations of nobody in the charter")
        attested = evidence.federation_keys(events.entity_id)
        # The second look is at what this very offer has revoked.
        keys = {kid: key for kid, key in attested.items() if (events.entity_id, kid) not in self.memory.revocations}
        if events.kid not in keys:
            raise Rejected(Reason.KEY_UNKNOWN, "signed by a key that no quorum of anchors attests")
        verify_events(events, keys[events.kid])
        if events.issued_at > self._now + PROFILE.clock_skew:
            raise Rejected(Reason.NOT_YET_VALID, "revocations from the future")
        return frozenset(keys)

    def _attesting(self, member: str) -> Mapping[str, int]:
        """Count, by kid, the anchors whose statement held lists a key of the member, in time or not."""
        counted: Counter[str] = Counter()
        for anchor in self._charter.anchors:
            held = self._held((anchor.entity_id, member))
            if held is not None:
                counted.update(_listed_kids(held.statement))
        return counted

    def _add_revocations(self, events: UnverifiedEvents, attesting: Mapping[str, int]) -> None:
        """Add what a statement says that is not known.

        Whoever stole a federation key can fill the memory with names of keys that are none. Those of keys that some
        anchor attests find room whatever else is there.
        """
        member = events.entity_id
        known = {kid: each for (owner, kid), each in self.memory.revocations.items() if owner == member}
        room = MAX_REVOCATIONS - len(known)
        added: dict[tuple[str, str], Revocation] = {}
        for kid, said in events.revocations.items():  # at most events.MAX_EVENTS
            revocation = replace(said, attested=kid in attesting)
            if kid in known:
                revocation = joined(known[kid], revocation)
            elif kid not in attesting:
                room -= 1
                if room < 0:
                    continue
            if revocation != known.get(kid):
                added[member, kid] = revocation
        if added:
            self._take(TrustMemory(revocations=added))
        if room < 0:
            too_many = Rejected(Reason.TOO_LARGE, "revocations of keys that no anchor attests are left out")
            self._refuse(member, member, too_many)

    def _look_again(self) -> None:
        """Take from the statements kept what had no room: an anchor may attest such a key by now."""
        counted = Counter(member for member, _ in self.memory.revocations)
        for member in {subject for _, subject in self.change.documents}:
            if counted[member] >= MAX_REVOCATIONS and member in self.memory.events:
                attesting = self._attesting(member)
                kept = read_events(self.memory.events[member])
                said = {kid: each for kid, each in kept.revocations.items() if kid in attesting}
                self._add_revocations(replace(kept, revocations=said), attesting)

    def _keep_events(self, events: UnverifiedEvents, keys: frozenset[str], attesting: Mapping[str, int]) -> None:
        """Keep the newest statement for whoever comes late.

        It has to say all that the one before said of keys that may be in use. The rest may be a thief's invention, of
        which the owner knows nothing.
        """
        member = events.entity_id
        held = read_events(self.memory.events[member]) if member in self.memory.events else None
        check_jump(events.seq, self._now)
        # A statement by a key that counts no more, by this very statement perhaps, is no floor.
        counts = held is not None and held.kid in keys and (member, held.kid) not in self.memory.revocations
        if held is not None and counts and is_within_reach(held.seq, self._now):
            if events.seq < held.seq or (events.seq, events.digest) == (held.seq, held.digest):
                raise Rejected(Reason.ROLLED_BACK, "no newer than the revocations held")
            if events.seq == held.seq:
                raise Rejected(Reason.EQUIVOCATION, "other revocations of this number are held")
            binding = [kid for kid in held.revocations if attesting.get(kid, 0) >= self._charter.quorum]
            if not all(_says(events.revocations.get(kid), held.revocations[kid]) for kid in binding):
                raise Rejected(Reason.SNAPSHOT_MISMATCH, "a revocation that was made is left out")
        self._take(TrustMemory(events={member: events.token}))

    # -- the clock -----------------------------------------------------------------------------------------------------

    def raise_floor(self) -> None:
        """Raise the clock floor to the latest time that a quorum of anchors attests."""
        times: list[datetime] = []
        for anchor in self._charter.anchors:
            held = self._held((anchor.entity_id, anchor.entity_id))
            # One from the future is the work of clocks that ran ahead; after people have reset the floor it must not
            # raise it again.
            if held is not None and held.statement.issued_at <= self._now + PROFILE.clock_skew:
                signer = (anchor.entity_id, held.signer.thumbprint)
                times += [held.statement.issued_at] if signer not in self.memory.equivocations else []
        if len(times) < self._charter.quorum:
            return
        floor = sorted(times, reverse=True)[self._charter.quorum - 1]
        if self.memory.clock_floor is None or floor > self.memory.clock_floor:
            self._take(TrustMemory(clock_floor=floor))

    # -- keeping -------------------------------------------------------------------------------------------------------

    def _take_documents(self, documents: Mapping[Place, str]) -> None:
        new = {place: token for place, token in documents.items() if self.memory.documents.get(place) != token}
        if new:
            self._take(TrustMemory(documents=new))

    def _take(self, change: TrustMemory) -> None:
        self.memory = merge(self.memory, change)
        self.change = merge(self.change, change)

    def _refuse(self, issuer: str, subject: str, rejection: Rejected, *, alarm: bool = False) -> None:
        problem = Problem(issuer=issuer, subject=subject, reason=rejection.reason, detail=rejection.detail)
        self.refused.append(problem)
        if alarm:
            self._alarm(issuer, subject, rejection.reason, rejection.detail)

    def _alarm(self, issuer: str, subject: str, reason: Reason, detail: str) -> None:
        self.alarms.append(Alarm(issuer=issuer, subject=subject, reason=reason, detail=detail))


def _check_entry(before: Entry, after: Entry) -> None:
    if not isinstance(before, Vouched) or not isinstance(after, Vouched):
        return
    if after.seq < before.seq:
        raise Rejected(Reason.SNAPSHOT_MISMATCH, "snapshot goes back to an older statement")
    if after.seq == before.seq and after.sha256 != before.sha256:
        raise Rejected(Reason.SNAPSHOT_MISMATCH, "snapshot names another statement of one number")


def _listed_kids(statement: UnverifiedStatement) -> frozenset[str]:
    """The names of all keys that an anchor's statement attests."""
    kids = set(statement.jwks)
    for purpose in KEY_PARAMETERS:
        try:
            kids |= listed_keys(statement.metadata, purpose).keys()
        except Rejected:
            continue  # no vote comes of it either
    return frozenset(kids)


def _says(known: Revocation | None, revocation: Revocation) -> bool:
    """Whether what is known says at least as much against the key."""
    if known is None:
        return False
    compromised = RevocationReason.COMPROMISED
    return known.reason is compromised or revocation.reason is not compromised
