"""What does a request for text ask for, as far as its answer is measured by it?

Requests as OpenAI's API has them: chat completions, completions, and responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

import orjson

Kind = Literal["chat", "completions", "responses"]

PATHS: Mapping[bytes, Kind] = {
    b"/v1/chat/completions": "chat",
    b"/v1/completions": "completions",
    b"/v1/responses": "responses",
}
MOST_CHOICES = 128
"""Choices that are followed one by one; who asks for more is measured as far as that."""

MOST_BODY_BYTES = 4 * 1024 * 1024
"""A longer request is passed on and not read: everybody would wait for that."""

BEGINNING = 1024
"""Characters or tokens of a prompt that tell whether others begin alike."""

UNREAD = "its body is too long to be read on the way"
MOST_TOOLS = 1000

ANY_JSON: Mapping[str, Any] = {}
"""The schema that every JSON value fits."""


@dataclass(frozen=True, slots=True)
class TextRequest:
    """What a request for text asks for, and of whom.

    `schema` is that of the answer, None where any text will do; `tools` are the schemas of their arguments, by name.
    `odd` says why engines differ in what they answer to such a request, or "": its answer is nobody's evidence.
    Requests that are `together` begin alike, as the turns of a conversation do: an engine that answered one has its
    beginning in a cache. One that `follows` a stored response is answered only by who holds that. `traffic` is its
    class, where the service promises several something else; `tenant` says for whom it is, where that is counted.
    """

    kind: Kind
    model: str = ""
    is_stream: bool = False
    choices: int = 1
    schema: Mapping[str, Any] | None = None
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    odd: str = ""
    together: bytes = b""
    follows: str = ""
    traffic: str = ""
    tenant: str = ""


def asked_by(path: bytes, body: bytes) -> TextRequest | None:
    """What a request asks for; None where it asks for no text. A body that says nothing clear is odd, never refused."""
    kind = PATHS.get(path.partition(b"?")[0])
    if kind is None:
        return None
    if len(body) > MOST_BODY_BYTES:
        return TextRequest(kind, odd=UNREAD)
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return TextRequest(kind, odd="its body is not JSON")
    if not isinstance(said, dict):
        return TextRequest(kind, odd="its body is no object")
    model, n = said.get("model"), said.get("n")
    prompts = _prompts(said) if kind == "completions" else 1
    each = n if isinstance(n, int) and not isinstance(n, bool) and n > 0 else 1
    return TextRequest(
        kind,
        model if isinstance(model, str) else "",
        said.get("stream") is True,
        min(MOST_CHOICES, each * prompts) if kind != "responses" else 1,
        _schema(said, kind),
        _tools(said),
        _odd(said, kind),
        _together(said, kind),
        str(said.get("previous_response_id") or "") if kind == "responses" else "",
    )


def _together(said: Mapping[str, Any], kind: Kind) -> bytes:
    """The name of all that begins like this: a conversation up to its first question, or the beginning of a prompt."""
    begin = said.get({"chat": "messages", "completions": "prompt", "responses": "input"}[kind])
    if isinstance(begin, list):
        asks = (place for place, one in enumerate(begin) if isinstance(one, dict) and one.get("role") == "user")
        begin = begin[: next(asks, BEGINNING) + 1]
    elif isinstance(begin, str):
        begin = begin[:BEGINNING]
    try:
        return blake2b(orjson.dumps([said.get("instructions"), begin]), digest_size=8).digest()
    except orjson.JSONEncodeError:  # nested deeper than can be written
        return b""


def _prompts(said: Mapping[str, Any]) -> int:
    """How many prompts: text is one, and so is a list of tokens."""
    prompt = said.get("prompt")
    return len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1


def _odd(said: Mapping[str, Any], kind: Kind) -> str:
    """To what do engines give different answers? Measured on vLLM, llama.cpp and transformers (docs/llm.md)."""
    if not said.get({"chat": "messages", "completions": "prompt", "responses": "input"}[kind]):
        return "it has nothing to answer"
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        most = said.get(name)
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            return f"{name} is no positive number"
    for name, least in (("temperature", 0.0), ("n", 1), ("top_p", 0.0)):
        value = said.get(name)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or value < least):
            return f"{name} is no number from {least:g} on"
    return ""


def _schema(said: Mapping[str, Any], kind: Kind) -> Mapping[str, Any] | None:
    """The schema that the answer shall fit: `response_format` of chats and completions, `text.format` of responses."""
    holder = said.get("text") if kind == "responses" else said
    form = holder.get("format" if kind == "responses" else "response_format") if isinstance(holder, dict) else None
    if not isinstance(form, dict):
        return None
    if form.get("type") == "json_object":
        return ANY_JSON
    if form.get("type") != "json_schema":
        return None
    holder = form if kind == "responses" else form.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, dict) else None
    return schema if isinstance(schema, dict) else ANY_JSON


def _tools(said: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The schemas of the arguments of each tool that may be called; chats wrap them in `function`, responses do not."""
    tools = said.get("tools")
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools[:MOST_TOOLS] if isinstance(tools, list) else ():
        if not isinstance(tool, dict):
            continue
        inner = tool.get("function")
        function = inner if isinstance(inner, dict) else tool
        name, schema = function.get("name"), function.get("parameters")
        if isinstance(name, str):
            found[name] = schema if isinstance(schema, dict) else ANY_JSON
    return found
