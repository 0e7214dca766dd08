"""A home of the Shipway before `GatewaySettings` is opened, upgraded in place, and can be gone back to."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from sqlalchemy import insert

from pipelines.adapters.processes.runtime import ProcessRuntime
from pipelines.adapters.processes.supervisor import Supervisor
from pipelines.adapters.processes.unit_files import boot_id, observed_file, read_observed, since_boot_s, unit_file
from pipelines.adapters.sql.engine import open_engine, transaction
from pipelines.adapters.sql.services import SqlServices
from pipelines.adapters.sql.tables import services
from pipelines.errors import LedgerBroken
from pipelines.home import Home
from pipelines.records.service import Deployment, Service
from pipelines.records.settings import GatewaySettings, Recording, ServerSettings, Shadowing
from pipelines.records.unit import Unit
from pipelines.services.units import wanted_units
from tests.pipelines.adapters.processes import old_home
from tests.pipelines.adapters.processes.tiny_server import now

TOLD = GatewaySettings(
    *("shipway", 2, 3.0, ("x-lang",), 60.0, "cookie:id", Recording(0.5, 10, ("body.user",)), 60.0, "cut", ("/v1/*",)),
    shadow=Shadowing(5.0, 3),
)
STABLE = Deployment("sha256:1", "/b/1", "m", 1, "r1", image="sha256:i", settings=ServerSettings(None, 2048, 512, 60.0))
SERVICE = Service("s", 3, "m", 8080, cpus=2.0, settings=TOLD, stable=STABLE)
EXTERNAL = Unit("s-2-0", "external", "s", "external:2", url="http://127.0.0.1:9", probe="/ping")
KINDS = ("gateway", "server", "external")
UNITS = (*wanted_units(SERVICE, 0.0), EXTERNAL)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home.open(tmp_path / "home")


def test_the_record_of_an_older_shipway_is_read():
    """Its settings stood beside its other keys."""
    assert Service.from_dict(old_home.SERVICE) == SERVICE


def test_an_older_shipway_reads_the_record():
    """It is written as before, key by key: an older one refuses a key that it does not know."""
    assert json.loads(json.dumps(SERVICE.as_dict())) == old_home.SERVICE


def test_the_ledger_of_an_older_shipway_is_upgraded_in_place_and_gone_back_to(tmp_path):
    """What was saved over its record is the record that it would have saved."""
    engine = open_engine(tmp_path / "ledger.db")
    with transaction(engine) as connection:
        connection.execute(insert(services).values(name="s", version=3, body=json.dumps(old_home.SERVICE)))
    ledger = SqlServices(engine)
    assert ledger.load("s") == SERVICE
    ledger.save(ledger.load("s").changed(replicas=2))
    with engine.connect() as connection:
        body = json.loads(connection.execute(services.select()).one().body)
    assert body == {**old_home.SERVICE, "version": 4, "replicas": 2}


@pytest.mark.parametrize("more", [{"settings": {"drain_s": 1.0}}, {"ttft_ms": 800}, {"stable": {"digest": "x"}}])
def test_the_record_of_a_newer_shipway_is_refused(tmp_path, more):
    """Nobody serves by the half of it that he knows."""
    engine = open_engine(tmp_path / "ledger.db")
    with transaction(engine) as connection:
        connection.execute(insert(services).values(name="s", version=3, body=json.dumps({**old_home.SERVICE, **more})))
    with pytest.raises(LedgerBroken) as caught:
        SqlServices(engine).load("s")
    assert caught.value.code == "E_RECORD"


@pytest.mark.parametrize(("unit", "raw"), [*zip(UNITS, old_home.UNITS, strict=True)], ids=KINDS)
def test_the_units_of_an_older_shipway_are_read_and_written_for_it(unit, raw):
    """What it finds missing is what it would have said of such a unit."""
    assert Unit.from_dict(raw) == unit
    assert {**old_home.USUAL_UNIT, **json.loads(json.dumps(unit.as_dict()))} == raw
    assert set(unit.as_dict()) <= set(raw)


@pytest.mark.parametrize("raw", [old_home.GATEWAY, {**old_home.SERVER, "port": 20_001}], ids=KINDS[:2])
def test_what_an_older_shipway_started_runs_on(home, raw):
    """Adopted as it is, by flat notes and without a settings file; what is wanted now is what it was started for."""
    child = subprocess.Popen(["sleep", "60"])
    process = psutil.Process(child.pid)
    seen = {"unit": raw, "pid": process.pid, "started_s": since_boot_s(process), "started_at_s": 1.0}
    seen |= {"restarts": 1, "state": "running", "reason": "", "boot": boot_id()}
    unit_file(home, raw["name"]).write_text(json.dumps(raw))
    observed_file(home, raw["name"]).write_text(json.dumps(seen))
    before = unit_file(home, raw["name"]).read_bytes()
    supervisor = Supervisor(home, lambda *_: pytest.fail("it was started anew"))
    ProcessRuntime(home).ensure(replace(Unit.from_dict(raw), port=0))
    supervisor.step(now())
    supervisor.step(now())
    child.kill()
    child.wait()
    assert unit_file(home, raw["name"]).read_bytes() == before
    assert (read_observed(home, raw["name"]).pid, read_observed(home, raw["name"]).restarts) == (process.pid, 1)


def test_a_unit_of_another_kind_of_settings_is_none():
    """A server behaves as no gateway, and the other way round."""
    for kind, settings in (("gateway", ServerSettings()), ("server", GatewaySettings())):
        with pytest.raises(TypeError):
            Unit("s-0", kind, "s", settings=settings)
