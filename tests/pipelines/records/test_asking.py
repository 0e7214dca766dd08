"""Does an approval approve exactly what it named?"""

from __future__ import annotations

import pytest

from pipelines.errors import BadInput
from pipelines.ports import Command
from pipelines.records.asking import Asked, answered
from pipelines.records.release import Phase, Release
from pipelines.rollout.watch import replay
from pipelines.rollout.words import record_command
from pipelines.services.units import server_units
from pipelines.spec.rollout import StepSpec
from tests.pipelines.rollout.test_look import NEW, SPEC, World

MARKED = SPEC.model_copy(
    update={
        "rollout": SPEC.rollout.model_copy(
            update={"steps": (StepSpec(pct=10, approve=True), StepSpec(pct=50, approve=True)), "ask_timeout_s": 60.0}
        )
    }
)
STEP, DRIFT = Asked("step", 1), Asked("drift", 1)


def approve(world: World, about: str, name: str = "") -> None:
    """A person approves it, and the controller hears of it."""
    world.ports.inbox.send(Command(name or about, "r1", "approve", "ada", about=about))
    world.look()


def waiting(world: World, asks: Asked) -> World:
    """The world once the release waits for this."""
    for _ in range(30):
        if world.release.asks == asks:
            return world
        world.look()
    pytest.fail(f"it waits for {world.release.asks}")


@pytest.mark.parametrize("asked", [STEP, DRIFT, Asked("step", 0)], ids=str)
def test_a_question_is_found_by_its_name_and_in_the_record(asked):
    """Both ways there and back."""
    assert (Asked.named(str(asked)), Asked.of(asked.as_dict())) == (asked, asked)


@pytest.mark.parametrize("name", ["", "step", "step 0", "step -1", "step 2 ", "drift", "drift in step", "step 1e3"])
def test_what_is_no_question_approves_nothing(name):
    """Of a program that writes such a word."""
    assert Asked.named(name) is None


def test_a_record_of_before_names_a_step():
    """`approved` had a number only."""
    assert Asked.of({"step": 1}) == STEP
    assert Asked.of(None) is None


@pytest.mark.parametrize(
    ("asks", "step", "drift", "expected"),
    [(STEP, None, False, STEP), (STEP, 2, False, STEP), (DRIFT, None, False, DRIFT), (DRIFT, None, True, DRIFT)],
)
def test_what_is_asked_is_answered(asks, step, drift, expected):
    """Named or not."""
    assert answered("r1", asks, step, "", drift=drift) == expected


@pytest.mark.parametrize(
    ("asks", "step", "drift", "said"),
    [
        (None, None, False, "r1 does not wait for an approval: it bakes"),
        (None, 2, False, "r1 does not wait for an approval: it bakes"),
        (STEP, 1, False, "the approval of step 1"),
        (STEP, None, True, "the approval of drift"),
        (DRIFT, 2, False, "the approval of step 2"),
    ],
)
def test_what_is_not_asked_is_not_approved(asks, step, drift, said):
    """It says what is waited for."""
    with pytest.raises(BadInput, match=said) as caught:
        answered("r1", asks, step, "it bakes", drift=drift)
    assert caught.value.code == "E_NOT_ASKED"
    assert asks is None or str(asks) in caught.value.expected


def test_one_word_does_not_approve_both():
    """A step and a drift."""
    with pytest.raises(BadInput, match="a word each"):
        answered("r1", STEP, 2, "", drift=True)


def test_no_user_meets_the_canary_before_the_first_step_is_approved():
    """The question is recorded once, however long it waits; each step is approved by a word of its own."""
    world = waiting(World(MARKED), Asked("step", 0))
    for _ in range(20):
        world.look()
    assert (world.release.phase, world.share, len(world.release.of_kind("looked"))) == (Phase.QUALIFIED, 0, 1)
    approve(world, "step 1")
    assert (world.share, world.release.asks) == (0, None)
    world.look()
    assert world.share == 10
    waiting(world, STEP)
    approve(world, "step 2")
    world.look_until(Phase.PROMOTED)
    assert [e.data for e in world.release.of_kind("approved")] == [
        {"what": "step", "step": 0},
        {"what": "step", "step": 1},
    ]
    assert Release.fold(world.release.events) == world.release


def test_nobody_who_approves_the_first_step_is_waited_for_for_ever():
    """Held, with a clear sentence, and no user met it."""
    world = World(MARKED)
    world.look_until(Phase.HELD)
    assert world.release.reason == "nobody approved step 1 within 60 s"
    assert (world.share, world.release.of_kind("exposed"), world.release.convicted) == (0, (), "")


@pytest.mark.parametrize("phase", [Phase.CANARY, Phase.BAKING])
def test_an_interruption_asks_again_at_every_marked_step(phase):
    """What was approved before is not approved any more: the first step, then the second."""
    world = World(MARKED)
    for number, asked in enumerate((Asked("step", 0), STEP)[: 1 if phase is Phase.CANARY else 2]):
        approve(waiting(world, asked), str(asked), f"before {number}")
    world.look_until(phase)
    world.ports.router.advance(1e6)
    for _ in range(3):
        world.look()
        assert (world.share, world.release.asks, world.release.approved) == (0, Asked("step", 0), frozenset())
    assert len(world.release.of_kind("interrupted")) == 1
    for number, asked in enumerate((Asked("step", 0), STEP)):
        approve(waiting(world, asked), str(asked), f"after {number}")
    world.look_until(Phase.PROMOTED)
    assert replay(MARKED.rollout, world.release).judge == world.watch.judge
    assert not world.release.convicted


def test_a_word_that_came_with_the_interruption_was_for_the_exposure_before_it():
    """The person approved the second step while the first one had its users."""
    world = waiting(World(MARKED), Asked("step", 0))
    approve(world, "step 1")
    waiting(world, STEP)
    world.ports.router.advance(1e6)
    approve(world, "step 2")
    assert (world.release.asks, world.release.approved) == (Asked("step", 0), frozenset())
    assert world.ports.inbox.pending("r1") == ()


def test_a_word_that_came_with_an_unmarked_restart_was_for_the_exposure_before_it():
    """The first step is not marked, so the restart asks nobody; the second one asks again."""
    steps = (StepSpec(pct=10), StepSpec(pct=50, approve=True))
    world = World(SPEC.model_copy(update={"rollout": SPEC.rollout.model_copy(update={"steps": steps})}))
    waiting(world, STEP)
    world.ports.router.advance(1e6)
    approve(world, "step 2")
    assert (world.share, world.release.approved) == (10, frozenset())
    waiting(world, STEP)
    assert world.ports.inbox.pending("r1") == ()


def test_a_canary_that_is_started_again_while_it_waits_is_not_accused():
    """`down` and `up` in the hours in which nobody answered; it meets nobody before it is ready, approved or not."""
    from pipelines.records.unit import UnitStatus

    world = waiting(World(MARKED), Asked("step", 0))
    service = world.ports.services.load("s")
    (unit,) = (u for u in server_units(service, service.candidate) if u.digest == NEW)
    world.ports.runtime.set(unit.name, UnitStatus("starting"))
    approve(world, "step 1")
    for _ in range(3):
        world.look()
        assert (world.release.phase, world.share) == (Phase.QUALIFIED, 0)
    world.ports.runtime.set(unit.name, UnitStatus("ready", "http://127.0.0.1:1"))
    world.look()
    assert world.share == 10


def test_a_word_approves_what_it_named_although_the_release_moved_on():
    """It is recorded, and opens no other step."""
    world = waiting(World(MARKED), Asked("step", 0))
    approve(world, "step 1")
    waiting(world, STEP)
    for about in ("step 1", "drift in step 1", "drift in step 2"):
        approve(world, about, f"late {about}")
    assert (world.share, world.release.asks) == (10, STEP)
    assert world.release.approved == {0}


@pytest.mark.parametrize(("asks", "approved"), [(True, {0}), (False, set())])
def test_a_word_of_an_older_program_approves_what_is_asked(asks, approved):
    """It names nothing; where nothing is asked nothing is approved."""
    world = World(MARKED)
    if asks:
        waiting(world, Asked("step", 0))
    said = record_command(world.release, Command("c", "r1", "approve", "ada"), world.now())
    assert said.approved == approved
