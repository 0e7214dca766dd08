"""How is a library asked about files from outside, so that it can do no harm?

A program of this room, or of another that names it whole, runs in a child: a session of its own, bounded memory, time
and output, no network, an empty private folder, and nothing of the caller's environment that it does not need. It reads
one question (JSON) and writes one answer (JSON). The caller imports neither torch nor transformers.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

_ROOT = Path(__file__).parents[3]
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")
DEVICES = "CUDA_VISIBLE_DEVICES"
_SET = {
    DEVICES: "",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "critical",
}


@dataclass(frozen=True)
class Bounds:
    """How much a child may use; 0 MB of memory are no bound.

    Importing torch and transformers alone takes 0.4 GB and a few seconds of CPU.
    """

    memory_mb: int = 4096
    cpu_s: int = 60
    wall_s: float = 300.0
    file_mb: int = 256


BOUNDS = Bounds()
LOOK_S = 0.2

_asked: set[tuple[str, int]] = set()


class NoAnswer(Exception):
    """The child ended, or was ended, without an answer."""


def can_ask() -> bool:
    """Whether the libraries that are asked are installed; none is imported for it."""
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("torch", "transformers"))


def ask(
    program: str, question: Mapping[str, Any], bounds: Bounds = BOUNDS, look: Callable[[], None] | None = None
) -> dict[str, Any]:
    """What does a program answer? NoAnswer where it needs more than its bounds, or breaks.

    `look` is called now and then meanwhile; what it raises ends the child.
    """
    with tempfile.TemporaryDirectory(prefix="shipway-asked-") as name:
        folder = Path(name)
        (folder / "question.json").write_text(json.dumps(question))
        limits = [str(bounds.memory_mb), str(bounds.cpu_s), str(bounds.file_mb)]
        with (folder / "question.json").open("rb") as asked, (folder / "answer.json").open("wb") as said:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", program if "." in program else f"{__package__}.{program}", *limits],
                stdin=asked,
                stdout=said,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=_environment(name),
                start_new_session=True,
            )
            code = _ended(child, bounds.wall_s, look)
        return _read(folder / "answer.json", code)


def _ended(child: subprocess.Popen[bytes], wall_s: float, look: Callable[[], None] | None) -> int:
    """The child's exit code; whatever happens here, nothing of its session is left."""
    until_s = monotonic() + wall_s
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return child.wait(LOOK_S if look else wall_s)
            if monotonic() >= until_s:
                raise NoAnswer(f"there was no answer within {wall_s:g} s")
            if look:
                look()
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _read(file: Path, code: int) -> dict[str, Any]:
    try:
        answer = json.loads(file.read_bytes())
    except ValueError:
        reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise NoAnswer(f"the child that asked transformers ended without an answer ({reason})") from None
    if not isinstance(answer, dict):
        raise NoAnswer("the child that asked transformers did not answer with an object")
    return answer


def _environment(folder: str) -> dict[str, str]:
    """No credentials, no caches, no way to the network; what the caller could import is found."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    found = os.pathsep.join([str(_ROOT), *(place for place in sys.path if Path(place).is_absolute())])
    return {**kept, **_SET, "HOME": folder, "HF_HOME": folder, "TMPDIR": folder, "PYTHONPATH": found}


def answer(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The child's side: bound this process, read the question, write what `work` makes of it, or why it cannot."""
    memory_mb, cpu_s, file_mb = map(int, sys.argv[1:4])
    _bound(memory_mb, cpu_s, file_mb)
    sys.addaudithook(_refuse_network)
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        found = work(json.load(sys.stdin))
    except Exception as error:  # libraries raise anything about files from outside  # noqa: BLE001
        found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    with said:
        json.dump(found, said)


def _bound(memory_mb: int, cpu_s: int, file_mb: int) -> None:
    """Private memory, not addresses: what a build of torch for CUDA only maps from files is large and harmless."""
    limits = {
        resource.RLIMIT_DATA: memory_mb << 20,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: file_mb << 20,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        if limit == resource.RLIMIT_DATA and not value:
            continue
        with suppress(ValueError, OSError):  # a lower one was set already, or the system has none
            resource.setrlimit(limit, (value, value))


def devices() -> str | None:
    """Which accelerators may this process use? As CUDA names them; None for all."""
    return os.environ.get(DEVICES)


def lend(lent: str | None) -> None:
    """The child's side: an engine that it starts may use these devices. The libraries here were shown none."""
    if lent is None:
        os.environ.pop(DEVICES, None)
    else:
        os.environ[DEVICES] = lent


def may_ask(host: str, port: int) -> None:
    """The child's side: an engine that it may ask, at an address of its own or at one that was released."""
    _asked.add((host, port))
    _asked.update((str(found[4][0]), port) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def _refuse_network(event: str, said: tuple[Any, ...]) -> None:
    if event not in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        return
    address = said[:2] if event == "socket.getaddrinfo" else said[1][:2]
    if address not in _asked:
        raise PermissionError("files from outside reach no network")
