"""Callers of a port go to the proxy while it is there, wait at the door while it is not, and are let in afterwards."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress

import pytest

from pipelines.adapters.processes import shared_door
from pipelines.adapters.processes.doors import Doors
from pipelines.adapters.processes.shared_door import let_in, send_to_door, send_to_proxy
from pipelines.records.settings import GatewaySettings
from pipelines.records.unit import Unit
from tests.ports import free_port
from tests.waiting import HANG_S

PROXY = 2


@pytest.fixture
def stack():
    """Closes every socket."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def door(stack) -> socket.socket:
    """A door of its own port."""
    return stack.enter_context(shared_door.shared_door(free_port()))


def port_of(door: socket.socket) -> int:
    """Its port."""
    return door.getsockname()[1]


def opened_by_proxy(stack: ExitStack, port: int) -> list[socket.socket]:
    """The sockets of a proxy with several threads."""
    found = []
    for _ in range(PROXY):
        one = stack.enter_context(socket.socket())
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", port))
        one.listen(128)
        found.append(one)
    return found


def waiting(listening: socket.socket) -> int:
    """How many connections wait there; they are taken."""
    listening.setblocking(False)
    with ExitStack() as taken, suppress(BlockingIOError):
        for count in range(1000):
            found = count
            taken.enter_context(listening.accept()[0])
    return found


def call(stack: ExitStack, port: int, n: int) -> None:
    """Some callers."""
    for _ in range(n):
        stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1))


def test_callers_go_to_the_proxy_and_wait_while_it_is_gone(door, stack):
    """However it ended: its sockets need not have been taken out first."""
    call(stack, port_of(door), 10)
    assert waiting(door) == 10
    sockets = opened_by_proxy(stack, port_of(door))
    send_to_proxy(door, PROXY)
    call(stack, port_of(door), 40)
    counts = [waiting(one) for one in sockets]
    assert (waiting(door), sum(counts), min(counts) > 0) == (0, 40, True)
    for one in sockets:
        one.close()
    call(stack, port_of(door), 10)
    assert waiting(door) == 10


def test_callers_are_sent_to_the_door_before_the_proxy_ends(door, stack):
    """So that none is left in a queue that is closed."""
    sockets = opened_by_proxy(stack, port_of(door))
    send_to_proxy(door, PROXY)
    send_to_door(door)
    call(stack, port_of(door), 10)
    assert (waiting(door), [waiting(one) for one in sockets]) == (10, [0, 0])


def test_who_waited_is_let_in(door, stack):
    """What he said before and what he is answered are passed on, to the end of both."""
    caller = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(door)), timeout=5))
    caller.sendall(b"ping")
    caller.shutdown(socket.SHUT_WR)
    proxy, *_ = opened_by_proxy(stack, port_of(door))

    def serve() -> None:
        talk, _ = proxy.accept()
        with talk, talk.makefile("rb") as heard:
            talk.sendall(b"pong to " + heard.read())

    serving = threading.Thread(target=serve)
    serving.start()
    send_to_proxy(door, 1)
    assert let_in(door, port_of(door)).wait(HANG_S)
    with caller.makefile("rb") as heard:
        assert heard.read() == b"pong to ping"
    serving.join()


def test_a_port_that_is_in_use_is_not_shared(stack):
    """Neither with a stranger nor with another home: each would get a part of the other's callers."""
    port = free_port()
    for taken in opened_by_proxy(stack, port):
        with pytest.raises(OSError, match="taken"):
            Doors().open(Unit("s-gateway", "gateway", "s", port=port, settings=GatewaySettings(router="envoy")))
        taken.close()
    port = port_of(stack.enter_context(shared_door.shared_door(port)))
    with pytest.raises(OSError, match="taken"):
        shared_door.shared_door(port)


def test_a_kernel_that_does_not_steer_has_no_door(monkeypatch):
    """Then Envoy has its port alone, and callers are refused while it is started again."""
    monkeypatch.setattr(shared_door, "_steer", lambda *_: False)
    assert (
        Doors().open(Unit("s-gateway", "gateway", "s", port=free_port(), settings=GatewaySettings(router="envoy")))
        is None
    )
