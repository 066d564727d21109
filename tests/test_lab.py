"""The lab as people run it: real processes, real ports, mutual TLS.

One federation serves all tests of this file, as long as they run in one process (``--dist loadfile``).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.cli import lab as commands
from gateway.cli import run
from gateway.cli.console import Failure
from gateway.config.reader import load_config
from gateway.core.identifiers import Province
from gateway.lab.cast import XU, Words
from gateway.lab.charter import COURT_FILING, entity_ids
from gateway.lab.folder import LabError, LabFolder, find_lab, prepare_lab
from gateway.lab.stage import Step
from gateway.provision.cards import read_card
from gateway.provision.province import CARD_FILE

DEADLINE_SECONDS = 90.0
SH, JS, ZJ, AH = Province


def mrg(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "gateway", *map(str, arguments)]


def ask(*arguments: str | Path) -> tuple[int, Any]:
    """Run a command that writes one JSON document."""
    done = subprocess.run(
        mrg(*arguments, "--json"), capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
    )
    return done.returncode, json.loads(done.stdout)


def until(met: Callable[[], bool]) -> None:
    """Look again and again; what is waited for happens in other processes, which cannot tell us."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not met():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def processes(folder: Path) -> list[int]:
    """The provinces' processes of one lab, found by the folder in their command lines."""
    return [pid for pid, command in _command_lines() if " serve " in command and f" {folder}/" in command]


def _command_lines() -> Iterator[tuple[int, str]]:
    if not Path("/proc/self/cmdline").exists():
        listed = subprocess.run(
            ["/bin/ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True
        )
        yield from ((int(line.split()[0]), line) for line in listed.stdout.splitlines())
        return
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                yield int(entry.name), (entry / "cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab") / "four"


# -- the day, once ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Played:
    exit_code: int
    lines: Sequence[str]
    left: Sequence[int]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture(scope="module")
def demo(folder: Path) -> Played:
    done = subprocess.run(
        mrg("lab", "demo", "--json", "--dir", folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )
    return Played(done.returncode, done.stdout.splitlines(), processes(folder))


def test_the_day_goes_as_expected(demo: Played) -> None:
    assert [step["step"] for step in demo.steps if not step["met"]] == []
    assert demo.exit_code == 0


def test_each_line_is_one_step_with_the_promised_members_first(demo: Played) -> None:
    for step in demo.steps:
        assert list(step)[:4] == ["step", "expected", "verdict", "reason"]
        assert (step["verdict"], step["reason"]) == (step["expected"], step["expected_reason"])


def test_each_province_recognises_every_other(demo: Played) -> None:
    accepted = {step["step"] for step in demo.steps if step["verdict"] == "accepted"}
    pairs = {f"{home.code}-credential-in-{place.code}" for home in Province for place in Province if home != place}
    assert len(pairs) == 12
    assert pairs <= accepted


def test_every_cheat_is_turned_away_for_its_own_reason(demo: Played) -> None:
    reasons = {step["step"]: step["reason"] for step in demo.steps if step["verdict"] == "rejected"}
    assert reasons == {
        "replayed-presentation": "REPLAYED",
        "replayed-assertion": "REPLAYED",
        "made-for-another-service": "AUDIENCE_MISMATCH",
        "made-for-another-province": "AUDIENCE_MISMATCH",
        "assertion-for-another": "AUDIENCE_MISMATCH",
        "answers-another-challenge": "NONCE_MISMATCH",
        "assurance-too-low": "ASSURANCE_TOO_LOW",
        "claim-withheld": "REQUIRED_CLAIM_MISSING",
        "tampered-disclosure": "DISCLOSURE_INVALID",
        "tampered-signature": "SIGNATURE_INVALID",
        "expired": "EXPIRED",
        "key-binding-stripped": "KEY_BINDING_MISSING",
        "stolen-credential": "KEY_BINDING_INVALID",
        "forged-by-a-province": "KEY_UNKNOWN",
        "self-made-issuer": "ISSUER_UNKNOWN",
        "guardian-of-another-matter": "AUTHORITY_EXCEEDED",
        "agent-instead-of-guardian": "ACTOR_NOT_ACCEPTED",
        "newborn-no-consent": "CONSENT_MISSING",
        "newborn-consent-of-another": "CONSENT_INVALID",
        "newborn-consent-withdrawn": "CONSENT_WITHDRAWN",
        "enterprise-authority-ended": "AUTHORITY_EXCEEDED",
        "enterprise-by-a-person": "CREDENTIAL_TYPE_NOT_ACCEPTED",
        "revoked": "CREDENTIAL_REVOKED",
        "suspended": "CREDENTIAL_SUSPENDED",
        "residence-moved": "ATTRIBUTES_STALE",
        "evidence-of-another-verdict": "LOG_ENTRY_INVALID",
    }
    (refused,) = (step for step in demo.steps if step["verdict"] == "not_permitted")
    assert refused["step"] == "matter-not-registered"


def test_an_outage_harms_nobody_else(demo: Played) -> None:
    verdicts = {step["step"]: (step["verdict"], step["reason"]) for step in demo.steps[-5:]}
    assert verdicts == {
        "issuer-down": ("accepted", ""),
        "restarted-alone": ("accepted", ""),
        "status-too-old": ("indeterminate", "STATUS_UNAVAILABLE"),
        "status-old-enough-for-a-licence": ("accepted", ""),
        "all-back": ("accepted", ""),
    }


def test_the_demo_leaves_no_process(demo: Played) -> None:
    assert demo.left == []


# -- the lab while it serves ------------------------------------------------------------------------------------------


class Up:
    """``mrg lab up`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            mrg("lab", "up", "--lang", "en", "--dir", folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        # Reading what it says has no deadline of its own; its end has.
        self.watchdog = threading.Timer(DEADLINE_SECONDS, self.process.kill)
        self.watchdog.start()
        self.said: list[str] = []

    def wait_until_it_serves(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if "Ctrl-C" in line:
                return
        pytest.fail("it ended before it served")

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait()
        self.close()
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.watchdog.cancel()
        self.watchdog.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def up(demo: Played, folder: Path) -> Iterator[Up]:
    """The lab of the demo, started again: its keys and stores are still there."""
    started = Up(folder)
    try:
        started.wait_until_it_serves()
        yield started
    finally:
        started.close()
        until(lambda: not processes(folder))


def test_a_lab_can_be_started_again(up: Up) -> None:
    assert "59 steps, 59 as expected.\n" in up.said
    assert len(processes(up.folder)) == 4


def test_what_it_says_to_try_next_works(up: Up) -> None:
    begins = up.said.index("Try next, in another terminal:\n") + 1
    said = [line.strip() for line in up.said[begins:] if line.startswith("  ")]
    wanted = [line for line in said if "lab clock" not in line]
    done = subprocess.run(
        ["/bin/sh", "-c", "\n".join(("set -e", *wanted))],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
        cwd="/",  # a new terminal: another folder, and no mrg in the search path
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    assert "ACCEPTED" in done.stdout
    assert sum(line.startswith("mrg ") for line in wanted) == 8


def test_status_tells_who_recognises_whom(up: Up) -> None:
    code, status = ask("lab", "status", "--dir", up.folder)
    assert code == 0
    assert status["pid"] == up.process.pid
    everybody = {province.code: True for province in Province}
    assert status["provinces"] == {province.code: {"answers": True, "recognises": everybody} for province in Province}


def test_one_lab_runs_in_one_folder_only(up: Up) -> None:
    done = subprocess.run(mrg("lab", "up", "--fresh", "--dir", up.folder), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "running already" in done.stderr
    assert len(processes(up.folder)) == 4


def test_software_of_another_vendor_can_be_an_issuer_with_the_labs_key(up: Up) -> None:
    """Nothing of ours but the file: cryptography reads the key, PyJWT signs."""
    _, document = ask("lab", "keys", "--dir", up.folder)
    entry = next(key for key in document["keys"] if (key["province"], key["role"]) == ("zj", "issuer-credential"))
    key = load_pem_private_key(Path(entry["file"]).read_bytes(), None)
    now = int(time.clock_gettime(time.CLOCK_REALTIME))
    claims = {
        "iss": entry["entity"],
        "sub": "v1.another-vendors-subject",
        "sub_type": "natural",
        "aud": f"{entity_ids(JS).gateway}/services/court",
        "iat": now,
        "exp": now + 120,
        "jti": f"another-vendor-{now}-{os.getpid()}",
        "acr": "urn:yrd:loa:3",
        "amr": ["face"],
        "auth_time": now,
        "assurance": {"ial": 2, "aal": 2, "fal": 3},
        "verified_claims": {
            "verification": {"trust_framework": "urn:yrd:framework:mutual-recognition:1"},
            "claims": {"name": XU.claims["name"]},
        },
    }
    headers = {"typ": "identity-assertion+jwt", "kid": entry["kid"]}
    assertion = up.folder / "try" / "another-vendors.jwt"
    assertion.write_text(jwt.encode(claims, key, algorithm=entry["algorithm"], headers=headers))  # type: ignore[arg-type]
    profile = LabFolder(up.folder).profile(JS, "court")
    code, answer = ask("verify", assertion, "--as", profile, "--matter", COURT_FILING)
    assert (code, answer["verdict"], answer["reason"]) == (0, "accepted", None)
    code, answer = ask("verify", assertion, "--as", profile, "--matter", COURT_FILING)
    assert (code, answer["verdict"], answer["reason"]) == (1, "rejected", "REPLAYED")


def test_the_clock_goes_forward_and_back_and_the_provinces_follow(up: Up) -> None:
    lab = LabFolder(up.folder)

    def is_fresh(province: Province) -> bool:
        """By the lab's clock: what was signed at another time is expired, or from the future."""
        return run(["trust", "show", "--config", str(lab.config(province)), "--lab-clock", str(lab.clock)]) == 0

    for change, offset in (("+2h", 7200), ("reset", 0)):
        code, clock = ask("lab", "clock", change, "--dir", up.folder)
        assert (code, clock["offset_seconds"]) == (0, offset)
        for province in (SH, AH):
            until(lambda province=province: is_fresh(province))  # type: ignore[misc]
    until(lambda: ask("lab", "status", "--dir", up.folder)[0] == 0)


def test_sigterm_ends_it_in_order(up: Up) -> None:
    """The last test of the lab that serves."""
    assert up.end(signal.SIGTERM) == 0
    assert processes(up.folder) == []


# -- ending it badly --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_lab(tmp_path_factory.mktemp("idle")).path


def test_interrupted_while_it_starts_it_leaves_no_process(idle: Path) -> None:
    started = Up(idle)
    until(lambda: len(processes(idle)) == 4)
    assert started.end(signal.SIGINT) == 130
    assert processes(idle) == []


def test_killed_it_takes_its_processes_along(idle: Path) -> None:
    started = Up(idle)
    until(lambda: len(processes(idle)) == 4)
    started.end(signal.SIGKILL)
    until(lambda: not processes(idle))


def test_a_province_that_cannot_start_is_named_and_the_others_are_ended(idle: Path) -> None:
    config = LabFolder(idle).config(AH)
    sound = config.read_text()
    config.write_text(sound.replace("interval_seconds = 2", "interval_seconds = 0"))
    try:
        done = subprocess.run(
            mrg("lab", "demo", "--dir", idle), capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
        )
    finally:
        config.write_text(sound)
    assert done.returncode == 4
    assert "ah ended with code 2" in done.stderr
    assert "refresh.interval_seconds" in done.stderr
    assert processes(idle) == []


# -- without processes ------------------------------------------------------------------------------------------------


def step(verdict: str, reason: str = "") -> Step:
    words = Words("某", "some")
    return Step(
        step="some-step",
        chapter=words,
        caller=words,
        callee=words,
        title=words,
        expected="rejected",
        expected_reason="REPLAYED",
        verdict=verdict,
        reason=reason,
    )


@pytest.mark.parametrize(
    ("played", "met", "code"),
    [
        (step("rejected", "REPLAYED"), True, 0),
        (step("rejected", "EXPIRED"), False, 1),
        (step("accepted"), False, 1),
        (step("error", "UNAVAILABLE"), False, 1),
    ],
)
@pytest.mark.parametrize("form", [["--json"], ["--lang", "zh"]])
def test_the_demo_succeeds_only_when_every_verdict_is_the_expected_one(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    played: Step,
    met: bool,
    code: int,
    form: list[str],
) -> None:
    monkeypatch.setattr(commands, "_running", lambda *_: nullcontext())
    monkeypatch.setattr(commands, "play", lambda _: iter([played]))
    assert run(["lab", "demo", "--dir", str(tmp_path), *form]) == code
    said = capsys.readouterr().out
    if form == ["--json"]:
        assert json.loads(said)["met"] is met
    else:
        assert ("✓" in said) is met
        assert "共 1 步" in said


@pytest.mark.parametrize(
    ("change", "offset"), [("+2h", 7260), ("-300", -240), ("+30m", 1860), ("-1d", -86_340), ("+5s", 65), ("reset", 0)]
)
def test_the_clock_is_moved_from_where_it_stands(change: str, offset: int) -> None:
    assert commands._shifted(change, 60) == offset


@pytest.mark.parametrize("change", ["2h", "+2w", "+", "now", "+1.5h", "-"])
def test_what_is_no_change_of_a_clock_is_refused(change: str) -> None:
    with pytest.raises(Failure):
        commands._shifted(change, 0)


def test_only_a_labs_folder_is_made_anew(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("three years of work")
    with pytest.raises(LabError):
        prepare_lab(tmp_path, fresh=True)
    assert precious.read_text() == "three years of work"


@pytest.mark.parametrize(
    "mark", ["", "[]", '{"mrg_lab": 3, "ports": []}', '{"mrg_lab": true, "ports": []}', '{"mrg_lab": 1}']
)
def test_a_strange_mark_is_no_licence_to_delete(tmp_path: Path, mark: str) -> None:
    (tmp_path / "lab.json").write_text(mark)
    with pytest.raises(LabError):
        prepare_lab(tmp_path, fresh=True)
    assert (tmp_path / "lab.json").exists()


def test_a_lab_of_a_version_before_is_made_anew_and_not_started(tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text('{"mrg_lab": 1, "ports": [1]}')
    (tmp_path / "sh").mkdir()
    for use in (prepare_lab, find_lab):
        with pytest.raises(LabError) as caught:
            use(tmp_path)
        assert "mrg lab up --fresh" in caught.value.fix
    assert (tmp_path / "sh").exists()
    prepare_lab(tmp_path, fresh=True)
    assert find_lab(tmp_path).config(SH).is_file()


def test_where_there_is_no_lab_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabError):
        find_lab(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> LabFolder:
    return prepare_lab(tmp_path_factory.mktemp("prepared"))


def test_a_lab_keeps_its_keys_and_gives_way_where_a_port_was_taken(prepared: LabFolder) -> None:
    def ports() -> set[int]:
        return {
            int(address.rpartition(":")[2])
            for province in Province
            for listeners in [load_config(prepared.config(province)).listeners]
            for address in (listeners.verification.address, listeners.federation.address, listeners.admin.address)
        }

    keys = {file: file.read_bytes() for file in prepared.path.glob("*/keys/*")}
    before = ports()
    assert len(before) == 12
    prepare_lab(prepared.path)
    assert ports() == before
    with closing(socket.socket()) as somebody:
        somebody.bind(("127.0.0.1", min(before)))
        somebody.listen()
        prepare_lab(prepared.path)
        assert ports().isdisjoint(before)
    addresses = {read_card(prepared.province(province) / CARD_FILE).federation_address for province in Province}
    peers = {peer.address for province in Province for peer in load_config(prepared.config(province)).peers}
    assert peers == addresses
    assert {file: file.read_bytes() for file in prepared.path.glob("*/keys/*")} == keys


def test_a_lab_whose_charter_has_run_out_does_not_start(prepared: LabFolder) -> None:
    prepared.set_offset(200 * 86_400)
    try:
        with pytest.raises(LabError, match="charter has expired"):
            prepare_lab(prepared.path)
    finally:
        prepared.set_offset(0)


def test_a_labs_folder_keeps_its_keys_out_of_git(prepared: LabFolder) -> None:
    assert (prepared.path / ".gitignore").read_text() == "*\n"
