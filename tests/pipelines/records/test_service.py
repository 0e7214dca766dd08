"""What must serve, and does a service survive being written down?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipelines.records.service import Deployment, Service
from pipelines.records.settings import GatewaySettings, Recording

STABLE = Deployment("sha256:1", "/b/1", "m", 1, "r1")
PARKED = Deployment("sha256:0", "/b/0", "m", 0, "r0", keep_until_s=100.0)
TRIED = Deployment("sha256:2", "/b/2", "m", 2, "r2")


def digests(service: Service, now_s: float) -> set[str]:
    """Which bytes must run."""
    return {d.digest for d in service.deployments(now_s)}


def test_a_new_service_needs_nothing():
    """Nothing was deployed yet."""
    assert digests(Service("s"), 0.0) == set()


@pytest.mark.parametrize(("now_s", "expected"), [(99.9, {"sha256:0", "sha256:1"}), (100.0, {"sha256:1"})])
def test_a_parked_version_runs_until_its_time_is_over(now_s, expected):
    """`retain` is a promise with an end."""
    assert digests(Service("s", stable=STABLE, previous=PARKED), now_s) == expected


def test_stable_has_no_end():
    """Even where its record says one: it was parked once, and serves again."""
    assert digests(Service("s", stable=PARKED), 1e9) == {"sha256:0"}


def test_a_candidate_runs_beside_stable():
    """Both versions up."""
    assert digests(Service("s", stable=STABLE, candidate=TRIED), 0.0) == {"sha256:1", "sha256:2"}


def test_the_same_bytes_run_once():
    """A candidate that became stable is one deployment, as stable."""
    service = Service("s", stable=STABLE, candidate=replace(STABLE, keep_until_s=5.0))
    assert service.deployments(0.0) == (STABLE,)


def test_a_service_that_is_down_needs_nothing():
    """`shipway down` keeps the record and stops the processes."""
    service = Service("s", stable=STABLE, previous=PARKED, candidate=TRIED)
    assert digests(service.changed(wanted=False), 0.0) == set()


def test_a_change_leaves_the_version_to_the_ledger():
    """Only saving counts."""
    assert Service("s", version=3).changed(replicas=2) == Service("s", version=3, replicas=2)


@pytest.mark.parametrize(
    "service",
    [
        Service("s"),
        Service(
            "s",
            4,
            "m",
            8080,
            2,
            0.5,
            GatewaySettings(timeout_s=3.0, slices=("x-lang",), label_s=9.0, record=Recording(0.5, 10, ("body.user",))),
            60.0,
            wanted=False,
            stable=STABLE,
            previous=PARKED,
            candidate=TRIED,
        ),
        Service("s", quarantined={"sha256:9": "it raised on long inputs"}),
    ],
)
def test_what_is_written_is_read(service):
    """Through JSON."""
    assert Service.from_dict(json.loads(json.dumps(service.as_dict()))) == service


def test_a_setting_that_came_later_is_written_where_it_is_unusual():
    """An older Shipway reads every other record, and what it wrote means what is usual."""
    later = Service("s", settings=GatewaySettings(metrics="public", arm_header=False)).as_dict()
    usual = Service("s").as_dict()
    assert sorted(later.keys() - usual.keys()) == ["arm_header", "metrics"]
    assert Service.from_dict(usual).settings == GatewaySettings()
    assert Service.from_dict(later).settings == GatewaySettings(metrics="public", arm_header=False)
