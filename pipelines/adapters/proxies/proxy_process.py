"""Where is a proxy's program, and how does its process begin and end: never without its agent, cutting nobody off?"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

DRAIN_S = 10.0
_PR_SET_PDEATHSIG = 1
_DAEMONS = ("/usr/local/sbin", "/usr/sbin")
"""A user's PATH often lacks the folders of daemons."""


def haproxy_program() -> str | None:
    """Where HAProxy is installed, if it is."""
    return shutil.which("haproxy", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_DAEMONS]))


def envoy_program() -> str | None:
    """Where Envoy is: the one of `shipway[envoy]`, or one that was installed otherwise."""
    wheel = importlib.util.find_spec("envoy")
    own = Path(str(wheel.origin)).parent / "_bin" / "envoy" if wheel and wheel.origin else None
    return str(own) if own is not None and own.is_file() else shutil.which("envoy")


def start_tied(command: Sequence[str], fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start a process that the kernel ends when this one ends, however that happens: nobody else holds its lease.

    Called from the main thread, which is the one whose end the kernel watches.
    """
    libc, parent = ctypes.CDLL(None), os.getpid()

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(
        list(command),
        pass_fds=tuple(fds),
        stdin=subprocess.DEVNULL,
        preexec_fn=tie,  # noqa: PLW1509  the agent has no other thread yet
    )


def stop(process: subprocess.Popen[bytes] | None, gently: signal.Signals) -> None:
    """Let it finish what is in flight; what does not end in time is killed."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(gently)
    with suppress(subprocess.TimeoutExpired):
        process.wait(DRAIN_S)
        return
    process.kill()
    process.wait()
