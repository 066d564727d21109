"""Identifiers of people, organisations, places and entities: syntax and check characters.

* Citizen ID number 公民身份号码, GB 11643-1999: 18 characters, check character by ISO 7064 MOD 11-2.
* Unified social credit code 统一社会信用代码, GB 32100-2015: 18 characters, check character modulo 31.
* Administrative division code 行政区划代码, GB/T 2260: 6 digits.
* Entity identifier, OpenID Federation 1.0 section 1.2: an https URL.

There is no function here that gives the province of an ID number, and there must never be one. The first digits name
the county where the number was first assigned, perhaps decades ago and perhaps abolished since; the number stays the
same when its bearer moves. Mr Xu keeps a 31... number after his household is registered in Anhui. Issuing province,
household province and service province are three facts, each stated by whoever knows it.

Errors never repeat the value: an ID number in a log is a leak.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final, NewType

Uscc = NewType("Uscc", str)
"""A unified social credit code whose check character was verified."""
DivisionCode = NewType("DivisionCode", str)
"""A division code in the syntax of GB/T 2260; whether the division exists (still) is not known here."""


class Province(StrEnum):
    """The four provinces of the delta, by the code used everywhere. Always listed in this order, 沪苏浙皖."""

    SHANGHAI = "sh"
    JIANGSU = "js"
    ZHEJIANG = "zj"
    ANHUI = "ah"

    @property
    def code(self) -> str:
        """The two-letter code: sh, js, zj, ah."""
        return self.value

    @property
    def division(self) -> str:
        """The division code of GB/T 2260."""
        return _PROVINCES[self][0]

    @property
    def short_zh(self) -> str:
        """The one-character name: 沪, 苏, 浙, 皖."""
        return _PROVINCES[self][1]

    @property
    def name_zh(self) -> str:
        """The full Chinese name."""
        return _PROVINCES[self][2]

    @property
    def name_en(self) -> str:
        """The English name."""
        return _PROVINCES[self][3]


_PROVINCES: Final = {
    Province.SHANGHAI: ("310000", "沪", "上海市", "Shanghai"),
    Province.JIANGSU: ("320000", "苏", "江苏省", "Jiangsu"),
    Province.ZHEJIANG: ("330000", "浙", "浙江省", "Zhejiang"),
    Province.ANHUI: ("340000", "皖", "安徽省", "Anhui"),
}


# -- citizen ID number ------------------------------------------------------------------------------------------------


class IdType(StrEnum):
    """Kind of identity document. Passport numbers have no common syntax and are not parsed."""

    RESIDENT_ID = "resident_id"  # 居民身份证
    HMT_RESIDENCE_PERMIT = "hmt_residence_permit"  # 港澳台居民居住证
    FOREIGNER_PR_CARD = "foreigner_pr_card"  # 外国人永久居留身份证 (2023)
    PASSPORT = "passport"


_HMT_PREFIXES: Final = ("810000", "820000", "830000")
# The number of a person alive, or dead but still in a register. Chiefly catches digits typed in the wrong place.
_BIRTH_YEARS: Final = range(1800, 2100)
_RESIDENT_ID: Final = re.compile(r"[1-9][0-9]{16}[0-9X]")
_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS: Final = "10X98765432"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidentId:
    """An 18-character personal number whose date and check character were verified.

    Number and birth date stay out of ``repr``: a value that ends up in a traceback must not take a person along.
    """

    number: str = field(repr=False)
    id_type: IdType
    birth_date: date = field(repr=False)


def parse_resident_id(text: str) -> ResidentId:
    """Read a citizen ID number, or one of the two permits numbered by the same rule.

    Raises:
        ValueError: wrong form, no such date, or wrong check character. Lower-case x is wrong form: one number, one
            spelling, or a keyed digest of it would have two.
    """
    if _RESIDENT_ID.fullmatch(text) is None:
        raise ValueError("must be 17 digits and a digit or X")
    total = sum(int(digit) * weight for digit, weight in zip(text, _ID_WEIGHTS, strict=False))
    if text[17] != _ID_CHECKS[total % 11]:
        raise ValueError("check character is wrong")
    try:
        birth_date = date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        # Without its cause, which would name the digits.
        raise ValueError("birth date is not a date") from None
    if birth_date.year not in _BIRTH_YEARS:
        raise ValueError("birth date is out of range")
    return ResidentId(number=text, id_type=_id_type(text), birth_date=birth_date)


def _id_type(number: str) -> IdType:
    # The one thing the leading digits do say: which kind of document it is.
    if number.startswith(_HMT_PREFIXES):
        return IdType.HMT_RESIDENCE_PERMIT
    if number.startswith("9"):
        return IdType.FOREIGNER_PR_CARD
    return IdType.RESIDENT_ID


# -- unified social credit code ---------------------------------------------------------------------------------------

_USCC_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # no I, O, S, V, Z
_USCC: Final = re.compile(f"[{_USCC_ALPHABET}]{{2}}[0-9]{{6}}[{_USCC_ALPHABET}]{{10}}")
_USCC_WEIGHTS: Final = tuple(pow(3, i, 31) for i in range(17))


def parse_uscc(text: str) -> Uscc:
    """Read a unified social credit code.

    Raises:
        ValueError: wrong form or wrong check character.
    """
    if _USCC.fullmatch(text) is None:
        raise ValueError("must be 18 characters of the credit code alphabet, the third to eighth digits")
    total = sum(_USCC_ALPHABET.index(letter) * weight for letter, weight in zip(text, _USCC_WEIGHTS, strict=False))
    if text[17] != _USCC_ALPHABET[-total % 31]:
        raise ValueError("check character is wrong")
    return Uscc(text)


# -- administrative division ------------------------------------------------------------------------------------------

_DIVISION: Final = re.compile(r"[1-8][0-9](?:0000|(?!00)[0-9]{4})")


def parse_division_code(text: str) -> DivisionCode:
    """Read a division code: two digits each for province, prefecture and county, zeros below the level named.

    Raises:
        ValueError: wrong form.
    """
    if _DIVISION.fullmatch(text) is None:
        raise ValueError("must be 6 digits in the form of GB/T 2260")
    return DivisionCode(text)


# -- entity identifier ------------------------------------------------------------------------------------------------

MAX_ENTITY_ID_CHARS: Final = 255
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SEGMENT: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})*"
_ENTITY_ID: Final = re.compile(
    rf"https://(?P<host>{_LABEL}(?:\.{_LABEL})*)(?P<port>:[1-9][0-9]{{0,4}})?(?P<path>(?:/{_SEGMENT})*)"
)
# What ends in a number is an address to every resolver, however it is written: 127.0.0.1, 127.1, 0x7f000001.
_ADDRESS: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_MAX_PORT: Final = 65535


def check_entity_id(text: str) -> None:
    """Refuse what is not an entity identifier: an https URL with a host, without user, query and fragment.

    Identifiers are compared character by character (OpenID Federation 1.0 section 16), so the forms that a program
    might yet treat as equal are refused: upper-case hosts, dot segments. Documents are fetched from addresses made by
    appending to the identifier, which is the other reason against dot segments. An IP address for a host is refused,
    because anchors vouch within naming constraints, and no address lies within one.

    Raises:
        ValueError: without the value.
    """
    if len(text) > MAX_ENTITY_ID_CHARS:
        raise ValueError(f"must be at most {MAX_ENTITY_ID_CHARS} characters")
    match = _ENTITY_ID.fullmatch(text)
    if match is None:
        raise ValueError("must be an https URL with a lower-case host and without user, query and fragment")
    if _ADDRESS.fullmatch(match["host"]) is not None:
        raise ValueError("host must be a name, not an IP address")
    if match["port"] and int(match["port"][1:]) > _MAX_PORT:
        raise ValueError("port is out of range")
    if not {".", ".."}.isdisjoint(match["path"].split("/")):
        raise ValueError("path must not have dot segments")
