"""Public keys: one test per kind that is never accepted (facts/credentials.md section 8, cases 31 to 35).

Every refused document differs from an accepted one in one thing.
"""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from gateway.core.encoding import b64url_decode, b64url_encode
from gateway.core.jose import Algorithm, generate_key, import_jwk, import_jwks, load_pkcs8
from gateway.core.reasons import Reason
from tests.core.tokens import (
    CLAIMS,
    KEY,
    MUTATIONS,
    check,
    header,
    mutated,
    raw_token,
    reason_of,
    seeded,
    survives,
    with_unused_bit,
)

P_P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
EC_JWK = dict(KEY.public.jwk)
OKP_JWK = dict(generate_key(Algorithm.ED25519).public.jwk)
RSA_JWK = {"kty": "RSA", "n": b64url_encode((2**2047 + 0x12345).to_bytes(256, "big")), "e": "AQAB"}


def bad_key(jwk: object) -> Reason:
    return reason_of(import_jwk, jwk)


def without(jwk: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name not in names}


def rsa_jwk(n: int, e: int = 65537) -> dict[str, str]:
    return {
        "kty": "RSA",
        "n": b64url_encode(n.to_bytes((n.bit_length() + 7) // 8, "big")),
        "e": b64url_encode(e.to_bytes((e.bit_length() + 7) // 8, "big")),
    }


def roca_modulus() -> int:
    """An odd 2048-bit number that is 1 modulo every prime of the fingerprint, and 1 is a power of 65537."""
    step = 2
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157):
        step *= prime
    return 2**2047 // step * step + step + 1


def test_baseline_keys_are_accepted() -> None:
    assert import_jwk(EC_JWK).algorithm is Algorithm.ES256
    assert import_jwk(OKP_JWK).algorithm is Algorithm.ED25519
    assert import_jwk(RSA_JWK).algorithm is Algorithm.RS256
    assert import_jwk(RSA_JWK | {"alg": "PS256"}).algorithm is Algorithm.PS256
    assert import_jwk(without(EC_JWK, "kid", "alg", "use")).kid == KEY.public.thumbprint


BAD_RSA = {
    "case 31: RSA of 1024 bits is refused": rsa_jwk(2**1023 + 0x12345),
    "case 31: RSA of 2047 bits is refused": rsa_jwk(2**2046 + 0x12345),
    "case 31: RSA with e=3 is refused": RSA_JWK | {"e": "Aw"},
    "case 31: RSA with e=1 is refused": RSA_JWK | {"e": "AQ"},
    "case 31: RSA with e=65539 is refused": RSA_JWK | {"e": b64url_encode((65539).to_bytes(3, "big"))},
    "case 31: RSA with e=65537 spelt with a leading zero is refused": RSA_JWK | {"e": "AAEAAQ"},
    "case 31: RSA with an even modulus is refused": rsa_jwk(2**2047 + 0x12344),
    "case 31: RSA of 4097 bits is refused": rsa_jwk(2**4096 + 0x12345),
    "case 31: RSA of 16384 bits is refused": rsa_jwk(2**16383 + 0x12345),
    "case 31: RSA with the ROCA fingerprint is refused": rsa_jwk(roca_modulus()),
    "case 31: RSA with a leading zero octet is refused": RSA_JWK
    | {"n": b64url_encode(b"\0" + b64url_decode(RSA_JWK["n"]))},
    "case 31: RSA with an empty modulus is refused": RSA_JWK | {"n": ""},
    "case 31: RSA without modulus is refused": without(RSA_JWK, "n"),
}


@pytest.mark.parametrize("jwk", BAD_RSA.values(), ids=BAD_RSA)
def test_rsa_key_that_is_not_acceptable(jwk: dict[str, str]) -> None:
    assert bad_key(jwk) is Reason.KEY_NOT_ACCEPTABLE


def test_roca_fingerprint_is_what_refuses_the_roca_modulus() -> None:
    assert import_jwk(rsa_jwk(roca_modulus() + 2)).algorithm is Algorithm.RS256


SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: f"case 32: the point {point[:4]}... is refused")
@pytest.mark.parametrize("sign", [0, 0x80], ids=["x even", "x odd"])
def test_ed25519_point_of_small_order(point: str, sign: int) -> None:
    raw = bytearray(bytes.fromhex(point))
    raw[31] |= sign
    assert bad_key(without(OKP_JWK, "kid") | {"x": b64url_encode(bytes(raw))}) is Reason.KEY_NOT_ACCEPTABLE


ED448 = ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw()
BAD_OKP = {
    "case 32: 31 octets are refused": OKP_JWK | {"x": b64url_encode(b64url_decode(OKP_JWK["x"])[:31])},
    "case 32: 33 octets are refused": OKP_JWK | {"x": b64url_encode(b64url_decode(OKP_JWK["x"]) + b"\0")},
    "case 32: Ed448 is refused": {"kty": "OKP", "crv": "Ed448", "x": b64url_encode(ED448)},
    "case 32: X25519 is refused": without(OKP_JWK, "kid") | {"crv": "X25519"},
}


@pytest.mark.parametrize("jwk", BAD_OKP.values(), ids=BAD_OKP)
def test_okp_key_that_is_not_acceptable(jwk: dict[str, str]) -> None:
    assert bad_key(jwk) is Reason.KEY_NOT_ACCEPTABLE


def unreduced_point() -> dict[str, str]:
    """A P-256 key whose x is small enough that x + p also fits into 32 octets."""
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    y = pow(b, (P_P256 + 1) // 4, P_P256)  # the point with x = 0
    jwk = {"kty": "EC", "crv": "P-256", "x": b64url_encode(bytes(32)), "y": b64url_encode(y.to_bytes(32, "big"))}
    assert import_jwk(jwk).algorithm is Algorithm.ES256
    return jwk | {"x": b64url_encode(P_P256.to_bytes(32, "big"))}


X = b64url_decode(EC_JWK["x"])
ANY_KID = without(EC_JWK, "kid")
PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
BAD_KEYS: dict[str, object] = {
    "case 33: a symmetric key is refused": {"kty": "oct", "k": b64url_encode(b"secret")},
    "case 33: a symmetric key without k is refused": {"kty": "oct"},
    "case 33: use enc is refused": EC_JWK | {"use": "enc"},
    "case 33: key_ops encrypt is refused": EC_JWK | {"key_ops": ["encrypt"]},
    "case 33: key_ops sign is refused": EC_JWK | {"key_ops": ["sign", "verify"]},
    "case 33: an off-curve point is refused": ANY_KID | {"y": b64url_encode(bytes(31) + b"\1")},
    "case 33: the point (0, 0) is refused": ANY_KID | {"x": b64url_encode(bytes(32)), "y": b64url_encode(bytes(32))},
    "case 33: an x of 31 octets is refused": ANY_KID | {"x": b64url_encode(X[1:])},
    "case 33: an x of 33 octets is refused": ANY_KID | {"x": b64url_encode(b"\0" + X)},
    "case 33: a padded x is refused": EC_JWK | {"x": EC_JWK["x"] + "="},
    "case 33: an x with unused bits set is refused": EC_JWK | {"x": with_unused_bit(EC_JWK["x"])},
    "case 33: an x that is not reduced modulo p is refused": unreduced_point(),
    "case 33: a missing y is refused": without(EC_JWK, "y"),
    "case 33: an x that is a number is refused": EC_JWK | {"x": 1},
    "case 33: alg none is refused": EC_JWK | {"alg": "none"},
    "case 33: alg null is refused": EC_JWK | {"alg": None},
    "case 33: alg that is a list is refused": EC_JWK | {"alg": ["ES256"]},
    "case 33: alg of another curve is refused": EC_JWK | {"alg": "ES384"},
    "case 33: alg of another family is refused": EC_JWK | {"alg": "RS256"},
    "case 33: alg of another family, PS256, is refused": EC_JWK | {"alg": "PS256"},
    "case 33: a curve of another size is refused": ANY_KID | {"crv": "P-384"},
    "case 33: P-521 is refused": ANY_KID | {"crv": "P-521"},
    "case 33: secp256k1 is refused": ANY_KID | {"crv": "secp256k1"},
    "case 33: a curve that is a list is refused": ANY_KID | {"crv": ["P-256"]},
    "case 33: a kty that is a list is refused": EC_JWK | {"kty": ["EC"]},
    "case 33: a kty in another case is refused": EC_JWK | {"kty": "ec"},
    "case 33: a kid that is not the thumbprint is refused": EC_JWK | {"kid": OKP_JWK["kid"]},
    "case 33: a kid with a slash is refused": EC_JWK | {"kid": "a/b"},
    "case 33: a list is refused": [EC_JWK],
    "case 33: null is refused": None,
} | {f"case 33: a key with a private member {name} is refused": EC_JWK | {name: "AQAB"} for name in PRIVATE_MEMBERS}


@pytest.mark.parametrize("jwk", BAD_KEYS.values(), ids=BAD_KEYS)
def test_key_that_is_not_acceptable(jwk: object) -> None:
    assert bad_key(jwk) is Reason.KEY_NOT_ACCEPTABLE


def test_case_91_members_without_meaning_to_us_are_ignored() -> None:
    key = import_jwk(EC_JWK | {"ext": True, "key_ops": ["verify"]})
    assert key.thumbprint == KEY.public.thumbprint


SEVENTEEN = [dict(generate_key(Algorithm.ED25519).public.jwk) for _ in range(17)]
BAD_SETS: dict[str, object] = {
    "case 33: two keys under one kid are refused": {"keys": [EC_JWK, EC_JWK]},
    "case 33: one key under two algorithms is refused": {
        "keys": [RSA_JWK | {"alg": a, "kid": a} for a in ("RS256", "PS256")]
    },
    "case 33: one key under two names is refused": {"keys": [EC_JWK | {"kid": "a"}, EC_JWK | {"kid": "b"}]},
    "case 33: a set with one bad key is refused": {"keys": [EC_JWK | {"kid": "a"}, {"kty": "oct", "kid": "b"}]},
    "case 33: a key without kid in a set is refused": {"keys": [without(EC_JWK, "kid")]},
    "case 33: an empty set is refused": {"keys": []},
    "case 33: a set of 17 keys is refused": {"keys": SEVENTEEN},
    "case 33: a set that is a list is refused": [EC_JWK],
    "case 33: a set whose keys are an object is refused": {"keys": {"a": EC_JWK}},
}


@pytest.mark.parametrize("jwks", BAD_SETS.values(), ids=BAD_SETS)
def test_key_set_that_is_not_acceptable(jwks: object) -> None:
    assert import_jwks({"keys": [EC_JWK | {"kid": "a"}, OKP_JWK | {"kid": "b"}]}, kid_is_thumbprint=False)
    assert reason_of(import_jwks, jwks, kid_is_thumbprint=False) is Reason.KEY_NOT_ACCEPTABLE


def test_key_set_of_sixteen_keys_is_accepted() -> None:
    assert len(import_jwks({"keys": SEVENTEEN[:16]})) == 16


def test_case_34_huge_rsa_key_with_only_d_never_reaches_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    # PyJWT recovers the primes of such a key, for seconds; the bound here is that nothing is imported at all.
    imports: list[object] = []
    for name in ("RSAPublicNumbers", "RSAPrivateNumbers", "rsa_recover_prime_factors"):
        monkeypatch.setattr(rsa, name, imports.append)
    huge = rsa_jwk(2**16383 + 0x12345)
    assert bad_key(huge | {"d": huge["n"]}) is Reason.KEY_NOT_ACCEPTABLE
    assert bad_key(huge) is Reason.KEY_NOT_ACCEPTABLE
    assert imports == []


def test_case_35_one_key_has_one_thumbprint_whatever_its_kid() -> None:
    # What the registry compares to find two issuers with one key.
    thumbprints = {import_jwk(EC_JWK | {"kid": kid}, kid_is_thumbprint=False).thumbprint for kid in ("a", "b")}
    assert thumbprints == {KEY.public.thumbprint}


def test_thumbprint_of_rfc_7638_section_3_1() -> None:
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    assert import_jwk({"kty": "RSA", "n": n, "e": "AQAB"}).thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_private_key_survives_its_file() -> None:
    for algorithm in (Algorithm.ES256, Algorithm.ES384, Algorithm.ED25519):
        key = generate_key(algorithm)
        for passphrase in (None, b"correct horse"):
            loaded = load_pkcs8(key.to_pkcs8(passphrase), passphrase)
            assert loaded.public == key.public
            assert check(raw_token(header(alg=algorithm.value), CLAIMS, loaded), key.public) == CLAIMS


UNLOADABLE = {
    "garbage is refused": b"not a key",
    "Ed448 is refused": ed448.Ed448PrivateKey.generate(),
    "P-224 is refused": ec.generate_private_key(ec.SECP224R1()),
    "P-521 is refused": ec.generate_private_key(ec.SECP521R1()),
    "brainpool is refused": ec.generate_private_key(ec.BrainpoolP256R1()),
    "RSA of 1024 bits is refused": rsa.generate_private_key(65537, 1024),  # noqa: S505 - the point
}


@pytest.mark.parametrize("private", UNLOADABLE.values(), ids=UNLOADABLE)
def test_key_file_that_is_not_acceptable(private: Any) -> None:
    pem = private
    if not isinstance(private, bytes):
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    with pytest.raises(ValueError, match=r"not supported|not an odd|PEM"):
        load_pkcs8(pem)


@pytest.mark.parametrize(("stored", "given"), [(b"right", b"wrong"), (b"right", None), (None, b"needless")])
def test_key_file_does_not_open_without_its_passphrase(stored: bytes | None, given: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"[Pp]ass"):
        load_pkcs8(KEY.to_pkcs8(stored), given)


FOREIGN_VALUES: list[Any] = [None, True, 0, -1, 1.5, "", "=", "é", "\ud800", [], ["EC"], {}, {"a": []}, "A" * 2_000]


def test_mutated_keys_raise_nothing_but_rejected() -> None:
    rng = seeded(7517)
    bases: list[dict[str, Any]] = [EC_JWK, OKP_JWK, RSA_JWK, dict(generate_key(Algorithm.ES384).public.jwk)]
    names = ["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops", "d", "x5c"]
    for _ in range(MUTATIONS):
        jwk = dict(rng.choice(bases))
        for _ in range(rng.randint(1, 3)):
            name = rng.choice(names)
            known = [base[name] for base in bases if name in base]
            value = rng.choice(FOREIGN_VALUES + known)
            jwk[name] = mutated(value.encode(errors="replace"), rng).decode("latin-1") if value in known else value
        survives(import_jwk, jwk, kid_is_thumbprint=rng.random() < 0.5)
        survives(import_jwks, {"keys": [jwk]}, kid_is_thumbprint=False)
