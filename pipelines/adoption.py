"""May this endpoint, which runs already, become the stable arm of a service, and what does it speak?

Its address is checked before anybody connects to it: plain HTTP, on loopback or a host that was declared, nothing else
in it. A declared name is looked up once, and the address that was found is what is used from then on.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

from pipelines.adapters.readiness import answer_of, is_endpoint_ready
from pipelines.errors import BadInput, DependencyDown
from pipelines.service import Deployment
from pipelines.serving.split import ADOPTED
from pipelines.spec_values import NAME

PROBES = {"oip": "/v2/health/ready", "openai": "/v1/models", "mlflow": "/ping"}
"""By protocol: the path that tells that it is spoken, and from then on whether somebody answers."""


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that answers: its address, what it speaks, and how it is asked whether it is there."""

    url: str
    protocol: str

    def deployment(self, now_s: float) -> Deployment:
        """The same as what may serve: without a bundle, named by its address."""
        digest = ADOPTED + hashlib.sha256(self.url.encode()).hexdigest()
        return Deployment(
            digest,
            "",
            "",
            0,
            "adopted",
            artifact_digest=digest,
            since_s=now_s,
            url=self.url,
            probe=PROBES[self.protocol],
        )


def find_endpoint(service: str, url: str, allowed_hosts: Sequence[str] = ()) -> Endpoint:
    """The endpoint at a URL. BadInput E_NAME, E_URL, E_PROTOCOL or E_MODEL; DependencyDown where nobody answers."""
    if not NAME.fullmatch(service) or ".." in service:
        raise BadInput(f"{service[:60]!r} is not a name", code="E_NAME", field="SERVICE", expected="A-Z a-z 0-9 . _ -")
    checked = checked_url(url, allowed_hosts)
    _check_listens(checked)
    protocol = next((name for name in PROBES if _speaks(checked, name)), None)
    if protocol is None:
        raise BadInput(
            f"{checked} speaks none of the known protocols",
            code="E_PROTOCOL",
            field="URL",
            expected=", ".join(f"{name} ({path})" for name, path in PROBES.items()),
            hint="is the model loaded, and is this its port?",
        )
    if protocol == "oip" and not is_endpoint_ready(checked, f"/v2/models/{service}"):
        raise BadInput(
            f"{checked} serves no model called {service}",
            code="E_MODEL",
            field="SERVICE",
            hint="call the service as the endpoint calls its model: the name is part of what users ask for",
        )
    return Endpoint(checked, protocol)


def check_answers(stable: Deployment) -> None:
    """An adopted endpoint is there to go home to. DependencyDown where it is not; BadInput where no release can serve.

    Released models answer Open Inference Protocol and MLflow's scoring: users of anything else would get 404.
    """
    if stable.probe == PROBES["openai"]:
        raise BadInput(
            f"the adopted endpoint {stable.url} speaks OpenAI's protocol, which released models do not answer",
            code="E_PROTOCOL",
            field="service",
            hint="release into a service whose endpoint speaks Open Inference Protocol or MLflow's",
        )
    if not is_endpoint_ready(stable.url, stable.probe):
        raise _silent(stable.url)


def checked_url(url: str, allowed_hosts: Sequence[str] = ()) -> str:
    """The address as `http://HOST:PORT`, with a number for a name. BadInput E_URL for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        _refuse(url, "it is no URL")
    if parts.scheme != "http" or not parts.hostname:
        _refuse(url, "only http:// is spoken; end TLS in front of the endpoint")
    if parts.username is not None or parts.password is not None:
        _refuse("", "it carries credentials")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or not url.isprintable():
        _refuse(url, "there is more in it than host and port")
    address = _address(url, parts, allowed_hosts)
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{port or 80}"


def _address(
    url: str, parts: SplitResult, allowed_hosts: Sequence[str]
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    host = str(parts.hostname)
    if host != "localhost" and host not in allowed_hosts:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            _refuse(url, f"{host} is neither loopback nor declared")
        if not address.is_loopback:
            _refuse(url, f"{host} is neither loopback nor declared")
        return address
    address = _looked_up("127.0.0.1" if host == "localhost" else host)
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        _refuse(url, f"{address} is never an endpoint")
    return address


def _looked_up(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise DependencyDown(f"{host} cannot be looked up: {error}", code="E_ENDPOINT", field="URL") from None


def _check_listens(url: str) -> None:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 80), timeout=2.0).close()
    except OSError:
        raise _silent(url) from None


def _speaks(url: str, protocol: str) -> bool:
    status, body = answer_of(url, PROBES[protocol])
    if protocol != "openai" or status != 200:
        return status == 200
    try:
        return isinstance(json.loads(body)["data"], list)
    except (ValueError, KeyError, TypeError):
        return False


def _silent(url: str) -> DependencyDown:
    return DependencyDown(f"nobody answers at {url}", code="E_ENDPOINT", field="URL", hint="start the endpoint first")


def _refuse(url: str, reason: str) -> NoReturn:
    raise BadInput(
        f"{url[:80]!r} cannot be adopted: {reason}" if url else f"the URL cannot be adopted: {reason}",
        code="E_URL",
        field="URL",
        expected="http://127.0.0.1:PORT, or a host of --allow-host",
    )
