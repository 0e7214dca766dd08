"""Is whoever does not answer found out in time?"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import pytest

from pipelines.serving import probes


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"], ids=["head", "body"])
def test_an_endpoint_that_drips_is_no_answer(monkeypatch, head):
    """A byte now and then, for ever: the whole answer has the time of one probe."""
    monkeypatch.setattr(probes, "PROBE_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            peer, _ = listening.accept()
            with suppress(OSError), peer:
                peer.sendall(head or b"HTTP/1.1 200 OK\r\nx-long: ")
                while True:
                    peer.sendall(b"x")
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        assert probes.answer_of(f"http://127.0.0.1:{listening.getsockname()[1]}", "/") == (0, b"")
