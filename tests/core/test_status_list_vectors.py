"""The lists and the token printed in draft-ietf-oauth-status-list-20."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.core.jose import import_jwk, parse_compact, verify
from gateway.core.reasons import Reason, Rejected
from gateway.core.sd_jwt import split
from gateway.core.status_list import (
    STATUS_LIST_TYPE,
    StatusReference,
    decode,
    encode,
    read_reference,
    read_status_list,
    value_at,
)

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "token-status-list-draft20"
pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no third-party vectors at {VECTORS}")
FILE = VECTORS / "tsl_vectors.json"
PUBLISHED: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
LISTS = [pytest.param(each, id=each["name"]) for each in PUBLISHED.get("lists", [])]


@pytest.mark.parametrize("published", LISTS)
def test_a_published_list_has_the_values_its_text_prints(published: dict[str, Any]) -> None:
    bits, count = published["bits"], published["entries"]
    entries = decode(bits, published["lst"], max_raw=count * bits // 8)
    assert len(entries) == count * bits // 8
    listed = {int(index): value for index, value in published["nonzero_or_listed_statuses"].items()}
    assert {index: value_at(entries, bits, index) for index in listed} == listed
    # All others, at once: whatever is not listed is zero.
    total = sum(value << (index * bits) for index, value in listed.items())
    assert int.from_bytes(entries, "little") == total


@pytest.mark.parametrize("published", LISTS)
def test_a_published_list_is_written_byte_for_byte(published: dict[str, Any]) -> None:
    bits, count = published["bits"], published["entries"]
    entries = decode(bits, published["lst"], max_raw=count * bits // 8)
    assert encode(entries) == published["lst"]


def test_there_are_six_published_lists() -> None:
    assert len(LISTS) == 6


def test_the_published_token_verifies_and_is_no_list_of_our_profile() -> None:
    published = PUBLISHED["status_list_token"]
    # Their example keys come with a kid of their own choice.
    key = import_jwk(published["public_jwk"], kid_is_thumbprint=False)
    jws = parse_compact(published["jwt"], max_chars=4_096)
    assert jws.header.typ == STATUS_LIST_TYPE
    claims = verify(jws, key)
    assert claims == published["decoded_payload"]
    entries = decode(claims["status_list"]["bits"], claims["status_list"]["lst"], max_raw=2)
    assert entries == b"\xb9\xa3"
    with pytest.raises(Rejected) as caught:
        read_status_list(
            published["jwt"],
            uri=claims["sub"],
            issuer=claims["iss"],
            size=16,
            key=lambda _kid: key,
            now=datetime.fromtimestamp(claims["iat"], UTC),
            clock_skew=timedelta(seconds=60),
            floor=None,
        )
    assert caught.value.reason is Reason.LIFETIME_TOO_LONG  # nineteen years


def test_the_published_credential_refers_to_its_list() -> None:
    token = split(PUBLISHED["referenced_sd_jwt"]).issuer_jwt
    claims = parse_compact(token, max_chars=32_768).unverified_claims()
    reference = claims["status"]["status_list"]
    assert read_reference(claims["status"]) == StatusReference(uri=reference["uri"], index=reference["idx"])
