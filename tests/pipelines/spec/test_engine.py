"""Does a spec say how a language model is evaluated and served, and does that change no other release?"""

from __future__ import annotations

import json

import pytest

from pipelines.errors import BadInput
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.spec_file import parse_spec
from tests.pipelines.spec.test_spec_keys import BASE, DIGEST_OF_BASE

LANGUAGE = """\
model: models:/writer/3
service: writer
evaluate:
  data: rows.jsonl
  gates: [{metric: perplexity, max: 9}, {metric: kl, margin: 0.1}]
"""


def refused(text: str, base: str = LANGUAGE) -> BadInput:
    """Why a spec is."""
    with pytest.raises(BadInput) as caught:
        parse_spec(base + text)
    return caught.value


@pytest.mark.parametrize(
    "usual",
    [
        "serve: {engine: auto}\n",
        "serve: {args: {}}\n",
        "serve: {python: null}\n",
        "serve: {model_names: []}\n",
        "serve: {engine: auto, args: {}, model_names: [], python: null, api: inference}\n",
    ],
)
def test_what_is_usual_changes_no_digest(usual):
    """A release that an older Shipway began is found again."""
    spec = parse_spec(BASE + usual)
    assert spec.digest() == DIGEST_OF_BASE
    assert not {"engine", "args", "python", "model_names"} & spec.as_dict()["serve"].keys()
    assert "max_tokens" not in spec.as_dict()["evaluate"]


def test_the_usual_number_of_tokens_changes_no_digest():
    """Another one does."""
    base, usual, other = (parse_spec(LANGUAGE.replace("data:", f"{said}\n  data:")) for said in
                          ("", "max_tokens: 128", "max_tokens: 64"))  # fmt: skip
    assert base.digest() == usual.digest() != other.digest()
    assert (usual.evaluate.max_tokens, other.as_dict()["evaluate"]["max_tokens"]) == (128, 64)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("engine", "llamacpp"),
        ("args", {"context": 512, "slots": 2}),
        ("args", {"flag": True, "ratio": 0.5, "max-model-len": 4096, "dtype": "auto"}),
        ("model_names", ["gpt-4o", "meta-llama/Llama-3.1-8B"]),
    ],
)
def test_what_is_said_is_read_back(key, value):
    """And is a part of what is released."""
    spec = parse_spec(LANGUAGE + f"serve: {{{key}: {json.dumps(value)}}}\n")
    assert spec.as_dict()["serve"][key] == value
    assert spec.digest() != parse_spec(LANGUAGE).digest()
    assert ReleaseSpec.model_validate_json(json.dumps(spec.as_dict())) == spec


def test_a_brought_engine_says_where_it_lives():
    """Each needs the other."""
    brought = parse_spec(LANGUAGE + "serve: {engine: vllm, python: /opt/vllm/bin/python}\n").serve
    assert (brought.engine, brought.python) == ("vllm", "/opt/vllm/bin/python")
    for half in ("engine: vllm", "python: /opt/vllm/bin/python", "engine: llamacpp, python: /usr/bin/python3"):
        assert refused(f"serve: {{{half}}}\n").code == "E_ENGINE"


@pytest.mark.parametrize(
    "text",
    [
        "serve: {engine: ollama}\n",
        "serve: {engine: vllm, python: bin/python}\n",
        "serve: {arguments: {}}\n",
        "serve: {args: {Context: 5}}\n",
        "serve: {args: {--context: 5}}\n",
        "serve: {args: {context: [5]}}\n",
        "serve: {args: {context: null}}\n",
        "serve: {args: [context]}\n",
        "serve: {model_names: ['']}\n",
        "serve: {model_names: ['a b']}\n",
        "serve: {model_names: [" + ", ".join(f"m{n}" for n in range(17)) + "]}\n",
        "serve: {args: {" + ", ".join(f"a{n}: 1" for n in range(65)) + "}}\n",
    ],
)
def test_what_no_engine_is_told_is_refused(text):
    """By the file's own key."""
    error = refused(text)
    assert error.exit_code == 2
    assert (error.field or "").startswith("serve.")


@pytest.mark.parametrize("tokens", ["0", "8193", "-1", "many", "1.5"])
def test_answers_have_a_length(tokens):
    """Of some tokens, and not of very many."""
    error = refused("", LANGUAGE.replace("data:", f"max_tokens: {tokens}\n  data:"))
    assert error.field == "evaluate.max_tokens"


@pytest.mark.parametrize("metric", ["kl", "top1_agreement"])
@pytest.mark.parametrize("bound", ["min", "max"])
def test_a_distance_from_the_champion_has_a_margin_only(metric, bound):
    """By itself a model is at no distance."""
    text = LANGUAGE.replace("{metric: kl, margin: 0.1}", f"{{metric: {metric}, {bound}: 0.5, margin: 0.5}}")
    assert refused("", text).code == "E_THRESHOLD"


def test_a_gate_on_a_language_metric_needs_no_list_of_metrics():
    """They are all measured; what is none of them is refused."""
    assert [gate.metric for gate in parse_spec(LANGUAGE).offline_gates()] == ["perplexity", "kl"]
    assert refused("", LANGUAGE.replace("metric: kl", "metric: bleu")).exit_code == 2


JUDGE = "  judge: {url: 'http://127.0.0.1:8001', model: big, timeout: 30s}\n"


def test_a_judge_and_a_cluster_are_said_or_change_nothing():
    """Records of earlier releases keep their digest; what is said is read back."""
    base, judged = parse_spec(LANGUAGE), parse_spec(LANGUAGE.replace("  data:", f"{JUDGE}  cluster: doc\n  data:", 1))
    assert not {"judge", "cluster"} & base.as_dict()["evaluate"].keys()
    assert (judged.evaluate.judge.timeout_s, judged.evaluate.columns) == (30.0, ("doc",))
    assert judged.digest() != base.digest()
    assert parse_spec(LANGUAGE.replace("  data:", "  cluster: null\n  data:", 1)).digest() == base.digest()
    assert type(judged).model_validate_json(judged.model_dump_json()) == judged


@pytest.mark.parametrize(
    ("judge", "gates", "said"),
    [
        ("", "[{metric: judge, margin: 0.1}, {metric: perplexity, max: 9}]", "needs evaluate.judge"),
        (JUDGE, "[{metric: judge, margin: 0.1}]", "never the only gate"),
        (JUDGE, "[{metric: judge, margin: 0.1}, {metric: size_mb, max: 9}]", "never the only gate"),
        (JUDGE, "[{metric: judge, min: 0.1}, {metric: perplexity, max: 9}]", "its gate has a margin"),
    ],
)
def test_a_judge_is_an_extra(judge, gates, said):
    """It is known, compares, and stands beside a gate on what the rows themselves say."""
    text = LANGUAGE.replace("[{metric: perplexity, max: 9}, {metric: kl, margin: 0.1}]", gates)
    assert said in refused("", text.replace("  data:", f"{judge}  data:", 1)).reason
    beside = "[{metric: judge, margin: 0.1}, {metric: kl, margin: 1}]"
    parse_spec(text.replace(gates, beside).replace("  data:", f"{JUDGE}  data:", 1))
