"""Does the client count what a user would see: every answer and failure once, by version, and nothing twice?"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from aiohttp import web

from flows.demo.posting import read_posts
from flows.demo.traffic import check_loopback, run_traffic_command
from pipelines.errors import BadInput
from tests.flows.demo.loopback import serving
from tests.waiting import HANG_S, until

URL = "http://127.0.0.1:1"


@contextmanager
def service(answer):
    """A loopback server that answers requests by `answer(number)`, and what it was sent."""
    seen, numbers = [], itertools.count()

    async def infer(request):
        seen.append((request.path, await request.json()))
        return await answer(next(numbers))

    with serving("/v2/models/{name}/infer", infer) as url:
        yield url, seen


def versioned(status, version):
    """An answer as the gateway gives it."""
    return web.json_response({}, status=status, headers={"x-shipway-model-version": version})


async def one_of_four_fails(number):
    """Version 2 has every fourth request, and fails it."""
    return versioned(500, "2") if number % 4 == 3 else versioned(200, "1")


def posts(tmp_path, texts=("a", "b")):
    """What rows of texts ask."""
    rows = tmp_path / "texts.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return read_posts(rows, "sentiment")


def texts_of(path, column=""):
    """The texts that a file's requests hold."""
    return [post.body["inputs"][0]["data"][0] for post in read_posts(path, "sentiment", column)]


def counted(url, tmp_path, *, texts=("a", "b"), rps=100, duration_s=1.0):
    """Send, and read the report back."""
    report = tmp_path / "report.json"
    run_traffic_command(url, posts(tmp_path, texts), rps, duration_s, report, as_json=False)
    return json.loads(report.read_text())


def test_every_answer_is_counted_once_by_version(tmp_path):
    """What the client counts is what the server answered; a failure is not sent again."""
    with service(one_of_four_fails) as (url, seen):
        found = counted(url, tmp_path)
    assert found["requests"] == len(seen) == sum(found["by_version"].values())
    failed = [found["failed"], *(found[key].get("2", 0) for key in ("failed_by_version", "by_version"))]
    assert failed == [len(seen) // 4] * 3, "a machine that is busy may send few of the hundred"
    assert "1" not in found["failed_by_version"]
    assert sum(second["failed"] for second in found["timeline"]) == found["failed"]
    assert sum(sum(second["by_version"].values()) for second in found["timeline"]) == found["requests"]
    assert 0 < found["p50_ms"] <= found["p95_ms"]
    assert not {"first_token", "tokens"} & found.keys(), "a classifier writes none"


def test_rows_are_sent_in_turn_as_the_open_inference_protocol_says(tmp_path):
    """Each request holds one row, in the file's order, again from the start at its end."""
    with service(one_of_four_fails) as (url, seen):
        counted(url, tmp_path, texts=("a", "b", "c"), duration_s=0.1)
    assert {path for path, _ in seen} == {"/v2/models/sentiment/infer"}
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES"}
    assert seen[0][1] == {"inputs": [{**tensor, "data": ["a"]}]}
    assert {body["inputs"][0]["data"][0] for _, body in seen} == {"a", "b", "c"}


def test_a_slow_server_is_not_spared(tmp_path):
    """The loop is open: requests leave on time although no answer has come yet."""

    async def slow(_):
        await asyncio.sleep(0.5)
        return versioned(200, "1")

    with service(slow) as (url, seen):
        found = counted(url, tmp_path, rps=50, duration_s=0.4)
    assert 10 <= found["requests"] == len(seen) <= 21
    assert found["failed"] == 0
    assert found["p50_ms"] >= 500


def test_nobody_there_is_a_failure_without_a_version(tmp_path):
    """A refused connection is what the user would have seen."""
    found = counted(URL, tmp_path, rps=50, duration_s=0.1)
    assert found["failed"] == found["requests"] == found["failed_by_version"]["none"] > 0


def test_a_redirect_is_not_followed(tmp_path):
    """A request to this machine stays on it, and a redirect is no answer to an inference."""

    async def away(_):
        return web.Response(status=307, headers={"Location": "/v2/models/other/infer"})

    with service(away) as (url, seen):
        found = counted(url, tmp_path, rps=20, duration_s=0.2)
    assert found["failed"] == found["requests"] == len(seen)


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:80",
        "https://127.0.0.1",
        "http://127.0.0.1.example.org",
        "file:///etc/hosts",
        "http://[::1",
        "x",
    ],
)
def test_only_this_machine_is_loaded(url, tmp_path):
    """Nobody else's server is asked by mistake."""
    with pytest.raises(BadInput) as error:
        run_traffic_command(url, posts(tmp_path), 1, 1, None, as_json=False)
    assert error.value.code == "E_URL"


def test_texts_of_a_csv_and_of_jsonl(tmp_path):
    """Both kinds give the same rows; a quoted line break belongs to its row."""
    (tmp_path / "rows.csv").write_text('id,text\n1,"first\nline"\n2,zweite – Zeile\n', encoding="utf-8")
    (tmp_path / "other.csv").write_text('id,tweet\n1,"first\nline"\n2,zweite – Zeile\n', encoding="utf-8")
    lines = [json.dumps({"text": text}) for text in ("first\nline", "zweite – Zeile")]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert texts_of(tmp_path / "rows.csv") == ["first\nline", "zweite – Zeile"]
    assert texts_of(tmp_path / "rows.jsonl") == ["first\nline", "zweite – Zeile"]
    assert texts_of(tmp_path / "other.csv", "tweet") == ["first\nline", "zweite – Zeile"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("header.csv", b"text\n"),
        ("other.csv", b"tweet\nhello\n"),
        ("ragged.csv", b"id,text\n1,hello\n2\n"),
        ("latin.csv", b"text\n\xe9t\xe9\n"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": \n'),
        ("list.jsonl", b'["text"]\n'),
        ("null.jsonl", b'{"text": null}\n'),
        ("some.jsonl", b'{"text": "a"}\n{"other": "b"}\n'),
        ("number.jsonl", b'{"prompt": 3}\n'),
        ("nothing.jsonl", b'{"messages": []}\n'),
        ("words.jsonl", b'{"messages": ["hello"]}\n'),
        ("said.jsonl", b'{"messages": "hello"}\n'),
    ],
)
def test_unusable_data_is_refused(tmp_path, name, content):
    """Nothing is sent where a row has no text."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as error:
        read_posts(tmp_path / name, "sentiment")
    assert error.value.code == "E_DATASET"


def test_missing_data_is_refused(tmp_path):
    """A file that is not there is said so."""
    with pytest.raises(BadInput) as error:
        read_posts(tmp_path / "none.csv", "sentiment")
    assert error.value.code == "E_DATASET"


def test_a_report_that_cannot_be_written_is_told(tmp_path):
    """An error of three lines, no traceback."""
    with pytest.raises(BadInput) as error:
        run_traffic_command(URL, posts(tmp_path), 10, 0.1, tmp_path / "none" / "report.json", as_json=False)
    assert error.value.code == "E_PATH"


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_a_report(tmp_path, number):
    """The demo stops its client with a signal and reads what it counted."""
    data, report = tmp_path / "rows.csv", tmp_path / "report.json"
    data.write_text("text\nhello\n")
    with service(one_of_four_fails) as (url, seen):
        options = ["--data", str(data), "--url", url, "--rps", "50", "--report", str(report)]
        command = [sys.executable, "-m", "flows.cli", "traffic", "sentiment", *options]
        client = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            until(lambda: len(seen) >= 5)
            client.send_signal(number)
            assert client.wait(HANG_S) == 0
        finally:
            client.kill()
    assert json.loads(report.read_text())["requests"] == len(seen) >= 5


@pytest.mark.parametrize("url", ["http://user:secret@example.org", "https://127.0.0.1/?token=secret", "secret@[::1"])
def test_somebody_elses_address_is_shown_without_its_secrets(url):
    """Credentials and queries stand in no log."""
    with pytest.raises(BadInput) as caught:
        check_loopback(url)
    assert (caught.value.code, "secret" in str(caught.value.as_dict())) == ("E_URL", False)
