"""The pure core against the raw signature check.

Every credential is distinct and seen once: no cache can help. The raw rate is what ``cryptography`` does with the same
number of ES256 verifications of messages of the same size and nothing else. Core and raw are measured in turn, in
rounds, so that a machine that slows down slows both; the median ratio counts.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.figures import Figure
from bench.members import NOW, IssuerKeys, documents_of, signed_charter, status_list_of
from gateway.core.agreement import Matter
from gateway.core.challenge import make_nonce
from gateway.core.credential import (
    ASSERTION_TYPE,
    CREDENTIAL_TYPE,
    PresentationRequest,
    verify_presentation,
)
from gateway.core.encoding import b64url_encode
from gateway.core.findings import Findings
from gateway.core.identifiers import Province
from gateway.core.jose import SoftwareKey, generate_key, sign_compact
from gateway.core.reasons import Rejected
from gateway.core.sd_jwt import issue, present
from gateway.core.status_list import (
    MIN_ENTRIES,
    STATUS_LIST_TYPE,
    StatusList,
    encode,
    read_status_list,
    status_list_claims,
)
from gateway.core.trust import build_view
from gateway.lab.charter import (
    HUKOU_MIGRATION,
    LICENCE_DISPLAY,
    RESIDENT_ID,
    TRUST_FRAMEWORK,
    entity_ids,
)

ROUNDS: Final = 7
PER_ROUND: Final = 300
NONCE_KEY: Final = b"n" * 32
ISSUER: Final = entity_ids(Province.SHANGHAI).issuer
STATUS_LIST: Final = status_list_of(ISSUER)
GATEWAY: Final = entity_ids(Province.ANHUI).gateway
SERVICE: Final = f"{GATEWAY}/services/counter"


def measure(say: Callable[[str], None], rounds: int = ROUNDS, per_round: int = PER_ROUND) -> list[Figure]:
    """Measure the core."""
    say("building trust and credentials")
    stage = Stage()
    total = rounds * per_round
    assertions = [stage.assertion() for _ in range(total)]
    credentials = [stage.credential() for _ in range(total)]
    raw = RawVerify(total, size=len(assertions[0].presentation))
    say(f"{rounds} rounds of {per_round} each: raw ES256, assertions, credentials with key binding")
    rates: dict[str, list[float]] = {"raw": [], "assertion": [], "credential": []}
    for number in range(rounds):
        part = slice(number * per_round, (number + 1) * per_round)
        rates["raw"].append(_rate(raw.verify, range(part.start, part.stop)))
        rates["assertion"].append(_rate(stage.verify, assertions[part]))
        rates["credential"].append(_rate(stage.verify, credentials[part]))

    def ratio(name: str) -> float:
        return statistics.median(one / base for one, base in zip(rates[name], rates["raw"], strict=True))

    return [
        Figure(metric="raw_es256_verify_per_s", value=statistics.median(rates["raw"]), unit="1/s"),
        Figure(metric="core_assertion_per_s", value=statistics.median(rates["assertion"]), unit="1/s"),
        Figure(metric="core_credential_kb_per_s", value=statistics.median(rates["credential"]), unit="1/s"),
        Figure(metric="core_assertion_vs_raw_verify", value=ratio("assertion"), unit="ratio", target=0.75),
        Figure(metric="core_credential_kb_vs_raw_verify", value=ratio("credential"), unit="ratio", target=0.35),
        Figure(
            metric="worst_rejection_vs_acceptance",
            value=_worst_rejection(stage, credentials[:per_round]),
            unit="time ratio",
            target=2.0,
            at_most=True,
        ),
    ]


def _worst_rejection(stage: Stage, requests: Sequence[PresentationRequest]) -> float:
    """How much longer the gateway can be kept busy by a bad presentation than by a good one of its size."""

    def seconds(made: Sequence[PresentationRequest]) -> float:
        return min(1 / _rate(stage.reject_or_verify, made) for _ in range(3))

    good = seconds(requests)
    return (
        max(seconds([replace(each, presentation=spoil(each.presentation)) for each in requests]) for spoil in SPOILS)
        / good
    )


def _flip(presentation: str, at: int) -> str:
    return presentation[:at] + ("B" if presentation[at] == "A" else "A") + presentation[at + 1 :]


def _other_header(presentation: str, header: str) -> str:
    return b64url_encode(header.encode()) + presentation[presentation.index(".") :]


SPOILS: Final[Sequence[Callable[[str], str]]] = (
    lambda text: _flip(text, text.index("~") - 10),  # the issuer's signature
    lambda text: _flip(text, len(text) - 10),  # the holder's signature, checked last
    lambda text: _flip(text, text.index(".") + 20),  # the payload
    lambda text: text.replace("~", "~~", 1),
    lambda text: text.split("~")[0] + "~" + "~".join(["W10"] * ((len(text) - text.index("~")) // 4)) + "~",
    lambda text: _other_header(text, '{"alg":"none","typ":"dc+sd-jwt","kid":"x"}'),
    lambda text: "~" * len(text),
    lambda text: "A" * len(text),
    lambda text: f"e30.{b64url_encode(b'[' * (len(text) * 3 // 4 - 20))}.AAAA~",
)


def _rate(work: Callable[[Any], object], items: Any) -> float:
    started = time.perf_counter()
    for item in items:
        work(item)
    return len(items) / (time.perf_counter() - started)


class RawVerify:
    """What a signature check costs when nothing else is done."""

    def __init__(self, count: int, size: int) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self._key = key.public_key()
        self._algorithm = ec.ECDSA(hashes.SHA256())
        self._messages = [os.urandom(size) for _ in range(count)]
        self._signatures = [key.sign(message, self._algorithm) for message in self._messages]

    def verify(self, index: int) -> None:
        """Verify one signature."""
        self._key.verify(self._signatures[index], self._messages[index], self._algorithm)


class Stage:
    """A charter, a trust view, an issuer and a holder: what a verification needs, and nothing served."""

    def __init__(self) -> None:
        anchors = {province: generate_key() for province in Province}
        charter = signed_charter(anchors)
        keys = IssuerKeys()
        self._issuer = keys.credential
        self._holder = generate_key()
        self.view = build_view(charter, documents_of(charter, anchors, {ISSUER: keys}), NOW)
        self.lists = {STATUS_LIST: _status_list(keys.status)}
        self.matters = charter.agreement.matters

    def verify(self, request: PresentationRequest) -> None:
        """Judge one presentation; a rejection would end the benchmark."""
        verify_presentation(request, self.view, self.lists, NOW, Findings())

    def reject_or_verify(self, request: PresentationRequest) -> None:
        """Judge one presentation, whatever comes of it."""
        with suppress(Rejected):
            self.verify(request)

    def assertion(self) -> PresentationRequest:
        """Make an assertion as a counter would get one."""
        claims = {
            **_common(),
            "aud": SERVICE,
            "jti": b64url_encode(os.urandom(16)),
            "exp": int(NOW.timestamp()) + 300,
        }
        claims["verified_claims"]["claims"] = {"name": "徐某", "hukou_region": "310101"}
        token = sign_compact(ASSERTION_TYPE, claims, self._issuer)
        return self._request(token, self.matters[LICENCE_DISPLAY], nonce="")

    def credential(self) -> PresentationRequest:
        """Make a credential with ten disclosures and a key-binding proof."""
        attributes = {
            "name": "徐某",
            "id_type": "resident_id",
            "id_number": "310101190001010011",
            "hukou_region": "310101",
            **{f"attribute_{number}": f"value {number}" for number in range(6)},
        }
        claims = {
            **_common(),
            "vct": RESIDENT_ID,
            "cnf": {"jwk": {name: self._holder.public.jwk[name] for name in ("kty", "crv", "x", "y")}},
            "exp": int((NOW + timedelta(days=30)).timestamp()),
            "status": {"status_list": {"idx": int.from_bytes(os.urandom(2)), "uri": STATUS_LIST}},
        }
        claims["verified_claims"]["claims"] = attributes
        paths = [("verified_claims", "claims", name) for name in attributes]
        sd_jwt = issue(claims, paths, salts=_salts(), signer=self._issuer, typ=CREDENTIAL_TYPE)
        matter = self.matters[HUKOU_MIGRATION]
        nonce = make_nonce(
            NONCE_KEY,
            service=SERVICE,
            matter=matter.code,
            expires_at=NOW + timedelta(minutes=5),
            random=os.urandom(16),
        )
        presentation = present(
            sd_jwt, lambda _path: True, signer=self._holder, audience=SERVICE, nonce=nonce, issued_at=NOW
        )
        return self._request(presentation, matter, nonce)

    @staticmethod
    def _request(presentation: str, matter: Matter, nonce: str) -> PresentationRequest:
        return PresentationRequest(
            presentation=presentation,
            matter=matter,
            service=SERVICE,
            gateway=GATEWAY,
            nonce=nonce,
            nonce_key=NONCE_KEY,
            certificate_sha256="",
        )


def _common() -> dict[str, Any]:
    return {
        "iss": ISSUER,
        "sub": f"v1.{b64url_encode(os.urandom(32))}",
        "sub_type": "natural",
        "iat": int(NOW.timestamp()),
        "acr": "urn:yrd:loa:4",
        "amr": ["face", "hwk"],
        "auth_time": int(NOW.timestamp()),
        "assurance": {"ial": 3, "aal": 3, "fal": 3},
        "verified_claims": {"verification": {"trust_framework": TRUST_FRAMEWORK}},
    }


def _salts() -> Iterator[str]:
    while True:
        yield b64url_encode(os.urandom(16))


def _status_list(key: SoftwareKey) -> StatusList:
    claims = status_list_claims(
        uri=STATUS_LIST,
        issuer=ISSUER,
        seq=int(NOW.timestamp() * 1000),
        now=NOW,
        ttl=timedelta(seconds=300),
        lifetime=timedelta(hours=12),
        lst=encode(bytes(MIN_ENTRIES // 4)),
    )
    return read_status_list(
        sign_compact(STATUS_LIST_TYPE, claims, key),
        uri=STATUS_LIST,
        issuer=ISSUER,
        size=MIN_ENTRIES,
        key=lambda _kid: key.public,
        now=NOW,
        clock_skew=timedelta(seconds=60),
        floor=None,
    )
