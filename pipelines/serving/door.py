"""Where does a gateway listen: at the door that its supervisor keeps open, or at one of its own?"""

from __future__ import annotations

import socket
from collections.abc import Mapping

DOOR_VARIABLE = "SHIPWAY_DOOR_FD"
"""Names the file descriptor of a listening socket that this process was given."""


def given_door(environ: Mapping[str, str]) -> socket.socket | None:
    """The listening socket that this process was given, or None."""
    number = environ.get(DOOR_VARIABLE, "")
    return socket.socket(fileno=int(number)) if number.isdigit() else None
