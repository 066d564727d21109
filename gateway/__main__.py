"""The program: ``mrg``, or ``python -m gateway``."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final, NoReturn

# Read when grpc is imported: the C library under it writes lines of its own to stderr, where people read ours and
# programs parse them. Whoever looks for a fault in there sets the variable.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

_INTERRUPTED: Final = 130


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    # What is ignored stays so: nohup means it.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        # The imports take a moment and there is nothing to clean up yet. An exception could be swallowed in there.
        signal.signal(signal.SIGINT, _leave)
    from gateway.cli import run  # noqa: PLC0415 - only now Ctrl-C is taken care of

    if ours:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        try:
            code = run(sys.argv[1:])
        finally:
            # The code is settled. Python would otherwise die of a Ctrl-C in its last moments, which is another one.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """Have the command clean up; whoever cannot wait for that asks again."""
    signal.signal(signal.SIGINT, _leave)
    raise KeyboardInterrupt


def _leave(_number: int, _frame: object) -> NoReturn:
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
