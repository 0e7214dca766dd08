"""How are the proxies started that the gateway is compared with? Each in front of one upstream, on loopback.

All have the same task: nine of ten requests go to a stable arm, the tenth to a canary, both at that upstream.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from pipelines.adapters.gateway import GatewayRouter
from pipelines.errors import DependencyDown
from pipelines.records.split import Arm, TrafficSplit

CANARY_PCT = 10.0
"""The gateway has a lease to keep and evidence to gather besides."""

NGINX = """worker_processes {workers}; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  {http} }}
"""
ANSWERING = (
    "server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; "
    "return 200 '{{\"outputs\": [0.25, 0.5, 0.25]}}'; }} }}"
)
PASSING = (
    "upstream arms {{ server 127.0.0.1:{upstream} weight=9; server 127.0.0.1:{upstream}; keepalive 256; }} "
    "server {{ listen 127.0.0.1:{port}; "
    'location / {{ proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://arms; }} }}'
)
HAPROXY = """global
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
frontend users
  bind 127.0.0.1:{port}
  default_backend arms
backend arms
  http-reuse always
  server stable 127.0.0.1:{upstream} weight 90
  server canary 127.0.0.1:{upstream} weight 10
"""
ENVOY = """static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: users
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{weighted_clusters:
                {{clusters: [{{name: stable, weight: 90}}, {{name: canary, weight: 10}}]}}}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters: [{stable}, {canary}]
"""
ENVOY_CLUSTER = (
    "{{name: {arm}, connect_timeout: 2s, load_assignment: {{cluster_name: {arm}, endpoints: [{{lb_endpoints: "
    "[{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}}}]}}]}}}}"
)


@contextmanager
def started(command: list[str], port: int, log: Path) -> Iterator[psutil.Process]:
    """A process, from its first answer to its end."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        wait_for(port)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


def wait_for(port: int) -> None:
    """Until somebody answers at a port."""
    for _ in range(400):
        with suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
            return
        time.sleep(0.05)
    raise TimeoutError(f"nobody answers at port {port}")


def upstream(folder: Path, port: int) -> list[str]:
    """A server that answers everything with the same few bytes."""
    return _nginx(folder / "upstream.conf", folder, ANSWERING.format(port=port))


def server(folder: Path, port: int) -> list[str]:
    """The same in a folder of its own."""
    folder.mkdir(exist_ok=True)
    return upstream(folder, port)


@contextmanager
def door(backlog: int) -> Iterator[socket.socket]:
    """A listening socket that outlives the process behind it."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as listening:
        yield listening


def nginx(folder: Path, port: int, upstream: int) -> list[str]:
    """Nginx as a proxy with one worker."""
    return _nginx(folder / "nginx.conf", folder, PASSING.format(port=port, upstream=upstream))


def _nginx(config: Path, folder: Path, http: str) -> list[str]:
    config.write_text(NGINX.format(folder=folder, http=http, workers=1))
    return ["nginx", "-c", str(config)]


def haproxy(folder: Path, port: int, upstream: int) -> list[str]:
    """HAProxy with one thread."""
    (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, upstream=upstream))
    return ["haproxy", "-f", str(folder / "haproxy.cfg")]


def envoy(folder: Path, port: int, upstream: int) -> list[str]:
    """Envoy with one worker."""
    clusters = {arm: ENVOY_CLUSTER.format(arm=arm, upstream=upstream) for arm in ("stable", "canary")}
    (folder / "envoy.yaml").write_text(ENVOY.format(port=port, **clusters))
    quiet = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
    return ["envoy", "-c", str(folder / "envoy.yaml"), *quiet]


def shipway(folder: Path, port: int, upstream: int) -> list[str]:  # noqa: ARG001  its arms are told to it later
    """The gateway, one process."""
    options = {"--service": "s", "--port": port, "--admin-socket": folder / "g.sock", "--snapshot": folder / "split"}
    named = [str(part) for pair in options.items() for part in pair]
    return [sys.executable, "-m", "pipelines.serving.gateway", *named]


def give_arms(folder: Path, upstream: int) -> None:
    """The gateway gets a canary beside its stable arm; both are the same upstream."""
    router = GatewayRouter(lambda _: folder / "g.sock")
    url = f"http://127.0.0.1:{upstream}"
    for _ in range(100):
        with suppress(DependencyDown):
            current = router.read("s").generation
            arms = [Arm(f"sha256:{n}", (url,)) for n in (1, 2)]
            router.write("s", TrafficSplit((current[0] + 1, 1), *arms, CANARY_PCT, 3600.0), current)
            return
        time.sleep(0.05)


PEERS: dict[str, Callable[[Path, int, int], list[str]]] = {
    "shipway": shipway,
    "haproxy": haproxy,
    "nginx": nginx,
    "envoy": envoy,
}


def is_here(name: str) -> bool:
    """Whether a peer can be started on this machine."""
    return name == "shipway" or shutil.which(name) is not None
