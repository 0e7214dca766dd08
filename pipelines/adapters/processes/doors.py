"""Which listening sockets outlive the gateways behind them?

The supervisor opens a gateway's port and lends it to the process. While a killed gateway is started again, or one with
other settings takes its place, callers wait at the open door for a moment; nobody is refused.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass, field

from pipelines.adapters.processes.shared_door import shared_door
from pipelines.records.unit import Unit
from pipelines.serving.sockets import DOOR_VARIABLE

BACKLOG = 1024


@dataclass
class Doors:
    """The open doors of one supervisor, by unit name."""

    _open: dict[str, socket.socket] = field(default_factory=dict)

    @property
    def names(self) -> Collection[str]:
        """Whose doors are open."""
        return self._open.keys()

    def open(self, unit: Unit) -> socket.socket | None:
        """The unit's door; None where it can have none. OSError where its port belongs to somebody else."""
        if unit.name not in self._open:
            # Envoy takes no socket from anybody: it opens its port itself, beside the door.
            door = shared_door(unit.port) if unit.router == "envoy" else _listening(unit.port)
            if door is None:
                return None
            self._open[unit.name] = door
        return self._open[unit.name]

    def close(self, name: str) -> None:
        """From now on callers of this unit are refused, once its process is gone too."""
        door = self._open.pop(name, None)
        if door is not None:
            door.close()

    def close_all(self) -> None:
        """Nothing is kept open any more."""
        for name in list(self._open):
            self.close(name)


def lent(door: socket.socket) -> dict[str, str]:
    """What tells a process which of its file descriptors is its door."""
    return {DOOR_VARIABLE: str(door.fileno())}


def _listening(port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(("127.0.0.1", port))
        door.listen(BACKLOG)
    except OSError:
        door.close()
        raise
    return door
