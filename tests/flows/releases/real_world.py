"""A home on real processes, driven from the command line, and a client that never asks twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx
import psutil
import pytest

from flows.wiring import clock, tracking_uri, wire
from pipelines.errors import DependencyDown
from pipelines.home import Home
from pipelines.ports import Ports
from pipelines.records.reading import readable, unfinished
from pipelines.records.release import Release
from pipelines.services.units import gateway_name
from tests.systems.mlflow_database import lay_database
from tests.systems.prefect_server import PrefectServer
from tests.waiting import HANG_S

SPEC = """\
model: models:/tiny/1
service: tiny
bootstrap: true
evaluate:
  data: rows.csv
  gates: [{metric: accuracy, min: 0.0}]
compress: dynamic-int8
rollout:
  steps: [30]
  hold: 3
  look: 0.5
  lease: 20
  warmup: 0
  holdback_pct: 10
  bake: 3
  deadline: 180
  gates: {errors: {margin: 0.1}, latency: null, drift: null}  # random weights predict anything
retain: 10m
"""
SHORT_LEASE = ("lease: 20", "lease: 8")
"""For tests of its end: on a slow machine a lease of 8 s may end although its holder lives."""


@dataclass
class Client:
    """Sends rows to the gateway in a thread, never again after a failure, and counts."""

    url: str
    answered: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    """When each was asked, and what came instead of an answer."""
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until stopped, about a hundred requests a second."""
        body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a good film"]}]}
        with httpx.Client(trust_env=False, timeout=HANG_S) as client:
            while not self.stopped.wait(0.01):
                asked_s = time.time()
                try:
                    client.post(f"{self.url}/v2/models/tiny/infer", json=body).raise_for_status()
                except httpx.HTTPError as error:
                    self.failures.append((asked_s, str(error) or repr(error)))
                else:
                    self.answered += 1

    @property
    def failed(self) -> int:
        """How many were not answered well."""
        return len(self.failures)


@dataclass
class World:
    """A home with a service that serves version 1, and a spec. Prefect's server is `prefect_url`, or a run's own."""

    home: Home
    ports: Ports
    spec: Path
    next_version: int = 2
    prefect_url: str = ""
    begun: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, *arguments: str) -> list[str]:
        """A command line."""
        return [sys.executable, "-m", "flows.cli", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )

    def start_release(self) -> subprocess.Popen[bytes]:
        """Begin to release the next version, in the background."""
        model = f"models:/tiny/{self.new_version()}"
        with (self.home.root / "release.out").open("ab") as log:
            return self.begin("release", str(self.spec), "--model", model, stdout=log, stderr=log)

    def start_up(self) -> subprocess.Popen[bytes]:
        """Begin `up`, as systemd would."""
        return self.begin("up")

    def begin(self, *arguments: str, **streams: IO[bytes]) -> subprocess.Popen[bytes]:
        """A command in the background, which ends with this world."""
        command = self.command(*arguments)
        self.begun.append(subprocess.Popen(command, env=self.environment, start_new_session=True, **streams))
        return self.begun[-1]

    def end(self) -> None:
        """Nothing of it stays behind, wherever a test has failed: `down` stops what `up` owns, if there is one."""
        for process in self.begun:
            if "up" not in process.args and process.poll() is None:
                kill(process)
        self.run("down")
        for unit in self.ports.runtime.units("tiny"):
            if pid := self.ports.runtime.status(unit.name).pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self.begun:
            process.wait(HANG_S)

    def new_version(self) -> int:
        """A version that was not released yet."""
        from tests.pipelines.model_folders import make_classifier

        folder = make_classifier(self.home.root / "models" / str(self.next_version), seed=self.next_version)
        self.next_version += 1
        return self.ports.registry.register("tiny", folder, {}).version

    @property
    def environment(self) -> dict[str, str]:
        """Where commands find the home, and Prefect its own."""
        prefect = {"PREFECT_HOME": str(self.home.root / "prefect")}
        if self.prefect_url:
            prefect["PREFECT_API_URL"] = self.prefect_url
        return {**os.environ, **prefect, "SHIPWAY_HOME": str(self.home.root)}

    @property
    def url(self) -> str:
        """The gateway."""
        return self.ports.runtime.status(gateway_name("tiny")).url

    def newest(self):
        """The newest release, as recorded."""
        return next(readable(self.ports.ledger))

    @contextmanager
    def prefect_of_its_own(self) -> Iterator[None]:
        """A release that is begun in this block has no server of Prefect but its home's."""
        url, self.prefect_url = self.prefect_url, ""
        try:
            yield
        finally:
            self.prefect_url = url

    @contextmanager
    def spec_with(self, old: str, new: str) -> Iterator[None]:
        """Something else stands in the spec for the releases that are begun in this block."""
        text = self.spec.read_text()
        assert old in text
        self.spec.write_text(text.replace(old, new))
        try:
            yield
        finally:
            self.spec.write_text(text)

    def wait(self, what: str, holds: Callable[[], bool], timeout_s: float = 180) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                pytest.fail(f"never: {what}; {self.newest().phase}: {self.newest().reason}")
            time.sleep(0.05)

    def controller_pid(self) -> int:
        """Who decides: the process that holds the service's lock, once there is one."""
        self.wait("a controller", lambda: self.ports.lock.holder("tiny", clock()) is not None)
        return int(self.ports.lock.holder("tiny", clock()).split(":")[-2])

    def share(self) -> float:
        """What the gateway says; nothing while it is down, or gives way to one with other settings."""
        try:
            return self.ports.router.read("tiny").canary_pct
        except DependencyDown:
            return 0.0

    def wait_share(self, child: subprocess.Popen[bytes] | None = None) -> None:
        """Wait until users meet a canary whose share is confirmed."""

        def exposed() -> bool:
            assert child is None or child.poll() is None, (self.home.root / "release.out").read_text()[-2000:]
            return self.share() > 0 and self.newest().confirmed_pct > 0

        self.wait("a share for the canary", exposed)

    def wait_share_of(self, service: str, child: subprocess.Popen[bytes]) -> Release:
        """The release of another service, once users may meet its canary."""

        def exposed() -> bool:
            assert child.poll() is None, (self.home.root / "release.out").read_text()[-2000:]
            return any(release.confirmed_pct > 0 for release in unfinished(self.ports.ledger, service))

        self.wait(f"a share for the canary of {service}", exposed)
        return unfinished(self.ports.ledger, service)[0]

    def champion(self, alias: str) -> int:
        """The version that an alias names."""
        return self.ports.registry.resolve(f"models:/tiny@{alias}").version

    def wait_ended(self) -> None:
        """Wait until the newest release has ended."""
        self.wait("the end of the release", lambda: self.newest().is_ended)


@contextmanager
def bootstrapped(root: Path, prefect: PrefectServer, spec: str = SPEC) -> Iterator[World]:
    """A home whose version 1 serves, released through the command line."""
    from tests.pipelines.model_folders import make_classifier

    home = Home.open(root)
    rows = [
        f"{text},{label}"
        for text in ("a good film", "a bad film", "it was fine", "sad movie")
        for label in ("negative", "neutral", "positive")
    ]
    (root / "rows.csv").write_text("text,label\n" + "\n".join(rows * 5) + "\n")
    (root / "release.yaml").write_text(spec)
    lay_database(root / "mlflow.db")
    made = World(home, wire(home), root / "release.yaml", prefect_url=prefect.url)
    folder = make_classifier(root / "models" / "1", seed=1)
    assert made.ports.registry.register("tiny", folder, {}).version == 1
    assert tracking_uri(home).endswith("mlflow.db") or "//127.0.0.1:" in tracking_uri(home)
    try:
        done = made.run("release", str(made.spec), "--json")
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout)["label"] == "unproven"
        yield made
    finally:
        made.end()


@contextmanager
def calling(url: str) -> Iterator[Client]:
    """Traffic while the block runs."""
    sending = Client(url)
    thread = threading.Thread(target=sending.run, daemon=True)
    thread.start()
    try:
        yield sending
    finally:
        sending.stopped.set()
        thread.join()


def looks_since(release, at_s: float) -> int:
    """How often whoever decides has looked since then, as recorded."""
    return sum(1 for event in release.of_kind("looked") if event.at_s > at_s)


def phases(release) -> list[str]:
    """The phases that a release has entered, in order."""
    return [str(event.data["phase"]) for event in release.of_kind("entered")]


def kill(process: subprocess.Popen[bytes] | psutil.Process) -> None:
    """SIGKILL to a process of this test's world, and its helpers."""
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()
