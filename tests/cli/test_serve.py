"""mrg serve as a process: ready, drained, and refused with one message when its configuration is at fault."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECONDS = 30


@pytest.fixture(scope="module")
def config(signed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the configuration of a province that listens wherever there is a free port."""
    folder = tmp_path_factory.mktemp("serve") / "ceremony"
    shutil.copytree(signed, folder)
    file = folder / "ah" / "gateway.toml"
    file.write_text(
        re.sub(r'^address = "127.0.0.1:7[0-2]03"', 'address = "127.0.0.1:0"', file.read_text(), flags=re.MULTILINE)
    )
    return file


@contextmanager
def serving(config: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        with process:  # waits, and closes the pipes
            pass


def test_it_says_when_it_is_ready_and_drains_when_told(config: Path) -> None:
    with serving(config, "--json") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert (ready["event"], ready["province"]) == ("ready", "ah")
        assert set(ready["addresses"]) == {"verification", "federation", "admin"}
        assert all(int(address.rpartition(":")[2]) > 0 for address in ready["addresses"].values())
        process.send_signal(signal.SIGTERM)
        _, logged = process.communicate(timeout=SECONDS)
        assert process.returncode == 0
    events = [json.loads(line)["event"] for line in logged.splitlines()]
    assert "gateway_started" in events
    assert events[-1] == "gateway_stopped"


def test_the_labs_clock_is_never_taken_from_a_variable_and_shows(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0\n")
    monkeypatch.setenv("MRG_LAB_CLOCK", str(tmp_path / "nowhere"))  # would be refused, were it read
    for arguments, shows in (((), False), (("--lab-clock", str(clock)), True)):
        with serving(config, *arguments) as process:
            assert process.stdout is not None
            assert ("LAB CLOCK" in process.stdout.readline()) is shows
            process.send_signal(signal.SIGTERM)
            _, logged = process.communicate(timeout=SECONDS)
            assert process.returncode == 0
        assert ("lab_clock_in_use" in logged) is shows


def test_it_ends_with_the_process_that_started_it(config: Path) -> None:
    with serving(config, "--exit-with-parent") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready: ah  verification 127.0.0.1:")
        process.communicate(timeout=SECONDS)  # closes its standard input
        assert process.returncode == 0


def test_a_second_signal_ends_it_at_once(config: Path) -> None:
    with serving(config, "--grace", "600") as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGSTOP)  # so that both signals are there before either is handled
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(timeout=SECONDS) in {128 + signal.SIGINT, 128 + signal.SIGTERM}


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (r'^province = "ah"', 'province = "xx"', "province"),
        (r"^interval_seconds", "interval_second", "interval_second"),
        (r'^sha256 = ".*"', f'sha256 = "{"A" * 43}"', "charter"),
        (r'^keys = "keys"', 'keys = "nowhere"', "nowhere"),
        (r'^database = ".*?"', 'database = "keys/nonce.secret"', "database"),
        (r'(?<=\[listeners.admin\]\n)address = ".*"', 'address = "192.0.2.1:7"', "listeners.admin.address"),
    ],
)
def test_a_configuration_at_fault_is_one_message_and_exit_2(config: Path, old: str, new: str, named: str) -> None:
    text = config.read_text()
    broken = config.with_name("broken.toml")
    broken.write_text(re.sub(old, new, text, flags=re.MULTILINE))
    assert broken.read_text() != text
    with serving(broken) as process:
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, out) == (2, "")
    error, fix = err.splitlines()
    assert error.startswith("Error: ")
    assert named in error
    assert fix.startswith("  Fix: ")


def test_a_log_level_that_is_none_is_refused(config: Path) -> None:
    with serving(config, "--log-level", "loud") as process:
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, out) == (2, "")
    assert "--log-level" in err
