"""Which ways lead to an engine? Directly, through the gateway, and through the gateway and a server's front before it.

The gateway follows what it passes on (`serve.api: openai`, with an objective); nine of ten requests go to its stable
arm, the tenth to its canary, and both are the same engine.
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import proxies
from benchmarks.gateway import free_port
from benchmarks.llm_gpu.engines import Running
from pipelines.adapters.gateway import ask_gateway
from pipelines.records.settings import GatewaySettings, Objective, ServerSettings
from pipelines.serving.engines.endpoint import told_by
from pipelines.serving.settings_file import write_settings
from pipelines.supply.bundle import seal

_SAMPLE = re.compile(r"^(\w+)\{([^}]*)\} ([\d.eE+-]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Metered:
    """What the gateway's meter has counted so far: tokens, answers, and the time per token after the first."""

    tokens: float = 0.0
    answers: float = 0.0
    between_s: float = 0.0

    def since(self, before: Metered) -> Metered:
        """What came after that."""
        return Metered(self.tokens - before.tokens, self.answers - before.answers, self.between_s - before.between_s)


@dataclass
class Way:
    """Where clients ask, and the processes of Shipway's that stand there."""

    name: str
    port: int
    processes: tuple[psutil.Process, ...] = ()
    admin: Path | None = None

    def spent_s(self) -> float:
        """CPU seconds of these processes so far."""
        family = [one for process in self.processes for one in (process, *process.children(recursive=True))]
        return sum(times.user + times.system for times in (one.cpu_times() for one in family))

    def metered(self) -> Metered:
        """By the gateway; nothing where there is none."""
        if self.admin is None:
            return Metered()
        return metered_in(ask_gateway(self.admin, "GET", "/metrics").text)


def metered_in(text: str) -> Metered:
    """What the meter has counted, in the words of `/metrics`, over both arms."""
    found = {"tokens": 0.0, "count": 0.0, "sum": 0.0}
    for name, labels, value in _SAMPLE.findall(text):
        if name == "shipway_gateway_tokens_total" and 'kind="out"' in labels:
            found["tokens"] += float(value)
        what = name.removeprefix("shipway_gateway_between_tokens_seconds_")
        if what in {"count", "sum"}:
            found[what] += float(value)
    return Metered(found["tokens"], found["count"], found["sum"])


def gateway(stack: ExitStack, folder: Path, name: str, upstream: int, workers: int = 1) -> Way:
    """A gateway of so many processes, running until the stack ends."""
    folder.mkdir(parents=True)
    settings = GatewaySettings(timeout_s=120.0, api="openai", objective=Objective(0.8, 0.06, 30.0), workers=workers)
    write_settings(folder / "settings", settings)
    port = free_port()
    command = [*proxies.shipway(folder, port, upstream), "--settings", str(folder / "settings")]
    process = stack.enter_context(proxies.started(command, port, folder / "gateway.out"))
    proxies.give_arms(folder, upstream)
    return Way(name, port, (process,), folder / "g.sock")


def fronted(stack: ExitStack, folder: Path, name: str, engine: Running, model: str) -> Way:
    """A gateway before a server of Shipway's whose engine is this one (`serve: {engine: vllm, url: …}`)."""
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "config.json").write_text("{}")
    (folder / "bundles").mkdir()
    told = told_by(engine.url)
    context = next(iter(told.contexts.values())) or 4096
    facts = {"engine": "vllm", "context": context, "version": f"vllm {told.version}", "precision": "bfloat16"}
    digest, bundle = seal(folder / "files", {**facts, "model": model, "variant": "source"}, folder / "bundles")
    write_settings(folder / "settings", ServerSettings(cpus=1.0, engine_at=engine.url))
    port = free_port()
    options = {"bundle": bundle, "digest": digest, "port": port, "model-name": model, "settings": folder / "settings"}
    told_options = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "pipelines.serving.server", *told_options]
    process = stack.enter_context(proxies.started(command, port, folder / "front.out"))
    before = gateway(stack, folder / "gateway", name, port)
    return Way(name, before.port, (*before.processes, process), before.admin)
