"""mrg serve --workers: several processes that start, end and are replaced as one, and let nobody else in."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.lab.folder import _free_ports
from tests.cli.test_serve import config, serving
from tests.e2e.group import gone

__all__ = ["config"]  # a fixture
SECONDS = 90


@contextmanager
def group(config: Path, *arguments: str, workers: int = 2) -> Iterator[Group]:
    with serving(config, "--json", "--workers", str(workers), *arguments) as process:
        yield Group(process)


class Group:
    """A supervisor and its processes, by what they say."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.ready = json.loads(process.stdout.readline())
        self.pids: dict[int, int] = {}
        while len(self.pids) < self.ready["workers"]:
            self.wait_for("process_started")

    def wait_for(self, event: str) -> dict[str, object]:
        """Read what they log up to an event."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            entry: dict[str, object] = json.loads(line)
            if entry["event"] == "process_started":
                self.pids[int(str(entry["worker"]))] = int(str(entry["pid"]))
            if entry["event"] == event:
                return entry
        raise AssertionError(f"they ended before {event}")


def test_they_say_when_all_are_ready_and_drain_as_one(config: Path) -> None:
    with group(config) as running:
        assert running.ready["event"] == "ready"
        assert set(running.ready["addresses"]) == {"verification", "federation", "admin"}
        running.process.send_signal(signal.SIGTERM)
        _, logged = running.process.communicate(timeout=SECONDS)
        assert running.process.returncode == 0
        gone(*running.pids.values())
    entries = [json.loads(line) for line in logged.splitlines()]
    assert {entry["worker"] for entry in entries if entry["event"] == "gateway_stopped"} == {0, 1}
    assert not [entry for entry in entries if entry["event"] == "process_died"]


def test_a_signal_to_all_of_them_drains_them_too(config: Path) -> None:
    """As a service manager sends it, to each process of the service."""
    with group(config) as running:
        for pid in (running.process.pid, *running.pids.values()):
            os.kill(pid, signal.SIGTERM)
        _, logged = running.process.communicate(timeout=SECONDS)
        assert running.process.returncode == 0
    stopped = [json.loads(line) for line in logged.splitlines() if "gateway_stopped" in line]
    assert {entry["worker"] for entry in stopped} == {0, 1}


def test_none_outlives_the_supervisor(config: Path) -> None:
    with group(config) as running:
        running.process.kill()
        gone(*running.pids.values())


def test_a_second_signal_ends_them_at_once(config: Path) -> None:
    with group(config, "--grace", "600") as running:
        for pid in running.pids.values():
            os.kill(pid, signal.SIGSTOP)  # so that none of them ends by itself
        running.process.send_signal(signal.SIGTERM)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=SECONDS) in {128 + signal.SIGINT, 128 + signal.SIGTERM}
        gone(*running.pids.values())


def test_they_end_with_the_process_that_started_them(config: Path) -> None:
    with group(config, "--exit-with-parent") as running:
        running.process.communicate(timeout=SECONDS)  # closes its standard input
        assert running.process.returncode == 0
        gone(*running.pids.values())


def test_another_that_would_serve_from_the_same_file_is_refused(config: Path) -> None:
    with group(config) as running:
        for arguments in ((), ("--workers", "2")):
            with serving(config, *arguments) as other:
                out, err = other.communicate(timeout=SECONDS)
                assert (other.returncode, out) == (2, "")
            assert "another mrg serve" in err
        # The first goes on, and when it is gone there is room.
        running.process.kill()
        gone(*running.pids.values())
    with group(config):
        pass


def test_another_that_would_share_a_port_is_refused(config: Path) -> None:
    text = config.read_text()
    with group(config) as running:
        address = running.ready["addresses"]["verification"]
        taken = re.sub(r'(?<=\[listeners.verification\]\n)address = ".*"', f'address = "{address}"', text)
        taken = taken.replace('database = "', 'database = "other-')
        assert taken != text
        other_config = config.with_name("taken.toml")
        other_config.write_text(taken)
        with serving(other_config, "--workers", "2") as other:
            out, err = other.communicate(timeout=SECONDS)
            assert (other.returncode, out) == (2, "")
        assert "listeners.verification.address" in err
        host, _, port = address.rpartition(":")
        with socket.socket() as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError):  # noqa: PT011 - whichever it is: it cannot listen there
                alone.bind((host, int(port)))


def test_who_dies_is_replaced_and_the_others_stay(config: Path) -> None:
    with group(config) as running:
        for number in (1, 0):
            before = dict(running.pids)
            os.kill(before[number], signal.SIGKILL)
            assert running.wait_for("process_died")["worker"] == number
            assert running.wait_for("gateway_started")["worker"] == number
            assert {each for each in before if running.pids[each] != before[each]} == {number}


def test_an_address_can_be_changed_while_they_serve(config: Path) -> None:
    (free,) = _free_ports()[:1]
    text = config.read_text()
    changed = re.sub(r'(?<=\[listeners.admin\]\n)address = ".*"', f'address = "127.0.0.1:{free}"', text)
    assert changed != text
    with group(config, "--connection-age", "1") as running:
        before = running.ready["addresses"]
        try:
            config.write_text(changed)
            running.process.send_signal(signal.SIGHUP)
            running.wait_for("configuration_reloaded")
        finally:
            config.write_text(text)
        assert not is_listening(before["admin"])
        assert is_listening(f"127.0.0.1:{free}")
        assert is_listening(before["federation"])


def is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_a_configuration_at_fault_is_found_before_anything_is_served(config: Path) -> None:
    broken = config.with_name("broken.toml")
    broken.write_text(re.sub(r'^keys = "keys"', 'keys = "nowhere"', config.read_text(), flags=re.MULTILINE))
    with serving(broken, "--workers", "2") as process:
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, out) == (2, "")
    assert "nowhere" in err
    assert err.count("Error: ") == 1


@pytest.mark.parametrize(
    "arguments", [("--workers", "0"), ("--workers", "65"), ("--connection-age", "0"), ("--member",)]
)
def test_what_is_no_group_is_refused(config: Path, arguments: tuple[str, ...]) -> None:
    with serving(config, *arguments) as process:
        out, _ = process.communicate("{}\n", timeout=SECONDS)
        assert (process.returncode, out) == (2, "")
