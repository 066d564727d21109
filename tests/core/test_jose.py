"""JWS: one test per attack on its form, header and signature (facts/credentials.md section 8, cases 1 to 30).

Every refused document differs from an accepted one in one thing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gateway.core.encoding import b64url_decode, b64url_encode, keyed_digest
from gateway.core.jose import (
    Algorithm,
    assemble_jws,
    generate_key,
    import_jwk,
    parse_compact,
    sign_compact,
    verify,
    verify_signature,
)
from gateway.core.reasons import Reason
from tests.core.tokens import (
    BASELINE,
    CLAIMS,
    HEADER,
    KEY,
    MAX_CHARS,
    MUTATIONS,
    PAYLOAD,
    SIGNATURE,
    check,
    header,
    mutated,
    raw_token,
    reason_of,
    refusal,
    seeded,
    signed,
    survives,
    with_unused_bit,
)

N_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_baseline_token_is_accepted() -> None:
    assert check(BASELINE) == CLAIMS


def test_token_we_sign_ourselves_is_accepted_for_every_algorithm() -> None:
    for algorithm in Algorithm:
        key = generate_key(algorithm)
        token = sign_compact("dc+sd-jwt", CLAIMS, key)
        jws = parse_compact(token, max_chars=MAX_CHARS)
        assert (jws.header.typ, jws.header.kid, jws.header.algorithm) == ("dc+sd-jwt", key.public.kid, algorithm)
        assert verify(jws, key.public) == CLAIMS


# -- compact form -----------------------------------------------------------------------------------------------------


def with_unused_bits() -> str:
    """The baseline with a header and a payload that both end in an incomplete group."""
    return raw_token(b'{"alg":"ES256"}  '[:16], b'{"a":1}')


LOOSE_HEADER, LOOSE_PAYLOAD, _ = with_unused_bits().split(".")
PADDED_HEADER = urlsafe_b64encode(b'{"alg":"ES256"} ').decode()
PADDED_PAYLOAD = urlsafe_b64encode(b'{"a":1}').decode()
FLATTENED = json.dumps({"protected": HEADER, "payload": PAYLOAD, "signature": SIGNATURE})
GENERAL = json.dumps({"payload": PAYLOAD, "signatures": [{"protected": HEADER, "signature": SIGNATURE}]})

MALFORMED_TOKENS = {
    "case 1: the empty string is refused": "",
    "case 2: one segment is refused": PAYLOAD,
    "case 2: two segments are refused": f"{HEADER}.{PAYLOAD}",
    "case 2: four segments are refused": f"{BASELINE}.{SIGNATURE}",
    "case 2: five segments, a JWE, are refused": f"{BASELINE}.{SIGNATURE}.{SIGNATURE}",
    "case 2: an empty header is refused": f".{PAYLOAD}.{SIGNATURE}",
    "case 2: an empty payload is refused": f"{HEADER}..{SIGNATURE}",
    "case 3: a leading space is refused": f" {BASELINE}",
    "case 3: a trailing space is refused": f"{BASELINE} ",
    "case 3: a trailing newline is refused": f"{BASELINE}\n",
    "case 3: a tab inside is refused": f"{HEADER}.{PAYLOAD}\t.{SIGNATURE}",
    "case 3: a NUL inside is refused": f"{HEADER}.{PAYLOAD}\0.{SIGNATURE}",
    "case 3: a zero-width space inside is refused": f"{HEADER}.\u200b{PAYLOAD}.{SIGNATURE}",
    "case 3: a lone surrogate inside is refused": f"{HEADER}.\ud800{PAYLOAD}.{SIGNATURE}",
    "case 4: a signature padded with one = is refused": f"{BASELINE}=",
    "case 4: a signature padded with two = is refused": f"{BASELINE}==",
    "case 5: a header padded and signed so is refused": signed(f"{PADDED_HEADER}.{PAYLOAD}"),
    "case 5: a payload padded and signed so is refused": signed(f"{HEADER}.{PADDED_PAYLOAD}"),
    "case 6: unused bits set in the header are refused": signed(f"{with_unused_bit(LOOSE_HEADER)}.{LOOSE_PAYLOAD}"),
    "case 6: unused bits set in the payload are refused": signed(f"{LOOSE_HEADER}.{with_unused_bit(LOOSE_PAYLOAD)}"),
    "case 6: unused bits set in the signature are refused": f"{HEADER}.{PAYLOAD}.{with_unused_bit(SIGNATURE)}",
    "case 7: a header of impossible length is refused": signed(f"{PADDED_HEADER.rstrip('=')}AAA.{PAYLOAD}"),
    "case 7: a payload of impossible length is refused": signed(f"{HEADER}.AAAAA"),
    "case 7: a signature of impossible length is refused": f"{HEADER}.{PAYLOAD}.{SIGNATURE}AAA",
    "case 8: a plus sign is refused": f"{HEADER}.{PAYLOAD}.+{SIGNATURE[1:]}",
    "case 8: a slash is refused": f"{HEADER}.{PAYLOAD}./{SIGNATURE[1:]}",
    "case 9: the flattened JSON serialization is refused": FLATTENED,
    "case 9: the general JSON serialization is refused": GENERAL,
    "case 55: a trailing tilde is refused": f"{BASELINE}~",
}


def test_loose_baseline_is_accepted() -> None:
    assert check(with_unused_bits()) == {"a": 1}


@pytest.mark.parametrize("token", MALFORMED_TOKENS.values(), ids=MALFORMED_TOKENS)
def test_malformed_token(token: str) -> None:
    assert refusal(token) is Reason.MALFORMED


def test_token_over_the_limit_is_too_large_before_anything_looks_at_it() -> None:
    assert reason_of(parse_compact, BASELINE, max_chars=len(BASELINE) - 1) is Reason.TOO_LARGE
    assert parse_compact(BASELINE, max_chars=len(BASELINE)).signing_input


# -- header -----------------------------------------------------------------------------------------------------------


def padded_header(size: int) -> bytes:
    text = json.dumps(header())
    return (text[:-1] + " " * (size - len(text)) + "}").encode()


MALFORMED_HEADERS = {
    "case 10: an array is refused": b'["ES256"]',
    "case 10: a string is refused": b'"ES256"',
    "case 10: null is refused": b"null",
    "case 10: a number is refused": b"256",
    "case 11: alg twice, none first, is refused": b'{"alg":"none","alg":"ES256"}',
    "case 11: alg twice, none last, is refused": b'{"alg":"ES256","alg":"none"}',
    "case 12: alg twice, once escaped, is refused": b'{"alg":"ES256","\\u0061lg":"ES256"}',
    "case 13: UTF-16 is refused": '{"alg":"ES256"}'.encode("utf-16"),
    "case 13: UTF-16 without BOM is refused": '{"alg":"ES256"}'.encode("utf-16-le"),
    "case 13: UTF-32 is refused": '{"alg":"ES256"}'.encode("utf-32"),
    "case 13: a UTF-8 BOM is refused": b'\xef\xbb\xbf{"alg":"ES256"}',
    "case 13: invalid UTF-8 is refused": b'{"alg":"ES256","typ":"\xff"}',
    "case 14: a header of 513 bytes is refused": padded_header(513),
    "case 14: a kid of 129 characters is refused": json.dumps(header(kid="k" * 129)).encode(),
    "case 14: a kid with a slash is refused": json.dumps(header(kid="../../etc/passwd")).encode(),
    "case 14: a kid with a quote is refused": json.dumps(header(kid="' OR 1=1")).encode(),
    "case 14: a kid with a NUL is refused": json.dumps(header(kid="k\0")).encode(),
    "case 14: a kid that is not ASCII is refused": json.dumps(header(kid="密钥")).encode(),
    "case 14: an empty kid is refused": json.dumps(header(kid="")).encode(),
    "case 14: a kid that is a number is refused": json.dumps(header(kid=1)).encode(),
    "case 39: a lone surrogate in typ is refused": b'{"alg":"ES256","typ":"\\ud800"}',
}


@pytest.mark.parametrize("raw", MALFORMED_HEADERS.values(), ids=MALFORMED_HEADERS)
def test_malformed_header(raw: bytes) -> None:
    assert refusal(raw_token(raw, CLAIMS)) is Reason.MALFORMED


def test_header_of_512_bytes_and_kid_of_128_characters_are_accepted() -> None:
    assert check(raw_token(padded_header(512), CLAIMS)) == CLAIMS
    assert check(raw_token(header(kid="k" * 128), CLAIMS)) == CLAIMS


NOT_AN_ALGORITHM = ["none", "noNe", "NONE", "", None, ["ES256"], {"ES256": 1}, 256, True]
UNSUPPORTED = ["es256", "ES256 ", "ES256\0", "ES256K", "ES521", "ES512", "PS384", "RS512", "HS256", "SM2"]


@pytest.mark.parametrize("alg", NOT_AN_ALGORITHM, ids=lambda alg: f"case 15: alg {alg!r} is refused")
def test_alg_that_is_no_algorithm(alg: object) -> None:
    assert refusal(raw_token(header(alg=alg), CLAIMS)) is Reason.ALGORITHM_NOT_ALLOWED


def test_case_15_missing_alg_is_refused() -> None:
    assert refusal(raw_token({"typ": "dc+sd-jwt", "kid": KEY.public.kid}, CLAIMS)) is Reason.ALGORITHM_NOT_ALLOWED


def test_case_15_alg_none_without_signature_is_refused() -> None:
    unsigned = raw_token(header(alg="none"), CLAIMS).rpartition(".")[0] + "."
    assert refusal(unsigned) is Reason.ALGORITHM_NOT_ALLOWED


def public_bytes() -> dict[str, bytes]:
    public = KEY.public._object
    subject, point = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.UncompressedPoint
    return {
        "PEM": public.public_bytes(serialization.Encoding.PEM, subject),
        "DER": public.public_bytes(serialization.Encoding.DER, subject),
        "the raw point": public.public_bytes(serialization.Encoding.X962, point),
        "the JWK": json.dumps(dict(KEY.public.jwk)).encode(),
    }


@pytest.mark.parametrize("form", public_bytes(), ids=lambda form: f"case 16: HS256 keyed with {form} is refused")
def test_hmac_with_the_public_key_as_secret(form: str) -> None:
    secret = public_bytes()[form]
    signing_input = raw_token(header(alg="HS256"), CLAIMS).rpartition(".")[0]
    mac = hmac.new(secret, signing_input.encode(), hashlib.sha256).digest()
    assert refusal(f"{signing_input}.{b64url_encode(mac)}") is Reason.ALGORITHM_NOT_ALLOWED


def test_case_17_token_of_another_algorithm_than_its_key_is_refused() -> None:
    rsa_key = generate_key(Algorithm.RS256)
    token = raw_token(header(alg="RS256"), CLAIMS, rsa_key)
    assert check(token, rsa_key.public) == CLAIMS
    assert refusal(token) is Reason.ALGORITHM_NOT_ALLOWED
    assert refusal(BASELINE, rsa_key.public) is Reason.ALGORITHM_NOT_ALLOWED


@pytest.mark.parametrize("alg", UNSUPPORTED, ids=lambda alg: f"case 18: alg {alg!r} is refused")
def test_unsupported_algorithm(alg: str) -> None:
    assert refusal(raw_token(header(alg=alg), CLAIMS)) is Reason.ALGORITHM_NOT_ALLOWED


@pytest.mark.parametrize(("alg", "registered"), [("PS256", "RS256"), ("RS256", "PS256")])
def test_case_18_rsa_padding_the_key_is_not_registered_for_is_refused(alg: str, registered: str) -> None:
    key = generate_key(Algorithm(registered))
    assert check(raw_token(header(alg=registered), CLAIMS, key), key.public) == CLAIMS
    other = generate_key(Algorithm(alg))
    assert refusal(raw_token(header(alg=alg), CLAIMS, other), key.public) is Reason.ALGORITHM_NOT_ALLOWED


def test_old_name_eddsa_means_ed25519() -> None:
    key = generate_key(Algorithm.ED25519)
    assert check(raw_token(header(alg="EdDSA"), CLAIMS, key), key.public) == CLAIMS
    assert refusal(raw_token(header(alg="Ed448"), CLAIMS, key), key.public) is Reason.ALGORITHM_NOT_ALLOWED


FORBIDDEN_MEMBERS: dict[str, dict[str, Any]] = {
    "case 19: crit naming exp is refused": {"crit": ["exp"]},
    "case 19: an empty crit is refused": {"crit": []},
    "case 19: crit that is a string is refused": {"crit": "b64"},
    "case 20: b64 false is refused": {"b64": False, "crit": ["b64"]},
    "case 20: b64 true is refused": {"b64": True},
    "case 20: b64 without crit is refused": {"b64": False},
    "case 21: jku is refused": {"jku": "https://evil.example/jwks"},
    "case 21: x5u is refused": {"x5u": "https://evil.example/cert"},
    "case 21: x5c is refused": {"x5c": ["MIIB"]},
    "case 21: x5t is refused": {"x5t": "AAAA"},
    "case 21: zip is refused": {"zip": "DEF"},
    "case 21: enc is refused": {"enc": "A128GCM"},
    "case 21: cty is refused": {"cty": "JWT"},
    "case 21: a member nobody knows is refused": {"iss": "https://sh.example"},
    "case 21: a member in another case is refused": {"Alg": "ES256"},
}


@pytest.mark.parametrize("members", FORBIDDEN_MEMBERS.values(), ids=FORBIDDEN_MEMBERS)
def test_header_member_that_is_not_allowed(members: dict[str, Any]) -> None:
    assert refusal(raw_token(header(**members), CLAIMS)) is Reason.HEADER_NOT_ALLOWED


def test_case_22_key_of_the_attacker_in_the_header_is_refused() -> None:
    attacker = generate_key()
    token = raw_token(header(jwk=dict(list(attacker.public.jwk.items())[:4])), CLAIMS, attacker)
    assert refusal(token) is Reason.HEADER_NOT_ALLOWED


@pytest.mark.parametrize("typ", [123, None, ["dc+sd-jwt"]], ids=lambda typ: f"case 24: typ {typ!r} is refused")
def test_typ_that_is_no_string(typ: object) -> None:
    assert refusal(raw_token(header(typ=typ), CLAIMS)) is Reason.TYPE_MISMATCH


# -- signature --------------------------------------------------------------------------------------------------------


def flips(segment: str) -> list[str]:
    raw = bytearray(b64url_decode(segment))
    flipped = []
    for bit in range(len(raw) * 8):
        raw[bit // 8] ^= 1 << bit % 8
        flipped.append(b64url_encode(bytes(raw)))
        raw[bit // 8] ^= 1 << bit % 8
    return flipped


def test_case_26_every_flipped_bit_of_the_payload_is_refused() -> None:
    assert {refusal(f"{HEADER}.{part}.{SIGNATURE}") for part in flips(PAYLOAD)} == {Reason.SIGNATURE_INVALID}


def test_case_26_every_flipped_bit_of_the_signature_is_refused() -> None:
    assert {refusal(f"{HEADER}.{PAYLOAD}.{part}") for part in flips(SIGNATURE)} == {Reason.SIGNATURE_INVALID}


def test_case_26_every_flipped_bit_of_the_header_is_refused() -> None:
    # Most break the JSON or the names first; a flip inside typ or kid leaves only the signature to notice.
    reasons = [refusal(f"{part}.{PAYLOAD}.{SIGNATURE}") for part in flips(HEADER)]
    assert reasons.count(Reason.SIGNATURE_INVALID) > len(KEY.public.kid)


def es256(r: int, s: int) -> str:
    return f"{HEADER}.{PAYLOAD}.{b64url_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


R, S = (int.from_bytes(half, "big") for half in (b64url_decode(SIGNATURE)[:32], b64url_decode(SIGNATURE)[32:]))
BAD_NUMBERS = {
    "case 27: r=0, s=0 is refused": (0, 0),
    "case 27: r=0 is refused": (0, S),
    "case 27: s=0 is refused": (R, 0),
    "case 27: r=n is refused": (N_P256, S),
    "case 27: s=n is refused": (R, N_P256),
    "case 27: r=1, s=0 is refused": (1, 0),
    "case 27: r=n, s=n is refused": (N_P256, N_P256),
    "case 27: r>n is refused": (N_P256 + 1, S),
    "case 27: r=s=2^256-1 is refused": (2**256 - 1, 2**256 - 1),
}


@pytest.mark.parametrize("numbers", BAD_NUMBERS.values(), ids=BAD_NUMBERS)
def test_signature_numbers_out_of_range(numbers: tuple[int, int]) -> None:
    assert refusal(es256(*numbers)) is Reason.SIGNATURE_INVALID


BAD_LENGTHS = {
    "case 28: a DER signature is refused": encode_dss_signature(R, S),
    "case 28: 63 octets are refused": b64url_decode(SIGNATURE)[:63],
    "case 28: 65 octets are refused": b64url_decode(SIGNATURE) + b"\0",
    "case 28: 66 octets, each half widened, are refused": R.to_bytes(33, "big") + S.to_bytes(33, "big"),
    "case 28: an empty signature is refused": b"",
}


@pytest.mark.parametrize("signature", BAD_LENGTHS.values(), ids=BAD_LENGTHS)
def test_signature_of_the_wrong_length(signature: bytes) -> None:
    assert refusal(f"{HEADER}.{PAYLOAD}.{b64url_encode(signature)}") is Reason.SIGNATURE_INVALID


def test_case_29_es256_token_is_refused_for_a_p384_key() -> None:
    key = generate_key(Algorithm.ES384)
    assert check(raw_token(header(alg="ES384"), CLAIMS, key), key.public) == CLAIMS
    assert refusal(raw_token(header(alg="ES256"), CLAIMS, key), key.public) is Reason.ALGORITHM_NOT_ALLOWED


def test_case_29_p384_key_declared_for_es256_is_refused() -> None:
    jwk = dict(generate_key(Algorithm.ES384).public.jwk)
    assert import_jwk(jwk).algorithm is Algorithm.ES384
    assert reason_of(import_jwk, jwk | {"alg": "ES256"}) is Reason.KEY_NOT_ACCEPTABLE


def test_case_30_the_other_root_of_the_signature_is_accepted() -> None:
    # Legal in ECDSA. It is why nothing may be keyed by the signature or the whole token.
    assert es256(R, N_P256 - S) != BASELINE
    assert check(es256(R, N_P256 - S)) == CLAIMS


def test_signature_by_another_key_is_refused() -> None:
    assert refusal(BASELINE, generate_key().public) is Reason.SIGNATURE_INVALID


def test_signature_covers_the_bytes_received_not_what_they_mean() -> None:
    respelt = b64url_encode(json.dumps(CLAIMS, separators=(",", ":")).encode())
    assert respelt != PAYLOAD
    assert refusal(f"{HEADER}.{respelt}.{SIGNATURE}") is Reason.SIGNATURE_INVALID


# -- no other exception -----------------------------------------------------------------------------------------------


def test_case_111_mutated_tokens_are_never_accepted_and_raise_nothing_but_rejected() -> None:
    rng = seeded(20261122)
    accepted = []
    for _ in range(MUTATIONS):
        token = mutated(BASELINE.encode(), rng).decode("utf-8", rng.choice(["replace", "surrogateescape"]))
        if survives(check, token) and token != BASELINE:
            accepted.append(token)
    assert accepted == []


def test_mutated_headers_and_payloads_raise_nothing_but_rejected() -> None:
    rng = seeded(7515)
    for _ in range(MUTATIONS):
        parts = [b64url_encode(mutated(b64url_decode(part), rng)) for part in (HEADER, PAYLOAD)]
        survives(assemble_jws, *parts, SIGNATURE)


# -- digests ----------------------------------------------------------------------------------------------------------


def test_keyed_digest_keeps_its_parts_apart() -> None:
    digests = {keyed_digest(b"key", *parts) for parts in [("ab", "c"), ("a", "bc"), ("abc",), ("", "abc"), ("abc", "")]}
    assert len(digests) == 5
    assert keyed_digest(b"key", "a") != keyed_digest(b"other", "a")


def test_verify_signature_alone_does_not_need_json() -> None:
    verify_signature(parse_compact(raw_token(header(), b"not JSON"), max_chars=MAX_CHARS), KEY.public)
    assert refusal(raw_token(header(), b"not JSON")) is Reason.MALFORMED
