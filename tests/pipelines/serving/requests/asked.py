"""A request as the gateway reads it."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.serving.http1.request import Request


def asked(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Request:
    """Of these parts; names of headers in any case."""
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request(method.encode(), path.encode(), lines, dict(lines), is_http11=True, body=body)
