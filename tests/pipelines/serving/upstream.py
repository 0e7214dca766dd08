"""A tiny HTTP server that stands for a model server: `python upstream.py PORT VERSION [STATUS]`."""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ODD = ("/stream", "/drip", "/garbage", "/cut", "/stall")


class Handler(BaseHTTPRequestHandler):
    """Answers with its version; /slow waits, and the odd paths answer oddly."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Any path."""
        self._answer()

    def do_POST(self) -> None:
        """Any path; the body is read."""
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self._answer()

    def _answer(self) -> None:
        if self.path == "/slow":
            time.sleep(30)
        if self.path in ODD:
            getattr(self, f"_{self.path[1:]}")()
            return
        body = (self.headers.get("x-request-id", "") + " " + self.path).encode()
        self.send_response(int(sys.argv[3]) if len(sys.argv) > 3 else 200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-shipway-model-version", sys.argv[2])
        self.send_header("x-shipway-class", f"class-{sys.argv[2]}")
        self.send_header("x-shipway-value", "0.75")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, pieces: int = 4) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for i in range(pieces):
            self.wfile.write(b"9\r\ndata: %d\n\n\r\n" % (i % 10))
            self.wfile.flush()
            time.sleep(0.2)
        self.wfile.write(b"0\r\n\r\n")

    def _drip(self) -> None:
        """A stream of 3 s."""
        self._stream(15)

    def _garbage(self) -> None:
        """Not HTTP."""
        self.wfile.write(b"\x00\x01 what?\r\n\r\n")
        self.close_connection = True

    def _cut(self) -> None:
        """Less than it said."""
        self._half()
        self.close_connection = True

    def _stall(self) -> None:
        """Half an answer, and then nothing for long."""
        self._half()
        time.sleep(30)

    def _half(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "10")
        self.end_headers()
        self.wfile.write(b"12345")
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
