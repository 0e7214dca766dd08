"""How is a gateway's admin socket asked?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from pipelines.errors import DependencyDown

TIMEOUT_S = 2.0


def ask_gateway(
    socket: Path, method: str, path: str, *, body: Any = None, query: Mapping[str, str | int] | None = None
) -> httpx.Response:
    """One request over a Unix socket. DependencyDown where nobody answers in time."""
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=TIMEOUT_S) as client:
            return client.request(method, f"http://gateway{path}", json=body, params=query)
    except (httpx.HTTPError, OSError) as error:
        reason = f"the gateway does not answer: {error or type(error).__name__}"
        raise DependencyDown(reason, code="E_ROUTER", hint="shipway up starts it") from None
