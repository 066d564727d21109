"""What every entity publishes about itself: its configuration, and proof that it holds the keys it lists.

Rules that live here (OpenID Federation 1.0 sections 3 and 11.1):

* A configuration lists all federation keys that others have to know (the one to come, the one that signs, the one that
  is going), and is signed by the one that signs now.
* Every newly signed payload bears a higher number than the one before. The clock seeds it, so that a database restored
  from a backup does not give out old numbers again.
* An entity proves that it holds each application key it lists, by a signature with that key over its own name. Without
  that, whoever lists another's new key first would have it refused to its owner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from gateway.core.charter import GATEWAY_TYPE, ISSUER_TYPE
from gateway.core.jose import PublicKey, Signer, import_jwks, parse_compact, sign_compact, verify
from gateway.core.key_schedule import KeyPurpose
from gateway.core.metadata_policy import Metadata
from gateway.core.reasons import Reason, Rejected

JWKS: Final = "jwks"
"""Metadata parameter: the keys that sign credentials."""
STATUS_JWKS: Final = "status_jwks"
"""Metadata parameter beside ``jwks``: the keys that sign status lists. Ours."""
RECEIPT_JWKS: Final = "receipt_jwks"
"""Metadata parameter of a gateway: the keys that sign verification receipts. Ours."""
AUDIT_JWKS: Final = "audit_jwks"
"""Metadata parameter beside it: the keys that sign checkpoints of audit logs, its own and others'. Ours."""
KEY_PARAMETERS: Final[Mapping[KeyPurpose, tuple[str, str]]] = {
    KeyPurpose.CREDENTIAL: (ISSUER_TYPE, JWKS),
    KeyPurpose.STATUS: (ISSUER_TYPE, STATUS_JWKS),
    KeyPurpose.RECEIPT: (GATEWAY_TYPE, RECEIPT_JWKS),
    KeyPurpose.AUDIT: (GATEWAY_TYPE, AUDIT_JWKS),
}
"""Where the application keys of each purpose are listed: entity type and metadata parameter. No other place counts, so
that no key is taken for one of another purpose."""
KEY_PROOFS: Final = "key_proofs"
"""Metadata parameter of either type: by kid, the proof that the entity holds that key. Ours."""
KEY_PROOF_TYPE: Final = "credential-key-proof+jwt"
MAX_KEY_PROOF_CHARS: Final = 2_048

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def configuration_claims(
    *,
    entity_id: str,
    federation_keys: Sequence[PublicKey],
    metadata: Mapping[str, Any],
    authority_hints: Sequence[str],
    lifetime: timedelta,
    now: datetime,
    seq: int,
    extra: Mapping[str, Any] = _NOTHING,
) -> dict[str, Any]:
    """Write what an entity says about itself (OpenID Federation 1.0 section 3.1).

    Args:
        entity_id: the entity.
        federation_keys: all that others have to know; one of them signs.
        metadata: by entity type.
        authority_hints: empty for an anchor, which has no superior; the claim is then absent as section 3.1.2 demands.
        lifetime: how long it lives.
        now: the time.
        seq: see ``next_seq``.
        extra: further claims of ours, such as an anchor's ``snapshot``.
    """
    issued_at = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": entity_id,
        "sub": entity_id,
        "iat": issued_at,
        "exp": issued_at + int(lifetime.total_seconds()),
        "seq": seq,
        "jwks": {"keys": [dict(key.jwk) for key in federation_keys]},
        "metadata": dict(metadata),
        **extra,
    }
    if authority_hints:
        claims["authority_hints"] = list(authority_hints)
    return claims


def next_seq(last: int, now: datetime) -> int:
    """Give the number of the next payload of a place; ``last`` is 0 before the first."""
    return max(last + 1, int(now.timestamp()))


def listed_keys(metadata: Metadata, purpose: KeyPurpose) -> Mapping[str, PublicKey]:
    """Give the application keys of a purpose that a statement lists, or pins, by kid.

    Raises:
        Rejected: STATEMENT_INVALID or KEY_NOT_ACCEPTABLE when they cannot be read.
    """
    entity_type, name = KEY_PARAMETERS[purpose]
    jwks = metadata.get(entity_type, {}).get(name)
    return import_jwks(jwks) if jwks is not None else {}


def key_proof(entity_id: str, signer: Signer) -> str:
    """Sign the proof that an entity holds an application key."""
    return sign_compact(KEY_PROOF_TYPE, {"iss": entity_id, "sub": signer.public.thumbprint}, signer)


def check_possession(entity_id: str, key: PublicKey, proofs: object) -> None:
    """Check that an entity proved to hold a key, by its ``key_proofs``.

    Raises:
        Rejected: KEY_NOT_ACCEPTABLE, TYPE_MISMATCH, SIGNATURE_INVALID, or the proof cannot be read.
    """
    proof = proofs.get(key.kid) if isinstance(proofs, dict) else None
    if not isinstance(proof, str):
        raise Rejected(Reason.KEY_NOT_ACCEPTABLE, "possession of an application key is not proven")
    jws = parse_compact(proof, max_chars=MAX_KEY_PROOF_CHARS)
    if jws.header.typ != KEY_PROOF_TYPE:
        raise Rejected(Reason.TYPE_MISMATCH, "proof of possession has another typ")
    if verify(jws, key) != {"iss": entity_id, "sub": key.thumbprint}:
        raise Rejected(Reason.KEY_NOT_ACCEPTABLE, "possession of an application key is proven for somebody else")
