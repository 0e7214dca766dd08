"""Does a unit answer that it is ready?

Probes are asked several times a second, so they are the plainest HTTP there is: a new connection each (one that was
kept alive over a restart would accuse a healthy server), no proxy, and TLS for adopted endpoints only.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.serving.sockets import trust

PROBE_TIMEOUT_S = 2.0
MOST_BYTES = 64 * 1024


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Reach the socket instead of a port."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def is_server_ready(port: int, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Whether a model server answers its readiness route, which is good only after a real inference."""
    return _is_ok(HTTPConnection("127.0.0.1", port, timeout=timeout_s), "/v2/health/ready")


def is_endpoint_ready(url: str, path: str, ca_file: str = "") -> bool:
    """Whether an adopted endpoint answers at the path that was found to tell; a redirect is no answer."""
    return 200 <= answer_of(url, path, ca_file)[0] < 300


def is_gateway_ready(admin_socket: Path, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Whether a gateway answers on its admin socket."""
    return _is_ok(UnixConnection(admin_socket, timeout_s), "/health")


def answer_of(url: str, path: str, ca_file: str = "") -> tuple[int, bytes]:
    """What is answered at a path: the status and the beginning of the body; 0 where nothing is."""
    parts = urlsplit(url)
    host = str(parts.hostname)
    if parts.scheme != "https":
        return _answer_in_time(HTTPConnection(host, parts.port or 80, timeout=PROBE_TIMEOUT_S), path)
    try:
        context = trust(ca_file)
    except OSError:
        return 0, b""
    return _answer_in_time(HTTPSConnection(host, parts.port, timeout=PROBE_TIMEOUT_S, context=context), path)


def _is_ok(connection: HTTPConnection, path: str) -> bool:
    return 200 <= _answer(connection, path)[0] < 300


def _answer(connection: HTTPConnection, path: str) -> tuple[int, bytes]:
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(MOST_BYTES)
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()


def _answer_in_time(connection: HTTPConnection, path: str) -> tuple[int, bytes]:
    """The same, where the whole answer has its time: somebody else's endpoint may give a byte now and then for ever."""
    is_late = threading.Event()
    cut = threading.Timer(PROBE_TIMEOUT_S, _cut, (connection, is_late))
    cut.daemon = True
    cut.start()
    try:
        answer = _answer(connection, path)
    finally:
        cut.cancel()
    return (0, b"") if is_late.is_set() else answer


def _cut(connection: HTTPConnection, is_late: threading.Event) -> None:
    is_late.set()
    with suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
