"""How long is everybody else locked out where one client holds thousands of connections and asks nothing?

    python -m benchmarks.idle_clients [--json] [--connections 6000] [--rounds 10]

A gateway of ours in front of a server that answers at once. One client (127.0.0.1) opens its connections and leaves
them; then another (127.0.0.2) comes and tries until it is served. Before each round the idle client opens again what
was closed, as a leaking pool would.
"""

from __future__ import annotations

import argparse
import resource
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from time import perf_counter, sleep

from benchmarks import proxies
from benchmarks.gateway import free_port
from benchmarks.spread import tell

OTHER, LONGEST_S = "127.0.0.2", 5.0
ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def hold(port: int, connections: int, held: list[socket.socket]) -> None:
    """Open as many connections as are missing, and do nothing with them."""
    held[:] = [one for one in held if not _is_closed(one)]
    while len(held) < connections:
        with suppress(OSError):
            held.append(socket.create_connection(("127.0.0.1", port), LONGEST_S))


def _is_closed(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def served_after_s(port: int) -> float:
    """Seconds until another client has an answer, however often it has to come again."""
    began = perf_counter()
    while perf_counter() - began < 20 * LONGEST_S:
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", port), LONGEST_S, source_address=(OTHER, 0)) as asking,
        ):
            asking.sendall(ASKED)
            if asking.recv(64).startswith(b"HTTP/1.1 200"):
                return perf_counter() - began
        sleep(0.01)
    return float("inf")


def measure(connections: int, rounds: int) -> list[float]:
    """Seconds until another client was served, one value a round."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held: list[socket.socket] = []
    with tempfile.TemporaryDirectory() as name:
        folder, upstream, port = Path(name), free_port(), free_port()
        folder.chmod(0o755)
        with (
            proxies.started(proxies.upstream(folder, upstream), upstream, folder / "upstream.out"),
            proxies.started(proxies.shipway(folder, port, upstream), port, folder / "gateway.out"),
        ):
            proxies.give_arms(folder, upstream)
            served_after_s(port)
            found = []
            for _ in range(rounds):
                hold(port, connections, held)
                found.append(served_after_s(port))
            for one in held:
                one.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--connections", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    tell({"idle_locked_out_s": measure(options.connections, options.rounds)}, 3, as_json=options.json)


if __name__ == "__main__":
    main()
