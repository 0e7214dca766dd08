"""Which port may a test take? One of its own thousand: two workers never race for one.

They lie below those that Shipway chooses (20,000 and on) and those that the kernel gives to clients (32,768 and on).
"""

from __future__ import annotations

import itertools
import os
import socket

FIRST, EACH, THOUSANDS = 10_000, 1_000, 10


def thousand_of(worker: str) -> range:
    """The ports of a worker of pytest-xdist (`gw0`, `gw1`, …); those of a session without workers come first."""
    number = (int(worker.removeprefix("gw")) + 1) % THOUSANDS if worker else 0
    first = FIRST + EACH * number
    return range(first, first + EACH)


_PORTS = thousand_of(os.environ.get("PYTEST_XDIST_WORKER", ""))
# Another session on this machine has the same thousand: it begins elsewhere in it.
_NEXT = itertools.count(os.getpid() * 37)


def free_port() -> int:
    """A port of loopback that nobody has, and that this session gives to nobody else for long."""
    for _ in _PORTS:
        port = _PORTS[next(_NEXT) % EACH]
        with socket.socket() as probe:
            if _is_bound(probe, port):
                return port
    raise AssertionError(f"no port of {_PORTS} is free")


def _is_bound(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
