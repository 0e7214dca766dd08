"""What is HAProxy told when it starts?

Every lane is two backends, one for each arm, so that their counters never mix. An address has several entries there:
`f…` answers the first attempt and is named by the rules; `r…` and `s…` rescue a request whose first attempt failed, by
the load balancer, and are always stable's (two, because HAProxy waits a second before it asks an only one). So the
first attempts that an arm answered are exactly what its `f…` entries have counted. One key of a map, read once for each
request, says the lane, the share and the arms all at once. An only replica is named there, one of several by another
key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelines.adapters.proxies.lanes import ARMS, LANES, PLACES
from pipelines.records.split import Generation, TrafficSplit
from pipelines.serving.requests.figures import METRICS, NOT_YOURS
from pipelines.serving.requests.refusals import NOBODY
from pipelines.serving.requests.repeats import INFERENCE, METHODS

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
    http-request set-var(txn.id) req.fhdr(x-request-id,1)
    http-request set-header x-request-id %[var(txn.id)]
    http-after-response set-header x-request-id %[var(txn.id)]
    http-request return status 404 content-type application/json string {hidden} if {{ path_reg ^{metrics}$ }}
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
    # Empty where the arm has an only replica: then nothing is set, and no second key is looked up.
    http-request set-var(txn.n) var(txn.plan),field({count},.),add(0)
    http-request set-var-fmt(txn.key) {arm}.{one_of_n} if {{ var(txn.n) -m found }}
    use-server %[var(txn.key),map({map})] if {{ var(txn.key) -m found }}
    use-server %[var(txn.plan),field({only},.)] if TRUE
    http-response set-header x-shipway-arm {arm}
{rescued}{servers}"""

_ONE_OF_N = f"%[var(txn.plan),field(3,.)].%[rand({MILLION}),mod(txn.n)]"

_RESCUED = "    http-response set-header x-shipway-arm stable unless { srv_name -m beg f }\n"


@dataclass(frozen=True)
class Binds:
    """Where HAProxy listens: file descriptors that it is given, or an address for its users."""

    users: str
    stats: int
    exporter: int


def config_text(split: TrafficSplit, map_name: str, binds: Binds, timeout_s: float, drain_s: float) -> str:
    """The whole configuration file; its servers are those of the split that it begins with.

    `map_name` is a file in the folder that HAProxy works in: a path may hold what its configuration takes for its own.
    """
    backends = [
        _BACKEND.format(
            arm=arm,
            lane=lane,
            only=5 if arm == "stable" else 4,
            count=7 if arm == "stable" else 6,
            rescued=_RESCUED if arm == "canary" else "",
            one_of_n=_ONE_OF_N,
            map=map_name,
            servers="".join(f"    server {entry.line}\n" for entry in entries(split) if entry.arm == arm),
        )
        for lane, arm in PLACES.values()
    ]
    return _CONFIG.format(
        stats=binds.stats,
        exporter=binds.exporter,
        door=binds.users,
        drain_s=drain_s,
        timeout_ms=max(1, round(timeout_s * 1000)),
        errors="".join(_error(*e) for e in _ERRORS),
        max_body=MAX_BODY_BYTES,
        methods=" ".join(METHODS),
        inference=INFERENCE,
        map=map_name,
        hidden=_quoted(NOT_YOURS.code, NOT_YOURS.reason),
        metrics=METRICS,
        nobody=_quoted(NOBODY.code, NOBODY.reason),
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
        """What follows `server`."""
        return f"{self.name} {self.settings}"

    @property
    def settings(self) -> str:
        """What follows its name."""
        # Said, because a server that is added later would otherwise keep no connection for a next request.
        return f"{self.address} weight {self.weight} pool-purge-delay 5s pool-max-conn 512"


def entries(split: TrafficSplit) -> tuple[Entry, ...]:
    """The entries that each lane needs for a split."""
    stable = split.stable.urls if split.stable else ()
    canary = split.canary.urls if split.canary else ()
    first = [Entry(arm, _name("f", url), _address(url), 0) for arm, urls in _arms(stable, canary) for url in urls]
    rescue = [Entry(arm, _name(which, url), _address(url), 1) for arm in ARMS for url in stable for which in "rs"]
    return (*first, *rescue)


def placed(split: TrafficSplit) -> dict[str, Entry]:
    """The entries of all lanes, by backend and name as the stats socket says them."""
    return {f"{entry.arm}_{lane}/{entry.name}": entry for lane in range(LANES) for entry in entries(split)}


def _arms(stable: tuple[str, ...], canary: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (("stable", stable), ("canary", canary))


def plan_text(split: TrafficSplit, lane: int, arms: int) -> str:
    """What requests go by: lane, share, which arms, who is in the canary and in stable, generation.

    There is no lane where nobody serves. Who is in an arm is said by two fields, of which one is empty: the name of an
    only replica, or how many there are.
    """
    share = round(split.canary_pct / 100 * MILLION) if split.canary else 0
    canary, stable = (arm.urls if arm else () for arm in (split.canary, split.stable))
    only = [_name("f", urls[0]) if len(urls) == 1 else "" for urls in (canary, stable)]
    count = ["" if len(urls) == 1 else len(urls) for urls in (canary, stable)]
    return ".".join(map(str, (lane if stable else "none", share, arms, *only, *count, *split.generation)))


def named(split: TrafficSplit, arms: int) -> dict[str, str]:
    """Which entry is meant by the number of a replica; `arms` tells later sets of arms from earlier ones."""
    stable = split.stable.urls if split.stable else ()
    canary = split.canary.urls if split.canary else ()
    return {f"{a}.{arms}.{i}": _name("f", url) for a, urls in _arms(stable, canary) for i, url in enumerate(urls)}


@dataclass(frozen=True)
class Routes:
    """What requests go by, as it is read back; `names` are the entries of an arm in its backends."""

    lane: str
    canary_pct: float
    generation: Generation
    names: dict[str, tuple[str, ...]]


def routes_of(keys: Mapping[str, str]) -> Routes:
    """The plan of a map's keys. KeyError or ValueError where they are none."""
    lane, share, arms, canary, stable, canaries, stables, fence, n = keys["plan"].split(".")
    names = {
        arm: (only,) if only else tuple(keys[f"{arm}.{arms}.{i}"] for i in range(int(count)))
        for arm, only, count in (("stable", stable, stables), ("canary", canary, canaries))
    }
    return Routes(lane, int(share) * 100 / MILLION, (int(fence), int(n)), names)


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}"


def _name(purpose: str, url: str) -> str:
    """A name that belongs to one address."""
    parts = urlsplit(url)
    return f"{purpose}{6 if ':' in str(parts.hostname) else 4}_{parts.port}"
