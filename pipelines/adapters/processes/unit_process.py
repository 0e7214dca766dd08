"""How is a unit's process started, recognised and ended?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from pipelines.adapters.processes.doors import lent
from pipelines.adapters.processes.runtime import rss_mb
from pipelines.adapters.processes.unit_files import Observed, settings_file
from pipelines.home import Home
from pipelines.records.settings import ServerSettings
from pipelines.records.unit import Unit

TAIL_BYTES = 4096

_PASSED_ON = {
    "CUDA_VISIBLE_DEVICES",
    "DOCKER_CERT_PATH",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "PYTHONPATH",
    "TMPDIR",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
}
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
}


def unit_command(home: Home, unit: Unit) -> list[str]:
    """The command line of a unit's process; a container's is its shim. How it behaves stands in its settings file."""
    if unit.image:
        return _shim_command(home, unit)
    module, options = _gateway(home, unit) if unit.kind == "gateway" else ("serving.server", _server_options(unit))
    # -P: a folder called `pipelines` where somebody happened to type the command is not ours.
    return [sys.executable, "-P", "-m", f"pipelines.{module}", *_named({**_told(home, unit), **options})]


def _told(home: Home, unit: Unit) -> dict[str, object]:
    return {"--port": unit.port, "--settings": settings_file(home, unit)}


def _named(options: Mapping[str, object]) -> list[str]:
    return [str(part) for pair in options.items() for part in pair]


def _shim_command(home: Home, unit: Unit) -> list[str]:
    options = {
        "--name": _container_name(home, unit),
        "--image": unit.image,
        "--home": home.id,
        "--digest": unit.digest,
        **_told(home, unit),
    }
    module = "pipelines.adapters.docker_keeper"
    return [sys.executable, "-P", "-m", module, *_named(options), "--", *_named(_named_as(unit))]


def _container_name(home: Home, unit: Unit) -> str:
    """The same for the same unit, so that there are never two; another home has other names."""
    return f"shipway-{home.id}-{unit.name}"


def remove_container(home: Home, unit: Unit, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Remove a container that may have outlived its shim, in the background."""
    command = [sys.executable, "-P", "-m", "pipelines.adapters.docker_keeper", "--remove", _container_name(home, unit)]
    return spawn(command, environ, home.root, home.folder("logs") / f"{unit.name}.log")


def _gateway(home: Home, unit: Unit) -> tuple[str, dict[str, object]]:
    """Shipway's own gateway, or the agent of another proxy; the split outlives a change from one to the other."""
    options: dict[str, object] = {
        "--service": unit.service,
        "--admin-socket": home.admin_socket(unit.service),
        "--snapshot": home.folder("run") / f"{unit.service}.split",
    }
    if unit.router != "shipway":
        return "adapters.proxy_keeper", {"--router": unit.router, **options}
    token = home.folder("run") / f"{unit.service}.token"
    return "serving.gateway", {**options, "--override-token": token, "--record": home.record(unit.service)}


def _server_options(unit: Unit) -> dict[str, object]:
    return {"--bundle": unit.bundle, "--digest": unit.digest, **_named_as(unit)}


def _named_as(unit: Unit) -> dict[str, object]:
    """What a server calls itself, wherever it runs."""
    return {"--model-name": unit.service, "--model-version": unit.version}


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a unit may know of its parent's environment: no password and no token is among it."""
    kept = {name: value for name, value in environ.items() if name in _PASSED_ON or name.startswith("LC_")}
    return {**kept, **_OFFLINE}


def spawn(
    command: Sequence[str], environ: Mapping[str, str], folder: Path, log: Path, door: socket.socket | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that it outlives its parent and no Ctrl-C reaches it."""
    log.parent.mkdir(mode=0o700, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(
            list(command),
            cwd=folder,
            env={**environ, **(lent(door) if door else {})},
            pass_fds=(door.fileno(),) if door else (),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def find_by_command(command: Sequence[str]) -> psutil.Process | None:
    """A process of ours that runs exactly this: it was started, and its parent died before it could write it down."""
    for process in psutil.process_iter(["cmdline", "uids"]):
        uids = process.info["uids"]
        if process.info["cmdline"] == list(command) and uids is not None and uids.real == os.getuid():
            return process
    return None


def terminate(observed: Observed) -> None:
    """Ask this very process to drain and end."""
    if observed.is_alive() and observed.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(observed.pid, signal.SIGTERM)


def kill(observed: Observed) -> None:
    """End it now, with whatever it started in its session."""
    if observed.is_alive() and observed.pid is not None:
        with suppress(ProcessLookupError):
            (os.killpg if os.getpgid(observed.pid) == observed.pid else os.kill)(observed.pid, signal.SIGKILL)


def has_outgrown(observed: Observed) -> bool:
    """Whether a process takes more memory than its unit may; a container is held by its engine."""
    limit_mb = _memory_limit_mb(observed.unit)
    if observed.unit.image or not limit_mb or observed.pid is None:
        return False
    return (rss_mb(observed.pid) or 0.0) > limit_mb * 2**20 / 1e6


def _memory_limit_mb(unit: Unit) -> int:
    """How much memory may a unit take? 0 for no limit, and for what is no server."""
    return unit.settings.memory_mb if isinstance(unit.settings, ServerSettings) else 0


def say_outgrown(observed: Observed, log: Path) -> None:
    """The last line of its log says why it is ended."""
    with suppress(OSError), log.open("a") as out:
        out.write(f"out of memory: killed at its limit of {_memory_limit_mb(observed.unit)} MB\n")


def how_it_ended(returncode: int | None, log: Path, log_from: int) -> str:
    """Why did a process end, in one line: its exit, and the last thing it said in this run."""
    if returncode is None:
        ended = "it ended"
    else:
        ended = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
    said = _last_line(log, log_from)
    return f"{ended}: {said}" if said else ended


def _last_line(log: Path, log_from: int) -> str:
    with suppress(OSError), log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        begin = log_from if log_from <= size else 0  # a rotated log begins anew
        file.seek(max(begin, size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
    return ""
