"""Does the suite stay on this machine?"""

from __future__ import annotations

import socket

import pytest


@pytest.mark.parametrize(
    "address", [("192.0.2.1", 80), ("example.org", 443), ("0.0.0.0", 80), ("2001:db8::1", 80, 0, 0)]
)
def test_leaving_loopback_fails_at_once(address):
    """By address and by name, before anything is looked up."""
    family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
    with socket.socket(family) as outside, pytest.raises(OSError, match="may not leave loopback"):
        outside.connect(address)
    with socket.socket(family) as outside, pytest.raises(OSError, match="may not leave loopback"):
        outside.connect_ex(address)


def test_loopback_works():
    """Servers under test are reached."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.sendall(b"x")


def test_unix_sockets_work(tmp_path):
    """The gateway's admin socket is one."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
