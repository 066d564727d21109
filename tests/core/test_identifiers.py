"""Identifiers: syntax, check characters, and what must never be read out of them.

Numbers of people and organisations are the synthetic and published ones of facts/domain.md, or made up at run time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import identifiers
from gateway.core.identifiers import (
    IdType,
    Province,
    check_entity_id,
    parse_division_code,
    parse_resident_id,
    parse_uscc,
)

RESIDENT_IDS = {
    "310101190001010011": IdType.RESIDENT_ID,
    "320102190001010028": IdType.RESIDENT_ID,
    "330102190001010038": IdType.RESIDENT_ID,
    "340104190001010016": IdType.RESIDENT_ID,
    "83000019000101002X": IdType.HMT_RESIDENCE_PERMIT,
    "11010519491231002X": IdType.RESIDENT_ID,  # the textbook sample
}
USCC = "91350100M000100Y43"
USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def accepts(parse: Callable[[str], object], text: str) -> bool:
    """Whether the text is accepted; a refusal must not repeat it."""
    message = ""
    try:
        parse(text)
    except ValueError as error:
        message = str(error)
    assert not (text and text in message), "the message repeats the value"
    return not message


def with_id_check(body: str) -> str:
    """Append the check character by ISO 7064's own recipe for MOD 11-2, not by the weights of GB 11643."""
    remainder = 0
    for digit in body:
        remainder = (remainder + int(digit)) * 2 % 11
    value = (12 - remainder) % 11
    return body + ("X" if value == 10 else str(value))


def with_uscc_check(body: str) -> str:
    return next(body + letter for letter in USCC_ALPHABET if accepts(parse_uscc, body + letter))


def substitutions(text: str, alphabet: str) -> Iterator[str]:
    for at, old in enumerate(text):
        yield from (text[:at] + new + text[at + 1 :] for new in alphabet if new != old)


def transpositions(text: str) -> Iterator[str]:
    for at in range(len(text) - 1):
        if text[at] != text[at + 1]:
            yield text[:at] + text[at + 1] + text[at] + text[at + 2 :]


# -- citizen ID numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "id_type"), RESIDENT_IDS.items())
def test_resident_id_of_the_fact_sheet_is_accepted(number: str, id_type: IdType) -> None:
    parsed = parse_resident_id(number)
    assert (parsed.number, parsed.id_type) == (number, id_type)
    assert parsed.birth_date == date(int(number[6:10]), int(number[10:12]), int(number[12:14]))


def test_card_of_a_foreigner_is_told_apart_from_a_resident_id() -> None:
    number = with_id_check("93115619000101001")
    assert parse_resident_id(number).id_type is IdType.FOREIGNER_PR_CARD


@pytest.mark.parametrize("prefix", ["810000", "820000", "830000"])
def test_residence_permit_of_hong_kong_macao_and_taiwan_residents(prefix: str) -> None:
    assert parse_resident_id(with_id_check(prefix + "19000101001")).id_type is IdType.HMT_RESIDENCE_PERMIT


bodies = st.builds(
    lambda place, born, sequence: f"{place}{born:%Y%m%d}{sequence:03}",
    st.integers(110_000, 659_999),
    st.dates(date(1900, 1, 1), date(2099, 12, 31)),
    st.integers(0, 999),
)


@settings(deadline=None)
@given(bodies)
def test_resident_id_check_detects_every_wrong_character_and_every_swap(body: str) -> None:
    number = with_id_check(body)
    assert accepts(parse_resident_id, number)
    assert [wrong for wrong in substitutions(number, "0123456789X") if accepts(parse_resident_id, wrong)] == []
    assert [wrong for wrong in transpositions(number) if accepts(parse_resident_id, wrong)] == []


BAD_RESIDENT_IDS = {
    "lower-case x": "11010519491231002x",
    "17 characters": "31010119000101001",
    "19 characters": "3101011900010100111",
    "15 digits": "310101000101001",
    "a space": " 310101190001010011",
    "a newline": "310101190001010011\n",
    "full-width digits": "３１０１０１１９０００１０１００１１",  # noqa: RUF001 - the point
    "Arabic-Indic digits": "\u0663" + "10101190001010011",
    "a leading zero": with_id_check("01010119000101001"),
    "13th month": with_id_check("31010119001301001"),
    "30 February": with_id_check("31010119000230001"),
    "29 February 1900": with_id_check("31010119000229001"),
    "day 0": with_id_check("31010119000100001"),
    "year 0000": with_id_check("31010100000101001"),
    "year 1799": with_id_check("31010117990101001"),
    "year 2100": with_id_check("31010121000101001"),
    "X inside": "3101011900010100X1",
    "nothing": "",
}


@pytest.mark.parametrize("text", BAD_RESIDENT_IDS.values(), ids=BAD_RESIDENT_IDS)
def test_resident_id_that_is_refused(text: str) -> None:
    assert not accepts(parse_resident_id, text)


def test_leap_day_is_a_date() -> None:
    assert accepts(parse_resident_id, with_id_check("31010119040229001"))


def test_refused_date_leaves_no_digits_in_the_traceback() -> None:
    with pytest.raises(ValueError, match="birth date") as caught:
        parse_resident_id(with_id_check("31010119001301001"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_repr_of_a_resident_id_tells_nothing_about_the_person() -> None:
    assert repr(parse_resident_id("310101190001010011")) == "ResidentId(id_type=<IdType.RESIDENT_ID: 'resident_id'>)"


def test_nothing_gives_a_province_for_an_id_number() -> None:
    # Mr Xu keeps his 31 number in Anhui. A function from number to province would be wrong about him.
    public = [f for name, f in inspect.getmembers(identifiers, inspect.isfunction) if not name.startswith("_")]
    returned = {str(inspect.signature(function).return_annotation) for function in public}
    assert "Province" not in returned
    assert not hasattr(parse_resident_id("310101190001010011"), "province")


# -- unified social credit codes --------------------------------------------------------------------------------------


def test_uscc_worked_sample_of_the_standard_is_accepted() -> None:
    assert parse_uscc(USCC) == USCC
    assert with_uscc_check(USCC[:17]) == USCC


@settings(deadline=None)
@given(
    st.builds(
        "{}{}{}".format,
        st.text(USCC_ALPHABET, min_size=2, max_size=2),
        st.from_regex(r"[1-8][0-9]{5}", fullmatch=True, alphabet=st.characters(codec="ascii")),
        st.text(USCC_ALPHABET, min_size=9, max_size=9),
    )
)
def test_uscc_check_detects_every_wrong_character_and_every_swap(body: str) -> None:
    code = with_uscc_check(body)
    assert [wrong for wrong in substitutions(code, USCC_ALPHABET) if accepts(parse_uscc, wrong)] == []
    assert [wrong for wrong in transpositions(code) if accepts(parse_uscc, wrong)] == []


def test_uscc_check_character_is_zero_when_nothing_is_left_over() -> None:
    # The case that wrong code on the web gets wrong: 31 - 0 is not a character.
    assert any(with_uscc_check(f"91310000{i:09}").endswith("0") for i in range(100))


BAD_USCCS = {
    "lower case": USCC.lower(),
    "17 characters": USCC[:17],
    "19 characters": USCC + "0",
    "the letter I": USCC.replace("M", "I"),
    "the letter O": USCC.replace("M", "O"),
    "the letter S": USCC.replace("M", "S"),
    "the letter V": USCC.replace("M", "V"),
    "the letter Z": USCC.replace("M", "Z"),
    "a letter in the division": USCC.replace("350100", "35010A"),
    "a dash": "91350100-M000100Y4",
    "a newline": USCC + "\n",
}


@pytest.mark.parametrize("text", BAD_USCCS.values(), ids=BAD_USCCS)
def test_uscc_that_is_refused(text: str) -> None:
    assert not accepts(parse_uscc, text)


# -- division codes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["310000", "340100", "340104", "310101", "500000", "460000", "419001", "810000"])
def test_division_code_that_is_accepted(code: str) -> None:
    assert parse_division_code(code) == code


@pytest.mark.parametrize(
    "code", ["", "31000", "3100000", "000000", "910000", "310001", "31010a", "31 000", "\uff131000"]
)
def test_division_code_that_is_refused(code: str) -> None:
    assert not accepts(parse_division_code, code)


# -- provinces --------------------------------------------------------------------------------------------------------


def test_provinces_come_in_their_usual_order() -> None:
    assert [province.code for province in Province] == ["sh", "js", "zj", "ah"]
    assert "".join(province.short_zh for province in Province) == "沪苏浙皖"
    assert [province.division for province in Province] == ["310000", "320000", "330000", "340000"]
    assert [province.name_zh for province in Province] == ["上海市", "江苏省", "浙江省", "安徽省"]
    assert [province.name_en for province in Province] == ["Shanghai", "Jiangsu", "Zhejiang", "Anhui"]


def test_province_is_found_by_its_code() -> None:
    assert Province("ah") is Province.ANHUI
    assert all(accepts(parse_division_code, province.division) for province in Province)


# -- entity identifiers -----------------------------------------------------------------------------------------------

ENTITY_IDS = (
    "https://sh.example",
    "https://sh.example/",
    "https://anchor.sh.example:8443",
    "https://sh.example/issuer/1",
    "https://localhost:7443",
    "https://1.2.3.4.example:7443/sh",
    "https://127.0.0.1a",
    "https://0xg.sh.0xg",
    "https://xn--fiqs8s.example/%E4%B8%8A",
    "https://sh.example/a..b/.well",
    "https://" + "a" * 63 + ".example",
)


@pytest.mark.parametrize("text", ENTITY_IDS)
def test_entity_id_that_is_accepted(text: str) -> None:
    check_entity_id(text)


BAD_ENTITY_IDS = {
    "http": "http://sh.example",
    "no scheme": "sh.example",
    "scheme in upper case": "HTTPS://sh.example",
    "host in upper case": "https://SH.example",
    "no host": "https:///path",
    "empty": "",
    "query": "https://sh.example?x=1",
    "empty query": "https://sh.example?",
    "fragment": "https://sh.example#a",
    "empty fragment": "https://sh.example/#",
    "user": "https://user@sh.example",
    "user and password": "https://user:pw@sh.example",
    "backslash": "https://sh.example\\@evil.example",
    "port 0": "https://sh.example:0",
    "port 65536": "https://sh.example:65536",
    "empty port": "https://sh.example:",
    "port that is no number": "https://sh.example:https",
    "leading dot": "https://.example",
    "trailing dot": "https://sh.example.",
    "two dots": "https://sh..example",
    "label that begins with a dash": "https://-sh.example",
    "label of 64 characters": "https://" + "a" * 64 + ".example",
    "underscore in the host": "https://s_h.example",
    "host that is not ASCII": "https://上海.example",
    "homoglyph": "https://\u0455h.example",
    "dot segment": "https://sh.example/a/../b",
    "single dot segment": "https://sh.example/./b",
    "percent without digits": "https://sh.example/%",
    "percent in lower case": "https://sh.example/%e4",
    "space": "https://sh.example/ a",
    "leading space": " https://sh.example",
    "newline": "https://sh.example\n",
    "NUL": "https://sh.example/\0",
    "IPv6": "https://[::1]",
    "IPv4": "https://127.0.0.1:7443/sh",
    "IPv4 of two parts": "https://127.1",
    "IPv4 of one number": "https://2130706433",
    "IPv4 in hexadecimal": "https://0x7f000001/sh",
    "IPv4 in octal and hexadecimal": "https://0177.0.0.0x1",
    "IPv4 that ends in an empty hexadecimal number": "https://127.0.0.0x",
    "host that ends in a number": "https://sh.example.1",
    "256 characters": "https://sh.example/" + "a" * 237,
}


@pytest.mark.parametrize("text", BAD_ENTITY_IDS.values(), ids=BAD_ENTITY_IDS)
def test_entity_id_that_is_refused(text: str) -> None:
    assert not accepts(check_entity_id, text)


def test_entity_id_of_255_characters_is_accepted() -> None:
    check_entity_id("https://sh.example/" + "a" * 236)


@settings(deadline=None)
@given(st.text())
def test_parsers_raise_nothing_but_value_error(text: str) -> None:
    for parse in (parse_resident_id, parse_uscc, parse_division_code, check_entity_id):
        try:
            parse(text)
        except ValueError:
            continue
