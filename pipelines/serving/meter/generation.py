"""What became of one answer of a language model, and when did its tokens come?

Words as vLLM's own benchmark uses them, in seconds since the request was routed: *time to first token* is that of the
first content; *time per output token* is (last - first) / (tokens - 1), by the tokens that the engine says it made.
An answer is whole only with a finish reason for every choice: a status of 200 is sent before the first token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from pipelines.serving.meter.asked import MOST_CHOICES, TextRequest
from pipelines.serving.meter.measured import Measured, in_ms, tokens_of
from pipelines.serving.meter.sse import EventReader
from pipelines.serving.meter.validity import arguments_problem, text_problem

LONGEST_NAME = 200
MOST_KEPT_CHARACTERS = 256 * 1024
"""Of an answer that must fit a schema; one that is longer is not checked."""

MOST_WHOLE_BYTES = 8 * 1024 * 1024
"""An answer that comes in one piece is read up to this length."""


@dataclass(slots=True)
class _Choice:
    """One of the answers to one request."""

    finish: str = ""
    text: list[str] = field(default_factory=list)
    kept: int = 0
    calls: dict[int, list[str]] = field(default_factory=dict)
    """Name and pieces of the arguments of each tool that is called."""
    has_said: bool = False


class Generation:
    """Follows one answer while it passes. What it keeps is bounded, however long the answer is."""

    __slots__ = (
        "_asked",
        "_choices",
        "_chunks",
        "_events",
        "_first_content_s",
        "_first_s",
        "_is_kept",
        "_last_s",
        "_longest_s",
        "_named",
        "_refused",
        "_said_out",
        "_usage",
        "_whole",
        "error",
        "is_stream",
    )

    def __init__(self, asked: TextRequest, *, is_stream: bool, named: Callable[[str], None] | None = None) -> None:
        """`named` hears what a response is called that may be asked for again."""
        self._asked, self.is_stream, self._named = asked, is_stream, named
        self._events, self._whole = EventReader(), bytearray()
        self._choices: dict[int, _Choice] = {}
        self._chunks = 0
        self._first_s = self._first_content_s = -1.0
        self._last_s = self._longest_s = 0.0
        self._is_kept = asked.schema is not None
        self._refused = False
        self._usage: Mapping[str, Any] | None = None
        self._said_out: deque[int] = deque(maxlen=MOST_CHOICES)
        self.error = ""
        """What the engine said went wrong in the middle of its answer."""

    def heard(self, data: bytes, at_s: float) -> None:
        """Some of the answer came."""
        if not self.is_stream:
            if len(self._whole) <= MOST_WHOLE_BYTES:
                self._whole += data
            return
        for event in self._events.feed(data):
            try:
                said = orjson.loads(event)
            except orjson.JSONDecodeError:  # `[DONE]` is none, and no engine needs to say it
                continue
            if isinstance(said, dict):
                self._event(said, at_s)

    @property
    def has_begun(self) -> bool:
        """Whether anything was generated."""
        return self._first_s >= 0

    @property
    def is_midway(self) -> bool:
        """Whether an event has begun that has no end yet."""
        return self._events.is_midway

    # What an event says.

    def _event(self, said: Mapping[str, Any], at_s: float) -> None:
        choices = said.get("choices")
        if choices is None:
            self._other_event(said, at_s)
            return
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            delta = choice.get("delta")
            if delta is None:
                text = choice.get("text")
                if text:
                    self._content(self._choice(choice), text, at_s)
            elif isinstance(delta, dict):
                self._delta(choice, delta, at_s)
            if choice.get("finish_reason"):
                self._finished(choice, choice["finish_reason"])
        usage = said.get("usage")
        if usage:
            self._counted(usage, choices)

    def _counted(self, usage: Any, choices: Any) -> None:
        """What the engine says of its tokens: once for all, or of each choice as it ends (llama.cpp does that)."""
        self._usage = usage
        is_last = not choices or any(isinstance(choice, dict) and choice.get("finish_reason") for choice in choices)
        if is_last:
            self._said_out.append(tokens_of(usage)[2] or 0)

    def _delta(self, choice: Mapping[str, Any], delta: Mapping[str, Any], at_s: float) -> None:
        content = delta.get("content")
        if content:
            self._content(self._choice(choice), content, at_s)
        elif delta.get("tool_calls"):
            self._moved(at_s)
            self._called(self._choice(choice), delta["tool_calls"])
        elif delta.get("reasoning_content") or delta.get("reasoning"):
            self._moved(at_s)
        elif delta.get("refusal"):
            self._moved(at_s)
            self._refused = True

    def _other_event(self, said: Mapping[str, Any], at_s: float) -> None:
        """Of the responses API, or an error, which may stand in any stream."""
        kind = said.get("type")
        if kind == "response.created":
            self._call_it(said.get("response"))
        elif kind == "response.output_text.delta" and said.get("delta"):
            self._content(self._choice({}), said["delta"], at_s)
        elif kind in {"response.completed", "response.incomplete", "response.failed"}:
            self._response_over(said.get("response"))
        elif kind == "response.output_item.done":
            self._item(said.get("item"))
        elif isinstance(kind, str) and kind.endswith(".delta"):
            self._moved(at_s)
            self._refused |= kind == "response.refusal.delta"
        elif "error" in said or kind == "error":
            self.error = str(said.get("error") or said.get("message") or "error")[:300]

    def _call_it(self, response: Any) -> None:
        if self._named is not None and isinstance(response, dict) and isinstance(response.get("id"), str):
            self._named(response["id"][:LONGEST_NAME])

    def _response_over(self, response: Any) -> None:
        if not isinstance(response, dict):
            return
        if isinstance(response.get("usage"), dict):
            self._usage = response["usage"]
        status = response.get("status")
        if status == "failed":
            self.error = str(response.get("error") or "failed")[:300]
        details = response.get("incomplete_details")
        why = details.get("reason") if isinstance(details, dict) else None
        finish = "stop" if status == "completed" else "length" if why == "max_output_tokens" else str(why or status)
        self._choice({}).finish = finish

    def _item(self, item: Any) -> None:
        """A whole item of a response: a call of a tool is read here."""
        if isinstance(item, dict) and item.get("type") == "function_call":
            choice = self._choice({})
            choice.calls[len(choice.calls)] = [str(item.get("name")), str(item.get("arguments") or "")]

    def _content(self, choice: _Choice, text: Any, at_s: float) -> None:
        if self._first_content_s < 0:
            self._first_content_s = at_s
        self._moved(at_s)
        choice.has_said = True
        if self._is_kept and isinstance(text, str) and choice.kept <= MOST_KEPT_CHARACTERS:
            choice.text.append(text)
            choice.kept += len(text)

    def _moved(self, at_s: float) -> None:
        """Something was generated."""
        self._chunks += 1
        if self._first_s < 0:
            self._first_s = at_s
        elif at_s - self._last_s > self._longest_s:
            self._longest_s = at_s - self._last_s
        self._last_s = at_s

    def _choice(self, said: Mapping[str, Any]) -> _Choice:
        index = said.get("index", 0)
        choice = self._choices.get(index if isinstance(index, int) else 0)
        if choice is None:
            place = index if isinstance(index, int) and 0 <= index < MOST_CHOICES else 0
            choice = self._choices.setdefault(place, _Choice())
        return choice

    def _finished(self, said: Mapping[str, Any], reason: Any) -> None:
        choice = self._choice(said)
        choice.finish = choice.finish or str(reason)[:40]

    def _called(self, choice: _Choice, calls: Any) -> None:
        """A piece of a call; its name comes first, its arguments in pieces."""
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict) or len(choice.calls) > MOST_CHOICES:
                continue
            known = choice.calls.setdefault(call.get("index") or 0, [""])
            if isinstance(function.get("name"), str) and not known[0]:
                known[0] = function["name"]
            piece = function.get("arguments")
            if isinstance(piece, str) and choice.kept <= MOST_KEPT_CHARACTERS:
                known.append(piece)
                choice.kept += len(piece)

    # What it was, when it is over.

    def measured(self, at_s: float, *, is_over: bool = True) -> Measured:
        """What the answer was, or what it is so far: then only what the engine says itself is a failure."""
        if is_over and not self.is_stream:
            self._read_whole()
        finish = tuple(choice.finish for _, choice in sorted(self._choices.items()))
        tokens_in, tokens_cached, said_out = tokens_of(self._usage)
        tokens_out, by_engine = self._tokens_out(said_out)
        first_s, each = self._first_s, tokens_out / max(1, len(self._choices))
        per_token_s = (self._last_s - first_s) / (each - 1) if first_s >= 0 and each > 1 else None
        marks, could_be = self._marks(finish)
        return Measured(
            self.is_stream,
            self._why_failed(finish, tokens_out) if is_over else self._engines_word,
            in_ms(self._first_content_s),
            in_ms(first_s),
            per_token_s * 1000 if per_token_s is not None else None,
            self._longest_s * 1000,
            at_s * 1000,
            tokens_in,
            tokens_cached,
            tokens_out,
            by_engine,
            finish,
            marks,
            could_be,
        )

    def _tokens_out(self, said: int | None) -> tuple[int, bool]:
        """How many tokens were made, and whether the engine says so.

        What came piece by piece cannot be fewer tokens than pieces: an engine that counts one choice of several, or
        says less than it sent, is not believed. One that counts each choice for itself says so as often as there are.
        """
        if said is not None and len(self._said_out) == len(self._choices) > 1:
            said = sum(self._said_out)
        if said is not None and said >= self._chunks:
            return said, True
        return self._chunks, False

    @property
    def _engines_word(self) -> str:
        return f"the engine said: {self.error}" if self.error else ""

    def _why_failed(self, finish: Sequence[str], tokens_out: int) -> str:
        if self.error:
            return self._engines_word
        if not finish or not all(finish):
            return "it ended without a finish reason"
        is_silent = not tokens_out and not any(choice.has_said for choice in self._choices.values())
        return "it ended at its length without a token" if is_silent and "length" in finish else ""

    def _marks(self, finish: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
        marks, could_be = set(), {"empty", "cut", "refused"}
        choices = self._choices.values()
        if any(not choice.has_said and not choice.calls for choice in choices):
            marks.add("empty")
        if "length" in finish:
            marks.add("cut")
        if self._refused or "content_filter" in finish:
            marks.add("refused")
        said = [choice for choice in choices if choice.has_said and choice.kept <= MOST_KEPT_CHARACTERS]
        if self._asked.schema is not None and said:
            could_be.add("invalid_json")
            if any(text_problem("".join(choice.text), self._asked.schema) for choice in said):
                marks.add("invalid_json")
        calls = [call for choice in choices if choice.kept <= MOST_KEPT_CHARACTERS for call in choice.calls.values()]
        if calls:
            could_be.add("invalid_tool_call")
            if any(arguments_problem(call[0], "".join(call[1:]), self._asked.tools) for call in calls):
                marks.add("invalid_tool_call")
        return frozenset(marks), frozenset(could_be)

    def _read_whole(self) -> None:
        """An answer that came in one piece, as the events that would have said the same. It has no times."""
        whole, self._whole = bytes(self._whole), bytearray()
        try:
            said = orjson.loads(whole) if len(whole) <= MOST_WHOLE_BYTES else None
        except orjson.JSONDecodeError:
            said = None
        if not isinstance(said, dict):
            self.error = "its body is not JSON" if whole else "its body is empty"
            return
        if said.get("object") == "response":
            self._read_response(said)
            return
        choices = said.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                message = choice.get("message")
                self._event({"choices": [{**choice, "delta": message} if message is not None else choice]}, 0.0)
        self._usage = said.get("usage")
        self._forget_times()

    def _read_response(self, said: Mapping[str, Any]) -> None:
        self._call_it(said)
        for item in said["output"] if isinstance(said.get("output"), list) else ():
            self._item(item)
            content = item.get("content") if isinstance(item, dict) else None
            for part in content if isinstance(content, list) else ():
                if isinstance(part, dict) and part.get("type") == "output_text" and part.get("text"):
                    self._content(self._choice({}), part["text"], 0.0)
                self._refused |= isinstance(part, dict) and part.get("type") == "refusal"
        self._response_over(said)
        self._forget_times()

    def _forget_times(self) -> None:
        self._first_s = self._first_content_s = -1.0
        self._chunks = 0
