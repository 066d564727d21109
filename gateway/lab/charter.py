"""The lab's charter: four provinces, four anchors, quorum three, and the lab's recognition agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.core.charter import GATEWAY_TYPE, ISSUER_TYPE
from gateway.core.identifiers import Province
from gateway.core.jose import PublicKey
from gateway.lab.agreement import (
    COURT_FILING,
    ENTERPRISE_CHANGE,
    FIRST_ID_CARD,
    HUKOU_CERTIFICATE,
    HUKOU_MIGRATION,
    ID_CARD_RENEWAL,
    LICENCE_DISPLAY,
    NEWBORN_REGISTRATION,
    NO_CRIMINAL_RECORD,
    ORGANISATION,
    PROVIDENT_FUND,
    RESIDENT_ID,
    TRUST_FRAMEWORK,
    example_agreement,
)

# What a charter of the lab names, for those who ask about it.
__all__ = [
    "COURT_FILING",
    "ENTERPRISE_CHANGE",
    "FIRST_ID_CARD",
    "HUKOU_CERTIFICATE",
    "HUKOU_MIGRATION",
    "ID_CARD_RENEWAL",
    "LICENCE_DISPLAY",
    "NEWBORN_REGISTRATION",
    "NO_CRIMINAL_RECORD",
    "ORGANISATION",
    "PROVIDENT_FUND",
    "RESIDENT_ID",
    "TRUST_FRAMEWORK",
    "EntityIds",
    "charter_claims",
    "entity_ids",
    "example_agreement",
]

CHARTER_LIFETIME: Final = timedelta(days=180)
QUORUM: Final = 3


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
