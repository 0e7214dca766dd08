"""Does a task of lm-eval become the rows that lm-eval would ask, and is what would be asked otherwise refused?"""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.errors import BadInput
from pipelines.spec.evaluate import EvaluateSpec, GateSpec
from pipelines.tasks.generation.rows import Prompts, Row, read_prompts

DOCS: list[dict[str, Any]] = [
    {"q": "What is 2 + 2?", "opts": ["3", "4"], "gold": 1, "topic": "sums", "a": ["4", "four"]},
    {"q": "Is 7 odd? ", "opts": ["yes", "no"], "gold": 0, "topic": "odd", "a": "yes"},
]
CHOOSES: dict[str, Any] = {
    "task": "sums",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "docs.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "description": "Sums about {{topic}}.\n\n",
    "doc_to_text": "Question: {{q.strip()}}\nAnswer:",
    "doc_to_choice": "opts",
    "doc_to_target": "gold",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}],
}
WRITES: dict[str, Any] = {
    **{name: CHOOSES[name] for name in ("task", "dataset_path", "dataset_kwargs", "test_split")},
    "output_type": "generate_until",
    "doc_to_text": "{{q|regex_replace('[0-9]', '#')}}",
    "doc_to_target": "{{a}}",
    "generation_kwargs": {"until": ["\n", "."], "do_sample": False, "max_gen_toks": 32},
}


def laid(folder: Path, task: dict[str, Any] | str, docs: list[dict[str, Any]] = DOCS) -> Path:
    """A task and its documents."""
    (folder / "docs.jsonl").write_text("".join(f"{json.dumps(doc)}\n" for doc in docs))
    (folder / "sums.yaml").write_text(task if isinstance(task, str) else yaml.safe_dump(task))
    return folder / "sums.yaml"


def read(folder: Path, task: dict[str, Any] | str, **plan: Any) -> Prompts:
    """Its rows."""
    gates = (GateSpec(metric="size_mb", max=1),)
    return read_prompts(EvaluateSpec(data="sums.yaml", gates=gates, **plan), laid(folder, task), chats=False)


def test_a_choice_is_asked_after_its_delimiter(tmp_path):
    """With the task's description before each question; columns of the documents are slices and clusters."""
    rows = read(tmp_path, CHOOSES, slices=("topic",))
    first, second = rows.rows
    assert first.asked == "Sums about sums.\n\nQuestion: What is 2 + 2?\nAnswer:"
    assert (first.choices.texts, first.choices.right, first.is_written) == ((" 3", " 4"), 1, False)
    assert (second.choices.right, second.number, rows.columns) == (0, 2, {"topic": ("sums", "odd")})


def test_an_answer_ends_where_the_task_says(tmp_path):
    """Its references are what a template writes as a list, or its text."""
    first, second = read(tmp_path, WRITES).rows
    assert (first.asked, first.references, first.until) == ("What is # + #?", ("4", "four"), ("\n", "."))
    assert second.references == ("yes",)
    assert (first.cut("4. Or 5\n"), first.cut("4\n."), first.cut("four")) == ("4", "4", "four")
    bare = {**WRITES, "generation_kwargs": None}
    assert read(tmp_path, bare).rows[0].until == ("\n\n",)


@pytest.mark.parametrize(
    ("choice", "target", "right"),
    [
        (["3", "4"], 1, 1),
        (["3", "4"], "{{gold}}", 1),
        ("{{opts + ['no']}}", "{{'no'}}", 2),
        ({"a": "3", "b": "4"}, 0, 0),
    ],
)
def test_choices_and_targets_come_in_several_ways(tmp_path, choice, target, right):
    """A column, a template, a list; a place or a text."""
    docs = DOCS[:1]
    path = laid(tmp_path, {**CHOOSES, "doc_to_choice": choice, "doc_to_target": target}, docs)
    plan = EvaluateSpec(data="sums.yaml", gates=(GateSpec(metric="choice", min=0.1),))
    assert [row.choices.right for row in read_prompts(plan, path, chats=False).rows] == [right]


def test_the_digest_is_of_the_task_and_of_its_documents(tmp_path):
    """Either one changed is another evaluation."""
    plan, digests = EvaluateSpec(data="sums.yaml", gates=(GateSpec(metric="choice", min=0.1),)), set()
    for task, docs in ((CHOOSES, DOCS), ({**CHOOSES, "target_delimiter": ""}, DOCS), (CHOOSES, DOCS[:1])):
        digests.add(read_prompts(plan, laid(tmp_path, task, docs), chats=False).digest)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("process_docs: !function utils.process\n", "line 1 has the tag !function: no Python of a task is run"),
        ("a: !!python/object/apply:os.system [ls]\n", "no Python of a task is run"),
        ("doc_to_text: [\n", "it is no YAML"),
        ("- a\n", "it is no task of lm-eval"),
        ({"process_docs": "x"}, "process_docs: 'x' is not read here"),
        ({"num_fewshot": 5}, "num_fewshot: 5 is not read here"),
        ({"filter_list": [{"name": "f"}]}, "filter_list"),
        ({"include": "other.yaml"}, "include"),
        ({"output_type": "loglikelihood_rolling"}, "output_type"),
        ({"dataset_path": "allenai/ai2_arc"}, "dataset_path: 'allenai/ai2_arc' is not read here"),
        ({"dataset_kwargs": {"data_files": {"train": "docs.jsonl"}}}, "names no JSONL file of its own"),
        ({"dataset_kwargs": {"data_files": {"test": "../docs.jsonl"}}}, "lies elsewhere"),
        ({"dataset_kwargs": {"data_files": {"test": "/etc/docs.jsonl"}}}, "lies elsewhere"),
        ({"doc_to_choice": None}, "multiple_choice with doc_to_choice: None"),
        ({"metric_list": [{"metric": "brier_score"}]}, "metric_list has"),
        ({"metric_list": [{"metric": "acc", "ignore_case": True}]}, "metric_list has"),
        ({"doc_to_text": "{{nothing}}"}, "row 1: its template raises UndefinedError"),
        ({"doc_to_text": "{% for %}"}, "row 1: its template raises TemplateSyntaxError"),
        ({"doc_to_text": "{{ ''.__class__.__mro__[1].__subclasses__() }}"}, "row 1: its template raises SecurityError"),
        ({"doc_to_text": "gold"}, "several contexts"),
        ({"doc_to_target": "{{gold + 7}}"}, "row 1: 8 is none of its choices"),
    ],
)
def test_what_is_not_done_as_lm_eval_does_it_is_refused_by_name(tmp_path, changed, said):
    """Code, other data, other metrics, examples before the question; and a template is no program."""
    with pytest.raises(BadInput) as caught:
        read(tmp_path, {**CHOOSES, **changed} if isinstance(changed, dict) else changed)
    assert caught.value.code == "E_DATASET"
    assert said in caught.value.reason


@pytest.mark.parametrize("said", [{"temperature": 0.7}, {"do_sample": True}, {"top_p": 0.9}])
def test_answers_are_greedy(tmp_path, said):
    """A task that samples is none of these."""
    with pytest.raises(BadInput, match="answers are greedy"):
        read(tmp_path, {**WRITES, "generation_kwargs": said})


def test_a_column_that_rows_are_read_by_is_no_slice(tmp_path):
    """Its text would be asked as the prompt."""
    with pytest.raises(BadInput, match="rows are read by 'text'"):
        read(tmp_path, CHOOSES, slices=("text",))


ASK = """
import json, sys
from lm_eval.tasks import TaskManager
(task,) = TaskManager(include_path=sys.argv[1], include_defaults=False).load(["sums"])["tasks"].values()
task.build_all_requests(limit=None, rank=0, world_size=1)
print("ASKED" + json.dumps([one.args for one in task.instances]))
"""


@pytest.mark.lmeval
@pytest.mark.parametrize("task", [CHOOSES, WRITES], ids=["chooses", "writes"])
def test_lm_eval_itself_asks_the_same(tmp_path, task):
    """The real one, in an environment of its own: every context, every continuation, every end."""
    python = os.environ.get("SHIPWAY_LM_EVAL") or pytest.skip("SHIPWAY_LM_EVAL names no Python that has lm-eval 0.4.13")
    rows = read(tmp_path, task).rows
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    said = subprocess.run(
        [python, "-c", textwrap.dedent(ASK), str(tmp_path)], cwd=tmp_path, env=env, check=True, capture_output=True
    ).stdout.decode()
    asked = json.loads(said.partition("ASKED")[2])
    assert asked == [question for row in rows for question in questions(row)]


def questions(row: Row) -> list[list[Any]]:
    """What lm-eval would call this row's."""
    if row.choices:
        return [[row.asked, text] for text in row.choices.texts]
    return [[row.asked, {"until": list(row.until), "do_sample": False, "max_gen_toks": 32}]]
