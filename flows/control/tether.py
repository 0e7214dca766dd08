"""How does a server end with the process that started it, also where that one was killed?

    python -m flows.control.tether MODULE [ARGUMENTS]

runs a module for as long as its standard input is open. A parent that gives it the reading end of `leash()` holds the
other end until it dies, of whatever: then the kernel closes it, and the module is asked to end, and soon made to.
"""

from __future__ import annotations

import functools
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Sequence

GRACE_S = 5.0


@functools.cache
def leash() -> int:
    """A file descriptor for a child's standard input that ends with this process, and not before."""
    reading, _ = os.pipe()
    return reading


def tethered(command: Sequence[str]) -> list[str]:
    """The command `python -m MODULE …`, tethered."""
    python, minus_m, *module = command
    if minus_m != "-m":
        raise ValueError(f"not a module that Python runs: {command}")
    # -P: a folder called `flows` where somebody happened to type the command is not ours.
    return [python, "-P", "-m", "flows.control.tether", *module]


def main() -> None:
    """Be the module."""
    threading.Thread(target=_end_with_parent, name="tether", daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main()
