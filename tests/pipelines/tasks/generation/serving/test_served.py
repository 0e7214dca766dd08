"""What does an engine get told, and what is refused before anything begins?"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from pipelines.errors import BadInput
from pipelines.spec.serve import ServeSpec
from pipelines.supply.layout import read_layout
from pipelines.tasks.generation.serving.served import served_facts
from tests.pipelines.model_folders import copy_folder, edit_json

VERSION = f"xllamacpp {version('xllamacpp')}"


def facts(layout: Any, **serve: Any) -> dict[str, Any]:
    """Of a spec's `serve`."""
    return served_facts(layout, ServeSpec(api="openai", **serve))


def test_what_is_usual_is_told_where_nothing_was_said(tiny_generator, tmp_path):
    """The model's own context, or 4,096 of it; four answers at once."""
    assert facts(read_layout(tiny_generator)) == {"context": 512, "slots": 4, "version": VERSION}
    large = copy_folder(tiny_generator, tmp_path / "large")
    edit_json(large / "config.json", max_position_embeddings=131_072)
    edit_json(large / "tokenizer_config.json", model_max_length=1e30)
    assert facts(read_layout(large)) == {"context": 4096, "slots": 4, "version": VERSION}
    assert facts(read_layout(large), args={"context": 131_072})["context"] == 131_072


def test_what_was_said_is_told_in_one_order(tiny_generator):
    """Whatever the order of the spec: these facts are in the bundle's digest."""
    said = {"slots": 1, "seed": 7, "context": 100, "batch": 64}
    layout = read_layout(tiny_generator)
    assert list(facts(layout, args=said, model_names=("a", "b/c")).items()) == [
        ("context", 100), ("slots", 1), ("version", VERSION), ("batch", 64), ("seed", 7), ("names", ["a", "b/c"]),
    ]  # fmt: skip
    assert list(facts(layout, args=dict(reversed(said.items())))) == list(facts(layout, args=said))


@pytest.mark.parametrize(
    ("args", "code", "field"),
    [
        ({"contxt": 100}, "E_ENGINE_ARGS", "serve.args"),
        ({"max-model-len": 100}, "E_ENGINE_ARGS", "serve.args"),
        ({"context": 0}, "E_ENGINE_ARGS", "serve.args.context"),
        ({"context": "100"}, "E_ENGINE_ARGS", "serve.args.context"),
        ({"context": 100.5}, "E_ENGINE_ARGS", "serve.args.context"),
        ({"slots": True}, "E_ENGINE_ARGS", "serve.args.slots"),
        ({"slots": 257}, "E_ENGINE_ARGS", "serve.args.slots"),
        ({"seed": -1}, "E_ENGINE_ARGS", "serve.args.seed"),
        ({"seed": 2**32 - 1}, "E_ENGINE_ARGS", "serve.args.seed"),
        ({"context": 513}, "E_CONTEXT", "serve.args.context"),
    ],
)
def test_what_an_engine_is_not_told_is_named(tiny_generator, args, code, field):
    """A word that it does not know, a number that it does not take, more than the model was trained for."""
    with pytest.raises(BadInput) as caught:
        facts(read_layout(tiny_generator), args=args)
    assert (caught.value.code, caught.value.field) == (code, field)
