"""Presentations made by hand: an accepted one of each profile, and one thing changed at a time.

Nothing here uses the code that issues, so that a mistake shared by issuing and verifying does not hide itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast

import pytest

from gateway.core.agreement import Agreement, Assurance, IssuerTerms, Level, Matter, Words
from gateway.core.challenge import make_nonce
from gateway.core.consent import Consent
from gateway.core.credential import PresentationRequest, VerifiedPresentation, verify_presentation
from gateway.core.encoding import b64url_decode, b64url_encode, write_json
from gateway.core.findings import Findings
from gateway.core.jose import Algorithm, PublicKey, SoftwareKey, generate_key
from gateway.core.predicates import Predicate
from gateway.core.reasons import Indeterminate, Reason, Rejected
from gateway.core.status_list import StatusList
from gateway.core.trust import TrustView
from gateway.known import KnownCredentials
from reference.reasons import STEPS

NOW = datetime.fromtimestamp(1_700_000_000, UTC)
EPOCH = 1_700_000_000

ISSUER = "https://issuer.sh.example"
OTHER_ISSUER = "https://issuer.js.example"
GATEWAY = "https://gateway.ah.example"
SERVICE = "https://gateway.ah.example/services/hefei-shushan"
OTHER_SERVICE = "https://gateway.zj.example/services/hangzhou"
RESIDENT_ID = "urn:yrd:credential:resident-id:1"
ASSERTION = "urn:yrd:assertion:identity:1"
ACR = "urn:yrd:loa:4"
LOWER_ACR = "urn:yrd:loa:3"
FRAMEWORK = "urn:yrd:framework:1"
CERTIFICATE = "c" * 43
NONCE_KEY = b"k" * 32
MATTER_CODE = "HK-QY"

ISSUER_KEY = generate_key()
OTHER_ISSUER_KEY = generate_key()
HOLDER_KEY = generate_key()
STRANGER_KEY = generate_key()
STATUS_KEY = generate_key()
STATUS_LIST = f"{ISSUER}/status/list-1"

HIGHEST = Assurance(identity=3, authenticator=3, federation=3)
MATTER = Matter(
    code=MATTER_CODE,
    name_zh="跨省户口网上迁移",
    name_en="Online household migration between provinces",
    min_assurance=HIGHEST,
    key_binding=True,
    max_credential_age=timedelta(days=30),
    max_authentication_age=timedelta(days=60),
    credential_types=frozenset({RESIDENT_ID, ASSERTION}),
    required_claims=frozenset({"name"}),
    released_claims=frozenset({"name", "id_type", "id_number", "hukou_region", "uscc", "address"}),
    legal_basis=Words("个人信息保护法第十三条第一款第三项", "Personal Information Protection Law, article 13 (1) (3)"),
)
ONLINE_MATTER = replace(MATTER, key_binding=False, min_assurance=Assurance(identity=2, authenticator=2, federation=2))
"""A matter that is content with a bearer's word."""
BEARER_MATTER = replace(MATTER, key_binding=False, min_assurance=replace(MATTER.min_assurance, federation=2))
"""As MATTER, but for a hand-over that proves no possession of the holder's key."""
TERMS = IssuerTerms(
    algorithms={Algorithm.ES256: None},
    cap=HIGHEST,
    equivalence={ACR: HIGHEST, LOWER_ACR: Assurance(identity=2, authenticator=2, federation=3)},
)
AGREEMENT = Agreement(
    matters={MATTER_CODE: MATTER},
    issuers={ISSUER: TERMS, OTHER_ISSUER: TERMS},
    trust_frameworks=frozenset({FRAMEWORK}),
    assurance_levels=frozenset({"substantial", "high"}),
    clock_skew=timedelta(seconds=60),
    stale_grace=timedelta(hours=1),
    max_credential_lifetime=timedelta(days=400),
    max_assertion_lifetime=timedelta(seconds=300),
    max_key_binding_age=timedelta(seconds=300),
    levels=(
        Level(name=Words("一级", "one"), floor=Assurance(identity=1, authenticator=1, federation=1)),
        Level(name=Words("二级", "two"), floor=Assurance(identity=2, authenticator=2, federation=2)),
        Level(name=Words("三级", "three"), floor=HIGHEST),
    ),
)

ATTRIBUTES: Mapping[str, Any] = {
    "name": "徐某",
    "id_type": "resident_id",
    "id_number": "310101190001010011",
    "hukou_region": "310101",
    "birthdate": "1900-01-01",
}


# -- a trust view -----------------------------------------------------------------------------------------------------


@dataclass
class Charter:
    agreement: Agreement = AGREEMENT


@dataclass
class Trusted:
    key: PublicKey
    fresh_until: datetime = NOW + timedelta(minutes=10)
    signed_before: datetime | None = None
    anchors: tuple[str, ...] = ("https://anchor.sh.example", "https://anchor.js.example")


@dataclass
class Recognised:
    entity_id: str
    province: str
    credential_types: frozenset[str]
    status_lists: dict[str, int] = field(default_factory=dict)


@dataclass
class View:
    """What a verification asks of a trust view, and no more."""

    charter: Charter = field(default_factory=Charter)
    issuers: dict[str, Recognised] = field(
        default_factory=lambda: {
            ISSUER: Recognised(ISSUER, "sh", frozenset({RESIDENT_ID, ASSERTION})),
            OTHER_ISSUER: Recognised(OTHER_ISSUER, "js", frozenset({RESIDENT_ID})),
        }
    )
    keys: dict[tuple[str, str], Trusted] = field(
        default_factory=lambda: {
            (ISSUER, ISSUER_KEY.public.kid): Trusted(ISSUER_KEY.public),
            (OTHER_ISSUER, OTHER_ISSUER_KEY.public.kid): Trusted(OTHER_ISSUER_KEY.public),
        }
    )
    status_keys: dict[tuple[str, str], Trusted] = field(
        default_factory=lambda: {(ISSUER, STATUS_KEY.public.kid): Trusted(STATUS_KEY.public)}
    )
    failure: Exception | None = None
    asked: int = 0

    def issuer(self, entity_id: str) -> Recognised:
        if entity_id not in self.issuers:
            raise Rejected(Reason.ISSUER_UNKNOWN, "issuer is not a member of the federation")
        return self.issuers[entity_id]

    def check_authority(self, issuer: str, credential_type: str, _now: datetime) -> None:
        if credential_type not in self.issuer(issuer).credential_types:
            raise Rejected(Reason.ISSUER_NOT_AUTHORISED, "not a type of this issuer's")

    def credential_key(self, issuer: str, kid: str, _now: datetime) -> Trusted:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        self.issuer(issuer)
        if (issuer, kid) not in self.keys:
            raise Rejected(Reason.KEY_UNKNOWN, "no such key")
        return self.keys[issuer, kid]

    def status_key(self, issuer: str, kid: str, _now: datetime) -> Trusted:
        if (issuer, kid) not in self.status_keys:
            raise Rejected(Reason.KEY_UNKNOWN, "no such key")
        return self.status_keys[issuer, kid]

    def with_agreement(self, **changes: Any) -> Self:
        self.charter = Charter(replace(self.charter.agreement, **changes))
        return self

    def with_terms(self, **changes: Any) -> Self:
        return self.with_agreement(issuers={ISSUER: replace(TERMS, **changes)})


# -- parts of a presentation ------------------------------------------------------------------------------------------


def sign(header: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes, key: SoftwareKey) -> str:
    parts = [part if isinstance(part, bytes) else write_json(part) for part in (header, payload)]
    signing_input = ".".join(b64url_encode(part) for part in parts)
    return f"{signing_input}.{b64url_encode(key.sign(signing_input.encode()))}"


def header_of(key: SoftwareKey, typ: str, **changes: Any) -> dict[str, Any]:
    return {"alg": key.public.algorithm.value, "typ": typ, "kid": key.public.kid} | changes


def disclosure(*content: Any) -> str:
    return b64url_encode(write_json(content))


def hashed(text: str, name: str = "sha256") -> str:
    return b64url_encode(hashlib.new(name, text.encode()).digest())


def salt(number: int) -> str:
    return f"salt-of-22-characters-{number:03d}"


def common_claims(now: int = EPOCH) -> dict[str, Any]:
    return {
        "iss": ISSUER,
        "sub": "v1.pairwise-subject",
        "sub_type": "natural",
        "iat": now - 100,
        "exp": now + 200,
        "acr": ACR,
        "amr": ["face", "hwk"],
        "auth_time": now - 160,
        "assurance": {"ial": 3, "aal": 3, "fal": 3},
        "verified_claims": {
            "verification": {"trust_framework": FRAMEWORK, "assurance_level": "high"},
            "claims": dict(ATTRIBUTES),
        },
    }


def holder_jwk(key: SoftwareKey = HOLDER_KEY) -> dict[str, str]:
    return {name: value for name, value in key.public.jwk.items() if name not in {"kid", "use"}}


KNOWN = KnownCredentials(most=64)
"""Of all attempts of this process, so that each meets what others left behind."""


@dataclass(frozen=True)
class Refusal:
    kind: type[Exception]
    reason: Reason
    error: Exception = field(compare=False)


@dataclass
class Attempt:
    """One presentation under way, still to be changed."""

    typ: str
    payload: dict[str, Any]
    disclosures: list[str]
    signer: SoftwareKey = ISSUER_KEY
    header: dict[str, Any] = field(default_factory=dict)
    raw_payload: bytes | None = None
    tilde: bool = True
    holder: SoftwareKey | None = HOLDER_KEY
    binding_header: dict[str, Any] = field(default_factory=lambda: {"alg": "ES256", "typ": "kb+jwt"})
    binding: dict[str, Any] = field(default_factory=dict)
    """Members of the key-binding JWT that differ from the right ones."""
    binding_hash: str = "sha256"
    omitted: set[str] = field(default_factory=set)
    """Members of the header and of the key-binding JWT to leave out."""
    rewrite: Callable[[str], str] = str
    view: View = field(default_factory=View)
    lists: dict[str, StatusList] = field(default_factory=dict)
    predicates: Sequence[Predicate] = ()
    consent_id: str = ""
    consent: Consent | None = None
    findings: Findings = field(default_factory=Findings)
    matter: Matter = MATTER
    service: str = SERVICE
    nonce: str = ""
    certificate: str = ""
    now: datetime = NOW

    @classmethod
    def credential(cls) -> Self:
        payload = common_claims() | {
            "exp": EPOCH + 86_400,
            "vct": RESIDENT_ID,
            "cnf": {"jwk": holder_jwk()},
            "_sd_alg": "sha-256",
        }
        attempt = cls("dc+sd-jwt", payload, [], nonce=nonce_for())
        attempt.hide(ATTRIBUTES)
        return attempt

    @classmethod
    def assertion(cls) -> Self:
        payload = common_claims() | {
            "aud": SERVICE,
            "jti": "jti-of-one-hand-over",
            "cnf": {"x5t#S256": CERTIFICATE},
        }
        attempt = cls("identity-assertion+jwt", payload, [], tilde=False, holder=None, certificate=CERTIFICATE)
        attempt.matter = BEARER_MATTER
        return attempt

    def hide(self, attributes: Mapping[str, Any]) -> None:
        """Put these attributes, and no others, into Disclosures under verified_claims.claims."""
        self.disclosures = [disclosure(salt(i), name, attributes[name]) for i, name in enumerate(attributes)]
        self.payload["verified_claims"]["claims"] = {"_sd": sorted(hashed(text) for text in self.disclosures)}

    @property
    def attributes(self) -> dict[str, Any]:
        """The place of the attributes in the payload."""
        claims: dict[str, Any] = self.payload["verified_claims"]["claims"]
        return claims

    def disclose(self, *content: Any, at: dict[str, Any] | None = None) -> str:
        """Add a Disclosure, and its digest to one object of the payload: to the attributes unless told."""
        added = disclosure(*content)
        place = self.attributes if at is None else at
        place.setdefault("_sd", []).append(hashed(added))
        self.disclosures.append(added)
        return added

    def without_binding(self) -> Self:
        self.holder = None
        return self

    def text(self) -> str:
        header = header_of(self.signer, self.typ) | self.header
        header = {name: value for name, value in header.items() if name not in self.omitted}
        token = sign(header, self.payload if self.raw_payload is None else self.raw_payload, self.signer)
        if self.tilde:
            token = "~".join((token, *self.disclosures, ""))
        return self.rewrite(token + self._proof(token))

    def _proof(self, token: str) -> str:
        if self.holder is None:
            return ""
        claims = {
            "iat": EPOCH,
            "aud": SERVICE,
            "nonce": self.nonce,
            "sd_hash": hashed(token, self.binding_hash),
        } | self.binding
        claims = {name: value for name, value in claims.items() if name not in self.omitted}
        return sign(self.binding_header, claims, self.holder)

    def request(self, presentation: str | None = None) -> PresentationRequest:
        return PresentationRequest(
            presentation=self.text() if presentation is None else presentation,
            matter=self.matter,
            service=self.service,
            gateway=GATEWAY,
            nonce=self.nonce,
            nonce_key=NONCE_KEY,
            certificate_sha256=self.certificate,
            predicates=self.predicates,
            consent_id=self.consent_id,
            consent=self.consent,
        )

    def judge(self, presentation: str | None = None) -> VerifiedPresentation:
        request = self.request(presentation)
        expected = self._outcome(request, None)
        findings, asked = self.findings, self.view.asked
        for _ in range(2):
            # The first may make it known, the second finds it known: neither must change anything.
            assert (self._outcome(request, KNOWN), self.findings) == (expected, findings)
        self.view.asked = asked
        if isinstance(expected, Refusal):
            raise expected.error
        return expected

    def _outcome(self, request: PresentationRequest, known: KnownCredentials | None) -> VerifiedPresentation | Refusal:
        self.findings = Findings()
        view = cast("TrustView", self.view)
        try:
            return verify_presentation(request, view, self.lists, self.now, self.findings, known=known)
        except (Rejected, Indeterminate) as error:
            refusal = Refusal(type(error), error.reason, error)
        # docs/reasons.md says where each reason decides.
        assert self.findings.step in STEPS[refusal.reason]
        return refusal

    def is_accepted(self) -> bool:
        self.judge()
        return True

    def refusal(self, presentation: str | None = None) -> Reason:
        with pytest.raises(Rejected) as caught:
            self.judge(presentation)
        return caught.value.reason

    def indecision(self) -> Reason:
        with pytest.raises(Indeterminate) as caught:
            self.judge()
        return caught.value.reason


def nonce_for(service: str = SERVICE, matter: str = MATTER_CODE, random: bytes = b"r" * 16) -> str:
    return make_nonce(NONCE_KEY, service=service, matter=matter, expires_at=NOW + timedelta(minutes=5), random=random)


def twin(token: str) -> str:
    """The same JWS with s replaced by n - s, which verifies as well (P-256)."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signing_input, _, signature = token.rpartition(".")
    raw = b64url_decode(signature)
    s = int.from_bytes(raw[32:], "big")
    return f"{signing_input}.{b64url_encode(raw[:32] + (order - s).to_bytes(32, 'big'))}"


Change = Callable[[Attempt], object]


def setting(**claims: Any) -> Change:
    """Set claims of the payload."""
    return lambda attempt: attempt.payload.update(claims)


def dropping(*names: str) -> Change:
    """Leave claims out of the payload."""

    def change(attempt: Attempt) -> None:
        for name in names:
            del attempt.payload[name]

    return change


def demanding(**changes: Any) -> Change:
    """Change what the matter demands."""

    def change(attempt: Attempt) -> None:
        attempt.matter = replace(attempt.matter, **changes)

    return change


def making(**fields: Any) -> Change:
    """Change the attempt itself: who signs, for whom, when."""

    def change(attempt: Attempt) -> None:
        for name, value in fields.items():
            setattr(attempt, name, value)

    return change


def all_of(*changes: Change) -> Change:
    """Make several changes that only mean something together."""

    def change(attempt: Attempt) -> None:
        for each in changes:
            each(attempt)

    return change


def header(**members: Any) -> Change:
    """Change the protected header."""
    return lambda attempt: attempt.header.update(members)


def status_reference(attempt: Attempt) -> None:
    attempt.payload["status"] = {"status_list": {"idx": 7, "uri": "https://issuer.sh.example/status/1"}}


def cases(table: Mapping[str, tuple[Change, Reason]]) -> pytest.MarkDecorator:
    """Parametrize by a table: a sentence, what is changed, and why it is refused.

    A number before the sentence is that of the negative case in facts/credentials.md section 8.
    """
    rows = [pytest.param(change, reason, id=sentence) for sentence, (change, reason) in table.items()]
    return pytest.mark.parametrize(("change", "reason"), rows)


def changed(attempt: Attempt, change: Change) -> Attempt:
    change(attempt)
    return attempt


BOTH = pytest.mark.parametrize("make", [Attempt.credential, Attempt.assertion], ids=["credential", "assertion"])
"""For rules that hold for both profiles."""
Make = Callable[[], Attempt]
