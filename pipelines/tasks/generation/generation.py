"""What must be known of a causal language model to release it? It continues prompts, and answers conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from evals.evidence import Evidence
from evals.gate import Outcome, Reason, Verdict
from evals.offline.gain import Gain
from evals.offline.language import LanguageSuite, measure_language
from evals.offline.metrics import LATENCY, SIZE
from evals.offline.texts import CHRF, text_scores
from evals.offline.written import LIKELIHOODS, MEANS, PROPORTIONS, Written
from pipelines.compress.gguf.gguf import Gguf, check_tokenizer
from pipelines.compress.technique import Technique
from pipelines.compress.unchanged import Unchanged
from pipelines.errors import BadInput
from pipelines.records.split import Rewrite
from pipelines.spec.engine import BROUGHT
from pipelines.spec.evaluate import JUDGE, OF_CHAMPION, EvaluateSpec
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.serve import ServeSpec
from pipelines.supply.kinds import generates
from pipelines.supply.layout import ModelLayout
from pipelines.supply.oracle.child import can_ask
from pipelines.tasks.asked import refuse_other_metrics
from pipelines.tasks.generation import golden, prompts, questions
from pipelines.tasks.generation.answers import Choice, read_answer
from pipelines.tasks.generation.asking import Said, as_written, ask_all, count_tokens
from pipelines.tasks.generation.rows import Prompts, read_prompts, refuse_unfit
from pipelines.tasks.generation.serving.parallel import check_spread
from pipelines.tasks.generation.serving.served import check_image, served_facts
from pipelines.tasks.generation.serving.sizes import judging_need, load_of, memory_need
from pipelines.tasks.generation.suites.beside import beside
from pipelines.tasks.generation.suites.judge import check_judge, judged_by, with_judge
from pipelines.tasks.memory import Device, MemoryNeed
from pipelines.tasks.task import Clock, Differences, Facts, Golden, Question, Subject, Told

ALWAYS = ("exact_match", "regex_match", "finished", *LIKELIHOODS, *OF_CHAMPION, *LATENCY, SIZE)
METRICS = (*PROPORTIONS, *MEANS, *LIKELIHOODS, *OF_CHAMPION, JUDGE, *LATENCY, SIZE)
COMPRESS = ("none", "gguf-f16", "gguf-f32", "gguf-q8_0")
PRECISION: Mapping[str, str] = {"gguf-f32": "f32", "gguf-q8_0": "q8_0"}
"""What is asked for; 16 bits otherwise."""


class TextGeneration:
    """Implements `Task` for causal language models."""

    name: ClassVar[str] = "generation"
    engine: ClassVar[str] = "torch"

    def takes(self, config: Mapping[str, Any]) -> bool:
        """Whether its architecture is a causal language model's."""
        return generates(config)

    def check_spec(self, spec: ReleaseSpec) -> None:
        """Its own metrics and techniques; and a gateway that follows what it writes."""
        refuse_other_metrics(spec, METRICS, "a language model")
        _check_libraries(spec.evaluate)
        if spec.evaluate.judge:
            check_judge(spec.evaluate.judge)
        if spec.compress not in COMPRESS:
            reason = f"{spec.compress} is of classifiers, and the model is a language model"
            raise BadInput(reason, code="E_COMPRESS", field="compress", expected=" or ".join(COMPRESS))
        if spec.serve.engine in BROUGHT and spec.compress != "none":
            reason = f"{spec.compress} is for llama.cpp, and {spec.serve.engine} serves the model as it was registered"
            hint = "compress: none; quantize the model first and register that"
            raise BadInput(reason, code="E_COMPRESS", field="compress", expected="none", hint=hint)
        if spec.serve.api != "openai":
            reason = "a language model is asked by OpenAI's API, and its answers are followed"
            raise BadInput(reason, code="E_API", field="serve.api", expected="openai", hint="serve: {api: openai}")
        check_image(spec.serve, spec.package)

    def promises(self, layout: ModelLayout, serve: ServeSpec, rewrite: Rewrite | None = None) -> dict[str, Any]:
        """How long a conversation may be, whether there can be one, how it is served, and what is added to requests."""
        asked = {"rewrite": rewrite.as_dict()} if rewrite is not None else {}
        return {"task": self.name, "chats": layout.chats, **served_facts(layout, serve), **asked}

    def memory(
        self, layout: ModelLayout, facts: Facts, spec: ReleaseSpec, devices: Sequence[Device] = ()
    ) -> MemoryNeed:
        """Weights and cache of all replicas, and the reference in 32 bits."""
        serve = spec.serve
        if serve.engine not in BROUGHT:
            return memory_need(layout, facts, PRECISION.get(spec.compress, "f16"), serve.replicas)
        need, load = judging_need(layout, serve.replicas), None if serve.url else load_of(layout, facts)
        if load is None or not devices:
            return need
        return replace(need, spread=check_spread(load, devices, facts["flags"], serve.parallel))

    def judge_contract(self, candidate: Facts, champion: Facts | None) -> Verdict:
        """No shorter a context, and conversations where the champion had them."""
        ours, theirs = int(candidate["context"]), int(champion["context"]) if champion else 0
        said = (
            f"context: the candidate takes {ours:,} tokens, the champion {theirs:,}" if champion else f"{ours:,} tokens"
        )
        reasons = [Reason(Outcome.PASS if ours >= theirs else Outcome.FAIL, "contract", said)]
        if champion and champion["chats"] and not candidate["chats"]:
            reasons.append(Reason(Outcome.FAIL, "contract", "the candidate has no chat template, the champion has one"))
        unknown = set(champion.get("names", ()) if champion else ()) - set(candidate.get("names", ()))
        if unknown:
            said = f"callers ask for {min(unknown)!r}, to which the candidate does not answer"
            reasons.append(Reason(Outcome.FAIL, "contract", said))
        return Verdict.of([*reasons, *prompts.judge_variables(candidate, champion)])

    def read_rows(self, plan: EvaluateSpec, file: Path, facts: Facts) -> Prompts:
        """Prompts and conversations, with what is right."""
        return read_prompts(plan, file, chats=bool(facts["chats"]), rewrite=prompts.rewrite_in(facts))

    def compare_tokens(self, folder: Path, facts: Facts, rows: Prompts) -> int:
        """Every row is read with the model's own template, and fits its context with an answer.

        That the engine reads the same tokens is seen when it gets its own file (`compress/gguf`).
        """
        check_tokenizer(folder)
        if not can_ask():
            return 0
        counted = count_tokens(folder, rows)
        for row, tokens in zip(rows.rows, counted, strict=True):
            refuse_unfit(row, tokens, rows.most_tokens, int(facts["context"]))
        return len(counted)

    def measure(
        self,
        plan: EvaluateSpec,
        rows: Prompts,
        subject: Subject,
        champion: Subject | None,
        clock: Clock,  # noqa: ARG002  the child that asks has its own
        told: Told,
    ) -> tuple[Evidence, Golden, Differences]:
        """The champion first, so that the candidate is asked how likely the champion's tokens are."""
        base = _ask(champion, rows, told, None) if champion else None
        said = _ask(subject, rows, told, base)
        suite = LanguageSuite(
            tuple(row.text for row in rows.rows),
            tuple(row.references for row in rows.rows),
            tuple(row.pattern for row in rows.rows),
            {name: rows.columns[name] for name in plan.slices},
            measured_metrics(plan, rows),
            plan.slices,
            plan.confidence,
            plan.cluster or "",
            rows.columns[plan.cluster] if plan.cluster else (),
        )
        written = _read(suite, said)
        champions = _read(suite, base) if base is not None else None
        size_mb = champion.size_mb if champion else None
        evidence = measure_language(suite, subject.name, subject.size_mb, written, champions, size_mb)
        if champion is None or champions is None:
            return evidence, _golden(subject, said), Differences()
        if plan.judge:
            evidence = with_judge(
                evidence, *judged_by(plan.judge, suite, rows, written, champions, partial(told, JUDGE))
            )
        return evidence, _golden(subject, said), beside(suite, rows, written, champions, champion.name)

    def variants(self, spec: ReleaseSpec, rows: Prompts) -> tuple[Technique, ...]:
        """8 bits, where they are asked for."""
        return (Gguf("q8_0", rows.texts),) if spec.compress == "gguf-q8_0" else ()

    def carrier(self, spec: ReleaseSpec, rows: Prompts) -> Technique:
        """llama.cpp reads a file of its own, in 16 bits unless 32 are asked for; what is brought reads the source."""
        if spec.serve.engine in BROUGHT:
            return Unchanged(spec.serve.engine)
        return Gguf("f32" if spec.compress == "gguf-f32" else "f16", rows.texts)

    def gain(self, rows: Prompts, source: Subject, variant: Subject, threads: int, clock: Clock) -> Gain:  # noqa: ARG002
        """In size. How fast an engine is says nothing about the source, which another one ran."""
        return Gain(source.size_mb, variant.size_mb, None, None, 0)

    def question(self, model: str, rows: Prompts, row: int) -> Question:
        """A prompt or a conversation by OpenAI's API."""
        return questions.of_row(model, rows.rows[row % len(rows.rows)].after(rows.rewrite), rows.most_tokens)

    def read_answer(self, body: Any) -> Choice:
        """The first choice."""
        return read_answer(body)

    def judge_golden(self, golden_answers: Golden, answers: Sequence[Any]) -> Reason:
        """The same tokens up to the first near tie, and nearly as likely."""
        return golden.judge(golden_answers, answers)

    def odd_questions(self, model: str) -> tuple[Question, ...]:
        """Prompts, conversations and parameters that somebody will send."""
        return questions.odd(model)

    def is_sane(self, answer: Any) -> bool:
        """Whether it says how it ended, and its likelihoods are numbers."""
        return golden.is_sane(answer)

    def largest_question(self, model: str, rows: Prompts) -> Question:  # noqa: ARG002  none of them is so long
        """Far beyond the context."""
        return questions.largest(model)


def measured_metrics(plan: EvaluateSpec, rows: Prompts) -> tuple[str, ...]:
    """What is measured: what always was, what some row asks for, and scores of texts that the spec names."""
    named = {*plan.metrics, *(gate.metric for gate in plan.gates)}
    asked = {name for name in METRICS if name != JUDGE and any(row.asks_for(name) for row in rows.rows)}
    return tuple(name for name in METRICS if name in ALWAYS or name in (named if name in MEANS else asked))


def _check_libraries(plan: EvaluateSpec) -> None:
    """BadInput E_METRIC where a metric is asked for whose library is not here."""
    if CHRF in {*plan.metrics, *(gate.metric for gate in plan.gates)} and find_spec("sacrebleu") is None:
        hint = "pip install 'shipway[llm]'"
        raise BadInput("chrf needs sacrebleu", code="E_METRIC", field="evaluate.gates", hint=hint)


def _read(suite: LanguageSuite, said: Sequence[Said]) -> list[Written]:
    """What was said, with the scores of its texts."""
    pairs = [(as_written(one), references) for one, references in zip(said, suite.references, strict=True)]
    return [
        replace(one, scores={**one.scores, **text_scores(suite.metrics, one.text, references)})
        for one, references in pairs
    ]


def _ask(subject: Subject, rows: Prompts, told: Told, champion: Sequence[Said] | None) -> tuple[Said, ...]:
    """All rows; where none is the champion, it is the champion that is asked."""
    n = len(rows.rows)
    return ask_all(subject, rows, lambda done: told(subject.name, done, n), champion=champion, keep=champion is None)


def _golden(subject: Subject, said: Sequence[Said]) -> Golden:
    """Some answers as the served engine gave them; none of the reference, which serves nobody."""
    rows = golden.chosen(len(said)) if subject.facts["engine"] != TextGeneration.engine else []
    return {"rows": rows, "answers": [said[row].get("golden", said[row]["answer"]) for row in rows]}
