"""The documents for people say what is there: commands, keys, reasons, claims, links; in both languages."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import typer

from gateway.cli import app
from gateway.cli.console import ExitCode
from gateway.config import (
    MAX_CONCURRENT_CALLS,
    MAX_RATE,
    MAX_REFRESH_SECONDS,
    MAX_RETENTION_DAYS,
    MAX_ROTATION_DAYS,
    MAX_THREADS,
    Administrator,
    AdminListener,
    AnchorEnrolment,
    Auditor,
    CharterPin,
    Config,
    ConfigError,
    Entities,
    FederationListener,
    IdentitySystem,
    KeyStoreOptions,
    Limits,
    Listeners,
    PairwiseOptions,
    Peer,
    Pkcs11,
    Refresh,
    RelyingService,
    Retention,
    Role,
    SecretSource,
    TlsFiles,
    VerificationListener,
)
from gateway.config.reader import load_config
from gateway.config.writer import render_config
from gateway.core import fields as charter_fields
from gateway.core.agreement import (
    MAX_ACR_VALUES,
    MAX_ASSERTION_LIFETIME,
    MAX_CLOCK_SKEW,
    MAX_CREDENTIAL_LIFETIME,
    MAX_ISSUERS,
    MAX_KEY_BINDING_AGE,
    MAX_LEVELS,
    MAX_MATTERS,
    MAX_RETENTION,
    MAX_STALE_GRACE,
    MAX_STATUS_AGE,
    MAX_TERMS,
    parse_agreement,
)
from gateway.core.identifiers import Province, parse_resident_id
from gateway.core.jose import parse_compact
from gateway.core.reasons import Reason
from gateway.core.sd_jwt import MAX_ISSUER_JWT_CHARS, split
from gateway.core.texts import Language, text
from gateway.lab.charter import example_agreement
from tests.federation import Federation

ROOT = Path(__file__).resolve().parents[1]
README, README_ZH = ROOT / "README.md", ROOT / "README.zh-CN.md"
DEPLOY, DEPLOY_ZH = ROOT / "docs" / "deploy.md", ROOT / "docs" / "deploy.zh-CN.md"
KEYS, KEYS_ZH = ROOT / "docs" / "keys.md", ROOT / "docs" / "keys.zh-CN.md"
VERDICTS, VERDICTS_ZH = ROOT / "docs" / "verdicts.md", ROOT / "docs" / "verdicts.zh-CN.md"
READMES = {Language.EN: README, Language.ZH: README_ZH}
EVIDENCE, EVIDENCE_ZH = ROOT / "docs" / "evidence.md", ROOT / "docs" / "evidence.zh-CN.md"
CAPACITY, CAPACITY_ZH = ROOT / "docs" / "capacity.md", ROOT / "docs" / "capacity.zh-CN.md"
REASONS, REASONS_ZH = ROOT / "docs" / "reasons.md", ROOT / "docs" / "reasons.zh-CN.md"
API = ROOT / "docs" / "api"
CLIENTS = ROOT / "clients"
CLIENTS_BY_LANGUAGE = tuple(CLIENTS / language for language in ("go", "java", "python", "typescript"))
PAIRS = (
    (README, README_ZH),
    (DEPLOY, DEPLOY_ZH),
    (KEYS, KEYS_ZH),
    (VERDICTS, VERDICTS_ZH),
    (EVIDENCE, EVIDENCE_ZH),
    (CAPACITY, CAPACITY_ZH),
    (REASONS, REASONS_ZH),
    (API / "README.md", API / "README.zh-CN.md"),
    *((folder / "README.md", folder / "README.zh-CN.md") for folder in (CLIENTS, *CLIENTS_BY_LANGUAGE)),
)
SERVICE_PAGES = tuple(page for page in sorted(API.glob("*.md")) if not page.name.startswith("README"))
"""In English alone: their words are the contract's own comments."""
DOCUMENTS = (*(document for pair in PAIRS for document in pair), *SERVICE_PAGES)
MAX_LINE = 120


# -- reading Markdown -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block."""

    language: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document, its fenced blocks apart from the rest."""

    prose: tuple[str, ...]
    blocks: tuple[Block, ...]

    @property
    def headings(self) -> tuple[tuple[int, str], ...]:
        found = (re.fullmatch(r"(#+) (.+)", line) for line in self.prose)
        return tuple((len(match[1]), match[2]) for match in found if match is not None)

    @property
    def inline(self) -> tuple[str, ...]:
        return tuple(code for line in self.prose for code in re.findall(r"`([^`]+)`", line))

    def rows(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Give every row of a table that begins with one name in code: the name, and the cells after it."""
        for line in self.prose:
            cells = tuple(cell.strip() for cell in line.strip("|").split("|")) if line.startswith("|") else ("",)
            name = re.fullmatch(r"`([^`]+)`", cells[0])
            if name is not None:
                yield name[1], cells[1:]


@cache
def read(path: Path) -> Document:
    prose: list[str] = []
    blocks: list[Block] = []
    inside: list[str] | None = None
    language = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        fence = re.fullmatch(r"```([a-z]*)", line)
        if fence is None:
            (prose if inside is None else inside).append(line)
        elif inside is None:
            inside, language = [], fence[1]
        else:
            blocks.append(Block(language=language, text="\n".join(inside)))
            inside = None
    assert inside is None, f"{path.name}: a fenced block is never closed"
    return Document(prose=tuple(prose), blocks=tuple(blocks))


def name_of(path: Path) -> str:
    return path.name


# -- form -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_lines_are_not_too_long(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [
        number
        for number, line in enumerate(lines, 1)
        if line != line.rstrip() or (len(line) > MAX_LINE and not _is_written_elsewhere(path, line))
    ] == []


def _is_written_elsewhere(path: Path, line: str) -> bool:
    """Whether it is a row whose words are the gateway's, the contract's or a library's: a row cannot be broken."""
    of_others = path.parent == API or path.is_relative_to(CLIENTS)
    return any(line.startswith(f"| `{reason}` |") for reason in Reason) or (of_others and line[:2] == "| ")


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_headings_step_down_one_level_at_a_time(path: Path) -> None:
    levels = [level for level, _ in read(path).headings]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(lower <= upper + 1 for upper, lower in pairwise(levels))


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=name_of)
def test_both_languages_have_the_same_headings(english: Path, chinese: Path) -> None:
    assert [level for level, _ in read(english).headings] == [level for level, _ in read(chinese).headings]


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=name_of)
def test_both_languages_have_the_same_code(english: Path, chinese: Path) -> None:
    assert [without_words(block) for block in read(english).blocks] == [
        without_words(block) for block in read(chinese).blocks
    ]


def without_words(block: Block) -> tuple[str, str]:
    """What has to be equal: everything but comments, and the labels of a drawing."""
    if block.language == "mermaid":
        return block.language, re.sub(r'"[^"]*"', '""', block.text)
    if block.language == "text":
        return block.language, ""  # output: each shows what a reader of its language sees
    if block.language in {"sh", "toml", "python", "ini"}:
        return block.language, re.sub(r"(?m)(^|\s+)#.*$", "", block.text)
    return block.language, block.text


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=name_of)
def test_both_languages_name_the_same_things(english: Path, chinese: Path) -> None:
    """Commands, options, keys and claims stand in code; whoever reads one language misses none of them."""
    assert set(read(english).inline) == set(read(chinese).inline)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    targets = [target for line in read(path).prose for target in re.findall(r"\]\(([^)\s]+)\)", line)]
    assert targets
    broken = [target for target in targets if not target.startswith("https://") and not _leads(path, target)]
    assert broken == []


def _leads(path: Path, target: str) -> bool:
    file, _, fragment = target.partition("#")
    there = (path.parent / file) if file else path
    if not there.exists():
        return False
    return not fragment or fragment in {_slug(heading) for _, heading in read(there).headings}


def _slug(heading: str) -> str:
    """The fragment of a heading as GitHub makes it."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


# -- commands ---------------------------------------------------------------------------------------------------------


def shell_lines(path: Path) -> Iterator[str]:
    for block in read(path).blocks:
        if block.language == "sh":
            whole = re.sub(r"(?ms)<<'(\w+)'(.*?)\n.*?^\1$", r"\2", block.text)
            yield from _whole_lines(whole.replace("\\\n", " "))
        if block.language == "ini":
            yield from re.findall(r"(?m)^ExecStart=(.+)$", block.text)


def _whole_lines(text: str) -> Iterator[str]:
    """Give the lines of a shell text; one whose quotes are open goes on in the next."""
    begun = ""
    for line in text.splitlines():
        begun += line
        try:
            shlex.split(begun, comments=True)
        except ValueError:
            begun += "\n"
        else:
            yield begun
            begun = ""
    assert not begun, f"a quote is never closed: {begun}"


def simple_commands(line: str) -> Iterator[list[str]]:
    """Give the simple commands of a shell line: pipes, lists and redirections taken apart."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    into = False
    for word in lexer:
        if set(word) <= set("();<>|&"):
            into = set(word) <= set("<>&") and ("<" in word or ">" in word)
            if not into:
                yield words
                words = []
        elif into:
            into = False
        else:
            words.append(word)
    yield words


def _arguments_of_mrg(words: Sequence[str]) -> list[str] | None:
    for place, word in enumerate(words):
        if word == "mrg" or word.endswith("/mrg"):
            return list(words[place + 1 :])
        if "=" not in word and word not in {"exec", "sudo"}:
            return None
    return None


def _whole_commands() -> list[str]:
    """Every ``mrg`` command of a shell block; these are meant to be typed."""
    found = []
    for path in DOCUMENTS:
        for line in shell_lines(path):
            for words in simple_commands(line):
                arguments = _arguments_of_mrg(words)
                if arguments is not None:
                    found.append(shlex.join(arguments))
    return sorted(set(found))


def _mentions() -> list[str]:
    """Every ``mrg`` command named in a sentence; it may leave out what is needed to run it."""
    code = {code for path in DOCUMENTS for code in read(path).inline}
    return sorted(shlex.join(shlex.split(each)[1:]) for each in code if re.match(r"(\S*/)?mrg( |$)", each))


def _find(arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """Go down the tree of commands; give the last one named, and what follows."""
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    return command, rest


def test_commands_are_found_in_the_documents() -> None:
    assert _whole_commands()
    assert _mentions()


@pytest.mark.parametrize("line", _whole_commands())
def test_commands_to_be_typed_are_understood(line: str) -> None:
    command, rest = _find(shlex.split(line))
    rest = [word for word in rest if word not in {"--help", "--version"}]
    if rest or not hasattr(command, "commands"):
        # The parser itself: an option that is unknown, misses its value or is missing altogether raises.
        command.make_context("mrg", rest)


@pytest.mark.parametrize("line", _mentions())
def test_commands_that_are_mentioned_exist(line: str) -> None:
    command, rest = _find(shlex.split(line))
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known] == []


@pytest.mark.parametrize("path", READMES.values(), ids=name_of)
def test_every_command_is_documented(path: Path) -> None:
    documented = {name for name, _ in read(path).rows() if name.startswith("mrg ")}
    assert documented == {f"mrg {name}" for name in _leaves(typer.main.get_command(app), ())}


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    if not hasattr(command, "commands"):
        yield " ".join(path)
        return
    for name, below in command.commands.items():
        yield from _leaves(below, (*path, name))


@pytest.mark.parametrize("path", READMES.values(), ids=name_of)
def test_every_exit_code_is_documented(path: Path) -> None:
    assert [name for name, _ in read(path).rows() if name.isdecimal()] == [str(int(code)) for code in ExitCode]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    code = [*read(path).inline, *shell_lines(path)]
    named = {name for line in code for name in re.findall(r"(?:^|&& )make ([a-z-]+)", line)}
    assert named <= targets


@pytest.mark.parametrize("path", READMES.values(), ids=name_of)
def test_python_examples_compile(path: Path) -> None:
    examples = [block.text for block in read(path).blocks if block.language == "python"]
    assert examples
    for example in examples:
        compile(example, path.name, "exec")


# -- configuration ----------------------------------------------------------------------------------------------------


def _keys(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Give the path of every key a configuration file may have, and the field it fills."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        inner, path = hints[field.name], f"{prefix}{field.name}"
        if NoneType in get_args(inner):
            (inner,) = set(get_args(inner)) - {NoneType}
        if inner is SecretSource:
            # One of three keys, of which the text names the other two.
            yield f"{path}_file", field
            continue
        if get_origin(inner) is tuple:
            inner, path = get_args(inner)[0], f"{path}[]"
        if is_dataclass(inner):
            assert isinstance(inner, type)
            yield from _keys(inner, f"{path}.")
        elif path != "file":  # where the configuration was read from
            yield path, field


def _documented_keys(path: Path) -> dict[str, tuple[str, ...]]:
    known = {key.partition(".")[0] for key, _ in _keys(Config)}
    return {name: cells for name, cells in read(path).rows() if name.partition(".")[0] in known}


@pytest.mark.parametrize("path", READMES.values(), ids=name_of)
def test_every_configuration_key_is_documented_and_no_other(path: Path) -> None:
    assert list(_documented_keys(path)) == [key for key, _ in _keys(Config)]


@pytest.mark.parametrize("path", READMES.values(), ids=name_of)
def test_defaults_of_the_configuration_are_the_documented_ones(path: Path, whole: str, tmp_path: Path) -> None:
    documented = _documented_keys(path)
    required = {README: "required", README_ZH: "必填"}[path]
    for key, field in _keys(Config):
        default = documented[key][1]
        assert (default == required) == _is_missed(key, whole, tmp_path), key
        assert default == required or field.default in {MISSING, None} or default == f"`{_written(field.default)}`", key


def _written(value: object) -> str:
    """Give a value as TOML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_missed(key: str, whole: str, folder: Path) -> bool:
    """Whether a configuration that is whole but for this key is refused."""
    section, _, name = key.replace("[]", "").rpartition(".")
    kept = []
    here = ""
    for line in whole.splitlines():
        header = re.fullmatch(r"\[+([a-z0-9_.]+)\]+", line)
        here = header[1] if header is not None else here
        if here not in _NEEDS.get(key, ()) and (here != section or not line.startswith(f"{name} = ")):
            kept.append(line)
    assert len(kept) < len(whole.splitlines()), f"{key} is not written"
    file = folder / "gateway.toml"
    file.write_text("\n".join(kept), encoding="utf-8")
    try:
        load_config(file)
    except ConfigError as error:
        return error.key.endswith(name)
    return False


_NEEDS = {"entities.issuer": ("identity_systems", "pairwise_issuer"), "entities.anchor": ("anchor_enrolments",)}
"""Tables that make no sense without a key, and go when it goes."""


@pytest.fixture
def whole(tmp_path: Path) -> str:
    """Give a configuration file that says everything there is to say."""
    for name in ("charter.json", "server.pem", "server.key", "ca.pem", "peer.pem", "passphrase", "pin", "module.so"):
        (tmp_path / name).touch()
    digest = "A" * 43
    return render_config(
        Config(
            file=tmp_path / "gateway.toml",
            province=Province.ANHUI,
            database=tmp_path / "gateway.sqlite",
            keys=tmp_path / "keys",
            entities=Entities(
                gateway="https://gateway.ah.mrg.example",
                issuer="https://issuer.ah.mrg.example",
                anchor="https://anchor.ah.mrg.example",
            ),
            charter=CharterPin(file=tmp_path / "charter.json", sha256=digest),
            tls=TlsFiles(certificate=tmp_path / "server.pem", private_key=tmp_path / "server.key"),
            listeners=Listeners(
                verification=VerificationListener(address="127.0.0.1:7443", client_ca=tmp_path / "ca.pem"),
                federation=FederationListener(address="127.0.0.1:7444"),
                admin=AdminListener(address="127.0.0.1:7445", client_ca=tmp_path / "ca.pem", reflection=True),
            ),
            peers=(
                Peer(
                    province=Province.SHANGHAI,
                    address="127.0.0.1:8444",
                    ca=tmp_path / "peer.pem",
                    gateway="https://gateway.sh.mrg.example",
                ),
            ),
            relying_services=(
                RelyingService(
                    identity="https://gateway.ah.mrg.example/services/counter",
                    name="户政窗口",
                    sector="household",
                    matters=frozenset({"HK-QY"}),
                    rate=68,
                    concurrency=69,
                ),
            ),
            identity_systems=(IdentitySystem(identity="https://issuer.ah.mrg.example/systems/identity"),),
            administrators=(
                Administrator(
                    identity="https://gateway.ah.mrg.example/administrators/admin-1", roles=frozenset({Role.KEYS})
                ),
            ),
            auditors=(Auditor(identity="https://gateway.ah.mrg.example/auditors/auditor-1"),),
            anchor_enrolments=(AnchorEnrolment(entity_id="https://issuer.sh.mrg.example", federation_key=digest),),
            key_store=KeyStoreOptions(
                passphrase=SecretSource(file=tmp_path / "passphrase"),
                pkcs11=Pkcs11(module=tmp_path / "module.so", token="mrg", pin=SecretSource(file=tmp_path / "pin")),
            ),
            pairwise=PairwiseOptions(version=2, mapped_until=datetime(2027, 3, 1, tzinfo=UTC)),
            pairwise_issuer=PairwiseOptions(version=2, mapped_until=datetime(2027, 3, 1, tzinfo=UTC)),
            retention=Retention(security_days=185, disclosure_days=1_097),
            refresh=Refresh(interval_seconds=61),
            limits=Limits(threads=33, max_concurrent_calls=65, caller_rate=66, caller_concurrency=67),
        )
    )


@pytest.mark.parametrize("path", READMES.values(), ids=name_of)
def test_bounds_of_the_configuration_are_the_documented_ones(path: Path) -> None:
    documented = _documented_keys(path)
    bounds: Mapping[str, int] = {
        "rotation.credential_days": MAX_ROTATION_DAYS,
        "rotation.status_days": MAX_ROTATION_DAYS,
        "rotation.federation_days": MAX_ROTATION_DAYS,
        "retention.security_days": MAX_RETENTION_DAYS,
        "retention.disclosure_days": MAX_RETENTION_DAYS,
        "refresh.interval_seconds": MAX_REFRESH_SECONDS,
        "limits.threads": MAX_THREADS,
        "limits.max_concurrent_calls": MAX_CONCURRENT_CALLS,
        "limits.caller_rate": MAX_RATE,
        "limits.caller_concurrency": MAX_CONCURRENT_CALLS,
        "relying_services[].rate": MAX_RATE,
        "relying_services[].concurrency": MAX_CONCURRENT_CALLS,
    }
    for key, most in bounds.items():
        assert f"{most:,}" in documented[key][2], key


# -- the agreement ----------------------------------------------------------------------------------------------------

_LEVELS = {"ial", "aal", "fal"}


def _members_of_agreements(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Give the path of every member that the parser asks for, the levels of assurance left out."""
    asked: set[str] = set()
    members = charter_fields.Field.members

    def recording(field: charter_fields.Field, *names: str) -> Mapping[str, charter_fields.Field]:
        place = re.sub(r"\[[^]]*\]", "[]", field.path).partition(".")[2]
        if set(names) != _LEVELS:
            asked.update(f"{place}.{name}".lstrip(".") for name in names)
        return members(field, *names)

    monkeypatch.setattr(charter_fields.Field, "members", recording)
    parse_agreement(example_agreement(["https://issuer.sh.mrg.example"]))
    return asked


@pytest.mark.parametrize("path", [DEPLOY, DEPLOY_ZH], ids=name_of)
def test_every_member_of_the_agreement_is_documented_and_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = _members_of_agreements(monkeypatch)
    tops = {name.partition("[")[0] for name in known}
    rows = [name for name, _ in read(path).rows() if name.partition("[")[0] in tops]
    assert sorted(rows) == sorted(known)
    assert set(read(path).inline) >= _LEVELS


@pytest.mark.parametrize("path", [DEPLOY, DEPLOY_ZH], ids=name_of)
def test_bounds_of_the_agreement_are_the_documented_ones(path: Path) -> None:
    documented = dict(read(path).rows())
    bounds: Mapping[str, int | timedelta] = {
        "matters": MAX_MATTERS,
        "matters[].max_credential_age_seconds": MAX_CREDENTIAL_LIFETIME,
        "matters[].max_authentication_age_seconds": MAX_CREDENTIAL_LIFETIME,
        "matters[].max_status_age_seconds": MAX_STATUS_AGE,
        "matters[].retention_seconds": MAX_RETENTION,
        "issuers": MAX_ISSUERS,
        "issuers[].equivalence": MAX_ACR_VALUES,
        "levels": MAX_LEVELS,
        "terms": MAX_TERMS,
        "clock_skew_seconds": MAX_CLOCK_SKEW,
        "stale_grace_seconds": MAX_STALE_GRACE,
        "max_credential_lifetime_seconds": MAX_CREDENTIAL_LIFETIME,
        "max_assertion_lifetime_seconds": MAX_ASSERTION_LIFETIME,
        "max_key_binding_age_seconds": MAX_KEY_BINDING_AGE,
    }
    for name, bound in bounds.items():
        most = bound if isinstance(bound, int) else int(bound.total_seconds())
        assert re.search(rf"(?<![0-9,]){most:,}(?!,?[0-9])", documented[name][1]), name


# -- reasons, claims, people ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", Language)
def test_every_reason_is_listed_with_the_words_that_clerks_read(language: Language) -> None:
    listed = {name: cells[0] for name, cells in read(READMES[language]).rows() if name in set(Reason)}
    assert listed == {reason.value: text(reason, language).what for reason in Reason}
    assert list(listed) == [reason.value for reason in Reason]


@pytest.mark.parametrize("path", READMES.values(), ids=name_of)
def test_claims_that_issuers_write_are_documented(path: Path, federation: Federation) -> None:
    rows = {name for name, _ in read(path).rows()}
    for kind, claims in _issued(federation).items():
        assert set(claims) - rows == set(), kind


@pytest.mark.parametrize("path", READMES.values(), ids=name_of)
def test_examples_of_claims_have_the_claims_that_issuers_write(path: Path, federation: Federation) -> None:
    examples = [json.loads(block.text) for block in read(path).blocks if block.language == "json"]
    shown = {"assertion" if "jti" in each else "credential": set(each) for each in examples if "iss" in each}
    assert shown == {kind: set(claims) for kind, claims in _issued(federation).items()}


def _issued(federation: Federation) -> Mapping[str, Mapping[str, Any]]:
    tokens = {
        "credential": split(federation.issue().credential).issuer_jwt,
        "assertion": federation.assertion(audience="https://gateway.ah.mrg.example/services/court"),
    }
    return {
        kind: parse_compact(token, max_chars=MAX_ISSUER_JWT_CHARS).unverified_claims() for kind, token in tokens.items()
    }


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_people_in_the_documents_are_made_up(path: Path) -> None:
    for number in re.findall(r"(?<![0-9])[1-9][0-9]{16}[0-9X](?![0-9])", path.read_text(encoding="utf-8")):
        assert parse_resident_id(number).birth_date.year == 1900
