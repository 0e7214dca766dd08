"""What is HAProxy told when it starts?

Every lane is two backends, one for each arm, so that their counters never mix. An address has several entries there:
`f…` answers the first attempt and is named by the rules; `r…` and `s…` rescue a request whose first attempt failed, by
the load balancer, and are always stable's (two, because HAProxy waits a second before it asks an only one). So the
first attempts that an arm answered are exactly what its `f…` entries have counted. One key of a map, read once for each
request, says the lane, the share and the arms all at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelines.serving.lanes import LANES
from pipelines.serving.repeats import INFERENCE, METHODS
from pipelines.serving.split import Generation, TrafficSplit

MILLION = 1_000_000
MAX_BODY_BYTES = 2 * 1024 * 1024

_CONFIG = """\
global
    stats socket fd@{stats} level admin
    maxconn 4096
    hard-stop-after {drain_s:g}s
defaults
    mode http
    timeout connect 2s
    timeout http-request 10s
    timeout http-keep-alive 60s
    timeout client 60s
    timeout queue {timeout_ms}ms
    timeout server {timeout_ms}ms
    retries 3
    option redispatch 1
    option idle-close-on-response
    # What is asked again must be here whole; a body beyond the buffer is passed on as it comes, and asked once.
    option http-buffer-request
    retry-on conn-failure empty-response junk-response
{errors}
frontend users
    bind {door}
    http-request set-header x-request-id %[uuid()] unless {{ req.hdr(x-request-id) -m found }}
    http-request set-var(txn.id) req.hdr(x-request-id)
    http-after-response set-header x-request-id %[var(txn.id)]
    http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt {max_body} }}
    http-request disable-l7-retry unless {{ method {methods} }} or {{ method POST }} {{ path_reg ^{inference}$ }}
    http-request set-var(txn.plan) str(plan),map({map})
    http-request set-var(txn.share) var(txn.plan),field(2,.),add(0)
    use_backend canary_%[var(txn.plan),field(1,.)] if {{ rand({million}),sub(txn.share) lt 0 }}
    use_backend stable_%[var(txn.plan),field(1,.)]
    default_backend nobody
backend nobody
    http-request return status 503 content-type application/json string {nobody} hdr retry-after 1
frontend metrics
    bind fd@{exporter}
    http-request use-service prometheus-exporter
{backends}"""

_BACKEND = """\
backend {arm}_{lane}
    balance roundrobin
    http-request set-var(txn.n) var(txn.plan),field({field},.),add(0)
    http-request set-var-fmt(txn.key) {arm}.%[var(txn.plan),field(3,.)].%[rand({million}),mod(txn.n)]
    use-server %[var(txn.key),map({map})] if TRUE
    http-response set-header x-shipway-arm {arm}
{rescued}{servers}"""

_RESCUED = "    http-response set-header x-shipway-arm stable unless { srv_name -m beg f }\n"


@dataclass(frozen=True)
class Doors:
    """Where HAProxy listens: file descriptors that it is given, or an address for its users."""

    users: str
    stats: int
    exporter: int


def config_text(split: TrafficSplit, map_name: str, doors: Doors, timeout_s: float, drain_s: float) -> str:
    """The whole configuration file; its servers are those of the split that it begins with.

    `map_name` is a file in the folder that HAProxy works in: a path may hold what its configuration takes for its own.
    """
    backends = [
        _BACKEND.format(
            arm=arm,
            lane=lane,
            field=5 if arm == "stable" else 4,
            rescued=_RESCUED if arm == "canary" else "",
            million=MILLION,
            map=map_name,
            servers="".join(f"    server {entry.line}\n" for entry in entries(split) if entry.arm == arm),
        )
        for lane in range(LANES)
        for arm in ("stable", "canary")
    ]
    return _CONFIG.format(
        stats=doors.stats,
        exporter=doors.exporter,
        door=doors.users,
        drain_s=drain_s,
        timeout_ms=max(1, round(timeout_s * 1000)),
        errors="".join(_error(*e) for e in _ERRORS),
        max_body=MAX_BODY_BYTES,
        methods=" ".join(METHODS),
        inference=INFERENCE,
        map=map_name,
        nobody=_quoted("E_NO_STABLE", "nothing serves yet"),
        million=MILLION,
        backends="\n".join(backends),
    )


_ERRORS = (
    (413, "E_LIMIT", f"the body has more than {MAX_BODY_BYTES} bytes", ""),
    (502, "E_STABLE_DOWN", "stable cannot be reached", " hdr retry-after 1"),
    (503, "E_STABLE_DOWN", "stable cannot be reached", " hdr retry-after 1"),
    (504, "E_TIMEOUT", "no answer in time", ""),
)


def _error(status: int, code: str, reason: str, headers: str) -> str:
    return f"    http-error status {status} content-type application/json string {_quoted(code, reason)}{headers}\n"


def _quoted(code: str, reason: str) -> str:
    error = {"code": code, "field": None, "reason": reason, "expected": None, "hint": None}
    return f"'{json.dumps({'error': error})}'"


@dataclass(frozen=True)
class Entry:
    """One address in both backends of an arm; `name` says what for."""

    arm: str
    name: str
    address: str
    weight: int

    @property
    def line(self) -> str:
        """What follows `server`, or `add server BACKEND/`."""
        # Said, because a server that is added later would otherwise keep no connection for a next request.
        return f"{self.name} {self.address} weight {self.weight} pool-purge-delay 5s pool-max-conn 512"


def entries(split: TrafficSplit) -> tuple[Entry, ...]:
    """The entries that each lane needs for a split."""
    stable = split.stable.urls if split.stable else ()
    canary = split.canary.urls if split.canary else ()
    first = [Entry(arm, _name("f", url), _address(url), 0) for arm, urls in _arms(stable, canary) for url in urls]
    rescue = [
        Entry(arm, _name(which, url), _address(url), 1)
        for arm in ("stable", "canary")
        for url in stable
        for which in "rs"
    ]
    return (*first, *rescue)


def _arms(stable: tuple[str, ...], canary: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (("stable", stable), ("canary", canary))


def plan_text(split: TrafficSplit, lane: int, arms: int) -> str:
    """The value of the map's one key: lane, share, which arms, how many of each, generation; no lane for nobody."""
    share = round(split.canary_pct / 100 * MILLION) if split.canary else 0
    canary = len(split.canary.urls) if split.canary else 0
    stable = len(split.stable.urls) if split.stable else 0
    return ".".join(map(str, (lane if stable else "none", share, arms, canary, stable, *split.generation)))


def named(split: TrafficSplit, arms: int) -> dict[str, str]:
    """Which entry is meant by the number of a replica; `arms` tells later sets of arms from earlier ones."""
    stable = split.stable.urls if split.stable else ()
    canary = split.canary.urls if split.canary else ()
    return {f"{a}.{arms}.{i}": _name("f", url) for a, urls in _arms(stable, canary) for i, url in enumerate(urls)}


def plan_of(text: str) -> tuple[str, float, int, Generation]:
    """Lane, share in percent, which arms, generation. ValueError where it is no plan."""
    lane, *numbers = text.split(".")
    share, arms, _, _, fence, n = map(int, numbers)
    return lane, share * 100 / MILLION, arms, (fence, n)


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}"


def _name(purpose: str, url: str) -> str:
    """A name that belongs to one address."""
    parts = urlsplit(url)
    return f"{purpose}{6 if ':' in str(parts.hostname) else 4}_{parts.port}"
