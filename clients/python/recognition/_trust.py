"""Whose keys count: the keys of gateways as of the time of a receipt.

A bundle brings documents along, and none of them counts for being there. Rules that live here:

* An anchor speaks by a key that the charter lists for it, and only through the statements that its own configuration
  of the day names, unexpired but for the charter's grace when the receipt was signed.
* A gateway's key counts, for one purpose, when a quorum of anchors pins it and the gateway lists it itself, signed by
  a federation key that a quorum attests. A key that two members share counts for neither.
* A key revoked as compromised proves nothing, a superseded one only what was signed before.
* A document that cannot be believed costs its author's word and nothing else.

It is stricter than the gateway where that costs nothing: what no program of this federation writes is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from recognition._charter import GATEWAY, MAX_MEMBERS, MAX_SKEW, MAX_TIME, TOKEN, Charter, Flaw, NotProven
from recognition._jose import (
    MAX_INTEGER,
    Jws,
    Key,
    Unreadable,
    import_jwks,
    parse_compact,
    parse_json,
    read_items,
    read_members,
    read_number,
    read_string,
    read_strings,
    read_text,
    read_values,
    sha256,
)

_PURPOSES: Final = ("receipt_jwks", "audit_jwks")
_STATEMENT_TYPE: Final = "entity-statement+jwt"
_EVENTS_TYPE: Final = "entity-events-statement+jwt"
_MAX_STATEMENT: Final = 90_000
_MAX_EVENT_STATEMENT: Final = 65_536
_MAX_REVOCATIONS: Final = 256
_MAX_HINTS: Final = 10
_MAX_NAMES: Final = 64
"""In a constraint."""
_MAX_LIFETIME: Final = 3_600
"""Seconds from ``iat`` to ``exp`` of a statement."""
_DIGEST: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"\.?(?:{_LABEL}\.)*(?=[a-z]){_LABEL}")
_ENTITY_ID: Final = re.compile(
    rf"https://(?P<host>{_LABEL}(?:\.{_LABEL})*)(?::[1-9][0-9]{{0,4}})?"
    r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*"
)
_MAX_ENTITY_ID: Final = 512
# OpenID Federation gives these a meaning that would have to be checked, and nobody here writes them.
_REFUSED: Final = frozenset(
    {
        *("crit", "metadata_policy_crit", "trust_anchor_hints", "trust_marks", "trust_mark_issuers"),
        *("trust_mark_owners", "source_endpoint", "aud", "trust_anchor"),
    }
)


class Trust(NamedTuple):
    """The keys that count under a charter at one time."""

    charter: Charter
    at: int
    keys: Mapping[tuple[str, str], Mapping[str, Key]]
    """By (gateway, purpose), then by kid."""
    revoked: Mapping[tuple[str, str], int]
    """By (member, kid): what the key signed from then on is nothing. From the beginning of time: compromised."""

    def key(self, gateway: object, purpose: str, kid: str, signed_at: int) -> Key:
        """Give a gateway's key for a purpose, which is to have signed something at a time.

        Raises:
            NotProven: GATEWAY_UNKNOWN, KEY_REVOKED, CHARTER_EXPIRED, KEY_UNKNOWN.
        """
        if not isinstance(gateway, str) or gateway not in self.charter.gateways:
            raise NotProven(Flaw.GATEWAY_UNKNOWN, "not a gateway of the charter")
        if max(self.at, signed_at) >= self.revoked.get((gateway, kid), MAX_TIME + 1):
            raise NotProven(Flaw.KEY_REVOKED, "the key was compromised, or had been superseded")
        if self.at >= self.charter.expires_at:
            raise NotProven(Flaw.CHARTER_EXPIRED, "the charter had expired")
        key = self.keys[gateway, purpose].get(kid)
        if key is None:
            raise NotProven(Flaw.KEY_UNKNOWN, f"no quorum of anchors attested the key under {purpose}")
        return key


class _Statement(NamedTuple):
    """A well-formed statement, in time. Nobody's word yet."""

    jws: Jws
    claims: Mapping[str, Any]
    iss: str
    sub: str
    issued_at: int
    expires_at: int
    jwks: Mapping[str, Key]
    """The subject's federation keys by kid."""
    metadata: Mapping[str, Mapping[str, Any]]


class _Word(NamedTuple):
    """What an anchor says of a member: its own configuration and its statement, both verified."""

    anchor: str
    head: _Statement
    statement: _Statement


def trust_at(charter: Charter, at: int, statements: Iterable[str], events: Iterable[str]) -> Trust:
    """Give the keys that count under a charter as of a time, by the documents of a bundle."""
    configurations, subordinates = _choose(charter, at, statements)
    heads = {
        anchor: _read_head(configurations.get(anchor), keys, charter, at) for anchor, keys in charter.anchors.items()
    }
    words: dict[str, list[_Word]] = {member: [] for member in charter.members}
    for (anchor, member), jws in subordinates.items():
        head = heads.get(anchor)
        statement = None if head is None else _named(head, jws, charter, at)
        if head is not None and statement is not None and member in words:
            words[member].append(_Word(anchor, head, statement))
    federation = {member: _attested(each, charter.quorum) for member, each in words.items()}
    revoked = _revocations(events, federation)
    shared = _shared(charter, words)
    keys: dict[tuple[str, str], Mapping[str, Key]] = {}
    for gateway in charter.gateways:
        own = _readable(configurations.get(gateway), charter, at)
        votes: list[Mapping[str, Mapping[str, Key]]] = []
        if own is not None and _is_by_owner(own, federation[gateway], revoked):
            votes = [_vote(own, word, charter.grace, at) for word in words[gateway]]
        for purpose in _PURPOSES:
            said = [vote.get(purpose, {}) for vote in votes]
            count = Counter(kid for each in said for kid in each)
            keys[gateway, purpose] = {
                kid: key
                for each in said
                for kid, key in each.items()
                if count[kid] >= charter.quorum and kid not in shared
            }
    return Trust(charter, at, keys, revoked)


def _choose(
    charter: Charter, at: int, tokens: Iterable[str]
) -> tuple[Mapping[str, Jws], Mapping[tuple[str, str], Jws]]:
    """Choose the newest configuration of each entity by then, and the statements that those of anchors name.

    Nothing is verified yet: a forged one that pushes out a good one makes the bundle prove less, never more.
    """
    newest: dict[str, tuple[int, Jws, Mapping[str, Any]]] = {}
    others: list[tuple[tuple[str, str], Jws]] = []
    for token in tokens:  # at most _MAX_STATEMENTS
        try:
            jws = parse_compact(token, _MAX_STATEMENT)
            claims = parse_json(jws.payload)
            iss, sub = read_text(claims, "iss", TOKEN), read_text(claims, "sub", TOKEN)
            issued_at = read_number(claims, "iat", MAX_TIME)
        except Unreadable:
            continue
        if iss != sub:
            others.append(((iss, sub), jws))
        elif issued_at <= at + MAX_SKEW and (iss not in newest or newest[iss][0] < issued_at):
            newest[iss] = (issued_at, jws, claims)
    named = {
        str(entry.get("sha256"))
        for anchor in charter.anchors
        if anchor in newest
        for entry in _entries(newest[anchor][2]).values()
        if isinstance(entry, dict)
    }
    return (
        {entity: jws for entity, (_, jws, _) in newest.items()},
        {place: jws for place, jws in others if sha256(jws.payload) in named},
    )


def _entries(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    snapshot = claims.get("snapshot")
    entries = snapshot.get("members") if isinstance(snapshot, dict) else None
    return entries if isinstance(entries, dict) else {}


def _read_statement(jws: Jws, charter: Charter, at: int) -> _Statement:
    claims = parse_json(jws.payload)
    iss, sub = read_text(claims, "iss", TOKEN), read_text(claims, "sub", TOKEN)
    misplaced = {"constraints", "metadata_policy"} if iss == sub else {"authority_hints"}
    if jws.typ != _STATEMENT_TYPE or not (_REFUSED | misplaced).isdisjoint(claims):
        raise Unreadable("not an entity statement of this federation")
    issued_at, expires_at = read_number(claims, "iat", MAX_TIME), read_number(claims, "exp", MAX_TIME)
    if (
        not 0 < expires_at - issued_at <= _MAX_LIFETIME
        or not issued_at - MAX_SKEW <= at < expires_at + charter.grace + MAX_SKEW
    ):
        raise Unreadable("a statement is out of its time, or lives too long")
    metadata = claims.get("metadata", {})
    if not isinstance(metadata, dict) or not all(isinstance(each, dict) for each in metadata.values()):
        raise Unreadable("metadata is not an object of objects")
    entity = metadata.get("federation_entity", {})
    if any(name.endswith(("jwks", "jwks_uri", "_endpoint")) for name in entity) or any(
        None in each.values() for each in metadata.values()
    ):
        raise Unreadable("metadata holds keys or addresses where none may be, or null")
    return _Statement(jws, claims, iss, sub, issued_at, expires_at, import_jwks(claims.get("jwks")), metadata)


def _readable(jws: Jws | None, charter: Charter, at: int) -> _Statement | None:
    try:
        return None if jws is None else _read_statement(jws, charter, at)
    except Unreadable:
        return None


# -- what anchors say -------------------------------------------------------------------------------------------------

_ENTRY_SHAPES: Final = ({"seq", "sha256"}, {"revoked_at", "reason"}, {"suspended_at", "until", "reason"})
_MAX_REASON: Final = 200


def _read_head(jws: Jws | None, keys: Mapping[str, Key], charter: Charter, at: int) -> _Statement | None:
    """Give an anchor's configuration, signed by a key that charter and anchor list; None: the anchor says nothing."""
    head = _readable(jws, charter, at)
    if head is None or head.jws.kid not in head.jwks or head.jws.kid not in keys:
        return None
    entries = _entries(head.claims)
    try:
        for member, entry in entries.items():
            _check_entry(member, entry)
    except Unreadable:
        return None
    return head if len(entries) <= MAX_MEMBERS and keys[head.jws.kid].verifies(head.jws) else None


def _check_entry(member: str, entry: object) -> None:
    if len(member) > _MAX_ENTITY_ID or not isinstance(entry, dict) or entry.keys() not in _ENTRY_SHAPES:
        raise Unreadable("an entry of a snapshot is neither a statement, a withdrawal nor a suspension")
    for name in entry:
        if name == "sha256":
            read_text(entry, name, _DIGEST)
        elif name == "reason":
            if len(read_string(entry, name)) > _MAX_REASON:
                raise Unreadable("a reason is over the size limit")
        else:
            read_number(entry, name, MAX_INTEGER if name == "seq" else MAX_TIME, low=int(name == "seq"))


def _named(head: _Statement, jws: Jws | None, charter: Charter, at: int) -> _Statement | None:
    """Give an anchor's statement about a member if its configuration names it; None: withdrawn, suspended or absent."""
    statement = _readable(jws, charter, at)
    key = None if statement is None else charter.anchors[head.iss].get(statement.jws.kid)
    if statement is None or key is None or key.kid not in head.jwks:
        return None
    entry = _entries(head.claims).get(statement.sub, {})
    wanted = {"seq": statement.claims.get("seq"), "sha256": sha256(statement.jws.payload)}
    is_named = entry == wanted and type(wanted["seq"]) is int
    return statement if is_named and key.verifies(statement.jws) else None


def _attested(said: Sequence[_Word], quorum: int) -> Mapping[str, Key]:
    """Give the federation keys of a member that a quorum of anchors attests."""
    count = Counter(kid for word in said for kid in word.statement.jwks)
    return {kid: key for word in said for kid, key in word.statement.jwks.items() if count[kid] >= quorum}


def _pinned(statement: _Statement) -> Iterator[str]:
    """Give the names of all application keys that a statement pins, once for each place they stand in."""
    for parameters in statement.metadata.values():
        for name, jwks in parameters.items():
            keys = jwks.get("keys") if name.endswith("jwks") and isinstance(jwks, dict) else None
            for key in keys if isinstance(keys, list) else ():
                if isinstance(key, dict) and isinstance(key.get("kid"), str):
                    yield key["kid"]


def _shared(charter: Charter, words: Mapping[str, Sequence[_Word]]) -> frozenset[str]:
    """Give the keys that are an anchor's, or that a quorum pins for two members: one could speak for the other."""
    owners: Counter[str] = Counter()
    for said in words.values():
        count = Counter(kid for word in said for kid in set(_pinned(word.statement)))
        owners.update(kid for kid, number in count.items() if number >= charter.quorum)
    anchors = {kid for keys in charter.anchors.values() for kid in keys}
    return frozenset(anchors | {kid for kid, number in owners.items() if number > 1})


# -- what members say -------------------------------------------------------------------------------------------------


def _is_by_owner(own: _Statement, federation: Mapping[str, Key], revoked: Mapping[tuple[str, str], int]) -> bool:
    """Whether a gateway's configuration is signed by a federation key of its own that a quorum attests."""
    kid = own.jws.kid
    is_revoked = own.issued_at >= revoked.get((own.iss, kid), MAX_TIME + 1)
    return kid in own.jwks and kid in federation and not is_revoked and federation[kid].verifies(own.jws)


def _vote(own: _Statement, word: _Word, grace: int, at: int) -> Mapping[str, Mapping[str, Key]]:
    """Give the keys, by purpose, that an anchor pins and the gateway lists; none where the anchor's word fails."""
    statement = word.statement
    expires_at = min(own.expires_at, statement.expires_at, word.head.expires_at)
    if own.jws.kid not in statement.jwks or at >= expires_at + grace:
        return {}
    try:
        _check_hints(own, word.anchor)
        _check_constraints(statement)
        listed = {purpose: _key_set(own, purpose) for purpose in _PURPOSES}
        pinned = {purpose: _key_set(statement, purpose) for purpose in _PURPOSES}
    except Unreadable:
        return {}
    # A federation key that also signed receipts would let whoever steals it rewrite its own trust; likewise the rest.
    uses = Counter([*_pinned(statement), *statement.jwks])
    return {
        purpose: {kid: key for kid, key in keys.items() if kid in pinned[purpose] and uses[kid] == 1}
        for purpose, keys in listed.items()
    }


def _check_hints(own: _Statement, anchor: str) -> None:
    """Check that the gateway names the anchor as a superior, or whoever is an anchor could draw it under itself."""
    hints = read_strings(own.claims, "authority_hints", _MAX_HINTS)
    if anchor not in hints or not all(len(each) <= _MAX_ENTITY_ID and _ENTITY_ID.fullmatch(each) for each in hints):
        raise Unreadable("the anchor is not among the superiors, or one of them is no entity")


def _key_set(statement: _Statement, name: str) -> Mapping[str, Key]:
    parameters = statement.metadata.get(GATEWAY, {})
    return import_jwks(parameters[name]) if name in parameters else {}


def _check_constraints(statement: _Statement) -> None:
    """Check that an anchor lets the subject have this name and be a gateway."""
    constraints = statement.claims.get("constraints", {})
    if not isinstance(constraints, dict) or not constraints.keys() <= {
        *("max_path_length", "naming_constraints", "allowed_entity_types")
    }:
        raise Unreadable("constraints of another kind")
    if "max_path_length" in constraints:
        read_number(constraints, "max_path_length", MAX_INTEGER)  # there is nothing between anchor and member
    if "allowed_entity_types" in constraints:
        types = read_strings(constraints, "allowed_entity_types", _MAX_NAMES)
        if GATEWAY not in types or "federation_entity" in types:
            raise Unreadable("not allowed to be a gateway")
    if "naming_constraints" in constraints:
        permitted = read_strings(read_members(constraints["naming_constraints"], "permitted"), "permitted", _MAX_NAMES)
        match = _ENTITY_ID.fullmatch(statement.sub)
        host = "" if match is None else match["host"]
        if not all(_DOMAIN.fullmatch(each) for each in permitted):
            raise Unreadable("a naming constraint is no domain")
        # The leading dot stays in the comparison, or evilsh.example would end in sh.example.
        if not any(host.endswith(each) if each.startswith(".") else host == each for each in permitted):
            raise Unreadable("a name that the anchor does not permit")
    # What anchors write of keys that they do not pin: they take them away. Any other policy is not understood here.
    policy = statement.claims.get("metadata_policy", {})
    for parameters in read_values(policy):
        is_known = all(operators == {"value": None} for operators in read_values(parameters))
        if not is_known or not all(name.endswith("jwks") for name in parameters):
            raise Unreadable("a metadata policy of another kind")


def _revocations(tokens: Iterable[str], federation: Mapping[str, Mapping[str, Key]]) -> Mapping[tuple[str, str], int]:
    """Give what members revoked, of their own keys, by a federation key that a quorum attests.

    Whatever else such a statement says, it takes away what it can: the reading is generous. Of two revocations of one
    key the earlier counts, and that of a compromised key is the earliest.
    """
    revoked: dict[tuple[str, str], int] = {}
    for token in tokens:  # at most _MAX_EVENTS
        try:
            jws = parse_compact(token, _MAX_EVENT_STATEMENT)
            claims = parse_json(jws.payload)
            member = read_text(claims, "iss", TOKEN)
            events = read_items(claims, "federation_registration_events", 0, _MAX_REVOCATIONS)
        except Unreadable:
            continue
        key = federation.get(member, {}).get(jws.kid)
        if jws.typ != _EVENTS_TYPE or claims.get("sub") != member or key is None or not key.verifies(jws):
            continue
        for event in events:
            if (
                not isinstance(event, dict)
                or event.get("event") != "revocation"
                or not isinstance(event.get("kid"), str)
            ):
                continue
            since = event.get("iat") if event.get("reason") == "superseded" else 0
            place = (member, event["kid"])
            revoked[place] = min(since if type(since) is int else 0, revoked.get(place, MAX_TIME))
    return revoked
