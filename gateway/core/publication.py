"""What entities publish: each about itself, and an anchor about its members.

Rules that live here (OpenID Federation 1.0 sections 3 and 11.1):

* An anchor vouches only for a member of the charter whose configuration is signed by a federation key it has already
  attested. The first such key arrives out of band and is compared by people; later ones arrive under a signature by an
  attested one. A configuration signed by any other key changes nothing, however well-formed it is.
* The statement pins the member's credential keys, so that a quorum of anchors covers the credential keys themselves and
  not only the federation key that lists them.
* A member proves that it holds each credential key it lists, by a signature with that key over its own name. Without
  that, whoever lists another's new key first would have it refused to its owner. A key that another member has proven
  is refused: it would let one province speak for another.
* A member's configurations only go forward. Whoever replays an old one must not bring back keys that were withdrawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.core.charter import ISSUER_TYPE, Charter, Member
from gateway.core.encoding import sha256_b64url
from gateway.core.jose import PublicKey, Signer, import_jwks, parse_compact, sign_compact, verify
from gateway.core.reasons import Reason, Rejected
from gateway.core.statements import PROFILE, check_times, parse_statement, verify_signature

SUBORDINATE_LIFETIME: Final = timedelta(hours=1)
KEY_PROOFS: Final = "key_proofs"
"""Metadata parameter beside ``jwks``: by kid, the proof that the entity holds that key. Ours."""
KEY_PROOF_TYPE: Final = "credential-key-proof+jwt"
MAX_KEY_PROOF_CHARS: Final = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What an anchor remembers of a member between statements."""

    federation_keys: frozenset[str]
    """Thumbprints of the federation keys attested: one of them must sign the next configuration."""
    credential_keys: frozenset[str]
    """Thumbprints of the credential keys attested, possession of each proven."""
    issued_at: datetime | None = None
    """When the configuration they come from was issued; None before the first."""
    digest: str = ""
    """SHA-256 of that configuration's payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouching:
    """The claims of a subordinate statement, to be signed, and the memory that goes with it."""

    claims: Mapping[str, Any]
    attested: Attested


def configuration_claims(
    *,
    entity_id: str,
    federation_key: PublicKey,
    metadata: Mapping[str, Any],
    authority_hints: Sequence[str],
    lifetime: timedelta,
    now: datetime,
) -> dict[str, Any]:
    """Write what an entity says about itself (OpenID Federation 1.0 section 3.1).

    ``authority_hints`` is empty for an anchor, which has no superior, and the claim is then absent as section 3.1.2
    demands.
    """
    issued_at = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": entity_id,
        "sub": entity_id,
        "iat": issued_at,
        "exp": issued_at + int(lifetime.total_seconds()),
        "jwks": {"keys": [dict(federation_key.jwk)]},
        "metadata": dict(metadata),
    }
    if authority_hints:
        claims["authority_hints"] = list(authority_hints)
    return claims


def vouch(
    *,
    anchor_id: str,
    charter: Charter,
    configuration: str,
    attested: Attested,
    taken_keys: frozenset[str],
    now: datetime,
) -> Vouching:
    """Judge a member's configuration and write what the anchor says about it.

    Args:
        anchor_id: the anchor that speaks.
        charter: the charter in force.
        configuration: the member's entity configuration as offered, untrusted.
        attested: what the anchor attested before; at first the keys enrolled by people.
        taken_keys: thumbprints that belong to others: other members' keys and the anchors' own.
        now: the time.

    Raises:
        Rejected: the configuration gives no ground to vouch.
    """
    statement = parse_statement(configuration, PROFILE)
    member = charter.member(statement.sub)
    if member is None or not statement.is_configuration:
        raise Rejected(Reason.ISSUER_UNKNOWN, "not the configuration of a member")
    check_times(statement, PROFILE, now)
    key = statement.jwks.get(statement.kid)
    if key is None:
        raise Rejected(Reason.KEY_UNKNOWN, "configuration is not signed by one of its own keys")
    if key.thumbprint not in attested.federation_keys:
        raise Rejected(Reason.KEY_UNKNOWN, "configuration is signed by a key this anchor has not attested")
    verify_signature(statement, key)
    if anchor_id not in statement.authority_hints:
        raise Rejected(Reason.CHAIN_INVALID, "configuration does not name this anchor in authority_hints")
    digest = sha256_b64url(statement.jws.payload)
    _check_progress(attested, statement.issued_at, digest, now)
    federation_keys = frozenset(each.thumbprint for each in statement.jwks.values())
    metadata, credential_keys = _pinned_metadata(member, statement.metadata)
    if not taken_keys.isdisjoint(federation_keys | credential_keys) or not federation_keys.isdisjoint(credential_keys):
        raise Rejected(Reason.KEY_NOT_ACCEPTABLE, "a key serves one member and one purpose")
    issued_at = int(now.timestamp())
    claims = {
        "iss": anchor_id,
        "sub": member.entity_id,
        "iat": issued_at,
        "exp": issued_at + int(SUBORDINATE_LIFETIME.total_seconds()),
        "jwks": {"keys": [dict(each.jwk) for each in statement.jwks.values()]},
        "metadata": metadata,
        "metadata_policy": _narrowing_policy(charter, member),
        "constraints": {
            "max_path_length": 0,
            "naming_constraints": {"permitted": [urlsplit(member.entity_id).hostname]},
            "allowed_entity_types": sorted(member.entity_types),
        },
    }
    return Vouching(
        claims={name: value for name, value in claims.items() if value},
        attested=Attested(
            federation_keys=federation_keys,
            credential_keys=credential_keys,
            issued_at=statement.issued_at,
            digest=digest,
        ),
    )


def _check_progress(attested: Attested, issued_at: datetime, digest: str, now: datetime) -> None:
    last = attested.issued_at
    # What bears a time that has not come was accepted by a clock that has since been set right; it binds nobody.
    if last is None or last > now + PROFILE.clock_skew:
        return
    if issued_at < last:
        raise Rejected(Reason.STATEMENT_INVALID, "older than a configuration already vouched for")
    if issued_at == last and digest != attested.digest:
        raise Rejected(Reason.STATEMENT_INVALID, "two configurations bear the same time")


def _pinned_metadata(
    member: Member, metadata: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], frozenset[str]]:
    pinned: dict[str, Any] = {}
    thumbprints: set[str] = set()
    for entity_type in sorted(member.entity_types):
        jwks = metadata.get(entity_type, {}).get("jwks")
        if jwks is None:
            continue
        keys = import_jwks(jwks)
        for key in keys.values():
            _check_possession(member.entity_id, key, metadata[entity_type].get(KEY_PROOFS))
        pinned[entity_type] = {"jwks": {"keys": [dict(key.jwk) for key in keys.values()]}}
        thumbprints |= {key.thumbprint for key in keys.values()}
    return pinned, frozenset(thumbprints)


def key_proof(entity_id: str, signer: Signer) -> str:
    """Sign the proof that an entity holds a credential key."""
    return sign_compact(KEY_PROOF_TYPE, {"iss": entity_id, "sub": signer.public.thumbprint}, signer)


def _check_possession(entity_id: str, key: PublicKey, proofs: object) -> None:
    proof = proofs.get(key.kid) if isinstance(proofs, dict) else None
    if not isinstance(proof, str):
        raise Rejected(Reason.KEY_NOT_ACCEPTABLE, "possession of a credential key is not proven")
    jws = parse_compact(proof, max_chars=MAX_KEY_PROOF_CHARS)
    if jws.header.typ != KEY_PROOF_TYPE:
        raise Rejected(Reason.TYPE_MISMATCH, "proof of possession has another typ")
    if verify(jws, key) != {"iss": entity_id, "sub": key.thumbprint}:
        raise Rejected(Reason.KEY_NOT_ACCEPTABLE, "possession of a credential key is proven for somebody else")


def _narrowing_policy(charter: Charter, member: Member) -> dict[str, Any]:
    """What the member may issue: the credential types that some matter of the agreement accepts."""
    if ISSUER_TYPE not in member.entity_types:
        return {}
    types = {name for matter in charter.agreement.matters.values() for name in matter.credential_types}
    return {ISSUER_TYPE: {"credential_types": {"subset_of": sorted(types)}}}
