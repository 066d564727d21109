"""Holder binding (facts/credentials.md section 8, cases 79 to 92): who presents, to whom, now."""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from typing import Any

import pytest

from gateway.core.encoding import b64url_encode, write_json
from gateway.core.jose import Algorithm, generate_key
from gateway.core.key_binding import holder_key
from gateway.core.reasons import Reason
from tests.core.presentations import (
    CERTIFICATE,
    EPOCH,
    GATEWAY,
    HOLDER_KEY,
    ISSUER_KEY,
    ONLINE_MATTER,
    OTHER_SERVICE,
    SERVICE,
    STRANGER_KEY,
    Attempt,
    Change,
    cases,
    changed,
    dropping,
    hashed,
    holder_jwk,
    making,
    nonce_for,
    setting,
    sign,
)


def _binding(**members: Any) -> Change:
    return lambda attempt: attempt.binding.update(members)


def _binding_header(**members: Any) -> Change:
    return lambda attempt: attempt.binding_header.update(members)


def _omitting(name: str) -> Change:
    """Leave out a member of the key-binding JWT."""
    return lambda attempt: attempt.omitted.add(name)


def _untyped(attempt: Attempt) -> None:
    del attempt.binding_header["typ"]


def _proof_rewritten(rewrite: Any) -> Change:
    def change(text: str) -> str:
        sd_jwt, tilde, proof = text.rpartition("~")
        return f"{sd_jwt}{tilde}{rewrite(proof)}"

    return making(rewrite=change)


def _unsigned(proof: str) -> str:
    payload = proof.split(".")[1]
    return f"{b64url_encode(write_json({'alg': 'none', 'typ': 'kb+jwt'}))}.{payload}."


def _signed_with_the_public_key(proof: str) -> str:
    signing_input = f"{b64url_encode(write_json({'alg': 'HS256', 'typ': 'kb+jwt'}))}.{proof.split('.')[1]}"
    secret = write_json(dict(HOLDER_KEY.public.jwk))
    return f"{signing_input}.{b64url_encode(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"


def _disclosures(edit: Any) -> Change:
    """Edit the Disclosures after the holder signed."""

    def change(text: str) -> str:
        token, *disclosures, proof = text.split("~")
        return "~".join((token, *edit(disclosures), proof))

    return making(rewrite=change)


def _cut_from_another_presentation(attempt: Attempt) -> None:
    # The same credential: one signature by the issuer over the same digests.
    sd_jwt = attempt.text().rpartition("~")[0]
    token, *shown = sd_jwt.split("~")
    fewer = "~".join((token, shown[0], ""))
    claims = {"iat": EPOCH, "aud": SERVICE, "nonce": attempt.nonce, "sd_hash": hashed(fewer)}
    proof = sign(attempt.binding_header, claims, HOLDER_KEY)
    attempt.rewrite = lambda _: f"{sd_jwt}~{proof}"


@cases(
    {
        "79 stripped": (making(holder=None), Reason.KEY_BINDING_MISSING),
        "80 signed by another key": (making(holder=STRANGER_KEY), Reason.KEY_BINDING_INVALID),
        "80 signed by the issuer": (making(holder=ISSUER_KEY), Reason.KEY_BINDING_INVALID),
        "80 with alg none": (_proof_rewritten(_unsigned), Reason.KEY_BINDING_INVALID),
        "80 with alg HS256": (_proof_rewritten(_signed_with_the_public_key), Reason.KEY_BINDING_INVALID),
        "80 with an alg that is not the key's": (_binding_header(alg="ES384"), Reason.KEY_BINDING_INVALID),
        "80 naming a key of its own": (
            _binding_header(jwk=dict(STRANGER_KEY.public.jwk)),
            Reason.KEY_BINDING_INVALID,
        ),
        "81 without typ": (_untyped, Reason.KEY_BINDING_INVALID),
        "81 with typ JWT": (_binding_header(typ="JWT"), Reason.KEY_BINDING_INVALID),
        "81 with typ in upper case": (_binding_header(typ="KB+JWT"), Reason.KEY_BINDING_INVALID),
        "81 with typ as a full media type": (_binding_header(typ="application/kb+jwt"), Reason.KEY_BINDING_INVALID),
        "81 with a number as typ": (_binding_header(typ=1), Reason.KEY_BINDING_INVALID),
        "82 for another audience": (_binding(aud=OTHER_SERVICE), Reason.AUDIENCE_MISMATCH),
        "82 for the gateway instead of the service": (_binding(aud=GATEWAY), Reason.AUDIENCE_MISMATCH),
        "82 for the audience with a trailing slash": (_binding(aud=f"{SERVICE}/"), Reason.AUDIENCE_MISMATCH),
        "82 for an array of audiences": (_binding(aud=[SERVICE]), Reason.KEY_BINDING_INVALID),
        "82 without audience": (_omitting("aud"), Reason.KEY_BINDING_INVALID),
        "83 with another nonce": (_binding(nonce=nonce_for(random=b"16 other bytes..")), Reason.NONCE_MISMATCH),
        "83 with an empty nonce": (_binding(nonce=""), Reason.NONCE_MISMATCH),
        "83 without nonce": (_omitting("nonce"), Reason.KEY_BINDING_INVALID),
        "83 with a number as nonce": (_binding(nonce=1), Reason.KEY_BINDING_INVALID),
        "83 with a nonce nobody gave": (making(nonce="made-up-by-the-caller"), Reason.NONCE_MISMATCH),
        "83 with no nonce on either side": (making(nonce=""), Reason.NONCE_MISMATCH),
        "83 with a nonce for another service": (making(nonce=nonce_for(OTHER_SERVICE)), Reason.NONCE_MISMATCH),
        "83 with a nonce for another matter": (making(nonce=nonce_for(matter="DZ-LZ")), Reason.NONCE_MISMATCH),
        "84 at another gateway": (
            making(service=OTHER_SERVICE, nonce=nonce_for(OTHER_SERVICE)),
            Reason.AUDIENCE_MISMATCH,
        ),
        "85 without iat": (_omitting("iat"), Reason.KEY_BINDING_INVALID),
        "85 with a string as iat": (_binding(iat=str(EPOCH)), Reason.KEY_BINDING_INVALID),
        "85 with a float as iat": (_binding(iat=float(EPOCH)), Reason.KEY_BINDING_INVALID),
        "85 made 301 seconds ago": (_binding(iat=EPOCH - 301), Reason.KEY_BINDING_INVALID),
        "85 made 61 seconds ahead": (_binding(iat=EPOCH + 61), Reason.KEY_BINDING_INVALID),
        "86 without sd_hash": (_omitting("sd_hash"), Reason.KEY_BINDING_INVALID),
        "86 with a wrong sd_hash": (_binding(sd_hash=hashed("x")), Reason.KEY_BINDING_INVALID),
        "86 with a number as sd_hash": (_binding(sd_hash=1), Reason.KEY_BINDING_INVALID),
        "86 with another hash than _sd_alg's": (making(binding_hash="sha512"), Reason.KEY_BINDING_INVALID),
        "87 with a Disclosure removed afterwards": (
            _disclosures(lambda shown: shown[:-1]),
            Reason.KEY_BINDING_INVALID,
        ),
        "87 with Disclosures reordered afterwards": (
            _disclosures(lambda shown: shown[::-1]),
            Reason.KEY_BINDING_INVALID,
        ),
        "88 cut from another presentation": (_cut_from_another_presentation, Reason.KEY_BINDING_INVALID),
        "89 expired": (_binding(exp=EPOCH), Reason.KEY_BINDING_INVALID),
        "89 with an exp that is no date": (_binding(exp="soon"), Reason.KEY_BINDING_INVALID),
        "89 not yet valid": (_binding(nbf=EPOCH + 61), Reason.KEY_BINDING_INVALID),
        "90 for a credential without cnf": (dropping("cnf"), Reason.KEY_BINDING_MISSING),
        "90 for a cnf with only a kid": (setting(cnf={"kid": "k"}), Reason.KEY_BINDING_INVALID),
        "90 for a cnf with jku": (setting(cnf={"jku": "https://x.example"}), Reason.KEY_BINDING_INVALID),
        "90 for a cnf with two methods": (
            setting(cnf={"jwk": holder_jwk(), "kid": "k"}),
            Reason.KEY_BINDING_INVALID,
        ),
        "90 for a cnf with a private key": (
            setting(cnf={"jwk": holder_jwk() | {"d": "AA"}}),
            Reason.KEY_BINDING_INVALID,
        ),
        "90 for a cnf with a symmetric key": (
            setting(cnf={"jwk": {"kty": "oct", "k": "c2VjcmV0"}}),
            Reason.KEY_BINDING_INVALID,
        ),
        "90 for a cnf with an RSA key": (
            setting(cnf={"jwk": dict(generate_key(Algorithm.RS256).public.jwk)}),
            Reason.KEY_BINDING_INVALID,
        ),
        "90 for a cnf with a certificate's hash": (
            setting(cnf={"x5t#S256": CERTIFICATE}),
            Reason.KEY_BINDING_INVALID,
        ),
        "90 for a cnf with a point off the curve": (
            setting(cnf={"jwk": holder_jwk() | {"y": holder_jwk()["x"]}}),
            Reason.KEY_BINDING_INVALID,
        ),
        "90 for an empty cnf": (setting(cnf={}), Reason.KEY_BINDING_INVALID),
        "90 for a cnf that is a list": (setting(cnf=[holder_jwk()]), Reason.KEY_BINDING_INVALID),
        "90 for a cnf whose jwk is a text": (setting(cnf={"jwk": "x"}), Reason.KEY_BINDING_INVALID),
    }
)
def test_key_binding_is_refused(change: Change, reason: Reason) -> None:
    assert changed(Attempt.credential(), change).refusal() is reason


def test_86_hash_without_the_last_tilde_is_refused() -> None:
    attempt = Attempt.credential()
    sd_jwt, _, _ = attempt.text().rpartition("~")
    claims = {"iat": EPOCH, "aud": SERVICE, "nonce": attempt.nonce, "sd_hash": hashed(sd_jwt)}
    proof = sign(attempt.binding_header, claims, HOLDER_KEY)
    assert attempt.refusal(f"{sd_jwt}~{proof}") is Reason.KEY_BINDING_INVALID
    proof = sign(attempt.binding_header, claims | {"sd_hash": hashed(f"{sd_jwt}~")}, HOLDER_KEY)
    assert attempt.judge(f"{sd_jwt}~{proof}").holder_bound


def test_87_disclosure_added_afterwards_is_refused() -> None:
    attempt = Attempt.credential()
    token, *shown, _ = attempt.text().split("~")
    fewer = "~".join((token, *shown[:-1], ""))
    claims = {"iat": EPOCH, "aud": SERVICE, "nonce": attempt.nonce, "sd_hash": hashed(fewer)}
    proof = sign(attempt.binding_header, claims, HOLDER_KEY)
    assert attempt.judge(fewer + proof).holder_bound
    assert attempt.refusal("~".join((token, *shown, proof))) is Reason.KEY_BINDING_INVALID


@pytest.mark.parametrize(
    "change",
    [
        _binding(iat=EPOCH - 300),
        _binding(iat=EPOCH + 60),
        _binding(exp=EPOCH + 1, nbf=EPOCH + 60),
        _binding(transaction_data_hashes=["x"]),
        _binding_header(kid="any-name"),
    ],
    ids=[
        "made 300 seconds ago",
        "made 60 seconds ahead",
        "with times of its own",
        "with a claim nobody asked for",
        "with a kid",
    ],
)
def test_key_binding_is_accepted(change: Change) -> None:
    assert changed(Attempt.credential(), change).judge().holder_bound


@pytest.mark.parametrize(
    "members",
    [{"ext": True}, {"key_ops": ["verify"]}, {"use": "sig"}, {"kid": "chosen-by-the-wallet"}],
    ids=["ext", "key_ops", "use", "kid"],
)
def test_91_harmless_members_of_the_holder_key_are_accepted(members: dict[str, Any]) -> None:
    attempt = changed(Attempt.credential(), setting(cnf={"jwk": {**holder_jwk(), **members}}))
    assert attempt.judge().holder_bound


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.ES384, Algorithm.ED25519])
def test_holder_may_use_any_of_the_strong_algorithms(algorithm: Algorithm) -> None:
    key = generate_key(algorithm)
    attempt = changed(Attempt.credential(), setting(cnf={"jwk": holder_jwk(key)}))
    attempt.holder = key
    attempt.binding_header["alg"] = algorithm.value
    assert attempt.judge().holder_bound
    assert holder_key({"jwk": holder_jwk(key)}).algorithm is algorithm


BROKEN: dict[str, Change] = {
    "by another key": making(holder=STRANGER_KEY),
    "of another type": _binding_header(typ="JWT"),
    "over other Disclosures": _disclosures(lambda shown: shown[:-1]),
    "too old": _binding(iat=EPOCH - 301),
    "cut short": _proof_rewritten(lambda proof: proof[:-1]),
    "that is no JWT": _proof_rewritten(lambda _: "x"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_92_broken_proof_is_refused_even_where_none_is_required(change: Change) -> None:
    attempt = Attempt.credential()
    attempt.matter = ONLINE_MATTER
    assert attempt.judge().holder_bound
    assert changed(attempt, change).refusal() is Reason.KEY_BINDING_INVALID


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (making(nonce=""), Reason.NONCE_MISMATCH),
        (making(nonce=nonce_for(OTHER_SERVICE)), Reason.NONCE_MISMATCH),
        (dropping("cnf"), Reason.KEY_BINDING_MISSING),
        (setting(cnf={"kid": "k"}), Reason.KEY_BINDING_INVALID),
    ],
    ids=["no nonce", "a nonce for another service", "no cnf", "a cnf that names no key"],
)
def test_credential_without_proof_still_needs(change: Change, reason: Reason) -> None:
    attempt = Attempt.credential().without_binding()
    attempt.matter = ONLINE_MATTER
    assert attempt.is_accepted()
    assert changed(attempt, change).refusal() is reason


def test_proof_of_a_lapsed_challenge_is_refused() -> None:
    attempt = changed(Attempt.credential(), _binding(iat=EPOCH + 299))
    attempt.now += timedelta(seconds=299)
    assert attempt.is_accepted()
    attempt.now += timedelta(seconds=1)
    assert attempt.refusal() is Reason.NONCE_MISMATCH
