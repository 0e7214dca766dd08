"""Where do a language model and its champion differ, in words that a person reads?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice

from evals.offline.differences import Difference, differences
from evals.offline.language import LanguageSuite
from evals.offline.written import Written
from pipelines.tasks.generation.rows import Prompts, Row
from pipelines.tasks.task import Beside, Differences

MOST = 1000
"""Rows that are handed on: a page shows fewer."""


def beside(
    suite: LanguageSuite, rows: Prompts, written: Sequence[Written], champion: Sequence[Written], name: str
) -> Differences:
    """The rows in which both differ, the worst first; `name` is the champion's."""
    found = differences(suite, written, champion)
    told = (_beside(one, rows.rows[one.row], written[one.row], champion[one.row]) for one in found)
    return Differences(tuple(islice(told, MOST)), len(found), name)


def _beside(one: Difference, row: Row, ours: Written, theirs: Written) -> Beside:
    by = {"score": one.score_loss, "bits_per_byte": one.bits}
    fallen = {name: value for name, value in by.items() if value}
    return Beside(row.number, asked_of(row), _right(row), said_of(ours), said_of(theirs), one.lost, one.won, fallen)


def asked_of(row: Row) -> str:
    """A prompt, or a conversation, as text."""
    if isinstance(row.asked, str):
        return row.asked
    return "\n".join(f"{message['role']}: {message['content']}" for message in row.asked)


def _right(row: Row) -> str:
    """References, one below the other; the pattern; the right choice; the schema, or the tools that may be called."""
    said = [*row.references, *([f"holds {row.pattern}"] if row.pattern else [])]
    said += [f"chooses {row.choices.texts[row.choices.right]}"] if row.choices else []
    if row.form.calls_tools:
        said.append(f"calls {' or '.join(row.form.offered)}")
    elif row.form.wanted is not None:
        said.append(f"fits {json.dumps(row.form.wanted, ensure_ascii=False)}")
    return "\n".join(said)


def said_of(written: Written) -> str:
    """An answer as text, with the tools that it calls."""
    calls = [f"{name}({arguments})" for name, arguments in written.calls]
    return "\n".join([*([written.text] if written.text else []), *calls])
