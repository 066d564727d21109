"""Logging: what an operator needs to know, and nothing about a person.

Logs explain operations; the audit ledger proves decisions. Neither replaces the other. Events are snake_case and in the
past tense (``charter_followed``), their keys come from one vocabulary (``PLAIN_KEYS``, ``DIGEST_KEYS``,
``ENTITY_KEYS``), one line an event, times in UTC.

The rule is kept where a line is written: no token, nonce, pairwise subject or claim value is ever given to a logger.
What stands here is the last line of defence, for the day somebody forgets. It replaces a value and marks the line
``redacted`` when

* its key is not in the vocabulary, or its type is not a plain one (an object's ``repr`` may hold anything);
* it looks like a token, an SD-JWT or its disclosure, a PEM block, a long base64url or hexadecimal string (keys, nonces,
  pairwise subjects; plain digests of ID numbers, which can be reversed by trying all of them);
* it holds a citizen ID number (18 characters, MOD 11-2);
* it stands under a key for entity identifiers and is none, or is longer than anything we mean to log.

Of an exception only the type and the places in the code are logged: messages of foreign exceptions quote the value
they stumbled over. Our own (``core.reasons``) have a ``detail`` written to be logged. The same goes for what libraries
log and for what would end in the interpreter's own traceback.

Times here are the machine's, in the lab too: a log is about the process, not about the play.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import unicodedata
from collections.abc import Hashable
from contextlib import suppress
from datetime import date, datetime, timedelta
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import Final, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger

from gateway.core.identifiers import check_entity_id, parse_resident_id
from gateway.core.reasons import Indeterminate, InvalidRequest, NotPermitted, Overloaded, Rejected, Unavailable

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
REDACTED: Final = "[redacted]"
MAX_VALUE_CHARS: Final = 1_000
MAX_ITEMS: Final = 50
MAX_FRAMES: Final = 20
MAX_CAUSES: Final = 5

ENTITY_KEYS: Final = frozenset(
    {"anchor", "audience", "caller", "entity", "gateway", "issuer", "member", "service", "subject"}
)
"""Hold entity identifiers (``subject`` that of a statement, never a person's)."""
DIGEST_KEYS: Final = frozenset(
    {"certificate_sha256", "kid", "log", "request_id", "rpc_id", "sha256", "verification_id", "view_id"}
)
"""Hold digests and random identifiers: base64url, where any other key would have it redacted."""
PLAIN_KEYS: Final = frozenset(
    {
        # written here
        *("causes", "component", "detail", "event", "exception_type", "frames", "level", "redacted", "thread"),
        # who and where
        *("address", "listener", "matter", "peer", "province", "role", "rpc", "sector", "worker", "pid"),
        # what
        *("alg", "charter_version", "error", "field", "file", "first", "reason", "seq", "status", "verdict", "version"),
        # how much, how long
        *("after_rounds", "age_seconds", "count", "duration_ms", "entries", "expires_at", "problems"),
        *("retry_after_seconds",),
    }
)


class Sparing:
    """Says which of many lines alike are worth writing: each once in a while, and only so many from one source.

    Whoever can cause a line chooses how often, and what it says. It must neither fill the disk nor hide the rest: what
    is beyond the bound is counted. Thread-safe.
    """

    def __init__(self, most: int = 50, every: timedelta = timedelta(minutes=10)) -> None:
        """Begin.

        Args:
            most: lines from one source in one period.
            every: the period.
        """
        self._most = most
        self._every = every
        self._lock = threading.Lock()
        self._since: dict[str, datetime] = {}
        self._said: dict[str, set[Hashable]] = {}
        self._left_out: dict[str, int] = {}

    def is_worth(self, source: str, what: Hashable, now: datetime) -> bool:
        """Whether to write a line.

        Args:
            source: who caused it; one of a few.
            what: what tells it from others.
            now: the time.
        """
        with self._lock:
            since = self._since.setdefault(source, now)
            if abs(now - since) > self._every:
                self._since[source] = now
                self._said.pop(source, None)
            said = self._said.setdefault(source, set())
            if what in said:
                return False
            if len(said) >= self._most:
                self._left_out[source] = self._left_out.get(source, 0) + 1
                return False
            said.add(what)
            return True

    def left_out(self, source: str, now: datetime) -> int:
        """Take how many lines of a source were left out over its last period; 0 while the period goes on."""
        with self._lock:
            if abs(now - self._since.get(source, now)) <= self._every:
                return 0
            return self._left_out.pop(source, 0)


def configure(level: str, *, json: bool = False, worker: int | None = None) -> None:
    """Set up logging for the process. Calling it again replaces what was set up before.

    Args:
        level: the least level shown, one of ``LEVELS``.
        json: JSON lines even on a terminal. Anywhere else they are the only form.
        worker: which of several processes this is; each line bears it. None: there is but one.

    Raises:
        ValueError: no such level.
    """
    if level not in LEVELS:
        raise ValueError(f"no log level {level!r}; use one of {', '.join(LEVELS)}")
    renderer: structlog.typing.Processor
    if json or not sys.stderr.isatty():
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=True)
    _set_up(level, renderer, worker)
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _LibraryHandler)]
    root.addHandler(_LibraryHandler())
    root.setLevel(logging.WARNING)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def get_logger(name: str) -> FilteringBoundLogger:
    """Give a logger whose lines carry ``component=name``. Works before ``configure`` and follows it."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=name))


def _set_up(level: str, renderer: structlog.typing.Processor, worker: int | None = None) -> None:
    def number(_logger: object, _method: str, event: EventDict) -> EventDict:
        return event if worker is None else {**event, "worker": worker}

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            number,
            _describe_exception,
            _redact,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_stderr_logger,
        # Loggers are made when modules are imported, before this runs; a cached one would keep the old set-up.
        cache_logger_on_first_use=False,
    )


class _StderrLogger(structlog.WriteLogger):
    """Writes lines to standard error, as long as that takes any.

    A line that cannot be written, because the disk that it goes to is full, is lost. Whoever writes one does so because
    something else went wrong, and has that to see to.
    """

    def msg(self, message: str) -> None:
        """Write a line."""
        with suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def _stderr_logger(*_arguments: object) -> structlog.WriteLogger:
    return _StderrLogger(sys.stderr)


# -- exceptions -------------------------------------------------------------------------------------------------------

_WRITTEN_FOR_LOGS: Final = (Rejected, Indeterminate, NotPermitted, Unavailable, Overloaded)


def _describe_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Put types and places for ``exc_info``. Messages and local variables never come along."""
    # These pass unseen by _redact, so nobody but this function may set them.
    for key in _MADE_HERE - {"level"}:
        if event.pop(key, None) is not None:
            event["redacted"] = True
    given = event.pop("exc_info", None)
    error = sys.exception() if given is True else given[1] if isinstance(given, tuple) else given
    if not isinstance(error, BaseException):
        return event
    event["exception_type"] = _type_name(error)
    event["frames"] = _frames(error)
    if isinstance(error, _WRITTEN_FOR_LOGS):
        event.setdefault("detail", error.detail)
    if isinstance(error, Rejected | Indeterminate):
        event.setdefault("reason", error.reason)
    if isinstance(error, InvalidRequest):
        event.setdefault("field", error.field)
    causes = _causes(error)
    if causes:
        event["causes"] = causes
    return event


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _frames(error: BaseException) -> list[str]:
    """Where it was raised, outermost call first, as ``gateway/verifier.py:123 verify``."""
    frames: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place = "/".join(PurePath(code.co_filename).parts[-2:])
        frames.append(f"{place}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return frames[-MAX_FRAMES:]


def _causes(error: BaseException) -> list[str]:
    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < MAX_CAUSES:
        causes.append(_type_name(cause))
        cause = cause.__cause__ or cause.__context__
    return causes


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None, thread: str = "MainThread"
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    get_logger("process").critical("exception_uncaught", thread=thread, exc_info=error)


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread is not None else "unknown"
        _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback, name)


class _LibraryHandler(logging.Handler):
    """Passes on what libraries log through ``logging``: the message's template, never its arguments."""

    def emit(self, record: logging.LogRecord) -> None:
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        error = record.exc_info[1] if record.exc_info else None
        level = max(logging.DEBUG, min(record.levelno // 10 * 10, logging.CRITICAL))  # structlog knows the five only
        get_logger(record.name).log(level, "library_logged", detail=template, exc_info=error)


# -- redaction --------------------------------------------------------------------------------------------------------

_ALWAYS_SECRET: Final = re.compile(
    r"-----BEGIN"
    # base64url of an opening { or [ and a quote, blank or line break: JOSE header, claims set, SD-JWT, disclosure
    r"|\b(?:ey[ABIJ]|ew[op]|Wy[ABIJ]|Ww[op])[A-Za-z0-9_-]{6,}"
)
_BASE64URL_RUN: Final = re.compile(r"[A-Za-z0-9_-]{20,}")
_HEXADECIMAL_RUN: Final = re.compile(r"[0-9A-Fa-f]{32,}")
_MIXED_CASE_CHARS: Final = 32
"""From this length on a run of mixed case counts as base64url even without a digit; below it may be a class name."""
_DIGEST: Final = re.compile(r"[A-Za-z0-9_-]{1,43}")  # 43 characters: SHA-256
_ID_NUMBER: Final = re.compile(r"(?<![0-9])[0-9]{17}[0-9Xx](?![0-9])")
_WITHIN_NUMBER: Final = re.compile(r"(?<=[0-9])[ -](?=[0-9Xx])")  # people write the number in groups
_MADE_HERE: Final = frozenset({"level", "exception_type", "frames", "causes"})
"""Names in our code and in libraries, put here by this module: long, of mixed case, and about nobody."""
_VOCABULARY: Final = ENTITY_KEYS | DIGEST_KEYS | PLAIN_KEYS
_Plain = str | int | float | bool | None


class _Unfit(Exception):  # noqa: N818 - never leaves this module
    """The value must not be logged."""


def _redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace whatever must not be in a log; see the module docstring."""
    for key in event.keys() - _MADE_HERE:
        try:
            event[key] = _fit(key, event[key])
        except _Unfit:
            event[key] = REDACTED
            event["redacted"] = True
    return event


def _fit(key: str, value: object) -> _Plain | list[_Plain]:
    if key not in _VOCABULARY:
        raise _Unfit
    if isinstance(value, list | tuple | set | frozenset):
        if len(value) > MAX_ITEMS:
            raise _Unfit
        return [_fit_one(key, item) for item in value]
    return _fit_one(key, value)


def _fit_one(key: str, value: object) -> _Plain:
    if isinstance(value, Enum):
        value = value.value
    match value:
        case None | bool() | float():
            return value
        case int():
            _check_text(key, str(value))
            return value
        case timedelta():
            return value.total_seconds()
        case date():  # a datetime is one
            return value.isoformat()
        case str() | PurePath():
            text = str(value)
            _check_text(key, text)
            # Line breaks and terminal controls in a foreign string could forge or hide lines.
            return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
        case _:
            raise _Unfit


def _check_text(key: str, text: str) -> None:
    plain = unicodedata.normalize("NFKC", text)  # full-width digits are digits
    if len(text) > MAX_VALUE_CHARS or _ALWAYS_SECRET.search(plain) or _holds_id_number(plain):
        raise _Unfit
    if key in DIGEST_KEYS:
        fits = not text or _DIGEST.fullmatch(text) is not None
    elif key in ENTITY_KEYS:
        fits = not text or _is_entity_id(text)
    else:
        fits = _HEXADECIMAL_RUN.search(plain) is None
    if not fits or (key not in DIGEST_KEYS and any(map(_is_base64url, _BASE64URL_RUN.findall(plain)))):
        raise _Unfit


def _is_base64url(run: str) -> bool:
    if run.lower() == run or run.upper() == run:
        return False
    return len(run) >= _MIXED_CASE_CHARS or any(letter.isdigit() for letter in run)


def _holds_id_number(text: str) -> bool:
    joined = _WITHIN_NUMBER.sub("", text)
    # Both: joining may also glue another number to it.
    return any(map(_is_id_number, [*_ID_NUMBER.findall(text), *_ID_NUMBER.findall(joined)]))


def _is_id_number(text: str) -> bool:
    try:
        parse_resident_id(text.upper())
    except ValueError:
        return False
    return True


def _is_entity_id(text: str) -> bool:
    try:
        check_entity_id(text)
    except ValueError:
        return False
    return True


# structlog's own default prints local variables with every exception. Nobody is to meet it for want of a configure().
_set_up("info", structlog.processors.JSONRenderer(ensure_ascii=False))
