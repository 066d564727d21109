"""Key binding: the holder's proof that it presents, here and now (RFC 9901 section 4.3, RFC 7800).

A credential alone is a bearer token: whoever copies it has it. The holder's key, named by the issuer in ``cnf``, signs
a short JWT over the exact text that is presented, the audience and the verifier's nonce. Copied to another verifier,
kept for later, or with a Disclosure more or less, the proof no longer fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.core.claims import numeric_date
from gateway.core.encoding import b64url_encode, write_json
from gateway.core.jose import Algorithm, PublicKey, Signer, import_jwk, parse_compact, verify
from gateway.core.reasons import Reason, Rejected

KEY_BINDING_TYPE: Final = "kb+jwt"
MAX_KEY_BINDING_JWT_CHARS: Final = 4_096
HOLDER_ALGORITHMS: Final = frozenset({Algorithm.ES256, Algorithm.ES384, Algorithm.ED25519})


@dataclass(slots=True, kw_only=True)
class Transaction:
    """What a proof must have been made for, and when."""

    audience: str
    nonce: str
    now: datetime
    max_age: timedelta
    clock_skew: timedelta


def holder_key(confirmation: object) -> PublicKey:
    """Import the holder's key from ``cnf``: ``jwk`` and nothing else.

    ``kid``, ``jku`` or ``x5u`` would have us ask somebody for the key; two methods would leave a choice of key.

    Raises:
        Rejected: KEY_BINDING_INVALID.
    """
    if not isinstance(confirmation, dict) or confirmation.keys() != {"jwk"}:
        raise _invalid("cnf is not exactly one jwk")
    try:
        key = import_jwk(confirmation["jwk"], kid_is_thumbprint=False)
    except Rejected as error:
        raise _invalid(f"cnf: {error.detail}") from error
    if key.algorithm not in HOLDER_ALGORITHMS:
        raise _invalid("cnf holds a key of an algorithm that holders may not use")
    return key


def verify_key_binding(proof: str, key: PublicKey, sd_hash: str, transaction: Transaction) -> None:
    """Verify the proof over what is presented (RFC 9901 section 7.3 step 5).

    Args:
        proof: the key-binding JWT.
        key: the holder's key, from the issuer's ``cnf``.
        sd_hash: digest of the SD-JWT as presented.
        transaction: this transaction.

    Raises:
        Rejected: AUDIENCE_MISMATCH or NONCE_MISMATCH when the proof was made for somebody else or answers another
            challenge, KEY_BINDING_INVALID for everything else.
    """
    try:
        jws = parse_compact(proof, max_chars=MAX_KEY_BINDING_JWT_CHARS)
        if jws.header.typ != KEY_BINDING_TYPE:
            raise _invalid("typ is not kb+jwt")
        claims = verify(jws, key)
    except Rejected as error:
        raise _invalid(error.detail) from error
    _check_times(claims, transaction)
    audience, nonce = claims.get("aud"), claims.get("nonce")
    if not isinstance(audience, str) or not isinstance(nonce, str):
        raise _invalid("aud or nonce is missing or not a string")
    if audience != transaction.audience:
        raise Rejected(Reason.AUDIENCE_MISMATCH, "key binding was made for another audience")
    if nonce != transaction.nonce:
        raise Rejected(Reason.NONCE_MISMATCH, "key binding answers another challenge")
    if claims.get("sd_hash") != sd_hash:
        # Disclosures added, removed or reordered since the holder signed, or a proof cut from another presentation.
        raise _invalid("sd_hash does not match what is presented")


def _check_times(claims: Mapping[str, Any], transaction: Transaction) -> None:
    now, ahead = transaction.now, transaction.now + transaction.clock_skew
    if not now - transaction.max_age <= numeric_date(claims, "iat", Reason.KEY_BINDING_INVALID) <= ahead:
        raise _invalid("iat is outside the window")
    # Not asked for, but the proof must be "otherwise a valid JWT" (section 7.3 step 5h).
    if "exp" in claims and numeric_date(claims, "exp", Reason.KEY_BINDING_INVALID) <= now:
        raise _invalid("exp is past")
    if "nbf" in claims and numeric_date(claims, "nbf", Reason.KEY_BINDING_INVALID) > ahead:
        raise _invalid("nbf is ahead")


def make_key_binding(sd_hash: str, *, signer: Signer, audience: str, nonce: str, issued_at: datetime) -> str:
    """Make the proof for an SD-JWT as it will be presented."""
    # No kid: cnf names the key, and section 4.3 advises against anything that a verifier does not need.
    header = write_json({"alg": signer.public.algorithm.value, "typ": KEY_BINDING_TYPE})
    claims = write_json({"iat": int(issued_at.timestamp()), "aud": audience, "nonce": nonce, "sd_hash": sd_hash})
    signing_input = f"{b64url_encode(header)}.{b64url_encode(claims)}"
    return f"{signing_input}.{b64url_encode(signer.sign(signing_input.encode('ascii')))}"


def _invalid(detail: str) -> Rejected:
    return Rejected(Reason.KEY_BINDING_INVALID, detail)
