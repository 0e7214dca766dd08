"""Where does a service answer, and how is it asked?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.ports import Ports

BODY = '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hello"]}]}'


def address_of(ports: Ports, service: str) -> str:
    """The gateway's URL; "" where none is wanted."""
    from pipelines.services.units import gateway_name

    return ports.runtime.status(gateway_name(service)).url


def address_lines(ports: Ports, service: str) -> list[str]:
    """Where the service answers and a request that works; an adopted endpoint is asked in words of its own."""
    from pipelines.errors import ShipwayError

    url = address_of(ports, service)
    if not url:
        return []
    try:
        known = ports.services.load(service)
    except ShipwayError:
        known = None
    if known is None or known.stable is None or known.stable.url:
        return [f"{service} serves at {url}"]
    where = f"{url}/v1" if known.settings.api == "openai" else infer_url(url, service)
    return [f"{service} serves at {where}", curl_line(url, service, known.settings.api)]


def infer_url(url: str, service: str) -> str:
    """Where a service at a gateway's URL answers in the Open Inference Protocol."""
    return f"{url}/v2/models/{service}/infer"


def curl_line(url: str, service: str, api: str) -> str:
    """A request that works as it stands."""
    if api == "openai":
        body = f'{{"model": "{service}", "messages": [{{"role": "user", "content": "hello"}}]}}'
        return f"curl -H 'content-type: application/json' -d '{body}' {url}/v1/chat/completions"
    return f"curl -H 'content-type: application/json' -d '{BODY}' {infer_url(url, service)}"
