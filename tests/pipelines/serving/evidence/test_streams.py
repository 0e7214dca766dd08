"""Streams of events: counted, timed, and never ended as if they were whole."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from pipelines.serving.evidence.streams import Events
from pipelines.serving.http1.limits import Limits
from tests.pipelines.serving.plane import GET, Plane, request_of

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def streaming(*pieces: bytes, pause_s: float = 0.1, hangs: bool = False):
    """An arm that sends these pieces, one after another, and then closes, or sends nothing more."""

    async def script(reader, writer):
        await request_of(reader)
        writer.write(HEAD)
        for piece in pieces:
            await asyncio.sleep(pause_s)
            writer.write(piece)
        await asyncio.sleep(30 if hangs else 0)

    return script


def heard(folder, script, timeout_s=5.0, limits=None):
    """What a client hears, and the gateway with what it counted."""

    async def run():
        async with Plane(folder, timeout_s, limits) as plane:
            await plane.stable(script)
            return await plane.say(GET), plane

    return asyncio.run(run())


@given(st.lists(st.sampled_from([b"data: a\n\n", b"data: b\r\n\r\n", b": c\n\n"]), max_size=8), st.data())
def test_events_are_counted_however_they_are_cut(events, data):
    """By the empty line that ends each."""
    raw, counted, at = b"".join(events), Events(), 0
    while at < len(raw):
        size = data.draw(st.integers(1, len(raw) - at))
        counted.heard(raw[at : at + size], 1.0)
        at += size
    assert counted._count == len(events)


def test_the_first_event_and_the_time_between_are_told():
    """In ms; the mean over the gaps."""
    events = Events()
    for at_s in (0.25, 0.75, 1.25):
        events.heard(b"data: x\n\n", at_s)
    assert events.timings_ms == {"first_token": 250.0, "between_tokens": 500.0}
    assert Events().timings_ms == {}


def test_streams_are_evidence(tmp_path):
    """One stream: its first event after 0.1 s, and 0.1 s between."""
    _, plane = heard(tmp_path, streaming(chunk(b"data: a\n\n"), chunk(b"data: b\n\n") + b"0\r\n\r\n"))
    counts = plane.gateway.intervals.current.arms["stable"].counts()
    assert (counts.routed, counts.errors) == (1, 0)
    assert {name: part.routed for name, part in counts.timings.items()} == {"first_token": 1, "between_tokens": 1}
    assert counts.timings["first_token"].exceeding(90) == 1 > counts.timings["first_token"].exceeding(125)


def test_a_stream_whose_arm_dies_ends_with_an_error_event(tmp_path):
    """And is the arm's error; the client's connection ends in order."""
    answer, plane = heard(tmp_path, streaming(chunk(b"data: a\n\n"), chunk(b"data: b")))
    assert (b"data: b\r\n" in answer, b"\n\nevent: error\ndata: {" in answer) == (True, True)
    assert answer.endswith(b"0\r\n\r\n")
    assert plane.counts("stable") == (1, 1, 0)


def test_a_compressed_stream_is_just_cut(tmp_path):
    """Nothing can be added to it."""
    dead = HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n") + chunk(b"\x1f\x8b")

    async def script(reader, writer):
        await request_of(reader)
        writer.write(dead)

    answer, plane = heard(tmp_path, script)
    assert (b"event: error" in answer, answer.endswith(b"0\r\n\r\n"), plane.counts("stable")) == (
        False,
        False,
        (1, 1, 0),
    )


def test_a_stream_that_falls_silent_past_its_time_ends_with_an_error_event(tmp_path):
    """It was counted as a slow answer; people see it among the late failures."""
    script = streaming(chunk(b"data: a\n\n"), hangs=True)
    answer, plane = heard(tmp_path, script, timeout_s=0.3, limits=Limits(stalled_s=0.5))
    assert answer.endswith(b"0\r\n\r\n")
    assert b"event: error" in answer
    assert plane.counts("stable") == (1, 0, 0)
    assert b'shipway_gateway_late_failures_total{arm="stable"} 1.0' in plane.gateway.counters.text()
