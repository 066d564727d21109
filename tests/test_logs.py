"""Nothing about a person and no secret reaches a log, whoever forgets what."""

import ast
import json
import logging
import re
import subprocess
import sys
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway import logs
from gateway.core.encoding import b64url_encode, sha256_b64url
from gateway.core.jose import generate_key, sign_compact
from gateway.core.reasons import InvalidRequest, Reason, Rejected
from gateway.logs import DIGEST_KEYS, ENTITY_KEYS, PLAIN_KEYS, REDACTED, configure, get_logger

ID_NUMBER = "310101190001010011"
ID_NUMBER_WITH_X = "83000019000101002X"
SIGNING_KEY = generate_key()
TOKEN = sign_compact("identity-assertion+jwt", {"sub": "someone"}, SIGNING_KEY)
DISCLOSURE = b64url_encode(b'["c2FsdHNhbHRzYWx0c2FsdA","name","..."]')

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def restore_process_wide_settings() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    settings = structlog.get_config()
    yield
    structlog.configure(**settings)
    root.handlers, (sys.excepthook, threading.excepthook) = handlers, hooks
    root.setLevel(level)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    configure("debug", json=True)
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


# -- form -------------------------------------------------------------------------------------------------------------


def test_line_is_json_with_level_logger_and_utc_time(lines: Lines) -> None:
    get_logger("ledger").warning("replays_not_forgotten", entries=3, province="ah")

    (line,) = lines()

    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert moment.utcoffset() == timedelta(0)
    assert line == {
        "event": "replays_not_forgotten",
        "level": "warning",
        "component": "ledger",
        "entries": 3,
        "province": "ah",
    }


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", json=True)

    get_logger("x").info("peer_recovered")

    assert capsys.readouterr().err == ""


def test_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="loud"):
        configure("loud")


def test_without_a_terminal_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info")

    get_logger("x").info("peer_recovered")

    assert json.loads(capsys.readouterr().err)["event"] == "peer_recovered"


def test_on_a_terminal_lines_are_coloured_and_just_as_safe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    configure("info")

    get_logger("x").info("peer_recovered", peer=ID_NUMBER)

    shown = capsys.readouterr().err
    assert "\x1b[" in shown
    assert "peer_recovered" in shown
    assert ID_NUMBER not in shown


def test_set_up_again_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    logger = get_logger("x")
    configure("error", json=True)
    logger.info("peer_recovered")
    configure("info", json=True)
    logger.info("charter_followed")
    logging.getLogger("library").warning("once")

    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["charter_followed", "library_logged"]


def test_lines_are_safe_before_anything_is_set_up() -> None:
    forgetful = f"from gateway.logs import get_logger; get_logger('x').info('canary_sung', detail='{ID_NUMBER}')"

    process = subprocess.run([sys.executable, "-c", forgetful], capture_output=True, text=True, check=True)

    assert process.stdout == ""
    assert json.loads(process.stderr)["detail"] == REDACTED


def test_a_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    writing = "from gateway.logs import get_logger; get_logger('x').error('disk_filled_up'); print('went on')"

    with Path("/dev/full").open("wb") as full:
        process = subprocess.run([sys.executable, "-c", writing], stdout=subprocess.PIPE, stderr=full, check=True)

    assert process.stdout == b"went on\n"


# -- canaries ---------------------------------------------------------------------------------------------------------

CANARIES = {
    "an ID number": ID_NUMBER,
    "an ID number ending in X": ID_NUMBER_WITH_X,
    "an ID number ending in small x": ID_NUMBER_WITH_X.lower(),
    "an ID number within words": f"no record of {ID_NUMBER}.",
    "an ID number between letters": f"id{ID_NUMBER}x",
    "an ID number after another number": f"line 20 {ID_NUMBER}",
    "an ID number in groups": "310101 19000101 0011",
    "an ID number in hyphenated groups": "310101-19000101-0011",
    "an ID number in full-width digits": "".join(chr(ord(digit) + 0xFEE0) for digit in ID_NUMBER),
    "an ID number as an integer": int(ID_NUMBER),
    "an ID number in a list": ["ok", ID_NUMBER],
    "an ID number in a path": Path("/var/lib") / ID_NUMBER,
    "a plain digest of an ID number": sha256_b64url(ID_NUMBER.encode()),
    "a hexadecimal digest": "9f" * 32,
    "a compact JWS": TOKEN,
    "a JWS cut short": TOKEN[:24],
    "a payload alone": TOKEN.split(".")[1],
    "a signature alone": TOKEN.split(".")[2],
    "a JWS within words": f"could not read {TOKEN}",
    "an SD-JWT": f"{TOKEN}~{DISCLOSURE}~",
    "a disclosure": DISCLOSURE,
    "a JWS of spaced JSON": b64url_encode(b'{ "alg": "x" }'),
    "a JWS of JSON on several lines": b64url_encode(b'{\n"alg": "x" }'),
    "a private key": SIGNING_KEY.to_pkcs8().decode(),
    "a nonce": "Q2hhbGxlbmdlMTIzNDU2Nzg5MGFiY2RlZg",
    "bytes": b"anything",
    "a mapping": {"name": "anybody"},
    "an object": object(),
    "an exception": ValueError("anything"),
    "a very long text": "no " * 400,
    "a very long list": ["no"] * 51,
}


@pytest.mark.parametrize("value", CANARIES.values(), ids=CANARIES.keys())
@pytest.mark.parametrize("key", ["detail", "issuer"])
def test_canary_never_gets_through(lines: Lines, key: str, value: object) -> None:
    get_logger("x").info("canary_sung", **{key: value})

    (line,) = lines()

    assert line[key] == REDACTED
    assert line["redacted"] is True
    assert line["event"] == "canary_sung"


@pytest.mark.parametrize("value", [ID_NUMBER, TOKEN, DISCLOSURE, DISCLOSURE[:40], "9f" * 32, "two words"])
def test_key_for_digests_takes_nothing_else(lines: Lines, value: str) -> None:
    get_logger("x").info("canary_sung", kid=value)

    (line,) = lines()

    assert line["kid"] == REDACTED


@pytest.mark.parametrize("value", [ID_NUMBER, TOKEN, DISCLOSURE])
def test_canary_in_the_event_itself_never_gets_through(lines: Lines, value: str) -> None:
    get_logger("x").info("for %s", value)

    assert lines()[0]["event"] == REDACTED


@pytest.mark.parametrize("key", ["name", "phone", "frames", "exception_type", "causes", "exception", "stack"])
def test_key_outside_the_vocabulary_is_not_logged(lines: Lines, key: str) -> None:
    get_logger("x").info("canary_sung", **{key: "Xu"})

    (line,) = lines()

    assert "Xu" not in json.dumps(line)
    assert line["redacted"] is True


@given(st.binary(min_size=32, max_size=200))
def test_long_base64url_is_recognised(raw: bytes) -> None:
    text = urlsafe_b64encode(raw).decode().rstrip("=")
    mixed = text.lower() != text != text.upper()

    event = logs._redact(None, "info", {"event": "canary_sung", "detail": text})

    # Text of one case is not base64url of anything random: one string in a billion is.
    assert not mixed or event["detail"] == REDACTED


FIT = {
    "a word": ("detail", "signature does not verify"),
    "Chinese": ("detail", "合肥市蜀山区户政中心"),
    "an entity identifier": ("issuer", "https://issuer.sh.mrg.example"),
    "a relying service": ("caller", "https://gateway.ah.mrg.example/services/shushan-household-registration-hall"),
    "no entity": ("issuer", ""),
    "an RPC": ("rpc", "/recognition.v1.FederationService/GetSubordinateStatement"),
    "a thumbprint": ("kid", SIGNING_KEY.public.kid),
    "a certificate digest": ("certificate_sha256", sha256_b64url(b"certificate")),
    "a trace identifier": ("request_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
    "an address": ("address", "127.0.0.1:7441"),
    "a number": ("entries", 20261122),
    "a fraction": ("duration_ms", 1.5),
    "a truth": ("status", True),
    "nothing": ("peer", None),
    "18 digits that are no ID number": ("count", 310101190001010012),
}


@pytest.mark.parametrize(("key", "value"), FIT.values(), ids=FIT.keys())
def test_what_operators_need_gets_through(lines: Lines, key: str, value: object) -> None:
    get_logger("x").info("canary_sung", **{key: value})

    (line,) = lines()

    assert line[key] == value
    assert "redacted" not in line


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Reason.EXPIRED, "EXPIRED"),
        (timedelta(minutes=1), 60.0),
        (datetime(2026, 11, 22, tzinfo=UTC), "2026-11-22T00:00:00+00:00"),
        (Path("tls/ca.pem"), "tls/ca.pem"),
        (("sh", "js"), ["sh", "js"]),
    ],
)
def test_values_are_written_plainly(lines: Lines, value: object, expected: object) -> None:
    get_logger("x").info("canary_sung", detail=value)

    (line,) = lines()

    assert line["detail"] == expected


def test_line_breaks_and_terminal_controls_are_escaped(lines: Lines) -> None:
    get_logger("x").info("canary_sung", detail="one\n\x1b[2Jtwo")

    (line,) = lines()

    assert line["detail"] == r"one\n\x1b[2Jtwo"


# -- exceptions -------------------------------------------------------------------------------------------------------


def stumble(number: str) -> None:
    try:
        int(f"x{number}")
    except ValueError as error:
        raise KeyError(number) from error


def test_foreign_exception_is_logged_by_type_and_place_alone(lines: Lines) -> None:
    try:
        stumble(ID_NUMBER)
    except KeyError:
        get_logger("x").exception("canary_sung")

    (line,) = lines()

    assert line["exception_type"] == "KeyError"
    assert line["causes"] == ["ValueError"]
    assert [re.sub(r":\d+ ", " ", frame) for frame in line["frames"]] == [
        "tests/test_logs.py test_foreign_exception_is_logged_by_type_and_place_alone",
        "tests/test_logs.py stumble",
    ]
    assert ID_NUMBER not in json.dumps(line)


@dataclass
class Ring:
    depth: int = 0

    def go(self) -> None:
        self.depth += 1
        if self.depth == 100:
            raise RecursionError
        self.go()


def test_frames_are_bounded_and_keep_the_innermost(lines: Lines) -> None:
    try:
        Ring().go()
    except RecursionError as error:
        get_logger("x").error("canary_sung", exc_info=error)

    (line,) = lines()

    assert len(line["frames"]) == logs.MAX_FRAMES
    assert all(" go" in frame for frame in line["frames"])


def test_our_own_exception_keeps_its_detail_and_reason(lines: Lines) -> None:
    get_logger("x").error("canary_sung", exc_info=Rejected(Reason.EXPIRED, "exp has passed"))

    (line,) = lines()

    assert line["exception_type"] == "gateway.core.reasons.Rejected"
    assert (line["reason"], line["detail"]) == ("EXPIRED", "exp has passed")


def test_detail_of_our_own_exception_is_redacted_as_any_other(lines: Lines) -> None:
    get_logger("x").error("canary_sung", exc_info=Rejected(Reason.EXPIRED, f"{ID_NUMBER} has expired"))

    (line,) = lines()

    assert line["detail"] == REDACTED


def test_invalid_request_is_logged_by_its_field(lines: Lines) -> None:
    get_logger("x").error("canary_sung", exc_info=InvalidRequest("matter", f"unknown {ID_NUMBER}"))

    (line,) = lines()

    assert line["field"] == "matter"
    assert ID_NUMBER not in json.dumps(line)


def test_exception_info_outside_an_exception_is_nothing(lines: Lines) -> None:
    get_logger("x").error("canary_sung", exc_info=True)

    assert "exception_type" not in lines()[0]


# -- what others would write ------------------------------------------------------------------------------------------


def test_library_is_logged_without_arguments_and_message_of_its_exception(lines: Lines) -> None:
    try:
        stumble(ID_NUMBER)
    except KeyError as error:
        logging.getLogger("grpc._server").exception("Exception calling application: %s", error)  # noqa: TRY401

    (line,) = lines()

    assert (line["event"], line["component"], line["level"]) == ("library_logged", "grpc._server", "error")
    assert line["detail"] == "Exception calling application: %s"
    assert line["exception_type"] == "KeyError"
    assert ID_NUMBER not in json.dumps(line)


def test_library_that_builds_its_message_itself_is_redacted(lines: Lines) -> None:
    logging.getLogger("library").warning("bad token " + TOKEN)  # noqa: G003 - what a careless library does
    logging.getLogger("library").warning(ValueError(ID_NUMBER))

    first, second = lines()

    assert first["detail"] == REDACTED
    assert second["detail"] == "ValueError"


def test_library_level_of_its_own_is_taken_down_to_ours(lines: Lines) -> None:
    logging.getLogger("library").log(logging.WARNING + 5, "between")

    assert lines()[0]["level"] == "warning"


def test_exception_that_ends_the_process_is_logged_without_its_message(lines: Lines) -> None:
    try:
        stumble(ID_NUMBER)
    except KeyError as error:
        sys.excepthook(type(error), error, error.__traceback__)

    (line,) = lines()

    assert (line["event"], line["exception_type"]) == ("exception_uncaught", "KeyError")
    assert ID_NUMBER not in json.dumps(line)


def test_ctrl_c_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug", json=True)

    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)

    assert "exception_uncaught" not in capsys.readouterr().err


def test_exception_that_ends_a_thread_is_logged_without_its_message(lines: Lines) -> None:
    # pytest puts its own hook in place while a test runs; ours is called as the interpreter would call it.
    error = KeyError(ID_NUMBER)
    threading.excepthook(
        threading.ExceptHookArgs((KeyError, error, None, threading.Thread(name="refresh-sh", daemon=True)))
    )

    (line,) = lines()

    assert (line["thread"], line["exception_type"]) == ("refresh-sh", "KeyError")
    assert ID_NUMBER not in json.dumps(line)


# -- the vocabulary ---------------------------------------------------------------------------------------------------


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    package = Path(logs.__file__).parent
    for file in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {*logs.LEVELS, "exception", "bind", "new"}
                and ast.unparse(node.func.value).endswith(("log", "logger"))
            ):
                yield f"{file.relative_to(package.parent)}:{node.lineno}", node


def test_every_log_call_keeps_to_the_vocabulary() -> None:
    keys = ENTITY_KEYS | DIGEST_KEYS | PLAIN_KEYS | {"exc_info"}

    strangers = [(place, k.arg) for place, call in log_calls() for k in call.keywords if k.arg not in keys]

    assert strangers == []


def test_every_event_is_a_constant_in_snake_case() -> None:
    events = [(place, ast.unparse(call.args[0])) for place, call in log_calls() if call.args]

    assert [event for event in events if re.fullmatch(r"'[a-z]+(_[a-z]+)+'", event[1]) is None] == []
