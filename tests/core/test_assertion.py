"""Identity assertions: for one audience, good once, for minutes, over one channel."""

from __future__ import annotations

from gateway.core.reasons import Reason
from tests.core.presentations import (
    CERTIFICATE,
    EPOCH,
    ISSUER,
    OTHER_SERVICE,
    RESIDENT_ID,
    SERVICE,
    Attempt,
    Change,
    all_of,
    cases,
    changed,
    demanding,
    dropping,
    header,
    making,
    setting,
    status_reference,
)


@cases(
    {
        "with typ JWT": (header(typ="JWT"), Reason.TYPE_MISMATCH),
        "with the credential's typ": (header(typ="dc+sd-jwt"), Reason.MALFORMED),
        "without aud": (dropping("aud"), Reason.CLAIM_INVALID),
        "with an array as aud": (setting(aud=[SERVICE]), Reason.CLAIM_INVALID),
        "for another service": (setting(aud=OTHER_SERVICE), Reason.AUDIENCE_MISMATCH),
        "for the service with a trailing slash": (setting(aud=f"{SERVICE}/"), Reason.AUDIENCE_MISMATCH),
        "for nobody": (setting(aud=""), Reason.AUDIENCE_MISMATCH),
        "without jti": (dropping("jti"), Reason.CLAIM_INVALID),
        "with a short jti": (setting(jti="j" * 15), Reason.CLAIM_INVALID),
        "with a long jti": (setting(jti="j" * 129), Reason.CLAIM_INVALID),
        "with a number as jti": (setting(jti=10**15), Reason.CLAIM_INVALID),
        "with a blank in jti": (setting(jti="jti of one hand over"), Reason.CLAIM_INVALID),
        "living a second too long": (setting(exp=EPOCH + 201), Reason.LIFETIME_TOO_LONG),
        "bound to another channel": (setting(cnf={"x5t#S256": "d" * 43}), Reason.KEY_BINDING_INVALID),
        "bound to a key it cannot prove": (setting(cnf={"jwk": {}}), Reason.KEY_BINDING_INVALID),
        "bound in two ways": (
            setting(cnf={"x5t#S256": CERTIFICATE, "kid": "k"}),
            Reason.KEY_BINDING_INVALID,
        ),
        "bound to nothing": (setting(cnf={}), Reason.KEY_BINDING_INVALID),
        "bound to a list": (setting(cnf=["x5t#S256"]), Reason.KEY_BINDING_INVALID),
        "bound to a number": (setting(cnf={"x5t#S256": 1}), Reason.KEY_BINDING_INVALID),
        "presented over a channel without certificate": (
            making(certificate=""),
            Reason.KEY_BINDING_INVALID,
        ),
        "bound to the empty certificate, presented without one": (
            all_of(making(certificate=""), setting(cnf={"x5t#S256": ""})),
            Reason.KEY_BINDING_INVALID,
        ),
        "for a matter that requires the holder's proof": (demanding(key_binding=True), Reason.KEY_BINDING_MISSING),
        "for a matter that only accepts credentials": (
            demanding(credential_types=frozenset({RESIDENT_ID})),
            Reason.CREDENTIAL_TYPE_NOT_ACCEPTED,
        ),
        "by an issuer that may not issue assertions": (
            lambda attempt: setattr(attempt.view.issuers[ISSUER], "credential_types", frozenset({RESIDENT_ID})),
            Reason.ISSUER_NOT_AUTHORISED,
        ),
        "over the size limit": (setting(padding="x" * 32_768), Reason.TOO_LARGE),
    }
)
def test_assertion_is_refused(change: Change, reason: Reason) -> None:
    assert changed(Attempt.assertion(), change).refusal() is reason


def test_assertion_with_a_status_has_it_looked_up() -> None:
    assert changed(Attempt.assertion(), status_reference).indecision() is Reason.STATUS_UNAVAILABLE
