"""Does every task keep the promises that the stages rely on?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from evals.gate import Outcome
from pipelines.compress.gguf.gguf import Gguf
from pipelines.compress.technique import Compressed
from pipelines.errors import BadInput
from pipelines.records.release import Release
from pipelines.serving.engines import load_engine
from pipelines.spec.evaluate import OF_CHAMPION, EvaluateSpec, GateSpec
from pipelines.spec.serve import ServeSpec
from pipelines.stages.evaluate import source_subject
from pipelines.supply.bundle import seal
from pipelines.supply.layout import read_layout
from pipelines.tasks.generation.generation import ALWAYS
from pipelines.tasks.known import TASKS, task_for, task_of, wire_of
from pipelines.tasks.task import Facts, Question, Subject, Task
from tests.pipelines.model_folders import LABELS, make_generator
from tests.pipelines.serving.server.test_llama_server import started


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

    @pytest.fixture
    def served(self, subject: Subject) -> Subject:
        """The model as a server runs it."""
        return subject

    def measured(self, plan: EvaluateSpec) -> set[str]:
        """What is measured of each model by itself."""
        return set(plan.metrics)

    def answered(self, subject: Subject, question: Question) -> Any:
        """The JSON with which a server of this model answers; None where it refuses."""
        raise NotImplementedError

    @pytest.fixture
    def task(self) -> Task[Any]:
        """The task under test."""
        return task_of({"task": self.name})

    @pytest.fixture
    def facts(self, task, folder) -> Facts:
        """What its model promises."""
        return task.promises(read_layout(folder), ServeSpec())

    @pytest.fixture
    def rows(self, task, plan, facts, tmp_path) -> Any:
        """As they are read."""
        return task.read_rows(plan, tmp_path / plan.data, facts)

    @pytest.fixture
    def subject(self, folder) -> Subject:
        """The model, to be asked."""
        return source_subject(folder, "m", ServeSpec())

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
        assert json.loads(json.dumps(facts)) == facts == task.promises(read_layout(folder), ServeSpec())

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
        evidence, golden, _ = task.measure(
            plan, rows, subject, subject, lambda: next(ticks) * 0.001, lambda *told: heard.append(told)
        )
        assert {m.metric for m in evidence.measurements} == self.measured(plan)
        quality = [c for c in evidence.comparisons if c.metric not in {"latency_p50_ms", "latency_p95_ms"}]
        assert all(c.drop == pytest.approx(0.0, abs=1e-9) for c in quality if not c.missing)
        assert any(not c.missing for c in quality)
        assert heard[-1] == (subject.name, self.n, self.n)
        judged = Release().record(1.0, "judged", evidence=evidence.as_dict(), golden=golden).last("judged")
        assert json.loads(json.dumps(judged.data["golden"])) == golden

    @pytest.mark.integration
    def test_the_golden_answers_are_those_of_the_same_model(self, task, plan, rows, served, other):
        """Asked one by one, in the words of the wire; another model is found out."""
        golden = task.measure(plan, rows, served, None, count().__next__, lambda *_: None)[1]
        asked = [task.question("m", rows, row) for row in golden["rows"]]
        mine, others = (
            [task.read_answer(self.answered(who, question)) for question in asked] for who in (served, other)
        )
        assert len(mine) > 1
        assert task.judge_golden(golden, mine).outcome is Outcome.PASS
        assert all(map(task.is_sane, mine))
        assert task.judge_golden(golden, others).outcome is Outcome.FAIL

    @pytest.mark.integration
    def test_odd_and_largest_questions_are_answered(self, task, rows, served):
        """By a good model, or refused; most of them are answered."""
        questions = (*task.odd_questions("m"), task.largest_question("m", rows))
        answers = [found for question in questions if (found := self.answered(served, question)) is not None]
        assert all(task.is_sane(task.read_answer(answer)) for answer in answers)
        assert len(answers) > len(questions) / 2

    @pytest.mark.integration
    def test_a_model_wins_nothing_over_itself_in_size(self, task, rows, subject):
        """Both are asked as often, where a time says something."""
        ticks = count()
        gain = task.gain(rows, subject, subject, 1, lambda: float(next(ticks)))
        assert (gain.is_smaller, gain.source_mb) == (False, gain.variant_mb)
        assert (gain.n > 0) == (gain.source_ms is not None)


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


class TestGeneration(TaskContract):
    """Text that continues a prompt, or answers a conversation."""

    name = "generation"
    n = 40

    @pytest.fixture(autouse=True)
    def _servers(self, tmp_path: Path) -> Iterator[None]:
        """Those that a test starts end with it."""
        self._folder, self._started = tmp_path, {}
        with ExitStack() as self._stack:
            yield

    @pytest.fixture
    def folder(self, tiny_generator: Path) -> Path:
        """A tiny Llama."""
        return tiny_generator

    @pytest.fixture
    def plan(self, tmp_path: Path) -> EvaluateSpec:
        """Forty rows, every second one a conversation."""
        asked = [{"messages": [{"role": "user", "content": f"Hello {row}"}]} for row in range(0, self.n, 2)]
        asked += [{"prompt": f"The quick {row}"} for row in range(1, self.n, 2)]
        rows = [json.dumps({**row, "reference": "(good) day"}) for row in asked]
        (tmp_path / "rows.jsonl").write_text("\n".join(rows))
        return EvaluateSpec(data="rows.jsonl", gates=(GateSpec(metric="perplexity", max=9.0),), max_tokens=12)

    @pytest.fixture
    def served(self, subject: Subject, tiny_gguf: Compressed) -> Subject:
        """As llama.cpp runs it."""
        return self._as_served(subject, tiny_gguf)

    @pytest.fixture
    def other(self, subject: Subject, tmp_path: Path) -> Subject:
        """Other weights."""
        source = make_generator(tmp_path / "other", seed=1)
        return self._as_served(subject, Gguf().compress(source, tmp_path / "made", {"model": "m"}))

    def measured(self, plan: EvaluateSpec) -> set[str]:
        """What always is, but what only a comparison says: these rows ask for nothing else."""
        return set(ALWAYS) - set(OF_CHAMPION)

    def answered(self, subject: Subject, question: Question) -> Any:
        """By a server of its own, which may refuse, and may not fail."""
        key = str(subject.folder)
        if key not in self._started:
            sealed = seal(subject.folder, {**subject.facts, "model": "tiny"}, self._folder / "store")
            self._started[key] = self._stack.enter_context(started(sealed, self._folder))
        asked = {**question.body, "model": "tiny"}
        answer = self._started[key].http.post(question.path, json=asked)
        assert answer.status_code < 500, (question.name, answer.text)
        return answer.json() if answer.status_code == 200 else None

    def _as_served(self, subject: Subject, made: Compressed) -> Subject:
        return replace(subject, folder=made.folder, facts={**subject.facts, "engine": made.engine, **made.facts})
