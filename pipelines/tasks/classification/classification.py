"""What must be known of a text classifier to release it? One label a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from evals.evidence import Evidence
from evals.gate import Reason, Verdict
from evals.offline.contract import ModelContract, judge_contract
from evals.offline.gain import Gain, measure_gain
from evals.offline.metrics import LATENCY, QUALITY, SIZE
from evals.offline.suite import Answers, Suite, ask, measure
from pipelines.compress.search import KNOWN, depends_on_batch, techniques_for
from pipelines.compress.technique import Technique
from pipelines.errors import BadInput
from pipelines.records.split import Rewrite
from pipelines.serving.engines import load_engine
from pipelines.spec.evaluate import EvaluateSpec
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.serve import ServeSpec
from pipelines.supply.checks.configuration import labels_of
from pipelines.supply.kinds import CLASSIFIER
from pipelines.supply.layout import ModelLayout
from pipelines.supply.table import refuse_empty
from pipelines.tasks.asked import refuse_other_metrics
from pipelines.tasks.classification import golden, questions
from pipelines.tasks.classification.rows import Rows, by_length, read_rows
from pipelines.tasks.classification.tokens import check_tokens
from pipelines.tasks.classification.wire import MAX_CHARACTERS
from pipelines.tasks.memory import Device
from pipelines.tasks.task import Clock, Differences, Facts, Golden, Question, Subject, Told


@dataclass(frozen=True)
class Classification:
    """Implements `Task` for models that give each text one label."""

    name: ClassVar[str] = "classification"
    engine: ClassVar[str] = "torch"

    def takes(self, config: Mapping[str, Any]) -> bool:
        """Whether its architecture ends in a classifier of whole texts."""
        return any(kind.endswith(CLASSIFIER) for kind in config.get("architectures") or ())

    def check_spec(self, spec: ReleaseSpec) -> None:
        """Its own metrics, techniques and engines."""
        if spec.evaluate.judge:
            reason = "a judge compares what language models write, and the model is a classifier"
            raise BadInput(reason, code="E_CONFIG", field="evaluate.judge")
        refuse_other_metrics(spec, (*QUALITY, *LATENCY, SIZE), "a classifier")
        if spec.compress not in KNOWN:
            reason = f"{spec.compress} is of language models, and the model is a classifier"
            raise BadInput(reason, code="E_COMPRESS", field="compress", expected=" or ".join(KNOWN))
        if spec.serve.engine != "auto" or spec.serve.args:
            raise BadInput("serve.engine and serve.args are of language models", code="E_ENGINE", field="serve.engine")

    def promises(self, layout: ModelLayout, serve: ServeSpec, rewrite: Rewrite | None = None) -> dict[str, Any]:  # noqa: ARG002  a spec with a prompt is refused
        """The labels in the order of the outputs, and how many tokens of a text are read."""
        return {"labels": list(labels_of(layout.config_json)), "max_length": layout.max_length}

    def memory(self, layout: ModelLayout, facts: Facts, spec: ReleaseSpec, devices: Sequence[Device] = ()) -> None:
        """Not known: activations of the largest request are most of it."""

    def judge_contract(self, candidate: Facts, champion: Facts | None) -> Verdict:
        """The same labels in the same order, the same input, and no shorter a context."""
        return judge_contract(_contract(candidate), _contract(champion) if champion is not None else None)

    def read_rows(self, plan: EvaluateSpec, file: Path, facts: Facts) -> Rows:
        """Labelled texts, the shortest first; every label is one of the model's."""
        known = facts["labels"]
        rows = read_rows(
            file, text=plan.text, label=plan.label, slices=plan.columns, known_labels=known, longest=MAX_CHARACTERS
        )
        if plan.cluster:
            refuse_empty(plan.cluster, rows.columns[plan.cluster], rows.numbers, file)
        return by_length(rows)

    def compare_tokens(self, folder: Path, facts: Facts, rows: Rows) -> int:
        """Some rows' tokens beside those of transformers; and that of every row there is something left."""
        return check_tokens(folder, int(facts["max_length"]), rows)

    def measure(
        self, plan: EvaluateSpec, rows: Rows, subject: Subject, champion: Subject | None, clock: Clock, told: Told
    ) -> tuple[Evidence, Golden, Differences]:
        """Both answer the suite one after the other. Where labels differ is told by the metrics."""
        suite = suite_of(plan, rows)
        answers, kept = _answers(suite, subject, clock, told)
        base = _answers(suite, champion, clock, told)[0] if champion else None
        size_mb = champion.size_mb if champion else None
        return measure(suite, answers, subject.name, subject.size_mb, base, size_mb), kept, Differences()

    def variants(self, spec: ReleaseSpec, rows: Rows) -> tuple[Technique, ...]:  # noqa: ARG002  they need none
        """As the spec says."""
        return techniques_for(spec.compress)

    def carrier(self, spec: ReleaseSpec, rows: Rows) -> None:
        """Torch serves it as it was registered."""

    def gain(self, rows: Rows, source: Subject, variant: Subject, threads: int, clock: Clock) -> Gain:
        """One text at a time, as users ask."""
        engines = [load_engine(subject.folder, subject.facts, threads) for subject in (source, variant)]
        ask_source, ask_variant = (engine.predict for engine in engines)
        return measure_gain(ask_source, ask_variant, rows.texts, (source.size_mb, variant.size_mb), clock)

    def question(self, model: str, rows: Rows, row: int) -> Question:
        """A text by the Open Inference Protocol."""
        return questions.of_texts(model, [rows.texts[row % len(rows.texts)]])

    def read_answer(self, body: Any) -> dict[str, Any]:
        """The outputs by their names."""
        return {output["name"]: output["data"] for output in body["outputs"]}

    def judge_golden(self, golden_answers: Golden, answers: Sequence[Any]) -> Reason:
        """The same labels, and nearly the same probabilities."""
        return golden.judge(golden_answers, answers)

    def odd_questions(self, model: str) -> tuple[Question, ...]:
        """Texts that somebody will send."""
        return questions.odd(model)

    def is_sane(self, answer: Any) -> bool:
        """Whether its probabilities are numbers."""
        return golden.is_finite(answer)

    def largest_question(self, model: str, rows: Rows) -> Question:
        """As many texts as a request may have, a piece of them as long as the context."""
        return questions.largest(model, rows.texts)


def _labels(facts: Facts) -> tuple[str, ...]:
    return tuple(str(label) for label in facts["labels"])


def _contract(facts: Facts) -> ModelContract:
    labels = tuple(facts["labels"])
    return ModelContract(labels, ("text",), len(labels), int(facts["max_length"]))


def suite_of(plan: EvaluateSpec, rows: Rows) -> Suite:
    """The suite of a spec's data, metrics and slices."""
    columns = {name: rows.columns[name] for name in plan.slices}
    suite = Suite(rows.texts, rows.labels, columns, plan.metrics, plan.slices, plan.batch_size, plan.confidence)
    return replace(suite, cluster=plan.cluster, clusters=rows.columns[plan.cluster]) if plan.cluster else suite


def asked_as(subject: Subject, suite: Suite) -> Suite:
    """How is this one asked? In the suite's batches, or one row at a time where its answers depend on the batch.

    Users ask alone: what they get is what is judged.
    """
    return replace(suite, batch_size=1) if depends_on_batch(subject.facts) else suite


def _answers(suite: Suite, subject: Subject, clock: Clock, told: Told) -> tuple[Answers, Golden]:
    engine, labels = load_engine(subject.folder, subject.facts), _labels(subject.facts)
    batch = partial(engine.predict, whole=True)
    answers = ask(asked_as(subject, suite), batch, labels, partial(told, subject.name), clock)
    return answers, golden.answers(engine, labels, suite.texts)
