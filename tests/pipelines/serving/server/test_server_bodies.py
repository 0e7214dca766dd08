"""What a server answers to good and bad bodies; it lives on whatever it is sent."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipelines.errors import NoTokens
from pipelines.serving.server.server import LoadedModel, make_app
from pipelines.tasks.classification.wire import ClassificationWire

WIRE = ClassificationWire(("short", "long"))


class Engine:
    """Label by length; one word is answered with NaN, another raises."""

    def predict(self, texts):
        """Logits."""
        if "" in texts:
            raise NoTokens(list(texts).index(""))
        if "boom" in texts:
            raise RuntimeError("index out of range")
        rows = [[np.nan, 0.0] if text == "nan" else [3.0 - len(text), len(text) - 3.0] for text in texts]
        return np.array(rows, dtype=np.float32)


def ask(*requests):
    """Send requests to a fresh server, and give (status, headers, body) of each."""

    async def run():
        served = LoadedModel(Engine(), WIRE, "m", "7", ready=True)
        async with TestClient(TestServer(make_app(served))) as client:
            answers = []
            for method, path, body in requests:
                data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
                answer = await client.request(method, path, data=data)
                answers.append((answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read()))
            return answers

    return asyncio.run(run())


def tensor(*texts):
    """An Open Inference Protocol request."""
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}]}


def test_open_inference_protocol():
    """Labels and probabilities, row by row, with the version and the request's id."""
    ((status, headers, body),) = ask(("POST", "/v2/models/m/infer", tensor("ab", "abcdef")))
    outputs = {o["name"]: o for o in json.loads(body)["outputs"]}
    assert status == 200
    assert outputs["label"]["data"] == ["short", "long"]
    assert outputs["probabilities"]["shape"] == [2, 2]
    assert sum(outputs["probabilities"]["data"][:2]) == pytest.approx(1)
    assert headers["x-shipway-model-version"] == "7"
    assert headers["x-request-id"]


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": ["ab"]},
        {"inputs": {"text": ["ab"]}},
        {"instances": [["ab"]]},
        {"dataframe_records": [{"text": "ab"}]},
        {"dataframe_split": {"columns": ["text"], "data": [["ab"]]}},
    ],
)
def test_mlflow_scoring(body):
    """The forms that MLflow's clients send."""
    ((status, _, answer),) = ask(("POST", "/invocations", body))
    assert (status, json.loads(answer)["predictions"][0]["label"]) == (200, "short")


def test_health_and_metadata():
    """What a probe and a client ask first."""
    paths = ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/m", "/v2/models/m/ready", "/ping", "/metrics"]
    assert [a[0] for a in ask(*(("GET", path, None) for path in paths))] == [200] * len(paths)


BAD = {
    "empty": b"",
    "spaces": b"  ",
    "not JSON": b"{nope",
    "ten megabytes": b'{"inputs": "' + b"x" * 10_000_000 + b'"}',
    "deeply nested": b"[" * 100_000,
    "lone surrogate": b'{"inputs": [{"name":"text","shape":[1],"datatype":"BYTES","data":["\\ud800"]}]}',
    "invalid UTF-8": b'{"inputs": [{"name":"text","shape":[1],"datatype":"BYTES","data":["\xff"]}]}',
    "NUL": json.dumps(tensor("a\0b")).encode(),
    "wrong type": json.dumps(tensor(7)).encode(),
    "too many rows": json.dumps(tensor(*["a"] * 257)).encode(),
    "too long": json.dumps(tensor("a" * 100_001)).encode(),
    "wrong shape": b'{"inputs": [{"name":"text","shape":[2],"datatype":"BYTES","data":["a"]}]}',
    "no rows": b'{"inputs": [{"name":"text","shape":[0],"datatype":"BYTES","data":[]}]}',
    "a list": b"[]",
    "null": b"null",
}


@pytest.fixture(scope="module")
def good_s():
    """What three good answers cost on this machine, at best."""

    def once():
        began = time.process_time()
        ask(*[("POST", "/v2/models/m/infer", tensor("a"))] * 3)
        return time.process_time() - began

    return min(once() for _ in range(5))


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_bad_body_is_a_quick_4xx_and_the_server_lives(body, good_s):
    """An error with a stable code, for the price of some hundred good answers at most, and then a good answer."""
    began = time.process_time()
    bad, worse, good = ask(
        ("POST", "/v2/models/m/infer", body),
        ("POST", "/invocations", body),
        ("POST", "/v2/models/m/infer", tensor("a")),
    )
    assert {bad[0], worse[0]} <= {400, 413, 422}
    assert json.loads(bad[2])["error"]["code"].startswith("E_")
    assert good[0] == 200
    assert time.process_time() - began < 300 * good_s


@pytest.mark.parametrize(("text", "code"), [("nan", "E_OUTPUT"), ("boom", "E_INFERENCE")])
def test_a_model_that_fails_is_a_500_and_the_server_lives(text, code):
    """NaN is not an answer, and an exception is one."""
    bad, good = ask(("POST", "/v2/models/m/infer", tensor(text)), ("POST", "/v2/models/m/infer", tensor("a")))
    assert (bad[0], json.loads(bad[2])["error"]["code"], good[0]) == (500, code, 200)


def test_what_an_engine_quotes_of_a_text_is_redacted_in_the_log(capfd, monkeypatch):
    """The reason is there for who runs the server, without the address of who asked."""

    def quote(self, texts):
        raise RuntimeError(f"cannot read {texts}")

    monkeypatch.setattr(Engine, "predict", quote)
    ask(("POST", "/v2/models/m/infer", tensor("write to ada@example.com")))
    assert "inference failed: RuntimeError(\"cannot read ['write to [email]']\")" in capfd.readouterr().err


def test_an_unknown_path_is_a_404_in_json():
    """Everything that this server says is JSON."""
    ((status, _, body),) = ask(("GET", "/nothing", None))
    assert (status, json.loads(body)["error"]["code"]) == (404, "E_HTTP_404")


@pytest.mark.parametrize(("waiting", "typical_s", "is_refused"), [(4, 1.0, False), (6, 1.0, True), (1024, 0.0, True)])
def test_whoever_would_wait_too_long_is_refused_at_once(waiting, typical_s, is_refused):
    """By the time that the engine typically takes, and by number in any case; 503 with Retry-After."""
    served = LoadedModel(Engine(), WIRE, "m", "1", waiting=waiting, typical_s=typical_s)
    if is_refused:
        with pytest.raises(web.HTTPServiceUnavailable) as refused:
            asyncio.run(served.predict(["x"]))
        assert refused.value.headers["retry-after"] == "1"
    else:
        assert asyncio.run(served.predict(["x"])).shape == (1, 2)
    assert served.waiting == waiting


def test_a_text_without_tokens_is_refused_by_its_index():
    """The client's text is at fault, not the model: 422 by both protocols, and the index in the field."""
    answers = ask(
        ("POST", "/v2/models/m/infer", tensor("ab", "")), ("POST", "/invocations", {"inputs": ["ab", "c", ""]})
    )
    errors = [json.loads(body)["error"] for _, _, body in answers]
    assert [status for status, _, _ in answers] == [422, 422]
    assert [(e["code"], e["field"]) for e in errors] == [("E_NO_TOKENS", "texts.1"), ("E_NO_TOKENS", "texts.2")]
