"""What is lost when somebody asks to be forgotten: every text of his, in every place, and nothing else."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.orders.forgetting import forget
from flows.wiring import wire
from pipelines.adapters.http_replays import HttpReplays
from pipelines.errors import BadInput, DependencyDown
from pipelines.home import Home
from pipelines.ports import ReplayQuery
from pipelines.records.service import Service
from pipelines.records.settings import GatewaySettings, Recording, Shadowing
from pipelines.serving.requests.data_plane import Serving
from pipelines.serving.requests.record_file import Named, Naming, Recorded, keep, recorded_numbers, settle
from tests.contracts.test_replays import Server
from tests.pipelines.serving.plane import OK, Plane, saying
from tests.waiting import until

INFER = "/v2/models/s/infer"
ALL = Recording(share=1.0)
SECRET = b"my very own words"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home, which the command line finds."""
    monkeypatch.delenv("SHIPWAY_LEDGER_URL", raising=False)
    monkeypatch.setenv("SHIPWAY_HOME", str(tmp_path / "home"))
    return Home.open(tmp_path / "home")


def fill(home: Home, service: str, *whose: tuple[str, str | None]) -> None:
    """Requests of these ids and users are kept, one by one."""
    path = home.record(service)
    settle(path, ALL)
    naming = Naming(path.parent)
    for n, (request, user) in enumerate(whose):
        body = json.dumps({"text": f"{SECRET.decode()} {n}"}).encode()
        hashed = naming.of_user(user.encode()) if user else None
        kept = Recorded(0, time.time() - 9.0, "POST", INFER, {"content-type": "application/json"}, body)
        keep(path, [Named(kept, naming.of_request(request.encode()), hashed)], 1000)


def places(folder: Path, words: bytes) -> list[str]:
    """Every file below a folder in which these bytes stand."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [str(path.relative_to(folder)) for path in files if words in path.read_bytes()]


def test_all_requests_of_a_user_go_from_all_services(home):
    """And those of others stay; a second time there is nothing left."""
    fill(home, "a", ("r1", "ada"), ("r2", "eve"), ("r3", "ada"))
    fill(home, "b", ("r4", "ada"))
    assert [(one.service, one.requests) for one in forget(home, "ada", ())] == [("a", 2), ("b", 1)]
    assert [len(recorded_numbers(home.record(service))) for service in "ab"] == [1, 0]
    assert [one.requests for one in forget(home, "ada", ())] == [0, 0]


def test_one_request_goes_by_its_id(home):
    """That its answer carried; requests of nobody known are counted, and stay."""
    fill(home, "a", ("r1", None), ("r2", None))
    (done,) = forget(home, "r1", ())
    assert (done.requests, done.unnamed, recorded_numbers(home.record("a"))) == (1, 1, (2,))


@pytest.mark.parametrize("mode", ["DELETE", "WAL", "PERSIST"])
def test_no_byte_of_it_is_left_in_any_file(home, mode):
    """Not in freed pages, nor in a journal, whatever kind of it somebody switched on."""
    path = home.record("a")
    fill(home, "a", *((f"r{n}", "ada") for n in range(40)))
    with sqlite3.connect(path) as kept:
        kept.execute(f"PRAGMA journal_mode = {mode}")
    kept.close()
    fill(home, "a", ("r40", "ada"))
    assert "records/a.db" in places(home.root, SECRET)
    forget(home, "ada", ())
    assert places(home.root, SECRET) == []


def test_a_journal_that_a_killed_gateway_left_holds_nothing_either(home):
    """It is rolled back first, and is gone."""
    fill(home, "a", *((f"r{n}", "ada") for n in range(40)))
    path = home.record("a")
    kept = sqlite3.connect(path, isolation_level=None)
    kept.execute("PRAGMA cache_size = 1")
    kept.execute("BEGIN IMMEDIATE")
    kept.execute("UPDATE requests SET body = body || zeroblob(9000)")
    left = {one.name: one.read_bytes() for one in path.parent.iterdir() if one.name.startswith("a.db")}
    kept.close()
    for name, data in left.items():
        (path.parent / name).write_bytes(data)
    assert "records/a.db-journal" in places(home.root, SECRET)
    assert [one.requests for one in forget(home, "ada", ())] == [40]
    assert places(home.root, SECRET) == []


def test_names_are_no_text_on_the_disk(home):
    """Whom a request is of cannot be read, and not be found without the key."""
    fill(home, "a", ("a-request-id", "ada.lovelace"))
    assert places(home.root, b"a-request-id") + places(home.root, b"lovelace") == []
    (home.folder("records") / "names.key").unlink()
    assert [one.requests for one in forget(home, "ada.lovelace", ())] == [0]


def test_a_replay_goes_on_without_what_was_forgotten(home):
    """It counts as missing: no pair, and nobody's failure."""
    fill(home, "a", ("r1", "ada"), ("r2", "eve"))
    stable, canary = Server("stable"), Server("canary")
    replays = HttpReplays(home.record)
    numbers = replays.recorded("a")
    forget(home, "ada", ())
    pairs = replays.ask(ReplayQuery("a", numbers, stable.arm, canary.arm))
    assert (len(numbers), [(p.agrees, p.canary_ms is None) for p in pairs]) == (2, [(True, False)])
    assert SECRET not in repr((stable.seen, canary.seen)).encode().replace(SECRET + b" 1", b"")
    stable.close()
    canary.close()


def test_every_place_that_keeps_text_loses_it(home):
    """A gateway that records, mirrors, slices, knows users and takes labels: words in one place, then in none."""
    settings = GatewaySettings(
        slices=("x-lang",), assign="header:x-user-id", record=ALL, shadow=Shadowing(100.0), workers=1
    )

    async def served() -> None:
        serving = Serving(0.05, settings, record=home.record("s"))
        async with Plane(home.folder("run"), serving=serving) as plane:
            plane.split([await plane.upstream(saying(OK))], [await plane.upstream(saying(OK))], 50.0)
            for user, words in (("ada", SECRET), ("eve", b"not so secret")):
                await plane.say(_asked(user, words))
            label = b'{"request_id": "of-ada", "correct": true}'
            head = b"POST /feedback HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(label)
            assert b"200" in await plane.say(head + label)
            await asyncio.to_thread(until, lambda: len(recorded_numbers(home.record("s"))) == 2)
            assert places(home.root, SECRET) == ["records/s.db"]
            assert [one.requests for one in await asyncio.to_thread(forget, home, "ada", ())] == [1]
            await plane.say(_asked("eve", b"still here"))
            await asyncio.to_thread(until, lambda: len(recorded_numbers(home.record("s"))) == 2)
            plane.gateway.recorder.close()

    asyncio.run(served())
    assert (places(home.root, SECRET), places(home.root, b"still here")) == ([], ["records/s.db"])


def _asked(user: str, words: bytes) -> bytes:
    body = b'{"text": "%s"}' % words
    lines = f"POST {INFER} HTTP/1.1\r\nhost: x\r\nx-user-id: {user}\r\nx-request-id: of-{user}\r\nx-lang: en\r\n"
    return lines.encode() + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def test_a_file_that_cannot_be_changed_is_named_and_the_others_are(home):
    """Nobody is told that all is gone while some is not."""
    fill(home, "a", ("r1", "ada"))
    fill(home, "c", ("r1", "ada"))
    home.record("b").write_bytes(b"this is no database" * 100)
    with pytest.raises(DependencyDown, match=r"b\.db: .*\(2 requests were removed elsewhere\)"):
        forget(home, "ada", ())
    assert places(home.root, SECRET) == []


@pytest.mark.parametrize("nobody", ["", "  "])
def test_nobody_is_not_forgotten(home, nobody):
    """An empty name is a mistake."""
    with pytest.raises(BadInput):
        forget(home, nobody, ())


def test_the_command_says_what_went_and_what_stays(home):
    """As text and as JSON; a name of which nothing is kept is no error, and so is no home at all."""
    fill(home, "a", ("r1", "ada"), ("r2", None))
    wire(home).services.save(Service("new", settings=GatewaySettings(record=ALL)))
    done = CliRunner().invoke(app, ["forget", "-"], input="ada\n")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "removed  1 of records/a.db")
    assert "1 requests in records/a.db name no user" in done.stdout
    assert "stays: counts in the records of releases" in done.stdout
    said = json.loads(CliRunner().invoke(app, ["forget", "ada", "--json"]).stdout)
    assert (said["requests"], [place["service"] for place in said["places"]]) == (0, ["a", "new"])


def test_a_ledger_that_is_down_keeps_nobody(home, monkeypatch):
    """What lies in the files goes all the same."""
    fill(home, "a", ("r1", "ada"))
    monkeypatch.setenv("SHIPWAY_LEDGER_URL", "postgresql://u@127.0.0.1:1/none")
    done = CliRunner().invoke(app, ["forget", "ada"])
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "removed  1 of records/a.db")


def test_forgetting_where_nothing_is_makes_nothing(tmp_path, monkeypatch):
    """A home that does not exist is not made."""
    monkeypatch.setenv("SHIPWAY_HOME", str(tmp_path / "none"))
    done = CliRunner().invoke(app, ["forget", "ada"])
    assert (done.exit_code, done.stdout.splitlines()[0], (tmp_path / "none").exists()) == (
        0,
        "nothing is kept of it",
        False,
    )
