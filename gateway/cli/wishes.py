"""What is wished of a running process: by signals, by the process that started it, and by a parent that is gone."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Final

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
PARENT_GONE: Final = 0
"""Given like a signal."""
PROCEED: Final = ord("p")
"""Go on to what comes next; see ``supervision``."""
LEAVE: Final = ord("l")
"""Take no more connections, and say when the last is gone."""
STOP: Final = ord("s")
"""Drain and stop, as at SIGTERM."""
END: Final = ord("e")
"""Stop: another process has taken this one's place."""
_KILLED: Final = 128
"""A process ended by signal n gives 128 + n, by the custom of shells."""


class Wishes:
    """Wishes in the order in which they came: numbers of signals, and the letters above."""

    def __init__(self, signals: Sequence[signal.Signals] = STOPPING) -> None:
        """Take these signals from now on; the first does not end the process any more."""
        # The kernel may hand a signal to any thread, and Python's own handlers then wait until the main thread happens
        # to wake up. The wake-up descriptor is written to at once, whichever thread it was.
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for each in signals:
            signal.signal(each, lambda _number, _frame: None)  # without one, the default would end us here and now

    def fileno(self) -> int:
        """Give what can be read from as soon as there is a wish."""
        return self._reading

    def follow_parent(self, letters: bytes | None = None) -> None:
        """Take the end of standard input for the parent's.

        Args:
            letters: those that came already, where the parent sends such; None: it sends nothing that means anything.
        """

        def follow() -> None:
            if letters:
                os.write(self._writing, letters)
            while said := os.read(sys.stdin.fileno(), 4096):
                if letters is not None:
                    os.write(self._writing, said)
            os.write(self._writing, bytes([PARENT_GONE]))

        threading.Thread(target=follow, name="parent", daemon=True).start()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the next wish, at most so long; None: there was none."""
        readable, _, _ = select.select([self._reading], [], [], seconds)
        return os.read(self._reading, 1)[0] if readable else None

    def is_stop(self, wish: int | None) -> bool:
        """Whether it is wished that the process stop."""
        return wish in (*STOPPING, PARENT_GONE, STOP, END)

    def exit_at_next_signal(self) -> None:
        """End the process without ceremony when it is signalled again. A parent's end is no reason for haste."""

        def wait_for_signal() -> None:
            while True:
                wish = self.wait()
                if wish is not None and wish in STOPPING:
                    exit_by(wish)

        threading.Thread(target=wait_for_signal, name="hard-exit", daemon=True).start()


def exit_by(signal_number: int) -> None:
    """End the process at once, as the signal would have."""
    os._exit(_KILLED + signal_number)
