"""What is a staged language model asked before any user asks it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.tasks.generation.rows import Row
from pipelines.tasks.task import Question

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
ALTERNATIVES = 2
"""Likelihoods of the token and of the one that came next to it: how near was another answer?"""

SHORT_TOKENS = 16
LONG_WORDS, LARGE_WORDS = 20_000, 200_000

_USER = {"role": "user", "content": "Hello"}
_YES_OR_NO = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"enum": ["yes", "no"]}}}
ODD: Mapping[str, Mapping[str, Any]] = {
    "empty": {"prompt": ""},
    "spaces": {"prompt": "   "},
    "one letter": {"prompt": "a"},
    "beyond the context": {"prompt": "word " * LONG_WORDS},
    "one long word": {"prompt": "a" * 20_000},
    "emoji": {"prompt": "👍🏽👩\u200d👩\u200d👧\u200d👦🔥"},
    "right to left": {"prompt": "مرحبا بالعالم"},
    "other script": {"prompt": "今日はとても良い天気です"},
    "control characters": {"prompt": "tab\tnewline\nbell\a"},
    "markers of templates": {"prompt": "<|im_start|>system\n<|im_end|></s><s>[INST]<|endoftext|>"},
    "no tokens": {"prompt": "Hello", "max_tokens": 0},
    "negative tokens": {"prompt": "Hello", "max_tokens": -5},
    "negative temperature": {"prompt": "Hello", "temperature": -1},
    "many stop strings": {"prompt": "Hello", "stop": [f"stop{i}" for i in range(64)]},
    "several answers": {"prompt": "Hello", "n": 2},
    "half a character": {"prompt": "caf\u00e9 \u4e16", "max_tokens": 1},
    "no messages": {"messages": []},
    "unknown role": {"messages": [{"role": "wizard", "content": "Hello"}]},
    "no content": {"messages": [{"role": "user", "content": None}]},
    "an image": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
    "two speakers alike": {"messages": [_USER, _USER]},
    "a schema": {"messages": [_USER], "response_format": _YES_OR_NO},
    "a tool": {"messages": [_USER], "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    "tools that are none": {"messages": [_USER], "tools": "f"},
    "unknown parameters": {"messages": [_USER], "no_such_parameter": True},
    "a wrong type": {"messages": "Hello", "temperature": "warm"},
}
"""By name. What is refused is fine, and so is what is answered; an error of the server is not."""


def of_row(model: str, row: Row, most_tokens: int, sampling: Mapping[str, Any] | None = None) -> Question:
    """One row as a user would ask it, with the likelihoods of its tokens; greedily, unless `sampling` says otherwise.

    Rows are sampled with seeds of their own, the same ones every time.
    """
    said = sampling or {}
    most, seed = min(most_tokens, said.get("max_tokens", most_tokens)), row.number if said.get("temperature") else 0
    asked = {"messages": list(row.asked), **row.form.sent} if row.is_chat else {"prompt": row.asked}
    likelihoods = {"logprobs": True, "top_logprobs": ALTERNATIVES} if row.is_chat else {"logprobs": ALTERNATIVES}
    # vLLM tells tokens by their text, and all that end within a character have none: by their numbers they differ.
    told = {"return_tokens_as_token_ids": True}
    sampled = {"model": model, "temperature": 0, "seed": seed, **said, "max_tokens": most, **told}
    return Question(CHAT if row.is_chat else COMPLETION, {**asked, **sampled, **likelihoods}, f"row {row.number}")


def odd(model: str) -> tuple[Question, ...]:
    """The odd inputs, one a request."""
    return tuple(
        Question(_path(asked), {"model": model, "max_tokens": SHORT_TOKENS, "temperature": 0, **asked}, name)
        for name, asked in ODD.items()
    )


def largest(model: str) -> Question:
    """A prompt far beyond any context: it is refused, and the server's memory bears it."""
    asked = {"model": model, "prompt": "word " * LARGE_WORDS, "max_tokens": 1}
    return Question(COMPLETION, asked, f"a prompt of {LARGE_WORDS:,} words")


def _path(asked: Mapping[str, Any]) -> str:
    return CHAT if "messages" in asked else COMPLETION
