"""Every way of cheating that the lab shows, and the reason each is turned away for.

The cheats are made as an attacker would make them: from what crosses the wire, from credentials honestly obtained, and,
for the forgeries, with keys of their own. Each differs from a presentation that is accepted in exactly one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from gateway.core.credential import CREDENTIAL_TYPE
from gateway.core.encoding import b64url_decode, b64url_encode, parse_json, write_json
from gateway.core.identifiers import Province
from gateway.core.jose import Signer, generate_key, parse_compact, sign_compact
from gateway.core.sd_jwt import MAX_ISSUER_JWT_CHARS
from gateway.lab.callers import Observed
from gateway.lab.cast import COURT, HUKOU, XU, Words, identity
from gateway.lab.charter import COURT_FILING, HUKOU_MIGRATION, entity_ids
from gateway.lab.stage import Case, Stage

SH, JS, ZJ, AH = Province
SHORT: Final = timedelta(seconds=30)
"""Life of the assertion that is to expire. Shorter than the clock skew that everybody tolerates: what the gateways sign
while the lab's clock is moved past it is not from the future once the clock is back."""
_SELF_MADE: Final = "https://issuer.nowhere.example"


def refusals(stage: Stage) -> Sequence[Case]:
    """Give all of them."""
    return (*_timing_and_place(stage), *_content(stage), *_forgeries(stage), _unregistered(stage))


def _timing_and_place(stage: Stage) -> Sequence[Case]:
    def replay() -> Observed:
        counter = stage.service(AH)
        challenge = counter.challenge(HUKOU_MIGRATION)
        presentation = stage.wallet(SH).present(challenge)
        first = counter.verify(HUKOU_MIGRATION, presentation, challenge.nonce)
        return counter.verify(HUKOU_MIGRATION, presentation, challenge.nonce) if first.verdict == "accepted" else first

    def replay_assertion() -> Observed:
        court, assertion = stage.service(JS, COURT), stage.assertion(ZJ, identity(JS, COURT))
        first = court.verify(COURT_FILING, assertion)
        return court.verify(COURT_FILING, assertion) if first.verdict == "accepted" else first

    def shown_at_the_counter(province: Province, service: str, matter: str) -> Observed:
        presentation = stage.wallet(SH).present(stage.service(province, service).challenge(matter))
        counter = stage.service(AH)
        return counter.verify(HUKOU_MIGRATION, presentation, counter.challenge(HUKOU_MIGRATION).nonce)

    def other_challenge() -> Observed:
        counter = stage.service(AH)
        presentation = stage.wallet(SH).present(counter.challenge(HUKOU_MIGRATION))
        return counter.verify(HUKOU_MIGRATION, presentation, counter.challenge(HUKOU_MIGRATION).nonce)

    def expired() -> Observed:
        assertion = stage.assertion(ZJ, identity(AH, COURT), lifetime=SHORT)
        with stage.lab.clock_moved(SHORT + timedelta(seconds=1)):
            return stage.service(AH, COURT).verify(COURT_FILING, assertion)

    return (
        _case(
            "replayed-presentation",
            "REPLAYED",
            ("同一次出示，再用一次", "the same presentation a second time"),
            replay,
        ),
        _case(
            "replayed-assertion",
            "REPLAYED",
            ("同一份断言，再用一次", "the same assertion a second time"),
            replay_assertion,
            asks=(JS, COURT),
        ),
        _case(
            "made-for-another-service",
            "AUDIENCE_MISMATCH",
            ("出示给法院窗口的，拿到户政窗口", "made for the court, shown at the household counter"),
            lambda: shown_at_the_counter(AH, COURT, COURT_FILING),
        ),
        _case(
            "made-for-another-province",
            "AUDIENCE_MISMATCH",
            ("出示给浙江的，拿到安徽", "made for Zhejiang, shown in Anhui"),
            lambda: shown_at_the_counter(ZJ, HUKOU, HUKOU_MIGRATION),
        ),
        _case(
            "assertion-for-another",
            "AUDIENCE_MISMATCH",
            ("发给江苏法院的断言，拿到安徽法院", "an assertion for a Jiangsu court, shown to one in Anhui"),
            lambda: stage.service(AH, COURT).verify(COURT_FILING, stage.assertion(ZJ, identity(JS, COURT))),
            asks=(AH, COURT),
        ),
        _case(
            "answers-another-challenge",
            "NONCE_MISMATCH",
            ("回应的是另一次核验的随机数", "it answers the nonce of another verification"),
            other_challenge,
        ),
        _case(
            "expired",
            "EXPIRED",
            (
                "三十秒有效的断言，第三十一秒使用（拨动实验时钟）",
                "an assertion of 30 s, used after 31 s (lab clock moved)",
            ),
            expired,
            asks=(AH, COURT),
        ),
    )


def _content(stage: Stage) -> Sequence[Case]:
    def altered(alter: Callable[[str], str]) -> Observed:
        # The holder binds the altered text, so that nothing but the alteration itself is wrong with it.
        counter, wallet = stage.service(AH), stage.wallet(SH)
        challenge = counter.challenge(HUKOU_MIGRATION)
        return counter.verify(HUKOU_MIGRATION, wallet.bind(alter(wallet.credential), challenge), challenge.nonce)

    def stripped() -> Observed:
        counter = stage.service(AH)
        challenge = counter.challenge(HUKOU_MIGRATION)
        return counter.verify(HUKOU_MIGRATION, stage.wallet(SH).credential, challenge.nonce)

    def stolen() -> Observed:
        counter, wallet = stage.service(AH), stage.wallet(SH)
        challenge = counter.challenge(HUKOU_MIGRATION)
        presentation = wallet.bind(wallet.credential, challenge, key=generate_key())
        return counter.verify(HUKOU_MIGRATION, presentation, challenge.nonce)

    return (
        _case(
            "assurance-too-low",
            "ASSURANCE_TOO_LOW",
            (
                "凭口令登录（loa:2）申领的凭证，不足以办理户口迁移",
                "issued on a password log-in (loa:2): too little for this",
            ),
            lambda: stage.present(AH, stage.issue(SH, XU, acr="urn:yrd:loa:2")),
        ),
        _case(
            "claim-withheld",
            "REQUIRED_CLAIM_MISSING",
            ("没有出示本事项必需的户籍地", "the household region, which the matter requires, kept back"),
            lambda: stage.present(AH, stage.wallet(SH), withhold=frozenset({"hukou_region"})),
        ),
        _case(
            "tampered-disclosure",
            "DISCLOSURE_INVALID",
            ("改动一处披露的内容", "one disclosure altered"),
            lambda: altered(other_name),
        ),
        _case(
            "tampered-signature",
            "SIGNATURE_INVALID",
            ("改动签发机构的签名", "the issuer's signature altered"),
            lambda: altered(other_signature),
        ),
        _case(
            "key-binding-stripped",
            "KEY_BINDING_MISSING",
            ("去掉本人持有证明", "the proof of possession cut off"),
            stripped,
        ),
        _case(
            "stolen-credential",
            "KEY_BINDING_INVALID",
            ("他人拿着徐某的凭证，用自己的密钥出示", "Mr Xu's credential, presented with somebody else's key"),
            stolen,
        ),
    )


def _forgeries(stage: Stage) -> Sequence[Case]:
    def forged(issuer: str, signer: Signer) -> Observed:
        counter, wallet = stage.service(AH), stage.wallet(SH)
        challenge = counter.challenge(HUKOU_MIGRATION)
        forgery = signed_anew(wallet.credential, issuer, signer)
        return counter.verify(HUKOU_MIGRATION, wallet.bind(forgery, challenge), challenge.nonce)

    return (
        _case(
            "forged-by-a-province",
            "KEY_UNKNOWN",
            ("江苏的签发密钥以上海的名义签发", "Jiangsu's issuer key signs in Shanghai's name"),
            lambda: forged(entity_ids(SH).issuer, stage.lab.signer(JS, "issuer-credential")),
        ),
        _case(
            "self-made-issuer",
            "ISSUER_UNKNOWN",
            ("自称签发机构，无人认可", "an issuer that nobody ever admitted"),
            lambda: forged(_SELF_MADE, generate_key()),
        ),
    )


def _unregistered(stage: Stage) -> Case:
    return Case(
        name="matter-not-registered",
        asks=(AH, COURT),
        title=Words("窗口未登记该事项，不予作答", "a service not registered for the matter gets no verdict"),
        expected=Observed(verdict="not_permitted", reason="NOT_PERMITTED"),
        action=lambda: stage.service(AH, COURT).verify(HUKOU_MIGRATION, stage.wallet(SH).credential),
    )


def _case(
    name: str,
    reason: str,
    title: tuple[str, str],
    action: Callable[[], Observed],
    *,
    asks: tuple[Province, str] = (AH, HUKOU),
) -> Case:
    return Case(
        name=name,
        asks=asks,
        title=Words(*title),
        expected=Observed(verdict="rejected", reason=reason),
        action=action,
    )


# -- altering ---------------------------------------------------------------------------------------------------------


def other_name(sd_jwt: str) -> str:
    """Put another name into the disclosure of the name; its digest no longer stands in the credential."""
    parts = sd_jwt.split("~")
    for index, part in enumerate(parts[1:-1], start=1):
        salt, name, value = parse_json(b64url_decode(part))
        if name == "name":
            parts[index] = b64url_encode(write_json([salt, name, f"{value}某"]))
    return "~".join(parts)


def other_signature(sd_jwt: str) -> str:
    """Change one character of the issuer's signature; the result is still canonical base64url."""
    issuer_jwt, tilde, disclosures = sd_jwt.partition("~")
    signed, dot, signature = issuer_jwt.rpartition(".")
    return f"{signed}{dot}{'B' if signature[0] == 'A' else 'A'}{signature[1:]}{tilde}{disclosures}"


def signed_anew(sd_jwt: str, issuer: str, signer: Signer) -> str:
    """Sign what the credential says as if the signer were its issuer, with the kid of the key that signs."""
    issuer_jwt, tilde, disclosures = sd_jwt.partition("~")
    claims = parse_compact(issuer_jwt, max_chars=MAX_ISSUER_JWT_CHARS).unverified_claims()
    return f"{sign_compact(CREDENTIAL_TYPE, {**claims, 'iss': issuer}, signer)}{tilde}{disclosures}"
