"""``mrg init``: a province's keys, certificates and configuration, in two runs of one command.

The first run makes what a province can make alone, and its card for the others. Then people act: cards are exchanged,
fingerprints compared by voice, the charter agreed on and signed. The second run, given the charter, its digest and the
cards, writes the configuration. Either can be run again; keys and certificates that exist are never replaced.

Every question has an option. On a terminal, what no option answers is asked; anywhere else it has a default or is an
error that names the option.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli import charter_screen, drafting, files, options
from gateway.cli.console import ExitCode, Failure, ask, at_terminal, exit_codes, groups, stderr, stdout, write_document
from gateway.clock import system_world
from gateway.config import KeyStoreOptions, Pkcs11, PostgresUrl, SecretSource
from gateway.core.charter import MAX_DOCUMENT_CHARS
from gateway.core.identifiers import Province, check_entity_id
from gateway.provision import ProvisionError
from gateway.provision import answers as decisions
from gateway.provision.answers import Answers, Service
from gateway.provision.cards import Card
from gateway.provision.province import CARD_FILE, complete_province, create_province

EXIT_CODES: Final = exit_codes({ExitCode.OK: "done; what to do next is shown"})

_HOST_AND_PORT: Final = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[1-9][0-9]{0,4})")
_NO_TEXTS: Final[list[str]] = []
_NO_PATHS: Final[list[Path]] = []

_Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the province; made when there is none.")]
_Province = Annotated[Province | None, typer.Option(help="Which province.")]
_Gateway = Annotated[str | None, typer.Option(help="The gateway's entity identifier, an https URL.")]
_Issuer = Annotated[str | None, typer.Option(help="The issuer's entity identifier; its host is its own.")]
_Anchor = Annotated[str | None, typer.Option(help="The trust anchor's entity identifier; its host is its own.")]
_Reached = Annotated[str | None, typer.Option(help="Host under which others reach this gateway. Default: its own.")]
_Verification = Annotated[str | None, typer.Option(help="Where service backends call. Default: 0.0.0.0:7443.")]
_Federation = Annotated[str | None, typer.Option(help="Where other provinces call. Default: 0.0.0.0:7444.")]
_Admin = Annotated[str | None, typer.Option(help="Where administrators call. Default: 127.0.0.1:7445.")]
_Dns = Annotated[list[str], typer.Option(metavar="HOST", help="Further host in the gateway's certificate; repeatable.")]
_Ip = Annotated[list[str], typer.Option(metavar="IP", help="Further address in the gateway's certificate; repeatable.")]
_Service = Annotated[
    list[str], typer.Option(metavar="NAME:TITLE:SECTOR:MATTER,...", help="A service backend; repeatable.")
]
_Explain = Annotated[
    list[str],
    typer.Option(metavar="NAME", help="A service backend that may have its own decisions explained; repeatable."),
]
_System = Annotated[list[str], typer.Option(metavar="NAME", help="An identity system; repeatable.")]
_Refresh = Annotated[int | None, typer.Option(min=1, help="Seconds between refreshes of trust data. Default: 60.")]
_Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A PostgreSQL database, postgresql://user@host/name without a password. Default: a SQLite file.",
    ),
]
_Passphrase = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Encrypt the private keys; their passphrase is in this file, for you alone."),
]
_Module = Annotated[Path | None, typer.Option(metavar="LIBRARY", help="Make the keys in a token: its PKCS#11 library.")]
_Token = Annotated[str | None, typer.Option(metavar="LABEL", help="The token's label.")]
_Pin = Annotated[Path | None, typer.Option(metavar="FILE", help="The token's PIN is in this file, for you alone.")]
_Charter = Annotated[Path | None, typer.Option(metavar="CHARTER.json", help="Second run: the charter, signed.")]
_Digest = Annotated[str | None, typer.Option(metavar="PIN", help="Second run: its digest, as people compared it.")]
_Cards = Annotated[
    list[Path], typer.Option(metavar="CARD.json", help="Second run: another province's card; repeatable.")
]
_Replace = Annotated[bool, typer.Option("--replace", help="Second run: write over a configuration that differs.")]


def init(
    directory: _Directory,
    *,
    province: _Province = None,
    gateway: _Gateway = None,
    issuer: _Issuer = None,
    anchor: _Anchor = None,
    reached_at: _Reached = None,
    verification_address: _Verification = None,
    federation_address: _Federation = None,
    admin_address: _Admin = None,
    dns_name: _Dns = _NO_TEXTS,
    ip_address: _Ip = _NO_TEXTS,
    service: _Service = _NO_TEXTS,
    explain: _Explain = _NO_TEXTS,
    system: _System = _NO_TEXTS,
    refresh_seconds: _Refresh = None,
    database: _Database = None,
    passphrase_file: _Passphrase = None,
    pkcs11_module: _Module = None,
    pkcs11_token: _Token = None,
    pin_file: _Pin = None,
    charter: _Charter = None,
    charter_sha256: _Digest = None,
    card: _Cards = _NO_PATHS,
    replace: _Replace = False,
    as_json: options.JsonOption = False,
) -> None:
    """Set up a province: first its keys, certificates and card; then, with --charter, its configuration.

    Running it again adds what is missing and replaces no key.
    """
    given = {
        "province": province,
        "gateway": gateway,
        "issuer": issuer,
        "anchor": anchor,
        "reached_at": reached_at,
        "verification_address": verification_address,
        "federation_address": federation_address,
        "admin_address": admin_address,
        "services": tuple(map(_service, service)) or None,
        "systems": tuple(system) or None,
        "refresh_seconds": refresh_seconds,
        "database": _database(database),
        "key_store": _key_store(passphrase_file, pkcs11_module, pkcs11_token, pin_file),
    }
    try:
        if charter is None:
            decided = _decide(directory, given, explain, dns_name, ip_address)
            _show_created(directory, create_province(directory, decided, system_world()), decided, as_json=as_json)
        else:
            pin = _needed(charter_sha256, "--charter-sha256", "give the digest that the provinces compared")
            _complete(directory, charter, pin, card, replace=replace, as_json=as_json)
    except ProvisionError as error:
        raise drafting.provision_failure(error) from error


# -- the answers ------------------------------------------------------------------------------------------------------


def _decide(
    directory: Path,
    given: Mapping[str, Any],
    explained: Collection[str],
    dns_names: Iterable[str],
    ip_addresses: Iterable[str],
) -> Answers:
    """Put the answers together: what an option says, else what was decided before, else what is asked or usual."""
    known: dict[str, Any] = {}
    extra: list[str] = []
    if (directory / decisions.FILE).exists():
        before = decisions.read(directory)
        known = {name: getattr(before, name) for name in given}
        extra = [*before.dns_names, *before.ip_addresses]
    known |= {name: value for name, value in given.items() if value is not None}
    for name, (question, suggest, usual) in _QUESTIONS.items():
        if name not in known:
            known[name] = _answer(name, question, suggest(known), usual=usual)
    _check(known)
    known["services"] = _explaining(known["services"], explained)
    hosts = [known["reached_at"], *(known[name].rpartition(":")[0] for name in _ADDRESSES)]
    names, numbers = _sort_hosts([*hosts, *extra, *dns_names, *ip_addresses])
    known["province"] = Province(known["province"])
    return Answers(**known, dns_names=names, ip_addresses=numbers)


def _database(url: str | None) -> PostgresUrl | None:
    try:
        return None if url is None else PostgresUrl(url)
    except ValueError as error:
        raise Failure(f"--database {error}", fix="write for example postgresql://mrg@db.ah.example/gateway") from error


def _key_store(
    passphrase: Path | None, module: Path | None, token: str | None, pin: Path | None
) -> KeyStoreOptions | None:
    """What protects the keys; None when no option says. Paths become absolute, to be found from anywhere later on."""
    source = None if passphrase is None else SecretSource(file=passphrase.absolute())
    if module is None and token is None and pin is None:
        return None if source is None else KeyStoreOptions(passphrase=source)
    if module is None or token is None or pin is None:
        raise Failure(
            "a token takes a library, a label and a PIN", fix="give --pkcs11-module, --pkcs11-token and --pin-file"
        )
    place = SecretSource(file=pin.absolute())
    return KeyStoreOptions(passphrase=source, pkcs11=Pkcs11(module=module.absolute(), token=token, pin=place))


def _suggest_sibling(role: str) -> Callable[[Mapping[str, Any]], str]:
    def suggest(known: Mapping[str, Any]) -> str:
        gateway: str = known["gateway"]
        return gateway.replace("//gateway.", f"//{role}.", 1) if "//gateway." in gateway else ""

    return suggest


def _suggest_host(known: Mapping[str, Any]) -> str:
    gateway: str = known["gateway"]
    return gateway.removeprefix("https://").partition("/")[0].partition(":")[0]


# Name: question, suggestion, and whether the suggestion may stand where nobody can be asked.
_QUESTIONS: Final[Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str], bool]]] = {
    "province": (f"Province ({', '.join(each.code for each in Province)})", lambda _: "", False),
    "gateway": ("Gateway's entity identifier", lambda known: f"https://gateway.{known['province']}.mrg.example", False),
    "issuer": ("Issuer's entity identifier", _suggest_sibling("issuer"), False),
    "anchor": ("Trust anchor's entity identifier", _suggest_sibling("anchor"), False),
    "reached_at": ("Host under which others reach this gateway", _suggest_host, True),
    "verification_address": ("Where service backends call", lambda _: "0.0.0.0:7443", True),
    "federation_address": ("Where other provinces call", lambda _: "0.0.0.0:7444", True),
    "admin_address": ("Where administrators call", lambda _: "127.0.0.1:7445", True),
    "services": ("Service backends", lambda _: "", True),
    "systems": ("Identity systems that may have credentials issued (names)", lambda _: "", True),
    "refresh_seconds": ("Seconds between refreshes of trust data", lambda _: "60", True),
}
_ADDRESSES: Final = ("verification_address", "federation_address", "admin_address")


def _answer(name: str, question: str, suggestion: str, *, usual: bool) -> Any:
    if name == "services":
        return tuple(_ask_services()) if at_terminal() else ()
    text = suggestion
    if at_terminal():
        text = ask(question, default=suggestion)
    elif not usual:
        text = ""
    if name == "systems":
        return tuple(text.replace(",", " ").split())
    option = f"--{name.replace('_', '-')}"
    text = _needed(text, option, f"give {option}: {question[0].lower()}{question[1:]}")
    return _whole(text, option) if name == "refresh_seconds" else text


def _ask_services() -> Iterable[Service]:
    stderr().line("Service backends, one a line: NAME:TITLE:SECTOR:MATTER,...  An empty line ends them.")
    while text := ask("Service backend"):
        yield _service(text)


def _needed(text: str | None, option: str, fix: str) -> str:
    if not text:
        raise Failure(f"{option} is missing", fix=fix)
    return text


def _whole(text: str, option: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise Failure(f"{option} is not a whole number", fix="give a number of seconds")
    return int(text)


def _service(text: str) -> Service:
    name, _, rest = text.partition(":")
    title, _, rest = rest.partition(":")
    sector, _, matters = rest.partition(":")
    codes = frozenset(code.strip() for code in matters.split(",") if code.strip())
    if not name or not title or not sector or not codes:
        raise Failure(
            "--service is not NAME:TITLE:SECTOR:MATTER,...",
            fix='write for example "counter:户政窗口:household:HK-QY,DZ-LZ"',
        )
    return Service(name=name.strip(), title=title.strip(), sector=sector.strip(), matters=codes)


def _explaining(services: Sequence[Service], names: Collection[str]) -> tuple[Service, ...]:
    known = {each.name for each in services}
    for name in names:
        if name not in known:
            raise Failure(
                f"--explain {name}: is no service backend of this province",
                fix=f"give one of {' '.join(sorted(known))}" if known else "give it with --service too",
            )
    return tuple(dataclasses.replace(each, explain=each.explain or each.name in names) for each in services)


def _check(known: Mapping[str, Any]) -> None:
    """Refuse here what would otherwise be found after keys and certificates were made for it."""
    if known["province"] not in {each.code for each in Province}:
        raise Failure("--province is unknown", fix=f"give one of {', '.join(each.code for each in Province)}")
    hosts: dict[str, str] = {}
    for name in ("gateway", "issuer", "anchor"):
        try:
            check_entity_id(known[name])
        except ValueError as error:
            raise Failure(f"--{name} {error}", fix=f"write for example https://{name}.ah.mrg.example") from error
        first = hosts.setdefault(known[name].split("/")[2], name)
        if first != name:
            raise Failure(
                f"--{name} has the host of --{first}", fix="give each its own, for example a name before the dot"
            )
    for name in _ADDRESSES:
        if _HOST_AND_PORT.fullmatch(known[name]) is None:
            raise Failure(f"--{name.replace('_', '-')} is not host:port", fix="write for example 127.0.0.1:7443")


def _sort_hosts(hosts: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell names from numbers, each once; a wildcard is no host to put into a certificate."""
    names: dict[str, None] = {}
    numbers: dict[str, None] = {}
    for host in hosts:
        if host in decisions.WILDCARDS:
            continue
        bare = host.strip("[]")
        try:
            numbers[str(ipaddress.ip_address(bare))] = None
        except ValueError:
            names[bare] = None
    return tuple(names), tuple(numbers)


# -- the two runs -----------------------------------------------------------------------------------------------------


def _show_created(directory: Path, card: Card, decided: Answers, *, as_json: bool) -> None:
    file = directory / CARD_FILE
    if as_json:
        write_document(
            {
                "step": "created",
                "directory": str(directory),
                "province": card.province.code,
                "card": str(file),
                "key_protection": decided.key_store.protection,
                "fingerprint": card.fingerprint,
                "clients": _profiles(directory, decided.clients),
                "administrators": _profiles(directory, decided.administrators),
                "auditors": _profiles(directory, decided.auditors),
            }
        )
        return
    screen = stdout()
    screen.facts(
        [
            ("Province", f"{card.province.code} {card.province.name_zh} {card.province.name_en}"),
            ("Card", str(file)),
            ("Keys", _PROTECTION[decided.key_store.protection]),
            ("Fingerprint", card.fingerprint),
            ("Read aloud", groups(charter_screen.hexadecimal(card.fingerprint))),
            *(("Client profile", file) for file in _profiles(directory, decided.clients).values()),
            *(("Administrator", file) for file in _profiles(directory, decided.administrators).values()),
            *(("Auditor", file) for file in _profiles(directory, decided.auditors).values()),
        ]
    )
    screen.line()
    for line in (
        "Next:",
        f"1. Send {file} to the other provinces; collect theirs.",
        "2. Read the fingerprints to each other over the telephone.",
        "3. One province drafts the charter, all sign it: mrg charter create, sign, verify.",
        "4. Give each administrator and auditor their three files of clients/: profile, certificate and key.",
        f"5. mrg init {directory} --charter charter.json --charter-sha256 PIN --card OTHER.json ...",
    ):
        screen.line(line)


_PROTECTION: Final = {
    "none": "in files that are NOT encrypted; mrg init --passphrase-file encrypts those of a new province",
    "passphrase": "in files, encrypted",
    "token": "in the token, which they cannot leave",
}


def _profiles(directory: Path, names: Iterable[str]) -> dict[str, str]:
    return {name: str(directory / "clients" / f"{name}.toml") for name in names}


def _complete(directory: Path, charter: Path, pin: str, cards: Sequence[Path], *, replace: bool, as_json: bool) -> None:
    document = files.read_text(charter, "charter", limit=MAX_DOCUMENT_CHARS)
    sha256 = drafting.digest(pin, "--charter-sha256")
    config = complete_province(directory, drafting.read_cards(cards), document, sha256, replace=replace)
    if as_json:
        write_document(
            {"step": "completed", "directory": str(directory), "config": str(config), "charter_sha256": sha256}
        )
        return
    stdout().facts([("Configuration", str(config)), ("Charter", sha256), ("Next", f"mrg serve --config {config}")])
