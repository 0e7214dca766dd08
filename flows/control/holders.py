"""Which process holds a service's lock, and is it gone?

A lock ends by itself, a minute after its holder was killed. Where the holder was a process of this machine nobody needs
to wait that long. The fence guards against a wrong guess: who lost its lock can write no more.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from pathlib import Path

import psutil

from pipelines.errors import DependencyDown
from pipelines.ports import Now, Ports

_NAME = re.compile(r"(?P<role>[a-z]+)@(?P<place>.+):(?P<pid>\d+):[\d.]+")


def holder(role: str) -> str:
    """A name for this process that no other process ever has."""
    return f"{role}@{_place()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


_COMMANDS = {"command": "abort or rollback", "reconcile": "up", "supersede": "release", "watch": "watch (a flow)"}
"""What a person would have to have typed, where it is not the role's name."""


def spoken(name: str) -> str:
    """A holder as a person knows it: the command, and then the name, which holds its machine and process."""
    found = _NAME.fullmatch(name)
    return f"shipway {_COMMANDS.get(found['role'], found['role'])} ({name})" if found else name


def is_dead(name: str) -> bool:
    """Whether this holder was a process of this machine and is no more. Not known counts as alive."""
    found = _NAME.fullmatch(name)
    if found is None or found["place"] != _place():
        return False
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(int(found["pid"])).status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    return True


def living_holder(ports: Ports, service: str, now: Now) -> str | None:
    """Who holds the service's lock now? One that is dead is made to give it back."""
    name = ports.lock.holder(service, now)
    if name is None or not is_dead(name):
        return name
    with suppress(DependencyDown):
        ports.lock.revoke(service, name)
        return None
    return name


def _place() -> str:
    """Where process ids mean the same: this machine, and this one of its containers."""
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = 0
    return f"{socket.gethostname()}/{space}"
