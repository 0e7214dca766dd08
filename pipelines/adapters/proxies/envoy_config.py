"""What is Envoy told, when it starts and whenever the split changes?

Every lane is two clusters, one for each arm, so that their counters never mix. Files change, each replaced by one
rename: the routes (weighted clusters of one lane) and, where a lane gets other arms, the endpoints of its clusters. The
clusters stay, because some counters of one that is replaced begin anew, and others do not. Behind a canary's endpoints
stand stable's, at the next priority: a request whose first attempt failed is tried there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.adapters.proxies.lanes import PLACES
from pipelines.records.split import Generation, TrafficSplit
from pipelines.serving.http1.answer import Refusal
from pipelines.serving.requests.figures import METRICS, NOT_YOURS
from pipelines.serving.requests.refusals import NOBODY
from pipelines.serving.requests.repeats import INFERENCE, METHODS

MILLION = 1_000_000
ROUTES, USERS = "shipway", "users"

_TYPES = "type.googleapis.com/envoy"
_HTTP = f"{_TYPES}.extensions.filters"
_MANY = 8192
"""Envoy's own limits (1024) would refuse before a server is full."""


def bootstrap(admin: Path, files: Mapping[str, Path], port: int, *, is_shared: bool) -> dict[str, Any]:
    """What does not change while it runs. A port that is not shared is refused where another process has it.

    `files` names that of the routes, and for each of `PLACES` that of its endpoints.
    """
    return {
        "node": {"id": "shipway", "cluster": "shipway"},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "static_resources": {
            "listeners": [_listener(files["routes"], port, is_shared=is_shared)],
            "clusters": [_cluster(name, files[name]) for name in PLACES],
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_TYPES}.extensions.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": _MANY,
                    },
                }
            ]
        },
    }


def _listener(routes: Path, port: int, *, is_shared: bool) -> dict[str, Any]:
    manager = {
        "@type": f"{_HTTP}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": USERS,
        "rds": {"route_config_name": ROUTES, "config_source": _file(routes)},
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "server_header_transformation": "PASS_THROUGH",
        "request_headers_timeout": "10s",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_HTTP}.http.router.v3.Router", "suppress_envoy_headers": True},
            }
        ],
    }
    return {
        "name": USERS,
        "enable_reuse_port": is_shared,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _file(path: Path) -> dict[str, Any]:
    source = {"path": str(path), "watched_directory": {"path": str(path.parent)}}
    return {"path_config_source": source, "resource_api_version": "V3"}


def endpoints_file(name: str, split: TrafficSplit, version: str) -> dict[str, Any]:
    """The addresses that a cluster has for a split."""
    _, arm = PLACES[name]
    assignment = {"cluster_name": name, "endpoints": _priorities(arm, split)}
    kind = f"{_TYPES}.config.endpoint.v3.ClusterLoadAssignment"
    return {"version_info": version, "resources": [{"@type": kind, **assignment}]}


def _cluster(name: str, endpoints: Path) -> dict[str, Any]:
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _file(endpoints)},
        "connect_timeout": "2s",
        "lb_policy": "ROUND_ROBIN",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [dict.fromkeys(limits, _MANY)]},
    }


def _priorities(arm: str, split: TrafficSplit) -> list[dict[str, Any]]:
    rescue = urls_of(split, "stable") if arm == "canary" and split.canary else ()
    groups = [(arm, urls_of(split, arm)), *([("stable", rescue)] if rescue else [])]
    return [
        {"priority": n, "lb_endpoints": [_endpoint(name, url) for url in urls]} for n, (name, urls) in enumerate(groups)
    ]


def _endpoint(arm: str, url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    address = {"socket_address": {"address": parts.hostname, "port_value": parts.port}}
    return {"endpoint": {"address": address}, "metadata": {"filter_metadata": {"shipway": {"arm": arm}}}}


def routes_file(split: TrafficSplit, lane: int, version: str, timeout_s: float) -> dict[str, Any]:
    """Where requests go: by weight to the two clusters of a lane, or nowhere while nobody serves."""
    share = round(split.canary_pct / 100 * MILLION) if split.canary else 0
    weights = [("stable", MILLION - share), *([("canary", share)] if split.canary else [])]
    clusters = [{"name": f"{arm}_{lane}", "weight": n} for arm, n in weights]
    routes = (
        [{"match": {"prefix": "/"}, **_refused(NOBODY)}]
        if split.stable is None
        else [{"match": match, **_route(clusters, timeout_s, retry_on)} for match, retry_on in _RETRIED]
    )
    # Not the first one, which is read back: its clusters and weights are those in force.
    routes.insert(1 if split.stable else 0, {"match": {"safe_regex": {"regex": METRICS}}, **_refused(NOT_YOURS)})
    # Named by its version: an update that says the same is dropped, and could not be told from one that was lost.
    hosts = [{"name": USERS, "domains": ["*"], "routes": [{"name": version, **route} for route in routes]}]
    resource = {"@type": f"{_TYPES}.config.route.v3.RouteConfiguration", "name": ROUTES, "virtual_hosts": hosts}
    return {"version_info": version, "resources": [resource]}


def _route(clusters: list[dict[str, Any]], timeout_s: float, retry_on: str) -> dict[str, Any]:
    route = {
        "weighted_clusters": {"clusters": clusters},
        # Not the whole answer's time: a stream that flows is not cut.
        "timeout": "0s",
        "idle_timeout": f"{timeout_s:g}s",
        "retry_policy": {"retry_on": retry_on, **_RETRY},
    }
    return {"route": route, "response_headers_to_add": [_header("x-shipway-arm", _ARM_OF_ENDPOINT)]}


def _by_method(pattern: str) -> list[dict[str, Any]]:
    return [{"name": ":method", "string_match": {"safe_regex": {"regex": pattern}}}]


_NEVER_ASKED = "connect-failure,refused-stream"
_RETRIED = (
    ({"safe_regex": {"regex": INFERENCE}, "headers": _by_method("POST")}, f"{_NEVER_ASKED},reset"),
    ({"prefix": "/", "headers": _by_method("|".join(METHODS))}, f"{_NEVER_ASKED},reset"),
    ({"prefix": "/"}, _NEVER_ASKED),
)
"""Which failures of which requests are saved: one that was asked already only where it may be asked twice."""

_ARM_OF_ENDPOINT = "%UPSTREAM_METADATA(shipway:arm)%"
_RETRY = {
    "num_retries": 3,
    "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.01s"},
    "retry_priority": {
        "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": {
            "@type": f"{_TYPES}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            "update_frequency": 1,
        },
    },
}


def _refused(why: Refusal) -> dict[str, Any]:
    """An answer of the proxy itself, in the form of every error of Shipway."""
    lines = [line.split(": ", 1) for line in why.headers.decode().splitlines()]
    headers = [_header(name, value) for name, value in [*lines, ["content-type", "application/json"]]]
    body = {"inline_string": why.body.decode()}
    return {"direct_response": {"status": why.status, "body": body}, "response_headers_to_add": headers}


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def version_text(generation: Generation, serial: int) -> str:
    """What names one version of the routes; two are never called the same."""
    return ".".join(map(str, (*generation, serial)))


def generation_of(version: str) -> Generation:
    """The generation that a version was written for. ValueError where it is none."""
    fence, n, _ = (int(part) for part in version.split("."))
    return fence, n


def urls_of(split: TrafficSplit, arm: str) -> tuple[str, ...]:
    """The addresses of one arm."""
    found = split.stable if arm == "stable" else split.canary
    return found.urls if found else ()
