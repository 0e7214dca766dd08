"""May this endpoint, which runs already, become the stable arm of a service, and what does it speak?

Its address is checked before anybody connects to it: on loopback or a host that was declared, nothing else in it. Over
plain HTTP a declared name is looked up once, and the address that was found is what is used from then on. Over TLS the
name stays, because whoever answers must prove that it is his.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn
from urllib.parse import SplitResult, urlsplit

from pipelines.errors import BadInput, DependencyDown
from pipelines.records.service import Deployment
from pipelines.records.split import ADOPTED
from pipelines.serving.probes import answer_of, is_endpoint_ready
from pipelines.serving.sockets import trust
from pipelines.spec.values import NAME

PROBES = {"oip": "/v2/health/ready", "openai": "/v1/models", "mlflow": "/ping"}
"""By protocol: the path that tells that it is spoken, and from then on whether somebody answers."""

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that answers: its address, what it speaks, and how it is asked whether it is there."""

    url: str
    protocol: str
    ca_file: str = ""

    @property
    def api(self) -> Literal["inference", "openai"]:
        """Whether its answers are followed as those of a language model."""
        return "openai" if self.protocol == "openai" else "inference"

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
            ca_file=self.ca_file,
        )


def find_endpoint(service: str, url: str, allowed_hosts: Sequence[str] = (), ca_file: str = "") -> Endpoint:
    """The endpoint at a URL; over TLS its certificate is checked by the authorities of a file, or by the machine's.

    BadInput E_NAME, E_URL, E_CA, E_TLS, E_PROTOCOL or E_MODEL; DependencyDown where nobody answers.
    """
    if not NAME.fullmatch(service) or ".." in service:
        raise BadInput(f"{service[:60]!r} is not a name", code="E_NAME", field="SERVICE", expected="A-Z a-z 0-9 . _ -")
    checked = checked_url(url, allowed_hosts)
    if ca_file and not checked.startswith("https:"):
        raise BadInput(
            "there is no certificate to check over http://", code="E_CA", field="--ca-file", expected="https://…"
        )
    _check_listens(checked, ca_file)
    protocol = next((name for name in PROBES if _speaks(checked, name, ca_file)), None)
    if protocol is None:
        raise BadInput(
            f"{checked} speaks none of the known protocols",
            code="E_PROTOCOL",
            field="URL",
            expected=", ".join(f"{name} ({path})" for name, path in PROBES.items()),
            hint="is the model loaded, and is this its port?",
        )
    if protocol == "oip" and not _serves(checked, service, ca_file):
        raise BadInput(
            f"{checked} serves no model called {service}",
            code="E_MODEL",
            field="SERVICE",
            hint="call the service as the endpoint calls its model: the name is part of what users ask for",
        )
    return Endpoint(checked, protocol, ca_file)


def check_answers(stable: Deployment, api: str, names: Collection[str]) -> None:
    """An adopted endpoint is there to go home to, and its users may be sent to a release that speaks `api`.

    DependencyDown where it is not there. BadInput E_PROTOCOL where the release speaks another one, and E_MODEL where
    users ask for a name that is none of `names`: they would get 404.
    """
    is_openai = stable.probe == PROBES["openai"]
    if is_openai != (api == "openai"):
        spoken, other = ("OpenAI's protocol", "openai") if is_openai else ("no OpenAI's protocol", "inference")
        raise BadInput(
            f"the adopted endpoint {stable.url} speaks {spoken}, and the release would answer otherwise",
            code="E_PROTOCOL",
            field="serve.api",
            expected=other,
            hint="release into a service whose endpoint speaks what the model does",
        )
    if not is_endpoint_ready(stable.url, stable.probe, stable.ca_file):
        raise _silent(stable.url)
    if is_openai:
        _check_names(stable, names)


def _check_names(stable: Deployment, names: Collection[str]) -> None:
    """Users go on asking for what the endpoint calls its models."""
    _, body = answer_of(stable.url, stable.probe, stable.ca_file)
    try:
        listed = [str(model["id"]) for model in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError):
        listed = []
    other = [name for name in listed if name not in names]
    if other or not listed:
        what = f"calls its model {other[0][:100]!r}" if other else "lists no models"
        hint = f"serve: {{model_names: [{other[0][:100]}]}}" if other else None
        raise BadInput(
            f"the adopted endpoint {stable.url} {what}, which the release would not answer to",
            code="E_MODEL",
            field="serve.model_names",
            expected="every name that users ask for",
            hint=hint,
        )


def checked_url(url: str, allowed_hosts: Sequence[str] = ()) -> str:
    """The address as `http://HOST:PORT`, with a number for a name, or `https://NAME:PORT`. BadInput E_URL otherwise."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        _refuse(url, "it is no URL")
    if parts.scheme not in PORTS or not parts.hostname:
        _refuse(url, "only http:// and https:// are spoken")
    if parts.username is not None or parts.password is not None:
        _refuse(url, "it carries credentials")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or not url.isprintable():
        _refuse(url, "there is more in it than host and port")
    address = _address(url, parts, allowed_hosts)
    host = str(parts.hostname if parts.scheme == "https" else address)
    named = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{named}:{port or PORTS[parts.scheme]}"


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


def _check_listens(url: str, ca_file: str) -> None:
    parts = urlsplit(url)
    try:
        connection = socket.create_connection((parts.hostname, parts.port or 80), timeout=2.0)
    except OSError:
        raise _silent(url) from None
    with connection:
        if parts.scheme == "https":
            _check_certificate(connection, url, ca_file)


def _check_certificate(connection: socket.socket, url: str, ca_file: str) -> None:
    try:
        context = trust(ca_file)
    except OSError as error:
        reason = f"the authorities of {ca_file} cannot be used: {error}"
        raise BadInput(reason, code="E_CA", field="--ca-file", expected="a PEM file with certificates") from None
    try:
        context.wrap_socket(connection, server_hostname=urlsplit(url).hostname).close()
    except ssl.SSLCertVerificationError as error:
        reason = f"{url} is not who it should be: {error.verify_message}"
        hint = "name the file with its authority by --ca-file, if it has one of its own"
        raise BadInput(reason, code="E_TLS", field="URL", hint=hint) from None
    except OSError as error:
        raise BadInput(f"{url} speaks no TLS: {error}", code="E_TLS", field="URL", hint="is it http://?") from None


def _speaks(url: str, protocol: str, ca_file: str) -> bool:
    status, body = answer_of(url, PROBES[protocol], ca_file)
    if protocol != "openai" or status != 200:
        return status == 200
    try:
        return isinstance(json.loads(body)["data"], list)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _serves(url: str, model: str, ca_file: str) -> bool:
    """Whether a model's metadata are answered. A server of pages answers 200 whatever it is asked.

    Only the beginning is read, however long they are.
    """
    status, body = answer_of(url, f"/v2/models/{model}", ca_file)
    return status == 200 and body.lstrip().startswith(b"{") and b'"name"' in body


def _silent(url: str) -> DependencyDown:
    return DependencyDown(f"nobody answers at {url}", code="E_ENDPOINT", field="URL", hint="start the endpoint first")


def shown_address(url: str) -> str:
    """An address without what may be a secret: credentials, query, fragment."""
    _, at, place = url.rpartition("@")
    place, *rest = re.split("[?#]", place, maxsplit=1)
    return f"{'***@' if at else ''}{place[:80]}{'?***' if rest else ''}"


def _refuse(url: str, reason: str) -> NoReturn:
    raise BadInput(
        f"{shown_address(url)!r} cannot be adopted: {reason}",
        code="E_URL",
        field="URL",
        expected="http://127.0.0.1:PORT or https://…, or a host of --allow-host",
    )
