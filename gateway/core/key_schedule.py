"""The life of a signing key: staged, published, active, draining, retired; or revoked, for good.

Every function takes the records of one purpose and gives back those that change, all to be written in one transaction;
nothing here is half done. Rules (DESIGN: keys; practice of other federations):

* To publish is not to use. A key signs only when everybody who has to hold it said so *and* the publication window has
  passed since a quorum of anchors attested it. The window is for those who cannot be asked: a gateway that was cut off
  before has by then no fresh word left that could say "unknown key", so it answers indeterminate, never rejected.
* A key that ceased to sign stays published until nothing it signed can be valid any more.
* A key can be taken back until its first signature, which is noted before it is made.
* A revoked key is revoked for good, and what took its place stays. A kid never comes back, from whatever state. One
  that was superseded signs no more and stays published, so that what it signed before can be checked.
* One active key a purpose, one in waiting. The key in waiting is the stand-by: published long before it is needed, it
  takes over at once when the active one is compromised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from gateway.core.agreement import MAX_CLOCK_SKEW
from gateway.core.encoding import b64url_decode, sha256_b64url, write_json
from gateway.core.jose import MAX_JWKS_KEYS, PublicKey
from gateway.core.memory import Revocation, RevocationReason
from gateway.core.reasons import NotHeld, WrongState


class KeyPurpose(StrEnum):
    """What a key signs. A key has one purpose, and a purpose at most one active key."""

    CREDENTIAL = "issuer-credential"
    STATUS = "issuer-status"
    ISSUER_FEDERATION = "issuer-federation"
    GATEWAY_FEDERATION = "gateway-federation"
    ANCHOR_FEDERATION = "anchor-federation"
    RECEIPT = "gateway-receipt"
    AUDIT = "gateway-audit"


class KeyState(StrEnum):
    """Where a key is in its life."""

    STAGED = "staged"
    PUBLISHED = "published"
    ACTIVE = "active"
    DRAINING = "draining"
    RETIRED = "retired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key and what happened to it so far."""

    key: PublicKey
    purpose: KeyPurpose
    state: KeyState
    staged_at: datetime
    published_at: datetime | None = None
    activated_at: datetime | None = None
    drained_at: datetime | None = None
    """When it ceased to sign."""
    retired_at: datetime | None = None
    """When it was retired, or undone."""
    revoked_at: datetime | None = None
    reason: RevocationReason | None = None
    compromised_since: datetime | None = None
    signed_until: datetime | None = None
    """Nothing it signed is valid after this. None: it has signed nothing. Written before the signature is made."""


Records = Sequence[KeyRecord]
"""The keys of one purpose, oldest first."""
Change = tuple[KeyRecord, ...]
"""Records as they are from now on, to be written together."""

_TOLD: Final = frozenset({KeyState.PUBLISHED, KeyState.ACTIVE, KeyState.DRAINING})
_SIGNS_FOR_OTHERS: Final = frozenset({KeyPurpose.CREDENTIAL, KeyPurpose.STATUS, KeyPurpose.RECEIPT, KeyPurpose.AUDIT})
"""What these sign goes to others, who look the key up when they look at it."""
_WAITING: Final = frozenset({KeyState.STAGED, KeyState.PUBLISHED})
_JITTER: Final = 0.1
"""By up to this part of its age a key is due earlier, so that not all provinces rotate on the day they were set up."""


def find(records: Records, kid: str) -> KeyRecord:
    """Look up a key.

    Raises:
        NotHeld: there is none of that kid.
    """
    for record in records:
        if record.key.kid == kid:
            return record
    raise NotHeld("this province never had a key of that kid for this purpose")


def active(records: Records) -> KeyRecord | None:
    """Give the key that signs."""
    return next((each for each in records if each.state is KeyState.ACTIVE), None)


def waiting(records: Records) -> KeyRecord | None:
    """Give the key that will sign next: the published one, else the one longest staged."""
    found = [each for each in records if each.state in _WAITING]
    return next((each for each in found if each.state is KeyState.PUBLISHED), found[0] if found else None)


def drained_last(records: Records) -> KeyRecord | None:
    """Give the key that signed before the active one, while it can still take over again."""
    draining = [each for each in records if each.state is KeyState.DRAINING and each.drained_at is not None]
    return max(draining, key=lambda each: (each.drained_at, records.index(each)), default=None)


def published(records: Records, now: datetime) -> list[KeyRecord]:
    """Give the keys that others are told of, in the order of the records."""
    return [each for each in records if each.state in _TOLD or _counts_still(each, now)]


def _counts_still(record: KeyRecord, now: datetime) -> bool:
    """Whether something a superseded key signed is still good, so that it has to be shown to be checked."""
    return (
        record.reason is RevocationReason.SUPERSEDED
        and record.purpose in _SIGNS_FOR_OTHERS
        and record.signed_until is not None
        and now < record.signed_until + MAX_CLOCK_SKEW
    )


# -- transitions ------------------------------------------------------------------------------------------------------


def stage(records: Records, key: PublicKey, purpose: KeyPurpose, now: datetime) -> Change:
    """Take in a key that was made.

    Raises:
        WrongState: the key was here before.
    """
    if any(each.key.kid == key.kid for each in records):
        raise WrongState("a key that was here before does not come back")
    return (KeyRecord(key=key, purpose=purpose, state=KeyState.STAGED, staged_at=now),)


def publish(records: Records, kid: str, now: datetime) -> Change:
    """Let others know of a key.

    Raises:
        WrongState: it is not staged, another one waits already, or too many are published.
    """
    record = _in_state(records, kid, KeyState.STAGED)
    if any(each.state is KeyState.PUBLISHED for each in records):
        raise WrongState("another key of this purpose is published and waits to sign")
    if len(published(records, now)) >= MAX_JWKS_KEYS:
        raise WrongState(f"{MAX_JWKS_KEYS} keys are published, and no more fit; wait until one has drained")
    return (replace(record, state=KeyState.PUBLISHED, published_at=now),)


def activate(records: Records, kid: str, now: datetime) -> Change:
    """Let a published key sign; the one that did drains from now on. Whether it is ready, ``blockers`` says.

    Raises:
        WrongState: it is not published.
    """
    record = _in_state(records, kid, KeyState.PUBLISHED)
    current = active(records)
    change = replace(record, state=KeyState.ACTIVE, activated_at=now)
    if current is None:
        return (change,)
    return (replace(current, state=KeyState.DRAINING, drained_at=now), change)


def undo(records: Records, kid: str, now: datetime) -> Change:
    """Take back a key that has signed nothing. If it was active, the one before it signs again.

    Raises:
        WrongState: it has signed, is past, or there is none to sign in its place.
    """
    record = find(records, kid)
    if record.state not in (*_WAITING, KeyState.ACTIVE):
        raise WrongState(f"the key is {record.state}")
    if record.signed_until is not None:
        raise WrongState("the key has signed already; rotate to another one instead")
    retired = replace(record, state=KeyState.RETIRED, retired_at=now)
    if record.state in _WAITING:
        return (retired,)
    before = drained_last(records)
    if before is None:
        raise WrongState("no earlier key is left that could sign in its place; rotate to another one instead")
    return (retired, replace(before, state=KeyState.ACTIVE, drained_at=None))


def revoke(records: Records, kid: str, revocation: Revocation, now: datetime) -> Change:
    """Revoke a key for good. If it was active, the published one signs from now on, whoever holds it.

    A key that was revoked as superseded may turn out to be compromised; never the other way round.

    Raises:
        WrongState: it is revoked.
    """
    record = find(records, kid)
    graver = (record.reason, revocation.reason) == (RevocationReason.SUPERSEDED, RevocationReason.COMPROMISED)
    if record.state is KeyState.REVOKED and not graver:
        raise WrongState("the key is revoked, and stays so as it is")
    revoked = replace(
        record,
        state=KeyState.REVOKED,
        revoked_at=revocation.revoked_at,
        reason=revocation.reason,
        compromised_since=revocation.compromised_since,
    )
    standby = waiting(records)
    if record.state is not KeyState.ACTIVE or standby is None or standby.state is not KeyState.PUBLISHED:
        return (revoked,)
    return (revoked, replace(standby, state=KeyState.ACTIVE, activated_at=now))


def retire(records: Records, kid: str, now: datetime) -> Change:
    """Take a key that drains out of use.

    Raises:
        WrongState: it does not drain.
    """
    return (replace(_in_state(records, kid, KeyState.DRAINING), state=KeyState.RETIRED, retired_at=now),)


def retire_due(records: Records, timing: Timing, now: datetime) -> Change:
    """Take the keys out of use of which nothing valid is left."""
    due = [each for each in records if each.state is KeyState.DRAINING and drained(each, timing, now) <= now]
    return tuple(replace(each, state=KeyState.RETIRED, retired_at=now) for each in due)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What our own statement, as others hold it, says of the keys of one purpose."""

    at: datetime
    kids: frozenset[str]
    signer: str
    """The key that signed it, when that is one of this purpose; else empty."""
    forgotten: bool = False
    """Our own store did not know it: a backup was put back, and what happened since is forgotten."""


def recover(records: Records, said: Said, signed_until: datetime, now: datetime) -> Change:
    """Take from a statement of ours what a backup that was put back does not remember.

    A key that the statement names and the records hold for unheard of was published after the backup was made. It may
    have signed, so it drains; if it signed the statement, it goes on signing. One that was published already, and signs
    nothing by the records, may have signed since: it waits on, and is held for used. A key that was published before
    the statement was made and is not in it was withdrawn since, and nobody would attest it again.

    Args:
        records: the keys.
        said: the newest statement of ours that anybody holds.
        signed_until: the latest that anything a key signed may be good.
        now: the time.
    """
    change = []
    forgotten = said.forgotten or any(
        (each.state is KeyState.STAGED and each.key.kid in said.kids)
        or (each.state is KeyState.PUBLISHED and each.key.kid == said.signer)
        for each in records
    )
    for record in records:
        kid, used = record.key.kid, _used(record, signed_until)
        if record.state in _WAITING and kid in said.kids and kid == said.signer:
            at = record.published_at or now
            change.append(replace(used, state=KeyState.ACTIVE, published_at=at, activated_at=now))
        elif record.state is KeyState.STAGED and kid in said.kids:
            change.append(replace(used, state=KeyState.DRAINING, published_at=now, activated_at=now, drained_at=now))
        elif record.state is KeyState.PUBLISHED and kid in said.kids and forgotten:
            change.append(used)
        elif record.state in _TOLD and kid not in said.kids and (record.published_at or now) < said.at <= now:
            change.append(replace(record, state=KeyState.RETIRED, retired_at=now))
    current = active(records)
    changed = {each.key.kid for each in change}
    if current is not None and current.key.kid not in changed and any(each.state is KeyState.ACTIVE for each in change):
        change.append(replace(_used(current, signed_until), state=KeyState.DRAINING, drained_at=now))
    elif current is not None and current.key.kid not in changed and (change or said.forgotten):
        change.append(_used(current, signed_until))  # nor is it remembered what this one signed
    return tuple(change)


def _used(record: KeyRecord, signed_until: datetime) -> KeyRecord:
    return replace(record, signed_until=max(record.signed_until or signed_until, signed_until))


def _in_state(records: Records, kid: str, state: KeyState) -> KeyRecord:
    record = find(records, kid)
    if record.state is not state:
        raise WrongState(f"the key is {record.state}, not {state}")
    return record


# -- when -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The spans that one purpose takes."""

    window: timedelta
    """Publication window: how long a view that lacks the key may pass for a fresh one."""
    linger: timedelta
    """How long others may hold statements that name only the old key, after it ceased to sign."""
    skew: timedelta
    """By how much clocks may differ."""


def drained(record: KeyRecord, timing: Timing, now: datetime) -> datetime:
    """Say when nothing is left that needs the key: nothing it signed, and no statement that names no other."""
    ceased = record.drained_at or now
    return max(record.signed_until or ceased, ceased + timing.linger) + timing.skew


def due_at(record: KeyRecord, max_age: timedelta) -> datetime:
    """Say when an active key is to be rotated: at its age, less a part that the kid decides, so that it stays put."""
    begun = record.activated_at or record.staged_at
    share = int.from_bytes(b64url_decode(record.key.thumbprint)[:4], "big") / 2**32
    return begun + max_age * (1 - _JITTER * share)


# -- readiness --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One party that has to hold a key before it signs."""

    entity_id: str
    province: str
    reachable: bool
    holds: bool
    refuses: bool = False
    """It knows the key as revoked."""
    acknowledged_at: datetime | None = None
    """When it last said what it holds, by our clock; None: never, or it is an anchor, whose word is its statement."""
    charter_version: int = 0
    clock_offset: timedelta | None = None
    """Its clock minus ours."""
    is_anchor: bool = False

    @property
    def blocks(self) -> bool:
        """Whether it keeps the key from being activated, window or not."""
        return self.refuses or (self.reachable and not self.holds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What is known of who holds the next key."""

    holders: tuple[Holder, ...] = ()
    """Each that can be reached has to hold it."""
    since: datetime | None = None
    """When a quorum of anchors first attested it (for an anchor's key: when the charter listed it); None: not yet."""
    witnesses: tuple[Holder, ...] = ()
    """For a federation key the gateways: once all that can be reached hold it, the window need not be waited for."""


def opens_at(readiness: Readiness, timing: Timing) -> datetime | None:
    """Say when the publication window has passed; None: it has not begun."""
    return None if readiness.since is None else readiness.since + timing.window


def blockers(readiness: Readiness, timing: Timing, now: datetime) -> tuple[str, ...]:
    """Say what keeps a published key from being activated, one line a party."""
    lines = [_complaint(holder, now) for holder in readiness.holders if holder.blocks]
    opens = opens_at(readiness, timing)
    if opens is None:
        lines.append("no quorum of anchors attests the key yet; the publication window begins when one does")
    elif now < opens and not _witnessed(readiness):
        lines.append(f"the publication window is open for {_span(opens - now)} yet, until {_moment(opens)}")
    return tuple(lines)


def warnings(readiness: Readiness, now: datetime) -> tuple[str, ...]:
    """Name those that do not hold the key, cannot be reached, and so do not block."""
    return tuple(
        f"{_complaint(holder, now)}; it cannot be reached; for this key it says indeterminate until it has caught up"
        for holder in readiness.holders
        if not (holder.reachable or holder.holds or holder.refuses)
    )


def check_ready(readiness: Readiness, timing: Timing, now: datetime) -> None:
    """See to it that a published key may be activated.

    Raises:
        WrongState: something keeps it from that; ``blockers`` says what.
    """
    found = blockers(readiness, timing, now)
    if found:
        raise WrongState("not everybody who has to holds the key yet", found)


def _witnessed(readiness: Readiness) -> bool:
    reachable = [each for each in readiness.witnesses if each.reachable]
    return bool(reachable) and all(each.holds for each in reachable)


def _complaint(holder: Holder, now: datetime) -> str:
    who = f"{holder.province} {holder.entity_id}"
    if holder.refuses:
        return f"{who} refuses this key as revoked"
    if holder.is_anchor:
        return f"{who} does not attest this key"
    if holder.acknowledged_at is None:
        return f"{who} has not acknowledged any view yet"
    return f"{who} acknowledged {_span(now - holder.acknowledged_at)} ago a view without this key"


def _span(span: timedelta) -> str:
    """Write a span for people, in the one unit that says enough."""
    seconds = max(0, int(span.total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# -- plan -------------------------------------------------------------------------------------------------------------


class StepKind(StrEnum):
    """What a step of a rotation does."""

    STAGE = "stage"
    PUBLISH = "publish"
    WAIT = "wait"
    ACTIVATE = "activate"
    DRAIN = "drain"
    RETIRE = "retire"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a rotation."""

    kind: StepKind
    done: bool = False
    at: datetime | None = None
    """When it was done, or the earliest that it can be; None: nobody can tell."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationPlan:
    """A rotation as it stands."""

    purpose: KeyPurpose
    current: KeyRecord | None
    """The key that signs."""
    following: KeyRecord | None
    """The key that will."""
    steps: tuple[Step, ...]
    signed_until: datetime | None
    """What the old key signed stays valid until then; None: it signed nothing."""
    holders: tuple[Holder, ...]
    etag: str


def plan(
    purpose: KeyPurpose,
    records: Records,
    readiness: Readiness,
    timing: Timing,
    now: datetime,
    *,
    after: bool = False,
) -> RotationPlan:
    """Say what rotating would do and when, from where things stand.

    Args:
        purpose: what the keys sign.
        records: the keys.
        readiness: who holds the key in question.
        timing: how long things take.
        now: the time.
        after: show the rotation that led to the active key, not the one that comes next.
    """
    current = active(records)
    new, old = (current, drained_last(records)) if after else (waiting(records), current)
    steps = (*_until_active(purpose, new, readiness, timing, now), *_until_retired(purpose, old, timing, now))
    return RotationPlan(
        purpose=purpose,
        current=current,
        following=None if after else new,
        steps=steps,
        signed_until=None if old is None else old.signed_until,
        holders=readiness.holders,
        etag=_etag(purpose, records, readiness, steps),
    )


def _until_active(
    purpose: KeyPurpose, new: KeyRecord | None, readiness: Readiness, timing: Timing, now: datetime
) -> tuple[Step, ...]:
    if new is None:
        stage_step, publish_step = Step(kind=StepKind.STAGE, at=now), Step(kind=StepKind.PUBLISH, at=now)
        earliest: datetime | None = now + timing.window
        detail = "once everybody who has to acknowledged the key and the publication window has passed"
    else:
        stage_step = Step(kind=StepKind.STAGE, done=True, at=new.staged_at)
        publish_step = Step(kind=StepKind.PUBLISH, done=new.published_at is not None, at=new.published_at or now)
        open_lines = blockers(readiness, timing, now)
        earliest = opens_at(readiness, timing)
        detail = "; ".join((*open_lines, *warnings(readiness, now)))
    if purpose is KeyPurpose.ANCHOR_FEDERATION and not publish_step.done:
        publish_step = replace(
            publish_step,
            at=None,
            detail="carry the public key into the next charter (mrg charter); it is published when that is in force",
        )
        earliest = None
    begun = new is not None and new.activated_at is not None
    ready = begun or (new is not None and publish_step.done and not blockers(readiness, timing, now))
    return (
        stage_step,
        publish_step,
        Step(kind=StepKind.WAIT, done=ready, at=earliest if not begun else None, detail="" if begun else detail),
        Step(kind=StepKind.ACTIVATE, done=begun, at=new.activated_at if new is not None and begun else earliest),
    )


def _until_retired(purpose: KeyPurpose, old: KeyRecord | None, timing: Timing, now: datetime) -> tuple[Step, ...]:
    if old is None:
        return (Step(kind=StepKind.DRAIN, detail="no key signs now"), Step(kind=StepKind.RETIRE))
    end = drained(old, timing, now)
    signed = "it signed nothing" if old.signed_until is None else f"what it signed lapses {_moment(old.signed_until)}"
    detail = "a later charter may drop the key" if purpose is KeyPurpose.ANCHOR_FEDERATION else ""
    return (
        Step(kind=StepKind.DRAIN, done=end <= now and old.drained_at is not None, at=end, detail=signed),
        Step(kind=StepKind.RETIRE, done=old.retired_at is not None, at=old.retired_at or end, detail=detail),
    )


def _etag(purpose: KeyPurpose, records: Records, readiness: Readiness, steps: tuple[Step, ...]) -> str:
    """Digest what the plan was made from, less what changes by the minute and decides nothing."""
    inputs = {
        "purpose": purpose.value,
        "keys": [[each.key.kid, each.state.value] for each in records],
        "holders": [
            [each.entity_id, each.reachable, each.holds, each.refuses]
            for each in (*readiness.holders, *readiness.witnesses)
        ],
        "steps": [[step.kind.value, step.done] for step in steps],
    }
    return sha256_b64url(write_json(inputs))
