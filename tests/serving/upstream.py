"""A tiny HTTP server that stands for a model server: `python upstream.py PORT VERSION [STATUS]`."""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers with its version; /slow waits, /stream sends pieces."""

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
        if self.path == "/stream":
            self._stream()
            return
        body = (self.headers.get("x-request-id", "") + " " + self.path).encode()
        self.send_response(int(sys.argv[3]) if len(sys.argv) > 3 else 200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-shipway-model-version", sys.argv[2])
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for i in range(4):
            self.wfile.write(b"9\r\ndata: %d\n\n\r\n" % i)
            self.wfile.flush()
            time.sleep(0.2)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Quiet."""


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
