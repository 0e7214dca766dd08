"""Whole releases behind real HAProxy and real Envoy, under load, and a controller that is killed in the canary."""

from __future__ import annotations

import psutil
import pytest

from flows.control.up_file import find_up
from pipelines.services.units import gateway_name
from tests.flows.releases.real_world import SHORT_LEASE, SPEC, bootstrapped, calling, kill, phases
from tests.pipelines.adapters.proxies.proxy_bench import need
from tests.waiting import HANG_S

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=["haproxy", "envoy"])
def world(request, tmp_path_factory, prefect_server):
    """Version 1 serves behind a real proxy."""
    need(request.param)
    spec = SPEC.replace("compress: dynamic-int8", f"serve: {{router: {request.param}}}")
    with bootstrapped(tmp_path_factory.mktemp("home"), prefect_server, spec) as made:
        made.program = request.param
        yield made


def test_a_release_is_promoted_under_load(world):
    """Evidence comes from the proxy's counters; nobody's request is lost, and the proxy is the real one."""
    with calling(world.url) as client:
        controller = world.start_release()
        assert controller.wait(HANG_S) == 0, (world.home.root / "release.out").read_text()[-3000:]
    release = world.newest()
    assert (release.outcome, client.failed, client.answered > 100) == ("promoted", 0, True)
    assert world.ports.router.read("tiny").stable.digest == release.sealed.bundle_digest
    agent = psutil.Process(world.ports.runtime.status(gateway_name("tiny")).pid)
    assert [child.name() for child in agent.children()] == [world.program]


def test_traffic_goes_home_when_nobody_is_left_who_renews(world):
    """A kill -9 of `release` and of `up` in the canary: all-stable by the agent; a new `up` ends the release."""
    with calling(world.url) as client, world.spec_with(*SHORT_LEASE):
        controller = world.start_release()
        world.wait_share(controller)
        up = psutil.Process(int(find_up(world.home)["pid"]))
        up.kill()
        kill(controller)
        world.wait("home by the end of the lease", lambda: world.ports.router.read("tiny").canary is None)
        assert world.ports.router.read("tiny").reason == "lease_expired"
        restarted = world.start_up()
        try:
            world.wait_ended()
        finally:
            restarted.poll()
    release = world.newest()
    assert (release.outcome, release.last("interrupted") is not None, client.failed) == ("promoted", True, 0)


def test_a_killed_proxy_comes_back_all_stable(world):
    """A kill -9 of the proxy itself in the canary: the release is interrupted, and nobody is accused."""
    with calling(world.url):
        controller = world.start_release()
        world.wait_share(controller)
        (proxy,) = psutil.Process(world.ports.runtime.status(gateway_name("tiny")).pid).children()
        proxy.kill()
        world.wait_ended()
    release = world.newest()
    assert (release.outcome, release.convicted, phases(release)[-1]) == ("promoted", "", "promoted")
