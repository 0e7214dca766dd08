"""Recorded requests before the first users: what they decide, what they leave to live ones, what a kill leaves."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evals.signals.replay import Pair
from pipelines.adapters.memory.replays import SAME, MemoryReplays
from pipelines.errors import DependencyDown, LedgerBroken
from pipelines.ports import Command
from pipelines.records.release import Phase, Release
from pipelines.records.unit import UnitStatus
from pipelines.records.view import progress
from pipelines.rollout.look import drive
from pipelines.rollout.recheck import recheck_verdicts
from pipelines.rollout.replay import PART_PAIRS, chosen
from pipelines.rollout.watch import replay
from pipelines.services.units import server_name
from pipelines.spec.release_spec import ReleaseSpec
from tests.pipelines.rollout.test_look import NEW, OLD, World

FAILED = Pair(None, 1.0)


def spec(**rollout) -> ReleaseSpec:
    """A release that replays, with a few settings."""
    settings = {
        "steps": [10, 50],
        "hold": 5,
        "bake": 10,
        "look": 1,
        "lease": 10,
        "warmup": 0,
        "deadline": 60,
        "holdback_pct": 10,
        "replay": {"requests": 120},
        "gates": {"errors": {"margin": 0.1}},
    }
    raw = {
        "model": "models:/m/2",
        "service": "s",
        "serve": {"record": {}},
        "evaluate": {"data": "d.csv", "gates": [{"metric": "accuracy", "min": 0.5}]},
        "rollout": {**settings, **rollout},
    }
    return ReleaseSpec.model_validate_json(json.dumps(raw))


class Replaying(World):
    """A world whose service has recorded requests."""

    def __init__(self, recorded: int = 200, answer=lambda _: SAME, **rollout) -> None:
        self.replays = MemoryReplays({"s": list(range(1, recorded + 1))}, answer)
        super().__init__(spec(**rollout))

    @property
    def ports(self):
        """With what was recorded."""
        return self._ports

    @ports.setter
    def ports(self, ports) -> None:
        self._ports = replace(ports, replays=self.replays)

    def drive(self) -> Release:
        """To the end."""
        self.release = drive(self.controller(), self.release, self.sleep, leave=frozenset())
        return self.release

    def sleep(self, seconds: float) -> None:
        """A second with hardly any traffic: the canary has a request or two in five."""
        if seconds:
            self.second(requests=0 if self.interval % 5 else 10 if self.share <= 10 else 2)


def test_a_good_canary_is_promoted_with_hardly_any_traffic():
    """Pairs prove what a few dozen live requests could not; each step still saw one of them."""
    world = Replaying()
    assert world.drive().phase is Phase.PROMOTED, world.release.reason
    live = world.release.last("looked").data["verdict"]["canary_requests"]
    assert 0 < live < 20
    assert sum(event.data["counts"]["pairs"] for event in world.release.of_kind("replayed")) == 120
    assert [e.data["pct"] for e in world.release.of_kind("exposed")] == [10, 50, 90]
    assert recheck_verdicts(world.release).endswith("looks recomputed")


def test_a_user_who_is_forgotten_while_a_replay_runs_accuses_nobody():
    """His requests make no pair, and are said to be missing; the release ends as ever, and its record holds."""
    world = Replaying(answer=lambda n: SAME if world.replays.kept["s"][150:] == [] else forget())

    def forget():
        del world.replays.kept["s"][150:]
        return SAME

    assert world.drive().phase is Phase.PROMOTED, world.release.reason
    parts = world.release.of_kind("replayed")
    asked, pairs = sum(part.data["asked"] for part in parts), sum(part.data["counts"]["pairs"] for part in parts)
    assert (asked, 80 < pairs < 120) == (120, True)
    assert progress(world.release).endswith(
        f"120 recorded requests were asked of both versions; {120 - pairs} of them were kept no more"
    )
    assert recheck_verdicts(world.release).endswith("looks recomputed")


def test_without_the_replay_so_little_traffic_decides_nothing():
    """The same traffic, alone, ends undecided: it is the replay that decides."""
    world = Replaying(replay=None, min_step_requests=1)
    assert world.drive().phase is Phase.HELD
    assert "undecided at the deadline" in world.release.reason


def test_a_bad_canary_goes_home_before_it_met_anybody():
    """Rejected at the first part; no user had it, and no share was ever asked for."""
    world = Replaying(answer=lambda _: FAILED)
    assert world.drive().phase is Phase.REJECTED
    assert "50 failed at the canary alone" in world.release.reason
    assert world.release.of_kind("exposing") == ()
    assert recheck_verdicts(world.release) == "1 looks recomputed"


def test_what_is_asked_and_how_it_counts_is_recorded_before():
    """The declaration and the choice come first; each request is asked once, in the recorded order."""
    world = Replaying()
    world.drive()
    kinds = [event.kind for event in world.release.events]
    assert kinds.index("judging") < kinds.index("replaying") < kinds.index("replayed") < kinds.index("exposing")
    begun, declared = world.release.last("replaying"), world.release.last("judging")
    assert begun.data["numbers"] == chosen(tuple(range(1, 201)), 120, begun.data["seed"]) == world.replays.asked
    assert len(set(world.replays.asked)) == 120
    assert declared.data["weights"] == {"live": 0.5, "replayed": 0.5}
    assert len(world.release.of_kind("judging")) == 1


def test_replayed_requests_are_no_live_ones():
    """They are in none of the counts that say what users met."""
    world = Replaying()
    world.look(requests=0)
    assert (world.watch.step_requests, world.watch.judge.canary.requests) == (0, 0)
    assert world.watch.judge.replay.pairs == PART_PAIRS


def test_a_controller_that_is_killed_leaves_its_parts():
    """The next one asks what is left, with the same evidence; at most one part is asked again."""
    world = Replaying()
    world.look()
    world.look()
    found = replay(world.spec.rollout, world.ports.ledger.load("r1"))
    assert found.judge.replay == world.watch.judge.replay
    world.release, world.watch = world.ports.ledger.load("r1"), found
    assert world.drive().phase is Phase.PROMOTED
    assert len(world.replays.asked) == len(set(world.replays.asked)) == 120


def test_a_kill_between_the_answers_and_the_record_asks_a_part_again():
    """What was not recorded is no evidence."""
    world = Replaying()
    world.look()
    before = world.release
    world.look()
    world.ports.ledger.chains["r1"] = before.events
    world.release, world.watch = before, replay(world.spec.rollout, before)
    assert world.drive().phase is Phase.PROMOTED
    assert len(world.replays.asked) == 120 + PART_PAIRS
    assert sum(event.data["counts"]["pairs"] for event in world.release.of_kind("replayed")) == 120


def test_a_person_is_heard_between_two_parts():
    """Abort ends a replay like anything else."""
    world = Replaying()
    world.look()
    world.ports.inbox.send(Command("c", "r1", "abort", "ada"))
    assert world.drive().phase is Phase.ABORTED
    assert len(world.replays.asked) < 120


def test_a_pause_asks_nothing():
    """Until it is over."""
    world = Replaying()
    world.ports.inbox.send(Command("c", "r1", "pause", "ada"))
    world.look()
    asked = len(world.replays.asked)
    world.look()
    assert len(world.replays.asked) == asked <= PART_PAIRS


def test_a_stable_that_dies_under_the_replay_clears_nobody():
    """Its failures would speak for the canary: the part is thrown away, and asked again when it is back."""
    world = Replaying()
    unit, ready = server_name("s", OLD, 0), UnitStatus("ready", "http://127.0.0.1:20001", 1, restarts=1)

    def dies(_: int) -> Pair:
        world.ports.runtime.fail(unit, "killed")
        return Pair(1.0, None)

    world.replays.answer = dies
    world.look()
    assert world.watch.judge.replay.pairs == 0
    world.replays.answer = lambda _: SAME
    world.look()
    assert world.watch.judge.replay.pairs == 0
    world.ports.runtime.set(unit, ready)
    assert world.drive().phase is Phase.PROMOTED
    assert world.release.last("looked").data["verdict"]["sentence"].count("0 at stable alone") == 1


def test_a_canary_that_dies_under_the_replay_is_rejected():
    """Without statistics."""
    world = Replaying()

    def dies(_: int) -> Pair:
        world.ports.runtime.crash(server_name("s", NEW, 0))
        return FAILED

    world.replays.answer = dies
    assert world.drive().phase is Phase.REJECTED
    assert "cannot serve" in world.release.reason


def test_a_record_that_cannot_be_read_holds_the_release():
    """Nobody is accused, and no user meets a canary that was to be asked before."""
    world = Replaying(deadline=30)

    def torn(_):
        raise DependencyDown("torn", code="E_RECORD")

    world.replays.recorded = torn
    assert world.drive().phase is Phase.HELD
    assert "cannot be read" in world.release.reason
    assert world.release.of_kind("exposing") == ()


def test_a_record_that_is_empty_leaves_all_to_live_traffic():
    """The weights that are declared then are those of live evidence alone."""
    world = Replaying(recorded=0)
    world.look()
    assert world.release.last("judging").data["weights"] == {"live": 1.0}
    assert world.release.phase is Phase.CANARY


def test_requests_that_were_forgotten_meanwhile_are_left_out():
    """The ring went on; the pairs that are left are counted as what they are."""
    world = Replaying()
    world.look()
    world.replays.kept["s"] = list(range(101, 301))
    world.drive()
    pairs = sum(event.data["counts"]["pairs"] for event in world.release.of_kind("replayed"))
    assert pairs == len(world.replays.asked) < 120
    assert sum(event.data["asked"] for event in world.release.of_kind("replayed")) == 120


def test_other_predictions_wait_for_a_person():
    """As a drift on live traffic does."""
    other = Pair(1.0, 1.0, agrees=False, is_class=True)
    world = Replaying(answer=lambda n: other if n % 2 else SAME)
    world.look_until(Phase.CANARY)
    for _ in range(10):
        world.look(requests=10)
    assert (world.release.phase, world.release.step) == (Phase.CANARY, 0)
    assert "got another class" in world.release.last("looked").data["why"]
    assert "shipway approve" in world.release.last("looked").data["why"]


def test_a_record_of_a_replay_that_was_touched_up_does_not_verify():
    """Verdicts are recomputed from pairs, too."""
    world = Replaying(answer=lambda _: FAILED)
    world.drive()
    better = [
        replace(e, data={**e.data, "counts": {**e.data["counts"], "canary_only": 0}}) if e.kind == "replayed" else e
        for e in world.release.events
    ]
    with pytest.raises(LedgerBroken, match="does not follow"):
        recheck_verdicts(replace(world.release, events=tuple(better)))
