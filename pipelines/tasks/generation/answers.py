"""What does an engine's answer say: which text, how did it end, and how sure was the model of each token?

Chats and completions have likelihoods in two shapes, and one engine writes the chat's for both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

ENDED = frozenset({"stop", "tool_calls", "function_call"})


@dataclass(frozen=True)
class Choice:
    """The first choice of an answer. Of each token: its text, its log-probability, and how far ahead it was, in nats.

    `ahead` is None where the engine does not say what came second. `calls` are the tools that are called, with their
    arguments as they were written.
    """

    text: str
    finish: str
    tokens: tuple[tuple[str, float, float | None], ...] = ()
    calls: tuple[tuple[str, str], ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether it ended by itself, and not at its length."""
        return self.finish in ENDED

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def read_answer(body: Any) -> Choice:
    """The answer in a body's JSON. ValueError where it is none."""
    try:
        return _choice(body["choices"][0])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"that is no answer: {type(error).__name__}: {error}"[:200]) from error


def _choice(choice: Any) -> Choice:
    message = choice.get("message")
    said = message.get("content") if message is not None else choice["text"]
    called = (message or {}).get("tool_calls") or ()
    calls = tuple((str(one["function"]["name"]), str(one["function"].get("arguments") or "")) for one in called)
    finish = str(choice["finish_reason"] or "")
    return Choice(str(said or ""), finish, _tokens(choice.get("logprobs") or {}), calls)


def _tokens(said: Mapping[str, Any]) -> tuple[tuple[str, float, float | None], ...]:
    content = said.get("content")
    if content is not None:
        return tuple(
            _token(t["token"], t["logprob"], [o["logprob"] for o in t.get("top_logprobs") or ()]) for t in content
        )
    tops: Sequence[Any] = said.get("top_logprobs") or [None] * len(said.get("tokens") or ())
    pairs = zip(said.get("tokens") or (), said.get("token_logprobs") or (), tops, strict=False)
    return tuple(_token(token, log, list((top or {}).values())) for token, log, top in pairs)


def _token(token: str, log: float, others: Sequence[float]) -> tuple[str, float, float | None]:
    """Some engines name the chosen token among the others, and some do not."""
    second = sorted(others, reverse=True)[1:2]
    number = float(log) if log is not None else math.nan
    return str(token), number, number - float(second[0]) if second else None
