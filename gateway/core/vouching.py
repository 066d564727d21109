"""What an anchor says about its members, and what it remembers of them between statements.

Rules that live here (OpenID Federation 1.0 sections 3 and 11.1):

* An anchor vouches only for a member of the charter whose configuration is signed by a federation key it has already
  attested. The first such key arrives out of band and is compared by people; later ones arrive under a signature by an
  attested one. A configuration signed by any other key changes nothing, however well-formed it is.
* The statement pins the member's application keys (an issuer's for credentials and for status lists, a gateway's for
  receipts and for checkpoints), so that a quorum of anchors covers these keys themselves and not only the federation
  key that lists them. What is listed under an entity type that the charter does not give the member is passed over.
* A key serves one member and one purpose, its holder proved to hold it, and once it has gone it never comes back: a key
  that was withdrawn may be in other hands by now.
* A member's configurations only go forward, by their sequence number. Whoever replays an old one brings nothing back.
* Where an anchor approves by hand, new keys wait for a person and are left out of the statement until then; that a key
  goes is never delayed. What was rejected is left out without asking again.
* A member that is suspended or withdrawn gets no statement. It is still listened to while suspended, so that it may
  rotate its keys meanwhile.
* Where people replaced a member's federation key, nothing is said for it until a configuration by the new key was
  judged: whoever had the old one may have had keys of his own attested.
* Whom an anchor named once it names always. Others take a name that is missing for a lie, and then nothing it says.

Everything here is a pure function of what is remembered; ``anchor`` keeps, signs and publishes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.core.charter import ISSUER_TYPE, Charter, Member
from gateway.core.encoding import sha256_b64url
from gateway.core.jose import PublicKey
from gateway.core.memory import Withdrawal
from gateway.core.publication import KEY_PARAMETERS, KEY_PROOFS, check_possession, listed_keys
from gateway.core.reasons import InvalidRequest, NotHeld, Reason, Rejected, WrongState
from gateway.core.snapshot import (
    MAX_CONFIGURATION_CHARS,
    MAX_REASON_CHARS,
    MAX_STATEMENT_CHARS,
    Entry,
    Suspended,
    Vouched,
    Withdrawn,
    check_jump,
    is_within_reach,
    payload_digest,
    read_seq,
    snapshot_claim,
)
from gateway.core.statements import PROFILE, EntityStatement, check_times, parse_statement, verify_signature

SUBORDINATE_LIFETIME: Final = timedelta(hours=1)
MAX_SUSPENSION: Final = timedelta(days=30)
NOTHING_TO_SAY: Final = "there is no statement"
REPLACED: Final = "its federation key was replaced, and it has not spoken by the new one yet"
MAX_SPENT_KEYS: Final = 4_096
"""Keys of one member that are remembered as gone: a dozen rotations a day for a year. None is ever forgotten."""

_ENVELOPE_CHARS: Final = 1_024
"""Header and signature of a statement, at most."""


class Approval(StrEnum):
    """Who approves new keys of a member."""

    AUTO = "auto"
    """The signature by an attested key is enough."""
    MANUAL = "manual"
    """A person, each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """The anchor's word withdrawn until a time."""

    suspended_at: datetime
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChange:
    """New keys of a member that wait for a person's approval."""

    change_id: str
    """SHA-256 over the thumbprints added, base64url: the same keys are the same change."""
    federation_keys: frozenset[str]
    """Thumbprints that would be added."""
    credential_keys: frozenset[str]
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """What an anchor remembers of one member."""

    federation_keys: frozenset[str]
    """Thumbprints of the federation keys attested: one of them must sign the next configuration."""
    credential_keys: frozenset[str] = frozenset()
    """Thumbprints of the application keys attested, of whatever purpose, possession of each proven."""
    spent_keys: frozenset[str] = frozenset()
    """Thumbprints attested once and withdrawn since. They are never attested again."""
    seq: int = 0
    """Sequence number of the configuration that the keys come from; 0 before the first."""
    digest: str = ""
    """SHA-256 of that configuration's payload."""
    approved: frozenset[str] = frozenset()
    """Thumbprints that a person approved and that are not attested yet."""
    rejected: frozenset[str] = frozenset()
    """Identifiers of changes that a person rejected."""
    pending: PendingChange | None = None
    suspension: Suspension | None = None
    replaced_at: datetime | None = None
    """When people replaced its federation key; None again as soon as a configuration by the new key was judged."""
    withdrawal: Withdrawal | None = None
    withdrawal_signer: str = ""
    """Thumbprint of the key that signed it, when it is known only from a statement of the anchor's own that came back
    to it. After a backup was put back that is all there is to know it by; but if the charter drops that key, a thief
    may have signed it, and it counts no more. Empty: decided here."""

    @property
    def silence(self) -> Suspension | None:
        """Until when nothing is said for it, also without an operator's suspension, and why."""
        if self.replaced_at is None:
            return self.suspension
        # It ends with the new key's first word. That its time runs out brings no statement back; see ``_entry``.
        return Suspension(suspended_at=self.replaced_at, until=self.replaced_at + MAX_SUSPENSION, reason=REPLACED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouching:
    """What comes of a configuration: the claims of a statement to be signed, and what to remember with it."""

    claims: Mapping[str, Any] | None
    """None: the member is suspended or withdrawn, and nothing is said for it."""
    record: MemberRecord
    keys_changed: bool
    """Whether the keys attested are others than before: then the statement is due at once."""


# -- judging a configuration ------------------------------------------------------------------------------------------


def vouch(
    *,
    anchor_id: str,
    charter: Charter,
    configuration: str,
    record: MemberRecord,
    taken_keys: frozenset[str],
    seq: int,
    approve: Approval,
    now: datetime,
    agreed_keys: frozenset[str] = frozenset(),
) -> Vouching:
    """Judge a member's configuration and write what the anchor says about it.

    Args:
        anchor_id: the anchor that speaks.
        charter: the charter in force.
        configuration: the member's entity configuration as offered, untrusted.
        record: what the anchor remembers of the member; at first the key enrolled by people.
        taken_keys: thumbprints that belong to others: other members' keys and the anchors' own.
        seq: the number that the statement is to bear.
        approve: who approves new keys.
        now: the time.
        agreed_keys: thumbprints of federation keys that a quorum of anchors attests for the member. They speak for it
            here too, unless people approve: an anchor that was away through a whole rotation has no other way to learn
            of the new key, and whoever commands a quorum needs no further vote.

    Raises:
        Rejected: the configuration gives no ground to vouch.
    """
    if len(configuration) > MAX_CONFIGURATION_CHARS:
        raise Rejected(Reason.TOO_LARGE, f"configuration is longer than {MAX_CONFIGURATION_CHARS} characters")
    # Where people replaced the key just now, the others may not have done so yet, and still attest the thief's.
    follows = approve is Approval.AUTO and record.replaced_at is None
    known = record.federation_keys | (agreed_keys if follows else frozenset())
    statement, member = _authentic(anchor_id, charter, configuration, known, now)
    number, digest = _check_progress(record, statement, now)
    listed = _Listed.read(member, statement)
    _check_keys(listed, record, taken_keys)
    updated = replace(_decide(record, listed, approve, now), seq=number, digest=digest, replaced_at=None)
    claims = None
    if not _silent(updated, now):
        claims = _claims(anchor_id, charter, member, listed, updated, seq=seq, now=now)
        _require_short(claims)
    return Vouching(
        claims=claims,
        record=updated,
        keys_changed=record.replaced_at is not None
        or (updated.federation_keys, updated.credential_keys) != (record.federation_keys, record.credential_keys),
    )


def _authentic(
    anchor_id: str, charter: Charter, configuration: str, known_keys: frozenset[str], now: datetime
) -> tuple[EntityStatement, Member]:
    statement = parse_statement(configuration, PROFILE)
    member = charter.member(statement.sub)
    if member is None or not statement.is_configuration:
        raise Rejected(Reason.ISSUER_UNKNOWN, "not the configuration of a member")
    check_times(statement, PROFILE, now)
    key = statement.jwks.get(statement.kid)
    if key is None:
        raise Rejected(Reason.KEY_UNKNOWN, "configuration is not signed by one of its own keys")
    if key.thumbprint not in known_keys:
        raise Rejected(Reason.KEY_UNKNOWN, "configuration is signed by a key this anchor has not attested")
    verified = verify_signature(statement, key)
    if anchor_id not in statement.authority_hints:
        raise Rejected(Reason.CHAIN_INVALID, "configuration does not name this anchor in authority_hints")
    return verified, member


def _check_progress(record: MemberRecord, statement: EntityStatement, now: datetime) -> tuple[int, str]:
    number, digest = read_seq(statement), payload_digest(statement)
    if is_within_reach(record.seq, now):
        if number < record.seq:
            raise Rejected(Reason.ROLLED_BACK, "older than a configuration already vouched for")
        if number == record.seq and digest != record.digest:
            raise Rejected(Reason.EQUIVOCATION, "two configurations bear the same number")
    check_jump(number, now)
    return number, digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """The keys of a configuration."""

    federation: Mapping[str, PublicKey]
    """By thumbprint."""
    application: Mapping[tuple[str, str], Mapping[str, PublicKey]]
    """By (entity type, metadata parameter), then by thumbprint."""

    @classmethod
    def read(cls, member: Member, statement: EntityStatement) -> _Listed:
        application: dict[tuple[str, str], Mapping[str, PublicKey]] = {}
        for purpose, (entity_type, name) in KEY_PARAMETERS.items():
            parameters = statement.metadata.get(entity_type, {})
            if entity_type in member.entity_types and name in parameters:
                keys = listed_keys(statement.metadata, purpose).values()
                for key in keys:
                    check_possession(member.entity_id, key, parameters.get(KEY_PROOFS))
                application[entity_type, name] = {key.thumbprint: key for key in keys}
        return cls(federation={key.thumbprint: key for key in statement.jwks.values()}, application=application)

    @property
    def lists(self) -> list[Mapping[str, PublicKey]]:
        return [self.federation, *self.application.values()]


def _check_keys(listed: _Listed, record: MemberRecord, taken_keys: frozenset[str]) -> None:
    thumbprints = [thumbprint for keys in listed.lists for thumbprint in keys]
    if len(set(thumbprints)) != len(thumbprints) or not taken_keys.isdisjoint(thumbprints):
        raise Rejected(Reason.KEY_NOT_ACCEPTABLE, "a key serves one member and one purpose")
    if not record.spent_keys.isdisjoint(thumbprints):
        raise Rejected(Reason.KEY_NOT_ACCEPTABLE, "a key that was withdrawn is listed again")
    application = {thumbprint for keys in listed.application.values() for thumbprint in keys}
    if not record.credential_keys.isdisjoint(listed.federation) or not record.federation_keys.isdisjoint(application):
        raise Rejected(Reason.KEY_NOT_ACCEPTABLE, "a key takes up another purpose")
    if len(record.spent_keys) > MAX_SPENT_KEYS:
        raise Rejected(Reason.TOO_LARGE, "the member has used up more keys than an anchor remembers")


def _decide(record: MemberRecord, listed: _Listed, approve: Approval, now: datetime) -> MemberRecord:
    """Sort the keys listed into those attested from now on and those that wait, and note which are gone."""
    federation = frozenset(listed.federation)
    credential = frozenset(thumbprint for keys in listed.application.values() for thumbprint in keys)
    before = record.federation_keys | record.credential_keys
    new = (federation | credential) - before - record.approved if approve is Approval.MANUAL else frozenset()
    pending = _pending(record, new & federation, new & credential, now)
    return replace(
        record,
        federation_keys=federation - new,
        credential_keys=credential - new,
        spent_keys=record.spent_keys | (before - federation - credential),
        approved=frozenset(),  # attested now, or no longer wished for
        pending=pending,
    )


def _pending(
    record: MemberRecord, federation: frozenset[str], credential: frozenset[str], now: datetime
) -> PendingChange | None:
    wanted = frozenset(key for key in federation | credential if change_id([key]) not in record.rejected)
    if not wanted:
        return None
    identifier = change_id(wanted)
    if record.pending is not None and record.pending.change_id == identifier:
        return record.pending
    return PendingChange(
        change_id=identifier, federation_keys=federation & wanted, credential_keys=credential & wanted, seen_at=now
    )


def change_id(thumbprints: Iterable[str]) -> str:
    """Name the change that adds these keys."""
    return sha256_b64url("\n".join(sorted(thumbprints)).encode("ascii"))


def _silent(record: MemberRecord, now: datetime) -> bool:
    return record.withdrawal is not None or (record.suspension is not None and now < record.suspension.until)


# -- writing a statement ----------------------------------------------------------------------------------------------


def _claims(
    anchor_id: str, charter: Charter, member: Member, listed: _Listed, record: MemberRecord, *, seq: int, now: datetime
) -> Mapping[str, Any]:
    issued_at = int(now.timestamp())
    pinned: dict[str, dict[str, Any]] = {}
    policy = _narrowing_policy(charter, member)
    for (entity_type, name), keys in listed.application.items():
        attested = [dict(key.jwk) for thumbprint, key in keys.items() if thumbprint in record.credential_keys]
        if attested:
            pinned.setdefault(entity_type, {})[name] = {"keys": attested}
        else:
            # Left unsaid, the member's own list would stand for whoever applies policies and knows no pinning.
            policy.setdefault(entity_type, {})[name] = {"value": None}
    claims = {
        "iss": anchor_id,
        "sub": member.entity_id,
        "iat": issued_at,
        "exp": issued_at + int(SUBORDINATE_LIFETIME.total_seconds()),
        "seq": seq,
        "jwks": {"keys": [dict(key.jwk) for each, key in listed.federation.items() if each in record.federation_keys]},
        "metadata": pinned,
        "metadata_policy": policy,
        "constraints": {
            "max_path_length": 0,
            "naming_constraints": {"permitted": [urlsplit(member.entity_id).hostname]},
            "allowed_entity_types": sorted(member.entity_types),
        },
    }
    return {name: value for name, value in claims.items() if value}


def _require_short(claims: Mapping[str, Any]) -> None:
    # One that nobody takes in would keep the anchor's word on all others from being heard.
    if len(json.dumps(claims)) * 4 // 3 + _ENVELOPE_CHARS > MAX_STATEMENT_CHARS:
        raise Rejected(Reason.TOO_LARGE, "configuration lists more keys than fit into a statement")


def _narrowing_policy(charter: Charter, member: Member) -> dict[str, Any]:
    """What the member may issue: the credential types that some matter of the agreement accepts."""
    if ISSUER_TYPE not in member.entity_types:
        return {}
    types = {name for matter in charter.agreement.matters.values() for name in matter.credential_types}
    return {ISSUER_TYPE: {"credential_types": {"subset_of": sorted(types)}}}


def anchor_snapshot(
    records: Mapping[str, MemberRecord],
    statements: Mapping[str, str],
    now: datetime,
    before: Mapping[str, Entry] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write the ``snapshot`` claim of an anchor's configuration.

    A member that was named once stays named. One whose statement has lapsed is named with that statement: it proves
    nothing any more, but says that nothing was withdrawn.

    Args:
        records: what is remembered of each member of the charter.
        statements: the last statement about each member, as signed.
        now: the time.
        before: what the last snapshot said of members of the charter.
    """
    entries = {member: _entry(record, statements.get(member), now) for member, record in records.items()}
    named = {member: entry for member, entry in entries.items() if entry is not None}
    return snapshot_claim({**{member: _still(entry, now) for member, entry in before.items()}, **named})


def _still(entry: Entry, now: datetime) -> Entry:
    """What to say of a member that was named when there is nothing else to say."""
    if isinstance(entry, Suspended):
        return entry
    # The statement that was named is lost, or the withdrawal was a thief's. Suspended until now is to say nothing for
    # the member, and nothing against it.
    return Suspended(suspended_at=now, until=now, reason=NOTHING_TO_SAY)


def _entry(record: MemberRecord, statement: str | None, now: datetime) -> Entry | None:
    if record.withdrawal is not None:
        return Withdrawn(revoked_at=record.withdrawal.revoked_at, reason=record.withdrawal.reason)
    suspension = record.silence
    if record.replaced_at is not None:
        statement = None  # the last one was about keys that are in other hands
    # Past its end it is still named, where there is no statement to take its place.
    if suspension is not None and (now < suspension.until or statement is None):
        return Suspended(suspended_at=suspension.suspended_at, until=suspension.until, reason=suspension.reason)
    if statement is None:
        return None
    return _vouched(statement)


@lru_cache(maxsize=64)  # all members are named anew whenever there is news of one
def _vouched(statement: str) -> Vouched:
    parsed = parse_statement(statement, PROFILE)
    return Vouched(seq=read_seq(parsed), sha256=payload_digest(parsed))


# -- what an operator decides -----------------------------------------------------------------------------------------


def enrol(record: MemberRecord | None, thumbprint: str, *, replaced_at: datetime | None = None) -> MemberRecord:
    """Take a federation key that people compared.

    Args:
        record: what is remembered of the member; None: nothing yet.
        thumbprint: of the key.
        replaced_at: the time, when the member lost its federation keys, or they are in other hands: this one takes
            their place. Its configurations are counted anew, because whoever had the old keys may have used up the
            numbers, and nothing is said for it until there is one by this key.

    Raises:
        WrongState: it is enrolled and ``replaced_at`` is not given, or its membership was revoked.
        InvalidRequest: the key was withdrawn before, or has another purpose.
    """
    if record is None:
        return MemberRecord(federation_keys=frozenset({thumbprint}))
    _require_not_withdrawn(record)
    if replaced_at is None and record.federation_keys:
        raise WrongState("the member is enrolled already")
    if thumbprint in record.spent_keys | record.credential_keys:
        raise InvalidRequest("federation_key", "was withdrawn before, or serves another purpose")
    return replace(
        record,
        federation_keys=frozenset({thumbprint}),
        spent_keys=record.spent_keys | (record.federation_keys - {thumbprint}),
        seq=0,
        digest="",
        approved=frozenset(),
        pending=None,
        replaced_at=replaced_at,
    )


def approve_change(record: MemberRecord, change: str) -> MemberRecord:
    """Let the keys of a pending change be attested with the next statement.

    Raises:
        NotHeld: no such change waits.
    """
    pending = _require_pending(record, change)
    return replace(record, approved=record.approved | pending.federation_keys | pending.credential_keys, pending=None)


def reject_change(record: MemberRecord, change: str) -> MemberRecord:
    """Leave the keys of a pending change out for good, each of them, also when they come with others.

    Raises:
        NotHeld: no such change waits.
    """
    pending = _require_pending(record, change)
    keys = pending.federation_keys | pending.credential_keys
    return replace(record, rejected=record.rejected | {change, *(change_id([key]) for key in keys)}, pending=None)


def suspend(record: MemberRecord, *, until: datetime, reason: str, now: datetime) -> MemberRecord:
    """Say nothing for the member until a time; a suspension that runs already is replaced.

    Raises:
        InvalidRequest: the time is not in the next 30 days, or the reason is empty or long.
        WrongState: its membership was revoked.
    """
    _require_not_withdrawn(record)
    _require_reason(reason)
    if not now < until <= now + MAX_SUSPENSION:
        raise InvalidRequest("until_time", f"must be in the next {MAX_SUSPENSION.days} days")
    return replace(record, suspension=Suspension(suspended_at=now, until=until, reason=reason))


def resume(record: MemberRecord, *, now: datetime) -> MemberRecord:
    """End a suspension.

    It stays on record, ended: a member that rotated its keys meanwhile and is away now has no statement that could take
    its place in the snapshot.

    Raises:
        WrongState: it is not suspended, or only until it speaks by its new key.
    """
    _require_not_withdrawn(record)
    if record.suspension is None or now >= record.suspension.until:
        raise WrongState("the member is not suspended, or only until it speaks by its new federation key")
    return replace(record, suspension=replace(record.suspension, until=now))


def revoke(record: MemberRecord, *, reason: str, now: datetime) -> MemberRecord:
    """Never say anything for the member again.

    Raises:
        InvalidRequest: the reason is empty or long.
        WrongState: that was done already. What is known only from our own statement may be decided again, for good.
    """
    if not record.withdrawal_signer:
        _require_not_withdrawn(record)
    _require_reason(reason)
    withdrawal = Withdrawal(revoked_at=now, reason=reason)
    return replace(record, withdrawal=withdrawal, withdrawal_signer="", pending=None)


def _require_pending(record: MemberRecord, change: str) -> PendingChange:
    if record.pending is None or record.pending.change_id != change:
        raise NotHeld("no such change waits")
    return record.pending


def _require_not_withdrawn(record: MemberRecord) -> None:
    if record.withdrawal is not None:
        raise WrongState("this anchor's word for the member was withdrawn for good")


def _require_reason(reason: str) -> None:
    if not 1 <= len(reason) <= MAX_REASON_CHARS:
        raise InvalidRequest("reason", f"must have 1 to {MAX_REASON_CHARS} characters")
