"""What is part of a release that an engine serves which was brought: which version, told what, how precise?

Flags are vLLM's own. Those that Shipway sets itself are refused, and those that bring code, or bytes that no digest
covers: a release is what its digest says.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pipelines.errors import BadInput
from pipelines.services.adoption import checked_url
from pipelines.serving.engines.endpoint import ENGINES, UNKNOWN, Introduction, declared_engines, told_by
from pipelines.serving.engines.vllm import vllm_version
from pipelines.serving.engines.vllm_image import contained_version, digest_of
from pipelines.spec.serve import ServeSpec
from pipelines.supply.layout import ModelLayout

CONTEXT, PRECISION = "max-model-len", "dtype"
PRECISIONS = {"bfloat16": "bfloat16", "float": "float32", "float16": "float16", "float32": "float32", "half": "float16"}
_OURS = (
    *("api-key", "config", "grpc", "grpc-port", "headless", "host", "max-logprobs", "model", "port", "root-path"),
    *("served-model-name", "shutdown-timeout", "ssl-ca-certs", "ssl-certfile", "ssl-keyfile", "tokens-only", "uds"),
)
_CODE = (
    *("io-processor-plugin", "logits-processors", "middleware", "model-class-overrides", "reasoning-parser-plugin"),
    *("scheduler-cls", "tool-parser-plugin", "trust-remote-code", "trust-request-chat-template", "worker-cls"),
    "worker-extension-cls",
)
_OTHER_BYTES = (
    *(
        "allowed-local-media-path",
        "chat-template",
        "code-revision",
        "default-mm-loras",
        "download-dir",
        "hf-config-path",
    ),
    *(
        "hf-token",
        "log-config-file",
        "logging-config",
        "lora-modules",
        "otlp-traces-endpoint",
        "revision",
        "spec-model",
    ),
    *("tokenizer", "tokenizer-revision", "tool-server"),
)
_PARALLEL = {"data-parallel-size": "replicas", "pipeline-parallel-size": "pipeline", "tensor-parallel-size": "tensor"}
_HOSTS = ("data-parallel-address", "data-parallel-rpc-port", "master-addr", "master-port", "nnodes", "node-rank")
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(_PARALLEL, "serve.parallel says it"),
    **dict.fromkeys(_HOSTS, "it opens a port to other hosts; bring those as one serve.url"),
    **dict.fromkeys(_OURS, "Shipway sets it"),
    **dict.fromkeys(_CODE, "it brings code"),
    **dict.fromkeys(_OTHER_BYTES, "it brings what is in no digest"),
}
"""By flag. Where vLLM takes the beginning of a name for the name, so does this."""


def brought_facts(layout: ModelLayout, serve: ServeSpec, usual_context: int) -> dict[str, Any]:
    """Part of a bundle's facts: it asks the engine which version it is, for a second or two.

    BadInput E_ENGINE, E_ENGINE_ARGS, E_CONTEXT or E_URL.
    """
    flags = read_flags(serve.args)
    told = _told(serve.url) if serve.url else None
    usual = (_only(told) if told else None) or min(usual_context, layout.max_length)
    context = _context(flags.pop(CONTEXT, usual), layout.max_length)
    precision = _precision(flags.pop(PRECISION, "auto"), layout.config_json)
    return {
        "context": context,
        "precision": precision,
        "version": _version(serve, told),
        "flags": dict(sorted({**flags, **spread_flags(serve)}.items())),
        **({"image": digest_of(serve.image)} if serve.image else {}),
    }


def spread_flags(serve: ServeSpec) -> dict[str, int]:
    """How vLLM is told what `serve.parallel` says; what is usual is not said."""
    said = {flag: getattr(serve.parallel, name) for flag, name in _PARALLEL.items()}
    return {flag: number for flag, number in said.items() if number > 1}


def read_flags(args: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of `serve.args`, with hyphens. BadInput E_ENGINE_ARGS names the one that may not be said."""
    flags: dict[str, Any] = {}
    for said, value in args.items():
        name = said.replace("_", "-")
        why = next((why for refused, why in REFUSED.items() if refused.startswith(name)), "")
        if not why and isinstance(value, str) and ("/" in value or value.startswith("~")):
            why = "its value names a file, or a model elsewhere, which is in no digest"
        if not why and name in flags:
            why = "it is said twice"
        if why:
            raise BadInput(f"vLLM is not told {said} here: {why}", code="E_ENGINE_ARGS", field=f"serve.args.{said}")
        flags[name] = value
    return flags


def _told(url: str) -> Introduction:
    """What answers at a URL that may be asked."""
    try:
        checked = checked_url(url, declared_engines())
    except BadInput as error:
        reason, expected = error.reason.replace("adopted", "asked"), f"loopback, or a host that {ENGINES} names"
        raise BadInput(reason, code="E_URL", field="serve.url", expected=expected) from error
    return told_by(checked)


def _only(told: Introduction) -> int | None:
    """How many tokens the models there take, where all take as many."""
    contexts = {context for context in told.contexts.values() if type(context) is int}
    return contexts.pop() if len(contexts) == 1 else None


def _context(said: Any, most: int) -> int:
    if type(said) is not int or said < 1:
        expected = "a whole number of tokens"
        raise BadInput(
            f"{CONTEXT} is {said!r}"[:100], code="E_ENGINE_ARGS", field=f"serve.args.{CONTEXT}", expected=expected
        )
    if said > most:
        reason = f"a context of {said:,} tokens, and the model was trained for {most:,}"
        raise BadInput(reason, code="E_CONTEXT", field=f"serve.args.{CONTEXT}", expected=f"at most {most:,}")
    return said


def _precision(said: Any, config: Mapping[str, Any]) -> str:
    """As the weights are stored, unless something else is said: vLLM's own choice is another one on another machine."""
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    precision = PRECISIONS.get(str(stored if said == "auto" else said))
    if precision is None:
        expected = ", ".join(sorted(PRECISIONS))
        raise BadInput(
            f"{PRECISION} is {said!r}"[:100], code="E_ENGINE_ARGS", field=f"serve.args.{PRECISION}", expected=expected
        )
    return precision


def _declared(python: str) -> str:
    """A Python that a spec may name: it is run. Links are not followed, as each environment is made of one."""
    path = PurePath(os.path.normpath(python))
    if not any(path.is_relative_to(one) for one in declared_engines() if one.startswith("/")):
        hint = f"who runs Shipway sets {ENGINES}={python}, or a folder above it, for `up` and every command"
        reason = f"a spec may come from anybody, and nobody has declared {python}"
        raise BadInput(reason[:300], code="E_ENGINE", field="serve.python", expected=f"one of {ENGINES}", hint=hint)
    return str(path)


def _declared_image(image: str) -> str:
    """An image that a spec may name: it is run. Declared by its name, or by its name and digest."""
    name = image.partition("@")[0]
    if not {name, image} & set(declared_engines()):
        hint = f"who runs Shipway sets {ENGINES}={image}, or {name} for all its digests, for `up` and every command"
        reason = f"a spec may come from anybody, and nobody has declared {image}"
        raise BadInput(reason[:300], code="E_ENGINE", field="serve.image", expected=f"one of {ENGINES}", hint=hint)
    return image


def _version(serve: ServeSpec, told: Introduction | None) -> str:
    """What is there; where that does not tell, what the spec says is there."""
    if serve.image:
        found = contained_version(_declared_image(serve.image))
    else:
        found = told.version if told else vllm_version(_declared(serve.place))
    if found == UNKNOWN:
        return serve.version or UNKNOWN
    if serve.version not in {None, found.split()[-1]}:
        reason = f"{serve.place} is version {found}, and the spec asks for {serve.version}"
        raise BadInput(reason, code="E_ENGINE", field="serve.version", expected=found.split()[-1])
    return found
