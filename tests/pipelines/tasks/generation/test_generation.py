"""Which specs and which successors does a language model have?"""

from __future__ import annotations

from typing import Any

import pytest

from evals.gate import Outcome
from pipelines.errors import BadInput
from pipelines.spec.spec_file import parse_spec
from pipelines.tasks.classification.classification import Classification
from pipelines.tasks.generation.generation import TextGeneration, measured_metrics
from pipelines.tasks.generation.rows import Prompts, Row

LANGUAGE = """\
model: models:/writer/3
service: writer
evaluate:
  data: rows.jsonl
  gates: [{metric: perplexity, max: 9}]
serve: {api: openai}
"""
CLASSIFIER = """\
model: models:/m/3
service: m
evaluate:
  data: rows.csv
  gates: [{metric: accuracy, min: 0.5}]
"""
FACTS = {"task": "generation", "chats": True, "context": 512, "slots": 4}


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("metric: perplexity", "metric: accuracy", "E_METRIC"),
        ("metric: perplexity", "metric: ece", "E_METRIC"),
        ("serve:", "compress: dynamic-int8\nserve:", "E_COMPRESS"),
        ("api: openai", "api: inference", "E_API"),
        ("serve: {", "package: {target: docker}\nserve: {engine: vllm, python: /p, ", "E_PACKAGE"),
        ("serve: {", "package: {target: docker}\nserve: {cpus: 4, args: {slots: 64}, ", "E_PACKAGE"),
        ("serve: {", "package: {target: docker, pids: 80}\nserve: {cpus: 4, ", "E_PACKAGE"),
        ("serve:", "rollout: {gates: {quality: {}}}\nserve:", "E_METRIC"),
        ("evaluate:", "evaluate:\n  judge: {url: 'http://judge.example', model: j}", "E_URL"),
    ],
)
def test_what_a_language_model_does_not_do_is_refused(old, new, code):
    """By the key that asks for it."""
    TextGeneration().check_spec(parse_spec(LANGUAGE))
    with pytest.raises(BadInput) as caught:
        TextGeneration().check_spec(parse_spec(LANGUAGE.replace(old, new)))
    assert caught.value.code == code
    assert caught.value.expected


def test_chrf_without_its_library_is_refused(monkeypatch):
    """Before anything is asked; it is in the extra `llm`."""
    spec = parse_spec(LANGUAGE.replace("metric: perplexity, max: 9", "metric: chrf, min: 0.4"))
    TextGeneration().check_spec(spec)
    monkeypatch.setattr("pipelines.tasks.generation.generation.find_spec", lambda _: None)
    with pytest.raises(BadInput, match="chrf needs sacrebleu") as caught:
        TextGeneration().check_spec(spec)
    assert (caught.value.code, caught.value.hint) == ("E_METRIC", "pip install 'shipway[llm]'")


@pytest.mark.parametrize(
    ("gate", "more", "measured"),
    [
        ("perplexity, max: 9", "", set()),
        ("rouge_l, min: 0.1", "", {"rouge_l"}),
        ("perplexity, max: 9", "  metrics: [chrf]\n", {"chrf"}),
    ],
)
def test_texts_are_scored_where_that_is_asked_for(gate, more, measured):
    """By a gate or by `metrics`: suites that never asked keep their digest, and their evidence."""
    spec = parse_spec(LANGUAGE.replace("perplexity, max: 9", gate).replace("serve:", f"{more}serve:", 1))
    rows = Prompts((Row("asked", ("right",), "", 1),), {}, "sha256:x", 8)
    assert {"chrf", "rouge_l"} & {*measured_metrics(spec.evaluate, rows)} == measured
    assert not {"valid_json", "choice"} & {*measured_metrics(spec.evaluate, rows)}


def test_a_language_model_is_served_from_an_image():
    """Where its engine is Shipway's own and has room for its threads; a process has no such limit."""
    many = LANGUAGE.replace("serve: {", "serve: {cpus: 4, args: {slots: 64}, ")
    for package in ("{target: docker, pids: 1200}", "{pids: 16}"):
        TextGeneration().check_spec(parse_spec(f"{many}package: {package}\n"))
    TextGeneration().check_spec(
        parse_spec(f"{LANGUAGE.replace('serve: {', 'serve: {cpus: 8, ')}package: {{target: docker}}\n")
    )


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("metric: accuracy, min: 0.5", "metric: exact_match, min: 0.5", "E_METRIC"),
        ("metric: accuracy, min: 0.5", "metric: kl, margin: 0.1", "E_METRIC"),
        ("evaluate:", "evaluate:\n  judge: {url: 'http://127.0.0.1:1', model: j}", "E_CONFIG"),
        ("service: m", "service: m\ncompress: gguf-q8_0", "E_COMPRESS"),
        ("service: m", "service: m\nserve: {engine: llamacpp}", "E_ENGINE"),
        ("service: m", "service: m\nserve: {args: {context: 5}}", "E_ENGINE"),
    ],
)
def test_what_a_classifier_does_not_do_is_refused(old, new, code):
    """As it was before there were language models."""
    Classification().check_spec(parse_spec(CLASSIFIER))
    with pytest.raises(BadInput) as caught:
        Classification().check_spec(parse_spec(CLASSIFIER.replace(old, new)))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("candidate", "champion", "outcome", "said"),
    [
        ({}, None, Outcome.PASS, "512 tokens"),
        ({}, {}, Outcome.PASS, "takes 512 tokens, the champion 512"),
        ({"context": 1024}, {}, Outcome.PASS, "takes 1,024 tokens"),
        ({"context": 256}, {}, Outcome.FAIL, "takes 256 tokens, the champion 512"),
        ({"chats": False}, {}, Outcome.FAIL, "no chat template, the champion has one"),
        ({"chats": False}, {"chats": False}, Outcome.PASS, ""),
        ({}, {"names": ["gpt-4o"]}, Outcome.FAIL, "callers ask for 'gpt-4o'"),
        ({"names": ["gpt-4o", "new"]}, {"names": ["gpt-4o"]}, Outcome.PASS, ""),
    ],
)
def test_callers_of_the_champion_lose_nothing(candidate, champion, outcome, said):
    """Neither length, nor conversations, nor a name."""
    facts: dict[str, Any] = {**FACTS, **candidate}
    verdict = TextGeneration().judge_contract(facts, {**FACTS, **champion} if champion is not None else None)
    assert verdict.outcome is outcome
    assert said in "; ".join(reason.sentence for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("compress", "variants", "carrier"),
    [
        ("none", [], "gguf-f16"),
        ("gguf-f16", [], "gguf-f16"),
        ("gguf-f32", [], "gguf-f32"),
        ("gguf-q8_0", ["gguf-q8_0"], "gguf-f16"),
    ],
)
def test_a_language_model_is_always_carried(compress, variants, carrier):
    """In 16 bits where nothing smaller is accepted, or in 32; its own rows are compared, too."""
    spec, task = parse_spec(LANGUAGE + f"compress: {compress}\n"), TextGeneration()
    rows = Prompts((Row("asked", ("right",), "", 1),), {}, "sha256:x", 8)
    assert [technique.name for technique in task.variants(spec, rows)] == variants
    carried = task.carrier(spec, rows)
    assert (carried.name, carried.rows) == (carrier, ("asked", "right"))
