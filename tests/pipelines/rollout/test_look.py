"""Looks at a release over in-memory adapters: what is written, in which order, and what a death leaves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from evals.signals.strata import ArmCounts, Shadowed, Stratum
from pipelines.adapters.memory.records import (
    MemoryInbox,
    MemoryLedger,
    MemoryLock,
    MemoryNotifier,
    MemoryRuntime,
    MemoryServices,
)
from pipelines.adapters.memory.traffic import MemoryMetrics, MemoryRouter
from pipelines.errors import AliasMoved, DependencyDown, StaleWriter
from pipelines.ports import Command, Now, Ports, RegisteredVersion
from pipelines.records.release import Candidate, Phase, Release
from pipelines.records.service import Deployment, Service
from pipelines.records.split import Arm
from pipelines.records.unit import UnitStatus
from pipelines.rollout.decision import PATIENCE_S, RollBack
from pipelines.rollout.ending import go_home, take_back
from pipelines.rollout.look import TROUBLE_S, Controller, drive, look
from pipelines.rollout.watch import Watch, replay
from pipelines.rollout.words import record_command
from pipelines.services.change import relabel
from pipelines.services.paying import pay_debts
from pipelines.services.traffic import make_stable, set_share
from pipelines.services.units import server_units
from pipelines.spec.release_spec import ReleaseSpec

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NEW_ARM = Arm(NEW, ("http://127.0.0.1:20002",))

SPEC = ReleaseSpec.model_validate_json(
    """{"model": "models:/m/2", "service": "s",
        "evaluate": {"data": "d.csv", "gates": [{"metric": "accuracy", "min": 0.5}]},
        "rollout": {"steps": [10, 50], "hold": 5, "bake": 10, "look": 1, "lease": 10, "warmup": 0,
                    "deadline": 300, "holdback_pct": 10}}"""
)


@dataclass
class Aliases:
    """A registry's aliases, as far as a promotion needs them."""

    names: dict[str, int] = field(default_factory=lambda: {"champion": 1})
    down: bool = False

    def mark(self, name, *, aliases=None, expected=None, tags=None, made=None, patience_s=None):
        """Compare and set."""
        if self.down:
            raise DependencyDown("the registry is down", code="E_REGISTRY")
        for alias, version in (expected or {}).items():
            if self.names.get(alias) not in {version, (aliases or {}).get(alias)}:
                raise AliasMoved(f"{alias} names {self.names.get(alias)}, {version} was expected")
        self.names.update(aliases or {})

    def resolve(self, uri) -> RegisteredVersion:
        """The alias's version."""
        return RegisteredVersion("m", self.names[uri.split("@")[1]])


class World:
    """Memory adapters, a clock, one service with a stable version, and a qualified release of another."""

    def __init__(self, spec: ReleaseSpec = SPEC) -> None:
        self.wall_s, self.spec = 1000.0, spec
        self.ports = Ports(
            Aliases(),
            MemoryRuntime(),
            MemoryRouter(),
            MemoryMetrics(),
            MemoryLedger(),
            MemoryServices(),
            MemoryInbox(),
            MemoryLock(),
            MemoryNotifier(),
        )
        old, new = (Deployment(d, "/b", "m", v, r) for d, v, r in ((OLD, 1, "r0"), (NEW, 2, "r1")))
        service = Service("s", model="m", stable=old, candidate=new)
        self.ports.services.save(service)
        for deployment in (old, new):
            for unit in server_units(service, deployment):
                self.ports.runtime.ensure(unit)
        self.token = self.ports.lock.acquire("s", "test", 1e6, self.now())
        make_stable(self.ports, "s", OLD, self.token, "test")
        self.release = self._qualified()
        self.ports.ledger.create(self.release)
        self.watch = Watch()
        self.interval = 0

    def _qualified(self) -> Release:
        release = Release().record(
            self.wall_s, "opened", id="r1", service="s", spec=self.spec.as_dict(), spec_digest=self.spec.digest()
        )
        candidate = Candidate("m", 2, "sha256:src", bundle_digest=NEW, bundle="/b", serving_version=2)
        champion = {"digest": OLD, "version": 1, "bundle": "/b"}
        release = release.record(
            self.wall_s, "resolved", candidate=vars(candidate), champion=champion, alias_champion=1
        )
        for phase in (Phase.EVALUATED, Phase.COMPRESSED, Phase.BUILT, Phase.STAGED, Phase.QUALIFIED):
            release = release.enter(phase, self.wall_s)
        return release

    def now(self) -> Now:
        """This world's instant."""
        return Now(self.wall_s, self.wall_s)

    def controller(self, **changed) -> Controller:
        """The controller that holds the lock."""
        return replace(Controller(self.ports, self.spec.rollout, self.token, self.now), **changed)

    def look(self, *, errors: int = 0, requests: int = 100) -> None:
        """A second of traffic at the current split, then one look."""
        self.second(errors=errors, requests=requests)
        self.release, self.watch = look(self.controller(), self.release, self.watch)

    def sleep(self, _: float) -> None:
        """What a controller that sleeps lets happen."""
        self.second()

    def second(self, *, errors: int = 0, requests: int = 100) -> None:
        """A second of traffic at the current split."""
        self.wall_s += 1
        self.ports.router.advance(1.0)
        split = self.ports.router.stores["s"].split
        canary = round(requests * split.canary_pct / 100)
        arms = (ArmCounts(requests - canary), ArmCounts(canary, min(errors, canary)))
        began_s, generation = self.wall_s - 1, split.generation
        stratum = Stratum(self.interval, "boot", began_s, self.wall_s, split.canary_pct, *arms, generation=generation)
        self.ports.metrics.add("s", stratum)
        self.interval += 1

    def look_until(self, phase: Phase, *, errors: int = 0) -> None:
        """Look until a phase is reached."""
        for _ in range(200):
            if self.release.phase is phase:
                return
            self.look(errors=errors)
        pytest.fail(f"stayed in {self.release.phase}, never {phase}")

    @property
    def share(self) -> float:
        """The canary's share as the router has it."""
        return self.ports.router.read("s").canary_pct


def test_a_good_canary_is_promoted_step_by_step():
    """Shares rise by the plan; at the end the router, the service and the alias all name the candidate."""
    world = World()
    world.look_until(Phase.PROMOTED)
    assert [e.data["pct"] for e in world.release.of_kind("exposed")] == [10, 50, 90]
    assert world.ports.router.read("s").stable.digest == NEW
    service = world.ports.services.load("s")
    assert (service.stable.digest, service.previous.digest, service.candidate) == (NEW, OLD, None)
    assert world.ports.registry.names == {"champion": 2, "previous-champion": 1}
    assert world.release.label == ""


def test_a_look_records_what_the_shadow_saw():
    """Beside the verdict, which does not know of it."""
    world = World()
    world.look_until(Phase.CANARY)
    split, at_s = world.ports.router.read("s"), world.wall_s
    seen = Shadowed(ArmCounts(4, 1), same=2, other=1, failed=1)
    arms = ArmCounts(90), ArmCounts(10)
    stratum = Stratum(world.interval, "boot", at_s, at_s + 1, 10.0, *arms, generation=split.generation, shadow=seen)
    world.ports.metrics.add("s", stratum)
    world.release, world.watch = look(world.controller(), world.release, world.watch)
    looked = world.release.last("looked").data
    assert (looked["shadow"]["asked"], looked["shadow"]["errors"], looked["shadow"]["agreeing"]) == (4, 1, 2 / 3)
    assert "shadow" not in looked["verdict"]
    assert replay(SPEC.rollout, world.release).shadow == world.watch.shadow


def test_a_bad_canary_goes_home_and_is_quarantined():
    """Errors at the canary alone send it home, and its files are not released again."""
    world = World()
    world.look_until(Phase.ROLLED_BACK, errors=3)
    assert world.share == 0
    assert world.release.convicted
    assert "errors" in world.release.reason
    assert "sha256:src" in world.ports.services.load("s").quarantined
    assert world.ports.registry.names == {"champion": 1}


def test_intent_is_recorded_before_a_share_is_raised():
    """Where the ledger cannot be written, no user meets the candidate."""
    world = World()
    world.ports.ledger.chains["r1"] += (world.release.record(1.0, "noted").events[-1],)
    with pytest.raises(StaleWriter):
        world.look()
    assert world.share == 0


def test_a_share_is_lowered_before_it_is_recorded():
    """Where the ledger cannot be written, traffic still goes home."""
    world = World()
    world.look_until(Phase.CANARY)
    world.ports.inbox.send(Command("c", "r1", "abort", "ada"))
    world.ports.ledger.chains["r1"] += (world.release.record(1.0, "noted").events[-1],)
    with pytest.raises(StaleWriter):
        world.look()
    assert world.share == 0


def test_a_crashed_canary_goes_home_without_statistics():
    """One exit is enough."""
    world = World()
    world.look_until(Phase.CANARY)
    unit = next(u for u in world.ports.runtime.units("s") if u.digest == NEW)
    world.ports.runtime.crash(unit.name)
    world.look()
    assert (world.release.phase, world.share) == (Phase.ROLLED_BACK, 0)
    assert "exited" in world.release.reason


def test_a_canary_that_hangs_goes_home():
    """Its process lives and answers nothing: asked twice, although nothing else went wrong."""
    world = World()
    world.look_until(Phase.CANARY)
    unit = next(u for u in world.ports.runtime.units("s") if u.digest == NEW)
    world.ports.runtime.set(unit.name, UnitStatus("starting", reason="not ready yet"))
    world.look()
    assert world.release.phase is Phase.CANARY
    world.look()
    assert (world.release.phase, world.share) == (Phase.ROLLED_BACK, 0)
    assert "not ready" in world.release.convicted


def test_a_canary_that_hung_until_its_lease_ended_is_no_interruption():
    """Probes of a hung server take their time, so that a short lease may end between two looks."""
    world = World()
    world.look_until(Phase.CANARY)
    unit = next(u for u in world.ports.runtime.units("s") if u.digest == NEW)
    world.ports.runtime.set(unit.name, UnitStatus("starting", reason="not ready yet"))
    world.look()
    world.ports.router.advance(1e6)
    world.look()
    assert (world.release.phase, world.share) == (Phase.ROLLED_BACK, 0)


def test_one_missed_probe_is_forgiven():
    """On a busy machine; the share goes on being renewed afterwards."""
    world = World()
    world.look_until(Phase.CANARY)
    unit = next(u for u in world.ports.runtime.units("s") if u.digest == NEW)
    world.ports.runtime.set(unit.name, UnitStatus("starting", reason="not ready yet"))
    world.look()
    world.ports.runtime.set(unit.name, UnitStatus("ready", "http://127.0.0.1:1"))
    world.look_until(Phase.PROMOTED)
    assert world.release.last("interrupted") is None


def test_an_interrupted_canary_that_starts_is_waited_for():
    """`down` or a reboot took everything away: until its server is ready it gets no user, and nobody is accused."""
    world = World()
    world.look_until(Phase.BAKING)
    world.ports.router.advance(1e6)
    unit = next(u for u in world.ports.runtime.units("s") if u.digest == NEW)
    world.ports.runtime.set(unit.name, UnitStatus("starting"))
    for _ in range(5):
        world.look()
        assert (world.release.phase, world.share) == (Phase.BAKING, 0)
    world.ports.runtime.set(unit.name, UnitStatus("ready", "http://127.0.0.1:1"))
    world.look_until(Phase.PROMOTED)
    assert world.release.last("interrupted") is not None


def test_an_interrupted_canary_that_fails_goes_home():
    """Failing is not starting."""
    world = World()
    world.look_until(Phase.BAKING)
    world.ports.router.advance(1e6)
    unit = next(u for u in world.ports.runtime.units("s") if u.digest == NEW)
    world.ports.runtime.set(unit.name, UnitStatus("failed", reason="exit code 3"))
    world.look()
    assert (world.release.phase, "exit code 3" in world.release.reason) == (Phase.ROLLED_BACK, True)


def test_a_lost_lease_begins_again_and_accuses_nobody():
    """Nobody renewed: the router went home, the release is interrupted and goes on from its first step."""
    world = World()
    world.look_until(Phase.BAKING)
    world.wall_s += 60
    world.ports.router.advance(60)
    assert world.share == 0
    world.look()
    assert (world.release.phase, world.share) == (Phase.CANARY, 10)
    assert world.release.last("interrupted") is not None
    assert not world.release.convicted
    world.look_until(Phase.PROMOTED)


def test_an_intended_share_that_is_seen_is_adopted():
    """A controller that died between the router's write and the record is no interruption."""
    world = World()
    before = world.release
    world.look()
    chain = world.ports.ledger.chains["r1"]
    exposing = next(i for i, e in enumerate(chain) if e.kind == "exposing")
    world.ports.ledger.chains["r1"] = chain[: exposing + 1]
    world.release = world.ports.ledger.load("r1")
    assert world.release.phase is before.phase
    world.look()
    assert (world.release.phase, world.share) == (Phase.CANARY, 10)
    assert world.release.last("exposed").data["adopted"] is True


def test_a_stale_controller_cannot_write():
    """A later lock holder has written: the old controller is told so, and changes nothing."""
    world = World()
    world.look_until(Phase.CANARY)
    stale = world.token
    world.ports.lock.release(stale)
    world.token = world.ports.lock.acquire("s", "other", 1e6, world.now())
    world.look()
    shown = world.ports.router.read("s")
    with pytest.raises(StaleWriter):
        look(world.controller(token=stale), world.release, world.watch)
    assert world.ports.router.read("s") == shown


def test_an_alias_that_somebody_moved_undoes_the_promotion():
    """The alias is checked last; both values are named, and the old version serves again."""
    world = World()
    world.look_until(Phase.BAKING)
    world.ports.registry.names["champion"] = 7
    world.look_until(Phase.ROLLED_BACK)
    assert world.ports.router.read("s").stable.digest == OLD
    assert world.ports.services.load("s").stable.digest == OLD
    assert "7" in world.release.reason


def test_a_registry_that_is_down_delays_the_alias_only():
    """Traffic and record are promoted; the alias is owed, and follows when the registry is back."""
    world = World()
    world.look_until(Phase.BAKING)
    world.ports.registry.down = True
    world.look_until(Phase.PROMOTED)
    assert (world.release.alias, world.ports.registry.names) == ("owed", {"champion": 1})
    assert world.ports.router.read("s").stable.digest == NEW
    world.ports.registry.down = False
    service = world.ports.services.load("s")
    late = Now(world.wall_s + 60, world.now().mono_s)
    pay_debts(world.ports, service, late)
    assert world.ports.registry.names == {"champion": 2, "previous-champion": 1}
    assert world.ports.ledger.load("r1").alias == "set"
    assert world.ports.services.load("s").owed == ()


def test_a_promotion_that_died_before_the_router_goes_home():
    """The router's stable decides: it still shows the old version."""
    world = World()
    world.look_until(Phase.BAKING)
    before = world.release
    world.release = before.enter(Phase.PROMOTING, world.wall_s, why="x")
    world.ports.ledger.save(world.release, before.version)
    world.look()
    assert (world.release.phase, world.share) == (Phase.ROLLED_BACK, 0)
    assert world.ports.router.read("s").stable.digest == OLD


def test_a_resumed_judge_equals_the_uninterrupted_one():
    """The watch is rebuilt from the record."""
    world = World()
    world.look_until(Phase.BAKING)
    again = replay(SPEC.rollout, world.ports.ledger.load("r1"))
    assert again.judge == world.watch.judge
    assert (again.boot, again.step_requests) == (world.watch.boot, world.watch.step_requests)


def test_a_source_that_goes_silent_sends_home_unaccused(monkeypatch):
    """The lease is renewed meanwhile; after its patience the release is held, and its bytes are not convicted."""

    def down(*_):
        raise DependencyDown("no metrics", code="E_METRICS")

    world = World()
    world.look_until(Phase.CANARY)
    monkeypatch.setattr(world.ports.metrics, "measure", down)
    began_s = world.wall_s
    while not world.release.is_ended:
        world.look()
        assert world.share in {10.0, 0}
    assert (world.release.phase, world.share) == (Phase.HELD, 0)
    assert PATIENCE_S < world.wall_s - began_s - SPEC.serve.timeout_s < PATIENCE_S + 3
    assert world.ports.services.load("s").quarantined == {}


def test_a_command_that_cannot_be_read_does_not_stop_a_look(monkeypatch):
    """A database that is locked keeps nobody at a bad canary."""

    def locked(_):
        raise DependencyDown("locked", code="E_LEDGER_IO")

    world = World()
    world.look_until(Phase.CANARY)
    monkeypatch.setattr(world.ports.inbox, "pending", locked)
    for _ in range(10):
        if not world.release.is_ended:
            world.look(errors=100)
    assert (world.release.phase, world.share) == (Phase.ROLLED_BACK, 0)


def test_an_abort_waits_for_a_dead_stable():
    """Its users stay where they are answered; once stable is back, the word is obeyed."""
    world = World()
    world.look_until(Phase.CANARY)
    world.look()
    stable = server_units(world.ports.services.load("s"), Deployment(OLD, "/b", "m", 1, "r0"))[0]
    alive = world.ports.runtime.status(stable.name)
    world.ports.runtime.fail(stable.name, "exited")
    world.ports.inbox.send(Command("c", "r1", "abort", "ada"))
    world.look()
    assert (world.release.phase, world.ports.router.read("s").canary_pct) == (Phase.CANARY, 10.0)
    world.ports.runtime.set(stable.name, alive)
    world.look()
    assert (world.release.phase, world.ports.router.read("s").canary) == (Phase.ABORTED, None)
    assert world.ports.inbox.pending("r1") == ()


def test_an_abort_outlives_the_controller_that_died_of_obeying_it():
    """It is answered when its end is recorded, not before: whoever takes over obeys it again."""
    world = World()
    world.look_until(Phase.CANARY)
    world.ports.inbox.send(Command("c", "r1", "abort", "ada"))
    save = world.ports.ledger.save

    def dies_at_the_end(release, expected):
        if release.is_ended:
            raise KeyboardInterrupt
        save(release, expected)

    world.ports.ledger.save = dies_at_the_end
    with pytest.raises(KeyboardInterrupt):
        world.look()
    world.ports.ledger.save = save
    world.release = world.ports.ledger.load("r1")
    world.look()
    assert world.release.phase is Phase.ABORTED
    assert [e.data["verb"] for e in world.release.of_kind("commanded")] == ["abort"]
    assert world.ports.inbox.pending("r1") == ()


def test_an_abort_is_heard_before_an_older_promote():
    """Two words wait: the one that sends home is obeyed."""
    world = World()
    world.look_until(Phase.CANARY)
    for verb in ("promote", "abort"):
        world.ports.inbox.send(Command(verb, "r1", verb, "ada"))
    world.look()
    assert (world.release.phase, world.share) == (Phase.ABORTED, 0)


def test_an_approval_that_is_heard_twice_approves_one_step():
    """A controller died between the record and the answer."""
    world = World()
    world.look_until(Phase.CANARY)
    word = Command("c", "r1", "approve", "ada", about="step 2")
    said = record_command(world.release, word, world.now())
    assert record_command(replace(said, step=said.step + 1), word, world.now()).approved == {1}


def test_pause_holds_the_share_and_resume_lets_it_go_on():
    """A pause keeps renewing the lease; it does not move."""
    world = World()
    world.look_until(Phase.CANARY)
    world.ports.inbox.send(Command("p", "r1", "pause", "ada"))
    for _ in range(30):
        world.look()
    assert (world.release.phase, world.share) == (Phase.CANARY, 10)
    world.ports.inbox.send(Command("q", "r1", "resume", "ada"))
    world.look_until(Phase.PROMOTED)


@pytest.mark.parametrize("lost", range(1, 12))
def test_evidence_is_recorded_once_where_an_answer_is_lost(lost):
    """The ledger wrote, and the controller did not hear it: no stratum is judged twice, and it can be resumed."""
    world, saves = World(), {"n": 0}
    save = world.ports.ledger.save

    def forgetful(release, expected):
        save(release, expected)
        saves["n"] += 1
        if saves["n"] == lost:
            raise DependencyDown("no answer", code="E_LEDGER_IO")

    world.ports.ledger.save = forgetful
    ended = drive(world.controller(), world.release, world.sleep, leave=frozenset())
    assert ended.phase is Phase.PROMOTED
    intervals = [s["interval"] for e in ended.of_kind("looked") for s in e.data["strata"]]
    assert intervals == sorted(set(intervals))
    replay(SPEC.rollout, ended)


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_jump_of_the_wall_clock_changes_no_duration(jump_s):
    """NTP or a person sets the clock by an hour: steps, bake and deadline take as long as planned."""
    world, began_s = World(), 1000.0
    jumped = {"s": 0.0}

    def jumping() -> Now:
        if world.wall_s > began_s + 3:
            jumped["s"] = jump_s
        return Now(world.wall_s + jumped["s"], world.wall_s)

    ended = drive(world.controller(clock=jumping), world.release, world.sleep, leave=frozenset())
    assert ended.phase is Phase.PROMOTED
    assert 20 <= world.wall_s - began_s <= 30
    assert 20 <= ended.ended_at_s - began_s <= 30


def test_a_clock_that_went_back_between_two_controllers_holds_nobody_up():
    """Who takes over counts on from the record."""
    world = World()
    world.look_until(Phase.CANARY)
    began_s = world.wall_s
    clock = lambda: Now(world.wall_s - 3600.0, world.wall_s)  # noqa: E731
    ended = drive(world.controller(clock=clock), world.release, world.sleep, leave=frozenset())
    assert (ended.phase, world.wall_s - began_s <= 30) == (Phase.PROMOTED, True)


def no_metrics(world: World) -> None:
    """From now on the metrics source does not answer."""

    def away(*_):
        raise DependencyDown("connection refused", code="E_METRICS")

    world.ports.metrics.measure = away


def test_metrics_that_are_away_hold_the_share_until_the_deadline():
    """The lease is renewed, nothing is raised, and nobody is accused."""
    world = World()
    world.look_until(Phase.CANARY)
    no_metrics(world)
    for _ in range(60):
        world.look()
    assert (world.release.phase, world.share) == (Phase.CANARY, 10)
    world.wall_s += SPEC.rollout.deadline_s
    world.look()
    assert (world.release.phase, world.share, world.release.convicted) == (Phase.HELD, 0, "")


@pytest.mark.parametrize("verb", ["abort", "rollback"])
def test_going_home_needs_no_metrics(verb):
    """A person's word is obeyed while the metrics source is away."""
    world = World()
    world.look_until(Phase.CANARY)
    no_metrics(world)
    world.ports.inbox.send(Command("c", "r1", verb, "ada"))
    world.look()
    assert (world.release.is_ended, world.share) == (True, 0)


def test_drive_waits_for_a_dependency_and_goes_on():
    """A router that does not answer is asked again; then the release goes on to its end."""
    world = World()
    calls = {"n": 0}
    read = world.ports.router.read

    def flaky(service):
        calls["n"] += 1
        if calls["n"] % 5 == 0:
            raise DependencyDown("away", code="E_ROUTER")
        return read(service)

    world.ports.router.read = flaky

    ended = drive(world.controller(), world.release, world.sleep, leave=frozenset())
    assert ended.phase is Phase.PROMOTED


def test_a_shut_out_controller_cannot_move_traffic_after_the_end():
    """It was paused between its intent and the router; the one that took over had nothing to lower, and fences it."""
    world = World()
    world.look_until(Phase.CANARY)
    world.ports.router.advance(60)
    world.wall_s += 60
    seen, paused = world.ports.router.read("s"), world.token
    world.ports.lock.release(paused)
    taker = world.ports.lock.acquire("s", "other", 60, world.now())
    go_home(world.ports, world.release, taker, RollBack("abort by ada", Phase.ABORTED), {}, world.now())
    with pytest.raises(StaleWriter):
        set_share(world.ports, world.release, paused, seen.shared(NEW_ARM, 50.0, 10.0))
    with pytest.raises(StaleWriter):
        make_stable(world.ports, "s", NEW, paused, "r1: promoted")
    assert world.ports.router.read("s").stable.digest == OLD


def test_an_interrupted_promotion_accuses_nobody():
    """Its bytes were proven harmless: they may be released again without a reason."""
    world = World()
    world.look_until(Phase.BAKING)
    before = world.release
    world.release = before.enter(Phase.PROMOTING, world.wall_s, why="x")
    world.ports.ledger.save(world.release, before.version)
    world.look()
    assert (world.release.phase, world.release.convicted) == (Phase.ROLLED_BACK, "")
    assert not world.ports.services.load("s").quarantined


def test_a_promotion_taken_back_halfway_is_taken_back_in_every_record():
    """The router shows the old stable already, the service's record does not: a kill between the two."""
    world = World()
    world.look_until(Phase.BAKING)
    before = world.release
    world.release = before.enter(Phase.PROMOTING, world.wall_s, why="x")
    world.ports.ledger.save(world.release, before.version)
    make_stable(world.ports, "s", NEW, world.token, "promoted")
    relabel(world.ports, world.release, NEW, world.wall_s)
    make_stable(world.ports, "s", OLD, world.token, "taken back")
    world.look()
    assert world.release.phase is Phase.ROLLED_BACK
    assert world.ports.services.load("s").stable.digest == OLD


def test_a_first_release_that_is_taken_back_leaves_nobody_serving():
    """There is no old stable: the gateway answers 503, as before, and not with what was rolled back."""
    world = World()
    first = replace(world.release, champion=None)
    split = make_stable(world.ports, "s", NEW, world.token, "first")
    assert split.stable.digest == NEW
    first = first.enter(Phase.PROMOTING, world.wall_s, why="x")
    world.ports.ledger.chains["r1"] = first.events
    ended = take_back(world.ports, first, world.token, "the alias moved", world.now())
    assert (ended.phase, world.ports.router.read("s").stable) == (Phase.ROLLED_BACK, None)
    assert world.ports.services.load("s").stable is None


def test_a_controller_that_never_sees_the_router_ends(monkeypatch):
    """A quarter of an hour without one whole look; the lease has ended long before."""
    world = World()
    world.look_until(Phase.CANARY)

    def gone(_):
        raise DependencyDown("the gateway does not answer", code="E_ROUTER")

    monkeypatch.setattr(world.ports.router, "read", gone)
    began_s = world.wall_s

    def sleep(_: float) -> None:
        world.wall_s += 10.0

    with pytest.raises(DependencyDown, match="gateway"):
        drive(world.controller(), world.release, sleep, leave=frozenset())
    assert TROUBLE_S < world.wall_s - began_s < TROUBLE_S + 30
