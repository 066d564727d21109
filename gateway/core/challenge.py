"""Challenges: the nonce a holder signs into its key-binding proof.

Stateless: a nonce carries its own expiry and a MAC over everything it is good for (service, matter, expiry, random
bytes), so that any process of the province can check a nonce that any other made, and asking for challenges fills no
table. That it is used once is the ledger's business.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from gateway.core.encoding import b64url_encode, equal_secrets, keyed_digest
from gateway.core.reasons import Reason, Rejected

MIN_RANDOM_BYTES: Final = 16
MAX_RANDOM_BYTES: Final = 64
MIN_KEY_BYTES: Final = 32
_DOMAIN: Final = "challenge.v1"
"""Keeps this MAC apart from others under the same key."""
# 12 digits end in the year 33658; what datetime cannot hold never has a good MAC.
_NONCE: Final = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{22,86})\.([A-Za-z0-9_-]{43})")


def make_nonce(key: bytes, *, service: str, matter: str, expires_at: datetime, random: bytes) -> str:
    """Make a nonce for one presentation to one service for one matter.

    Args:
        key: the province's secret for challenges, at least 32 bytes.
        service: identifier of the relying service, which is also the audience of the proof.
        matter: code of the matter.
        expires_at: when it lapses; the fraction of a second is dropped.
        random: 16 to 64 fresh random bytes.

    Raises:
        ValueError: too little key or randomness.
    """
    if len(key) < MIN_KEY_BYTES or not MIN_RANDOM_BYTES <= len(random) <= MAX_RANDOM_BYTES:
        raise ValueError("key or random bytes have the wrong length")
    expiry, salt = str(int(expires_at.timestamp())), b64url_encode(random)
    return f"{expiry}.{salt}.{_mac(key, service, matter, expiry, salt)}"


def check_nonce(key: bytes, nonce: str, *, service: str, matter: str, now: datetime) -> datetime:
    """Check that we made this nonce, for this service and matter, and that it has not lapsed.

    Returns:
        When it lapses: until then, somebody must remember that it was used.

    Raises:
        Rejected: NONCE_MISMATCH.
    """
    match = _NONCE.fullmatch(nonce)
    if match is None:
        raise Rejected(Reason.NONCE_MISMATCH, "not a nonce of ours")
    expiry, salt, mac = match.groups()
    if not equal_secrets(mac, _mac(key, service, matter, expiry, salt)):
        raise Rejected(Reason.NONCE_MISMATCH, "nonce was not made for this service and matter")
    expires_at = datetime.fromtimestamp(int(expiry), UTC)
    if expires_at <= now:
        raise Rejected(Reason.NONCE_MISMATCH, "nonce has lapsed")
    return expires_at


def _mac(key: bytes, service: str, matter: str, expiry: str, salt: str) -> str:
    return keyed_digest(key, _DOMAIN, service, matter, expiry, salt)
