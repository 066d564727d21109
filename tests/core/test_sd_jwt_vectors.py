"""Other people's SD-JWTs: RFC 9901 (draft 22), SD-JWT VC, OpenID for Verifiable Presentations and Issuance.

They stay where they are, beside the project; ../shared/vectors/README.md names their sources.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.core.encoding import parse_json
from gateway.core.jose import PublicKey, import_jwk, parse_compact, verify
from gateway.core.key_binding import Transaction, holder_key, verify_key_binding
from gateway.core.reasons import Reason, Rejected
from gateway.core.sd_jwt import HashAlgorithm, digest, hash_algorithm, process, select_disclosures, split

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors"
pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no third-party vectors at {VECTORS}")

SD_JWT = "sd-jwt-draft22/sd_jwt_vectors.json"
SD_JWT_VC = "sd-jwt-vc-draft/sd_jwt_vc_vectors.json"
NOW = datetime.fromtimestamp(1_700_000_000, UTC)


def read(name: str) -> Any:
    path = VECTORS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def vectors(*, bound: bool | None = None) -> pytest.MarkDecorator:
    rows = [
        pytest.param(vector, id=f"{Path(name).stem} {number} {vector['source_section']}")
        for name in (SD_JWT, SD_JWT_VC)
        for number, vector in enumerate(read(name).get("vectors", []))
        if bound is None or bound == (vector["kind"] == "SD-JWT+KB")
    ]
    return pytest.mark.parametrize("vector", rows)


def foreign_key(jwk: dict[str, Any]) -> PublicKey:
    return import_jwk(jwk, kid_is_thumbprint=False)


def processed(compact: str, issuer: PublicKey) -> dict[str, Any]:
    parts = split(compact)
    payload = verify(parse_compact(parts.issuer_jwt, max_chars=32_768), issuer)
    return process(payload, parts.disclosures, hash_algorithm(payload))


def check_binding(compact: str, issuer: PublicKey, *, audience: str, nonce: str, now: datetime) -> None:
    parts = split(compact)
    payload = verify(parse_compact(parts.issuer_jwt, max_chars=32_768), issuer)
    transaction = Transaction(
        audience=audience, nonce=nonce, now=now, max_age=timedelta(minutes=5), clock_skew=timedelta(minutes=1)
    )
    assert parts.key_binding_jwt is not None
    # Their example keys come with members of their own choice.
    key = holder_key({"jwk": payload["cnf"]["jwk"]})
    verify_key_binding(parts.key_binding_jwt, key, digest(parts.sd_jwt, hash_algorithm(payload)), transaction)


@vectors()
def test_vector_gives_the_claims_its_text_prints(vector: dict[str, Any]) -> None:
    claims = processed(vector["compact"], foreign_key(vector["issuer_jwk"]))
    assert claims == vector["processed_payload_computed"]
    if "processed_payload_in_text" in vector:
        assert claims == vector["processed_payload_in_text"]


@vectors()
def test_vector_is_split_into_its_disclosures(vector: dict[str, Any]) -> None:
    parts = split(vector["compact"])
    listed = [entry["disclosure"] if isinstance(entry, dict) else entry for entry in vector["disclosures"]]
    assert list(parts.disclosures) == listed
    assert (parts.key_binding_jwt is not None) == (vector["kind"] == "SD-JWT+KB")


@vectors(bound=True)
def test_vector_proves_possession(vector: dict[str, Any]) -> None:
    proof = vector["kb_payload"]
    made_at = datetime.fromtimestamp(proof["iat"], UTC)
    issuer = foreign_key(vector["issuer_jwk"])
    check_binding(vector["compact"], issuer, audience=proof["aud"], nonce=proof["nonce"], now=made_at)
    for change, reason in (
        ({"audience": "https://other.example"}, Reason.AUDIENCE_MISMATCH),
        ({"nonce": "other"}, Reason.NONCE_MISMATCH),
        ({"now": made_at + timedelta(minutes=6)}, Reason.KEY_BINDING_INVALID),
    ):
        terms: dict[str, Any] = {"audience": proof["aud"], "nonce": proof["nonce"], "now": made_at} | change
        with pytest.raises(Rejected) as caught:
            check_binding(vector["compact"], issuer, **terms)
        assert caught.value.reason is reason


@vectors(bound=True)
def test_vector_of_a_presentation_is_refused_by_a_holder(vector: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        select_disclosures(vector["compact"], lambda _: True)


@vectors(bound=False)
def test_vector_of_an_issuance_passes_through_a_holder_unchanged(vector: dict[str, Any]) -> None:
    assert select_disclosures(vector["compact"], lambda _: True) == vector["compact"]


@pytest.mark.parametrize("name", [SD_JWT, SD_JWT_VC])
def test_every_disclosure_of_the_text_has_the_hash_it_prints(name: str) -> None:
    pairs = read(name)["disclosure_hash_pairs"]
    assert len(pairs) >= 37
    assert [digest(pair["disclosure"], HashAlgorithm.SHA_256) for pair in pairs] == [
        pair["sha256_b64url"] for pair in pairs
    ]


def test_openid4vp_presentation_is_accepted() -> None:
    vector = read("openid4vp/sd_jwt_vcld_01.json")
    issuer = foreign_key(vector["issuer_jwk"])
    assert processed(vector["presentation"], issuer) == vector["verified_contents"]
    proof = parse_compact(split(vector["presentation"]).key_binding_jwt or "", max_chars=4_096)
    made_at = datetime.fromtimestamp(parse_json(proof.payload)["iat"], UTC)
    check_binding(vector["presentation"], issuer, audience=vector["aud"], nonce=vector["nonce"], now=made_at)
    shown = set(split(vector["presentation"]).disclosures)
    assert shown <= set(split(vector["issuance"]).disclosures)
    holder_would_send = select_disclosures(vector["issuance"], lambda _: True)
    assert holder_would_send == vector["issuance"]


def test_openid4vci_credential_is_accepted() -> None:
    vector = read("openid4vp/oid4vci_credential_response.json")
    claims = processed(vector["issuance"], foreign_key(vector["issuer_jwk"]))
    assert len(split(vector["issuance"]).disclosures) == 9
    assert datetime.fromtimestamp(claims["exp"], UTC) > NOW
    assert "_sd" not in claims


def test_json_serialization_is_refused() -> None:
    vectors_in_json = read("sd-jwt-draft22/json_serialization.json")["vectors"]
    assert len(vectors_in_json) == 3
    for vector in vectors_in_json:
        with pytest.raises(Rejected) as caught:
            split(json.dumps(vector["jws_json"]))
        assert caught.value.reason is Reason.MALFORMED
