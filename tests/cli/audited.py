"""A province's log, with entries in it that others have seen, served over real mutual TLS by the real service."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.certificates import ChannelMaterial
from gateway.clock import system_world
from gateway.server.audit import AuditServicer, Entitled
from gateway.server.listener import Listener
from gateway.tls import CallerReader
from tests.cli.ceremony import Ceremony, Ended, mrg
from tests.federation import AH, Federation

NAMES = "https://gateway.ah.test"


@dataclass
class Audited:
    """Anhui's log, and how those who may ask reach it."""

    federation: Federation
    folder: Path
    """Anhui's, with its clients' profiles."""
    port: int
    charter: Path
    database: Path

    def reach(self, name: str = "auditor-1") -> list[str]:
        return ["--as", str(self.folder / "clients" / f"{name}.toml"), "--address", f"127.0.0.1:{self.port}"]

    def mrg(self, *arguments: str | Path, name: str = "auditor-1") -> Ended:
        return mrg(*arguments, *self.reach(name))

    def verify(self, *arguments: str | Path) -> Ended:
        return self.mrg("audit", "verify", "--charter", self.charter, *arguments)

    def verified(self) -> str:
        """Have somebody verified in Anhui; gives the number."""
        answer = self.federation.verify(*self.federation.present(self.federation.issue()))
        return answer.verification_id

    def edit(self, statement: str, *values: object) -> None:
        """Edit the database, as somebody with the machine could."""
        with closing(sqlite3.connect(self.database)) as db, db:
            assert db.execute(statement, values).rowcount


@contextmanager
def audited(federation: Federation, drafted: Path, tmp_path: Path) -> Iterator[Audited]:
    """Serve Anhui's log. One listener for all who may ask."""
    federation.publish()
    folder = drafted / "ah"
    tls = folder / "tls"
    world = system_world()  # certificates are judged by it; the log by the federation's
    ca = (tls / "ca.pem").read_bytes()
    callers = CallerReader({ca: (NAMES, "https://issuer.ah.test")})
    material = ChannelMaterial(
        certificate=(tls / "server.pem").read_bytes(), private_key=(tls / "server.key").read_bytes(), cas=ca
    )
    entitled = Entitled(
        auditors={f"{NAMES}/auditors/auditor-1"},
        dispute_officers={f"{NAMES}/administrators/admin-1"},
        identity_systems={"https://issuer.ah.test/systems/identity"},
        gateways=lambda: [peer.gateway for peer in federation[AH].peers.values()],
    )
    listener = Listener(
        address="127.0.0.1:0",
        material=lambda: material,
        callers=callers,
        threads=4,
        max_concurrent_calls=16,
        world=world,
    )
    listener.add_audit(AuditServicer(federation[AH].records, entitled, callers, world))
    listener.start()
    charter = tmp_path / "charter.json"
    charter.write_text(federation.charter.document)
    try:
        yield Audited(
            federation=federation,
            folder=folder,
            port=listener.port,
            charter=charter,
            database=federation.directory / "ah.sqlite",
        )
    finally:
        listener.stop(0)()


def configured(ceremony: Ceremony, federation: Federation) -> Path:
    """Give Anhui's configuration, over the database of a federation in memory."""
    folder = ceremony.folder / "ah"
    (folder / "charter.json").write_text(federation.charter.document)
    config = folder / "gateway.toml"
    text = re.sub(r'(?m)^sha256 = ".*"', f'sha256 = "{federation.charter.sha256}"', config.read_text())
    config.write_text(re.sub(r'(?m)^database = ".*?"', f'database = "{federation.directory / "ah.sqlite"}"', text))
    return config
