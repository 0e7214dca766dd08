"""One service: every request gets an arm by the current split, and the judge gets honest counts.

The data port serves users on loopback. Whoever may change traffic speaks to the admin socket (mode 0600) instead. With
one worker the process serves by itself; with more it keeps the split, and a crew of processes serves.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import BadInput
from pipelines.serving.gateway.admin import Admin
from pipelines.serving.gateway.crew import Crew
from pipelines.serving.gateway.options import EXIT_INPUT, TokenRefused, options_of, serving_of, settings_of
from pipelines.serving.http1.client import Clients
from pipelines.serving.http1.limits import Limits, Load
from pipelines.serving.requests.data_plane import BACKLOG, DataPlane
from pipelines.serving.sockets import given_door, private_socket

EXIT_PORT_TAKEN = 4
ADMIN_LIMITS = Limits(connections=64)


async def serve(gateway: DataPlane | Crew, door: socket.socket, admin_socket: Path) -> None:
    """Serve until SIGTERM; then finish what is in flight. From then on a successor may keep the split."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await gateway.open(door)
    controllers = Clients(ADMIN_LIMITS, Load(), Admin(gateway).serve)
    admin = await loop.create_unix_server(controllers.protocol, sock=private_socket(admin_socket))
    # Without its watch a gateway would leave users at a canary for good: it ends, and comes back all-stable.
    duties = [loop.create_task(duty) for duty in gateway.duties()]
    for duty in duties:
        duty.add_done_callback(lambda _: stopped.set())
    await stopped.wait()
    broken = next((duty.exception() for duty in duties if duty.done()), None)
    duties[0].cancel()
    admin.close()
    controllers.cut()
    await gateway.farewell()
    for duty in duties:
        duty.cancel()
    if broken is not None:
        raise broken


def listening(host: str, port: int) -> socket.socket:
    """The door that this process was given, or one of its own."""
    door = given_door(os.environ)
    return door or socket.create_server((host, port), backlog=BACKLOG)


def main(argv: Sequence[str] | None = None) -> None:
    """Be one service's gateway."""
    import uvloop

    said = list(sys.argv[1:] if argv is None else argv)
    options = options_of(said)
    try:
        serving = serving_of(options, settings_of(options))
        door = listening(options.host, options.port)
        gateway = (
            DataPlane(options.snapshot, serving)
            if serving.settings.workers == 1
            else Crew(options.snapshot, serving, said)
        )
        uvloop.run(serve(gateway, door, options.admin_socket))
    except BadInput as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_INPUT)
    except TokenRefused as error:
        print(f"E_TOKEN: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_INPUT)
    except OSError as error:
        print(f"E_PORT: cannot listen on {options.port}: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_PORT_TAKEN)
