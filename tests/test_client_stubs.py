"""The published Python stubs load, silently, on the oldest and on the current grpcio and protobuf."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TypedDict

import pytest

ROOT = Path(__file__).parent.parent
CLIENT = ROOT / "clients" / "python"
STUBS = CLIENT / "recognition" / "v1"
MODULES = sorted(f"recognition.v1.{path.stem}" for path in STUBS.glob("*_pb2*.py"))
OLDEST = ROOT / ".venv-oldest" / "bin" / "python"

# Runs isolated in the interpreter under test. A stub class asks the channel for every method when it is made, so making
# one of each catches code that imports well and then calls what its grpcio does not have. Nothing connects.
LOAD_EVERYTHING = """
import importlib, json, sys
from importlib.metadata import version

import grpc

client, *modules = sys.argv[1:]
sys.path.insert(0, client)
stubs = []
with grpc.insecure_channel("localhost:1") as channel:
    for module in map(importlib.import_module, modules):
        assert module.__file__.startswith(client), module.__file__
        for name, value in sorted(vars(module).items()):
            if name.endswith("Stub"):
                value(channel)
                stubs.append(name)
json.dump({"versions": {name: version(name) for name in ("grpcio", "protobuf")}, "stubs": stubs}, sys.stdout)
"""


class Loaded(TypedDict):
    versions: dict[str, str]
    stubs: list[str]


def load_everything(python: Path) -> Loaded:
    command = [str(python), "-I", "-W", "error", "-c", LOAD_EVERYTHING, str(CLIENT), *MODULES]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    loaded: Loaded = json.loads(run.stdout)
    return loaded


def lower_bounds() -> dict[str, str]:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return dict(re.findall(r"^([a-z]+)>=([0-9.]+)", "\n".join(project["dependencies"]), re.MULTILINE))


def stubs_of_the_contract() -> list[str]:
    contract = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "proto").rglob("*.proto"))
    return sorted(f"{name}Stub" for name in re.findall(r"^service (\w+) \{", contract, re.MULTILINE))


def test_they_load_on_the_oldest_versions_we_promise() -> None:
    if not OLDEST.exists():
        pytest.fail(f"{OLDEST.relative_to(ROOT)} is missing: it holds the oldest grpcio and protobuf; run `make setup`")
    loaded = load_everything(OLDEST)
    assert loaded["versions"] == lower_bounds()
    assert sorted(loaded["stubs"]) == stubs_of_the_contract()


def test_they_load_on_the_versions_the_gateway_runs_on() -> None:
    assert sorted(load_everything(Path(sys.executable))["stubs"]) == stubs_of_the_contract()


@pytest.mark.parametrize("path", sorted(STUBS.glob("*_pb2.py")), ids=lambda path: path.stem)
def test_messages_ask_for_the_protobuf_that_is_promised(path: Path) -> None:
    (wanted,) = re.findall(r"^# Protobuf Python Version: (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert wanted == lower_bounds()["protobuf"]


@pytest.mark.parametrize("path", sorted(STUBS.glob("*_pb2_grpc.py")), ids=lambda path: path.stem)
def test_services_ask_for_the_grpcio_that_is_promised(path: Path) -> None:
    (wanted,) = re.findall(r"^GRPC_GENERATED_VERSION = '(\S+)'$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert wanted == lower_bounds()["grpcio"]
