"""Write ``Reason.java`` and ``NextStep.java`` from ``clients/texts.json``.

``python clients/java/generate_reasons.py`` writes them; with ``--check`` it only says whether they are up to date.
"""

# ruff: noqa: INP001 - it stands beside Java sources and is part of no package

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
TEXTS: Final = HERE.parent / "texts.json"
TARGET: Final = HERE / "src" / "main" / "java" / "example" / "recognition" / "client"

HEAD: Final = """\
// Written by generate_reasons.py from clients/texts.json: not to be edited.

package example.recognition.client;

import java.util.Arrays;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;

"""

NEXT_STEP: Final = """\
/** What whoever asked should do next, in words for clerks and citizens. */
public enum NextStep {
%(constants)s;

  private static final Map<Integer, NextStep> BY_NUMBER =
      Arrays.stream(values()).collect(Collectors.toUnmodifiableMap(NextStep::number, Function.identity()));

  private final int number;
  private final String zh;
  private final String en;

  NextStep(int number, String zh, String en) {
    this.number = number;
    this.zh = zh;
    this.en = en;
  }

  /**
   * Finds a step by its number; one that this version does not know is CALL_SUPPORT.
   *
   * @param number as in the contract
   * @return the step
   */
  public static NextStep of(int number) {
    return BY_NUMBER.getOrDefault(number, CALL_SUPPORT);
  }

  /**
   * Gives its number in the contract.
   *
   * @return 1 and up
   */
  public int number() {
    return number;
  }

  /**
   * Says it in words.
   *
   * @param language in which
   * @return one or two sentences
   */
  public String text(Language language) {
    return switch (language) {
      case ZH -> zh;
      case EN -> en;
    };
  }
}
"""

REASON: Final = """\
/** Why a presentation was not accepted, or why the gateway cannot tell, in words for clerks and citizens. */
public enum Reason {
%(constants)s,
  /** A reason that this version does not know; the verdict that bears it knows its number. */
  UNRECOGNISED(
      -1,
      NextStep.CALL_SUPPORT,
      "网关给出的原因是本程序尚不认识的。",
      "The gateway gave a reason that this program does not know yet.");

  private static final Map<Integer, Reason> BY_NUMBER =
      Arrays.stream(values()).collect(Collectors.toUnmodifiableMap(Reason::number, Function.identity()));

  private final int number;
  private final NextStep nextStep;
  private final String zh;
  private final String en;

  Reason(int number, NextStep nextStep, String zh, String en) {
    this.number = number;
    this.nextStep = nextStep;
    this.zh = zh;
    this.en = en;
  }

  /**
   * Finds a reason by its number; one that this version does not know is UNRECOGNISED.
   *
   * @param number as in the contract
   * @return the reason
   */
  public static Reason of(int number) {
    return BY_NUMBER.getOrDefault(number, UNRECOGNISED);
  }

  /**
   * Gives its number in the contract.
   *
   * @return 1 and up; -1 for UNRECOGNISED
   */
  public int number() {
    return number;
  }

  /**
   * Tells what to do next.
   *
   * @return the step
   */
  public NextStep nextStep() {
    return nextStep;
  }

  /**
   * Says it in words.
   *
   * @param language in which
   * @return what is the matter, and what to do next
   */
  public Text text(Language language) {
    String what = switch (language) {
      case ZH -> zh;
      case EN -> en;
    };
    return new Text(what, nextStep.text(language));
  }

  /**
   * A reason in one language.
   *
   * @param what what is the matter
   * @param nextStep what to do about it
   */
  public record Text(String what, String nextStep) {}
}
"""


def render(texts: Mapping[str, Any]) -> Mapping[str, str]:
    """Write both files."""
    steps, reasons = texts["next_steps"], texts["reasons"]
    for name, reason in reasons.items():
        for language in ("zh", "en"):
            if reason[language]["next_step"] != steps[reason["next"]][language]:
                raise ValueError(f"{name}: its next step in {language} is not in the words of {reason['next']}")
    step_constants = [
        _constant(name, step["en"], str(step["number"]), _text(step["zh"]), _text(step["en"]))
        for name, step in steps.items()
    ]
    reason_constants = [
        _constant(
            name,
            reason["en"]["what"],
            str(reason["number"]),
            f"NextStep.{reason['next']}",
            _text(reason["zh"]["what"]),
            _text(reason["en"]["what"]),
        )
        for name, reason in reasons.items()
    ]
    return {
        "NextStep.java": HEAD + NEXT_STEP % {"constants": ",\n".join(step_constants)},
        "Reason.java": HEAD + REASON % {"constants": ",\n".join(reason_constants)},
    }


def _constant(name: str, comment: str, *values: str) -> str:
    lines = "".join(f"   * {line}\n" for line in textwrap.wrap(comment, 110))
    return f"  /**\n{lines}   */\n  {name}(\n" + ",\n".join(f"      {value}" for value in values) + ")"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def main() -> int:
    """Write the files, or check them."""
    stale = 0
    for name, fresh in render(json.loads(TEXTS.read_text("utf-8"))).items():
        file = TARGET / name
        if "--check" not in sys.argv[1:]:
            file.write_text(fresh, "utf-8")
        elif file.read_text("utf-8") != fresh:
            sys.stderr.write(f"{name} does not match texts.json: run python clients/java/generate_reasons.py\n")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
