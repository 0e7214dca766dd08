"""Every router keeps the same promises: read back, compare and set, fencing, leases."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.adapters.memory.traffic import MemoryRouter
from pipelines.errors import DependencyDown, StaleWriter
from pipelines.records.split import Arm, TrafficSplit
from tests.pipelines.adapters.proxies.proxy_bench import proxy_bench
from tests.pipelines.serving.gateway.test_gateway import Bench
from tests.waiting import until

STABLE, CANARY = Arm("sha256:a", ("http://127.0.0.1:1",)), Arm("sha256:b", ("http://127.0.0.1:2",))


class RouterContract:
    """What a controller relies on. An adapter's test gives a `router` with a fresh service `s`, and `wait`."""

    router: object

    def wait(self, seconds: float) -> None:
        """Let time pass for the router."""
        raise NotImplementedError

    def put(self, generation, expected, *, pct=0.0, lease_s=60.0):
        """Write a split."""
        canary = (CANARY, pct, lease_s) if pct else (None, 0.0, None)
        return self.router.write("s", TrafficSplit(generation, STABLE, *canary), expected)

    def test_a_new_service_has_no_arm(self):
        """Nobody serves before somebody says who."""
        assert (self.router.read("s").stable, self.router.read("s").generation) == (None, (0, 0))

    def test_what_was_written_is_read_back(self):
        """The answer of a write is what the router then shows."""
        shown = self.put((1, 1), (0, 0), pct=25)
        assert shown == self.router.read("s")
        assert (shown.canary, shown.canary_pct, shown.stable) == (CANARY, 25, STABLE)

    def test_the_same_write_again_is_fine(self):
        """A retry after a lost answer."""
        assert self.put((1, 1), (0, 0)) == self.put((1, 1), (0, 0))

    @pytest.mark.parametrize(("generation", "expected"), [((1, 1), (0, 0)), ((1, 3), (1, 1)), ((0, 9), (1, 2))])
    def test_a_stale_write_changes_nothing(self, generation, expected):
        """An old number, a wrong expectation, an old fence."""
        self.put((1, 1), (0, 0))
        before = self.put((1, 2), (1, 1))
        with pytest.raises(StaleWriter):
            self.put(generation, expected, pct=10)
        assert self.router.read("s") == before

    def test_a_later_fence_wins(self):
        """The next lock holder writes, the old one does not any more."""
        self.put((1, 1), (0, 0), pct=10)
        self.put((2, 1), (1, 1), pct=10)
        with pytest.raises(StaleWriter):
            self.put((1, 2), (1, 1), pct=50)

    def test_a_lease_that_is_not_renewed_ends(self):
        """Everything at stable, by itself, at the next generation."""
        self.put((1, 1), (0, 0), pct=10, lease_s=0.6)
        self.wait(0.7)
        until(lambda: self.router.read("s").canary is None)
        shown = self.router.read("s")
        assert (shown.canary, shown.generation, shown.reason) == (None, (1, 2), "lease_expired")

    def test_a_renewed_lease_holds(self):
        """A renewal is the same split at the next number."""
        split = self.put((1, 1), (0, 0), pct=10, lease_s=2.0)
        for n in range(2, 6):
            self.wait(0.6)
            split = self.router.write("s", replace(split, generation=(1, n)), split.generation)
        assert self.router.read("s").canary_pct == 10


class TestMemoryRouter(RouterContract):
    """The in-memory router."""

    @pytest.fixture(autouse=True)
    def _fresh(self):
        self.router = MemoryRouter()

    def wait(self, seconds: float) -> None:
        """Its clock is ours."""
        self.router.advance(seconds)


@pytest.mark.integration
class TestGatewayRouter(RouterContract):
    """A real gateway process."""

    @pytest.fixture(autouse=True)
    def _fresh(self, tmp_path):
        bench = Bench(tmp_path)
        self.router = bench.router
        yield
        bench.end()

    def wait(self, seconds: float) -> None:
        """Its clock is its own."""
        time.sleep(seconds)


def test_a_gateway_that_is_gone_is_a_dependency_that_is_down():
    """Not an empty split."""
    from pipelines.adapters.gateway import GatewayRouter

    with pytest.raises(DependencyDown):
        GatewayRouter(lambda _: Path("/nonexistent/socket")).read("s")


@pytest.mark.integration
class TestHaproxyRouter(RouterContract):
    """A real HAProxy and its agent."""

    program = "haproxy"

    @pytest.fixture(autouse=True)
    def _fresh(self, tmp_path):
        with proxy_bench(self.program, tmp_path) as bench:
            self.router = bench.router
            yield

    def wait(self, seconds: float) -> None:
        """Its clock is its own."""
        time.sleep(seconds)


class TestEnvoyRouter(TestHaproxyRouter):
    """A real Envoy and its agent."""

    program = "envoy"
