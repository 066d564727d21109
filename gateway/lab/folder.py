"""The lab's folder: four provinces on one machine, with everything they need to run and nothing of a real province.

    lab.json        marks the folder as a lab's; only a folder with this mark is ever deleted
    running         locked by the process that runs the lab, whose number is in it
    clock           seconds by which the lab's clock differs from the machine's
    <province>/     as ``gateway.provision`` makes it, and gateway.log

Keys stay when the lab is stopped and started again, ports as long as nobody else took them.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Final

from gateway.clock import MAX_LAB_OFFSET, World, lab_world, set_lab_offset, system_world
from gateway.config import ConfigError
from gateway.config.reader import load_config
from gateway.core.charter import add_signature, draft, parse_charter, unsigned
from gateway.core.identifiers import Province
from gateway.keystore.file import FileKeyStore
from gateway.lab.cast import XU, XU_FILE, identity_system, relying_services
from gateway.lab.charter import charter_claims, entity_ids
from gateway.provision import ProvisionError, files
from gateway.provision.answers import Answers, Service
from gateway.provision.cards import read_card
from gateway.provision.province import (
    CARD_FILE,
    CHARTER_FILE,
    CONFIG_FILE,
    Validity,
    complete_province,
    create_province,
)
from gateway.storage import StorageError
from gateway.storage.opening import exists, open_stores

DEFAULT: Final = Path(".lab")
MARK: Final = "lab.json"
_LOCK: Final = "running"
FORMAT: Final = 2
"""Raised when a lab made before cannot be started any more: other files, another store."""
REFRESH_SECONDS: Final = 2
"""Short, so that what happens in one province is seen in the others while somebody watches."""
_HOST: Final = "127.0.0.1"
_LISTENERS: Final = 3
_LOWEST_PORT: Final = 20_000
_BLOCKS_TRIED: Final = 50
# The clock of the lab can be set ten years either way, and a caller's certificate is judged by it.
_MARGIN: Final = timedelta(days=10)
_VALIDITY: Final = Validity(
    begins=MAX_LAB_OFFSET + _MARGIN, ca=2 * (MAX_LAB_OFFSET + _MARGIN), end=2 * (MAX_LAB_OFFSET + _MARGIN)
)


class LabError(Exception):
    """The lab cannot do that. ``fix`` says what to do about it."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}; {fix}")
        self.problem = problem
        self.fix = fix


@dataclass(frozen=True, slots=True)
class LabFolder:
    """Where everything of one lab lies."""

    path: Path

    @property
    def clock(self) -> Path:
        """The clock file that all its processes read."""
        return self.path / "clock"

    def province(self, province: Province) -> Path:
        """A province's own folder."""
        return self.path / province.code

    def config(self, province: Province) -> Path:
        """A province's configuration."""
        return self.province(province) / CONFIG_FILE

    def log(self, province: Province) -> Path:
        """What a province's process writes."""
        return self.province(province) / "gateway.log"

    def profile(self, province: Province, client: str) -> Path:
        """How a client of a province reaches its gateway."""
        return self.province(province) / "clients" / f"{client}.toml"

    def keys(self, province: Province) -> Path:
        """A province's key store."""
        return self.province(province) / "keys"

    def world(self) -> World:
        """The clock of the lab, and randomness.

        Raises:
            LabError: the clock cannot be read.
        """
        try:
            return lab_world(self.clock)
        except ValueError as error:
            raise LabError(str(error), "or make the lab anew with mrg lab up --fresh") from error

    @property
    def offset(self) -> int:
        """Seconds by which the lab's clock differs from the machine's."""
        system = system_world().now()
        return round((self.world().now() - system).total_seconds())

    def set_offset(self, seconds: int) -> None:
        """Set the clock of every process of the lab.

        Raises:
            LabError: it is more than ten years, or the file cannot be written.
        """
        try:
            set_lab_offset(self.clock, seconds)
        except ValueError as error:
            raise LabError(str(error), "ten years either way is the most") from error
        except OSError as error:
            raise LabError(f"{self.clock}: cannot be written ({error.strerror})", "check its permissions") from error

    def forget_clock_floors(self) -> None:
        """Let every province believe a clock that was set back: who sets it here knows that it was set.

        Raises:
            LabError: a store cannot be used.
        """
        for province in Province:
            try:
                config = load_config(self.config(province))
                if exists(config):
                    with closing(open_stores(config)) as stores:
                        stores.trust.reset_clock_floor()
            except (ConfigError, StorageError) as error:
                raise LabError(str(error), "make the lab anew with mrg lab up --fresh") from error


def find_lab(path: Path) -> LabFolder:
    """Give a lab that exists.

    Raises:
        LabError: there is none, or it was never finished.
    """
    mark = _read_mark(path)
    if mark is not None:
        _check_format(path, mark)
    if mark is None or not mark.ports:
        raise LabError(f"{path}: there is no lab here", "make one with mrg lab up, or name its folder with --dir")
    return LabFolder(path)


def prepare_lab(path: Path, *, fresh: bool = False) -> LabFolder:
    """Make a lab, or see that an existing one can be started: its charter in force, its ports free.

    Args:
        path: its folder; made when missing.
        fresh: delete the lab that is there, its keys included, and make another; also one of a version before.

    Raises:
        LabError: the folder is something else's, or cannot be used.
    """
    mark = _read_mark(path)
    if mark is not None and running_pid(path) is not None:
        raise _running(path)
    if mark is None and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise LabError(f"{path}: is no lab and not empty", "name another folder with --dir")
    if fresh and mark is not None:
        shutil.rmtree(path)
        mark = None
    if mark is not None:
        _check_format(path, mark)
    folder = LabFolder(path)
    try:
        if mark is None or not mark.ports:
            _create(folder)
        elif not _are_free(mark.ports):
            _move(folder)
    except ProvisionError as error:
        raise LabError(str(error), "or make the lab anew with mrg lab up --fresh") from error
    _check_charter(folder)
    return folder


# -- one at a time ----------------------------------------------------------------------------------------------------


def lock_lab(path: Path) -> IO[bytes]:
    """Keep a lab for this process until the file given is closed, at the latest by its end.

    Raises:
        LabError: another process has it.
    """
    lock = (path / _LOCK).open("a+b")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise _running(path) from None
    lock.truncate(0)
    lock.write(str(os.getpid()).encode("ascii"))
    lock.flush()
    return lock


def running_pid(path: Path) -> int | None:
    """The process that runs this lab, for people to know; None when nobody does."""
    try:
        with (path / _LOCK).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or b"0")
    except FileNotFoundError:
        return None
    return None


def _running(path: Path) -> LabError:
    return LabError(
        f"{path}: this lab is running already, in process {running_pid(path)}", "stop that one, or name another --dir"
    )


# -- the mark ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mark:
    ports: tuple[int, ...]
    """Of all listeners, in the order of provinces; empty while the lab is being made."""
    format: int
    """At most ours."""


def _read_mark(path: Path) -> _Mark | None:
    mark = path / MARK
    try:
        content = json.loads(mark.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LabError(f"{mark}: cannot be read", "name another folder with --dir") from error
    members = content if isinstance(content, dict) else {}
    made_as, ports = members.get("mrg_lab"), members.get("ports")
    if type(made_as) is not int or not 1 <= made_as <= FORMAT or not isinstance(ports, list):
        raise LabError(f"{mark}: is not the mark of a lab of this version", "name another folder with --dir")
    return _Mark(tuple(ports), made_as)


def _check_format(path: Path, mark: _Mark) -> None:
    if mark.format != FORMAT:
        raise LabError(f"{path}: this lab was made by a version before", "make it anew with mrg lab up --fresh")


def _write_mark(path: Path, ports: Sequence[int]) -> None:
    files.write(path / MARK, files.pretty({"mrg_lab": FORMAT, "ports": list(ports)}), files.PUBLIC)


# -- making -----------------------------------------------------------------------------------------------------------


def _create(folder: LabFolder) -> None:
    files.make_folder(folder.path)
    _write_mark(folder.path, ())
    # Private keys: kept out of whatever repository the lab happens to lie in.
    files.write(folder.path / ".gitignore", b"*\n", files.PUBLIC)
    files.write(folder.clock, b"0\n", files.PUBLIC)
    files.write(folder.path / XU_FILE, files.pretty(XU.claims), files.PUBLIC)
    ports = _free_ports()
    _provision(folder, ports)
    document = _ceremony(folder)
    _complete(folder, document)
    _write_mark(folder.path, ports)


def _move(folder: LabFolder) -> None:
    """Give the lab other ports, because somebody else took one. Keys, charter and store stay."""
    ports = _free_ports()
    _provision(folder, ports)
    _complete(folder, folder.province(Province.SHANGHAI).joinpath(CHARTER_FILE).read_text("utf-8"))
    _write_mark(folder.path, ports)


def _provision(folder: LabFolder, ports: Sequence[int]) -> None:
    for index, province in enumerate(Province):
        create_province(
            folder.province(province),
            _answers(province, ports[index * _LISTENERS : (index + 1) * _LISTENERS]),
            system_world(),
            _VALIDITY,
        )


def _answers(province: Province, ports: Sequence[int]) -> Answers:
    ids = entity_ids(province)
    verification, federation, admin = (f"{_HOST}:{port}" for port in ports)
    return Answers(
        province=province,
        gateway=ids.gateway,
        issuer=ids.issuer,
        anchor=ids.anchor,
        verification_address=verification,
        federation_address=federation,
        admin_address=admin,
        reached_at=_HOST,
        dns_names=("localhost",),
        ip_addresses=(_HOST,),
        services=tuple(
            Service(name=role.name, title=role.title.zh, sector=role.sector, matters=role.matters, explain=True)
            for role in relying_services(province)
        ),
        systems=(identity_system(province).name,),
        refresh_seconds=REFRESH_SECONDS,
    )


def _ceremony(folder: LabFolder) -> str:
    """Draft the charter, and have each province sign it with the key of its anchor, as people would in turn."""
    signers = {province: FileKeyStore.open(folder.keys(province)).sole("anchor-federation") for province in Province}
    claims = charter_claims({province: signer.public for province, signer in signers.items()}, system_world().now())
    document = unsigned(draft(claims))
    for signer in signers.values():
        document = add_signature(document, signer)
    return document


def _complete(folder: LabFolder, document: str) -> None:
    places = [folder.province(province) / CARD_FILE for province in Province]
    cards = {place: read_card(place) for place in places}
    sha256 = parse_charter(document).unverified.sha256
    for province in Province:
        complete_province(folder.province(province), cards, document, sha256, replace=True)


def _check_charter(folder: LabFolder) -> None:
    charter = parse_charter(folder.province(Province.SHANGHAI).joinpath(CHARTER_FILE).read_text("utf-8")).unverified
    if folder.world().now() >= charter.expires_at:
        raise LabError(
            f"{folder.path}: the lab's charter has expired by the lab's clock",
            "set the clock back with mrg lab clock, or make the lab anew with mrg lab up --fresh",
        )


# -- ports ------------------------------------------------------------------------------------------------------------


def _free_ports() -> Sequence[int]:
    """Find a run of free ports.

    Below those that the system gives to outgoing connections: a port of a province that is down would otherwise be
    taken by anybody's next connection, and the province could not come back.
    """
    count = len(Province) * _LISTENERS
    blocks = (_first_outgoing_port() - _LOWEST_PORT) // count
    random = system_world().random_bytes
    for _attempt in range(_BLOCKS_TRIED):
        first = _LOWEST_PORT + int.from_bytes(random(4), "big") % blocks * count
        ports = range(first, first + count)
        if _are_free(ports):
            return ports
    raise LabError("no run of free ports was found on 127.0.0.1", "stop what listens there, and try again")


def _are_free(ports: Sequence[int]) -> bool:
    for port in ports:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
            # As the gateway's own listeners: connections that just ended are not in the way, a listener is.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                return False
    return True


def _first_outgoing_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 49_152  # where RFC 6335 section 6 has them begin; Linux differs
