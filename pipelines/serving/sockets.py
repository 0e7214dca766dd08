"""Where does a gateway listen: at the door that its supervisor keeps open or at one of its own, and for controllers?"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

DOOR_VARIABLE = "SHIPWAY_DOOR_FD"
"""Names the file descriptor of a listening socket that this process was given."""


def given_door(environ: Mapping[str, str]) -> socket.socket | None:
    """The listening socket that this process was given, or None."""
    number = environ.get(DOOR_VARIABLE, "")
    return socket.socket(fileno=int(number)) if number.isdigit() else None


def private_socket(path: Path) -> socket.socket:
    """A Unix socket that only its owner may open, from its first moment on."""
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        private = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        private.bind(str(path))
    finally:
        os.umask(before)
    return private
