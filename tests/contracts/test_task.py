"""Does every task keep the promises that the stages rely on?"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from evals.gate import Outcome
from pipelines.errors import BadInput
from pipelines.records.release import Release
from pipelines.serving.engines import load_engine
from pipelines.spec.evaluate import EvaluateSpec, GateSpec
from pipelines.stages.evaluate import source_subject
from pipelines.supply.layout import read_layout
from pipelines.tasks.known import TASKS, task_for, task_of, wire_of
from pipelines.tasks.task import Facts, Question, Subject, Task
from tests.pipelines.model_folders import LABELS


class TaskContract:
    """What a Task must do."""

    name: str
    n: int
    """How many rows there are."""

    @pytest.fixture
    def folder(self) -> Path:
        """A model that does it."""
        raise NotImplementedError

    @pytest.fixture
    def plan(self, tmp_path: Path) -> EvaluateSpec:
        """What is measured, on a file of rows in `tmp_path`."""
        raise NotImplementedError

    @pytest.fixture
    def other(self, subject: Subject) -> Subject:
        """A model that answers otherwise."""
        raise NotImplementedError

    def answered(self, subject: Subject, question: Question) -> Any:
        """The JSON with which a server of this model answers."""
        raise NotImplementedError

    @pytest.fixture
    def task(self) -> Task[Any]:
        """The task under test."""
        return task_of({"task": self.name})

    @pytest.fixture
    def facts(self, task, folder) -> Facts:
        """What its model promises."""
        return task.promises(read_layout(folder))

    @pytest.fixture
    def rows(self, task, plan, facts, tmp_path) -> Any:
        """As they are read."""
        return task.read_rows(plan, tmp_path / plan.data, facts)

    @pytest.fixture
    def subject(self, folder) -> Subject:
        """The model, to be asked."""
        return source_subject(folder, "m")

    def test_it_is_found_by_its_name_and_by_its_models(self, task, folder, facts):
        """A bundle's facts lead to it, and so does a configuration."""
        found = task_of(facts), task_for(read_layout(folder).config_json)
        assert (self.name in TASKS, task.name, *(other.name for other in found)) == (True, *[self.name] * 3)

    def test_no_other_task_takes_its_models(self, folder):
        """Or the order of tasks would decide."""
        config = read_layout(folder).config_json
        assert [name for name in TASKS if task_of({"task": name}).takes(config)] == [self.name]

    def test_promises_are_plain_data(self, task, folder, facts):
        """The same each time, as digests need it."""
        assert json.loads(json.dumps(facts)) == facts == task.promises(read_layout(folder))

    def test_facts_begin_with_the_engine(self, task, facts, subject):
        """As they stand in every record."""
        assert list(subject.facts) == ["engine", *facts, "model", "variant"]
        assert subject.facts["engine"] == task.engine

    def test_who_promises_the_same_keeps_the_contract(self, task, facts):
        """With a champion, and without one."""
        found = [task.judge_contract(facts, champion).outcome for champion in (facts, None)]
        assert found == [Outcome.PASS, Outcome.PASS]

    def test_the_same_file_gives_the_same_rows(self, task, plan, facts, rows, tmp_path):
        """By its digest; and what is doubtful of them is said in words."""
        again = task.read_rows(plan, tmp_path / plan.data, facts)
        assert (again.digest, again.doubts) == (rows.digest, rows.doubts)
        assert rows.digest.startswith("sha256:")
        assert all(isinstance(doubt, str) for doubt in rows.doubts)

    def test_a_file_without_rows_is_refused(self, task, plan, facts, tmp_path):
        """By the code that every file of rows is refused with."""
        (tmp_path / plan.data).write_text("\n")
        with pytest.raises(BadInput) as caught:
            task.read_rows(plan, tmp_path / plan.data, facts)
        assert caught.value.code == "E_DATASET"

    def test_questions_begin_again_after_the_last_row(self, task, rows):
        """Load asks more than there are."""
        first, again = (task.question("m", rows, row) for row in (0, self.n))
        assert first == again
        assert first.path.startswith("/")

    def test_what_a_server_is_asked_is_json(self, task, rows):
        """Rows, odd inputs by distinct names, and the largest request with the word how large it is."""
        odd, largest = task.odd_questions("m"), task.largest_question("m", rows)
        assert len({question.name for question in odd}) == len(odd) > 0
        assert largest.name
        for question in (task.question("m", rows, 0), *odd, largest):
            assert json.loads(json.dumps(question.body)) == question.body

    @pytest.mark.parametrize("body", [{}, {"error": "E_BODY"}])
    def test_what_is_no_answer_is_told(self, task, body):
        """By errors that the stage expects."""
        with pytest.raises((KeyError, ValueError)):
            task.read_answer(body)

    @pytest.mark.integration
    def test_rows_are_read_as_transformers_reads_them(self, task, folder, facts, rows):
        """All of a few."""
        assert task.compare_tokens(folder, facts, rows) == self.n

    @pytest.mark.integration
    def test_a_model_is_measured_beside_itself(self, task, plan, rows, subject):
        """Every metric; no worse than itself; who waits hears of it, and the record can keep all of it."""
        heard, ticks = [], count()
        evidence, golden = task.measure(
            plan, rows, subject, subject, lambda: next(ticks) * 0.001, lambda *told: heard.append(told)
        )
        assert {m.metric for m in evidence.measurements} == set(plan.metrics)
        quality = [c for c in evidence.comparisons if c.metric not in {"latency_p50_ms", "latency_p95_ms"}]
        assert {c.drop for c in quality if not c.missing} <= {0.0}
        assert heard[-1] == (subject.name, self.n, self.n)
        judged = Release().record(1.0, "judged", evidence=evidence.as_dict(), golden=golden).last("judged")
        assert json.loads(json.dumps(judged.data["golden"])) == golden

    @pytest.mark.integration
    def test_the_golden_answers_are_those_of_the_same_model(self, task, plan, rows, subject, other):
        """Asked one by one, in the words of the wire; another model is found out."""
        golden = task.measure(plan, rows, subject, None, count().__next__, lambda *_: None)[1]
        asked = [task.question("m", rows, row) for row in golden["rows"]]
        mine, others = (
            [task.read_answer(self.answered(who, question)) for question in asked] for who in (subject, other)
        )
        assert task.judge_golden(golden, mine).outcome is Outcome.PASS
        assert all(map(task.is_sane, mine))
        assert task.judge_golden(golden, others).outcome is Outcome.FAIL

    @pytest.mark.integration
    def test_odd_and_largest_questions_are_answered(self, task, rows, subject):
        """By a good model, or refused."""
        for question in (*task.odd_questions("m"), task.largest_question("m", rows)):
            assert task.is_sane(task.read_answer(self.answered(subject, question)))

    @pytest.mark.integration
    def test_a_model_wins_nothing_over_itself_in_size(self, task, rows, subject):
        """Both are asked as often."""
        ticks = count()
        gain = task.gain(rows, subject, subject, 1, lambda: float(next(ticks)))
        assert (gain.is_smaller, gain.source_mb) == (False, gain.variant_mb)
        assert gain.n > 0


class TestClassification(TaskContract):
    """One label a text."""

    name = "classification"
    n = 40

    @pytest.fixture
    def folder(self, tiny_model: Path) -> Path:
        """A tiny BERT."""
        return tiny_model

    @pytest.fixture
    def plan(self, tmp_path: Path) -> EvaluateSpec:
        """Forty texts."""
        lines = [f"{['good', 'bad', 'film', 'day'][row % 4]} {row},{LABELS[row % 3]}\n" for row in range(self.n)]
        (tmp_path / "rows.csv").write_text("text,label\n" + "".join(lines))
        return EvaluateSpec(data="rows.csv", gates=(GateSpec(metric="accuracy", min=0.1),))

    @pytest.fixture
    def other(self, subject: Subject) -> Subject:
        """The same weights with their labels the other way round."""
        return replace(subject, facts={**subject.facts, "labels": subject.facts["labels"][::-1]})

    def answered(self, subject: Subject, question: Question) -> Any:
        """Through the door that the question names."""
        (door,) = [door for door in wire_of(subject.facts).doors("m", "1") if door.path == question.path]
        outputs = load_engine(subject.folder, subject.facts).predict(door.read(question.body))
        return json.loads(door.write(outputs))
