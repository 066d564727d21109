"""The issuer signs nothing that a verifier would refuse: each refusal stands beside what is still issued."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf import struct_pb2

from gateway import wire
from gateway.core import key_schedule
from gateway.core.charter import ISSUER_TYPE
from gateway.core.claims import Authentication
from gateway.core.encoding import write_json
from gateway.core.jose import Algorithm, generate_key
from gateway.core.key_binding import HOLDER_ALGORITHMS
from gateway.core.key_schedule import KeyPurpose
from gateway.core.memory import Revocation, RevocationReason
from gateway.core.publication import KEY_PROOFS
from gateway.core.reasons import InvalidRequest, Unavailable
from gateway.issuer import Subject
from gateway.keyring import Author
from gateway.lab.charter import LICENCE_DISPLAY, RESIDENT_ID
from gateway.verifier import Acceptance
from tests.federation import AH, SH, START, XU_CLAIMS, Federation, payload

Issue = Callable[..., str]


@pytest.fixture
def federation(restarted: Federation) -> Federation:
    return restarted


def credential(federation: Federation, **changes: Any) -> str:
    subject = Subject(local_subject=changes.pop("local_subject", "person-1"), claims=changes.pop("claims", XU_CLAIMS))
    asked: dict[str, Any] = {
        "credential_type": RESIDENT_ID,
        "holder_jwk": jwk(Algorithm.ES256),
        "authentication": federation.authentication("urn:yrd:loa:4"),
        "lifetime": None,
    }
    return federation[SH].issuer.issue_credential(subject, **{**asked, **changes}).token


def assertion(federation: Federation, **changes: Any) -> str:
    subject = Subject(local_subject=changes.pop("local_subject", "person-1"), claims=changes.pop("claims", XU_CLAIMS))
    asked: dict[str, Any] = {
        "audience": federation[AH].service.identity,
        "authentication": federation.authentication("urn:yrd:loa:3"),
        "certificate_sha256": "",
        "lifetime": None,
    }
    return federation[SH].issuer.issue_assertion(subject, **{**asked, **changes}).token


def refused_field(issue: Callable[[], object]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        issue()
    return caught.value.field


def jwk(algorithm: Algorithm) -> str:
    return write_json(generate_key(algorithm).public.jwk).decode()


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def remarks(count: int, chars: int) -> dict[str, str]:
    return {f"remark_{i}": "x" * chars for i in range(count)}


# What is still issued, and what is not.
Limits = dict[str, tuple[dict[str, Any], dict[str, Any]]]
NUMBERS: Limits = {
    "the largest number": ({"n": 2**53 - 1}, {"n": 2**53}),
    "the smallest number": ({"n": 1 - 2**53}, {"n": -(2**53)}),
    "the nesting": ({"n": nested(13)}, {"n": nested(14)}),
}
CREDENTIALS: Limits = {
    **NUMBERS,
    "the members": ({"n": [0] * 1_997}, {"n": [0] * 1_998}),
    "one Disclosure": ({"n": "x" * 6_111}, {"n": "x" * 6_112}),
    "the presentation, proof included": (remarks(9, 4_500), remarks(10, 4_500)),
}
ASSERTIONS: Limits = {
    **NUMBERS,
    "the members": ({"n": [0] * 1_975}, {"n": [0] * 2_000}),
    "one string": ({"n": "x" * 8_192}, {"n": "x" * 8_193}),
    "the whole": (remarks(4, 5_500), remarks(5, 5_500)),
}


@pytest.mark.parametrize(("most", "more"), CREDENTIALS.values(), ids=CREDENTIALS)
def test_a_credential_is_issued_up_to_the_verifiers_limit_of(
    federation: Federation, most: dict[str, Any], more: dict[str, Any]
) -> None:
    presented = federation.present(federation.issue(claims=XU_CLAIMS | most))
    assert isinstance(federation.verify(*presented).verdict, Acceptance)
    assert refused_field(lambda: credential(federation, claims=XU_CLAIMS | more)) == "claims"


@pytest.mark.parametrize(("most", "more"), ASSERTIONS.values(), ids=ASSERTIONS)
def test_an_assertion_is_issued_up_to_the_verifiers_limit_of(
    federation: Federation, most: dict[str, Any], more: dict[str, Any]
) -> None:
    issued = assertion(federation, claims=XU_CLAIMS | most)
    assert isinstance(federation.verify(issued, matter=LICENCE_DISPLAY).verdict, Acceptance)
    assert refused_field(lambda: assertion(federation, claims=XU_CLAIMS | more)) == "claims"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_holder_key_is_of_an_algorithm_that_holders_may_use(federation: Federation, algorithm: Algorithm) -> None:
    key = jwk(algorithm)
    if algorithm in HOLDER_ALGORITHMS:
        assert credential(federation, holder_jwk=key)
    else:
        assert refused_field(lambda: credential(federation, holder_jwk=key)) == "holder_jwk"


@pytest.mark.parametrize("issue", [credential, assertion])
def test_nobody_was_authenticated_before_1970(federation: Federation, issue: Issue) -> None:
    def at(moment: datetime) -> str:
        methods = Authentication(acr="urn:yrd:loa:3", methods=("face",), authenticated_at=moment, assurance=None)
        return issue(federation, authentication=methods)

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert at(epoch)
    assert refused_field(lambda: at(epoch - timedelta(seconds=1))) == "authentication"


@pytest.mark.parametrize("audience", ["https://x", "https://x:7443/services/counter"])
def test_an_audience_is_an_entity_identifier(federation: Federation, audience: str) -> None:
    assert assertion(federation, audience=audience)


@pytest.mark.parametrize(
    "audience", ["", "x", "http://x", "https://x y", "https://X", "https://x/", "https://x?y", "https://127.1"]
)
def test_an_audience_that_no_service_can_have_is_refused(federation: Federation, audience: str) -> None:
    assert refused_field(lambda: assertion(federation, audience=audience)) == "audience"


# -- which key signs --------------------------------------------------------------------------------------------------


def said(federation: Federation) -> Any:
    """What Shanghai's issuer says of itself, by its configuration."""
    issuer = federation[SH].ids.issuer
    federation[SH].resolver.publish_own()
    token = federation[SH].resolver.document(issuer, issuer)
    assert token is not None
    return payload(token)["metadata"][ISSUER_TYPE]


def revoke(federation: Federation) -> None:
    ring = federation[SH].ring
    kid = ring.sign_until(KeyPurpose.CREDENTIAL, START).public.kid
    compromised = Revocation(revoked_at=START, reason=RevocationReason.COMPROMISED)
    ring.change(
        KeyPurpose.CREDENTIAL, lambda records, now: key_schedule.revoke(records, kid, compromised, now), Author()
    )


@pytest.mark.parametrize("issue", [credential, assertion])
def test_while_no_key_may_sign_nothing_is_issued(federation: Federation, issue: Issue) -> None:
    assert issue(federation)
    revoke(federation)
    with pytest.raises(Unavailable):
        issue(federation)


@pytest.mark.parametrize(("issue", "life"), [(credential, timedelta(days=30)), (assertion, timedelta(minutes=1))])
def test_until_when_a_key_is_needed_is_noted_with_what_it_signs(
    federation: Federation, issue: Issue, life: timedelta
) -> None:
    issue(federation)
    (record,) = federation[SH].ring.records(KeyPurpose.CREDENTIAL)
    assert record.signed_until is not None
    assert START + life <= record.signed_until <= START + life + timedelta(days=1)


def test_the_configuration_names_each_key_with_its_proof(federation: Federation) -> None:
    ring, before = federation[SH].ring, said(federation)
    (staged,) = ring.stage(KeyPurpose.CREDENTIAL, Author())
    kid = staged.key.kid
    assert said(federation) == before
    ring.change(KeyPurpose.CREDENTIAL, lambda records, now: key_schedule.publish(records, kid, now), Author())
    after = said(federation)
    kids = [key["kid"] for name in ("jwks", "status_jwks") for key in after[name]["keys"]]
    assert set(kids) == set(after[KEY_PROOFS]) == {*before[KEY_PROOFS], kid}
    assert {name: after[KEY_PROOFS][name] for name in before[KEY_PROOFS]} == before[KEY_PROOFS]  # not signed anew


def test_an_issuer_without_a_key_to_show_leaves_the_set_out(federation: Federation) -> None:
    revoke(federation)
    assert "jwks" not in said(federation)


def claims_of(number: float) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update({"income": 1.5, "household": [{"income": number}]})
    return message


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_to_issue_are_finite(number: float) -> None:
    assert wire.claims(claims_of(2.5)) == {"income": 1.5, "household": [{"income": 2.5}]}
    assert refused_field(lambda: wire.claims(claims_of(number))) == "claims"
