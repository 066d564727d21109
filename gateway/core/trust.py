"""Trust: from what anchors say to the keys that count.

Rules that live here:

* Votes are counted *per key*. A key of a member is usable when at least ``quorum`` distinct anchors attest that key for
  that member. Fewer is not trust. The same anchor never counts twice, because there is one chain for it (``votes``).
* Keys are looked up by (member, kid) only, for one purpose. There is no pooled set in which one province's key could
  vouch for another.
* The view is recomputed at each refresh, never accumulated: what is not attested now is gone. What is remembered for
  ever only takes away: revocations, withdrawals, proofs of equivocation.
* Absence is not evidence. "No such key" is only said when enough anchors with fresh documents say so; otherwise the
  answer is indeterminate. An anchor that pins a key does not say so, even where the issuer's own list lacks it: the
  list held may be older than the anchor's.
* An application key must be pinned by the anchors' statements and listed by the member itself. The anchors' word alone
  would keep alive a key that its owner withdrew; the owner's alone would need no anchors.
* The keys of a gateway, for receipts and for checkpoints of audit logs, are counted exactly like those of an issuer.
* What one member says about itself can take nothing from another: it is evidence about that member only.
* A revoked key is refused whatever else is known. A clock that shows less than a quorum of anchors has attested decides
  nothing: to it, everything would look fresh.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from gateway.core.charter import GATEWAY_TYPE, ISSUER_TYPE, Charter, CharterAnchor, Member
from gateway.core.encoding import sha256_b64url
from gateway.core.jose import PublicKey
from gateway.core.memory import Revocation, RevocationReason, TrustMemory
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.statements import PROFILE
from gateway.core.votes import Evidence, Reader, Vote


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """An application key that a quorum of anchors attests for one member."""

    key: PublicKey
    anchors: tuple[str, ...]
    fresh_until: datetime
    """Until then a quorum of unexpired chains attests it."""
    stale_until: datetime
    """Until then it may still be used, marked stale."""
    signed_before: datetime | None = None
    """It was superseded then: only what it signed before counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why an anchor's chain for a member does not count, or a document was refused. For administrators."""

    issuer: str
    subject: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What a person has to look at: not an outage, but somebody who breaks the rules, or a clock that does."""

    reason: Reason
    issuer: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognisedIssuer:
    """One issuer as this view sees it."""

    entity_id: str
    province: str
    name_zh: str
    name_en: str
    credential_types: frozenset[str]
    keys: Mapping[str, TrustedKey]
    """Credential keys by kid; none that is revoked as compromised."""
    votes: tuple[Vote, ...]
    status_keys: Mapping[str, TrustedKey] = field(default_factory=dict)
    """Keys for status lists, likewise."""
    status_lists: Mapping[str, int] = field(default_factory=dict)
    """The status lists that a quorum of anchors lets it have: how many credentials each is for, by uri."""
    revocations: Mapping[str, Revocation] = field(default_factory=dict)
    """By kid: every key that the issuer ever revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognisedGateway:
    """One province's gateway as this view sees it."""

    entity_id: str
    province: str
    receipt_keys: Mapping[str, TrustedKey]
    """Keys for receipts by kid; none that is revoked as compromised."""
    audit_keys: Mapping[str, TrustedKey]
    """Keys for checkpoints of audit logs, likewise."""
    votes: tuple[Vote, ...]
    revocations: Mapping[str, Revocation] = field(default_factory=dict)
    """By kid: every key that the gateway ever revoked."""


_Recognised = TypeVar("_Recognised", RecognisedIssuer, RecognisedGateway)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorState:
    """One anchor's own configuration as last seen, when it counts."""

    entity_id: str
    province: str
    issued_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """A federation key of a member and the anchors that attest it, be they a quorum or not."""

    key: PublicKey
    anchors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustView:
    """The immutable result of one refresh. A verification reads one view from start to end."""

    view_id: str
    built_at: datetime
    charter: Charter
    anchors: tuple[AnchorState, ...]
    issuers: Mapping[str, RecognisedIssuer]
    gateways: Mapping[str, RecognisedGateway]
    problems: tuple[Problem, ...]
    alarms: tuple[Alarm, ...] = ()
    """What stays wrong until a person acts."""
    clock_floor: datetime | None = None
    """The latest time that a quorum of anchors attested."""
    attestations: Mapping[str, Mapping[str, Attestation]] = field(default_factory=dict)
    """By member, then by thumbprint."""
    revocations: Mapping[tuple[str, str], Revocation] = field(default_factory=dict)
    """By (member, kid)."""
    confirmed_at: datetime | None = field(init=False)
    """When a quorum of anchors last spoke: the age of the trust data counts from here."""

    def __post_init__(self) -> None:
        """Work out what every verification asks."""
        spoken = sorted((state.issued_at for state in self.anchors if state.issued_at is not None), reverse=True)
        quorum = self.charter.quorum
        object.__setattr__(self, "confirmed_at", spoken[quorum - 1] if len(spoken) >= quorum else None)

    def issuer(self, entity_id: str) -> RecognisedIssuer:
        """Look up an issuer. Raises Rejected(ISSUER_UNKNOWN)."""
        found = self.issuers.get(entity_id)
        if found is None:
            raise Rejected(Reason.ISSUER_UNKNOWN, "issuer is not a member of the federation")
        return found

    def gateway(self, entity_id: str) -> RecognisedGateway:
        """Look up a gateway. Raises Rejected(ISSUER_UNKNOWN)."""
        found = self.gateways.get(entity_id)
        if found is None:
            raise Rejected(Reason.ISSUER_UNKNOWN, "not a gateway of the federation")
        return found

    def credential_key(self, issuer: str, kid: str, now: datetime) -> TrustedKey:
        """Look up the key an issuer's credential must be signed with.

        Raises:
            Rejected: KEY_REVOKED for a compromised key, whatever the state of the documents; ISSUER_UNKNOWN;
                ISSUER_WITHDRAWN or KEY_UNKNOWN when enough fresh anchors say so.
            Indeterminate: CLOCK_REGRESSED, or TRUST_STALE when the documents are too old, or too few, to say.
        """
        return self._key(issuer, kid, now, self.issuer, lambda recognised: recognised.keys)

    def status_key(self, issuer: str, kid: str, now: datetime) -> TrustedKey:
        """Look up the key an issuer's status list must be signed with; raises as ``credential_key``."""
        return self._key(issuer, kid, now, self.issuer, lambda recognised: recognised.status_keys)

    def receipt_key(self, gateway: str, kid: str, now: datetime) -> TrustedKey:
        """Look up the key a gateway's receipt must be signed with; raises as ``credential_key``.

        One that has retired meanwhile is unknown here, and in the gateway's historical keys (``history``).
        """
        return self._key(gateway, kid, now, self.gateway, lambda recognised: recognised.receipt_keys)

    def audit_key(self, gateway: str, kid: str, now: datetime) -> TrustedKey:
        """Look up the key a gateway signs checkpoints of audit logs with; see ``receipt_key``."""
        return self._key(gateway, kid, now, self.gateway, lambda recognised: recognised.audit_keys)

    def _key(
        self,
        entity_id: str,
        kid: str,
        now: datetime,
        look_up: Callable[[str], _Recognised],
        keys: Callable[[_Recognised], Mapping[str, TrustedKey]],
    ) -> TrustedKey:
        revocation = self.revocations.get((entity_id, kid))
        if revocation is not None and revocation.reason is RevocationReason.COMPROMISED:
            raise Rejected(Reason.KEY_REVOKED, "its owner revoked this key as compromised")
        self.require_clock(now)
        if now >= self.charter.expires_at:
            raise Indeterminate(Reason.TRUST_STALE, "the charter has expired")
        recognised = look_up(entity_id)
        trusted = keys(recognised).get(kid)
        if trusted is not None:
            if now < trusted.stale_until:
                return trusted
            raise Indeterminate(Reason.TRUST_STALE, "trust documents for the owner of the key are too old")
        fresh = [vote for vote in recognised.votes if vote.expires_at > now]
        if self._is_conclusive(sum(vote.withdrawn for vote in fresh)):
            raise Rejected(Reason.ISSUER_WITHDRAWN, "too many anchors withdrew their word for the owner")
        if not self._is_conclusive(sum(kid not in vote.pinned for vote in fresh)):
            raise Indeterminate(Reason.TRUST_STALE, "too few fresh anchors to say no")
        raise Rejected(Reason.KEY_UNKNOWN, "no quorum of anchors attests this key for this purpose")

    def check_authority(self, issuer: str, credential_type: str, now: datetime) -> None:
        """Check that a quorum of anchors lets the issuer issue this type.

        Raises:
            Rejected: ISSUER_NOT_AUTHORISED when enough fresh anchors do not.
            Indeterminate: TRUST_STALE when too few speak to say.
        """
        recognised = self.issuer(issuer)
        if credential_type in recognised.credential_types:
            return
        against = sum(
            vote.expires_at > now and credential_type not in vote.credential_types for vote in recognised.votes
        )
        if not self._is_conclusive(against):
            raise Indeterminate(Reason.TRUST_STALE, "too few fresh anchors to say no")
        raise Rejected(Reason.ISSUER_NOT_AUTHORISED, "the issuer may not issue this type")

    def require_clock(self, now: datetime) -> None:
        """Refuse to decide by a clock that was set back. Raises Indeterminate(CLOCK_REGRESSED)."""
        if is_regressed(self.clock_floor, now):
            raise Indeterminate(Reason.CLOCK_REGRESSED, "the clock shows less than a quorum of anchors has attested")

    def federation_keys(self, entity_id: str) -> Mapping[str, PublicKey]:
        """Give the federation keys of a member, by kid, that a quorum of anchors attests and it did not revoke."""
        return {
            found.key.kid: found.key
            for found in self.attestations.get(entity_id, {}).values()
            if len(found.anchors) >= self.charter.quorum and (entity_id, found.key.kid) not in self.revocations
        }

    def attesting(self, entity_id: str, thumbprint: str) -> tuple[str, ...]:
        """Give the anchors that attest a federation key of a member now, within the grace."""
        found = self.attestations.get(entity_id, {}).get(thumbprint)
        return () if found is None else found.anchors

    def _is_conclusive(self, against: int) -> bool:
        # Could the anchors that did not just say no make up a quorum? Then we cannot say no either.
        return len(self.charter.anchors) - against < self.charter.quorum


def is_regressed(clock_floor: datetime | None, now: datetime) -> bool:
    """Whether the clock shows clearly less than what a quorum of anchors has attested."""
    return clock_floor is not None and now < clock_floor - PROFILE.clock_skew


# -- building ---------------------------------------------------------------------------------------------------------


def build_view(charter: Charter, memory: TrustMemory, now: datetime, reader: Reader | None = None) -> TrustView:
    """Judge all that is held, and count.

    Args:
        charter: the charter in force.
        memory: what is held.
        now: the time.
        reader: one that may have read some of it before.
    """
    evidence = Evidence(charter, memory, now, reader=reader)
    problems: list[Problem] = []
    votes = {member.entity_id: _votes(evidence, member, problems) for member in charter.members}
    shared = _shared_keys(charter, votes)
    revocations = {
        place: revocation for place, revocation in memory.revocations.items() if charter.member(place[0]) is not None
    }
    return TrustView(
        view_id=_view_id(charter, memory),
        built_at=now,
        charter=charter,
        anchors=tuple(_anchor_state(evidence, anchor) for anchor in charter.anchors),
        issuers={
            member.entity_id: _recognise_issuer(charter, member, votes[member.entity_id], shared, revocations)
            for member in charter.members
            if ISSUER_TYPE in member.entity_types
        },
        gateways={
            member.entity_id: _recognise_gateway(charter, member, votes[member.entity_id], shared, revocations)
            for member in charter.members
            if GATEWAY_TYPE in member.entity_types
        },
        problems=tuple(problems),
        alarms=_lasting_alarms(charter, memory),
        clock_floor=memory.clock_floor,
        attestations={
            member.entity_id: {
                thumbprint: Attestation(key=key, anchors=anchors)
                for thumbprint, (key, anchors) in evidence.attesting(member.entity_id).items()
            }
            for member in charter.members
        },
        revocations=revocations,
    )


def _votes(evidence: Evidence, member: Member, problems: list[Problem]) -> tuple[Vote, ...]:
    votes: list[Vote] = []
    for anchor in evidence.charter.anchors:
        try:
            votes.append(evidence.vote(anchor, member.entity_id))
        except Rejected as rejection:
            problems.append(
                Problem(
                    issuer=anchor.entity_id,
                    subject=member.entity_id,
                    reason=rejection.reason,
                    detail=rejection.detail,
                )
            )
    return tuple(votes)


def _shared_keys(charter: Charter, votes: Mapping[str, Sequence[Vote]]) -> frozenset[str]:
    """Keys that a quorum attests for two members: one could speak for the other, so they serve neither.

    Anchors demand proof of possession, so this takes two members that share a private key, or a corrupt quorum. An
    issuer and a gateway that share one are two, also of one province.
    """
    owners: dict[str, set[str]] = {}
    for member, said in votes.items():
        listed = [
            vote.keys.keys() | vote.status_keys.keys() | vote.receipt_keys.keys() | vote.audit_keys.keys()
            for vote in said
        ]
        for kid in frozenset[str]().union(*listed):
            if sum(kid in kids for kids in listed) >= charter.quorum:
                owners.setdefault(kid, set()).add(member)
    anchors = {key.thumbprint for anchor in charter.anchors for key in anchor.keys.values()}
    return frozenset(anchors | {kid for kid, members in owners.items() if len(members) > 1})


def _recognise_issuer(
    charter: Charter,
    member: Member,
    votes: Sequence[Vote],
    shared: frozenset[str],
    revocations: Mapping[tuple[str, str], Revocation],
) -> RecognisedIssuer:
    own = _of(member, revocations)
    types = {name for vote in votes for name in vote.credential_types}
    # With its size: one that is growing is there again when a quorum has heard of it.
    lists = Counter(entry for vote in votes for entry in vote.status_lists.items())
    return RecognisedIssuer(
        entity_id=member.entity_id,
        province=member.province,
        name_zh=member.name_zh,
        name_en=member.name_en,
        credential_types=frozenset(
            name for name in types if sum(name in vote.credential_types for vote in votes) >= charter.quorum
        ),
        keys=_count(charter, [(vote, vote.keys) for vote in votes], shared, own),
        votes=tuple(votes),
        status_keys=_count(charter, [(vote, vote.status_keys) for vote in votes], shared, own),
        status_lists={uri: size for (uri, size), count in lists.items() if count >= charter.quorum},
        revocations=own,
    )


def _recognise_gateway(
    charter: Charter,
    member: Member,
    votes: Sequence[Vote],
    shared: frozenset[str],
    revocations: Mapping[tuple[str, str], Revocation],
) -> RecognisedGateway:
    own = _of(member, revocations)
    return RecognisedGateway(
        entity_id=member.entity_id,
        province=member.province,
        receipt_keys=_count(charter, [(vote, vote.receipt_keys) for vote in votes], shared, own),
        audit_keys=_count(charter, [(vote, vote.audit_keys) for vote in votes], shared, own),
        votes=tuple(votes),
        revocations=own,
    )


def _of(member: Member, revocations: Mapping[tuple[str, str], Revocation]) -> Mapping[str, Revocation]:
    return {kid: revocation for (owner, kid), revocation in revocations.items() if owner == member.entity_id}


def _count(
    charter: Charter,
    said: Sequence[tuple[Vote, Mapping[str, PublicKey]]],
    shared: frozenset[str],
    revocations: Mapping[str, Revocation],
) -> Mapping[str, TrustedKey]:
    counted: dict[str, TrustedKey] = {}
    for kid in {kid for _, keys in said for kid in keys} - shared:
        attesting = sorted((vote for vote, keys in said if kid in keys), key=lambda vote: vote.expires_at, reverse=True)
        revocation = revocations.get(kid)
        compromised = revocation is not None and revocation.reason is RevocationReason.COMPROMISED
        if len(attesting) < charter.quorum or compromised:
            continue
        fresh_until = attesting[charter.quorum - 1].expires_at
        counted[kid] = TrustedKey(
            key=next(keys[kid] for _, keys in said if kid in keys),
            anchors=tuple(sorted(vote.anchor for vote in attesting)),
            fresh_until=fresh_until,
            stale_until=fresh_until + charter.agreement.stale_grace,
            signed_before=None if revocation is None else revocation.revoked_at,
        )
    return counted


def _anchor_state(evidence: Evidence, anchor: CharterAnchor) -> AnchorState:
    try:
        statement = evidence.head(anchor).statement
    except Rejected:
        return AnchorState(entity_id=anchor.entity_id, province=anchor.province, issued_at=None, expires_at=None)
    return AnchorState(
        entity_id=anchor.entity_id,
        province=anchor.province,
        issued_at=statement.issued_at,
        expires_at=statement.expires_at,
    )


def _lasting_alarms(charter: Charter, memory: TrustMemory) -> tuple[Alarm, ...]:
    return tuple(
        Alarm(
            reason=Reason.EQUIVOCATION,
            issuer=anchor.entity_id,
            subject=anchor.entity_id,
            detail="a key of this anchor signed two documents with one number; it has no vote until the charter"
            " replaces the key",
        )
        for anchor in charter.anchors
        if any((anchor.entity_id, key.thumbprint) in memory.equivocations for key in anchor.keys.values())
    )


def _view_id(charter: Charter, memory: TrustMemory) -> str:
    held = [*memory.documents.values(), *(f"{anchor} {signer}" for anchor, signer in memory.equivocations)]
    held += [" ".join(place) for place in memory.withdrawals]
    held += [
        f"{member} {kid} {revocation.reason} {int(revocation.revoked_at.timestamp())}"
        for (member, kid), revocation in memory.revocations.items()
    ]
    digests = sorted(sha256_b64url(each.encode("utf-8")) for each in held)
    return sha256_b64url("\n".join([charter.sha256, *digests]).encode("ascii"))[:22]


# -- looking back -----------------------------------------------------------------------------------------------------


def view_summary(view: TrustView) -> str:
    """Write down what a view trusts, in the one spelling: the same trust gives the same text.

    Revoked names that no anchor attested are left out: a thief makes up thousands, and this is kept at each change.
    """
    summary = {
        "charter": view.charter.version,
        "issuers": {
            entity_id: _summarise(issuer, {"keys": issuer.keys, "status_keys": issuer.status_keys})
            for entity_id, issuer in view.issuers.items()
        },
        "gateways": {
            entity_id: _summarise(gateway, {"receipt_keys": gateway.receipt_keys, "audit_keys": gateway.audit_keys})
            for entity_id, gateway in view.gateways.items()
        },
    }
    return json.dumps(summary, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _summarise(
    recognised: RecognisedIssuer | RecognisedGateway, keys: Mapping[str, Mapping[str, TrustedKey]]
) -> dict[str, Any]:
    return {
        **{name: {kid: list(key.anchors) for kid, key in each.items()} for name, each in keys.items()},
        "revoked": {
            kid: revocation.reason.value for kid, revocation in recognised.revocations.items() if revocation.attested
        },
        "withdrawn": sorted(vote.anchor for vote in recognised.votes if vote.withdrawn),
    }


SUMMARISED_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "issuers": ("keys", "status_keys"),
    "gateways": ("receipt_keys", "audit_keys"),
}
"""By member of a summary: the names of the sets of keys in it. Summaries made before gateways had keys of their own
have no ``gateways``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that changed from one view to another."""

    issuer: str
    """The member that it concerns. Empty: it concerns the federation as a whole."""
    subject: str
    """``charter``, ``keys``, ``status_keys``, ``receipt_keys``, ``audit_keys``, ``revoked`` or ``withdrawn``."""
    name: str
    """The kid; for ``withdrawn`` the anchor."""
    before: str
    """Empty: it was not there."""
    after: str


def diff_summaries(before: str, after: str) -> tuple[Difference, ...]:
    """Say what changed between two summaries.

    Raises:
        ValueError: one of them is no summary.
    """
    old, new = _flat(before), _flat(after)
    return tuple(
        Difference(
            issuer=place[0], subject=place[1], name=place[2], before=old.get(place, ""), after=new.get(place, "")
        )
        for place in sorted(old.keys() | new.keys())
        if old.get(place) != new.get(place)
    )


def _flat(summary: str) -> Mapping[tuple[str, str, str], str]:
    read: dict[str, Any] = json.loads(summary)
    flat = {("", "charter", "version"): str(read["charter"])}
    for kind, subjects in SUMMARISED_KEYS.items():
        for entity_id, said in read.get(kind, {}).items():
            for subject in subjects:
                for kid, anchors in said[subject].items():
                    flat[entity_id, subject, kid] = " ".join(anchors)
            for kid, reason in said["revoked"].items():
                flat[entity_id, "revoked", kid] = reason
            for anchor in said["withdrawn"]:
                flat[entity_id, "withdrawn", anchor] = "yes"
    return flat
