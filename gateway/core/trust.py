"""Trust: from signed documents to the keys that count.

Rules that live here (DESIGN section 3):

* The unmodified OpenID Federation validation runs once per (member, anchor). A chain that fails is dropped and
  reported, never fatal: one broken anchor costs one vote.
* Votes are counted *per key*. A credential key of an issuer is usable when at least ``quorum`` distinct anchors attest
  that key for that issuer. Fewer is not trust. The same anchor never counts twice, because there is one chain for it.
* Keys are looked up by (issuer, kid) only. There is no pooled set in which one province's key could vouch for another.
* The view is recomputed from current documents at each refresh, never accumulated: what is not attested now is gone.
* Absence is not evidence. "No such key" is only said when enough anchors with fresh documents say so; otherwise the
  answer is indeterminate.
* A document is replaced only by one that is as good: garbage served under a member's name leaves the old one in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.core.chain import Anchor, ResolvedChain, validate_chain_parsed
from gateway.core.charter import ISSUER_TYPE, Charter, CharterAnchor, Member
from gateway.core.encoding import sha256_b64url
from gateway.core.jose import PublicKey, import_jwks
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.statements import (
    PROFILE,
    UnverifiedStatement,
    check_times,
    parse_statement,
    verify_signature,
)

MAX_OFFERED: Final = 2_000
"""Documents one refresh may bring: 400 members of 4 anchors, and the anchors."""

Documents = Mapping[tuple[str, str], str]
"""Signed statements by (issuer, subject), each the string as its author signed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A credential key that a quorum of anchors attests for one issuer."""

    key: PublicKey
    anchors: tuple[str, ...]
    fresh_until: datetime
    """Until then a quorum of unexpired chains attests it."""
    stale_until: datetime
    """Until then it may still be used, marked stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What one anchor's chain says of one member."""

    anchor: str
    expires_at: datetime
    keys: Mapping[str, PublicKey]
    credential_types: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why an anchor's chain for a member does not count, or a document was refused. For administrators."""

    issuer: str
    subject: str
    reason: Reason
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
    votes: tuple[Vote, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorState:
    """One anchor's own configuration as last seen."""

    entity_id: str
    province: str
    issued_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustView:
    """The immutable result of one refresh. A verification reads one view from start to end."""

    view_id: str
    built_at: datetime
    charter: Charter
    anchors: tuple[AnchorState, ...]
    issuers: Mapping[str, RecognisedIssuer]
    problems: tuple[Problem, ...]

    def issuer(self, entity_id: str) -> RecognisedIssuer:
        """Look up an issuer. Raises Rejected(ISSUER_UNKNOWN)."""
        found = self.issuers.get(entity_id)
        if found is None:
            raise Rejected(Reason.ISSUER_UNKNOWN, "issuer is not a member of the federation")
        return found

    def credential_key(self, issuer: str, kid: str, now: datetime) -> TrustedKey:
        """Look up the key an issuer's credential must be signed with.

        Raises:
            Rejected: ISSUER_UNKNOWN, or KEY_UNKNOWN when enough fresh anchors do not attest it.
            Indeterminate: TRUST_STALE when the documents are too old, or too few, to say.
        """
        if now >= self.charter.expires_at:
            raise Indeterminate(Reason.TRUST_STALE, "the charter has expired")
        recognised = self.issuer(issuer)
        trusted = recognised.keys.get(kid)
        if trusted is not None:
            if now < trusted.stale_until:
                return trusted
            raise Indeterminate(Reason.TRUST_STALE, "trust documents for the issuer are too old")
        # Could the anchors we have no fresh word from make up a quorum for it? Then we cannot say no.
        against = sum(1 for vote in recognised.votes if vote.expires_at > now and kid not in vote.keys)
        if len(self.charter.anchors) - against >= self.charter.quorum:
            raise Indeterminate(Reason.TRUST_STALE, "too few fresh anchors to say that the key is unknown")
        raise Rejected(Reason.KEY_UNKNOWN, "no quorum of anchors attests this key for the issuer")

    def confirmed_at(self) -> datetime | None:
        """When a quorum of anchors last spoke: the age of the trust data counts from here."""
        spoken = sorted((state.issued_at for state in self.anchors if state.issued_at is not None), reverse=True)
        quorum = self.charter.quorum
        return spoken[quorum - 1] if len(spoken) >= quorum else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The documents to hold after an offer."""

    documents: Documents
    changed: tuple[tuple[str, str], ...]
    refused: tuple[Problem, ...]


def build_view(charter: Charter, documents: Documents, now: datetime) -> TrustView:
    """Judge all documents held, and count."""
    statements, problems = _parse_all(documents)
    grace = charter.agreement.stale_grace
    chains: dict[str, list[Vote]] = {}
    for member in charter.members:
        if ISSUER_TYPE in member.entity_types:
            votes, failed = _votes(charter, member, statements, now)
            chains[member.entity_id] = votes
            problems.extend(failed)
    excluded = _misused_keys(charter, chains, statements)
    return TrustView(
        view_id=_view_id(charter, documents),
        built_at=now,
        charter=charter,
        anchors=tuple(_anchor_state(anchor, statements, now, grace) for anchor in charter.anchors),
        issuers={
            member.entity_id: _recognise(charter, member, chains[member.entity_id], excluded)
            for member in charter.members
            if member.entity_id in chains
        },
        problems=tuple(problems),
    )


def admit(charter: Charter, held: Documents, offered: Sequence[str], now: datetime) -> Admission:
    """Take what is good from an offer, keep what is held where the offer is not better.

    An anchor's statement stands on its signature by a charter key. A member's configuration is only self-signed, and
    anybody can write one; it replaces the one held only if that loses no anchor's chain.
    """
    documents = dict(held)
    changed: list[tuple[str, str]] = []
    refused: list[Problem] = []
    parsed: list[UnverifiedStatement] = []
    for token in offered[:MAX_OFFERED]:
        try:
            parsed.append(parse_statement(token, PROFILE))
        except Rejected as rejection:
            refused.append(Problem(issuer="?", subject="?", reason=rejection.reason, detail=rejection.detail))
    anchors = {anchor.entity_id for anchor in charter.anchors}
    parsed.sort(key=lambda statement: statement.iss not in anchors)  # a member's chain needs its anchors' word first
    for statement in parsed:
        place = (statement.iss, statement.sub)
        if documents.get(place) == statement.token:
            continue
        try:
            _check_offer(charter, documents, statement, now)
        except Rejected as rejection:
            refused.append(Problem(issuer=place[0], subject=place[1], reason=rejection.reason, detail=rejection.detail))
        else:
            documents[place] = statement.token
            changed.append(place)
    return Admission(documents=documents, changed=tuple(changed), refused=tuple(refused))


def _check_offer(charter: Charter, held: Documents, offer: UnverifiedStatement, now: datetime) -> None:
    anchor = charter.anchor(offer.iss)
    member = charter.member(offer.sub)
    if anchor is None and (member is None or not offer.is_configuration):
        raise Rejected(Reason.ISSUER_UNKNOWN, "neither an anchor's statement nor a member's configuration")
    if anchor is not None and member is None and not offer.is_configuration:
        raise Rejected(Reason.ISSUER_UNKNOWN, "subject is not a member")
    check_times(offer, PROFILE, now)
    # An anchor's keys come from the charter, never from the statement itself.
    keys = anchor.keys if anchor is not None else offer.jwks
    key = keys.get(offer.kid)
    if key is None:
        raise Rejected(Reason.KEY_UNKNOWN, "signed by a key that is not the issuer's")
    verify_signature(offer, key)
    held_token = held.get((offer.iss, offer.sub))
    if held_token is None:
        return
    # One from the future was taken in while our clock ran ahead. Nobody can use it now, and it must not keep out what
    # can be used until the time has caught up with it.
    if offer.issued_at < parse_statement(held_token, PROFILE).issued_at <= now + PROFILE.clock_skew:
        raise Rejected(Reason.STATEMENT_INVALID, "older than the statement held")
    if anchor is None and member is not None:
        after = {**held, (offer.iss, offer.sub): offer.token}
        if _live_chains(charter, member, after, now) < _live_chains(charter, member, held, now):
            raise Rejected(Reason.CHAIN_INVALID, "would lose a chain that the configuration held has")


def _live_chains(charter: Charter, member: Member, documents: Documents, now: datetime) -> int:
    statements, _ = _parse_all(
        {place: token for place, token in documents.items() if place[1] == member.entity_id or place[0] == place[1]}
    )
    return sum(_holds(anchor, member, statements, now) for anchor in charter.anchors)


def _holds(anchor: CharterAnchor, member: Member, statements: Statements, now: datetime) -> bool:
    try:
        _chain(anchor, member, statements, now, grace=timedelta(0))
    except Rejected:
        return False
    return True


Statements = Mapping[tuple[str, str], UnverifiedStatement]


def _parse_all(documents: Documents) -> tuple[Statements, list[Problem]]:
    statements: dict[tuple[str, str], UnverifiedStatement] = {}
    problems: list[Problem] = []
    for place, token in documents.items():
        try:
            statements[place] = parse_statement(token, PROFILE)
        except Rejected as rejection:
            problems.append(
                Problem(issuer=place[0], subject=place[1], reason=rejection.reason, detail=rejection.detail)
            )
    return statements, problems


def _chain(
    anchor: CharterAnchor, member: Member, statements: Statements, now: datetime, *, grace: timedelta
) -> ResolvedChain:
    places = (
        (member.entity_id, member.entity_id),
        (anchor.entity_id, member.entity_id),
        (anchor.entity_id, anchor.entity_id),
    )
    chain = [statements[place] for place in places if place in statements]
    if len(chain) < len(places):
        raise Rejected(Reason.TRUST_STALE, "a document of the chain is not held")
    # The anchor's keys are the charter's; what its own configuration lists is not looked at.
    configured = Anchor(entity_id=anchor.entity_id, keys=anchor.keys)
    return validate_chain_parsed(chain, configured, PROFILE, now, grace=grace)


def _votes(charter: Charter, member: Member, statements: Statements, now: datetime) -> tuple[list[Vote], list[Problem]]:
    votes: list[Vote] = []
    problems: list[Problem] = []
    for anchor in charter.anchors:
        try:
            chain = _chain(anchor, member, statements, now, grace=charter.agreement.stale_grace)
            votes.append(_vote(anchor.entity_id, chain))
        except Rejected as rejection:
            problems.append(
                Problem(
                    issuer=anchor.entity_id,
                    subject=member.entity_id,
                    reason=rejection.reason,
                    detail=rejection.detail,
                )
            )
    return votes, problems


def _vote(anchor_id: str, chain: ResolvedChain) -> Vote:
    # An anchor that does not list our entity type strips it: the chain is valid and grants nothing.
    metadata = chain.metadata.get(ISSUER_TYPE)
    if metadata is None:
        return Vote(anchor=anchor_id, expires_at=chain.expires_at, keys={}, credential_types=frozenset())
    types = metadata.get("credential_types", [])
    if not isinstance(types, list) or not all(isinstance(name, str) for name in types):
        raise Rejected(Reason.STATEMENT_INVALID, "credential_types is not a list of strings")
    return Vote(
        anchor=anchor_id,
        expires_at=chain.expires_at,
        keys=import_jwks(metadata.get("jwks")),
        credential_types=frozenset(types),
    )


def _misused_keys(charter: Charter, chains: Mapping[str, Sequence[Vote]], statements: Statements) -> frozenset[str]:
    """Thumbprints that may sign no credential: one key serves one issuer and one purpose.

    A key attested for two issuers would let one speak for the other; a federation key that also signs credentials would
    let a stolen credential key rewrite its own trust.
    """
    federation = {key.thumbprint for anchor in charter.anchors for key in anchor.keys.values()}
    for statement in statements.values():
        federation |= {key.thumbprint for key in statement.jwks.values()}
    owners: dict[str, set[str]] = {}
    for issuer, votes in chains.items():
        kids = {kid for vote in votes for kid in vote.keys}
        for kid in kids:
            attesting = [vote for vote in votes if kid in vote.keys]
            if len(attesting) >= charter.quorum:
                owners.setdefault(attesting[0].keys[kid].thumbprint, set()).add(issuer)
    shared = {thumbprint for thumbprint, issuers in owners.items() if len(issuers) > 1}
    return frozenset(shared | federation)


def _recognise(charter: Charter, member: Member, votes: Sequence[Vote], excluded: frozenset[str]) -> RecognisedIssuer:
    quorum = charter.quorum
    keys: dict[str, TrustedKey] = {}
    for kid in {kid for vote in votes for kid in vote.keys}:
        attesting = sorted((vote for vote in votes if kid in vote.keys), key=lambda vote: vote.expires_at, reverse=True)
        key = attesting[0].keys[kid]
        if len(attesting) < quorum or key.thumbprint in excluded:
            continue
        fresh_until = attesting[quorum - 1].expires_at
        keys[kid] = TrustedKey(
            key=key,
            anchors=tuple(sorted(vote.anchor for vote in attesting)),
            fresh_until=fresh_until,
            stale_until=fresh_until + charter.agreement.stale_grace,
        )
    types = {name for vote in votes for name in vote.credential_types}
    return RecognisedIssuer(
        entity_id=member.entity_id,
        province=member.province,
        name_zh=member.name_zh,
        name_en=member.name_en,
        credential_types=frozenset(
            name for name in types if sum(name in vote.credential_types for vote in votes) >= quorum
        ),
        keys=keys,
        votes=tuple(votes),
    )


def _anchor_state(anchor: CharterAnchor, statements: Statements, now: datetime, grace: timedelta) -> AnchorState:
    statement = statements.get((anchor.entity_id, anchor.entity_id))
    heard = statement is not None and statement.expires_at + grace > now
    return AnchorState(
        entity_id=anchor.entity_id,
        province=anchor.province,
        issued_at=statement.issued_at if statement is not None and heard else None,
        expires_at=statement.expires_at if statement is not None and heard else None,
    )


def _view_id(charter: Charter, documents: Documents) -> str:
    digests = sorted(sha256_b64url(token.encode("ascii")) for token in documents.values())
    return sha256_b64url("\n".join([charter.sha256, *digests]).encode("ascii"))[:22]
