"""What does a version's prompt make of a request, and of how its answer is sampled?

Requests are those of OpenAI's API. A prompt of text is a conversation's first message, as the system; before a prompt
that is continued it is put as it is. Variables are filled from the request's own `prompt_variables`, once and
literally: what they hold is never read as a template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from pipelines.records.split import Arm, Rewrite
from pipelines.serving.http1.answer import Refusal
from pipelines.serving.meter.asked import PATHS, Kind
from pipelines.supply.prompt import VARIABLE

VARIABLES = "prompt_variables"
"""Where a request says what the variables of a prompt are: `{"name": "Ann"}`."""

LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""What the longest answer is called, of which a request says at most one."""

Message = Mapping[str, Any]


class Unfit(Exception):  # what happened, not a programming error
    """A request that a prompt cannot be put into; with what is answered."""

    def __init__(self, reason: str, field: str = VARIABLES) -> None:
        super().__init__(reason)
        self.refusal = Refusal(400, "E_PROMPT", reason, field)


def rewritten_for(arm: Arm, path: str, body: bytes) -> bytes:
    """A posted body as an arm gets it. Unfit where its prompt has no place there."""
    kind = PATHS.get(path.encode())
    return body if arm.rewrite is None or kind is None else rewritten(kind, body, arm.rewrite)


def rewritten(kind: Kind, body: bytes, rewrite: Rewrite) -> bytes:
    """The body as a version gets it; one that is no request is for the engine to refuse."""
    try:
        said = orjson.loads(body)
        if not isinstance(said, dict):
            return body
        return orjson.dumps(with_rewrite(kind, said, rewrite))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # or one that is nested deeper than can be written
        return body


def with_rewrite(kind: Kind, said: Mapping[str, Any], rewrite: Rewrite) -> dict[str, Any]:
    """A request with the prompt and the sampling of a version."""
    new = {key: value for key, value in said.items() if key != VARIABLES}
    if rewrite.has_prompt and not rewrite.by_application:
        _PUT[kind](new, _Filled(rewrite, said.get(VARIABLES)))
    for name, value in rewrite.sampling:
        _sample(new, kind, name, value, overrides=rewrite.overrides)
    return new


def with_prompt(asked: str | Sequence[Message], rewrite: Rewrite | None, said: Any) -> str | Sequence[Message]:
    """A prompt or a conversation after a version's own prompt. Unfit where that has no place there."""
    if rewrite is None or not rewrite.has_prompt:
        return asked
    filled = _Filled(rewrite, said)
    return filled.text_before() + asked if isinstance(asked, str) else [*filled.messages(), *asked]


class _Filled:
    """A prompt with the values of one request."""

    def __init__(self, rewrite: Rewrite, said: Any) -> None:
        self._rewrite, self._said = rewrite, said

    def text_before(self) -> str:
        """What comes before a prompt that is continued, or before instructions."""
        if self._rewrite.messages:
            raise Unfit("the prompt of this version is a conversation", "messages")
        return self._fill(self._rewrite.text)

    def messages(self) -> list[Message]:
        """What comes before a conversation."""
        given = self._rewrite.messages or (("system", self._rewrite.text),)
        return [{"role": role, "content": self._fill(text)} for role, text in given]

    @property
    def is_text(self) -> bool:
        """Whether it is no conversation."""
        return not self._rewrite.messages

    def _fill(self, text: str) -> str:
        pieces = _pieces(text)
        if len(pieces) == 1:
            return text
        return "".join(piece if place % 2 == 0 else self._value(piece) for place, piece in enumerate(pieces))

    def _value(self, name: str) -> str:
        value = self._said.get(name) if isinstance(self._said, dict) else None
        if isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unfit(f"the prompt of this version needs {name}, as text or a number")
        return orjson.dumps(value).decode()


@lru_cache(maxsize=256)
def _pieces(text: str) -> tuple[str, ...]:
    """What stands between variables, and their names, by turns."""
    return tuple(VARIABLE.split(text))


def _in_chat(said: dict[str, Any], prompt: _Filled) -> None:
    own = said.get("messages")
    if isinstance(own, list):
        said["messages"] = [*prompt.messages(), *own]


def _in_completion(said: dict[str, Any], prompt: _Filled) -> None:
    own, before = said.get("prompt"), prompt.text_before()
    if isinstance(own, str):
        said["prompt"] = before + own
    elif isinstance(own, list) and all(isinstance(one, str) for one in own):
        said["prompt"] = [before + one for one in own]
    elif own:
        raise Unfit("the prompt of this version is text, and this request has tokens", "prompt")


def _in_response(said: dict[str, Any], prompt: _Filled) -> None:
    """Instructions are of one response; messages are kept with the first one, and what follows it has them."""
    if prompt.is_text:
        own, before = said.get("instructions"), prompt.text_before()
        said["instructions"] = f"{before}\n\n{own}" if isinstance(own, str) else before
        return
    own = said.get("input")
    turns = [{"role": "user", "content": own}] if isinstance(own, str) else own
    if isinstance(turns, list) and not said.get("previous_response_id"):
        said["input"] = [*prompt.messages(), *turns]


_PUT = {"chat": _in_chat, "completions": _in_completion, "responses": _in_response}


def _sample(said: dict[str, Any], kind: Kind, name: str, value: Any, *, overrides: bool) -> None:
    names = LIMITS if name == "max_tokens" else (name,)
    if not overrides and any(said.get(known) is not None for known in names):
        return
    for known in names:
        said.pop(known, None)
    said["max_output_tokens" if kind == "responses" and name == "max_tokens" else name] = value
