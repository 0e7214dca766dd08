"""Does each release of the language model's demo say what the story says of it?"""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.demo.llm.models import MODEL, NAMES
from flows.demo.llm.story import TOLD, asking_less, promised, slowed, usual_spec
from pipelines.spec.spec_file import parse_spec
from pipelines.tasks.generation.generation import TextGeneration


def test_the_spec_is_one_of_a_language_model_and_of_this_service():
    """Goodput is judged by a promise, and nothing is asked that the task does not know."""
    spec = parse_spec(usual_spec())
    TextGeneration().check_spec(spec)
    assert (spec.service, spec.model) == (MODEL, f"models:/{MODEL}/1")
    assert {gate.metric for gate in spec.evaluate.gates} >= {"finished", "exact_match"}
    assert spec.rollout.gates.goodput


def test_every_version_has_its_sentence():
    """In the same order; the last release is the second version with another prompt."""
    names = [name.split(":")[0] for name in NAMES]
    assert ([said.split()[0] for said in TOLD], names) == ([*names, "v2"], ["v1", "v2", "v3", "v4"])


@pytest.mark.parametrize(("usual_ms", "ttft_s"), [(0.2, 0.001), (12.4, 0.019), (640.0, 0.96)])
def test_what_is_promised_was_measured(usual_ms, ttft_s):
    """Half as long again as users wait now: twice as long breaks it. Nothing else is changed."""
    before, after = parse_spec(usual_spec()), parse_spec(promised(usual_spec(), usual_ms))
    assert after.serve.objective.ttft_s == pytest.approx(ttft_s)
    assert usual_ms <= 1000 * ttft_s < max(2 * usual_ms, 1.1)
    assert after.model_copy(update={"serve": before.serve}) == before


def test_a_prompt_that_asks_for_less_is_held_to_its_length_only():
    """Another version of the same prompt, and no gate on answers that nobody expects of it."""
    before, after = (parse_spec(text) for text in (usual_spec(), asking_less(usual_spec())))
    assert (before.prompt.uri, after.prompt.uri) == ("prompts:/iso-form/1", "prompts:/iso-form/2")
    assert ([gate.metric for gate in after.evaluate.gates], after.rollout) == (["finished"], before.rollout)
    assert before.rollout.gates.length


def test_the_fourth_release_differs_in_how_its_engine_is_set():
    """It reads a prompt token by token, and promises the same."""
    before, after = (parse_spec(text) for text in (usual_spec(), slowed(usual_spec())))
    assert after.serve.args == {**before.serve.args, "batch": 1}
    assert after.serve.model_copy(update={"args": before.serve.args}) == before.serve
    assert after.model_copy(update={"serve": before.serve}) == before


def test_it_lives_beside_the_other_demo():
    """Its home is inside the user's, and is none of the folders that a home has."""
    from flows.demo.llm.story import NAME
    from pipelines.home import FOLDERS

    assert NAME not in {*FOLDERS, "demo", "prefect"}
    assert Path(NAME).name == NAME
