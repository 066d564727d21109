"""Other people's vectors: Wycheproof, RFC 7515 appendix A, the RFC 7520 cookbook, RFC 8037 appendix A.

They stay where they are, beside the project; ../shared/vectors/README.md names their sources and their known faults.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.encoding import b64url_encode
from gateway.core.jose import (
    Algorithm,
    Header,
    PublicKey,
    UnverifiedJws,
    assemble_jws,
    import_jwk,
    parse_compact,
    verify,
    verify_signature,
)
from gateway.core.reasons import Reason
from tests.core.tokens import MAX_CHARS, reason_of, survives

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors"
pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no third-party vectors at {VECTORS}")


def read(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def foreign_key(jwk: dict[str, Any]) -> PublicKey:
    """The public half of a published key; other people choose other kids."""
    return import_jwk({name: jwk[name] for name in jwk if name not in PRIVATE}, kid_is_thumbprint=False)


PRIVATE = {"d", "p", "q", "dp", "dq", "qi"}


# -- Wycheproof -------------------------------------------------------------------------------------------------------


def wycheproof_jwk(group: dict[str, Any]) -> dict[str, Any]:
    key = group["publicKey"]
    if group["type"] == "EddsaVerify":
        return {"kty": "OKP", "crv": "Ed25519", "x": b64url_encode(bytes.fromhex(key["pk"]))}
    point = bytes.fromhex(key["uncompressed"])[1:]
    half = len(point) // 2
    curve = {32: "P-256", 48: "P-384", 66: "P-521"}[half]
    return {"kty": "EC", "crv": curve, "x": b64url_encode(point[:half]), "y": b64url_encode(point[half:])}


def wrong_verdicts(name: str, algorithm: Algorithm) -> tuple[int, list[int]]:
    tried, wrong = 0, []
    for group in read(f"wycheproof/{name}")["testGroups"]:
        key = import_jwk(wycheproof_jwk(group))
        for test in group["tests"]:
            jws = UnverifiedJws(
                header=Header(algorithm, None, None),
                payload=b"",
                signing_input=bytes.fromhex(test["msg"]),
                signature=bytes.fromhex(test["sig"]),
            )
            tried += 1
            if survives(verify_signature, jws, key) is not (test["result"] == "valid"):
                wrong.append(test["tcId"])
    return tried, wrong


def test_wycheproof_ecdsa_p256_p1363() -> None:
    assert wrong_verdicts("ecdsa_secp256r1_sha256_p1363_test.json", Algorithm.ES256) == (262, [])


def test_wycheproof_ecdsa_p384_p1363() -> None:
    assert wrong_verdicts("ecdsa_secp384r1_sha384_p1363_test.json", Algorithm.ES384) == (280, [])


def test_wycheproof_ed25519() -> None:
    assert wrong_verdicts("ed25519_test.json", Algorithm.ED25519) == (151, [])


def test_wycheproof_p521_keys_are_refused_at_import() -> None:
    groups = read("wycheproof/ecdsa_secp521r1_sha512_p1363_test.json")["testGroups"]
    assert len(groups) == 107
    assert {reason_of(import_jwk, wycheproof_jwk(group)) for group in groups} == {Reason.KEY_NOT_ACCEPTABLE}


# -- RFC 7515 appendix A ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", ["RFC7515-A2", "RFC7515-A3"], ids=["A.2 RS256", "A.3 ES256"])
def test_rfc_7515_example_is_accepted(example: str) -> None:
    vector = read("rfc7515-appendixA/vectors.json")[example]
    jws = parse_compact(vector["compact"], max_chars=MAX_CHARS)
    claims = {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
    assert verify(jws, foreign_key(vector["key"])) == claims


@pytest.mark.parametrize("number", ["A1", "A4", "A5"], ids=["A.1 HS256", "A.4 ES512", "A.5 none"])
def test_rfc_7515_example_is_refused(number: str) -> None:
    vector = read("rfc7515-appendixA/vectors.json")[f"RFC7515-{number}"]
    assert reason_of(parse_compact, vector["compact"], max_chars=MAX_CHARS) is Reason.ALGORITHM_NOT_ALLOWED


# -- RFC 7520 cookbook ------------------------------------------------------------------------------------------------


def test_cookbook_4_1_rs256_signature_is_accepted() -> None:
    vector = read("rfc7520-cookbook/jws/4_1.rsa_v15_signature.json")
    jws = parse_compact(vector["output"]["compact"], max_chars=MAX_CHARS)
    verify_signature(jws, foreign_key(vector["input"]["key"]))
    assert jws.header.kid == "bilbo.baggins@hobbiton.example"
    assert jws.payload.decode() == vector["input"]["payload"]


def test_cookbook_ed25519_signature_is_accepted() -> None:
    vector = read("rfc7520-cookbook/curve25519/jws.json")
    jws = parse_compact(vector["output"]["compact"], max_chars=MAX_CHARS)
    verify_signature(jws, foreign_key(vector["input"]["key"]))
    assert jws.payload.decode() == vector["input"]["payload"]


def test_cookbook_4_8_signature_is_accepted_from_the_general_serialization() -> None:
    vector = read("rfc7520-cookbook/jws/4_8.multiple_signatures.json")
    document = vector["output"]["json"]
    first, _unprotected_only, third = document["signatures"]
    jws = assemble_jws(first["protected"], document["payload"], first["signature"])
    verify_signature(jws, foreign_key(vector["input"]["key"][0]))
    reason = reason_of(assemble_jws, third["protected"], document["payload"], third["signature"])
    assert reason is Reason.ALGORITHM_NOT_ALLOWED


REFUSED_COMPACT = {
    "4.2 PS384": ("jws/4_2.rsa-pss_signature.json", Reason.ALGORITHM_NOT_ALLOWED),
    "4.3 ES512": ("jws/4_3.ecdsa_signature.json", Reason.ALGORITHM_NOT_ALLOWED),
    "4.4 HS256": ("jws/4_4.hmac-sha2_integrity_protection.json", Reason.ALGORITHM_NOT_ALLOWED),
    "4.5 detached content": ("jws/4_5.signature_with_detached_content.json", Reason.MALFORMED),
}


@pytest.mark.parametrize(("name", "reason"), REFUSED_COMPACT.values(), ids=REFUSED_COMPACT)
def test_cookbook_compact_example_is_refused(name: str, reason: Reason) -> None:
    token = read(f"rfc7520-cookbook/{name}")["output"]["compact"]
    assert reason_of(parse_compact, token, max_chars=MAX_CHARS) is reason


JSON_SERIALIZATIONS = (
    "jws/4_6.protecting_specific_header_fields.json",
    "jws/4_7.protecting_content_only.json",
    "jws/4_8.multiple_signatures.json",
    "rfc7797/4.2.hmac-sha2_b64_false.json",
    "rfc7797/hmac-sha2_b64_false.json",
)


@pytest.mark.parametrize("name", JSON_SERIALIZATIONS)
def test_cookbook_json_serialization_is_refused(name: str) -> None:
    output = read(f"rfc7520-cookbook/{name}")["output"]
    forms = [output[form] for form in ("json", "json_flat") if form in output]
    assert {reason_of(parse_compact, json.dumps(form), max_chars=MAX_CHARS) for form in forms} == {Reason.MALFORMED}


@pytest.mark.parametrize("name", JSON_SERIALIZATIONS[3:])
def test_cookbook_unencoded_payload_is_refused(name: str) -> None:
    vector = read(f"rfc7520-cookbook/{name}")
    protected, signature = b64url_encode(json.dumps(vector["signing"]["protected"]).encode()), vector["signing"]["sig"]
    reason = reason_of(assemble_jws, protected, vector["input"]["payload"], signature)
    assert reason is Reason.HEADER_NOT_ALLOWED


COOKBOOK_KEYS = {
    "3.1 P-521 is refused": ("3_1.ec_public_key.json", False),
    "3.2 a private EC key is refused": ("3_2.ec_private_key.json", False),
    "3.3 RSA is accepted": ("3_3.rsa_public_key.json", True),
    "3.4 a private RSA key is refused": ("3_4.rsa_private_key.json", False),
    "3.5 a MAC key is refused": ("3_5.symmetric_key_mac_computation.json", False),
    "3.6 an encryption key is refused": ("3_6.symmetric_key_encryption.json", False),
}


@pytest.mark.parametrize(("name", "accepted"), COOKBOOK_KEYS.values(), ids=COOKBOOK_KEYS)
def test_cookbook_key(name: str, accepted: bool) -> None:
    jwk = read(f"rfc7520-cookbook/jwk/{name}")
    assert survives(import_jwk, jwk, kid_is_thumbprint=False) is accepted
