"""Is a model asked in a child of which nothing is left, and is it said how that child ended?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.errors import BadInput, UnsafeArtifact
from pipelines.serving.engines.llamacpp import LlamaCppEngine
from pipelines.spec.serve import ServeSpec
from pipelines.stages.evaluate import source_subject
from pipelines.stages.workshop import Interrupted
from pipelines.tasks.generation import asking
from pipelines.tasks.generation.asking import ask_all, count_tokens
from pipelines.tasks.generation.forms.choices import Choices
from pipelines.tasks.generation.forms.form import Form
from pipelines.tasks.generation.generation import TextGeneration
from pipelines.tasks.generation.program import Reference
from pipelines.tasks.generation.reading.reader import Reader
from pipelines.tasks.generation.rows import Prompts, Row
from pipelines.tasks.task import Subject
from tests.pipelines.model_folders import copy_folder, edit_json
from tests.systems.children import living_children

HELLO = {"role": "user", "content": "Hello"}

pytestmark = pytest.mark.integration


@pytest.fixture
def subject(tiny_generator: Path) -> Subject:
    """A tiny Llama on torch."""
    return source_subject(tiny_generator, "m", ServeSpec(api="openai"))


def prompts(n: int, most_tokens: int = 8, asked: str = "The quick") -> Prompts:
    """So many rows."""
    return Prompts(tuple(Row(f"{asked} {row}", (" fox",), "", row) for row in range(n)), {}, "sha256:x", most_tokens)


def asked(subject: Subject, rows: Prompts, heard: Callable[[int], None]) -> int:
    """How many answers come."""
    return len(ask_all(subject, rows, heard, champion=None, keep=True))


def test_a_model_is_asked_once_for_one_question(subject, monkeypatch):
    """The champion of ten candidates answers once; other rows are another question."""
    heard: list[int] = []
    assert asked(subject, prompts(3), heard.append) == 3
    assert heard[-1] == 3
    monkeypatch.setattr(asking, "ask", None)
    assert asked(subject, prompts(3), heard.append) == 3
    with pytest.raises(TypeError):
        asked(subject, prompts(4), heard.append)


def test_a_child_that_is_killed_is_told_and_asked_again(subject):
    """As by the system where memory is short: no answer is kept, and how it ended is said."""
    before = living_children()

    def kill(done: int) -> None:
        if done:
            for child in living_children() - before:
                child.kill()

    rows = prompts(400, 64, "Killed")
    with pytest.raises(RuntimeError, match=r"ended without an answer \(SIGKILL\)"):
        asked(subject, rows, kill)
    assert asked(subject, prompts(2, asked="Killed"), lambda _: None) == 2


def test_who_interrupts_leaves_no_child(subject):
    """Whoever waits is told at once."""
    before = living_children()

    def interrupt(_: int) -> None:
        assert living_children() - before
        raise Interrupted

    with pytest.raises(Interrupted):
        asked(subject, prompts(400, 64, "Interrupted"), interrupt)
    assert living_children() <= before


def test_a_child_that_does_nothing_is_ended(subject, monkeypatch):
    """It may hang in a library, for ever."""
    before = living_children()
    monkeypatch.setattr(asking, "STALLED_S", 0.0)
    with pytest.raises(RuntimeError, match="nothing was answered for 0 s"):
        asked(subject, prompts(2, asked="Stalled"), lambda _: None)
    assert living_children() <= before


def test_tokens_are_counted_with_the_template(tiny_generator):
    """In the order of the rows."""
    rows = (Row("The", (), "", 1), Row(({"role": "user", "content": "The"},), (), "", 2))
    assert count_tokens(tiny_generator, Prompts(rows, {}, "sha256:x", 8)) == [1, 4]


def test_a_tokenizer_that_does_not_load_is_refused(tiny_generator, tmp_path):
    """At intake, with what the library says of it."""
    folder = copy_folder(tiny_generator, tmp_path / "source")
    edit_json(folder / "tokenizer.json", pre_tokenizer={"type": "No such"})
    with pytest.raises(UnsafeArtifact, match="transformers cannot read the rows with this tokenizer") as caught:
        count_tokens(folder, prompts(1))
    assert (caught.value.code, caught.value.field) == ("E_TOKENIZER", "tokenizer.json")


@pytest.mark.parametrize(
    ("most_tokens", "asked", "said"),
    [(8, "", "leaves nothing of it"), (511, "The quick", "row 0 has 2 tokens and may be answered with 511")],
)
def test_a_row_without_room_is_refused(tiny_generator, subject, most_tokens, asked, said):
    """By its number: engines shorten an answer that has none, each in its own way."""
    rows = Prompts((Row(asked, (), "", 0),), {}, "sha256:x", most_tokens)
    with pytest.raises(BadInput, match=said) as caught:
        TextGeneration().compare_tokens(tiny_generator, subject.facts, rows)
    assert (caught.value.code, caught.value.field) == ("E_DATASET", "evaluate.data")


def test_llama_cpp_keeps_to_a_schema_that_is_sent(subject, tiny_gguf):
    """By a grammar, whatever the model has learnt; but for an answer that was cut, which it may answer with a 500."""
    served = replace(subject, folder=tiny_gguf.folder, facts={**subject.facts, "engine": tiny_gguf.engine})
    number = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    sent, cut = {"type": "json_schema", "json_schema": {"name": "x", "schema": number}}, {"type": "json_object"}
    forms = (Form({"response_format": sent}), Form({}, number), Form({"response_format": cut}))
    rows = Prompts(tuple(Row((HELLO,), (), "", 1, form) for form in forms), {}, "sha256:x", 60)
    said = ask_all(served, rows, lambda _: None, champion=None, keep=False)
    assert [one["scores"]["valid_json"] for one in said] == [1.0, 0.0, 0.0]
    assert [one["answer"]["finish"] for one in said] == ["stop", "length", "unreadable"]


def test_llama_cpp_finds_choices_as_likely_as_torch_does(subject, tiny_gguf):
    """In 16 bits, and also those that begin with half a character, of which it tells nothing by itself."""
    folder, texts = str(tiny_gguf.folder), ["\u00e9", " fox", " дом", "界"]
    engine = LlamaCppEngine(tiny_gguf.folder, {**subject.facts, "engine": tiny_gguf.engine}, 1)
    engine.start(0)
    try:
        reader = Reader(folder)
        reference = Reference(str(subject.folder), reader, 1)
        row = Row("The quick", (), "", 1, choices=Choices(tuple(texts), 0))
        for before, tokens in reader.choices(row):
            assert engine.likelihood(before, tokens) == pytest.approx(reference.likelihood(before, tokens), abs=0.05)
    finally:
        engine.stop()


def test_a_row_that_the_engine_reads_otherwise_is_refused(subject, tiny_gguf):
    """llama.cpp takes who is called developer for somebody else than the template does; of prompts all is well."""
    served = replace(subject, folder=tiny_gguf.folder, facts={**subject.facts, "engine": tiny_gguf.engine})
    assert asked(served, prompts(2), lambda _: None) == 2
    rows = Prompts((Row(({"role": "developer", "content": "x"}, HELLO), (), "", 9),), {}, "sha256:x", 8)
    with pytest.raises(UnsafeArtifact, match=r"row 9: the engine reads \d+ tokens, and transformers \d+") as caught:
        asked(served, rows, lambda _: None)
    assert caught.value.code == "E_TEMPLATE"
