"""The configuration of one province's process, as values that can be relied on.

``reader`` makes them from a TOML file, or says in one line what is wrong with it; ``writer`` makes the commented TOML
file that reads back as the same values. What the provinces agree on is not configured here: it is in the charter, of
which the configuration holds nothing but the digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit

from gateway.core.entries import MIN_RETENTION, Keep
from gateway.core.identifiers import Province
from gateway.core.vouching import Approval

MAX_REFRESH_SECONDS: Final = 3_600
MAX_THREADS: Final = 256
MAX_CONCURRENT_CALLS: Final = 10_000
MAX_RATE: Final = 1_000_000
MAX_ROTATION_DAYS: Final = 1_095
"""Three years: nobody who sets more means to rotate."""
MAX_PAIRWISE_VERSION: Final = 999
MAX_RETENTION_DAYS: Final = 36_525
MAX_MAPPING_DAYS: Final = 1_095
"""Likewise: whoever gives out old subjects for longer has not replaced the key."""


class ConfigError(ValueError):
    """The configuration is at fault; its author has to change it. ``str`` is one line: file, key, problem, mend."""

    def __init__(self, problem: str, *, file: Path, key: str = "", line: int | None = None) -> None:
        """Say what is wrong and how to mend it, and where.

        Args:
            problem: one sentence.
            file: the configuration file.
            key: path of the key, as in ``peers[0].address``; empty when the file as a whole is at fault.
            line: line of a syntax error.
        """
        place = str(file) if line is None else f"{file}:{line}"
        super().__init__(": ".join(part for part in (place, key, " ".join(problem.split())) if part))
        self.file = file
        self.key = key
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Entities:
    """Entity identifiers of the roles this process plays."""

    gateway: str
    issuer: str | None
    anchor: str | None


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """Where a PostgreSQL database is, as libpq reads it. No password is in it, so that it may be shown."""

    url: str

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            ValueError: it is no such URL, or says what is not said there; the message shows nothing of it.
        """
        if not self.url.isprintable() or " " in self.url:
            raise ValueError("is not a URL")
        parts = urlsplit(self.url)
        if parts.scheme not in POSTGRES_SCHEMES or not parts.path.strip("/") or parts.fragment:
            raise ValueError("is not of the form postgresql://user@host:port/name")
        if ":" in parts.netloc.rpartition("@")[0]:
            raise ValueError("holds a password; put it into the file that PGPASSFILE or ?passfile= names")
        for name, _ in parse_qsl(parts.query, keep_blank_values=True):
            if name not in _POSTGRES_PARAMETERS:
                raise ValueError(f"may say after the question mark only {', '.join(sorted(_POSTGRES_PARAMETERS))}")

    def __str__(self) -> str:
        """Give the URL."""
        return self.url


POSTGRES_SCHEMES: Final = ("postgresql", "postgres")
_POSTGRES_PARAMETERS: Final = frozenset(
    {
        "channel_binding",
        "host",
        "passfile",
        "port",
        "require_auth",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
        "user",
    }
)
"""Who is asked and how it is made sure that it is they. All else is set here (``storage.postgres_connection``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CharterPin:
    """The first charter, and the SHA-256 of its payload (base64url) that people compared."""

    file: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """This process's certificate and its private key, used on every listener and towards peers."""

    certificate: Path
    private_key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationListener:
    """Where service backends and identity systems call."""

    address: str
    client_ca: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationListener:
    """Where other provinces call. It accepts the peers' CAs and the verification listener's."""

    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminListener:
    """Where administrators call, and operators ask for health."""

    address: str
    client_ca: Path
    reflection: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """The three listeners, kept apart so that none can starve another."""

    verification: VerificationListener
    federation: FederationListener
    admin: AdminListener


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another province's gateway."""

    province: Province
    address: str
    ca: Path
    gateway: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RelyingService:
    """A service backend that may ask for verdicts. Its identity is the URI of its certificate, and its audience."""

    identity: str
    name: str
    sector: str
    """Services of one sector see the same pairwise subject for a person; services of two cannot compare notes."""
    matters: frozenset[str]
    explain: bool = False
    """Whether it may have its own decisions explained step by step: for whoever develops it."""
    rate: int | None = None
    """Credentials a second that it may bring to one process; None: see ``Limits``."""
    concurrency: int | None = None
    """Calls that it may have open at one process; None: see ``Limits``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySystem:
    """A system of this province's identity authority that may have credentials issued."""

    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where a passphrase or a PIN is: in exactly one of these three. What it is, no configuration says."""

    file: Path | None = None
    env: str | None = None
    """A variable of the process."""
    credential: str | None = None
    """A credential that systemd lays out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11:
    """The token that keys are made in, and never leave."""

    module: Path
    """The maker's PKCS#11 library."""
    token: str
    """The token's label."""
    pin: SecretSource


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStoreOptions:
    """What the key store needs beside its folder."""

    passphrase: SecretSource | None = None
    """None: key files are not encrypted."""
    pkcs11: Pkcs11 | None = None
    """None: keys are files."""

    @property
    def protection(self) -> Literal["none", "passphrase", "token"]:
        """What keeps a key that is made from now on from whoever gets hold of the disk."""
        if self.pkcs11 is not None:
            return "token"
        return "none" if self.passphrase is None else "passphrase"


class Role(StrEnum):
    """What an administrator may do. Whoever is to check on administrators is none: see ``Auditor``."""

    KEYS = "keys"
    """This province's own keys."""
    ANCHOR = "anchor"
    """The members that its anchor vouches for."""
    EXPLAIN = "explain"
    """How any decision of this gateway came about; changes nothing."""
    DISPUTES = "disputes"
    """To record that a verification is contested, and how that was settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """A person who may change things on the admin listener. Their identity is the URI of their certificate."""

    identity: str
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Auditor:
    """A person who may read the log on the admin listener, and change nothing. None of them is an administrator."""

    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorEnrolment:
    """A member this province's anchor vouches for, with the thumbprint of its first federation key."""

    entity_id: str
    federation_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorPolicy:
    """How this province's anchor takes to new keys of its members."""

    approve: Approval = Approval.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationPolicy:
    """After how many days a key's successor is made and takes over; 0: only when an administrator says so."""

    credential_days: int = 90
    status_days: int = 90
    federation_days: int = 365
    standby: bool = True
    """Keep the next key of each purpose published, so that it can take over at once should the present one leak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseOptions:
    """Which version of a secret makes pairwise subjects, and until when those of the version before are given too."""

    version: int = 1
    mapped_until: datetime | None = None
    """None: the new ones alone are given."""

    def mapped_version(self, now: datetime) -> int | None:
        """Give the version whose subjects are given beside the present ones; None: there is none, or no more."""
        if self.mapped_until is None or now >= self.mapped_until:
            return None
        return self.version - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """How often trust documents are fetched."""

    interval_seconds: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """For how many days entries of the log are kept. The law's floors are the least; see ``core.entries.Keep``."""

    security_days: int = MIN_RETENTION[Keep.SECURITY].days
    disclosure_days: int = MIN_RETENTION[Keep.DISCLOSURE].days


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on work at one time: threads of the verification listener, calls taken by each listener.

    And what each caller of the verification listener may have of it.
    """

    threads: int = 32
    max_concurrent_calls: int = 256
    caller_rate: int = 10_000
    """Credentials a second: more than one core verifies, so that it bounds only who is given less."""
    caller_concurrency: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One province's process. All paths are absolute."""

    file: Path
    province: Province
    database: Path | PostgresUrl
    keys: Path
    entities: Entities
    charter: CharterPin
    tls: TlsFiles
    listeners: Listeners
    peers: tuple[Peer, ...] = ()
    relying_services: tuple[RelyingService, ...] = ()
    identity_systems: tuple[IdentitySystem, ...] = ()
    administrators: tuple[Administrator, ...] = ()
    auditors: tuple[Auditor, ...] = ()
    anchor_enrolments: tuple[AnchorEnrolment, ...] = ()
    anchor: AnchorPolicy = AnchorPolicy()
    rotation: RotationPolicy = RotationPolicy()
    key_store: KeyStoreOptions = KeyStoreOptions()
    pairwise: PairwiseOptions = PairwiseOptions()
    """Of the subjects that relying services are given."""
    pairwise_issuer: PairwiseOptions = PairwiseOptions()
    """Of the subjects in what our issuer signs."""
    retention: Retention = Retention()
    refresh: Refresh = Refresh()
    limits: Limits = Limits()
