"""Write ``recognition/reasons.py`` from ``clients/texts.json``; see ``reasons.py`` for what it holds.

``python clients/python/generate_reasons.py`` writes it; with ``--check`` it only says whether it is up to date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
TEXTS: Final = HERE.parent / "texts.json"
TARGET: Final = HERE / "recognition" / "reasons.py"

HEAD: Final = '''"""Why a presentation was not accepted, and what to do next, in words for clerks and citizens.

Written by generate_reasons.py from clients/texts.json: not to be edited.
"""

# ruff: noqa: E501

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias

Language: TypeAlias = Literal["zh", "en"]
"""The languages there are words in."""


class ReasonText(NamedTuple):
    """One reason in one language."""

    what: str
    """What is the matter."""
    next_step: str
    """What to do about it."""


class NextStep(Enum):
    """What whoever asked should do next. The value is the number in the contract."""

'''

MIDDLE: Final = '''
    @classmethod
    def of(cls, number: int) -> NextStep:
        """Give the step of a number; one that this version does not know is CALL_SUPPORT."""
        return _STEPS_BY_NUMBER.get(number, cls.CALL_SUPPORT)

    def text(self, language: Language) -> str:
        """Say it in words."""
        zh, en = _STEPS[self]
        return zh if language == "zh" else en


class Reason(Enum):
    """Why a presentation was not accepted, or why the gateway cannot tell. The value is the number in the contract."""

'''

TAIL: Final = '''
    @classmethod
    def of(cls, number: int) -> Reason:
        """Give the reason of a number; UNRECOGNISED for one that this version does not know."""
        return _REASONS_BY_NUMBER.get(number, cls.UNRECOGNISED)

    @property
    def next_step(self) -> NextStep:
        """What to do next."""
        return _REASONS[self][2]

    def text(self, language: Language) -> ReasonText:
        """Say it in words."""
        zh, en, step = _REASONS[self]
        return ReasonText(zh if language == "zh" else en, step.text(language))


'''

UNRECOGNISED: Final = (
    "网关给出的原因是本程序尚不认识的。",
    "The gateway gave a reason that this program does not know yet.",
    "CALL_SUPPORT",
)


def render(texts: dict[str, Any]) -> str:
    """Write the module."""
    steps, reasons = texts["next_steps"], texts["reasons"]
    for name, reason in reasons.items():
        for language in ("zh", "en"):
            if reason[language]["next_step"] != steps[reason["next"]][language]:
                raise ValueError(f"{name}: its next step in {language} is not in the words of {reason['next']}")
    words = {name: (reason["zh"]["what"], reason["en"]["what"], reason["next"]) for name, reason in reasons.items()}
    words["UNRECOGNISED"] = UNRECOGNISED
    lines = [HEAD]
    lines += [f"    {name} = {step['number']}\n" for name, step in steps.items()]
    lines += [MIDDLE]
    lines += [f"    {name} = {reason['number']}\n" for name, reason in reasons.items()]
    lines += ["    UNRECOGNISED = -1\n", '    """A reason that this version of the client does not know."""\n', TAIL]
    lines += ["_STEPS: Final[dict[NextStep, tuple[str, str]]] = {\n"]
    lines += [_entry(f"NextStep.{name}", _text(step["zh"]), _text(step["en"])) for name, step in steps.items()]
    lines += ["}\n", "_REASONS: Final[dict[Reason, tuple[str, str, NextStep]]] = {\n"]
    lines += [
        _entry(f"Reason.{name}", _text(zh), _text(en), f"NextStep.{step}") for name, (zh, en, step) in words.items()
    ]
    lines += ["}\n"]
    lines += ["_STEPS_BY_NUMBER: Final[dict[int, NextStep]] = {step.value: step for step in NextStep}\n"]
    lines += ["_REASONS_BY_NUMBER: Final[dict[int, Reason]] = {reason.value: reason for reason in Reason}\n"]
    return "".join(lines)


def _entry(key: str, *values: str) -> str:
    # The comma after the last value has the formatter leave one value on a line, whatever its length.
    return f"    {key}: (\n" + "".join(f"        {value},\n" for value in values) + "    ),\n"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def main() -> int:
    """Write the module, or check it."""
    fresh = render(json.loads(TEXTS.read_text("utf-8")))
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(fresh, "utf-8")
    elif TARGET.read_text("utf-8") != fresh:
        sys.stderr.write("reasons.py does not match texts.json: run python clients/python/generate_reasons.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
