"""May a request be asked twice?

Only where a second time changes nothing: what HTTP calls idempotent (RFC 9110, 9.2.2), a question to a model, and the
paths that a service declares. Any other request is asked once, and what became of it is told to the client.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from pipelines.serving.http1_request import Request

INFERENCE = r"/(v2/models/[^/]+(/versions/[^/]+)?/infer|invocations|v1/(chat/completions|completions|embeddings))"
"""Paths whose requests ask a model something, and change nothing."""

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

    def allow(self, request: Request) -> bool:
        """Whether this request may be asked twice."""
        if request.method in _METHODS or is_inference(request.method, request.target):
            return True
        path = _path(request.target)
        return any(fnmatchcase(path, pattern) for pattern in self._paths)


def _path(target: bytes) -> str:
    return target.partition(b"?")[0].decode(errors="replace")
