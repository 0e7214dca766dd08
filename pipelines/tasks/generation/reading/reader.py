"""Which tokens is a row, by the model's own tokenizer and template, as transformers loads them?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.tasks.generation.forms.choices import parted
from pipelines.tasks.generation.rows import Row

Tokens = list[int]


class RowRefused(Exception):
    """A row cannot be asked: its number in the file, the code, and why."""

    def __init__(self, number: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.said = {"row": number, "code": code, "reason": " ".join(reason.split())[:300]}


class Reader:
    """Rows as tokens, by the model's own tokenizer and template."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        # It adds markers that a model of this kind usually has, and that this one may have no numbers for.
        rows = json.loads((Path(folder) / "config.json").read_bytes()).get("vocab_size")
        last, number = max(self._tokenizer.get_vocab().items(), key=lambda token: token[1])
        if rows and number >= rows:
            raise ValueError(f"its token {last[:40]!r} has the number {number}, and the model only {rows} tokens")

    def prompt(self, row: Row) -> Tokens:
        """What the model reads. RowRefused where its template raises."""
        return self._tokens(row, self._text(row))

    def choices(self, row: Row) -> list[tuple[Tokens, Tokens]]:
        """The prompt and each choice. RowRefused where one has no token of its own."""
        text = self._text(row) if row.choices else ""
        parts = [parted(lambda said: self._tokens(row, said), text, choice) for choice in row.choices.texts]
        for choice, (before, tokens) in zip(row.choices.texts, parts, strict=True):
            if not before or not tokens:
                raise RowRefused(row.number, "E_DATASET", f"nothing is left of the prompt or of the choice {choice!r}")
        return parts

    def longest(self, row: Row) -> int:
        """How many tokens it is, with the longest of its choices."""
        return max([len(self.prompt(row)), *(len(before) + len(tokens) for before, tokens in self.choices(row))])

    def _tokens(self, row: Row, text: str) -> Tokens:
        """A template writes the special tokens itself."""
        return list(self._tokenizer(text, add_special_tokens=not row.is_chat).input_ids)

    def _text(self, row: Row) -> str:
        if isinstance(row.asked, str):
            return row.asked
        try:
            tools = {"tools": list(row.form.tools)} if row.form.tools else {}
            messages = [_as_templates_read(message) for message in row.asked]
            told = {"tokenize": False, "add_generation_prompt": True, **tools}
            return str(self._tokenizer.apply_chat_template(messages, **told))
        except Exception as error:  # a template may raise anything
            raise RowRefused(row.number, "E_TEMPLATE", f"the chat template raises: {_said(error)}") from error

    def reference(self, row: Row, text: str, most: int) -> tuple[Tokens, int]:
        """What it should write, with the end where it answers a conversation; and how many bytes of text that is."""
        tokens = list(self._tokenizer(text, add_special_tokens=False).input_ids)[:most]
        size = len(self.text(tokens).encode())
        ends = row.is_chat and len(tokens) < most and self._tokenizer.eos_token_id is not None
        return [*tokens, self._tokenizer.eos_token_id] if ends else tokens, size

    def text(self, tokens: Sequence[int]) -> str:
        """As users see it."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def _as_templates_read(message: Any) -> Any:
    """The arguments of a call as an object, as engines hand them to a template: on the wire they are text."""
    if not isinstance(message.get("tool_calls"), list):
        return message
    calls = []
    for call in message["tool_calls"]:
        said = call["function"].get("arguments")
        read = json.loads(said) if isinstance(said, str) else said
        calls.append({**call, "function": {**call["function"], "arguments": read}})
    return {**message, "tool_calls": calls}


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
