"""Reading the configuration file, strictly.

A mistake in it is found before a port is opened, and told in one line that names the file, the key and the mend. So
unknown keys are refused (a misspelt optional key would otherwise be a silent default), files must exist, and what hangs
together is compared: services lie under the gateway's identifier, since their certificates come from our CA and no CA
may name anybody outside its own province; peers are other provinces; no two provinces share a CA, be it in two files;
nobody is listed twice; no program that serves citizens is an administrator.

Relative paths count from the file's own folder.
"""

from __future__ import annotations

import base64
import difflib
import json
import re
import tomllib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.config import (
    MAX_CONCURRENT_CALLS,
    MAX_PAIRWISE_VERSION,
    MAX_RATE,
    MAX_REFRESH_SECONDS,
    MAX_RETENTION_DAYS,
    MAX_ROTATION_DAYS,
    MAX_THREADS,
    POSTGRES_SCHEMES,
    Administrator,
    AdminListener,
    AnchorEnrolment,
    AnchorPolicy,
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
    PostgresUrl,
    Refresh,
    RelyingService,
    Retention,
    Role,
    RotationPolicy,
    SecretSource,
    TlsFiles,
    VerificationListener,
)
from gateway.core.agreement import MATTER_CODE
from gateway.core.identifiers import Province, check_entity_id
from gateway.core.vouching import Approval

_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]):(?P<port>0|[1-9][0-9]{{0,4}})")
_MAX_PORT: Final = 65_535
# base64url of 32 bytes: 43 characters, the last of which carries four bits.
_SHA256: Final = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
_SECTOR: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_NAME: Final = re.compile(r"\S(?:.{0,98}\S)?")
# What a variable is called in every shell; a credential's name is also a file's, and must not lead out of its folder.
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
# As long as a token's label can be.
_TOKEN_LABEL: Final = re.compile(r"\S(?:.{0,30}\S)?")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_SYNTAX_ERROR_PLACE: Final = re.compile(r" \(at (?:line (?P<line>[0-9]+), column [0-9]+|end of document)\)$")
# Of a moment: what lies outside is a slip of the pen, and may not be told in another zone.
_YEARS: Final = range(2000, 3000)
_MAX_SHOWN: Final = 80
# Every label that stands for a certificate in some program that reads them.
_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(?P<body>[A-Za-z0-9+/=\s]*)-----END", re.ASCII
)


def load_config(file: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: it cannot be read, is not TOML, or says something that cannot be meant.
    """
    return read_config(read_text(file), file)


def read_text(file: Path) -> str:
    """Read what a configuration file says, without looking at it.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror}); name an existing file", file=file) from error
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8; save it in that encoding", file=file) from error


def read_config(text: str, file: Path) -> Config:
    """Read what a configuration file says, or said a while ago.

    Args:
        text: what it says.
        file: where it is; relative paths count from there.

    Raises:
        ConfigError: it is not TOML, or says something that cannot be meant.
    """
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _SYNTAX_ERROR_PLACE.search(str(error))
        what = _SYNTAX_ERROR_PLACE.sub(" at the end of the file" if place and not place["line"] else "", str(error))
        line = int(place["line"]) if place and place["line"] else None
        raise ConfigError(f"is not TOML: {what}; mend the syntax", file=file, line=line) from error
    config = _config(_Value(file, "", parsed))
    _check_whole(file, config)
    return config


# -- reading ----------------------------------------------------------------------------------------------------------

_Read = TypeVar("_Read")
_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class _Value:
    """One value of the file, and where it stands."""

    file: Path
    key: str
    raw: object

    def wrong(self, rule: str) -> ConfigError:
        return ConfigError(f"{_shown(self.raw)} {rule}", file=self.file, key=self.key)

    def text(self, pattern: re.Pattern[str], rule: str) -> str:
        if not isinstance(self.raw, str) or pattern.fullmatch(self.raw) is None or not self.raw.isprintable():
            raise self.wrong(f"is not {rule}")
        return self.raw

    def integer(self, high: int, *, low: int = 1) -> int:
        # bool is an int to Python, not to TOML.
        if not isinstance(self.raw, int) or isinstance(self.raw, bool) or not low <= self.raw <= high:
            raise self.wrong(f"is not a whole number from {low} to {high}")
        return self.raw

    def choice(self, kind: type[_Choice]) -> _Choice:
        for each in kind:
            if each.value == self.raw:
                return each
        raise self.wrong(f"is not one of {', '.join(each.value for each in kind)}")

    def boolean(self) -> bool:
        if not isinstance(self.raw, bool):
            raise self.wrong("is not true or false")
        return self.raw

    def moment(self) -> datetime:
        moment = self.raw
        if not isinstance(moment, datetime) or moment.tzinfo is None or moment.year not in _YEARS:
            raise self.wrong("is not a moment with its zone (for example 2027-03-01T00:00:00Z, without quotes)")
        return moment.astimezone(UTC)

    def sha256(self) -> str:
        return self.text(_SHA256, "a SHA-256 in base64url (43 characters)")

    def address(self, *, any_port: bool) -> str:
        rule = 'host:port (for example "127.0.0.1:7443")'
        address = self.text(_ADDRESS, rule)
        port = int(address.rpartition(":")[2])
        if port > _MAX_PORT or (port == 0 and not any_port):
            raise self.wrong(f"is not {rule}; the port is out of range")
        return address

    def entity_id(self) -> str:
        rule = 'an entity identifier (for example "https://gateway.ah.mrg.example")'
        if not isinstance(self.raw, str):
            raise self.wrong(f"is not {rule}")
        try:
            check_entity_id(self.raw)
        except ValueError as error:
            raise self.wrong(f"is not {rule}: {error}") from error
        if self.raw.endswith("/"):
            raise self.wrong("ends with a slash; leave it out")
        return self.raw

    def province(self) -> Province:
        for province in Province:
            if province.code == self.raw:
                return province
        raise self.wrong(f"is not one of {', '.join(province.code for province in Province)}")

    def path(self) -> Path:
        if not isinstance(self.raw, str) or not self.raw or "\0" in self.raw:
            raise self.wrong("is not a path")
        return self.file.absolute().parent / self.raw

    def database(self) -> Path | PostgresUrl:
        if not isinstance(self.raw, str) or self.raw.partition(":")[0] not in POSTGRES_SCHEMES:
            return self.path()
        try:
            return PostgresUrl(self.raw)
        except ValueError as error:
            raise ConfigError(str(error), file=self.file, key=self.key) from error  # without what may be a secret

    def existing_file(self) -> Path:
        path = self.path()
        if not path.is_file():
            raise self.wrong(f"is not an existing file (looked for {path}); correct the path or create it")
        return path

    def matters(self) -> frozenset[str]:
        if not isinstance(self.raw, list) or not self.raw:
            raise self.wrong('is not a list of matter codes with at least one in it (for example ["HK-QY"])')
        read = [
            _Value(self.file, f"{self.key}[{i}]", item).text(MATTER_CODE, 'a matter code (for example "HK-QY")')
            for i, item in enumerate(self.raw)
        ]
        if len(set(read)) != len(read):
            raise self.wrong("names a matter twice; leave one out")
        return frozenset(read)

    def roles(self) -> frozenset[Role]:
        if not isinstance(self.raw, list) or not self.raw:
            raise self.wrong(f"is not a list of roles with at least one in it; known: {', '.join(Role)}")
        read = [_Value(self.file, f"{self.key}[{i}]", item).choice(Role) for i, item in enumerate(self.raw)]
        if len(set(read)) != len(read):
            raise self.wrong("names a role twice; leave one out")
        return frozenset(read)


class _Table:
    """One table of the file. Its keys are the fields of what is made from it; any other is refused first of all."""

    def __init__(self, value: _Value, kind: type[Any], *, besides: str = "", source: str = "") -> None:
        if not isinstance(value.raw, dict):
            raise value.wrong("is not a table; write its keys under a [header]")
        self._value = value
        self._raw = value.raw
        known = [field.name for field in fields(kind) if field.name not in {besides, source}]
        known += [f"{source}_{field.name}" for field in fields(SecretSource)] if source else []
        for name in self._raw:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
                raise ConfigError(f"is not a known key; {hint}", file=value.file, key=self._path(name))

    def value(self, name: str, default: object = None) -> _Value:
        raw = self._raw.get(name, default)
        if raw is None:  # TOML has no null
            raise ConfigError("is missing; add it", file=self._value.file, key=self._path(name))
        return _Value(self._value.file, self._path(name), raw)

    def optional_entity_id(self, name: str) -> str | None:
        return self.value(name).entity_id() if name in self._raw else None

    def source(self, name: str) -> SecretSource | None:
        """Where a secret is: a file, a variable or a credential; None where nothing says so."""
        given = [key for key in (f"{name}_{field.name}" for field in fields(SecretSource)) if key in self._raw]
        if not given:
            return None
        if len(given) > 1:
            problem = f"is there beside {given[0]}; leave one out"
            raise ConfigError(problem, file=self._value.file, key=self._path(given[1]))
        value = self.value(given[0])
        if given[0] == f"{name}_file":
            return SecretSource(file=value.existing_file())
        if given[0] == f"{name}_env":
            return SecretSource(env=value.text(_VARIABLE, "the name of an environment variable"))
        return SecretSource(credential=value.text(_CREDENTIAL, "the name of a systemd credential"))

    def has(self, name: str) -> bool:
        return name in self._raw

    def tables(self, name: str, read: Callable[[_Value], _Read]) -> tuple[_Read, ...]:
        found = self.value(name, [])
        if not isinstance(found.raw, list):
            raise found.wrong(f"is not a list of tables; write [[{name}]] above each")
        return tuple(read(_Value(found.file, f"{found.key}[{i}]", each)) for i, each in enumerate(found.raw))

    def _path(self, name: str) -> str:
        shown = name if _BARE_KEY.fullmatch(name) else _shown(name)
        return f"{self._value.key}.{shown}" if self._value.key else shown


def _shown(raw: object) -> str:
    """A value as it stands in the file, on one line and not too long."""
    if isinstance(raw, dict):
        return "a table"
    text = json.dumps(raw, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _config(value: _Value) -> Config:
    table = _Table(value, Config, besides="file")
    return Config(
        file=value.file.absolute(),
        province=table.value("province").province(),
        database=table.value("database").database(),
        keys=table.value("keys").path(),
        entities=_entities(table.value("entities")),
        charter=_charter(table.value("charter")),
        tls=_tls(table.value("tls")),
        listeners=_listeners(table.value("listeners")),
        peers=table.tables("peers", _peer),
        relying_services=table.tables("relying_services", _relying_service),
        identity_systems=table.tables("identity_systems", _identity_system),
        administrators=table.tables("administrators", _administrator),
        auditors=table.tables("auditors", _auditor),
        anchor_enrolments=table.tables("anchor_enrolments", _anchor_enrolment),
        anchor=_anchor(table.value("anchor", {})),
        rotation=_rotation(table.value("rotation", {})),
        key_store=_key_store(table.value("key_store", {})),
        pairwise=_pairwise(table.value("pairwise", {})),
        pairwise_issuer=_pairwise(table.value("pairwise_issuer", {})),
        retention=_retention(table.value("retention", {})),
        refresh=_refresh(table.value("refresh", {})),
        limits=_limits(table.value("limits", {})),
    )


def _entities(value: _Value) -> Entities:
    table = _Table(value, Entities)
    return Entities(
        gateway=table.value("gateway").entity_id(),
        issuer=table.optional_entity_id("issuer"),
        anchor=table.optional_entity_id("anchor"),
    )


def _charter(value: _Value) -> CharterPin:
    table = _Table(value, CharterPin)
    return CharterPin(file=table.value("file").existing_file(), sha256=table.value("sha256").sha256())


def _tls(value: _Value) -> TlsFiles:
    table = _Table(value, TlsFiles)
    return TlsFiles(
        certificate=table.value("certificate").existing_file(), private_key=table.value("private_key").existing_file()
    )


def _listeners(value: _Value) -> Listeners:
    table = _Table(value, Listeners)
    verification = _Table(table.value("verification"), VerificationListener)
    federation = _Table(table.value("federation"), FederationListener)
    admin = _Table(table.value("admin"), AdminListener)
    return Listeners(
        verification=VerificationListener(
            address=verification.value("address").address(any_port=True),
            client_ca=verification.value("client_ca").existing_file(),
        ),
        federation=FederationListener(address=federation.value("address").address(any_port=True)),
        admin=AdminListener(
            address=admin.value("address").address(any_port=True),
            client_ca=admin.value("client_ca").existing_file(),
            reflection=admin.value("reflection", default=False).boolean(),
        ),
    )


def _peer(value: _Value) -> Peer:
    table = _Table(value, Peer)
    return Peer(
        province=table.value("province").province(),
        address=table.value("address").address(any_port=False),
        ca=table.value("ca").existing_file(),
        gateway=table.value("gateway").entity_id(),
    )


def _relying_service(value: _Value) -> RelyingService:
    table = _Table(value, RelyingService)
    return RelyingService(
        identity=table.value("identity").entity_id(),
        name=table.value("name").text(_NAME, "a name of 1 to 100 characters on one line"),
        sector=table.value("sector").text(_SECTOR, 'a sector in small letters (for example "household")'),
        matters=table.value("matters").matters(),
        explain=table.value("explain", default=False).boolean(),
        rate=table.value("rate").integer(MAX_RATE) if table.has("rate") else None,
        concurrency=table.value("concurrency").integer(MAX_CONCURRENT_CALLS) if table.has("concurrency") else None,
    )


def _identity_system(value: _Value) -> IdentitySystem:
    return IdentitySystem(identity=_Table(value, IdentitySystem).value("identity").entity_id())


def _administrator(value: _Value) -> Administrator:
    table = _Table(value, Administrator)
    return Administrator(identity=table.value("identity").entity_id(), roles=table.value("roles").roles())


def _auditor(value: _Value) -> Auditor:
    return Auditor(identity=_Table(value, Auditor).value("identity").entity_id())


def _anchor_enrolment(value: _Value) -> AnchorEnrolment:
    table = _Table(value, AnchorEnrolment)
    return AnchorEnrolment(
        entity_id=table.value("entity_id").entity_id(), federation_key=table.value("federation_key").sha256()
    )


def _anchor(value: _Value) -> AnchorPolicy:
    approve = _Table(value, AnchorPolicy).value("approve", AnchorPolicy().approve.value)
    return AnchorPolicy(approve=approve.choice(Approval))


def _rotation(value: _Value) -> RotationPolicy:
    table, default = _Table(value, RotationPolicy), RotationPolicy()

    def days(name: str, usual: int) -> int:
        return table.value(name, usual).integer(MAX_ROTATION_DAYS, low=0)

    return RotationPolicy(
        credential_days=days("credential_days", default.credential_days),
        status_days=days("status_days", default.status_days),
        federation_days=days("federation_days", default.federation_days),
        standby=table.value("standby", default.standby).boolean(),
    )


def _key_store(value: _Value) -> KeyStoreOptions:
    table = _Table(value, KeyStoreOptions, source="passphrase")
    return KeyStoreOptions(
        passphrase=table.source("passphrase"),
        pkcs11=_pkcs11(table.value("pkcs11")) if table.has("pkcs11") else None,
    )


def _pkcs11(value: _Value) -> Pkcs11:
    table = _Table(value, Pkcs11, source="pin")
    pin = table.source("pin")
    if pin is None:
        problem = "is missing; add it, or pin_env or pin_credential"
        raise ConfigError(problem, file=value.file, key=f"{value.key}.pin_file")
    return Pkcs11(
        module=table.value("module").existing_file(),
        token=table.value("token").text(_TOKEN_LABEL, "a token's label of 1 to 32 characters"),
        pin=pin,
    )


def _pairwise(value: _Value) -> PairwiseOptions:
    table = _Table(value, PairwiseOptions)
    version = table.value("version", PairwiseOptions().version).integer(MAX_PAIRWISE_VERSION)
    mapped_until = table.value("mapped_until").moment() if table.has("mapped_until") else None
    if mapped_until is not None and version == 1:
        raise table.value("mapped_until").wrong("needs a version before; leave it out, or set version")
    return PairwiseOptions(version=version, mapped_until=mapped_until)


def _retention(value: _Value) -> Retention:
    table, default = _Table(value, Retention), Retention()
    security = table.value("security_days", default.security_days)
    disclosure = table.value("disclosure_days", default.disclosure_days)
    return Retention(
        # The defaults are the floors of the law: nobody sets less.
        security_days=security.integer(MAX_RETENTION_DAYS, low=default.security_days),
        disclosure_days=disclosure.integer(MAX_RETENTION_DAYS, low=default.disclosure_days),
    )


def _refresh(value: _Value) -> Refresh:
    interval = _Table(value, Refresh).value("interval_seconds", Refresh().interval_seconds)
    return Refresh(interval_seconds=interval.integer(MAX_REFRESH_SECONDS))


def _limits(value: _Value) -> Limits:
    table, default = _Table(value, Limits), Limits()
    return Limits(
        threads=table.value("threads", default.threads).integer(MAX_THREADS),
        max_concurrent_calls=table.value("max_concurrent_calls", default.max_concurrent_calls).integer(
            MAX_CONCURRENT_CALLS
        ),
        caller_rate=table.value("caller_rate", default.caller_rate).integer(MAX_RATE),
        caller_concurrency=table.value("caller_concurrency", default.caller_concurrency).integer(MAX_CONCURRENT_CALLS),
    )


# -- what hangs together ----------------------------------------------------------------------------------------------


def _check_whole(file: Path, config: Config) -> None:
    own, listeners = config.entities, config.listeners
    peers, enrolments = list(enumerate(config.peers)), list(enumerate(config.anchor_enrolments))
    entities = {"entities.gateway": own.gateway, "entities.issuer": own.issuer, "entities.anchor": own.anchor}
    gateways = {f"peers[{i}].gateway": peer.gateway for i, peer in peers}
    addresses = {
        "listeners.verification.address": listeners.verification.address,
        "listeners.federation.address": listeners.federation.address,
        "listeners.admin.address": listeners.admin.address,
    }
    _distinct(file, {key: address for key, address in addresses.items() if not address.endswith(":0")})
    # One host, one entity: constraints and certificates are cut to hosts.
    _distinct(file, {key: _origin(entity) for key, entity in (entities | gateways).items() if entity is not None})
    _distinct(file, {"province": config.province} | {f"peers[{i}].province": peer.province for i, peer in peers})
    _distinct(file, {f"peers[{i}].address": peer.address for i, peer in peers})
    _distinct(file, {f"peers[{i}].ca": peer.ca for i, peer in peers})
    _check_cas(file, config)
    services = {f"relying_services[{i}].identity": each.identity for i, each in enumerate(config.relying_services)}
    systems = {f"identity_systems[{i}].identity": each.identity for i, each in enumerate(config.identity_systems)}
    _under(file, services, "entities.gateway", own.gateway)
    administrators = {f"administrators[{i}].identity": each.identity for i, each in enumerate(config.administrators)}
    _under(file, systems, "entities.issuer", own.issuer)
    auditors = {f"auditors[{i}].identity": each.identity for i, each in enumerate(config.auditors)}
    _under(file, administrators | auditors, "entities.gateway", own.gateway)
    # A service's certificate lies on a server; it must not open the keys to whoever breaks in there.
    # And whoever checks on administrators is none of them.
    _distinct(file, services | administrators | auditors)
    if own.issuer is None and config.pairwise_issuer != PairwiseOptions():
        raise ConfigError("needs an issuer; set entities.issuer", file=file, key="pairwise_issuer")
    if enrolments and own.anchor is None:
        raise ConfigError("need an anchor that vouches; set entities.anchor", file=file, key="anchor_enrolments")
    _distinct(file, {f"anchor_enrolments[{i}].entity_id": each.entity_id for i, each in enrolments})
    # Whoever holds a key of two entities could speak for both.
    _distinct(file, {f"anchor_enrolments[{i}].federation_key": each.federation_key for i, each in enrolments})


def _distinct(file: Path, values: Mapping[str, Hashable]) -> None:
    seen: dict[Hashable, str] = {}
    for key, value in values.items():
        first = seen.setdefault(value, key)
        if first != key:
            raise ConfigError(f"{_shown(value)} is already in {first}; each needs its own", file=file, key=key)


def _check_cas(file: Path, config: Config) -> None:
    """Refuse a CA of two provinces, which could name the services of both. Certificates count, not files."""
    listeners = config.listeners
    # Our own listeners may share one.
    own = (
        ("listeners.verification.client_ca", listeners.verification.client_ca),
        ("listeners.admin.client_ca", listeners.admin.client_ca),
    )
    seen = {certificate: key for key, path in own for certificate in _certificates(file, key, path)}
    for i, peer in enumerate(config.peers):
        key = f"peers[{i}].ca"
        for certificate in _certificates(file, key, peer.ca):
            first = seen.setdefault(certificate, key)
            if first != key:
                what = f"holds a certificate that {first} holds too; each province needs a CA of its own"
                raise ConfigError(f"{_shown(str(peer.ca))} {what}", file=file, key=key)


def _certificates(file: Path, key: str, path: Path) -> set[bytes]:
    """The certificates of a PEM file, as the bytes they encode: in base64 one certificate has several spellings."""
    try:
        pem = path.read_bytes()
    except OSError as error:
        problem = f"{_shown(str(path))} cannot be read ({error.strerror}); correct the path or its permissions"
        raise ConfigError(problem, file=file, key=key) from error
    try:
        return {base64.b64decode(found["body"]) for found in _CERTIFICATE.finditer(pem)}
    except ValueError as error:
        raise ConfigError(
            f"{_shown(str(path))} is not PEM; export the certificate again", file=file, key=key
        ) from error


def _under(file: Path, identities: Mapping[str, str], place: str, entity: str | None) -> None:
    for key, identity in identities.items():
        if entity is None:
            raise ConfigError(f"needs {place} to lie under; set it", file=file, key=key)
        if not identity.startswith(f"{entity}/"):
            rule = f"does not lie under {place}; begin it with {_shown(f'{entity}/')}"
            raise ConfigError(f"{_shown(identity)} {rule}", file=file, key=key)
    _distinct(file, identities)


def _origin(entity_id: str) -> str:
    return "/".join(entity_id.split("/", 3)[:3])
