"""The configuration of one province's process, as values that can be relied on.

``reader`` makes them from a TOML file, or says in one line what is wrong with it; ``writer`` makes the commented TOML
file that reads back as the same values. What the provinces agree on is not configured here: it is in the charter, of
which the configuration holds nothing but the digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.core.identifiers import Province

MAX_REFRESH_SECONDS: Final = 3_600
MAX_THREADS: Final = 256
MAX_CONCURRENT_CALLS: Final = 10_000


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
    """Where operators ask for health."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySystem:
    """A system of this province's identity authority that may have credentials issued."""

    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorEnrolment:
    """A member this province's anchor vouches for, with the thumbprint of its first federation key."""

    entity_id: str
    federation_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """How often trust documents are fetched."""

    interval_seconds: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on work at one time: threads of the verification listener, calls taken by each listener."""

    threads: int = 32
    max_concurrent_calls: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One province's process. All paths are absolute."""

    file: Path
    province: Province
    database: Path
    keys: Path
    entities: Entities
    charter: CharterPin
    tls: TlsFiles
    listeners: Listeners
    peers: tuple[Peer, ...] = ()
    relying_services: tuple[RelyingService, ...] = ()
    identity_systems: tuple[IdentitySystem, ...] = ()
    anchor_enrolments: tuple[AnchorEnrolment, ...] = ()
    refresh: Refresh = Refresh()
    limits: Limits = Limits()
