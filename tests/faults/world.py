"""A service, its traffic, its clocks, and everybody who may act on it: one release's controller, and `up`.

Time is virtual and passes only in `live`. A controller that sleeps lets the world live: the gateway ends leases, users
send requests, a story's events happen, and `up` does its round. What a controller does is the product's own code; only
Prefect (which schedules it) and the measuring parts of the steps are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from evals.signals.strata import ArmCounts, Stratum
from flows.control.lock import exposed_ttl_s
from flows.control.opening import spec_of
from flows.orders.commands import obey_now
from flows.orders.going_back import back_to_previous
from flows.working import Stopped, take_over
from pipelines.adapters.memory.records import (
    MemoryInbox,
    MemoryLedger,
    MemoryLock,
    MemoryNotifier,
    MemoryQueue,
    MemoryRuntime,
    MemoryServices,
)
from pipelines.adapters.memory.registry import MemoryBuilder, MemoryRegistry
from pipelines.adapters.memory.replays import MemoryReplays
from pipelines.adapters.memory.traffic import MemoryMetrics, MemoryRouter
from pipelines.errors import Busy, ShipwayError
from pipelines.ports import Command, Now, Ports, Token
from pipelines.records.reading import readable, unfinished
from pipelines.records.release import EXPOSED, Candidate, Phase, Release
from pipelines.records.service import Deployment, Service
from pipelines.records.split import TrafficSplit
from pipelines.records.unit import UnitStatus
from pipelines.rollout.ending import promote
from pipelines.rollout.look import Controller, drive
from pipelines.rollout.obeying import abort_unseen
from pipelines.services.paying import pay_debts
from pipelines.services.reconcile import reconcile
from pipelines.services.traffic import make_stable, try_way_back
from pipelines.services.units import server_name, wanted_units
from pipelines.serving.split.store import SplitStore
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.stages.steps import STEPS, Step, conclude
from pipelines.stages.workshop import Findings, Workshop
from tests.faults.recording import Journal, Killed, recorded

SERVICE = "s"
RELEASE = "r1"
OLD, OLD_VERSION = "sha256:" + "a" * 64, 2
PARKED = "sha256:" + "c" * 64
REQUESTS_PER_S = 100
UNSEEN_TTL_S = 5.0
"""A lock's time before any user; in life it is a minute, and a sweep would mostly wait for it."""

FACTS = {"engine": "torch", "labels": ["n", "p"], "max_length": 8, "model": "m", "variant": "source"}

SPEC = ReleaseSpec.model_validate_json(
    """{"model": "models:/m/2", "service": "s", "bootstrap": true,
        "evaluate": {"data": "d.csv", "gates": [{"metric": "accuracy", "min": 0.5}]},
        "rollout": {"steps": [20], "hold": 2, "bake": 2, "look": 1, "lease": 6, "warmup": 0,
                    "deadline": 60, "holdback_pct": 10, "min_step_requests": 10,
                    "gates": {"errors": {"margin": 0.2}, "latency": null}}}"""
)


def memory_ports() -> Ports:
    """One empty outside world."""
    return Ports(
        MemoryRegistry(),
        MemoryRuntime(),
        MemoryRouter(),
        MemoryMetrics(),
        MemoryLedger(),
        MemoryServices(),
        MemoryInbox(),
        MemoryLock(),
        MemoryNotifier(),
        MemoryReplays(),
        MemoryQueue(),
    )


@dataclass
class Keeping:
    """A held lock that is renewed whenever its controller sleeps: `flows.control.lock.Held` without a thread."""

    world: World
    token: Token
    ttl_s: float

    def keep_for(self, ttl_s: float) -> None:
        """From now on the lock is taken for `ttl_s`."""
        self.ttl_s = ttl_s
        self._renew()

    def sleep(self, seconds: float) -> None:
        """Let the world live; StaleWriter where the lock was lost meanwhile."""
        self._renew()
        self.world.live(seconds)

    def _renew(self) -> None:
        self.world.ports.lock.renew(self.token, self.ttl_s, self.world.now())


class World:
    """The outside world, two clocks, and who acts."""

    def __init__(self, folder: Path, *, first: bool = False, spec: ReleaseSpec = SPEC) -> None:
        self.wall_s, self.mono_s = 1_000_000.0, 1_000.0
        self.spec, self.folder, self.first = spec, folder, first
        self.raw = memory_ports()
        self.journal = Journal(pause=self._pause)
        self.ports = recorded(self.raw, self.journal)
        self.builder = MemoryBuilder()
        self.errors_pct = 0.0
        self.requests_per_s = REQUESTS_PER_S
        self.boots = 0
        self.variant = "source"
        self.each_second: Callable[[World], None] = lambda _: None
        self._interval = 0
        self._ups = 0
        self._is_taking_over = False
        self._begin()

    def _begin(self) -> None:
        """Two registered versions; where it is not the first release, version 1 serves."""
        self.raw.router.read(SERVICE)
        for name in ("older", "old", "source"):
            self.raw.registry.add("m", self.folder / name)
        service = Service(SERVICE, model="m")
        if self.first:
            return
        service = service.changed(stable=Deployment(OLD, "/old", "m", 2, "r0"))
        self.raw.services.save(service)
        for unit in wanted_units(service, self.wall_s):
            self.raw.runtime.ensure(unit)
        token = self.raw.lock.acquire(SERVICE, "beginning", 60.0, self.now())
        make_stable(self.raw, SERVICE, OLD, token, "beginning")
        self.raw.registry.mark("m", aliases={"champion": 2})
        self.raw.lock.release(token)

    def now(self) -> Now:
        """This world's instant."""
        return Now(self.wall_s, self.mono_s)

    @property
    def split(self) -> TrafficSplit:
        """What the router has."""
        return self.raw.router.stores[SERVICE].split

    @property
    def alias(self) -> int | None:
        """The version that `champion` names."""
        return self.raw.registry._models["m"].aliases.get("champion")

    @property
    def release(self) -> Release | None:
        """The newest release as the ledger has it, whether or not its controller lives."""
        return next(readable(self.raw.ledger), None)

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def live(self, seconds: float) -> None:
        """Let time pass, second by second."""
        until_s = self.mono_s + seconds
        while self.mono_s < until_s - 1e-9:
            step_s = min(until_s - self.mono_s, 1.0)
            before_s, self.mono_s = self.mono_s, self.mono_s + step_s
            self.wall_s += step_s
            self.raw.router.advance(step_s)
            self.journal.observe("time", None)
            if int(before_s) != int(self.mono_s):
                self._second()

    def _second(self) -> None:
        self._traffic()
        self.each_second(self)
        self.up_round()

    def live_on(self, limit_s: float = 3000.0, *, debts: bool = True) -> bool:
        """Live until everything is over and has settled, debts to the registry too; False where it never is."""
        began_s = self.mono_s
        while self._is_busy() or (debts and self._owes()):
            if self.mono_s - began_s > limit_s:
                return False
            self.live(1.0)
        self.live(3.0)
        return True

    def _pause(self) -> None:
        """The release's own controller stops while everybody else, `up` among them, lives on."""
        if self.journal.actor == "release":
            self.live_on()

    def _is_busy(self) -> bool:
        is_held = self.raw.lock.holder(SERVICE, self.now()) is not None
        return is_held or bool(self.raw.ledger.summaries(unfinished=True))

    def _owes(self) -> bool:
        service = self.raw.services.records.get(SERVICE)
        return bool(service and service.owed)

    def _traffic(self) -> None:
        split = self.split
        canary = round(self.requests_per_s * split.canary_pct / 100)
        if split.canary is None or self.requests_per_s == 0:
            return
        stable = ArmCounts(self.requests_per_s - canary)
        arms = (stable, ArmCounts(canary, round(canary * self.errors_pct / 100)))
        times = (self.mono_s - 1, self.mono_s)
        boot = f"boot {self.boots}"
        self.raw.metrics.add(
            SERVICE, Stratum(self._interval, boot, *times, split.canary_pct, *arms, generation=split.generation)
        )
        self._interval += 1

    # ── what happens in the world ───────────────────────────────────────────────────────────────────────────────────

    def restart_gateway(self) -> None:
        """The gateway died and came back from its snapshot: all-stable, under another boot, its counters gone."""
        self.boots += 1
        self.raw.metrics.strata.clear()
        self.raw.router.stores[SERVICE] = SplitStore(self.split, f"boot {self.boots}")

    def say(self, verb: str) -> None:
        """A person's word; without a living controller abort and rollback act at once, as the command line does."""
        release = self.release
        if release is None or release.is_ended:
            return
        self.raw.inbox.send(Command(f"c-{verb}-{self.mono_s:g}", release.id, verb, "ada"))
        if verb in {"abort", "rollback"} and self.raw.lock.holder(SERVICE, self.now()) is None:
            self.run(f"person {self.mono_s:g}", lambda: obey_now(self.ports, release))

    def unit(self, digest: str) -> str:
        """The unit of a digest."""
        return server_name(SERVICE, digest, 0)

    def kill_stable(self) -> None:
        """Stable's only server dies and is not back yet."""
        self.raw.runtime.fail(self.unit(OLD), "killed")

    def revive_stable(self) -> None:
        """Stable's server is back."""
        self.raw.runtime.set(self.unit(OLD), UnitStatus("ready", "http://127.0.0.1:20001", 1, restarts=1))

    def crash_canary(self) -> None:
        """The canary's server exits and is started again."""
        release = self.release
        if release and release.candidate and self.unit(release.candidate.bundle_digest) in self.raw.runtime.seen:
            self.raw.runtime.crash(self.unit(release.candidate.bundle_digest))

    # ── who acts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, actor: str, act: Callable[[], Any]) -> None:
        """Let somebody act to the end, to an error that ends a process, or to their death."""
        with self.journal.acting(actor), suppress(ShipwayError):
            try:
                act()
            except Killed as killed:
                if killed.actor != actor:
                    raise

    @contextmanager
    def patched(self) -> Iterator[None]:
        """The flows read this world's clock and hold locks without threads."""
        with ExitStack() as stack:
            for module in ("working", "orders.commands", "orders.going_back"):
                stack.enter_context(patch(f"flows.{module}.clock", self.now))
            for module in ("orders.commands", "orders.going_back"):
                stack.enter_context(patch(f"flows.{module}.hold", self.hold))
            yield

    @contextmanager
    def hold(self, ports: Ports, service: str, who: str, ttl_s: float = UNSEEN_TTL_S) -> Iterator[Keeping]:
        """`flows.control.lock.hold` on virtual time."""
        keeping = Keeping(self, ports.lock.acquire(service, who, ttl_s, self.now()), ttl_s)
        try:
            yield keeping
        finally:
            with suppress(ShipwayError):
                ports.lock.release(keeping.token)

    def park_previous(self) -> None:
        """A version before the one that serves is still parked."""
        service = self.raw.services.load(SERVICE)
        parked = Deployment(PARKED, "/parked", "m", 1, "r-1", artifact_digest="sha256:parked")
        service = self.raw.services.save(service.changed(previous=parked))
        for unit in wanted_units(service, self.wall_s):
            self.raw.runtime.ensure(unit)

    def go_back(self) -> None:
        """What `shipway rollback SERVICE` does."""
        back_to_previous(self.ports, self.ports.services.load(SERVICE), "it is slow", sleep=self.live)

    def open_release(self) -> None:
        """What `shipway release` does: under the lock it opens a record and works on it to its end."""
        with self.hold(self.ports, SERVICE, "release") as held:
            if not self.ports.ledger.summaries(unfinished=True, service=SERVICE):
                release = self._opened()
                self.ports.ledger.create(release)
                self.work_on(release, held)

    def _opened(self) -> Release:
        at_s, spec = self.wall_s, self.spec
        opened = Release().record(
            at_s, "opened", id=RELEASE, service=SERVICE, spec=spec.as_dict(), spec_digest=spec.digest()
        )
        champion = None if self.first else {"digest": OLD, "version": 2, "bundle": "/old"}
        candidate = Candidate("m", 3, "sha256:src")
        return opened.record(
            at_s,
            "resolved",
            candidate=vars(candidate),
            champion=champion,
            alias_champion=None if self.first else 2,
        )

    def qualify_release(self, held: Keeping) -> None:
        """A release that has come as far as its first user."""
        release = self._opened()
        self.raw.ledger.create(release)
        shop = Workshop(self.raw, self.builder, held.token, self.spec, self.folder, self.folder, self.now, self.live)
        for step in STEPS:
            release = conclude(shop, release, step, self._findings(step, shop, release))

    def work_on(self, release: Release, held: Keeping) -> Release:
        """`flows.working.work_on`, whose flow is this world's `_flow`."""
        if release.is_exposed:
            return take_over(release, self.ports, held)
        try:
            return self._flow(release, held)
        except Stopped:
            return abort_unseen(self.ports, self.ports.ledger.load(release.id), self.now())

    def _flow(self, release: Release, held: Keeping) -> Release:
        """`flows.release.release` without Prefect."""
        spec = spec_of(release)
        shop = Workshop(self.ports, self.builder, held.token, spec, self.folder, self.folder, self.now, held.sleep)
        for step in STEPS:
            if release.phase is step.before:
                self._check_stop(release)
                release = conclude(shop, release, step, self._findings(step, shop, release))
        ctl = Controller(self.ports, spec.rollout, held.token, self.now)
        if release.phase in EXPOSED | {Phase.QUALIFIED}:
            held.keep_for(exposed_ttl_s(self.spec.rollout.lease_s))
        if release.phase is Phase.QUALIFIED and not release.champion:
            release = promote(self.ports, release, held.token, "first release", self.now())
        if release.phase in {Phase.QUALIFIED, Phase.CANARY}:
            release = drive(ctl, release, held.sleep, leave=frozenset({Phase.BAKING, Phase.PROMOTING}))
        return drive(ctl, release, held.sleep, leave=frozenset()) if release.phase in EXPOSED else release

    def _check_stop(self, release: Release) -> None:
        if any(command.verb in {"abort", "rollback"} for command in self.ports.inbox.pending(release.id)):
            raise Stopped

    def _findings(self, step: Step, shop: Workshop, release: Release) -> Findings:
        """Prepared findings where a model would be asked; build and stage are real, and so is the way back."""
        shop.sleep(0.5)
        match step.name:
            case "compress":
                facts = {**FACTS, "variant": self.variant}
                return {"variant": self.variant, "facts": facts, "folder": self.variant, "golden": {}}
            case "build" | "stage":
                return step.run(shop, release)
            case "qualify":
                lease_s = self.spec.rollout.lease_s
                way_back_ms = try_way_back(self.ports, release, shop.token, lease_s, lambda: self.mono_s)
                return {"way_back_ms": way_back_ms}
        return {}

    # ── up ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def up_round(self) -> None:
        """One round of `up`; where it is killed, the next round is another process's."""
        actor = f"up {self._ups}"
        if self._is_taking_over:
            with self.journal.acting(actor):
                self._reconcile()
            return
        self.run(actor, self._up_round)
        if actor in self.journal.dead:
            self._ups += 1

    def _up_round(self) -> None:
        self._reconcile()
        if self.ports.lock.holder(SERVICE, self.now()) is not None:
            return
        for release in unfinished(self.ports.ledger):
            self._is_taking_over = True
            try:
                self._go_on(release)
            finally:
                self._is_taking_over = False

    def _reconcile(self) -> None:
        with suppress(ShipwayError):
            for name in self.ports.services.names():
                reconcile(self.ports, self.ports.services.load(name), "reconcile", self.now())
                pay_debts(self.ports, self.ports.services.load(name), self.now())

    def _go_on(self, release: Release) -> None:
        """Take over what users may meet; a worker goes on with what they may not."""
        ttl_s = exposed_ttl_s(self.spec.rollout.lease_s) if release.is_exposed else UNSEEN_TTL_S
        with suppress(Busy), self.hold(self.ports, SERVICE, self.journal.actor, ttl_s) as held:
            self.work_on(self.ports.ledger.load(release.id), held)


def begin(folder: Path) -> Path:
    """The files of the versions that a world registers, and of a compressed variant."""
    for name in ("older", "old", "source", "int8"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(f'{{"name": "{name}"}}')
    return folder
