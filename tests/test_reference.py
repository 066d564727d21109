"""What is written by ``reference`` is current, whole, and true."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from recognition.v1 import reason_pb2, verification_pb2

from gateway.core.reasons import INDETERMINATE, Reason
from reference.__main__ import ROOT, files

FILES = files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_committed_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path], "run `python -m reference` and commit what it changes"


# -- reasons ----------------------------------------------------------------------------------------------------------


def test_the_texts_hold_every_reason_and_next_step_of_the_contract() -> None:
    texts = json.loads((ROOT / "clients" / "texts.json").read_text(encoding="utf-8"))
    for words, numbers, prefix in (
        (texts["reasons"], reason_pb2.Reason.items(), "REASON_"),
        (texts["next_steps"], verification_pb2.NextStep.items(), "NEXT_STEP_"),
    ):
        assert [(prefix + name, each["number"]) for name, each in words.items()] == sorted(
            ((name, number) for name, number in numbers if number), key=lambda item: item[1]
        )


def test_reasons_that_come_with_indeterminate_are_those_that_the_code_raises() -> None:
    raised = {name for path in (ROOT / "gateway").rglob("*.py") for name in _reasons_of_indeterminate(path)}
    assert raised == {reason.value for reason in INDETERMINATE}
    assert set(Reason) > INDETERMINATE


def _reasons_of_indeterminate(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="Indeterminate"), args=[ast.Attribute(attr=reason), *_]):
                yield reason
            case _:
                pass
