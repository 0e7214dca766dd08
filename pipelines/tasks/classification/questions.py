"""What is a staged classifier asked before any user asks it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.serving.engines.tokens import MAX_PIECE_ROWS
from pipelines.tasks.classification.wire import MAX_ROWS, infer_body, infer_path
from pipelines.tasks.task import Question

LONG_ROWS, LONG_CHARACTERS, SHORT_CHARACTERS = MAX_PIECE_ROWS, 7000, 200
"""So many rows of the largest request fill the context: a whole piece of what the server computes at once.

More of them would take longer, and no more memory.
"""

ODD_INPUTS: Mapping[str, str] = {
    "empty": "",
    "spaces": "   ",
    "one letter": "a",
    "digits": "1234567890",
    "long": "the quick brown fox jumps over the lazy dog " * 400,
    "one long word": "a" * 20_000,
    "emoji": "👍🏽👩‍👩‍👧‍👦🔥",
    "right to left": "مرحبا بالعالم",
    "other script": "今日はとても良い天気です",
    "control characters": "tab\tnewline\nbell\a",
    "markup": "<script>alert(1)</script> & <b>bold</b>",
}


def of_texts(model: str, texts: Sequence[str], name: str = "") -> Question:
    """Texts in one request of the Open Inference Protocol."""
    return Question(infer_path(model), infer_body(texts), name)


def odd(model: str) -> tuple[Question, ...]:
    """The odd inputs, one a request."""
    return tuple(of_texts(model, [text], name) for name, text in ODD_INPUTS.items())


def largest(model: str, texts: Sequence[str]) -> Question:
    """As many rows as any user may send, of the evaluation's own words."""
    longest, shortest = max(texts, key=len), min(texts, key=len)
    long = " ".join([longest] * (LONG_CHARACTERS // (len(longest) + 1) + 1))[:LONG_CHARACTERS]
    rows = [long] * LONG_ROWS + [shortest[:SHORT_CHARACTERS]] * (MAX_ROWS - LONG_ROWS)
    return of_texts(model, rows, f"{MAX_ROWS} rows")
