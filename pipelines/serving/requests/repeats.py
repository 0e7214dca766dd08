"""May a request be asked twice?

Only where a second time changes nothing: what HTTP calls idempotent (RFC 9110, 9.2.2), a question to a model, and the
paths that a service declares. Any other request is asked once, and what became of it is told to the client.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pipelines.serving.http1.request import Request

INFERENCE = r"/(v2/models/[^/]+(/versions/[^/]+)?/infer|invocations|v1/(chat/completions|completions|embeddings))"
"""Paths whose requests ask a model something, and change nothing."""

MOST_KNOWN = 256
"""Targets whose answer is remembered: a service has few, and every request asks."""

METHODS = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")

_INFERENCE = re.compile(INFERENCE)
_METHODS = frozenset(name.encode() for name in METHODS)


def is_inference(method: bytes, target: bytes) -> bool:
    """Whether this asks a model something."""
    return method == b"POST" and _INFERENCE.fullmatch(_path(target)) is not None


class Repeats:
    """The declared paths, `*` for any characters."""

    def __init__(self, paths: Sequence[str] = ()) -> None:
        self._paths = tuple(paths)
        self._known: dict[tuple[bytes, bytes], bool] = {}

    def allow(self, request: Request) -> bool:
        """Whether this request may be asked twice."""
        if request.method in _METHODS:
            return True
        asked = request.method, request.target
        known = self._known.get(asked)
        if known is None:
            known = self._find(*asked)
            if len(self._known) < MOST_KNOWN:
                self._known[asked] = known
        return known

    def _find(self, method: bytes, target: bytes) -> bool:
        path = _path(target)
        return is_inference(method, target) or any(fnmatchcase(path, pattern) for pattern in self._paths)


def _path(target: bytes) -> str:
    return target.partition(b"?")[0].decode(errors="replace")
