"""A small charter for tests: three anchors of which two make a quorum, two members, one matter."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.core.charter import add_signature, unsigned
from gateway.core.encoding import write_json
from gateway.core.jose import Algorithm, SoftwareKey, generate_key

START = datetime(2026, 11, 23, tzinfo=UTC)
LIFETIME = timedelta(days=90)
KEYS = {province: generate_key(Algorithm.ED25519) for province in ("sh", "js", "zj", "ah")}
SPARE = generate_key(Algorithm.ED25519)

AGREEMENT: dict[str, Any] = {
    "matters": [
        {
            "code": "HK-QY",
            "name_zh": "跨省户口网上迁移",
            "name_en": "Online household migration between provinces",
            "min_assurance": {"ial": 3, "aal": 2, "fal": 3},
            "key_binding": True,
            "status_required": True,
            "max_status_age_seconds": 900,
            "max_credential_age_seconds": 86_400,
            "max_authentication_age_seconds": 3_600,
            "credential_types": ["urn:yrd:resident-id:1"],
            "subject_types": ["natural"],
            "parties": ["self", "guardian"],
            "required_claims": ["name"],
            "released_claims": ["name", "hukou_region"],
            "actor_required_claims": [],
            "actor_released_claims": ["name"],
            "restricted_claims": ["name"],
            "questions": ["household_in"],
            "comparable_claims": ["id_number"],
            "legal_basis": {"zh": "个人信息保护法第十三条第一款第三项", "en": "PIPL 13(1)(iii)"},
            "consent": None,
            "retention_seconds": 3_600,
        },
    ],
    "issuers": [
        {
            "entity_id": "https://sh.example",
            "algorithms": [{"name": "ES256", "sunset": None}, {"name": "Ed25519", "sunset": None}],
            "cap": {"ial": 3, "aal": 2, "fal": 3},
            "equivalence": {
                "urn:yrd:loa:3": {"ial": 2, "aal": 2, "fal": 3},
                "urn:yrd:loa:4": {"ial": 3, "aal": 2, "fal": 3},
            },
        },
    ],
    "trust_frameworks": ["urn:yrd:framework:1"],
    "assurance_levels": ["low", "substantial", "high"],
    "levels": [
        {"name": {"zh": "实名", "en": "real name"}, "floor": {"ial": 1, "aal": 1, "fal": 1}},
        {"name": {"zh": "实人实名", "en": "real person"}, "floor": {"ial": 2, "aal": 2, "fal": 2}},
    ],
    "restricted_claims": [
        "name",
        "id_number",
        "birthdate",
        "gender",
        "ethnicity",
        "address",
        "phone_number",
        "id_valid_to",
    ],
    "terms": {
        "urn:yrd:framework:1": {"zh": "互认框架", "en": "framework"},
        "urn:yrd:resident-id:1": {"zh": "居民身份凭证", "en": "resident identity"},
        "urn:yrd:loa:1": {"zh": "注册用户", "en": "registered user"},
        "urn:yrd:loa:3": {"zh": "实人实名", "en": "real person"},
        "urn:yrd:loa:4": {"zh": "实人实名实证", "en": "real document"},
        "self": {"zh": "本人", "en": "the person"},
        "guardian": {"zh": "监护人", "en": "guardian"},
        "name": {"zh": "姓名", "en": "name"},
        "hukou_region": {"zh": "户籍地", "en": "household region"},
        "id_number": {"zh": "公民身份号码", "en": "ID number"},
    },
    "clock_skew_seconds": 60,
    "stale_grace_seconds": 3_600,
    "max_credential_lifetime_seconds": 34_560_000,
    "max_assertion_lifetime_seconds": 300,
    "max_key_binding_age_seconds": 300,
}


def agreement_claims() -> dict[str, Any]:
    return copy.deepcopy(AGREEMENT)


def anchor_claims(province: str, *keys: SoftwareKey) -> dict[str, Any]:
    return {
        "entity_id": f"https://anchor.{province}.example",
        "province": province,
        "jwks": {"keys": [dict(key.public.jwk) for key in keys or (KEYS[province],)]},
    }


def member_claims(province: str, entity_type: str) -> dict[str, Any]:
    host = {"identity_credential_issuer": province, "recognition_gateway": f"gateway.{province}"}[entity_type]
    return {
        "entity_id": f"https://{host}.example",
        "province": province,
        "entity_types": [entity_type],
        "name_zh": "示例机构",
        "name_en": "Example authority",
    }


def charter_claims(
    anchors: Sequence[dict[str, Any]] | None = None,
    *,
    quorum: int = 2,
    version: int = 1,
    prev_sha256: str | None = None,
    issued_at: datetime = START,
) -> dict[str, Any]:
    return {
        "version": version,
        "prev_sha256": prev_sha256,
        "iat": int(issued_at.timestamp()),
        "exp": int((issued_at + LIFETIME).timestamp()),
        "anchors": [anchor_claims(province) for province in ("sh", "js", "zj")] if anchors is None else list(anchors),
        "quorum": quorum,
        "members": [
            member_claims("sh", "identity_credential_issuer"),
            member_claims("ah", "recognition_gateway"),
        ],
        "agreement": agreement_claims(),
    }


def sign(claims: Mapping[str, Any], *signers: SoftwareKey) -> str:
    document = unsigned(write_json(claims))
    for signer in signers:
        document = add_signature(document, signer, allow_unlisted=True)
    return document


def set_at(document: Any, path: Sequence[str | int], value: object) -> None:
    """Put a value at a path, replacing what is there; the name ``...`` of a list appends."""
    *way, last = path
    for step in way:
        document = document[step]
    if last == "...":
        document.append(value)
    else:
        document[last] = value


def delete_at(document: Any, path: Sequence[str | int]) -> None:
    *way, last = path
    for step in way:
        document = document[step]
    del document[last]
