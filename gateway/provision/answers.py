"""What the operator of a province decides, and the file that remembers it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.config import KeyStoreOptions, Pkcs11, PostgresUrl, Refresh, SecretSource
from gateway.core.agreement import MATTER_CODE
from gateway.core.fields import Field
from gateway.core.identifiers import Province
from gateway.provision import ProvisionError, files

FILE: Final = "province.json"
MAX_CLIENTS: Final = 10_000
MAX_NAMES: Final = 100
WILDCARDS: Final = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - recognised, not listened on
PLAIN_KEYS: Final = KeyStoreOptions()
ADMINISTRATORS: Final = ("admin-1", "admin-2")
AUDITORS: Final = ("auditor-1",)
"""Two, because what is done against the rules of rotation takes the consent of a second one."""
MAX_SECONDS: Final = 3_600
# What gateway.toml demands of a service (gateway/config/reader.py); a test holds them against each other.
_TITLE: Final = re.compile(r"\S(?:.{0,98}\S)?")
_SECTOR: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_CLIENT: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service backend to be registered."""

    name: str
    """Last part of its identity, and the name of its files."""
    title: str
    sector: str
    matters: frozenset[str]
    explain: bool = False
    """Whether it may have its own decisions explained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The decisions. Hosts and addresses are checked where they are used: in certificates and configuration."""

    province: Province
    gateway: str
    issuer: str
    anchor: str
    verification_address: str
    federation_address: str
    admin_address: str
    reached_at: str
    """The host under which clients and other provinces reach the two listeners above; their ports stay the same."""
    dns_names: tuple[str, ...]
    """Hosts that the gateway's certificate names."""
    ip_addresses: tuple[str, ...]
    services: tuple[Service, ...]
    systems: tuple[str, ...]
    """Names of the identity systems that may have credentials issued."""
    refresh_seconds: int = Refresh().interval_seconds
    key_store: KeyStoreOptions = PLAIN_KEYS
    """What protects the private keys; where a passphrase or PIN is, never what it is."""
    database: PostgresUrl | None = None
    """None: a SQLite file in the province's folder."""

    @property
    def clients(self) -> Mapping[str, str]:
        """Name and identity of every client that gets a certificate."""
        return {
            **{service.name: f"{self.gateway}/services/{service.name}" for service in self.services},
            **{system: f"{self.issuer}/systems/{system}" for system in self.systems},
        }

    @property
    def administrators(self) -> Mapping[str, str]:
        """Name and identity of every administrator. They get certificates too, but no service's door is theirs."""
        return {name: f"{self.gateway}/administrators/{name}" for name in ADMINISTRATORS}

    @property
    def auditors(self) -> Mapping[str, str]:
        """Name and identity of every auditor."""
        return {name: f"{self.gateway}/auditors/{name}" for name in AUDITORS}

    @property
    def operators(self) -> Mapping[str, str]:
        """Name and identity of everybody who calls the admin listener."""
        return {**self.administrators, **self.auditors}

    @property
    def admin_reached(self) -> str:
        """Where administrators reach their listener, which is seldom where others reach the rest: it stays local."""
        host = self.admin_address.rpartition(":")[0]
        return self.reached(self.admin_address) if host in WILDCARDS else self.admin_address

    def reached(self, address: str) -> str:
        """Where a listener's address is reached from elsewhere."""
        return f"{self.reached_at}:{address.rpartition(':')[2]}"


def check(answers: Answers, file: Path) -> None:
    """Refuse what would fail half-way: client names that are no file names or there twice, or no configuration's.

    Raises:
        ProvisionError: naming the key.
    """
    seen: set[str] = {*ADMINISTRATORS, *AUDITORS}
    named = [
        *((f"services[{i}].name", service.name) for i, service in enumerate(answers.services)),
        *((f"systems[{i}]", system) for i, system in enumerate(answers.systems)),
    ]
    for key, name in named:
        if _CLIENT.fullmatch(name) is None:
            raise ProvisionError(file, "is no name for a client", "use small letters, digits and dashes", key=key)
        if name in seen:
            raise ProvisionError(file, f"{name} is there twice", "rename one; their files would collide", key=key)
        seen.add(name)
    for i, service in enumerate(answers.services):
        if _TITLE.fullmatch(service.title) is None or not service.title.isprintable():
            fix = "write 1 to 100 characters on one line"
            raise ProvisionError(file, "is no name for a service", fix, key=f"services[{i}].title")
        if _SECTOR.fullmatch(service.sector) is None:
            fix = 'use small letters, digits and dashes, for example "household"'
            raise ProvisionError(file, "is no sector", fix, key=f"services[{i}].sector")
        for code in sorted(service.matters):
            if MATTER_CODE.fullmatch(code) is None:
                fix = 'write codes as the charter does, for example "HK-QY"'
                raise ProvisionError(file, f"{code!r} is no matter code", fix, key=f"services[{i}].matters")


def write(folder: Path, answers: Answers) -> None:
    """Remember the answers.

    Raises:
        ProvisionError: they cannot be written.
    """
    claims: dict[str, Any] = {
        "province": answers.province.code,
        **{name: getattr(answers, name) for name in _TEXTS},
        "dns_names": list(answers.dns_names),
        "ip_addresses": list(answers.ip_addresses),
        "services": [
            {
                "name": service.name,
                "title": service.title,
                "sector": service.sector,
                "matters": sorted(service.matters),
                "explain": service.explain,
            }
            for service in answers.services
        ],
        "systems": list(answers.systems),
        "refresh_seconds": answers.refresh_seconds,
        _KEY_STORE: _key_store_claims(answers.key_store),
        **({} if answers.database is None else {_DATABASE: answers.database.url}),
    }
    files.write(folder / FILE, files.pretty(claims), files.PUBLIC)


def read(folder: Path) -> Answers:
    """Read the answers back; a person may have corrected them.

    Raises:
        ProvisionError: they are not there, or not answers.
    """
    fix = "correct it, or create the province again (its keys stay)"
    answers = files.read_json(folder / FILE, _answers, what="file of answers", fix=fix)
    check(answers, folder / FILE)
    return answers


_KEY_STORE: Final = "key_store"
_DATABASE: Final = "database"
_TEXTS: Final = (
    *("gateway", "issuer", "anchor"),
    *("verification_address", "federation_address", "admin_address", "reached_at"),
)


def _answers(field: Field) -> Answers:
    lists = ("dns_names", "ip_addresses", "services", "systems")
    # The key store is left out by the first version, which knew one kind; the database where it is the usual one.
    given = field.value if isinstance(field.value, dict) else {}
    optional = [name for name in (_KEY_STORE, _DATABASE) if name in given]
    members = field.members("province", "refresh_seconds", *_TEXTS, *lists, *optional)
    return Answers(
        province=province(members["province"]),
        gateway=members["gateway"].token(),
        issuer=members["issuer"].token(),
        anchor=members["anchor"].token(),
        verification_address=members["verification_address"].token(),
        federation_address=members["federation_address"].token(),
        admin_address=members["admin_address"].token(),
        reached_at=members["reached_at"].token(),
        dns_names=tuple(item.token() for item in members["dns_names"].items(0, MAX_NAMES)),
        ip_addresses=tuple(item.token() for item in members["ip_addresses"].items(0, MAX_NAMES)),
        services=tuple(_service(item) for item in members["services"].items(0, MAX_CLIENTS)),
        systems=tuple(item.token() for item in members["systems"].items(0, MAX_CLIENTS)),
        refresh_seconds=members["refresh_seconds"].integer(1, MAX_SECONDS),
        key_store=_key_store(members[_KEY_STORE]) if _KEY_STORE in optional else PLAIN_KEYS,
        database=_database(members[_DATABASE]) if _DATABASE in optional else None,
    )


def _database(field: Field) -> PostgresUrl:
    try:
        return PostgresUrl(field.token())
    except ValueError as error:
        raise field.invalid(str(error)) from error


def _key_store_claims(options: KeyStoreOptions) -> dict[str, Any]:
    token = options.pkcs11
    return {
        "passphrase": _source_claims(options.passphrase),
        "pkcs11": {}
        if token is None
        else {"module": str(token.module), "token": token.token, "pin": _source_claims(token.pin)},
    }


def _source_claims(source: SecretSource | None) -> dict[str, str]:
    places = {} if source is None else {"file": source.file, "env": source.env, "credential": source.credential}
    return {kind: str(place) for kind, place in places.items() if place is not None}


def _key_store(field: Field) -> KeyStoreOptions:
    members = field.members("passphrase", "pkcs11")
    passphrase = _source(members["passphrase"])
    if not members["pkcs11"].entries(0, 3):
        return KeyStoreOptions(passphrase=passphrase)
    token = members["pkcs11"].members("module", "token", "pin")
    pin = _source(token["pin"])
    if pin is None:
        raise token["pin"].invalid("must say where the PIN is")
    return KeyStoreOptions(
        passphrase=passphrase, pkcs11=Pkcs11(module=Path(token["module"].text()), token=token["token"].text(), pin=pin)
    )


def _source(field: Field) -> SecretSource | None:
    for kind, place in field.entries(0, 1):
        match kind:
            case "file":
                return SecretSource(file=Path(place.text()))
            case "env":
                return SecretSource(env=place.token())
            case "credential":
                return SecretSource(credential=place.token())
            case _:
                raise field.invalid("must name a file, env or credential")
    return None


def _service(field: Field) -> Service:
    members = field.members("name", "title", "sector", "matters", "explain")
    return Service(
        name=members["name"].token(),
        title=members["title"].text(),
        sector=members["sector"].token(),
        matters=members["matters"].tokens(1, MAX_NAMES),
        explain=members["explain"].boolean(),
    )


def province(field: Field) -> Province:
    """Read a province code."""
    code = field.token()
    for each in Province:
        if each.code == code:
            return each
    raise field.invalid(f"must be one of {' '.join(each.code for each in Province)}")
