"""One entity statement: each rule of OpenID Federation 1.0 section 3, one fault at a time.

Numbers are those of the negative cases the project keeps; each differs from an accepted statement in exactly one thing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.encoding import b64url_encode, write_json
from gateway.core.jose import Algorithm, PublicKey, SoftwareKey, generate_key
from gateway.core.reasons import Reason, Rejected
from gateway.core.statements import (
    PROFILE,
    TYP,
    EntityStatement,
    NamingConstraints,
    StatementProfile,
    check_times,
    host,
    parse_statement,
    verify_signature,
)

NOW = datetime(2026, 11, 23, 1, 0, 0, tzinfo=UTC)
IAT = int(NOW.timestamp())
SUBJECT, SUPERIOR = "https://issuer.sh.example", "https://anchor.js.example"
SUBJECT_KEY, SUPERIOR_KEY, STRANGER_KEY = (generate_key() for _ in range(3))
RSA_KEY = generate_key(Algorithm.RS256)
LOOSE = StatementProfile(algorithms=frozenset(Algorithm), kid_is_thumbprint=False)

Change = Callable[[dict[str, Any]], Any]


def jwks(*keys: SoftwareKey) -> dict[str, Any]:
    return {"keys": [dict(key.public.jwk) for key in keys]}


def configuration_claims() -> dict[str, Any]:
    return {
        "iss": SUBJECT,
        "sub": SUBJECT,
        "iat": IAT,
        "exp": IAT + 600,
        "jwks": jwks(SUBJECT_KEY),
        "authority_hints": [SUPERIOR],
        "metadata": {"identity_credential_issuer": {"p": "v"}, "federation_entity": {"organization_name": "沪"}},
    }


def subordinate_claims() -> dict[str, Any]:
    return {
        "iss": SUPERIOR,
        "sub": SUBJECT,
        "iat": IAT,
        "exp": IAT + 600,
        "jwks": jwks(SUBJECT_KEY),
        "constraints": {
            "max_path_length": 0,
            "naming_constraints": {"permitted": ["issuer.sh.example", ".sh.example"], "excluded": []},
            "allowed_entity_types": ["identity_credential_issuer"],
        },
        "metadata_policy": {"identity_credential_issuer": {"p": {"one_of": ["v"]}}},
        "source_endpoint": "https://anchor.js.example/fetch?x=1",
    }


def header(signer: SoftwareKey, **members: Any) -> dict[str, Any]:
    merged = {"alg": signer.public.algorithm.value, "typ": TYP, "kid": signer.public.kid, **members}
    return {name: value for name, value in merged.items() if value is not None}


def assemble(protected: bytes, payload: bytes, sign: Callable[[bytes], bytes]) -> str:
    signing_input = f"{b64url_encode(protected)}.{b64url_encode(payload)}"
    return f"{signing_input}.{b64url_encode(sign(signing_input.encode()))}"


def signed(claims: Mapping[str, Any] | bytes, signer: SoftwareKey, **members: Any) -> str:
    payload = claims if isinstance(claims, bytes) else write_json(claims)
    return assemble(write_json(header(signer, **members)), payload, signer.sign)


def judge(
    token: str, *, keys: Mapping[str, PublicKey] | None = None, profile: StatementProfile = PROFILE
) -> EntityStatement:
    """All three steps. Without ``keys`` the statement is taken for a configuration, judged by its own."""
    statement = parse_statement(token, profile)
    check_times(statement, profile, NOW)
    key = (statement.jwks if keys is None else keys).get(statement.kid)
    if key is None:
        raise Rejected(Reason.KEY_UNKNOWN, "kid is not in the issuer's jwks")
    return verify_signature(statement, key)


def superior_keys() -> dict[str, PublicKey]:
    return {SUPERIOR_KEY.public.kid: SUPERIOR_KEY.public}


def accept_configuration(change: Change = lambda _claims: None) -> EntityStatement:
    claims = configuration_claims()
    change(claims)
    return judge(signed(claims, SUBJECT_KEY))


def accept_subordinate(change: Change = lambda _claims: None) -> EntityStatement:
    claims = subordinate_claims()
    change(claims)
    return judge(signed(claims, SUPERIOR_KEY), keys=superior_keys())


def put(**members: Any) -> Change:
    return lambda claims: claims.update(members)


def drop(name: str) -> Change:
    return lambda claims: claims.pop(name)


def put_key(**members: Any) -> Change:
    return lambda claims: claims["jwks"]["keys"][0].update(members)


def put_metadata(**members: Any) -> Change:
    return lambda claims: claims["metadata"].update(members)


def constrain(**members: Any) -> Change:
    return lambda claims: claims["constraints"].update(members)


# -- accepted ---------------------------------------------------------------------------------------------------------


def test_baseline_configuration_is_accepted() -> None:
    statement = accept_configuration()
    assert statement.is_configuration
    assert (statement.iss, statement.sub, statement.kid) == (SUBJECT, SUBJECT, SUBJECT_KEY.public.kid)
    assert (statement.issued_at, statement.expires_at) == (NOW, NOW + timedelta(minutes=10))
    assert statement.authority_hints == (SUPERIOR,)
    assert list(statement.jwks.values()) == [statement.signer]
    assert statement.signer.thumbprint == SUBJECT_KEY.public.thumbprint


def test_baseline_subordinate_statement_is_accepted() -> None:
    statement = accept_subordinate()
    assert not statement.is_configuration
    assert statement.signer.thumbprint == SUPERIOR_KEY.public.thumbprint
    assert statement.constraints.max_path_length == 0
    assert statement.constraints.naming == NamingConstraints(permitted=("issuer.sh.example", ".sh.example"))
    assert statement.constraints.allowed_entity_types == frozenset({"identity_credential_issuer"})
    assert statement.metadata_policy is not None


def test_statement_keeps_the_token_as_signed_and_all_its_claims() -> None:
    token = signed(configuration_claims() | {"seq": 41}, SUBJECT_KEY)
    statement = judge(token)
    assert statement.token == token
    assert statement.claims["seq"] == 41


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.ES384, Algorithm.ED25519])
def test_every_algorithm_of_the_profile_is_accepted(algorithm: Algorithm) -> None:
    key = generate_key(algorithm)
    assert judge(signed(configuration_claims() | {"jwks": jwks(key)}, key)).signer.algorithm is algorithm


TRUST_MARK = assemble(b'{"alg":"XS1"}', b'{"trust_mark_type":"https://marks.example/a"}', lambda _message: b"x")
MARK = {"trust_mark_type": "https://marks.example/a", "trust_mark": TRUST_MARK}

ACCEPTED_CONFIGURATIONS: dict[str, Change] = {
    "case 49: unknown claim that crit does not name": put(whatever=[None]),
    "case 53: trust_mark_issuers of an entity that is no anchor": put(trust_mark_issuers={"t": [SUPERIOR], "u": []}),
    "case 53: trust_mark_owners of an entity that is no anchor": put(
        trust_mark_owners={"t": {"sub": SUPERIOR, "jwks": jwks(SUPERIOR_KEY)}}
    ),
    "case 57: a leaf that publishes a fetch endpoint": put_metadata(
        federation_entity={"federation_fetch_endpoint": "https://issuer.sh.example:8443/fetch?x=/a"}
    ),
    "case 58: a superior that publishes no fetch endpoint": put_metadata(federation_entity={}),
    "an entity type without parameters": put_metadata(identity_credential_issuer={}),
    "null below the level of parameters": put_metadata(identity_credential_issuer={"p": [None]}),
    "ten authority hints": put(authority_hints=[f"https://a{i}.example" for i in range(10)]),
    "metadata of federation_entity that only looks like an endpoint": put_metadata(
        federation_entity={"federation_motto": "a", "policy_endpoint": "b"}
    ),
    "no authority hints": drop("authority_hints"),
    "no metadata": drop("metadata"),
    "trust anchor hints": put(trust_anchor_hints=[SUPERIOR]),
    "a trust mark of an algorithm that we do not know": put(trust_marks=[MARK]),
}
ACCEPTED_SUBORDINATES: dict[str, Change] = {
    "case 83: unknown member in constraints": constrain(max_width=3),
    "case 93: unknown operator that nothing calls critical": put(metadata_policy={"t": {"p": {"regexp": "a"}}}),
    "no constraints": drop("constraints"),
    "no policy": drop("metadata_policy"),
    "no entity type but federation_entity": constrain(allowed_entity_types=[]),
}


@pytest.mark.parametrize("change", ACCEPTED_CONFIGURATIONS.values(), ids=ACCEPTED_CONFIGURATIONS)
def test_configuration_is_accepted(change: Change) -> None:
    assert accept_configuration(change).sub == SUBJECT


@pytest.mark.parametrize("change", ACCEPTED_SUBORDINATES.values(), ids=ACCEPTED_SUBORDINATES)
def test_subordinate_statement_is_accepted(change: Change) -> None:
    assert accept_subordinate(change).sub == SUBJECT


# -- header and serialization -----------------------------------------------------------------------------------------

HEADERS: dict[str, tuple[dict[str, Any], Reason]] = {
    "case 1: no typ": ({"typ": None}, Reason.TYPE_MISMATCH),
    "case 2: typ is JWT": ({"typ": "JWT"}, Reason.TYPE_MISMATCH),
    "case 3: typ with application/": ({"typ": "application/entity-statement+jwt"}, Reason.TYPE_MISMATCH),
    "case 4: typ in another letter case": ({"typ": "Entity-Statement+JWT"}, Reason.TYPE_MISMATCH),
    "case 8: no kid": ({"kid": None}, Reason.STATEMENT_INVALID),
    "case 9: empty kid": ({"kid": ""}, Reason.MALFORMED),
    "case 10: kid of another entity's key": ({"kid": STRANGER_KEY.public.kid}, Reason.KEY_UNKNOWN),
    "case 12: trust_chain header in a configuration": ({"trust_chain": ["a.b.c"]}, Reason.HEADER_NOT_ALLOWED),
    "case 14: crit header naming an unknown header": ({"crit": ["x"], "x": 1}, Reason.HEADER_NOT_ALLOWED),
    "case 15: b64 false": ({"b64": False, "crit": ["b64"]}, Reason.HEADER_NOT_ALLOWED),
    "case 16: jwk header": ({"jwk": {"kty": "EC"}}, Reason.HEADER_NOT_ALLOWED),
    "case 16: jku header": ({"jku": "https://issuer.sh.example/jwks"}, Reason.HEADER_NOT_ALLOWED),
    "case 16: x5u header": ({"x5u": "https://issuer.sh.example/x5c"}, Reason.HEADER_NOT_ALLOWED),
    "case 16: x5c header": ({"x5c": ["AA=="]}, Reason.HEADER_NOT_ALLOWED),
    "alg that the federation does not use": ({"alg": "PS256"}, Reason.ALGORITHM_NOT_ALLOWED),
}


@pytest.mark.parametrize(("members", "reason"), HEADERS.values(), ids=HEADERS)
def test_header_is_rejected(members: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(Rejected) as caught:
        judge(signed(configuration_claims(), SUBJECT_KEY, **members))
    assert caught.value.reason is reason


def test_case_13_peer_trust_chain_header_in_a_subordinate_statement_is_rejected() -> None:
    with pytest.raises(Rejected) as caught:
        judge(signed(subordinate_claims(), SUPERIOR_KEY, peer_trust_chain=["a.b.c"]), keys=superior_keys())
    assert caught.value.reason is Reason.HEADER_NOT_ALLOWED


def split(token: str) -> list[str]:
    return token.split(".")


def der_signature(message: bytes) -> bytes:
    raw = SUBJECT_KEY.sign(message)
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def hmac_with_public_key(message: bytes) -> bytes:
    return hmac.digest(write_json(SUBJECT_KEY.public.jwk), message, hashlib.sha256)


def malformed_tokens() -> dict[str, tuple[str, Reason]]:
    payload = write_json(configuration_claims())
    protected = write_json(header(SUBJECT_KEY))
    token = assemble(protected, payload, SUBJECT_KEY.sign)
    head, body, signature = split(token)
    twice = protected.replace(b'"typ":', b'"typ":"JWT","typ":')
    none = write_json(header(SUBJECT_KEY, alg="none"))
    hs256 = write_json(header(SUBJECT_KEY, alg="HS256"))
    rs256 = write_json(header(SUBJECT_KEY, alg="RS256"))
    malformed = Reason.MALFORMED

    def repeat(member: bytes) -> tuple[str, Reason]:
        assert member in payload
        return signed(payload.replace(member, member + b"," + member, 1), SUBJECT_KEY), malformed

    return {
        "case 5: alg none without signature": (
            assemble(none, payload, lambda _message: b""),
            Reason.ALGORITHM_NOT_ALLOWED,
        ),
        "case 6: HS256 keyed with the public key": (
            assemble(hs256, payload, hmac_with_public_key),
            Reason.ALGORITHM_NOT_ALLOWED,
        ),
        "case 7: RS256 for an EC key": (
            assemble(rs256, payload, SUBJECT_KEY.sign),
            Reason.ALGORITHM_NOT_ALLOWED,
        ),
        "case 17: JWS JSON serialization": (
            json.dumps({"protected": head, "payload": body, "signature": signature}),
            malformed,
        ),
        "case 18: five parts, as of a JWE": (f"{head}.{body}.{signature}.{body}.{signature}", malformed),
        "case 19: base64 with =": (f"{head}.{body}.{signature}==", malformed),
        "case 19: base64 with +": (f"{head}.{body}.+{signature[1:]}", malformed),
        "case 19: base64 with /": (f"{head}.{body}./{signature[1:]}", malformed),
        "case 20: newline after the token": (f"{token}\n", malformed),
        "case 20: bytes after the token": (f"{token} x", malformed),
        "case 21: DER signature": (assemble(protected, payload, der_signature), Reason.SIGNATURE_INVALID),
        "case 22: duplicate member name in header": (assemble(twice, payload, SUBJECT_KEY.sign), malformed),
        "case 22: duplicate member name in payload": repeat(f'"iat":{IAT}'.encode()),
        "case 22: duplicate member name deep in payload": repeat(b'"p":"v"'),
        "case 23: payload is an array": (signed(b"[]", SUBJECT_KEY), malformed),
        "case 23: payload is a string": (signed(b'"a"', SUBJECT_KEY), malformed),
        "payload was altered": (f"{head}.{b64url_encode(payload + b' ')}.{signature}", Reason.SIGNATURE_INVALID),
    }


@pytest.mark.parametrize(("token", "reason"), malformed_tokens().values(), ids=malformed_tokens())
def test_token_is_rejected(token: str, reason: Reason) -> None:
    with pytest.raises(Rejected) as caught:
        judge(token)
    assert caught.value.reason is reason


def test_case_7_rs256_for_an_ec_key_is_rejected_even_where_rs256_is_allowed() -> None:
    token = signed(configuration_claims(), SUBJECT_KEY, alg="RS256")
    with pytest.raises(Rejected) as caught:
        judge(token, profile=LOOSE)
    assert caught.value.reason is Reason.ALGORITHM_NOT_ALLOWED
    rsa = configuration_claims() | {"jwks": jwks(RSA_KEY)}
    assert judge(signed(rsa, RSA_KEY), profile=LOOSE).signer.algorithm is Algorithm.RS256


def test_case_11_right_kid_with_wrong_key_is_rejected() -> None:
    forged = {**STRANGER_KEY.public.jwk, "kid": SUBJECT_KEY.public.kid}
    token = signed(configuration_claims() | {"jwks": {"keys": [forged]}}, SUBJECT_KEY)
    with pytest.raises(Rejected) as caught:
        judge(token)
    assert caught.value.reason is Reason.KEY_NOT_ACCEPTABLE  # our kids are thumbprints, so the lie shows at once
    with pytest.raises(Rejected) as caught:
        judge(token, profile=LOOSE)
    assert caught.value.reason is Reason.SIGNATURE_INVALID


def test_case_24_statement_over_the_size_limit_is_rejected_before_it_is_parsed() -> None:
    with pytest.raises(Rejected) as caught:
        parse_statement("!" * (PROFILE.max_chars + 1), PROFILE)
    assert caught.value.reason is Reason.TOO_LARGE
    accept_configuration(put(padding=["x" * 8_000] * 5))
    with pytest.raises(Rejected) as caught:
        accept_configuration(put(padding=["x" * 8_000] * 9))
    assert caught.value.reason is Reason.TOO_LARGE


def test_statement_that_names_another_key_is_not_tried_with_this_one() -> None:
    statement = parse_statement(signed(configuration_claims(), SUBJECT_KEY), PROFILE)
    with pytest.raises(Rejected) as caught:
        verify_signature(statement, STRANGER_KEY.public)
    assert caught.value.reason is Reason.KEY_UNKNOWN


# -- claims of both kinds ---------------------------------------------------------------------------------------------

INVALID = Reason.STATEMENT_INVALID
BAD_KEY = Reason.KEY_NOT_ACCEPTABLE


def entity(entity_id: Any) -> Change:
    """Put an entity identifier into both places of a configuration."""
    return put(iss=entity_id, sub=entity_id)


CONFIGURATIONS: dict[str, tuple[Change, Reason]] = {
    **{f"case 25: {name} is missing": (drop(name), INVALID) for name in ("iss", "sub", "iat", "exp", "jwks")},
    "case 26: exp in the past beyond leeway": (put(iat=IAT - 600, exp=IAT - 61), Reason.EXPIRED),
    "case 28: iat in the future beyond leeway": (put(iat=IAT + 61), Reason.NOT_YET_VALID),
    "case 29: iat is a string": (put(iat=str(IAT)), INVALID),
    "case 29: exp is a string": (put(exp=str(IAT + 600)), INVALID),
    "case 29: iat is a boolean": (put(iat=True), INVALID),
    "case 29: exp is a boolean": (put(exp=True), INVALID),
    "case 29: exp has a fraction": (put(exp=IAT + 600.5), INVALID),
    "case 29: exp is beyond the calendar": (put(exp=253_402_300_800), INVALID),
    "case 29: iat is negative": (put(iat=-1), INVALID),
    "case 30: exp is before iat": (put(exp=IAT - 1), INVALID),
    "case 30: exp is iat": (put(exp=IAT), INVALID),
    "case 31: lives longer than an hour": (put(exp=IAT + 3601), Reason.LIFETIME_TOO_LONG),
    "case 32: iss with http": (entity("http://issuer.sh.example"), INVALID),
    "case 33: iss with a query": (entity(f"{SUBJECT}?a=b"), INVALID),
    "case 33: iss with an empty query": (entity(f"{SUBJECT}?"), INVALID),
    "case 33: iss with a fragment": (entity(f"{SUBJECT}#a"), INVALID),
    "case 34: iss with userinfo": (entity("https://me@issuer.sh.example"), INVALID),
    "case 36: iss with a letter outside ASCII, composed": (entity(f"{SUBJECT}/caf\u00e9"), INVALID),
    "case 36: iss with a letter outside ASCII, decomposed": (entity(f"{SUBJECT}/cafe\u0301"), INVALID),
    "iss without host": (entity("https:///path"), INVALID),
    "iss with a scheme in upper case": (entity("HTTPS://issuer.sh.example"), INVALID),
    "iss with a backslash": (entity(f"{SUBJECT}\\@evil.example"), INVALID),
    "iss with white space": (entity(f"{SUBJECT} "), INVALID),
    "iss with a port out of range": (entity(f"{SUBJECT}:65536"), INVALID),
    "iss with a broken escape": (entity(f"{SUBJECT}/%4"), INVALID),
    "iss too long": (entity(f"{SUBJECT}/{'a' * (512 - len(SUBJECT))}"), INVALID),
    "iss is not a string": (entity(7), INVALID),
    "case 37: two keys of one kid": (
        lambda claims: claims["jwks"]["keys"].append(claims["jwks"]["keys"][0]),
        BAD_KEY,
    ),
    "case 38: key without kid": (lambda claims: claims["jwks"]["keys"][0].pop("kid"), BAD_KEY),
    "case 39: private member in a key": (put_key(d="AAAA"), BAD_KEY),
    "case 40: symmetric key": (put(jwks={"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]}), BAD_KEY),
    "case 41: no key": (put(jwks={"keys": []}), BAD_KEY),
    "case 42: metadata parameter is null": (put_metadata(identity_credential_issuer={"p": None}), INVALID),
    "case 43: metadata of a type is not an object": (put_metadata(identity_credential_issuer=["p"]), INVALID),
    "case 43: metadata is not an object": (put(metadata=["p"]), INVALID),
    "case 44: crit is empty": (put(crit=[]), INVALID),
    "case 45: crit lists a standard claim": (put(crit=["iss"]), INVALID),
    "case 46: crit lists an absent claim": (put(crit=["whatever"]), INVALID),
    "case 47: crit lists a claim twice": (put(crit=["whatever", "whatever"], whatever=1), INVALID),
    "case 47: crit lists a number": (put(crit=[1]), INVALID),
    "case 47: crit is not a list": (put(crit="whatever", whatever=1), INVALID),
    "case 48: crit lists a claim that is not understood": (
        put(crit=["whatever"], whatever=1),
        Reason.CRITICAL_NOT_UNDERSTOOD,
    ),
    "case 50: authority_hints is empty": (put(authority_hints=[]), INVALID),
    "case 50: authority_hints is not a list": (put(authority_hints=SUPERIOR), INVALID),
    "case 50: authority_hints holds something else": (put(authority_hints=[1]), INVALID),
    "case 52: constraints in a configuration": (put(constraints={}), INVALID),
    "case 52: metadata_policy in a configuration": (put(metadata_policy={}), INVALID),
    "case 52: metadata_policy_crit in a configuration": (put(metadata_policy_crit=["a"]), INVALID),
    "case 52: source_endpoint in a configuration": (put(source_endpoint=f"{SUPERIOR}/fetch"), INVALID),
    "case 54: trust_anchor_hints is empty": (put(trust_anchor_hints=[]), INVALID),
    "case 55: aud outside registration": (put(aud=SUPERIOR), INVALID),
    "case 55: trust_anchor outside registration": (put(trust_anchor=SUPERIOR), INVALID),
    **{
        f"case 56: {name} for federation_entity": (put_metadata(federation_entity={name: {}}), INVALID)
        for name in ("jwks", "jwks_uri", "signed_jwks_uri")
    },
    "case 73: a thousand authority hints": (
        put(authority_hints=[f"https://a{i}.example" for i in range(1000)]),
        Reason.TOO_LARGE,
    ),
    "case 73: eleven authority hints": (
        put(authority_hints=[f"https://a{i}.example" for i in range(11)]),
        Reason.TOO_LARGE,
    ),
    "federation endpoint with http": (
        put_metadata(federation_entity={"federation_list_endpoint": "http://issuer.sh.example/list"}),
        INVALID,
    ),
    "federation endpoint with a fragment": (
        put_metadata(federation_entity={"federation_list_endpoint": f"{SUBJECT}/list#a"}),
        INVALID,
    ),
    "trust mark without type": (put(trust_marks=[{"trust_mark": TRUST_MARK}]), INVALID),
    "trust mark is not an object": (put(trust_marks=[TRUST_MARK]), INVALID),
    "trust mark listed under another type": (put(trust_marks=[{**MARK, "trust_mark_type": "b"}]), INVALID),
    "trust mark is not a JWT": (put(trust_marks=[{**MARK, "trust_mark": "a.b"}]), INVALID),
    "trust mark is not a string": (put(trust_marks=[{**MARK, "trust_mark": 1}]), INVALID),
    "trust mark whose payload is not base64url": (
        put(trust_marks=[{**MARK, "trust_mark": "a.!.c"}]),
        Reason.MALFORMED,
    ),
    "too many trust marks": (put(trust_marks=[MARK] * 33), Reason.TOO_LARGE),
    "trust_mark_issuers is not an object": (put(trust_mark_issuers=[]), INVALID),
    "trust_mark_issuers names no list": (put(trust_mark_issuers={"t": SUPERIOR}), INVALID),
    "trust_mark_issuers names no entity": (put(trust_mark_issuers={"t": ["a"]}), INVALID),
    "trust_mark_owners names no entity": (put(trust_mark_owners={"t": {"jwks": jwks(SUPERIOR_KEY)}}), INVALID),
    "trust_mark_owners names no keys": (put(trust_mark_owners={"t": {"sub": SUPERIOR}}), BAD_KEY),
}


@pytest.mark.parametrize(("change", "reason"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_configuration_is_rejected(change: Change, reason: Reason) -> None:
    with pytest.raises(Rejected) as caught:
        accept_configuration(change)
    assert caught.value.reason is reason


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "-0.0", "9007199254740993"])
@pytest.mark.parametrize("name", ["iat", "exp"])
def test_case_29_time_that_is_no_json_number_of_ours_is_rejected(name: str, number: str) -> None:
    claims = configuration_claims()
    payload = write_json(claims).replace(f'"{name}":{claims[name]}'.encode(), f'"{name}":{number}'.encode())
    with pytest.raises(Rejected) as caught:
        judge(signed(payload, SUBJECT_KEY))
    assert caught.value.reason is Reason.MALFORMED


def test_the_whole_hour_and_the_whole_leeway_are_accepted() -> None:
    accept_configuration(put(exp=IAT + 3600))
    accept_configuration(put(iat=IAT - 600, exp=IAT - 59))
    accept_configuration(put(iat=IAT + 60))


def test_every_time_that_the_calendar_holds_can_be_read() -> None:
    statement = parse_statement(
        signed(configuration_claims() | {"iat": 0, "exp": 253_402_300_799}, SUBJECT_KEY), PROFILE
    )
    assert (statement.issued_at.year, statement.expires_at.year) == (1970, 9999)
    with pytest.raises(Rejected) as caught:
        check_times(statement, PROFILE, NOW)
    assert caught.value.reason is Reason.LIFETIME_TOO_LONG


@pytest.mark.parametrize("end", [":65535", "/" + "a" * (512 - len(SUBJECT) - 1)], ids=["port", "length"])
def test_identifier_up_to_its_bounds_is_accepted(end: str) -> None:
    accept_configuration(entity(SUBJECT + end))
    accept_subordinate(put(source_endpoint=SUBJECT + end))


def test_case_27_statement_expires_in_its_last_second_when_there_is_no_leeway() -> None:
    strict = StatementProfile(clock_skew=timedelta(0))
    statement = parse_statement(signed(configuration_claims(), SUBJECT_KEY), strict)
    check_times(statement, strict, statement.expires_at - timedelta(microseconds=1))
    with pytest.raises(Rejected) as caught:
        check_times(statement, strict, statement.expires_at)
    assert caught.value.reason is Reason.EXPIRED


def test_grace_tolerates_expiry_and_nothing_else() -> None:
    grace = timedelta(hours=2)
    statement = parse_statement(signed(configuration_claims(), SUBJECT_KEY), PROFILE)
    last = statement.expires_at + PROFILE.clock_skew + grace
    check_times(statement, PROFILE, last - timedelta(seconds=1), grace=grace)
    with pytest.raises(Rejected) as caught:
        check_times(statement, PROFILE, last, grace=grace)
    assert caught.value.reason is Reason.EXPIRED
    with pytest.raises(Rejected) as caught:
        check_times(statement, PROFILE, statement.issued_at - timedelta(seconds=61), grace=grace)
    assert caught.value.reason is Reason.NOT_YET_VALID


def test_case_35_identifiers_that_differ_by_slash_or_case_are_two_entities() -> None:
    for other in (f"{SUBJECT}/", SUBJECT.replace("issuer", "Issuer")):
        accept_configuration(entity(other))
        # Were they one, this would be a configuration and its authority_hints in place.
        with pytest.raises(Rejected) as caught:
            accept_configuration(put(sub=other))
        assert caught.value.reason is INVALID
        assert not accept_subordinate(put(iss=SUBJECT, sub=other)).is_configuration


def test_case_36_identifiers_equal_only_after_normalization_are_two_entities() -> None:
    composed, decomposed = f"{SUBJECT}/caf%C3%A9", f"{SUBJECT}/cafe%CC%81"
    assert accept_configuration(entity(composed)).is_configuration
    assert not accept_subordinate(put(iss=composed, sub=decomposed)).is_configuration


# -- claims of subordinate statements ---------------------------------------------------------------------------------

INVALID_POLICY = Reason.METADATA_POLICY_INVALID

NO_DOMAINS = ("", ".", "..sh.example", "*.sh.example", "https://sh.example", "sh.example.", "10.0.0.1", 1, "沪.cn")

SUBORDINATES: dict[str, tuple[Change, Reason]] = {
    "case 51: authority_hints in a subordinate statement": (put(authority_hints=[SUPERIOR]), INVALID),
    "case 53: trust_mark_issuers in a subordinate statement": (put(trust_mark_issuers={}), INVALID),
    "case 53: trust_mark_owners in a subordinate statement": (put(trust_mark_owners={}), INVALID),
    "trust_anchor_hints in a subordinate statement": (put(trust_anchor_hints=[SUPERIOR]), INVALID),
    "trust_marks in a subordinate statement": (put(trust_marks=[]), INVALID),
    **{
        f"case 74: max_path_length {json.dumps(value)}": (constrain(max_path_length=value), INVALID)
        for value in (-1, 1.5, "1", True, None)
    },
    "case 82: allowed_entity_types lists federation_entity": (
        constrain(allowed_entity_types=["federation_entity"]),
        INVALID,
    ),
    "allowed_entity_types is not a list": (constrain(allowed_entity_types="a"), INVALID),
    "allowed_entity_types lists a number": (constrain(allowed_entity_types=[1]), INVALID),
    "allowed_entity_types lists an object": (constrain(allowed_entity_types=[{}]), INVALID),
    "constraints is not an object": (put(constraints=[]), INVALID),
    "naming_constraints is not an object": (constrain(naming_constraints=[]), INVALID),
    "permitted is not a list": (constrain(naming_constraints={"permitted": ".sh.example"}), INVALID),
    **{
        f"naming constraint {json.dumps(name)}": (constrain(naming_constraints={"excluded": [name]}), INVALID)
        for name in NO_DOMAINS
    },
    "too many naming constraints": (
        constrain(naming_constraints={"permitted": ["sh.example"] * 65}),
        Reason.TOO_LARGE,
    ),
    "case 85: one_of with add": (put(metadata_policy={"t": {"p": {"one_of": ["a"], "add": ["a"]}}}), INVALID_POLICY),
    "case 86: value null with essential": (
        put(metadata_policy={"t": {"p": {"value": None, "essential": True}}}),
        INVALID_POLICY,
    ),
    "case 93: operator named critical that is not understood": (put(metadata_policy_crit=["regexp"]), INVALID_POLICY),
    "case 94: standard operator named critical": (put(metadata_policy_crit=["one_of"]), INVALID_POLICY),
    "case 95: no operator named critical": (put(metadata_policy_crit=[]), INVALID_POLICY),
    "metadata_policy is not an object": (put(metadata_policy=[]), INVALID_POLICY),
    "source_endpoint is not an address": (put(source_endpoint="fetch"), INVALID),
    "source_endpoint with a fragment": (put(source_endpoint=f"{SUPERIOR}/fetch#a"), INVALID),
    "source_endpoint is not a string": (put(source_endpoint=1), INVALID),
    "source_endpoint with a port out of range": (put(source_endpoint=f"{SUPERIOR}:70000/fetch"), INVALID),
}


@pytest.mark.parametrize(("change", "reason"), SUBORDINATES.values(), ids=SUBORDINATES)
def test_subordinate_statement_is_rejected(change: Change, reason: Reason) -> None:
    with pytest.raises(Rejected) as caught:
        accept_subordinate(change)
    assert caught.value.reason is reason


@pytest.mark.parametrize("level", ["one_of", "p", "identity_credential_issuer"])
def test_case_101_policy_member_given_twice_is_rejected(level: str) -> None:
    members = {"one_of": '"one_of":["v"]', "p": '"p":{"one_of":["v"]}'}
    member = members.get(level, '"identity_credential_issuer":{"p":{"one_of":["v"]}}')
    payload = write_json(subordinate_claims()).decode()
    assert payload.count(member) == 1
    doubled = payload.replace(member, f"{member},{member}")
    with pytest.raises(Rejected) as caught:
        judge(signed(doubled.encode(), SUPERIOR_KEY), keys=superior_keys())
    assert caught.value.reason is Reason.MALFORMED


@dataclass(frozen=True)
class Host:
    entity_id: str
    name: str | None


HOSTS = (
    Host("https://SH.example:8443/a", "sh.example"),
    Host("https://sh.example.", "sh.example"),
    Host("https://xn--fiq228c.example", "xn--fiq228c.example"),
    Host("https://credential_issuer.example.org", "credential_issuer.example.org"),
    Host("https://192.0.2.1", None),
    Host("https://192.0.2.1.", None),
    Host("https://127.1", None),
    Host("https://2130706433", None),
    Host("https://0x7f000001", None),
    Host("https://[2001:db8::1]:443", None),
    Host("not an identifier", None),
)


@pytest.mark.parametrize("case", HOSTS, ids=lambda case: case.entity_id)
def test_host_of_an_entity_identifier(case: Host) -> None:
    assert host(case.entity_id) == case.name


# -- properties -------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CLAIM_NAMES = [
    *sorted(configuration_claims() | subordinate_claims()),
    "crit",
    "trust_marks",
    "trust_mark_issuers",
    "trust_mark_owners",
    "trust_anchor_hints",
    "metadata_policy_crit",
]


@settings(deadline=None)
@given(st.text() | st.text("abcAZ09_-.=", max_size=60))
def test_reading_any_text_raises_nothing_but_rejected(text: str) -> None:
    with suppress(Rejected):
        parse_statement(text, PROFILE)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.characters(max_codepoint=0x1FF))
def test_a_token_with_one_character_changed_is_rejected(place: int, character: str) -> None:
    token = signed(subordinate_claims(), SUPERIOR_KEY)
    place %= len(token)
    altered = token[:place] + character + token[place + 1 :]
    try:
        judge(altered, keys=superior_keys())
    except Rejected:
        return
    assert altered == token


@settings(deadline=None)
@given(st.booleans(), st.sampled_from(CLAIM_NAMES), json_values)
def test_reading_any_value_in_any_claim_raises_nothing_but_rejected(whole: bool, name: str, value: Any) -> None:
    claims = configuration_claims() if whole else subordinate_claims()
    with suppress(Rejected):
        parse_statement(signed(json.dumps(claims | {name: value}).encode(), SUBJECT_KEY), PROFILE)


@settings(deadline=None)
@given(st.data())
def test_reading_any_value_deep_in_a_claim_raises_nothing_but_rejected(data: st.DataObject) -> None:
    claims = data.draw(st.sampled_from([configuration_claims, subordinate_claims]))()
    place: Any = claims
    for _depth in range(data.draw(st.integers(0, 4))):
        names = list(place) if isinstance(place, dict) else list(range(len(place)))
        inner = [name for name in names if isinstance(place[name], dict | list) and place[name]]
        if not inner:
            break
        place = place[data.draw(st.sampled_from(inner))]
    name = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
    place[name] = data.draw(json_values)
    with suppress(Rejected):
        parse_statement(signed(json.dumps(claims).encode(), SUBJECT_KEY), PROFILE)
