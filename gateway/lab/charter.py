"""The lab's charter: four provinces, four anchors, quorum three, and a small recognition agreement.

Data, not code: what the provinces would negotiate. A real federation writes its own and reviews it as a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.core.charter import GATEWAY_TYPE, ISSUER_TYPE
from gateway.core.credential import ASSERTION_CREDENTIAL_TYPE
from gateway.core.identifiers import Province
from gateway.core.jose import PublicKey

RESIDENT_ID: Final = "urn:yrd:credential:resident-id:1"
"""Credential type: a resident's identity as the province's public security authority established it."""
TRUST_FRAMEWORK: Final = "urn:yrd:framework:mutual-recognition:1"
CHARTER_LIFETIME: Final = timedelta(days=180)
QUORUM: Final = 3

HUKOU_MIGRATION: Final = "HK-QY"
LICENCE_DISPLAY: Final = "DZ-LZ"
COURT_FILING: Final = "KY-LA"


@dataclass(frozen=True, slots=True)
class EntityIds:
    """Entity identifiers of one lab province."""

    gateway: str
    issuer: str
    anchor: str


def entity_ids(province: Province) -> EntityIds:
    """Give a province's entity identifiers. ``.example`` is reserved: nothing can ever be reached there."""
    return EntityIds(
        gateway=f"https://gateway.{province.code}.mrg.example",
        issuer=f"https://issuer.{province.code}.mrg.example",
        anchor=f"https://anchor.{province.code}.mrg.example",
    )


def charter_claims(anchor_keys: Mapping[Province, PublicKey], now: datetime) -> dict[str, Any]:
    """Write the claims of the lab's first charter."""
    issued_at = int(now.timestamp())
    return {
        "version": 1,
        "prev_sha256": None,
        "iat": issued_at,
        "exp": issued_at + int(CHARTER_LIFETIME.total_seconds()),
        "anchors": [
            {
                "entity_id": entity_ids(province).anchor,
                "province": province.code,
                "jwks": {"keys": [dict(anchor_keys[province].jwk)]},
            }
            for province in Province
        ],
        "quorum": QUORUM,
        "members": [member for province in Province for member in _members(province)],
        "agreement": example_agreement([entity_ids(province).issuer for province in Province]),
    }


def _members(province: Province) -> Sequence[dict[str, Any]]:
    ids = entity_ids(province)
    return (
        {
            "entity_id": ids.issuer,
            "province": province.code,
            "entity_types": [ISSUER_TYPE],
            "name_zh": f"{province.name_zh}身份认证机构（实验）",
            "name_en": f"{province.name_en} identity authority (lab)",
        },
        {
            "entity_id": ids.gateway,
            "province": province.code,
            "entity_types": [GATEWAY_TYPE],
            "name_zh": f"{province.name_zh}互认网关（实验）",
            "name_en": f"{province.name_en} recognition gateway (lab)",
        },
    )


def example_agreement(issuers: Sequence[str]) -> dict[str, Any]:
    """Write the lab's recognition agreement, on the same terms for each of these issuers."""
    return {
        "matters": [
            _matter(
                HUKOU_MIGRATION,
                ("跨省户口网上迁移", "Online household migration between provinces"),
                _levels(3, 2, 3),
                types=[RESIDENT_ID],
                required=["name", "id_number", "hukou_region"],
                released=["name", "id_type", "id_number", "hukou_region"],
                key_binding=True,
            ),
            _matter(
                LICENCE_DISPLAY,
                ("电子证照亮证", "Showing an electronic licence"),
                _levels(2, 2, 2),
                types=[RESIDENT_ID, ASSERTION_CREDENTIAL_TYPE],
                required=[],
                released=["name"],
                key_binding=False,
            ),
            _matter(
                COURT_FILING,
                ("跨域立案", "Filing a case with a court of another province"),
                _levels(2, 2, 2),
                types=[RESIDENT_ID, ASSERTION_CREDENTIAL_TYPE],
                required=["name"],
                released=["name", "id_type", "id_number"],
                key_binding=False,
            ),
        ],
        "issuers": [
            {
                "entity_id": issuer,
                "algorithms": ["ES256"],
                "cap": _levels(3, 3, 3),
                "equivalence": {
                    "urn:yrd:loa:1": _levels(1, 1, 1),
                    "urn:yrd:loa:2": _levels(1, 1, 2),
                    "urn:yrd:loa:3": _levels(2, 2, 3),
                    "urn:yrd:loa:4": _levels(3, 3, 3),
                },
            }
            for issuer in issuers
        ],
        "trust_frameworks": [TRUST_FRAMEWORK],
        "assurance_levels": ["low", "substantial", "high"],
        "clock_skew_seconds": 60,
        "stale_grace_seconds": 3600,
        "max_credential_lifetime_seconds": 400 * 86_400,
        "max_assertion_lifetime_seconds": 300,
        "max_key_binding_age_seconds": 300,
    }


def _matter(
    code: str,
    name: tuple[str, str],
    floor: dict[str, int],
    *,
    types: Sequence[str],
    required: Sequence[str],
    released: Sequence[str],
    key_binding: bool,
) -> dict[str, Any]:
    return {
        "code": code,
        "name_zh": name[0],
        "name_en": name[1],
        "min_assurance": floor,
        "key_binding": key_binding,
        "max_credential_age_seconds": 180 * 86_400,
        "max_authentication_age_seconds": 180 * 86_400,
        "credential_types": list(types),
        "required_claims": list(required),
        "released_claims": list(released),
        "legal_basis": "个人信息保护法第十三条第一款第三项",
    }


def _levels(identity: int, authenticator: int, federation: int) -> dict[str, int]:
    return {"ial": identity, "aal": authenticator, "fal": federation}
