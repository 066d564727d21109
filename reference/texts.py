"""``clients/texts.json``: the words of reasons and next steps, for client libraries in any language."""

from __future__ import annotations

import json

from recognition.v1 import reason_pb2, verification_pb2

from gateway.core.reasons import INDETERMINATE, Reason
from gateway.core.texts import Language, NextStep, next_step, step_text, text


def number(reason: Reason) -> int:
    """Give the number that the contract has for a reason."""
    return int(reason_pb2.Reason.Value(f"REASON_{reason}"))


def step_number(step: NextStep) -> int:
    """Give the number that the contract has for a next step."""
    return int(verification_pb2.NextStep.Value(f"NEXT_STEP_{step}"))


def verdict(reason: Reason) -> str:
    """Say with which verdict a reason comes, as the contract names it."""
    return "indeterminate" if reason in INDETERMINATE else "rejected"


def write_texts() -> str:
    """Write the file."""
    reasons = {
        reason.value: {
            "number": number(reason),
            "verdict": verdict(reason),
            "next": next_step(reason).value,
            **{language.value: _words(reason, language) for language in Language},
        }
        for reason in sorted(Reason, key=number)
    }
    steps = {
        step.value: {
            "number": step_number(step),
            **{language.value: step_text(step, language) for language in Language},
        }
        for step in sorted(NextStep, key=step_number)
    }
    return json.dumps({"reasons": reasons, "next_steps": steps}, ensure_ascii=False, indent=2) + "\n"


def _words(reason: Reason, language: Language) -> dict[str, str]:
    words = text(reason, language)
    return {"what": words.what, "next_step": words.next_step}
