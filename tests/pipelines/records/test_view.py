"""Does a person read in one sentence why a release waits, advanced, was promoted or went home?"""

from __future__ import annotations

import pytest

from pipelines.ports import Command
from pipelines.records.release import ENDS, MOVES, Phase, Release
from pipelines.records.view import answer, last_word, release_view, why
from tests.pipelines.rollout.test_look import World


def test_a_canary_says_why_it_advanced_and_then_why_it_waits():
    """The last look's words, once there is one in this step."""
    world = World()
    world.look()
    assert why(world.release) == "advanced to 10 %: the first users"
    world.look()
    assert why(world.release).startswith("waits at 10 %: ")
    world.look_until(Phase.BAKING)
    assert why(world.release).startswith("advanced to 90 %, its bake: ")


def test_a_paused_canary_says_that_a_person_wanted_it():
    """Until somebody lets it go on."""
    world = World()
    world.look()
    for verb, said in (("pause", "paused at 10 % by me"), ("resume", "waits at 10 %: ")):
        world.ports.inbox.send(Command(verb, "r1", verb, "me", ""))
        world.look()
        assert why(world.release).startswith(said)


@pytest.mark.parametrize(
    ("verb", "said"), [("pause", "paused at 10 % by me: lunch"), ("resume", "resumed at 10 % by me: lunch")]
)
def test_a_word_that_was_obeyed_is_answered_with_its_reason(verb, said):
    """Not with what was said when the step began."""
    world = World()
    world.look()
    world.ports.inbox.send(Command(verb, "r1", verb, "me", "lunch"))
    world.look()
    assert answer(world.release) == said


@pytest.mark.parametrize("verb", ["pause", "resume", "approve", "abort", "rollback", "promote"])
def test_a_persons_reason_is_in_the_view_and_in_the_answer(verb):
    """Whatever the word was, and whatever became of it."""
    world = World()
    world.look()
    world.ports.inbox.send(Command(verb, "r1", verb, "me", "lunch"))
    world.look()
    assert release_view(world.release)["said"] == f"{verb} by me: lunch"
    assert "by me: lunch" in answer(world.release)


def test_a_reason_outlives_the_next_look():
    """Who let a release go on is known while it goes on."""
    world = World()
    world.look()
    world.ports.inbox.send(Command("c", "r1", "resume", "me", "lunch is over"))
    world.look()
    world.look()
    assert why(world.release).startswith("waits at 10 %: ")
    assert last_word(world.release) == "resume by me: lunch is over"


def test_the_pages_of_an_evaluation_are_named():
    """Of each judged model, whether it passed or not; a record without any says nothing of them."""
    release = Release().record(1.0, "opened", id="r", service="s", spec={}, spec_digest="d")
    assert "differences" not in release_view(release)
    page = {"page": "pages/r/candidate.html", "rows": 2, "of": 5}
    release = release.record(2.0, "judged", step="evaluate", differences=page)
    assert release_view(release)["differences"] == [page]


def test_an_end_is_its_own_answer():
    """The sentence that the record ends with."""
    world = World()
    world.look()
    world.ports.inbox.send(Command("c", "r1", "abort", "me", "lunch"))
    world.look()
    assert answer(world.release) == "abort by me: lunch"


def test_a_promoted_release_says_what_was_proven():
    """With the counts."""
    world = World()
    world.look_until(Phase.PROMOTED)
    assert why(world.release).startswith("canary 0 of ")


def test_a_release_that_went_home_says_what_was_wrong():
    """With the counts of both arms."""
    world = World()
    world.look()
    world.look_until(Phase.ROLLED_BACK, errors=10)
    assert why(world.release).startswith("errors: canary ")


def test_an_abort_names_who_wanted_it():
    """And why."""
    world = World()
    world.look()
    world.ports.inbox.send(Command("c", "r1", "abort", "me", "lunch"))
    world.look()
    assert why(world.release) == "abort by me: lunch"


@pytest.mark.parametrize("phase", [p for p in Phase if p not in ENDS])
def test_every_phase_has_a_sentence(phase):
    """Also where nothing was said when it was entered."""
    release = Release().record(0.0, "opened", id="r", service="s", spec={}, spec_digest="")
    for step in path_to(phase):
        release = release.enter(step, 1.0)
    assert why(release)


def path_to(phase: Phase) -> list[Phase]:
    """The moves from the beginning to a phase, one of the shortest."""
    paths: dict[Phase, list[Phase]] = {Phase.OPEN: []}
    for _ in Phase:
        for known, path in list(paths.items()):
            for move in MOVES[known]:
                paths.setdefault(move, [*path, move])
    return paths[phase]
