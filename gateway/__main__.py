"""The program: ``mrg``, or ``python -m gateway``."""

from __future__ import annotations

import os
import sys

# Read when grpc is imported: the C library under it writes lines of its own to stderr, where people read ours and
# programs parse them. Whoever looks for a fault in there sets the variable.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from gateway.cli import run


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
