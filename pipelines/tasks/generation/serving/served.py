"""What is an engine told to serve a language model, and how much memory does that take?"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from os import cpu_count
from typing import Any

from pipelines.errors import BadInput
from pipelines.serving.engines.llamacpp import threads_of
from pipelines.spec.engine import BROUGHT
from pipelines.spec.package import PackageSpec
from pipelines.spec.serve import ServeSpec
from pipelines.supply.layout import ModelLayout
from pipelines.tasks.generation.serving.brought import brought_facts

USUAL_CONTEXT, USUAL_SLOTS = 4096, 4
LLAMACPP: Mapping[str, tuple[int, int]] = {
    "batch": (1, 65_536),
    "context": (1, 2**24),
    "seed": (0, 2**32 - 2),
    "slots": (1, 256),
}
"""What llama.cpp is told in `serve.args`, from the least to the most: tokens of a prompt that are computed at once,
tokens of a conversation, the seed of answers that name none, and answers at once."""


def served_facts(layout: ModelLayout, serve: ServeSpec) -> dict[str, Any]:
    """Part of a bundle's facts. BadInput E_ENGINE_ARGS names what an engine is not told; E_CONTEXT what is too long."""
    names = {"names": list(serve.model_names)} if serve.model_names else {}
    if serve.engine in BROUGHT:
        return {**brought_facts(layout, serve, USUAL_CONTEXT), **names}
    said = {name: _whole(name, value) for name, value in serve.args.items()}
    context = said.pop("context", min(USUAL_CONTEXT, layout.max_length))
    if context > layout.max_length:
        reason = f"a context of {context:,} tokens, and the model was trained for {layout.max_length:,}"
        raise BadInput(reason, code="E_CONTEXT", field="serve.args.context", expected=f"at most {layout.max_length:,}")
    slots = said.pop("slots", USUAL_SLOTS)
    return {"context": context, "slots": slots, "version": _version(), **dict(sorted(said.items())), **names}


def check_image(serve: ServeSpec, package: PackageSpec) -> None:
    """Whether there is an image of such a server. BadInput E_PACKAGE where its engine is brought, or has no room."""
    if package.target == "process":
        return
    if serve.engine in BROUGHT:
        reason = f"an image holds llama.cpp; {serve.engine} is started, or asked, by a process of this machine"
        raise BadInput(reason, code="E_PACKAGE", field="package.target", expected="process")
    slots = serve.args.get("slots", USUAL_SLOTS)
    threads = threads_of(slots, ceil(serve.cpus or cpu_count() or 1)) if type(slots) is int else 0
    if threads > package.pids:
        reason = f"llama.cpp has {threads:,} threads for {slots:,} slots, and the container may have {package.pids:,}"
        raise BadInput(reason, code="E_PACKAGE", field="package.pids", expected=f"at least {threads:,}")


def _version() -> str:
    """Which llama.cpp is it? Another one answers otherwise."""
    try:
        return f"xllamacpp {version('xllamacpp')}"
    except PackageNotFoundError:
        hint = "pip install xllamacpp, or serve: {engine: vllm, …}"
        raise BadInput("llama.cpp is not installed here", code="E_ENGINE", field="serve.engine", hint=hint) from None


def _whole(name: str, value: Any) -> int:
    if name not in LLAMACPP:
        expected = ", ".join(LLAMACPP)
        raise BadInput(
            f"llama.cpp is not told {name!r} here", code="E_ENGINE_ARGS", field="serve.args", expected=expected
        )
    least, most = LLAMACPP[name]
    if type(value) is not int or not least <= value <= most:
        expected = f"a whole number from {least:,} to {most:,}"
        raise BadInput(
            f"{name} is {value!r}"[:100], code="E_ENGINE_ARGS", field=f"serve.args.{name}", expected=expected
        )
    return value
