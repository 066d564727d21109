"""Trust chains: from an entity to one configured trust anchor (OpenID Federation 1.0 sections 4, 6 and 10).

A chain is ES[0], the subject's entity configuration; ES[1] upward, each superior's statement about the one below; and
at its end, where it may be left out, the anchor's entity configuration. Rules that live here (section 10.2):

 1  length; every statement against the clock
 2  ES[0] is a configuration, the rest in unbroken order up to the anchor, no entity twice
 3  the superior is one that the subject names in ``authority_hints``
 4  constraints of every superior: path length, names
 5  signatures: each statement by a key that the next one up attests, the top by a key of the anchor *as configured*
 6  metadata: superior's override, then allowed types, then the merged policies

The anchor's keys are an argument. Nothing that a document says about the anchor's keys adds one: a configuration that
is consistent in itself proves nothing (section 10.2, last step).

One chain is judged by itself; how many anchors have to agree is the business of ``trust``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from gateway.core.jose import PublicKey
from gateway.core.metadata_policy import Metadata, apply, resolve
from gateway.core.reasons import Reason, Rejected
from gateway.core.statements import (
    FEDERATION_ENTITY,
    EntityStatement,
    NamingConstraints,
    StatementProfile,
    UnverifiedStatement,
    check_times,
    host,
    parse_statement,
    verify_signature,
)

MAX_CHAIN: Final = 4
"""Statements in a chain, the anchor's configuration included if given. Our own chains have three."""

Verify = Callable[[UnverifiedStatement, PublicKey], EntityStatement]
"""``verify_signature``, or something that remembers what that said."""

_NO_GRACE: Final = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A trust anchor as the charter configures it. Its keys are never taken from a fetched document."""

    entity_id: str
    keys: Mapping[str, PublicKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedChain:
    """A valid chain and what it says about its subject."""

    subject: str
    """Whom the chain is about. Whether it was asked for is for the caller to compare (section 3.2, step 4)."""
    anchor_id: str
    statements: tuple[EntityStatement, ...]
    """The statements of the chain in their order, signatures verified."""
    metadata: Metadata
    """What superiors let stand of the subject's metadata. A type that is not in here is not granted."""
    federation_keys: Mapping[str, PublicKey]
    """The subject's federation keys as its immediate superior attests them."""
    issued_at: datetime
    """When the oldest statement was issued."""
    expires_at: datetime
    """When the first statement expires (section 10.4); in the past for a chain that is valid only by grace."""

    @property
    def entity_types(self) -> frozenset[str]:
        """The entity types granted."""
        return frozenset(self.metadata)


def validate_chain(
    tokens: Sequence[str],
    anchor: Anchor,
    profile: StatementProfile,
    now: datetime,
    *,
    grace: timedelta = _NO_GRACE,
) -> ResolvedChain:
    """Parse the statements of a chain, then ``validate_chain_parsed``."""
    _check_length(tokens)
    statements = [parse_statement(token, profile) for token in tokens]
    return validate_chain_parsed(statements, anchor, profile, now, grace=grace)


def validate_chain_parsed(
    statements: Sequence[UnverifiedStatement],
    anchor: Anchor,
    profile: StatementProfile,
    now: datetime,
    *,
    grace: timedelta = _NO_GRACE,
    verify: Verify = verify_signature,
) -> ResolvedChain:
    """Validate a chain up to one anchor (section 10.2), the signatures last because they cost most.

    Args:
        statements: ES[0] upward, each parsed under ``profile``.
        anchor: the configured anchor that the chain has to end in.
        profile: the federation's.
        now: the time.
        grace: tolerate statements that expired up to that long ago. Everything else is enforced, and ``expires_at``
            tells the truth, so the caller can tell "valid, but expired" from "invalid".
        verify: verifies one signature.

    Raises:
        Rejected: CHAIN_INVALID, CONSTRAINT_VIOLATED, METADATA_POLICY_INVALID, METADATA_POLICY_VIOLATED, TOO_LARGE, or
            what ``check_times`` and ``verify_signature`` raise for one statement.
    """
    _check_length(statements)
    for statement in statements:
        check_times(statement, profile, now, grace=grace)
    superiors = _check_order(statements, anchor)
    for index, superior in enumerate(superiors):
        _check_constraints(superior, superiors[: index + 1])
    verified = _verify_signatures(statements, anchor, verify)
    configuration = verified[0]
    return ResolvedChain(
        subject=configuration.sub,
        anchor_id=anchor.entity_id,
        statements=verified,
        metadata=_resolve_metadata(configuration, verified[1 : 1 + len(superiors)]),
        federation_keys=superiors[0].jwks if superiors else anchor.keys,
        issued_at=min(statement.issued_at for statement in verified),
        expires_at=min(statement.expires_at for statement in verified),
    )


def _check_length(chain: Sequence[Any]) -> None:
    if not chain:
        raise _invalid("chain is empty")
    if len(chain) > MAX_CHAIN:
        raise Rejected(Reason.TOO_LARGE, f"chain has more than {MAX_CHAIN} statements")


# -- order ------------------------------------------------------------------------------------------------------------


def _check_order(statements: Sequence[UnverifiedStatement], anchor: Anchor) -> Sequence[UnverifiedStatement]:
    """Check that the statements hang together (section 10.2), and return the superiors' among them, lowest first."""
    configuration, above = statements[0], statements[1:]
    if not configuration.is_configuration:
        raise _invalid("chain does not begin with an entity configuration")
    for lower, upper in pairwise(statements):
        if lower.iss != upper.sub:
            raise _invalid("issuer of a statement is not the subject of the next")
    if statements[-1].iss != anchor.entity_id:
        raise _invalid("chain does not end in the configured anchor")
    # Section 4 permits leaving out the anchor's configuration; its keys are configured anyway.
    superiors = above[:-1] if len(above) > 1 and above[-1].is_configuration else above
    # Each superior once, the subject not among them: this rules out loops, and configurations anywhere but at the ends.
    entities = {configuration.sub, *(superior.iss for superior in superiors)}
    if len(entities) != len(superiors) + 1:
        raise _invalid("an entity appears twice")
    # Section 3.2 step 6, or whoever is configured as an anchor could draw entities under itself that never asked to be.
    if superiors and superiors[0].iss not in configuration.authority_hints:
        raise _invalid("superior is not among the subject's authority_hints")
    return superiors


# -- constraints ------------------------------------------------------------------------------------------------------


def _check_constraints(superior: UnverifiedStatement, below: Sequence[UnverifiedStatement]) -> None:
    """Apply one superior's constraints (section 6.2) to all of the chain that is below it, its own subject included.

    Superiors are heard one by one: a weaker constraint further down takes nothing away from a stronger one above.
    """
    constraints = superior.constraints
    intermediates = len(below) - 1
    if constraints.max_path_length is not None and intermediates > constraints.max_path_length:
        raise Rejected(Reason.CONSTRAINT_VIOLATED, "more intermediates than max_path_length allows")
    if constraints.naming is not None:
        for statement in below:
            _check_name(statement.sub, constraints.naming)


def _check_name(entity_id: str, naming: NamingConstraints) -> None:
    if naming.permitted is None and not naming.excluded:
        return
    name = host(entity_id)
    # RFC 5280 section 4.2.1.10: under any name constraint, an address for a host is refused. Let pass where nothing is
    # permitted explicitly, it would be the way around every exclusion.
    if name is None:
        raise Rejected(Reason.CONSTRAINT_VIOLATED, f"{entity_id} has no host name to hold against naming_constraints")
    if any(_matches(name, domain) for domain in naming.excluded):
        raise Rejected(Reason.CONSTRAINT_VIOLATED, f"{entity_id} is excluded by naming_constraints")
    if naming.permitted is not None and not any(_matches(name, domain) for domain in naming.permitted):
        raise Rejected(Reason.CONSTRAINT_VIOLATED, f"{entity_id} is not permitted by naming_constraints")


def _matches(name: str, domain: str) -> bool:
    # The leading dot stays in the comparison, or evilsh.example would end in sh.example.
    return name.endswith(domain) if domain.startswith(".") else name == domain


# -- signatures -------------------------------------------------------------------------------------------------------


def _verify_signatures(
    statements: Sequence[UnverifiedStatement], anchor: Anchor, verify: Verify
) -> tuple[EntityStatement, ...]:
    verified: list[EntityStatement] = []
    for index, statement in enumerate(statements):
        sources = []
        if statement.is_configuration:
            sources.append(statement.jwks)
        if index + 1 < len(statements):
            sources.append(statements[index + 1].jwks)
        if statement.iss == anchor.entity_id:
            sources.append(anchor.keys)
        verified.append(verify(statement, _signing_key(statement, sources)))
    return tuple(verified)


def _signing_key(statement: UnverifiedStatement, sources: Sequence[Mapping[str, PublicKey]]) -> PublicKey:
    """Find the one key that everybody who has to attest it does attest.

    ES[0] has to verify under its own keys *and* under those its superior attests (section 10.2): with its own alone,
    anybody could speak for the subject. The key has to be the same one, not just of the same name.
    """
    if statement.is_configuration and statement.kid not in statement.jwks:
        raise Rejected(Reason.KEY_UNKNOWN, f"{statement.iss} signs with a key it does not publish")
    found = [keys.get(statement.kid) for keys in sources]
    attested = [key for key in found if key is not None]
    if len(attested) != len(found):
        raise _invalid(f"{statement.iss} signs with a key that its superior, or the configuration, does not attest")
    if len({(key.thumbprint, key.algorithm) for key in attested}) != 1:
        raise _invalid(f"two different keys of {statement.iss} go by the same kid")
    return attested[0]


# -- metadata ---------------------------------------------------------------------------------------------------------


def _resolve_metadata(configuration: EntityStatement, superiors: Sequence[EntityStatement]) -> Metadata:
    """Resolve the subject's metadata (sections 3.1.1, 6.2.3 and 6.1.4.2, in this order)."""
    metadata: dict[str, Mapping[str, Any]] = dict(configuration.metadata)
    if superiors:
        # Only the immediate superior's metadata, and only for types that the subject claims for itself.
        for entity_type in metadata.keys() & superiors[0].metadata.keys():
            metadata[entity_type] = {**metadata[entity_type], **superiors[0].metadata[entity_type]}
    for superior in superiors:
        allowed = superior.constraints.allowed_entity_types
        if allowed is not None:
            metadata = {name: metadata[name] for name in metadata if name in allowed or name == FEDERATION_ENTITY}
    policies = [superior.metadata_policy for superior in reversed(superiors) if superior.metadata_policy is not None]
    return apply(resolve(policies), metadata)


def _invalid(detail: str) -> Rejected:
    return Rejected(Reason.CHAIN_INVALID, detail)
