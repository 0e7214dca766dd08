"""Is what a model writes, and how likely it finds a reference, what transformers says of the same weights?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.tasks.generation import program
from pipelines.tasks.generation.program import holds, work
from pipelines.tasks.generation.reading.reader import RowRefused
from pipelines.tasks.generation.rows import Row
from tests.pipelines.model_folders import copy_folder, edit_json

HELLO = [{"role": "user", "content": "Hello"}]
Ask = Callable[..., dict[str, Any]]


def row(asked: Any, reference: str = "", pattern: str = "", number: int = 1) -> dict[str, Any]:
    """As the caller writes it."""
    return {"asked": asked, "reference": reference, "pattern": pattern, "number": number}


@pytest.fixture
def ask(tiny_generator: Path, tmp_path: Path) -> Ask:
    """The tiny Llama on torch."""

    def asked(*rows: dict[str, Any], folder: Path = tiny_generator, **more: Any) -> dict[str, Any]:
        facts = {"folder": str(folder), "facts": {"engine": "torch"}, "threads": 1, "most_tokens": 8}
        said = {
            "do": "write",
            "champion": None,
            "keep_top": True,
            "sampling": {},
            "golden": [],
            "progress": str(tmp_path / "progress"),
        }
        return json.loads(json.dumps(work({**facts, **said, "rows": list(rows), **more})))

    return asked


@pytest.fixture(scope="module")
def model(tiny_generator: Path) -> Any:
    """What is right, by transformers itself."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_generator).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny_generator: Path) -> Any:
    """Its tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_generator)


def test_a_reference_is_as_likely_as_the_model_says(ask, model, tokenizer):
    """Its loss by transformers' own `labels`, which leave out the prompt."""
    import torch

    (said,) = ask(row("The quick", " brown fox"))["rows"]
    prompt, forced = (tokenizer(text).input_ids for text in ("The quick", " brown fox"))
    ids, labels = torch.tensor([prompt + forced]), torch.tensor([[-100] * len(prompt) + forced])
    with torch.inference_mode():
        expected = float(model(ids, labels=labels).loss)
        likeliest = model(ids).logits[0, len(prompt) - 1 : -1].argmax(-1).tolist()
    assert said["tokens"] == forced
    assert sum(said["loss"]) / len(forced) == pytest.approx(expected, rel=1e-4)
    assert said["likeliest"] == likeliest
    assert said["bytes"] == len(" brown fox")


def test_an_answer_is_the_greedy_one(ask, model, tokenizer):
    """Of the conversation as the template writes it; special tokens are no text."""
    import torch

    (said,) = ask(row(HELLO))["rows"]
    ids = torch.tensor([tokenizer("<|user|>Hello<|end|><|assistant|>").input_ids])
    with torch.inference_mode():
        new = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert said["answer"]["text"] == tokenizer.decode(new, skip_special_tokens=True)
    assert (said["answer"]["finish"], said["finished"]) == ("length", False)


def test_an_answer_ends_with_its_end(ask, tokenizer):
    """A conversation's reference includes the token that ends it; a prompt's goes on, and so does one that is cut."""
    forced = [said["tokens"] for said in ask(row(HELLO, " fox"), row("The", " fox"))["rows"]]
    assert forced == [[*tokenizer(" fox").input_ids, tokenizer.eos_token_id], tokenizer(" fox").input_ids]
    (cut,) = ask(row(HELLO, "The quick brown fox jumps"), most_tokens=3)["rows"]
    assert cut["tokens"] == tokenizer("The quick brown fox jumps").input_ids[:3]
    assert cut["bytes"] == len(tokenizer.decode(cut["tokens"]).encode())


def test_a_row_without_a_reference_is_written_and_not_scored(ask):
    """Nothing is made up for it."""
    (said,) = ask(row("The quick", "", pattern="."))["rows"]
    assert (said["tokens"], said["loss"], said["bytes"], said["holds"]) == ([], [], 0, True)


def test_what_only_an_engine_keeps_the_reference_is_not_asked(ask):
    """Its schema was sent to nobody, or it is not asked at all: but how likely its reference is is known."""
    asked = {**row(HELLO, " fox"), "sent": {"response_format": {"type": "json_object"}}}
    said, told = ask(asked, {**row("The"), "schema": {"type": "integer"}})["rows"]
    assert (said["is_asked"], said["answer"]["text"], said["scores"]) == (False, "", {})
    assert len(said["loss"]) > 0
    assert (told["is_asked"], told["scores"]) == (True, {"valid_json": 0.0})


def test_tools_stand_in_the_prompt_as_the_template_writes_them(ask, tiny_generator, tmp_path):
    """And arguments that are text on the wire are an object to it, as engines hand them over."""
    folder = copy_folder(tiny_generator, tmp_path / "source")
    written = "{{ messages[0].tool_calls[0].function.arguments.a }}"
    template = "{% for tool in tools or [] %}{{ tool.function.name }}{% endfor %}" + written
    (folder / "chat_template.jinja").write_text(template)
    calls = [{"function": {"name": "f", "arguments": json.dumps({"a": "fox"})}}]
    messages = [{"role": "assistant", "content": "", "tool_calls": calls}, *HELLO]
    tools = {"sent": {"tools": [{"type": "function", "function": {"name": "quick"}}]}}
    with_tools, without = ask(*({**row(messages), **more} for more in (tools, {})), folder=folder, do="read")["tokens"]
    assert with_tools > without > 0


def test_choices_are_as_likely_as_the_model_says(ask, model, tokenizer):
    """The right one is the likeliest by transformers' own numbers; and nothing is written but for golden answers."""
    import torch

    texts, logs = [" fox", " over the lazy dog", " quick"], []
    prompt = tokenizer("The quick").input_ids
    for text in texts:
        ids = torch.tensor([[*prompt, *tokenizer(text).input_ids]])
        with torch.inference_mode():
            told = torch.log_softmax(model(ids).logits[0, :-1].double(), dim=-1)
        logs.append(float(sum(told[place - 1, ids[0, place]] for place in range(len(prompt), ids.shape[1]))))
    right = logs.index(max(logs))
    rows = [{**row("The quick "), "choices": [one.strip() for one in texts], "answer": place} for place in range(3)]
    said = ask(*rows, *rows * 8)["rows"]
    assert [one["scores"]["choice"] for one in said[:3]] == [float(place == right) for place in range(3)]
    assert [(one["finished"], one["ms"]) for one in said] == [(None, None)] * 27
    assert [bool(one["answer"]["text"]) for one in said[:4]] == [True, False, True, False]


def test_an_answer_counts_as_far_as_its_end(ask):
    """And then it is finished; the golden answer is whole, as the server will give it."""
    (whole,) = ask(row("The quick"))["rows"]
    text = whole["answer"]["text"]
    (cut,) = ask({**row("The quick", pattern="."), "until": [text[3:5]], "schema": {"type": "string"}})["rows"]
    assert (cut["answer"]["text"], cut["text"], cut["finished"]) == (text, text[: text.index(text[3:5])], True)
    assert (whole["text"], whole["finished"]) == (text, False)


def test_a_choice_that_is_no_token_is_refused_by_its_row(ask, tiny_generator, tmp_path):
    """It would be the likeliest of all."""
    folder = copy_folder(tiny_generator, tmp_path / "source")
    edit_json(folder / "tokenizer.json", normalizer={"type": "Replace", "pattern": {"String": "b"}, "content": ""})
    asked = {**row("The", number=4), "choices": ["a", "b"], "answer": 0}
    refused = ask(asked, folder=folder, do="read")["refused"]
    assert (refused["row"], refused["code"]) == (4, "E_DATASET")
    assert "the choice 'b'" in refused["reason"]


def test_the_longest_choice_counts_for_the_context(ask, tokenizer):
    """As it is read after the prompt."""
    asked = {**row("The"), "choices": [" fox", " quick brown fox"], "answer": 0}
    assert ask(asked, do="read")["tokens"] == [len(tokenizer("The quick brown fox").input_ids)]


def test_a_model_beside_itself_is_at_no_distance(ask):
    """And where the champion read other tokens there is no distance at all."""
    (base,) = ask(row("The", " fox"))["rows"]
    (same,) = ask(row("The", " fox"), champion=[base])["rows"]
    assert same["kl"] == pytest.approx([0.0] * len(base["tokens"]), abs=1e-9)
    assert same["kl"]
    (other,) = ask(row("The", " fox"), champion=[{**base, "tokens": [7]}])["rows"]
    assert other["kl"] == []


def test_each_row_is_told_when_it_is_done(ask, tmp_path):
    """By a byte."""
    ask(row("The"), row("quick"), row("fox"))
    assert (tmp_path / "progress").read_bytes() == b"..."


def test_a_template_that_raises_is_told_with_its_row(ask, tiny_generator, tmp_path):
    """Also where it says nothing."""
    folder = copy_folder(tiny_generator, tmp_path / "source")
    (folder / "chat_template.jinja").write_text("{{ raise_exception(messages[0].content) }}")
    for content, said in (("no system", "no system"), ("", "TemplateError")):
        asked = [row("The"), row([{"role": "user", "content": content}], number=7)]
        refused = ask(*asked, folder=folder, do="read")["refused"]
        assert refused == {"row": 7, "code": "E_TEMPLATE", "reason": f"the chat template raises: {said}"}


def test_a_marker_that_the_model_has_no_number_for_is_refused(ask, tiny_generator, tmp_path):
    """The library adds the usual ones of a model type to a tokenizer that lacks them."""
    folder = copy_folder(tiny_generator, tmp_path / "source")
    edit_json(folder / "config.json", model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    with pytest.raises(ValueError, match=r"'<\|endoftext\|>' has the number \d+, and the model only \d+ tokens"):
        ask(row("The"), folder=folder, do="read")


def test_a_pattern_without_an_end_is_ended(monkeypatch):
    """With the number of its row; one that ends is no matter, and the clock is stopped."""
    monkeypatch.setattr(program, "PATTERN_S", 0.2)
    with pytest.raises(RowRefused) as caught:
        holds(Row("x", (), "(a+)+$", 5), "a" * 64 + "b")
    assert (caught.value.said["row"], caught.value.said["code"]) == (5, "E_DATASET")
    assert holds(Row("x", (), "b$", 5), "ab")
    assert not holds(Row("x", (), "", 5), "ab")
