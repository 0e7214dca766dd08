"""Which prompts and conversations does a file hold, and what should a model write for each?

A row has `messages` (a conversation, as OpenAI's API writes it) or `prompt` (text to continue; or the column that the
spec names), and says what is right: a `reference` (or several: one of them), a `pattern` that the answer must hold, a
form that it must have (`forms/form.py`), `choices` and which of them is the `answer`, or more of these. Rows without
any are asked all the same: their answers are timed, and should end. Where `until` says a text an answer ends before it.
A task of lm-eval holds such rows, too (`forms/tasks.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from evals.offline.written import LIKELIHOODS, MEANS
from pipelines.errors import BadInput
from pipelines.records.split import Rewrite
from pipelines.serving.meter.rewriting import VARIABLES, Unfit, with_prompt
from pipelines.spec.evaluate import OF_CHAMPION, EvaluateSpec
from pipelines.supply.table import Table, refuse_empty, wrong
from pipelines.tasks.generation.forms.choices import ANSWER, CHOICE, CHOICE_NORM, CHOICES, Choices, read_choices
from pipelines.tasks.generation.forms.form import COLUMNS, VALID_JSON, VALID_TOOL_CALL, Form, read_form
from pipelines.tasks.generation.forms.tasks import ENDINGS, TaskTable

MESSAGES, PROMPT, REFERENCE, PATTERN, UNTIL = "messages", "prompt", "reference", "pattern", "until"
MOST_ENDS = 16
MOST_MESSAGES, MOST_CHARACTERS, LONGEST_PATTERN = 1000, 1_000_000, 2000
NEEDING: Mapping[str, str] = {
    **dict.fromkeys(("exact_match", *MEANS, *LIKELIHOODS, *OF_CHAMPION), "a reference"),
    "regex_match": "a pattern",
    VALID_JSON: "a schema or response_format",
    VALID_TOOL_CALL: "tools",
    **dict.fromkeys((CHOICE, CHOICE_NORM), "choices"),
}
"""Of which rows a metric is; the others are of all."""

ROLES = ("assistant", "developer", "system", "tool", "user")


@dataclass(frozen=True)
class Row:
    """What is asked: a prompt or a conversation, and what is right. `number` is its place in the file."""

    asked: str | tuple[Mapping[str, Any], ...]
    references: tuple[str, ...]
    pattern: str
    number: int
    form: Form = field(default_factory=Form)
    choices: Choices = field(default_factory=Choices)
    until: tuple[str, ...] = ()
    """Where one of these begins, an answer ends."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What a version's prompt is filled with."""

    def after(self, rewrite: Rewrite | None) -> Row:
        """The row as a version is asked it, after its prompt. BadInput E_DATASET where that has no place there."""
        try:
            asked = with_prompt(self.asked, rewrite, self.variables)
        except Unfit as why:
            raise BadInput(f"row {self.number}: {why}", code="E_DATASET", field="evaluate.data") from None
        return replace(self, asked=asked if isinstance(asked, str) else tuple(asked))

    @property
    def is_written(self) -> bool:
        """Whether an answer of its own is asked for: what is only to be chosen from is not written."""
        return not self.choices or bool(any(self.references) or self.pattern or self.form.as_dict())

    @property
    def is_chat(self) -> bool:
        """Whether it is a conversation."""
        return not isinstance(self.asked, str)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data for who asks it; the first reference is the one that is scored."""
        asked = list(self.asked) if self.is_chat else self.asked
        scored = self.references[0] if self.references else ""
        said = {"asked": asked, "reference": scored, "pattern": self.pattern, "number": self.number}
        return {**said, **self._more}

    @property
    def _more(self) -> dict[str, Any]:
        """What few rows say."""
        ends = {UNTIL: list(self.until)} if self.until else {}
        return {**self.form.as_dict(), **self.choices.as_dict(), **ends}

    def cut(self, text: str) -> str:
        """An answer as far as it counts."""
        ends = [place for one in self.until if (place := text.find(one)) >= 0]
        return text[: min(ends)] if ends else text

    @property
    def text(self) -> str:
        """What is asked, and in which form it shall be answered where that is said, as a line of JSON."""
        asked, form = self.as_dict()["asked"], self._more
        return json.dumps([asked, form] if form else asked, sort_keys=True, ensure_ascii=False)

    def asks_for(self, metric: str) -> bool:
        """Whether it has what a metric is of."""
        has = {
            "a reference": bool(self.references),
            "a pattern": bool(self.pattern),
            "a schema or response_format": self.form.wanted is not None,
            "tools": self.form.calls_tools,
            "choices": bool(self.choices),
        }
        return has.get(NEEDING.get(metric, ""), True)


@dataclass(frozen=True)
class Prompts:
    """The rows of an evaluation with their slice columns, and the digest of the file.

    Answers to them, and references that are scored, have at most so many tokens.
    """

    rows: tuple[Row, ...]
    columns: Mapping[str, tuple[str, ...]]
    digest: str
    most_tokens: int
    rewrite: Rewrite | None = None
    """What the candidate adds to requests."""

    def after(self, rewrite: Rewrite | None) -> tuple[Row, ...]:
        """The rows as a version is asked them. BadInput E_DATASET where its prompt has no place in one."""
        return tuple(row.after(rewrite) for row in self.rows)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Rows that ask the same, and rows for which nothing is right or wrong."""
        said = []
        repeated = [text for text, times in Counter(row.text for row in self.rows).items() if times > 1]
        if repeated:
            said.append(f"{len(repeated):,} prompts stand in several rows")
        judged = set(NEEDING) - {*MEANS, *LIKELIHOODS, *OF_CHAMPION}
        free = [row.number for row in self.rows if not any(map(row.asks_for, judged))]
        if free:
            said.append(f"{len(free):,} rows have neither reference nor pattern, the first is row {free[0]}")
        return tuple(said)

    @property
    def texts(self) -> tuple[str, ...]:
        """Some words of each row: how they are read as tokens is compared between engines."""
        return tuple(text for row in self.rows for text in (_words(row.asked), *row.references))


def _words(asked: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(asked, str):
        return asked
    return "\n".join(message["content"] for message in asked if isinstance(message["content"], str))


def read_prompts(plan: EvaluateSpec, path: Path, *, chats: bool, rewrite: Rewrite | None = None) -> Prompts:
    """The rows of a JSONL or CSV file. BadInput E_DATASET names the row that is wrong; the first is 1.

    Conversations need a model that `chats`, and rows what the variables of the candidate's prompt are.
    """
    table = TaskTable(path) if path.suffix.lower() in ENDINGS else Table(path)
    wanted = (MESSAGES, plan.text, PROMPT, plan.label, REFERENCE, PATTERN, UNTIL, CHOICES, ANSWER, VARIABLES, *COLUMNS)
    rows: list[Row] = []
    columns: dict[str, list[str]] = {name: [] for name in plan.columns}
    for number, record in table.rows(plan.columns, tuple(dict.fromkeys(wanted))):
        rows.append(_row(plan, record, number, path))
        if rows[-1].is_chat and not chats:
            reason = f"row {number} is a conversation, and the model has no chat template"
            raise wrong(reason, path, "rows with prompt", "save the tokenizer with its chat template")
        for name, values in columns.items():
            values.append(_text(record[name], name, number, path))
    if not rows:
        raise wrong("there is no row", path)
    if plan.cluster:
        refuse_empty(plan.cluster, columns[plan.cluster], [row.number for row in rows], path)
    _refuse_unjudged(plan, rows, path)
    digest = "sha256:" + hashlib.sha256(table.data).hexdigest()
    read = {name: tuple(values) for name, values in columns.items()}
    found = Prompts(tuple(rows), read, digest, plan.max_tokens, rewrite)
    found.after(rewrite)
    return found


def _refuse_unjudged(plan: EvaluateSpec, rows: Sequence[Row], path: Path) -> None:
    """Before a model is asked for hours: a gate on what no row asks for."""
    for gate in plan.gates:
        if not any(row.asks_for(gate.metric) for row in rows):
            raise wrong(f"the gate on {gate.metric} needs rows with {NEEDING[gate.metric]}, and there is none", path)


def refuse_unfit(row: Row, tokens: int, answer: int, context: int) -> None:
    """BadInput E_DATASET where nothing is left of a row, or where it has no room for an answer of so many tokens.

    Engines shorten such answers, and each in its own way.
    """
    if not tokens:
        raise BadInput(
            f"row {row.number}: the model's tokenizer leaves nothing of it", code="E_DATASET", field="evaluate.data"
        )
    if tokens + answer > context:
        reason = (
            f"row {row.number} has {tokens:,} tokens and may be answered with {answer:,}, the context has {context:,}"
        )
        raise BadInput(
            reason,
            code="E_DATASET",
            field="evaluate.data",
            hint="serve: {args: {context: …}}, evaluate: {max_tokens: …}, or shorter rows",
        )


def _row(plan: EvaluateSpec, record: Mapping[str, Any], number: int, path: Path) -> Row:
    said = next((record[name] for name in (plan.text, MESSAGES, PROMPT) if record.get(name) is not None), None)
    right = next((record[name] for name in (plan.label, REFERENCE) if record.get(name) is not None), ())
    chosen = record.get(ANSWER) if record.get(ANSWER) is not None else right
    choices = read_choices(record, chosen, number, path)
    if choices and chosen is right:
        right = ()
    if said is None:
        raise wrong(f"row {number} asks nothing", path, f"{MESSAGES}, {PROMPT} or {plan.text}")
    if said is record.get(MESSAGES) and not isinstance(said, list):
        raise wrong(f"row {number}: {MESSAGES} is a {type(said).__name__}", path, "JSON lines with lists of messages")
    asked = _messages(said, number, path) if isinstance(said, list) else _text(said, PROMPT, number, path)
    if not asked:
        raise wrong(f"row {number} has an empty prompt", path, "some text")
    listed = right if isinstance(right, list | tuple) else (right,)
    references = tuple(_text(reference, REFERENCE, number, path) for reference in listed)
    pattern = record.get(PATTERN)
    return Row(
        asked,
        tuple(reference for reference in references if reference.strip()),  # an empty field of a CSV file says nothing
        _pattern("" if pattern is None else pattern, number, path),
        number,
        read_form(record, number, path, is_chat=not isinstance(asked, str)),
        choices,
        _until(record.get(UNTIL), number, path),
        _variables(record.get(VARIABLES), number, path),
    )


def _variables(said: Any, number: int, path: Path) -> Mapping[str, Any]:
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise wrong(f"row {number}: {VARIABLES} is a {type(said).__name__}", path, "an object")
    return {name: _text(value, f"{VARIABLES}.{name}"[:80], number, path) for name, value in said.items()}


def _until(said: Any, number: int, path: Path) -> tuple[str, ...]:
    listed = said if isinstance(said, list) else [] if said is None else [said]
    ends = tuple(_text(one, UNTIL, number, path) for one in listed)
    if len(ends) > MOST_ENDS:
        raise wrong(f"row {number}: {UNTIL} has {len(ends)} texts", path, f"at most {MOST_ENDS}")
    return tuple(one for one in ends if one)


def _messages(said: Sequence[Any], number: int, path: Path) -> tuple[Mapping[str, Any], ...]:
    if len(said) > MOST_MESSAGES:
        raise wrong(f"row {number} has {len(said):,} messages", path, f"at most {MOST_MESSAGES:,}")
    for message in said:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise wrong(f"row {number} has a message without a role", path, f"role: {', '.join(ROLES)}")
        content = message.get("content")
        if not isinstance(content, str):
            raise wrong(f"row {number}: content is a {type(content).__name__}", path, "text")
        _text(content, "content", number, path)
    if said and said[-1]["role"] == "assistant":
        reason = f"row {number} ends with a message of the assistant: some engines go on with it, and some answer it"
        raise wrong(reason, path, f"it as {REFERENCE}")
    try:
        written = orjson.dumps(said)
    except TypeError as error:  # half a surrogate pair, or lists in lists without end, in what stands beside content
        raise wrong(f"row {number}: {MESSAGES} cannot be sent: {error}"[:300], path, "plain JSON in UTF-8") from None
    _text(written.decode(), MESSAGES, number, path)
    return tuple(said)


def _text(value: Any, name: str, number: int, path: Path) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong(f"row {number}: {name} is a {type(value).__name__}", path, "text")
    text = str(value)
    if len(text) > MOST_CHARACTERS:
        raise BadInput(f"row {number}: {name} has {len(text):,} characters", code="E_LIMIT", field=path.name)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise wrong(f"row {number}: a NUL character or half a surrogate pair", path, "text in UTF-8")
    return text


def _pattern(value: Any, number: int, path: Path) -> str:
    pattern = _text(value, PATTERN, number, path)
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise wrong(f"row {number}: the pattern is none: {error}", path, "a regular expression of Python") from None
    if len(pattern) > LONGEST_PATTERN:
        raise wrong(f"row {number}: the pattern has {len(pattern):,} characters", path, f"{LONGEST_PATTERN:,}")
    return pattern
