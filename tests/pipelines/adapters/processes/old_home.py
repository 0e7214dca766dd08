"""What the Shipway before `GatewaySettings` wrote: word by word, every setting beside the keys of the record."""

from __future__ import annotations

from typing import Any

RECORD = {"share": 0.5, "keep": 10, "redact": ["body.user"], "max_body_bytes": 65536}
SHADOW = {"pct": 5.0, "max_in_flight": 3, "tolerance": 0.05}

SETTINGS: dict[str, Any] = {
    "timeout_s": 3.0,
    "slices": ["x-lang"],
    "label_s": 60.0,
    "assign": "cookie:id",
    "workers": 2,
    "record": RECORD,
    "router": "shipway",
    "drain_s": 60.0,
    "convicted_streams": "cut",
    "idempotent": ["/v1/*"],
    "shadow": SHADOW,
}
"""Of a gateway, all of them unusual."""

DEPLOYMENT: dict[str, Any] = {
    "digest": "sha256:1",
    "bundle": "/b/1",
    "model": "m",
    "version": 1,
    "release_id": "r1",
    "config_digest": "",
    "artifact_digest": "",
    "source_version": None,
    "since_s": 0.0,
    "keep_until_s": None,
    "image": "sha256:i",
    "memory_mb": 2048,
    "pids": 512,
    "url": "",
    "probe": "",
    "ca_file": "",
    "drain_s": 60.0,
    "made": "",
    "source_made": "",
    "alias": "champion",
}

SERVICE: dict[str, Any] = {
    "name": "s",
    "version": 3,
    "model": "m",
    "port": 8080,
    "replicas": 1,
    "cpus": 2.0,
    **SETTINGS,
    "retain_s": 86400.0,
    "wanted": True,
    "stable": DEPLOYMENT,
    "previous": None,
    "candidate": None,
    "quarantined": {},
    "owed": [],
}

USUAL_UNIT: dict[str, Any] = {
    "digest": "",
    "bundle": "",
    "port": 0,
    "cpus": None,
    "release_id": "",
    "version": 0,
    "timeout_s": 10.0,
    "image": "",
    "memory_mb": 0,
    "pids": 0,
    "slices": [],
    "label_s": 900.0,
    "assign": "",
    "workers": 1,
    "record": None,
    "router": "shipway",
    "drain_s": 10.0,
    "convicted_streams": "finish",
    "idempotent": [],
    "shadow": None,
    "url": "",
    "probe": "",
    "ca_file": "",
}
"""What it took a key for that a unit's file did not have; a key that it did not know it left aside."""

GATEWAY = {**USUAL_UNIT, "name": "s-gateway", "kind": "gateway", "service": "s", "port": 8080, **SETTINGS}
SERVER = {
    **USUAL_UNIT,
    "name": "s-1-0",
    "kind": "server",
    "service": "s",
    "digest": "sha256:1",
    "bundle": "/b/1",
    "cpus": 2.0,
    "release_id": "r1",
    "version": 1,
    "image": "sha256:i",
    "memory_mb": 2048,
    "pids": 512,
    "drain_s": 60.0,
}
EXTERNAL = {
    **USUAL_UNIT,
    "name": "s-2-0",
    "kind": "external",
    "service": "s",
    "digest": "external:2",
    "url": "http://127.0.0.1:9",
    "probe": "/ping",
}
UNITS = (GATEWAY, SERVER, EXTERNAL)
