"""A real service with two versions of a tiny model behind a real gateway, to be disturbed and watched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flows.wiring import clock, wire
from pipelines.adapters.processes.supervisor import Supervisor
from pipelines.compress.search import techniques_for
from pipelines.home import Home
from pipelines.ports import Ports, Token
from pipelines.records.release import Candidate, Phase, Release
from pipelines.records.service import Deployment, Service
from pipelines.services.traffic import make_stable
from pipelines.services.units import gateway_name, server_name, wanted_units
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.supply.bundle import seal

NAME = "tiny"
FACTS = {"engine": "torch", "labels": ["negative", "neutral", "positive"], "max_length": 64, "model": NAME}
BROKEN_WORD, BEYOND = "film", 5000
"""A word whose token has no row in the embeddings: every text that holds it fails."""

SPEC = ReleaseSpec.model_validate_json(
    json.dumps(
        {
            "model": f"models:/{NAME}/2",
            "service": NAME,
            "evaluate": {"data": "rows.csv", "gates": [{"metric": "accuracy", "min": 0.0}]},
            "rollout": {"steps": [50], "look": 0.2, "lease": 10, "warmup": 0, "gates": {"latency": None}},
        }
    )
)


@dataclass
class Call:
    """One line of the caller."""

    began_s: float
    ended_s: float
    version: str
    outcome: str

    @property
    def failed(self) -> bool:
        """Whether its user did not get an answer."""
        return not self.outcome.startswith("2")


@dataclass
class LiveService:
    """Version 1 is stable, version 2 is the candidate; a thread keeps their processes running."""

    home: Home
    is_candidate_broken: bool
    ports: Ports = field(init=False)
    token: Token = field(init=False)
    digests: tuple[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.ports = wire(self.home)
        made = [self._deployment(1, False), self._deployment(2, self.is_candidate_broken)]
        self.digests = (made[0].digest, made[1].digest)
        service = Service(NAME, model=NAME, stable=made[0], candidate=made[1])
        self.ports.services.save(service)
        for unit in wanted_units(service, time.time()):
            self.ports.runtime.ensure(unit)
        self.token = self.ports.lock.acquire(NAME, "benchmark", 1e6, clock())

    def _deployment(self, version: int, broken: bool) -> Deployment:
        from tests.pipelines.model_folders import make_classifier

        folder = make_classifier(self.home.root / f"source-{version}", seed=version)
        (technique,) = techniques_for("dynamic-int8")
        facts = {**FACTS, "variant": technique.name}
        made = technique.compress(folder, self.home.root / f"variant-{version}", facts)
        if broken:
            _break(made.folder / "tokenizer.json")
        digest, bundle = seal(made.folder, {**facts, "engine": made.engine}, self.home.folder("bundles"))
        return Deployment(digest, str(bundle), NAME, version, f"r{version}")

    @property
    def url(self) -> str:
        """Where callers ask."""
        return f"{self.ports.runtime.status(gateway_name(NAME)).url}/v2/models/{NAME}/infer"

    @property
    def candidate_unit(self) -> str:
        """The candidate's process."""
        return server_name(NAME, self.digests[1], 0)

    def wait_ready(self, name: str, *, other_than: int | None = None, timeout_s: float = 60.0) -> None:
        """Wait until a unit is ready, as another process than before."""

        def is_ready() -> bool:
            status = self.ports.runtime.status(name)
            return status.state == "ready" and status.pid != other_than

        wait(is_ready, f"{name} is ready", timeout_s)

    def kill(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a unit's process; its process id."""
        pid = self.ports.runtime.status(name).pid
        assert pid is not None, name
        os.kill(pid, number)
        return pid

    def release(self, release_id: str) -> Release:
        """A recorded release of the candidate that is ready to meet its first users."""
        now_s = time.time()
        opened = Release().record(now_s, "opened", id=release_id, service=NAME, spec=SPEC.as_dict(), spec_digest="d")
        candidate = Candidate(NAME, 2, f"sha256:{release_id}", bundle_digest=self.digests[1], serving_version=2)
        champion = {"digest": self.digests[0], "version": 1, "bundle": ""}
        release = opened.record(now_s, "resolved", candidate=vars(candidate), champion=champion, alias_champion=1)
        for phase in (Phase.EVALUATED, Phase.COMPRESSED, Phase.BUILT, Phase.STAGED, Phase.QUALIFIED):
            release = release.enter(phase, now_s)
        self.ports.ledger.create(release)
        return release


def _break(tokenizer: Path) -> None:
    raw = json.loads(tokenizer.read_text())
    raw["model"]["vocab"][BROKEN_WORD] = BEYOND
    tokenizer.write_text(json.dumps(raw))


@contextmanager
def supervised(home: Home) -> Iterator[None]:
    """Gateways and servers of a home are kept running by a thread, and stopped afterwards."""
    supervisor, stopped = Supervisor(home), threading.Event()

    def keep_running() -> None:
        while not stopped.wait(0.05):
            supervisor.step(clock())

    thread = threading.Thread(target=keep_running)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        supervisor.stop_all()


@contextmanager
def live_service(root: Path, *, is_candidate_broken: bool) -> Iterator[LiveService]:
    """The service, running; everything that it needed is ended afterwards."""
    service = LiveService(Home.open(root), is_candidate_broken)
    with supervised(service.home):
        for unit in service.ports.runtime.units(NAME):
            service.wait_ready(unit.name)
        make_stable(service.ports, NAME, service.digests[0], service.token, "benchmark")
        yield service


@contextmanager
def calling(service: LiveService, calls_per_s: float) -> Iterator[Callable[[], list[Call]]]:
    """A caller in a process of its own; gives what it has seen so far, and all of it once it was ended."""
    file = service.home.root / f"calls-{time.monotonic_ns()}.txt"
    command = [sys.executable, "-m", "benchmarks.caller", service.url, str(calls_per_s), str(file)]
    child = subprocess.Popen(command)
    wait(lambda: file.exists() and len(seen_in(file)) > 10, "the caller calls", 30)
    try:
        yield lambda: seen_in(file)
    finally:
        child.terminate()
        child.wait(60)


def seen_in(file: Path) -> list[Call]:
    """The calls that a file tells of; a line that is still being written is left for the next time."""
    whole = file.read_text().rpartition("\n")[0]
    return [Call(float(a), float(b), c, d) for a, b, c, d in (line.split() for line in whole.splitlines())]


def wait(holds: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Wait until something holds."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"never: {what}")
        time.sleep(0.02)
