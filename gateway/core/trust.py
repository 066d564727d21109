"""Trust: from signed documents to the keys that count.

Rules that live here:

* The unmodified OpenID Federation validation runs once per (member, anchor). A chain that fails is dropped and
  reported, never fatal: one broken anchor costs one vote.
* Votes are counted *per key*. A credential key of an issuer is usable when at least ``quorum`` distinct anchors attest
  that key for that issuer. Fewer is not trust. The same anchor never counts twice, because there is one chain for it.
* Keys are looked up by (issuer, kid) only. There is no pooled set in which one province's key could vouch for another.
* The view is recomputed from current documents at each refresh, never accumulated: what is not attested now is gone.
* Absence is not evidence. "No such key" is only said when enough anchors with fresh documents say so; otherwise the
  answer is indeterminate.
* A credential key must be pinned by the anchors' statements and listed by the issuer itself. The anchors' word alone
  would keep alive a key that its issuer withdrew; the issuer's alone would need no anchors.
* What one member says about itself can take nothing from another: it is evidence about that member only.
* A document is replaced only by one that is as good: garbage served under a member's name leaves the old one in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.core.chain import Anchor, ResolvedChain, validate_chain_parsed
from gateway.core.charter import ISSUER_TYPE, Charter, CharterAnchor, Member
from gateway.core.encoding import sha256_b64url
from gateway.core.jose import PublicKey, import_jwks
from gateway.core.metadata_policy import Metadata
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
    """Credential keys pinned by the anchor and listed by the issuer."""
    federation_keys: frozenset[str]
    """Thumbprints of the member's federation keys."""
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
        self._require_conclusive(sum(vote.expires_at > now and kid not in vote.keys for vote in recognised.votes))
        raise Rejected(Reason.KEY_UNKNOWN, "no quorum of anchors attests this key for the issuer")

    def check_authority(self, issuer: str, credential_type: str, now: datetime) -> None:
        """Check that a quorum of anchors lets the issuer issue this type.

        Raises:
            Rejected: ISSUER_NOT_AUTHORISED when enough fresh anchors do not.
            Indeterminate: TRUST_STALE when too few speak to say.
        """
        recognised = self.issuer(issuer)
        if credential_type in recognised.credential_types:
            return
        self._require_conclusive(
            sum(vote.expires_at > now and credential_type not in vote.credential_types for vote in recognised.votes)
        )
        raise Rejected(Reason.ISSUER_NOT_AUTHORISED, "the issuer may not issue this type")

    def _require_conclusive(self, against: int) -> None:
        # Could the anchors that did not just say no make up a quorum? Then we cannot say no either.
        if len(self.charter.anchors) - against >= self.charter.quorum:
            raise Indeterminate(Reason.TRUST_STALE, "too few fresh anchors to say no")

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
    shared = _shared_keys(charter, chains)
    return TrustView(
        view_id=_view_id(charter, documents),
        built_at=now,
        charter=charter,
        anchors=tuple(_anchor_state(anchor, statements, now, grace) for anchor in charter.anchors),
        issuers={
            member.entity_id: _recognise(charter, member, chains[member.entity_id], shared)
            for member in charter.members
            if member.entity_id in chains
        },
        problems=tuple(problems),
    )


def admit(charter: Charter, held: Documents, offered: Documents, now: datetime) -> Admission:
    """Take what is good from an offer, keep what is held where the offer is not better.

    An anchor's statement stands on its signature by a charter key, and the newer one counts. A member's configuration
    is only self-signed, and anybody can write one; see ``_check_configuration``.

    Args:
        charter: the charter in force.
        held: what is held.
        offered: what came in, by the (issuer, subject) that was asked for. An answer to another question is refused:
            otherwise any peer could bring back old documents of any member.
        now: the time.
    """
    documents = dict(held)
    changed: list[tuple[str, str]] = []
    refused: list[Problem] = []
    anchors = {anchor.entity_id for anchor in charter.anchors}
    # A member's chain needs its anchors' word first.
    places = sorted(offered, key=lambda place: place[0] not in anchors)
    for place in places[:MAX_OFFERED]:
        if documents.get(place) == offered[place]:
            continue
        try:
            _check_offer(charter, documents, place, offered[place], now)
        except Rejected as rejection:
            refused.append(Problem(issuer=place[0], subject=place[1], reason=rejection.reason, detail=rejection.detail))
        else:
            documents[place] = offered[place]
            changed.append(place)
    return Admission(documents=documents, changed=tuple(changed), refused=tuple(refused))


def _check_offer(charter: Charter, held: Documents, place: tuple[str, str], token: str, now: datetime) -> None:
    offer = parse_statement(token, PROFILE)
    if (offer.iss, offer.sub) != place:
        raise Rejected(Reason.STATEMENT_INVALID, "not the statement that was asked for")
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
    older = offer.issued_at < parse_statement(held_token, PROFILE).issued_at <= now + PROFILE.clock_skew
    if anchor is None and member is not None:
        _check_configuration(charter, member, held, offer, older=older, now=now)
    elif older:
        raise Rejected(Reason.STATEMENT_INVALID, "older than the statement held")


def _check_configuration(
    charter: Charter, member: Member, held: Documents, offer: UnverifiedStatement, *, older: bool, now: datetime
) -> None:
    """Compare a member's configuration on offer with the one held.

    Whichever a quorum of chains supports wins, because only the member can make that one. Between two of the same
    standing the newer wins. So a self-made one never displaces the member's, whatever time it bears, even while the
    member's is past its expiry and within the grace; and an old one of the member's never displaces a newer.
    """
    place = (offer.iss, offer.sub)
    before = _chain_count(charter, member, held, now)
    after = _chain_count(charter, member, {**held, place: offer.token}, now)
    if max(before, after) < charter.quorum and before != after:
        if after < before:
            raise Rejected(Reason.CHAIN_INVALID, "fewer anchors support it than the configuration held")
        return
    if after < charter.quorum <= before:
        raise Rejected(Reason.CHAIN_INVALID, "no quorum of anchors supports it")
    if older and not before < charter.quorum <= after:
        raise Rejected(Reason.STATEMENT_INVALID, "older than the statement held")


def _chain_count(charter: Charter, member: Member, documents: Documents, now: datetime) -> int:
    statements, _ = _parse_all(
        {place: token for place, token in documents.items() if place[1] == member.entity_id or place[0] == place[1]}
    )
    return sum(_holds(charter, anchor, member, statements, now) for anchor in charter.anchors)


def _holds(charter: Charter, anchor: CharterAnchor, member: Member, statements: Statements, now: datetime) -> bool:
    try:
        # With the view's own grace: what still counts there is still worth keeping here.
        _chain(anchor, member, statements, now, grace=charter.agreement.stale_grace)
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
    granted = chain.metadata.get(ISSUER_TYPE)
    federation_keys = frozenset(key.thumbprint for key in chain.federation_keys.values())
    if granted is None:
        # An anchor that does not allow our entity type strips it: the chain is valid and grants nothing.
        keys: Mapping[str, PublicKey] = {}
        types: Any = []
    else:
        configuration, statement = chain.statements[0], chain.statements[1]
        pinned = _listed_keys(statement.metadata)
        listed = _listed_keys(configuration.metadata)
        keys = {
            # As the issuer lists it: an RSA key fits two algorithms, and which one is not the anchor's to choose.
            kid: key
            for kid, key in listed.items()
            # A federation key that also signed credentials would let a stolen credential key rewrite its own trust.
            if kid in pinned
            and pinned[kid].algorithm is key.algorithm
            and pinned[kid].thumbprint == key.thumbprint
            and key.thumbprint not in federation_keys
        }
        types = granted.get("credential_types", [])
    if not isinstance(types, list) or not all(isinstance(name, str) for name in types):
        raise Rejected(Reason.STATEMENT_INVALID, "credential_types is not a list of strings")
    return Vote(
        anchor=anchor_id,
        expires_at=chain.expires_at,
        keys=keys,
        federation_keys=federation_keys,
        credential_types=frozenset(types),
    )


def _listed_keys(metadata: Metadata) -> Mapping[str, PublicKey]:
    jwks = metadata.get(ISSUER_TYPE, {}).get("jwks")
    return import_jwks(jwks) if jwks is not None else {}


def _shared_keys(charter: Charter, chains: Mapping[str, Sequence[Vote]]) -> frozenset[str]:
    """Thumbprints that a quorum attests for two issuers: one could speak for the other, so they serve neither.

    Anchors demand proof of possession, so this takes two issuers that share a private key, or a corrupt quorum.
    """
    owners: dict[str, set[str]] = {}
    for issuer, votes in chains.items():
        for kid in {kid for vote in votes for kid in vote.keys}:
            attesting = [vote.keys[kid] for vote in votes if kid in vote.keys]
            if len(attesting) >= charter.quorum:
                owners.setdefault(attesting[0].thumbprint, set()).add(issuer)
    anchors = {key.thumbprint for anchor in charter.anchors for key in anchor.keys.values()}
    return frozenset(anchors | {thumbprint for thumbprint, issuers in owners.items() if len(issuers) > 1})


def _recognise(charter: Charter, member: Member, votes: Sequence[Vote], shared: frozenset[str]) -> RecognisedIssuer:
    quorum = charter.quorum
    keys: dict[str, TrustedKey] = {}
    for kid in {kid for vote in votes for kid in vote.keys}:
        attesting = sorted((vote for vote in votes if kid in vote.keys), key=lambda vote: vote.expires_at, reverse=True)
        key = attesting[0].keys[kid]
        if len(attesting) < quorum or key.thumbprint in shared:
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
