"""Where does a gateway listen, for callers and for controllers, and whose certificates does it trust?"""

from __future__ import annotations

import os
import socket
import ssl
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


def trust(ca_file: str) -> ssl.SSLContext:
    """What checks certificate and name: by the machine's authorities, or only by those of a file.

    OSError (of which ssl.SSLError is one) where the file cannot be used.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    return context
