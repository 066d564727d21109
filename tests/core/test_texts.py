"""Reasons, their numbers in the contract, and their words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from recognition.v1 import reason_pb2

from gateway.core.reasons import Reason
from gateway.core.texts import TEXTS, Language, text

PROTO = Path(__file__).resolve().parents[2] / "proto" / "recognition" / "v1" / "reason.proto"
INDETERMINATE = (Reason.TRUST_STALE, Reason.STATUS_UNAVAILABLE, Reason.CLOCK_REGRESSED)


def proto_reasons() -> dict[str, int]:
    values = re.findall(r"^  REASON_(\w+) = (\d+);$", PROTO.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: int(number) for name, number in values}


def test_reasons_are_those_of_the_contract_in_its_order() -> None:
    names = list(proto_reasons())
    assert names[0] == "UNSPECIFIED"
    assert [reason.name for reason in Reason] == names[1:]
    assert [reason.value for reason in Reason] == names[1:]


def test_numbers_of_the_contract_are_distinct_and_those_of_the_stub() -> None:
    numbers = proto_reasons()
    assert len(set(numbers.values())) == len(numbers)
    assert {f"REASON_{name}": number for name, number in numbers.items()} == dict(reason_pb2.Reason.items())


def test_every_reason_has_a_text_in_every_language() -> None:
    assert list(TEXTS) == list(Reason)
    assert all(set(languages) == set(Language) for languages in TEXTS.values())


def test_texts_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="does not support item"):
        TEXTS[Reason.EXPIRED][Language.EN] = text(Reason.EXPIRED, Language.ZH)  # type: ignore[index]


def test_no_two_reasons_say_the_same() -> None:
    for language in Language:
        assert len({text(reason, language).what for reason in Reason}) == len(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_chinese_is_chinese_and_english_is_english(reason: Reason) -> None:
    chinese, english = text(reason, Language.ZH), text(reason, Language.EN)
    for words in (chinese.what, chinese.next_step):
        assert re.search(r"[\u4e00-\u9fff]", words)
        assert words.endswith("。")
        assert not re.search(r"[,;:?!]|[a-z]", words), "half-width punctuation or Latin letters"
    for words in (english.what, english.next_step):
        assert words.isascii()
        assert words.endswith(".")
        assert words[0].isupper()
        assert "  " not in words


ACCUSATIONS = r"伪造|假冒|冒用|欺骗|作弊|违法|嫌疑|forg|fake|fraud|cheat|stolen|suspect|criminal|impost"


@pytest.mark.parametrize("reason", Reason)
def test_nobody_is_accused(reason: Reason) -> None:
    for language in Language:
        words = text(reason, language)
        assert not re.search(ACCUSATIONS, f"{words.what} {words.next_step}", re.IGNORECASE)


@pytest.mark.parametrize("reason", INDETERMINATE)
def test_indeterminate_says_to_try_again_later_and_that_nothing_was_refused(reason: Reason) -> None:
    chinese, english = text(reason, Language.ZH), text(reason, Language.EN)
    assert "目前无法判断" in chinese.what
    assert "稍后再试" in chinese.next_step
    assert "没有被拒绝" in chinese.next_step
    assert "cannot tell at present" in english.what
    assert "try again later" in english.next_step
    assert "was not refused" in english.next_step


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in INDETERMINATE])
def test_rejection_does_not_promise_that_waiting_helps(reason: Reason) -> None:
    assert "try again later" not in text(reason, Language.EN).next_step
