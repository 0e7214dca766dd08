"""A gateway before language models counts what their answers were, and convicts nobody for what clients do."""

import asyncio
import json
import socket
import struct

import pytest

from pipelines.records.settings import GatewaySettings, Objective, Promise
from pipelines.serving.evidence.counters import GatewayCounters
from pipelines.serving.http1.limits import Limits
from pipelines.serving.requests.data_plane import Serving
from tests.pipelines.serving.plane import Plane, request_of

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
OBJECTIVE = Objective(ttft_s=0.3, tpot_s=5.0)
HELLO = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}


def post(body=HELLO, path="/v1/chat/completions", keeps=False):
    """A request for text."""
    written = body if isinstance(body, bytes) else json.dumps(body).encode()
    end = "" if keeps else "connection: close\r\n"
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{end}content-length: {len(written)}\r\n\r\n".encode() + written


def event(said) -> bytes:
    """One event of a stream, as a chunk."""
    data = f"data: {said if isinstance(said, str) else json.dumps(said)}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def piece(text, finish=None, **more):
    """A piece of a chat."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more})


USAGE = {"usage": {"prompt_tokens": 300, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 200}}}
WHOLE = (piece("a"), piece("b", "stop", **USAGE), event("[DONE]"), b"0\r\n\r\n")


def writing(*pieces, first_s=0.0, hangs=False, head=HEAD):
    """An engine that says its head at once, and then these pieces."""

    async def script(reader, writer):
        while True:
            await request_of(reader)
            writer.write(head)
            await asyncio.sleep(first_s)
            for one in pieces:
                writer.write(one)
                await asyncio.sleep(0.01)
            if hangs:
                await reader.read()
            if not pieces or not pieces[-1].endswith(b"0\r\n\r\n"):
                break

    return script


def counted(folder, script, *requests, timeout_s=5.0, stalled_s=60.0, objective=OBJECTIVE, borderline="pass"):
    """What stable is said to have done, in the interval in which these were asked; and what the last client heard."""
    settings = GatewaySettings(timeout_s=timeout_s, api="openai", objective=objective, borderline=borderline)
    serving = Serving(60.0, settings, Limits(stalled_s=stalled_s))

    async def run():
        async with Plane(folder, serving=serving) as plane:
            await plane.stable(script)
            heard = b""
            for request in requests:
                heard = await plane.say(request)
            return plane.gateway.intervals.current.arms["stable"].counts(), heard

    return asyncio.run(run())


def test_an_answer_is_told_by_its_tokens(tmp_path):
    """Its timings, within the bin of its 100 uncached tokens; what it was asked about; how long it was."""
    arm, heard = counted(tmp_path, writing(*WHOLE, first_s=0.1), post())
    first = arm.timings["first_token"]
    assert (arm.routed, arm.errors, sorted(arm.timings), list(first.by_slice)) == (
        *(1, 0, ["between_tokens", "first_token", "longer", "shorter"]),
        ["64"],
    )
    assert (first.exceeding(46), first.exceeding(107)) == (1, 0)  # more than 90 ms, and less than 200
    good = {"": (1, 0)}
    assert arm.rates == {**dict.fromkeys(("rejected", "empty", "cut", "refused"), good), "goodput": {"64": (1, 0)}}
    assert (sum(arm.values.values()), b"[DONE]" in heard) == (1, True)


def test_prometheus_learns_what_was_generated(tmp_path):
    """Added up over processes: tokens, why choices ended, when the first one came, and what was wrong."""

    async def run():
        serving = Serving(60.0, GatewaySettings(timeout_s=5.0, api="openai", objective=OBJECTIVE), Limits())
        async with Plane(tmp_path, serving=serving) as plane:
            await plane.stable(writing(*WHOLE))
            await plane.say(post())
            return plane.gateway.counters

    counters, together = asyncio.run(run()), GatewayCounters()
    for _ in range(2):
        together.add(json.loads(json.dumps(counters.plain())))
    lines = together.text().decode().splitlines()
    assert {
        'shipway_gateway_tokens_total{arm="stable",kind="cached"} 400.0',
        'shipway_gateway_tokens_total{arm="stable",kind="in"} 600.0',
        'shipway_gateway_tokens_total{arm="stable",kind="out"} 4.0',
        'shipway_gateway_finishes_total{arm="stable",reason="stop"} 2.0',
        'shipway_gateway_first_token_seconds_count{arm="stable"} 2.0',
        'shipway_gateway_answers_asked_total{arm="stable",what="goodput"} 2.0',
        'shipway_gateway_answers_bad_total{arm="stable",what="goodput"} 0.0',
    } <= set(lines)


def test_a_late_first_token_misses_the_objective(tmp_path):
    """The head came at once, which is nothing to read."""
    arm, _ = counted(tmp_path, writing(*WHOLE, first_s=0.5), post())
    assert (arm.rates["goodput"], arm.errors) == ({"64": (1, 1)}, 0)


@pytest.mark.parametrize(
    ("pieces", "hangs"),
    [
        ((piece("a"), b"0\r\n\r\n"), False),
        ((piece("a"), event("[DONE]"), b"0\r\n\r\n"), False),
        ((piece("a"), event({"error": {"message": "out of memory"}}), b"0\r\n\r\n"), False),
        ((piece("a"),), False),
        ((piece("a"),), True),
    ],
    ids=["no finish reason", "done without one", "an error in a stream", "broken off", "stalled"],
)
def test_a_stream_without_its_end_is_a_failure(tmp_path, pieces, hangs):
    """Though its status was 200: a client is told so by an event, or by a broken connection."""
    arm, _ = counted(tmp_path, writing(*pieces, hangs=hangs), post(), stalled_s=0.4)
    assert (arm.routed, arm.errors) == (1, 1)


@pytest.mark.parametrize(
    "body", [{**HELLO, "max_tokens": 0}, {**HELLO, "messages": []}, {**HELLO, "temperature": -1}, b"{", b"[]"]
)
def test_what_engines_answer_differently_is_no_evidence(tmp_path, body):
    """It is passed on all the same."""
    arm, heard = counted(tmp_path, writing(*WHOLE), post(body))
    assert (arm.routed, b"[DONE]" in heard) == (0, True)


@pytest.mark.parametrize(("body", "why"), [({**HELLO, "max_tokens": 0}, "max_tokens is no"), (b"{", "is not JSON")])
def test_what_engines_answer_differently_is_refused_where_a_spec_says_so(tmp_path, body, why):
    """Alike for both arms, in the shape that the caller's library reads; nobody is asked, and nothing is counted."""
    arm, heard = counted(tmp_path, writing(*WHOLE), post(body), borderline="refuse")
    head, _, said = heard.partition(b"\r\n\r\n")
    error = json.loads(said)["error"]
    assert head.startswith(b"HTTP/1.1 400 ")
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "borderline", None)
    assert why in error["message"]
    assert arm.routed == 0


def test_other_requests_are_passed_on_where_borderline_ones_are_refused(tmp_path):
    """They are answered and counted as ever."""
    arm, heard = counted(tmp_path, writing(*WHOLE), post(), borderline="refuse")
    assert b" 200 " in heard
    assert arm.routed == 1


def test_a_refused_request_is_counted_apart(tmp_path):
    """A version that refuses what the other one answers is found by that."""
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}"
    arm, _ = counted(tmp_path, writing(head=head), post())
    assert (arm.errors, arm.rates) == (0, {"rejected": {"": (1, 1)}})


def test_an_answer_in_one_piece_is_told_too(tmp_path):
    """By its usage and finish reason."""
    body = json.dumps(
        {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "length"}], **USAGE}
    ).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    arm, _ = counted(tmp_path, writing(head=head + body), post({**HELLO, "stream": False}))
    assert (arm.rates["cut"], arm.rates["goodput"]) == ({"": (1, 1)}, {"64": (1, 0)})
    assert sorted(arm.timings) == ["longer", "shorter"]


@pytest.mark.parametrize(("after", "left", "timeouts"), [(b"content", 1, 0), (b"HTTP/1.1 200", 0, 1)])
def test_who_leaves_in_the_middle_accuses_nobody(tmp_path, after, left, timeouts):
    """Unless nothing had come yet: an engine that hangs would be hidden from all impatient clients."""
    pieces = (piece("a"),) if left else ()

    async def run():
        serving = Serving(60.0, GatewaySettings(timeout_s=5.0, api="openai"), Limits())
        async with Plane(tmp_path, serving=serving) as plane:
            await plane.stable(writing(*pieces, hangs=True))
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            writer.write(post(keeps=True))
            await reader.readuntil(after)
            door = writer.get_extra_info("socket")
            door.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # gone, not only silent
            writer.transport.abort()
            await asyncio.sleep(0.3)
            return plane.gateway.intervals.current.arms["stable"].counts()

    arm = asyncio.run(run())
    assert (arm.routed, arm.left, arm.timeouts, arm.judged) == (1, left, timeouts, 1 - left)


def test_what_is_late_is_told_as_far_as_it_came(tmp_path):
    """A stream that goes on past the time is a slow answer, and how it ends is no evidence any more."""
    slow = (*(piece("a") for _ in range(60)), piece("b", "stop"), b"0\r\n\r\n")
    arm, heard = counted(tmp_path, writing(*slow), post(), timeout_s=0.3)
    assert (arm.errors, sorted(arm.rates), b'"stop"' in heard) == (0, ["goodput", "rejected"], True)


def test_other_paths_are_not_read(tmp_path):
    """They are answered as by any arm."""
    arm, _ = counted(tmp_path, writing(*WHOLE), post(path="/v1/embeddings"))
    assert (arm.routed, arm.rates, sorted(arm.timings)) == (1, {}, ["between_tokens", "first_token"])


@pytest.mark.parametrize(("named", "missed"), [("", 1), ("x-class: chat", 1), ("x-class: batch", 0)])
def test_a_class_of_traffic_has_an_objective_of_its_own(tmp_path, named, missed):
    """Every other request has the service's."""
    objective = Objective(ttft_s=0.01, by="x-class", classes={"batch": Promise(e2e_s=60.0)})
    request = post().replace(b"host: x", f"host: x\r\n{named or 'x-other: batch'}".encode())
    arm, _ = counted(tmp_path, writing(*WHOLE, first_s=0.05), request, objective=objective)
    assert arm.rates["goodput"] == {"64": (1, missed)}
