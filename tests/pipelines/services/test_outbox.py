"""What does each answer of a registry mean, and when is it asked again?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipelines.adapters.memory.registry import ANSWERS, MemoryRegistry
from pipelines.ports import Now
from pipelines.records.debt import Debt
from pipelines.services.outbox import (
    GIVE_UP_S,
    LONGEST_PAUSE_S,
    Answer,
    Told,
    after_telling,
    answer_of,
    left_untold,
    tell,
    tell_alone,
    with_debts,
)
from tests.faults.world import memory_ports

ALIAS = Debt("r1", "m", 2, alias="champion", expected=(1,))
TAGS = Debt("r1", "m", 2, tags={"shipway.verdict": "promoted"})


@pytest.fixture
def registry(tmp_path) -> MemoryRegistry:
    """Two versions, of which the first is champion."""
    made = MemoryRegistry()
    (tmp_path / "config.json").write_text("{}")
    made.add("m", tmp_path), made.add("m", tmp_path)
    made.mark("m", aliases={"champion": 1})
    return made


@pytest.mark.parametrize(
    ("answer", "means"),
    [
        ("moved", Answer.MOVED),
        ("not_found", Answer.GONE),
        ("refused", Answer.REFUSED),
        ("forbidden", Answer.OWED),
        ("raced", Answer.OWED),
        ("down", Answer.OWED),
        ("newer", Answer.OWED),
    ],
)
def test_each_answer_means_one_thing(answer, means):
    """Four of the seven may be another one tomorrow."""
    assert answer_of(ANSWERS[answer]()) is means


def test_what_is_owed_is_told(registry):
    """An alias and tags, and both are set."""
    told = tell(registry, (ALIAS, TAGS), 10.0)
    assert [t.answer for t in told] == [Answer.SET, Answer.SET]
    found = registry.resolve("models:/m@champion")
    assert (found.version, dict(found.tags)) == (2, {"shipway.verdict": "promoted"})


def test_an_alias_may_be_at_any_of_the_expected_places(registry):
    """Where the release found it, or at what served before, if that was told meanwhile."""
    (told,) = tell(registry, (replace(ALIAS, expected=(None, 1)),), 10.0)
    assert told.answer is Answer.SET
    (told,) = tell(registry, (replace(ALIAS, version=1, expected=(None, 7)),), 10.0)
    assert (told.answer, "version 2" in told.why) == (Answer.MOVED, True)


def test_a_registry_that_hangs_is_asked_once(registry):
    """The rest is owed for the same reason, without another time-out."""
    asked = []
    registry.answers["mark"] = lambda: asked.append(1) or ANSWERS["down"]()
    told = tell(registry, (ALIAS, TAGS, replace(TAGS, version=1)), 10.0)
    assert ([t.answer for t in told], len(asked)) == ([Answer.OWED] * 3, 1)


def test_it_is_asked_again_later_and_later_and_not_for_ever(registry):
    """From seconds to minutes, for a day."""
    registry.answers["mark"] = ANSWERS["down"]
    debt, now_s, pauses = ALIAS, 100.0, []
    while True:
        (told,) = tell(registry, (debt,), now_s)
        if told.answer is not Answer.OWED:
            break
        debt = told.debt
        pauses.append(debt.next_s - now_s)
        now_s = debt.next_s
    assert pauses[:3] == [5.0, 10.0, 20.0]
    assert max(pauses) == LONGEST_PAUSE_S
    assert (told.answer, GIVE_UP_S < now_s - 100.0 < GIVE_UP_S + 2 * LONGEST_PAUSE_S) == (Answer.GIVEN_UP, True)
    assert left_untold([told]) == ["m@champion → 2: given up (MLflow does not answer)"]


def test_a_newer_debt_takes_the_place_of_an_older_one():
    """About the same alias, or the tags of the same version."""
    newer = replace(ALIAS, release_id="r2", version=3)
    assert with_debts((ALIAS, TAGS), (newer,)) == (TAGS, newer)


def test_what_was_told_is_not_owed_any_more():
    """Only a debt of the same release: another one's has taken its place meanwhile."""
    told = (Told(ALIAS, Answer.SET), Told(TAGS, Answer.OWED))
    assert after_telling((ALIAS, TAGS), told) == (TAGS,)
    newer = replace(ALIAS, release_id="r2", version=3)
    assert after_telling((newer,), told) == (newer,)


def test_a_debt_survives_json():
    """As it lies in the service's record."""
    assert Debt.from_dict(json.loads(json.dumps(ALIAS.as_dict()))) == ALIAS
    assert Debt.from_dict(json.loads(json.dumps(TAGS.as_dict()))) == TAGS


def test_two_never_tell_at_once(registry):
    """Who comes second owes it; the service's own lock is not touched."""
    ports = replace(memory_ports(), registry=registry)
    ports.lock.acquire("s@registry", "another", 60.0, Now(0.0, 0.0))
    (told,) = tell_alone(ports, "s", (ALIAS,), Now(1.0, 1.0))
    assert (told.answer, told.why) == (Answer.OWED, "another one tells the registry now")
    (told,) = tell_alone(ports, "s", (ALIAS,), Now(61.0, 61.0))
    assert (told.answer, ports.lock.holder("s", Now(61.0, 61.0))) == (Answer.SET, None)
