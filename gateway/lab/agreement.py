"""The lab's recognition agreement: ten service items of the delta, and what the provinces accept for each.

Data, not code: what the provinces would negotiate. A real federation writes its own and reviews it as a text. Each
matter has the attributes that telling who somebody is needs, and no more; papers, files and case data take other ways.
An ID number goes with the kind of document that it is the number of. Where the office has the attribute on file, the
matter may compare and does not release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.core.agreement import RESTRICTED_BY_LAW, Party, Question, SubjectType
from gateway.core.credential import ASSERTION_CREDENTIAL_TYPE

RESIDENT_ID: Final = "urn:yrd:credential:resident-id:1"
"""Credential type: a resident's identity as the province's public security authority established it."""
ORGANISATION: Final = "urn:yrd:credential:organisation:1"
"""Credential type: an organisation, known by its unified social credit code, and who may act for it."""
TRUST_FRAMEWORK: Final = "urn:yrd:framework:mutual-recognition:1"

HUKOU_MIGRATION: Final = "HK-QY"
HUKOU_CERTIFICATE: Final = "HJ-ZM"
FIRST_ID_CARD: Final = "SF-SL"
ID_CARD_RENEWAL: Final = "SF-HL"
NEWBORN_REGISTRATION: Final = "XS-RH"
LICENCE_DISPLAY: Final = "DZ-LZ"
NO_CRIMINAL_RECORD: Final = "WF-ZM"
COURT_FILING: Final = "KY-LA"
PROVIDENT_FUND: Final = "GJ-TQ"
ENTERPRISE_CHANGE: Final = "QY-BG"

_HOUR: Final = 3_600
_DAY: Final = 86_400
_NO_STATUS: Final = 7 * _DAY
"""Where no status is required, one that is stated may be as old as any list."""


def _words(zh: str, en: str) -> dict[str, str]:
    return {"zh": zh, "en": en}


def _levels(identity: int, authenticator: int, federation: int) -> dict[str, int]:
    return {"ial": identity, "aal": authenticator, "fal": federation}


_AT_THE_COUNTER: Final = _levels(3, 2, 3)
"""实人实名实证, and the holder's key is there."""
_ONLINE: Final = _levels(2, 2, 2)
"""实人实名."""
_STATUTORY_DUTY: Final = _words(
    "个人信息保护法第十三条第一款第三项：为履行法定职责所必需",
    "Personal Information Protection Law, article 13(1)(iii): necessary to perform a statutory duty",
)
_NEWBORN_PLEDGE: Final = _words(
    "《长三角跨省（市）新生儿入户承诺书》",
    "Pledge for the household registration of newborns across provinces of the Yangtze River Delta",
)
_SERVICE_CONSENT: Final = _words(
    "《长三角地区政务服务“一网通办”服务同意书》",
    'Consent to government services of the Yangtze River Delta by "One Network"',
)


def _matter(
    code: str,
    name: tuple[str, str],
    floor: Mapping[str, int],
    *,
    required: Sequence[str],
    released: Sequence[str],
    retention: int,
    types: Sequence[str] = (RESIDENT_ID,),
    subjects: Sequence[SubjectType] = (SubjectType.NATURAL,),
    parties: Sequence[Party] = (Party.SELF,),
    actor: Sequence[str] = (),
    questions: Sequence[Question] = (),
    comparable: Sequence[str] = (),
    key_binding: bool = True,
    max_status_age: int | None = _HOUR,
    legal_basis: Mapping[str, str] | None = _STATUTORY_DUTY,
    consent: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    return {
        "code": code,
        "name_zh": name[0],
        "name_en": name[1],
        "min_assurance": dict(floor),
        "key_binding": key_binding,
        "status_required": max_status_age is not None,
        "max_status_age_seconds": _NO_STATUS if max_status_age is None else max_status_age,
        "max_credential_age_seconds": 180 * _DAY,
        "max_authentication_age_seconds": 180 * _DAY,
        "credential_types": list(types),
        "subject_types": list(subjects),
        "parties": list(parties),
        "required_claims": list(required),
        "released_claims": list(released),
        "actor_required_claims": list(actor),
        "actor_released_claims": list(actor),
        "restricted_claims": sorted({*released, *actor} & RESTRICTED_BY_LAW),
        "questions": list(questions),
        "comparable_claims": list(comparable),
        "legal_basis": None if legal_basis is None else dict(legal_basis),
        "consent": None if consent is None else dict(consent),
        "retention_seconds": retention,
    }


def _matters() -> list[dict[str, Any]]:
    return [
        _matter(
            HUKOU_MIGRATION,
            ("跨省户口网上迁移", "Online household migration between provinces"),
            _AT_THE_COUNTER,
            required=["name", "id_number", "hukou_region"],
            released=["name", "id_type", "id_number", "hukou_region"],
            max_status_age=900,
            retention=30 * _DAY,
        ),
        # The office that is asked for the certificate has the number on file: whether it is the same will do.
        _matter(
            HUKOU_CERTIFICATE,
            ("开具户籍类证明", "Certificate of household registration"),
            _ONLINE,
            required=["name", "hukou_region"],
            released=["name", "hukou_region"],
            comparable=["id_number"],
            retention=_DAY,
        ),
        # For a child under 16 a guardian applies, of whom no more than a pseudonym and the relationship is needed. The
        # age is asked for: a number of the applicant's is not to be computed with.
        _matter(
            FIRST_ID_CARD,
            ("首次申领居民身份证", "First resident identity card"),
            _AT_THE_COUNTER,
            required=["name", "id_number", "hukou_region"],
            released=["name", "id_type", "id_number", "hukou_region"],
            parties=[Party.SELF, Party.GUARDIAN],
            questions=[Question.AGE_AT_LEAST],
            max_status_age=900,
            retention=30 * _DAY,
        ),
        _matter(
            ID_CARD_RENEWAL,
            ("居民身份证换领补领", "Renewal or replacement of a resident identity card"),
            _AT_THE_COUNTER,
            required=["name", "id_number"],  # a card without end has no date on which it ends
            released=["name", "id_type", "id_number", "id_valid_to"],
            max_status_age=900,
            retention=30 * _DAY,
        ),
        # Each parent presents; whether they are of the same ethnicity is a question, not an attribute.
        _matter(
            NEWBORN_REGISTRATION,
            ("新生儿跨省入户", "Household registration of a newborn in another province"),
            _AT_THE_COUNTER,
            required=["name", "id_number"],
            released=["name", "id_type", "id_number"],
            comparable=["ethnicity"],
            max_status_age=900,
            legal_basis=None,
            consent=_NEWBORN_PLEDGE,
            retention=30 * _DAY,
        ),
        _matter(
            LICENCE_DISPLAY,
            ("电子证照亮证", "Showing an electronic licence"),
            _ONLINE,
            types=[RESIDENT_ID, ASSERTION_CREDENTIAL_TYPE],
            required=[],
            released=["name"],
            comparable=["id_number"],
            key_binding=False,
            max_status_age=None,
            retention=0,
        ),
        # The certificate itself never comes this way.
        _matter(
            NO_CRIMINAL_RECORD,
            ("开具无犯罪记录证明", "Certificate of no criminal record"),
            _ONLINE,
            required=["name", "id_number"],
            released=["name", "id_type", "id_number"],
            questions=[Question.HOUSEHOLD_IN],
            retention=_DAY,
        ),
        # A party files, or a lawyer for the party. That the lawyer may practise is the issuer's word on who acts.
        _matter(
            COURT_FILING,
            ("跨域立案", "Filing a case with a court of another province"),
            _ONLINE,
            types=[RESIDENT_ID, ASSERTION_CREDENTIAL_TYPE],
            parties=[Party.SELF, Party.LAWYER],
            required=["name"],
            released=["name", "id_type", "id_number"],
            actor=["name"],
            key_binding=False,
            max_status_age=None,  # an assertion has none, and lives for minutes
            retention=30 * _DAY,
        ),
        _matter(
            PROVIDENT_FUND,
            ("公积金异地购房提取", "Withdrawing the housing provident fund in another province"),
            _ONLINE,
            required=[],
            released=[],
            comparable=["name", "id_number"],
            retention=0,
        ),
        _matter(
            ENTERPRISE_CHANGE,
            ("企业变更登记", "Change of an enterprise's registration"),
            _ONLINE,
            types=[ORGANISATION],
            subjects=[SubjectType.LEGAL],
            parties=[Party.AGENT, Party.LEGAL_REPRESENTATIVE],
            required=["uscc", "organisation_name"],
            released=["uscc", "organisation_name"],
            legal_basis=None,
            consent=_SERVICE_CONSENT,
            retention=30 * _DAY,
        ),
    ]


_EQUIVALENCE: Final[Mapping[str, tuple[int, int, int]]] = {
    "urn:yrd:loa:1": (1, 1, 1),
    "urn:yrd:loa:2": (1, 1, 2),
    "urn:yrd:loa:3": (2, 2, 3),
    "urn:yrd:loa:4": (3, 3, 3),
}
_SCALE: Final = (
    (_words("注册用户", "registered user"), _levels(1, 1, 1)),
    (_words("实名", "real name"), _levels(1, 1, 2)),
    (_words("实人实名", "real name, real person"), _levels(2, 2, 2)),
    (_words("实人实名实证", "real name, real person, real document"), _levels(3, 2, 3)),
)
_TERMS: Final[Mapping[str, Mapping[str, str]]] = {
    RESIDENT_ID: _words("居民身份凭证", "resident identity credential"),
    ORGANISATION: _words("法人身份凭证", "organisation credential"),
    ASSERTION_CREDENTIAL_TYPE: _words("一次性身份断言", "one-time identity assertion"),
    TRUST_FRAMEWORK: _words("长三角身份凭证互认框架", "mutual recognition framework of the Yangtze River Delta"),
    **{f"urn:yrd:loa:{number}": words for number, (words, _) in enumerate(_SCALE, 1)},
    "name": _words("姓名", "name"),
    "id_type": _words("证件类型", "kind of identity document"),
    "id_number": _words("公民身份号码", "citizen ID number"),
    "id_valid_to": _words("证件有效期截止日", "end of the document's validity"),
    "hukou_region": _words("户籍地", "place of household registration"),
    "ethnicity": _words("民族", "ethnicity"),
    "uscc": _words("统一社会信用代码", "unified social credit code"),
    "organisation_name": _words("单位名称", "name of the organisation"),
    Party.SELF: _words("本人", "the person concerned"),
    Party.GUARDIAN: _words("监护人", "guardian"),
    Party.AGENT: _words("经办人", "handling agent"),
    Party.LAWYER: _words("律师", "lawyer"),
    Party.LEGAL_REPRESENTATIVE: _words("法定代表人", "legal representative"),
}


def example_agreement(issuers: Sequence[str]) -> dict[str, Any]:
    """Write the lab's recognition agreement, on the same terms for each of these issuers."""
    return {
        "matters": _matters(),
        "issuers": [
            {
                "entity_id": issuer,
                "algorithms": [{"name": "ES256", "sunset": None}],
                "cap": _levels(3, 3, 3),
                "equivalence": {acr: _levels(*levels) for acr, levels in _EQUIVALENCE.items()},
            }
            for issuer in issuers
        ],
        "trust_frameworks": [TRUST_FRAMEWORK],
        "assurance_levels": ["low", "substantial", "high"],
        "levels": [{"name": dict(name), "floor": dict(floor)} for name, floor in _SCALE],
        "restricted_claims": sorted(RESTRICTED_BY_LAW),
        "terms": {term: dict(words) for term, words in _TERMS.items()},
        "clock_skew_seconds": 60,
        "stale_grace_seconds": 3600,
        "max_credential_lifetime_seconds": 400 * 86_400,
        "max_assertion_lifetime_seconds": 300,
        "max_key_binding_age_seconds": 300,
    }
