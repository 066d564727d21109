"""What each anchor says of each member, by the documents held and by what may never be forgotten.

Rules that live here:

* An anchor speaks through one configuration and the statements that its snapshot names, by number and digest. A
  statement that the snapshot does not name is nobody's word, however well signed.
* The anchor's keys are the charter's. A key that was caught signing two documents of one number speaks no more.
* The unmodified OpenID Federation validation runs once per (member, anchor). A chain that fails is dropped and
  reported, never fatal: one broken anchor costs one vote.
* An anchor that withdrew or suspended a member says no, which is different from saying nothing.
* A key that its owner revoked vouches for nothing: at no time when it was compromised, later on when superseded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from gateway.core.chain import Anchor, ResolvedChain, Verify, validate_chain_parsed
from gateway.core.charter import ISSUER_TYPE, Charter, CharterAnchor
from gateway.core.jose import PublicKey
from gateway.core.key_schedule import KeyPurpose
from gateway.core.memory import Place, Revocation, RevocationReason, TrustMemory
from gateway.core.publication import KEY_PARAMETERS, listed_keys
from gateway.core.reasons import Reason, Rejected
from gateway.core.snapshot import Entry, Suspended, Vouched, Withdrawn, payload_digest, read_snapshot
from gateway.core.statements import (
    PROFILE,
    EntityStatement,
    UnverifiedStatement,
    check_times,
    parse_statement,
    verify_signature,
)
from gateway.core.status_list import STATUS_LISTS, read_registered

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What one anchor says of one member."""

    anchor: str
    expires_at: datetime
    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    """Credential keys pinned by the anchor and listed by the issuer."""
    status_keys: Mapping[str, PublicKey] = field(default_factory=dict)
    """Keys for status lists, likewise."""
    receipt_keys: Mapping[str, PublicKey] = field(default_factory=dict)
    """Keys for receipts, pinned by the anchor and listed by the gateway."""
    audit_keys: Mapping[str, PublicKey] = field(default_factory=dict)
    """Keys for checkpoints, likewise."""
    pinned: frozenset[str] = frozenset()
    """Names of all application keys that the anchor pins, listed by the member or not."""
    credential_types: frozenset[str] = frozenset()
    status_lists: Mapping[str, int] = field(default_factory=dict)
    """The issuer's status lists, as the chain lets it have them: size by uri."""
    withdrawn: bool = False
    """The anchor took its word back, for a while or for good. Nothing is granted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An anchor's configuration: verified, in time, and by a key that was not caught."""

    anchor: CharterAnchor
    statement: EntityStatement
    snapshot: Mapping[str, Entry]


class Reader:
    """Reads statements and verifies signatures, each once: the same text and the same key always give the same.

    Thread-safe: what one forgets while another reads is only read again.

    Only what succeeded is kept. Whoever keeps a reader has to ``forget`` now and then, or strangers fill it.
    """

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._read: dict[str, UnverifiedStatement] = {}
        self._verified: dict[str, EntityStatement] = {}

    def read(self, token: str) -> UnverifiedStatement:
        """Read a statement; see ``parse_statement``."""
        statement = self._read.get(token)
        if statement is None:  # looked up once: others may forget meanwhile
            statement = self._read[token] = parse_statement(token, PROFILE)
        return statement

    def verify(self, statement: UnverifiedStatement, key: PublicKey) -> EntityStatement:
        """Verify a signature; see ``verify_signature``."""
        known = self._verified.get(statement.token)
        if known is not None and _is_same(known.signer, key):
            return known
        verified = verify_signature(statement, key)
        self._verified[statement.token] = verified
        return verified

    def forget(self, but: Container[str]) -> None:
        """Drop all statements but these."""
        self._read = {token: each for token, each in list(self._read.items()) if token in but}
        self._verified = {token: each for token, each in list(self._verified.items()) if token in but}


class Evidence:
    """The documents held, under one charter and at one time. Each is read and each head judged once."""

    def __init__(
        self,
        charter: Charter,
        memory: TrustMemory,
        now: datetime,
        *,
        grace: timedelta | None = None,
        reader: Reader | None = None,
    ) -> None:
        """Prepare to look at what is held.

        Args:
            charter: the charter in force.
            memory: what is held.
            now: the time.
            grace: how long after their expiry documents are still heard; by default as the charter has it.
            reader: one that may have read some of it before.
        """
        self.charter = charter
        self.memory = memory
        self.now = now
        self._grace = charter.agreement.stale_grace if grace is None else grace
        self._reader = Reader() if reader is None else reader
        self._heads: dict[str, Head | Rejected] = {}
        self._attestations: dict[Place, EntityStatement | Rejected] = {}

    def statement(self, place: Place) -> UnverifiedStatement:
        """Read a statement held.

        Raises:
            Rejected: TRUST_STALE when none is held; or it cannot be read.
        """
        token = self.memory.documents.get(place)
        if token is None:
            raise Rejected(Reason.TRUST_STALE, "a document of the chain is not held")
        statement = self._reader.read(token)
        if (statement.iss, statement.sub) != place:
            raise Rejected(Reason.STATEMENT_INVALID, "a document is held in the place of another")
        return statement

    def head(self, anchor: CharterAnchor) -> Head:
        """Give an anchor's configuration.

        Raises:
            Rejected: there is none that counts.
        """
        return _once(self._heads, anchor.entity_id, lambda: self._judge_head(anchor))

    def attestation(self, anchor: CharterAnchor, member: str) -> EntityStatement:
        """Give what the anchor states about a member, whatever the member says of itself.

        Raises:
            Rejected: it states nothing that counts.
        """
        return _once(self._attestations, (anchor.entity_id, member), lambda: self._judge_statement(anchor, member))

    def vote(self, anchor: CharterAnchor, member: str) -> Vote:
        """Judge what an anchor says of a member.

        Raises:
            Rejected: nothing that counts.
        """
        head = self.head(anchor)
        silent_until = self._silent_until(head, member)
        if silent_until is not None:
            return Vote(anchor=anchor.entity_id, expires_at=silent_until, withdrawn=True)
        chain, named = self.chain(anchor, member), self.charter.member(member)
        return _read_vote(anchor.entity_id, chain, frozenset() if named is None else named.entity_types)

    def chain(
        self, anchor: CharterAnchor, member: str, configuration: UnverifiedStatement | None = None
    ) -> ResolvedChain:
        """Validate the chain from a member, by the configuration held or by another, to an anchor.

        Raises:
            Rejected: it does not hold.
        """
        head = self.head(anchor)
        statement = self._named(head, member)
        configuration = configuration or self.statement((member, member))
        self._require_not_revoked(configuration)
        # The anchor's keys are the charter's; what its own configuration lists is not looked at.
        configured = Anchor(entity_id=anchor.entity_id, keys=anchor.keys)
        own = self.statement((anchor.entity_id, anchor.entity_id))
        chain = validate_chain_parsed(
            [configuration, statement, own],
            configured,
            PROFILE,
            self.now,
            grace=self._grace,
            verify=self._reader.verify,
        )
        self._require_not_caught(anchor, chain.statements[1].signer)
        return chain

    def attesting(self, member: str) -> Mapping[str, tuple[PublicKey, tuple[str, ...]]]:
        """Give the federation keys that anchors attest for a member, by thumbprint, each with its anchors."""
        found: dict[str, tuple[PublicKey, tuple[str, ...]]] = {}
        for anchor in self.charter.anchors:
            try:
                statement = self.attestation(anchor, member)
            except Rejected:
                continue
            for key in statement.jwks.values():
                known, anchors = found.get(key.thumbprint, (key, ()))
                found[key.thumbprint] = (known, (*anchors, anchor.entity_id))
        return found

    def federation_keys(self, member: str) -> Mapping[str, PublicKey]:
        """Give the federation keys, by kid, that a quorum of anchors attests and the member did not revoke."""
        return {
            key.kid: key
            for key, anchors in self.attesting(member).values()
            if len(anchors) >= self.charter.quorum and (member, key.kid) not in self.memory.revocations
        }

    def _judge_head(self, anchor: CharterAnchor) -> Head:
        statement = self.statement((anchor.entity_id, anchor.entity_id))
        check_times(statement, PROFILE, self.now, grace=self._grace)
        verified = verify_by_charter(anchor, statement, self._reader.verify)
        self._require_not_caught(anchor, verified.signer)
        return Head(anchor=anchor, statement=verified, snapshot=read_snapshot(verified))

    def _judge_statement(self, anchor: CharterAnchor, member: str) -> EntityStatement:
        head = self.head(anchor)
        if self._silent_until(head, member) is not None:
            raise Rejected(Reason.ISSUER_WITHDRAWN, "the anchor took its word for the member back")
        statement = self._named(head, member)
        check_times(statement, PROFILE, self.now, grace=self._grace)
        verified = verify_by_charter(anchor, statement, self._reader.verify)
        self._require_not_caught(anchor, verified.signer)
        return verified

    def _named(self, head: Head, member: str) -> UnverifiedStatement:
        entry = head.snapshot.get(member)
        if not isinstance(entry, Vouched):
            raise Rejected(Reason.TRUST_STALE, "the anchor does not vouch for the member")
        statement = self.statement((head.anchor.entity_id, member))
        if not matches(entry, statement):
            raise Rejected(Reason.SNAPSHOT_MISMATCH, "the statement held is not the one that the snapshot names")
        return statement

    def _silent_until(self, head: Head, member: str) -> datetime | None:
        """Until when the anchor has said that it says nothing for the member; None: it has not."""
        entry = head.snapshot.get(member)
        expires_at = head.statement.expires_at
        if isinstance(entry, Withdrawn) or self._is_withdrawn(head.anchor, member):
            return expires_at
        if isinstance(entry, Suspended) and self.now < entry.until:
            return min(expires_at, entry.until)
        return None

    def _is_withdrawn(self, anchor: CharterAnchor, member: str) -> bool:
        return any(
            (anchor.entity_id, key.thumbprint, member) in self.memory.withdrawals for key in anchor.keys.values()
        )

    def _require_not_caught(self, anchor: CharterAnchor, signer: PublicKey) -> None:
        if (anchor.entity_id, signer.thumbprint) in self.memory.equivocations:
            raise Rejected(Reason.EQUIVOCATION, "the anchor's key signed two documents with one number")

    def _require_not_revoked(self, configuration: UnverifiedStatement) -> None:
        revocation = self.memory.revocations.get((configuration.iss, configuration.kid))
        if revocation is not None and is_revoked(revocation, configuration.issued_at):
            raise Rejected(Reason.KEY_REVOKED, "configuration is signed by a key that the member revoked")


def _is_same(one: PublicKey, other: PublicKey) -> bool:
    return (one.kid, one.thumbprint, one.algorithm) == (other.kid, other.thumbprint, other.algorithm)


def is_revoked(revocation: Revocation, signed_at: datetime) -> bool:
    """Whether a revocation takes away a signature that bears a time."""
    return revocation.reason is RevocationReason.COMPROMISED or signed_at >= revocation.revoked_at


def matches(entry: Vouched, statement: UnverifiedStatement | EntityStatement) -> bool:
    """Whether a statement is the one that an entry of a snapshot names."""
    return statement.claims.get("seq") == entry.seq and payload_digest(statement) == entry.sha256


def verify_by_charter(
    anchor: CharterAnchor, statement: UnverifiedStatement, verify: Verify = verify_signature
) -> EntityStatement:
    """Verify a statement of an anchor by the keys that the charter lists for it, never by its own.

    Raises:
        Rejected: KEY_UNKNOWN, ALGORITHM_NOT_ALLOWED, SIGNATURE_INVALID.
    """
    key = anchor.keys.get(statement.kid)
    if key is None:
        raise Rejected(Reason.KEY_UNKNOWN, "signed by a key that the charter does not list for the anchor")
    return verify(statement, key)


def _once(memo: dict[Any, _Found | Rejected], name: object, judge: Callable[[], _Found]) -> _Found:
    if name not in memo:
        try:
            memo[name] = judge()
        except Rejected as rejection:
            memo[name] = rejection
    found = memo[name]
    if isinstance(found, Rejected):
        raise Rejected(found.reason, found.detail)
    return found


def _read_vote(anchor_id: str, chain: ResolvedChain, entity_types: frozenset[str]) -> Vote:
    # What the charter does not have the member be, no anchor makes it. An anchor that does not allow an entity type
    # strips it: the chain is valid and grants nothing of that type.
    granted = {name: parameters for name, parameters in chain.metadata.items() if name in entity_types}
    issuer = granted.get(ISSUER_TYPE, {})
    types = issuer.get("credential_types", [])
    if not isinstance(types, list) or not all(isinstance(name, str) for name in types):
        raise Rejected(Reason.STATEMENT_INVALID, "credential_types is not a list of strings")
    purposes = [purpose for purpose, (entity_type, _) in KEY_PARAMETERS.items() if entity_type in granted]
    configuration, statement = chain.statements[0].metadata, chain.statements[1].metadata
    pinned = {purpose: listed_keys(statement, purpose) for purpose in purposes}
    keys = _sole(chain, {purpose: _both(listed_keys(configuration, purpose), pinned[purpose]) for purpose in purposes})
    return Vote(
        anchor=anchor_id,
        expires_at=chain.expires_at,
        keys=keys.get(KeyPurpose.CREDENTIAL, {}),
        status_keys=keys.get(KeyPurpose.STATUS, {}),
        receipt_keys=keys.get(KeyPurpose.RECEIPT, {}),
        audit_keys=keys.get(KeyPurpose.AUDIT, {}),
        pinned=frozenset(kid for each in pinned.values() for kid in each),
        credential_types=frozenset(types),
        status_lists=read_registered(chain.statements[0].sub, issuer.get(STATUS_LISTS)),
    )


def _both(listed: Mapping[str, PublicKey], pinned: Mapping[str, PublicKey]) -> Mapping[str, PublicKey]:
    return {
        # As the member lists it: an RSA key fits two algorithms, and which one is not the anchor's to choose. A kid is
        # the key's thumbprint, so the same kid is the same key.
        kid: key
        for kid, key in listed.items()
        if kid in pinned and pinned[kid].algorithm is key.algorithm
    }


def _sole(
    chain: ResolvedChain, keys: Mapping[KeyPurpose, Mapping[str, PublicKey]]
) -> Mapping[KeyPurpose, Mapping[str, PublicKey]]:
    """Give the keys that serve one purpose and no other.

    A federation key that also signed credentials would let a stolen credential key rewrite its own trust.
    """
    uses = Counter(kid for each in keys.values() for kid in each)
    uses.update(key.thumbprint for key in chain.federation_keys.values())
    return {purpose: {kid: key for kid, key in each.items() if uses[kid] == 1} for purpose, each in keys.items()}
