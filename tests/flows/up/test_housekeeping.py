"""`shipway gc`: it frees what it says, and leaves alone what is needed."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from flows.up.housekeeping import collect, expire_records
from flows.up.seldom import Seldom
from flows.wiring import wire
from pipelines.adapters.docker.builder import DockerBuilder
from pipelines.adapters.docker.engine import engine, image_id
from pipelines.errors import DependencyDown
from pipelines.home import Home
from pipelines.ports import Ports
from pipelines.records.release import Phase, Release
from pipelines.records.service import Deployment, Service
from pipelines.records.settings import GatewaySettings, Recording
from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.requests.record_file import Named, Recorded, keep, recorded_numbers, settle
from pipelines.supply.bundle import seal
from tests.systems.docker_engine import BASE_IMAGE

FACTS = {"engine": "torch", "labels": ["a", "b"], "max_length": 8, "model": "m", "variant": "source"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home."""
    monkeypatch.delenv("SHIPWAY_LEDGER_URL", raising=False)
    return Home.open(tmp_path / "home")


@pytest.fixture
def ports(home: Home) -> Ports:
    """The real ones; no gateway runs."""
    return wire(home)


def sealed(home: Home, text: str) -> tuple[str, Path]:
    """A bundle with some bytes."""
    source = home.root.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "weights").write_text(text * 100)
    return seal(source, FACTS, home.folder("bundles"))


def opened(release_id: str, digest: str = "") -> Release:
    """A release, with its bundle where it has chosen one."""
    candidate = {"model": "m", "version": 1, "artifact_digest": "a", "bundle_digest": digest}
    found = Release().record(1.0, "opened", id=release_id, service="s", spec={}, spec_digest="d")
    return found.record(1.0, "resolved", candidate=candidate, champion=None)


def test_what_nobody_needs_goes_and_the_rest_stays(home, ports):
    """Of three bundles one is stable and one is a running release's; of two working folders one has ended."""
    (stable, at), (running, _), (unused, gone) = (sealed(home, text) for text in "abc")
    ports.services.save(Service("s", stable=Deployment(stable, str(at), "m", 1, "r0")))
    ports.ledger.create(opened("r1", running))
    ports.ledger.create(opened("r2").enter(Phase.REJECTED, 2.0, why="worse"))
    for name in ("r1", "r2"):
        (home.folder("work") / name / "source").mkdir(parents=True)
    (home.folder("logs") / "up.log.1").write_text("old")
    (home.folder("logs") / "up.log").write_text("new")
    litter = collect(home, ports, dry_run=False)
    assert ([b.name for b in litter.bundles], gone.exists()) == ([unused], False)
    assert sorted(p.name for p in home.folder("bundles").glob("sha256-*")) == sorted(
        d.replace(":", "-") for d in (stable, running)
    )
    assert [p.name for p in home.folder("work").iterdir()] == ["r1"]
    assert [p.name for p in home.folder("logs").iterdir()] == ["up.log"]
    assert collect(home, ports, dry_run=False).size_bytes == 0


def test_a_record_goes_with_its_service(home, ports):
    """Recorded requests stay while their service records, and no longer."""
    saved = ports.services.save(Service("s", settings=GatewaySettings(record=Recording())))
    home.record("s").write_text("requests")
    assert collect(home, ports, dry_run=False).records == ()
    ports.services.save(saved.changed(wanted=False))
    assert [record.name for record in collect(home, ports, dry_run=False).records] == ["s"]
    assert list(home.folder("records").iterdir()) == []


def test_what_a_record_held_is_overwritten_before_it_goes(home, ports, tmp_path):
    """Whoever still holds the file finds nothing in it."""
    settle(home.record("s"), Recording())
    asked = Recorded(0, time.time(), "POST", "/invocations", {}, b'"a text"')
    keep(home.record("s"), [Named(asked, b"r", None)], 10)
    (tmp_path / "held").hardlink_to(home.record("s"))
    ports.services.save(Service("s"))
    assert [record.name for record in collect(home, ports, dry_run=False).records] == ["s"]
    assert (home.record("s").exists(), b"a text" in (tmp_path / "held").read_bytes()) == (False, False)


def test_recorded_requests_end_after_their_time_without_a_gateway(home):
    """By the time that their service was told; a file that is none is a warning, and others have their turn."""
    for service, retain_s in (("a", 3600.0), ("b", 60.0)):
        settle(home.record(service), Recording(retain_s=retain_s))
        asked = Recorded(0, time.time() - 600.0, "POST", "/invocations", {}, b'"a text"')
        keep(home.record(service), [Named(asked, b"r", None)], 10)
    home.record("broken").write_text("no database at all, and long enough to be one")
    warned = Seldom(logging.getLogger("test"))
    expire_records(home, warned.outliving)
    assert [len(recorded_numbers(home.record(service))) for service in "ab"] == [1, 0]
    assert (b"a text" in home.record("b").read_bytes(), len(warned._said)) == (False, 1)


def test_what_the_last_gateway_pointed_at_stays(home, ports):
    """No gateway runs; the next one begins with its snapshot. One that cannot be read keeps everything."""
    (routed, _), (unused, _) = sealed(home, "a"), sealed(home, "b")
    ports.services.save(Service("s"))
    snapshot = home.folder("run") / "s.split"
    snapshot.write_text(json.dumps(TrafficSplit(stable=Arm(routed, ("http://127.0.0.1:1",))).as_dict()))
    assert [b.name for b in collect(home, ports, dry_run=True).bundles] == [unused]
    snapshot.write_text("torn")
    litter = collect(home, ports, dry_run=False)
    assert (litter.bundles, "router" in litter.why_kept) == ((), True)


def test_links_are_not_followed(home, ports, tmp_path):
    """What a link in the home leads to is not ours."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    (home.folder("bundles") / ("sha256-" + "0" * 64)).symlink_to(tmp_path / "mine")
    (home.folder("work") / "r9").symlink_to(tmp_path / "mine")
    assert collect(home, ports, dry_run=False).size_bytes == 0
    assert (tmp_path / "mine" / "file").read_text() == "precious"


@pytest.mark.integration
def test_the_command_says_how_much_it_frees(home):
    """`--dry-run` says the same and removes nothing."""
    digest, path = sealed(home, "a")
    size_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    environment = {**os.environ, "SHIPWAY_HOME": str(home.root)}
    for options, is_there in ((("--dry-run",), True), ((), False)):
        command = [sys.executable, "-m", "flows.cli", "gc", "--json", *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        said = json.loads(done.stdout)
        assert (said["bundles"], said["bytes_freed"], path.exists()) == ([digest], size_bytes, is_there)


@pytest.mark.integration
@pytest.mark.docker
@pytest.mark.timeout(300)
def test_an_image_goes_with_its_bundle(home, ports, docker_engine):
    """And a bundle stays as long as its image cannot be removed: the next run finds both."""
    (home.root / "prepared").mkdir()
    (home.root / "prepared" / "config.json").write_text("{}")
    facts = FACTS | {"engine": "onnxruntime"}
    bundle = DockerBuilder(home.folder("bundles"), home.id, BASE_IMAGE).build(home.root / "prepared", facts)
    begun = opened("r1")
    packed = asdict(begun.candidate) | {"bundle_digest": bundle.digest, "image": bundle.image}
    ports.ledger.create(begun.record(2.0, "sealed", candidate=packed).enter(Phase.REJECTED, 3.0, why="worse"))
    user = engine().containers.create(bundle.image)
    with pytest.raises(DependencyDown, match="container"):
        collect(home, ports, dry_run=False)
    assert bundle.path.exists()
    user.remove()
    assert [b.name for b in collect(home, ports, dry_run=False).bundles] == [bundle.digest]
    assert (image_id(engine(), bundle.image), bundle.path.exists()) == ("", False)
