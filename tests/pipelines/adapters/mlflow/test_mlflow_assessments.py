"""Do MLflow's assessments reach a real gateway as labels, each once, and what is none never?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.cli.labelling import sent_labels
from pipelines.adapters.gateway import GatewayLabels
from pipelines.adapters.mlflow.assessments import MlflowAssessments
from pipelines.errors import BadInput, DependencyDown, NotFound
from pipelines.home import Home
from pipelines.services.labels import send_labels
from tests.pipelines.serving.gateway.test_gateway import Bench
from tests.ports import free_port
from tests.systems.mlflow_database import lay_database
from tests.systems.mlflow_server import MlflowServer

pytestmark = pytest.mark.integration


class Judged:
    """An experiment whose traces are assessed by people and judges."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        import mlflow

        self.uri = uri
        mlflow.set_tracking_uri(uri)
        mlflow.create_experiment("ratings", artifact_location=artifacts.as_uri())
        self._mlflow = mlflow

    def trace(self, request_id: str | None = None, tags: dict[str, str] | None = None) -> str:
        """A trace of one request; its id."""
        self._mlflow.set_experiment("ratings")
        with self._mlflow.start_span("answer") as span:
            self._mlflow.update_current_trace(client_request_id=request_id, tags=tags or {})
        self._mlflow.flush_trace_async_logging()
        return str(span.trace_id)

    def rate(self, trace_id: str, value: Any, name: str = "thumbs") -> None:
        """Somebody's feedback."""
        self._mlflow.log_feedback(trace_id=trace_id, name=name, value=value)

    def expect(self, trace_id: str, value: Any, name: str) -> None:
        """Somebody's expectation."""
        self._mlflow.log_expectation(trace_id=trace_id, name=name, value=value)


@pytest.fixture
def judged(tmp_path) -> Iterator[Judged]:
    """MLflow on SQLite."""
    import mlflow

    yield Judged(lay_database(tmp_path / "mlflow.db"), tmp_path / "artifacts")
    mlflow.set_tracking_uri(None)


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    """A gateway whose stable answers as version 1."""
    made = Bench(tmp_path)
    try:
        stable, _ = made.upstream("1")
        made.put(stable)
        yield made
    finally:
        made.end()


def ask(bench: Bench, request_id: str) -> httpx.Response:
    """One request that is answered."""
    return httpx.post(f"http://127.0.0.1:{bench.port}/", headers={"x-request-id": request_id}, trust_env=False)


def scores(bench: Bench) -> dict[int, int]:
    """What the judge gets to see of the labels."""
    found: Counter[int] = Counter()
    for stratum in bench.settled():
        found.update(stratum.stable.scores)
    return dict(found)


def shipway(home: Path, uri: str, *arguments: object) -> subprocess.Popen[str]:
    """`shipway feedback` in a home."""
    environment = {**os.environ, "SHIPWAY_HOME": str(home), "MLFLOW_TRACKING_URI": uri}
    command = [sys.executable, "-m", "flows.cli", "feedback", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_assessments_are_labels_once(judged, bench, tmp_path):
    """By client request id or tag; values that are none are refused by name; a second run sends nothing."""
    answers = [ask(bench, f"r{n}") for n in range(6)]
    version = {"shipway.model_version": answers[0].headers["x-shipway-model-version"]}
    judged.rate(judged.trace("r0", version), True)
    judged.rate(judged.trace("a session", {"shipway.request_id": "r1"}), 0.25)
    for request_id, value in (("r2", "unknown"), ("r3", float("nan")), ("r4", 1.5), (None, 1.0), ("nobody", 1.0)):
        judged.rate(judged.trace(request_id), value)
    judged.rate(judged.trace("r5", {"shipway.model_version": "7"}), 1.0)
    judged.expect(judged.trace("r5"), "an answer", "expected_response")
    source, desk = MlflowAssessments(judged.uri, "ratings"), GatewayLabels(f"http://127.0.0.1:{bench.port}")
    home = Home.open(tmp_path / "home")
    tally = send_labels(source.labels(0.0), desk, sent_labels(home, "s", "ratings")).as_dict()
    assert {name: tally[name] for name in ("evidence", "late", "unknown", "before")} == {
        "evidence": 2,
        "late": 0,
        "unknown": 1,
        "before": 0,
    }
    assert tally["refused"] == {"E_LABEL": 4, "E_LABEL_VERSION": 1}
    again = send_labels(source.labels(0.0), desk, sent_labels(home, "s", "ratings"))
    assert (again.counts, again.before) == ({}, 8)
    assert scores(bench) == {1000: 1, 250: 1}


@pytest.mark.parametrize(("said", "is_correct"), [("yes", True), ("no", False)])
def test_what_mlflows_judges_say_is_true_or_false(judged, said, is_correct):
    """Their answers are words."""
    judged.rate(judged.trace("r0"), said)
    (label,) = MlflowAssessments(judged.uri, "ratings").labels(0.0)
    assert label.body["correct"] is is_correct


def test_several_names_ask_which_one(judged):
    """An expectation counts like feedback, under its own name."""
    trace = judged.trace("r0")
    judged.rate(trace, True)
    judged.rate(trace, "a remark", "comment")
    judged.expect(trace, 0.5, "is_correct")
    with pytest.raises(BadInput) as caught:
        MlflowAssessments(judged.uri, "ratings").labels(0.0)
    assert (caught.value.code, "is_correct, thumbs" in caught.value.reason) == ("E_ASSESSMENT", True)
    (label,) = MlflowAssessments(judged.uri, "ratings", "is_correct").labels(0.0)
    assert (label.body["request_id"], label.body["score"]) == ("r0", 0.5)


def test_an_assessment_that_was_replaced_does_not_count(judged):
    """Only the one that replaced it."""
    import mlflow

    trace = judged.trace("r0")
    first = mlflow.log_feedback(trace_id=trace, name="thumbs", value=True)
    mlflow.override_feedback(trace_id=trace, assessment_id=first.assessment_id, value=False)
    (label,) = MlflowAssessments(judged.uri, "ratings").labels(0.0)
    assert label.body["correct"] is False


def test_only_recent_traces_are_read(judged):
    """The others belong to answers that the gateway has forgotten."""
    judged.rate(judged.trace("r0"), True)
    source = MlflowAssessments(judged.uri, "ratings", "thumbs")
    assert [len(source.labels(since)) for since in (0.0, time.time() + 60)] == [1, 0]


def test_more_than_a_page_is_read(judged, monkeypatch):
    """In the order of the requests."""
    monkeypatch.setattr("pipelines.adapters.mlflow.assessments.PAGE", 2)
    for n in range(5):
        judged.rate(judged.trace(f"r{n}"), True)
    found = MlflowAssessments(judged.uri, "ratings").labels(0.0)
    assert [label.body["request_id"] for label in found] == [f"r{n}" for n in range(5)]


@pytest.mark.parametrize("name", ["nothing", "999999", "'; drop", "٣"])
def test_an_unknown_experiment_is_named(judged, name):
    """By name or number."""
    with pytest.raises(NotFound) as caught:
        MlflowAssessments(judged.uri, name).labels(0.0)
    assert (caught.value.code, caught.value.field) == ("E_NOT_FOUND", "--mlflow")


def test_an_mlflow_that_is_down_is_a_dependency():
    """Within seconds."""
    with pytest.raises(DependencyDown) as caught:
        MlflowAssessments(f"http://127.0.0.1:{free_port()}", "ratings").labels(0.0)
    assert caught.value.code == "E_REGISTRY"


def test_a_gateway_that_is_down_is_a_dependency(bench):
    """So is something that knows no labels, in words or in JSON: nothing counts as sent."""
    other, _ = bench.upstream("2")
    bench.processes[1].kill()  # stable: the gateway answers for it, in JSON
    for url in (f"http://127.0.0.1:{free_port()}", other.urls[0], f"http://127.0.0.1:{bench.port}/v2"):
        with pytest.raises(DependencyDown) as caught:
            GatewayLabels(url).take({"request_id": "r", "score": 1.0})
        assert caught.value.code == "E_ROUTER"


def test_a_file_is_sent_once(bench, tmp_path):
    """Through the command line; a second run says so."""
    ask(bench, "r1")
    (tmp_path / "labels.jsonl").write_text('{"request_id": "r1", "score": 0.5}\n{"request_id": "r2", "correct": 1}\n')
    arguments = ("s", "--data", tmp_path / "labels.jsonl", "--url", f"http://127.0.0.1:{bench.port}", "--json")
    told = [json.loads(shipway(tmp_path / "home", "", *arguments).communicate(timeout=120)[0]) for _ in range(2)]
    assert [(t["evidence"], t["refused"], t["before"]) for t in told] == [(1, {"E_LABEL": 1}, 0), (0, {}, 2)]
    assert told[0]["why"] == {"E_LABEL": "row 2: correct: true or false is expected"}


def test_following_sends_what_is_new(bench, tmp_path):
    """From a real tracking server, until it is stopped; what it says then is everything."""
    import mlflow

    server = MlflowServer(tmp_path)
    server.start()
    process = None
    try:
        judged = Judged(server.uri, tmp_path / "artifacts")
        arguments = ("s", "--mlflow", "ratings", "--url", f"http://127.0.0.1:{bench.port}", "--follow", "--json")
        process = shipway(tmp_path / "home", server.uri, *arguments)
        for number in range(2):
            ask(bench, f"r{number}")
            judged.rate(judged.trace(f"r{number}"), number == 1)
            assert process.stderr.readline().startswith("1 labels are evidence, 0 came after the shares had changed")
        process.send_signal(signal.SIGINT)
        told = json.loads(process.communicate(timeout=120)[0])
        assert (told["evidence"], told["refused"], process.returncode) == (2, {}, 0)
        assert scores(bench) == {0: 1, 1000: 1}
    finally:
        mlflow.set_tracking_uri(None)
        if process is not None:
            process.kill()
        server.stop()
