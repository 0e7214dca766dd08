"""Is a staged server found out that does not answer as it was evaluated?"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from evals.gate import Outcome
from pipelines.stages import qualify
from pipelines.stages.qualify import qualify_server
from pipelines.tasks.classification.questions import ODD_INPUTS
from pipelines.tasks.classification.rows import Rows
from pipelines.tasks.known import task_of

TEXTS = ("good", "bad")
ROWS = Rows(TEXTS, ("yes", "no"), {}, "sha256:0", (1, 2))
GOLDEN = {"rows": [0, 1], "labels": ["yes", "no"], "probabilities": [[0.1, 0.9], [0.8, 0.2]]}


class Model:
    """What a server of ours would answer; a test changes one thing."""

    ready: int | None = 200

    def answer(self, text: str) -> tuple[int, object]:
        """Status and body."""
        label, probabilities = {"bad": ("no", [0.8, 0.2])}.get(text, ("yes", [0.1, 0.9]))
        return 200, {"outputs": [{"name": "label", "data": [label]}, {"name": "probabilities", "data": probabilities}]}

    def answer_to_many(self, texts: list[str]) -> tuple[int, object]:
        """Status and body where many are asked at once."""
        return self.answer(texts[-1])


@pytest.fixture
def model() -> Model:
    """One that is right."""
    return Model()


@pytest.fixture
def server(model) -> Iterator[ThreadingHTTPServer]:
    """It listens."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one packet: the rest of one in two waits for an acknowledgement

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            texts = body["inputs"][0]["data"]
            self._send(*(model.answer_to_many(texts) if len(texts) > 1 else model.answer(texts[0])))

        def do_GET(self) -> None:
            if model.ready is None:
                raise ConnectionAbortedError
            self._send(model.ready, {})

        def log_message(self, *_: object) -> None:
            pass

        def _send(self, status: int, body: object) -> None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            with suppress(BrokenPipeError):
                self.wfile.write(raw)

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    with Quiet(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        yield listening
        listening.shutdown()


def asked(server: ThreadingHTTPServer):
    """What qualification says of it."""
    url = f"http://127.0.0.1:{server.server_address[1]}"
    return qualify_server([url], task_of({}), "m", ROWS, GOLDEN, time.monotonic)


def spoil(model: Model, when: Callable[[str], bool], status: int, body: object) -> None:
    """Another answer to some texts."""
    right = model.answer
    model.answer = lambda text: (status, body) if when(text) else right(text)


def test_a_server_that_answers_as_evaluated_passes(server):
    """Golden rows, odd inputs, load."""
    found = asked(server)
    assert (found.verdict.outcome, found.golden_rows) == (Outcome.PASS, 2)
    assert (found.load["failed"], found.load["ready"]) == (0, 1.0)


WRONG = {
    "another label": (
        200,
        {"outputs": [{"name": "label", "data": ["no"]}, {"name": "probabilities", "data": [0.1, 0.9]}]},
    ),
    "other numbers": (
        200,
        {"outputs": [{"name": "label", "data": ["yes"]}, {"name": "probabilities", "data": [0.2, 0.8]}]},
    ),
    "an error": (500, {}),
    "no JSON": (200, b"<html>"),
    "another form": (200, {"predictions": ["yes"]}),
}


@pytest.mark.parametrize(("status", "body"), WRONG.values(), ids=WRONG)
def test_a_wrong_answer_to_a_golden_row_fails(model, server, status, body):
    """With the row; nothing else is asked any more."""
    spoil(model, lambda text: text == "good", status, body)
    (reason,) = asked(server).verdict.reasons
    assert (reason.outcome, reason.gate) == (Outcome.FAIL, "golden rows")


ODD = {
    "an error": (500, {}),
    "not a number": (200, b'{"outputs": [{"name": "probabilities", "data": [NaN, NaN]}]}'),
    "no JSON": (200, b"<html>"),
    "another form": (200, {}),
}


@pytest.mark.parametrize(("status", "body"), ODD.values(), ids=ODD)
def test_an_odd_input_that_is_not_handled_is_named(model, server, status, body):
    """A refusal would be fine."""
    spoil(model, lambda text: text == ODD_INPUTS["emoji"], status, body)
    found = asked(server).verdict
    assert found.outcome is Outcome.FAIL
    assert any("'emoji'" in reason.sentence for reason in found.reasons)


def test_a_refusal_of_an_odd_input_is_fine(model, server):
    """422 is an answer."""
    spoil(model, lambda text: text in ODD_INPUTS.values(), 422, {"error": "too long"})
    assert asked(server).verdict.outcome is Outcome.PASS


def test_one_that_is_not_ready_under_load_fails(model, server):
    """Users would not be sent to it."""
    model.ready = 503
    found = asked(server).verdict
    assert "not ready" in found.because()


def test_one_that_dies_meanwhile_fails(model, server):
    """Under load, after everything else was fine: a verdict, and no traceback."""
    left = iter(range(len(TEXTS) + len(ODD_INPUTS) + 5))
    right = model.answer

    def answer(text: str) -> tuple[int, object]:
        if next(left, None) is None:
            model.ready = None
            raise ConnectionAbortedError
        return right(text)

    model.answer = answer
    found = asked(server)
    assert found.verdict.outcome is Outcome.FAIL
    assert found.load["ready"] == 0.0


def test_the_largest_allowed_request_is_asked(model, server):
    """256 rows, a piece of them as long as the context, in the evaluation's own words."""
    asked_for: list[list[str]] = []
    model.answer_to_many = lambda texts: (asked_for.append(texts), model.answer("good"))[1]
    found = asked(server).verdict
    (texts,) = asked_for
    assert len(texts) == 256
    assert [text for text in texts if len(text) == 7000] == [("good " * 1400)] * 32
    assert set(texts[32:]) == {"bad"}
    assert found.reasons[-1].sentence == "the largest allowed request, 256 rows, was answered with status 200"


def test_a_server_that_dies_of_the_largest_request_fails(model, server):
    """Its memory is too small; better now than when a user sends one."""

    def die(_: list[str]) -> tuple[int, object]:
        raise ConnectionAbortedError

    model.answer_to_many = die
    found = asked(server).verdict
    assert found.outcome is Outcome.FAIL
    assert "is package.memory_mb large enough?" in found.because()


def test_one_that_hangs_is_asked_once(model, server, monkeypatch):
    """Accepts, and never answers: the first golden row says it all."""
    monkeypatch.setattr(qualify, "ANSWER_TIMEOUT_S", 0.2)
    asked_for: list[str] = []

    def hang(text: str) -> tuple[int, object]:
        asked_for.append(text)
        time.sleep(1.0)
        return 200, {}

    model.answer = hang
    assert "not answered" in asked(server).verdict.because()
    assert asked_for == ["good"]
