"""How are texts redacted so that neither a slow pattern nor a large library harms who serves users?

In a child of low priority, one text after the other, within a time each. A text that takes longer is given up and its
child ended: what cannot be redacted is not kept.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import orjson

from pipelines.records.settings import OWN_KINDS
from pipelines.serving.privacy.program import HEAD_BYTES

_ROOT = Path(__file__).parents[3]
START_S, MOST_S = 60.0, 2.0
"""To import what recognises, on a busy machine; and for one request."""

REST_S = 10.0
"""A child that cannot begin, for a library that is gone, is not tried again with each request."""


class Unredacted(Exception):  # what happened, not a programming error
    """It could not be redacted within its time, or not at all."""


class BoundedRedactor:
    """A `Redactor` in a child, which is started when it is first asked. Not for several threads at one time.

    presidio leaves a pattern of its own out after 60 s and goes on: its child does not live that long.
    """

    def __init__(
        self,
        recognise: Sequence[str] = OWN_KINDS,
        patterns: Mapping[str, str] | None = None,
        most_s: float = MOST_S,
    ) -> None:
        self._rules = orjson.dumps({"recognise": list(recognise), "patterns": dict(patterns or {})})
        self._most_s = most_s
        self._child: subprocess.Popen[bytes] | None = None
        self._ours: socket.socket | None = None
        self._not_before_s = 0.0

    def redacted(self, value: Any) -> Any:
        """JSON data without what is personal by the rules. Unredacted where that could not be made."""
        data = orjson.dumps(value)
        try:
            ours = self._there() or self._started()
            return orjson.loads(_answered(ours, data, self._most_s))
        except (OSError, ValueError) as error:
            self.close()
            raise Unredacted(str(error)) from None

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        if self._ours is not None:
            self._ours.close()
        self._child = self._ours = None

    def _there(self) -> socket.socket | None:
        return self._ours if self._child is not None and self._child.poll() is None else None

    def _started(self) -> socket.socket:
        self.close()
        if monotonic() < self._not_before_s:
            raise ConnectionError("its child could not begin a moment ago")
        self._not_before_s = monotonic() + REST_S
        self._ours, theirs = socket.socketpair()
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipelines.serving.privacy.program"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,  # a library's complaint may quote the text
                env={**kept, "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(os.path.isabs, sys.path)])},
            )
        _answered(self._ours, self._rules, START_S)
        self._not_before_s = 0.0
        return self._ours


def _answered(ours: socket.socket, data: bytes, most_s: float) -> bytes:
    """What the child makes of a message. OSError where it ends, or takes too long."""
    until_s = monotonic() + most_s
    ours.settimeout(most_s)
    ours.sendall(len(data).to_bytes(HEAD_BYTES) + data)
    size = int.from_bytes(_read(ours, HEAD_BYTES, until_s))
    return _read(ours, size, until_s)


def _read(ours: socket.socket, size: int, until_s: float) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        ours.settimeout(max(0.001, until_s - monotonic()))
        part = ours.recv(size - len(parts))
        if not part:
            raise ConnectionError("it ended")
        parts += part
    return bytes(parts)
