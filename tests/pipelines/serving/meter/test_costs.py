"""What an answer costs by its tokens, and how that is counted: for the judge, and by class and tenant for people."""

from __future__ import annotations

import asyncio
import json
import math

import pytest

from pipelines.records.settings import GatewaySettings, Objective, Price, Promise
from pipelines.serving.evidence.counters import GatewayCounters
from pipelines.serving.evidence.intervals import fair_step
from pipelines.serving.meter.asked import TextRequest
from pipelines.serving.meter.generation import Generation
from pipelines.serving.meter.meter import costs_of
from pipelines.serving.requests.data_plane import Serving
from tests.pipelines.serving.meter.test_metered import HELLO, WHOLE, event, piece, writing
from tests.pipelines.serving.meter.test_recorded_streams import STREAMS, measured
from tests.pipelines.serving.plane import Plane

PRICE = Price(input=1.0, cached=0.1, output=2.0)
SETTINGS = GatewaySettings(
    timeout_s=5.0,
    api="openai",
    objective=Objective(e2e_s=5.0, by="x-class", classes={"batch": Promise(e2e_s=60.0)}),
    price=PRICE,
    tenant="x-tenant",
)
FRESH, PAID = 300 * 1000 + 2 * 2000, 100 * 1000 + 200 * 100 + 2 * 2000
"""Of 300 tokens in, 200 of them cached, and 2 out, in billionths."""


def post(**headers: str) -> bytes:
    """A request for text."""
    body = json.dumps(HELLO).encode()
    lines = "".join(f"x-{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def asked(folder, *requests, script=None, settings=SETTINGS):
    """The gateway's counters and stable's counts after these requests."""

    async def run():
        async with Plane(folder, serving=Serving(60.0, settings)) as plane:
            await plane.stable(script or writing(*WHOLE))
            for request in requests:
                await plane.say(request)
            return plane.gateway.counters, plane.gateway.intervals.current.arms["stable"].counts()

    return asyncio.run(run())


def lines(counters: GatewayCounters, name: str) -> dict[str, float]:
    """The values of one counter, by its labels."""
    text = counters.text().decode().splitlines()
    found = (line.removeprefix(f"shipway_gateway_{name}_total").rsplit(" ", 1) for line in text if line[0] != "#")
    return {labels: float(value) for labels, value in found if labels.startswith("{")}


@pytest.mark.parametrize("value", [1.0, 1.02, 17.3, 1050.0, 3.3e9])
def test_counting_keeps_the_mean(value):
    """A cost between two steps is counted at either, as often as their mean demands."""
    steps = [fair_step(value, chance / 10_000) for chance in range(10_000)]
    assert sum(1.05**step for step in steps) / 10_000 == pytest.approx(value, rel=1e-4)
    assert max(steps) - min(steps) <= 1


def test_an_answer_is_counted_with_its_cost(tmp_path):
    """Both without, and with, what the cache saved; nothing else changes by it."""
    _, arm = asked(tmp_path, *[post()] * 3)
    assert {name: arm.timings[name].routed for name in ("cost", "paid")} == {"cost": 3, "paid": 3}
    for name, nano in (("cost", FRESH), ("paid", PAID)):
        assert abs(max(arm.timings[name].over) - math.log(nano, 1.05)) <= 1


def test_a_colder_cache_costs_more_and_is_not_dearer():
    """What is judged leaves the cache out: a canary with a small share finds less in its own."""
    warm, cold = found(cached=200), found(cached=0)
    assert (cold["cost"], cold["paid"] > warm["paid"]) == (warm["cost"], True)


def found(cached: int) -> dict[str, float]:
    """The costs of an answer of which so many tokens were cached."""
    said = {"prompt_tokens": 300, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": cached}}
    generation = Generation(TextRequest("chat"), is_stream=False)
    choice = {"index": 0, "message": {"content": "a b"}, "finish_reason": "stop"}
    generation.heard(json.dumps({"choices": [choice], "usage": said}).encode(), 0.1)
    return costs_of(generation.measured(0.2), PRICE)


def test_what_no_engine_counts_has_no_cost(tmp_path):
    """A stream without usage: its pieces are no tokens of a bill."""
    script = writing(piece("a"), piece("b", "stop"), event("[DONE]"), b"0\r\n\r\n")
    counters, arm = asked(tmp_path, post(), script=script)
    assert ("cost" in arm.timings, lines(counters, "answers_priced")) == (False, {})


def test_real_engines_say_what_an_answer_costs_unless_nobody_asked():
    """Of all streams that were recorded, only those without usage, and one that failed, have no cost."""
    names = [str(path.relative_to(STREAMS).with_suffix("")) for path in sorted(STREAMS.rglob("*.jsonl"))]
    known = {name: costs_of(measured(name), PRICE) for name in names}
    assert {name.split("/")[1] for name, costs in known.items() if not costs} == {
        "chat-no-usage",
        "completion-no-usage",
        "completion-empty",
    }
    assert known["vllm/completion-cached"] == {"cost": 184_000.0, "paid": pytest.approx(68_800.0)}


def test_tokens_are_counted_by_class_and_by_tenant(tmp_path):
    """Classes that nobody declared are gathered; who names no tenant is counted as nobody's; persons are no label."""
    told = (post(tenant="a", **{"class": "batch"}), post(tenant="ada@example.com", **{"class": "new"}), post())
    counters, _ = asked(tmp_path, *told)
    assert lines(counters, "class_tokens") == {
        f'{{arm="stable",class="{name}",kind="{kind}"}}': n * times
        for name, times in (("batch", 1), ("other values", 2))
        for kind, n in (("in", 300.0), ("cached", 200.0), ("out", 2.0))
    }
    by_tenant = lines(counters, "tenant_tokens")
    assert {labels for labels in by_tenant if 'kind="out"' in labels} == {
        f'{{arm="stable",kind="out",tenant="{tenant}"}}' for tenant in ("a", "[email]", "none")
    }
    assert lines(counters, "cost") == {
        '{arm="stable",what="cost"}': pytest.approx(3 * FRESH / 1e9),
        '{arm="stable",what="paid"}': pytest.approx(3 * PAID / 1e9),
    }


def test_tenants_are_bounded(tmp_path):
    """The first ones by name, the rest together."""
    counters, _ = asked(tmp_path, *(post(tenant=f"t{n}") for n in range(55)))
    tenants = {labels for labels in lines(counters, "tenant_tokens") if 'kind="out"' in labels}
    assert (len(tenants), '{arm="stable",kind="out",tenant="other values"}' in tenants) == (50, True)


def test_several_workers_are_added_up(tmp_path):
    """Also with one of an older Shipway, which counts none of this."""
    counters, _ = asked(tmp_path, post(tenant="a", **{"class": "batch"}))
    whole, plain = GatewayCounters(), json.loads(json.dumps(counters.plain()))
    whole.add(plain)
    whole.add(plain)
    older = {**plain, "told": {name: plain["told"][name] for name in ("times", "tokens", "finishes", "asked", "bad")}}
    whole.add(older)
    assert lines(whole, "tenant_tokens")['{arm="stable",kind="in",tenant="a"}'] == 600.0
    assert lines(whole, "tokens")['{arm="stable",kind="in"}'] == 900.0


def test_nothing_is_counted_where_nothing_has_a_price(tmp_path):
    """No new counter, and no new count."""
    plain = GatewaySettings(timeout_s=5.0, api="openai")
    counters, arm = asked(tmp_path, post(tenant="a"), settings=plain)
    assert [lines(counters, name) for name in ("class_tokens", "tenant_tokens", "cost")] == [{}, {}, {}]
    assert set(arm.timings) == {"first_token", "between_tokens", "longer", "shorter"}
