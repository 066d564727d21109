"""What the pages of the API say is true of a running federation: every line works, and only those named may call."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory

from gateway.lab.callers import Profile, connect
from gateway.lab.federation import Lab
from gateway.lab.folder import prepare_lab
from reference.__main__ import ROOT
from reference.calls import ADDRESSES, AUDITOR, CALLS, GATEWAY, IDENTITY, KEYS, SERVICE, Caller
from tests.test_readme import SERVICE_PAGES, read

pytestmark = pytest.mark.long
CLIENTS = (SERVICE, IDENTITY, GATEWAY, KEYS, AUDITOR)
"""As the lab has them; its administrators have all roles."""
OTHERWISE = {
    ("ListDisclosures", GATEWAY.certificate): {"subjects": {"issuer": "https://issuer.sh.mrg.example", "subjects": []}}
}
DENIED = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}
MOMENT = "2126-01-02T03:04:05Z"
REFERENCE = "A" * 22
SECONDS = 5.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder that looks like the repository's, with the lab running."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "proto").symlink_to(ROOT / "proto")
    with Lab(prepare_lab(folder / ".lab")) as lab:
        lab.start()
        yield folder


# -- the lines --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("grpcurl") is None, reason="grpcurl is not installed")
@pytest.mark.parametrize("page", SERVICE_PAGES, ids=lambda page: page.name)
def test_every_line_works(page: Path, home: Path) -> None:
    script = "\n".join(block.text for block in read(page).blocks if block.language == "sh")
    # Each command that fails says so, and the next one runs.
    told = "set -o pipefail\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", told + script],
        cwd=home,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    calls = CALLS[read(page).headings[0][1]]
    failed = re.findall(r"(?m)^failed: .*?(?:/(\w+))?(?: \| tee \S+)?$", done.stderr)
    codes = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code).upper() for code in re.findall(r"Code: (\w+)", done.stderr)]
    assert list(zip(failed, codes, strict=True)) == [(name, call.ends) for name, call in calls.items() if call.ends]


# -- who may call -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def channels(home: Path) -> Iterator[Sequence[tuple[Caller, grpc.Channel]]]:
    opened = [(client, connect(profile(home, client))) for client in CLIENTS]
    yield opened
    for _, channel in opened:
        channel.close()


def profile(home: Path, client: Caller) -> Profile:
    found = subprocess.run(
        ["sh", "-c", ADDRESSES[client.address]], cwd=home, capture_output=True, text=True, check=True
    )
    return Profile(
        address=found.stdout.strip(),
        ca=home / client.ca,
        certificate=home / f"{client.certificate}.pem",
        private_key=home / f"{client.certificate}.key",
    )


@pytest.mark.parametrize("service", CALLS)
def test_only_those_named_may_call(service: str, channels: Sequence[tuple[Caller, grpc.Channel]]) -> None:
    for name, call in CALLS[service].items():
        may = {
            client.certificate
            for client, channel in channels
            if answer(channel, service, name, OTHERWISE.get((name, client.certificate), call.body)) not in DENIED
        }
        assert may == {each.certificate for each in call.callers}, name


def answer(channel: Any, service: str, name: str, body: object) -> grpc.StatusCode:
    """Call with what the page shows, and say how it ends."""
    method = descriptor_pool.Default().FindServiceByName(f"recognition.v1.{service}").methods_by_name[name]
    request = message_factory.GetMessageClass(method.input_type)()
    text = re.sub(r"\$(NOW|UNTIL)\b", MOMENT, json.dumps(body))
    json_format.Parse(re.sub(r"\$[A-Z_]+", REFERENCE, text), request)
    path, sent = f"/recognition.v1.{service}/{name}", request.SerializeToString()
    try:
        if name == "StreamVerifyCredentials":
            list(channel.stream_stream(path)(iter([sent]), timeout=SECONDS, wait_for_ready=True))
        elif name == "WatchTrust":
            list(channel.unary_stream(path)(sent, timeout=SECONDS, wait_for_ready=True))
        else:
            channel.unary_unary(path)(sent, timeout=SECONDS, wait_for_ready=True)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK
