"""Events are the same however the network cuts a stream."""

import pytest

from pipelines.serving.meter.sse import MOST_EVENT_BYTES, EventReader

STREAM = 'data: {"a": "ä"}\n\n: ping\n\nevent: x\ndata: one\ndata: two\n\ndata:bare\n\ndata: [DONE]\n\n'.encode()
EVENTS = ['{"a": "ä"}'.encode(), b"one\ntwo", b"bare", b"[DONE]"]


def fed(*pieces):
    """All data that the pieces hold."""
    reader = EventReader()
    return [data for piece in pieces for data in reader.feed(piece)]


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_cut_anywhere_changes_nothing(cut):
    """Also in the middle of a character, and of a line's end."""
    assert fed(STREAM[:cut], STREAM[cut:]) == EVENTS


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_lines_may_end_in_any_way(end):
    """Byte by byte, which cuts every pair of them."""
    assert fed(*(bytes([byte]) for byte in STREAM.replace(b"\n", end) + b"\n")) == EVENTS


def test_what_has_no_end_is_midway():
    """A stream that breaks off there was cut."""
    reader = EventReader()
    reader.feed(b"data: a\n\ndata: b\n")
    assert reader.is_midway


def test_an_event_without_an_end_is_not_kept():
    """Its memory is bounded; what comes after it is read."""
    reader = EventReader()
    piece = b"x" * 65536
    found = [reader.feed(b"data: " + piece), *(reader.feed(piece) for _ in range(64))]
    kept = len(reader._tail)
    found += [reader.feed(b"y\n\ndata: next\n\n")]
    assert ([data for piece in found for data in piece], reader.unread, kept <= MOST_EVENT_BYTES) == (
        [b"next"],
        1,
        True,
    )
