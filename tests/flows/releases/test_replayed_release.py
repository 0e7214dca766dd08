"""Whole releases of a service with hardly any traffic: what it was asked before decides, on real processes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from evals.signals.replay import pairs_to_promote
from pipelines.records.reading import readable
from tests.flows.releases.real_world import SPEC, World, bootstrapped, kill, phases
from tests.waiting import HANG_S

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

REQUESTS = 300
REPLAYING = SPEC.replace("compress: dynamic-int8", "serve: {record: {share: 1.0, redact: [body.user]}}").replace(
    "  hold: 3\n", f"  hold: 3\n  replay: {{requests: {REQUESTS}}}\n"
)
UNKNOWN_WORD = "zebra"
"""What only production sends: the bad version has a token for it, and no embedding."""


@pytest.fixture(scope="module")
def world(tmp_path_factory, prefect_server) -> Iterator[World]:
    """Version 1 serves and records; nobody has asked anything yet."""
    with bootstrapped(tmp_path_factory.mktemp("home"), prefect_server, REPLAYING) as made:
        yield made


OWN_WORDS = "words of one user only"


def ask(world: World, client: httpx.Client, text: str, name: str = "") -> int:
    """One request of a user, which may have a name."""
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
    body = {"user": "ada", "inputs": [tensor]}
    headers = {"x-request-id": name} if name else {}
    return client.post(f"{world.url}/v2/models/tiny/infer", json=body, headers=headers).status_code


@contextmanager
def a_trickle(world: World) -> Iterator[list[int]]:
    """One request a second, and what was answered."""
    answers: list[int] = []
    stopped = threading.Event()

    def run() -> None:
        with httpx.Client(trust_env=False, timeout=HANG_S) as client:
            while not stopped.wait(1.0):
                answers.append(ask(world, client, "a good film"))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        stopped.set()
        thread.join()


def bad_version(world: World) -> int:
    """A version that fails on one word: its tokenizer knows it, its embeddings do not."""
    from tests.pipelines.model_folders import make_classifier

    folder = make_classifier(world.home.root / "models" / "bad", seed=99)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"][UNKNOWN_WORD] = len(tokenizer["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return world.ports.registry.register("tiny", folder, {}).version


def recorded(world: World) -> int:
    """How many requests are kept."""
    return len(world.ports.replays.recorded("tiny"))


def replayed(release) -> int:
    """How many pairs were judged."""
    return sum(event.data["counts"]["pairs"] for event in release.of_kind("replayed"))


def test_nothing_recorded_is_said_before_the_start(world):
    """`plan` says it, `release` refuses, and nothing was begun."""
    before = len(world.ports.ledger.summaries())
    model = f"models:/tiny/{world.new_version()}"
    assert "0 of 0 recorded requests" in world.run("plan", str(world.spec), "--model", model).stdout
    refused = world.run("release", str(world.spec), "--model", model)
    assert (refused.returncode, "E_NOTHING_RECORDED" in refused.stderr) == (2, True)
    assert len(world.ports.ledger.summaries()) == before


def test_a_killed_replay_goes_on_and_the_good_version_is_promoted(world):
    """A kill -9 in the middle: `up` asks what is left, and a few live requests are enough for the rest."""
    with httpx.Client(trust_env=False, timeout=HANG_S) as client:
        texts = ["a good film", "a bad film", f"a {UNKNOWN_WORD} film"]
        for asked in range(0, REQUESTS, 30):  # a gateway that is asked faster than it writes drops some
            assert {ask(world, client, texts[n % 3]) for n in range(30)} == {200}
            world.wait("the record", lambda at_least=asked + 30: recorded(world) >= at_least)
        ask(world, client, OWN_WORDS, "the-first-one")
        world.wait("the record", lambda: recorded(world) == REQUESTS + 1)
    assert b"ada" not in world.home.record("tiny").read_bytes()
    with a_trickle(world) as answers:
        controller = world.start_release()
        world.wait("a part of the replay", lambda: bool(world.newest().of_kind("replayed")))
        kill(controller)
        assert 0 < replayed(world.newest()) < REQUESTS
        assert world.ports.router.read("tiny").canary is None
        world.wait_ended()
    release = world.newest()
    assert (release.outcome, replayed(release)) == ("promoted", REQUESTS), release.reason
    assert release.last("looked").data["verdict"]["canary_requests"] < pairs_to_promote(0.05, 0.1)
    assert set(answers) == {200}
    assert "looks recomputed" in world.run("verify", release.id).stdout


def test_a_bad_version_goes_home_before_it_met_anybody(world):
    """It fails on what users ask, and on nothing that it was evaluated or qualified with."""
    model = f"models:/tiny/{bad_version(world)}"
    planned = world.run("plan", str(world.spec), "--model", model)
    assert f"{REQUESTS} of " in planned.stdout
    with a_trickle(world) as answers:
        done = world.run("release", str(world.spec), "--model", model)
    release = world.newest()
    assert (done.returncode, release.outcome, phases(release)[-2]) == (3, "rejected", "qualified"), done.stderr[-2000:]
    assert "failed at the canary alone" in release.reason
    assert release.of_kind("exposing") == ()
    assert set(answers) <= {200}


def test_no_replayed_request_was_recorded_or_counted(world):
    """The gateway has seen none of them."""
    routed = sum(
        arm["routed"]
        for release in readable(world.ports.ledger)
        for event in release.of_kind("looked")
        for stratum in event.data["strata"]
        for arm in stratum["arms"].values()
    )
    assert routed < REQUESTS / 2
    assert recorded(world) < 2 * REQUESTS


def test_what_is_forgotten_is_in_no_file_of_the_home(world):
    """After two releases that were replayed, with their logs, bundles, registry and ledger, while `up` runs."""

    def places() -> list[str]:
        files = (path for path in world.home.root.rglob("*") if path.is_file() and not path.is_symlink())
        return [path.name for path in files if OWN_WORDS.encode() in path.read_bytes()]

    assert places() == ["tiny.db"]
    done = world.run("forget", "the-first-one", "--json")
    assert (done.returncode, json.loads(done.stdout)["requests"], places()) == (0, 1, [])
    assert all("chain" in world.run("verify", release.id).stdout for release in readable(world.ports.ledger))
