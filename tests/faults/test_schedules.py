"""Whatever happens in whatever order, users stay safe at every instant, and every release ends.

Two hundred schedules run with the slow tests, 10,000 with `make fuzz`.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flows.control.lock import exposed_ttl_s
from flows.working import take_over
from pipelines.errors import DependencyDown, ShipwayError, StaleWriter
from pipelines.records.release import Phase
from pipelines.services.paying import pay_debts
from pipelines.services.reconcile import reconcile
from tests.faults.observer import Observer
from tests.faults.pilots import Pilot
from tests.faults.recording import Fault
from tests.faults.stories import move_alias
from tests.faults.sweep import service_at_rest
from tests.faults.world import SERVICE, World, begin

SCHEDULES = 10_000 if os.environ.get("SHIPWAY_FUZZ") else 200
LIMIT_S = 4 * 3600
"""Within this time every release ends once nothing new happens: an hour for each direction of the clock's jump."""

FILES = begin(Path(tempfile.mkdtemp(prefix="shipway-schedules-")))


class Schedules(RuleBasedStateMachine):
    """A qualified release, whoever controls it, and everything that may go wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(FILES)
        self.world.up_round = lambda: None
        self.journal = self.world.journal
        self.journal.pause = self._stop
        self.pilots: list[Pilot] = []
        self.jumps = 0
        self.is_blind = False
        self._measure = self.world.raw.metrics.measure
        self.world.raw.metrics.measure = self._maybe_measure
        self._patches = ExitStack()
        self._patches.enter_context(self.world.patched())

    @initialize()
    def qualify(self) -> None:
        """The steps before any user are the sweep's; here a release stands before its first share."""
        with self.world.hold(self.world.raw, SERVICE, "release") as held:
            self.world.qualify_release(held)
        self.world.observer = Observer(self.world)
        self.journal.is_on = True

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(seconds=st.integers(1, 6))
    def time_passes(self, seconds: int) -> None:
        """Users come, controllers look, locks are renewed, and `up` does its rounds."""
        for _ in range(seconds):
            self.world.live(1.0)
            self._renew()
            self._up()
            for pilot in [p for p in self.pilots if p.runs]:
                pilot.go_on()

    def _renew(self) -> None:
        for pilot in [p for p in self.pilots if p.runs and p.token]:
            try:
                self.world.raw.lock.renew(pilot.token, pilot.ttl_s, self.world.now())
            except StaleWriter:
                pilot.is_lost = True

    def _up(self) -> None:
        """`up` reconciles, and takes over where nobody holds the lock."""
        with self.journal.acting("up"), suppress(ShipwayError):
            reconcile(self.world.raw, self.world.raw.services.load(SERVICE), "reconcile", self.world.now())
            pay_debts(self.world.raw, self.world.raw.services.load(SERVICE), self.world.now())
        release = self.world.release
        if not release.is_ended and self.world.raw.lock.holder(SERVICE, self.world.now()) is None:
            self.pilots.append(Pilot(f"pilot {len(self.pilots)}", self.journal, self._control))

    def _control(self, pilot: Pilot) -> None:
        world, lease_s = self.world, self.world.spec.rollout.lease_s
        pilot.ttl_s = exposed_ttl_s(lease_s)
        pilot.token = world.ports.lock.acquire(SERVICE, pilot.name, pilot.ttl_s, world.now())
        try:
            release = world.ports.ledger.load("r1")
            if not release.is_ended:
                # A qualified release is a worker's, which looks with the same `drive`.
                take_over(release, world.ports, pilot)
        finally:
            with suppress(ShipwayError):
                world.ports.lock.release(pilot.token)

    # ── faults of controllers ───────────────────────────────────────────────────────────────────────────────────────

    @rule(fault=st.sampled_from(Fault), effects=st.integers(1, 6))
    def something_meets_an_effect(self, fault: Fault, effects: int) -> None:
        """A kill, an error, a lost answer, a doubled call or a stop, at one of the next effects."""
        self.journal.faults[len(self.journal.names) + effects] = fault

    @rule()
    def the_router_is_read_stale(self) -> None:
        """The next read of the split shows what was before."""
        self.journal.stale_reads = 1

    @precondition(lambda self: any(not p.is_over for p in self.pilots))
    @rule(data=st.data())
    def a_controller_is_killed(self, data: st.DataObject) -> None:
        """SIGKILL."""
        data.draw(st.sampled_from([p for p in self.pilots if not p.is_over])).kill()

    @precondition(lambda self: any(p.runs for p in self.pilots))
    @rule(data=st.data())
    def a_controller_is_stopped(self, data: st.DataObject) -> None:
        """SIGSTOP between two looks."""
        data.draw(st.sampled_from([p for p in self.pilots if p.runs])).is_stopped = True

    @precondition(lambda self: any(p.is_stopped for p in self.pilots))
    @rule(data=st.data())
    def a_controller_continues(self, data: st.DataObject) -> None:
        """SIGCONT: it goes on exactly where it was, whoever took over meanwhile."""
        pilot = data.draw(st.sampled_from([p for p in self.pilots if p.is_stopped]))
        pilot.is_stopped = False
        pilot.go_on()

    def _stop(self) -> None:
        pilot = next((p for p in self.pilots if p.name == self.journal.actor), None)
        if pilot is not None:
            pilot.stop()

    # ── faults of the world ─────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.jumps < 2)
    @rule(seconds=st.sampled_from([-3600.0, 3600.0]))
    def the_wall_clock_jumps(self, seconds: float) -> None:
        """By an hour, either way."""
        self.jumps += 1
        self.world.wall_s += seconds

    @rule()
    def the_lease_ends(self) -> None:
        """By the gateway's own clock."""
        self.world.raw.router.advance(self.world.spec.rollout.lease_s)
        self.journal.observe("time", None)

    @rule()
    def the_gateway_restarts(self) -> None:
        """It comes back all-stable."""
        self.world.restart_gateway()

    @rule()
    def stable_dies(self) -> None:
        """Until it returns."""
        self.world.kill_stable()

    @rule()
    def stable_returns(self) -> None:
        """It was started again."""
        self.world.revive_stable()

    @rule()
    def the_canary_crashes(self) -> None:
        """It is started again, and counted."""
        self.world.crash_canary()

    @rule()
    def somebody_moves_the_alias(self) -> None:
        """`champion` names another version."""
        move_alias(self.world)

    @rule(errors_pct=st.sampled_from([0.0, 60.0]), requests_per_s=st.sampled_from([0, 100]))
    def traffic_changes(self, errors_pct: float, requests_per_s: int) -> None:
        """The canary fails, or nobody comes."""
        self.world.errors_pct, self.world.requests_per_s = errors_pct, requests_per_s

    @rule(is_blind=st.booleans())
    def metrics_go_or_come(self, is_blind: bool) -> None:
        """The metrics source does not answer, or does again."""
        self.is_blind = is_blind

    def _maybe_measure(self, *args: object) -> object:
        if self.is_blind:
            raise DependencyDown("no metrics", code="E_METRICS")
        return self._measure(*args)

    @rule(verb=st.sampled_from(["abort", "pause", "resume", "promote", "rollback"]))
    def a_person_speaks(self, verb: str) -> None:
        """With or without a living controller."""
        self.world.say(verb)

    # ── what must be so ─────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def users_are_safe(self) -> None:
        """At every effect so far."""
        if self.journal.is_on:
            assert self.world.observer.violations == []

    def teardown(self) -> None:
        """Everything that can come back comes back; then the release ends, and every record says the same."""
        try:
            if self.journal.is_on and not self.world.observer.violations:
                self._end()
        finally:
            self.journal.is_on = False
            for pilot in self.pilots:
                pilot.kill()
            self._patches.close()

    def _end(self) -> None:
        self.journal.faults.clear()
        self.world.revive_stable()
        self.is_blind = False
        self.world.say("resume")
        began_s = self.world.mono_s
        while self.world._is_busy() and self.world.mono_s - began_s < LIMIT_S:
            self.time_passes(1)
        for pilot in [p for p in self.pilots if p.is_stopped]:
            pilot.is_stopped = False
            pilot.go_on()
        self.time_passes(3)
        assert self.world.release.is_ended, "stuck"
        assert self.world.observer.violations == []
        assert list(self._at_rest()) == []

    def _at_rest(self) -> list[str]:
        release, stable = self.world.release, self.world.split.stable
        wrong = list(service_at_rest(self.world, release.phase, stable.digest))
        verbs = {said.data["verb"] for said in release.of_kind("commanded")}
        if release.phase is Phase.PROMOTED and verbs & {"abort", "rollback"}:
            wrong.append("promoted against a person's word")
        if release.convicted and not self.world.raw.services.load(SERVICE).quarantined:
            wrong.append("convicted, but not quarantined")
        return wrong


TestSchedules = pytest.mark.integration(Schedules.TestCase)
TestSchedules.settings = settings(
    max_examples=SCHEDULES,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
