"""May a new gateway listen on this port?"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from pipelines.errors import BadInput
from pipelines.records.service import Service


def refuse_taken_port(port: int, field: str) -> None:
    """BadInput E_PORT where somebody listens there, or this user may not."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise _refused(port, f"port {port} cannot be used: {error.strerror}", field) from None


def refuse_promised_port(port: int, others: Iterable[Service], field: str) -> None:
    """BadInput E_PORT where another service listens there, now or when it is taken up again."""
    for service in others:
        if service.port == port:
            raise _refused(port, f"port {port} belongs to the service {service.name}", field)


def refuse_own_gateway(url: str, own: Iterable[str]) -> None:
    """BadInput E_URL where the endpoint is a gateway of this home: users would go round in a circle."""
    asked = urlsplit(url)
    for gateway in own:
        found = urlsplit(gateway)
        if gateway and (found.hostname, found.port) == (asked.hostname, asked.port):
            raise BadInput(
                f"{url} is a gateway of this home",
                code="E_URL",
                field="URL",
                expected="the endpoint that answers, not a gateway before one",
            )


def _refused(port: int, reason: str, field: str) -> BadInput:
    hint = "0 chooses a free one"
    return BadInput(reason, code="E_PORT", field=field, hint=hint if port else None)
