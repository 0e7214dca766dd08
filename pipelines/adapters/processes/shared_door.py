"""Where do callers wait while a proxy is started again that opens its port itself?

The supervisor's door listens at the same port (`SO_REUSEPORT`), always as the first. A filter in the kernel, which all
sockets of the port share, says which of them gets a new connection: one of the proxy's, behind the door's. Where that
one is not there, because the proxy ended (however that was), Linux takes one that is: callers wait at the door.
Who waited there is passed on by the agent, byte by byte, once its proxy answers.

Source: socket(7), SO_ATTACH_REUSEPORT_CBPF; net/core/sock_reuseport.c, reuseport_select_sock.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import struct
import threading
from contextlib import suppress

from pipelines.adapters.processes.runtime import is_port_taken

BACKLOG = 1024
SETTLE_S = 0.1
"""So long a connection may take from its first packet to the queue of a socket."""

_SO_ATTACH_REUSEPORT_CBPF = 51
_RANDOM = 0xFFFFF000 + 56
_LOAD, _MODULO, _ADD, _RETURN_SUM, _RETURN = 0x20, 0x94, 0x04, 0x16, 0x06
_PIECE_BYTES = 65536

_End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def shared_door(port: int) -> socket.socket | None:
    """A door beside which a proxy can listen; None where the kernel does not steer. OSError where the port is taken.

    Whoever else asks for a shared port would get a part of its callers, so a port that is in use is refused first.
    """
    if is_port_taken(port):
        raise OSError(errno.EADDRINUSE, "taken")
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        door.bind(("127.0.0.1", port))
        if not _steer(door, 0):
            door.close()
            return None
        door.listen(BACKLOG)
    except OSError:
        door.close()
        raise
    return door


def send_to_proxy(door: socket.socket, sockets: int) -> None:
    """From now on new connections go to the proxy, which has so many sockets."""
    _steer(door, sockets)


def send_to_door(door: socket.socket) -> None:
    """From now on new connections wait at the door."""
    _steer(door, 0)


def _steer(door: socket.socket, sockets: int) -> bool:
    """Whether the kernel took it: a random one of the sockets behind the first, or the first itself."""
    chosen = [(_LOAD, _RANDOM), (_MODULO, sockets), (_ADD, 1), (_RETURN_SUM, 0)] if sockets else [(_RETURN, 0)]
    code = b"".join(struct.pack("HBBI", operation, 0, 0, operand) for operation, operand in chosen)
    kept = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(chosen), ctypes.addressof(kept))
    try:
        door.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)
    except OSError:
        return False
    return True


def let_in(door: socket.socket, port: int) -> threading.Event:
    """Pass on who waits at the door, in the background: he talks through this process until he hangs up.

    The event says that everybody is in. Before that nobody may be sent to the door again: he would be passed on to it.
    """
    are_in = threading.Event()
    threading.Thread(target=lambda: asyncio.run(_let_in(door, port, are_in)), name="door", daemon=True).start()
    return are_in


async def _let_in(door: socket.socket, port: int, are_in: threading.Event) -> None:
    callers = [*await _queue(door, 0.0), *await _queue(door, SETTLE_S)]
    pairs = await asyncio.gather(*(_connected(caller, port) for caller in callers))
    are_in.set()
    await asyncio.gather(*(_talk(*pair) for pair in pairs if pair is not None))


async def _queue(door: socket.socket, wait_s: float) -> list[socket.socket]:
    """Who waits at the door a moment later."""
    await asyncio.sleep(wait_s)
    door.setblocking(False)
    callers = []
    with suppress(OSError):  # nobody is left, or the door was closed
        while True:
            callers.append(door.accept()[0])
    return callers


async def _connected(caller: socket.socket, port: int) -> tuple[_End, _End] | None:
    """A caller and who serves him; None where one of them is gone."""
    try:
        return await asyncio.open_connection(sock=caller), await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        caller.close()
        return None


async def _talk(caller: _End, proxy: _End) -> None:
    """Until both have said all they have to say."""
    await asyncio.gather(_copy(caller[0], proxy[1]), _copy(proxy[0], caller[1]))
    caller[1].close()
    proxy[1].close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_PIECE_BYTES):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()
