"""Are the rows of the language model's demo apart from each other, the same every time, and read by everybody?"""

from __future__ import annotations

import json

import pytest

from flows.demo.llm.data import EARLIER, EVALUATION, PRODUCTION, TRAIN, make_exercises, write_files
from flows.demo.llm.wordings import KINDS
from flows.demo.posting import read_posts
from pipelines.spec.spec_file import parse_spec
from pipelines.tasks.generation.rows import read_prompts

PLAN = """\
model: models:/m/1
service: s
evaluate: {data: evaluation.jsonl, slices: [kind], gates: [{metric: exact_match, min: 0.5}]}
serve: {api: openai}
"""


@pytest.fixture(scope="module")
def exercises():
    """The demo's exercises."""
    return make_exercises()


@pytest.fixture(scope="module")
def folder(exercises, tmp_path_factory):
    """The folder with the files that the demo's release and its client read."""
    made = tmp_path_factory.mktemp("demo")
    write_files(exercises, made)
    return made


def test_they_are_the_same_every_time(exercises):
    """So are the models that learn from them, on the same machine."""
    assert make_exercises() == exercises


def test_the_parts_share_no_message(exercises):
    """What is evaluated was never learnt, and what users send was never seen."""
    parts = [{one.text for one in part} for part in (exercises.train, exercises.evaluation, exercises.production)]
    assert [len(part) for part in parts] == [TRAIN, EVALUATION, PRODUCTION]
    assert len(set.union(*parts)) == TRAIN + EVALUATION + PRODUCTION


def test_each_kind_is_as_frequent_in_every_part(exercises):
    """A slice for each kind has rows enough to be judged."""
    for part in (exercises.train, exercises.evaluation, exercises.production):
        assert {kind: sum(one.kind == kind for one in part) for kind in KINDS} == dict.fromkeys(
            KINDS, len(part) // len(KINDS)
        )


def test_the_evaluation_is_read_by_the_task_that_judges_it(exercises, folder):
    """Conversations that end with the question, its answer as the reference, and its kind as a slice."""
    prompts = read_prompts(parse_spec(PLAN).evaluate, folder / "evaluation.jsonl", chats=True)
    assert prompts.doubts == ()
    assert prompts.columns["kind"] == tuple(one.kind for one in exercises.evaluation)
    assert [row.references for row in prompts.rows] == [(one.answer,) for one in exercises.evaluation]
    assert [row.asked[-1]["content"] for row in prompts.rows] == [one.text for one in exercises.evaluation]


def test_earlier_questions_were_answered_right_and_were_learnt(exercises, folder):
    """Turns by turns, and no instruction: that is the service's own; no question is given away in another row."""
    right = {one.text: one.answer for one in exercises.train}
    for line in (folder / "evaluation.jsonl").read_text().splitlines():
        *turns, last = json.loads(line)["messages"]
        assert last["role"] == "user"
        pairs = list(zip(turns[::2], turns[1::2], strict=True))
        assert EARLIER[0] <= len(pairs) <= EARLIER[1]
        assert all(right[asked["content"]] == answer["content"] for asked, answer in pairs)


def test_production_is_asked_as_a_stream(exercises, folder):
    """By the client of the demo, greedily, and no conversation twice."""
    posts = read_posts(folder / "production.jsonl", "iso-writer")
    assert {post.path for post in posts} == {"/v1/chat/completions"}
    assert {post.body["temperature"] for post in posts} == {0}
    assert [post.body["messages"][-1]["content"] for post in posts] == [one.text for one in exercises.production]
