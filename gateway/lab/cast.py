"""Who plays in the lab: each province's service backends and identity system, and four people.

Institutions are named for what they do, not for a real office, but for one: 合肥市蜀山区户政中心, where Mr Xu (徐先生)
went on 24 February 2021 (facts/domain.md section 0). Everything about the people is made up; their ID numbers are
synthetic, with the birth year 1900 (facts/domain.md section 1.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.core.identifiers import Province
from gateway.lab.callers import Person
from gateway.lab.charter import COURT_FILING, HUKOU_MIGRATION, LICENCE_DISPLAY, entity_ids


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
IDENTITY: Final = "identity"


def relying_services(province: Province) -> tuple[Role, Role]:
    """A household-registration counter and a court's service window: two services of two sectors."""
    return (
        Role(
            name=HUKOU,
            title=_COUNTERS[province],
            sector="public-security",
            matters=frozenset({HUKOU_MIGRATION, LICENCE_DISPLAY}),
        ),
        Role(
            name=COURT,
            title=Words(f"{province.name_zh}诉讼服务窗口", f"{province.name_en} court service window"),
            sector="courts",
            matters=frozenset({COURT_FILING}),
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


def _person(name: tuple[str, str], id_number: str, hukou_region: str) -> Person:
    zh, en = name
    return Person(
        name_zh=zh,
        name_en=en,
        # What the issuer's own register calls the person; it is not the ID number and appears nowhere.
        local_subject=f"register-{hukou_region}-0001",
        claims={"name": zh, "id_type": "resident_id", "id_number": id_number, "hukou_region": hukou_region},
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
