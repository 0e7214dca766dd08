"""What is released on the GPU's machine? A service that adopted one engine, and a candidate that is another one.

Gateway, judge, rollout loop, lock and services are the product's, with the SQLite ledger; the registry is in memory (no
MLflow, no Prefect), and holds a version of a few bytes for each release. Candidates are adopted endpoints, as
`shipway adopt` makes them: nobody starts or ends them but who measures.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.live_service import supervised, wait
from benchmarks.llm_gpu.engines import PROBE
from flows.wiring import clock, wire
from pipelines.adapters.memory.registry import MemoryRegistry
from pipelines.home import Home
from pipelines.ports import Ports, Token
from pipelines.records.release import Candidate, Phase, Release
from pipelines.records.service import Deployment, Service
from pipelines.services.traffic import make_stable
from pipelines.services.units import gateway_name, server_units, wanted_units
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.serve import gateway_settings
from pipelines.spec.spec_file import parse_spec

NAME = "chat"
VERSIONS = 100
"""More than anybody releases in one run: a process that takes a release over knows the same registry."""

LOCK_S = 3.0


def spec_of(rollout: Mapping[str, Any]) -> ReleaseSpec:
    """A release of a language model with its usual gates, whose steps are as short as `rollout` says."""
    asked = {
        "model": f"models:/{NAME}/2",
        "service": NAME,
        "evaluate": {"data": "rows.jsonl", "gates": [{"metric": "perplexity", "max": 1e9}]},
        "serve": {"api": "openai", "objective": {"ttft": "1s", "tpot": "100ms"}, "timeout": "60s"},
        "compress": "none",
        "rollout": dict(rollout),
    }
    return parse_spec(json.dumps(asked))


def digest_of(version: int) -> str:
    """An identity for each release: equal bytes under another name."""
    return f"sha256:{hashlib.sha256(f'release {version}'.encode()).hexdigest()}"


def ports_of(home: Home, stable_version: int) -> Ports:
    """The product's ports, with a registry in memory in which this version is the champion."""
    registry = MemoryRegistry()
    folder = home.root / "work" / "version"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    for _ in range(VERSIONS):
        registry.add(NAME, folder)
    registry.mark(NAME, aliases={"champion": stable_version})
    return replace(wire(home), registry=registry)


@dataclass
class Adopted:
    """The service, with its gateway running in a process of its own."""

    home: Home
    spec: ReleaseSpec
    url: str
    ports: Ports = field(init=False)
    version: int = 1

    def __post_init__(self) -> None:
        self.ports = ports_of(self.home, 1)
        settings = gateway_settings(self.spec.serve, self.spec.rollout)
        service = Service(NAME, model=NAME, stable=self._deployment(1, self.url), settings=settings)
        self.ports.services.save(service)
        for unit in wanted_units(service, time.time()):
            self.ports.runtime.ensure(unit)

    def _deployment(self, version: int, url: str) -> Deployment:
        return Deployment(digest_of(version), "", NAME, version, f"r{version}", url=url, probe=PROBE)

    @property
    def gateway_url(self) -> str:
        """Where users ask."""
        return self.ports.runtime.status(gateway_name(NAME)).url

    @property
    def stable_url(self) -> str:
        """Which engine is stable now."""
        stable = self.ports.services.load(NAME).stable
        assert stable is not None
        return stable.url

    def take_lock(self, who: str) -> Token:
        """The right to write, for a release that is driven in this process."""
        return self.ports.lock.acquire(NAME, who, 1e4, clock())

    def begin(self, url: str) -> Release:
        """A recorded release of what answers at `url`, ready to meet its first users."""
        self.version += 1
        service = self.ports.services.load(NAME)
        candidate, stable, now_s = self._deployment(self.version, url), service.stable, time.time()
        assert stable is not None
        self.ports.services.save(service.changed(candidate=candidate, previous=None))
        self._forget({stable.digest})
        for unit in server_units(service, candidate):
            self.ports.runtime.ensure(unit)
        release_id = f"r{self.version}"
        about = {"id": release_id, "service": NAME, "spec": self.spec.as_dict(), "spec_digest": "d"}
        opened = Release().record(now_s, "opened", **about)
        sealed = Candidate(
            NAME, self.version, candidate.digest, bundle_digest=candidate.digest, serving_version=self.version
        )
        champion = {"digest": stable.digest, "version": stable.version, "bundle": ""}
        release = opened.record(
            now_s, "resolved", candidate=vars(sealed), champion=champion, alias_champion=stable.version
        )
        for phase in (Phase.EVALUATED, Phase.COMPRESSED, Phase.BUILT, Phase.STAGED, Phase.QUALIFIED):
            release = release.enter(phase, now_s)
        self.ports.ledger.create(release)
        self.ports.registry.mark(NAME, aliases={"champion": stable.version})
        return release

    def _forget(self, kept: set[str]) -> None:
        """Nobody wants what earlier releases left."""
        for unit in self.ports.runtime.units(NAME):
            if unit.kind == "external" and unit.digest not in kept:
                self.ports.runtime.remove(unit.name)


@contextmanager
def adopted(root: Path, spec: ReleaseSpec, url: str) -> Iterator[Adopted]:
    """The service of the engine at `url`, serving until this ends."""
    service = Adopted(Home.open(root), spec, url)
    with supervised(service.home):
        wait(lambda: service.ports.runtime.status(gateway_name(NAME)).state == "ready", "the gateway is ready", 30.0)
        token = service.take_lock("beginning")
        make_stable(service.ports, NAME, digest_of(1), token, "beginning")
        service.ports.lock.release(token)
        yield service
