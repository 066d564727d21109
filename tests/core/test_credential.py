"""The verdict on one presentation: what is accepted, in which order it is judged, and whose key counts."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.core.jose import Algorithm, generate_key
from gateway.core.reasons import Indeterminate, Reason
from tests.core.presentations import (
    ASSERTION,
    ATTRIBUTES,
    BOTH,
    EPOCH,
    GATEWAY,
    HIGHEST,
    ISSUER,
    ISSUER_KEY,
    LOWER_ACR,
    NOW,
    ONLINE_MATTER,
    OTHER_ISSUER,
    OTHER_ISSUER_KEY,
    OTHER_SERVICE,
    RESIDENT_ID,
    STRANGER_KEY,
    TERMS,
    Attempt,
    Change,
    Make,
    Trusted,
    all_of,
    cases,
    changed,
    demanding,
    dropping,
    header,
    making,
    nonce_for,
    setting,
    status_reference,
    twin,
)

# -- what is accepted -------------------------------------------------------------------------------------------------


def test_credential_with_key_binding_is_accepted() -> None:
    attempt = Attempt.credential()
    accepted = attempt.judge()
    assert accepted.issuer == ISSUER
    assert accepted.province == "sh"
    assert accepted.credential_type == RESIDENT_ID
    assert accepted.subject == "v1.pairwise-subject"
    assert accepted.assurance == HIGHEST
    assert accepted.acr == "urn:yrd:loa:4"
    assert accepted.issued_at == NOW - timedelta(seconds=100)
    assert accepted.authenticated_at == NOW - timedelta(seconds=160)
    assert accepted.expires_at == NOW + timedelta(days=1)
    assert accepted.holder_bound
    assert attempt.findings.kid == ISSUER_KEY.public.kid
    assert not accepted.stale


def test_assertion_bound_to_the_channel_is_accepted_and_proves_nothing_of_the_holder() -> None:
    accepted = Attempt.assertion().judge()
    assert accepted.credential_type == ASSERTION
    assert accepted.assurance == replace(HIGHEST, federation=2)
    assert not accepted.holder_bound
    assert accepted.expires_at == NOW + timedelta(seconds=200)


@BOTH
def test_only_what_the_matter_may_have_is_released(make: Make) -> None:
    assert make().judge().attributes == {name: value for name, value in ATTRIBUTES.items() if name != "birthdate"}


@BOTH
def test_only_verified_claims_become_attributes(make: Make) -> None:
    attempt = make()
    attempt.payload |= {"uscc": "91350100M000100Y43", "name": "somebody else"}
    attributes = attempt.judge().attributes
    assert "uscc" not in attributes
    assert attributes["name"] == "徐某"


def test_credential_without_key_binding_is_accepted_where_the_matter_needs_none() -> None:
    attempt = Attempt.credential().without_binding()
    attempt.matter = ONLINE_MATTER
    accepted = attempt.judge()
    assert not accepted.holder_bound
    assert accepted.replay.value == attempt.nonce


def test_assertion_without_cnf_is_accepted_where_the_matter_needs_no_binding() -> None:
    attempt = changed(Attempt.assertion(), dropping("cnf"))
    attempt.matter = ONLINE_MATTER
    assert not attempt.judge().holder_bound


def test_assertion_for_the_gateway_is_accepted() -> None:
    assert changed(Attempt.assertion(), setting(aud=GATEWAY)).is_accepted()


@BOTH
def test_optional_claims_may_be_absent(make: Make) -> None:
    attempt = changed(make(), dropping("amr"))
    del attempt.payload["verified_claims"]["verification"]["assurance_level"]
    assert attempt.is_accepted()


@BOTH
def test_presentation_judged_by_stale_trust_says_so(make: Make) -> None:
    attempt = make()
    attempt.view.keys[ISSUER, ISSUER_KEY.public.kid] = Trusted(ISSUER_KEY.public, fresh_until=NOW)
    assert attempt.judge().stale


@BOTH
@pytest.mark.parametrize(
    ("superseded_after", "accepted"), [(timedelta(0), False), (timedelta(seconds=1), True)], ids=["at once", "later"]
)
def test_case_110_a_superseded_key_counts_for_what_it_signed_before(
    make: Make, superseded_after: timedelta, accepted: bool
) -> None:
    attempt = make()
    signed_at = datetime.fromtimestamp(attempt.payload["iat"], UTC)
    attempt.view.keys[ISSUER, ISSUER_KEY.public.kid] = Trusted(
        ISSUER_KEY.public, signed_before=signed_at + superseded_after
    )
    if accepted:
        assert attempt.is_accepted()
    else:
        assert attempt.refusal() is Reason.KEY_REVOKED


def test_result_cannot_be_changed() -> None:
    accepted = Attempt.credential().judge()
    with pytest.raises(FrozenInstanceError):
        accepted.holder_bound = False  # type: ignore[misc]


# -- order ------------------------------------------------------------------------------------------------------------


def _forged(attempt: Attempt) -> None:
    attempt.signer = STRANGER_KEY
    attempt.header.setdefault("kid", ISSUER_KEY.public.kid)


# One fault for each check, in the order of the steps; status stands last until it can be looked up.
FAULTS: tuple[tuple[Reason, Change], ...] = (
    (Reason.MALFORMED, making(rewrite=lambda text: text.replace("~", "~~", 1))),
    (Reason.TYPE_MISMATCH, making(typ="JWT")),
    (Reason.ISSUER_UNKNOWN, setting(iss="https://issuer.unknown.example")),
    (Reason.KEY_UNKNOWN, header(kid=STRANGER_KEY.public.kid)),
    (Reason.ALGORITHM_NOT_ALLOWED, lambda attempt: attempt.view.with_terms(algorithms=frozenset({Algorithm.ES384}))),
    (Reason.SIGNATURE_INVALID, _forged),
    (Reason.EXPIRED, setting(exp=EPOCH)),
    (Reason.ISSUER_NOT_AUTHORISED, setting(vct="urn:yrd:credential:unknown:1")),
    (Reason.ASSURANCE_ABOVE_CAP, setting(acr=LOWER_ACR)),
    (Reason.DISCLOSURE_INVALID, lambda attempt: attempt.disclosures.append("WyJzYWx0IiwibiIsMV0")),
    (Reason.KEY_BINDING_INVALID, making(holder=STRANGER_KEY)),
    (Reason.AUDIENCE_MISMATCH, lambda attempt: attempt.binding.update(aud=OTHER_SERVICE)),
    (Reason.NONCE_MISMATCH, lambda attempt: attempt.binding.update(nonce=nonce_for(random=b"other random bytes"))),
    (Reason.CREDENTIAL_TYPE_NOT_ACCEPTED, demanding(credential_types=frozenset({ASSERTION}))),
    (
        Reason.ASSURANCE_TOO_LOW,
        lambda attempt: attempt.payload["assurance"].update(aal=2),
    ),
    (Reason.CREDENTIAL_TOO_OLD, demanding(max_credential_age=timedelta(seconds=1))),
    (Reason.AUTHENTICATION_TOO_OLD, demanding(max_authentication_age=timedelta(seconds=1))),
    (Reason.REQUIRED_CLAIM_MISSING, demanding(required_claims=frozenset({"phone_number"}))),
)


@pytest.mark.parametrize("first", range(len(FAULTS)), ids=[reason.value for reason, _ in FAULTS])
def test_first_failed_check_decides(first: int) -> None:
    attempt = Attempt.credential()
    status_reference(attempt)
    for _, fault in FAULTS[first:]:
        fault(attempt)
    assert attempt.refusal() is FAULTS[first][0]


def test_credential_with_a_status_has_it_looked_up() -> None:
    assert changed(Attempt.credential(), status_reference).indecision() is Reason.STATUS_UNAVAILABLE


def test_signature_is_not_verified_for_a_key_nobody_attests() -> None:
    attempt = Attempt.credential()
    attempt.view.keys.clear()
    assert attempt.refusal() is Reason.KEY_UNKNOWN


# -- header, key, signature -------------------------------------------------------------------------------------------


@cases(
    {
        "23 without kid": (lambda attempt: attempt.omitted.add("kid"), Reason.KEY_UNKNOWN),
        "23 with an unknown kid": (
            header(kid=STRANGER_KEY.public.kid),
            Reason.KEY_UNKNOWN,
        ),
        "23 with the kid of another issuer's key": (
            header(kid=OTHER_ISSUER_KEY.public.kid),
            Reason.KEY_UNKNOWN,
        ),
        "23 with a key no longer attested": (lambda attempt: attempt.view.keys.clear(), Reason.KEY_UNKNOWN),
        "24 without typ": (lambda attempt: attempt.omitted.add("typ"), Reason.TYPE_MISMATCH),
        "24 with typ JWT": (header(typ="JWT"), Reason.TYPE_MISMATCH),
        "24 with typ vc+sd-jwt": (header(typ="vc+sd-jwt"), Reason.TYPE_MISMATCH),
        "24 with typ in upper case": (header(typ="DC+SD-JWT"), Reason.TYPE_MISMATCH),
        "24 with typ as a full media type": (header(typ="application/dc+sd-jwt"), Reason.TYPE_MISMATCH),
        "24 with a number as typ": (header(typ=123), Reason.TYPE_MISMATCH),
        "25 being of the type of a key-binding JWT": (header(typ="kb+jwt"), Reason.TYPE_MISMATCH),
        "25 being of the type of a status list": (header(typ="statuslist+jwt"), Reason.TYPE_MISMATCH),
        "25 being of the type of an entity statement": (header(typ="entity-statement+jwt"), Reason.TYPE_MISMATCH),
        "signed with an algorithm the agreement withdrew": (
            lambda attempt: attempt.view.with_terms(algorithms=frozenset({Algorithm.ED25519})),
            Reason.ALGORITHM_NOT_ALLOWED,
        ),
        "signed by somebody else": (_forged, Reason.SIGNATURE_INVALID),
        "from a member without terms in the agreement": (
            lambda attempt: attempt.view.with_agreement(issuers={OTHER_ISSUER: TERMS}),
            Reason.ISSUER_NOT_AUTHORISED,
        ),
        "49 of one issuer, signed by another with its own kid": (
            making(signer=OTHER_ISSUER_KEY),
            Reason.KEY_UNKNOWN,
        ),
        "49 of one issuer, signed by another with the first one's kid": (
            all_of(making(signer=OTHER_ISSUER_KEY), header(kid=ISSUER_KEY.public.kid)),
            Reason.SIGNATURE_INVALID,
        ),
        "50 of a type its issuer may not issue": (
            setting(vct="urn:yrd:credential:legal-person:1"),
            Reason.ISSUER_NOT_AUTHORISED,
        ),
        "52 of an issuer that is no longer a member": (
            lambda attempt: attempt.view.issuers.pop(ISSUER),
            Reason.ISSUER_UNKNOWN,
        ),
        "of a type the matter does not accept": (
            demanding(credential_types=frozenset({ASSERTION})),
            Reason.CREDENTIAL_TYPE_NOT_ACCEPTED,
        ),
        "named like an assertion": (setting(vct=ASSERTION), Reason.CLAIM_INVALID),
    }
)
def test_credential_is_refused(change: Change, reason: Reason) -> None:
    assert changed(Attempt.credential(), change).refusal() is reason


def test_25_real_key_binding_jwt_is_no_credential() -> None:
    attempt = Attempt.credential()
    proof = attempt.text().rpartition("~")[2]
    assert attempt.refusal(proof) is Reason.TYPE_MISMATCH
    assert attempt.refusal(f"{proof}~") is Reason.TYPE_MISMATCH


def test_25_credential_is_no_assertion_and_assertion_no_credential() -> None:
    credential, assertion = Attempt.credential(), Attempt.assertion()
    assert credential.refusal(credential.text().partition("~")[0]) is Reason.MALFORMED
    assert assertion.refusal(f"{assertion.text()}~") is Reason.TYPE_MISMATCH


def test_key_of_another_algorithm_is_refused() -> None:
    attempt = Attempt.credential()
    attempt.view.with_terms(algorithms={Algorithm.ES256: None, Algorithm.ES384: None})
    attempt.signer = generate_key(Algorithm.ES384)
    attempt.header = {"kid": ISSUER_KEY.public.kid}
    assert attempt.refusal() is Reason.ALGORITHM_NOT_ALLOWED


def test_53_stale_trust_is_indeterminate_and_not_a_rejection() -> None:
    attempt = Attempt.credential()
    attempt.view.failure = Indeterminate(Reason.TRUST_STALE, "too old")
    with pytest.raises(Indeterminate):
        attempt.judge()


def test_malformed_presentation_asks_the_trust_view_nothing() -> None:
    attempt = Attempt.credential()
    assert attempt.refusal(f" {attempt.text()}") is Reason.MALFORMED
    assert attempt.view.asked == 0


# -- replay -----------------------------------------------------------------------------------------------------------


def test_30_twin_signature_is_accepted_and_uses_up_the_same() -> None:
    credential, assertion = Attempt.credential(), Attempt.assertion()
    text = credential.text()
    sd_jwt, _, proof = text.rpartition("~")
    other = f"{sd_jwt}~{twin(proof)}"
    assert other != text
    assert credential.judge(other).replay == credential.judge(text).replay
    text = assertion.text()
    assert twin(text) != text
    assert assertion.judge(twin(text)).replay == assertion.judge(text).replay


def test_84_second_use_of_a_nonce_uses_up_the_same() -> None:
    attempt = Attempt.credential()
    first = attempt.judge().replay
    attempt.hide({"name": "徐某"})
    assert attempt.judge().replay == first
    assert first.parts == ("", "nonce", attempt.nonce)
    assert first.until == NOW + timedelta(minutes=5)


def test_assertion_uses_up_its_jti() -> None:
    attempt = Attempt.assertion()
    replay = attempt.judge().replay
    assert replay.parts == (ISSUER, "v1.pairwise-subject", "jti-of-one-hand-over")
    assert replay.until == attempt.judge().expires_at
    other = changed(Attempt.assertion(), setting(jti="jti-of-another-one"))
    assert other.judge().replay != replay
