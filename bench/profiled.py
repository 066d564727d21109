"""Runs a server so that it can be told to note where its time goes.

``python -m bench.profiled PIPE MODULE ...`` runs that module with the arguments that follow, and does what the lines
say that come out of the pipe, a descriptor: ``start``, and then the name of a file for what was noted until now.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from pathlib import Path

import yappi


def _obey(pipe: int) -> None:
    with os.fdopen(pipe, encoding="utf-8") as words:
        for line in words:
            if line.strip() == "start":
                yappi.clear_stats()
                yappi.set_clock_type("cpu")
                yappi.start(builtins=True)
            else:
                yappi.stop()
                yappi.get_func_stats().save(line.strip(), type="pstat")
                Path(f"{line.strip()}.done").touch()


if __name__ == "__main__":
    _, pipe, module, *arguments = sys.argv
    threading.Thread(target=_obey, args=(int(pipe),), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
