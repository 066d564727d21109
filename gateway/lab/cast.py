"""Who plays in the lab: each province's service backends and identity system, and those who come to them.

Institutions are named for what they do, not for a real office, but for one: 合肥市蜀山区户政中心, where Mr Xu (徐先生)
went on 24 February 2021 (facts/domain.md section 0). Everything about the people is made up; their ID numbers are
synthetic, with the birth year 1900 (facts/domain.md section 1.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.core.agreement import Party, SubjectType
from gateway.core.identifiers import Province
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
)
from gateway.lab.callers import ActingPerson, Person
from gateway.lab.charter import entity_ids


@dataclass(frozen=True, slots=True)
class Words:
    """The same in Chinese and in English."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A program that calls a gateway, and what it is registered for."""

    name: str
    """Name of its client profile; with the province's identifier in front, its identity."""
    title: Words
    sector: str = ""
    matters: frozenset[str] = frozenset()


HUKOU: Final = "hukou"
COURT: Final = "court"
MARKET: Final = "market"
IDENTITY: Final = "identity"


def relying_services(province: Province) -> tuple[Role, ...]:
    """A household-registration counter, a court's window and a market regulator's: services of three sectors."""
    return (
        Role(
            name=HUKOU,
            title=_COUNTERS[province],
            sector="public-security",
            matters=frozenset(
                {
                    HUKOU_MIGRATION,
                    HUKOU_CERTIFICATE,
                    FIRST_ID_CARD,
                    ID_CARD_RENEWAL,
                    NEWBORN_REGISTRATION,
                    LICENCE_DISPLAY,
                    NO_CRIMINAL_RECORD,
                }
            ),
        ),
        Role(
            name=COURT,
            title=Words(f"{province.name_zh}诉讼服务窗口", f"{province.name_en} court service window"),
            sector="courts",
            matters=frozenset({COURT_FILING}),
        ),
        Role(
            name=MARKET,
            title=Words(f"{province.name_zh}企业登记窗口", f"{province.name_en} enterprise registration window"),
            sector="market-regulation",
            matters=frozenset({ENTERPRISE_CHANGE}),
        ),
    )


def identity_system(province: Province) -> Role:
    """The system that knows the province's residents and may have credentials issued."""
    return Role(name=IDENTITY, title=Words(f"{province.name_zh}身份认证系统", f"{province.name_en} identity system"))


def role(province: Province, name: str) -> Role:
    """Look a role up by its name."""
    return next(each for each in (*relying_services(province), identity_system(province)) if each.name == name)


def identity(province: Province, name: str) -> str:
    """The identity that the role's certificate names; of a relying service, its audience too."""
    ids = entity_ids(province)
    return f"{ids.issuer}/systems/{name}" if name == IDENTITY else f"{ids.gateway}/services/{name}"


_COUNTERS: Final[Mapping[Province, Words]] = {
    Province.SHANGHAI: Words("上海市户政窗口", "Shanghai household counter"),
    Province.JIANGSU: Words("江苏省户政窗口", "Jiangsu household counter"),
    Province.ZHEJIANG: Words("浙江省户政窗口", "Zhejiang household counter"),
    Province.ANHUI: Words("合肥市蜀山区户政中心", "Hefei Shushan household centre"),
}


def _person(
    name: tuple[str, str],
    id_number: str,
    hukou_region: str,
    *,
    entry: int = 1,
    actor: ActingPerson | None = None,
    **claims: object,
) -> Person:
    zh, en = name
    return Person(
        name_zh=zh,
        name_en=en,
        # What the issuer's own register calls the person; it is not the ID number and appears nowhere.
        local_subject=f"register-{hukou_region}-{entry:04d}",
        claims={"name": zh, "id_type": "resident_id", "id_number": id_number, "hukou_region": hukou_region, **claims},
        actor=actor,
    )


XU: Final = _person(("徐某", "Mr Xu"), "310101190001010011", "310101")
XU_FILE: Final = "xu.json"
"""His attributes in the lab's folder, for people who want to have something issued by hand."""
XU_IN_HEFEI: Final = _person(("徐某", "Mr Xu"), "310101190001010011", "340104")
"""Mr Xu after the move: his household registration is Hefei's, his number still begins with Shanghai's 31."""
RESIDENTS: Final[Mapping[Province, Person]] = {
    Province.SHANGHAI: XU,
    Province.JIANGSU: _person(("苏某", "Ms Su"), "320102190001010028", "320102"),
    Province.ZHEJIANG: _person(("钱某", "Mr Qian"), "330102190001010038", "330102"),
    Province.ANHUI: _person(("方某", "Mr Fang"), "340104190001010016", "340104"),
}
XU_OF_34: Final = _person(("许某", "Mr Xu the other"), "340104190001010024", "310101", entry=2)
"""A resident of Shanghai whose number begins with 34: it was given in Hefei, long ago."""
FATHER: Final = _person(("徐父", "the father"), "310101190001010038", "310101", entry=3, ethnicity="汉")
MOTHER: Final = _person(("徐母", "the mother"), "31010119000101002X", "310101", entry=4, ethnicity="汉")


def guarded_child(relationship: Party = Party.GUARDIAN, *scope: str) -> Person:
    """A child under 16 whose guardian, or whoever says so, acts. That it is one the issuer states by its age alone."""
    guardian = ActingPerson(
        local_subject="register-330102-0007",
        relationship=relationship,
        scope=scope or (FIRST_ID_CARD,),
        claims={"name": "钱监护"},
    )
    ages = {"age_equal_or_over": {"16": False}}
    return _person(("钱小某", "the child"), "330102190001010011", "330102", entry=6, actor=guardian, **ages)


LAWYER: Final = ActingPerson(
    local_subject="register-330102-0009",
    relationship=Party.LAWYER,
    scope=(COURT_FILING,),
    claims={"name": "陆律师"},
)
CLIENT: Final = _person(("钱某", "Mr Qian"), "330102190001010038", "330102", actor=LAWYER)


def enterprise(until: datetime | None = None) -> Person:
    """A company, and the agent it sends. The code is the published example of GB 32100."""
    agent = ActingPerson(
        local_subject="register-310101-0011",
        relationship=Party.AGENT,
        scope=(ENTERPRISE_CHANGE,),
        claims={"name": "赵经办"},
        until=until,
    )
    return Person(
        name_zh="某某实业公司",
        name_en="a company",
        local_subject="enterprise-0001",
        claims={"uscc": "91350100M000100Y43", "organisation_name": "某某实业公司"},
        subject_type=SubjectType.LEGAL,
        actor=agent,
    )
