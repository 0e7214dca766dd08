"""What is refused, what is read, and does a strict parser of others agree about it?"""

from __future__ import annotations

import re
import tracemalloc
from itertools import pairwise

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.serving.http1.limits import Limits, Load
from pipelines.serving.http1.request import RequestReader

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

MALFORMED = {
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "length and chunks": HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
    "a list of lengths": HEAD + b"Content-Length: 1,1\r\n\r\nx",
    "a signed length": HEAD + b"Content-Length: +1\r\n\r\nx",
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\nx",
    "a huge length": HEAD + b"Content-Length: 99999999999999999999\r\n\r\nx",
    "a space before the colon": HEAD + b"Content-Length : 1\r\n\r\nx",
    "a coding after chunked": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two codings": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a vertical tab": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded header": HEAD + b"X: a\r\n b\r\n\r\n",
    "a bare LF": HEAD + b"X: a\nY: b\r\n\r\n",
    "a bare CR": HEAD + b"X: a\rY: b\r\n\r\n",
    "bare LFs only": b"GET / HTTP/1.1\nHost: a\n\n",
    "NUL in a value": HEAD + b"X: a\x00b\r\n\r\n",
    "NUL in a name": HEAD + b"\x00X: ab\r\n\r\n",
    "a header without a name": HEAD + b": ab\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": HEAD + b"Host: b\r\n\r\n",
    "a space after a chunk's size": CHUNKED + b"1 \r\nx\r\n0\r\n\r\n",
    "0x in a chunk's size": CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n",
    "bare LFs in chunks": CHUNKED + b"1\nx\n0\n\n",
    "a chunk that is too long": CHUNKED + b"1\r\nxy\r\n0\r\n\r\n",
    "a chunk's size that overflows": CHUNKED + b"fffffffffffffffff\r\nx",
    "a negative chunk": CHUNKED + b"-1\r\nx\r\n0\r\n\r\n",
    "no chunk": CHUNKED + b"\r\n",
    "NUL in a chunk's extension": CHUNKED + b"1;\x00\r\nx\r\n0\r\n\r\n",
    "an absolute target": b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "no path": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a byte that is no text in the target": b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "an unknown method": b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tunnel": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "noise": b"\x00\xff\x00\xff\r\n\r\n",
}
OTHERS = {
    413: {"a body over the limit": HEAD + b"Content-Length: 3000000\r\n\r\n"},
    414: {"a long target": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"},
    417: {"an odd expectation": HEAD + b"Expect: a-miracle\r\n\r\n"},
    431: {
        "many headers": HEAD + b"X: a\r\n" * 100_000 + b"\r\n",
        "a long header": HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
        "a long header without an end": HEAD + b"X: " + b"a" * 40_000,
        "many trailers": CHUNKED + b"0\r\n" + b"X: a\r\n" * 200 + b"\r\n",
    },
    501: {
        "a WebSocket": HEAD + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "HTTP/2 with a body": HEAD + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nx",
        "another coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "a second coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    },
    505: {"HTTP/2": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "HTTP/0.9": b"GET /\r\n\r\n"},
}


def read(*pieces: bytes, limits: Limits | None = None) -> RequestReader:
    """A reader that was fed these bytes."""
    reader = RequestReader(limits or Limits(), Load())
    for piece in pieces:
        reader.feed(piece)
    return reader


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_clearly_one_request_is_refused(name):
    """400, and nothing of it is handed on."""
    reader = read(MALFORMED[name])
    assert (len(reader.whole), reader.broken and reader.broken.status) == (0, 400)


@pytest.mark.parametrize(("status", "name"), [(status, name) for status, named in OTHERS.items() for name in named])
def test_what_is_too_much_or_not_spoken_has_its_own_status(status, name):
    """And nothing of it is handed on."""
    reader = read(OTHERS[status][name])
    assert (len(reader.whole), reader.broken and reader.broken.status) == (0, status)


def test_a_hundred_thousand_headers_are_not_held():
    """Who is refused is heard a while longer, and there may be thousands of them."""
    tracemalloc.start()
    try:
        reader = read(OTHERS[431]["many headers"])
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # What is left are tuples that Python keeps for the next ones.
    assert (reader.broken is not None, held_bytes < 500_000) == (True, True)


def test_several_lines_of_a_header_are_one_list():
    """Where it is looked up by its name; all of them are passed on."""
    request = read(HEAD + b"Accept: a\r\nX: y \t\r\nAccept: b\r\nContent-Length: 0\r\n\r\n").whole[0]
    assert (request.named[b"accept"], request.named[b"x"], len(request.headers)) == (b"a,b", b"y", 5)


def test_a_request_is_read_whole():
    """Names in lower case, the body put together, trailers left out."""
    reader = read(CHUNKED + b"1;a=b\r\nx\r\n2\r\nyz\r\n0\r\nTrailer: t\r\n\r\n")
    request = reader.whole[0]
    assert (request.method, request.target, request.body, request.keep_alive) == (b"POST", b"/", b"xyz", True)
    assert request.headers == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]


def test_an_offer_of_http2_is_declined():
    """The request is served, and what follows it is read."""
    offer = b"GET /1 HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n"
    reader = read(offer + b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [request.target for request in reader.whole] == [b"/1", b"/2"]


def test_too_many_requests_in_advance_are_read_no_further():
    """As many as may wait are read."""
    reader = read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
    assert (len(reader.whole), reader.broken and reader.broken.status) == (8, 503)


def test_bodies_of_all_clients_have_one_limit():
    """What is answered is held no longer."""
    load, limits = Load(), Limits(all_body_bytes=10)
    first, second = RequestReader(limits, load), RequestReader(limits, load)
    first.feed(HEAD + b"Content-Length: 8\r\n\r\n12345678")
    second.feed(HEAD + b"Content-Length: 8\r\n\r\n12345678")
    assert second.broken is not None
    assert second.broken.status == 503
    second.close()
    first.forget(first.whole[0])
    assert load.body_bytes == 0


def test_tiny_chunks_are_not_a_way_around_the_limit():
    """What is on the wire has a limit, too."""
    reader = read(CHUNKED, *[b"1;" + b"a" * 1000 + b"\r\nx\r\n"] * 50, limits=Limits(body_bytes=1000, head_bytes=1000))
    assert reader.broken is not None
    assert reader.broken.status == 413


GOOD = [
    b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n",
    HEAD + b"Content-Length: 3\r\n\r\nabc",
    CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
]


@given(st.sampled_from([*GOOD, *MALFORMED.values()]), st.sampled_from(GOOD), st.lists(st.integers(0, 90), max_size=5))
def test_it_does_not_matter_where_the_bytes_are_cut(first, second, cuts):
    """The same requests, and the same refusal."""
    raw = first + second
    edges = [0, *sorted(cuts), len(raw)]
    whole, cut = read(raw), read(*[raw[a:b] for a, b in pairwise(edges)])
    assert list(whole.whole) == list(cut.whole)
    assert (whole.broken is None) == (cut.broken is None)


def strict(raw: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """What h11 reads before it refuses, is told to close, or needs more."""
    found, connection = [], h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
    connection.receive_data(raw)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                found.append((event.method, event.target, b""))
            elif isinstance(event, h11.Data):
                found[-1] = (*found[-1][:2], found[-1][2] + bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            else:
                return found
    except h11.ProtocolError:
        return found


BYTES = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"\x00",
    b"\x0b",
    b"0",
    b"1",
    b"5",
    b",",
    b";",
    b"\xff",
    b"/",
    b"-",
    b"+",
]
LINES = [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"chunked", b"Content-Length"]
PARTS = st.sampled_from([*BYTES, *LINES, b"GET / HTTP/1.1"])


@settings(max_examples=400)
@example(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", [(6, 0, b" ")])
@given(st.sampled_from(GOOD), st.lists(st.tuples(st.integers(0, 90), st.integers(0, 4), PARTS), max_size=4))
def test_a_strict_parser_agrees_about_what_is_handed_on(raw, edits):
    """Whatever is done to a good request: a request that we hand on is the same one to h11, with the same body."""
    for at, removed, inserted in edits:
        raw = raw[:at] + inserted + raw[at + removed :]
    # Empty lines before a request and several spaces in its first line may be read (RFC 9112, 2.2 and 3); h11 does not.
    raw = re.sub(rb"^[\r\n]*([A-Z]+) +", rb"\1 ", raw)
    raw = re.sub(rb"^([A-Z]+ [^\s]+) +HTTP/", rb"\1 HTTP/", raw)
    ours = [(r.method, r.target, r.body) for r in read(raw).whole]
    assert ours == strict(raw)[: len(ours)]
