"""What is written by ``reference`` is current, whole, and true."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from recognition.v1 import (
    anchor_pb2,
    audit_pb2,
    federation_pb2,
    issuance_pb2,
    keys_pb2,
    reason_pb2,
    verification_pb2,
)

from gateway.core.reasons import INDETERMINATE, Reason
from gateway.lab.folder import prepare_lab
from reference.__main__ import ROOT, files
from reference.calls import CALLS
from reference.reasons import GROUPS, STEPS, members
from tests.test_readme import API, REASONS, REASONS_ZH, SERVICE_PAGES, read, shell_lines, simple_commands

FILES = files()
CONTRACT = (anchor_pb2, audit_pb2, federation_pb2, issuance_pb2, keys_pb2, reason_pb2, verification_pb2)
MOMENT = "2126-01-02T03:04:05Z"


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
    assert STEPS.keys() > INDETERMINATE


def _reasons_of_indeterminate(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="Indeterminate"), args=[ast.Attribute(attr=reason), *_]):
                yield reason
            case _:
                pass


def test_groups_hold_every_reason_once_and_in_order() -> None:
    assert [reason for group in GROUPS for reason in members(group)] == list(Reason)


@pytest.mark.parametrize("path", [REASONS, REASONS_ZH], ids=lambda path: path.name)
def test_every_reason_has_its_section(path: Path) -> None:
    assert [name for level, name in read(path).headings if level == 3] == [reason.value for reason in Reason]


# -- the contract -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a line with ``grpcurl`` says."""

    page: Path
    options: Counter[str]
    values: dict[str, str]
    address: str
    method: str

    def __str__(self) -> str:
        return self.method.rpartition(".")[2]


def lines() -> Iterator[Line]:
    for page in SERVICE_PAGES:
        for line in shell_lines(page):
            for words in simple_commands(line):
                if words[:1] == ["grpcurl"]:
                    yield parsed(page, words[1:])


def parsed(page: Path, words: Sequence[str]) -> Line:
    *options, address, method = words
    assert len(options) % 2 == 0
    values = dict(zip(options[::2], options[1::2], strict=True))
    return Line(page=page, options=Counter(options[::2]), values=values, address=address, method=method)


LINES = tuple(lines())


def test_every_service_and_rpc_of_the_contract_has_its_section_and_its_line() -> None:
    services = [service for file in CONTRACT for service in file.DESCRIPTOR.services_by_name.values()]
    assert {service.name for service in services} == CALLS.keys()
    for service in services:
        names = [method.name for method in service.methods]
        assert names == list(CALLS[service.name])
        (page,) = (each for each in SERVICE_PAGES if read(each).headings[0] == (1, service.name))
        sections = [name for level, name in read(page).headings if level == 2]
        assert sections == [*names, "Messages", *sections[len(names) + 1 :]]
        asked = [line.method for line in LINES if line.page == page]
        assert asked == [f"{service.full_name}/{name}" for name in names]
        for index in (API / "README.md", API / "README.zh-CN.md"):
            assert [f"[`{name}`]({page.name}#{name.lower()})" for name in names] == re.findall(
                rf"^\| (\[`\w+`\]\({page.name}#\w+\)) \|", index.read_text(encoding="utf-8"), re.MULTILINE
            )


def test_every_message_and_enum_of_the_contract_has_its_section() -> None:
    sections = Counter(name for page in SERVICE_PAGES for level, name in read(page).headings if level == 3)
    named = [*(each for file in CONTRACT for each in file.DESCRIPTOR.message_types_by_name)]
    named += [each for file in CONTRACT for each in file.DESCRIPTOR.enum_types_by_name if each != "Reason"]
    assert sections == Counter(named)


@pytest.mark.parametrize("line", LINES, ids=str)
def test_lines_with_grpcurl_ask_what_the_contract_knows(line: Line) -> None:
    assert set(line.options.values()) == {1}
    assert line.values.keys() - {"-max-time"} == {"-import-path", "-proto", "-cacert", "-cert", "-key", "-d"}
    service, _, name = line.method.partition("/")
    found = descriptor_pool.Default().FindServiceByName(service)
    assert found.file.name == line.values["-proto"]
    assert (ROOT / line.values["-import-path"] / line.values["-proto"]).is_file()
    message = message_factory.GetMessageClass(found.methods_by_name[name].input_type)()
    json_format.Parse(re.sub(r"\$(NOW|UNTIL)\b", MOMENT, line.values["-d"]), message)
    assert message.ByteSize() or line.values["-d"] == "{}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_lab(tmp_path_factory.mktemp("lab")).path


@pytest.mark.parametrize("page", SERVICE_PAGES, ids=lambda page: page.name)
def test_files_of_the_lab_that_lines_name_are_there(page: Path, lab: Path) -> None:
    named = set(re.findall(r"\.lab/(?!try\b|clock)([\w./-]+)", page.read_text(encoding="utf-8")))
    assert named
    assert [each for each in sorted(named) if not (lab / each).is_file()] == []


@pytest.mark.parametrize("line", LINES, ids=str)
def test_variables_of_lines_are_set_before(line: Line) -> None:
    text = line.page.read_text(encoding="utf-8")
    before = text[: text.index(line.method)]
    used = re.findall(r"\$([A-Z_]+)", f"{line.address} {line.values['-d']}")
    assert [name for name in used if f"\n{name}=$(" not in before] == []
