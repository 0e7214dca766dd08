"""Does one broken thing stop the care for others? Never: the good ones are looked after, and the broken are named."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

import flows.up.up
import flows.watch
from flows.cli.app import app
from flows.control.opening import opened as opening
from flows.up import seldom
from flows.up.housekeeping import collect
from flows.up.ledger_backup import back_up
from flows.up.seldom import Seldom
from flows.up.up import Up
from flows.web.api import make_app
from flows.web.release_metrics import metrics_text
from flows.web.snapshot import KEEP_S, Snapshot
from flows.wiring import wire
from pipelines.errors import DependencyDown, LedgerBroken
from pipelines.forecast.usual_traffic import measured
from pipelines.home import Home
from pipelines.ports import Now, Ports
from pipelines.records.reading import Inspection, unfinished, unfinished_or_refuse
from pipelines.records.release import Event, Phase, Release
from pipelines.records.service import Service
from pipelines.spec.release_spec import ReleaseSpec

COUNT = 70
"""More than a page; it is the same with thousands (benchmarks/history.py)."""


def recorded(release_id: str, service: str, at_s: float, *, ended: bool = True) -> Release:
    """A release of three or four events."""
    candidate = {"model": "m", "version": 3, "artifact_digest": "sha256:a", "bundle_digest": "sha256:" + "b" * 64}
    found = Release().record(at_s, "opened", id=release_id, service=service, spec={"model": "m"}, spec_digest="d")
    found = found.record(at_s + 1, "resolved", candidate=candidate, champion=None).enter(Phase.EVALUATED, at_s + 2)
    return found.enter(Phase.REJECTED, at_s + 3, why="worse") if ended else found


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger: `aa` has an ended and an unfinished release that will be broken, `zz` a running one, and many ended."""
    home = Home.open(tmp_path_factory.mktemp("original") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SHIPWAY_LEDGER_URL", raising=False)
        ports = wire(home)
    for name in ("aa", "zz"):
        ports.services.save(Service(name))
    for number in range(COUNT):
        ports.ledger.create(recorded(f"zz-{number:03}", "zz", 1000.0 + number))
    ports.ledger.create(recorded("aa-old", "aa", 1010.5))
    ports.ledger.create(recorded("aa-open", "aa", 1011.5, ended=False))
    ports.ledger.create(recorded("zz-open", "zz", 2000.0, ended=False))
    return home.root


@pytest.fixture
def home(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy of it."""
    monkeypatch.delenv("SHIPWAY_LEDGER_URL", raising=False)
    monkeypatch.setenv("SHIPWAY_HOME", str(tmp_path / "home"))
    shutil.copytree(original, tmp_path / "home")
    return Home.open(tmp_path / "home")


def change(home: Home, statement: str, *values: object) -> None:
    """Behind Shipway's back."""
    with closing(sqlite3.connect(home.root / "ledger.db")) as connection:
        connection.execute(statement, values)
        connection.commit()


def alter(home: Home, release_id: str) -> None:
    """One byte of an event is another."""
    change(home, "UPDATE events SET data = replace(data, 'sha256:a', 'sha256:c') WHERE release_id = ?", release_id)


def cut_off(home: Home, release_id: str) -> None:
    """The last event is gone."""
    change(home, "DELETE FROM events WHERE release_id = ? AND seq = 3", release_id)


def make_newer(home: Home, release_id: str) -> None:
    """A newer Shipway went on with it, in phases that this one does not know."""
    last = wire(home).ledger.load(release_id).events[-1]
    event = Event.after(last, 3000.0, "entered", {"phase": "resting"})
    row = (release_id, event.seq, event.at_s, event.kind, json.dumps(dict(event.data)), event.prev, event.hash)
    change(home, "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
    change(
        home,
        "UPDATE releases SET version = ?, phase = 'resting', "
        "summary = json_set(summary, '$.phase', 'resting', '$.mood', 7) WHERE id = ?",
        event.seq,
        release_id,
    )


BROKEN = pytest.mark.parametrize("damage", [alter, cut_off, make_newer])


@pytest.fixture
def ports(home: Home) -> Iterator[Ports]:
    """The real ones; no gateway runs."""
    return wire(home)


def shipway(*arguments: str) -> str:
    """The standard output of a command that ends with 0."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done
    return done.stdout


@BROKEN
def test_list_gives_the_good_ones_and_names_the_broken(home, damage):
    """In pages, whatever the order; the broken one on its page, and of itself with `--broken`."""
    damage(home, "aa-open")
    lines = json.loads(shipway("list", "--json", "--limit", "1000"))
    (broken,) = [line for line in lines if "broken" in line]
    assert (len(lines), broken["id"], broken["outcome"]) == (COUNT + 3, "aa-open", None)
    assert json.loads(shipway("list", "--json", "--broken")) == [broken]
    text = shipway("list")
    assert "there are more: shipway list --limit 50 --before zz-021" in text
    assert "1 broken in all: shipway list --broken" in text
    rest = json.loads(shipway("list", "--json", "--before", "zz-021"))
    assert [line["id"] for line in (*json.loads(shipway("list", "--json")), *rest)] == [line["id"] for line in lines]


@BROKEN
def test_status_shows_the_newest_good_one_and_names_the_broken(home, damage):
    """Also where the newest record of all is the broken one."""
    damage(home, "zz-open")
    assert json.loads(shipway("status", "--json"))["id"] == "zz-069"
    assert "broken   zz-open of zz:" in shipway("status")


@BROKEN
def test_metrics_tell_of_the_healthy_and_count_the_broken(home, ports, damage):
    """An alarm is not lost together with the patient."""
    damage(home, "aa-open")
    families = text_string_to_metric_families(metrics_text(ports, unfinished(ports.ledger)))
    found = {frozenset({s.name, *s.labels.values()}): s.value for family in families for s in family.samples}

    def value(*of: str) -> float:
        return found[frozenset(f"shipway_{word}" if word == of[0] else word for word in of)]

    assert [value("broken_records", name) for name in ("aa", "zz")] == [1, 0]
    assert value("releases", "zz", "rejected") == COUNT
    assert [value("releases", "aa", outcome) for outcome in ("running", "broken", "rejected")] == [0, 1, 1]
    assert value("release_phase_seconds", "zz", "evaluate") == 2


def test_metrics_outlive_what_only_another_shipway_understands(home, ports):
    """A record may verify and say what this one does not know; a service's own record may be torn."""
    look = {"strata": [], "verdict": {"progress": 7}, "why": ""}
    release = ports.ledger.load("aa-open")
    ports.ledger.save(release.record(2500.0, "looked", **look), release.version)
    change(home, "UPDATE services SET body = '{' WHERE name = 'zz'")
    text = metrics_text(ports, unfinished(ports.ledger))
    assert 'shipway_release_phase_seconds{phase="evaluate",service="zz"} 2.0' in text
    assert 'shipway_broken_records{service="zz"} 1.0' in text


def get(ports: Ports, path: str) -> tuple[int, object]:
    """One answer of the API."""
    from aiohttp.test_utils import TestClient, TestServer

    async def ask() -> tuple[int, object]:
        async with TestClient(TestServer(make_app(ports, lambda: Now(3000.0, 1.0)))) as client:
            answer = await client.get(path)
            return answer.status, await answer.json()

    return asyncio.run(ask())


@BROKEN
def test_the_api_gives_pages_and_names_the_broken(home, ports, damage):
    """`/api/releases` has the lines of `shipway list`."""
    damage(home, "aa-open")
    status, lines = get(ports, "/api/releases?limit=1000")
    assert (status, len(lines), [line["id"] for line in lines if "broken" in line]) == (200, COUNT + 3, ["aa-open"])
    assert get(ports, "/api/releases")[1] == lines[:50]
    assert get(ports, "/api/releases?limit=2&before=zz-021")[1] == lines[50:52]
    assert [line["id"] for line in get(ports, "/api/releases?broken")[1]] == ["aa-open"]
    assert get(ports, "/api/releases/aa-open")[0] == 503


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1e3", "٣"])
def test_a_page_of_a_wrong_size_is_refused(ports, limit):
    """With the sizes that there are."""
    status, answer = get(ports, f"/api/releases?limit={limit}")
    assert (status, answer["error"]["code"]) == (422, "E_LIMIT")


def test_a_broken_service_hides_no_other(home, ports):
    """Its line says why."""
    change(home, "UPDATE services SET body = '{' WHERE name = 'aa'")
    status, found = get(ports, "/api/services")
    assert (status, [(s["name"], "broken" in s) for s in found]) == (200, [("aa", True), ("zz", False)])


@BROKEN
def test_gc_goes_on_and_says_why_bundles_stay(home, ports, damage):
    """Working folders of the ended go; bundles may be the broken one's until a person has set it aside."""
    damage(home, "aa-open")
    bundle = home.folder("bundles") / ("sha256-" + "0" * 64)
    bundle.mkdir()
    for name in ("zz-001", "aa-open"):
        (home.folder("work") / name).mkdir()
    litter = collect(home, ports, dry_run=False)
    assert ([w.name for w in litter.works], litter.bundles, "aa-open" in litter.why_kept) == (["zz-001"], (), True)
    ports.ledger.set_aside("aa-open", "the disk was bad")
    litter = collect(home, ports, dry_run=False)
    assert ([w.name for w in litter.works], len(litter.bundles), bundle.exists()) == (["aa-open"], 1, False)


def test_gc_keeps_what_a_broken_service_may_need(home, ports):
    """Bundles, and what was recorded of its requests."""
    change(home, "UPDATE services SET body = '{' WHERE name = 'aa'")
    change(home, "UPDATE releases SET ended = 1")
    (home.folder("bundles") / ("sha256-" + "0" * 64)).mkdir()
    home.record("aa").write_text("requests")
    litter = collect(home, ports, dry_run=False)
    assert (litter.bundles, litter.records, "service aa" in litter.why_kept) == ((), (), True)


@BROKEN
def test_backup_takes_everything_and_names_the_broken(home, tmp_path, damage):
    """Ended ones, too."""
    damage(home, "aa-old")
    contents = back_up(home, tmp_path / "backup.db")
    assert (contents.releases, list(contents.broken)) == (COUNT + 3, ["aa-old"])
    said = json.loads(shipway("backup", str(tmp_path / "another.db"), "--json"))
    assert (said["chain"], said["broken"]) == ("broken", contents.broken)


@BROKEN
def test_up_cares_for_services_that_sort_after_a_broken_record(home, monkeypatch, caplog, damage):
    """Round by round; the broken one is named once, with what to do."""
    damage(home, "aa-open")
    cared, adopted = [], []
    monkeypatch.setattr(flows.up.up, "reconcile", lambda _ports, service, *_: cared.append(service.name))
    up = Up(home, 0)
    monkeypatch.setattr(up, "_adopt", lambda release: adopted.append(release.id))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            up._care_for_all()
    assert (cared, set(adopted)) == (["aa", "zz"] * 3, {"zz-open"})
    assert len([r for r in caplog.messages if "aa-open" in r and "shipway resolve aa-open" in r]) == 1


@pytest.mark.parametrize("error", [DependencyDown("the gateway does not answer"), KeyError("surprise")])
def test_up_cares_for_services_that_sort_after_a_broken_service(home, monkeypatch, caplog, error):
    """Whatever it raises, its own releases included."""
    adopted = []

    def reconcile(_ports: Ports, service: Service, *_: object) -> None:
        if service.name == "aa":
            raise error

    monkeypatch.setattr(flows.up.up, "reconcile", reconcile)
    change(home, "INSERT INTO services VALUES ('mm', 1, '{')")
    up = Up(home, 0)
    monkeypatch.setattr(up, "_adopt", lambda release: adopted.append(release.id))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            up._care_for_all()
    assert set(adopted) == {"aa-open", "zz-open"}
    assert [sum(name in text for text in caplog.messages) for name in ("service aa", "service mm")] == [1, 1]


def test_up_finds_what_was_altered_in_an_ended_record(home, ports):
    """One record at a time, until all were looked at; then it begins anew."""
    alter(home, "aa-old")
    inspection = Inspection(ports.ledger)
    found = [inspection.step() for _ in range(2 * (COUNT + 4))]
    assert [row.id for row in found if row is not None] == ["aa-old"]
    assert [row.id for row in ports.ledger.summaries(broken=True)] == ["aa-old"]
    assert ports.ledger.tally()["aa", "broken"] == 1


def test_the_flow_watch_cares_for_all_and_then_fails_with_the_names(home, monkeypatch):
    """Prefect's page shows which one needs a person."""
    cared = []

    def reconcile(_ports: Ports, name: str) -> None:
        cared.append(name)
        if name == "aa":
            raise DependencyDown("the gateway does not answer")

    alter(home, "aa-open")
    monkeypatch.setattr(flows.watch, "reconcile_service", reconcile)
    with pytest.raises(DependencyDown, match=r"service aa: .*aa-open"):
        flows.watch.watch.fn()
    assert cared == ["aa", "zz"]


def test_a_release_into_a_service_with_a_broken_record_is_refused(home, ports, tmp_path):
    """Nobody knows whether it has users; another service's is no hindrance."""
    alter(home, "aa-open")
    gates = [{"metric": "accuracy", "min": 0.5}]
    asked = {"model": "models:/m/1", "service": "aa", "evaluate": {"data": "d.csv", "gates": gates}}
    spec = ReleaseSpec.model_validate_json(json.dumps(asked))
    with pytest.raises(LedgerBroken) as caught, opening(spec, ports, home, tmp_path, "test"):
        pass
    assert (caught.value.field, "shipway resolve aa-open" in str(caught.value.hint)) == ("aa-open", True)
    assert [r.id for r in unfinished_or_refuse(ports.ledger, "zz")] == ["zz-open"]
    ports.ledger.set_aside("aa-open", "the disk was bad")
    assert unfinished_or_refuse(ports.ledger, "aa") == ()


def test_a_plan_reads_past_a_broken_record(home, ports):
    """The traffic of a service is told by the releases that can be read."""
    alter(home, "zz-open")
    assert measured(ports, "zz", Now(3000.0, 1.0)) is None
    assert unfinished(ports.ledger, "zz") == ()


def test_a_warning_is_said_once_and_then_seldom(monkeypatch, caplog):
    """With how often it was due; another text has its own count."""
    now_s = [0.0]
    monkeypatch.setattr(seldom, "clock", lambda: Now(0.0, now_s[0]))
    warnings = Seldom(logging.getLogger("shipway.test"))
    with caplog.at_level(logging.WARNING):
        for at_s in range(1200):
            now_s[0] = float(at_s)
            with warnings.outliving("service aa"):
                raise DependencyDown("it does not answer")
            warnings.warn("another")
    again = "service aa: E_DEPENDENCY: it does not answer"
    assert [m for m in caplog.messages if "aa" in m] == [again, f"{again} (and 599 times since it was said last)"]
    assert len([m for m in caplog.messages if "another" in m]) == 2


def test_many_scrapes_at_once_are_one_reading():
    """Who asks meanwhile waits and shares; the text is kept for a moment; an error is not."""
    now_s, reads = [0.0], []

    def read() -> str:
        reads.append(now_s[0])
        if len(reads) == 3:
            raise DependencyDown("the ledger cannot be used")
        return f"text {len(reads)}"

    async def scrape() -> list[object]:
        snapshot, found = Snapshot(read, lambda: Now(0.0, now_s[0])), []
        for at_s in (0.0, KEEP_S, KEEP_S + 1, 2 * KEEP_S + 2, 2 * KEEP_S + 2):
            now_s[0] = at_s
            found.append(
                set(map(str, await asyncio.gather(*(snapshot.text() for _ in range(8)), return_exceptions=True)))
            )
        return found

    down = "E_DEPENDENCY: the ledger cannot be used"
    assert asyncio.run(scrape()) == [{"text 1"}, {"text 1"}, {"text 2"}, {down}, {"text 4"}]
    assert len(reads) == 4
