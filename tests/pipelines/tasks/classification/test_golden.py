"""Is it seen that a server answers otherwise than was evaluated?"""

from __future__ import annotations

import numpy as np
import pytest

from evals.gate import Outcome
from pipelines.tasks.classification import golden

GOLDEN = {"rows": [0, 1], "labels": ["no", "yes"], "probabilities": [[0.9, 0.1], [0.2, 0.8]]}


class Engine:
    """Surer of a text the longer it is; of an empty one it says nothing."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def predict(self, texts):
        """Logits."""
        self.asked.append(texts)
        return np.array([[0.0, float(len(text)) if text else np.nan] for text in texts], dtype=np.float32)


def answer(label: str, *probabilities: float) -> dict[str, object]:
    """A server's."""
    return {"label": [label], "probabilities": list(probabilities)}


@pytest.mark.parametrize(("n", "rows"), [(2, [0, 1]), (24, [*range(24)]), (50, [*range(0, 48, 2)])])
def test_rows_are_taken_evenly_and_asked_alone(n, rows):
    """At most 24."""
    engine = Engine()
    assert golden.answers(engine, ("no", "yes"), ["a"] * n)["rows"] == rows
    assert engine.asked == [["a"]] * len(rows)


def test_answers_are_kept_with_their_labels():
    """Probabilities to six places; what is no number is kept as one that no server gives."""
    found = golden.answers(Engine(), ("no", "yes"), ["ab", ""])
    assert (found["labels"], found["probabilities"]) == (["yes", "yes"], [[0.119203, 0.880797], [-1.0, -1.0]])


@pytest.mark.parametrize(
    ("first", "outcome", "sentence"),
    [
        (answer("no", 0.89, 0.11), Outcome.PASS, "0 of 2 golden rows changed their label"),
        (answer("no", 0.87, 0.13), Outcome.FAIL, "probabilities differ by at most 0.0300"),
        (answer("yes", 0.9, 0.1), Outcome.FAIL, "1 of 2 golden rows changed their label"),
    ],
)
def test_labels_and_probabilities_are_compared(first, outcome, sentence):
    """Within what other threads and batches do."""
    reason = golden.judge(GOLDEN, [first, answer("yes", 0.2, 0.8)])
    assert (reason.outcome, reason.gate) == (outcome, "golden rows")
    assert sentence in reason.sentence


@pytest.mark.parametrize(("value", "is_finite"), [(0.5, True), (float("nan"), False), (float("inf"), False)])
def test_an_answer_is_one_of_numbers(value, is_finite):
    """All of them."""
    assert golden.is_finite(answer("no", 0.5, value)) == is_finite
