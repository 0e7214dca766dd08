"""What a spec says of a gateway and its servers reaches their settings whole."""

from __future__ import annotations

from dataclasses import fields

import pytest

from pipelines.records.settings import (
    GatewaySettings,
    Objective,
    Price,
    Promise,
    Recording,
    ServerSettings,
    Shadowing,
    flat,
)
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.serve import CONTAINER_MEMORY_MB, gateway_settings, server_settings
from pipelines.spec.spec_file import parse_spec

BASE = "model: models:/m/1\nservice: s\nevaluate: {data: d.csv, gates: [{metric: accuracy, min: 0.5}]}\n"
UNUSUAL = """
serve:
  {router: haproxy, gateway_workers: 2, timeout: 3s, drain: 1m, convicted_streams: cut, idempotent: ["/v1/*"],
   record: {share: 0.5}, metrics: public, arm_header: false,
   api: openai, objective: {ttft: 800ms, by: x-class, classes: {batch: {e2e: 5m}}}, borderline: refuse,
   price: {input: 0.5, output: 1.5}, tenant: x-tenant}
rollout: {slices: [x-lang], label: 1m, assign: {by: cookie, name: id}, shadow: {pct: 5}}
package: {memory_mb: 512, pids: 64}
"""


def spec(text: str = "") -> ReleaseSpec:
    """A spec with these sections."""
    return parse_spec(BASE + text)


def test_every_setting_of_a_gateway_is_said_by_the_spec():
    """One that is added and that no key of the spec says would stay usual for ever."""
    asked = spec(UNUSUAL)
    settings = gateway_settings(asked.serve, asked.rollout)
    assert [f.name for f in fields(settings) if getattr(settings, f.name) == f.default] == []
    assert settings == GatewaySettings(
        *("haproxy", 2, 3.0, ("x-lang",), 60.0, "cookie:id", Recording(0.5), 60.0, "cut", ("/v1/*",)),
        shadow=Shadowing(5.0),
        metrics="public",
        arm_header=False,
        api="openai",
        objective=Objective(0.8, by="x-class", classes={"batch": Promise(e2e_s=300.0)}),
        borderline="refuse",
        price=Price(0.5, 0.5, 1.5),
        tenant="x-tenant",
    )


def test_what_came_later_of_a_record_is_written_where_it_is_said():
    """An older Shipway reads what a newer one wrote, and finds the releases that it began."""
    usual, told = (spec(f"serve: {{record: {{{text}}}}}\n") for text in ("", "recognise: [email], retain: 1d"))
    assert usual.as_dict()["serve"]["record"].keys() == {"share", "keep", "redact", "max_body_bytes"}
    assert (
        told.as_dict()["serve"]["record"] | {"recognise": ["email"], "retain_s": 86400.0}
        == (told.as_dict()["serve"]["record"])
    )
    written = [
        flat({"settings": gateway_settings(one.serve, one.rollout).as_dict()})["record"] for one in (usual, told)
    ]
    assert [sorted(one) for one in written] == [
        ["keep", "max_body_bytes", "redact", "share"],
        ["keep", "max_body_bytes", "recognise", "redact", "retain_s", "share"],
    ]
    assert GatewaySettings.from_dict({"record": written[0]}).record == Recording()


def test_a_spec_that_says_nothing_asks_for_what_is_usual():
    """The defaults stand once, at the settings."""
    asked = spec()
    assert gateway_settings(asked.serve, asked.rollout) == GatewaySettings()
    assert server_settings(asked.serve, asked.package, is_contained=False) == ServerSettings()


@pytest.mark.parametrize(
    ("text", "is_contained", "expected"),
    [
        (UNUSUAL, False, ServerSettings(None, 512, 0, 60.0)),
        (UNUSUAL, True, ServerSettings(None, 512, 64, 60.0)),
        ("", True, ServerSettings(None, CONTAINER_MEMORY_MB, 512)),
    ],
)
def test_a_container_has_limits_of_its_own(text, is_contained, expected):
    """A process has no limit of processes, and none of memory where none is asked for."""
    asked = spec(text)
    assert server_settings(asked.serve, asked.package, is_contained=is_contained) == expected
