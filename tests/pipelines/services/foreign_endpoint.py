"""An endpoint that Shipway did not make: `python foreign_endpoint.py PORT PROTOCOL [PEM]`, over TLS with a PEM."""

from __future__ import annotations

import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATHS = {
    "oip": {
        "/v2/health/ready": b"{}",
        "/v2/models/tiny": b'{"name": "tiny"}',
        "/v2/models/tiny/infer": b'{"model_name": "tiny", "outputs": []}',
    },
    "openai": {"/v1/models": b'{"object": "list", "data": [{"id": "m"}]}', "/v1/chat/completions": b"{}"},
    "mlflow": {"/ping": b"", "/version": b"3.17.2", "/invocations": b'{"predictions": []}'},
    "nothing": {},
    "pages": dict.fromkeys(("/v2/health/ready", "/v2/models/tiny", "/v1/models", "/ping"), b"<html></html>"),
}


class Handler(BaseHTTPRequestHandler):
    """Answers what its protocol has, and 404 otherwise."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        """Any path."""
        body = PATHS[sys.argv[2]].get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("content-length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def do_POST(self) -> None:
        """The body is read."""
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    if len(sys.argv) > 3:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[3])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()
