"""One PKCS#11 token, logged in to: whatever is done with it is done here, one thing at a time.

One lock for all calls into a module, because the binding initialises modules without asking them to lock for themselves
(``C_Initialize`` with no arguments), and the standard then allows one thread at a time. A signature takes a token about
a millisecond, so little is lost. Whoever does not get a turn in time is told so instead of waiting for a token that may
never answer.

A session does not last: a token is pulled, a network module restarts, another part of the process finalises the
library. What fails is tried once more in a new session, and if that cannot be had either, in a library initialised
anew, for some modules look for tokens only then. After that a pause, in which calls fail at once: nobody is helped by
every caller in turn waiting for a token that is not there.

A PIN that the token refused is never tried again by this process. Tokens count wrong ones and lock themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import pkcs11
from pkcs11 import exceptions

from gateway.keystore import KeyStoreError

BUSY_SECONDS: Final = 10.0
"""How long a call waits for its turn."""
PAUSE_SECONDS: Final = 1.0
"""How long nothing is tried after a token could not be opened again."""
MAX_SLOTS: Final = 256

_CRYPTOKI: Final = threading.Lock()
_REFUSED: Final = (
    exceptions.PinIncorrect,
    exceptions.PinInvalid,
    exceptions.PinLenRange,
    exceptions.PinExpired,
    exceptions.PinLocked,
    exceptions.UserPinNotInitialized,
)
_Result = TypeVar("_Result")


class Opened:
    """A session that is logged in, and what was looked up in it. Good until the session is lost."""

    def __init__(self, token: pkcs11.Token, session: pkcs11.Session) -> None:
        self.token = token
        self.session = session
        self.mechanisms = frozenset(token.slot.get_mechanisms())
        self.found: dict[str, Any] = {}
        """Objects by whatever their user calls them."""


class Token:
    """A token by its label. Thread-safe."""

    def __init__(self, module: Path, label: str, pin: bytes) -> None:
        """Remember how to open it; nothing is opened yet.

        Raises:
            KeyStoreError: the PIN is no text.
        """
        self.module = module
        self.label = label
        self._opened: Opened | None = None
        self._refused = ""
        self._failed_at: float | None = None
        try:
            self._pin = pin.decode("utf-8")
        except UnicodeDecodeError:
            # Without its cause, which would show the PIN.
            raise self.problem("gets a PIN that is not UTF-8", "correct the PIN") from None

    def __str__(self) -> str:
        return f"token {self.label!r} of {self.module}"

    def problem(self, problem: str, fix: str) -> KeyStoreError:
        """Make the error that says what is wrong with this token."""
        return KeyStoreError(str(self), problem, fix)

    def use(self, work: Callable[[Opened], _Result]) -> _Result:
        """Do something with the token; twice, when it fails the first time.

        Raises:
            KeyStoreError: the token is not there, is busy, refuses the PIN, or what was tried failed twice.
        """
        if not _CRYPTOKI.acquire(timeout=BUSY_SECONDS):
            raise self.problem(f"did not answer in {BUSY_SECONDS:g} seconds", "look after it, then restart the gateway")
        try:
            if self._opened is not None:
                with suppress(exceptions.PKCS11Error):
                    return work(self._opened)
            return work(self._open_anew())
        except exceptions.PKCS11Error as error:
            problem = f"failed ({type(error).__name__})"
            raise self.problem(problem, "see the module's own log; it is tried again") from error
        finally:
            _CRYPTOKI.release()

    def close(self) -> None:
        """Log out. Whatever is done afterwards logs in again."""
        if _CRYPTOKI.acquire(timeout=BUSY_SECONDS):  # the token that hangs needs no logging out
            try:
                self._drop()
            finally:
                _CRYPTOKI.release()

    # -- opening; the lock is held ------------------------------------------------------------------------------------

    def _open_anew(self) -> Opened:
        self._drop()
        self._check_may_try()
        try:
            self._opened = self._log_in()
        except (exceptions.PKCS11Error, KeyStoreError):
            if self._refused:
                raise
            self._opened = self._log_in_from_scratch()
        return self._opened

    def _log_in_from_scratch(self) -> Opened:
        with suppress(exceptions.PKCS11Error, KeyStoreError):
            # It may say that it is not initialised, when somebody else has finalised it; then it is as we want it.
            self._library().finalize()
        try:
            return self._log_in()
        except (exceptions.PKCS11Error, KeyStoreError):
            self._failed_at = time.monotonic()
            raise

    def _check_may_try(self) -> None:
        if self._refused:
            raise self._refusal()
        if self._failed_at is not None and time.monotonic() - self._failed_at < PAUSE_SECONDS:
            raise self.problem("cannot be opened", "see the module's own log; it is tried again in a moment")

    def _log_in(self) -> Opened:
        token = self._find()
        try:
            return Opened(token, token.open(user_pin=self._pin))
        except exceptions.UserAlreadyLoggedIn:
            # Login is the process's, not the session's: another store of this process has given the PIN.
            return Opened(token, token.open())
        except _REFUSED as error:
            self._refused = type(error).__name__
            raise self._refusal() from error

    def _refusal(self) -> KeyStoreError:
        fix = "correct the PIN before you start again: tokens lock themselves after a few wrong ones"
        return self.problem(f"refuses the PIN ({self._refused})", fix)

    def _find(self) -> pkcs11.Token:
        found = []
        slots: list[pkcs11.Slot] = self._library().get_slots(token_present=True)
        for slot in slots[:MAX_SLOTS]:
            with suppress(exceptions.TokenNotPresent, exceptions.TokenNotRecognised):
                token = slot.get_token()
                if token.label == self.label:
                    found.append(token)
        if len(found) != 1:
            problem = "is there more than once" if found else "is not there"
            raise self.problem(problem, "compare the label with what the module's own tool lists")
        return found[0]

    def _library(self) -> Any:
        try:
            return pkcs11.lib(str(self.module))
        except (exceptions.PKCS11Error, OSError) as error:
            problem = "is no PKCS#11 library that can be loaded and initialised"
            raise KeyStoreError(self.module, problem, "name the one that came with the token, and set it up") from error

    def _drop(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(exceptions.PKCS11Error):
                opened.session.close()
