"""In which ways may an engine be brought?"""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.errors import BadInput
from pipelines.spec.serve import ServeSpec, server_settings
from pipelines.spec.spec_file import parse_spec

DIGEST = "sha256:" + "0" * 64
SPEC = """\
model: models:/chat/3
service: chat
evaluate: {{data: rows.jsonl, gates: [{{metric: finished, min: 0.5}}]}}
serve: {{api: openai, {}}}
"""


@pytest.mark.parametrize(
    "said",
    [
        "engine: vllm",
        "engine: vllm, python: /a/python, url: 'http://127.0.0.1:1'",
        "engine: vllm, image: vllm/vllm-openai",
        "engine: vllm, image: 'vllm/vllm-openai:v0.32.0'",
        f"engine: vllm, image: 'vllm/vllm-openai:v0.32.0@{DIGEST}'",
        f"engine: vllm, python: /a/python, image: 'a/b@{DIGEST}'",
        f"engine: llamacpp, image: 'a/b@{DIGEST}'",
        "python: /a/python",
        "engine: llamacpp, url: 'http://127.0.0.1:1'",
        "version: 0.32.0",
        "parallel: {tensor: 2}",
    ],
)
def test_an_engine_is_brought_in_one_way_and_its_own_needs_none(said):
    """An image is named by its digest: a tag may be moved."""
    with pytest.raises(BadInput) as caught:
        parse_spec(SPEC.format(said))
    assert caught.value.code == "E_ENGINE"


@pytest.mark.parametrize(
    "said",
    [
        "engine: vllm, python: python3",
        "engine: vllm, url: 'ftp://x'",
        "engine: vllm, python: /p, version: ''",
        "engine: vllm, python: /p, args: {Max: 3}",
        "engine: vllm, python: /p, args: {a: [1]}",
    ],
)
def test_a_place_that_is_none_is_refused(said):
    """By the key that says it."""
    with pytest.raises(BadInput) as caught:
        parse_spec(SPEC.format(said))
    assert (caught.value.field or "").startswith("serve.")


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({}, ""),
        ({"python": "/a/python"}, "/a/python"),
        ({"url": "http://h:1"}, "http://h:1"),
        ({"image": f"h:5000/a/b@{DIGEST}"}, f"h:5000/a/b@{DIGEST}"),
    ],
)
def test_a_server_is_told_where_its_engine_lives(said, place):
    """It stands in its settings, and in no digest of a bundle."""
    more: dict[str, Any] = {"engine": "vllm", **said} if said else {}
    serve = ServeSpec(**more)
    spec = parse_spec(SPEC.format("port: 0"))
    assert (serve.place, server_settings(serve, spec.package, is_contained=False).engine_at) == (place, place)


def test_another_engine_is_another_spec_and_none_is_the_older_one():
    """A release that was begun before engines could be brought is found again."""
    plain, brought = (
        parse_spec(SPEC.format(said)) for said in ("port: 0", "port: 0, engine: vllm, python: /p, version: 0.32.0")
    )
    assert not {"engine", "python", "url", "image", "version", "args", "parallel"} & plain.as_dict()["serve"].keys()
    assert brought.as_dict()["serve"]["version"] == "0.32.0"
    assert plain.digest() != brought.digest()
